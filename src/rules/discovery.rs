//! Rules about the discovery document.

use url::Url;

use super::transport::is_loopback_url;
use super::{Check, Detail, Entry, Judgement, Skip, fail_if, rule, violation};
use crate::facts::{Facts, Look};
use crate::model::json::Value;
use crate::model::{DocumentKind, Metadata, ProblemKind, Profile, Violation};

pub(super) const RULES: &[Entry] = &[
    rule!("discovery/alg-none-advertised", Check::Issuer(alg_none_advertised)),
    rule!("discovery/endpoint-not-https", Check::Issuer(endpoint_not_https)),
    rule!("discovery/invalid-document", Check::Issuer(invalid_document)),
    rule!("discovery/issuer-mismatch", Check::Issuer(issuer_mismatch)),
    rule!("discovery/required-metadata-missing", Check::Issuer(required_metadata_missing)),
];

fn in_document(pointer: impl Into<String>, message: impl Into<String>) -> Violation {
    violation(DocumentKind::Discovery, pointer, message)
}

/// RFC 8259 §4 and §8.1; RFC 8414 §3.2: a JSON object, members with zero elements MUST be omitted.
fn invalid_document(facts: &Facts) -> Judgement {
    if facts.issuer.profile == Some(Profile::Jwks) {
        return Err(Skip::NotApplicable);
    }
    match facts.documents.discovery.as_deref() {
        None => Err(facts.unseen(crate::model::Channel::Discovery)),
        Some(Err(problem)) => fail_if(true, || in_document(problem.pointer.clone(), problem.text.clone())),
        Some(Ok(metadata)) => Ok(metadata
            .problems
            .iter()
            .map(|problem| {
                let case = if problem.kind == ProblemKind::EmptyValue { "empty-value" } else { "" };
                in_document(problem.pointer.clone(), problem.text.clone()).case(case)
            })
            .collect()),
    }
}

/// OpenID Connect Discovery 1.0 §3, RFC 8414 §2.
fn required_metadata_missing(facts: &Facts) -> Judgement {
    let metadata = facts.metadata()?;
    let profile = facts.profile();
    let present = |name: &str| metadata.object.member(name).is_some_and(|value| *value != Value::Null && value.as_str() != Some(""));
    let missing: Vec<&str> = required(profile, metadata).into_iter().filter(|name| !present(name)).collect();
    let mut violations = Vec::new();
    if let Some(first) = missing.first() {
        let hint = if profile != Profile::KeyPublisher
            && !present("authorization_endpoint")
            && !present("token_endpoint")
            && present("jwks_uri")
        {
            "; an issuer that only publishes keys wants the profile key-publisher"
        } else {
            ""
        };
        violations.push(in_document(format!("/{first}"), format!("required metadata is missing: {}{hint}", missing.join(", "))));
    }
    if profile == Profile::Oidc || profile == Profile::Fapi2 {
        let wished: Vec<&str> =
            ["userinfo_endpoint", "scopes_supported", "claims_supported"].into_iter().filter(|name| !present(name)).collect();
        if let Some(first) = wished.first() {
            violations.push(
                in_document(format!("/{first}"), format!("recommended metadata is missing: {}", wished.join(", "))).case("recommended"),
            );
        }
    }
    Ok(violations)
}

fn required(profile: Profile, metadata: &Metadata) -> Vec<&'static str> {
    let token_needed = !only_implicit(metadata);
    match profile {
        Profile::KeyPublisher | Profile::Jwks => vec!["issuer", "jwks_uri"],
        Profile::Oidc | Profile::Fapi2 => {
            let mut names = vec![
                "issuer",
                "authorization_endpoint",
                "jwks_uri",
                "response_types_supported",
                "subject_types_supported",
                "id_token_signing_alg_values_supported",
            ];
            if token_needed {
                names.push("token_endpoint");
            }
            names
        }
        Profile::Oauth => {
            let mut names = vec!["issuer", "response_types_supported"];
            // RFC 8414 §2: omitted grant types mean authorization code and implicit.
            let grants = metadata.texts("grant_types_supported");
            if grants.is_empty() || grants.iter().any(|grant| matches!(*grant, "authorization_code" | "implicit")) {
                names.push("authorization_endpoint");
            }
            if token_needed {
                names.push("token_endpoint");
            }
            names
        }
    }
}

