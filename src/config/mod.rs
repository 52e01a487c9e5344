//! The configuration file (interface.md, "Configuration"): read once, checked whole, valid by construction afterwards.
//!
//! Every problem is found at once. The only module that reads the environment. Nothing but `cli` imports it: the other
//! parts receive the values they need.

mod build;
mod environment;
mod policy;
mod problem;
mod raw;
mod reader;
mod schema;
mod secret;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use toml::de::DeTable;
use url::Url;

pub use environment::{log_filter, login_name};
pub use problem::{Place, Problem, Problems};
pub use schema::schema;
pub use secret::{Environment, Secret};

use crate::cadence::Cadence;
use crate::model::Issuer;
use crate::policy::{Limits, Policy};
use problem::Source;
use reader::Desk;

/// A configuration without a problem.
#[derive(Debug, Clone)]
pub struct Config {
    pub monitor: Monitor,
    pub limits: Limits,
    /// Whether alerts are sent; `false` with `alerts = "none"`: then no policy has a destination.
    pub alerts: bool,
    pub watches: Vec<Watch>,
    /// Empty where secrets were not read ([`load_without_secrets`]).
    pub channels: Vec<Channel>,
    pub reports: Vec<ReportSchedule>,
    /// The policy of `[policy]` alone, for issuers that the file does not name.
    pub policy: Arc<Policy>,
    rules: Vec<(String, Place)>,
    source: Source,
    runnable: Vec<Problem>,
}

/// `[monitor]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Monitor {
    pub database: DatabaseUrl,
    /// `None`: no web pages.
    pub listen: Option<SocketAddr>,
    pub timezone: Tz,
    pub concurrency: usize,
    pub per_host: usize,
    pub proxy: Option<Url>,
    /// A readable file with at least one certificate.
    pub ca_file: Option<PathBuf>,
}

/// Where the history is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
}

/// One issuer, how it is judged and when it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    pub issuer: Issuer,
    /// Defaults < `[policy]` < `[issuer.policy]`; shared by all issuers without one of their own.
    pub policy: Arc<Policy>,
    pub cadence: Cadence,
}

/// One `[[channel]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    pub id: String,
    pub kind: ChannelKind,
}

/// How a channel delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelKind {
    Webhook {
        /// https, or http to loopback; as secret as its path may be.
        url: Secret,
        /// `whsec_` and base64; at least one. All of them sign.
        secrets: Vec<Secret>,
    },
    Email(Email),
}

/// A mail server and whom it serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    pub server: String,
    pub port: u16,
    pub tls: Tls,
    pub credentials: Option<Credentials>,
    /// A readable file with at least one certificate.
    pub ca_file: Option<PathBuf>,
    pub from: String,
    /// At least one, without repetition.
    pub to: Vec<String>,
}

/// How the connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Implicit,
    Starttls,
    /// To loopback only.
    None,
}

/// For SMTP AUTH.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
}

/// One `[[report]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportSchedule {
    pub cadence: Cadence,
    pub period: Duration,
    pub format: ReportFormat,
    /// Ids of channels that exist.
    pub channels: Vec<String>,
}

/// The formats of scheduled reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    Html,
}

/// A schedule and its next times, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Upcoming {
    /// `acme, beta every 5m`.
    pub what: String,
    /// In the configured time zone; fewer than three where it ends before.
    pub next: Vec<DateTime<Tz>>,
}

/// Reads and checks a configuration file, its secrets included.
///
/// # Errors
/// All problems of the file at once, or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(path, true)
}

/// The same for commands that send nothing: secrets need not be there, and `channels` is empty.
///
/// # Errors
/// All problems of the file at once, or that it cannot be read.
pub fn load_without_secrets(path: &Path) -> Result<Config, Problems> {
    load_with(path, false)
}

fn load_with(path: &Path, secrets: bool) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let unreadable = |message: String, write: &str| {
        let source = Source::new(&name, "", &[]);
        source.problems(vec![source.problem(None, message, write)]).map_or_else(|| unreachable!("one problem was given"), Err)
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return unreadable(
                format!("cannot read the configuration {name}: {error}"),
                "name another with --config, or write a starter with `issuerwatch config init`",
            );
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return unreadable(format!("the configuration {name} is not UTF-8 text"), "save it as UTF-8");
    };
    let dir = path.parent().unwrap_or(Path::new(""));
    read(&text, dir, &name, &secret::process_environment, secrets)
}

/// Reads and checks a configuration's text; relative paths in it start at `dir`, problems call it `name`.
///
/// # Errors
/// All problems at once.
pub fn parse(text: &str, dir: &Path, name: &str) -> Result<Config, Problems> {
    parse_in(text, dir, name, &secret::process_environment)
}

/// The same with another environment than that of the process.
///
/// # Errors
/// All problems at once.
pub fn parse_in(text: &str, dir: &Path, name: &str, environment: Environment<'_>) -> Result<Config, Problems> {
    read(text, dir, name, environment, true)
}

