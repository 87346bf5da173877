//! ioctl(2) calls that concern files and file systems, whatever their type: extents, flags, freezing, trimming, labels.
//!
//! Key function: [`ioctl`]. What a type does for each is in [`InodeOperations`](crate::inode::InodeOperations) and
//! [`SuperBlockOperations`](crate::superblock::SuperBlockOperations). Locks: the inode's for writing while flags change.

use crate::file::File;
use crate::inode::{FileExtent, FileFlags, Inode};
use crate::permission::is_owner_or_capable;
use crate::readdir::SinkState;
use crate::superblock::SuperBlock;
use crate::types::{FileKind, Timestamp};
use abi::errno::{Errno, Result};
use abi::fs::{
    FIEMAP_FLAG_SYNC, FS_APPEND_FL, FS_DAX_FL, FS_IMMUTABLE_FL, FS_NOATIME_FL, FS_NODUMP_FL,
    FS_PROJINHERIT_FL, FS_SYNC_FL, FS_XFLAG_APPEND, FS_XFLAG_COWEXTSIZE, FS_XFLAG_DAX, FS_XFLAG_EXTSIZE,
    FS_XFLAG_EXTSZINHERIT, FS_XFLAG_IMMUTABLE, FS_XFLAG_NOATIME, FS_XFLAG_NODUMP, FS_XFLAG_PROJINHERIT,
    FS_XFLAG_SYNC, FSLABEL_MAX, Fiemap, FiemapExtent, FsXattr, FstrimRange,
};
use abi::ioctl::{
    FIBMAP, FIFREEZE, FIGETBSZ, FIOQSIZE, FITHAW, FITRIM, FS_IOC_FIEMAP, FS_IOC_FSGETXATTR,
    FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_GETFSLABEL, FS_IOC_GETVERSION, FS_IOC_SETFLAGS,
    FS_IOC_SETFSLABEL,
};
use alloc::sync::Arc;
use mm::user::{UserPtr, UserSlice};
use security::{Capability, Credentials, capable_anywhere_above};

/// Makes the call if it is one of these; `None`: it is the file's own affair. Errors: those of ioctl_fs(2)'s pages.
pub fn ioctl(file: &File, command: u32, argument: usize, credentials: &Credentials) -> Result<Option<usize>> {
    let inode = file.inode()?;
    let superblock = inode.superblock();
    let is_ours = matches!(inode.kind(), FileKind::Regular | FileKind::Directory);
    match command {
        FIGETBSZ => UserPtr::new(argument).write(&(superblock.block_size() as i32)),
        FIOQSIZE if is_ours => UserPtr::new(argument).write(&((inode.status()?.blocks * 512) as i64)),
        FIFREEZE | FITHAW => freeze(superblock, command, credentials),
        FS_IOC_FIEMAP => extents(file, inode, argument),
        FS_IOC_GETFLAGS => {
            inode.operations().flags(inode).and_then(|flags| UserPtr::new(argument).write(&flags.flags))
        }
        FS_IOC_SETFLAGS => {
            let flags = UserPtr::<u32>::new(argument).read()?;
            change_flags(file, inode, credentials, |old| Ok(FileFlags { flags, ..old }))
        }
        FS_IOC_FSGETXATTR => get_xflags(inode, argument),
        FS_IOC_FSSETXATTR => {
            let given: FsXattr = UserPtr::new(argument).read()?;
            change_flags(file, inode, credentials, |old| from_xflags(old, &given, inode.kind()))
        }
        FIBMAP if inode.kind() == FileKind::Regular => block_of(inode, argument, credentials),
        FS_IOC_GETVERSION if is_ours => {
            inode.operations().generation().and_then(|number| UserPtr::new(argument).write(&number))
        }
        FITRIM if is_ours => trim(file, superblock, argument, credentials),
        FS_IOC_GETFSLABEL if is_ours => get_label(superblock, argument),
        FS_IOC_SETFSLABEL if is_ours => set_label(file, superblock, argument, credentials),
        _ => return Ok(None),
    }
    .map(|()| Some(0))
}

