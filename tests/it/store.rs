//! The store's contract, run once over every backend; then what is SQLite's own, and the async front.

#![expect(clippy::unwrap_used, reason = "most of these functions are bodies of tests, which clippy cannot see")]

mod db;
mod sqlite;

use std::sync::Arc;

use chrono::{DateTime, Duration, TimeZone as _, Utc};
use issuerwatch::ledger::Ledger;
use issuerwatch::model::json::{Object, Value};
use issuerwatch::model::{
    Act, ActKind, Alert, AlertState, Attempt, Baseline, Body, Certainty, CertificateFacts, Channel, Destination, DocumentKind, Event,
    EventKind, Finding, FindingState, Incident, IncidentKind, IncidentState, IssuerId, Notice, NoticeKind, Observation, Redirect, Severity,
    Standing, Subject, Thumbprint, TlsFacts, Unseen, UnseenReason,
};
use issuerwatch::store::{Cycle, Enrolment, Filter, Outcome, Store, StoreError};

/// Names every test of the contract once; `backend!` makes a module of them for one backend.
macro_rules! contract {
    ($($name:ident)*) => {
        macro_rules! backend {
            ($backend:ident, $open:expr) => {
                mod $backend {
                    $(#[test]
                    fn $name() {
                        super::$name(&mut $open);
                    })*
                }
            };
        }
    };
}

contract! {
    a_new_issuer_is_due_when_it_says_and_is_claimed_once
    a_lease_that_ends_is_handed_out_again
    only_so_many_issuers_are_claimed_oldest_first
    a_due_time_survives_a_restart
    a_changed_schedule_moves_the_due_time
    an_earlier_due_time_wins_at_enrolment
    an_issuer_no_longer_named_is_retired_and_keeps_its_history
    a_retired_issuer_returns
    a_restart_gives_up_claims_and_a_reload_keeps_them
    hastening_outlives_the_poll_in_hand
    an_unknown_issuer_is_refused_and_nothing_stays
    one_bad_cycle_of_a_group_leaves_nothing
    an_issuer_never_seen_is_remembered_as_nothing
    everything_recorded_is_read_back
    an_equal_observation_lengthens_its_span
    another_answer_begins_a_span
    a_span_that_flaps_stores_bodies_once
    an_older_observation_is_refused
    cookies_are_not_stored
    a_body_that_is_not_its_hash_is_refused
    odd_bodies_come_back_byte_for_byte
    key_sets_that_change_key_by_key_come_back
    touched_channels_lie_over_the_ledger
    a_stored_ledger_replaces_touches
    findings_are_upserted_by_issuer_rule_and_subject
    an_open_finding_was_seen_at_the_last_equal_look
    findings_are_filtered
    events_come_back_lossless_and_in_order
    events_are_filtered
    incidents_are_upserted_and_filtered
    spans_are_filtered_by_overlap
    an_alert_is_enqueued_once
    alerts_are_claimed_when_due_and_settled
    resolved_never_overtakes_opened
    a_dead_alert_lets_the_next_one_go
    what_was_delivered_stays_delivered
    an_unknown_alert_cannot_be_settled
    baselines_wait_until_told
    acts_are_kept_oldest_first
    notes_are_set_and_overwritten
    an_empty_store_says_so
    hostile_text_is_only_text
}

backend!(over_sqlite, issuerwatch::store::Sqlite::in_memory().unwrap());

// ── Issuers ────────────────────────────────────────────────────────────────

fn a_new_issuer_is_due_when_it_says_and_is_claimed_once(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 10)]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(10)));
    assert_eq!(store.claim_due(at(9), minute(), 9).unwrap(), []);
    assert_eq!(store.claim_due(at(10), minute(), 9).unwrap(), [acme()]);
    assert_eq!(store.claim_due(at(10), minute(), 9).unwrap(), [], "claimed is claimed");
    store.record(&[Cycle { issuer: Some(acme()), due: Some(at(300)), ..Cycle::default() }]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(300)));
    assert_eq!(store.claim_due(at(300), minute(), 9).unwrap(), [acme()]);
}

fn a_lease_that_ends_is_handed_out_again(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0)]).unwrap();
    assert_eq!(store.claim_due(at(0), minute(), 9).unwrap(), [acme()]);
    assert_eq!(store.next_due().unwrap(), Some(at(60)), "the end of the lease");
    assert_eq!(store.claim_due(at(59), minute(), 9).unwrap(), []);
    assert_eq!(store.claim_due(at(60), minute(), 9).unwrap(), [acme()]);
}

fn only_so_many_issuers_are_claimed_oldest_first(store: &mut dyn Store) {
    store.enroll(&[enrolment("c", 3), enrolment("a", 2), enrolment("b", 1)]).unwrap();
    assert_eq!(store.claim_due(at(9), minute(), 2).unwrap(), [id("b"), id("a")]);
    assert_eq!(store.next_due().unwrap(), Some(at(3)));
    assert_eq!(store.claim_due(at(9), minute(), 0).unwrap(), []);
    assert_eq!(store.claim_due(at(9), minute(), 2).unwrap(), [id("c")]);
}

fn a_due_time_survives_a_restart(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 10)]).unwrap();
    store.enroll(&[Enrolment { about: "{\"owner\":\"x\"}".into(), ..enrolment("acme", 25) }]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(10)));
    assert_eq!(store.issuers().unwrap()[0].about, "{\"owner\":\"x\"}", "what it is about is taken over");
}

fn a_changed_schedule_moves_the_due_time(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 10)]).unwrap();
    store.enroll(&[Enrolment { schedule: "1d".into(), ..enrolment("acme", 25) }]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(25)));
}

fn an_earlier_due_time_wins_at_enrolment(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 86_400)]).unwrap();
    store.enroll(&[enrolment("acme", 30)]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(30)));
}

