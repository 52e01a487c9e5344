//! Archives: observations as JSON Lines, read and written (interface.md, "Archive").
//!
//! Reading ends before anything is applied: the first broken line is an error with its number. Nothing here judges,
//! and nothing here opens files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chrono::{DateTime, Timelike as _, Utc};

use crate::model::json::{Object, Value};
use crate::model::{Act, Attempt, Body, Digest, IssuerId, Observation, Unseen, timestamp};
use crate::parse::json::{DEEPEST, read as read_json};

/// What an archive holds, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    pub observations: Vec<Archived>,
    pub acts: Vec<Act>,
    /// Record types that we do not know (and acts that we cannot read), with how many there are of each.
    pub unknown: BTreeMap<String, usize>,
}

/// An observation, and how long the same answer was seen again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    pub observation: Observation,
    /// The last look with the same answer; `None`: this one only.
    pub last_at: Option<DateTime<Utc>>,
    /// How many looks it stands for.
    pub polls: u64,
}

impl Archived {
    /// An observation that stands for itself.
    #[must_use]
    pub fn once(observation: Observation) -> Self {
        Self { observation, last_at: None, polls: 1 }
    }
}

/// Why an archive cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct ArchiveError {
    /// From 1.
    pub line: usize,
    pub text: String,
}

/// Reads a whole archive: zstd or gzip, known by their first bytes, or plain.
///
/// # Errors
/// A line is broken, names a document that did not come before it, or the input ends too early or cannot be read.
pub fn read(input: impl Read) -> Result<Archive, ArchiveError> {
    let at_line = |line: usize| move |error: io::Error| ArchiveError { line, text: unreadable(&error) };
    let mut input = decompressed(input).map_err(at_line(1))?;
    let mut reader = Reader::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if input.read_until(b'\n', &mut text).map_err(at_line(line))? == 0 {
            break;
        }
        if !text.trim_ascii().is_empty() {
            reader.line(&text).map_err(|text| ArchiveError { line, text })?;
        }
    }
    Ok(reader.archive)
}

/// The order of the reference: by issuer, then time; equal times in file order.
pub fn sort_by_issuer(observations: &mut [Archived]) {
    observations.sort_by(|a, b| (&a.observation.issuer, a.observation.at).cmp(&(&b.observation.issuer, b.observation.at)));
}

/// One order of time over all issuers: by time, then issuer; equal ones in file order.
pub fn sort_by_time(observations: &mut [Archived]) {
    observations.sort_by(|a, b| (a.observation.at, &a.observation.issuer).cmp(&(b.observation.at, &b.observation.issuer)));
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Zstd,
}

/// Writes an archive: each document before its first use, then observations in the order given, then acts.
///
/// # Errors
/// Writing fails.
pub fn write<'a>(out: impl Write, packing: Packing, observations: impl IntoIterator<Item = &'a Archived>, acts: &[Act]) -> io::Result<()> {
    match packing {
        Packing::Plain => write_lines(out, observations, acts)?.flush(),
        Packing::Zstd => write_lines(zstd::Encoder::new(out, 9)?, observations, acts)?.finish()?.flush(),
    }
}

fn write_lines<'a, W: Write>(out: W, observations: impl IntoIterator<Item = &'a Archived>, acts: &[Act]) -> io::Result<W> {
    let mut writer = Writer { out, written: HashSet::new() };
    for archived in observations {
        writer.observation(archived)?;
    }
    for act in acts {
        writer.act(act)?;
    }
    Ok(writer.out)
}

fn decompressed<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let zstd = magic == [0x28, 0xB5, 0x2F, 0xFD] || (magic.len() == 4 && magic[0] & 0xF0 == 0x50 && magic[1..] == [0x2A, 0x4D, 0x18]);
    let gzip = magic.starts_with(&[0x1F, 0x8B]);
    let whole = Cursor::new(magic).chain(input);
    Ok(if zstd {
        let mut decoder = zstd::Decoder::new(whole)?;
        // What `zstd --long=31` writes; the file is the operator's own.
        decoder.window_log_max(31)?;
        Box::new(BufReader::new(decoder))
    } else if gzip {
        Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(whole)))
    } else {
        Box::new(BufReader::new(whole))
    })
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed archive is cut off".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Collects records; errors are sentences, their line is the caller's.
#[derive(Default)]
struct Reader {
    archive: Archive,
    documents: HashMap<Digest, Arc<Body>>,
}

