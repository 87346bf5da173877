//! Numbers from 0 up that stand for something: look-up, removal and the lowest free number, without allocating.
//!
//! Key type: [`IdTable`]. Numbers lie in pages of [`PAGE`], which are the items of a balanced tree: a table of small numbers
//! costs little more than an array, a far one costs a page. A tree's summary counts pages and knows whether one has room, so
//! that the lowest free number is one descent; taking a number out only looks its page up, unless that was full or
//! becomes empty. The caller brings the memory ([`spare`]) and gets it back, so that both may happen under a spin lock.
//!
//! Neighbours: [`crate::tree`]; `net`'s ids of namespaces. No locks.

use crate::tree::{Drain, Item, Node, Tree, Turn};
use alloc::boxed::Box;

/// Numbers in a page: as many as fill 256 bytes.
pub const PAGE: usize = 28;
const FULL: u32 = (1 << PAGE) - 1;

/// Some consecutive numbers.
pub struct Page<T> {
    values: [Option<T>; PAGE],
    number: u32,
    /// Which of them are taken.
    taken: u32,
}

/// How many pages there are; the highest bit: one of them has room.
#[derive(Clone, Copy)]
pub struct Filling(u32);

impl Filling {
    const ROOM: u32 = 1 << 31;

    fn pages(self) -> u32 {
        self.0 & !Self::ROOM
    }

    fn has_room(self) -> bool {
        self.0 & Self::ROOM != 0
    }
}

impl<T> Item for Page<T> {
    type Key = u32;
    type Summary = Filling;
    fn key(&self) -> u32 {
        self.number
    }
    fn summary(&self) -> Filling {
        Filling(if self.taken == FULL { 1 } else { 1 | Filling::ROOM })
    }
    fn merge(left: Filling, right: Filling) -> Filling {
        Filling((left.pages() + right.pages()) | ((left.0 | right.0) & Filling::ROOM))
    }
}

/// A page in a box: what an [`IdTable`] grows by.
pub type Spare<T> = Box<Node<Page<T>>>;

/// An empty page, to be put into a box by the caller.
pub fn spare<T>() -> Node<Page<T>> {
    Node::new(Page { values: [const { None }; PAGE], number: 0, taken: 0 })
}

/// The page of a number and its place there.
fn split(id: u32) -> (u32, usize) {
    (id / PAGE as u32, id as usize % PAGE)
}

/// See the module.
pub struct IdTable<T> {
    pages: Tree<Page<T>>,
    len: usize,
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> IdTable<T> {
    /// One without numbers.
    pub const fn new() -> Self {
        Self { pages: Tree::new(), len: 0 }
    }

    /// How many numbers are taken.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What a number stands for. O(log pages).
    pub fn get(&self, id: u32) -> Option<&T> {
        let (page, place) = split(id);
        self.pages.get(&page)?.values.get(place)?.as_ref()
    }

    /// The lowest number that is free. O(log pages).
    pub fn lowest_free(&self) -> u32 {
        // The first page that is missing or has room, as far as is known.
        let mut page = 0;
        let found = self.pages.descend(|left, here| {
            let left_is_complete = left
                .map_or(here.number == page, |left| !left.has_room() && page + left.pages() == here.number);
            if !left_is_complete {
                return Turn::Left;
            }
            page = here.number;
            if here.taken != FULL {
                return Turn::Here;
            }
            page += 1;
            Turn::Right
        });
        let place = found.map_or(0, |page| page.taken.trailing_ones());
        page * PAGE as u32 + place
    }

    /// The first taken number from `id` on. O(log pages).
    pub fn next_from(&self, id: u32) -> Option<(u32, &T)> {
        let (page, place) = split(id);
        let first_in = |page: &'_ Page<T>, from: usize| {
            let rest = page.taken >> from << from;
            (rest != 0).then(|| rest.trailing_zeros() as usize)
        };
        let mut found = self.pages.first_from(&page)?;
        let at = if found.number == page { first_in(found, place) } else { first_in(found, 0) };
        let at = match at {
            Some(at) => at,
            None => {
                found = self.pages.first_from(&page.checked_add(1)?)?;
                first_in(found, 0)?
            }
        };
        Some((found.number * PAGE as u32 + at as u32, found.values.get(at)?.as_ref()?))
    }

