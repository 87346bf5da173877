//! Peer groups: how mounting and unmounting at one place happens at others too (mount_namespaces(7), "Shared subtrees").
//!
//! Every shared mount is in one peer group; a mount may also receive from a group without giving (a slave), and all members of
//! a group receive from the same one. [`Propagation`] in the mount holds both numbers; the table here finds the members.
//! Key functions: [`receivers`], [`plan_attach`]. Neighbours: `mount_tree` performs what is planned here.
//! Locks: all of it changes with the topology locked; the table's own leaf lock only orders its readers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::errno::{Errno, Result};
use machine::sync::SpinLock;

use crate::dentry::Dentry;
use crate::mount::{Mount, Propagation, TopologyGuard};
use crate::path::Path;

/// The members of a peer group, by the number of the mount.
#[derive(Default)]
struct Group {
    peers: BTreeMap<u64, Weak<Mount>>,
    slaves: BTreeMap<u64, Weak<Mount>>,
}

struct Groups {
    table: BTreeMap<u32, Group>,
    /// Numbers below `next` that no group has.
    free: BTreeSet<u32>,
    next: u32,
}

static GROUPS: SpinLock<Groups> =
    SpinLock::new(Groups { table: BTreeMap::new(), free: BTreeSet::new(), next: 1 });

impl Groups {
    /// The lowest free number.
    fn new_number(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn add_peer(&mut self, group: u32, mount: &Arc<Mount>) {
        self.table.entry(group).or_default().peers.insert(mount.id(), Arc::downgrade(mount));
    }

    fn add_slave(&mut self, group: u32, mount: &Arc<Mount>) {
        self.table.entry(group).or_default().slaves.insert(mount.id(), Arc::downgrade(mount));
    }

    fn remove_slave(&mut self, group: u32, mount: &Mount) {
        if let Some(group) = self.table.get_mut(&group) {
            group.slaves.remove(&mount.id());
        }
    }

    /// Takes a peer out. With the last one the group ends, and its slaves receive from where it received.
    fn remove_peer(&mut self, group: u32, mount: &Mount, master: u32) -> Vec<Arc<Mount>> {
        let Some(record) = self.table.get_mut(&group) else { return Vec::new() };
        record.peers.remove(&mount.id());
        if !record.peers.is_empty() {
            return Vec::new();
        }
        let orphans = self.table.remove(&group).map(|record| record.slaves).unwrap_or_default();
        self.free.insert(group);
        let orphans: Vec<_> = orphans.values().filter_map(Weak::upgrade).collect();
        for orphan in orphans.iter().filter(|_| master != 0) {
            self.add_slave(master, orphan);
        }
        orphans
    }
}

/// Puts a mount into no group at all.
pub(crate) fn make_private(mount: &Mount) {
    leave(mount, Propagation::default());
}

/// Takes a mount out of its groups and gives it `new`, in whose groups it is not entered.
fn leave(mount: &Mount, new: Propagation) {
    let old = mount.propagation();
    if old.peer_group == 0 && old.master_group == 0 {
        mount.set_propagation(new);
        return;
    }
    let mut groups = GROUPS.lock();
    if old.master_group != 0 {
        groups.remove_slave(old.master_group, mount);
    }
    let orphans = if old.peer_group == 0 {
        Vec::new()
    } else {
        groups.remove_peer(old.peer_group, mount, old.master_group)
    };
    drop(groups);
    for orphan in &orphans {
        orphan.set_propagation(Propagation { master_group: old.master_group, ..orphan.propagation() });
    }
    mount.set_propagation(new);
}

/// Puts a mount into the groups that `propagation` names.
fn enter(mount: &Arc<Mount>, propagation: Propagation) {
    let mut groups = GROUPS.lock();
    if propagation.peer_group != 0 {
        groups.add_peer(propagation.peer_group, mount);
    }
    if propagation.master_group != 0 {
        groups.add_slave(propagation.master_group, mount);
    }
    drop(groups);
    mount.set_propagation(propagation);
}

/// `MS_SHARED`: a group of its own, unless it is in one. It goes on receiving.
pub(crate) fn make_shared(mount: &Arc<Mount>) {
    let old = mount.propagation();
    if old.peer_group == 0 {
        let peer_group = GROUPS.lock().new_number();
        enter(mount, Propagation { peer_group, unbindable: false, ..old });
    }
}

/// `MS_SLAVE`: it receives from the peers it leaves. Without peers it goes on receiving from where it did, if anywhere.
pub(crate) fn make_slave(mount: &Arc<Mount>) {
    let old = mount.propagation();
    if old.peer_group == 0 {
        mount.set_propagation(Propagation { unbindable: old.unbindable && old.master_group == 0, ..old });
        return;
    }
    let alone = GROUPS.lock().table.get(&old.peer_group).is_none_or(|group| group.peers.len() <= 1);
    let master_group = if alone { old.master_group } else { old.peer_group };
    leave(mount, Propagation::default());
    enter(mount, Propagation { master_group, ..Propagation::default() });
}

/// `MS_UNBINDABLE`: private, and it cannot be bound.
pub(crate) fn make_unbindable(mount: &Mount) {
    leave(mount, Propagation { unbindable: true, ..Propagation::default() });
}

/// How a copy of a mount hangs together with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// In the same groups.
    Same,
    /// The copy of a shared mount only receives.
    SharedToSlave,
    /// Receives from the original's group.
    Slave,
    /// The same, and has a new group of its own.
    SharedSlave,
}

