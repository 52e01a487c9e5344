//! How nouns rest in a database's columns, whatever the database: times as integers, JSON and bodies compressed, an
//! attempt parted into what repeats and what moves. Never judges, never opens anything.

use std::io::Read as _;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::model::{Attempt, Body, Event, Redirect, TlsFacts, Unseen};
use crate::parse::json;

/// What stands in the database cannot be read back; says what it is.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read back ({why})")]
pub(super) struct Unreadable {
    what: &'static str,
    why: String,
}

impl Unreadable {
    pub(super) fn new(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self { what, why: why.to_string() }
    }
}

/// Bodies: written once, read often.
const LEVEL: i32 = 6;

/// More than any packed JSON of ours comes to; a guard against damage, not a limit for users.
const LARGEST: u64 = 1 << 30;

/// What a raw dictionary must not begin with, or zstd takes it for a trained one (RFC 8878 §5).
const TRAINED: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// Compresses, with a checksum that tells a rotten bit from a body.
pub(super) fn squeeze(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    squeeze_with(Compressor::new(LEVEL)?, bytes)
}

/// Compresses as a difference to `base`; `None` where `base` cannot serve.
pub(super) fn squeeze_against(base: &[u8], bytes: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    if base.is_empty() || base.starts_with(&TRAINED) {
        return Ok(None);
    }
    squeeze_with(Compressor::with_dictionary(LEVEL, base)?, bytes).map(Some)
}

fn squeeze_with(mut compressor: Compressor<'_>, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    compressor.compress(bytes)
}

/// Undoes [`squeeze`] and, with the base, [`squeeze_against`]; `size` is that of the result.
pub(super) fn unsqueeze(base: Option<&[u8]>, bytes: &[u8], size: usize) -> Result<Vec<u8>, Unreadable> {
    let failed = |error: std::io::Error| Unreadable::new("a document", error);
    let mut decompressor = match base {
        Some(base) => Decompressor::with_dictionary(base),
        None => Decompressor::new(),
    }
    .map_err(failed)?;
    let body = decompressor.decompress(bytes, size).map_err(failed)?;
    if body.len() != size {
        return Err(Unreadable::new("a document", format_args!("{} bytes instead of {size}", body.len())));
    }
    Ok(body)
}

/// A value as compressed JSON.
pub(super) fn pack<T: Serialize + ?Sized>(value: &T) -> std::io::Result<Vec<u8>> {
    squeeze(&serde_json::to_vec(value)?)
}

/// Undoes [`pack`].
pub(super) fn unpack<T: DeserializeOwned>(what: &'static str, packed: &[u8]) -> Result<T, Unreadable> {
    let mut json = Vec::new();
    zstd::Decoder::with_buffer(packed)
        .and_then(|decoder| decoder.take(LARGEST).read_to_end(&mut json))
        .map_err(|error| Unreadable::new(what, error))?;
    serde_json::from_slice(&json).map_err(|error| Unreadable::new(what, error))
}

/// A value of a closed set as the word that JSON has for it.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("an enum of names alone is written as a string, not {other:?}"),
    }
}

/// Undoes [`word`].
pub(super) fn from_word<T: DeserializeOwned>(what: &'static str, word: String) -> Result<T, Unreadable> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|error| Unreadable::new(what, error))
}

/// Undoes `timestamp()`.
pub(super) fn from_seconds(seconds: i64) -> Result<DateTime<Utc>, Unreadable> {
    DateTime::from_timestamp(seconds, 0).ok_or_else(|| Unreadable::new("a time", seconds))
}

/// Undoes `timestamp_millis()`.
pub(super) fn from_millis(millis: i64) -> Result<DateTime<Utc>, Unreadable> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| Unreadable::new("a time", millis))
}

/// The events of one poll, one line each.
pub(super) fn pack_events(events: &[&Event]) -> std::io::Result<Vec<u8>> {
    let lines: Vec<String> = events.iter().map(|event| event.to_line()).collect();
    pack(&lines)
}

/// Undoes [`pack_events`].
pub(super) fn unpack_events(packed: &[u8]) -> Result<Vec<Event>, Unreadable> {
    let lines: Vec<String> = unpack("an event", packed)?;
    let event = |line: String| json::read(line.as_bytes(), json::DEEPEST).ok().and_then(|parsed| Event::from_value(&parsed.value));
    lines.into_iter().map(|line| event(line).ok_or_else(|| Unreadable::new("an event", "not a line of ours"))).collect()
}

/// What of an attempt repeats from span to span, and is therefore kept once however often it was the answer.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    url: String,
    status: u16,
    error: Option<String>,
    redirects: Vec<Redirect>,
    tls: Option<TlsFacts>,
    /// In their order; `None`: the value moves, and is with the span.
    headers: Vec<(String, Option<String>)>,
}

/// What of an attempt is each time another.
#[derive(Serialize, Deserialize)]
pub(super) struct Moment {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The values missing in [`Answer::headers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<String>,
}

/// Parts an attempt. Cookies and request identifiers are evidence of nothing and are left out.
pub(super) fn part(attempt: &Attempt) -> (Answer, Moment) {
    let mut moving = Vec::new();
    let mut headers = Vec::new();
    for (name, value) in &attempt.headers {
        let lower = name.to_ascii_lowercase();
        if left_out(&lower) {
            continue;
        }
        if moves(&lower, value) {
            moving.push(value.clone());
            headers.push((name.clone(), None));
        } else {
            headers.push((name.clone(), Some(value.clone())));
        }
    }
    let answer = Answer {
        url: attempt.url.clone(),
        status: attempt.status,
        error: attempt.unseen.as_ref().map(|unseen| unseen.text.clone()),
        redirects: attempt.redirects.clone(),
        tls: attempt.tls.clone(),
        headers,
    };
    (answer, Moment { took_ms: attempt.took_ms, address: attempt.address.clone(), headers: moving })
}

/// Undoes [`part`].
pub(super) fn join(answer: &Answer, moment: Moment, body: Option<std::sync::Arc<Body>>) -> Attempt {
    let mut moving = moment.headers.into_iter();
    let mut value = |kept: &Option<String>| kept.clone().or_else(|| moving.next()).unwrap_or_default();
    Attempt {
        url: answer.url.clone(),
        status: answer.status,
        headers: answer.headers.iter().map(|(name, kept)| (name.clone(), value(kept))).collect(),
        body,
        unseen: answer.error.clone().map(Unseen::from_text),
        took_ms: moment.took_ms,
        redirects: answer.redirects.clone(),
        address: moment.address,
        tls: answer.tls.clone(),
    }
}

/// Headers that name the visitor or the request.
fn left_out(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "set-cookie",
        "set-cookie2",
        "cf-ray",
        "x-amz-cf-id",
        "x-timer",
        "report-to",
        "nel",
        "server-timing",
        "traceparent",
        "x-azure-ref",
    ];
    const ENDS: [&str; 4] = ["request-id", "requestid", "trace-id", "correlation-id"];
    NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Headers whose value is likely to be another one next time.
fn moves(name: &str, value: &str) -> bool {
    const NAMES: [&str; 6] = ["date", "age", "expires", "etag", "last-modified", "cache-control"];
    NAMES.contains(&name) || name.starts_with("x-") || name.starts_with("cf-") || value.contains("nonce-")
}
