//! What a notice says, rendered once for every channel: subject, text, HTML and the webhook's JSON.
//!
//! Pure: the same notice gives the same message. Nothing an issuer wrote reaches a reader unescaped, unbounded or
//! with hidden characters in it; the JSON alone is lossless, because a machine reads it.

use askama::Template;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Deserialize;

use super::readable;
use crate::model::json::write_string;
use crate::model::{Certainty, DocumentKind, Finding, FindingState, Notice, NoticeKind, Severity, timestamp, visible};

pub use crate::model::RuleText;

/// A notice as every channel sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line of at most [`SUBJECT`] characters.
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The webhook's body.
    pub json: String,
}

/// How long a subject may be, in characters.
pub const SUBJECT: usize = 150;
/// How many findings and events a mail spells out; the rest is counted.
const SHOWN: usize = 50;
/// How much of one value from an issuer (a kid, a URL) a mail shows, in characters.
const VALUE: usize = 200;
/// How much of a sentence of our own a mail shows; it may quote an issuer.
const SENTENCE: usize = 1000;
/// How many bytes of findings, and of events, a webhook's body may have: an issuer must not be able to make its
/// alerts too large to be taken. What does not fit is counted in `data.omitted`.
const BODY_SHARE: usize = 1 << 20;

/// Renders a notice; times are shown to people in `timezone`, `documents` gives the text of a rule by its id.
#[must_use]
pub fn render(notice: &Notice, documents: &dyn Fn(&str) -> RuleText, timezone: Tz) -> Message {
    let view = View::of(notice, documents, timezone);
    let (text, html) = if notice.kind == NoticeKind::Report {
        (ReportText { view: &view }.render(), ReportHtml { view: &view }.render())
    } else {
        (AlertText { view: &view }.render(), AlertHtml { view: &view }.render())
    };
    Message {
        subject: subject(notice),
        text: text.expect("a template over plain strings writes to a String") + "\n",
        html: html.expect("a template over plain strings writes to a String"),
        json: json(notice),
    }
}

/// `[high] acme: 1 unexpected new key (inc-0123456789ab)`; a long title is cut, never the incident.
fn subject(notice: &Notice) -> String {
    let tag = match notice.kind {
        NoticeKind::Resolved => "resolved",
        NoticeKind::Test => "test",
        NoticeKind::Report => "report",
        NoticeKind::Opened | NoticeKind::Updated | NoticeKind::Baseline => notice.severity.name(),
    };
    let mut title = title(notice);
    if notice.kind == NoticeKind::Baseline {
        title = format!("first look: {title}");
    }
    if let (NoticeKind::Updated, Some(remark)) = (notice.kind, &notice.remark) {
        title = format!("{title}, {}", readable(remark, SENTENCE));
    }
    let tail = match notice.kind {
        NoticeKind::Report => String::new(),
        _ => format!(" ({})", cut(&visible(&notice.incident, 40), 40)),
    };
    let room = SUBJECT.saturating_sub(tag.len() + "[] ".len() + tail.chars().count());
    format!("[{tag}] {}{tail}", cut(&title, room))
}

/// At most `room` characters, the last one `…` where something is missing.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// The notice's title without the severity that stands beside it anyway.
fn title(notice: &Notice) -> String {
    let severity = format!(" ({})", notice.severity);
    readable(notice.title.strip_suffix(&severity).unwrap_or(&notice.title), SENTENCE)
}

/// The webhook's body (interface.md). Events are spliced in as they are, so that no number or text changes.
fn json(notice: &Notice) -> String {
    let mut body = String::from("{\"type\":");
    write_string(notice.kind.name(), &mut body);
    body.push_str(",\"timestamp\":");
    write_string(&timestamp(notice.at), &mut body);
    body.push_str(",\"data\":{\"incident\":");
    write_string(&notice.incident, &mut body);
    body.push_str(",\"issuer\":");
    match notice.issuers.as_slice() {
        [issuer] => write_string(issuer.as_str(), &mut body),
        _ => body.push_str("null"),
    }
    body.push_str(",\"issuers\":");
    let issuers = notice.issuers.iter().map(|issuer| quoted_json(issuer.as_str()));
    write_list(issuers, usize::MAX, &mut body);
    body.push_str(",\"severity\":");
    write_string(notice.severity.name(), &mut body);
    body.push_str(",\"title\":");
    write_string(&notice.title, &mut body);
    body.push_str(",\"findings\":");
    let findings = notice.findings.iter().map(|finding| serde_json::to_string(finding).expect("a finding has only text members"));
    let findings_omitted = write_list(findings, BODY_SHARE, &mut body);
    body.push_str(",\"events\":");
    let events = notice.events.iter().map(|event| splice(event));
    let events_omitted = write_list(events, BODY_SHARE, &mut body);
    if findings_omitted + events_omitted > 0 {
        body.push_str(&format!(",\"omitted\":{{\"findings\":{findings_omitted},\"events\":{events_omitted}}}"));
    }
    body.push_str("}}");
    body
}

