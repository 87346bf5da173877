//! Random system calls: whatever a program does, the machine goes on, and gets back what the program had.
//!
//! A round is a child process with a few threads. Each thread makes calls from [`calls::CALLS`], with arguments of the kinds that the
//! call takes most of the time and of any kind else: descriptors of every kind of file, memory that is mapped, not, or half, paths that
//! exist or lead nowhere. A timer interrupts what waits, and `SIGKILL` ends the round at a moment nobody chose. Children have no privilege
//! or a harmless part of it, live in a folder of a small tmpfs, and cannot leave it.
//!
//! Everything follows from one seed, up to what threads do to each other. `--seed=N` repeats; the program prints the seed of a failure.

use crate::calls::{self, Call};
use crate::case::{Case, Failure, Outcome, SEED, long_case, only_long_case};
use crate::elf::Random;
use crate::ensure;
use crate::sys::{self, call};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The cases of this file.
pub const CASES: &[Case] =
    &[long_case("fuzz_system_calls", 120, short), only_long_case("fuzz_system_calls_long", 7200, long)];

const NOBODY: u32 = 65534;
/// Who has some privileges.
const SOMEBODY: u32 = 65533;
/// Pages of the memory that calls are pointed at; of every 16 the last 4 are missing or protected.
const ARENA_PAGES: usize = 64;
const PAGE: usize = 4096;

/// Calls that no child makes: they end its thread at once, and what ends otherwise is enough.
const NEVER: [i64; 4] = [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_reboot];
/// Calls that a child with privileges does not make: they reach what the runner needs.
const NEVER_PRIVILEGED: [i64; 9] = [
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_syslog,
    libc::SYS_sync,
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
];

fn short() -> Outcome {
    campaign(Duration::from_secs(12))
}

fn long() -> Outcome {
    campaign(Duration::from_secs(3600))
}

/// `MemAvailable`, in KiB.
fn available_kib() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_err(|_| Failure::Wrong(format!("MemAvailable: {line}")))
}

/// Lets the machine come to rest and drop its caches.
fn settle() {
    for _ in 0..3 {
        // Needs privilege, and not every kernel has it.
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
        sys::sleep_ms(200);
    }
}

/// Rounds for as long as that, and a look at the machine before and after.
fn campaign(time: Duration) -> Outcome {
    let seed = SEED.load(Ordering::Relaxed);
    let dir = sys::folder("fuzz")?;
    mount(&dir, c"tmpfs", c"size=8m,nr_inodes=500,mode=777")?;
    let shared = Shared::new()?;
    let mut random = Random(seed | 1);
    // What the first use of everything leaves behind is not a leak.
    for _ in 0..20 {
        round(&dir, &mut random, shared)?;
    }
    sweep(&dir)?;
    settle();
    let before = available_kib()?;
    let (start, mut rounds) = (Instant::now(), 20);
    while start.elapsed() < time {
        round(&dir, &mut random, shared)?;
        rounds += 1;
    }
    sweep(&dir)?;
    let after = settled_memory(before)?;
    // SAFETY: a C string.
    let gone = unsafe { libc::umount2(sys::c(&dir).as_ptr(), libc::MNT_DETACH) };
    let error = std::io::Error::last_os_error();
    ensure!(
        gone == 0,
        "seed {seed}: umount {dir}: {error}; mounts:\n{}",
        std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
    );
    let status = std::process::Command::new("/bin/true").status().map_err(|e| e.to_string())?;
    ensure!(status.success(), "/bin/true: {status}");
    let made = shared.made.load(Ordering::Relaxed);
    println!("fuzz: seed {seed}: {rounds} rounds, {made} calls, MemAvailable {before} -> {after} KiB");
    ensure!(after + before / 50 >= before, "seed {seed}: MemAvailable {before} -> {after} KiB");
    ensure!(made > 1000, "only {made} calls in {rounds} rounds");
    Ok(())
}

/// `MemAvailable` when it is (nearly) back, or after a few seconds.
fn settled_memory(before: u64) -> Result<u64, Failure> {
    let start = Instant::now();
    loop {
        settle();
        let after = available_kib()?;
        if after + before / 100 >= before || start.elapsed() > Duration::from_secs(10) {
            return Ok(after);
        }
    }
}

