//! The history of one issuer as its observations showed it: keys added, removed, reappeared, rebound; when each was
//! seen; what its metadata said. The lifecycle events are exactly those that `corpus/oracle.py` defines.
//!
//! Times are bounds, not instants: what is first seen at one poll happened after the one before it.
//! Nothing kept here comes from a secret member.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::model::json::Value;
use crate::model::{
    Act, ActKind, Attempt, Channel, Event, EventKind, Key, KeySet, Material, Metadata, Observation, Thumbprint, UnseenReason,
};
use crate::parse::{Documents, json};

/// How long a changed issuer or `jwks_uri` is a finding where nobody approves it.
pub const CHANGE_STANDS: Duration = Duration::days(7);

/// How many additions are remembered.
const ADDITIONS: usize = 32;

/// How many keys one life names as those it replaced.
const REPLACED: usize = 64;

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
    /// Hash of the last good body, in hex; with it the channel has had its baseline.
    pub document: Option<String>,
    /// The URL of the last good body.
    pub document_url: Option<String>,
    /// The operator changed what is watched: for rules the next good document is a baseline again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rebase: bool,
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
    /// It is gone because the operator watches another URL now: for rules that is no removal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwatched: bool,
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

    /// Settles changes of watched members: what somebody approved, or what has stood for a week, is the accepted value.
    pub fn accept(&mut self, now: DateTime<Utc>, acts: &[Act]) {
        let approved = |pick: fn(&ActKind) -> Option<&String>| -> BTreeSet<String> {
            acts.iter().filter_map(|act| pick(&act.kind).cloned()).collect()
        };
        let issuers = approved(|kind| if let ActKind::ApproveIncident { new_issuer, .. } = kind { new_issuer.as_ref() } else { None });
        let uris = approved(|kind| if let ActKind::ApproveIncident { new_jwks_uri, .. } = kind { new_jwks_uri.as_ref() } else { None });
        for (watched, approved) in [(&mut self.issuer, issuers), (&mut self.jwks_uri, uris)] {
            let Some(watched) = watched else { continue };
            if watched.changed.is_some_and(|changed| now - changed >= CHANGE_STANDS) || approved.contains(&watched.value) {
                watched.accepted.clone_from(&watched.value);
                watched.changed = None;
            }
        }
    }

    /// Whether the channel has had no good document yet: the next one is its baseline.
    #[must_use]
    pub fn is_new(&self, channel: Channel) -> bool {
        self.channel(channel).document.is_none()
    }

    /// Lays the time of an equal, good look over a channel: nothing else changed.
    pub fn touch(&mut self, channel: Channel, at: DateTime<Utc>) {
        let state = self.channel_mut(channel);
        state.last_attempt = Some(at);
        state.last_ok = Some(at);
        state.last_200 = Some(at);
    }

    /// Takes in one look; `documents` are those of this observation, read with all keys and depth 100. What it
    /// returns are the lifecycle events of the reference, unsorted. Looks must come in their order.
    pub fn absorb(&mut self, observation: &Observation, documents: &Documents) -> Vec<Event> {
        let at = observation.at;
        let mut kinds = Vec::new();
        if let Some(attempt) = &observation.discovery {
            let metadata = documents.metadata().filter(|_| attempt.seen().is_some());
            self.discovery.note(Channel::Discovery, attempt, metadata.is_some(), at, &mut kinds);
            if let Some(metadata) = metadata {
                self.absorb_metadata(metadata, attempt, at, &mut kinds);
            }
        }
        if let Some(attempt) = &observation.jwks {
            let set = documents.key_set().filter(|_| attempt.seen().is_some());
            self.jwks.note(Channel::Jwks, attempt, set.is_some(), at, &mut kinds);
            if let Some(set) = set {
                let moved = kinds.iter().any(|kind| matches!(kind, EventKind::IssuerChanged { .. } | EventKind::JwksUriChanged { .. }));
                self.absorb_keys(set, attempt, at, moved, &mut kinds);
            }
        }
        kinds.into_iter().map(|kind| Event { issuer: observation.issuer.clone(), at, kind }).collect()
    }

    /// Takes in that the last look was repeated with the same answers, `again` times, the last one at `at`.
    pub fn lengthen(&mut self, observation: &Observation, again: u32, at: DateTime<Utc>) {
        for (channel, attempt) in [(Channel::Discovery, &observation.discovery), (Channel::Jwks, &observation.jwks)] {
            let Some(attempt) = attempt else { continue };
            let state = self.channel_mut(channel);
            state.last_attempt = Some(at);
            if attempt.status == 200 {
                state.last_200 = Some(at);
            }
            if state.failing_since.is_none() {
                state.last_ok = Some(at);
            } else {
                state.failures = state.failures.saturating_add(again);
            }
            if is_bad_status(attempt) {
                state.bad_status = state.bad_status.saturating_add(again);
            }
        }
    }

    fn channel_mut(&mut self, channel: Channel) -> &mut ChannelState {
        match channel {
            Channel::Discovery => &mut self.discovery,
            Channel::Jwks => &mut self.jwks,
        }
    }

    fn absorb_metadata(&mut self, metadata: &Metadata, attempt: &Attempt, at: DateTime<Utc>, kinds: &mut Vec<EventKind>) {
        let rebase = self.discovery.rebase || self.discovery.has_moved(attempt);
        // Whoever points us to another issuer points us to other keys.
        self.jwks.rebase |= rebase;
        if self.discovery.settle(attempt, at) && !rebase {
            return;
        }
        let text = |name: &str| metadata.object.member(name).map_or_else(|| "null".to_owned(), Value::canonical);
        if let Some((old, new)) = watch(&mut self.jwks_uri, text("jwks_uri"), rebase, at) {
            kinds.push(EventKind::JwksUriChanged { old, new });
        }
        if let Some((old, new)) = watch(&mut self.issuer, text("issuer"), rebase, at) {
            kinds.push(EventKind::IssuerChanged { old, new });
        }
        let algs: BTreeSet<String> = metadata.texts("id_token_signing_alg_values_supported").into_iter().map(str::to_owned).collect();
        if let Some(old) = self.algs.replace(algs.clone())
            && old != algs
        {
            kinds.push(EventKind::AlgsChanged { old: old.into_iter().collect(), new: algs.into_iter().collect() });
        }
    }

    fn absorb_keys(&mut self, set: &KeySet, attempt: &Attempt, at: DateTime<Utc>, moved: bool, kinds: &mut Vec<EventKind>) {
        let named = self.jwks_uri.as_ref().is_some_and(|uri| uri.value == Value::String(attempt.url.clone()).canonical());
        let rebase = self.jwks.rebase || (self.jwks.has_moved(attempt) && !named);
        let (is_new, previous) = (self.is_new(Channel::Jwks), self.jwks.last_ok);
        if self.jwks.settle(attempt, at) && !rebase {
            return;
        }
        let shown = Shown::by_thumbprint(set);
        let gone: Vec<Thumbprint> = self
            .keys
            .iter()
            .filter(|(thumbprint, record)| record.present() && !shown.contains_key(thumbprint))
            .map(|(t, _)| t.clone())
            .collect();
        let birth = if is_new || rebase { Birth::baseline(at) } else { self.birth(&shown, &gone, previous, at, moved) };
        for (thumbprint, shown) in &shown {
            let record = self.keys.entry((*thumbprint).clone()).or_default();
            kinds.extend(record.show(thumbprint, shown, &birth).filter(|_| !is_new));
        }
        for thumbprint in gone {
            if let Some(record) = self.keys.get_mut(&thumbprint) {
                record.withdraw(previous, at, rebase);
                kinds.push(EventKind::KeyRemoved { kid: record.kid.clone(), thumbprint });
            }
        }
        if !rebase && kinds.iter().any(|kind| matches!(kind, EventKind::KeyAdded { .. })) {
            self.additions.push(at);
            self.additions.drain(..self.additions.len().saturating_sub(ADDITIONS));
        }
        let rebound = self.bind(&shown);
        if !is_new {
            kinds.extend(rebound);
        }
    }

    /// What is common to the lives that begin in this look.
    fn birth(
        &self,
        shown: &BTreeMap<&Thumbprint, Shown<'_>>,
        gone: &[Thumbprint],
        previous: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        moved: bool,
    ) -> Birth {
        let is_signature = |thumbprint: &&Thumbprint| self.keys.get(*thumbprint).is_some_and(|record| record.signature);
        let replaced: Vec<Thumbprint> = gone.iter().filter(is_signature).take(REPLACED).cloned().collect();
        let stayed = shown.keys().any(|thumbprint| self.keys.get(*thumbprint).is_some_and(|record| record.present() && record.signature));
        Birth { after: previous, at, cut_over: moved || (!replaced.is_empty() && !stayed), replaced }
    }

    /// Remembers which kid went to which key, and says which kids went to another key than ever before.
    fn bind(&mut self, shown: &BTreeMap<&Thumbprint, Shown<'_>>) -> Vec<EventKind> {
        let pairs = || shown.iter().flat_map(|(thumbprint, shown)| shown.kids.iter().map(|kid| (*kid, *thumbprint)));
        let mut rebound = Vec::new();
        // First all that is new, then what it is new to: two keys that share a kid from its first sighting on are no event.
        for (kid, thumbprint) in pairs() {
            if let Some(old) = self.bound.get(kid).filter(|old| !old.contains(thumbprint)) {
                let old = old.iter().cloned().collect();
                rebound.push(EventKind::KidRebound { kid: kid.to_owned(), thumbprint: thumbprint.clone(), old });
            }
        }
        for (kid, thumbprint) in pairs() {
            if !self.bound.get(kid).is_some_and(|bound| bound.contains(thumbprint)) {
                self.bound.entry(kid.to_owned()).or_default().insert(thumbprint.clone());
            }
        }
        rebound
    }
}

