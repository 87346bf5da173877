//! Who has which port and listens to which group, in one namespace; and telling the listeners.
//!
//! Key types: [`NetlinkTable`] (of one namespace), [`Announcement`] (a message to a group). Members of a group are found by key
//! (protocol, group, socket), so that telling them goes member by member, each look-up O(log members), with the lock held
//! for the look-up only. Sockets that listen to all namespaces are in one more table of the whole machine.
//! Locks: each table one spinlock; a socket's own list of groups is taken before them.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::{try_arc, try_box};
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};
use security::Capability;

use super::Origin;
use super::socket::{Datagram, NetlinkSocket, Toggle};
use crate::namespace::NetState;

/// A port: protocol and number.
type Port = (u8, u32);
/// A membership: protocol, group, number of the socket.
type Member = (u8, u32, u64);

struct ByPort {
    port: Port,
    socket: Arc<NetlinkSocket>,
}

impl Item for ByPort {
    type Key = Port;
    type Summary = ();
    fn key(&self) -> Port {
        self.port
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

struct Membership {
    member: Member,
    socket: Arc<NetlinkSocket>,
}

impl Item for Membership {
    type Key = Member;
    type Summary = ();
    fn key(&self) -> Member {
        self.member
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The groups of one table.
pub(crate) struct Groups {
    members: SpinLock<Tree<Membership>>,
    /// How many there are: for the many tables without any, asking is one look.
    count: AtomicUsize,
}

impl Groups {
    const fn new() -> Groups {
        Groups { members: SpinLock::new(Tree::new()), count: AtomicUsize::new(0) }
    }

    /// Adds a membership unless it is there. `ENOMEM`.
    fn add(&self, member: Member, socket: &Arc<NetlinkSocket>) -> Result<()> {
        let node =
            try_box(Node::new(Membership { member, socket: socket.clone() })).map_err(|_| Errno::ENOMEM)?;
        let mut members = self.members.lock();
        if members.get(&member).is_none() {
            members.insert(node);
            self.count.store(members.len(), Ordering::Release);
        }
        Ok(())
    }

    fn remove(&self, member: Member) {
        let mut members = self.members.lock();
        let taken = members.remove(&member);
        self.count.store(members.len(), Ordering::Release);
        drop(members);
        drop(taken);
    }

    fn next_from(&self, from: Member) -> Option<Arc<NetlinkSocket>> {
        let members = self.members.lock();
        let found = members.first_from(&from)?;
        ((found.member.0, found.member.1) == (from.0, from.1)).then(|| found.socket.clone())
    }

    /// Calls `tell` with each member of a group.
    fn each(&self, protocol: u8, group: u32, mut tell: impl FnMut(&Arc<NetlinkSocket>)) {
        let mut from = (protocol, group, 0);
        while let Some(socket) = self.next_from(from) {
            tell(&socket);
            from.2 = socket.number() + 1;
        }
    }

    fn has_any(&self, protocol: u8, group: u32) -> bool {
        self.count.load(Ordering::Acquire) != 0 && self.next_from((protocol, group, 0)).is_some()
    }
}

/// Those who listen to all namespaces.
static EVERYWHERE: Groups = Groups::new();

/// See the module.
pub struct NetlinkTable {
    ports: SpinLock<Tree<ByPort>>,
    groups: Groups,
}

impl NetlinkTable {
    pub(crate) const fn new() -> NetlinkTable {
        NetlinkTable { ports: SpinLock::new(Tree::new()), groups: Groups::new() }
    }

    /// The socket at a port.
    pub fn at_port(&self, protocol: u8, port: u32) -> Option<Arc<NetlinkSocket>> {
        self.ports.lock().get(&(protocol, port)).map(|found| found.socket.clone())
    }

    /// The first socket from a port on: for `/proc/net/netlink`.
    pub fn next_from(&self, protocol: u8, port: u32) -> Option<Arc<NetlinkSocket>> {
        self.ports.lock().first_from(&(protocol, port)).map(|found| found.socket.clone())
    }

    /// Gives a socket a port. `EADDRINUSE`: it is taken; `ENOMEM`.
    pub(super) fn bind(&self, port: u32, socket: &Arc<NetlinkSocket>) -> Result<()> {
        let port = (socket.protocol().number, port);
        let node = try_box(Node::new(ByPort { port, socket: socket.clone() })).map_err(|_| Errno::ENOMEM)?;
        let mut ports = self.ports.lock();
        if ports.get(&port).is_some() {
            return Err(Errno::EADDRINUSE);
        }
        ports.insert(node);
        Ok(())
    }

    /// Takes a port back.
    pub(super) fn unbind(&self, protocol: u8, port: u32) {
        let taken = self.ports.lock().remove(&(protocol, port));
        drop(taken);
    }

    /// Makes a socket a member of a group; `everywhere`: of the group of every namespace too. `ENOMEM`.
    pub(super) fn join(&self, socket: &Arc<NetlinkSocket>, group: u32, everywhere: bool) -> Result<()> {
        let member = (socket.protocol().number, group, socket.number());
        self.groups.add(member, socket)?;
        if everywhere { EVERYWHERE.add(member, socket) } else { Ok(()) }
    }

    /// Ends a membership; `only_everywhere`: that of the other namespaces' groups.
    pub(super) fn leave(&self, socket: &NetlinkSocket, group: u32, only_everywhere: bool) {
        let member = (socket.protocol().number, group, socket.number());
        EVERYWHERE.remove(member);
        if !only_everywhere {
            self.groups.remove(member);
        }
    }

    /// Calls `tell` with each member of a group here.
    pub(super) fn each_member(&self, protocol: u8, group: u32, tell: impl FnMut(&Arc<NetlinkSocket>)) {
        self.groups.each(protocol, group, tell);
    }

    /// Whether anyone hears what is said to a group here.
    pub fn has_listeners(&self, protocol: u8, group: u32) -> bool {
        self.groups.has_any(protocol, group) || EVERYWHERE.has_any(protocol, group)
    }
}

/// A message to a group of a namespace.
pub struct Announcement {
    /// NETLINK_*.
    pub protocol: u8,
    /// The group's number.
    pub group: u32,
    /// The message.
    pub bytes: Vec<u8>,
    /// The request it comes from: with `echo` its asker gets a copy of its own.
    pub origin: Origin,
}

impl Announcement {
    /// Tells the listeners in `namespace`, and those in others who listen to all and know it by an id. Those who have no room,
    /// or if there is no memory, lose it and are told so (`ENOBUFS`). Thread context; no spin lock held.
    pub fn send(self, namespace: &NetState) {
        let excluded = if self.origin.echo { self.origin.port } else { 0 };
        let protocol = self.protocol;
        let Ok(bytes) = try_arc(self.bytes) else {
            namespace.netlink.groups.each(protocol, self.group, |socket| socket.overrun());
            return;
        };
        let whole = |group, nsid| Datagram::from_kernel(bytes.clone(), group, nsid);
        namespace.netlink.groups.each(protocol, self.group, |socket| {
            // Who has no port hears nothing of what the kernel says by itself, as on Linux.
            if socket.port() != excluded {
                socket.deliver_or_overrun(whole(self.group, None));
            }
        });
        EVERYWHERE.each(protocol, self.group, |socket| {
            let home = socket.namespace().state();
            let is_here = core::ptr::eq(&**home, namespace);
            if is_here || socket.port() == excluded || !socket.has(Toggle::ListenAllNsid) {
                return;
            }
            let Some(id) = home.ids.id_of(namespace) else { return };
            if socket.opener().credentials.capable(namespace.owner(), Capability::NetBroadcast) {
                socket.deliver_or_overrun(whole(self.group, Some(id)));
            }
        });
        if self.origin.echo
            && let Some(asker) = namespace.netlink.at_port(protocol, self.origin.port)
        {
            asker.deliver_or_overrun(whole(0, None));
        }
    }
}
