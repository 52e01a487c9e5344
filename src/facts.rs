//! Everything a rule may look at; read-only, and no method does I/O.

use chrono::{DateTime, Utc};

use crate::ledger::Ledger;
use crate::model::{Act, Attempt, Channel, Issuer, KeySet, Metadata, Observation, Profile};
use crate::parse::Documents;
use crate::policy::Policy;

/// Why a rule says nothing. None of these is a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// The rule is not about such an issuer, document or key.
    NotApplicable,
    /// Input is missing (no history, no policy, polls too far apart); with the reason.
    NotEvaluated(String),
    /// We could not look.
    Unseen(String),
    /// The rule itself failed.
    Broken(String),
}

/// How this look came about: decides which families have input at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// One of many: history is known.
    Watched,
    /// A single look at a live issuer: no history.
    Single,
    /// Files only: no HTTP, no TLS, no history.
    Files,
}

/// What rules see.
pub struct Facts<'a> {
    pub now: DateTime<Utc>,
    pub look: Look,
    pub issuer: &'a Issuer,
    pub policy: &'a Policy,
    pub observation: &'a Observation,
    pub documents: &'a Documents,
    /// With this observation already absorbed.
    pub ledger: &'a Ledger,
    /// What people decided about this issuer.
    pub acts: &'a [Act],
}

impl<'a> Facts<'a> {
    /// The attempts that were made, with their channel.
    pub fn attempts(&self) -> impl Iterator<Item = (Channel, &'a Attempt)> {
        let discovery = self.observation.discovery.as_ref().map(|attempt| (Channel::Discovery, attempt));
        let jwks = self.observation.jwks.as_ref().map(|attempt| (Channel::Jwks, attempt));
        discovery.into_iter().chain(jwks)
    }

    /// The discovery document, or why there is none to judge.
    pub fn metadata(&self) -> Result<&'a Metadata, Skip> {
        if self.issuer.profile == Some(Profile::Jwks) {
            return Err(Skip::NotApplicable);
        }
        match self.documents.discovery.as_deref() {
            Some(Ok(metadata)) => Ok(metadata),
            Some(Err(problem)) => Err(Skip::Unseen(format!("the discovery document could not be read: {}", problem.text))),
            None => Err(self.unseen(Channel::Discovery)),
        }
    }

    /// The key set, or why there is none to judge.
    pub fn key_set(&self) -> Result<&'a KeySet, Skip> {
        match self.documents.jwks.as_deref() {
            Some(Ok(set)) => Ok(set),
            Some(Err(problem)) => Err(Skip::Unseen(format!("the key set could not be read: {}", problem.text))),
            None => Err(self.unseen(Channel::Jwks)),
        }
    }

    /// Why a channel shows no document: it failed, or nobody asked.
    pub fn unseen(&self, channel: Channel) -> Skip {
        let name = match channel {
            Channel::Discovery => "discovery document",
            Channel::Jwks => "key set",
        };
        match self.attempts().find(|(c, _)| *c == channel) {
            Some((_, attempt)) => Skip::Unseen(match &attempt.unseen {
                Some(unseen) => format!("the {name} could not be fetched: {}", unseen.text),
                None => format!("the {name} could not be fetched"),
            }),
            None => Skip::NotEvaluated(format!("no {name} was looked at")),
        }
    }

    /// The profile that is judged by: the configured one, else by the document.
    pub fn profile(&self) -> Profile {
        self.issuer.profile.unwrap_or_else(|| match self.documents.discovery.as_deref() {
            Some(Ok(metadata)) if self.reads_as_key_publisher(metadata) => Profile::KeyPublisher,
            _ => Profile::Oidc,
        })
    }

    /// Archives name no profile: no authorization endpoint is enough. In a single look nobody chose one either, but a
    /// document that lost one endpoint is rather broken: there both must be missing.
    fn reads_as_key_publisher(&self, metadata: &Metadata) -> bool {
        let absent = |name| metadata.object.member(name).is_none();
        absent("authorization_endpoint") && (self.look == Look::Watched || absent("token_endpoint"))
    }

    /// Passes where there is history; a single look has none.
    pub fn history(&self) -> Result<&'a Ledger, Skip> {
        match self.look {
            Look::Watched => Ok(self.ledger),
            Look::Single | Look::Files => Err(Skip::NotEvaluated("a single look has no history".to_owned())),
        }
    }
}
