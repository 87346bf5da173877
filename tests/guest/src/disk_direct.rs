//! Whose memory `O_DIRECT` reads and writes: `--disk-direct FOLDER`. Beside other threads that fork and give memory back; memory that nobody has touched, that
//! may not be written, that is a file's.

use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: usize = 4096;
const PAGES: usize = 256;
const BYTES: usize = PAGES * PAGE;

/// What byte a page of the file is full of.
fn mark(page: usize) -> u8 {
    (page * 7 + 1) as u8
}

/// Runs all; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let Some(folder) = arguments.first().map(Path::new) else { return 2 };
    let mut failed = 0;
    for (name, test) in [
        ("beside forks", beside_forks as fn(&Path) -> io::Result<()>),
        ("beside memory that goes", beside_memory_that_goes),
        ("memory of several kinds", kinds_of_memory),
        ("memory of files", memory_of_files),
        ("pieces", pieces),
    ] {
        if let Err(error) = test(folder) {
            println!("disk-direct, {name}: {error}");
            failed = 1;
        }
    }
    failed
}

fn wrong(what: impl Into<String>) -> Error {
    Error::other(what.into())
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(path)
}

/// A file on the disk whose pages are marked, open for direct transfers.
fn marked_file(folder: &Path, name: &str) -> io::Result<File> {
    let path = folder.join(name);
    let file = open(&path, 0)?;
    for page in 0..PAGES {
        file.write_all_at(&[mark(page); PAGE], (page * PAGE) as u64)?;
    }
    file.sync_all()?;
    open(&path, libc::O_DIRECT)
}

/// Mapped memory; unmapped in the end.
struct Memory {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: it is an address; who uses it from several threads says how.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(bytes: usize, protection: i32, flags: i32, file: i32) -> io::Result<Memory> {
        // SAFETY: a new mapping where there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) };
        if at == libc::MAP_FAILED { Err(Error::last_os_error()) } else { Ok(Memory { at: at.cast(), bytes }) }
    }

    fn private(bytes: usize) -> io::Result<Memory> {
        Memory::map(bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn read_from(&self, file: &File, offset: usize) -> io::Result<()> {
        // SAFETY: as long as the memory.
        let count = unsafe { libc::pread(file.as_raw_fd(), self.at.cast(), self.bytes, offset as i64) };
        all(count, self.bytes)
    }

    fn write_to(&self, file: &File, offset: usize) -> io::Result<()> {
        // SAFETY: as long as the memory.
        let count = unsafe { libc::pwrite(file.as_raw_fd(), self.at.cast(), self.bytes, offset as i64) };
        all(count, self.bytes)
    }

    fn fill(&self, byte: u8) {
        // SAFETY: it is mapped to be written.
        unsafe { std::ptr::write_bytes(self.at, byte, self.bytes) };
    }

    /// The first and the last byte of a page.
    fn ends(&self, page: usize) -> [u8; 2] {
        // SAFETY: within the memory, which may be read.
        unsafe {
            [
                std::ptr::read_volatile(self.at.add(page * PAGE)),
                std::ptr::read_volatile(self.at.add(page * PAGE + PAGE - 1)),
            ]
        }
    }

    /// Finds the first page that is not marked as that page of the file, from `first` on.
    fn check(&self, first: usize) -> io::Result<()> {
        let pages = self.bytes / PAGE;
        match (0..pages).find(|page| self.ends(*page) != [mark(first + page); 2]) {
            Some(page) => Err(wrong(format!("page {page} has {:?}", self.ends(page)))),
            None => Ok(()),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}

fn all(count: isize, bytes: usize) -> io::Result<()> {
    match count {
        -1 => Err(Error::last_os_error()),
        count if count as usize == bytes => Ok(()),
        count => Err(wrong(format!("{count} bytes of {bytes}"))),
    }
}

/// Does `work` for as long as another thread does `reads`.
fn beside(
    reads: impl FnOnce() -> io::Result<()> + Send,
    mut work: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let result = reads();
            done.store(true, Ordering::Release);
            result
        });
        let mut worked = Ok(());
        while worked.is_ok() && !done.load(Ordering::Acquire) {
            worked = work();
        }
        reader.join().map_err(|_| wrong("the reader panicked"))?.and(worked)
    })
}

/// What the device writes comes to the parent, and does not come to children made meanwhile.
fn beside_forks(folder: &Path) -> io::Result<()> {
    let file = marked_file(folder, "forks")?;
    let memory = Memory::private(BYTES)?;
    let reads = || {
        for round in 0..100 {
            memory.fill(0xee);
            memory.read_from(&file, 0)?;
            memory.check(0).map_err(|error| wrong(format!("round {round}: {error}")))?;
        }
        Ok(())
    };
    beside(reads, || {
        // SAFETY: the child only looks at memory and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let torn = (0..PAGES).any(|page| {
                let [first, last] = memory.ends(page);
                ![mark(page), 0xee, 0].contains(&first) || ![mark(page), 0xee, 0].contains(&last)
            });
            let before = memory.ends(PAGES / 2);
            for _ in 0..20 {
                std::hint::spin_loop();
            }
            let changed = before != memory.ends(PAGES / 2);
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(torn || changed)) };
        }
        let mut status = 0;
        // SAFETY: writes one int.
        if child < 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
            return Err(Error::last_os_error());
        }
        if status == 0 { Ok(()) } else { Err(wrong(format!("a child ended with {status:#x}"))) }
    })
}

