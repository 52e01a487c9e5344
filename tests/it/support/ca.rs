//! A certificate authority of the test's own, made by rcgen.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Signs certificates; trusted by whoever is given its [`Ca::pem`].
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate chain and key.
#[derive(Clone)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = params(&[], "issuerwatch test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, key()).expect("a CA certificate") }
    }

    /// The CA's certificate, as `ca_file` takes it.
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// A certificate for these names, valid now.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.sign(&params(names, "issuerwatch test server"))
    }

    /// A certificate that is valid only from January 1 of one year to that of another.
    pub(crate) fn issue_for_years(&self, names: &[&str], from: i32, until: i32) -> Identity {
        let mut params = params(names, "issuerwatch test server");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        Identity { chain: vec![certificate.der().clone(), self.issuer.der().clone()], key: private(&key) }
    }
}

impl Identity {
    /// What `openssl req -x509` makes: signed by itself and marked as a CA.
    pub(crate) fn self_signed(names: &[&str]) -> Self {
        let mut params = params(names, "issuerwatch test self");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let certificate = params.self_signed(&key).expect("a self-signed certificate");
        Self { chain: vec![certificate.der().clone()], key: private(&key) }
    }

    /// The leaf certificate's bytes.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.chain[0]
    }

    /// The leaf certificate in PEM.
    pub(crate) fn pem(&self) -> Vec<u8> {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(self.leaf());
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
    }

    /// How a server presents itself, with HTTP/2 and HTTP/1.1 on offer.
    pub(crate) fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the default versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("a usable certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of a certificate");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn private(key: &KeyPair) -> Arc<PrivateKeyDer<'static>> {
    Arc::new(PrivateKeyDer::try_from(key.serialize_der()).expect("a private key"))
}
