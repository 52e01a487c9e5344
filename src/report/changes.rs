//! Lifecycle events in words, those of one poll together. Fetch failures are the availability's business.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::model::json::Value;
use crate::model::{Event, EventKind, Thumbprint, visible};

/// Polls listed for one issuer.
const LISTED: usize = 20;
/// Keys named in one sentence.
const NAMED: usize = 5;

/// What one poll showed to have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at: DateTime<Utc>,
    /// Sentences fit to be shown.
    pub words: Vec<String>,
}

/// The latest changes, newest first, and how many more there are; events are those of one issuer in time order.
pub(super) fn of(events: &[Event], tz: Tz) -> (Vec<Change>, usize) {
    let relevant: Vec<&Event> =
        events.iter().filter(|event| !matches!(event.kind, EventKind::FetchFailed { .. } | EventKind::FetchRecovered { .. })).collect();
    let polls: Vec<&[&Event]> = relevant.chunk_by(|a, b| a.at == b.at).collect();
    let left_out = polls.len().saturating_sub(LISTED);
    (polls.into_iter().skip(left_out).rev().map(|poll| Change { at: poll[0].at, words: words(poll, tz) }).collect(), left_out)
}

fn words(poll: &[&Event], tz: Tz) -> Vec<String> {
    let (mut added, mut removed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for event in poll {
        match &event.kind {
            EventKind::KeyAdded { kid, thumbprint } => added.push(name(kid.as_deref(), thumbprint)),
            EventKind::KeyRemoved { kid, thumbprint } => removed.push(name(kid.as_deref(), thumbprint)),
            EventKind::KeyReappeared { kid, thumbprint, absent_since } => others.push(format!(
                "Key {} is back; it was absent since {}.",
                name(kid.as_deref(), thumbprint),
                absent_since.with_timezone(&tz).format("%Y-%m-%d %H:%M")
            )),
            EventKind::KidRebound { kid, thumbprint, old } => others.push(format!(
                "Key ID {} now names another key ({}); before: {}.",
                label(kid),
                short(thumbprint),
                list(&old.iter().map(short).collect::<Vec<_>>())
            )),
            EventKind::JwksUriChanged { old, new } => others.push(format!("jwks_uri changed from {} to {}.", value(old), value(new))),
            EventKind::IssuerChanged { old, new } => others.push(format!("issuer changed from {} to {}.", value(old), value(new))),
            EventKind::AlgsChanged { old, new } => others.push(algorithms(old, new)),
            EventKind::FetchFailed { .. } | EventKind::FetchRecovered { .. } => {}
        }
    }
    let keys = [sentence(&added, "appeared"), sentence(&removed, "disappeared")];
    keys.into_iter().flatten().chain(others.into_iter().take(2 * NAMED)).collect()
}

fn sentence(keys: &[String], verb: &str) -> Option<String> {
    match keys {
        [] => None,
        [key] => Some(format!("Key {key} {verb}.")),
        keys => Some(format!("{} keys {verb}: {}.", keys.len(), list(keys))),
    }
}

fn list(items: &[String]) -> String {
    let named = items[..items.len().min(NAMED)].join(", ");
    if items.len() > NAMED { format!("{named} and {} more", items.len() - NAMED) } else { named }
}

fn algorithms(old: &[String], new: &[String]) -> String {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|alg| !those.contains(alg)).map(|alg| visible(alg, 24)).collect()
    };
    let (added, removed) = (only(new, old), only(old, new));
    let part = |what: &str, algs: &[String]| (!algs.is_empty()).then(|| format!("{what} {}", list(algs)));
    let parts: Vec<String> = [part("added", &added), part("removed", &removed)].into_iter().flatten().collect();
    format!("Advertised signing algorithms: {}.", parts.join("; "))
}

fn name(kid: Option<&str>, thumbprint: &Thumbprint) -> String {
    match kid {
        Some(kid) => format!("{} ({})", label(kid), short(thumbprint)),
        None => format!("without key ID ({})", short(thumbprint)),
    }
}

fn label(kid: &str) -> String {
    format!("“{}”", visible(kid, 40))
}

/// Enough of a thumbprint to tell keys apart by eye.
pub(super) fn short(thumbprint: &Thumbprint) -> String {
    visible(thumbprint.as_str().trim_start_matches("raw:"), 8)
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => visible(text, 160),
        other => visible(&other.canonical(), 160),
    }
}
