//! `bench disks FOLDER [FILTER]…`: what a file system on a disk costs a program. FOLDER is on the disk, and empty.
//!
//! The rows follow fio's usual jobs and what people do with trees: transfers of 4 KiB at random places with one and with 32 under way (as
//! many threads), direct and through the page cache; 1 MiB after the other; `fsync` after each write; a hundred thousand files in one
//! folder; a tree that is written, walked, read and removed. Prints `NAME<TAB>NANOSECONDS` for one transfer or one file.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_BYTES: u64 = 64 << 20;
const LONG_ENOUGH: Duration = Duration::from_millis(700);
const MANY_FILES: u64 = 100_000;
const TREE_FOLDERS: u64 = 200;
const TREE_FILES: u64 = 25;

/// Measures all that are wanted.
pub fn command(folder: &Path, wanted: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let path = folder.join("file");
    prepare(&path)?;
    for (way, flags) in [("direct", libc::O_DIRECT), ("buffered", 0)] {
        for threads in [1, 32] {
            for (what, writes) in [("read", false), ("write", true)] {
                let name = format!("random {what} of 4 KiB, {way}, {threads} at once");
                if wanted(&name) {
                    drop_caches();
                    println!("{name}\t{:.0}", random(&path, flags, threads, writes)?);
                }
            }
        }
        for (what, writes) in [("read", false), ("write", true)] {
            let name = format!("1 MiB after the other, {way}, {what}");
            if wanted(&name) {
                drop_caches();
                println!("{name}\t{:.0}", sequential(&path, flags, writes)?);
            }
        }
    }
    for (name, size) in [
        ("read of 4 KiB that is in the page cache", 4096),
        ("read of 1 MiB that is in the page cache", 1 << 20),
    ] {
        if wanted(name) {
            println!("{name}\t{:.0}", cached(&path, size)?);
        }
    }
    if wanted("read of a cached file through a mapping, per page") {
        println!("read of a cached file through a mapping, per page\t{:.0}", mapped(&path)?);
    }
    if wanted("write of 4 KiB and fsync") {
        println!("write of 4 KiB and fsync\t{:.0}", synced(&folder.join("synced"))?);
    }
    if wanted("files in one folder") {
        many_files(&folder.join("many"))?;
    }
    if wanted("a tree") {
        tree(&folder.join("tree"))?;
    }
    Ok(())
}

/// A file to read and write.
pub fn open(path: &Path, flags: i32) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// A file with every block written, on the disk.
fn prepare(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for round in 0..FILE_BYTES >> 20 {
        file.write_all(&vec![round as u8; 1 << 20])?;
    }
    file.sync_all()
}

/// The page cache, dentries and inodes are forgotten.
pub fn drop_caches() {
    // SAFETY: it takes nothing.
    unsafe { libc::sync() };
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
}

/// Memory that O_DIRECT takes.
#[repr(align(4096))]
pub struct Aligned(pub [u8; 1 << 20]);

/// A MiB of it.
pub fn aligned() -> Box<Aligned> {
    // Not on the stack of a thread.
    let layout = std::alloc::Layout::new::<Aligned>();
    // SAFETY: the layout has a size, zeros are a valid array, and the box frees with the same layout.
    unsafe { Box::from_raw(std::alloc::alloc_zeroed(layout).cast::<Aligned>()) }
}

/// The next of some numbers that look random.
pub fn random_below(state: &mut u64, limit: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % limit
}

