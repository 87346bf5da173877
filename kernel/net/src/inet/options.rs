//! The options of SOL_IP, SOL_IPV6, SOL_UDP, SOL_RAW and SOL_ICMPV6: setsockopt(2), getsockopt(2), ip(7), ipv6(7).
//!
//! Locks: none held across; groups are changed under a socket's `memberships`.

use abi::errno::{Errno, Result};
use abi::inet::{IPPROTO_ICMPV6, *};
use abi::socket::*;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use machine::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use security::Capability;
use zerocopy::{FromBytes, IntoBytes};

use super::address::{Endpoint, Given, parse};
use super::membership::{self, Change};
use super::network::{self, Aim, Way, kind_of};
use super::settings::Flag;
use super::socket::{InetSocket, Transport};
use super::udp;
use crate::device::NetDevice;
use crate::ip::address::AddressKind;
use crate::ip::route::{self, Flow};
use crate::message::SocketAddress;

/// An option's value as a number: of one byte where it is that short (ip(7)); 0 where there is none.
fn number_v4(value: &[u8]) -> i32 {
    match value {
        [a, b, c, d, ..] => i32::from_ne_bytes([*a, *b, *c, *d]),
        [byte, ..] => i32::from(*byte),
        [] => 0,
    }
}

/// An option's value as a number. `EINVAL`: too short.
fn number(value: &[u8]) -> Result<i32> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

fn flag_v4(name: u32) -> Option<Flag> {
    Some(match name {
        IP_PKTINFO => Flag::PACKET_INFO,
        IP_RECVTTL => Flag::RECEIVE_TTL,
        IP_RECVTOS => Flag::RECEIVE_TOS,
        IP_RECVOPTS => Flag::RECEIVE_OPTIONS,
        IP_RETOPTS => Flag::RETURN_OPTIONS,
        IP_RECVORIGDSTADDR => Flag::ORIGINAL_DESTINATION,
        IP_RECVERR => Flag::RECEIVE_ERRORS,
        IP_FREEBIND => Flag::FREE_BIND,
        IP_MULTICAST_LOOP => Flag::MULTICAST_LOOP,
        IP_BIND_ADDRESS_NO_PORT => Flag::BIND_ADDRESS_NO_PORT,
        IP_CHECKSUM => Flag::RECEIVE_CHECKSUM,
        IP_RECVFRAGSIZE => Flag::RECEIVE_FRAGMENT_SIZE,
        IP_PASSSEC => Flag::PASS_SECURITY,
        _ => return None,
    })
}

fn flag_v6(name: u32) -> Option<Flag> {
    Some(match name {
        IPV6_RECVPKTINFO => Flag::V6_PACKET_INFO,
        IPV6_2292PKTINFO => Flag::V6_OLD_PACKET_INFO,
        IPV6_RECVHOPLIMIT => Flag::V6_HOP_LIMIT,
        IPV6_2292HOPLIMIT => Flag::V6_OLD_HOP_LIMIT,
        IPV6_RECVTCLASS => Flag::V6_TRAFFIC_CLASS,
        IPV6_FLOWINFO => Flag::V6_FLOW_INFO,
        IPV6_RECVERR => Flag::V6_ERRORS,
        IPV6_RECVORIGDSTADDR => Flag::V6_ORIGINAL_DESTINATION,
        IPV6_DONTFRAG => Flag::V6_DONT_FRAGMENT,
        IPV6_RECVPATHMTU => Flag::V6_PATH_MTU,
        IPV6_AUTOFLOWLABEL => Flag::V6_AUTO_FLOW_LABEL,
        IPV6_FLOWINFO_SEND => Flag::V6_FLOW_INFO_SEND,
        IPV6_FREEBIND => Flag::FREE_BIND,
        IPV6_RECVFRAGSIZE => Flag::V6_FRAGMENT_SIZE,
        IPV6_ROUTER_ALERT_ISOLATE => Flag::V6_ALERT_ISOLATE,
        _ => return None,
    })
}

