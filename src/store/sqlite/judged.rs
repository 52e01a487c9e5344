//! What the judgement came to: findings, lifecycle events, incidents.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::stored::{Unreadable, from_seconds, from_word, pack, pack_events, unpack, unpack_events, word};
use super::{Trouble, issuers, period};
use crate::model::{Event, Finding, FindingState, Incident, IncidentState, IssuerId, Subject, Thumbprint};
use crate::store::Filter;

pub(super) fn upsert_findings(tx: &Transaction<'_>, findings: &[Finding]) -> Result<(), Trouble> {
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO finding
            (issuer, rule, subject, kid, line, severity, certainty, document, pointer, message, cites, first_seen, last_seen, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for finding in findings {
        statement.execute((
            issuers::known(tx, &finding.issuer)?,
            &finding.rule,
            finding.subject.identity(),
            &finding.subject.kid,
            finding.subject.line.and_then(|line| i64::try_from(line).ok()),
            word(&finding.severity),
            word(&finding.certainty),
            word(&finding.document),
            &finding.pointer,
            &finding.message,
            serde_json::to_string(&finding.cites).map_err(std::io::Error::from)?,
            finding.first_seen.timestamp(),
            finding.last_seen.timestamp(),
            word(&finding.state),
        ))?;
    }
    Ok(())
}

/// The findings of an issuer that are open or waived.
pub(super) fn unresolved(tx: &Transaction<'_>, issuer: i64) -> Result<Vec<Finding>, Trouble> {
    read_findings(tx, "finding.issuer = ?1 AND state <> 'resolved'", [issuer])
}

pub(super) fn findings(tx: &Transaction<'_>, filter: &Filter) -> Result<Vec<Finding>, Trouble> {
    let (since, until) = period(filter);
    let issuer = filter.issuer.as_ref().map(IssuerId::as_str);
    let mut findings = read_findings(
        tx,
        "(?1 IS NULL OR issuer.name = ?1) AND (state <> 'resolved' OR finding.last_seen >= ?2) AND first_seen <= ?3",
        (issuer, since, until),
    )?;
    if let Some(states) = &filter.states {
        findings.retain(|finding| states.contains(&finding.state));
    }
    Ok(findings)
}

fn read_findings(tx: &Transaction<'_>, condition: &'static str, values: impl rusqlite::Params) -> Result<Vec<Finding>, Trouble> {
    let mut statement = tx.prepare_cached(&format!(
        "SELECT issuer.name, rule, subject, kid, line, severity, certainty, document, pointer, message, cites, first_seen,
                -- An open finding was seen again at each equal look since, though nobody wrote that into its row.
                CASE WHEN state = 'open' THEN max(finding.last_seen, coalesce(
                    CASE document WHEN 'discovery' THEN discovery_touched WHEN 'jwks' THEN jwks_touched WHEN 'history' THEN jwks_touched END, 0))
                ELSE finding.last_seen END, state
         FROM finding JOIN issuer ON issuer.id = finding.issuer WHERE {condition} ORDER BY issuer.name, rule, subject"
    ))?;
    let mut rows = statement.query(values)?;
    let mut findings = Vec::new();
    while let Some(row) = rows.next()? {
        findings.push(finding(row)?);
    }
    Ok(findings)
}

fn finding(row: &Row<'_>) -> Result<Finding, Trouble> {
    const WHAT: &str = "a finding";
    let identity: String = row.get(2)?;
    let unkeyed = identity.is_empty() || identity.starts_with("kid:");
    let line: Option<i64> = row.get(4)?;
    let cites: String = row.get(10)?;
    Ok(Finding {
        issuer: IssuerId::new(row.get::<_, String>(0)?),
        rule: row.get(1)?,
        subject: Subject {
            thumbprint: (!unkeyed).then_some(Thumbprint(identity)),
            kid: row.get(3)?,
            line: line.and_then(|line| usize::try_from(line).ok()),
        },
        severity: from_word(WHAT, row.get(5)?)?,
        certainty: from_word(WHAT, row.get(6)?)?,
        document: from_word(WHAT, row.get(7)?)?,
        pointer: row.get(8)?,
        message: row.get(9)?,
        cites: serde_json::from_str(&cites).map_err(|error| Unreadable::new(WHAT, error))?,
        first_seen: from_seconds(row.get(11)?)?,
        last_seen: from_seconds(row.get(12)?)?,
        state: from_word(WHAT, row.get(13)?)?,
    })
}

pub(super) fn insert_events(tx: &Transaction<'_>, events: &[Event]) -> Result<(), Trouble> {
    let mut polls: std::collections::BTreeMap<_, Vec<&Event>> = std::collections::BTreeMap::new();
    for event in events {
        polls.entry((&event.issuer, event.at.timestamp())).or_default().push(event);
    }
    let mut statement = tx.prepare_cached("INSERT INTO event (issuer, at, lines) VALUES (?1, ?2, ?3)")?;
    for ((issuer, at), events) in polls {
        statement.execute((issuers::known(tx, issuer)?, at, pack_events(&events)?))?;
    }
    Ok(())
}

pub(super) fn events(tx: &Transaction<'_>, filter: &Filter) -> Result<Vec<Event>, Trouble> {
    let mut statement = tx.prepare_cached(
        "SELECT lines FROM event JOIN issuer ON issuer.id = event.issuer
         WHERE (?1 IS NULL OR issuer.name = ?1) AND at >= ?2 AND at <= ?3",
    )?;
    let (since, until) = period(filter);
    let mut rows = statement.query((filter.issuer.as_ref().map(IssuerId::as_str), since, until))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.extend(unpack_events(&row.get::<_, Vec<u8>>(0)?)?);
    }
    events.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Ok(events)
}

