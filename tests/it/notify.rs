//! Telling: what messages say, how webhooks and mails reach real receivers, and what the outbox does when they do not.

#![expect(clippy::unwrap_used, reason = "most of these functions are bodies of tests, which clippy cannot see")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use issuerwatch::clock::{Clock, ManualClock, SystemClock};
use issuerwatch::model::{
    Alert, Certainty, Destination, DocumentKind, Event, EventKind, Finding, FindingState, IssuerId, Notice, NoticeKind, Severity, Subject,
    Thumbprint,
};
use issuerwatch::notify::{
    Channel, Email, EmailSettings, EmailTls, NotDelivered, Outbox, Queue, RuleText, Tally, Webhook, WebhookSettings, render,
};
use issuerwatch::store::{Outcome, StoreError};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::parts::{Certificates, Node, Postfix, json_lines};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
const OTHER_SECRET: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4";
const THUMBPRINT: &str = "-kq9Zx1mS0o5dV8yQwq2J8gk0o2mY5f3rXw8cA1bN3E";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn finding(kid: &str) -> Finding {
    Finding {
        rule: "rotation/unexpected-new-key".into(),
        severity: Severity::High,
        certainty: Certainty::Certain,
        issuer: IssuerId::new("acme"),
        subject: Subject { thumbprint: Some(Thumbprint(THUMBPRINT.into())), kid: Some(kid.into()), line: None },
        document: DocumentKind::Jwks,
        pointer: "/keys/1".into(),
        message: format!("key \"{kid}\" appeared and was not announced"),
        cites: vec!["NIST SP 800-57 Part 1 §5.3".into()],
        first_seen: at("2026-01-02T03:00:00Z"),
        last_seen: at("2026-01-02T03:00:00Z"),
        state: FindingState::Open,
    }
}

fn key_added(kid: &str) -> String {
    let kind = EventKind::KeyAdded { kid: Some(kid.into()), thumbprint: Thumbprint(THUMBPRINT.into()) };
    Event { issuer: IssuerId::new("acme"), at: at("2026-01-02T03:00:00Z"), kind }.to_line()
}

fn notice_about(kid: &str) -> Notice {
    Notice {
        kind: NoticeKind::Opened,
        at: at("2026-01-02T03:00:05Z"),
        incident: "inc-0123456789ab".into(),
        issuers: vec![IssuerId::new("acme")],
        severity: Severity::High,
        title: "acme: 1 unexpected new key (high)".into(),
        opened: Some(at("2026-01-02T03:00:00Z")),
        findings: vec![finding(kid)],
        events: vec![key_added(kid)],
        remark: None,
        attachment: None,
    }
}

fn notice() -> Notice {
    notice_about("2026-01")
}

fn documents(rule: &str) -> RuleText {
    match rule {
        "rotation/unexpected-new-key" => RuleText {
            cites: Vec::new(),
            title: "A key appeared that nobody announced".into(),
            remediation: "Ask who made it.\nIf nobody did, treat the issuer as taken over.".into(),
            controls: vec!["ISO 27001 A.8.24".into()],
        },
        _ => RuleText::default(),
    }
}

fn message(notice: &Notice) -> issuerwatch::notify::Message {
    render(notice, &documents, Tz::UTC)
}

fn hook() -> Destination {
    Destination { channel: "soc".into(), recipient: None }
}

fn mailbox(recipient: &str) -> Destination {
    Destination { channel: "mail".into(), recipient: Some(recipient.into()) }
}

// What messages say

#[test]
fn an_alert_says_what_happened_since_when_and_what_to_do() {
    let message = message(&notice());
    assert_eq!(message.subject, "[high] acme: 1 unexpected new key (inc-0123456789ab)");
    for part in [&message.text, &message.html] {
        for said in [
            "A key appeared that nobody announced",
            "rotation/unexpected-new-key",
            THUMBPRINT,
            "2026-01-02 03:00:00 UTC",
            "key set /keys/1",
            "NIST SP 800-57 Part 1 §5.3",
            "ISO 27001 A.8.24",
            "Ask who made it. If nobody did, treat the issuer as taken over.",
            "inc-0123456789ab",
            &format!("issuerwatch approve --issuer acme --thumbprint={THUMBPRINT} --reason"),
        ] {
            assert!(part.contains(said), "{said:?} is not in\n{part}");
        }
    }
    assert!(message.text.contains("- 2026-01-02 03:00:00 UTC key added: kid \"2026-01\", thumbprint"), "{}", message.text);
}

