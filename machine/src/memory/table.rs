//! Page tables of user address spaces, behind range operations.
//!
//! Key types: [`PageTable`], [`Mapping`], [`TlbBatch`]. Each table page of the lowest level has a spin lock of its own, so
//! that faults in different 2 MiB regions do not meet. Table pages are freed after an RCU grace period. The kernel half
//! is the same in all tables.
//!
//! Addresses must be page-aligned and below [`crate::USER_END`]; others panic (callers check what users give).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use super::buddy::{self, Urgency};
use super::swap_slot::{self, SwapSlot};
use super::{AllocFlags, Frame, FrameState, OutOfMemory, TABLE_PAGES, copy};
use crate::cpu::{CpuId, CpuSet};
use crate::sync::raw::RawSpinLock;
use crate::sync::rcu;
use crate::{MAX_CPUS, PAGE_SHIFT, PAGE_SIZE, USER_END, arch, irq, local, preempt};

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
/// Stale pages beyond this are flushed together.
const MAX_SINGLE_FLUSHES: u64 = 32;
/// Frames that a batch holds before it has to be flushed.
const BATCH_FRAMES: usize = 512;

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

/// A range of stale pages and the generation that it belongs to.
struct FlushSlot {
    generation: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
}

const FLUSH_SLOTS: usize = 4;

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
            flushes: [const {
                FlushSlot {
                    generation: AtomicU64::new(0),
                    start: AtomicUsize::new(0),
                    end: AtomicUsize::new(0),
                }
            }; FLUSH_SLOTS],
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

/// PCIDs that a CPU rotates through.
const CONTEXTS: usize = 6;

/// What a CPU has loaded.
pub(crate) struct CpuTlb {
    /// The table in use: a counted reference. Others look at the address only.
    active: AtomicPtr<PageTable>,
    /// The generation of it that this CPU's TLB is up to date with.
    generation: AtomicU64,
    /// Which table's entries are tagged with which PCID - 1, and how fresh they are. Own CPU.
    contexts: [(AtomicU64, AtomicU64); CONTEXTS],
    context: AtomicU32,
    next_context: AtomicU32,
}

impl CpuTlb {
    pub(crate) const fn new() -> CpuTlb {
        CpuTlb {
            active: AtomicPtr::new(core::ptr::null_mut()),
            generation: AtomicU64::new(0),
            contexts: [const { (AtomicU64::new(0), AtomicU64::new(0)) }; CONTEXTS],
            context: AtomicU32::new(0),
            next_context: AtomicU32::new(0),
        }
    }
}

#[inline(never)]
fn switch_table(new: Option<Arc<PageTable>>) {
    irq::raw_disable();
    let cpu = arch::cpu_id() as usize;
    let tlb = &local::local().tlb;
    let old = tlb.active.load(Ordering::Relaxed);
    // Remember how fresh the entries are that stay in the TLB.
    tlb.contexts[tlb.context.load(Ordering::Relaxed) as usize]
        .1
        .store(tlb.generation.load(Ordering::Relaxed), Ordering::Relaxed);
    match new {
        Some(table) => {
            table.active[cpu / 64].fetch_or(1 << (cpu % 64), Ordering::SeqCst);
            let generation = table.generation.load(Ordering::SeqCst);
            let (pcid, keep) = choose_context(tlb, table.id, generation);
            tlb.generation.store(generation, Ordering::Release);
            let root = table.root_phys();
            tlb.active.store(Arc::into_raw(table).cast_mut(), Ordering::Release);
            // SAFETY: the root has the kernel's half; the table lives while it is active.
            unsafe { arch::load_root(root, pcid, keep) };
        }
        None => {
            tlb.active.store(core::ptr::null_mut(), Ordering::Release);
            // SAFETY: the kernel's own root.
            unsafe { arch::load_root(arch::kernel_root(), 0, false) };
        }
    }
    irq::raw_enable();
    if !old.is_null() {
        // SAFETY: `active` held a counted reference, which is ours now.
        let old = unsafe { Arc::from_raw(old) };
        old.active[cpu / 64].fetch_and(!(1 << (cpu % 64)), Ordering::SeqCst);
        if Arc::strong_count(&old) == 1 {
            retire(old);
        }
    }
}

