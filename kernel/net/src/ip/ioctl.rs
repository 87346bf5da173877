//! The ioctls of addresses and routes (netdevice(7), `devinet_ioctl`, `ip_rt_ioctl`): the old way, on sockets of AF_INET and AF_INET6.
//!
//! `struct ifreq` is a name, then a `sockaddr_in`. Locks: [`Rtnl`] for what changes something; user memory is read before and
//! written after.

use abi::errno::{Errno, Result};
use abi::ioctl::*;
use abi::netlink as nl;
use abi::route::*;
use abi::rtnetlink::{IFF_BROADCAST, IFF_POINTOPOINT, IFNAMSIZ};
use abi::socket::AF_INET;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::fib::Prefix;
use mm::user::UserPtr;
use security::Capability;

use super::address::{Address, inet, inet6, key_of, network_of};
use super::route::change::{self, METRIC_OFFSET, Wanted};
use super::route::lookup;
use crate::device::{InterfaceName, NetDevice, Rtnl};
use crate::message::Sender;
use crate::namespace::NetNamespace;
use crate::netlink::Origin;

/// `struct ifreq`.
type Request = [u8; 40];
/// Where the address is in it, and in a `sockaddr_in`.
const SOCKADDR: usize = IFNAMSIZ;
const IN_SOCKADDR: usize = 4;
/// `struct rtentry`.
type RouteRequest = [u8; 120];

/// `EPERM` unless the caller may change addresses and routes.
pub(super) fn may_change(namespace: &NetNamespace) -> Result<()> {
    let may = Sender::current().credentials.capable(namespace.owner(), Capability::NetAdmin);
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

/// A piece of a structure.
pub(super) fn piece<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

/// The family and address of a `sockaddr_in`.
pub(super) fn socket_address(bytes: &[u8], at: usize) -> (u32, Ipv4Addr) {
    (u16::from_ne_bytes(piece(bytes, at)).into(), Ipv4Addr::from(piece::<4>(bytes, at + IN_SOCKADDR)))
}

fn put_socket_address(bytes: &mut [u8], at: usize, address: Ipv4Addr) {
    if let Some(place) = bytes.get_mut(at..at + 16) {
        place.fill(0);
        place[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
        place[IN_SOCKADDR..IN_SOCKADDR + 4].copy_from_slice(&address.octets());
    }
}

/// An ioctl of a socket of AF_INET. `ENOIOCTLCMD`: it is none of addresses and routes.
pub fn inet(namespace: &Arc<NetNamespace>, command: u32, argument: usize) -> Result<usize> {
    match command {
        SIOCGIFADDR | SIOCGIFBRDADDR | SIOCGIFDSTADDR | SIOCGIFNETMASK => {
            let place = UserPtr::<Request>::new(argument);
            let mut request = place.read()?;
            look(namespace, command, &mut request)?;
            place.write(&request)?;
            Ok(0)
        }
        SIOCSIFADDR | SIOCSIFBRDADDR | SIOCSIFDSTADDR | SIOCSIFNETMASK => {
            let request = UserPtr::<Request>::new(argument).read()?;
            may_change(namespace)?;
            if socket_address(&request, SOCKADDR).0 != AF_INET {
                return Err(Errno::EINVAL);
            }
            set(namespace, command, &request)?;
            Ok(0)
        }
        SIOCADDRT | SIOCDELRT => {
            may_change(namespace)?;
            let request = UserPtr::<RouteRequest>::new(argument).read()?;
            change_route(namespace, command == SIOCADDRT, &request)?;
            Ok(0)
        }
        SIOCSARP | SIOCDARP | SIOCGARP => super::arp_ioctl::ioctl(namespace, command, argument),
        _ => Err(Errno::ENOIOCTLCMD),
    }
}

/// The label that a request names and the device that it is of.
fn named(namespace: &NetNamespace, name: &[u8]) -> Result<(InterfaceName, Arc<NetDevice>)> {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let device = name.split(|byte| *byte == b':').next().unwrap_or_default();
    let found = namespace.devices().by_name(device).ok_or(Errno::ENODEV)?;
    Ok((InterfaceName::label(&[name]), found))
}

/// The address with a label: the one that is called `local`, if there is one, else the first.
fn labelled(device: &NetDevice, label: InterfaceName, local: Option<Ipv4Addr>) -> Option<Arc<Address>> {
    let ip = device.ip()?;
    let all = || ip.addresses4.iter().filter(|address| address.label == label);
    let exact = local.and_then(|local| all().find(|address| address.local == IpAddr::V4(local)));
    exact.or_else(|| all().next())
}

/// The mask of a prefix length.
fn mask(length: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0))
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn look(namespace: &NetNamespace, command: u32, request: &mut Request) -> Result<()> {
    let (family, wanted) = socket_address(request, SOCKADDR);
    let (label, device) = named(namespace, &request[..IFNAMSIZ - 1])?;
    let address =
        labelled(&device, label, (family == AF_INET).then_some(wanted)).ok_or(Errno::EADDRNOTAVAIL)?;
    let answer = match command {
        SIOCGIFADDR => v4(address.local),
        SIOCGIFBRDADDR => address.broadcast.unwrap_or(Ipv4Addr::UNSPECIFIED),
        SIOCGIFDSTADDR => v4(address.peer),
        _ => mask(address.length),
    };
    put_socket_address(request, SOCKADDR, answer);
    Ok(())
}

/// The prefix length that an address's class gives (`inet_abc_len`). `EINVAL`: it is a group.
fn class_length(address: Ipv4Addr) -> Result<u8> {
    match address.octets()[0] {
        0 => Ok(0),
        1..=127 => Ok(8),
        128..=191 => Ok(16),
        192..=223 => Ok(24),
        224..=239 => Err(Errno::EINVAL),
        _ if address == Ipv4Addr::BROADCAST => Ok(0),
        _ => Ok(32),
    }
}

/// The broadcast address of a network.
fn broadcast_of(address: Ipv4Addr, length: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() | !mask(length).to_bits())
}

