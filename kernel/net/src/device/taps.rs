//! Who listens to the packets of a device, or of all devices of a namespace (packet(7)).
//!
//! Key types: [`Tap`], [`Taps`]. Listeners are kept by protocol: those of `ETH_P_ALL` see every packet in both directions, the others
//! what comes in with their protocol. Adding and removing is O(log listeners) and removing needs no memory.
//! Locks: one reader-writer spinlock for each list, a leaf; no lock is held while a listener looks at a packet.

use abi::errno::{Errno, Result};
use abi::packet::ETH_P_ALL;
use alloc::sync::Arc;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;
use machine::sync::RwSpinLock;
use machine::sync::atomic::{AtomicUsize, Ordering};

use super::{DeviceEvent, NetDevice};
use crate::packet::Packet;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It came in; its bytes begin with the network header, its link header is marked.
    In,
    /// It goes out; its bytes begin with the link header.
    Out,
}

/// Listens to a device or a namespace.
pub trait Tap: Send + Sync {
    /// A number that no other has.
    fn number(&self) -> u64;
    /// A packet passed. Preemption is off.
    fn take(&self, device: &Arc<NetDevice>, packet: &Packet, direction: Direction);
    /// Something happened to the device it listens to. Under rtnl; may sleep.
    fn notify(&self, device: &Arc<NetDevice>, event: DeviceEvent);
}

/// Protocol and number.
type Key = (u16, u64);

struct Entry {
    key: Key,
    tap: Arc<dyn Tap>,
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

/// The listeners of one device or namespace.
pub struct Taps {
    tree: RwSpinLock<Tree<Entry>>,
    count: AtomicUsize,
}

impl Default for Taps {
    fn default() -> Self {
        Taps { tree: RwSpinLock::new(Tree::new()), count: AtomicUsize::new(0) }
    }
}

/// How many listen to whole namespaces, so that packets need not ask theirs where nobody does.
static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

impl Taps {
    /// Adds one for a protocol (host order). `EEXIST`: it is there; `ENOMEM`.
    pub fn add(&self, protocol: u16, tap: Arc<dyn Tap>) -> Result<()> {
        let key = (protocol, tap.number());
        let node = try_box(Node::new(Entry { key, tap })).map_err(|_| Errno::ENOMEM)?;
        let mut tree = self.tree.write();
        if tree.get(&key).is_some() {
            return Err(Errno::EEXIST);
        }
        tree.insert(node);
        self.count.store(tree.len(), Ordering::Release);
        Ok(())
    }

    /// Takes one off; whether it was there.
    pub fn remove(&self, protocol: u16, number: u64) -> bool {
        let mut tree = self.tree.write();
        let taken = tree.remove(&(protocol, number));
        self.count.store(tree.len(), Ordering::Release);
        drop(tree);
        taken.is_some()
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn next_from(&self, from: &Key) -> Option<(Key, Arc<dyn Tap>)> {
        let tree = self.tree.read();
        tree.first_from(from).map(|found| (found.key, found.tap.clone()))
    }

    /// Calls with those of one protocol; how many there were.
    fn each_of(&self, protocol: u16, mut visit: impl FnMut(&dyn Tap)) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut from = (protocol, 0);
        let mut count = 0;
        while let Some((key, tap)) = self.next_from(&from).filter(|(key, _)| key.0 == protocol) {
            visit(&*tap);
            count += 1;
            from.1 = key.1 + 1;
        }
        count
    }

    /// Calls with all.
    fn each(&self, mut visit: impl FnMut(&dyn Tap)) {
        let mut from = (0, 0);
        while !self.is_empty()
            && let Some((key, tap)) = self.next_from(&from)
        {
            visit(&*tap);
            from = (key.0, key.1 + 1);
        }
    }

    /// Adds one to those of a namespace. As [`Taps::add`].
    pub fn add_everywhere(&self, protocol: u16, tap: Arc<dyn Tap>) -> Result<()> {
        self.add(protocol, tap)?;
        EVERYWHERE.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Takes one off those of a namespace.
    pub fn remove_everywhere(&self, protocol: u16, number: u64) {
        if self.remove(protocol, number) {
            EVERYWHERE.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Hands a packet to the listeners of its protocol (or of `ETH_P_ALL`) on a device and in its namespace; how many there were.
pub(super) fn tell(device: &Arc<NetDevice>, packet: &Packet, protocol: u16, direction: Direction) -> usize {
    let take = |tap: &dyn Tap| tap.take(device, packet, direction);
    let mut count = device.taps().each_of(protocol, take);
    if EVERYWHERE.load(Ordering::Acquire) > 0 {
        count += device.namespace().devices().taps().each_of(protocol, take);
    }
    count
}

/// Hands a packet to those who want all.
pub(super) fn tell_all(device: &Arc<NetDevice>, packet: &Packet, direction: Direction) {
    tell(device, packet, ETH_P_ALL, direction);
}

/// Tells the listeners of a device what happened to it.
pub(super) fn device_event(
    _rtnl: &super::Rtnl<'_>,
    device: &Arc<NetDevice>,
    event: DeviceEvent,
) -> Result<()> {
    device.taps().each(|tap| tap.notify(device, event));
    Ok(())
}
