//! The address space: the map of its VMAs, its page table, and the transactions that change them.
//!
//! # Locks
//! `state` (a sleeping reader-writer lock) is held to write by whoever changes the map ([`Edit`]) and to read by whoever
//! needs it to stand still (fork, populate). **Page faults take neither**: they look their VMA up in `published`, a
//! snapshot of the map behind RCU, and check it once more in the leaf lock (see `crate::vma`). Order:
//! `state` → a page cache's `mappings` → leaf lock of the page table → a page cache's `pages` → frame allocator.
//!
//! Key types: [`AddressSpace`], [`Edit`], [`Limits`], [`Usage`]. The operations are in the files beside this one:
//! `map`, `unmap`, `protect`, `remap`, `advise`, `lock`, `sync`, `fork`, `fault`, `remote`, `proc`.

use crate::commit;
use crate::keys::Keys;
use crate::layout::Layout;
use crate::page_cache::MappingKey;
use crate::stats::{self, FrameKind, Tally};
use crate::swap;
use crate::vma::{Backing, Protection, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use linnet_lib::radix_tree::RadixTree;
use linnet_lib::range_map::RangeMap;
use machine::memory::{Frame, PageTable, TlbBatch};
use machine::sync::rcu::{self, RcuArc};
use machine::sync::{RwLock, RwLockWriteGuard, SpinLock};
use machine::{PAGE_SIZE, USER_END, cpu};

/// The most mappings one address space may have (`vm.max_map_count`).
pub const MAX_MAP_COUNT: usize = 65530;
/// Resident-set counters are spread over so many cache lines.
const COUNTER_SHARDS: usize = 8;

/// A map of mappings, as writers edit it and as snapshots hand it out.
pub type Mappings = RangeMap<Arc<Vma>>;

bitflags::bitflags! {
    /// What a process may do beyond its limits.
    #[derive(Copy, Clone, Debug, Eq, PartialEq)]
    pub struct Privileges: u32 {
        /// `CAP_IPC_LOCK`: no limit on locked memory.
        const IPC_LOCK = 1;
        /// `CAP_SYS_RAWIO`: may map the lowest addresses.
        const RAW_IO = 2;
    }
}

/// The resource limits that memory calls obey, in bytes (`u64::MAX` = unlimited), of the process that calls.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub address_space: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`.
    pub memlock: u64,
    /// What the caller's capabilities lift.
    pub privileges: Privileges,
}

impl Limits {
    /// No limits: for the kernel's own mappings and for tests.
    pub const UNLIMITED: Limits = Limits {
        address_space: u64::MAX,
        data: u64::MAX,
        stack: u64::MAX,
        memlock: u64::MAX,
        privileges: Privileges::all(),
    };
}

/// Where a program's parts are: for `/proc/PID/{cmdline,environ,auxv,stat}` and `prctl(PR_SET_MM)`.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct ProgramInfo {
    pub start_code: usize,
    pub end_code: usize,
    pub start_data: usize,
    pub end_data: usize,
    pub start_stack: usize,
    pub arg_start: usize,
    pub arg_end: usize,
    pub env_start: usize,
    pub env_end: usize,
    /// The auxiliary vector as the program got it.
    pub auxv: Vec<u8>,
}

/// The limits of the heap that `brk` moves.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Heap {
    pub start: usize,
    pub end: usize,
}

/// What the lock of an address space protects.
pub(crate) struct State {
    pub map: Mappings,
    pub layout: Layout,
    pub heap: Heap,
    /// Flags for new mappings (`mlockall(MCL_FUTURE)`).
    pub default_flags: VmaFlags,
    /// Which protection keys the program has.
    pub keys: Keys,
}

/// How much of what is mapped, in pages; changed with the lock held to write, read by anyone.
#[derive(Default)]
pub(crate) struct Totals {
    pub total: AtomicUsize,
    pub peak: AtomicUsize,
    pub data: AtomicUsize,
    pub stack: AtomicUsize,
    pub exec: AtomicUsize,
    pub locked: AtomicUsize,
}

#[derive(Default)]
#[repr(align(64))]
struct ResidentShard {
    anonymous: AtomicI64,
    file: AtomicI64,
    shmem: AtomicI64,
}