fn set(namespace: &Arc<NetNamespace>, command: u32, request: &Request) -> Result<()> {
    let (_, value) = socket_address(request, SOCKADDR);
    let rtnl = Rtnl::lock(namespace.state());
    let (label, device) = named(namespace, &request[..IFNAMSIZ - 1])?;
    let ip = device.ip().filter(|ip| ip.has(false)).ok_or(Errno::ENOBUFS)?;
    let old = labelled(&device, label, None);
    let mut new = match &old {
        Some(old) => (**old).clone(),
        None if command == SIOCSIFADDR => Address::new(value.into(), 32, RT_SCOPE_UNIVERSE, label),
        None => return Err(Errno::EADDRNOTAVAIL),
    };
    let has_broadcast = device.flags() & IFF_BROADCAST != 0;
    match command {
        SIOCSIFADDR => {
            let length = class_length(value)?;
            if old.as_ref().is_some_and(|old| old.local == IpAddr::V4(value)) {
                return Ok(());
            }
            (new.local, new.peer) = (value.into(), value.into());
            new.length = if device.flags() & IFF_POINTOPOINT == 0 { length } else { 32 };
            new.broadcast = (has_broadcast && new.length < 31).then(|| broadcast_of(value, new.length));
            new.scope = if value.is_loopback() { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE };
            ip.touch_settings4();
        }
        SIOCSIFBRDADDR => new.broadcast = Some(value).filter(|value| !value.is_unspecified()),
        SIOCSIFDSTADDR => {
            class_length(value)?;
            new.peer = value.into();
        }
        _ => {
            let length = value.to_bits().leading_ones() as u8;
            if mask(length) != value {
                return Err(Errno::EINVAL);
            }
            let local = v4(new.local);
            let follows = new.length < 31 && new.broadcast == Some(broadcast_of(local, new.length));
            new.length = length;
            if has_broadcast && follows {
                new.broadcast = Some(broadcast_of(local, length));
            }
        }
    }
    if let Some(old) = &old {
        inet::remove(&rtnl, &device, old, &Origin::default());
    }
    new.set_lifetimes(super::address::FOREVER, super::address::FOREVER);
    inet::add(&rtnl, &device, new, &Origin::default()).map_err(|failure| failure.errno)
}

/// Reads a name from a program's memory.
fn read_name(pointer: usize) -> Result<Option<[u8; IFNAMSIZ]>> {
    if pointer == 0 {
        return Ok(None);
    }
    let mut name = [0; IFNAMSIZ];
    for (at, place) in name.iter_mut().enumerate().take(IFNAMSIZ - 1) {
        *place = UserPtr::<u8>::new(pointer + at).read()?;
        if *place == 0 {
            break;
        }
    }
    Ok(Some(name))
}

