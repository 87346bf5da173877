//! Finding the route of a packet: out of the machine ([`output`]) and into it ([`input`]); `ip_route_output_key`, `ip_route_input`,
//! `ip6_route_output`, `ip6_route_input`.
//!
//! Any context, no lock, no allocation but counts. Neighbours: `rule`, `table`, `cache`.

use abi::errno::{Errno, Result};
use abi::route::*;
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::fib::Prefix;
use machine::sync::atomic::Ordering;

use super::table::{Entry, Hop, Table};
use super::{Flow, Route, RouteKind};
use crate::device::NetDevice;
use crate::ip::address::{AddressKind, inet, inet6, key_of};
use crate::ip::config::{v4, v6};
use crate::ip::{multicast, sysctl};
use crate::namespace::NetState;

/// Bytes of the largest packet of IPv4.
const MOST_4: u32 = 65_535;
/// Bytes of the largest packet of IPv6 with its header.
const MOST_6: u32 = 65_575;

/// What a table has for a packet.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) entry: Arc<Entry>,
    /// Which of its ways.
    pub(crate) hop: usize,
    pub(crate) table: u32,
}

impl Found {
    /// The way.
    pub(crate) fn hop(&self) -> Option<&Hop> {
        self.entry.hops.get(self.hop)
    }
    /// Its device.
    pub(crate) fn device(&self) -> Option<&Arc<NetDevice>> {
        self.hop()?.device.as_ref()
    }
}

/// How to look.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Only routes that reach at least so far (IPv4).
    pub(crate) scope: u8,
    /// Also through links without carrier.
    pub(crate) ignores_carrier: bool,
}

/// What the type of a route says of a packet: an error, or nothing (`fib_props`).
pub(crate) fn refusal(kind: u8) -> Option<Errno> {
    match kind {
        RTN_BLACKHOLE => Some(Errno::EINVAL),
        RTN_UNREACHABLE => Some(Errno::EHOSTUNREACH),
        RTN_PROHIBIT => Some(Errno::EACCES),
        RTN_THROW => Some(Errno::EAGAIN),
        _ => None,
    }
}

/// Whether a way can be taken.
fn is_good(hop: &Hop, flow: &Flow, manner: Manner, is_v6: bool) -> bool {
    let flags = hop.flags();
    if flags & RTNH_F_DEAD != 0 {
        return false;
    }
    let Some(device) = &hop.device else { return true };
    if flags & RTNH_F_LINKDOWN != 0 && !manner.ignores_carrier {
        let ignores = device.ip().is_some_and(|ip| {
            if is_v6 {
                ip.settings6.is_on(v6::IGNORE_ROUTES_WITH_LINKDOWN)
            } else {
                ip.settings4.is_on(v4::IGNORE_ROUTES_WITH_LINKDOWN)
            }
        });
        if ignores {
            return false;
        }
    }
    flow.output == 0 || flow.output == device.index()
}

/// Asks one table. `None`: it has nothing to say.
pub(crate) fn in_table(table: &Table, flow: &Flow, manner: Manner) -> Option<Result<Found>> {
    let is_v6 = flow.destination.is_ipv6();
    let source = flow.source.map_or(0, key_of);
    let answer = table.routes.find_longest(key_of(flow.destination), |_, entry| {
        let is_for_it = (entry.tos == 0 || entry.tos == flow.tos & 0x1c)
            && entry.scope >= manner.scope
            && entry.source.covers(source)
            && !entry.is_expired();
        if !is_for_it {
            return None;
        }
        if let Some(error) = refusal(entry.kind) {
            return Some(Err(error));
        }
        if entry.flags() & RTNH_F_DEAD != 0 {
            return None;
        }
        let hop = entry.hops.iter().position(|hop| is_good(hop, flow, manner, is_v6))?;
        Some(Ok(Found { entry: entry.clone(), hop, table: table.id }))
    });
    // A route that throws is as if the table had none.
    answer.filter(|answer| !matches!(answer, Err(Errno::EAGAIN)))
}

