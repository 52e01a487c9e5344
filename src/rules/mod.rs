//! The catalogue: each rule is a document and a check, found by the same id.
//!
//! A check looks at [`Facts`] and says what it saw; it never writes a severity, reads a clock or keeps state.

mod discovery;
pub mod document;
mod drift;
pub mod examples;
mod jwks;
mod key;
mod rotation;
mod transport;

use std::collections::BTreeMap;

use crate::facts::Facts;
pub use crate::facts::Skip;
use crate::ledger::KeyRecord;
use crate::model::{Certainty, DocumentKind, Key, Subject, Thumbprint, Violation};
pub use document::Document;
use document::{DocumentError, Registers};

/// What a check says: violations (none: pass), or why it says nothing.
pub type Judgement = Result<Vec<Violation>, Skip>;

/// How a rule is asked.
#[derive(Clone, Copy)]
pub enum Check {
    /// Once for the issuer.
    Issuer(fn(&Facts) -> Judgement),
    /// Once for each key of the set.
    EachKey(fn(&Key, &Facts) -> Judgement),
    /// Once for each key of the history that is published, or whose end still matters.
    EachRecord(fn(&Thumbprint, &KeyRecord, &Facts) -> Judgement),
}

/// A rule: what people read, and what the machine asks.
pub struct Rule {
    pub document: Document,
    pub check: Check,
}

/// A built-in rule before its document is parsed.
struct Entry {
    id: &'static str,
    text: &'static str,
    check: Check,
}

/// A built-in rule; its document is compiled in, so a rule without one does not compile.
macro_rules! rule {
    ($id:literal, $check:expr) => {
        crate::rules::Entry { id: $id, text: include_str!(concat!("../../rules/", $id, ".md")), check: $check }
    };
}
use rule;

/// All rules of a run, by id.
pub struct RuleSet {
    rules: BTreeMap<String, Rule>,
}

impl RuleSet {
    /// The built-in catalogue.
    ///
    /// # Errors
    /// A document is malformed; tests keep that from shipping.
    pub fn builtin() -> Result<Self, DocumentError> {
        let registers = Registers::read(include_str!("../../rules/specs.toml"), include_str!("../../rules/controls.toml"))
            .map_err(|error| DocumentError { id: "rules/*.toml".to_owned(), text: error.to_string() })?;
        let families = [transport::RULES, discovery::RULES, jwks::RULES, key::RULES, rotation::RULES, drift::RULES];
        let mut rules = BTreeMap::new();
        for entry in families.into_iter().flatten() {
            rules.insert(entry.id.to_owned(), Rule { document: Document::parse(entry.id, entry.text, &registers)?, check: entry.check });
        }
        Ok(Self { rules })
    }

    /// A rule by its id or one of its aliases.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Rule> {
        self.rules.get(id).or_else(|| self.rules.values().find(|rule| rule.document.aliases.iter().any(|alias| alias == id)))
    }

    /// All rules, sorted by id.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// A certain violation of the rule's own severity.
fn violation(document: DocumentKind, pointer: impl Into<String>, message: impl Into<String>) -> Violation {
    Violation {
        case: "",
        certainty: Certainty::Certain,
        subject: Subject::default(),
        document,
        pointer: pointer.into(),
        message: message.into(),
    }
}

/// Builder words for what a check has to say beyond the plain violation.
trait Detail {
    /// Names a case of the rule's document.
    fn case(self, case: &'static str) -> Self;
    /// The evidence leaves another reading.
    fn possible(self) -> Self;
    /// The key that is meant.
    fn of_key(self, key: &Key) -> Self;
    /// The key of the history that is meant.
    fn of_record(self, thumbprint: &Thumbprint, record: &KeyRecord) -> Self;
}

impl Detail for Violation {
    fn case(self, case: &'static str) -> Self {
        Self { case, ..self }
    }

    fn possible(self) -> Self {
        Self { certainty: Certainty::Possible, ..self }
    }

    fn of_key(self, key: &Key) -> Self {
        Self { subject: Subject { thumbprint: Some(key.thumbprint.clone()), kid: key.kid.clone(), line: None }, ..self }
    }

    fn of_record(self, thumbprint: &Thumbprint, record: &KeyRecord) -> Self {
        Self { subject: Subject { thumbprint: Some(thumbprint.clone()), kid: record.kid.clone(), line: None }, ..self }
    }
}

/// One violation, or a pass.
fn fail_if(failed: bool, violation: impl FnOnce() -> Violation) -> Judgement {
    Ok(if failed { vec![violation()] } else { Vec::new() })
}
