//! devpts: the file system with the slaves of pseudo-terminals, `/dev/pts`.
//!
//! Every mount is an instance of its own, with its own numbers and its own `ptmx` (Linux since 4.7; `newinstance` is
//! accepted and says nothing). Entries come with masters and go with them; nothing can be made here by hand.
//! [`DevPts`] is an instance. Locks: `DevPts::pairs`, a leaf that is not held over anything that sleeps.

use crate::pty::{Pty, SLAVE_MAJOR};
use abi::fs::DEVPTS_SUPER_MAGIC;
use abi::mount::MountFlags;
use abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::fmt;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Once, SpinLock};
use security::Credentials;
use vfs::inode::{InodeAttributes, NameCaching};
use vfs::readdir::{DirectoryEntry, DirectorySink, SinkState, emit_dots};
use vfs::superblock::{FileSystemType, MountRequest, SuperBlockAttributes, SuperBlockOperations};
use vfs::{DeviceId, File, FileKind, FileOperations, Inode, InodeOperations, SuperBlock};

const ROOT_INODE: u64 = 1;
const PTMX_INODE: u64 = 2;
const FIRST_SLAVE_INODE: u64 = 3;
/// Positions in a listing: 2 is `ptmx`, slave `n` is `n + 3`.
const PTMX_POSITION: u64 = 2;
const FIRST_SLAVE_POSITION: u64 = 3;
/// Pairs in one instance, unless `max=` says less (`kernel.pty.max`).
const MAX_PAIRS: u32 = 4096;

/// What `-o` says (mount(8), devpts).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmx_mode: u32,
    max: u32,
}

