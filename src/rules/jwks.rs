//! Rules about the key set and its entries.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Detail, Entry, Judgement, Skip, fail_if, rule, violation};
use crate::facts::Facts;
use crate::model::{Channel, DocumentKind, Key, KeySet, Material, ProblemKind, Subject, Thumbprint, Violation};

pub(super) const RULES: &[Entry] = &[
    rule!("jwks/alg-kty-conflict", Check::EachKey(alg_kty_conflict)),
    rule!("jwks/duplicate-kid", Check::Issuer(duplicate_kid)),
    rule!("jwks/no-usable-signing-key", Check::Issuer(no_usable_signing_key)),
    rule!("jwks/not-a-key-set", Check::Issuer(not_a_key_set)),
    rule!("jwks/private-key-exposed", Check::EachKey(private_key_exposed)),
    rule!("jwks/symmetric-key-exposed", Check::EachKey(symmetric_key_exposed)),
];

fn in_set(pointer: impl Into<String>, message: impl Into<String>) -> Violation {
    violation(DocumentKind::Jwks, pointer, message)
}

/// OpenID Connect Discovery 1.0 §3: the JWK Set MUST NOT contain private or symmetric key values.
/// Only members that have that meaning for the key's type count: a vendor's `p` in an EC key is no private key.
fn private_key_exposed(key: &Key, _: &Facts) -> Judgement {
    let private: &[&str] = match key.kty.as_deref().map(str::to_ascii_uppercase).as_deref() {
        Some("RSA") => &["d", "p", "q", "dp", "dq", "qi", "oth"],
        Some("EC" | "OKP") => &["d"],
        Some("AKP") => &["priv"],
        _ => return Err(Skip::NotApplicable),
    };
    let exposed: Vec<_> =
        key.secrets.iter().filter(|secret| private.contains(&secret.name.as_str()) && !(secret.empty && secret.name == "oth")).collect();
    let (filled, empty): (Vec<_>, Vec<_>) = exposed.into_iter().partition(|secret| !secret.empty);
    let names = |secrets: &[&crate::model::SecretMember]| {
        secrets.iter().map(|secret| secret.name.as_str()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    if let Some(first) = filled.first() {
        return Ok(vec![
            in_set(first.pointer.clone(), format!("the key set publishes private key material: {}", names(&filled))).of_key(key),
        ]);
    }
    fail_if(!empty.is_empty(), || {
        in_set(empty[0].pointer.clone(), format!("private members are present, but empty: {}", names(&empty))).case("empty").of_key(key)
    })
}

/// OpenID Connect Discovery 1.0 §3; RFC 7518 §6.4.
fn symmetric_key_exposed(key: &Key, _: &Facts) -> Judgement {
    let secret = key.secrets.iter().find(|secret| secret.name == "k");
    let oct = key.kty.as_deref().is_some_and(|kty| kty.eq_ignore_ascii_case("oct"));
    match secret {
        Some(secret) => {
            Ok(vec![in_set(secret.pointer.clone(), "the key set publishes a symmetric key: anybody can make tokens with it").of_key(key)])
        }
        None => fail_if(oct, || {
            in_set(key.at("/kty"), "the key set lists a symmetric key, without its value").case("without-value").of_key(key)
        }),
    }
}

/// RFC 7517 §5: a JSON object with an array `keys` of objects.
fn not_a_key_set(facts: &Facts) -> Judgement {
    let set = match facts.documents.jwks.as_deref() {
        None => return Err(facts.unseen(Channel::Jwks)),
        Some(Err(problem)) => return Ok(vec![in_set(problem.pointer.clone(), problem.text.clone())]),
        Some(Ok(set)) => set,
    };
    let mut violations: Vec<Violation> = set
        .problems
        .iter()
        .filter(|problem| problem.kind == ProblemKind::EntryNotObject)
        .map(|problem| in_set(problem.pointer.clone(), problem.text.clone()))
        .collect();
    if set.entries > facts.policy.max_keys {
        violations.push(
            in_set("/keys", format!("the set has {} entries; the first {} were judged", set.entries, facts.policy.max_keys))
                .case("too-many-keys"),
        );
    }
    Ok(violations)
}

/// OpenID Connect Discovery 1.0 §3: `jwks_uri` holds the signing keys.
fn no_usable_signing_key(facts: &Facts) -> Judgement {
    let set = facts.key_set()?;
    if publishes_for_encryption(set, facts) {
        return Err(Skip::NotApplicable);
    }
    let accepted = accepted_algs(facts);
    let usable = |key: &&Key| {
        let algs = verification_algs(key);
        let fits = |alg: &&str| accepted.as_ref().is_none_or(|accepted| accepted.contains(*alg));
        key.is_signature_key() && is_sound(key) && algs.iter().any(fits)
    };
    fail_if(!set.keys.iter().any(|key| usable(&key)), || {
        in_set(
            "/keys",
            if set.entries == 0 {
                "the key set is empty: no token can be verified".to_owned()
            } else {
                format!("none of the {} entries can verify a signature", set.entries)
            },
        )
    })
}

/// A client's `jwks_uri`, as the policy says, that lists keys for encryption and no others.
fn publishes_for_encryption(set: &KeySet, facts: &Facts) -> bool {
    let client = facts.policy.other.get("role").is_some_and(|role| role.trim_matches('"') == "client");
    client && !set.keys.is_empty() && set.keys.iter().all(|key| key.usage.as_deref() == Some("enc"))
}

/// Whether the material can be a public key at all; how strong it is, is the business of the rules about keys.
fn is_sound(key: &Key) -> bool {
    let crv = key.crv.as_deref().unwrap_or_default();
    match &key.material {
        Material::Rsa { bits, .. } => *bits >= 512,
        Material::Ec { x, y } => super::key::is_on_curve(crv, x, y),
        // RFC 8032 §5.1.5 and §5.2.5.
        Material::Okp { x } => match crv {
            "Ed25519" => x.len() == 32,
            "Ed448" => x.len() == 57,
            _ => true,
        },
        Material::Akp { public } => !public.is_empty(),
        Material::Oct { .. } | Material::Unknown | Material::Malformed => false,
    }
}

/// The signature algorithms that the policy allows, else those advertised; `None` where neither says anything useful.
fn accepted_algs(facts: &Facts) -> Option<BTreeSet<String>> {
    if let Some(allowed) = &facts.policy.allowed_algs {
        return Some(widen(allowed.iter().map(String::as_str)));
    }
    let advertised = facts.metadata().ok()?.texts("id_token_signing_alg_values_supported");
    let asymmetric: Vec<&str> = advertised.into_iter().filter(|alg| SIGNATURE_ALGS.iter().any(|(name, ..)| name == alg)).collect();
    (!asymmetric.is_empty()).then(|| widen(asymmetric.into_iter()))
}

/// RFC 9864: `EdDSA` and the fully specified names stand for each other.
fn widen<'a>(algs: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut set: BTreeSet<String> = algs.map(str::to_owned).collect();
    if set.contains("EdDSA") {
        set.extend(["Ed25519".to_owned(), "Ed448".to_owned()]);
    } else if set.contains("Ed25519") || set.contains("Ed448") {
        set.insert("EdDSA".to_owned());
    }
    set
}

/// Signature algorithms with the type and curve they need.
const SIGNATURE_ALGS: [(&str, &str, &[&str]); 17] = [
    ("RS256", "RSA", &[]),
    ("RS384", "RSA", &[]),
    ("RS512", "RSA", &[]),
    ("PS256", "RSA", &[]),
    ("PS384", "RSA", &[]),
    ("PS512", "RSA", &[]),
    ("ES256", "EC", &["P-256"]),
    ("ES384", "EC", &["P-384"]),
    ("ES512", "EC", &["P-521"]),
    ("ES256K", "EC", &["secp256k1"]),
    ("EdDSA", "OKP", &["Ed25519", "Ed448"]),
    ("Ed25519", "OKP", &["Ed25519"]),
    ("Ed448", "OKP", &["Ed448"]),
    ("ML-DSA-44", "AKP", &[]),
    ("ML-DSA-65", "AKP", &[]),
    ("ML-DSA-87", "AKP", &[]),
    ("RS1", "RSA", &[]),
];

fn fits(key: &Key, kty: &str, curves: &[&str]) -> bool {
    key.kty.as_deref() == Some(kty) && (curves.is_empty() || key.crv.as_deref().is_some_and(|crv| curves.contains(&crv)))
}

/// The signature algorithms a key can verify: its own `alg`, or all that fit its type and curve. An `alg` that is no
/// registered name (an XML-DSig URI) is taken as none: many verifiers do, and the odd name is another rule's business.
fn verification_algs(key: &Key) -> Vec<&'static str> {
    let named = key.alg.as_deref().filter(|alg| agreement(alg, key).is_some());
    let meant = |name: &str| named.is_none_or(|alg| alg == name);
    SIGNATURE_ALGS.iter().filter(|(name, kty, curves)| fits(key, kty, curves) && meant(name)).map(|(name, ..)| *name).collect()
}

