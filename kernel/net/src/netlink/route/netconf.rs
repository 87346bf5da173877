//! RTM_*NETCONF: some settings of interfaces, as messages (`netconfmsg`).
//!
//! Locks: none; a dump goes on from an index. Neighbours: [`crate::ip::config`], [`crate::ip::sysctl`].

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};

use super::{Handler, tell};
use crate::device::NetDevice;
use crate::ip::config::{v4, v6};
use crate::ip::device::IpDevice;
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_GETNETCONF, family: V4, act: Some(get4), dump: Some(dump4) },
    Handler { message: RTM_GETNETCONF, family: V6, act: Some(get6), dump: Some(dump6) },
    Handler { message: RTM_GETNETCONF, family: 0, act: None, dump: Some(dump_both) },
];

/// `struct netconfmsg`: the family.
const HEADER: usize = 1;
const ROOM: usize = 256;
type Parsed<'a> = Attributes<'a, { NETCONFA_BC_FORWARDING as usize + 1 }>;

static POLICIES: Policies =
    Policies { max: NETCONFA_BC_FORWARDING, rules: &[(NETCONFA_IFINDEX, Policy::S32)] };

/// What is told of IPv4: attribute and setting, in order.
const TOLD_4: &[(u16, usize)] = &[
    (NETCONFA_FORWARDING, v4::FORWARDING),
    (NETCONFA_RP_FILTER, v4::RP_FILTER),
    (NETCONFA_MC_FORWARDING, v4::MC_FORWARDING),
    (NETCONFA_BC_FORWARDING, v4::BC_FORWARDING),
    (NETCONFA_PROXY_NEIGH, v4::PROXY_ARP),
    (NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, v4::IGNORE_ROUTES_WITH_LINKDOWN),
];
/// The same of IPv6.
const TOLD_6: &[(u16, usize)] = &[
    (NETCONFA_FORWARDING, v6::FORWARDING),
    (NETCONFA_MC_FORWARDING, v6::MC_FORWARDING),
    (NETCONFA_PROXY_NEIGH, v6::PROXY_NDP),
    (NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, v6::IGNORE_ROUTES_WITH_LINKDOWN),
];

/// Whose settings, and which of them.
#[derive(Clone, Copy)]
struct What {
    kind: u16,
    is_v6: bool,
    index: i32,
    /// Only this one; `None`: all.
    only: Option<usize>,
}

/// The value of a setting; of an interface that is gone nothing.
fn value(net: &NetState, device: Option<&IpDevice>, what: &What, which: usize) -> Option<i32> {
    let control = &net.ip.control;
    Some(match (what.index, what.is_v6, device) {
        (NETCONFA_IFINDEX_ALL, false, _) => control.all4.get(which),
        (NETCONFA_IFINDEX_ALL, true, _) => control.all6.get(which),
        (NETCONFA_IFINDEX_DEFAULT, false, _) => control.default4.get(which),
        (NETCONFA_IFINDEX_DEFAULT, true, _) => control.default6.get(which),
        (_, false, Some(ip)) => ip.settings4.get(which),
        (_, true, Some(ip)) => ip.settings6.get(which),
        (_, _, None) => return None,
    })
}

fn describe(
    net: &NetState,
    device: Option<&IpDevice>,
    what: &What,
    out: &mut Builder,
    reply: &Reply,
) -> Result<()> {
    let mark = out.begin(what.kind, reply.flags, reply.sequence, reply.port)?;
    out.fixed(&[if what.is_v6 { V6 } else { V4 }])?;
    out.i32(NETCONFA_IFINDEX, what.index)?;
    for (attribute, which) in if what.is_v6 { TOLD_6 } else { TOLD_4 } {
        let wanted = what.only.is_none_or(|only| only == *which) && what.kind == RTM_NEWNETCONF;
        if let Some(value) = value(net, device, what, *which).filter(|_| wanted) {
            out.i32(*attribute, value)?;
        }
    }
    out.end(mark);
    Ok(())
}

fn announce(net: &NetState, device: Option<&IpDevice>, what: &What) {
    let group = if what.is_v6 { RTNLGRP_IPV6_NETCONF } else { RTNLGRP_IPV4_NETCONF };
    tell(net, group, ROOM, &Origin::default(), |out, reply| describe(net, device, what, out, reply));
}

