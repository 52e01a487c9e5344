//! Commands that read and write beside the daemon: what they print, and how they refuse bad input.

use issuerwatch::model::ActKind;
use issuerwatch::store::{Sqlite, Store as _};
use serde_json::{Value, json};

use super::replay::story;
use super::{Place, key, run};

const CONFIG: &str = r#"
alerts = "none"
[monitor]
database = "sqlite:watch.db"
every = "5m"
[[issuer]]
id = "acme"
url = "https://i.example"
profile = "key-publisher"
"#;

/// A folder whose `watch.db` holds the story, judged by `issuerwatch.toml`.
fn watched() -> Place {
    let place = Place::new();
    place.write("a.jsonl", story());
    place.write("issuerwatch.toml", CONFIG);
    place.run(&["replay", "a.jsonl", "--config", "issuerwatch.toml", "--db", "watch.db"]).exits(1);
    place
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn thumbprint(place: &Place, kid: &str) -> String {
    let keys = place.run(&["keys", "--kid", kid, "--format", "json"]).exits(0).json();
    keys[0]["thumbprint"].as_str().unwrap().to_owned()
}

fn acts(place: &Place) -> Vec<(String, String, String, ActKind)> {
    let acts = Sqlite::read_only(&place.path("watch.db")).unwrap().acts(None).unwrap();
    acts.into_iter().map(|act| (act.by, act.reason, act.issuer.to_string(), act.kind)).collect()
}

// Reading.

#[test]
fn keys_says_when_each_key_was_published() {
    let place = watched();
    let keys = place.run(&["keys", "--issuer", "acme", "--format", "json"]).exits(0).json();
    let brief: Vec<Value> = array(&keys)
        .iter()
        .map(|key| json!([key["kids"], key["kty"], key["alg"], key["use"], key["first_seen"], key["last_seen"], key["present"]]))
        .collect();
    assert_eq!(
        brief,
        [
            json!([["old"], "RSA", null, "sig", "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z", false]),
            json!([["new"], "RSA", null, "sig", "2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z", true]),
        ]
    );
    let members: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "first_seen", "issuer", "kids", "kty", "last_seen", "present", "thumbprint", "use"]);
    let text = place.run(&["keys"]).exits(0);
    let lines: Vec<&str> = text.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("gone       acme  ") && lines[0].ends_with(" kid old"), "{}", text.out);
    assert!(lines[1].starts_with("published  acme  ") && lines[1].contains("2026-01-01T01:00:00Z to 2026-01-01T01:30:00Z"));
}

#[test]
fn keys_are_found_by_kid_thumbprint_and_minute() {
    let place = watched();
    let count = |arguments: &[&str]| array(&place.run(&[&["keys", "--format", "json"], arguments].concat()).exits(0).json()).len();
    assert_eq!(count(&["--kid", "old"]), 1);
    assert_eq!(count(&["--kid", "nobody"]), 0);
    assert_eq!(count(&["--thumbprint", &thumbprint(&place, "new")]), 1);
    assert_eq!(count(&["--at", "2026-01-01T00:45:00Z", "--issuer", "acme"]), 1);
    assert_eq!(count(&["--at", "2025-01-01"]), 0);
    place.run(&["keys", "--kid", "nobody"]).exits(0).says(&["no such key was ever seen"]);
}

#[test]
fn history_tells_events_in_words_and_exactly() {
    let place = watched();
    let text = place.run(&["history", "acme"]).exits(0);
    let text = text.prints(&["2026-01-01T01:00:00Z  key added \"new\" (", "2026-01-01T01:00:00Z  key removed \"old\" ("]);
    assert_eq!(text.out.lines().count(), 2);
    let events = place.run(&["history", "acme", "--format", "json"]).exits(0).json();
    assert_eq!((&events[0]["event"], &events[0]["kid"]), (&json!("key_added"), &json!("new")));
    let none = place.run(&["history", "acme", "--since", "2026-01-03"]).exits(0).says(&["nothing happened in that time"]);
    assert_eq!(none.out, "");
    let none = place.run(&["history", "acme", "--since", "2026-01-03", "--format", "json"]).exits(0);
    assert_eq!(none.out, "[]\n");
}

