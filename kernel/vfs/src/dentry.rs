//! The dentry cache: names and what they stand for, found without a lock.
//!
//! Key types: [`Dentry`] (one name in one directory; negative if the name stands for nothing), [`RENAMES`].
//! Neighbours: `namei` (walks), `directory` (changes names), `mount`.
//!
//! All names are in one hash table whose chains are read under RCU. These rules make a walk over it right without
//! sequence checks on every step:
//!
//! * The inode of a dentry is written once. A name that is removed loses its dentry (it leaves the table, marked
//!   [`flag::DELETED`]); the next file of that name gets another one. So what was checked on a dentry's inode holds for
//!   the children found under that dentry.
//! * Parent and name of a dentry are one immutable value ([`Place`]), swapped by rename, so they are always consistent.
//! * Not finding a name proves nothing: the chain may be changing. The walk then looks again under the directory's lock.
//!
//! Eviction needs no counting by readers: a dentry that nobody but the table refers to is marked as a candidate, and
//! after a grace period evicted if the mark is still there and it is still alone. A walk that meets a candidate takes
//! the mark away first.
//!
//! Locks: one spin lock per group of chains; several are taken by rising number. They nest inside all sleeping locks.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use machine::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Lazy, Once, RcuArc, RcuGuard, SpinLock, SpinLockGuard, rcu};
use mm::reclaim::Shrinker;

use crate::inode::Inode;
use crate::reaper;
use crate::superblock::SuperBlock;

/// Bits of [`Dentry::flags`].
pub mod flag {
    /// Something is mounted on it somewhere.
    pub const MOUNTED: u32 = 1;
    /// The name is gone; the dentry is not in the table any more.
    pub const DELETED: u32 = 2;
    /// May be evicted after a grace period.
    pub const CANDIDATE: u32 = 4;
    /// Taken out of the table to save memory: whoever got hold of it must look again.
    pub const EVICTED: u32 = 8;
    /// Used since the shrinker last came by.
    pub const REFERENCED: u32 = 16;
    /// The inode must be asked whether the name still leads to it.
    pub const CHECKED: u32 = 32;
    /// In no directory: its text is the name itself (pipes, sockets, memfd).
    pub const ANONYMOUS: u32 = 64;
    /// What the lockless walk has to look at.
    pub(crate) const SPECIAL: u32 = MOUNTED | CANDIDATE | EVICTED | CHECKED;
}

/// Counts renames; odd while one is under way. For those who walk upwards and need the whole way to be consistent.
pub static RENAMES: RenameSequence = RenameSequence(AtomicU64::new(0));

/// See [`RENAMES`].
pub struct RenameSequence(AtomicU64);

impl RenameSequence {
    /// Begins to read; `None` while a rename is under way.
    pub fn begin(&self) -> Option<u64> {
        let now = self.0.load(Ordering::Acquire);
        now.is_multiple_of(2).then_some(now)
    }
    /// Whether no rename happened since.
    pub fn is_unchanged(&self, since: u64) -> bool {
        machine::sync::atomic::fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == since
    }
}

/// Names up to this length need no allocation of their own.
const INLINE_NAME: usize = 38;

enum Name {
    Inline(u8, [u8; INLINE_NAME]),
    Heap(Box<[u8]>),
}

