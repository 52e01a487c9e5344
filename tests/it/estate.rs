//! A store in memory with an estate worth reporting on: a good rotation, a bad one, a churner with hundreds of keys,
//! an issuer never seen, one that went dark, and hostile key IDs.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use issuerwatch::ledger::{ChannelState, KeyRecord, Ledger, Life};
use issuerwatch::model::json::Value;
use issuerwatch::model::{
    About, Act, Alert, AlertState, Attempt, Baseline, Body, Certainty, DocumentKind, Event, EventKind, Finding, FindingState, Grade,
    Incident, IssuerId, JudgementCounts, NotEvaluated, Observation, RuleText, Severity, Standing, Subject, Thumbprint, Unseen,
    UnseenReason,
};
use issuerwatch::store::{Cycle, Enrolment, Filter, IssuerRow, Outcome, Remembered, Span, Store, StoreError};

/// Reads what it was given; writes nothing.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) rows: Vec<IssuerRow>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) events: Vec<Event>,
    pub(crate) spans: Vec<Span>,
    pub(crate) alerts: Vec<Alert>,
    /// Every call fails.
    pub(crate) broken: bool,
}

impl Memory {
    fn answer<T>(&self, value: T) -> Result<T, StoreError> {
        if self.broken { Err(StoreError::Failed { doing: "reading", source: "disk on fire at /secret/path".into() }) } else { Ok(value) }
    }
}

fn within(at: DateTime<Utc>, filter: &Filter) -> bool {
    filter.since.is_none_or(|since| at >= since) && filter.until.is_none_or(|until| at <= until)
}

fn of(issuer: &IssuerId, filter: &Filter) -> bool {
    filter.issuer.as_ref().is_none_or(|wanted| wanted == issuer)
}