/// RFC 7518 §3.4 and §6.1, RFC 8037 §3.1, RFC 9864 §2.
fn alg_kty_conflict(key: &Key, _: &Facts) -> Judgement {
    let (Some(alg), Some(kty)) = (key.alg.as_deref(), key.kty.as_deref()) else {
        return Err(Skip::NotApplicable);
    };
    let Some(agrees) = agreement(alg, key) else {
        return Err(Skip::NotApplicable);
    };
    let what = key.crv.as_ref().filter(|_| kty != "RSA").map_or_else(|| kty.to_owned(), |crv| format!("{kty} {crv}"));
    if !agrees {
        return Ok(vec![in_set(key.at("/alg"), format!("the key is {what}, its alg {alg} is for another kind of key")).of_key(key)]);
    }
    // RFC 8017 §9.1.1: the encoding of PS512 with a salt as long as the hash needs 1,034 bits.
    fail_if(alg == "PS512" && matches!(key.material, Material::Rsa { bits, .. } if bits < 1034), || {
        in_set(key.at("/alg"), "the RSA modulus is too short for PS512 (1,034 bits at least)").of_key(key)
    })
}

/// Whether a registered `alg` fits the key; `None` for a name that is not registered.
fn agreement(alg: &str, key: &Key) -> Option<bool> {
    if let Some((_, kty, curves)) = SIGNATURE_ALGS.iter().find(|(name, ..)| *name == alg) {
        return Some(fits(key, kty, curves));
    }
    let kty = key.kty.as_deref();
    match alg {
        "RSA1_5" | "RSA-OAEP" | "RSA-OAEP-256" | "RSA-OAEP-384" | "RSA-OAEP-512" => Some(kty == Some("RSA")),
        "ECDH-ES" | "ECDH-ES+A128KW" | "ECDH-ES+A192KW" | "ECDH-ES+A256KW" => {
            Some(kty == Some("EC") || fits(key, "OKP", &["X25519", "X448"]))
        }
        "HS256" | "HS384" | "HS512" | "dir" | "A128KW" | "A192KW" | "A256KW" | "A128GCMKW" | "A192GCMKW" | "A256GCMKW" => {
            Some(kty == Some("oct"))
        }
        _ => None,
    }
}

