//! Who gets a packet: the sockets of one protocol in one namespace by port and addresses.
//!
//! Key types: [`Table`], [`Place`] (where a socket is to be found), [`Wanted`] (what a packet says). A look-up asks for exact places, the
//! most specific first: own address before all addresses, connected before not, bound to the interface before not. So it is a
//! few searches of O(log sockets), whoever has opened how many. Sockets that share a place by SO_REUSEPORT are one entry, of which
//! a hash picks one; of those that share it otherwise the latest gets what is for one.
//! Locks: one reader-writer spinlock, a leaf; a group's list, a leaf under it.

use core::net::IpAddr;

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{RwSpinLock, SpinLock};

use super::address::code;
use super::ports::Local;
use super::socket::InetSocket;

/// Where a socket is to be found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Its port (of a ping socket: its identifier; of a raw socket: its protocol).
    pub port: u16,
    /// Its address.
    pub local: Local,
    /// The interface it is bound to; 0 for all.
    pub device: i32,
    /// Whom it is connected to: address and port.
    pub remote: Option<(u128, u16)>,
}

/// What a packet says about whom it is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Destination.
    pub local: IpAddr,
    /// Its port.
    pub port: u16,
    /// Source.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: u16,
    /// The interface it came through.
    pub device: i32,
}

impl Wanted {
    /// The addresses that sockets for it may have, most specific first.
    fn locals(&self) -> [Local; 3] {
        let own = if self.local.is_ipv4() { Local::AnyV4 } else { Local::AnyV6 };
        [Local::One(code(self.local)), own, Local::Any]
    }
}

/// Sockets that share a place by SO_REUSEPORT and belong to one user.
pub struct Group {
    user: u32,
    members: SpinLock<Vec<Arc<InetSocket>>>,
}

enum Target {
    One(Arc<InetSocket>),
    Group(Arc<Group>),
}

/// Place, and what orders those at one place: groups by their user, then the others, the latest first.
type Key = (Place, u64);

fn key_of(place: Place, socket: &InetSocket) -> Key {
    (place, u64::MAX - socket.number())
}

fn key_of_group(place: Place, user: u32) -> Key {
    (place, u64::from(user))
}

struct Entry {
    key: Key,
    target: Target,
}

