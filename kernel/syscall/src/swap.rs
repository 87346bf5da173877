//! swapon(2), swapoff(2).
//!
//! The file says what it lies on ([`vfs::FileOperations::swap_store`]), its first page what can be used of it; the rest is in `mm::swap`.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::{AT_FDCWD, OpenFlags};
use abi::swap::{
    SWAP_FLAG_DISCARD, SWAP_FLAG_DISCARD_ONCE, SWAP_FLAG_DISCARD_PAGES, SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK,
};
use alloc::string::String;
use alloc::sync::Arc;
use mm::io::VecWriter;
use mm::swap::{self, AreaIdentity, AreaRequest, Discards, HEADER_BYTES, Header};
use mm::user::UserString;
use security::Capability;
use vfs::namei::LookupFlags;
use vfs::{File, FileKind};

const HERE: Fd = Fd(AT_FDCWD);
const KNOWN: i32 = SWAP_FLAG_PREFER
    | SWAP_FLAG_PRIO_MASK
    | SWAP_FLAG_DISCARD
    | SWAP_FLAG_DISCARD_ONCE
    | SWAP_FLAG_DISCARD_PAGES;

/// Opens what is to be, or is, swap space. Errors: those of path_resolution(7); `EISDIR`; `EINVAL`: neither a file nor a block device.
fn open(context: &Context<'_>, path: UserString) -> Result<Arc<File>> {
    let place = context.resolve(HERE, path, LookupFlags::FOLLOW)?;
    match place.inode()?.kind() {
        FileKind::Regular | FileKind::BlockDevice => {}
        FileKind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    context.with_context(|lookup| vfs::open::open_path(&place, flags, lookup))
}

fn identity(file: &File) -> Result<AreaIdentity> {
    let inode = file.inode()?;
    if inode.kind() == FileKind::BlockDevice {
        return Ok(AreaIdentity::Device(inode.special_device().encode()));
    }
    Ok(AreaIdentity::File(inode.superblock().device().encode(), inode.number()))
}

/// The first page of the file. Errors: `EINVAL`: it is shorter; `EIO`.
fn read_header(file: &File) -> Result<Header> {
    let mut writer = VecWriter::new(HEADER_BYTES);
    file.operations().read(file, &mut writer, 0)?;
    let bytes = writer.into_bytes();
    // Borrowed where it lies: a page is too much for a kernel stack.
    let page: &[u8; HEADER_BYTES] = bytes.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
    Header::parse(page)
}

fn discards(flags: i32) -> Discards {
    let both = SWAP_FLAG_DISCARD_ONCE | SWAP_FLAG_DISCARD_PAGES;
    let mut discards = Discards::empty();
    if flags & SWAP_FLAG_DISCARD != 0 {
        discards.set(Discards::ONCE, flags & SWAP_FLAG_DISCARD_ONCE != 0 || flags & both == 0);
        discards.set(Discards::PAGES, flags & SWAP_FLAG_DISCARD_PAGES != 0 || flags & both == 0);
    }
    discards
}

/// swapon(2). Errors: `EPERM`; `EINVAL`: bad flags, or no swap space; `EBUSY`: it is in use; `EACCES`, `ENOMEM`, and those of open(2).
pub fn swapon(context: &mut Context<'_>, path: UserString, flags: i32) -> Result<usize> {
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    check_privilege(context)?;
    let file = open(context, path)?;
    let is_file = file.inode()?.kind() == FileKind::Regular;
    let identity = identity(&file)?;
    if swap::is_area(identity) {
        return Err(Errno::EBUSY);
    }
    let store = file.operations().swap_store(&file)?;
    let header = read_header(&file)?;
    if is_file && !header.bad_pages.is_empty() {
        return Err(Errno::EINVAL);
    }
    let text = file.path().text_from_top()?;
    let request = AreaRequest {
        path: String::from_utf8_lossy(&text.bytes).into_owned(),
        identity,
        is_file,
        priority: (flags & SWAP_FLAG_PREFER != 0).then_some(flags & SWAP_FLAG_PRIO_MASK),
        header,
        discards: discards(flags),
    };
    swap::swap_on(store, request).map(|()| 0)
}

/// swapoff(2). Errors: `EPERM`; `EINVAL`: it is not in use; `ENOMEM`: what lies there does not fit into memory; `EINTR`; those of open(2).
pub fn swapoff(context: &mut Context<'_>, path: UserString) -> Result<usize> {
    check_privilege(context)?;
    let file = open(context, path)?;
    swap::swap_off(identity(&file)?).map(|()| 0)
}

fn check_privilege(context: &Context<'_>) -> Result<()> {
    if security::capable_anywhere_above(&context.credentials(), Capability::SysAdmin) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
