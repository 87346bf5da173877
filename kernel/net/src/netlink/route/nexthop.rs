//! RTM_*NEXTHOP: next hops as objects, as messages (rtnetlink(7), `nhmsg`).
//!
//! What changes takes [`Rtnl`]; a dump goes on from the number where it stopped. Neighbours: [`crate::ip::route::nexthop`].

use abi::errno::{Errno, Result};
use abi::netlink as nl;
use abi::nexthop::*;
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::{FromBytes, IntoBytes};

use super::Handler;
use super::address::put_address;
use super::fib::address;
use crate::device::Rtnl;
use crate::ip::route::change::WantedHop;
use crate::ip::route::nexthop::{self, MEMBERS_MOST, Member, NextHop, What};
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::Origin;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWNEXTHOP, family: 0, act: Some(new), dump: None },
    Handler { message: RTM_DELNEXTHOP, family: 0, act: Some(delete), dump: None },
    Handler { message: RTM_GETNEXTHOP, family: 0, act: Some(get), dump: Some(dump) },
];

/// Bytes of the fixed header.
const HEADER: usize = size_of::<NextHopObjectMessage>();
/// Room for one, however many members it has.
const ROOM: usize = 256 + MEMBERS_MOST * size_of::<NextHopMember>();
const ATTRIBUTES: usize = NHA_HW_STATS_USED as usize + 1;
type Parsed<'a> = Attributes<'a, ATTRIBUTES>;

static NEW_POLICIES: Policies = Policies {
    max: NHA_HW_STATS_ENABLE,
    rules: &[
        (NHA_ID, Policy::U32),
        (NHA_GROUP, Policy::Binary(0)),
        (NHA_GROUP_TYPE, Policy::U16),
        (NHA_BLACKHOLE, Policy::Flag),
        (NHA_OIF, Policy::U32),
        (NHA_GATEWAY, Policy::Binary(0)),
        (NHA_ENCAP_TYPE, Policy::U16),
        (NHA_ENCAP, Policy::Nest),
        (NHA_FDB, Policy::Flag),
        (NHA_RES_GROUP, Policy::Nest),
        (NHA_HW_STATS_ENABLE, Policy::U32Range(0, 1)),
    ],
};
static GET_POLICIES: Policies =
    Policies { max: NHA_OP_FLAGS, rules: &[(NHA_ID, Policy::U32), (NHA_OP_FLAGS, Policy::U32)] };
static DELETE_POLICIES: Policies = Policies { max: NHA_ID, rules: &[(NHA_ID, Policy::U32)] };
static DUMP_POLICIES: Policies = Policies {
    max: NHA_OP_FLAGS,
    rules: &[
        (NHA_OIF, Policy::U32),
        (NHA_GROUPS, Policy::Flag),
        (NHA_MASTER, Policy::U32),
        (NHA_FDB, Policy::Flag),
        (NHA_OP_FLAGS, Policy::U32),
    ],
};

fn refuse<T>(text: &'static str) -> Outcome<T> {
    Err(Failure::new(Errno::EINVAL, text))
}

