//! Page faults.
//!
//! # The way of a fault
//! 1. **Fast path** ([`AddressSpace::try_fault`]), preemption off, no lock, no reference count: find the VMA in the
//!    published map, check the access, find or make the page (memory that needs no sleep, pages in the cache), and
//!    install it under the leaf lock of the page table, after asking there once more whether the VMA still stands and the
//!    page is still the file's. Faults on different leaf tables (2 MiB) share nothing that is written.
//! 2. **Slow path**, sleeping allowed: bring a page in from its file, let memory be reclaimed, grow the stack, or wait
//!    for a writer of the map. Then the fast path again. So installing happens in one place only.
//!
//! Copy-on-write: a private page is mapped without write permission as long as it may be shared. A store finds it and,
//! if no one else holds the frame ([`machine::memory::Frame::ref_count`] is 1), takes it over, else copies it.
//!
//! Key types: [`FaultInfo`], [`FaultError`]. Locks: see `crate::space`.

use crate::page_cache::{Access, FRAME_READ_AHEAD, PageCache, Retention};
use crate::remote::RemoteAccess;
use crate::space::{AddressSpace, Limits};
use crate::stats::FrameKind;
use crate::swap;
use crate::vma::{Backing, Protection, Vma, VmaFlags};
use abi::errno::Errno;
use alloc::sync::Arc;
use core::ops::{ControlFlow, Range};
use machine::PAGE_SIZE;
use machine::memory::{
    AllocFlags, EntryAction, EntryRef, Frame, MappingRef, Perms, Region, SwapSlot, TlbBatch, zero_frame,
};
use machine::user::FaultAccess;

/// Cached pages mapped around a faulting one of a file, the faulting one included, if nothing is mapped before them.
const FAULT_AROUND_PAGES: usize = 16;

/// What the processor says about a fault.
#[derive(Copy, Clone, Debug)]
pub struct FaultInfo {
    /// The address touched.
    pub address: usize,
    /// How it was touched.
    pub access: FaultAccess,
    /// Whether a page was there (so its permissions were too few).
    pub present: bool,
}

/// Why a fault cannot be resolved, in terms of the signal to send.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    NotMapped,
    /// The mapping does not allow it: SIGSEGV, `SEGV_ACCERR`.
    AccessDenied,
    /// A file does not reach so far, or cannot be read: SIGBUS, `BUS_ADRERR`.
    BusError,
    /// No memory. If the thread is being killed, it dies; else the program may be restarted at the instruction.
    OutOfMemory,
    /// A fatal signal arrived meanwhile.
    Interrupted,
}

/// How an attempt ended.
pub(crate) enum Attempt {
    /// The page is there.
    Done,
    /// The map is changing: look again.
    Retry,
    /// This page of this file must be brought in first; the pages that the mapping shows of the file.
    NeedPage(Arc<PageCache>, u64, Range<u64>),
    /// A program reads a mapping in order and has come to this page, from where more is to be read ahead.
    ReadBehind(Arc<PageCache>, u64, Range<u64>),
    /// Room must be reserved for this page of this file, which a program wants to store to.
    NeedStore(Arc<PageCache>, u64),
    /// The page must be brought back from swap space.
    NeedSwap(SwapSlot),
    /// Memory was not to be had without sleeping.
    NeedMemory,
    /// It cannot be.
    Failed(FaultError),
}

/// What happened under the leaf lock.
enum Installed {
    /// Something new is mapped, of this kind; what was there before is to be counted out.
    New(FrameKind, Option<FrameKind>),
    /// What was there suffices or was given more permissions.
    Same,
    Retry,
    NeedMemory,
    NeedStore,
}

/// A fault as the parts below pass it on.
#[derive(Copy, Clone)]
pub(crate) struct Request {
    /// The page's address.
    pub page: usize,
    pub access: FaultAccess,
    /// Whether a page was there.
    pub present: bool,
    pub rights: RemoteAccess,
}

