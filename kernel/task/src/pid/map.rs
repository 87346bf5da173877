//! A map from small non-negative numbers to values that also hands out free numbers.
//!
//! [`IdMap`] is a radix tree of 64-way nodes; each node knows which of its slots are used and which are full, so
//! that finding a value, the next used number and the next free number all take O(log n) steps: at most
//! four nodes for the 2²² process ids Linux allows. Used for process ids (cyclic allocation) and POSIX timers.
//! Pure; the owner's lock protects it.

use alloc::boxed::Box;
use alloc::vec::Vec;

const BITS: u32 = 6;
const WIDTH: usize = 1 << BITS;

/// A map from `u32` to `T` with allocation of free numbers.
#[derive(Debug)]
pub struct IdMap<T> {
    root: Option<Box<Node<T>>>,
    /// Levels below and with the root; the map covers `64^height` numbers.
    height: u32,
    /// Numbers below this exist.
    limit: u32,
    used: usize,
}

#[derive(Debug)]
struct Node<T> {
    /// Slots with anything in them.
    present: u64,
    /// Slots with no free number below them.
    full: u64,
    slots: Slots<T>,
}

#[derive(Debug)]
enum Slots<T> {
    Inner(Vec<Option<Box<Node<T>>>>),
    Leaf(Vec<Option<T>>),
}

/// Memory ran out.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct NoMemory;

/// Why no number was handed out.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum AllocateError {
    /// All numbers of the range are used.
    Full,
    /// Memory ran out.
    NoMemory,
}

impl<T> Node<T> {
    fn new(level: u32) -> Result<Box<Node<T>>, NoMemory> {
        let slots = if level == 0 {
            let mut leaf = Vec::new();
            leaf.try_reserve_exact(WIDTH).map_err(|_| NoMemory)?;
            leaf.resize_with(WIDTH, || None);
            Slots::Leaf(leaf)
        } else {
            let mut inner = Vec::new();
            inner.try_reserve_exact(WIDTH).map_err(|_| NoMemory)?;
            inner.resize_with(WIDTH, || None);
            Slots::Inner(inner)
        };
        Ok(Box::new(Node { present: 0, full: 0, slots }))
    }

    fn child(&self, index: usize) -> Option<&Node<T>> {
        match &self.slots {
            Slots::Inner(inner) => inner.get(index)?.as_deref(),
            Slots::Leaf(_) => None,
        }
    }
}

const fn slot_of(id: u32, level: u32) -> usize {
    (id >> (BITS * level)) as usize & (WIDTH - 1)
}

/// Bits of `mask` at `from` and above.
const fn at_and_above(mask: u64, from: usize) -> u64 {
    if from >= WIDTH { 0 } else { mask & (u64::MAX << from) }
}

impl<T> IdMap<T> {
    /// A map of the numbers 0 to `limit` - 1.
    pub const fn new(limit: u32) -> IdMap<T> {
        let mut height = 1;
        while height < 5 && limit as u64 > 1 << (BITS * height) {
            height += 1;
        }
        IdMap { root: None, height, limit, used: 0 }
    }

    /// How many numbers are used.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no number is used.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The value of `id`.
    pub fn get(&self, id: u32) -> Option<&T> {
        if id >= self.limit {
            return None;
        }
        let mut node = self.root.as_deref()?;
        for level in (1..self.height).rev() {
            node = node.child(slot_of(id, level))?;
        }
        match &node.slots {
            Slots::Leaf(leaf) => leaf.get(slot_of(id, 0))?.as_ref(),
            Slots::Inner(_) => None,
        }
    }

    /// The value of `id`, to change it.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        if id >= self.limit {
            return None;
        }
        let mut node = self.root.as_deref_mut()?;
        for level in (1..self.height).rev() {
            node = match &mut node.slots {
                Slots::Inner(inner) => inner.get_mut(slot_of(id, level))?.as_deref_mut()?,
                Slots::Leaf(_) => return None,
            };
        }
        match &mut node.slots {
            Slots::Leaf(leaf) => leaf.get_mut(slot_of(id, 0))?.as_mut(),
            Slots::Inner(_) => None,
        }
    }

    /// Sets the value of `id`, which is free; gives the value back when `id` is used or out of range.
    pub fn insert(&mut self, id: u32, value: T) -> Result<Option<T>, NoMemory> {
        if id >= self.limit || self.get(id).is_some() {
            return Ok(Some(value));
        }
        if self.root.is_none() {
            self.root = Some(Node::new(self.height - 1)?);
        }
        if let Some(root) = &mut self.root {
            insert_below(root, self.height - 1, id, value)?;
            self.used += 1;
        }
        Ok(None)
    }

    /// Frees `id` and gives its value.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        if id >= self.limit {
            return None;
        }
        let root = self.root.as_mut()?;
        let value = remove_below(root, self.height - 1, id)?;
        self.used -= 1;
        if root.present == 0 {
            self.root = None;
        }
        Some(value)
    }

    /// The lowest free number in `from..to`.
    pub fn next_free(&self, from: u32, to: u32) -> Option<u32> {
        let to = to.min(self.limit);
        let found = match &self.root {
            None => from,
            Some(root) => find_free(root, self.height - 1, from)?,
        };
        (found < to).then_some(found)
    }

    /// The lowest used number at or above `from`, with its value.
    pub fn next_used(&self, from: u32) -> Option<(u32, &T)> {
        if from >= self.limit {
            return None;
        }
        find_used(self.root.as_deref()?, self.height - 1, from, 0)
    }

    /// Takes the next free number at or after `start`, going round within `low..high`.
    pub fn allocate_cyclic(
        &mut self,
        start: u32,
        low: u32,
        high: u32,
        value: T,
    ) -> Result<u32, AllocateError> {
        let start = if start < low || start >= high { low } else { start };
        let free = self.next_free(start, high).or_else(|| self.next_free(low, start));
        let id = free.ok_or(AllocateError::Full)?;
        self.insert(id, value).map_err(|NoMemory| AllocateError::NoMemory)?;
        Ok(id)
    }

    /// The used numbers and their values in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let (id, value) = self.next_used(next?)?;
            next = id.checked_add(1);
            Some((id, value))
        })
    }
}