/// Appends a JSON array of those items that fit into `share` bytes; says how many did not.
fn write_list(items: impl Iterator<Item = String>, share: usize, out: &mut String) -> usize {
    let mut used = 0;
    let mut omitted = 0;
    out.push('[');
    for item in items {
        if used + item.len() > share {
            omitted += 1;
            continue;
        }
        if used > 0 {
            out.push(',');
        }
        used += item.len();
        out.push_str(&item);
    }
    out.push(']');
    omitted
}

/// An event's JSON text as it is; what strict JSON does not take (a `NaN` that an issuer wrote) goes as a string, so
/// that one odd value cannot make the whole body unreadable.
fn splice(event: &str) -> String {
    match serde_json::from_str::<serde::de::IgnoredAny>(event) {
        Ok(_) => event.to_owned(),
        Err(_) => quoted_json(event),
    }
}

fn quoted_json(text: &str) -> String {
    let mut quoted = String::new();
    write_string(text, &mut quoted);
    quoted
}

#[derive(Template)]
#[template(path = "email/alert.txt")]
struct AlertText<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "email/alert.html")]
struct AlertHtml<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "email/report.txt")]
struct ReportText<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "email/report.html")]
struct ReportHtml<'a> {
    view: &'a View,
}

/// Everything a mail's templates show: bounded texts without hidden characters.
struct View {
    /// `HIGH`, `RESOLVED`, `TEST`, …: the badge.
    badge: &'static str,
    /// The badge's colour, dark enough for white text on it.
    colour: &'static str,
    title: String,
    /// What kind of notice this is, as a sentence.
    lead: String,
    issuers: String,
    at: String,
    since: Option<String>,
    remark: Option<String>,
    findings: Vec<FindingView>,
    findings_omitted: usize,
    events: Vec<String>,
    events_omitted: usize,
    incident: String,
    /// The command that shows the incident, where there is one.
    details: Option<String>,
    /// The name of an attached document.
    attachment: Option<String>,
}

/// One finding as a mail shows it.
struct FindingView {
    /// `high`, `high, possible`, `resolved (was high)`, …
    weight: String,
    colour: &'static str,
    title: String,
    rule: String,
    issuer: Option<String>,
    message: String,
    thumbprint: Option<String>,
    kid: Option<String>,
    place: String,
    since: String,
    cites: String,
    controls: String,
    /// Step by step.
    remediation: Vec<String>,
    /// The command that accepts it, where it can be accepted.
    approve: Option<String>,
}

impl View {
    fn of(notice: &Notice, documents: &dyn Fn(&str) -> RuleText, timezone: Tz) -> Self {
        let several = notice.issuers.len() > 1;
        let mut findings: Vec<&Finding> = notice.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let (badge, colour) = badge(notice);
        Self {
            badge,
            colour,
            title: title(notice),
            lead: lead(notice),
            issuers: issuers(notice),
            at: moment(notice.at, timezone),
            since: notice.opened.map(|opened| moment(opened, timezone)),
            remark: notice.remark.as_deref().map(|remark| sentence(&readable(remark, SENTENCE))),
            findings: findings
                .iter()
                .take(SHOWN)
                .map(|finding| FindingView::of(finding, notice, &documents(&finding.rule), several, timezone))
                .collect(),
            findings_omitted: findings.len().saturating_sub(SHOWN),
            events: notice.events.iter().take(SHOWN).map(|event| in_words(event, several, timezone)).collect(),
            events_omitted: notice.events.len().saturating_sub(SHOWN),
            incident: visible(&notice.incident, 80),
            details: notice.opened.map(|_| format!("issuerwatch incidents {}", visible(&notice.incident, 80))),
            attachment: notice.attachment.as_ref().map(|(name, _)| visible(name, VALUE)),
        }
    }
}