/// Asks the tables that the rules name. `ENETUNREACH`: none has a route; what the route's type says.
pub(crate) fn find(net: &NetState, flow: &Flow, manner: Manner) -> Result<Found> {
    let is_v6 = flow.destination.is_ipv6();
    let tables = net.ip.control.tables(is_v6);
    let found = net.ip.control.rules(is_v6).ask(net, flow, |id, rule| {
        let answer = tables.with(id, |table| in_table(table, flow, manner))?;
        let is_suppressed = rule.is_some_and(|rule| match &answer {
            Ok(found) => {
                let group = found.device().map_or(0, |device| device.gauge(crate::device::Gauge::Group));
                i32::from(shown_length(&found.entry)) <= rule.suppress_length
                    || (rule.suppress_group != -1 && group as i32 == rule.suppress_group)
            }
            Err(_) => false,
        });
        (!is_suppressed).then_some(answer)
    });
    // Until somebody makes a rule the local table of IPv4 is part of the main one, as programs see it.
    let is_merged = !is_v6 && !net.ip.control.rules4.is_custom();
    found.map(|found| Found { table: if is_merged { RT_TABLE_MAIN } else { found.table }, ..found })
}

/// Bits of a route's prefix as its family counts them.
pub(crate) fn shown_length(entry: &Entry) -> u8 {
    entry.prefix.length
}

/// Chooses among the ways of a route by a hash of the flow (`fib_select_multipath`).
fn select_path(net: &NetState, found: &mut Found, flow: &Flow) {
    if found.entry.hops.len() < 2 || flow.output != 0 {
        return;
    }
    let is_v6 = found.entry.is_v6;
    let policy = if is_v6 { sysctl::HASH_POLICY_6 } else { sysctl::HASH_POLICY_4 };
    let by_ports = net.ip_number(policy) != 0;
    let hash = (if flow.hash != 0 { flow.hash } else { flow_hash(flow, by_ports) } >> 1) as i32;
    let manner = Manner::default();
    let chosen = found
        .entry
        .hops
        .iter()
        .position(|hop| hash <= hop.upper.load(Ordering::Relaxed) && is_good(hop, flow, manner, is_v6));
    if let Some(chosen) = chosen {
        found.hop = chosen;
    }
}

/// A hash of both addresses (`by_ports`: of protocol and ports, too) that nobody outside can choose.
fn flow_hash(flow: &Flow, by_ports: bool) -> u32 {
    static KEY: machine::sync::Lazy<u64> = machine::sync::Lazy::new(|| {
        let mut bytes = [0; 8];
        machine::random::fill(&mut bytes);
        u64::from_ne_bytes(bytes) | 1
    });
    let mut hash = *KEY;
    let (from, to) = flow.ports;
    let ends = u128::from(flow.protocol) << 32 | u128::from(from) << 16 | u128::from(to);
    let ends = if by_ports { ends } else { 0 };
    for key in [key_of(flow.destination), flow.source.map_or(0, key_of), ends] {
        for half in [(key >> 64) as u64, key as u64] {
            hash = (hash ^ half).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ *KEY;
        }
    }
    (hash >> 32) as u32
}

/// A route that needs no table.
pub(crate) fn plain(net: &NetState, kind: RouteKind, device: &Arc<NetDevice>, flow: &Flow) -> Route {
    let mut route = Route {
        kind,
        device: device.clone(),
        gateway: None,
        source: flow.source,
        mtu: 0,
        hop_limit: None,
        table: RT_TABLE_MAIN,
        entry: None,
        prefix: Prefix::exact(key_of(flow.destination)),
        mtu_is_locked: false,
        path_expires: None,
        is_member: false,
    };
    set_mtu(net, &mut route, flow.destination);
    route
}

/// A route from what a table had.
fn of_found(net: &NetState, kind: RouteKind, found: &Found, flow: &Flow) -> Result<Route> {
    let device = found.device().ok_or(Errno::ENETUNREACH)?;
    let mut route = plain(net, kind, device, flow);
    route.gateway = found.hop().and_then(|hop| hop.gateway);
    route.table = found.table;
    route.prefix = found.entry.prefix;
    route.hop_limit = u8::try_from(found.entry.metric(RTAX_HOPLIMIT)).ok().filter(|limit| *limit != 0);
    route.entry = Some(found.entry.clone());
    set_mtu(net, &mut route, flow.destination);
    if kind == RouteKind::Unicast
        && let Some(known) = net.ip.control.paths.get(flow.destination)
        && let Some(gateway) = known.gateway.filter(|_| known.index == device.index())
    {
        route.gateway = Some(gateway);
    }
    Ok(route)
}