/// What an address space takes, in pages unless it says bytes.
#[derive(Copy, Clone, Debug, Default)]
pub struct Usage {
    /// Mapped (`VmSize`).
    pub total: usize,
    /// The most that was mapped (`VmPeak`).
    pub peak: usize,
    /// Private, writable, not stack (`VmData`).
    pub data: usize,
    /// Stack (`VmStk`).
    pub stack: usize,
    /// Executable, from files (`VmExe` and `VmLib`).
    pub exec: usize,
    /// Locked (`VmLck`).
    pub locked: usize,
    /// Resident anonymous (`RssAnon`).
    pub rss_anonymous: usize,
    /// Resident from files (`RssFile`).
    pub rss_file: usize,
    /// Resident shared memory (`RssShmem`).
    pub rss_shmem: usize,
    /// The most that was resident (`VmHWM`).
    pub peak_rss: usize,
    /// Pages in swap space (`VmSwap`).
    pub swapped: usize,
    /// Bytes of page tables (`VmPTE`).
    pub table_bytes: usize,
    /// How many mappings.
    pub map_count: usize,
}

impl Usage {
    /// All resident pages (`VmRSS`).
    pub fn rss(&self) -> usize {
        self.rss_anonymous + self.rss_file + self.rss_shmem
    }
}

