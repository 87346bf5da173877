//! Page tables of user address spaces, behind range operations.
//!
//! Key types: [`PageTable`], [`Mapping`], [`TlbBatch`] (`shootdown`). Each table page of the lowest level has a spin lock of its own, so
//! that faults in different 2 MiB regions do not meet. Table pages are freed after an RCU grace period. The kernel half
//! is the same in all tables.
//!
//! Addresses must be page-aligned and below [`crate::USER_END`]; others panic (callers check what users give).

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

mod shootdown;

pub use shootdown::TlbBatch;
pub(crate) use shootdown::{CpuTlb, catch_up};

use shootdown::{FLUSH_SLOTS, FlushSlot, switch_table};

use super::buddy::{self, Urgency};
use super::swap_slot::{self, SwapSlot};
use super::{AllocFlags, Frame, FrameState, OutOfMemory, TABLE_PAGES, copy};
use crate::cpu::{CpuId, CpuSet};
use crate::sync::raw::RawSpinLock;
use crate::sync::rcu;
use crate::{MAX_CPUS, PAGE_SHIFT, PAGE_SIZE, USER_END, arch, local, preempt};

bitflags::bitflags! {
    /// What a mapping allows. Nothing set = present for the kernel's books but inaccessible (`PROT_NONE`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Perms: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
        /// A bit for the owner; the machine keeps it with the entry.
        const SOFT = 8;
        /// The four bits of the protection key; see [`Perms::with_key`].
        const KEY = 0xf0;
    }
}

/// The key's place in an entry; without keys the processor ignores it.
const PTE_KEY_SHIFT: u32 = 59;

impl Perms {
    /// With this protection key, 0 to 15.
    pub fn with_key(self, key: u8) -> Perms {
        (self - Perms::KEY) | Perms::from_bits_retain(key << 4)
    }

    /// The protection key.
    pub fn key(self) -> u8 {
        self.bits() >> 4
    }
}

/// What an entry maps, borrowed under the leaf lock.
#[derive(Debug)]
pub struct MappingRef<'a> {
    /// The page.
    pub frame: &'a Frame,
    /// What it allows.
    pub perms: Perms,
    /// The processor has used it since the flag was last cleared.
    pub accessed: bool,
    /// The processor has written it since the flag was last cleared.
    pub dirty: bool,
}

/// An entry that is not empty, borrowed under the leaf lock.
#[derive(Debug)]
pub enum EntryRef<'a> {
    /// It maps a page.
    Page(MappingRef<'a>),
    /// It stands for a page in swap space.
    Swapped(SwapSlot),
}

/// What an entry maps.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The page.
    pub frame: Frame,
    /// What it allows.
    pub perms: Perms,
    /// See [`MappingRef::accessed`].
    pub accessed: bool,
    /// See [`MappingRef::dirty`].
    pub dirty: bool,
}

/// What to do with an entry that was looked at under its lock.
#[derive(Debug)]
pub enum EntryAction {
    /// Leave it.
    Keep,
    /// Map this page (instead of what was there, if anything; that goes to the batch).
    Map(Frame, Perms),
    /// Keep the page, change what it allows.
    Protect(Perms),
    /// Keep everything, clear the accessed and dirty flags.
    Clean,
    /// Keep everything, clear the accessed flag. A processor that remembers the entry may use it for a while without setting the flag again: making it
    /// forget would cost more than to be wrong about a page now and then.
    Age,
    /// The page is to be found in this slot from now on, one of whose counts becomes the entry's; the page goes to the batch.
    Swap(SwapSlot),
    /// Take the mapping away.
    Unmap,
}

/// How [`PageTable::copy_range_cow`] treats pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// Private: both sides lose WRITE.
    CopyOnWrite,
    /// Shared: entries are copied as they are.
    Shared,
}

const ENTRIES: usize = 512;
const LEVELS: u32 = 4;
/// The entry maps a page that may not be touched (not present to the processor).
const PTE_INACCESSIBLE: u64 = 1 << 10;
const PTE_SOFT: u64 = 1 << 9;
/// `flags` of a table page that has been taken out of its tree.
const DEAD: u32 = 1;

fn index_of(address: usize, level: u32) -> usize {
    address >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1)
}

/// Bytes that an entry of a table of this level covers (level 0 = leaf tables).
const fn span(level: u32) -> usize {
    PAGE_SIZE << (9 * level)
}

fn entry_at(table: u32, index: usize) -> &'static AtomicU64 {
    // SAFETY: callers have the number of a table page that is alive (it is part of the tree they hold, or RCU keeps it);
    // table pages hold nothing but atomic words, and the direct map is forever. `index` is below 512.
    unsafe { &*buddy::page_address(table).cast::<AtomicU64>().add(index & (ENTRIES - 1)) }
}

fn number_in(entry: u64) -> u32 {
    ((entry & arch::PTE_ADDRESS_MASK) >> PAGE_SHIFT) as u32
}

