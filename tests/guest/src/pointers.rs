//! Wrong pointers: every call that takes one answers EFAULT, and the machine goes on.

use crate::calls;
use crate::case::{Case, Failure, Outcome, case};
use crate::ensure;
use crate::sys::{self, call, errno};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("pointers_efault_everywhere", everywhere),
    case("pointers_of_waits", waits),
    case("pointers_inside_structures", inside_structures),
    case("pointers_followed_later", followed_later),
    case("pointers_endless_robust_list", endless_list),
    case("pointers_partial_read", partial_read),
    case("pointers_end_of_user_space", end_of_user),
    case("pointers_random_calls", random_calls),
];

/// Stands for the pointer under test.
const P: usize = 0xdead_0000_0000_0001;
/// Stands for a descriptor of a regular file, of a pipe's ends, of a folder, of an epoll, a timer, this process, a terminal.
const FILE: usize = 0xdead_0000_0000_0003;
const READER: usize = 0xdead_0000_0000_0004;
const WRITER: usize = 0xdead_0000_0000_0005;
const FOLDER: usize = 0xdead_0000_0000_0006;
const EPOLL: usize = 0xdead_0000_0000_0007;
const TIMER: usize = 0xdead_0000_0000_0008;
const PROCESS: usize = 0xdead_0000_0000_0009;
/// Stands for a path of a file, and of nothing.
const PATH: usize = 0xdead_0000_0000_0002;
const NOTHING: usize = 0xdead_0000_0000_000a;
/// Stands for good memory, 4 KiB of zeros.
const GOOD: usize = 0xdead_0000_0000_000b;
/// Stands for a program, a symbolic link, a folder's path, the name of an attribute that the file has.
const PROGRAM: usize = 0xdead_0000_0000_000c;
const LINK: usize = 0xdead_0000_0000_000d;
const PLACE: usize = 0xdead_0000_0000_000e;
const ATTRIBUTE: usize = 0xdead_0000_0000_000f;
/// Stands for good memory that begins with the version of capget(2).
const CAPABILITIES: usize = 0xdead_0000_0000_0010;
/// Stand for sockets: one without a peer, one of a pair with bytes to read, one with a message of a named sender, one with
/// connections to accept; then for an inotify.
const SOCKET: usize = 0xdead_0000_0000_0011;
const PAIR: usize = 0xdead_0000_0000_0012;
const DATAGRAMS: usize = 0xdead_0000_0000_0013;
const LISTENER: usize = 0xdead_0000_0000_0014;
const INOTIFY: usize = 0xdead_0000_0000_0015;
/// Stands for a message queue with messages to receive.
const QUEUE: usize = 0xdead_0000_0000_0019;
/// Stands for good memory with the length of an address in it, for some with an I/O vector, and for this process's id.
const LENGTH: usize = 0xdead_0000_0000_0016;
const VECTOR: usize = 0xdead_0000_0000_0017;
const SELF: usize = 0xdead_0000_0000_0018;
const NOW: usize = libc::MSG_DONTWAIT as usize;
const PEEK: usize = NOW | libc::MSG_PEEK as usize;
const AT_CWD: usize = libc::AT_FDCWD as usize;

