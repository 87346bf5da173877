//! What programs do to a disk itself, without a file system: `--disk-device COMMAND DEVICE …`.
//!
//! `model DEVICE SEED STEPS` writes, reads, zeroes and maps it in every way and compares with a model in memory; `mapped DEVICE` looks at
//! shared and private mappings; `alignment FILE` tells what direct transfers to it must be multiples of (statx(2)); `ioctls DEVICE` at the calls of ioctl(2) that every disk has; `parts DEVICE` adds, resizes and removes
//! partitions by hand (BLKPG); `failing DEVICE ERRNO SECTOR…` knows which sectors fail, and finds that error there and nowhere else; `busy DEVICE` reads and
//! writes until an error ends it, and tells which.

use crate::disk_tree::Random;
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How much of the disk the model has.
const LENGTH: usize = 4 << 20;
const PAGE: usize = 4096;

const BLKROSET: u64 = 0x125d;
const BLKROGET: u64 = 0x125e;
const BLKGETSIZE: u64 = 0x1260;
const BLKFLSBUF: u64 = 0x1261;
const BLKRASET: u64 = 0x1262;
const BLKRAGET: u64 = 0x1263;
const BLKSECTGET: u64 = 0x1267;
const BLKSSZGET: u64 = 0x1268;
const BLKPG: u64 = 0x1269;
const BLKBSZGET: u64 = 0x8008_1270;
const BLKBSZSET: u64 = 0x4008_1271;
const BLKGETSIZE64: u64 = 0x8008_1272;
const BLKDISCARD: u64 = 0x1277;
const BLKIOMIN: u64 = 0x1278;
const BLKIOOPT: u64 = 0x1279;
const BLKPBSZGET: u64 = 0x127b;
const BLKDISCARDZEROES: u64 = 0x127c;
const BLKZEROOUT: u64 = 0x127f;
const BLKROTATIONAL: u64 = 0x127e;

/// Runs one of the commands; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or(1);
    let result = match words.as_slice() {
        ["model", device, seed, steps] => model(Path::new(device), number(seed), number(steps)),
        ["mapped", device] => mapped(Path::new(device)),
        ["alignment", path] => alignment(path),
        ["ioctls", device] => ioctls(Path::new(device)),
        ["parts", device] => parts(Path::new(device)),
        ["failing", device, errno, sectors @ ..] => failing(
            Path::new(device),
            number(errno) as i32,
            &sectors.iter().map(|word| number(word)).collect::<Vec<u64>>(),
        ),
        ["busy", device] => busy(Path::new(device)),
        _ => Err(Error::other(
            "model DEVICE SEED STEPS; mapped, ioctls, parts, busy DEVICE; failing DEVICE ERRNO SECTOR…",
        )),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("disk-device {}: {error}", words.join(" "));
            1
        }
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Memory that `O_DIRECT` takes: from the first page that begins in it.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new(length: usize) -> Aligned {
        Aligned(vec![0; length + PAGE])
    }

    fn slice(&mut self, length: usize) -> &mut [u8] {
        let start = self.0.as_ptr().align_offset(PAGE);
        &mut self.0[start..start + length]
    }
}

