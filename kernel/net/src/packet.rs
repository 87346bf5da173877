//! A packet on its way: bytes with room in front, where its headers are, and the device it belongs to.
//!
//! Key types: [`Packet`], [`PacketKind`]. The bytes are shared (`Arc`): a clone for a tap costs one reference, and who wants to
//! change shared bytes copies them first. All memory is taken fallibly. Locks: none.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use machine::memory::try_arc;

use crate::device::NetDevice;

/// Room in front that a fresh packet has for headers below the one that made it.
pub const HEAD_ROOM: usize = 64;

/// For whom a packet is, as the link layer sees it (`PACKET_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketKind {
    /// For this host.
    #[default]
    Host,
    /// For all.
    Broadcast,
    /// For a group.
    Multicast,
    /// For someone else.
    OtherHost,
    /// Going out.
    Outgoing,
}

/// See the module.
#[derive(Clone)]
pub struct Packet {
    buffer: Arc<Vec<u8>>,
    data: Range<usize>,
    /// Which protocol the network header is of (Ethernet's numbers, host order).
    pub protocol: u16,
    /// For whom.
    pub kind: PacketKind,
    /// The device it came from or goes to.
    pub device: Option<Arc<NetDevice>>,
    /// Where the link-layer header begins in the buffer.
    link_header: usize,
    /// Where the network header begins in the buffer.
    network_header: usize,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_PRIORITY`.
    pub priority: u32,
    /// When it was received (monotonic nanoseconds); 0 for never.
    pub received_ns: u64,
    /// Whether the checksum of its transport header is known to be right: it was made here and has not left the machine.
    pub is_checked: bool,
    /// What is charged for it until it is dropped.
    pub charge: Option<Arc<dyn Any + Send + Sync>>,
}

impl Packet {
    /// An empty packet with room for `head` bytes in front and `length` behind. `ENOMEM`.
    pub fn with_room(head: usize, length: usize) -> Result<Packet> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(head + length).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(head, 0);
        Ok(Packet {
            buffer: try_arc(bytes)?,
            data: head..head,
            protocol: 0,
            kind: PacketKind::default(),
            device: None,
            link_header: head,
            network_header: head,
            mark: 0,
            priority: 0,
            received_ns: 0,
            is_checked: false,
            charge: None,
        })
    }

    /// The bytes from the current header on.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.data.clone()).unwrap_or_default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The bytes to be changed; copied first if someone shares them. `ENOMEM`.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        let data = self.data.clone();
        Ok(self.own_buffer()?.get_mut(data).unwrap_or_default())
    }

    fn own_buffer(&mut self) -> Result<&mut Vec<u8>> {
        if Arc::get_mut(&mut self.buffer).is_none() {
            let mut copy = Vec::new();
            copy.try_reserve_exact(self.buffer.capacity()).map_err(|_| Errno::ENOMEM)?;
            copy.extend_from_slice(&self.buffer);
            self.buffer = try_arc(copy)?;
        }
        Arc::get_mut(&mut self.buffer).ok_or(Errno::ENOMEM)
    }

    /// Adds `length` bytes at the end that `fill` writes. `ENOMEM`; what `fill` says.
    pub fn append_with(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<()> {
        let end = self.data.end;
        let buffer = self.own_buffer()?;
        buffer.truncate(end);
        buffer.try_reserve(length).map_err(|_| Errno::ENOMEM)?;
        buffer.resize(end + length, 0);
        fill(buffer.get_mut(end..).unwrap_or_default())?;
        self.data.end += length;
        Ok(())
    }

    /// Adds bytes at the end. `ENOMEM`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.data.end;
        let buffer = self.own_buffer()?;
        buffer.truncate(end);
        buffer.try_reserve(bytes.len()).map_err(|_| Errno::ENOMEM)?;
        buffer.extend_from_slice(bytes);
        self.data.end += bytes.len();
        Ok(())
    }

    /// Puts a header of `length` bytes in front and gives its place. Where the room does not suffice more is made. `ENOMEM`.
    pub fn push(&mut self, length: usize) -> Result<&mut [u8]> {
        if self.data.start < length {
            let more = length - self.data.start + HEAD_ROOM;
            let mut copy = Vec::new();
            copy.try_reserve_exact(more + self.buffer.len()).map_err(|_| Errno::ENOMEM)?;
            copy.resize(more, 0);
            copy.extend_from_slice(&self.buffer);
            self.buffer = try_arc(copy)?;
            self.data = self.data.start + more..self.data.end + more;
            self.link_header += more;
            self.network_header += more;
        }
        self.data.start -= length;
        let place = self.data.start..self.data.start + length;
        Ok(self.own_buffer()?.get_mut(place).unwrap_or_default())
    }

    /// Takes a header of `length` bytes off the front and gives it; `None` if the packet is shorter.
    pub fn pull(&mut self, length: usize) -> Option<&[u8]> {
        if self.len() < length {
            return None;
        }
        let header = self.data.start..self.data.start + length;
        self.data.start += length;
        self.buffer.get(header)
    }

    /// Goes back to the link-layer header: its bytes are in front again.
    pub fn rewind_to_link_header(&mut self) {
        self.data.start = self.link_header.min(self.data.end);
    }

    /// Puts the headers back that were taken off since the network header; whether it is there.
    pub fn restore_network_header(&mut self) -> bool {
        let is_there = self.network_header <= self.data.start;
        if is_there {
            self.data.start = self.network_header;
        }
        is_there
    }

    /// Cuts it to `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.data.end = self.data.end.min(self.data.start + length);
    }

    /// Bytes of memory that it holds, also those that it does not show any more.
    pub fn footprint(&self) -> usize {
        self.buffer.capacity() + size_of::<Packet>()
    }

    /// Gives up memory that it does not need, if that is much: what waits somewhere is charged by what it shows. `ENOMEM`.
    pub fn shrink(&mut self) -> Result<()> {
        const SLACK: usize = 512;
        if self.buffer.capacity() <= 2 * self.data.end + SLACK {
            return Ok(());
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(self.data.end).map_err(|_| Errno::ENOMEM)?;
        copy.extend_from_slice(self.buffer.get(..self.data.end).unwrap_or_default());
        self.buffer = try_arc(copy)?;
        Ok(())
    }

    /// Notes that the link-layer header begins here.
    pub fn mark_link_header(&mut self) {
        self.link_header = self.data.start;
    }

    /// Notes that the network header begins here.
    pub fn mark_network_header(&mut self) {
        self.network_header = self.data.start;
    }

    /// From the link-layer header to the end.
    pub fn from_link_header(&self) -> &[u8] {
        self.buffer.get(self.link_header..self.data.end).unwrap_or_default()
    }

    /// From the network header to the end.
    pub fn from_network_header(&self) -> &[u8] {
        self.buffer.get(self.network_header..self.data.end).unwrap_or_default()
    }

    /// Forgets what concerns only the namespace it came from: it goes to another.
    pub fn leave_namespace(&mut self) {
        (self.mark, self.priority, self.charge) = (0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_and_go() {
        let mut packet = Packet::with_room(4, 8).unwrap();
        packet.append(b"data").unwrap();
        packet.push(4).unwrap().copy_from_slice(b"ip4 ");
        packet.mark_network_header();
        packet.push(14).unwrap().copy_from_slice(b"ethernet......");
        packet.mark_link_header();
        assert_eq!(packet.bytes(), b"ethernet......ip4 data");
        assert_eq!(packet.from_network_header(), b"ip4 data");
        assert_eq!(packet.pull(14), Some(&b"ethernet......"[..]));
        assert_eq!(packet.pull(4), Some(&b"ip4 "[..]));
        assert_eq!(packet.pull(5), None);
        assert_eq!(packet.from_link_header(), b"ethernet......ip4 data");
        packet.truncate(2);
        assert_eq!(packet.bytes(), b"da");
        packet.append(b"y").unwrap();
        assert_eq!(packet.bytes(), b"day");
    }

    #[test]
    fn what_was_cut_off_costs_nothing_after_shrinking() {
        let mut packet = Packet::with_room(HEAD_ROOM, 65_536).unwrap();
        packet.append(&[7; 65_536]).unwrap();
        packet.truncate(28);
        assert!(packet.footprint() > 65_536);
        packet.shrink().unwrap();
        assert_eq!(packet.bytes(), [7; 28]);
        assert!(packet.footprint() < 1024);
    }

    #[test]
    fn a_clone_keeps_its_bytes() {
        let mut packet = Packet::with_room(0, 8).unwrap();
        packet.append(b"abc").unwrap();
        let shared = packet.clone();
        packet.bytes_mut().unwrap()[0] = b'x';
        packet.append(b"d").unwrap();
        assert_eq!((shared.bytes(), packet.bytes()), (&b"abc"[..], &b"xbcd"[..]));
    }
}
