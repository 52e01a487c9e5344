//! The simulated issuers of `demo`: HTTPS on loopback with a throw-away CA, their documents settable while they run.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A throw-away authority for `localhost`.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "issuerwatch demo authority");
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The certificate that the monitor must trust.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A fresh P-256 public key as a JWK, its kid made of the given name.
pub(super) fn signing_key(kid: &str) -> anyhow::Result<Value> {
    let pair = KeyPair::generate()?;
    // Uncompressed point: 0x04, x, y.
    let point = pair.der_bytes();
    let (x, y) = point.get(1..33).zip(point.get(33..65)).context("a P-256 point has 65 octets")?;
    Ok(
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}),
    )
}

/// What an issuer serves now.
#[derive(Clone)]
struct Documents {
    discovery: String,
    jwks: String,
}

/// One running issuer.
#[derive(Clone)]
pub(super) struct Simulated {
    address: SocketAddr,
    documents: Arc<Mutex<Documents>>,
}

impl Simulated {
    /// Starts it on a free loopback port.
    pub(super) async fn start(authority: &Authority, stop: CancellationToken) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening on loopback")?;
        let address = listener.local_addr()?;
        let acceptor = authority.acceptor()?;
        let simulated = Self { address, documents: Arc::new(Mutex::new(Documents { discovery: String::new(), jwks: String::new() })) };
        let serving = simulated.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, serving) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let answer = serving.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    // The monitor may close the connection whenever it likes.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(simulated)
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// A discovery document as a healthy provider has it, with changes laid over it.
    pub(super) fn discovery(&self, changes: Value) -> Value {
        let url = self.url();
        let mut document = json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "userinfo_endpoint": format!("{url}/userinfo"),
            "jwks_uri": format!("{url}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["openid"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat"],
        });
        if let (Some(document), Value::Object(changes)) = (document.as_object_mut(), changes) {
            document.extend(changes);
        }
        document
    }

    pub(super) fn serve(&self, discovery: &Value, keys: &[&Value]) {
        let mut documents = self.documents.lock().expect("no holder of this lock panics");
        documents.discovery = discovery.to_string();
        documents.jwks = json!({"keys": keys}).to_string();
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let documents = self.documents.lock().expect("no holder of this lock panics").clone();
        let answer = |kind: &str, body: String| {
            Response::builder()
                .header("Content-Type", kind)
                .header("Cache-Control", "public, max-age=300")
                .body(body)
                .expect("the headers are valid")
        };
        match request.uri().path() {
            "/.well-known/openid-configuration" => answer("application/json", documents.discovery),
            "/jwks" => answer("application/jwk-set+json", documents.jwks),
            _ => Response::builder().status(StatusCode::NOT_FOUND).body(String::new()).expect("the headers are valid"),
        }
    }
}
