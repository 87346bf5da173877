//! IPv6 addresses: adding, removing, who has which, which to send from, and the routes that come with them (`addrconf.c`).
//!
//! Key type: `Owners`: all addresses of a namespace by name, with the interfaces that have them. Changed under [`Rtnl`]; read without
//! a lock. Neighbours: `autoconf` makes link-local addresses and runs duplicate detection.

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::{RTM_DELADDR, RTM_NEWADDR};
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::fib::Prefix;
use linnet_lib::netlink::{Failure, Outcome};

use super::{Address, key_of, network_of};
use crate::device::{NetDevice, Rtnl};
use crate::ip::autoconf;
use crate::ip::config::v6;
use crate::ip::device::IpDevice;
use crate::ip::map::Groups;
use crate::ip::multicast;
use crate::ip::route::change::{self, MODE_CREATE, PRIORITY_ADDRESS_6, Wanted, WantedHop};
use crate::ip::route::sync;
use crate::ip::route::table::Entry;
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::address::announce;

/// All bits of an address.
const ALL: u8 = 128;

/// Who has which address.
pub(crate) struct Owners(Groups<Arc<Address>>);

impl Owners {
    pub(crate) const fn new() -> Owners {
        Owners(Groups::new())
    }

    fn set(&self, address: &Arc<Address>) -> Result<()> {
        let index = u128::from(address.index.unsigned_abs());
        self.0.set(Prefix::exact(key_of(address.local)), index, address.clone())
    }

