//! A descriptor of `/dev/net/tun`: each read gives one packet, each write takes one (`tun_chr_fops`).
//!
//! Key type: [`TunFile`]. What is in front of a packet depends on the device's flags: [`PacketInformation`] unless IFF_NO_PI, then
//! [`VirtioNetHeader`] with IFF_VNET_HDR. A packet that is to be segmented is refused; what a program asks to be checksummed is.
//! Locks: `control` for ioctls; the queue's.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use abi::tun::*;
use alloc::sync::Arc;
use core::fmt;
use linnet_lib::wire::checksum::checksum;
use linnet_lib::wire::ethernet::{TYPE_IPV4, TYPE_IPV6};
use machine::sync::Mutex;
use machine::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use mm::io::{IoReader, IoWriter};
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations, PollTable, Positioning};
use zerocopy::{FromZeros, IntoBytes};

use super::queue::Queue;
use super::{Tun, control};
use crate::device::statistics::Counted;
use crate::device::{NetDevice, change, registry, rtnl, traffic, veth};
use crate::message::caller;
use crate::namespace::NetNamespace;
use crate::packet::{HEAD_ROOM, Packet, PacketKind};

/// Its number: major 10 (`misc`), minor 200.
pub const NUMBER: DeviceId = DeviceId::new(10, 200);
/// Bytes of a packet at most.
const PACKET_MAX: usize = (64 << 10) + abi::packet::ETH_HLEN;

struct Driver;

impl Device for Driver {
    fn name(&self) -> &str {
        "misc"
    }

    fn open(&self, _id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        let namespace = caller().and_then(|caller| caller.network()).ok_or(Errno::ENXIO)?;
        Ok(machine::memory::try_arc(TunFile {
            namespace,
            queue: Queue::new()?,
            wanted_index: AtomicI32::new(0),
            send_buffer: AtomicI32::new(i32::MAX),
            is_little_endian: AtomicBool::new(false),
            control: Mutex::new(()),
        })?)
    }
}

/// Makes the device node's driver known; once. `EBUSY`.
pub fn register() -> Result<()> {
    chardev::register(FileKind::CharDevice, NUMBER.major, NUMBER.minor..=NUMBER.minor, Arc::new(Driver))
}

/// See the module.
pub(super) struct TunFile {
    /// Where it was opened: devices are made there, and it is kept alive.
    pub(super) namespace: Arc<NetNamespace>,
    pub(super) queue: Arc<Queue>,
    /// TUNSETIFINDEX; 0 for any.
    pub(super) wanted_index: AtomicI32,
    /// TUNSETSNDBUF, TUNSETVNETLE: kept to be told.
    pub(super) send_buffer: AtomicI32,
    pub(super) is_little_endian: AtomicBool,
    /// One at a time joins and leaves.
    pub(super) control: Mutex<()>,
}

/// Skips or pads what of a header of `length` bytes is more than the structure.
fn surplus(length: usize) -> usize {
    length.saturating_sub(size_of::<VirtioNetHeader>())
}

impl TunFile {
    /// Hands a packet over; what does not fit is lost. `EINVAL`: not even what is in front of it fits.
    fn give(&self, tun: &Tun, packet: &Packet, to: &mut dyn IoWriter) -> Result<usize> {
        let room = to.remaining();
        let header =
            if tun.has(IFF_VNET_HDR) { tun.header_length.load(Ordering::Relaxed) as usize } else { 0 };
        let mut total = packet.len() + header;
        if !tun.has(IFF_NO_PI) {
            total += size_of::<PacketInformation>();
            if room < size_of::<PacketInformation>() {
                return Err(Errno::EINVAL);
            }
            let flags = if room < total { TUN_PKT_STRIP } else { 0 };
            let proto = packet.protocol.to_be();
            to.write_bytes(PacketInformation { flags, proto }.as_bytes())?;
        }
        if header > 0 {
            if to.remaining() < header {
                return Err(Errno::EINVAL);
            }
            to.write_bytes(VirtioNetHeader::new_zeroed().as_bytes())?;
            to.write_zeros(surplus(header))?;
        }
        to.write_bytes(packet.bytes())?;
        Ok(total.min(room))
    }

    /// Takes what is in front of a packet: its protocol, if that is said there, and what is to be done with it.
    fn take_headers(tun: &Tun, from: &mut dyn IoReader) -> Result<(Option<u16>, VirtioNetHeader)> {
        let mut information = PacketInformation::default();
        let mut header = VirtioNetHeader::default();
        let says_protocol = !tun.has(IFF_NO_PI);
        if says_protocol {
            from.read_exact(information.as_mut_bytes())?;
        }
        if tun.has(IFF_VNET_HDR) {
            let length = tun.header_length.load(Ordering::Relaxed) as usize;
            if from.remaining() < length {
                return Err(Errno::EINVAL);
            }
            from.read_exact(header.as_mut_bytes())?;
            let mut rest = [0; 256];
            from.read_exact(rest.get_mut(..surplus(length)).ok_or(Errno::EINVAL)?)?;
            if usize::from(header.hdr_len) > from.remaining() {
                return Err(Errno::EINVAL);
            }
        }
        Ok((says_protocol.then(|| u16::from_be(information.proto)), header))
    }

