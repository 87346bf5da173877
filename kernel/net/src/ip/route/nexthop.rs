//! Next hops as objects of their own (ip-nexthop(8)): routes name one by number and follow what becomes of it.
//!
//! Key types: [`NextHop`] (never changes: who changes one puts another in its place), [`NextHops`] (of a namespace). A group names other
//! next hops; a route holds copies of the ways, made again whenever the object changes. By device, by member and by route there are
//! lists, so that what goes takes only its own along. Locks: changed under [`crate::device::Rtnl`]; read without a lock.

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::fib::Prefix;
use linnet_lib::netlink::{Failure, Outcome};
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicU32, Ordering};

use super::change::{self, Wanted, WantedHop};
use super::sync;
use super::table::{Entry, Hop};
use crate::device::NetDevice;
use crate::ip::map::{Groups, RcuMap};
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::nexthop::announce;

/// The loopback's index in every namespace.
const LOOPBACK: i32 = 1;
/// Members of a group at most, so that a message tells all.
pub const MEMBERS_MOST: usize = 1024;

/// One of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u32,
    /// Its share less one.
    pub weight: u16,
}

/// What a next hop is.
pub enum What {
    /// What goes there is lost.
    Blackhole,
    /// A way.
    Way(Hop),
    /// Several, by share.
    Group(Vec<Member>),
}

/// A next hop.
pub struct NextHop {
    /// Its number.
    pub id: u32,
    /// `AF_*`; none for a group.
    pub family: u8,
    /// `RTPROT_*` of who made it.
    pub protocol: u8,
    /// What it is.
    pub what: What,
}

impl NextHop {
    /// Whether it is a group.
    pub fn is_group(&self) -> bool {
        matches!(self.what, What::Group(_))
    }

    /// The index of its device, 0 for none.
    pub fn index(&self) -> i32 {
        match &self.what {
            What::Way(hop) => hop.index(),
            _ => 0,
        }
    }

    fn members(&self) -> &[Member] {
        match &self.what {
            What::Group(members) => members,
            _ => &[],
        }
    }
}

/// The next hops of a namespace.
pub struct NextHops {
    by_id: RcuMap<Arc<NextHop>>,
    by_device: Groups<Arc<NextHop>>,
    /// Groups by each of their members.
    by_member: Groups<Arc<NextHop>>,
    /// Routes by the next hop they name.
    routes: Groups<Arc<Entry>>,
    /// The last number that was given to one that had none.
    last_given: AtomicU32,
}

fn name(number: u32) -> Prefix {
    Prefix::exact(number.into())
}

fn fail<T>(errno: Errno, text: &'static str) -> Outcome<T> {
    Err(Failure::new(errno, text))
}

impl NextHops {
    pub(crate) const fn new() -> NextHops {
        NextHops {
            by_id: RcuMap::new(),
            by_device: Groups::new(),
            by_member: Groups::new(),
            routes: Groups::new(),
            last_given: AtomicU32::new(0),
        }
    }

    /// The one with this number. Any context.
    pub fn get(&self, id: u32) -> Option<Arc<NextHop>> {
        self.by_id.get(id.into())
    }

    /// The first one whose number is not less.
    pub(crate) fn next_from(&self, id: u32) -> Option<Arc<NextHop>> {
        self.by_id.first_from(id.into()).map(|(_, found)| found)
    }

    /// The first number behind the last that was given which nobody has; none if all of them are taken. Under rtnl.
    pub(crate) fn free_id(&self) -> Option<u32> {
        let last = self.last_given.load(Ordering::Relaxed);
        let first = last.checked_add(1).unwrap_or(1);
        let mut free = u128::from(first);
        self.by_id.find(free, |id, _| {
            if id != free {
                return Some(());
            }
            free += 1;
            None
        });
        let found = u32::try_from(free).ok()?;
        self.last_given.store(found, Ordering::Relaxed);
        Some(found)
    }

    /// Lets go of all at once.
    pub(crate) fn clear(&self) {
        self.by_id.clear();
        self.by_device.clear();
        self.by_member.clear();
        self.routes.clear();
    }

    /// Lists a route that names a next hop. `ENOMEM`.
    pub(crate) fn list_route(&self, entry: &Arc<Entry>) -> Result<()> {
        if entry.nexthop == 0 {
            Ok(())
        } else {
            self.routes.set(name(entry.nexthop), entry.serial.into(), entry.clone())
        }
    }

