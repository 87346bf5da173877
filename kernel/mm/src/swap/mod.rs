//! Swap: pages that no file has, on a disk while memory is short.
//!
//! | file | what |
//! |---|---|
//! | here | which areas there are, what page tables tell of their entries, figures |
//! | `header` | what mkswap(8) wrote |
//! | `area` | [`Area`]: the slots of one area, their counts, and the frames that are also in memory |
//! | `store` | [`SwapStore`]: what an area lies on; [`Transfer`]s to and from it |
//! | `out` | pages of programs leave memory |
//! | `read` | they come back, with their neighbours |
//! | `off`, `entries` | swapoff(2); walks over page tables |
//!
//! A slot has a **count** of those that will want it: entries of page tables ([`machine::memory::SwapSlot`]) and files in memory. While its page is in
//! memory too, the slot has the **frame**: a page that is on its way, that came back and has not changed, or that some still map. So who wants a slot finds
//! the one frame of it, and a page that did not change since is not written again. A frame that a slot has is mapped for reading only; who wants to
//! write takes it over ([`take_over`]) or makes a copy. See ADR 115.
//!
//! Locks: [`CHANGES`] (sleeping) is held by swapon and swapoff; [`AREAS`] and each area's slots are spin locks, the latter taken under leaf locks of page
//! tables; both leaves. `out` has a mutex of its own.

mod area;
pub(crate) mod entries;
mod header;
mod off;
pub(crate) mod out;
mod read;
mod store;

pub use header::{HEADER_BYTES, Header};
pub use out::{page_cluster, set_page_cluster};
pub(crate) use read::{read_ahead, read_in};
pub use store::{Direction, SwapStore, TRANSFER_PAGES, Transfer};

use crate::stats::Counter;
use abi::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use area::Area;
use core::sync::atomic::{AtomicUsize, Ordering};
use machine::memory::{Frame, FrameFlags, SwapHooks, SwapSlot};
use machine::sync::{Mutex, RwSpinLock, WaitKind};
use machine::time::now_ns;

/// The most areas there can be (Linux's `MAX_SWAPFILES`, nearly).
pub const MAX_AREAS: usize = 30;

/// The area with each number.
static AREAS: RwSpinLock<[Option<Arc<Area>>; MAX_AREAS]> = RwSpinLock::new([const { None }; MAX_AREAS]);
/// Held around every change of [`AREAS`].
static CHANGES: Mutex<Changes> = Mutex::new(Changes { given: 0, last_priority: -1 });
/// How many areas there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Pages of all areas, and of these, pages that nobody has.
static TOTAL_PAGES: Counter = Counter::new();
pub(crate) static FREE_PAGES: Counter = Counter::new();
/// Slots that have a frame.
pub(crate) static CACHED_PAGES: Counter = Counter::new();
/// Pages read and written so far (`pswpin` and `pswpout`).
pub(crate) static PAGES_IN: Counter = Counter::new();
pub(crate) static PAGES_OUT: Counter = Counter::new();

struct Changes {
    /// Counts areas, for turns among equals.
    given: u64,
    /// The priority of the last area that was given none.
    last_priority: i32,
}

/// What tells one area from another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AreaIdentity {
    /// A device, by its number.
    Device(u64),
    /// A file, by the number of its file system's device and its own.
    File(u64, u64),
}

bitflags::bitflags! {
    /// When the device is told of pages that are free.
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub struct Discards: u8 {
        /// Of all, when the area begins to be used.
        const ONCE = 1;
        /// Of those that become free.
        const PAGES = 2;
    }
}

/// What an area is, besides where it lies.
pub struct AreaRequest {
    /// As `/proc/swaps` shows it.
    pub path: String,
    /// What it is.
    pub identity: AreaIdentity,
    /// A file, not a partition.
    pub is_file: bool,
    /// 0 to 32767, higher first; `None`: lower than all that there are.
    pub priority: Option<i32>,
    /// Which pages can be used.
    pub header: Header,
    /// When the device is told of pages that are free.
    pub discards: Discards,
}

/// A line of `/proc/swaps`.
pub struct AreaInfo {
    /// The path.
    pub path: String,
    /// A file, not a partition.
    pub is_file: bool,
    /// Pages that can be used.
    pub pages: u64,
    /// Pages that are used.
    pub used: u64,
    /// Its priority; negative if it was given none.
    pub priority: i32,
}

