//! Rules: which table is asked for which packet (ip-rule(8), `fib_rules.c`).
//!
//! Key types: [`Rule`], `Rules` (of one family of a namespace, by preference). The rules that every namespace begins with are not
//! stored until somebody changes rules, so that most look-ups go straight to the tables.
//! Locks: changed under [`crate::device::Rtnl`]; read without a lock.

use abi::errno::{Errno, Result};
use abi::route::*;
use alloc::sync::Arc;
use linnet_lib::fib::Prefix;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Flow;
use crate::device::InterfaceName;
use crate::ip::address::key_of;
use crate::ip::map::RcuMap;
use crate::namespace::NetState;

/// Ports or users, inclusive.
pub type Range<N> = (N, N);

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// FRA_PRIORITY: lower ones are asked first.
    pub priority: u32,
    /// `FR_ACT_*`.
    pub action: u8,
    /// `FIB_RULE_*`.
    pub flags: u32,
    /// FRA_TABLE.
    pub table: u32,
    /// FRA_SRC.
    pub source: Prefix,
    /// FRA_DST.
    pub destination: Prefix,
    /// Type of service.
    pub tos: u8,
    /// FRA_DSCP and its mask.
    pub dscp: Option<(u8, u8)>,
    /// FRA_FLOWLABEL and its mask.
    pub flow_label: Option<(u32, u32)>,
    /// FRA_FWMARK.
    pub mark: u32,
    /// FRA_FWMASK.
    pub mask: u32,
    /// FRA_IIFNAME.
    pub input: Option<InterfaceName>,
    /// FRA_OIFNAME.
    pub output: Option<InterfaceName>,
    /// FRA_GOTO.
    pub target: u32,
    /// FRA_L3MDEV.
    pub l3mdev: u8,
    /// FRA_TUN_ID.
    pub tunnel: u64,
    /// FRA_UID_RANGE.
    pub users: Option<Range<u32>>,
    /// FRA_IP_PROTO.
    pub ip_protocol: u8,
    /// FRA_SPORT_RANGE.
    pub source_ports: Option<Range<u16>>,
    /// FRA_DPORT_RANGE.
    pub destination_ports: Option<Range<u16>>,
    /// FRA_SPORT_MASK.
    pub source_port_mask: u16,
    /// FRA_DPORT_MASK.
    pub destination_port_mask: u16,
    /// FRA_PROTOCOL.
    pub protocol: u8,
    /// FRA_SUPPRESS_PREFIXLEN.
    pub suppress_length: i32,
    /// FRA_SUPPRESS_IFGROUP.
    pub suppress_group: i32,
    /// FRA_FLOW.
    pub realm: u32,
}

impl Rule {
    /// One that sends all to a table.
    pub(crate) fn to_table(priority: u32, table: u32, flags: u32) -> Rule {
        Rule {
            priority,
            action: FR_ACT_TO_TBL,
            flags,
            table,
            source: Prefix::new(0, 0),
            destination: Prefix::new(0, 0),
            tos: 0,
            dscp: None,
            flow_label: None,
            mark: 0,
            mask: 0,
            input: None,
            output: None,
            target: 0,
            l3mdev: 0,
            tunnel: 0,
            users: None,
            ip_protocol: 0,
            source_ports: None,
            destination_ports: None,
            source_port_mask: 0,
            destination_port_mask: 0,
            protocol: RTPROT_KERNEL,
            suppress_length: -1,
            suppress_group: -1,
            realm: 0,
        }
    }

    fn matches(&self, net: &NetState, flow: &Flow) -> bool {
        let is_inside = |range: &Option<Range<u16>>, mask: u16, port: u16| match range {
            Some((low, _)) if mask != 0 => port & mask == *low,
            Some((low, high)) => (*low..=*high).contains(&port),
            None => true,
        };
        let is_interface = |name: &Option<InterfaceName>, index: i32| {
            name.as_ref().is_none_or(|name| index != 0 && net.interface_index(name.as_bytes()) == Some(index))
        };
        let input = if flow.input == 0 { 1 } else { flow.input };
        let matches = is_interface(&self.input, input)
            && is_interface(&self.output, flow.output)
            && (self.mark ^ flow.mark) & self.mask == 0
            && self.tunnel == 0
            && self.l3mdev == 0
            && self.users.is_none_or(|(low, high)| (low..=high).contains(&flow.user_id))
            && self.destination.covers(key_of(flow.destination))
            && self.source.covers(flow.source.map_or(0, key_of))
            && (self.tos == 0 || self.tos == flow.tos & 0x1c)
            && self.dscp.is_none_or(|(dscp, mask)| (flow.tos >> 2) & mask == dscp)
            && self.flow_label.is_none()
            && (self.ip_protocol == 0 || self.ip_protocol == flow.protocol)
            && is_inside(&self.source_ports, self.source_port_mask, flow.ports.0)
            && is_inside(&self.destination_ports, self.destination_port_mask, flow.ports.1);
        matches != (self.flags & FIB_RULE_INVERT != 0)
    }
}

