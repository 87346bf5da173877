//! NETLINK_ROUTE: one table of handlers by message type; each kind of object has its file (rtnetlink(7)).
//!
//! Key types: [`Handler`]. Each file adds its own to [`HANDLERS`]. A handler that changes things
//! takes [`crate::device::Rtnl`] itself, for the namespaces it concerns. Locks: none of its own.

pub mod address;
pub mod bridge;
mod bridge_vlan;
pub mod fib;
mod fib_get;
pub mod link;
pub mod maddress;
pub mod neighbour;
mod neighbour_table;
pub mod netconf;
pub mod nexthop;
pub mod nsid;
pub mod rule;
pub mod stats;

use abi::errno::{Errno, Result};
use abi::netlink as linux;
use abi::rtnetlink::{self, RTM_BASE};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Failure, Outcome};
use security::Capability;

use super::request::{Dumper, Handled, Reply, Request, begin_dump, fits};
use super::{Announcement, Origin};
use crate::device::NetDevice;
use crate::message::caller;
use crate::namespace::{NetNamespace, NetState};

/// How many multicast groups there are (`RTNLGRP_MAX`).
pub const GROUPS: u32 = 38;
/// The last message type that Linux knows.
const LAST: u16 = rtnetlink::RTM_GETTUNNEL + 4;

/// Does what a request asks for.
type Do = fn(&Request<'_>) -> Outcome<()>;
/// Begins a dump.
type Dump = fn(&Request<'_>) -> Outcome<Box<dyn Dumper>>;

/// Who handles a type of message, for a protocol family (`AF_UNSPEC`: for those that have none of their own).
#[derive(Clone, Copy)]
pub struct Handler {
    /// RTM_*.
    pub message: u16,
    /// AF_*.
    pub family: u8,
    /// For one object.
    pub act: Option<Do>,
    /// For all.
    pub dump: Option<Dump>,
}

/// All of them.
const HANDLERS: &[&[Handler]] = &[
    link::HANDLERS,
    bridge::HANDLERS,
    bridge_vlan::HANDLERS,
    nsid::HANDLERS,
    stats::HANDLERS,
    address::HANDLERS,
    fib::HANDLERS,
    rule::HANDLERS,
    netconf::HANDLERS,
    maddress::HANDLERS,
    neighbour::HANDLERS,
    neighbour_table::HANDLERS,
    nexthop::HANDLERS,
];

fn find<T>(message: u16, family: u8, want: impl Fn(&Handler) -> Option<T>) -> Option<T> {
    let of = |family| {
        let all = HANDLERS.iter().copied().flatten();
        all.filter(|handler| handler.message == message && handler.family == family).find_map(&want)
    };
    of(family).or_else(|| of(0))
}

/// One message. `EOPNOTSUPP`: nobody handles it; `EPERM`: it changes something and the sender may not.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let kind = request.message.header.nlmsg_type;
    if kind > LAST {
        return Err(Errno::EOPNOTSUPP.into());
    }
    // Shorter than a family: nothing to do, which Linux calls a success.
    let Some(family) = request.message.payload.first().copied() else { return Ok(Handled::Done) };
    // New, delete, get, set: in fours.
    let verb = (kind - RTM_BASE) % 4;
    let (deletes, gets) = (verb == 1, verb == 2);
    if !gets && !request.may(Capability::NetAdmin) {
        return Err(Errno::EPERM.into());
    }
    if gets && request.message.header.nlmsg_flags & linux::NLM_F_DUMP != 0 {
        let dump = find(kind, family, |handler| handler.dump).ok_or(Errno::EOPNOTSUPP)?;
        return begin_dump(request, || dump(request));
    }
    let act = find(kind, family, |handler| handler.act).ok_or(Errno::EOPNOTSUPP)?;
    if deletes && request.has_flag(linux::NLM_F_BULK) {
        return Err(Failure::new(Errno::EOPNOTSUPP, "Bulk delete is not supported"));
    }
    act(request).map(|()| Handled::Done)
}

/// The namespace of one of the caller's descriptors. `EBADF`, `EINVAL`.
pub(crate) fn namespace_by_descriptor(descriptor: i32) -> Result<Arc<NetNamespace>> {
    caller().ok_or(Errno::EBADF)?.namespace_of_descriptor(descriptor)
}

/// The namespace of a process. `ESRCH`.
pub(crate) fn namespace_by_process(process: i32) -> Result<Arc<NetNamespace>> {
    caller().ok_or(Errno::ESRCH)?.namespace_of_process(process)
}

/// The namespace with an id of the asker's, which it may administrate. `EINVAL`: there is none; `EACCES`: it may not.
fn namespace_by_id(request: &Request<'_>, id: i32) -> Result<Arc<NetNamespace>> {
    let found = request.namespace().ids.peer(id).and_then(|state| state.live()).ok_or(Errno::EINVAL)?;
    if request.is_capable(found.owner(), Capability::NetAdmin) { Ok(found) } else { Err(Errno::EACCES) }
}

/// Writes what there is to tell of each device from the index `next` on, which moves; whether there was room for all.
fn fill_devices(
    namespace: &NetState,
    next: &mut i32,
    out: &mut Builder,
    mut write: impl FnMut(&Arc<NetDevice>, &mut Builder) -> Result<()>,
) -> Result<bool> {
    while let Some(device) = namespace.devices.next_from(*next) {
        if !fits(out, |out| write(&device, out))? {
            return Ok(false);
        }
        match device.index().checked_add(1) {
            Some(after) => *next = after,
            None => break,
        }
    }
    Ok(true)
}

/// Tells a group of something that `describe` writes into at most `room` bytes, if anyone listens. Who cannot be told for want of
/// memory is told that (`ENOBUFS`).
pub(crate) fn tell(
    net: &NetState,
    group: u32,
    room: usize,
    origin: &Origin,
    describe: impl FnOnce(&mut Builder, &Reply) -> Result<()>,
) {
    let protocol = linux::NETLINK_ROUTE as u8;
    if !origin.echo && !net.netlink.has_listeners(protocol, group) {
        return;
    }
    let mut out = Builder::new(room);
    let reply = Reply { sequence: origin.sequence, port: origin.port, flags: 0 };
    if describe(&mut out, &reply).is_err() {
        out = Builder::new(0);
    }
    Announcement { protocol, group, bytes: out.finish(), origin: *origin }.send(net);
}
