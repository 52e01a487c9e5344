//! Observations: bodies once by hash, answers once, runs of equal observations as one span.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::Trouble;
use super::stored::{Answer, Moment, Unreadable, from_seconds, join, pack, part, squeeze, squeeze_against, unpack, unsqueeze};
use crate::model::{Attempt, Body, Digest, IssuerId, Observation};
use crate::store::{Filter, Span};

/// How many differences a document may be away from a whole one: each costs one more row to read.
const DEEPEST: i64 = 8;

/// Lengthens the issuer's last span where the answer is the same, else begins a new one.
pub(super) fn record(tx: &Transaction<'_>, issuer: i64, observation: &Observation) -> Result<(), Trouble> {
    let at = observation.at.timestamp();
    let fingerprint = observation.answer().0;
    let last: Option<(i64, i64, [u8; 32])> = tx
        .prepare_cached("SELECT id, last_at, fingerprint FROM span WHERE issuer = ?1 ORDER BY first_at DESC, id DESC LIMIT 1")?
        .query_row([issuer], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match last {
        Some((_, last_at, _)) if at < last_at => Err(Trouble::Refused(format!(
            "an observation of \"{}\" at {} is older than its newest, at {}",
            observation.issuer,
            observation.at.to_rfc3339(),
            from_seconds(last_at)?.to_rfc3339()
        ))),
        Some((span, _, known)) if known == fingerprint => {
            tx.prepare_cached("UPDATE span SET last_at = ?2, polls = polls + 1 WHERE id = ?1")?.execute((span, at))?;
            Ok(())
        }
        _ => begin(tx, issuer, observation, fingerprint),
    }
}

fn begin(tx: &Transaction<'_>, issuer: i64, observation: &Observation, fingerprint: [u8; 32]) -> Result<(), Trouble> {
    let discovery = put_attempt(tx, issuer, "discovery_document", observation.discovery.as_ref())?;
    let jwks = put_attempt(tx, issuer, "jwks_document", observation.jwks.as_ref())?;
    let at = observation.at.timestamp();
    tx.prepare_cached(
        "INSERT INTO span (issuer, first_at, last_at, polls, fingerprint,
            discovery, discovery_moment, discovery_document, jwks, jwks_moment, jwks_document)
         VALUES (?1, ?2, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        issuer,
        at,
        fingerprint,
        discovery.answer,
        discovery.moment,
        discovery.document,
        jwks.answer,
        jwks.moment,
        jwks.document,
    ))?;
    Ok(())
}

/// The columns of an attempt; all null where none was made.
#[derive(Default)]
struct Columns {
    answer: Option<i64>,
    moment: Option<String>,
    document: Option<i64>,
}

fn put_attempt(tx: &Transaction<'_>, issuer: i64, column: &'static str, attempt: Option<&Attempt>) -> Result<Columns, Trouble> {
    let Some(attempt) = attempt else {
        return Ok(Columns::default());
    };
    let (answer, moment) = part(attempt);
    Ok(Columns {
        answer: Some(put_answer(tx, &answer)?),
        moment: Some(serde_json::to_string(&moment).map_err(std::io::Error::from)?),
        document: attempt.body.as_deref().map(|body| put_document(tx, issuer, column, body)).transpose()?,
    })
}

fn put_answer(tx: &Transaction<'_>, answer: &Answer) -> Result<i64, Trouble> {
    let hash = Digest::of(&serde_json::to_vec(answer).map_err(std::io::Error::from)?).0;
    let known = tx.prepare_cached("SELECT id FROM answer WHERE sha256 = ?1")?.query_row([hash], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO answer (sha256, content) VALUES (?1, ?2)")?.execute((hash, pack(answer)?))?;
    Ok(tx.last_insert_rowid())
}

fn put_document(tx: &Transaction<'_>, issuer: i64, column: &'static str, body: &Body) -> Result<i64, Trouble> {
    let known: Option<i64> =
        tx.prepare_cached("SELECT id FROM document WHERE sha256 = ?1")?.query_row([body.sha256.0], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    if body.redacted.is_empty() && Digest::of(&body.bytes) != body.sha256 {
        return Err(Trouble::Refused(format!("the bytes of document {} are not those of its hash", body.sha256)));
    }
    let whole = squeeze(&body.bytes)?;
    let (base, depth, content) = match difference(tx, issuer, column, &body.bytes)? {
        // Half is worth the longer way to read it.
        Some((base, depth, content)) if content.len() * 2 < whole.len() => (Some(base), depth, content),
        _ => (None, 0, whole),
    };
    let redacted = serde_json::to_string(&body.redacted).map_err(std::io::Error::from)?;
    let size = i64::try_from(body.bytes.len()).unwrap_or(i64::MAX);
    tx.prepare_cached("INSERT INTO document (sha256, redacted, size, base, depth, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
        body.sha256.0,
        redacted,
        size,
        base,
        depth,
        content,
    ))?;
    Ok(tx.last_insert_rowid())
}

/// The bytes as a difference to the last document of this issuer and channel: key sets change key by key.
fn difference(tx: &Transaction<'_>, issuer: i64, column: &'static str, bytes: &[u8]) -> Result<Option<(i64, i64, Vec<u8>)>, Trouble> {
    let base: Option<(i64, i64)> = tx
        .prepare_cached(&format!(
            "SELECT document.id, document.depth FROM span JOIN document ON document.id = span.{column}
             WHERE span.issuer = ?1 ORDER BY span.first_at DESC, span.id DESC LIMIT 1"
        ))?
        .query_row([issuer], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((base, depth)) = base.filter(|(_, depth)| *depth < DEEPEST) else {
        return Ok(None);
    };
    let dictionary = content(tx, base)?;
    Ok(squeeze_against(&dictionary, bytes)?.map(|content| (base, depth + 1, content)))
}

/// A document's bytes, its bases applied.
fn content(tx: &Transaction<'_>, document: i64) -> Result<Vec<u8>, Trouble> {
    let mut statement = tx.prepare_cached("SELECT base, size, content FROM document WHERE id = ?1")?;
    let mut chain: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut next = Some(document);
    while let Some(id) = next {
        if chain.len() as i64 > DEEPEST {
            return Err(Unreadable::new("a document", "its differences go in a circle").into());
        }
        let (base, size, packed): (Option<i64>, i64, Vec<u8>) =
            statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        chain.push((usize::try_from(size).map_err(|_| Unreadable::new("a document", "its size is negative"))?, packed));
        next = base;
    }
    let mut bytes: Option<Vec<u8>> = None;
    for (size, packed) in chain.into_iter().rev() {
        bytes = Some(unsqueeze(bytes.as_deref(), &packed, size)?);
    }
    Ok(bytes.unwrap_or_default())
}

/// The issuer's last observation.
pub(super) fn last(tx: &Transaction<'_>, issuer: i64, name: &IssuerId) -> Result<Option<Observation>, Trouble> {
    let mut statement = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM span JOIN issuer ON issuer.id = span.issuer
         WHERE span.issuer = ?1 ORDER BY first_at DESC, span.id DESC LIMIT 1"
    ))?;
    let mut rows = statement.query([issuer])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let span = Reader::new(tx).span(row)?;
    Ok(Some(Observation { issuer: name.clone(), at: span.last_at, ..span.first }))
}

