//! `config init|check|schema`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::output::{print, print_json, talk};
use super::{Done, Exit, connect, problems, usage};
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::model::visible;
use crate::rules::RuleSet;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a commented starter
    Init {
        /// Where to (`-`: stdout); an existing file is left alone
        #[arg(default_value = "issuerwatch.toml")]
        file: PathBuf,
    },
    /// Show all problems at once, and the next three times of each schedule
    Check {
        /// The configuration [default: ./issuerwatch.toml]
        #[arg(long, value_name = "F")]
        config: Option<PathBuf>,
        /// The same, as an argument
        #[arg(conflicts_with = "config")]
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration
    Schema,
}

pub(super) fn config(options: &Options) -> Done {
    match &options.command {
        Command::Init { file } if file.as_os_str() == "-" => print(config::example())?,
        Command::Init { file } => {
            use std::io::Write as _;
            let mut out = std::fs::File::create_new(file)
                .map_err(|error| usage(format!("{}: {error}; an existing file is left alone", file.display())))?;
            out.write_all(config::example().as_bytes()).with_context(|| format!("writing {}", file.display()))?;
            talk(&format!("wrote {}; name your issuers and channels in it, then run `issuerwatch config check`", file.display()));
        }
        Command::Check { config, file } => {
            let rules = RuleSet::builtin()?;
            let config = connect::load_config(config.as_deref().or(file.as_deref()), &rules)?;
            config.runnable().map_err(|wrong| problems(&wrong))?;
            super::run::buildable(&config)?;
            let now = SystemClock.now();
            for upcoming in config.schedules(now) {
                let times: Vec<String> = upcoming.next.iter().map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).collect();
                print(&format!("{}: next {}\n", visible(&upcoming.what, 300), times.join(", ")))?;
            }
            talk(&format!(
                "the configuration is good: {} issuers, {} channels, {} reports",
                config.watches.len(),
                config.channels.len(),
                config.reports.len()
            ));
        }
        Command::Schema => print_json(&config::schema())?,
    }
    Ok(Exit::Clean)
}
