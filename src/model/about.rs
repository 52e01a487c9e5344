//! What is kept of an issuer's configuration beside its history, for pages and reports without the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Issuer, Profile, Rotation};

/// The text of `Enrolment::about` and `IssuerRow::about`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    pub url: Option<String>,
    pub jwks_uri: Option<String>,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub profile: Option<Profile>,
    pub rotation: Rotation,
}

impl About {
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        Self {
            url: issuer.url.as_ref().map(|url| url.as_str().to_owned()),
            jwks_uri: issuer.jwks_uri.clone(),
            owner: issuer.owner.clone(),
            labels: issuer.labels.clone(),
            profile: issuer.profile,
            rotation: issuer.rotation,
        }
    }

    /// Reads what [`About::to_json`] wrote; anything else tells nothing.
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists are always JSON")
    }

    /// The address people know it by.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.url.as_deref().or(self.jwks_uri.as_deref())
    }
}
