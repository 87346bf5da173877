//! Shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! Key types: [`Segment`], what the table has; [`Attachment`], what an address space maps. The pages are a page cache in memory, which knows
//! how often it is mapped. A segment that has been removed keeps them only as long as somebody has it attached, but stays in the table until
//! somebody meets it there without: as on Linux it can be attached by its id so long.
//! Locks: one leaf spinlock.

use super::table::Table;
use super::{Access, Caller, Object, ProcessNumbers, now_s};
use abi::errno::{Errno, Result};
use abi::ipc::{IPC_PRIVATE, Ipc64Perm, SHM_DEST};
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use mm::{FileAccess, MappedFile, PageCache, commit};

/// The segments of an IPC namespace.
pub struct Segments {
    /// By id and key.
    pub table: Table<Segment>,
    /// Most bytes of a segment (`shmmax`).
    pub most_bytes: AtomicU64,
    /// Most pages of all (`shmall`).
    pub most_pages: AtomicU64,
    /// Pages of all.
    pages: Arc<AtomicU64>,
}

/// What Linux begins with for sizes: nearly everything.
const UNLIMITED: u64 = u64::MAX - (1 << 24);

impl Default for Segments {
    fn default() -> Segments {
        Segments {
            table: Table::new(),
            most_bytes: AtomicU64::new(UNLIMITED),
            most_pages: AtomicU64::new(UNLIMITED),
            pages: Arc::new(AtomicU64::new(0)),
        }
    }
}

impl Segments {
    /// Pages of all segments.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Takes out what has been removed and is attached nowhere any more.
    pub fn sweep(&self) -> Result<()> {
        for segment in self.table.all()?.iter().filter(|segment| segment.is_over()) {
            self.table.take(segment);
        }
        Ok(())
    }

    /// The segment with this id. Errors: `EINVAL`.
    pub fn find(&self, id: i32) -> Result<Arc<Segment>> {
        self.living(self.table.find(id)?)
    }

    /// The segment at the place in this id. Errors: `EINVAL`.
    pub fn at(&self, id: i32) -> Result<Arc<Segment>> {
        self.living(self.table.at(id).ok_or(Errno::EINVAL)?)
    }

    fn living(&self, segment: Arc<Segment>) -> Result<Arc<Segment>> {
        if segment.is_over() {
            self.table.take(&segment);
            return Err(Errno::EINVAL);
        }
        Ok(segment)
    }

    /// A new segment of zeros. Errors: `ENOMEM`; `ENOSPC`: above `most_pages`.
    pub fn make(
        &self,
        id: u32,
        access: Access,
        bytes: u64,
        is_promised: bool,
        creator: ProcessNumbers,
    ) -> Result<Arc<Segment>> {
        let pages = bytes.div_ceil(PAGE_SIZE as u64);
        let most = self.most_pages.load(Ordering::Relaxed);
        let add = |now: u64| now.checked_add(pages).filter(|sum| *sum <= most);
        self.pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Errno::ENOSPC)?;
        let mut memory = Memory {
            cache: PageCache::new_in_memory(pages * PAGE_SIZE as u64),
            promised: 0,
            pages,
            all: self.pages.clone(),
        };
        if is_promised {
            let promised = usize::try_from(pages).map_err(|_| Errno::ENOMEM)?;
            commit::charge(promised)?;
            memory.promised = promised;
        }
        let status = Status { changed_s: now_s(), creator, ..Status::default() };
        let state = State { access, status, memory: Held::Kept(Arc::new(memory)) };
        Ok(Arc::new(Segment { id, bytes, state: SpinLock::new(state) }))
    }
}

/// The pages, and what has been promised for them; gone with the segment and the last attachment.
struct Memory {
    cache: Arc<PageCache>,
    promised: usize,
    pages: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        commit::uncharge(self.promised);
        self.all.fetch_sub(self.pages, Ordering::Relaxed);
    }
}

/// What a segment has of its pages.
enum Held {
    Kept(Arc<Memory>),
    /// It has been removed: only who has it attached keeps them.
    Removed(Weak<Memory>),
}

impl Held {
    fn get(&self) -> Option<Arc<Memory>> {
        match self {
            Held::Kept(memory) => Some(memory.clone()),
            Held::Removed(memory) => memory.upgrade(),
        }
    }
}