fn an_issuer_no_longer_named_is_retired_and_keeps_its_history(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0), enrolment("other", 0)]).unwrap();
    store.claim_due(at(0), minute(), 1).unwrap();
    store.enroll(&[enrolment("other", 0)]).unwrap();
    // The poll in hand comes home: its history counts, but it is not polled again.
    store.record(&[Cycle { due: Some(at(300)), ..looked(0, b"{}") }]).unwrap();
    let rows = store.issuers().unwrap();
    assert_eq!((rows[0].issuer.clone(), rows[0].retired, rows[0].due, rows[0].last_polled), (acme(), true, None, Some(at(0))));
    assert_eq!(store.claim_due(at(999), minute(), 9).unwrap(), [id("other")]);
    store.hasten(&acme(), at(1)).unwrap();
    assert_eq!(store.issuers().unwrap()[0].due, None);
    assert_eq!(store.spans(&Filter::default()).unwrap().len(), 1);
}

fn a_retired_issuer_returns(store: &mut dyn Store) {
    enrolled(store);
    store.record(&[looked(0, b"{}")]).unwrap();
    store.enroll(&[]).unwrap();
    assert_eq!(store.next_due().unwrap(), None);
    store.enroll(&[enrolment("acme", 40)]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(40)));
    assert!(store.remembered(&acme()).unwrap().last.is_some());
}

fn a_restart_gives_up_claims_and_a_reload_keeps_them(store: &mut dyn Store) {
    // This handle's first enrolment is a start, each later one a reload; a real restart is tested over files.
    enrolled(store);
    store.claim_due(at(0), minute(), 9).unwrap();
    enrolled(store);
    assert_eq!(store.claim_due(at(0), minute(), 9).unwrap(), [], "the poll is still in hand");
}

fn hastening_outlives_the_poll_in_hand(store: &mut dyn Store) {
    enrolled(store);
    store.claim_due(at(0), minute(), 9).unwrap();
    store.hasten(&acme(), at(5)).unwrap();
    assert_eq!(store.claim_due(at(5), minute(), 9).unwrap(), [], "still claimed");
    store.record(&[Cycle { due: Some(at(300)), ..looked(4, b"{}") }]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(5)), "the poll did not know of the decision");
    store.claim_due(at(5), minute(), 9).unwrap();
    store.record(&[Cycle { due: Some(at(300)), ..looked(6, b"{}") }]).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(300)));
    store.hasten(&acme(), at(400)).unwrap();
    assert_eq!(store.next_due().unwrap(), Some(at(300)), "never later");
    store.hasten(&id("nobody"), at(1)).unwrap();
}

// ── Recording ──────────────────────────────────────────────────────────────

fn an_unknown_issuer_is_refused_and_nothing_stays(store: &mut dyn Store) {
    let refused = store.record(&[Cycle { alerts: vec![alert("inc-1", NoticeKind::Opened, 0)], ..looked(0, b"{}") }]).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("\"acme\"")), "{refused}");
    assert!(store.is_empty().unwrap());
}

fn one_bad_cycle_of_a_group_leaves_nothing(store: &mut dyn Store) {
    enrolled(store);
    let stray = Observation { issuer: id("stray"), ..observed(1, b"{}") };
    let bad = Cycle { observations: vec![observed(1, b"{}"), stray], ..Cycle::default() };
    assert!(matches!(store.record(&[looked(0, b"{}"), bad]), Err(StoreError::Refused(_))));
    assert!(store.spans(&Filter::default()).unwrap().is_empty());
}

fn an_issuer_never_seen_is_remembered_as_nothing(store: &mut dyn Store) {
    store.act(&announcement(5, "acme", "A")).unwrap();
    for _ in 0..2 {
        let remembered = store.remembered(&acme()).unwrap();
        assert_eq!(remembered.ledger, Ledger::default());
        assert!(remembered.findings.is_empty() && remembered.incidents.is_empty() && remembered.last.is_none());
        assert_eq!(remembered.acts, [announcement(5, "acme", "A")], "a key may be announced before the first poll");
        enrolled(store);
    }
}

fn everything_recorded_is_read_back(store: &mut dyn Store) {
    enrolled(store);
    let mut ledger = Ledger::default();
    ledger.keys.insert(Thumbprint("T".into()), issuerwatch::ledger::KeyRecord { kid: Some("k".into()), ..Default::default() });
    ledger.additions = vec![at(7)];
    let standing = Standing { grade: Some(issuerwatch::model::Grade::C), grade_reasons: vec!["why".into()], ..Standing::default() };
    let observation = rich_observation();
    let cycle = Cycle {
        observations: vec![observation.clone()],
        issuer: Some(acme()),
        ledger: Some(ledger.clone()),
        standing: Some(standing.clone()),
        findings: vec![finding("key/rsa-too-small", "T", FindingState::Open)],
        events: vec![added(7, "T")],
        incidents: vec![incident("inc-1", 7, None)],
        alerts: vec![alert("inc-1", NoticeKind::Opened, 0)],
        baseline: Some(baseline("acme")),
        touched: Vec::new(),
        due: Some(at(300)),
    };
    store.record(std::slice::from_ref(&cycle)).unwrap();

    let remembered = store.remembered(&acme()).unwrap();
    assert_eq!(remembered.ledger, ledger);
    assert_eq!(remembered.findings, cycle.findings);
    assert_eq!(remembered.incidents, cycle.incidents);
    assert_eq!(remembered.last, Some(observation.clone()));
    let rows = store.issuers().unwrap();
    assert_eq!((rows[0].due, rows[0].last_polled, rows[0].last_seen), (Some(at(300)), Some(at(7)), Some(at(7))));
    assert_eq!((&rows[0].standing, &rows[0].ledger, rows[0].retired), (&standing, &ledger, false));
    assert_eq!(store.findings(&Filter::default()).unwrap(), cycle.findings);
    assert_eq!(store.events(&Filter::default()).unwrap(), cycle.events);
    assert_eq!(store.incidents(&Filter::default()).unwrap(), cycle.incidents);
    assert_eq!(store.incident("inc-1").unwrap().as_ref(), cycle.incidents.first());
    assert_eq!(store.incident("inc-2").unwrap(), None);
    assert_eq!(store.alerts(None, 9).unwrap(), cycle.alerts);
    assert_eq!(store.baselines().unwrap(), [baseline("acme")]);
    let spans = store.spans(&Filter::default()).unwrap();
    assert_eq!((spans.len(), &spans[0].first, spans[0].last_at, spans[0].polls), (1, &observation, at(7), 1));
}

