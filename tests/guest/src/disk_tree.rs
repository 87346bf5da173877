//! Trees on disks, for the tests that the host drives (`xtask/src/test/disks`): made from a seed, altered, and put into words.
//!
//! `--disk-tree make FOLDER SEED COUNT` makes files of every kind with owners, times, attributes, ACLs and holes; `alter FOLDER SEED`
//! changes what is there; `digest FOLDER` prints one line for each file with all that a file system keeps of it, so that two kernels that
//! read the same disk must print the same. Nothing depends on the clock or on the order of a directory.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Runs one of the commands; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or(1);
    let result = match words.as_slice() {
        ["make", folder, seed, count] => {
            make(Path::new(folder), &mut Random::new(number(seed)), number(count))
        }
        ["alter", folder, seed] => alter(Path::new(folder), &mut Random::new(number(seed))),
        ["digest", folder] => digest(Path::new(folder)),
        _ => Err(io::Error::other("make FOLDER SEED COUNT, alter FOLDER SEED, or digest FOLDER")),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("disk-tree {}: {error}", words.join(" "));
            1
        }
    }
}

/// A generator of numbers that are the same everywhere (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn make(folder: &Path, random: &mut Random, count: u64) -> io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    let mut files: Vec<PathBuf> = Vec::new();
    for index in 0..count {
        let parent = folders[random.below(folders.len() as u64) as usize].clone();
        let long = if random.below(8) == 0 { "n".repeat(random.below(200) as usize) } else { String::new() };
        let path = parent.join(format!("{index}{long}"));
        match random.below(16) {
            0 | 1 => {
                fs::create_dir(&path)?;
                folders.push(path.clone());
            }
            2 => symlink("t".repeat(1 + random.below(300) as usize), &path)?,
            3 if !files.is_empty() => {
                fs::hard_link(&files[random.below(files.len() as u64) as usize], &path)?;
            }
            4 => node(&path, random)?,
            5 => sparse(&path, random)?,
            _ => {
                let limit = [1, 60, 160, 4096, 5000, 70_000, 300_000][random.below(7) as usize];
                let length = random.below(limit) as usize;
                fs::write(&path, random.bytes(length))?;
                files.push(path.clone());
            }
        }
        attributes(&path, random)?;
    }
    // Last and from the deepest on: making a file changes its folder's times.
    let mut all = below(folder)?;
    all.reverse();
    all.iter().try_for_each(|path| times(path, random))
}

/// A FIFO, a socket's name or a device.
fn node(path: &Path, random: &mut Random) -> io::Result<()> {
    let (kind, device) = match random.below(3) {
        0 => (libc::S_IFIFO, 0),
        1 => (libc::S_IFSOCK, 0),
        _ => (libc::S_IFCHR, libc::makedev(random.below(4000) as u32, random.below(1 << 20) as u32)),
    };
    let name = c_path(path)?;
    // SAFETY: the name is a C string that lives through the call.
    done(unsafe { libc::mknod(name.as_ptr(), kind | 0o600, device) })
}

/// A file of pieces with holes between them, the last piece perhaps allocated but never written.
fn sparse(path: &Path, random: &mut Random) -> io::Result<()> {
    let file = File::create(path)?;
    let mut at = 0;
    for _ in 0..1 + random.below(12) {
        at += random.below(400_000);
        let length = 1 + random.below(9000) as usize;
        file.write_all_at(&random.bytes(length), at)?;
        at += length as u64;
    }
    if random.below(2) == 0 {
        // SAFETY: a plain call with numbers. A file system that has no extents says that it cannot: then there is one file less of the kind.
        let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, at as i64 + 8192, 40_000) };
        if result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(io::Error::last_os_error());
        }
    }
    file.set_len(file.metadata()?.len() + random.below(100_000))
}

/// Owner, mode, extended attributes, an ACL.
fn attributes(path: &Path, random: &mut Random) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    let owner = |random: &mut Random| [0, 1000, 65_534, 100_000, 4_000_000_000][random.below(5) as usize];
    std::os::unix::fs::lchown(path, Some(owner(random)), Some(owner(random)))?;
    if kind.is_symlink() {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(random.below(0o10000) as u32))?;
    if !kind.is_file() && !kind.is_dir() {
        return Ok(());
    }
    for index in 0..random.below(4) {
        // Some fit into the inode, some need the block of their own.
        let length = [0, 5, 40, 300][random.below(4) as usize];
        set_attribute(path, &format!("user.name{index}"), &random.bytes(length))?;
    }
    if random.below(4) == 0 {
        set_attribute(path, "trusted.linnet", b"kept")?;
    }
    if random.below(3) == 0 {
        set_attribute(path, "system.posix_acl_access", &acl(random))?;
        if kind.is_dir() {
            set_attribute(path, "system.posix_acl_default", &acl(random))?;
        }
    }
    Ok(())
}

