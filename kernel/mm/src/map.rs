//! `mmap(2)`, `brk(2)`, the initial stack, and the growth of stacks.
//!
//! Key types: [`MmapRequest`], [`MmapBacking`]. Locks: see `crate::space`.

use crate::commit;
use crate::fault::FaultError;
use crate::layout::STACK_GUARD_BYTES;
use crate::page_cache::PageCache;
use crate::space::{AddressSpace, Edit, Heap, IsData, Limits, Privileges};
use crate::stats::FRAME_UNCOUNTED;
use crate::vma::{Backing, FileAccess, MappedFile, Protection, Sharing, SpecialPages, Vma, VmaFlags};
use abi::errno::{Errno, Result};
use abi::mman;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;
use machine::memory::Frame;
use machine::{PAGE_SIZE, USER_END};

/// How much of the stack is mapped below the arguments before the program touches it.
const INITIAL_STACK_BYTES: usize = 128 << 10;

/// Flags that `MAP_SHARED_VALIDATE` accepts.
const KNOWN_FLAGS: u32 = mman::MAP_SHARED
    | mman::MAP_PRIVATE
    | mman::MAP_FIXED
    | mman::MAP_ANONYMOUS
    | mman::MAP_DENYWRITE
    | mman::MAP_EXECUTABLE
    | mman::MAP_UNINITIALIZED
    | mman::MAP_GROWSDOWN
    | mman::MAP_LOCKED
    | mman::MAP_NORESERVE
    | mman::MAP_POPULATE
    | mman::MAP_NONBLOCK
    | mman::MAP_STACK
    | mman::MAP_HUGETLB
    | mman::MAP_32BIT
    | mman::MAP_FIXED_NOREPLACE;

/// What to map.
#[derive(Clone)]
pub enum MmapBacking {
    /// Zeros.
    Anonymous,
    /// A file, from byte `offset` on, which is a multiple of the page size.
    File {
        /// The open file.
        file: Arc<dyn MappedFile>,
        /// Where to begin.
        offset: u64,
    },
}

/// The arguments of `mmap(2)`.
#[derive(Clone)]
pub struct MmapRequest {
    /// Where, as a hint or fixed.
    pub address: usize,
    /// How many bytes.
    pub length: usize,
    /// What the program may do with it.
    pub protection: Protection,
    /// `MAP_*`. (`MAP_ANONYMOUS` is not looked at: `backing` says it.)
    pub flags: u32,
    /// What to map.
    pub backing: MmapBacking,
}

/// The pages behind a shared anonymous mapping, dressed up as the file that `/proc/PID/maps` shows.
struct SharedAnonymous {
    cache: Arc<PageCache>,
}

impl MappedFile for SharedAnonymous {
    fn page_cache(&self) -> Arc<PageCache> {
        self.cache.clone()
    }
    fn access(&self) -> FileAccess {
        FileAccess::all()
    }
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/dev/zero (deleted)")
    }
    fn device(&self) -> (u32, u32) {
        (0, 1)
    }
    fn inode_number(&self) -> u64 {
        self.cache.id()
    }
    fn is_anonymous(&self) -> bool {
        true
    }
}

/// Rounds up to whole pages; `None` on overflow.
pub(crate) fn page_align(bytes: usize) -> Option<usize> {
    bytes.checked_add(PAGE_SIZE - 1).map(|sum| sum & !(PAGE_SIZE - 1))
}

/// The sharing that the type bits ask for. Errors: `EINVAL`, `EOPNOTSUPP`.
fn sharing_of(request: &MmapRequest) -> Result<Sharing> {
    let is_file = matches!(request.backing, MmapBacking::File { .. });
    match request.flags & mman::MAP_TYPE {
        mman::MAP_PRIVATE => Ok(Sharing::Private),
        mman::MAP_SHARED => Ok(Sharing::Shared),
        mman::MAP_SHARED_VALIDATE if is_file && request.flags & !KNOWN_FLAGS != 0 => Err(Errno::EOPNOTSUPP),
        mman::MAP_SHARED_VALIDATE if is_file => Ok(Sharing::Shared),
        mman::MAP_DROPPABLE if !is_file => Ok(Sharing::Private),
        _ => Err(Errno::EINVAL),
    }
}