fn an_equal_observation_lengthens_its_span(store: &mut dyn Store) {
    enrolled(store);
    let first = rich_observation();
    let mut again = Observation { at: at(307), ..first.clone() };
    let jwks = again.jwks.as_mut().unwrap();
    jwks.headers.retain(|(name, _)| name != "Age");
    jwks.headers[0].1 = "Sat, 01 Jan 2028 00:00:00 GMT".into();
    jwks.headers.iter_mut().find(|(name, _)| name == "Cache-Control").unwrap().1 = "MAX-AGE=3,public".into();
    (jwks.took_ms, jwks.address) = (Some(999), Some("192.0.2.9:443".into()));
    assert!(first.same_answer(&again));
    store.record(&[Cycle { observations: vec![first.clone()], ..Cycle::default() }]).unwrap();
    store.record(&[Cycle { observations: vec![again.clone()], ..Cycle::default() }]).unwrap();
    store.record(&[Cycle { observations: vec![again], ..Cycle::default() }]).unwrap(); // the same second again
    let spans = store.spans(&Filter::default()).unwrap();
    assert_eq!((spans.len(), spans[0].last_at, spans[0].polls), (1, at(307), 3));
    assert_eq!(spans[0].first, first);
    assert_eq!(store.remembered(&acme()).unwrap().last.unwrap().at, at(307));
    assert_eq!(store.issuers().unwrap()[0].last_polled, Some(at(307)));
}

fn another_answer_begins_a_span(store: &mut dyn Store) {
    let changes: [fn(&mut Attempt); 9] = [
        |a| a.url.push('/'),
        |a| a.status = 203,
        |a| a.body = Some(Arc::new(Body::served(b"{\"keys\":[ ]}".to_vec()))),
        |a| a.unseen = Some(Unseen::new(UnseenReason::Timeout, "10 s")),
        |a| a.redirects.push(Redirect { status: 307, to: "https://b.example".into() }),
        |a| a.tls.as_mut().unwrap().chain[0].sha256 = "cd".into(),
        |a| a.headers.iter_mut().filter(|(name, _)| name == "Cache-Control").for_each(|header| header.1 = "no-store".into()),
        |a| a.headers.retain(|(name, _)| name != "ETag"),
        |a| a.headers.push(("content-type".into(), "text/html".into())),
    ];
    enrolled(store);
    let mut observation = rich_observation();
    store.record(&[Cycle { observations: vec![observation.clone()], ..Cycle::default() }]).unwrap();
    let mut all = vec![observation.clone()];
    for change in changes {
        observation.at += minute();
        change(observation.jwks.as_mut().unwrap());
        all.push(observation.clone());
        store.record(&[Cycle { observations: vec![observation.clone()], ..Cycle::default() }]).unwrap();
    }
    observation.at += minute();
    observation.jwks = None;
    all.push(observation.clone());
    store.record(&[Cycle { observations: vec![observation], ..Cycle::default() }]).unwrap();
    let firsts: Vec<Observation> = store.spans(&Filter::default()).unwrap().into_iter().map(|span| span.first).collect();
    assert_eq!(firsts, all);
}

fn a_span_that_flaps_stores_bodies_once(store: &mut dyn Store) {
    enrolled(store);
    for second in 0..20 {
        store.record(&[looked(second, if second % 2 == 0 { b"{\"keys\":[]}" } else { b"{}" })]).unwrap();
    }
    let spans = store.spans(&Filter::default()).unwrap();
    let body = |index: usize| spans[index].first.jwks.as_ref().unwrap().body.clone().unwrap();
    assert_eq!(spans.len(), 20);
    assert!(Arc::ptr_eq(&body(0), &body(18)), "and reads them once");
    assert_eq!(body(19).bytes, b"{}");
}

fn an_older_observation_is_refused(store: &mut dyn Store) {
    enrolled(store);
    store.record(&[looked(100, b"{}")]).unwrap();
    let refused = store.record(&[looked(99, b"{}")]).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("older than its newest")), "{refused}");
    assert_eq!(store.spans(&Filter::default()).unwrap()[0].polls, 1);
}

fn cookies_are_not_stored(store: &mut dyn Store) {
    enrolled(store);
    let mut observation = observed(0, b"{}");
    let headers = [("Set-Cookie", "session=secret"), ("X-Request-Id", "abc"), ("X-Custom", "kept"), ("Server", "nginx")];
    observation.jwks.as_mut().unwrap().headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    store.record(&[Cycle { observations: vec![observation], ..Cycle::default() }]).unwrap();
    let kept = store.remembered(&acme()).unwrap().last.unwrap().jwks.unwrap().headers;
    assert_eq!(kept, [("X-Custom".to_owned(), "kept".to_owned()), ("Server".to_owned(), "nginx".to_owned())]);
}

