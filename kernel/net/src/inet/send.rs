//! Sending: where a message goes, what its control messages say, and collecting the parts of a corked one.
//!
//! Key types: [`Plan`] (how one message goes), [`Corked`] (parts that wait for the last). Locks: the cork (sleeping) is held while a
//! message is taken from the program.

use abi::errno::{Errno, Result};
use abi::inet::*;
use abi::socket::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::wire::ipv4_options::{Asked, Bytes, MOST, Surroundings};
use machine::memory::try_arc;
use machine::sync::atomic::Ordering;
use security::Capability;
use zerocopy::FromBytes;

use super::address::{Endpoint, Given, from_octets, needs_scope, parse};
use super::bind;
use super::errors::{self, Trouble};
use super::network::{self, Aim, HEADER_V4, HEADER_V6, Manner, Way};
use super::settings::Flag;
use super::socket::{InetSocket, Transport};
use super::{ping, raw, udp};
use crate::account::{self, SendCharge};
use crate::message::{ControlMessage, MessageFlags, SendMessage};
use crate::options::Switches;
use crate::packet::{HEAD_ROOM, Packet};

/// Bytes of the largest IP packet.
pub const PACKET_MAX: usize = 65_535;
/// Room in front of a packet for the headers below (more is made for one with many options).
const ROOM: usize = HEAD_ROOM + HEADER_V6;

/// How one message goes.
#[derive(Clone)]
pub struct Plan {
    /// The route.
    pub way: Way,
    /// Where to.
    pub remote: Endpoint,
    /// What its header says.
    pub manner: Manner,
    /// Options of IPv4.
    pub options: Option<Arc<Asked>>,
    /// SO_MARK.
    pub mark: u32,
    /// SO_PRIORITY.
    pub priority: u32,
    /// UDP_SEGMENT: bytes of each of the messages that it is cut into; 0: it is one.
    pub segment: usize,
    /// Whether cutting it was forbidden for this message (IPV6_DONTFRAG).
    pub wants_whole: bool,
}

impl Plan {
    /// Bytes of the IP header.
    fn header(&self) -> usize {
        match self.remote.address {
            IpAddr::V4(_) => HEADER_V4 + self.options.as_ref().map_or(0, |options| options.length()),
            IpAddr::V6(_) => HEADER_V6,
        }
    }
}

/// Parts of a message that wait for the last one.
pub struct Corked {
    plan: Plan,
    bytes: Vec<u8>,
}

/// What control messages say.
#[derive(Default)]
struct Said {
    source: Option<IpAddr>,
    device: i32,
    hop_limit: Option<u8>,
    traffic_class: Option<u8>,
    mark: Option<u32>,
    priority: Option<u32>,
    segment: Option<usize>,
    dont_fragment: Option<bool>,
    flow: Option<u32>,
    options: Option<Arc<Asked>>,
}

fn number(data: &[u8]) -> Result<i32> {
    let chunk: &[u8; 4] = data.try_into().map_err(|_| Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(*chunk))
}

/// What the control messages of a message to an address of a family say. `EINVAL`: malformed, or not one of these; `EPERM`.
fn read_control(socket: &InetSocket, is_v4: bool, messages: &[ControlMessage]) -> Result<Said> {
    let mut said = Said::default();
    for one in messages {
        match (one.level as u32, one.kind as u32) {
            (SOL_SOCKET, SO_MARK) => {
                if !socket.may(Capability::NetRaw) && !socket.may(Capability::NetAdmin) {
                    return Err(Errno::EPERM);
                }
                said.mark = Some(number(&one.data)? as u32);
            }
            (SOL_SOCKET, SO_PRIORITY) => said.priority = Some(number(&one.data)? as u32),
            // Looked at by those who make transmit timestamps, which nobody does.
            (SOL_SOCKET, SO_TIMESTAMPING | SCM_RIGHTS | SCM_CREDENTIALS) => {}
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            (SOL_UDP, UDP_SEGMENT) if socket.transport() == Transport::Udp => {
                let size: &[u8; 2] = one.data.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
                said.segment = Some(usize::from(u16::from_ne_bytes(*size)));
            }
            (SOL_UDP, _) if socket.transport() == Transport::Udp => return Err(Errno::EINVAL),
            (SOL_IP, kind) if is_v4 => read_v4(socket, kind, &one.data, &mut said)?,
            (SOL_IPV6, kind) if !is_v4 => read_v6(socket, kind, &one.data, &mut said)?,
            (SOL_IPV6, IPV6_PKTINFO) if is_v4 && socket.is_v6() => read_mapped(&one.data, &mut said)?,
            // Another level's is not ours to judge.
            _ => {}
        }
    }
    Ok(said)
}