/// Drops the last reference of a table after a grace period, in thread context. Needs no memory: this is how memory comes
/// back.
fn retire(table: Arc<PageTable>) {
    unsafe fn free(head: *mut rcu::Head) {
        // SAFETY: the head is the room of a table, which `retire` made of an `Arc`.
        drop(unsafe {
            Arc::from_raw(head.byte_sub(core::mem::offset_of!(PageTable, room)).cast::<PageTable>())
        });
    }
    let table = Arc::into_raw(table);
    // SAFETY: the table lives until `free`, which the caller's reference is for; as the last one it gets here once.
    unsafe { rcu::defer_raw(rcu::Room::head(&raw const (*table).room), free) };
}

/// A PCID for a table, and whether the entries tagged with it are still good.
fn choose_context(tlb: &CpuTlb, id: u64, generation: u64) -> (u16, bool) {
    if arch::max_pcid() < CONTEXTS as u16 {
        return (0, false);
    }
    for (index, (owner, seen)) in tlb.contexts.iter().enumerate() {
        if owner.load(Ordering::Relaxed) == id {
            tlb.context.store(index as u32, Ordering::Relaxed);
            let fresh = seen.load(Ordering::Relaxed) == generation;
            return (index as u16 + 1, fresh);
        }
    }
    let index = tlb.next_context.load(Ordering::Relaxed) as usize;
    tlb.next_context.store(((index + 1) % CONTEXTS) as u32, Ordering::Relaxed);
    tlb.contexts[index].0.store(id, Ordering::Relaxed);
    tlb.context.store(index as u32, Ordering::Relaxed);
    (index as u16 + 1, false)
}

/// Brings this CPU's TLB up to date with its table. Interrupts off.
pub(crate) fn catch_up() {
    let tlb = &local::local().tlb;
    let active = tlb.active.load(Ordering::Relaxed);
    // SAFETY: a counted reference is held while it is active, and this CPU does not switch with interrupts off.
    let Some(table) = (unsafe { active.as_ref() }) else { return };
    let current = table.generation.load(Ordering::SeqCst);
    let seen = tlb.generation.load(Ordering::Relaxed);
    if seen >= current {
        return;
    }
    if !table.flush_slots(seen + 1..current + 1) {
        arch::flush_user_all();
    }
    tlb.generation.store(current, Ordering::Release);
}

impl PageTable {
    /// Flushes the ranges of these generations page by page; `false` if that is not possible or not sensible.
    fn flush_slots(&self, generations: Range<u64>) -> bool {
        if generations.end - generations.start > FLUSH_SLOTS as u64 {
            return false;
        }
        let mut left = MAX_SINGLE_FLUSHES;
        for generation in generations {
            let slot = &self.flushes[generation as usize % FLUSH_SLOTS];
            let valid = slot.generation.load(Ordering::Acquire) == generation;
            let range = slot.start.load(Ordering::Relaxed)..slot.end.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if !valid || slot.generation.load(Ordering::Relaxed) != generation {
                return false;
            }
            let pages = (range.len() / PAGE_SIZE) as u64;
            if pages > left {
                return false;
            }
            left -= pages;
            range.step_by(PAGE_SIZE).for_each(arch::flush_page);
        }
        true
    }

    /// Begins a new generation in which the range is stale.
    fn next_generation(&self, range: &Range<usize>) -> u64 {
        irq::raw_disable();
        self.flush_lock.lock();
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let slot = &self.flushes[generation as usize % FLUSH_SLOTS];
        slot.generation.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        slot.start.store(range.start, Ordering::Relaxed);
        slot.end.store(range.end, Ordering::Relaxed);
        slot.generation.store(generation, Ordering::Release);
        self.generation.store(generation, Ordering::SeqCst);
        self.flush_lock.unlock();
        irq::raw_enable();
        generation
    }