fn mount(dir: &str, kind: &std::ffi::CStr, options: &std::ffi::CStr) -> Outcome {
    let place = sys::c(dir);
    // SAFETY: C strings.
    let done =
        unsafe { libc::mount(c"none".as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    ensure!(done == 0, "mount {dir}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Ends every process of the two users and empties the folder.
fn sweep(dir: &str) -> Outcome {
    for user in [NOBODY, SOMEBODY] {
        // A process that is forking at that moment is met by the next one.
        for _ in 0..3 {
            sys::wait(sys::fork(|| {
                // SAFETY: numbers only. The last words of this process: it is of the user, too.
                unsafe {
                    libc::setresuid(user, user, user);
                    libc::kill(-1, libc::SIGKILL);
                }
                0
            })?)?;
        }
    }
    for entry in std::fs::read_dir(dir).map_err(|e| e.to_string())?.flatten() {
        let path = entry.path();
        let _ = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
    }
    Ok(())
}

/// One child: starts, rages, is killed.
fn round(dir: &str, random: &mut Random, shared: &'static Shared) -> Outcome {
    let seed = random.next() | 1;
    let life_ms = 20 + random.next() % 200;
    let child = sys::fork(|| rage(dir, seed, shared))?;
    let start = Instant::now();
    let mut status = 0;
    // SAFETY: one int; numbers.
    unsafe {
        while libc::waitpid(child, &raw mut status, libc::WNOHANG) == 0 {
            if start.elapsed().as_millis() as u64 > life_ms {
                libc::kill(child, libc::SIGKILL);
            }
            ensure!(
                start.elapsed().as_secs() < 60,
                "child of seed {seed} does not die: {}, {}",
                threads_of(child),
                shared.text()
            );
            sys::sleep_ms(5);
        }
    }
    // Every now and then what escaped (a new session, orphans) is ended, too.
    if random.next().is_multiple_of(16) { sweep(dir) } else { Ok(()) }
}

/// What the children tell: how many calls they have made, and each thread's last one (number and arguments).
struct Shared {
    made: AtomicUsize,
    last: [[AtomicUsize; 7]; 8],
}

impl Shared {
    fn new() -> Result<&'static Shared, Failure> {
        let place: *const AtomicUsize = sys::map_shared_counter()?;
        // SAFETY: a whole page of zeros, shared and never unmapped; a `Shared` is less and may be all zeros.
        Ok(unsafe { &*place.cast() })
    }

    fn note(&self, thread: usize, number: i64, arguments: &[usize; 6]) {
        let slot = &self.last[thread % 8];
        slot[0].store(number as usize, Ordering::Relaxed);
        for (to, from) in slot[1..].iter().zip(arguments) {
            to.store(*from, Ordering::Relaxed);
        }
    }

    /// The last calls, for a report.
    fn text(&self) -> String {
        let last = self.last.iter().map(|slot| {
            let words: Vec<usize> = slot.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            let name =
                calls::CALLS.iter().find(|(_, number, _)| *number == words[0] as i64).map(|(name, ..)| name);
            format!("{}({:x?}) ", name.unwrap_or(&"?"), &words[1..])
        });
        last.collect()
    }
}

/// What the threads of a process are doing.
fn threads_of(process: i32) -> String {
    let folders = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let text = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    folders
        .map(|folder| {
            let stat = text(folder.path().join("stat"));
            format!("[{}]", stat.split(' ').take(3).collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// What a round works with.
struct Toys {
    arena: usize,
    descriptors: Vec<usize>,
    privileged: bool,
    thread: usize,
    shared: &'static Shared,
}

/// The child.
fn rage(dir: &str, seed: u64, shared: &'static Shared) -> i32 {
    let mut random = Random(seed);
    let privileged = random.next().is_multiple_of(4);
    let Ok(toys) = prepare(dir, privileged, shared) else { return 1 };
    let threads = 1 + random.next() % 4;
    for thread in 1..threads as usize {
        let seed = random.next() | 1;
        let toys = Toys { descriptors: toys.descriptors.clone(), thread, ..toys };
        let _ = std::thread::Builder::new().stack_size(64 << 10).spawn(move || calls_forever(&toys, seed));
    }
    calls_forever(&toys, random.next() | 1)
}

extern "C" fn nothing(_: i32) {}

/// Gives privileges up, closes what is the runner's, opens the toys.
fn prepare(dir: &str, privileged: bool, shared: &'static Shared) -> Result<Toys, Failure> {
    // SAFETY: numbers, C strings, structures on this stack; one thread.
    unsafe {
        libc::setpgid(0, 0);
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        // What a privileged child mounts and unmounts, its root among them, is its own affair.
        sys::ok("unshare", libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_PRIVATE | libc::MS_REC;
        let none = std::ptr::null();
        sys::ok("private", libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        let descriptors = open_toys(dir)?;
        let place = sys::c(dir);
        sys::ok("chroot", libc::chroot(place.as_ptr()))?;
        sys::ok("chdir", libc::chdir(c"/".as_ptr()))?;
        limit();
        if privileged {
            libc::prctl(libc::PR_SET_KEEPCAPS, 1);
        }
        let user = if privileged { SOMEBODY } else { NOBODY };
        libc::setgroups(0, std::ptr::null());
        libc::setresgid(user, user, user);
        sys::ok("setresuid", libc::setresuid(user, user, user))?;
        if privileged {
            // CAP_IPC_LOCK, CAP_SYS_ADMIN: those that do not reach the runner's own files and processes.
            let some = 1u32 << 14 | 1 << 21;
            let (header, sets) = ([0x2008_0522u32, 0], [some, some, 0, 0, 0, 0]);
            libc::syscall(libc::SYS_capset, &raw const header, &raw const sets);
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let often = libc::timeval { tv_sec: 0, tv_usec: 3000 };
        let timer = libc::itimerval { it_interval: often, it_value: often };
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0);
        Ok(Toys { arena: arena()?, descriptors, privileged, shared, thread: 0 })
    }
}

/// What a child may take at most.
fn limit() {
    let limits = [
        (libc::RLIMIT_NPROC, 60),
        (libc::RLIMIT_NOFILE, 256),
        (libc::RLIMIT_FSIZE, 4 << 20),
        (libc::RLIMIT_AS, 512 << 20),
        (libc::RLIMIT_DATA, 32 << 20),
        (libc::RLIMIT_CORE, 0),
    ];
    for (resource, value) in limits {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: one rlimit.
        unsafe { libc::setrlimit(resource, &raw const limit) };
    }
}

/// A descriptor of every kind.
fn open_toys(dir: &str) -> Result<Vec<usize>, Failure> {
    let mut all: Vec<i32> = Vec::new();
    // SAFETY: C strings and numbers, an array for two descriptors.
    unsafe {
        for (path, flags) in [
            (c"/dev/null", libc::O_RDWR),
            (c"/dev/zero", libc::O_RDWR),
            (c"/dev/full", libc::O_RDWR),
            (c"/dev/urandom", libc::O_RDONLY),
            (c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY),
            (c"/proc/self/maps", libc::O_RDONLY),
            (c"/proc/self/mem", libc::O_RDWR),
            (c"/proc/self", libc::O_RDONLY),
            (c"/proc/self/fd", libc::O_RDONLY),
            (c"/proc/self/status", libc::O_PATH),
            (c"/proc/meminfo", libc::O_RDONLY),
            (c"/sys", libc::O_RDONLY),
        ] {
            all.push(libc::open(path.as_ptr(), flags));
        }
        for (name, flags) in [("f", libc::O_RDWR | libc::O_CREAT), (".", libc::O_RDONLY)] {
            all.push(libc::open(sys::c(&format!("{dir}/{name}")).as_ptr(), flags, 0o666));
        }
        let mut ends = [0; 2];
        libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK);
        all.extend(ends);
        libc::pipe2(ends.as_mut_ptr(), 0);
        all.extend(ends);
        all.push(libc::eventfd(3, 0));
        all.push(libc::epoll_create1(0));
        all.push(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0));
        all.push(libc::memfd_create(c"toy".as_ptr(), 0));
        let mask = [u64::MAX; 1];
        all.push(libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8, 0) as i32);
        all.push(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32);
        // The slave of the terminal, if there is one.
        let mut number = 0i32;
        libc::ioctl(all[4], libc::TIOCSPTLCK, &raw const number);
        if libc::ioctl(all[4], libc::TIOCGPTN, &raw mut number) == 0 {
            let slave = sys::c(&format!("/dev/pts/{number}"));
            all.push(libc::open(slave.as_ptr(), libc::O_RDWR | libc::O_NOCTTY));
        }
    }
    Ok(all.into_iter().filter(|fd| *fd >= 0).map(|fd| fd as usize).collect())
}

/// The memory that calls are pointed at.
fn arena() -> Result<usize, Failure> {
    let start = sys::map(ARENA_PAGES * PAGE, libc::PROT_READ | libc::PROT_WRITE)? as usize;
    // SAFETY: our own mapping.
    unsafe {
        for page in (0..ARENA_PAGES).filter(|page| page % 16 == 12) {
            libc::munmap((start + page * PAGE) as *mut _, 2 * PAGE);
            libc::mprotect((start + (page + 2) * PAGE) as *mut _, PAGE, libc::PROT_NONE);
            libc::mprotect((start + (page + 3) * PAGE) as *mut _, PAGE, libc::PROT_READ);
        }
    }
    Ok(start)
}

/// What every thread does until it is killed.
fn calls_forever(toys: &Toys, seed: u64) -> i32 {
    let mut random = Random(seed);
    loop {
        let &(_, number, kinds) = &calls::CALLS[random.next() as usize % calls::CALLS.len()];
        if NEVER.contains(&number) || toys.privileged && NEVER_PRIVILEGED.contains(&number) {
            continue;
        }
        one(toys, &mut random, (number, kinds));
        toys.shared.made.fetch_add(1, Ordering::Relaxed);
    }
}

/// One call; a copy of this process that it makes ends at once or rages on for a moment.
fn one(toys: &Toys, random: &mut Random, (number, kinds): (i64, &str)) {
    let mut arguments = [0; 6];
    for (argument, kind) in arguments.iter_mut().zip(kinds.chars().chain(std::iter::repeat('?'))) {
        let kind = if random.next().is_multiple_of(12) { '?' } else { kind };
        *argument = value(toys, random, kind);
    }
    match number {
        // A child with a stack of nowhere dies at once; one that shares our stack would kill us both.
        libc::SYS_clone => arguments[0] &= !(libc::CLONE_VM as usize),
        libc::SYS_clone3 => return clone3(toys, random),
        libc::SYS_vfork => return,
        libc::SYS_prctl if arguments[0] == libc::PR_SET_SECCOMP as usize => return,
        _ => {}
    }
    // SAFETY: thread identity: a process that was copied has another one.
    let before = unsafe { libc::getpid() };
    toys.shared.note(toys.thread, number, &arguments);
    let result = call(number, arguments);
    // SAFETY: numbers only.
    unsafe {
        if result == 0 && libc::getpid() != before {
            let toys = &Toys { descriptors: toys.descriptors.clone(), thread: toys.thread + 4, ..*toys };
            let calls = random.next() % 30;
            for _ in 0..calls {
                let (_, number, kinds): Call = calls::CALLS[random.next() as usize % calls::CALLS.len()];
                if ![libc::SYS_fork, libc::SYS_clone, libc::SYS_clone3, libc::SYS_vfork].contains(&number)
                    && !NEVER.contains(&number)
                {
                    one(toys, random, (number, kinds));
                }
            }
            libc::_exit(0);
        }
    }
}

/// clone3(2) with a structure that is nearly right.
fn clone3(toys: &Toys, random: &mut Random) {
    let flags = [0, libc::CLONE_FILES, libc::CLONE_FS, libc::CLONE_PARENT_SETTID, libc::CLONE_PIDFD, -1];
    let mut words = [0usize; 11];
    words[0] = flags[random.next() as usize % flags.len()] as usize & !(libc::CLONE_VM as usize);
    for word in &mut words[1..] {
        *word = if random.next().is_multiple_of(3) { value(toys, random, 'p') } else { 0 };
    }
    words[4] = random.next() as usize % 70;
    words[5] = 0;
    words[6] = 0;
    let size = [64, 80, 88, 88, 88, 100][random.next() as usize % 6];
    // SAFETY: a copy without CLONE_VM; it ends at once.
    unsafe {
        if libc::syscall(libc::SYS_clone3, words.as_ptr(), size) == 0 {
            libc::_exit(0);
        }
    }
}

const PATHS: [&std::ffi::CStr; 14] = [
    c"/",
    c".",
    c"..",
    c"a",
    c"b",
    c"a/b",
    c"a/../b",
    c"/a/b/c",
    c"fifo",
    c"link",
    c"",
    c"none/such",
    c"tmpfs",
    c"user.x",
];

const NUMBERS: [usize; 20] = [
    0,
    1,
    2,
    7,
    8,
    16,
    63,
    64,
    127,
    0xfff,
    0x1000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    usize::MAX,
];

/// An argument of a kind.
fn value(toys: &Toys, random: &mut Random, kind: char) -> usize {
    let dice = random.next() as usize;
    let number = |from: usize| NUMBERS[from % NUMBERS.len()];
    match kind {
        'f' | 'd' if dice % 8 < 6 => toys.descriptors[dice / 8 % toys.descriptors.len()],
        'f' => dice / 8 % 260,
        'd' => libc::AT_FDCWD as usize,
        's' if dice % 8 < 7 => PATHS[dice / 8 % PATHS.len()].as_ptr() as usize,
        's' | 'p' | 'v' | 't' | 'a' => pointer(toys, random, kind),
        'n' if dice % 4 < 3 => dice / 4 % (3 * PAGE),
        'o' if dice % 4 < 3 => dice / 4 % (1 << 20),
        'i' if dice % 4 < 3 => dice / 4 % 16,
        'F' if dice % 4 < 2 => 1 << (dice / 4 % 32),
        'F' if dice % 4 < 3 => 0,
        'q' => 0x5400 + dice % 0x60,
        'k' if dice % 8 < 5 => 0,
        // SAFETY: numbers only.
        'k' if dice % 8 < 7 => unsafe { libc::getpid() as usize },
        // Nobody else is this user's; -1 is the rest of the round.
        'k' => dice / 8 % 200,
        'g' if dice % 4 < 3 => {
            [0, libc::SIGALRM, libc::SIGCHLD, libc::SIGCONT, libc::SIGSTOP, 40][dice / 4 % 6] as usize
        }
        'g' => dice / 4 % 66,
        'u' => [NOBODY as usize, SOMEBODY as usize, usize::MAX, 1000][dice % 4],
        'c' => dice % 12,
        _ if dice.is_multiple_of(3) => pointer(toys, random, 'p'),
        _ if dice % 3 == 1 => number(dice / 3),
        _ => random.next() as usize >> (dice % 64),
    }
}

/// A pointer to something that may be what the call wants.
fn pointer(toys: &Toys, random: &mut Random, kind: char) -> usize {
    let dice = random.next() as usize;
    let inside = toys.arena + dice / 16 % ((ARENA_PAGES - 1) * PAGE);
    let place = if dice.is_multiple_of(4) { inside } else { inside & !7 };
    match dice % 16 {
        0 => 0,
        1 => NUMBERS[dice / 16 % NUMBERS.len()],
        // Just before the end of a page behind which nothing is.
        2 => toys.arena + 12 * PAGE - dice / 16 % 64,
        3 => random.next() as usize,
        _ => {
            if (inside - toys.arena) / PAGE % 16 < 11 {
                fill(toys, random, place, kind);
            }
            place
        }
    }
}

/// Puts something sensible where a pointer leads; the place is mapped unless another thread took it away, which kills the round.
fn fill(toys: &Toys, random: &mut Random, place: usize, kind: char) {
    let words: [usize; 8] = match kind {
        'v' => [
            toys.arena + random.next() as usize % (ARENA_PAGES * PAGE),
            random.next() as usize % (4 * PAGE),
            toys.arena + random.next() as usize % (ARENA_PAGES * PAGE),
            random.next() as usize % 100,
            0,
            0,
            random.next() as usize,
            random.next() as usize % PAGE,
        ],
        't' => [0, random.next() as usize % 2_000_000, 0, random.next() as usize % 2_000_000, 0, 0, 0, 0],
        _ if random.next().is_multiple_of(2) => {
            std::array::from_fn(|_| random.next() as usize >> (random.next() % 64))
        }
        _ => std::array::from_fn(|_| random.next() as usize % 32),
    };
    // SAFETY: the arena is this child's to destroy, and a fault there ends nothing but the child.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), place as *mut u8, 64) };
}
