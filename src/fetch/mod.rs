//! One look at one issuer over the network: the only part that opens connections to issuers.
//!
//! Limits, redirects, address policy and TLS evidence live here and nowhere else. It judges nothing:
//! whatever happens becomes an [`Observation`]. It must never request plain http (but to loopback, where the
//! user permits it), never connect to an address that was not checked, and never log or repeat a body.

pub mod address;
mod client;
mod failure;
mod lanes;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use futures_util::StreamExt;
use reqwest::tls::TlsInfo;
use reqwest::{Response, StatusCode, header};
use url::{Host, Url};

use self::address::Reach;
use self::client::Clients;
use self::failure::{Asking, Failure, explain, shown};
use self::lanes::Lanes;
use crate::model::{Attempt, Body, Issuer, Observation, Redirect, Unseen, UnseenReason};
use crate::parse;
use crate::policy::Limits;

/// Bounds on what is kept of an answer's head; reading it is bounded by the client.
const MAX_HEADERS: usize = 128;
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Bounds on URLs that a provider names.
const MAX_URL: usize = 2048;

/// What a fetcher is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: Limits,
    /// PEM files with further trusted certificates, beside the system's roots.
    pub ca_pem: Vec<Vec<u8>>,
    /// The proxy for every request; environment proxies are not used.
    pub proxy: Option<Url>,
    /// Requests at one host and port at a time.
    pub per_host: usize,
}

/// Why no fetcher could be built.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("CA file {index} cannot be used: {reason}")]
    Ca { index: usize, reason: String },
    #[error("the proxy cannot be used: {0}")]
    Proxy(String),
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// What one fetch may do, as the user configured it for an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    pub allow_private: bool,
    pub allow_http_loopback: bool,
}

impl From<&Issuer> for Access {
    fn from(issuer: &Issuer) -> Self {
        Self { allow_private: issuer.allow_private, allow_http_loopback: issuer.allow_http_loopback }
    }
}

/// Looks at issuers. Cheap to share behind an `Arc`; a look is cancelled by dropping its future.
pub struct Fetcher {
    limits: Limits,
    clients: Clients,
    lanes: Lanes,
}

impl Fetcher {
    /// Loads the trusted certificates and sets up the clients.
    ///
    /// # Errors
    /// A CA file holds no usable certificate, or the proxy's URL is none that we can use.
    pub fn new(settings: &Settings) -> Result<Self, FetchError> {
        let clients = Clients::new(&settings.ca_pem, settings.proxy.as_ref(), settings.limits.time)?;
        Ok(Self { limits: settings.limits, clients, lanes: Lanes::new(settings.per_host) })
    }

    /// One look: the discovery document, then the key set at the configured URL, else where the document says,
    /// else (no document, or one that does not say) at the URL known from before.
    pub async fn observe(&self, issuer: &Issuer, at: DateTime<Utc>, known_jwks_uri: Option<&str>) -> Observation {
        let access = Access::from(issuer);
        let discovery = match issuer.discovery_request() {
            Some(url) => Some(self.fetch(&url, access).await),
            None => None,
        };
        let named = discovery.as_ref().and_then(Attempt::seen).map(|body| named_jwks_uri(body));
        let jwks = match (&issuer.jwks_uri, named, known_jwks_uri) {
            (Some(configured), _, _) => Some(self.fetch_named(configured, access).await),
            (None, Some(Some(named)), _) => Some(self.fetch_named(&named, access).await),
            (None, _, Some(known)) => Some(self.fetch_named(known, access).await),
            (None, Some(None), None) => Some(no_jwks_uri(String::new(), "the discovery document names none")),
            (None, None, None) => None,
        };
        Observation { issuer: issuer.id.clone(), at: at.trunc_subsecs(0), discovery, jwks }
    }

    /// One document, with its redirects, within the limits.
    pub async fn fetch(&self, url: &str, access: Access) -> Attempt {
        let mut attempt = Attempt { url: bounded(url), ..Attempt::default() };
        let mut spent = Duration::ZERO;
        match self.follow(url, access, &mut attempt, &mut spent).await {
            Ok(body) => attempt.body = Some(Arc::new(Body::served(body))),
            Err(unseen) => attempt.unseen = Some(unseen),
        }
        attempt.took_ms = Some(u64::try_from(spent.as_millis()).unwrap_or(u64::MAX));
        attempt
    }

