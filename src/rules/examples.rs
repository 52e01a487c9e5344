//! The examples of rule documents: each is a JSON merge patch (RFC 7396) on one compliant issuer, staged here as real
//! bytes and observations. Playing them is `assess`'s business; comparing the result with what was expected is done here.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::document::{Document, Expected};
use super::{Judgement, Skip};
use crate::facts::Look;
use crate::model::{
    Act, Attempt, Body, Certainty, DocumentKind, Issuer, IssuerId, IssuerUrl, Observation, Profile, Redirect, Rotation, Severity,
    Thumbprint, Unseen, UnseenReason, Violation,
};
use crate::parse;
use crate::policy::Policy;

/// What an example is about: an issuer, its policy, what was decided, and looks at it, of which the last is judged.
#[derive(Debug, Clone)]
pub struct Scene {
    pub issuer: Issuer,
    pub policy: Policy,
    pub look: Look,
    pub acts: Vec<Act>,
    /// Oldest first; never empty.
    pub observations: Vec<Observation>,
}

/// Why an example cannot be staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExampleError(String);

impl ExampleError {
    fn in_part<E: std::fmt::Display>(part: &'static str) -> impl Fn(E) -> Self {
        move |error| Self(format!("{part}: {error}"))
    }
}

/// The compliant issuer and the named keys that every example starts from.
#[derive(Debug, Clone)]
pub struct Stage {
    compliant: Value,
    keys: Map<String, Value>,
}

impl Stage {
    /// The stage of the built-in catalogue.
    ///
    /// # Errors
    /// `compliant.json` or `keys.json` is malformed; tests keep that from shipping.
    pub fn builtin() -> Result<Self, ExampleError> {
        Ok(Self {
            compliant: read("compliant.json", include_str!("../../rules/compliant.json"))?,
            keys: read("keys.json", include_str!("../../rules/keys.json"))?,
        })
    }

    /// Lays a patch over the compliant issuer and builds what the monitor would have seen.
    ///
    /// # Errors
    /// Says which part of the patch is not understood.
    pub fn scene(&self, patch: &str) -> Result<Scene, ExampleError> {
        let mut patched = self.compliant.clone();
        merge(&mut patched, read("the example", patch)?);
        let raw: RawScene = from_value("the example", self.expand(patched)?)?;
        let issuer = raw.issuer.build()?;
        let mut observations = Vec::new();
        if raw.look == RawLook::Watched {
            for look in raw.before {
                let mut earlier = self.documents()?;
                merge(&mut earlier, look);
                observations.push(from_value::<RawObservation>("before", earlier)?.build(&issuer, raw.look)?);
            }
        }
        let last = RawObservation { at: raw.now, discovery: raw.discovery, jwks: raw.jwks, http: raw.http, raw: raw.raw };
        observations.push(last.build(&issuer, raw.look)?);
        let acts = raw.acts.into_iter().map(|act| act_of(act, &issuer.id, raw.now)).collect::<Result<_, _>>()?;
        Ok(Scene { policy: raw.policy.build(), look: raw.look.into(), acts, observations, issuer })
    }

    /// What the compliant issuer serves.
    fn documents(&self) -> Result<Value, ExampleError> {
        let part = |name: &str| self.compliant.get(name).cloned().unwrap_or_default();
        self.expand(json!({"discovery": part("discovery"), "jwks": part("jwks"), "http": part("http"), "raw": part("raw")}))
    }

