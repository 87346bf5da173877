//! The devices of one namespace, by index and by name.
//!
//! Key type: [`DeviceTable`]. Both trees are balanced and keyed, so that a look-up is O(log devices) and a dump goes on from an
//! index. Names hash under a key of the machine's, so that nobody can choose names that collide; those that differ in the
//! number at their end only lie beside each other and are counted, so that the lowest free number of a pattern is one descent.
//! Locks: a leaf reader-writer spinlock; changes also need [`super::Rtnl`] of the namespace, so that who holds that sees a
//! stable table.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::tree::{Item, Node, Tree, Turn};
use machine::memory::try_box;
use machine::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use machine::sync::{Lazy, RwSpinLock};

use super::NetDevice;
use super::taps::Taps;

struct ByIndex {
    index: i32,
    device: Arc<NetDevice>,
}

impl Item for ByIndex {
    type Key = i32;
    type Summary = ();
    fn key(&self) -> i32 {
        self.index
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// A name, ordered by the hash of its stem, its number, and then by when it was added.
struct ByName {
    stem: (u64, u32),
    serial: u64,
    name: Box<[u8]>,
    device: Arc<NetDevice>,
}

impl Item for ByName {
    type Key = ((u64, u32), u64);
    /// How many there are.
    type Summary = u32;
    fn key(&self) -> Self::Key {
        (self.stem, self.serial)
    }
    fn summary(&self) -> u32 {
        1
    }
    fn merge(left: u32, right: u32) -> u32 {
        left + right
    }
}

#[derive(Default)]
struct Trees {
    by_index: Tree<ByIndex>,
    by_name: Tree<ByName>,
    serial: u64,
}

/// See the module.
pub struct DeviceTable {
    trees: RwSpinLock<Trees>,
    /// The last index given.
    last_index: AtomicI32,
    count: AtomicUsize,
    /// Counts changes: a dump that sees it move says so (NLM_F_DUMP_INTR).
    generation: AtomicU32,
    /// Who listens to all of them.
    taps: Taps,
}

/// The memory of an index or name, taken before the table is changed.
pub(crate) struct Place<T: Item>(Box<Node<T>>);

fn hash(name: &[u8]) -> u64 {
    static KEY: Lazy<u64> = Lazy::new(|| {
        let mut bytes = [0; 8];
        machine::random::fill(&mut bytes);
        u64::from_ne_bytes(bytes) | 1
    });
    name.iter().fold(*KEY, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ *KEY
    })
}

/// What comes before the number at a name's end, hashed, and the number, if it is written as `%d` would; else the whole name
/// and a number that none has.
fn stem(name: &[u8]) -> (u64, u32) {
    const MOST_DIGITS: usize = 9;
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = name.split_at(name.len() - digits);
    let is_written_so = number == b"0" || (1..=MOST_DIGITS).contains(&digits) && number[0] != b'0';
    if !is_written_so {
        return (hash(name), u32::MAX);
    }
    (hash(before), number.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

impl DeviceTable {
    pub(crate) fn new() -> DeviceTable {
        DeviceTable {
            trees: RwSpinLock::new(Trees::default()),
            last_index: AtomicI32::new(0),
            count: AtomicUsize::new(0),
            generation: AtomicU32::new(0),
            taps: Taps::default(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who listens to all of them.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// Moves with every change of what a dump would show.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn note_change(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The device with this index. Any context.
    pub fn by_index(&self, index: i32) -> Option<Arc<NetDevice>> {
        self.trees.read().by_index.get(&index).map(|found| found.device.clone())
    }

    /// The device with this name, be it an alternative one. Any context.
    pub fn by_name(&self, name: &[u8]) -> Option<Arc<NetDevice>> {
        let stem = stem(name);
        let trees = self.trees.read();
        let mut at = (stem, 0);
        loop {
            let found = trees.by_name.first_from(&at).filter(|found| found.stem == stem)?;
            if *found.name == *name {
                return Some(found.device.clone());
            }
            at = (stem, found.serial + 1);
        }
    }

    /// The lowest number that with `before` is nobody's name, if `before` does not end in a digit; where it does, 0: each has to be
    /// tried. Also where the hashes of two stems collide, which nobody can bring about, it is only where to begin. O(log names).
    pub(super) fn lowest_free_number(&self, before: &[u8]) -> u32 {
        if before.last().is_some_and(u8::is_ascii_digit) {
            return 0;
        }
        let first = ((hash(before), 0), 0);
        let trees = self.trees.read();
        // Names before those of this stem, then those of them up to the first gap.
        let mut passed = 0;
        let mut earlier = 0;
        trees.by_name.descend(|left, item| {
            let place = earlier + left.unwrap_or(0);
            if item.key() < first {
                earlier = place + 1;
                return Turn::Right;
            }
            Turn::Left
        });
        trees.by_name.descend(|left, item| {
            let place = passed + left.unwrap_or(0);
            let is_passed = item.key() < first || item.stem == (first.0.0, place.wrapping_sub(earlier));
            if is_passed {
                passed = place + 1;
                return Turn::Right;
            }
            Turn::Left
        });
        passed.saturating_sub(earlier)
    }

    /// The first device with an index from `index` on. Behind the greatest index, which wraps around, there is none.
    pub fn next_from(&self, index: i32) -> Option<Arc<NetDevice>> {
        if index < 0 {
            return None;
        }
        self.trees.read().by_index.first_from(&index).map(|found| found.device.clone())
    }

    /// The last device with an index up to `index`.
    pub fn previous_to(&self, index: i32) -> Option<Arc<NetDevice>> {
        self.trees.read().by_index.last_to(&index).map(|found| found.device.clone())
    }

    /// Adds a device under an index: the one wanted, or the next after the last one given. Under rtnl.
    /// `EBUSY`: it is taken; `ENOMEM`.
    pub(super) fn add(&self, device: &Arc<NetDevice>, wanted: Option<i32>) -> Result<()> {
        let index = match wanted {
            Some(index) if self.by_index(index).is_some() => return Err(Errno::EBUSY),
            Some(index) => index,
            None => self.next_free_index(),
        };
        let place =
            try_box(Node::new(ByIndex { index, device: device.clone() })).map_err(|_| Errno::ENOMEM)?;
        self.trees.write().by_index.insert(place);
        device.index.store(index, Ordering::Relaxed);
        if wanted.is_none() {
            self.last_index.store(index, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.note_change();
        Ok(())
    }

    fn next_free_index(&self) -> i32 {
        let mut index = self.last_index.load(Ordering::Relaxed);
        loop {
            index = if index == i32::MAX { 1 } else { index + 1 };
            if self.by_index(index).is_none() {
                return index;
            }
        }
    }

    /// Takes a device's index out.
    pub(super) fn remove(&self, index: i32) {
        let taken = self.trees.write().by_index.remove(&index);
        if taken.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.note_change();
        }
    }

    /// Takes memory for a name. `ENOMEM`.
    fn place(device: &Arc<NetDevice>, name: &[u8]) -> Result<Place<ByName>> {
        let mut bytes = alloc::vec::Vec::new();
        bytes.try_reserve_exact(name.len()).map_err(|_| Errno::ENOMEM)?;
        bytes.extend_from_slice(name);
        let item =
            ByName { stem: stem(name), serial: 0, name: bytes.into_boxed_slice(), device: device.clone() };
        try_box(Node::new(item)).map(Place).map_err(|_| Errno::ENOMEM)
    }

    /// Adds a name; it is not there yet. Under rtnl. `ENOMEM`.
    pub(super) fn add_name(&self, device: &Arc<NetDevice>, name: &[u8]) -> Result<()> {
        let Place(mut node) = DeviceTable::place(device, name)?;
        let mut trees = self.trees.write();
        trees.serial += 1;
        node.serial = trees.serial;
        trees.by_name.insert(node);
        drop(trees);
        self.note_change();
        Ok(())
    }

    /// Takes a name out.
    pub(super) fn remove_name(&self, name: &[u8]) {
        let stem = stem(name);
        let mut trees = self.trees.write();
        let mut at = (stem, 0);
        let mut taken = None;
        while let Some(found) = trees.by_name.first_from(&at).filter(|found| found.stem == stem) {
            let key = found.key();
            if *found.name == *name {
                taken = trees.by_name.remove(&key);
                break;
            }
            at = (stem, key.1 + 1);
        }
        drop(trees);
        drop(taken);
        self.note_change();
    }
}