#[test]
fn what_to_do_is_told_step_by_step() {
    let steps = |_: &str| RuleText { remediation: "First\nthis:\n\n1. one\n   and a half\n2. <two>".into(), ..RuleText::default() };
    let message = render(&notice(), &steps, chrono_tz::UTC);
    let margin = " ".repeat(15);
    let told = format!("   What to do: First this:\n{margin}1. one and a half\n{margin}2. <two>\n");
    assert!(message.text.contains(&told), "{}", message.text);
    assert!(message.html.contains("First this:<br>1. one and a half<br>2. ") && !message.html.contains("<two>"), "{}", message.html);
}

#[test]
fn times_are_told_in_the_configured_time_zone() {
    let message = render(&notice(), &documents, Tz::Europe__Vienna);
    assert!(message.text.contains("2026-01-02 04:00:00 CET"), "{}", message.text);
}

#[test]
fn the_subjects_of_the_kinds_of_notices_differ() {
    let of = |kind, remark: Option<&str>| message(&Notice { kind, remark: remark.map(Into::into), ..notice() }).subject;
    assert_eq!(of(NoticeKind::Resolved, Some("resolved after 12 min")), "[resolved] acme: 1 unexpected new key (inc-0123456789ab)");
    assert_eq!(
        of(NoticeKind::Updated, Some("still open after 4 h, 2nd notice")),
        "[high] acme: 1 unexpected new key, still open after 4 h, 2nd notice (inc-0123456789ab)"
    );
    assert_eq!(of(NoticeKind::Baseline, None), "[high] first look: acme: 1 unexpected new key (inc-0123456789ab)");
    assert_eq!(of(NoticeKind::Test, None), "[test] acme: 1 unexpected new key (inc-0123456789ab)");
    assert_eq!(of(NoticeKind::Report, None), "[report] acme: 1 unexpected new key");
}

#[test]
fn a_resolved_notice_offers_nothing_to_approve() {
    let message = message(&Notice { kind: NoticeKind::Resolved, ..notice() });
    assert!(!message.text.contains("approve"), "{}", message.text);
}

#[test]
fn a_changed_jwks_uri_is_approved_by_its_incident() {
    let changed = Finding { rule: "drift/jwks-uri-changed".into(), subject: Subject::default(), ..finding("") };
    let message = message(&Notice { findings: vec![Finding { issuer: IssuerId::new("it's me"), ..changed }], ..notice() });
    let command = "issuerwatch approve --issuer 'it'\\''s me' --incident inc-0123456789ab --reason";
    assert!(message.text.contains(command), "{}", message.text);
}

#[test]
fn hostile_text_is_shown_and_cannot_act() {
    let hostile = format!("a\r\nBcc: eve@evil.test\0\u{202e}\u{200b}<script>alert(1)</script>{}", "A".repeat(10_000));
    let shown = message(&Notice { title: hostile.clone(), remark: Some(hostile.clone()), ..notice_about(&hostile) });
    for part in [&shown.text, &shown.html] {
        assert!(!part.contains(['\r', '\0', '\u{202e}', '\u{200b}']));
        assert!(part.contains("a⟨U+000D⟩⟨U+000A⟩Bcc: eve@evil.test⟨U+0000⟩⟨U+202E⟩⟨U+200B⟩"), "{part}");
        assert!(!part.contains(&"A".repeat(2_000)), "one value fills the mail");
    }
    assert!(!shown.html.contains("<script"));
    assert!(shown.text.lines().all(|line| !line.starts_with("Bcc")), "{}", shown.text);
    assert!(!shown.subject.contains(char::is_control) && shown.subject.chars().count() <= 150);
    assert!(shown.subject.ends_with("(inc-0123456789ab)"), "{}", shown.subject);
}

#[test]
fn thousands_of_findings_and_events_are_counted_not_spelled_out() {
    let many = Notice {
        findings: (0..2000).map(|n| finding(&n.to_string())).collect(),
        events: (0..2000).map(|n| key_added(&n.to_string())).collect(),
        ..notice()
    };
    let message = message(&many);
    assert!(message.text.contains("… and 1950 more."));
    assert!(message.html.len() < 200_000, "{} bytes", message.html.len());
    let body: Value = serde_json::from_str(&message.json).unwrap();
    assert_eq!(body["data"]["events"].as_array().unwrap().len(), 2000);
}

// The webhook's body

#[test]
fn the_webhooks_body_is_the_contract() {
    let body: Value = serde_json::from_str(&message(&notice()).json).unwrap();
    assert_eq!(
        body,
        json!({"type": "incident.opened", "timestamp": "2026-01-02T03:00:05Z", "data": {
            "incident": "inc-0123456789ab", "issuer": "acme", "issuers": ["acme"], "severity": "high",
            "title": "acme: 1 unexpected new key (high)",
            "findings": [serde_json::to_value(finding("2026-01")).unwrap()],
            "events": [{"issuer": "acme", "at": "2026-01-02T03:00:00Z", "event": "key_added", "kid": "2026-01", "thumbprint": THUMBPRINT}],
        }})
    );
}

