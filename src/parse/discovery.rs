//! Discovery documents: any object is read, what is odd about its known members is noted.
//!
//! Which members must be there, and what their values must say, is the rules' business.

use super::json;
use super::jwks::{kind_of, not_json};
use crate::model::json::{Object, Value};
use crate::model::{Body, Metadata, Problem, ProblemKind};

/// Reads a discovery document.
///
/// # Errors
/// The body is no JSON, or no object.
pub fn discovery(body: &Body, depth: usize) -> Result<Metadata, Problem> {
    let parsed = json::read(&body.bytes, depth).map_err(|error| not_json(&error))?;
    let Value::Object(object) = parsed.value else {
        let text = format!("{} at the top level; a discovery document is an object", kind_of(&parsed.value));
        return Err(Problem { pointer: String::new(), kind: ProblemKind::WrongShape, text });
    };
    let mut problems = parsed.duplicates;
    problems.extend(oddities(&object));
    Ok(Metadata { object, problems })
}

fn oddities(object: &Object) -> Vec<Problem> {
    let known = object.effective().into_iter().filter_map(|(name, value)| Some((name, value, kind(name)?)));
    known.filter_map(|(name, value, kind)| oddity(name, value, kind)).collect()
}

fn oddity(name: &str, value: &Value, kind: Kind) -> Option<Problem> {
    let empty = |what: &str| (ProblemKind::EmptyValue, format!("{name} is {what}"));
    let (kind, text) = match (value, kind) {
        (Value::Null, _) => empty("null"),
        (Value::String(text), Kind::Text) if text.is_empty() => empty("an empty string"),
        (Value::Array(items), Kind::Texts) if items.is_empty() => empty("an array without elements"),
        (Value::String(_), Kind::Text) | (Value::Bool(_), Kind::Flag) | (Value::Object(_), Kind::Object) => return None,
        (Value::Array(items), Kind::Texts) => {
            let other = items.iter().find(|item| item.as_str().is_none())?;
            (ProblemKind::WrongType, format!("{name} contains {}; it must be an array of strings", kind_of(other)))
        }
        (other, kind) => (ProblemKind::WrongType, format!("{name} is {}; it must be {}", kind_of(other), kind.words())),
    };
    Some(Problem { pointer: format!("/{name}"), kind, text })
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Object,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Texts => "an array of strings",
            Self::Flag => "a boolean",
            Self::Object => "an object",
        }
    }
}

/// The JSON type of a registered member (IANA, "OAuth Authorization Server Metadata", and OpenID Connect's sessions and logout).
fn kind(name: &str) -> Option<Kind> {
    let kinds = [(TEXT, Kind::Text), (TEXTS, Kind::Texts), (FLAGS, Kind::Flag), (OBJECTS, Kind::Object)];
    kinds.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, kind)| kind)
}

const TEXT: &[&str] = &[
    "authorization_endpoint",
    "backchannel_authentication_endpoint",
    "challenge_endpoint",
    "check_session_iframe",
    "device_authorization_endpoint",
    "end_session_endpoint",
    "federation_registration_endpoint",
    "introspection_endpoint",
    "issuer",
    "jwks_uri",
    "op_policy_uri",
    "op_tos_uri",
    "organization_name",
    "pushed_authorization_request_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "service_documentation",
    "signed_jwks_uri",
    "signed_metadata",
    "token_endpoint",
    "userinfo_endpoint",
];

const TEXTS: &[&str] = &[
    "acr_values_supported",
    "authorization_details_types_supported",
    "authorization_encryption_alg_values_supported",
    "authorization_encryption_enc_values_supported",
    "authorization_signing_alg_values_supported",
    "backchannel_authentication_request_signing_alg_values_supported",
    "backchannel_token_delivery_modes_supported",
    "claim_types_supported",
    "claims_locales_supported",
    "claims_supported",
    "client_registration_types_supported",
    "code_challenge_methods_supported",
    "display_values_supported",
    "dpop_signing_alg_values_supported",
    "grant_types_supported",
    "id_token_encryption_alg_values_supported",
    "id_token_encryption_enc_values_supported",
    "id_token_signing_alg_values_supported",
    "introspection_encryption_alg_values_supported",
    "introspection_encryption_enc_values_supported",
    "introspection_endpoint_auth_methods_supported",
    "introspection_endpoint_auth_signing_alg_values_supported",
    "introspection_signing_alg_values_supported",
    "prompt_values_supported",
    "protected_resources",
    "request_authentication_signing_alg_values_supported",
    "request_object_encryption_alg_values_supported",
    "request_object_encryption_enc_values_supported",
    "request_object_signing_alg_values_supported",
    "response_modes_supported",
    "response_types_supported",
    "revocation_endpoint_auth_methods_supported",
    "revocation_endpoint_auth_signing_alg_values_supported",
    "scopes_supported",
    "subject_types_supported",
    "token_endpoint_auth_methods_supported",
    "token_endpoint_auth_signing_alg_values_supported",
    "ui_locales_supported",
    "userinfo_encryption_alg_values_supported",
    "userinfo_encryption_enc_values_supported",
    "userinfo_signing_alg_values_supported",
];

const FLAGS: &[&str] = &[
    "authorization_response_iss_parameter_supported",
    "backchannel_logout_session_supported",
    "backchannel_logout_supported",
    "backchannel_user_code_parameter_supported",
    "claims_parameter_supported",
    "client_id_metadata_document_supported",
    "frontchannel_logout_session_supported",
    "frontchannel_logout_supported",
    "pre-authorized_grant_anonymous_access_supported",
    "request_parameter_supported",
    "request_uri_parameter_supported",
    "require_pushed_authorization_requests",
    "require_request_uri_registration",
    "require_signed_request_object",
    "tls_client_certificate_bound_access_tokens",
];

const OBJECTS: &[&str] = &["jwks", "mtls_endpoint_aliases", "request_authentication_methods_supported"];