/// RTM_NEWNEXTHOP (`rtm_new_nexthop`).
fn new(request: &Request<'_>) -> Outcome<()> {
    let attributes: Parsed<'_> = request.parse(HEADER, &NEW_POLICIES, Strictness::Strict)?;
    let header: NextHopObjectMessage = request.message.fixed().unwrap_or_default();
    if header.resvd != 0 || header.nh_scope != 0 {
        return refuse("Invalid values in ancillary header");
    }
    if header.nh_flags & !RTNH_F_ONLINK != 0 {
        return refuse("Invalid nexthop flags in ancillary header");
    }
    let is_valid = match u32::from(header.nh_family) {
        AF_INET | AF_INET6 => true,
        family => family == AF_UNSPEC && attributes.has(NHA_GROUP),
    };
    if !is_valid {
        return refuse("Invalid address family");
    }
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    if attributes.has(NHA_FDB) {
        return Err(Failure::new(Errno::EOPNOTSUPP, "Next hops of bridges are not supported"));
    }
    let what = match attributes.get(NHA_GROUP) {
        Some(group) => read_group(net, &header, &attributes, group)?,
        None => read_way(net, &header, &attributes)?,
    };
    let replaces = request.has_flag(nl::NLM_F_REPLACE);
    let id = match attributes.get(NHA_ID).map_or(0, |id| id.u32()) {
        0 if replaces => return refuse("Replace requires nexthop id"),
        0 => match net.ip.control.nexthops.free_id() {
            Some(id) => id,
            None => return refuse("No unused id"),
        },
        id => id,
    };
    let one = NextHop { id, family: header.nh_family, protocol: header.nh_protocol, what };
    let creates = request.has_flag(nl::NLM_F_CREATE);
    nexthop::put(net, one, replaces, creates, request.message.header.nlmsg_flags, &request.origin())
}

/// The members of a group (`nh_check_attr_group`).
fn read_group(
    net: &NetState,
    header: &NextHopObjectMessage,
    attributes: &Parsed<'_>,
    group: Attribute<'_>,
) -> Outcome<What> {
    const SIZE: usize = size_of::<NextHopMember>();
    if u32::from(header.nh_family) != AF_UNSPEC {
        return refuse("Invalid family for group");
    }
    match attributes.get(NHA_GROUP_TYPE).map_or(NEXTHOP_GRP_TYPE_MPATH, |kind| kind.u16()) {
        NEXTHOP_GRP_TYPE_MPATH => {}
        NEXTHOP_GRP_TYPE_RES => {
            return Err(Failure::new(Errno::EOPNOTSUPP, "Resilient groups are not supported"));
        }
        _ => return refuse("Invalid group type"),
    }
    if group.value.is_empty()
        || !group.value.len().is_multiple_of(SIZE)
        || group.value.len() / SIZE > MEMBERS_MOST
    {
        return refuse("Invalid length for nexthop group attribute");
    }
    let mut members: Vec<Member> = Vec::new();
    members.try_reserve_exact(group.value.len() / SIZE).map_err(|_| Errno::ENOMEM)?;
    for bytes in group.value.chunks_exact(SIZE) {
        let Ok(one) = NextHopMember::read_from_bytes(bytes) else { return Err(Errno::EINVAL.into()) };
        if one.resvd2 != 0 {
            return refuse("Reserved field in nexthop_grp must be 0");
        }
        let weight = u16::from(one.weight) | u16::from(one.weight_high) << 8;
        if weight == u16::MAX {
            return refuse("Invalid value for weight");
        }
        members.push(Member { id: one.id, weight });
    }
    let mut ids: Vec<u32> = Vec::new();
    ids.try_reserve_exact(members.len()).map_err(|_| Errno::ENOMEM)?;
    ids.extend(members.iter().map(|member| member.id));
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse("Nexthop id can not be used twice in a group");
    }
    members.iter().try_for_each(|member| nexthop::check_member(net, member.id, members.len()))?;
    let others = attributes.iter().any(|one| one.kind > NHA_GROUP_TYPE && one.kind != NHA_HW_STATS_ENABLE);
    if others {
        return refuse("No other attributes can be set in nexthop groups");
    }
    Ok(What::Group(members))
}