fn a_body_that_is_not_its_hash_is_refused(store: &mut dyn Store) {
    enrolled(store);
    let mut observation = observed(0, b"{}");
    let redacted = |pointers: &[&str]| Body {
        redacted: pointers.iter().map(|&pointer| pointer.to_owned()).collect(),
        ..Body { bytes: b"{\"keys\":[{\"k\":\"\"}]}".to_vec(), ..Body::served(b"original".to_vec()) }
    };
    observation.jwks.as_mut().unwrap().body = Some(Arc::new(redacted(&[])));
    let refused = store.record(&[Cycle { observations: vec![observation.clone()], ..Cycle::default() }]);
    assert!(matches!(refused, Err(StoreError::Refused(_))), "bytes were changed without saying what was cut out");
    observation.jwks.as_mut().unwrap().body = Some(Arc::new(redacted(&["/keys/0/k"])));
    store.record(&[Cycle { observations: vec![observation.clone()], ..Cycle::default() }]).unwrap();
    assert_eq!(store.remembered(&acme()).unwrap().last, Some(observation));
}

fn odd_bodies_come_back_byte_for_byte(store: &mut dyn Store) {
    enrolled(store);
    let trained = [&[0x37, 0xa4, 0x30, 0xec][..], &[7; 300]].concat();
    let bodies: [&[u8]; 7] =
        [b"", &[0; 100_000], &[0xff, 0xfe, 0], &trained, &[&trained[..], b"x"].concat(), b"{}", "{\"\u{202e}\":1}".as_bytes()];
    for (second, body) in (0..).zip(bodies) {
        store.record(&[looked(second, body)]).unwrap();
    }
    let spans = store.spans(&Filter::default()).unwrap();
    let read: Vec<&[u8]> = spans.iter().map(|span| &span.first.jwks.as_ref().unwrap().body.as_ref().unwrap().bytes[..]).collect();
    assert_eq!(read, bodies);
}

fn key_sets_that_change_key_by_key_come_back(store: &mut dyn Store) {
    enrolled(store);
    let key = |number: i64| format!("{{\"kid\":\"{number}\",\"n\":\"{}\"}}", Body::served(number.to_le_bytes().to_vec()).sha256);
    let set = |newest: i64| format!("{{\"keys\":[{}]}}", (newest..newest + 30).map(key).collect::<Vec<_>>().join(","));
    for day in 0..40 {
        store.record(&[looked(day, set(day).as_bytes())]).unwrap();
    }
    let spans = store.spans(&Filter::default()).unwrap();
    for (day, span) in (0..).zip(&spans) {
        assert_eq!(span.first.jwks.as_ref().unwrap().body.as_ref().unwrap().bytes, set(day).as_bytes());
    }
    assert_eq!(store.remembered(&acme()).unwrap().last, Some(observed(39, set(39).as_bytes())));
}

fn touched_channels_lie_over_the_ledger(store: &mut dyn Store) {
    enrolled(store);
    let mut ledger = Ledger { additions: vec![at(1)], ..Ledger::default() };
    store.record(&[Cycle { ledger: Some(ledger.clone()), ..looked(0, b"{}") }]).unwrap();
    store.record(&[Cycle { touched: vec![(Channel::Jwks, at(60)), (Channel::Discovery, at(59))], ..looked(60, b"{}") }]).unwrap();
    store.record(&[Cycle { touched: vec![(Channel::Jwks, at(120))], ..looked(120, b"{}") }]).unwrap();
    ledger.touch(Channel::Discovery, at(59));
    ledger.touch(Channel::Jwks, at(120));
    assert_eq!(store.remembered(&acme()).unwrap().ledger, ledger);
    assert_eq!(store.issuers().unwrap()[0].ledger, ledger);
}

fn a_stored_ledger_replaces_touches(store: &mut dyn Store) {
    enrolled(store);
    store.record(&[Cycle { touched: vec![(Channel::Jwks, at(60)), (Channel::Discovery, at(60))], ..looked(60, b"{}") }]).unwrap();
    let mut ledger = Ledger::default();
    ledger.jwks.failures = 1;
    ledger.jwks.last_ok = Some(at(60));
    ledger.jwks.last_attempt = Some(at(120));
    let cycle = Cycle { ledger: Some(ledger.clone()), touched: vec![(Channel::Discovery, at(120))], ..looked(120, b"{}") };
    store.record(&[cycle]).unwrap();
    ledger.touch(Channel::Discovery, at(120));
    assert_eq!(store.remembered(&acme()).unwrap().ledger, ledger);
}

// ── What was judged ────────────────────────────────────────────────────────

fn findings_are_upserted_by_issuer_rule_and_subject(store: &mut dyn Store) {
    enrolled(store);
    let first = vec![
        finding("key/rsa-too-small", "T", FindingState::Open),
        finding("key/rsa-too-small", "U", FindingState::Open),
        finding("jwks/kid-missing", "", FindingState::Open),
        Finding {
            subject: Subject { kid: Some("k\u{0}'\"".into()), line: Some(3), thumbprint: None },
            ..finding("jwks/duplicate-kid", "", FindingState::Waived)
        },
    ];
    store.record(&[Cycle { findings: first.clone(), ..looked(0, b"{}") }]).unwrap();
    let mut sorted = first.clone();
    sorted.sort_by_key(Finding::key);
    assert_eq!(store.findings(&Filter::default()).unwrap(), sorted);
    assert_eq!(store.remembered(&acme()).unwrap().findings, sorted);

    let resolved = Finding {
        severity: Severity::Low,
        message: "another text".into(),
        subject: Subject { kid: Some("another label".into()), ..first[0].subject.clone() },
        ..finding("key/rsa-too-small", "T", FindingState::Resolved)
    };
    store.record(&[Cycle { findings: vec![resolved.clone()], ..looked(0, b"{}") }]).unwrap();
    assert_eq!(store.remembered(&acme()).unwrap().findings.len(), 3);
    assert!(store.findings(&Filter::default()).unwrap().contains(&resolved));
    assert_eq!(store.findings(&Filter::default()).unwrap().len(), 4);
}

