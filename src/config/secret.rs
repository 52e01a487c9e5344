//! Secrets: read from a file or the environment, never from the configuration's own text, and never printed.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

/// More than any secret needs; keeps `/dev/zero` from filling the memory.
const LONGEST: u64 = 64 * 1024;

/// A value that must not be shown. Comparing two tells whether a reload changed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a file; its final line end is dropped.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let file = std::fs::File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read {shown}: {error}"))?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("{shown} is larger than 64 KiB; that is no secret"));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
        let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if value.is_empty() {
            return Err(format!("{shown} is empty"));
        }
        Ok(Self::new(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where secrets in the environment come from: a name to its value.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process. A value that is not UTF-8 counts as unset.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
