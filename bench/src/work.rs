//! The operations.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// One operation.
#[derive(Clone, Copy)]
pub struct Work {
    /// What the table calls it.
    pub name: &'static str,
    /// Before the loop, not timed.
    pub prepare: fn(),
    /// Does it so many times.
    pub run: fn(u64),
    /// Whether two processes can do it without each other.
    pub scales: bool,
}

const fn work(name: &'static str, prepare: fn(), run: fn(u64)) -> Work {
    Work { name, prepare, run, scales: true }
}

pub const fn paired(name: &'static str, prepare: fn(), run: fn(u64)) -> Work {
    Work { name, prepare, run, scales: false }
}

/// Loops that call nothing: not operations of the kernel's, but what the machine itself allows. An emulator may let its processors
/// read the time stamp counter only one after the other, and with it everything that reads the clock.
pub const CEILINGS: &[Work] = &[
    work("a loop without the kernel", nothing, spin),
    work("reading the time stamp counter", nothing, read_counter),
];

fn spin(count: u64) {
    for round in 0..count {
        std::hint::black_box((0..100u64).fold(round, |sum, next| std::hint::black_box(sum ^ next)));
    }
}

fn read_counter(count: u64) {
    for _ in 0..count {
        // SAFETY: every x86-64 processor has it.
        std::hint::black_box(unsafe { core::arch::x86_64::_rdtsc() });
    }
}

/// All of them.
pub const WORKS: &[Work] = &[
    work("getppid", nothing, getppid),
    work("read /dev/zero, 1 byte", open_zero, |count| read_zero(count, 1)),
    work("read /dev/zero, 4 KiB", open_zero, |count| read_zero(count, 4096)),
    paired("pipe ping-pong", nothing, pipe_ping_pong),
    work("fork + wait", nothing, fork_wait),
    work("fork + exec + wait", nothing, fork_exec),
    work("page fault", nothing, page_faults),
    paired("thread switch, futex", nothing, futex_ping_pong),
    work("sched_yield", nothing, sched_yield),
    work("open + close, deep", deep_path, open_close),
    work("stat, deep", deep_path, stat),
    work("mmap + munmap", nothing, mmap_munmap),
    work("signal to oneself", catch_signal, signal),
    work("write + read of a file, 4 KiB", open_file, file_write_read),
    work("clock_gettime", nothing, clock_gettime),
];

/// For what needs no preparation.
pub fn nothing() {}

fn getppid(count: u64) {
    for _ in 0..count {
        // SAFETY: no memory is involved.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

static FILE: AtomicI32 = AtomicI32::new(-1);

fn open_zero() {
    // SAFETY: a valid string.
    FILE.store(unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) }, Ordering::Relaxed);
}

fn read_zero(count: u64, bytes: usize) {
    let fd = FILE.load(Ordering::Relaxed);
    let mut buffer = [0u8; 4096];
    for _ in 0..count {
        // SAFETY: the buffer has at least so many bytes.
        unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), bytes) };
    }
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: pipe writes two descriptors.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    ends
}

fn pipe_ping_pong(count: u64) {
    let (there, back) = (pipe(), pipe());
    let byte = |fd: i32| {
        let mut byte = 0u8;
        // SAFETY: one byte.
        unsafe { libc::read(fd, (&raw mut byte).cast(), 1) }
    };
    // SAFETY: one byte.
    let send = |fd: i32| unsafe { libc::write(fd, c"x".as_ptr().cast(), 1) };
    let child = in_fork(|| {
        for _ in 0..count {
            byte(there[0]);
            send(back[1]);
        }
    });
    for _ in 0..count {
        send(there[1]);
        byte(back[0]);
    }
    wait(child);
    // SAFETY: descriptors of ours.
    there.iter().chain(&back).for_each(|fd| _ = unsafe { libc::close(*fd) });
}

/// Binds this process and what it forks to one processor.
pub fn bind_to_cpu(number: usize) {
    // SAFETY: a zeroed set is an empty one, and lives for the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(number, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(result, 0, "binding to processor {number}");
}

/// Runs `body` in a child; gives its number.
pub fn in_fork(body: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread, or the child calls nothing that needs another.
    let child = unsafe { libc::fork() };
    if child == 0 {
        body();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    child
}

/// Waits for a child.
pub fn wait(child: i32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

fn fork_wait(count: u64) {
    for _ in 0..count {
        wait(in_fork(|| {}));
    }
}

fn fork_exec(count: u64) {
    for _ in 0..count {
        wait(in_fork(|| {
            let arguments = [c"/proc/self/exe".as_ptr(), c"true".as_ptr(), std::ptr::null()];
            // SAFETY: terminated arrays of valid strings.
            unsafe { libc::execv(arguments[0], arguments.as_ptr()) };
        }));
    }
}

const PAGE: usize = 4096;

fn map(bytes: usize, flags: i32) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags | libc::MAP_ANONYMOUS, -1, 0).cast() }
}

