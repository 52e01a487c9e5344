//! How often a document could be looked at, and when it could not: counted from spans of equal answers.

use chrono::{DateTime, Utc};

use crate::model::{Attempt, Channel, UnseenReason, visible};
use crate::store::Span;

/// Outages listed for one channel; the longest.
const LISTED: usize = 12;

/// One channel of one issuer in the period.
#[derive(Debug, Clone, PartialEq)]
pub struct Availability {
    pub channel: Channel,
    /// Polls that asked for the document.
    pub polls: u64,
    /// Polls that got it.
    pub answered: u64,
    /// The longest outages, in time order.
    pub outages: Vec<Outage>,
    pub outages_left_out: usize,
}

/// A run of polls that did not get the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// The first and the last poll that failed.
    pub from: DateTime<Utc>,
    pub last: DateTime<Utc>,
    /// The poll that got it again; `None`: it still fails at the end of the period.
    pub recovered: Option<DateTime<Utc>>,
    pub polls: u64,
    /// Of the first failure; fit to be shown.
    pub reason: String,
    /// Whether later failures gave another reason.
    pub other_reasons: bool,
}

impl Availability {
    /// Answered polls of a hundred, cut (not rounded) so that 100 means every one.
    #[must_use]
    pub fn percent(&self) -> String {
        let hundredths = u128::from(self.answered) * 10_000 / u128::from(self.polls.max(1));
        match hundredths % 100 {
            0 => format!("{} %", hundredths / 100),
            rest => format!("{}.{rest:02} %", hundredths / 100),
        }
    }
}

impl Outage {
    /// The end as far as it is known: the poll that got the document again, else the last failure.
    #[must_use]
    pub fn end(&self) -> DateTime<Utc> {
        self.recovered.unwrap_or(self.last)
    }
}

/// The availability of each channel that was polled; spans are those of one issuer, oldest first.
pub(super) fn of(spans: &[Span], since: Option<DateTime<Utc>>, until: DateTime<Utc>) -> Vec<Availability> {
    [Channel::Discovery, Channel::Jwks].into_iter().filter_map(|channel| of_channel(channel, spans, since, until)).collect()
}

fn of_channel(channel: Channel, spans: &[Span], since: Option<DateTime<Utc>>, until: DateTime<Utc>) -> Option<Availability> {
    let mut found = Availability { channel, polls: 0, answered: 0, outages: Vec::new(), outages_left_out: 0 };
    let mut current: Option<Outage> = None;
    for span in spans {
        let Some(attempt) = attempt(span, channel) else { continue };
        let (from, last, polls) = clipped(span, since, until);
        if polls == 0 {
            continue;
        }
        found.polls += polls;
        match &attempt.unseen {
            None => {
                found.answered += polls;
                found.outages.extend(current.take().map(|outage| Outage { recovered: Some(from), ..outage }));
            }
            Some(unseen) => {
                let reason = visible(&unseen.text, 120);
                let outage = current.get_or_insert_with(|| Outage {
                    from,
                    last,
                    recovered: None,
                    polls: 0,
                    reason: reason.clone(),
                    other_reasons: false,
                });
                outage.last = last;
                outage.polls += polls;
                outage.other_reasons |= outage.reason != reason;
            }
        }
    }
    found.outages.extend(current);
    keep_longest(&mut found);
    (found.polls > 0).then_some(found)
}

/// What was asked of a channel; our own shutdown asked nothing.
fn attempt(span: &Span, channel: Channel) -> Option<&Attempt> {
    let attempt = match channel {
        Channel::Discovery => span.first.discovery.as_ref(),
        Channel::Jwks => span.first.jwks.as_ref(),
    }?;
    (attempt.unseen.as_ref().map(|unseen| unseen.reason) != Some(UnseenReason::Cancelled)).then_some(attempt)
}

/// The part of a span inside the period; its polls are taken to be evenly spread.
fn clipped(span: &Span, since: Option<DateTime<Utc>>, until: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>, u64) {
    let (first, last) = (span.first.at, span.last_at);
    let (from, end) = (since.map_or(first, |since| first.max(since)), last.min(until));
    if end < from {
        return (from, end, 0);
    }
    let (whole, part) = ((last - first).num_seconds(), (end - from).num_seconds());
    if part >= whole || span.polls < 2 {
        return (from, end, span.polls.max(1));
    }
    let gaps = u128::from(span.polls - 1) * u128::from(part.unsigned_abs()) / u128::from(whole.unsigned_abs().max(1));
    (from, end, u64::try_from(gaps).unwrap_or(u64::MAX).saturating_add(1))
}

fn keep_longest(found: &mut Availability) {
    found.outages_left_out = found.outages.len().saturating_sub(LISTED);
    if found.outages_left_out > 0 {
        found.outages.sort_by_key(|outage| std::cmp::Reverse((outage.recovered.is_none(), outage.end() - outage.from, outage.from)));
        found.outages.truncate(LISTED);
        found.outages.sort_by_key(|outage| outage.from);
    }
}