/// The flags of the mapping, and whether the file may be mapped so.
///
/// Errors: `EACCES`, `EPERM`, `EINVAL` as `mmap(2)` says.
fn vma_flags(request: &MmapRequest, sharing: Sharing) -> Result<VmaFlags> {
    let mut flags = VmaFlags::MAY_READ | VmaFlags::MAY_WRITE | VmaFlags::MAY_EXEC;
    flags.set(VmaFlags::SHARED, sharing == Sharing::Shared);
    flags.set(VmaFlags::GROWS_DOWN, request.flags & mman::MAP_GROWSDOWN != 0);
    flags.set(VmaFlags::LOCKED, request.flags & mman::MAP_LOCKED != 0);
    if request.flags & mman::MAP_TYPE == mman::MAP_DROPPABLE {
        if flags.intersects(VmaFlags::LOCKED) || request.flags & mman::MAP_HUGETLB != 0 {
            return Err(Errno::EINVAL);
        }
        flags |= VmaFlags::DROPPABLE | VmaFlags::NO_RESERVE | VmaFlags::WIPE_ON_FORK | VmaFlags::DONT_DUMP;
    }
    if request.flags & mman::MAP_NORESERVE != 0 && commit::mode() != commit::Mode::Never {
        flags |= VmaFlags::NO_RESERVE;
    }
    let MmapBacking::File { file, .. } = &request.backing else {
        let invalid = sharing == Sharing::Shared && flags.contains(VmaFlags::GROWS_DOWN);
        return if invalid { Err(Errno::EINVAL) } else { Ok(flags) };
    };
    let access = file.access();
    let protection = request.protection;
    if !access.contains(FileAccess::READ) {
        return Err(Errno::EACCES);
    }
    if sharing == Sharing::Shared && !access.contains(FileAccess::WRITE) {
        if protection.contains(Protection::WRITE) {
            return Err(Errno::EACCES);
        }
        flags -= VmaFlags::MAY_WRITE;
    }
    if sharing == Sharing::Shared && !access.contains(FileAccess::UNSEALED) {
        flags -= VmaFlags::MAY_WRITE;
    }
    if !access.contains(FileAccess::EXEC) {
        if protection.contains(Protection::EXEC) {
            return Err(Errno::EPERM);
        }
        flags -= VmaFlags::MAY_EXEC;
    }
    if flags.contains(VmaFlags::GROWS_DOWN) {
        return Err(Errno::EINVAL);
    }
    file.may_map(protection, sharing)?;
    Ok(flags)
}

/// Whether a mapping's pages are promised to it.
pub(crate) fn needs_commit(
    protection: Protection,
    flags: VmaFlags,
    is_shared_anonymous: IsSharedAnonymous,
) -> bool {
    if flags.intersects(VmaFlags::NO_RESERVE | VmaFlags::SPECIAL) {
        return false;
    }
    if flags.contains(VmaFlags::SHARED) {
        is_shared_anonymous == IsSharedAnonymous::Yes
    } else {
        protection.contains(Protection::WRITE)
    }
}

/// Whether a mapping is shared memory without a file.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum IsSharedAnonymous {
    Yes,
    No,
}

/// Why there is no huge page of the size that the flags ask for: the pool of the sizes that the processor has is empty, as it
/// is on Linux until somebody fills it (`ENOMEM`); others do not exist (`EINVAL`).
fn no_huge_pages(flags: u32) -> Errno {
    const DEFAULT: u32 = 0;
    match flags >> mman::MAP_HUGE_SHIFT & mman::MAP_HUGE_MASK {
        DEFAULT | 21 | 30 => Errno::ENOMEM,
        _ => Errno::EINVAL,
    }
}

