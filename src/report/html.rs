//! The report as one HTML file: no script, no external asset, for the screen, for paper and for the dark.
//!
//! Every text goes through askama's escaping, and every text from an issuer through [`visible`] before.

use std::collections::BTreeMap;

use askama::Template;
use chrono::{DateTime, Utc};

use super::timeline::{self, Timeline, Window};
use super::{Availability, IssuerSection, Outage, Report, Sight, prose};
use crate::ledger::KeyRecord;
use crate::model::{Certainty, Channel, Finding, FindingState, Grade, Severity, Thumbprint, visible};

/// Findings of one rule listed in full for one issuer.
const FINDINGS_LISTED: usize = 20;
const RESOLVED_LISTED: usize = 25;
/// Rows of an issuer's key table.
const KEYS_LISTED: usize = 16;
/// Rows of the list of urgent findings on the first page.
const URGENT_LISTED: usize = 25;

/// Draws a report.
///
/// # Errors
/// A template fails, which only a bug makes happen.
pub fn render(report: &Report) -> Result<String, askama::Error> {
    Page::of(report).render()
}

#[derive(Template)]
#[template(path = "report/report.html")]
struct Page<'a> {
    report: &'a Report,
    issuers: Vec<Section<'a>>,
    grades: Vec<(&'static str, usize)>,
    severities: Vec<(Severity, usize)>,
    findings: usize,
    keys: usize,
    /// Findings of severity high and above, worst first.
    urgent: Vec<Urgent<'a>>,
    urgent_left_out: usize,
    /// Issuers that cannot be looked at, and since when.
    blind: Vec<(String, String)>,
    retired: usize,
    /// Why rules were not judged, with how many issuers and rules.
    gaps: Vec<(&'a str, usize, usize)>,
}

struct Urgent<'a> {
    anchor: String,
    issuer: String,
    title: String,
    finding: &'a Finding,
}

/// One issuer with everything prepared for the template.
struct Section<'a> {
    issuer: &'a IssuerSection,
    anchor: String,
    id: String,
    address: String,
    about: Vec<(&'static str, String)>,
    sight: Option<String>,
    groups: Vec<Group<'a>>,
    timeline: Option<Timeline>,
    keys: Vec<KeyRow<'a>>,
    keys_left_out: usize,
    /// Rules by the reason for which they were not judged.
    gaps: BTreeMap<&'a str, Vec<&'a str>>,
    resolved: Vec<(String, &'a Finding)>,
    resolved_left_out: usize,
}

/// The findings of one rule at one issuer.
struct Group<'a> {
    rule: &'a str,
    title: String,
    severity: Severity,
    cites: Vec<(&'a str, bool)>,
    controls: &'a [String],
    remediation: Vec<prose::Block>,
    findings: Vec<&'a Finding>,
    left_out: usize,
}

struct KeyRow<'a> {
    label: String,
    thumbprint: &'a Thumbprint,
    kind: String,
    key: &'a KeyRecord,
}

impl<'a> Page<'a> {
    fn of(report: &'a Report) -> Self {
        let window = Window::new(report.since, report.until, report.tz);
        let watched = || report.issuers.iter().filter(|issuer| !issuer.retired);
        let of_grade = |grade: Option<Grade>| watched().filter(|issuer| issuer.standing.grade == grade).count();
        let (urgent, urgent_left_out) = urgent(report);
        Self {
            issuers: (1..).zip(&report.issuers).map(|(number, issuer)| Section::of(number, issuer, report, window)).collect(),
            grades: [Grade::A, Grade::B, Grade::C, Grade::D, Grade::F]
                .into_iter()
                .map(|grade| (grade.letter(), of_grade(Some(grade))))
                .chain([("–", of_grade(None))])
                .collect(),
            severities: Severity::ALL.into_iter().map(|level| (level, watched().map(|issuer| issuer.count(level)).sum())).collect(),
            findings: watched().map(|issuer| issuer.open.len()).sum(),
            keys: watched().map(IssuerSection::keys_now).sum(),
            blind: watched().filter_map(|issuer| Some((visible(issuer.id.as_str(), 80), sight(issuer, report)?))).collect(),
            retired: report.issuers.iter().filter(|issuer| issuer.retired).count(),
            gaps: gaps(report),
            urgent,
            urgent_left_out,
            report,
        }
    }

