//! Who is polled, and when: enrolment, claims, due times; and the last assessment of each.

use chrono::{DateTime, Duration, Utc};
use rusqlite::{OptionalExtension as _, Transaction};

use super::Trouble;
use super::stored::{from_millis, from_seconds, pack, unpack};
use crate::ledger::Ledger;
use crate::model::{Channel, IssuerId, Observation};
use crate::store::{Cycle, Enrolment, IssuerRow};

/// The row of an issuer, if it was ever enrolled.
pub(super) fn key(tx: &Transaction<'_>, issuer: &IssuerId) -> Result<Option<i64>, Trouble> {
    Ok(tx.prepare_cached("SELECT id FROM issuer WHERE name = ?1")?.query_row([issuer.as_str()], |row| row.get(0)).optional()?)
}

/// The row of an issuer that must have been enrolled.
pub(super) fn known(tx: &Transaction<'_>, issuer: &IssuerId) -> Result<i64, Trouble> {
    key(tx, issuer)?.ok_or_else(|| Trouble::Refused(format!("the issuer \"{issuer}\" is unknown to the database: it was never enrolled")))
}

pub(super) fn give_up_claims(tx: &Transaction<'_>) -> Result<(), Trouble> {
    tx.execute("UPDATE issuer SET claimed_until = NULL WHERE claimed_until IS NOT NULL", ())?;
    Ok(())
}

pub(super) fn enroll(tx: &Transaction<'_>, issuers: &[Enrolment]) -> Result<(), Trouble> {
    // Those named are brought back at once; what is left retired loses its due time at the end.
    tx.execute("UPDATE issuer SET retired = 1", ())?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO issuer (name, about, schedule, retired, due) VALUES (?1, ?2, ?3, 0, ?4)
         ON CONFLICT (name) DO UPDATE SET
            about = excluded.about,
            schedule = excluded.schedule,
            retired = 0,
            due = CASE WHEN issuer.schedule = excluded.schedule THEN min(coalesce(issuer.due, excluded.due), excluded.due)
                  ELSE excluded.due END",
    )?;
    for enrolment in issuers {
        statement.execute((enrolment.issuer.as_str(), &enrolment.about, &enrolment.schedule, enrolment.due.timestamp_millis()))?;
    }
    tx.execute("UPDATE issuer SET due = NULL, claimed_until = NULL, hastened = NULL WHERE retired", ())?;
    Ok(())
}

