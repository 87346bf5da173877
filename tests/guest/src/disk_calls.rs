//! What system calls do to a file on a disk, beside a model of it in memory: `--disk-calls FOLDER SEED STEPS`.
//!
//! Each step is drawn from the seed: writes, reads, truncates, every mode of `fallocate`, stores through a mapping, syncs, and now and then
//! O_DIRECT. After each the file's length, and what was touched, must be what the model says; in the end all of it, what SEEK_DATA and
//! SEEK_HOLE say of it, and FIEMAP. The model follows fallocate(2): what a mode does not allow is EINVAL and changes nothing.

use crate::disk_tree::Random;
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

const LONGEST: u64 = 400_000;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;

/// Runs it; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [folder, seed, steps] = words.as_slice() else { return 2 };
    let path = Path::new(folder).join("calls");
    match run(&path, seed.parse().unwrap_or(1), steps.parse().unwrap_or(100)) {
        Ok(()) => 0,
        Err(error) => {
            println!("disk-calls, seed {seed}: {error}");
            1
        }
    }
}

/// A file and what must be in it.
struct Twin {
    file: File,
    model: Vec<u8>,
    block: u64,
}

fn run(path: &Path, seed: u64, steps: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let block = std::os::unix::fs::MetadataExt::blksize(&file.metadata()?);
    let mut twin = Twin { file, model: Vec::new(), block };
    let mut random = Random::new(seed);
    for number in 0..steps {
        let what = twin.step(&mut random).map_err(|error| Error::other(format!("step {number}: {error}")))?;
        twin.compare().map_err(|error| Error::other(format!("step {number}, {what}: {error}")))?;
    }
    twin.file.sync_all()?;
    twin.holes()?;
    twin.extents()?;
    // And what is on the disk, not in memory.
    let again = File::open(path)?;
    // SAFETY: a plain call with numbers.
    unsafe { libc::posix_fadvise(again.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    twin.file = again;
    twin.compare()
}

impl Twin {
    fn step(&mut self, random: &mut Random) -> io::Result<String> {
        let (at, length) = (random.below(LONGEST), 1 + random.below(30_000));
        let aligned = (at / self.block * self.block, (1 + length / self.block) * self.block);
        let what = random.below(11);
        match what {
            0..=2 => {
                let bytes = random.bytes(length as usize);
                self.file.write_all_at(&bytes, at)?;
                self.grow(at + length);
                self.model[at as usize..(at + length) as usize].copy_from_slice(&bytes);
            }
            3 => {
                self.file.set_len(at)?;
                self.model.resize(at as usize, 0);
            }
            4 => {
                self.allocate(0, at, length)?;
                self.grow(at + length);
            }
            5 => self.allocate(libc::FALLOC_FL_KEEP_SIZE, at, length)?,
            6 => {
                self.allocate(PUNCH, at, length)?;
                self.clear(at, length);
            }
            7 => {
                self.allocate(libc::FALLOC_FL_ZERO_RANGE, at, length)?;
                self.grow(at + length);
                self.clear(at, length);
            }
            8 => self.collapse(aligned)?,
            9 => self.insert(aligned)?,
            _ => {
                self.file.sync_data()?;
                self.store(at, random)?;
            }
        }
        Ok(format!("action {what} at {at}, {length} long"))
    }

    fn grow(&mut self, length: u64) {
        self.model.resize(self.model.len().max(length as usize), 0);
    }

    fn clear(&mut self, at: u64, length: u64) {
        let end = self.model.len().min((at + length) as usize);
        if let Some(part) = self.model.get_mut(at as usize..end) {
            part.fill(0);
        }
    }

    fn allocate(&self, mode: i32, at: u64, length: u64) -> io::Result<()> {
        // SAFETY: a plain call with numbers.
        let result = unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at as i64, length as i64) };
        if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
    }

    /// A range is taken out; it must end before the file does.
    fn collapse(&mut self, (at, length): (u64, u64)) -> io::Result<()> {
        let result = self.allocate(libc::FALLOC_FL_COLLAPSE_RANGE, at, length);
        if at + length >= self.model.len() as u64 {
            return refused(&result);
        }
        result?;
        self.model.drain(at as usize..(at + length) as usize);
        Ok(())
    }

    /// A hole is put in; it must begin before the file ends.
    fn insert(&mut self, (at, length): (u64, u64)) -> io::Result<()> {
        if self.model.len() as u64 + length > LONGEST * 2 {
            return Ok(());
        }
        let result = self.allocate(libc::FALLOC_FL_INSERT_RANGE, at, length);
        if at >= self.model.len() as u64 {
            return refused(&result);
        }
        result?;
        self.model.splice(at as usize..at as usize, std::iter::repeat_n(0, length as usize));
        Ok(())
    }

    /// Some bytes through a shared mapping.
    fn store(&mut self, at: u64, random: &mut Random) -> io::Result<()> {
        let length = self.model.len();
        if length == 0 {
            return Ok(());
        }
        let at = at as usize % length;
        let bytes = random.bytes((length - at).min(5000));
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file that nobody else shortens; it is used within the file's length and then taken away.
        unsafe {
            let start =
                libc::mmap(std::ptr::null_mut(), length, rights, libc::MAP_SHARED, self.file.as_raw_fd(), 0);
            if start == libc::MAP_FAILED {
                return Err(Error::last_os_error());
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>().add(at), bytes.len());
            libc::munmap(start, length);
        }
        self.model[at..at + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    fn compare(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length != self.model.len() as u64 {
            return Err(Error::other(format!("{length} bytes long, not {}", self.model.len())));
        }
        let mut found = vec![0; self.model.len()];
        self.file.read_exact_at(&mut found, 0)?;
        match found.iter().zip(&self.model).position(|(here, there)| here != there) {
            None => Ok(()),
            Some(at) => {
                Err(Error::other(format!("byte {at} is {:#x}, not {:#x}", found[at], self.model[at])))
            }
        }
    }

    /// Where it says that there is a hole, there are only zeros.
    fn holes(&self) -> io::Result<()> {
        let (mut at, length) = (0, self.model.len() as i64);
        while at < length {
            // SAFETY: a plain call with numbers.
            let data = unsafe { libc::lseek(self.file.as_raw_fd(), at, libc::SEEK_DATA) };
            let data = if data < 0 { length } else { data };
            if self.model[at as usize..data as usize].iter().any(|byte| *byte != 0) {
                return Err(Error::other(format!("SEEK_DATA passes over data between {at} and {data}")));
            }
            // SAFETY: a plain call with numbers.
            let hole = unsafe { libc::lseek(self.file.as_raw_fd(), data, libc::SEEK_HOLE) };
            if hole <= data {
                break;
            }
            at = hole;
        }
        Ok(())
    }

    /// FIEMAP's extents are in order, do not overlap, end with the one that says so, and hold all that is not zero.
    fn extents(&self) -> io::Result<()> {
        const MOST: usize = 500;
        let mut request = vec![0u64; 4 + MOST * 7];
        (request[0], request[1]) = (0, u64::MAX);
        request[2] = u64::from(FIEMAP_FLAG_SYNC);
        request[3] = MOST as u64;
        // SAFETY: the head is 32 bytes, and behind it is room for as many extents of 56 bytes as it says.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), FS_IOC_FIEMAP, request.as_mut_ptr()) } < 0 {
            return Err(Error::last_os_error());
        }
        let count = (request[2] >> 32) as usize;
        let mut covered = 0u64;
        for (index, extent) in request[4..].chunks(7).take(count).enumerate() {
            let (start, length, flags) = (extent[0], extent[2], extent[5] as u32);
            let between =
                covered.min(self.model.len() as u64) as usize..start.min(self.model.len() as u64) as usize;
            if start < covered || length == 0 || self.model[between].iter().any(|byte| *byte != 0) {
                return Err(Error::other(format!(
                    "extent {index} of FIEMAP: {start}, {length} long, after {covered}"
                )));
            }
            if (flags & FIEMAP_EXTENT_LAST != 0) != (index + 1 == count) {
                return Err(Error::other(format!("extent {index} of {count}: flags {flags:#x}")));
            }
            covered = start + length;
        }
        if self.model.iter().skip(covered as usize).any(|byte| *byte != 0) {
            return Err(Error::other(format!("FIEMAP ends at {covered}")));
        }
        Ok(())
    }
}

/// What must be refused with EINVAL.
fn refused(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => Err(Error::other(format!("{other:?} where EINVAL is due"))),
    }
}
