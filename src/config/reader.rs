//! Reads the tables of the file by their shapes: each wrong name, type and value becomes a problem, and reading goes on.
//!
//! A getter answers `None` both for what is not there and for what is wrong; the wrong has been noted then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use chrono::{Duration, NaiveDate};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Source};
use super::raw::{self, Field, Kind, Shape};
use super::secret::{Environment, Secret};
use crate::cadence::{Cadence, parse_duration};
use crate::model::Severity;

/// What a table is read with, and where problems are noted.
pub(super) struct Desk<'a> {
    pub(super) text: &'a str,
    /// Relative paths start here.
    pub(super) dir: &'a Path,
    pub(super) environment: Environment<'a>,
    /// Whether secrets are fetched, or only their spelling checked.
    pub(super) secrets: bool,
    pub(super) notes: RefCell<Vec<Note>>,
    /// Parts of the text that must not be shown.
    pub(super) blots: RefCell<Vec<Range<usize>>>,
}

/// A problem before the text is fit to be shown.
pub(super) struct Note {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) write: String,
    /// Something is not there; after a syntax error it may be only unreadable.
    pub(super) missing: bool,
}

impl Note {
    pub(super) fn problem(self, source: &Source) -> Problem {
        source.problem(Some(self.span), self.message, self.write)
    }
}

impl Desk<'_> {
    pub(super) fn refuse(&self, span: Range<usize>, message: impl Into<String>, write: impl Into<String>) {
        self.notes.borrow_mut().push(Note { span, message: message.into(), write: write.into(), missing: false });
    }

    pub(super) fn missing(&self, span: Range<usize>, message: impl Into<String>, write: impl Into<String>) {
        self.notes.borrow_mut().push(Note { span, message: message.into(), write: write.into(), missing: true });
    }

    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.dir.join(text)
    }

    /// Hides a value wherever the text is shown.
    fn blot(&self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().for_each(|item| self.blot(item)),
            // The span of a table with a header is the header.
            DeValue::Table(entries) => entries.iter().for_each(|(_, entry)| self.blot(entry)),
            _ => self.blots.borrow_mut().push(value.span()),
        }
    }
}

/// One table of the file.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) desk: &'a Desk<'a>,
    shape: &'static Shape,
    entries: &'a DeTable<'a>,
    start: usize,
    end: usize,
}

