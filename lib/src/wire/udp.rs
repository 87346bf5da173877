//! The header of UDP (RFC 768).

use super::{Sum, WireError, WireResult, word};
use core::net::IpAddr;

/// Bytes of a header.
pub const HEADER: usize = 8;
/// UDP's number among the protocols.
pub const PROTOCOL: u8 = 17;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// From which port.
    pub source: u16,
    /// To which.
    pub destination: u16,
    /// Bytes of header and data.
    pub length: usize,
    /// 0: there is none.
    pub checksum: u16,
}

impl Udp {
    /// Reads one and checks that all its bytes are there.
    pub fn read(bytes: &[u8]) -> WireResult<Udp> {
        let header = Udp::read_unchecked(bytes)?;
        if header.length < HEADER {
            return Err(WireError::Bad);
        }
        if bytes.len() < header.length { Err(WireError::Short) } else { Ok(header) }
    }

    /// Reads one whose packet may be cut.
    pub fn read_unchecked(bytes: &[u8]) -> WireResult<Udp> {
        Ok(Udp {
            source: word(bytes, 0)?,
            destination: word(bytes, 2)?,
            length: usize::from(word(bytes, 4)?),
            checksum: word(bytes, 6)?,
        })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..2].copy_from_slice(&self.source.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.destination.to_be_bytes());
        bytes[4..6].copy_from_slice(&(self.length as u16).to_be_bytes());
        bytes[6..].copy_from_slice(&self.checksum.to_be_bytes());
        bytes
    }
}

/// The checksum of a datagram whose own is 0; a sum of 0 is told as its complement, because 0 means that there is none.
pub fn sum(datagram: &[u8], source: IpAddr, destination: IpAddr) -> u16 {
    let mut sum = Sum::of_pseudo_header(source, destination, PROTOCOL, datagram.len());
    sum.add(datagram);
    match sum.finish() {
        0 => 0xffff,
        sum => sum,
    }
}

/// Whether the checksum of a datagram is right, its own included.
pub fn is_right(datagram: &[u8], source: IpAddr, destination: IpAddr) -> bool {
    let mut sum = Sum::of_pseudo_header(source, destination, PROTOCOL, datagram.len());
    sum.add(datagram);
    sum.finish() == 0
}
