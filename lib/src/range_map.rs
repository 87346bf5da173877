//! An ordered map from non-overlapping address ranges to values: a persistent B+tree.
//!
//! [`RangeMap`] is what an address space keeps its mappings in. Three properties make it fit:
//!
//! * **Snapshots are free.** Nodes are `Arc`s and `clone` copies one pointer. A change copies only the nodes on
//!   its path that a snapshot still shares (`Arc::make_mut`), O(log n) of them. So a writer edits its own map
//!   under a lock and publishes a clone through RCU; page faults look addresses up in the published clone and
//!   take no lock at all.
//! * **Gaps are found in O(log n).** Every child entry of an inner node knows the largest hole inside its
//!   subtree, so [`RangeMap::find_gap_down`] and [`RangeMap::find_gap_up`] skip subtrees that cannot fit.
//! * **Nodes are wide** (20 ranges in a leaf, 15 children in an inner node, 512 bytes each), so that a process
//!   of fifty mappings is two levels deep.
//!
//! Ranges are half open, `start < end`. Neighbouring ranges may touch; they never overlap.
//! Key types: [`RangeMap`], [`Iter`]. Neighbours: `mm::address_space` (its only user now). Locks: none.

use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::ops::Range;

/// Ranges in a leaf. With 24-byte entries the leaf and its `Arc` header fill 512 bytes.
const LEAF_CAPACITY: usize = 20;
/// Children of an inner node.
const INNER_CAPACITY: usize = 15;
/// A leaf with fewer entries than this is merged with, or filled from, a sibling.
const LEAF_MINIMUM: usize = LEAF_CAPACITY / 3;
/// An inner node with fewer children than this is merged with, or filled from, a sibling.
const INNER_MINIMUM: usize = INNER_CAPACITY / 3;
/// More levels than any tree in a 64-bit address space can have (5^16 leaves).
const MAXIMUM_HEIGHT: usize = 16;

/// The error of [`RangeMap::insert`] and [`RangeMap::resize`]: the range is empty or meets another one.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Overlap;

#[derive(Clone)]
struct Entry<V> {
    start: usize,
    end: usize,
    value: V,
}

/// A child of an inner node, with the summary that searches need without visiting it.
#[derive(Clone)]
struct Child<V> {
    start: usize,
    end: usize,
    /// The largest hole between two neighbouring ranges inside this subtree.
    largest_gap: usize,
    node: Arc<Node<V>>,
}

// Always behind an `Arc`: the sizes differ only for values that are not pointers.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
enum Node<V> {
    Leaf(ArrayVec<Entry<V>, LEAF_CAPACITY>),
    Inner(ArrayVec<Child<V>, INNER_CAPACITY>),
}

/// An ordered map of non-overlapping half-open ranges; see the head of this file.
pub struct RangeMap<V> {
    root: Option<Arc<Node<V>>>,
    len: usize,
}

impl<V> Clone for RangeMap<V> {
    /// A snapshot, in O(1). Later changes of either side do not show in the other.
    fn clone(&self) -> Self {
        RangeMap { root: self.root.clone(), len: self.len }
    }
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Node<V> {
    fn is_underfull(&self) -> bool {
        match self {
            Node::Leaf(entries) => entries.len() < LEAF_MINIMUM,
            Node::Inner(children) => children.len() < INNER_MINIMUM,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(entries) => entries.is_empty(),
            Node::Inner(children) => children.is_empty(),
        }
    }
}

/// `(start, end, largest_gap)` of a run of items that each have the same three facts.
fn summarise(items: impl Iterator<Item = (usize, usize, usize)>) -> (usize, usize, usize) {
    let mut summary: Option<(usize, usize, usize)> = None;
    for (start, end, gap) in items {
        summary = Some(match summary {
            None => (start, end, gap),
            Some((first, last, largest)) => (first, end, largest.max(gap).max(start - last)),
        });
    }
    summary.unwrap_or((0, 0, 0))
}

impl<V> Child<V> {
    fn new(node: Arc<Node<V>>) -> Self {
        let (start, end, largest_gap) = match &*node {
            Node::Leaf(entries) => summarise(entries.iter().map(|e| (e.start, e.end, 0))),
            Node::Inner(children) => summarise(children.iter().map(|c| (c.start, c.end, c.largest_gap))),
        };
        Child { start, end, largest_gap, node }
    }

