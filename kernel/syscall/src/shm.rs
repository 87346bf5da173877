//! System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! Decoding and encoding; the segments are in `ipc::sysv`, in the caller's IPC namespace, and are mapped by `mm`. Locks: none.

use crate::decode::Context;
use crate::msg::{Place, number_seen, numbers};
use abi::errno::{Errno, Result};
use abi::ipc::{
    IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, SHM_EXEC, SHM_HUGETLB, SHM_INFO, SHM_NORESERVE, SHM_RDONLY,
    SHM_REMAP, SHM_RND, SHM_STAT, SHM_STAT_ANY, ShmInfo, ShmInfo64, Shmid64Ds,
};
use abi::mman::{MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_SHARED};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use ipc::sysv::Object;
use ipc::sysv::shm::{self, Attachment, Segment};
use machine::{PAGE_SIZE, USER_END};
use mm::user::UserPtr;
use mm::{MmapBacking, MmapRequest, Protection, Vma};
use zerocopy::FromZeros;

/// shmget(2). Errors: `EACCES`, `EEXIST`, `EINVAL`, `ENOENT`, `ENOMEM` (also for huge pages, of which there are none), `ENOSPC`.
pub fn shmget(context: &mut Context<'_>, key: i32, bytes: usize, flags: u32) -> Result<usize> {
    let place = Place::of(context)?;
    let objects = place.objects();
    let (bytes, segments) = (bytes as u64, &objects.segments);
    let creator = numbers(context)?;
    let get = || {
        let creator = creator.clone();
        let make = |id, access| {
            if bytes == 0 || bytes > segments.most_bytes.load(Ordering::Relaxed) || bytes > USER_END as u64 {
                return Err(Errno::EINVAL);
            }
            if flags & SHM_HUGETLB != 0 {
                return Err(Errno::ENOMEM);
            }
            segments.make(id, access, bytes, flags & SHM_NORESERVE == 0, creator)
        };
        segments.table.get(key, flags, objects.segment_count.get(), &place.caller(), make)
    };
    let segment = match get() {
        Err(Errno::ENOSPC) => segments.sweep().and_then(|()| get())?,
        other => other?,
    };
    if bytes > segment.bytes() {
        return Err(Errno::EINVAL);
    }
    Ok(segment.id() as usize)
}

/// shmat(2): the address. Errors: `EACCES`, `EIDRM`, `EINVAL`, `ENOMEM`.
pub fn shmat(context: &mut Context<'_>, id: i32, address: usize, flags: u32) -> Result<usize> {
    let place = Place::of(context)?;
    let page = PAGE_SIZE - 1;
    if address & page != 0 && flags & SHM_RND == 0 || address == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let start = address & !page;
    if start == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let how = match (start, flags & SHM_REMAP) {
        (0, _) => MAP_SHARED,
        (_, 0) => MAP_SHARED | MAP_FIXED_NOREPLACE,
        _ => MAP_SHARED | MAP_FIXED,
    };
    let (mut protection, mut wanted) = (Protection::READ, 0o444);
    if flags & SHM_RDONLY == 0 {
        (protection, wanted) = (protection | Protection::WRITE, 0o666);
    }
    if flags & SHM_EXEC != 0 {
        (protection, wanted) = (protection | Protection::EXEC, wanted | 0o111);
    }
    let segment = place.objects().segments.find(id)?;
    let who = numbers(context)?;
    let file = segment.attach(&place.caller(), wanted, flags & SHM_RDONLY == 0)?;
    let length = usize::try_from(segment.bytes()).map_err(|_| Errno::ENOMEM)?;
    let backing = MmapBacking::File { file, offset: 0 };
    let request = MmapRequest { address: start, length, protection, flags: how, backing };
    let mapped = context.address_space()?.mmap(&request, &context.memory_limits());
    let mapped = mapped.map_err(|error| if error == Errno::EEXIST { Errno::EINVAL } else { error })?;
    segment.note_use(who, true);
    Ok(mapped)
}

/// The segment that a mapping is a part of, and where it would begin.
fn attached(vma: &Vma) -> Option<(&Attachment, usize)> {
    let attachment = vma.file()?.as_any()?.downcast_ref::<Attachment>()?;
    Some((attachment, vma.start().checked_sub(usize::try_from(vma.file_offset()).ok()?)?))
}