    /// Puts named keys (`{"$key": "rsa-2048", "kid": "x"}`) and their thumbprints (`{"$thumbprint": "rsa-2048"}`) in place.
    fn expand(&self, value: Value) -> Result<Value, ExampleError> {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.expand(item)).collect::<Result<_, _>>().map(Value::Array),
            Value::Object(mut members) => {
                if let Some(name) = members.get("$thumbprint") {
                    return self.thumbprint(name).map(|thumbprint| Value::String(thumbprint.0));
                }
                let mut expanded = match members.remove("$key") {
                    Some(name) => self.key(&name)?.clone(),
                    None => Map::new(),
                };
                for (name, member) in members {
                    expanded.insert(name, self.expand(member)?);
                }
                Ok(Value::Object(expanded))
            }
            other => Ok(other),
        }
    }

    fn key(&self, name: &Value) -> Result<&Map<String, Value>, ExampleError> {
        name.as_str()
            .and_then(|name| self.keys.get(name))
            .and_then(Value::as_object)
            .ok_or_else(|| ExampleError(format!("keys.json has no key {name}")))
    }

    fn thumbprint(&self, name: &Value) -> Result<Thumbprint, ExampleError> {
        let body = Body::served(json!({"keys": [self.key(name)?]}).to_string().into_bytes());
        let set = parse::jwks(&body, 1, parse::LIFECYCLE_DEPTH).map_err(|problem| ExampleError(problem.text))?;
        set.keys.first().map(|key| key.thumbprint.clone()).ok_or_else(|| ExampleError(format!("the key {name} is no key")))
    }
}

/// RFC 7396 §2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn read<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, ExampleError> {
    serde_json::from_str(text).map_err(ExampleError::in_part(part))
}

fn from_value<T: DeserializeOwned>(part: &'static str, value: Value) -> Result<T, ExampleError> {
    serde_json::from_value(value).map_err(ExampleError::in_part(part))
}

/// An act; who, why, when and about whom need not be written.
fn act_of(mut act: Value, issuer: &IssuerId, now: DateTime<Utc>) -> Result<Act, ExampleError> {
    if let Some(members) = act.as_object_mut() {
        let implied = [("at", json!(now)), ("by", json!("owner")), ("reason", json!("planned")), ("issuer", json!(issuer))];
        for (name, value) in implied {
            members.entry(name).or_insert(value);
        }
    }
    from_value("acts", act)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScene {
    issuer: RawIssuer,
    policy: RawPolicy,
    look: RawLook,
    now: DateTime<Utc>,
    discovery: Option<Value>,
    jwks: Option<Value>,
    #[serde(default)]
    http: RawHttp,
    #[serde(default)]
    raw: RawBodies,
    #[serde(default)]
    before: Vec<Value>,
    #[serde(default)]
    acts: Vec<Value>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RawLook {
    Watched,
    Single,
    Files,
}

impl From<RawLook> for Look {
    fn from(look: RawLook) -> Self {
        match look {
            RawLook::Watched => Self::Watched,
            RawLook::Single => Self::Single,
            RawLook::Files => Self::Files,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssuer {
    id: String,
    url: Option<String>,
    discovery_url: Option<String>,
    jwks_uri: Option<String>,
    owner: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    profile: Option<Profile>,
    #[serde(default)]
    rotation: Rotation,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    allow_http_loopback: bool,
}

impl RawIssuer {
    fn build(self) -> Result<Issuer, ExampleError> {
        let url = self.url.as_deref().map(IssuerUrl::parse).transpose().map_err(ExampleError::in_part("issuer.url"))?;
        Ok(Issuer {
            id: IssuerId::new(self.id),
            url,
            discovery_url: self.discovery_url,
            jwks_uri: self.jwks_uri,
            owner: self.owner,
            labels: self.labels,
            profile: self.profile,
            rotation: self.rotation,
            allow_private: self.allow_private,
            allow_http_loopback: self.allow_http_loopback,
        })
    }
}

/// The parameters that examples set; what is absent has the product's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    max_key_age: Option<Span>,
    max_token_lifetime: Option<Span>,
    max_verifier_cache: Option<Span>,
    min_overlap: Option<Span>,
    expected_cadence: Option<Span>,
    fail_threshold: Option<u32>,
    max_keys: Option<usize>,
    allowed_algs: Option<Vec<String>>,
    allowed_curves: Option<Vec<String>>,
    #[serde(default)]
    allowed_hosts: Vec<String>,
    #[serde(default)]
    issuer_alias: Vec<String>,
    issuer_template: Option<String>,
    #[serde(default)]
    allow_none_code_flow: bool,
    #[serde(default)]
    revoked_keys: Vec<String>,
    /// Kept in [`Policy::other`].
    role: Option<String>,
}

impl RawPolicy {
    fn build(self) -> Policy {
        let default = Policy::default();
        let span = |given: Option<Span>, default: Duration| given.map_or(default, |span| span.0);
        let other = self.role.map(|role| ("role".to_owned(), format!("\"{role}\""))).into_iter().collect();
        Policy {
            configured: true,
            max_key_age: span(self.max_key_age, default.max_key_age),
            max_token_lifetime: span(self.max_token_lifetime, default.max_token_lifetime),
            max_verifier_cache: span(self.max_verifier_cache, default.max_verifier_cache),
            min_overlap: self.min_overlap.map(|span| span.0),
            expected_cadence: self.expected_cadence.map(|span| span.0),
            fail_threshold: self.fail_threshold.unwrap_or(default.fail_threshold),
            max_keys: self.max_keys.unwrap_or(default.max_keys),
            allowed_algs: self.allowed_algs,
            allowed_curves: self.allowed_curves.unwrap_or(default.allowed_curves),
            allowed_hosts: self.allowed_hosts,
            issuer_alias: self.issuer_alias,
            issuer_template: self.issuer_template,
            allow_none_code_flow: self.allow_none_code_flow,
            revoked_keys: self.revoked_keys,
            other,
            ..Policy::default()
        }
    }
}

/// A duration as configurations write it: `90s`, `5m`, `4h`, `365d`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no duration such as 90s, 5m, 4h or 365d");
        let number = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let count: i64 = number.parse().map_err(|_| wrong())?;
        let span = match &text[number.len()..] {
            "s" => Duration::try_seconds(count),
            "m" => Duration::try_minutes(count),
            "h" => Duration::try_hours(count),
            "d" => Duration::try_days(count),
            _ => None,
        };
        span.map(Self).ok_or_else(wrong)
    }
}

/// One look: what was served, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawObservation {
    at: DateTime<Utc>,
    discovery: Option<Value>,
    jwks: Option<Value>,
    #[serde(default)]
    http: RawHttp,
    #[serde(default)]
    raw: RawBodies,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    discovery: RawAttempt,
    jwks: RawAttempt,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawAttempt {
    /// Where it was requested, if not where the issuer's configuration or the discovery document says.
    url: Option<String>,
    status: Option<u16>,
    headers: BTreeMap<String, String>,
    redirects: Vec<Redirect>,
    /// Why we could not look, as archives write it: `tls: …`.
    unseen: Option<String>,
}

/// Bodies that a JSON value cannot express.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawBodies {
    discovery: Option<RawBody>,
    jwks: Option<RawBody>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawBody {
    Text(String),
    Octets {
        #[serde(rename = "$base64url")]
        base64url: String,
    },
}

impl RawBody {
    fn bytes(self) -> Result<Vec<u8>, ExampleError> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Octets { base64url } => URL_SAFE_NO_PAD.decode(base64url).map_err(ExampleError::in_part("raw")),
        }
    }
}

