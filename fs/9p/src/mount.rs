//! Mounting a share: `mount -t 9p -o trans=virtio,version=9p2000.L TAG FOLDER`.
//!
//! Key types: [`NineP`] (the type), [`Options`], `Instance`. Locks: none of its own.

use crate::client::{Client, DEFAULT_SIZE, Fid, LEAST_SIZE};
use crate::node::Session;
use abi::errno::{Errno, Result};
use abi::fs::{Statfs, V9FS_MAGIC};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use machine::sync::SpinLock;
use vfs::{
    FileKind, FileSystemType, Inode, MountRequest, SuperBlock, SuperBlockAttributes, SuperBlockOperations,
};

/// What `-o` says. Names as in Linux's Documentation/filesystems/9p.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// The longest message, bytes.
    size: u32,
    /// Which tree of the server's.
    tree: &'a [u8],
    /// As whom, by name.
    user: &'a [u8],
}

impl<'a> Options<'a> {
    /// Errors: `EINVAL`: unknown, or nothing that this client does.
    fn parse(data: &'a [u8]) -> Result<Options<'a>> {
        let mut options = Options { size: DEFAULT_SIZE, tree: b"", user: b"nobody" };
        for option in data.split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
            let at = option.iter().position(|byte| *byte == b'=').unwrap_or(option.len());
            let (name, value) = (&option[..at], option.get(at + 1..).unwrap_or_default());
            match (name, value) {
                (b"trans", b"virtio") | (b"version", b"9p2000.L") | (b"access", b"client") => {}
                (b"cache", b"none" | b"0") => {}
                (b"aname", tree) => options.tree = tree,
                (b"uname", user) => options.user = user,
                (b"msize", text) => {
                    options.size = number(text).filter(|size| *size >= LEAST_SIZE).ok_or(Errno::EINVAL)?
                }
                _ => {
                    log::error!("9p: {}: not an option, or not done", option.escape_ascii());
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(options)
    }
}

fn number(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// One mount's operations.
struct Instance {
    session: Arc<Session>,
    /// The top folder, to ask for space; until the end.
    top: SpinLock<Option<Arc<Fid>>>,
}

impl SuperBlockOperations for Instance {
    fn statfs(&self, _superblock: &SuperBlock, status: &mut Statfs) -> Result<()> {
        let top = self.top.lock().clone().ok_or(Errno::EIO)?;
        let space = top.space()?;
        status.f_type = i64::from(space.kind);
        status.f_bsize = i64::from(space.block_size);
        status.f_frsize = i64::from(space.block_size);
        (status.f_blocks, status.f_bfree, status.f_bavail) = (space.blocks, space.free, space.available);
        (status.f_files, status.f_ffree) = (space.files, space.free_files);
        status.f_fsid = [space.id as i32, (space.id >> 32) as i32];
        status.f_namelen = i64::from(space.name_length);
        Ok(())
    }

    fn show_options(&self, _superblock: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(",access=client,trans=virtio")
    }

    fn shut_down(&self, _superblock: &SuperBlock) {
        let top = self.top.lock().take();
        drop(top);
        self.session.client.end();
    }
}

/// The file system type.
pub struct NineP;

impl FileSystemType for NineP {
    fn name(&self) -> &'static str {
        "9p"
    }

    /// Errors: `EINVAL`: bad options; `ENOENT`: no device has this tag; `EBUSY`: it is mounted; `EREMOTEIO`: the server speaks another dialect; the server's.
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let options = Options::parse(request.data)?;
        let claim = channel::claim(request.source).inspect_err(|_| {
            log::error!("9p: no channel is free for {}", request.source.escape_ascii());
        })?;
        let client = Client::new(claim, options.size)?;
        let uid = request.credentials.fsuid.0;
        let fid = client.attach(options.user, uid, options.tree)?;
        let found = fid.attributes()?;
        if found.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let top = Arc::new(fid.walk(None)?);
        let session = Session::new(client);
        let attributes = SuperBlockAttributes {
            type_name: self.name(),
            magic: V9FS_MAGIC,
            block_size: u32::try_from(found.block_size).unwrap_or(u32::MAX).max(1),
            max_file_size: i64::MAX as u64,
            time_limits: vfs::TimeLimits::NONE,
            flags: request.flags,
            // Its end, and that of each file, is told to the server.
            device: Some(vfs::superblock::anonymous_device()),
        };
        let instance = Instance { session: session.clone(), top: SpinLock::new(Some(top)) };
        let superblock = SuperBlock::new(attributes, Box::new(instance), self.owner(request.credentials));
        Ok(session.inode(&superblock, fid, &found))
    }
}

/// Makes the type known. Errors: `EBUSY` if that was done before.
pub fn register() -> Result<()> {
    vfs::register_filesystem(Arc::new(NineP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_linux_that_this_client_does() {
        let options =
            Options::parse(b"trans=virtio,version=9p2000.L,msize=65536,cache=none,aname=/a").unwrap();
        assert_eq!((options.size, options.tree), (65536, &b"/a"[..]));
        assert_eq!(Options::parse(b"").unwrap().size, DEFAULT_SIZE);
        for wrong in [
            &b"trans=tcp"[..],
            b"version=9p2000.u",
            b"cache=loose",
            b"msize=4095",
            b"msize=x",
            b"access=user",
            b"what",
        ] {
            assert_eq!(Options::parse(wrong), Err(Errno::EINVAL));
        }
    }
}
