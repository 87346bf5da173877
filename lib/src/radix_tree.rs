//! A 64-way radix tree from `u64` indexes to values, with marks: the index of a page cache.
//!
//! [`RadixTree`] holds a file's pages by page number. It is sparse (a hole costs nothing), as deep as its
//! highest index needs (one value at index 0 lives in the root, without a node: most files are small), and
//! carries three [`Mark`]s per value, summed up in every inner node, so that "the next dirty page after 1000"
//! visits only subtrees that contain one.
//!
//! The tree has no lock: the page cache wraps it in a reader-writer spinlock, under which look-ups share.
//! Key types: [`RadixTree`], [`Mark`], [`Iter`]. Neighbours: `mm::page_cache`, inode and pid tables.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{ControlFlow, RangeInclusive};

const BITS: u32 = 6;
const WIDTH: usize = 1 << BITS;

/// One of the three flags that every value carries.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Differs from what the backing store has.
    Dirty,
    /// Being written back.
    Writeback,
    /// Free for the user of the tree: the set to work on next.
    Tagged,
}

impl Mark {
    const COUNT: usize = 3;
    /// All marks.
    pub const ALL: [Mark; Mark::COUNT] = [Mark::Dirty, Mark::Writeback, Mark::Tagged];
}

/// Which slots of a node are in use, and for each mark, which slots have it (in an inner node: below them).
#[derive(Copy, Clone, Default)]
struct Summary {
    present: u64,
    marks: [u64; Mark::COUNT],
}

impl Summary {
    fn of(&self, filter: Option<Mark>) -> u64 {
        match filter {
            None => self.present,
            Some(mark) => self.marks.get(mark as usize).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, mark: Mark, slot: usize, on: bool) {
        if let Some(bits) = self.marks.get_mut(mark as usize) {
            *bits = *bits & !(1 << slot) | u64::from(on) << slot;
        }
    }
}

// One box for either: the sizes differ only for values that are not pointers.
#[allow(clippy::large_enum_variant)]
enum Slots<T> {
    Leaf([Option<T>; WIDTH]),
    Inner([Option<Box<Node<T>>>; WIDTH]),
}

struct Node<T> {
    summary: Summary,
    slots: Slots<T>,
}

enum Root<T> {
    Empty,
    /// Index 0 only, with its marks as bits.
    Single(T, u8),
    /// A node tree of this many levels, at least 1.
    Tree(u32, Box<Node<T>>),
}

/// A sparse array indexed by `u64`, with marks; see the head of this file.
pub struct RadixTree<T> {
    root: Root<T>,
    len: u64,
}

impl<T> Default for RadixTree<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The slot of `index` in a node that is `level` levels above the values (a leaf is level 1).
fn slot_of(index: u64, level: u32) -> usize {
    (index >> (BITS * (level - 1))) as usize % WIDTH
}

/// The highest index that a tree of `levels` can hold.
fn capacity(levels: u32) -> u64 {
    1u64.checked_shl(BITS * levels).map_or(u64::MAX, |size| size - 1)
}

impl<T> Node<T> {
    fn new_leaf() -> Box<Self> {
        Box::new(Node { summary: Summary::default(), slots: Slots::Leaf([const { None }; WIDTH]) })
    }

    fn new_inner() -> Box<Self> {
        Box::new(Node { summary: Summary::default(), slots: Slots::Inner([const { None }; WIDTH]) })
    }

    fn new(level: u32) -> Box<Self> {
        if level == 1 { Self::new_leaf() } else { Self::new_inner() }
    }

    fn get(&self, index: u64, level: u32) -> Option<&T> {
        let (mut node, mut level) = (self, level);
        loop {
            match &node.slots {
                Slots::Leaf(values) => return values.get(slot_of(index, 1))?.as_ref(),
                Slots::Inner(children) => node = children.get(slot_of(index, level))?.as_deref()?,
            }
            level -= 1;
        }
    }

