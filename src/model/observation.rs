//! One look at one issuer: evidence, never edited.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::IssuerId;

/// A SHA-256 of a body's bytes as served; shown as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Parses 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut octets = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, octet) in octets.iter_mut().enumerate() {
            *octet = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
        }
        Some(Self(octets))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A body within the limits.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// Of the bytes as served, also where secrets were cut out of `bytes`.
    pub sha256: Digest,
    pub bytes: Vec<u8>,
    /// Pointers of the members whose value was cut out (stored as `""`); they are judged as present and not empty.
    pub redacted: Vec<String>,
}

impl Body {
    /// A body as it came from the wire.
    #[must_use]
    pub fn served(bytes: Vec<u8>) -> Self {
        Self { sha256: Digest::of(&bytes), bytes, redacted: Vec::new() }
    }
}

/// Bodies are hostile and may hold secrets: never printed.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({}, {} bytes)", self.sha256, self.bytes.len())
    }
}

/// One look at one issuer; `None` for a document that was not attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub issuer: IssuerId,
    /// Whole seconds.
    pub at: DateTime<Utc>,
    pub discovery: Option<Attempt>,
    pub jwks: Option<Attempt>,
}

impl Observation {
    /// Whether both looks at the issuer were answered alike: same URLs, statuses, documents, errors, redirects,
    /// certificates and stable headers. Times, addresses and headers that tell the time do not count.
    #[must_use]
    pub fn same_answer(&self, other: &Self) -> bool {
        self.answer() == other.answer()
    }

    /// A hash of what [`Observation::same_answer`] compares, so that a store need not keep or read the answer itself.
    #[must_use]
    pub fn answer(&self) -> Digest {
        let attempts = [&self.discovery, &self.jwks].map(|attempt| attempt.as_ref().map(Attempt::answer));
        Digest::of(unmistakable(&(&self.issuer, attempts)).as_bytes())
    }
}

/// One attempt to fetch a document, with everything it told us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    /// The URL first requested.
    pub url: String,
    /// The final HTTP status; 0: no HTTP answer.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The final body; `None` for a failed attempt.
    pub body: Option<Arc<Body>>,
    /// Why we could not look; `None` for a final 200 with a body within the limits.
    pub unseen: Option<Unseen>,
    pub took_ms: Option<u64>,
    /// Every redirect that was answered, in order, a refused last one included.
    pub redirects: Vec<Redirect>,
    /// The address of the last connection.
    pub address: Option<String>,
    pub tls: Option<TlsFacts>,
}

impl Attempt {
    /// The value of a header, by its name in any case; the first of several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether both attempts were answered alike; see [`Observation::same_answer`].
    #[must_use]
    pub fn same_answer(&self, other: &Self) -> bool {
        self.answer() == other.answer()
    }

    /// What is compared, as a text that differs whenever the answer does.
    fn answer(&self) -> String {
        let stable = |name: &&str| self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(stable_value).collect();
        let headers: [Vec<Cow<'_, str>>; STABLE_HEADERS.len()] = STABLE_HEADERS.each_ref().map(stable);
        let document = self.body.as_ref().map(|body| body.sha256.to_string());
        let error = self.unseen.as_ref().map(|unseen| &unseen.text);
        // Not the cipher: it hangs on the client's machine as much as on the server.
        let tls = self.tls.as_ref().map(|tls| (&tls.version, tls.chain.iter().map(|one| &one.sha256).collect::<Vec<_>>()));
        unmistakable(&(&self.url, self.status, document, error, &self.redirects, headers, tls))
    }

    /// The body where we could look.
    #[must_use]
    pub fn seen(&self) -> Option<&Arc<Body>> {
        self.body.as_ref().filter(|_| self.unseen.is_none())
    }
}

/// The headers that make two answers differ. Others tell the time (`Date`, `Age`), the route or the request.
const STABLE_HEADERS: [&str; 9] = [
    "content-type",
    "cache-control",
    "etag",
    "last-modified",
    "server",
    "content-encoding",
    "vary",
    "access-control-allow-origin",
    "strict-transport-security",
];

/// A text that no other value gives, the same in every version of this program.
fn unmistakable<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists of them are always JSON")
}

