//! The product as its user runs it: the binary, a configuration, real providers, real mail, a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod site;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::site::{Daemon, Mail, Site, eventually, request, text};
use crate::parts::{Certificates, Node, Postfix, json_lines, skip};
use crate::support::{Issuer, Reply, issuer::DISCOVERY};

/// Polls every second, tokens and caches of seconds: what takes days in life takes seconds here.
const PACE: &str = "\
[monitor]
listen = \"127.0.0.1:0\"
every = \"1s\"

[policy]
max_token_lifetime = \"4s\"
max_verifier_cache = \"1s\"
";
/// How many polls are enough to see that nothing more comes.
const A_WHILE: u64 = 4;
/// How many polls last longer than a token and a cache.
const AN_OVERLAP: u64 = 8;
const SECRETS: [&str; 2] = ["whsec_bmV3IHNlY3JldCBvZiB0aGUgaG9vaw==", "whsec_b2xkIHNlY3JldCBvZiB0aGUgaG9vaw=="];

fn issuer(id: &str, url: &str) -> String {
    format!("\n[[issuer]]\nid = \"{id}\"\nurl = \"{url}\"\nallow_http_loopback = true\nallow_private = true\n")
}

/// A webhook receiver that verifies, and its channel with both secrets of a change of secrets.
struct Hook {
    _server: Node,
    folder: tempfile::TempDir,
}

impl Hook {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("hooks.jsonl").display().to_string();
        let server = Node::start("receiver.mjs", &["--out", &out, "--secret", SECRETS[0], "--secret", SECRETS[1]])?;
        for (name, secret) in ["new", "old"].iter().zip(SECRETS) {
            std::fs::write(folder.path().join(name), format!("{secret}\n")).unwrap();
        }
        std::fs::write(folder.path().join("url"), text(&server.up, "/url")).unwrap();
        Some(Self { _server: server, folder })
    }

    fn channel(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "\n[[channel]]\nid = \"soc\"\nkind = \"webhook\"\nurl = {{ file = \"{folder}/url\" }}\n\
             secrets = [{{ file = \"{folder}/new\" }}, {{ file = \"{folder}/old\" }}]\n"
        )
    }

    /// What was delivered so far: each verified with either secret.
    fn bodies(&self) -> Vec<Value> {
        let lines = json_lines(&self.folder.path().join("hooks.jsonl"));
        for line in &lines {
            assert_eq!(line["verified"], json!([true, true]), "{line}");
        }
        lines.iter().map(|line| serde_json::from_str(text(line, "/body")).unwrap()).collect()
    }

    fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually(&format!("delivery {count} at the webhook"), || Some(self.bodies()).filter(|bodies| bodies.len() >= count))
    }
}

/// A mail server with STARTTLS and AUTH, and its channel.
struct Mailbox {
    server: Node,
    certificates: Certificates,
}

impl Mailbox {
    fn start() -> Option<Self> {
        let certificates = Certificates::make();
        let file = |name: &str| certificates.folder.path().join(name).display().to_string();
        std::fs::write(file("ca.pem"), &certificates.ca_pem).unwrap();
        std::fs::write(file("password"), "open sesame\n").unwrap();
        let (out, cert, key) = (file("mails.jsonl"), file("cert.pem"), file("key.pem"));
        let server =
            Node::start("smtp.mjs", &["--out", &out, "--cert", &cert, "--key", &key, "--user", "watch", "--password", "open sesame"])?;
        Some(Self { server, certificates })
    }

    fn channel(&self) -> String {
        let folder = self.certificates.folder.path().display();
        format!(
            "\n[[channel]]\nid = \"mail\"\nkind = \"email\"\nserver = \"localhost\"\nport = {}\ntls = \"starttls\"\nuser = \"watch\"\n\
             password = {{ file = \"{folder}/password\" }}\nca_file = \"{folder}/ca.pem\"\n\
             from = \"issuerwatch <watch@example.test>\"\nto = [\"soc@example.test\"]\n",
            self.server.port()
        )
    }

