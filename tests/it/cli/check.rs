//! `check`: every row of its table of exits, its formats, and what it judges offline.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Place, Ran, good_discovery, good_keys, key, rules_of, run, shared};
use crate::support::issuer::{DISCOVERY, JWKS};
use crate::support::raw::{self, Then};
use crate::support::{Ca, Identity, Issuer, Reply};

/// How many rules this version has.
fn rules() -> usize {
    run(&["rules", "list", "--format", "json"]).json().as_array().unwrap().len()
}

/// One look at a provider over TLS whose authority is trusted.
fn look(ca: &Ca, target: &str, more: &[&str]) -> Ran {
    let place = Place::new();
    place.write("ca.pem", ca.pem());
    place.run(&[&["check", target, "--ca", "ca.pem", "--allow-private", "--format", "json"], more].concat())
}

/// A provider over TLS that nothing is wrong with.
fn good_issuer(ca: &Ca) -> Issuer {
    let issuer = Issuer::https(ca);
    issuer.publish(&good_keys());
    issuer.set(DISCOVERY, Reply::json(good_discovery(issuer.url()).to_string()));
    issuer
}

fn finding<'a>(judged: &'a Value, rule: &str) -> &'a Value {
    let mut found = judged["findings"].as_array().unwrap().iter().filter(|finding| finding["rule"] == rule);
    found.next().unwrap_or_else(|| panic!("no {rule} in {judged:#}"))
}

/// Nothing was found, and something could not be seen.
#[track_caller]
fn assert_only_blind(ran: Ran, texts: &[&str], findings: &[&str]) {
    let ran = ran.exits(3).says(&["no finding at or above the threshold", "could not look: "]).says(texts);
    let judged = ran.json();
    assert_eq!(rules_of(&judged), findings);
    assert_eq!(judged["grade"], Value::Null);
    assert_adds_up(&judged);
}

#[track_caller]
fn assert_adds_up(judged: &Value) {
    let counts = judged["judgements"].as_object().unwrap();
    let names: Vec<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(names, ["broken", "fail", "not_applicable", "not_evaluated", "pass"]);
    assert_eq!(counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), rules() as u64, "{judged:#}");
    assert_eq!(counts["broken"], 0);
    let skipped = judged["not_evaluated"].as_array().unwrap();
    assert_eq!(counts["not_evaluated"], skipped.len());
    assert!(skipped.iter().all(|skip| skip["rule"].is_string() && !skip["reason"].as_str().unwrap().is_empty()));
}

// The table of exits.

#[test]
fn a_good_issuer_is_clean_and_graded_a() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    let ran = look(&ca, issuer.url(), &[]).exits(0).says(&["no finding at or above the threshold", "everything asked for was seen"]);
    let judged = ran.json();
    assert_eq!((&judged["grade"], rules_of(&judged)), (&json!("A"), vec![]));
    assert_adds_up(&judged);
}

#[test]
fn an_http_issuer_is_critical_and_no_request_is_made() {
    let issuer = Issuer::http();
    let ran = run(&["check", issuer.url(), "--allow-private", "--format", "json"]).exits(1);
    let ran = ran.says(&["1 finding at or above the threshold", "could not look: "]);
    let judged = ran.json();
    assert_eq!(rules_of(&judged), ["transport/not-https"]);
    assert_eq!(finding(&judged, "transport/not-https")["severity"], "critical");
    assert_eq!((issuer.connections(), &judged["grade"]), (0, &Value::Null));
    // What was not seen stays so where no finding counts.
    run(&["check", issuer.url(), "--fail-on", "none"]).exits(3);
}

