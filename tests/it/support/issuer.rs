//! A provider whose every answer can be set while it runs.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio_rustls::TlsAcceptor;

use super::{Ca, Identity, SERVERS, listen};

/// Where the discovery document is.
pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the key set is.
pub(crate) const JWKS: &str = "/jwks";

/// What a path answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    ending: Ending,
}

/// What comes after a reply's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    End,
    /// The body again and again.
    Endless,
    /// Nothing, not even the end.
    Stall,
    /// Not even a head.
    Silence,
}

impl Reply {
    /// 200 with a JSON body.
    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::of(200, body).header("content-type", "application/json")
    }

    pub(crate) fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), ending: Ending::End }
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::of(status, "").header("location", location)
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body repeats without end.
    #[must_use]
    pub(crate) fn endless(mut self) -> Self {
        self.ending = Ending::Endless;
        self
    }

    /// The body never ends, and nothing more comes.
    #[must_use]
    pub(crate) fn stalled(mut self) -> Self {
        self.ending = Ending::Stall;
        self
    }

    /// No answer at all.
    pub(crate) fn silence() -> Self {
        Self { ending: Ending::Silence, ..Self::of(200, "") }
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: Vec<(String, String)>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A scriptable provider on loopback; it serves until the test process ends.
#[derive(Clone)]
pub(crate) struct Issuer {
    origin: String,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<HashMap<String, VecDeque<Reply>>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

impl Issuer {
    /// Over plain HTTP, at `http://127.0.0.1:port`.
    pub(crate) fn http() -> Self {
        Self::start("http", "127.0.0.1", None)
    }

    /// Over TLS, at `https://127.0.0.1:port`, with a certificate for `127.0.0.1` and `localhost`.
    pub(crate) fn https(ca: &Ca) -> Self {
        Self::https_as("127.0.0.1", &ca.issue(&["127.0.0.1", "localhost"]))
    }

    /// Over TLS under a host name, with any certificate.
    pub(crate) fn https_as(host: &str, identity: &Identity) -> Self {
        Self::start("https", host, Some(identity.server_config().into()))
    }

    fn start(scheme: &str, host: &str, tls: Option<TlsAcceptor>) -> Self {
        let (listener, address) = listen();
        let issuer = Self { origin: format!("{scheme}://{host}:{}", address.port()), address, shared: Arc::default() };
        issuer.publish(r#"{"keys":[]}"#);
        let shared = Arc::clone(&issuer.shared);
        SERVERS.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
            }
        });
        issuer
    }

    /// The issuer identifier, which is also the origin.
    pub(crate) fn url(&self) -> &str {
        &self.origin
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The absolute URL of a path.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// A small discovery document that names [`JWKS`], and this key set.
    pub(crate) fn publish(&self, jwks: &str) {
        let discovery = format!(r#"{{"issuer":"{}","jwks_uri":"{}"}}"#, self.origin, self.at(JWKS));
        self.set(DISCOVERY, Reply::json(discovery));
        self.set(JWKS, Reply::json(jwks));
    }

    /// What a path answers from now on; other paths answer 404.
    pub(crate) fn set(&self, path: &str, reply: Reply) {
        self.set_each(path, [reply]);
    }

    /// What a path answers, one after the other; the last one from then on.
    pub(crate) fn set_each(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.shared.replies.lock().expect("lock").insert(path.to_owned(), replies.into_iter().collect());
    }

    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("lock").clone()
    }

    /// How often a path was requested.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.received().iter().filter(|request| request.path == path).count()
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn reply(&self, request: &Request<Incoming>) -> Reply {
        let path = request.uri().path().to_owned();
        let headers =
            request.headers().iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let received = Received { path: path.clone(), version: request.version(), headers: headers.collect() };
        self.received.lock().expect("lock").push(received);
        let mut replies = self.replies.lock().expect("lock");
        match replies.get_mut(&path) {
            Some(queue) if queue.len() > 1 => queue.pop_front().expect("it is not empty"),
            Some(queue) => queue.front().cloned().unwrap_or_else(|| Reply::of(404, "")),
            None => Reply::of(404, "not here"),
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let reply = shared.reply(&request);
        async move { answer(reply).await }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A client that goes away in the middle is what some tests are about.
    let _ = match tls {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(reply: Reply) -> Result<Response<Chunks>, Infallible> {
    if reply.ending == Ending::Silence {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Chunks { bytes: Some(reply.body.into()), ending: reply.ending }).expect("a response"))
}

/// A body of one chunk and its ending.
struct Chunks {
    bytes: Option<Bytes>,
    ending: Ending,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = if self.ending == Ending::Endless { self.bytes.clone() } else { self.bytes.take() };
        match next {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ending == Ending::Stall => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (&self.bytes, self.ending) {
            (Some(bytes), Ending::End) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            _ => hyper::body::SizeHint::default(),
        }
    }
}