impl RawObservation {
    fn build(self, issuer: &Issuer, look: RawLook) -> Result<Observation, ExampleError> {
        let discovery = match bytes_of(self.discovery, self.raw.discovery)? {
            Some(bytes) => Some(self.http.discovery.build(issuer.discovery_request().unwrap_or_default(), bytes)),
            None => None,
        };
        let bytes = bytes_of(self.jwks, self.raw.jwks)?;
        let jwks = match (bytes, key_set_url(issuer, discovery.as_ref(), look)) {
            (None, _) | (_, Source::Unknown) => None,
            (Some(bytes), Source::At(url)) => Some(self.http.jwks.build(url, bytes)),
            (Some(_), Source::Unnamed) => {
                let unseen = Unseen::new(UnseenReason::NoJwksUri, "the discovery document names no key set");
                Some(Attempt { unseen: Some(unseen), ..Attempt::default() })
            }
        };
        Ok(Observation { issuer: issuer.id.clone(), at: self.at, discovery, jwks })
    }
}

fn bytes_of(document: Option<Value>, raw: Option<RawBody>) -> Result<Option<Vec<u8>>, ExampleError> {
    match raw {
        Some(raw) => raw.bytes().map(Some),
        None => Ok(document.map(|document| document.to_string().into_bytes())),
    }
}