/// What gets through: what the path taught, else what the route says, else what the device takes.
fn set_mtu(net: &NetState, route: &mut Route, destination: IpAddr) {
    let most = if destination.is_ipv4() { MOST_4 } else { MOST_6 };
    let own = match (destination, route.device.ip()) {
        (IpAddr::V6(_), Some(ip)) => (ip.settings6.get(v6::MTU) as u32).min(route.device.mtu()),
        _ => route.device.mtu(),
    };
    let metric = |which| route.entry.as_ref().map_or(0, |entry| entry.metric(which));
    let said = metric(RTAX_MTU);
    route.mtu_is_locked = metric(RTAX_LOCK) & 1 << RTAX_MTU != 0;
    route.mtu = if said == 0 { own } else { said }.min(most);
    if route.mtu_is_locked {
        return;
    }
    if let Some(known) = net.ip.control.paths.get(destination).filter(|known| known.mtu != 0) {
        route.mtu = route.mtu.min(known.mtu);
        let left = known.ends_ns.saturating_sub(machine::time::now_ns()) / 1_000_000_000;
        route.path_expires = Some(left as u32);
    }
}

/// The route of a packet that leaves the machine. Any context.
///
/// # Errors
/// `ENETUNREACH`, `EHOSTUNREACH`, `EACCES` (prohibit), `EINVAL` (blackhole, or no such source), `ENODEV`.
pub fn output(net: &Arc<NetState>, flow: &Flow) -> Result<Route> {
    match flow.destination {
        IpAddr::V4(destination) => output4(net, flow, destination),
        IpAddr::V6(_) => output6(net, flow),
    }
}

fn loopback(net: &NetState) -> Result<Arc<NetDevice>> {
    net.devices().by_index(1).ok_or(Errno::ENETUNREACH)
}

/// The device that a flow names, and the source that follows from it for some destinations.
fn named_device4(net: &NetState, flow: &mut Flow, destination: Ipv4Addr) -> Result<Arc<NetDevice>> {
    let device = net.devices().by_index(flow.output).ok_or(Errno::ENODEV)?;
    if !device.is_up() || device.ip().is_none_or(|ip| !ip.has(false)) {
        return Err(Errno::ENETUNREACH);
    }
    let scope = match destination {
        near if near.octets()[..3] == [224, 0, 0] || near == Ipv4Addr::BROADCAST => RT_SCOPE_LINK,
        group if group.is_multicast() => RT_SCOPE_UNIVERSE,
        nobody if nobody.is_unspecified() => RT_SCOPE_HOST,
        _ => return Ok(device),
    };
    flow.source = flow.source.or_else(|| inet::select_source(net, &device, None, scope));
    Ok(device)
}

fn output4(net: &Arc<NetState>, flow: &Flow, destination: Ipv4Addr) -> Result<Route> {
    let mut flow = *flow;
    let is_to_many = destination.is_multicast() || destination == Ipv4Addr::BROADCAST;
    if let Some(IpAddr::V4(source)) = flow.source.filter(|source| !source.is_unspecified()) {
        if source.is_multicast() || source == Ipv4Addr::BROADCAST || source.octets()[0] == 0 {
            return Err(Errno::EINVAL);
        }
        let owner = inet::owner(net, source);
        if flow.output == 0 && is_to_many {
            let device = owner.ok_or(Errno::ENETUNREACH)?;
            return to_many(net, &device, &flow, destination);
        }
        if owner.is_none() {
            return Err(Errno::ENETUNREACH);
        }
    } else {
        flow.source = None;
    }
    let through = match flow.output {
        0 => None,
        _ => Some(named_device4(net, &mut flow, destination)?),
    };
    let is_local_group = destination.octets()[..3] == [224, 0, 0] || destination == Ipv4Addr::BROADCAST;
    if let Some(device) = through.as_ref().filter(|_| is_local_group) {
        return to_many(net, device, &flow, destination);
    }
    if destination.is_unspecified() {
        // To nobody is to oneself.
        let to = flow.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        (flow.destination, flow.source) = (to, Some(to));
        return Ok(plain(net, RouteKind::Local, &loopback(net)?, &flow));
    }
    let mut found = match find(net, &flow, Manner::default()) {
        Ok(found) => found,
        Err(error) => {
            // Who names a device is believed that the destination is on its link.
            let device = through.ok_or(error)?;
            flow.source = flow.source.or_else(|| inet::select_source(net, &device, None, RT_SCOPE_LINK));
            return finish4(net, plain(net, RouteKind::Unicast, &device, &flow), &flow, destination);
        }
    };
    if found.entry.kind == RTN_LOCAL {
        let mut route = plain(net, RouteKind::Local, &loopback(net)?, &flow);
        route.source = flow.source.or(found.entry.preferred).or(Some(flow.destination));
        (route.table, route.prefix) = (found.table, found.entry.prefix);
        route.entry = Some(found.entry);
        return Ok(route);
    }
    select_path(net, &mut found, &flow);
    flow.source = flow.source.or_else(|| source_of(net, &found));
    let kind = if found.entry.kind == RTN_BROADCAST { RouteKind::Broadcast } else { RouteKind::Unicast };
    let route = of_found(net, kind, &found, &flow)?;
    finish4(net, route, &flow, destination)
}

