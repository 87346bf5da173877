//! Routes follow devices and addresses (`fib_sync_down_dev`, `fib_sync_up`, `fib6_ifdown`): what goes takes only its own along.
//!
//! Under [`crate::device::Rtnl`]. Neighbours: `table` lists routes with devices and preferred sources.

use abi::route::*;
use abi::rtnetlink::{RTM_DELROUTE, RTM_NEWROUTE};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use machine::memory::try_arc;
use machine::sync::atomic::Ordering;

use super::change::{copy_with, rebalance};
use super::lookup;
use super::nexthop::NextHop;
use super::table::{Entry, Hop};
use crate::device::NetDevice;
use crate::ip::device::IpDevice;
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::fib::announce;

fn is_through(hop: &Hop, device: &Arc<NetDevice>) -> bool {
    hop.device.as_ref().is_some_and(|other| Arc::ptr_eq(other, device))
}

/// Takes a route out and tells of it.
fn remove(net: &Arc<NetState>, entry: &Arc<Entry>, is_told: bool) {
    if !net.ip.control.tables(entry.is_v6).remove(net, entry) || !is_told {
        return;
    }
    // As it was, but that its time is no more told.
    let mut told = match without_ways(net, entry, &|_| true) {
        Some(told) => told,
        None => return,
    };
    told.expires_ns = None;
    announce(net, RTM_DELROUTE, &told, 0, &Origin::default());
}

/// A device is up: ways through it can be taken again.
pub(crate) fn up(device: &Arc<NetDevice>, ip: &IpDevice) {
    let net = device.namespace();
    for entry in ip.routes.iter() {
        let mut changed = false;
        for hop in entry.hops.iter().filter(|hop| is_through(hop, device)) {
            let gone = if device.has_carrier() { RTNH_F_DEAD | RTNH_F_LINKDOWN } else { RTNH_F_DEAD };
            changed |= hop.flags.fetch_and(!gone, Ordering::Relaxed) & gone != 0;
        }
        if changed {
            let kept = if device.has_carrier() { !(RTNH_F_DEAD | RTNH_F_LINKDOWN) } else { !RTNH_F_DEAD };
            entry.flags.fetch_and(kept, Ordering::Relaxed);
            rebalance(&entry.hops);
        }
    }
    super::changed(&net);
}

/// A device is down: IPv4 routes that only go through it go, but for the machine's own addresses.
pub(crate) fn down(device: &Arc<NetDevice>, ip: &IpDevice) {
    let net = device.namespace();
    for entry in ip.routes.iter().filter(|entry| !entry.is_v6) {
        if entry.hops.iter().all(|hop| hop.scope == RT_SCOPE_NOWHERE) {
            continue;
        }
        for hop in entry.hops.iter().filter(|hop| is_through(hop, device)) {
            hop.flags.fetch_or(RTNH_F_DEAD, Ordering::Relaxed);
        }
        if entry.hops.iter().all(|hop| hop.flags() & RTNH_F_DEAD != 0) {
            remove(&net, &entry, false);
        } else {
            rebalance(&entry.hops);
        }
    }
    super::changed(&net);
}

/// All IPv4 routes through a device go.
pub(crate) fn flush4(device: &Arc<NetDevice>, ip: &IpDevice) {
    let net = device.namespace();
    ip.routes.iter().filter(|entry| !entry.is_v6).for_each(|entry| remove(&net, &entry, false));
}

/// All IPv6 routes through a device go, in the order in which dumps tell them; each way is told by itself.
pub(crate) fn flush6(device: &Arc<NetDevice>, ip: &IpDevice) {
    let net = device.namespace();
    let mut all = Vec::new();
    for entry in ip.routes.iter().filter(|entry| entry.is_v6) {
        if all.try_reserve(1).is_err() {
            remove(&net, &entry, true);
            continue;
        }
        all.push(entry);
    }
    all.sort_unstable_by_key(|entry| {
        let nesting = core::cmp::Reverse(entry.prefix.length);
        (entry.table & 0xff, entry.table, entry.prefix.last_key(), nesting, entry.place)
    });
    for entry in &all {
        let goes = |hop: &Hop| is_through(hop, device);
        let rest = without_ways(&net, entry, &|hop| !goes(hop));
        let gone = (entry.hops.len() > 1).then(|| without_ways(&net, entry, &goes)).flatten();
        let is_told = gone.is_none();
        match rest.filter(|rest| !rest.hops.is_empty()) {
            Some(rest) => replace(&net, entry, rest),
            None => remove(&net, entry, is_told),
        }
        for hop in gone.iter().flat_map(|gone| &gone.hops) {
            if let Some(one) = without_ways(&net, entry, &|other| other.is_like(hop)) {
                announce(&net, RTM_DELROUTE, &one, 0, &Origin::default());
            }
        }
    }
}