/// A page that was given back meanwhile is zeros, or what was read, and nothing else; the file is what it was.
fn beside_memory_that_goes(folder: &Path) -> io::Result<()> {
    let file = marked_file(folder, "goes")?;
    let memory = Memory::private(BYTES)?;
    let reads = || {
        for _ in 0..60 {
            memory.read_from(&file, 0)?;
            let page = (0..PAGES)
                .find(|page| memory.ends(*page).iter().any(|byte| ![mark(*page), 0].contains(byte)));
            if let Some(page) = page {
                return Err(wrong(format!("page {page} has {:?}", memory.ends(page))));
            }
            memory.write_to(&file, BYTES)?;
        }
        Ok(())
    };
    beside(reads, || {
        for page in [0, 3, 100, 255] {
            // SAFETY: its pages become zeros, which the reader expects.
            unsafe { libc::madvise(memory.at.add(page * PAGE).cast(), PAGE, libc::MADV_DONTNEED) };
        }
        std::thread::yield_now();
        Ok(())
    })?;
    let again = Memory::private(BYTES)?;
    again.read_from(&file, 0)?;
    again.check(0)
}

fn kinds_of_memory(folder: &Path) -> io::Result<()> {
    let file = marked_file(folder, "kinds")?;
    let fresh = Memory::private(BYTES)?;
    fresh.read_from(&file, 0)?;
    fresh.check(0)?;
    // Pages of zeros that nobody has written are written out as such.
    Memory::private(2 * PAGE)?.write_to(&file, BYTES)?;
    let zeros = Memory::private(2 * PAGE)?;
    zeros.fill(1);
    zeros.read_from(&file, BYTES)?;
    if zeros.ends(0) != [0; 2] || zeros.ends(1) != [0; 2] {
        return Err(wrong("zeros are not"));
    }
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let shared = Memory::map(BYTES, libc::PROT_READ | libc::PROT_WRITE, shared, -1)?;
    shared.read_from(&file, 0)?;
    shared.check(0)?;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let read_only = Memory::map(PAGE, libc::PROT_READ, private, -1)?;
    let error = read_only.read_from(&file, 0).err().and_then(|error| error.raw_os_error());
    if error != Some(libc::EFAULT) {
        return Err(wrong(format!("reading into memory that may not be written: {error:?}")));
    }
    let inaccessible = Memory::map(PAGE, libc::PROT_NONE, private, -1)?;
    let error = inaccessible.write_to(&file, 0).err().and_then(|error| error.raw_os_error());
    if error != Some(libc::EFAULT) {
        return Err(wrong(format!("writing memory that may not be read: {error:?}")));
    }
    fresh.read_from(&file, 0)?;
    fresh.check(0)
}

/// Mappings of a file: what a device writes to their pages comes to that file's disk too.
fn memory_of_files(folder: &Path) -> io::Result<()> {
    let from = marked_file(folder, "from")?;
    let path = folder.join("to");
    let to = open(&path, 0)?;
    to.set_len(BYTES as u64)?;
    let mapped = Memory::map(BYTES, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, to.as_raw_fd())?;
    mapped.read_from(&from, 0)?;
    mapped.check(0)?;
    drop(mapped);
    to.sync_all()?;
    let direct = open(&path, libc::O_DIRECT)?;
    let memory = Memory::private(BYTES)?;
    memory.read_from(&direct, 0)?;
    memory.check(0)?;
    // From a private mapping of the file to another part of it.
    let private = Memory::map(BYTES, libc::PROT_READ, libc::MAP_PRIVATE, to.as_raw_fd())?;
    private.write_to(&direct, BYTES)?;
    memory.fill(0);
    memory.read_from(&direct, BYTES)?;
    memory.check(0)
}

/// One transfer, memory in several places.
fn pieces(folder: &Path) -> io::Result<()> {
    let file = marked_file(folder, "pieces")?;
    let parts = [Memory::private(3 * PAGE)?, Memory::private(PAGE)?, Memory::private(4 * PAGE)?];
    let vector = parts.each_ref().map(|part| libc::iovec { iov_base: part.at.cast(), iov_len: part.bytes });
    // SAFETY: each piece is as long as its memory.
    let count = unsafe { libc::preadv(file.as_raw_fd(), vector.as_ptr(), 3, 16 * PAGE as i64) };
    all(count, 8 * PAGE)?;
    parts[0].check(16)?;
    parts[1].check(19)?;
    parts[2].check(20)?;
    // SAFETY: as above.
    let count = unsafe { libc::pwritev(file.as_raw_fd(), vector.as_ptr(), 3, 0) };
    all(count, 8 * PAGE)?;
    let memory = Memory::private(8 * PAGE)?;
    memory.read_from(&file, 0)?;
    memory.check(16)
}
