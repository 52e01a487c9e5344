//! Keeps the layers of src/lib.rs apart: pure modules do no I/O, and modules import only what stands to their left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module of src/ and the modules that it may import.
const EDGES: &[(&str, &[&str])] = &[
    // pure
    ("model", &[]),
    ("policy", &["model"]),
    ("cadence", &["model"]),
    ("parse", &["model"]),
    ("ledger", &["model", "policy", "parse"]),
    ("archive", &["model", "parse"]),
    ("facts", &["model", "policy", "parse", "ledger"]),
    ("verifier", &["model", "policy", "ledger", "facts"]),
    ("rules", &["model", "policy", "parse", "ledger", "facts", "verifier"]),
    ("lifecycle", &["model", "policy", "ledger", "facts", "rules"]),
    ("grade", &["model", "facts", "rules", "lifecycle"]),
    ("routing", &["model", "policy", "rules", "lifecycle"]),
    ("assess", &["model", "policy", "cadence", "parse", "ledger", "facts", "verifier", "rules", "lifecycle", "grade", "routing"]),
    // leaves: pure modules and the clock, never each other; only the report may read the store
    ("clock", &[]),
    ("config", PURE_AND_CLOCK),
    ("fetch", PURE_AND_CLOCK),
    ("store", PURE_AND_CLOCK),
    ("report", &["model", "policy", "cadence", "parse", "ledger", "archive", "facts", "verifier", "rules", "assess", "clock", "store"]),
    // loops and doors
    (
        "poll",
        &["model", "policy", "cadence", "parse", "ledger", "facts", "rules", "assess", "lifecycle", "routing", "clock", "fetch", "store"],
    ),
    ("notify", &["model", "policy", "rules", "clock", "store"]),
    ("web", &["model", "policy", "ledger", "rules", "clock", "store", "report"]),
];

const PURE: &[&str] =
    &["model", "policy", "cadence", "parse", "ledger", "archive", "facts", "rules", "assess", "lifecycle", "grade", "routing", "verifier"];
const PURE_AND_CLOCK: &[&str] = &[
    "model",
    "policy",
    "cadence",
    "parse",
    "ledger",
    "archive",
    "facts",
    "rules",
    "assess",
    "lifecycle",
    "grade",
    "routing",
    "verifier",
    "clock",
];

/// `cli` wires everything; the others are no modules of the map.
const FREE: &[&str] = &["cli", "lib", "main"];

/// What a pure module must not name.
const IMPURE: &[&str] = &["tokio", "reqwest", "rusqlite", "postgres", "lettre", "axum", "std::fs", "std::env"];

#[test]
fn modules_import_only_what_stands_to_their_left() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let path = file.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&file).expect("a readable source");
        wrong.extend(faults(&module_of(&path), &text).into_iter().map(|fault| format!("src/{path}: {fault}")));
    }
    assert!(wrong.is_empty(), "the layers are broken (see the map in src/lib.rs):\n{}", wrong.join("\n"));
}

#[test]
fn the_check_itself_sees_what_it_looks_for() {
    let cases = [
        ("rules", "use crate::store::Db;", "crate::store"),
        ("rules", "use crate::{model::{Key, KeySet}, store};", "crate::store"),
        ("rules", "use crate::{\n    facts::Facts, // why\n    fetch,\n};", "crate::fetch"),
        ("rules", "fn f() { crate::poll::now() }", "crate::poll"),
        ("facts", "use tokio::fs;", "tokio"),
        ("facts", "use std::{collections::BTreeMap, fs};", "std::fs"),
        ("facts", "fn f() { std::env::var(\"x\") }", "std::env"),
        ("store", "use crate::fetch;", "crate::fetch"),
        ("fetch", "use crate::config::Secret;", "crate::config"),
        ("helpers", "", "not in the table"),
    ];
    for (module, text, fault) in cases {
        let found = faults(module, text);
        assert!(matches!(&found[..], [one] if one.contains(fault)), "{module}: {text}: {found:?}");
    }
    let sound = [
        ("rules", "use crate::{facts::{Facts, store}, model::Key};"),
        (
            "facts",
            "// use tokio::fs;\n/* std::fs /* nested */ axum */ const A: &str = \"tokio \\\" std::env\"; const B: &str = r#\"axum \" lettre\"#;",
        ),
        ("facts", "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' } // axum"),
        ("facts", "mod tokio_like { } const E: &str = env!(\"X\");"),
        ("cli", "use crate::{config, store}; use tokio::fs;"),
    ];
    for (module, text) in sound {
        assert_eq!(faults(module, text), Vec::<String>::new(), "{module}: {text}");
    }
}

#[test]
fn the_table_names_every_pure_module_without_a_circle() {
    for (index, (module, imports)) in EDGES.iter().enumerate() {
        let before: Vec<&str> = EDGES[..index].iter().map(|(name, _)| *name).collect();
        let circle: Vec<_> =
            imports.iter().filter(|import| !before.contains(import) && EDGES.iter().any(|(name, _)| name == *import)).collect();
        assert!(circle.is_empty(), "{module} stands before {circle:?}");
        assert!(!PURE.contains(module) || imports.iter().all(|import| PURE.contains(import)), "{module} is pure and imports what is not");
    }
    assert!(PURE.iter().all(|pure| EDGES.iter().any(|(module, _)| module == pure)));
}

/// What is wrong with a source text of a module.
fn faults(module: &str, text: &str) -> Vec<String> {
    if FREE.contains(&module) {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == module) else {
        return vec![format!("the module {module} is not in the table of tests/it/tidy.rs")];
    };
    let code = code_of(text);
    let imports = after(&code, "crate").into_iter().filter(|import| import != module && !allowed.contains(&import.as_str()));
    let mut faults: Vec<String> = imports.map(|import| format!("{module} must not import crate::{import}")).collect();
    if PURE.contains(&module) {
        let impure = |name: &&&str| match name.split_once("::") {
            Some((root, rest)) => after(&code, root).contains(rest),
            None => words(&code).any(|word| word == **name),
        };
        faults.extend(IMPURE.iter().filter(impure).map(|name| format!("{module} is pure and must not name {name}")));
    }
    faults
}

/// The first segments of every path that starts at `root`, groups in braces included.
fn after(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let start = format!("{root}::");
    for (at, _) in code.match_indices(&start) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = code[at + start.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(words(rest).next().map(str::to_owned)),
        }
    }
    found
}

/// The first segment of each member of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut member = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(std::mem::take(&mut member)),
            c => member.push(c),
        }
    }
    heads.push(member);
    heads.iter().filter_map(|member| words(member).next().map(str::to_owned)).collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The text without comments and without what stands in quotes.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_text(rest)
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        match skipped {
            0 => code.push(c),
            _ => code.push(' '),
        }
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    code
}

/// The length of a block comment; they nest.
fn comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match &text[at..] {
            rest if rest.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            rest if rest.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            rest => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a raw string; 0 for a raw identifier.
fn raw_text(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let open = 1 + hashes;
    if !text[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |end| open + 1 + end + close.len())
}

/// The length of a text in quotes, the quotes included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

fn module_of(path: &str) -> String {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
