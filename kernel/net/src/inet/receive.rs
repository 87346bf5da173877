//! Receiving: what waits for an Internet socket, and what a program is told about it.
//!
//! Key type: [`Datagram`]. Locks: the queue's, a leaf.

use abi::errno::{Errno, Result};
use abi::inet::*;
use abi::socket::*;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::bpf;
use linnet_lib::wire::ipv4::Ipv4;
use machine::memory::try_arc;
use zerocopy::IntoBytes;

use super::address::{Endpoint, octets};
use super::errors;
use super::network::{self, Received};
use super::settings::Flag;
use super::socket::{InetSocket, Transport, copy};
use crate::account::{ReceiveCharge, packet_cost};
use crate::message::{ControlMessage, MessageFlags, ReceiveMessage};
use crate::options::Switches;
use crate::packet::Packet;
use crate::queue::Message;

/// A message in a socket's queue.
pub struct Datagram {
    packet: Packet,
    /// How much of it is kept, from its first byte on.
    length: usize,
    about: About,
    _charge: ReceiveCharge,
}

/// What is known of a message besides its bytes.
#[derive(Clone, Copy)]
pub struct About {
    /// From where.
    pub source: Endpoint,
    /// Where to.
    pub destination: Endpoint,
    /// The interface it came through.
    pub device: i32,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// When (nanoseconds since 1970).
    pub time_ns: u64,
    /// SO_MARK of the packet.
    pub mark: u32,
    /// SO_PRIORITY of the packet.
    pub priority: u32,
    /// Whether the socket wanted to be told of the interface when it was received (`ipv4_pktinfo_prepare`).
    pub has_interface: bool,
}

impl About {
    /// Of a packet that came in between these ports.
    pub fn new(packet: &Packet, received: &Received, ports: (u16, u16)) -> About {
        let mut source = Endpoint::new(received.source, ports.0);
        let device = received.device.index();
        if super::address::needs_scope(source.address) {
            source.scope = device as u32;
        }
        let flow_label = network::flow_label(packet, received);
        source.flow = flow_label | u32::from(received.traffic_class) << 20;
        About {
            source,
            destination: Endpoint::new(received.destination, ports.1),
            device,
            hop_limit: received.hop_limit,
            traffic_class: received.traffic_class,
            time_ns: sched::clock::realtime_ns(),
            mark: packet.mark,
            priority: packet.priority,
            has_interface: true,
        }
    }
}

impl Message for Datagram {
    fn length(&self) -> usize {
        self.length
    }
}

impl Datagram {
    fn bytes(&self) -> &[u8] {
        self.packet.bytes().get(..self.length).unwrap_or_default()
    }
}

/// A packet as a socket filter sees it: from the transport header on.
struct Filtered<'a>(&'a Packet);

impl bpf::Packet for Filtered<'_> {
    fn length(&self) -> u32 {
        self.0.len() as u32
    }

    fn load(&self, region: bpf::Region, offset: u32, into: &mut [u8]) -> bool {
        let from = match region {
            bpf::Region::Start => self.0.bytes(),
            bpf::Region::Network => self.0.from_network_header(),
            bpf::Region::Link => self.0.from_link_header(),
        };
        let found = from.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
        if let Some(bytes) = found {
            into.copy_from_slice(bytes);
        }
        found.is_some()
    }
}

/// Gives a socket a packet, whose bytes begin with its transport header, of which the first `header` bytes are not for the program.
/// Preemption may be off. Whether it was taken; what is not is counted as dropped.
pub fn deliver(socket: &Arc<InetSocket>, packet: &Packet, header: usize, about: &About) -> bool {
    let core = socket.core();
    let mut kept = packet.len();
    if let Some(filter) = core.filter() {
        kept = match filter.run(&Filtered(packet)) {
            0 => {
                core.count_drop();
                return false;
            }
            some => some.clamp(header, kept.max(header)),
        };
    }
    let data = packet.len().saturating_sub(header);
    let cost = packet_cost(packet.from_network_header().len().saturating_sub(data), data);
    let charged = match socket.transport {
        Transport::Udp => ReceiveCharge::try_within(core, cost),
        Transport::Ping | Transport::Raw => ReceiveCharge::try_new(core, cost),
    };
    let Some(charge) = charged else { return false };
    let mut packet = packet.clone();
    // What waits here holds neither a device nor its sender's buffer.
    (packet.device, packet.charge) = (None, None);
    if packet.pull(header).is_none() {
        return false;
    }
    let has_interface = about.destination.address.is_ipv6()
        || socket.settings.has_any(Flag::PACKET_INFO | Flag::V6_PACKET_INFO | Flag::V6_OLD_PACKET_INFO);
    let about = About { has_interface, ..*about };
    let datagram = Datagram { packet, length: kept - header, about, _charge: charge };
    let queued = try_arc(datagram).map_err(Errno::from).and_then(|one| socket.queue.push(one, |_| Ok(())));
    if queued.is_err() {
        core.count_drop();
        return false;
    }
    core.wake_readers();
    true
}