/// A way, or none (`rtm_to_nh_config`).
fn read_way(net: &NetState, header: &NextHopObjectMessage, attributes: &Parsed<'_>) -> Outcome<What> {
    if attributes.has(NHA_BLACKHOLE) {
        if [NHA_GATEWAY, NHA_OIF, NHA_ENCAP, NHA_ENCAP_TYPE].iter().any(|kind| attributes.has(*kind)) {
            return refuse("Blackhole attribute can not be used with gateway, oif, encap or fdb");
        }
        return Ok(What::Blackhole);
    }
    let Some(index) = attributes.get(NHA_OIF) else {
        return refuse("Device attribute required for non-blackhole and non-fdb nexthops");
    };
    let Some(device) = net.devices().by_index(index.i32()) else { return refuse("Invalid device index") };
    if !device.is_up() {
        return Err(Failure::new(Errno::ENETDOWN, "Nexthop device is not up"));
    }
    if !device.has_carrier() {
        return Err(Failure::new(Errno::ENETDOWN, "Carrier for nexthop device is down"));
    }
    let is_v6 = u32::from(header.nh_family) == AF_INET6;
    let gateway = match attributes.get(NHA_GATEWAY) {
        Some(said) => {
            let is_whole = said.value.len() == if is_v6 { 16 } else { 4 };
            match address(said.value, is_v6).filter(|_| is_whole) {
                Some(found) => Some(found).filter(|found| !found.is_unspecified()),
                None => return refuse("Invalid gateway"),
            }
        }
        None if header.nh_flags & RTNH_F_ONLINK != 0 => {
            return refuse("ONLINK flag can not be set for nexthop without a gateway");
        }
        None => None,
    };
    if attributes.has(NHA_ENCAP) || attributes.has(NHA_ENCAP_TYPE) {
        return Err(Failure::new(Errno::EOPNOTSUPP, "Encapsulation is not supported"));
    }
    let way = WantedHop { index: device.index(), gateway, flags: header.nh_flags, ..WantedHop::default() };
    nexthop::way(net, is_v6, &way)
}

/// The number of a request for one (`nh_valid_get_del_req`).
fn read_id(request: &Request<'_>, policies: &'static Policies) -> Outcome<u32> {
    let attributes: Parsed<'_> = request.parse(HEADER, policies, Strictness::Strict)?;
    let header: NextHopObjectMessage = request.message.fixed().unwrap_or_default();
    if header.nh_protocol != 0 || header.resvd != 0 || header.nh_scope != 0 || header.nh_flags != 0 {
        return refuse("Invalid values in header");
    }
    let Some(id) = attributes.get(NHA_ID) else { return refuse("Nexthop id is missing") };
    if id.u32() == 0 {
        return refuse("Invalid nexthop id");
    }
    Ok(id.u32())
}

/// RTM_DELNEXTHOP. `ENOENT`.
fn delete(request: &Request<'_>) -> Outcome<()> {
    let id = read_id(request, &DELETE_POLICIES)?;
    let net = request.namespace().state();
    let _rtnl = Rtnl::lock(net);
    let found = net.ip.control.nexthops.get(id).ok_or(Errno::ENOENT)?;
    nexthop::remove(net, &found, Some((request.message.header.nlmsg_flags, request.origin())));
    Ok(())
}

