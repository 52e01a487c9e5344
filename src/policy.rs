//! The user's policy: thresholds, severities, routes. Pure data, shared by many issuers.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;

use crate::model::{Destination, Issuer, Severity};

/// All parameters of the catalogue. A field that no rule reads yet is kept all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether the user gave a policy at all (`check` and `replay` without one judge no policy rules).
    pub configured: bool,
    pub max_key_age: Duration,
    pub max_token_lifetime: Duration,
    pub max_verifier_cache: Duration,
    /// `None`: `max_token_lifetime` + `max_verifier_cache`.
    pub min_overlap: Option<Duration>,
    pub prepublication: Duration,
    pub verifiers: Vec<String>,
    pub allowed_algs: Option<Vec<String>>,
    pub allowed_curves: Vec<String>,
    pub expected_cadence: Option<Duration>,
    pub fail_threshold: u32,
    pub allowed_hosts: Vec<String>,
    pub issuer_alias: Vec<String>,
    pub issuer_template: Option<String>,
    pub allow_none_code_flow: bool,
    /// `revoked_keys`: thumbprints or kids withdrawn on purpose.
    pub revoked_keys: Vec<String>,
    pub pinned_thumbprints: Vec<String>,
    /// Every other parameter of the catalogue, accepted and kept until its rule comes: name and TOML text.
    pub other: BTreeMap<String, String>,
    /// `[policy.severity]`: rule id to severity, or `None` for "off".
    pub severity: BTreeMap<String, Option<Severity>>,
    /// Rules switched off for this run (`--skip`).
    pub skip: BTreeSet<String>,
    /// `limits.keys`: keys beyond are counted, not judged.
    pub max_keys: usize,
    /// `limits.depth`.
    pub max_depth: usize,
    pub routing: Routing,
}

impl Default for Policy {
    fn default() -> Self {
        let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Self {
            configured: false,
            max_key_age: Duration::days(365),
            max_token_lifetime: Duration::hours(1),
            max_verifier_cache: Duration::hours(24),
            min_overlap: None,
            prepublication: Duration::hours(24),
            verifiers: texts(&["jose", "jwks-rsa", "spring-security", "microsoft-identitymodel", "go-oidc-v3", "aws-http-api", "envoy"]),
            allowed_algs: None,
            allowed_curves: texts(&["P-256", "P-384", "P-521", "Ed25519"]),
            expected_cadence: None,
            fail_threshold: 3,
            allowed_hosts: Vec::new(),
            issuer_alias: Vec::new(),
            issuer_template: None,
            allow_none_code_flow: false,
            revoked_keys: Vec::new(),
            pinned_thumbprints: Vec::new(),
            other: BTreeMap::new(),
            severity: BTreeMap::new(),
            skip: BTreeSet::new(),
            max_keys: 2000,
            max_depth: 100,
            routing: Routing::default(),
        }
    }
}

impl Policy {
    /// How long an old key must stay beside its successor.
    #[must_use]
    pub fn min_overlap(&self) -> Duration {
        self.min_overlap.unwrap_or(self.max_token_lifetime + self.max_verifier_cache)
    }
}

/// Where incidents go. Without any route everything of severity medium and above goes to every destination.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Routing {
    pub routes: Vec<Route>,
    /// Every destination of every channel.
    pub destinations: Vec<Destination>,
}

/// One `[[route]]`; every condition given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Route {
    /// This and above.
    pub severity: Option<Severity>,
    pub rules: Vec<String>,
    pub families: Vec<String>,
    pub issuers: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub owners: Vec<String>,
    /// Channel ids.
    pub channels: Vec<String>,
    /// Tell again while it is open.
    pub repeat: Option<Duration>,
}

impl Route {
    /// Whether it takes a finding of this rule and severity at this issuer.
    #[must_use]
    pub fn takes(&self, issuer: &Issuer, rule: &str, severity: Severity) -> bool {
        let any = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|item| item == value);
        severity >= self.severity.unwrap_or(Severity::Medium)
            && any(&self.rules, rule)
            && any(&self.families, rule.split('/').next().unwrap_or(rule))
            && any(&self.issuers, issuer.id.as_str())
            && any(&self.owners, issuer.owner.as_deref().unwrap_or(""))
            && self.labels.iter().all(|(name, value)| issuer.labels.get(name) == Some(value))
    }
}

impl Routing {
    /// The destinations of a finding, each with the shortest `repeat` that any matching route asks for.
    #[must_use]
    pub fn destinations(&self, issuer: &Issuer, rule: &str, severity: Severity) -> BTreeMap<Destination, Option<Duration>> {
        let default = [Route { channels: self.destinations.iter().map(|d| d.channel.clone()).collect(), ..Route::default() }];
        let routes = if self.routes.is_empty() { &default[..] } else { &self.routes[..] };
        let mut found: BTreeMap<Destination, Option<Duration>> = BTreeMap::new();
        for route in routes.iter().filter(|route| route.takes(issuer, rule, severity)) {
            for destination in self.destinations.iter().filter(|d| route.channels.contains(&d.channel)) {
                let repeat = found.entry(destination.clone()).or_default();
                *repeat = match (*repeat, route.repeat) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        found
    }
}

/// The hard limits on what an issuer may send (interface.md, `[limits]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body after decompression.
    pub body: usize,
    /// One whole document with its redirects.
    pub time: std::time::Duration,
    pub redirects: usize,
    pub keys: usize,
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 4 << 20, time: std::time::Duration::from_secs(10), redirects: 3, keys: 2000, depth: 100 }
    }
}