/// Enters a fresh copy of `original` into its groups.
pub(crate) fn relate(copy: &Arc<Mount>, original: &Mount, relation: Relation) {
    let old = original.propagation();
    let slave = Propagation { master_group: old.peer_group, ..Propagation::default() };
    match relation {
        Relation::SharedToSlave if old.peer_group != 0 => enter(copy, slave),
        Relation::Same | Relation::SharedToSlave => enter(copy, old),
        Relation::Slave => enter(copy, slave),
        Relation::SharedSlave => {
            enter(copy, slave);
            make_shared(copy);
        }
    }
}

fn members(group: u32) -> (Vec<Arc<Mount>>, Vec<Arc<Mount>>) {
    let groups = GROUPS.lock();
    let live = |map: &BTreeMap<u64, Weak<Mount>>| map.values().filter_map(Weak::upgrade).collect();
    groups.table.get(&group).map(|group| (live(&group.peers), live(&group.slaves))).unwrap_or_default()
}

/// Every mount where something happens because it happens at `mount`, itself left out.
pub(crate) fn receivers(mount: &Mount, _topology: &TopologyGuard) -> Vec<Arc<Mount>> {
    let origin = mount.propagation().peer_group;
    let mut found = Vec::new();
    let (mut seen, mut work) = (BTreeSet::from([origin]), Vec::from([origin]));
    while let Some(group) = work.pop().filter(|group| *group != 0) {
        let (peers, slaves) = members(group);
        found.extend(peers.into_iter().filter(|peer| peer.id() != mount.id()));
        for slave in slaves {
            match slave.propagation().peer_group {
                0 => found.push(slave),
                inner if seen.insert(inner) => work.push(inner),
                _ => {}
            }
        }
    }
    found
}

/// A copy of a tree and where it goes.
pub(crate) struct Placement {
    /// The copy, the top first.
    pub tree: Vec<Arc<Mount>>,
    /// Where.
    pub place: Path,
}

/// Copies `tree`, whose mounts are all shared, for every place where `place` propagates to.
/// `ENOMEM`; what was copied is then taken apart.
pub(crate) fn plan_attach(
    tree: &[Arc<Mount>],
    place: &Path,
    topology: &TopologyGuard,
) -> Result<Vec<Placement>> {
    let mut plan = Plan { place, placed: Vec::new(), topology };
    let outcome = plan.run(tree);
    if let Err(error) = outcome {
        plan.placed.iter().for_each(|placement| crate::mount_tree::discard(&placement.tree, topology));
        return Err(error);
    }
    Ok(plan.placed)
}

struct Plan<'a> {
    place: &'a Path,
    placed: Vec<Placement>,
    topology: &'a TopologyGuard,
}

impl Plan<'_> {
    /// Group after group, those that receive from others after them. What a group's slaves copy is the group's own copy.
    fn run(&mut self, tree: &[Arc<Mount>]) -> Result<()> {
        let origin = self.place.mount.propagation().peer_group;
        let mut seen = BTreeSet::from([origin]);
        let mut work = Vec::from([(origin, tree.to_vec(), true)]);
        while let Some((group, source, is_origin)) = work.pop().filter(|(group, ..)| *group != 0) {
            let (mut peers, slaves) = members(group);
            peers.retain(|peer| self.receives(peer));
            let mut model = is_origin.then(|| source.clone());
            for peer in &peers {
                let copy = match &model {
                    Some(model) => self.put(model, Relation::Same, peer)?,
                    None => self.put(&source, Relation::SharedSlave, peer)?,
                };
                model.get_or_insert(copy);
            }
            let model = model.unwrap_or(source);
            for slave in slaves {
                match slave.propagation().peer_group {
                    0 if self.receives(&slave) => {
                        self.put(&model, Relation::Slave, &slave)?;
                    }
                    0 => {}
                    inner if seen.insert(inner) => work.push((inner, model.clone(), false)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether a mount is in a namespace and shows the directory that is mounted on.
    fn receives(&self, mount: &Arc<Mount>) -> bool {
        let dentry: &Arc<Dentry> = &self.place.dentry;
        !Arc::ptr_eq(mount, &self.place.mount)
            && mount.namespace().is_some()
            && dentry.is_below_or_same(mount.root())
    }

    fn put(&mut self, tree: &[Arc<Mount>], relation: Relation, at: &Arc<Mount>) -> Result<Vec<Arc<Mount>>> {
        self.placed.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let copy = crate::mount_tree::copy_attached(tree, relation, self.topology)?;
        let place = Path { mount: at.clone(), dentry: self.place.dentry.clone() };
        self.placed.push(Placement { tree: copy.clone(), place });
        Ok(copy)
    }
}
