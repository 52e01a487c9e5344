//! Archives: what is written reads back the same, and what is broken is refused with its line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::io::Write as _;
use std::sync::Arc;

use issuerwatch::archive::{self, Archive, Archived, Packing};
use issuerwatch::model::{
    Act, ActKind, Attempt, Body, CertificateFacts, Digest, IssuerId, Observation, Redirect, Thumbprint, TlsFacts, Unseen, UnseenReason,
};
use issuerwatch::parse;

fn at(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

fn sample() -> Vec<Archived> {
    let secret = parse::redacted(&Body::served(br#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#.to_vec()));
    let good = Attempt {
        url: "https://a.example/jwks".to_owned(),
        status: 200,
        headers: vec![
            ("Cache-Control".to_owned(), "no-store".to_owned()),
            ("Via".to_owned(), "1".to_owned()),
            ("Via".to_owned(), "2 \"quoted\"\n".to_owned()),
        ],
        body: Some(Arc::new(secret)),
        unseen: None,
        took_ms: Some(12),
        redirects: vec![Redirect { status: 302, to: "https://b.example/".to_owned() }],
        address: Some("192.0.2.1:443".to_owned()),
        tls: Some(TlsFacts {
            version: "TLSv1.3".to_owned(),
            cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
            chain: vec![CertificateFacts {
                sha256: "00".repeat(32),
                subject: "CN=a".to_owned(),
                issuer: "CN=ca".to_owned(),
                serial: "1".to_owned(),
                not_before: at("2026-01-01T00:00:00Z"),
                not_after: at("2027-01-01T00:00:00Z"),
                names: vec!["a.example".to_owned()],
            }],
        }),
    };
    let odd = Attempt { body: Some(Arc::new(Body::served(vec![0xFF, 0, b'{']))), ..good.clone() };
    let failed = Attempt {
        url: "https://a.example/jwks".to_owned(),
        unseen: Some(Unseen::new(UnseenReason::Timeout, "after 10 s")),
        ..Attempt::default()
    };
    let issuer = IssuerId::new("a \"b\" \u{e9}");
    vec![
        Archived::once(Observation {
            issuer: issuer.clone(),
            at: at("2026-01-01T00:00:00Z"),
            discovery: Some(odd.clone()),
            jwks: Some(good),
        }),
        Archived {
            observation: Observation { issuer: issuer.clone(), at: at("2026-01-02T00:00:00Z"), discovery: Some(odd), jwks: None },
            last_at: Some(at("2026-01-03T00:00:00Z")),
            polls: 289,
        },
        Archived::once(Observation { issuer, at: at("2026-01-04T00:00:00Z"), discovery: None, jwks: Some(failed) }),
    ]
}

fn act() -> Act {
    Act {
        at: at("2026-01-01T00:00:00Z"),
        by: "ann".to_owned(),
        reason: "rotation".to_owned(),
        issuer: IssuerId::new("a"),
        kind: ActKind::Expect { thumbprint: Thumbprint("t".to_owned()), from: None, until: Some(at("2026-02-01T00:00:00Z")) },
    }
}

fn written(packing: Packing) -> Vec<u8> {
    let mut out = Vec::new();
    archive::write(&mut out, packing, &sample(), &[act()]).unwrap();
    out
}

fn assert_sample(archive: &Archive) {
    assert_eq!(archive.observations, sample());
    assert_eq!(archive.acts, [act()]);
    assert!(archive.unknown.is_empty());
}

#[test]
fn what_is_written_reads_back_the_same_in_every_packing() {
    let plain = written(Packing::Plain);
    assert_sample(&archive::read(&plain[..]).unwrap());
    assert_sample(&archive::read(&written(Packing::Zstd)[..]).unwrap());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    assert_sample(&archive::read(&gzip.finish().unwrap()[..]).unwrap());
    assert!(!String::from_utf8(plain).unwrap().contains("c2VjcmV0"));
}

#[test]
fn each_body_is_written_once_and_shared_when_read() {
    let text = String::from_utf8(written(Packing::Plain)).unwrap();
    assert_eq!(text.matches(r#""type":"document""#).count(), 2);
    let archive = archive::read(text.as_bytes()).unwrap();
    let body = |index: usize| archive.observations[index].observation.discovery.as_ref().unwrap().body.clone().unwrap();
    assert!(Arc::ptr_eq(&body(0), &body(1)));
}

fn error(text: &[u8]) -> String {
    archive::read(text).unwrap_err().to_string()
}

#[test]
fn a_broken_line_is_an_error_with_its_number() {
    let hash = Digest::of(b"{}");
    let document = format!("{{\"type\":\"document\",\"sha256\":\"{hash}\",\"body\":\"{{}}\"}}\n");
    let observation = |members: &str| format!("{document}\n{{\"type\":\"observation\",\"issuer\":\"a\",{members}}}");
    let broken = [
        ("{}\n{\"type\":".to_owned(), "line 1: not a record of an archive"),
        (format!("{document}{{\"type\":"), "line 2: not JSON: the text ends too early"),
        (format!("{document}{{\"type\":\"x\",\"a\":\"\\ud800\"}}\n"), "line 2: not JSON: an unpaired surrogate"),
        (document.replace("\"{}\"", "\"{ }\""), "line 1: the document's body does not have the hash"),
        (document.replace(&hash.to_string(), "12"), "line 1: the document's sha256 is not"),
        (document.replace("\"body\":\"{}\"", "\"body_base64\":\"*\""), "line 1: the document's body_base64 is not base64"),
        (observation("\"at\":\"yesterday\""), "line 3: the observation's at is not an RFC 3339 time"),
        (observation("\"at\":\"2026-01-01T00:00:00Z\",\"jwks\":7"), "line 3: jwks: not an object"),
        (
            observation(&format!("\"at\":\"2026-01-01T00:00:00Z\",\"jwks\":{{\"sha256\":\"{}\"}}", "0".repeat(64))),
            "line 3: jwks: no document with the hash 0000",
        ),
        ("[]".to_owned(), "line 1: not a record"),
    ];
    for (text, wanted) in broken {
        let error = error(text.as_bytes());
        assert!(error.starts_with(wanted), "{error:?} is not {wanted:?}");
    }
}

#[test]
fn a_compressed_archive_that_is_cut_off_is_an_error() {
    let zstd = written(Packing::Zstd);
    assert!(error(&zstd[..zstd.len() - 5]).contains("the compressed archive is cut off"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&written(Packing::Plain)).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(error(&gzip[..gzip.len() - 9]).contains("the compressed archive is cut off"));
}

#[test]
fn a_redacted_document_need_not_have_its_hash() {
    let text = format!(r#"{{"type":"document","sha256":"{}","body":"{{}}","redacted":["/keys/0/k"]}}"#, "0".repeat(64));
    assert!(archive::read(text.as_bytes()).is_ok());
}

#[test]
fn unknown_records_are_counted_and_missing_members_forgiven() {
    let text = r#"
{"type":"weather"}
{"type":"act","act":"dance"}
{"type":"weather","more":[1]}
{"type":"observation","issuer":"a","at":"2026-01-01T01:00:00.5+01:00","jwks":{"url":"u","status":null},"later":1}"#;
    let archive = archive::read(text.as_bytes()).unwrap();
    assert_eq!(archive.unknown.into_iter().collect::<Vec<_>>(), [("act".to_owned(), 1), ("weather".to_owned(), 2)]);
    let observation = &archive.observations[0].observation;
    assert_eq!(observation.at, at("2026-01-01T00:00:00Z"));
    assert_eq!(observation.discovery, None);
    assert_eq!(observation.jwks, Some(Attempt { url: "u".to_owned(), ..Attempt::default() }));
}

#[test]
fn both_orders_keep_equal_times_in_file_order() {
    let mut observations = Vec::new();
    for (number, (issuer, day)) in [("b", 2), ("a", 2), ("b", 1), ("a", 2), ("a", 1)].into_iter().enumerate() {
        let at = at(&format!("2026-01-0{day}T00:00:00Z"));
        let mut archived = Archived::once(Observation { issuer: IssuerId::new(issuer), at, discovery: None, jwks: None });
        archived.polls = number as u64;
        observations.push(archived);
    }
    let order = |observations: &[Archived]| observations.iter().map(|archived| archived.polls).collect::<Vec<_>>();
    archive::sort_by_issuer(&mut observations);
    assert_eq!(order(&observations), [4, 1, 3, 2, 0]);
    observations.sort_by_key(|archived| archived.polls);
    archive::sort_by_time(&mut observations);
    assert_eq!(order(&observations), [4, 2, 1, 3, 0]);
}
