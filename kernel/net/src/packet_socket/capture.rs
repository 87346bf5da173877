//! A frame as a packet socket sees it: where it begins, what a filter reads of it, what the program is told about it.
//!
//! Key types: [`View`] (a frame that passes), [`Captured`] (one that waits to be read). Locks: none.

use abi::packet::*;
use abi::socket::AF_PACKET;
use alloc::sync::Arc;
use linnet_lib::bpf::{self, Region};
use zerocopy::IntoBytes;

use crate::account::ReceiveCharge;
use crate::device::NetDevice;
use crate::device::taps::Direction;
use crate::message::SocketAddress;
use crate::packet::{Packet, PacketKind};
use crate::queue::Message;
use crate::socket::SocketKind;

/// Numbers of ancillary data (`SKF_AD_*`).
mod ancillary {
    pub const PROTOCOL: u32 = 0;
    pub const PACKET_TYPE: u32 = 4;
    pub const INTERFACE: u32 = 8;
    pub const MARK: u32 = 20;
    pub const QUEUE: u32 = 24;
    pub const HARDWARE_TYPE: u32 = 28;
    pub const RECEIVE_HASH: u32 = 32;
    pub const CPU: u32 = 36;
    pub const VLAN_TAG: u32 = 44;
    pub const VLAN_TAG_PRESENT: u32 = 48;
    pub const PAY_OFFSET: u32 = 52;
    pub const RANDOM: u32 = 56;
    pub const VLAN_PROTOCOL: u32 = 60;
}

/// A frame that passes a socket.
pub struct View<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// Where its network header begins.
    pub network: usize,
    /// Where what the socket gets begins.
    start: usize,
    device: &'a NetDevice,
    packet: &'a Packet,
    direction: Direction,
}

impl<'a> View<'a> {
    /// Of a packet on its way through a device.
    pub fn new(
        device: &'a NetDevice,
        packet: &'a Packet,
        direction: Direction,
        kind: SocketKind,
    ) -> View<'a> {
        let frame = packet.from_link_header();
        let network = match direction {
            Direction::In => frame.len().saturating_sub(packet.len()),
            Direction::Out => device.header_length().min(frame.len()),
        };
        let start = if kind == SocketKind::Raw { 0 } else { network };
        View { frame, network, start, device, packet, direction }
    }

    /// What the socket gets of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.frame.get(self.start..).unwrap_or_default()
    }

    /// Bytes of the link header that the socket gets.
    pub fn header_length(&self) -> usize {
        self.network - self.start
    }

    /// Its protocol, host order.
    pub fn protocol(&self) -> u16 {
        match self.direction {
            Direction::In => self.packet.protocol,
            Direction::Out if self.network == ETH_HLEN => {
                u16::from_be_bytes([self.frame[ETH_HLEN - 2], self.frame[ETH_HLEN - 1]])
            }
            Direction::Out => self.packet.protocol,
        }
    }

    /// `PACKET_*`.
    pub fn kind(&self) -> u8 {
        match (self.direction, self.packet.kind) {
            (Direction::Out, _) | (_, PacketKind::Outgoing) => PACKET_OUTGOING,
            (_, PacketKind::Host) => PACKET_HOST,
            (_, PacketKind::Broadcast) => PACKET_BROADCAST,
            (_, PacketKind::Multicast) => PACKET_MULTICAST,
            (_, PacketKind::OtherHost) => PACKET_OTHERHOST,
        }
    }

    /// Status bits about its checksum.
    pub fn status(&self) -> u32 {
        let is_valid = self.direction == Direction::In && self.packet.is_checked;
        TP_STATUS_USER | if is_valid { TP_STATUS_CSUM_VALID } else { 0 }
    }

    /// Where it came from.
    pub fn address(&self) -> SockaddrLl {
        let source = self.frame.get(6..12).filter(|_| self.network == ETH_HLEN).unwrap_or_default();
        let mut address = SockaddrLl {
            sll_family: AF_PACKET as u16,
            sll_protocol: self.protocol().to_be(),
            sll_ifindex: self.device.index(),
            sll_hatype: self.device.hardware_type(),
            sll_pkttype: self.kind(),
            sll_halen: source.len() as u8,
            sll_addr: [0; 8],
        };
        address.sll_addr.iter_mut().zip(source).for_each(|(place, byte)| *place = *byte);
        address
    }

    /// A copy for the queue, of which `length` bytes are kept.
    pub fn capture(&self, length: usize, time_ns: u64, charge: ReceiveCharge) -> Captured {
        let mut packet = self.packet.clone();
        // What is seen holds neither the device nor what is charged to its sender.
        (packet.device, packet.charge) = (None, None);
        Captured {
            packet,
            start: self.start,
            length,
            original: self.bytes().len(),
            network: self.header_length(),
            status: self.status(),
            address: self.address(),
            time_ns,
            _charge: charge,
        }
    }
}

impl bpf::Packet for View<'_> {
    fn length(&self) -> u32 {
        self.bytes().len() as u32
    }

    fn load(&self, region: Region, offset: u32, into: &mut [u8]) -> bool {
        let start = match region {
            Region::Start => self.start,
            Region::Network => self.network,
            Region::Link => 0,
        };
        let found = start
            .checked_add(offset as usize)
            .and_then(|at| self.frame.get(at..))
            .and_then(|rest| rest.get(..into.len()));
        match found {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    fn ancillary(&self, number: u32, _accumulator: u32, _index: u32) -> Option<u32> {
        Some(match number {
            ancillary::PROTOCOL => u32::from(self.protocol()),
            ancillary::PACKET_TYPE => u32::from(self.kind()),
            ancillary::INTERFACE => self.device.index() as u32,
            ancillary::MARK => self.packet.mark,
            ancillary::HARDWARE_TYPE => u32::from(self.device.hardware_type()),
            ancillary::CPU => machine::cpu::current().index() as u32,
            ancillary::RANDOM => machine::random::next_u64() as u32,
            ancillary::PAY_OFFSET => self.header_length() as u32,
            // Tags are in the bytes; there is one queue and no hash.
            ancillary::VLAN_TAG
            | ancillary::VLAN_TAG_PRESENT
            | ancillary::VLAN_PROTOCOL
            | ancillary::QUEUE
            | ancillary::RECEIVE_HASH => 0,
            _ => return None,
        })
    }
}

/// A frame in a socket's queue.
pub struct Captured {
    packet: Packet,
    start: usize,
    length: usize,
    original: usize,
    network: usize,
    status: u32,
    /// From where.
    pub address: SockaddrLl,
    /// When (nanoseconds since 1970).
    pub time_ns: u64,
    _charge: ReceiveCharge,
}

impl Captured {
    /// What was kept.
    pub fn bytes(&self) -> &[u8] {
        self.packet.from_link_header().get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// Its address as programs get it.
    pub fn socket_address(&self) -> SocketAddress {
        SocketAddress::new(self.address.as_bytes()).unwrap_or(SocketAddress::NONE)
    }

    /// What PACKET_AUXDATA tells.
    pub fn auxiliary(&self) -> TpacketAuxdata {
        TpacketAuxdata {
            tp_status: self.status,
            tp_len: self.original as u32,
            tp_snaplen: self.length as u32,
            tp_mac: 0,
            tp_net: self.network as u16,
            tp_vlan_tci: 0,
            tp_vlan_tpid: 0,
        }
    }
}

impl Message for Captured {
    fn length(&self) -> usize {
        self.length
    }
}

/// Makes a captured frame sharable.
pub fn share(captured: Captured) -> Option<Arc<Captured>> {
    machine::memory::try_arc(captured).ok()
}