    fn get_mut(&mut self, index: u64, level: u32) -> Option<&mut T> {
        match &mut self.slots {
            Slots::Leaf(values) => values.get_mut(slot_of(index, 1))?.as_mut(),
            Slots::Inner(children) => {
                children.get_mut(slot_of(index, level))?.as_deref_mut()?.get_mut(index, level - 1)
            }
        }
    }

    /// Stores `value`, without marks, and returns what was there.
    fn insert(&mut self, index: u64, level: u32, value: T) -> Option<T> {
        let slot = slot_of(index, level);
        self.summary.present |= 1 << slot;
        let old = match &mut self.slots {
            Slots::Leaf(values) => {
                Mark::ALL.iter().for_each(|mark| self.summary.set(*mark, slot, false));
                return values.get_mut(slot).and_then(|v| v.replace(value));
            }
            Slots::Inner(children) => {
                let child = children.get_mut(slot)?.get_or_insert_with(|| Node::new(level - 1));
                child.insert(index, level - 1, value)
            }
        };
        self.sum_up(slot);
        old
    }

    /// Takes the value out and frees nodes that become empty.
    fn remove(&mut self, index: u64, level: u32) -> Option<T> {
        let slot = slot_of(index, level);
        let old = match &mut self.slots {
            Slots::Leaf(values) => {
                let old = values.get_mut(slot)?.take();
                self.summary.present &= !(1 << slot);
                Mark::ALL.iter().for_each(|mark| self.summary.set(*mark, slot, false));
                return old;
            }
            Slots::Inner(children) => {
                let place = children.get_mut(slot)?;
                let child = place.as_deref_mut()?;
                let old = child.remove(index, level - 1);
                if child.summary.present == 0 {
                    *place = None;
                    self.summary.present &= !(1 << slot);
                }
                old
            }
        };
        self.sum_up(slot);
        old
    }

    /// Sets or clears a mark of an existing value; returns its former state.
    fn set_mark(&mut self, index: u64, level: u32, mark: Mark, on: bool) -> Option<bool> {
        let slot = slot_of(index, level);
        let was = match &mut self.slots {
            Slots::Leaf(values) => {
                values.get(slot)?.as_ref()?;
                let was = self.summary.of(Some(mark)) >> slot & 1 != 0;
                self.summary.set(mark, slot, on);
                return Some(was);
            }
            Slots::Inner(children) => {
                children.get_mut(slot)?.as_deref_mut()?.set_mark(index, level - 1, mark, on)
            }
        };
        self.sum_up(slot);
        was
    }

    /// Recomputes the marks of an inner node's `slot` from the child there.
    fn sum_up(&mut self, slot: usize) {
        let Slots::Inner(children) = &self.slots else { return };
        let below = children.get(slot).and_then(|c| c.as_deref()).map_or(Summary::default(), |c| c.summary);
        for mark in Mark::ALL {
            self.summary.set(mark, slot, below.of(Some(mark)) != 0);
        }
    }

    fn has_mark(&self, index: u64, level: u32, mark: Mark) -> bool {
        let slot = slot_of(index, level);
        if self.summary.of(Some(mark)) >> slot & 1 == 0 {
            return false;
        }
        match &self.slots {
            Slots::Leaf(_) => true,
            Slots::Inner(children) => children
                .get(slot)
                .and_then(|c| c.as_deref())
                .is_some_and(|child| child.has_mark(index, level - 1, mark)),
        }
    }