fn ioctl<T>(file: &File, request: u64, argument: *mut T) -> io::Result<i32> {
    // SAFETY: each caller gives the address of what its request reads or writes, or none.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// What a call says, as a number: 0, or the errno.
fn code<T>(result: io::Result<T>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, due: T) -> io::Result<()> {
    if found == due { Ok(()) } else { Err(Error::other(format!("{what}: {found:?}, not {due:?}"))) }
}

/// A disk and what must be at its beginning.
struct Twin {
    cached: File,
    direct: File,
    model: Vec<u8>,
    memory: Aligned,
}

fn model(path: &Path, seed: u64, steps: u64) -> io::Result<()> {
    let mut twin = Twin {
        cached: open(path, 0)?,
        direct: open(path, libc::O_DIRECT)?,
        model: vec![0; LENGTH],
        memory: Aligned::new(64 << 10),
    };
    twin.cached.read_exact_at(&mut twin.model, 0)?;
    let mut random = Random::new(seed);
    for number in 0..steps {
        let what = twin.step(&mut random).map_err(|error| Error::other(format!("step {number}: {error}")))?;
        if number % 8 == 7 {
            twin.compare().map_err(|error| Error::other(format!("after step {number}, {what}: {error}")))?;
        }
    }
    twin.cached.sync_all()?;
    ioctl::<u8>(&twin.cached, BLKFLSBUF, std::ptr::null_mut())?;
    twin.compare()?;
    // What the device has, past everything.
    let mut found = Vec::new();
    for at in (0..LENGTH).step_by(64 << 10) {
        twin.direct.read_exact_at(twin.memory.slice(64 << 10), at as u64)?;
        found.extend_from_slice(twin.memory.slice(64 << 10));
    }
    same(&found, &twin.model)
}

fn same(found: &[u8], model: &[u8]) -> io::Result<()> {
    match found.iter().zip(model).position(|(here, there)| here != there) {
        None => Ok(()),
        Some(at) => Err(Error::other(format!("byte {at} is {:#x}, not {:#x}", found[at], model[at]))),
    }
}

impl Twin {
    fn compare(&self) -> io::Result<()> {
        let mut found = vec![0; LENGTH];
        self.cached.read_exact_at(&mut found, 0)?;
        same(&found, &self.model)
    }

    fn step(&mut self, random: &mut Random) -> io::Result<String> {
        let length = 1 + random.below(60_000) as usize;
        let at = random.below((LENGTH - length) as u64) as usize;
        // In whole blocks of 4 KiB, which every disk here has.
        let (start, pages) =
            (at / PAGE * PAGE, length.div_ceil(PAGE).min((LENGTH - at / PAGE * PAGE) / PAGE));
        let blocks = pages * PAGE;
        let what = random.below(9);
        match what {
            0 | 1 => {
                let bytes = random.bytes(length);
                self.cached.write_all_at(&bytes, at as u64)?;
                self.model[at..at + length].copy_from_slice(&bytes);
            }
            2 => {
                let bytes = random.bytes(blocks);
                self.memory.slice(blocks).copy_from_slice(&bytes);
                self.direct.write_all_at(self.memory.slice(blocks), start as u64)?;
                self.model[start..start + blocks].copy_from_slice(&bytes);
            }
            3 => {
                self.direct.read_exact_at(self.memory.slice(blocks), start as u64)?;
                same(self.memory.slice(blocks), &self.model[start..start + blocks])?;
            }
            4 => {
                let mut range = [start as u64, blocks as u64];
                ioctl(&self.cached, BLKZEROOUT, range.as_mut_ptr())?;
                self.model[start..start + blocks].fill(0);
            }
            5 => {
                let mode = [libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE][random.below(2) as usize];
                let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: a plain call with numbers.
                let result =
                    unsafe { libc::fallocate(self.cached.as_raw_fd(), mode, start as i64, blocks as i64) };
                if result == 0 {
                    self.model[start..start + blocks].fill(0);
                } else if mode & libc::FALLOC_FL_PUNCH_HOLE == 0
                    || Error::last_os_error().raw_os_error() != Some(libc::EOPNOTSUPP)
                {
                    // A disk without a command for zeros has no holes; zeros it can always write.
                    return Err(Error::last_os_error());
                }
            }
            6 => {
                let bytes = random.bytes(length);
                let map = Map::new(&self.cached, LENGTH, libc::MAP_SHARED)?;
                map.write(at, &bytes);
                self.model[at..at + length].copy_from_slice(&bytes);
                if random.below(2) == 0 {
                    map.sync()?;
                }
            }
            7 => self.cached.sync_data()?,
            _ => drop(ioctl::<u8>(&self.cached, BLKFLSBUF, std::ptr::null_mut())?),
        }
        Ok(format!("action {what} at {at}, {length} long"))
    }
}

/// A mapping of the beginning of a disk.
struct Map {
    start: *mut u8,
    length: usize,
}

impl Map {
    fn new(file: &File, length: usize, kind: i32) -> io::Result<Map> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, kind, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Map { start: start.cast(), length })
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length);
        // SAFETY: within the mapping, which lives as long as this.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len()) };
    }

    fn read(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at + length <= self.length);
        let mut bytes = vec![0; length];
        // SAFETY: within the mapping, which lives as long as this.
        unsafe { std::ptr::copy_nonoverlapping(self.start.add(at), bytes.as_mut_ptr(), length) };
        bytes
    }

    fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping itself.
        let result = unsafe { libc::msync(self.start.cast(), self.length, libc::MS_SYNC) };
        if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping itself; nobody has it afterwards.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// What is stored through a shared mapping is the disk's, what is stored through a private one is not; both see writes of others.