    /// A time to the minute; to the second where the whole period is short.
    fn time(&self, at: &DateTime<Utc>) -> String {
        let short = self.report.until - self.report.since < chrono::Duration::hours(1);
        at.with_timezone(&self.report.tz).format(if short { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string()
    }

    fn maybe_time(&self, at: &Option<DateTime<Utc>>) -> String {
        at.map_or_else(|| "never".to_owned(), |at| self.time(&at))
    }

    fn first_seen(&self, key: &KeyRecord) -> String {
        key.first_seen().map_or_else(String::new, |at| self.time(&at))
    }

    fn last_seen(&self, key: &KeyRecord, issuer: &IssuerSection) -> String {
        key.last_seen(issuer.ledger.jwks.last_ok).map_or_else(String::new, |at| self.time(&at))
    }

    fn watched(&self) -> usize {
        self.report.issuers.len() - self.retired
    }

    fn worst_grade(&self) -> Option<&'static str> {
        self.grades.iter().rev().skip(1).find(|(_, count)| *count > 0).map(|(letter, _)| *letter)
    }
}

fn urgent(report: &Report) -> (Vec<Urgent<'_>>, usize) {
    let mut found: Vec<(usize, &IssuerSection, &Finding)> = Vec::new();
    for (number, issuer) in (1..).zip(&report.issuers).filter(|(_, issuer)| !issuer.retired) {
        found.extend(issuer.open.iter().filter(|finding| finding.severity >= Severity::High).map(|finding| (number, issuer, finding)));
    }
    found.sort_by_key(|(_, _, finding)| std::cmp::Reverse(finding.severity));
    let left_out = found.len().saturating_sub(URGENT_LISTED);
    let rows = found.into_iter().take(URGENT_LISTED).map(|(number, issuer, finding)| Urgent {
        anchor: anchor(number),
        issuer: visible(issuer.id.as_str(), 60),
        title: title(report, &finding.rule),
        finding,
    });
    (rows.collect(), left_out)
}

/// The reasons for which rules were not judged: how many issuers, how many rules; commonest first.
fn gaps(report: &Report) -> Vec<(&str, usize, usize)> {
    let mut by_reason: BTreeMap<&str, (usize, std::collections::BTreeSet<&str>)> = BTreeMap::new();
    for issuer in report.issuers.iter().filter(|issuer| !issuer.retired) {
        for (reason, rules) in gaps_of(issuer) {
            let gap = by_reason.entry(reason).or_default();
            gap.0 += 1;
            gap.1.extend(rules);
        }
    }
    let mut gaps: Vec<_> = by_reason.into_iter().map(|(reason, (issuers, rules))| (reason, issuers, rules.len())).collect();
    gaps.sort_by_key(|(reason, issuers, rules)| (std::cmp::Reverse((*issuers, *rules)), *reason));
    gaps.truncate(20);
    gaps
}

fn gaps_of(issuer: &IssuerSection) -> BTreeMap<&str, Vec<&str>> {
    let mut gaps: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for gap in &issuer.standing.not_evaluated {
        gaps.entry(gap.reason.as_str()).or_default().push(gap.rule.as_str());
    }
    gaps
}

fn anchor(number: usize) -> String {
    format!("issuer-{number}")
}

fn title(report: &Report, rule: &str) -> String {
    report.rules.get(rule).map_or_else(|| visible(rule, 80), |text| text.title.clone())
}

/// Why an issuer is not in sight; `None` where it is.
fn sight(issuer: &IssuerSection, report: &Report) -> Option<String> {
    let shown = |at: DateTime<Utc>| at.with_timezone(&report.tz).format("%Y-%m-%d %H:%M");
    match issuer.sight() {
        Sight::Seen => None,
        Sight::NotSeenSince(at) => Some(format!("Not seen since {}", shown(at))),
        Sight::NeverSeen => {
            let since = issuer.first_polled.map(|at| format!("; polled since {}", shown(at))).unwrap_or_default();
            Some(format!("Never seen{since}"))
        }
        Sight::NotPolled => Some("Not polled yet".to_owned()),
    }
}

impl<'a> Section<'a> {
    fn of(number: usize, issuer: &'a IssuerSection, report: &'a Report, window: Window) -> Self {
        let from = issuer.first_polled.map_or(window, |first| Window::new(window.since.max(first), window.until, window.tz));
        let keys = timeline::listed(&issuer.ledger, from);
        let about = &issuer.about;
        let labels: Vec<String> = about.labels.iter().map(|(name, value)| visible(&format!("{name}={value}"), 60)).collect();
        let facts = [
            ("Owner", about.owner.as_deref().map(|owner| visible(owner, 120))),
            ("Labels", (!labels.is_empty()).then(|| labels.join(", "))),
        ];
        Self {
            anchor: anchor(number),
            id: visible(issuer.id.as_str(), 80),
            address: about.address().map(|url| visible(url, 300)).unwrap_or_default(),
            about: facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            sight: sight(issuer, report),
            groups: issuer.open.chunk_by(|a, b| a.rule == b.rule && a.severity == b.severity).map(|same| Group::of(same, report)).collect(),
            timeline: timeline::draw(&issuer.ledger, issuer.channel(Channel::Jwks), from),
            keys_left_out: keys.len().saturating_sub(KEYS_LISTED),
            keys: keys.into_iter().take(KEYS_LISTED).map(|(thumbprint, key)| KeyRow::of(thumbprint, key)).collect(),
            gaps: gaps_of(issuer),
            resolved: issuer.resolved.iter().take(RESOLVED_LISTED).map(|finding| (title(report, &finding.rule), finding)).collect(),
            resolved_left_out: issuer.resolved.len().saturating_sub(RESOLVED_LISTED),
            issuer,
        }
    }

