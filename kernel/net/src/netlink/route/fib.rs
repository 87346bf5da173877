//! RTM_*ROUTE: routes, as messages (rtnetlink(7), `rtmsg`).
//!
//! What changes takes [`Rtnl`]; a dump goes on from the table, prefix and place where it stopped. Neighbours:
//! [`crate::ip::route`]; looking a route up for a program is in `fib_get`.

use abi::errno::{Errno, Result};
use abi::netlink as nl;
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::fib::{Prefix, View};
use linnet_lib::netlink::{
    Attribute, AttributeIter, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness,
};
use machine::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

use super::address::put_address;
use super::{Handler, fib_get};
use crate::device::Rtnl;
use crate::ip::address::key_of;
use crate::ip::address::lifetime;
use crate::ip::route::change::{self, Wanted, WantedHop};
use crate::ip::route::table::{Entry, Hop, METRICS, Metrics, Table};
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWROUTE, family: V4, act: Some(new4), dump: None },
    Handler { message: RTM_DELROUTE, family: V4, act: Some(delete4), dump: None },
    Handler { message: RTM_GETROUTE, family: V4, act: Some(fib_get::get4), dump: Some(dump4) },
    Handler { message: RTM_NEWROUTE, family: V6, act: Some(new6), dump: None },
    Handler { message: RTM_DELROUTE, family: V6, act: Some(delete6), dump: None },
    Handler { message: RTM_GETROUTE, family: V6, act: Some(fib_get::get6), dump: Some(dump6) },
    Handler { message: RTM_GETROUTE, family: 0, act: None, dump: Some(dump_both) },
];

/// Bytes of the fixed header.
pub(super) const HEADER: usize = size_of::<RouteMessage>();
/// Room for one route, however many ways it goes (the largest message of a dump).
const ROOM: usize = 32 << 10;
/// One more than the highest attribute.
pub(super) const ATTRIBUTES: usize = RTA_FLOWLABEL as usize + 1;
pub(super) type Parsed<'a> = Attributes<'a, ATTRIBUTES>;

pub(super) static POLICIES4: Policies = Policies {
    max: RTA_FLOWLABEL,
    rules: &[
        (RTA_DST, Policy::U32),
        (RTA_SRC, Policy::U32),
        (RTA_IIF, Policy::U32),
        (RTA_OIF, Policy::U32),
        (RTA_GATEWAY, Policy::U32),
        (RTA_PRIORITY, Policy::U32),
        (RTA_PREFSRC, Policy::U32),
        (RTA_METRICS, Policy::Nest),
        (RTA_MULTIPATH, Policy::Unspecified(size_of::<NextHopMessage>())),
        (RTA_FLOW, Policy::U32),
        (RTA_ENCAP_TYPE, Policy::U16),
        (RTA_ENCAP, Policy::Nest),
        (RTA_UID, Policy::U32),
        (RTA_MARK, Policy::U32),
        (RTA_TABLE, Policy::U32),
        (RTA_IP_PROTO, Policy::U8),
        (RTA_SPORT, Policy::U16),
        (RTA_DPORT, Policy::U16),
        (RTA_NH_ID, Policy::U32),
    ],
};

pub(super) static POLICIES6: Policies = Policies {
    max: RTA_FLOWLABEL,
    rules: &[
        (RTA_GATEWAY, Policy::Unspecified(16)),
        (RTA_PREFSRC, Policy::Unspecified(16)),
        (RTA_OIF, Policy::U32),
        (RTA_IIF, Policy::U32),
        (RTA_PRIORITY, Policy::U32),
        (RTA_METRICS, Policy::Nest),
        (RTA_MULTIPATH, Policy::Unspecified(size_of::<NextHopMessage>())),
        (RTA_PREF, Policy::U8),
        (RTA_ENCAP_TYPE, Policy::U16),
        (RTA_ENCAP, Policy::Nest),
        (RTA_EXPIRES, Policy::U32),
        (RTA_UID, Policy::U32),
        (RTA_MARK, Policy::U32),
        (RTA_TABLE, Policy::U32),
        (RTA_IP_PROTO, Policy::U8),
        (RTA_SPORT, Policy::U16),
        (RTA_DPORT, Policy::U16),
        (RTA_NH_ID, Policy::U32),
    ],
};