/// The figures of swap space, in pages.
#[derive(Copy, Clone, Debug, Default)]
pub struct SwapInfo {
    /// `SwapTotal`.
    pub total: u64,
    /// `SwapFree`.
    pub free: u64,
    /// `SwapCached`.
    pub cached: u64,
    /// `pswpin`.
    pub pages_in: u64,
    /// `pswpout`.
    pub pages_out: u64,
}

/// The figures now.
pub fn info() -> SwapInfo {
    SwapInfo {
        total: TOTAL_PAGES.get(),
        free: FREE_PAGES.get(),
        cached: CACHED_PAGES.get(),
        pages_in: PAGES_IN.get(),
        pages_out: PAGES_OUT.get(),
    }
}

/// Pages of swap space, for promises (`CommitLimit`).
pub(crate) fn total_pages() -> u64 {
    TOTAL_PAGES.get()
}

/// Whether there is any swap space.
pub(crate) fn is_in_use() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

/// Whether so little is free that slots of pages that are in memory are given up.
fn is_scarce() -> bool {
    FREE_PAGES.get() < TOTAL_PAGES.get() / 2
}

/// Tells page tables who counts their entries. Once, at boot.
pub(crate) fn init() {
    machine::memory::set_swap_hooks(SwapHooks { copied: add_count, dropped: drop_count });
}

/// All areas, in the order of their numbers. Errors: `ENOMEM`.
pub fn areas() -> Result<Vec<AreaInfo>> {
    let mut list = Vec::new();
    list.try_reserve_exact(MAX_AREAS).map_err(|_| Errno::ENOMEM)?;
    for number in 0..MAX_AREAS {
        if let Some(area) = area_at(number).filter(|area| area.is_shown()) {
            list.push(area.info());
        }
    }
    Ok(list)
}

fn area_at(number: usize) -> Option<Arc<Area>> {
    AREAS.read().get(number).cloned().flatten()
}

/// The area that a slot is of, and its page there.
fn area_of(slot: SwapSlot) -> Option<(Arc<Area>, u32)> {
    let (number, page) = area::parts(slot);
    Some((area_at(number)?, page))
}

/// Runs `f` on the area of a slot, without counting a reference: for leaf locks.
fn with_area<R>(slot: SwapSlot, f: impl FnOnce(&Area, u32) -> R) -> Option<R> {
    let (number, page) = area::parts(slot);
    let areas = AREAS.read();
    Some(f(areas.get(number)?.as_ref()?, page))
}

/// Whether this is in use as swap space.
pub fn is_area(identity: AreaIdentity) -> bool {
    (0..MAX_AREAS).filter_map(area_at).any(|area| area.identity() == identity)
}

