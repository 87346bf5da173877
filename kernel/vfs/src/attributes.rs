//! Changing what an inode says of itself: chmod, chown, utimensat, truncate, and access times.
//!
//! Neighbours: `permission`, [`crate::inode::AttributeChange`]. Locks: the inode's lock for writing.

use alloc::sync::Arc;

use abi::errno::{Errno, Result};
use abi::inotify::{IN_ACCESS, IN_ATTRIB, IN_MODIFY};
use abi::mount::MountFlags;
use machine::sync::Once;
use security::{Capability, Credentials, Kgid, Kuid};

use crate::acl;
use crate::file::File;
use crate::inode::{AttributeChange, Inode, state};
use crate::notify;
use crate::path::Path;
use crate::permission::{self, capable_for, is_owner_or_capable};
use crate::types::{AccessMask, FileKind, Timestamp};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// Runs a change on a writable mount with the inode locked. `EROFS`; `EPERM`: immutable or append-only.
fn with_write<R>(place: &Path, change: impl FnOnce(&Arc<Inode>) -> Result<R>) -> Result<R> {
    let inode = place.inode()?;
    let _change = place.mount.begin_change()?;
    let _lock = inode.lock.write();
    let fixed = inode.has_state(state::IMMUTABLE | state::APPEND_ONLY);
    let allowed = if fixed { Err(Errno::EPERM) } else { inode.check_alive() };
    allowed.and_then(|()| change(inode))
}

fn apply(inode: &Arc<Inode>, change: AttributeChange) -> Result<()> {
    let change = AttributeChange { changed: Some(Timestamp::now()), ..change };
    inode.operations().set_attributes(inode, &change)
}

/// chmod(2). `EPERM`: not the owner. The set-group-ID bit falls for those outside the group. `EOPNOTSUPP`: a link.
pub fn change_mode(place: &Path, mode: u32, credentials: &Credentials) -> Result<()> {
    with_write(place, |inode| {
        if inode.kind() == FileKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if !is_owner_or_capable(inode, credentials) {
            return Err(Errno::EPERM);
        }
        let mode = mode_for_caller(inode, mode & 0o7777, credentials);
        let change = AttributeChange {
            mode: Some(mode),
            changed: Some(Timestamp::now()),
            ..AttributeChange::default()
        };
        if acl::change_mode(inode, &change)? {
            return Ok(());
        }
        inode.operations().set_attributes(inode, &change)
    })?;
    notify::at(place, IN_ATTRIB);
    Ok(())
}

/// A mode that someone gives a file: without the set-group-ID bit if they are not in its group.
pub(crate) fn mode_for_caller(inode: &Inode, mode: u32, credentials: &Credentials) -> u32 {
    let keeps = credentials.in_group(inode.gid()) || capable_for(inode, credentials, Capability::Fsetid);
    if keeps { mode } else { mode & !SET_GROUP_ID }
}

/// chown(2): `None` leaves an identifier. `EPERM`; `EINVAL`: an identifier that the namespace does not map.
/// Whoever changes a file loses its set-ID bits; directories keep theirs.
pub fn change_owner(
    place: &Path,
    uid: Option<u32>,
    gid: Option<u32>,
    credentials: &Credentials,
) -> Result<()> {
    let namespace = &credentials.user_namespace;
    let uid = uid.map(|uid| namespace.make_kuid(uid).ok_or(Errno::EINVAL)).transpose()?;
    let gid = gid.map(|gid| namespace.make_kgid(gid).ok_or(Errno::EINVAL)).transpose()?;
    with_write(place, |inode| {
        check_owner_change(inode, uid, gid, credentials)?;
        let mode = if inode.is_directory() { None } else { without_set_id(inode) };
        apply(inode, AttributeChange { uid, gid, mode, ..AttributeChange::default() })
    })?;
    notify::at(place, IN_ATTRIB);
    Ok(())
}