    /// The first leaf with a value at or after `from` (an index relative to this subtree): its values from there on, with relative indexes.
    fn next_leaf(&self, from: u64, level: u32, filter: Option<Mark>) -> Option<Run<'_, T>> {
        let shift = BITS * (level - 1);
        let first = slot_of(from, level);
        let mut candidates = self.summary.of(filter) & (u64::MAX << first);
        let children = match &self.slots {
            Slots::Leaf(values) => {
                return (candidates != 0).then_some(Run { base: 0, values, candidates, lone: None });
            }
            Slots::Inner(children) => children,
        };
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let child = children.get(slot)?.as_deref()?;
            let from_below = if slot == first { from & ((1 << shift) - 1) } else { 0 };
            if let Some(mut run) = child.next_leaf(from_below, level - 1, filter) {
                run.base += (slot as u64) << shift;
                return Some(run);
            }
        }
        None
    }

    /// The first index at or after `from` that has no value; `None` if this subtree is full from there on.
    fn next_hole(&self, from: u64, level: u32) -> Option<u64> {
        let shift = BITS * (level - 1);
        let first = slot_of(from, level);
        for slot in first..WIDTH {
            let base = (slot as u64) << shift;
            if base >> shift != slot as u64 {
                // The top node of a full-height tree has only 16 slots that stand for an index.
                break;
            }
            let from_below = if slot == first { from & ((1u64 << shift) - 1) } else { 0 };
            if self.summary.present >> slot & 1 == 0 {
                return Some(base + from_below);
            }
            if let Slots::Inner(children) = &self.slots {
                let child = children.get(slot)?.as_deref()?;
                if let Some(index) = child.next_hole(from_below, level - 1) {
                    return Some(base + index);
                }
            }
        }
        None
    }
}

impl<T> RadixTree<T> {
    /// An empty tree; allocates nothing.
    pub const fn new() -> Self {
        RadixTree { root: Root::Empty, len: 0 }
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `index`.
    pub fn get(&self, index: u64) -> Option<&T> {
        match &self.root {
            Root::Single(value, _) if index == 0 => Some(value),
            Root::Tree(levels, node) if index <= capacity(*levels) => node.get(index, *levels),
            _ => None,
        }
    }

    /// The value at `index`, to change.
    pub fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        match &mut self.root {
            Root::Single(value, _) if index == 0 => Some(value),
            Root::Tree(levels, node) if index <= capacity(*levels) => node.get_mut(index, *levels),
            _ => None,
        }
    }

    /// Stores `value` at `index`, with no mark, and returns what was there.
    pub fn insert(&mut self, index: u64, value: T) -> Option<T> {
        if index == 0 && matches!(self.root, Root::Empty | Root::Single(..)) {
            let old = core::mem::replace(&mut self.root, Root::Single(value, 0));
            return match old {
                Root::Single(old, _) => Some(old),
                _ => {
                    self.len += 1;
                    None
                }
            };
        }
        self.grow(index);
        let Root::Tree(levels, node) = &mut self.root else { return None };
        let old = node.insert(index, *levels, value);
        self.len += u64::from(old.is_none());
        old
    }

    /// Replaces the value at `index`, keeping its marks. Gives `value` back as an error if there is none.
    pub fn replace(&mut self, index: u64, value: T) -> Result<T, T> {
        match self.get_mut(index) {
            Some(place) => Ok(core::mem::replace(place, value)),
            None => Err(value),
        }
    }

    /// Takes the value at `index` out.
    pub fn remove(&mut self, index: u64) -> Option<T> {
        let old = match &mut self.root {
            Root::Single(..) if index == 0 => match core::mem::replace(&mut self.root, Root::Empty) {
                Root::Single(value, _) => Some(value),
                _ => None,
            },
            Root::Tree(levels, node) if index <= capacity(*levels) => node.remove(index, *levels),
            _ => None,
        };
        self.len -= u64::from(old.is_some());
        if self.len == 0 {
            self.root = Root::Empty;
        }
        old
    }

    /// Takes all values with indexes in `range` out, at most `limit` of them ("gang" removal); the caller
    /// repeats until nothing comes back, and drops the values outside its lock.
    pub fn remove_range(&mut self, range: RangeInclusive<u64>, limit: usize) -> Vec<(u64, T)> {
        let mut removed = Vec::new();
        let mut from = *range.start();
        while removed.len() < limit {
            let Some(index) = self.next(from, None).map(|(index, _)| index) else { break };
            if index > *range.end() {
                break;
            }
            if let Some(value) = self.remove(index) {
                removed.push((index, value));
            }
            let Some(next) = index.checked_add(1) else { break };
            from = next;
        }
        removed
    }