fn an_open_finding_was_seen_at_the_last_equal_look(store: &mut dyn Store) {
    enrolled(store);
    let findings = vec![finding("key/rsa-too-small", "T", FindingState::Open), finding("key/rsa-too-small", "U", FindingState::Resolved)];
    store.record(&[Cycle { findings, ..looked(2, b"{}") }]).unwrap();
    store.record(&[Cycle { touched: vec![(Channel::Discovery, at(50)), (Channel::Jwks, at(60))], ..looked(60, b"{}") }]).unwrap();
    let last_seen: Vec<_> = store.findings(&Filter::default()).unwrap().iter().map(|finding| finding.last_seen).collect();
    assert_eq!(last_seen, [at(60), at(2)], "open and resolved");
}

fn findings_are_filtered(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0), enrolment("other", 0)]).unwrap();
    let seen =
        |rule: &str, first: i64, last: i64, state| Finding { first_seen: at(first), last_seen: at(last), ..finding(rule, "", state) };
    let findings = vec![
        seen("a/old-open", 0, 10, FindingState::Open),
        seen("a/old-resolved", 0, 10, FindingState::Resolved),
        seen("a/late", 100, 110, FindingState::Resolved),
        Finding { issuer: id("other"), ..seen("a/waived", 0, 10, FindingState::Waived) },
    ];
    store.record(&[Cycle { findings, ..Cycle::default() }]).unwrap();
    let mut rules = |filter: &Filter| -> Vec<String> { store.findings(filter).unwrap().into_iter().map(|finding| finding.rule).collect() };
    assert_eq!(rules(&Filter { issuer: Some(id("other")), ..Filter::default() }), ["a/waived"]);
    assert_eq!(rules(&Filter { since: Some(at(11)), ..Filter::default() }), ["a/late", "a/old-open", "a/waived"]);
    assert_eq!(rules(&Filter { since: Some(at(10)), until: Some(at(99)), ..Filter::default() }).len(), 3);
    let states = Some(vec![FindingState::Waived, FindingState::Resolved]);
    assert_eq!(rules(&Filter { states, ..Filter::default() }), ["a/late", "a/old-resolved", "a/waived"]);
    assert!(rules(&Filter { states: Some(Vec::new()), ..Filter::default() }).is_empty());
}

fn events_come_back_lossless_and_in_order(store: &mut dyn Store) {
    enrolled(store);
    let odd = Value::Object(Object {
        members: vec![
            ("".into(), Value::Array(vec![Value::Number("1.0E+2".into()), Value::Number("-0".into())])),
            ("a".into(), Value::Object(Object::default())),
            ("b\u{0}\u{1f}\u{7f}\"\\/\n\r\t\u{8}\u{c}\u{1f600}".into(), Value::Bool(false)),
            ("c".into(), Value::Array(Vec::new())),
            ("d".into(), (0..120).fold(Value::Null, |inner, _| Value::Array(vec![inner]))),
            ("e".into(), Value::Number(format!("1{}.5", "0".repeat(400)))),
        ],
    });
    let thumbprint = |text: &str| Thumbprint(text.into());
    let kinds = vec![
        EventKind::AlgsChanged { old: vec!["RS256".into()], new: vec![String::new(), "ES256".into()] },
        EventKind::FetchFailed { channel: Channel::Jwks, status: 503, error: Some("HTTP 503".into()) },
        EventKind::FetchFailed { channel: Channel::Discovery, status: 200, error: None },
        EventKind::FetchRecovered { channel: Channel::Discovery, failed_since: at(3) },
        EventKind::IssuerChanged { old: odd.clone(), new: Value::Null },
        EventKind::JwksUriChanged { old: Value::String("https://a.example/\u{202e}".into()), new: odd },
        EventKind::KeyAdded { kid: None, thumbprint: thumbprint("A") },
        EventKind::KeyAdded { kid: Some(String::new()), thumbprint: thumbprint("B") },
        EventKind::KeyReappeared { kid: Some("\u{0}".into()), thumbprint: thumbprint("raw:C"), absent_since: at(-5) },
        EventKind::KeyRemoved { kid: Some("null".into()), thumbprint: thumbprint("D") },
        EventKind::KidRebound { kid: "k".into(), thumbprint: thumbprint("E"), old: vec![thumbprint("A"), thumbprint("B")] },
    ];
    let events: Vec<Event> = kinds.into_iter().map(|kind| Event { issuer: acme(), at: at(7), kind }).collect();
    let mut sorted = events.clone();
    sorted.push(Event { at: at(8), ..added(8, "Z") });
    sorted.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    store.record(&[Cycle { events: vec![added(8, "Z")], ..Cycle::default() }]).unwrap();
    store.record(&[Cycle { events: events.into_iter().rev().collect(), ..Cycle::default() }]).unwrap();
    let read = store.events(&Filter::default()).unwrap();
    assert_eq!(read, sorted);
    assert_eq!(Notice::event_lines(&read), Notice::event_lines(&sorted));
}

fn events_are_filtered(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0), enrolment("other", 0)]).unwrap();
    let events = vec![added(1, "A"), added(2, "B"), added(3, "C"), Event { issuer: id("other"), ..added(2, "O") }];
    store.record(&[Cycle { events, ..Cycle::default() }]).unwrap();
    let mut count = |filter: Filter| store.events(&filter).unwrap().len();
    assert_eq!(count(Filter { issuer: Some(acme()), ..Filter::default() }), 3);
    assert_eq!(count(Filter { since: Some(at(2)), until: Some(at(2)), ..Filter::default() }), 2, "both ends included");
    assert_eq!(count(Filter { since: Some(at(2) + Duration::milliseconds(1)), ..Filter::default() }), 1);
    assert_eq!(count(Filter { issuer: Some(id("nobody")), ..Filter::default() }), 0);
}

