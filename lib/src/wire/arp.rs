//! ARP for IPv4 over Ethernet (RFC 826).

use super::{WireError, WireResult, array, word};
use core::net::Ipv4Addr;

/// Bytes of a message.
pub const LENGTH: usize = 28;
/// "Who has it?"
pub const REQUEST: u16 = 1;
/// "I have."
pub const REPLY: u16 = 2;

const HARDWARE_ETHERNET: u16 = 1;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// The sender's link-layer address.
    pub sender_link: [u8; 6],
    /// The sender's address.
    pub sender: Ipv4Addr,
    /// The link-layer address that is asked for or told.
    pub target_link: [u8; 6],
    /// Whose.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads one. [`WireError::Bad`]: not of IPv4 over Ethernet.
    pub fn read(bytes: &[u8]) -> WireResult<Arp> {
        let is_known = word(bytes, 0)? == HARDWARE_ETHERNET
            && word(bytes, 2)? == super::ethernet::TYPE_IPV4
            && array(bytes, 4)? == [6, 4];
        if !is_known {
            return Err(WireError::Bad);
        }
        Ok(Arp {
            operation: word(bytes, 6)?,
            sender_link: array(bytes, 8)?,
            sender: array(bytes, 14)?.into(),
            target_link: array(bytes, 18)?,
            target: array(bytes, 24)?.into(),
        })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        bytes[2..4].copy_from_slice(&super::ethernet::TYPE_IPV4.to_be_bytes());
        bytes[4..6].copy_from_slice(&[6, 4]);
        bytes[6..8].copy_from_slice(&self.operation.to_be_bytes());
        bytes[8..14].copy_from_slice(&self.sender_link);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[18..24].copy_from_slice(&self.target_link);
        bytes[24..].copy_from_slice(&self.target.octets());
        bytes
    }
}