    fn refresh(&mut self) {
        let (start, end, largest_gap) = match &*self.node {
            Node::Leaf(entries) => summarise(entries.iter().map(|e| (e.start, e.end, 0))),
            Node::Inner(children) => summarise(children.iter().map(|c| (c.start, c.end, c.largest_gap))),
        };
        (self.start, self.end, self.largest_gap) = (start, end, largest_gap);
    }
}

impl<V> RangeMap<V> {
    /// An empty map; allocates nothing.
    pub const fn new() -> Self {
        RangeMap { root: None, len: 0 }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no range at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The range that contains `address`.
    pub fn get(&self, address: usize) -> Option<(Range<usize>, &V)> {
        self.find(address).filter(|(range, _)| range.start <= address)
    }

    /// The first range that ends above `address`: the one containing it, else the next one.
    pub fn find(&self, address: usize) -> Option<(Range<usize>, &V)> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let entry = entries.get(entries.partition_point(|e| e.end <= address))?;
                    return Some((entry.start..entry.end, &entry.value));
                }
                Node::Inner(children) => {
                    node = &children.get(children.partition_point(|c| c.end <= address))?.node;
                }
            }
        }
    }

    /// The last range that starts below `address` (it may reach over `address`).
    pub fn find_before(&self, address: usize) -> Option<(Range<usize>, &V)> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let count = entries.partition_point(|e| e.start < address);
                    let entry = entries.get(count.checked_sub(1)?)?;
                    return Some((entry.start..entry.end, &entry.value));
                }
                Node::Inner(children) => {
                    let count = children.partition_point(|c| c.start < address);
                    node = &children.get(count.checked_sub(1)?)?.node;
                }
            }
        }
    }

    /// The lowest and the highest address covered, as one range; `None` when empty.
    pub fn span(&self) -> Option<Range<usize>> {
        let (first, _) = self.find(0)?;
        let (last, _) = self.find_before(usize::MAX)?;
        Some(first.start..last.end)
    }

    /// Whether some range meets `range`.
    pub fn overlaps(&self, range: Range<usize>) -> bool {
        self.find(range.start).is_some_and(|(found, _)| found.start < range.end)
    }

    /// All ranges, in address order.
    pub fn iter(&self) -> Iter<'_, V> {
        self.iter_range(0..usize::MAX)
    }

    /// The ranges that meet `range`, in address order, each in full (not clipped).
    pub fn iter_range(&self, range: Range<usize>) -> Iter<'_, V> {
        let mut iter = Iter { stack: ArrayVec::new(), end: range.end };
        let mut node = self.root.as_deref();
        while let Some(current) = node {
            let (index, next) = match current {
                Node::Leaf(entries) => (entries.partition_point(|e| e.end <= range.start), None),
                Node::Inner(children) => {
                    let index = children.partition_point(|c| c.end <= range.start);
                    (index, children.get(index).map(|c| &*c.node))
                }
            };
            iter.stack.push((current, index));
            node = next;
        }
        iter
    }
}

impl<V: Clone> RangeMap<V> {
    /// Builds a map from ranges in address order, in O(n). Used by fork.
    ///
    /// Errors: [`Overlap`] if a range is empty, or starts before its predecessor ends.
    pub fn from_sorted(items: impl IntoIterator<Item = (Range<usize>, V)>) -> Result<Self, Overlap> {
        let mut leaves: Vec<Child<V>> = Vec::new();
        let mut leaf: ArrayVec<Entry<V>, LEAF_CAPACITY> = ArrayVec::new();
        let (mut len, mut last_end) = (0, 0);
        for (range, value) in items {
            if range.start >= range.end || (range.start < last_end) {
                return Err(Overlap);
            }
            last_end = range.end;
            len += 1;
            // Leave a quarter free, so that the first insertions afterwards do not split every leaf.
            if leaf.len() >= LEAF_CAPACITY * 3 / 4 {
                leaves.push(Child::new(Arc::new(Node::Leaf(core::mem::take(&mut leaf)))));
            }
            leaf.push(Entry { start: range.start, end: range.end, value });
        }
        if !leaf.is_empty() {
            leaves.push(Child::new(Arc::new(Node::Leaf(leaf))));
        }
        while leaves.len() > 1 {
            let mut level = Vec::with_capacity(leaves.len() / INNER_MINIMUM + 1);
            let mut children = leaves.into_iter().peekable();
            while children.peek().is_some() {
                let inner: ArrayVec<_, INNER_CAPACITY> =
                    children.by_ref().take(INNER_CAPACITY * 3 / 4).collect();
                level.push(Child::new(Arc::new(Node::Inner(inner))));
            }
            leaves = level;
        }
        Ok(RangeMap { root: leaves.pop().map(|c| c.node), len })
    }