    /// Lists it no more.
    pub(crate) fn unlist_route(&self, entry: &Entry) {
        if entry.nexthop != 0 {
            let _ = self.routes.remove(name(entry.nexthop), entry.serial.into());
        }
    }

    fn list(&self, one: &Arc<NextHop>) -> Result<()> {
        if one.index() != 0 {
            self.by_device.set(name(one.index() as u32), one.id.into(), one.clone())?;
        }
        for member in one.members() {
            self.by_member.set(name(member.id), one.id.into(), one.clone())?;
        }
        self.by_id.set(one.id.into(), one.clone())
    }

    /// Takes one out of the lists beside that by number.
    fn unlist_aside(&self, one: &NextHop) {
        if one.index() != 0 {
            let _ = self.by_device.remove(name(one.index() as u32), one.id.into());
        }
        for member in one.members() {
            let _ = self.by_member.remove(name(member.id), one.id.into());
        }
    }

    /// The groups that one is in.
    fn groups_of(&self, id: u32) -> impl Iterator<Item = Arc<NextHop>> {
        self.by_member.values(name(id))
    }

    /// The ways that a route takes which names a next hop, and whether what goes there is lost. `ENOMEM`.
    pub(crate) fn ways(&self, net: &NetState, one: &NextHop) -> Result<(Vec<Hop>, bool)> {
        let mut hops = Vec::new();
        hops.try_reserve_exact(one.members().len().max(1)).map_err(|_| Errno::ENOMEM)?;
        let mut is_lost = false;
        let mut add = |what: &What, weight| match what {
            What::Blackhole => {
                is_lost = true;
                hops.push(Hop { weight, ..Hop::direct(net.devices().by_index(LOOPBACK), RT_SCOPE_NOWHERE) });
            }
            What::Way(hop) => hops.push(Hop { weight, ..hop.copy() }),
            What::Group(_) => {}
        };
        add(&one.what, 0);
        for member in one.members() {
            if let Some(found) = self.get(member.id) {
                add(&found.what, member.weight);
            }
        }
        Ok((hops, is_lost))
    }
}

/// The next hop that a route names, if it may (`fib_check_nexthop`, `fib6_check_nexthop`).
pub(crate) fn of_route(net: &NetState, wanted: &Wanted) -> Outcome<Arc<NextHop>> {
    let all = &net.ip.control.nexthops;
    let Some(found) = all.get(wanted.nexthop) else {
        return fail(Errno::EINVAL, "Nexthop id does not exist");
    };
    let first = found.members().first().and_then(|first| all.get(first.id));
    let way = first.as_ref().unwrap_or(&found);
    if wanted.is_v6 {
        if wanted.source.length != 0 {
            return fail(Errno::EINVAL, "Nexthops can not be used with source routing");
        }
        let is_v4 = |one: &NextHop| u32::from(one.family) == abi::socket::AF_INET;
        let has_v4 = is_v4(&found)
            || found.members().iter().any(|one| all.get(one.id).is_some_and(|member| is_v4(&member)));
        if has_v4 {
            return fail(Errno::EINVAL, "IPv6 routes can not use an IPv4 nexthop");
        }
        return Ok(found);
    }
    if found.is_group() && wanted.scope == RT_SCOPE_HOST {
        return fail(Errno::EINVAL, "Route with host scope can not have multiple nexthops");
    }
    if let What::Way(hop) = &way.what {
        if wanted.scope == RT_SCOPE_HOST && hop.gateway.is_some() {
            return fail(Errno::EINVAL, "Route with host scope can not have a gateway");
        }
        if hop.flags() & RTNH_F_ONLINK != 0 && wanted.scope >= RT_SCOPE_LINK {
            return fail(Errno::EINVAL, "Scope mismatch with nexthop");
        }
    }
    Ok(found)
}

/// A way that a request asks for (`nh_create_ipv4`, `nh_create_ipv6`).
pub(crate) fn way(net: &NetState, is_v6: bool, way: &WantedHop) -> Outcome<What> {
    change::check_way(net, is_v6, way).map(What::Way)
}

/// Whether one may be in a group with others (`valid_group_nh`).
pub(crate) fn check_member(net: &NetState, id: u32, members: usize) -> Outcome<()> {
    let Some(found) = net.ip.control.nexthops.get(id) else {
        return fail(Errno::EINVAL, "Invalid nexthop id");
    };
    match &found.what {
        What::Group(_) => fail(Errno::EINVAL, "Hash-threshold group can not be a nexthop within a group"),
        What::Blackhole if members > 1 => {
            let text = "Blackhole nexthop can not be used in a group with more than 1 path";
            fail(Errno::EINVAL, text)
        }
        _ => Ok(()),
    }
}