fn incidents_are_upserted_and_filtered(store: &mut dyn Store) {
    enrolled(store);
    let incidents = vec![
        incident("inc-1", 1, None),
        incident("inc-2", 2, Some(5)),
        incident("inc-3", 9, Some(12)),
        Incident { issuer: id("the monitor"), ..incident("inc-4", 20, None) },
    ];
    store.record(&[Cycle { incidents, ..Cycle::default() }]).unwrap();
    let told = Incident { notices: 2, last_told: Some(at(3) + Duration::milliseconds(7)), ..incident("inc-1", 1, None) };
    store.record(&[Cycle { incidents: vec![told.clone()], ..Cycle::default() }]).unwrap();
    assert_eq!(store.remembered(&acme()).unwrap().incidents, std::slice::from_ref(&told));
    let mut ids = |filter: Filter| -> Vec<String> { store.incidents(&filter).unwrap().into_iter().map(|incident| incident.id).collect() };
    assert_eq!(ids(Filter::default()), ["inc-4", "inc-3", "inc-2", "inc-1"], "newest first");
    assert_eq!(ids(Filter { since: Some(at(6)), ..Filter::default() }), ["inc-4", "inc-3", "inc-1"], "not over before");
    assert_eq!(ids(Filter { until: Some(at(8)), issuer: Some(acme()), ..Filter::default() }), ["inc-2", "inc-1"]);
    assert_eq!(ids(Filter { states: Some(vec![FindingState::Resolved]), ..Filter::default() }), ["inc-3", "inc-2"]);
}

fn spans_are_filtered_by_overlap(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0), enrolment("other", 0)]).unwrap();
    let other = Observation { issuer: id("other"), ..observed(15, b"{}") };
    let looks = [observed(0, b"{}"), observed(10, b"{}"), observed(20, b"{ }"), observed(30, b"{ }")];
    store.record(&[Cycle { observations: looks.into(), ..Cycle::default() }]).unwrap();
    store.record(&[Cycle { observations: vec![other], ..Cycle::default() }]).unwrap();
    let mut firsts = |since: Option<i64>, until: Option<i64>, issuer: Option<IssuerId>| -> Vec<DateTime<Utc>> {
        let filter = Filter { since: since.map(at), until: until.map(at), issuer, ..Filter::default() };
        store.spans(&filter).unwrap().into_iter().map(|span| span.first.at).collect()
    };
    assert_eq!(firsts(None, None, None), [at(0), at(15), at(20)]);
    assert_eq!(firsts(Some(5), Some(7), None), [at(0)], "between its polls it stood");
    assert_eq!(firsts(Some(11), None, Some(acme())), [at(20)]);
    assert_eq!(firsts(Some(10), Some(20), Some(acme())), [at(0), at(20)]);
    assert!(firsts(Some(31), None, None).is_empty());
}

// ── Telling ────────────────────────────────────────────────────────────────

fn an_alert_is_enqueued_once(store: &mut dyn Store) {
    let first = alert("inc-1", NoticeKind::Opened, 0);
    store.enqueue(&[first.clone(), first.clone()]).unwrap();
    store.settle(&first.id, at(1), &Outcome::Delivered).unwrap();
    store.enqueue(std::slice::from_ref(&first)).unwrap();
    assert_eq!(store.next_alert().unwrap(), None);
    assert_eq!(store.alerts(None, 9).unwrap().len(), 1);
}

fn alerts_are_claimed_when_due_and_settled(store: &mut dyn Store) {
    let half = Duration::milliseconds(500);
    let first = Alert { due: at(5) + half, ..alert("inc-1", NoticeKind::Opened, 0) };
    let report = Alert { due: at(9), ..alert("report-1", NoticeKind::Report, 0) };
    store.enqueue(&[first.clone(), report.clone()]).unwrap();
    assert_eq!(store.next_alert().unwrap(), Some(at(5) + half));
    assert_eq!(store.claim_alerts(at(5), minute(), 9).unwrap(), []);
    assert_eq!(store.claim_alerts(at(6), minute(), 9).unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.claim_alerts(at(6), minute(), 9).unwrap(), []);
    assert_eq!(store.next_alert().unwrap(), Some(at(9)));
    assert_eq!(store.claim_alerts(at(66), minute(), 1).unwrap(), std::slice::from_ref(&first), "its lease ended");

    store.settle(&first.id, at(67), &Outcome::Later { due: at(100), error: "HTTP 503".into() }).unwrap();
    assert_eq!(store.claim_alerts(at(99), minute(), 9).unwrap(), [report]);
    let tried = Alert { attempts: 1, due: at(100), last_error: Some("HTTP 503".into()), ..first };
    assert_eq!(store.claim_alerts(at(100), minute(), 9).unwrap(), std::slice::from_ref(&tried));
    store.settle(&tried.id, at(101) + half, &Outcome::Delivered).unwrap();
    let delivered = Alert { attempts: 2, state: AlertState::Delivered, delivered: Some(at(101) + half), ..tried };
    assert_eq!(store.alerts(Some(AlertState::Delivered), 9).unwrap(), [delivered]);
    assert_eq!(store.alerts(Some(AlertState::Pending), 9).unwrap().len(), 1);
    assert_eq!(store.alerts(None, 1).unwrap()[0].notice.kind, NoticeKind::Report, "newest first");
}