/// RTM_GETNEXTHOP of one. `ENOENT`.
fn get(request: &Request<'_>) -> Outcome<()> {
    let id = read_id(request, &GET_POLICIES)?;
    let found = request.namespace().ip.control.nexthops.get(id).ok_or(Errno::ENOENT)?;
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe(RTM_NEWNEXTHOP, &found, 0, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// Writes a next hop (`nh_fill_node`).
fn describe(kind: u16, one: &NextHop, flags: u16, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(kind, reply.flags | flags, reply.sequence, reply.port)?;
    let (scope, way_flags) = match &one.what {
        // All of IPv6 are as near as a link.
        What::Way(hop) if one.family == AF_INET6 as u8 => (RT_SCOPE_LINK, hop.flags() & 0xff),
        What::Way(hop) => (hop.scope, hop.flags() & 0xff),
        _ => (0, 0),
    };
    let header = NextHopObjectMessage {
        nh_family: one.family,
        nh_scope: scope,
        nh_protocol: one.protocol,
        resvd: 0,
        nh_flags: way_flags,
    };
    out.fixed(header.as_bytes())?;
    out.u32(NHA_ID, one.id)?;
    match &one.what {
        What::Blackhole => out.attribute(NHA_BLACKHOLE, &[])?,
        What::Way(hop) => {
            out.i32(NHA_OIF, hop.index())?;
            if let Some(gateway) = hop.gateway {
                put_address(out, NHA_GATEWAY, gateway)?;
            }
        }
        What::Group(members) => put_group(members, out)?,
    }
    out.end(mark);
    Ok(())
}

fn put_group(members: &[Member], out: &mut Builder) -> Result<()> {
    out.u16(NHA_GROUP_TYPE, NEXTHOP_GRP_TYPE_MPATH)?;
    let mut bytes = Vec::new();
    let size = size_of::<NextHopMember>();
    bytes.try_reserve_exact(members.len() * size).map_err(|_| Errno::ENOMEM)?;
    for member in members {
        let [weight, weight_high] = member.weight.to_le_bytes();
        let one = NextHopMember { id: member.id, weight, weight_high, resvd2: 0 };
        bytes.extend_from_slice(one.as_bytes());
    }
    out.attribute(NHA_GROUP, &bytes)?;
    out.u32(NHA_OP_FLAGS, NHA_OP_FLAG_RESP_GRP_RESVD_0)
}

/// Tells RTNLGRP_NEXTHOP of a next hop.
pub(crate) fn announce(net: &NetState, kind: u16, one: &NextHop, flags: u16, origin: &Origin) {
    super::tell(net, RTNLGRP_NEXTHOP, ROOM, origin, |out, reply| describe(kind, one, flags, out, reply));
}

/// RTM_GETNEXTHOP of all (`rtm_dump_nexthop`).
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let attributes: Parsed<'_> = request.parse(HEADER, &DUMP_POLICIES, Strictness::Strict)?;
    let header: NextHopObjectMessage = request.message.fixed().unwrap_or_default();
    let word = |kind| attributes.get(kind).map_or(0, |one| one.i32());
    if word(NHA_OIF) < 0 {
        return refuse("Invalid device index");
    }
    if word(NHA_MASTER) < 0 {
        return refuse("Invalid master device index");
    }
    if header.nh_protocol != 0 || header.resvd != 0 || header.nh_scope != 0 || header.nh_flags != 0 {
        return refuse("Invalid values in header for nexthop dump request");
    }
    boxed(NextHopDump {
        namespace: request.namespace().clone(),
        family: header.nh_family,
        index: word(NHA_OIF),
        master: word(NHA_MASTER),
        only_groups: attributes.has(NHA_GROUPS),
        next: Some(0),
    })
}

struct NextHopDump {
    namespace: Arc<NetNamespace>,
    family: u8,
    /// Only through this device, or one whose master this is.
    index: i32,
    master: i32,
    only_groups: bool,
    /// The number that comes next.
    next: Option<u32>,
}

impl NextHopDump {
    fn wants(&self, one: &NextHop) -> bool {
        let asks_for_ways = self.family != 0 || self.index != 0 || self.master != 0;
        if one.is_group() || self.only_groups {
            return one.is_group() && !asks_for_ways;
        }
        let device = self.namespace.devices().by_index(one.index());
        let master = || device.and_then(|device| device.master()).map_or(0, |master| master.index());
        (self.family == 0 || self.family == one.family)
            && (self.index == 0 || self.index == one.index())
            && (self.master == 0 || self.master == master())
    }
}

impl Dumper for NextHopDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(found) = self.next.and_then(|next| self.namespace.ip.control.nexthops.next_from(next))
        {
            if self.wants(&found) {
                let before = out.mark();
                match describe(RTM_NEWNEXTHOP, &found, 0, out, reply) {
                    Ok(()) => {}
                    Err(Errno::EMSGSIZE) => {
                        out.cancel(before);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            self.next = found.id.checked_add(1);
        }
        Ok(true)
    }
}