    /// Adds `range`.
    ///
    /// Errors: [`Overlap`] if the range is empty or meets one that is there; the map is then unchanged.
    pub fn insert(&mut self, range: Range<usize>, value: V) -> Result<(), Overlap> {
        if range.start >= range.end || self.overlaps(range.clone()) {
            return Err(Overlap);
        }
        let entry = Entry { start: range.start, end: range.end, value };
        match &mut self.root {
            None => {
                let mut leaf = ArrayVec::new();
                leaf.push(entry);
                self.root = Some(Arc::new(Node::Leaf(leaf)));
            }
            Some(root) => {
                if let Some(right) = insert_below(root, entry) {
                    let mut children = ArrayVec::new();
                    children.push(Child::new(root.clone()));
                    children.push(Child::new(right));
                    *root = Arc::new(Node::Inner(children));
                }
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Takes out the range that starts exactly at `start`.
    pub fn remove(&mut self, start: usize) -> Option<(Range<usize>, V)> {
        self.get(start).filter(|(range, _)| range.start == start)?;
        let root = self.root.as_mut()?;
        let entry = remove_below(root, start)?;
        self.len -= 1;
        loop {
            let lone = match &**root {
                Node::Inner(children) if children.len() == 1 => children.first().map(|c| c.node.clone()),
                _ => None,
            };
            match lone {
                Some(child) => *root = child,
                None => break,
            }
        }
        if root.is_empty() {
            self.root = None;
        }
        Some((entry.start..entry.end, entry.value))
    }

    /// Gives the range that starts exactly at `start` new bounds and a new value, in place; `None` if there is
    /// no such range.
    ///
    /// Errors: [`Overlap`] if the new bounds are empty or would meet a neighbour; nothing changes then.
    pub fn resize(&mut self, start: usize, to: Range<usize>, value: V) -> Option<Result<(), Overlap>> {
        self.get(start).filter(|(range, _)| range.start == start)?;
        let previous_end = self.find_before(start).map_or(0, |(range, _)| range.end);
        let own_end = self.get(start)?.0.end;
        let next_start = self.find(own_end).map_or(usize::MAX, |(range, _)| range.start);
        if to.start >= to.end || to.start < previous_end || to.end > next_start {
            return Some(Err(Overlap));
        }
        let root = self.root.as_mut()?;
        update_below(root, start, &mut |entry| {
            (entry.start, entry.end) = (to.start, to.end);
            entry.value = value.clone();
        });
        Some(Ok(()))
    }

    /// Exchanges the value of the range that starts exactly at `start`; returns whether there is one.
    pub fn set_value(&mut self, start: usize, value: V) -> bool {
        match self.get(start) {
            Some((range, _)) if range.start == start => self.resize(start, range, value).is_some(),
            _ => false,
        }
    }

    /// Cuts the range that contains `at` strictly inside in two; `divide` makes both values. Returns whether
    /// there was something to cut.
    pub fn split_at(&mut self, at: usize, divide: impl FnOnce(&V) -> (V, V)) -> bool {
        let Some((range, value)) = self.get(at) else { return false };
        if range.start == at {
            return false;
        }
        let (left, right) = divide(value);
        let shortened = self.resize(range.start, range.start..at, left);
        matches!(shortened, Some(Ok(()))) && self.insert(at..range.end, right).is_ok()
    }

    /// Joins the range that ends exactly at `at` with the one that starts there, if both exist; `value` is the
    /// joint one's. Returns whether it happened.
    pub fn merge_at(&mut self, at: usize, value: V) -> bool {
        let Some(left) = self.find_before(at).map(|(range, _)| range) else { return false };
        let Some(right) = self.get(at).map(|(range, _)| range) else { return false };
        if left.end != at || right.start != at {
            return false;
        }
        self.remove(at);
        matches!(self.resize(left.start, left.start..right.end, value), Some(Ok(())))
    }
}

impl<V> RangeMap<V> {
    /// The highest address where `len` free bytes fit inside `within`, aligned down to `align` (a power of two).
    pub fn find_gap_down(&self, within: Range<usize>, len: usize, align: usize) -> Option<usize> {
        let fit = |gap: Range<usize>| {
            let gap = gap.start.max(within.start)..gap.end.min(within.end);
            let at = gap.end.checked_sub(len)? & !(align - 1);
            (at >= gap.start).then_some(at)
        };
        let Some(root) = self.root.as_deref() else { return fit(within.clone()) };
        let span = self.span()?;
        fit(span.end..usize::MAX)
            .filter(|_| span.end < within.end)
            .or_else(|| gap_down(root, &within, len, &fit))
            .or_else(|| fit(0..span.start).filter(|_| span.start > within.start))
    }

    /// The lowest address where `len` free bytes fit inside `within`, aligned up to `align` (a power of two).
    pub fn find_gap_up(&self, within: Range<usize>, len: usize, align: usize) -> Option<usize> {
        let fit = |gap: Range<usize>| {
            let gap = gap.start.max(within.start)..gap.end.min(within.end);
            let at = gap.start.checked_add(align - 1)? & !(align - 1);
            (at.checked_add(len)? <= gap.end).then_some(at)
        };
        let Some(root) = self.root.as_deref() else { return fit(within.clone()) };
        let span = self.span()?;
        fit(0..span.start)
            .filter(|_| span.start > within.start)
            .or_else(|| gap_up(root, &within, len, &fit))
            .or_else(|| fit(span.end..usize::MAX).filter(|_| span.end < within.end))
    }
}

/// The highest fitting hole inside `node`. Visits subtrees that have a hole of `len` bytes only.
fn gap_down<V>(
    node: &Node<V>,
    within: &Range<usize>,
    len: usize,
    fit: &impl Fn(Range<usize>) -> Option<usize>,
) -> Option<usize> {
    match node {
        Node::Leaf(entries) => entries
            .windows(2)
            .rev()
            .filter_map(|pair| pair.first().zip(pair.last()))
            .take_while(|(left, right)| right.start > within.start || left.end > within.start)
            .find_map(|(left, right)| fit(left.end..right.start)),
        Node::Inner(children) => {
            let mut upper: Option<usize> = None;
            for child in children.iter().rev() {
                if let Some(found) = upper.and_then(|end| fit(child.end..end)) {
                    return Some(found);
                }
                if upper.is_some_and(|end| end <= within.start) {
                    return None;
                }
                upper = Some(child.start);
                if child.start >= within.end || child.largest_gap < len {
                    continue;
                }
                if let Some(found) = gap_down(&child.node, within, len, fit) {
                    return Some(found);
                }
            }
            None
        }
    }
}

/// The lowest fitting hole inside `node`.
fn gap_up<V>(
    node: &Node<V>,
    within: &Range<usize>,
    len: usize,
    fit: &impl Fn(Range<usize>) -> Option<usize>,
) -> Option<usize> {
    match node {
        Node::Leaf(entries) => entries
            .windows(2)
            .filter_map(|pair| pair.first().zip(pair.last()))
            .take_while(|(left, _)| left.end < within.end)
            .find_map(|(left, right)| fit(left.end..right.start)),
        Node::Inner(children) => {
            let mut lower: Option<usize> = None;
            for child in children {
                if let Some(found) = lower.and_then(|start| fit(start..child.start)) {
                    return Some(found);
                }
                if lower.is_some_and(|start| start >= within.end) {
                    return None;
                }
                lower = Some(child.end);
                if child.end <= within.start || child.largest_gap < len {
                    continue;
                }
                if let Some(found) = gap_up(&child.node, within, len, fit) {
                    return Some(found);
                }
            }
            None
        }
    }
}

/// Inserts below `node`; returns the new right sibling if the node had to be split.
fn insert_below<V: Clone>(node: &mut Arc<Node<V>>, entry: Entry<V>) -> Option<Arc<Node<V>>> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = entries.partition_point(|e| e.start < entry.start);
            let mut right = None;
            if entries.is_full() {
                let mut upper: ArrayVec<_, LEAF_CAPACITY> = entries.drain(LEAF_CAPACITY / 2..).collect();
                if at > LEAF_CAPACITY / 2 {
                    upper.insert(at - LEAF_CAPACITY / 2, entry);
                } else {
                    entries.insert(at, entry);
                }
                right = Some(Arc::new(Node::Leaf(upper)));
            } else {
                entries.insert(at, entry);
            }
            right
        }
        Node::Inner(children) => {
            let at = children.partition_point(|c| c.start <= entry.start).saturating_sub(1);
            let child = children.get_mut(at)?;
            let split = insert_below(&mut child.node, entry);
            child.refresh();
            add_child(children, at + 1, Child::new(split?))
        }
    }
}

