//! The grade, version 1, and the counts beside it (interface.md, "Grade").

use crate::lifecycle::Outcome;
use crate::model::{Certainty, Finding, FindingState, Grade, NotEvaluated, Severity, Standing};
use crate::rules::Skip;

/// A grade and what keeps it from being better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub grade: Grade,
    pub reasons: Vec<String>,
}

impl Verdict {
    /// F: a certain critical. D: a certain high. C: a possible critical or high, or five medium. B: a medium. A: none of
    /// these. Waived findings count and are marked.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let with = |severity: Severity, certainty: Option<Certainty>| -> Vec<&Finding> {
            findings
                .iter()
                .filter(|finding| finding.severity == severity && certainty.is_none_or(|certainty| finding.certainty == certainty))
                .collect()
        };
        let critical = with(Severity::Critical, Some(Certainty::Certain));
        let high = with(Severity::High, Some(Certainty::Certain));
        let possible: Vec<&Finding> =
            [Severity::Critical, Severity::High].into_iter().flat_map(|severity| with(severity, Some(Certainty::Possible))).collect();
        let medium = with(Severity::Medium, None);
        let (grade, because) = if !critical.is_empty() {
            (Grade::F, critical)
        } else if !high.is_empty() {
            (Grade::D, high)
        } else if !possible.is_empty() {
            (Grade::C, possible)
        } else if medium.len() >= 5 {
            (Grade::C, medium)
        } else if !medium.is_empty() {
            (Grade::B, medium)
        } else {
            return Self { grade: Grade::A, reasons: vec!["no finding of severity medium or above".to_owned()] };
        };
        Self { grade, reasons: because.into_iter().map(reason).collect() }
    }
}

fn reason(finding: &Finding) -> String {
    let certainty = if finding.certainty == Certainty::Possible { ", possible" } else { "" };
    let waived = if finding.state == FindingState::Waived { ", waived" } else { "" };
    format!("{} ({}{certainty}{waived}): {}", finding.rule, finding.severity, finding.message)
}

/// Counts a rule by its worst outcome.
pub(crate) fn count(standing: &mut Standing, rule: &str, outcome: &Outcome) {
    let counts = &mut standing.judgements;
    if !outcome.violations.is_empty() {
        counts.fail += 1;
        return;
    }
    match &outcome.verdict {
        Ok(()) => counts.pass += 1,
        Err(Skip::NotApplicable) => counts.not_applicable += 1,
        Err(Skip::Broken(reason)) => {
            counts.broken += 1;
            standing.not_evaluated.push(NotEvaluated { rule: rule.to_owned(), reason: reason.clone() });
        }
        Err(Skip::NotEvaluated(reason) | Skip::Unseen(reason)) => {
            counts.not_evaluated += 1;
            standing.not_evaluated.push(NotEvaluated { rule: rule.to_owned(), reason: reason.clone() });
        }
    }
}
