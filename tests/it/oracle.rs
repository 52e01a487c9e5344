//! Lifecycle events against the reference, `corpus/oracle.py`: the corpora, hand cases, and random odd archives.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so; a skipped one is loud")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use issuerwatch::archive::{self, Archived};
use issuerwatch::ledger::Ledger;
use issuerwatch::model::{Channel, Digest, Event, IssuerId, Observation};
use issuerwatch::parse::{Cache, Documents};

/// The shared corpus; `None`, said loudly, where it is absent.
pub(crate) fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !path.join("oracle.py").exists() {
        eprintln!("SKIPPED: no corpus at {}", path.display());
        return None;
    }
    Some(path)
}

fn ledgers_of(observations: &[Archived]) -> (HashMap<IssuerId, Ledger>, Vec<Event>) {
    let mut cache = Cache::default();
    let mut ledgers: HashMap<IssuerId, Ledger> = HashMap::new();
    let mut events = Vec::new();
    for archived in observations {
        let observation = &archived.observation;
        let documents = cache.read(observation);
        events.extend(ledgers.entry(observation.issuer.clone()).or_default().absorb(observation, &documents));
    }
    events.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    (ledgers, events)
}

fn events_of(archive: &[u8]) -> Vec<String> {
    let mut archive = archive::read(archive).expect("the archive is whole");
    // Issuers do not interact, so the order of a replay must give the same as the reference's.
    archive::sort_by_time(&mut archive.observations);
    ledgers_of(&archive.observations).1.iter().map(Event::to_line).collect()
}

fn unpacked(path: &Path) -> String {
    let output = Command::new("xz").arg("-dc").arg(path).output().expect("xz runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn oracle(corpus: &Path, archive: &str) -> Vec<String> {
    let mut child = Command::new("python3")
        .arg(corpus.join("oracle.py"))
        .arg("-")
        .env("PYTHONIOENCODING", "utf-8")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut input = child.stdin.take().unwrap();
    input.write_all(archive.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the reference refused the archive");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn assert_same(ours: &[String], reference: &[String]) {
    for (number, (ours, theirs)) in ours.iter().zip(reference).enumerate() {
        assert_eq!(ours, theirs, "event {}", number + 1);
    }
    assert_eq!(ours.len(), reference.len());
}

fn corpus_gives_the_reference(name: &str) {
    let Some(corpus) = corpus() else { return };
    let archive = std::fs::read(corpus.join(format!("{name}.jsonl.zst"))).unwrap();
    let reference: Vec<String> = unpacked(&corpus.join(format!("events-{name}.jsonl.xz"))).lines().map(str::to_owned).collect();
    assert!(reference.len() > 100);
    assert_same(&events_of(&archive), &reference);
}

#[test]
fn the_small_corpus_gives_the_events_of_the_reference() {
    corpus_gives_the_reference("small");
}

#[test]
fn the_development_corpus_gives_the_events_of_the_reference() {
    corpus_gives_the_reference("dev");
}

#[test]
fn a_ledger_that_was_stored_and_loaded_again_goes_on_as_before() {
    let Some(corpus) = corpus() else { return };
    let mut archive = archive::read(&std::fs::read(corpus.join("small.jsonl.zst")).unwrap()[..]).unwrap();
    archive::sort_by_issuer(&mut archive.observations);
    let (whole, _) = ledgers_of(&archive.observations);
    let (half, _) = ledgers_of(&archive.observations[..archive.observations.len() / 2]);
    for ledger in whole.values().chain(half.values()) {
        let text = serde_json::to_string(ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), *ledger);
    }
}

// --- hand cases ---------------------------------------------------------------------------------------------------

/// Archives made of bodies.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) text: String,
    known: BTreeMap<String, ()>,
}