/// recvmsg(2).
///
/// Errors: `EAGAIN`, `EINTR`, `EFAULT`, `EOPNOTSUPP`: urgent data; a pending error.
pub fn receive(socket: &Arc<InetSocket>, message: &mut ReceiveMessage<'_>) -> Result<usize> {
    if message.flags.contains(MessageFlags::ERRQUEUE) {
        return errors::receive(socket, message);
    }
    if message.flags.contains(MessageFlags::OOB) && socket.transport != Transport::Udp {
        return Err(Errno::EOPNOTSUPP);
    }
    let peeking = message.flags.contains(MessageFlags::PEEK);
    let (datagram, skip) = first(socket, message, peeking)?;
    let bytes = datagram.bytes().get(skip..).unwrap_or_default();
    let wanted = bytes.len().min(message.data.remaining());
    if wanted > 0 && message.data.write_bytes(&bytes[..wanted])? < wanted {
        return Err(Errno::EFAULT);
    }
    if wanted < bytes.len() {
        message.answer_flags |= MessageFlags::TRUNC;
    }
    let options = &socket.core().options;
    if peeking {
        options.note_peeked(wanted);
    } else {
        options.note_read(wanted);
    }
    let mut source = datagram.about.source;
    if !socket.settings.has(Flag::V6_FLOW_INFO) {
        source.flow = 0;
    }
    message.address = source.to_socket_address(socket.core().family());
    tell(socket, &datagram, message)?;
    Ok(if message.flags.contains(MessageFlags::TRUNC) { bytes.len() } else { wanted })
}

/// The message to be read, taken unless it is only looked at; how much of it to leave out.
fn first(
    socket: &Arc<InetSocket>,
    message: &ReceiveMessage<'_>,
    peeking: bool,
) -> Result<(Arc<Datagram>, usize)> {
    let core = socket.core();
    let options = &core.options;
    let find = || {
        if let Err(error) = core.check_error() {
            return Some(Err(error));
        }
        let found = if peeking {
            let offset = usize::try_from(options.peek_offset()).unwrap_or(0);
            peek(socket, offset)
        } else {
            socket.queue.pop().map(|datagram| (datagram, 0))
        };
        match found {
            Some(found) => Some(Ok(found)),
            None => core.is_receive_shut().then_some(Err(Errno::ESHUTDOWN)),
        }
    };
    match find() {
        // Who does not wait is not told that nothing more comes.
        Some(Err(Errno::ESHUTDOWN)) | None if message.is_nonblocking() => Err(Errno::EAGAIN),
        Some(found) => found,
        None => core.wait_exclusive(core.readable(), options.receive_deadline(), find)?,
    }
}

/// The message that a peek with an offset starts in.
fn peek(socket: &InetSocket, mut offset: usize) -> Option<(Arc<Datagram>, usize)> {
    let mut place = 0;
    loop {
        let datagram = socket.queue.get(place)?;
        let length = datagram.length();
        if offset < length || (offset == 0 && length == 0) {
            return Some((datagram, offset));
        }
        offset -= length;
        place += 1;
    }
}

/// Adds a control message. `ENOMEM`.
pub(super) fn add(message: &mut ReceiveMessage<'_>, level: u32, kind: u32, bytes: &[u8]) -> Result<()> {
    let data = copy(bytes)?;
    let others = &mut message.ancillary.others;
    others.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    others.push(ControlMessage { level: level as i32, kind: kind as i32, data });
    Ok(())
}

/// The control messages that the program asked for, in Linux's order.
fn tell(socket: &Arc<InetSocket>, datagram: &Datagram, message: &mut ReceiveMessage<'_>) -> Result<()> {
    let core = socket.core();
    let about = &datagram.about;
    crate::timestamp::add(core, about.time_ns, &mut message.ancillary)?;
    let drops = core.drops();
    if core.options.has(Switches::RXQ_OVFL) && drops > 0 {
        add(message, SOL_SOCKET, SO_RXQ_OVFL, drops.as_bytes())?;
    }
    if core.options.has(Switches::RCVMARK) {
        add(message, SOL_SOCKET, SO_MARK, about.mark.as_bytes())?;
    }
    if core.options.has(Switches::RCVPRIORITY) {
        add(message, SOL_SOCKET, SO_PRIORITY, about.priority.as_bytes())?;
    }
    tell_about(socket, about, &datagram.packet, message)
}