#[test]
fn certificates_that_prove_nothing_are_found() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    for (what, identity) in [
        ("self-signed", Identity::self_signed(&["127.0.0.1"])),
        ("unknown authority", stranger.issue(&["127.0.0.1"])),
        ("expired", ca.issue_for_years(&["127.0.0.1"], 2020, 2021)),
        ("not yet valid", ca.issue_for_years(&["127.0.0.1"], 2120, 2121)),
        ("wrong name", ca.issue(&["login.acme.example"])),
    ] {
        let issuer = Issuer::https_as("127.0.0.1", &identity);
        let ran = look(&ca, issuer.url(), &[]);
        assert_eq!(ran.code, 1, "{what}: {ran:?}");
        let judged = ran.says(&["1 finding at or above the threshold", "could not look: "]).json();
        assert_eq!(rules_of(&judged), ["transport/tls-certificate-invalid"], "{what}");
        assert!(issuer.received().is_empty(), "{what}");
    }
}

#[test]
fn a_certificate_authority_of_ones_own_is_trusted_only_where_it_is_named() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    run(&["check", issuer.url(), "--allow-private"]).exits(1).prints(&["transport/tls-certificate-invalid"]);
    look(&ca, issuer.url(), &[]).exits(0);
    run(&["check", issuer.url(), "--ca", "nowhere.pem"]).exits(2).says(&["--ca nowhere.pem"]);
}

#[test]
fn an_issuer_that_stalls_was_not_seen() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    issuer.set(DISCOVERY, Reply::silence());
    assert_only_blind(look(&ca, issuer.url(), &[]), &["timeout: no answer within 10 s"], &[]);
}

#[test]
fn a_key_set_that_stalls_was_not_seen() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    issuer.set(JWKS, Reply::json(r#"{"keys":["#).stalled());
    assert_only_blind(look(&ca, issuer.url(), &[]), &["/jwks: timeout: no complete answer within 10 s"], &[]);
}

#[test]
fn an_issuer_that_refuses_the_connection_was_not_seen() {
    assert_only_blind(at(raw::refused()), &["connect: "], &[]);
}

#[test]
fn a_connection_that_is_cut_is_no_finding() {
    assert_only_blind(at(raw::serve("", Then::Close)), &["tls: the connection was closed during the handshake"], &[]);
    let cut = raw::serve("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"issuer\":", Then::Close);
    let ran = run(&["check", &format!("http://{cut}"), "--allow-http-loopback", "--format", "json"]);
    assert_only_blind(ran, &["broken http: "], &[]);
}

fn at(address: SocketAddr) -> Ran {
    run(&["check", &format!("https://{address}"), "--allow-private", "--format", "json"])
}

#[test]
fn an_answer_that_is_no_200_is_a_finding_but_not_a_failure() {
    let ca = Ca::new();
    for status in [404, 500] {
        let issuer = Issuer::https(&ca);
        issuer.set(DISCOVERY, Reply::of(status, "no"));
        assert_only_blind(look(&ca, issuer.url(), &[]), &[&format!("HTTP {status}")], &["transport/bad-status"]);

        let issuer = good_issuer(&ca);
        issuer.set(JWKS, Reply::of(status, "no"));
        assert_only_blind(look(&ca, issuer.url(), &[]), &[&format!("/jwks: HTTP {status}")], &["transport/bad-status"]);
    }
}

#[test]
fn a_redirect_to_another_origin_is_found_and_what_it_led_to_is_judged_too() {
    let ca = Ca::new();
    let (issuer, other) = (Issuer::https(&ca), good_issuer(&ca));
    let mut discovery = good_discovery(issuer.url());
    discovery["jwks_uri"] = other.at(JWKS).into();
    discovery["id_token_signing_alg_values_supported"] = json!(["RS256", "none"]);
    other.set("/document", Reply::json(discovery.to_string()));
    other.set(JWKS, Reply::json(json!({"keys": [key("rsa-1024", &json!({"kid": "a"}))]}).to_string()));
    issuer.set(DISCOVERY, Reply::redirect(302, &other.at("/document")));
    let ran = look(&ca, issuer.url(), &[]).exits(1).says(&["3 findings at or above the threshold", "everything asked for was seen"]);
    let judged = ran.json();
    assert_eq!(rules_of(&judged), ["discovery/alg-none-advertised", "key/rsa-too-small", "transport/redirect-other-origin"]);
    assert_eq!(finding(&judged, "transport/redirect-other-origin")["severity"], "high");
}

#[test]
fn a_private_address_is_refused_unless_it_is_allowed() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    for target in [issuer.url(), "https://10.1.2.3", "https://169.254.169.254", "https://[::1]:1"] {
        let ran = run(&["check", target, "--format", "json"]);
        assert_only_blind(ran, &["address refused"], &["transport/private-address"]);
    }
    assert_eq!(issuer.connections(), 0);
    let ran = run(&["check", "https://169.254.169.254", "--allow-private", "--format", "json"]);
    assert_only_blind(ran, &["address refused"], &["transport/private-address"]);
}

