//! RTM_NEWNSID, RTM_GETNSID: the ids that a namespace knows others by (see [`crate::ids`]).
//!
//! An id is given on request or when a link in another namespace is described; it goes with the namespace it names.
//! Locks: those of [`crate::ids`].

use abi::errno::{Errno, Result};
use abi::netlink::NETLINK_ROUTE;
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use security::Capability;

use super::{Handler, namespace_by_descriptor, namespace_by_process};
use crate::ids::{self, Wanted};
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::request::{Dumper, Reply, Request, boxed, fits};
use crate::netlink::{Announcement, Origin};

/// What these messages begin with (`struct rtgenmsg`), padded.
const HEADER: usize = 1;
/// The id of who has none (`NETNSA_NSID_NOT_ASSIGNED`).
const NOT_ASSIGNED: i32 = -1;
/// Room for one answer.
const ANSWER: usize = 256;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWNSID, family: 0, act: Some(new), dump: None },
    Handler { message: RTM_GETNSID, family: 0, act: Some(get), dump: Some(dump) },
];

static POLICIES: Policies = Policies {
    max: NETNSA_CURRENT_NSID,
    rules: &[
        (NETNSA_NSID, Policy::S32),
        (NETNSA_PID, Policy::U32),
        (NETNSA_FD, Policy::U32),
        (NETNSA_TARGET_NSID, Policy::S32),
    ],
};

type Parsed<'a> = Attributes<'a, { NETNSA_CURRENT_NSID as usize + 1 }>;

fn parse<'a>(request: &Request<'a>, strictness: Strictness) -> Outcome<Parsed<'a>> {
    request.parse(HEADER, &POLICIES, strictness)
}

/// RTM_NEWNSID. Errors: `EINVAL`: no NETNSA_NSID, no peer; `EEXIST`: the peer has an id, the id is taken; `EBADF`, `ESRCH`.
fn new(request: &Request<'_>) -> Outcome<()> {
    let attributes = parse(request, Strictness::Liberal)?;
    let Some(wanted) = attributes.get(NETNSA_NSID) else {
        return Err(Failure::new(Errno::EINVAL, "nsid is missing"));
    };
    let id = wanted.i32();
    let (peer, at) = if let Some(process) = attributes.get(NETNSA_PID) {
        (namespace_by_process(process.i32()), process)
    } else if let Some(descriptor) = attributes.get(NETNSA_FD) {
        (namespace_by_descriptor(descriptor.i32()), descriptor)
    } else {
        return Err(Failure::new(Errno::EINVAL, "Peer netns reference is missing"));
    };
    let peer = peer.map_err(|error| Failure::new(error, "Peer netns reference is invalid").at(at))?;
    let holder = request.namespace().state();
    let wanted_id = if id < 0 { Wanted::Lowest } else { Wanted::Exactly(id) };
    if holder.ids.id_of(peer.state()).is_some() {
        return Err(Failure::new(Errno::EEXIST, "Peer netns already has a nsid assigned").at(at));
    }
    match ids::allocate(holder, peer.state(), wanted_id, request.origin()) {
        Ok(_) => Ok(()),
        Err(Errno::EEXIST) => {
            Err(Failure::new(Errno::EEXIST, "The specified nsid is already used").at(wanted))
        }
        Err(error) => Err(error.into()),
    }
}

/// A message about an id.
struct Description {
    kind: u16,
    id: i32,
    /// What the asker itself calls it, where it asked for another's view.
    current: Option<i32>,
}

fn describe(out: &mut Builder, reply: &Reply, what: &Description) -> Result<()> {
    let mark = out.begin(what.kind, reply.flags, reply.sequence, reply.port)?;
    // struct rtgenmsg: AF_UNSPEC.
    out.fixed(&[0])?;
    out.i32(NETNSA_NSID, what.id)?;
    if let Some(current) = what.current {
        out.i32(NETNSA_CURRENT_NSID, current)?;
    }
    out.end(mark);
    Ok(())
}

/// The namespace whose view is asked for. `EINVAL`: the caller knows no such; `EACCES`: it may not look there.
fn target(request: &Request<'_>, id: i32) -> Result<Arc<NetNamespace>> {
    let found = request.namespace().ids.peer(id).and_then(|state| state.live()).ok_or(Errno::EINVAL)?;
    // The sender's right in the other namespace; that of the socket's maker too.
    if request.is_capable(found.owner(), Capability::NetAdmin) { Ok(found) } else { Err(Errno::EACCES) }
}