impl FindingView {
    fn of(finding: &Finding, notice: &Notice, document: &RuleText, several: bool, timezone: Tz) -> Self {
        let open = finding.state == FindingState::Open && notice.kind != NoticeKind::Resolved;
        let rule = visible(&finding.rule, VALUE);
        Self {
            weight: weight(finding),
            colour: if open { severity_colour(finding.severity) } else { GREEN },
            title: if document.title.is_empty() { rule.clone() } else { visible(&document.title, SENTENCE) },
            rule,
            issuer: several.then(|| visible(finding.issuer.as_str(), VALUE)),
            message: readable(&finding.message, SENTENCE),
            thumbprint: finding.subject.thumbprint.as_ref().map(|thumbprint| visible(thumbprint.as_str(), VALUE)),
            kid: finding.subject.kid.as_deref().map(quoted),
            place: format!("{} {}", document_name(finding.document), visible(&finding.pointer, VALUE)).trim_end().to_owned(),
            since: moment(finding.first_seen, timezone),
            cites: list(&finding.cites),
            // Their names have commas of their own.
            controls: visible(&document.controls.join("; "), 2 * SENTENCE),
            remediation: steps(&document.remediation),
            approve: if open { approve(finding, &notice.incident) } else { None },
        }
    }
}

const GREEN: &str = "#1a7f4b";
const GREY: &str = "#57606a";

fn severity_colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "#a40e26",
        Severity::High => "#c2410c",
        Severity::Medium => "#946200",
        Severity::Low => "#0b63b5",
        Severity::Info => GREY,
    }
}

fn badge(notice: &Notice) -> (&'static str, &'static str) {
    match notice.kind {
        NoticeKind::Resolved => ("resolved", GREEN),
        NoticeKind::Test => ("test", GREY),
        NoticeKind::Report => ("report", GREY),
        NoticeKind::Opened | NoticeKind::Updated | NoticeKind::Baseline => (notice.severity.name(), severity_colour(notice.severity)),
    }
}

fn lead(notice: &Notice) -> String {
    let lead = match notice.kind {
        NoticeKind::Opened => "Something changed at a monitored issuer.",
        NoticeKind::Updated => "An incident that was told before is still open.",
        NoticeKind::Resolved => "What was reported no longer holds.",
        NoticeKind::Baseline => "The first look is done. These findings are there already; from now on only changes are told.",
        NoticeKind::Test => "This is a test message: nothing happened. It shows that alerts of issuerwatch reach you here.",
        NoticeKind::Report => "The report is attached.",
    };
    lead.to_owned()
}

fn issuers(notice: &Notice) -> String {
    let names: Vec<String> = notice.issuers.iter().map(|issuer| issuer.as_str().to_owned()).collect();
    list(&names)
}

/// Up to [`SHOWN`] items in one line.
fn list(items: &[String]) -> String {
    let mut line = items.iter().take(SHOWN).map(|item| visible(item, VALUE)).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        line.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    line
}

/// The paragraphs and list items of a rule's text, each in one line.
fn steps(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        let item = line.starts_with("- ") || line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(". ");
        match steps.last_mut().filter(|_| open && !item) {
            Some(step) if !line.is_empty() => {
                step.push(' ');
                step.push_str(line);
            }
            None if !line.is_empty() => steps.push(line.to_owned()),
            _ => {}
        }
        open = !line.is_empty();
    }
    steps.iter().take(SHOWN).map(|step| visible(step, SENTENCE)).collect()
}

fn weight(finding: &Finding) -> String {
    let mut weight = match finding.state {
        FindingState::Open => finding.severity.name().to_owned(),
        FindingState::Resolved => format!("resolved, was {}", finding.severity),
        FindingState::Waived => format!("waived, {}", finding.severity),
    };
    if finding.certainty == Certainty::Possible {
        weight.push_str(", possible");
    }
    weight
}

fn document_name(document: DocumentKind) -> &'static str {
    match document {
        DocumentKind::Discovery => "discovery document",
        DocumentKind::Jwks => "key set",
        DocumentKind::Http => "HTTP answer",
        DocumentKind::Tls => "TLS handshake",
        DocumentKind::History => "history",
        DocumentKind::Token => "token",
        DocumentKind::Policy => "policy",
    }
}

/// The command that accepts a finding; only what may be accepted has one.
fn approve(finding: &Finding, incident: &str) -> Option<String> {
    let issuer = argument("--issuer", finding.issuer.as_str());
    match (finding.rule.as_str(), &finding.subject.thumbprint) {
        ("rotation/unexpected-new-key", Some(thumbprint)) => {
            Some(format!("issuerwatch approve {issuer} {} --reason \"…\"", argument("--thumbprint", thumbprint.as_str())))
        }
        ("drift/issuer-changed" | "drift/jwks-uri-changed", _) => {
            Some(format!("issuerwatch approve {issuer} {} --reason \"…\"", argument("--incident", incident)))
        }
        _ => None,
    }
}