/// Whether the VMA allows the access.
fn permits(vma: &Vma, request: Request) -> bool {
    let (protection, access) = (vma.protection(), request.access);
    if request.rights == RemoteAccess::Forced {
        // The caller has looked at what the mapping could be given.
        true
    } else if access.contains(FaultAccess::KEY) {
        false
    } else if access.contains(FaultAccess::WRITE) {
        protection.contains(Protection::WRITE)
    } else if access.contains(FaultAccess::EXEC) {
        protection.contains(Protection::EXEC)
    } else {
        !protection.is_none()
    }
}

/// Whether an entry already allows the access.
fn suffices(perms: Perms, access: FaultAccess) -> bool {
    if access.contains(FaultAccess::WRITE) {
        perms.contains(Perms::WRITE)
    } else if access.contains(FaultAccess::EXEC) {
        perms.contains(Perms::EXEC)
    } else {
        perms.contains(Perms::READ)
    }
}

/// Whether a fault is resolved (it is to be tried again) now that its page has been brought in, or has not.
fn retry_after<T>(brought: abi::errno::Result<T>) -> core::result::Result<bool, FaultError> {
    match brought {
        Ok(_) => Ok(false),
        Err(Errno::ENOMEM) => Err(FaultError::OutOfMemory),
        Err(Errno::EINTR) => Err(FaultError::Interrupted),
        Err(_) => Err(FaultError::BusError),
    }
}