fn check_owner_change(
    inode: &Inode,
    uid: Option<Kuid>,
    gid: Option<Kgid>,
    credentials: &Credentials,
) -> Result<()> {
    let privileged = capable_for(inode, credentials, Capability::Chown);
    let owner = credentials.fsuid == inode.uid();
    let uid_allowed = uid.is_none_or(|uid| owner && uid == inode.uid());
    let gid_allowed = gid.is_none_or(|gid| owner && (gid == inode.gid() || credentials.in_group(gid)));
    if privileged || uid_allowed && gid_allowed { Ok(()) } else { Err(Errno::EPERM) }
}

/// The mode without set-user-ID and, where the group may execute, set-group-ID; `None` if nothing changes.
fn without_set_id(inode: &Inode) -> Option<u32> {
    let mode = inode.permissions();
    let mut kept = mode & !SET_USER_ID;
    if mode & 0o010 != 0 {
        kept &= !SET_GROUP_ID;
    }
    (kept != mode).then_some(kept)
}

/// Whether a file has a set-ID bit, which [`remove_privileges`] may take away.
pub fn has_set_id(inode: &Inode) -> bool {
    inode.permissions() & (SET_USER_ID | SET_GROUP_ID) != 0
}

/// What a writer without `CAP_FSETID` does to a file: its set-ID bits and file capabilities go. The lock is held.
pub fn remove_privileges(inode: &Arc<Inode>, credentials: &Credentials) -> Result<()> {
    if !has_set_id(inode) || capable_for(inode, credentials, Capability::Fsetid) {
        return Ok(());
    }
    match without_set_id(inode) {
        Some(mode) => apply(inode, AttributeChange { mode: Some(mode), ..AttributeChange::default() }),
        None => Ok(()),
    }
}

/// One of the two times of utimensat(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeChange {
    /// `UTIME_OMIT`.
    Keep,
    /// `UTIME_NOW`.
    Now,
    /// This time.
    Set(Timestamp),
}

/// utimensat(2). `EPERM`: another's file; `EACCES`: both now, but the file may not be written.
pub fn set_times(
    place: &Path,
    accessed: TimeChange,
    modified: TimeChange,
    credentials: &Credentials,
) -> Result<()> {
    if (accessed, modified) == (TimeChange::Keep, TimeChange::Keep) {
        return Ok(());
    }
    let only_now = (accessed, modified) == (TimeChange::Now, TimeChange::Now);
    let inode = place.inode()?;
    {
        let _change = place.mount.begin_change()?;
        let _lock = inode.lock.write();
        let allowed = inode.check_alive().and_then(|()| check_time_change(inode, only_now, credentials));
        let now = Timestamp::now();
        let time = |change| match change {
            TimeChange::Keep => None,
            TimeChange::Now => Some(now),
            TimeChange::Set(time) => Some(time),
        };
        let (accessed, modified) = (time(accessed), time(modified));
        allowed?;
        apply(inode, AttributeChange { accessed, modified, ..Default::default() })?;
    }
    notify::at(
        place,
        match (accessed, modified) {
            (TimeChange::Keep, _) => IN_MODIFY,
            (_, TimeChange::Keep) => IN_ACCESS,
            _ => IN_ATTRIB,
        },
    );
    Ok(())
}

fn check_time_change(inode: &Inode, only_now: bool, credentials: &Credentials) -> Result<()> {
    if inode.has_state(state::IMMUTABLE) || inode.has_state(state::APPEND_ONLY) && !only_now {
        return Err(Errno::EPERM);
    }
    if is_owner_or_capable(inode, credentials) {
        return Ok(());
    }
    if only_now { permission::check(inode, credentials, AccessMask::WRITE) } else { Err(Errno::EPERM) }
}

/// truncate(2). `EISDIR`, `EINVAL` (not a regular file), `EACCES`, `EFBIG`, `ETXTBSY`.
pub fn truncate(place: &Path, length: u64, credentials: &Credentials) -> Result<()> {
    let inode = place.inode()?;
    match inode.kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    permission::check_path(place, credentials, AccessMask::WRITE)?;
    inode.allow_write()?;
    let result = with_write(place, |inode| truncate_locked(inode, length, credentials));
    inode.end_write();
    result?;
    notify::at(place, IN_MODIFY);
    Ok(())
}

