//! What happens when memory is short and there is swap space: `--swap CASE DEVICE…`.
//!
//! The cases are run by scripts of `tests/disks`, in a machine with little memory. Each makes the swap space it wants; the pattern that pages are filled with says which
//! page, of whom, and which round it was, so that a page that is lost, old or another's is seen.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;
const MADV_PAGEOUT: i32 = 21;
const PREFER: i32 = 0x8000;

/// Runs a case; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let Some((case, devices)) = arguments.split_first() else { return 2 };
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let run: fn(&[&str]) -> io::Result<()> = match case.as_str() {
        "basic" => basic,
        "errors" => errors,
        "twice" => twice,
        "fork" => forked,
        "threads" => threads,
        "off" => off_under_load,
        "none" => without,
        "shared" => shared,
        "locked" => locked,
        "priorities" => priorities,
        "remap" => remapped,
        "pressure" => pressure,
        "knobs" => knobs,
        "allocating" => allocating,
        _ => return 2,
    };
    match run(&devices) {
        Ok(()) => 0,
        Err(error) => {
            println!("swap {case}: {error}");
            1
        }
    }
}

fn ensure(condition: bool, what: impl Into<String>) -> io::Result<()> {
    if condition { Ok(()) } else { Err(Error::other(what.into())) }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// What mkswap(8) writes.
fn make(device: &str) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(device)?;
    let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
    let pages = size / PAGE as u64;
    let mut header = vec![0u8; PAGE];
    header[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&(pages as u32 - 1).to_ne_bytes());
    header[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    Ok(pages - 1)
}

fn swap_on(device: &str, flags: i32) -> io::Result<()> {
    let path = std::ffi::CString::new(device)?;
    // SAFETY: a string and a number.
    check(unsafe { libc::swapon(path.as_ptr(), flags) }).map(|_| ())
}

fn swap_off(device: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(device)?;
    // SAFETY: a string.
    check(unsafe { libc::swapoff(path.as_ptr()) }).map(|_| ())
}

/// A line of a file such as `/proc/meminfo`: the number after a name.
fn figure(file: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.split([':', ' ', '\t']).next() == Some(name));
    let number = line.and_then(|line| line[name.len()..].trim_start_matches(':').split_whitespace().next());
    number.and_then(|number| number.parse().ok()).ok_or_else(|| Error::other(format!("{file}: no {name}")))
}

fn swapped_kib() -> io::Result<u64> {
    figure("/proc/self/status", "VmSwap")
}

/// Pages mapped for a test.
#[derive(Copy, Clone)]
struct Area {
    start: *mut u64,
    pages: usize,
}

// SAFETY: threads that share one write to different pages, or only read.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    fn map(pages: usize, flags: i32) -> io::Result<Area> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), pages * PAGE, protection, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Area { start: start.cast(), pages })
    }

    fn private(pages: usize) -> io::Result<Area> {
        Area::map(pages, libc::MAP_PRIVATE)
    }

    /// Four words spread over each page.
    fn words(&self, page: usize) -> impl Iterator<Item = (usize, *mut u64)> + use<> {
        let start = self.start;
        [0, 100, 300, WORDS - 1].into_iter().map(move |word| {
            // SAFETY: within the mapping.
            (word, unsafe { start.add(page * WORDS + word) })
        })
    }

    fn fill_page(&self, page: usize, key: u64) {
        for (word, place) in self.words(page) {
            // SAFETY: within the mapping.
            unsafe { place.write_volatile(pattern(page, word, key)) };
        }
    }

    fn fill(&self, key: u64) {
        (0..self.pages).for_each(|page| self.fill_page(page, key));
    }

    fn check_page(&self, page: usize, key: u64) -> io::Result<()> {
        for (word, place) in self.words(page) {
            // SAFETY: within the mapping.
            let found = unsafe { place.read_volatile() };
            let expected = pattern(page, word, key);
            ensure(found == expected, format!("page {page}, word {word}: {found:#x}, not {expected:#x}"))?;
        }
        Ok(())
    }

    fn check(&self, key: u64) -> io::Result<()> {
        (0..self.pages).try_for_each(|page| self.check_page(page, key))
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: advice about the mapping.
        check(unsafe { libc::madvise(self.start.cast(), self.pages * PAGE, advice) }).map(|_| ())
    }

    fn resident(&self) -> io::Result<usize> {
        let mut bytes = vec![0u8; self.pages];
        // SAFETY: a byte for each page.
        check(unsafe { libc::mincore(self.start.cast(), self.pages * PAGE, bytes.as_mut_ptr()) })?;
        Ok(bytes.iter().filter(|byte| **byte & 1 != 0).count())
    }

    fn unmap(self) {
        // SAFETY: the mapping is not used any more.
        unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
    }
}

