//! The pages and the metrics, asked without a socket.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::Duration;
use issuerwatch::clock::ManualClock;
use issuerwatch::web::{self, Job, State, Vitals};
use tower::ServiceExt;

use crate::estate::{self, Memory, now};

fn vitals() -> Vitals {
    Vitals {
        last_tick: Some(now() - Duration::seconds(5)),
        polls: 1234,
        poll_failures: 7,
        config_loaded: true,
        config_loaded_at: Some(now()),
    }
}

fn app_with(memory: Memory, vitals: Vitals) -> Router {
    let memory = Arc::new(Mutex::new(memory));
    web::router(State {
        read: Arc::new(move |job: Job| {
            let memory = Arc::clone(&memory);
            Box::pin(async move { job(&mut *memory.lock().unwrap()) })
        }),
        clock: Arc::new(ManualClock::at(now())),
        tz: chrono_tz::UTC,
        rule_text: Arc::new(estate::rule_text),
        started: now() - Duration::days(3),
        vitals: Arc::new(move || vitals.clone()),
    })
}

fn app() -> Router {
    app_with(estate::demo(), vitals())
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn ask(app: Router, request: Request<Body>) -> Answer {
    let response = app.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

async fn get_from(app: Router, path: &str) -> Answer {
    ask(app, Request::get(path).header("host", "localhost:9460").body(Body::empty()).unwrap()).await
}

async fn get(path: &str) -> Answer {
    get_from(app(), path).await
}

#[tokio::test]
async fn the_overview_is_written_for_the_eye() {
    let page = get("/").await;
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("overview.html"), page.text).unwrap();
}

#[tokio::test]
async fn the_overview_shows_the_worst_first_and_who_was_not_seen() {
    let page = get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    let place = |text: &str| page.text.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(place(">partner-sso<") < place(">acquired-co<"), "grade F before an issuer never seen");
    assert!(place(">billing-b2b<") < place(">ephemeral-ci<"), "an issuer not seen is never among the good ones");
    assert!(place(">acme-workforce<") < place(">old-portal<"), "a retired issuer comes last");
    assert!(page.text.contains("<strong>not seen since</strong> 2026-03-10 18:00:00"));
    assert!(page.text.contains("<strong>never seen</strong>"));
    assert!(page.text.contains("1 min ago") && page.text.contains("in 4 min"));
    assert!(page.text.contains(r#"http-equiv="refresh" content="30""#));
    assert!(!page.text.contains("<script"));
}

#[tokio::test]
async fn an_issuer_is_found_by_a_part_of_its_name() {
    let page = get("/?q=PARTNER").await;
    assert!(page.text.contains(">partner-sso<") && !page.text.contains(">billing-b2b<"));
    let nothing = get("/?q=%22%3E%3Cscript%3Enobody").await;
    assert!(nothing.text.contains("No issuer matches") && !nothing.text.contains("<script"));
}

#[tokio::test]
async fn ten_thousand_issuers_are_shown_a_page_at_a_time() {
    let mut memory = estate::demo();
    let row = memory.rows[0].clone();
    memory.rows.extend(
        (0..10_000).map(|number| issuerwatch::store::IssuerRow {
            issuer: issuerwatch::model::IssuerId::new(format!("i{number:05}")),
            ..row.clone()
        }),
    );
    let app = app_with(memory, vitals());
    let first = get_from(app.clone(), "/").await;
    assert!(first.text.len() < 300_000, "{} bytes", first.text.len());
    assert!(first.text.contains("Page 1 of 51"));
    let last = get_from(app, "/?page=999999").await;
    assert!(last.text.contains("Page 51 of 51") && last.text.contains(">old-portal<"));
}

#[tokio::test]
async fn every_answer_keeps_a_browser_strict() {
    for path in ["/", "/report", "/healthz", "/readyz", "/metrics", "/nothing"] {
        let headers = get(path).await.headers;
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'unsafe-inline';"), "{path}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn only_loopback_names_are_served() {
    for (host, served) in [
        ("localhost", true),
        ("LOCALHOST.:9460", true),
        ("127.0.0.1:9460", true),
        ("127.8.9.1", true),
        ("[::1]:9460", true),
        ("[::ffff:127.0.0.1]", true),
        ("rebound.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("evil@localhost", false),
        ("10.0.0.1", false),
        ("0.0.0.0:9460", false),
        ("", false),
        ("local host", false),
    ] {
        let request = Request::get("/healthz").header("host", host).body(Body::empty()).unwrap();
        let expected = if served { StatusCode::OK } else { StatusCode::MISDIRECTED_REQUEST };
        assert_eq!(ask(app(), request).await.status, expected, "{host}");
    }
    let none = Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(ask(app(), none).await.status, StatusCode::MISDIRECTED_REQUEST);
    let two = Request::get("/healthz").header("host", "localhost").header("host", "evil.example").body(Body::empty()).unwrap();
    assert_eq!(ask(app(), two).await.status, StatusCode::MISDIRECTED_REQUEST);
    let target = Request::get("http://evil.example/healthz").header("host", "localhost").body(Body::empty()).unwrap();
    assert_eq!(ask(app(), target).await.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn pages_can_only_be_read() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let request = Request::builder().method(method).uri("/").header("host", "localhost").body(Body::empty()).unwrap();
        let answer = ask(app(), request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD");
        assert!(answer.text.contains("Pages can only be read"));
    }
    let head = Request::head("/").header("host", "localhost").body(Body::empty()).unwrap();
    let answer = ask(app(), head).await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_words() {
    let page = get("/issuers/acme").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.text.contains("There is no such page"));
    let report = get("/report?issuer=nobody").await;
    assert_eq!(report.status, StatusCode::NOT_FOUND);
    assert!(report.text.contains("knows no issuer"));
    for question in ["/report?since=yesterday", "/?page=minus"] {
        assert_eq!(get(question).await.status, StatusCode::BAD_REQUEST, "{question}");
    }
}

#[tokio::test]
async fn the_report_is_the_one_that_the_command_writes() {
    let page = get("/report").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let options = issuerwatch::report::Options {
        issuer: None,
        since: None,
        until: None,
        tz: chrono_tz::UTC,
        generated: now(),
        rule_text: &estate::rule_text,
    };
    let report = issuerwatch::report::gather(&mut estate::demo(), options).unwrap();
    assert_eq!(page.text, issuerwatch::report::html::render(&report).unwrap());
    let one = get("/report?issuer=partner-sso&since=30d").await;
    assert!(one.text.contains("Signing keys and metadata of partner-sso") && !one.text.contains("billing-b2b"));
}

#[tokio::test]
async fn health_is_the_process_and_readiness_is_its_work() {
    assert_eq!(get("/healthz").await.text, "ok\n");
    assert_eq!(get("/readyz").await.status, StatusCode::OK);
    let ready = |memory, vitals| async { get_from(app_with(memory, vitals), "/readyz").await };
    let asleep = ready(estate::demo(), Vitals { last_tick: Some(now() - Duration::minutes(10)), ..vitals() }).await;
    assert_eq!(asleep.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(asleep.text.contains("10 min ago"), "{}", asleep.text);
    let early = ready(estate::demo(), Vitals { last_tick: None, ..vitals() }).await;
    assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
    let broken = ready(Memory { broken: true, ..Memory::default() }, vitals()).await;
    assert_eq!(broken.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(broken.text.contains("database"));
}

#[tokio::test]
async fn a_broken_database_shows_nothing_of_its_insides() {
    let app = app_with(Memory { broken: true, ..Memory::default() }, vitals());
    for path in ["/", "/report", "/metrics", "/readyz"] {
        let page = get_from(app.clone(), path).await;
        assert!(page.status.is_server_error(), "{path}");
        assert!(!page.text.contains("secret"), "{path}: {}", page.text);
    }
    assert_eq!(get_from(app, "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_read_that_is_given_up_is_no_hang_and_no_panic() {
    let state = State {
        read: Arc::new(|job: Job| {
            drop(job);
            Box::pin(async {})
        }),
        clock: Arc::new(ManualClock::at(now())),
        tz: chrono_tz::UTC,
        rule_text: Arc::new(|_| None),
        started: now(),
        vitals: Arc::new(vitals),
    };
    assert_eq!(get_from(web::router(state), "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_metrics_are_open_metrics() {
    let page = get("/metrics").await;
    assert_eq!(page.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.text.ends_with("# EOF\n"));
    let has = |line: &str| assert!(page.text.lines().any(|l| l == line), "{line} is missing in\n{}", page.text);
    has(&format!("issuerwatch_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    has("issuerwatch_issuers 6");
    has("issuerwatch_polls_total 1234");
    has("issuerwatch_poll_failures_total 7");
    has("issuerwatch_config_last_reload_successful 1");
    has("issuerwatch_open_findings{issuer=\"partner-sso\",severity=\"critical\"} 1");
    has("issuerwatch_open_findings{issuer=\"acme-workforce\",severity=\"critical\"} 0");
    has("issuerwatch_keys{issuer=\"acme-workforce\"} 1");
    has("issuerwatch_last_success_timestamp_seconds{issuer=\"acquired-co\",document=\"jwks\"} 0");
    has(&format!(
        "issuerwatch_last_success_timestamp_seconds{{issuer=\"acme-workforce\",document=\"discovery\"}} {}",
        (now() - Duration::seconds(70)).timestamp()
    ));
    has("issuerwatch_alerts{state=\"dead\"} 0");
    assert!(!page.text.contains("signer-2"), "a key ID is no label");
}
