//! IPv4 addresses: which are primary, which come after them, and the routes that come with each (`devinet.c`, `fib_add_ifaddr`).
//!
//! Changed under [`Rtnl`]. Neighbours: `netlink::route::address` reads requests and tells of changes.

use abi::errno::Errno;
use abi::route::*;
use abi::rtnetlink::{IFNAMSIZ, RTM_DELADDR, RTM_NEWADDR};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::fib::Prefix;
use linnet_lib::netlink::{Failure, Outcome};

use super::{Address, AddressList, key_of, network_of};
use crate::device::{InterfaceName, NetDevice, Rtnl};
use crate::ip::config::v4;
use crate::ip::device::IpDevice;
use crate::ip::route::change::{self, MODE_APPEND, Wanted, WantedHop};
use crate::ip::route::{Flow, lookup, sync, table};
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::address::announce;

/// Flags that only IPv6 has.
const ONLY_6: u32 = IFA_F_NODAD
    | IFA_F_OPTIMISTIC
    | IFA_F_DADFAILED
    | IFA_F_HOMEADDRESS
    | IFA_F_TENTATIVE
    | IFA_F_MANAGETEMPADDR
    | IFA_F_STABLE_PRIVACY;

/// All bits of an address.
const ALL: u8 = 32;

/// Adds an address (`__inet_insert_ifa`). `EEXIST`, `EINVAL`: another scope than the network's first; `ENOMEM`.
pub(crate) fn add(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    mut address: Address,
    origin: &Origin,
) -> Outcome<()> {
    rtnl.assert_covers(device);
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    let list = &ip.addresses4;
    if address.local.is_unspecified() {
        return Ok(());
    }
    address.flags &= !(IFA_F_SECONDARY | ONLY_6);
    address.index = device.index();
    for other in list.of_network(address.network()) {
        if other.local == address.local {
            return Err(Failure::new(Errno::EEXIST, "ipv4: Address already assigned"));
        }
        if other.scope != address.scope && !other.is_secondary() {
            return Err(Failure::new(Errno::EINVAL, "ipv4: Invalid scope value"));
        }
        address.flags |= IFA_F_SECONDARY;
    }
    let address = list.add(address)?;
    let net = device.namespace();
    announce(&net, RTM_NEWADDR, device, &address, origin);
    add_routes(&net, device, &ip, &address);
    super::lifetime::watch(&net, &address);
    Ok(())
}

/// The first address of the network of another.
fn primary_of(list: &AddressList, address: &Arc<Address>) -> Option<Arc<Address>> {
    if !address.is_secondary() {
        return Some(address.clone());
    }
    list.find_network(address.network(), |other| (!other.is_secondary()).then(|| other.clone()))
}

/// A route that an address brings (`fib_magic`).
struct Magic<'a> {
    net: &'a Arc<NetState>,
    primary: &'a Address,
    adds: bool,
}

impl Magic<'_> {
    /// Adds it or takes it out. What cannot be added for want of memory is missing, as on Linux.
    fn put(&self, kind: u8, prefix: Prefix, priority: u32) {
        let wanted = Wanted {
            table: if kind == RTN_UNICAST { RT_TABLE_MAIN } else { RT_TABLE_LOCAL },
            scope: if kind == RTN_LOCAL { RT_SCOPE_HOST } else { RT_SCOPE_LINK },
            kind,
            priority,
            preferred: Some(self.primary.local),
            hop: WantedHop { index: self.primary.index, ..WantedHop::default() },
            ..Wanted::to(false, prefix)
        };
        let origin = Origin::default();
        let done = if self.adds {
            change::add(self.net, &wanted, MODE_APPEND, &origin)
        } else {
            change::delete(self.net, &wanted, &origin)
        };
        if let Err(failure) = done
            && failure.errno == Errno::ENOMEM
        {
            log::warn!("no memory for a route of {}", self.primary.local);
        }
    }
}

fn host(address: Ipv4Addr) -> Prefix {
    network_of(address.into(), ALL)
}

/// The broadcast address that follows from an address's network.
fn network_broadcast(address: &Address) -> Option<Ipv4Addr> {
    let network = address.network();
    let base = (network.key >> 96) as u32;
    (network.length < 31).then(|| Ipv4Addr::from_bits(base | u32::MAX >> network.length))
}

