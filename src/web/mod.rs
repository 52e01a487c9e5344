//! The pages an operator looks at and the numbers a monitoring system reads; GET and HEAD only, on loopback.
//!
//! Handlers read the store, make a view and draw it. Nothing here writes, and nothing answers a request that
//! names another host (DNS rebinding).

mod error;
mod metrics;
mod pages;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::clock::Clock;
use crate::model::RuleText;
use crate::store::{Store, StoreError};
use error::Problem;

/// Work for a thread that holds a store.
pub type Job = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// Hands a [`Job`] to such a thread; resolves when it ran, or was given up.
pub type Read = Arc<dyn Fn(Job) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The texts of a rule by its id.
pub type RuleTexts = Arc<dyn Fn(&str) -> Option<RuleText> + Send + Sync>;

/// How the running monitor does; asked at each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// When the scheduler last looked for due issuers; it must at least every 30 seconds.
    pub last_tick: Option<DateTime<Utc>>,
    /// Polls that ended since the start.
    pub polls: u64,
    /// Those of them in which a document could not be fetched.
    pub poll_failures: u64,
    /// Whether the last load of the configuration was good, and when the last good one was.
    pub config_loaded: bool,
    pub config_loaded_at: Option<DateTime<Utc>>,
}

/// What the pages need; cheap to clone.
#[derive(Clone)]
pub struct State {
    pub read: Read,
    pub clock: Arc<dyn Clock>,
    /// In which times are shown.
    pub tz: Tz,
    pub rule_text: RuleTexts,
    /// When the process started.
    pub started: DateTime<Utc>,
    pub vitals: Arc<dyn Fn() -> Vitals + Send + Sync>,
}

/// A `State` with what the handlers share.
#[derive(Clone)]
struct App {
    state: State,
    overview: Arc<tokio::sync::Mutex<Option<Arc<pages::Estate>>>>,
}

impl App {
    /// Runs a read on a store thread.
    async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        (self.state.read)(Box::new(move |store| {
            let result = job(store);
            *slot.lock().expect("no holder of this lock panics") = Some(result);
        }))
        .await;
        let result = answer.lock().expect("no holder of this lock panics").take();
        result.unwrap_or_else(|| Err(StoreError::Busy("the store gave the request up".to_owned())))
    }
}

/// Every page of this version.
pub fn router(state: State) -> Router {
    let app = App { state, overview: Arc::default() };
    Router::new()
        .route("/", get(pages::overview))
        .route("/report", get(pages::report))
        .route("/healthz", get(pages::healthz))
        .route("/readyz", get(pages::readyz))
        .route("/metrics", get(metrics::metrics))
        .fallback(|| async { Problem::not_found() })
        .with_state(app)
        .layer(from_fn(guard))
}

/// Before a page: the host and the method. After it: the headers that keep a browser strict.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if !is_ours(&request) {
        Problem::foreign_host().into_response()
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = Problem::method_not_allowed().into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    } else {
        next.run(request).await
    };
    const STRICT: [(HeaderName, &str); 7] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in STRICT {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request names a loopback host, in its target and in every Host header: a page of another site whose name was
/// made to resolve to us says that name.
fn is_ours(request: &Request) -> bool {
    let target = request.uri().authority().map(|authority| authority.as_str());
    let headers: Vec<Option<&str>> = request.headers().get_all(HOST).iter().map(|host| host.to_str().ok()).collect();
    let mut named = target.map(Some).into_iter().chain(headers).peekable();
    named.peek().is_some() && named.all(|host| host.is_some_and(is_loopback))
}

/// `localhost`, a name under it, or a loopback address, with or without a port.
fn is_loopback(authority: &str) -> bool {
    let Ok(uri) = Uri::builder().scheme("http").authority(authority).path_and_query("/").build() else { return false };
    let Some(host) = uri.host().filter(|_| !authority.contains('@')) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// The status of an answer in plain words, for machines.
fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into() + "\n").into_response()
}