#[test]
fn incidents_are_listed_and_shown() {
    let place = watched();
    let all = place.run(&["incidents", "--format", "json"]).exits(0).json();
    let change = array(&all).iter().find(|incident| incident["issuer"] == "acme").unwrap();
    assert_eq!(
        (&change["severity"], &change["state"], &change["opened"], &change["resolved"]),
        (&json!("critical"), &json!("open"), &json!("2026-01-01T01:00:00Z"), &Value::Null)
    );
    assert_eq!(array(&change["events"]).len(), 2);
    let rules: Vec<&Value> = array(&change["findings"]).iter().map(|finding| &finding["rule"]).collect();
    assert!(rules.contains(&&json!("rotation/unexpected-new-key")), "{rules:?}");
    let id = change["incident"].as_str().unwrap();
    let shown = place.run(&["incidents", id]).exits(0);
    shown.prints(&[id, "critical open  acme: ", "rotation/unexpected-new-key: ", "2026-01-01T01:00:00Z  key added \"new\" ("]);
    assert_eq!(array(&place.run(&["incidents", id, "--format", "json"]).exits(0).json()).len(), 1);
    place.run(&["incidents"]).exits(0).prints(&[id, "beta"]);
    place.run(&["incidents", "inc-0"]).exits(2).says(&["no incident \"inc-0\"; `issuerwatch incidents` lists them"]);
}

#[test]
fn reading_asks_for_what_is_there() {
    let place = watched();
    place.run(&["history", "acne"]).exits(2).says(&["no issuer \"acne\" in the database; did you mean \"acme\"?"]);
    place.run(&["keys", "--issuer", "acne"]).exits(2).says(&["did you mean \"acme\"?"]);
    place.run(&["report", "--issuer", "acne", "-o", "r.html"]).exits(2).says(&["did you mean \"acme\"?"]);
    place.run(&["history", "acme", "--since", "lately"]).exits(2).says(&["\"lately\" is no time: write 2026-01-31T12:00:00Z"]);
    place.run(&["keys", "--db", "nowhere.db"]).exits(1).says(&["there is no database nowhere.db"]);
    assert!(!place.path("nowhere.db").exists());
    place.run(&["keys", "--db", "watch.db", "--config", "issuerwatch.toml"]).exits(2);
    Place::new().run(&["history", "acme"]).exits(2).says(&["issuerwatch.toml"]);
    place.run(&["report", "--format", "oscal", "-o", "r"]).exits(2).says(&["`--format oscal` is not in this version"]);
}

// Deciding.

#[test]
fn a_key_is_expected_with_a_reason_and_a_window() {
    let place = watched();
    let new = thumbprint(&place, "new");
    let who = ["--reason", "yearly rotation", "--by", "ann"];
    let window = ["--from", "2027-01-01", "--until", "2027-02-01"];
    let ran = place.run(&[&["expect", "--issuer", "acme", "--thumbprint", &new][..], &window, &who].concat()).exits(0);
    ran.says(&[&format!("expected at acme: {new}")]);
    let (by, reason, issuer, kind) = acts(&place).remove(0);
    assert_eq!((by.as_str(), reason.as_str(), issuer.as_str()), ("ann", "yearly rotation", "acme"));
    let ActKind::Expect { thumbprint, from, until } = kind else { panic!("{kind:?}") };
    assert_eq!(thumbprint.as_str(), new);
    assert_eq!(
        (from.unwrap().to_rfc3339(), until.unwrap().to_rfc3339()),
        ("2027-01-01T00:00:00+00:00".into(), "2027-02-01T00:00:00+00:00".into())
    );
}

#[test]
fn a_key_is_named_by_its_file_too() {
    let place = watched();
    let new = thumbprint(&place, "new");
    let jwk = key("rsa-2048-b", &json!({"kid": "another name"}));
    place.write("key.json", jwk.to_string());
    place.write("set.json", json!({"keys": [jwk]}).to_string());
    for file in ["key.json", "set.json"] {
        place
            .run(&["approve", "--issuer", "acme", "--jwk", file, "--reason", "ours"])
            .exits(0)
            .says(&[&format!("approved at acme: {new}")]);
    }
    assert_eq!(acts(&place).len(), 2);
    place.write("two.json", json!({"keys": [jwk, key("rsa-2048", &json!({}))]}).to_string());
    place.run(&["approve", "--issuer", "acme", "--jwk", "two.json", "--reason", "x"]).exits(2).says(&["two.json holds 2 keys; name one"]);
    place.write("none.json", "nope");
    place.run(&["approve", "--issuer", "acme", "--jwk", "none.json", "--reason", "x"]).exits(2).says(&["none.json is no JWK: "]);
    place.write("other.json", "{}");
    place
        .run(&["approve", "--issuer", "acme", "--jwk", "other.json", "--reason", "x"])
        .exits(2)
        .says(&["other.json is no JWK: it has no kty"]);
    place.run(&["approve", "--issuer", "acme", "--jwk", "nowhere.json", "--reason", "x"]).exits(1).says(&["cannot read nowhere.json"]);
    assert_eq!(acts(&place).len(), 2);
}

