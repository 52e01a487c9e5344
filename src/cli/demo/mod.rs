//! `demo`: everything, offline, in one process. What a newcomer sees first.
//!
//! Four simulated issuers on loopback, the real monitor over them, its pages, the alerts printed as they would be sent.
//! Policy times are scaled down: a token lives four seconds here, and a key must overlap its successor for twelve.

mod simulate;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Duration, Utc};
use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::simulate::{Authority, Simulated, signing_key};
use super::output::{bold, faint, print, talk};
use super::run::{Delivery, Reload, Service, Whole};
use super::{Done, Exit, connect, usage};
use crate::cadence;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::model::{Act, ActKind, Body, Destination, IssuerId, Thumbprint, visible};
use crate::notify::{self, Message, Queue as _};
use crate::parse;
use crate::report::{self, html};
use crate::rules::RuleSet;
use crate::store::{Db, Filter, Outcome};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// End by itself after that long (90s, 5m); without it Ctrl-C ends it
    #[arg(long = "for", value_name = "DURATION", value_parser = cadence::parse_duration)]
    length: Option<Duration>,
}

/// When things happen, in seconds after the first look.
const FIRST_ROTATION: i64 = 10;
const BAD_ROTATION: i64 = 14;
const GOOD_RETIREMENT: i64 = 32;
const BAD_APPROVAL: i64 = 44;

pub(super) fn demo(options: &Options) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(show(options.length))
}

async fn show(length: Option<Duration>) -> Done {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let rules = Arc::new(RuleSet::builtin()?);
    let stop = CancellationToken::new();
    let stage = Stage::build(folder.path(), &stop).await?;
    let config = stage.config(folder.path())?;
    let service = Service::start(&config, &rules, &stop, Delivery::Elsewhere, &Reload::good(clock.now())).await?;
    let pages = pages(&service);
    opening(&pages, &stage)?;
    let mailman = tokio::spawn(print_alerts(service.db(), Arc::clone(&clock), Arc::clone(&rules), pages, stop.clone()));
    let (started, db) = (clock.now(), service.db());
    tokio::select! {
        done = stage.play(&db, &clock, started) => done?,
        () = ended(length, &clock, started) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let path = keep_report(&db, &rules, &*clock).await?;
    let summary = summary(&db).await?;
    stop.cancel();
    service.finish().await;
    mailman.await.context("printing alerts")?;
    print(&summary)?;
    print(&format!("\nThe audit report is kept: {}\n", bold(&path.display().to_string())))?;
    Ok(Exit::Clean)
}

async fn ended(length: Option<Duration>, clock: &Arc<dyn Clock>, started: DateTime<Utc>) {
    match length {
        Some(length) => clock.sleep_until(started + length).await,
        None => std::future::pending().await,
    }
}

/// The simulated issuers.
struct Stage {
    ca: PathBuf,
    clean: Simulated,
    good: Simulated,
    bad: Simulated,
    broken: Simulated,
    keys: Keys,
}

/// The keys of the two that rotate: before and after.
struct Keys {
    good: [Value; 2],
    bad: [Value; 2],
}

impl Stage {
    async fn build(folder: &Path, stop: &CancellationToken) -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let ca = folder.join("demo-ca.pem");
        std::fs::write(&ca, authority.pem()).context("writing the demo's CA")?;
        let stage = Self {
            ca,
            clean: Simulated::start(&authority, stop.clone()).await?,
            good: Simulated::start(&authority, stop.clone()).await?,
            bad: Simulated::start(&authority, stop.clone()).await?,
            broken: Simulated::start(&authority, stop.clone()).await?,
            keys: Keys { good: [signing_key("good-1")?, signing_key("good-2")?], bad: [signing_key("bad-1")?, signing_key("bad-2")?] },
        };
        stage.clean.serve(&stage.clean.discovery(json!({})), &[&signing_key("clean-1")?, &signing_key("clean-2")?]);
        stage.good.serve(&stage.good.discovery(json!({})), &[&stage.keys.good[0]]);
        stage.bad.serve(&stage.bad.discovery(json!({})), &[&stage.keys.bad[0]]);
        stage.serve_defects()?;
        Ok(stage)
    }

    /// What linters dream of.
    fn serve_defects(&self) -> anyhow::Result<()> {
        let url = self.broken.url();
        let discovery = self.broken.discovery(json!({
            "token_endpoint": format!("{}/token", url.replace("https", "http")),
            "id_token_signing_alg_values_supported": ["ES256", "none"],
            "claims_supported": [],
        }));
        let mut leaking = signing_key("leaking")?;
        leaking["d"] = json!("bm90IGEgcmVhbCBwcml2YXRlIGtleQ");
        let twin = signing_key("leaking")?;
        let mut confused = signing_key("confused")?;
        confused["alg"] = json!("ES384");
        // 1,024 bits of nothing in particular: too short whoever has the factors.
        let short = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "old-hsm", "e": "AQAB", "n": format!("s{}Q", "Q7x-".repeat(42) + "Q")});
        let symmetric = json!({"kty": "oct", "kid": "<script>alert(1)</script>", "alg": "HS256", "k": "c2VjcmV0"});
        self.broken.serve(&discovery, &[&leaking, &twin, &confused, &short, &symmetric]);
        Ok(())
    }

    fn config(&self, folder: &Path) -> anyhow::Result<Config> {
        let listen = if std::net::TcpListener::bind(("127.0.0.1", 9460)).is_ok() { 9460 } else { 0 };
        let issuer = |id: &str, simulated: &Simulated| {
            format!(
                "[[issuer]]\nid = \"{id}\"\nurl = \"{}\"\nowner = \"{id}-team@demo.example\"\nallow_private = true\n\n",
                simulated.url()
            )
        };
        let text = format!(
            "alerts = \"none\"\n\n[monitor]\ndatabase = \"sqlite:demo.db\"\nlisten = \"127.0.0.1:{listen}\"\nevery = \"1s\"\nca_file = {:?}\n\n\
             [policy]\nmax_token_lifetime = \"4s\"\nmax_verifier_cache = \"8s\"\nprepublication = \"5s\"\n\n{}{}{}{}",
            self.ca.display().to_string(),
            issuer("clean", &self.clean),
            issuer("rotates-well", &self.good),
            issuer("rotates-badly", &self.bad),
            issuer("full-of-defects", &self.broken),
        );
        let mut config = config::parse(&text, folder, "demo").map_err(|problems| usage(problems.render(true)))?;
        for watch in &mut config.watches {
            Arc::make_mut(&mut watch.policy).routing.destinations = vec![Destination { channel: "terminal".to_owned(), recipient: None }];
        }
        Ok(config)
    }

    /// The play: a rotation as it should be, one as it should not, and what people do about them.
    async fn play(&self, db: &Db, clock: &Arc<dyn Clock>, started: DateTime<Utc>) -> anyhow::Result<()> {
        let at = |seconds: i64| clock.sleep_until(started + Duration::seconds(seconds));
        let [old, new] = &self.keys.good;
        at(FIRST_ROTATION - 4).await;
        scene(
            "rotates-well",
            "announces its next key:",
            Some("issuerwatch expect --issuer rotates-well --jwk next.json --reason \"yearly rotation\""),
        )?;
        decide(db, clock, "rotates-well", "yearly rotation", ActKind::Expect { thumbprint: thumbprint(new)?, from: None, until: None })
            .await?;
        at(FIRST_ROTATION).await;
        scene("rotates-well", "publishes the announced key beside the old one. (No alert: it was expected.)", None)?;
        self.good.serve(&self.good.discovery(json!({})), &[old, new]);
        at(BAD_ROTATION).await;
        scene("rotates-badly", "replaces its only key at once, and told nobody.", None)?;
        self.bad.serve(&self.bad.discovery(json!({})), &[&self.keys.bad[1]]);
        at(GOOD_RETIREMENT).await;
        scene("rotates-well", "withdraws the old key, after every token and cache has moved on. (No alert.)", None)?;
        self.good.serve(&self.good.discovery(json!({})), &[new]);
        at(BAD_APPROVAL).await;
        scene(
            "rotates-badly",
            "its owner confirms the key:",
            Some("issuerwatch approve --issuer rotates-badly --thumbprint … --reason \"emergency change\""),
        )?;
        decide(
            db,
            clock,
            "rotates-badly",
            "emergency change, confirmed by phone",
            ActKind::ApproveKey { thumbprint: thumbprint(&self.keys.bad[1])? },
        )
        .await?;
        std::future::pending().await
    }
}