/// Owner, a named user, group, mask, others (version 2 of the attribute).
fn acl(random: &mut Random) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let user = 1000 + random.below(5) as u32;
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, id) in [(1u16, NOBODY), (2, user), (4, NOBODY), (0x10, NOBODY), (0x20, NOBODY)] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend((random.below(8) as u16).to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Access and modification: from 1901 to far after 2038, to the nanosecond.
fn times(path: &Path, random: &mut Random) -> io::Result<()> {
    let mut one = || libc::timespec {
        tv_sec: random.below(12_000_000_000) as i64 - 2_000_000_000,
        tv_nsec: random.below(1_000_000_000) as i64,
    };
    let both = [one(), one()];
    let name = c_path(path)?;
    // SAFETY: the name and the two times live through the call.
    done(unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), both.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
}

/// Changes about half of the files, and makes as many as it removes.
fn alter(folder: &Path, random: &mut Random) -> io::Result<()> {
    let all = below(folder)?;
    for (index, path) in all.iter().enumerate() {
        // One that went away with its folder, or under another name.
        let Ok(data) = fs::symlink_metadata(path) else { continue };
        match random.below(10) {
            0 if data.is_dir() => fs::rename(path, folder.join(format!("moved{index}")))?,
            0 => fs::rename(path, folder.join(format!("renamed{index}")))?,
            1 if !data.is_dir() => fs::remove_file(path)?,
            2 if data.is_file() => {
                let length = random.below(data.len() + 5000);
                File::options().write(true).open(path)?.set_len(length)?;
            }
            3 if data.is_file() => {
                let piece = random.bytes(random_length(data.len()));
                File::options().write(true).open(path)?.write_all_at(&piece, data.len())?;
            }
            4 if !data.is_symlink() => attributes(path, random)?,
            _ => {}
        }
    }
    let more = folder.join("more");
    fs::create_dir(&more)?;
    make(&more, random, all.len() as u64 / 4 + 1)
}

/// Between a few bytes and some blocks, by what is there.
fn random_length(length: u64) -> usize {
    (length % 9973) as usize + 1
}

/// Everything below a folder, in order of name, folders before what is in them.
fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn digest(folder: &Path) -> io::Result<()> {
    for path in below(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        if name.starts_with("lost+found") {
            continue;
        }
        let data = fs::symlink_metadata(&path)?;
        let kind = data.file_type();
        let contents = if kind.is_file() {
            format!("{:016x} {}", hash(&fs::read(&path)?), pieces(&path, data.len())?)
        } else if kind.is_symlink() {
            format!("{:016x}", hash(fs::read_link(&path)?.as_os_str().as_bytes()))
        } else if kind.is_char_device() {
            format!("{:x}", data.rdev())
        } else {
            String::new()
        };
        let short = if name.len() > 60 { format!("{:016x}", hash(name.as_bytes())) } else { name };
        println!(
            "{short} {:o} i{} l{} {}:{} s{} b{} a{}.{:09} m{}.{:09} c{}.{:09} B{} x{} {contents}",
            data.mode(),
            data.ino(),
            data.nlink(),
            data.uid(),
            data.gid(),
            data.len(),
            data.blocks(),
            data.atime(),
            data.atime_nsec(),
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
            birth(&data),
            all_attributes(&path)?,
        );
    }
    Ok(())
}

/// When a file was made, if the file system knows.
fn birth(data: &fs::Metadata) -> String {
    let since = data.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or("-".to_owned(), |time| format!("{}.{:09}", time.as_secs(), time.subsec_nanos()))
}

/// Where a file has data, as SEEK_DATA and SEEK_HOLE tell: a hash of the borders, and how many there are.
fn pieces(path: &Path, length: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let mut borders = Vec::new();
    let (mut at, mut wants_data) = (0, true);
    while at < length as i64 {
        let whence = if wants_data { libc::SEEK_DATA } else { libc::SEEK_HOLE };
        // SAFETY: a plain call with numbers.
        let next = unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
        if next < 0 {
            break;
        }
        borders.extend(next.to_le_bytes());
        (at, wants_data) = (next, !wants_data);
    }
    Ok(format!("{}:{:08x}", borders.len() / 8, hash(&borders) as u32))
}

/// A hash of all names and values that a file has.
fn all_attributes(path: &Path) -> io::Result<String> {
    let name = c_path(path)?;
    let mut list = vec![0u8; 65_536];
    // SAFETY: the buffer is as long as is said.
    let length = unsafe { libc::llistxattr(name.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut names: Vec<&[u8]> =
        list[..length as usize].split(|byte| *byte == 0).filter(|one| !one.is_empty()).collect();
    names.sort_unstable();
    let mut everything = Vec::new();
    for one in &names {
        let attribute = CString::new(*one).map_err(io::Error::other)?;
        let mut value = vec![0u8; 65_536];
        // SAFETY: both names are C strings and the buffer is as long as is said.
        let length = unsafe {
            libc::lgetxattr(name.as_ptr(), attribute.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        everything.extend_from_slice(one);
        everything.push(0);
        everything.extend_from_slice(&value[..length as usize]);
    }
    Ok(format!("{}:{:08x}", names.len(), hash(&everything) as u32))
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    // SAFETY: both names are C strings and the value is as long as is said.
    done(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn done(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// FNV-1a, 64 bits: enough to see a difference.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
