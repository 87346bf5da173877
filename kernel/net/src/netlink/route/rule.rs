//! RTM_*RULE: rules of routing, as messages (`fib_rule_hdr`).
//!
//! What changes takes [`Rtnl`]; a dump goes on from the place of the last rule. Neighbours: [`crate::ip::route::rule`].

use abi::errno::{Errno, Result};
use abi::netlink as nl;
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::fib::Prefix;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::IntoBytes;

use super::address::put_address;
use super::fib::{address, short_table};
use super::{Handler, tell};
use crate::device::{InterfaceName, Rtnl};
use crate::ip::address::{address_of, key_of};
use crate::ip::route::changed;
use crate::ip::route::rule::Rule;
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWRULE, family: 0, act: Some(new), dump: None },
    Handler { message: RTM_DELRULE, family: 0, act: Some(delete), dump: None },
    Handler { message: RTM_GETRULE, family: 0, act: None, dump: Some(dump) },
];

const HEADER: usize = size_of::<RuleMessage>();
const ROOM: usize = 1024;
type Parsed<'a> = Attributes<'a, { FRA_DSCP_MASK as usize + 1 }>;

static POLICIES: Policies = Policies {
    max: FRA_DSCP_MASK,
    rules: &[
        (FRA_IIFNAME, Policy::String(IFNAMSIZ - 1)),
        (FRA_OIFNAME, Policy::String(IFNAMSIZ - 1)),
        (FRA_PRIORITY, Policy::U32),
        (FRA_FWMARK, Policy::U32),
        (FRA_FLOW, Policy::U32),
        (FRA_TUN_ID, Policy::U64),
        (FRA_FWMASK, Policy::U32),
        (FRA_TABLE, Policy::U32),
        (FRA_SUPPRESS_PREFIXLEN, Policy::U32),
        (FRA_SUPPRESS_IFGROUP, Policy::U32),
        (FRA_GOTO, Policy::U32),
        (FRA_L3MDEV, Policy::U8),
        (FRA_UID_RANGE, Policy::Unspecified(8)),
        (FRA_PROTOCOL, Policy::U8),
        (FRA_IP_PROTO, Policy::U8),
        (FRA_SPORT_RANGE, Policy::Unspecified(4)),
        (FRA_DPORT_RANGE, Policy::Unspecified(4)),
        (FRA_DSCP, Policy::U8Range(0, 63)),
        (FRA_FLOWLABEL, Policy::U32),
        (FRA_FLOWLABEL_MASK, Policy::U32),
        (FRA_SPORT_MASK, Policy::U16),
        (FRA_DPORT_MASK, Policy::U16),
        (FRA_DSCP_MASK, Policy::U8),
    ],
};

fn fail<T>(text: &'static str) -> Outcome<T> {
    Err(Failure::new(Errno::EINVAL, text))
}

/// A request: its family, the rule in it, and what it says by itself.
struct Wanted<'a> {
    is_v6: bool,
    header: RuleMessage,
    attributes: Parsed<'a>,
    rule: Rule,
}

fn ports(attributes: &Parsed<'_>, kind: u16, text: &'static str) -> Outcome<Option<(u16, u16)>> {
    let Some(found) = attributes.get(kind) else { return Ok(None) };
    let (low, high) = (found.u32() as u16, (found.u32() >> 16) as u16);
    if low == 0 || high == 0 || low > high {
        return Err(Failure::new(Errno::EINVAL, text));
    }
    Ok(Some((low, high)))
}

/// FRA_SRC or FRA_DST.
fn prefix(
    attributes: &Parsed<'_>,
    kind: u16,
    length: u8,
    is_v6: bool,
    text: &'static str,
) -> Outcome<Prefix> {
    if length == 0 {
        return Ok(Prefix::new(0, 0));
    }
    let (bytes, bits) = if is_v6 { (16, 128) } else { (4, 32) };
    let found = attributes.get(kind).filter(|found| found.value.len() == bytes && length <= bits);
    match found.and_then(|found| address(found.value, is_v6)) {
        Some(address) => Ok(Prefix::new(key_of(address), length)),
        None => fail(text),
    }
}

/// FRA_UID_RANGE.
fn users(attributes: &Parsed<'_>) -> Outcome<Option<(u32, u32)>> {
    let Some(users) = attributes.get(FRA_UID_RANGE) else { return Ok(None) };
    let half = |at: usize| users.value.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
    let (Some(low), Some(high)) = (half(0), half(4)) else { return fail("Invalid uid range") };
    let (low, high) = (u32::from_ne_bytes(*low), u32::from_ne_bytes(*high));
    if low == u32::MAX || high == u32::MAX || low > high {
        return fail("Invalid uid range");
    }
    Ok(Some((low, high)))
}