/// The prefix length of a mask. `EAFNOSUPPORT`, `EINVAL`: it has holes, or the destination goes beyond it.
fn mask_length(destination: Ipv4Addr, netmask: Ipv4Addr, family: u32) -> Result<u8> {
    if family != AF_INET && (!netmask.is_unspecified() || family != 0) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let length = netmask.to_bits().leading_ones() as u8;
    let is_bad = mask(length) != netmask || destination.to_bits() & !netmask.to_bits() != 0;
    if is_bad { Err(Errno::EINVAL) } else { Ok(length) }
}

/// The metrics that a `struct rtentry` can name.
fn old_metrics(request: &RouteRequest, flags: u32) -> Option<super::route::table::Metrics> {
    let long = |at| u64::from_ne_bytes(piece(request, at)) as u32;
    let mut metrics = [0; super::route::table::METRICS];
    if flags & RTF_MTU != 0 {
        metrics[usize::from(RTAX_ADVMSS)] = long(96).saturating_sub(40);
    }
    if flags & RTF_WINDOW != 0 {
        metrics[usize::from(RTAX_WINDOW)] = long(104);
    }
    metrics.iter().any(|value| *value != 0).then_some(metrics)
}

/// SIOCADDRT, SIOCDELRT (`rtentry_to_fib_config`).
fn change_route(namespace: &Arc<NetNamespace>, adds: bool, request: &RouteRequest) -> Result<()> {
    let (family, destination) = socket_address(request, 8);
    let (gateway_family, gateway) = socket_address(request, 24);
    let (mask_family, netmask) = socket_address(request, 40);
    let flags = u32::from(u16::from_ne_bytes(piece(request, 56)));
    let metric = i16::from_ne_bytes(piece(request, 80));
    let name = read_name(usize::from_ne_bytes(piece(request, 88)))?;
    if family != AF_INET {
        return Err(Errno::EAFNOSUPPORT);
    }
    let length = if flags & RTF_HOST == 0 { mask_length(destination, netmask, mask_family)? } else { 32 };
    let net = namespace.state();
    let mut wanted = Wanted::to(false, network_of(destination.into(), length));
    wanted.protocol = if adds { RTPROT_BOOT } else { 0 };
    wanted.priority = (i32::from(metric) - METRIC_OFFSET).max(0) as u32;
    let _rtnl = Rtnl::lock(net);
    let origin = Origin::default();
    let finish = |wanted: &Wanted| {
        let done = if adds {
            change::add(net, wanted, nl::NLM_F_CREATE, &origin)
        } else {
            change::delete(net, wanted, &origin)
        };
        done.map_err(|failure| failure.errno)
    };
    if flags & RTF_REJECT != 0 {
        (wanted.scope, wanted.kind) = (RT_SCOPE_HOST, RTN_UNREACHABLE);
        return finish(&wanted);
    }
    wanted.scope = RT_SCOPE_NOWHERE;
    if let Some(name) = name {
        let (label, device) = named(namespace, &name)?;
        wanted.hop.index = device.index();
        if label.as_bytes().contains(&b':') {
            wanted.preferred = Some(labelled(&device, label, None).ok_or(Errno::ENODEV)?.local);
        }
    }
    if gateway_family == AF_INET && !gateway.is_unspecified() {
        wanted.hop.gateway = Some(gateway.into());
        let is_other = lookup::kind_in_table(net, gateway.into(), RT_TABLE_LOCAL, 0) == RTN_UNICAST;
        if flags & RTF_GATEWAY != 0 && is_other {
            wanted.scope = RT_SCOPE_UNIVERSE;
        }
    }
    if adds {
        if flags & RTF_GATEWAY != 0 && wanted.hop.gateway.is_none() {
            return Err(Errno::EINVAL);
        }
        if wanted.scope == RT_SCOPE_NOWHERE {
            wanted.scope = RT_SCOPE_LINK;
        }
        wanted.metrics = old_metrics(request, flags);
    }
    finish(&wanted)
}

