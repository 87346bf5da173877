//! RTM_GETROUTE for one: the route that a packet would take (`inet_rtm_getroute`, `inet6_rtm_getroute`).
//!
//! Locks: none. Neighbours: [`crate::ip::route`].

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::RTM_NEWROUTE;
use abi::socket::{AF_INET, AF_INET6};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use linnet_lib::netlink::{Builder, Failure, Outcome, Strictness};
use zerocopy::IntoBytes;

use super::address::put_address;
use super::fib::{
    HEADER, POLICIES4, POLICIES6, Parsed, address, describe_in, put_cache_info, put_gateway, put_metrics,
    short_table,
};
use crate::ip::address::inet6;
use crate::ip::route::{self, Flow, Route, RouteKind};
use crate::namespace::NetState;
use crate::netlink::request::{Reply, Request};

/// The loopback's index in every namespace.
const LOOPBACK: i32 = 1;
/// Room for the answer.
const ROOM: usize = 32 << 10;

fn fail<T>(errno: Errno, text: &'static str) -> Outcome<T> {
    Err(Failure::new(errno, text))
}

/// What strict checking demands (`inet_rtm_valid_getroute_req`).
fn check(request: &Request<'_>, header: &RouteMessage, attributes: &Parsed<'_>, is_v6: bool) -> Outcome<()> {
    let bits = if is_v6 { 128 } else { 32 };
    let texts: [&'static str; 4] = if is_v6 {
        [
            "ipv6: Invalid values in header for get route request",
            "ipv6: Invalid flags for get route request",
            "ipv6: rtm_src_len and rtm_dst_len must be 128 for IPv6",
            "ipv6: Unsupported attribute in get route request",
        ]
    } else {
        [
            "ipv4: Invalid values in header for route get request",
            "ipv4: Unsupported rtm_flags for route get request",
            "ipv4: rtm_src_len and rtm_dst_len must be 32 for IPv4",
            "ipv4: Unsupported attribute in route get request",
        ]
    };
    if !request.is_strict() {
        return Ok(());
    }
    let is_wrong = |length: u8| length != 0 && length != bits;
    if is_wrong(header.rtm_src_len)
        || is_wrong(header.rtm_dst_len)
        || header.rtm_table != 0
        || header.rtm_protocol != 0
        || header.rtm_scope != 0
        || header.rtm_type != 0
        || (is_v6 && header.rtm_tos & 3 != 0)
    {
        return fail(Errno::EINVAL, texts[0]);
    }
    if header.rtm_flags & !(RTM_F_NOTIFY | RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH) != 0 {
        return fail(Errno::EINVAL, texts[1]);
    }
    let lacks_length = (attributes.has(RTA_SRC) && header.rtm_src_len == 0)
        || (attributes.has(RTA_DST) && header.rtm_dst_len == 0);
    if lacks_length {
        return fail(Errno::EINVAL, texts[2]);
    }
    let allowed = [
        RTA_IIF,
        RTA_OIF,
        RTA_SRC,
        RTA_DST,
        RTA_IP_PROTO,
        RTA_SPORT,
        RTA_DPORT,
        RTA_MARK,
        RTA_UID,
        RTA_FLOWLABEL,
    ];
    match attributes.iter().find(|one| !allowed.contains(&one.kind)) {
        Some(_) => fail(Errno::EINVAL, texts[3]),
        None => Ok(()),
    }
}

/// What is asked.
struct Question {
    header: RouteMessage,
    flow: Flow,
    /// RTA_UID or who asks.
    user: Option<u32>,
}