fn fail<T>(errno: Errno, text: &'static str) -> Outcome<T> {
    Err(Failure::new(errno, text))
}

/// An address of a family from the start of a value.
pub(super) fn address(value: &[u8], is_v6: bool) -> Option<IpAddr> {
    if is_v6 {
        value.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into())
    } else {
        value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into())
    }
}

/// The start of an address, of which a message may leave out the end (IPv6).
fn prefix6(attributes: &Parsed<'_>, kind: u16, length: u8) -> Outcome<Prefix> {
    let Some(attribute) = attributes.get(kind) else { return Ok(Prefix::new(0, length)) };
    let bytes = usize::from(length).div_ceil(8);
    if attribute.value.len() < bytes || bytes > 16 {
        return Err(Errno::EINVAL.into());
    }
    let mut whole = [0; 16];
    whole[..bytes].copy_from_slice(&attribute.value[..bytes]);
    Ok(Prefix::new(u128::from_be_bytes(whole), length))
}

/// RTA_VIA: an address of any family.
fn via(attribute: Attribute<'_>) -> Outcome<Option<IpAddr>> {
    let Some((family, rest)) = attribute.value.split_first_chunk::<2>() else {
        return Err(Failure::new(Errno::EINVAL, "Invalid attribute length for RTA_VIA").at(attribute));
    };
    match u32::from(u16::from_ne_bytes(*family)) {
        AF_INET if rest.len() == 4 => Ok(address(rest, false)),
        AF_INET6 if rest.len() == 16 => Ok(address(rest, true)),
        AF_INET => fail(Errno::EINVAL, "Invalid IPv4 address in RTA_VIA"),
        AF_INET6 => fail(Errno::EINVAL, "Invalid IPv6 address in RTA_VIA"),
        _ => Err(Failure::new(Errno::EINVAL, "Unsupported address family in RTA_VIA").at(attribute)),
    }
}

/// The router that attributes name.
fn gateway(
    gateway: Option<Attribute<'_>>,
    other: Option<Attribute<'_>>,
    is_v6: bool,
) -> Outcome<Option<IpAddr>> {
    if let Some(other) = other {
        if is_v6 {
            return fail(Errno::EINVAL, "IPv6 does not support RTA_VIA attribute");
        }
        let found = via(other)?;
        if gateway.is_some() {
            return fail(Errno::EINVAL, "Nexthop configuration can not contain both GATEWAY and VIA");
        }
        return Ok(found);
    }
    let found = gateway.and_then(|gateway| address(gateway.value, is_v6));
    Ok(found.filter(|found| is_v6 || !found.is_unspecified()))
}

/// RTA_METRICS (`ip_metrics_convert`).
fn metrics(attribute: Attribute<'_>) -> Outcome<Metrics> {
    let mut metrics = [0; METRICS];
    for one in attribute.nested() {
        let kind = usize::from(one.kind);
        if kind == 0 {
            continue;
        }
        if kind >= METRICS {
            return fail(Errno::EINVAL, "Invalid metric type");
        }
        if one.kind == RTAX_CC_ALGO {
            return Err(Failure::new(Errno::EINVAL, "Unknown tcp congestion algorithm").at(one));
        }
        if one.value.len() != 4 {
            return Err(Failure::new(Errno::EINVAL, "Invalid attribute in metrics").at(one));
        }
        let value = match one.kind {
            RTAX_ADVMSS => one.u32().min(65_535 - 40),
            RTAX_MTU => one.u32().min(65_535 - 15),
            RTAX_HOPLIMIT => one.u32().min(255),
            RTAX_FEATURES if one.u32() & !0x1f != 0 => {
                let text = "Unknown flag set in feature mask in metrics attribute";
                return fail(Errno::EINVAL, text);
            }
            _ => one.u32(),
        };
        metrics[kind] = value;
    }
    Ok(metrics)
}

