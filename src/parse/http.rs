//! What headers say, read with forgiveness: a header that makes no sense says nothing.

/// The directives of a Cache-Control header (RFC 9111 §5.2), in their order, names in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheControl {
    pub directives: Vec<(String, Option<String>)>,
}

impl CacheControl {
    /// Reads any text; what is no directive is left out.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let directives = split_outside_quotes(header).into_iter().filter_map(directive).collect();
        Self { directives }
    }

    /// Whether a directive is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.directives.iter().any(|(directive, _)| directive == name)
    }

    /// The value of a directive; of repeated ones the first that has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.directives.iter().filter(|(directive, _)| directive == name).find_map(|(_, value)| value.as_deref())
    }

    /// A directive's delta-seconds; of repeated ones the first that is a number, and the largest number there is
    /// where it is too large (RFC 9111 §1.2.2).
    #[must_use]
    pub fn seconds(&self, name: &str) -> Option<u64> {
        let values = self.directives.iter().filter(|(directive, _)| directive == name).filter_map(|(_, value)| value.as_deref());
        values
            .filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|value| value.parse().unwrap_or(u64::MAX))
            .next()
    }
}

/// The type and subtype of a Content-Type in lower case, without its parameters; may be empty.
#[must_use]
pub fn media_type(header: &str) -> String {
    header.split([';', ',']).next().unwrap_or("").trim().to_ascii_lowercase()
}

fn directive(part: &str) -> Option<(String, Option<String>)> {
    // Seen in the wild: a header whose value repeats its own name.
    let part = part.trim();
    let part = match part.split_once(':') {
        Some((name, rest)) if name.trim().eq_ignore_ascii_case("cache-control") => rest.trim(),
        _ => part,
    };
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"').to_owned())),
        None => (part, None),
    };
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

fn split_outside_quotes(header: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = header.split(|character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    parts.collect()
}