/// setsockopt(2).
///
/// Errors: `EINVAL`, `EPERM`, `EACCES`, `ENODEV`, `EADDRNOTAVAIL`, `EADDRINUSE`, `ENOBUFS`, `ENOMEM`; `ENOPROTOOPT`: no such option.
pub fn set(socket: &Arc<InetSocket>, level: u32, name: i32, value: &[u8]) -> Result<()> {
    let name = name as u32;
    match level {
        SOL_IP if is_v4_level(socket) => set_v4(socket, name, value),
        SOL_IPV6 if socket.is_v6() => set_v6(socket, name, value),
        SOL_UDP if socket.transport() == Transport::Udp => udp::set_option(socket, name, number(value)?),
        SOL_RAW if is_raw_of(socket, IPPROTO_ICMP) && !socket.is_v6() && name == ICMP_FILTER => {
            let mut bytes = socket.settings.icmp_filter.load(Ordering::Relaxed).to_ne_bytes();
            bytes.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte);
            socket.settings.icmp_filter.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
            Ok(())
        }
        SOL_RAW if is_raw(socket) && !socket.is_v6() => {
            Err(if name == ICMP_FILTER { Errno::EOPNOTSUPP } else { Errno::ENOPROTOOPT })
        }
        SOL_RAW if is_raw(socket) && name == IPV6_CHECKSUM => set_checksum(socket, number(value)?),
        SOL_ICMPV6 if is_raw(socket) && socket.is_v6() => set_icmp6_filter(socket, name, value),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Raw sockets of IPv6 have no options of IPv4.
fn is_v4_level(socket: &InetSocket) -> bool {
    !(socket.is_v6() && is_raw(socket))
}

fn is_raw(socket: &InetSocket) -> bool {
    socket.transport() == Transport::Raw
}

fn is_raw_of(socket: &InetSocket, protocol: u8) -> bool {
    is_raw(socket) && socket.protocol() == protocol
}

fn set_icmp6_filter(socket: &InetSocket, name: u32, value: &[u8]) -> Result<()> {
    if socket.protocol() != IPPROTO_ICMPV6 {
        return Err(Errno::EOPNOTSUPP);
    }
    if name != ICMPV6_FILTER {
        return Err(Errno::ENOPROTOOPT);
    }
    let filter = &mut socket.settings.more.lock().icmp6_filter;
    for (place, word) in filter.iter_mut().zip(value.chunks(4)) {
        let mut bytes = place.to_ne_bytes();
        bytes.iter_mut().zip(word).for_each(|(place, byte)| *place = *byte);
        *place = u32::from_ne_bytes(bytes);
    }
    Ok(())
}

fn set_checksum(socket: &InetSocket, offset: i32) -> Result<()> {
    // An odd one would not be one word of the sum.
    if offset > 0 && offset & 1 != 0 {
        return Err(Errno::EINVAL);
    }
    socket.settings.checksum_offset.store(offset.max(-1), Ordering::Relaxed);
    Ok(())
}

/// Stores a number within a range. `EINVAL`.
fn store(place: &AtomicI32, value: i32, range: core::ops::RangeInclusive<i32>) -> Result<()> {
    if !range.contains(&value) {
        return Err(Errno::EINVAL);
    }
    place.store(value, Ordering::Relaxed);
    Ok(())
}

fn store_unsigned(place: &AtomicU32, value: i32, range: core::ops::RangeInclusive<i32>) -> Result<()> {
    if !range.contains(&value) {
        return Err(Errno::EINVAL);
    }
    place.store(value as u32, Ordering::Relaxed);
    Ok(())
}

fn set_v4(socket: &Arc<InetSocket>, name: u32, value: &[u8]) -> Result<()> {
    let settings = &socket.settings;
    let given = number_v4(value);
    if let Some(flag) = flag_v4(name) {
        if flag == Flag::MULTICAST_LOOP && value.is_empty() {
            return Err(Errno::EINVAL);
        }
        settings.switch(flag, given != 0);
        return Ok(());
    }
    match name {
        IP_TOS => {
            settings.tos.store(given as u32 & 0xff, Ordering::Relaxed);
            Ok(())
        }
        abi::inet::IP_TTL if value.is_empty() => Err(Errno::EINVAL),
        abi::inet::IP_TTL if given == 0 => Err(Errno::EINVAL),
        abi::inet::IP_TTL => store(&settings.ttl, given, -1..=255),
        IP_MTU_DISCOVER => store_unsigned(&settings.path_mtu, given, 0..=IP_PMTUDISC_OMIT as i32),
        IP_MINTTL if value.is_empty() => Err(Errno::EINVAL),
        IP_MINTTL => store_unsigned(&settings.least_ttl, given, 0..=255),
        IP_HDRINCL | IP_NODEFRAG if !is_raw(socket) => Err(Errno::ENOPROTOOPT),
        IP_HDRINCL => {
            settings.switch(Flag::HEADER_INCLUDED, given != 0);
            Ok(())
        }
        IP_NODEFRAG => {
            settings.switch(Flag::NO_DEFRAGMENTING, given != 0);
            Ok(())
        }
        IP_RECVERR_RFC4884 => set_binary(socket, Flag::RECEIVE_ERRORS_4884, given),
        IP_MULTICAST_ALL => set_binary(socket, Flag::MULTICAST_ALL, given),
        IP_TRANSPARENT => set_transparent(socket, given != 0),
        IP_MULTICAST_TTL if value.is_empty() => Err(Errno::EINVAL),
        IP_MULTICAST_TTL => {
            let ttl = if given == -1 { 1 } else { given };
            store(&settings.multicast_ttl, ttl, 0..=255)
        }
        IP_MULTICAST_IF => set_multicast_interface(socket, value),
        IP_UNICAST_IF => {
            let index = i32::from_be(number(value)?);
            set_interface(socket, &settings.unicast_interface, index)
        }
        IP_LOCAL_PORT_RANGE => set_port_range(socket, value),
        IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP => {
            let change = if name == IP_ADD_MEMBERSHIP { Change::Join } else { Change::Leave };
            change_group_v4(socket, value, change)
        }
        IP_ADD_SOURCE_MEMBERSHIP | IP_DROP_SOURCE_MEMBERSHIP | IP_BLOCK_SOURCE | IP_UNBLOCK_SOURCE => {
            change_source_v4(socket, name, value)
        }
        MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP => {
            let change = if name == MCAST_JOIN_GROUP { Change::Join } else { Change::Leave };
            change_group_any(socket, value, change)
        }
        MCAST_JOIN_SOURCE_GROUP | MCAST_LEAVE_SOURCE_GROUP | MCAST_BLOCK_SOURCE | MCAST_UNBLOCK_SOURCE => {
            change_source_any(socket, name, value)
        }
        IP_OPTIONS => {
            let asked = network::ip_options(socket, value)?;
            let old = core::mem::replace(&mut *settings.ip_options.lock(), asked);
            drop(old);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn set_binary(socket: &InetSocket, flag: Flag, given: i32) -> Result<()> {
    if !(0..=1).contains(&given) {
        return Err(Errno::EINVAL);
    }
    socket.settings.switch(flag, given != 0);
    Ok(())
}

/// `EPERM`: without CAP_NET_RAW or CAP_NET_ADMIN.
fn set_transparent(socket: &InetSocket, on: bool) -> Result<()> {
    if on && !socket.may(Capability::NetRaw) && !socket.may(Capability::NetAdmin) {
        return Err(Errno::EPERM);
    }
    socket.settings.switch(Flag::TRANSPARENT, on);
    Ok(())
}

/// An interface to send through: one that is there, and the one that the socket is bound to if it is. `EADDRNOTAVAIL`, `EINVAL`.
fn set_interface(socket: &InetSocket, place: &AtomicI32, index: i32) -> Result<()> {
    if index != 0 {
        socket.core().namespace().devices().by_index(index).ok_or(Errno::EADDRNOTAVAIL)?;
        let bound = socket.core().options.bound_interface();
        if bound != 0 && bound != index {
            return Err(Errno::EINVAL);
        }
    }
    place.store(index, Ordering::Relaxed);
    Ok(())
}

fn set_port_range(socket: &InetSocket, value: &[u8]) -> Result<()> {
    let both: &[u8; 4] = value.try_into().map_err(|_| Errno::EINVAL)?;
    let both = u32::from_ne_bytes(*both);
    let (low, high) = (both & 0xffff, both >> 16);
    if low != 0 && high != 0 && low > high {
        return Err(Errno::EINVAL);
    }
    socket.settings.port_range.store(both, Ordering::Relaxed);
    Ok(())
}

/// A group and an interface in one of three shapes: two addresses, with or without an index; or for IP_MULTICAST_IF one address.
fn read_mreqn(value: &[u8]) -> IpMreqn {
    let mut bytes = [0; size_of::<IpMreqn>()];
    bytes.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte);
    IpMreqn::read_from_bytes(&bytes).unwrap_or_default()
}

/// The device with an own address.
fn device_of(socket: &InetSocket, address: Ipv4Addr) -> Option<Arc<NetDevice>> {
    let state = socket.core().namespace().state();
    if kind_of(state, address.into(), 0) != AddressKind::Local {
        return None;
    }
    let mut from = 0;
    while let Some(device) = state.devices().next_from(from) {
        if kind_of(state, address.into(), device.index()) == AddressKind::Local
            && device.ip().is_some_and(|ip| ip.addresses4.get(address.into()).is_some())
        {
            return Some(device);
        }
        from = device.index().checked_add(1)?;
    }
    None
}

fn set_multicast_interface(socket: &InetSocket, value: &[u8]) -> Result<()> {
    let request = match value.len() {
        12.. => read_mreqn(value),
        8.. => read_mreqn(value.get(..8).unwrap_or_default()),
        4.. => IpMreqn { imr_address: [value[0], value[1], value[2], value[3]], ..IpMreqn::default() },
        _ => return Err(Errno::EINVAL),
    };
    let address = Ipv4Addr::from(request.imr_address);
    let settings = &socket.settings;
    let index = if request.imr_ifindex != 0 {
        let devices = socket.core().namespace().devices();
        devices.by_index(request.imr_ifindex).ok_or(Errno::EADDRNOTAVAIL)?.index()
    } else if address.is_unspecified() {
        0
    } else {
        device_of(socket, address).ok_or(Errno::EADDRNOTAVAIL)?.index()
    };
    let bound = socket.core().options.bound_interface();
    if index != 0 && bound != 0 && bound != index {
        return Err(Errno::EINVAL);
    }
    settings.multicast_interface.store(index, Ordering::Relaxed);
    settings.more.lock().multicast_source = address;
    Ok(())
}

/// The device that a group is joined on: by index, by an own address, or where routing sends it.
fn group_device(socket: &InetSocket, request: &IpMreqn) -> Option<Arc<NetDevice>> {
    let state = socket.core().namespace().state();
    let address = Ipv4Addr::from(request.imr_address);
    if request.imr_ifindex != 0 {
        return state.devices().by_index(request.imr_ifindex);
    }
    if !address.is_unspecified() {
        return device_of(socket, address);
    }
    let flow = Flow::to(IpAddr::V4(request.imr_multiaddr.into()));
    route::output(state, &flow).ok().map(|route| route.device)
}

fn change_group_v4(socket: &Arc<InetSocket>, value: &[u8], change: Change) -> Result<()> {
    if value.len() < 8 {
        return Err(Errno::EINVAL);
    }
    let request = read_mreqn(value);
    let group = Ipv4Addr::from(request.imr_multiaddr);
    if !group.is_multicast() {
        return Err(if change == Change::Join { Errno::EINVAL } else { Errno::EADDRNOTAVAIL });
    }
    let is_any = request.imr_ifindex == 0 && Ipv4Addr::from(request.imr_address).is_unspecified();
    // Without saying where means where routing sends it, also for leaving.
    let missing = if change == Change::Leave && !is_any { Errno::EADDRNOTAVAIL } else { Errno::ENODEV };
    let device = group_device(socket, &request).ok_or(missing)?;
    membership::change(socket, group.into(), Some(device), change)
}

fn change_source_v4(socket: &Arc<InetSocket>, name: u32, value: &[u8]) -> Result<()> {
    let (request, _) = IpMreqSource::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    let source = IpAddr::V4(request.imr_sourceaddr.into());
    let change = match name {
        IP_ADD_SOURCE_MEMBERSHIP => Change::AddSource(source),
        IP_DROP_SOURCE_MEMBERSHIP => Change::DropSource(source),
        IP_BLOCK_SOURCE => Change::Block(source),
        _ => Change::Unblock(source),
    };
    let at =
        IpMreqn { imr_multiaddr: request.imr_multiaddr, imr_address: request.imr_interface, imr_ifindex: 0 };
    let device = group_device(socket, &at).ok_or(Errno::ENODEV)?;
    membership::change(socket, IpAddr::V4(request.imr_multiaddr.into()), Some(device), change)
}

/// Bytes of `struct sockaddr_storage`, and where it is in `struct group_req`.
const STORAGE: usize = 128;
const STORAGE_AT: usize = 8;

/// An address in a `struct group_req`. `EINVAL`: too short; `EADDRNOTAVAIL`: another family's.
fn stored_address(socket: &InetSocket, value: &[u8], at: usize) -> Result<IpAddr> {
    let bytes = value.get(at..at + STORAGE).ok_or(Errno::EINVAL)?;
    let size = if socket.is_v6() { size_of::<SockaddrIn6>() } else { size_of::<SockaddrIn>() };
    let address = SocketAddress::new(bytes.get(..size).unwrap_or_default())?;
    match parse(socket.core().family(), &address) {
        Ok(Given::Endpoint(Endpoint { address, .. })) => Ok(address),
        _ => Err(Errno::EADDRNOTAVAIL),
    }
}

/// The device that a `struct group_req` names; 0: where routing sends it.
fn stored_device(socket: &InetSocket, value: &[u8], group: IpAddr) -> Result<Arc<NetDevice>> {
    let state = socket.core().namespace().state();
    match number(value)? {
        0 => route::output(state, &Flow::to(group)).map(|route| route.device).map_err(|_| Errno::ENODEV),
        index => state.devices().by_index(index).ok_or(Errno::ENODEV),
    }
}

fn change_group_any(socket: &Arc<InetSocket>, value: &[u8], change: Change) -> Result<()> {
    let group = stored_address(socket, value, STORAGE_AT)?;
    let device = stored_device(socket, value, group)?;
    membership::change(socket, group, Some(device), change)
}

fn change_source_any(socket: &Arc<InetSocket>, name: u32, value: &[u8]) -> Result<()> {
    let group = stored_address(socket, value, STORAGE_AT)?;
    let source = stored_address(socket, value, STORAGE_AT + STORAGE)?;
    let device = stored_device(socket, value, group)?;
    let change = match name {
        MCAST_JOIN_SOURCE_GROUP => Change::AddSource(source),
        MCAST_LEAVE_SOURCE_GROUP => Change::DropSource(source),
        MCAST_BLOCK_SOURCE => Change::Block(source),
        _ => Change::Unblock(source),
    };
    membership::change(socket, group, Some(device), change)
}

fn set_v6(socket: &Arc<InetSocket>, name: u32, value: &[u8]) -> Result<()> {
    let settings = &socket.settings;
    match name {
        IPV6_ADD_MEMBERSHIP | IPV6_DROP_MEMBERSHIP => {
            let (request, _) = Ipv6Mreq::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            let group = IpAddr::V6(Ipv6Addr::from(request.ipv6mr_multiaddr));
            if !group.is_multicast() {
                return Err(Errno::EINVAL);
            }
            let state = socket.core().namespace().state();
            if name == IPV6_DROP_MEMBERSHIP && request.ipv6mr_ifindex == 0 {
                return membership::change(socket, group, None, Change::Leave);
            }
            let device = match request.ipv6mr_ifindex {
                0 => route::output(state, &Flow::to(group)).ok().map(|route| route.device),
                index => state.devices().by_index(index),
            };
            let change = if name == IPV6_ADD_MEMBERSHIP { Change::Join } else { Change::Leave };
            return membership::change(socket, group, Some(device.ok_or(Errno::ENODEV)?), change);
        }
        MCAST_JOIN_GROUP => return change_group_any(socket, value, Change::Join),
        MCAST_LEAVE_GROUP => return change_group_any(socket, value, Change::Leave),
        MCAST_JOIN_SOURCE_GROUP | MCAST_LEAVE_SOURCE_GROUP | MCAST_BLOCK_SOURCE | MCAST_UNBLOCK_SOURCE => {
            return change_source_any(socket, name, value);
        }
        IPV6_PKTINFO => return set_sticky(socket, value),
        _ => {}
    }
    let given = number(value)?;
    if let Some(flag) = flag_v6(name) {
        settings.switch(flag, given != 0);
        return Ok(());
    }
    match name {
        IPV6_V6ONLY => {
            if socket.transport() != Transport::Raw && socket.endpoints().port != 0 {
                return Err(Errno::EINVAL);
            }
            settings.switch(Flag::V6_ONLY, given != 0);
            Ok(())
        }
        IPV6_UNICAST_HOPS => store(&settings.hops, given, -1..=255),
        IPV6_MULTICAST_HOPS => store(&settings.multicast_hops, given, -1..=255),
        IPV6_MULTICAST_LOOP => set_binary(socket, Flag::V6_MULTICAST_LOOP, given),
        IPV6_MULTICAST_ALL => {
            settings.switch(Flag::V6_MULTICAST_ALL, given != 0);
            Ok(())
        }
        IPV6_RECVERR_RFC4884 => set_binary(socket, Flag::V6_ERRORS_4884, given),
        IPV6_MTU_DISCOVER => store_unsigned(&settings.path_mtu_v6, given, 0..=IP_PMTUDISC_OMIT as i32),
        IPV6_MINHOPCOUNT => store_unsigned(&settings.least_hops, given, 0..=255),
        IPV6_TCLASS => {
            let class = if given == -1 { 0 } else { given };
            store_unsigned(&settings.traffic_class, class, 0..=255)
        }
        IPV6_MTU => {
            if given != 0 && given < 1280 {
                return Err(Errno::EINVAL);
            }
            settings.fragment_size.store(given as u32, Ordering::Relaxed);
            Ok(())
        }
        IPV6_MULTICAST_IF => {
            if given != 0 && socket.core().namespace().devices().by_index(given).is_none() {
                return Err(Errno::ENODEV);
            }
            let bound = socket.core().options.bound_interface();
            if given != 0 && bound != 0 && bound != given {
                return Err(Errno::EINVAL);
            }
            settings.multicast_interface_v6.store(given, Ordering::Relaxed);
            Ok(())
        }
        IPV6_UNICAST_IF => set_interface(socket, &settings.unicast_interface_v6, i32::from_be(given)),
        IPV6_TRANSPARENT => set_transparent(socket, given != 0),
        // Of ICMPv6 it is known; RFC 3542 forbids to say it.
        IPV6_CHECKSUM if is_raw_of(socket, IPPROTO_ICMPV6) => Err(Errno::EINVAL),
        IPV6_CHECKSUM if is_raw(socket) => set_checksum(socket, given),
        IPV6_HDRINCL if is_raw(socket) => {
            settings.switch(Flag::V6_HEADER_INCLUDED, given != 0);
            Ok(())
        }
        IPV6_ADDR_PREFERENCES => {
            settings.source_preferences.store(given as u32, Ordering::Relaxed);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// IPV6_PKTINFO for all messages; an empty value takes it away. `EINVAL`, `ENODEV`.
fn set_sticky(socket: &InetSocket, value: &[u8]) -> Result<()> {
    if value.is_empty() {
        socket.settings.more.lock().sticky = None;
        return Ok(());
    }
    let (info, _) = In6Pktinfo::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    let bound = socket.core().options.bound_interface();
    if bound != 0 && info.ipi6_ifindex != bound {
        return Err(Errno::EINVAL);
    }
    socket.settings.more.lock().sticky = Some((info.ipi6_addr.into(), info.ipi6_ifindex));
    Ok(())
}

/// getsockopt(2): writes into `value`, gives the length. `ENOPROTOOPT`; `ENOTCONN`: the MTU of nothing; `EINVAL`.
pub fn get(socket: &Arc<InetSocket>, level: u32, name: i32, value: &mut [u8]) -> Result<usize> {
    let name = name as u32;
    match level {
        SOL_IP if is_v4_level(socket) => get_v4(socket, name, value),
        SOL_IPV6 if socket.is_v6() => get_v6(socket, name, value),
        SOL_UDP if socket.transport() == Transport::Udp => {
            put(udp::get_option(socket, name)?.as_bytes(), value)
        }
        SOL_RAW if is_raw_of(socket, IPPROTO_ICMP) && !socket.is_v6() && name == ICMP_FILTER => {
            put(socket.settings.icmp_filter.load(Ordering::Relaxed).as_bytes(), value)
        }
        SOL_RAW if is_raw(socket) && !socket.is_v6() => {
            Err(if name == ICMP_FILTER { Errno::EOPNOTSUPP } else { Errno::ENOPROTOOPT })
        }
        SOL_RAW if is_raw(socket) && name == IPV6_CHECKSUM => {
            put(socket.settings.checksum_offset.load(Ordering::Relaxed).as_bytes(), value)
        }
        SOL_ICMPV6 if is_raw(socket) && socket.is_v6() => {
            if socket.protocol() != IPPROTO_ICMPV6 {
                return Err(Errno::EOPNOTSUPP);
            }
            if name != ICMPV6_FILTER {
                return Err(Errno::ENOPROTOOPT);
            }
            put(socket.settings.more.lock().icmp6_filter.as_bytes(), value)
        }
        // As on Linux only AF_INET says it so.
        _ if !socket.is_v6() => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn put(answer: &[u8], value: &mut [u8]) -> Result<usize> {
    let length = answer.len().min(value.len());
    value[..length].copy_from_slice(&answer[..length]);
    Ok(length)
}

fn get_v4(socket: &Arc<InetSocket>, name: u32, value: &mut [u8]) -> Result<usize> {
    let settings = &socket.settings;
    let number = match name {
        _ if flag_v4(name).is_some() => i32::from(flag_v4(name).is_some_and(|flag| settings.has(flag))),
        IP_TOS => settings.tos.load(Ordering::Relaxed) as i32,
        abi::inet::IP_TTL => match settings.ttl.load(Ordering::Relaxed) {
            -1 => socket.core().namespace().state().ip_number(crate::ip::sysctl::DEFAULT_TTL),
            ttl => ttl,
        },
        IP_MTU_DISCOVER => settings.path_mtu.load(Ordering::Relaxed) as i32,
        IP_MINTTL => settings.least_ttl.load(Ordering::Relaxed) as i32,
        IP_HDRINCL => i32::from(settings.has(Flag::HEADER_INCLUDED)),
        IP_NODEFRAG => i32::from(settings.has(Flag::NO_DEFRAGMENTING)),
        IP_RECVERR_RFC4884 => i32::from(settings.has(Flag::RECEIVE_ERRORS_4884)),
        IP_MULTICAST_ALL => i32::from(settings.has(Flag::MULTICAST_ALL)),
        IP_TRANSPARENT => i32::from(settings.has(Flag::TRANSPARENT)),
        IP_MULTICAST_TTL => settings.multicast_ttl.load(Ordering::Relaxed),
        IP_UNICAST_IF => settings.unicast_interface.load(Ordering::Relaxed).to_be(),
        IP_LOCAL_PORT_RANGE => settings.port_range.load(Ordering::Relaxed) as i32,
        IP_PROTOCOL => socket.core().protocol(),
        IP_MULTICAST_IF => {
            return put(&settings.more.lock().multicast_source.octets(), value);
        }
        IP_MTU => connected_mtu(socket)? as i32,
        IP_OPTIONS => {
            let asked = settings.ip_options.lock().clone();
            return put(asked.as_ref().map_or(&[], |asked| asked.as_given()), value);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    // A program with room for less than a number gets a byte, if that holds it (ip(7)).
    if (1..4).contains(&value.len()) && (0..=255).contains(&number) {
        return put(&[number as u8], value);
    }
    put(number.as_bytes(), value)
}

/// The MTU of the way to where it is connected. `ENOTCONN`.
fn connected_mtu(socket: &InetSocket) -> Result<u32> {
    let remote = socket.endpoints().remote.ok_or(Errno::ENOTCONN)?;
    Way::find(socket, &Aim::connecting(socket, &remote)).map(|way| way.mtu()).map_err(|_| Errno::ENOTCONN)
}

fn get_v6(socket: &Arc<InetSocket>, name: u32, value: &mut [u8]) -> Result<usize> {
    let settings = &socket.settings;
    let load = |place: &AtomicI32| place.load(Ordering::Relaxed);
    let number = match name {
        _ if flag_v6(name).is_some() => i32::from(flag_v6(name).is_some_and(|flag| settings.has(flag))),
        IPV6_V6ONLY => i32::from(settings.has(Flag::V6_ONLY)),
        IPV6_UNICAST_HOPS => match load(&settings.hops) {
            -1 => 64,
            hops => hops,
        },
        IPV6_MULTICAST_HOPS => match load(&settings.multicast_hops) {
            -1 => 1,
            hops => hops,
        },
        IPV6_MULTICAST_LOOP => i32::from(settings.has(Flag::V6_MULTICAST_LOOP)),
        IPV6_MULTICAST_ALL => i32::from(settings.has(Flag::V6_MULTICAST_ALL)),
        IPV6_RECVERR_RFC4884 => i32::from(settings.has(Flag::V6_ERRORS_4884)),
        IPV6_MTU_DISCOVER => settings.path_mtu_v6.load(Ordering::Relaxed) as i32,
        IPV6_MINHOPCOUNT => settings.least_hops.load(Ordering::Relaxed) as i32,
        IPV6_TCLASS => settings.traffic_class.load(Ordering::Relaxed) as i32,
        IPV6_MULTICAST_IF => load(&settings.multicast_interface_v6),
        IPV6_UNICAST_IF => load(&settings.unicast_interface_v6).to_be(),
        IPV6_TRANSPARENT => i32::from(settings.has(Flag::TRANSPARENT)),
        IPV6_CHECKSUM if is_raw(socket) => load(&settings.checksum_offset),
        IPV6_HDRINCL if is_raw(socket) => i32::from(settings.has(Flag::V6_HEADER_INCLUDED)),
        IPV6_ADDR_PREFERENCES => settings.source_preferences.load(Ordering::Relaxed) as i32,
        IPV6_MTU => connected_mtu(socket)? as i32,
        IPV6_PKTINFO => {
            let Some((address, index)) = settings.more.lock().sticky else { return Ok(0) };
            let info = In6Pktinfo { ipi6_addr: address.octets(), ipi6_ifindex: index };
            return put(info.as_bytes(), value);
        }
        IPV6_PATHMTU => {
            let mtu = connected_mtu(socket)?;
            let info = Ip6Mtuinfo { ip6m_mtu: mtu, ..Ip6Mtuinfo::default() };
            return put(info.as_bytes(), value);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    put(number.as_bytes(), value)
}