/// RTA_MULTIPATH: the ways in it.
fn ways(attribute: Attribute<'_>, is_v6: bool, is_deleting: bool) -> Outcome<Vec<WantedHop>> {
    let mut rest = attribute.value;
    let mut offset = attribute.offset + 4;
    let mut found = Vec::new();
    let surplus = "Invalid nexthop configuration - extra data after nexthops";
    while !rest.is_empty() {
        let Ok((header, _)) = NextHopMessage::read_from_prefix(rest) else {
            return fail(Errno::EINVAL, surplus);
        };
        let length = usize::from(header.rtnh_len);
        let Some(bytes) = rest.get(size_of::<NextHopMessage>()..length) else {
            return fail(Errno::EINVAL, surplus);
        };
        let flags = u32::from(header.rtnh_flags);
        if flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0 && !is_deleting && !is_v6 {
            let text = "Invalid flags for nexthop - can not contain DEAD or LINKDOWN";
            return fail(Errno::EINVAL, text);
        }
        let inside = AttributeIter::new(bytes, offset + size_of::<NextHopMessage>());
        let find = |kind: u16| inside.into_iter().filter(|one| one.kind == kind).last();
        if find(RTA_GATEWAY).is_some_and(|one| one.value.len() < if is_v6 { 16 } else { 4 }) {
            return fail(Errno::EINVAL, "Invalid gateway attribute");
        }
        let gateway = gateway(find(RTA_GATEWAY), find(RTA_VIA), is_v6)?;
        if is_v6 && gateway.is_none() && !is_deleting {
            let text = "Device only routes can not be added for IPv6 using the multipath API.";
            return fail(Errno::EINVAL, text);
        }
        found.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        found.push(WantedHop {
            index: header.rtnh_ifindex,
            gateway,
            flags,
            weight: header.rtnh_hops.into(),
            realm: find(RTA_FLOW).map_or(0, |realm| realm.u32()),
        });
        let step = length.next_multiple_of(4).min(rest.len());
        rest = &rest[step..];
        offset += step;
    }
    Ok(found)
}

/// What a request asks for, checked as far as both families do it alike.
fn read(header: &RouteMessage, attributes: &Parsed<'_>, is_v6: bool, is_deleting: bool) -> Outcome<Wanted> {
    let word = |kind| attributes.get(kind).map_or(0, |attribute| attribute.u32());
    let mut wanted = Wanted::to(is_v6, Prefix::new(0, 0));
    wanted.tos = header.rtm_tos;
    wanted.table = attributes.get(RTA_TABLE).map_or(u32::from(header.rtm_table), |table| table.u32());
    if wanted.table == RT_TABLE_UNSPEC {
        wanted.table = RT_TABLE_MAIN;
    }
    wanted.protocol = header.rtm_protocol;
    wanted.scope = header.rtm_scope;
    wanted.kind = header.rtm_type;
    wanted.flags = header.rtm_flags;
    wanted.priority = word(RTA_PRIORITY);
    wanted.preferred = attributes
        .get(RTA_PREFSRC)
        .and_then(|found| address(found.value, is_v6))
        .filter(|found| !found.is_unspecified());
    wanted.metrics = attributes.get(RTA_METRICS).map(metrics).transpose()?;
    wanted.hop = WantedHop {
        index: word(RTA_OIF) as i32,
        gateway: gateway(attributes.get(RTA_GATEWAY), attributes.get(RTA_VIA), is_v6)?,
        flags: header.rtm_flags,
        weight: 0,
        realm: word(RTA_FLOW),
    };
    if let Some(all) = attributes.get(RTA_MULTIPATH) {
        wanted.is_multipath = true;
        wanted.hops = ways(all, is_v6, is_deleting)?;
    }
    wanted.nexthop = word(RTA_NH_ID);
    if wanted.nexthop != 0 && (wanted.hop.index != 0 || wanted.hop.gateway.is_some() || wanted.is_multipath) {
        return fail(Errno::EINVAL, "Nexthop specification and nexthop id are mutually exclusive");
    }
    Ok(wanted)
}

/// The highest type of route (`RTN_MAX`).
const LAST_TYPE: u8 = RTN_XRESOLVE;

