//! A virtual memory area: a range of an address space with one backing, one protection and one set of flags.
//!
//! A [`Vma`] never changes once it is in the map. To change one, a writer (who holds the address space's lock) marks
//! it **detached**, puts a new one in its place, publishes the map, and then works on the page table. A page fault
//! looks its VMA up without a lock and tests [`Vma::is_current`] again inside the page table's leaf lock, just before
//! it installs a page: either it sees the mark and starts over, or it came first, and then the writer's walk over the
//! page table (which takes the same leaf lock afterwards) sees the page. See ARCHITECTURE.md, "the way of a page fault".
//!
//! Key types: [`Vma`], [`Backing`], [`Protection`], [`VmaFlags`], [`MappedFile`]. Locks: none of its own.

use crate::page_cache::PageCache;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use machine::PAGE_SIZE;
use machine::memory::{Frame, Perms};

bitflags::bitflags! {
    /// What a program may do with memory: `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`. Empty = `PROT_NONE`.
    #[derive(Copy, Clone, Debug, Eq, PartialEq)]
    pub struct Protection: u32 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
        /// The four bits of the protection key (pkeys(7)); see [`Protection::with_key`].
        const KEY = 0xf << 3;
    }

    /// Properties of a mapping besides its protection; the names are Linux's `VM_*`.
    #[derive(Copy, Clone, Debug, Eq, PartialEq)]
    pub struct VmaFlags: u32 {
        /// Stores are seen by everyone who maps the object.
        const SHARED = 1;
        /// `mprotect` may add `READ`.
        const MAY_READ = 1 << 1;
        /// `mprotect` may add `WRITE`.
        const MAY_WRITE = 1 << 2;
        /// `mprotect` may add `EXEC`.
        const MAY_EXEC = 1 << 3;
        /// Grows downwards when touched below its start.
        const GROWS_DOWN = 1 << 4;
        /// `mlock`ed: always resident.
        const LOCKED = 1 << 5;
        /// `mlock`ed with `MLOCK_ONFAULT`: resident once touched.
        const LOCK_ON_FAULT = 1 << 6;
        /// `MAP_NORESERVE`.
        const NO_RESERVE = 1 << 7;
        /// Its pages count as committed memory.
        const ACCOUNTED = 1 << 8;
        /// `MADV_DONTFORK`: a child does not get it.
        const DONT_FORK = 1 << 9;
        /// `MADV_WIPEONFORK`: a child gets it empty.
        const WIPE_ON_FORK = 1 << 10;
        /// `MADV_DONTDUMP`: not in core dumps.
        const DONT_DUMP = 1 << 11;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL_READ = 1 << 12;
        /// `MADV_RANDOM`.
        const RANDOM_READ = 1 << 13;
        /// The kernel's own pages (vDSO): cannot be grown, advised away or remapped bigger.
        const SPECIAL = 1 << 14;
        /// `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 15;
        /// `MADV_HUGEPAGE`: kept and shown; every page here is small, as on Linux where none big is to be had.
        const HUGE_PAGES = 1 << 16;
        /// `MADV_NOHUGEPAGE`.
        const NO_HUGE_PAGES = 1 << 17;
    }

    /// What the descriptor that a file was mapped through allows.
    #[derive(Copy, Clone, Debug, Eq, PartialEq)]
    pub struct FileAccess: u32 {
        /// Opened for reading.
        const READ = 1;
        /// Opened for writing.
        const WRITE = 2;
        /// On a filesystem from which programs may be run (not `noexec`).
        const EXEC = 4;
        /// Not sealed against writes: a shared mapping may be, or become, writable.
        const UNSEALED = 8;
    }
}

impl Protection {
    /// Loads, stores and instruction fetches.
    pub const ALL: Protection = Protection::READ.union(Protection::WRITE).union(Protection::EXEC);

    /// Whether it is `PROT_NONE`, whatever the key.
    pub fn is_none(self) -> bool {
        !self.intersects(Protection::ALL)
    }

    /// The same with this protection key, 0 to 15.
    pub fn with_key(self, key: u8) -> Protection {
        (self - Protection::KEY) | Protection::from_bits_retain(u32::from(key & 15) << 3)
    }

    /// The protection key.
    pub fn key(self) -> u8 {
        (self.bits() >> 3 & 15) as u8
    }

    /// The page-table permissions of a page that the program has for itself.
    pub fn perms(self) -> Perms {
        let mut perms = Perms::empty().with_key(self.key());
        perms.set(Perms::READ, !self.is_none());
        perms.set(Perms::WRITE, self.contains(Protection::WRITE));
        perms.set(Perms::EXEC, self.contains(Protection::EXEC));
        perms
    }

    /// The permissions of a page whose first store must be noticed (copy-on-write, dirty tracking).
    pub fn perms_without_write(self) -> Perms {
        self.perms() - Perms::WRITE
    }
}