#[test]
fn an_incident_is_approved_for_what_can_be_approved_in_it() {
    let place = watched();
    let incidents = place.run(&["incidents", "--format", "json"]).exits(0).json();
    let of = |issuer: &str| array(&incidents).iter().find(|incident| incident["issuer"] == issuer).unwrap()["incident"].as_str().unwrap();
    let ran = place.run(&["approve", "--incident", of("acme"), "--reason", "planned"]).exits(0);
    ran.says(&[&format!("approved at acme: what {} reports", of("acme"))]);
    let (by, _, issuer, kind) = acts(&place).remove(0);
    assert_eq!((by.as_str(), issuer.as_str()), ("unknown", "acme"));
    let ActKind::ApproveIncident { keys, new_issuer, new_jwks_uri, .. } = kind else { panic!("{kind:?}") };
    assert_eq!(keys.iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>(), [thumbprint(&place, "new")]);
    assert_eq!((new_issuer, new_jwks_uri), (None, None));
    place.run(&["approve", "--incident", of("beta"), "--reason", "x"]).exits(2).says(&["reports nothing that can be approved"]);
    place.run(&["approve", "--incident", "inc-0", "--reason", "x"]).exits(2).says(&["no incident \"inc-0\""]);
    place.run(&["approve", "--incident", of("acme"), "--issuer", "beta", "--reason", "x"]).exits(2).says(&["is about acme, not beta"]);
}