fn pattern(page: usize, word: usize, key: u64) -> u64 {
    (page as u64) << 32 ^ (word as u64) << 20 ^ key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Runs `body` in a child and gives its wait status.
fn child(body: impl FnOnce() -> io::Result<()>) -> io::Result<libc::pid_t> {
    // SAFETY: the child only runs `body` and exits.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        0 => {
            let result = body();
            if let Err(error) = &result {
                println!("child: {error}");
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        pid => Ok(pid),
    }
}

fn wait(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: a number goes to `status`.
    check(unsafe { libc::waitpid(pid, &mut status, 0) })?;
    Ok(status)
}

fn wait_well(pid: libc::pid_t) -> io::Result<()> {
    let status = wait(pid)?;
    ensure(status == 0, format!("a child ended with {status:#x}"))
}

/// Pages leave on advice and come back, and all the files of /proc agree.
fn basic(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 2048;
    let usable = make(devices[0])?;
    swap_on(devices[0], 0)?;
    ensure(figure("/proc/meminfo", "SwapTotal")? == usable * 4, "SwapTotal")?;
    let swaps = fs::read_to_string("/proc/swaps")?;
    let line: Vec<&str> = swaps.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure(line.len() == 5 && line[0] == devices[0] && line[1] == "partition", swaps.clone())?;
    ensure(line[2] == (usable * 4).to_string() && line[4].starts_with('-'), swaps)?;
    let area = Area::private(PAGES)?;
    area.fill(1);
    let (free, out) = (figure("/proc/meminfo", "SwapFree")?, figure("/proc/vmstat", "pswpout")?);
    area.advise(MADV_PAGEOUT)?;
    let swapped = swapped_kib()?;
    ensure(swapped >= PAGES as u64 * 4 * 9 / 10, format!("VmSwap is {swapped} kB"))?;
    ensure(free - figure("/proc/meminfo", "SwapFree")? >= swapped, "SwapFree")?;
    ensure(figure("/proc/vmstat", "pswpout")? - out >= swapped / 4, "pswpout")?;
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let sum: u64 = smaps
        .lines()
        .filter_map(|line| line.strip_prefix("Swap:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .sum();
    ensure(sum == swapped, format!("smaps say {sum} kB"))?;
    area.check(1)?;
    // What was not changed need not be written again.
    let out = figure("/proc/vmstat", "pswpout")?;
    area.advise(MADV_PAGEOUT)?;
    let again = figure("/proc/vmstat", "pswpout")? - out;
    ensure(
        swapped_kib()? >= swapped * 9 / 10 && again <= PAGES as u64 / 4,
        format!("{again} written again"),
    )?;
    (0..PAGES).step_by(2).for_each(|page| area.fill_page(page, 2));
    area.advise(MADV_PAGEOUT)?;
    (0..PAGES).try_for_each(|page| area.check_page(page, if page % 2 == 0 { 2 } else { 1 }))?;
    area.advise(MADV_PAGEOUT)?;
    swap_off(devices[0])?;
    ensure(swapped_kib()? == 0, "VmSwap after swapoff")?;
    ensure(figure("/proc/meminfo", "SwapTotal")? == 0, "SwapTotal after swapoff")?;
    (0..PAGES).try_for_each(|page| area.check_page(page, if page % 2 == 0 { 2 } else { 1 }))?;
    swap_on(devices[0], 0)?;
    area.advise(MADV_PAGEOUT)?;
    area.unmap();
    let used = figure("/proc/meminfo", "SwapTotal")? - figure("/proc/meminfo", "SwapFree")?;
    ensure(used < 1024, format!("{used} kB are used when the pages are gone"))?;
    swap_off(devices[0])
}

fn fails(result: io::Result<()>, expected: i32, what: &str) -> io::Result<()> {
    let found = result.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    ensure(found == expected, format!("{what}: {found}, not {expected}"))
}

fn errors(devices: &[&str]) -> io::Result<()> {
    let device = devices[0];
    fails(swap_on("/nowhere", 0), libc::ENOENT, "no file")?;
    fails(swap_on("/proc", 0), libc::EISDIR, "a folder")?;
    fails(swap_on("/dev/null", 0), libc::EINVAL, "a character device")?;
    fails(swap_on(device, 0), libc::EINVAL, "no header")?;
    fails(swap_on(device, 1 << 20), libc::EINVAL, "bad flags")?;
    fails(swap_off(device), libc::EINVAL, "not in use")?;
    let pages = make(device)? as u32 + 1;
    let file = OpenOptions::new().write(true).open(device)?;
    let alter =
        |at: u64, value: u32| file.write_all_at(&value.to_ne_bytes(), at).and_then(|()| file.sync_all());
    for (at, value, what) in
        [(1024, 2, "version"), (1028, 0, "no pages"), (1028, pages, "too many"), (1032, 700, "bad")]
    {
        make(device)?;
        alter(at, value)?;
        fails(swap_on(device, 0), libc::EINVAL, what)?;
    }
    // A bad page is left out.
    make(device)?;
    alter(1032, 1)?;
    alter(1536, 5)?;
    drop(file);
    swap_on(device, 0)?;
    ensure(figure("/proc/meminfo", "SwapTotal")? == u64::from(pages - 2) * 4, "a bad page counts")?;
    fails(swap_on(device, 0), libc::EBUSY, "twice")?;
    swap_off(device)?;
    fails(swap_off(device), libc::EINVAL, "twice off")?;
    make(device)?;
    wait_well(child(|| {
        // SAFETY: another user.
        check(unsafe { libc::setuid(1000) })?;
        fails(swap_on(device, 0), libc::EPERM, "anybody on")?;
        fails(swap_off(device), libc::EPERM, "anybody off")
    })?)
}

fn memory_pages() -> io::Result<usize> {
    Ok(figure("/proc/meminfo", "MemTotal")? as usize / 4)
}

/// A working set of twice the memory.
fn twice(devices: &[&str]) -> io::Result<()> {
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let area = Area::private(memory_pages()? * 2)?;
    let begun = Instant::now();
    let incoming = figure("/proc/vmstat", "pswpin")?;
    for round in 1..=2 {
        for page in 0..area.pages {
            if round > 1 {
                area.check_page(page, round - 1)?;
            }
            area.fill_page(page, round);
        }
        let (incoming, out) = (figure("/proc/vmstat", "pswpin")?, figure("/proc/vmstat", "pswpout")?);
        println!("round {round} after {:?}: {incoming} pages in, {out} out", begun.elapsed());
        let stat = fs::read_to_string("/proc/stat")?;
        println!("{}", stat.lines().next().unwrap_or_default());
    }
    println!("two rounds after {:?}", begun.elapsed());
    let stalled = pressure_total("memory", "some")?;
    ensure(stalled > 1000, format!("/proc/pressure/memory: {stalled} us"))?;
    ensure(area.resident()? < area.pages * 2 / 3, "more is resident than memory holds")?;
    let incoming = figure("/proc/vmstat", "pswpin")? - incoming;
    ensure(incoming as usize > area.pages / 2, format!("pswpin: {incoming}"))?;
    // At random, which no reading ahead helps.
    let mut at = 1usize;
    for _ in 0..500 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        area.check_page((at >> 33) % area.pages, 2)?;
    }
    area.unmap();
    swap_off(devices[0])
}

/// Pages that a parent and its children share, in swap space.
fn forked(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 1024;
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let area = Area::private(PAGES)?;
    area.fill(1);
    area.advise(MADV_PAGEOUT)?;
    let mut children = Vec::new();
    for number in 0..4 {
        children.push(child(|| {
            for page in (number..PAGES).step_by(3) {
                area.check_page(page, 1)?;
                area.fill_page(page, 10 + number as u64);
            }
            area.advise(MADV_PAGEOUT)?;
            for page in 0..PAGES {
                let own = page >= number && (page - number) % 3 == 0;
                area.check_page(page, if own { 10 + number as u64 } else { 1 })?;
            }
            Ok(())
        })?);
        if number == 1 {
            (0..PAGES).step_by(5).for_each(|page| area.fill_page(page, 2));
            area.advise(MADV_PAGEOUT)?;
            (0..PAGES).step_by(5).for_each(|page| area.fill_page(page, 1));
        }
    }
    children.into_iter().try_for_each(wait_well)?;
    area.check(1)?;
    area.unmap();
    let used = figure("/proc/meminfo", "SwapTotal")? - figure("/proc/meminfo", "SwapFree")?;
    ensure(used < 1024, format!("{used} kB are used in the end"))?;
    swap_off(devices[0])
}

/// Many threads want the same page.
fn threads(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 512;
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let area = Area::private(PAGES)?;
    for round in 1..=5 {
        area.fill(round);
        area.advise(MADV_PAGEOUT)?;
        let results: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|number: usize| {
                    scope.spawn(move || {
                        let area = area;
                        for step in 0..PAGES {
                            // All begin at the same page, half of them go the other way round.
                            let page = if number.is_multiple_of(2) { step } else { (PAGES - step) % PAGES };
                            area.check_page(page, round)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            all.into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::other("a panic"))))
                .collect()
        });
        results.into_iter().collect::<io::Result<()>>()?;
    }
    area.unmap();
    swap_off(devices[0])
}

/// Swap space comes and goes while it is used.
fn off_under_load(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 1000;
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let stop = Area::map(1, libc::MAP_SHARED)?;
    // SAFETY: the mapping is shared by the children; a flag of it is an atomic word.
    let flag: &AtomicBool = unsafe { AtomicBool::from_ptr(stop.start.cast()) };
    let mut children = Vec::new();
    for number in 0..3u64 {
        children.push(child(|| {
            let area = Area::private(PAGES)?;
            let mut round = 1;
            area.fill(round ^ number << 32);
            while !flag.load(Ordering::Relaxed) {
                for page in 0..PAGES {
                    area.check_page(page, round ^ number << 32)?;
                    area.fill_page(page, (round + 1) ^ number << 32);
                    if page % 300 == 0 {
                        area.advise(MADV_PAGEOUT)?;
                    }
                }
                round += 1;
                if round % 3 == 0 {
                    wait_well(child(|| area.check(round ^ number << 32))?)?;
                }
            }
            area.check(round ^ number << 32)
        })?);
    }
    let end = Instant::now() + Duration::from_secs(10);
    let mut times = 0;
    while Instant::now() < end || times < 3 {
        std::thread::sleep(Duration::from_millis(200));
        swap_off(devices[0])?;
        swap_on(devices[0], 0)?;
        times += 1;
    }
    flag.store(true, Ordering::Relaxed);
    children.into_iter().try_for_each(wait_well)?;
    swap_off(devices[0])
}

/// Without swap space the one who takes everything is killed, and nobody else.
fn without(_devices: &[&str]) -> io::Result<()> {
    let modest = Area::private(1000)?;
    modest.fill(7);
    let pages = memory_pages()? * 2;
    let greedy = child(|| {
        fs::write("/proc/self/oom_score_adj", "0")?;
        let area = Area::map(pages, libc::MAP_PRIVATE | libc::MAP_NORESERVE)?;
        area.fill(1);
        area.check(1)
    })?;
    let status = wait(greedy)?;
    ensure(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, format!("{status:#x}"))?;
    modest.check(7)
}

/// Memory that is shared, and files in memory, larger than what there is.
fn shared(devices: &[&str]) -> io::Result<()> {
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let pages = memory_pages()? * 3 / 2;
    let area = Area::map(pages, libc::MAP_SHARED)?;
    area.fill(3);
    wait_well(child(|| area.check(3))?)?;
    (0..pages).step_by(2).for_each(|page| area.fill_page(page, 4));
    wait_well(child(|| {
        (0..pages).try_for_each(|page| area.check_page(page, if page % 2 == 0 { 4 } else { 3 }))
    })?)?;
    area.unmap();
    fs::create_dir_all("/swap-tmp")?;
    let (kind, target) = (c"tmpfs".as_ptr(), c"/swap-tmp".as_ptr());
    let options = c"size=300%".as_ptr().cast();
    // SAFETY: strings that end with NUL.
    check(unsafe { libc::mount(kind, target, kind, 0, options) })?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open("/swap-tmp/x")?;
    let bytes = |page: usize| (page as u64).wrapping_mul(0x9e37_79b9).to_ne_bytes().repeat(WORDS);
    for page in 0..pages {
        file.write_all_at(&bytes(page), (page * PAGE) as u64)?;
    }
    let mut buffer = vec![0; PAGE];
    for page in 0..pages {
        file.read_exact_at(&mut buffer, (page * PAGE) as u64)?;
        ensure(buffer == bytes(page), format!("page {page} of the file"))?;
    }
    use std::os::unix::fs::MetadataExt;
    ensure(file.metadata()?.blocks() == pages as u64 * 8, "blocks")?;
    file.set_len((pages * PAGE / 2) as u64)?;
    file.set_len((pages * PAGE) as u64)?;
    file.read_exact_at(&mut buffer, ((pages / 2 + 1) * PAGE) as u64)?;
    ensure(buffer.iter().all(|byte| *byte == 0), "what was cut off is back")?;
    file.read_exact_at(&mut buffer, 5 * PAGE as u64)?;
    ensure(buffer == bytes(5), "page 5 after the cut")?;
    drop(file);
    fs::remove_file("/swap-tmp/x")?;
    // SAFETY: a string that ends with NUL.
    check(unsafe { libc::umount2(target, 0) })?;
    let used = figure("/proc/meminfo", "SwapTotal")? - figure("/proc/meminfo", "SwapFree")?;
    ensure(used < figure("/proc/meminfo", "SwapTotal")? / 4, format!("{used} kB are used in the end"))?;
    swap_off(devices[0])
}

/// Locked pages stay, whatever happens.
fn locked(devices: &[&str]) -> io::Result<()> {
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let area = Area::private(500)?;
    area.fill(5);
    area.advise(MADV_PAGEOUT)?;
    // SAFETY: the mapping.
    check(unsafe { libc::mlock(area.start.cast(), area.pages * PAGE) })?;
    ensure(area.resident()? == area.pages, "mlock brings pages back")?;
    let large = Area::private(memory_pages()? * 3 / 2)?;
    large.fill(6);
    ensure(area.resident()? == area.pages, "locked pages have left")?;
    area.check(5)?;
    large.check(6)?;
    large.unmap();
    area.unmap();
    swap_off(devices[0])
}

fn used_of(device: &str) -> io::Result<u64> {
    let swaps = fs::read_to_string("/proc/swaps")?;
    let line = swaps.lines().find(|line| line.starts_with(device));
    let used = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    used.ok_or_else(|| Error::other(format!("{device} is not in /proc/swaps")))
}

/// The higher priority is filled first, equals together.
fn priorities(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 1500;
    let [low, high] = devices else { return Err(Error::other("two devices")) };
    make(low)?;
    make(high)?;
    swap_on(low, PREFER | 3)?;
    swap_on(high, PREFER | 9)?;
    let area = Area::private(PAGES)?;
    area.fill(1);
    area.advise(MADV_PAGEOUT)?;
    ensure(used_of(low)? == 0 && used_of(high)? >= PAGES as u64 * 3, "the higher one comes first")?;
    swap_off(high)?;
    area.check(1)?;
    area.advise(MADV_PAGEOUT)?;
    swap_off(low)?;
    swap_on(low, PREFER | 5)?;
    swap_on(high, PREFER | 5)?;
    area.advise(MADV_PAGEOUT)?;
    let (one, other) = (used_of(low)?, used_of(high)?);
    ensure(one > 500 && other > 500, format!("equals take turns: {one} kB, {other} kB"))?;
    area.check(1)?;
    area.unmap();
    swap_off(low)?;
    swap_off(high)
}

/// Pages that are away keep their contents when their mapping moves, is protected, or comes from a file.
fn remapped(devices: &[&str]) -> io::Result<()> {
    const PAGES: usize = 700;
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let area = Area::private(PAGES)?;
    area.fill(1);
    area.advise(MADV_PAGEOUT)?;
    // SAFETY: the mapping moves; it is used at its new place only.
    let moved =
        unsafe { libc::mremap(area.start.cast(), PAGES * PAGE, 2 * PAGES * PAGE, libc::MREMAP_MAYMOVE) };
    ensure(moved != libc::MAP_FAILED, "mremap")?;
    let moved = Area { start: moved.cast(), pages: PAGES };
    // SAFETY: the mapping.
    check(unsafe { libc::mprotect(moved.start.cast(), PAGES * PAGE, libc::PROT_NONE) })?;
    // SAFETY: the mapping.
    check(unsafe { libc::mprotect(moved.start.cast(), PAGES * PAGE, libc::PROT_READ) })?;
    moved.check(1)?;
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    moved.advise(MADV_PAGEOUT)?;
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, moved.start as u64 + 5 * PAGE as u64)?;
    ensure(u64::from_ne_bytes(word) == pattern(5, 0, 1), "/proc/self/mem")?;
    moved.advise(libc::MADV_DONTNEED)?;
    // SAFETY: within the mapping.
    ensure((0..PAGES).all(|page| unsafe { *moved.start.add(page * WORDS) } == 0), "MADV_DONTNEED")?;
    // Private copies of a file's pages.
    let own = File::open("/proc/self/exe")?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    use std::os::fd::AsRawFd;
    // SAFETY: a new mapping.
    let copy = unsafe {
        libc::mmap(std::ptr::null_mut(), 32 * PAGE, protection, libc::MAP_PRIVATE, own.as_raw_fd(), 0)
    };
    ensure(copy != libc::MAP_FAILED, "mmap")?;
    let copy = Area { start: copy.cast(), pages: 32 };
    (0..32).step_by(2).for_each(|page| copy.fill_page(page, 8));
    copy.advise(MADV_PAGEOUT)?;
    (0..32).step_by(2).try_for_each(|page| copy.check_page(page, 8))?;
    let mut page = vec![0; PAGE];
    own.read_exact_at(&mut page, 3 * PAGE as u64)?;
    // SAFETY: within the mapping.
    let there = unsafe { std::slice::from_raw_parts(copy.start.add(3 * WORDS).cast::<u8>(), PAGE) };
    ensure(there == page, "a page of the file between copies")?;
    swap_off(devices[0])
}