impl Options {
    fn parse(data: &[u8]) -> Result<Options> {
        let mut options = Options { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: MAX_PAIRS };
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let decimal = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
            let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL);
            match name {
                "uid" => options.uid = Some(decimal()?),
                "gid" => options.gid = Some(decimal()?),
                "mode" => options.mode = octal()? & 0o7777,
                "ptmxmode" => options.ptmx_mode = octal()? & 0o7777,
                "max" => options.max = decimal().ok().filter(|max| *max <= MAX_PAIRS).ok_or(Errno::EINVAL)?,
                "newinstance" if value.is_empty() => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

struct Pair {
    pty: Arc<Pty>,
    inode: Arc<Inode>,
}

/// An instance.
pub struct DevPts {
    options: Options,
    superblock: Once<Weak<SuperBlock>>,
    pairs: SpinLock<BTreeMap<u32, Pair>>,
}

/// The superblock's handle on its instance.
struct Instance(Arc<DevPts>);

impl DevPts {
    /// Makes an instance; gives its root.
    fn mount(flags: MountFlags, data: &[u8], credentials: &Credentials) -> Result<Arc<Inode>> {
        let options = Options::parse(data)?;
        let instance = Arc::new(DevPts {
            options: options.clone(),
            superblock: Once::new(),
            pairs: SpinLock::new(BTreeMap::new()),
        });
        let attributes = SuperBlockAttributes {
            type_name: "devpts",
            magic: DEVPTS_SUPER_MAGIC,
            block_size: machine::PAGE_SIZE as u32,
            max_file_size: i64::MAX as u64,
            time_limits: vfs::TimeLimits::NONE,
            flags,
            device: None,
        };
        let namespace = credentials.user_namespace.clone();
        let superblock = SuperBlock::new(attributes, Box::new(Instance(instance.clone())), namespace);
        let _ = instance.superblock.set(Arc::downgrade(&superblock));
        let ptmx = InodeAttributes {
            special_device: DeviceId::new(5, 2),
            ..InodeAttributes::new(PTMX_INODE, FileKind::CharDevice, options.ptmx_mode)
        };
        let root = InodeAttributes::new(ROOT_INODE, FileKind::Directory, 0o755);
        let ptmx = Arc::new(Inode::new(&superblock, ptmx, Box::new(Node)));
        Ok(Arc::new(Inode::new(&superblock, root, Box::new(Root { instance, ptmx }))))
    }

    /// The instance that a superblock is.
    pub fn of(superblock: &SuperBlock) -> Option<Arc<DevPts>> {
        superblock.private::<Instance>().map(|instance| instance.0.clone())
    }

    /// A new pair with the lowest free number, its slave owned as the options or the opener say.
    ///
    /// Errors: `ENOSPC` (as many as allowed), `ENOMEM`, `EIO` (the instance is being unmounted).
    pub fn create(&self, opener: &Credentials) -> Result<Arc<Pty>> {
        let superblock = self.superblock.get().and_then(|weak| weak.upgrade()).ok_or(Errno::EIO)?;
        loop {
            let number = self.free_number().ok_or(Errno::ENOSPC)?;
            let pty = Pty::new(number)?;
            let namespace = superblock.user_namespace();
            let attributes = InodeAttributes {
                uid: self.options.uid.and_then(|uid| namespace.make_kuid(uid)).unwrap_or(opener.fsuid),
                gid: self.options.gid.and_then(|gid| namespace.make_kgid(gid)).unwrap_or(opener.fsgid),
                special_device: DeviceId::new(SLAVE_MAJOR, number),
                ..InodeAttributes::new(
                    FIRST_SLAVE_INODE + u64::from(number),
                    FileKind::CharDevice,
                    self.options.mode,
                )
            };
            let node = Box::new(SlaveNode { gone: AtomicBool::new(false) });
            let inode = Arc::new(Inode::new(&superblock, attributes, node));
            let mut pairs = self.pairs.lock();
            // Somebody else may have taken the number meanwhile.
            if let alloc::collections::btree_map::Entry::Vacant(place) = pairs.entry(number) {
                place.insert(Pair { pty: pty.clone(), inode });
                return Ok(pty);
            }
        }
    }

    fn free_number(&self) -> Option<u32> {
        let pairs = self.pairs.lock();
        let first_gap = pairs.keys().zip(0u32..).find(|(number, expected)| **number != *expected);
        let number = first_gap.map_or(pairs.len() as u32, |(_, expected)| expected);
        (number < self.options.max).then_some(number)
    }

    /// The pair with this number.
    pub fn find(&self, number: u32) -> Option<Arc<Pty>> {
        self.pairs.lock().get(&number).map(|pair| pair.pty.clone())
    }

    /// Takes a pair out: its master is closed.
    pub(crate) fn remove(&self, number: u32) {
        let removed = self.pairs.lock().remove(&number);
        if let Some(pair) = &removed {
            pair.inode.set_link_count(0);
            if let Some(node) = pair.inode.private::<SlaveNode>() {
                node.gone.store(true, Ordering::Release);
            }
        }
        drop(removed);
    }

    fn inode_of(&self, number: u32) -> Option<Arc<Inode>> {
        self.pairs.lock().get(&number).map(|pair| pair.inode.clone())
    }

    /// The first pair whose number is at least `from`.
    fn next_from(&self, from: u32) -> Option<(u32, u64)> {
        self.pairs.lock().range(from..).next().map(|(number, pair)| (*number, pair.inode.number()))
    }
}

impl SuperBlockOperations for Instance {
    fn makes_own_devices(&self) -> bool {
        true
    }

    fn show_options(&self, _superblock: &SuperBlock, out: &mut dyn fmt::Write) -> fmt::Result {
        let options = &self.0.options;
        if let Some(uid) = options.uid {
            write!(out, ",uid={uid}")?;
        }
        if let Some(gid) = options.gid {
            write!(out, ",gid={gid}")?;
        }
        write!(out, ",mode={:03o},ptmxmode={:03o}", options.mode, options.ptmx_mode)?;
        if options.max < MAX_PAIRS {
            write!(out, ",max={}", options.max)?;
        }
        Ok(())
    }

    fn shut_down(&self, _superblock: &SuperBlock) {
        self.0.pairs.lock().clear();
    }
}

/// The root directory. An inode holds its superblock and that its instance, so the instance holds no inode for ever: the
/// slaves' go with their masters.
struct Root {
    instance: Arc<DevPts>,
    ptmx: Arc<Inode>,
}

/// `ptmx`: nothing but its attributes.
struct Node;

/// A slave's node.
struct SlaveNode {
    gone: AtomicBool,
}

impl InodeOperations for Node {}

impl InodeOperations for SlaveNode {
    fn still_valid(&self) -> bool {
        !self.gone.load(Ordering::Acquire)
    }
}

impl InodeOperations for Root {
    fn lookup(&self, _directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        number_of(name).and_then(|number| self.instance.inode_of(number)).ok_or(Errno::ENOENT)
    }

    fn name_caching(&self) -> NameCaching {
        NameCaching::Checked
    }

    fn file_operations(&self) -> &dyn FileOperations {
        &RootFile
    }
}

/// A number as the names are written: decimal, without leading zeros.
fn number_of(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let number: u32 = text.parse().ok()?;
    (format!("{number}").as_bytes() == name).then_some(number)
}

/// The root directory, open.
struct RootFile;

impl FileOperations for RootFile {
    fn read(&self, _: &File, _: &mut dyn mm::io::IoWriter, _: u64) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn can_poll(&self) -> bool {
        false
    }

    fn read_directory(&self, file: &File, sink: &mut dyn DirectorySink, position: u64) -> Result<u64> {
        let (mut position, state) = emit_dots(file, sink, position)?;
        let instance = DevPts::of(file.inode()?.superblock()).ok_or(Errno::ENOTDIR)?;
        if state == SinkState::Full {
            return Ok(position);
        }
        if position == PTMX_POSITION {
            let entry = DirectoryEntry {
                name: b"ptmx",
                inode_number: PTMX_INODE,
                kind: Some(FileKind::CharDevice),
                next: FIRST_SLAVE_POSITION,
            };
            if sink.add(&entry)? == SinkState::Full {
                return Ok(position);
            }
            position = FIRST_SLAVE_POSITION;
        }
        while let Some((number, inode_number)) =
            instance.next_from(u32::try_from(position - FIRST_SLAVE_POSITION).unwrap_or(u32::MAX))
        {
            let next = FIRST_SLAVE_POSITION + u64::from(number) + 1;
            let name = format!("{number}");
            let entry = DirectoryEntry {
                name: name.as_bytes(),
                inode_number,
                kind: Some(FileKind::CharDevice),
                next,
            };
            if sink.add(&entry)? == SinkState::Full {
                return Ok(position);
            }
            position = next;
        }
        Ok(position)
    }
}

/// The type, for mount(2).
pub struct DevPtsType;

impl FileSystemType for DevPtsType {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn user_mountable(&self) -> bool {
        true
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        DevPts::mount(request.flags, request.data, request.credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_as_in_mount_8() {
        let options = Options::parse(b"gid=5,mode=620,ptmxmode=000,newinstance").unwrap();
        assert_eq!((options.gid, options.mode, options.ptmx_mode), (Some(5), 0o620, 0));
        for wrong in [&b"mode=9"[..], b"gid=x", b"max=9999", b"what", b"newinstance=1", b"\xff"] {
            assert_eq!(Options::parse(wrong), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn names_are_plain_numbers() {
        assert_eq!((number_of(b"0"), number_of(b"17")), (Some(0), Some(17)));
        for wrong in [&b"00"[..], b"+1", b"-1", b"", b"1x", b"99999999999"] {
            assert_eq!(number_of(wrong), None);
        }
    }
}
