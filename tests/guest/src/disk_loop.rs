//! Loop devices by ioctl(2), as loop(4) says: `--disk-loop FOLDER`, which is where the files behind them are made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const LOOP_SET_FD: u64 = 0x4c00;
const LOOP_CLR_FD: u64 = 0x4c01;
const LOOP_SET_STATUS64: u64 = 0x4c04;
const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_CHANGE_FD: u64 = 0x4c06;
const LOOP_SET_CAPACITY: u64 = 0x4c07;
const LOOP_SET_DIRECT_IO: u64 = 0x4c08;
const LOOP_SET_BLOCK_SIZE: u64 = 0x4c09;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_ADD: u64 = 0x4c80;
const LOOP_CTL_REMOVE: u64 = 0x4c81;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const BLKSSZGET: u64 = 0x1268;
const BLKPBSZGET: u64 = 0x127b;
const BLKGETSIZE64: u64 = 0x8008_1272;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const PARTSCAN: u32 = 8;
const DIRECT_IO: u32 = 16;
const MIB: u64 = 1 << 20;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    descriptor: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

fn zeroed<T: Copy>() -> T {
    // SAFETY: both structures here are numbers only, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn ioctl<T>(file: &File, request: u64, argument: *mut T) -> io::Result<i32> {
    // SAFETY: each caller gives the address of what its request reads or writes, or none.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// A request whose argument is a number.
fn order(file: &File, request: u64, number: usize) -> i32 {
    code(ioctl(file, request, number as *mut u8))
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, due: T) -> io::Result<()> {
    if found == due { Ok(()) } else { Err(Error::other(format!("{what}: {found:?}, not {due:?}"))) }
}

fn get<T: Copy>(file: &File, request: u64) -> io::Result<T> {
    let mut value = zeroed::<T>();
    ioctl(file, request, &mut value)?;
    Ok(value)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Runs all; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let Some(folder) = arguments.first() else { return 2 };
    let mut failed = 0;
    for (name, test) in [
        ("control", control as fn(&Path) -> io::Result<()>),
        ("binding", binding),
        ("offsets", offsets),
        ("block sizes", block_sizes),
        ("changing the file", changing),
        ("autoclear", autoclear),
        ("read-only", read_only),
        ("direct", direct),
        ("partitions", partitions),
    ] {
        if let Err(error) = test(Path::new(folder)) {
            println!("disk-loop, {name}: {error}");
            failed = 1;
        }
    }
    failed
}

/// A file of so many MiB, each filled with its number.
fn backing(folder: &Path, name: &str, mib: u64) -> io::Result<(PathBuf, File)> {
    let path = folder.join(name);
    for number in 0..mib {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.write_all_at(&vec![number as u8; MIB as usize], number * MIB)?;
    }
    let file = open(&path)?;
    Ok((path, file))
}

/// A loop device that is free.
fn free() -> io::Result<(PathBuf, File)> {
    let number =
        ioctl(&open(Path::new("/dev/loop-control"))?, LOOP_CTL_GET_FREE, std::ptr::null_mut::<u8>())?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let file = open(&path)?;
    Ok((path, file))
}

/// Binds a file to a free device.
fn bound(file: &File, change: impl FnOnce(&mut Config)) -> io::Result<(PathBuf, File)> {
    let (path, device) = free()?;
    let mut config = zeroed::<Config>();
    config.descriptor = file.as_raw_fd() as u32;
    change(&mut config);
    ioctl(&device, LOOP_CONFIGURE, &mut config)?;
    Ok((path, device))
}

fn control(_folder: &Path) -> io::Result<()> {
    let control = open(Path::new("/dev/loop-control"))?;
    expect("adding", code(ioctl(&control, LOOP_CTL_ADD, 77 as *mut u8)), 0)?;
    expect("adding it again", order(&control, LOOP_CTL_ADD, 77), libc::EEXIST)?;
    expect("its node", Path::new("/dev/loop77").exists(), true)?;
    let device = open(Path::new("/dev/loop77"))?;
    expect("removing what is open", order(&control, LOOP_CTL_REMOVE, 77), libc::EBUSY)?;
    drop(device);
    expect("removing", order(&control, LOOP_CTL_REMOVE, 77), 0)?;
    expect("removing it again", order(&control, LOOP_CTL_REMOVE, 77), libc::ENODEV)?;
    expect("its node afterwards", Path::new("/dev/loop77").exists(), false)
}

fn binding(folder: &Path) -> io::Result<()> {
    let (path, file) = backing(folder, "binding", 3)?;
    let (_, device) = free()?;
    for request in [LOOP_CLR_FD, LOOP_SET_CAPACITY, LOOP_SET_DIRECT_IO] {
        expect(&format!("{request:#x} of what is free"), order(&device, request, 0), libc::ENXIO)?;
    }
    let mut info = zeroed::<Info>();
    expect("asking what is free", code(ioctl(&device, LOOP_GET_STATUS64, &mut info)), libc::ENXIO)?;
    expect("no descriptor", order(&device, LOOP_SET_FD, 999), libc::EBADF)?;
    expect("a folder", order(&device, LOOP_SET_FD, File::open(folder)?.as_raw_fd() as usize), libc::EINVAL)?;
    expect("binding", order(&device, LOOP_SET_FD, file.as_raw_fd() as usize), 0)?;
    expect("binding it again", order(&device, LOOP_SET_FD, file.as_raw_fd() as usize), libc::EBUSY)?;
    expect("its size", get::<u64>(&device, BLKGETSIZE64)?, 3 * MIB)?;
    ioctl(&device, LOOP_GET_STATUS64, &mut info)?;
    let data = fs::metadata(&path)?;
    expect("the inode it tells", info.inode, std::os::unix::fs::MetadataExt::ino(&data))?;
    expect("its flags", info.flags, 0)?;
    // Both ways.
    device.write_all_at(b"through the device", 5000)?;
    device.sync_all()?;
    let mut found = [0; 18];
    file.read_exact_at(&mut found, 5000)?;
    expect("what was written", &found, b"through the device")?;
    // A file that has grown: on order.
    file.set_len(5 * MIB)?;
    expect("before", get::<u64>(&device, BLKGETSIZE64)?, 3 * MIB)?;
    expect("taking note of the size", order(&device, LOOP_SET_CAPACITY, 0), 0)?;
    expect("after", get::<u64>(&device, BLKGETSIZE64)?, 5 * MIB)?;
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)
}