#[test]
fn a_file_that_is_no_key_set_is_found() {
    let place = Place::new();
    for (what, bytes) in [
        ("no JSON", "nope"),
        ("nothing", ""),
        ("no keys", r#"{"a":1}"#),
        ("a list", "[]"),
        ("one key", r#"{"kty":"RSA"}"#),
        ("keys that are none", r#"{"keys":{}}"#),
        ("an unpaired surrogate", r#"{"keys":["\ud800"]}"#),
    ] {
        place.write("jwks.json", bytes);
        let ran = place.run(&["check", "--jwks", "jwks.json", "--format", "json"]);
        assert_eq!(ran.code, 1, "{what}: {ran:?}");
        let judged = ran.says(&["1 finding at or above the threshold", "everything asked for was seen"]).json();
        assert_eq!((rules_of(&judged), &judged["grade"]), (vec!["jwks/not-a-key-set"], &Value::Null), "{what}");
        assert_adds_up(&judged);
    }
}

#[test]
fn a_discovery_document_without_a_key_set_address_leaves_the_keys_unseen() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    issuer.set(DISCOVERY, Reply::json("nope"));
    let ran = look(&ca, issuer.url(), &[]).exits(1).says(&["could not look: no jwks_uri: the discovery document names none"]);
    assert_eq!(rules_of(&ran.json()), ["discovery/invalid-document"]);
}

// Thresholds and selections.

#[test]
fn the_threshold_decides_what_fails() {
    let place = Place::new();
    place.write("jwks.json", json!({"keys": [key("rsa-1024", &json!({"kid": "a"}))]}).to_string());
    for (threshold, code) in [("none", 0), ("critical", 0), ("high", 1), ("medium", 1), ("low", 1), ("info", 1)] {
        let ran = place.run(&["check", "--jwks", "jwks.json", "--fail-on", threshold]);
        assert_eq!(ran.code, code, "{threshold}: {ran:?}");
    }
    place.run(&["check", "--jwks", "jwks.json", "--fail-on", "bad"]).exits(2).says(&["critical, high, medium, low, info or none"]);
}

#[test]
fn a_skipped_rule_is_left_out_and_an_unknown_one_is_refused() {
    let place = Place::new();
    place.write("jwks.json", json!({"keys": [key("rsa-1024", &json!({"kid": "a"}))]}).to_string());
    let ran = place.run(&["check", "--jwks", "jwks.json", "--skip", "key/rsa-too-small", "--format", "json"]).exits(0);
    assert_eq!(rules_of(&ran.json()), Vec::<&str>::new());
    assert_adds_up(&ran.json());
    let ran = place.run(&["check", "--jwks", "jwks.json", "--skip", "key/rsa-to-small"]).exits(2);
    assert_eq!(ran.says(&["no rule \"key/rsa-to-small\"; did you mean \"key/rsa-too-small\"?"]).out, "");
}

// What is named.

#[test]
fn a_target_may_be_a_well_known_url_or_a_bare_key_set() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    look(&ca, &issuer.at(DISCOVERY), &[]).exits(0);
    let judged = look(&ca, &issuer.at(JWKS), &["--profile", "jwks"]).exits(0).json();
    assert_eq!(judged["grade"], "A");
    assert_eq!((issuer.hits(DISCOVERY), issuer.hits(JWKS)), (1, 2));
    // A well-known URL fixes the issuer that its document must name.
    issuer.set("/other/.well-known/openid-configuration", Reply::json(good_discovery(issuer.url()).to_string()));
    let judged = look(&ca, &issuer.at("/other/.well-known/openid-configuration"), &[]).exits(1).json();
    assert_eq!(rules_of(&judged), ["discovery/issuer-mismatch"]);
}

#[test]
fn several_targets_make_an_array_and_the_worst_of_them_the_exit() {
    let ca = Ca::new();
    let (good, bad, gone) = (good_issuer(&ca), good_issuer(&ca), raw::refused());
    bad.publish(r#"{"keys":[{"kty":"oct","kid":"s","k":"c2VjcmV0"}]}"#);
    let gone = format!("https://{gone}");
    let judged = look(&ca, good.url(), &[bad.url(), &gone]).exits(1).says(&["finding", "could not look: "]).json();
    let issuers: Vec<&str> = judged.as_array().unwrap().iter().map(|one| one["issuer"].as_str().unwrap()).collect();
    assert_eq!(issuers, [good.url(), bad.url(), &gone]);
    let judged = look(&ca, good.url(), &[&gone]).exits(3).json();
    assert_eq!(judged.as_array().unwrap().len(), 2);
}

#[test]
fn ndjson_is_one_object_a_line() {
    let ca = Ca::new();
    let issuer = good_issuer(&ca);
    let place = Place::new();
    place.write("ca.pem", ca.pem());
    let ran = place.run(&["check", issuer.url(), issuer.url(), "--ca", "ca.pem", "--allow-private", "--format", "ndjson"]).exits(0);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line["issuer"] == issuer.url()));
}

#[test]
fn wrong_usage_is_told_apart_from_findings() {
    for (arguments, text) in [
        (&["check"][..], "name what to look at"),
        (&["check", "https://a.example", "--jwks", "x"], "name what to look at"),
        (&["check", "login.acme.example"], "not an absolute URL"),
        (&["check", "ftp://acme.example"], "an issuer is an https URL"),
        (&["check", "https://a.example", "--issuer", "https://a.example"], "--issuer goes with files"),
        (&["check", "https://a.example", "--profile", "saml"], "--profile: \"saml\""),
        (&["check", "--jwks", "-", "--discovery", "-"], "only one of"),
        (&["check", "--jwks", "x", "--issuer", "nope"], "--issuer: not an absolute URL"),
        (&["check", "--jwks", "x", "--pack", "rfc9700"], "`--pack` is not in this version"),
        (&["check", "--jwks", "x", "--baseline", "y"], "`--baseline` is not in this version"),
        (&["check", "--jwks", "x", "--format", "sarif"], "`--format sarif` is not in this version"),
        (&["check", "--jwks", "x", "--format", "junit"], "`--format junit` is not in this version"),
        (&["check", "--jwks", "x", "--format", "github"], "`--format github` is not in this version"),
        (&["check", "--jwks", "x", "--format", "yaml"], "\"yaml\" is not text, json or ndjson"),
        (&["check", "--jwks", "x", "--wrong"], "--wrong"),
    ] {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(text), "{arguments:?}: {}", ran.err);
    }
}