/// The control messages of IP and IPv6 about a packet.
fn tell_about(
    socket: &Arc<InetSocket>,
    about: &About,
    packet: &Packet,
    message: &mut ReceiveMessage<'_>,
) -> Result<()> {
    if socket.is_v6() {
        tell_v6_info(socket, about, message)?;
    }
    match about.destination.address {
        IpAddr::V4(destination) => tell_v4(socket, about, packet, destination, message),
        IpAddr::V6(_) => tell_v6(socket, about, message),
    }
}

fn tell_v4(
    socket: &Arc<InetSocket>,
    about: &About,
    packet: &Packet,
    destination: Ipv4Addr,
    message: &mut ReceiveMessage<'_>,
) -> Result<()> {
    let settings = &socket.settings;
    if settings.has(Flag::PACKET_INFO) {
        let mut info = InPktinfo { ipi_addr: destination.octets(), ..InPktinfo::default() };
        if about.has_interface {
            info.ipi_ifindex = about.device;
            info.ipi_spec_dst = network::own_address(socket.core().namespace().state(), about).octets();
        }
        add(message, SOL_IP, IP_PKTINFO, info.as_bytes())?;
    }
    if settings.has(Flag::RECEIVE_TTL) {
        add(message, SOL_IP, abi::inet::IP_TTL, i32::from(about.hop_limit).as_bytes())?;
    }
    if settings.has(Flag::RECEIVE_TOS) {
        add(message, SOL_IP, IP_TOS, &[about.traffic_class])?;
    }
    if settings.has_any(Flag::RECEIVE_OPTIONS | Flag::RETURN_OPTIONS) {
        tell_options(socket, packet, message)?;
    }
    if settings.has(Flag::ORIGINAL_DESTINATION) {
        let address = about.destination.to_socket_address(AF_INET as u16);
        add(message, SOL_IP, IP_ORIGDSTADDR, address.as_bytes())?;
    }
    Ok(())
}

/// The options that a packet came with; those to answer with.
fn tell_options(socket: &Arc<InetSocket>, packet: &Packet, message: &mut ReceiveMessage<'_>) -> Result<()> {
    let Ok(header) = Ipv4::read_unchecked(packet.from_network_header()) else { return Ok(()) };
    if header.options.is_empty() {
        return Ok(());
    }
    if socket.settings.has(Flag::RECEIVE_OPTIONS) {
        add(message, SOL_IP, IP_RECVOPTS, header.options)?;
    }
    if socket.settings.has(Flag::RETURN_OPTIONS) {
        let asked = crate::ip::options::answer(socket.core().namespace().state(), header.options);
        add(message, SOL_IP, IP_RETOPTS, asked.as_ref().map_or(&[], |asked| asked.as_given()))?;
    }
    Ok(())
}

/// What AF_INET6 sockets are told of packets of both families.
fn tell_v6_info(socket: &Arc<InetSocket>, about: &About, message: &mut ReceiveMessage<'_>) -> Result<()> {
    let device = if about.has_interface { about.device } else { 0 };
    let info = In6Pktinfo { ipi6_addr: octets(about.destination.address), ipi6_ifindex: device };
    if socket.settings.has(Flag::V6_PACKET_INFO) {
        add(message, SOL_IPV6, IPV6_PKTINFO, info.as_bytes())?;
    }
    Ok(())
}

fn tell_v6(socket: &Arc<InetSocket>, about: &About, message: &mut ReceiveMessage<'_>) -> Result<()> {
    let settings = &socket.settings;
    let hop_limit = i32::from(about.hop_limit);
    if settings.has(Flag::V6_HOP_LIMIT) {
        add(message, SOL_IPV6, IPV6_HOPLIMIT, hop_limit.as_bytes())?;
    }
    if settings.has(Flag::V6_TRAFFIC_CLASS) {
        add(message, SOL_IPV6, IPV6_TCLASS, i32::from(about.traffic_class).as_bytes())?;
    }
    if settings.has(Flag::V6_FLOW_INFO) && about.source.flow != 0 {
        add(message, SOL_IPV6, IPV6_FLOWINFO, &about.source.flow.to_be_bytes())?;
    }
    if settings.has(Flag::V6_OLD_PACKET_INFO) {
        let info = In6Pktinfo { ipi6_addr: octets(about.destination.address), ipi6_ifindex: about.device };
        add(message, SOL_IPV6, IPV6_2292PKTINFO, info.as_bytes())?;
    }
    if settings.has(Flag::V6_OLD_HOP_LIMIT) {
        add(message, SOL_IPV6, IPV6_2292HOPLIMIT, hop_limit.as_bytes())?;
    }
    if settings.has(Flag::V6_ORIGINAL_DESTINATION) {
        let mut destination = about.destination;
        if super::address::needs_scope(destination.address) {
            destination.scope = about.device as u32;
        }
        let address = destination.to_socket_address(AF_INET6 as u16);
        add(message, SOL_IPV6, IPV6_ORIGDSTADDR, address.as_bytes())?;
    }
    Ok(())
}
