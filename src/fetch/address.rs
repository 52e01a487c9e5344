//! The address policy: which addresses an issuer may make us connect to (interface.md, "What a hostile issuer meets").
//!
//! Pure tables over addresses. It must never resolve or connect, and never let an address pass because
//! it is written in another family's clothes: IPv4 inside IPv6 is judged as that IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses one request may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// What the public Internet routes.
    Public,
    /// That, and private and loopback addresses (`allow_private`).
    Private,
    /// Loopback and nothing else: plain http under `allow_http_loopback`.
    Loopback,
}

impl Reach {
    pub(super) const ALL: [Self; 3] = [Self::Public, Self::Private, Self::Loopback];

    pub(super) fn judge(self, address: IpAddr) -> Result<(), Refusal> {
        match self {
            Self::Public => judge(address, false),
            Self::Private => judge(address, true),
            Self::Loopback if is_loopback(address) => Ok(()),
            Self::Loopback => Err(Refusal { address, kind: Kind::NotLoopback }),
        }
    }

    /// The addresses of a resolved name that may be connected to.
    ///
    /// # Errors
    /// None may; the refusal is that of the lowest address, so that the text does not change with the resolver's order.
    pub(super) fn allowed(self, resolved: impl IntoIterator<Item = IpAddr>) -> Result<Vec<IpAddr>, Option<Refusal>> {
        let mut allowed = Vec::new();
        let mut refused: Option<Refusal> = None;
        for address in resolved {
            match self.judge(address) {
                Ok(()) => allowed.push(address),
                Err(refusal) if refused.is_none_or(|other| refusal.address < other.address) => refused = Some(refusal),
                Err(_) => {}
            }
        }
        if allowed.is_empty() { Err(refused) } else { Ok(allowed) }
    }
}

/// An address that the policy does not let us connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub address: IpAddr,
    pub kind: Kind,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match self.kind {
            Kind::NotLoopback => "allow_http_loopback permits plain http to loopback only",
            kind if kind.is_always_refused() => "never allowed",
            _ => "allow_private permits it",
        };
        write!(f, "{} is {}; {remedy}", self.address, self.kind.name())
    }
}

impl std::error::Error for Refusal {}

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Private,
    Loopback,
    /// 100.64.0.0/10, behind a carrier's NAT.
    Shared,
    Benchmarking,
    Reserved,
    UniqueLocal,
    /// 0.0.0.0/8.
    ThisNetwork,
    Unspecified,
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    Multicast,
    Broadcast,
    Documentation,
    /// Another host than this one, where only loopback is exempt from https.
    NotLoopback,
}

impl Kind {
    /// Whether not even `allow_private` permits it.
    #[must_use]
    pub fn is_always_refused(self) -> bool {
        !matches!(self, Self::Private | Self::Loopback | Self::Shared | Self::Benchmarking | Self::Reserved | Self::UniqueLocal)
    }

    /// As people read it, after "is".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "a private address",
            Self::Loopback => "a loopback address",
            Self::Shared => "a shared (carrier NAT) address",
            Self::Benchmarking => "a benchmarking address",
            Self::Reserved => "a reserved address",
            Self::UniqueLocal => "a unique-local address",
            Self::ThisNetwork => "an address of \"this network\"",
            Self::Unspecified => "the unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::NotLoopback => "no loopback address",
        }
    }
}

/// Judges one address as it will be connected to.
///
/// # Errors
/// The policy refuses it.
pub fn judge(address: IpAddr, allow_private: bool) -> Result<(), Refusal> {
    let kinds = match address {
        IpAddr::V4(v4) => vec![kind_v4(v4)],
        IpAddr::V6(v6) => kinds_v6(v6),
    };
    // An address with several readings passes only if every reading does.
    match kinds.into_iter().flatten().find(|kind| !allow_private || kind.is_always_refused()) {
        Some(kind) => Err(Refusal { address, kind }),
        None => Ok(()),
    }
}

/// Loopback in the plain notations that rules exempt: 127.0.0.0/8 and ::1.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

/// A name that means an address without asking any resolver; all that can be judged behind a proxy.
pub(super) fn kind_of_name(name: &str) -> Option<Kind> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match name.as_str() {
        "localhost" | "localhost.localdomain" | "localhost6" | "ip6-localhost" | "ip6-loopback" => Some(Kind::Loopback),
        "metadata" | "metadata.google.internal" | "metadata.goog" | "instance-data" | "instance-data.ec2.internal" => Some(Kind::Metadata),
        _ if name.ends_with(".localhost") => Some(Kind::Loopback),
        _ => None,
    }
}

