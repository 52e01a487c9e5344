//! Rules about keys over time.
//!
//! Durations are intervals: an appearance seen at poll t happened in (previous poll, t], a removal likewise. What holds
//! for the whole interval is certain; what holds for a part of it is possible; where the polls are so far apart that a
//! proper rotation fits between two of them unseen, the rule says that it cannot tell.

use chrono::{DateTime, Duration, Utc};

use super::{Check, Detail, Entry, Judgement, Skip, fail_if, rule, violation};
use crate::facts::Facts;
use crate::ledger::{CHANGE_STANDS, KeyRecord, Life};
use crate::model::{Act, ActKind, DocumentKind, Rotation, Thumbprint, Violation, spoken};

pub(super) const RULES: &[Entry] = &[
    rule!("rotation/key-over-max-age", Check::EachRecord(key_over_max_age)),
    rule!("rotation/overlap-too-short", Check::EachRecord(overlap_too_short)),
    rule!("rotation/removed-without-overlap", Check::EachRecord(removed_without_overlap)),
    rule!("rotation/unexpected-new-key", Check::EachRecord(unexpected_new_key)),
];

fn of(thumbprint: &Thumbprint, record: &KeyRecord, message: impl Into<String>) -> Violation {
    violation(DocumentKind::History, "", message).of_record(thumbprint, record)
}

/// History that this look can add to: the key set must have been seen.
fn seen_history(facts: &Facts) -> Result<(), Skip> {
    facts.history()?;
    facts.key_set()?;
    Ok(())
}

/// A signature key appeared that nobody announced: the earliest visible sign of a compromised publisher.
fn unexpected_new_key(thumbprint: &Thumbprint, record: &KeyRecord, facts: &Facts) -> Judgement {
    seen_history(facts)?;
    let first = record.lives.first().ok_or(Skip::NotApplicable)?;
    if !record.signature || !record.present() {
        return Err(Skip::NotApplicable);
    }
    let Some(after) = first.after else { return Ok(Vec::new()) };
    if facts.acts.iter().any(|act| accepts(act, thumbprint, after, first.from)) {
        return Ok(Vec::new());
    }
    let seen = format!("a signing key that nobody announced was first seen at {}", crate::model::timestamp(first.from));
    if facts.issuer.rotation == Rotation::Managed {
        return Ok(vec![of(thumbprint, record, seen)]);
    }
    autonomous(thumbprint, record, first, first.from - after, facts)
}

/// Whether a decision covers this key's appearance in (after, from].
fn accepts(act: &Act, thumbprint: &Thumbprint, after: DateTime<Utc>, seen: DateTime<Utc>) -> bool {
    match &act.kind {
        ActKind::ApproveKey { thumbprint: approved } => approved == thumbprint,
        ActKind::ApproveIncident { keys, .. } => keys.contains(thumbprint),
        ActKind::Expect { thumbprint: expected, from, until } => {
            expected == thumbprint && from.is_none_or(|from| seen >= from) && until.is_none_or(|until| after <= until)
        }
    }
}

/// A provider that rotates by itself: only a cut-over, or a key far off the expected cadence, says more than "it rotated".
fn autonomous(thumbprint: &Thumbprint, record: &KeyRecord, first: &Life, gap: Duration, facts: &Facts) -> Judgement {
    let seen = crate::model::timestamp(first.from);
    if first.cut_over {
        let lives = first.replaced.iter().filter_map(|old| facts.ledger.keys.get(old)?.lives.last());
        if lives.into_iter().any(|life| outpaces(life, gap, facts)) {
            return Err(too_fast(gap));
        }
        let change =
            of(thumbprint, record, format!("a new signing key replaced the others in one poll, at {seen}")).case("autonomous-cut-over");
        if gap < facts.policy.max_token_lifetime {
            return Ok(vec![change]);
        }
        if gap < facts.policy.min_overlap() {
            return Ok(vec![change.possible()]);
        }
    }
    if let Some(cadence) = facts.policy.expected_cadence {
        let before = facts.ledger.additions.iter().rev().find(|at| **at < first.from);
        let off = before.is_some_and(|before| {
            let spacing = first.from - *before;
            spacing * 2 < cadence || spacing * 2 > cadence * 3
        });
        if off {
            let text = format!("a new signing key at {seen}, far off the expected cadence of {}", spoken(cadence));
            return Ok(vec![of(thumbprint, record, text).case("autonomous-off-cadence")]);
        }
    }
    Ok(vec![of(thumbprint, record, format!("the provider added a signing key at {seen}")).case("autonomous-additive")])
}

