//! Key sets: every entry read for itself, what is odd noted beside it.
//!
//! Only a body that is no key set at all is refused, with one sentence that says what it is instead.

use std::collections::{BTreeMap, HashSet};

use super::json::{self, JsonError};
use super::material;
use crate::model::json::{Object, Value};
use crate::model::{Body, KeySet, Problem, ProblemKind};

/// Reads a key set; entries from `max_keys` on are counted and not judged. Lifecycle events need `usize::MAX` and depth 100.
///
/// # Errors
/// The body is no JSON, or no object with an array `keys`.
pub fn jwks(body: &Body, max_keys: usize, depth: usize) -> Result<KeySet, Problem> {
    let parsed = json::read(&body.bytes, depth).map_err(|error| not_json(&error))?;
    let entries = entries(parsed.value)?;
    let redacted: HashSet<&str> = body.redacted.iter().map(String::as_str).collect();
    let redacted = |pointer: &str| redacted.contains(pointer);
    let mut set = KeySet { entries: entries.len(), ..KeySet::default() };
    if entries.len() > max_keys {
        let text = format!("{} entries; only the first {max_keys} are judged", entries.len());
        set.problems.push(Problem { pointer: "/keys".to_owned(), kind: ProblemKind::TooManyKeys, text });
    }
    for (index, entry) in entries.into_iter().enumerate().take(max_keys) {
        match entry {
            Value::Object(entry) => set.keys.push(material::key(entry, index, &redacted)),
            other => set.problems.push(Problem {
                pointer: format!("/keys/{index}"),
                kind: ProblemKind::EntryNotObject,
                text: format!("an entry of keys is {}, not an object", kind_of(&other)),
            }),
        }
    }
    hand_out(parsed.duplicates, &mut set);
    Ok(set)
}

/// Why a body is no JSON, as a problem.
pub(crate) fn not_json(error: &JsonError) -> Problem {
    Problem { pointer: String::new(), kind: ProblemKind::NotJson, text: format!("not JSON: {error}") }
}

/// A value's JSON type, for sentences.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn entries(value: Value) -> Result<Vec<Value>, Problem> {
    let wrong = |pointer: &str, text: String| Problem { pointer: pointer.to_owned(), kind: ProblemKind::WrongShape, text };
    let mut object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return Err(wrong("", "an array at the top level; a key set is an object with the array keys".to_owned())),
        other => return Err(wrong("", format!("{} at the top level; a key set is an object with the array keys", kind_of(&other)))),
    };
    match object.members.iter().rposition(|(name, _)| name == "keys").map(|at| object.members.swap_remove(at).1) {
        Some(Value::Array(entries)) => Ok(entries),
        Some(other) => Err(wrong("/keys", format!("keys is {}, not an array", kind_of(&other)))),
        None if is_bare_key(&object) => {
            Err(wrong("", "a single key (JWK) at the top level; a key set is an object with the array keys".to_owned()))
        }
        None => Err(wrong("", "the member keys is missing".to_owned())),
    }
}

fn is_bare_key(object: &Object) -> bool {
    object.member("kty").is_some()
}

/// Gives each key the duplicates within it; the others stay with the set.
fn hand_out(duplicates: Vec<Problem>, set: &mut KeySet) {
    let mut within: BTreeMap<usize, Vec<Problem>> = BTreeMap::new();
    for duplicate in duplicates {
        let index =
            duplicate.pointer.strip_prefix("/keys/").and_then(|rest| rest.split_once('/')).and_then(|(index, _)| index.parse().ok());
        match index {
            Some(index) => within.entry(index).or_default().push(duplicate),
            None => set.problems.push(duplicate),
        }
    }
    for key in &mut set.keys {
        key.problems.extend(within.remove(&key.index).unwrap_or_default());
    }
    // Those of entries that are not judged, or that a second `keys` hides.
    set.problems.extend(within.into_values().flatten());
}
