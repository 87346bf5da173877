//! Headers of packets as they are on the wire: checked reading and writing, without memory of their own.
//!
//! | file | what |
//! |---|---|
//! | `checksum` | the Internet checksum |
//! | `ethernet`, `arp` | the link layer |
//! | `ipv4`, `ipv6`, `ipv4_options` | the network layer |
//! | `icmp`, `discovery` | errors, echoes; neighbours and routers of IPv6 |
//! | `udp` | the transport |
//!
//! Whatever the bytes are, reading gives a header or an error, never more: lengths are checked against the bytes that are there.

pub mod arp;
pub mod checksum;
pub mod discovery;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv4_options;
pub mod ipv6;
#[cfg(test)]
mod tests;
pub mod udp;

pub use checksum::{Sum, checksum};

/// Why bytes are not the header that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// They end before it does, or before the length that it says.
    Short,
    /// A field has a value that it cannot have.
    Bad,
    /// Its checksum is wrong.
    Checksum,
}

/// What reading gives.
pub type WireResult<T> = Result<T, WireError>;

/// Two bytes at a place, in the order of the network.
pub(crate) fn word(bytes: &[u8], at: usize) -> WireResult<u16> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(WireError::Short)?;
    Ok(u16::from_be_bytes(*word))
}

/// Four bytes at a place, in the order of the network.
pub(crate) fn double(bytes: &[u8], at: usize) -> WireResult<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(WireError::Short)?;
    Ok(u32::from_be_bytes(*word))
}

/// So many bytes at a place.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> WireResult<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(WireError::Short)
}
