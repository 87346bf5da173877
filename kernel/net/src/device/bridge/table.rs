//! Where a bridge sends what: its forwarding database (FDB).
//!
//! Key types: [`Table`], [`Key`], [`Entry`]. An entry is found by VLAN and address, and by its port, so that a port that goes costs
//! what was learned behind it. All is O(log entries). What ages is gone for look-ups at its moment; its memory comes back
//! when [`Table::collect`] next passes. What can be learned from the wire is bounded ([`LEARNED_MAX`]): beyond that a bridge floods.
//! Locks: the table's is its owner's; times are atomics, so that a packet from a known place changes nothing else.

use alloc::boxed::Box;
use linnet_lib::tree::{Item, Node, Tree};
use machine::sync::atomic::{AtomicU64, Ordering};

/// How many addresses a bridge learns by itself at most.
pub(crate) const LEARNED_MAX: usize = 1 << 16;

/// A port's number; 0 is the bridge itself.
pub(crate) type PortNumber = u16;

/// What an entry is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    /// 0 without VLANs.
    pub(crate) vlan: u16,
    pub(crate) address: [u8; 6],
}

impl Key {
    /// The next key in order; `None` after the last.
    pub(crate) fn next(self) -> Option<Key> {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.vlan.to_be_bytes());
        bytes[2..].copy_from_slice(&self.address);
        let bytes = u64::from_be_bytes(bytes).checked_add(1)?.to_be_bytes();
        let mut address = [0; 6];
        address.copy_from_slice(&bytes[2..]);
        Some(Key { vlan: u16::from_be_bytes([bytes[0], bytes[1]]), address })
    }
}

/// The first of all keys.
pub(crate) const FIRST: Key = Key { vlan: 0, address: [0; 6] };

/// The address is the machine's own: what is for it goes up.
pub(crate) const LOCAL: u8 = 1;
/// It does not age.
pub(crate) const STATIC: u8 = 2;
/// It stays at its port.
pub(crate) const STICKY: u8 = 4;
/// A program added it.
pub(crate) const BY_USER: u8 = 8;
/// A program that learns for the bridge added it.
pub(crate) const EXTERNAL: u8 = 16;

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) port: PortNumber,
    pub(crate) flags: u8,
    /// When it was last heard from there.
    updated_ns: AtomicU64,
    /// When something was last sent there.
    used_ns: AtomicU64,
}

impl Entry {
    fn new(key: Key, port: PortNumber, flags: u8, now: u64) -> Entry {
        Entry { key, port, flags, updated_ns: AtomicU64::new(now), used_ns: AtomicU64::new(now) }
    }

    fn is_learned(&self) -> bool {
        self.flags & (LOCAL | BY_USER | EXTERNAL) == 0
    }

    /// When its time is over, if that ever is.
    fn ends_ns(&self, ageing_ns: u64) -> Option<u64> {
        let ages = self.flags & (STATIC | EXTERNAL) == 0;
        ages.then(|| self.updated_ns.load(Ordering::Relaxed).saturating_add(ageing_ns))
    }

    fn is_gone(&self, now: u64, ageing_ns: u64) -> bool {
        self.ends_ns(ageing_ns).is_some_and(|end| end <= now)
    }

    /// What it says now.
    pub(crate) fn view(&self) -> View {
        View {
            key: self.key,
            port: self.port,
            flags: self.flags,
            updated_ns: self.updated_ns.load(Ordering::Relaxed),
            used_ns: self.used_ns.load(Ordering::Relaxed),
        }
    }
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

/// A copy of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    pub(crate) key: Key,
    pub(crate) port: PortNumber,
    pub(crate) flags: u8,
    pub(crate) updated_ns: u64,
    pub(crate) used_ns: u64,
}

#[derive(Debug)]
struct ByPort {
    port: PortNumber,
    key: Key,
}

impl Item for ByPort {
    type Key = (PortNumber, Key);
    type Summary = ();
    fn key(&self) -> Self::Key {
        (self.port, self.key)
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The memory of an entry.
pub(crate) struct Place {
    entry: Box<Node<Entry>>,
    by_port: Box<Node<ByPort>>,
}

impl Place {
    /// Memory for one; `None` if there is none.
    pub(crate) fn new(key: Key, port: PortNumber, flags: u8, now: u64) -> Option<Place> {
        Some(Place {
            entry: machine::memory::try_box(Node::new(Entry::new(key, port, flags, now))).ok()?,
            by_port: machine::memory::try_box(Node::new(ByPort { port, key })).ok()?,
        })
    }
}

/// What a packet from an address at a port means to the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// It is known there; its time has been renewed.
    Known,
    /// It is not known, or somewhere else: [`Table::learn`] it.
    News,
    /// It may not be learned there.
    Refused,
}

/// The entries of one bridge.
#[derive(Default)]
pub(crate) struct Table {
    entries: Tree<Entry>,
    by_port: Tree<ByPort>,
    learned: usize,
}

impl Table {
    /// The entry of a key unless its time is over.
    pub(crate) fn get(&self, key: &Key, now: u64, ageing_ns: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| !entry.is_gone(now, ageing_ns))
    }