fn encode(number: u32, perms: Perms) -> u64 {
    let mut entry = u64::from(number) << PAGE_SHIFT;
    if perms.intersects(Perms::READ | Perms::WRITE | Perms::EXEC) {
        entry |= arch::PTE_PRESENT | arch::PTE_USER | arch::PTE_ACCESSED;
    } else {
        entry |= PTE_INACCESSIBLE;
    }
    if perms.contains(Perms::WRITE) {
        // Whoever asks for a writable page is about to write it: spares the processor the update.
        entry |= arch::PTE_WRITE | arch::PTE_DIRTY;
    }
    if !perms.contains(Perms::EXEC) {
        entry |= arch::PTE_NO_EXEC;
    }
    if perms.contains(Perms::SOFT) {
        entry |= PTE_SOFT;
    }
    entry | u64::from(perms.key()) << PTE_KEY_SHIFT
}

fn perms_of(entry: u64) -> Perms {
    let mut perms = Perms::empty();
    if entry & arch::PTE_PRESENT != 0 {
        perms |= Perms::READ;
        perms.set(Perms::WRITE, entry & arch::PTE_WRITE != 0);
        perms.set(Perms::EXEC, entry & arch::PTE_NO_EXEC == 0);
    }
    perms.set(Perms::SOFT, entry & PTE_SOFT != 0);
    perms.with_key((entry >> PTE_KEY_SHIFT & 15) as u8)
}

/// An entry that is not empty, for the length of a call.
fn with_entry<R>(entry: u64, f: impl FnOnce(EntryRef<'_>) -> R) -> R {
    match SwapSlot::decode(entry) {
        Some(slot) => f(EntryRef::Swapped(slot)),
        None => with_mapping(entry, |mapping| f(EntryRef::Page(mapping))),
    }
}

/// An entry that maps a page, seen as a mapping for the length of a call. The entry's reference stays the entry's.
fn with_mapping<R>(entry: u64, f: impl FnOnce(MappingRef<'_>) -> R) -> R {
    debug_assert!(SwapSlot::decode(entry).is_none());
    // SAFETY: an entry that maps a page holds a reference, and its lock is held; `ManuallyDrop` leaves it alone.
    let frame = ManuallyDrop::new(unsafe { Frame::from_number(number_in(entry)) });
    f(MappingRef {
        frame: &frame,
        perms: perms_of(entry),
        accessed: entry & arch::PTE_ACCESSED != 0,
        dirty: entry & arch::PTE_DIRTY != 0,
    })
}

fn check_address(address: usize) {
    assert!(address < USER_END && address.is_multiple_of(PAGE_SIZE), "bad user page address {address:#x}");
}

fn check_range(range: &Range<usize>) {
    let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
    assert!(aligned && range.start <= range.end && range.end <= USER_END, "bad user range {range:x?}");
}

fn table_state(number: u32) -> &'static FrameState {
    // SAFETY: table pages come from the frame allocator.
    unsafe { buddy::state_of(number) }
}

fn new_table() -> Result<u32, OutOfMemory> {
    let take = || buddy::alloc_page(Urgency::Normal).ok();
    let number = take().or_else(|| super::retry(take)).ok_or(OutOfMemory)?;
    table_state(number).reset();
    // SAFETY: the page is ours alone.
    unsafe { copy::zero(buddy::page_address(number), PAGE_SIZE) };
    TABLE_PAGES.fetch_add(1, Ordering::Relaxed);
    Ok(number)
}

/// Frees a table page at once.
///
/// # Safety
/// It is in no tree, and no processor or reader can still see it.
unsafe fn free_table(number: u32) {
    TABLE_PAGES.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the caller's contract.
    unsafe { buddy::free_page(number) };
}

/// Frees a table page after a grace period.
///
/// # Safety
/// It is in no tree; new readers cannot find it.
unsafe fn free_table_later(number: u32) {
    unsafe fn free(head: *mut rcu::Head) {
        let offset = core::mem::offset_of!(FrameState, mapping);
        // SAFETY: the head lies in the `FrameState` of the table page, at `mapping`; states lie in one array from page 0.
        let number = unsafe {
            let state = head.cast::<u8>().sub(offset).cast::<FrameState>();
            state.cast_const().offset_from(core::ptr::from_ref(buddy::state_of(0))) as u32
        };
        // SAFETY: the grace period is over.
        unsafe { free_table(number) };
    }
    let head = table_state(number).mapping.as_ptr().cast::<rcu::Head>();
    // SAFETY: `mapping` and `index` of a dead table are nobody else's, and are room for a head; it is queued once.
    unsafe { rcu::defer_raw(head, free) };
}

const _: () = assert!(size_of::<rcu::Head>() <= 16 && align_of::<rcu::Head>() <= 8);

/// The user half of an address space.
///
/// # Invariants
/// An entry of a leaf table that is not zero holds one reference of the frame it names, or one count of a slot. Leaf entries change under the
/// table page's lock, except for the bits that the processor sets. Entries of upper tables change under theirs.
pub struct PageTable {
    root: u32,
    id: u64,
    tables: AtomicUsize,
    /// Entries that stand for slots.
    swapped: AtomicUsize,
    /// Counts the flushes; a CPU that has seen a smaller number may have stale entries.
    generation: AtomicU64,
    flush_lock: RawSpinLock,
    flushes: [FlushSlot; FLUSH_SLOTS],
    /// The CPUs that have it loaded.
    active: [AtomicU64; MAX_CPUS / 64],
    /// For the last reference, when a CPU drops it where freeing would take too long.
    room: rcu::Room,
}

/// A leaf table, locked; preemption is off.
struct Leaf<'t> {
    table: u32,
    _tree: PhantomData<(&'t PageTable, *mut ())>,
}

impl Drop for Leaf<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        table_state(self.table).lock.unlock();
        preempt::raw_enable();
    }
}