fn freeze(superblock: &SuperBlock, command: u32, credentials: &Credentials) -> Result<()> {
    if !credentials.capable(superblock.user_namespace(), Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    if command == FIFREEZE { superblock.freeze() } else { superblock.thaw() }
}

/// `FS_IOC_FIEMAP`. Errors: `EBADR`: a flag that is not known; `EINVAL`, `EFBIG`, `EFAULT`, `EOPNOTSUPP`.
fn extents(file: &File, inode: &Inode, argument: usize) -> Result<()> {
    /// More would not fit into 32 bits of bytes.
    const MOST: u32 = u32::MAX / size_of::<FiemapExtent>() as u32;
    let pointer = UserPtr::<Fiemap>::new(argument);
    let mut request = pointer.read()?;
    if request.fm_extent_count > MOST {
        return Err(Errno::EINVAL);
    }
    let limit = inode.superblock().max_file_size();
    let end = request.fm_start.saturating_add(request.fm_length).min(limit);
    // Which types there are that have none is told first.
    inode.operations().extents(inode, 0..0, &mut |_| Ok(SinkState::Full))?;
    if request.fm_length == 0 {
        return Err(Errno::EINVAL);
    }
    if request.fm_start > limit {
        return Err(Errno::EFBIG);
    }
    let unknown = request.fm_flags & !FIEMAP_FLAG_SYNC;
    if unknown != 0 {
        request.fm_flags = unknown;
        pointer.write(&request)?;
        return Err(Errno::EBADR);
    }
    if request.fm_flags & FIEMAP_FLAG_SYNC != 0
        && let Some(cache) = file.page_cache()
    {
        cache.sync(0..u64::MAX)?;
    }
    let room = request.fm_extent_count;
    let list: UserPtr<FiemapExtent> = pointer.offset_bytes(size_of::<Fiemap>());
    let mut count = 0;
    inode.operations().extents(inode, request.fm_start..end, &mut |extent| {
        if room != 0 && count == room {
            return Ok(SinkState::Full);
        }
        if room != 0 {
            list.element(count as usize).write(&described(extent))?;
        }
        count = count.saturating_add(1);
        Ok(SinkState::Taken)
    })?;
    request.fm_mapped_extents = count;
    pointer.write(&request)
}

fn described(extent: &FileExtent) -> FiemapExtent {
    FiemapExtent {
        fe_logical: extent.logical,
        fe_physical: extent.physical,
        fe_length: extent.length,
        fe_reserved64: [0; 2],
        fe_flags: extent.flags,
        fe_reserved: [0; 3],
    }
}

/// The flags that both forms have.
const PAIRS: [(u32, u32); 7] = [
    (FS_SYNC_FL, FS_XFLAG_SYNC),
    (FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE),
    (FS_APPEND_FL, FS_XFLAG_APPEND),
    (FS_NODUMP_FL, FS_XFLAG_NODUMP),
    (FS_NOATIME_FL, FS_XFLAG_NOATIME),
    (FS_DAX_FL, FS_XFLAG_DAX),
    (FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT),
];

fn get_xflags(inode: &Inode, argument: usize) -> Result<()> {
    let flags = inode.operations().flags(inode)?;
    let set = PAIRS.iter().filter(|(flag, _)| flags.flags & flag != 0);
    let answer = FsXattr {
        fsx_xflags: set.fold(0, |all, (_, xflag)| all | xflag),
        fsx_extsize: 0,
        fsx_nextents: 0,
        fsx_projid: flags.project,
        fsx_cowextsize: 0,
        fsx_pad: [0; 8],
    };
    UserPtr::new(argument).write(&answer)
}

/// `old` with what the other form says. Errors: `EINVAL`: not for this kind of file; `EOPNOTSUPP`: something that no file system here has.
fn from_xflags(old: FileFlags, given: &FsXattr, kind: FileKind) -> Result<FileFlags> {
    let wrong = match kind {
        FileKind::Regular => FS_XFLAG_EXTSZINHERIT,
        FileKind::Directory => FS_XFLAG_EXTSIZE,
        _ => FS_XFLAG_EXTSZINHERIT | FS_XFLAG_EXTSIZE | FS_XFLAG_COWEXTSIZE | FS_XFLAG_DAX,
    };
    if given.fsx_xflags & wrong != 0 {
        return Err(Errno::EINVAL);
    }
    let known = PAIRS.iter().fold(0, |all, (_, xflag)| all | xflag);
    if given.fsx_xflags & !known != 0 || given.fsx_extsize != 0 || given.fsx_cowextsize != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = PAIRS.iter().fold(old.flags, |flags, (flag, xflag)| {
        if given.fsx_xflags & xflag != 0 { flags | flag } else { flags & !flag }
    });
    Ok(FileFlags { flags, project: given.fsx_projid })
}

/// Errors: `EPERM`: not the owner, or `i` and `a` without `CAP_LINUX_IMMUTABLE`, or a project from within a user namespace; `ENOTTY`, `EOPNOTSUPP`, `EROFS`.
fn change_flags(
    file: &File,
    inode: &Arc<Inode>,
    credentials: &Credentials,
    change: impl FnOnce(FileFlags) -> Result<FileFlags>,
) -> Result<()> {
    let _change = file.path().mount.begin_change()?;
    let old = inode.operations().flags(inode)?;
    if !is_owner_or_capable(inode, credentials) {
        return Err(Errno::EPERM);
    }
    let _lock = inode.lock.write();
    inode.check_alive()?;
    let new = change(inode.operations().flags(inode).unwrap_or(old))?;
    let fixed = FS_IMMUTABLE_FL | FS_APPEND_FL;
    let privileged = capable_anywhere_above(credentials, Capability::LinuxImmutable);
    if (old.flags ^ new.flags) & fixed != 0 && !privileged {
        return Err(Errno::EPERM);
    }
    let inherit = (old.flags ^ new.flags) & FS_PROJINHERIT_FL != 0;
    if (old.project != new.project || inherit) && credentials.user_namespace.level() != 0 {
        return Err(Errno::EINVAL);
    }
    inode.operations().set_flags(inode, new, Timestamp::now())
}

/// `FIBMAP`. Errors: `EPERM`, `EINVAL`, `ERANGE`, `EFAULT`.
fn block_of(inode: &Inode, argument: usize, credentials: &Credentials) -> Result<()> {
    if !capable_anywhere_above(credentials, Capability::SysRawio) {
        return Err(Errno::EPERM);
    }
    let pointer = UserPtr::<i32>::new(argument);
    let block = u64::try_from(pointer.read()?).map_err(|_| Errno::EINVAL)?;
    let place = inode.operations().block_of(inode, block)?;
    match i32::try_from(place) {
        Ok(place) => pointer.write(&place),
        Err(_) => pointer.write(&0).and(Err(Errno::ERANGE)),
    }
}

fn trim(file: &File, superblock: &SuperBlock, argument: usize, credentials: &Credentials) -> Result<()> {
    if !capable_anywhere_above(credentials, Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let pointer = UserPtr::<FstrimRange>::new(argument);
    let mut range = pointer.read()?;
    let _change = file.path().mount.begin_change()?;
    let end = range.start.saturating_add(range.len);
    range.len = superblock.operations().trim(superblock, range.start..end, range.minlen)?;
    pointer.write(&range)
}

fn get_label(superblock: &SuperBlock, argument: usize) -> Result<()> {
    let label = superblock.operations().label(superblock)?;
    let mut bytes = [0; FSLABEL_MAX as usize];
    for (place, byte) in bytes.iter_mut().zip(label.iter().take(FSLABEL_MAX as usize - 1)) {
        *place = *byte;
    }
    UserSlice::new(UserPtr::new(argument), bytes.len()).write_from(&bytes).map(drop)
}

fn set_label(file: &File, superblock: &SuperBlock, argument: usize, credentials: &Credentials) -> Result<()> {
    if !capable_anywhere_above(credentials, Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let bytes = UserSlice::<u8>::new(UserPtr::new(argument), FSLABEL_MAX as usize).read_to_vec()?;
    let length = bytes.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
    let _change = file.path().mount.begin_change()?;
    superblock.operations().set_label(superblock, bytes.get(..length).unwrap_or_default())
}