/// Reads a request (`fib_nl2rule`).
fn read<'a>(request: &Request<'a>) -> Outcome<Wanted<'a>> {
    let Some(header) = request.message.fixed::<RuleMessage>() else { return fail("Invalid msg length") };
    let is_v6 = match header.family {
        V4 => false,
        V6 => true,
        _ => return Err(Failure::new(Errno::EAFNOSUPPORT, "Rule family not supported")),
    };
    let attributes: Parsed<'_> = request
        .parse(HEADER, &POLICIES, Strictness::Liberal)
        .map_err(|failure| Failure { text: Some("Error parsing msg"), ..failure })?;
    let word = |kind| attributes.get(kind).map(|found| found.u32());
    let source = prefix(&attributes, FRA_SRC, header.src_len, is_v6, "Invalid source address")?;
    let destination = prefix(&attributes, FRA_DST, header.dst_len, is_v6, "Invalid dst address")?;
    let name = |kind| attributes.get(kind).map(|found| InterfaceName::label(&[found.text()]));
    let table = word(FRA_TABLE).unwrap_or(header.table.into());
    let mut rule = Rule {
        action: header.action,
        flags: header.flags & !(FIB_RULE_UNRESOLVED | FIB_RULE_IIF_DETACHED | FIB_RULE_OIF_DETACHED),
        source,
        destination,
        tos: header.tos,
        protocol: attributes.get(FRA_PROTOCOL).map_or(RTPROT_UNSPEC, |found| found.u8()),
        input: name(FRA_IIFNAME),
        output: name(FRA_OIFNAME),
        mark: word(FRA_FWMARK).unwrap_or(0),
        mask: word(FRA_FWMASK).unwrap_or(if word(FRA_FWMARK).unwrap_or(0) != 0 { u32::MAX } else { 0 }),
        suppress_length: word(FRA_SUPPRESS_PREFIXLEN).unwrap_or(u32::MAX) as i32,
        suppress_group: word(FRA_SUPPRESS_IFGROUP).unwrap_or(u32::MAX) as i32,
        realm: word(FRA_FLOW).unwrap_or(0),
        ip_protocol: attributes.get(FRA_IP_PROTO).map_or(0, |found| found.u8()),
        source_ports: ports(&attributes, FRA_SPORT_RANGE, "Invalid sport range")?,
        destination_ports: ports(&attributes, FRA_DPORT_RANGE, "Invalid dport range")?,
        dscp: attributes.get(FRA_DSCP).map(|found| (found.u8(), 0x3f)),
        target: word(FRA_GOTO).unwrap_or(0),
        priority: word(FRA_PRIORITY).unwrap_or(0),
        ..Rule::to_table(0, table, 0)
    };
    // A range of one port is a port with all its bits.
    let whole = |range: Option<(u16, u16)>| range.is_some_and(|(low, high)| low == high);
    rule.source_port_mask = if whole(rule.source_ports) { u16::MAX } else { 0 };
    rule.destination_port_mask = if whole(rule.destination_ports) { u16::MAX } else { 0 };
    if let Some(tunnel) = attributes.get(FRA_TUN_ID) {
        rule.tunnel = tunnel.value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    }
    if let Some(l3mdev) = attributes.get(FRA_L3MDEV) {
        rule.l3mdev = l3mdev.u8();
        if rule.l3mdev != 1 {
            return fail("Invalid l3mdev attribute");
        }
    }
    if rule.l3mdev != 0 && rule.table != 0 {
        return fail("l3mdev and table are mutually exclusive");
    }
    rule.users = users(&attributes)?;
    if rule.tos & 3 != 0 {
        return fail("Invalid dsfield (tos): ECN bits must be 0");
    }
    Ok(Wanted { is_v6, header, attributes, rule })
}

/// RTM_NEWRULE. `EEXIST`: there is one like that and NLM_F_EXCL is set.
fn new(request: &Request<'_>) -> Outcome<()> {
    let mut wanted = read(request)?;
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    let rules = net.ip.control.rules(wanted.is_v6);
    rules.materialise()?;
    let rule = &mut wanted.rule;
    if !wanted.attributes.has(FRA_PRIORITY) {
        rule.priority = rules.default_priority();
    }
    match (wanted.attributes.has(FRA_GOTO), rule.action == FR_ACT_GOTO) {
        (true, false) => return fail("Unexpected goto"),
        (false, true) => return fail("Missing goto target for action goto"),
        (true, true) if rule.target <= rule.priority => return fail("Backward goto not supported"),
        _ => {}
    }
    if request.has_flag(nl::NLM_F_EXCL) && rules.find(rule.priority, |other| other == rule).is_some() {
        return Err(Errno::EEXIST.into());
    }
    if rule.table == RT_TABLE_UNSPEC && rule.action == FR_ACT_TO_TBL && rule.l3mdev == 0 {
        if wanted.is_v6 {
            return fail("Invalid table");
        }
        let tables = net.ip.control.tables(false);
        let free = (1..RT_TABLE_DEFAULT).find(|id| tables.get(*id).is_none());
        rule.table = free.ok_or(Errno::ENOBUFS)?;
    }
    if rule.action == FR_ACT_TO_TBL {
        net.ip.control.tables(wanted.is_v6).make(rule.table)?;
    }
    let rule = rules.add(wanted.rule)?;
    changed(net);
    announce(net, RTM_NEWRULE, &rule, wanted.is_v6, &request.origin());
    Ok(())
}