    /// Makes every CPU forget the range.
    fn shoot_down(&self, range: &Range<usize>) {
        let generation = self.next_generation(range);
        // The entries were changed, then the generation, then this reads who is active; `switch_table` marks itself
        // active, then reads the generation: one of the two sees the other.
        fence(Ordering::SeqCst);
        preempt::raw_disable();
        let me = arch::cpu_id() as usize;
        let others = |index: usize| {
            let mine = if me / 64 == index { 1 << (me % 64) } else { 0 };
            self.active[index].load(Ordering::SeqCst) & !mine
        };
        for index in 0..MAX_CPUS / 64 {
            let mut bits = others(index);
            while bits != 0 {
                arch::send_ipi((index * 64) as u32 + bits.trailing_zeros(), arch::Ipi::Tlb);
                bits &= bits - 1;
            }
        }
        catch_up_here();
        for index in 0..MAX_CPUS / 64 {
            let mut bits = others(index);
            while bits != 0 {
                self.wait_for((index * 64) as u32 + bits.trailing_zeros(), generation);
                bits &= bits - 1;
            }
        }
        preempt::raw_enable();
    }

    /// Waits until a CPU has caught up or has another table. Answers others meanwhile: they may wait for this CPU with
    /// interrupts off here.
    fn wait_for(&self, cpu: u32, generation: u64) {
        let tlb = &local::of(cpu).tlb;
        while core::ptr::eq(tlb.active.load(Ordering::Acquire), self)
            && tlb.generation.load(Ordering::Acquire) < generation
        {
            catch_up_here();
            arch::relax();
            // A thread of the process gets no interrupt; with nothing held it is not using a translation.
            #[cfg(not(target_os = "none"))]
            if arch::is_quiescent_remotely(cpu) {
                return;
            }
        }
    }
}

fn catch_up_here() {
    irq::raw_disable();
    catch_up();
    irq::raw_enable();
}

/// Collects TLB entries to be dropped and the frames they may still reach; [`TlbBatch::flush`] (also on drop) drops both.
#[derive(Debug)]
pub struct TlbBatch<'t> {
    table: &'t PageTable,
    stale: Range<usize>,
    frames: Vec<Frame>,
    /// Frames that fit without a heap.
    few: [Option<Frame>; 8],
    few_used: usize,
    /// First of the dead table pages, linked through their states.
    tables: u32,
}

const NO_TABLE: u32 = u32::MAX;
/// Where growing a range to the least and the greatest address begins.
const NOTHING_STALE: Range<usize> = Range { start: usize::MAX, end: 0 };

impl<'t> TlbBatch<'t> {
    /// An empty batch for one table.
    #[inline]
    pub fn new(table: &'t PageTable) -> TlbBatch<'t> {
        TlbBatch {
            table,
            stale: NOTHING_STALE,
            frames: Vec::new(),
            few: [const { None }; 8],
            few_used: 0,
            tables: NO_TABLE,
        }
    }

    fn check(&self, table: &PageTable) {
        assert!(core::ptr::eq(self.table, table), "a TLB batch of another page table");
    }

    #[inline]
    fn add_page(&mut self, address: usize) {
        self.add_range(address..address + PAGE_SIZE);
    }

    #[inline]
    fn add_range(&mut self, range: Range<usize>) {
        self.stale.start = self.stale.start.min(range.start);
        self.stale.end = self.stale.end.max(range.end);
    }

    /// Whether it must be flushed before it can take another frame.
    #[inline]
    fn is_full(&self) -> bool {
        self.few_used == self.few.len() && self.frames.len() == self.frames.capacity()
    }

    /// Takes a frame; there is room.
    #[inline]
    fn add_frame(&mut self, frame: Frame) {
        if self.few_used < self.few.len() {
            self.few[self.few_used] = Some(frame);
            self.few_used += 1;
        } else {
            self.frames.push(frame);
        }
    }

    fn add_table(&mut self, table: u32) {
        table_state(table).set_links(self.tables, NO_TABLE);
        self.tables = table;
        // Processors remember upper levels too: everything goes.
        self.add_range(0..USER_END);
    }

    /// Makes room for at least one frame. No lock is held.
    #[inline]
    fn make_room(&mut self) {
        if self.is_full() && (self.frames.len() >= BATCH_FRAMES || self.frames.try_reserve(64).is_err()) {
            self.flush();
        }
    }

    /// Drops the stale entries on all CPUs that use the table, then the frames. No page-table lock is held.
    pub fn flush(&mut self) {
        if !self.stale.is_empty() {
            let stale = core::mem::replace(&mut self.stale, NOTHING_STALE);
            self.table.shoot_down(&stale);
        }
        for frame in &mut self.few[..self.few_used] {
            *frame = None;
        }
        self.few_used = 0;
        self.frames.clear();
        while self.tables != NO_TABLE {
            let table = self.tables;
            self.tables = table_state(table).links().0;
            // SAFETY: it was taken out of its tree, and the processors have forgotten it; software walks hold RCU.
            unsafe { free_table_later(table) };
        }
    }
}

impl Drop for TlbBatch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::AllocFlags;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const HERE: usize = 0x4000_0000;
    const RW: Perms = Perms::READ.union(Perms::WRITE);

