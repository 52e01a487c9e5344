//! Telling people and machines: the channels, and the loop that empties the outbox through them.
//!
//! At least once: a message may be repeated, always under the same id, and is never lost. Nothing is sent from here
//! that is not in the outbox, and every attempt's outcome is recorded. Secrets and channel URLs are never logged.

mod email;
pub mod message;
mod outbox;
mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::{Alert, visible};

pub use email::{Email, EmailSettings, EmailTls};
pub use message::{Message, RuleText, render};
pub use outbox::{Documents, Outbox, Queue, Tally};
pub use webhook::{Webhook, WebhookSettings};

/// Why a channel cannot be built from its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("channel \"{id}\": {what}")]
pub struct ChannelError {
    pub id: String,
    pub what: String,
}

/// A way out. The set is closed; chat products are body shapes of the webhook.
pub enum Channel {
    Email(Email),
    Webhook(Webhook),
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDelivered {
    /// Worth another try, not before `after` where the receiver asked for that.
    Later { error: String, after: Option<Duration> },
    /// Refused for good.
    Never(String),
}

impl NotDelivered {
    fn later(error: impl Into<String>) -> Self {
        Self::Later { error: error.into(), after: None }
    }
}

impl Channel {
    /// The id that destinations name.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Email(email) => email.id(),
            Self::Webhook(webhook) => webhook.id(),
        }
    }

    /// Sends one message to the alert's destination; `now` is the time of this attempt.
    ///
    /// # Errors
    /// The receiver did not take it, or could not be reached.
    pub async fn deliver(&self, alert: &Alert, message: &Message, now: DateTime<Utc>) -> Result<(), NotDelivered> {
        match self {
            Self::Email(email) => email.deliver(alert, message).await,
            Self::Webhook(webhook) => webhook.deliver(alert, message, now).await,
        }
    }
}

/// Whether a host as written is this machine itself; clear text is for that only.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// An error with what caused it, in one bounded line; servers' words are in there.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    readable(&line, 400)
}

/// [`visible`] for our own sentences: they may quote an issuer, and what they quote may have been made visible before,
/// which must not happen twice.
fn readable(text: &str, max: usize) -> String {
    let head: String = text.chars().take(max).collect();
    let mut line = head.split('⟨').map(|part| visible(part, max)).collect::<Vec<_>>().join("⟨");
    if head.len() < text.len() {
        line.push('…');
    }
    line
}
