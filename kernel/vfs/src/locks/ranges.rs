//! Locks on ranges of bytes by many owners: who is in the way of whom, in O(log n).
//!
//! Key types: [`RangeLocks`], [`RangeLock`], [`Owner`]. An owner's own locks never meet; those of different owners may, if
//! all of them are shared. Two trees hold each lock: one by place, in which every subtree knows how far its locks reach and
//! whose those are ("who else reaches beyond here?" needs the best two owners only), and one by owner, from which an owner's
//! neighbouring locks are cut and joined. A change costs O(log n) and O(log n) for each lock that it swallows.
//!
//! Neighbours: the parent module. Locks: none; the caller's.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use machine::memory::try_box;
use sched::tree::{Item, Node, Tree};

/// Who holds a lock.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    /// A process, by its descriptor table; its number is for `F_GETLK`.
    Process {
        /// [`crate::DescriptorTable::id`].
        table: u64,
        /// The process's number.
        process: i32,
    },
    /// An open file description, by its address.
    Description(usize),
}

impl Owner {
    /// What tells owners apart: processes that share a table are one owner.
    fn key(self) -> OwnerKey {
        match self {
            Owner::Process { table, .. } => (0, table),
            Owner::Description(address) => (1, address as u64),
        }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Owner {}

type OwnerKey = (u8, u64);

/// Whether others may have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

/// A lock on the bytes `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RangeLock {
    pub owner: Owner,
    pub mode: Mode,
    pub start: u64,
    pub end: u64,
}

/// How far the locks of a set reach: the furthest one, whose it is, and the furthest of anyone else.
#[derive(Clone, Copy, Default)]
struct Reach {
    end: u64,
    owner: OwnerKey,
    others_end: u64,
}

impl Reach {
    fn of(lock: &RangeLock) -> Reach {
        Reach { end: lock.end, owner: lock.owner.key(), others_end: 0 }
    }

    fn merge(self, other: Reach) -> Reach {
        let (far, near) = if self.end >= other.end { (self, other) } else { (other, self) };
        Reach { others_end: far.others_end.max(near.end_without(far.owner)), ..far }
    }

    /// The furthest end of anybody but this owner; 0 if there is none.
    fn end_without(self, owner: OwnerKey) -> u64 {
        if self.end != 0 && self.owner == owner { self.others_end } else { self.end }
    }
}

/// A lock in the tree by place.
struct ByPlace(RangeLock);

impl Item for ByPlace {
    type Key = (u64, OwnerKey);
    /// Of all locks, and of the exclusive ones.
    type Summary = (Reach, Reach);

    fn key(&self) -> Self::Key {
        (self.0.start, self.0.owner.key())
    }

    fn summary(&self) -> Self::Summary {
        let reach = Reach::of(&self.0);
        (reach, if self.0.mode == Mode::Exclusive { reach } else { Reach::default() })
    }

    fn merge(left: Self::Summary, right: Self::Summary) -> Self::Summary {
        (left.0.merge(right.0), left.1.merge(right.1))
    }
}

/// A lock in the tree by owner. An owner's locks do not meet, so their ends are in the order of their starts.
struct ByOwner(RangeLock);

impl Item for ByOwner {
    type Key = (OwnerKey, u64);
    type Summary = ();

    fn key(&self) -> Self::Key {
        (self.0.owner.key(), self.0.end)
    }

    fn summary(&self) {}

    fn merge((): (), (): ()) {}
}

/// The memory of one lock.
type Nodes = (Box<Node<ByPlace>>, Box<Node<ByOwner>>);

fn make_nodes(lock: RangeLock) -> Result<Nodes> {
    let by_place = try_box(Node::new(ByPlace(lock))).map_err(|_| Errno::ENOLCK)?;
    let by_owner = try_box(Node::new(ByOwner(lock))).map_err(|_| Errno::ENOLCK)?;
    Ok((by_place, by_owner))
}

/// What a change did to others' chances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Some bytes are locked less than before: someone who waits may go on.
    Freed,
    /// None are.
    Kept,
}

/// The locks of one kind on one file; see the head of this file.
#[derive(Default)]
pub(super) struct RangeLocks {
    by_place: Tree<ByPlace>,
    by_owner: Tree<ByOwner>,
}