/// Whether an issuer replaces its keys about as fast as it is polled: then two polls say nothing about what lay between.
/// A key of the baseline may be old, unless only one poll saw it; polls closer than a token's life tell enough of any.
fn outpaces(life: &Life, gap: Duration, facts: &Facts) -> bool {
    let witnessed = life.last.map_or_else(Duration::zero, |last| last - life.from);
    gap >= facts.policy.max_token_lifetime && witnessed < gap * 2 && (life.after.is_some() || witnessed.is_zero())
}

fn too_fast(gap: Duration) -> Skip {
    Skip::NotEvaluated(format!("this issuer replaces its keys about as fast as it is polled (every {})", spoken(gap)))
}

/// A removal that still matters.
struct Removal<'a> {
    last: DateTime<Utc>,
    gone: DateTime<Utc>,
    life: &'a Life,
}

impl Removal<'_> {
    /// Between the last poll that showed the key and the first that did not.
    fn gap(&self) -> Duration {
        self.gone - self.last
    }
}

/// The removal of a signature key within the time it stays a finding; not one that was withdrawn on purpose.
fn removal<'a>(thumbprint: &Thumbprint, record: &'a KeyRecord, facts: &Facts) -> Result<Removal<'a>, Skip> {
    seen_history(facts)?;
    let life = record.lives.last().ok_or(Skip::NotApplicable)?;
    let (Some(last), Some(gone)) = (life.last, life.gone) else { return Err(Skip::NotApplicable) };
    // The operator watches another URL now: the key may well be where it was.
    if life.unwatched {
        return Err(Skip::NotApplicable);
    }
    if is_rolled_back(thumbprint, record, life, gone, facts) {
        return Err(Skip::NotApplicable);
    }
    let over = facts.now - gone >= facts.policy.min_overlap();
    let revoked = facts.policy.revoked_keys.iter().any(|revoked| revoked == thumbprint.as_str() || record.kids.contains(revoked));
    if !record.signature || over || revoked {
        return Err(Skip::NotApplicable);
    }
    Ok(Removal { last, gone, life })
}

/// Whether the removal takes a change back: a key that a managed issuer never announced goes again within a week, or the
/// keys that it had replaced return in its place. That is the recovery, not a second fault.
fn is_rolled_back(thumbprint: &Thumbprint, record: &KeyRecord, life: &Life, gone: DateTime<Utc>, facts: &Facts) -> bool {
    let unannounced = facts.issuer.rotation == Rotation::Managed
        && record.lives.len() == 1
        && gone - life.from < CHANGE_STANDS
        && life.after.is_some_and(|after| !facts.acts.iter().any(|act| accepts(act, thumbprint, after, life.from)));
    let returned =
        life.replaced.iter().filter_map(|old| facts.ledger.keys.get(old)).any(|old| old.lives.iter().any(|life| life.from == gone));
    unannounced || returned
}

/// How long another key was published beside the one that went, in bounds.
struct Overlap {
    min: Duration,
    max: Duration,
    /// It was there in the last key set that had the old key.
    witnessed: bool,
}

/// The best successor among the keys that were there after the removal: the one that had been there longest.
fn overlap(removed: &Thumbprint, removal: &Removal, facts: &Facts, candidate: impl Fn(&KeyRecord) -> bool) -> Option<Overlap> {
    let there = |life: &&Life| life.from <= removal.gone && life.gone.is_none_or(|gone| gone > removal.gone);
    facts
        .ledger
        .keys
        .iter()
        .filter(|(thumbprint, record)| *thumbprint != removed && record.signature && candidate(record))
        .filter_map(|(_, record)| record.lives.iter().find(there))
        .map(|life| Overlap {
            min: removal.last - life.from,
            max: life.after.map_or(Duration::MAX, |after| removal.gone - after),
            witnessed: life.from <= removal.last,
        })
        .max_by_key(|overlap| (overlap.min, overlap.max))
}