fn offsets(folder: &Path) -> io::Result<()> {
    let (_, file) = backing(folder, "offsets", 6)?;
    let (_, device) = bound(&file, |config| {
        config.info.offset = 2 * MIB;
        config.info.size_limit = MIB + 700;
        config.info.file_name[..4].copy_from_slice(b"name");
    })?;
    expect("its size", get::<u64>(&device, BLKGETSIZE64)?, MIB + 512)?;
    let mut found = [0; 512];
    device.read_exact_at(&mut found, MIB)?;
    expect("what is there", found[0], 3)?;
    let mut info = get::<Info>(&device, LOOP_GET_STATUS64)?;
    expect(
        "what it says",
        (info.offset, info.size_limit, &info.file_name[..5]),
        (2 * MIB, MIB + 700, &b"name\0"[..]),
    )?;
    (info.offset, info.size_limit) = (4 * MIB, 0);
    ioctl(&device, LOOP_SET_STATUS64, &mut info)?;
    expect("its new size", get::<u64>(&device, BLKGETSIZE64)?, 2 * MIB)?;
    device.read_exact_at(&mut found, 0)?;
    expect("what is there now", found[0], 4)?;
    info.encrypt_type = 1;
    expect("encryption", code(ioctl(&device, LOOP_SET_STATUS64, &mut info)), libc::EINVAL)?;
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)
}

fn block_sizes(folder: &Path) -> io::Result<()> {
    let (_, file) = backing(folder, "sizes", 3)?;
    for wrong in [256, 513, 3072, 1 << 20] {
        let refused = code(bound(&file, |config| config.block_size = wrong).map(drop));
        expect(&format!("blocks of {wrong}"), refused, libc::EINVAL)?;
    }
    let (path, device) = bound(&file, |config| config.block_size = 4096)?;
    expect("its blocks", get::<u32>(&device, BLKSSZGET)?, 4096)?;
    expect("its physical blocks", get::<u32>(&device, BLKPBSZGET)?, 4096)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shown = fs::read_to_string(format!("/sys/block/{name}/queue/logical_block_size"))?;
    expect("what is shown", shown.trim(), "4096")?;
    device.write_all_at(&[9; 100], 4090)?;
    device.sync_all()?;
    let mut found = [0; 4300];
    file.read_exact_at(&mut found, 0)?;
    expect("a write over a border", (found[4089], found[4090], found[4189], found[4190]), (0, 9, 9, 0))?;
    expect("other blocks", order(&device, LOOP_SET_BLOCK_SIZE, 1024), 0)?;
    expect("its blocks now", get::<u32>(&device, BLKSSZGET)?, 1024)?;
    for wrong in [100, 1025] {
        expect("blocks of a wrong size", order(&device, LOOP_SET_BLOCK_SIZE, wrong), libc::EINVAL)?;
    }
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)?;
    drop(device);
    let (_, device) = bound(&file, |_| {})?;
    expect("the usual blocks", get::<u32>(&device, BLKSSZGET)?, 512)?;
    expect("letting go again", order(&device, LOOP_CLR_FD, 0), 0)
}

