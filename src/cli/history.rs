//! `history`, `keys`, `incidents`: what the store remembers, printed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::output::{bold, faint, print, print_json, severity};
use super::{Anything, Done, Exit, Format, StoreOptions, connect, usage};
use crate::model::json::Value;
use crate::model::{Event, EventKind, Finding, FindingKey, Incident, IncidentState, timestamp, visible, visible_json};
use crate::parse;
use crate::store::{Filter, IssuerRow};

#[derive(Args, Debug)]
pub(super) struct HistoryOptions {
    /// The issuer's id
    issuer: String,
    /// Only what happened since then: RFC 3339, a date, or a duration ago (30d)
    #[arg(long, value_name = "T")]
    since: Option<String>,
    #[command(flatten)]
    store: StoreOptions,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn history(options: &HistoryOptions) -> Done {
    let mut source = connect::open(&options.store)?;
    let issuer = source.known_issuer(&options.issuer)?;
    let since = source.moment(options.since.as_deref())?;
    let events = source.store.events(&Filter { issuer: Some(issuer), since, ..Filter::default() })?;
    match options.format {
        Format::Json => print(&visible_json(&json_array(events.iter().map(Event::to_line))))?,
        Format::Text => {
            for event in &events {
                print(&format!("{}  {}\n", faint(&source.shown(event.at)), in_words(&event.kind)))?;
            }
            if events.is_empty() {
                super::output::talk("nothing happened in that time: no key came or went, nothing changed");
            }
        }
    }
    Ok(Exit::Clean)
}

/// JSON texts as one array, each as it stands: numbers are not rewritten.
fn json_array(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| format!("  {item}")).collect();
    if items.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", items.join(",\n")) }
}