/// A request about an IPv4 route (`rtm_to_fib_config`).
fn read4(request: &Request<'_>, is_deleting: bool) -> Outcome<Wanted> {
    let attributes: Parsed<'_> = request.parse(HEADER, &POLICIES4, Strictness::Liberal)?;
    let header: RouteMessage = request.message.fixed().unwrap_or_default();
    if header.rtm_tos & 3 != 0 {
        return fail(Errno::EINVAL, "Invalid dsfield (tos): ECN bits must be 0");
    }
    if header.rtm_type > LAST_TYPE {
        return fail(Errno::EINVAL, "Invalid route type");
    }
    let mut wanted = read(&header, &attributes, false, is_deleting)?;
    if header.rtm_dst_len > 32 {
        return fail(Errno::EINVAL, "Invalid prefix length");
    }
    let key = attributes.get(RTA_DST).and_then(|found| address(found.value, false)).map_or(0, key_of);
    wanted.prefix = Prefix::new(key, header.rtm_dst_len);
    if wanted.prefix.key != key {
        return fail(Errno::EINVAL, "Invalid prefix for given prefix length");
    }
    Ok(wanted)
}

/// A request about an IPv6 route (`rtm_to_fib6_config`).
fn read6(request: &Request<'_>, is_deleting: bool) -> Outcome<Wanted> {
    let attributes: Parsed<'_> = request.parse(HEADER, &POLICIES6, Strictness::Liberal)?;
    let header: RouteMessage = request.message.fixed().unwrap_or_default();
    if header.rtm_tos != 0 {
        return fail(Errno::EINVAL, "Invalid dsfield (tos): option not available for IPv6");
    }
    let mut wanted = read(&header, &attributes, true, is_deleting)?;
    wanted.scope = RT_SCOPE_UNIVERSE;
    if header.rtm_type > LAST_TYPE {
        return fail(Errno::EINVAL, "Invalid route type");
    }
    wanted.prefix = prefix6(&attributes, RTA_DST, header.rtm_dst_len)?;
    wanted.source = prefix6(&attributes, RTA_SRC, header.rtm_src_len)?;
    if header.rtm_dst_len > 128 {
        return fail(Errno::EINVAL, "Invalid prefix length");
    }
    if header.rtm_src_len > 128 {
        return fail(Errno::EINVAL, "Invalid source address length");
    }
    if let Some(preference) = attributes.get(RTA_PREF) {
        wanted.preference = match preference.u8() {
            known @ (ICMPV6_ROUTER_PREF_LOW | ICMPV6_ROUTER_PREF_HIGH) => known,
            _ => ICMPV6_ROUTER_PREF_MEDIUM,
        };
    }
    wanted.expires = attributes.get(RTA_EXPIRES).map(|left| left.u32()).filter(|left| *left != u32::MAX);
    if wanted.priority == 0 && !is_deleting {
        wanted.priority = change::PRIORITY_USER_6;
    }
    Ok(wanted)
}

fn add(request: &Request<'_>, wanted: &Wanted) -> Outcome<()> {
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    change::add(net, wanted, request.message.header.nlmsg_flags, &request.origin())?;
    if let Some(left) = wanted.expires {
        lifetime::watch_at(net, machine::time::now_ns() + u64::from(left) * 1_000_000_000);
    }
    Ok(())
}

fn delete(request: &Request<'_>, wanted: &Wanted) -> Outcome<()> {
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    if wanted.nexthop != 0 && net.ip.control.nexthops.get(wanted.nexthop).is_none() {
        return fail(Errno::EINVAL, "Nexthop id does not exist");
    }
    change::delete(net, wanted, &request.origin())
}

fn new4(request: &Request<'_>) -> Outcome<()> {
    add(request, &read4(request, false)?)
}
fn delete4(request: &Request<'_>) -> Outcome<()> {
    delete(request, &read4(request, true)?)
}
fn new6(request: &Request<'_>) -> Outcome<()> {
    add(request, &read6(request, false)?)
}
fn delete6(request: &Request<'_>) -> Outcome<()> {
    delete(request, &read6(request, true)?)
}

/// What the header of a message has room for of a table's number.
pub(super) fn short_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RT_TABLE_COMPAT as u8)
}

/// The metrics that are set, in a nest.
pub(super) fn put_metrics(out: &mut Builder, metrics: Option<&Metrics>) -> Result<()> {
    let Some(metrics) = metrics.filter(|metrics| metrics.iter().any(|value| *value != 0)) else {
        return Ok(());
    };
    let nest = out.nest(RTA_METRICS)?;
    for (kind, value) in (0u16..).zip(metrics).filter(|(_, value)| **value != 0) {
        out.u32(kind, *value)?;
    }
    out.end_nest(nest);
    Ok(())
}