/// Where the key set of a look is found.
enum Source {
    At(String),
    /// The discovery document was seen and names none.
    Unnamed,
    /// There is no discovery document that could name one.
    Unknown,
}

fn key_set_url(issuer: &Issuer, discovery: Option<&Attempt>, look: RawLook) -> Source {
    if let Some(url) = &issuer.jwks_uri {
        return Source::At(url.clone());
    }
    if look == RawLook::Files {
        return Source::At(String::new());
    }
    let Some(body) = discovery.and_then(Attempt::seen) else { return Source::Unknown };
    let document: Value = serde_json::from_slice(&body.bytes).unwrap_or_default();
    match document.get("jwks_uri").and_then(Value::as_str) {
        Some(url) => Source::At(url.to_owned()),
        None => Source::Unnamed,
    }
}

impl RawAttempt {
    fn build(self, url: String, bytes: Vec<u8>) -> Attempt {
        let status = self.status.unwrap_or(if self.unseen.is_some() { 0 } else { 200 });
        let refused = (status != 200).then(|| Unseen::new(UnseenReason::Status, status));
        let unseen = self.unseen.map(Unseen::from_text).or(refused);
        Attempt {
            url: self.url.unwrap_or(url),
            status,
            headers: if status == 0 { Vec::new() } else { self.headers.into_iter().collect() },
            body: unseen.is_none().then(|| Arc::new(Body::served(bytes))),
            redirects: self.redirects,
            unseen,
            ..Attempt::default()
        }
    }
}

/// Whether a rule said what its example expects; else, in words, what it said.
///
/// # Errors
/// What was expected and what was said.
pub fn compare(document: &Document, expected: &Expected, said: &Judgement) -> Result<(), String> {
    let as_expected = match (expected, said) {
        (Expected::Pass, Ok(violations)) => violations.is_empty(),
        (Expected::NotApplicable, Err(Skip::NotApplicable)) | (Expected::NotEvaluated, Err(Skip::NotEvaluated(_) | Skip::Unseen(_))) => {
            true
        }
        (Expected::Fail { place, severity, possible }, Ok(violations)) => worst(document, violations).into_iter().any(|violation| {
            place_of(violation) == *place
                && severity.is_none_or(|severity| document.severity_of(violation) == severity)
                && possible.is_none_or(|possible| (violation.certainty == Certainty::Possible) == possible)
        }),
        _ => false,
    };
    if as_expected { Ok(()) } else { Err(format!("expected {expected:?}, but the rule said: {}", in_words(document, said))) }
}

/// The violations of the worst severity.
fn worst<'a>(document: &Document, violations: &'a [Violation]) -> Vec<&'a Violation> {
    let worst = violations.iter().map(|violation| document.severity_of(violation)).max();
    violations.iter().filter(|violation| Some(document.severity_of(violation)) == worst).collect()
}

/// `/jwks/keys/0/n`: the document's name and the pointer within it.
#[must_use]
pub fn place_of(violation: &Violation) -> String {
    let document = match violation.document {
        DocumentKind::Discovery => "discovery",
        DocumentKind::Jwks => "jwks",
        DocumentKind::Http => "http",
        DocumentKind::Tls => "tls",
        DocumentKind::History => "history",
        DocumentKind::Token => "token",
        DocumentKind::Policy => "policy",
    };
    let slash = if violation.pointer.is_empty() || violation.pointer.starts_with('/') { "" } else { "/" };
    format!("/{document}{slash}{}", violation.pointer)
}

fn in_words(document: &Document, said: &Judgement) -> String {
    match said {
        Err(skip) => format!("{skip:?}"),
        Ok(violations) if violations.is_empty() => "pass".to_owned(),
        Ok(violations) => {
            violations.iter().map(|violation| one_in_words(document.severity_of(violation), violation)).collect::<Vec<_>>().join("; ")
        }
    }
}

fn one_in_words(severity: Severity, violation: &Violation) -> String {
    let possible = if violation.certainty == Certainty::Possible { " possible" } else { "" };
    format!("fail {} {severity}{possible} ({:?}): {}", place_of(violation), violation.case, violation.message)
}
