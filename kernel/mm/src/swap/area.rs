//! The slots of one swap area.
//!
//! The table is made whole at swapon, 12 bytes a slot, so that nothing has to be allocated when memory is short. Slots are given out in order, round
//! and round, so that pages that leave memory together lie together; a chunk without room, or without frames, is passed over at one look.
//!
//! Key type: [`Area`]. Locks: `slots`, a spin lock and leaf; frames are dropped under it.

use super::{AreaIdentity, AreaInfo, AreaRequest, CACHED_PAGES, FREE_PAGES, SwapStore};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::memory::{Frame, FrameFlags, SwapSlot};
use machine::sync::SpinLock;

/// Slots of one chunk of the table.
const CHUNK: usize = 256;
/// The count of a slot that must not be used.
const BAD: u32 = u32::MAX;
/// Where the number of the area is in that of a slot.
const AREA_SHIFT: u32 = 32;
/// A frame with one of these flags is in use by a transfer, or is the only copy.
const BUSY: FrameFlags = FrameFlags::WRITEBACK.union(FrameFlags::LOCKED).union(FrameFlags::DIRTY);

/// Area and page of a slot.
pub(super) fn parts(slot: SwapSlot) -> (usize, u32) {
    ((slot.number() >> AREA_SHIFT) as usize, slot.number() as u32)
}

#[derive(Default)]
struct Slot {
    /// The page, while it is in memory too.
    frame: Option<Frame>,
    /// How many will want it; the slot is free if nobody does and it has no frame.
    count: u32,
}

struct Chunk {
    slots: Vec<Slot>,
    free: u32,
    cached: u32,
}

struct Slots {
    chunks: Vec<Chunk>,
    /// Where the next search for room begins.
    next: u32,
    /// Where the next search for frames to drop begins.
    hand: u32,
    free: u64,
}

/// One swap area.
pub struct Area {
    number: usize,
    store: Arc<dyn SwapStore>,
    request: AreaRequest,
    priority: i32,
    pages: u32,
    usable: u64,
    slots: SpinLock<Slots>,
    free: AtomicU64,
    /// Slots are given out; no longer while swapoff is at work.
    open: AtomicBool,
    /// Counts up among all areas whenever slots are given out: for turns.
    used: AtomicU64,
}

static USES: AtomicU64 = AtomicU64::new(0);

impl Slots {
    fn slot(&mut self, page: u32) -> Option<(&mut Chunk, usize)> {
        let chunk = self.chunks.get_mut(page as usize / CHUNK)?;
        Some((chunk, page as usize % CHUNK))
    }

    fn get(&self, page: u32) -> Option<&Slot> {
        self.chunks.get(page as usize / CHUNK)?.slots.get(page as usize % CHUNK)
    }
}

impl Chunk {
    fn is_free(&self, place: usize) -> bool {
        self.slots.get(place).is_some_and(|slot| slot.count == 0 && slot.frame.is_none())
    }

    fn take_frame(&mut self, place: usize) -> Option<Frame> {
        let frame = self.slots.get_mut(place)?.frame.take()?;
        self.cached -= 1;
        CACHED_PAGES.sub(1);
        // Its owner sees it as any other page from now on.
        frame.state().clear_flags(FrameFlags::SWAP_CACHED | FrameFlags::DIRTY);
        Some(frame)
    }
}

