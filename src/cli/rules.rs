//! `rules list` and `rules show`: the catalogue.

use clap::{Args, Subcommand};

use super::output::{bold, faint, print, print_json, severity, wrap};
use super::{Done, Exit, Format, usage};
use crate::rules::{Document, RuleSet};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// All rules
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// One rule with its text
    Show {
        /// family/defect
        id: String,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Run the examples of own rules
    Test {
        /// Where the rules are
        dir: std::path::PathBuf,
    },
}

pub(super) fn rules(options: &Options) -> Done {
    let rules = RuleSet::builtin()?;
    match &options.command {
        Command::List { format: Format::Json } => print_json(&rules.iter().map(|rule| json(&rule.document)).collect())?,
        Command::List { format: Format::Text } => {
            for rule in rules.iter() {
                print(&format!("{} {:<36} {}\n", severity(rule.document.severity), rule.document.id, rule.document.title))?;
            }
        }
        Command::Show { id, format } => {
            let rule = rules.find(id).ok_or_else(|| usage(super::connect::unknown_rule(&rules, id)))?;
            match format {
                Format::Json => print_json(&json(&rule.document))?,
                Format::Text => print(&text(&rule.document))?,
            }
        }
        Command::Test { .. } => return Err(usage("`rules test` is not in this version")),
    }
    Ok(Exit::Clean)
}

fn json(document: &Document) -> serde_json::Value {
    let cites: Vec<serde_json::Value> =
        document.cites.iter().map(|cite| serde_json::json!({"text": cite.text, "verified": cite.verified, "url": cite.url})).collect();
    serde_json::json!({
        "id": document.id,
        "family": document.family(),
        "title": document.title,
        "severity": document.severity,
        "cases": document.cases,
        "cites": cites,
        "controls": document.controls,
        "description": document.description,
        "remediation": document.remediation,
        "profiles": document.profiles,
        "parameters": document.parameters,
        "since": document.since,
        "aliases": document.aliases,
    })
}

fn text(document: &Document) -> String {
    let mut out = format!("{} {}\n{}\n\n", severity(document.severity), bold(&document.id), document.title);
    for (case, of) in &document.cases {
        out.push_str(&format!("  {} where {}\n", severity(*of), case.replace('-', " ")));
    }
    if !document.cases.is_empty() {
        out.push('\n');
    }
    for paragraph in document.description.split("\n\n") {
        out.push_str(&wrap(&paragraph.replace('\n', " "), "  ", 96));
        out.push('\n');
    }
    out.push_str(&format!("{}\n", bold("Remediation")));
    for paragraph in document.remediation.split("\n\n") {
        out.push_str(&wrap(paragraph, "  ", 96));
    }
    out.push_str(&format!("\n{}\n", bold("Citations")));
    for cite in &document.cites {
        let unverified = if cite.verified { "" } else { " (unverified)" };
        out.push_str(&format!("  {}{unverified} {}\n", cite.text, faint(cite.url.as_deref().unwrap_or(""))));
    }
    out.push_str(&format!("\n{}\n", bold("Controls (our mapping)")));
    for control in &document.controls {
        out.push_str(&wrap(&format!("- {control}"), "  ", 96));
    }
    if !document.parameters.is_empty() {
        out.push_str(&format!("\n{} {}\n", bold("Parameters"), document.parameters.join(", ")));
    }
    out
}