/// The address that packets on a route are sent from (`fib_result_prefsrc`).
pub(crate) fn source_of(net: &NetState, found: &Found) -> Option<IpAddr> {
    if found.entry.preferred.is_some() {
        return found.entry.preferred;
    }
    let device = found.device()?;
    let near = found.hop().and_then(|hop| match hop.gateway {
        Some(IpAddr::V4(gateway)) => Some(gateway),
        _ => None,
    });
    inet::select_source(net, device, near, found.entry.scope)
}

/// A packet to a group or to all on the link of a device.
fn to_many(net: &NetState, device: &Arc<NetDevice>, flow: &Flow, destination: Ipv4Addr) -> Result<Route> {
    finish4(net, plain(net, RouteKind::Unicast, device, flow), flow, destination)
}

/// What the destination itself says of the kind of route (`__mkroute_output`).
fn finish4(net: &NetState, mut route: Route, flow: &Flow, destination: Ipv4Addr) -> Result<Route> {
    let is_from_inside = matches!(flow.source, Some(IpAddr::V4(source)) if source.is_loopback());
    if is_from_inside && !route.device.is_loopback() {
        let allows = route.device.ip().is_some_and(|ip| {
            ip.settings4.is_on(v4::ROUTE_LOCALNET) || net.ip.control.all4.is_on(v4::ROUTE_LOCALNET)
        });
        if !allows {
            return Err(Errno::EINVAL);
        }
    }
    if destination == Ipv4Addr::BROADCAST {
        route.kind = RouteKind::Broadcast;
    } else if destination.is_multicast() {
        route.kind = RouteKind::Multicast;
        route.gateway = None;
        route.is_member = multicast::is_member(&route.device, destination.into());
    } else if destination.octets()[0] == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(route)
}

fn output6(net: &Arc<NetState>, flow: &Flow) -> Result<Route> {
    let mut flow = *flow;
    flow.source = flow.source.filter(|source| !source.is_unspecified());
    let IpAddr::V6(destination) = flow.destination else { return Err(Errno::EINVAL) };
    if destination.is_unspecified() {
        flow.destination = IpAddr::V6(core::net::Ipv6Addr::LOCALHOST);
    }
    let is_strict = destination.is_multicast() || destination.is_unicast_link_local();
    let mut found = match find(net, &flow, Manner::default()) {
        // Addresses that reach farther may go by another device than the one named.
        Err(Errno::ENETUNREACH) if flow.output == 0 || is_strict => return Err(Errno::ENETUNREACH),
        other => other?,
    };
    select_path(net, &mut found, &flow);
    if matches!(found.entry.kind, RTN_LOCAL | RTN_ANYCAST) {
        let mut route = plain(net, RouteKind::Local, &loopback(net)?, &flow);
        route.source = flow.source.or_else(|| {
            let device = found.device().cloned();
            let IpAddr::V6(to) = flow.destination else { return None };
            inet6::select_source(net, device.as_deref(), to).map(IpAddr::V6)
        });
        (route.table, route.prefix) = (found.table, found.entry.prefix);
        route.entry = Some(found.entry);
        return Ok(route);
    }
    let kind = if destination.is_multicast() { RouteKind::Multicast } else { RouteKind::Unicast };
    let mut route = of_found(net, kind, &found, &flow)?;
    if kind == RouteKind::Multicast {
        route.gateway = None;
        route.is_member = multicast::is_member(&route.device, flow.destination);
    }
    if flow.source.is_none() {
        let IpAddr::V6(to) = flow.destination else { return Err(Errno::EINVAL) };
        route.source = found
            .entry
            .preferred
            .or_else(|| inet6::select_source(net, Some(&route.device), to).map(IpAddr::V6));
    }
    Ok(route)
}

