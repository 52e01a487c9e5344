//! The store on SQLite: one file, write-ahead log, every commit synced to disk. SQL for SQLite stands here and below
//! only; nothing here judges, and no body is written to a log or an error.

mod issuers;
mod judged;
mod open;
mod outbox;
mod spans;

use std::path::Path;

use chrono::{DateTime, Duration, Utc};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior};

use super::stored::{self, Unreadable};
use super::{Baseline, Cycle, Enrolment, Filter, IssuerRow, Outcome, Remembered, Span, Store, StoreError};
use crate::model::{Act, Alert, AlertState, Event, Finding, Incident, IssuerId};

/// A connection to an issuerwatch database on SQLite.
pub struct Sqlite {
    connection: Connection,
    /// Claims of a killed process were given up; those made since are of polls in hand.
    took_over: bool,
}

impl Sqlite {
    /// Opens a database, makes it where there is none, brings an older one up to date and looks for damage.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged, is no issuerwatch database, or is of a newer issuerwatch.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::over(open::writable(path)?))
    }

    /// Opens a database that is there, to look into it while another process writes.
    ///
    /// # Errors
    /// As [`Sqlite::open`]; and the file is absent, or of an older issuerwatch.
    pub fn read_only(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::over(open::read_only(path)?))
    }

    /// A database that goes with the value, for tests and for replays without one.
    ///
    /// # Errors
    /// Out of memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::over(open::in_memory()?))
    }

    fn over(connection: Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(128);
        Self { connection, took_over: false }
    }

    /// One durable transaction. Immediate: two writers wait for each other instead of failing half-way.
    fn write<T>(&mut self, doing: &'static str, job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Immediate, doing, job)
    }

    /// Several reads that see one state.
    fn read<T>(&mut self, doing: &'static str, job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Deferred, doing, job)
    }

    fn transact<T>(
        &mut self,
        behavior: TransactionBehavior,
        doing: &'static str,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let run = || {
            let transaction = self.connection.transaction_with_behavior(behavior)?;
            let result = job(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|trouble: Trouble| trouble.while_doing(doing))
    }
}

impl Store for Sqlite {
    fn enroll(&mut self, issuers: &[Enrolment]) -> Result<(), StoreError> {
        let take_over = !self.took_over;
        self.write("enrolling the issuers", |tx| {
            if take_over {
                issuers::give_up_claims(tx)?;
                outbox::give_up_claims(tx)?;
            }
            issuers::enroll(tx, issuers)
        })?;
        self.took_over = true;
        Ok(())
    }