impl Name {
    fn new(name: &[u8]) -> Name {
        let mut inline = [0; INLINE_NAME];
        match inline.get_mut(..name.len()) {
            Some(place) => {
                place.copy_from_slice(name);
                Name::Inline(name.len() as u8, inline)
            }
            None => Name::Heap(Box::from(name)),
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Name::Inline(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Name::Heap(bytes) => bytes,
        }
    }
}

/// Where a dentry is: its directory and its name there.
pub struct Place {
    parent: Option<Arc<Dentry>>,
    name: Name,
}

impl Place {
    /// The directory; none for a root or an anonymous dentry.
    #[inline]
    pub fn parent(&self) -> Option<&Arc<Dentry>> {
        self.parent.as_ref()
    }
    /// The name in it.
    #[inline]
    pub fn name(&self) -> &[u8] {
        self.name.bytes()
    }
}

/// One name in one directory.
pub struct Dentry {
    this: Weak<Dentry>,
    /// Tells it from all others, for the hash of what is in it; an address would not be the same in two runs of a test.
    number: u64,
    hash: AtomicU64,
    place: RcuArc<Place>,
    next: RcuArc<Dentry>,
    inode: Once<Arc<Inode>>,
    flags: AtomicU32,
    /// How many mounts are on it, in all namespaces.
    mounts: AtomicU32,
}

impl Dentry {
    fn make(parent: Option<Arc<Dentry>>, name: &[u8], hash: u64, flags: u32) -> Arc<Dentry> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let place = Arc::new(Place { parent, name: Name::new(name) });
        // Nothing is in an anonymous one, and pipes come and go.
        let number = if flags & flag::ANONYMOUS == 0 { NEXT.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Arc::new_cyclic(|this| Dentry {
            this: this.clone(),
            number,
            hash: AtomicU64::new(hash),
            place: RcuArc::new(Some(place)),
            next: RcuArc::empty(),
            inode: Once::new(),
            flags: AtomicU32::new(flags),
            mounts: AtomicU32::new(0),
        })
    }

    /// The dentry of a file system's root.
    pub(crate) fn new_root(inode: Arc<Inode>) -> Arc<Dentry> {
        let dentry = Dentry::make(None, b"/", 0, 0);
        let _ = dentry.inode.set(inode);
        dentry
    }

    /// A dentry in no directory, whose text in `/proc/PID/fd` is `name` itself.
    pub fn new_anonymous(inode: Arc<Inode>, name: &[u8]) -> Arc<Dentry> {
        let dentry = Dentry::make(None, name, 0, flag::ANONYMOUS);
        let _ = dentry.inode.set(inode);
        dentry
    }

    /// A negative dentry, not in the table.
    pub(crate) fn new_negative(parent: &Arc<Dentry>, name: &[u8]) -> Arc<Dentry> {
        Dentry::make(Some(parent.clone()), name, hash_of(parent, hash_name(name)), 0)
    }

    /// The inode; `None` if the name stands for nothing.
    #[inline]
    pub fn inode(&self) -> Option<&Arc<Inode>> {
        self.inode.get()
    }

    /// Gives a negative dentry its inode. Says whether it was negative.
    pub(crate) fn instantiate(&self, inode: Arc<Inode>) -> bool {
        let set = self.inode.set(inode).is_ok();
        if set && self.is_hashed() {
            CACHE.negative.fetch_sub(1, Ordering::Relaxed);
        }
        set
    }

    /// The flags now.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    /// A counted handle; `None` if it is just being freed.
    #[inline]
    pub fn to_arc(&self) -> Option<Arc<Dentry>> {
        self.this.upgrade()
    }