/// A device is new.
pub(crate) fn announce_device(device: &NetDevice, ip: &IpDevice) {
    let net = device.namespace();
    for is_v6 in [false, true] {
        let what = What { kind: RTM_NEWNETCONF, is_v6, index: device.index(), only: None };
        announce(&net, Some(ip), &what);
    }
}

/// A device is gone.
pub(crate) fn announce_end(device: &NetDevice) {
    let net = device.namespace();
    for is_v6 in [false, true] {
        let what = What { kind: RTM_DELNETCONF, is_v6, index: device.index(), only: None };
        announce(&net, None, &what);
    }
}

/// A setting has changed; nothing is said of those that are not told.
pub(crate) fn announce_setting(net: &NetState, index: i32, is_v6: bool, which: usize) {
    let told = if is_v6 { TOLD_6 } else { TOLD_4 };
    if !told.iter().any(|(_, known)| *known == which) {
        return;
    }
    let ip = net.devices().by_index(index).and_then(|device| device.ip());
    let what = What { kind: RTM_NEWNETCONF, is_v6, index, only: Some(which) };
    announce(net, ip.as_deref(), &what);
}

fn get4(request: &Request<'_>) -> Outcome<()> {
    get(request, false)
}
fn get6(request: &Request<'_>) -> Outcome<()> {
    get(request, true)
}

/// One place's settings. `EINVAL`: it names none; `ENODEV`.
fn get(request: &Request<'_>, is_v6: bool) -> Outcome<()> {
    let strict = request.is_strict();
    let strictness = if strict { Strictness::Old } else { Strictness::Liberal };
    let attributes: Parsed<'_> = request.parse(HEADER, &POLICIES, strictness)?;
    if strict && attributes.iter().any(|one| one.kind != NETCONFA_IFINDEX) {
        let text = if is_v6 {
            "ipv6: Unsupported attribute in netconf get request"
        } else {
            "ipv4: Unsupported attribute in netconf get request"
        };
        return Err(Failure::new(Errno::EINVAL, text));
    }
    let index = attributes.get(NETCONFA_IFINDEX).ok_or(Errno::EINVAL)?.i32();
    let net = request.namespace().state();
    let device = net.devices().by_index(index).and_then(|device| device.ip());
    if device.is_none() && !matches!(index, NETCONFA_IFINDEX_ALL | NETCONFA_IFINDEX_DEFAULT) {
        return Err(Errno::ENODEV.into());
    }
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    let what = What { kind: RTM_NEWNETCONF, is_v6, index, only: None };
    describe(net, device.as_deref(), &what, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

fn dump4(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[false])
}
fn dump6(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[true])
}
fn dump_both(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[false, true])
}

fn begin(request: &Request<'_>, families: &'static [bool]) -> Outcome<Box<dyn Dumper>> {
    if request.is_strict() && request.message.payload.len() > 4 {
        let text = if families == [true] {
            "ipv6: Invalid data after header in netconf dump request"
        } else {
            "ipv4: Invalid data after header in netconf dump request"
        };
        return Err(Failure::new(Errno::EINVAL, text));
    }
    boxed(NetconfDump { namespace: request.namespace().clone(), families, family: 0, next: 0 })
}

struct NetconfDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    family: usize,
    /// The interface that comes next; behind the last come `all` and `default`, as -1 and -2.
    next: i32,
}

impl NetconfDump {
    /// The next place: its index and what IP keeps there.
    fn place(&self) -> Option<(i32, Option<Arc<IpDevice>>)> {
        if self.next < 0 {
            return (self.next >= NETCONFA_IFINDEX_DEFAULT).then_some((self.next, None));
        }
        match self.namespace.devices().next_from(self.next) {
            Some(device) => Some((device.index(), device.ip())),
            None => Some((NETCONFA_IFINDEX_ALL, None)),
        }
    }
}

impl Dumper for NetconfDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(is_v6) = self.families.get(self.family).copied() {
            while let Some((index, ip)) = self.place() {
                let what = What { kind: RTM_NEWNETCONF, is_v6, index, only: None };
                let before = out.mark();
                match describe(self.namespace.state(), ip.as_deref(), &what, out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                self.next = if index < 0 { index - 1 } else { index.checked_add(1).unwrap_or(-1) };
            }
            self.family += 1;
            self.next = 0;
        }
        Ok(true)
    }
}
