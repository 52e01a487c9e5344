//! Parsing: what is JSON, what is wrong with keys and documents, what must be cut, and that nothing makes it panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use proptest::prelude::*;

use issuerwatch::model::{Body, KeySet, Material, ProblemKind};
use issuerwatch::parse::http::{CacheControl, media_type};
use issuerwatch::parse::json::{locate, read};
use issuerwatch::parse::{discovery, jwks, redact, redacted};

fn set(text: &str) -> KeySet {
    jwks(&Body::served(text.as_bytes().to_vec()), usize::MAX, 100).unwrap()
}

fn pointers(problems: &[issuerwatch::model::Problem], kind: ProblemKind) -> Vec<&str> {
    problems.iter().filter(|problem| problem.kind == kind).map(|problem| problem.pointer.as_str()).collect()
}

// --- JSON ---------------------------------------------------------------------------------------------------------

#[test]
fn json_is_what_the_reference_says() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let good = [
        r#"{"a": 1e400, "b": 1, "b": 2}"#.to_owned(),
        deep(100),
        r#"{"a": "\ud83d\ude00"}"#.to_owned(),
        " \t\r\n-0.5E-7 ".to_owned(),
        "\"\u{7f}\u{10ffff}\"".to_owned(),
    ];
    for text in good {
        assert!(read(text.as_bytes(), 100).is_ok(), "{text}");
    }
    let bad = [
        r#"{"a": NaN}"#.to_owned(),
        r#"{"a": Infinity}"#.to_owned(),
        "\u{feff}{}".to_owned(),
        "{} x".to_owned(),
        r#"{"a": "\ud800"}"#.to_owned(),
        r#"{"a": "\udc00"}"#.to_owned(),
        r#"{"a": "\ud800\ud83d\ude00"}"#.to_owned(),
        r#"{"\ud800": 1}"#.to_owned(),
        deep(101),
        String::new(),
        r#"{"a": 01}"#.to_owned(),
        r#"{"a": 1.}"#.to_owned(),
        r#"{"a" 1}"#.to_owned(),
        r#"{"a": 1,}"#.to_owned(),
        "[1,]".to_owned(),
        "[,1]".to_owned(),
        "[1 2]".to_owned(),
        "[1}".to_owned(),
        "{a:1}".to_owned(),
        "\"\t\"".to_owned(),
        r#""\x""#.to_owned(),
        r#""\u00g0""#.to_owned(),
        "\"".to_owned(),
        "-".to_owned(),
        "nul".to_owned(),
        format!(r#"{{"x": {}, "x": 1}}"#, deep(150)),
        r#"{"x": "\ud800", "x": 1}"#.to_owned(),
        format!(r#"{{"x": {}, "x": 1}}"#, deep(3000)),
    ];
    for text in bad {
        assert!(read(text.as_bytes(), 100).is_err(), "{text}");
    }
    assert!(read(b"\"\xED\xA0\x80\"", 100).is_err());
    let canonical = read(br#"{"b":1.0E+2,"a":"\u00e9\u000b/"}"#, 100).unwrap().value.canonical();
    assert_eq!(canonical, "{\"a\":\"\u{e9}\\u000b/\",\"b\":1.0E+2}");
}

#[test]
fn an_error_says_where_and_never_what() {
    let error = read("{\n \"é\": secret}".as_bytes(), 100).unwrap_err();
    assert_eq!((error.offset, error.line, error.column), (9, 2, 7));
    assert_eq!(error.to_string(), "expected a value at line 2, column 7 (byte 9)");
}

#[test]
fn duplicates_are_named_by_pointer_after_unescaping() {
    let parsed = read(br#"{"a/b":[{"n":1,"\u006e":2,"m~":{"x":1,"x":1,"x":1}}],"c":1,"c":2}"#, 100).unwrap();
    let pointers: Vec<&str> = parsed.duplicates.iter().map(|duplicate| duplicate.pointer.as_str()).collect();
    assert_eq!(pointers, ["/a~1b/0/m~0/x", "/a~1b/0/m~0/x", "/a~1b/0/n", "/c"]);
}

#[test]
fn hostile_sizes_take_linear_time_and_little_stack() {
    assert!(read(&vec![b'['; 64 << 20], usize::MAX).is_err());
    assert!(read(&vec![b'['; 64 << 20], 100).is_err());
    assert!(redact(&[&b"\\u"[..], &vec![b'['; 8 << 20]].concat()).is_none());
    let members: String = (0..500_000).map(|number| format!("\"{}\":0,", number % 400_000)).collect();
    let parsed = read(format!("{{{}\"z\":0}}", members).as_bytes(), 100).unwrap();
    assert!(!parsed.duplicates.is_empty());
    // A long name over many duplicates does not multiply.
    let long = format!("{{\"{}\":{{{}\"z\":0}}}}", "n".repeat(1 << 20), "\"a\":0,".repeat(100_000));
    let duplicates = read(long.as_bytes(), 100).unwrap().duplicates;
    assert!((1..=3).contains(&duplicates.len()), "{}", duplicates.len());
    let secrets = format!("{{\"{}\":[{}0]}}", "n".repeat(1 << 20), r#"{"kty":"oct","k":"AA"},"#.repeat(50_000));
    let (cut, pointers) = redact(secrets.as_bytes()).unwrap();
    assert!(!cut.windows(2).any(|pair| pair == b"AA"));
    assert!(pointers.iter().map(String::len).sum::<usize>() < 4 << 20);
}

#[test]
fn a_pointer_is_found_in_the_text() {
    let text = b"{\n  \"keys\": [\n    {\"n\": 1},\n    {\"a/b\": [true], \"n\": 2, \"n\":\n 3}\n]}";
    assert_eq!(locate(text, ""), Some((1, 1)));
    assert_eq!(locate(text, "/keys"), Some((2, 11)));
    assert_eq!(locate(text, "/keys/0/n"), Some((3, 11)));
    assert_eq!(locate(text, "/keys/1/a~1b/0"), Some((4, 14)));
    assert_eq!(locate(text, "/keys/1/n"), Some((5, 2)));
    assert_eq!(locate(text, "/keys/2"), None);
    assert_eq!(locate(text, "/keys/0/n/x"), None);
    assert_eq!(locate(text, "keys"), None);
    // What a later duplicate hides is not there.
    assert_eq!(locate(br#"{"a":{"b":1},"a":{}}"#, "/a/b"), None);
    assert_eq!(locate(br#"{"a":{"b":1},"a":2}"#, "/a"), Some((1, 18)));
}

// --- key sets -----------------------------------------------------------------------------------------------------

#[test]
fn what_is_no_key_set_is_told_what_it_is() {
    let text = |body: &str| jwks(&Body::served(body.as_bytes().to_vec()), usize::MAX, 100).unwrap_err();
    let cases = [
        ("<html>", ProblemKind::NotJson, "not JSON: expected a value at line 1, column 1 (byte 0)"),
        ("[{}]", ProblemKind::WrongShape, "an array at the top level"),
        (r#"{"kty":"RSA"}"#, ProblemKind::WrongShape, "a single key (JWK) at the top level"),
        ("{}", ProblemKind::WrongShape, "the member keys is missing"),
        (r#"{"keys":{}}"#, ProblemKind::WrongShape, "keys is an object, not an array"),
        ("7", ProblemKind::WrongShape, "a number at the top level"),
    ];
    for (body, kind, start) in cases {
        let problem = text(body);
        assert_eq!(problem.kind, kind);
        assert!(problem.text.starts_with(start), "{}", problem.text);
    }
}

#[test]
fn keys_of_every_type_are_decoded_leniently_and_what_is_odd_is_noted() {
    let text = r#"{"keys":[
        {"kty":"RSA","n":"AP+A","e":"AQAB=","kid":7,"use":"","key_ops":["verify",1]},
        {"kty":"EC","crv":"P-256","x":"AAEC","y":"Aw","alg":null},
        {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty":"oct","k":"c2VjcmV0"},
        {"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"},
        {"kty":"RSA","n":"A"},
        {"kty":"X"}, {}, 5,
        {"kty":"EC","x":"AA","y":"AA","x":"AB"}
    ],"keys2":1,"keys2":1}"#;
    let set = set(text);
    assert_eq!(set.entries, 10);
    assert_eq!(set.keys.len(), 9);
    assert_eq!(pointers(&set.problems, ProblemKind::EntryNotObject), ["/keys/8"]);
    assert_eq!(pointers(&set.problems, ProblemKind::DuplicateMember), ["/keys2"]);
    let rsa = &set.keys[0];
    assert_eq!(rsa.material, Material::Rsa { n: vec![0xFF, 0x80], e: vec![1, 0, 1], bits: 16 });
    assert_eq!(pointers(&rsa.problems, ProblemKind::Base64url), ["/keys/0/n", "/keys/0/e"]);
    assert_eq!(pointers(&rsa.problems, ProblemKind::ValueLength), ["/keys/0/n"]);
    assert_eq!(pointers(&rsa.problems, ProblemKind::WrongType), ["/keys/0/kid", "/keys/0/key_ops"]);
    assert_eq!(pointers(&rsa.problems, ProblemKind::EmptyValue), ["/keys/0/use"]);
    assert_eq!((rsa.kid.as_ref(), rsa.key_ops.as_deref()), (None, Some(&["verify".to_owned()][..])));
    let ec = &set.keys[1];
    assert_eq!(ec.material, Material::Ec { x: vec![1, 2], y: vec![3] });
    assert_eq!(pointers(&ec.problems, ProblemKind::ValueLength), ["/keys/1/x", "/keys/1/y"]);
    assert!(matches!(&set.keys[2].material, Material::Okp { x } if x.len() == 32) && set.keys[2].problems.is_empty());
    assert_eq!(set.keys[3].material, Material::Oct { octets: Some(6) });
    assert_eq!(pointers(&set.keys[4].problems, ProblemKind::ValueLength), ["/keys/4/pub"]);
    assert_eq!(set.keys[5].material, Material::Malformed);
    assert_eq!(pointers(&set.keys[5].problems, ProblemKind::RequiredMemberMissing), ["/keys/5/e"]);
    assert_eq!(pointers(&set.keys[5].problems, ProblemKind::Base64url), ["/keys/5/n"]);
    assert_eq!((&set.keys[6].material, set.keys[6].problems.len()), (&Material::Unknown, 0));
    assert_eq!(pointers(&set.keys[7].problems, ProblemKind::RequiredMemberMissing), ["/keys/7/kty"]);
    assert_eq!(set.keys[8].index, 9);
    assert_eq!(pointers(&set.keys[8].problems, ProblemKind::DuplicateMember), ["/keys/9/x"]);
    assert_eq!(pointers(&set.keys[8].problems, ProblemKind::RequiredMemberMissing), ["/keys/9/crv"]);
}

#[test]
fn entries_beyond_the_limit_are_counted_and_not_judged() {
    let set = jwks(&Body::served(br#"{"keys":[{},{},{}]}"#.to_vec()), 2, 100).unwrap();
    assert_eq!((set.entries, set.keys.len()), (3, 2));
    assert_eq!(pointers(&set.problems, ProblemKind::TooManyKeys), ["/keys"]);
}

#[test]
fn secrets_are_told_by_name_and_stay_told_after_they_were_cut() {
    let body = Body::served(
        br#"{"keys":[{"kty":"RSA","n":"AQ","e":"AQ","d":"SECRET","p":"","oth":[],"q":null,"dp":5},{"kty":"oct","k":"c2VjcmV0"}]}"#.to_vec(),
    );
    let tell = |body: &Body| {
        let set = jwks(body, usize::MAX, 100).unwrap();
        assert!(!format!("{set:?}").contains("SECRET"));
        assert!(!format!("{set:?}").contains("c2VjcmV0"));
        let secrets: Vec<(String, bool)> = set.keys.iter().flat_map(|key| &key.secrets).map(|s| (s.pointer.clone(), s.empty)).collect();
        let thumbprints: Vec<String> = set.keys.iter().map(|key| key.thumbprint.0.clone()).collect();
        (secrets, thumbprints)
    };
    let stored = redacted(&body);
    assert_eq!(stored.redacted, ["/keys/0/d", "/keys/0/dp", "/keys/1/k"]);
    assert_eq!(stored.sha256, body.sha256);
    let wanted = [("/keys/0/d", false), ("/keys/0/p", true), ("/keys/0/dp", false), ("/keys/0/oth", true), ("/keys/1/k", false)];
    assert_eq!(tell(&body).0, wanted.map(|(pointer, empty)| (pointer.to_owned(), empty)));
    assert_eq!(tell(&stored), tell(&body));
    assert_eq!(redacted(&stored), stored);
}

// --- redaction ----------------------------------------------------------------------------------------------------

fn cut(text: &str) -> Option<(String, Vec<String>)> {
    redact(text.as_bytes()).map(|(bytes, pointers)| (String::from_utf8(bytes).unwrap(), pointers))
}

#[test]
fn secrets_are_cut_in_place_and_the_rest_keeps_its_spelling() {
    let text = "{ \"keys\" : [ {\"kty\":\"RSA\", \"\\u0064\":\"S\\u0041\" ,\"p\":\"\",\"q\":null,\"oth\":[ ],\"oth\":[{\"d\":\"S\"}]\n,\"n\":1.0E+2} ],\"d\":\"x\"}";
    let (cut, pointers) = cut(text).unwrap();
    assert_eq!(
        cut,
        "{ \"keys\" : [ {\"kty\":\"RSA\", \"\\u0064\":\"\" ,\"p\":\"\",\"q\":null,\"oth\":[ ],\"oth\":\"\"\n,\"n\":1.0E+2} ],\"d\":\"x\"}"
    );
    assert_eq!(pointers, ["/keys/0/d", "/keys/0/oth"]);
}

#[test]
fn every_duplicate_of_keys_and_of_a_member_is_cut() {
    let (text, pointers) = cut(r#"{"keys":[{"k":"S1","k":"S2"}],"keys":[{},{"d":"S3"}]}"#).unwrap();
    assert_eq!(text, r#"{"keys":[{"k":"","k":""}],"keys":[{},{"d":""}]}"#);
    assert_eq!(pointers, ["/keys/0/k", "/keys/1/d"]);
}

#[test]
fn a_public_key_set_and_a_discovery_document_are_left_alone() {
    assert_eq!(cut(r#"{"keys":[{"kty":"RSA","n":"d","e":"k","oth":[],"d":"","k":null}]}"#), None);
    assert_eq!(cut(r#"{"issuer":"https://k.example","d":"x","p":{"q":["y"]}}"#), None);
    let (text, pointers) = cut(r#"{"issuer":"i","d":"x","more":[{"k":"S","kty":"oct"}]}"#).unwrap();
    assert_eq!(text, r#"{"issuer":"i","d":"x","more":[{"k":"","kty":"oct"}]}"#);
    assert_eq!(pointers, ["/more/0/k"]);
}

#[test]
fn what_is_no_key_set_keeps_no_secret_either() {
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----\n";
    let bodies = [
        r#"{"kty":"RSA","d":"SECRET"}"#.to_owned(),
        r#"[{"d":"SECRET"}]"#.to_owned(),
        r#"{"keys":{"a":{"d":"SECRET"}}}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","d":"SECRET"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","d":"SECRET"},]}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","\u0064":"SECRET"},]}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","oth":[{"r":"SECRET"}]},]}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","d":SECRET}]}"#.to_owned(),
        "<script>var x = {kty: 'oct', k: 'SECRET'}</script>".to_owned(),
        "<pre>{&quot;d&quot;:&quot;SECRET&quot;}</pre>".to_owned(),
        r#""{\"kty\":\"oct\",\"k\":\"SECRET\"}""#.to_owned(),
        r#"{"error":"{\"kty\":\"oct\",\"k\":\"SECRET\"}","keys":[]}"#.to_owned(),
        pem.to_owned(),
        format!("{}SECRET", &pem[..40]),
        format!(r#"{{"keys":[{{"kty":"RSA","pem":{}}}]}}"#, serde_json::to_string(pem).unwrap()),
        r#"{"k":"SECRET"}"#.chars().flat_map(|character| [character, '\0']).collect(),
    ];
    for body in bodies {
        let (text, pointers) = cut(&body).unwrap_or_else(|| panic!("{body} was left as it is"));
        assert!(!text.replace('\0', "").contains("SECRET"), "{body} became {text}");
        assert!(!pointers.is_empty());
        assert_eq!(cut(&text), None, "{body} became {text}");
    }
}

#[test]
fn a_broken_document_does_not_heal_when_its_secrets_are_cut() {
    for secret in [r#""\ud800""#, r#""\q""#, "NaN", &format!("{}{}", "[".repeat(200), "]".repeat(200))] {
        let body = format!(r#"{{"keys":[{{"kty":"oct","k":{secret}}}]}}"#);
        assert!(read(body.as_bytes(), 100).is_err());
        let (text, _) = cut(&body).unwrap();
        assert!(read(text.as_bytes(), 100).is_err(), "{body} became {text}");
    }
}

// --- discovery ----------------------------------------------------------------------------------------------------

#[test]
fn known_members_of_a_discovery_document_are_typed() {
    let text = r#"{"issuer":"i","issuer":"i","jwks_uri":5,"scopes_supported":["a",1],"claims_supported":[],"token_endpoint":"",
        "claims_parameter_supported":"true","op_tos_uri":null,"vendor":null,"vendor2":[],"response_types_supported":"code"}"#;
    let metadata = discovery(&Body::served(text.as_bytes().to_vec()), 100).unwrap();
    let of = |kind| pointers(&metadata.problems, kind);
    assert_eq!(of(ProblemKind::DuplicateMember), ["/issuer"]);
    assert_eq!(of(ProblemKind::WrongType), ["/claims_parameter_supported", "/jwks_uri", "/response_types_supported", "/scopes_supported"]);
    assert_eq!(of(ProblemKind::EmptyValue), ["/claims_supported", "/op_tos_uri", "/token_endpoint"]);
    let array = discovery(&Body::served(b"[]".to_vec()), 100).unwrap_err();
    assert_eq!(array.kind, ProblemKind::WrongShape);
}

// --- headers ------------------------------------------------------------------------------------------------------

#[test]
fn cache_control_is_read_with_forgiveness() {
    let header =
        CacheControl::parse("Cache-Control: max-age=[placeholder], MAX-AGE=\"60\", no-store, , private=\"a, b\", no-transform=true");
    assert_eq!((header.value("max-age"), header.seconds("max-age")), (Some("[placeholder]"), Some(60)));
    assert!(header.has("no-store") && !header.has("b"));
    assert_eq!(header.value("private"), Some("a, b"));
    assert_eq!(CacheControl::parse("max-age=86400000000000").seconds("max-age"), Some(86_400_000_000_000));
    assert_eq!(CacheControl::parse("max-age=99999999999999999999999").seconds("max-age"), Some(u64::MAX));
    assert_eq!(CacheControl::parse("max-age=-1, max-age").seconds("max-age"), None);
    assert_eq!(media_type(" Application/JWK-Set+json ; charset=UTF-8"), "application/jwk-set+json");
    assert_eq!(media_type(""), "");
}

// --- nothing panics -----------------------------------------------------------------------------------------------

fn everything(bytes: &[u8]) {
    let body = Body::served(bytes.to_vec());
    let lenient = jwks(&body, 100, 1000);
    let _: Result<_, _> = discovery(&body, 100);
    assert!(locate(bytes, "/keys/0/n").is_none_or(|(line, column)| line > 0 && column > 0));
    let kept = redacted(&body);
    // What may be stored has nothing left to cut, is as good or as broken as what was served, and names the same keys.
    assert!(redact(&kept.bytes).is_none());
    assert_eq!(read(bytes, 100).is_ok(), read(&kept.bytes, 100).is_ok());
    let strict = |body: &Body| jwks(body, usize::MAX, 100).ok().map(|set| set.keys.len());
    assert_eq!(strict(&body), strict(&kept));
    drop(lenient);
    if let Ok(parsed) = read(bytes, 100) {
        let canonical = parsed.value.canonical();
        assert_eq!(read(canonical.as_bytes(), 100).unwrap().value.canonical(), canonical);
    }
}

const PIECES: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\"keys\"",
    "\"kty\"",
    "\"d\"",
    "\"k\"",
    "\"n\"",
    "\"RSA\"",
    "\"oct\"",
    "\"AQAB\"",
    "null",
    "\"\"",
    "{}",
    "[]",
    "1e5",
    " ",
    "\n",
    "\\u0064",
    "\\ud800",
    "'",
    "&quot;",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "\u{feff}",
];

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        everything(&bytes);
    }

    #[test]
    fn no_pieces_of_json_make_it_panic(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        everything(text.as_bytes());
    }

    #[test]
    fn no_mutation_of_a_real_document_makes_it_panic(at in any::<prop::sample::Index>(), length in 0..40_usize, piece in 0..PIECES.len(), which in 0..REAL.len()) {
        let real = REAL[which].as_bytes();
        let start = at.index(real.len());
        let end = (start + length).min(real.len());
        everything(&[&real[..start], PIECES[piece].as_bytes(), &real[end..]].concat());
    }
}

const REAL: [&str; 3] = [
    r#"{"keys":[{"alg":"RS256","e":"AQAB","kid":"E6q83RB15n","kty":"RSA","n":"qD2kjZNSBESRVJksHHnDpMPprhCymecPO8Ji6xlY_fGdUOioVf0nckGaiBwjPGo3xKadAGvbNJ1BjCZOmbLL7lQ5mT8fI6l5HaY8txcz3_PjOUHdiXBuThmQ2eEXtmOtRxi3LNnXaOCpl7QxHgyiPTVgJpJ18Teqz2ESVXg_Lpmw7ot3zBI0p9E56-HVZwxpwS8EoN53nx850fxAlpZj5d1szgV8YzhcRG-8FMOialu-me0OFZWghB-_jCMfdBhWHMWpGkfLPDA1o8eLkr0UByZwMHKCWA--JUvlKvSv3xavDD7ILj8t5PiItonVV9telbza-ToaOWMiG5gZ5QfWDQ","use":"sig"},{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"1"}]}"#,
    r#"{"authorization_endpoint":"https://appleid.apple.com/auth/authorize","claims_supported":["aud","email"],"id_token_signing_alg_values_supported":["RS256"],"issuer":"https://appleid.apple.com","jwks_uri":"https://appleid.apple.com/auth/keys","response_types_supported":["code"],"subject_types_supported":["pairwise"],"token_endpoint":"https://appleid.apple.com/auth/token"}"#,
    r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AAAA","p":"AAAA","oth":[{"r":"AA","d":"AA","t":"AA"}]},{"kty":"oct","k":"AAAA","\u006b":5},{"kty":"AKP","alg":"ML-DSA-44","pub":"AA","priv":"AA"}]}"#,
];
