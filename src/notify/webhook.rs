//! Webhooks after Standard Webhooks 1.0: signed, bounded, never following a redirect.
//!
//! The URL may be a secret itself (chat products do that): it is in no error and no log.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use sha2::Sha256;

use super::{ChannelError, Message, NotDelivered, chain, is_loopback};
use crate::model::{Alert, visible};

/// One delivery, from connecting to the answer's head.
const TIME: Duration = Duration::from_secs(15);
/// How much of a refusal is read, to quote it to the operator.
const ANSWER: usize = 1024;
/// The most that a receiver may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What the configuration says about a webhook.
#[derive(Clone, Default)]
pub struct WebhookSettings {
    pub id: String,
    /// `https`, or `http` to loopback.
    pub url: String,
    /// `whsec_` and base64; two while they are changed.
    pub secrets: Vec<String>,
    /// Certificates added to the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// The operator's HTTP proxy; the environment's is never used, and loopback never goes through it.
    pub proxy: Option<String>,
}

/// A webhook, ready to send.
pub struct Webhook {
    id: String,
    url: Url,
    keys: Vec<Vec<u8>>,
    client: reqwest::Client,
}

impl Webhook {
    /// Checks the settings and builds the client.
    ///
    /// # Errors
    /// The URL, a secret, the CA or the proxy is not what it should be.
    pub fn new(settings: WebhookSettings) -> Result<Self, ChannelError> {
        let WebhookSettings { id, url, secrets, ca_pem, proxy } = settings;
        let wrong = |what: String| ChannelError { id: id.clone(), what };
        let url = Url::parse(&url).map_err(|error| wrong(format!("the url is no absolute URL ({error})")))?;
        let loopback = is_loopback(url.host_str().unwrap_or_default());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(wrong("the url must be https (http only to loopback)".into())),
        }
        if secrets.is_empty() {
            return Err(wrong("a webhook needs a secret to sign with: secrets = [{ file = \"…\" }], whsec_ and base64".into()));
        }
        let keys = secrets.iter().map(|secret| key(secret)).collect::<Result<_, _>>().map_err(wrong)?;
        let proxy = proxy.filter(|_| !loopback);
        let client = client(ca_pem.as_deref(), proxy.as_deref()).map_err(wrong)?;
        Ok(Self { id, url, keys, client })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) async fn deliver(&self, alert: &Alert, message: &Message, now: DateTime<Utc>) -> Result<(), NotDelivered> {
        let seconds = now.timestamp();
        let response = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &alert.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.signature(&alert.id, seconds, &message.json))
            .body(message.json.clone())
            .send()
            .await
            .map_err(|error| NotDelivered::later(chain(&error.without_url())))?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refusal(response, now).await)
    }

    /// One signature per secret, so that a receiver may change its own at any time.
    fn signature(&self, id: &str, seconds: i64, body: &str) -> String {
        let sign = |key: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(format!("{id}.{seconds}.").as_bytes());
            mac.update(body.as_bytes());
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

/// The bytes of a `whsec_` secret. Its text is in no message.
fn key(secret: &str) -> Result<Vec<u8>, String> {
    let encoded = secret.strip_prefix("whsec_").ok_or("a secret must begin with whsec_")?;
    match STANDARD.decode(encoded) {
        Ok(key) if key.is_empty() => Err("a secret is empty after whsec_".into()),
        Ok(key) => Ok(key),
        Err(_) => Err("a secret is no base64 after whsec_".into()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the client of the operator's own webhooks; issuers are fetched by fetch/ only")]
fn client(ca_pem: Option<&[u8]>, proxy: Option<&str>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_pem)?)
        .user_agent(concat!("issuerwatch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIME)
        .no_proxy();
    if let Some(proxy) = proxy {
        builder =
            builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| format!("the proxy is no URL: {}", chain(&error.without_url())))?);
    }
    builder.build().map_err(|error| format!("the HTTP client cannot be built: {}", chain(&error)))
}

fn tls(ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, String> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = ca_pem {
        let own: Vec<_> = rustls::pki_types::CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the CA file is no PEM: {error}"))?;
        if own.is_empty() {
            return Err("the CA file holds no certificate".into());
        }
        for certificate in own {
            roots.add(certificate).map_err(|error| format!("the CA file holds a broken certificate: {error}"))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What an answer other than 2xx means. The receiver is the operator's; what it says is quoted, never followed.
async fn refusal(response: Response, now: DateTime<Utc>) -> NotDelivered {
    let status = response.status();
    // Standard Webhooks: 410 Gone disables, 429 and 503 throttle, everything else is tried again.
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|value| retry_after(value, now));
    if status.is_redirection() {
        return NotDelivered::later(format!("HTTP {}: redirects are not followed; configure the final url", status.as_u16()));
    }
    let said = beginning(response).await;
    let error = if said.is_empty() { format!("HTTP {}", status.as_u16()) } else { format!("HTTP {}: {said}", status.as_u16()) };
    if status == StatusCode::GONE {
        return NotDelivered::Never(error);
    }
    NotDelivered::Later { error, after: after.filter(|_| waits) }
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The first bytes of an answer, as one line.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    // An answer that breaks off is quoted as far as it came: the status alone decides.
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER - bytes.len())]);
        if bytes.len() >= ANSWER {
            break;
        }
    }
    visible(String::from_utf8_lossy(&bytes).trim(), 200)
}
