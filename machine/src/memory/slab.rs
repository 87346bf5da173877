//! The object allocator under the heap: size classes, slabs from the frame allocator, per-CPU free lists.
//!
//! A free object holds the link to the next one. Each CPU has a list per class, used with preemption off only. When it
//! runs out it takes a batch from a slab under the class's lock, when it grows too long it gives half back. A slab's
//! metadata is its first page's [`FrameState`]: `raw_count` objects in use, `index` free list, `flags` objects never handed
//! out yet, `mapping` links of the list of slabs with free objects.
//!
//! Key functions: [`allocate`], [`deallocate`], [`reallocate`]. Locks: one per class, outside the frame allocator's.

#![cfg_attr(
    not(any(target_os = "none", test)),
    expect(
        dead_code,
        reason = "the heap of a program on the host is the host's; only its figures are asked for"
    )
)]

use alloc::vec::Vec;
use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::FrameState;
use super::buddy::{self, Urgency};
use super::heap::ClassStats;
use crate::PAGE_SIZE;
use crate::sync::raw::RawSpinLock;

const SIZES: [usize; 15] = [8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];
const CLASSES: usize = SIZES.len();
const LARGEST: usize = SIZES[CLASSES - 1];
/// The largest object that memory is reclaimed for, and a program ended (Linux's PAGE_ALLOC_COSTLY_ORDER, 8 pages).
const LARGEST_NEEDED: usize = 8 * PAGE_SIZE;
const NONE: u32 = u32::MAX;