    /// Where to send what is for a key: the port, and whether it is for the machine itself. Notes the use.
    pub(crate) fn route(&self, key: &Key, now: u64, ageing_ns: u64) -> Option<(PortNumber, bool)> {
        let entry = self.get(key, now, ageing_ns)?;
        let is_local = entry.flags & LOCAL != 0;
        if !is_local {
            entry.used_ns.store(now, Ordering::Relaxed);
        }
        Some((entry.port, is_local))
    }

    /// A packet came from an address at a port.
    pub(crate) fn hear(&self, key: &Key, port: PortNumber, now: u64, most: usize) -> Heard {
        match self.entries.get(key) {
            Some(entry) if entry.flags & LOCAL != 0 => Heard::Refused,
            Some(entry) if entry.port == port => {
                entry.updated_ns.store(now, Ordering::Relaxed);
                Heard::Known
            }
            Some(entry) if entry.flags & STICKY != 0 => Heard::Refused,
            Some(_) => Heard::News,
            None if self.learned >= most => Heard::Refused,
            None => Heard::News,
        }
    }

    /// Notes where an address is now. True if that is news.
    pub(crate) fn learn(&mut self, place: Place, most: usize) -> bool {
        let (key, port) = (place.entry.key, place.entry.port);
        let now = place.entry.updated_ns.load(Ordering::Relaxed);
        match self.hear(&key, port, now, most) {
            Heard::Known | Heard::Refused => false,
            Heard::News if self.entries.get(&key).is_some() => {
                self.move_to(&key, port, now);
                true
            }
            Heard::News => {
                self.insert(place);
                true
            }
        }
    }

    fn move_to(&mut self, key: &Key, port: PortNumber, now: u64) {
        let Some(mut entry) = self.entries.remove(key) else { return };
        if let Some(mut by_port) = self.by_port.remove(&(entry.port, *key)) {
            by_port.port = port;
            self.by_port.insert(by_port);
        }
        entry.port = port;
        entry.updated_ns.store(now, Ordering::Relaxed);
        // It belonged to where it was.
        if entry.flags & EXTERNAL != 0 {
            entry.flags &= !EXTERNAL;
            self.learned += usize::from(entry.is_learned());
        }
        self.entries.insert(entry);
    }