    async fn fetch_named(&self, jwks_uri: &str, access: Access) -> Attempt {
        match Url::parse(jwks_uri) {
            Ok(_) if jwks_uri.len() <= MAX_URL => self.fetch(jwks_uri, access).await,
            Ok(_) => no_jwks_uri(bounded(jwks_uri), "the one named is longer than any URL we follow"),
            Err(_) => no_jwks_uri(bounded(jwks_uri), "the one named is no absolute URL"),
        }
    }

    /// Requests, and follows redirects by ourselves: each is recorded, and checked before it is requested.
    async fn follow(&self, url: &str, access: Access, attempt: &mut Attempt, spent: &mut Duration) -> Result<Vec<u8>, Unseen> {
        let mut target = Url::parse(url).map_err(|_| Unseen::new(UnseenReason::NotHttps, "the URL is not absolute"))?;
        let mut requested: Vec<Url> = Vec::new();
        loop {
            target.set_fragment(None);
            if requested.contains(&target) {
                return Err(Unseen::new(UnseenReason::Redirect, format!("they lead in a circle, back to {}", shown(&target))));
            }
            if requested.len() > self.limits.redirects {
                return Err(Unseen::new(UnseenReason::Redirect, format!("more than {} of them", self.limits.redirects)));
            }
            let reach = self.admit(&target, access)?;
            match self.exchange(&target, reach, attempt, spent).await? {
                Answer::Document(bytes) => return Ok(bytes),
                Answer::Elsewhere(next) => requested.push(std::mem::replace(&mut target, next)),
            }
        }
    }

    /// Whether the URL may be requested at all, and which addresses that request may connect to.
    fn admit(&self, url: &Url, access: Access) -> Result<Reach, Unseen> {
        let reach = match url.scheme() {
            "https" if access.allow_private => Reach::Private,
            "https" => Reach::Public,
            "http" if access.allow_http_loopback && is_loopback_host(url) => Reach::Loopback,
            _ => return Err(Unseen::new(UnseenReason::NotHttps, format!("{} is never requested", shown(url)))),
        };
        // The resolver sees names only, and none behind a proxy.
        match literal(url) {
            Some(address) => reach.judge(address).map_err(|refusal| Unseen::new(UnseenReason::AddressRefused, refusal))?,
            None if self.clients.is_proxied() => admit_name(url, reach)?,
            None => {}
        }
        Ok(reach)
    }

    /// One request within what is left of the time; waiting for our own turn does not count.
    async fn exchange(&self, url: &Url, reach: Reach, attempt: &mut Attempt, spent: &mut Duration) -> Result<Answer, Unseen> {
        let _turn = self.lanes.enter(url).await;
        let started = Instant::now();
        let left = self.limits.time.saturating_sub(*spent);
        let answer = tokio::time::timeout(left, self.ask(url, reach, attempt)).await;
        *spent += started.elapsed();
        answer.unwrap_or_else(|_| {
            let what = if attempt.status == 0 { "no answer" } else { "no complete answer" };
            Err(Unseen::new(UnseenReason::Timeout, format!("{what} within {}", in_words(self.limits.time))))
        })
    }

    async fn ask(&self, url: &Url, reach: Reach, attempt: &mut Attempt) -> Result<Answer, Unseen> {
        attempt.status = 0;
        attempt.headers.clear();
        attempt.tls = None;
        attempt.address = literal(url).filter(|_| !self.clients.is_proxied()).map(|address| address.to_string());

        let asking = Asking { url, proxied: self.clients.is_proxied() };
        let response = match self.clients.client(reach).get(url.clone()).send().await {
            Ok(response) => response,
            Err(error) => {
                let Failure { unseen, tls } = explain(&error, asking);
                attempt.tls = tls;
                return Err(unseen);
            }
        };
        self.note(url, &response, attempt);
        match response.status() {
            StatusCode::OK => self.read(response, asking).await.map(Answer::Document),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED if asking.proxied => {
                attempt.status = 0;
                Err(Unseen::new(UnseenReason::Connect, "the proxy asks for a user and a password (407); write them into its URL"))
            }
            status if is_redirect(status) => elsewhere(url, &response, attempt).map(Answer::Elsewhere),
            status => Err(Unseen::new(UnseenReason::Status, status.as_u16())),
        }
    }