/// The total of a line of `/proc/pressure`, microseconds.
fn pressure_total(resource: &str, line: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}"))?;
    let line = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(" avg10="));
    let total = line.and_then(|line| line.rsplit_once(" total=")?.1.parse().ok());
    total.ok_or_else(|| Error::other(format!("{resource}: {text}")))
}

/// Keeps `count` threads busy for a while.
fn spin(count: usize, time: Duration) {
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(move || while Instant::now() < end {});
        }
    });
}

/// What waiting costs is told, and triggers tell when it is too much.
fn pressure(devices: &[&str]) -> io::Result<()> {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    for resource in ["cpu", "io", "memory"] {
        let text = fs::read_to_string(format!("/proc/pressure/{resource}"))?;
        ensure(text.lines().count() == 2, text.clone())?;
        for (line, name) in text.lines().zip(["some", "full"]) {
            let words: Vec<&str> = line.split(' ').collect();
            ensure(words.len() == 5 && words[0] == name, line)?;
            for (word, start) in words[1..].iter().zip(["avg10=", "avg60=", "avg300=", "total="]) {
                ensure(word.starts_with(start), line)?;
            }
        }
    }
    // SAFETY: asks for a number.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) } as usize;
    let before = pressure_total("cpu", "some")?;
    spin(cpus * 2, Duration::from_secs(2));
    let lost = pressure_total("cpu", "some")? - before;
    ensure((800_000..4_000_000).contains(&lost), format!("cpu: {lost} us in 2 s"))?;
    ensure(pressure_total("cpu", "full")? == 0, "all wait for a CPU")?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(devices[0])?;
    let before = [pressure_total("io", "some")?, pressure_total("io", "full")?];
    let area = Area::private(16)?;
    let end = Instant::now() + Duration::from_secs(1);
    let mut at = 0;
    while Instant::now() < end {
        // SAFETY: 64 KiB of the mapping.
        let read = unsafe { libc::pread(file.as_raw_fd(), area.start.cast(), 16 * PAGE, at) };
        ensure(read == 16 * PAGE as isize, "reading the device")?;
        at = (at + 16 * PAGE as i64) % (8 << 20);
    }
    let lost = [pressure_total("io", "some")? - before[0], pressure_total("io", "full")? - before[1]];
    ensure(lost[0] >= lost[1] && lost[1] > 1000, format!("io: {lost:?} us in 1 s"))?;
    let make = |text: &str| -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).write(true).open("/proc/pressure/cpu")?;
        file.write_all(format!("{text}\0").as_bytes())?;
        Ok(file)
    };
    for text in ["some 1000 11000000", "some 0 1000000", "some 2000000 1000000", "any 1000 1000000", "some 1"]
    {
        fails(make(text).map(|_| ()), libc::EINVAL, text)?;
    }
    let mut trigger = make("some 200000 1000000")?;
    fails(trigger.write_all(b"some 200000 1000000\0"), libc::EBUSY, "a second trigger")?;
    let poll = |timeout: i32| -> io::Result<i16> {
        let mut entry = libc::pollfd { fd: trigger.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        // SAFETY: one entry.
        check(unsafe { libc::poll(&mut entry, 1, timeout) })?;
        Ok(entry.revents)
    };
    let spinner = std::thread::spawn(move || spin(cpus * 2, Duration::from_secs(4)));
    let fired = poll(6000)?;
    let _ = spinner.join();
    ensure(fired == libc::POLLPRI, format!("the trigger: {fired:#x}"))?;
    let plain = File::open("/proc/pressure/cpu")?;
    let mut entry = libc::pollfd { fd: plain.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: one entry.
    check(unsafe { libc::poll(&mut entry, 1, 0) })?;
    ensure(entry.revents == libc::POLLPRI | libc::POLLERR, format!("no trigger: {:#x}", entry.revents))
}

/// Settings below `/proc/sys/vm`: what they take, and what can be seen of them.
fn knobs(devices: &[&str]) -> io::Result<()> {
    let set = |name: &str, value: &str| fs::write(format!("/proc/sys/vm/{name}"), value);
    let get =
        |name: &str| fs::read_to_string(format!("/proc/sys/vm/{name}")).map(|text| text.trim().to_owned());
    let cases = [
        ("swappiness", &["0", "60", "200"][..], &["201", "-1", "x"][..]),
        ("page-cluster", &["0", "5", "3"], &["-1", "32"]),
        ("panic_on_oom", &["0"], &["3", "-1"]),
        ("watermark_scale_factor", &["1", "3000", "10"], &["0", "3001"]),
        ("vfs_cache_pressure", &["0", "200", "100"], &["-1"]),
        ("oom_kill_allocating_task", &["1", "0"], &["x"]),
    ];
    for (name, good, bad) in cases {
        let before = get(name)?;
        for value in good {
            set(name, value)?;
            ensure(get(name)? == *value, format!("{name} is {} after {value}", get(name)?))?;
        }
        for value in bad {
            fails(set(name, value), libc::EINVAL, &format!("{name} {value}"))?;
        }
        set(name, &before)?;
    }
    set("overcommit_kbytes", "100000")?;
    ensure(get("overcommit_ratio")? == "0", "the ratio counts no more")?;
    let limit = figure("/proc/meminfo", "CommitLimit")?;
    make(devices[0])?;
    swap_on(devices[0], 0)?;
    let total = figure("/proc/meminfo", "SwapTotal")?;
    ensure(limit == 100_000, format!("CommitLimit {limit}"))?;
    ensure(figure("/proc/meminfo", "CommitLimit")? == limit + total, "CommitLimit with swap space")?;
    set("overcommit_memory", "2")?;
    let result = Area::private((limit + total) as usize / 4);
    set("overcommit_memory", "0")?;
    ensure(result.is_err(), "more than CommitLimit")?;
    set("overcommit_ratio", "50")?;
    ensure(get("overcommit_kbytes")? == "0", "the ratio counts again")?;
    swap_off(devices[0])
}

/// With `vm.oom_kill_allocating_task` who finds no memory is killed, though another has more.
fn allocating(_devices: &[&str]) -> io::Result<()> {
    let pages = figure("/proc/meminfo", "MemAvailable")? as usize / 4;
    let (parent, large) = (Area::map(1, libc::MAP_SHARED)?, pages * 6 / 10);
    parent.fill_page(0, 0);
    let holder = child(|| {
        fs::write("/proc/self/oom_score_adj", "0")?;
        let area = Area::private(large)?;
        area.fill(1);
        parent.fill_page(0, 1);
        while parent.check_page(0, 1).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        area.check(1)
    })?;
    while parent.check_page(0, 1).is_err() {
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::write("/proc/sys/vm/oom_kill_allocating_task", "1")?;
    let greedy = child(|| {
        fs::write("/proc/self/oom_score_adj", "0")?;
        let area = Area::map(pages, libc::MAP_PRIVATE | libc::MAP_NORESERVE)?;
        area.fill(1);
        area.check(1)
    })?;
    let status = wait(greedy)?;
    fs::write("/proc/sys/vm/oom_kill_allocating_task", "0")?;
    parent.fill_page(0, 2);
    wait_well(holder)?;
    ensure(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, format!("{status:#x}"))
}
