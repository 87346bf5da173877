//! The Internet checksum (RFC 1071), with the pseudo headers of both Internet protocols.
//!
//! Key type: [`Sum`].

use core::net::IpAddr;

/// A sum being made; the bytes added must be an even number each time but the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing.
    pub const fn new() -> Sum {
        Sum(0)
    }

    /// Of what transports add of the header below them (RFC 768, RFC 8200 section 8.1). `length`: of header and data.
    pub fn of_pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
        let mut sum = Sum(length as u64 + u64::from(protocol));
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => sum.add(&address.octets()),
                IpAddr::V6(address) => sum.add(&address.octets()),
            }
        }
        sum
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<4>();
        self.0 += words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum::<u64>();
        let (pairs, last) = rest.as_chunks::<2>();
        self.0 += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        self.0 += last.iter().map(|byte| u64::from(*byte) << 8).sum::<u64>();
    }

    /// The checksum: the complement of the sum. Over bytes that have a right checksum in them it is 0.
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// The checksum of bytes.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.finish()
}
