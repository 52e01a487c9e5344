//! From bytes to keys and metadata: tolerant of everything, exact about what was there.
//!
//! Nothing here judges, does I/O or reads a clock. Bytes are hostile: no panic, no recursion over them, linear time
//! and memory, and no value of a secret member in anything that comes out.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Attempt, Body, Digest, KeySet, Metadata, Observation, Problem};

mod discovery;
pub mod http;
pub mod json;
mod jwks;
pub mod material;
mod redact;

pub use discovery::discovery;
pub use jwks::jwks;
pub use redact::{redact, redacted};

/// The nesting that lifecycle events allow, whatever the limits say (`corpus/oracle.py`).
pub const LIFECYCLE_DEPTH: usize = 100;

/// A body read as what it should be, or why it is not that.
pub type Reading<T> = Arc<Result<T, Problem>>;

/// The documents of one observation, read once and passed to all who need them; `None` where we could not look.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    pub discovery: Option<Reading<Metadata>>,
    pub jwks: Option<Reading<KeySet>>,
}

impl Documents {
    /// Reads what lifecycle events need: all keys, nesting up to [`LIFECYCLE_DEPTH`].
    #[must_use]
    pub fn read(observation: &Observation) -> Self {
        Self::within(observation, usize::MAX, LIFECYCLE_DEPTH)
    }

    /// Reads within other limits.
    #[must_use]
    pub fn within(observation: &Observation, max_keys: usize, depth: usize) -> Self {
        Self {
            discovery: seen(observation.discovery.as_ref()).map(|body| Arc::new(discovery(body, depth))),
            jwks: seen(observation.jwks.as_ref()).map(|body| Arc::new(jwks(body, max_keys, depth))),
        }
    }

    /// The same documents as judges see them: shared where the limits make no difference, else read again.
    #[must_use]
    pub fn limited(&self, observation: &Observation, max_keys: usize, depth: usize) -> Self {
        let many = self.key_set().is_some_and(|set| set.entries > max_keys);
        if depth == LIFECYCLE_DEPTH && !many { self.clone() } else { Self::within(observation, max_keys, depth) }
    }

    /// The discovery document, where there is one.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.discovery.as_deref()?.as_ref().ok()
    }

    /// The key set, where there is one.
    #[must_use]
    pub fn key_set(&self) -> Option<&KeySet> {
        self.jwks.as_deref()?.as_ref().ok()
    }
}

/// Readings by hash, for replays that meet the same bodies day after day.
#[derive(Debug)]
pub struct Cache {
    capacity: usize,
    discovery: HashMap<(Digest, bool), Reading<Metadata>>,
    jwks: HashMap<(Digest, bool), Reading<KeySet>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(1024)
    }
}

impl Cache {
    /// A cache of so many documents of each kind; it starts again when it is full.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, discovery: HashMap::new(), jwks: HashMap::new() }
    }

    /// [`Documents::read`], remembered.
    pub fn read(&mut self, observation: &Observation) -> Documents {
        Documents {
            discovery: seen(observation.discovery.as_ref())
                .map(|body| remembered(&mut self.discovery, self.capacity, body, |body| discovery(body, LIFECYCLE_DEPTH))),
            jwks: seen(observation.jwks.as_ref())
                .map(|body| remembered(&mut self.jwks, self.capacity, body, |body| jwks(body, usize::MAX, LIFECYCLE_DEPTH))),
        }
    }
}

fn remembered<T>(
    readings: &mut HashMap<(Digest, bool), Reading<T>>,
    capacity: usize,
    body: &Body,
    read: impl FnOnce(&Body) -> Result<T, Problem>,
) -> Reading<T> {
    if readings.len() >= capacity {
        readings.clear();
    }
    // A body and its redacted self share the hash of the bytes as served.
    let name = (body.sha256, body.redacted.is_empty());
    Arc::clone(readings.entry(name).or_insert_with(|| Arc::new(read(body))))
}

fn seen(attempt: Option<&Attempt>) -> Option<&Body> {
    attempt.and_then(Attempt::seen).map(AsRef::as_ref)
}

/// The observation as it may rest on disk: every secret cut out of its bodies.
#[must_use]
pub fn without_secrets(observation: &Observation) -> Observation {
    let clean = |attempt: &Option<Attempt>| {
        attempt.as_ref().map(|attempt| Attempt { body: attempt.body.as_ref().map(|body| Arc::new(redacted(body))), ..attempt.clone() })
    };
    Observation {
        discovery: clean(&observation.discovery),
        jwks: clean(&observation.jwks),
        issuer: observation.issuer.clone(),
        at: observation.at,
    }
}