/// An address space; see the head of this file. The last reference takes it down, and may sleep over it: those who
/// only look in (`/proc`) keep a `Weak`.
pub struct AddressSpace {
    id: u64,
    this: Weak<AddressSpace>,
    page_table: Arc<PageTable>,
    pub(crate) state: RwLock<State>,
    published: RcuArc<Mappings>,
    resident: [ResidentShard; COUNTER_SHARDS],
    peak_rss: AtomicUsize,
    pub(crate) totals: Totals,
    program: SpinLock<Arc<ProgramInfo>>,
    /// Blocks of private pages that reclaim has in its queues, by number; a leaf.
    pub(crate) listed_blocks: SpinLock<RadixTree<()>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl AddressSpace {
    /// An empty address space. Errors: `ENOMEM`.
    pub fn new(layout: Layout) -> Result<Arc<AddressSpace>> {
        Self::with_state(State {
            map: Mappings::new(),
            layout,
            heap: Heap::default(),
            default_flags: VmaFlags::empty(),
            keys: Keys::default(),
        })
    }

    pub(crate) fn with_state(state: State) -> Result<Arc<AddressSpace>> {
        let page_table = PageTable::new()?;
        stats::mark_zero_page();
        Ok(Arc::new_cyclic(|this| AddressSpace {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            this: this.clone(),
            page_table,
            published: RcuArc::new(Some(Arc::new(state.map.clone()))),
            state: RwLock::new(state),
            resident: Default::default(),
            peak_rss: AtomicUsize::new(0),
            totals: Totals::default(),
            program: SpinLock::new(Arc::new(ProgramInfo::default())),
            listed_blocks: SpinLock::new(RadixTree::new()),
        }))
    }

    /// A number that no other address space ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The page table.
    pub fn page_table(&self) -> &Arc<PageTable> {
        &self.page_table
    }

    /// Makes this CPU use it: from the thread it belongs to, or with preemption off.
    pub fn activate(&self) {
        self.page_table.activate();
    }

    /// The bases that exec chose.
    pub fn layout(&self) -> Layout {
        self.state.read().layout
    }

    /// All mappings at one moment. O(1); later changes do not show.
    pub fn snapshot(&self) -> Mappings {
        let guard = rcu::read_lock();
        self.published.load(&guard).cloned().unwrap_or_default()
    }

    /// The mapping at `address`, if there is one.
    pub fn find_vma(&self, address: usize) -> Option<Arc<Vma>> {
        self.with_vma(address, Arc::clone)
    }

    /// Runs `f` on the mapping at `address`, without a lock and without counting a reference: preemption is off, `f`
    /// must not sleep.
    pub(crate) fn with_vma<R>(&self, address: usize, f: impl FnOnce(&Arc<Vma>) -> R) -> Option<R> {
        let guard = rcu::read_lock();
        let (_, vma) = self.published.load(&guard)?.get(address)?;
        Some(f(vma))
    }

    /// Whether the mapping at `address` is locked into memory.
    pub(crate) fn is_locked_at(&self, address: usize) -> bool {
        let locked = VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
        self.with_vma(address, |vma| vma.flags().intersects(locked)).unwrap_or(false)
    }

    /// Whether reclaim has all of these blocks in its queues.
    pub(crate) fn has_listed(&self, mut blocks: Range<u64>) -> bool {
        let listed = self.listed_blocks.lock();
        blocks.all(|number| listed.get(number).is_some())
    }

    /// Where the program's parts are.
    pub fn program_info(&self) -> Arc<ProgramInfo> {
        self.program.lock().clone()
    }

    /// Notes where the program's parts are.
    pub fn set_program_info(&self, info: ProgramInfo) {
        let info = Arc::new(info);
        let old = core::mem::replace(&mut *self.program.lock(), info);
        drop(old);
    }

    pub(crate) fn share_program_info(&self, info: Arc<ProgramInfo>) {
        *self.program.lock() = info;
    }

    // ---- accounting

    fn shard(&self) -> &ResidentShard {
        let [first, ..] = &self.resident;
        self.resident.get(cpu::current().index() % COUNTER_SHARDS).unwrap_or(first)
    }

    fn counter(&self, kind: FrameKind) -> Option<&AtomicI64> {
        let shard = self.shard();
        match kind {
            FrameKind::Anonymous => Some(&shard.anonymous),
            FrameKind::File => Some(&shard.file),
            FrameKind::Shmem => Some(&shard.shmem),
            FrameKind::Uncounted => None,
        }
    }

    /// Counts pages into the resident set.
    pub(crate) fn count_mapped(&self, kind: FrameKind, pages: usize) {
        if let Some(counter) = self.counter(kind) {
            counter.fetch_add(pages as i64, Ordering::Relaxed);
        }
    }

    /// Counts pages out of the resident set.
    pub(crate) fn count_out(&self, kind: FrameKind, pages: usize) {
        if let Some(counter) = self.counter(kind) {
            counter.fetch_sub(pages as i64, Ordering::Relaxed);
        }
    }

    /// Counts a page out of the resident set that is about to be unmapped. Under the leaf lock.
    pub(crate) fn count_unmapped(&self, frame: &Frame) {
        self.count_out(FrameKind::of(frame), 1);
        swap::note_unmapping(frame);
    }

    /// The resident set by kind: anonymous, file, shmem.
    fn resident(&self) -> [usize; 3] {
        let mut sums = [0i64; 3];
        for shard in &self.resident {
            for (sum, counter) in sums.iter_mut().zip([&shard.anonymous, &shard.file, &shard.shmem]) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        sums.map(|sum| usize::try_from(sum).unwrap_or(0))
    }

    /// Remembers the resident set as a maximum; to be called before it shrinks.
    pub(crate) fn note_peak_rss(&self) {
        self.peak_rss.fetch_max(self.resident().iter().sum(), Ordering::Relaxed);
    }

    /// Forgets the maximum (`/proc/PID/clear_refs` 5).
    pub fn reset_peak_rss(&self) {
        self.peak_rss.store(self.resident().iter().sum(), Ordering::Relaxed);
    }

    /// What it takes, now.
    pub fn usage(&self) -> Usage {
        self.note_peak_rss();
        let [rss_anonymous, rss_file, rss_shmem] = self.resident();
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let guard = rcu::read_lock();
        let map_count = self.published.load(&guard).map_or(0, |map| map.len());
        Usage {
            total: load(&self.totals.total),
            peak: load(&self.totals.peak),
            data: load(&self.totals.data),
            stack: load(&self.totals.stack),
            exec: load(&self.totals.exec),
            locked: load(&self.totals.locked),
            rss_anonymous,
            rss_file,
            rss_shmem,
            peak_rss: load(&self.peak_rss),
            swapped: self.page_table.swapped_pages(),
            table_bytes: self.page_table.table_bytes(),
            map_count,
        }
    }

    /// Begins a change of the map.
    pub(crate) fn edit(&self) -> Edit<'_> {
        Edit { state: self.state.write(), space: self, published: true }
    }

    /// The key of `vma` in its file's reverse map.
    fn mapping_key(&self, vma: &Vma) -> Option<(MappingKey, &AddressSpace)> {
        let (_, first_page) = vma.page_of(vma.start())?;
        Some((MappingKey { first_page, space: self.id, start: vma.start() }, self))
    }

    /// Enters `vma` in its file's reverse map.
    pub(crate) fn register(&self, vma: &Vma) {
        if let (Some((key, _)), Backing::File { cache, .. }) = (self.mapping_key(vma), vma.backing()) {
            let writable = vma.is_shared() && vma.flags().contains(VmaFlags::MAY_WRITE);
            cache.add_mapping(key, vma.pages(), writable, &self.this);
        }
    }

    /// Takes `vma` out of its file's reverse map.
    pub(crate) fn unregister(&self, vma: &Vma) {
        if let (Some((key, _)), Backing::File { cache, .. }) = (self.mapping_key(vma), vma.backing()) {
            cache.remove_mapping(&key);
        }
    }

    /// Takes all pages of `range` out of the page table, in one batch, counting them out.
    pub(crate) fn zap(&self, range: Range<usize>) {
        self.note_peak_rss();
        let mut batch = TlbBatch::new(&self.page_table);
        let mut gone = Tally::default();
        self.page_table.unmap_range(range, &mut batch, |_, mapping| {
            gone.add(mapping.frame);
            swap::note_unmapping(mapping.frame);
        });
        for (kind, pages) in gone.counts() {
            self.count_out(kind, pages);
        }
    }

    /// Counts a mapping in or out of the totals.
    pub(crate) fn total_up(&self, vma: &Vma, count: Count) {
        let pages = vma.pages();
        let change = |counter: &AtomicUsize| match count {
            Count::In => counter.fetch_add(pages, Ordering::Relaxed) + pages,
            Count::Out => counter.fetch_sub(pages, Ordering::Relaxed) - pages,
        };
        let total = change(&self.totals.total);
        self.totals.peak.fetch_max(total, Ordering::Relaxed);
        if vma.is_data() {
            change(&self.totals.data);
        }
        if vma.flags().contains(VmaFlags::GROWS_DOWN) {
            change(&self.totals.stack);
        } else if vma.protection().contains(Protection::EXEC) && !vma.protection().contains(Protection::WRITE)
        {
            change(&self.totals.exec);
        }
        if vma.flags().intersects(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT) {
            change(&self.totals.locked);
            match count {
                Count::In => stats::LOCKED_PAGES.add(pages as u64),
                Count::Out => stats::LOCKED_PAGES.sub(pages as u64),
            }
        }
    }
}

/// Which way to count.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Count {
    In,
    Out,
}