/// Calls whose pointers are not reached with what [`arguments_of`] gives: (name, which argument, all of them with `P` in that place).
type Row = (&'static str, usize, [usize; 6]);

const SPECIAL: &[Row] = &[
    ("read", 1, [FILE, P, 4, 0, 0, 0]),
    ("write", 1, [WRITER, P, 4, 0, 0, 0]),
    ("readv", 1, [FILE, P, 1, 0, 0, 0]),
    ("writev", 1, [FILE, P, 1, 0, 0, 0]),
    ("preadv", 1, [FILE, P, 1, 0, 0, 0]),
    ("pwritev", 1, [FILE, P, 1, 0, 0, 0]),
    ("preadv2", 1, [FILE, P, 1, 0, 0, 0]),
    ("pwritev2", 1, [FILE, P, 1, 0, 0, 0]),
    ("poll", 0, [P, 1, 0, 0, 0, 0]),
    ("ppoll", 0, [P, 1, GOOD, 0, 0, 0]),
    ("ppoll", 2, [GOOD, 0, P, 0, 8, 0]),
    ("ppoll", 3, [GOOD, 0, GOOD, P, 8, 0]),
    ("rt_sigaction", 1, [10, P, 0, 8, 0, 0]),
    ("rt_sigaction", 2, [10, 0, P, 8, 0, 0]),
    ("rt_sigprocmask", 1, [0, P, 0, 8, 0, 0]),
    ("rt_sigprocmask", 2, [0, 0, P, 8, 0, 0]),
    ("ioctl", 2, [READER, libc::FIONREAD as usize, P, 0, 0, 0]),
    ("select", 1, [10, P, 0, 0, GOOD, 0]),
    ("select", 2, [10, 0, P, 0, GOOD, 0]),
    ("select", 3, [10, 0, 0, P, GOOD, 0]),
    ("pselect6", 1, [10, P, 0, 0, GOOD, 0]),
    ("pselect6", 2, [10, 0, P, 0, GOOD, 0]),
    ("pselect6", 3, [10, 0, 0, P, GOOD, 0]),
    ("pselect6", 4, [0, 0, 0, 0, P, 0]),
    ("pselect6", 5, [0, 0, 0, 0, GOOD, P]),
    ("fcntl", 2, [FILE, 5, P, 0, 0, 0]),
    ("execve", 1, [PROGRAM, P, 0, 0, 0, 0]),
    ("execve", 2, [PROGRAM, 0, P, 0, 0, 0]),
    ("execveat", 2, [AT_CWD, PROGRAM, P, 0, 0, 0]),
    ("execveat", 3, [AT_CWD, PROGRAM, 0, P, 0, 0]),
    ("rename", 1, [PATH, P, 0, 0, 0, 0]),
    ("link", 1, [PATH, P, 0, 0, 0, 0]),
    ("getgroups", 1, [10, P, 0, 0, 0, 0]),
    ("setgroups", 1, [1, P, 0, 0, 0, 0]),
    ("getcwd", 0, [P, 100, 0, 0, 0, 0]),
    ("getdents", 1, [FOLDER, P, 1000, 0, 0, 0]),
    ("getdents64", 1, [FOLDER, P, 1000, 0, 0, 0]),
    ("getrlimit", 1, [7, P, 0, 0, 0, 0]),
    ("setrlimit", 1, [7, P, 0, 0, 0, 0]),
    ("prlimit64", 2, [0, 7, P, 0, 0, 0]),
    ("prlimit64", 3, [0, 7, 0, P, 0, 0]),
    ("syslog", 1, [3, P, 4096, 0, 0, 0]),
    ("rt_sigtimedwait", 0, [P, 0, GOOD, 8, 0, 0]),
    ("rt_sigtimedwait", 2, [GOOD, 0, P, 8, 0, 0]),
    ("rt_sigqueueinfo", 2, [1, 0, P, 0, 0, 0]),
    ("sigaltstack", 0, [P, 0, 0, 0, 0, 0]),
    ("sigaltstack", 1, [0, P, 0, 0, 0, 0]),
    ("sched_setscheduler", 2, [0, 0, P, 0, 0, 0]),
    ("sched_setaffinity", 2, [0, 8, P, 0, 0, 0]),
    ("sched_getaffinity", 2, [0, 128, P, 0, 0, 0]),
    ("sched_getattr", 1, [0, P, 48, 0, 0, 0]),
    ("prctl", 1, [15, P, 0, 0, 0, 0]),
    ("prctl", 2, [15, P, 0, 0, 0, 0]),
    ("arch_prctl", 1, [0x1003, P, 0, 0, 0, 0]),
    ("mount", 0, [P, PATH, PATH, 0, 0, 0]),
    ("mount", 1, [PATH, P, PATH, 0, 0, 0]),
    ("mount", 2, [PATH, PATH, P, 0, 0, 0]),
    ("reboot", 3, [0xfee1_dead, 0x2812_1969, 0xa1b2_c3d4, P, 0, 0]),
    ("futex", 0, [P, 0, 0, 0, 0, 0]),
    ("futex", 3, [GOOD, 0, 0, P, 0, 0]),
    ("futex", 4, [GOOD, 4, 0, 0, P, 0]),
    ("timer_create", 1, [1, P, GOOD, 0, 0, 0]),
    ("timer_create", 2, [1, 0, P, 0, 0, 0]),
    ("clock_gettime", 1, [0, P, 0, 0, 0, 0]),
    ("clock_settime", 1, [0, P, 0, 0, 0, 0]),
    ("epoll_wait", 1, [EPOLL, P, 4, 0, 0, 0]),
    ("epoll_pwait", 1, [EPOLL, P, 4, 0, 0, 0]),
    ("epoll_pwait", 4, [EPOLL, GOOD, 4, 0, P, 8]),
    ("epoll_pwait2", 1, [EPOLL, P, 4, GOOD, 0, 0]),
    ("epoll_pwait2", 3, [EPOLL, GOOD, 4, P, 0, 0]),
    ("epoll_pwait2", 4, [EPOLL, GOOD, 4, GOOD, P, 8]),
    ("epoll_ctl", 3, [EPOLL, 1, READER, P, 0, 0]),
    ("signalfd", 1, [usize::MAX, P, 8, 0, 0, 0]),
    ("signalfd4", 1, [usize::MAX, P, 8, 0, 0, 0]),
    ("timerfd_settime", 2, [TIMER, 0, P, 0, 0, 0]),
    ("timerfd_settime", 3, [TIMER, 0, GOOD, P, 0, 0]),
    ("timerfd_gettime", 1, [TIMER, P, 0, 0, 0, 0]),
    ("getitimer", 1, [0, P, 0, 0, 0, 0]),
    ("setitimer", 1, [0, P, 0, 0, 0, 0]),
    ("setitimer", 2, [0, GOOD, P, 0, 0, 0]),
    ("splice", 1, [FILE, P, WRITER, 0, 4, 0]),
    ("splice", 3, [READER, 0, FILE, P, 4, 0]),
    ("sendfile", 2, [WRITER, FILE, P, 4, 0, 0]),
    ("copy_file_range", 1, [FILE, P, FILE, 0, 4, 0]),
    ("copy_file_range", 3, [FILE, 0, FILE, P, 4, 0]),
    ("symlink", 1, [PATH, P, 0, 0, 0, 0]),
    ("symlinkat", 2, [PATH, AT_CWD, P, 0, 0, 0]),
    ("readlinkat", 1, [AT_CWD, P, GOOD, 8, 0, 0]),
    ("statx", 4, [AT_CWD, PATH, 0, 0xfff, P, 0]),
    ("newfstatat", 2, [AT_CWD, PATH, P, 0, 0, 0]),
    ("openat2", 1, [AT_CWD, P, GOOD, 24, 0, 0]),
    ("openat2", 2, [AT_CWD, PATH, P, 24, 0, 0]),
    ("pidfd_send_signal", 2, [PROCESS, 0, P, 0, 0, 0]),
    ("clone3", 0, [P, 88, 0, 0, 0, 0]),
    ("futex_waitv", 3, [GOOD, 1, 0, P, 1, 0]),
    ("readlink", 1, [LINK, P, 10, 0, 0, 0]),
    ("readlinkat", 2, [AT_CWD, LINK, P, 10, 0, 0]),
    ("pivot_root", 1, [PLACE, P, 0, 0, 0, 0]),
    ("getxattr", 2, [PATH, ATTRIBUTE, P, 100, 0, 0]),
    ("lgetxattr", 2, [PATH, ATTRIBUTE, P, 100, 0, 0]),
    ("fgetxattr", 2, [FILE, ATTRIBUTE, P, 100, 0, 0]),
    ("listxattr", 1, [PATH, P, 100, 0, 0, 0]),
    ("llistxattr", 1, [PATH, P, 100, 0, 0, 0]),
    ("flistxattr", 1, [FILE, P, 100, 0, 0, 0]),
    ("timer_settime", 3, [0, 0, GOOD, P, 0, 0]),
    ("timer_gettime", 1, [0, P, 0, 0, 0, 0]),
    ("futex_waitv", 0, [P, 1, 0, 0, 1, 0]),
    ("capget", 1, [CAPABILITIES, P, 0, 0, 0, 0]),
    ("capset", 1, [CAPABILITIES, P, 0, 0, 0, 0]),
    ("waitid", 2, [1, 1, P, 0, 0, 0]),
    ("settimeofday", 0, [P, 0, 0, 0, 0, 0]),
    ("settimeofday", 1, [0, P, 0, 0, 0, 0]),
    ("clock_nanosleep", 2, [0, 0, P, 0, 0, 0]),
    ("timer_settime", 2, [0, 0, P, 0, 0, 0]),
    ("memfd_create", 0, [P, 0, 0, 0, 0, 0]),
    ("mincore", 2, [GOOD, 4096, P, 0, 0, 0]),
    ("connect", 1, [SOCKET, P, 16, 0, 0, 0]),
    ("accept", 1, [LISTENER, P, LENGTH, 0, 0, 0]),
    ("accept", 2, [LISTENER, GOOD, P, 0, 0, 0]),
    ("accept4", 1, [LISTENER, P, LENGTH, 0, 0, 0]),
    ("accept4", 2, [LISTENER, GOOD, P, 0, 0, 0]),
    ("sendto", 1, [PAIR, P, 4, NOW, 0, 0]),
    ("sendto", 4, [SOCKET, GOOD, 4, NOW, P, 16]),
    ("recvfrom", 1, [PAIR, P, 4, NOW, 0, 0]),
    ("recvfrom", 4, [DATAGRAMS, GOOD, 4, PEEK, P, LENGTH]),
    ("recvfrom", 5, [DATAGRAMS, GOOD, 4, PEEK, GOOD, P]),
    ("sendmsg", 1, [PAIR, P, NOW, 0, 0, 0]),
    ("recvmsg", 1, [PAIR, P, NOW, 0, 0, 0]),
    ("bind", 1, [SOCKET, P, 16, 0, 0, 0]),
    ("getsockname", 1, [SOCKET, P, LENGTH, 0, 0, 0]),
    ("getsockname", 2, [SOCKET, GOOD, P, 0, 0, 0]),
    ("getpeername", 1, [PAIR, P, LENGTH, 0, 0, 0]),
    ("getpeername", 2, [PAIR, GOOD, P, 0, 0, 0]),
    ("socketpair", 3, [1, 1, 0, P, 0, 0]),
    ("setsockopt", 3, [SOCKET, 1, 8, P, 4, 0]),
    ("getsockopt", 3, [SOCKET, 1, 8, P, LENGTH, 0]),
    ("getsockopt", 4, [SOCKET, 1, 8, GOOD, P, 0]),
    ("recvmmsg", 1, [PAIR, P, 1, NOW, 0, 0]),
    ("recvmmsg", 4, [PAIR, GOOD, 1, NOW, P, 0]),
    ("sendmmsg", 1, [PAIR, P, 1, NOW, 0, 0]),
    ("inotify_add_watch", 1, [INOTIFY, P, 2, 0, 0, 0]),
    ("vmsplice", 1, [WRITER, P, 1, 0, 0, 0]),
    ("process_vm_readv", 1, [SELF, P, 1, VECTOR, 1, 0]),
    ("process_vm_readv", 3, [SELF, VECTOR, 1, P, 1, 0]),
    ("process_vm_writev", 1, [SELF, P, 1, VECTOR, 1, 0]),
    ("process_vm_writev", 3, [SELF, VECTOR, 1, P, 1, 0]),
    ("msgrcv", 1, [QUEUE, P, 100, 0, libc::IPC_NOWAIT as usize, 0]),
    ("msgctl", 2, [QUEUE, libc::IPC_STAT as usize, P, 0, 0, 0]),
    ("shmctl", 2, [0, 3, P, 0, 0, 0]), // IPC_INFO
    ("process_madvise", 1, [PROCESS, P, 1, libc::MADV_COLD as usize, 0, 0]),
];

/// Pointers that a wrong address in does not make an error of, and why.
const EXEMPT: &[(&str, usize, &str)] = &[
    ("nanosleep", 1, "written after a signal only"),
    ("clock_nanosleep", 3, "written after a signal only"),
    ("clone", 2, "the process exists already when the kernel finds out"),
    ("clone", 3, "the process exists already when the kernel finds out"),
    ("clone", 4, "a segment base, not followed"),
    ("getcpu", 2, "not used since Linux 2.6.24"),
    ("wait4", 1, "needs a child: pointers_of_waits"),
    ("wait4", 3, "needs a child: pointers_of_waits"),
    ("waitid", 2, "needs a child: pointers_of_waits"),
    ("waitid", 4, "needs a child: pointers_of_waits"),
    ("rt_sigtimedwait", 1, "needs a signal: pointers_of_waits"),
];

/// What a call is given so that it comes to look at its `place`-th argument, a pointer.
fn arguments_of(kinds: &str, place: usize) -> [usize; 6] {
    let mut arguments = [0; 6];
    for (index, (argument, kind)) in arguments.iter_mut().zip(kinds.chars()).enumerate() {
        *argument = match kind {
            _ if index == place => P,
            'f' => FILE,
            'd' => AT_CWD,
            's' => PATH,
            'v' | 't' | 'p' => GOOD,
            'n' => 8,
            'c' => 1,
            _ => 0,
        };
    }
    arguments
}

/// Low, unmapped, without permission, not canonical, the kernel's.
fn bad_pointers() -> Result<Vec<usize>, Failure> {
    let forbidden = sys::map(4096, libc::PROT_NONE)? as usize;
    Ok(vec![8, 0x1234_5000, forbidden, 0x8000_0000_0000_0000, 0xffff_8880_0000_0000, usize::MAX - 100])
}

/// What the placeholders stand for.
struct Things {
    paths: [(usize, std::ffi::CString); 6],
    good: usize,
    descriptors: [(usize, i32); 7],
    sockets: [(usize, i32); 6],
}

impl Things {
    fn new() -> Result<Things, Failure> {
        let dir = sys::folder("po")?;
        std::fs::write(format!("{dir}/file"), b"contents").map_err(|e| e.to_string())?;
        std::fs::set_permissions(format!("{dir}/file"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| e.to_string())?;
        let file = sys::c(&format!("{dir}/file"));
        let paths = [
            (PATH, file.clone()),
            (NOTHING, sys::c(&format!("{dir}/nothing"))),
            (PROGRAM, sys::c("/bin/true")),
            (LINK, sys::c(&format!("{dir}/link"))),
            (PLACE, sys::c(&dir)),
            (ATTRIBUTE, sys::c("trusted.t")),
        ];
        std::os::unix::fs::symlink("target", format!("{dir}/link")).map_err(|e| e.to_string())?;
        let (reader, writer) = sys::pipe(0)?;
        sys::write(writer, b"something to read")?;
        // SAFETY: C strings and numbers; one event.
        let descriptors = unsafe {
            libc::setxattr(file.as_ptr(), c"trusted.t".as_ptr(), c"value".as_ptr().cast(), 5, 0);
            libc::setgroups(1, &raw const NO_GROUP);
            // The first timer of a process is number 0.
            let mut timer = 0i32;
            libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, 0, &raw mut timer);
            let epoll = libc::epoll_create1(0);
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, reader, &raw mut event);
            [
                (FILE, libc::open(file.as_ptr(), libc::O_RDWR)),
                (FOLDER, libc::open(sys::c(&dir).as_ptr(), libc::O_RDONLY)),
                (READER, reader),
                (WRITER, writer),
                (EPOLL, epoll),
                (TIMER, libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)),
                (PROCESS, libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32),
            ]
        };
        let good = sys::map(4096, libc::PROT_READ | libc::PROT_WRITE)? as usize;
        Ok(Things { paths, good, descriptors, sockets: sockets()? })
    }

    fn real(&self, value: usize, pointer: usize) -> usize {
        match value {
            P => pointer,
            GOOD => self.good,
            LENGTH => self.good + 1024,
            CAPABILITIES => self.good + 2048,
            VECTOR => self.good + 3072,
            SELF => std::process::id() as usize,
            other => {
                let path = self.paths.iter().find(|(name, _)| *name == other);
                let mut descriptors = self.descriptors.iter().chain(&self.sockets);
                let descriptor = descriptors.find(|(name, _)| *name == other);
                match (path, descriptor) {
                    (Some((_, path)), _) => path.as_ptr() as usize,
                    (_, Some((_, fd))) => *fd as usize,
                    _ => other,
                }
            }
        }
    }
}