/// An option and its value, safe to paste into a shell. A thumbprint may begin with `-`, so that it needs the `=`.
fn argument(option: &str, value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    match value {
        value if value.is_empty() || !value.chars().all(plain) => {
            format!("{option} '{}'", visible(value, VALUE).replace('\'', "'\\''"))
        }
        value if value.starts_with('-') => format!("{option}={}", visible(value, VALUE)),
        value => format!("{option} {}", visible(value, VALUE)),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", visible(text, VALUE))
}

fn moment(at: DateTime<Utc>, timezone: Tz) -> String {
    at.with_timezone(&timezone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// With a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{first}{}{stop}", characters.as_str())
}

/// A lifecycle event as the events file has it, read leniently.
#[derive(Deserialize)]
struct Told {
    issuer: String,
    at: DateTime<Utc>,
    #[serde(flatten)]
    what: What,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum What {
    KeyAdded { kid: Option<String>, thumbprint: String },
    KeyRemoved { kid: Option<String>, thumbprint: String },
    KeyReappeared { kid: Option<String>, thumbprint: String, absent_since: DateTime<Utc> },
    KidRebound { kid: String, thumbprint: String, old: Vec<String> },
    JwksUriChanged { old: serde_json::Value, new: serde_json::Value },
    IssuerChanged { old: serde_json::Value, new: serde_json::Value },
    AlgsChanged { old: Vec<String>, new: Vec<String> },
    FetchFailed { channel: String, status: u16, error: Option<String> },
    FetchRecovered { channel: String, failed_since: DateTime<Utc> },
}

/// A lifecycle event as a sentence; one of an unknown kind as it is.
fn in_words(event: &str, several: bool, timezone: Tz) -> String {
    let Ok(told) = serde_json::from_str::<Told>(event) else {
        return visible(event, SENTENCE);
    };
    let what = match told.what {
        What::KeyAdded { kid, thumbprint } => format!("key added: {}", key(kid.as_deref(), &thumbprint)),
        What::KeyRemoved { kid, thumbprint } => format!("key removed: {}", key(kid.as_deref(), &thumbprint)),
        What::KeyReappeared { kid, thumbprint, absent_since } => {
            format!("key back: {}, absent since {}", key(kid.as_deref(), &thumbprint), moment(absent_since, timezone))
        }
        What::KidRebound { kid, thumbprint, old } => {
            format!("kid {} names another key now: thumbprint {}, before {}", quoted(&kid), visible(&thumbprint, VALUE), list(&old))
        }
        What::JwksUriChanged { old, new } => format!("jwks_uri changed from {} to {}", value(&old), value(&new)),
        What::IssuerChanged { old, new } => format!("issuer changed from {} to {}", value(&old), value(&new)),
        What::AlgsChanged { old, new } => algorithms(&old, &new),
        What::FetchFailed { channel, status, error } => {
            let why = match (error, status) {
                (Some(error), _) => readable(&error, SENTENCE),
                (None, 0) => "no answer".to_owned(),
                (None, status) => format!("HTTP {status}, not what it should be"),
            };
            format!("{} not readable: {why}", document_of(&channel))
        }
        What::FetchRecovered { channel, failed_since } => {
            format!("{} readable again, it was not since {}", document_of(&channel), moment(failed_since, timezone))
        }
    };
    let issuer = if several { format!("{}: ", visible(&told.issuer, VALUE)) } else { String::new() };
    format!("{} {issuer}{what}", moment(told.at, timezone))
}

fn key(kid: Option<&str>, thumbprint: &str) -> String {
    let kid = kid.map_or_else(|| "no kid".to_owned(), |kid| format!("kid {}", quoted(kid)));
    format!("{kid}, thumbprint {}", visible(thumbprint, VALUE))
}

fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => quoted(text),
        other => visible(&other.to_string(), VALUE),
    }
}

fn algorithms(old: &[String], new: &[String]) -> String {
    let only = |of: &[String], not: &[String]| of.iter().filter(|alg| !not.contains(alg)).cloned().collect::<Vec<_>>();
    let parts: Vec<String> = [("added", only(new, old)), ("dropped", only(old, new))]
        .into_iter()
        .filter(|(_, algs)| !algs.is_empty())
        .map(|(verb, algs)| format!("{verb} {}", list(&algs.iter().map(|alg| quoted(alg)).collect::<Vec<_>>())))
        .collect();
    format!("signing algorithms changed: {}", parts.join("; "))
}

fn document_of(channel: &str) -> String {
    match channel {
        "discovery" => "discovery document".to_owned(),
        "jwks" => "key set".to_owned(),
        other => visible(other, VALUE),
    }
}