/// Begins to use `store`, whose first page holds its header. Thread context.
///
/// Errors: `EINVAL`: the store is shorter than the header says, or nothing of it can be used; `EBUSY`: it is in use; `EPERM`: too many areas (as on
/// Linux); `ENOMEM`.
pub fn swap_on(store: Arc<dyn SwapStore>, request: AreaRequest) -> Result<()> {
    let mut changes = CHANGES.lock();
    if is_area(request.identity) {
        return Err(Errno::EBUSY);
    }
    let number = (0..MAX_AREAS).find(|number| area_at(*number).is_none()).ok_or(Errno::EPERM)?;
    let priority = request.priority.unwrap_or_else(|| {
        changes.last_priority -= 1;
        changes.last_priority
    });
    changes.given += 1;
    if request.discards.contains(Discards::ONCE) {
        store.discard(1..request.header.pages.min(store.pages()));
    }
    let area = Area::new(number, store, request, priority, changes.given)?;
    TOTAL_PAGES.add(area.usable_pages());
    FREE_PAGES.add(area.usable_pages());
    let area = machine::memory::try_arc(area)?;
    if let Some(place) = AREAS.write().get_mut(number) {
        *place = Some(area);
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Stops using an area: everything that lies there comes back into memory.
///
/// Errors: `EINVAL`: it is not in use; `ENOMEM`: there is not enough memory; `EINTR`: a signal came. It is in use as before then.
pub fn swap_off(identity: AreaIdentity) -> Result<()> {
    let changes = CHANGES.lock();
    let found = (0..MAX_AREAS).filter_map(area_at).find(|area| area.identity() == identity);
    let area = found.ok_or(Errno::EINVAL)?;
    off::empty_area(&area)?;
    let gone = AREAS.write().get_mut(area.number()).and_then(Option::take);
    COUNT.fetch_sub(1, Ordering::Relaxed);
    TOTAL_PAGES.sub(area.usable_pages());
    drop((changes, gone));
    // Somebody may still look at it. Who comes after this call finds the device free.
    while Arc::strong_count(&area) > 1 {
        sched::park(Some(now_ns().saturating_add(off::PAUSE_NS)), WaitKind::Uninterruptible);
    }
    // The store's owner may sleep when it lets go of its device.
    drop(area);
    Ok(())
}

/// Takes up to `wanted` slots that follow each other, each with a count of one; of the area whose turn it is. `None` if there are none.
pub(crate) fn reserve(wanted: usize) -> Option<(Arc<Area>, core::ops::Range<u32>)> {
    for _ in 0..MAX_AREAS {
        let best = {
            let areas = AREAS.read();
            let usable = areas.iter().flatten().filter(|area| area.has_room());
            // Higher priority first; among equals the one that was used longest ago.
            usable.min_by_key(|area| (-i64::from(area.priority()), area.last_used())).cloned()
        };
        let area = best?;
        if let Some(run) = area.reserve(wanted) {
            return Some((area, run));
        }
    }
    None
}

fn add_count(slot: SwapSlot) {
    with_area(slot, |area, page| area.add_count(page));
}

/// One who would have wanted the slot will not. Under leaf locks.
pub(crate) fn drop_count(slot: SwapSlot) {
    let frame = with_area(slot, |area, page| area.drop_count(page));
    drop(frame);
}

/// The slot that has a frame; the answer may change at once if the frame is not mapped.
fn slot_of(frame: &Frame) -> Option<SwapSlot> {
    let state = frame.state();
    if !state.flags().contains(FrameFlags::SWAP_CACHED) {
        return None;
    }
    SwapSlot::new(state.index.load(Ordering::Relaxed))
}

/// Whether `frame` is what `slot` has. Under the leaf lock of an entry that stands for the slot, the answer holds.
pub(crate) fn is_of(frame: &Frame, slot: SwapSlot) -> bool {
    slot_of(frame) == Some(slot)
}

/// Makes a frame that is mapped at one place only that place's alone, if it is known to swap space for nobody else's sake: it may be written
/// then. Under the leaf lock of its entry.
pub(crate) fn take_over(frame: &Frame) -> bool {
    let Some(slot) = slot_of(frame) else { return false };
    with_area(slot, |area, page| area.take_over(page, frame)).unwrap_or(false)
}

/// Whether a private page may be written by the one whose entry maps it. Under the leaf lock of the entry.
pub(crate) fn is_exclusive(frame: &Frame) -> bool {
    // A page that a device writes was one program's alone when it was lent, and is shared with nobody until it is back.
    frame.ref_count() == 1 || frame.state().is_lent() || take_over(frame)
}

/// A frame is about to be unmapped for good: if this was its last place, the slot needs it no more. Under the leaf lock.
pub(crate) fn note_unmapping(frame: &Frame) {
    if frame.state().flags().contains(FrameFlags::SWAP_CACHED) {
        take_over(frame);
    }
}

/// A page has come back into an entry: if slots are scarce, its slot goes if nobody else wants it.
pub(crate) fn note_came_back(slot: SwapSlot) {
    if is_scarce() {
        let frame = with_area(slot, |area, page| area.give_up(page));
        drop(frame);
    }
}

/// Takes a frame from a slot that only a file wants: the page is the file's again, and the slot is free. Returns whether it was so.
pub(crate) fn take_back(slot: SwapSlot, frame: &Frame) -> bool {
    with_area(slot, |area, page| area.take_back(page, frame)).unwrap_or(false)
}

/// How many want a slot.
pub(crate) fn count_of(slot: SwapSlot) -> u32 {
    with_area(slot, |area, page| area.count(page)).unwrap_or(0)
}

/// Whether the page of a slot is in memory.
pub(crate) fn is_in_memory(slot: SwapSlot) -> bool {
    with_area(slot, |area, page| area.is_in_memory(page)).unwrap_or(false)
}

/// Drops up to `wanted` frames that came back, are unchanged, and that nobody maps. Returns how many went.
pub(crate) fn drop_clean(wanted: usize) -> usize {
    if CACHED_PAGES.get() == 0 {
        return 0;
    }
    let mut freed = 0;
    for number in 0..MAX_AREAS {
        if freed < wanted
            && let Some(area) = area_at(number)
        {
            freed += area.drop_clean(wanted - freed);
        }
    }
    freed
}
