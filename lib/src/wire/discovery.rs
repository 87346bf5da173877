//! Neighbour discovery (RFC 4861): what its messages say behind the header of ICMPv6.
//!
//! Key types: [`Solicitation`], [`Advertisement`], [`RouterAdvertisement`], [`Redirect`], [`DiscoveryOption`].

use super::{WireError, WireResult, array, double, icmp, word};
use core::net::Ipv6Addr;

/// Bytes of a solicitation or advertisement with one link-layer address.
pub const MESSAGE: usize = 32;
/// Hop limit of all messages: they come from the link itself.
pub const HOP_LIMIT: u8 = 255;
/// The sender's link-layer address.
pub const SOURCE_LINK: u8 = 1;
/// The target's.
pub const TARGET_LINK: u8 = 2;
/// A prefix of the link.
pub const PREFIX: u8 = 3;
/// The MTU of the link.
pub const MTU: u8 = 5;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// An option: its kind and what follows kind and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoveryOption<'a> {
    /// Which.
    pub kind: u8,
    /// All its bytes.
    pub bytes: &'a [u8],
}

/// Goes through options. One whose length is wrong is the last and has an error (the message is to be dropped).
pub fn options(mut bytes: &[u8]) -> impl Iterator<Item = WireResult<DiscoveryOption<'_>>> + Clone {
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = (|| {
            let [kind, units] = array(bytes, 0)?;
            if units == 0 {
                return Err(WireError::Bad);
            }
            let (option, rest) = bytes.split_at_checked(usize::from(units) * 8).ok_or(WireError::Short)?;
            bytes = rest;
            Ok(DiscoveryOption { kind, bytes: option })
        })();
        if found.is_err() {
            bytes = &[];
        }
        Some(found)
    })
}

/// The Ethernet address in the first option of a kind. An error if some option is wrong.
pub fn link_address(bytes: &[u8], kind: u8) -> WireResult<Option<[u8; 6]>> {
    let mut found = None;
    for option in options(bytes) {
        let option = option?;
        if option.kind == kind && found.is_none() {
            found = Some(array(option.bytes, 2)?);
        }
    }
    Ok(found)
}

/// "Who has this address?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Which.
    pub target: Ipv6Addr,
    /// The asker's link-layer address.
    pub link: Option<[u8; 6]>,
}

impl Solicitation {
    /// Reads one from a message whose checksum is right.
    pub fn read(message: &[u8]) -> WireResult<Solicitation> {
        let target: Ipv6Addr = array(message, 8)?.into();
        if target.is_multicast() {
            return Err(WireError::Bad);
        }
        Ok(Solicitation { target, link: link_address(&message[24..], SOURCE_LINK)? })
    }
}

/// "I have it."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Which.
    pub target: Ipv6Addr,
    /// The link-layer address of who has it.
    pub link: Option<[u8; 6]>,
    /// It is a router.
    pub is_router: bool,
    /// It was asked.
    pub is_solicited: bool,
    /// What was known before is to be forgotten.
    pub overrides: bool,
}

impl Advertisement {
    /// Reads one from a message whose checksum is right.
    pub fn read(message: &[u8]) -> WireResult<Advertisement> {
        let target: Ipv6Addr = array(message, 8)?.into();
        let [flags] = array(message, 4)?;
        if target.is_multicast() {
            return Err(WireError::Bad);
        }
        Ok(Advertisement {
            target,
            link: link_address(&message[24..], TARGET_LINK)?,
            is_router: flags & ROUTER != 0,
            is_solicited: flags & SOLICITED != 0,
            overrides: flags & OVERRIDE != 0,
        })
    }

    fn flags(&self) -> u8 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        bit(self.is_router, ROUTER) | bit(self.is_solicited, SOLICITED) | bit(self.overrides, OVERRIDE)
    }
}

fn message(
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
    link: Option<[u8; 6]>,
) -> ([u8; MESSAGE], usize) {
    let mut bytes = [0; MESSAGE];
    let header = icmp::Icmp { kind, code: 0, rest: [flags, 0, 0, 0] };
    bytes[..8].copy_from_slice(&header.write());
    bytes[8..24].copy_from_slice(&target.octets());
    let Some(link) = link else { return (bytes, 24) };
    bytes[24..26].copy_from_slice(&[option, 1]);
    bytes[26..].copy_from_slice(&link);
    (bytes, MESSAGE)
}

impl Solicitation {
    /// Its bytes and how many of them count; without a checksum.
    pub fn write(&self) -> ([u8; MESSAGE], usize) {
        message(icmp::v6::NEIGHBOUR_SOLICITATION, 0, self.target, SOURCE_LINK, self.link)
    }
}