impl RangeLocks {
    /// The first lock, by its start, that is in the way of `wanted`.
    pub fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        let own = wanted.owner.key();
        let in_the_way = |(all, exclusive): (Reach, Reach)| {
            let reach = if wanted.mode == Mode::Exclusive { all } else { exclusive };
            reach.end_without(own) > wanted.start
        };
        self.by_place.first_where(in_the_way).map(|held| held.0).filter(|held| held.start < wanted.end)
    }

    /// The owner's first lock that ends at `from` or behind it.
    fn next_of(&self, owner: OwnerKey, from: u64) -> Option<RangeLock> {
        self.by_owner.first_from(&(owner, from)).map(|held| held.0).filter(|held| held.owner.key() == owner)
    }

    /// The owner's lock that has `at` strictly inside.
    fn across(&self, owner: OwnerKey, at: u64) -> Option<RangeLock> {
        self.next_of(owner, at.checked_add(1)?).filter(|held| held.start < at)
    }

    /// The owner's lock that contains all of `start..end`.
    pub fn holding(&self, owner: Owner, start: u64, end: u64) -> Option<RangeLock> {
        self.next_of(owner.key(), end).filter(|held| held.start <= start)
    }

    fn insert(&mut self, (mut by_place, mut by_owner): Nodes, lock: RangeLock) {
        (by_place.0, by_owner.0) = (lock, lock);
        self.by_place.insert(by_place);
        self.by_owner.insert(by_owner);
    }

    fn remove(&mut self, lock: &RangeLock) -> Option<Nodes> {
        let by_owner = self.by_owner.remove(&(lock.owner.key(), lock.end))?;
        let by_place = self.by_place.remove(&(lock.start, lock.owner.key()))?;
        Some((by_place, by_owner))
    }

    /// Makes the owner's locks on `start..end` be `mode`, or none: cuts what reaches over, joins what touches. Nobody else
    /// is asked. `ENOLCK`: no memory, nothing is changed.
    pub fn set(&mut self, owner: Owner, start: u64, end: u64, mode: Option<Mode>) -> Result<Change> {
        let key = owner.key();
        let mut nodes: ArrayVec<Nodes, 3> = ArrayVec::new();
        let cuts = [start, end].into_iter().filter_map(|at| self.across(key, at));
        let left_over = cuts.filter(|held| Some(held.mode) != mode).count();
        for _ in 0..left_over + usize::from(mode.is_some()) {
            nodes.push(make_nodes(RangeLock { owner, mode: Mode::Shared, start, end })?);
        }
        let mut pieces: ArrayVec<RangeLock, 3> = ArrayVec::new();
        let mut joined = start..end;
        let mut change = Change::Kept;
        let mut from = Some(start);
        while let Some(held) = from.and_then(|from| self.next_of(key, from)).filter(|held| held.start <= end)
        {
            from = held.end.checked_add(1);
            if Some(held.mode) == mode {
                joined = joined.start.min(held.start)..joined.end.max(held.end);
                self.remove(&held);
            } else if held.end > start && held.start < end {
                self.remove(&held);
                let left = RangeLock { end: start.max(held.start), ..held };
                let right = RangeLock { start: end.min(held.end), ..held };
                pieces.extend([left, right].into_iter().filter(|piece| piece.start < piece.end));
                if mode != Some(Mode::Exclusive) {
                    change = Change::Freed;
                }
            }
        }
        pieces.extend(mode.map(|mode| RangeLock { owner, mode, start: joined.start, end: joined.end }));
        for (nodes, piece) in nodes.into_iter().zip(pieces) {
            self.insert(nodes, piece);
        }
        Ok(change)
    }

    /// Takes all locks of the owner away.
    pub fn remove_owner(&mut self, owner: Owner) -> Change {
        let mut change = Change::Kept;
        while let Some(held) = self.next_of(owner.key(), 0) {
            self.remove(&held);
            change = Change::Freed;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const A: Owner = Owner::Process { table: 1, process: 1 };
    const B: Owner = Owner::Process { table: 2, process: 2 };

    fn spans(locks: &RangeLocks, owner: Owner) -> Vec<(u64, u64, Mode)> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(held) = from.and_then(|from| locks.next_of(owner.key(), from)) {
            from = held.end.checked_add(1);
            all.push((held.start, held.end, held.mode));
        }
        all
    }

    #[test]
    fn ranges_are_cut_and_joined() {
        let mut locks = RangeLocks::default();
        assert_eq!(locks.set(A, 0, 100, Some(Mode::Exclusive)), Ok(Change::Kept));
        assert_eq!(locks.set(A, 20, 30, None), Ok(Change::Freed));
        assert_eq!(spans(&locks, A), [(0, 20, Mode::Exclusive), (30, 100, Mode::Exclusive)]);
        assert_eq!(locks.set(A, 40, 50, Some(Mode::Shared)), Ok(Change::Freed));
        assert_eq!(locks.set(A, 20, 30, Some(Mode::Exclusive)), Ok(Change::Kept));
        assert_eq!(
            spans(&locks, A),
            [(0, 40, Mode::Exclusive), (40, 50, Mode::Shared), (50, 100, Mode::Exclusive)]
        );
    }

    #[test]
    fn locks_reach_the_end_of_all_files() {
        let mut locks = RangeLocks::default();
        locks.set(A, 10, u64::MAX, Some(Mode::Exclusive)).unwrap();
        locks.set(A, 20, u64::MAX, None).unwrap();
        assert_eq!(spans(&locks, A), [(10, 20, Mode::Exclusive)]);
        locks.set(A, 0, u64::MAX, Some(Mode::Shared)).unwrap();
        assert_eq!(spans(&locks, A), [(0, u64::MAX, Mode::Shared)]);
        assert_eq!(locks.remove_owner(A), Change::Freed);
        assert_eq!(locks.remove_owner(A), Change::Kept);
    }

    #[test]
    fn own_locks_hide_nobody_elses() {
        let mut locks = RangeLocks::default();
        for at in 0..50 {
            locks.set(A, at * 4, at * 4 + 2, Some(Mode::Shared)).unwrap();
        }
        locks.set(B, 100, 101, Some(Mode::Shared)).unwrap();
        let wanted = RangeLock { owner: A, mode: Mode::Exclusive, start: 0, end: 200 };
        assert_eq!(locks.conflict(&wanted).map(|held| held.start), Some(100));
        assert!(locks.conflict(&RangeLock { end: 100, ..wanted }).is_none());
    }

    /// The obvious way: every byte has a mode for every owner.
    const BYTES: usize = 24;
    const OWNERS: usize = 3;
    type Model = [[Option<Mode>; BYTES]; OWNERS];

    fn owner(index: usize) -> Owner {
        if index == 2 { Owner::Description(2) } else { Owner::Process { table: index as u64, process: 9 } }
    }

    fn model_conflicts(model: &Model, own: usize, mode: Mode, start: usize, end: usize) -> bool {
        (0..OWNERS).filter(|other| *other != own).any(|other| {
            let blocks = |held: Mode| mode == Mode::Exclusive || held == Mode::Exclusive;
            model[other][start..end].iter().flatten().any(|held| blocks(*held))
        })
    }

    fn check_against(locks: &RangeLocks, model: &Model) {
        let mut count = 0;
        for (index, bytes) in model.iter().enumerate() {
            let spans = spans(locks, owner(index));
            count += spans.len();
            let mut seen = [None; BYTES];
            for (start, end, mode) in &spans {
                assert!(start < end);
                seen[*start as usize..*end as usize].fill(Some(*mode));
            }
            assert_eq!(&seen, bytes);
            for pair in spans.windows(2) {
                assert!(
                    pair[0].1 < pair[1].0 || pair[0].1 == pair[1].0 && pair[0].2 != pair[1].2,
                    "not joined"
                );
            }
        }
        assert_eq!((locks.by_place.len(), locks.by_owner.len()), (count, count));
    }

    proptest! {
        #[test]
        fn behaves_as_a_table_of_bytes(
            steps in prop::collection::vec((0..OWNERS, 0..BYTES, 1..BYTES, 0..4u8), 1..80)
        ) {
            let mut locks = RangeLocks::default();
            let mut model: Model = [[None; BYTES]; OWNERS];
            for (own, start, len, what) in steps {
                let end = (start + len).min(BYTES);
                let mode = match what {
                    0 => None,
                    1 => Some(Mode::Exclusive),
                    _ => Some(Mode::Shared),
                };
                if let Some(mode) = mode {
                    let wanted =
                        RangeLock { owner: owner(own), mode, start: start as u64, end: end as u64 };
                    let found = locks.conflict(&wanted);
                    prop_assert_eq!(found.is_some(), model_conflicts(&model, own, mode, start, end));
                    if let Some(found) = found {
                        prop_assert!(found.owner != wanted.owner);
                        prop_assert!(found.start < wanted.end && wanted.start < found.end);
                        continue;
                    }
                }
                let weaker = model[own][start..end].iter().any(|held| match (held, mode) {
                    (Some(_), None) => true,
                    (Some(held), Some(mode)) => *held == Mode::Exclusive && mode == Mode::Shared,
                    (None, _) => false,
                });
                let change = locks.set(owner(own), start as u64, end as u64, mode).unwrap();
                prop_assert_eq!(change == Change::Freed, weaker);
                model[own][start..end].fill(mode);
                check_against(&locks, &model);
            }
        }
    }
}