/// Whether stores to a mapping are seen by others.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// `MAP_PRIVATE`.
    Private,
    /// `MAP_SHARED`.
    Shared,
}

/// An open file, as far as a mapping needs it; the file layer implements it.
pub trait MappedFile: Send + Sync {
    /// The file's pages.
    fn page_cache(&self) -> Arc<PageCache>;
    /// What the open mode and the mount allow.
    fn access(&self) -> FileAccess;
    /// Writes the path that `/proc/PID/maps` shows, as the reader of that file sees it.
    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result;
    /// Device number, major and minor.
    fn device(&self) -> (u32, u32);
    /// Inode number.
    fn inode_number(&self) -> u64;
    /// A last word before the file is mapped (seals, append-only).
    ///
    /// Errors: whatever `mmap(2)` should then return, `EPERM` for a seal.
    fn may_map(&self, protection: Protection, sharing: Sharing) -> Result<()> {
        let _ = (protection, sharing);
        Ok(())
    }
    /// Writes `range` of bytes to the device, for `msync(2)`. Errors: `EIO` and the like, of this description, once.
    fn sync(&self, range: Range<u64>) -> Result<()> {
        self.page_cache().sync(range)
    }
    /// A page that was clean is about to be stored into through a shared mapping: the file's times follow, and a file system that is frozen has the caller
    /// wait. Only of files that are written back. Thread context, no locks held.
    fn begin_store(&self) {}
    /// Whether this is not a file a program opened but the pages behind a shared anonymous mapping.
    fn is_anonymous(&self) -> bool {
        false
    }
    /// For the file layer to find its own type again.
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }
}

/// The kernel pages behind `[vdso]` and its like.
pub struct SpecialPages {
    /// What `/proc/PID/maps` calls it, brackets included.
    pub name: &'static str,
    /// The pages.
    pub frames: Vec<Frame>,
}

/// Where the contents of a mapping come from.
#[derive(Clone)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// Pages of a file, from page `first_page` on.
    File {
        /// The open file, kept open by the mapping.
        file: Arc<dyn MappedFile>,
        /// Its pages.
        cache: Arc<PageCache>,
        /// The page of the file at the start of the mapping.
        first_page: u64,
    },
    /// Kernel pages, from number `first_page` on.
    Special {
        /// The pages.
        pages: Arc<SpecialPages>,
        /// The one at the start of the mapping.
        first_page: u64,
    },
}

impl Backing {
    /// The same, `bytes` further on.
    fn advanced(&self, bytes: usize) -> Backing {
        let pages = (bytes / PAGE_SIZE) as u64;
        let mut copy = self.clone();
        match &mut copy {
            Backing::Anonymous => {}
            Backing::File { first_page, .. } | Backing::Special { first_page, .. } => *first_page += pages,
        }
        copy
    }

    /// Whether `next`, starting `bytes` after `self`, continues it.
    fn continues(&self, bytes: usize, next: &Backing) -> bool {
        let pages = (bytes / PAGE_SIZE) as u64;
        match (self, next) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (
                Backing::File { file: a, cache: x, first_page: from },
                Backing::File { file: b, cache: y, first_page: to },
            ) => Arc::ptr_eq(x, y) && Arc::ptr_eq(a, b) && from + pages == *to,
            _ => false,
        }
    }
}

/// Whether a mapping may hold anonymous pages.
#[derive(Clone)]
enum Copied {
    Never,
    Always,
    /// A private mapping of a file: after its first copy-on-write. All VMAs cut from one share the flag, so that a fault
    /// that is under way on the old one while a writer replaces it is not lost.
    Since(Arc<AtomicBool>),
}

impl Copied {
    fn of(flags: VmaFlags, backing: &Backing) -> Copied {
        match backing {
            Backing::Anonymous => Copied::Always,
            _ if flags.contains(VmaFlags::SHARED) => Copied::Never,
            _ => Copied::Since(Arc::new(AtomicBool::new(false))),
        }
    }

    fn joined(&self, other: &Copied) -> Copied {
        match (self, other) {
            (Copied::Since(a), Copied::Since(b)) if !Arc::ptr_eq(a, b) => {
                // A fault under way may set either: assume it.
                a.store(true, Ordering::Relaxed);
                self.clone()
            }
            _ => self.clone(),
        }
    }
}

/// A mapping; see the head of this file.
pub struct Vma {
    range: Range<usize>,
    protection: Protection,
    flags: VmaFlags,
    backing: Backing,
    /// Whether some page in it may be anonymous: fork must copy its page-table entries.
    copied: Copied,
    detached: AtomicBool,
}

impl Vma {
    /// A mapping of page-aligned `range`.
    pub fn new(range: Range<usize>, protection: Protection, flags: VmaFlags, backing: Backing) -> Vma {
        Vma {
            range,
            protection,
            flags,
            copied: Copied::of(flags, &backing),
            backing,
            detached: AtomicBool::new(false),
        }
    }