/// ftruncate(2). `EINVAL`: not open for writing, or not a regular file.
pub fn truncate_file(file: &File, length: u64) -> Result<()> {
    if file.is_place() {
        return Err(Errno::EBADF);
    }
    let regular = file.inode()?.kind() == FileKind::Regular;
    if !regular || !file.flags().writes() {
        return Err(Errno::EINVAL);
    }
    truncate_open(file, length)
}

/// The same for a description that may do it (`O_TRUNC` as well).
pub(crate) fn truncate_open(file: &File, length: u64) -> Result<()> {
    let inode = file.inode()?;
    let _change = inode.superblock().begin_change();
    let _lock = inode.lock.write();
    if inode.has_state(state::IMMUTABLE | state::APPEND_ONLY) {
        return Err(Errno::EPERM);
    }
    truncate_locked(inode, length, file.credentials())?;
    notify::at(file.path(), IN_MODIFY);
    Ok(())
}

fn truncate_locked(inode: &Arc<Inode>, length: u64, credentials: &Credentials) -> Result<()> {
    if length > inode.size() {
        check_size_limit(inode, length)?;
    }
    remove_privileges(inode, credentials)?;
    let now = Some(Timestamp::now());
    let change = AttributeChange { size: Some(length), modified: now, ..AttributeChange::default() };
    apply(inode, change)
}

/// The limit of the current process on file sizes (`RLIMIT_FSIZE`), bytes; `task` registers it. Asked with whether the
/// limit is about to be broken, so that `SIGXFSZ` can be sent.
pub type SizeLimit = fn() -> u64;

static SIZE_LIMIT: Once<(SizeLimit, fn())> = Once::new();

/// Registers where `RLIMIT_FSIZE` comes from and what sends `SIGXFSZ`. The first call counts.
pub fn register_size_limit(limit: SizeLimit, exceeded: fn()) {
    let _ = SIZE_LIMIT.set((limit, exceeded));
}

/// Whether a file may become this long. `EFBIG`.
fn check_size_limit(inode: &Inode, length: u64) -> Result<()> {
    if length > inode.superblock().max_file_size() {
        return Err(Errno::EFBIG);
    }
    match SIZE_LIMIT.get() {
        Some((limit, exceeded)) if length > limit() => {
            exceeded();
            Err(Errno::EFBIG)
        }
        _ => Ok(()),
    }
}

/// How many of `count` bytes may be written at `offset`. `EFBIG`: none.
pub fn limit_write(inode: &Inode, offset: u64, count: usize) -> Result<usize> {
    if count == 0 {
        return Ok(0);
    }
    let limit = SIZE_LIMIT.get().map_or(u64::MAX, |(limit, _)| limit());
    let end = limit.min(inode.superblock().max_file_size());
    if offset >= end {
        check_size_limit(inode, offset.saturating_add(1))?;
        return Err(Errno::EFBIG);
    }
    Ok(usize::try_from(end - offset).map_or(count, |room| room.min(count)))
}

/// Something was read through a place: the access time follows, as the mount's atime options say (mount(8)).
pub fn touch_accessed(place: &Path) {
    let Ok(inode) = place.inode() else { return };
    let flags = place.mount.flags();
    let never = flags.contains(MountFlags::NOATIME)
        || flags.contains(MountFlags::NODIRATIME) && inode.is_directory()
        || inode.has_state(state::NO_ACCESS_TIME);
    if never || place.mount.is_read_only() || inode.superblock().is_frozen() {
        return;
    }
    let now = inode.superblock().time_limits().fit(Timestamp::now());
    let times = inode.times();
    const DAY_SECONDS: i64 = 24 * 60 * 60;
    let recent = flags.contains(MountFlags::RELATIME)
        && times.accessed > times.modified
        && times.accessed > times.changed
        && now.seconds - times.accessed.seconds < DAY_SECONDS;
    if !recent && now != times.accessed {
        inode.update_times(|times| times.accessed = now);
        inode.operations().times_changed(inode);
    }
}

/// A program stores into a page of the file through a shared mapping, which was clean till now.
pub(crate) fn touch_stored(inode: &Inode) {
    inode.superblock().wait_for_thaw();
    inode.touch_modified();
    inode.operations().times_changed(inode);
}