impl Leaf<'_> {
    #[inline(always)]
    fn entry(&self, address: usize) -> &'static AtomicU64 {
        entry_at(self.table, index_of(address, 0))
    }
}

/// The entries of 2 MiB of addresses, locked; see [`PageTable::lock_region`].
pub struct Region<'t> {
    leaf: Leaf<'t>,
    start: usize,
    /// An entry for page 0.
    template: u64,
}

impl Region<'_> {
    /// The addresses that it covers.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + span(1)
    }

    /// Whether something is mapped at an address, or stands for a slot. Panics outside of the region.
    #[inline]
    pub fn is_occupied(&self, address: usize) -> bool {
        self.entry(address).load(Ordering::Relaxed) != 0
    }

    /// Maps another handle of `frame` at an address if its entry is empty; returns whether it did. Panics outside of the region.
    #[inline]
    pub fn map_if_vacant(&self, address: usize, frame: &Frame) -> bool {
        let entry = self.entry(address);
        let vacant = entry.load(Ordering::Relaxed) == 0;
        if vacant {
            let number = frame.clone().into_number();
            entry.store(self.template | u64::from(number) << PAGE_SHIFT, Ordering::Release);
        }
        vacant
    }

    #[inline(always)]
    fn entry(&self, address: usize) -> &'static AtomicU64 {
        assert!(address & !(span(1) - 1) == self.start, "{address:#x} is not in the region");
        self.leaf.entry(address)
    }
}

impl PageTable {
    /// An empty one.
    pub fn new() -> Result<Arc<PageTable>, OutOfMemory> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let root = new_table()?;
        let kernel = (arch::kernel_root() >> PAGE_SHIFT) as u32;
        if kernel != 0 {
            for index in ENTRIES / 2..ENTRIES {
                entry_at(root, index)
                    .store(entry_at(kernel, index).load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        // On failure the table has been dropped, and its root with it.
        super::try_arc(PageTable {
            root,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            tables: AtomicUsize::new(1),
            swapped: AtomicUsize::new(0),
            generation: AtomicU64::new(1),
            flush_lock: RawSpinLock::new(),
            flushes: [const { FlushSlot::new() }; FLUSH_SLOTS],
            active: [const { AtomicU64::new(0) }; MAX_CPUS / 64],
            room: rcu::Room::new(),
        })
    }

    /// The leaf table for an address, if there is one, locked.
    #[inline]
    fn lock_leaf(&self, address: usize) -> Option<Leaf<'_>> {
        preempt::raw_disable();
        // Preemption is off: tables that are found stay until it is on again (RCU).
        let mut table = self.root;
        for level in (1..LEVELS).rev() {
            let entry = entry_at(table, index_of(address, level)).load(Ordering::Acquire);
            if entry == 0 {
                preempt::raw_enable();
                return None;
            }
            table = number_in(entry);
        }
        let state = table_state(table);
        state.lock.lock();
        let leaf = Leaf { table, _tree: PhantomData };
        // A dead table is not in the tree any more; its place is empty.
        (state.raw_flags().load(Ordering::Relaxed) & DEAD == 0).then_some(leaf)
    }

    /// The same, with the tables made that are missing.
    #[inline]
    fn lock_leaf_or_create(&self, address: usize) -> Result<Leaf<'_>, OutOfMemory> {
        loop {
            if let Some(leaf) = self.lock_leaf(address) {
                return Ok(leaf);
            }
            self.create_leaf(address)?;
        }
    }

    /// Makes one missing table on the way to an address.
    #[cold]
    fn create_leaf(&self, address: usize) -> Result<(), OutOfMemory> {
        let new = new_table()?;
        preempt::raw_disable();
        let mut table = self.root;
        let mut used = false;
        for level in (1..LEVELS).rev() {
            let slot = entry_at(table, index_of(address, level));
            let mut entry = slot.load(Ordering::Acquire);
            if entry == 0 {
                let state = table_state(table);
                state.lock.lock();
                entry = slot.load(Ordering::Relaxed);
                if entry == 0 && !used && state.raw_flags().load(Ordering::Relaxed) & DEAD == 0 {
                    entry = u64::from(new) << PAGE_SHIFT
                        | arch::PTE_PRESENT
                        | arch::PTE_USER
                        | arch::PTE_WRITE
                        | arch::PTE_ACCESSED;
                    slot.store(entry, Ordering::Release);
                    used = true;
                }
                state.lock.unlock();
            }
            if entry == 0 || used {
                break;
            }
            table = number_in(entry);
        }
        preempt::raw_enable();
        if used {
            self.tables.fetch_add(1, Ordering::Relaxed);
        } else {
            // SAFETY: nobody has seen it.
            unsafe { free_table(new) };
        }
        Ok(())
    }