    /// The addresses, page aligned.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
    /// First address.
    pub fn start(&self) -> usize {
        self.range.start
    }
    /// First address behind it.
    pub fn end(&self) -> usize {
        self.range.end
    }
    /// Its length in pages.
    pub fn pages(&self) -> usize {
        (self.range.end - self.range.start) / PAGE_SIZE
    }
    /// What the program may do with it.
    pub fn protection(&self) -> Protection {
        self.protection
    }
    /// Its other properties.
    pub fn flags(&self) -> VmaFlags {
        self.flags
    }
    /// Where its contents come from.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }
    /// Whether stores are seen by others.
    pub fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }
    /// Whether it is private, zero-filled memory.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous)
    }
    /// The file mapped, if one is.
    pub fn file(&self) -> Option<&Arc<dyn MappedFile>> {
        match &self.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        }
    }
    /// The page cache behind it, if there is one, and the page in it of `address`.
    pub fn page_of(&self, address: usize) -> Option<(&Arc<PageCache>, u64)> {
        match &self.backing {
            Backing::File { cache, first_page, .. } => {
                Some((cache, first_page + ((address - self.range.start) / PAGE_SIZE) as u64))
            }
            _ => None,
        }
    }
    /// The offset in its file of its first byte, as `/proc/PID/maps` shows it.
    pub fn file_offset(&self) -> u64 {
        match &self.backing {
            Backing::Anonymous => 0,
            Backing::File { first_page, .. } | Backing::Special { first_page, .. } => {
                first_page << machine::PAGE_SHIFT
            }
        }
    }
    /// Whether it counts against `RLIMIT_DATA`: private, writable, not a stack.
    pub fn is_data(&self) -> bool {
        self.protection.contains(Protection::WRITE)
            && !self.flags.intersects(VmaFlags::SHARED | VmaFlags::GROWS_DOWN)
    }

    /// Whether some page in it may be anonymous.
    pub fn may_hold_anonymous(&self) -> bool {
        match &self.copied {
            Copied::Never => false,
            Copied::Always => true,
            Copied::Since(copied) => copied.load(Ordering::Relaxed),
        }
    }
    /// Notes that a page of it was copied on write.
    pub(crate) fn note_anonymous(&self) {
        if let Copied::Since(copied) = &self.copied
            && !copied.load(Ordering::Relaxed)
        {
            copied.store(true, Ordering::Relaxed);
        }
    }

    /// Whether no writer has replaced it. Only an answer given inside a leaf lock of the page table means something.
    pub(crate) fn is_current(&self) -> bool {
        // Orders the leaf's appearance in the table (just made, maybe) before the load: the other half of `detach`.
        fence(Ordering::SeqCst);
        !self.detached.load(Ordering::Relaxed)
    }
    /// Marks it as replaced. Afterwards no page is installed for it in a leaf table that the caller's walk has passed.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// A copy with other bounds (inside the old ones, or growing where the backing allows it).
    pub(crate) fn with_range(&self, range: Range<usize>) -> Vma {
        let backing = if range.start >= self.range.start {
            self.backing.advanced(range.start - self.range.start)
        } else {
            self.backing.clone()
        };
        self.derived(range, self.protection, self.flags, backing)
    }
    /// A copy of the whole with another protection and other flags.
    pub(crate) fn with_rights(&self, protection: Protection, flags: VmaFlags) -> Vma {
        self.derived(self.range.clone(), protection, flags, self.backing.clone())
    }
    /// A copy of the whole elsewhere.
    pub(crate) fn moved_to(&self, start: usize) -> Vma {
        let end = start + (self.range.end - self.range.start);
        self.derived(start..end, self.protection, self.flags, self.backing.clone())
    }
    /// A copy of the whole for a child process, whose further copy-on-write is its own.
    pub(crate) fn for_child(&self) -> Vma {
        let flags = self.flags - (VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
        let child = Vma::new(self.range.clone(), self.protection, flags, self.backing.clone());
        if self.may_hold_anonymous() {
            child.note_anonymous();
        }
        child
    }
    fn derived(&self, range: Range<usize>, protection: Protection, flags: VmaFlags, backing: Backing) -> Vma {
        let detached = AtomicBool::new(false);
        Vma { range, protection, flags, backing, copied: self.copied.clone(), detached }
    }

    /// Whether `next` starts where this one ends and is alike in everything.
    pub(crate) fn can_merge(&self, next: &Vma) -> bool {
        self.range.end == next.range.start
            && self.protection == next.protection
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::SPECIAL)
            && self.backing.continues(self.range.end - self.range.start, &next.backing)
    }
    /// Both as one; the caller has asked [`Vma::can_merge`].
    pub(crate) fn merged(&self, next: &Vma) -> Vma {
        let mut vma = self.with_range(self.range.start..next.range.end);
        vma.copied = self.copied.joined(&next.copied);
        vma
    }
}