    /// Makes the tree deep enough for `index`, turning a lone root value into a leaf.
    fn grow(&mut self, index: u64) {
        loop {
            match core::mem::replace(&mut self.root, Root::Empty) {
                Root::Empty => {
                    let mut levels = 1;
                    while capacity(levels) < index {
                        levels += 1;
                    }
                    self.root = Root::Tree(levels, Node::new(levels));
                }
                Root::Single(value, marks) => {
                    let mut leaf = Node::new_leaf();
                    leaf.insert(0, 1, value);
                    for mark in Mark::ALL {
                        leaf.summary.set(mark, 0, marks >> mark as u8 & 1 != 0);
                    }
                    self.root = Root::Tree(1, leaf);
                }
                Root::Tree(levels, node) if capacity(levels) < index => {
                    let mut top = Node::new_inner();
                    top.summary.present = u64::from(node.summary.present != 0);
                    if let Slots::Inner(children) = &mut top.slots
                        && let Some(first) = children.first_mut()
                        && node.summary.present != 0
                    {
                        *first = Some(node);
                    }
                    top.sum_up(0);
                    self.root = Root::Tree(levels + 1, top);
                }
                deep_enough => {
                    self.root = deep_enough;
                    return;
                }
            }
        }
    }

    /// Whether the value at `index` exists and has `mark`.
    pub fn has_mark(&self, index: u64, mark: Mark) -> bool {
        match &self.root {
            Root::Single(_, marks) => index == 0 && marks >> mark as u8 & 1 != 0,
            Root::Tree(levels, node) => index <= capacity(*levels) && node.has_mark(index, *levels, mark),
            Root::Empty => false,
        }
    }

    /// Gives the value at `index` the mark; `None` if there is no value, else whether it had it already.
    pub fn set_mark(&mut self, index: u64, mark: Mark) -> Option<bool> {
        self.change_mark(index, mark, true)
    }

    /// Takes the mark from the value at `index`; `None` if there is no value, else whether it had it.
    pub fn clear_mark(&mut self, index: u64, mark: Mark) -> Option<bool> {
        self.change_mark(index, mark, false)
    }

    fn change_mark(&mut self, index: u64, mark: Mark, on: bool) -> Option<bool> {
        match &mut self.root {
            Root::Single(_, marks) if index == 0 => {
                let was = *marks >> mark as u8 & 1 != 0;
                *marks = *marks & !(1 << mark as u8) | u8::from(on) << mark as u8;
                Some(was)
            }
            Root::Tree(levels, node) if index <= capacity(*levels) => node.set_mark(index, *levels, mark, on),
            _ => None,
        }
    }

    /// Whether any value has `mark`. O(1).
    pub fn any_marked(&self, mark: Mark) -> bool {
        match &self.root {
            Root::Single(_, marks) => marks >> mark as u8 & 1 != 0,
            Root::Tree(_, node) => node.summary.of(Some(mark)) != 0,
            Root::Empty => false,
        }
    }

    /// The first value at or after index `from`; with a filter, the first one that has that mark.
    pub fn next(&self, from: u64, filter: Option<Mark>) -> Option<(u64, &T)> {
        self.next_run(from, filter).next()
    }

    /// The values at or after `from`, those that have the mark, as far as they lie in one leaf; none if there are none at all.
    fn next_run(&self, from: u64, filter: Option<Mark>) -> Run<'_, T> {
        match &self.root {
            Root::Single(value, marks)
                if from == 0 && filter.is_none_or(|mark| marks >> mark as u8 & 1 != 0) =>
            {
                Run { lone: Some(value), ..Run::NONE }
            }
            Root::Tree(levels, node) if from <= capacity(*levels) => {
                node.next_leaf(from, *levels, filter).unwrap_or(Run::NONE)
            }
            _ => Run::NONE,
        }
    }

    /// The first index at or after `from` that has no value (`None` only if every index to 2^64-1 has).
    pub fn next_hole(&self, from: u64) -> Option<u64> {
        match &self.root {
            Root::Single(..) => Some(from.max(1)),
            Root::Tree(levels, node) if from <= capacity(*levels) => {
                node.next_hole(from, *levels).or_else(|| capacity(*levels).checked_add(1))
            }
            _ => Some(from),
        }
    }

    /// The values with indexes in `range`, in order; with a filter, those that have that mark.
    pub fn iter_range(&self, range: RangeInclusive<u64>, filter: Option<Mark>) -> Iter<'_, T> {
        Iter { tree: self, run: Run::NONE, next: Some(*range.start()), last: *range.end(), filter }
    }

    /// Shows `visit` the values with indexes in `range`, in order, until it breaks off: [`RadixTree::iter_range`] for loops that run over many.
    pub fn visit_range<'a>(
        &'a self,
        range: RangeInclusive<u64>,
        mut visit: impl FnMut(u64, &'a T) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut from = Some(*range.start());
        while let Some(start) = from.filter(|start| start <= range.end()) {
            let mut run = self.next_run(start, None);
            let Some((mut index, mut value)) = run.next() else { break };
            loop {
                if index > *range.end() {
                    return ControlFlow::Continue(());
                }
                visit(index, value)?;
                match run.next() {
                    Some(next) => (index, value) = next,
                    None => break,
                }
            }
            from = index.checked_add(1);
        }
        ControlFlow::Continue(())
    }

    /// All values, in index order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.iter_range(0..=u64::MAX, None)
    }
}