    /// Maps a page where nothing is mapped. If something is mapped there already, nothing changes and the frame comes back.
    #[inline]
    pub fn map(&self, address: usize, frame: Frame, perms: Perms) -> Result<Option<Frame>, OutOfMemory> {
        check_address(address);
        let leaf = self.lock_leaf_or_create(address)?;
        let entry = leaf.entry(address);
        if entry.load(Ordering::Relaxed) != 0 {
            return Ok(Some(frame));
        }
        entry.store(encode(frame.into_number(), perms), Ordering::Release);
        Ok(None)
    }

    /// Locks the entries of the 2 MiB around an address, to map many pages with the same permissions in one go (fault-around). Preemption is off while the
    /// lock is held.
    pub fn lock_region(&self, address: usize, perms: Perms) -> Result<Region<'_>, OutOfMemory> {
        check_address(address);
        let leaf = self.lock_leaf_or_create(address)?;
        Ok(Region { leaf, start: address & !(span(1) - 1), template: encode(0, perms) })
    }

    /// The slot that the entry at an address stands for, if it stands for one.
    pub fn swapped_at(&self, address: usize) -> Option<SwapSlot> {
        check_address(address);
        if self.swapped_pages() == 0 {
            return None;
        }
        let leaf = self.lock_leaf(address)?;
        SwapSlot::decode(leaf.entry(address).load(Ordering::Acquire))
    }

    /// How many entries stand for slots (`VmSwap`).
    #[inline]
    pub fn swapped_pages(&self) -> usize {
        self.swapped.load(Ordering::Relaxed)
    }

    /// What is mapped at an address.
    pub fn query(&self, address: usize) -> Option<Mapping> {
        check_address(address);
        let leaf = self.lock_leaf(address)?;
        let entry = leaf.entry(address).load(Ordering::Acquire);
        if entry == 0 || SwapSlot::decode(entry).is_some() {
            return None;
        }
        Some(with_mapping(entry, |mapping| Mapping {
            frame: mapping.frame.clone(),
            perms: mapping.perms,
            accessed: mapping.accessed,
            dirty: mapping.dirty,
        }))
    }

    /// Looks at the entry under its leaf lock and does what `decide` says. `decide` must not sleep or use this table.
    /// Stale TLB entries and replaced frames go to `batch` (of this table).
    pub fn update<R>(
        &self,
        address: usize,
        batch: &mut TlbBatch<'_>,
        decide: impl FnOnce(Option<EntryRef<'_>>) -> (EntryAction, R),
    ) -> Result<R, OutOfMemory> {
        check_address(address);
        batch.check(self);
        batch.make_room();
        let leaf = self.lock_leaf_or_create(address)?;
        let slot = leaf.entry(address);
        let entry = observe(slot);
        let (action, result) =
            if entry == 0 { decide(None) } else { with_entry(entry, |entry| decide(Some(entry))) };
        apply(slot, entry, action, address, batch);
        Ok(result)
    }

    /// Calls `visit` for each mapping of a page in the range, under the leaf locks, and does what it says. `visit` must not sleep or use
    /// this table.
    pub fn update_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut visit: impl FnMut(usize, MappingRef<'_>) -> EntryAction,
    ) {
        self.update_entries(range, batch, |address, entry| match entry {
            EntryRef::Page(mapping) => visit(address, mapping),
            EntryRef::Swapped(_) => EntryAction::Keep,
        });
    }

    /// Calls `visit` for each entry in the range that is not empty, under the leaf locks, and does what it says ([`EntryAction::Map`]
    /// included): what protect, aging and the like are made of. `visit` must not sleep or use this table.
    pub fn update_entries(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut visit: impl FnMut(usize, EntryRef<'_>) -> EntryAction,
    ) {
        self.walk(range, batch, |slot, address, batch| {
            let entry = observe(slot);
            if entry != 0 {
                let action = with_entry(entry, |entry| visit(address, entry));
                apply(slot, entry, action, address, batch);
            }
        });
    }

    /// Calls `visit` for each entry of each leaf table in the range, under the leaf locks, with a batch that has room for a frame.
    #[inline(always)]
    fn walk<'t>(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'t>,
        mut visit: impl FnMut(&AtomicU64, usize, &mut TlbBatch<'t>),
    ) {
        check_range(&range);
        batch.check(self);
        let mut address = range.start;
        while address < range.end {
            batch.make_room();
            let region_end = range.end.min((address | (span(1) - 1)) + 1);
            let Some(leaf) = self.lock_leaf(address) else {
                address = range.end.min(self.next_table(address));
                continue;
            };
            while address < region_end && !batch.is_full() {
                visit(leaf.entry(address), address, batch);
                address += PAGE_SIZE;
            }
        }
    }

    /// The first address of a range for which there is a leaf table.
    pub fn next_populated(&self, range: Range<usize>) -> Option<usize> {
        check_range(&range);
        let mut address = range.start;
        while address < range.end {
            if self.lock_leaf(address).is_some() {
                return Some(address);
            }
            address = self.next_table(address);
        }
        None
    }

    /// Where the next leaf table could be, for an address that has none.
    fn next_table(&self, address: usize) -> usize {
        preempt::raw_disable();
        let mut table = self.root;
        let mut next = (address | (span(1) - 1)) + 1;
        for level in (1..LEVELS).rev() {
            let entry = entry_at(table, index_of(address, level)).load(Ordering::Acquire);
            if entry == 0 {
                next = (address | (span(level) - 1)) + 1;
                break;
            }
            table = number_in(entry);
        }
        preempt::raw_enable();
        next
    }

    /// Empties all entries in the range; `removed` sees each mapping of a page (for accounting), under the leaf lock. What
    /// [`PageTable::update_entries`] does with [`EntryAction::Unmap`] for all, without deciding for each: exits and munmap run through this.
    pub fn unmap_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut removed: impl FnMut(usize, MappingRef<'_>),
    ) {
        self.walk(range, batch, |slot, address, batch| {
            let seen = slot.load(Ordering::Acquire);
            if seen == 0 {
                return;
            }
            let entry = take_entry(slot, seen);
            if SwapSlot::decode(entry).is_none() {
                with_mapping(entry, |mapping| removed(address, mapping));
            }
            drop_entry(entry, address, batch);
        });
    }

    /// Changes what the mappings in the range allow.
    pub fn protect_range(
        &self,
        range: Range<usize>,
        batch: &mut TlbBatch<'_>,
        mut perms: impl FnMut(usize, MappingRef<'_>) -> Perms,
    ) {
        self.update_range(range, batch, |address, mapping| EntryAction::Protect(perms(address, mapping)));
    }

    /// Copies the entries of a range into `child`, sharing the pages (fork), but for private pages that are [lent](FrameState::is_lent): the
    /// child gets a copy of those. `copied` sees each page (for accounting); it must not sleep or use either table. `batch` is of `self`.
    /// Where the child has a mapping already it stays. On failure a part has been copied.
    pub fn copy_range_cow(
        &self,
        child: &PageTable,
        range: Range<usize>,
        mode: CopyMode,
        batch: &mut TlbBatch<'_>,
        mut copied: impl FnMut(usize, &Frame),
    ) -> Result<(), OutOfMemory> {
        check_range(&range);
        batch.check(self);
        assert!(!core::ptr::eq(self, child), "copying a page table into itself");
        let mut address = range.start;
        while address < range.end {
            let region_end = range.end.min((address | (span(1) - 1)) + 1);
            match self.lock_leaf(address) {
                None => {
                    address = range.end.min(self.next_table(address));
                    continue;
                }
                Some(leaf) => drop(leaf),
            }
            let Some((source, target)) = self.lock_two(child, address, address)? else { continue };
            let copy = copy_entries(&source, &target, address..region_end, mode, batch, &mut copied);
            if copy.swapped > 0 {
                child.swapped.fetch_add(copy.swapped, Ordering::Relaxed);
            }
            drop((source, target));
            copy.result?;
            address = region_end;
        }
        Ok(())
    }

    /// Locks a leaf of this table and a leaf of another (which is made if missing), in the order of their numbers.
    /// `None` if the first is gone, or is the second.
    fn lock_two<'t>(
        &'t self,
        other: &'t PageTable,
        address: usize,
        other_address: usize,
    ) -> Result<Option<(Leaf<'t>, Leaf<'t>)>, OutOfMemory> {
        loop {
            let target = other.lock_leaf_or_create(other_address)?;
            let target_number = target.table;
            drop(target);
            let Some(source) = self.lock_leaf(address) else { return Ok(None) };
            if source.table == target_number {
                return Ok(None);
            }
            if source.table < target_number {
                if let Some(target) = other.lock_leaf(other_address)
                    && target.table == target_number
                {
                    return Ok(Some((source, target)));
                }
                continue;
            }
            let source_number = source.table;
            drop(source);
            let Some(target) = other.lock_leaf(other_address) else { continue };
            if target.table >= source_number {
                continue;
            }
            if let Some(source) = self.lock_leaf(address)
                && source.table == source_number
            {
                return Ok(Some((source, target)));
            }
        }
    }

    /// Moves the mappings of a range to another place in the same table (`mremap`), with what the processor noted of them. Both
    /// must be equally long and must not overlap (panics); where the target has a mapping, the moved one is dropped. On
    /// failure a part has been moved. Until the batch is flushed, processors may still use the old place: nobody must be
    /// able to take a page away from the new one before.
    pub fn move_range(
        &self,
        from: Range<usize>,
        to: usize,
        batch: &mut TlbBatch<'_>,
    ) -> Result<(), OutOfMemory> {
        check_range(&from);
        let target = to..to + from.len();
        check_range(&target);
        batch.check(self);
        assert!(target.end <= from.start || from.end <= target.start, "move_range() onto itself");
        let region_left = |address: usize| (address | (span(1) - 1)) + 1 - address;
        let mut address = from.start;
        while address < from.end {
            let new = to + (address - from.start);
            let length = (from.end - address).min(region_left(address)).min(region_left(new));
            batch.make_room();
            match self.lock_leaf(address) {
                None => {
                    address = from.end.min(self.next_table(address));
                    continue;
                }
                Some(leaf) => drop(leaf),
            }
            let pair = self.lock_two(self, address, new)?;
            let moved = if let Some((source, target)) = &pair {
                move_entries(source, target, address..address + length, new, batch)
            } else if let Some(leaf) = self.lock_leaf(address).filter(|_| address / span(1) == new / span(1))
            {
                move_entries(&leaf, &leaf, address..address + length, new, batch)
            } else {
                length
            };
            drop(pair);
            address += moved;
        }
        Ok(())
    }

    /// Frees the table pages that lie wholly in the range; what is mapped there is unmapped.
    pub fn free_tables(&self, range: Range<usize>, batch: &mut TlbBatch<'_>) {
        check_range(&range);
        batch.check(self);
        self.free_below(self.root, LEVELS - 1, 0, &range, batch);
    }

    /// Frees what hangs under a table, as far as it lies in the range. `level` is the table's.
    fn free_below(
        &self,
        table: u32,
        level: u32,
        base: usize,
        range: &Range<usize>,
        batch: &mut TlbBatch<'_>,
    ) {
        let last = if level == LEVELS - 1 { ENTRIES / 2 } else { ENTRIES };
        let first_index = if range.start > base { (range.start - base) / span(level) } else { 0 };
        let end_index = last.min((range.end - base).div_ceil(span(level)));
        for index in first_index..end_index {
            let start = base + index * span(level);
            let end = start + span(level);
            let slot = entry_at(table, index);
            let entry = slot.load(Ordering::Acquire);
            if entry == 0 {
                continue;
            }
            let child = number_in(entry);
            let whole = range.start <= start && (end <= range.end || range.end == USER_END);
            if level > 1 && !whole {
                self.free_below(child, level - 1, start, range, batch);
            } else if whole && self.detach(table, slot, entry) {
                self.dispose(child, level - 1, start, batch);
            }
        }
    }

    /// Takes a table out of its parent; `false` if it is not there any more.
    fn detach(&self, parent: u32, slot: &AtomicU64, entry: u64) -> bool {
        preempt::raw_disable();
        let lock = &table_state(parent).lock;
        lock.lock();
        let found = number_in(slot.load(Ordering::Relaxed)) == number_in(entry);
        if found {
            slot.store(0, Ordering::Relaxed);
        }
        lock.unlock();
        preempt::raw_enable();
        found
    }

    /// Marks a detached table dead, empties it and gives it to the batch. Those who found it before it was detached see
    /// that it is dead once they have its lock.
    fn dispose(&self, table: u32, level: u32, base: usize, batch: &mut TlbBatch<'_>) {
        let state = table_state(table);
        preempt::raw_disable();
        state.lock.lock();
        state.raw_flags().store(DEAD, Ordering::Relaxed);
        state.lock.unlock();
        preempt::raw_enable();
        // It is ours alone now, but for the processors' own walks until the flush.
        for index in 0..ENTRIES {
            let slot = entry_at(table, index);
            let entry = slot.load(Ordering::Acquire);
            if entry == 0 {
                continue;
            }
            if level > 0 {
                slot.store(0, Ordering::Relaxed);
                self.dispose(number_in(entry), level - 1, base + index * span(level), batch);
            } else {
                batch.make_room();
                apply(slot, entry, EntryAction::Unmap, base + index * PAGE_SIZE, batch);
            }
        }
        batch.add_table(table);
        self.tables.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes of table pages (for `VmPTE`).
    pub fn table_bytes(&self) -> usize {
        self.tables.load(Ordering::Relaxed) * PAGE_SIZE
    }

    /// The one that is active on this CPU: of the thread that runs.
    pub fn active() -> Option<Arc<PageTable>> {
        preempt::raw_disable();
        let active = local::local().tlb.active.load(Ordering::Relaxed);
        let table = (!active.is_null()).then(|| {
            // SAFETY: `active` came from an `Arc` and holds a counted reference while it is there; this CPU does not switch meanwhile.
            unsafe {
                Arc::increment_strong_count(active);
                Arc::from_raw(active)
            }
        });
        preempt::raw_enable();
        table
    }

    /// Whether this is the table active on this CPU.
    pub fn is_active(&self) -> bool {
        core::ptr::eq(local::local().tlb.active.load(Ordering::Relaxed), self)
    }

    /// The CPUs that have it loaded (for `membarrier` and the like).
    pub fn cpus(&self) -> CpuSet {
        (0..MAX_CPUS)
            .filter(|cpu| self.active[cpu / 64].load(Ordering::SeqCst) >> (cpu % 64) & 1 != 0)
            .filter_map(CpuId::new)
            .collect()
    }

    /// Makes this CPU use it (kept alive meanwhile). Any thread context, interrupts on or off.
    #[inline]
    pub fn activate(self: &Arc<PageTable>) {
        preempt::raw_disable();
        let active = local::local().tlb.active.load(Ordering::Relaxed);
        if !core::ptr::eq(active, Arc::as_ptr(self)) {
            switch_table(Some(self.clone()));
        }
        preempt::raw_enable();
    }

    /// Makes this CPU use no user table: user addresses all fault.
    pub fn activate_kernel() {
        preempt::raw_disable();
        if !local::local().tlb.active.load(Ordering::Relaxed).is_null() {
            switch_table(None);
        }
        preempt::raw_enable();
    }

    fn root_phys(&self) -> u64 {
        u64::from(self.root) << PAGE_SHIFT
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        fn free(table: u32, level: u32, entries: usize) {
            for index in 0..entries {
                let entry = entry_at(table, index).load(Ordering::Relaxed);
                if entry == 0 {
                    continue;
                }
                if level > 0 {
                    free(number_in(entry), level - 1, ENTRIES);
                } else if let Some(slot) = SwapSlot::decode(entry) {
                    swap_slot::note_dropped(slot);
                } else {
                    // SAFETY: the entry's reference; the entry goes away with its table.
                    drop(unsafe { Frame::from_number(number_in(entry)) });
                }
            }
            // SAFETY: no CPU has the tree loaded (each that has keeps the table alive), and nobody else knows it.
            unsafe { free_table(table) };
        }
        free(self.root, LEVELS - 1, ENTRIES / 2);
    }
}

impl core::fmt::Debug for PageTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageTable").field("id", &self.id).field("tables", &self.tables).finish()
    }
}