/// Puts `child` at place `at`; returns the new right sibling if `children` had to be split.
fn add_child<V: Clone>(
    children: &mut ArrayVec<Child<V>, INNER_CAPACITY>,
    at: usize,
    child: Child<V>,
) -> Option<Arc<Node<V>>> {
    if !children.is_full() {
        children.insert(at, child);
        return None;
    }
    const HALF: usize = INNER_CAPACITY / 2;
    let mut upper: ArrayVec<_, INNER_CAPACITY> = children.drain(HALF..).collect();
    if at > HALF {
        upper.insert(at - HALF, child);
    } else {
        children.insert(at, child);
    }
    Some(Arc::new(Node::Inner(upper)))
}

/// Removes the entry that starts at `start`, which the caller has seen to exist.
fn remove_below<V: Clone>(node: &mut Arc<Node<V>>, start: usize) -> Option<Entry<V>> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = entries.iter().position(|e| e.start == start)?;
            Some(entries.remove(at))
        }
        Node::Inner(children) => {
            let at = children.partition_point(|c| c.start <= start).checked_sub(1)?;
            let child = children.get_mut(at)?;
            let entry = remove_below(&mut child.node, start)?;
            if child.node.is_empty() {
                children.remove(at);
            } else {
                child.refresh();
                if child.node.is_underfull() && children.len() > 1 {
                    rebalance(children, at);
                }
            }
            Some(entry)
        }
    }
}