fn read(request: &Request<'_>, is_v6: bool) -> Outcome<Question> {
    let policies = if is_v6 { &POLICIES6 } else { &POLICIES4 };
    let Some(header) = request.message.fixed::<RouteMessage>() else {
        let text = if is_v6 {
            "ipv6: Invalid header for get route request"
        } else {
            "ipv4: Invalid header for route get request"
        };
        return fail(Errno::EINVAL, text);
    };
    let strictness = if request.is_strict() { Strictness::Old } else { Strictness::Liberal };
    let attributes: Parsed<'_> = request.parse(HEADER, policies, strictness)?;
    check(request, &header, &attributes, is_v6)?;
    let nowhere = if is_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let end = |kind| -> Outcome<Option<IpAddr>> {
        match attributes.get(kind) {
            Some(found) => match address(found.value, is_v6) {
                Some(address) => Ok(Some(address)),
                None => Err(Errno::EINVAL.into()),
            },
            None => Ok(None),
        }
    };
    let word = |kind| attributes.get(kind).map_or(0, |found| found.u32());
    let port = |kind| attributes.get(kind).map_or(0, |found| u16::from_be(found.u16()));
    let input = word(RTA_IIF) as i32;
    let own = request.sender.credentials.fsuid.0;
    let user = attributes.get(RTA_UID).map(|user| user.u32()).or((input == 0).then_some(own));
    let protocol = attributes.get(RTA_IP_PROTO).map_or(0, |found| found.u8());
    let flow = Flow {
        destination: end(RTA_DST)?.unwrap_or(nowhere),
        source: end(RTA_SRC)?.filter(|source| !source.is_unspecified()),
        tos: header.rtm_tos,
        mark: word(RTA_MARK),
        output: word(RTA_OIF) as i32,
        input,
        user_id: user.unwrap_or(u32::MAX),
        protocol,
        ports: (port(RTA_SPORT), port(RTA_DPORT)),
        hash: 0,
    };
    Ok(Question { header, flow, user })
}

/// The route that is asked for.
fn find(request: &Request<'_>, question: &Question) -> Result<Route> {
    let net = request.namespace().state();
    if question.flow.input == 0 {
        return route::output(net, &question.flow);
    }
    let device = net.devices().by_index(question.flow.input).ok_or(Errno::ENODEV)?;
    let is_v6 = question.flow.destination.is_ipv6();
    let nowhere = if is_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let flow = Flow { source: question.flow.source.or(Some(nowhere)), ..question.flow };
    // What the filter refuses is told as any other packet that cannot have come.
    route::input(net, &device, &flow)
        .map_err(|error| if error == Errno::EXDEV { Errno::EINVAL } else { error })
}

pub(super) fn get4(request: &Request<'_>) -> Outcome<()> {
    get(request, false)
}
pub(super) fn get6(request: &Request<'_>) -> Outcome<()> {
    get(request, true)
}

fn get(request: &Request<'_>, is_v6: bool) -> Outcome<()> {
    let question = read(request, is_v6)?;
    let found = find(request, &question)?;
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    if question.header.rtm_flags & RTM_F_FIB_MATCH != 0 {
        let Some(entry) = &found.entry else { return Err(Errno::EHOSTUNREACH.into()) };
        describe_in(found.table, RTM_NEWROUTE, entry, 0, &mut out, &reply)?;
    } else if is_v6 {
        describe6(request.namespace().state(), &question, &found, &mut out, &reply)?;
    } else {
        describe4(&question, &found, &mut out, &reply)?;
    }
    request.answer(out);
    Ok(())
}

/// The type of a route that was found, and its flags for IPv4.
fn kind_of(found: &Route) -> (u8, u32) {
    match found.kind {
        RouteKind::Unicast => (RTN_UNICAST, 0),
        RouteKind::Local => (RTN_LOCAL, RTCF_LOCAL),
        RouteKind::Broadcast => (RTN_BROADCAST, RTCF_BROADCAST | RTCF_LOCAL),
        RouteKind::Multicast if found.is_member => (RTN_MULTICAST, RTCF_MULTICAST | RTCF_LOCAL),
        RouteKind::Multicast => (RTN_MULTICAST, RTCF_MULTICAST),
    }
}

/// What the path taught, among the metrics.
fn metrics_of(found: &Route) -> Option<crate::ip::route::table::Metrics> {
    let mut metrics = found.entry.as_ref().and_then(|entry| entry.metrics.as_deref().copied());
    if found.path_expires.is_some() {
        metrics.get_or_insert([0; crate::ip::route::table::METRICS])[usize::from(RTAX_MTU)] = found.mtu;
    }
    metrics
}

/// When what the path taught is forgotten.
fn path_ends(found: &Route) -> Option<u64> {
    found.path_expires.map(|left| machine::time::now_ns() + u64::from(left) * 1_000_000_000)
}