    /// Every mail taken so far: under TLS, after a login.
    fn mails(&self) -> Vec<Mail> {
        let lines = json_lines(&self.certificates.folder.path().join("mails.jsonl"));
        let taken = lines.into_iter().filter(|line| line.get("raw").is_some());
        taken
            .map(|line| {
                assert_eq!((&line["secure"], &line["user"]), (&json!(true), &json!("watch")));
                Mail(text(&line, "/raw").to_owned())
            })
            .collect()
    }

    fn wait_for(&self, count: usize) -> Vec<Mail> {
        eventually(&format!("mail {count}"), || Some(self.mails()).filter(|mails| mails.len() >= count))
    }
}

/// A running provider of npm's `oidc-provider`.
struct Provider(Node);

impl Provider {
    fn start() -> Option<Self> {
        Node::start("op.mjs", &[]).map(Self)
    }

    fn url(&self) -> &str {
        text(&self.0.up, "/issuer")
    }

    fn control(&self, name: &str) -> Value {
        serde_json::from_str(&request("POST", &format!("{}/control/{name}", self.url()))).unwrap()
    }
}

/// The kinds of what a webhook was told.
fn kinds(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| text(body, "/type")).collect()
}

fn rules(body: &Value) -> Vec<&str> {
    let mut rules: Vec<&str> = body["data"]["findings"].as_array().unwrap().iter().map(|finding| text(finding, "/rule")).collect();
    rules.sort_unstable();
    rules
}

#[test]
fn a_swapped_key_is_told_once_survives_a_restart_and_is_silenced_by_its_approval() {
    let (Some(provider), Some(hook), Some(mailbox)) = (Provider::start(), Hook::start(), Mailbox::start()) else { return };
    let site = Site::new(&[PACE, &issuer("acme", provider.url()), &hook.channel(), &mailbox.channel()].concat());
    let daemon = site.run();
    daemon.polls(2);

    let swapped = Instant::now();
    provider.control("swap");
    let told = hook.wait_for(1);
    mailbox.wait_for(1);
    let took = swapped.elapsed();
    #[expect(clippy::print_stderr, reason = "how fast it was is worth knowing")]
    {
        eprintln!("told {} ms after the swap", took.as_millis());
    }
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(text(&told[0], "/type"), "incident.opened");
    assert_eq!(rules(&told[0]), ["rotation/overlap-too-short", "rotation/removed-without-overlap", "rotation/unexpected-new-key"]);
    let incident = text(&told[0], "/data/incident").to_owned();

    daemon.polls(A_WHILE);
    daemon.stop();
    let daemon = site.run();
    daemon.polls(A_WHILE);
    assert_eq!((hook.bodies().len(), mailbox.mails().len()), (1, 1), "a restart repeats nothing");
    let listed = site.ask_json(&["incidents"]);
    assert_eq!(listed.iter().map(|one| (text(one, "/incident"), text(one, "/state"))).collect::<Vec<_>>(), [(incident.as_str(), "open")]);

    site.ask(&["approve", "--incident", &incident, "--reason", "emergency change, confirmed by phone", "--by", "jane"]);
    let told = hook.wait_for(2);
    mailbox.wait_for(2);
    daemon.polls(A_WHILE);
    let (bodies, mails) = (hook.bodies(), mailbox.mails());
    assert_eq!(kinds(&bodies), ["incident.opened", "incident.resolved"]);
    assert_eq!(text(&told[1], "/data/incident"), incident);
    assert_eq!(mails.len(), 2);
    for mail in &mails {
        assert_eq!(mail.header("In-Reply-To"), format!("<{incident}@example.test>"), "one thread");
        assert_eq!(mail.header("References"), mail.header("In-Reply-To"));
    }
    assert_ne!(mails[0].header("Message-ID"), mails[1].header("Message-ID"));
    assert!(mails[0].header("Subject").starts_with("[critical] acme: "), "{}", mails[0].header("Subject"));
    assert!(mails[1].header("Subject").starts_with("[resolved] acme: "), "{}", mails[1].header("Subject"));
    assert_eq!(text(&site.ask_json(&["incidents"])[0], "/state"), "resolved");
    daemon.stop();
}