/// Whether the processor may set the dirty bit of an entry at any time.
fn may_become_dirty(entry: u64) -> bool {
    entry & (arch::PTE_PRESENT | arch::PTE_WRITE) == arch::PTE_PRESENT | arch::PTE_WRITE
        && entry & arch::PTE_DIRTY == 0
}

/// What is in an entry, to be decided on under the leaf lock and then given to [`apply`]. Until then the processor cannot
/// make the page dirty unseen: an entry that is writable but clean loses the right to write meanwhile. (A processor that
/// remembers the entry as writable and clean walks the table again before its first write, and faults. Intel SDM
/// volume 3, 5.8.)
#[inline]
fn observe(slot: &AtomicU64) -> u64 {
    let entry = slot.load(Ordering::Acquire);
    if may_become_dirty(entry) { slot.fetch_and(!arch::PTE_WRITE, Ordering::AcqRel) } else { entry }
}

/// Empties an entry that holds `seen`, under the leaf lock; gives what was in it, with all that the processor has noted.
#[inline]
fn take_entry(slot: &AtomicU64, seen: u64) -> u64 {
    if may_become_dirty(seen) {
        return slot.swap(0, Ordering::AcqRel);
    }
    slot.store(0, Ordering::Release);
    seen
}

/// Does to an entry what was decided, under the leaf lock. `entry` is what [`observe`] gave; the batch has room for a frame.
#[inline]
fn apply(slot: &AtomicU64, entry: u64, action: EntryAction, address: usize, batch: &mut TlbBatch<'_>) {
    let new = match action {
        EntryAction::Keep if may_become_dirty(entry) => {
            slot.fetch_or(arch::PTE_WRITE, Ordering::Release);
            return;
        }
        EntryAction::Keep => return,
        EntryAction::Unmap if entry == 0 => return,
        EntryAction::Unmap => 0,
        EntryAction::Map(frame, perms) => encode(frame.into_number(), perms),
        EntryAction::Swap(place) => {
            batch.table.swapped.fetch_add(1, Ordering::Relaxed);
            place.encode()
        }
        EntryAction::Protect(_) | EntryAction::Clean | EntryAction::Age
            if entry == 0 || SwapSlot::decode(entry).is_some() =>
        {
            return;
        }
        EntryAction::Protect(perms) => {
            protect(slot, entry, perms, address, batch);
            return;
        }
        EntryAction::Clean => {
            // The right to write may have been taken away by `observe`; the entry stays dirty until then if it was.
            slot.fetch_and(!(arch::PTE_ACCESSED | arch::PTE_DIRTY), Ordering::AcqRel);
            slot.fetch_or(entry & arch::PTE_WRITE, Ordering::Release);
            if entry & arch::PTE_DIRTY != 0 {
                batch.add_page(address);
            }
            return;
        }
        EntryAction::Age => {
            slot.fetch_and(!arch::PTE_ACCESSED, Ordering::AcqRel);
            if may_become_dirty(entry) {
                slot.fetch_or(arch::PTE_WRITE, Ordering::Release);
            }
            return;
        }
    };
    slot.store(new, Ordering::Release);
    drop_entry(entry, address, batch);
}

