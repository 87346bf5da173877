//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the 8 bytes that their messages have in common.

use super::{Sum, WireError, WireResult, array, checksum};
use core::net::Ipv6Addr;

/// Bytes of a header.
pub const HEADER: usize = 8;
/// ICMP's number among the protocols.
pub const PROTOCOL_4: u8 = 1;
/// ICMPv6's.
pub const PROTOCOL_6: u8 = 58;

/// Types of ICMP.
pub mod v4 {
    #![allow(missing_docs)]
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const REDIRECT: u8 = 5;
    pub const ECHO: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    pub const TIMESTAMP: u8 = 13;
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Codes of [`UNREACHABLE`].
    pub const NET_UNREACHABLE: u8 = 0;
    pub const HOST_UNREACHABLE: u8 = 1;
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    pub const PORT_UNREACHABLE: u8 = 3;
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    pub const PROHIBITED: u8 = 13;
    /// Codes of [`TIME_EXCEEDED`].
    pub const TTL_EXCEEDED: u8 = 0;
    pub const REASSEMBLY_EXCEEDED: u8 = 1;
}

/// Types of ICMPv6.
pub mod v6 {
    #![allow(missing_docs)]
    pub const UNREACHABLE: u8 = 1;
    pub const TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
    /// Codes of [`UNREACHABLE`].
    pub const NO_ROUTE: u8 = 0;
    pub const PROHIBITED: u8 = 1;
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Codes of [`TIME_EXCEEDED`].
    pub const HOP_LIMIT_EXCEEDED: u8 = 0;
    pub const REASSEMBLY_EXCEEDED: u8 = 1;
    /// Codes of [`PARAMETER_PROBLEM`].
    pub const BAD_FIELD: u8 = 0;
    pub const UNKNOWN_NEXT_HEADER: u8 = 1;
    pub const UNKNOWN_OPTION: u8 = 2;
}

/// What every message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// What depends on the type: identifier and sequence number, MTU, pointer.
    pub rest: [u8; 4],
}

impl Icmp {
    /// Reads the header without looking at the checksum.
    pub fn read_unchecked(message: &[u8]) -> WireResult<Icmp> {
        let [kind, code] = array(message, 0)?;
        Ok(Icmp { kind, code, rest: array(message, 4)? })
    }

    /// Reads the header of a whole message of ICMP.
    pub fn read(message: &[u8]) -> WireResult<Icmp> {
        let header = Icmp::read_unchecked(message)?;
        if checksum(message) == 0 { Ok(header) } else { Err(WireError::Checksum) }
    }

    /// Reads the header of a whole message of ICMPv6.
    pub fn read_v6(message: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> WireResult<Icmp> {
        let header = Icmp::read_unchecked(message)?;
        if sum_v6(message, source, destination) == 0 { Ok(header) } else { Err(WireError::Checksum) }
    }

    /// Its bytes, without a checksum: [`seal`] or [`seal_v6`] adds it when the whole message is there.
    pub fn write(&self) -> [u8; HEADER] {
        let [a, b, c, d] = self.rest;
        [self.kind, self.code, 0, 0, a, b, c, d]
    }
}

fn sum_v6(message: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
    let mut sum = Sum::of_pseudo_header(source.into(), destination.into(), PROTOCOL_6, message.len());
    sum.add(message);
    sum.finish()
}

/// Puts the checksum into a message of ICMP.
pub fn seal(message: &mut [u8]) {
    seal_with(message, checksum);
}

/// Puts the checksum into a message of ICMPv6.
pub fn seal_v6(message: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    seal_with(message, |message| sum_v6(message, source, destination));
}

fn seal_with(message: &mut [u8], sum: impl FnOnce(&[u8]) -> u16) {
    if message.len() < HEADER {
        return;
    }
    message[2..4].fill(0);
    let sum = sum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
