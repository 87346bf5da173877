//! The header of IPv4 (RFC 791).
//!
//! Key type: [`Ipv4`]. Options are bytes here; [`options`] goes through them.

use super::{WireError, WireResult, array, checksum, word};
use core::net::Ipv4Addr;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Bytes of a header at most.
pub const HEADER_MOST: usize = 60;
/// Bytes of a packet at most.
pub const PACKET_MOST: usize = 65_535;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4<'a> {
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Bytes of header and data.
    pub length: usize,
    /// Which packet a fragment is of.
    pub identification: u16,
    /// It may not be fragmented.
    pub dont_fragment: bool,
    /// It is not the last fragment.
    pub more_fragments: bool,
    /// Where the fragment begins, in bytes.
    pub offset: usize,
    /// How many routers it may still pass.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// Options, padded to a multiple of 4.
    pub options: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Reads one: version, lengths and checksum are checked, and that all its bytes are there.
    pub fn read(bytes: &'a [u8]) -> WireResult<Ipv4<'a>> {
        let header = Ipv4::read_unchecked(bytes)?;
        if checksum(&bytes[..header.header_length()]) != 0 {
            return Err(WireError::Checksum);
        }
        if bytes.len() < header.length {
            return Err(WireError::Short);
        }
        Ok(header)
    }

    /// Reads one whose packet may be cut and whose checksum may be wrong: what an ICMP error quotes.
    pub fn read_unchecked(bytes: &'a [u8]) -> WireResult<Ipv4<'a>> {
        let [first, tos] = array(bytes, 0)?;
        let header_length = usize::from(first & 15) * 4;
        let length = usize::from(word(bytes, 2)?);
        if first >> 4 != 4 || header_length < HEADER || length < header_length {
            return Err(WireError::Bad);
        }
        let options = bytes.get(HEADER..header_length).ok_or(WireError::Short)?;
        let fragment = word(bytes, 6)?;
        let [ttl, protocol] = array(bytes, 8)?;
        Ok(Ipv4 {
            tos,
            length,
            identification: word(bytes, 4)?,
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            offset: usize::from(fragment & OFFSET) * 8,
            ttl,
            protocol,
            source: array(bytes, 12)?.into(),
            destination: array(bytes, 16)?.into(),
            options,
        })
    }

    /// Bytes of the header.
    pub fn header_length(&self) -> usize {
        HEADER + self.options.len()
    }

    /// Whether it is a part of a packet.
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.offset != 0
    }

    /// Writes it with its checksum to the front of `into`. [`WireError::Short`]: there is no room. [`WireError::Bad`]: a length or an
    /// offset is out of its range.
    pub fn write(&self, into: &mut [u8]) -> WireResult<()> {
        let header_length = self.header_length();
        if header_length > HEADER_MOST
            || !header_length.is_multiple_of(4)
            || self.length > PACKET_MOST
            || !self.offset.is_multiple_of(8)
        {
            return Err(WireError::Bad);
        }
        let header = into.get_mut(..header_length).ok_or(WireError::Short)?;
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        header[0] = 0x40 | (header_length / 4) as u8;
        header[1] = self.tos;
        header[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        header[6..8].copy_from_slice(&(flags | (self.offset / 8) as u16 & OFFSET).to_be_bytes());
        header[8..12].copy_from_slice(&[self.ttl, self.protocol, 0, 0]);
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..20].copy_from_slice(&self.destination.octets());
        header[20..].copy_from_slice(self.options);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }
}

/// Sets the TTL of a header and makes its checksum anew. Nothing happens to bytes that are no header.
pub fn set_ttl(bytes: &mut [u8], ttl: u8) {
    let Some(length) = bytes.first().map(|first| usize::from(first & 15) * 4) else { return };
    let Some(header) = bytes.get_mut(..length.max(HEADER)) else { return };
    header[8] = ttl;
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An option: its kind and all its bytes.
pub type Ipv4Option<'a> = (u8, &'a [u8]);

/// Goes through options up to their end. An option whose length is wrong is the last and has an error.
pub fn options(mut bytes: &[u8]) -> impl Iterator<Item = WireResult<Ipv4Option<'_>>> {
    core::iter::from_fn(move || {
        let (kind, length) = match *bytes {
            [] | [0, ..] => return None,
            [1, ..] => (1, 1),
            [kind, length, ..] if length >= 2 && usize::from(length) <= bytes.len() => {
                (kind, usize::from(length))
            }
            _ => {
                bytes = &[];
                return Some(Err(WireError::Bad));
            }
        };
        let (option, rest) = bytes.split_at(length);
        bytes = rest;
        Some(Ok((kind, option)))
    })
}
