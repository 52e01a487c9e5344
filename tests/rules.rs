//! Every example of every rule document as a test of its own, and lints for the lints.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use issuerwatch::assess::play;
use issuerwatch::model::Severity;
use issuerwatch::rules::document::{Example, Expected};
use issuerwatch::rules::examples::{Stage, compare};
use issuerwatch::rules::{Document, Judgement, RuleSet, Skip};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let rules = Arc::new(RuleSet::builtin().expect("every built-in document parses"));
    let stage = Arc::new(Stage::builtin().expect("the stage of the examples parses"));
    let mut trials = examples(&rules, &stage);
    trials.push(with(&rules, &stage, "every rule passes or does not apply to compliant.json", compliant_is_compliant));
    trials.push(with(&rules, &stage, "every case of a document is met by an example, and no other", cases_are_declared_and_shown));
    for (name, check) in HYGIENE {
        let rules = Arc::clone(&rules);
        trials.push(Trial::test(name, move || check(&rules)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test of the catalogue alone.
type Lint = fn(&RuleSet) -> Result<(), Failed>;

const HYGIENE: [(&str, Lint); 8] = [
    ("every rule has an example that passes and one that fails", passes_and_fails),
    ("a rule that enforces a MUST weighs medium at least, or says why not", musts_weigh),
    ("ids are kebab-case and at most 40 characters", ids_are_short_kebab_case),
    ("titles fit a mail subject", titles_fit_a_subject),
    ("every document under rules/ belongs to a rule", every_document_has_a_rule),
    ("every case that the code names is declared in its family", literal_cases_are_declared),
    ("every specification and control is used", registers_are_used),
    ("the README's table of rules is current", readme_table_is_current),
];

fn with(rules: &Arc<RuleSet>, stage: &Arc<Stage>, name: &str, check: fn(&RuleSet, &Stage) -> Result<(), Failed>) -> Trial {
    let (rules, stage) = (Arc::clone(rules), Arc::clone(stage));
    Trial::test(name, move || check(&rules, &stage))
}

fn examples(rules: &Arc<RuleSet>, stage: &Arc<Stage>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for rule in rules.iter() {
        for example in &rule.document.examples {
            let (rules, stage) = (Arc::clone(rules), Arc::clone(stage));
            let (id, example) = (rule.document.id.clone(), example.clone());
            let name = format!("rules/{id}.md:{} {}", example.line, example.expected);
            trials.push(Trial::test(name, move || {
                let said = judgement(&rules, &stage, &id, &example)?;
                Ok(compare(&rules.find(&id).expect("the id is a rule's").document, &example.expected, &said)?)
            }));
        }
    }
    trials
}

/// What a rule says of an example.
fn judgement(rules: &RuleSet, stage: &Stage, id: &str, example: &Example) -> Result<Judgement, Failed> {
    let scene = stage.scene(&example.patch)?;
    let said = play(&scene, rules).into_iter().find(|(rule, _)| rule == id).map(|(_, said)| said);
    said.ok_or_else(|| format!("{id} was not asked").into())
}

fn compliant_is_compliant(rules: &RuleSet, stage: &Stage) -> Result<(), Failed> {
    let said = play(&stage.scene("{}")?, rules);
    let faults = said.iter().filter(|(_, said)| !matches!(said, Err(Skip::NotApplicable)) && !said.as_ref().is_ok_and(Vec::is_empty));
    all_well(faults.map(|(rule, said)| format!("{rule}: {said:?}")))
}

fn cases_are_declared_and_shown(rules: &RuleSet, stage: &Stage) -> Result<(), Failed> {
    let mut faults = Vec::new();
    for rule in rules.iter() {
        let mut shown = BTreeSet::new();
        for example in &rule.document.examples {
            let violations = judgement(rules, stage, &rule.document.id, example)?.unwrap_or_default();
            shown.extend(violations.iter().map(|violation| violation.case.to_owned()).filter(|case| !case.is_empty()));
        }
        let declared: BTreeSet<String> = rule.document.cases.keys().cloned().collect();
        if shown != declared {
            faults.push(format!("{}: declared {declared:?}, shown by examples {shown:?}", rule.document.id));
        }
    }
    all_well(faults)
}

fn passes_and_fails(rules: &RuleSet) -> Result<(), Failed> {
    all_well(rules.iter().map(|rule| &rule.document).filter_map(|document| {
        let passes = document.examples.iter().any(|example| example.expected == Expected::Pass);
        let fails = document.examples.iter().any(|example| matches!(example.expected, Expected::Fail { .. }));
        (!passes || !fails).then(|| format!("{}: passes {passes}, fails {fails}", document.id))
    }))
}

fn musts_weigh(rules: &RuleSet) -> Result<(), Failed> {
    let is_must = |document: &Document| {
        document
            .cites
            .iter()
            .filter_map(|cite| cite.requires.as_deref())
            .any(|word| ["MUST", "REQUIRED", "SHALL"].iter().any(|must| word.starts_with(must)))
    };
    all_well(
        rules
            .iter()
            .map(|rule| &rule.document)
            .filter(|document| document.severity < Severity::Medium && document.severity_reason.is_none() && is_must(document))
            .map(|document| document.id.clone()),
    )
}

fn ids_are_short_kebab_case(rules: &RuleSet) -> Result<(), Failed> {
    let kebab = |part: &str| {
        !part.is_empty()
            && part.split('-').all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
    };
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut faults = Vec::new();
    for document in rules.iter().map(|rule| &rule.document) {
        let parts: Vec<&str> = document.id.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| kebab(part)) || document.id.len() > 40 {
            faults.push(document.id.clone());
        }
        for name in document.aliases.iter().chain([&document.id]) {
            if let Some(other) = names.insert(name, &document.id) {
                faults.push(format!("{name} names both {other} and {}", document.id));
            }
        }
    }
    all_well(faults)
}

fn titles_fit_a_subject(rules: &RuleSet) -> Result<(), Failed> {
    let fits = |title: &str| {
        title.len() <= 64 && title.is_ascii() && !title.ends_with('.') && title.starts_with(|first: char| first.is_ascii_uppercase())
    };
    all_well(rules.iter().map(|rule| &rule.document.title).filter(|title| !fits(title)).cloned())
}

fn every_document_has_a_rule(rules: &RuleSet) -> Result<(), Failed> {
    let known: BTreeSet<String> = rules.iter().map(|rule| format!("{}.md", rule.document.id)).collect();
    let folder = root().join("rules");
    let found = files(&folder, "md")?
        .into_iter()
        .map(|path| path.strip_prefix(&folder).expect("it was found there").to_string_lossy().replace('\\', "/"));
    all_well(found.filter(|path| !known.contains(path)))
}

fn literal_cases_are_declared(rules: &RuleSet) -> Result<(), Failed> {
    let mut faults = Vec::new();
    for path in files(&root().join("src/rules"), "rs")? {
        let family = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let documents: Vec<&Document> = rules.iter().map(|rule| &rule.document).filter(|document| document.family() == family).collect();
        let named = text.split(".case(\"").skip(1).filter_map(|rest| rest.split('"').next());
        faults.extend(
            named
                .filter(|case| !documents.iter().any(|document| document.cases.contains_key(*case)))
                .map(|case| format!("{family}: {case} is declared nowhere")),
        );
        let declared = documents.iter().flat_map(|document| document.cases.keys());
        faults.extend(
            declared.filter(|case| !text.contains(&format!("\"{case}\""))).map(|case| format!("{family}: {case} is named nowhere")),
        );
    }
    all_well(faults)
}

fn registers_are_used(_: &RuleSet) -> Result<(), Failed> {
    let folder = root().join("rules");
    let documents = files(&folder, "md")?.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>()?.concat();
    let mut faults = Vec::new();
    for (register, used) in [("specs.toml", "spec = \"{}\""), ("controls.toml", "\"{}\"")] {
        let entries: toml::Table = toml::from_str(&fs::read_to_string(folder.join(register))?)?;
        faults.extend(
            entries
                .keys()
                .filter(|id| !documents.contains(&used.replace("{}", id)))
                .map(|id| format!("{register}: nothing refers to {id}")),
        );
    }
    all_well(faults)
}

const BEGIN: &str = "<!-- rules:begin -->\n";
const END: &str = "<!-- rules:end -->";

#[expect(clippy::disallowed_methods, reason = "UPDATE=1 asks this test to rewrite the table")]
fn readme_table_is_current(rules: &RuleSet) -> Result<(), Failed> {
    let path = root().join("README.md");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let Some((head, rest)) = text.split_once(BEGIN) else { return Ok(()) };
    let (old, tail) = rest.split_once(END).ok_or("README.md: no <!-- rules:end --> after <!-- rules:begin -->")?;
    let table = table(rules);
    if old == table {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_none() {
        return Err("README.md: the table of rules is out of date; UPDATE=1 cargo test --test rules rewrites it".into());
    }
    Ok(fs::write(&path, format!("{head}{BEGIN}{table}{END}{tail}"))?)
}

/// The catalogue as a Markdown table.
fn table(rules: &RuleSet) -> String {
    let rows = rules.iter().map(|rule| &rule.document).map(|document| {
        let cite = document.cites.first().map_or("recommendation", |cite| cite.text.as_str());
        format!("| [`{id}`](rules/{id}.md) | {} | {} | {cite} |\n", document.severity, document.title, id = document.id)
    });
    ["| Rule | Severity | Finds | First citation |\n|---|---|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn all_well(faults: impl IntoIterator<Item = String>) -> Result<(), Failed> {
    let faults: Vec<String> = faults.into_iter().collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder with that extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Failed> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
