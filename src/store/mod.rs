//! What is remembered: one synchronous trait in the monitor's words, and [`Db`], its async front.
//!
//! Nothing here judges. Backends are told apart by `cli` only.

mod db;
mod sqlite;
mod stored;

use chrono::{DateTime, Duration, Utc};

use crate::ledger::Ledger;
use crate::model::{Act, Alert, AlertState, Baseline, Event, Finding, FindingState, Incident, IssuerId, Observation, Standing};

pub use db::{Db, Role};
pub use sqlite::Sqlite;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database; worth another try.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database is newer than this program, absent, or no issuerwatch database at all.
    #[error("{0}")]
    Foreign(String),
    /// The database was ours and is broken; a backup is needed.
    #[error("{0}")]
    Damaged(String),
    /// Importing or recording something older than what is there, an unknown issuer, …
    #[error("{0}")]
    Refused(String),
    /// Everything else, with what was being done.
    #[error("{doing}: {source}")]
    Failed { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// An issuer to be polled, and when first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    pub issuer: IssuerId,
    /// Owner, URL and so on as JSON, for pages and reports of a database without its configuration.
    pub about: String,
    /// When it is due if it is new or its schedule changed.
    pub due: DateTime<Utc>,
    /// A text that changes when the schedule does; a stored due time survives a restart while this is equal.
    pub schedule: String,
}

/// Everything `assess` needs to know of one issuer.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    pub ledger: Ledger,
    /// Findings that are open or waived.
    pub findings: Vec<Finding>,
    /// Incidents that are open.
    pub incidents: Vec<Incident>,
    /// Acts about this issuer, oldest first.
    pub acts: Vec<Act>,
    /// The last observation's documents by channel; (sha256, attempt) are enough to see that nothing changed.
    pub last: Option<Observation>,
}

/// What one poll of one issuer came to: recorded in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Cycle {
    /// In their order; two where a confirmation differed. Secrets are already cut out of the bodies.
    pub observations: Vec<Observation>,
    pub issuer: Option<IssuerId>,
    /// `None`: unchanged.
    pub ledger: Option<Ledger>,
    pub standing: Option<Standing>,
    /// Findings that were opened, seen again with another text or severity, waived or resolved; upserted by key.
    pub findings: Vec<Finding>,
    pub events: Vec<Event>,
    /// Upserted by id.
    pub incidents: Vec<Incident>,
    /// Inserted unless their id is there.
    pub alerts: Vec<Alert>,
    /// The first look at this issuer (or its new URL): it waits for the one baseline message.
    pub baseline: Option<Baseline>,
    /// Good looks whose document did not change: laid over the stored ledger by `Ledger::touch`.
    pub touched: Vec<(crate::model::Channel, DateTime<Utc>)>,
    /// When to poll next; gives up the claim.
    pub due: Option<DateTime<Utc>>,
}

/// An issuer as pages and reports show it.
#[derive(Debug, Clone)]
pub struct IssuerRow {
    pub issuer: IssuerId,
    pub about: String,
    /// No longer configured: history is kept, nothing is polled.
    pub retired: bool,
    pub due: Option<DateTime<Utc>>,
    /// The last observation, and the last that had any answer on any channel.
    pub last_polled: Option<DateTime<Utc>>,
    pub last_seen: Option<DateTime<Utc>>,
    pub standing: Standing,
    pub ledger: Ledger,
}

/// A run of equal answers.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its first observation, bodies included.
    pub first: Observation,
    pub last_at: DateTime<Utc>,
    pub polls: u64,
}

/// How a delivery attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Try again at this time.
    Later {
        due: DateTime<Utc>,
        error: String,
    },
    /// Never: the receiver refused for good, or the tries are used up.
    Dead {
        error: String,
    },
}

/// Which findings, incidents, events or spans to list: what was there at any time from `since` to `until`, both
/// included; `None` means all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub issuer: Option<IssuerId>,
    /// Leaves out events before it, spans that ended before it, findings and incidents that were resolved before it.
    pub since: Option<DateTime<Utc>>,
    /// Leaves out what happened, began, was first seen or opened after it.
    pub until: Option<DateTime<Utc>>,
    /// Of findings and incidents.
    pub states: Option<Vec<FindingState>>,
}