impl<T: Clone> RadixTree<T> {
    /// Clones up to `limit` values with indexes in `range` ("gang" look-up): what a caller needs who may not
    /// hold the lock while it works on them.
    pub fn gang(
        &self,
        range: RangeInclusive<u64>,
        filter: Option<Mark>,
        limit: usize,
    ) -> impl Iterator<Item = (u64, T)> + '_ {
        self.iter_range(range, filter).take(limit).map(|(index, value)| (index, value.clone()))
    }
}

/// Values of one leaf that are still to come.
struct Run<'a, T> {
    /// The index of the leaf's first slot.
    base: u64,
    values: &'a [Option<T>],
    /// The slots that are still to come, by bits.
    candidates: u64,
    /// The value of a tree without nodes, at index 0.
    lone: Option<&'a T>,
}

impl<T> Run<'_, T> {
    const NONE: Self = Run { base: 0, values: &[], candidates: 0, lone: None };
}

impl<'a, T> Iterator for Run<'a, T> {
    type Item = (u64, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.candidates == 0 {
            return self.lone.take().map(|value| (0, value));
        }
        let slot = self.candidates.trailing_zeros() as usize;
        self.candidates &= self.candidates - 1;
        Some((self.base + slot as u64, self.values.get(slot)?.as_ref()?))
    }
}

