//! `null`, `zero`, `full`, `random`, `urandom` (null(4), full(4), random(4)).
//!
//! The generator is seeded before any program runs, so `random` never blocks and is `urandom`.

use abi::ioctl::{RNDADDENTROPY, RNDADDTOENTCNT, RNDCLEARPOOL, RNDGETENTCNT, RNDRESEEDCRNG, RNDZAPENTCNT};
use abi::{Errno, Result};
use alloc::sync::Arc;
use core::fmt;
use machine::user::{read_bytes_partial, read_value, write_value};
use mm::PageCache;
use mm::io::{IoReader, IoWriter};
use mm::page_cache::{FileAccess, MappedFile};
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations, SeekFrom};

/// What Linux calls a full pool, bits.
const ENTROPY_BITS: i32 = 256;
const CHUNK: usize = 256;
/// Bytes between two looks for a signal.
const ZEROS_AT_ONCE: usize = 1 << 20;
/// As large as any mapping can be, bytes.
const ZERO_MAPPING_SIZE: u64 = 1 << 47;

/// The devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing to read, swallows everything.
    Null,
    /// Zeros without end, swallows everything.
    Zero,
    /// Zeros without end, and no space left.
    Full,
    /// Random bytes.
    Random,
}

impl FileOperations for Memory {
    fn read(&self, _file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        match self {
            Memory::Null => Ok(0),
            Memory::Zero | Memory::Full => read_zeros(to),
            Memory::Random => read_random(to),
        }
    }

    fn read_is_access(&self) -> bool {
        false
    }

    fn write(&self, _file: &File, from: &mut dyn IoReader, _offset: u64) -> Result<usize> {
        match self {
            Memory::Null | Memory::Zero => Ok(from.remaining()),
            Memory::Full => Err(Errno::ENOSPC),
            Memory::Random => write_random(from),
        }
    }

    fn seek(&self, _file: &File, _from: SeekFrom, _current: u64) -> Result<u64> {
        Ok(0)
    }

    /// `zero` maps as fresh memory, shared by those who inherit the mapping.
    fn map(&self, file: &Arc<File>) -> Result<Arc<dyn MappedFile>> {
        match self {
            Memory::Zero => {
                let cache = PageCache::new_in_memory(ZERO_MAPPING_SIZE);
                Ok(Arc::new(ZeroMapping { file: file.clone(), cache }))
            }
            _ => Err(Errno::ENODEV),
        }
    }

    fn ioctl(&self, file: &File, command: u32, argument: usize) -> Result<usize> {
        match self {
            Memory::Random => random_ioctl(file, command, argument),
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// A mapping of `/dev/zero`.
struct ZeroMapping {
    file: Arc<File>,
    cache: Arc<PageCache>,
}

impl MappedFile for ZeroMapping {
    fn page_cache(&self) -> Arc<PageCache> {
        self.cache.clone()
    }

    fn access(&self) -> FileAccess {
        let flags = self.file.flags();
        let mut access = FileAccess::empty();
        access.set(FileAccess::READ, flags.reads());
        access.set(FileAccess::WRITE, flags.writes());
        access.set(FileAccess::EXEC, !self.file.path().mount.is_noexec());
        access
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let text = self.file.path().text_from_top().map_err(|_| fmt::Error)?;
        out.write_str(&alloc::string::String::from_utf8_lossy(&text.bytes))
    }

    fn device(&self) -> (u32, u32) {
        let device = self.file.inode().map(|inode| inode.superblock().device()).unwrap_or_default();
        (device.major, device.minor)
    }

    fn inode_number(&self) -> u64 {
        self.file.inode().map_or(0, |inode| inode.number())
    }
}

/// Fills `to`. A fault after some progress ends it short, as read(2) wants.
fn read_random(to: &mut dyn IoWriter) -> Result<usize> {
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while to.remaining() > 0 && (done == 0 || !sched::signal_pending()) {
        let wanted = to.remaining().min(CHUNK);
        let piece = chunk.get_mut(..wanted).unwrap_or_default();
        machine::random::fill(piece);
        match to.write_bytes(piece) {
            Ok(count) if count == wanted => done += count,
            Ok(count) => return Ok(done + count),
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Zeros until the end, or a signal.
fn read_zeros(to: &mut dyn IoWriter) -> Result<usize> {
    let all = to.remaining();
    let mut done = 0;
    while done < all && (done == 0 || !sched::signal_pending()) {
        let wanted = (all - done).min(ZEROS_AT_ONCE);
        match to.write_zeros(wanted) {
            Ok(count) if count == wanted => done += count,
            Ok(count) => return Ok(done + count),
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Stirs what is written into the generator.
fn write_random(from: &mut dyn IoReader) -> Result<usize> {
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while from.remaining() > 0 && (done == 0 || !sched::signal_pending()) {
        match from.read_bytes(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                machine::random::add_entropy(chunk.get(..count).unwrap_or_default());
                done += count;
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn random_ioctl(file: &File, command: u32, argument: usize) -> Result<usize> {
    if command == RNDGETENTCNT {
        write_value(argument, &ENTROPY_BITS)?;
        return Ok(0);
    }
    let known = [RNDADDTOENTCNT, RNDADDENTROPY, RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG];
    if !known.contains(&command) {
        return Err(Errno::EINVAL);
    }
    if !file.credentials().capable(security::initial_namespace(), security::Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    match command {
        RNDADDENTROPY => add_entropy(argument),
        // Entropy is not counted, so there is nothing to add to or take from.
        RNDADDTOENTCNT if read_value::<i32>(argument)? < 0 => Err(Errno::EINVAL),
        _ => Ok(0),
    }
}

/// `RNDADDENTROPY`: a count of bits, a count of bytes, the bytes.
fn add_entropy(argument: usize) -> Result<usize> {
    let [bits, size]: [i32; 2] = read_value(argument)?;
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if bits < 0 {
        return Err(Errno::EINVAL);
    }
    let mut chunk = [0; CHUNK];
    let mut at = argument.checked_add(8).ok_or(Errno::EFAULT)?;
    let mut left = size;
    while left > 0 {
        let wanted = left.min(CHUNK);
        let piece = chunk.get_mut(..wanted).unwrap_or_default();
        if read_bytes_partial(at, piece) < wanted {
            return Err(Errno::EFAULT);
        }
        machine::random::add_entropy(piece);
        at = at.checked_add(wanted).ok_or(Errno::EFAULT)?;
        left -= wanted;
    }
    Ok(0)
}

/// The driver of one minor.
struct MemoryDevice {
    name: &'static str,
    device: Memory,
}

impl Device for MemoryDevice {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&self, _id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        Ok(Arc::new(self.device))
    }
}

/// Registers the devices of major 1. Errors: `EBUSY`.
pub fn register() -> Result<()> {
    let minors =
        [(3, Memory::Null), (5, Memory::Zero), (7, Memory::Full), (8, Memory::Random), (9, Memory::Random)];
    for (minor, device) in minors {
        chardev::register(
            FileKind::CharDevice,
            1,
            minor..=minor,
            Arc::new(MemoryDevice { name: "mem", device }),
        )?;
    }
    Ok(())
}