/// What an entry that was overwritten held goes to the batch, which has room for a frame.
#[inline]
fn drop_entry(entry: u64, address: usize, batch: &mut TlbBatch<'_>) {
    if let Some(slot) = SwapSlot::decode(entry) {
        batch.table.swapped.fetch_sub(1, Ordering::Relaxed);
        swap_slot::note_dropped(slot);
    } else if entry != 0 {
        if entry & arch::PTE_PRESENT != 0 {
            batch.add_page(address);
        }
        // SAFETY: the entry's reference is the batch's now.
        batch.add_frame(unsafe { Frame::from_number(number_in(entry)) });
    }
}

/// Changes the permissions of a mapping, keeping its page and what the processor noted.
fn protect(slot: &AtomicU64, entry: u64, perms: Perms, address: usize, batch: &mut TlbBatch<'_>) {
    let noted = arch::PTE_ACCESSED | arch::PTE_DIRTY;
    let base = encode(number_in(entry), perms) & !noted;
    let mut seen = entry;
    // The processor may set its bits at the same time.
    while let Err(now) = slot.compare_exchange(seen, base | seen & noted, Ordering::AcqRel, Ordering::Acquire)
    {
        seen = now;
    }
    let lost = perms_of(entry) - perms;
    let other_key = perms_of(entry).key() != perms.key();
    let shrinks = other_key || lost.intersects(Perms::READ | Perms::WRITE | Perms::EXEC);
    if entry & arch::PTE_PRESENT != 0 && shrinks {
        batch.add_page(address);
    }
}