pub(crate) enum Look<'a> {
    Nothing,
    Body(&'a str),
    Bytes(&'a [u8]),
    Status(u16),
    /// No error and no hash.
    Lost,
}

impl Lines {
    pub(crate) fn look(&mut self, issuer: &str, at: &str, discovery: &Look<'_>, jwks: &Look<'_>) {
        let discovery = self.attempt(discovery, "https://i.example/.well-known/openid-configuration");
        let jwks = self.attempt(jwks, "https://i.example/jwks");
        writeln!(
            self.text,
            r#"{{"type":"observation","issuer":{},"at":"{at}","discovery":{discovery},"jwks":{jwks}}}"#,
            serde_json::to_string(issuer).unwrap()
        )
        .unwrap();
    }

    fn attempt(&mut self, look: &Look<'_>, url: &str) -> String {
        let (status, sha256, error) = match look {
            Look::Nothing => return "null".to_owned(),
            Look::Body(body) => (200, Some(self.document(body.as_bytes())), "null".to_owned()),
            Look::Bytes(bytes) => (200, Some(self.document(bytes)), "null".to_owned()),
            Look::Status(status) => (*status, None, format!("\"HTTP {status}\"")),
            Look::Lost => (200, None, "null".to_owned()),
        };
        let sha256 = sha256.map_or("null".to_owned(), |sha256| format!("\"{sha256}\""));
        format!(r#"{{"url":"{url}","status":{status},"headers":{{}},"sha256":{sha256},"error":{error}}}"#)
    }

    fn document(&mut self, bytes: &[u8]) -> String {
        let sha256 = Digest::of(bytes).to_string();
        if self.known.insert(sha256.clone(), ()).is_none() {
            let body = match std::str::from_utf8(bytes) {
                Ok(text) => format!(r#""body":{}"#, serde_json::to_string(text).unwrap()),
                Err(_) => {
                    use base64::Engine as _;
                    format!(r#""body_base64":"{}""#, base64::engine::general_purpose::STANDARD.encode(bytes))
                }
            };
            writeln!(self.text, r#"{{"type":"document","sha256":"{sha256}",{body}}}"#).unwrap();
        }
        sha256
    }

    pub(crate) fn archive(&self) -> Vec<Archived> {
        archive::read(self.text.as_bytes()).unwrap().observations
    }
}

fn day(day: u32) -> String {
    format!("2026-01-{day:02}T00:00:00Z")
}

const A: &str = r#"{"kty":"RSA","n":"AAAA","e":"AQAB","kid":"1"}"#;
const B: &str = r#"{"kty":"RSA","n":"BBBB","e":"AQAB","kid":"2"}"#;
const C: &str = r#"{"kty":"RSA","n":"CCCC","e":"AQAB","kid":"2"}"#;

fn keys(entries: &[&str]) -> String {
    format!(r#"{{"keys":[{}]}}"#, entries.join(","))
}

fn thumbprint(key: &str) -> String {
    let lines = keys(&[key]);
    let body = issuerwatch::model::Body::served(lines.into_bytes());
    issuerwatch::parse::jwks(&body, usize::MAX, 100).unwrap().keys[0].thumbprint.0.clone()
}

#[test]
fn the_hand_written_history_of_the_reference_gives_its_events() {
    let d = |more: &str| format!(r#"{{"issuer":"i","jwks_uri":"j"{more}}}"#);
    let first = d(r#","id_token_signing_alg_values_supported":["RS256","ES256"]"#);
    let shuffled = d(r#","id_token_signing_alg_values_supported":["ES256","RS256","RS256"]"#);
    let moved = first.replace(r#""j""#, r#""k""#);
    let a9 = A.replace(r#""1""#, r#""9""#);
    let a9_alg = a9.replace('}', r#","alg":"RS256"}"#);
    let az = A.replace(r#""1""#, r#""z""#);
    let b5 = B.replace(r#""2""#, "5");

    let mut lines = Lines::default();
    let mut look = |at: u32, jwks: Look<'_>, discovery: Look<'_>| lines.look("a", &day(at), &discovery, &jwks);
    look(1, Look::Status(500), Look::Body(&first));
    look(2, Look::Body(&keys(&[A])), Look::Body(&shuffled));
    look(3, Look::Body(&keys(&[A, B])), Look::Status(404));
    look(4, Look::Status(503), Look::Status(404));
    look(5, Look::Body("not json"), Look::Nothing);
    look(6, Look::Body(&keys(&[B])), Look::Body(&moved));
    look(7, Look::Body(&keys(&[&a9, B, "7"])), Look::Nothing);
    look(8, Look::Body(&keys(&[&a9_alg, C])), Look::Body(r#"{"issuer":"i2","jwks_uri":"k"}"#));
    look(9, Look::Body(&keys(&[B, &az, &a9])), Look::Nothing);
    look(10, Look::Body(&keys(&[])), Look::Nothing);
    look(11, Look::Body(&keys(&[A])), Look::Nothing);
    lines.look("b", &day(1), &Look::Nothing, &Look::Body(&keys(&[A, A])));
    lines.look("b", &day(2), &Look::Nothing, &Look::Body(&keys(&[&b5, r#"{"kty":"X"}"#])));

    let (a, b, c, x) = (thumbprint(A), thumbprint(B), thumbprint(C), thumbprint(r#"{"kty":"X"}"#));
    let mut wanted = vec![
        format!("a 1 fetch_failed jwks 500"),
        format!("a 2 fetch_recovered jwks {}", day(1)),
        format!("a 3 fetch_failed discovery 404"),
        format!("a 3 key_added {b} 2"),
        format!("a 4 fetch_failed jwks 503"),
        format!("a 6 fetch_recovered discovery {}", day(3)),
        format!("a 6 fetch_recovered jwks {}", day(4)),
        format!(r#"a 6 jwks_uri_changed "j" "k""#),
        format!("a 6 key_removed {a} 1"),
        format!("a 7 key_reappeared {a} 9 {}", day(6)),
        format!("a 8 algs_changed ES256,RS256 -> "),
        format!(r#"a 8 issuer_changed "i" "i2""#),
        format!("a 8 key_added {c} 2"),
        format!("a 8 key_removed {b} 2"),
        format!("a 8 kid_rebound {c} 2 {b}"),
        format!("a 9 key_reappeared {b} 2 {}", day(8)),
        format!("a 9 key_removed {c} 2"),
        format!("a 10 key_removed {a} 9"),
        format!("a 10 key_removed {b} 2"),
        format!("a 11 key_reappeared {a} 1 {}", day(10)),
        format!("b 2 key_added {b} -"),
        format!("b 2 key_added {x} -"),
        format!("b 2 key_removed {a} 1"),
    ];
    wanted.sort();
    let mut ours: Vec<String> = ledgers_of(&lines.archive()).1.iter().map(shorthand).collect();
    ours.sort();
    assert_eq!(ours, wanted);
}

fn shorthand(event: &Event) -> String {
    use issuerwatch::model::EventKind as Kind;
    let label = |kid: &Option<String>| kid.clone().unwrap_or_else(|| "-".to_owned());
    let at = issuerwatch::model::timestamp;
    let rest = match &event.kind {
        Kind::KeyAdded { kid, thumbprint } | Kind::KeyRemoved { kid, thumbprint } => format!("{thumbprint} {}", label(kid)),
        Kind::KeyReappeared { kid, thumbprint, absent_since } => format!("{thumbprint} {} {}", label(kid), at(*absent_since)),
        Kind::KidRebound { kid, thumbprint, old } => {
            format!("{thumbprint} {kid} {}", old.iter().map(|old| old.as_str()).collect::<Vec<_>>().join(","))
        }
        Kind::JwksUriChanged { old, new } | Kind::IssuerChanged { old, new } => format!("{} {}", old.canonical(), new.canonical()),
        Kind::AlgsChanged { old, new } => format!("{} -> {}", old.join(","), new.join(",")),
        Kind::FetchFailed { channel, status, .. } => format!("{} {status}", channel.name()),
        Kind::FetchRecovered { channel, failed_since } => format!("{} {}", channel.name(), at(*failed_since)),
    };
    format!("{} {} {} {rest}", event.issuer, event.at.format("%-d"), event.kind.name())
}

#[test]
fn the_examples_of_the_standards_have_their_thumbprints() {
    // RFC 7638 §3.1 and RFC 8037 A.3
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    assert_eq!(thumbprint(rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let okp = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(thumbprint(okp), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_key_keeps_its_identity_in_another_encoding_and_without_its_secrets() {
    let n = |n: &str| thumbprint(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#));
    assert_eq!(n("AMzM"), n("zMw"));
    assert_eq!(n(r"zM w=\n"), n("zMw"));
    assert_ne!(n(r"zM\u000bw"), n("zMw"));
    assert!(n("x").starts_with("raw:"));
    assert_eq!(thumbprint(r#"{"kty":"oct","k":"AAAA","kid":"1"}"#), thumbprint(r#"{"kty":"oct","kid":"1","k":"BBBB"}"#));
    assert_eq!(thumbprint(r#"{"kty":"X","d":"secret","a":1}"#), thumbprint(r#"{"a":1,"kty":"X"}"#));
    assert!(thumbprint(r#"{"kty":"EC","crv":[],"x":"AA","y":"AA"}"#).starts_with("raw:"));
}

// --- what rules need ----------------------------------------------------------------------------------------------

fn absorb(ledger: &mut Ledger, observation: &Observation) -> Vec<Event> {
    ledger.absorb(observation, &Documents::read(observation))
}

fn replay(lines: &Lines) -> Ledger {
    let mut ledger = Ledger::default();
    for archived in lines.archive() {
        absorb(&mut ledger, &archived.observation);
    }
    ledger
}

#[test]
fn lives_have_bounds_and_name_what_they_replaced() {
    let mut lines = Lines::default();
    lines.look("a", &day(1), &Look::Nothing, &Look::Body(&keys(&[A])));
    lines.look("a", &day(2), &Look::Nothing, &Look::Body(&keys(&[A])));
    lines.look("a", &day(3), &Look::Nothing, &Look::Status(503));
    lines.look("a", &day(4), &Look::Nothing, &Look::Body(&keys(&[B])));
    let ledger = replay(&lines);
    let text = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(issuerwatch::model::timestamp);
    let life = |key: &str| ledger.keys[&issuerwatch::model::Thumbprint(thumbprint(key))].lives[0].clone();
    let (old, new) = (life(A), life(B));
    assert_eq!((old.after, text(old.last), text(old.gone)), (None, Some(day(2)), Some(day(4))));
    assert_eq!((text(new.after), text(Some(new.from)), new.gone), (Some(day(2)), Some(day(4)), None));
    assert_eq!(new.replaced, [issuerwatch::model::Thumbprint(thumbprint(A))]);
    assert!(new.cut_over);
    assert_eq!(ledger.additions.len(), 1);
}

#[test]
fn a_watched_member_is_open_until_it_returns() {
    let document = |uri: &str| format!(r#"{{"issuer":"i","jwks_uri":"{uri}"}}"#);
    let mut lines = Lines::default();
    let mut seen = Vec::new();
    for (at, uri) in [(1, "j"), (2, "k"), (3, "k"), (4, "l"), (5, "j")] {
        lines.look("a", &day(at), &Look::Body(&document(uri)), &Look::Nothing);
        let watched = replay(&lines).jwks_uri.unwrap();
        seen.push((watched.value, watched.accepted, watched.changed.map(issuerwatch::model::timestamp)));
    }
    let row = |value: &str, changed: Option<u32>| (format!("\"{value}\""), "\"j\"".to_owned(), changed.map(day));
    assert_eq!(seen, [row("j", None), row("k", Some(2)), row("k", Some(2)), row("l", Some(4)), row("j", None)]);
}

#[test]
fn another_url_of_the_operator_is_a_new_baseline_for_rules_and_no_other_events() {
    let mut lines = Lines::default();
    let document = r#"{"issuer":"i","jwks_uri":"https://i.example/other"}"#;
    let other = r#"{"issuer":"other","jwks_uri":"https://i.example/jwks"}"#;
    lines.look("a", &day(1), &Look::Body(document), &Look::Body(&keys(&[A])));
    lines.look("a", &day(2), &Look::Body(other), &Look::Body(&keys(&[B])));
    let mut observations: Vec<Observation> = lines.archive().into_iter().map(|archived| archived.observation).collect();
    observations[1].discovery.as_mut().unwrap().url = "https://moved.example/".to_owned();
    observations[1].jwks.as_mut().unwrap().url = "https://i.example/jwks2".to_owned();
    let mut ledger = Ledger::default();
    assert!(absorb(&mut ledger, &observations[0]).is_empty());
    let names: Vec<&str> = absorb(&mut ledger, &observations[1]).iter().map(|event| event.kind.name()).collect();
    assert_eq!(names, ["jwks_uri_changed", "issuer_changed", "key_added", "key_removed"]);
    assert_eq!(ledger.issuer.as_ref().unwrap().accepted, "\"other\"");
    let life = |key: &str| ledger.keys[&issuerwatch::model::Thumbprint(thumbprint(key))].lives[0].clone();
    assert_eq!((life(B).after, life(B).replaced.len(), life(B).cut_over), (None, 0, false));
    assert!(life(A).unwatched);
    assert!(ledger.additions.is_empty());
}

#[test]
fn a_jwks_url_that_follows_the_document_is_no_new_baseline() {
    let mut lines = Lines::default();
    lines.look("a", &day(1), &Look::Body(r#"{"jwks_uri":"https://i.example/jwks"}"#), &Look::Body(&keys(&[A])));
    lines.look("a", &day(2), &Look::Body(r#"{"jwks_uri":"https://i.example/2"}"#), &Look::Body(&keys(&[B])));
    let mut observations: Vec<Observation> = lines.archive().into_iter().map(|archived| archived.observation).collect();
    observations[1].jwks.as_mut().unwrap().url = "https://i.example/2".to_owned();
    let mut ledger = Ledger::default();
    observations.iter().for_each(|observation| drop(absorb(&mut ledger, observation)));
    let life = &ledger.keys[&issuerwatch::model::Thumbprint(thumbprint(B))].lives[0];
    assert_eq!(life.after.map(issuerwatch::model::timestamp), Some(day(1)));
    assert!(life.cut_over);
}

#[test]
fn bad_statuses_are_counted_until_a_200_and_no_answer_counts_as_neither() {
    let mut lines = Lines::default();
    let mut counts = Vec::new();
    let looks =
        [Look::Status(503), Look::Status(404), Look::Status(0), Look::Status(500), Look::Body("<html>"), Look::Status(503), Look::Lost];
    for (at, look) in (1..).zip(&looks) {
        lines.look("a", &day(at), &Look::Nothing, look);
        let ledger = replay(&lines);
        counts.push((ledger.jwks.bad_status, ledger.jwks.failures));
    }
    // "HTTP 0" is the text of a status, so it counts; a real missing answer has another text.
    assert_eq!(counts.iter().map(|(_, failures)| *failures).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(counts.iter().map(|(bad, _)| *bad).collect::<Vec<_>>(), [1, 2, 3, 4, 0, 1, 0]);
    assert_eq!(replay(&lines).jwks.failing_since.map(issuerwatch::model::timestamp), Some(day(1)));
    assert!(replay(&lines).is_new(Channel::Jwks));
}

// --- random odd archives ------------------------------------------------------------------------------------------

/// A small generator whose seed is all there is to know about a failure.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn luck(&mut self, one_in: usize) -> bool {
        self.roll(one_in) == 0
    }
}

const ODD_VALUES: &[&str] = &[
    "null",
    "true",
    "5",
    "5.0",
    "1.0E+2",
    "1e400",
    "-0",
    "[]",
    "{}",
    r#""""#,
    r#""é""#,
    r#""\u00e9""#,
    r#""\ud83d\ude00""#,
    r#""a\/b""#,
    r#""\u0000\u001f\u007f\b\f""#,
    r#"["RS256",1,"ES256"]"#,
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{"\u0061":1,"a":2}"#,
    r#"[[[[]]]]"#,
    r#"{"kty":"oct","k":"c2VjcmV0"}"#,
];

const BREAKERS: &[&str] = &[
    "NaN",
    "Infinity",
    "-Infinity",
    r#""\ud800""#,
    r#""\udc00x""#,
    r#""\ud800\u0041""#,
    "01",
    "1.",
    "+1",
    "\"\t\"",
    "'a'",
    "tru",
    ".5",
    r#""\x41""#,
    "-",
];

fn odd_value(dice: &mut Dice) -> String {
    match dice.roll(60) {
        0 => dice.one(BREAKERS).to_owned(),
        1 => format!("{}{}", "[".repeat(200), "]".repeat(200)),
        2 => {
            // Just within and just beyond the limit, depending on where it stands.
            let depth = 94 + dice.roll(10);
            format!("{}{}", r#"{"a":"#.repeat(depth), "1") + &"}".repeat(depth)
        }
        _ => dice.one(ODD_VALUES).to_owned(),
    }
}

fn odd_base64(dice: &mut Dice) -> String {
    let text = dice.one(&[
        "AQAB",
        "AAEAAQ",
        "AQAB=",
        "AQ AB",
        "zMw",
        "AMzM",
        "zM+w",
        "zM_w",
        "zM/w",
        "zMx",
        "x",
        "",
        "AAAA",
        "AA",
        "zM\\u000bw",
        "zM\\nw==",
        "é",
        "_-8",
        "=",
        "A=A",
    ]);
    format!("\"{text}\"")
}

fn odd_key(dice: &mut Dice) -> String {
    if dice.luck(25) {
        return odd_value(dice);
    }
    let mut members: Vec<(String, String)> = Vec::new();
    let kty = match dice.roll(14) {
        0 => odd_value(dice),
        1 => "\"oct\"".to_owned(),
        2 => "\"AKP\"".to_owned(),
        3 => "\"rsa\"".to_owned(),
        4 | 5 => "\"OKP\"".to_owned(),
        6..=8 => "\"EC\"".to_owned(),
        _ => "\"RSA\"".to_owned(),
    };
    members.push(("kty".to_owned(), kty));
    for name in ["n", "e", "x", "y", "k", "d", "oth", "pub"] {
        if !dice.luck(4) {
            let value = if dice.luck(20) { odd_value(dice) } else { odd_base64(dice) };
            members.push((name.to_owned(), value));
        }
    }
    if !dice.luck(5) {
        let crv = if dice.luck(12) {
            odd_value(dice)
        } else {
            format!("\"{}\"", dice.one(&["P-256", "P-384", "P-521", "secp256k1", "Ed25519", "p-256"]))
        };
        members.push(("crv".to_owned(), crv));
    }
    if !dice.luck(4) {
        let kid = if dice.luck(5) { odd_value(dice) } else { format!("\"{}\"", dice.one(&["1", "2", "z", "Z", "é", "\\u0031"])) };
        members.push(("kid".to_owned(), kid));
    }
    while dice.luck(3) {
        let name = dice.one(&["kid", "kty", "n", "x", "alg", "\\u006e", "other", "d", "crv"]).to_owned();
        let value = if dice.luck(2) { odd_base64(dice) } else { odd_value(dice) };
        let at = dice.roll(members.len() + 1);
        members.insert(at, (name, value));
    }
    object(dice, &members)
}

fn object(dice: &mut Dice, members: &[(String, String)]) -> String {
    let space = dice.one(&["", "", "", " ", "\n", "\t\r\n"]);
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}")).collect();
    format!("{{{}{space}}}", members.join(","))
}

fn odd_key_set(dice: &mut Dice, pool: &[String]) -> String {
    let mut members = Vec::new();
    for _ in 0..=usize::from(dice.luck(12)) {
        let entries: Vec<&str> = (0..dice.roll(5)).map(|_| pool[dice.roll(pool.len())].as_str()).collect();
        let keys = if dice.luck(25) { odd_value(dice) } else { format!("[{}]", entries.join(",")) };
        members.push(("keys".to_owned(), keys));
    }
    if dice.luck(8) {
        members.push(("more".to_owned(), odd_value(dice)));
    }
    object(dice, &members)
}

fn odd_metadata(dice: &mut Dice) -> String {
    let mut members = Vec::new();
    for (name, usual) in [("issuer", "\"i\""), ("jwks_uri", "\"j\""), ("id_token_signing_alg_values_supported", r#"["RS256"]"#)] {
        for _ in 0..=usize::from(dice.luck(10)) {
            match dice.roll(6) {
                0 => {}
                1 => members.push((name.to_owned(), odd_value(dice))),
                2 if name.ends_with("supported") => {
                    let algs = dice.one(&[r#"["ES256","RS256"]"#, r#"["RS256","ES256","ES256"]"#, r#"["none",null,["x"]]"#]);
                    members.push((name.to_owned(), algs.to_owned()));
                }
                _ => members.push((name.to_owned(), usual.to_owned())),
            }
        }
    }
    if dice.luck(8) {
        members.push(("more".to_owned(), odd_value(dice)));
    }
    object(dice, &members)
}

fn look(dice: &mut Dice, lines: &mut Lines, issuer: &str, at: &str, pool: &[String]) {
    let (metadata, set) = (odd_metadata(dice), odd_key_set(dice, pool));
    let (metadata, set) = (mangled(dice, &metadata), mangled(dice, &set));
    let kind = |dice: &mut Dice, bytes: &'_ [u8]| -> Option<Vec<u8>> { (!dice.luck(6)).then(|| bytes.to_vec()) };
    let bodies = [kind(dice, &metadata), kind(dice, &set)];
    let looks: Vec<Look<'_>> = bodies
        .iter()
        .map(|body| match body {
            Some(bytes) => Look::Bytes(bytes),
            None => [Look::Nothing, Look::Status(503), Look::Status(0), Look::Lost][dice.roll(4)].copied(),
        })
        .collect();
    lines.look(issuer, at, &looks[0], &looks[1]);
}

impl Look<'_> {
    fn copied(&self) -> Look<'static> {
        match self {
            Look::Status(status) => Look::Status(*status),
            Look::Lost => Look::Lost,
            _ => Look::Nothing,
        }
    }
}

fn mangled(dice: &mut Dice, text: &str) -> Vec<u8> {
    match dice.roll(40) {
        0 => [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        1 => [text.as_bytes(), b" x"].concat(),
        2 => [text.as_bytes(), b"\xFF"].concat(),
        3 => text.as_bytes()[..text.len() / 2].to_vec(),
        4 => text.replacen('"', "\"\u{1}", 1).into_bytes(),
        5 => text.replacen(':', ":\u{c}", 1).into_bytes(),
        6 => format!("[{text}]").into_bytes(),
        7 => format!("\n\r\t {text} \n").into_bytes(),
        8 => text.replacen(',', ",,", 1).into_bytes(),
        9 => text.replacen('}', ",}", 1).into_bytes(),
        10 => b"".to_vec(),
        11 => text.replacen('"', "\"\u{fffd}\u{10ffff}\u{e000}", 1).into_bytes(),
        _ => text.as_bytes().to_vec(),
    }
}

fn odd_archive(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut lines = Lines::default();
    let mut looks: Vec<(String, u32)> = Vec::new();
    for issuer in 0..60 {
        // Equal times included, and issuers mixed in the file.
        looks.extend((0..12).map(|number| (format!("issuer {issuer}"), 1 + number / 2 + number % 2)));
    }
    let pools: Vec<Vec<String>> = (0..60).map(|_| (0..6).map(|_| odd_key(&mut dice)).collect()).collect();
    for _ in 0..looks.len() / 4 {
        let (a, b) = (dice.roll(looks.len()), dice.roll(looks.len()));
        looks.swap(a, b);
    }
    for (issuer, at) in looks {
        let pool = &pools[issuer["issuer ".len()..].parse::<usize>().unwrap()];
        look(&mut dice, &mut lines, &issuer, &day(at), pool);
    }
    lines.text
}

#[test]
fn random_odd_archives_give_the_events_of_the_reference() {
    let Some(corpus) = corpus() else { return };
    let (mut all, seeds) = (0, 12);
    for seed in 0..seeds {
        let archive = odd_archive(seed);
        let reference = oracle(&corpus, &archive);
        all += reference.len();
        let ours = events_of(archive.as_bytes());
        for (ours, theirs) in ours.iter().zip(&reference) {
            assert_eq!(ours, theirs, "seed {seed}");
        }
        assert_eq!(ours.len(), reference.len(), "seed {seed}");
    }
    assert!(all > 1000 * seeds as usize, "the archives must be full of events, not {all}");
}

// --- secrets ------------------------------------------------------------------------------------------------------

#[test]
fn a_body_without_its_secrets_names_the_same_keys() {
    let mut dice = Dice(7);
    let mut compared = 0;
    for _ in 0..3000 {
        let pool: Vec<String> = (0..3).map(|_| odd_key(&mut dice)).collect();
        let body = issuerwatch::model::Body::served(odd_key_set(&mut dice, &pool).into_bytes());
        // A key within an entry is cut too; where its type is unknown that is another entry then.
        if body.bytes.windows(8).any(|window| window == b"c2VjcmV0") {
            continue;
        }
        let kept = issuerwatch::parse::redacted(&body);
        // A pointer cannot tell a `keys` from the later one that hides it, so neither can what was listed of it.
        let hidden = String::from_utf8_lossy(&body.bytes).matches("\"keys\"").count() > 1;
        let told = |secrets: Vec<issuerwatch::model::SecretMember>| -> Vec<(String, bool)> {
            secrets.into_iter().map(|secret| (secret.name, secret.empty && !hidden)).collect()
        };
        let names = |body: &issuerwatch::model::Body| {
            issuerwatch::parse::jwks(body, usize::MAX, 100)
                .map(|set| set.keys.into_iter().map(|key| (key.thumbprint, told(key.secrets))).collect::<Vec<_>>())
                .ok()
        };
        assert_eq!(names(&kept), names(&body), "{}", String::from_utf8_lossy(&body.bytes));
        compared += usize::from(!kept.redacted.is_empty());
    }
    assert!(compared > 500, "only {compared} had secrets");
}

#[test]
fn the_ledger_keeps_nothing_of_a_secret() {
    let mut lines = Lines::default();
    let secret = r#"{"kty":"oct","kid":"1","k":"SECRET"}"#;
    let private = A.replace('}', r#","d":"SECRET","oth":[{"d":"SECRET"}]}"#);
    lines.look("a", &day(1), &Look::Nothing, &Look::Body(&keys(&[secret])));
    lines.look("a", &day(2), &Look::Nothing, &Look::Body(&keys(&[secret, &private])));
    let mut ledger = Ledger::default();
    for archived in lines.archive() {
        for event in absorb(&mut ledger, &archived.observation) {
            assert!(!event.to_line().contains("SECRET"));
        }
    }
    assert_eq!(ledger.keys.len(), 2);
    assert!(!serde_json::to_string(&ledger).unwrap().contains("SECRET"));
}

#[test]
fn a_repeated_look_only_moves_the_times() {
    let mut lines = Lines::default();
    for at in [1, 2] {
        lines.look("a", &day(at), &Look::Body(r#"{"issuer":"i"}"#), &Look::Body(&keys(&[A])));
    }
    let observations = lines.archive();
    let mut ledger = replay(&lines);
    let mut touched = Ledger::default();
    absorb(&mut touched, &observations[0].observation);
    let second = &observations[1].observation;
    touched.touch(Channel::Discovery, second.at);
    touched.touch(Channel::Jwks, second.at);
    assert_eq!(touched, ledger);
    lines.look("a", &day(3), &Look::Status(503), &Look::Nothing);
    let failing = &lines.archive()[2].observation;
    absorb(&mut ledger, failing);
    let before = ledger.clone();
    ledger.lengthen(failing, 2, day(5).parse().unwrap());
    assert_eq!((ledger.discovery.failures, ledger.discovery.bad_status), (3, 3));
    assert_eq!((ledger.discovery.last_ok, &ledger.jwks), (before.discovery.last_ok, &before.jwks));
}

#[test]
fn keys_seen_after_the_operator_moved_the_discovery_url_are_a_baseline_even_if_they_come_later() {
    let mut lines = Lines::default();
    lines.look("a", &day(1), &Look::Body(r#"{"jwks_uri":"https://i.example/jwks"}"#), &Look::Body(&keys(&[A])));
    lines.look("a", &day(2), &Look::Body(r#"{"jwks_uri":"https://new.example/jwks"}"#), &Look::Status(503));
    lines.look("a", &day(3), &Look::Body(r#"{"jwks_uri":"https://new.example/jwks"}"#), &Look::Body(&keys(&[B])));
    let mut ledger = Ledger::default();
    for archived in lines.archive() {
        let mut observation = archived.observation;
        if ledger.jwks.last_attempt.is_some() {
            observation.discovery.as_mut().unwrap().url = "https://new.example/".to_owned();
            observation.jwks.as_mut().unwrap().url = "https://new.example/jwks".to_owned();
        }
        absorb(&mut ledger, &observation);
    }
    assert_eq!(ledger.jwks_uri.as_ref().unwrap().changed, None);
    let record = |key: &str| &ledger.keys[&issuerwatch::model::Thumbprint(thumbprint(key))].lives[0];
    assert_eq!(record(B).after, None);
    assert!(record(A).unwatched);
}