impl Area {
    /// An area of which nothing is used. Errors: `EINVAL`, `ENOMEM`.
    pub(super) fn new(
        number: usize,
        store: Arc<dyn SwapStore>,
        request: AreaRequest,
        priority: i32,
        age: u64,
    ) -> Result<Area> {
        let pages = u32::try_from(request.header.pages).ok().filter(|pages| *pages >= 2);
        let pages = pages.filter(|pages| u64::from(*pages) <= store.pages()).ok_or(Errno::EINVAL)?;
        let mut chunks = Vec::new();
        chunks.try_reserve_exact((pages as usize).div_ceil(CHUNK)).map_err(|_| Errno::ENOMEM)?;
        for start in (0..pages as usize).step_by(CHUNK) {
            let length = CHUNK.min(pages as usize - start);
            let mut slots = Vec::new();
            slots.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
            slots.resize_with(length, Slot::default);
            chunks.push(Chunk { slots, free: length as u32, cached: 0 });
        }
        let mut slots = Slots { chunks, next: 1, hand: 0, free: u64::from(pages) };
        let bad = core::iter::once(0).chain(request.header.bad_pages.iter().copied());
        for page in bad {
            let (chunk, place) = slots.slot(page).ok_or(Errno::EINVAL)?;
            if let Some(slot) = chunk.slots.get_mut(place).filter(|slot| slot.count == 0) {
                slot.count = BAD;
                chunk.free -= 1;
                slots.free -= 1;
            }
        }
        let usable = slots.free;
        if usable == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Area {
            number,
            store,
            request,
            priority,
            pages,
            usable,
            slots: SpinLock::new(slots),
            free: AtomicU64::new(usable),
            open: AtomicBool::new(true),
            used: AtomicU64::new(age),
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// What it lies on.
    pub(super) fn store(&self) -> &Arc<dyn SwapStore> {
        &self.store
    }

    /// Its priority.
    pub(super) fn priority(&self) -> i32 {
        self.priority
    }

    /// Pages that can be used.
    pub(super) fn usable_pages(&self) -> u64 {
        self.usable
    }

    /// All its pages, the header and bad ones too.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// What it is.
    pub(super) fn identity(&self) -> AreaIdentity {
        self.request.identity
    }

    /// How long ago it was used: smaller is longer.
    pub(super) fn last_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The slot of a page.
    pub(super) fn slot(&self, page: u32) -> Option<SwapSlot> {
        SwapSlot::new((self.number as u64) << AREA_SHIFT | u64::from(page))
    }

    /// Whether slots can be had.
    pub(super) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) && self.free.load(Ordering::Relaxed) > 0
    }