fn mapped(path: &Path) -> io::Result<()> {
    let (file, direct) = (open(path, 0)?, open(path, libc::O_DIRECT)?);
    let mut memory = Aligned::new(PAGE);
    file.write_all_at(&[b'0'; 4 * PAGE], 0)?;
    let shared = Map::new(&file, 4 * PAGE, libc::MAP_SHARED)?;
    let private = Map::new(&file, 4 * PAGE, libc::MAP_PRIVATE)?;
    shared.write(10, b"shared");
    expect("the private mapping sees a store", private.read(10, 6), b"shared".to_vec())?;
    private.write(PAGE + 10, b"private");
    file.write_all_at(b"written", (PAGE + 30) as u64)?;
    expect("the shared mapping sees a write", shared.read(PAGE + 30, 7), b"written".to_vec())?;
    expect("the private page is its own", private.read(PAGE + 30, 7), vec![b'0'; 7])?;
    let mut found = [0; 7];
    file.read_exact_at(&mut found, (PAGE + 10) as u64)?;
    expect("a private store is not the disk's", found, [b'0'; 7])?;
    shared.sync()?;
    direct.read_exact_at(memory.slice(PAGE), 0)?;
    expect("msync has written", memory.slice(PAGE)[10..16].to_vec(), b"shared".to_vec())?;
    // A direct write throws out what is cached, mapped or not.
    memory.slice(PAGE).fill(b'd');
    direct.write_all_at(memory.slice(PAGE), (2 * PAGE) as u64)?;
    expect("the mapping sees a direct write", shared.read(2 * PAGE, 4), b"dddd".to_vec())?;
    Ok(())
}

/// What statx(2) tells of direct transfers, unasked and asked.
fn alignment(path: &str) -> io::Result<()> {
    const DIOALIGN: u32 = 0x2000;
    let name = std::ffi::CString::new(path)?;
    // SAFETY: a structure of numbers.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    for asked in [0, DIOALIGN] {
        // SAFETY: a name that ends, and memory for the answer.
        if unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, asked, &raw mut answer) } != 0 {
            return Err(Error::last_os_error());
        }
        let told = answer.stx_mask & DIOALIGN != 0;
        println!("{told} {} {}", answer.stx_dio_mem_align, answer.stx_dio_offset_align);
    }
    Ok(())
}