/// RTA_GATEWAY or RTA_VIA.
pub(super) fn put_gateway(out: &mut Builder, gateway: Option<IpAddr>, is_v6: bool) -> Result<()> {
    match gateway {
        Some(IpAddr::V6(address)) if !is_v6 => {
            let mut value = [0; 18];
            value[..2].copy_from_slice(&(AF_INET6 as u16).to_ne_bytes());
            value[2..].copy_from_slice(&address.octets());
            out.attribute(RTA_VIA, &value)
        }
        Some(address) => put_address(out, RTA_GATEWAY, address),
        None => Ok(()),
    }
}

/// Flags of a way as programs see them.
fn way_flags(hop: &Hop) -> u32 {
    hop.flags() & (RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_ONLINK)
}

/// The ways of a route: in the message itself if there is but one.
fn put_ways(out: &mut Builder, entry: &Entry) -> Result<()> {
    let has_nest = entry.is_v6 && entry.is_of_group;
    if let ([hop], false) = (entry.hops.as_slice(), has_nest) {
        put_gateway(out, hop.gateway, entry.is_v6)?;
        if hop.device.is_some() {
            out.i32(RTA_OIF, hop.index())?;
        }
        if hop.realm != 0 {
            out.u32(RTA_FLOW, hop.realm)?;
        }
        return Ok(());
    }
    let nest = out.nest(RTA_MULTIPATH)?;
    for hop in &entry.hops {
        let start = out.len();
        let mut header = NextHopMessage {
            rtnh_len: 0,
            rtnh_flags: way_flags(hop) as u8,
            // The low byte, as of a group with greater shares Linux tells it, too.
            rtnh_hops: hop.weight as u8,
            rtnh_ifindex: hop.index(),
        };
        let mark = out.mark();
        out.fixed(header.as_bytes())?;
        put_gateway(out, hop.gateway, entry.is_v6)?;
        if hop.realm != 0 {
            out.u32(RTA_FLOW, hop.realm)?;
        }
        header.rtnh_len = (out.len() - start) as u16;
        out.patch(mark, header.as_bytes());
    }
    out.end_nest(nest);
    Ok(())
}

/// Writes the message (`fib_dump_info`, `rt6_fill_node`).
fn describe(kind: u16, entry: &Entry, nlmsg_flags: u16, out: &mut Builder, reply: &Reply) -> Result<()> {
    describe_in(entry.table, kind, entry, nlmsg_flags, out, reply)
}

/// The same for a route that is shown as one of another table: while nobody has made rules, the local one is part of the main one.
pub(super) fn describe_in(
    table: u32,
    kind: u16,
    entry: &Entry,
    nlmsg_flags: u16,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(kind, reply.flags | nlmsg_flags, reply.sequence, reply.port)?;
    let of_way = match entry.hops.as_slice() {
        [hop] => way_flags(hop),
        _ => 0,
    };
    let header = RouteMessage {
        rtm_family: if entry.is_v6 { V6 } else { V4 },
        rtm_dst_len: entry.prefix.length,
        rtm_src_len: entry.source.length,
        rtm_tos: entry.tos,
        rtm_table: short_table(table),
        rtm_protocol: entry.protocol,
        rtm_scope: entry.scope,
        rtm_type: entry.kind,
        rtm_flags: entry.flags() & 0xff & if entry.is_v6 { 0 } else { u32::MAX } | of_way,
    };
    out.fixed(header.as_bytes())?;
    out.u32(RTA_TABLE, table)?;
    if entry.prefix.length != 0 {
        put_address(out, RTA_DST, entry.destination())?;
    }
    if entry.source.length != 0 {
        put_address(out, RTA_SRC, crate::ip::address::address_of(entry.source.key, entry.is_v6))?;
    }
    if !entry.is_v6 && entry.priority != 0 {
        out.u32(RTA_PRIORITY, entry.priority)?;
    }
    if let Some(preferred) = entry.preferred.filter(|_| entry.is_v6) {
        put_address(out, RTA_PREFSRC, preferred)?;
    }
    put_metrics(out, entry.metrics.as_deref())?;
    if entry.is_v6 {
        out.u32(RTA_PRIORITY, entry.priority)?;
    } else if let Some(preferred) = entry.preferred {
        put_address(out, RTA_PREFSRC, preferred)?;
    }
    if entry.nexthop != 0 {
        out.u32(RTA_NH_ID, entry.nexthop)?;
    }
    put_ways(out, entry)?;
    if entry.is_v6 {
        put_cache_info(out, entry.expires_ns, 0)?;
        out.u8(RTA_PREF, entry.preference)?;
    }
    out.end(mark);
    Ok(())
}