/// OpenID Connect Core 1.0 §10.1.1: recently decommissioned keys SHOULD stay for a reasonable period.
fn removed_without_overlap(thumbprint: &Thumbprint, record: &KeyRecord, facts: &Facts) -> Judgement {
    let removal = removal(thumbprint, record, facts)?;
    let needed = facts.policy.max_token_lifetime;
    let gone =
        format!("the key was withdrawn between {} and {}", crate::model::timestamp(removal.last), crate::model::timestamp(removal.gone));
    let Some(overlap) = overlap(thumbprint, &removal, facts, |other| other.group == record.group) else {
        return Ok(nothing_followed(thumbprint, record, &removal, facts, &gone));
    };
    if overlap.min >= needed {
        return Ok(Vec::new());
    }
    if outpaces(removal.life, removal.gap(), facts) {
        return Err(too_fast(removal.gap()));
    }
    let alone = !overlap.witnessed && !companions(thumbprint, record, removal.last, facts);
    let case = if alone { "only-key" } else { "" };
    if overlap.max >= needed {
        if removal.gap() > needed * 2 {
            return Err(Skip::NotEvaluated(format!("polls {} apart cannot show an overlap of {}", spoken(removal.gap()), spoken(needed))));
        }
        let text = format!("{gone}; its successor may have been there for less than {}", spoken(needed));
        return Ok(vec![of(thumbprint, record, text).case(case).possible()]);
    }
    let text = format!(
        "{gone}, at most {} after its successor appeared; tokens live up to {}",
        spoken(overlap.max.max(Duration::zero())),
        spoken(needed)
    );
    Ok(vec![of(thumbprint, record, text).case(case)])
}

/// No key of its kind is left. Where no signature key at all is, every token fails; where others are, the algorithm may
/// have been retired on purpose, which only a canary could tell.
fn nothing_followed(thumbprint: &Thumbprint, record: &KeyRecord, removal: &Removal, facts: &Facts, gone: &str) -> Vec<Violation> {
    match overlap(thumbprint, removal, facts, |_| true) {
        None => vec![of(thumbprint, record, format!("{gone}, and no signing key is left")).case("only-key")],
        Some(other) if other.witnessed && other.min >= facts.policy.min_overlap() => Vec::new(),
        Some(_) => vec![of(thumbprint, record, format!("{gone}, and no other {} key followed it", record.group)).possible()],
    }
}

/// Whether another signature key of the group was published at that time.
fn companions(thumbprint: &Thumbprint, record: &KeyRecord, at: DateTime<Utc>, facts: &Facts) -> bool {
    facts.ledger.keys.iter().any(|(other, theirs)| {
        other != thumbprint
            && theirs.signature
            && theirs.group == record.group
            && theirs.lives.iter().any(|life| life.from <= at && life.gone.is_none_or(|gone| gone > at))
    })
}

/// The old key stays until the slowest cache and the longest token have moved on.
fn overlap_too_short(thumbprint: &Thumbprint, record: &KeyRecord, facts: &Facts) -> Judgement {
    let removal = removal(thumbprint, record, facts)?;
    let needed = facts.policy.min_overlap();
    let Some(overlap) = overlap(thumbprint, &removal, facts, |other| other.group == record.group) else {
        return Err(Skip::NotApplicable);
    };
    if overlap.min >= needed {
        return Ok(Vec::new());
    }
    if outpaces(removal.life, removal.gap(), facts) {
        return Err(too_fast(removal.gap()));
    }
    if overlap.max >= needed && removal.gap() > needed * 2 {
        return Err(Skip::NotEvaluated(format!("polls {} apart cannot show an overlap of {}", spoken(removal.gap()), spoken(needed))));
    }
    let least = overlap.min.max(Duration::zero());
    if overlap.max >= needed {
        let text = format!("old and new key may have overlapped for as little as {}; {} are required", spoken(least), spoken(needed));
        return Ok(vec![of(thumbprint, record, text).possible()]);
    }
    let case = if overlap.max * 4 < needed { "under-a-quarter" } else { "" };
    let text =
        format!("old and new key overlapped for {} at most; {} are required", spoken(overlap.max.max(Duration::zero())), spoken(needed));
    Ok(vec![of(thumbprint, record, text).case(case)])
}

/// NIST SP 800-57 part 1 §5.3.6: exposure accumulates with age.
fn key_over_max_age(thumbprint: &Thumbprint, record: &KeyRecord, facts: &Facts) -> Judgement {
    seen_history(facts)?;
    if !record.signature || !record.present() {
        return Err(Skip::NotApplicable);
    }
    let first = record.first_seen().ok_or(Skip::NotApplicable)?;
    let age = facts.now - first;
    let limit = facts.policy.max_key_age;
    // Which of several keys signs is not known without a canary: another one may be the active key.
    let sole = !facts
        .ledger
        .keys
        .iter()
        .any(|(other, theirs)| other != thumbprint && theirs.signature && theirs.present() && theirs.group == record.group);
    let case = match (sole, age > limit * 2) {
        (true, true) => "twice",
        (true, false) => "",
        (false, _) => "one-of-several",
    };
    let text = format!("the key is at least {} old; the policy allows {}", spoken(age), spoken(limit));
    fail_if(age > limit, || of(thumbprint, record, text).case(case))
}