    fn remove(&self, address: &Address) {
        let index = u128::from(address.index.unsigned_abs());
        let _ = self.0.remove(Prefix::exact(key_of(address.local)), index);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// The address of this name that an interface (0: any) has. Any context.
pub(crate) fn owner(net: &NetState, address: Ipv6Addr, index: i32) -> Option<Arc<Address>> {
    net.ip.control.owners6.0.find(Prefix::exact(address.to_bits()), |_, found| {
        (index == 0 || found.index == index).then(|| found.clone())
    })
}

/// How far an address reaches, as lists are ordered and as source selection compares (RFC 4007): of a multicast group the scope
/// in it.
pub(crate) fn reach(address: Ipv6Addr) -> u8 {
    match address {
        group if group.is_multicast() => group.octets()[1] & 0xf,
        near if near.is_unicast_link_local() || near.is_loopback() => 2,
        site if site.segments()[0] & 0xffc0 == 0xfec0 => 5,
        _ => 14,
    }
}

/// `RT_SCOPE_*` of an address (`rt_scope`).
pub(crate) fn scope(address: Ipv6Addr) -> u8 {
    match reach(address) {
        _ if address.is_loopback() => RT_SCOPE_HOST,
        2 => RT_SCOPE_LINK,
        5 => RT_SCOPE_SITE,
        _ => RT_SCOPE_UNIVERSE,
    }
}

/// Whether an address can be given to an interface at all (`ipv6_add_addr`).
fn check(device: &NetDevice, address: &Address, local: Ipv6Addr) -> Outcome<()> {
    let refuse = |text| Err(Failure::new(Errno::EADDRNOTAVAIL, text));
    if local.is_unspecified() {
        return refuse("ipv6: Invalid address");
    }
    if local.is_multicast() && !address.has(IFA_F_MCAUTOJOIN) {
        return refuse("ipv6: Cannot assign multicast address without \"IFA_F_MCAUTOJOIN\" flag");
    }
    if local.is_loopback() && !device.is_loopback() {
        return refuse("ipv6: Cannot assign loopback address on this device");
    }
    Ok(())
}

/// Adds an address with its routes and begins duplicate detection (`inet6_addr_add`).
pub(crate) fn add(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    address: Address,
    origin: &Origin,
) -> Outcome<()> {
    let net = device.namespace();
    let address = place(rtnl, device, address)?;
    if !address.has(IFA_F_NOPREFIXROUTE) && address.peer == address.local {
        network_route(&net, device, &address, true);
    }
    if !address.has(IFA_F_OPTIMISTIC) && !address.has(IFA_F_NODAD) {
        announce(&net, RTM_NEWADDR, device, &address, origin);
    }
    autoconf::begin_detection(rtnl, device, &address);
    super::lifetime::watch(&net, &address);
    Ok(())
}

/// Puts an address into the lists, tentative unless it says otherwise.
pub(crate) fn place(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, mut address: Address) -> Outcome<Arc<Address>> {
    rtnl.assert_covers(device);
    let IpAddr::V6(local) = address.local else { return Err(Errno::EINVAL.into()) };
    check(device, &address, local)?;
    let net = device.namespace();
    let ip = device.ip().filter(|ip| ip.has(true)).ok_or(Errno::ENOBUFS)?;
    if is_disabled(&ip) {
        return Err(Failure::new(Errno::EACCES, "ipv6: IPv6 is disabled on this device"));
    }
    if ip.addresses6.get(address.local).is_some() {
        return Err(Failure::new(Errno::EEXIST, "ipv6: address already assigned"));
    }
    if !address.has(IFA_F_NODAD) {
        address.flags |= IFA_F_TENTATIVE;
    }
    address.index = device.index();
    address.scope = scope(local);
    let address = ip.addresses6.add(address)?;
    if let Err(error) = net.ip.control.owners6.set(&address) {
        ip.addresses6.remove(&address);
        return Err(error.into());
    }
    Ok(address)
}

/// Whether IPv6 is switched off on a device.
pub(crate) fn is_disabled(ip: &IpDevice) -> bool {
    ip.settings6.is_on(v6::DISABLE_IPV6)
}

/// Puts another in the place of an address of the same name. `ENOMEM`.
pub(crate) fn replace(net: &NetState, ip: &IpDevice, address: Address) -> Result<Arc<Address>> {
    let address = ip.addresses6.replace(address)?;
    net.ip.control.owners6.set(&address)?;
    Ok(address)
}

/// Adds the route to the network of an address, or takes it out.
pub(crate) fn network_route(net: &Arc<NetState>, device: &Arc<NetDevice>, address: &Address, adds: bool) {
    put(net, &network_of_address(device, address), adds);
}

fn network_of_address(device: &NetDevice, address: &Address) -> Wanted {
    let ends = !address.has(IFA_F_PERMANENT) && address.valid != super::FOREVER;
    Wanted {
        priority: if address.metric == 0 { PRIORITY_ADDRESS_6 } else { address.metric },
        // Routes of addresses that end do so with them.
        flags: RTF_UP,
        hop: WantedHop { index: device.index(), ..WantedHop::default() },
        expires: ends.then(|| address.remaining().1),
        ..Wanted::to(true, network_of(address.peer, address.length))
    }
}

/// The route to the network of an address follows what the address has become (`inet6_addr_modify`). Of one that was to end the
/// route is left to its time.
pub(crate) fn change_network_route(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    old: &Address,
    new: &Address,
) {
    let had_route = old.has(IFA_F_PERMANENT) && !old.has(IFA_F_NOPREFIXROUTE);
    let has_route = !new.has(IFA_F_NOPREFIXROUTE);
    if had_route && has_route && old.metric == new.metric {
        let wanted = network_of_address(device, new);
        if !change::set_expiry(net, &wanted) {
            put(net, &wanted, true);
        }
        return;
    }
    if had_route {
        network_route(net, device, old, false);
    }
    if has_route {
        network_route(net, device, new, true);
    }
}

fn put(net: &Arc<NetState>, wanted: &Wanted, adds: bool) {
    let origin = Origin::default();
    let done = if adds {
        change::add(net, wanted, MODE_CREATE, &origin)
    } else {
        change::delete(net, wanted, &origin)
    };
    if let Err(failure) = done
        && failure.errno == Errno::ENOMEM
    {
        log::warn!("no memory for a route to {:x}/{}", wanted.prefix.key, wanted.prefix.length);
    }
}

/// The route to an address itself.
fn own_route(device: &NetDevice, address: IpAddr) -> Wanted {
    Wanted {
        table: RT_TABLE_LOCAL,
        kind: RTN_LOCAL,
        flags: RTF_UP | RTF_LOCAL,
        hop: WantedHop { index: device.index(), ..WantedHop::default() },
        ..Wanted::to(true, network_of(address, ALL))
    }
}

/// Whether packets to an address of a device are for us: not if it was kept while the device was down.
pub(crate) fn has_own_route(net: &NetState, device: &NetDevice, address: &Address) -> bool {
    let is_it = |_: u128, entry: &Arc<Entry>| {
        let is_through = entry.hops.iter().any(|hop| hop.index() == device.index());
        (entry.kind == RTN_LOCAL && is_through).then_some(())
    };
    let table = net.ip.control.tables6.get(RT_TABLE_LOCAL);
    table.is_some_and(|table| table.routes.find(network_of(address.local, ALL), is_it).is_some())
}

/// The route to the other end of a point-to-point link.
fn peer_route(device: &NetDevice, address: &Address) -> Wanted {
    Wanted {
        priority: if address.metric == 0 { PRIORITY_ADDRESS_6 } else { address.metric },
        flags: RTF_UP,
        hop: WantedHop { index: device.index(), ..WantedHop::default() },
        ..Wanted::to(true, network_of(address.peer, ALL))
    }
}

/// An address is ours now: packets to it are for us (`__ipv6_ifa_notify`).
pub(crate) fn complete(net: &Arc<NetState>, device: &Arc<NetDevice>, ip: &IpDevice, address: &Arc<Address>) {
    let gone = IFA_F_TENTATIVE | IFA_F_OPTIMISTIC | IFA_F_DADFAILED;
    let flags = address.flags & !gone;
    let Ok(address) = replace(net, ip, Address { flags, probes: 0, probe_ns: 0, ..(**address).clone() })
    else {
        return;
    };
    announce(net, RTM_NEWADDR, device, &address, &Origin::default());
    put(net, &own_route(device, address.local), true);
    if address.peer != address.local {
        put(net, &peer_route(device, &address), true);
    }
    autoconf::completed(device, ip, &address);
}

/// Whether others of the device keep the route to the network of an address that goes.
fn network_is_kept(ip: &IpDevice, address: &Address) -> bool {
    ip.addresses6
        .find_network(address.network(), |other| {
            (other.local != address.local && other.flags & (IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE) != 0)
                .then_some(())
        })
        .is_some()
}

/// For how many seconds at most others of the device, which all end, are in the network of an address that goes.
fn network_lasts(ip: &IpDevice, address: &Address) -> Option<u32> {
    let mut longest = None;
    let _ = ip.addresses6.find_network(address.network(), |other| -> Option<()> {
        if other.local != address.local {
            longest = longest.max(Some(other.remaining().1));
        }
        None
    });
    longest
}

/// Takes an address away (`ipv6_del_addr`).
pub(crate) fn remove(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: &Arc<Address>, origin: &Origin) {
    rtnl.assert_covers(device);
    let Some(ip) = device.ip() else { return };
    let net = device.namespace();
    if !ip.addresses6.remove(address) {
        return;
    }
    net.ip.control.owners6.remove(address);
    let has_route = address.has(IFA_F_PERMANENT) && !address.has(IFA_F_NOPREFIXROUTE);
    let takes_route = has_route && !network_is_kept(&ip, address);
    announce(&net, RTM_DELADDR, device, address, origin);
    multicast::leave_solicited(device, &ip, address);
    put(&net, &own_route(device, address.local), false);
    if address.peer != address.local {
        put(&net, &peer_route(device, address), false);
    }
    if takes_route {
        match network_lasts(&ip, address) {
            Some(seconds) => {
                let wanted = Wanted { expires: Some(seconds), ..network_of_address(device, address) };
                change::set_expiry(&net, &wanted);
            }
            None => network_route(&net, device, address, false),
        }
    }
    sync::source_gone6(&net, device, address.local);
}

/// A device is down, or speaks IPv6 no more: its addresses go, unless they are to be kept (`addrconf_ifdown`).
pub(crate) fn device_down(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>, is_end: bool) {
    let net = device.namespace();
    sync::flush6(device, ip);
    ip.flags6.fetch_and(!(IF_RS_SENT | IF_RA_RCVD | IF_READY), machine::sync::atomic::Ordering::Relaxed);
    ip.autoconf.stop();
    let own = ip.settings6.get(v6::KEEP_ADDR_ON_DOWN);
    let keep = match own {
        0 => net.ip.control.all6.get(v6::KEEP_ADDR_ON_DOWN) > 0,
        own => own > 0,
    };
    for address in ip.addresses6.iter() {
        let IpAddr::V6(local) = address.local else { continue };
        let is_near = local.is_unicast_link_local() || local.is_loopback();
        let stays = keep && !is_end && address.has(IFA_F_PERMANENT) && !is_near;
        if !stays {
            remove(rtnl, device, &address, &Origin::default());
            continue;
        }
        multicast::leave_solicited(device, ip, &address);
        if !address.has(IFA_F_NODAD) {
            let flags = address.flags | IFA_F_TENTATIVE;
            let _ = replace(&net, ip, Address { flags, ..(*address).clone() });
        }
    }
    ip.touch();
}

/// Labels of RFC 6724's table of policies.
fn label(address: Ipv6Addr) -> u8 {
    let segments = address.segments();
    match address {
        loopback if loopback.is_loopback() => 0,
        mapped if mapped.to_ipv4_mapped().is_some() => 4,
        _ if segments[0] == 0x2002 => 2,
        _ if segments[..2] == [0x2001, 0] => 6,
        _ if segments[..2] == [0x2001, 0x0010] => 7,
        _ if segments[0] & 0xfe00 == 0xfc00 => 5,
        _ if segments[..6] == [0; 6] => 3,
        _ => 1,
    }
}

/// What is compared of two addresses to send from (RFC 6724): the greatest is taken.
type Rank = (bool, bool, Reverse<i32>, bool, bool, bool, bool, u32);

fn rank(address: &Address, local: Ipv6Addr, destination: Ipv6Addr, index: i32) -> Rank {
    let (own, wanted) = (reach(local), reach(destination));
    // Of two that reach far enough the nearer, else the farther.
    let distance = if own >= wanted { i32::from(own) - 128 } else { 127 - i32::from(own) };
    let same = (local.to_bits() ^ destination.to_bits()).leading_zeros().min(u32::from(address.length));
    (
        local == destination,
        own >= wanted,
        Reverse(distance),
        !address.has(IFA_F_DEPRECATED) && !address.has(IFA_F_OPTIMISTIC),
        index == 0 || address.index == index,
        label(local) == label(destination),
        !address.has(IFA_F_TEMPORARY),
        same,
    )
}

/// The address to send to `destination` from (RFC 6724). Through a device whose own addresses will do only those are looked at.
/// Any context.
pub(crate) fn select_source(
    net: &NetState,
    device: Option<&NetDevice>,
    destination: Ipv6Addr,
) -> Option<Ipv6Addr> {
    let index = device.map_or(0, NetDevice::index);
    let mut best = None;
    if let Some(ip) = device.and_then(NetDevice::ip) {
        consider(&ip, destination, index, &mut best);
    }
    let will_do = matches!(&best, Some((rank, _)) if rank.1 && rank.3);
    let is_near =
        destination.is_multicast() && reach(destination) <= 2 || destination.is_unicast_link_local();
    if will_do || (is_near && device.is_some()) {
        return best.map(|(_, local)| local);
    }
    let mut next = 0;
    while let Some(other) = net.devices().next_from(next) {
        next = other.index().checked_add(1)?;
        if let Some(ip) = other.ip().filter(|_| other.is_up()) {
            consider(&ip, destination, index, &mut best);
        }
    }
    best.map(|(_, local)| local)
}

/// Keeps the best address of a device and of those before.
fn consider(ip: &IpDevice, destination: Ipv6Addr, index: i32, best: &mut Option<(Rank, Ipv6Addr)>) {
    let _ = ip.addresses6.find(|address| -> Option<()> {
        let IpAddr::V6(local) = address.local else { return None };
        if !address.is_usable() || local.is_multicast() {
            return None;
        }
        let rank = rank(address, local, destination, index);
        if best.as_ref().is_none_or(|(other, _)| rank > *other) {
            *best = Some((rank, local));
        }
        None
    });
}
