//! A rule's document: TOML front matter for machines, Markdown for people, fenced JSON blocks for the tests.
//! It is the only place where a rule's severity, citations, controls and remediation are written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{Severity, Violation};

/// One rule as its Markdown file tells it.
#[derive(Debug, Clone)]
pub struct Document {
    /// `family/defect`.
    pub id: String,
    pub title: String,
    pub severity: Severity,
    /// Named cases with a severity of their own.
    pub cases: BTreeMap<String, Severity>,
    pub cites: Vec<Cite>,
    /// Control mappings as shown: `OWASP NHI4:2025`, `CSF 2.0 PR.AA-04`, …
    pub controls: Vec<String>,
    /// Profiles it is for; empty: all.
    pub profiles: Vec<String>,
    /// Policy parameters it reads.
    pub parameters: Vec<String>,
    pub since: String,
    pub aliases: Vec<String>,
    /// Why a MUST weighs less than medium.
    pub severity_reason: Option<String>,
    /// What it detects and why that matters (Markdown).
    pub description: String,
    /// How to mend it (Markdown).
    pub remediation: String,
    pub examples: Vec<Example>,
}

/// A citation with its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cite {
    /// `RFC 7518 §3.3`.
    pub text: String,
    pub url: Option<String>,
    /// Whether somebody read the text for this catalogue.
    pub verified: bool,
    /// `MUST`, `SHOULD`, … where the text is normative.
    pub requires: Option<String>,
}

/// A fenced JSON block: a patch to the compliant issuer, and what the rule must say of it.
#[derive(Debug, Clone)]
pub struct Example {
    /// The line of the fence in the document.
    pub line: usize,
    pub expected: Expected,
    pub patch: String,
}

/// What an example expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    Pass,
    NotApplicable,
    NotEvaluated,
    /// `/document/pointer`, and the severity and certainty where the fence names them.
    Fail {
        place: String,
        severity: Option<Severity>,
        possible: Option<bool>,
    },
}

