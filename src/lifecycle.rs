//! Findings over time: opened, still open, resolved.
//!
//! A finding resolves only when its rule judged and passed, or no longer applies. What we could not see, could not
//! evaluate, or what broke changes nothing: an outage must neither resolve nor re-open a hundred findings.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::model::{Certainty, Finding, FindingKey, FindingState, IssuerId, Severity, Violation};
use crate::policy::Policy;
use crate::rules::{Document, Judgement, Rule, Skip};

/// What one rule came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The worst of its parts: what the judgement counts count.
    pub verdict: Result<(), Skip>,
    pub violations: Vec<Violation>,
    /// Subjects that could not be judged though the rule was.
    undecided: BTreeSet<String>,
    /// Switched off: its findings go, though nothing was judged.
    off: bool,
}

impl Outcome {
    /// A rule that was asked once.
    #[must_use]
    pub fn of(judgement: Judgement) -> Self {
        match judgement {
            Ok(violations) => Self { verdict: Ok(()), violations, undecided: BTreeSet::new(), off: false },
            Err(skip) => Self { verdict: Err(skip), violations: Vec::new(), undecided: BTreeSet::new(), off: false },
        }
    }

    /// A rule that the policy switched off.
    #[must_use]
    pub fn off() -> Self {
        Self { off: true, ..Self::of(Err(Skip::NotEvaluated("switched off".to_owned()))) }
    }

    /// A rule that was asked once for each subject.
    #[must_use]
    pub fn each<'a>(judgements: impl Iterator<Item = (&'a str, Judgement)>) -> Self {
        let mut outcome = Self::of(Err(Skip::NotApplicable));
        for (subject, judgement) in judgements {
            let verdict = match judgement {
                Ok(violations) => {
                    outcome.violations.extend(violations);
                    Ok(())
                }
                Err(skip) => {
                    if skip != Skip::NotApplicable {
                        outcome.undecided.insert(subject.to_owned());
                    }
                    Err(skip)
                }
            };
            if weight(&verdict) > weight(&outcome.verdict) {
                outcome.verdict = verdict;
            }
        }
        outcome
    }

    /// What the rule said, all its subjects together.
    pub fn judgement(&self) -> Judgement {
        if self.violations.is_empty() { self.verdict.clone().map(|()| Vec::new()) } else { Ok(self.violations.clone()) }
    }

    /// Whether the rule said of this subject that all is well, or that it is none of its business.
    fn settles(&self, subject: &str) -> bool {
        self.off
            || (!self.undecided.contains(subject)
                && (matches!(self.verdict, Ok(()) | Err(Skip::NotApplicable)) || !self.undecided.is_empty()))
    }
}

fn weight(verdict: &Result<(), Skip>) -> u8 {
    match verdict {
        Err(Skip::NotApplicable) => 0,
        Ok(()) => 1,
        Err(Skip::NotEvaluated(_)) => 2,
        Err(Skip::Unseen(_)) => 3,
        Err(Skip::Broken(_)) => 4,
    }
}

/// How an issuer's findings changed.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Findings that stand now, open and waived.
    pub standing: Vec<Finding>,
    pub opened: Vec<Finding>,
    /// Standing findings whose severity rose.
    pub worsened: Vec<Finding>,
    /// Standing findings with another text or severity than before.
    altered: Vec<Finding>,
    pub resolved: Vec<Finding>,
}

impl Changes {
    /// Findings whose row must be written.
    #[must_use]
    pub fn to_write(&self) -> Vec<Finding> {
        [&self.opened, &self.altered, &self.resolved].into_iter().flatten().cloned().collect()
    }
}

/// Lays new outcomes over the findings that stood.
#[must_use]
pub fn update(standing: &[Finding], outcomes: &[(&Rule, Outcome)], issuer: &IssuerId, policy: &Policy, now: DateTime<Utc>) -> Changes {
    let mut before: BTreeMap<FindingKey, &Finding> = standing.iter().map(|finding| (finding.key(), finding)).collect();
    let mut changes = Changes::default();
    for (rule, outcome) in outcomes {
        for found in worst_by_subject(&rule.document, outcome, issuer, policy, now) {
            match before.remove(&found.key()) {
                None => {
                    changes.opened.push(found.clone());
                    changes.standing.push(found);
                }
                Some(old) => {
                    let new = Finding { first_seen: old.first_seen, state: old.state, ..found };
                    if new.severity > old.severity {
                        changes.worsened.push(new.clone());
                    }
                    if (Finding { last_seen: old.last_seen, ..new.clone() }) != *old {
                        changes.altered.push(new.clone());
                    }
                    changes.standing.push(new);
                }
            }
        }
    }
    let by_rule: BTreeMap<&str, &Outcome> = outcomes.iter().map(|(rule, outcome)| (rule.document.id.as_str(), outcome)).collect();
    for (key, old) in before {
        // A rule that is gone (renamed, removed) can no longer judge its findings: they stay as history shows them.
        let settled = by_rule.get(key.rule.as_str()).is_some_and(|outcome| outcome.settles(&key.subject));
        if settled {
            changes.resolved.push(Finding { state: FindingState::Resolved, last_seen: now, ..old.clone() });
        } else {
            changes.standing.push(old.clone());
        }
    }
    changes.standing.sort_by_key(Finding::key);
    changes
}

/// One finding for each subject: that of its worst violation.
fn worst_by_subject(document: &Document, outcome: &Outcome, issuer: &IssuerId, policy: &Policy, now: DateTime<Utc>) -> Vec<Finding> {
    let mut worst: BTreeMap<String, Finding> = BTreeMap::new();
    for violation in &outcome.violations {
        let finding = Finding {
            rule: document.id.clone(),
            severity: severity_of(document, violation, policy),
            certainty: violation.certainty,
            issuer: issuer.clone(),
            subject: violation.subject.clone(),
            document: violation.document,
            pointer: violation.pointer.clone(),
            message: violation.message.clone(),
            cites: document.cites.iter().map(|cite| cite.text.clone()).collect(),
            first_seen: now,
            last_seen: now,
            state: FindingState::Open,
        };
        let better = |old: &Finding| {
            (finding.severity, finding.certainty == Certainty::Certain) > (old.severity, old.certainty == Certainty::Certain)
        };
        let subject = finding.subject.identity();
        if worst.get(&subject).is_none_or(better) {
            worst.insert(subject, finding);
        }
    }
    worst.into_values().collect()
}

/// The document's severity for the case, changed by the policy; `possible` lowers it by one.
fn severity_of(document: &Document, violation: &Violation, policy: &Policy) -> Severity {
    let names = std::iter::once(&document.id).chain(&document.aliases);
    let changed = names.into_iter().find_map(|name| policy.severity.get(name).copied().flatten());
    changed.map_or_else(|| document.severity_of(violation), |severity| severity.held(violation.certainty))
}