impl Store for Memory {
    fn enroll(&mut self, _: &[Enrolment]) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn claim_due(&mut self, _: DateTime<Utc>, _: Duration, _: usize) -> Result<Vec<IssuerId>, StoreError> {
        unreachable!("a report writes nothing")
    }
    fn next_due(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.answer(self.rows.iter().filter_map(|row| row.due).min())
    }
    fn hasten(&mut self, _: &IssuerId, _: DateTime<Utc>) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn remembered(&mut self, _: &IssuerId) -> Result<Remembered, StoreError> {
        self.answer(Remembered::default())
    }
    fn record(&mut self, _: &[Cycle]) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn baselines(&mut self) -> Result<Vec<Baseline>, StoreError> {
        self.answer(Vec::new())
    }
    fn tell_baselines(&mut self, _: &[IssuerId], _: &[Alert], _: &[Incident]) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn enqueue(&mut self, _: &[Alert]) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn claim_alerts(&mut self, _: DateTime<Utc>, _: Duration, _: usize) -> Result<Vec<Alert>, StoreError> {
        unreachable!("a report writes nothing")
    }
    fn next_alert(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.answer(None)
    }
    fn settle(&mut self, _: &str, _: DateTime<Utc>, _: &Outcome) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn alerts(&mut self, state: Option<AlertState>, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.answer(self.alerts.iter().filter(|alert| state.is_none_or(|state| alert.state == state)).take(limit).cloned().collect())
    }
    fn act(&mut self, _: &Act) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn acts(&mut self, _: Option<&IssuerId>) -> Result<Vec<Act>, StoreError> {
        self.answer(Vec::new())
    }
    fn issuers(&mut self) -> Result<Vec<IssuerRow>, StoreError> {
        self.answer(self.rows.clone())
    }
    fn findings(&mut self, filter: &Filter) -> Result<Vec<Finding>, StoreError> {
        let state = |finding: &&Finding| filter.states.as_ref().is_none_or(|states| states.contains(&finding.state));
        let found = self.findings.iter().filter(|finding| of(&finding.issuer, filter) && within(finding.last_seen, filter));
        self.answer(found.filter(state).cloned().collect())
    }
    fn events(&mut self, filter: &Filter) -> Result<Vec<Event>, StoreError> {
        self.answer(self.events.iter().filter(|event| of(&event.issuer, filter) && within(event.at, filter)).cloned().collect())
    }
    fn incidents(&mut self, _: &Filter) -> Result<Vec<Incident>, StoreError> {
        self.answer(Vec::new())
    }
    fn incident(&mut self, _: &str) -> Result<Option<Incident>, StoreError> {
        self.answer(None)
    }
    fn spans(&mut self, filter: &Filter) -> Result<Vec<Span>, StoreError> {
        let overlaps = |span: &&Span| {
            filter.since.is_none_or(|since| span.last_at >= since) && filter.until.is_none_or(|until| span.first.at <= until)
        };
        self.answer(self.spans.iter().filter(|span| of(&span.first.issuer, filter)).filter(overlaps).cloned().collect())
    }
    fn note(&mut self, _: &str) -> Result<Option<String>, StoreError> {
        self.answer(None)
    }
    fn set_note(&mut self, _: &str, _: &str) -> Result<(), StoreError> {
        unreachable!("a report writes nothing")
    }
    fn is_empty(&mut self) -> Result<bool, StoreError> {
        self.answer(self.rows.is_empty())
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The present of every test over the estate.
pub(crate) fn now() -> DateTime<Utc> {
    at("2026-03-15T09:30:00Z")
}

pub(crate) fn begin() -> DateTime<Utc> {
    at("2025-12-01T00:00:00Z")
}

/// Days after the begin, in fractions.
fn day(days: f64) -> DateTime<Utc> {
    #[expect(clippy::cast_possible_truncation, reason = "test data")]
    let seconds = (days * 86_400.0) as i64;
    begin() + Duration::seconds(seconds)
}

pub(crate) fn thumbprint(seed: &str) -> Thumbprint {
    let hex = issuerwatch::model::Digest::of(seed.as_bytes()).to_string();
    Thumbprint(format!("{}kQ", hex[..41].replace('0', "_").replace('f', "Z").replace('7', "y")))
}

/// A key seen from one poll to another (`None`: still), polls being six hours apart.
pub(crate) fn key(kid: &str, kind: (&str, &str), from: f64, gone: Option<f64>) -> (Thumbprint, KeyRecord) {
    let life = Life {
        after: (from > 0.0).then(|| day(from - 0.25)),
        from: day(from),
        last: gone.map(|gone| day((gone - 0.25).max(from))),
        gone: gone.map(day),
        polls: 4,
        replaced: Vec::new(),
        cut_over: false,
        unwatched: false,
    };
    let rsa = kind.0 == "RSA";
    let record = KeyRecord {
        kids: [kid.to_owned()].into(),
        kid: Some(kid.to_owned()),
        kty: Some(kind.0.to_owned()),
        crv: (!rsa).then(|| "P-256".to_owned()),
        alg: Some(kind.1.to_owned()),
        usage: Some("sig".to_owned()),
        bits: rsa.then_some(2048),
        signature: true,
        group: kind.0.to_owned(),
        lives: vec![life],
    };
    (thumbprint(&format!("{kid}{from}")), record)
}

fn ledger(keys: impl IntoIterator<Item = (Thumbprint, KeyRecord)>, last_ok: DateTime<Utc>) -> Ledger {
    let channel = ChannelState { last_attempt: Some(now()), last_ok: Some(last_ok), last_200: Some(last_ok), ..ChannelState::default() };
    Ledger { discovery: channel.clone(), jwks: channel, keys: keys.into_iter().collect(), ..Ledger::default() }
}

fn events_of(issuer: &str, ledger: &Ledger) -> Vec<Event> {
    let mut events = Vec::new();
    for (thumbprint, key) in &ledger.keys {
        for life in &key.lives {
            let (kid, thumbprint) = (key.kid.clone(), thumbprint.clone());
            if life.after.is_some() {
                let kind = EventKind::KeyAdded { kid: kid.clone(), thumbprint: thumbprint.clone() };
                events.push(Event { issuer: IssuerId::new(issuer), at: life.from, kind });
            }
            if let Some(gone) = life.gone {
                events.push(Event { issuer: IssuerId::new(issuer), at: gone, kind: EventKind::KeyRemoved { kid, thumbprint } });
            }
        }
    }
    events.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    events
}

fn attempt(unseen: Option<&Unseen>) -> Attempt {
    Attempt {
        status: if unseen.is_none() { 200 } else { 0 },
        body: unseen.is_none().then(|| Arc::new(Body::served(b"{}".to_vec()))),
        unseen: unseen.cloned(),
        ..Attempt::default()
    }
}

pub(crate) fn span(issuer: &str, from: f64, last: f64, polls: u64, discovery: Option<&Unseen>, jwks: Option<&Unseen>) -> Span {
    let first =
        Observation { issuer: IssuerId::new(issuer), at: day(from), discovery: Some(attempt(discovery)), jwks: Some(attempt(jwks)) };
    Span { first, last_at: day(last), polls }
}

fn standing(grade: Option<Grade>, reasons: &[&str]) -> Standing {
    let gap = |rule: &str, reason: &str| NotEvaluated { rule: rule.to_owned(), reason: reason.to_owned() };
    Standing {
        grade,
        grade_reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
        judgements: JudgementCounts { pass: 17, fail: reasons.len(), not_applicable: 2, not_evaluated: 3, broken: 0 },
        not_evaluated: vec![
            gap("canary/kid-not-published", "no canary configured"),
            gap("canary/token-lifetime-too-long", "no canary configured"),
            gap("rotation/overlap-too-short", "polls are too far apart to tell"),
        ],
    }
}

fn row(id: &str, url: &str, standing: Standing, ledger: Ledger) -> IssuerRow {
    let about = About {
        url: Some(url.to_owned()),
        owner: Some("identity-team@acme.example".to_owned()),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("zone".to_owned(), "workforce".to_owned())]),
        ..About::default()
    };
    IssuerRow {
        issuer: IssuerId::new(id),
        about: about.to_json(),
        retired: false,
        due: Some(now() + Duration::minutes(4)),
        last_polled: Some(now() - Duration::seconds(70)),
        last_seen: Some(now() - Duration::seconds(70)),
        standing,
        ledger,
    }
}