/// What a backend can do. Every call is one transaction, durable when it returns.
pub trait Store: Send {
    /// Adds new issuers, keeps the history of known ones, retires those not named. A new issuer is due at its
    /// `due`; a known one keeps its stored due time unless `schedule` changed or that time is later than `due`.
    /// The first call after opening gives up the claims (of issuers and alerts) that a killed process left over; later
    /// ones, of a reload, keep those of the polls in hand.
    fn enroll(&mut self, issuers: &[Enrolment]) -> Result<(), StoreError>;

    /// Up to `limit` issuers that are due and not claimed, oldest first; they are claimed until `now + lease`.
    fn claim_due(&mut self, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<IssuerId>, StoreError>;

    /// When [`Store::claim_due`] will next have something: a due time, or the end of a lease.
    fn next_due(&mut self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Makes an issuer due by `due` (an act was recorded, `run` should notice); a poll in hand that does not know of it
    /// is followed by another one. Nothing where the issuer is not polled.
    fn hasten(&mut self, issuer: &IssuerId, due: DateTime<Utc>) -> Result<(), StoreError>;

    /// What is known of an issuer; empty for one never seen.
    fn remembered(&mut self, issuer: &IssuerId) -> Result<Remembered, StoreError>;

    /// Records cycles: observations, ledger, findings, events, incidents and alerts, all or nothing.
    /// An observation that [`Observation::same_answer`] finds equal to the last one of its issuer lengthens that one's
    /// span. Refused: an issuer that was never enrolled, an observation older than the issuer's newest, a body that is
    /// not what its hash says and has nothing cut out.
    fn record(&mut self, cycles: &[Cycle]) -> Result<(), StoreError>;

    /// First looks that wait to be told.
    fn baselines(&mut self) -> Result<Vec<Baseline>, StoreError>;

    /// Enqueues the alerts and marks the incidents of a baseline message and forgets the first looks it tells.
    fn tell_baselines(&mut self, told: &[IssuerId], alerts: &[Alert], incidents: &[Incident]) -> Result<(), StoreError>;

    /// Puts alerts into the outbox (test messages, reports); those whose id is there are left alone.
    fn enqueue(&mut self, alerts: &[Alert]) -> Result<(), StoreError>;

    /// Up to `limit` pending alerts that are due, longest due first, claimed until `now + lease`.
    /// Of one destination and incident only the oldest is handed out, so that "resolved" never overtakes "opened".
    fn claim_alerts(&mut self, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<Alert>, StoreError>;

    /// When [`Store::claim_alerts`] will next have something.
    fn next_alert(&mut self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Records how a delivery attempt of an alert ended. Delivered or dead is for good; a delivery reported late counts.
    fn settle(&mut self, alert: &str, at: DateTime<Utc>, outcome: &Outcome) -> Result<(), StoreError>;

    /// Alerts in a state (all: `None`), newest first.
    fn alerts(&mut self, state: Option<AlertState>, limit: usize) -> Result<Vec<Alert>, StoreError>;

    /// Records a decision.
    fn act(&mut self, act: &Act) -> Result<(), StoreError>;

    /// All decisions of an issuer (or of all), oldest first.
    fn acts(&mut self, issuer: Option<&IssuerId>) -> Result<Vec<Act>, StoreError>;

    /// All issuers, retired ones included, by id.
    fn issuers(&mut self) -> Result<Vec<IssuerRow>, StoreError>;

    /// Findings by issuer, rule, subject; an open one was last seen at the last equal look of its document.
    fn findings(&mut self, filter: &Filter) -> Result<Vec<Finding>, StoreError>;

    /// Events in the order of the events file.
    fn events(&mut self, filter: &Filter) -> Result<Vec<Event>, StoreError>;

    /// Incidents, newest first.
    fn incidents(&mut self, filter: &Filter) -> Result<Vec<Incident>, StoreError>;

    /// One incident by its id.
    fn incident(&mut self, id: &str) -> Result<Option<Incident>, StoreError>;

    /// Observations as spans, those that began first in front. Of one span all but the first observation are known by
    /// their number and the last one's time only.
    fn spans(&mut self, filter: &Filter) -> Result<Vec<Span>, StoreError>;

    /// A small value under a name (when a report was last sent, …).
    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError>;

    /// Sets such a value.
    fn set_note(&mut self, name: &str, value: &str) -> Result<(), StoreError>;

    /// Whether nothing at all was ever recorded.
    fn is_empty(&mut self) -> Result<bool, StoreError>;
}