/// Sets a watched member; what it was and is, where it changed.
fn watch(slot: &mut Option<Watched>, value: String, rebase: bool, at: DateTime<Utc>) -> Option<(Value, Value)> {
    let Some(watched) = slot else {
        *slot = Some(Watched { accepted: value.clone(), value, changed: None });
        return None;
    };
    let old = std::mem::replace(&mut watched.value, value);
    let is_event = old != watched.value;
    if rebase {
        watched.accepted.clone_from(&watched.value);
    }
    if watched.value == watched.accepted {
        watched.changed = None;
    } else if is_event {
        watched.changed = Some(at);
    }
    is_event.then(|| (value_of(&old), value_of(&watched.value)))
}

fn value_of(canonical: &str) -> Value {
    json::read(canonical.as_bytes(), json::DEEPEST).map_or(Value::Null, |parsed| parsed.value)
}

/// What one key set shows of one key, over all its entries.
struct Shown<'a> {
    /// The entry that describes it: the first that can verify signatures, else the first.
    key: &'a Key,
    kids: BTreeSet<&'a str>,
}

impl<'a> Shown<'a> {
    fn by_thumbprint(set: &'a KeySet) -> BTreeMap<&'a Thumbprint, Self> {
        let mut shown: BTreeMap<&Thumbprint, Self> = BTreeMap::new();
        for key in &set.keys {
            let entry = shown.entry(&key.thumbprint).or_insert_with(|| Self { key, kids: BTreeSet::new() });
            entry.kids.extend(key.kid.as_deref());
            if !entry.key.is_signature_key() && key.is_signature_key() {
                entry.key = key;
            }
        }
        shown
    }
}

/// What is common to the lives that begin in one look.
struct Birth {
    after: Option<DateTime<Utc>>,
    at: DateTime<Utc>,
    replaced: Vec<Thumbprint>,
    cut_over: bool,
}

impl Birth {
    fn baseline(at: DateTime<Utc>) -> Self {
        Self { after: None, at, replaced: Vec::new(), cut_over: false }
    }
}

impl KeyRecord {
    /// Takes in that a key set shows it; the event where a life begins.
    fn show(&mut self, thumbprint: &Thumbprint, shown: &Shown<'_>, birth: &Birth) -> Option<EventKind> {
        let key = shown.key;
        self.kids.extend(shown.kids.iter().map(|kid| (*kid).to_owned()));
        self.kid = shown.kids.first().map(|kid| (*kid).to_owned());
        self.kty.clone_from(&key.kty);
        self.crv.clone_from(&key.crv);
        self.alg.clone_from(&key.alg);
        self.usage.clone_from(&key.usage);
        self.bits = if let Material::Rsa { bits, .. } = key.material { Some(bits) } else { None };
        self.signature = key.is_signature_key();
        self.group = key.group();
        let absent_since = match self.lives.last_mut() {
            Some(life) if life.gone.is_none() => {
                life.polls += 1;
                return None;
            }
            last => last.and_then(|life| life.gone),
        };
        self.lives.push(Life {
            after: birth.after,
            from: birth.at,
            last: None,
            gone: None,
            polls: 1,
            replaced: if self.signature { birth.replaced.clone() } else { Vec::new() },
            cut_over: birth.cut_over,
            unwatched: false,
        });
        let (kid, thumbprint) = (self.kid.clone(), thumbprint.clone());
        Some(match absent_since {
            Some(absent_since) => EventKind::KeyReappeared { kid, thumbprint, absent_since },
            None => EventKind::KeyAdded { kid, thumbprint },
        })
    }

