//! The history of one issuer as its observations showed it: keys added, removed, reappeared, rebound; when each was
//! seen; what its metadata said. The lifecycle events are exactly those that `corpus/oracle.py` defines.
//!
//! Times are bounds, not instants: what is first seen at one poll happened after the one before it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Channel, Thumbprint};

/// What an issuer's observations showed so far. Stored when it changed; the times of equal looks are laid over it by
/// [`Ledger::touch`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    pub discovery: ChannelState,
    pub jwks: ChannelState,
    /// Every key ever seen.
    pub keys: BTreeMap<Thumbprint, KeyRecord>,
    /// kid -> every thumbprint it was ever given to.
    pub bound: BTreeMap<String, BTreeSet<Thumbprint>>,
    /// The members that are watched for change, of the last good discovery document; canonical JSON texts.
    pub issuer: Option<Watched>,
    pub jwks_uri: Option<Watched>,
    /// `id_token_signing_alg_values_supported` as a set.
    pub algs: Option<BTreeSet<String>>,
    /// When keys were added (baseline excluded), newest last, at most 32.
    pub additions: Vec<DateTime<Utc>>,
}

/// How a channel goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelState {
    /// The URL it was last fetched from.
    pub url: Option<String>,
    pub last_attempt: Option<DateTime<Utc>>,
    /// The last successful attempt (a body that is what it should be).
    pub last_ok: Option<DateTime<Utc>>,
    /// The last final 200, whatever the body.
    pub last_200: Option<DateTime<Utc>>,
    /// The run of failures going on: since when, and how many attempts.
    pub failing_since: Option<DateTime<Utc>>,
    pub failures: u32,
    /// Consecutive attempts that were answered with another status than 200.
    pub bad_status: u32,
    /// Hash of the last good body, in hex.
    pub document: Option<String>,
}

/// A metadata member that must not change unnoticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// What the last good document says (canonical JSON).
    pub value: String,
    /// What was accepted before; equal to `value` where nothing is open.
    pub accepted: String,
    /// When `value` left `accepted`.
    pub changed: Option<DateTime<Utc>>,
}

/// One key over time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRecord {
    /// Every kid it was published under, sorted.
    pub kids: BTreeSet<String>,
    /// The least kid of the last document that had it.
    pub kid: Option<String>,
    pub kty: Option<String>,
    pub crv: Option<String>,
    pub alg: Option<String>,
    pub usage: Option<String>,
    /// RSA modulus bits.
    pub bits: Option<usize>,
    /// It could verify signatures when last seen ([`crate::model::Key::is_signature_key`]).
    pub signature: bool,
    /// [`crate::model::Key::group`].
    pub group: String,
    /// Each presence, oldest first.
    pub lives: Vec<Life>,
}

/// One uninterrupted presence of a key, in bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// The good poll before the one that first showed it; `None` in the baseline: published any time before.
    pub after: Option<DateTime<Utc>>,
    /// The poll that first showed it.
    pub from: DateTime<Utc>,
    /// The last poll that showed it, once it is gone.
    pub last: Option<DateTime<Utc>>,
    /// The good poll that no longer showed it.
    pub gone: Option<DateTime<Utc>>,
    /// How many good key sets showed it, at least.
    pub polls: u64,
    /// Thumbprints of signature keys that were removed in the poll that first showed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Thumbprint>,
    /// No signature key of the set before it stayed, or issuer or `jwks_uri` changed in the same poll.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_over: bool,
}

impl KeyRecord {
    /// Whether the last good key set had it.
    #[must_use]
    pub fn present(&self) -> bool {
        self.lives.last().is_some_and(|life| life.gone.is_none())
    }

    #[must_use]
    pub fn first_seen(&self) -> Option<DateTime<Utc>> {
        self.lives.first().map(|life| life.from)
    }

    /// The last poll that showed it; `now_seen` is the channel's last good poll.
    #[must_use]
    pub fn last_seen(&self, now_seen: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        self.lives.last().and_then(|life| life.last.or(now_seen))
    }
}

impl Ledger {
    #[must_use]
    pub fn channel(&self, channel: Channel) -> &ChannelState {
        match channel {
            Channel::Discovery => &self.discovery,
            Channel::Jwks => &self.jwks,
        }
    }

    /// Lays the time of an equal, good look over a channel: nothing else changed.
    pub fn touch(&mut self, channel: Channel, at: DateTime<Utc>) {
        let state = match channel {
            Channel::Discovery => &mut self.discovery,
            Channel::Jwks => &mut self.jwks,
        };
        state.last_attempt = Some(at);
        state.last_ok = Some(at);
        state.last_200 = Some(at);
    }
}