impl AddressSpace {
    /// `mmap(2)`: maps and returns the address.
    ///
    /// Errors: `EINVAL` for length 0, a bad type or an unaligned fixed address; `EOVERFLOW` if the file offset runs over;
    /// `EACCES`, `EPERM` by the file; `EAGAIN` over `RLIMIT_MEMLOCK`; `EPERM` for `MAP_LOCKED` without any; `EEXIST`;
    /// `ENOMEM` for want of addresses, mappings, limits or commitment.
    pub fn mmap(&self, request: &MmapRequest, limits: &Limits) -> Result<usize> {
        if request.length == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_align(request.length).filter(|len| *len <= USER_END).ok_or(Errno::ENOMEM)?;
        if let MmapBacking::File { offset, .. } = request.backing {
            if offset % PAGE_SIZE as u64 != 0 {
                return Err(Errno::EINVAL);
            }
            if offset.checked_add(len as u64).is_none_or(|end| end > i64::MAX as u64) {
                return Err(Errno::EOVERFLOW);
            }
        }
        let sharing = sharing_of(request)?;
        if request.flags & mman::MAP_HUGETLB != 0 {
            return Err(no_huge_pages(request.flags));
        }
        let mut edit = self.edit();
        let start = edit.choose_address(request.address, len, request.flags, limits)?;
        let flags = vma_flags(request, sharing)?;
        let vma = edit.map_at(start, len, request, flags, limits)?;
        if let MmapBacking::File { file, .. } = &request.backing
            && let Err(error) = file.may_map(request.protection, sharing)
        {
            // Sealed while it was being mapped.
            edit.unmap(start..start + len)?;
            return Err(error);
        }
        drop(edit);
        let populate = request.flags & (mman::MAP_POPULATE | mman::MAP_NONBLOCK) == mman::MAP_POPULATE;
        if populate || vma.contains(VmaFlags::LOCKED) {
            // Best effort, as on Linux: what cannot be brought in now faults later.
            let _ = self.populate_mapped(start..start + len);
        }
        Ok(start)
    }

    /// Maps kernel pages (the vDSO) where there is room near `hint`; returns the address.
    ///
    /// Errors: `ENOMEM`.
    pub fn map_special(
        &self,
        name: &'static str,
        hint: usize,
        frames: Vec<Frame>,
        protection: Protection,
    ) -> Result<usize> {
        let len = frames.len() * PAGE_SIZE;
        for frame in &frames {
            frame.state().set_flags(FRAME_UNCOUNTED);
        }
        let mut edit = self.edit();
        let start = edit.choose_address(hint, len, 0, &Limits::UNLIMITED)?;
        edit.check_map_count(1)?;
        let flags = VmaFlags::SPECIAL | VmaFlags::MAY_READ | VmaFlags::MAY_EXEC | VmaFlags::MAY_WRITE;
        let backing = Backing::Special { pages: Arc::new(SpecialPages { name, frames }), first_page: 0 };
        edit.put(Vma::new(start..start + len, protection, flags, backing));
        edit.publish();
        Ok(start)
    }

    /// Maps the initial stack below the layout's stack top, with room for `argument_bytes` and 128 KiB more; returns
    /// the top.
    ///
    /// Errors: `ENOMEM`, also if the arguments alone are over `RLIMIT_STACK`.
    pub fn setup_stack(
        &self,
        protection: Protection,
        argument_bytes: usize,
        limits: &Limits,
    ) -> Result<usize> {
        let mut edit = self.edit();
        let top = edit.state.layout.stack_top;
        let room = usize::try_from(limits.stack).unwrap_or(usize::MAX);
        let arguments = page_align(argument_bytes.max(1)).filter(|len| *len <= room).ok_or(Errno::ENOMEM)?;
        let len = (arguments + INITIAL_STACK_BYTES).min(room & !(PAGE_SIZE - 1));
        if len > top {
            return Err(Errno::ENOMEM);
        }
        if edit.state.map.overlaps(top - len..top) {
            return Err(Errno::ENOMEM);
        }
        let flags = VmaFlags::GROWS_DOWN
            | VmaFlags::MAY_READ
            | VmaFlags::MAY_WRITE
            | VmaFlags::MAY_EXEC
            | VmaFlags::ACCOUNTED;
        commit::charge(len / PAGE_SIZE)?;
        edit.put(Vma::new(top - len..top, protection, flags, Backing::Anonymous));
        edit.publish();
        Ok(top)
    }

