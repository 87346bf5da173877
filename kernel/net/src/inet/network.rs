//! What Internet sockets ask of the layer below: routes, addresses, sending.
//!
//! Key types: [`Aim`] (where a socket wants to send), [`Way`] (the route that was found for it). Locks: none.

use abi::errno::{Errno, Result};
use abi::inet::*;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::wire::Sum;
use linnet_lib::wire::ipv4_options::Asked;
use machine::memory::try_arc;
use machine::sync::Lazy;
use machine::sync::atomic::Ordering;
use security::Capability;

use super::address::{Endpoint, code, needs_scope};
use super::errors::{Trouble, meaning_of_icmp, meaning_of_icmp6};
use super::receive::About;
use super::settings::Flag;
use super::socket::InetSocket;
use crate::device::NetDevice;
pub use crate::ip::address::{AddressKind, kind_of};
use crate::ip::address::{inet6, select_source};
pub use crate::ip::input::{IcmpError, Received};
use crate::ip::output::{self, Header};
use crate::ip::route::{self, Flow, Route, RouteKind};
use crate::ip::sysctl;
use crate::namespace::NetState;
use crate::packet::Packet;

/// Bytes of an IPv4 header without options.
pub const HEADER_V4: usize = 20;
/// Bytes of an IPv6 header.
pub const HEADER_V6: usize = 40;

/// Whether sockets may be bound to addresses that are not there (`ip_nonlocal_bind`).
pub fn allows_foreign_binding(state: &NetState, address: IpAddr) -> bool {
    let which = if address.is_ipv4() { sysctl::NONLOCAL_BIND_4 } else { sysctl::NONLOCAL_BIND_6 };
    state.ip_number(which) != 0
}

/// Where a socket wants to send.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// Where to.
    pub destination: IpAddr,
    /// From where, if that is settled.
    pub source: Option<IpAddr>,
    /// Through which interface; 0: any.
    pub device: i32,
    /// TOS or traffic class.
    pub tos: u8,
    /// SO_MARK.
    pub mark: u32,
    /// Own port and the other side's.
    pub ports: (u16, u16),
}

impl Aim {
    /// As connect(2) means it: with what the socket is set to.
    pub fn connecting(socket: &InetSocket, remote: &Endpoint) -> Aim {
        let settings = socket.settings();
        let endpoints = socket.endpoints();
        let options = &socket.core().options;
        let is_v4 = remote.address.is_ipv4();
        let mut source = Some(endpoints.source).filter(|source| !source.is_unspecified());
        let mut device = options.bound_interface();
        if device == 0 && needs_scope(remote.address) {
            device = remote.scope as i32;
        }
        if remote.address.is_multicast() {
            if device == 0 {
                let chosen =
                    if is_v4 { &settings.multicast_interface } else { &settings.multicast_interface_v6 };
                device = chosen.load(Ordering::Relaxed);
            }
            if is_v4 && source.is_none() {
                let chosen = settings.more.lock().multicast_source;
                source = Some(IpAddr::V4(chosen)).filter(|source| !source.is_unspecified());
            }
        } else if device == 0 {
            let chosen = if is_v4 { &settings.unicast_interface } else { &settings.unicast_interface_v6 };
            device = chosen.load(Ordering::Relaxed);
        }
        let tos = if is_v4 { &settings.tos } else { &settings.traffic_class };
        Aim {
            destination: remote.address,
            // An IPv4 address cannot send to IPv6; the other way round another is chosen.
            source: source.filter(|source| source.is_ipv4() || !is_v4),
            device,
            tos: tos.load(Ordering::Relaxed) as u8,
            mark: options.mark(),
            ports: (endpoints.port, remote.port),
        }
    }
}

/// How a socket's message goes.
#[derive(Clone)]
pub struct Way {
    route: Route,
    destination: IpAddr,
    source: IpAddr,
}

/// What is in the header of a message, as far as the socket says it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// TTL or hop limit; none: as the route and the socket say.
    pub hop_limit: Option<u8>,
    /// TOS or traffic class.
    pub traffic_class: u8,
    /// Flow label.
    pub flow_label: u32,
    /// It may not be cut: rather fail.
    pub dont_fragment: bool,
    /// Protocol.
    pub protocol: u8,
}