    /// Lets a free number stand for a value, in the spare page if its own is missing; the value comes back if there is
    /// none either, or if the number is taken.
    pub fn insert(&mut self, id: u32, value: T, spare: &mut Option<Spare<T>>) -> Result<(), T> {
        let (number, place) = split(id);
        if self.pages.get(&number).is_none() {
            let Some(mut page) = spare.take() else { return Err(value) };
            page.number = number;
            self.pages.insert(page);
        }
        let Some(page) = self.pages.get_mut(&number) else { return Err(value) };
        match page.values.get_mut(place) {
            Some(free @ None) => *free = Some(value),
            _ => return Err(value),
        }
        page.taken |= 1 << place;
        if page.taken == FULL {
            self.pages.refresh(&number);
        }
        self.len += 1;
        Ok(())
    }

    /// Frees a number: what it stood for, and the page if that is empty now. Both are the caller's to drop.
    pub fn remove(&mut self, id: u32) -> Option<(T, Option<Spare<T>>)> {
        let (number, place) = split(id);
        let page = self.pages.get_mut(&number)?;
        let value = page.values.get_mut(place)?.take()?;
        let was_full = page.taken == FULL;
        page.taken &= !(1 << place);
        let is_empty = page.taken == 0;
        self.len -= 1;
        let emptied = if is_empty {
            self.pages.remove(&number)
        } else {
            if was_full {
                self.pages.refresh(&number);
            }
            None
        };
        Some((value, emptied))
    }

    /// All numbers with what they stand for, in order.
    pub fn drain(self) -> impl Iterator<Item = (u32, T)> {
        let pages: Drain<Page<T>> = self.pages.drain();
        pages.flat_map(|mut page| {
            let first = page.number * PAGE as u32;
            let values = core::mem::replace(&mut page.values, [const { None }; PAGE]);
            values.into_iter().zip(first..).filter_map(|(value, id)| Some((id, value?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn spare_box<T>() -> Option<Spare<T>> {
        Some(Box::new(spare()))
    }

    #[test]
    fn a_page_fills_its_allocation() {
        assert_eq!(size_of::<Node<Page<Box<u8>>>>(), 256);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..4, 0u32..120), 1..crate::length(600)), far in 0u32..i32::MAX as u32) {
            let mut table = IdTable::new();
            let mut model = BTreeMap::new();
            for (what, id) in steps {
                let id = if id == 119 { far } else { id };
                match what {
                    0 => {
                        let lowest = table.lowest_free();
                        prop_assert!(table.insert(lowest, lowest, &mut spare_box()).is_ok());
                        prop_assert_eq!(model.insert(lowest, lowest), None);
                    }
                    1 => {
                        let added = table.insert(id, id, &mut spare_box()).is_ok();
                        prop_assert_eq!(added, !model.contains_key(&id));
                        model.insert(id, id);
                    }
                    _ => prop_assert_eq!(table.remove(id).map(|(value, _)| value), model.remove(&id)),
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.lowest_free(), (0..).find(|id| !model.contains_key(id)).unwrap());
                prop_assert_eq!(table.get(id), model.get(&id));
                let next = model.range(id..).next().map(|(id, value)| (*id, value));
                prop_assert_eq!(table.next_from(id), next);
            }
            prop_assert!(table.drain().eq(model));
        }
    }

    #[test]
    fn without_a_spare_page_nothing_changes() {
        let mut table = IdTable::new();
        assert_eq!(table.insert(5, 'a', &mut None), Err('a'));
        assert!(table.is_empty() && table.insert(5, 'a', &mut spare_box()).is_ok());
        // The page is there now.
        assert_eq!(table.insert(6, 'b', &mut None), Ok(()));
        assert_eq!(table.insert(6, 'c', &mut None), Err('c'));
        assert!(table.remove(5).unwrap().1.is_none() && table.remove(6).unwrap().1.is_some());
        assert_eq!(table.drain().collect::<Vec<_>>(), []);
    }
}