fn read(text: &str, dir: &Path, name: &str, environment: Environment<'_>, secrets: bool) -> Result<Config, Problems> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let desk = Desk { text, dir, environment, secrets, notes: Vec::new().into(), blots: Vec::new().into() };
    let draft = build::build(&desk, document.get_ref(), document.span());
    let mut notes = desk.notes.take();
    let mut blots = desk.blots.take();

    // What stands before the first error of syntax is read as it is meant; what follows may be torn apart.
    let spans: Vec<_> = errors.iter().map(|error| error.span().unwrap_or(text.len()..text.len())).collect();
    if let Some(first) = spans.iter().map(|span| line_of(text, span.start).start).min() {
        notes.retain(|note| !note.missing && note.span.end <= first);
        blots.extend(spans.iter().filter_map(|span| secret_on(text, line_of(text, span.start))));
    }
    let source = Source::new(name, text, &blots);
    let mut problems: Vec<_> = notes.into_iter().map(|note| note.problem(&source)).collect();
    for (error, span) in errors.iter().zip(spans) {
        problems.push(source.problem(Some(span), error.message(), "this is not TOML: write name = value, texts in quotes"));
    }
    match source.problems(problems) {
        Some(problems) => Err(problems),
        None => Ok(draft.finish(source)),
    }
}

fn line_of(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start = text.as_bytes()[..at].iter().rposition(|octet| *octet == b'\n').map_or(0, |newline| newline + 1);
    let end = text.as_bytes()[at..].iter().position(|octet| *octet == b'\n').map_or(text.len(), |newline| at + newline);
    start..end
}

/// The part of a line that cannot be read as TOML but may be a secret: what stands after the name of one.
fn secret_on(text: &str, line: Range<usize>) -> Option<Range<usize>> {
    let shown = text.get(line.clone())?.to_ascii_lowercase();
    let name = ["password", "secret", "private_key", "heartbeat"].iter().filter_map(|name| shown.find(name)).min()?;
    let value = name + shown[name..].find('=')? + 1;
    Some(line.start + value..line.end)
}

/// The commented starter that `config init` writes; it names every option.
#[must_use]
pub fn example() -> &'static str {
    include_str!("example.toml")
}

impl Config {
    /// What only `run` needs: an issuer, and a channel unless alerts are off.
    ///
    /// # Errors
    /// What is missing, with the words to write.
    pub fn runnable(&self) -> Result<(), Problems> {
        self.source.problems(self.runnable.clone()).map_or(Ok(()), Err)
    }

    /// The rule ids that severities and routes name, with their places.
    #[must_use]
    pub fn rule_ids(&self) -> &[(String, Place)] {
        &self.rules
    }

    /// Whether every rule id that the file names is one of the catalogue's, which this module does not know.
    ///
    /// # Errors
    /// The unknown ones, with a suggestion.
    pub fn check_rules(&self, known: &[&str]) -> Result<(), Problems> {
        let unknown = self.rules.iter().filter(|(rule, _)| !known.contains(&rule.as_str()));
        let problems = unknown.map(|(rule, place)| {
            let write = match reader::nearest(rule, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "`issuerwatch rules list` names them all".to_owned(),
            };
            self.source.problem(Some(place.0.clone()), format!("there is no rule \"{rule}\""), write)
        });
        self.source.problems(problems.collect()).map_or(Ok(()), Err)
    }

    /// Every schedule with its next three times; issuers with the same one stand together.
    #[must_use]
    pub fn schedules(&self, now: DateTime<Utc>) -> Vec<Upcoming> {
        let mut groups: Vec<(&Cadence, Vec<&str>)> = Vec::new();
        for watch in &self.watches {
            match groups.iter_mut().find(|(cadence, _)| **cadence == watch.cadence) {
                Some((_, issuers)) => issuers.push(watch.issuer.id.as_str()),
                None => groups.push((&watch.cadence, vec![watch.issuer.id.as_str()])),
            }
        }
        let issuers = groups.into_iter().map(|(cadence, ids)| (several(&ids), cadence));
        let reports = self.reports.iter().map(|report| (format!("report to {}", report.channels.join(", ")), &report.cadence));
        let tz = self.monitor.timezone;
        issuers
            .chain(reports)
            .map(|(who, cadence)| {
                let times = std::iter::successors(cadence.next_after(now, tz), |at| cadence.next_after(*at, tz));
                Upcoming { what: format!("{who} {cadence}"), next: times.take(3).map(|at| at.with_timezone(&tz)).collect() }
            })
            .collect()
    }
}

fn several(ids: &[&str]) -> String {
    match ids {
        [_, _, _, _, ..] => format!("{} issuers ({}, {}, …)", ids.len(), ids[0], ids[1]),
        _ => ids.join(", "),
    }
}
