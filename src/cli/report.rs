//! `report`: the audit report, written to a file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::output::talk;
use super::{Done, Exit, StoreOptions, connect, usage};
use crate::clock::{Clock as _, SystemClock};
use crate::report::{self, html};
use crate::rules::RuleSet;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Only this issuer
    #[arg(long, value_name = "I")]
    issuer: Option<String>,
    /// From then on: RFC 3339, a date, or a duration ago (30d)
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// html
    #[arg(long, default_value = "html")]
    format: String,
    /// Where to write it (`-`: stdout)
    #[arg(short, value_name = "F")]
    output: PathBuf,
    #[command(flatten)]
    store: StoreOptions,
}

pub(super) fn report(options: &Options) -> Done {
    match options.format.as_str() {
        "html" => {}
        "json" | "csv" | "oscal" => return Err(usage(format!("`--format {}` is not in this version", options.format))),
        other => return Err(usage(format!("--format: \"{other}\" is not html, json, csv or oscal"))),
    }
    let rules = RuleSet::builtin()?;
    let mut source = connect::open(&options.store)?;
    let since = source.moment(options.since.as_deref())?;
    let issuer = options.issuer.as_deref().map(|id| source.known_issuer(id)).transpose()?;
    let wanted = report::Options {
        issuer,
        since,
        until: None,
        tz: source.timezone,
        generated: SystemClock.now(),
        rule_text: &|id| connect::rule_text(&rules, id),
    };
    let report = report::gather(&mut *source.store, wanted)?;
    let page = html::render(&report).context("drawing the report")?;
    if options.output == Path::new("-") {
        super::output::print(&page)?;
    } else {
        std::fs::write(&options.output, page).with_context(|| format!("writing {}", options.output.display()))?;
        talk(&format!("wrote {}", options.output.display()));
    }
    Ok(Exit::Clean)
}