/// RTA_CACHEINFO.
pub(super) fn put_cache_info(out: &mut Builder, expires_ns: Option<u64>, error: i32) -> Result<()> {
    let left = |end: u64| end.saturating_sub(machine::time::now_ns()).div_ceil(10_000_000) as i32;
    let info = RouteCacheInfo {
        rta_expires: expires_ns.map_or(0, left),
        rta_error: error,
        ..RouteCacheInfo::default()
    };
    out.attribute(RTA_CACHEINFO, info.as_bytes())
}

/// Tells RTNLGRP_IPV4_ROUTE or RTNLGRP_IPV6_ROUTE of a route.
pub(crate) fn announce(net: &NetState, kind: u16, entry: &Entry, flags: u16, origin: &Origin) {
    let group = if entry.is_v6 { RTNLGRP_IPV6_ROUTE } else { RTNLGRP_IPV4_ROUTE };
    super::tell(net, group, ROOM, origin, |out, reply| describe(kind, entry, flags, out, reply));
}

fn dump4(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(RouteDump::new(request, &[false])?)
}
fn dump6(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(RouteDump::new(request, &[true])?)
}
fn dump_both(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    boxed(RouteDump::new(request, &[false, true])?)
}

/// What a dump tells.
#[derive(Clone, Copy, Default)]
struct Filter {
    table: u32,
    protocol: u8,
    kind: u8,
    index: i32,
    /// `RTM_F_CLONED`: those that were learnt instead; `RTM_F_PREFIX`: those of prefixes that routers told.
    flags: u32,
    is_set: bool,
}

struct RouteDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    filter: Filter,
    family: usize,
    /// The table, the prefix and the place that were told last.
    table: Option<u32>,
    prefix: Option<Prefix>,
    place: Option<u128>,
}

impl RouteDump {
    fn new(request: &Request<'_>, families: &'static [bool]) -> Outcome<RouteDump> {
        let is_v6 = families.first().is_some_and(|is_v6| *is_v6);
        let filter = if request.is_strict() {
            strict_filter(request, is_v6)?
        } else {
            let flags = request.message.fixed().map_or(0, |header: RouteMessage| header.rtm_flags);
            Filter { flags: flags & (RTM_F_CLONED | RTM_F_PREFIX), ..Filter::default() }
        };
        let dump = RouteDump {
            namespace: request.namespace().clone(),
            families,
            filter,
            family: 0,
            table: None,
            prefix: None,
            place: None,
        };
        if filter.table != 0 && families.len() == 1 {
            let tables = dump.namespace.ip.control.tables(is_v6);
            let is_usual = matches!(filter.table, RT_TABLE_LOCAL | RT_TABLE_MAIN);
            let is_initial = is_usual || (filter.table == RT_TABLE_DEFAULT && !is_v6);
            if tables.get(filter.table).is_none() && !is_initial {
                let text =
                    if is_v6 { "ipv6: FIB table does not exist" } else { "ipv4: FIB table does not exist" };
                return fail(Errno::ENOENT, text);
            }
        }
        Ok(dump)
    }

