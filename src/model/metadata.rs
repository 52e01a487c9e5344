//! A discovery document: typed leniently, the raw value kept.

use super::Problem;
use super::json::{Object, Value};

/// A discovery document that is a JSON object.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    pub object: Object,
    /// Duplicate members, wrong types, null and empty values, with their pointers.
    pub problems: Vec<Problem>,
}

impl Metadata {
    /// The member as a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.object.member(name)?.as_str()
    }

    /// The strings of an array member; empty where it is absent or no array.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.object.member(name).and_then(Value::as_array).map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text("issuer")
    }

    #[must_use]
    pub fn jwks_uri(&self) -> Option<&str> {
        self.text("jwks_uri")
    }
}