/// What came of copying entries.
struct Copied {
    /// How many of them stand for slots.
    swapped: usize,
    result: Result<(), OutOfMemory>,
}

/// The inner loop of fork: entries of one leaf table to another.
#[inline]
fn copy_entries(
    source: &Leaf<'_>,
    target: &Leaf<'_>,
    range: Range<usize>,
    mode: CopyMode,
    batch: &mut TlbBatch<'_>,
    copied: &mut impl FnMut(usize, &Frame),
) -> Copied {
    let mut protected: Option<Range<usize>> = None;
    let mut done = Copied { swapped: 0, result: Ok(()) };
    for address in range.step_by(PAGE_SIZE) {
        let from = source.entry(address);
        let mut entry = from.load(Ordering::Acquire);
        if entry == 0 {
            continue;
        }
        let to = target.entry(address);
        if to.load(Ordering::Relaxed) != 0 {
            continue;
        }
        if let Some(slot) = SwapSlot::decode(entry) {
            swap_slot::note_copied(slot);
            to.store(entry, Ordering::Relaxed);
            done.swapped += 1;
            continue;
        }
        if mode == CopyMode::CopyOnWrite && table_state(number_in(entry)).is_lent() {
            match with_mapping(entry, |mapping| own_copy(mapping.frame)) {
                Ok(own) => {
                    copied(address, &own);
                    let entry = entry & !arch::PTE_ADDRESS_MASK | own.phys().0;
                    core::mem::forget(own);
                    to.store(entry, Ordering::Relaxed);
                }
                Err(error) => {
                    done.result = Err(error);
                    break;
                }
            }
            continue;
        }
        if mode == CopyMode::CopyOnWrite && entry & arch::PTE_WRITE != 0 {
            if entry & arch::PTE_DIRTY != 0 {
                // The processor has nothing left to note in the entry.
                from.store(entry & !arch::PTE_WRITE, Ordering::Relaxed);
            } else {
                entry = from.fetch_and(!arch::PTE_WRITE, Ordering::Relaxed);
            }
            entry &= !arch::PTE_WRITE;
            let start = protected.as_ref().map_or(address, |range| range.start);
            protected = Some(start..address + PAGE_SIZE);
        }
        with_mapping(entry, |mapping| {
            core::mem::forget(mapping.frame.clone());
            copied(address, mapping.frame);
        });
        to.store(entry, Ordering::Relaxed);
    }
    if let Some(range) = protected {
        batch.add_range(range);
    }
    done
}

/// Another page with the same contents.
#[cold]
fn own_copy(frame: &Frame) -> Result<Frame, OutOfMemory> {
    let own = Frame::alloc(AllocFlags::NO_RECLAIM)?;
    own.copy_from(frame);
    Ok(own)
}

/// The inner loop of a move: entries of one leaf table to another, or within one. Ends early when the batch is full; gives how many
/// bytes are done.
fn move_entries(
    source: &Leaf<'_>,
    target: &Leaf<'_>,
    range: Range<usize>,
    to: usize,
    batch: &mut TlbBatch<'_>,
) -> usize {
    for address in range.clone().step_by(PAGE_SIZE) {
        if batch.is_full() {
            return address - range.start;
        }
        // One exchange, so that nothing that the processor notes is lost.
        let entry = source.entry(address).swap(0, Ordering::AcqRel);
        if entry == 0 {
            continue;
        }
        if entry & arch::PTE_PRESENT != 0 {
            batch.add_page(address);
        }
        let slot = target.entry(to + (address - range.start));
        if slot.load(Ordering::Relaxed) == 0 {
            slot.store(entry, Ordering::Release);
        } else {
            drop_entry(entry, address, batch);
        }
    }
    range.len()
}

#[cfg(test)]
mod tests;