    fn grade(&self) -> &'static str {
        self.issuer.standing.grade.map_or("–", Grade::letter)
    }

    fn availability(&self, channel: Channel) -> String {
        self.issuer.channel(channel).map_or_else(|| "–".to_owned(), Availability::percent)
    }

    /// Latest first; what failed for both documents alike is one line.
    fn outages(&self) -> Vec<(&'static str, &'a Outage)> {
        let of = |channel| self.issuer.channel(channel).map(|channel| channel.outages.as_slice()).unwrap_or_default();
        let (discovery, jwks) = (of(Channel::Discovery), of(Channel::Jwks));
        let name = |outage| if jwks.contains(outage) { "both" } else { "discovery" };
        let mut outages: Vec<_> = discovery.iter().map(|outage| (name(outage), outage)).collect();
        outages.extend(jwks.iter().filter(|outage| !discovery.contains(outage)).map(|outage| ("key set", outage)));
        outages.sort_by_key(|(_, outage)| std::cmp::Reverse(outage.from));
        outages
    }

    fn outages_left_out(&self) -> usize {
        self.issuer.availability.iter().map(|channel| channel.outages_left_out).sum()
    }
}

impl<'a> Group<'a> {
    /// Of findings of one rule and severity.
    fn of(same: &'a [Finding], report: &'a Report) -> Self {
        let rule = same[0].rule.as_str();
        let text = report.rules.get(rule);
        let cites = match text {
            Some(text) => text.cites.iter().map(|(cite, verified)| (cite.as_str(), *verified)).collect(),
            None => same[0].cites.iter().map(|cite| (cite.as_str(), true)).collect(),
        };
        Self {
            rule,
            title: title(report, rule),
            severity: same[0].severity,
            cites,
            controls: text.map(|text| text.controls.as_slice()).unwrap_or_default(),
            remediation: text.map(|text| prose::blocks(&text.remediation)).unwrap_or_default(),
            left_out: same.len().saturating_sub(FINDINGS_LISTED),
            findings: same.iter().take(FINDINGS_LISTED).collect(),
        }
    }
}

impl<'a> KeyRow<'a> {
    fn of(thumbprint: &'a Thumbprint, key: &'a KeyRecord) -> Self {
        Self { label: timeline::kid_label(key), thumbprint, kind: timeline::kind(key), key }
    }
}

/// The key a finding is about, in words.
fn subject(finding: &Finding) -> String {
    match (&finding.subject.kid, &finding.subject.thumbprint) {
        (Some(kid), Some(thumbprint)) => format!("key “{}”, {}", visible(kid, 60), visible(thumbprint.as_str(), 64)),
        (Some(kid), None) => format!("key ID “{}”", visible(kid, 60)),
        (None, Some(thumbprint)) => format!("key {}", visible(thumbprint.as_str(), 64)),
        (None, None) => String::new(),
    }
}

/// Where the evidence stands: `jwks /keys/0/n`.
fn place(finding: &Finding) -> String {
    let document = serde_json::to_value(finding.document).ok();
    let document = document.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
    format!("{document} {}", visible(&finding.pointer, 160)).trim_end().to_owned()
}

/// A finding's sentence, which may quote the issuer.
fn message(finding: &Finding) -> String {
    visible(&finding.message, 600)
}

fn remarks(finding: &Finding) -> Vec<&'static str> {
    let possible = (finding.certainty == Certainty::Possible).then_some("possible");
    let state = match finding.state {
        FindingState::Open => None,
        FindingState::Waived => Some("waived"),
        FindingState::Resolved => Some("resolved since"),
    };
    [possible, state].into_iter().flatten().collect()
}

/// The letter of a column.
fn initial(level: Severity) -> &'static str {
    match level {
        Severity::Critical => "C",
        Severity::High => "H",
        Severity::Medium => "M",
        Severity::Low => "L",
        Severity::Info => "I",
    }
}

/// `1 key`, `2 keys`.
fn plural(count: impl std::borrow::Borrow<usize>, one: &str) -> String {
    let count = *count.borrow();
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
