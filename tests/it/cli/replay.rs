//! `replay`: its exits, the files it writes, and the database that other commands read then.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Place, key, run, shared};
use crate::oracle::{Lines, Look};

/// An issuer that rotates without overlap within two hours, and one whose key is too short throughout.
pub(super) fn story() -> String {
    let discovery = r#"{"issuer":"https://i.example","jwks_uri":"https://i.example/jwks"}"#;
    let set = |keys: &[Value]| json!({ "keys": keys }).to_string();
    let old = key("rsa-2048", &json!({"kid": "old", "use": "sig"}));
    let new = key("rsa-2048-b", &json!({"kid": "new", "use": "sig"}));
    let short = key("rsa-1024", &json!({"kid": "short", "use": "sig"}));
    let mut lines = Lines::default();
    for (time, keys) in [("00:00", &old), ("00:30", &old), ("01:00", &new), ("01:30", &new)] {
        let at = format!("2026-01-01T{time}:00Z");
        lines.look("acme", &at, &Look::Body(discovery), &Look::Body(&set(std::slice::from_ref(keys))));
        lines.look("beta", &at, &Look::Body(discovery), &Look::Body(&set(std::slice::from_ref(&short))));
    }
    lines.text
}

/// The same without anything high.
fn calm() -> String {
    let set = json!({"keys": [key("rsa-2048", &json!({"kid": "a"}))]}).to_string();
    let mut lines = Lines::default();
    for day in 1..4 {
        lines.look("acme", &format!("2026-01-0{day}T00:00:00Z"), &Look::Nothing, &Look::Body(&set));
    }
    lines.look("acme", "2026-01-04T00:00:00Z", &Look::Nothing, &Look::Status(503));
    lines.text
}

const CONFIG: &str = r#"
alerts = "none"
[monitor]
database = "sqlite:watch.db"
[[issuer]]
id = "acme"
url = "https://i.example"
profile = "key-publisher"
"#;

#[test]
fn open_findings_fail_and_failures_in_the_archive_do_not() {
    let place = Place::new();
    place.write("bad.jsonl", story());
    place.write("calm.jsonl", calm());
    let ran = place.run(&["replay", "bad.jsonl"]).exits(1).prints(&["8 observations of 2 issuers", "key/rsa-too-small"]);
    ran.says(&["open findings at or above the threshold", "the whole archive was judged: 8 observations"]);
    let ran = place.run(&["replay", "calm.jsonl"]).exits(0);
    ran.says(&["no open finding at or above the threshold", "the whole archive was judged: 4 observations"]);
    place.run(&["replay", "bad.jsonl", "--fail-on", "none"]).exits(0);
    place.run(&["replay", "bad.jsonl", "--fail-on", "critical"]).exits(1).says(&["1 open finding at or above the threshold"]);
    let rotation = ["rotation/removed-without-overlap", "rotation/overlap-too-short", "rotation/unexpected-new-key"];
    let skip: Vec<&str> = rotation.into_iter().chain(["key/rsa-too-small"]).flat_map(|rule| ["--skip", rule]).collect();
    place.run(&[&["replay", "bad.jsonl"], &skip[..]].concat()).exits(0);
}

