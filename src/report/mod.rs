//! The audit report: what the store knows of a period, gathered into one value that renderers draw.
//!
//! Nothing here judges, and nothing here reads a clock: grades and findings are those that were recorded, and what could
//! not be looked at is said to be so.

mod availability;
mod changes;
pub mod html;
mod prose;
mod timeline;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

pub use availability::{Availability, Outage};
pub use changes::Change;
pub use timeline::duration;

use crate::ledger::Ledger;
use crate::model::{About, Channel, Finding, FindingState, Grade, IssuerId, RuleText, Severity, Standing};
use crate::store::{Filter, IssuerRow, Span, Store, StoreError};

/// What to report on.
pub struct Options<'a> {
    /// One issuer only.
    pub issuer: Option<IssuerId>,
    /// The beginning of the period; `None`: of the recorded history.
    pub since: Option<DateTime<Utc>>,
    /// The end of the period; `None`: `generated`.
    pub until: Option<DateTime<Utc>>,
    /// In which times are shown.
    pub tz: Tz,
    /// The present.
    pub generated: DateTime<Utc>,
    /// The texts of a rule by its id; `None` for a rule that is no longer known.
    pub rule_text: &'a dyn Fn(&str) -> Option<RuleText>,
}

/// Everything a report says.
#[derive(Debug, Clone)]
pub struct Report {
    pub title: String,
    pub generated: DateTime<Utc>,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub tz: Tz,
    /// Of this program.
    pub version: String,
    /// Worst first, retired ones last.
    pub issuers: Vec<IssuerSection>,
    /// The texts of every rule that a finding or a gap names.
    pub rules: BTreeMap<String, RuleText>,
}

/// One issuer in the period.
#[derive(Debug, Clone)]
pub struct IssuerSection {
    pub id: IssuerId,
    pub about: About,
    /// No longer configured.
    pub retired: bool,
    /// As of the last poll.
    pub standing: Standing,
    /// Open or waived at the end of the period; worst first.
    pub open: Vec<Finding>,
    /// Resolved in the period, latest first.
    pub resolved: Vec<Finding>,
    /// Every key with its lives in bounds.
    pub ledger: Ledger,
    /// What changed, newest first; the latest of them.
    pub changes: Vec<Change>,
    pub changes_left_out: usize,
    /// Of each channel that was polled in the period.
    pub availability: Vec<Availability>,
    pub first_polled: Option<DateTime<Utc>>,
    pub last_polled: Option<DateTime<Utc>>,
    /// The last poll that had any answer.
    pub last_seen: Option<DateTime<Utc>>,
}

/// Whether we can look at an issuer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The last poll had an answer.
    Seen,
    /// No answer since.
    NotSeenSince(DateTime<Utc>),
    /// Polled, and never an answer.
    NeverSeen,
    /// Nothing was tried yet.
    NotPolled,
}

impl Sight {
    /// By the last poll and the last that had any answer.
    #[must_use]
    pub fn of(last_polled: Option<DateTime<Utc>>, last_seen: Option<DateTime<Utc>>) -> Self {
        match (last_polled, last_seen) {
            (None, _) => Self::NotPolled,
            (Some(_), None) => Self::NeverSeen,
            (Some(polled), Some(seen)) if seen < polled => Self::NotSeenSince(seen),
            _ => Self::Seen,
        }
    }
}

/// Reads a report out of the store.
///
/// # Errors
/// The store fails, or `options.issuer` names an issuer that it does not know.
#[expect(clippy::needless_pass_by_value, reason = "the options are made for one report")]
pub fn gather(store: &mut dyn Store, options: Options<'_>) -> Result<Report, StoreError> {
    let until = options.until.unwrap_or(options.generated);
    let mut rows = store.issuers()?;
    if let Some(wanted) = &options.issuer {
        rows.retain(|row| row.issuer == *wanted);
        if rows.is_empty() {
            return Err(StoreError::Refused(format!("the database knows no issuer \"{wanted}\"; the overview lists those it knows")));
        }
    }
    let (mut open, mut resolved) = findings(store, &options, until)?;
    let mut issuers = Vec::with_capacity(rows.len());
    for row in rows {
        let (open, resolved) = (open.remove(&row.issuer).unwrap_or_default(), resolved.remove(&row.issuer).unwrap_or_default());
        issuers.push(section(store, &options, until, row, open, resolved)?);
    }
    issuers.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| a.id.cmp(&b.id)));
    let since = options.since.or_else(|| issuers.iter().filter_map(|issuer| issuer.first_polled).min()).unwrap_or(until).min(until);
    Ok(Report {
        title: title(&options),
        generated: options.generated,
        since,
        until,
        tz: options.tz,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rules: rule_texts(&issuers, options.rule_text),
        issuers,
    })
}

fn title(options: &Options<'_>) -> String {
    match &options.issuer {
        Some(issuer) => format!("Signing keys and metadata of {}", crate::model::visible(issuer.as_str(), 80)),
        None => "Signing keys and metadata of token issuers".to_owned(),
    }
}

type ByIssuer = BTreeMap<IssuerId, Vec<Finding>>;

