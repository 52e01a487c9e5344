//! An issuer as the user configured it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// The user's short name for a provider; the key in storage, stable when the URL changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssuerId(String);

impl IssuerId {
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The issuer identifier: any absolute http(s) URL, its exact text kept, because OpenID Connect compares strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl {
    text: String,
    url: Url,
}

/// Why a text is no issuer URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerUrlError {
    #[error("not an absolute URL ({0})")]
    NotAbsolute(url::ParseError),
    #[error("the scheme is \"{0}\"; an issuer is an https URL")]
    Scheme(String),
}

impl IssuerUrl {
    /// Parses an absolute http or https URL. That it is http, has a query or a trailing slash is a rule's business.
    ///
    /// # Errors
    /// The text is no absolute URL, or has another scheme.
    pub fn parse(text: &str) -> Result<Self, IssuerUrlError> {
        let url = Url::parse(text).map_err(IssuerUrlError::NotAbsolute)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(IssuerUrlError::Scheme(url.scheme().to_owned()));
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// The identifier exactly as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Which documents and members an issuer of this kind owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    #[default]
    Oidc,
    Oauth,
    KeyPublisher,
    Fapi2,
    /// A bare JWKS URL without any discovery document.
    Jwks,
}

/// Who rotates: the operator, who announces, or the provider by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    #[default]
    Managed,
    Autonomous,
}

/// One configured issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    pub id: IssuerId,
    /// The identifier it must announce; `None` where nothing was configured (replay without configuration, files).
    pub url: Option<IssuerUrl>,
    /// Where its discovery document is, if not at the well-known place.
    pub discovery_url: Option<String>,
    /// A configured key set URL; with it a document's `jwks_uri` is not followed.
    pub jwks_uri: Option<String>,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// `None`: by the document (replay and files without configuration): key-publisher without authorization endpoint, else oidc.
    pub profile: Option<Profile>,
    pub rotation: Rotation,
    pub allow_private: bool,
    pub allow_http_loopback: bool,
}

impl Issuer {
    /// An issuer of which only the id is known: autonomous, profile by its document.
    #[must_use]
    pub fn unconfigured(id: IssuerId) -> Self {
        Self {
            id,
            url: None,
            discovery_url: None,
            jwks_uri: None,
            owner: None,
            labels: BTreeMap::new(),
            profile: None,
            rotation: Rotation::Autonomous,
            allow_private: false,
            allow_http_loopback: false,
        }
    }

    /// The URL the discovery document is requested at: the configured one, else the well-known one of the
    /// profile (OpenID Connect Discovery 1.0 §4 appends, RFC 8414 §3 inserts). `None` with profile `jwks`.
    #[must_use]
    pub fn discovery_request(&self) -> Option<String> {
        if self.profile == Some(Profile::Jwks) {
            return None;
        }
        if let Some(url) = &self.discovery_url {
            return Some(url.clone());
        }
        let issuer = self.url.as_ref()?;
        Some(match self.profile {
            Some(Profile::Oauth) => insert_well_known(issuer.as_str()),
            _ => append_well_known(issuer.as_str()),
        })
    }
}

/// OpenID Connect Discovery 1.0 §4: a terminating slash is removed, then the suffix appended.
pub(crate) fn append_well_known(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// RFC 8414 §3: the suffix goes between host and path.
pub(crate) fn insert_well_known(issuer: &str) -> String {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let authority = issuer.find("://").map_or(0, |at| at + 3);
    let path = issuer[authority..].find('/').map_or(issuer.len(), |at| authority + at);
    format!("{}/.well-known/oauth-authorization-server{}", &issuer[..path], &issuer[path..])
}