/// Each attempt at accept(2) takes a connection and each at msgrcv(2) a message, also one that fails.
const CONNECTIONS: usize = 40;

/// A message: its type, and eight bytes.
static MESSAGE: [i64; 2] = [1, 2];

/// The sockets of [`Things`], an inotify and a message queue.
fn sockets() -> Result<[(usize, i32); 6], Failure> {
    let (stream, datagram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
    let pair = |kind| {
        let mut ends = [0i32; 2];
        // SAFETY: two descriptors.
        match unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } {
            0 => Ok(ends),
            _ => Err(Failure::from(format!("socketpair: errno {}", errno()))),
        }
    };
    let (pair, datagrams) = (pair(stream)?, pair(datagram)?);
    // SAFETY: numbers, and addresses of the right size; a bind of two bytes gives a name of the kernel's choice.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        let listener = libc::socket(libc::AF_UNIX, stream, 0);
        for socket in [listener, datagrams[1]] {
            let bound = libc::bind(socket, (&raw const address).cast(), 2);
            ensure!(bound == 0, "bind: errno {}", errno());
        }
        let mut length = size_of::<libc::sockaddr_un>() as u32;
        libc::getsockname(listener, (&raw mut address).cast(), &raw mut length);
        libc::listen(listener, CONNECTIONS as i32);
        for _ in 0..CONNECTIONS {
            let client = libc::socket(libc::AF_UNIX, stream, 0);
            let connected = libc::connect(client, (&raw const address).cast(), length);
            ensure!(connected == 0, "connect: errno {}", errno());
        }
        // A message whose reception fails is gone, too.
        let queue = libc::msgget(libc::IPC_PRIVATE, 0o600);
        for _ in 0..CONNECTIONS {
            let sent = libc::msgsnd(queue, (&raw const MESSAGE).cast(), 8, 0);
            ensure!(sent == 0, "msgsnd: errno {}", errno());
        }
        sys::write(pair[1], b"something to read")?;
        sys::write(datagrams[1], b"a message")?;
        Ok([
            (SOCKET, libc::socket(libc::AF_UNIX, datagram, 0)),
            (PAIR, pair[0]),
            (DATAGRAMS, datagrams[0]),
            (LISTENER, listener),
            (INOTIFY, libc::inotify_init1(0)),
            (QUEUE, queue),
        ])
    }
}