#[test]
fn a_decision_without_its_parts_is_refused() {
    let place = watched();
    let new = thumbprint(&place, "new");
    for (arguments, text) in [
        (&["expect", "--issuer", "acme", "--thumbprint", &new][..], "--reason"),
        (&["expect", "--issuer", "acme", "--thumbprint", &new, "--reason", "  "], "--reason must say why"),
        (&["expect", "--issuer", "acme", "--reason", "x"], "--thumbprint"),
        (&["expect", "--thumbprint", &new, "--reason", "x"], "--issuer"),
        (&["expect", "--issuer", "acme", "--thumbprint", "short", "--reason", "x"], "\"short\" is not a SHA-256 thumbprint"),
        (&["expect", "--issuer", "acme", "--thumbprint", &new, "--reason", "x", "--from", "soon"], "\"soon\" is no time"),
        (
            &["expect", "--issuer", "acme", "--thumbprint", &new, "--reason", "x", "--from", "2027-02-01", "--until", "2027-01-01"],
            "--until must be later than --from",
        ),
        (&["approve", "--reason", "x"], "--issuer"),
        (&["approve", "--issuer", "acme", "--reason", "x"], "name what is approved: --thumbprint, --jwk or --incident"),
    ] {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(text), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(acts(&place), []);
    let ran = place.run(&["approve", "--issuer", "acne", "--thumbprint", &new, "--reason", "x"]).exits(0);
    ran.says(&["note: no issuer \"acne\" was polled so far (known: acme, beta)"]);
}

// The configuration.

#[test]
fn the_starter_is_good_once_its_secrets_are_there() {
    let place = Place::new();
    place.run(&["config", "init"]).exits(0).says(&["wrote issuerwatch.toml", "issuerwatch config check"]);
    place.run(&["config", "init"]).exits(2).says(&["issuerwatch.toml: ", "an existing file is left alone"]);
    assert_eq!(place.run(&["config", "init", "-"]).exits(0).out, place.read("issuerwatch.toml"));
    let ran = place.run(&["config", "check"]).exits(2).says(&["SOC_WEBHOOK is not set", "soc.secret", "^^^"]);
    assert!(ran.err.starts_with("error: the environment variable"), "one title is enough: {}", ran.err);
    assert_eq!(ran.out, "");
    place.write("soc.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let checked = place.command(&["config", "check"]).env("SOC_WEBHOOK", "https://soc.example/hook").output().unwrap();
    let ran = super::ran(checked).exits(0).says(&["the configuration is good: "]);
    assert!(ran.out.contains(": next 2"), "{}", ran.out);
    assert!(!ran.out.contains("soc.example") && !ran.err.contains("soc.example"));
}

#[test]
fn all_problems_are_shown_at_once_with_their_places() {
    let place = Place::new();
    place.write(
        "c.toml",
        "[monitor]\nevry = \"5m\"\nlisten = \"0.0.0.0:80\"\n[[issuer]]\nid = \"a\"\nurl = \"nope\"\n[policy.severity]\n\"key/rsa-to-small\" = \"info\"\n",
    );
    let ran = place.run(&["config", "check", "--config", "c.toml"]).exits(2);
    let ran = ran.says(&["c.toml:2:1", "did you mean `every`?", "c.toml:3:10", "c.toml:6:7"]);
    assert_eq!(ran.out, "");
    place.run(&["config", "check", "c.toml"]).exits(2);
    place.run(&["config", "check", "nowhere.toml"]).exits(2).says(&["nowhere.toml"]);
    place.write("rule.toml", format!("{CONFIG}[policy.severity]\n\"key/rsa-to-small\" = \"info\"\n"));
    place.run(&["config", "check", "rule.toml"]).exits(2).says(&[
        "there is no rule \"key/rsa-to-small\"",
        "key/rsa-too-small",
        "rule.toml:11:1",
    ]);
}

#[test]
fn the_schema_describes_the_configuration() {
    let schema = run(&["config", "schema"]).exits(0).json();
    assert!(schema["properties"]["monitor"].is_object() && schema["properties"]["issuer"].is_object(), "{schema:#}");
}

// The catalogue.

#[test]
fn rules_are_listed_sorted_with_all_that_is_promised() {
    let rules = run(&["rules", "list", "--format", "json"]).exits(0).json();
    let ids: Vec<&str> = array(&rules).iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted() && ids.len() == 24, "{ids:?}");
    for rule in array(&rules) {
        for member in ["id", "family", "title", "severity", "remediation", "since"] {
            assert!(rule[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {rule}");
        }
        for member in ["cites", "controls", "profiles", "parameters", "aliases"] {
            assert!(rule[member].is_array(), "{member} of {rule}");
        }
        assert!(array(&rule["cites"]).iter().all(|cite| cite["text"].is_string() && cite["verified"].is_boolean()), "{rule}");
    }
    let text = run(&["rules", "list"]).exits(0);
    let shown: Vec<&str> = text.out.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(shown, ids);
}

#[test]
fn a_rule_is_shown_with_its_text() {
    let shown = run(&["rules", "show", "key/rsa-too-small"]).exits(0);
    let shown = shown.prints(&["high     key/rsa-too-small\n", "Remediation\n", "Citations\n", "RFC 7518 §3.3 https://", "Controls"]);
    assert!(shown.out.lines().all(|line| line.chars().count() <= 140 && line == line.trim_end()), "{}", shown.out);
    assert_eq!(run(&["rules", "show", "key/rsa-too-small", "--format", "json"]).exits(0).json()["family"], "key");
    run(&["rules", "show", "key/rsa-to-small"]).exits(2).says(&["did you mean \"key/rsa-too-small\"?"]);
    run(&["rules", "test", "."]).exits(2).says(&["`rules test` is not in this version"]);
}

// What is not there yet.

#[test]
fn commands_that_no_version_brought_yet_say_so() {
    for name in [
        "export",
        "import",
        "at",
        "diff",
        "rotations",
        "ack",
        "silence",
        "waive",
        "alerts",
        "verify",
        "backup",
        "prune",
        "completions",
        "man",
    ] {
        for more in [&[][..], &["x", "--since", "1d", "-o", "y"], &["--help"]] {
            let ran = run(&[&[name], more].concat());
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{name} {more:?}: {ran:?}");
            assert_eq!(ran.err, format!("error: `{name}` is not in this version\n"));
        }
    }
    run(&["keys", "audit", "x"]).exits(2).says(&["`keys audit` is not in this version"]);
    run(&["frobnicate"]).exits(2).says(&["frobnicate"]);
    run(&[]).exits(2);
    run(&["--version"]).exits(0).prints(&["issuerwatch 0."]);
    run(&["--help"]).exits(0).prints(&["demo", "check", "replay"]);
    for command in
        ["demo", "run", "check", "replay", "history", "keys", "expect", "approve", "incidents", "report", "rules", "config", "channels"]
    {
        run(&[command, "--help"]).exits(0).prints(&[&format!("issuerwatch {command}"), "--help"]);
        run(&["help", command]).exits(0);
    }
}