/// IANA's special-purpose IPv4 registry, and where clouds hand out credentials; the most specific first.
const V4: [(Ipv4Addr, u32, Kind); 23] = [
    (Ipv4Addr::new(169, 254, 169, 254), 32, Kind::Metadata),
    (Ipv4Addr::new(169, 254, 170, 2), 32, Kind::Metadata),
    (Ipv4Addr::new(100, 100, 100, 200), 32, Kind::Metadata),
    (Ipv4Addr::new(168, 63, 129, 16), 32, Kind::Metadata),
    (Ipv4Addr::new(192, 0, 0, 192), 32, Kind::Metadata),
    (Ipv4Addr::UNSPECIFIED, 32, Kind::Unspecified),
    (Ipv4Addr::BROADCAST, 32, Kind::Broadcast),
    (Ipv4Addr::new(0, 0, 0, 0), 8, Kind::ThisNetwork),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Kind::Private),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Kind::Private),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Kind::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Kind::Loopback),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Kind::Shared),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Kind::LinkLocal),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(233, 252, 0, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Kind::Benchmarking),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Kind::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Kind::Reserved),
];

fn kind_v4(address: Ipv4Addr) -> Option<Kind> {
    V4.iter().find(|(network, bits, _)| (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0).map(|row| row.2)
}

/// IANA's special-purpose IPv6 registry without the blocks that carry an IPv4 address; the most specific first.
const V6: [(Ipv6Addr, u32, Kind); 17] = [
    (Ipv6Addr::UNSPECIFIED, 128, Kind::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Kind::Loopback),
    (Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0), 32, Kind::Metadata),
    (Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254), 128, Kind::Metadata),
    (Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42), 128, Kind::Metadata),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Kind::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Kind::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Kind::Private),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Kind::Multicast),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32, Kind::Documentation),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Kind::Documentation),
    (Ipv6Addr::new(0x2001, 0x0002, 0, 0, 0, 0, 0, 0), 48, Kind::Benchmarking),
    // Teredo (2001::/32) and 6to4 (2002::/16) are judged by what they carry.
    (Ipv6Addr::new(0x2001, 0x0001, 0, 0, 0, 0, 0, 0), 32, Kind::Reserved),
    (Ipv6Addr::new(0x2001, 0x0010, 0, 0, 0, 0, 0, 0), 28, Kind::Reserved),
    (Ipv6Addr::new(0x2001, 0x0020, 0, 0, 0, 0, 0, 0), 28, Kind::Reserved),
    (Ipv6Addr::new(0x0100, 0, 0, 0, 0, 0, 0, 0), 64, Kind::Reserved),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Kind::Reserved),
];

fn kinds_v6(address: Ipv6Addr) -> Vec<Option<Kind>> {
    let special = V6.iter().find(|(network, bits, _)| (address.to_bits() ^ network.to_bits()) >> (128 - bits) == 0).map(|row| row.2);
    if special.is_some() {
        return vec![special];
    }
    let carried = carried_v4(address);
    // Whatever is neither global unicast (2000::/3) nor carries an IPv4 address is not assigned to anybody.
    if carried.is_empty() && address.octets()[0] >> 5 != 1 {
        return vec![Some(Kind::Reserved)];
    }
    carried.into_iter().map(kind_v4).collect()
}

/// Every IPv4 address that a gateway might read out of an IPv6 one.
fn carried_v4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |index: usize| Ipv4Addr::new(octets[index], octets[index + 1], octets[index + 2], octets[index + 3]);
    match address.segments() {
        // Compatible ::/96, mapped ::ffff:0:0/96, translated ::ffff:0:0:0/96 (RFC 4291, RFC 2765), NAT64 64:ff9b::/96 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => vec![at(12)],
        // Local NAT64 (RFC 8215): the network chooses the prefix length, so with bits in between the /48 form is read too.
        [0x64, 0xff9b, 1, 0, 0, 0, _, _] => vec![at(12)],
        [0x64, 0xff9b, 1, ..] => vec![at(12), Ipv4Addr::new(octets[6], octets[7], octets[9], octets[10])],
        [0x2002, ..] => vec![at(2)],
        // Teredo (RFC 4380): the server in clear, the client with every bit flipped.
        [0x2001, 0, ..] => vec![at(4), Ipv4Addr::from_bits(!at(12).to_bits())],
        // ISATAP (RFC 5214), under any global prefix.
        [0x2000..=0x3fff, _, _, _, 0 | 0x0200, 0x5efe, _, _] => vec![at(12)],
        _ => Vec::new(),
    }
}