impl AddressSpace {
    /// Resolves a page fault. Thread context, may sleep. `limits` is asked only if a stack has to grow.
    ///
    /// Errors: see [`FaultError`].
    pub fn handle_fault(
        &self,
        fault: &FaultInfo,
        limits: impl FnOnce() -> Limits,
    ) -> core::result::Result<(), FaultError> {
        let mut limits = Some(limits);
        let page = fault.address & !(PAGE_SIZE - 1);
        let rights = RemoteAccess::Checked;
        let request = Request { page, access: fault.access, present: fault.present, rights };
        loop {
            match self.try_fault(request) {
                None => match limits.take() {
                    Some(limits) => self.grow_stack(fault.address, &limits())?,
                    None => return Err(FaultError::NotMapped),
                },
                Some(attempt) => {
                    if self.conclude(request, attempt)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Resolves a fault whatever the protection says: a debugger's access. A store to a private page that is not writable
    /// makes a copy of it that is not writable either.
    pub(crate) fn handle_forced_fault(&self, fault: &FaultInfo) -> core::result::Result<(), FaultError> {
        let page = fault.address & !(PAGE_SIZE - 1);
        let rights = RemoteAccess::Forced;
        let request = Request { page, access: fault.access, present: fault.present, rights };
        loop {
            let attempt = self.try_fault(request).ok_or(FaultError::NotMapped)?;
            if self.conclude(request, attempt)? {
                return Ok(());
            }
        }
    }

    /// Brings in what an attempt lacked; returns whether the fault is resolved.
    pub(crate) fn conclude(
        &self,
        request: Request,
        attempt: Attempt,
    ) -> core::result::Result<bool, FaultError> {
        match attempt {
            Attempt::Done => Ok(true),
            Attempt::Failed(error) => Err(error),
            Attempt::Retry => {
                // A writer has marked the VMA and not published yet: wait until it lets go.
                drop(self.state.read());
                Ok(false)
            }
            Attempt::NeedPage(cache, index, limits) => {
                cache.read_around(index, limits);
                retry_after(cache.get_page(index, Access::Create))
            }
            Attempt::ReadBehind(cache, index, limits) => {
                cache.read_behind(index, limits);
                Ok(false)
            }
            Attempt::NeedStore(cache, index) => {
                if let Some(file) = self.find_vma(request.page).as_ref().and_then(|vma| vma.file()) {
                    file.begin_store();
                }
                retry_after(cache.prepare_store(index))
            }
            Attempt::NeedSwap(slot) => retry_after(self.bring_in(request.page, slot)),
            Attempt::NeedMemory => self.fault_with_reclaim(request),
        }
    }

    /// Brings a page back from swap space, if its entry at `page` still stands for `slot`. It is mapped for reading: who wants to write takes it
    /// over or copies it, as any page that may be shared.
    ///
    /// Errors: `EIO`, `ENOMEM`, `EINTR`.
    pub(crate) fn bring_in(&self, page: usize, slot: SwapSlot) -> abi::errno::Result<()> {
        let Some(frame) = swap::read_in(slot)? else { return Ok(()) };
        let Some(vma) = self.find_vma(page) else { return Ok(()) };
        let perms = vma.protection().perms_without_write();
        let mut batch = TlbBatch::new(self.page_table());
        let mapped = self.page_table().update(page, &mut batch, |entry| match entry {
            Some(EntryRef::Swapped(there))
                if there == slot && vma.is_current() && swap::is_of(&frame, slot) =>
            {
                (EntryAction::Map(frame.clone(), perms), true)
            }
            _ => (EntryAction::Keep, false),
        })?;
        if mapped {
            self.count_mapped(FrameKind::Anonymous, 1);
            swap::note_came_back(slot);
        }
        Ok(())
    }

    /// The attempt with memory that may have to be reclaimed, so with preemption on and a counted VMA.
    #[cold]
    fn fault_with_reclaim(&self, request: Request) -> core::result::Result<bool, FaultError> {
        let Some(vma) = self.find_vma(request.page) else { return Ok(false) };
        // Held over the attempt: makes sure that there is a page, and that table pages can be had.
        let reserve = Frame::alloc(AllocFlags::empty()).map_err(|_| FaultError::OutOfMemory)?;
        match self.fault_in(&vma, request, Some(reserve)) {
            Attempt::NeedMemory => Err(FaultError::OutOfMemory),
            attempt => self.conclude(request, attempt),
        }
    }

    /// One attempt that does not sleep; `None` if nothing is mapped at `page`.
    pub(crate) fn try_fault(&self, request: Request) -> Option<Attempt> {
        self.with_vma(request.page, |vma| self.fault_in(vma, request, None))
    }

    /// Resolves a fault on `vma`. `spare` is a page (with arbitrary contents) to use if one is needed.
    fn fault_in(&self, vma: &Vma, request: Request, spare: Option<Frame>) -> Attempt {
        if !permits(vma, request) {
            return Attempt::Failed(FaultError::AccessDenied);
        }
        if let Some(slot) = self.page_table().swapped_at(request.page) {
            return Attempt::NeedSwap(slot);
        }
        match vma.backing() {
            Backing::Anonymous => self.install(vma, request, spare, Source::Zeros),
            Backing::File { .. } => self.fault_file(vma, request, spare),
            Backing::Special { pages, first_page } => {
                let index = *first_page as usize + (request.page - vma.start()) / PAGE_SIZE;
                match pages.frames.get(index) {
                    Some(frame) => self.install(vma, request, spare, Source::Kernel(frame)),
                    None => Attempt::Failed(FaultError::BusError),
                }
            }
        }
    }

    fn fault_file(&self, vma: &Vma, request: Request, spare: Option<Frame>) -> Attempt {
        let Request { page, access, .. } = request;
        let Some((cache, index)) = vma.page_of(page) else { return Attempt::Retry };
        if !cache.contains_page(index) {
            return Attempt::Failed(FaultError::BusError);
        }
        let limits = || {
            // At random, nothing is brought in but the page.
            let around = !vma.flags().contains(VmaFlags::RANDOM_READ);
            if around { pages_shown(vma) } else { index..index + 1 }
        };
        if !access.contains(FaultAccess::WRITE) && !vma.flags().contains(VmaFlags::RANDOM_READ) {
            match self.fault_around(vma, page, cache) {
                Some(attempt) => return attempt,
                None => return Attempt::NeedPage(cache.clone(), index, limits()),
            }
        }
        match cache.lookup(index) {
            Some(frame) => self.install(vma, request, spare, Source::Cache(cache, index, &frame)),
            None => Attempt::NeedPage(cache.clone(), index, limits()),
        }
    }

    /// Maps the cached pages around `page` that are not mapped yet; `None` if the one that is wanted is not cached.
    fn fault_around(&self, vma: &Vma, page: usize, cache: &Arc<PageCache>) -> Option<Attempt> {
        let perms = clean_perms(vma, cache);
        let Ok(region) = self.page_table().lock_region(page, perms) else { return Some(Attempt::NeedMemory) };
        if !vma.is_current() {
            return Some(Attempt::Retry);
        }
        let window = window_around(&region, vma, page);
        let (_, first) = vma.page_of(window.start)?;
        let last = first + (window.len() / PAGE_SIZE) as u64 - 1;
        let (mut found, mut was_there, mut marked, mut mapped) = (false, false, None, 0);
        cache.visit_complete(first..=last, |index, frame, flags| {
            if flags.contains(FRAME_READ_AHEAD) {
                marked = Some(index);
                return ControlFlow::Break(());
            }
            let address = window.start + (index - first) as usize * PAGE_SIZE;
            note_writable(frame, perms);
            let is_new = region.map_if_vacant(address, frame);
            mapped += usize::from(is_new);
            if address == page {
                (found, was_there) = (true, !is_new);
            }
            ControlFlow::Continue(())
        });
        drop(region);
        let kind = match cache.retention() {
            Retention::OnlyCopy => FrameKind::Shmem,
            Retention::Reloadable => FrameKind::File,
        };
        self.count_mapped(kind, mapped);
        match marked {
            Some(index) => Some(Attempt::ReadBehind(cache.clone(), index, pages_shown(vma))),
            None if !found => None,
            // With too few permissions, maybe.
            None if was_there => Some(self.raise(vma, page)),
            None => Some(Attempt::Done),
        }
    }

    /// Gives an entry that is there the permissions that a clean page of the VMA has.
    fn raise(&self, vma: &Vma, page: usize) -> Attempt {
        let mut batch = TlbBatch::new(self.page_table());
        let result = self.page_table().update(page, &mut batch, |mapping| match mapping {
            _ if !vma.is_current() => (EntryAction::Keep, Attempt::Retry),
            // Unmapped again meanwhile.
            None | Some(EntryRef::Swapped(_)) => (EntryAction::Keep, Attempt::Retry),
            Some(EntryRef::Page(mapping)) => {
                let perms = vma.protection().perms_without_write() | mapping.perms & Perms::WRITE;
                let action =
                    if perms == mapping.perms { EntryAction::Keep } else { EntryAction::Protect(perms) };
                (action, Attempt::Done)
            }
        });
        result.unwrap_or(Attempt::NeedMemory)
    }

    /// Installs one page at `page` for `access`, from `source`: the heart of every fault.
    fn install(&self, vma: &Vma, request: Request, spare: Option<Frame>, source: Source<'_>) -> Attempt {
        let Request { page, access, .. } = request;
        let mut prepared = match self.prepare(vma, request, spare, &source) {
            Ok(prepared) => prepared,
            Err(attempt) => return attempt,
        };
        let mut batch = TlbBatch::new(self.page_table());
        let result = self.page_table().update(page, &mut batch, |mapping| {
            if !vma.is_current() || !source.is_valid() {
                return (EntryAction::Keep, Installed::Retry);
            }
            match mapping {
                None => place_new(vma, access, &source, &mut prepared),
                Some(EntryRef::Page(mapping)) => improve(vma, access, &source, mapping, &mut prepared),
                // It has just gone.
                Some(EntryRef::Swapped(_)) => (EntryAction::Keep, Installed::Retry),
            }
        });
        match result {
            Err(_) | Ok(Installed::NeedMemory) => Attempt::NeedMemory,
            Ok(Installed::Retry) => Attempt::Retry,
            Ok(Installed::NeedStore) => match &source {
                Source::Cache(cache, index, _) => Attempt::NeedStore((*cache).clone(), *index),
                Source::Zeros | Source::Kernel(_) => Attempt::Retry,
            },
            Ok(Installed::Same) => Attempt::Done,
            Ok(Installed::New(kind, replaced)) => {
                self.count_mapped(kind, 1);
                if let Some(replaced) = replaced {
                    self.count_out(replaced, 1);
                }
                Attempt::Done
            }
        }
    }

    /// Makes the private page that the access will probably need, outside the leaf lock.
    fn prepare(
        &self,
        vma: &Vma,
        request: Request,
        spare: Option<Frame>,
        source: &Source<'_>,
    ) -> core::result::Result<Prepared, Attempt> {
        if !request.access.contains(FaultAccess::WRITE) || vma.is_shared() {
            return Ok(Prepared { frame: None, zeroed: Zeroed::No });
        }
        // With a page there, it is a copy that is wanted.
        let zeros = matches!(source, Source::Zeros) && !request.present && spare.is_none();
        let zeroed = if zeros { Zeroed::Yes } else { Zeroed::No };
        let frame = match spare {
            Some(frame) => frame,
            None => {
                let flags = if zeroed == Zeroed::Yes { AllocFlags::ZEROED } else { AllocFlags::empty() };
                Frame::alloc(flags | AllocFlags::NO_RECLAIM).map_err(|_| Attempt::NeedMemory)?
            }
        };
        Ok(Prepared { frame: Some(frame), zeroed })
    }
}

/// The addresses to map around `page`: of this VMA and of this leaf table. A program that has come there through what is mapped already gets
/// twice as many as lie behind it.
fn window_around(region: &Region<'_>, vma: &Vma, page: usize) -> Range<usize> {
    let within = vma.start().max(region.range().start)..vma.end().min(region.range().end);
    let mut bytes = FAULT_AROUND_PAGES * PAGE_SIZE;
    let start = (page & !(bytes - 1)).max(within.start);
    let is_mapped = |address: usize| within.contains(&address) && region.is_occupied(address);
    if is_mapped(start.wrapping_sub(PAGE_SIZE)) {
        while bytes < within.len() && is_mapped(start.wrapping_sub(bytes)) {
            bytes *= 2;
        }
    }
    start..start.saturating_add(bytes).min(within.end)
}

/// Whether a prepared page is all zeros.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Zeroed {
    Yes,
    No,
}

/// A page made for a store before the leaf lock is taken.
struct Prepared {
    frame: Option<Frame>,
    zeroed: Zeroed,
}

impl Prepared {
    /// The page, with the contents of `original`, or zeros.
    fn take(&mut self, original: Option<&Frame>) -> Option<Frame> {
        let frame = self.frame.take()?;
        match original {
            Some(original) => frame.copy_from(original),
            None if self.zeroed == Zeroed::No => frame.zero(),
            None => {}
        }
        Some(frame)
    }
}

/// Where a page that is not mapped yet comes from.
enum Source<'a> {
    Zeros,
    Cache(&'a Arc<PageCache>, u64, &'a Frame),
    Kernel(&'a Frame),
}

impl Source<'_> {
    /// Whether the page still belongs to its file. For leaf locks.
    fn is_valid(&self) -> bool {
        match self {
            Source::Cache(cache, _, frame) => cache.owns(frame),
            Source::Zeros | Source::Kernel(_) => true,
        }
    }
}

/// The permissions of a page of a file that has not been written through this mapping: writable only where stores need
/// not be noticed.
fn clean_perms(vma: &Vma, cache: &PageCache) -> Perms {
    if vma.is_shared() && cache.retention() == Retention::OnlyCopy {
        vma.protection().perms()
    } else {
        vma.protection().perms_without_write()
    }
}

/// A page of a file becomes writable through a mapping: from now on it holds data.
fn note_writable(frame: &Frame, perms: Perms) {
    if perms.contains(Perms::WRITE) {
        crate::page_cache::note_written(frame);
    }
}

/// The pages of its file that a mapping shows.
fn pages_shown(vma: &Vma) -> Range<u64> {
    let first = vma.page_of(vma.start()).map_or(0, |(_, first)| first);
    first..first + vma.pages() as u64
}

/// Whether a page of a file may become writable through a mapping: where stores must be noticed, once it is dirty and its room reserved.
/// Asked under the leaf lock: whoever makes the page clean afterwards takes the permission away under the same lock.
fn may_store(cache: &PageCache, index: u64) -> bool {
    !cache.tracks_stores() || cache.is_dirty(index)
}

/// Decides for an empty entry, under the leaf lock.
fn place_new(
    vma: &Vma,
    access: FaultAccess,
    source: &Source<'_>,
    prepared: &mut Prepared,
) -> (EntryAction, Installed) {
    let is_store = access.contains(FaultAccess::WRITE);
    let map = |frame: Frame, perms: Perms| {
        note_writable(&frame, perms);
        let kind = FrameKind::of(&frame);
        (EntryAction::Map(frame, perms), Installed::New(kind, None))
    };
    match source {
        Source::Zeros if !is_store => map(zero_frame(), vma.protection().perms_without_write()),
        Source::Cache(cache, index, frame) if !is_store || vma.is_shared() => {
            if is_store {
                if !may_store(cache, *index) {
                    return (EntryAction::Keep, Installed::NeedStore);
                }
                return map((*frame).clone(), vma.protection().perms());
            }
            map((*frame).clone(), clean_perms(vma, cache))
        }
        Source::Kernel(frame) if !is_store || vma.is_shared() => {
            map((*frame).clone(), vma.protection().perms())
        }
        Source::Zeros | Source::Cache(..) | Source::Kernel(_) => {
            let original = match source {
                Source::Zeros => None,
                Source::Cache(_, _, frame) | Source::Kernel(frame) => Some(*frame),
            };
            let Some(own) = prepared.take(original) else {
                return (EntryAction::Keep, Installed::NeedMemory);
            };
            vma.note_anonymous();
            map(own, vma.protection().perms())
        }
    }
}

/// Decides for an entry that maps something already, under the leaf lock: another thread was faster, the permissions
/// were raised by `mprotect`, or it is copy-on-write.
fn improve(
    vma: &Vma,
    access: FaultAccess,
    source: &Source<'_>,
    mapping: MappingRef<'_>,
    prepared: &mut Prepared,
) -> (EntryAction, Installed) {
    if suffices(mapping.perms, access) {
        return (EntryAction::Keep, Installed::Same);
    }
    if !access.contains(FaultAccess::WRITE) {
        let perms = vma.protection().perms_without_write() | mapping.perms & Perms::WRITE;
        return (EntryAction::Protect(perms), Installed::Same);
    }
    let kind = FrameKind::of(mapping.frame);
    if vma.is_shared() {
        if let Source::Cache(cache, index, frame) = source {
            if !mapping.frame.is_same(frame) {
                return (EntryAction::Keep, Installed::Retry);
            }
            if !may_store(cache, *index) {
                return (EntryAction::Keep, Installed::NeedStore);
            }
            note_writable(frame, Perms::WRITE);
        }
        return (EntryAction::Protect(vma.protection().perms()), Installed::Same);
    }
    if kind == FrameKind::Anonymous && swap::is_exclusive(mapping.frame) {
        return (EntryAction::Protect(vma.protection().perms()), Installed::Same);
    }
    let is_zero_page = kind == FrameKind::Uncounted && vma.is_anonymous();
    let original = (!is_zero_page).then_some(mapping.frame);
    let Some(own) = prepared.take(original) else { return (EntryAction::Keep, Installed::NeedMemory) };
    vma.note_anonymous();
    let new_kind = FrameKind::of(&own);
    (EntryAction::Map(own, vma.protection().perms()), Installed::New(new_kind, Some(kind)))
}
