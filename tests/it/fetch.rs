//! What the fetcher tells of good, broken and hostile providers on loopback.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::Version;
use issuerwatch::fetch::address::judge;
use issuerwatch::fetch::{Access, Fetcher, Settings};
use issuerwatch::model::{Attempt, Issuer as Configured, IssuerId, IssuerUrl, Observation, Profile, UnseenReason};
use issuerwatch::policy::Limits;

use crate::support::issuer::{DISCOVERY, JWKS};
use crate::support::raw::{self, Then};
use crate::support::{Ca, Identity, Issuer, Proxy, Reply};

const PRIVATE: Access = Access { allow_private: true, allow_http_loopback: false };
const LOOPBACK: Access = Access { allow_private: false, allow_http_loopback: true };

fn settings() -> Settings {
    Settings { limits: Limits::default(), ca_pem: Vec::new(), proxy: None, per_host: 4 }
}

fn fetcher() -> Fetcher {
    Fetcher::new(&settings()).expect("a fetcher")
}

fn trusting(ca: &Ca) -> Fetcher {
    Fetcher::new(&Settings { ca_pem: vec![ca.pem()], ..settings() }).expect("a fetcher")
}

fn limited(limits: Limits) -> Fetcher {
    Fetcher::new(&Settings { limits, ..settings() }).expect("a fetcher")
}

/// Gives up soon; for servers that would keep us waiting.
fn hasty() -> Fetcher {
    limited(Limits { time: Duration::from_millis(300), ..Limits::default() })
}

fn configured(url: &str) -> Configured {
    Configured {
        url: Some(IssuerUrl::parse(url).expect("a URL")),
        profile: Some(Profile::Oidc),
        allow_private: true,
        allow_http_loopback: true,
        ..Configured::unconfigured(IssuerId::new("acme"))
    }
}

fn at() -> DateTime<Utc> {
    "2026-01-01T00:00:00.9Z".parse().expect("an instant")
}

async fn observe(issuer: &Configured) -> Observation {
    fetcher().observe(issuer, at(), None).await
}

fn text(attempt: &Attempt) -> &str {
    attempt.unseen.as_ref().map_or("seen", |unseen| unseen.text.as_str())
}

#[track_caller]
fn assert_unseen(attempt: &Attempt, reason: UnseenReason, expected: &str) {
    assert_eq!((attempt.unseen.as_ref().map(|unseen| unseen.reason), text(attempt)), (Some(reason), expected));
    assert!(attempt.body.is_none() && attempt.seen().is_none());
}

#[track_caller]
fn assert_seen(attempt: &Attempt, bytes: &[u8]) {
    assert_eq!(text(attempt), "seen");
    assert_eq!(attempt.status, 200);
    assert_eq!(attempt.seen().expect("a body").bytes, bytes);
}

// What a look is made of.