    /// The packet that a program wrote, its bytes at its network header.
    fn packet(device: &NetDevice, tun: &Tun, from: &mut dyn IoReader) -> Result<Packet> {
        let (protocol, header) = TunFile::take_headers(tun, from)?;
        let length = from.remaining();
        if tun.is_tap && length < abi::packet::ETH_HLEN {
            return Err(Errno::EINVAL);
        }
        if length > PACKET_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = alloc::vec::Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(length, 0);
        from.read_exact(&mut bytes)?;
        complete(&mut bytes, &header)?;
        let mut packet = Packet::with_room(HEAD_ROOM, length)?;
        packet.append(&bytes)?;
        packet.mark_link_header();
        if tun.is_tap {
            packet.kind = veth::kind_of(packet.bytes(), device);
            let header = packet.pull(abi::packet::ETH_HLEN).ok_or(Errno::EINVAL)?;
            packet.protocol = u16::from_be_bytes([header[12], header[13]]);
        } else {
            packet.kind = PacketKind::Host;
            packet.protocol = match (protocol, packet.bytes().first().map(|byte| byte >> 4)) {
                (Some(protocol), _) => protocol,
                (None, Some(4)) => TYPE_IPV4,
                (None, Some(6)) => TYPE_IPV6,
                _ => return Err(dropped(device, Errno::EINVAL)),
            };
        }
        packet.mark_network_header();
        Ok(packet)
    }
}

/// Counts a packet that cannot go in, and gives the reason.
fn dropped(device: &NetDevice, reason: Errno) -> Errno {
    device.statistics.count(Counted::ReceiveDropped, 0);
    reason
}

/// Does what the header asks for. `EINVAL`: it lies, or the packet would have to be segmented.
fn complete(bytes: &mut [u8], header: &VirtioNetHeader) -> Result<()> {
    if header.gso_type != VIRTIO_NET_HDR_GSO_NONE {
        return Err(Errno::EINVAL);
    }
    if header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM == 0 {
        return Ok(());
    }
    let counted = bytes.get_mut(usize::from(header.csum_start)..).ok_or(Errno::EINVAL)?;
    // The field holds the sum of the pseudo header.
    let sum = checksum(counted);
    let place = usize::from(header.csum_offset);
    let field = counted.get_mut(place..place + 2).ok_or(Errno::EINVAL)?;
    // In UDP a sum of 0 would say that there is none.
    field.copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    Ok(())
}

impl FileOperations for TunFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        let device = self.queue.device()?;
        let tun = device.operations_as::<Tun>().ok_or(Errno::EBADFD)?;
        if to.remaining() == 0 {
            return Ok(0);
        }
        let packet = self.queue.take(file.is_nonblocking())?;
        let given = self.give(tun, &packet, to)?;
        device.statistics.count(Counted::Sent, packet.len());
        Ok(given)
    }

    fn write(&self, _file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        let device = self.queue.device()?;
        let tun = device.operations_as::<Tun>().ok_or(Errno::EBADFD)?;
        let total = from.remaining();
        let packet = TunFile::packet(&device, tun, from)?;
        if !device.is_up() {
            return Err(dropped(&device, Errno::EIO));
        }
        device.statistics.count(Counted::Received, packet.from_link_header().len());
        traffic::loop_back(&device, packet);
        Ok(total)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        control::ioctl(self, command, argument)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(&self.queue.changed);
        let Ok(device) = self.queue.device() else { return PollEvents::ERR };
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, !self.queue.is_empty());
        events.set(PollEvents::WRITABLE, device.is_up());
        events
    }

    /// Leaves the device, which goes with its last descriptor unless it is persistent.
    fn release(&self, _file: &File) {
        let Ok(device) = self.queue.device() else { return };
        let goes = rtnl::with_pair(&device, &[], |rtnl| {
            let tun = device.operations_as::<Tun>()?;
            let is_last = tun.detach(&self.queue);
            if is_last {
                change::carrier_off(rtnl, &device);
            }
            change::state_changed(rtnl, &device);
            let goes = is_last && !tun.has(IFF_PERSIST);
            tun.is_closing.store(goes, Ordering::Relaxed);
            goes.then_some(())
        });
        if goes.flatten().is_some() {
            let _ = registry::destroy(&device, &crate::netlink::Origin::default());
        }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let device = self.queue.device();
        match &device {
            Ok(device) => writeln!(out, "iff:\t{}", device.name()),
            Err(_) => writeln!(out, "iff:\t"),
        }
    }
}