/// Nanoseconds for one transfer of all that the threads do together.
fn random(path: &Path, flags: i32, threads: u64, writes: bool) -> std::io::Result<f64> {
    let start = Instant::now();
    let done: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn(move || -> std::io::Result<u64> {
                    let (file, mut memory) = (open(path, flags)?, aligned());
                    let mut state = number * 7919 + 12345;
                    let mut count = 0;
                    while start.elapsed() < LONG_ENOUGH {
                        let at = random_below(&mut state, FILE_BYTES / 4096) * 4096;
                        if writes {
                            file.write_all_at(&memory.0[..4096], at)?;
                        } else {
                            file.read_exact_at(&mut memory.0[..4096], at)?;
                        }
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        let counts =
            workers.into_iter().map(|worker| worker.join().expect("a thread that measures has panicked"));
        counts.sum::<std::io::Result<u64>>()
    })?;
    Ok(start.elapsed().as_nanos() as f64 / done as f64)
}

fn sequential(path: &Path, flags: i32, writes: bool) -> std::io::Result<f64> {
    let (file, mut memory) = (open(path, flags)?, aligned());
    let start = Instant::now();
    for round in 0..FILE_BYTES >> 20 {
        if writes {
            file.write_all_at(&memory.0, round << 20)?;
        } else {
            file.read_exact_at(&mut memory.0, round << 20)?;
        }
    }
    if writes {
        file.sync_data()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / (FILE_BYTES >> 20) as f64)
}

fn cached(path: &Path, size: usize) -> std::io::Result<f64> {
    let (file, mut memory) = (open(path, 0)?, aligned());
    let mut count = 0u32;
    file.read_exact_at(&mut memory.0[..size], 0)?;
    let start = Instant::now();
    while start.elapsed() < LONG_ENOUGH / 4 {
        file.read_exact_at(&mut memory.0[..size], 0)?;
        count += 1;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// Nanoseconds for a page, with what it costs to map and to unmap the file.
fn mapped(path: &Path) -> std::io::Result<f64> {
    let file = open(path, 0)?;
    let bytes = FILE_BYTES as usize;
    let mut rounds = 0;
    let start = Instant::now();
    while start.elapsed() < LONG_ENOUGH / 4 {
        // SAFETY: a new shared mapping to read, of a file that nobody cuts; it is read within its bounds and goes before the file does.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            if at == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error());
            }
            for page in 0..bytes / 4096 {
                std::ptr::read_volatile(at.cast::<u8>().add(page * 4096));
            }
            libc::munmap(at, bytes);
        }
        rounds += 1;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(rounds) / (bytes / 4096) as f64)
}

fn synced(path: &Path) -> std::io::Result<f64> {
    let file = File::create(path)?;
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < LONG_ENOUGH {
        file.write_all_at(&[count as u8; 4096], u64::from(count) * 4096)?;
        file.sync_all()?;
        count += 1;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// Tells how long one of so many things took.
fn tell(name: &str, count: u64, work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    let start = Instant::now();
    work()?;
    println!("{name}\t{:.0}", start.elapsed().as_nanos() as f64 / count as f64);
    Ok(())
}

fn many_files(folder: &Path) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    let path = |number: u64| folder.join(format!("file-{number}"));
    tell("create one of 100,000 files in one folder", MANY_FILES, || {
        (0..MANY_FILES).try_for_each(|number| File::create(path(number)).map(drop))
    })?;
    drop_caches();
    tell("list one of 100,000 files in one folder", MANY_FILES, || {
        let count = fs::read_dir(folder)?.count() as u64;
        if count == MANY_FILES { Ok(()) } else { Err(std::io::Error::other(format!("{count} files"))) }
    })?;
    tell("remove one of 100,000 files in one folder", MANY_FILES, || {
        (0..MANY_FILES).try_for_each(|number| fs::remove_file(path(number)))
    })
}

/// A tree as sources are: small files in many folders.
fn tree(root: &Path) -> std::io::Result<()> {
    let files = TREE_FOLDERS * TREE_FILES;
    tell("write one file of a tree of 5,000", files, || {
        for folder in 0..TREE_FOLDERS {
            let folder_path = root.join(format!("{}/{folder}", folder % 20));
            fs::create_dir_all(&folder_path)?;
            for number in 0..TREE_FILES {
                fs::write(
                    folder_path.join(format!("{number}.c")),
                    vec![b'c'; (number * 700 + 100) as usize],
                )?;
            }
        }
        Ok(())
    })?;
    drop_caches();
    tell("stat one file of a tree of 5,000, cold", files, || {
        walk(root, &mut |path| fs::symlink_metadata(path).map(drop))
    })?;
    tell("stat one file of a tree of 5,000, warm", files, || {
        walk(root, &mut |path| fs::symlink_metadata(path).map(drop))
    })?;
    drop_caches();
    tell("read one file of a tree of 5,000, cold", files, || {
        walk(root, &mut |path| fs::read(path).map(drop))
    })?;
    tell("remove one file of a tree of 5,000", files, || fs::remove_dir_all(root))
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path())?;
        }
    }
    Ok(())
}
