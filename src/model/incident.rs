//! What is told: an incident is the findings and events of one issuer in one poll, under one id for its whole life.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Event, Finding, FindingKey, IssuerId, Severity};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    Open,
    Resolved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentKind {
    /// What the first look at an issuer (or at its new URL) showed: told in the one baseline message.
    Baseline,
    /// A change.
    Change,
}

/// One incident. Its id never changes from the first notice to the resolved one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// `inc-` and 12 hex digits, derived from issuer, time and findings, so that a repeated poll makes no second one.
    pub id: String,
    pub kind: IncidentKind,
    pub issuer: IssuerId,
    pub opened: DateTime<Utc>,
    pub resolved: Option<DateTime<Utc>>,
    pub state: IncidentState,
    /// The worst severity it ever had.
    pub severity: Severity,
    /// One line, safe to print: `acme: 1 unexpected new key (high)`.
    pub title: String,
    pub findings: Vec<FindingKey>,
    /// The lifecycle events of the poll that opened it, one JSON text each.
    pub events: Vec<String>,
    /// Where its opening was sent; the resolved notice goes to the same.
    pub told: Vec<Destination>,
    /// When it was last told (for `repeat`); `None`: never.
    pub last_told: Option<DateTime<Utc>>,
    /// How many notices were made so far; part of each message id.
    pub notices: u32,
}

/// A first look that was recorded and not yet told; those of all issuers that start together make one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    pub issuer: IssuerId,
    /// The baseline incident, where there is anything to tell.
    pub incident: Option<String>,
    /// Its high and critical findings.
    pub findings: Vec<Finding>,
    /// Where its findings are routed.
    pub destinations: Vec<Destination>,
}

/// A channel, and of an email channel one recipient: one message each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Destination {
    pub channel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    #[serde(rename = "incident.opened")]
    Opened,
    #[serde(rename = "incident.updated")]
    Updated,
    #[serde(rename = "incident.resolved")]
    Resolved,
    #[serde(rename = "baseline")]
    Baseline,
    #[serde(rename = "test")]
    Test,
    #[serde(rename = "report")]
    Report,
}

impl NoticeKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "incident.opened",
            Self::Updated => "incident.updated",
            Self::Resolved => "incident.resolved",
            Self::Baseline => "baseline",
            Self::Test => "test",
            Self::Report => "report",
        }
    }
}

/// What one message says, whatever the channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NoticeKind,
    pub at: DateTime<Utc>,
    /// The incident's id; of a baseline over several issuers, test and report an id of its own.
    pub incident: String,
    /// The issuers meant, at least one for incidents.
    pub issuers: Vec<IssuerId>,
    pub severity: Severity,
    pub title: String,
    /// When the incident opened.
    pub opened: Option<DateTime<Utc>>,
    pub findings: Vec<Finding>,
    /// Lifecycle events, one JSON text each.
    pub events: Vec<String>,
    /// "still open after 3 h, 2nd notice", "resolved after 12 min", …
    pub remark: Option<String>,
    /// Of a report: the document's name and text, attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<(String, String)>,
}

impl Notice {
    /// The lifecycle events as JSON texts.
    #[must_use]
    pub fn event_lines(events: &[Event]) -> Vec<String> {
        events.iter().map(Event::to_line).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Pending,
    Delivered,
    /// Given up; the reason is recorded.
    Dead,
}

/// A row of the outbox: one notice for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The message's identity everywhere (webhook-id, Message-ID): derived from incident, number and destination.
    pub id: String,
    pub destination: Destination,
    pub notice: Notice,
    pub state: AlertState,
    pub attempts: u32,
    pub created: DateTime<Utc>,
    /// Not before this time.
    pub due: DateTime<Utc>,
    pub last_error: Option<String>,
    pub delivered: Option<DateTime<Utc>>,
}

impl Alert {
    /// A fresh alert; the same notice and destination give the same id, so that nothing is enqueued twice.
    #[must_use]
    pub fn new(notice: Notice, number: u32, destination: Destination) -> Self {
        let identity = format!(
            "{}\n{}\n{number}\n{}\n{}",
            notice.incident,
            notice.kind.name(),
            destination.channel,
            destination.recipient.as_deref().unwrap_or("")
        );
        let digest = super::Digest::of(identity.as_bytes()).to_string();
        Self {
            id: format!("msg_{}", &digest[..24]),
            state: AlertState::Pending,
            attempts: 0,
            created: notice.at,
            due: notice.at,
            last_error: None,
            delivered: None,
            destination,
            notice,
        }
    }
}