pub(crate) fn finding(issuer: &str, rule: &str, severity: Severity, message: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity,
        certainty: Certainty::Certain,
        issuer: IssuerId::new(issuer),
        subject: Subject::default(),
        document: DocumentKind::Jwks,
        pointer: "/keys/0/n".to_owned(),
        message: message.to_owned(),
        cites: vec!["RFC 7518 §3.3".to_owned()],
        first_seen: begin(),
        last_seen: now(),
        state: FindingState::Open,
    }
}

/// The texts of the rules that the estate breaks.
pub(crate) fn rule_text(id: &str) -> Option<RuleText> {
    let (title, cites, controls, remediation): (_, &[(&str, bool)], &[&str], _) = match id {
        "key/rsa-too-small" => (
            "RSA key is shorter than 2048 bits",
            &[("RFC 7518 §3.3", true), ("NIST SP 800-131A r2 §3", false)],
            &["NHI4", "CSF PR.AA-04", "CSF ID.RA-01", "ISO A.8.24"],
            "Publish a 3072-bit RSA or a P-256 key under a new `kid`, wait one cache lifetime, then sign with it.\n\n- keep the old key until the last token signed by it has ended\n- **never** reuse its `kid`",
        ),
        "rotation/unexpected-new-key" => (
            "A new signing key appeared outside any approved change",
            &[("OpenID Connect Core 1.0 §10.1.1", true), ("NIST SP 800-57 Part 1 r5 §8.1", true)],
            &["NHI7", "NHI1", "CSF DE.CM-06", "CSF DE.AE-02", "ZTA T5", "ZTA T7", "ISO A.8.16", "ISO A.8.32"],
            "Confirm the thumbprint with the owner before trusting tokens that it signs. Then `issuerwatch approve` it.",
        ),
        "rotation/removed-without-overlap" => (
            "A signing key was removed without overlap with its successor",
            &[("OpenID Connect Core 1.0 §10.1.1", true)],
            &["NHI7", "CSF PR.IR-03", "ISO A.8.32"],
            "Publish the old key again until every token it signed has ended.",
        ),
        "discovery/alg-none-advertised" => (
            "Unsigned tokens are advertised as supported",
            &[("OpenID Connect Discovery 1.0 §3", true)],
            &["NHI4", "CSF PR.AA-04"],
            "Remove `none` from `id_token_signing_alg_values_supported`.",
        ),
        "transport/bad-status" => (
            "Discovery or key endpoint does not answer 200",
            &[("OpenID Connect Discovery 1.0 §4.2", true), ("RFC 8414 §3.2", true)],
            &["CSF DE.CM-06", "CSF PR.IR-03", "ZTA T5", "ISO A.8.14"],
            "Restore the endpoint; serve keys from static storage or a CDN, so that an outage of the authorization server does not become one of verification.",
        ),
        _ => return None,
    };
    Some(RuleText {
        title: title.to_owned(),
        cites: cites.iter().map(|&(cite, verified)| (cite.to_owned(), verified)).collect(),
        controls: controls.iter().map(|&control| control.to_owned()).collect(),
        remediation: remediation.to_owned(),
    })
}

/// The kid of an issuer that wants to be more than text.
pub(crate) fn hostile_kid() -> String {
    format!("</text><script>alert(1)</script>\u{202E}gpj\0\r\n{}", "A".repeat(1 << 20))
}

