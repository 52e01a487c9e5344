//! The configuration file: what is read, what is refused and how it is said.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use chrono::{DateTime, Duration, Utc};
use issuerwatch::cadence::Cadence;
use issuerwatch::config::{self, ChannelKind, Config, Credentials, DatabaseUrl, Email, Problems, ReportFormat, Secret, Tls};
use issuerwatch::model::{Destination, Profile, Rotation, Severity};
use issuerwatch::policy::{Limits, Policy};
use proptest::prelude::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn environment(name: &str) -> Option<String> {
    match name {
        "SOC_WEBHOOK" => Some("https://soc.example/hook".to_owned()),
        "SOC_SECRET" => Some(SECRET.to_owned()),
        "SMTP_PASSWORD" => Some("hunter2".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse_in(text, Path::new("/etc/issuerwatch"), "issuerwatch.toml", &environment)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// `line:column message | what to write` of each problem.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(text).err().into_iter().flat_map(|problems| problems.iter().cloned().collect::<Vec<_>>());
    let said = problems.map(|problem| {
        let at = problem.at.map_or("-".to_owned(), |(line, column)| format!("{line}:{column}"));
        format!("{at} {} | {}", problem.message, problem.write)
    });
    said.collect()
}

const ISSUER: &str = "[[issuer]]\nid = \"acme\"\nurl = \"https://login.acme.example\"\n";
const WEBHOOK: &str =
    "[[channel]]\nid = \"soc\"\nkind = \"webhook\"\nurl = { env = \"SOC_WEBHOOK\" }\nsecrets = [{ env = \"SOC_SECRET\" }]\n";
const EMAIL: &str = "[[channel]]\nid = \"mail\"\nkind = \"email\"\nserver = \"mail.example\"\nfrom = \"watch@example.com\"\nto = [\"soc@example.com\", \"duty@example.com\"]\n";

#[test]
fn an_empty_file_has_every_default() {
    let config = good("");
    assert_eq!(config.monitor.database, DatabaseUrl::Sqlite("/etc/issuerwatch/issuerwatch.db".into()));
    assert_eq!(config.monitor.listen, Some(SocketAddr::from(([127, 0, 0, 1], 9460))));
    assert_eq!(config.monitor.timezone, chrono_tz::Tz::UTC);
    assert_eq!((config.monitor.concurrency, config.monitor.per_host), (64, 4));
    assert_eq!((config.monitor.proxy.as_ref(), config.monitor.ca_file.as_ref()), (None, None));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(*config.policy, Policy { configured: true, ..Policy::default() });
    assert!(config.alerts);
}

#[test]
fn each_value_arrives_where_it_belongs() {
    let config = good(&format!(
        r#"
alerts = "channels"
[monitor]
database = "sqlite:/var/lib/watch.db"
listen = "off"
cron = "*/10 * * * *"
timezone = "Europe/Berlin"
concurrency = 8
per_host = 2
proxy = "http://proxy.example:3128"
[limits]
body = "64KiB"
time = "3s"
redirects = 1
keys = 50
depth = 20
{ISSUER}every = "1m"
owner = "id@acme.example"
labels = {{ env = "prod", zone = "workforce" }}
profile = "key-publisher"
rotation = "autonomous"
allow_private = true
allow_http_loopback = true
discovery_url = "https://login.acme.example/x"
jwks_uri = "http://127.0.0.1:8080/jwks"
[[issuer]]
id = "bare.2_x"
profile = "jwks"
jwks_uri = "https://keys.example/jwks"
{WEBHOOK}{EMAIL}user = "watch"
password = {{ env = "SMTP_PASSWORD" }}
port = 2525
tls = "starttls"
[[route]]
severity = "high"
rule = "rotation/unexpected-new-key"
family = ["drift"]
issuer = ["acme"]
labels = {{ env = "prod" }}
owner = "id@acme.example"
channels = ["mail"]
repeat = "4h"
[[report]]
cron = "0 7 * * 1"
period = "30d"
format = "html"
channels = ["mail"]
"#
    ));
    assert_eq!(config.monitor.database, DatabaseUrl::Sqlite("/var/lib/watch.db".into()));
    assert_eq!(config.monitor.listen, None);
    assert_eq!(config.monitor.proxy.as_ref().map(url::Url::as_str), Some("http://proxy.example:3128/"));
    let time = std::time::Duration::from_secs(3);
    assert_eq!(config.limits, Limits { body: 64 << 10, time, redirects: 1, keys: 50, depth: 20 });

    let [acme, bare] = &config.watches[..] else { panic!("two issuers") };
    assert_eq!(acme.issuer.id.as_str(), "acme");
    assert_eq!(acme.issuer.url.as_ref().map(|url| url.as_str()), Some("https://login.acme.example"));
    assert_eq!(acme.issuer.discovery_url.as_deref(), Some("https://login.acme.example/x"));
    assert_eq!(acme.issuer.jwks_uri.as_deref(), Some("http://127.0.0.1:8080/jwks"));
    assert_eq!(acme.issuer.owner.as_deref(), Some("id@acme.example"));
    assert_eq!(acme.issuer.labels.get("zone").map(String::as_str), Some("workforce"));
    assert_eq!((acme.issuer.profile, acme.issuer.rotation), (Some(Profile::KeyPublisher), Rotation::Autonomous));
    assert!(acme.issuer.allow_private && acme.issuer.allow_http_loopback);
    assert_eq!(acme.cadence, Cadence::every(Duration::minutes(1)));
    assert_eq!((bare.issuer.profile, bare.issuer.rotation, bare.issuer.url.as_ref()), (Some(Profile::Jwks), Rotation::Managed, None));
    assert_eq!(bare.cadence, Cadence::cron("*/10 * * * *").expect("a schedule"));
    assert_eq!((bare.policy.max_keys, bare.policy.max_depth), (50, 20));

    let [soc, mail] = &config.channels[..] else { panic!("two channels") };
    assert_eq!(soc.kind, ChannelKind::Webhook { url: Secret::new("https://soc.example/hook"), secrets: vec![Secret::new(SECRET)] });
    assert_eq!(
        mail.kind,
        ChannelKind::Email(Email {
            server: "mail.example".to_owned(),
            port: 2525,
            tls: Tls::Starttls,
            credentials: Some(Credentials { user: "watch".to_owned(), password: Secret::new("hunter2") }),
            ca_file: None,
            from: "watch@example.com".to_owned(),
            to: vec!["soc@example.com".to_owned(), "duty@example.com".to_owned()],
        })
    );
    let routing = &acme.policy.routing;
    let destination =
        |channel: &str, recipient: Option<&str>| Destination { channel: channel.to_owned(), recipient: recipient.map(str::to_owned) };
    assert_eq!(
        routing.destinations,
        [destination("soc", None), destination("mail", Some("soc@example.com")), destination("mail", Some("duty@example.com"))]
    );
    let [route] = &routing.routes[..] else { panic!("one route") };
    assert_eq!((route.severity, route.repeat), (Some(Severity::High), Some(Duration::hours(4))));
    assert_eq!((&route.rules[..], &route.families[..]), (&["rotation/unexpected-new-key".to_owned()][..], &["drift".to_owned()][..]));
    assert_eq!((&route.issuers[..], &route.owners[..]), (&["acme".to_owned()][..], &["id@acme.example".to_owned()][..]));
    let [report] = &config.reports[..] else { panic!("one report") };
    assert_eq!((report.period, report.format, &report.channels[..]), (Duration::days(30), ReportFormat::Html, &["mail".to_owned()][..]));
}

#[test]
fn the_policy_of_an_issuer_lies_over_that_of_the_file() {
    let config = good(&format!(
        "[policy]\nmax_key_age = \"200d\"\nmin_overlap = \"2h\"\nallowed_algs = [\"RS256\"]\nslo_latency = \"2s\"\n\
         [policy.severity]\n\"key/rsa-too-small\" = \"low\"\n{ISSUER}[issuer.policy]\nmax_key_age = \"90d\"\n\
         revoked_keys = [\"k1\", {{ thumbprint = \"abc\", at = 2026-01-31 }}]\n\
         [issuer.policy.severity]\n\"drift/issuer-changed\" = \"off\"\n[[issuer]]\nid = \"other\"\nurl = \"https://o.example\"\n"
    ));
    let [acme, other] = [&config.watches[0].policy, &config.watches[1].policy];
    assert_eq!((acme.max_key_age, other.max_key_age), (Duration::days(90), Duration::days(200)));
    assert_eq!((acme.min_overlap(), other.min_overlap()), (Duration::hours(2), Duration::hours(2)));
    assert_eq!(acme.allowed_algs.as_deref(), Some(&["RS256".to_owned()][..]));
    assert_eq!(acme.other.get("slo_latency").map(String::as_str), Some("\"2s\""));
    assert_eq!((&acme.revoked_keys[..], other.revoked_keys.len()), (&["k1".to_owned(), "abc".to_owned()][..], 0));
    assert_eq!(acme.severity.get("key/rsa-too-small"), Some(&Some(Severity::Low)));
    assert_eq!((acme.severity.get("drift/issuer-changed"), other.severity.get("drift/issuer-changed")), (Some(&None), None));
    assert!(std::sync::Arc::ptr_eq(other, &config.policy), "thousands of issuers share one policy");
}

#[test]
fn every_problem_is_said_at_once_with_its_place() {
    let text = format!(
        "alert = \"none\"\n[monitor]\nevery = \"5 minutes\"\nlisten = \"0.0.0.0:80\"\ntimezone = \"Europe/Berlln\"\nconcurency = 3\n\
         [limits]\nbody = \"4MB\"\nkeys = 0\n[policy]\nmax_key_agee = \"1d\"\nmax_verifier_cache_ttl = \"1h\"\n\
         {ISSUER}profil = \"oidc\"\n{ISSUER}"
    );
    assert_eq!(
        problems(&text),
        [
            "1:1 unknown name `alert` in the file | did you mean `alerts`?",
            "3:9 \"5 minutes\" is no duration | write a number and a unit, such as 90s, 5m, 4h or 365d",
            "4:10 the web pages are served on loopback only: they have no authentication yet | write \"127.0.0.1:80\"; other addresses need authentication, which comes later",
            "5:12 there is no time zone \"Europe/Berlln\" | did you mean \"Europe/Berlin\"?",
            "6:1 unknown name `concurency` in [monitor] | did you mean `concurrency`?",
            "8:8 `body` is no size from 1 byte to 1024MiB | write a size such as \"4MiB\", \"64KiB\", or a number of bytes",
            "9:8 `keys` is out of range | write a whole number from 1 to 100000",
            "11:1 unknown name `max_key_agee` in [policy] | did you mean `max_key_age`?",
            "12:1 unknown name `max_verifier_cache_ttl` in [policy] | it is called `max_verifier_cache`",
            "16:1 unknown name `profil` in [[issuer]] | did you mean `profile`?",
            "18:6 there are two issuers with the id \"acme\" | give one of them another id",
        ]
    );
}

#[test]
fn a_problem_is_shown_with_a_caret() {
    let problems = parse("[monitor]\nevry = \"5m\"\nlisten = \"localhost\"\n").expect_err("two problems");
    insta::assert_snapshot!(problems, @r#"
    error: unknown name `evry` in [monitor]
     --> issuerwatch.toml:2:1
      |
    2 | evry = "5m"
      | ^^^^ did you mean `every`?

    error: this is no address and port
     --> issuerwatch.toml:3:10
      |
    3 | listen = "localhost"
      |          ^^^^^^^^^^^ write "127.0.0.1:9460", or "off" for no web pages
    "#);
    assert!(!problems.render(false).contains('\u{1b}') && problems.render(true).contains('\u{1b}'));
}

#[test]
fn what_this_version_does_not_have_is_refused_in_words() {
    let issuer = |rest: &str| format!("{ISSUER}{rest}");
    let cases = [
        ("[monitor]\nrules = \"rules.d\"".to_owned(), "`rules` is not in this version"),
        ("[monitor]\nheartbeat = { env = \"X\" }".to_owned(), "`heartbeat` is not in this version"),
        ("[monitor]\ndatabase = \"postgres://u:p@h/d\"".to_owned(), "a `postgres://` database is not in this version"),
        (issuer("packs = [\"rfc9700\"]"), "`packs` is not in this version"),
        (issuer("preset = \"auth0\""), "`preset` is not in this version"),
        (issuer("[issuer.canary]\nclient_id = \"x\""), "`[issuer.canary]` is not in this version"),
        (format!("{WEBHOOK}shape = \"slack\""), "`shape` is not in this version"),
        (
            format!("{WEBHOOK}[[report]]\ncron = \"@daily\"\nformat = \"csv\"\nchannels = \"soc\""),
            "the report format `csv` is not in this version",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&text);
        assert!(matches!(&found[..], [one] if one.contains(expected)), "{text}\n{found:#?}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_what_to_write() {
    let issuer = |rest: &str| format!("[[issuer]]\nid = \"acme\"\n{rest}");
    let email = |rest: &str| format!("[[channel]]\nid = \"mail\"\nkind = \"email\"\n{rest}");
    let cases = [
        ("alerts = true".to_owned(), "write a text"),
        ("alerts = \"non\"".to_owned(), "did you mean \"none\"?"),
        ("monitor = 3".to_owned(), "write a table: [monitor]"),
        ("[[monitor]]\n".to_owned(), "write a table: [monitor]"),
        ("[issuer]\nid = \"acme\"".to_owned(), "write [[issuer]]"),
        ("[monitor]\nevery = 300".to_owned(), "write a duration in quotes"),
        ("[monitor]\nevery = \"0s\"".to_owned(), "write \"1s\" or more"),
        ("[monitor]\ncron = \"0 0 30 2 *\"".to_owned(), "no month"),
        ("[monitor]\nevery = \"5m\"\ncron = \"@daily\"".to_owned(), "leave one of them out"),
        ("[monitor]\ndatabase = \"issuerwatch.db\"".to_owned(), "sqlite:issuerwatch.db"),
        ("[monitor]\ndatabase = \"sqlite:\"".to_owned(), "sqlite:issuerwatch.db"),
        ("[monitor]\nlisten = \"[::]:80\"".to_owned(), "write \"127.0.0.1:80\""),
        ("[monitor]\nproxy = \"proxy.example:3128\"".to_owned(), "write a URL"),
        ("[monitor]\nproxy = \"http://u:p@proxy.example\"".to_owned(), "write a URL"),
        ("[monitor]\nca_file = \"no-such.pem\"".to_owned(), "PEM"),
        ("[monitor]\ntimezone = \"CEST\"".to_owned(), "zone"),
        ("[monitor]\nseverity = \"low\"".to_owned(), "it belongs in [policy]"),
        ("[limits]\nbody = \"0\"".to_owned(), "4MiB"),
        ("[limits]\nredirects = -1".to_owned(), "from 0 to 20"),
        ("[policy.severity]\n\"key/rsa-too-small\" = \"hihg\"".to_owned(), "did you mean \"high\"?"),
        ("[policy.severity]\n\"kye/rsa-too-small\" = \"high\"".to_owned(), "did you mean \"key\"?"),
        ("[policy.severity]\nrsa-too-small = \"high\"".to_owned(), "family and name"),
        ("[policy]\nslo_availability = 101".to_owned(), "0 to 100"),
        ("[policy]\npq_deadline = \"soon\"".to_owned(), "2027-01-31"),
        ("[policy]\npq_deadline = 07:00:00".to_owned(), "2027-01-31"),
        ("[policy]\nchange_windows = [{ from = 2027-01-01 }]".to_owned(), "until"),
        ("[policy]\nrevoked_keys = [{ at = 2027-01-01 }]".to_owned(), "thumbprint"),
        ("[policy]\nallowed_hosts = \"a.example\"".to_owned(), "write a list"),
        ("[policy]\nallowed_hosts = [1]".to_owned(), "write a list"),
        ("[policy]\nprivate_network = true".to_owned(), "allow_private"),
        ("[[issuer]]\nurl = \"https://a.example\"".to_owned(), "add id"),
        (issuer(""), "add url"),
        (issuer("url = \"login.acme.example\""), "write the issuer identifier"),
        (issuer("url = \"ftp://login.acme.example\""), "write the issuer identifier"),
        (issuer("url = \"https://u:p@login.acme.example\""), "write the issuer identifier"),
        (issuer("profile = \"jwks\""), "add jwks_uri"),
        (
            issuer("profile = \"jwks\"\njwks_uri = \"https://a.example\"\ndiscovery_url = \"https://a.example\""),
            "leave `discovery_url` out",
        ),
        (issuer("url = \"https://a.example\"\njwks_uri = \"/jwks\""), "absolute URL"),
        (issuer("url = \"https://a.example\"\nowner = \"\""), "leave it out"),
        (issuer("url = \"https://a.example\"\nlabels = { env = 1 }"), "text in quotes"),
        (issuer("url = \"https://a.example\"\nrotation = \"auto\""), "write \"managed\" or \"autonomous\""),
        ("[[issuer]]\nid = \"a b\"\nurl = \"https://a.example\"".to_owned(), "64 letters"),
        ("[[issuer]]\nid = \"../x\"\nurl = \"https://a.example\"".to_owned(), "64 letters"),
        ("[[channel]]\nid = \"x\"".to_owned(), "kind = \"webhook\""),
        ("[[channel]]\nid = \"x\"\nkind = \"webhok\"".to_owned(), "did you mean \"webhook\"?"),
        (format!("{WEBHOOK}{WEBHOOK}"), "another id"),
        (WEBHOOK.replace("SOC_WEBHOOK", "NOT_SET"), "set it"),
        (WEBHOOK.replace("SOC_WEBHOOK", "EMPTY"), "set it"),
        (WEBHOOK.replace("SOC_SECRET", "SMTP_PASSWORD"), "whsec_"),
        (WEBHOOK.replace("SOC_WEBHOOK", "SMTP_PASSWORD"), "https URL"),
        (WEBHOOK.replace("{ env = \"SOC_WEBHOOK\" }", "\"http://soc.example/hook\""), "loopback only"),
        (WEBHOOK.replace("env = \"SOC_SECRET\"", "file = \"no-such-file\""), "can read"),
        (WEBHOOK.replace("env = \"SOC_SECRET\"", "file = \"a\", env = \"b\""), "or { env"),
        (WEBHOOK.replace("{ env = \"SOC_SECRET\" }", "{}"), "or { env"),
        (WEBHOOK.replace("[{ env = \"SOC_SECRET\" }]", "[]"), "at least one"),
        (WEBHOOK.replace("[{ env = \"SOC_SECRET\" }]", "{ env = \"SOC_SECRET\" }"), "write a list"),
        (email("server = \"mail.example\"\nfrom = \"a@b.example\"\nto = \"c@d.example\"\ntls = \"none\""), "loopback only"),
        (email("server = \"mail.example\"\nfrom = \"a@b.example\"\nto = []"), "at least one address"),
        (email("server = \"mail.example\"\nfrom = \"a@b.example\"\nto = [\"x@y.example\", \"x@y.example\"]"), "leave one out"),
        (email("server = \"mail.example\"\nfrom = \"nobody\"\nto = \"c@d.example\""), "write an address"),
        (email("server = \"mail.example\"\nfrom = \"a@b.example\"\nto = \"c@d.example\\r\\nBcc: e@f.example\""), "write an address"),
        (email("server = \"mail.example:25\"\nfrom = \"a@b.example\"\nto = \"c@d.example\""), "port apart"),
        (email("server = \"mail.example\"\nfrom = \"a@b.example\"\nto = \"c@d.example\"\nuser = \"u\""), "add password"),
        (format!("{EMAIL}password = {{ env = \"SMTP_PASSWORD\" }}"), "add user"),
        (format!("{EMAIL}port = 70000"), "from 1 to 65535"),
        ("[[route]]\nchannels = [\"soc\"]".to_owned(), "add a [[channel]]"),
        (format!("{WEBHOOK}[[route]]\nchannels = [\"sok\"]"), "did you mean \"soc\"?"),
        (format!("{WEBHOOK}[[route]]\nseverity = \"high\""), "add channels"),
        (format!("{WEBHOOK}[[route]]\nchannels = []"), "id of a channel"),
        (format!("{WEBHOOK}{ISSUER}[[route]]\nchannels = \"soc\"\nissuer = \"acmee\""), "did you mean \"acme\"?"),
        (format!("{WEBHOOK}[[route]]\nchannels = \"soc\"\nfamily = \"rotations\""), "did you mean \"rotation\"?"),
        (format!("{WEBHOOK}[[route]]\nchannels = \"soc\"\nrepeat = \"1s\""), "1m"),
        (format!("{WEBHOOK}[[report]]\nchannels = \"soc\""), "add cron"),
        (format!("{WEBHOOK}[[report]]\ncron = \"@daily\"\nformat = \"pdf\"\nchannels = \"soc\""), "write \"html\""),
    ];
    for (text, write) in cases {
        let found = problems(&text);
        assert!(matches!(&found[..], [one] if one.contains(write)), "{text}\nwanted {write:?}, found {found:#?}");
    }
}

#[test]
fn syntax_errors_stand_beside_what_was_read_before_them() {
    let found = problems("[monitor]\nevry = \"5m\"\n[limits]\ntime = 10s\n[policy\nmax = 1\n");
    assert_eq!(found[0], "2:1 unknown name `evry` in [monitor] | did you mean `every`?");
    assert!(found[1].starts_with("4:"), "{found:#?}");
    assert!(found[2].starts_with("5:"), "{found:#?}");
    assert_eq!(found.len(), 3, "nothing is made of what the errors tore apart: {found:#?}");
    assert!(problems("a = 1\na = 2").iter().any(|problem| problem.starts_with("2:1 duplicate key")));
    assert!(!problems("[issuer.policy]\nx = \"\u{0}\"").is_empty());
}

#[test]
fn a_secret_in_the_file_is_refused_and_never_shown() {
    let texts = [
        WEBHOOK.replace("{ env = \"SOC_SECRET\" }", "\"hunter2\""),
        WEBHOOK.replace("[{ env = \"SOC_SECRET\" }]", "\"hunter2\""),
        format!("{EMAIL}user = \"u\"\npassword = \"hunter2\""),
        format!("{EMAIL}user = \"u\"\npasword = \"hunter2\""),
        format!("{EMAIL}user = \"u\"\npassword = hunter2"),
        format!("{EMAIL}user = \"u\"\npassword = \"hunter2"),
        "[[channel]]\nid = \"x\"\nkind = \"mail\"\npassword = \"hunter2\"".to_owned(),
        "[[channel]]\nkind = \"mail\", password = \"hunter2\"".to_owned(),
        "channel = [{ id = \"x\", kind = \"mail\", password = \"hunter2\" }]".to_owned(),
        "[monitor]\ndatabase = \"postgres://u:hunter2@db/x\"".to_owned(),
        "[monitor]\nproxy = \"http://u:hunter2@proxy.example\"".to_owned(),
        "[monitor]\nheartbeat = \"https://hc.example/hunter2\"".to_owned(),
        format!("{ISSUER}canary = {{ client_secret = \"hunter2\" }}"),
        WEBHOOK.replace("{ env = \"SOC_WEBHOOK\" }", "\"http://soc.example/hunter2\""),
    ];
    for text in texts {
        let shown = parse(&text).expect_err(&text).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let shown = problems(&WEBHOOK.replace("{ env = \"SOC_SECRET\" }", "\"whsec_c2VjcmV0\"")).join("\n");
    assert_eq!(shown, "5:12 `secrets` is a secret and must not stand in the file | write { file = \"…\" } or { env = \"…\" }");

    let config = good(&format!("{WEBHOOK}{EMAIL}user = \"u\"\npassword = {{ env = \"SMTP_PASSWORD\" }}"));
    let literal = good(&WEBHOOK.replace("{ env = \"SOC_WEBHOOK\" }", "\"https://soc.example/hook\""));
    let debug = format!("{config:?} {literal:?}");
    assert!(!debug.contains("hunter2") && !debug.contains("whsec_") && !debug.contains("soc.example"), "{debug}");
}

#[test]
fn a_secret_file_loses_one_line_end_and_starts_at_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("{ISSUER}{WEBHOOK}").replace("env = \"SOC_SECRET\"", "file = \"soc.secret\"");
    let config = folder.path().join("issuerwatch.toml");
    std::fs::write(&config, text.replace("{ env = \"SOC_WEBHOOK\" }", "\"http://127.0.0.1:9/x\"")).expect("written");
    for (content, good) in [("{}\n", true), ("{}\r\n", true), ("{}", true), ("{}\n\n", false), ("", false), ("\n", false)] {
        std::fs::write(folder.path().join("soc.secret"), content.replace("{}", SECRET)).expect("written");
        match config::load(&config) {
            Ok(config) => {
                assert!(good, "{content:?}");
                let ChannelKind::Webhook { secrets, .. } = &config.channels[0].kind else { panic!("a webhook") };
                assert_eq!(secrets[0].expose(), SECRET);
                assert_eq!(config.monitor.database, DatabaseUrl::Sqlite(folder.path().join("issuerwatch.db")));
            }
            Err(problems) => assert!(!good, "{content:?} {problems}"),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_that_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = config::load(&folder.path().join("none.toml")).expect_err("no file").to_string();
    assert!(shown.contains("none.toml") && shown.contains("config init"), "{shown}");
    std::fs::write(folder.path().join("bad.toml"), [0xff, 0xfe]).expect("written");
    let shown = config::load(&folder.path().join("bad.toml")).expect_err("no text").to_string();
    assert!(shown.contains("not UTF-8"), "{shown}");
}

#[test]
fn commands_that_send_nothing_need_no_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("issuerwatch.toml");
    std::fs::write(&path, config::example()).expect("written");
    let config = config::load_without_secrets(&path).expect("the starter without its secrets");
    assert!(config.channels.is_empty());
    assert_eq!(config.policy.routing.destinations.len(), 1, "where alerts would go is known all the same");
    let problems = config::load(&path).expect_err("no secrets there");
    assert_eq!(problems.iter().len(), 2, "{problems}");
}

#[test]
fn run_needs_an_issuer_and_a_channel_and_says_what_to_write() {
    let shown = good("").runnable().expect_err("nothing to do").to_string();
    assert!(shown.contains("[[issuer]]") && shown.contains("[[channel]]") && shown.contains("alerts = \"none\""), "{shown}");
    assert!(good(&format!("alerts = \"none\"\n{ISSUER}")).runnable().is_ok());
    assert!(good(&format!("{ISSUER}{WEBHOOK}")).runnable().is_ok());
    assert_eq!(good(ISSUER).runnable().expect_err("no channel").iter().len(), 1);
    assert_eq!(good(&format!("alerts = \"none\"\n{ISSUER}{WEBHOOK}")).policy.routing.destinations, []);
}

#[test]
fn rule_ids_are_checked_against_the_catalogue_with_their_lines() {
    let config = good(&format!(
        "[policy.severity]\n\"key/rsa-to-small\" = \"low\"\n\"key/rsa-roca\" = \"off\"\n{WEBHOOK}[[route]]\nchannels = \"soc\"\nrule = [\"drift/nothing-like-it\"]\n"
    ));
    assert_eq!(config.rule_ids().len(), 3);
    let problems = config.check_rules(&["key/rsa-too-small", "key/rsa-roca"]).expect_err("two unknown");
    let said: Vec<_> = problems.iter().map(|problem| (problem.at, problem.message.as_str(), problem.write.as_str())).collect();
    assert_eq!(
        said,
        [
            (Some((2, 1)), "there is no rule \"key/rsa-to-small\"", "did you mean \"key/rsa-too-small\"?"),
            (Some((11, 9)), "there is no rule \"drift/nothing-like-it\"", "`issuerwatch rules list` names them all"),
        ]
    );
}

#[test]
fn schedules_show_their_next_three_times_in_the_configured_zone() {
    let mut text = format!("[monitor]\ntimezone = \"Europe/Berlin\"\nevery = \"5m\"\n{WEBHOOK}");
    for id in ["a", "b", "c", "d"] {
        text += &format!("[[issuer]]\nid = \"{id}\"\nurl = \"https://{id}.example\"\n");
    }
    text += "[[issuer]]\nid = \"e\"\nurl = \"https://e.example\"\ncron = \"30 2 * * *\"\n";
    text += "[[report]]\ncron = \"0 7 * * 1\"\nchannels = \"soc\"\n";
    let now: DateTime<Utc> = "2026-03-27T12:00:00Z".parse().expect("a time");
    let shown: Vec<String> = good(&text)
        .schedules(now)
        .iter()
        .map(|upcoming| {
            let times: Vec<String> = upcoming.next.iter().map(|at| at.format("%m-%d %H:%M%z").to_string()).collect();
            format!("{}: {}", upcoming.what, times.join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "4 issuers (a, b, …) every 5m: 03-27 13:05+0100, 03-27 13:10+0100, 03-27 13:15+0100",
            "e cron \"30 2 * * *\": 03-28 02:30+0100, 03-29 03:00+0200, 03-30 02:30+0200",
            "report to soc cron \"0 7 * * 1\": 03-30 07:00+0200, 04-06 07:00+0200, 04-13 07:00+0200",
        ]
    );
}

/// The starter with every option switched on.
fn full_example() -> String {
    let option = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()).map(str::to_owned);
    config::example().lines().map(|line| option(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

fn folder_with_secrets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("soc.secret"), format!("{SECRET}\n")).expect("written");
    std::fs::write(folder.path().join("smtp.secret"), "hunter2\n").expect("written");
    let certificate = rcgen::generate_simple_self_signed(vec!["corp.example".to_owned()]).expect("a certificate").cert;
    std::fs::write(folder.path().join("corp-ca.pem"), certificate.pem()).expect("written");
    folder
}

#[test]
fn the_starter_loads_once_its_secrets_exist_and_has_the_defaults() {
    let folder = folder_with_secrets();
    let config = config::parse_in(config::example(), folder.path(), "x.toml", &environment).unwrap_or_else(|problems| panic!("{problems}"));
    config.runnable().expect("ready to run");
    let default = good("");
    assert_eq!(config.monitor.listen, default.monitor.listen);
    assert_eq!((config.limits, config.monitor.timezone), (default.limits, default.monitor.timezone));
    let without_routing = |policy: &Policy| Policy { routing: Policy::default().routing, ..policy.clone() };
    assert_eq!(without_routing(&config.policy), without_routing(&default.policy));
    assert_eq!(config.watches[0].cadence, Cadence::every(Duration::minutes(5)));
}

#[test]
fn every_option_of_the_starter_can_be_switched_on() {
    let folder = folder_with_secrets();
    let config = config::parse_in(&full_example(), folder.path(), "x.toml", &environment).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((config.watches.len(), config.channels.len(), config.reports.len()), (2, 2, 1));
}

#[test]
fn the_schema_the_reader_and_the_starter_know_the_same_names() {
    let schema = config::schema();
    let document: toml::Table = full_example().parse().expect("TOML");
    let document = serde_json::to_value(document).expect("JSON");
    let mut unused = names(&schema, "");
    check(&schema, &document, "", &mut unused);
    // What the starter says in words, or in the other of two forms.
    let elsewhere = [
        "/monitor/cron",
        "/report/every",
        "/channel/password/env",
        "/channel/secrets/env",
        "/channel/url/file",
        "/policy/revoked_keys/kid",
        "/policy/revoked_keys/thumbprint",
        "/policy/revoked_keys/at",
    ];
    let other_window = ["from", "until", "timezone"].map(|name| format!("/policy/change_windows/{name}"));
    // An issuer's policy has the names of the file's.
    let missing: Vec<_> = unused
        .iter()
        .filter(|name| !name.starts_with("/issuer/policy/") && !elsewhere.contains(&name.as_str()) && !other_window.contains(name))
        .collect();
    assert!(missing.is_empty(), "the starter does not show {missing:?}");

    let is_read = |name: &String| {
        let last = name.rsplit('/').next().unwrap_or(name);
        let said = problems(&text_with_a_wrong_value(name));
        let complaints = [format!("`{last}` cannot"), format!("`{last}` is no "), format!("there is no channel {last}")];
        said.iter().any(|problem| complaints.iter().any(|complaint| problem.contains(complaint)))
    };
    let unread: Vec<_> = names(&schema, "").into_iter().filter(|name| !is_read(name)).collect();
    assert!(unread.is_empty(), "these are in the schema but not read: {unread:?}");
}

/// The path of every name that the schema has.
fn names(schema: &serde_json::Value, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        found.extend(names(property, &path));
        found.insert(path);
    }
    let inner = ["anyOf", "oneOf"].iter().filter_map(|of| schema[of].as_array()).flatten();
    inner.chain(schema.get("items")).for_each(|schema| found.extend(names(schema, path)));
    found
}

/// As much of JSON Schema as ours uses; what the document has is taken from `unused`.
fn check(schema: &serde_json::Value, value: &serde_json::Value, path: &str, unused: &mut BTreeSet<String>) {
    assert!(valid(schema, value), "{path}: {value} is not {schema}");
    unused.remove(path);
    let alternatives: Vec<_> = ["anyOf", "oneOf"].iter().filter_map(|of| schema[of].as_array()).flatten().collect();
    if let Some(alternative) = alternatives.into_iter().find(|schema| valid(schema, value)) {
        return check(alternative, value, path, unused);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some(property) = schema["properties"].get(name) {
            check(property, value, &format!("{path}/{name}"), unused);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(&schema["items"], item, path, unused);
    }
}

fn valid(schema: &serde_json::Value, value: &serde_json::Value) -> bool {
    let all = |of: &str| schema[of].as_array().is_none_or(|schemas| schemas.iter().any(|schema| valid(schema, value)));
    let kind = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        // A TOML date becomes a table in serde's view.
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    let date = schema["pattern"].as_str().is_some_and(|pattern| pattern.starts_with("^[0-9]{4}")) && value.is_object();
    let members = value.as_object().filter(|_| schema["type"] == "object").is_none_or(|members| {
        let required = schema["required"].as_array().into_iter().flatten().all(|name| members.contains_key(name.as_str().unwrap_or("")));
        required
            && members.iter().all(|(name, value)| match schema["properties"].get(name) {
                Some(property) => valid(property, value),
                None => schema["additionalProperties"].is_object() && valid(&schema["additionalProperties"], value),
            })
    });
    let items = value.as_array().is_none_or(|items| schema.get("items").is_none_or(|schema| items.iter().all(|item| valid(schema, item))));
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    let choice = schema["enum"].as_array().is_none_or(|names| names.contains(value));
    (kind || date) && all("anyOf") && all("oneOf") && (members || date) && items && constant && choice
}

/// A file in which the name at a path of the schema has a value that no type takes.
fn text_with_a_wrong_value(path: &str) -> String {
    let wrong = "[[[0]]]";
    match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        [name] => format!("{name} = {wrong}"),
        ["channel", "kind"] => format!("[[channel]]\nid = \"x\"\nkind = {wrong}"),
        ["channel", name @ ("url" | "secrets")] => format!("[[channel]]\nkind = \"webhook\"\n{name} = {wrong}"),
        ["channel", name] => format!("[[channel]]\nkind = \"email\"\n{name} = {wrong}"),
        ["channel", "password", name] => format!("[[channel]]\nkind = \"email\"\npassword = {{ {name} = {wrong} }}"),
        ["channel", "secrets", name] => format!("[[channel]]\nkind = \"webhook\"\nsecrets = [{{ {name} = {wrong} }}]"),
        ["channel", outer, name] => format!("[[channel]]\nkind = \"webhook\"\n{outer} = {{ {name} = {wrong} }}"),
        [table @ ("issuer" | "route" | "report"), name] => format!("[[{table}]]\n{name} = {wrong}"),
        ["issuer", "policy", name] => format!("{ISSUER}[issuer.policy]\n{name} = {wrong}"),
        [table, name] => format!("[{table}]\n{name} = {wrong}"),
        ["issuer", "policy", outer, name] => format!("{ISSUER}[issuer.policy]\n{outer} = [{{ {name} = {wrong} }}]"),
        ["policy", outer, name] => format!("[policy]\n{outer} = [{{ {name} = {wrong} }}]"),
        _ => panic!("no text for {path}"),
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn every_parameter_of_the_catalogue_is_accepted() {
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/rules.md");
    let Ok(catalogue) = std::fs::read_to_string(&catalogue) else {
        eprintln!("SKIPPED: {} is not there", catalogue.display());
        return;
    };
    let accepted = names(&config::schema(), "");
    let table = catalogue.split("### Policy parameters and defaults").nth(1).and_then(|rest| rest.split("###").next()).expect("the table");
    let first_columns = table.lines().filter_map(|line| line.strip_prefix("| `")).map(|line| line.split('|').next().unwrap_or(""));
    let parameters: BTreeSet<&str> =
        first_columns.flat_map(|column| column.split(',')).map(|name| name.trim_matches(|c| c == ' ' || c == '`')).collect();
    assert!(parameters.len() > 30, "{parameters:?}");
    // Section 0 (4) of the catalogue gives these other names and places.
    let renamed = ["max_verifier_cache_ttl", "prepublication_lead", "ca_bundle", "private_network", "environment"];
    let missing: Vec<_> = parameters
        .iter()
        .filter(|name| !renamed.contains(name))
        .filter(|name| !accepted.contains(&format!("/policy/{name}")) || !accepted.contains(&format!("/issuer/policy/{name}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for name in renamed {
        assert!(
            problems(&format!("[policy]\n{name} = \"1h\""))
                .iter()
                .all(|problem| problem.contains("it is called") || problem.contains("write `"))
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_file_makes_the_reader_or_the_renderer_panic(
        places in prop::collection::vec((0.0..1.0_f64, 0..40_usize, "[\\[\\]{}\"'=#.,a-z0-9\\n\\r\\té€]{0,4}"), 1..4)
    ) {
        let mut text = full_example();
        for (place, length, inserted) in places {
            let at = text.floor_char_boundary((text.len() as f64 * place) as usize);
            let end = text.ceil_char_boundary((at + length).min(text.len()));
            text.replace_range(at..end, &inserted);
        }
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.render(true).is_empty());
            for problem in problems.iter() {
                prop_assert!(!problem.message.is_empty() && !problem.write.is_empty());
            }
        }
    }
}
