//! What people decided: announcements and approvals, each with who and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{IssuerId, Thumbprint};

/// One logged decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    pub at: DateTime<Utc>,
    pub by: String,
    pub reason: String,
    pub issuer: IssuerId,
    #[serde(flatten)]
    pub kind: ActKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum ActKind {
    /// A key is announced: it may appear from `from` (default: at once) until `until` (default: without end).
    Expect { thumbprint: Thumbprint, from: Option<DateTime<Utc>>, until: Option<DateTime<Utc>> },
    /// A key that appeared is accepted.
    ApproveKey { thumbprint: Thumbprint },
    /// What an incident reports (a changed issuer or `jwks_uri`, its keys) is accepted.
    ApproveIncident {
        incident: String,
        /// Its new keys.
        keys: Vec<Thumbprint>,
        /// The changed issuer, as canonical JSON.
        new_issuer: Option<String>,
        /// The changed `jwks_uri`, as canonical JSON.
        new_jwks_uri: Option<String>,
    },
}
