//! What one observation means, given what we knew before: the spine of the product, and its only judge.
//!
//! No clock, no I/O, no randomness: polling, `check`, the report and the replay are thin callers of [`assess`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};

use crate::facts::{Facts, Look};
use crate::grade::{self, Verdict};
use crate::ledger::Ledger;
use crate::lifecycle::{self, Changes, Outcome};
use crate::model::{Act, Alert, Baseline, Channel, DocumentKind, Event, Finding, Incident, Issuer, Observation, Severity, Standing};
use crate::parse::Documents;
use crate::policy::Policy;
use crate::routing::Teller;
use crate::rules::examples::Scene;
use crate::rules::{Check, Judgement, Rule, RuleSet, Skip};

/// What the store knew of an issuer before this observation.
#[derive(Debug, Clone)]
pub struct Known {
    pub issuer: Issuer,
    pub look: Look,
    pub ledger: Ledger,
    /// Open and waived findings.
    pub findings: Vec<Finding>,
    /// Open incidents.
    pub incidents: Vec<Incident>,
    pub acts: Vec<Act>,
    /// What a first look in this poll showed, which this one did not confirm: told with it, not recorded again.
    pub unconfirmed: Vec<Event>,
}

impl Known {
    /// Nothing is known yet.
    #[must_use]
    pub fn nothing(issuer: Issuer, look: Look) -> Self {
        Self {
            issuer,
            look,
            ledger: Ledger::default(),
            findings: Vec::new(),
            incidents: Vec::new(),
            acts: Vec::new(),
            unconfirmed: Vec::new(),
        }
    }
}

/// The meaning of one observation.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// What is known now.
    pub ledger: Ledger,
    pub events: Vec<Event>,
    /// Findings that stand: open and waived.
    pub findings: Vec<Finding>,
    /// Findings to be written: opened, changed, resolved.
    pub changed: Vec<Finding>,
    pub standing: Standing,
    /// Incidents to be written: opened, updated, resolved.
    pub incidents: Vec<Incident>,
    pub alerts: Vec<Alert>,
    /// The first look at this issuer, to be told with the others' in one message.
    pub baseline: Option<Baseline>,
    /// A new high or critical finding rests on a changed document: look again before it counts.
    pub unconfirmed: bool,
}

/// Judges one observation; `documents` are its bodies as [`Documents::read`] gives them. What is known comes by value: a
/// history of thousands of keys goes on in place instead of being copied at every look.
#[must_use]
pub fn assess(
    observation: &Observation,
    documents: &Documents,
    known: Known,
    rules: &RuleSet,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Assessment {
    let before = Ledger { discovery: known.ledger.discovery.clone(), jwks: known.ledger.jwks.clone(), ..Ledger::default() };
    let (ledger, events) = absorb(observation, documents, known.ledger, &known.acts);
    let judged = documents.limited(observation, policy.max_keys, policy.max_depth);
    let facts =
        Facts { now, look: known.look, issuer: &known.issuer, policy, observation, documents: &judged, ledger: &ledger, acts: &known.acts };
    let outcomes = judge_all(rules, &facts);
    let changes = lifecycle::update(&known.findings, &outcomes, &known.issuer.id, policy, now);
    let quiet = is_first_look(&known.issuer, &before, &ledger);
    let unconfirmed = !quiet && changes.opened.iter().any(|finding| rests_on_change(finding, &before, &ledger));
    let teller = Teller { issuer: &known.issuer, changes: &changes, rules, policy, now };
    let shown: Vec<Event> = known.unconfirmed.iter().chain(&events).cloned().collect();
    let told = teller.tell(&known.incidents, &shown, quiet);
    let standing = standing(&outcomes, &changes, &ledger);
    Assessment {
        events,
        standing,
        incidents: told.incidents,
        alerts: told.alerts,
        baseline: told.baseline,
        unconfirmed,
        changed: changes.to_write(),
        findings: changes.standing,
        ledger,
    }
}

/// Takes an observation into the history without judging it: what a first answer that was not confirmed is worth.
#[must_use]
pub fn absorb(observation: &Observation, documents: &Documents, mut ledger: Ledger, acts: &[Act]) -> (Ledger, Vec<Event>) {
    ledger.accept(observation.at, acts);
    let events = ledger.absorb(observation, documents);
    (ledger, events)
}

/// Plays an example: takes its earlier looks in, and asks every rule about the last one.
#[must_use]
pub fn play(scene: &Scene, rules: &RuleSet) -> Vec<(String, Judgement)> {
    let Some((last, earlier)) = scene.observations.split_last() else { return Vec::new() };
    let start = || Known { acts: scene.acts.clone(), ..Known::nothing(scene.issuer.clone(), scene.look) };
    let mut known = start();
    for observation in earlier {
        let assessment = assess(observation, &Documents::read(observation), known, rules, &scene.policy, observation.at);
        known = Known { ledger: assessment.ledger, findings: assessment.findings, ..start() };
    }
    let documents = Documents::read(last);
    let (ledger, _) = absorb(last, &documents, known.ledger, &scene.acts);
    let documents = documents.limited(last, scene.policy.max_keys, scene.policy.max_depth);
    let facts = Facts {
        now: last.at,
        look: scene.look,
        issuer: &scene.issuer,
        policy: &scene.policy,
        observation: last,
        documents: &documents,
        ledger: &ledger,
        acts: &scene.acts,
    };
    judge_all(rules, &facts).into_iter().map(|(rule, outcome)| (rule.document.id.clone(), outcome.judgement())).collect()
}

fn judge_all<'a>(rules: &'a RuleSet, facts: &Facts) -> Vec<(&'a Rule, Outcome)> {
    rules.iter().map(|rule| (rule, judge(rule, facts))).collect()
}