fn in_words(kind: &EventKind) -> String {
    let key = |kid: &Option<String>, thumbprint: &crate::model::Thumbprint| {
        let kid = kid.as_ref().map_or_else(|| "without kid".to_owned(), |kid| format!("\"{}\"", visible(kid, 80)));
        format!("{} ({thumbprint})", bold(&kid))
    };
    let value = |value: &Value| visible(&value.canonical(), 200);
    match kind {
        EventKind::KeyAdded { kid, thumbprint } => format!("key added {}", key(kid, thumbprint)),
        EventKind::KeyRemoved { kid, thumbprint } => format!("key removed {}", key(kid, thumbprint)),
        EventKind::KeyReappeared { kid, thumbprint, absent_since } => {
            format!("key reappeared {}, absent since {}", key(kid, thumbprint), timestamp(*absent_since))
        }
        EventKind::KidRebound { kid, thumbprint, old } => {
            let old: Vec<&str> = old.iter().map(crate::model::Thumbprint::as_str).collect();
            format!("kid rebound {}, before: {}", key(&Some(kid.clone()), thumbprint), old.join(", "))
        }
        EventKind::JwksUriChanged { old, new } => format!("jwks_uri changed from {} to {}", value(old), value(new)),
        EventKind::IssuerChanged { old, new } => format!("issuer changed from {} to {}", value(old), value(new)),
        EventKind::AlgsChanged { old, new } => {
            format!("algorithms changed from [{}] to [{}]", visible(&old.join(", "), 200), visible(&new.join(", "), 200))
        }
        EventKind::FetchFailed { channel, error, status } => {
            format!("{} not seen: {}", channel.name(), visible(error.as_deref().unwrap_or(&format!("status {status}")), 200))
        }
        EventKind::FetchRecovered { channel, failed_since } => {
            format!("{} seen again, not seen since {}", channel.name(), timestamp(*failed_since))
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct KeysOptions {
    /// Only this issuer
    #[arg(long, value_name = "I")]
    issuer: Option<String>,
    /// Only keys that ever had this kid
    #[arg(long, value_name = "K")]
    kid: Option<String>,
    /// Only this key
    #[arg(long, value_name = "T")]
    thumbprint: Option<String>,
    /// Only keys that were published at that minute
    #[arg(long, value_name = "T")]
    at: Option<String>,
    #[command(flatten)]
    store: StoreOptions,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(subcommand)]
    later: Option<LaterKeys>,
}

/// What the interface names and no version has brought yet.
#[derive(Subcommand, Debug)]
enum LaterKeys {
    #[command(hide = true, disable_help_flag = true)]
    Audit(Anything),
}

pub(super) fn keys(options: &KeysOptions) -> Done {
    if let Some(LaterKeys::Audit(_)) = &options.later {
        return Err(usage("`keys audit` is not in this version"));
    }
    let mut source = connect::open(&options.store)?;
    let issuer = options.issuer.as_deref().map(|id| source.known_issuer(id)).transpose()?;
    let at = source.moment(options.at.as_deref())?;
    let rows = source.store.issuers()?;
    let keys: Vec<serde_json::Value> = rows
        .iter()
        .filter(|row| issuer.as_ref().is_none_or(|issuer| *issuer == row.issuer))
        .flat_map(|row| keys_of(row, options, at))
        .collect();
    match options.format {
        Format::Json => print_json(&keys.into())?,
        Format::Text => {
            let widths =
                ["issuer", "thumbprint", "kty"].map(|column| keys.iter().map(|key| cell(key, column).chars().count()).max().unwrap_or(0));
            for key in &keys {
                print(&key_line(key, widths))?;
            }
            if keys.is_empty() {
                super::output::talk("no such key was ever seen");
            }
        }
    }
    Ok(Exit::Clean)
}

fn keys_of(row: &IssuerRow, options: &KeysOptions, at: Option<DateTime<Utc>>) -> Vec<serde_json::Value> {
    let wanted_kid = |kids: &std::collections::BTreeSet<String>| options.kid.as_ref().is_none_or(|kid| kids.contains(kid));
    let mut keys: Vec<_> = row
        .ledger
        .keys
        .iter()
        .filter(|(thumbprint, record)| {
            wanted_kid(&record.kids) && options.thumbprint.as_ref().is_none_or(|wanted| wanted == thumbprint.as_str())
        })
        .filter(|(_, record)| at.is_none_or(|at| record.lives.iter().any(|life| life.from <= at && life.gone.is_none_or(|gone| gone > at))))
        .collect();
    keys.sort_by_key(|(_, record)| record.first_seen());
    keys.into_iter()
        .map(|(thumbprint, record)| {
            serde_json::json!({
                "issuer": row.issuer,
                "thumbprint": thumbprint,
                "kids": record.kids,
                "kty": record.kty,
                "alg": record.alg,
                "use": record.usage,
                "first_seen": record.first_seen().map(timestamp),
                "last_seen": record.last_seen(row.ledger.jwks.last_ok).map(timestamp),
                "present": record.present(),
            })
        })
        .collect()
}

fn cell(key: &serde_json::Value, column: &str) -> String {
    visible(key[column].as_str().unwrap_or("-"), 80)
}

fn key_line(key: &serde_json::Value, [issuer, thumbprint, kty]: [usize; 3]) -> String {
    let text = |name: &str| cell(key, name);
    let kids: Vec<String> =
        key["kids"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).map(|kid| visible(kid, 60)).collect();
    let state = if key["present"] == true { bold("published") } else { faint("gone     ") };
    format!(
        "{state}  {:<issuer$}  {:<thumbprint$}  {} to {}  {:<kty$} {:<8} kid {}\n",
        text("issuer"),
        text("thumbprint"),
        text("first_seen"),
        text("last_seen"),
        text("kty"),
        text("alg"),
        if kids.is_empty() { "-".to_owned() } else { kids.join(", ") }
    )
}

#[derive(Args, Debug)]
pub(super) struct IncidentsOptions {
    /// Show this one
    id: Option<String>,
    #[command(flatten)]
    store: StoreOptions,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn incidents(options: &IncidentsOptions) -> Done {
    let mut source = connect::open(&options.store)?;
    let incidents = match &options.id {
        Some(id) => vec![
            source
                .store
                .incident(id)?
                .ok_or_else(|| usage(format!("no incident \"{}\"; `issuerwatch incidents` lists them", visible(id, 80))))?,
        ],
        None => source.store.incidents(&Filter::default())?,
    };
    let findings: BTreeMap<FindingKey, Finding> =
        source.store.findings(&Filter::default())?.into_iter().map(|finding| (finding.key(), finding)).collect();
    match options.format {
        Format::Json => print(&visible_json(&json_array(incidents.iter().map(|incident| incident_json(incident, &findings)))))?,
        Format::Text => {
            for incident in &incidents {
                print(&incident_text(incident, &findings, options.id.is_some(), &source))?;
            }
            if incidents.is_empty() {
                super::output::talk("no incident so far");
            }
        }
    }
    Ok(Exit::Clean)
}

/// A line of an incident's events as `history` shows it.
fn event_text(line: &str, source: &connect::Source) -> String {
    let event = parse::json::read(line.as_bytes(), parse::LIFECYCLE_DEPTH).ok().and_then(|parsed| Event::from_value(&parsed.value));
    match event {
        Some(event) => format!("{}  {}", faint(&source.shown(event.at)), in_words(&event.kind)),
        None => faint(&visible(line, 400)),
    }
}

/// The webhook's `data`, with state and times; the events are spliced in as they stand.
fn incident_json(incident: &Incident, findings: &BTreeMap<FindingKey, Finding>) -> String {
    let mine: Vec<&Finding> = incident.findings.iter().filter_map(|key| findings.get(key)).collect();
    let head = serde_json::json!({
        "incident": incident.id,
        "issuer": incident.issuer,
        "severity": incident.severity,
        "title": incident.title,
        "kind": incident.kind,
        "state": incident.state,
        "opened": timestamp(incident.opened),
        "resolved": incident.resolved.map(timestamp),
        "findings": mine,
    })
    .to_string();
    format!("{},\"events\":[{}]}}", &head[..head.len() - 1], incident.events.join(","))
}

fn incident_text(incident: &Incident, findings: &BTreeMap<FindingKey, Finding>, whole: bool, source: &connect::Source) -> String {
    let state = match incident.state {
        IncidentState::Open => bold("open"),
        IncidentState::Resolved => faint("resolved"),
    };
    let mut out = format!("{} {} {}  {}\n", incident.id, severity(incident.severity), state, visible(&incident.title, 200));
    let until = incident.resolved.map_or_else(String::new, |at| format!(", resolved {}", source.shown(at)));
    out.push_str(&format!("    {}\n", faint(&format!("opened {}{until}", source.shown(incident.opened)))));
    if whole {
        for finding in incident.findings.iter().filter_map(|key| findings.get(key)) {
            out.push_str(&format!("    {} {}: {}\n", severity(finding.severity), finding.rule, visible(&finding.message, 400)));
        }
        for event in &incident.events {
            out.push_str(&format!("    {}\n", event_text(event, source)));
        }
        for told in &incident.told {
            let recipient = told.recipient.as_deref().map_or_else(String::new, |recipient| format!(" {recipient}"));
            out.push_str(&format!("    told {}{recipient}\n", told.channel));
        }
    }
    out
}
