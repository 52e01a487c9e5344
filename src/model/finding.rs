//! What a rule found, over time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{IssuerId, Thumbprint};

/// How bad it is; ordered, `Info` least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Info => "info",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }

    /// One level less; what `possible` does to a case's severity.
    #[must_use]
    pub fn lowered(self) -> Self {
        match self {
            Self::Critical => Self::High,
            Self::High => Self::Medium,
            Self::Medium => Self::Low,
            Self::Low | Self::Info => Self::Info,
        }
    }

    /// What it weighs with that certainty.
    #[must_use]
    pub fn held(self, certainty: Certainty) -> Self {
        match certainty {
            Certainty::Certain => self,
            Certainty::Possible => self.lowered(),
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Whether the evidence leaves another reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    Certain,
    Possible,
}

/// Where the evidence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    Discovery,
    Jwks,
    Http,
    Tls,
    History,
    Token,
    Policy,
}

/// The key that is meant; empty where none is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Subject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbprint: Option<Thumbprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The line of a key file (`keys audit` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl Subject {
    /// What makes two subjects the same over time: the thumbprint, else the kid; a kid is only a label of a thumbprint.
    #[must_use]
    pub fn identity(&self) -> String {
        match (&self.thumbprint, &self.kid) {
            (Some(thumbprint), _) => thumbprint.0.clone(),
            (None, Some(kid)) => format!("kid:{kid}"),
            (None, None) => String::new(),
        }
    }
}

/// One piece of evidence against a rule: a named case of the rule's document; never a severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A name in the document's `[cases]`, or `""` for the rule's own severity.
    pub case: &'static str,
    pub certainty: Certainty,
    pub subject: Subject,
    pub document: DocumentKind,
    /// A JSON Pointer into the document, or a header's name.
    pub pointer: String,
    /// One sentence.
    pub message: String,
}

/// What makes two findings the same: never a message or an array index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FindingKey {
    pub issuer: IssuerId,
    pub rule: String,
    /// [`Subject::identity`].
    pub subject: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    Open,
    Resolved,
    Waived,
}

/// A finding as users see it (interface.md, "Finding").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub rule: String,
    pub severity: Severity,
    pub certainty: Certainty,
    pub issuer: IssuerId,
    pub subject: Subject,
    pub document: DocumentKind,
    pub pointer: String,
    pub message: String,
    pub cites: Vec<String>,
    pub first_seen: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
    pub state: FindingState,
}

impl Finding {
    #[must_use]
    pub fn key(&self) -> FindingKey {
        FindingKey { issuer: self.issuer.clone(), rule: self.rule.clone(), subject: self.subject.identity() }
    }
}