impl Reader {
    fn line(&mut self, text: &[u8]) -> Result<(), String> {
        let record = read_json(text, DEEPEST).map_err(|error| format!("not JSON: {} at byte {}", error.text, error.offset))?.value;
        let Some(kind) = record.member("type").and_then(Value::as_str) else {
            return Err("not a record of an archive: an object with a type is expected".to_owned());
        };
        match kind {
            "document" => self.document(&record),
            "observation" => self.observation(&record),
            "act" => {
                match serde_json::from_str::<Act>(&record.canonical()) {
                    Ok(act) => self.archive.acts.push(act),
                    Err(_) => self.count("act"),
                }
                Ok(())
            }
            other => {
                self.count(other);
                Ok(())
            }
        }
    }

    fn count(&mut self, kind: &str) {
        *self.archive.unknown.entry(kind.to_owned()).or_default() += 1;
    }

    fn document(&mut self, record: &Value) -> Result<(), String> {
        let sha256 = digest(record.member("sha256")).ok_or("the document's sha256 is not 64 hexadecimal digits")?;
        let bytes = match (record.member("body"), record.member("body_base64")) {
            (Some(Value::String(text)), _) => text.clone().into_bytes(),
            (None, Some(Value::String(text))) => {
                let text = text.trim_end_matches('=');
                STANDARD_NO_PAD.decode(text).map_err(|_| "the document's body_base64 is not base64".to_owned())?
            }
            _ => return Err("the document has neither the text body nor the text body_base64".to_owned()),
        };
        let redacted = match record.member("redacted") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(_) => return Err("the document's redacted is not an array".to_owned()),
        };
        if redacted.is_empty() && Digest::of(&bytes) != sha256 {
            return Err(format!("the document's body does not have the hash {sha256}"));
        }
        self.documents.insert(sha256, Arc::new(Body { sha256, bytes, redacted }));
        Ok(())
    }

    fn observation(&mut self, record: &Value) -> Result<(), String> {
        let issuer = record.member("issuer").and_then(Value::as_str).ok_or("the observation's issuer is not a text")?;
        let at = time(record.member("at")).ok_or("the observation's at is not an RFC 3339 time")?;
        let last_at = match record.member("last_at") {
            None | Some(Value::Null) => None,
            given => Some(time(given).ok_or("the observation's last_at is not an RFC 3339 time")?),
        };
        let observation = Observation {
            issuer: IssuerId::new(issuer),
            at,
            discovery: self.attempt(record.member("discovery")).map_err(|text| format!("discovery: {text}"))?,
            jwks: self.attempt(record.member("jwks")).map_err(|text| format!("jwks: {text}"))?,
        };
        let polls = number(record.member("polls")).unwrap_or(1);
        self.archive.observations.push(Archived { observation, last_at, polls });
        Ok(())
    }

    fn attempt(&self, value: Option<&Value>) -> Result<Option<Attempt>, String> {
        let attempt = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(attempt)) => attempt,
            Some(_) => return Err("not an object".to_owned()),
        };
        let status = match attempt.member("status") {
            None | Some(Value::Null) => 0,
            given => number(given).ok_or("status is not an HTTP status")?,
        };
        let unseen = match attempt.member("error") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(Unseen::from_text(text.as_str())),
            Some(_) => return Err("error is not a text".to_owned()),
        };
        Ok(Some(Attempt {
            url: attempt.member("url").and_then(Value::as_str).unwrap_or_default().to_owned(),
            status,
            headers: headers(attempt.member("headers")),
            body: self.body(attempt.member("sha256"))?,
            unseen,
            took_ms: number(attempt.member("took_ms")),
            redirects: lenient(attempt.member("redirects")).unwrap_or_default(),
            address: attempt.member("address").and_then(Value::as_str).map(str::to_owned),
            tls: lenient(attempt.member("tls")),
        }))
    }

    fn body(&self, sha256: Option<&Value>) -> Result<Option<Arc<Body>>, String> {
        if matches!(sha256, None | Some(Value::Null)) {
            return Ok(None);
        }
        let sha256 = digest(sha256).ok_or("sha256 is not 64 hexadecimal digits")?;
        let body = self.documents.get(&sha256).ok_or_else(|| format!("no document with the hash {sha256} came before"))?;
        Ok(Some(Arc::clone(body)))
    }
}

fn digest(value: Option<&Value>) -> Option<Digest> {
    Digest::from_hex(value?.as_str()?)
}

/// An instant in whole seconds.
fn time(value: Option<&Value>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(value?.as_str()?).ok()?.to_utc().with_nanosecond(0)
}

fn number<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::Number(text) => text.parse().ok(),
        _ => None,
    }
}