/// What shmctl(2) shows besides the permissions.
#[derive(Clone, Default)]
pub struct Status {
    /// When it was last attached, detached by shmdt(2), changed: seconds of the epoch, 0 for never.
    pub attached_s: i64,
    /// See above.
    pub detached_s: i64,
    /// See above.
    pub changed_s: i64,
    /// Who made it.
    pub creator: ProcessNumbers,
    /// Who attached or detached last.
    pub last: ProcessNumbers,
    /// How often it is mapped.
    pub attachments: u64,
    /// Pages in memory.
    pub resident: u64,
    /// Pages in swap space.
    pub swapped: u64,
    /// `SHM_DEST`, to be shown with the mode.
    pub flags: u32,
}

struct State {
    access: Access,
    status: Status,
    memory: Held,
}

/// A segment of shared memory.
pub struct Segment {
    id: u32,
    bytes: u64,
    state: SpinLock<State>,
}

impl Object for Segment {
    fn id(&self) -> u32 {
        self.id
    }

    fn access(&self) -> Access {
        self.state.lock().access.clone()
    }

    fn end(&self) {
        let mut state = self.state.lock();
        let Held::Kept(memory) = &state.memory else { return };
        let memory = memory.clone();
        state.memory = Held::Removed(Arc::downgrade(&memory));
        state.access.key = IPC_PRIVATE;
        drop(state);
        drop(memory);
    }
}

impl Segment {
    /// Its size as it was asked for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it has been removed and nobody has it attached.
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        let Held::Removed(memory) = &state.memory else { return false };
        let memory = memory.upgrade();
        drop(state);
        memory.is_none_or(|memory| !memory.cache.is_mapped())
    }

    /// What is to be mapped. Errors: `EACCES`; `EIDRM`: it is gone.
    pub fn attach(
        self: &Arc<Segment>,
        caller: &Caller<'_>,
        wanted: u32,
        can_write: bool,
    ) -> Result<Arc<Attachment>> {
        let state = self.state.lock();
        state.access.check(caller, wanted)?;
        let memory = state.memory.get().ok_or(Errno::EIDRM)?;
        let key = state.access.key;
        drop(state);
        Ok(Arc::new(Attachment { segment: self.clone(), memory, key, can_write }))
    }

    /// Notes that it has just been attached, or detached.
    pub fn note_use(&self, who: ProcessNumbers, is_attached: bool) {
        let mut state = self.state.lock();
        let now = now_s();
        if is_attached {
            state.status.attached_s = now;
        } else {
            state.status.detached_s = now;
        }
        let before = core::mem::replace(&mut state.status.last, who);
        drop(state);
        drop(before);
    }

    /// `IPC_SET`: owner and mode. Errors: `EPERM`, `EINVAL`.
    pub fn set(&self, caller: &Caller<'_>, access: &Ipc64Perm) -> Result<()> {
        let mut state = self.state.lock();
        state.access.check_owner(caller)?;
        state.access.set(caller, access)?;
        state.status.changed_s = now_s();
        Ok(())
    }

    /// What it is like.
    pub fn status(&self) -> (Access, Status) {
        let state = self.state.lock();
        let (access, mut status, memory) = (state.access.clone(), state.status.clone(), state.memory.get());
        if matches!(state.memory, Held::Removed(_)) {
            status.flags = SHM_DEST;
        }
        drop(state);
        if let Some(memory) = memory {
            status.attachments = memory.cache.mappings() as u64;
            status.resident = memory.cache.page_count();
            status.swapped = memory.cache.swapped_count();
        }
        (access, status)
    }
}

/// `IPC_RMID`: its key and its id name it no more as soon as nobody has it attached. Errors: `EINVAL`, `EPERM`.
pub fn remove(segments: &Segments, id: i32, caller: &Caller<'_>) -> Result<()> {
    let segment = segments.find(id)?;
    segment.access().check_owner(caller)?;
    segments.table.hide(&segment);
    segment.end();
    if segment.is_over() {
        segments.table.take(&segment);
    }
    Ok(())
}

/// A segment in an address space, as far as `mm` needs it.
pub struct Attachment {
    segment: Arc<Segment>,
    memory: Arc<Memory>,
    /// As it was when it was attached: `/proc/PID/maps` shows it.
    key: i32,
    can_write: bool,
}

impl Attachment {
    /// What is attached.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
}

impl MappedFile for Attachment {
    fn page_cache(&self) -> Arc<PageCache> {
        self.memory.cache.clone()
    }

    fn access(&self) -> FileAccess {
        if self.can_write { FileAccess::all() } else { FileAccess::all() - FileAccess::WRITE }
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "/SYSV{:08x} (deleted)", self.key)
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode_number(&self) -> u64 {
        u64::from(self.segment.id)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}