/// The same route with some of its ways; `None` without memory.
fn without_ways(net: &NetState, entry: &Entry, keep: &dyn Fn(&Hop) -> bool) -> Option<Entry> {
    let mut hops = Vec::new();
    hops.try_reserve_exact(entry.hops.len()).ok()?;
    hops.extend(entry.hops.iter().filter(|hop| keep(hop)).map(Hop::copy));
    rebalance(&hops);
    Some(copy_with(net, entry, hops))
}

/// Puts what is left of a route in its place; without memory it goes.
fn replace(net: &Arc<NetState>, entry: &Arc<Entry>, rest: Entry) {
    let tables = &net.ip.control.tables6;
    let replaced = match (try_arc(rest), tables.get(entry.table)) {
        (Ok(rest), Some(table)) => tables.replace(net, &table, entry, &rest).is_ok(),
        _ => false,
    };
    if !replaced {
        remove(net, entry, true);
    }
}

/// A device has a carrier or none any more.
pub(crate) fn carrier(device: &Arc<NetDevice>, ip: &IpDevice) {
    let has_carrier = device.has_carrier();
    for entry in ip.routes.iter() {
        for hop in entry.hops.iter().filter(|hop| is_through(hop, device)) {
            if has_carrier {
                hop.flags.fetch_and(!RTNH_F_LINKDOWN, Ordering::Relaxed);
            } else if hop.scope != RT_SCOPE_NOWHERE {
                hop.flags.fetch_or(RTNH_F_LINKDOWN, Ordering::Relaxed);
            }
        }
        if entry.hops.iter().all(|hop| hop.flags() & RTNH_F_LINKDOWN != 0) {
            entry.flags.fetch_or(RTNH_F_LINKDOWN, Ordering::Relaxed);
        } else {
            entry.flags.fetch_and(!RTNH_F_LINKDOWN, Ordering::Relaxed);
        }
    }
    super::changed(&device.namespace());
}

/// An IPv4 address is nobody's any more: routes of the main table that prefer it go (`fib_sync_down_addr`).
pub(crate) fn source_gone4(net: &Arc<NetState>, address: IpAddr) {
    if lookup::kind_in_table(net, address, RT_TABLE_LOCAL, 0) == RTN_LOCAL {
        return;
    }
    let Ok(all) = net.ip.control.tables4.preferring(address) else { return };
    for entry in all.iter().filter(|entry| entry.table == RT_TABLE_MAIN) {
        remove(net, entry, true);
    }
}

/// An IPv6 address is gone from a device: routes through it prefer nothing instead (`rt6_remove_prefsrc`).
pub(crate) fn source_gone6(net: &Arc<NetState>, device: &Arc<NetDevice>, address: IpAddr) {
    let tables = &net.ip.control.tables6;
    let Ok(all) = tables.preferring(address) else { return };
    for entry in all.iter().filter(|entry| entry.hops.iter().any(|hop| is_through(hop, device))) {
        let mut hops = Vec::new();
        if hops.try_reserve_exact(entry.hops.len()).is_err() {
            continue;
        }
        hops.extend(entry.hops.iter().map(Hop::copy));
        let new = Entry { preferred: None, ..copy_with(net, entry, hops) };
        if let (Ok(new), Some(table)) = (try_arc(new), tables.get(entry.table)) {
            let _ = tables.replace(net, &table, entry, &new);
        }
    }
}

/// The time of a route is over.
pub(crate) fn expire(net: &Arc<NetState>, entry: &Arc<Entry>) {
    remove(net, entry, true);
}

/// A next hop that a route names has become another: so have the route's ways.
pub(crate) fn renew_ways(net: &Arc<NetState>, entry: &Arc<Entry>, one: &NextHop, is_told: bool) {
    let renewed = net.ip.control.nexthops.ways(net, one).ok().and_then(|(hops, is_lost)| {
        let kind = match entry.kind {
            _ if is_lost => RTN_BLACKHOLE,
            RTN_BLACKHOLE => RTN_UNICAST,
            kind => kind,
        };
        rebalance(&hops);
        try_arc(Entry { kind, ..copy_with(net, entry, hops) }).ok()
    });
    let tables = net.ip.control.tables(entry.is_v6);
    match (renewed, tables.get(entry.table)) {
        (Some(new), Some(table)) if tables.replace(net, &table, entry, &new).is_ok() => {
            if is_told {
                announce(net, RTM_NEWROUTE, &new, abi::netlink::NLM_F_REPLACE, &Origin::default());
            }
        }
        // Without memory it goes, as if the next hop had.
        _ => nexthop_gone(net, entry),
    }
}

/// The next hop that a route names is gone, and so is the route: of IPv4 nobody is told.
pub(crate) fn nexthop_gone(net: &Arc<NetState>, entry: &Arc<Entry>) {
    remove(net, entry, entry.is_v6);
}