/// RTM_DELRULE: the first that is as the request says, in what it says (`rule_find`). `ENOENT`.
fn delete(request: &Request<'_>) -> Outcome<()> {
    let wanted = read(request)?;
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    let rules = net.ip.control.rules(wanted.is_v6);
    rules.materialise()?;
    let (rule, header) = (&wanted.rule, &wanted.header);
    let has = |kind| wanted.attributes.has(kind);
    let is_meant = |other: &Rule| {
        (rule.action == 0 || rule.action == other.action)
            && (rule.table == 0 || rule.table == other.table)
            && (!has(FRA_PRIORITY) || rule.priority == other.priority)
            && (rule.input.is_none() || rule.input == other.input)
            && (rule.output.is_none() || rule.output == other.output)
            && (rule.mark == 0 || rule.mark == other.mark)
            && (rule.suppress_group == -1 || rule.suppress_group == other.suppress_group)
            && (rule.suppress_length == -1 || rule.suppress_length == other.suppress_length)
            && (rule.mask == 0 || rule.mask == other.mask)
            && (rule.tunnel == 0 || rule.tunnel == other.tunnel)
            && (rule.l3mdev == 0 || rule.l3mdev == other.l3mdev)
            && (rule.users.is_none() || rule.users == other.users)
            && (rule.ip_protocol == 0 || rule.ip_protocol == other.ip_protocol)
            && (rule.source_ports.is_none() || rule.source_ports == other.source_ports)
            && (rule.destination_ports.is_none() || rule.destination_ports == other.destination_ports)
            && (header.src_len == 0 || rule.source == other.source)
            && (header.dst_len == 0 || rule.destination == other.destination)
            && (rule.tos == 0 || rule.tos == other.tos)
            && (rule.realm == 0 || rule.realm == other.realm)
            && (rule.dscp.is_none() || rule.dscp == other.dscp)
            && (rule.protocol == 0 || rule.protocol == other.protocol)
    };
    let from = if has(FRA_PRIORITY) { rule.priority } else { 0 };
    let Some((at, found)) = rules.find(from, is_meant) else { return Err(Errno::ENOENT.into()) };
    if found.flags & FIB_RULE_PERMANENT != 0 {
        return Err(Errno::EPERM.into());
    }
    rules.remove(at)?;
    changed(net);
    announce(net, RTM_DELRULE, &found, wanted.is_v6, &request.origin());
    Ok(())
}

/// Writes the message (`fib_nl_fill_rule`).
fn describe(
    net: &NetState,
    kind: u16,
    rule: &Rule,
    is_v6: bool,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(kind, reply.flags, reply.sequence, reply.port)?;
    let is_gone = |name: &Option<InterfaceName>| {
        name.as_ref().is_some_and(|name| net.interface_index(name.as_bytes()).is_none())
    };
    let mut flags = rule.flags;
    let rules = net.ip.control.rules(is_v6);
    let has_target = || rules.find(rule.target, |other| other.priority == rule.target).is_some();
    if rule.action == FR_ACT_GOTO && !has_target() {
        flags |= FIB_RULE_UNRESOLVED;
    }
    if is_gone(&rule.input) {
        flags |= FIB_RULE_IIF_DETACHED;
    }
    if is_gone(&rule.output) {
        flags |= FIB_RULE_OIF_DETACHED;
    }
    let header = RuleMessage {
        family: if is_v6 { V6 } else { V4 },
        dst_len: rule.destination.length,
        src_len: rule.source.length,
        tos: rule.tos,
        table: short_table(rule.table),
        res1: 0,
        res2: 0,
        action: rule.action,
        flags,
    };
    out.fixed(header.as_bytes())?;
    out.u32(FRA_TABLE, rule.table)?;
    out.u32(FRA_SUPPRESS_PREFIXLEN, rule.suppress_length as u32)?;
    out.u8(FRA_PROTOCOL, rule.protocol)?;
    put_selectors(rule, out)?;
    if rule.destination.length != 0 {
        put_address(out, FRA_DST, address_of(rule.destination.key, is_v6))?;
    }
    if rule.source.length != 0 {
        put_address(out, FRA_SRC, address_of(rule.source.key, is_v6))?;
    }
    if rule.realm != 0 {
        out.u32(FRA_FLOW, rule.realm)?;
    }
    if let Some((dscp, mask)) = rule.dscp {
        out.u8(FRA_DSCP, dscp)?;
        out.u8(FRA_DSCP_MASK, mask)?;
    }
    out.end(mark);
    Ok(())
}