/// The findings open at the end of the period, and those resolved in it.
fn findings(store: &mut dyn Store, options: &Options<'_>, until: DateTime<Utc>) -> Result<(ByIssuer, ByIssuer), StoreError> {
    let filter =
        |since, states: &[FindingState]| Filter { issuer: options.issuer.clone(), since, until: None, states: Some(states.to_vec()) };
    let unresolved = store.findings(&filter(None, &[FindingState::Open, FindingState::Waived]))?;
    let resolved = store.findings(&filter(options.since, &[FindingState::Resolved]))?;
    // What was last seen after the period was still open at its end.
    let (open_then, resolved): (Vec<Finding>, Vec<Finding>) = resolved.into_iter().partition(|finding| finding.last_seen > until);
    let by_issuer = |findings: Vec<Finding>, order: fn(&Finding, &Finding) -> std::cmp::Ordering| {
        let mut map = ByIssuer::new();
        for finding in findings.into_iter().filter(|finding| finding.first_seen <= until) {
            map.entry(finding.issuer.clone()).or_default().push(finding);
        }
        map.values_mut().for_each(|findings| findings.sort_by(order));
        map
    };
    let open = unresolved.into_iter().chain(open_then).collect();
    Ok((
        by_issuer(open, |a, b| b.severity.cmp(&a.severity).then_with(|| a.rule.cmp(&b.rule)).then_with(|| a.first_seen.cmp(&b.first_seen))),
        by_issuer(resolved, |a, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.rule.cmp(&b.rule))),
    ))
}

fn section(
    store: &mut dyn Store,
    options: &Options<'_>,
    until: DateTime<Utc>,
    row: IssuerRow,
    open: Vec<Finding>,
    resolved: Vec<Finding>,
) -> Result<IssuerSection, StoreError> {
    // One issuer at a time: spans carry bodies, and those of a whole estate would not fit into memory.
    let filter = Filter { issuer: Some(row.issuer.clone()), since: options.since, until: Some(until), states: None };
    let spans = store.spans(&filter)?;
    let (changes, changes_left_out) = changes::of(&store.events(&filter)?, options.tz);
    Ok(IssuerSection {
        availability: availability::of(&spans, options.since, until),
        first_polled: first_polled(&spans, &row.ledger),
        about: About::from_json(&row.about),
        id: row.issuer,
        retired: row.retired,
        standing: row.standing,
        ledger: row.ledger,
        last_polled: row.last_polled,
        last_seen: row.last_seen,
        open,
        resolved,
        changes,
        changes_left_out,
    })
}

fn first_polled(spans: &[Span], ledger: &Ledger) -> Option<DateTime<Utc>> {
    let observed = spans.first().map(|span| span.first.at);
    let known = ledger.keys.values().filter_map(|key| key.first_seen()).min();
    observed.into_iter().chain(known).min()
}

fn rule_texts(issuers: &[IssuerSection], rule_text: &dyn Fn(&str) -> Option<RuleText>) -> BTreeMap<String, RuleText> {
    let mut texts = BTreeMap::new();
    for issuer in issuers {
        let found = issuer.open.iter().chain(&issuer.resolved).map(|finding| finding.rule.as_str());
        for rule in found.chain(issuer.standing.not_evaluated.iter().map(|gap| gap.rule.as_str())) {
            if !texts.contains_key(rule)
                && let Some(text) = rule_text(rule)
            {
                texts.insert(rule.to_owned(), text);
            }
        }
    }
    texts
}

impl IssuerSection {
    /// Whether we can look at it.
    #[must_use]
    pub fn sight(&self) -> Sight {
        Sight::of(self.last_polled, self.last_seen)
    }

    /// How many findings of a severity are open or waived.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.open.iter().filter(|finding| finding.severity == severity).count()
    }

    /// How many keys the last good key set had.
    #[must_use]
    pub fn keys_now(&self) -> usize {
        self.ledger.keys.values().filter(|key| key.present()).count()
    }

    /// The channel's availability in the period.
    #[must_use]
    pub fn channel(&self, channel: Channel) -> Option<&Availability> {
        self.availability.iter().find(|availability| availability.channel == channel)
    }

    fn rank(&self) -> Rank {
        Rank::of(self.retired, self.standing.grade, self.sight(), |severity| self.count(severity))
    }
}

/// What comes first in a list that starts with the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    retired: bool,
    grade: u8,
    /// Negated counts, from critical to low.
    findings: [i64; 4],
}

impl Rank {
    /// Of an issuer with these open findings. One that cannot be looked at never ranks among the good ones.
    #[must_use]
    pub fn of(retired: bool, grade: Option<Grade>, sight: Sight, count: impl Fn(Severity) -> usize) -> Self {
        let grade = match grade {
            Some(Grade::F) => 0,
            Some(Grade::D) => 1,
            Some(Grade::C) => 2,
            Some(Grade::B) if sight == Sight::Seen => 4,
            Some(Grade::A) if sight == Sight::Seen => 5,
            _ => 3,
        };
        let minus = |severity| -i64::try_from(count(severity)).unwrap_or(i64::MAX);
        Self { retired, grade, findings: [minus(Severity::Critical), minus(Severity::High), minus(Severity::Medium), minus(Severity::Low)] }
    }
}