pub(super) fn claim_due(tx: &Transaction<'_>, now: DateTime<Utc>, lease: Duration, limit: usize) -> Result<Vec<IssuerId>, Trouble> {
    let mut due = tx.prepare_cached(
        "SELECT id, name FROM issuer WHERE due <= ?1 AND (claimed_until IS NULL OR claimed_until <= ?1) ORDER BY due, id LIMIT ?2",
    )?;
    let mut claim = tx.prepare_cached("UPDATE issuer SET claimed_until = ?2, hastened = NULL WHERE id = ?1")?;
    let rows = due.query_map((now.timestamp_millis(), i64::try_from(limit).unwrap_or(i64::MAX)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
    let until = (now + lease).timestamp_millis();
    for (key, _) in &found {
        claim.execute((key, until))?;
    }
    Ok(found.into_iter().map(|(_, name)| IssuerId::new(name)).collect())
}

pub(super) fn next_due(tx: &Transaction<'_>) -> Result<Option<DateTime<Utc>>, Trouble> {
    let next: Option<i64> = tx
        .prepare_cached("SELECT min(max(due, coalesce(claimed_until, due))) FROM issuer WHERE due IS NOT NULL")?
        .query_row((), |row| row.get(0))?;
    Ok(next.map(from_millis).transpose()?)
}

pub(super) fn hasten(tx: &Transaction<'_>, issuer: &IssuerId, due: DateTime<Utc>) -> Result<(), Trouble> {
    tx.prepare_cached("UPDATE issuer SET due = min(due, ?2), hastened = min(coalesce(hastened, ?2), ?2) WHERE name = ?1 AND NOT retired")?
        .execute((issuer.as_str(), due.timestamp_millis()))?;
    Ok(())
}

/// What a cycle changes of its issuer: how it stands, when it was looked at, when to look again.
pub(super) fn record(tx: &Transaction<'_>, key: i64, cycle: &Cycle) -> Result<(), Trouble> {
    let last_polled = cycle.observations.iter().map(|observation| observation.at.timestamp()).max();
    let last_seen = cycle.observations.iter().filter(|observation| answered(observation)).map(|o| o.at.timestamp()).max();
    let touched = |wanted: Channel| cycle.touched.iter().filter(|(channel, _)| *channel == wanted).map(|(_, at)| at.timestamp()).max();
    if let Some(ledger) = &cycle.ledger {
        // It holds every time up to now itself.
        tx.prepare_cached("UPDATE issuer SET discovery_touched = NULL, jwks_touched = NULL WHERE id = ?1")?.execute([key])?;
        put(tx, "ledger", key, &pack(ledger)?)?;
    }
    if let Some(standing) = &cycle.standing {
        put(tx, "standing", key, &pack(standing)?)?;
    }
    tx.prepare_cached(
        "UPDATE issuer SET
            last_polled = coalesce(?2, last_polled),
            last_seen = coalesce(?3, last_seen),
            discovery_touched = coalesce(?4, discovery_touched),
            jwks_touched = coalesce(?5, jwks_touched)
         WHERE id = ?1",
    )?
    .execute((key, last_polled, last_seen, touched(Channel::Discovery), touched(Channel::Jwks)))?;
    if let Some(due) = cycle.due {
        tx.prepare_cached(
            "UPDATE issuer SET due = CASE WHEN retired THEN NULL ELSE min(?2, coalesce(hastened, ?2)) END, claimed_until = NULL
             WHERE id = ?1",
        )?
        .execute((key, due.timestamp_millis()))?;
    }
    Ok(())
}

/// Whether any channel got an HTTP answer.
fn answered(observation: &Observation) -> bool {
    [&observation.discovery, &observation.jwks].into_iter().flatten().any(|attempt| attempt.status != 0)
}

fn put(tx: &Transaction<'_>, table: &'static str, key: i64, content: &[u8]) -> Result<(), Trouble> {
    tx.prepare_cached(&format!("INSERT OR REPLACE INTO {table} (issuer, content) VALUES (?1, ?2)"))?.execute((key, content))?;
    Ok(())
}

/// The ledger with the times of equal looks laid over it.
pub(super) fn ledger(tx: &Transaction<'_>, key: i64) -> Result<Ledger, Trouble> {
    let (packed, discovery, jwks) = tx
        .prepare_cached(
            "SELECT content, discovery_touched, jwks_touched FROM issuer LEFT JOIN ledger ON ledger.issuer = issuer.id WHERE issuer.id = ?1",
        )?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    laid_over(packed, discovery, jwks)
}

fn laid_over(packed: Option<Vec<u8>>, discovery: Option<i64>, jwks: Option<i64>) -> Result<Ledger, Trouble> {
    let mut ledger: Ledger = packed.map(|packed| unpack("a ledger", &packed)).transpose()?.unwrap_or_default();
    for (channel, touched) in [(Channel::Discovery, discovery), (Channel::Jwks, jwks)] {
        if let Some(at) = touched {
            ledger.touch(channel, from_seconds(at)?);
        }
    }
    Ok(ledger)
}

pub(super) fn rows(tx: &Transaction<'_>) -> Result<Vec<IssuerRow>, Trouble> {
    let mut statement = tx.prepare_cached(
        "SELECT name, about, retired, due, last_polled, last_seen, standing.content, ledger.content, discovery_touched, jwks_touched
         FROM issuer LEFT JOIN standing ON standing.issuer = issuer.id LEFT JOIN ledger ON ledger.issuer = issuer.id ORDER BY name",
    )?;
    let mut rows = statement.query(())?;
    let mut issuers = Vec::new();
    while let Some(row) = rows.next()? {
        let seconds = |at: Option<i64>| at.map(from_seconds).transpose();
        let standing: Option<Vec<u8>> = row.get(6)?;
        issuers.push(IssuerRow {
            issuer: IssuerId::new(row.get::<_, String>(0)?),
            about: row.get(1)?,
            retired: row.get(2)?,
            due: row.get::<_, Option<i64>>(3)?.map(from_millis).transpose()?,
            last_polled: seconds(row.get(4)?)?,
            last_seen: seconds(row.get(5)?)?,
            standing: standing.map(|packed| unpack("a standing", &packed)).transpose()?.unwrap_or_default(),
            ledger: laid_over(row.get(7)?, row.get(8)?, row.get(9)?)?,
        });
    }
    Ok(issuers)
}