    fn withdraw(&mut self, last: Option<DateTime<Utc>>, at: DateTime<Utc>, unwatched: bool) {
        if let Some(life) = self.lives.last_mut() {
            life.last = last;
            life.gone = Some(at);
            life.unwatched = unwatched;
        }
    }
}

impl ChannelState {
    /// Takes in an attempt, whatever it brought.
    fn note(&mut self, channel: Channel, attempt: &Attempt, good: bool, at: DateTime<Utc>, kinds: &mut Vec<EventKind>) {
        self.url = Some(attempt.url.clone());
        self.last_attempt = Some(at);
        if is_bad_status(attempt) {
            self.bad_status = self.bad_status.saturating_add(1);
        } else if attempt.status == 200 {
            self.bad_status = 0;
            self.last_200 = Some(at);
        }
        if good {
            self.failures = 0;
            if let Some(failed_since) = self.failing_since.take() {
                kinds.push(EventKind::FetchRecovered { channel, failed_since });
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failing_since.is_none() {
            self.failing_since = Some(at);
            let error = attempt.unseen.as_ref().map(|unseen| unseen.text.clone());
            kinds.push(EventKind::FetchFailed { channel, status: attempt.status, error });
        }
    }

    /// Whether a good document came from another URL than the one before it.
    fn has_moved(&self, attempt: &Attempt) -> bool {
        self.document_url.as_ref().is_some_and(|url| *url != attempt.url)
    }

    /// Takes in a good document; whether it is the same as the one before.
    fn settle(&mut self, attempt: &Attempt, at: DateTime<Utc>) -> bool {
        self.last_ok = Some(at);
        self.rebase = false;
        if self.document_url.as_ref() != Some(&attempt.url) {
            self.document_url = Some(attempt.url.clone());
        }
        let document = attempt.body.as_ref().map(|body| body.sha256.to_string());
        let same = self.document == document;
        self.document = document;
        same
    }
}

/// Answered, but not with 200.
fn is_bad_status(attempt: &Attempt) -> bool {
    !matches!(attempt.status, 0 | 200) || attempt.unseen.as_ref().is_some_and(|unseen| unseen.reason == UnseenReason::Status)
}