fn thumbprint(jwk: &Value) -> anyhow::Result<Thumbprint> {
    let set = parse::jwks(&Body::served(json!({"keys": [jwk]}).to_string().into_bytes()), 1, parse::LIFECYCLE_DEPTH);
    let set = set.map_err(|problem| anyhow::anyhow!("{}", problem.text))?;
    Ok(set.keys.first().context("a key set of one key")?.thumbprint.clone())
}

async fn decide(db: &Db, clock: &Arc<dyn Clock>, issuer: &str, reason: &str, kind: ActKind) -> anyhow::Result<()> {
    let act = Act {
        at: connect::whole_seconds(clock.now()),
        by: "demo".to_owned(),
        reason: reason.to_owned(),
        issuer: IssuerId::new(issuer),
        kind,
    };
    db.call(move |store| store.act(&act)).await?;
    Ok(())
}

/// Where the pages are.
fn pages(service: &Service) -> String {
    service.address().map_or_else(|| "(no port was free)".to_owned(), |address| format!("http://{address}/"))
}

fn opening(pages: &str, stage: &Stage) -> anyhow::Result<()> {
    print(&format!("{}\n\n", bold(pages)))?;
    print(&format!(
        "issuerwatch watches four simulated issuers on this machine, once a second:\n\
         \x20 clean            {}\n\x20 rotates-well     {}\n\x20 rotates-badly    {}\n\x20 full-of-defects  {}\n\
         Times are scaled down: tokens live 4 s, caches 8 s, so an old key must stay 12 s beside the new one.\n\
         Alerts are printed below as they would be sent. Ctrl-C ends it.\n\n",
        stage.clean.url(),
        stage.good.url(),
        stage.bad.url(),
        stage.broken.url()
    ))
}

