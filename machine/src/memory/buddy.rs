//! The frame allocator: a buddy system behind per-CPU caches of single pages.
//!
//! Free blocks are linked through their first page's [`FrameState`]; nothing of a free page itself is touched, and of a
//! free block only the first page's metadata, so boot costs the number of blocks, not of pages. `references` of a
//! first page says what the block is: free with its order, in a CPU's cache, reserved, or in use.
//!
//! Key functions: [`init`], [`alloc_page`], [`free_page`], [`alloc_block`], [`free_range`]. Locks: `ZONE`, a leaf lock
//! that is held with interrupts off.
//!
//! # Invariants
//! A page number that this module hands out belongs to the caller until it is given back, and names RAM that the direct
//! map reaches.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, compiler_fence};

use super::{FrameState, ORDERS, OutOfMemory};
use crate::sync::raw::RawSpinLock;
use crate::{PAGE_SHIFT, PAGE_SIZE, arch, local, preempt};

/// A range of RAM, page-aligned physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryRegion {
    /// First byte.
    pub(crate) start: u64,
    /// Byte after the last.
    pub(crate) end: u64,
}

/// `references` of a free block's first page: this and the order.
const FREE: u32 = 0x8000_0000;
/// `references` of a page that is not ours.
const RESERVED: u32 = 0xc000_0000;
const NONE: u32 = u32::MAX;
const MAX_ORDER: u8 = (ORDERS - 1) as u8;
const MAX_BLOCK: usize = 1 << MAX_ORDER;
/// A CPU's cache is filled with this many pages at once, and emptied so when it holds twice that.
const BATCH_ORDER: u8 = 4;
const BATCH: u32 = 1 << BATCH_ORDER;
/// How many blocks of each size are looked at for one at a low address.
const LOOK_BELOW: u32 = 512;

static STATES: AtomicPtr<FrameState> = AtomicPtr::new(core::ptr::null_mut());
static STATE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// The metadata of a page.
///
/// # Safety
/// `number` is the number of a page that [`init`] or [`add_region`] was told of, or of their surroundings.
#[inline(always)]
pub(crate) unsafe fn state_of(number: u32) -> &'static FrameState {
    // SAFETY: the array covers all such pages, lives forever and every bit pattern is a valid `FrameState`.
    unsafe { &*STATES.load(Ordering::Relaxed).add(number as usize) }
}

/// Where the kernel sees a page.
#[inline(always)]
pub(crate) fn page_address(number: u32) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(arch::direct_map_base() + ((number as usize) << PAGE_SHIFT))
}

/// The page that a direct-map address is in.
#[inline(always)]
pub(crate) fn page_number(address: *const u8) -> u32 {
    ((address.expose_provenance() - arch::direct_map_base()) >> PAGE_SHIFT) as u32
}

struct Lists {
    heads: [u32; ORDERS],
    counts: [usize; ORDERS],
    free_pages: usize,
    total_pages: usize,
    reserve: usize,
}

struct Zone {
    lock: RawSpinLock,
    lists: UnsafeCell<Lists>,
}

// SAFETY: `lists` is only touched through `with_lists`, under the lock.
unsafe impl Sync for Zone {}

static ZONE: Zone = Zone {
    lock: RawSpinLock::new(),
    lists: UnsafeCell::new(Lists {
        heads: [NONE; ORDERS],
        counts: [0; ORDERS],
        free_pages: 0,
        total_pages: 0,
        reserve: 0,
    }),
};

fn with_lists<R>(f: impl FnOnce(&mut Lists) -> R) -> R {
    crate::irq::raw_disable();
    ZONE.lock.lock();
    // SAFETY: the lock is held and interrupts are off; `f` does not come back here.
    let result = f(unsafe { &mut *ZONE.lists.get() });
    ZONE.lock.unlock();
    crate::irq::raw_enable();
    result
}