/// Asks one rule; a panic in it is its own fault, not the poll's.
fn judge(rule: &Rule, facts: &Facts) -> Outcome {
    if !switched_on(rule, facts.policy) {
        return Outcome::off();
    }
    if let Some(skip) = no_input(rule, facts) {
        return Outcome::of(Err(skip));
    }
    let guarded = |check: &dyn Fn() -> Judgement| {
        catch_unwind(AssertUnwindSafe(check))
            .unwrap_or_else(|_| Err(Skip::Broken(format!("the rule {} failed; this is a bug in issuerwatch", rule.document.id))))
    };
    match rule.check {
        Check::Issuer(check) => Outcome::of(guarded(&|| check(facts))),
        Check::EachKey(check) => match facts.key_set() {
            Err(skip) => Outcome::of(Err(skip)),
            Ok(set) => Outcome::each(set.keys.iter().map(|key| (key.thumbprint.as_str(), guarded(&|| check(key, facts))))),
        },
        Check::EachRecord(check) => match facts.history().map(|_| facts.key_set()) {
            Err(skip) | Ok(Err(skip)) => Outcome::of(Err(skip)),
            Ok(Ok(_)) => {
                let matters = facts.ledger.keys.iter().filter(|(_, record)| {
                    record.lives.last().is_some_and(|life| life.gone.is_none_or(|gone| facts.now - gone <= facts.policy.min_overlap()))
                });
                Outcome::each(matters.map(|(thumbprint, record)| (thumbprint.as_str(), guarded(&|| check(thumbprint, record, facts)))))
            }
        },
    }
}

fn switched_on(rule: &Rule, policy: &Policy) -> bool {
    let names = std::iter::once(&rule.document.id).chain(&rule.document.aliases);
    !names.into_iter().any(|name| policy.skip.contains(name) || policy.severity.get(name) == Some(&None))
}

/// Families without input in this kind of look.
fn no_input(rule: &Rule, facts: &Facts) -> Option<Skip> {
    let family = rule.document.family();
    let because = |reason: &str| Some(Skip::NotEvaluated(reason.to_owned()));
    match (facts.look, family) {
        (Look::Files, "transport") => because("files were judged; nothing was requested"),
        (Look::Files, "discovery" | "consistency") if facts.observation.discovery.is_none() => because("no discovery document was given"),
        (Look::Files, "jwks" | "key") if facts.observation.jwks.is_none() => because("no key set was given"),
        (Look::Files | Look::Single, "rotation" | "drift" | "estate" | "governance") => because("a single look has no history"),
        _ => None,
    }
}

/// The first look at an issuer, the first that sees anything, or the first at its new URL.
fn is_first_look(issuer: &Issuer, before: &Ledger, after: &Ledger) -> bool {
    let never_seen = before.discovery.last_ok.is_none() && before.jwks.last_ok.is_none();
    let never_tried = before.discovery.last_attempt.is_none() && before.jwks.last_attempt.is_none();
    let sees_now = after.discovery.last_ok.is_some() || after.jwks.last_ok.is_some();
    let moved = |channel: Channel| {
        let seen_at = &before.channel(channel).document_url;
        seen_at.is_some() && after.channel(channel).url != *seen_at
    };
    // The document's own change of `jwks_uri` is no new configuration.
    never_tried || (never_seen && sees_now) || moved(Channel::Discovery) || (issuer.jwks_uri.is_some() && moved(Channel::Jwks))
}

/// Whether a finding is new because a document is: such a one is confirmed by a second look. Exposed private keys are
/// told at once.
fn rests_on_change(finding: &Finding, before: &Ledger, after: &Ledger) -> bool {
    let changed = |channel: Channel| {
        before.channel(channel).document.is_some() && before.channel(channel).document != after.channel(channel).document
    };
    finding.severity >= Severity::High
        && finding.rule != "jwks/private-key-exposed"
        && match finding.document {
            DocumentKind::Jwks | DocumentKind::History => changed(Channel::Jwks),
            DocumentKind::Discovery => changed(Channel::Discovery),
            DocumentKind::Http | DocumentKind::Tls | DocumentKind::Token | DocumentKind::Policy => false,
        }
}

fn standing(outcomes: &[(&Rule, Outcome)], changes: &Changes, ledger: &Ledger) -> Standing {
    let verdict = Verdict::of(&changes.standing);
    let judged = ledger.jwks.last_ok.is_some();
    let mut standing = Standing { grade: judged.then_some(verdict.grade), grade_reasons: verdict.reasons, ..Standing::default() };
    if !judged {
        standing.grade_reasons = vec!["no key set has been judged yet".to_owned()];
    }
    for (rule, outcome) in outcomes {
        grade::count(&mut standing, &rule.document.id, outcome);
    }
    standing
}