/// The rules of a family.
pub(crate) struct Rules {
    list: RcuMap<Arc<Rule>>,
    is_v6: bool,
    is_custom: AtomicBool,
    next: AtomicU64,
}

/// What every namespace begins with.
const INITIAL: [(u32, u32, u32); 3] =
    [(0, RT_TABLE_LOCAL, 0), (0x7ffe, RT_TABLE_MAIN, 0), (0x7fff, RT_TABLE_DEFAULT, 0)];

fn place(priority: u32, serial: u64) -> u128 {
    u128::from(priority) << 64 | u128::from(serial)
}

impl Rules {
    pub(crate) const fn new(is_v6: bool) -> Rules {
        Rules { list: RcuMap::new(), is_v6, is_custom: AtomicBool::new(false), next: AtomicU64::new(1) }
    }

    fn initial(&self) -> &'static [(u32, u32, u32)] {
        if self.is_v6 { &INITIAL[..2] } else { &INITIAL }
    }

    /// Whether somebody changed them.
    pub(crate) fn is_custom(&self) -> bool {
        self.is_custom.load(Ordering::Acquire)
    }

    /// The first rule from a place on, with its place.
    pub(crate) fn next_from(&self, from: u128) -> Result<Option<(u128, Arc<Rule>)>> {
        if self.is_custom() {
            return Ok(self.list.first_from(from));
        }
        let next = self.initial().iter().find(|(priority, ..)| place(*priority, 0) >= from);
        let Some((priority, table, flags)) = next else { return Ok(None) };
        Ok(Some((place(*priority, 0), try_arc(Rule::to_table(*priority, *table, *flags))?)))
    }

    /// Stores the initial rules, if that was not done: from now on they are like others. Under rtnl. `ENOMEM`.
    pub(crate) fn materialise(&self) -> Result<()> {
        if self.is_custom() {
            return Ok(());
        }
        for (priority, table, flags) in self.initial() {
            self.list.set(place(*priority, 0), try_arc(Rule::to_table(*priority, *table, *flags))?)?;
        }
        self.is_custom.store(true, Ordering::Release);
        Ok(())
    }

    /// Adds a rule behind those of its preference. Under rtnl. `ENOMEM`.
    pub(crate) fn add(&self, rule: Rule) -> Result<Arc<Rule>> {
        self.materialise()?;
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        let rule = try_arc(rule)?;
        self.list.set(place(rule.priority, serial), rule.clone())?;
        Ok(rule)
    }

    /// Takes the rule at a place out. Under rtnl. `ENOMEM`.
    pub(crate) fn remove(&self, at: u128) -> Result<()> {
        self.list.remove(at)
    }

    /// The first rule from `priority` on that `wanted` accepts.
    pub(crate) fn find(&self, priority: u32, wanted: impl Fn(&Rule) -> bool) -> Option<(u128, Arc<Rule>)> {
        self.list.find(place(priority, 0), |at, rule| wanted(rule).then(|| (at, rule.clone())))
    }

    /// The preference that a rule gets which names none: one less than the second rule's (`fib_default_rule_pref`).
    pub(crate) fn default_priority(&self) -> u32 {
        let Some((first, _)) = self.list.first_from(0) else { return 0 };
        self.list.first_from(first + 1).map_or(0, |(_, rule)| rule.priority.saturating_sub(1))
    }

    /// Asks tables in order until one answers: `Ok`, or an error that is final. `ENETUNREACH`: none did.
    pub(crate) fn ask<R>(
        &self,
        net: &NetState,
        flow: &Flow,
        mut look: impl FnMut(u32, Option<&Rule>) -> Option<Result<R>>,
    ) -> Result<R> {
        if !self.is_custom() {
            let answer = self.initial().iter().find_map(|(_, table, _)| look(*table, None));
            return answer.unwrap_or(Err(Errno::ENETUNREACH));
        }
        let mut from = 0;
        loop {
            let found = self.list.find(from, |at, rule| rule.matches(net, flow).then(|| (at, rule.clone())));
            let Some((at, rule)) = found else { return Err(Errno::ENETUNREACH) };
            from = at + 1;
            let answer = match rule.action {
                FR_ACT_TO_TBL => look(rule.table, Some(&rule)),
                // Only forwards, so that this ends.
                FR_ACT_GOTO => {
                    if let Some((target, _)) = self.find(rule.target, |other| other.priority == rule.target) {
                        from = from.max(target);
                    }
                    None
                }
                FR_ACT_UNREACHABLE => Some(Err(Errno::ENETUNREACH)),
                FR_ACT_PROHIBIT => Some(Err(Errno::EACCES)),
                FR_ACT_BLACKHOLE => Some(Err(Errno::EINVAL)),
                _ => None,
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
    }
}