/// Whether every response type stays in the front channel, so that no token endpoint is used.
fn only_implicit(metadata: &Metadata) -> bool {
    let types = metadata.texts("response_types_supported");
    !types.is_empty() && types.iter().all(|kind| kind.split(' ').all(|part| matches!(part, "token" | "id_token" | "none")))
}

/// OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3: the values MUST be identical.
fn issuer_mismatch(facts: &Facts) -> Judgement {
    let metadata = facts.metadata()?;
    let Some(published) = metadata.issuer() else {
        return Err(Skip::NotEvaluated("the document has no issuer member".to_owned()));
    };
    let policy = facts.policy;
    if policy.issuer_alias.iter().any(|alias| alias == published) {
        return Ok(Vec::new());
    }
    match &facts.issuer.url {
        Some(configured) => {
            let wanted = configured.as_str();
            let template =
                policy.issuer_template.as_deref().is_some_and(|template| published == template && matches_template(template, wanted));
            if published != wanted && !template && near_miss(published, wanted) {
                let text = format!("the issuers \"{published}\" and \"{wanted}\" differ by a slash, case or port only");
                return Err(Skip::NotEvaluated(text));
            }
            fail_if(published != wanted && !template, || {
                in_document("/issuer", format!("the document says issuer \"{published}\"; asked for \"{wanted}\""))
            })
        }
        None if facts.look == Look::Files => Err(Skip::NotEvaluated("no issuer was given to compare with".to_owned())),
        None => {
            let requested = facts.observation.discovery.as_ref().map_or("", |attempt| attempt.url.as_str());
            let Some(implied) = implied_issuer(requested) else {
                return Err(Skip::NotEvaluated("the document was not requested at a well-known place".to_owned()));
            };
            let matches = near_miss(published, &implied) || matches_template(published, &implied);
            fail_if(!matches, || {
                in_document("/issuer", format!("the document at {requested} says issuer \"{published}\", which is not found there"))
            })
        }
    }
}

/// The issuer whose well-known URL this is, without a final slash.
fn implied_issuer(requested: &str) -> Option<String> {
    if let Some(issuer) = requested.strip_suffix("/.well-known/openid-configuration") {
        return Some(issuer.to_owned());
    }
    for suffix in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        if let Some((authority, path)) = requested.split_once(suffix)
            && (path.is_empty() || path.starts_with('/'))
        {
            return Some(format!("{authority}{path}"));
        }
    }
    None
}

/// Equal after one trailing slash, the case of scheme and host, and `:443` are forgiven: another rule's business.
fn near_miss(a: &str, b: &str) -> bool {
    let fold = |text: &str| Url::parse(text.strip_suffix('/').unwrap_or(text)).map(|url| url.as_str().to_owned());
    a == b || matches!((fold(a), fold(b)), (Ok(a), Ok(b)) if a == b)
}

/// Segment by segment, a `{placeholder}` segment of the template standing for any one segment.
pub(super) fn matches_template(template: &str, text: &str) -> bool {
    let split = |text: &str| text.strip_suffix('/').unwrap_or(text).split('/').map(str::to_owned).collect::<Vec<_>>();
    let (template, text) = (split(template), split(text));
    let placeholder = |segment: &str| segment.len() > 2 && segment.starts_with('{') && segment.ends_with('}');
    template.len() == text.len()
        && template.iter().any(|segment| placeholder(segment))
        && template.iter().zip(&text).all(|(pattern, segment)| pattern == segment || (placeholder(pattern) && !segment.is_empty()))
}