/// Class of a size, by `(size + 7) / 8`.
static CLASS_OF: [u8; LARGEST / 8 + 1] = {
    let mut table = [0; LARGEST / 8 + 1];
    let (mut step, mut class) = (0, 0);
    while step < table.len() {
        if step * 8 > SIZES[class] {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

/// A slab is one page, so that memory in pieces never keeps a small object from being made.
const fn objects_per_slab(class: usize) -> u32 {
    (PAGE_SIZE / SIZES[class]) as u32
}

/// Objects moved between a CPU's list and the slabs at once.
const fn batch(class: usize) -> u32 {
    let objects = (4096 / SIZES[class]) as u32;
    if objects > 32 {
        32
    } else if objects < 4 {
        4
    } else {
        objects
    }
}

struct Slabs {
    /// First slab with free objects.
    partial: u32,
    slabs: usize,
    /// The one slab without an object in use that is kept; it is on the list.
    spare: u32,
    in_use: usize,
}

struct Class {
    lock: RawSpinLock,
    slabs: UnsafeCell<Slabs>,
}

// SAFETY: `slabs` is only touched through `with_slabs`, under the lock.
unsafe impl Sync for Class {}

static ALL: [Class; CLASSES] = [const {
    Class {
        lock: RawSpinLock::new(),
        slabs: UnsafeCell::new(Slabs { partial: NONE, slabs: 0, spare: NONE, in_use: 0 }),
    }
}; CLASSES];

static HEAP_PAGES: AtomicUsize = AtomicUsize::new(0);

fn with_slabs<R>(class: usize, f: impl FnOnce(&mut Slabs) -> R) -> R {
    crate::irq::raw_disable();
    let shared = &ALL[class];
    shared.lock.lock();
    // SAFETY: the lock is held and interrupts are off; `f` does not come back for the same class.
    let result = f(unsafe { &mut *shared.slabs.get() });
    shared.lock.unlock();
    crate::irq::raw_enable();
    result
}

struct FreeList {
    head: Cell<*mut u8>,
    count: Cell<u32>,
}

/// One CPU's lists.
pub(crate) struct CpuCaches([FreeList; CLASSES]);

// SAFETY: touched by its own CPU only, through `buddy::with_cpu_caches`.
unsafe impl Sync for CpuCaches {}

impl CpuCaches {
    pub(crate) const fn new() -> CpuCaches {
        CpuCaches([const { FreeList { head: Cell::new(null_mut()), count: Cell::new(0) } }; CLASSES])
    }
}

impl FreeList {
    #[inline(always)]
    fn pop(&self) -> *mut u8 {
        let object = self.head.get();
        if !object.is_null() {
            // SAFETY: a free object holds the link to the next one and nobody else touches it.
            self.head.set(unsafe { object.cast::<*mut u8>().read() });
            self.count.set(self.count.get() - 1);
        }
        object
    }

    /// # Safety
    /// The object is free and of this list's class.
    #[inline(always)]
    unsafe fn push(&self, object: *mut u8) -> u32 {
        // SAFETY: the caller gives the object up; objects have room for a pointer.
        unsafe { object.cast::<*mut u8>().write(self.head.get()) };
        self.head.set(object);
        let count = self.count.get() + 1;
        self.count.set(count);
        count
    }
}

/// The class for a layout, or `None` for whole pages.
#[inline(always)]
fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.align() <= 8 {
        layout.size()
    } else if layout.align() == 16 && layout.size() > 8 {
        // All sizes but 8 are multiples of 16.
        layout.size()
    } else {
        layout.size().max(layout.align()).checked_next_power_of_two()?
    };
    (size <= LARGEST).then(|| usize::from(CLASS_OF[size.div_ceil(8)]))
}

/// Memory for a layout (of a size above 0), or null.
#[inline]
pub(crate) fn allocate(layout: Layout) -> *mut u8 {
    match class_of(layout) {
        Some(class) => match buddy::with_cpu_caches(|local| local.heap.0[class].pop()) {
            Some(object) if !object.is_null() => object,
            _ => refill(class),
        },
        None => allocate_pages(layout),
    }
}

/// Gives memory back.
///
/// # Safety
/// It came from [`allocate`] with this layout and is not used any more.
#[inline]
pub(crate) unsafe fn deallocate(object: *mut u8, layout: Layout) {
    match class_of(layout) {
        Some(class) => {
            // SAFETY: the caller's contract: the object is free now, and its layout's class is the one it came from.
            match buddy::with_cpu_caches(|local| unsafe { local.heap.0[class].push(object) }) {
                Some(count) if count <= 2 * batch(class) => {}
                Some(_) => flush(class, batch(class)),
                // SAFETY: as above.
                None => with_slabs(class, |slabs| unsafe { slabs.put(class, object) }),
            }
        }
        None => {
            let pages = layout.size().div_ceil(PAGE_SIZE) as u32;
            HEAP_PAGES.fetch_sub(pages as usize, Ordering::Relaxed);
            let first = buddy::page_number(object);
            // SAFETY: `allocate_pages` made it of that many pages.
            unsafe { if pages == 1 { buddy::free_page(first) } else { buddy::free_range(first, pages) } };
        }
    }
}

/// Changes the size, keeping the contents; null if there is no memory (the old object then stays).
///
/// # Safety
/// As [`deallocate`] for the old object; `new_size` is above 0 and valid for the alignment.
pub(crate) unsafe fn reallocate(object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else { return null_mut() };
    let stays = match (class_of(layout), class_of(new_layout)) {
        (Some(old), Some(new)) => old == new,
        (None, None) => layout.size().div_ceil(PAGE_SIZE) == new_size.div_ceil(PAGE_SIZE),
        _ => false,
    };
    if stays {
        return object;
    }
    let new = allocate(new_layout);
    if !new.is_null() {
        // SAFETY: both are valid for the smaller of the sizes and apart; the old one is given up by the caller.
        unsafe {
            object.copy_to_nonoverlapping(new, layout.size().min(new_size));
            deallocate(object, layout);
        }
    }
    new
}

/// Whole pages, or null.
fn allocate_pages(layout: Layout) -> *mut u8 {
    let first_try = take_pages(layout, Urgency::Kernel);
    if !first_try.is_null() {
        return first_try;
    }
    patiently(layout.size(), |urgency| Some(take_pages(layout, urgency)).filter(|pages| !pages.is_null()))
        .unwrap_or(null_mut())
}

/// Makes `attempt` again for something of `bytes` when the first one has failed: something small is worth reclaiming and ending a
/// program for, if the caller may sleep, and else the last reserve; something big is not, whoever asks for it can do without.
#[cold]
#[inline(never)]
fn patiently<R>(bytes: usize, mut attempt: impl FnMut(Urgency) -> Option<R>) -> Option<R> {
    if bytes > LARGEST_NEEDED {
        return None;
    }
    super::retry(|| attempt(Urgency::Kernel)).or_else(|| attempt(Urgency::Last))
}

fn take_pages(layout: Layout, urgency: Urgency) -> *mut u8 {
    let pages = layout.size().div_ceil(PAGE_SIZE);
    if pages == 1 && layout.align() <= PAGE_SIZE {
        let Ok(number) = buddy::alloc_page(urgency) else { return null_mut() };
        // SAFETY: the page was just handed to us.
        unsafe { buddy::state_of(number) }.references.store(1, Ordering::Relaxed);
        HEAP_PAGES.fetch_add(1, Ordering::Relaxed);
        return buddy::page_address(number);
    }
    let order = pages.max(layout.align() / PAGE_SIZE).next_power_of_two().trailing_zeros() as u8;
    let Ok(first) = buddy::alloc_block(order, urgency) else { return null_mut() };
    if pages != 1 << order {
        buddy::mark_in_use(first, 1 << order);
        // SAFETY: the tail of the block is not used.
        unsafe { buddy::free_range(first + pages as u32, (1 << order) - pages as u32) };
    }
    HEAP_PAGES.fetch_add(pages, Ordering::Relaxed);
    buddy::page_address(first)
}

/// Takes a batch from the slabs: one object for the caller, the others for this CPU's list.
#[cold]
#[inline(never)]
fn refill(class: usize) -> *mut u8 {
    let mut taken = [null_mut::<u8>(); 32];
    let wanted = batch(class) as usize;
    let mut count = with_slabs(class, |slabs| slabs.take(class, &mut taken[..wanted]));
    if count == 0 {
        let take = |urgency| buddy::alloc_page(urgency).ok();
        let Some(page) = take(Urgency::Kernel).or_else(|| patiently(SIZES[class], take)) else {
            return null_mut();
        };
        HEAP_PAGES.fetch_add(1, Ordering::Relaxed);
        count = with_slabs(class, |slabs| {
            slabs.add_slab(page);
            slabs.take(class, &mut taken[..wanted])
        });
    }
    let (&first, rest) = taken[..count].split_first().unwrap_or((&null_mut(), &[]));
    let kept = buddy::with_cpu_caches(|local| {
        for &object in rest {
            // SAFETY: just taken from a slab of this class.
            unsafe { local.heap.0[class].push(object) };
        }
    });
    if kept.is_none() {
        with_slabs(class, |slabs| {
            for &object in rest {
                // SAFETY: as above.
                unsafe { slabs.put(class, object) };
            }
        });
    }
    first
}

/// Gives objects of this CPU's list back to their slabs.
#[cold]
#[inline(never)]
fn flush(class: usize, count: u32) {
    let mut taken = [null_mut::<u8>(); 32];
    let taken = &mut taken[..count.min(32) as usize];
    let got = buddy::with_cpu_caches(|local| {
        let list = &local.heap.0[class];
        let mut got = 0;
        while got < taken.len() {
            taken[got] = list.pop();
            if taken[got].is_null() {
                break;
            }
            got += 1;
        }
        got
    });
    with_slabs(class, |slabs| {
        for &object in &taken[..got.unwrap_or(0)] {
            // SAFETY: free objects of this class.
            unsafe { slabs.put(class, object) };
        }
    });
}

impl Slabs {
    /// Puts a slab on the list of those with free objects.
    fn link(&mut self, number: u32) {
        // SAFETY: slabs are managed pages.
        let state = unsafe { buddy::state_of(number) };
        state.set_links(self.partial, NONE);
        if self.partial != NONE {
            // SAFETY: as above.
            unsafe { buddy::state_of(self.partial) }.set_previous(number);
        }
        self.partial = number;
    }

    fn unlink(&mut self, state: &FrameState) {
        let (next, previous) = state.links();
        if next != NONE {
            // SAFETY: slabs are managed pages.
            unsafe { buddy::state_of(next) }.set_previous(previous);
        }
        if previous != NONE {
            // SAFETY: as above.
            unsafe { buddy::state_of(previous) }.set_next(next);
        } else {
            self.partial = next;
        }
    }

    fn add_slab(&mut self, number: u32) {
        // SAFETY: as in `link`.
        let state = unsafe { buddy::state_of(number) };
        state.references.store(1, Ordering::Relaxed);
        state.raw_count().store(0, Ordering::Relaxed);
        state.raw_flags().store(0, Ordering::Relaxed);
        state.index.store(0, Ordering::Relaxed);
        self.slabs += 1;
        self.link(number);
    }

    /// Fills `into` with free objects as far as there are; says how many.
    fn take(&mut self, class: usize, into: &mut [*mut u8]) -> usize {
        let mut count = 0;
        while count < into.len() && self.partial != NONE {
            let number = self.partial;
            // SAFETY: as in `link`.
            let state = unsafe { buddy::state_of(number) };
            let mut in_use = state.raw_count().load(Ordering::Relaxed);
            let mut free =
                core::ptr::with_exposed_provenance_mut::<u8>(state.index.load(Ordering::Relaxed) as usize);
            let mut fresh = state.raw_flags().load(Ordering::Relaxed);
            if number == self.spare {
                self.spare = NONE;
            }
            while count < into.len() && in_use < objects_per_slab(class) {
                into[count] = if free.is_null() {
                    fresh += 1;
                    // SAFETY: the slab has room for that many objects.
                    unsafe { buddy::page_address(number).add((fresh as usize - 1) * SIZES[class]) }
                } else {
                    // SAFETY: a free object holds the link to the next one.
                    let taken = free;
                    // SAFETY: as above.
                    free = unsafe { taken.cast::<*mut u8>().read() };
                    taken
                };
                count += 1;
                in_use += 1;
            }
            state.raw_count().store(in_use, Ordering::Relaxed);
            state.index.store(free.expose_provenance() as u64, Ordering::Relaxed);
            state.raw_flags().store(fresh, Ordering::Relaxed);
            if in_use == objects_per_slab(class) {
                self.unlink(state);
            }
        }
        self.in_use += count;
        count
    }

    /// Puts an object back into its slab; frees the slab if it is one empty slab too many.
    ///
    /// # Safety
    /// The object is free and of this class.
    unsafe fn put(&mut self, class: usize, object: *mut u8) {
        let number = buddy::page_number(object);
        // SAFETY: as in `link`.
        let state = unsafe { buddy::state_of(number) };
        // SAFETY: the caller gives the object up.
        unsafe {
            let next =
                core::ptr::with_exposed_provenance_mut::<u8>(state.index.load(Ordering::Relaxed) as usize);
            object.cast::<*mut u8>().write(next);
        }
        state.index.store(object.expose_provenance() as u64, Ordering::Relaxed);
        let in_use = state.raw_count().load(Ordering::Relaxed);
        state.raw_count().store(in_use - 1, Ordering::Relaxed);
        self.in_use -= 1;
        if in_use == objects_per_slab(class) {
            self.link(number);
        }
        if in_use == 1 {
            if self.spare == NONE {
                self.spare = number;
            } else {
                self.free_slab(number);
            }
        }
    }

    /// Gives a slab without an object in use back.
    fn free_slab(&mut self, number: u32) {
        // SAFETY: as in `link`.
        self.unlink(unsafe { buddy::state_of(number) });
        self.slabs -= 1;
        HEAP_PAGES.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: no object of it is in use, and it is on no list.
        unsafe { buddy::free_page(number) };
    }
}

/// See [`super::heap::shrink`].
pub(crate) fn shrink() -> usize {
    let before = HEAP_PAGES.load(Ordering::Relaxed);
    for class in 0..CLASSES {
        loop {
            let left = buddy::with_cpu_caches(|local| local.heap.0[class].count.get()).unwrap_or(0);
            if left == 0 {
                break;
            }
            flush(class, left);
        }
        with_slabs(class, |slabs| {
            let spare = core::mem::replace(&mut slabs.spare, NONE);
            if spare != NONE {
                slabs.free_slab(spare);
            }
        });
    }
    buddy::drain_all();
    before.saturating_sub(HEAP_PAGES.load(Ordering::Relaxed))
}

/// Pages that the heap holds.
pub(crate) fn heap_pages() -> usize {
    HEAP_PAGES.load(Ordering::Relaxed)
}

/// See [`super::heap::class_stats`].
pub(crate) fn class_stats() -> Vec<ClassStats> {
    (0..CLASSES)
        .map(|class| {
            let (slabs, active_objects) = with_slabs(class, |slabs| (slabs.slabs, slabs.in_use));
            ClassStats {
                object_bytes: SIZES[class],
                active_objects,
                total_objects: slabs * objects_per_slab(class) as usize,
                slabs,
                pages_per_slab: 1,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_fit() {
        for size in 1..=LARGEST {
            let class = class_of(Layout::from_size_align(size, 8).unwrap()).unwrap();
            assert!(SIZES[class] >= size && (class == 0 || SIZES[class - 1] < size));
        }
        assert_eq!(class_of(Layout::from_size_align(2049, 8).unwrap()), None);
    }

    /// Objects keep their bytes; in the end the heap has no page left.
    fn take_and_give_back(operations: &[(usize, u32, bool, usize)]) {
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut tag = 0u8;
        // SAFETY: called with objects that are held, with their layouts.
        let is_whole = |object: *mut u8, length: usize, tag: u8| unsafe {
            core::slice::from_raw_parts(object, length).iter().all(|&byte| byte == tag)
        };
        for &(size, align, free, victim) in operations {
            if !free || held.is_empty() {
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                let object = allocate(layout);
                assert!(!object.is_null() && object.addr().is_multiple_of(layout.align()));
                tag = tag.wrapping_add(1);
                // SAFETY: `size` bytes are ours.
                unsafe { object.write_bytes(tag, size) };
                held.push((object, layout, tag));
            } else {
                let (object, layout, tag) = held.swap_remove(victim % held.len());
                assert!(is_whole(object, layout.size(), tag));
                let new = layout.size() * 2;
                // SAFETY: allocated above with this layout.
                let grown = unsafe { reallocate(object, layout, new) };
                assert!(is_whole(grown, layout.size(), tag));
                // SAFETY: it has this layout now.
                unsafe { deallocate(grown, Layout::from_size_align(new, layout.align()).unwrap()) };
            }
        }
        for (object, layout, tag) in held {
            assert!(is_whole(object, layout.size(), tag));
            // SAFETY: as above.
            unsafe { deallocate(object, layout) };
        }
        shrink();
        assert_eq!(heap_pages(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn objects_keep_their_bytes(operations in proptest::collection::vec((1usize..10_000, 0u32..8, any::<bool>(), 0usize..64), 1..300)) {
            crate::host::run(0, 1, || take_and_give_back(&operations));
        }
    }
}
