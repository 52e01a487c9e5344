//! Rules about what the discovery document says now and said before.

use url::Url;

use super::discovery::matches_template;
use super::{Check, Detail, Entry, Judgement, Skip, rule, violation};
use crate::facts::Facts;
use crate::ledger::{CHANGE_STANDS, Watched};
use crate::model::{DocumentKind, Violation};

pub(super) const RULES: &[Entry] =
    &[rule!("drift/issuer-changed", Check::Issuer(issuer_changed)), rule!("drift/jwks-uri-changed", Check::Issuer(jwks_uri_changed))];

/// OpenID Connect Discovery 1.0 §4.3: the issuer is the one that was asked for, today and tomorrow.
fn issuer_changed(facts: &Facts) -> Judgement {
    let Some((watched, since)) = open_change(&facts.history()?.issuer, facts)? else {
        return Ok(Vec::new());
    };
    if one_template(watched, facts) {
        return Ok(Vec::new());
    }
    let text = format!("the issuer changed from {} to {} at {since}", watched.accepted, watched.value);
    Ok(vec![violation(DocumentKind::Discovery, "/issuer", text)])
}

fn jwks_uri_changed(facts: &Facts) -> Judgement {
    let Some((watched, since)) = open_change(&facts.history()?.jwks_uri, facts)? else {
        return Ok(Vec::new());
    };
    let text = format!("jwks_uri changed from {} to {} at {since}", watched.accepted, watched.value);
    Ok(vec![moved(violation(DocumentKind::Discovery, "/jwks_uri", text), watched, facts)])
}

/// Whether both are the policy's template with its placeholders filled in, each in its way.
fn one_template(watched: &Watched, facts: &Facts) -> bool {
    let Some(template) = &facts.policy.issuer_template else { return false };
    [&watched.accepted, &watched.value].into_iter().all(|json| text_of(json).is_some_and(|text| matches_template(template, &text)))
}

fn text_of(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// The change that stands open; a document must have been seen this time.
fn open_change<'a>(watched: &'a Option<Watched>, facts: &Facts) -> Result<Option<(&'a Watched, String)>, Skip> {
    facts.metadata()?;
    let Some(watched) = watched else { return Ok(None) };
    let Some(changed) = watched.changed else { return Ok(None) };
    let stands = watched.value != watched.accepted && facts.now - changed < CHANGE_STANDS;
    Ok(stands.then(|| (watched, crate::model::timestamp(changed))))
}

/// Another host is the worst, another path the least; where only the query differs, it may be there to get round a cache.
fn moved(violation: Violation, watched: &Watched, facts: &Facts) -> Violation {
    let url = |json: &str| text_of(json).and_then(|text| Url::parse(&text).ok());
    let (Some(old), Some(new)) = (url(&watched.accepted), url(&watched.value)) else { return violation };
    if old.host_str() != new.host_str() {
        let allowed =
            new.host_str().is_some_and(|host| facts.policy.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)));
        return if allowed { violation } else { violation.case("other-host") };
    }
    match (old.origin() == new.origin(), old.path() == new.path()) {
        (false, _) => violation,
        (true, false) => violation.case("path"),
        (true, true) => violation.case("path").possible(),
    }
}
