//! The nouns of the product: plain values, no I/O, no clock. Names are those of the specifications.

mod about;
mod act;
mod event;
mod finding;
mod incident;
mod issuer;
pub mod json;
mod key;
mod metadata;
mod moment;
mod observation;
mod rule_text;
mod spoken;
mod standing;
pub mod text;

pub use about::About;
pub use act::{Act, ActKind};
pub use event::{Channel, Event, EventKind, timestamp};
pub use finding::{Certainty, DocumentKind, Finding, FindingKey, FindingState, Severity, Subject, Violation};
pub use incident::{Alert, AlertState, Baseline, Destination, Incident, IncidentKind, IncidentState, Notice, NoticeKind};
pub use issuer::{Issuer, IssuerId, IssuerUrl, IssuerUrlError, Profile, Rotation};
pub use key::{Key, KeySet, Material, Problem, ProblemKind, SecretMember, Thumbprint};
pub use metadata::Metadata;
pub use moment::moment;
pub use observation::{Attempt, Body, CertificateFacts, Digest, Observation, Redirect, TlsFacts, Unseen, UnseenReason};
pub use rule_text::RuleText;
pub use spoken::spoken;
pub use standing::{Grade, JudgementCounts, NotEvaluated, Standing};
pub use text::{visible, visible_json};