impl Lists {
    /// Puts a block on its list. The block is free and ours.
    fn push(&mut self, number: u32, order: u8) {
        let head = self.heads[usize::from(order)];
        // SAFETY: blocks on the lists are managed pages.
        let state = unsafe { state_of(number) };
        state.references.store(FREE | u32::from(order), Ordering::Relaxed);
        state.set_links(head, NONE);
        if head != NONE {
            // SAFETY: as above.
            unsafe { state_of(head) }.set_previous(number);
        }
        self.heads[usize::from(order)] = number;
        self.counts[usize::from(order)] += 1;
        self.free_pages += 1 << order;
    }

    /// Takes a block off its list.
    fn unlink(&mut self, number: u32, order: u8) {
        // SAFETY: blocks on the lists are managed pages.
        let state = unsafe { state_of(number) };
        let (next, previous) = state.links();
        if next != NONE {
            // SAFETY: as above.
            unsafe { state_of(next) }.set_previous(previous);
        }
        if previous != NONE {
            // SAFETY: as above.
            unsafe { state_of(previous) }.set_next(next);
        } else {
            self.heads[usize::from(order)] = next;
        }
        state.references.store(1, Ordering::Relaxed);
        self.counts[usize::from(order)] -= 1;
        self.free_pages -= 1 << order;
    }

    fn alloc(&mut self, order: u8) -> Option<u32> {
        let found = (order..=MAX_ORDER).find(|&o| self.heads[usize::from(o)] != NONE)?;
        let number = self.heads[usize::from(found)];
        self.unlink(number, found);
        for half in (order..found).rev() {
            self.push(number + (1 << half), half);
        }
        Some(number)
    }

    /// Takes a block whose pages are all below `limit`, if one is among the first few of some list.
    fn alloc_below(&mut self, order: u8, limit: u32) -> Option<u32> {
        for found in order..=MAX_ORDER {
            let mut number = self.heads[usize::from(found)];
            for _ in 0..LOOK_BELOW {
                if number == NONE {
                    break;
                }
                if number + (1 << order) <= limit {
                    self.unlink(number, found);
                    for half in (order..found).rev() {
                        self.push(number + (1 << half), half);
                    }
                    return Some(number);
                }
                // SAFETY: blocks on the lists are managed pages.
                number = unsafe { state_of(number) }.links().0;
            }
        }
        None
    }

    /// Gives a block back and joins it with its buddies.
    fn free(&mut self, mut number: u32, mut order: u8) {
        while order < MAX_ORDER {
            let buddy = number ^ 1 << order;
            // SAFETY: the array covers whole blocks of the largest order around all managed pages. The buddy is the
            // first page of whatever it is part of (a larger block would hold `number` too), so its state is valid.
            if unsafe { state_of(buddy) }.references.load(Ordering::Relaxed) != FREE | u32::from(order) {
                break;
            }
            self.unlink(buddy, order);
            number &= !(1 << order);
            order += 1;
        }
        self.push(number, order);
    }
}

/// Calls `f(first, order)` for the largest aligned blocks that make up a range of pages.
fn for_each_block(mut start: u32, end: u32, mut f: impl FnMut(u32, u8)) {
    while start < end {
        let aligned = if start == 0 { MAX_ORDER } else { (start.trailing_zeros() as u8).min(MAX_ORDER) };
        let fits = (end - start).ilog2() as u8;
        let order = aligned.min(fits);
        f(start, order);
        start += 1 << order;
    }
}

/// Makes the allocator know the RAM. Once, on the boot CPU, before the heap is used. The regions are sorted, apart and
/// free. Gives the pages that the metadata took.
///
/// # Safety
/// Nobody else uses the regions, now or later, and the direct map reaches them.
pub(crate) unsafe fn init(regions: &[MemoryRegion]) -> usize {
    let top =
        regions.last().map_or(0, |region| (region.end >> PAGE_SHIFT) as usize).next_multiple_of(MAX_BLOCK);
    let bytes = (top * size_of::<FrameState>()).next_multiple_of(PAGE_SIZE);
    let Some(home) = regions.iter().rposition(|region| region.end - region.start > bytes as u64) else {
        return 0;
    };
    let array_end = regions[home].end;
    let array_start = array_end - bytes as u64;
    STATES.store(page_address((array_start >> PAGE_SHIFT) as u32).cast(), Ordering::Relaxed);
    STATE_COUNT.store(top, Ordering::Relaxed);

    let managed = |index: usize| {
        let mut region = regions[index];
        if index == home {
            region.end = array_start;
        }
        ((region.start >> PAGE_SHIFT) as u32, (region.end >> PAGE_SHIFT) as u32)
    };
    // The surroundings of each region are not ours, as far as merging is concerned.
    for index in 0..regions.len() {
        let (start, end) = managed(index);
        let block = MAX_BLOCK as u32;
        for number in (start / block * block..start).chain(end..end.next_multiple_of(block)) {
            // SAFETY: within the array, see `top`.
            unsafe { state_of(number) }.references.store(RESERVED, Ordering::Relaxed);
        }
    }
    with_lists(|lists| {
        for index in 0..regions.len() {
            let (start, end) = managed(index);
            lists.total_pages += (end - start) as usize;
            for_each_block(start, end, |number, order| lists.push(number, order));
        }
        lists.reserve = (lists.total_pages / 64).clamp(64, 4096);
    });
    bytes / PAGE_SIZE
}