fn insert_below<T>(node: &mut Node<T>, level: u32, id: u32, value: T) -> Result<(), NoMemory> {
    let index = slot_of(id, level);
    match &mut node.slots {
        Slots::Leaf(leaf) => {
            leaf[index] = Some(value);
            node.full |= 1 << index;
        }
        Slots::Inner(inner) => {
            let mut fresh = None;
            let child = match &mut inner[index] {
                Some(child) => child,
                None => fresh.insert(Node::new(level - 1)?),
            };
            insert_below(child, level - 1, id, value)?;
            if child.full == u64::MAX {
                node.full |= 1 << index;
            }
            if fresh.is_some() {
                inner[index] = fresh;
            }
        }
    }
    node.present |= 1 << index;
    Ok(())
}

fn remove_below<T>(node: &mut Node<T>, level: u32, id: u32) -> Option<T> {
    let index = slot_of(id, level);
    let value = match &mut node.slots {
        Slots::Leaf(leaf) => {
            let value = leaf[index].take()?;
            node.present &= !(1 << index);
            value
        }
        Slots::Inner(inner) => {
            let child = inner[index].as_mut()?;
            let value = remove_below(child, level - 1, id)?;
            if child.present == 0 {
                inner[index] = None;
                node.present &= !(1 << index);
            }
            value
        }
    };
    node.full &= !(1 << index);
    Some(value)
}

/// The lowest free number at or above `from`, as if the tree went on for ever below its root.
fn find_free<T>(node: &Node<T>, level: u32, from: u32) -> Option<u32> {
    if u64::from(from) >> (BITS * (level + 1)) != 0 {
        return None;
    }
    let shift = BITS * level;
    let mut index = slot_of(from, level);
    let mut rest = from & ((1u32 << shift) - 1);
    loop {
        let candidates = at_and_above(!node.full, index);
        if candidates == 0 {
            return None;
        }
        let slot = candidates.trailing_zeros() as usize;
        if slot != index {
            rest = 0;
        }
        let base = (slot as u32) << shift;
        if level == 0 {
            return Some(slot as u32);
        }
        match node.child(slot) {
            None => return Some(base | rest),
            Some(child) => {
                if let Some(found) = find_free(child, level - 1, rest) {
                    return Some(base | found);
                }
            }
        }
        index = slot + 1;
        rest = 0;
    }
}

fn find_used<T>(node: &Node<T>, level: u32, from: u32, base: u32) -> Option<(u32, &T)> {
    let shift = BITS * level;
    let mut index = slot_of(from, level);
    let mut rest = from & ((1u32 << shift) - 1);
    loop {
        let candidates = at_and_above(node.present, index);
        if candidates == 0 {
            return None;
        }
        let slot = candidates.trailing_zeros() as usize;
        if slot != index {
            rest = 0;
        }
        let below = base | (slot as u32) << shift;
        match &node.slots {
            Slots::Leaf(leaf) => return Some((below, leaf.get(slot)?.as_ref()?)),
            Slots::Inner(_) => {
                if let Some(found) = find_used(node.child(slot)?, level - 1, rest, below) {
                    return Some(found);
                }
            }
        }
        index = slot + 1;
        rest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn allocation_goes_round() {
        let mut map = IdMap::new(1 << 22);
        assert_eq!(map.allocate_cyclic(1, 1, 300, ()), Ok(1));
        assert_eq!(map.allocate_cyclic(299, 1, 300, ()), Ok(299));
        assert_eq!(map.allocate_cyclic(300, 1, 300, ()), Ok(2));
        for _ in 0..296 {
            map.allocate_cyclic(100, 1, 300, ()).unwrap();
        }
        assert_eq!(map.len(), 299);
        assert_eq!(map.allocate_cyclic(5, 1, 300, ()), Err(AllocateError::Full));
        assert_eq!(map.remove(77), Some(()));
        assert_eq!(map.allocate_cyclic(200, 1, 300, ()), Ok(77));
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0..4u8, 0..9000u32, 0..9000u32), 0..300),
            dense in 0..200u32,
        ) {
            let limit = 8192;
            let mut map = IdMap::new(limit);
            let mut model = BTreeMap::new();
            for id in 0..dense {
                map.insert(id, id).unwrap();
                model.insert(id, id);
            }
            for (kind, id, other) in steps {
                match kind {
                    0 => {
                        let refused = map.insert(id, other).unwrap();
                        if id < limit && !model.contains_key(&id) {
                            prop_assert_eq!(refused, None);
                            model.insert(id, other);
                        } else {
                            prop_assert_eq!(refused, Some(other));
                        }
                    }
                    1 => prop_assert_eq!(map.remove(id), model.remove(&id)),
                    2 => {
                        let expected = (id..other.min(limit)).find(|n| !model.contains_key(n));
                        prop_assert_eq!(map.next_free(id, other), expected);
                    }
                    _ => {
                        let expected = model.range(id..).next().map(|(a, b)| (*a, b));
                        prop_assert_eq!(map.next_used(id), expected);
                        prop_assert_eq!(map.get(id), model.get(&id));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!(map.iter().map(|(a, b)| (a, *b)).eq(model.into_iter()));
        }
    }
}
