//! A route is wanted or no longer wanted: checks, as IPv4 (`fib_create_info`) and IPv6 (`ip6_route_info_create`) make them, and its
//! place among the routes of its prefix.
//!
//! Key types: [`Wanted`] (a request, whoever makes it), [`Mode`] (what to do about routes that are there). Everything here is under
//! [`crate::device::Rtnl`] of the namespace. Neighbours: `netlink::route::fib` reads requests and tells of changes.

use abi::errno::{Errno, Result};
use abi::netlink as nl;
use abi::route::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::fib::Prefix;
use linnet_lib::netlink::{Failure, Outcome};
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::lookup::{self, Manner, refusal};
use super::table::{Entry, Hop, Metrics, Order, Table};
use super::{Flow, nexthop};
use crate::device::NetDevice;
use crate::ip::address::{inet6, key_of, lifetime};
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::fib::announce;

/// The metric of IPv6 routes that name none (`IP6_RT_PRIO_USER`).
pub const PRIORITY_USER_6: u32 = 1024;
/// What `rt_metric` of SIOCADDRT is more than a route's metric.
pub(crate) const METRIC_OFFSET: i32 = 1;
/// That of routes which addresses bring (`IP6_RT_PRIO_ADDRCONF`).
pub const PRIORITY_ADDRESS_6: u32 = 256;

/// One way of a wanted route.
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedHop {
    /// Through which device; 0: where the gateway is.
    pub index: i32,
    /// To which router.
    pub gateway: Option<IpAddr>,
    /// `RTNH_F_*`.
    pub flags: u32,
    /// Its share less one.
    pub weight: u16,
    /// The realm.
    pub realm: u32,
}

