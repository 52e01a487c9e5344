//! Why a request failed, in words: a closed reason and a sentence that stays the same from poll to poll.
//!
//! It must never repeat what a server sent, nor a URL's user, password or query.

use std::error::Error;
use std::io::ErrorKind;

use url::Url;

use super::client::{Refused, Unresolved};
use super::tls::Rejected;
use crate::model::{TlsFacts, Unseen, UnseenReason};

const NO_CONNECTION: &str = "no connection in time";

/// A failed request: why, and the certificates it met if it was over them.
pub(super) struct Failure {
    pub(super) unseen: Unseen,
    pub(super) tls: Option<TlsFacts>,
}

/// What we were doing when it failed.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) url: &'a Url,
    pub(super) proxied: bool,
}

/// Finds the cause of a failed request among the causes of its error.
pub(super) fn explain(error: &reqwest::Error, asking: Asking<'_>) -> Failure {
    let causes = causes(error);
    if let Some(rejected) = causes.iter().find_map(|cause| rejected(*cause)) {
        return certificate(rejected, asking);
    }
    // Wrapped errors of sockets come before what they wrap: first whatever says more.
    let told = causes.iter().find_map(|cause| known(*cause, asking));
    let unseen = told.or_else(|| causes.iter().find_map(|cause| socket(*cause, error, asking))).unwrap_or_else(|| unknown(error, asking));
    Failure { unseen, tls: None }
}

/// The error, its sources, and what an `io::Error` wraps (which is not its source).
fn causes<'a>(error: &'a reqwest::Error) -> Vec<&'a (dyn Error + 'static)> {
    const DEEPEST: usize = 32;
    let mut causes: Vec<&'a (dyn Error + 'static)> = vec![error];
    while let Some(last) = causes.last().copied().filter(|_| causes.len() < DEEPEST) {
        let wrapped = last.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        match wrapped.or_else(|| last.source()) {
            Some(next) => causes.push(next),
            None => break,
        }
    }
    causes
}

fn rejected<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a Rejected> {
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.downcast_ref::<Rejected>(),
        _ => None,
    }
}

fn certificate(rejected: &Rejected, asking: Asking<'_>) -> Failure {
    if asking.proxied && rejected.name != super::host(asking.url) {
        return Failure { unseen: Unseen::new(UnseenReason::Connect, format!("the proxy: {rejected}")), tls: None };
    }
    Failure { unseen: Unseen::new(UnseenReason::Tls, rejected), tls: Some(rejected.facts()) }
}

/// The words for a cause that speaks for itself.
fn known(cause: &(dyn Error + 'static), asking: Asking<'_>) -> Option<Unseen> {
    let host = asking.url.host_str().unwrap_or_default();
    if let Some(Refused(refusal)) = cause.downcast_ref() {
        return Some(Unseen::new(UnseenReason::AddressRefused, format!("{host}: {refusal}")));
    }
    if let Some(Unresolved(why)) = cause.downcast_ref() {
        return Some(Unseen::new(UnseenReason::Dns, format!("{host} does not resolve: {why}")));
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(Unseen::new(UnseenReason::Tls, handshake(error)));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return Some(message(error));
    }
    // hyper-util does not export the type.
    tunnel_refused(cause.to_string().strip_prefix("tunnel error: ")?)
}

fn handshake(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error as Tls};
    match error {
        Tls::AlertReceived(Alert::ProtocolVersion) | Tls::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the server offers neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Tls::PeerIncompatible(_) | Tls::AlertReceived(Alert::HandshakeFailure) => {
            "the server and we have no version, cipher or extension in common".to_owned()
        }
        Tls::AlertReceived(Alert::UnrecognisedName) => "the server does not know the name".to_owned(),
        Tls::AlertReceived(alert) => format!("the server ended the handshake with the alert {alert:?}"),
        Tls::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        Tls::InvalidCertificate(_) => "the certificate's key did not sign the handshake".to_owned(),
        Tls::NoCertificatesPresented => "the server presented no certificate".to_owned(),
        _ => "the server broke the TLS protocol".to_owned(),
    }
}

fn message(error: &hyper::Error) -> Unseen {
    if error.is_parse_too_large() {
        return Unseen::new(UnseenReason::TooLarge, "the answer has more or larger headers than we read");
    }
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let is_invalid = io.is_some_and(|io| matches!(io.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData));
    if error.is_parse() || is_invalid {
        return Unseen::new(UnseenReason::BrokenHttp, "the answer is no valid HTTP");
    }
    // HTTP/2's own words would repeat what the server sent.
    Unseen::new(UnseenReason::BrokenHttp, "the connection was closed before the answer was complete")
}

fn tunnel_refused(text: &str) -> Option<Unseen> {
    let connect = |text: &str| Some(Unseen::new(UnseenReason::Connect, format!("the proxy {text}")));
    match text {
        "proxy authorization required" => connect("asks for a user and a password (407); write them into its URL"),
        "unsuccessful" => connect("refused to connect us or could not reach the server"),
        "unexpected end of file" => connect("closed the connection before it had answered"),
        "proxy response headers too long" => connect("answered with too large headers"),
        // The connection to the proxy, or an error of its socket: told by the cause below.
        _ => None,
    }
}

fn socket(cause: &(dyn Error + 'static), error: &reqwest::Error, asking: Asking<'_>) -> Option<Unseen> {
    let whom = if asking.proxied { "the proxy" } else { "the server" };
    let connect = |text: &str| Some(Unseen::new(UnseenReason::Connect, format!("{whom} {text}")));
    match cause.downcast_ref::<std::io::Error>()?.kind() {
        ErrorKind::ConnectionRefused => connect("refused the connection"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => connect("cannot be reached (no route)"),
        ErrorKind::PermissionDenied => connect("cannot be reached: this system forbids the connection"),
        ErrorKind::TimedOut => Some(Unseen::new(UnseenReason::Timeout, NO_CONNECTION)),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            if error.is_decode() {
                Some(Unseen::new(UnseenReason::BrokenHttp, "the compressed body is cut off"))
            } else if error.is_connect() && asking.url.scheme() == "https" {
                Some(Unseen::new(UnseenReason::Tls, "the connection was closed during the handshake"))
            } else {
                connect("closed the connection")
            }
        }
        _ => None,
    }
}

fn unknown(error: &reqwest::Error, asking: Asking<'_>) -> Unseen {
    if error.is_timeout() {
        return Unseen::new(UnseenReason::Timeout, NO_CONNECTION);
    }
    if error.is_connect() {
        let whom = if asking.proxied { "the proxy" } else { "the server" };
        return Unseen::new(UnseenReason::Connect, format!("no connection to {whom}"));
    }
    if error.is_decode() {
        return Unseen::new(UnseenReason::BrokenHttp, "the body is not what its Content-Encoding says");
    }
    Unseen::new(UnseenReason::BrokenHttp, "the exchange broke off")
}

/// A URL as we may show it: without user, password, query and fragment, and not without end.
pub(super) fn shown(url: &Url) -> String {
    const LONGEST: usize = 200;
    let mut url = url.clone();
    // Both fail only where there is no host, and then there is nothing to cut.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    let text = String::from(url);
    if text.len() <= LONGEST { text } else { format!("{}…", text.chars().take(LONGEST).collect::<String>()) }
}
