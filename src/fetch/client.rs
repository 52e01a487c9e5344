//! The HTTP clients of issuers: TLS, address policy in the resolver, bounds on headers. Built nowhere else.
//!
//! One client for each reach, because a pooled connection must never serve a request that might not have opened it.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use url::Url;

use super::FetchError;
use super::address::{Reach, Refusal};
use super::tls::{Recorder, Trust};

/// Who we say we are; the link tells a provider's operator what this is and how to have it stop.
const USER_AGENT: &str = concat!("issuerwatch/", env!("CARGO_PKG_VERSION"), " (+https://github.com/issuerwatch/issuerwatch)");
/// Kept open for the second document of a poll, not for the next poll, which should meet the provider afresh.
const IDLE: Duration = Duration::from_secs(2);
/// Connections outlive no client: a provider polled every second must not be seen through one old connection for ever.
const LIFETIME: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 256;
const MAX_HEADER_BYTES_HTTP2: u32 = 256 << 10;

/// The clients of one fetcher, renewed now and then.
pub(super) struct Clients {
    tls: ClientConfig,
    pub(super) recorder: Arc<Recorder>,
    proxy: Option<reqwest::Proxy>,
    time: Duration,
    present: RwLock<Present>,
}

struct Present {
    since: Instant,
    /// In the order of [`Reach::ALL`].
    clients: [Client; 3],
}

impl Clients {
    pub(super) fn new(ca_pem: &[Vec<u8>], proxy: Option<&Url>, time: Duration) -> Result<Self, FetchError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let recorder = Arc::new(Recorder::new(Trust::load(ca_pem)?, Arc::clone(&provider))?);
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Client(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&recorder) as _)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Without resumption every connection shows its whole chain.
        tls.resumption = Resumption::disabled();
        let proxy = proxy.map(proxy_of).transpose()?;
        let clients = build(&tls, proxy.as_ref(), time)?;
        let present = RwLock::new(Present { since: Instant::now(), clients });
        Ok(Self { tls, recorder, proxy, time, present })
    }

    /// Whether a proxy stands between us and every issuer.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// The client for requests of this reach.
    pub(super) fn client(&self, reach: Reach) -> Client {
        let place = Reach::ALL.iter().position(|other| *other == reach).expect("ALL has every reach");
        let present = self.present.read().expect("no holder of this lock panics");
        if present.since.elapsed() < LIFETIME {
            return present.clients[place].clone();
        }
        drop(present);
        let mut present = self.present.write().expect("no holder of this lock panics");
        if present.since.elapsed() >= LIFETIME {
            // It could be built before, so it can be built now; if not, the old ones go on.
            if let Ok(clients) = build(&self.tls, self.proxy.as_ref(), self.time) {
                present.clients = clients;
            }
            present.since = Instant::now();
        }
        present.clients[place].clone()
    }
}

fn proxy_of(url: &Url) -> Result<reqwest::Proxy, FetchError> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(FetchError::Proxy(format!("its scheme is \"{}\"; write \"http://host:port\"", url.scheme())));
    }
    reqwest::Proxy::all(url.clone()).map_err(|_| FetchError::Proxy("it is no usable URL; write \"http://host:port\"".to_owned()))
}

fn build(tls: &ClientConfig, proxy: Option<&reqwest::Proxy>, time: Duration) -> Result<[Client; 3], FetchError> {
    let [public, private, loopback] = Reach::ALL.map(|reach| client(reach, tls, proxy, time));
    Ok([public?, private?, loopback?])
}

#[expect(clippy::disallowed_methods, reason = "the one place where clients for issuers are built")]
fn client(reach: Reach, tls: &ClientConfig, proxy: Option<&reqwest::Proxy>, time: Duration) -> Result<Client, FetchError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/jwk-set+json, */*;q=0.1"));
    let builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .tls_info(true)
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .https_only(reach != Reach::Loopback)
        // Each phase ends a little before the whole, so that the same trouble is always told in the same words.
        .connect_timeout(time / 10 * 9)
        .pool_idle_timeout(IDLE)
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEADER_BYTES_HTTP2)
        .no_proxy();
    let builder = match proxy {
        // The proxy is the operator's own; the names of issuers are resolved by it.
        Some(proxy) => builder.proxy(proxy.clone()),
        None => builder.dns_resolver(Checked { reach, patience: time / 10 * 8 }),
    };
    builder.build().map_err(|error| FetchError::Client(error.to_string()))
}

/// The system's resolver, answering only with addresses that the policy allows: what is connected to is what was checked.
struct Checked {
    reach: Reach,
    patience: Duration,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { reach, patience } = *self;
        Box::pin(async move {
            let lookup = tokio::time::timeout(patience, tokio::net::lookup_host((name.as_str(), 0))).await;
            let resolved = lookup
                .map_err(|_| Unresolved("the resolver gave no answer in time".to_owned()))?
                .map_err(|error| Unresolved::because(&error))?;
            match reach.allowed(resolved.map(|address| address.ip())) {
                Ok(allowed) => Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs),
                Err(Some(refusal)) => Err(Refused(refusal).into()),
                Err(None) => Err(Unresolved("it has no address".to_owned()).into()),
            }
        })
    }
}

/// The name has no address, or the resolver could not say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unresolved(pub(super) String);

impl Unresolved {
    /// The system resolver's own words, without its preamble.
    fn because(error: &std::io::Error) -> Self {
        let text = error.to_string();
        Self(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
    }
}

/// The name resolves to refused addresses only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) Refusal);