fn read_v4(socket: &InetSocket, kind: u32, data: &[u8], said: &mut Said) -> Result<()> {
    match kind {
        IP_PKTINFO => {
            let info = InPktinfo::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
            if info.ipi_ifindex != 0 {
                said.device = info.ipi_ifindex;
            }
            let source = Ipv4Addr::from(info.ipi_spec_dst);
            said.source = Some(IpAddr::V4(source)).filter(|source| !source.is_unspecified());
        }
        abi::inet::IP_TTL => {
            let ttl = number(data)?;
            said.hop_limit = Some(u8::try_from(ttl).ok().filter(|ttl| *ttl > 0).ok_or(Errno::EINVAL)?);
        }
        IP_TOS => {
            let tos = if let [tos] = data { i32::from(*tos) } else { number(data)? };
            said.traffic_class = Some(u8::try_from(tos).map_err(|_| Errno::EINVAL)?);
        }
        IP_RETOPTS => said.options = network::ip_options(socket, &data[..data.len().min(MOST)])?,
        // Only packets with their header could have another.
        IP_PROTOCOL => {
            let protocol = number(data)?;
            if !(1..263).contains(&protocol) {
                return Err(Errno::EINVAL);
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// An IPv6 packet information about an IPv4 message. `EINVAL`: not a mapped address.
fn read_mapped(data: &[u8], said: &mut Said) -> Result<()> {
    let (info, _) = In6Pktinfo::read_from_prefix(data).map_err(|_| Errno::EINVAL)?;
    let IpAddr::V4(source) = from_octets(info.ipi6_addr) else { return Err(Errno::EINVAL) };
    if info.ipi6_ifindex != 0 {
        said.device = info.ipi6_ifindex;
    }
    said.source = Some(IpAddr::V4(source)).filter(|source| !source.is_unspecified());
    Ok(())
}

fn read_v6(socket: &InetSocket, kind: u32, data: &[u8], said: &mut Said) -> Result<()> {
    match kind {
        IPV6_PKTINFO | IPV6_2292PKTINFO => {
            let (info, _) = In6Pktinfo::read_from_prefix(data).map_err(|_| Errno::EINVAL)?;
            let bound = socket.core().options.bound_interface();
            if info.ipi6_ifindex != 0 {
                if bound != 0 && bound != info.ipi6_ifindex {
                    return Err(Errno::EINVAL);
                }
                let devices = socket.core().namespace().devices();
                devices.by_index(info.ipi6_ifindex).ok_or(Errno::ENODEV)?;
                said.device = info.ipi6_ifindex;
            }
            let source = Ipv6Addr::from(info.ipi6_addr);
            if !source.is_unspecified() {
                if needs_scope(source.into()) && said.device == 0 && bound == 0 {
                    return Err(Errno::EINVAL);
                }
                network::check_source(socket, source.into(), said.device)?;
                said.source = Some(source.into());
            }
        }
        IPV6_HOPLIMIT | IPV6_2292HOPLIMIT => {
            let hops = number(data)?;
            said.hop_limit =
                if hops == -1 { None } else { Some(u8::try_from(hops).map_err(|_| Errno::EINVAL)?) };
        }
        IPV6_TCLASS => {
            let class = number(data)?;
            if !(-1..=255).contains(&class) {
                return Err(Errno::EINVAL);
            }
            // Linux takes -1, which should leave it to the socket, as all ones.
            said.traffic_class = Some(class as u8);
        }
        IPV6_DONTFRAG => {
            said.dont_fragment = Some(match number(data)? {
                0 => false,
                1 => true,
                _ => return Err(Errno::EINVAL),
            });
        }
        IPV6_FLOWINFO => said.flow = Some(u32::from_be(number(data)? as u32) & 0xf_ffff),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Where a message goes: its address, or where the socket is connected to.
/// `EDESTADDRREQ`: neither; `EINVAL`: no port; `EAFNOSUPPORT`, `ENETUNREACH`: an IPv4 address on a socket of IPv6 only.
fn target(socket: &InetSocket, message: &SendMessage<'_>) -> Result<Endpoint> {
    let needs_port = socket.transport() == Transport::Udp;
    if message.address.is_none() {
        return socket.endpoints().remote.ok_or(Errno::EDESTADDRREQ);
    }
    let is_udp6 = socket.is_v6() && needs_port;
    let parsed = parse(socket.core().family(), &message.address);
    let foreign = |error| if is_udp6 && error == Errno::EAFNOSUPPORT { Errno::EINVAL } else { error };
    let given = match parsed.map_err(foreign)? {
        Given::Endpoint(endpoint) => endpoint,
        // The family of an IPv4 address may be left out; an IPv6 one is then no address at all.
        Given::Unspecified if socket.is_v6() => {
            return socket.endpoints().remote.ok_or(Errno::EDESTADDRREQ);
        }
        Given::Unspecified => {
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(message.address.as_bytes()).for_each(|(place, byte)| *place = *byte);
            bytes[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
            match parse(AF_INET as u16, &crate::message::SocketAddress::new(&bytes)?)? {
                Given::Endpoint(endpoint) => endpoint,
                Given::Unspecified => return Err(Errno::EINVAL),
            }
        }
    };
    if needs_port && given.port == 0 {
        return Err(Errno::EINVAL);
    }
    if !needs_port && socket.is_v6() {
        check_v6_target(socket, message, &given)?;
    }
    if socket.is_v6() && given.address.is_ipv4() && socket.settings().has(Flag::V6_ONLY) {
        return Err(Errno::ENETUNREACH);
    }
    let mut given = given;
    if given.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        given.address = IpAddr::V6(Ipv6Addr::LOCALHOST);
    }
    Ok(given)
}

/// Raw and echo sockets of IPv6 speak no IPv4; a raw one's port, if there is one, is its protocol.
fn check_v6_target(socket: &InetSocket, message: &SendMessage<'_>, given: &Endpoint) -> Result<()> {
    let is_raw = socket.transport() == Transport::Raw;
    if message.address.family().map(u32::from) == Some(AF_INET) {
        return Err(Errno::EINVAL);
    }
    if given.address.is_ipv4() {
        return Err(if is_raw { Errno::ENETUNREACH } else { Errno::EINVAL });
    }
    let is_protocol = given.port == 0 || given.port == u16::from(socket.protocol());
    if is_raw && !is_protocol && socket.protocol() != IPPROTO_RAW {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Makes the plan of a message.
fn plan(socket: &Arc<InetSocket>, message: &SendMessage<'_>) -> Result<Plan> {
    let remote = target(socket, message)?;
    let is_v4 = remote.address.is_ipv4();
    let said = read_control(socket, is_v4, &message.ancillary.others)?;
    let settings = socket.settings();
    if socket.transport() != Transport::Raw {
        bind::ensure_bound(socket)?;
    }
    let mut aim = Aim::connecting(socket, &remote);
    if let Some((source, device)) = settings.more.lock().sticky.filter(|_| !is_v4) {
        aim.source = Some(IpAddr::V6(source)).filter(|source| !source.is_unspecified()).or(aim.source);
        aim.device = if device != 0 { device } else { aim.device };
    }
    aim.source = said.source.or(aim.source);
    if said.device != 0 {
        aim.device = said.device;
    }
    aim.tos = said.traffic_class.unwrap_or(aim.tos);
    aim.mark = said.mark.unwrap_or(aim.mark);
    let options = said.options.or_else(|| settings.ip_options.lock().clone()).filter(|_| is_v4);
    if let Some(hop) = options.as_ref().and_then(|options| options.first_hop()) {
        aim.destination = hop.into();
    }
    let way = Way::find(socket, &aim)?;
    if way.is_broadcast() && !socket.core().options.has(Switches::BROADCAST) {
        return Err(Errno::EACCES);
    }
    let flow = match remote.flow & 0xf_ffff {
        given if settings.has(Flag::V6_FLOW_INFO_SEND) && given != 0 => given,
        _ if settings.has(Flag::V6_AUTO_FLOW_LABEL) && !is_v4 => network::flow_label_for(&way, &aim),
        _ => 0,
    };
    let manner = Manner {
        hop_limit: said.hop_limit,
        traffic_class: aim.tos,
        flow_label: said.flow.unwrap_or(flow),
        dont_fragment: false,
        protocol: socket.protocol(),
    };
    let wants_whole = !is_v4 && said.dont_fragment.unwrap_or(settings.has(Flag::V6_DONT_FRAGMENT));
    Ok(Plan {
        way,
        remote,
        manner,
        options,
        mark: aim.mark,
        priority: said.priority.unwrap_or(socket.core().options.priority() as u32),
        segment: said.segment.unwrap_or(settings.segment.load(Ordering::Relaxed) as usize),
        wants_whole,
    })
}

/// sendmsg(2).
///
/// Errors: `EMSGSIZE`, `EOPNOTSUPP`, `EDESTADDRREQ`, `EINVAL`, `EAFNOSUPPORT`, `EACCES`: broadcast; `EPIPE`, `EAGAIN`, `EINTR`, `EFAULT`,
/// `ENOBUFS`, those of routing, and the pending error.
pub fn send(socket: &Arc<InetSocket>, message: &mut SendMessage<'_>) -> Result<usize> {
    let length = message.data.remaining();
    // UDP and raw sockets of IPv6 find it out later, and tell of it.
    if length > PACKET_MAX && (!socket.is_v6() || socket.transport() == Transport::Ping) {
        return Err(Errno::EMSGSIZE);
    }
    // UDP of IPv6 does not look at it.
    let looks = !(socket.is_v6() && socket.transport() == Transport::Udp);
    if looks && message.flags.contains(MessageFlags::OOB) {
        return Err(Errno::EOPNOTSUPP);
    }
    let is_udp = socket.transport() == Transport::Udp;
    let more = is_udp && (message.flags.contains(MessageFlags::MORE) || socket.settings().has(Flag::CORK));
    let mut cork = socket.cork.lock();
    if socket.transport() == Transport::Ping {
        ping::check_length(length)?;
    }
    // What was collected is lost if the next part fails (`udp_flush_pending_frames`).
    let corked = cork.take();
    let is_first = corked.is_none();
    let Corked { plan, mut bytes } = match corked {
        Some(corked) => corked,
        None => Corked { plan: plan(socket, message)?, bytes: Vec::new() },
    };
    check_state(socket, &plan)?;
    let is_probe = message.flags.contains(MessageFlags::from_bits_retain(MSG_PROBE));
    if is_first && is_probe {
        // It only asks whether there is a way.
        return Ok(length);
    }
    if !is_probe {
        check_total(socket, &plan, bytes.len() + length)?;
        wait_for_room(socket, message)?;
    }
    if is_first && !more && !is_cut(socket, &plan, length) {
        drop(cork);
        let mut packet = empty_packet(socket, &plan, length)?;
        packet.append_with(length, |place| read_into(message, place))?;
        transmit_packet(socket, &plan, packet)?;
        return Ok(length);
    }
    if !is_probe {
        let start = bytes.len();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(start + length, 0);
        read_into(message, bytes.get_mut(start..).unwrap_or_default())?;
    }
    if more {
        *cork = Some(Corked { plan, bytes });
        return Ok(length);
    }
    drop(cork);
    transmit(socket, &plan, &bytes)?;
    Ok(length)
}

/// `EPIPE`: it was shut down; a noted error. Raw packets whose header the kernel writes go out whatever there is to tell
/// (`__ip_append_data` asks where a transport has a header only): of many that are sent at once some may have been answered already.
fn check_state(socket: &InetSocket, plan: &Plan) -> Result<()> {
    let is_v4 = plan.remote.address.is_ipv4();
    if socket.transport() == Transport::Raw && !raw::includes_header(socket, is_v4) {
        return Ok(());
    }
    if socket.core().is_send_shut() {
        return Err(Errno::EPIPE);
    }
    socket.core().check_error()
}

/// Sends what was corked.
pub fn uncork(socket: &Arc<InetSocket>) -> Result<()> {
    let corked = socket.cork.lock().take();
    match corked {
        Some(corked) => transmit(socket, &corked.plan, &corked.bytes),
        None => Ok(()),
    }
}

fn read_into(message: &mut SendMessage<'_>, place: &mut [u8]) -> Result<()> {
    message.data.read_exact(place).map_err(|error| if error == Errno::EINVAL { Errno::EFAULT } else { error })
}

/// Bytes of the transport header that is put in front of what a program gives.
fn transport_header(socket: &InetSocket) -> usize {
    match socket.transport() {
        Transport::Udp => udp::HEADER,
        Transport::Ping | Transport::Raw => 0,
    }
}

/// `EMSGSIZE`: more than a packet holds, or than may go in one piece, of which those who want to know are told.
fn check_total(socket: &Arc<InetSocket>, plan: &Plan, length: usize) -> Result<()> {
    let is_v4 = plan.remote.address.is_ipv4();
    let whole = length + transport_header(socket);
    let header = plan.header();
    let most = if is_v4 { PACKET_MAX - header } else { PACKET_MAX };
    let one = match plan.segment {
        0 => whole,
        segment => whole.min(segment + transport_header(socket)),
    };
    let checked = if raw::includes_header(socket, is_v4) {
        // Nobody cuts what has its header already.
        let mtu = plan.way.device_mtu();
        if length > mtu as usize { Err(mtu) } else { Ok(()) }
    } else if whole > most {
        Err(plan.way.mtu())
    } else {
        network::check_size(socket, &plan.way, one + header, plan.wants_whole).map(drop)
    };
    checked.map_err(|mtu| {
        // IPv4 tells the port only of what is connected.
        let mut remote = plan.remote;
        if is_v4 {
            remote.port = socket.endpoints().remote.map_or(0, |remote| remote.port);
        }
        let origin = SO_EE_ORIGIN_LOCAL;
        let trouble =
            Trouble { errno: Errno::EMSGSIZE, origin, kind: 0, code: 0, info: mtu, is_fatal: false };
        errors::report(socket, &trouble, None, remote, &[], 0);
        Errno::EMSGSIZE
    })
}

fn wait_for_room(socket: &InetSocket, message: &SendMessage<'_>) -> Result<()> {
    let core = socket.core();
    if account::has_send_room(core) {
        return Ok(());
    }
    if message.is_nonblocking() {
        return Err(Errno::EAGAIN);
    }
    let ready = || {
        if core.is_send_shut() {
            return Some(Err(Errno::EPIPE));
        }
        account::has_send_room(core).then_some(Ok(()))
    };
    core.wait(core.writable(), core.options.send_deadline(), ready)?
}

/// A packet that will have so many bytes, charged to the socket, with room for headers. `ENOBUFS`.
fn empty_packet(socket: &InetSocket, plan: &Plan, length: usize) -> Result<Packet> {
    let mut packet = Packet::with_room(ROOM, length).map_err(|_| Errno::ENOBUFS)?;
    let cost = account::packet_cost(plan.header() + transport_header(socket), length);
    let charge = SendCharge::new(socket.core(), cost);
    packet.charge = Some(try_arc(charge)?);
    (packet.mark, packet.priority) = (plan.mark, plan.priority);
    Ok(packet)
}

/// Whether bytes go as several messages of one size.
fn is_cut(socket: &InetSocket, plan: &Plan, length: usize) -> bool {
    plan.segment != 0 && length > plan.segment && socket.transport() == Transport::Udp
}

/// Sends bytes as one message, or as several of one size.
fn transmit(socket: &Arc<InetSocket>, plan: &Plan, bytes: &[u8]) -> Result<()> {
    /// `UDP_MAX_SEGMENTS`.
    const SEGMENTS_MAX: usize = 128;
    if !is_cut(socket, plan, bytes.len()) {
        return transmit_bytes(socket, plan, bytes);
    }
    if bytes.len() > plan.segment * SEGMENTS_MAX {
        return Err(Errno::EINVAL);
    }
    bytes.chunks(plan.segment).try_for_each(|part| transmit_bytes(socket, plan, part))
}

fn transmit_bytes(socket: &Arc<InetSocket>, plan: &Plan, bytes: &[u8]) -> Result<()> {
    let mut packet = empty_packet(socket, plan, bytes.len())?;
    packet.append(bytes).map_err(|_| Errno::ENOBUFS)?;
    transmit_packet(socket, plan, packet)
}

fn transmit_packet(socket: &Arc<InetSocket>, plan: &Plan, packet: Packet) -> Result<()> {
    let sent = match socket.transport() {
        Transport::Udp => udp::transmit(socket, plan, packet),
        Transport::Ping => ping::transmit(socket, plan, packet),
        Transport::Raw => raw::transmit(socket, plan, packet),
    };
    // What is lost on this machine is lost as on the way, but for those who want to know.
    match sent {
        Err(Errno::ENOBUFS) if !socket.settings().wants_errors(plan.remote.address.is_ipv4()) => Ok(()),
        other => other,
    }
}

/// Sends a packet as planned; `total` is its length with the IP header.
pub(super) fn finish(socket: &Arc<InetSocket>, plan: &Plan, packet: Packet) -> Result<()> {
    let total = packet.len() + plan.header();
    let checked = network::check_size(socket, &plan.way, total, plan.wants_whole);
    let dont_fragment = checked.map_err(|_| Errno::EMSGSIZE)?;
    let manner = Manner { dont_fragment, ..plan.manner };
    let options = match (&plan.options, plan.remote.address, plan.way.source()) {
        (Some(asked), IpAddr::V4(destination), IpAddr::V4(own)) => {
            let time_ms = crate::ip::options::milliseconds();
            asked.fill(destination, &Surroundings { own, time_ms, is_elsewhere: &|_| false })
        }
        _ => Bytes::new(),
    };
    plan.way.send(socket, &manner, &options, packet)
}