/// What of a stable header is compared: of `Cache-Control` the directives' names, because caches count `max-age` down.
fn stable_value((name, value): &(String, String)) -> Cow<'_, str> {
    if !name.eq_ignore_ascii_case("cache-control") {
        return Cow::Borrowed(value);
    }
    let directives = value.split(',').filter_map(|directive| directive.split('=').next());
    let names: BTreeSet<String> = directives.map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
    Cow::Owned(names.into_iter().collect::<Vec<_>>().join(","))
}

/// One redirect: which status, and where to (absolute).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub status: u16,
    pub to: String,
}

/// What the TLS handshake showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`; empty where the handshake did not end.
    pub version: String,
    pub cipher: String,
    /// The presented chain, leaf first.
    pub chain: Vec<CertificateFacts>,
}

/// One certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Hex SHA-256 of the DER bytes.
    pub sha256: String,
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
    /// Subject alternative names (DNS names and addresses).
    pub names: Vec<String>,
}

/// Why we could not look: a closed reason that rules branch on, and the text people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    pub reason: UnseenReason,
    pub text: String,
}

/// The closed set of reasons for not having seen a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnseenReason {
    Dns,
    Connect,
    Tls,
    Timeout,
    TooLarge,
    /// Too many redirects, a loop, or a redirect to nowhere.
    Redirect,
    /// The address policy refused it.
    AddressRefused,
    NotHttps,
    NoJwksUri,
    BrokenHttp,
    /// Answered with another status than 200.
    Status,
    /// Our own shutdown; never the provider's fault.
    Cancelled,
    /// Read from an archive whose recorder gave another text.
    Other,
}

impl UnseenReason {
    const PREFIXES: [(Self, &'static str); 12] = [
        (Self::Dns, "dns"),
        (Self::Connect, "connect"),
        (Self::Tls, "tls"),
        (Self::Timeout, "timeout"),
        (Self::TooLarge, "too large"),
        (Self::Redirect, "redirect"),
        (Self::AddressRefused, "address refused"),
        (Self::NotHttps, "not https"),
        (Self::NoJwksUri, "no jwks_uri"),
        (Self::BrokenHttp, "broken http"),
        (Self::Status, "HTTP"),
        (Self::Cancelled, "cancelled"),
    ];
}

impl Unseen {
    /// A reason and its details; the text is `reason: details`, or `HTTP 404` for a status.
    #[must_use]
    pub fn new(reason: UnseenReason, details: impl fmt::Display) -> Self {
        let prefix = UnseenReason::PREFIXES.iter().find(|(r, _)| *r == reason).map(|(_, prefix)| *prefix);
        let text = match (reason, prefix) {
            (UnseenReason::Status, _) => format!("HTTP {details}"),
            (_, Some(prefix)) => format!("{prefix}: {details}"),
            (_, None) => details.to_string(),
        };
        Self { reason, text }
    }

    /// The reason behind an archive's `error` text, kept exactly.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        let text = text.into();
        let reason = UnseenReason::PREFIXES
            .iter()
            .find(|(_, prefix)| {
                text.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(':') || (*prefix == "HTTP" && rest.starts_with(' ')))
            })
            .map_or_else(|| foreign_reason(&text), |(reason, _)| *reason);
        Self { reason, text }
    }
}

/// What the words of another recorder mean: those of Go's standard library, in which the best-known archives are kept.
fn foreign_reason(text: &str) -> UnseenReason {
    const WORDS: [(&str, UnseenReason); 5] = [
        ("tls: failed to verify certificate", UnseenReason::Tls),
        ("no such host", UnseenReason::Dns),
        ("connection refused", UnseenReason::Connect),
        ("context deadline exceeded", UnseenReason::Timeout),
        ("i/o timeout", UnseenReason::Timeout),
    ];
    WORDS.iter().find(|(words, _)| text.contains(words)).map_or(UnseenReason::Other, |(_, reason)| *reason)
}