    /// Puts the (empty) heap at `start`, rounded up to a page: exec, once the program is mapped.
    pub fn set_brk_start(&self, start: usize) {
        let start = page_align(start).unwrap_or(USER_END);
        self.edit().state.heap = Heap { start, end: start };
    }

    /// The heap: its start and the current break.
    pub fn heap(&self) -> core::ops::Range<usize> {
        let heap = self.state.read().heap;
        heap.start..heap.end
    }

    /// `brk(2)`: moves the break if it can, and returns where it is then (the system call has no errors).
    pub fn brk(&self, wanted: usize, limits: &Limits) -> usize {
        let mut edit = self.edit();
        let heap = edit.state.heap;
        if wanted < heap.start || wanted > USER_END {
            return heap.end;
        }
        if (wanted - heap.start) as u64 > limits.data {
            return heap.end;
        }
        let (old, new) = match (page_align(heap.end), page_align(wanted)) {
            (Some(old), Some(new)) => (old, new),
            _ => return heap.end,
        };
        let moved = match new.cmp(&old) {
            core::cmp::Ordering::Equal => Ok(VmaFlags::empty()),
            core::cmp::Ordering::Less => edit.unmap(new..old).map(|()| VmaFlags::empty()),
            core::cmp::Ordering::Greater => edit.grow_heap(old, new - old, limits),
        };
        let Ok(flags) = moved else { return heap.end };
        edit.state.heap.end = wanted;
        drop(edit);
        if flags.contains(VmaFlags::LOCKED) && new > old {
            let _ = self.populate(old..new, Protection::READ | Protection::WRITE);
        }
        wanted
    }

    /// Grows the stack that begins above `address` down to it.
    ///
    /// Errors: [`FaultError::NotMapped`] if there is none, or it must not grow so far.
    pub(crate) fn grow_stack(&self, address: usize, limits: &Limits) -> core::result::Result<(), FaultError> {
        let start = address & !(PAGE_SIZE - 1);
        let mut edit = self.edit();
        if edit.state.map.get(address).is_some() {
            return Ok(());
        }
        let stack = edit.state.map.find(address).map(|(_, vma)| vma.clone());
        let stack =
            stack.filter(|vma| vma.flags().contains(VmaFlags::GROWS_DOWN)).ok_or(FaultError::NotMapped)?;
        edit.extend_stack(&stack, start, limits).map_err(|_| FaultError::NotMapped)
    }
}

