//! What a TLS handshake shows: a verifier that notes the presented chain, then verifies it.
//!
//! It must never accept what webpki refuses, but for a certificate that the user handed us as trusted itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::FetchError;
use crate::model::{CertificateFacts, Digest, TlsFacts, timestamp};

/// Bounds on what is kept of a hostile chain; rustls itself bounds its bytes at 64 KiB.
const MAX_CERTIFICATES: usize = 10;
const MAX_NAMES: usize = 100;
const MAX_TEXT: usize = 512;
/// Handshakes kept at most in each of the two halves of the memory.
const MAX_HANDSHAKES: usize = 4096;

/// The trust of one fetcher: the system's roots and the user's own.
pub(super) struct Trust {
    roots: RootCertStore,
    given: HashSet<CertificateDer<'static>>,
}

impl Trust {
    /// The system's roots, and every certificate of the given PEM files.
    pub(super) fn load(ca_pem: &[Vec<u8>]) -> Result<Self, FetchError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (used, passed_over) = roots.add_parsable_certificates(system.certs);
        tracing::debug!(used, passed_over, errors = system.errors.len(), "system roots loaded");
        let mut given = HashSet::new();
        for (index, pem) in ca_pem.iter().enumerate() {
            let bad = |reason: String| FetchError::Ca { index: index + 1, reason };
            let certificates: Vec<_> =
                CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
            if certificates.is_empty() {
                return Err(bad("it holds no PEM certificate (\"-----BEGIN CERTIFICATE-----\")".to_owned()));
            }
            for certificate in certificates {
                roots.add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
                given.insert(certificate);
            }
        }
        Ok(Self { roots, given })
    }
}

/// Notes every presented chain, then verifies it.
pub(super) struct Recorder {
    /// `None` without any root: nobody is trusted then.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    given: HashSet<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    memory: Mutex<Memory>,
}

/// Handshakes by the digest of their leaf, in two halves: the older one is forgotten when the newer one is full.
#[derive(Default)]
struct Memory {
    newer: Half,
    older: Half,
}

#[derive(Default)]
struct Half {
    handshakes: HashMap<Digest, Handshake>,
    /// The leaf that a name last presented.
    names: HashMap<String, Digest>,
}

#[derive(Clone)]
struct Handshake {
    chain: Arc<[CertificateFacts]>,
    version: &'static str,
}

impl Memory {
    fn keep(&mut self, leaf: Digest, handshake: Handshake) {
        if self.newer.handshakes.len() >= MAX_HANDSHAKES || self.newer.names.len() >= MAX_HANDSHAKES {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.handshakes.insert(leaf, handshake);
    }

    fn find(&mut self, leaf: Digest) -> Option<Handshake> {
        if let Some(handshake) = self.newer.handshakes.get(&leaf) {
            return Some(handshake.clone());
        }
        let handshake = self.older.handshakes.remove(&leaf)?;
        self.keep(leaf, handshake.clone());
        Some(handshake)
    }

    fn last_of(&self, name: &str) -> Option<Digest> {
        self.newer.names.get(name).or_else(|| self.older.names.get(name)).copied()
    }
}

impl Recorder {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Result<Self, FetchError> {
        let webpki = if trust.roots.is_empty() {
            None
        } else {
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(trust.roots), Arc::clone(&provider)).build();
            Some(built.map_err(|error| FetchError::Client(error.to_string()))?)
        };
        Ok(Self { webpki, given: trust.given, provider, memory: Mutex::default() })
    }

    /// What the handshake that showed this leaf certificate told.
    pub(super) fn of_leaf(&self, leaf: &[u8]) -> TlsFacts {
        let found = self.memory().find(Digest::of(leaf));
        found.map_or_else(|| TlsFacts { chain: vec![certificate_facts(leaf)], ..TlsFacts::default() }, |handshake| facts(&handshake))
    }

    /// What the last handshake with this name told; for connections through a proxy, which do not say what they are.
    pub(super) fn of_name(&self, name: &str) -> Option<TlsFacts> {
        let mut memory = self.memory();
        let leaf = memory.last_of(name)?;
        memory.find(leaf).map(|handshake| facts(&handshake))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of this lock panics")
    }

    fn note_version(&self, leaf: &CertificateDer<'_>, version: &'static str) {
        let mut memory = self.memory();
        let leaf = Digest::of(leaf);
        if let Some(handshake) = memory.find(leaf) {
            memory.keep(leaf, Handshake { version, ..handshake });
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(webpki) = &self.webpki else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        match webpki.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            // A self-signed certificate that the user named as trusted is no CA's work, so webpki cannot accept it.
            Err(rustls::Error::InvalidCertificate(_)) if self.given.contains(leaf) => verify_given(leaf, name, now),
            verdict => verdict,
        }
    }
}