/// As the fence says it.
impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::NotApplicable => f.write_str("not-applicable"),
            Self::NotEvaluated => f.write_str("not-evaluated"),
            Self::Fail { place, severity, possible } => {
                write!(f, "fail {place}")?;
                if let Some(severity) = severity {
                    write!(f, " {severity}")?;
                }
                match possible {
                    Some(true) => f.write_str(" possible"),
                    Some(false) => f.write_str(" certain"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Why a document is not one; line numbers count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id}: {text}")]
pub struct DocumentError {
    pub id: String,
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    title: String,
    severity: Severity,
    #[serde(default)]
    cases: BTreeMap<String, Severity>,
    #[serde(default)]
    cites: Vec<FrontCite>,
    #[serde(default)]
    controls: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    parameters: Vec<String>,
    since: String,
    #[serde(default)]
    aliases: Vec<String>,
    severity_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontCite {
    spec: String,
    section: Option<String>,
    requires: Option<String>,
    #[serde(default = "yes")]
    verified: bool,
}

fn yes() -> bool {
    true
}

/// Specifications and controls that documents refer to by id.
#[derive(Debug, Clone, Default)]
pub struct Registers {
    specs: BTreeMap<String, Spec>,
    controls: BTreeMap<String, Control>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    title: String,
    /// With `{section}` where the section's anchor goes.
    url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    framework: String,
    title: String,
}

impl Registers {
    /// Reads `specs.toml` and `controls.toml`.
    ///
    /// # Errors
    /// A text is not TOML of that form.
    pub fn read(specs: &str, controls: &str) -> Result<Self, toml::de::Error> {
        Ok(Self { specs: toml::from_str(specs)?, controls: toml::from_str(controls)? })
    }

    fn cite(&self, cite: &FrontCite) -> Option<Cite> {
        let spec = self.specs.get(&cite.spec)?;
        let section = cite.section.as_deref();
        Some(Cite {
            text: section.map_or_else(|| spec.title.clone(), |section| format!("{} §{section}", spec.title)),
            url: spec.url.as_ref().map(|url| url.replace("{section}", section.unwrap_or(""))),
            verified: cite.verified,
            requires: cite.requires.clone(),
        })
    }

    fn control(&self, id: &str) -> Option<String> {
        let control = self.controls.get(id)?;
        Some(format!("{} {}: {}", control.framework, id.rsplit(':').next().unwrap_or(id), control.title))
    }
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// Says what is missing or unknown, and where.
    pub fn parse(id: &str, text: &str, registers: &Registers) -> Result<Self, DocumentError> {
        let wrong = |text: String| DocumentError { id: id.to_owned(), text };
        let rest = text.strip_prefix("+++\n").ok_or_else(|| wrong("line 1: the front matter must begin with a line +++".to_owned()))?;
        let (front, body) = rest.split_once("\n+++\n").ok_or_else(|| wrong("the front matter has no closing line +++".to_owned()))?;
        let matter: FrontMatter = toml::from_str(front).map_err(|error| wrong(format!("front matter: {}", error.message())))?;
        let mut cites = Vec::new();
        for cite in &matter.cites {
            cites.push(registers.cite(cite).ok_or_else(|| wrong(format!("cites: \"{}\" is not in specs.toml", cite.spec)))?);
        }
        let mut controls = Vec::new();
        for control in &matter.controls {
            controls.push(registers.control(control).ok_or_else(|| wrong(format!("controls: \"{control}\" is not in controls.toml")))?);
        }
        let (description, sections) =
            body.split_once("\n## Remediation\n").ok_or_else(|| wrong("there is no \"## Remediation\" section".to_owned()))?;
        let (remediation, examples) = sections.split_once("\n## Examples\n").unwrap_or((sections, ""));
        // The examples are the end of the text.
        let line = text[..text.len() - examples.len()].matches('\n').count() + 1;
        Ok(Self {
            id: id.to_owned(),
            title: matter.title,
            severity: matter.severity,
            cases: matter.cases,
            cites,
            controls,
            profiles: matter.profiles,
            parameters: matter.parameters,
            since: matter.since,
            aliases: matter.aliases,
            severity_reason: matter.severity_reason,
            description: description.trim().to_owned(),
            remediation: remediation.trim().to_owned(),
            examples: examples_of(examples, line).map_err(wrong)?,
        })
    }

    /// The severity of a violation's case (`""` and unknown names mean the rule's own), lowered where it is only possible.
    #[must_use]
    pub fn severity_of(&self, violation: &Violation) -> Severity {
        self.cases.get(violation.case).copied().unwrap_or(self.severity).held(violation.certainty)
    }

    /// The first part of the id.
    #[must_use]
    pub fn family(&self) -> &str {
        self.id.split('/').next().unwrap_or(&self.id)
    }
}

fn examples_of(text: &str, first_line: usize) -> Result<Vec<Example>, String> {
    let mut examples = Vec::new();
    let mut open: Option<Example> = None;
    for (offset, line) in text.lines().enumerate() {
        let number = first_line + offset;
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => examples.extend(open.take()),
            (Some(example), _) => {
                example.patch.push_str(line);
                example.patch.push('\n');
            }
            (None, Some(fence)) => open = Some(Example { line: number, expected: expected(fence).ok_or_else(|| format!("line {number}: \"{fence}\" is not `json pass`, `json fail /place [severity] [possible]`, `json not-applicable` or `json not-evaluated`"))?, patch: String::new() }),
            (None, None) => {}
        }
    }
    match open {
        Some(example) => Err(format!("line {}: the block is not closed", example.line)),
        None => Ok(examples),
    }
}

fn expected(fence: &str) -> Option<Expected> {
    let mut words = fence.split_whitespace();
    if words.next() != Some("json") {
        return None;
    }
    let expected = match words.next()? {
        "pass" => Expected::Pass,
        "not-applicable" => Expected::NotApplicable,
        "not-evaluated" => Expected::NotEvaluated,
        "fail" => {
            let place = words.next()?.to_owned();
            let (mut severity, mut possible) = (None, None);
            for word in words.by_ref() {
                match word {
                    "possible" => possible = Some(true),
                    "certain" => possible = Some(false),
                    name => severity = Some(Severity::from_name(name)?),
                }
            }
            Expected::Fail { place, severity, possible }
        }
        _ => return None,
    };
    words.next().is_none().then_some(expected)
}