/// Puts a next hop where its request says: a new one, or (`replaces`) in the place of one, whose routes follow.
pub(crate) fn put(
    net: &Arc<NetState>,
    new: NextHop,
    replaces: bool,
    creates: bool,
    flags: u16,
    origin: &Origin,
) -> Outcome<()> {
    let all = &net.ip.control.nexthops;
    let old = all.get(new.id);
    match &old {
        Some(_) if !replaces => return Err(Errno::EEXIST.into()),
        Some(old) if new.is_group() && !old.is_group() => {
            return fail(Errno::EINVAL, "Can not replace a nexthop with a nexthop group.");
        }
        Some(old) if !new.is_group() && old.is_group() => {
            return fail(Errno::EINVAL, "Can not replace a nexthop group with a nexthop.");
        }
        None if replaces && !creates => {
            return fail(Errno::ENOENT, "Replace specified without create and no entry exists");
        }
        _ => {}
    }
    let new = try_arc(new).map_err(Errno::from)?;
    if let Some(old) = &old {
        all.unlist_aside(old);
    }
    if let Err(error) = all.list(&new) {
        all.unlist_aside(&new);
        if let Some(old) = &old {
            let _ = all.list(old);
        }
        return Err(error.into());
    }
    super::changed(net);
    announce(net, RTM_NEWNEXTHOP, &new, flags, origin);
    if old.is_some() {
        follow(net, &new);
    }
    Ok(())
}

/// The routes that name a next hop, or a group that it is in, get its ways.
fn follow(net: &Arc<NetState>, one: &NextHop) {
    let all = &net.ip.control.nexthops;
    for entry in all.routes.values(name(one.id)) {
        sync::renew_ways(net, &entry, one, true);
    }
    for group in all.groups_of(one.id) {
        for entry in all.routes.values(name(group.id)) {
            sync::renew_ways(net, &entry, &group, true);
        }
    }
}

/// Takes a next hop out, with the routes that name it, and out of its groups; one that is empty then goes, too. Who listens is told,
/// with the flags of the request, unless a device goes.
pub(crate) fn remove(net: &Arc<NetState>, one: &Arc<NextHop>, told: Option<(u16, Origin)>) {
    let all = &net.ip.control.nexthops;
    remove_alone(net, one, told);
    for group in all.groups_of(one.id) {
        leave_group(net, &group, one.id, told);
    }
}

fn remove_alone(net: &Arc<NetState>, one: &NextHop, told: Option<(u16, Origin)>) {
    let all = &net.ip.control.nexthops;
    let _ = all.by_id.remove(one.id.into());
    all.unlist_aside(one);
    super::changed(net);
    if let Some((flags, origin)) = &told {
        announce(net, RTM_DELNEXTHOP, one, *flags, origin);
    }
    for entry in all.routes.values(name(one.id)) {
        sync::nexthop_gone(net, &entry);
    }
}

/// A group loses a member; without memory, or without another member, it goes.
fn leave_group(net: &Arc<NetState>, group: &NextHop, id: u32, told: Option<(u16, Origin)>) {
    let all = &net.ip.control.nexthops;
    let mut members = Vec::new();
    if members.try_reserve_exact(group.members().len()).is_ok() {
        members.extend(group.members().iter().filter(|member| member.id != id));
    }
    let is_empty = members.is_empty();
    let Some(rest) =
        try_arc(NextHop { what: What::Group(members), ..shell(group) }).ok().filter(|_| !is_empty)
    else {
        return remove_alone(net, group, told);
    };
    all.unlist_aside(group);
    if all.list(&rest).is_err() {
        return remove_alone(net, &rest, told);
    }
    if let Some((flags, origin)) = &told {
        announce(net, RTM_NEWNEXTHOP, &rest, *flags, origin);
    }
    for entry in all.routes.values(name(rest.id)) {
        sync::renew_ways(net, &entry, &rest, false);
    }
}

/// The same without what it is.
fn shell(one: &NextHop) -> NextHop {
    NextHop { id: one.id, family: one.family, protocol: one.protocol, what: What::Blackhole }
}

/// A device is down or gone: so are the next hops through it (`nexthop_flush_dev`).
pub(crate) fn device_down(net: &Arc<NetState>, device: &NetDevice) {
    let through = net.ip.control.nexthops.by_device.values(name(device.index() as u32));
    through.for_each(|one| remove(net, &one, None));
}