    /// Puts an entry in, in place of the one there was.
    pub(crate) fn insert(&mut self, place: Place) -> Option<View> {
        let old = self.remove(&place.entry.key);
        self.learned += usize::from(place.entry.is_learned());
        self.entries.insert(place.entry);
        self.by_port.insert(place.by_port);
        old
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<View> {
        let entry = self.entries.remove(key)?;
        let by_port = self.by_port.remove(&(entry.port, *key));
        debug_assert!(by_port.is_some());
        self.learned -= usize::from(entry.is_learned());
        Some(entry.view())
    }

    /// The first entry from a key on.
    pub(crate) fn next_from(&self, key: &Key) -> Option<View> {
        self.entries.first_from(key).map(Entry::view)
    }

    /// The first entry of a port from a key on.
    pub(crate) fn next_of_port(&self, port: PortNumber, key: &Key) -> Option<View> {
        let found = self.by_port.first_from(&(port, *key)).filter(|found| found.port == port)?;
        self.entries.get(&found.key).map(Entry::view)
    }

    /// How many were learned by listening.
    pub(crate) fn learned(&self) -> usize {
        self.learned
    }

    /// Removes those of `budget` entries from `from` on whose time is over; tells `gone` of each, and gives where to go on. `next`
    /// becomes when the first of the others is over, if that is sooner.
    pub(crate) fn collect(
        &mut self,
        from: Key,
        now: u64,
        ageing_ns: u64,
        budget: usize,
        next: &mut u64,
        mut gone: impl FnMut(View),
    ) -> Option<Key> {
        let mut at = from;
        for _ in 0..budget {
            let entry = self.entries.first_from(&at)?;
            let key = entry.key;
            match entry.ends_ns(ageing_ns) {
                Some(end) if end <= now => {
                    self.remove(&key).into_iter().for_each(&mut gone);
                }
                Some(end) => *next = end.min(*next),
                None => {}
            }
            at = key.next()?;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const AGEING: u64 = 300;
    const MOST: usize = 6;

    fn key(number: u8) -> Key {
        Key { vlan: 0, address: [2, 0, 0, 0, 0, number] }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Hear(u8, u16),
        Add(u8, u16, u8),
        Remove(u8),
        DropPort(u16),
        Wait(u64),
        Collect,
    }

    fn step() -> impl Strategy<Value = Step> {
        let flags = prop_oneof![
            Just(LOCAL | STATIC),
            Just(STATIC | BY_USER),
            Just(BY_USER),
            Just(STATIC | STICKY | BY_USER),
            Just(EXTERNAL),
        ];
        prop_oneof![
            6 => (0..9u8, 1..4u16).prop_map(|(address, port)| Step::Hear(address, port)),
            2 => (0..9u8, 1..4u16, flags).prop_map(|(address, port, flags)| Step::Add(address, port, flags)),
            1 => (0..9u8).prop_map(Step::Remove),
            1 => (1..4u16).prop_map(Step::DropPort),
            2 => (0..200u64).prop_map(Step::Wait),
            1 => Just(Step::Collect),
        ]
    }

    /// What is known of an address: port, flags, since when.
    type Model = BTreeMap<u8, (u16, u8, u64)>;

    fn model_gone(entry: &(u16, u8, u64), now: u64) -> bool {
        entry.1 & (STATIC | EXTERNAL) == 0 && entry.2 + AGEING <= now
    }

    fn learned(model: &Model) -> usize {
        model.values().filter(|entry| entry.1 & (LOCAL | BY_USER | EXTERNAL) == 0).count()
    }

    fn model_hear(model: &mut Model, address: u8, port: u16, now: u64) {
        let full = learned(model) >= MOST;
        match model.get_mut(&address) {
            Some((_, flags, _)) if *flags & LOCAL != 0 => {}
            Some((at, flags, _)) if *at != port && *flags & STICKY != 0 => {}
            Some((at, flags, since)) => {
                if *at != port {
                    *flags &= !EXTERNAL;
                }
                (*at, *since) = (port, now);
            }
            None if full => {}
            None => drop(model.insert(address, (port, 0, now))),
        }
    }

    fn agree(table: &Table, model: &Model, now: u64) {
        assert_eq!(table.learned(), learned(model));
        for address in 0..9 {
            let wanted = model.get(&address).filter(|entry| !model_gone(entry, now));
            let wanted = wanted.map(|entry| (entry.0, entry.1 & LOCAL != 0));
            assert_eq!(table.route(&key(address), now, AGEING), wanted, "{address}");
        }
        for port in 1..4 {
            let mut found = Vec::new();
            let mut at = key(0);
            while let Some(view) = table.next_of_port(port, &at) {
                found.push(view.key.address[5]);
                at = view.key.next().unwrap();
            }
            let wanted: Vec<u8> =
                model.iter().filter(|(_, entry)| entry.0 == port).map(|(address, _)| *address).collect();
            assert_eq!(found, wanted);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_learning_bridge(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut table, mut model, mut now) = (Table::default(), Model::new(), 1000);
            for step in steps {
                match step {
                    Step::Hear(address, port) => {
                        if table.hear(&key(address), port, now, MOST) == Heard::News {
                            table.learn(Place::new(key(address), port, 0, now).unwrap(), MOST);
                        }
                        model_hear(&mut model, address, port, now);
                    }
                    Step::Add(address, port, flags) => {
                        table.insert(Place::new(key(address), port, flags, now).unwrap());
                        model.insert(address, (port, flags, now));
                    }
                    Step::Remove(address) => {
                        prop_assert_eq!(table.remove(&key(address)).is_some(), model.remove(&address).is_some());
                    }
                    Step::DropPort(port) => {
                        while let Some(view) = table.next_of_port(port, &FIRST) {
                            table.remove(&view.key);
                        }
                        model.retain(|_, entry| entry.0 != port);
                    }
                    Step::Wait(time) => now += time,
                    Step::Collect => {
                        let (mut from, mut next) = (Some(FIRST), u64::MAX);
                        while let Some(at) = from {
                            from = table.collect(at, now, AGEING, 2, &mut next, |_| {});
                        }
                        model.retain(|_, entry| !model_gone(entry, now));
                        let ages = |entry: &&(u16, u8, u64)| entry.1 & (STATIC | EXTERNAL) == 0;
                        let first = model.values().filter(ages).map(|entry| entry.2 + AGEING).min();
                        prop_assert_eq!(next, first.unwrap_or(u64::MAX));
                    }
                }
                agree(&table, &model, now);
            }
        }
    }

    #[test]
    fn keys_have_an_order() {
        let last = Key { vlan: u16::MAX, address: [0xff; 6] };
        assert_eq!(last.next(), None);
        assert_eq!(Key { vlan: 1, address: [0xff; 6] }.next(), Some(Key { vlan: 2, address: [0; 6] }));
    }
}