/// The questions and orders that every disk has.
fn ioctls(path: &Path) -> io::Result<()> {
    let file = open(path, 0)?;
    let nothing = std::ptr::null_mut::<u8>();
    let (mut bytes, mut sectors, mut block, mut physical) = (0u64, 0u64, 0u32, 0u32);
    ioctl(&file, BLKGETSIZE64, &mut bytes)?;
    ioctl(&file, BLKGETSIZE, &mut sectors)?;
    ioctl(&file, BLKSSZGET, &mut block)?;
    ioctl(&file, BLKPBSZGET, &mut physical)?;
    expect("BLKGETSIZE", sectors, bytes / 512)?;
    println!("blocks of {block} and {physical} bytes");
    let (mut least, mut best, mut zeroes, mut rotational, mut most) = (0u32, 7u32, 7u32, 7u16, 0u16);
    ioctl(&file, BLKIOMIN, &mut least)?;
    ioctl(&file, BLKIOOPT, &mut best)?;
    ioctl(&file, BLKDISCARDZEROES, &mut zeroes)?;
    ioctl(&file, BLKROTATIONAL, &mut rotational)?;
    ioctl(&file, BLKSECTGET, &mut most)?;
    expect("BLKIOMIN", least, physical)?;
    expect("BLKIOOPT and BLKDISCARDZEROES", (best, zeroes), (0, 0))?;
    expect("BLKROTATIONAL of what says nothing", rotational <= 1, true)?;
    expect("BLKSECTGET", most > 0, true)?;
    let mut ahead = 0u64;
    // SAFETY: a plain call with a number.
    expect("BLKRASET", unsafe { libc::ioctl(file.as_raw_fd(), BLKRASET as _, 512usize) }, 0)?;
    ioctl(&file, BLKRAGET, &mut ahead)?;
    expect("BLKRAGET", ahead, 512)?;
    // The block size that a file system would use.
    for mut wrong in [0u32, 256, 513, 3072, 1 << 30] {
        expect("BLKBSZSET of a wrong size", code(ioctl(&file, BLKBSZSET, &mut wrong)), libc::EINVAL)?;
    }
    let mut size = 4096u32;
    ioctl(&file, BLKBSZSET, &mut size)?;
    size = 0;
    ioctl(&file, BLKBSZGET, &mut size)?;
    expect("BLKBSZGET", size, 4096)?;
    // Ranges must be whole blocks, within the disk, and the file open for writing.
    let wrong = [[1, 512], [0, 513], [bytes, u64::from(block)], [bytes - 512, 4096], [u64::MAX - 511, 512]];
    for request in [BLKZEROOUT, BLKDISCARD] {
        for range in wrong {
            let mut range = range;
            let found = code(ioctl(&file, request, range.as_mut_ptr()));
            expect(&format!("{request:#x} of {range:?}"), found, libc::EINVAL)?;
        }
        let mut range = [0u64, 4096];
        let found = code(ioctl(&File::open(path)?, request, range.as_mut_ptr()));
        expect("a range of a file that is open for reading", found, libc::EBADF)?;
        expect("a range that is nowhere", code(ioctl(&file, request, nothing)), libc::EFAULT)?;
    }
    file.write_all_at(&[7; 3 * PAGE], 0)?;
    let mut range = [4096u64, 4096];
    ioctl(&file, BLKZEROOUT, range.as_mut_ptr())?;
    let mut found = [1; 3 * PAGE];
    file.read_exact_at(&mut found, 0)?;
    let due = [[7; PAGE], [0; PAGE], [7; PAGE]].concat();
    same(&found, &due)?;
    match code(ioctl(&file, BLKDISCARD, range.as_mut_ptr())) {
        0 | libc::EOPNOTSUPP => {}
        other => return Err(Error::other(format!("BLKDISCARD: {other}"))),
    }
    file.read_exact_at(&mut found, 0)?;
    expect("beside what was discarded", (found[PAGE - 1], found[2 * PAGE]), (7, 7))?;
    // Set to be read-only it cannot be opened for writing, and who has it cannot write.
    let mut yes = 1i32;
    ioctl(&file, BLKROSET, &mut yes)?;
    let mut told = 0i32;
    ioctl(&file, BLKROGET, &mut told)?;
    expect("BLKROGET", told, 1)?;
    expect("a write to what is read-only", code(file.write_at(b"x", 0)), libc::EPERM)?;
    yes = 0;
    ioctl(&file, BLKROSET, &mut yes)?;
    file.write_all_at(b"x", 0)?;
    // Ends.
    expect("a write at the end", code(file.write_at(b"x", bytes)), libc::ENOSPC)?;
    expect("a write over the end", file.write_at(&[0; 600], bytes - 512)?, 512)?;
    expect("a read at the end", file.read_at(&mut [0; 10], bytes)?, 0)?;
    expect("a read over the end", file.read_at(&mut [0; 600], bytes - 512)?, 512)?;
    expect("what nobody knows", code(ioctl(&file, 0x12ff, nothing)), libc::ENOTTY)?;
    file.sync_all()
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    length: i32,
    data: *mut BlkpgPartition,
}

fn blkpg(file: &File, operation: i32, number: i32, start: i64, length: i64) -> i32 {
    let mut data = BlkpgPartition { start, length, number, names: [0; 128] };
    let size = size_of::<BlkpgPartition>() as i32;
    let mut argument = BlkpgArgument { operation, flags: 0, length: size, data: &mut data };
    code(ioctl(file, BLKPG, &mut argument))
}

/// Partitions by hand: what partx(8) and parted(8) ask for.
fn parts(path: &Path) -> io::Result<()> {
    const ADD: i32 = 1;
    const DELETE: i32 = 2;
    const RESIZE: i32 = 3;
    const MIB: i64 = 1 << 20;
    let disk = open(path, 0)?;
    let name = format!("{}1", path.display());
    let part = Path::new(&name);
    let size = |file: &File| -> io::Result<u64> {
        let mut bytes = 0u64;
        ioctl(file, BLKGETSIZE64, &mut bytes)?;
        Ok(bytes)
    };
    expect("deleting what is not there", blkpg(&disk, DELETE, 1, 0, 0), libc::ENXIO)?;
    expect("resizing what is not there", blkpg(&disk, RESIZE, 1, MIB, MIB), libc::ENXIO)?;
    expect("number 0", blkpg(&disk, ADD, 0, MIB, MIB), libc::EINVAL)?;
    expect("not in whole blocks", blkpg(&disk, ADD, 1, MIB + 1, MIB), libc::EINVAL)?;
    expect("before the beginning", blkpg(&disk, ADD, 1, -MIB, MIB), libc::EINVAL)?;
    expect("beyond the end", blkpg(&disk, ADD, 1, 0, 1 << 40), libc::EINVAL)?;
    expect("adding", blkpg(&disk, ADD, 1, MIB, MIB), 0)?;
    expect("the number again", blkpg(&disk, ADD, 1, 8 * MIB, MIB), libc::EBUSY)?;
    expect("the place again", blkpg(&disk, ADD, 2, MIB, 2 * MIB), libc::EBUSY)?;
    let open_part = open(part, 0)?;
    expect("its size", size(&open_part)?, MIB as u64)?;
    open_part.write_all_at(b"in the partition", 4096)?;
    open_part.sync_all()?;
    expect("deleting what is open", blkpg(&disk, DELETE, 1, 0, 0), libc::EBUSY)?;
    expect("moving it", blkpg(&disk, RESIZE, 1, 2 * MIB, MIB), libc::EINVAL)?;
    expect("growing it", blkpg(&disk, RESIZE, 1, MIB, 3 * MIB), 0)?;
    expect("its new size", size(&open_part)?, 3 * MIB as u64)?;
    drop(open_part);
    ioctl::<u8>(&disk, BLKFLSBUF, std::ptr::null_mut())?;
    let mut found = [0; 16];
    disk.read_exact_at(&mut found, MIB as u64 + 4096)?;
    expect("its place", &found, b"in the partition")?;
    expect("a partition has none", blkpg(&open(part, 0)?, ADD, 3, 0, MIB), libc::EINVAL)?;
    expect("deleting", blkpg(&disk, DELETE, 1, 0, 0), 0)?;
    expect("it has gone", open(part, 0).is_err(), true)
}