/// Merges child `at` with a neighbour, or, if both do not fit in one node, shares their contents evenly.
fn rebalance<V: Clone>(children: &mut ArrayVec<Child<V>, INNER_CAPACITY>, at: usize) {
    let left_at = at.saturating_sub(1);
    let right = children.remove(left_at + 1);
    let Some(left) = children.get_mut(left_at) else { return };
    let mut right_node = right.node;
    let keep_right = match (Arc::make_mut(&mut left.node), Arc::make_mut(&mut right_node)) {
        (Node::Leaf(a), Node::Leaf(b)) => share(a, b),
        (Node::Inner(a), Node::Inner(b)) => share(a, b),
        // All leaves are at the same depth, so siblings are of one kind.
        _ => true,
    };
    left.refresh();
    if keep_right {
        children.insert(left_at + 1, Child::new(right_node));
    }
}

/// Moves everything into `left` if it fits, else balances both; returns whether `right` is still needed.
fn share<T, const N: usize>(left: &mut ArrayVec<T, N>, right: &mut ArrayVec<T, N>) -> bool {
    let total = left.len() + right.len();
    if total <= N {
        left.extend(right.drain(..));
        return false;
    }
    let target = total / 2;
    if left.len() < target {
        let count = target - left.len();
        left.extend(right.drain(..count));
    } else {
        let moved: ArrayVec<T, N> = left.drain(target..).chain(right.drain(..)).collect();
        *right = moved;
    }
    true
}

/// Applies `change` to the entry that starts at `start` and refreshes the summaries above it.
fn update_below<V: Clone>(node: &mut Arc<Node<V>>, start: usize, change: &mut dyn FnMut(&mut Entry<V>)) {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            if let Some(entry) = entries.iter_mut().find(|e| e.start == start) {
                change(entry);
            }
        }
        Node::Inner(children) => {
            let at = children.partition_point(|c| c.start <= start).saturating_sub(1);
            if let Some(child) = children.get_mut(at) {
                update_below(&mut child.node, start, change);
                child.refresh();
            }
        }
    }
}