fn resolved_never_overtakes_opened(store: &mut dyn Store) {
    let opened = alert("inc-1", NoticeKind::Opened, 0);
    let resolved = alert("inc-1", NoticeKind::Resolved, 10);
    let elsewhere = alert_to("inc-1", NoticeKind::Resolved, 10, destination("mail", Some("a@example.com")));
    let other_recipient = alert_to("inc-1", NoticeKind::Opened, 0, destination("mail", Some("b@example.com")));
    let other_incident = alert("inc-2", NoticeKind::Opened, 10);
    let all = [&opened, &resolved, &elsewhere, &other_recipient, &other_incident].map(Clone::clone);
    store.enqueue(&all).unwrap();
    let mut claimed: Vec<String> = store.claim_alerts(at(20), minute(), 9).unwrap().into_iter().map(|alert| alert.id).collect();
    let mut foremost = [&opened, &elsewhere, &other_recipient, &other_incident].map(|alert| alert.id.clone());
    claimed.sort();
    foremost.sort();
    assert_eq!(claimed, foremost);
    // While the first waits for its next try, the second waits behind it.
    store.settle(&opened.id, at(20), &Outcome::Later { due: at(500), error: "busy".into() }).unwrap();
    assert_eq!(store.claim_alerts(at(30), minute(), 9).unwrap(), []);
    assert_eq!(store.next_alert().unwrap(), Some(at(80)), "the others' leases");
    store.settle(&opened.id, at(30), &Outcome::Delivered).unwrap();
    assert_eq!(store.claim_alerts(at(30), minute(), 9).unwrap(), [resolved]);
}

fn a_dead_alert_lets_the_next_one_go(store: &mut dyn Store) {
    let (opened, resolved) = (alert("inc-1", NoticeKind::Opened, 0), alert("inc-1", NoticeKind::Resolved, 1));
    store.enqueue(&[opened.clone(), resolved.clone()]).unwrap();
    store.settle(&opened.id, at(2), &Outcome::Dead { error: "HTTP 410".into() }).unwrap();
    assert_eq!(store.claim_alerts(at(2), minute(), 9).unwrap(), [resolved]);
    let dead = store.alerts(Some(AlertState::Dead), 9).unwrap();
    assert_eq!((dead[0].last_error.as_deref(), dead[0].attempts), (Some("HTTP 410"), 1));
}

fn what_was_delivered_stays_delivered(store: &mut dyn Store) {
    let first = alert("inc-1", NoticeKind::Opened, 0);
    store.enqueue(std::slice::from_ref(&first)).unwrap();
    store.settle(&first.id, at(2), &Outcome::Delivered).unwrap();
    store.settle(&first.id, at(3), &Outcome::Later { due: at(4), error: "late".into() }).unwrap();
    store.settle(&first.id, at(4), &Outcome::Dead { error: "late".into() }).unwrap();
    assert_eq!(store.claim_alerts(at(9), minute(), 9).unwrap(), []);
    let alerts = store.alerts(Some(AlertState::Delivered), 9).unwrap();
    assert_eq!((alerts[0].delivered, alerts[0].attempts), (Some(at(2)), 3));
}

fn an_unknown_alert_cannot_be_settled(store: &mut dyn Store) {
    assert!(matches!(store.settle("msg_0", at(0), &Outcome::Delivered), Err(StoreError::Refused(_))));
}

fn baselines_wait_until_told(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0), enrolment("other", 0)]).unwrap();
    let cycle = |issuer: &str| Cycle { baseline: Some(baseline(issuer)), issuer: Some(id(issuer)), ..Cycle::default() };
    store.record(&[cycle("other"), cycle("acme"), cycle("acme")]).unwrap();
    assert_eq!(store.baselines().unwrap(), [baseline("acme"), baseline("other")]);
    let told = Incident { notices: 1, ..incident("inc-1", 0, None) };
    let message = alert("baseline-1", NoticeKind::Baseline, 1);
    store.tell_baselines(&[acme()], std::slice::from_ref(&message), std::slice::from_ref(&told)).unwrap();
    assert_eq!(store.baselines().unwrap(), [baseline("other")]);
    assert_eq!(store.incident("inc-1").unwrap(), Some(told));
    assert_eq!(store.alerts(None, 9).unwrap(), [message]);
}

fn acts_are_kept_oldest_first(store: &mut dyn Store) {
    let (late, early) = (announcement(9, "acme", "A"), announcement(1, "acme", "B"));
    let approval = Act { kind: ActKind::ApproveKey { thumbprint: Thumbprint("C".into()) }, ..announcement(5, "other", "") };
    for act in [&late, &early, &approval] {
        store.act(act).unwrap();
    }
    assert_eq!(store.acts(Some(&acme())).unwrap(), [early.clone(), late.clone()]);
    assert_eq!(store.acts(None).unwrap(), [early.clone(), approval, late.clone()]);
    assert_eq!(store.remembered(&acme()).unwrap().acts, [early, late]);
}

fn notes_are_set_and_overwritten(store: &mut dyn Store) {
    assert_eq!(store.note("report").unwrap(), None);
    store.set_note("report", "1").unwrap();
    store.set_note("report", "2").unwrap();
    assert_eq!(store.note("report").unwrap().as_deref(), Some("2"));
}

fn an_empty_store_says_so(store: &mut dyn Store) {
    assert!(store.is_empty().unwrap());
    store.enroll(&[]).unwrap();
    assert!(store.is_empty().unwrap());
    store.act(&announcement(0, "acme", "A")).unwrap();
    assert!(!store.is_empty().unwrap());
}

fn hostile_text_is_only_text(store: &mut dyn Store) {
    let name = "'; DROP TABLE issuer; --\u{0}\u{202e}";
    store.enroll(&[enrolment(name, 0)]).unwrap();
    let mut observation = Observation { issuer: id(name), ..observed(0, b"{}") };
    observation.jwks.as_mut().unwrap().headers.push(("Server\u{0}".into(), name.into()));
    let findings = vec![Finding { issuer: id(name), message: name.into(), ..finding(name, name, FindingState::Open) }];
    store.record(&[Cycle { observations: vec![observation.clone()], findings: findings.clone(), ..Cycle::default() }]).unwrap();
    let remembered = store.remembered(&id(name)).unwrap();
    assert_eq!((remembered.last, remembered.findings), (Some(observation), findings));
}

// ── Values ─────────────────────────────────────────────────────────────────

fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_767_225_600 + second, 0).unwrap()
}

fn minute() -> Duration {
    Duration::seconds(60)
}

fn id(name: &str) -> IssuerId {
    IssuerId::new(name)
}