/// Says what happens on the stage, and with which command a person would do it.
fn scene(issuer: &str, text: &str, command: Option<&str>) -> anyhow::Result<()> {
    let command = command.map_or_else(String::new, |command| format!("    {command}\n"));
    print(&format!("{} {} {text}\n{command}", faint("▸"), bold(issuer)))
}

/// Empties the outbox onto the terminal, through the same messages that mail would carry.
/// Each is followed by the pages' address, which a long one has scrolled away.
async fn print_alerts(db: Db, clock: Arc<dyn Clock>, rules: Arc<RuleSet>, pages: String, stop: CancellationToken) {
    let queue = Whole(db);
    let documents = connect::message_documents(rules);
    while !stop.is_cancelled() {
        let now = clock.now();
        for alert in queue.claim(now, Duration::minutes(1), 16).await.unwrap_or_default() {
            let message = notify::render(&alert.notice, &|id| documents(id), chrono_tz::UTC);
            let outcome = match print(&format!("{}{} {pages}\n\n", letter(&message), faint("▸ pages:"))) {
                Ok(()) => Outcome::Delivered,
                Err(error) => Outcome::Dead { error: error.to_string() },
            };
            if let Err(error) = queue.settle(alert.id, clock.now(), outcome).await {
                talk(&format!("an alert could not be settled: {error}"));
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock.sleep_until(clock.now() + Duration::milliseconds(250)) => {}
        }
    }
}

/// How wide an alert's frame is; with its border it fits a terminal of 100 columns.
const FRAME: usize = 96;

/// A message as it would be sent, in a frame that its long lines stay within.
fn letter(message: &Message) -> String {
    let rule = "─".repeat(FRAME);
    let framed = |text: &str| text.lines().flat_map(folded).map(|line| format!("│ {line}\n")).collect::<String>();
    let subject: String = folded(&message.subject).iter().map(|line| format!("│ {}\n", bold(line))).collect();
    format!("\n┌{rule}\n{subject}├{rule}\n{}└{rule}\n", framed(&message.text))
}

/// One line as lines that fit the frame; what follows stands below the text, beside the label.
fn folded(line: &str) -> Vec<String> {
    let margin = " ".repeat(hanging(line));
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while let Some((end, _)) = rest.char_indices().nth(FRAME - 1) {
        // A word longer than a line is cut.
        let cut = rest[..end].rfind(' ').filter(|cut| *cut > margin.len()).unwrap_or(end);
        lines.push(rest[..cut].trim_end().to_owned());
        rest = format!("{margin}{}", rest[cut..].trim_start());
    }
    lines.push(rest);
    lines
}

/// The column in which the text of a line begins: after its margin, and after a label or a bullet.
fn hanging(line: &str) -> usize {
    let margin = line.len() - line.trim_start().len();
    let text = &line[margin..];
    if text.starts_with("- ") {
        return margin + 2;
    }
    match text.find(':').filter(|colon| margin + colon < 16) {
        Some(colon) => {
            let value = text[colon + 1..].trim_start();
            if value.is_empty() { margin } else { line.len() - value.len() }
        }
        None => margin,
    }
}

async fn keep_report(db: &Db, rules: &Arc<RuleSet>, clock: &dyn Clock) -> anyhow::Result<PathBuf> {
    let (rules, generated) = (Arc::clone(rules), clock.now());
    let report = db
        .read(move |store| {
            let options = report::Options {
                issuer: None,
                since: None,
                until: None,
                tz: chrono_tz::UTC,
                generated,
                rule_text: &|id| connect::rule_text(&rules, id),
            };
            report::gather(store, options)
        })
        .await?;
    let mut file = tempfile::Builder::new().prefix("issuerwatch-demo-").suffix(".html").tempfile().context("making the report's file")?;
    file.write_all(html::render(&report)?.as_bytes()).context("writing the report")?;
    let (_, path) = file.keep().context("keeping the report")?;
    Ok(path)
}

/// How each issuer stands at the end.
async fn summary(db: &Db) -> anyhow::Result<String> {
    let (rows, incidents) = db.read(|store| Ok((store.issuers()?, store.incidents(&Filter::default())?))).await?;
    let mut out = format!("\n{}\n", bold("How they stand"));
    for row in rows {
        let grade = row.standing.grade.map_or("-", crate::model::Grade::letter);
        let told = incidents.iter().filter(|incident| incident.issuer == row.issuer && incident.last_told.is_some()).count();
        let seen = row.ledger.keys.len();
        let noun = if told == 1 { "incident" } else { "incidents" };
        out.push_str(&format!("  grade {grade}  {:<16} {seen} keys seen, {told} {noun} told\n", visible(row.issuer.as_str(), 60)));
    }
    Ok(out)
}