    fn frame(mark: u8) -> Frame {
        let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
        frame.write(0, &[mark]);
        frame
    }

    fn mark(table: &PageTable, address: usize) -> Option<u8> {
        table.query(address).map(|mapping| {
            let mut byte = [0];
            mapping.frame.read(0, &mut byte);
            byte[0]
        })
    }

    /// What a processor does for a write whose translation it does not remember as dirty: in one step it notes the write in an
    /// entry that allows it, or faults.
    fn processor_writes(table: &PageTable, address: usize) -> bool {
        let mut number = table.root;
        for level in (1..LEVELS).rev() {
            let entry = entry_at(number, index_of(address, level)).load(Ordering::SeqCst);
            if entry == 0 {
                return false;
            }
            number = number_in(entry);
        }
        let allowed = arch::PTE_PRESENT | arch::PTE_WRITE;
        entry_at(number, index_of(address, 0))
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |entry| {
                (entry & allowed == allowed).then_some(entry | arch::PTE_ACCESSED | arch::PTE_DIRTY)
            })
            .is_ok()
    }

    fn clean_page(table: &PageTable, batch: &mut TlbBatch<'_>) {
        assert!(table.map(HERE, frame(1), RW).unwrap().is_none());
        table.update_range(HERE..HERE + PAGE_SIZE, batch, |_, _| EntryAction::Clean);
        assert!(!table.query(HERE).unwrap().dirty);
    }

    #[test]
    fn a_write_during_an_unmap_is_seen_or_faults() {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        clean_page(&table, &mut batch);
        let (mut dirty, mut written) = (false, false);
        table.unmap_range(HERE..HERE + PAGE_SIZE, &mut batch, |address, mapping| {
            dirty = mapping.dirty;
            written = processor_writes(&table, address);
        });
        assert!(!written || dirty, "a write went to a page that was unmapped as clean");
        assert!(!processor_writes(&table, HERE));
    }

    #[test]
    fn a_write_before_an_unmap_is_seen() {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        clean_page(&table, &mut batch);
        assert!(processor_writes(&table, HERE));
        let mut dirty = false;
        table.unmap_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, mapping| dirty = mapping.dirty);
        assert!(dirty);
    }

    #[test]
    fn looking_leaves_a_clean_page_writable() {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        clean_page(&table, &mut batch);
        table.update_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| EntryAction::Keep);
        table.update_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| EntryAction::Clean);
        assert!(table.query(HERE).unwrap().perms.contains(RW));
        assert!(processor_writes(&table, HERE));
        assert!(table.query(HERE).unwrap().dirty);
    }

    #[test]
    fn protecting_keeps_a_write_that_came_in_time() {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        clean_page(&table, &mut batch);
        assert!(processor_writes(&table, HERE));
        table.protect_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| Perms::READ);
        let mapping = table.query(HERE).unwrap();
        assert!(mapping.dirty && !mapping.perms.contains(Perms::WRITE));
        assert!(!processor_writes(&table, HERE));
    }

    #[test]
    fn a_move_carries_pages_and_what_is_noted_of_them() {
        let region = span(1);
        for (from, to) in [
            (HERE, HERE + 8 * region),                                      // aligned alike
            (HERE + 3 * PAGE_SIZE, HERE + 8 * region + region - PAGE_SIZE), // across regions on both sides
            (HERE, HERE + 16 * PAGE_SIZE),                                  // within one leaf table
            (HERE + 8 * region, HERE),                                      // downwards
        ] {
            let table = PageTable::new().unwrap();
            let mut batch = TlbBatch::new(&table);
            for page in [0, 1, 5, 15] {
                assert!(table.map(from + page * PAGE_SIZE, frame(page as u8 + 1), RW).unwrap().is_none());
            }
            table.protect_range(from..from + PAGE_SIZE, &mut batch, |_, _| Perms::READ);
            table.move_range(from..from + 16 * PAGE_SIZE, to, &mut batch).unwrap();
            for page in 0..16 {
                let expected = [0, 1, 5, 15].contains(&page).then_some(page as u8 + 1);
                assert_eq!(mark(&table, to + page * PAGE_SIZE), expected);
                assert_eq!(mark(&table, from + page * PAGE_SIZE), None);
            }
            let first = table.query(to).unwrap();
            assert!(
                first.dirty && first.perms == Perms::READ,
                "a page that was written before it was protected"
            );
        }
    }

    #[test]
    fn a_move_over_thousands_of_pages_drops_what_does_not_fit() {
        const PAGES: usize = 1500;
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        let (from, to) = (HERE + PAGE_SIZE, HERE + 32 * span(1));
        let shared = frame(1);
        for page in 0..PAGES {
            assert!(table.map(from + page * PAGE_SIZE, shared.clone(), RW).unwrap().is_none());
            if page % 2 == 0 {
                assert!(table.map(to + page * PAGE_SIZE, frame(2), RW).unwrap().is_none());
            }
        }
        table.move_range(from..from + PAGES * PAGE_SIZE, to, &mut batch).unwrap();
        batch.flush();
        for page in 0..PAGES {
            assert_eq!(mark(&table, to + page * PAGE_SIZE), Some(if page % 2 == 0 { 2 } else { 1 }));
        }
        assert_eq!(shared.ref_count() as usize, 1 + PAGES / 2, "what was dropped has been given back");
    }

    /// Pages of the model: three runs, in two leaf tables that touch and in one far away.
    const RUNS: [usize; 3] = [HERE + 510 * PAGE_SIZE, HERE + 512 * PAGE_SIZE, 0x7000_0000_0000];
    const RUN_PAGES: usize = 6;

    #[derive(Clone, Debug)]
    enum Step {
        Map(usize, bool),
        Replace(usize),
        Unmap(usize, usize),
        Protect(usize, usize, bool),
        Clean(usize, usize),
        Write(usize),
        Fork(usize, usize, bool),
        Move(usize, usize, usize),
        FreeTables,
    }

    fn step() -> impl Strategy<Value = Step> {
        let page = || 0..RUN_PAGES * RUNS.len();
        let length = || 1..RUN_PAGES;
        prop_oneof![
            6 => (page(), any::<bool>()).prop_map(|(page, write)| Step::Map(page, write)),
            2 => page().prop_map(Step::Replace),
            2 => (page(), length()).prop_map(|(page, length)| Step::Unmap(page, length)),
            2 => (page(), length(), any::<bool>()).prop_map(|(page, length, write)| Step::Protect(page, length, write)),
            1 => (page(), length()).prop_map(|(page, length)| Step::Clean(page, length)),
            3 => page().prop_map(Step::Write),
            1 => (page(), length(), any::<bool>()).prop_map(|(page, length, shared)| Step::Fork(page, length, shared)),
            2 => (page(), page(), length()).prop_map(|(from, to, length)| Step::Move(from, to, length)),
            1 => Just(Step::FreeTables),
        ]
    }

    fn address_of(page: usize) -> usize {
        RUNS[page / RUN_PAGES] + page % RUN_PAGES * PAGE_SIZE
    }

    /// The addresses from a page on, within its run.
    fn range_of(page: usize, length: usize) -> Range<usize> {
        let last = (page % RUN_PAGES + length).min(RUN_PAGES) - page % RUN_PAGES;
        address_of(page)..address_of(page) + last * PAGE_SIZE
    }

    /// What the model knows of a page: its mark, whether it can be written, whether it was.
    type Model = BTreeMap<usize, (u8, bool, bool)>;

    fn agree(table: &PageTable, model: &Model) {
        for address in (0..RUNS.len() * RUN_PAGES).map(address_of) {
            let found =
                table.query(address).map(|mapping| (mapping.perms.contains(Perms::WRITE), mapping.dirty));
            let expected = model.get(&address).map(|(_, write, dirty)| (*write, *dirty));
            assert_eq!(found, expected, "{address:#x}");
            assert_eq!(mark(table, address), model.get(&address).map(|page| page.0), "{address:#x}");
        }
    }

    fn perms(write: bool) -> Perms {
        if write { RW } else { Perms::READ }
    }

    fn copy(
        table: &PageTable,
        model: &mut Model,
        range: Range<usize>,
        mode: CopyMode,
        batch: &mut TlbBatch<'_>,
    ) {
        let child = PageTable::new().unwrap();
        table.copy_range_cow(&child, range.clone(), mode, batch, |_, _| {}).unwrap();
        if mode == CopyMode::CopyOnWrite {
            model.range_mut(range.clone()).for_each(|(_, page)| page.1 = false);
        }
        for (address, page) in &*model {
            let copied = child.query(*address).map(|mapping| mapping.perms.contains(Perms::WRITE));
            assert_eq!(copied, range.contains(address).then_some(page.1));
            assert!(copied.is_none() || mark(&child, *address) == Some(page.0));
        }
    }

    fn relocate(
        table: &PageTable,
        model: &mut Model,
        from: Range<usize>,
        to: usize,
        batch: &mut TlbBatch<'_>,
    ) {
        if from.start < to + from.len() && to < from.end {
            return;
        }
        table.move_range(from.clone(), to, batch).unwrap();
        for address in from.clone().step_by(PAGE_SIZE) {
            if let Some(page) = model.remove(&address) {
                model.entry(address - from.start + to).or_insert(page);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Every page is what a map of pages says, after any steps; in the end every frame comes back.
        #[test]
        fn agrees_with_a_btree_model(steps in proptest::collection::vec(step(), 1..60)) {
            let table = PageTable::new().unwrap();
            let mut batch = TlbBatch::new(&table);
            let mut model = Model::new();
            for (number, step) in steps.into_iter().enumerate() {
                let new_mark = number as u8 + 1;
                match step {
                    Step::Map(page, write) => {
                        let there = table.map(address_of(page), frame(new_mark), perms(write)).unwrap().is_some();
                        assert_eq!(there, model.contains_key(&address_of(page)));
                        // A page that is mapped to be written counts as written.
                        model.entry(address_of(page)).or_insert((new_mark, write, write));
                    }
                    Step::Replace(page) => {
                        let new = frame(new_mark);
                        table.update(address_of(page), &mut batch, |_| (EntryAction::Map(new, RW), ())).unwrap();
                        model.insert(address_of(page), (new_mark, true, true));
                    }
                    Step::Unmap(page, length) => {
                        let range = range_of(page, length);
                        let mut removed = Vec::new();
                        table.unmap_range(range.clone(), &mut batch, |address, _| removed.push(address));
                        let expected: Vec<_> = model.range(range).map(|(address, _)| *address).collect();
                        assert_eq!(&removed, &expected);
                        model.retain(|address, _| !expected.contains(address));
                    }
                    Step::Protect(page, length, write) => {
                        table.protect_range(range_of(page, length), &mut batch, |_, _| perms(write));
                        model.range_mut(range_of(page, length)).for_each(|(_, page)| page.1 = write);
                    }
                    Step::Clean(page, length) => {
                        table.update_range(range_of(page, length), &mut batch, |_, _| EntryAction::Clean);
                        model.range_mut(range_of(page, length)).for_each(|(_, page)| page.2 = false);
                    }
                    Step::Write(page) => {
                        let known = model.get_mut(&address_of(page)).filter(|page| page.1);
                        let writes = table.query(address_of(page)).is_some() && processor_writes(&table, address_of(page));
                        assert_eq!(writes, known.is_some());
                        known.into_iter().for_each(|page| page.2 = true);
                    }
                    Step::Fork(page, length, shared) => {
                        let mode = if shared { CopyMode::Shared } else { CopyMode::CopyOnWrite };
                        copy(&table, &mut model, range_of(page, length), mode, &mut batch);
                    }
                    Step::Move(from, to, length) => {
                        let most = RUN_PAGES - (from % RUN_PAGES).max(to % RUN_PAGES);
                        relocate(&table, &mut model, range_of(from, length.min(most)), address_of(to), &mut batch);
                    }
                    Step::FreeTables => {
                        let used = model.range(RUNS[2]..).next().is_some();
                        if !used {
                            table.free_tables(RUNS[2]..RUNS[2] + span(1), &mut batch);
                        }
                    }
                }
                batch.flush();
                agree(&table, &model);
            }
        }
    }
}
