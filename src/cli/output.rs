//! Printing: data to stdout, talk to stderr, colour only where a person reads.

use std::io::Write as _;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context as _;

use crate::model::{Severity, visible, visible_json};

/// Whether stderr is a terminal that shows colours, and nobody asked for none.
pub(super) fn talks_in_colour() -> bool {
    AutoStream::choice(&std::io::stderr()) != ColorChoice::Never
}

/// A sentence for the person at the terminal.
pub(super) fn talk(text: &str) {
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// The same of a text that may repeat what others wrote: line ends stay, nothing else hides.
pub(super) fn talk_plainly(text: &str) {
    let lines: Vec<String> = text.lines().map(|line| visible(line, 2000)).collect();
    talk(&lines.join("\n"));
}

/// Data for stdout; colours are taken out where it is no terminal (or `NO_COLOR` is set).
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = AutoStream::new(std::io::stdout(), ColorChoice::Auto);
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("writing to stdout"),
    }
}

/// A JSON value on stdout, readable.
pub(super) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&visible_json(&format!("{value:#}\n")))
}

/// The severity as a word in its colour, padded to the longest.
pub(super) fn severity(severity: Severity) -> String {
    let style = match severity {
        Severity::Critical => "\u{1b}[1;37;41m",
        Severity::High => "\u{1b}[1;31m",
        Severity::Medium => "\u{1b}[33m",
        Severity::Low => "\u{1b}[36m",
        Severity::Info => "\u{1b}[2m",
    };
    format!("{style}{:<8}\u{1b}[0m", severity.name())
}

pub(super) fn bold(text: &str) -> String {
    format!("\u{1b}[1m{text}\u{1b}[0m")
}

pub(super) fn faint(text: &str) -> String {
    format!("\u{1b}[2m{text}\u{1b}[0m")
}

/// Wraps prose to a width, each line with an indent; the items of a list (`1. `, `- `) hang.
pub(super) fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    for paragraph in text.split('\n').filter(|line| !line.trim().is_empty()) {
        let hang = hang(paragraph);
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.trim().is_empty() && line.chars().count() + word.chars().count() + 1 > width {
                out.push_str(&format!("{indent}{line}\n"));
                line = " ".repeat(hang);
                line.push_str(word);
                continue;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(&format!("{indent}{line}\n"));
    }
    out
}

/// How far a list item's further lines go in: the width of its mark.
fn hang(paragraph: &str) -> usize {
    let mark = paragraph.split_whitespace().next().unwrap_or_default();
    let number = mark.strip_suffix('.').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()));
    if number || mark == "-" { mark.len() + 1 } else { 0 }
}
