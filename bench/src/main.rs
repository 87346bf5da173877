//! What the kernel's own work costs a program: small loops of system calls, timed by the program itself.
//!
//! `bench one [FILTER]…` prints `NAME<TAB>NANOSECONDS` for each operation; `bench scale [FILTER]…` prints `NAME<TAB>RATIO`, how
//! much more two independent processes do together than one alone; `bench memory` prints the KiB that programs cannot have
//! of 512 MiB; `bench boot` prints the kernel's own time, in milliseconds, at which it ran init. Each loop is grown until it takes long enough to be measured, then the median of five runs counts.
//! `bench sockets [FILTER]…` does the same as `one` for UNIX, netlink and UDP sockets; `bench netns [FILTER]…` is about network
//! namespaces (see `netns`), `bench disks FOLDER [FILTER]…` about files on a disk (see `disks`), `bench disk-growth FOLDER [FILTER]…` about
//! how that depends on sizes (see `disk_growth`).

mod disk_growth;
mod disks;
mod netns;
mod sockets;
mod work;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use work::{WORKS, Work};

/// A loop is long enough to be measured.
const LONG_ENOUGH: Duration = Duration::from_millis(60);
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, filters)) = arguments.split_first() else { return };
    let wanted =
        |work: &&Work| filters.is_empty() || filters.iter().any(|part| work.name.contains(part.as_str()));
    match command.as_str() {
        "true" => {}
        "boot" => {
            if let Some(milliseconds) = boot_milliseconds() {
                println!("boot\t{milliseconds:.1}");
            }
        }
        "memory" => println!("memory\t{}", 512 * 1024 - available_kib()),
        "one" => {
            for work in WORKS.iter().filter(wanted) {
                println!("{}\t{:.1}", work.name, measure(work));
            }
        }
        "sockets" => {
            let works = sockets::WORKS.iter().copied().chain(sockets::internet_works());
            for work in works.filter(|work| wanted(&work)) {
                println!("{}\t{:.1}", work.name, measure(&work));
            }
        }
        "disks" | "disk-growth" => {
            let (folder, filters) = filters.split_first().expect("bench disks FOLDER [FILTER]…");
            let wanted =
                |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()));
            let folder = std::path::Path::new(folder);
            let done = match command.as_str() {
                "disks" => disks::command(folder, wanted),
                _ => disk_growth::command(folder, wanted),
            };
            if let Err(error) = done {
                eprintln!("bench: {command}: {error}");
                std::process::exit(1);
            }
        }
        "netns" => netns::command(|name| {
            filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()))
        }),
        "scale" => {
            let scaling = WORKS.iter().filter(|work| work.scales).filter(wanted);
            for work in work::CEILINGS.iter().chain(scaling) {
                println!("{}\t{:.3}", work.name, scale(work));
            }
        }
        other => {
            eprintln!("bench: {other}: no such command");
            std::process::exit(2);
        }
    }
}

/// Nanoseconds for one operation.
fn measure(work: &Work) -> f64 {
    (work.prepare)();
    let mut count = 1u64;
    loop {
        let start = Instant::now();
        (work.run)(count);
        if start.elapsed() >= LONG_ENOUGH {
            break;
        }
        count *= 2;
    }
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (work.run)(count);
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// How much two processes do in the time in which one does 1, each bound to a processor of its own (with what it forks: else one alone
/// would use the second processor, too): the median of pairs, each measured close together, so that what
/// else the machine does falls on both sides.
fn scale(work: &Work) -> f64 {
    const PAIRS: usize = 7;
    let mut ratios: Vec<f64> = (0..PAIRS).map(|_| throughput(work, 2) / throughput(work, 1)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[PAIRS / 2]
}

/// What the processes of one measurement share.
#[repr(C)]
struct Shared {
    /// How many are ready.
    ready: AtomicU64,
    /// They may begin.
    go: AtomicU64,
    /// Operations in a second of all that have ended.
    per_second: AtomicU64,
}

/// Operations in a second, of so many processes together, which begin at the same moment and run for the same time.
fn throughput(work: &Work, processes: usize) -> f64 {
    const TIME: Duration = Duration::from_millis(200);
    const BATCH: Duration = Duration::from_millis(2);
    let memory = work::map_shared();
    // SAFETY: zeroed shared memory of a page is valid counters; it is unmapped after the last use.
    let shared = unsafe { &*memory.cast::<Shared>() };
    let children: Vec<i32> = (0..processes)
        .map(|number| {
            work::in_fork(|| {
                work::bind_to_cpu(number);
                (work.prepare)();
                let batch = batch(work, BATCH);
                shared.ready.fetch_add(1, Ordering::SeqCst);
                while shared.go.load(Ordering::SeqCst) == 0 {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                let mut done = 0;
                let mut passed = Duration::ZERO;
                while passed < TIME {
                    (work.run)(batch);
                    done += batch;
                    passed = start.elapsed();
                }
                shared.per_second.fetch_add((done as f64 / passed.as_secs_f64()) as u64, Ordering::SeqCst);
            })
        })
        .collect();
    while shared.ready.load(Ordering::SeqCst) < processes as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    shared.go.store(1, Ordering::SeqCst);
    children.into_iter().for_each(work::wait);
    let total = shared.per_second.load(Ordering::SeqCst) as f64;
    work::unmap_shared(memory);
    total
}

/// How often an operation is done between two looks at the clock, so that the clock does not count.
fn batch(work: &Work, at_least: Duration) -> u64 {
    let mut count = 1;
    loop {
        let start = Instant::now();
        (work.run)(count);
        if start.elapsed() >= at_least {
            return count;
        }
        count *= 2;
    }
}

/// `MemAvailable`.
fn available_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// When the kernel's log says that it ran init.
fn boot_milliseconds() -> Option<f64> {
    let path = c"/dev/kmsg";
    // SAFETY: a valid string.
    let log = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) };
    let mut record = [0u8; 8192];
    loop {
        // SAFETY: the buffer's own length.
        let count = unsafe { libc::read(log, record.as_mut_ptr().cast(), record.len()) };
        let text = record.get(..usize::try_from(count).ok()?)?;
        let text = String::from_utf8_lossy(text).to_lowercase();
        if text.contains("run /init as init process") {
            // "priority,number,microseconds,flags;text"
            return text.split(',').nth(2)?.parse::<f64>().ok().map(|microseconds| microseconds / 1000.0);
        }
        if count == 0 {
            return None;
        }
    }
}