/// Whether an address's network is one that packets can be sent to.
fn has_network(address: &Address) -> bool {
    let network = address.network();
    network.key >> 120 != 0
        && !address.is_secondary()
        && (network.key != key_of(address.local) || network.length < ALL)
}

/// The kind of the route to a network.
fn network_kind(device: &NetDevice) -> u8 {
    if device.is_loopback() { RTN_LOCAL } else { RTN_UNICAST }
}

/// Adds the routes of an address (`fib_add_ifaddr`).
fn add_routes(net: &Arc<NetState>, device: &Arc<NetDevice>, ip: &IpDevice, address: &Arc<Address>) {
    let Some(primary) = primary_of(&ip.addresses4, address) else { return };
    let IpAddr::V4(local) = address.local else { return };
    let routes = Magic { net, primary: &primary, adds: true };
    routes.put(RTN_LOCAL, host(local), 0);
    if !device.is_up() {
        return;
    }
    if let Some(broadcast) = address.broadcast.filter(|broadcast| *broadcast != Ipv4Addr::BROADCAST) {
        routes.put(RTN_BROADCAST, host(broadcast), 0);
    }
    if !has_network(address) {
        return;
    }
    if !address.has(IFA_F_NOPREFIXROUTE) {
        routes.put(network_kind(device), address.network(), address.metric);
    }
    if let Some(broadcast) = network_broadcast(address) {
        routes.put(RTN_BROADCAST, host(broadcast), 0);
    }
}

/// Adds the routes of all addresses of a device that has come up.
pub(crate) fn routes_up(device: &Arc<NetDevice>, ip: &IpDevice) {
    let net = device.namespace();
    for address in ip.addresses4.iter() {
        add_routes(&net, device, ip, &address);
    }
}

/// Takes the routes away that only this address needs, which is in the list no more (`fib_del_ifaddr`).
fn remove_routes(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    ip: &IpDevice,
    address: &Address,
    primary: &Address,
) {
    let list = &ip.addresses4;
    let routes = Magic { net, primary, adds: false };
    if has_network(address) && !address.has(IFA_F_NOPREFIXROUTE) {
        routes.put(network_kind(device), address.network(), address.metric);
    }
    if list.find_network(address.network(), |_| Some(())).is_none() {
        if let Some(broadcast) = address.broadcast {
            routes.put(RTN_BROADCAST, host(broadcast), 0);
        }
        if let Some(broadcast) = network_broadcast(address).filter(|own| address.broadcast != Some(*own)) {
            routes.put(RTN_BROADCAST, host(broadcast), 0);
        }
    }
    if list.get(address.local).is_none()
        && let IpAddr::V4(local) = address.local
    {
        routes.put(RTN_LOCAL, host(local), 0);
        sync::source_gone4(net, address.local);
    }
}

/// Takes an address away (`__inet_del_ifa`). Those that come after it in its network go too, or the first of them takes its
/// place (`promote_secondaries`).
pub(crate) fn remove(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: &Arc<Address>, origin: &Origin) {
    rtnl.assert_covers(device);
    let Some(ip) = device.ip() else { return };
    let net = device.namespace();
    let list = &ip.addresses4;
    let primary = primary_of(list, address).unwrap_or_else(|| address.clone());
    let promotes =
        ip.settings4.is_on(v4::PROMOTE_SECONDARIES) || net.ip.control.all4.is_on(v4::PROMOTE_SECONDARIES);
    let mut rest = Vec::new();
    let followers = list.of_network(address.network()).filter(|other| other.is_secondary());
    for other in followers.filter(|_| !address.is_secondary()) {
        if !list.remove(&other) {
            continue;
        }
        // The routes of those that stay prefer the address that goes: they are made anew.
        if promotes && rest.try_reserve(1).is_ok() {
            rest.push(other.clone());
        } else {
            announce(&net, RTM_DELADDR, device, &other, origin);
        }
        remove_routes(&net, device, &ip, &other, &primary);
    }
    if !list.remove(address) {
        return;
    }
    announce(&net, RTM_DELADDR, device, address, origin);
    remove_routes(&net, device, &ip, address, &primary);
    for (number, other) in rest.iter().enumerate() {
        let mut next = (**other).clone();
        if number == 0 {
            next.flags &= !IFA_F_SECONDARY;
        }
        let Ok(next) = list.add(next) else { continue };
        if number == 0 {
            announce(&net, RTM_NEWADDR, device, &next, origin);
        }
        add_routes(&net, device, &ip, &next);
    }
    if list.is_empty() {
        sync::flush4(device, &ip);
        ip.neighbours(false).clear(device);
    }
}