impl Edit<'_> {
    /// Maps at a chosen address, over whatever is there; returns the mapping's flags.
    fn map_at(
        &mut self,
        start: usize,
        len: usize,
        request: &MmapRequest,
        flags: VmaFlags,
        limits: &Limits,
    ) -> Result<VmaFlags> {
        let mut flags = flags | self.state.default_flags;
        let pages = len / PAGE_SIZE;
        self.check_lock_limit(pages, flags, request.flags, limits)?;
        let range = start..start + len;
        let replaced: usize = self.overlap_pages(&range);
        self.check_map_count(1)?;
        let is_anonymous = matches!(request.backing, MmapBacking::Anonymous);
        let is_shared_anonymous = is_anonymous && flags.contains(VmaFlags::SHARED);
        let shared = if is_shared_anonymous { IsSharedAnonymous::Yes } else { IsSharedAnonymous::No };
        let probe = Vma::new(range.clone(), request.protection, flags, Backing::Anonymous);
        self.check_expansion(pages.saturating_sub(replaced), IsData::of(&probe), limits)?;
        let account = needs_commit(request.protection, flags, shared);
        if account {
            commit::charge(pages)?;
            flags |= VmaFlags::ACCOUNTED;
        }
        if let Err(error) = self.unmap(range.clone()) {
            if account {
                commit::uncharge(pages);
            }
            return Err(error);
        }
        let backing = backing_of(request, len, flags);
        self.put(Vma::new(range, request.protection, flags, backing));
        self.publish();
        Ok(flags)
    }

    /// How many pages of `range` are mapped.
    pub(crate) fn overlap_pages(&self, range: &core::ops::Range<usize>) -> usize {
        let common = |r: core::ops::Range<usize>| r.end.min(range.end) - r.start.max(range.start);
        self.state.map.iter_range(range.clone()).map(|(r, _)| common(r) / PAGE_SIZE).sum()
    }

    /// Whether `pages` more locked pages are allowed, if `flags` say that they will be locked.
    ///
    /// Errors: `EPERM` for an explicit `MAP_LOCKED` with a limit of 0; `EAGAIN` over the limit.
    pub(crate) fn check_lock_limit(
        &self,
        pages: usize,
        flags: VmaFlags,
        request_flags: u32,
        limits: &Limits,
    ) -> Result<()> {
        if !flags.intersects(VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT)
            || limits.privileges.contains(Privileges::IPC_LOCK)
        {
            return Ok(());
        }
        if request_flags & mman::MAP_LOCKED != 0 && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let locked = self.space.totals.locked.load(Ordering::Relaxed) + pages;
        if locked as u64 > limits.memlock / PAGE_SIZE as u64 { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Maps `len` bytes of heap at `start`; returns the flags. Errors: `ENOMEM`, `EAGAIN`.
    fn grow_heap(&mut self, start: usize, len: usize, limits: &Limits) -> Result<VmaFlags> {
        let end = start.checked_add(len).filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)?;
        // A page of distance to what follows, a guard gap to a stack.
        let next = self.state.map.find(start).map(|(range, vma)| (range.start, vma.flags()));
        if let Some((next, flags)) = next {
            let guard = if flags.contains(VmaFlags::GROWS_DOWN) { STACK_GUARD_BYTES } else { 0 };
            if end + PAGE_SIZE > next.saturating_sub(guard) {
                return Err(Errno::ENOMEM);
            }
        }
        let may = VmaFlags::MAY_READ | VmaFlags::MAY_WRITE | VmaFlags::MAY_EXEC;
        let flags = may | VmaFlags::ACCOUNTED | self.state.default_flags;
        let pages = len / PAGE_SIZE;
        self.check_map_count(1)?;
        self.check_lock_limit(pages, flags, 0, limits)?;
        self.check_expansion(pages, IsData::Yes, limits)?;
        commit::charge(pages)?;
        self.put(Vma::new(start..end, Protection::READ | Protection::WRITE, flags, Backing::Anonymous));
        self.publish();
        Ok(flags)
    }

    /// Gives `stack` the new start `start`. Errors: `ENOMEM` for each limit and for the guard gap.
    fn extend_stack(&mut self, stack: &Arc<Vma>, start: usize, limits: &Limits) -> Result<()> {
        let grow = (stack.start() - start) / PAGE_SIZE;
        if (stack.end() - start) as u64 > limits.stack || start < crate::layout::MMAP_MINIMUM_ADDRESS {
            return Err(Errno::ENOMEM);
        }
        if let Some((below, vma)) = self.state.map.find_before(stack.start()) {
            let accessible = !vma.protection().is_none() && !vma.flags().contains(VmaFlags::GROWS_DOWN);
            let guard = if accessible { STACK_GUARD_BYTES } else { 0 };
            if below.end + guard > start {
                return Err(Errno::ENOMEM);
            }
        }
        self.check_lock_limit(grow, stack.flags(), 0, limits)?;
        self.check_expansion(grow, IsData::No, limits)?;
        if stack.flags().contains(VmaFlags::ACCOUNTED) {
            commit::charge(grow)?;
        }
        self.take(stack);
        self.put(stack.with_range(start..stack.end()));
        self.publish();
        Ok(())
    }
}

/// The backing of a new mapping of `len` bytes.
fn backing_of(request: &MmapRequest, len: usize, flags: VmaFlags) -> Backing {
    match &request.backing {
        MmapBacking::Anonymous if flags.contains(VmaFlags::SHARED) => {
            let cache = PageCache::new_in_memory(len as u64);
            Backing::File { file: Arc::new(SharedAnonymous { cache: cache.clone() }), cache, first_page: 0 }
        }
        MmapBacking::Anonymous => Backing::Anonymous,
        MmapBacking::File { file, offset } => Backing::File {
            file: file.clone(),
            cache: file.page_cache(),
            first_page: offset / PAGE_SIZE as u64,
        },
    }
}