/// Adds RAM later: what boot used and no longer needs.
///
/// # Safety
/// As [`init`]; and the pages lie below the top of memory that `init` was told.
pub(crate) unsafe fn add_region(region: MemoryRegion) {
    let start = region.start.div_ceil(PAGE_SIZE as u64) as u32;
    let end = ((region.end >> PAGE_SHIFT) as usize).min(STATE_COUNT.load(Ordering::Relaxed)) as u32;
    if start >= end {
        return;
    }
    for number in start..end {
        // SAFETY: below the top.
        unsafe { state_of(number) }.references.store(1, Ordering::Relaxed);
    }
    with_lists(|lists| {
        lists.total_pages += (end - start) as usize;
        for_each_block(start, end, |number, order| lists.free(number, order));
    });
}

/// Who may have a page when few are left. What one level leaves is there for those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// What programs get: their memory, page tables, stacks of threads. Leaves the reserve alone.
    Normal,
    /// The kernel's heap where it may sleep, so that it can reclaim instead. Leaves half of the reserve.
    Kernel,
    /// Who cannot wait: spin locks held, an interrupt, a dying program, reclaiming itself. Takes what there is.
    Last,
}

impl Lists {
    /// Whether `count` pages may go to somebody of this urgency.
    fn may_give(&self, urgency: Urgency, count: usize) -> bool {
        let left = match urgency {
            Urgency::Normal => self.reserve,
            Urgency::Kernel => self.reserve / 2,
            Urgency::Last => 0,
        };
        self.free_pages >= left + count
    }
}

/// One CPU's cache: a list of single pages linked through their metadata.
pub(crate) struct PageCacheCpu {
    head: Cell<u32>,
    count: Cell<u32>,
}

// SAFETY: `Cell`s are touched by their own CPU only, with preemption off and under `allocator_busy`. Others read `count`
// for statistics through `cached_pages`, which tolerates any value.
unsafe impl Sync for PageCacheCpu {}

impl PageCacheCpu {
    pub(crate) const fn new() -> PageCacheCpu {
        PageCacheCpu { head: Cell::new(NONE), count: Cell::new(0) }
    }

    #[inline(always)]
    fn pop(&self) -> Option<u32> {
        let number = self.head.get();
        if number == NONE {
            return None;
        }
        // SAFETY: pages in the cache are managed pages.
        self.head.set(unsafe { state_of(number) }.links().0);
        self.count.set(self.count.get() - 1);
        Some(number)
    }

    #[inline(always)]
    fn push(&self, number: u32) -> u32 {
        // SAFETY: as in `pop`.
        let state = unsafe { state_of(number) };
        state.references.store(0, Ordering::Relaxed);
        state.set_links(self.head.get(), NONE);
        self.head.set(number);
        let count = self.count.get() + 1;
        self.count.set(count);
        count
    }
}