pub(super) fn upsert_incidents(tx: &Transaction<'_>, incidents: &[Incident]) -> Result<(), Trouble> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO incident (id, issuer, opened, resolved, state, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET
            issuer = excluded.issuer, opened = excluded.opened, resolved = excluded.resolved, state = excluded.state,
            content = excluded.content",
    )?;
    for incident in incidents {
        statement.execute((
            &incident.id,
            incident.issuer.as_str(),
            incident.opened.timestamp(),
            incident.resolved.map(|at| at.timestamp()),
            word(&incident.state),
            pack(incident)?,
        ))?;
    }
    Ok(())
}

/// The open incidents of an issuer, oldest first.
pub(super) fn open_incidents(tx: &Transaction<'_>, issuer: &IssuerId) -> Result<Vec<Incident>, Trouble> {
    read_incidents(tx, "issuer = ?1 AND state = 'open' ORDER BY opened, seq", [issuer.as_str()])
}

pub(super) fn incident(tx: &Transaction<'_>, id: &str) -> Result<Option<Incident>, Trouble> {
    let packed: Option<Vec<u8>> =
        tx.prepare_cached("SELECT content FROM incident WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()?;
    Ok(packed.map(|packed| unpack("an incident", &packed)).transpose()?)
}

pub(super) fn incidents(tx: &Transaction<'_>, filter: &Filter) -> Result<Vec<Incident>, Trouble> {
    let (since, until) = period(filter);
    let mut incidents = read_incidents(
        tx,
        "(?1 IS NULL OR issuer = ?1) AND (state = 'open' OR coalesce(resolved, opened) >= ?2) AND opened <= ?3
         ORDER BY opened DESC, seq DESC",
        (filter.issuer.as_ref().map(IssuerId::as_str), since, until),
    )?;
    if let Some(states) = &filter.states {
        let wanted = |incident: &Incident| match incident.state {
            IncidentState::Open => FindingState::Open,
            IncidentState::Resolved => FindingState::Resolved,
        };
        incidents.retain(|incident| states.contains(&wanted(incident)));
    }
    Ok(incidents)
}

fn read_incidents(tx: &Transaction<'_>, rest: &'static str, values: impl rusqlite::Params) -> Result<Vec<Incident>, Trouble> {
    let mut statement = tx.prepare_cached(&format!("SELECT content FROM incident WHERE {rest}"))?;
    let rows = statement.query_map(values, |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|packed| Ok(unpack("an incident", &packed?)?)).collect()
}