impl<'a> Table<'a> {
    /// Opens a table: unknown names, names of later versions and missing names are noted at once.
    pub(super) fn open(desk: &'a Desk<'a>, shape: &'static Shape, entries: &'a DeTable<'a>, span: Range<usize>) -> Self {
        let table = Self { desk, shape, entries, start: span.start, end: span.end };
        for (name, value) in entries.iter() {
            match shape.fields.iter().find(|field| field.name == name.get_ref().as_ref()) {
                None => table.unknown(name.get_ref(), name.span(), value),
                Some(Field { kind: Kind::NotYet { secret }, name: known, .. }) => {
                    if *secret {
                        desk.blot(value);
                    }
                    let (span, shown) =
                        match table.desk.text.get(value.span()).filter(|text| text.starts_with('[') && value.get_ref().is_table()) {
                            Some(header) => (value.span(), header),
                            None => (name.span(), *known),
                        };
                    desk.refuse(span, format!("`{shown}` is not in this version"), "leave it out");
                }
                Some(_) => {}
            }
        }
        for field in shape.fields.iter().filter(|field| field.required && !entries.contains_key(field.name)) {
            desk.missing(table.span(), format!("`{}` is missing in {}", field.name, shape.title), example(field));
        }
        table
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    pub(super) fn fields(&self) -> &'static [Field] {
        self.shape.fields
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn unknown(&self, name: &str, span: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let near = nearest(name, self.shape.fields.iter().map(|field| field.name));
        let secret =
            |field: &&Field| matches!(field.kind, Kind::Secret | Kind::Secrets | Kind::TextOrSecret | Kind::NotYet { secret: true });
        if near.is_some_and(|near| self.shape.fields.iter().filter(secret).any(|field| field.name == near)) {
            self.desk.blot(value);
        }
        let renamed = raw::POLICY_ELSEWHERE.iter().find(|(old, _)| self.shape.title.ends_with("policy]") && *old == name);
        let elsewhere = raw::SHAPES.iter().find(|shape| shape.fields.iter().any(|field| field.name == name));
        let write = match (renamed, near, elsewhere) {
            (Some((_, write)), _, _) => (*write).to_owned(),
            (None, Some(near), _) => format!("did you mean `{near}`?"),
            (None, None, Some(shape)) => format!("it belongs in {}", shape.title),
            (None, None, None) => {
                let mut names: Vec<&str> =
                    self.shape.fields.iter().filter(|field| !matches!(field.kind, Kind::NotYet { .. })).map(|field| field.name).collect();
                names.sort_unstable();
                format!("known are {}", names.join(", "))
            }
        };
        self.desk.refuse(span, format!("unknown name `{name}` in {}", self.shape.title), write);
    }

    fn value(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(self.shape.fields.iter().any(|field| field.name == name), "{name} is not in the shape of {}", self.shape.title);
        self.entries.get(name)
    }

    /// A value as `take` reads it; what it does not take has the wrong type.
    fn read<T>(&self, name: &str, write: &str, take: impl FnOnce(&DeValue<'a>) -> Option<T>) -> Option<Spanned<T>> {
        let value = self.value(name)?;
        let taken = take(value.get_ref());
        if taken.is_none() {
            self.wrong_type(name, value, write);
        }
        taken.map(|taken| Spanned::new(value.span(), taken))
    }

    fn wrong_type(&self, name: &str, value: &Spanned<DeValue<'_>>, write: &str) {
        self.desk.refuse(value.span(), format!("`{name}` cannot be {}", kind_of(value.get_ref())), write);
    }

    pub(super) fn text(&self, name: &str) -> Option<Spanned<String>> {
        let text = self.read(name, "write a text in quotes", |value| value.as_str().map(str::to_owned))?;
        self.not_empty(name, text)
    }

    fn not_empty(&self, name: &str, text: Spanned<String>) -> Option<Spanned<String>> {
        if text.get_ref().trim().is_empty() {
            self.desk.refuse(text.span(), format!("`{name}` is empty"), "write a text, or leave it out");
            return None;
        }
        Some(text)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.read(name, "write true or false", DeValue::as_bool).map(Spanned::into_inner)
    }

    pub(super) fn whole(&self, name: &str) -> Option<u64> {
        let Some(Kind::Whole(least, most)) = self.kind(name) else { return None };
        let write = format!("write a whole number from {least} to {most}");
        let number = self.read(name, &write, |value| value.as_integer().map(integer))?;
        let span = number.span();
        let number = number.into_inner().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.desk.refuse(span, format!("`{name}` is out of range"), write);
        }
        number
    }

    pub(super) fn duration(&self, name: &str) -> Option<Spanned<Duration>> {
        let text = self.read(name, "write a duration in quotes, such as \"90s\", \"5m\", \"4h\" or \"365d\"", |value| {
            value.as_str().map(str::to_owned)
        })?;
        match parse_duration(text.get_ref()) {
            Ok(duration) => Some(Spanned::new(text.span(), duration)),
            Err(error) => {
                self.desk.refuse(text.span(), error.what, error.write);
                None
            }
        }
    }

    /// A duration of at least `least`.
    pub(super) fn duration_from(&self, name: &str, least: &str) -> Option<Duration> {
        let duration = self.duration(name)?;
        let least_duration = parse_duration(least).unwrap_or_default();
        if *duration.get_ref() < least_duration {
            self.desk.refuse(duration.span(), format!("`{name}` is shorter than {least}"), format!("write \"{least}\" or more"));
            return None;
        }
        Some(duration.into_inner())
    }

    pub(super) fn size(&self, name: &str) -> Option<usize> {
        const WRITE: &str = "write a size such as \"4MiB\", \"64KiB\", or a number of bytes";
        let size = self.read(name, WRITE, |value| match value {
            DeValue::String(text) => Some(parse_size(text)),
            DeValue::Integer(number) => Some(integer(number)),
            _ => None,
        })?;
        let span = size.span();
        let size = size.into_inner().filter(|size| (1..=1 << 30).contains(size));
        if size.is_none() {
            self.desk.refuse(span, format!("`{name}` is no size from 1 byte to 1024MiB"), WRITE);
        }
        size.and_then(|size| usize::try_from(size).ok())
    }

    pub(super) fn choice(&self, name: &str) -> Option<&'static str> {
        let Some(Kind::Choice(names)) = self.kind(name) else { return None };
        let text = self.text(name)?;
        let found = names.iter().find(|known| **known == text.get_ref().as_str());
        if found.is_none() {
            self.desk.refuse(text.span(), format!("`{name}` cannot be {:?}", text.get_ref()), one_of(text.get_ref(), names));
        }
        found.copied()
    }