    /// Records the head of an answer and the connection that it came over.
    fn note(&self, url: &Url, response: &Response, attempt: &mut Attempt) {
        attempt.status = response.status().as_u16();
        attempt.headers = headers(response.headers());
        if !self.clients.is_proxied() {
            attempt.address = response.remote_addr().map(|address| address.ip().to_string());
        }
        attempt.tls = match response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate) {
            Some(leaf) => Some(self.clients.recorder.of_leaf(leaf)),
            None if url.scheme() == "https" => self.clients.recorder.of_name(host(url)),
            None => None,
        };
    }

    /// Reads the decompressed body up to the limit, and no further.
    async fn read(&self, response: Response, asking: Asking<'_>) -> Result<Vec<u8>, Unseen> {
        let limit = self.limits.body;
        let too_large = || Unseen::new(UnseenReason::TooLarge, format!("the body exceeds {limit} bytes"));
        // What we can decompress is decompressed by now, and the header gone.
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Unseen::new(UnseenReason::BrokenHttp, "the body comes in a Content-Encoding that we did not ask for"));
        }
        if response.content_length().is_some_and(|announced| announced > limit as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| explain(&error, asking).unseen)?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// What one request came to.
enum Answer {
    Document(Vec<u8>),
    Elsewhere(Url),
}

fn no_jwks_uri(url: String, why: &str) -> Attempt {
    Attempt { url, unseen: Some(Unseen::new(UnseenReason::NoJwksUri, why)), ..Attempt::default() }
}

/// The last `jwks_uri` of a discovery document, where it is a string.
fn named_jwks_uri(body: &Body) -> Option<String> {
    parse::discovery(body, parse::LIFECYCLE_DEPTH).ok()?.jwks_uri().map(str::to_owned)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, recorded.
fn elsewhere(from: &Url, response: &Response, attempt: &mut Attempt) -> Result<Url, Unseen> {
    let status = response.status().as_u16();
    let nowhere = |why: &str| Unseen::new(UnseenReason::Redirect, format!("{status} {why}"));
    let location = response.headers().get(header::LOCATION).ok_or_else(|| nowhere("without a Location"))?;
    let location = String::from_utf8_lossy(location.as_bytes());
    if location.len() > MAX_URL {
        return Err(nowhere("to a Location longer than any URL we follow"));
    }
    let mut to = from.join(&location).map_err(|_| nowhere("to a Location that is no URL"))?;
    // What a provider writes there are no credentials of ours; both fail only without a host.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    attempt.redirects.push(Redirect { status, to: to.to_string() });
    Ok(to)
}

/// Localhost, 127.0.0.0/8 or ::1, in whatever notation the URL had.
fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name) == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Behind a proxy the proxy resolves, so all we can refuse is a name that means an address by itself.
fn admit_name(url: &Url, reach: Reach) -> Result<(), Unseen> {
    let name = url.host_str().unwrap_or_default();
    match address::kind_of_name(name) {
        Some(kind) if reach == Reach::Public || kind.is_always_refused() => {
            Err(Unseen::new(UnseenReason::AddressRefused, format!("{name} names {}", kind.name())))
        }
        _ => Ok(()),
    }
}

/// All headers as text, up to the bounds.
fn headers(map: &header::HeaderMap) -> Vec<(String, String)> {
    let mut bytes = 0;
    map.iter()
        .take(MAX_HEADERS)
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .take_while(|(name, value)| {
            bytes += name.len() + value.len();
            bytes <= MAX_HEADER_BYTES
        })
        .collect()
}

/// The host without the brackets of IPv6, as TLS names it.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// A URL as far as we keep it.
fn bounded(url: &str) -> String {
    if url.len() <= MAX_URL { url.to_owned() } else { url.chars().take(MAX_URL).collect() }
}

fn in_words(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
