//! What processors remember of page tables: which one each has loaded, what of it is stale, and how all of them are made to forget.
//!
//! Key types: [`TlbBatch`] (stale addresses and the frames behind them, dropped when all have forgotten), [`CpuTlb`] (what a CPU has). Neighbour:
//! [`super`], whose entries are changed before they are forgotten. Locks: a table's `flush_lock`, a leaf with interrupts off.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use super::{PageTable, free_table_later, table_state};
use crate::memory::Frame;
use crate::sync::rcu;
use crate::{MAX_CPUS, PAGE_SIZE, USER_END, arch, irq, local, preempt};

/// Frames that a batch holds before it has to be flushed.
const BATCH_FRAMES: usize = 512;
/// Stale pages beyond this are flushed together.
const MAX_SINGLE_FLUSHES: u64 = 32;
/// Flushes that a table remembers the ranges of.
pub(super) const FLUSH_SLOTS: usize = 4;

/// A range of stale pages and the generation that it belongs to.
pub(super) struct FlushSlot {
    generation: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
}

impl FlushSlot {
    pub(super) const fn new() -> FlushSlot {
        FlushSlot { generation: AtomicU64::new(0), start: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }
}

/// PCIDs that a CPU rotates through.
const CONTEXTS: usize = 6;

/// What a CPU has loaded.
pub(crate) struct CpuTlb {
    /// The table in use: a counted reference. Others look at the address only.
    pub(super) active: AtomicPtr<PageTable>,
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
pub(super) fn switch_table(new: Option<Arc<PageTable>>) {
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
    pub(super) table: &'t PageTable,
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

    pub(super) fn check(&self, table: &PageTable) {
        assert!(core::ptr::eq(self.table, table), "a TLB batch of another page table");
    }

    #[inline]
    pub(super) fn add_page(&mut self, address: usize) {
        self.add_range(address..address + PAGE_SIZE);
    }

    #[inline]
    pub(super) fn add_range(&mut self, range: Range<usize>) {
        self.stale.start = self.stale.start.min(range.start);
        self.stale.end = self.stale.end.max(range.end);
    }

    /// Whether it must be flushed before it can take another frame.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.few_used == self.few.len() && self.frames.len() == self.frames.capacity()
    }

    /// Takes a frame; there is room.
    #[inline]
    pub(super) fn add_frame(&mut self, frame: Frame) {
        if self.few_used < self.few.len() {
            self.few[self.few_used] = Some(frame);
            self.few_used += 1;
        } else {
            self.frames.push(frame);
        }
    }

    pub(super) fn add_table(&mut self, table: u32) {
        table_state(table).set_links(self.tables, NO_TABLE);
        self.tables = table;
        // Processors remember upper levels too: everything goes.
        self.add_range(0..USER_END);
    }

    /// Makes room for at least one frame. No lock is held.
    #[inline]
    pub(super) fn make_room(&mut self) {
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
