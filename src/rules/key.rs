//! Rules about the strength of key material.

use dashu_int::UBig;

use super::{Check, Detail, Entry, Judgement, Skip, fail_if, rule, violation};
use crate::facts::Facts;
use crate::model::{DocumentKind, Key, Material, Violation};

pub(super) const RULES: &[Entry] =
    &[rule!("key/ec-point-invalid", Check::EachKey(ec_point_invalid)), rule!("key/rsa-too-small", Check::EachKey(rsa_too_small))];

fn of(key: &Key, member: &str, message: impl Into<String>) -> Violation {
    violation(DocumentKind::Jwks, key.at(member), message).of_key(key)
}

/// RFC 7518 §3.3: a key of size 2048 bits or larger MUST be used.
fn rsa_too_small(key: &Key, _: &Facts) -> Judgement {
    let Material::Rsa { bits, .. } = key.material else { return Err(Skip::NotApplicable) };
    let case = if bits < 1024 { "below-1024" } else { "" };
    fail_if(bits < 2048, || of(key, "/n", format!("RSA modulus has {bits} bits; at least 2048 are required")).case(case))
}

/// A short Weierstrass curve y² = x³ + ax + b over the field of p elements; hexadecimal.
struct Curve {
    name: &'static str,
    p: &'static str,
    a: &'static str,
    b: &'static str,
}

/// NIST SP 800-186 §3.2.1, SEC 2 §2.4.1.
const CURVES: [Curve; 6] = [
    Curve {
        name: "P-256",
        p: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        a: "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
        b: "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    },
    Curve {
        name: "P-384",
        p: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        a: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000fffffffc",
        b: "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    },
    Curve {
        name: "P-521",
        p: "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        a: "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc",
        b: "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
    },
    Curve { name: "secp256k1", p: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", a: "0", b: "7" },
    Curve {
        name: "P-192",
        p: "fffffffffffffffffffffffffffffffeffffffffffffffff",
        a: "fffffffffffffffffffffffffffffffefffffffffffffffc",
        b: "64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1",
    },
    Curve {
        name: "P-224",
        p: "ffffffffffffffffffffffffffffffff000000000000000000000001",
        a: "fffffffffffffffffffffffffffffffefffffffffffffffffffffffe",
        b: "b4050a850c04b3abf54132565044b0b7d7bfd8ba270b39432355ffb4",
    },
];

/// SP 800-56A §5.6.2.3, RFC 8725 §3.4: validate that the point is on its curve.
fn ec_point_invalid(key: &Key, facts: &Facts) -> Judgement {
    let Material::Ec { x, y } = &key.material else { return Err(Skip::NotApplicable) };
    let Some(crv) = key.crv.as_deref() else { return Err(Skip::NotApplicable) };
    let curve = CURVES.iter().find(|curve| curve.name == crv);
    if let Some(fault) = curve.and_then(|curve| curve.fault(x, y)) {
        return Ok(vec![of(key, "/x", format!("{fault} on {crv}"))]);
    }
    if matches!(crv, "P-192" | "P-224") || crv.starts_with("sect") {
        return Ok(vec![of(key, "/crv", format!("the curve {crv} is too weak")).case("weak-curve")]);
    }
    let es256k = crv == "secp256k1" && facts.policy.allowed_algs.as_ref().is_some_and(|algs| algs.iter().any(|alg| alg == "ES256K"));
    let allowed = es256k || facts.policy.allowed_curves.iter().any(|allowed| allowed == crv);
    fail_if(!allowed, || of(key, "/crv", format!("the curve {crv} is not among the allowed ones")).case("curve-not-allowed"))
}

/// Whether a point lies on a curve that we know; `true` for curves that we do not.
pub(super) fn is_on_curve(crv: &str, x: &[u8], y: &[u8]) -> bool {
    CURVES.iter().find(|curve| curve.name == crv).is_none_or(|curve| curve.fault(x, y).is_none())
}

impl Curve {
    /// What is wrong with a point; coordinates big-endian.
    fn fault(&self, x: &[u8], y: &[u8]) -> Option<&'static str> {
        let number = |hex: &str| UBig::from_str_radix(hex, 16).expect("the constants are hexadecimal");
        let (p, a, b) = (number(self.p), number(self.a), number(self.b));
        let (x, y) = (UBig::from_be_bytes(x), UBig::from_be_bytes(y));
        if x == UBig::ZERO && y == UBig::ZERO {
            return Some("the point (0, 0) is no public key");
        }
        if x >= p || y >= p {
            return Some("a coordinate is not smaller than the field's prime");
        }
        let left = &y * &y % &p;
        let right = (&x * &x % &p * &x + a * &x + b) % &p;
        (left != right).then_some("the point is not on the curve: y² ≠ x³ + ax + b")
    }
}