#[test]
fn a_baseline_of_several_issuers_names_them_all() {
    let issuers = vec![IssuerId::new("acme"), IssuerId::new("globex")];
    let body: Value = serde_json::from_str(&message(&Notice { kind: NoticeKind::Baseline, issuers, ..notice() }).json).unwrap();
    assert_eq!((&body["data"]["issuer"], &body["data"]["issuers"]), (&Value::Null, &json!(["acme", "globex"])));
}

#[test]
fn events_are_told_to_machines_without_loss_and_odd_ones_do_not_break_the_body() {
    let exact = r#"{"event":"jwks_uri_changed","new":1.0E+2,"old":12345678901234567890123}"#;
    let odd = r#"{"event":"jwks_uri_changed","new":NaN,"old":null}"#;
    let huge = format!(r#"{{"event":"jwks_uri_changed","new":"{}","old":null}}"#, "x".repeat(4 << 20));
    let message = message(&Notice { events: vec![exact.into(), huge, odd.into()], ..notice() });
    assert!(message.json.contains(exact));
    assert!(message.json.len() < 1 << 20);
    let body: Value = serde_json::from_str(&message.json).unwrap();
    assert_eq!(body["data"]["events"][1], json!(odd));
    assert_eq!(body["data"]["omitted"], json!({"findings": 0, "events": 1}));
}

proptest! {
    #[test]
    fn any_text_gives_a_readable_message(text in any::<String>(), event in ".{0,200}") {
        let any = Notice { title: text.clone(), remark: Some(text.clone()), incident: text.clone(), events: vec![event], ..notice_about(&text) };
        let message = message(&Notice { kind: NoticeKind::Updated, ..any });
        prop_assert!(message.subject.chars().count() <= 150, "{}", message.subject);
        prop_assert!(!message.subject.contains(char::is_control));
        prop_assert!(!message.text.contains(|c: char| c.is_control() && c != '\n'));
        let body: Value = serde_json::from_str(&message.json).unwrap();
        prop_assert_eq!(&body["data"]["title"], &json!(text));
    }

    #[test]
    fn no_text_can_make_a_header(text in any::<String>()) {
        let any = Notice { title: text.clone(), incident: text.clone(), issuers: vec![IssuerId::new(text.clone())], ..notice_about(&text) };
        check_headers(&any);
    }
}

#[test]
fn line_ends_and_encoded_words_cannot_make_a_header() {
    for text in [
        "a\r\nBcc: e@evil.test",
        "a\rBcc: e@evil.test",
        "a\nBcc: e@evil.test",
        "a\0b",
        "\u{202e}ab",
        "a\u{2028}b",
        "=?utf-8?q?a=0ab?=",
        &"x".repeat(10_000),
    ] {
        check_headers(&Notice { title: text.into(), incident: text.into(), issuers: vec![IssuerId::new(text)], ..notice_about(text) });
    }
}

/// Composes a mail and checks that it has exactly our headers, each short enough and in ASCII.
fn check_headers(notice: &Notice) {
    let email = Email::new(EmailSettings { tls: EmailTls::None, ..settings(25, None) }).unwrap();
    let alert = Alert::new(notice.clone(), 1, mailbox("soc@example.test"));
    let mail = String::from_utf8(email.mail(&alert, &message(notice)).unwrap()).unwrap();
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    let mut names = BTreeSet::new();
    for line in head.split("\r\n") {
        assert!(line.is_ascii() && line.len() <= 998 && !line.contains(['\r', '\n', '\0']), "{line:?}");
        if !line.starts_with([' ', '\t']) {
            assert!(names.insert(line.split_once(':').unwrap().0.to_owned()), "twice: {line:?}");
        }
    }
    let ours = [
        "Auto-Submitted",
        "Content-Type",
        "Date",
        "From",
        "In-Reply-To",
        "MIME-Version",
        "Message-ID",
        "References",
        "Subject",
        "To",
        "X-Auto-Response-Suppress",
        "X-Issuerwatch-Incident",
        "X-Issuerwatch-Severity",
        "X-Issuerwatch-Type",
    ];
    assert_eq!(names, ours.map(String::from).into());
    assert!(!head.contains("=?utf-8?q?a"), "{head}");
}

// Webhooks

/// What the receiver got and what it answers.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

/// A status and headers.
type Answer = (u16, Vec<(&'static str, String)>);

impl Receiver {
    /// Listens on loopback; answers what was planned, then 204.
    async fn listen(&self) -> String {
        let router = axum::Router::new().fallback(Self::take).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn take(State(receiver): State<Self>, headers: HeaderMap, body: String) -> (StatusCode, HeaderMap, &'static str) {
        receiver.got.lock().unwrap().push((headers, body));
        let mut answers = receiver.answers.lock().unwrap();
        let (status, said) = if answers.is_empty() { (204, Vec::new()) } else { answers.remove(0) };
        let headers = said.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = if status == 204 { "" } else { "no, <b>not\u{202e}</b> now" };
        (StatusCode::from_u16(status).unwrap(), headers, body)
    }

    fn plan(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.answers.lock().unwrap().push((status, headers));
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

fn webhook(url: &str, secrets: &[&str]) -> Webhook {
    let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    Webhook::new(WebhookSettings { id: "soc".into(), url: url.into(), secrets, ..WebhookSettings::default() }).unwrap()
}

/// One delivery of the usual alert, now.
async fn deliver(channel: &Channel) -> Result<(), NotDelivered> {
    channel.deliver(&Alert::new(notice(), 1, hook()), &message(&notice()), SystemClock.now()).await
}

#[tokio::test]
async fn both_secrets_sign_while_they_are_changed() {
    let receiver = Receiver::default();
    let channel = Channel::Webhook(webhook(&receiver.listen().await, &[SECRET, OTHER_SECRET]));
    deliver(&channel).await.unwrap();
    let got = receiver.got.lock().unwrap();
    let (headers, body) = &got[0];
    for secret in [SECRET, OTHER_SECRET] {
        standardwebhooks::Webhook::new(secret).unwrap().verify(body.as_bytes(), headers).unwrap();
    }
    let stranger = standardwebhooks::Webhook::new("whsec_c3RyYW5nZXIgYXQgdGhlIGRvb3IgMTIz").unwrap();
    stranger.verify(body.as_bytes(), headers).unwrap_err();
    assert_eq!(headers["webhook-id"], Alert::new(notice(), 1, hook()).id);
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn what_the_receiver_answers_decides_about_the_next_try() {
    let receiver = Receiver::default();
    let channel = Channel::Webhook(webhook(&receiver.listen().await, &[SECRET]));
    let soon = SystemClock.now() + TimeDelta::seconds(100);
    let date = soon.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    receiver.plan(410, &[]);
    receiver.plan(500, &[("retry-after", "77")]);
    receiver.plan(429, &[("retry-after", "77")]);
    receiver.plan(503, &[("retry-after", &date)]);
    receiver.plan(429, &[("retry-after", "99999999999999999999")]);
    receiver.plan(400, &[]);
    receiver.plan(302, &[("location", "/elsewhere")]);
    let said = |status: u16| format!("HTTP {status}: no, <b>not⟨U+202E⟩</b> now");
    let later = |error: String, after: Option<u64>| Err(NotDelivered::Later { error, after: after.map(Duration::from_secs) });
    assert_eq!(deliver(&channel).await, Err(NotDelivered::Never(said(410))));
    assert_eq!(deliver(&channel).await, later(said(500), None));
    assert_eq!(deliver(&channel).await, later(said(429), Some(77)));
    let Err(NotDelivered::Later { after: Some(after), .. }) = deliver(&channel).await else { panic!("503 is tried again") };
    assert!((90..=100).contains(&after.as_secs()), "{after:?}");
    assert_eq!(deliver(&channel).await, later(said(429), None));
    assert_eq!(deliver(&channel).await, later(said(400), None));
    assert_eq!(deliver(&channel).await, later("HTTP 302: redirects are not followed; configure the final url".into(), None));
    assert_eq!(receiver.count(), 7, "no redirect is followed");
}

#[tokio::test]
async fn the_url_of_a_webhook_is_in_no_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let channel = Channel::Webhook(webhook(&format!("http://127.0.0.1:{port}/T0/secret-path"), &[SECRET]));
    let Err(NotDelivered::Later { error, .. }) = deliver(&channel).await else { panic!("nobody listens") };
    assert!(!error.contains("secret-path") && error.contains("refused"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let hook = |url: &str, secret: &str| {
        let settings = WebhookSettings { id: "soc".into(), url: url.into(), secrets: vec![secret.into()], ..WebhookSettings::default() };
        Webhook::new(settings).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(hook("https://soc.example/hook", SECRET), "");
    assert_eq!(hook("http://[::1]:80/hook", SECRET), "");
    assert!(hook("http://soc.example/hook", SECRET).starts_with("channel \"soc\": the url must be https"));
    assert!(hook("http://localhost.evil.test/hook", SECRET).contains("must be https"));
    let wrong = hook("https://soc.example/hook", "whsec_not base64 but secret");
    assert!(wrong.contains("no base64") && !wrong.contains("but secret"), "{wrong}");
    assert!(hook("https://soc.example/hook", "MDEyMzQ1Njc4OWFi").contains("begin with whsec_"));
    assert!(hook("https://soc.example/hook", "whsec_").contains("empty"));
    let mail = |change: &dyn Fn(&mut EmailSettings)| {
        let mut settings = settings(25, None);
        change(&mut settings);
        Email::new(settings).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(mail(&|s| (s.tls, s.server) = (EmailTls::None, "mail.example".into())).contains("loopback only"));
    assert!(mail(&|s| s.from = "nobody\r\nBcc: e@evil.test".into()).contains("from is no mail address"));
    assert!(mail(&|s| s.user = Some("u".into())).contains("password is not"));
    assert!(mail(&|s| s.ca_pem = Some(b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n".to_vec())).contains("no PEM"));
}

#[tokio::test]
async fn an_independent_library_verifies_our_signature_over_tls() {
    let certificates = Certificates::make();
    let out = certificates.folder.path().join("got.jsonl");
    let (out_text, cert, key) =
        (out.display().to_string(), certificates.cert().display().to_string(), certificates.key().display().to_string());
    let arguments = ["--out", &out_text, "--secret", SECRET, "--secret", OTHER_SECRET, "--cert", &cert, "--key", &key];
    let Some(receiver) = Node::start("receiver.mjs", &arguments) else { return };
    let url = receiver.up["url"].as_str().unwrap();
    let settings = WebhookSettings { id: "soc".into(), url: url.into(), secrets: vec![SECRET.into()], ..WebhookSettings::default() };

    let stranger = Channel::Webhook(Webhook::new(settings.clone()).unwrap());
    let Err(NotDelivered::Later { error, .. }) = deliver(&stranger).await else { panic!("an unknown authority is not trusted") };
    assert!(error.contains("UnknownIssuer"), "{error}");

    let trusted = Webhook::new(WebhookSettings { ca_pem: Some(certificates.ca_pem.clone().into_bytes()), ..settings }).unwrap();
    deliver(&Channel::Webhook(trusted)).await.unwrap();
    let got = json_lines(&out);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0]["verified"], json!([true, false]), "{}", got[0]);
    assert_eq!(got[0]["body"], json!(message(&notice()).json));
}

// Mail

fn settings(port: u16, ca: Option<&Certificates>) -> EmailSettings {
    EmailSettings {
        id: "mail".into(),
        server: "localhost".into(),
        port,
        tls: EmailTls::Starttls,
        ca_pem: ca.map(|certificates| certificates.ca_pem.clone().into_bytes()),
        from: "issuerwatch <watch@example.test>".into(),
        ..EmailSettings::default()
    }
}

async fn mail_to(email: &Channel, notice: &Notice, recipient: &str) -> Result<(), NotDelivered> {
    email.deliver(&Alert::new(notice.clone(), 1, mailbox(recipient)), &message(notice), SystemClock.now()).await
}

/// Starts the mail server; its file of mails beside the certificates.
fn mail_server(certificates: &Certificates, more: &[&str]) -> Option<(Node, std::path::PathBuf)> {
    let out = certificates.folder.path().join("mails.jsonl");
    let (out_text, cert, key) =
        (out.display().to_string(), certificates.cert().display().to_string(), certificates.key().display().to_string());
    let arguments: Vec<&str> = ["--out", &out_text, "--cert", &cert, "--key", &key].into_iter().chain(more.iter().copied()).collect();
    Some((Node::start("smtp.mjs", &arguments)?, out))
}

/// A header of a mail, unfolded.
fn header(mail: &str, name: &str) -> String {
    let (head, _) = mail.split_once("\r\n\r\n").or_else(|| mail.split_once("\n\n")).unwrap();
    let unfolded = head.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
    let prefix = format!("{name}: ");
    unfolded.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {name} in\n{head}")).to_owned()
}

#[tokio::test]
async fn mail_goes_out_by_starttls_with_login_and_each_recipient_stands_alone() {
    let certificates = Certificates::make();
    let Some((server, out)) = mail_server(&certificates, &["--user", "watch", "--password", "open sesame"]) else { return };
    let login = |password: &str| EmailSettings {
        user: Some("watch".into()),
        password: Some(password.into()),
        ..settings(server.port(), Some(&certificates))
    };
    let channel = Channel::Email(Email::new(login("open sesame")).unwrap());

    let opened = notice();
    let resolved = Notice { kind: NoticeKind::Resolved, ..notice() };
    mail_to(&channel, &opened, "Café <soc@example.test>").await.unwrap();
    mail_to(&channel, &resolved, "soc@example.test").await.unwrap();
    let Err(NotDelivered::Never(refused)) = mail_to(&channel, &opened, "nobody@example.test").await else { panic!("550 is final") };
    assert!(refused.contains("550") && refused.contains("No such user here"), "{refused}");
    let Err(NotDelivered::Never(refused)) = mail_to(&channel, &opened, "spam@example.test").await else { panic!("554 is final") };
    assert!(refused.contains("554"), "{refused}");
    let Err(NotDelivered::Later { error, .. }) = mail_to(&channel, &opened, "greylist@example.test").await else {
        panic!("451 is not final")
    };
    assert!(error.contains("451"), "{error}");
    mail_to(&channel, &opened, "greylist@example.test").await.unwrap();
    assert!(matches!(mail_to(&channel, &opened, "no address").await, Err(NotDelivered::Never(_))));

    let wrong = Channel::Email(Email::new(login("sesame")).unwrap());
    let Err(NotDelivered::Later { error, .. }) = mail_to(&wrong, &opened, "soc@example.test").await else {
        panic!("a wrong password can be mended")
    };
    assert!(error.contains("535") && !error.contains("sesame"), "{error}");
    let anonymous = Channel::Email(Email::new(settings(server.port(), Some(&certificates))).unwrap());
    assert!(mail_to(&anonymous, &opened, "soc@example.test").await.is_err(), "the server demands a login");
    let distrustful = Channel::Email(Email::new(EmailSettings { ca_pem: None, ..login("open sesame") }).unwrap());
    let Err(NotDelivered::Later { error, .. }) = mail_to(&distrustful, &opened, "soc@example.test").await else { panic!("not trusted") };
    assert!(error.contains("UnknownIssuer"), "{error}");

    let mails: Vec<Value> = json_lines(&out).into_iter().filter(|line| line.get("raw").is_some()).collect();
    let recipients: Vec<&str> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    assert_eq!(recipients, ["soc@example.test", "soc@example.test", "greylist@example.test"]);
    assert!(mails.iter().all(|mail| mail["secure"] == json!(true) && mail["user"] == json!("watch")));
    let raw: Vec<&str> = mails.iter().map(|mail| mail["raw"].as_str().unwrap()).collect();
    let alert = Alert::new(opened, 1, mailbox("Café <soc@example.test>"));
    assert_eq!(header(raw[0], "Message-ID"), format!("<{}@example.test>", alert.id));
    assert_ne!(header(raw[0], "Message-ID"), header(raw[1], "Message-ID"));
    for mail in &raw {
        assert_eq!(header(mail, "References"), "<inc-0123456789ab@example.test>");
        assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
        assert_eq!(header(mail, "X-Auto-Response-Suppress"), "All");
        assert_eq!(header(mail, "Date"), "Fri, 02 Jan 2026 03:00:05 +0000");
        assert!(header(mail, "Content-Type").starts_with("multipart/alternative"));
        assert!(mail.contains("Content-Type: text/plain") && mail.contains("Content-Type: text/html"));
    }
    assert_eq!(header(raw[1], "Subject"), "[resolved] acme: 1 unexpected new key (inc-0123456789ab)");
}

#[tokio::test]
async fn a_report_is_attached_and_goes_out_by_implicit_tls() {
    let certificates = Certificates::make();
    let Some((server, out)) = mail_server(&certificates, &["--implicit"]) else { return };
    let settings = EmailSettings { tls: EmailTls::Implicit, ..settings(server.port(), Some(&certificates)) };
    let channel = Channel::Email(Email::new(settings).unwrap());
    let page = format!("<!DOCTYPE html><title>état</title>{}", "<p>long</p>".repeat(500));
    let attachment = Some(("issuerwatch\"\r\n-2026-01.html".to_owned(), page));
    let report = Notice {
        kind: NoticeKind::Report,
        findings: Vec::new(),
        events: Vec::new(),
        title: "4 issuers, 26 Dec to 2 Jan".into(),
        attachment,
        ..notice()
    };
    mail_to(&channel, &report, "ciso@example.test").await.unwrap();
    let mails = json_lines(&out);
    let raw = mails[0]["raw"].as_str().unwrap();
    assert_eq!(header(raw, "Subject"), "[report] 4 issuers, 26 Dec to 2 Jan");
    assert!(header(raw, "Content-Type").starts_with("multipart/mixed"));
    assert!(raw.contains("Content-Disposition: attachment; filename=\"issuerwatch___-2026-01.html\""), "{raw}");
    assert!(!raw.contains("In-Reply-To"), "a report belongs to no incident");
}

#[tokio::test]
async fn postfix_takes_our_mail() {
    let certificates = Certificates::make();
    let Some(postfix) = Postfix::start(&certificates) else { return };
    let channel = Channel::Email(Email::new(settings(postfix.port, Some(&certificates))).unwrap());
    mail_to(&channel, &notice_about("ключ\u{202e}"), "soc@example.test").await.unwrap();
    let Err(NotDelivered::Never(refused)) = mail_to(&channel, &notice(), "soc@elsewhere.test").await else {
        panic!("Postfix relays nothing")
    };
    assert!(refused.contains("554"), "{refused}");
    let in_clear = EmailSettings { tls: EmailTls::None, ..settings(postfix.port, None) };
    mail_to(&Channel::Email(Email::new(in_clear).unwrap()), &notice(), "soc@example.test").await.unwrap_err();
    postfix.wait_for("status=sent");
    let mails = postfix.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(header(&mails[0], "Subject"), "[high] acme: 1 unexpected new key (inc-0123456789ab)");
    assert!(header(&mails[0], "Received").contains("TLSv1.3"), "{}", mails[0]);
}

// The outbox

/// An alert, and until when it is claimed.
type Row = (Alert, Option<DateTime<Utc>>);

/// An outbox in memory that remembers every outcome.
#[derive(Clone, Default)]
struct Memory {
    pending: Arc<Mutex<Vec<Row>>>,
    settled: Arc<Mutex<Vec<Outcome>>>,
    changed: Arc<tokio::sync::Notify>,
}

impl Queue for Memory {
    async fn claim(&self, now: DateTime<Utc>, lease: TimeDelta, limit: usize) -> Result<Vec<Alert>, StoreError> {
        let mut pending = self.pending.lock().unwrap();
        let due = pending.iter_mut().filter(|(alert, claimed)| alert.due <= now && claimed.is_none_or(|until| until <= now));
        Ok(due.take(limit).map(|(alert, claimed)| (*claimed = Some(now + lease), alert.clone()).1).collect())
    }

    async fn next(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.pending.lock().unwrap().iter().map(|(alert, _)| alert.due).min())
    }

    async fn settle(&self, alert: String, _at: DateTime<Utc>, outcome: Outcome) -> Result<(), StoreError> {
        let mut pending = self.pending.lock().unwrap();
        let index = pending.iter().position(|(row, _)| row.id == alert).unwrap();
        match &outcome {
            Outcome::Later { due, .. } => {
                let (row, claimed) = &mut pending[index];
                (row.due, row.attempts, *claimed) = (*due, row.attempts + 1, None);
            }
            Outcome::Delivered | Outcome::Dead { .. } => drop(pending.remove(index)),
        }
        self.settled.lock().unwrap().push(outcome);
        self.changed.notify_one();
        Ok(())
    }
}

impl Memory {
    fn put(&self, alert: Alert) {
        self.pending.lock().unwrap().push((alert, None));
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.settled.lock().unwrap().clone()
    }

    async fn until_settled(&self, count: usize) {
        while self.settled.lock().unwrap().len() < count {
            tokio::time::timeout(Duration::from_secs(30), self.changed.notified()).await.expect("an outcome is recorded in time");
        }
    }
}

fn outbox(queue: &Memory, channels: Vec<Channel>, clock: &ManualClock) -> Arc<Outbox<Memory>> {
    Arc::new(Outbox::new(queue.clone(), channels, Arc::new(clock.clone()), Arc::new(documents), Tz::UTC))
}

/// An alert that is due at the clock's time.
fn due(clock: &ManualClock, number: u32) -> Alert {
    Alert::new(Notice { at: clock.now(), ..notice() }, number, hook())
}

#[tokio::test]
async fn a_failing_receiver_is_tried_for_three_days_and_then_given_up() {
    let (queue, clock, receiver) = (Memory::default(), ManualClock::at(SystemClock.now()), Receiver::default());
    let outbox = outbox(&queue, vec![Channel::Webhook(webhook(&receiver.listen().await, &[SECRET]))], &clock);
    queue.put(due(&clock, 1));
    let began = clock.now();
    let mut waits = Vec::new();
    loop {
        receiver.plan(500, &[]);
        assert_eq!(outbox.flush().await.unwrap(), 1);
        assert_eq!(outbox.flush().await.unwrap(), 0, "not before its time");
        match queue.outcomes().pop().unwrap() {
            Outcome::Later { due, error } => {
                assert!(error.starts_with("HTTP 500"), "{error}");
                waits.push((due - clock.now()).num_seconds());
                clock.advance(due - clock.now());
            }
            Outcome::Dead { error } => break assert!(error.starts_with("given up after 25 tries: HTTP 500"), "{error}"),
            Outcome::Delivered => panic!("it was refused"),
        }
    }
    let within = |wait: i64, least: i64| (least..=least + least / 5 + 1).contains(&wait);
    for (wait, least) in waits.iter().zip([5, 30, 120, 600, 1800, 3600, 7200, 14_400, 14_400]) {
        assert!(within(*wait, least), "{wait} s instead of {least} s");
    }
    assert!((72..=90).contains(&(clock.now() - began).num_hours()), "{}", clock.now() - began);
    assert_eq!(outbox.tally(), Tally { delivered: 0, retried: 24, dead: 1 });
    let ids: BTreeSet<_> = receiver.got.lock().unwrap().iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert_eq!((receiver.count(), ids.len()), (25, 1), "always the same message");
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (queue, clock, receiver) = (Memory::default(), ManualClock::at(SystemClock.now()), Receiver::default());
    let outbox = outbox(&queue, vec![Channel::Webhook(webhook(&receiver.listen().await, &[SECRET]))], &clock);
    receiver.plan(429, &[("retry-after", "3600")]);
    queue.put(due(&clock, 1));
    outbox.flush().await.unwrap();
    assert!(matches!(queue.outcomes()[..], [Outcome::Later { due, .. }] if due == clock.now() + TimeDelta::hours(1)));
    clock.advance(TimeDelta::minutes(59));
    assert_eq!(outbox.flush().await.unwrap(), 0);
    clock.advance(TimeDelta::minutes(1));
    outbox.flush().await.unwrap();
    assert_eq!(queue.outcomes()[1], Outcome::Delivered);
}

#[tokio::test]
async fn a_gone_receiver_and_an_unknown_channel_are_given_up_at_once() {
    let (queue, clock, receiver) = (Memory::default(), ManualClock::at(SystemClock.now()), Receiver::default());
    let outbox = outbox(&queue, vec![Channel::Webhook(webhook(&receiver.listen().await, &[SECRET]))], &clock);
    receiver.plan(410, &[]);
    queue.put(due(&clock, 1));
    outbox.flush().await.unwrap();
    queue.put(Alert { destination: mailbox("soc@example.test"), ..due(&clock, 2) });
    outbox.flush().await.unwrap();
    let [Outcome::Dead { error: gone }, Outcome::Dead { error: unknown }] = &queue.outcomes()[..] else { panic!("both are final") };
    assert!(gone.starts_with("HTTP 410"), "{gone}");
    assert_eq!(unknown, "no channel \"mail\" is configured any more");
    assert_eq!(outbox.tally().dead, 2);
}

#[tokio::test]
async fn the_loop_sends_at_once_when_woken_and_looks_by_itself_otherwise() {
    let (queue, clock, receiver) = (Memory::default(), ManualClock::at(SystemClock.now()), Receiver::default());
    let outbox = outbox(&queue, vec![Channel::Webhook(webhook(&receiver.listen().await, &[SECRET]))], &clock);
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&outbox).run(stop.clone()));
    for number in 1..=20 {
        queue.put(due(&clock, number));
    }
    outbox.wake();
    queue.until_settled(20).await;
    queue.put(due(&clock, 21));
    clock.advance(TimeDelta::seconds(6));
    queue.until_settled(21).await;
    assert!(queue.outcomes().iter().all(|outcome| *outcome == Outcome::Delivered));
    stop.cancel();
    running.await.unwrap();
    assert_eq!(outbox.tally().delivered, 21);
}

#[tokio::test]
async fn a_stop_finishes_what_is_on_its_way_and_begins_nothing_new() {
    let (queue, clock) = (Memory::default(), ManualClock::at(SystemClock.now()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let outbox = outbox(&queue, vec![Channel::Webhook(webhook(&url, &[SECRET]))], &clock);
    let stop = CancellationToken::new();
    queue.put(due(&clock, 1));
    let running = tokio::spawn(Arc::clone(&outbox).run(stop.clone()));
    let (mut connection, _) = listener.accept().await.unwrap();
    queue.put(due(&clock, 2));
    stop.cancel();
    tokio::io::AsyncWriteExt::write_all(&mut connection, b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    running.await.unwrap();
    assert_eq!(queue.outcomes(), [Outcome::Delivered], "the first is recorded, the second left for the next start");
}
