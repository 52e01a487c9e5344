//! Lifecycle events, exactly those that `corpus/oracle.py` defines.

use chrono::{DateTime, SecondsFormat, Utc};

use super::json::{Object, Value};
use super::{IssuerId, Thumbprint};

/// The two independent channels of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    Discovery,
    Jwks,
}

impl Channel {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Jwks => "jwks",
        }
    }
}

/// Something that an observation shows to have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub issuer: IssuerId,
    pub at: DateTime<Utc>,
    pub kind: EventKind,
}

/// What happened; see the reference for the exact meaning of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    KeyAdded { kid: Option<String>, thumbprint: Thumbprint },
    KeyRemoved { kid: Option<String>, thumbprint: Thumbprint },
    KeyReappeared { kid: Option<String>, thumbprint: Thumbprint, absent_since: DateTime<Utc> },
    KidRebound { kid: String, thumbprint: Thumbprint, old: Vec<Thumbprint> },
    JwksUriChanged { old: Value, new: Value },
    IssuerChanged { old: Value, new: Value },
    AlgsChanged { old: Vec<String>, new: Vec<String> },
    FetchFailed { channel: Channel, status: u16, error: Option<String> },
    FetchRecovered { channel: Channel, failed_since: DateTime<Utc> },
}

/// RFC 3339 in UTC with `Z` and whole seconds, as everywhere in archives and events.
#[must_use]
pub fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl EventKind {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyAdded { .. } => "key_added",
            Self::KeyRemoved { .. } => "key_removed",
            Self::KeyReappeared { .. } => "key_reappeared",
            Self::KidRebound { .. } => "kid_rebound",
            Self::JwksUriChanged { .. } => "jwks_uri_changed",
            Self::IssuerChanged { .. } => "issuer_changed",
            Self::AlgsChanged { .. } => "algs_changed",
            Self::FetchFailed { .. } => "fetch_failed",
            Self::FetchRecovered { .. } => "fetch_recovered",
        }
    }
}

impl Event {
    /// The event's JSON members, as the events file has them.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let text = |text: &str| Value::String(text.to_owned());
        let optional = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
        let texts = |items: &[String]| Value::Array(items.iter().cloned().map(Value::String).collect());
        let mut members: Vec<(&str, Value)> =
            vec![("issuer", text(self.issuer.as_str())), ("at", text(&timestamp(self.at))), ("event", text(self.kind.name()))];
        match &self.kind {
            EventKind::KeyAdded { kid, thumbprint } | EventKind::KeyRemoved { kid, thumbprint } => {
                members.extend([("kid", optional(kid)), ("thumbprint", text(thumbprint.as_str()))]);
            }
            EventKind::KeyReappeared { kid, thumbprint, absent_since } => {
                members.extend([
                    ("kid", optional(kid)),
                    ("thumbprint", text(thumbprint.as_str())),
                    ("absent_since", text(&timestamp(*absent_since))),
                ]);
            }
            EventKind::KidRebound { kid, thumbprint, old } => {
                let old: Vec<String> = old.iter().map(|t| t.0.clone()).collect();
                members.extend([("kid", text(kid)), ("thumbprint", text(thumbprint.as_str())), ("old", texts(&old))]);
            }
            EventKind::JwksUriChanged { old, new } | EventKind::IssuerChanged { old, new } => {
                members.extend([("old", old.clone()), ("new", new.clone())]);
            }
            EventKind::AlgsChanged { old, new } => members.extend([("old", texts(old)), ("new", texts(new))]),
            EventKind::FetchFailed { channel, status, error } => {
                members.extend([
                    ("channel", text(channel.name())),
                    ("status", Value::Number(status.to_string())),
                    ("error", optional(error)),
                ]);
            }
            EventKind::FetchRecovered { channel, failed_since } => {
                members.extend([("channel", text(channel.name())), ("failed_since", text(&timestamp(*failed_since)))]);
            }
        }
        Value::Object(Object { members: members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() })
    }

    /// The event behind its JSON members; `None` where they are not those of [`Event::to_value`].
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let member = |name: &str| value.member(name);
        let text = |name: &str| member(name)?.as_str().map(str::to_owned);
        let optional = |name: &str| match member(name)? {
            Value::Null => Some(None),
            other => other.as_str().map(|text| Some(text.to_owned())),
        };
        let texts =
            |name: &str| -> Option<Vec<String>> { member(name)?.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect() };
        let time = |name: &str| DateTime::parse_from_rfc3339(member(name)?.as_str()?).ok().map(|at| at.to_utc());
        let thumbprint = || text("thumbprint").map(Thumbprint);
        let channel = || {
            let name = member("channel")?.as_str()?;
            [Channel::Discovery, Channel::Jwks].into_iter().find(|channel| channel.name() == name)
        };
        let (old, new) = (|| member("old").cloned(), || member("new").cloned());
        let kind = match member("event")?.as_str()? {
            "key_added" => EventKind::KeyAdded { kid: optional("kid")?, thumbprint: thumbprint()? },
            "key_removed" => EventKind::KeyRemoved { kid: optional("kid")?, thumbprint: thumbprint()? },
            "key_reappeared" => {
                EventKind::KeyReappeared { kid: optional("kid")?, thumbprint: thumbprint()?, absent_since: time("absent_since")? }
            }
            "kid_rebound" => EventKind::KidRebound {
                kid: text("kid")?,
                thumbprint: thumbprint()?,
                old: texts("old")?.into_iter().map(Thumbprint).collect(),
            },
            "jwks_uri_changed" => EventKind::JwksUriChanged { old: old()?, new: new()? },
            "issuer_changed" => EventKind::IssuerChanged { old: old()?, new: new()? },
            "algs_changed" => EventKind::AlgsChanged { old: texts("old")?, new: texts("new")? },
            "fetch_failed" => EventKind::FetchFailed {
                channel: channel()?,
                status: match member("status")? {
                    Value::Number(number) => number.parse().ok()?,
                    _ => return None,
                },
                error: optional("error")?,
            },
            "fetch_recovered" => EventKind::FetchRecovered { channel: channel()?, failed_since: time("failed_since")? },
            _ => return None,
        };
        Some(Self { issuer: IssuerId::new(text("issuer")?), at: time("at")?, kind })
    }

    /// One line of the events file.
    #[must_use]
    pub fn to_line(&self) -> String {
        self.to_value().canonical()
    }

    /// The order of the events file: issuer, at, event, thumbprint, kid, channel; an absent one sorts as "".
    #[must_use]
    pub fn sort_key(&self) -> (&str, DateTime<Utc>, &'static str, &str, &str, &'static str) {
        let (thumbprint, kid, channel) = match &self.kind {
            EventKind::KeyAdded { kid, thumbprint }
            | EventKind::KeyRemoved { kid, thumbprint }
            | EventKind::KeyReappeared { kid, thumbprint, .. } => (thumbprint.as_str(), kid.as_deref().unwrap_or(""), ""),
            EventKind::KidRebound { kid, thumbprint, .. } => (thumbprint.as_str(), kid.as_str(), ""),
            EventKind::FetchFailed { channel, .. } | EventKind::FetchRecovered { channel, .. } => ("", "", channel.name()),
            EventKind::JwksUriChanged { .. } | EventKind::IssuerChanged { .. } | EventKind::AlgsChanged { .. } => ("", "", ""),
        };
        (self.issuer.as_str(), self.at, self.kind.name(), thumbprint, kid, channel)
    }
}