    /// The routes of a prefix; whether all fitted.
    fn fill_prefix(
        &mut self,
        table: &Table,
        prefix: Prefix,
        out: &mut Builder,
        reply: &Reply,
    ) -> Result<bool> {
        for entry in table.of_prefix(prefix) {
            if self.place.is_some_and(|last| entry.place.0 <= last) {
                continue;
            }
            if self.wants(&entry) {
                let before = out.mark();
                match describe(RTM_NEWROUTE, &entry, 0, out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            self.place = Some(entry.place.0);
        }
        Ok(true)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let filter = &self.filter;
        (filter.protocol == 0 || filter.protocol == entry.protocol)
            && (filter.kind == 0 || filter.kind == entry.kind)
            && (filter.index == 0 || entry.hops.iter().any(|hop| hop.index() == filter.index))
            && (filter.flags & RTM_F_PREFIX == 0 || entry.flags() & RTF_PREFIX_RT != 0)
            && !entry.is_expired()
    }

    /// The rest of a table; whether all fitted.
    fn fill_table(&mut self, table: &Table, is_v6: bool, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let version = table.routes.version();
        let view = View::of(version.as_ref());
        // Where it stopped there may be more of the same prefix.
        if let Some(prefix) = self.prefix
            && !self.fill_prefix(table, prefix, out, reply)?
        {
            return Ok(false);
        }
        loop {
            let next =
                if is_v6 { view.next_inner_first(self.prefix) } else { view.next_by_start(self.prefix) };
            let Some(node) = next else { break };
            (self.prefix, self.place) = (Some(node.prefix()), None);
            if !self.fill_prefix(table, node.prefix(), out, reply)? {
                return Ok(false);
            }
        }
        (self.prefix, self.place) = (None, None);
        Ok(true)
    }
}

/// What a strict request for a dump asks for (`ip_valid_fib_dump_req`).
fn strict_filter(request: &Request<'_>, is_v6: bool) -> Outcome<Filter> {
    let Some(header) = request.message.fixed::<RouteMessage>() else {
        return fail(Errno::EINVAL, "Invalid header for FIB dump request");
    };
    if header.rtm_src_len != 0 || header.rtm_dst_len != 0 || header.rtm_tos != 0 || header.rtm_scope != 0 {
        return fail(Errno::EINVAL, "Invalid values in header for FIB dump request");
    }
    if header.rtm_flags & !(RTM_F_CLONED | RTM_F_PREFIX) != 0 {
        return fail(Errno::EINVAL, "Invalid flags for FIB dump request");
    }
    let policies = if is_v6 { &POLICIES6 } else { &POLICIES4 };
    let attributes: Parsed<'_> = request.parse(HEADER, policies, Strictness::Old)?;
    let mut filter = Filter {
        table: header.rtm_table.into(),
        protocol: header.rtm_protocol,
        kind: header.rtm_type,
        index: 0,
        flags: header.rtm_flags,
        is_set: false,
    };
    for attribute in attributes.iter() {
        match attribute.kind {
            RTA_TABLE => filter.table = attribute.u32(),
            RTA_OIF => {
                filter.index = attribute.i32();
                request.namespace().devices().by_index(filter.index).ok_or(Errno::ENODEV)?;
            }
            _ => return fail(Errno::EINVAL, "Unsupported attribute in dump request"),
        }
    }
    filter.is_set = header.rtm_flags != 0
        || filter.protocol != 0
        || filter.kind != 0
        || filter.table != 0
        || filter.index != 0;
    Ok(filter)
}

impl Dumper for RouteDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        if self.filter.flags & RTM_F_CLONED != 0 {
            return Ok(true);
        }
        let flags = if self.filter.is_set { nl::NLM_F_DUMP_FILTERED } else { 0 };
        let reply = Reply { flags: reply.flags | flags, ..*reply };
        let namespace = self.namespace.clone();
        while let Some(is_v6) = self.families.get(self.family).copied() {
            let tables = namespace.ip.control.tables(is_v6);
            // The one it stopped in, if it is still there, else the next.
            let mut next = match self.table.filter(|_| self.prefix.is_some()) {
                Some(id) => tables.get(id),
                None => tables.next_after(self.table),
            };
            while let Some(table) = next {
                if self.table != Some(table.id) {
                    (self.table, self.prefix, self.place) = (Some(table.id), None, None);
                }
                let wanted = self.filter.table == 0 || self.filter.table == table.id;
                if wanted && !self.fill_table(&table, is_v6, out, &reply)? {
                    return Ok(false);
                }
                next = tables.next_after(self.table);
            }
            self.family += 1;
            (self.table, self.prefix, self.place) = (None, None, None);
        }
        Ok(true)
    }

    fn generation(&self) -> Option<u32> {
        Some(self.namespace.ip.control.generation.load(Ordering::Relaxed))
    }
}