    /// Parent and name, as long as the guard lives.
    #[inline]
    pub fn place<'g>(&self, guard: &'g RcuGuard) -> Option<&'g Place> {
        self.place.load(guard)
    }

    /// Parent and name, counted.
    pub fn place_arc(&self) -> Option<Arc<Place>> {
        self.place.load_arc()
    }

    /// The directory it is in; none for roots.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.load_arc().and_then(|place| place.parent.clone())
    }

    /// Whether the name has been removed.
    pub fn is_deleted(&self) -> bool {
        self.flags() & flag::DELETED != 0
    }

    fn is_hashed(&self) -> bool {
        self.hash.load(Ordering::Relaxed) != 0
    }

    /// Whether both are the same dentry.
    #[inline]
    pub fn is_same(&self, other: &Dentry) -> bool {
        core::ptr::eq(self, other)
    }

    /// Whether it is `ancestor` or below it. The caller keeps renames away or checks [`RENAMES`].
    pub fn is_below_or_same(self: &Arc<Self>, ancestor: &Dentry) -> bool {
        let mut at = self.clone();
        loop {
            if at.is_same(ancestor) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// Remembers that it was used: the shrinker passes it by once.
    #[inline]
    pub(crate) fn mark_referenced(&self) {
        if self.flags.load(Ordering::Relaxed) & flag::REFERENCED == 0 {
            self.flags.fetch_or(flag::REFERENCED, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_flags(&self, flags: u32) {
        self.flags.fetch_or(flags, Ordering::AcqRel);
    }

    /// Takes an eviction mark away. Says whether the dentry may be used.
    pub(crate) fn rescue(&self) -> bool {
        let before = self.flags.fetch_and(!flag::CANDIDATE, Ordering::AcqRel);
        before & flag::EVICTED == 0
    }

    /// One mount more on it.
    pub(crate) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
        self.set_flags(flag::MOUNTED);
    }

    /// One mount fewer on it (mount changes exclude each other).
    pub(crate) fn remove_mount(&self) {
        if self.mounts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.flags.fetch_and(!flag::MOUNTED, Ordering::AcqRel);
        }
    }
}

impl Drop for Dentry {
    /// Any context.
    fn drop(&mut self) {
        if let Some(inode) = self.inode.take() {
            reaper::let_go(inode);
        }
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * u128::from(MULTIPLIER);
    (product as u64) ^ (product >> 64) as u64
}

/// Keeps hash values from being predictable to users who choose names.
static SEED: Lazy<u64> = Lazy::new(|| {
    let mut bytes = [0; 8];
    machine::random::fill(&mut bytes);
    u64::from_le_bytes(bytes)
});

/// The hash of a name, before its directory is mixed in.
pub(crate) fn hash_name(name: &[u8]) -> u64 {
    split_component(name).1
}

/// The first component of a path: its length and hash. `path` does not begin with a slash.
///
/// Eight bytes at a time: a slash is found as a zero byte of `word ^ "////////"`.
#[inline]
pub(crate) fn split_component(path: &[u8]) -> (usize, u64) {
    const SLASHES: u64 = 0x2f2f_2f2f_2f2f_2f2f;
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut hash = *SEED;
    let mut length = 0;
    let mut rest = path;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let marked = word ^ SLASHES;
        let slash = marked.wrapping_sub(LOW) & !marked & HIGH;
        if slash != 0 {
            // The lowest set bit belongs to the first slash (borrows only spread upwards).
            let bits = slash.trailing_zeros() & !7;
            let tail = if bits == 0 { 0 } else { word & (u64::MAX >> (64 - bits)) };
            length += (bits / 8) as usize;
            return (length, mix(mix(hash, tail), length as u64));
        }
        hash = mix(hash, word);
        length += 8;
        rest = after;
    }
    let (mut tail, mut shift) = (0, 0);
    for byte in rest.iter().take_while(|byte| **byte != b'/') {
        tail |= u64::from(*byte) << shift;
        shift += 8;
    }
    length += shift / 8;
    (length, mix(mix(hash, tail), length as u64))
}

/// Whether two names are the same, in words: most are too short to be worth a call.
#[inline]
fn same_name(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let (mut left, mut right) = (left, right);
    while let (Some((ours, further)), Some((theirs, beyond))) =
        (left.split_first_chunk::<8>(), right.split_first_chunk::<8>())
    {
        if u64::from_ne_bytes(*ours) != u64::from_ne_bytes(*theirs) {
            return false;
        }
        (left, right) = (further, beyond);
    }
    left.iter().zip(right).all(|(ours, theirs)| ours == theirs)
}

/// The hash in the table; never 0, which means "not in the table".
#[inline]
fn hash_of(parent: &Dentry, name_hash: u64) -> u64 {
    mix(parent.number, name_hash) | 1
}

/// Chains share this many locks.
const LOCKS: usize = 256;

struct Cache {
    chains: Box<[RcuArc<Dentry>]>,
    locks: Box<[SpinLock<()>]>,
    entries: AtomicUsize,
    negative: AtomicUsize,
    hand: AtomicUsize,
}

static CACHE: Lazy<Cache> = Lazy::new(Cache::new);

impl Cache {
    /// One chain for every 8 KiB of memory, as many as there may be dentries at ease.
    fn new() -> Cache {
        let pages = machine::memory::stats().total_pages as usize;
        let chains = (pages / 2).clamp(1024, 1 << 20).next_power_of_two();
        Cache {
            chains: (0..chains).map(|_| RcuArc::empty()).collect(),
            locks: (0..LOCKS).map(|_| SpinLock::new(())).collect(),
            entries: AtomicUsize::new(0),
            negative: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn chain_number(&self, hash: u64) -> usize {
        // Bit 0 is always set.
        (hash >> 1) as usize & (self.chains.len() - 1)
    }

    #[inline]
    fn chain(&self, number: usize) -> Option<&RcuArc<Dentry>> {
        self.chains.get(number)
    }

    fn lock(&self, chain: usize) -> Option<SpinLockGuard<'_, ()>> {
        self.locks.get(chain % LOCKS).map(|lock| lock.lock())
    }

    /// Puts it at the head of its chain. The chain's lock is held.
    fn insert_locked(&self, dentry: &Arc<Dentry>) {
        let number = self.chain_number(dentry.hash.load(Ordering::Relaxed));
        let Some(chain) = self.chain(number) else { return };
        dentry.next.replace(chain.load_arc());
        chain.replace(Some(dentry.clone()));
        self.entries.fetch_add(1, Ordering::Relaxed);
        if dentry.inode().is_none() {
            self.negative.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes it out of its chain. The chain's lock is held. Says whether it was there.
    fn remove_locked(&self, dentry: &Dentry) -> bool {
        let hash = dentry.hash.load(Ordering::Relaxed);
        if hash == 0 {
            return false;
        }
        let guard = rcu::read_lock();
        let Some(mut cell) = self.chain(self.chain_number(hash)) else { return false };
        while let Some(at) = cell.load(&guard) {
            if at.is_same(dentry) {
                cell.replace(at.next.load_arc());
                dentry.next.replace(None);
                dentry.hash.store(0, Ordering::Relaxed);
                self.entries.fetch_sub(1, Ordering::Relaxed);
                if dentry.inode().is_none() {
                    self.negative.fetch_sub(1, Ordering::Relaxed);
                }
                return true;
            }
            cell = &at.next;
        }
        false
    }
}

/// The dentry of a name in a directory, if it is in the table. `None` proves nothing (see the head of this file).
#[inline]
pub(crate) fn find<'g>(
    guard: &'g RcuGuard,
    parent: &Dentry,
    name_hash: u64,
    name: &[u8],
) -> Option<&'g Dentry> {
    let cache = &*CACHE;
    let hash = hash_of(parent, name_hash);
    let mut at = cache.chain(cache.chain_number(hash))?.load(guard);
    while let Some(dentry) = at {
        if dentry.hash.load(Ordering::Relaxed) == hash
            && let Some(place) = dentry.place(guard)
            && place.parent.as_ref().is_some_and(|known| known.is_same(parent))
            && same_name(place.name(), name)
        {
            return Some(dentry);
        }
        at = dentry.next.load(guard);
    }
    None
}

/// The dentry of a name, counted, under the lock of its chain: the answer is certain.
pub(crate) fn find_certain(parent: &Arc<Dentry>, name: &[u8]) -> Option<Arc<Dentry>> {
    let hash = hash_of(parent, hash_name(name));
    let _lock = CACHE.lock(CACHE.chain_number(hash));
    find_locked(parent, hash, name)
}

fn find_locked(parent: &Arc<Dentry>, hash: u64, name: &[u8]) -> Option<Arc<Dentry>> {
    let guard = rcu::read_lock();
    let mut at = CACHE.chain(CACHE.chain_number(hash))?.load(&guard);
    while let Some(dentry) = at {
        let matches = dentry.hash.load(Ordering::Relaxed) == hash
            && dentry.place(&guard).is_some_and(|place| {
                place.parent.as_ref().is_some_and(|known| known.is_same(parent)) && place.name() == name
            });
        if matches {
            dentry.rescue();
            return dentry.to_arc();
        }
        at = dentry.next.load(&guard);
    }
    None
}

/// Puts a dentry into the table; if its name is there already, gives that one instead.
pub(crate) fn insert(dentry: Arc<Dentry>) -> Arc<Dentry> {
    shrink_if_crowded();
    reaper::help_if_crowded();
    let Some(place) = dentry.place_arc() else { return dentry };
    let Some(parent) = place.parent() else { return dentry };
    let hash = hash_of(parent, hash_name(place.name()));
    let _lock = CACHE.lock(CACHE.chain_number(hash));
    if let Some(known) = find_locked(parent, hash, place.name()) {
        return known;
    }
    dentry.hash.store(hash, Ordering::Relaxed);
    CACHE.insert_locked(&dentry);
    dentry
}

/// Takes a dentry out of the table. Its name is gone: it shows as deleted.
pub(crate) fn delete(dentry: &Dentry) {
    dentry.set_flags(flag::DELETED);
    unhash(dentry);
}

/// Takes a dentry out of the table; the name may still exist (stale or evicted).
pub(crate) fn unhash(dentry: &Dentry) {
    loop {
        let hash = dentry.hash.load(Ordering::Relaxed);
        if hash == 0 {
            return;
        }
        let _lock = CACHE.lock(CACHE.chain_number(hash));
        if dentry.hash.load(Ordering::Relaxed) == hash {
            CACHE.remove_locked(dentry);
            return;
        }
    }
}

/// One move at a time, or [`RENAMES`] would look even during two. Outside the chains' locks.
static MOVES: SpinLock<()> = SpinLock::new(());

/// Gives a dentry another place. The directories are locked, the target's dentry is out of the table already.
pub(crate) fn move_to(dentry: &Arc<Dentry>, parent: &Arc<Dentry>, name: &[u8]) {
    let _moves = MOVES.lock();
    RENAMES.0.fetch_add(1, Ordering::AcqRel);
    unhash(dentry);
    dentry.place.replace(Some(Arc::new(Place { parent: Some(parent.clone()), name: Name::new(name) })));
    let hash = hash_of(parent, hash_name(name));
    {
        let _lock = CACHE.lock(CACHE.chain_number(hash));
        dentry.hash.store(hash, Ordering::Relaxed);
        CACHE.insert_locked(dentry);
    }
    RENAMES.0.fetch_add(1, Ordering::AcqRel);
}

/// Exchanges the places of two dentries. The directories are locked.
pub(crate) fn exchange(first: &Arc<Dentry>, second: &Arc<Dentry>) {
    let (Some(place), Some(other)) = (first.place_arc(), second.place_arc()) else { return };
    let (Some(parent), Some(other_parent)) = (place.parent(), other.parent()) else { return };
    unhash(second);
    move_to(first, other_parent, other.name());
    move_to(second, parent, place.name());
}

/// How many dentries are in the table, and how many of them negative (`/proc/sys/fs/dentry-state`).
pub fn cache_counts() -> (usize, usize) {
    (CACHE.entries.load(Ordering::Relaxed), CACHE.negative.load(Ordering::Relaxed))
}

/// More dentries than chains: every insertion pays for looking at a few chains.
fn shrink_if_crowded() {
    if CACHE.entries.load(Ordering::Relaxed) > CACHE.chains.len() {
        shrink_chains(4);
    }
}

/// What lets go of names when memory is short.
struct Names;

impl Shrinker for Names {
    fn shrink(&self, wanted: usize) -> usize {
        let mut found = 0;
        for _ in 0..CACHE.chains.len().div_ceil(CHAINS_AT_ONCE) {
            if found >= wanted {
                break;
            }
            found += shrink_chains(CHAINS_AT_ONCE);
        }
        found
    }
}

/// Has names let go of when memory is short. Once, at boot.
pub fn register_shrinker() {
    static NAMES: Once<Arc<dyn Shrinker>> = Once::new();
    let names = NAMES.get_or_init(|| Arc::new(Names));
    mm::reclaim::add_shrinker(Arc::downgrade(names));
}

/// How many chains are looked at under one hold.
const CHAINS_AT_ONCE: usize = 64;

/// Looks at all chains once and evicts, after a grace period, what was not used since the last time.
/// Gives the number of candidates.
pub fn shrink_all() -> usize {
    Names.shrink(usize::MAX)
}

/// Marks the idle dentries of the next `count` chains and has them evicted after a grace period.
fn shrink_chains(count: usize) -> usize {
    let start = CACHE.hand.fetch_add(count, Ordering::Relaxed);
    let mut candidates: Vec<Weak<Dentry>> = Vec::new();
    let guard = rcu::read_lock();
    for number in start..start + count {
        let number = number & (CACHE.chains.len() - 1);
        let mut at = CACHE.chain(number).and_then(|chain| chain.load(&guard));
        while let Some(dentry) = at {
            let referenced = dentry.flags.fetch_and(!flag::REFERENCED, Ordering::Relaxed) & flag::REFERENCED;
            if referenced == 0 && dentry.this.strong_count() == 1 && candidates.try_reserve(1).is_ok() {
                dentry.set_flags(flag::CANDIDATE);
                candidates.push(dentry.this.clone());
            }
            at = dentry.next.load(&guard);
        }
    }
    drop(guard);
    let found = candidates.len();
    if found > 0 {
        rcu::defer(Box::new(move || candidates.iter().for_each(evict)));
    }
    found
}

/// After the grace period: nobody who saw the dentry before the mark is still without a count of its own.
fn evict(candidate: &Weak<Dentry>) {
    let Some(dentry) = candidate.upgrade() else { return };
    let hash = dentry.hash.load(Ordering::Relaxed);
    if hash == 0 {
        return;
    }
    let _lock = CACHE.lock(CACHE.chain_number(hash));
    // One count is the table's, one is ours.
    if dentry.hash.load(Ordering::Relaxed) != hash || Arc::strong_count(&dentry) != 2 {
        return;
    }
    let flags = dentry.flags();
    let mark = flags & flag::CANDIDATE != 0;
    let evicted = flags & !flag::CANDIDATE | flag::EVICTED;
    let exchange = dentry.flags.compare_exchange(flags, evicted, Ordering::AcqRel, Ordering::Relaxed);
    if mark && exchange.is_ok() {
        CACHE.remove_locked(&dentry);
    }
}

/// Takes all dentries of a file system that is going away out of the table. Looks at the whole table.
pub(crate) fn drop_superblock(superblock: &SuperBlock) {
    for number in 0..CACHE.chains.len() {
        let guard = rcu::read_lock();
        let mut at = CACHE.chain(number).and_then(|chain| chain.load(&guard));
        let mut doomed = Vec::new();
        while let Some(dentry) = at {
            if belongs_to(dentry, superblock, &guard) && doomed.try_reserve(1).is_ok() {
                doomed.push(dentry.this.clone());
            }
            at = dentry.next.load(&guard);
        }
        drop(guard);
        for dentry in doomed.iter().filter_map(Weak::upgrade) {
            unhash(&dentry);
            // Nobody asks for its place any more. Names would else go one level for each grace period.
            dentry.place.replace(None);
        }
    }
}

fn belongs_to(dentry: &Dentry, superblock: &SuperBlock, guard: &RcuGuard) -> bool {
    let own = dentry.inode().or_else(|| dentry.place(guard)?.parent()?.inode());
    own.is_some_and(|inode| core::ptr::eq(&**inode.superblock(), superblock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn components_split_like_the_simple_way(path in "[a-c/]{0,40}") {
            let bytes = path.as_bytes();
            let expected = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
            let (length, hash) = split_component(bytes);
            prop_assert_eq!(length, expected);
            prop_assert_eq!(hash, hash_name(&bytes[..expected]));
        }
    }

    #[test]
    fn names_keep_their_bytes() {
        for length in [0, 1, 37, 38, 39, 255] {
            let name = std::vec![b'x'; length];
            assert_eq!(Name::new(&name).bytes(), &name[..]);
        }
    }
}
