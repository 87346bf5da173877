//! Which device is on top of which: VLANs and macvlans on a lower device, ports below a master.
//!
//! Key types: [`Adjacency`] (of one device), [`Role`]. Both sides know each other: a device that goes is unlinked from all, so
//! that nothing keeps another alive. The graph has no cycle and at most [`MOST_LEVELS`] levels, which bounds how
//! deep a packet's way through it goes on the stack.
//!
//! Changes need [`Rtnl`] of the upper device's namespace. The graph crosses namespaces, so its shape is checked and changed under
//! one lock of its own.
//! Locks: `SHAPE` (sleeping, below rtnl), then a device's lists (spin, leaf).

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::Outcome;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;
use machine::sync::{Mutex, SpinLock};

use super::{NetDevice, Rtnl};

/// How many levels there may be (`MAX_NEST_DEV`).
const MOST_LEVELS: u32 = 8;

/// Covers the shape of the whole graph; holds the number of the last walk through it.
static SHAPE: Mutex<u64> = Mutex::new(0);

/// What an upper device is to a lower one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// One of those that use it.
    Upper,
    /// The one that it belongs to (IFLA_MASTER).
    Master,
}

struct Neighbour {
    number: u64,
    device: Arc<NetDevice>,
}

impl Item for Neighbour {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.number
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

#[derive(Default)]
struct Lists {
    /// With the master, if there is one.
    uppers: Tree<Neighbour>,
    lowers: Tree<Neighbour>,
    master: Option<Arc<NetDevice>>,
    /// It goes: nothing is linked to it any more.
    is_closing: bool,
    /// The walk that was here last, and how far it is from here to the end in its direction.
    walk: (u64, u32),
}

/// The neighbours of one device.
#[derive(Default)]
pub(crate) struct Adjacency(SpinLock<Lists>);

/// A direction in the graph.
#[derive(Clone, Copy)]
enum Towards {
    Uppers,
    Lowers,
}

impl Adjacency {
    fn next(&self, towards: Towards, from: u64) -> Option<Arc<NetDevice>> {
        let lists = self.0.lock();
        let tree = match towards {
            Towards::Uppers => &lists.uppers,
            Towards::Lowers => &lists.lowers,
        };
        tree.first_from(&from).map(|found| found.device.clone())
    }

    /// The first upper device with a number from `from` on.
    pub(crate) fn next_upper(&self, from: u64) -> Option<Arc<NetDevice>> {
        self.next(Towards::Uppers, from)
    }

    /// The first lower device with a number from `from` on.
    pub(crate) fn next_lower(&self, from: u64) -> Option<Arc<NetDevice>> {
        self.next(Towards::Lowers, from)
    }

    /// The device it belongs to.
    pub(crate) fn master(&self) -> Option<Arc<NetDevice>> {
        self.0.lock().master.clone()
    }

    /// Nothing is linked to it from now on.
    pub(crate) fn close(&self) {
        self.0.lock().is_closing = true;
    }

    /// The first upper device that cannot be without it.
    pub(crate) fn next_dependent(&self) -> Option<Arc<NetDevice>> {
        let lists = self.0.lock();
        let master = lists.master.as_ref().map(|master| master.number());
        let first = lists.uppers.first()?;
        if Some(first.number) != master {
            return Some(first.device.clone());
        }
        lists.uppers.first_from(&(first.number + 1)).map(|found| found.device.clone())
    }
}

/// Calls `visit` with each neighbour in a direction.
fn each(device: &NetDevice, towards: Towards, mut visit: impl FnMut(&Arc<NetDevice>)) {
    let mut from = 0;
    while let Some(found) = device.adjacency.next(towards, from) {
        visit(&found);
        from = found.number() + 1;
    }
}

/// Calls `visit` with each device on top of one.
pub(crate) fn each_upper(device: &NetDevice, visit: impl FnMut(&Arc<NetDevice>)) {
    each(device, Towards::Uppers, visit);
}

/// How many levels there are from a device to the end, itself counted. `None` if `target` is on the way. Each device is
/// visited once; as deep as there are levels.
fn levels(device: &NetDevice, towards: Towards, walk: u64, target: &NetDevice) -> Option<u32> {
    if core::ptr::eq(device, target) {
        return None;
    }
    let known = device.adjacency.0.lock().walk;
    if known.0 == walk {
        return Some(known.1);
    }
    let mut most = Some(0);
    each(device, towards, |next| {
        most = most.and_then(|most| Some(most.max(levels(next, towards, walk, target)?)));
    });
    let own = most? + 1;
    device.adjacency.0.lock().walk = (walk, own);
    Some(own)
}

fn node(device: &Arc<NetDevice>) -> Result<Box<Node<Neighbour>>> {
    try_box(Node::new(Neighbour { number: device.number(), device: device.clone() }))
        .map_err(|_| Errno::ENOMEM)
}

/// Puts one device on top of another.
///
/// # Errors
/// `EBUSY`: they are the same, or it would close a circle, or the lower has another master; `EEXIST`: it is there already;
/// `EMLINK`: too many levels; `ENODEV`: one of them goes; `ENOMEM`.
pub(crate) fn link(
    rtnl: &Rtnl<'_>,
    upper: &Arc<NetDevice>,
    lower: &Arc<NetDevice>,
    role: Role,
) -> Outcome<()> {
    rtnl.assert_covers(upper);
    let (above, below) = (node(upper)?, node(lower)?);
    let mut walk = SHAPE.lock();
    *walk += 1;
    let down = levels(lower, Towards::Lowers, *walk, upper).ok_or(Errno::EBUSY)?;
    *walk += 1;
    let up = levels(upper, Towards::Uppers, *walk, lower).ok_or(Errno::EBUSY)?;
    if up + down > MOST_LEVELS {
        return Err(Errno::EMLINK.into());
    }
    let mut lists = lower.adjacency.0.lock();
    if lists.is_closing {
        return Err(Errno::ENODEV.into());
    }
    match (role, &lists.master) {
        (Role::Master, Some(master)) if Arc::ptr_eq(master, upper) => return Err(Errno::EEXIST.into()),
        (Role::Master, Some(_)) => return Err(Errno::EBUSY.into()),
        _ if lists.uppers.get(&upper.number()).is_some() => return Err(Errno::EEXIST.into()),
        _ => {}
    }
    lists.uppers.insert(above);
    if role == Role::Master {
        lists.master = Some(upper.clone());
    }
    drop(lists);
    upper.adjacency.0.lock().lowers.insert(below);
    Ok(())
}

/// Takes one device off another.
pub(crate) fn unlink(upper: &Arc<NetDevice>, lower: &Arc<NetDevice>) {
    let _shape = SHAPE.lock();
    let (above, master) = {
        let mut lists = lower.adjacency.0.lock();
        let is_master = lists.master.as_ref().is_some_and(|master| Arc::ptr_eq(master, upper));
        let master = if is_master { lists.master.take() } else { None };
        (lists.uppers.remove(&upper.number()), master)
    };
    let below = upper.adjacency.0.lock().lowers.remove(&lower.number());
    drop((above, master, below));
}