/// Every pointer argument of every call that the kernel has.
fn everywhere() -> Outcome {
    let things = Things::new()?;
    let mut wrong = Vec::new();
    for (name, number, kinds) in calls::CALLS {
        for (place, _) in kinds.chars().enumerate().filter(|(_, kind)| calls::is_pointer(*kind)) {
            if EXEMPT.iter().any(|(call, exempt, _)| call == name && *exempt == place) {
                continue;
            }
            let special = SPECIAL.iter().find(|(call, at, _)| call == name && *at == place);
            let template = special.map_or_else(|| arguments_of(kinds, place), |(_, _, arguments)| *arguments);
            for pointer in bad_pointers()? {
                // Some look at the alignment first.
                let aligned =
                    matches!(*name, "futex" | "futex_waitv" | "mincore") && pointer == usize::MAX - 100;
                let pointer = if aligned { pointer & !7 } else { pointer };
                // SAFETY: our own page.
                unsafe {
                    (things.good as *mut u8).write_bytes(0, 4096);
                    ((things.good + 1024) as *mut u32).write(100);
                    ((things.good + 2048) as *mut u32).write(0x2008_0522);
                    ((things.good + 3072) as *mut [usize; 2]).write([things.good, 8]);
                }
                let result = call(*number, template.map(|value| things.real(value, pointer)));
                let error = if result == -1 { errno() } else { 0 };
                if error != libc::EFAULT {
                    wrong.push(format!("{name}.{place}({pointer:#x}): {result} errno {error}"));
                    break;
                }
            }
        }
    }
    call(libc::SYS_msgctl, [things.real(QUEUE, 0), libc::IPC_RMID as usize, 0, 0, 0, 0]);
    ensure!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

/// The pointers of calls that need somebody to wait for.
fn waits() -> Outcome {
    for pointer in bad_pointers()? {
        for (name, number, arguments) in [
            ("wait4", libc::SYS_wait4, [usize::MAX, pointer, 0, 0, 0, 0]),
            ("wait4", libc::SYS_wait4, [usize::MAX, 0, 0, pointer, 0, 0]),
            ("waitid", libc::SYS_waitid, [libc::P_ALL as usize, 0, pointer, libc::WEXITED as usize, 0, 0]),
            ("waitid", libc::SYS_waitid, [libc::P_ALL as usize, 0, 0, libc::WEXITED as usize, pointer, 0]),
        ] {
            sys::fork(|| 0)?;
            let result = call(number, arguments);
            ensure!(
                result == -1 && errno() == libc::EFAULT,
                "{name}({arguments:x?}): {result} errno {}",
                errno()
            );
        }
        let set = 1u64 << (libc::SIGUSR1 - 1);
        call(libc::SYS_rt_sigprocmask, [0, &raw const set as usize, 0, 8, 0, 0]);
        // SAFETY: numbers only.
        unsafe { libc::raise(libc::SIGUSR1) };
        let result = call(libc::SYS_rt_sigtimedwait, [&raw const set as usize, pointer, 0, 8, 0, 0]);
        ensure!(result == -1 && errno() == libc::EFAULT, "rt_sigtimedwait: {result} errno {}", errno());
    }
    Ok(())
}

/// Pointers inside of structures: the structure is good, what it points to is not.
fn inside_structures() -> Outcome {
    let things = Things::new()?;
    let mut wrong = Vec::new();
    for pointer in bad_pointers()? {
        let inside: [(&str, i64, [usize; 6], Vec<usize>); 12] = [
            ("readv", libc::SYS_readv, [FILE, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("writev", libc::SYS_writev, [WRITER, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("preadv", libc::SYS_preadv, [FILE, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("pwritev", libc::SYS_pwritev, [FILE, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("preadv2", libc::SYS_preadv2, [FILE, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("pwritev2", libc::SYS_pwritev2, [FILE, GOOD, 1, 0, 0, 0], vec![pointer, 4]),
            ("execve argv", libc::SYS_execve, [PROGRAM, GOOD, 0, 0, 0, 0], vec![pointer, 0]),
            ("execve envp", libc::SYS_execve, [PROGRAM, 0, GOOD, 0, 0, 0], vec![pointer, 0]),
            ("execveat argv", libc::SYS_execveat, [AT_CWD, PROGRAM, GOOD, 0, 0, 0], vec![pointer, 0]),
            ("pselect6 mask", libc::SYS_pselect6, [0, 0, 0, 0, 0, GOOD], vec![pointer, 8]),
            (
                "clone3 set_tid",
                libc::SYS_clone3,
                [GOOD, 88, 0, 0, 0, 0],
                vec![0, 0, 0, 0, 17, 0, 0, 0, pointer, 1, 0],
            ),
            ("futex_waitv", SYS_FUTEX_WAITV, [GOOD, 1, 0, 0, 0, 0], vec![0, pointer & !7, 2]),
        ];
        for (name, number, template, words) in inside {
            for (index, word) in words.iter().enumerate() {
                // SAFETY: within our own page.
                unsafe { (things.good as *mut usize).add(index).write(*word) };
            }
            let result = call(number, template.map(|value| things.real(value, pointer)));
            let error = if result == -1 { errno() } else { 0 };
            if error != libc::EFAULT {
                wrong.push(format!("{name}({pointer:#x}): {result} errno {error}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

/// Pointers that the kernel keeps and follows later: robust lists, the id to clear, a set of restartable sequences, a signal's stack.
fn followed_later() -> Outcome {
    for pointer in bad_pointers()? {
        let status = sys::wait(sys::fork(|| {
            let head = [pointer, 0, pointer];
            call(libc::SYS_set_robust_list, [head.as_ptr() as usize, 24, 0, 0, 0, 0]);
            call(libc::SYS_set_tid_address, [pointer, 0, 0, 0, 0, 0]);
            7
        })?)?;
        ensure!(status == 7 << 8, "robust list at {pointer:#x}: {status:#x}");
        let status = sys::wait(sys::fork(|| {
            call(libc::SYS_set_robust_list, [pointer, 24, 0, 0, 0, 0]);
            8
        })?)?;
        ensure!(status == 8 << 8, "robust list in {pointer:#x}: {status:#x}");
        // A handler on a stack that is none: SIGSEGV and no return.
        let status = sys::wait(sys::fork(|| {
            let stack = [pointer & !15, 0, 1 << 16];
            if call(libc::SYS_sigaltstack, [stack.as_ptr() as usize, 0, 0, 0, 0, 0]) != 0 {
                return 9;
            }
            // SAFETY: a handler that does nothing; the signal's frame has no place, which is the point.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = libc::SIG_IGN + 0x1234;
                action.sa_flags = libc::SA_ONSTACK;
                libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
                libc::raise(libc::SIGUSR1);
            }
            1
        })?)?;
        let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV;
        ensure!(killed || status == 9 << 8, "signal stack at {pointer:#x}: {status:#x}");
    }
    Ok(())
}

/// A list of robust futexes that bites its tail must not keep the kernel.
fn endless_list() -> Outcome {
    let status = sys::wait(sys::fork(|| {
        let mut ring = [0usize; 8];
        let at = ring.as_ptr() as usize;
        (ring[0], ring[1], ring[2]) = (at + 32, 0, at + 48);
        (ring[4], ring[6]) = (at + 48, at + 32);
        std::hint::black_box(&mut ring);
        call(libc::SYS_set_robust_list, [at, 24, 0, 0, 0, 0]);
        7
    })?)?;
    ensure!(status == 7 << 8, "{status:#x}");
    Ok(())
}

static NO_GROUP: u32 = 65534;
const SYS_FUTEX_WAITV: i64 = 449;

fn partial_read() -> Outcome {
    // The second page is missing: what fits is transferred, as far as Linux does it, and nothing is lost.
    let memory = sys::map(8192, libc::PROT_READ | libc::PROT_WRITE)? as usize;
    // SAFETY: our own mapping.
    unsafe { libc::munmap((memory + 4096) as *mut _, 4096) };
    let (_reader, writer) = sys::pipe(0)?;
    let result = call(libc::SYS_write, [writer as usize, memory + 4090, 12, 0, 0, 0]);
    ensure!(result == -1 && errno() == libc::EFAULT || result == 6, "write gave {result}");
    let result = call(libc::SYS_read, [0, memory + 4096, 0, 0, 0, 0]);
    ensure!(result <= 0);
    Ok(())
}

fn end_of_user() -> Outcome {
    for (number, arguments) in [
        (libc::SYS_getcwd, [0x7fff_ffff_efff, 1 << 40, 0, 0, 0, 0]),
        (libc::SYS_write, [2, 0x7fff_ffff_e000, 0x2000, 0, 0, 0]),
        (libc::SYS_getrandom, [0x7fff_ffff_e000, usize::MAX, 0, 0, 0, 0]),
        (libc::SYS_munmap, [0x7fff_ffff_f000, usize::MAX, 0, 0, 0, 0]),
        (libc::SYS_mprotect, [usize::MAX - 4095, 8192, 0, 0, 0, 0]),
        (libc::SYS_munmap, [4096, usize::MAX - 8191, 0, 0, 0, 0]),
        (libc::SYS_mincore, [usize::MAX - 4095, 4096, 8, 0, 0, 0]),
    ] {
        let result = call(number, arguments);
        ensure!(result <= 0 || number == libc::SYS_write, "call {number} gave {result}");
    }
    Ok(())
}

/// Random calls with random arguments in children; only the machine's survival counts.
fn random_calls() -> Outcome {
    let mut random = crate::elf::Random(0x1234_5678);
    // Calls that end or stop the machine or the test itself are left out.
    let excluded = [
        libc::SYS_reboot,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_pause,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_rt_sigsuspend,
        libc::SYS_select,
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_umount2,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_mount,
        libc::SYS_setsid,
        libc::SYS_setpgid,
        libc::SYS_vhangup,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_iopl,
        libc::SYS_ioperm,
        libc::SYS_kexec_load,
        libc::SYS_unlink,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_umask,
        libc::SYS_syslog,
        libc::SYS_alarm,
        libc::SYS_rename,
        libc::SYS_ptrace,
    ];
    for _ in 0..200 {
        let seed = random.next();
        let child = sys::fork(|| {
            let mut random = crate::elf::Random(seed);
            let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
            // SAFETY: one rlimit; then whatever the kernel makes of nonsense, in a process that may die of it.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
                libc::setresgid(65534, 65534, 65534);
                libc::setresuid(65534, 65534, 65534);
                libc::alarm(1);
            }
            for _ in 0..100 {
                let number = (random.next() % 335) as i64;
                if !excluded.contains(&number) {
                    let mut argument = || match random.next() % 5 {
                        0 => (random.next() % 16) as usize,
                        1 => random.next() as usize,
                        2 => &raw const seed as usize,
                        3 => (random.next() as usize) << 12 & 0xffff_ffff_f000,
                        _ => 0,
                    };
                    call(number, [argument(), argument(), argument(), argument(), argument(), argument()]);
                }
            }
            0
        })?;
        sys::sleep_ms(1);
        let mut status = 0;
        let start = std::time::Instant::now();
        // SAFETY: one int.
        while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
            if start.elapsed().as_millis() > 50 {
                // SAFETY: numbers only.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            sys::sleep_ms(1);
        }
    }
    Ok(())
}