/// Optional facts that a recorder may spell in its own way: what does not fit is as if it were absent.
fn lenient<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_str(&value?.canonical()).ok()
}

fn headers(value: Option<&Value>) -> Vec<(String, String)> {
    let members = value.and_then(Value::as_object).map_or(&[][..], |object| &object.members);
    let pairs = members.iter().flat_map(|(name, value)| {
        let values = match value {
            Value::Array(values) => &values[..],
            single => std::slice::from_ref(single),
        };
        values.iter().filter_map(Value::as_str).map(|value| (name.clone(), value.to_owned()))
    });
    pairs.collect()
}

struct Writer<W> {
    out: W,
    written: HashSet<Digest>,
}

impl<W: Write> Writer<W> {
    fn observation(&mut self, archived: &Archived) -> io::Result<()> {
        let Observation { issuer, at, discovery, jwks } = &archived.observation;
        for attempt in [discovery, jwks].into_iter().flatten() {
            if let Some(body) = &attempt.body {
                self.document(body)?;
            }
        }
        let mut members = vec![
            ("type", text("observation")),
            ("issuer", text(issuer.as_str())),
            ("at", text(timestamp(*at))),
            ("discovery", discovery.as_ref().map_or(Value::Null, attempt)),
            ("jwks", jwks.as_ref().map_or(Value::Null, attempt)),
        ];
        if let Some(last_at) = archived.last_at {
            members.push(("last_at", text(timestamp(last_at))));
        }
        if archived.polls != 1 {
            members.push(("polls", Value::Number(archived.polls.to_string())));
        }
        self.write(members)
    }

    fn document(&mut self, body: &Body) -> io::Result<()> {
        if !self.written.insert(body.sha256) {
            return Ok(());
        }
        let mut members = vec![("type", text("document")), ("sha256", text(body.sha256.to_string()))];
        members.push(match std::str::from_utf8(&body.bytes) {
            Ok(bytes) => ("body", text(bytes)),
            Err(_) => ("body_base64", text(STANDARD.encode(&body.bytes))),
        });
        if !body.redacted.is_empty() {
            members.push(("redacted", Value::Array(body.redacted.iter().map(text).collect())));
        }
        self.write(members)
    }

    fn act(&mut self, act: &Act) -> io::Result<()> {
        let Value::Object(Object { members }) = to_value(act)? else {
            return Err(io::Error::other("an act is an object"));
        };
        let mut record = Object { members: vec![("type".to_owned(), text("act"))] };
        record.members.extend(members);
        self.line(&Value::Object(record))
    }

    fn write(&mut self, members: Vec<(&str, Value)>) -> io::Result<()> {
        self.line(&object(members))
    }

    fn line(&mut self, record: &Value) -> io::Result<()> {
        self.out.write_all(record.canonical().as_bytes())?;
        self.out.write_all(b"\n")
    }
}

fn attempt(attempt: &Attempt) -> Value {
    let mut members = vec![
        ("url", text(&attempt.url)),
        ("status", Value::Number(attempt.status.to_string())),
        ("headers", header_object(&attempt.headers)),
        ("sha256", attempt.body.as_ref().map_or(Value::Null, |body| text(body.sha256.to_string()))),
        ("error", attempt.unseen.as_ref().map_or(Value::Null, |unseen| text(&unseen.text))),
    ];
    if let Some(took_ms) = attempt.took_ms {
        members.push(("took_ms", Value::Number(took_ms.to_string())));
    }
    if !attempt.redirects.is_empty() {
        members.extend(to_value(&attempt.redirects).ok().map(|redirects| ("redirects", redirects)));
    }
    if let Some(address) = &attempt.address {
        members.push(("address", text(address)));
    }
    if let Some(tls) = &attempt.tls {
        members.extend(to_value(tls).ok().map(|tls| ("tls", tls)));
    }
    object(members)
}

/// A header that came more than once has an array.
fn header_object(headers: &[(String, String)]) -> Value {
    let mut values: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, value) in headers {
        values.entry(name).or_default().push(text(value));
    }
    let members = values.into_iter().map(|(name, mut values)| {
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        (name.to_owned(), value)
    });
    Value::Object(Object { members: members.collect() })
}

fn to_value(value: &impl serde::Serialize) -> io::Result<Value> {
    let json = serde_json::to_vec(value)?;
    read_json(&json, DEEPEST).map(|parsed| parsed.value).map_err(io::Error::other)
}

fn text(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().to_owned())
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(Object { members: members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() })
}