    /// Whether `/proc/swaps` shows it.
    pub(super) fn is_shown(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Stops giving slots out (swapoff), or goes on. What is free counts as swap space only while it can be had.
    pub(super) fn set_open(&self, open: bool) {
        let slots = self.slots.lock();
        if self.open.swap(open, Ordering::Relaxed) == open {
            return;
        }
        match open {
            true => FREE_PAGES.add(slots.free),
            false => FREE_PAGES.sub(slots.free),
        }
    }

    /// Its line in `/proc/swaps`.
    pub(super) fn info(&self) -> AreaInfo {
        AreaInfo {
            path: self.request.path.clone(),
            is_file: self.request.is_file,
            pages: self.usable,
            used: self.used_pages(),
            priority: self.priority,
        }
    }

    /// Pages in use.
    pub(super) fn used_pages(&self) -> u64 {
        self.usable - self.free.load(Ordering::Relaxed).min(self.usable)
    }

    /// Takes up to `wanted` free slots that follow each other, each with a count of one.
    pub(super) fn reserve(&self, wanted: usize) -> Option<Range<u32>> {
        let mut slots = self.slots.lock();
        if !self.open.load(Ordering::Relaxed) || slots.free == 0 {
            return None;
        }
        let first = find_free(&slots, self.pages)?;
        let mut end = first;
        while end < self.pages && ((end - first) as usize) < wanted {
            let Some((chunk, place)) = slots.slot(end) else { break };
            if !chunk.is_free(place) {
                break;
            }
            if let Some(slot) = chunk.slots.get_mut(place) {
                slot.count = 1;
                chunk.free -= 1;
            }
            end += 1;
        }
        let taken = u64::from(end - first);
        slots.free -= taken;
        self.free.fetch_sub(taken, Ordering::Relaxed);
        FREE_PAGES.sub(taken);
        slots.next = if end < self.pages { end } else { 1 };
        self.used.store(USES.fetch_add(1, Ordering::Relaxed) + (1 << 32), Ordering::Relaxed);
        Some(first..end)
    }

    /// Gives slots of a run back that were not needed after all.
    pub(super) fn give_back(&self, unused: Range<u32>) {
        if unused.is_empty() {
            return;
        }
        let mut slots = self.slots.lock();
        // The next run goes on where this one ended.
        slots.next = unused.start;
        for page in unused {
            if let Some((chunk, place)) = slots.slot(page)
                && let Some(slot) = chunk.slots.get_mut(place)
            {
                slot.count = 0;
                self.note_free(&mut slots, page);
            }
        }
    }

    fn note_free(&self, slots: &mut Slots, page: u32) {
        let Some((chunk, _)) = slots.slot(page) else { return };
        chunk.free += 1;
        slots.free += 1;
        self.free.fetch_add(1, Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) {
            FREE_PAGES.add(1);
        }
    }

    /// One more will want the page.
    pub(super) fn add_count(&self, page: u32) {
        let mut slots = self.slots.lock();
        if let Some((chunk, place)) = slots.slot(page)
            && let Some(slot) = chunk.slots.get_mut(place)
        {
            debug_assert!(slot.count > 0 || slot.frame.is_some(), "a free slot is wanted");
            slot.count += 1;
        }
    }

    /// One fewer will want it. Gives the frame if nobody needs it any more, to be dropped without locks.
    pub(super) fn drop_count(&self, page: u32) -> Option<Frame> {
        let mut slots = self.slots.lock();
        let (chunk, place) = slots.slot(page)?;
        let slot = chunk.slots.get_mut(place)?;
        debug_assert!(slot.count > 0 && slot.count != BAD, "a slot that nobody wants is given up");
        slot.count -= 1;
        if slot.count > 0 {
            return None;
        }
        let unused = match &slot.frame {
            None => true,
            Some(frame) => {
                let transferred = FrameFlags::WRITEBACK | FrameFlags::LOCKED;
                frame.ref_count() == 1 && !frame.state().flags().intersects(transferred)
            }
        };
        if !unused {
            return None;
        }
        let frame = chunk.take_frame(place);
        self.note_free(&mut slots, page);
        frame
    }

    /// Gives the slot of `page` its frame, if it is wanted and has none. Returns whether that was so.
    pub(super) fn put_frame(&self, page: u32, frame: &Frame, flags: FrameFlags) -> bool {
        let Some(number) = self.slot(page) else { return false };
        let mut slots = self.slots.lock();
        let Some((chunk, place)) = slots.slot(page) else { return false };
        let Some(slot) = chunk.slots.get_mut(place) else { return false };
        if slot.frame.is_some() || slot.count == 0 || slot.count == BAD {
            return false;
        }
        frame.state().index.store(number.number(), Ordering::Relaxed);
        frame.state().set_flags(flags | FrameFlags::SWAP_CACHED);
        slot.frame = Some(frame.clone());
        chunk.cached += 1;
        CACHED_PAGES.add(1);
        true
    }

    /// The frame of a slot, and whether anybody wants it.
    pub(super) fn look(&self, page: u32) -> (Option<Frame>, bool) {
        let slots = self.slots.lock();
        let slot = slots.get(page);
        let wanted = slot.is_some_and(|slot| slot.count > 0 && slot.count != BAD);
        (slot.and_then(|slot| slot.frame.clone()), wanted)
    }

    /// How many want it.
    pub(super) fn count(&self, page: u32) -> u32 {
        self.slots.lock().get(page).map_or(0, |slot| slot.count)
    }

    /// Whether its page is in memory, complete.
    pub(super) fn is_in_memory(&self, page: u32) -> bool {
        let slots = self.slots.lock();
        let frame = slots.get(page).and_then(|slot| slot.frame.as_ref());
        frame.is_some_and(|frame| frame.state().flags().contains(FrameFlags::UPTODATE))
    }

    /// See [`super::take_over`].
    pub(super) fn take_over(&self, page: u32, frame: &Frame) -> bool {
        self.part_with(page, Some(frame), |count, frame| {
            let being_written = frame.state().flags().contains(FrameFlags::WRITEBACK);
            count == 0 && frame.ref_count() == 2 && !being_written
        })
        .is_some()
    }

    /// See [`super::take_back`].
    pub(super) fn take_back(&self, page: u32, frame: &Frame) -> bool {
        let mut slots = self.slots.lock();
        let Some((chunk, place)) = slots.slot(page) else { return false };
        let Some(slot) = chunk.slots.get_mut(place) else { return false };
        let transferred = FrameFlags::WRITEBACK | FrameFlags::LOCKED;
        let is_it = slot.frame.as_ref().is_some_and(|there| there.is_same(frame));
        if !is_it || slot.count != 1 || frame.state().flags().intersects(transferred) {
            return false;
        }
        slot.count = 0;
        drop(chunk.take_frame(place));
        self.note_free(&mut slots, page);
        true
    }

    /// Gives the slot up if only its frame is left of it, mapped or not.
    pub(super) fn give_up(&self, page: u32) -> Option<Frame> {
        let transferred = FrameFlags::WRITEBACK | FrameFlags::LOCKED;
        self.part_with(page, None, |count, frame| {
            count == 0 && !frame.state().flags().intersects(transferred)
        })
    }

    /// Drops the frame of a slot from memory if it is on the disk and nobody maps it. Returns whether it went.
    pub(super) fn drop_frame(&self, page: u32) -> bool {
        self.part_with(page, None, |_, frame| {
            frame.ref_count() == 1 && !frame.state().flags().intersects(BUSY)
        })
        .is_some()
    }

    /// Reading the page has failed: the next one who wants it tries again.
    pub(super) fn drop_failed(&self, page: u32, failed: &Frame) {
        drop(self.part_with(page, Some(failed), |_, frame| {
            !frame.state().flags().intersects(BUSY | FrameFlags::UPTODATE)
        }));
    }

    /// Takes the frame (this one, if one is given) from its slot if `may` (which is told the count) says so.
    fn part_with(
        &self,
        page: u32,
        expected: Option<&Frame>,
        may: impl FnOnce(u32, &Frame) -> bool,
    ) -> Option<Frame> {
        let mut slots = self.slots.lock();
        let (chunk, place) = slots.slot(page)?;
        let slot = chunk.slots.get(place)?;
        let frame = slot.frame.as_ref()?;
        let count = slot.count;
        if expected.is_some_and(|expected| !expected.is_same(frame)) || !may(count, frame) {
            return None;
        }
        let frame = chunk.take_frame(place);
        if count == 0 {
            self.note_free(&mut slots, page);
        }
        frame
    }

    /// See [`super::drop_clean`]. Goes round at most twice: the first time takes the second chances away.
    pub(super) fn drop_clean(&self, wanted: usize) -> usize {
        let mut freed = 0;
        let mut left = 2 * (self.pages as usize).div_ceil(CHUNK);
        while left > 0 && freed < wanted {
            let mut slots = self.slots.lock();
            let before = freed;
            // Chunks without frames are passed over quickly; after one with some, others have their turn.
            while left > 0 && freed == before {
                freed += self.drop_clean_of_chunk(&mut slots);
                left -= 1;
            }
        }
        freed
    }

    fn drop_clean_of_chunk(&self, slots: &mut Slots) -> usize {
        let number = slots.hand as usize / CHUNK;
        slots.hand =
            if (number + 1) * CHUNK < self.pages as usize { ((number + 1) * CHUNK) as u32 } else { 0 };
        let Some(chunk) = slots.chunks.get_mut(number).filter(|chunk| chunk.cached > 0) else { return 0 };
        let mut freed = 0;
        let mut emptied = 0;
        for place in 0..chunk.slots.len() {
            let Some(slot) = chunk.slots.get(place) else { break };
            let Some(frame) = &slot.frame else { continue };
            let count = slot.count;
            let in_use = frame.ref_count() > 1 || frame.state().flags().intersects(BUSY);
            let second_chance = FrameFlags::REFERENCED;
            if in_use || count > 0 && frame.state().clear_flags(second_chance).contains(second_chance) {
                continue;
            }
            drop(chunk.take_frame(place));
            freed += 1;
            if count == 0 {
                emptied += 1;
                chunk.free += 1;
            }
        }
        slots.free += emptied;
        self.free.fetch_add(emptied, Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) {
            FREE_PAGES.add(emptied);
        }
        freed
    }
}

/// The next free slot; there is one.
fn find_free(slots: &Slots, pages: u32) -> Option<u32> {
    let start = slots.next as usize / CHUNK;
    let count = slots.chunks.len();
    // The first chunk comes twice: from where the search begins, and at the end up to there.
    for step in 0..=count {
        let number = (start + step) % count;
        let chunk = slots.chunks.get(number).filter(|chunk| chunk.free > 0);
        let Some(chunk) = chunk else { continue };
        let from = if step == 0 { slots.next as usize % CHUNK } else { 0 };
        if let Some(place) = (from..chunk.slots.len()).find(|place| chunk.is_free(*place)) {
            return u32::try_from(number * CHUNK + place).ok().filter(|page| *page < pages);
        }
    }
    None
}