/// Takes all addresses of a device away, primaries with what comes after them.
pub(crate) fn remove_all(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &IpDevice) {
    while let Some(address) = ip.addresses4.first_from(0) {
        let before = ip.addresses4.len();
        remove(rtnl, device, &address, &Origin::default());
        if ip.addresses4.len() >= before {
            // No memory to take one out: all go at once, untold.
            return ip.addresses4.clear();
        }
    }
}

/// Puts another metric on the route to an address's network (`fib_modify_prefix_metric`).
pub(crate) fn change_metric(net: &Arc<NetState>, device: &Arc<NetDevice>, old: &Address, new: &Address) {
    if !has_network(old) || old.has(IFA_F_NOPREFIXROUTE) || !device.is_up() {
        return;
    }
    let kind = network_kind(device);
    Magic { net, primary: new, adds: true }.put(kind, old.network(), new.metric);
    Magic { net, primary: old, adds: false }.put(kind, old.network(), old.metric);
}

/// Labels follow the name of their device: what is behind a colon stays.
pub(crate) fn rename(device: &Arc<NetDevice>, ip: &IpDevice) {
    let name = device.name();
    for (number, address) in (1..).zip(ip.addresses4.iter()) {
        let label = address.label.as_bytes();
        let own = label.iter().position(|byte| *byte == b':').map(|place| &label[place..]);
        let counted = alloc::format!(":{number}");
        // The first has the name itself, those behind it at least a number.
        let suffix = if number == 1 { &[][..] } else { own.unwrap_or(counted.as_bytes()) };
        let room = (IFNAMSIZ - 1).saturating_sub(suffix.len());
        let stem = &name.as_bytes()[..name.as_bytes().len().min(room)];
        let label = InterfaceName::label(&[stem, suffix]);
        let _ = ip.addresses4.replace(Address { label, ..(*address).clone() });
    }
}

/// Whether two addresses are in one network of a device (`inet_addr_onlink`). Any context.
pub(crate) fn is_on_link(ip: &IpDevice, one: Ipv4Addr, other: Ipv4Addr) -> bool {
    let shared = |address: &Arc<Address>| {
        let network = address.network();
        let is_inside = network.covers(key_of(one.into())) && network.covers(key_of(other.into()));
        (is_inside && !address.is_secondary()).then_some(())
    };
    ip.addresses4.near(one.into(), shared).is_some()
}

/// The device that has an address. Any context.
pub(crate) fn owner(net: &NetState, address: Ipv4Addr) -> Option<Arc<NetDevice>> {
    let flow = Flow::to(address.into());
    let look = |table: &table::Table| lookup::in_table(table, &flow, lookup::Manner::default());
    let found = net.ip.control.tables4.with(RT_TABLE_LOCAL, look)?.ok()?;
    if found.entry.kind == RTN_LOCAL { found.device().cloned() } else { None }
}

/// The address to send from through a device: that of the network that `near` is in, else the first that reaches as far as
/// `scope` says; else another device's (`inet_select_addr`). Any context.
pub(crate) fn select_source(
    net: &NetState,
    device: &NetDevice,
    near: Option<Ipv4Addr>,
    scope: u8,
) -> Option<IpAddr> {
    let reaches = |address: &Arc<Address>| {
        (!address.is_secondary() && address.scope.min(RT_SCOPE_HOST) <= scope).then_some(address.local)
    };
    if let Some(ip) = device.ip() {
        let close = near.and_then(|near| ip.addresses4.near(near.into(), reaches));
        if let Some(own) = close.or_else(|| ip.addresses4.find(reaches)) {
            return Some(own);
        }
    }
    let mut next = 0;
    while let Some(other) = net.devices().next_from(next) {
        next = other.index().checked_add(1)?;
        let reaches_out =
            |address: &Arc<Address>| reaches(address).filter(|_| address.scope != RT_SCOPE_LINK);
        if let Some(found) = other.ip().and_then(|ip| ip.addresses4.find(reaches_out)) {
            return Some(found);
        }
    }
    None
}