/// Codes, secrets and tokens travel there.
const PROTOCOL_ENDPOINTS: [&str; 10] = [
    "token_endpoint",
    "authorization_endpoint",
    "pushed_authorization_request_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "device_authorization_endpoint",
    "backchannel_authentication_endpoint",
];

/// OpenID Connect Discovery 1.0 §3, RFC 8414 §2: these URLs MUST use https.
fn endpoint_not_https(facts: &Facts) -> Judgement {
    let metadata = facts.metadata()?;
    let mut violations = Vec::new();
    for (name, value) in metadata.object.effective() {
        if name == "mtls_endpoint_aliases" {
            let aliases = value.as_object().map(crate::model::json::Object::effective).unwrap_or_default();
            for (alias, value) in aliases {
                violations.extend(plain_endpoint(alias, value, &format!("/mtls_endpoint_aliases/{}", escape(alias)), facts));
            }
        } else if name.ends_with("_endpoint") || name.ends_with("_uri") || matches!(name, "check_session_iframe" | "service_documentation")
        {
            violations.extend(plain_endpoint(name, value, &format!("/{}", escape(name)), facts));
        }
    }
    Ok(violations)
}

fn plain_endpoint(name: &str, value: &Value, pointer: &str, facts: &Facts) -> Option<Violation> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let documentation = matches!(name, "service_documentation" | "op_policy_uri" | "op_tos_uri");
    let registered = PROTOCOL_ENDPOINTS.contains(&name) || documentation || matches!(name, "end_session_endpoint" | "check_session_iframe");
    let Ok(url) = Url::parse(text) else {
        return Some(in_document(pointer, format!("{name} is not an absolute URL: \"{text}\"")).case(if documentation {
            "documentation"
        } else {
            "not-a-url"
        }));
    };
    if url.scheme() == "https" || (url.scheme() != "http" && !registered) || (facts.issuer.allow_http_loopback && is_loopback_url(text)) {
        return None;
    }
    let case = match name {
        _ if documentation => "documentation",
        _ if PROTOCOL_ENDPOINTS.contains(&name) => "",
        _ => "other-endpoint",
    };
    Some(in_document(pointer, format!("{name} is not https: {text}")).case(case))
}

/// RFC 6901 §3.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// OpenID Connect Core 1.0 §2, RFC 8414 §2, RFC 8725 §3.2.
fn alg_none_advertised(facts: &Facts) -> Judgement {
    let metadata = facts.metadata()?;
    let mut violations = Vec::new();
    let mut listed = false;
    for (name, value) in metadata.object.effective() {
        if !name.ends_with("_signing_alg_values_supported") {
            continue;
        }
        listed = true;
        let items = value.as_array().unwrap_or_default();
        if let Some(index) = items.iter().position(|item| item.as_str().is_some_and(|alg| alg.eq_ignore_ascii_case("none"))) {
            violations.push(
                in_document(format!("/{}/{index}", escape(name)), format!("{name} lists \"none\": unsigned tokens are accepted"))
                    .case(none_case(name, metadata, facts)),
            );
        }
    }
    if listed { Ok(violations) } else { Err(Skip::NotApplicable) }
}

fn none_case(name: &str, metadata: &Metadata, facts: &Facts) -> &'static str {
    match name {
        "token_endpoint_auth_signing_alg_values_supported"
        | "introspection_endpoint_auth_signing_alg_values_supported"
        | "revocation_endpoint_auth_signing_alg_values_supported" => "endpoint-authentication",
        _ if facts.profile() == Profile::Fapi2 => "endpoint-authentication",
        "request_object_signing_alg_values_supported" | "backchannel_authentication_request_signing_alg_values_supported" => {
            "request-object"
        }
        "id_token_signing_alg_values_supported" if facts.policy.allow_none_code_flow && code_only(metadata) => "code-flow",
        _ => "",
    }
}

fn code_only(metadata: &Metadata) -> bool {
    let types = metadata.texts("response_types_supported");
    !types.is_empty() && types.iter().all(|kind| *kind == "code")
}
