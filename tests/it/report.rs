//! The audit report, from a store to one HTML file.

use chrono::Duration;
use issuerwatch::model::{Channel, FindingState, Grade, IssuerId, Severity};
use issuerwatch::report::{self, Options, Report, Sight};

use crate::estate::{self, Memory, at, begin, now};

fn options() -> Options<'static> {
    Options { issuer: None, since: None, until: None, tz: chrono_tz::UTC, generated: now(), rule_text: &estate::rule_text }
}

fn demo() -> Report {
    report::gather(&mut estate::demo(), options()).unwrap()
}

fn section<'a>(report: &'a Report, id: &str) -> &'a report::IssuerSection {
    report.issuers.iter().find(|issuer| issuer.id.as_str() == id).unwrap()
}

#[test]
fn the_demo_report_is_written_for_the_eye() {
    let html = report::html::render(&demo()).unwrap();
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html"), html).unwrap();
}