/// A route that is wanted, or (to take one out) what is known of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of IPv6.
    pub is_v6: bool,
    /// Where it leads.
    pub prefix: Prefix,
    /// Whom it serves.
    pub source: Prefix,
    /// Type of service.
    pub tos: u8,
    /// Its table.
    pub table: u32,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTN_*`.
    pub kind: u8,
    /// `RTNH_F_*`, and of IPv6 `RTF_*`.
    pub flags: u32,
    /// Its metric; 0: the usual.
    pub priority: u32,
    /// RTA_PREFSRC.
    pub preferred: Option<IpAddr>,
    /// RTA_METRICS.
    pub metrics: Option<Metrics>,
    /// RTA_PREF.
    pub preference: u8,
    /// RTA_EXPIRES, seconds.
    pub expires: Option<u32>,
    /// RTA_OIF, RTA_GATEWAY, RTA_FLOW.
    pub hop: WantedHop,
    /// RTA_MULTIPATH.
    pub hops: Vec<WantedHop>,
    /// Whether there was RTA_MULTIPATH.
    pub is_multipath: bool,
    /// RTA_NH_ID; 0: none.
    pub nexthop: u32,
}

impl Wanted {
    /// One to a prefix, of the main table.
    pub fn to(is_v6: bool, prefix: Prefix) -> Wanted {
        Wanted {
            is_v6,
            prefix,
            source: Prefix::new(0, 0),
            tos: 0,
            table: RT_TABLE_MAIN,
            protocol: RTPROT_KERNEL,
            scope: RT_SCOPE_UNIVERSE,
            kind: RTN_UNICAST,
            flags: 0,
            priority: 0,
            preferred: None,
            metrics: None,
            preference: ICMPV6_ROUTER_PREF_MEDIUM,
            expires: None,
            hop: WantedHop::default(),
            hops: Vec::new(),
            is_multipath: false,
            nexthop: 0,
        }
    }

    fn ways(&self) -> &[WantedHop] {
        if self.is_multipath { &self.hops } else { core::slice::from_ref(&self.hop) }
    }
}

/// What to do about routes that are there: `NLM_F_*` of the request.
pub type Mode = u16;
/// As addresses of IPv4 add them.
pub const MODE_APPEND: Mode = nl::NLM_F_CREATE | nl::NLM_F_APPEND;
/// As addresses and routers of IPv6 do.
pub const MODE_CREATE: Mode = nl::NLM_F_CREATE;

fn fail<T>(errno: Errno, text: &'static str) -> Outcome<T> {
    Err(Failure::new(errno, text))
}

/// Adds a route.
pub fn add(net: &Arc<NetState>, wanted: &Wanted, mode: Mode, origin: &Origin) -> Outcome<()> {
    let tables = net.ip.control.tables(wanted.is_v6);
    let table = tables.make(wanted.table)?;
    if wanted.is_v6 {
        insert6(net, &table, check6(net, wanted)?, mode, origin)
    } else {
        insert4(net, &table, check4(net, wanted)?, mode, origin)
    }
}

/// A route that has no place yet.
fn draft(net: &NetState, wanted: &Wanted, hops: Vec<Hop>) -> Result<Entry> {
    let metrics = wanted.metrics.map(try_arc).transpose()?;
    let mut flags = wanted.flags;
    if !hops.is_empty() && hops.iter().all(|hop| hop.flags() & RTNH_F_LINKDOWN != 0) {
        flags |= RTNH_F_LINKDOWN;
    }
    rebalance(&hops);
    Ok(Entry {
        table: wanted.table,
        is_v6: wanted.is_v6,
        prefix: wanted.prefix,
        source: wanted.source,
        tos: wanted.tos,
        priority: wanted.priority,
        kind: wanted.kind,
        scope: wanted.scope,
        protocol: wanted.protocol,
        preferred: wanted.preferred,
        flags: AtomicU32::new(flags),
        metrics,
        preference: wanted.preference,
        expires_ns: wanted.expires.map(after_seconds),
        nexthop: wanted.nexthop,
        is_of_group: false,
        hops,
        serial: net.ip.control.next_route.fetch_add(1, Ordering::Relaxed),
        place: Order::middle(wanted.tos, wanted.priority),
    })
}

/// Shares the values of a hash among the ways by weight (`fib_rebalance`).
pub(crate) fn rebalance(hops: &[Hop]) {
    let weight = |hop: &Hop| if hop.flags() & RTNH_F_DEAD != 0 { 0 } else { u64::from(hop.weight) + 1 };
    let total: u64 = hops.iter().map(weight).sum();
    let mut sum = 0;
    for hop in hops {
        let own = weight(hop);
        sum += own;
        let upper = if own == 0 || total == 0 { -1 } else { (((sum << 31) + total / 2) / total - 1) as i32 };
        hop.upper.store(upper, Ordering::Relaxed);
    }
}

/// The least scope of each type of route (`fib_props`).
fn least_scope(kind: u8) -> u8 {
    match kind {
        RTN_LOCAL => RT_SCOPE_HOST,
        RTN_BROADCAST | RTN_ANYCAST => RT_SCOPE_LINK,
        RTN_UNSPEC | RTN_NAT | RTN_XRESOLVE => RT_SCOPE_NOWHERE,
        _ => RT_SCOPE_UNIVERSE,
    }
}

/// What IPv4 demands of a route.
fn check4(net: &NetState, wanted: &Wanted) -> Outcome<Entry> {
    if least_scope(wanted.kind) > wanted.scope {
        return fail(Errno::EINVAL, "Invalid scope");
    }
    if wanted.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0 {
        return fail(Errno::EINVAL, "Invalid rtm_flags - can not contain DEAD or LINKDOWN");
    }
    if wanted.nexthop != 0 {
        check_preferred4(net, wanted)?;
        return draft_through(net, wanted);
    }
    if wanted.is_multipath && wanted.hops.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    let ways = wanted.ways();
    let mut hops = Vec::new();
    hops.try_reserve_exact(ways.len()).map_err(|_| Errno::ENOMEM)?;
    if refusal(wanted.kind).is_some() {
        if wanted.hop.gateway.is_some() || wanted.hop.index != 0 || wanted.is_multipath {
            let text = "Gateway, device and multipath can not be specified for this route type";
            return fail(Errno::EINVAL, text);
        }
        hops.push(Hop::direct(None, RT_SCOPE_NOWHERE));
        return Ok(draft(net, wanted, hops)?);
    }
    if !matches!(wanted.kind, RTN_UNICAST | RTN_LOCAL | RTN_BROADCAST | RTN_ANYCAST | RTN_MULTICAST) {
        return fail(Errno::EINVAL, "Invalid route type");
    }
    if wanted.scope > RT_SCOPE_HOST {
        return fail(Errno::EINVAL, "Invalid scope");
    }
    if wanted.scope == RT_SCOPE_HOST {
        if ways.len() != 1 {
            return fail(Errno::EINVAL, "Route with host scope can not have multiple nexthops");
        }
        if ways.iter().any(|way| way.gateway.is_some()) {
            return fail(Errno::EINVAL, "Route with host scope can not have a gateway");
        }
        for way in ways {
            let device = net.devices().by_index(way.index).ok_or(Errno::ENODEV)?;
            hops.push(Hop::direct(Some(device), RT_SCOPE_NOWHERE));
        }
    } else {
        for way in ways {
            let flags = if wanted.is_multipath { way.flags } else { wanted.flags };
            hops.push(check_hop4(net, wanted, way, flags & 0xff)?);
        }
    }
    check_preferred4(net, wanted)?;
    Ok(draft(net, wanted, hops)?)
}

fn check_preferred4(net: &NetState, wanted: &Wanted) -> Outcome<()> {
    match wanted.preferred {
        Some(preferred) if !is_valid_source4(net, wanted, preferred) => {
            fail(Errno::EINVAL, "Invalid prefsrc address")
        }
        _ => Ok(()),
    }
}

/// A route that names its next hop.
fn draft_through(net: &NetState, wanted: &Wanted) -> Outcome<Entry> {
    let one = nexthop::of_route(net, wanted)?;
    let (hops, is_lost) = net.ip.control.nexthops.ways(net, &one)?;
    let kind = if is_lost { RTN_BLACKHOLE } else { wanted.kind };
    let entry = draft(net, &Wanted { kind, ..wanted.clone() }, hops)?;
    Ok(Entry { is_of_group: one.is_group(), ..entry })
}

/// A way of its own, of no route (`fib_check_nh`, `fib6_nh_init`).
pub(crate) fn check_way(net: &NetState, is_v6: bool, way: &WantedHop) -> Outcome<Hop> {
    let wanted = Wanted::to(is_v6, Prefix::new(0, 0));
    if is_v6 { check_hop6(net, &wanted, way, way.flags) } else { check_hop4(net, &wanted, way, way.flags) }
}

fn finished_hop(device: Arc<NetDevice>, way: &WantedHop, flags: u32, scope: u8) -> Hop {
    let carrier = if device.has_carrier() { 0 } else { RTNH_F_LINKDOWN };
    Hop {
        device: Some(device),
        gateway: way.gateway,
        weight: way.weight,
        flags: AtomicU32::new(flags | carrier),
        scope,
        realm: way.realm,
        upper: AtomicI32::new(-1),
    }
}

/// One way of an IPv4 route (`fib_check_nh`).
fn check_hop4(net: &NetState, wanted: &Wanted, way: &WantedHop, flags: u32) -> Outcome<Hop> {
    let device = || net.devices().by_index(way.index).filter(|_| way.index != 0);
    let Some(gateway) = way.gateway else {
        if flags & (RTNH_F_PERVASIVE | RTNH_F_ONLINK) != 0 {
            let text = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set";
            return fail(Errno::EINVAL, text);
        }
        let device =
            device().filter(|device| device.ip().is_some_and(|ip| ip.has(false))).ok_or(Errno::ENODEV)?;
        if !device.is_up() {
            return fail(Errno::ENETDOWN, "Device for nexthop is not up");
        }
        return Ok(finished_hop(device, way, flags, RT_SCOPE_HOST));
    };
    if gateway.is_ipv6() {
        let wanted = Wanted { is_v6: true, ..wanted.clone() };
        let device = check_gateway6(net, &wanted, way, flags)?;
        return Ok(finished_hop(device, way, flags, RT_SCOPE_LINK));
    }
    if flags & RTNH_F_ONLINK != 0 {
        if wanted.scope >= RT_SCOPE_LINK {
            return fail(Errno::EINVAL, "Nexthop has invalid scope");
        }
        let Some(device) = device() else {
            return fail(Errno::ENODEV, "Nexthop device required for onlink");
        };
        if !device.is_up() {
            return fail(Errno::ENETDOWN, "Nexthop device is not up");
        }
        let kind = lookup::kind_in_table(net, gateway, RT_TABLE_LOCAL, way.index);
        if kind != RTN_UNICAST {
            return fail(Errno::EINVAL, "Nexthop has invalid gateway");
        }
        return Ok(finished_hop(device, way, flags, RT_SCOPE_LINK));
    }
    let flow = Flow { output: way.index, ..Flow::to(gateway) };
    let scope = wanted.scope.saturating_add(1).max(RT_SCOPE_LINK);
    let manner = Manner { scope, ignores_carrier: true };
    let own = match wanted.table {
        RT_TABLE_MAIN => None,
        table => net.ip.control.tables4.with(table, |table| lookup::in_table(table, &flow, manner)),
    };
    let found = match own {
        Some(Ok(found)) => Ok(found),
        _ => lookup::find(net, &flow, manner),
    };
    let found = found.map_err(|error| Failure::new(error, "Nexthop has invalid gateway"))?;
    if !matches!(found.entry.kind, RTN_UNICAST | RTN_LOCAL) {
        return fail(Errno::EINVAL, "Nexthop has invalid gateway");
    }
    let Some(device) = found.device().cloned() else {
        return fail(Errno::EINVAL, "No egress device for nexthop gateway");
    };
    if !device.is_up() {
        return Err(Errno::ENETDOWN.into());
    }
    Ok(finished_hop(device, way, flags, found.entry.scope))
}

/// Whether an address may be preferred on a route: it is ours, or will be by this route (`fib_valid_prefsrc`).
fn is_valid_source4(net: &NetState, wanted: &Wanted, preferred: IpAddr) -> bool {
    let own = wanted.kind == RTN_LOCAL && wanted.prefix.key != 0 && wanted.prefix.key == key_of(preferred);
    own || [wanted.table, RT_TABLE_LOCAL]
        .into_iter()
        .any(|table| lookup::kind_in_table(net, preferred, table, 0) == RTN_LOCAL)
}

/// Puts an IPv4 route where its request says (`fib_table_insert`).
fn insert4(net: &Arc<NetState>, table: &Table, mut entry: Entry, mode: Mode, origin: &Origin) -> Outcome<()> {
    let has = |flag| mode & flag != 0;
    let (mut first, mut last, mut exact) = (None::<Arc<Entry>>, None::<Arc<Entry>>, None::<Arc<Entry>>);
    for other in table.of_prefix(entry.prefix).filter(|other| other.place.is_beside(entry.place)) {
        if exact.is_none() && other.is_like(&entry) {
            exact = Some(other.clone());
        }
        first = first.or_else(|| Some(other.clone()));
        last = Some(other);
    }
    let tables = &net.ip.control.tables4;
    let mut told = nl::NLM_F_CREATE | nl::NLM_F_EXCL;
    if let (Some(first), Some(last)) = (first, last) {
        if has(nl::NLM_F_EXCL) {
            return Err(Errno::EEXIST.into());
        }
        if has(nl::NLM_F_REPLACE) {
            match exact {
                Some(exact) if exact.serial == first.serial => return Ok(()),
                Some(_) => return Err(Errno::EEXIST.into()),
                None => {}
            }
            entry.place = first.place;
            let entry = try_arc(entry).map_err(Errno::from)?;
            tables.replace(net, table, &first, &entry)?;
            announce(net, RTM_NEW, &entry, nl::NLM_F_REPLACE, origin);
            return Ok(());
        }
        if exact.is_some() {
            return Err(Errno::EEXIST.into());
        }
        if has(nl::NLM_F_APPEND) {
            entry.place = last.place.after();
            told = nl::NLM_F_CREATE | nl::NLM_F_APPEND;
        } else {
            told = nl::NLM_F_CREATE;
            entry.place = first.place.before();
        }
    }
    if !has(nl::NLM_F_CREATE) {
        return Err(Errno::ENOENT.into());
    }
    let entry = try_arc(entry).map_err(Errno::from)?;
    tables.add(net, table, &entry)?;
    announce(net, RTM_NEW, &entry, told, origin);
    Ok(())
}

const RTM_NEW: u16 = abi::rtnetlink::RTM_NEWROUTE;
const RTM_DELETE: u16 = abi::rtnetlink::RTM_DELROUTE;

/// What IPv6 demands of a route.
fn check6(net: &NetState, wanted: &Wanted) -> Outcome<Entry> {
    let mut wanted = wanted.clone();
    if wanted.priority == 0 && wanted.protocol != RTPROT_KERNEL {
        wanted.priority = PRIORITY_USER_6;
    }
    if wanted.nexthop != 0 {
        wanted.flags &= !0xff;
        return draft_through(net, &wanted);
    }
    let ways = wanted.ways();
    let mut hops = Vec::new();
    hops.try_reserve_exact(ways.len()).map_err(|_| Errno::ENOMEM)?;
    for way in ways {
        let flags = if wanted.is_multipath { way.flags } else { wanted.flags & 0xff };
        hops.push(check_hop6(net, &wanted, way, flags)?);
    }
    if let Some(IpAddr::V6(preferred)) = wanted.preferred {
        let device = hops.first().map_or(0, Hop::index);
        if inet6::owner(net, preferred, device).is_none() {
            return fail(Errno::EINVAL, "Invalid source address");
        }
    }
    let is_rejecting = refusal(wanted.kind).is_some() || is_looping(&wanted, hops.first());
    // The low bits are a way's here, not those of `RTF_*`.
    wanted.flags = wanted.flags & !0xff | if is_rejecting { RTF_REJECT } else { 0 };
    if wanted.protocol == RTPROT_UNSPEC {
        wanted.protocol = RTPROT_BOOT;
    }
    Ok(draft(net, &wanted, hops)?)
}

/// Whether a route sends what is not for the loopback through it, which would go round.
fn is_looping(wanted: &Wanted, hop: Option<&Hop>) -> bool {
    let is_loopback = hop.is_some_and(|hop| hop.device.as_ref().is_some_and(|device| device.is_loopback()));
    let is_inside = wanted.prefix == Prefix::exact(key_of(Ipv6Addr::LOCALHOST.into()));
    is_loopback && !is_inside && !matches!(wanted.kind, RTN_LOCAL | RTN_ANYCAST)
}

/// One way of an IPv6 route (`fib6_nh_init`).
fn check_hop6(net: &NetState, wanted: &Wanted, way: &WantedHop, flags: u32) -> Outcome<Hop> {
    let mut device = None;
    if way.index != 0 {
        let named = net.devices().by_index(way.index).ok_or(Errno::ENODEV)?;
        if named.ip().is_none_or(|ip| !ip.has(true)) {
            return Err(Errno::ENODEV.into());
        }
        device = Some(named);
    }
    if flags & RTNH_F_ONLINK != 0 {
        match &device {
            None => return fail(Errno::ENODEV, "Nexthop device required for onlink"),
            Some(device) if !device.is_up() => return fail(Errno::ENETDOWN, "Nexthop device is not up"),
            Some(_) => {}
        }
    }
    if refusal(wanted.kind).is_some() {
        let loopback = net.devices().by_index(1).ok_or(Errno::ENODEV)?;
        return Ok(Hop::direct(Some(loopback), 0));
    }
    if way.gateway.is_some() {
        device = Some(check_gateway6(net, wanted, way, flags)?);
    }
    let device = device.ok_or(Errno::ENODEV)?;
    let ip = device.ip().ok_or(Errno::ENODEV)?;
    if ip.settings6.is_on(crate::ip::config::v6::DISABLE_IPV6) {
        return fail(Errno::EACCES, "IPv6 is disabled on nexthop device");
    }
    if !device.is_up() && wanted.kind != RTN_LOCAL {
        return fail(Errno::ENETDOWN, "Nexthop device is not up");
    }
    Ok(finished_hop(device, way, flags & RTNH_F_ONLINK, 0))
}

/// The device behind which an IPv6 router is (`ip6_validate_gw`).
fn check_gateway6(net: &NetState, wanted: &Wanted, way: &WantedHop, flags: u32) -> Outcome<Arc<NetDevice>> {
    let Some(IpAddr::V6(gateway)) = way.gateway else {
        return fail(Errno::EINVAL, "Invalid gateway address");
    };
    let named = net.devices().by_index(way.index).filter(|_| way.index != 0);
    let is_near = gateway.is_unicast_link_local();
    let scope = if is_near { way.index } else { 0 };
    if inet6::owner(net, gateway, scope).is_some_and(|own| !own.has(IFA_F_TENTATIVE)) {
        return fail(Errno::EINVAL, "Gateway can not be a local address");
    }
    let mut device = named.clone();
    if !is_near {
        if gateway.is_multicast() || gateway.is_unspecified() || gateway.is_loopback() {
            return fail(Errno::EINVAL, "Invalid gateway address");
        }
        let flow = Flow { output: way.index, ..Flow::to(gateway.into()) };
        let manner = Manner { ignores_carrier: true, ..Manner::default() };
        if flags & RTNH_F_ONLINK != 0 {
            let found = lookup::find(net, &Flow { output: 0, ..flow }, manner);
            if let (Ok(found), Some(named)) = (found, &named) {
                let leads_elsewhere = found.entry.prefix.length > 0
                    && (found.entry.kind != RTN_UNICAST
                        || found.device().is_none_or(|device| !Arc::ptr_eq(device, named)));
                if leads_elsewhere {
                    return fail(Errno::EINVAL, "Nexthop has invalid gateway or device mismatch");
                }
            }
        } else {
            let own = match wanted.table {
                RT_TABLE_MAIN => None,
                table => net.ip.control.tables6.with(table, |table| lookup::in_table(table, &flow, manner)),
            };
            let is_direct = |found: &lookup::Found| {
                found.entry.kind == RTN_UNICAST
                    && found.entry.flags() & RTF_REJECT == 0
                    && found.hop().is_some_and(|hop| hop.gateway.is_none())
            };
            let found = match own {
                Some(Ok(found)) if is_direct(&found) => found,
                _ => lookup::find(net, &flow, manner)
                    .ok()
                    .filter(is_direct)
                    .ok_or(Failure::from(Errno::EHOSTUNREACH))?,
            };
            device = named.or_else(|| found.device().cloned());
        }
    }
    match device {
        None => fail(Errno::EINVAL, "Egress device not specified"),
        Some(device) if device.is_loopback() => {
            fail(Errno::EINVAL, "Egress device can not be loopback device for this route")
        }
        Some(device) => Ok(device),
    }
}

/// Whether routes that are alike but for their ways are one of several ways.
fn may_share(entry: &Entry) -> bool {
    entry.nexthop == 0
        && entry.flags() & (RTF_ADDRCONF | RTF_DYNAMIC | RTF_REJECT) == 0
        && entry.expires_ns.is_none()
        && entry.hops.iter().all(|hop| hop.gateway.is_some())
}

/// Puts an IPv6 route where its request says (`fib6_add_rt2node`): with the same metric and a router it becomes a way of the one
/// that is there.
fn insert6(net: &Arc<NetState>, table: &Table, mut entry: Entry, mode: Mode, origin: &Origin) -> Outcome<()> {
    let has = |flag| mode & flag != 0;
    let tables = &net.ip.control.tables6;
    let (mut sharing, mut last, mut replaced) = (None::<Arc<Entry>>, None::<Arc<Entry>>, None::<Arc<Entry>>);
    let is_same_place =
        |other: &Arc<Entry>| other.place.is_beside(entry.place) && other.source == entry.source;
    for other in table.of_prefix(entry.prefix).filter(is_same_place) {
        if has(nl::NLM_F_EXCL) {
            return Err(Errno::EEXIST.into());
        }
        let is_alike = may_share(&other) == may_share(&entry);
        if has(nl::NLM_F_REPLACE) {
            if is_alike && replaced.is_none() {
                replaced = Some(other.clone());
            }
        } else if other.hops.iter().any(|hop| entry.hops.iter().any(|new| new.is_like(hop))) {
            return Err(Errno::EEXIST.into());
        } else if may_share(&other) && may_share(&entry) {
            sharing = Some(other.clone());
        }
        last = Some(other);
    }
    if has(nl::NLM_F_REPLACE) && replaced.is_none() && !has(nl::NLM_F_CREATE) {
        return fail(Errno::ENOENT, "Can not replace route - no match found");
    }
    if let Some(old) = replaced.as_ref().or(sharing.as_ref()) {
        entry.place = old.place;
        let mut said = None;
        if sharing.is_some() {
            let mut hops = Vec::new();
            hops.try_reserve_exact(old.hops.len() + entry.hops.len()).map_err(|_| Errno::ENOMEM)?;
            // Told are the new ways first, as on Linux.
            hops.extend(entry.hops.iter().chain(&old.hops).map(Hop::copy));
            said = Some(copy_with(net, &entry, hops));
            let mut hops = Vec::new();
            hops.try_reserve_exact(old.hops.len() + entry.hops.len()).map_err(|_| Errno::ENOMEM)?;
            hops.extend(old.hops.iter().map(Hop::copy));
            hops.append(&mut entry.hops);
            rebalance(&hops);
            entry.hops = hops;
        }
        let entry = try_arc(entry).map_err(Errno::from)?;
        tables.replace(net, table, old, &entry)?;
        let told = match replaced {
            Some(_) => nl::NLM_F_REPLACE,
            None => nl::NLM_F_CREATE | mode & nl::NLM_F_APPEND,
        };
        announce(net, RTM_NEW, said.as_ref().unwrap_or(&entry), told, origin);
        return Ok(());
    }
    // Told is what was found, whatever was asked for: that it is new, and whether it is the only one.
    let mut told = nl::NLM_F_CREATE | mode & nl::NLM_F_APPEND;
    match last {
        Some(last) => entry.place = last.place.after(),
        None => told |= nl::NLM_F_EXCL,
    }
    let entry = try_arc(entry).map_err(Errno::from)?;
    tables.add(net, table, &entry)?;
    announce(net, RTM_NEW, &entry, told, origin);
    Ok(())
}

/// Sets when an IPv6 route ends, which nobody is told; whether there is one like that. Under rtnl.
pub(crate) fn set_expiry(net: &Arc<NetState>, wanted: &Wanted) -> bool {
    let tables = net.ip.control.tables(true);
    let Some(table) = tables.get(wanted.table) else { return false };
    let Some(entry) = table.of_prefix(wanted.prefix).find(|entry| matches6(entry, wanted)) else {
        return false;
    };
    let mut hops = Vec::new();
    if hops.try_reserve_exact(entry.hops.len()).is_err() {
        return true;
    }
    hops.extend(entry.hops.iter().map(Hop::copy));
    let expires_ns = wanted.expires.map(after_seconds);
    let Ok(new) = try_arc(Entry { expires_ns, ..copy_with(net, &entry, hops) }) else { return true };
    if tables.replace(net, &table, &entry, &new).is_ok()
        && let Some(end) = expires_ns
    {
        lifetime::watch_at(net, end);
    }
    true
}

/// When so many seconds will have passed.
fn after_seconds(seconds: u32) -> u64 {
    machine::time::now_ns() + u64::from(seconds) * 1_000_000_000
}

/// Takes a route out. `ESRCH`: there is none like that.
pub fn delete(net: &Arc<NetState>, wanted: &Wanted, origin: &Origin) -> Outcome<()> {
    let tables = net.ip.control.tables(wanted.is_v6);
    let Some(table) = tables.get(wanted.table) else {
        return fail(Errno::ESRCH, "FIB table does not exist");
    };
    let is_meant =
        |entry: &Arc<Entry>| if wanted.is_v6 { matches6(entry, wanted) } else { matches4(entry, wanted) };
    let Some(entry) = table.of_prefix(wanted.prefix).find(is_meant) else {
        return Err(Errno::ESRCH.into());
    };
    if wanted.is_v6 && entry.hops.len() > 1 && (wanted.hop.gateway.is_some() || wanted.is_multipath) {
        return delete_ways(net, &table, &entry, wanted, origin);
    }
    tables.remove(net, &entry);
    entry.flags.fetch_and(!RTNH_F_DEAD, Ordering::Relaxed);
    announce(net, RTM_DELETE, &entry, 0, origin);
    entry.flags.fetch_or(RTNH_F_DEAD, Ordering::Relaxed);
    Ok(())
}

/// Takes some ways of an IPv6 route out.
fn delete_ways(
    net: &Arc<NetState>,
    table: &Table,
    entry: &Arc<Entry>,
    wanted: &Wanted,
    origin: &Origin,
) -> Outcome<()> {
    let goes = |hop: &Hop| {
        wanted
            .ways()
            .iter()
            .any(|way| hop.gateway == way.gateway && (way.index == 0 || way.index == hop.index()))
    };
    let with = |keep: &dyn Fn(&Hop) -> bool| -> Result<Arc<Entry>> {
        let mut hops = Vec::new();
        hops.try_reserve_exact(entry.hops.len()).map_err(|_| Errno::ENOMEM)?;
        hops.extend(entry.hops.iter().filter(|hop| keep(hop)).map(Hop::copy));
        rebalance(&hops);
        Ok(try_arc(copy_with(net, entry, hops))?)
    };
    let rest = with(&|hop| !goes(hop))?;
    let gone = with(&goes)?;
    let tables = net.ip.control.tables(true);
    if rest.hops.is_empty() {
        tables.remove(net, entry);
    } else {
        tables.replace(net, table, entry, &rest)?;
    }
    announce(net, RTM_DELETE, &gone, 0, origin);
    Ok(())
}

/// The same route with other ways.
pub(crate) fn copy_with(net: &NetState, entry: &Entry, hops: Vec<Hop>) -> Entry {
    Entry {
        table: entry.table,
        is_v6: entry.is_v6,
        prefix: entry.prefix,
        source: entry.source,
        tos: entry.tos,
        priority: entry.priority,
        kind: entry.kind,
        scope: entry.scope,
        protocol: entry.protocol,
        preferred: entry.preferred,
        flags: AtomicU32::new(entry.flags() & !RTNH_F_DEAD),
        metrics: entry.metrics.clone(),
        preference: entry.preference,
        expires_ns: entry.expires_ns,
        nexthop: entry.nexthop,
        is_of_group: entry.is_of_group,
        hops,
        serial: net.ip.control.next_route.fetch_add(1, Ordering::Relaxed),
        place: entry.place,
    }
}

/// Whether a route is one that a request to delete means (`fib_table_delete`, `fib_nh_match`).
fn matches4(entry: &Entry, wanted: &Wanted) -> bool {
    let hop_matches = |way: &WantedHop, hop: &Hop| {
        (way.index == 0 || way.index == hop.index()) && (way.gateway.is_none() || way.gateway == hop.gateway)
    };
    let ways_match = if wanted.nexthop != 0 {
        wanted.nexthop == entry.nexthop
    } else if entry.nexthop != 0 {
        wanted.hop.index == 0 && wanted.hop.gateway.is_none() && !wanted.is_multipath
    } else if wanted.is_multipath {
        wanted.hops.len() == entry.hops.len()
            && wanted.hops.iter().zip(&entry.hops).all(|(way, hop)| hop_matches(way, hop))
    } else if wanted.hop.index != 0 || wanted.hop.gateway.is_some() {
        entry.hops.first().is_some_and(|hop| hop_matches(&wanted.hop, hop))
    } else {
        true
    };
    let metrics_match = wanted.metrics.as_ref().is_none_or(|metrics| {
        (1..super::table::METRICS)
            .all(|which| metrics[which] == 0 || metrics[which] == entry.metric(which as u16))
    });
    entry.tos == wanted.tos
        && (wanted.kind == 0 || wanted.kind == entry.kind)
        && (wanted.scope == RT_SCOPE_NOWHERE || wanted.scope == entry.scope)
        && (wanted.preferred.is_none() || wanted.preferred == entry.preferred)
        && (wanted.protocol == 0 || wanted.protocol == entry.protocol)
        && (wanted.priority == 0 || wanted.priority == entry.priority)
        && ways_match
        && metrics_match
}

/// The same for IPv6 (`ip6_route_del`).
fn matches6(entry: &Entry, wanted: &Wanted) -> bool {
    let way_matches = |way: &WantedHop| {
        entry.hops.iter().any(|hop| {
            (way.index == 0 || way.index == hop.index())
                && (way.gateway.is_none() || way.gateway == hop.gateway)
        })
    };
    let names_it = wanted.nexthop == 0 || wanted.nexthop == entry.nexthop;
    names_it
        && entry.source == wanted.source
        && (wanted.priority == 0 || wanted.priority == entry.priority)
        && (wanted.protocol == 0 || wanted.protocol == entry.protocol)
        && wanted.ways().iter().all(way_matches)
}