/// What is mapped of the first segment that was attached at `address`.
fn attached_at(space: &mm::AddressSpace, address: usize) -> Option<(Arc<Segment>, Vec<Range<usize>>)> {
    let map = space.snapshot();
    let mut found: Option<&Attachment> = None;
    let mut ranges = Vec::new();
    for (range, vma) in map.iter_range(address..USER_END) {
        if found.is_some_and(|attachment| {
            range.start >= address.saturating_add(attachment.segment().bytes() as usize)
        }) {
            break;
        }
        let Some((attachment, start)) = attached(vma) else { continue };
        if start == address && found.is_none_or(|first| core::ptr::eq(first, attachment)) {
            found = Some(attachment);
            ranges.try_reserve(1).ok()?;
            ranges.push(range);
        }
    }
    found.map(|attachment| (attachment.segment().clone(), ranges))
}

/// shmdt(2). Errors: `EINVAL`: nothing was attached there; `ENOMEM`.
pub fn shmdt(context: &mut Context<'_>, address: usize) -> Result<usize> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let space = context.address_space()?;
    let who = numbers(context)?;
    let (segment, ranges) = attached_at(&space, address).ok_or(Errno::EINVAL)?;
    for range in ranges {
        space.munmap(range.start, range.end - range.start)?;
    }
    segment.note_use(who, false);
    Ok(0)
}

/// shmctl(2). Errors: `EACCES`, `EFAULT`, `EINVAL` (also for `SHM_LOCK`), `EPERM`.
pub fn shmctl(context: &mut Context<'_>, id: i32, command: u32, buffer: UserPtr<Shmid64Ds>) -> Result<usize> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let place = Place::of(context)?;
    let segments = &place.objects().segments;
    match command {
        IPC_INFO => limits(&place, buffer.offset_bytes(0)),
        SHM_INFO => usage(&place, buffer.offset_bytes(0)),
        IPC_STAT => status(context, &place, &*segments.find(id)?, true, buffer).map(|_| 0),
        SHM_STAT | SHM_STAT_ANY => status(context, &place, &*segments.at(id)?, command == SHM_STAT, buffer),
        IPC_SET => {
            let from = buffer.read()?;
            segments.find(id)?.set(&place.caller(), &from.perm).map(|()| 0)
        }
        IPC_RMID => shm::remove(segments, id, &place.caller()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// Writes a segment's state; its id.
fn status(
    context: &Context<'_>,
    place: &Place,
    segment: &Segment,
    must_be_readable: bool,
    to: UserPtr<Shmid64Ds>,
) -> Result<usize> {
    let (access, status) = segment.status();
    if must_be_readable {
        access.check(&place.caller(), 0o444)?;
    }
    let mut perm = access.show(place.credentials(), segment.id());
    perm.mode |= status.flags;
    to.write(&Shmid64Ds {
        perm,
        segsz: segment.bytes(),
        atime: status.attached_s,
        dtime: status.detached_s,
        ctime: status.changed_s,
        cpid: number_seen(context, &status.creator),
        lpid: number_seen(context, &status.last),
        nattch: status.attachments,
        unused: [0; 2],
    })?;
    Ok(segment.id() as usize)
}

/// `IPC_INFO`: the limits; the highest place in the table.
fn limits(place: &Place, to: UserPtr<ShmInfo64>) -> Result<usize> {
    let objects = place.objects();
    let count = u64::from(objects.segment_count.get());
    to.write(&ShmInfo64 {
        max: objects.segments.most_bytes.load(Ordering::Relaxed),
        min: 1,
        mni: count,
        seg: count,
        all: objects.segments.most_pages.load(Ordering::Relaxed),
        unused: [0; 4],
    })?;
    Ok(objects.segments.table.highest_place() as usize)
}

/// `SHM_INFO`: what is used; the highest place in the table.
fn usage(place: &Place, to: UserPtr<ShmInfo>) -> Result<usize> {
    let segments = &place.objects().segments;
    segments.sweep()?;
    let mut info = ShmInfo::new_zeroed();
    for segment in segments.table.all()? {
        info.used_ids += 1;
        let (_, status) = segment.status();
        info.rss += status.resident;
        info.swp += status.swapped;
    }
    info.total = segments.pages();
    to.write(&info)?;
    Ok(segments.table.highest_place() as usize)
}