/// A change of the map, with the lock held to write.
///
/// Steps: [`Edit::take`] and [`Edit::put`] as needed, [`Edit::publish`], then work on the page table. Until `publish`,
/// faults on what was taken wait (they see the VMA detached and the map locked); nothing is ever half changed for them.
pub(crate) struct Edit<'s> {
    pub state: RwLockWriteGuard<'s, State>,
    pub space: &'s AddressSpace,
    /// Whether faults see the map as it is; an edit that ends early (an error) publishes what it did so far.
    published: bool,
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        if !self.published {
            self.publish();
        }
    }
}

impl Edit<'_> {
    /// Makes faults see the map as it is now.
    pub fn publish(&mut self) {
        self.published = true;
        self.space.published.replace(Some(Arc::new(self.state.map.clone())));
    }

    /// How many more mappings `range` would cost if it were cut out, and whether the map may grow by `more` then.
    ///
    /// Errors: `ENOMEM` at [`MAX_MAP_COUNT`].
    pub fn check_map_count(&self, more: usize) -> Result<()> {
        if self.state.map.len() + more > MAX_MAP_COUNT { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Cuts the mapping that contains `at` strictly inside in two.
    ///
    /// Errors: `ENOMEM` at [`MAX_MAP_COUNT`].
    pub fn split(&mut self, at: usize) -> Result<()> {
        let Some(old) =
            self.state.map.get(at).filter(|(range, _)| range.start < at).map(|(_, vma)| vma.clone())
        else {
            return Ok(());
        };
        self.check_map_count(1)?;
        self.published = false;
        let left = Arc::new(old.with_range(old.start()..at));
        let right = Arc::new(old.with_range(at..old.end()));
        self.space.register(&right);
        self.space.register(&left);
        old.detach();
        self.state.map.split_at(at, |_| (left.clone(), right.clone()));
        Ok(())
    }

    /// Cuts at both ends of `range`, so that mappings lie inside or outside. Errors: `ENOMEM`, nothing taken then.
    pub fn isolate(&mut self, range: &Range<usize>) -> Result<()> {
        self.split(range.start)?;
        self.split(range.end)
    }

    /// The mappings that meet `range`.
    pub fn mappings_in(&self, range: &Range<usize>) -> Vec<Arc<Vma>> {
        self.state.map.iter_range(range.clone()).map(|(_, vma)| vma.clone()).collect()
    }

    /// Takes one mapping out of the map. It stays in the reverse map until [`AddressSpace::unregister`]; its pages stay
    /// until [`AddressSpace::zap`].
    pub fn take(&mut self, vma: &Arc<Vma>) {
        self.published = false;
        vma.detach();
        self.state.map.remove(vma.start());
        self.space.total_up(vma, Count::Out);
    }

    /// Puts a mapping in, joined with its neighbours where they are alike. The place must be free.
    pub fn put(&mut self, vma: Vma) -> Arc<Vma> {
        self.published = false;
        self.space.total_up(&vma, Count::In);
        let mut vma = vma;
        let left = self.state.map.find_before(vma.start()).map(|(_, left)| left.clone());
        let right = self.state.map.get(vma.end()).map(|(_, right)| right.clone());
        let mut absorbed: Vec<Arc<Vma>> = Vec::new();
        if let Some(left) = left.filter(|left| left.can_merge(&vma)) {
            left.detach();
            self.state.map.remove(left.start());
            let alone = vma;
            vma = left.merged(&alone);
            absorbed.push(Arc::new(alone));
        }
        if let Some(right) = right.filter(|right| vma.can_merge(right)) {
            right.detach();
            self.state.map.remove(right.start());
            vma = vma.merged(&right);
            absorbed.push(right);
        }
        let vma = Arc::new(vma);
        self.space.register(&vma);
        for part in &absorbed {
            self.space.unregister(part);
        }
        // The place is free: the caller has cleared it, and what was absorbed has just been removed.
        let placed = self.state.map.insert(vma.range(), vma.clone());
        debug_assert!(placed.is_ok());
        vma
    }

    /// Replaces a mapping by a like one with other rights, and publishes nothing yet.
    pub fn exchange(&mut self, old: &Arc<Vma>, protection: Protection, flags: VmaFlags) -> Arc<Vma> {
        self.take(old);
        self.put(old.with_rights(protection, flags))
    }

    /// Gives back what mappings that were taken had promised to them, and forgets them in the reverse maps. After
    /// their pages are gone.
    pub fn release(&self, taken: &[Arc<Vma>]) {
        for vma in taken {
            self.space.unregister(vma);
            if vma.flags().contains(VmaFlags::ACCOUNTED) {
                commit::uncharge(vma.pages());
            }
        }
    }

    /// Whether `more` pages fit in `RLIMIT_AS`, and in `RLIMIT_DATA` if they are data.
    ///
    /// Errors: `ENOMEM`.
    pub fn check_expansion(&self, more: usize, is_data: IsData, limits: &Limits) -> Result<()> {
        let totals = &self.space.totals;
        let fits = |now: &AtomicUsize, limit: u64| {
            (now.load(Ordering::Relaxed) + more) as u64 <= limit / PAGE_SIZE as u64
        };
        if !fits(&totals.total, limits.address_space) {
            return Err(Errno::ENOMEM);
        }
        if is_data == IsData::Yes && !fits(&totals.data, limits.data) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}

/// Whether pages count as data.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum IsData {
    Yes,
    No,
}

impl IsData {
    pub fn of(vma: &Vma) -> IsData {
        if vma.is_data() { IsData::Yes } else { IsData::No }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        let all = core::mem::take(&mut self.state.get_mut().map);
        if swap::is_in_use() {
            self.zap(0..USER_END & !(PAGE_SIZE - 1));
        }
        let mut batch = TlbBatch::new(&self.page_table);
        self.page_table.free_tables(0..USER_END & !(PAGE_SIZE - 1), &mut batch);
        batch.flush();
        for (_, vma) in all.iter() {
            self.unregister(vma);
            self.total_up(vma, Count::Out);
            if vma.flags().contains(VmaFlags::ACCOUNTED) {
                commit::uncharge(vma.pages());
            }
        }
        crate::oom::note_memory_freed();
    }
}