/// Runs `f` on this CPU's caches, unless an interrupted user of them is in the middle.
#[inline(always)]
pub(crate) fn with_cpu_caches<R>(f: impl FnOnce(&local::Local) -> R) -> Option<R> {
    preempt::raw_disable();
    let local = local::local();
    let result = if local.allocator_busy.load(Ordering::Relaxed) {
        None
    } else {
        local.allocator_busy.store(true, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let result = f(local);
        compiler_fence(Ordering::SeqCst);
        local.allocator_busy.store(false, Ordering::Relaxed);
        Some(result)
    };
    preempt::raw_enable();
    result
}

/// Takes one page; its contents and metadata are whatever they were.
#[inline]
pub(crate) fn alloc_page(urgency: Urgency) -> Result<u32, OutOfMemory> {
    #[cfg(not(target_os = "none"))]
    if !fault_injection::allow() {
        return Err(OutOfMemory);
    }
    match with_cpu_caches(|local| local.pages.pop()) {
        Some(Some(number)) => Ok(number),
        _ => refill(urgency),
    }
}

#[cold]
#[inline(never)]
fn refill(urgency: Urgency) -> Result<u32, OutOfMemory> {
    #[cfg(not(target_os = "none"))]
    arch::ensure_memory();
    let (first, count) = with_lists(|lists| {
        if !lists.may_give(urgency, 1) {
            return None;
        }
        // A batch on this CPU's list is anybody's: none near the end.
        match lists.may_give(Urgency::Normal, BATCH as usize).then(|| lists.alloc(BATCH_ORDER)).flatten() {
            Some(number) => Some((number, BATCH)),
            None => lists.alloc(0).map(|number| (number, 1)),
        }
    })
    .ok_or(OutOfMemory)?;
    super::note_allocated();
    let kept = with_cpu_caches(|local| {
        // Backwards, so that pages come out in rising order.
        for number in (first + 1..first + count).rev() {
            local.pages.push(number);
        }
    });
    if kept.is_none() {
        mark_in_use(first, count);
        for number in first + 1..first + count {
            with_lists(|lists| lists.free(number, 0));
        }
    }
    Ok(first)
}

/// Gives one page back.
///
/// # Safety
/// The page came from this module and the caller has no further use of it.
#[inline]
pub(crate) unsafe fn free_page(number: u32) {
    match with_cpu_caches(|local| local.pages.push(number)) {
        Some(count) if count < 2 * BATCH => {}
        Some(_) => drain(BATCH),
        None => with_lists(|lists| lists.free(number, 0)),
    }
}

#[cold]
#[inline(never)]
fn drain(count: u32) {
    for _ in 0..count {
        let Some(Some(number)) = with_cpu_caches(|local| local.pages.pop()) else { return };
        with_lists(|lists| lists.free(number, 0));
    }
}

/// Gives this CPU's cached pages back, so that they can join larger blocks.
pub(crate) fn drain_all() {
    drain(u32::MAX);
}

/// Takes 2^order pages in a row.
pub(crate) fn alloc_block(order: u8, urgency: Urgency) -> Result<u32, OutOfMemory> {
    if order > MAX_ORDER {
        return Err(OutOfMemory);
    }
    #[cfg(not(target_os = "none"))]
    {
        if !fault_injection::allow() {
            return Err(OutOfMemory);
        }
        arch::ensure_memory();
    }
    with_lists(|lists| if lists.may_give(urgency, 1 << order) { lists.alloc(order) } else { None })
        .ok_or(OutOfMemory)
}

/// Takes 2^order pages in a row that lie below a physical address, from what is not kept in reserve.
pub(crate) fn alloc_block_below(order: u8, limit: u64) -> Result<u32, OutOfMemory> {
    if order > MAX_ORDER {
        return Err(OutOfMemory);
    }
    #[cfg(not(target_os = "none"))]
    arch::ensure_memory();
    let limit = u32::try_from(limit >> PAGE_SHIFT).unwrap_or(u32::MAX);
    let take = |lists: &mut Lists| {
        if lists.may_give(Urgency::Normal, 1 << order) { lists.alloc_below(order, limit) } else { None }
    };
    with_lists(take).ok_or(OutOfMemory)
}

/// Marks pages of a block as single ones in use, so that they may be given back one by one.
pub(crate) fn mark_in_use(first: u32, count: u32) {
    for number in first..first + count {
        // SAFETY: the block was handed out by this module.
        unsafe { state_of(number) }.references.store(1, Ordering::Relaxed);
    }
}

/// Gives pages in a row back. A part of a block must have been through [`mark_in_use`] as a whole before.
///
/// # Safety
/// As [`free_page`], for each page.
pub(crate) unsafe fn free_range(first: u32, count: u32) {
    with_lists(|lists| for_each_block(first, first + count, |number, order| lists.free(number, order)));
}

/// What [`super::stats`] needs.
pub(crate) struct Figures {
    pub(crate) total_pages: usize,
    pub(crate) free_pages: usize,
    pub(crate) reserve_pages: usize,
    pub(crate) free_per_order: [usize; ORDERS],
}

/// Today's figures.
pub(crate) fn figures() -> Figures {
    #[cfg(not(target_os = "none"))]
    arch::ensure_memory();
    let cached: usize = (0..crate::cpu::possible_count()).map(|cpu| cached_pages(cpu as u32)).sum();
    with_lists(|lists| Figures {
        total_pages: lists.total_pages,
        free_pages: lists.free_pages + cached,
        reserve_pages: lists.reserve,
        free_per_order: lists.counts,
    })
}

/// Free pages, those in CPUs' caches not counted, and the reserve.
pub(crate) fn free_and_reserve() -> (usize, usize) {
    with_lists(|lists| (lists.free_pages, lists.reserve))
}

/// Sets how many pages are kept for the kernel, within reason.
pub(crate) fn set_reserve(pages: usize) {
    with_lists(|lists| lists.reserve = pages.clamp(64, (lists.total_pages / 4).max(64)));
}

fn cached_pages(cpu: u32) -> usize {
    // SAFETY: a `Cell<u32>` may be read through a volatile pointer while its CPU changes it; any value will do.
    unsafe { local::of(cpu).pages.count.as_ptr().read_volatile() as usize }
}

/// Failing on purpose, for tests.
#[cfg(not(target_os = "none"))]
pub(crate) mod fault_injection {
    use core::sync::atomic::{AtomicI64, Ordering};

    static LEFT: AtomicI64 = AtomicI64::new(-1);

    /// Sets how many allocations still succeed.
    pub(crate) fn set(count: Option<usize>) {
        LEFT.store(count.map_or(-1, |count| count as i64), Ordering::Relaxed);
    }

    pub(super) fn allow() -> bool {
        match LEFT.load(Ordering::Relaxed) {
            -1 => true,
            0 => false,
            left => {
                LEFT.store(left - 1, Ordering::Relaxed);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// No block overlaps another; in the end all are free again, joined to blocks as large as before.
    fn take_and_give_back(operations: &[(u8, bool, usize)]) {
        let before = figures().free_per_order;
        let mut held: Vec<(u32, u8)> = Vec::new();
        for &(order, allocate, victim) in operations {
            if allocate || held.is_empty() {
                let block = if order == 0 {
                    alloc_page(Urgency::Normal)
                } else {
                    alloc_block(order, Urgency::Normal)
                };
                let first = block.unwrap();
                assert_eq!(first % (1 << order), 0);
                for &(other, other_order) in &held {
                    assert!(first + (1 << order) <= other || other + (1 << other_order) <= first);
                }
                held.push((first, order));
            } else {
                let (first, order) = held.swap_remove(victim % held.len());
                // SAFETY: taken above and not used any more.
                unsafe { if order == 0 { free_page(first) } else { free_range(first, 1 << order) } };
            }
        }
        for (first, order) in held {
            // SAFETY: as above.
            unsafe { free_range(first, 1 << order) };
        }
        drain_all();
        assert_eq!(figures().free_per_order, before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_never_overlap(operations in proptest::collection::vec((0u8..=6, any::<bool>(), 0usize..64), 1..200)) {
            crate::host::run(0, 1, || take_and_give_back(&operations));
        }
    }

    #[test]
    fn blocks_of_a_range_cover_it() {
        for (start, end) in [(0, 1), (1, 1024), (3, 5000), (1024, 4096), (0, 4096)] {
            let mut next = start;
            for_each_block(start, end, |number, order| {
                assert_eq!(number, next);
                assert_eq!(number % (1 << order), 0);
                next += 1 << order;
            });
            assert_eq!(next, end);
        }
    }
}