/// SIOCGIFCONF: all IPv4 addresses as `struct ifreq`s, as many as fit.
pub(crate) fn list(namespace: &NetNamespace, argument: usize) -> Result<usize> {
    let head = UserPtr::<[u8; 16]>::new(argument);
    let mut request = head.read()?;
    let room = i32::from_ne_bytes(piece(&request, 0));
    let buffer = usize::from_ne_bytes(piece(&request, 8));
    let room = usize::try_from(room).unwrap_or(0);
    let mut all = Vec::<Request>::new();
    let mut next = 0;
    while let Some(device) = namespace.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        for address in device.ip().iter().flat_map(|ip| ip.addresses4.iter()) {
            if buffer != 0 && (all.len() + 1) * size_of::<Request>() > room {
                break;
            }
            let mut one = [0; size_of::<Request>()];
            one[..IFNAMSIZ].copy_from_slice(address.label.padded());
            put_socket_address(&mut one, SOCKADDR, v4(address.local));
            all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            all.push(one);
        }
    }
    let length = all.len() * size_of::<Request>();
    if buffer != 0 {
        for (number, one) in all.iter().enumerate() {
            UserPtr::<Request>::new(buffer + number * size_of::<Request>()).write(one)?;
        }
    }
    request[..4].copy_from_slice(&(length as i32).to_ne_bytes());
    head.write(&request)?;
    Ok(0)
}

/// An ioctl of a socket of AF_INET6 (`inet6_ioctl`). `ENOIOCTLCMD`: it is none of addresses and routes.
pub fn inet6(namespace: &Arc<NetNamespace>, command: u32, argument: usize) -> Result<usize> {
    match command {
        SIOCSIFADDR | SIOCDIFADDR => {
            may_change(namespace)?;
            let request = UserPtr::<[u8; 24]>::new(argument).read()?;
            change_address6(namespace, command == SIOCSIFADDR, &request)?;
            Ok(0)
        }
        SIOCADDRT | SIOCDELRT => {
            may_change(namespace)?;
            let request = UserPtr::<[u8; 80]>::new(argument).read()?;
            change_route6(namespace, command == SIOCADDRT, &request)?;
            Ok(0)
        }
        _ => Err(Errno::ENOIOCTLCMD),
    }
}

/// `struct in6_ifreq`: an address, its prefix length, an interface.
fn change_address6(namespace: &Arc<NetNamespace>, adds: bool, request: &[u8; 24]) -> Result<()> {
    let local = IpAddr::V6(Ipv6Addr::from(piece::<16>(request, 0)));
    let length = u32::from_ne_bytes(piece(request, 16));
    let index = i32::from_ne_bytes(piece(request, 20));
    let length = u8::try_from(length).ok().filter(|length| *length <= 128).ok_or(Errno::EINVAL)?;
    let rtnl = Rtnl::lock(namespace.state());
    let device = namespace.devices().by_index(index).ok_or(Errno::ENODEV)?;
    let ip = device.ip().filter(|ip| ip.has(true)).ok_or(Errno::ENODEV)?;
    let origin = Origin::default();
    if adds {
        let address = Address::new(local, length, 0, device.name());
        return inet6::add(&rtnl, &device, address, &origin).map_err(|failure| failure.errno);
    }
    let found = ip.addresses6.get(local).filter(|found| found.length == length);
    inet6::remove(&rtnl, &device, &found.ok_or(Errno::EADDRNOTAVAIL)?, &origin);
    Ok(())
}

/// `struct in6_rtmsg` (`rtmsg_to_fib6_config`).
fn change_route6(namespace: &Arc<NetNamespace>, adds: bool, request: &[u8; 80]) -> Result<()> {
    let length = |at| u8::try_from(u16::from_ne_bytes(piece(request, at))).map_err(|_| Errno::EINVAL);
    let address = |at| Ipv6Addr::from(piece::<16>(request, at));
    let flags = u32::from_ne_bytes(piece(request, 72));
    let mut wanted = Wanted::to(true, Prefix::new(key_of(address(0).into()), length(52)?));
    wanted.source = Prefix::new(key_of(address(16).into()), length(54)?);
    wanted.protocol = if adds { RTPROT_BOOT } else { 0 };
    wanted.priority = u32::from_ne_bytes(piece(request, 56));
    if wanted.priority == 0 && adds {
        wanted.priority = change::PRIORITY_USER_6;
    }
    wanted.hop.index = i32::from_ne_bytes(piece(request, 76));
    if flags & RTF_GATEWAY != 0 {
        wanted.hop.gateway = Some(address(32).into());
    }
    if flags & RTF_REJECT != 0 {
        wanted.kind = RTN_UNREACHABLE;
    }
    let net = namespace.state();
    let _rtnl = Rtnl::lock(net);
    let origin = Origin::default();
    let done = if adds {
        change::add(net, &wanted, nl::NLM_F_CREATE | nl::NLM_F_EXCL, &origin)
    } else {
        change::delete(net, &wanted, &origin)
    };
    done.map_err(|failure| failure.errno)
}