    fn claim_due(&mut self, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<IssuerId>, StoreError> {
        self.write("claiming due issuers", |tx| issuers::claim_due(tx, now, lease, limit))
    }

    fn next_due(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read("looking for the next due issuer", issuers::next_due)
    }

    fn hasten(&mut self, issuer: &IssuerId, due: DateTime<Utc>) -> Result<(), StoreError> {
        self.write("making an issuer due", |tx| issuers::hasten(tx, issuer, due))
    }

    fn remembered(&mut self, issuer: &IssuerId) -> Result<Remembered, StoreError> {
        self.read("reading what is known of an issuer", |tx| {
            let acts = read_acts(tx, Some(issuer))?;
            let Some(key) = issuers::key(tx, issuer)? else {
                return Ok(Remembered { acts, ..Remembered::default() });
            };
            Ok(Remembered {
                ledger: issuers::ledger(tx, key)?,
                findings: judged::unresolved(tx, key)?,
                incidents: judged::open_incidents(tx, issuer)?,
                acts,
                last: spans::last(tx, key, issuer)?,
            })
        })
    }

    fn record(&mut self, cycles: &[Cycle]) -> Result<(), StoreError> {
        self.write("recording a poll", |tx| cycles.iter().try_for_each(|cycle| record(tx, cycle)))
    }

    fn baselines(&mut self) -> Result<Vec<Baseline>, StoreError> {
        self.read("reading first looks", outbox::baselines)
    }

    fn tell_baselines(&mut self, told: &[IssuerId], alerts: &[Alert], incidents: &[Incident]) -> Result<(), StoreError> {
        self.write("telling first looks", |tx| {
            outbox::enqueue(tx, alerts)?;
            judged::upsert_incidents(tx, incidents)?;
            outbox::forget_baselines(tx, told)
        })
    }

    fn enqueue(&mut self, alerts: &[Alert]) -> Result<(), StoreError> {
        self.write("queueing messages", |tx| outbox::enqueue(tx, alerts))
    }

    fn claim_alerts(&mut self, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.write("claiming messages", |tx| outbox::claim(tx, now, lease, limit))
    }

    fn next_alert(&mut self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read("looking for the next message", outbox::next)
    }

    fn settle(&mut self, alert: &str, at: DateTime<Utc>, outcome: &Outcome) -> Result<(), StoreError> {
        self.write("recording a delivery", |tx| outbox::settle(tx, alert, at, outcome))
    }

    fn alerts(&mut self, state: Option<AlertState>, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.read("listing messages", |tx| outbox::list(tx, state, limit))
    }

    fn act(&mut self, act: &Act) -> Result<(), StoreError> {
        self.write("recording a decision", |tx| {
            let content = serde_json::to_string(act).map_err(std::io::Error::from)?;
            tx.prepare_cached("INSERT INTO act (issuer, at, content) VALUES (?1, ?2, ?3)")?.execute((
                act.issuer.as_str(),
                act.at.timestamp(),
                content,
            ))?;
            Ok(())
        })
    }

    fn acts(&mut self, issuer: Option<&IssuerId>) -> Result<Vec<Act>, StoreError> {
        self.read("reading decisions", |tx| read_acts(tx, issuer))
    }

    fn issuers(&mut self) -> Result<Vec<IssuerRow>, StoreError> {
        self.read("reading the issuers", issuers::rows)
    }

    fn findings(&mut self, filter: &Filter) -> Result<Vec<Finding>, StoreError> {
        self.read("reading findings", |tx| judged::findings(tx, filter))
    }

    fn events(&mut self, filter: &Filter) -> Result<Vec<Event>, StoreError> {
        self.read("reading events", |tx| judged::events(tx, filter))
    }

    fn incidents(&mut self, filter: &Filter) -> Result<Vec<Incident>, StoreError> {
        self.read("reading incidents", |tx| judged::incidents(tx, filter))
    }

    fn incident(&mut self, id: &str) -> Result<Option<Incident>, StoreError> {
        self.read("reading an incident", |tx| judged::incident(tx, id))
    }

    fn spans(&mut self, filter: &Filter) -> Result<Vec<Span>, StoreError> {
        self.read("reading observations", |tx| spans::list(tx, filter))
    }

    fn note(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        self.read("reading a note", |tx| {
            Ok(tx.prepare_cached("SELECT value FROM note WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
        })
    }

    fn set_note(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        self.write("writing a note", |tx| {
            tx.prepare_cached("INSERT INTO note (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")?
                .execute([name, value])?;
            Ok(())
        })
    }

    fn is_empty(&mut self) -> Result<bool, StoreError> {
        self.read("looking whether anything was recorded", |tx| {
            // Every other row hangs on one of these.
            for table in ["issuer", "incident", "alert", "act", "note"] {
                if tx.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), (), |row| row.get(0))? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

fn record(tx: &Transaction<'_>, cycle: &Cycle) -> Result<(), Trouble> {
    if let Some(issuer) = cycle.issuer.as_ref().or_else(|| cycle.observations.first().map(|observation| &observation.issuer)) {
        if let Some(stray) = cycle.observations.iter().find(|observation| observation.issuer != *issuer) {
            return Err(Trouble::Refused(format!("an observation of \"{}\" among those of \"{issuer}\"", stray.issuer)));
        }
        let key = issuers::known(tx, issuer)?;
        for observation in &cycle.observations {
            spans::record(tx, key, observation)?;
        }
        issuers::record(tx, key, cycle)?;
    }
    judged::upsert_findings(tx, &cycle.findings)?;
    judged::insert_events(tx, &cycle.events)?;
    judged::upsert_incidents(tx, &cycle.incidents)?;
    outbox::enqueue(tx, &cycle.alerts)?;
    outbox::upsert_baseline(tx, cycle.baseline.as_ref())
}

fn read_acts(tx: &Transaction<'_>, issuer: Option<&IssuerId>) -> Result<Vec<Act>, Trouble> {
    let mut statement = tx.prepare_cached("SELECT content FROM act WHERE ?1 IS NULL OR issuer = ?1 ORDER BY at, seq")?;
    let rows = statement.query_map([issuer.map(IssuerId::as_str)], |row| row.get::<_, String>(0))?;
    rows.map(|content| Ok(serde_json::from_str(&content?).map_err(|error| Unreadable::new("a decision", error))?)).collect()
}

/// The filter's time in whole seconds, both ends included.
fn period(filter: &Filter) -> (i64, i64) {
    let since = filter.since.map_or(i64::MIN, |since| since.timestamp() + i64::from(since.timestamp_subsec_nanos() > 0));
    (since, filter.until.map_or(i64::MAX, |until| until.timestamp()))
}

/// What can go wrong inside a transaction, before it is known what was being done.
#[derive(Debug)]
enum Trouble {
    Sql(rusqlite::Error),
    /// What was asked for makes no sense over what is there.
    Refused(String),
    /// A row that we did not write, or that rotted.
    Unreadable(Unreadable),
    /// Packing failed: out of memory.
    Packing(std::io::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Unreadable> for Trouble {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Packing(error)
    }
}

impl Trouble {
    fn while_doing(self, doing: &'static str) -> StoreError {
        let error = match self {
            Self::Refused(why) => return StoreError::Refused(why),
            Self::Unreadable(error) => return StoreError::Damaged(format!("{doing}: {error}; restore a backup")),
            Self::Packing(error) => return StoreError::Failed { doing, source: Box::new(error) },
            Self::Sql(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(format!("{doing}: {error}")),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(format!("{doing}: the database is damaged ({error}); restore a backup"))
            }
            Some(ErrorCode::ReadOnly) => StoreError::Refused(format!("{doing}: the database was opened for reading only")),
            _ => StoreError::Failed { doing, source: Box::new(error) },
        }
    }
}