impl Advertisement {
    /// Its bytes and how many of them count; without a checksum.
    pub fn write(&self) -> ([u8; MESSAGE], usize) {
        message(icmp::v6::NEIGHBOUR_ADVERTISEMENT, self.flags(), self.target, TARGET_LINK, self.link)
    }
}

/// "Are there routers?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterSolicitation {
    /// The asker's link-layer address.
    pub link: Option<[u8; 6]>,
}

impl RouterSolicitation {
    /// Its bytes and how many of them count; without a checksum.
    pub fn write(&self) -> ([u8; 16], usize) {
        let mut bytes = [0; 16];
        let header = icmp::Icmp { kind: icmp::v6::ROUTER_SOLICITATION, code: 0, rest: [0; 4] };
        bytes[..8].copy_from_slice(&header.write());
        let Some(link) = self.link else { return (bytes, 8) };
        bytes[8..10].copy_from_slice(&[SOURCE_LINK, 1]);
        bytes[10..].copy_from_slice(&link);
        (bytes, 16)
    }
}

/// What a router says of itself and the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement<'a> {
    /// The hop limit to use; 0: not said.
    pub hop_limit: u8,
    /// Addresses come by DHCP.
    pub is_managed: bool,
    /// Other settings do.
    pub has_other: bool,
    /// How good the router is (RFC 4191): 0 medium, 1 high, 3 low.
    pub preference: u8,
    /// Seconds for which it is a default router.
    pub lifetime: u16,
    /// Milliseconds for which a neighbour counts as reachable; 0: not said.
    pub reachable_ms: u32,
    /// Milliseconds between solicitations; 0: not said.
    pub retransmit_ms: u32,
    /// Options.
    pub options: &'a [u8],
}

impl<'a> RouterAdvertisement<'a> {
    /// Reads one from a message whose checksum is right.
    pub fn read(message: &'a [u8]) -> WireResult<RouterAdvertisement<'a>> {
        let [hop_limit, flags] = array(message, 4)?;
        Ok(RouterAdvertisement {
            hop_limit,
            is_managed: flags & 0x80 != 0,
            has_other: flags & 0x40 != 0,
            preference: flags >> 3 & 3,
            lifetime: word(message, 6)?,
            reachable_ms: double(message, 8)?,
            retransmit_ms: double(message, 12)?,
            options: message.get(16..).ok_or(WireError::Short)?,
        })
    }
}

/// A prefix of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// Bits of it.
    pub length: u8,
    /// Its addresses are on the link.
    pub is_on_link: bool,
    /// Addresses may be made from it.
    pub is_autonomous: bool,
    /// Seconds for which it is valid.
    pub valid: u32,
    /// Seconds for which it is preferred.
    pub preferred: u32,
    /// The prefix.
    pub prefix: Ipv6Addr,
}

impl PrefixInformation {
    /// Reads one.
    pub fn read(option: &DiscoveryOption<'_>) -> WireResult<PrefixInformation> {
        let [length, flags] = array(option.bytes, 2)?;
        if option.bytes.len() != 32 || length > 128 {
            return Err(WireError::Bad);
        }
        Ok(PrefixInformation {
            length,
            is_on_link: flags & 0x80 != 0,
            is_autonomous: flags & 0x40 != 0,
            valid: double(option.bytes, 4)?,
            preferred: double(option.bytes, 8)?,
            prefix: array(option.bytes, 16)?.into(),
        })
    }
}

/// "Go there directly."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The better next hop.
    pub target: Ipv6Addr,
    /// For packets to this address.
    pub destination: Ipv6Addr,
    /// The next hop's link-layer address.
    pub link: Option<[u8; 6]>,
}

impl Redirect {
    /// Reads one from a message whose checksum is right.
    pub fn read(message: &[u8]) -> WireResult<Redirect> {
        let target = array(message, 8)?.into();
        let destination: Ipv6Addr = array(message, 24)?.into();
        if destination.is_multicast() {
            return Err(WireError::Bad);
        }
        Ok(Redirect { target, destination, link: link_address(&message[40..], TARGET_LINK)? })
    }

    /// Writes it without a checksum and without what it quotes: the bytes, and how many they are.
    pub fn write(&self) -> ([u8; 48], usize) {
        let mut bytes = [0; 48];
        bytes[0] = icmp::v6::REDIRECT;
        bytes[8..24].copy_from_slice(&self.target.octets());
        bytes[24..40].copy_from_slice(&self.destination.octets());
        let Some(link) = self.link else { return (bytes, 40) };
        bytes[40..42].copy_from_slice(&[TARGET_LINK, 1]);
        bytes[42..].copy_from_slice(&link);
        (bytes, 48)
    }
}