fn changing(folder: &Path) -> io::Result<()> {
    let (_, first) = backing(folder, "first", 2)?;
    let (path, second) = backing(folder, "second", 2)?;
    let (_, longer) = backing(folder, "longer", 3)?;
    second.write_all_at(&[b's'; 4096], 0)?;
    let (_, device) = bound(&first, |_| {})?;
    expect(
        "of what can be written",
        order(&device, LOOP_CHANGE_FD, second.as_raw_fd() as usize),
        libc::EINVAL,
    )?;
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)?;
    drop(device);
    let (_, device) = bound(&first, |config| config.info.flags = READ_ONLY)?;
    let mut found = [0; 16];
    device.read_exact_at(&mut found, 0)?;
    expect("the first file", found[0], 0)?;
    expect("another size", order(&device, LOOP_CHANGE_FD, longer.as_raw_fd() as usize), libc::EINVAL)?;
    expect("no descriptor", order(&device, LOOP_CHANGE_FD, 999), libc::EBADF)?;
    expect("changing", order(&device, LOOP_CHANGE_FD, second.as_raw_fd() as usize), 0)?;
    let info = get::<Info>(&device, LOOP_GET_STATUS64)?;
    expect("the inode it tells", info.inode, std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path)?))?;
    ioctl::<u8>(&device, 0x1261, std::ptr::null_mut())?;
    device.read_exact_at(&mut found, 0)?;
    expect("the second file", found[0], b's')?;
    expect("letting go at last", order(&device, LOOP_CLR_FD, 0), 0)
}

fn autoclear(folder: &Path) -> io::Result<()> {
    let (_, file) = backing(folder, "autoclear", 2)?;
    let (path, device) = bound(&file, |config| config.info.flags = AUTOCLEAR)?;
    let other = open(&path)?;
    drop(device);
    expect("somebody has it", get::<u64>(&other, BLKGETSIZE64)?, 2 * MIB)?;
    drop(other);
    let after = open(&path)?;
    let mut info = zeroed::<Info>();
    expect("after the last close", code(ioctl(&after, LOOP_GET_STATUS64, &mut info)), libc::ENXIO)?;
    expect("its size then", get::<u64>(&after, BLKGETSIZE64)?, 0)?;
    drop(after);
    // Letting go while others have it: at the last close.
    let (path, device) = bound(&file, |_| {})?;
    let other = open(&path)?;
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)?;
    drop(device);
    expect("it is still bound", get::<Info>(&other, LOOP_GET_STATUS64)?.flags & AUTOCLEAR, AUTOCLEAR)?;
    drop(other);
    expect("and then not", code(ioctl(&open(&path)?, LOOP_GET_STATUS64, &mut info)), libc::ENXIO)
}

fn read_only(folder: &Path) -> io::Result<()> {
    let (path, file) = backing(folder, "read-only", 2)?;
    for (what, file, flags) in [("by flag", &file, READ_ONLY), ("by its file", &File::open(&path)?, 0)] {
        let (path, device) = bound(file, |config| config.info.flags = flags)?;
        let info = get::<Info>(&device, LOOP_GET_STATUS64)?;
        expect(what, info.flags & READ_ONLY, READ_ONLY)?;
        expect("a write", code(device.write_at(b"x", 0)), libc::EPERM)?;
        expect("opening it for writing", code(open(&path)), 0)?;
        expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)?;
    }
    Ok(())
}

/// Whether the file can be read directly or not, what is asked for is told, and the data are right.
fn direct(folder: &Path) -> io::Result<()> {
    let (_, file) = backing(folder, "direct", 2)?;
    let (_, device) = bound(&file, |config| config.info.flags = DIRECT_IO)?;
    let first = get::<Info>(&device, LOOP_GET_STATUS64)?.flags & DIRECT_IO;
    expect("switching it off", order(&device, LOOP_SET_DIRECT_IO, 0), 0)?;
    expect("it is off", get::<Info>(&device, LOOP_GET_STATUS64)?.flags & DIRECT_IO, 0)?;
    let again = order(&device, LOOP_SET_DIRECT_IO, 1);
    expect("switching it on", again, if first == 0 { libc::EINVAL } else { 0 })?;
    device.write_all_at(&[b'd'; 9000], 3)?;
    device.sync_all()?;
    let mut found = [0; 9004];
    file.read_exact_at(&mut found, 0)?;
    expect("what was written", (found[2], found[3], found[9002], found[9003]), (0, b'd', b'd', 0))?;
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)
}

/// A table with one partition, found when the flag says so.
fn partitions(folder: &Path) -> io::Result<()> {
    let (_, file) = backing(folder, "partitions", 4)?;
    let mut table = [0; 512];
    table[446 + 4] = 0x83;
    table[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&table, 0)?;
    let (path, device) = bound(&file, |_| {})?;
    let part = PathBuf::from(format!("{}p1", path.display()));
    expect("unasked", part.exists(), false)?;
    let mut info = get::<Info>(&device, LOOP_GET_STATUS64)?;
    info.flags = PARTSCAN;
    ioctl(&device, LOOP_SET_STATUS64, &mut info)?;
    expect("asked", part.exists(), true)?;
    let inside = open(&part)?;
    expect("its size", get::<u64>(&inside, BLKGETSIZE64)?, 2 * MIB)?;
    let mut found = [0; 1];
    inside.read_exact_at(&mut found, MIB)?;
    expect("what is in it", found[0], 2)?;
    drop(inside);
    expect("letting go", order(&device, LOOP_CLR_FD, 0), 0)?;
    drop(device);
    expect("it has gone with its disk", part.exists(), false)
}
