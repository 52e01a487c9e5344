//! The outbox: what waits to be told, to whom, and how it went; and the first looks that wait for their one message.

use chrono::{DateTime, Duration, Utc};
use rusqlite::{Row, Transaction};

use super::stored::{from_millis, from_word, pack, unpack, word};
use super::{Trouble, issuers};
use crate::model::{Alert, AlertState, Destination, IssuerId};
use crate::store::{Baseline, Outcome};

/// Nothing pending of the same incident and destination stands before it.
const FOREMOST: &str = "state = 'pending' AND NOT EXISTS (
    SELECT 1 FROM alert AS before
    WHERE before.state = 'pending' AND before.incident = alert.incident
        AND before.channel = alert.channel AND before.recipient IS alert.recipient AND before.seq < alert.seq)";

pub(super) fn enqueue(tx: &Transaction<'_>, alerts: &[Alert]) -> Result<(), Trouble> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO alert (id, channel, recipient, incident, state, attempts, created, due, last_error, delivered, notice)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
    )?;
    for alert in alerts {
        statement.execute((
            &alert.id,
            &alert.destination.channel,
            &alert.destination.recipient,
            &alert.notice.incident,
            word(&alert.state),
            alert.attempts,
            alert.created.timestamp_millis(),
            alert.due.timestamp_millis(),
            &alert.last_error,
            alert.delivered.map(|at| at.timestamp_millis()),
            pack(&alert.notice)?,
        ))?;
    }
    Ok(())
}

pub(super) fn give_up_claims(tx: &Transaction<'_>) -> Result<(), Trouble> {
    tx.execute("UPDATE alert SET claimed_until = NULL WHERE state = 'pending' AND claimed_until IS NOT NULL", ())?;
    Ok(())
}

pub(super) fn claim(tx: &Transaction<'_>, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<Alert>, Trouble> {
    let found = read(
        tx,
        &format!("due <= ?1 AND (claimed_until IS NULL OR claimed_until <= ?1) AND {FOREMOST} ORDER BY due, seq LIMIT ?2"),
        (now.timestamp_millis(), i64::try_from(limit).unwrap_or(i64::MAX)),
    )?;
    let mut claim = tx.prepare_cached("UPDATE alert SET claimed_until = ?2 WHERE id = ?1")?;
    let until = (now + lease).timestamp_millis();
    for alert in &found {
        claim.execute((&alert.id, until))?;
    }
    Ok(found)
}

pub(super) fn next(tx: &Transaction<'_>) -> Result<Option<DateTime<Utc>>, Trouble> {
    let next: Option<i64> = tx
        .prepare_cached(&format!("SELECT min(max(due, coalesce(claimed_until, due))) FROM alert WHERE {FOREMOST}"))?
        .query_row((), |row| row.get(0))?;
    Ok(next.map(from_millis).transpose()?)
}

pub(super) fn settle(tx: &Transaction<'_>, alert: &str, at: DateTime<Utc>, outcome: &Outcome) -> Result<(), Trouble> {
    let (state, due, error, delivered) = match outcome {
        Outcome::Delivered => (AlertState::Delivered, None, None, Some(at.timestamp_millis())),
        Outcome::Later { due, error } => (AlertState::Pending, Some(due.timestamp_millis()), Some(error), None),
        Outcome::Dead { error } => (AlertState::Dead, None, Some(error), None),
    };
    // What is settled stays so, whatever a second sender says whose lease had ended; only a delivery is news.
    let changed = tx
        .prepare_cached(
            "UPDATE alert SET
                attempts = attempts + 1,
                claimed_until = NULL,
                state = CASE WHEN state = 'pending' OR ?2 = 'delivered' THEN ?2 ELSE state END,
                due = coalesce(?3, due),
                last_error = coalesce(?4, last_error),
                delivered = coalesce(delivered, ?5)
             WHERE id = ?1",
        )?
        .execute((alert, word(&state), due, error, delivered))?;
    if changed == 0 {
        return Err(Trouble::Refused(format!("there is no message {alert} in the outbox")));
    }
    Ok(())
}

pub(super) fn list(tx: &Transaction<'_>, state: Option<AlertState>, limit: usize) -> Result<Vec<Alert>, Trouble> {
    read(
        tx,
        "(?1 IS NULL OR state = ?1) ORDER BY seq DESC LIMIT ?2",
        (state.map(|state| word(&state)), i64::try_from(limit).unwrap_or(i64::MAX)),
    )
}

fn read(tx: &Transaction<'_>, rest: &str, values: impl rusqlite::Params) -> Result<Vec<Alert>, Trouble> {
    let mut statement = tx.prepare_cached(&format!(
        "SELECT id, channel, recipient, state, attempts, created, due, last_error, delivered, notice FROM alert WHERE {rest}"
    ))?;
    let mut rows = statement.query(values)?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        alerts.push(alert(row)?);
    }
    Ok(alerts)
}

fn alert(row: &Row<'_>) -> Result<Alert, Trouble> {
    Ok(Alert {
        id: row.get(0)?,
        destination: Destination { channel: row.get(1)?, recipient: row.get(2)? },
        state: from_word("a message", row.get(3)?)?,
        attempts: row.get(4)?,
        created: from_millis(row.get(5)?)?,
        due: from_millis(row.get(6)?)?,
        last_error: row.get(7)?,
        delivered: row.get::<_, Option<i64>>(8)?.map(from_millis).transpose()?,
        notice: unpack("a message", &row.get::<_, Vec<u8>>(9)?)?,
    })
}

pub(super) fn upsert_baseline(tx: &Transaction<'_>, baseline: Option<&Baseline>) -> Result<(), Trouble> {
    let Some(baseline) = baseline else {
        return Ok(());
    };
    tx.prepare_cached("INSERT OR REPLACE INTO baseline (issuer, content) VALUES (?1, ?2)")?
        .execute((issuers::known(tx, &baseline.issuer)?, pack(baseline)?))?;
    Ok(())
}

pub(super) fn baselines(tx: &Transaction<'_>) -> Result<Vec<Baseline>, Trouble> {
    let mut statement =
        tx.prepare_cached("SELECT content FROM baseline JOIN issuer ON issuer.id = baseline.issuer ORDER BY issuer.name")?;
    let rows = statement.query_map((), |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|packed| Ok(unpack("a first look", &packed?)?)).collect()
}

pub(super) fn forget_baselines(tx: &Transaction<'_>, told: &[IssuerId]) -> Result<(), Trouble> {
    let mut statement = tx.prepare_cached("DELETE FROM baseline WHERE issuer = (SELECT id FROM issuer WHERE name = ?1)")?;
    told.iter().try_for_each(|issuer| statement.execute([issuer.as_str()]).map(|_| ())).map_err(Trouble::from)
}