#[tokio::test]
async fn a_look_fetches_the_discovery_document_and_the_key_set_that_it_names() {
    let issuer = Issuer::http();
    issuer.publish(r#"{"keys":[{"kty":"RSA"}]}"#);
    let seen = observe(&configured(issuer.url())).await;
    assert_eq!((seen.issuer.as_str(), seen.at), ("acme", "2026-01-01T00:00:00Z".parse().unwrap()));
    let (discovery, jwks) = (seen.discovery.unwrap(), seen.jwks.unwrap());
    assert_eq!((discovery.url.as_str(), jwks.url.as_str()), (issuer.at(DISCOVERY).as_str(), issuer.at(JWKS).as_str()));
    assert_seen(&jwks, br#"{"keys":[{"kty":"RSA"}]}"#);
    assert_eq!(jwks.header("Content-Type"), Some("application/json"));
    assert_eq!(jwks.address.as_deref(), Some("127.0.0.1"));
    assert!(jwks.took_ms.is_some() && jwks.tls.is_none() && jwks.redirects.is_empty());
}

#[tokio::test]
async fn both_documents_of_one_look_share_a_connection() {
    let issuer = Issuer::http();
    observe(&configured(issuer.url())).await;
    assert_eq!((issuer.received().len(), issuer.connections()), (2, 1));
}

#[tokio::test]
async fn requests_say_who_asks_and_what_they_take() {
    let issuer = Issuer::http();
    fetcher().fetch(&issuer.at(JWKS), LOOPBACK).await;
    let request = issuer.received().remove(0);
    let agent = request.header("user-agent").unwrap();
    assert!(agent.starts_with("issuerwatch/") && agent.contains("(+https://"), "{agent}");
    assert_eq!(request.header("accept"), Some("application/json, application/jwk-set+json, */*;q=0.1"));
    assert_eq!(request.header("accept-encoding"), Some("gzip,br"));
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_configured_key_set_url_goes_before_the_documents() {
    let issuer = Issuer::http();
    issuer.set("/mine", Reply::json("{}"));
    let seen = observe(&Configured { jwks_uri: Some(issuer.at("/mine")), ..configured(issuer.url()) }).await;
    assert_eq!(seen.jwks.unwrap().url, issuer.at("/mine"));
    assert_eq!(issuer.hits(JWKS), 0);
}

#[tokio::test]
async fn profile_jwks_asks_for_no_discovery_document() {
    let issuer = Issuer::http();
    let bare = Configured { profile: Some(Profile::Jwks), jwks_uri: Some(issuer.at(JWKS)), ..configured(issuer.url()) };
    let seen = observe(&bare).await;
    assert!(seen.discovery.is_none());
    assert_seen(&seen.jwks.unwrap(), br#"{"keys":[]}"#);
}

#[tokio::test]
async fn without_a_discovery_document_the_known_key_set_url_is_asked() {
    let issuer = Issuer::http();
    issuer.set(DISCOVERY, Reply::of(503, "busy"));
    let seen = fetcher().observe(&configured(issuer.url()), at(), Some(&issuer.at(JWKS))).await;
    assert_unseen(&seen.discovery.unwrap(), UnseenReason::Status, "HTTP 503");
    assert_seen(&seen.jwks.unwrap(), br#"{"keys":[]}"#);
}

#[tokio::test]
async fn without_a_discovery_document_and_a_known_url_no_key_set_is_attempted() {
    let issuer = Issuer::http();
    issuer.set(DISCOVERY, Reply::of(404, ""));
    assert!(observe(&configured(issuer.url())).await.jwks.is_none());
}

#[tokio::test]
async fn a_document_without_jwks_uri_is_said_so() {
    let issuer = Issuer::http();
    for (document, url, why) in [
        (r#"{"issuer":"x"}"#, "", "no jwks_uri: the discovery document names none"),
        ("<html>hello", "", "no jwks_uri: the discovery document names none"),
        (r#"{"jwks_uri":7}"#, "", "no jwks_uri: the discovery document names none"),
        (r#"{"jwks_uri":"/jwks"}"#, "/jwks", "no jwks_uri: the one named is no absolute URL"),
    ] {
        issuer.set(DISCOVERY, Reply::json(document));
        let seen = observe(&configured(issuer.url())).await;
        assert!(seen.discovery.unwrap().seen().is_some());
        let jwks = seen.jwks.unwrap();
        assert_eq!(jwks.url, url);
        assert_unseen(&jwks, UnseenReason::NoJwksUri, why);
    }
}

#[tokio::test]
async fn two_hundred_with_html_is_a_body_to_judge_not_a_failure() {
    let issuer = Issuer::http();
    issuer.set(JWKS, Reply::of(200, "<html>Just a moment").header("content-type", "text/html"));
    assert_seen(&fetcher().fetch(&issuer.at(JWKS), LOOPBACK).await, b"<html>Just a moment");
}

#[tokio::test]
async fn other_statuses_are_failures_with_their_headers() {
    let issuer = Issuer::http();
    for status in [204, 304, 400, 401, 403, 404, 410, 429, 500, 503] {
        issuer.set(JWKS, Reply::of(status, "").header("retry-after", "120"));
        let attempt = fetcher().fetch(&issuer.at(JWKS), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::Status, &format!("HTTP {status}"));
        assert_eq!((attempt.status, attempt.header("Retry-After")), (status, Some("120")));
    }
}

// Encodings and limits.

#[tokio::test]
async fn gzip_and_brotli_are_read() {
    let issuer = Issuer::http();
    issuer.set("/gzip", Reply::json(gzip(b"{\"keys\":[]}")).header("content-encoding", "gzip"));
    issuer.set("/brotli", Reply::json(brotli(b"{\"keys\":[]}")).header("content-encoding", "br"));
    assert_seen(&fetcher().fetch(&issuer.at("/gzip"), LOOPBACK).await, b"{\"keys\":[]}");
    assert_seen(&fetcher().fetch(&issuer.at("/brotli"), LOOPBACK).await, b"{\"keys\":[]}");
}

#[tokio::test]
async fn compressed_bombs_stop_at_the_limit() {
    use base64::Engine as _;
    /// 64 MiB of zeros.
    const BROTLI: &str = "y///P/gnAOKxQCD3/o///3/wTwDEYRGA7v0f////4J8AiMMCAN37P/7//8E/ARCHBQC693/8//+DfwIgDgsAdO//+P//B/8EQBwWAOje//H//w/+CYA4LADQvf/L//8//BMAcVgAoHv/Bw==";
    let issuer = Issuer::http();
    issuer.set("/gzip", Reply::json(gzip(&vec![0; 64 << 20])).header("content-encoding", "gzip"));
    let brotli = base64::engine::general_purpose::STANDARD.decode(BROTLI).unwrap();
    issuer.set("/brotli", Reply::json(brotli).header("content-encoding", "br"));
    for path in ["/gzip", "/brotli"] {
        let attempt = fetcher().fetch(&issuer.at(path), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::TooLarge, "too large: the body exceeds 4194304 bytes");
    }
}

#[tokio::test]
async fn broken_and_unasked_encodings_are_failures() {
    let issuer = Issuer::http();
    let mut cut = gzip(&b"0123456789".repeat(1000));
    cut.truncate(cut.len() - 10);
    issuer.set("/cut", Reply::json(cut).header("content-encoding", "gzip"));
    issuer.set("/lie", Reply::json("{\"keys\":[]}").header("content-encoding", "gzip"));
    issuer.set("/zstd", Reply::json("(compressed)").header("content-encoding", "zstd"));
    for (path, expected) in [
        ("/cut", "broken http: the compressed body is cut off"),
        ("/lie", "broken http: the body is not what its Content-Encoding says"),
        ("/zstd", "broken http: the body comes in a Content-Encoding that we did not ask for"),
    ] {
        assert_unseen(&fetcher().fetch(&issuer.at(path), LOOPBACK).await, UnseenReason::BrokenHttp, expected);
    }
}

#[tokio::test]
async fn a_body_at_the_limit_is_seen_and_one_byte_more_is_not() {
    let issuer = Issuer::http();
    let fetcher = limited(Limits { body: 1000, ..Limits::default() });
    issuer.set("/at", Reply::json(vec![b' '; 1000]));
    issuer.set("/over", Reply::json(vec![b' '; 1001]));
    issuer.set("/endless", Reply::json("and so on, ").endless());
    assert_seen(&fetcher.fetch(&issuer.at("/at"), LOOPBACK).await, &[b' '; 1000]);
    for path in ["/over", "/endless"] {
        let attempt = fetcher.fetch(&issuer.at(path), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::TooLarge, "too large: the body exceeds 1000 bytes");
        assert_eq!(attempt.status, 200);
    }
}

#[tokio::test]
async fn an_announced_two_gigabytes_is_refused_at_once() {
    let server = raw::serve("HTTP/1.1 200 OK\r\ncontent-length: 2147483648\r\n\r\n{", Then::Hold);
    let attempt = fetcher().fetch(&format!("http://{server}/"), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::TooLarge, "too large: the body exceeds 4194304 bytes");
}

#[tokio::test]
async fn servers_that_keep_us_waiting_are_given_up() {
    let issuer = Issuer::http();
    issuer.set("/silence", Reply::silence());
    issuer.set("/stall", Reply::json("{\"keys\":").stalled());
    let mute = raw::serve("", Then::Hold);
    let head = raw::serve("HTTP/1.1 200 OK\r\nContent-", Then::Hold);
    for (url, expected) in [
        (issuer.at("/silence"), "timeout: no answer within 300 ms"),
        (issuer.at("/stall"), "timeout: no complete answer within 300 ms"),
        (format!("http://{mute}/"), "timeout: no answer within 300 ms"),
        (format!("http://{head}/"), "timeout: no answer within 300 ms"),
    ] {
        let attempt = hasty().fetch(&url, LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::Timeout, expected);
        assert!(attempt.took_ms.unwrap() >= 300);
    }
    let attempt = hasty().fetch(&format!("https://{mute}/"), PRIVATE).await;
    assert_unseen(&attempt, UnseenReason::Timeout, "timeout: no connection in time");
}

#[tokio::test]
async fn the_time_limit_is_that_of_a_document_with_all_its_redirects() {
    let issuer = Issuer::http();
    issuer.set(JWKS, Reply::redirect(302, "/silence"));
    issuer.set("/silence", Reply::silence());
    let attempt = hasty().fetch(&issuer.at(JWKS), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::Timeout, "timeout: no answer within 300 ms");
    assert_eq!((attempt.status, attempt.redirects.len()), (0, 1));
}

// Broken HTTP.

#[tokio::test]
async fn broken_answers_are_named() {
    let cut = "broken http: the connection was closed before the answer was complete";
    let invalid = "broken http: the answer is no valid HTTP";
    for (bytes, expected) in [
        ("", cut),
        ("HTTP/1.1 200 OK\r\ncontent-ty", cut),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":", cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ke", cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", invalid),
        ("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", invalid),
        ("SSH-2.0-OpenSSH_9.2\r\n", invalid),
        ("HTTP/9.9 200 OK\r\n\r\n", invalid),
    ] {
        let server = raw::serve(bytes, Then::Close);
        let attempt = fetcher().fetch(&format!("http://{server}/"), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::BrokenHttp, expected);
    }
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_given_up() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for bytes in [many, large] {
        let server = raw::serve(bytes, Then::Hold);
        let attempt = fetcher().fetch(&format!("http://{server}/"), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::TooLarge, "too large: the answer has more or larger headers than we read");
    }
}

#[tokio::test]
async fn headers_are_kept_within_bounds_and_as_text() {
    let mut reply = Reply::json("{}").header("x-odd", "caf\u{e9}");
    for index in 0..200 {
        reply = reply.header(&format!("x-{index}"), &"y".repeat(1000));
    }
    let issuer = Issuer::http();
    issuer.set(JWKS, reply);
    let attempt = fetcher().fetch(&issuer.at(JWKS), LOOPBACK).await;
    assert_seen(&attempt, b"{}");
    assert_eq!(attempt.header("x-odd"), Some("café"));
    let bytes: usize = attempt.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(attempt.headers.len() <= 128 && bytes <= 64 << 10, "{} headers, {bytes} bytes", attempt.headers.len());
}

#[tokio::test]
async fn a_refused_port_and_an_unknown_name_are_told_apart() {
    let attempt = fetcher().fetch(&format!("https://{}/", raw::refused()), PRIVATE).await;
    assert_unseen(&attempt, UnseenReason::Connect, "connect: the server refused the connection");
    let attempt = fetcher().fetch("https://login.acme.invalid/", PRIVATE).await;
    assert_eq!(attempt.unseen.as_ref().unwrap().reason, UnseenReason::Dns);
    assert!(text(&attempt).starts_with("dns: login.acme.invalid does not resolve: "), "{}", text(&attempt));
    assert_eq!((attempt.status, attempt.address), (0, None));
}

// TLS.

#[tokio::test]
async fn http2_over_tls_is_spoken_and_the_chain_recorded() {
    let ca = Ca::new();
    let identity = ca.issue(&["127.0.0.1", "localhost"]);
    let issuer = Issuer::https_as("127.0.0.1", &identity);
    let seen = trusting(&ca).observe(&configured(issuer.url()), at(), None).await;
    assert_eq!(issuer.received().iter().map(|request| request.version).collect::<Vec<_>>(), [Version::HTTP_2, Version::HTTP_2]);
    assert_eq!(issuer.connections(), 1);
    for attempt in [seen.discovery.unwrap(), seen.jwks.unwrap()] {
        let tls = attempt.tls.clone().unwrap();
        assert!(attempt.seen().is_some());
        assert_eq!(tls.version, "TLSv1.3");
        assert_eq!(tls.chain.len(), 2);
        let leaf = &tls.chain[0];
        assert_eq!(leaf.sha256, issuerwatch::model::Digest::of(identity.leaf()).to_string());
        assert_eq!((leaf.subject.as_str(), leaf.issuer.as_str()), ("CN=issuerwatch test server", "CN=issuerwatch test CA"));
        assert_eq!(leaf.names, ["127.0.0.1", "localhost"]);
        assert!(leaf.not_before < leaf.not_after && !leaf.serial.is_empty());
    }
}

#[tokio::test]
async fn certificates_that_do_not_authenticate_the_host_are_named_and_recorded() {
    let ca = Ca::new();
    let cases = [
        (ca.issue_for_years(&["127.0.0.1"], 2020, 2021), "tls: the certificate expired at 2021-01-01T00:00:00Z"),
        (ca.issue_for_years(&["127.0.0.1"], 2090, 2091), "tls: the certificate is not valid before 2090-01-01T00:00:00Z"),
        (ca.issue(&["*.old.example", "10.1.2.3"]), "tls: the certificate is not for 127.0.0.1 but for *.old.example, 10.1.2.3"),
        (Identity::self_signed(&["127.0.0.1"]), "tls: the certificate is self-signed"),
        (Ca::new().issue(&["127.0.0.1"]), "tls: the certificate was not signed by the issuer that it names"),
    ];
    let issuer = Issuer::https(&ca);
    let attempt = fetcher().fetch(&issuer.at(JWKS), PRIVATE).await;
    assert_unseen(&attempt, UnseenReason::Tls, "tls: the certificate's issuer is not known (no path to a trusted root)");
    let fetcher = trusting(&ca);
    for (identity, expected) in cases {
        let issuer = Issuer::https_as("127.0.0.1", &identity);
        let attempt = fetcher.fetch(&issuer.at(JWKS), PRIVATE).await;
        assert_unseen(&attempt, UnseenReason::Tls, expected);
        let tls = attempt.tls.unwrap();
        assert_eq!(tls.chain[0].sha256, issuerwatch::model::Digest::of(identity.leaf()).to_string());
        assert_eq!((tls.version.as_str(), attempt.status, issuer.received().len()), ("", 0, 0));
    }
}

#[tokio::test]
async fn a_self_signed_certificate_that_the_user_gives_is_trusted_for_its_names() {
    let identity = Identity::self_signed(&["127.0.0.1"]);
    let fetcher = Fetcher::new(&Settings { ca_pem: vec![identity.pem()], ..settings() }).unwrap();
    let issuer = Issuer::https_as("127.0.0.1", &identity);
    assert_seen(&fetcher.fetch(&issuer.at(JWKS), PRIVATE).await, br#"{"keys":[]}"#);
    let elsewhere = Issuer::https_as("localhost", &identity);
    let attempt = fetcher.fetch(&elsewhere.at(JWKS), PRIVATE).await;
    assert_unseen(&attempt, UnseenReason::Tls, "tls: the certificate is not for localhost but for 127.0.0.1");
}

#[tokio::test]
async fn servers_that_do_not_speak_tls_are_named() {
    let alert = b"\x15\x03\x01\x00\x02\x02\x46".as_slice();
    for (bytes, then, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), Then::Close, "tls: the server does not speak TLS"),
        (b"\0\xff\xfe\x80 garbage".as_slice(), Then::Hold, "tls: the server does not speak TLS"),
        (alert, Then::Close, "tls: the server offers neither TLS 1.2 nor TLS 1.3"),
        (b"".as_slice(), Then::Close, "tls: the connection was closed during the handshake"),
    ] {
        let server = raw::serve(bytes, then);
        let attempt = fetcher().fetch(&format!("https://{server}/"), PRIVATE).await;
        assert_unseen(&attempt, UnseenReason::Tls, expected);
    }
}

#[test]
fn a_ca_file_without_a_certificate_is_refused_in_words() {
    for pem in [b"".to_vec(), b"hello".to_vec(), b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()] {
        let error = Fetcher::new(&Settings { ca_pem: vec![pem], ..settings() }).err().unwrap().to_string();
        assert!(error.starts_with("CA file 1 cannot be used: "), "{error}");
    }
}

// Plain http.

#[tokio::test]
async fn plain_http_is_never_requested_but_to_loopback_where_permitted() {
    let issuer = Issuer::http();
    let url = issuer.at(JWKS);
    for access in [Access::default(), PRIVATE] {
        let attempt = fetcher().fetch(&url, access).await;
        assert_unseen(&attempt, UnseenReason::NotHttps, &format!("not https: {url} is never requested"));
        assert_eq!(attempt.status, 0);
    }
    let named = url.replace("127.0.0.1", "localhost");
    assert_seen(&fetcher().fetch(&named, LOOPBACK).await, br#"{"keys":[]}"#);
    for url in [
        "http://login.acme.example/",
        "http://localhost.acme.example/",
        "http://10.0.0.1/",
        "ftp://localhost/",
        "http://[::ffff:127.0.0.1]/",
    ] {
        let attempt = fetcher().fetch(url, LOOPBACK).await;
        assert_eq!(attempt.unseen.unwrap().reason, UnseenReason::NotHttps, "{url}");
    }
    assert_eq!((issuer.received().len(), issuer.connections()), (1, 1));
}

#[tokio::test]
async fn sentences_hold_no_user_password_or_query() {
    let attempt = fetcher().fetch("http://user:hunter2@login.acme.example/jwks?token=hunter2#hunter2", Access::default()).await;
    assert_unseen(&attempt, UnseenReason::NotHttps, "not https: http://login.acme.example/jwks is never requested");
}

// Redirects.

#[tokio::test]
async fn redirects_are_followed_and_recorded() {
    let (first, second) = (Issuer::http(), Issuer::http());
    first.set(JWKS, Reply::redirect(302, "next?x=1#y"));
    first.set("/next", Reply::redirect(308, &second.at("/moved")));
    second.set("/moved", Reply::json("{}"));
    let attempt = fetcher().fetch(&first.at(JWKS), LOOPBACK).await;
    assert_seen(&attempt, b"{}");
    assert_eq!(attempt.url, first.at(JWKS));
    let redirects: Vec<_> = attempt.redirects.iter().map(|redirect| (redirect.status, redirect.to.clone())).collect();
    assert_eq!(redirects, [(302, first.at("/next?x=1#y")), (308, second.at("/moved"))]);
}

#[tokio::test]
async fn too_many_redirects_and_circles_are_refused() {
    let issuer = Issuer::http();
    for hop in 0..9 {
        issuer.set(&format!("/{hop}"), Reply::redirect(301, &format!("/{}", hop + 1)));
    }
    issuer.set("/there", Reply::redirect(302, "/back"));
    issuer.set("/back", Reply::redirect(302, "/there"));
    let attempt = fetcher().fetch(&issuer.at("/0"), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::Redirect, "redirect: more than 3 of them");
    assert_eq!((attempt.status, attempt.redirects.len(), issuer.received().len()), (301, 4, 4));
    let attempt = fetcher().fetch(&issuer.at("/there"), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::Redirect, &format!("redirect: they lead in a circle, back to {}", issuer.at("/there")));
    assert_eq!(attempt.redirects.len(), 2);
}

#[tokio::test]
async fn redirects_to_nowhere_are_refused() {
    let issuer = Issuer::http();
    issuer.set("/bare", Reply::of(302, ""));
    issuer.set("/odd", Reply::redirect(302, "https://[::/"));
    issuer.set("/long", Reply::redirect(302, &format!("/{}", "x".repeat(9000))));
    for (path, expected) in [
        ("/bare", "redirect: 302 without a Location"),
        ("/odd", "redirect: 302 to a Location that is no URL"),
        ("/long", "redirect: 302 to a Location longer than any URL we follow"),
    ] {
        let attempt = fetcher().fetch(&issuer.at(path), LOOPBACK).await;
        assert_unseen(&attempt, UnseenReason::Redirect, expected);
        assert_eq!(attempt.status, 302);
    }
}

#[tokio::test]
async fn a_redirect_to_http_or_to_a_private_address_is_recorded_but_not_requested() {
    let ca = Ca::new();
    let (plain, secure) = (Issuer::http(), Issuer::https(&ca));
    secure.set("/down", Reply::redirect(302, &plain.at(JWKS)));
    let attempt = trusting(&ca).fetch(&secure.at("/down"), PRIVATE).await;
    assert_unseen(&attempt, UnseenReason::NotHttps, &format!("not https: {} is never requested", plain.at(JWKS)));
    assert_eq!((attempt.status, attempt.redirects[0].to.clone(), plain.connections()), (302, plain.at(JWKS), 0));

    plain.set("/metadata", Reply::redirect(302, "https://user@169.254.169.254/latest"));
    let attempt = fetcher().fetch(&plain.at("/metadata"), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::AddressRefused, "address refused: 169.254.169.254 is a cloud metadata address; never allowed");
    assert_eq!(attempt.redirects[0].to, "https://169.254.169.254/latest");

    plain.set("/inside", Reply::redirect(302, &secure.at(JWKS)));
    let attempt = fetcher().fetch(&plain.at("/inside"), LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::AddressRefused, "address refused: 127.0.0.1 is a loopback address; allow_private permits it");
}

// Addresses.

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused_unless_private_addresses_are_allowed() {
    let ca = Ca::new();
    let issuer = Issuer::https_as("localhost", &ca.issue(&["localhost"]));
    let fetcher = trusting(&ca);
    // A connection that an issuer with allow_private has left open must not serve one without.
    assert_seen(&fetcher.fetch(&issuer.at(JWKS), PRIVATE).await, br#"{"keys":[]}"#);
    let attempt = fetcher.fetch(&issuer.at(JWKS), Access::default()).await;
    assert_eq!(attempt.unseen.as_ref().unwrap().reason, UnseenReason::AddressRefused);
    assert_eq!(text(&attempt), "address refused: localhost: 127.0.0.1 is a loopback address; allow_private permits it");
    assert_eq!((issuer.received().len(), issuer.connections()), (1, 1));
}

/// Hosts of URLs, in every notation that we know of, that no issuer may make us connect to.
const REFUSED: &[&str] = &[
    // Loopback.
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "0177.1",
    "127.0.0.1.",
    "127.255.255.254",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000::0001]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::127.0.0.1]",
    "[64:ff9b:1:7f00:0:100::]",
    "[2002:7f00:1::]",
    "[2002:7f00:1::5]",
    "[2001:0:7f00:1::]",
    "[2001:0:808:808::80ff:fffe]",
    "[2606:4700::5efe:7f00:1]",
    "[2606:4700::200:5efe:127.0.0.1]",
    "１２７.0.0.1",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "%31%32%37.0.0.1",
    "0x7f。1",
    "localhost",
    "LOCALHOST",
    // Private, shared, benchmarking, reserved, unique-local.
    "10.0.0.1",
    "167772161",
    "0xa000001",
    "012.0.0.1",
    "10.1",
    "172.16.0.1",
    "172.31.255.255",
    "0xac.0x10.1",
    "192.168.0.1",
    "3232235521",
    "0300.0250.0.1",
    "192.168.257",
    "100.64.0.1",
    "100.127.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "240.0.0.1",
    "192.0.0.8",
    "192.88.99.1",
    "[fc00::1]",
    "[fdff::1]",
    "[fec0::1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a00:1]",
    "[::ffff:192.168.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[2002:a00:1::]",
    "[2001:0:a00:1::]",
    "[2001:2::1]",
    "[100::1]",
    "[4000::1]",
    "[5f00::1]",
    "[1::1]",
];

/// Hosts that not even `allow_private` permits.
const NEVER: &[&str] = &[
    "0.0.0.0",
    "0",
    "0x0",
    "00.0",
    "0.0.0.1",
    "0.255.255.255",
    "[::]",
    "[::ffff:0.0.0.0]",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.0.1",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "4294967295",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "[fe80::1]",
    "[febf::1]",
    "[fe80::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[3fff:fff::1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[64:ff9b:1:a9fe:a9:fe00::]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:a9fe:a9fe::]",
    "[2001:0:808:808::5601:5601]",
    "[2606:4700::5efe:a9fe:a9fe]",
];

#[tokio::test]
async fn no_notation_of_a_forbidden_address_gets_through() {
    assert!(REFUSED.len() >= 60);
    let fetcher = fetcher();
    for (hosts, access) in [(REFUSED, Access::default()), (NEVER, Access::default()), (NEVER, PRIVATE)] {
        for host in hosts {
            let attempt = fetcher.fetch(&format!("https://{host}:1/jwks"), access).await;
            assert_eq!(
                attempt.unseen.as_ref().map(|unseen| unseen.reason),
                Some(UnseenReason::AddressRefused),
                "{host}: {}",
                text(&attempt)
            );
        }
    }
}

#[test]
fn public_addresses_pass_and_private_ones_only_where_allowed() {
    let judge =
        |address: &str, allow_private| judge(address.parse::<IpAddr>().unwrap(), allow_private).map_err(|refusal| refusal.to_string());
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "128.0.0.1",
        "169.253.0.1",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "3ffe::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ] {
        assert_eq!(judge(address, false), Ok(()), "{address}");
    }
    for address in
        ["10.0.0.1", "127.0.0.1", "::1", "fd12::1", "100.64.0.1", "198.18.0.1", "240.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]
    {
        assert!(judge(address, false).is_err(), "{address}");
        assert_eq!(judge(address, true), Ok(()), "{address}");
    }
    assert_eq!(judge("192.168.1.1", false), Err("192.168.1.1 is a private address; allow_private permits it".to_owned()));
}

// Proxies.

fn behind(proxy: &Proxy, ca: &Ca) -> Fetcher {
    Fetcher::new(&Settings { proxy: Some(proxy.url()), ca_pem: vec![ca.pem()], ..settings() }).expect("a fetcher")
}

#[tokio::test]
async fn a_proxy_is_used_for_every_request() {
    let ca = Ca::new();
    let issuer = Issuer::https_as("login.acme.example", &ca.issue(&["login.acme.example"]));
    let proxy = Proxy::to(issuer.address());
    let attempt = behind(&proxy, &ca).fetch(&issuer.at(JWKS), Access::default()).await;
    assert_seen(&attempt, br#"{"keys":[]}"#);
    assert_eq!(attempt.address, None);
    let tls = attempt.tls.unwrap();
    assert_eq!((tls.version.as_str(), tls.chain.len()), ("TLSv1.3", 2));
    assert_eq!(proxy.lines(), [format!("CONNECT login.acme.example:{} HTTP/1.1", issuer.address().port())]);

    let plain = Issuer::http();
    let proxy = Proxy::to(plain.address());
    assert_seen(&behind(&proxy, &ca).fetch(&plain.at(JWKS), LOOPBACK).await, br#"{"keys":[]}"#);
    assert_eq!(proxy.lines(), [format!("GET {} HTTP/1.1", plain.at(JWKS))]);
}

#[tokio::test]
async fn a_proxys_faults_are_named_as_the_proxys() {
    let ca = Ca::new();
    for (proxy, expected) in [
        (Proxy::refusing(407), "connect: the proxy asks for a user and a password (407); write them into its URL"),
        (Proxy::refusing(502), "connect: the proxy refused to connect us or could not reach the server"),
    ] {
        let attempt = behind(&proxy, &ca).fetch("https://login.acme.example/jwks", Access::default()).await;
        assert_unseen(&attempt, UnseenReason::Connect, expected);
        assert_eq!(attempt.status, 0);
    }
    let gone = format!("http://{}", raw::refused()).parse().unwrap();
    let fetcher = Fetcher::new(&Settings { proxy: Some(gone), ..settings() }).unwrap();
    let attempt = fetcher.fetch("https://login.acme.example/jwks", Access::default()).await;
    assert_unseen(&attempt, UnseenReason::Connect, "connect: the proxy refused the connection");
    let attempt = behind(&Proxy::refusing(407), &ca).fetch("http://127.0.0.1/jwks", LOOPBACK).await;
    assert_unseen(&attempt, UnseenReason::Connect, "connect: the proxy asks for a user and a password (407); write them into its URL");
}

#[tokio::test]
async fn behind_a_proxy_literals_and_telling_names_are_still_refused() {
    let ca = Ca::new();
    let proxy = Proxy::refusing(502);
    let fetcher = behind(&proxy, &ca);
    for host in ["127.0.0.1", "10.0.0.1", "[::ffff:169.254.169.254]", "localhost", "a.localhost.", "metadata.google.internal"] {
        let attempt = fetcher.fetch(&format!("https://{host}/"), Access::default()).await;
        assert_eq!(attempt.unseen.unwrap().reason, UnseenReason::AddressRefused, "{host}");
    }
    assert!(proxy.lines().is_empty());
}

#[test]
fn a_proxy_of_another_kind_is_refused_in_words() {
    let error = Fetcher::new(&Settings { proxy: Some("socks5://127.0.0.1:1080".parse().unwrap()), ..settings() }).err().unwrap();
    assert_eq!(error.to_string(), "the proxy cannot be used: its scheme is \"socks5\"; write \"http://host:port\"");
}

// Manners.

#[tokio::test]
async fn one_host_gets_no_more_requests_at_a_time_than_allowed() {
    let issuer = Issuer::http();
    issuer.set("/silence", Reply::silence());
    let fetcher =
        Fetcher::new(&Settings { per_host: 1, limits: Limits { time: Duration::from_millis(200), ..Limits::default() }, ..settings() })
            .unwrap();
    let (silence, jwks) = (issuer.at("/silence"), issuer.at(JWKS));
    let (slow, quick) = tokio::join!(fetcher.fetch(&silence, LOOPBACK), fetcher.fetch(&jwks, LOOPBACK));
    assert_unseen(&slow, UnseenReason::Timeout, "timeout: no answer within 200 ms");
    // It waited for its turn, and that is not the provider's time.
    assert_seen(&quick, br#"{"keys":[]}"#);
    assert!(quick.took_ms.unwrap() < 200);
    assert_eq!(issuer.received().iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), ["/silence", JWKS]);
}

#[tokio::test]
async fn answers_can_change_from_one_look_to_the_next() {
    let issuer = Issuer::http();
    issuer.set_each(JWKS, [Reply::of(500, ""), Reply::json("{}")]);
    let fetcher = fetcher();
    assert_eq!(fetcher.fetch(&issuer.at(JWKS), LOOPBACK).await.status, 500);
    assert_eq!(fetcher.fetch(&issuer.at(JWKS), LOOPBACK).await.status, 200);
    assert_eq!(issuer.hits(JWKS), 2);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// One uncompressed meta-block and an empty last one (RFC 7932 §9.2).
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let header = (u32::try_from(bytes.len()).expect("a short text") - 1) << 4 | 1 << 20;
    [&header.to_le_bytes()[..3], bytes, &[3]].concat()
}