// Offline.

#[test]
fn a_file_that_cannot_be_read_is_not_clean() {
    run(&["check", "--jwks", "nowhere.json"]).exits(3).says(&["cannot read nowhere.json"]);
}

#[test]
fn stdin_is_judged_like_a_file() {
    let place = Place::new();
    let ran = place.feed(&["check", "--jwks", "-", "--format", "json"], good_keys()).exits(0);
    assert_eq!((ran.json()["grade"].clone(), ran.json()["issuer"].clone()), (json!("A"), json!("stdin")));
    place.feed(&["check", "--discovery", "-"], "nope").exits(1).prints(&["discovery/invalid-document"]);
}

#[test]
fn offline_families_without_input_are_not_evaluated() {
    let place = Place::new();
    place.write("jwks.json", good_keys());
    place.write("discovery.json", good_discovery("https://login.acme.example").to_string());
    let skipped = |arguments: &[&str]| -> Vec<String> {
        let judged = place.run(&[&["check", "--format", "json"], arguments].concat()).exits(0).json();
        assert_adds_up(&judged);
        judged["not_evaluated"].as_array().unwrap().iter().map(|skip| skip["rule"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<Value> = run(&["rules", "list", "--format", "json"]).json().as_array().unwrap().clone();
    let of = |families: &[&str]| -> Vec<String> {
        let id = |rule: &Value| rule["id"].as_str().unwrap().to_owned();
        all.iter().filter(|rule| families.contains(&rule["family"].as_str().unwrap())).map(id).collect()
    };
    let (keys, document) = (["--jwks", "jwks.json"], ["--discovery", "discovery.json"]);
    let issuer = ["--issuer", "https://login.acme.example"];
    assert_eq!(skipped(&keys), of(&["discovery", "drift", "rotation", "transport"]));
    assert_eq!(skipped(&[keys, document, issuer].concat()), of(&["drift", "rotation", "transport"]));
    let mut unnamed = of(&["drift", "rotation", "transport"]);
    unnamed.insert(0, "discovery/issuer-mismatch".to_owned());
    assert_eq!(skipped(&[keys, document].concat()), unnamed);
    assert_eq!(skipped(&[document, issuer].concat()), of(&["drift", "jwks", "key", "rotation", "transport"]));
}

#[test]
fn a_document_of_another_issuer_than_the_named_one_is_found() {
    let place = Place::new();
    place.write("discovery.json", good_discovery("https://login.acme.example").to_string());
    let arguments = ["check", "--discovery", "discovery.json", "--format", "json", "--issuer"];
    let judged = place.run(&[&arguments[..], &["https://login.acme.example/t2"]].concat()).exits(1).json();
    assert_eq!((rules_of(&judged), &judged["issuer"]), (vec!["discovery/issuer-mismatch"], &json!("https://login.acme.example/t2")));
}

// What is printed.

#[test]
fn a_finding_has_exactly_the_members_that_are_promised() {
    let place = Place::new();
    place.write("jwks.json", json!({"keys": [key("rsa-1024", &json!({"kid": "2024-01"}))]}).to_string());
    let judged = place.run(&["check", "--jwks", "jwks.json", "--issuer", "https://a.example", "--format", "json"]).exits(1).json();
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        members(&judged),
        ["at", "findings", "grade", "grade_reasons", "grade_version", "issuer", "judgements", "not_evaluated", "unseen"]
    );
    let mut finding = finding(&judged, "key/rsa-too-small").clone();
    let (at, thumbprint) = (judged["at"].clone(), finding["subject"]["thumbprint"].take());
    assert!(at.as_str().unwrap().ends_with('Z') && at.as_str().unwrap().len() == 20);
    assert_eq!(thumbprint.as_str().unwrap().len(), 43);
    assert!(finding["cites"].as_array().unwrap().contains(&json!("RFC 7518 §3.3")));
    finding["cites"] = Value::Null;
    assert_eq!(
        finding,
        json!({
            "rule": "key/rsa-too-small", "severity": "high", "certainty": "certain", "issuer": "https://a.example",
            "subject": {"thumbprint": null, "kid": "2024-01"}, "document": "jwks", "pointer": "/keys/0/n",
            "message": "RSA modulus has 1024 bits; at least 2048 are required", "cites": null,
            "first_seen": at, "last_seen": at, "state": "open"
        })
    );
    assert_eq!((&judged["grade"], &judged["grade_version"]), (&json!("D"), &json!(1)));
}

#[test]
fn text_shows_file_line_and_column_of_the_evidence() {
    let place = Place::new();
    let small = key("rsa-1024", &json!({}));
    let text = format!("{{\n  \"keys\": [\n    {{\"kty\": \"RSA\",\n     \"e\": \"AQAB\", \"n\": {}}}\n  ]\n}}\n", small["n"]);
    place.write("keys.json", text);
    let ran = place.run(&["check", "--jwks", "keys.json"]).exits(1);
    let ran =
        ran.prints(&["keys.json  grade D", "high     key/rsa-too-small\n", "  keys.json:4:24 /keys/0/n · thumbprint ", "RFC 7518 §3.3"]);
    assert!(!ran.out.contains('\u{1b}'), "no colours where no terminal is: {}", ran.out);
    assert!(ran.out.lines().all(|line| line == line.trim_end()), "{}", ran.out);
}

#[test]
fn hostile_text_never_reaches_the_terminal() {
    let hostile = "a\u{1b}[31m\u{9b}2J\u{202e}\u{7}\u{200b}b";
    let place = Place::new();
    place.write("jwks.json", json!({"keys": [key("rsa-1024", &json!({"kid": hostile}))]}).to_string());
    let mut document = good_discovery("https://login.acme.example");
    document["token_endpoint"] = format!("ftp://{hostile}").into();
    place.write("discovery.json", document.to_string());
    for format in ["text", "json", "ndjson"] {
        let ran = place.run(&["check", "--jwks", "jwks.json", "--discovery", "discovery.json", "--format", format]).exits(1);
        for said in [&ran.out, &ran.err] {
            let hides = |character: char| character != '\n' && (character.is_control() || matches!(character, '\u{202e}' | '\u{200b}'));
            assert!(!said.contains(hides), "{format}: {said:?}");
        }
        if format == "json" {
            assert_eq!(finding(&ran.json(), "key/rsa-too-small")["subject"]["kid"], hostile);
        }
    }
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    issuer.set(DISCOVERY, Reply::redirect(302, "https://\u{9b}31m.example/"));
    let ran = look(&ca, issuer.url(), &["--format", "text"]);
    assert!(!ran.err.contains('\u{9b}') && !ran.out.contains('\u{9b}'), "{ran:?}");
}

// Real providers.

#[test]
fn captured_documents_of_real_providers_raise_no_false_alarm() {
    let Some(folder) = shared("idps") else { return };
    let none: &[&str] = &["discovery/alg-none-advertised"];
    for (provider, expected) in
        [("canaille", none), ("glewlwyd", &[]), ("lemonldap-ng", none), ("oauth2-mock-server", &[]), ("oidc-provider", &[])]
    {
        let folder = folder.join(provider);
        let discovery = std::fs::read_to_string(folder.join("discovery.json")).unwrap();
        let issuer: Value = serde_json::from_str(&discovery).unwrap();
        let mut sets = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !(name.starts_with("jwks") && name.ends_with(".json")) {
                continue;
            }
            sets += 1;
            let (document, keys) = (folder.join("discovery.json"), folder.join(&name));
            let named = ["--issuer", issuer["issuer"].as_str().unwrap(), "--allow-http-loopback", "--format", "json"];
            let files = ["check", "--discovery", document.to_str().unwrap(), "--jwks", keys.to_str().unwrap()];
            let judged = run(&[&files[..], &named].concat()).exits(i32::from(!expected.is_empty())).json();
            let loud = judged["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "info");
            let loud: Vec<&str> = loud.map(|finding| finding["rule"].as_str().unwrap()).collect();
            assert_eq!(loud, expected, "{provider} {name}");
            assert_adds_up(&judged);
        }
        assert!(sets > 0, "{provider}");
    }
}