/// Ranges in address order; made by [`RangeMap::iter`] and [`RangeMap::iter_range`].
pub struct Iter<'a, V> {
    stack: ArrayVec<(&'a Node<V>, usize), MAXIMUM_HEIGHT>,
    end: usize,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (Range<usize>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (node, index) = self.stack.last_mut()?;
            match *node {
                Node::Leaf(entries) => {
                    if let Some(entry) = entries.get(*index) {
                        *index += 1;
                        if entry.start >= self.end {
                            self.stack.clear();
                            return None;
                        }
                        return Some((entry.start..entry.end, &entry.value));
                    }
                }
                Node::Inner(children) => {
                    if *index < children.len() && self.stack.len() < MAXIMUM_HEIGHT {
                        // The child at `index` is visited in full before `index` moves on, below.
                        if let Some(next) = self.descend() {
                            self.stack.push((next, 0));
                            continue;
                        }
                    }
                }
            }
            self.stack.pop();
            if let Some((_, index)) = self.stack.last_mut() {
                *index += 1;
            }
        }
    }
}

impl<'a, V> Iter<'a, V> {
    fn descend(&self) -> Option<&'a Node<V>> {
        match self.stack.last() {
            Some((Node::Inner(children), index)) => children.get(*index).map(|c| &*c.node),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    type Model = BTreeMap<usize, (usize, u32)>;

    #[derive(Clone, Debug)]
    enum Action {
        Insert(usize, usize, u32),
        Remove(usize),
        Resize(usize, usize),
        Split(usize),
        Merge(usize),
        GapDown(usize, usize),
        GapUp(usize, usize),
        Snapshot,
    }

    fn action() -> impl Strategy<Value = Action> {
        let place = 0usize..2000;
        prop_oneof![
            6 => (place.clone(), 1usize..6, any::<u32>()).prop_map(|(a, l, v)| Action::Insert(a, l, v)),
            2 => place.clone().prop_map(Action::Remove),
            1 => (place.clone(), 1usize..9).prop_map(|(a, l)| Action::Resize(a, l)),
            1 => place.clone().prop_map(Action::Split),
            1 => place.clone().prop_map(Action::Merge),
            1 => (place.clone(), 1usize..12).prop_map(|(a, l)| Action::GapDown(a, l)),
            1 => (place, 1usize..12).prop_map(|(a, l)| Action::GapUp(a, l)),
            1 => Just(Action::Snapshot),
        ]
    }

    fn model_containing(model: &Model, at: usize) -> Option<(usize, usize, u32)> {
        model.range(..=at).next_back().map(|(s, (e, v))| (*s, *e, *v)).filter(|(_, e, _)| at < *e)
    }

    fn free(model: &Model, range: Range<usize>) -> bool {
        model.iter().all(|(s, (e, _))| *e <= range.start || *s >= range.end)
    }

    fn apply(map: &mut RangeMap<u32>, model: &mut Model, action: &Action) {
        match *action {
            Action::Insert(at, len, value) => {
                let expect = free(model, at..at + len);
                assert_eq!(map.insert(at..at + len, value).is_ok(), expect);
                if expect {
                    model.insert(at, (at + len, value));
                }
            }
            Action::Remove(at) => {
                let start = model_containing(model, at).map(|(s, ..)| s).unwrap_or(at);
                let expect = model.remove(&start).map(|(e, v)| (start..e, v));
                assert_eq!(map.remove(start), expect);
            }
            Action::Resize(at, len) => {
                let Some((start, end, value)) = model_containing(model, at) else { return };
                model.remove(&start);
                let fits = free(model, at..at + len) && free(model, at.min(start)..(at + len).max(end));
                assert_eq!(
                    map.resize(start, at..at + len, value),
                    Some(if fits { Ok(()) } else { Err(Overlap) })
                );
                match fits {
                    true => model.insert(at, (at + len, value)),
                    false => model.insert(start, (end, value)),
                };
            }
            Action::Split(at) => {
                let hit = model_containing(model, at).filter(|(s, ..)| *s < at);
                assert_eq!(map.split_at(at, |v| (*v, v.wrapping_add(1))), hit.is_some());
                if let Some((start, end, value)) = hit {
                    model.insert(start, (at, value));
                    model.insert(at, (end, value.wrapping_add(1)));
                }
            }
            Action::Merge(near) => {
                let at = model_containing(model, near).map(|(_, e, _)| e).unwrap_or(near);
                let left = model.iter().find(|(_, (e, _))| *e == at).map(|(s, _)| *s);
                let right = model.get(&at).copied();
                assert_eq!(map.merge_at(at, 7), left.is_some() && right.is_some());
                if let (Some(left), Some((end, _))) = (left, right) {
                    model.remove(&at);
                    model.insert(left, (end, 7));
                }
            }
            Action::GapDown(high, len) => {
                let expect = (100..high.saturating_sub(len) + 1)
                    .rev()
                    .find(|a| free(model, *a..*a + len) && *a + len <= high);
                assert_eq!(map.find_gap_down(100..high.max(100), len, 1), expect);
            }
            Action::GapUp(low, len) => {
                let expect = (low..=2100usize.saturating_sub(len)).find(|a| free(model, *a..*a + len));
                assert_eq!(map.find_gap_up(low..2100, len, 1), expect);
            }
            Action::Snapshot => {}
        }
    }

    fn contents(map: &RangeMap<u32>) -> Vec<(usize, usize, u32)> {
        map.iter().map(|(r, v)| (r.start, r.end, *v)).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_btree_model(actions in proptest::collection::vec(action(), 1..crate::length(600))) {
            let mut map = RangeMap::new();
            let mut model = Model::new();
            let mut snapshots = Vec::new();
            for action in &actions {
                apply(&mut map, &mut model, action);
                let expect: Vec<_> = model.iter().map(|(s, (e, v))| (*s, *e, *v)).collect();
                if let Action::Snapshot = action {
                    prop_assert_eq!(contents(&map), expect.clone());
                    prop_assert_eq!(map.len(), expect.len());
                    let rebuilt = RangeMap::from_sorted(map.iter().map(|(r, v)| (r, *v))).unwrap();
                    prop_assert_eq!(contents(&rebuilt), expect.clone());
                    snapshots.push((map.clone(), expect));
                }
            }
            for (snapshot, expect) in &snapshots {
                prop_assert_eq!(&contents(snapshot), expect);
            }
            for at in (0..2010).step_by(if cfg!(miri) { 61 } else { 1 }) {
                let expect = model_containing(&model, at).map(|(s, e, v)| (s..e, v));
                prop_assert_eq!(map.get(at).map(|(r, v)| (r, *v)), expect);
                let next = model.iter().find(|(_, (e, _))| *e > at).map(|(s, (e, _))| *s..*e);
                prop_assert_eq!(map.find(at).map(|(r, _)| r), next);
                let before = model.range(..at).next_back().map(|(s, (e, _))| *s..*e);
                prop_assert_eq!(map.find_before(at).map(|(r, _)| r), before);
                let some: Vec<_> = map.iter_range(at..at + 9).map(|(r, _)| r.start).collect();
                let expect: Vec<_> =
                    model.iter().filter(|(s, (e, _))| **s < at + 9 && *e > at).map(|(s, _)| *s).collect();
                prop_assert_eq!(some, expect);
            }
        }
    }

    #[test]
    fn aligned_gaps() {
        let mut map = RangeMap::new();
        map.insert(0x3000..0x5000, ()).unwrap();
        assert_eq!(map.find_gap_up(0x1000..0x10_0000, 0x4000, 0x4000), Some(0x8000));
        assert_eq!(map.find_gap_down(0x1000..0x1_1000, 0x4000, 0x4000), Some(0xc000));
        assert_eq!(map.find_gap_down(0x1000..0x6000, 0x4000, 0x1000), None);
        assert_eq!(RangeMap::<()>::new().find_gap_down(0..0x1000, 0x1000, 0x1000), Some(0));
    }

    #[test]
    fn a_node_fills_half_a_kilobyte() {
        assert!(size_of::<Node<Arc<()>>>() + 16 <= 512);
    }
}
