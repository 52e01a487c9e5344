//! How an issuer stands after its last look: the numbers that pages, reports and `check` print.

use serde::{Deserialize, Serialize};

/// Grade, version 1 (interface.md, "Grade").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grade {
    A,
    B,
    C,
    D,
    F,
}

impl Grade {
    pub const VERSION: u32 = 1;

    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::F => "F",
        }
    }
}

/// How many rules came out how, each by its worst outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JudgementCounts {
    pub pass: usize,
    pub fail: usize,
    pub not_applicable: usize,
    pub not_evaluated: usize,
    pub broken: usize,
}

/// A rule that could not be judged, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NotEvaluated {
    pub rule: String,
    pub reason: String,
}

/// The outcome of the last assessment of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// `None` until a key set was judged.
    pub grade: Option<Grade>,
    /// Why not better, each a sentence.
    pub grade_reasons: Vec<String>,
    pub judgements: JudgementCounts,
    pub not_evaluated: Vec<NotEvaluated>,
}