impl Way {
    /// Finds it. `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`, `EINVAL`, as routes say; `EADDRNOTAVAIL`: no address to send from (IPv6).
    pub fn find(socket: &InetSocket, aim: &Aim) -> Result<Way> {
        let state = socket.core().namespace().state();
        let mut destination = aim.destination;
        if aim.source.is_some_and(|source| source.is_ipv4()) && destination.is_ipv6() {
            return Err(Errno::EAFNOSUPPORT);
        }
        if destination == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
            // This machine, as in BSD.
            destination = aim.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let flow = Flow {
            destination,
            source: aim.source,
            tos: aim.tos,
            mark: aim.mark,
            output: aim.device,
            user_id: socket.core().owner().0,
            protocol: socket.protocol(),
            ports: aim.ports,
            ..Flow::to(destination)
        };
        let route = route::output(state, &flow).map_err(|error| match destination {
            // IPv6 looks for an address to send from first, wherever it might go through (`ip6_dst_lookup_tail`).
            IpAddr::V6(to) if aim.source.is_none() && inet6::select_source(state, None, to).is_none() => {
                Errno::EADDRNOTAVAIL
            }
            _ => error,
        })?;
        let source =
            aim.source.or(route.source).or_else(|| source_on(state, &route.device, destination)).unwrap_or(
                super::address::any(if destination.is_ipv4() {
                    abi::socket::AF_INET as u16
                } else {
                    abi::socket::AF_INET6 as u16
                }),
            );
        Ok(Way { route, destination, source })
    }

    /// Where to.
    pub fn destination(&self) -> IpAddr {
        self.destination
    }

    /// From where.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Whether it goes to everyone on a link.
    pub fn is_broadcast(&self) -> bool {
        self.route.kind == RouteKind::Broadcast
    }

    /// Bytes of a packet that gets through.
    pub fn mtu(&self) -> u32 {
        self.route.mtu
    }

    /// The MTU of the device it goes through.
    pub fn device_mtu(&self) -> u32 {
        self.route.device.mtu()
    }

    /// The route itself.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// TTL or hop limit of a message (`ip_select_ttl`, `ip6_sk_dst_hoplimit`).
    pub fn hop_limit(&self, socket: &InetSocket) -> u8 {
        let settings = socket.settings();
        let (is_v4, is_multicast) = (self.destination.is_ipv4(), self.destination.is_multicast());
        let chosen = match (is_v4, is_multicast) {
            (true, false) => &settings.ttl,
            (true, true) => &settings.multicast_ttl,
            (false, false) => &settings.hops,
            (false, true) => &settings.multicast_hops,
        }
        .load(Ordering::Relaxed);
        if let Ok(chosen) = u8::try_from(chosen) {
            return chosen;
        }
        if is_multicast {
            return 1;
        }
        self.route.hop_limit.unwrap_or_else(|| self.default_hop_limit(socket))
    }

    fn default_hop_limit(&self, socket: &InetSocket) -> u8 {
        const USUAL: u8 = 64;
        if self.destination.is_ipv4() {
            let number = socket.core().namespace().state().ip_number(sysctl::DEFAULT_TTL);
            return u8::try_from(number).unwrap_or(USUAL);
        }
        USUAL
    }

    /// Sends a packet that begins with its transport header, with options of IPv4. `EMSGSIZE`: it must not be cut and is too long; what
    /// the layers below say.
    pub fn send(&self, socket: &InetSocket, manner: &Manner, options: &[u8], packet: Packet) -> Result<()> {
        let header = Header {
            source: self.source,
            destination: self.destination,
            protocol: manner.protocol,
            hop_limit: manner.hop_limit.unwrap_or_else(|| self.hop_limit(socket)),
            traffic_class: manner.traffic_class,
            flow_label: manner.flow_label,
            dont_fragment: manner.dont_fragment,
            options,
            ..Header::default()
        };
        output::send(socket.core().namespace().state(), &self.route, &header, packet)
    }

    /// Sends a packet with its IP header.
    pub fn send_raw(&self, socket: &InetSocket, packet: Packet) -> Result<()> {
        output::send_raw(socket.core().namespace().state(), &self.route, packet)
    }
}

/// What IP_OPTIONS (or IP_RETOPTS of a message) asks for. `EINVAL`: they are wrong, or only for those with CAP_NET_RAW; `ENOMEM`.
pub fn ip_options(socket: &InetSocket, given: &[u8]) -> Result<Option<Arc<Asked>>> {
    let state = socket.core().namespace().state();
    let is_elsewhere = |address: Ipv4Addr| kind_of(state, address.into(), 0) == AddressKind::Other;
    let asked = Asked::new(given, socket.may(Capability::NetRaw), &is_elsewhere);
    match asked.map_err(|_| Errno::EINVAL)? {
        Some(asked) => Ok(Some(try_arc(asked)?)),
        None => Ok(None),
    }
}

/// An own address on a device: the one to talk to another with, or for want of that its first (a loopback's reach no further).
fn source_on(state: &Arc<NetState>, device: &Arc<NetDevice>, other: IpAddr) -> Option<IpAddr> {
    let first = || device.ip()?.addresses(other.is_ipv6()).iter().next().map(|address| address.local);
    select_source(state, device, other).or_else(first)
}