#[test]
fn an_announced_rotation_in_three_steps_is_silent_and_remembered() {
    let (Some(provider), Some(hook)) = (Provider::start(), Hook::start()) else { return };
    let site = Site::new(&[PACE, &issuer("acme", provider.url()), &hook.channel()].concat());
    let daemon = site.run();
    daemon.polls(2);

    let next = text(&provider.control("prepare"), "/next").to_owned();
    site.ask(&["expect", "--issuer", "acme", &format!("--thumbprint={next}"), "--reason", "yearly rotation"]);
    provider.control("publish");
    eventually("the new key is seen", || (site.events("acme").len() == 1).then_some(()));
    daemon.polls(2);
    assert_eq!(text(&provider.control("promote"), "/signing"), next);
    daemon.polls(AN_OVERLAP);
    provider.control("retire");
    eventually("the old key is seen to go", || (site.events("acme").len() == 2).then_some(()));
    daemon.polls(A_WHILE);

    assert_eq!(site.events("acme"), ["key_added", "key_removed"]);
    assert_eq!(hook.bodies(), Vec::<Value>::new());
    assert_eq!(site.ask_json(&["incidents"]), Vec::<Value>::new());
    let keys = site.ask_json(&["keys", "--issuer", "acme"]);
    assert_eq!(keys.iter().filter(|key| key["present"] == json!(false)).count(), 1, "{keys:?}");
    daemon.stop();
}

#[test]
fn an_outage_is_told_after_three_polls_and_resolves_nothing_but_itself() {
    let (Some(provider), Some(hook)) = (Provider::start(), Hook::start()) else { return };
    let site = Site::new(&[PACE, &issuer("acme", provider.url()), &hook.channel()].concat());
    let daemon = site.run();
    daemon.polls(2);
    let signing = text(&provider.control("swap"), "/signing").to_owned();
    hook.wait_for(1);

    provider.control("fail");
    let told = hook.wait_for(2);
    assert_eq!(text(&told[1], "/type"), "incident.opened");
    assert_eq!(rules(&told[1]), ["transport/bad-status"]);
    assert!(text(&told[1], "/data/findings/0/message").contains("503, 3 times in a row"), "{}", told[1]);
    daemon.polls(A_WHILE);
    assert_eq!(hook.bodies().len(), 2, "an outage resolves nothing and is told once");

    provider.control("recover");
    hook.wait_for(3);
    daemon.polls(A_WHILE);
    let bodies = hook.bodies();
    assert_eq!(kinds(&bodies), ["incident.opened", "incident.opened", "incident.resolved"]);
    assert_eq!(bodies[2]["data"]["incident"], bodies[1]["data"]["incident"]);

    site.ask(&["approve", "--issuer", "acme", &format!("--thumbprint={signing}"), "--reason", "it was us"]);
    let bodies = hook.wait_for(4);
    assert_eq!((text(&bodies[3], "/type"), &bodies[3]["data"]["incident"]), ("incident.resolved", &bodies[0]["data"]["incident"]));
    daemon.stop();
}

/// Keys that no provider should have: a leaked private key, a shared secret, a kid that would be a script.
const DEFECTS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","use":"sig","kid":"leaking","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"},
    {"kty":"oct","use":"sig","alg":"HS256","kid":"<script>document.title='owned'</script><img src=http://203.0.113.9/x>","k":"c2VjcmV0"}
]}"#;

