//! What an issuer publishes by mistake stays out of everything that we keep, say and send.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use issuerwatch::store::{Filter, Sqlite, Store as _};
use serde_json::{Value, json};

use super::key;
use super::running::{Daemon, Sink, watching};
use crate::support::Issuer;

/// A secret whose base64url text is as conspicuous as its bytes.
fn secret(name: &str) -> (String, String) {
    let bytes = format!("<{name}: nobody may ever read this value>");
    (URL_SAFE_NO_PAD.encode(&bytes), bytes)
}

/// A key set with every kind of secret member, some of them twice, nested or under an escaped name.
fn leaking(round: &str, secrets: &mut Vec<(String, String)>) -> String {
    let mut text = |name: &str| {
        let (text, bytes) = secret(&format!("{round} {name}"));
        secrets.push((text.clone(), bytes));
        text
    };
    let rsa = key("rsa-2048", &json!({}));
    let ec = key("ec-p256", &json!({}));
    let members: Vec<String> = ["d", "p", "q", "dp", "dq", "qi", "d"]
        .iter()
        .enumerate()
        .map(|(at, name)| format!(r#""{name}":"{}""#, text(&format!("{name} {at}"))))
        .collect();
    let rsa = format!(
        r#"{{"kty":"RSA","kid":"private-{round}","n":{},"e":{},{},"oth":[{{"r":"{}","d":"{}","t":"{}"}}]}}"#,
        rsa["n"],
        rsa["e"],
        members.join(","),
        text("r"),
        text("other d"),
        text("t")
    );
    let oct = format!(r#"{{"kty":"oct","kid":"shared-{round}","k":"{}","k":"{}"}}"#, text("k"), text("second k"));
    let ec = format!(
        r#"{{"kty":"EC","kid":"nested-{round}","crv":"P-256","x":{},"y":{},"\u0064":"{}","jwk":{{"kty":"oct","k":"{}"}},"jwks":{{"keys":[{{"kty":"OKP","d":"{}"}}]}}}}"#,
        ec["x"],
        ec["y"],
        text("escaped d"),
        text("nested k"),
        text("nested d")
    );
    format!(r#"{{"keys":[{rsa},{oct},{ec}]}}"#)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn no_secret_of_an_issuer_is_stored_logged_shown_or_sent() {
    let mut secrets = Vec::new();
    let (issuer, sink) = (Issuer::http(), Sink::start());
    issuer.publish(&leaking("first", &mut secrets));
    let place = watching(&issuer, &sink, "1s");
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();

    let daemon = Daemon::start(&place, "trace");
    let baseline = sink.next();
    // The same again with other values: a change, told as such.
    issuer.publish(&leaking("second", &mut secrets));
    let change = sink.next();
    for path in ["/", "/report", "/metrics", "/readyz"] {
        kept.push((path.to_owned(), daemon.page(path).into_bytes()));
    }
    let (code, out, err, _) = daemon.stop();
    assert_eq!(code, 0, "{err}");
    kept.push(("stdout".to_owned(), out.into_bytes()));
    kept.push(("stderr".to_owned(), err.into_bytes()));
    kept.push(("messages".to_owned(), format!("{baseline}{change}{:?}", sink.rest()).into_bytes()));

    let incidents = place.run(&["incidents", "--format", "json"]).exits(0);
    let found: Vec<Value> =
        incidents.json().as_array().unwrap().iter().flat_map(|one| one["findings"].as_array().unwrap().clone()).collect();
    for rule in ["jwks/private-key-exposed", "jwks/symmetric-key-exposed"] {
        assert!(found.iter().any(|finding| finding["rule"] == rule), "no {rule} in {found:#?}");
        assert!(baseline.to_string().contains(rule), "{baseline:#}");
    }
    place.run(&["report", "-o", "report.html"]).exits(0);
    for arguments in [&["incidents"][..], &["history", "acme"], &["history", "acme", "--format", "json"], &["keys", "--format", "json"]] {
        let ran = place.run(arguments).exits(0);
        kept.push((arguments.join(" "), [ran.out, ran.err].concat().into_bytes()));
    }
    kept.push(("incidents".to_owned(), [incidents.out, incidents.err].concat().into_bytes()));
    // Bodies rest compressed: read back as well.
    let spans = Sqlite::read_only(&place.path("watch.db")).unwrap().spans(&Filter::default()).unwrap();
    let bodies =
        spans.iter().flat_map(|span| [&span.first.discovery, &span.first.jwks]).flatten().filter_map(|attempt| attempt.body.as_ref());
    let bodies: Vec<Vec<u8>> = bodies.map(|body| body.bytes.clone()).collect();
    assert!(bodies.iter().any(|body| String::from_utf8_lossy(body).contains("shared-second")));
    kept.push(("bodies".to_owned(), bodies.concat()));
    let mut files = 0;
    for entry in std::fs::read_dir(place.path("")).unwrap() {
        let entry = entry.unwrap();
        files += usize::from(entry.file_name().to_string_lossy().starts_with("watch.db"));
        kept.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()));
    }
    assert!(files >= 1);

    for (text, bytes) in &secrets {
        for form in [text.as_str(), bytes, &text[1..text.len() - 1], &bytes[2..bytes.len() - 2], &hex(bytes.as_bytes())] {
            for (name, content) in &kept {
                assert!(!content.windows(form.len()).any(|window| window == form.as_bytes()), "{bytes} is in {name} as {form}");
            }
        }
    }
}

#[test]
fn a_check_of_a_leaking_key_set_names_the_members_and_never_their_values() {
    let mut secrets = Vec::new();
    let place = super::Place::new();
    place.write("jwks.json", leaking("file", &mut secrets));
    for format in ["text", "json", "ndjson"] {
        let ran = place.run(&["check", "--jwks", "jwks.json", "--format", format]).exits(1);
        let ran = ran.prints(&["jwks/private-key-exposed", "jwks/symmetric-key-exposed"]);
        for (text, bytes) in &secrets {
            assert!(
                ![&ran.out, &ran.err].iter().any(|said| said.contains(text.as_str()) || said.contains(bytes.as_str())),
                "{format}: {bytes}"
            );
        }
    }
}
