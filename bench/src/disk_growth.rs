//! `bench disk-growth FOLDER [FILTER]…`: how what a file system costs depends on sizes. FOLDER is on the disk, and empty.
//!
//! Prints `NAME@SIZE<TAB>NANOSECONDS`: a file more in a folder of N files, a look-up there that finds nothing in memory, a transfer from a place
//! of a file of N MiB and of one of N extents, and `fsync` of one page of a file of which N are in the page cache. What is measured does not
//! change its size for the next.

use crate::disks::{aligned, drop_caches, open, random_below};
use std::fs::{self, File};
use std::io::Result;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const PAGE: u64 = 4096;
/// Things done for one point.
const TIMES: u64 = 300;

/// Measures all that are wanted.
pub fn command(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    if wanted("a folder of N files") {
        folders(&folder.join("folder"))?;
    }
    if wanted("a file of N MiB") {
        sizes(&folder.join("size"))?;
    }
    if wanted("a file of N extents") {
        extents(&folder.join("extents"))?;
    }
    if wanted("N pages in the page cache") {
        cached(&folder.join("cached"))?;
    }
    Ok(())
}

/// Nanoseconds for one of `TIMES` steps.
fn each(mut step: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    (0..TIMES).try_for_each(&mut step)?;
    Ok(start.elapsed().as_nanos() as f64 / TIMES as f64)
}

fn folders(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let path = |number: u64| folder.join(format!("file-{number}"));
    let mut count = 0;
    for size in [10, 100, 1000, 10_000, 100_000] {
        while count < size {
            File::create(path(count))?;
            count += 1;
        }
        let more = |number| folder.join(format!("more-{number}"));
        let made = each(|number| File::create(more(number)).map(drop))?;
        println!("create a file in a folder of N files@{size}\t{made:.0}");
        let removed = each(|number| fs::remove_file(more(number)))?;
        println!("remove a file from a folder of N files@{size}\t{removed:.0}");
        drop_caches();
        let mut state = size;
        let found = each(|_| fs::symlink_metadata(path(random_below(&mut state, size))).map(drop))?;
        println!("stat a file in a folder of N files, cold@{size}\t{found:.0}");
    }
    fs::remove_dir_all(folder)
}

fn sizes(path: &Path) -> Result<()> {
    let (file, mut memory) = (File::create_new(path)?, aligned());
    let mut mib = 0;
    for size in [1, 4, 16, 64, 256] {
        while mib < size {
            file.write_all_at(&memory.0, mib << 20)?;
            mib += 1;
        }
        file.sync_all()?;
        drop_caches();
        let direct = open(path, libc::O_DIRECT)?;
        let mut state = size;
        let pages = (size << 20) / PAGE;
        let read = each(|_| {
            direct.read_exact_at(&mut memory.0[..PAGE as usize], random_below(&mut state, pages) * PAGE)
        })?;
        println!("read 4 KiB of a file of N MiB, direct@{size}\t{read:.0}");
    }
    fs::remove_file(path)
}

/// Every other block of a file is written, so that each is an extent.
fn extents(path: &Path) -> Result<()> {
    let (file, mut memory) = (File::create_new(path)?, aligned());
    let mut count = 0;
    for size in [1, 10, 100, 1000, 10_000] {
        while count < size {
            file.write_all_at(&memory.0[..PAGE as usize], count * 2 * PAGE)?;
            count += 1;
        }
        file.sync_all()?;
        drop_caches();
        let direct = open(path, libc::O_DIRECT)?;
        let mut state = size;
        let read = each(|_| {
            direct.read_exact_at(&mut memory.0[..PAGE as usize], random_below(&mut state, size) * 2 * PAGE)
        })?;
        println!("read 4 KiB of a file of N extents, direct@{size}\t{read:.0}");
        // An extent more is made and taken away at a place in the middle, where nothing is.
        let hole = (random_below(&mut state, size) * 2 + 1) * PAGE;
        let changed = each(|_| {
            file.write_all_at(&memory.0[..PAGE as usize], hole)?;
            punch(&file, hole)
        })?;
        println!("write and punch 4 KiB of a file of N extents@{size}\t{changed:.0}");
    }
    fs::remove_file(path)
}

fn punch(file: &File, at: u64) -> Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: it takes no memory.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, at as i64, PAGE as i64) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn cached(path: &Path) -> Result<()> {
    let (file, memory) = (open(path, libc::O_CREAT)?, aligned());
    let mut count = 0;
    for size in [1, 16, 256, 4096, 65_536] {
        while count < size {
            let length = (memory.0.len() as u64 / PAGE).min(size - count);
            file.write_all_at(&memory.0[..(length * PAGE) as usize], count * PAGE)?;
            count += length;
        }
        file.sync_all()?;
        let mut state = size;
        let synced = each(|_| {
            file.write_all_at(&memory.0[..PAGE as usize], random_below(&mut state, size) * PAGE)?;
            file.sync_data()
        })?;
        println!("write 4 KiB and fdatasync, N pages in the page cache@{size}\t{synced:.0}");
        let mut page = [0; PAGE as usize];
        let read = each(|_| file.read_exact_at(&mut page, random_below(&mut state, size) * PAGE))?;
        println!("read 4 KiB, N pages in the page cache@{size}\t{read:.0}");
    }
    fs::remove_file(path)
}
