//! Keys from the entries of `keys`: their identity, their public material, and what is wrong with them.
//!
//! A bad key is a key with problems, never an error. No value of a secret member may reach the result,
//! a hash or a message.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::model::json::{Object, Value, write_string};
use crate::model::{Digest, Key, Material, Problem, ProblemKind, SecretMember, Thumbprint};

/// The members of a JWK that nobody but its owner may know.
pub const SECRET: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// base64url whose unused trailing bits may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Reads one entry of `keys`; `redacted` are the pointers of the members whose values were cut out of the document.
#[must_use]
pub fn key(entry: Object, index: usize, redacted: &dyn Fn(&str) -> bool) -> Key {
    let mut judge =
        Judge { entry: &entry, at: format!("/keys/{index}"), k_was_cut: redacted(&format!("/keys/{index}/k")), problems: Vec::new() };
    judge.types();
    let material = judge.material();
    let problems = judge.problems;
    let text = |name: &str| entry.member(name).and_then(Value::as_str).map(str::to_owned);
    let key_ops = entry.member("key_ops").and_then(Value::as_array);
    Key {
        index,
        thumbprint: thumbprint(&entry),
        kid: text("kid"),
        kty: text("kty"),
        alg: text("alg"),
        usage: text("use"),
        key_ops: key_ops.map(|ops| ops.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        crv: text("crv"),
        material,
        problems,
        secrets: secrets(&entry, index, redacted),
        members: without_secrets(entry),
    }
}

/// The identity of a key over time: its canonical RFC 7638 thumbprint, or `raw:` and a hash, as `corpus/oracle.py` defines it.
#[must_use]
pub fn thumbprint(entry: &Object) -> Thumbprint {
    let required: &[&str] = match entry.member("kty").and_then(Value::as_str) {
        Some("RSA") => &["e", "kty", "n"],
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        _ => &[],
    };
    let canonical: Option<Vec<(&str, String)>> = required.iter().map(|name| Some((*name, canonical_member(entry, name)?))).collect();
    match canonical {
        Some(members) if !members.is_empty() => Thumbprint(hash_of(members.iter().map(|(name, text)| (*name, Text::String(text))))),
        _ => {
            let members = entry.effective().into_iter().filter(|(name, _)| !SECRET.contains(name));
            Thumbprint(format!("raw:{}", hash_of(members.map(|(name, value)| (name, Text::Value(value))))))
        }
    }
}

/// base64url decoded leniently, as `corpus/oracle.py` does: white space dropped, `+/` read as `-_`, padding dropped,
/// unused trailing bits ignored.
#[must_use]
pub fn octets(text: &str) -> Option<Vec<u8>> {
    let mut clean: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xC))
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    clean.truncate(clean.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1));
    LENIENT.decode(clean).ok()
}

/// How many octets a coordinate of the curve has.
#[must_use]
pub fn coordinate_octets(crv: &str) -> Option<usize> {
    match crv {
        "P-256" | "secp256k1" => Some(32),
        "P-384" => Some(48),
        "P-521" => Some(66),
        _ => None,
    }
}

/// Whether a value of a secret member gives nothing away, and so may stay: null, an empty string, an empty array.
pub(crate) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

enum Text<'a> {
    String(&'a str),
    Value(&'a Value),
}

fn hash_of<'a>(members: impl Iterator<Item = (&'a str, Text<'a>)>) -> String {
    let mut json = String::from("{");
    for (name, text) in members {
        if json.len() > 1 {
            json.push(',');
        }
        write_string(name, &mut json);
        json.push(':');
        match text {
            Text::String(text) => write_string(text, &mut json),
            Text::Value(value) => value.write_canonical(&mut json),
        }
    }
    json.push('}');
    URL_SAFE_NO_PAD.encode(Digest::of(json.as_bytes()).0)
}

fn canonical_member(entry: &Object, name: &str) -> Option<String> {
    let text = entry.member(name)?.as_str()?;
    if matches!(name, "kty" | "crv") {
        return Some(text.to_owned());
    }
    let mut value = octets(text)?;
    if matches!(name, "n" | "e") {
        value = stripped(&value).to_vec();
        if value.is_empty() {
            value.push(0);
        }
    } else if entry.member("kty").and_then(Value::as_str) == Some("EC")
        && let Some(length) = entry.member("crv").and_then(Value::as_str).and_then(coordinate_octets)
    {
        let significant = stripped(&value);
        let mut filled = vec![0; length.saturating_sub(significant.len())];
        filled.extend_from_slice(significant);
        value = filled;
    }
    Some(URL_SAFE_NO_PAD.encode(value))
}