/// The route of a packet that came in through `device`. Any context.
///
/// # Errors
/// `EINVAL`: it cannot have come (martian); `EXDEV`: its source is not behind that device (`rp_filter`); `EHOSTUNREACH`,
/// `ENETUNREACH`, `EACCES`: there is nowhere to send it on to.
pub fn input(net: &Arc<NetState>, device: &Arc<NetDevice>, flow: &Flow) -> Result<Route> {
    let flow = Flow { input: device.index(), output: 0, ..*flow };
    match (flow.destination, flow.source) {
        (IpAddr::V4(to), Some(IpAddr::V4(from))) => input4(net, device, &flow, to, from),
        (IpAddr::V6(_), _) => input6(net, device, &flow),
        _ => Err(Errno::EINVAL),
    }
}

fn input4(
    net: &Arc<NetState>,
    device: &Arc<NetDevice>,
    flow: &Flow,
    to: Ipv4Addr,
    from: Ipv4Addr,
) -> Result<Route> {
    let ip = device.ip().filter(|ip| ip.has(false)).ok_or(Errno::EINVAL)?;
    if to.is_multicast() {
        let mut route = plain(net, RouteKind::Multicast, device, flow);
        route.is_member = multicast::is_member(device, to.into());
        let is_good = !from.is_multicast() && from != Ipv4Addr::BROADCAST && !from.is_loopback();
        let is_local = to.octets()[..3] == [224, 0, 0];
        let is_good = is_good || (from.is_loopback() && device.is_loopback());
        return if route.is_member && is_good && (from.octets()[0] != 0 || is_local) {
            Ok(route)
        } else {
            Err(Errno::EINVAL)
        };
    }
    if from.is_multicast() || from == Ipv4Addr::BROADCAST {
        return Err(Errno::EINVAL);
    }
    if to == Ipv4Addr::BROADCAST || (to.is_unspecified() && from.is_unspecified()) {
        return broadcast4(net, device, flow, from);
    }
    let localnet = ip.settings4.is_on(v4::ROUTE_LOCALNET) || net.ip.control.all4.is_on(v4::ROUTE_LOCALNET);
    let is_inside = (to.is_loopback() || from.is_loopback()) && !localnet && !device.is_loopback();
    if from.octets()[0] == 0 || to.octets()[0] == 0 || is_inside {
        return Err(Errno::EINVAL);
    }
    let forwards = ip.settings4.is_on(v4::FORWARDING);
    let mut found = match find(net, flow, Manner::default()) {
        Ok(found) => found,
        Err(_) if !forwards => return Err(Errno::EHOSTUNREACH),
        Err(error) => return Err(error),
    };
    match found.entry.kind {
        RTN_BROADCAST => return broadcast4(net, device, flow, from),
        RTN_LOCAL => {
            validate_source(net, device, flow, from, 0)?;
            let mut route = plain(net, RouteKind::Local, device, flow);
            (route.table, route.prefix) = (found.table, found.entry.prefix);
            route.entry = Some(found.entry);
            return Ok(route);
        }
        _ if !forwards => return Err(Errno::EHOSTUNREACH),
        RTN_UNICAST => {}
        _ => return Err(Errno::EINVAL),
    }
    select_path(net, &mut found, flow);
    let output = found.device().map_or(0, |device| device.index());
    validate_source(net, device, flow, from, output)?;
    of_found(net, RouteKind::Unicast, &found, flow)
}

fn broadcast4(net: &Arc<NetState>, device: &Arc<NetDevice>, flow: &Flow, from: Ipv4Addr) -> Result<Route> {
    if from.octets()[0] != 0 {
        validate_source(net, device, flow, from, 0)?;
    }
    Ok(plain(net, RouteKind::Broadcast, device, flow))
}