impl Item for Entry {
    type Key = Key;
    type Summary = ();
    fn key(&self) -> Key {
        self.key
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// See the module.
#[derive(Default)]
pub struct Table {
    tree: RwSpinLock<Tree<Entry>>,
    /// How many are connected, how many bound to an interface: look-ups leave out what nobody is.
    connected: AtomicUsize,
    bound: AtomicUsize,
    /// Sockets of AF_INET and of AF_INET6.
    counts: [AtomicUsize; 2],
}

impl Table {
    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.count(false) + self.count(true)
    }

    /// How many there are of one family.
    pub fn count(&self, is_v6: bool) -> usize {
        self.counts[usize::from(is_v6)].load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note(&self, place: &Place, socket: &InetSocket, step: usize) {
        self.counts[usize::from(socket.is_v6())].fetch_add(step, Ordering::AcqRel);
        if place.remote.is_some() {
            self.connected.fetch_add(step, Ordering::AcqRel);
        }
        if place.device != 0 {
            self.bound.fetch_add(step, Ordering::AcqRel);
        }
    }

    /// Adds a socket at a place, with others that reuse the port if it does too. `ENOMEM`.
    pub fn add(&self, place: Place, socket: &Arc<InetSocket>, reuses_port: bool) -> Result<()> {
        if !reuses_port {
            let entry = Entry { key: key_of(place, socket), target: Target::One(socket.clone()) };
            let node = try_box(Node::new(entry)).map_err(|_| Errno::ENOMEM)?;
            self.tree.write().insert(node);
            self.note(&place, socket, 1);
            return Ok(());
        }
        let user = socket.core().owner().0;
        let key = key_of_group(place, user);
        let group = try_arc(Group { user, members: SpinLock::new(Vec::new()) })?;
        let entry = Entry { key, target: Target::Group(group.clone()) };
        let node = try_box(Node::new(entry)).map_err(|_| Errno::ENOMEM)?;
        let mut tree = self.tree.write();
        let joined = match tree.get(&key).map(|found| &found.target) {
            Some(Target::Group(found)) => found.clone(),
            _ => {
                tree.insert(node);
                group
            }
        };
        let done = joined.join(socket);
        if done.is_err() && joined.members.lock().is_empty() {
            let gone = tree.remove(&key);
            drop(tree);
            drop(gone);
            return done;
        }
        drop(tree);
        if done.is_ok() {
            socket.set_group(Some(joined));
            self.note(&place, socket, 1);
        }
        done
    }

    /// Takes a socket out of a place where it is.
    pub fn remove(&self, place: Place, socket: &Arc<InetSocket>) {
        let mut tree = self.tree.write();
        let gone = match socket.set_group(None) {
            None => tree.remove(&key_of(place, socket)),
            Some(group) if group.leave(socket) => tree.remove(&key_of_group(place, group.user)),
            Some(_) => None,
        };
        drop(tree);
        drop(gone);
        self.note(&place, socket, usize::MAX);
    }

    /// The socket for a packet to one host.
    pub fn find(&self, wanted: &Wanted, hash: impl Fn() -> u32) -> Option<Arc<InetSocket>> {
        self.find_map(wanted, |target| match target {
            Target::One(socket) => Some(socket.clone()),
            Target::Group(group) => group.pick(hash()),
        })
    }

    /// The latest of the sockets that a packet to one host may be for, whatever they are bound to (`ping_lookup`).
    pub fn find_latest(&self, wanted: &Wanted) -> Option<Arc<InetSocket>> {
        let mut latest: Option<Arc<InetSocket>> = None;
        self.find_map(wanted, |target| {
            let Target::One(socket) = target else { return None };
            if latest.as_ref().is_none_or(|latest| latest.number() < socket.number()) {
                latest = Some(socket.clone());
            }
            None::<()>
        });
        latest
    }

    /// Offers what is first at each of the places that a packet may be for, the most specific first, until `take` takes one.
    fn find_map<R>(&self, wanted: &Wanted, mut take: impl FnMut(&Target) -> Option<R>) -> Option<R> {
        if self.is_empty() {
            return None;
        }
        let remote = Some((code(wanted.remote), wanted.remote_port));
        let has_connected = self.connected.load(Ordering::Acquire) > 0;
        let has_bound = self.bound.load(Ordering::Acquire) > 0;
        let tree = self.tree.read();
        for local in wanted.locals() {
            for remote in [remote, None].into_iter().filter(|remote| has_connected || remote.is_none()) {
                for device in [wanted.device, 0].into_iter().filter(|device| has_bound || *device == 0) {
                    let place = Place { port: wanted.port, local, device, remote };
                    let found = tree.first_from(&(place, 0)).filter(|found| found.key.0 == place);
                    if let Some(taken) = found.and_then(|found| take(&found.target)) {
                        return Some(taken);
                    }
                }
            }
        }
        None
    }

    /// Calls with every socket that a packet to many may be for: of those at its address and at all addresses, each that is not
    /// connected to another or bound to another interface.
    pub fn each(&self, wanted: &Wanted, mut visit: impl FnMut(&Arc<InetSocket>)) {
        let remote = (code(wanted.remote), wanted.remote_port);
        for local in wanted.locals() {
            let least = Place { port: wanted.port, local, device: i32::MIN, remote: None };
            let mut from = (least, 0);
            while let Some((key, sockets)) = self.next_at(&from).filter(|(key, _)| same_local(&key.0, &least))
            {
                let fits_device = key.0.device == 0 || key.0.device == wanted.device;
                let fits_remote = key.0.remote.is_none_or(|other| other == remote);
                if fits_device && fits_remote {
                    sockets.iter().for_each(&mut visit);
                }
                from = (key.0, key.1 + 1);
            }
        }
    }

    /// Calls with every socket of a port, wherever it is bound.
    pub fn each_at_port(&self, port: u16, visit: &mut dyn FnMut(&Arc<InetSocket>)) {
        if self.is_empty() {
            return;
        }
        let least = Place { port, local: Local::AnyV4, device: i32::MIN, remote: None };
        let mut from = (least, 0);
        while let Some((key, sockets)) = self.next_at(&from).filter(|(key, _)| key.0.port == port) {
            sockets.iter().for_each(&mut *visit);
            from = (key.0, key.1 + 1);
        }
    }

    fn next_at(&self, from: &Key) -> Option<(Key, arrayvec::ArrayVec<Arc<InetSocket>, GROUP_TOLD>)> {
        let tree = self.tree.read();
        let found = tree.first_from(from)?;
        let sockets = match &found.target {
            Target::One(socket) => core::iter::once(socket.clone()).collect(),
            Target::Group(group) => group.members.lock().iter().take(GROUP_TOLD).cloned().collect(),
        };
        Some((found.key, sockets))
    }
}

/// How many members of a group a packet to many goes to.
const GROUP_TOLD: usize = 64;

fn same_local(one: &Place, other: &Place) -> bool {
    one.port == other.port && one.local == other.local
}

impl Group {
    fn join(&self, socket: &Arc<InetSocket>) -> Result<()> {
        let mut members = self.members.lock();
        members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        socket.set_group_index(members.len());
        members.push(socket.clone());
        Ok(())
    }

    /// Takes a member out; whether none is left.
    fn leave(&self, socket: &Arc<InetSocket>) -> bool {
        let mut members = self.members.lock();
        let index = socket.group_index();
        let gone = members
            .get(index)
            .is_some_and(|found| Arc::ptr_eq(found, socket))
            .then(|| members.swap_remove(index));
        if let Some(moved) = members.get(index) {
            moved.set_group_index(index);
        }
        let is_empty = members.is_empty();
        drop(members);
        drop(gone);
        is_empty
    }

    fn pick(&self, hash: u32) -> Option<Arc<InetSocket>> {
        let members = self.members.lock();
        let index = ((u64::from(hash) * members.len() as u64) >> 32) as usize;
        members.get(index).cloned()
    }
}