/// What strict checking demands of a request for one.
fn check_strictly(attributes: &Parsed<'_>) -> Outcome<()> {
    for attribute in attributes.iter() {
        let known = [NETNSA_PID, NETNSA_FD, NETNSA_NSID, NETNSA_TARGET_NSID].contains(&attribute.kind);
        if !known {
            return Err(Failure::new(Errno::EINVAL, "Unsupported attribute in peer netns getid request"));
        }
    }
    Ok(())
}

/// RTM_GETNSID for one. Errors: `EINVAL`, `ENOENT`: no such id; `EBADF`, `ESRCH`, `EACCES`.
fn get(request: &Request<'_>) -> Outcome<()> {
    let attributes = if request.is_strict() {
        let attributes = parse(request, Strictness::Old)?;
        check_strictly(&attributes)?;
        attributes
    } else {
        parse(request, Strictness::Liberal)?
    };
    let own = request.namespace();
    let (peer, at) = if let Some(process) = attributes.get(NETNSA_PID) {
        (namespace_by_process(process.i32()), process)
    } else if let Some(descriptor) = attributes.get(NETNSA_FD) {
        (namespace_by_descriptor(descriptor.i32()), descriptor)
    } else if let Some(id) = attributes.get(NETNSA_NSID) {
        let found = own.ids.peer(id.i32()).and_then(|state| state.live());
        (found.ok_or(Errno::ENOENT), id)
    } else {
        return Err(Failure::new(Errno::EINVAL, "Peer netns reference is missing"));
    };
    let peer = peer.map_err(|error| Failure::new(error, "Peer netns reference is invalid").at(at))?;
    let (view, current) = match attributes.get(NETNSA_TARGET_NSID) {
        None => (own.clone(), None),
        Some(id) => {
            let failed = |error| Failure::new(error, "Target netns reference is invalid").at(id);
            let view = target(request, id.i32()).map_err(failed)?;
            (view, Some(own.ids.id_of(peer.state()).unwrap_or(NOT_ASSIGNED)))
        }
    };
    let id = view.ids.id_of(peer.state()).unwrap_or(NOT_ASSIGNED);
    let mut out = Builder::new(ANSWER);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe(&mut out, &reply, &Description { kind: RTM_NEWNSID, id, current })?;
    request.answer(out);
    Ok(())
}

/// RTM_GETNSID for all. With strict checking another's view may be asked for.
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let own = request.namespace().clone();
    let mut view = own.clone();
    let mut tells_current = false;
    if request.is_strict() {
        let attributes = parse(request, Strictness::Old)?;
        for attribute in attributes.iter() {
            if attribute.kind != NETNSA_TARGET_NSID {
                let text = "Unsupported attribute in dump request";
                return Err(Failure::new(Errno::EINVAL, text).at(attribute));
            }
            let failed = |error| Failure::new(error, "Invalid target network namespace id").at(attribute);
            view = target(request, attribute.i32()).map_err(failed)?;
            tells_current = true;
        }
    }
    boxed(IdDump { own, view, tells_current, next: 0 })
}

struct IdDump {
    own: Arc<NetNamespace>,
    view: Arc<NetNamespace>,
    tells_current: bool,
    /// The first id that was not told yet.
    next: i32,
}

impl Dumper for IdDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some((id, peer)) = self.view.ids.next_from(self.next) {
            let current = self.tells_current.then(|| self.own.ids.id_of(&peer).unwrap_or(NOT_ASSIGNED));
            let description = Description { kind: RTM_NEWNSID, id, current };
            if !fits(out, |out| describe(out, reply, &description))? {
                return Ok(false);
            }
            match id.checked_add(1) {
                Some(next) => self.next = next,
                None => break,
            }
        }
        Ok(true)
    }
}

/// Whether anyone hears of an id that is given or removed now.
pub(crate) fn is_heard(holder: &NetState, origin: &Origin) -> bool {
    origin.echo || holder.netlink.has_listeners(NETLINK_ROUTE as u8, RTNLGRP_NSID)
}

/// Tells RTNLGRP_NSID of an id that was given or removed.
pub(crate) fn announce(holder: &NetState, given: bool, id: i32, origin: &Origin) {
    if !is_heard(holder, origin) {
        return;
    }
    let kind = if given { RTM_NEWNSID } else { RTM_DELNSID };
    let mut out = Builder::new(ANSWER);
    let reply = Reply { sequence: origin.sequence, port: origin.port, flags: 0 };
    if describe(&mut out, &reply, &Description { kind, id, current: None }).is_ok() {
        let announcement = Announcement {
            protocol: NETLINK_ROUTE as u8,
            group: RTNLGRP_NSID,
            bytes: out.finish(),
            origin: *origin,
        };
        announcement.send(holder);
    }
}