/// Spans that overlap the filter's time.
pub(super) fn list(tx: &Transaction<'_>, filter: &Filter) -> Result<Vec<Span>, Trouble> {
    let mut reader = Reader::new(tx);
    let mut statement = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM span JOIN issuer ON issuer.id = span.issuer
         WHERE (?1 IS NULL OR issuer.name = ?1) AND last_at >= ?2 AND first_at <= ?3 ORDER BY first_at, span.id"
    ))?;
    let (since, until) = super::period(filter);
    let mut rows = statement.query([&filter.issuer.as_ref().map(IssuerId::as_str) as &dyn ToSql, &since, &until])?;
    let mut spans = Vec::new();
    while let Some(row) = rows.next()? {
        spans.push(reader.span(row)?);
    }
    Ok(spans)
}

const COLUMNS: &str = "issuer.name, first_at, last_at, polls,
    discovery, discovery_moment, discovery_document, jwks, jwks_moment, jwks_document";

/// Reads spans, each answer and each body once.
struct Reader<'a> {
    tx: &'a Transaction<'a>,
    answers: HashMap<i64, Rc<Answer>>,
    bodies: HashMap<i64, Arc<Body>>,
}

impl<'a> Reader<'a> {
    fn new(tx: &'a Transaction<'a>) -> Self {
        Self { tx, answers: HashMap::new(), bodies: HashMap::new() }
    }

    fn span(&mut self, row: &Row<'_>) -> Result<Span, Trouble> {
        let first = Observation {
            issuer: IssuerId::new(row.get::<_, String>(0)?),
            at: from_seconds(row.get(1)?)?,
            discovery: self.attempt(row.get(4)?, row.get(5)?, row.get(6)?)?,
            jwks: self.attempt(row.get(7)?, row.get(8)?, row.get(9)?)?,
        };
        Ok(Span { first, last_at: from_seconds(row.get(2)?)?, polls: row.get::<_, i64>(3)?.unsigned_abs() })
    }

    fn attempt(&mut self, answer: Option<i64>, moment: Option<String>, document: Option<i64>) -> Result<Option<Attempt>, Trouble> {
        let (Some(answer), Some(moment)) = (answer, moment) else {
            return Ok(None);
        };
        let moment: Moment = serde_json::from_str(&moment).map_err(|error| Unreadable::new("an observation", error))?;
        let answer = self.answer(answer)?;
        let body = document.map(|document| self.body(document)).transpose()?;
        Ok(Some(join(&answer, moment, body)))
    }

    fn answer(&mut self, id: i64) -> Result<Rc<Answer>, Trouble> {
        if let Some(answer) = self.answers.get(&id) {
            return Ok(Rc::clone(answer));
        }
        let packed: Vec<u8> = self.tx.prepare_cached("SELECT content FROM answer WHERE id = ?1")?.query_row([id], |row| row.get(0))?;
        let answer = Rc::new(unpack("an observation", &packed)?);
        self.answers.insert(id, Rc::clone(&answer));
        Ok(answer)
    }

    fn body(&mut self, id: i64) -> Result<Arc<Body>, Trouble> {
        if let Some(body) = self.bodies.get(&id) {
            return Ok(Arc::clone(body));
        }
        let (sha256, redacted): ([u8; 32], String) = self
            .tx
            .prepare_cached("SELECT sha256, redacted FROM document WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let redacted = serde_json::from_str(&redacted).map_err(|error| Unreadable::new("a document", error))?;
        let body = Arc::new(Body { sha256: Digest(sha256), bytes: content(self.tx, id)?, redacted });
        self.bodies.insert(id, Arc::clone(&body));
        Ok(body)
    }
}