fn stripped(octets: &[u8]) -> &[u8] {
    &octets[octets.iter().take_while(|octet| **octet == 0).count()..]
}

fn secrets(entry: &Object, index: usize, redacted: &dyn Fn(&str) -> bool) -> Vec<SecretMember> {
    let of = |name: &&str| {
        // What an earlier duplicate shows is published all the same.
        let mut values = entry
            .members
            .iter()
            .filter(|(member, _)| member == name)
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
            .peekable();
        values.peek()?;
        let pointer = format!("/keys/{index}/{name}");
        let empty = values.all(says_nothing) && !redacted(&pointer);
        Some(SecretMember { name: (*name).to_owned(), empty, pointer })
    };
    SECRET.iter().filter_map(of).collect()
}

/// The entry with `""` in place of every secret, those of keys nested in it included.
fn without_secrets(mut entry: Object) -> Object {
    for (name, value) in &mut entry.members {
        if SECRET.contains(&name.as_str()) && !says_nothing(value) {
            *value = Value::String(String::new());
        } else {
            cut_nested(value);
        }
    }
    entry
}

fn cut_nested(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(cut_nested),
        Value::Object(object) if object.member("kty").is_some() => *object = without_secrets(std::mem::take(object)),
        Value::Object(object) => object.members.iter_mut().for_each(|(_, value)| cut_nested(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Looks at one entry and notes what is wrong.
struct Judge<'a> {
    entry: &'a Object,
    /// The entry's pointer.
    at: String,
    /// The value of `k` was cut out: it is there, and we cannot tell how long it was.
    k_was_cut: bool,
    problems: Vec<Problem>,
}

impl<'a> Judge<'a> {
    fn note(&mut self, member: &str, kind: ProblemKind, text: String) {
        self.problems.push(Problem { pointer: format!("{}/{member}", self.at), kind, text });
    }

    /// The types of the members that every key may have; the required ones are looked at with the material.
    fn types(&mut self) {
        for name in ["kid", "alg", "use", "x5u", "x5t", "x5t#S256"] {
            match self.entry.member(name) {
                None => {}
                Some(Value::Null) => self.note(name, ProblemKind::EmptyValue, format!("{name} is null")),
                Some(Value::String(text)) if text.is_empty() => {
                    self.note(name, ProblemKind::EmptyValue, format!("{name} is an empty string"))
                }
                Some(Value::String(text)) if name.starts_with("x5t") => self.encoding(name, text),
                Some(Value::String(_)) => {}
                Some(_) => self.note(name, ProblemKind::WrongType, format!("{name} is not a string")),
            }
        }
        for name in ["key_ops", "x5c"] {
            match self.entry.member(name) {
                None => {}
                Some(Value::Null) => self.note(name, ProblemKind::EmptyValue, format!("{name} is null")),
                Some(Value::Array(items)) if items.is_empty() => {
                    self.note(name, ProblemKind::EmptyValue, format!("{name} is an empty array"))
                }
                Some(Value::Array(items)) if items.iter().all(|item| item.as_str().is_some()) => {}
                Some(_) => self.note(name, ProblemKind::WrongType, format!("{name} is not an array of strings")),
            }
        }
    }

    fn material(&mut self) -> Material {
        let Some(kty) = self.required("kty") else {
            return Material::Unknown;
        };
        match kty {
            "RSA" => {
                let (n, e) = (self.decoded("n"), self.decoded("e"));
                self.leading_zero("n", n.as_deref());
                self.leading_zero("e", e.as_deref());
                n.zip(e).map_or(Material::Malformed, |(n, e)| {
                    let (n, e) = (stripped(&n).to_vec(), stripped(&e).to_vec());
                    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                    Material::Rsa { n, e, bits }
                })
            }
            "EC" => {
                let crv = self.required("crv");
                let (x, y) = (self.decoded("x"), self.decoded("y"));
                let length = crv.and_then(coordinate_octets);
                self.length("x", x.as_deref(), length, "coordinate of this curve");
                self.length("y", y.as_deref(), length, "coordinate of this curve");
                match (crv, x.zip(y)) {
                    (Some(_), Some((x, y))) => Material::Ec { x: stripped(&x).to_vec(), y: stripped(&y).to_vec() },
                    _ => Material::Malformed,
                }
            }
            "OKP" => {
                let crv = self.required("crv");
                let x = self.decoded("x");
                let length = match crv {
                    Some("Ed25519" | "X25519") => Some(32),
                    Some("Ed448") => Some(57),
                    Some("X448") => Some(56),
                    _ => None,
                };
                self.length("x", x.as_deref(), length, "public key on this curve");
                crv.and(x).map_or(Material::Malformed, |x| Material::Okp { x })
            }
            "AKP" => {
                let length = match self.required("alg") {
                    Some("ML-DSA-44") => Some(1312),
                    Some("ML-DSA-65") => Some(1952),
                    Some("ML-DSA-87") => Some(2592),
                    _ => None,
                };
                let public = self.decoded("pub");
                self.length("pub", public.as_deref(), length, "public key of this algorithm");
                public.map_or(Material::Malformed, |public| Material::Akp { public })
            }
            "oct" => Material::Oct { octets: self.symmetric() },
            _ => Material::Unknown,
        }
    }

    /// A required member where it is a string and not empty.
    fn required(&mut self, name: &str) -> Option<&'a str> {
        let (kind, text) = match self.entry.member(name) {
            Some(Value::String(text)) if !text.is_empty() => return Some(text),
            None => (ProblemKind::RequiredMemberMissing, format!("{name} is missing")),
            Some(Value::Null) => (ProblemKind::EmptyValue, format!("{name} is null")),
            Some(Value::String(_)) => (ProblemKind::EmptyValue, format!("{name} is an empty string")),
            Some(_) => (ProblemKind::WrongType, format!("{name} is not a string")),
        };
        let pointer = format!("{}/{name}", self.at);
        if self.problems.iter().all(|problem| problem.pointer != pointer) {
            self.note(name, kind, text);
        }
        None
    }

    /// A required member, decoded leniently.
    fn decoded(&mut self, name: &str) -> Option<Vec<u8>> {
        let text = self.required(name)?;
        self.encoding(name, text);
        octets(text)
    }

    /// How many octets `k` has; nothing about them is noted.
    fn symmetric(&mut self) -> Option<usize> {
        match self.entry.member("k") {
            Some(Value::String(text)) if text.is_empty() && self.k_was_cut => None,
            Some(Value::String(text)) => octets(text).map(|octets| octets.len()),
            _ => {
                self.required("k");
                None
            }
        }
    }

    /// RFC 7515 §2: base64url "with all trailing '=' characters omitted and without the inclusion of any line breaks,
    /// whitespace, or other additional characters".
    fn encoding(&mut self, name: &str, text: &str) {
        let space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xC);
        let odd = |wanted: &dyn Fn(u8) -> bool| text.bytes().any(wanted);
        if odd(&|byte| matches!(byte, b'+' | b'/')) {
            self.note(name, ProblemKind::Base64url, format!("{name} uses the standard alphabet (+ or /) instead of base64url"));
        }
        if text.ends_with('=') {
            self.note(name, ProblemKind::Base64url, format!("{name} has = padding"));
        }
        if odd(&space) {
            self.note(name, ProblemKind::Base64url, format!("{name} contains white space"));
        }
        match octets(text) {
            None => self.note(name, ProblemKind::Base64url, format!("{name} cannot be decoded as base64url")),
            Some(octets) => {
                let digits = text.bytes().filter(|byte| !space(*byte) && *byte != b'=').map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => other,
                });
                if !digits.eq(URL_SAFE_NO_PAD.encode(octets).bytes()) {
                    self.note(name, ProblemKind::Base64url, format!("{name} has non-zero bits after its last octet"));
                }
            }
        }
    }

    /// RFC 7518 §2: Base64urlUInt "MUST utilize the minimum number of octets needed".
    fn leading_zero(&mut self, name: &str, value: Option<&[u8]>) {
        if value.is_some_and(|value| value.len() > 1 && value[0] == 0) {
            self.note(name, ProblemKind::ValueLength, format!("{name} has a leading zero octet"));
        }
    }

    fn length(&mut self, name: &str, value: Option<&[u8]>, wanted: Option<usize>, what: &str) {
        if let (Some(value), Some(wanted)) = (value, wanted)
            && value.len() != wanted
        {
            self.note(name, ProblemKind::ValueLength, format!("{name} has {} octets; a {what} has {wanted}", value.len()));
        }
    }
}