/// Six issuers over fifteen weeks.
pub(crate) fn demo() -> Memory {
    let mut memory = Memory::default();
    add_good(&mut memory);
    add_bad(&mut memory);
    add_churner(&mut memory);
    add_dark(&mut memory);
    add_never_seen(&mut memory);
    add_hostile(&mut memory);
    add_retired(&mut memory);
    memory.rows.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    memory.events.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    memory
}

fn add(memory: &mut Memory, row: IssuerRow) {
    memory.events.extend(events_of(row.issuer.as_str(), &row.ledger));
    memory.rows.push(row);
}

fn add_good(memory: &mut Memory) {
    let keys = [
        key("2025-11", ("RSA", "RS256"), 0.0, Some(34.5)),
        key("2025-12", ("RSA", "RS256"), 27.0, Some(65.0)),
        key("2026-01", ("RSA", "RS256"), 58.0, Some(96.0)),
        key("2026-02", ("RSA", "RS256"), 89.0, None),
    ];
    let refused = Unseen::new(UnseenReason::Connect, "connection refused");
    memory.spans.push(span("acme-workforce", 0.0, 40.0, 160, None, None));
    memory.spans.push(span("acme-workforce", 40.25, 40.75, 3, Some(&refused), Some(&refused)));
    memory.spans.push(span("acme-workforce", 41.0, 104.25, 256, None, None));
    add(
        memory,
        row("acme-workforce", "https://login.acme.example", standing(Some(Grade::A), &[]), ledger(keys, now() - Duration::seconds(70))),
    );
}

fn add_bad(memory: &mut Memory) {
    let keys = [
        key("signer-1", ("RSA", "RS256"), 0.0, Some(78.0)),
        key("signer-2", ("RSA", "RS256"), 78.0, None),
        key("es-2026", ("EC", "ES256"), 30.0, None),
        key("legacy", ("RSA", "RS256"), 0.0, None),
    ];
    let id = "partner-sso";
    let subject = Subject { thumbprint: Some(keys[1].0.clone()), kid: Some("signer-2".to_owned()), line: None };
    let legacy = Subject { thumbprint: Some(keys[3].0.clone()), kid: Some("legacy".to_owned()), line: None };
    let changed = |rule, message: &str, subject: &Subject| Finding {
        subject: subject.clone(),
        document: DocumentKind::History,
        pointer: String::new(),
        first_seen: day(78.0),
        ..finding(id, rule, Severity::High, message)
    };
    memory.findings.extend([
        Finding {
            subject: legacy,
            pointer: "/keys/2/n".to_owned(),
            ..finding(id, "key/rsa-too-small", Severity::Critical, "RSA modulus has 1000 bits; at least 2048 are required")
        },
        changed(
            "rotation/unexpected-new-key",
            "a key that nobody announced appeared between 2026-02-16 18:00 and 2026-02-17 00:00 UTC",
            &subject,
        ),
        Finding {
            certainty: Certainty::Possible,
            severity: Severity::Medium,
            ..changed("rotation/removed-without-overlap", "its successor was first seen in the poll that no longer showed it", &subject)
        },
        Finding {
            document: DocumentKind::Discovery,
            pointer: "/id_token_signing_alg_values_supported/2".to_owned(),
            state: FindingState::Waived,
            ..finding(id, "discovery/alg-none-advertised", Severity::Medium, "\"none\" is advertised for ID tokens")
        },
        Finding {
            document: DocumentKind::Http,
            pointer: String::new(),
            state: FindingState::Resolved,
            first_seen: day(12.0),
            last_seen: day(12.75),
            ..finding(id, "transport/bad-status", Severity::High, "the key set answered 503 at 3 polls in a row")
        },
    ]);
    let unavailable = Unseen::new(UnseenReason::Status, 503);
    memory.spans.push(span(id, 0.0, 11.75, 48, None, None));
    memory.spans.push(span(id, 12.0, 13.5, 7, None, Some(&unavailable)));
    memory.spans.push(span(id, 13.75, 104.25, 363, None, None));
    let text = |text: &str| Value::String(text.to_owned());
    let (old, new) = (text("https://sso.partner.example/jwks"), text("https://sso.partner.example/oauth2/v1/keys"));
    memory.events.push(Event { issuer: IssuerId::new(id), at: day(50.0), kind: EventKind::JwksUriChanged { old, new } });
    let algs = |algs: &[&str]| algs.iter().map(|&alg| alg.to_owned()).collect();
    let kind = EventKind::AlgsChanged { old: algs(&["RS256", "none"]), new: algs(&["RS256", "ES256", "none"]) };
    memory.events.push(Event { issuer: IssuerId::new(id), at: day(30.0), kind });
    let reasons =
        ["1 critical finding: RSA key is shorter than 2048 bits", "1 high finding: a new signing key appeared outside any approved change"];
    add(
        memory,
        row(id, "https://sso.partner.example/tenant/8f2c", standing(Some(Grade::F), &reasons), ledger(keys, now() - Duration::seconds(70))),
    );
}