/// An answer of IPv4 (`rt_fill_info`).
fn describe4(question: &Question, found: &Route, out: &mut Builder, reply: &Reply) -> Result<()> {
    let flow = &question.flow;
    let (kind, flags) = kind_of(found);
    let table = if question.header.rtm_flags & RTM_F_LOOKUP_TABLE != 0 { found.table } else { RT_TABLE_MAIN };
    let mark = out.begin(RTM_NEWROUTE, reply.flags, reply.sequence, reply.port)?;
    let notify = if question.header.rtm_flags & RTM_F_NOTIFY != 0 { RTM_F_NOTIFY | RTCF_NOTIFY } else { 0 };
    let header = RouteMessage {
        rtm_family: AF_INET as u8,
        rtm_dst_len: 32,
        rtm_src_len: if flow.source.is_some() { 32 } else { 0 },
        rtm_tos: flow.tos,
        rtm_table: short_table(table),
        rtm_protocol: RTPROT_UNSPEC,
        rtm_scope: RT_SCOPE_UNIVERSE,
        rtm_type: kind,
        rtm_flags: flags & !0xffff | RTM_F_CLONED | notify,
    };
    out.fixed(header.as_bytes())?;
    out.u32(RTA_TABLE, table)?;
    put_address(out, RTA_DST, flow.destination)?;
    if let Some(source) = flow.source {
        put_address(out, RTA_SRC, source)?;
    }
    // What came in for the machine itself goes to its loopback.
    let is_for_us = flow.input != 0 && flags & RTCF_LOCAL != 0;
    out.i32(RTA_OIF, if is_for_us { LOOPBACK } else { found.device.index() })?;
    if let Some(source) = found.source.filter(|source| flow.input == 0 && Some(*source) != flow.source) {
        put_address(out, RTA_PREFSRC, source)?;
    }
    put_gateway(out, found.gateway, false)?;
    put_metrics(out, metrics_of(found).as_ref())?;
    if flow.mark != 0 {
        out.u32(RTA_MARK, flow.mark)?;
    }
    if let Some(user) = question.user {
        out.u32(RTA_UID, user)?;
    }
    if flow.input != 0 {
        out.i32(RTA_IIF, flow.input)?;
    }
    put_cache_info(out, path_ends(found), 0)?;
    out.end(mark);
    Ok(())
}

/// What packets on a route of IPv6 are sent from by themselves (`ip6_route_get_saddr`).
fn source_of(net: &NetState, found: &Route, flow: &Flow) -> Option<IpAddr> {
    let IpAddr::V6(destination) = flow.destination else { return None };
    let entry = found.entry.as_ref();
    let device = entry.and_then(|entry| entry.hops.first()).and_then(|hop| hop.device.as_deref());
    let chosen = || inet6::select_source(net, device, destination).map(IpAddr::V6);
    entry.and_then(|entry| entry.preferred).or_else(chosen)
}

/// An answer of IPv6 (`rt6_fill_node`).
fn describe6(
    net: &NetState,
    question: &Question,
    found: &Route,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let flow = &question.flow;
    let entry = found.entry.as_deref();
    let mark = out.begin(RTM_NEWROUTE, reply.flags, reply.sequence, reply.port)?;
    let table = found.table;
    let header = RouteMessage {
        rtm_family: AF_INET6 as u8,
        rtm_dst_len: 128,
        rtm_src_len: 128,
        rtm_tos: 0,
        rtm_table: short_table(table),
        rtm_protocol: entry.map_or(RTPROT_KERNEL, |entry| entry.protocol),
        rtm_scope: RT_SCOPE_UNIVERSE,
        rtm_type: entry.map_or(kind_of(found).0, |entry| entry.kind),
        rtm_flags: 0,
    };
    out.fixed(header.as_bytes())?;
    out.u32(RTA_TABLE, table)?;
    put_address(out, RTA_DST, flow.destination)?;
    put_address(out, RTA_SRC, flow.source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))?;
    if flow.input != 0 {
        out.i32(RTA_IIF, flow.input)?;
    } else if let Some(source) = source_of(net, found, flow) {
        put_address(out, RTA_PREFSRC, source)?;
    }
    put_metrics(out, metrics_of(found).as_ref())?;
    out.u32(RTA_PRIORITY, entry.map_or(0, |entry| entry.priority))?;
    put_gateway(out, found.gateway, true)?;
    out.i32(RTA_OIF, found.device.index())?;
    put_cache_info(out, path_ends(found), 0)?;
    out.u8(RTA_PREF, entry.map_or(0, |entry| entry.preference))?;
    out.end(mark);
    Ok(())
}