fn put_selectors(rule: &Rule, out: &mut Builder) -> Result<()> {
    let range = |(low, high): (u16, u16)| u32::from(low) | u32::from(high) << 16;
    if let Some(name) = &rule.input {
        out.text(FRA_IIFNAME, name.as_bytes())?;
    }
    if let Some(name) = &rule.output {
        out.text(FRA_OIFNAME, name.as_bytes())?;
    }
    if rule.priority != 0 {
        out.u32(FRA_PRIORITY, rule.priority)?;
    }
    if rule.mark != 0 {
        out.u32(FRA_FWMARK, rule.mark)?;
    }
    if rule.mark != 0 || rule.mask != 0 {
        out.u32(FRA_FWMASK, rule.mask)?;
    }
    if rule.target != 0 {
        out.u32(FRA_GOTO, rule.target)?;
    }
    if rule.tunnel != 0 {
        out.attribute(FRA_TUN_ID, &rule.tunnel.to_be_bytes())?;
    }
    if rule.l3mdev != 0 {
        out.u8(FRA_L3MDEV, rule.l3mdev)?;
    }
    if let Some((low, high)) = rule.users {
        let mut both = [0; 8];
        both[..4].copy_from_slice(&low.to_ne_bytes());
        both[4..].copy_from_slice(&high.to_ne_bytes());
        out.attribute(FRA_UID_RANGE, &both)?;
    }
    if let Some(ports) = rule.source_ports {
        out.u32(FRA_SPORT_RANGE, range(ports))?;
    }
    if let Some(ports) = rule.destination_ports {
        out.u32(FRA_DPORT_RANGE, range(ports))?;
    }
    for (kind, mask) in
        [(FRA_SPORT_MASK, rule.source_port_mask), (FRA_DPORT_MASK, rule.destination_port_mask)]
    {
        if mask != 0 {
            out.u16(kind, mask)?;
        }
    }
    if rule.ip_protocol != 0 {
        out.u8(FRA_IP_PROTO, rule.ip_protocol)?;
    }
    if rule.suppress_group != -1 {
        out.u32(FRA_SUPPRESS_IFGROUP, rule.suppress_group as u32)?;
    }
    Ok(())
}

fn announce(net: &NetState, kind: u16, rule: &Arc<Rule>, is_v6: bool, origin: &Origin) {
    let group = if is_v6 { RTNLGRP_IPV6_RULE } else { RTNLGRP_IPV4_RULE };
    tell(net, group, ROOM, origin, |out, reply| describe(net, kind, rule, is_v6, out, reply));
}

/// RTM_GETRULE for all of a family or of both.
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let family = request.message.payload.first().copied().unwrap_or(0);
    if request.is_strict() {
        let Some(header) = request.message.fixed::<RuleMessage>() else {
            return fail("Invalid header for fib rule dump request");
        };
        let is_clean = header.dst_len == 0
            && header.src_len == 0
            && header.tos == 0
            && header.table == 0
            && header.res1 == 0
            && header.res2 == 0
            && header.action == 0
            && header.flags == 0;
        if !is_clean {
            return fail("Invalid values in header for fib rule dump request");
        }
        if request.message.payload.len() > HEADER {
            return fail("Invalid data after header in fib rule dump request");
        }
    }
    let families: &'static [bool] = match family {
        V4 => &[false],
        V6 => &[true],
        0 => &[false, true],
        _ => return Err(Errno::EAFNOSUPPORT.into()),
    };
    boxed(RuleDump { namespace: request.namespace().clone(), families, family: 0, next: 0 })
}

struct RuleDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    family: usize,
    /// The place that comes next.
    next: u128,
}

impl Dumper for RuleDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(is_v6) = self.families.get(self.family).copied() {
            let net = self.namespace.state();
            while let Some((at, rule)) = net.ip.control.rules(is_v6).next_from(self.next)? {
                let before = out.mark();
                match describe(net, RTM_NEWRULE, &rule, is_v6, out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                self.next = at + 1;
            }
            self.family += 1;
            self.next = 0;
        }
        Ok(true)
    }
}