    pub(super) fn severity(&self, name: &str) -> Option<Severity> {
        self.choice(name).and_then(Severity::from_name)
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Option<Vec<Spanned<String>>> {
        let single = matches!(self.kind(name), Some(Kind::TextOrTexts));
        let value = self.value(name)?;
        let write = "write a list of texts, such as [\"a\", \"b\"]";
        match value.get_ref() {
            DeValue::String(text) if single => Some(vec![self.not_empty(name, Spanned::new(value.span(), text.to_string()))?]),
            DeValue::Array(items) => Some(
                items
                    .iter()
                    .filter_map(|item| match item.get_ref() {
                        DeValue::String(text) => self.not_empty(name, Spanned::new(item.span(), text.to_string())),
                        _ => {
                            self.desk.refuse(item.span(), format!("`{name}` cannot hold {}", kind_of(item.get_ref())), write);
                            None
                        }
                    })
                    .collect(),
            ),
            other => {
                self.desk.refuse(value.span(), format!("`{name}` cannot be {}", kind_of(other)), write);
                None
            }
        }
    }

    /// A text that was read before, so that it is not noted twice.
    pub(super) fn quiet_text(&self, name: &str) -> Option<String> {
        self.value(name)?.get_ref().as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
    }

    /// A list that was read before, so that it is not noted twice.
    pub(super) fn quiet_texts(&self, name: &str) -> Vec<String> {
        match self.value(name).map(Spanned::get_ref) {
            Some(DeValue::String(text)) => vec![text.to_string()],
            Some(DeValue::Array(items)) => items.iter().filter_map(|item| item.get_ref().as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    /// A list of texts without their places.
    pub(super) fn plain_texts(&self, name: &str) -> Option<Vec<String>> {
        Some(self.texts(name)?.into_iter().map(Spanned::into_inner).collect())
    }

    /// Any names, each with a text.
    pub(super) fn labels(&self, name: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (key, value) in self.pairs(name, "write a table of texts, such as { env = \"prod\" }") {
            match value.get_ref().as_str() {
                Some(text) => drop(labels.insert(key.get_ref().to_string(), text.to_owned())),
                None => self.wrong_type(key.get_ref(), value, "write a text in quotes"),
            }
        }
        labels
    }

    /// `[policy.severity]`: rule ids with their places, and a severity or `None` for "off".
    pub(super) fn severities(&self, name: &str) -> Vec<(Spanned<String>, Option<Severity>)> {
        let mut found = Vec::new();
        for (rule, value) in self.pairs(name, "write a table, such as { \"key/rsa-too-small\" = \"low\" }") {
            let names = [raw::SEVERITIES, &["off"]].concat();
            match value.get_ref().as_str() {
                Some("off") => found.push((Spanned::new(rule.span(), rule.get_ref().to_string()), None)),
                Some(text) => match Severity::from_name(text) {
                    Some(severity) => found.push((Spanned::new(rule.span(), rule.get_ref().to_string()), Some(severity))),
                    None => self.desk.refuse(value.span(), format!("{text:?} is no severity"), one_of(text, &names)),
                },
                None => self.wrong_type(rule.get_ref(), value, &one_of("", &names)),
            }
        }
        found
    }

    fn pairs(
        &self,
        name: &str,
        write: &str,
    ) -> impl Iterator<Item = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> + use<'a> {
        let entries = self.value(name).and_then(|value| match value.get_ref() {
            DeValue::Table(entries) => Some(entries),
            _ => {
                self.wrong_type(name, value, write);
                None
            }
        });
        entries.into_iter().flat_map(|entries| entries.iter())
    }

    pub(super) fn table(&self, name: &str) -> Option<Self> {
        let Some(Kind::Table(shape)) = self.kind(name) else { return None };
        let value = self.value(name)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Self::open(self.desk, shape, entries, value.span())),
            _ => {
                self.wrong_type(name, value, &format!("write a table: {}", shape.title));
                None
            }
        }
    }

    pub(super) fn tables(&self, name: &str) -> Vec<Self> {
        let Some(Kind::Tables(shape)) = self.kind(name) else { return Vec::new() };
        self.unopened(name, shape.title).into_iter().map(|(entries, span)| Self::open(self.desk, shape, entries, span)).collect()
    }

    /// The channels, each opened by the shape of its kind; one of no known kind is noted and left out.
    pub(super) fn channels(&self, name: &str) -> Vec<Self> {
        let opened = self.unopened(name, "[[channel]]").into_iter().filter_map(|(entries, span)| {
            let Some(kind) = entries.get("kind") else {
                self.desk.missing(span, "`kind` is missing in [[channel]]", "write kind = \"webhook\" or kind = \"email\"");
                return None;
            };
            let shape = match kind.get_ref().as_str() {
                Some("webhook") => &raw::WEBHOOK,
                Some("email") => &raw::EMAIL,
                other => {
                    // Nothing is known of its members, so whatever stands beside it stays hidden.
                    entries.iter().filter(|(name, _)| name.get_ref() != "kind").for_each(|(_, value)| self.desk.blot(value));
                    let write = one_of(other.unwrap_or_default(), raw::CHANNEL_KINDS);
                    self.desk.refuse(kind.span(), format!("there is no channel kind {}", self.source(kind.span())), write);
                    return None;
                }
            };
            Some(Self::open(self.desk, shape, entries, span))
        });
        opened.collect()
    }

    fn unopened(&self, name: &str, title: &str) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let write = format!("write {title}");
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, value, &write);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(entries) => tables.push((entries, item.span())),
                other => self.desk.refuse(item.span(), format!("`{name}` cannot hold {}", kind_of(other)), write.as_str()),
            }
        }
        tables
    }

    /// `{ file = "…" }` or `{ env = "…" }`; the value is `None` where secrets are not fetched.
    pub(super) fn secret(&self, name: &str) -> Option<Spanned<Option<Secret>>> {
        self.secret_value(name, self.value(name)?)
    }

    pub(super) fn secrets(&self, name: &str) -> Vec<Spanned<Option<Secret>>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.desk.blot(value);
            self.wrong_type(name, value, "write a list, such as [{ file = \"…\" }] or [{ env = \"…\" }]");
            return Vec::new();
        };
        if items.is_empty() {
            self.desk.refuse(value.span(), format!("`{name}` is empty"), "write at least one, such as [{ file = \"…\" }]");
        }
        items.iter().filter_map(|item| self.secret_value(name, item)).collect()
    }

    /// A text in the open, or a secret.
    pub(super) fn text_or_secret(&self, name: &str) -> Option<Spanned<Option<Secret>>> {
        let value = self.value(name)?;
        match value.get_ref() {
            DeValue::String(_) => self.text(name).map(|text| Spanned::new(text.span(), Some(Secret::new(text.into_inner())))),
            _ => self.secret_value(name, value),
        }
    }

    fn secret_value(&self, name: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Spanned<Option<Secret>>> {
        const WRITE: &str = "write { file = \"…\" } or { env = \"…\" }";
        let DeValue::Table(entries) = value.get_ref() else {
            self.desk.blot(value);
            let message = match value.get_ref() {
                DeValue::String(_) => format!("`{name}` is a secret and must not stand in the file"),
                other => format!("`{name}` cannot be {}", kind_of(other)),
            };
            self.desk.refuse(value.span(), message, WRITE);
            return None;
        };
        let source = Self::open(self.desk, &raw::SECRET, entries, value.span());
        let fetched = match (source.text("file"), source.text("env")) {
            (Some(file), None) => {
                let read = self.desk.secrets.then(|| Secret::from_file(&self.desk.path(file.get_ref()))).transpose();
                read.map_err(|error| (file.span(), error, "name a file that this user can read".to_owned()))
            }
            (None, Some(variable)) => {
                let value = self.desk.secrets.then(|| (self.desk.environment)(variable.get_ref()));
                match value.map(|value| value.filter(|value| !value.is_empty())) {
                    Some(None) => Err((
                        variable.span(),
                        format!("the environment variable {} is not set", variable.get_ref()),
                        "set it for issuerwatch, or write { file = \"…\" }".to_owned(),
                    )),
                    Some(Some(value)) => Ok(Some(Secret::new(value))),
                    None => Ok(None),
                }
            }
            (Some(_), Some(_)) => Err((value.span(), format!("`{name}` has both file and env"), WRITE.to_owned())),
            (None, None) if !source.has("file") && !source.has("env") => {
                Err((value.span(), format!("`{name}` has neither file nor env"), WRITE.to_owned()))
            }
            (None, None) => return None,
        };
        match fetched {
            Ok(secret) => Some(Spanned::new(value.span(), secret)),
            Err((span, message, write)) => {
                self.desk.refuse(span, message, write);
                None
            }
        }
    }

    /// `every` or `cron`, not both.
    pub(super) fn cadence(&self) -> Option<Cadence> {
        if self.has("every") && self.has("cron") {
            let span = self.value("cron").map_or(self.span(), Spanned::span);
            self.desk.refuse(span, format!("{} has both `every` and `cron`", self.shape.title), "leave one of them out");
        }
        let every = self.duration_from("every", "1s").map(Cadence::every);
        let cron = self.text("cron").and_then(|text| match Cadence::cron(text.get_ref()) {
            Ok(cadence) => Some(cadence),
            Err(error) => {
                self.desk.refuse(text.span(), error.what, error.write);
                None
            }
        });
        every.or(cron)
    }

    /// Whether a value that nobody reads yet is what it should be.
    pub(super) fn sound(&self, field: &Field) -> bool {
        let name = field.name;
        let before = self.desk.notes.borrow().len();
        match field.kind {
            Kind::Text => drop(self.text(name)),
            Kind::Flag => drop(self.flag(name)),
            Kind::Whole(..) => drop(self.whole(name)),
            Kind::Duration => drop(self.duration(name)),
            Kind::Size => drop(self.size(name)),
            Kind::Percent => self.percent(name),
            Kind::Date => self.date(name),
            Kind::Choice(_) => drop(self.choice(name)),
            Kind::Texts | Kind::TextOrTexts => drop(self.texts(name)),
            Kind::Labels => drop(self.labels(name)),
            Kind::Severities => drop(self.severities(name)),
            Kind::Secret => drop(self.secret(name)),
            Kind::Secrets => drop(self.secrets(name)),
            Kind::TextOrSecret => drop(self.text_or_secret(name)),
            Kind::RevokedKeys => drop(self.revoked_keys(name)),
            Kind::Table(_) => drop(self.table(name)),
            Kind::Tables(_) => drop(self.tables(name)),
            Kind::Channels | Kind::NotYet { .. } => {}
        }
        self.has(name) && self.desk.notes.borrow().len() == before
    }

    fn percent(&self, name: &str) {
        let number = self.value(name).map(|value| match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::String(text) => text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()),
            _ => None,
        });
        if number.is_some_and(|number| !number.is_some_and(|number| (0.0..=100.0).contains(&number))) {
            let span = self.value(name).map_or(self.span(), Spanned::span);
            self.desk.refuse(span, format!("`{name}` is no percentage"), "write a number from 0 to 100, such as 99.5 or \"99.5%\"");
        }
    }

    pub(super) fn date(&self, name: &str) {
        let sound = self.value(name).map(|value| match value.get_ref() {
            DeValue::Datetime(date) => date.date.is_some(),
            DeValue::String(text) => text.parse::<NaiveDate>().is_ok() || chrono::DateTime::parse_from_rfc3339(text).is_ok(),
            _ => false,
        });
        if sound == Some(false) {
            let span = self.value(name).map_or(self.span(), Spanned::span);
            self.desk.refuse(span, format!("`{name}` is no date"), "write a date, such as 2027-01-31 or 2027-01-31T12:00:00Z");
        }
    }

    /// The thumbprints and kids of `revoked_keys`.
    pub(super) fn revoked_keys(&self, name: &str) -> Option<Vec<String>> {
        const WRITE: &str = "write a thumbprint or kid in quotes, or { thumbprint = \"…\", at = 2027-01-31 }";
        let value = self.value(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, value, "write a list of thumbprints or kids");
            return None;
        };
        let mut keys = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    keys.extend(self.not_empty(name, Spanned::new(item.span(), text.to_string())).map(Spanned::into_inner))
                }
                DeValue::Table(entries) => {
                    let entry = Self::open(self.desk, &raw::REVOKED_KEY, entries, item.span());
                    entry.date("at");
                    match entry.text("thumbprint").into_iter().chain(entry.text("kid")).collect::<Vec<_>>().as_slice() {
                        [key] => keys.push(key.get_ref().clone()),
                        _ => self.desk.refuse(item.span(), "a revoked key is one thumbprint or one kid", WRITE),
                    }
                }
                other => self.desk.refuse(item.span(), format!("`{name}` cannot hold {}", kind_of(other)), WRITE),
            }
        }
        Some(keys)
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.shape.fields.iter().find(|field| field.name == name).map(|field| field.kind)
    }

    /// The text of a value as it stands in the file.
    pub(super) fn written(&self, name: &str) -> Option<&'a str> {
        self.value(name).map(|value| self.source(value.span()))
    }

    /// Where a value stands; where it does not, the table.
    pub(super) fn span_of(&self, name: &str) -> Range<usize> {
        self.value(name).map_or(self.span(), Spanned::span)
    }

    fn source(&self, span: Range<usize>) -> &'a str {
        self.desk.text.get(span).unwrap_or_default()
    }
}

fn integer(number: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A type as people call it.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known name that was probably meant.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&plain(name), &plain(known));
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= known.chars().count().min(name.chars().count()).max(3) / 3)
        .min()
        .map(|(_, known)| known)
}

/// "did you mean" where one is near, else all that may be written.
pub(super) fn one_of(written: &str, names: &[&str]) -> String {
    if let Some(near) = nearest(written, names.iter().copied()) {
        return format!("did you mean \"{near}\"?");
    }
    let mut text = "write ".to_owned();
    for (index, name) in names.iter().enumerate() {
        let separator = if index == 0 {
            ""
        } else if index + 1 == names.len() {
            " or "
        } else {
            ", "
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}\"{name}\"");
    }
    text
}

/// How to write a name that is missing.
fn example(field: &Field) -> String {
    let value = match field.kind {
        Kind::Secret => "{ file = \"…\" }",
        Kind::Secrets => "[{ file = \"…\" }]",
        Kind::TextOrSecret => "{ env = \"…\" }",
        Kind::Texts | Kind::TextOrTexts => "[\"…\"]",
        _ => "\"…\"",
    };
    format!("add {} = {value}", field.name)
}