#[test]
fn a_replay_reads_stdin_and_compressed_archives() {
    let place = Place::new();
    place.feed(&["replay", "-"], calm()).exits(0).prints(&["4 observations of 1 issuers"]);
    place.feed(&["replay", "-"], zstd::encode_all(calm().as_bytes(), 3).unwrap()).exits(0).prints(&["4 observations"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(calm().as_bytes()).unwrap();
    place.feed(&["replay", "-"], gzip.finish().unwrap()).exits(0).prints(&["4 observations"]);
}

#[test]
fn events_and_findings_are_written_as_sorted_json_lines() {
    let place = Place::new();
    place.write("a.jsonl", story());
    place.run(&["replay", "a.jsonl", "--events", "events.jsonl", "--findings", "findings.jsonl"]).exits(1);
    let lines = |name: &str| -> Vec<Value> { place.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let kinds: Vec<String> = lines("events.jsonl").iter().map(|event| format!("{} {}", event["at"], event["event"])).collect();
    assert_eq!(kinds, [r#""2026-01-01T01:00:00Z" "key_added""#, r#""2026-01-01T01:00:00Z" "key_removed""#]);
    let findings = lines("findings.jsonl");
    let order: Vec<(String, String, String)> = findings
        .iter()
        .map(|finding| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&finding["issuer"]), text(&finding["rule"]), text(&finding["subject"]["thumbprint"]))
        })
        .collect();
    assert!(order.is_sorted() && order.len() >= 3, "{order:?}");
    let small: Vec<&Value> = findings.iter().filter(|finding| finding["rule"] == "key/rsa-too-small").collect();
    assert_eq!(small.len(), 1);
    assert_eq!(
        [&small[0]["first_seen"], &small[0]["last_seen"], &small[0]["state"], &small[0]["issuer"]],
        ["2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z", "open", "beta"]
    );
}

#[test]
fn a_summary_in_json_says_the_same() {
    let place = Place::new();
    place.write("a.jsonl", story());
    let summary = place.run(&["replay", "a.jsonl", "--format", "json"]).exits(1).json();
    assert_eq!((&summary["observations"], &summary["events"]), (&json!(8), &json!(2)));
    let issuers: Vec<&Value> = summary["issuers"].as_array().unwrap().iter().map(|issuer| &issuer["issuer"]).collect();
    assert_eq!(issuers, ["acme", "beta"]);
    assert!(summary["findings"].as_array().unwrap().iter().all(|finding| finding["state"] == "open"));
}

#[test]
fn a_database_must_be_empty_and_is_read_by_the_other_commands() {
    let place = Place::new();
    place.write("a.jsonl", story());
    place.run(&["replay", "a.jsonl", "--db", "a.db"]).exits(1);
    let ran = place.run(&["replay", "a.jsonl", "--db", "a.db"]).exits(2);
    ran.says(&["a.db already holds a history; replay wants a new database"]);
    let keys = place.run(&["keys", "--db", "a.db", "--format", "json"]).exits(0).json();
    assert_eq!(keys.as_array().unwrap().len(), 3);
    let events = place.run(&["history", "acme", "--db", "a.db", "--format", "json"]).exits(0).json();
    assert_eq!(events.as_array().unwrap().len(), 2);
    let incidents = place.run(&["incidents", "--db", "a.db", "--format", "json"]).exits(0).json();
    assert!(!incidents.as_array().unwrap().is_empty());
    place.run(&["report", "--db", "a.db", "-o", "a.html"]).exits(0).says(&["wrote a.html"]);
    assert!(place.read("a.html").contains("key/rsa-too-small"));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let place = Place::new();
    place.write("a.jsonl", calm());
    place.write("notes.txt", "my notes, and by no means a database of any kind whatsoever");
    place.run(&["replay", "a.jsonl", "--db", "notes.txt"]).exits(1).says(&["notes.txt"]);
    assert!(place.read("notes.txt").starts_with("my notes"));
}

#[test]
fn a_broken_archive_is_named_with_its_line_and_nothing_of_it_is_applied() {
    let good = story();
    let lines: Vec<&str> = good.lines().collect();
    let with_line = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        lines.join("\n").into_bytes()
    };
    let unknown = lines[2].replace("\"sha256\":\"", "\"sha256\":\"00");
    let mut cut = zstd::encode_all(good.as_bytes(), 3).unwrap();
    cut.truncate(cut.len() / 2);
    let wrong_hash = lines[0].replace("login", "logout").replace("https://i.example", "https://j.example");
    for (what, bytes, text) in [
        ("a bad line", with_line(4, "{\"type\":"), "a.jsonl: line 4: "),
        ("a line that is no record", with_line(3, "[]"), "a.jsonl: line 3: "),
        ("an unknown hash", with_line(3, &unknown), "a.jsonl: line 3: "),
        ("a document with another hash", with_line(1, &wrong_hash), "a.jsonl: line 1: "),
        ("a cut-off file", cut, "cut off"),
        ("nothing", Vec::new(), "a.jsonl holds no observations"),
        ("noise", b"\x00\x01\x02".to_vec(), "a.jsonl: line 1: "),
    ] {
        let place = Place::new();
        place.write("a.jsonl", &bytes);
        let ran = place.run(&["replay", "a.jsonl", "--db", "a.db", "--events", "e.jsonl", "--findings", "f.jsonl"]);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{what}: {ran:?}");
        assert!(ran.err.contains(text), "{what}: {}", ran.err);
        for name in ["a.db", "e.jsonl", "f.jsonl"] {
            assert!(!place.path(name).exists(), "{what}: {name}");
        }
    }
    run(&["replay", "nowhere.jsonl"]).exits(3).says(&["cannot read nowhere.jsonl"]);
}

#[test]
fn a_configuration_judges_the_issuers_that_it_names_and_says_which_it_does_not() {
    let place = Place::new();
    place.write("a.jsonl", story());
    place.write("c.toml", CONFIG);
    let ran = place.run(&["replay", "a.jsonl", "--config", "c.toml", "--findings", "f.jsonl"]).exits(1);
    ran.says(&["note: not in the configuration, judged as without one: beta\n"]);
    assert!(place.read("f.jsonl").contains("a signing key that nobody announced"));
    place.run(&["replay", "a.jsonl", "--findings", "g.jsonl"]).exits(1);
    assert!(place.read("g.jsonl").contains("a new signing key replaced the others in one poll"));
    place.run(&["replay", "a.jsonl", "--config", "nowhere.toml"]).exits(2).says(&["nowhere.toml"]);
    place.run(&["replay", "a.jsonl", "--against", "c.toml"]).exits(2).says(&["`--against` is not in this version"]);
    place.run(&["replay", "a.jsonl", "--skip", "no/such-rule"]).exits(2).says(&["no rule \"no/such-rule\""]);
}

#[test]
fn records_of_later_versions_are_counted_aloud() {
    let place = Place::new();
    place.write("a.jsonl", format!("{}{}", calm(), "{\"type\":\"hologram\\u001b[31m\"}\n"));
    let ran = place.run(&["replay", "a.jsonl"]).exits(0).says(&["1 records of the unknown type \"hologram⟨U+001B⟩[31m\" were passed over"]);
    assert!(!ran.err.contains('\u{1b}'));
}

#[test]
fn the_small_corpus_gives_the_events_of_the_reference_through_the_binary() {
    let Some(corpus) = shared("corpus") else { return };
    let place = Place::new();
    let archive = corpus.join("small.jsonl.zst");
    let ran = place.run(&["replay", archive.to_str().unwrap(), "--events", "events.jsonl", "--fail-on", "none"]).exits(0);
    ran.prints(&["5036 observations of 12 issuers, 5764 lifecycle events"]);
    let reference = std::process::Command::new("xz").arg("-dc").arg(corpus.join("events-small.jsonl.xz")).output().unwrap();
    assert!(reference.status.success());
    let (ours, theirs) = (place.read("events.jsonl"), String::from_utf8(reference.stdout).unwrap());
    let differing = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    assert_eq!((differing, ours.lines().count()), (None, theirs.lines().count()));
}