/// The own address that a packet was for (`fib_compute_spec_dst`): its destination, or for what was for many that of the interface.
pub fn own_address(state: &Arc<NetState>, about: &About) -> Ipv4Addr {
    let destination = about.destination.address;
    let found = match kind_of(state, destination, about.device) {
        AddressKind::Local => Some(destination),
        _ => state
            .devices()
            .by_index(about.device)
            .and_then(|device| source_on(state, &device, about.source.address)),
    };
    match found {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// A label for what goes between two ends, which nobody else can foresee (RFC 6437).
pub fn flow_label_for(way: &Way, aim: &Aim) -> u32 {
    static KEY: Lazy<u64> = Lazy::new(|| machine::random::next_u64() | 1);
    let parts = [way.source, way.destination].map(code);
    let ports = u64::from(aim.ports.0) << 16 | u64::from(aim.ports.1);
    let mixed = parts.iter().fold(*KEY ^ ports, |mixed, part| {
        let mixed = (mixed ^ *part as u64 ^ (*part >> 64) as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ mixed >> 32
    });
    ((mixed >> 40) as u32 & 0xf_ffff).max(1)
}

/// The flow label of a packet that came in.
pub fn flow_label(packet: &Packet, received: &Received) -> u32 {
    const LABEL: u32 = 0xf_ffff;
    match packet.from_network_header().first_chunk::<4>() {
        Some(first) if received.source.is_ipv6() => u32::from_be_bytes(*first) & LABEL,
        _ => 0,
    }
}

/// What IP_MTU_DISCOVER and the size of a packet (with its header) say about cutting it: whether it must not be. `EMSGSIZE`: it is
/// too long for that; the MTU is told with it.
pub fn check_size(
    socket: &InetSocket,
    way: &Way,
    total: usize,
    wants_whole: bool,
) -> core::result::Result<bool, u32> {
    let is_v4 = way.destination.is_ipv4();
    let mode = socket.settings().path_mtu(is_v4);
    let mtu = match mode {
        IP_PMTUDISC_PROBE | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT => way.device_mtu(),
        _ => way.mtu(),
    };
    let fits = total <= mtu as usize;
    let whole = matches!(mode, IP_PMTUDISC_DO | IP_PMTUDISC_PROBE | IP_PMTUDISC_INTERFACE) || wants_whole;
    if whole && !fits {
        return Err(mtu);
    }
    // What fits goes out unbreakable, so that routers tell of narrower links; what does not is cut here.
    let tells = matches!(mode, IP_PMTUDISC_DO | IP_PMTUDISC_PROBE) || (mode == IP_PMTUDISC_WANT && fits);
    Ok(tells)
}

/// The checksum of a transport packet between two addresses, whose own is 0 (or, if that is in it, 0 if it is right).
pub fn checksum(source: IpAddr, destination: IpAddr, protocol: u8, packet: &[u8]) -> u16 {
    let mut sum = Sum::of_pseudo_header(source, destination, protocol, packet.len());
    sum.add(packet);
    sum.finish()
}

/// What an error that came back means to a socket. `None`: nothing.
pub fn meaning(socket: &InetSocket, error: &IcmpError) -> Option<Trouble> {
    let is_v4 = error.destination.is_ipv4();
    let mut trouble = if is_v4 {
        meaning_of_icmp(error.kind, error.code, error.info)
    } else {
        meaning_of_icmp6(error.kind, error.code, error.info)
    }?;
    if trouble.errno == Errno::EMSGSIZE {
        // Who does not look for narrower links is not told of them; for who does, sending is what fails next.
        if is_v4 && socket.settings().path_mtu(is_v4) == IP_PMTUDISC_DONT {
            return None;
        }
        trouble.is_fatal = is_v4 || socket.settings().path_mtu(is_v4) != IP_PMTUDISC_DONT;
    }
    Some(trouble)
}

/// Tells who sent a packet that nobody has its port.
pub fn refuse_port(packet: &Packet, received: &Received) {
    crate::ip::input::refuse_port(packet, received);
}

/// Whether the sticky source of IPV6_PKTINFO or a control message's may be used. `EINVAL`.
pub fn check_source(socket: &InetSocket, source: IpAddr, device: i32) -> Result<()> {
    let state = socket.core().namespace().state();
    let may_any = socket.settings().has_any(Flag::FREE_BIND | Flag::TRANSPARENT);
    match kind_of(state, source, device) {
        AddressKind::Local | AddressKind::Anycast | AddressKind::Unspecified => Ok(()),
        _ if may_any => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}
