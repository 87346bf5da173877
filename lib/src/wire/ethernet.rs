//! The header of Ethernet (IEEE 802.3, clause 3).

use super::{WireResult, array, word};

/// Bytes of a header.
pub const HEADER: usize = 14;
/// IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// To everyone.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
    /// What follows.
    pub kind: u16,
}

impl Ethernet {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> WireResult<Ethernet> {
        Ok(Ethernet { destination: array(bytes, 0)?, source: array(bytes, 6)?, kind: word(bytes, 12)? })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..6].copy_from_slice(&self.destination);
        bytes[6..12].copy_from_slice(&self.source);
        bytes[12..].copy_from_slice(&self.kind.to_be_bytes());
        bytes
    }
}