/// A page of zeros that children share.
pub fn map_shared() -> *mut u8 {
    map(PAGE, libc::MAP_SHARED)
}

/// Gives it back.
pub fn unmap_shared(memory: *mut u8) {
    // SAFETY: the page of `map_shared`, of which nothing is used any more.
    unsafe { libc::munmap(memory.cast(), PAGE) };
}

fn page_faults(count: u64) {
    const AT_ONCE: u64 = 256;
    let mut left = count;
    while left > 0 {
        let pages = left.min(AT_ONCE) as usize;
        let memory = map(pages * PAGE, libc::MAP_PRIVATE);
        // SAFETY: inside the mapping.
        (0..pages).for_each(|page| unsafe { memory.add(page * PAGE).write_volatile(1) });
        // SAFETY: the mapping of above.
        unsafe { libc::munmap(memory.cast(), pages * PAGE) };
        left -= pages as u64;
    }
}

fn futex_ping_pong(count: u64) {
    static TURN: AtomicU32 = AtomicU32::new(0);
    TURN.store(0, Ordering::SeqCst);
    let private = libc::FUTEX_PRIVATE_FLAG;
    let play = move |own: u32| {
        for _ in 0..count {
            while TURN.load(Ordering::SeqCst) != own {
                // SAFETY: a static word.
                unsafe {
                    libc::syscall(libc::SYS_futex, TURN.as_ptr(), libc::FUTEX_WAIT | private, 1 - own, 0);
                }
            }
            TURN.store(1 - own, Ordering::SeqCst);
            // SAFETY: a static word.
            unsafe { libc::syscall(libc::SYS_futex, TURN.as_ptr(), libc::FUTEX_WAKE | private, 1) };
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || play(1));
        play(0);
    });
}

fn sched_yield(count: u64) {
    for _ in 0..count {
        // SAFETY: no memory is involved.
        unsafe { libc::sched_yield() };
    }
}

static PATH: OnceLock<CString> = OnceLock::new();

fn deep_path() {
    PATH.get_or_init(|| {
        // Each process has a tree of its own: two of them shall share nothing.
        let folder = format!("/tmp/bench-{}/one/two/three/four/five/six/seven/eight", std::process::id());
        let _ = std::fs::create_dir_all(&folder);
        let path = format!("{folder}/file");
        let _ = std::fs::write(&path, "x");
        CString::new(path).unwrap_or_default()
    });
}

fn path() -> *const libc::c_char {
    PATH.get().map_or(c"/".as_ptr(), |path| path.as_ptr())
}

fn open_close(count: u64) {
    for _ in 0..count {
        // SAFETY: a valid string and a descriptor of ours.
        unsafe { libc::close(libc::open(path(), libc::O_RDONLY)) };
    }
}

fn stat(count: u64) {
    for _ in 0..count {
        // SAFETY: plain data that the kernel fills.
        unsafe { libc::stat(path(), &mut std::mem::zeroed()) };
    }
}

fn mmap_munmap(count: u64) {
    for _ in 0..count {
        let memory = map(PAGE * 16, libc::MAP_PRIVATE);
        // SAFETY: the mapping of the line above.
        unsafe { libc::munmap(memory.cast(), PAGE * 16) };
    }
}

extern "C" fn caught(_: i32) {}

fn catch_signal() {
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR1, caught as extern "C" fn(i32) as usize) };
}

fn signal(count: u64) {
    for _ in 0..count {
        // SAFETY: no memory is involved.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
}

fn open_file() {
    let path = CString::new(format!("/tmp/bench-file-{}", std::process::id())).unwrap_or_default();
    // SAFETY: a valid string.
    FILE.store(unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600) }, Ordering::Relaxed);
}

fn file_write_read(count: u64) {
    let fd = FILE.load(Ordering::Relaxed);
    let mut buffer = [1u8; 4096];
    for index in 0..count {
        let offset = (index % 64 * 4096) as i64;
        // SAFETY: the buffer's own length.
        unsafe {
            libc::pwrite(fd, buffer.as_ptr().cast(), buffer.len(), offset);
            libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset);
        }
    }
}

fn clock_gettime(count: u64) {
    for _ in 0..count {
        // SAFETY: plain data that is filled.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut std::mem::zeroed()) };
    }
}