fn add_churner(memory: &mut Memory) {
    let keys = (0..600_u32).map(|number| {
        let from = f64::from(number) * 104.0 / 600.0;
        let life = 1.0 + f64::from(number * 7 % 11) / 8.0 + if (200..320).contains(&number) { 2.5 } else { 0.0 };
        let gone = from + life;
        key(&format!("rot-{number:04}"), ("EC", "ES256"), from, (gone < 104.25).then_some(gone))
    });
    memory.spans.push(span("ephemeral-ci", 0.0, 104.25, 418, None, None));
    add(
        memory,
        row(
            "ephemeral-ci",
            "https://token.actions.example",
            standing(Some(Grade::B), &["1 medium finding"]),
            ledger(keys.collect::<Vec<_>>(), now() - Duration::seconds(70)),
        ),
    );
    memory.findings.push(Finding {
        document: DocumentKind::Discovery,
        ..finding("ephemeral-ci", "discovery/alg-none-advertised", Severity::Medium, "\"none\" is advertised for ID tokens")
    });
}

fn add_dark(memory: &mut Memory) {
    let keys = [key("main", ("RSA", "PS256"), 0.0, None), key("next", ("RSA", "PS256"), 60.0, None)];
    let dark = Unseen::new(UnseenReason::Timeout, "no answer within 10 s");
    memory.spans.push(span("billing-b2b", 0.0, 99.75, 400, None, None));
    memory.spans.push(span("billing-b2b", 100.0, 104.25, 18, Some(&dark), Some(&dark)));
    let row = row("billing-b2b", "https://id.billing.example/", standing(Some(Grade::A), &[]), ledger(keys, day(99.75)));
    add(memory, IssuerRow { last_seen: Some(day(99.75)), ..row });
}

fn add_never_seen(memory: &mut Memory) {
    let dns = Unseen::new(UnseenReason::Dns, "no such name");
    let mut unseen = span("acquired-co", 80.0, 104.25, 98, Some(&dns), None);
    unseen.first.jwks = None;
    memory.spans.push(unseen);
    let row = row("acquired-co", "https://auth.acquired.example", Standing::default(), Ledger::default());
    add(memory, IssuerRow { last_seen: None, ..row });
}

fn add_hostile(memory: &mut Memory) {
    let kid = hostile_kid();
    let keys = [key(&kid, ("RSA", "RS256"), 3.0, None), key("", ("EC", "ES256\u{202E}<b>"), 20.0, Some(24.0))];
    let subject = Subject { thumbprint: None, kid: Some(kid.clone()), line: None };
    let message = format!("kid {} is odd <img src=x onerror=alert(1)>", &kid[..60]);
    memory.findings.push(Finding {
        subject,
        pointer: format!("/keys/0/{kid}"),
        ..finding("hostile", "jwks/kid-unsafe", Severity::Low, &message)
    });
    memory.spans.push(span("hostile", 3.0, 104.25, 400, None, None));
    let text = |text: String| Value::String(text);
    let changed = EventKind::IssuerChanged { old: text("javascript:alert(1)".to_owned()), new: text(format!("\"><svg onload=x>{kid}")) };
    memory.events.push(Event { issuer: IssuerId::new("hostile"), at: day(26.0), kind: changed });
    let row = row(
        "hostile",
        "https://hostile.example/\"><script>x</script>",
        standing(Some(Grade::A), &[]),
        ledger(keys, now() - Duration::seconds(70)),
    );
    add(memory, row);
}

fn add_retired(memory: &mut Memory) {
    let keys = [key("old", ("RSA", "RS256"), 0.0, None)];
    let row = row("old-portal", "https://portal.acme.example", standing(Some(Grade::A), &[]), ledger(keys, day(20.0)));
    memory.spans.push(span("old-portal", 0.0, 20.0, 80, None, None));
    add(memory, IssuerRow { retired: true, due: None, last_polled: Some(day(20.0)), last_seen: Some(day(20.0)), ..row });
}