/// Whether a packet from `from` can have come through `device` (`fib_validate_source`).
fn validate_source(
    net: &NetState,
    device: &Arc<NetDevice>,
    flow: &Flow,
    from: Ipv4Addr,
    output: i32,
) -> Result<()> {
    let ip = device.ip().ok_or(Errno::EINVAL)?;
    let all = &net.ip.control.all4;
    let filter = ip.settings4.get(v4::RP_FILTER).max(all.get(v4::RP_FILTER));
    let accepts_own =
        device.is_loopback() || ip.settings4.is_on(v4::ACCEPT_LOCAL) || all.is_on(v4::ACCEPT_LOCAL);
    let is_plain = filter == 0 && device.index() != output && !net.ip.control.rules4.is_custom();
    if is_plain {
        let is_own = !accepts_own && inet::owner(net, from).is_some();
        return if is_own { Err(Errno::EINVAL) } else { Ok(()) };
    }
    let back =
        Flow { destination: from.into(), source: Some(flow.destination), output: 0, input: 0, ..*flow };
    let last_resort = || if filter != 0 { Err(Errno::EXDEV) } else { Ok(()) };
    let Ok(found) = find(net, &back, Manner::default()) else { return last_resort() };
    if found.entry.kind != RTN_UNICAST && !(found.entry.kind == RTN_LOCAL && accepts_own) {
        return Err(Errno::EINVAL);
    }
    let is_behind = |hop: &Hop| hop.device.as_ref().is_some_and(|other| Arc::ptr_eq(other, device));
    if device.is_loopback() || found.entry.hops.iter().any(is_behind) {
        return Ok(());
    }
    if ip.addresses4.is_empty() {
        return last_resort();
    }
    if filter == 1 { Err(Errno::EXDEV) } else { Ok(()) }
}

fn input6(net: &Arc<NetState>, device: &Arc<NetDevice>, flow: &Flow) -> Result<Route> {
    let ip = device.ip().filter(|ip| ip.has(true)).ok_or(Errno::EINVAL)?;
    let IpAddr::V6(to) = flow.destination else { return Err(Errno::EINVAL) };
    if to.is_multicast() {
        let mut route = plain(net, RouteKind::Multicast, device, flow);
        route.is_member = multicast::is_member(device, flow.destination);
        return Ok(route);
    }
    // Addresses of a link are those of the link it came by.
    let output = if to.is_unicast_link_local() { device.index() } else { 0 };
    let mut found = find(net, &Flow { output, ..*flow }, Manner::default())?;
    if matches!(found.entry.kind, RTN_LOCAL | RTN_ANYCAST) {
        let mut route = plain(net, RouteKind::Local, device, flow);
        (route.table, route.prefix) = (found.table, found.entry.prefix);
        route.entry = Some(found.entry);
        return Ok(route);
    }
    let forwards = ip.settings6.is_on(v6::FORWARDING) || ip.settings6.is_on(v6::FORCE_FORWARDING);
    if !forwards {
        return Err(Errno::EHOSTUNREACH);
    }
    select_path(net, &mut found, flow);
    of_found(net, RouteKind::Unicast, &found, flow)
}

/// What the local table says of an IPv4 address (`inet_addr_type`).
pub(crate) fn local_kind(net: &NetState, address: IpAddr, output: i32) -> AddressKind {
    match kind_in_table(net, address, RT_TABLE_LOCAL, output) {
        RTN_LOCAL => AddressKind::Local,
        RTN_BROADCAST => AddressKind::Broadcast,
        RTN_ANYCAST => AddressKind::Anycast,
        RTN_MULTICAST => AddressKind::Multicast,
        _ => AddressKind::Other,
    }
}

/// The type that a table gives an IPv4 address, to one interface or (0) to any.
pub(crate) fn kind_in_table(net: &NetState, address: IpAddr, table: u32, output: i32) -> u8 {
    if let IpAddr::V4(address) = address {
        if address.octets()[0] == 0 || address == Ipv4Addr::BROADCAST {
            return RTN_BROADCAST;
        }
        if address.is_multicast() {
            return RTN_MULTICAST;
        }
    }
    let manner = Manner::default();
    let found = net.ip.control.tables4.with(table, |table| in_table(table, &Flow::to(address), manner));
    match found {
        Some(Ok(found)) if output == 0 || found.hop().is_some_and(|hop| hop.index() == output) => {
            found.entry.kind
        }
        _ => RTN_UNICAST,
    }
}