/// RFC 7517 §4.5: different keys SHOULD use distinct kid values.
fn duplicate_kid(facts: &Facts) -> Judgement {
    let set = facts.key_set()?;
    let mut by_kid: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    let mut folded: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for key in &set.keys {
        if let Some(kid) = &key.kid {
            by_kid.entry(kid).or_default().push(key);
            folded.entry(kid.trim().to_lowercase()).or_default().insert(kid);
        }
    }
    if by_kid.is_empty() {
        return Err(Skip::NotApplicable);
    }
    let shared = by_kid.iter().filter(|(_, keys)| keys.len() > 1).map(|(kid, keys)| shared_kid(kid, keys));
    let ambiguous =
        folded.values().filter(|kids| kids.len() > 1).filter_map(|kids| kids.first()).map(|kid| {
            in_set(by_kid[kid][0].at("/kid"), "two kids differ only in case or surrounding space").case("ambiguous").of_kid(kid)
        });
    Ok(shared.chain(ambiguous).collect())
}

fn shared_kid(kid: &str, keys: &[&Key]) -> Violation {
    let materials: BTreeSet<&Thumbprint> = keys.iter().map(|key| &key.thumbprint).collect();
    let types: BTreeSet<Option<&str>> = keys.iter().map(|key| key.kty.as_deref()).collect();
    let signers: BTreeSet<&Thumbprint> = keys.iter().filter(|key| key.is_signature_key()).map(|key| &key.thumbprint).collect();
    let (case, text) = if materials.len() == 1 {
        ("same-key", format!("{} entries hold one key under one kid", keys.len()))
    } else if types.len() == materials.len() {
        ("other-type", format!("{} keys of different types share one kid", materials.len()))
    } else if signers.len() < 2 {
        ("other-role", "a signature key and a key with another use share one kid".to_owned())
    } else {
        ("", format!("{} different keys share one kid", materials.len()))
    };
    in_set(keys[1].at("/kid"), text).case(case).of_kid(kid)
}

trait OfKid {
    fn of_kid(self, kid: &str) -> Self;
}

impl OfKid for Violation {
    fn of_kid(self, kid: &str) -> Self {
        Self { subject: Subject { kid: Some(kid.to_owned()), ..Subject::default() }, ..self }
    }
}