/// A provider whose documents are as they should be, but for its keys.
fn defective() -> Issuer {
    let issuer = Issuer::http();
    let url = issuer.url().to_owned();
    issuer.publish(DEFECTS);
    let discovery = json!({
        "issuer": url, "jwks_uri": format!("{url}/jwks"), "authorization_endpoint": format!("{url}/auth"),
        "token_endpoint": format!("{url}/token"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    issuer.set(DISCOVERY, Reply::json(discovery.to_string()));
    issuer
}

#[test]
fn first_looks_that_start_together_make_one_message() {
    let (Some(provider), Some(hook)) = (Provider::start(), Hook::start()) else { return };
    let (one, other) = (defective(), defective());
    let issuers = [issuer("clean", provider.url()), issuer("one", one.url()), issuer("other", other.url())].concat();
    let site = Site::new(&[PACE, &issuers, &hook.channel()].concat());
    let daemon = site.run();
    hook.wait_for(1);
    daemon.polls(3 * A_WHILE);
    let bodies = hook.bodies();
    assert_eq!(kinds(&bodies), ["baseline"]);
    assert_eq!(bodies[0]["data"]["issuers"], json!(["one", "other"]));
    assert_eq!(text(&bodies[0], "/data/title"), "2 issuers: 4 critical findings");
    daemon.stop();
}

#[test]
fn postfix_delivers_the_alert() {
    let certificates = Certificates::make();
    let (Some(provider), Some(postfix)) = (Provider::start(), Postfix::start(&certificates)) else { return };
    let channel = format!(
        "\n[[channel]]\nid = \"mail\"\nkind = \"email\"\nserver = \"localhost\"\nport = {}\ntls = \"starttls\"\nca_file = \"ca.pem\"\n\
         from = \"issuerwatch <watch@example.test>\"\nto = [\"soc@example.test\"]\n",
        postfix.port
    );
    let site = Site::new(&[PACE, &issuer("acme", provider.url()), &channel].concat());
    site.write("ca.pem", &certificates.ca_pem);
    let daemon = site.run();
    daemon.polls(2);
    provider.control("swap");
    let mails = eventually("a mail in the maildir", || Some(postfix.mails()).filter(|mails| !mails.is_empty()));
    daemon.stop();

    let mail = Mail(mails[0].clone());
    let incident = mail.header("X-Issuerwatch-Incident");
    assert!(mail.header("Subject").starts_with("[critical] acme: ") && mail.header("Subject").ends_with(&format!("({incident})")));
    assert_eq!((mail.header("From").as_str(), mail.header("To").as_str()), ("issuerwatch <watch@example.test>", "soc@example.test"));
    assert!(mail.header("Message-ID").ends_with("@example.test>"));
    assert!(mail.header("Date").ends_with("+0000"));
    assert!(mail.header("Content-Type").starts_with("multipart/alternative"));
    let received = mail.headers("Received").concat();
    assert!(received.contains("TLSv1.3") || received.contains("TLSv1.2"), "{received}");
}

/// A browser without a screen and without a will of its own.
struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

impl Browser {
    fn find() -> Option<Self> {
        let program = PathBuf::from("/usr/bin/chromium");
        if !program.exists() {
            skip("Chromium");
            return None;
        }
        Some(Self { program, profile: tempfile::tempdir().unwrap() })
    }

    fn run(&self, url: &str, more: &[&str]) -> String {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let output = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1600"])
            // What the browser asks its maker nevertheless must not leave this machine.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(profile)
            .args(more)
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The page after the browser has read it, and every address that the page made it ask for.
    fn visit(&self, url: &str) -> (String, BTreeSet<String>) {
        let log = self.profile.path().join("net.json");
        let dom = self.run(url, &["--dump-dom", &format!("--log-net-log={}", log.display())]);
        let net: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
        // What the browser asks for itself, the page included, has no origin.
        let asked = net["events"].as_array().unwrap().iter().filter_map(|event| {
            let initiator = event["params"]["initiator"].as_str()?;
            event["params"]["url"].as_str().filter(|_| initiator != "not an origin").map(str::to_owned)
        });
        (dom, asked.collect())
    }

    /// How many different lines of pixels a picture of the page has.
    fn lines(&self, url: &str) -> usize {
        let picture = self.profile.path().join("picture.png");
        self.run(url, &[&format!("--screenshot={}", picture.display())]);
        different_lines(&std::fs::read(&picture).unwrap())
    }
}

/// Counts the different lines of a PNG, as they are packed: a blank page has three at most.
fn different_lines(png: &[u8]) -> usize {
    use std::io::Read as _;
    let (mut packed, mut width, mut at) = (Vec::new(), 0, 8);
    while at + 8 <= png.len() {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let (length, kind, data) = (number(at), &png[at + 4..at + 8], at + 8);
        match kind {
            b"IHDR" => width = number(data) * if png[data + 9] == 6 { 4 } else { 3 } + 1,
            b"IDAT" => packed.extend_from_slice(&png[data..data + length]),
            _ => {}
        }
        at = data + length + 4;
    }
    let mut pixels = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut pixels).unwrap();
    pixels.chunks(width).collect::<BTreeSet<_>>().len()
}

/// Nothing but the page's own server was asked, and nothing in the page can act.
fn assert_harmless(origin: &str, (dom, asked): &(String, BTreeSet<String>)) {
    let foreign: Vec<&String> = asked.iter().filter(|asked| !asked.starts_with(origin) && !asked.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "{origin} asks for {foreign:?}");
    assert!(!dom.contains("<script") && !dom.contains("<img") && !dom.contains("<title>owned"), "{dom}");
    assert!(!dom.contains(" onload=") && !dom.contains("javascript:"), "{dom}");
}

#[test]
fn the_browser_tells_what_a_page_asks_for_and_what_is_blank() {
    let Some(browser) = Browser::find() else { return };
    let page = Issuer::http();
    page.set("/", Reply::of(200, "<img src=http://127.0.0.1:1/spy.png>").header("content-type", "text/html"));
    page.set("/blank", Reply::of(200, "<title>nothing</title>").header("content-type", "text/html"));
    assert!(browser.visit(&page.at("/")).1.contains("http://127.0.0.1:1/spy.png"));
    assert!(browser.lines(&page.at("/blank")) <= 3);
}

#[test]
fn a_browser_shows_the_pages_and_the_report_without_scripts_or_requests_elsewhere() {
    let Some(browser) = Browser::find() else { return };
    let hostile = defective();
    let site = Site::new(&["alerts = \"none\"\n", PACE, &issuer("hostile", hostile.url())].concat());
    let daemon = site.run();
    daemon.polls(2);

    let overview = browser.visit(&daemon.url("/"));
    assert_harmless(&daemon.url("/"), &overview);
    assert!(overview.0.contains("hostile") && overview.0.contains(hostile.url()), "{}", overview.0);
    assert!(browser.lines(&daemon.url("/")) > 50);

    let served = browser.visit(&daemon.url("/report"));
    assert_harmless(&daemon.url("/"), &served);
    site.ask(&["report", "-o", "report.html"]);
    let file = format!("file://{}", site.path("report.html").display());
    let kept = browser.visit(&file);
    assert_harmless(&file, &kept);
    for (dom, _) in [&served, &kept] {
        assert!(dom.contains("&lt;script&gt;document.title='owned'&lt;/script&gt;"), "the kid is text: {dom}");
    }
    assert!(browser.lines(&file) > 200);
    daemon.stop();
}

#[test]
fn the_demo_tells_the_good_and_the_bad_rotation_apart_and_keeps_its_report() {
    let site = Site::new("");
    let said = site.ask(&["demo", "--for", "20s"]);
    assert!(said.starts_with("http://127.0.0.1:"), "{said}");
    let subjects: Vec<&str> = said.lines().filter(|line| line.starts_with("│ [") && line.contains(": ")).collect();
    assert!(subjects.iter().any(|subject| subject.contains("[critical] first look: full-of-defects: 3 critical and 4 high findings")));
    assert!(subjects.iter().any(|subject| subject.contains("[critical] rotates-badly: ")), "{subjects:?}");
    assert!(!subjects.iter().any(|subject| subject.contains("rotates-well") || subject.contains("clean")), "{subjects:?}");
    assert!(said.contains("▸ rotates-well publishes the announced key"), "{said}");
    let longest = said.lines().filter(|line| line.starts_with('│')).map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{longest:?}");

    let path = Path::new(said.trim_end().rsplit(' ').next().unwrap());
    let report = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(report.contains("rotates-badly") && report.contains("Signing key withdrawn while its tokens could still be valid"));
}

#[test]
fn a_test_message_is_marked_and_a_refusal_is_said() {
    let (Some(hook), Some(mailbox)) = (Hook::start(), Mailbox::start()) else { return };
    let config = [PACE, &issuer("acme", "https://acme.example"), &hook.channel(), &mailbox.channel()].concat();
    let site = Site::new(&config);
    assert_eq!(site.ask(&["channels", "test"]), "mail soc@example.test: delivered\nsoc: delivered\n");
    let (bodies, mails) = (hook.wait_for(1), mailbox.wait_for(1));
    assert_eq!(kinds(&bodies), ["test"]);
    assert!(mails[0].header("Subject").starts_with("[test] "), "{}", mails[0].header("Subject"));

    let refused = |config: &str, arguments: &[&str], words: &[&str]| {
        site.write("issuerwatch.toml", config);
        let output = site.issuerwatch(arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    refused(&config.replace("soc@example.test", "nobody@example.test"), &["channels", "test", "mail"], &["not delivered", "550"]);
    site.write("wrong", "sesame");
    let wrong = format!("{{ file = \"{}\" }}", site.path("wrong").display());
    let right = format!("{{ file = \"{}/password\" }}", mailbox.certificates.folder.path().display());
    refused(&config.replace(&right, &wrong), &["channels", "test", "mail"], &["not delivered", "535"]);
    assert_eq!((hook.bodies().len(), mailbox.mails().len()), (1, 1));
}

#[test]
fn a_scheduled_report_arrives_with_the_page_attached() {
    let Some(mailbox) = Mailbox::start() else { return };
    let report = "\n[[report]]\nevery = \"3s\"\nperiod = \"1h\"\nchannels = [\"mail\"]\n";
    let quiet = "\n[[route]]\nseverity = \"critical\"\nissuer = [\"hostile\"]\nrule = [\"drift/issuer-changed\"]\nchannels = [\"mail\"]\n";
    let site = Site::new(&[PACE, &issuer("hostile", defective().url()), &mailbox.channel(), report, quiet].concat());
    let daemon = site.run();
    let mails = mailbox.wait_for(1);
    daemon.stop();
    let mail = &mails[0];
    let subject = mail.header("Subject");
    assert!(subject.starts_with("[report] 1 issuer, worst grade F, 3 findings open, "), "{subject}");
    assert!(mail.header("Content-Type").starts_with("multipart/mixed"));
    let (_, attached) = mail.0.split_once("Content-Disposition: attachment; filename=\"issuerwatch-").expect("an attachment");
    let (head, page) = attached.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/html") && head.contains("quoted-printable"), "{head}");
    let page = page.replace("=\r\n", "");
    assert!(page.to_lowercase().starts_with("<!doctype html>"), "{page}");
    assert!(page.contains("Key set publishes private key material") && page.contains("</html>"));
}

#[test]
fn a_reload_takes_a_good_configuration_and_refuses_a_bad_one() {
    let (Some(provider), Some(hook)) = (Provider::start(), Hook::start()) else { return };
    let good = [PACE, &issuer("acme", provider.url()), &hook.channel()].concat();
    let site = Site::new(&good);
    let daemon = site.run();
    daemon.polls(2);
    let loaded = |daemon: &Daemon| daemon.metric("issuerwatch_config_last_reload_successful");
    assert_eq!(loaded(&daemon), 1);

    site.write("issuerwatch.toml", &good.replace("url =", "ulr ="));
    daemon.signal("HUP");
    eventually("the bad file is refused", || (loaded(&daemon) == 0).then_some(()));
    assert!(daemon.log().contains("the old one stays") && daemon.log().contains("ulr"), "{}", daemon.log());
    daemon.polls(2);
    assert_eq!(daemon.metric("issuerwatch_issuers"), 1);

    let new = defective();
    site.write("issuerwatch.toml", &[&good, issuer("new", new.url()).as_str()].concat());
    daemon.signal("HUP");
    let bodies = hook.wait_for(1);
    assert_eq!((kinds(&bodies), &bodies[0]["data"]["issuer"]), (vec!["baseline"], &json!("new")));
    daemon.stop();
}