/// Values in index order; made by [`RadixTree::iter`] and [`RadixTree::iter_range`].
pub struct Iter<'a, T> {
    tree: &'a RadixTree<T>,
    /// What is left of the leaf that was found last.
    run: Run<'a, T>,
    next: Option<u64>,
    last: u64,
    filter: Option<Mark>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (index, value) = match self.run.next() {
            Some(found) => found,
            None => {
                self.run = self.tree.next_run(self.next?, self.filter);
                self.run.next()?
            }
        };
        if index > self.last {
            self.next = None;
            self.run = Run::NONE;
            return None;
        }
        self.next = index.checked_add(1);
        Some((index, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Clone, Debug)]
    enum Action {
        Insert(u64, u32),
        Replace(u64, u32),
        Remove(u64),
        RemoveRange(u64, u64, usize),
        Mark(u64, usize),
        Unmark(u64, usize),
    }

    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0u64..3,
            8 => 0u64..200,
            4 => 4000u64..4200,
            1 => (0u64..64).prop_map(|bit| 1 << bit),
            1 => (0u64..64).prop_map(|bit| (1 << bit) - 1),
            1 => u64::MAX - 3..=u64::MAX,
        ]
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            6 => (index(), any::<u32>()).prop_map(|(i, v)| Action::Insert(i, v)),
            1 => (index(), any::<u32>()).prop_map(|(i, v)| Action::Replace(i, v)),
            3 => index().prop_map(Action::Remove),
            1 => (index(), index(), 0usize..30).prop_map(|(a, b, n)| Action::RemoveRange(a, b, n)),
            4 => (index(), 0usize..3).prop_map(|(i, m)| Action::Mark(i, m)),
            2 => (index(), 0usize..3).prop_map(|(i, m)| Action::Unmark(i, m)),
        ]
    }

    #[derive(Default)]
    struct Model {
        values: BTreeMap<u64, u32>,
        marks: [BTreeSet<u64>; 3],
    }

    impl Model {
        fn remove(&mut self, index: u64) -> Option<u32> {
            self.marks.iter_mut().for_each(|set| {
                set.remove(&index);
            });
            self.values.remove(&index)
        }
    }

    fn apply(tree: &mut RadixTree<u32>, model: &mut Model, action: &Action) {
        match *action {
            Action::Insert(index, value) => {
                let old = model.remove(index);
                model.values.insert(index, value);
                assert_eq!(tree.insert(index, value), old);
            }
            Action::Replace(index, value) => {
                let expect = match model.values.get_mut(&index) {
                    Some(place) => Ok(core::mem::replace(place, value)),
                    None => Err(value),
                };
                assert_eq!(tree.replace(index, value), expect);
            }
            Action::Remove(index) => assert_eq!(tree.remove(index), model.remove(index)),
            Action::RemoveRange(first, last, limit) => {
                let hit: Vec<u64> = match first <= last {
                    true => model.values.range(first..=last).take(limit).map(|(i, _)| *i).collect(),
                    false => Vec::new(),
                };
                let expect: Vec<_> = hit.iter().map(|i| (*i, model.remove(*i).unwrap())).collect();
                assert_eq!(tree.remove_range(first..=last, limit), expect);
            }
            Action::Mark(index, mark) => {
                let expect = model.values.contains_key(&index).then(|| !model.marks[mark].insert(index));
                assert_eq!(tree.set_mark(index, Mark::ALL[mark]), expect);
            }
            Action::Unmark(index, mark) => {
                let expect = model.values.contains_key(&index).then(|| model.marks[mark].remove(&index));
                assert_eq!(tree.clear_mark(index, Mark::ALL[mark]), expect);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_btree_model(actions in proptest::collection::vec(action(), 1..crate::length(300)), from in index()) {
            let mut tree = RadixTree::new();
            let mut model = Model::default();
            for action in &actions {
                apply(&mut tree, &mut model, action);
                prop_assert_eq!(tree.len(), model.values.len() as u64);
            }
            let all: Vec<_> = tree.iter().map(|(i, v)| (i, *v)).collect();
            prop_assert_eq!(all, model.values.clone().into_iter().collect::<Vec<_>>());
            let (last, most) = (from.saturating_add(70), 5);
            let mut visited = Vec::new();
            let _ = tree.visit_range(from..=last, |i, v| {
                visited.push((i, *v));
                if visited.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let expect: Vec<_> = model.values.range(from..=last).take(most).map(|(i, v)| (*i, *v)).collect();
            prop_assert_eq!(visited, expect);
            for (number, mark) in Mark::ALL.into_iter().enumerate() {
                let marked: Vec<_> = tree.gang(from..=u64::MAX, Some(mark), 20).map(|(i, _)| i).collect();
                let expect: Vec<_> = model.marks[number].range(from..).take(20).copied().collect();
                prop_assert_eq!(marked, expect);
                prop_assert_eq!(tree.any_marked(mark), !model.marks[number].is_empty());
                for index in model.values.keys() {
                    prop_assert_eq!(tree.has_mark(*index, mark), model.marks[number].contains(index));
                }
            }
            let mut hole = Some(from);
            while hole.is_some_and(|h| model.values.contains_key(&h)) {
                hole = hole.and_then(|h| h.checked_add(1));
            }
            prop_assert_eq!(tree.next_hole(from), hole);
        }
    }

    #[test]
    fn one_page_needs_no_node() {
        let mut tree = RadixTree::new();
        tree.insert(0, 5);
        tree.set_mark(0, Mark::Dirty);
        assert!(matches!(tree.root, Root::Single(5, 1)));
        tree.insert(70, 6);
        assert!(tree.has_mark(0, Mark::Dirty) && !tree.has_mark(70, Mark::Dirty));
    }
}