fn acme() -> IssuerId {
    id("acme")
}

fn enrolment(name: &str, due: i64) -> Enrolment {
    Enrolment { issuer: id(name), about: "{}".into(), due: at(due), schedule: "5m".into() }
}

fn enrolled(store: &mut dyn Store) {
    store.enroll(&[enrolment("acme", 0)]).unwrap();
}

fn observed(second: i64, jwks: &[u8]) -> Observation {
    let jwks = Attempt {
        url: "https://acme.example/jwks".into(),
        status: 200,
        headers: vec![("Date".into(), format!("second {second}")), ("Content-Type".into(), "application/json".into())],
        body: Some(Arc::new(Body::served(jwks.to_vec()))),
        ..Attempt::default()
    };
    Observation { issuer: acme(), at: at(second), discovery: None, jwks: Some(jwks) }
}

fn looked(second: i64, jwks: &[u8]) -> Cycle {
    Cycle { observations: vec![observed(second, jwks)], issuer: Some(acme()), ..Cycle::default() }
}

/// One with everything that an attempt can have.
fn rich_observation() -> Observation {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let certificate = CertificateFacts {
        sha256: "ab".into(),
        subject: "CN=acme.example".into(),
        issuer: "CN=ca".into(),
        serial: "01".into(),
        not_before: at(-9),
        not_after: at(9_999),
        names: vec!["acme.example".into()],
    };
    let jwks = Attempt {
        url: "https://acme.example/jwks".into(),
        status: 200,
        headers: vec![
            header("Date", "Thu, 01 Jan 2026 00:00:00 GMT"),
            header("Content-Type", "application/json"),
            header("Age", "17"),
            header("Cache-Control", "public, max-age=3600"),
            header("ETag", "\"x\""),
            header("X-Custom", "1"),
            header("Vary", "Origin"),
            header("Vary", "Accept"),
        ],
        body: Some(Arc::new(Body::served(b"{\"keys\":[]}".to_vec()))),
        unseen: None,
        took_ms: Some(12),
        redirects: vec![Redirect { status: 302, to: "https://acme.example/keys".into() }],
        address: Some("192.0.2.1:443".into()),
        tls: Some(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_128_GCM_SHA256".into(), chain: vec![certificate] }),
    };
    let discovery = Attempt {
        url: "https://acme.example/.well-known/openid-configuration".into(),
        unseen: Some(Unseen::new(UnseenReason::Dns, "no such name")),
        ..Attempt::default()
    };
    Observation { issuer: acme(), at: at(7), discovery: Some(discovery), jwks: Some(jwks) }
}

fn finding(rule: &str, thumbprint: &str, state: FindingState) -> Finding {
    let thumbprint = (!thumbprint.is_empty()).then(|| Thumbprint(thumbprint.into()));
    Finding {
        rule: rule.into(),
        severity: Severity::High,
        certainty: Certainty::Possible,
        issuer: acme(),
        subject: Subject { kid: thumbprint.is_some().then(|| "label".into()), thumbprint, line: None },
        document: DocumentKind::Jwks,
        pointer: "/keys/0/n".into(),
        message: "RSA modulus has 1024 bits".into(),
        cites: vec!["RFC 7518 §3.3".into(), "NIST SP 800-131A".into()],
        first_seen: at(1),
        last_seen: at(2),
        state,
    }
}

fn added(second: i64, thumbprint: &str) -> Event {
    Event { issuer: acme(), at: at(second), kind: EventKind::KeyAdded { kid: Some("k".into()), thumbprint: Thumbprint(thumbprint.into()) } }
}

fn incident(name: &str, opened: i64, resolved: Option<i64>) -> Incident {
    Incident {
        id: name.into(),
        kind: IncidentKind::Change,
        issuer: acme(),
        opened: at(opened),
        resolved: resolved.map(at),
        state: if resolved.is_some() { IncidentState::Resolved } else { IncidentState::Open },
        severity: Severity::High,
        title: "acme: 1 unexpected new key (high)".into(),
        findings: vec![finding("rotation/unexpected-new-key", "T", FindingState::Open).key()],
        events: vec![added(opened, "T").to_line()],
        told: vec![destination("soc", None)],
        last_told: None,
        notices: 1,
    }
}

fn destination(channel: &str, recipient: Option<&str>) -> Destination {
    Destination { channel: channel.into(), recipient: recipient.map(str::to_owned) }
}

fn alert(incident: &str, kind: NoticeKind, created: i64) -> Alert {
    alert_to(incident, kind, created, destination("soc", None))
}

fn alert_to(incident: &str, kind: NoticeKind, created: i64, destination: Destination) -> Alert {
    let notice = Notice {
        kind,
        at: at(created),
        incident: incident.into(),
        issuers: vec![acme()],
        severity: Severity::High,
        title: "acme: 1 unexpected new key (high)".into(),
        opened: Some(at(0)),
        findings: vec![finding("rotation/unexpected-new-key", "T", FindingState::Open)],
        events: vec![added(0, "T").to_line()],
        remark: Some("still open after 3 h".into()),
        attachment: Some(("report.html".into(), "<p>".into())),
    };
    Alert::new(notice, 1, destination)
}

fn announcement(second: i64, issuer: &str, thumbprint: &str) -> Act {
    Act {
        at: at(second),
        by: "alice".into(),
        reason: "CHG-1".into(),
        issuer: id(issuer),
        kind: ActKind::Expect { thumbprint: Thumbprint(thumbprint.into()), from: Some(at(second)), until: None },
    }
}

fn baseline(issuer: &str) -> Baseline {
    Baseline {
        issuer: id(issuer),
        incident: Some("inc-1".into()),
        findings: vec![finding("key/rsa-too-small", "T", FindingState::Open)],
        destinations: vec![destination("mail", Some("soc@example.com"))],
    }
}
