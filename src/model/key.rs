//! A key set as published: lenient, with what is wrong noted beside each key.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::json::Object;

/// The canonical RFC 7638 thumbprint (SHA-256, base64url), or `raw:` and a hash: a key's identity over time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Thumbprint(pub String);

impl Thumbprint {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A parsed JWK Set; entries that are no objects are problems, not keys.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    pub keys: Vec<Key>,
    pub problems: Vec<Problem>,
    /// How many entries `keys` has, judged or not.
    pub entries: usize,
}

/// One entry of `keys` that is an object.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its index in `keys`.
    pub index: usize,
    pub thumbprint: Thumbprint,
    /// `kid` where it is a string; a label, and hostile text.
    pub kid: Option<String>,
    pub kty: Option<String>,
    pub alg: Option<String>,
    /// The member `use`.
    pub usage: Option<String>,
    /// The strings of `key_ops`; `None` where it is absent or no array.
    pub key_ops: Option<Vec<String>>,
    pub crv: Option<String>,
    pub material: Material,
    pub problems: Vec<Problem>,
    /// Secret members (`d p q dp dq qi oth k priv`) that are present and not null, whatever the kty. Never their values.
    pub secrets: Vec<SecretMember>,
    /// All members but the values of secret ones, which are `""` here.
    pub members: Object,
}

impl Key {
    /// A JSON Pointer into the JWKS document: `key.at("/n")` is `/keys/0/n`.
    #[must_use]
    pub fn at(&self, rest: &str) -> String {
        format!("/keys/{}{rest}", self.index)
    }

    /// `use` is sig or absent, `key_ops` absent or contains verify, and the type supports a JWS algorithm with a public key.
    #[must_use]
    pub fn is_signature_key(&self) -> bool {
        let usage = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let ops = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let encryption =
            self.alg.as_deref().is_some_and(|alg| alg.starts_with("RSA-OAEP") || alg == "RSA1_5" || alg.starts_with("ECDH-ES"));
        let kty = match self.kty.as_deref() {
            Some("RSA" | "EC" | "AKP") => true,
            Some("OKP") => !matches!(self.crv.as_deref(), Some("X25519" | "X448")),
            _ => false,
        };
        usage && ops && kty && !encryption
    }

    /// Keys of one group can take each other's place: same type and curve.
    #[must_use]
    pub fn group(&self) -> String {
        match (&self.kty, &self.crv) {
            (Some(kty), Some(crv)) if kty != "RSA" => format!("{kty} {crv}"),
            (Some(kty), _) => kty.clone(),
            (None, _) => "unknown".to_owned(),
        }
    }
}

/// The public key material, decoded leniently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// Big-endian without leading zero octets.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
        bits: usize,
    },
    /// Coordinates as decoded, without leading zero octets.
    Ec {
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Okp {
        x: Vec<u8>,
    },
    /// `k`'s decoded length in octets; never the value.
    Oct {
        octets: Option<usize>,
    },
    Akp {
        public: Vec<u8>,
    },
    /// A `kty` that we do not know, or none.
    Unknown,
    /// A known `kty` with a required member absent, no string or not decodable.
    Malformed,
}

/// A secret member that is present and not null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMember {
    pub name: String,
    /// An empty string or empty array; a redacted member counts as not empty.
    pub empty: bool,
    /// Its pointer in the document, such as `/keys/0/d`.
    pub pointer: String,
}

/// Something wrong or odd that the parser met and got over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub pointer: String,
    pub kind: ProblemKind,
    /// A sentence without the value.
    pub text: String,
}

/// What kind of oddity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The bytes are no JSON (not UTF-8, a byte order mark, trailing bytes, too deep, an unpaired surrogate included).
    NotJson,
    /// The top level is not what it must be: no object, no `keys` array.
    WrongShape,
    DuplicateMember,
    /// An entry of `keys` that is no object.
    EntryNotObject,
    /// A known member with the wrong JSON type.
    WrongType,
    /// null, an empty string or an empty array.
    EmptyValue,
    RequiredMemberMissing,
    /// Padding, `+/`, white space or characters outside the base64url alphabet.
    Base64url,
    /// Leading zero octets, or coordinates of another length than the field's.
    ValueLength,
    TooManyKeys,
}
