//! The headers of IPv6 (RFC 8200).
//!
//! Key types: [`Ipv6`], [`Extensions`] (goes through the headers between it and the transport).

use super::{WireError, WireResult, array, double, word};
use core::net::Ipv6Addr;

/// Bytes of the header.
pub const HEADER: usize = 40;
/// Options for every router.
pub const HOP_BY_HOP: u8 = 0;
/// Where to go next.
pub const ROUTING: u8 = 43;
/// A part of a packet.
pub const FRAGMENT: u8 = 44;
/// Nothing follows.
pub const NO_NEXT: u8 = 59;
/// Options for the destination.
pub const DESTINATION: u8 = 60;
/// Bytes of a fragment header.
pub const FRAGMENT_HEADER: usize = 8;
/// More headers than this are not gone through.
const MOST_EXTENSIONS: usize = 16;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// 20 bits that tell flows apart.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_length: usize,
    /// What follows.
    pub next_header: u8,
    /// How many routers it may still pass.
    pub hop_limit: u8,
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Ipv6 {
    /// Reads one, and checks that all its bytes are there.
    pub fn read(bytes: &[u8]) -> WireResult<Ipv6> {
        let header = Ipv6::read_unchecked(bytes)?;
        if bytes.len() < HEADER + header.payload_length { Err(WireError::Short) } else { Ok(header) }
    }

    /// Reads one whose packet may be cut: what an ICMP error quotes.
    pub fn read_unchecked(bytes: &[u8]) -> WireResult<Ipv6> {
        let first = double(bytes, 0)?;
        if first >> 28 != 6 {
            return Err(WireError::Bad);
        }
        let [next_header, hop_limit] = array(bytes, 6)?;
        Ok(Ipv6 {
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            payload_length: usize::from(word(bytes, 4)?),
            next_header,
            hop_limit,
            source: array(bytes, 8)?.into(),
            destination: array(bytes, 24)?.into(),
        })
    }

    /// Its bytes. [`WireError::Bad`]: the payload is too long.
    pub fn write(&self) -> WireResult<[u8; HEADER]> {
        let payload = u16::try_from(self.payload_length).map_err(|_| WireError::Bad)?;
        let mut bytes = [0; HEADER];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[4..6].copy_from_slice(&payload.to_be_bytes());
        bytes[6] = self.next_header;
        bytes[7] = self.hop_limit;
        bytes[8..24].copy_from_slice(&self.source.octets());
        bytes[24..].copy_from_slice(&self.destination.octets());
        Ok(bytes)
    }
}

/// One header between IPv6's own and the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Which.
    pub kind: u8,
    /// All its bytes.
    pub bytes: &'a [u8],
    /// What follows it.
    pub next: u8,
}

/// Goes through the extension headers of a packet.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
    next: u8,
    offset: usize,
    count: usize,
}

impl<'a> Extensions<'a> {
    /// Of the bytes behind the IPv6 header.
    pub fn new(next_header: u8, payload: &'a [u8]) -> Extensions<'a> {
        Extensions { bytes: payload, next: next_header, offset: 0, count: 0 }
    }

    /// What comes next: the transport's number once there are no more extensions.
    pub fn next_header(&self) -> u8 {
        self.next
    }

    /// Where that begins in the payload.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The next extension; `None` at the transport.
    pub fn step(&mut self) -> WireResult<Option<Extension<'a>>> {
        let rest = self.bytes.get(self.offset..).ok_or(WireError::Short)?;
        let length = match self.next {
            FRAGMENT => FRAGMENT_HEADER,
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [_, length] = array(rest, 0)?;
                (usize::from(length) + 1) * 8
            }
            _ => return Ok(None),
        };
        if self.count == MOST_EXTENSIONS {
            return Err(WireError::Bad);
        }
        let bytes = rest.get(..length).ok_or(WireError::Short)?;
        let extension = Extension { kind: self.next, bytes, next: bytes[0] };
        (self.next, self.offset, self.count) = (bytes[0], self.offset + length, self.count + 1);
        Ok(Some(extension))
    }
}

/// A fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What the packet's first fragment begins with.
    pub next: u8,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// It is not the last.
    pub more: bool,
    /// Which packet it is of.
    pub identification: u32,
}

impl Fragment {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> WireResult<Fragment> {
        let place = word(bytes, 2)?;
        let [next] = array(bytes, 0)?;
        Ok(Fragment {
            next,
            offset: usize::from(place & !7),
            more: place & 1 != 0,
            identification: double(bytes, 4)?,
        })
    }

    /// Its bytes.
    pub fn write(&self) -> [u8; FRAGMENT_HEADER] {
        let place = (self.offset as u16 & !7) | u16::from(self.more);
        let mut bytes = [0; FRAGMENT_HEADER];
        bytes[0] = self.next;
        bytes[2..4].copy_from_slice(&place.to_be_bytes());
        bytes[4..].copy_from_slice(&self.identification.to_be_bytes());
        bytes
    }
}

/// What is to be done with an option that is not known (RFC 8200 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Skip it.
    Skip,
    /// Drop the packet.
    Drop,
    /// Drop it and say so; the place of the option in the header's bytes.
    Report(usize),
    /// The same unless it went to a group.
    ReportUnlessGroup(usize),
}

/// Goes through the options of a hop-by-hop or destination header: what the first one that is not in `known` asks for.
pub fn check_options(header: &[u8], known: &[u8]) -> WireResult<Unknown> {
    let mut at = 2;
    while at < header.len() {
        let kind = header[at];
        if kind == 0 {
            at += 1;
            continue;
        }
        let length = usize::from(*header.get(at + 1).ok_or(WireError::Bad)?) + 2;
        if at + length > header.len() {
            return Err(WireError::Bad);
        }
        if kind != 1 && !known.contains(&kind) {
            match kind >> 6 {
                0 => {}
                1 => return Ok(Unknown::Drop),
                2 => return Ok(Unknown::Report(at)),
                _ => return Ok(Unknown::ReportUnlessGroup(at)),
            }
        }
        at += length;
    }
    Ok(Unknown::Skip)
}
