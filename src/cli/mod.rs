//! The command line: one file per command. It wires the parts together; nothing here judges.
//!
//! stdout is data, stderr is talk.

mod acts;
mod channels;
mod check;
mod config;
mod connect;
mod demo;
mod history;
mod output;
mod replay;
mod report;
mod rules;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::Problems;
use crate::model::Severity;

/// How a command ended (interface.md, "Exit codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Clean,
    /// Findings at or above the threshold; of other commands: it failed.
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// Something asked for could not be observed.
    Unobserved,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Clean => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::Unobserved => Self::from(3),
        }
    }
}

/// An error with the exit code it means.
#[derive(Debug)]
struct Wrong {
    exit: Exit,
    text: String,
    /// The text has a title, a place and colours of its own.
    rendered: bool,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Wrong {}

/// Wrong usage or configuration: exit 2.
fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Wrong { exit: Exit::Usage, text: text.into(), rendered: false })
}

/// A wrong configuration, every problem with its place: exit 2.
fn problems(problems: &Problems) -> anyhow::Error {
    anyhow::Error::new(Wrong { exit: Exit::Usage, text: problems.render(true), rendered: true })
}

/// Something asked for could not be read or observed: exit 3.
fn unobserved(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Wrong { exit: Exit::Unobserved, text: text.into(), rendered: false })
}

type Done = anyhow::Result<Exit>;

/// Watches what JWKS and OpenID Connect endpoints publish, keeps the history, and judges it.
#[derive(Parser)]
#[command(name = "issuerwatch", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show everything, offline, in one process: simulated issuers, the monitor, its pages, alerts and report
    Demo(demo::Options),
    /// Watch the configured issuers until told to stop
    Run(run::Options),
    /// Look once at issuers or files, judge, print
    Check(check::Options),
    /// Judge an archive of observations as if polled then
    Replay(replay::Options),
    /// What happened at an issuer
    History(history::HistoryOptions),
    /// Every key ever seen, and when
    Keys(history::KeysOptions),
    /// Announce a key before it appears
    Expect(acts::ExpectOptions),
    /// Accept a key that appeared, or what an incident reports
    Approve(acts::ApproveOptions),
    /// List incidents, or show one
    Incidents(history::IncidentsOptions),
    /// Write the audit report
    Report(report::Options),
    /// The catalogue of rules
    Rules(rules::Options),
    /// Start, check or describe the configuration
    Config(config::Options),
    /// Test the channels
    Channels(channels::Options),
    #[command(flatten)]
    Later(Later),
}

/// Commands of the interface that no version has brought yet; they take anything and say so.
#[derive(Subcommand)]
enum Later {
    #[command(hide = true, disable_help_flag = true)]
    Export(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Import(Anything),
    #[command(hide = true, disable_help_flag = true)]
    At(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Diff(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Rotations(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Ack(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Silence(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Waive(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Alerts(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Verify(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Backup(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Prune(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Completions(Anything),
    #[command(hide = true, disable_help_flag = true)]
    Man(Anything),
}

#[derive(Args, Debug)]
struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

impl Later {
    fn name(&self) -> &'static str {
        match self {
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::At(_) => "at",
            Self::Diff(_) => "diff",
            Self::Rotations(_) => "rotations",
            Self::Ack(_) => "ack",
            Self::Silence(_) => "silence",
            Self::Waive(_) => "waive",
            Self::Alerts(_) => "alerts",
            Self::Verify(_) => "verify",
            Self::Backup(_) => "backup",
            Self::Prune(_) => "prune",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

/// Which store a reading command reads.
#[derive(Args, Debug, Clone)]
struct StoreOptions {
    /// The configuration that names the database [default: ./issuerwatch.toml]
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// The database itself
    #[arg(long, value_name = "F", conflicts_with = "config")]
    db: Option<PathBuf>,
}

/// How data is printed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Format {
    #[default]
    Text,
    Json,
}

/// From which severity on a command exits with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FailOn(Option<Severity>);

impl std::str::FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            name => Severity::from_name(name)
                .map(|severity| Self(Some(severity)))
                .ok_or_else(|| "expected critical, high, medium, low, info or none".to_owned()),
        }
    }
}

impl FailOn {
    fn fails(self, severity: Severity) -> bool {
        self.0.is_some_and(|threshold| severity >= threshold)
    }
}

/// Parses the arguments, does the work, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Clean };
            // A closed pipe is the reader's choice.
            let _ = error.print();
            return exit.into();
        }
    };
    let done = match cli.command {
        Command::Demo(options) => demo::demo(&options),
        Command::Run(options) => run::run(&options),
        Command::Check(options) => check::check(&options),
        Command::Replay(options) => replay::replay(&options),
        Command::History(options) => history::history(&options),
        Command::Keys(options) => history::keys(&options),
        Command::Expect(options) => acts::expect(&options),
        Command::Approve(options) => acts::approve(&options),
        Command::Incidents(options) => history::incidents(&options),
        Command::Report(options) => report::report(&options),
        Command::Rules(options) => rules::rules(&options),
        Command::Config(options) => config::config(&options),
        Command::Channels(options) => channels::channels(&options),
        Command::Later(later) => Err(usage(format!("`{}` is not in this version", later.name()))),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            let wrong = error.downcast_ref::<Wrong>();
            match wrong.filter(|wrong| wrong.rendered) {
                Some(wrong) => output::talk(&wrong.text),
                None => output::talk_plainly(&format!("error: {error:#}")),
            }
            wrong.map_or(Exit::Failed, |wrong| wrong.exit).into()
        }
    }
}

/// The command line's definition, for completions, the manual and tests.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}