/// A certificate that is trusted itself still needs the right name and date.
fn verify_given(leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
    rustls::client::verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > certificate.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(ServerCertVerified::assertion())
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Arc<[CertificateFacts]> =
            std::iter::once(leaf).chain(intermediates).take(MAX_CERTIFICATES).map(|certificate| certificate_facts(certificate)).collect();
        let digest = Digest::of(leaf);
        let mut memory = self.memory();
        // Another connection with the same leaf may be asked about right now: its version stays.
        let version = memory.find(digest).map_or("", |handshake| handshake.version);
        memory.keep(digest, Handshake { chain: Arc::clone(&chain), version });
        memory.newer.names.insert(name.to_str().into_owned(), digest);
        drop(memory);
        self.verify(leaf, intermediates, name, ocsp, now).map_err(|error| {
            let rejected = Rejected { name: name.to_str().into_owned(), cause: cause(&error, &chain, name), chain };
            CertificateError::Other(OtherError(Arc::new(rejected))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note_version(certificate, "TLSv1.2");
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note_version(certificate, "TLSv1.3");
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A chain that did not verify, carried through the error so that it belongs to the request that met it.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The name that was asked for.
    pub(super) name: String,
    pub(super) cause: String,
    chain: Arc<[CertificateFacts]>,
}

impl Rejected {
    pub(super) fn facts(&self) -> TlsFacts {
        TlsFacts { chain: self.chain.to_vec(), ..TlsFacts::default() }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Rejected {}

/// Without the cipher: no hook of rustls or reqwest tells which one a connection uses.
fn facts(handshake: &Handshake) -> TlsFacts {
    TlsFacts { version: handshake.version.to_owned(), cipher: String::new(), chain: handshake.chain.to_vec() }
}

/// Why a chain did not verify, in words that stay the same from poll to poll.
fn cause(error: &rustls::Error, chain: &[CertificateFacts], name: &ServerName<'_>) -> String {
    let rustls::Error::InvalidCertificate(error) = error else {
        return "the certificate cannot be verified".to_owned();
    };
    let leaf = chain.first();
    // webpki does not say whose date it was: whichever certificate of the chain ends first, or begins last.
    let ends = chain.iter().map(|certificate| certificate.not_after).min().map(timestamp).unwrap_or_default();
    let begins = chain.iter().map(|certificate| certificate.not_before).max().map(timestamp).unwrap_or_default();
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!("the certificate expired at {ends}"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate is not valid before {begins}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not for {} but for {}", name.to_str(), leaf.map_or_else(String::new, names_in_words))
        }
        CertificateError::UnknownIssuer | CertificateError::Other(_)
            if leaf.is_some_and(|leaf| chain.len() == 1 && leaf.subject == leaf.issuer) =>
        {
            "the certificate is self-signed".to_owned()
        }
        CertificateError::UnknownIssuer => "the certificate's issuer is not known (no path to a trusted root)".to_owned(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate is that of a certificate authority".to_owned()
        }
        CertificateError::BadSignature => "the certificate was not signed by the issuer that it names".to_owned(),
        CertificateError::Revoked => "the certificate is revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for TLS servers".to_owned()
        }
        CertificateError::BadEncoding => "the certificate is malformed".to_owned(),
        CertificateError::UnhandledCriticalExtension => "the certificate has an unknown critical extension".to_owned(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate's signature algorithm or key is too weak or not supported".to_owned()
        }
        _ => "the certificate is invalid".to_owned(),
    }
}

/// The first names of a certificate, without anything that is no host name.
fn names_in_words(leaf: &CertificateFacts) -> String {
    const SHOWN: usize = 5;
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-*:_".contains(c) { c } else { '?' };
    let mut names: Vec<String> = leaf.names.iter().take(SHOWN).map(|name| name.chars().take(100).map(plain).collect()).collect();
    if leaf.names.len() > SHOWN {
        names.push(format!("{} more", leaf.names.len() - SHOWN));
    }
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

/// What we keep of one certificate; of an unreadable one only its digest.
pub(super) fn certificate_facts(der: &[u8]) -> CertificateFacts {
    let sha256 = Digest::of(der).to_string();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        let epoch = DateTime::UNIX_EPOCH;
        let none = String::new;
        return CertificateFacts {
            sha256,
            subject: none(),
            issuer: none(),
            serial: none(),
            not_before: epoch,
            not_after: epoch,
            names: Vec::new(),
        };
    };
    let instant = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    CertificateFacts {
        sha256,
        subject: bounded(certificate.subject().to_string()),
        issuer: bounded(certificate.issuer().to_string()),
        serial: bounded(certificate.raw_serial().iter().map(|octet| format!("{octet:02x}")).collect()),
        not_before: instant(certificate.validity().not_before.timestamp()),
        not_after: instant(certificate.validity().not_after.timestamp()),
        names: alternative_names(&certificate),
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(bounded((*name).to_owned())),
        GeneralName::IPAddress(octets) => address(octets),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).take(MAX_NAMES).collect()
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(octets).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

fn bounded(text: String) -> String {
    if text.len() <= MAX_TEXT { text } else { text.chars().take(MAX_TEXT).collect() }
}