/// Reads and writes of each block directly: `errno` where a sector fails, and nowhere else; then through the cache, where `fsync` tells each
/// descriptor EIO once.
fn failing(path: &Path, errno: i32, sectors: &[u64]) -> io::Result<()> {
    const BLOCK: u64 = 512;
    let direct = open(path, libc::O_DIRECT)?;
    let mut memory = Aligned::new(PAGE);
    for sector in 0..128u64 {
        let due = if sectors.contains(&sector) { errno } else { 0 };
        memory.slice(512).fill(sector as u8);
        let found = code(direct.write_at(memory.slice(512), sector * BLOCK));
        expect(&format!("the write of sector {sector}"), found, due)?;
        let found = code(direct.read_at(memory.slice(512), sector * BLOCK));
        expect(&format!("the read of sector {sector}"), found, due)?;
    }
    let pages: std::collections::BTreeSet<u64> = sectors.iter().map(|sector| sector / 8).collect();
    for page in 0..16u64 {
        let (first, second) = (open(path, 0)?, open(path, 0)?);
        first.write_all_at(&[page as u8; PAGE], page * PAGE as u64)?;
        let due = if pages.contains(&page) { libc::EIO } else { 0 };
        let told = |file: &File| code(file.sync_all());
        let found = [told(&first), told(&first), told(&second), told(&second)];
        expect(&format!("fsync of page {page}, two descriptors twice"), found, [due, 0, due, 0])?;
        ioctl::<u8>(&first, BLKFLSBUF, std::ptr::null_mut())?;
    }
    Ok(())
}

/// Works on a disk from four threads until each has met an error, and tells which.
fn busy(path: &Path) -> io::Result<()> {
    let start = std::time::Instant::now();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4u64)
            .map(|number| {
                scope.spawn(move || -> io::Result<i32> {
                    let flags = if number % 2 == 0 { libc::O_DIRECT } else { 0 };
                    let (file, mut memory) = (open(path, flags)?, Aligned::new(PAGE));
                    let mut random = Random::new(number + 1);
                    loop {
                        let at = random.below(1000) * PAGE as u64;
                        let done = match number {
                            // Nothing is left to read, or there is no room for what is written: also ends.
                            0 => file.read_at(memory.slice(PAGE), at).and_then(|count| match count {
                                0 => Err(Error::from_raw_os_error(libc::ENODEV)),
                                _ => Ok(()),
                            }),
                            _ => file.write_at(memory.slice(PAGE), at).and_then(|_| file.sync_data()),
                        };
                        if let Err(error) = done {
                            return Ok(error.raw_os_error().unwrap_or(-1));
                        }
                        if start.elapsed().as_secs() > 60 {
                            return Ok(0);
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        println!("@@host");
        workers.into_iter().map(|worker| worker.join().expect("a worker has panicked")).collect()
    });
    for end in ends {
        let (end, due) = (end?, [libc::EIO, libc::ENXIO, libc::ENODEV, libc::ENOSPC]);
        if !due.contains(&end) {
            return Err(Error::other(format!("a worker ended with {end}")));
        }
    }
    println!("all have ended");
    Ok(())
}
