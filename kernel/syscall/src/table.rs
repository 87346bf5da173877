//! The system-call table of x86_64: `name = number => handler`, and what is made of it.
//!
//! One table serves dispatch (an array indexed by number) and `docs/compat.md` ([`IMPLEMENTED`], which the example `compat`
//! prints). A call of which only a part is there says so in a string behind its handler: `name = number => handler, "remark";`.
//! A number that is not here answers `ENOSYS`, as Linux built without that call does.
//!
//! Locks: none; the table is constant.

use crate::decode::{Context, Handler};
use crate::*;
use abi::errno::{Errno, Result};

type Entry = fn(&mut Context<'_>) -> Result<usize>;

/// One more than the highest number in the table.
const LENGTH: usize = 512;

/// An implemented call, as `docs/compat.md` lists it.
pub struct Call {
    /// Linux's name.
    pub name: &'static str,
    /// Its number.
    pub number: usize,
    /// Which of its arguments its handler takes as pointers: bit 0 is the first.
    pub pointers: u8,
    /// What is missing of it; empty if nothing is known to be.
    pub remark: &'static str,
}

/// [`Handler::POINTERS`] of a handler.
const fn pointers_of<Arguments, H: Handler<Arguments>>(_: &H) -> u8 {
    H::POINTERS
}

macro_rules! system_calls {
    ($($name:ident = $number:literal => $handler:path $(, $remark:literal)?;)*) => {
        /// The array that dispatch indexes.
        static TABLE: [Option<Entry>; LENGTH] = {
            let mut table: [Option<Entry>; LENGTH] = [None; LENGTH];
            $(
                assert!(table[$number].is_none(), "a number stands twice in the table");
                table[$number] = Some(|context| Handler::invoke(&$handler, context));
            )*
            table
        };

        /// Every implemented call, in the order of the table.
        pub const IMPLEMENTED: &[Call] = &[
            $(Call {
                name: stringify!($name),
                number: $number,
                pointers: pointers_of(&$handler),
                remark: concat!($($remark)?),
            }),*
        ];
    };
}

system_calls! {
    read = 0 => file::read;
    write = 1 => file::write;
    open = 2 => open::open;
    close = 3 => descriptor::close;
    stat = 4 => attributes::stat;
    fstat = 5 => attributes::fstat;
    lstat = 6 => attributes::lstat;
    poll = 7 => poll::poll;
    lseek = 8 => file::lseek;
    mmap = 9 => memory::mmap;
    mprotect = 10 => memory::mprotect;
    munmap = 11 => memory::munmap;
    brk = 12 => memory::brk;
    rt_sigaction = 13 => signal::rt_sigaction;
    rt_sigprocmask = 14 => signal::rt_sigprocmask;
    rt_sigreturn = 15 => signal::rt_sigreturn;
    ioctl = 16 => descriptor::ioctl, "what the file, terminal or device offers; FIOASYNC is refused";
    pread64 = 17 => file::pread64;
    pwrite64 = 18 => file::pwrite64;
    readv = 19 => file::readv;
    writev = 20 => file::writev;
    access = 21 => attributes::access;
    pipe = 22 => event::pipe;
    select = 23 => poll::select;
    sched_yield = 24 => scheduling::sched_yield;
    mremap = 25 => memory::mremap;
    msync = 26 => memory::msync;
    mincore = 27 => memory::mincore;
    madvise = 28 => memory::madvise, "huge pages are wished for in vain; no merging (KSM), no hardware poison";
    shmget = 29 => shm::shmget;
    shmat = 30 => shm::shmat;
    shmctl = 31 => shm::shmctl, "no SHM_LOCK (EINVAL); the time of detaching is that of shmdt only";
    dup = 32 => descriptor::dup;
    dup2 = 33 => descriptor::dup2;
    pause = 34 => signal::pause;
    nanosleep = 35 => time::nanosleep;
    getitimer = 36 => timer::getitimer;
    alarm = 37 => timer::alarm;
    setitimer = 38 => timer::setitimer;
    getpid = 39 => process::getpid;
    sendfile = 40 => file::sendfile;
    socket = 41 => socket::socket, "UNIX, netlink, packet, UDP, ICMP and raw sockets; no streams in AF_INET and AF_INET6 (ESOCKTNOSUPPORT), no IP options";
    connect = 42 => socket::connect;
    accept = 43 => socket::accept;
    sendto = 44 => message::sendto;
    recvfrom = 45 => message::recvfrom;
    sendmsg = 46 => message::sendmsg;
    recvmsg = 47 => message::recvmsg;
    shutdown = 48 => socket::shutdown;
    bind = 49 => socket::bind;
    listen = 50 => socket::listen;
    getsockname = 51 => socket::getsockname;
    getpeername = 52 => socket::getpeername;
    socketpair = 53 => socket::socketpair;
    setsockopt = 54 => socket::setsockopt;
    getsockopt = 55 => socket::getsockopt;
    clone = 56 => process::clone;
    fork = 57 => process::fork;
    vfork = 58 => process::vfork;
    execve = 59 => process::execve;
    exit = 60 => process::exit;
    wait4 = 61 => process::wait4;
    kill = 62 => signal::kill;
    uname = 63 => system::uname;
    shmdt = 67 => shm::shmdt;
    msgget = 68 => msg::msgget;
    msgsnd = 69 => msg::msgsnd;
    msgrcv = 70 => msg::msgrcv, "no MSG_COPY (ENOSYS, as Linux without checkpoint and restore)";
    msgctl = 71 => msg::msgctl;
    fcntl = 72 => descriptor::fcntl, "no leases, directory notices or write hints; O_ASYNC cannot be set";
    flock = 73 => descriptor::flock;
    fsync = 74 => file::fsync;
    fdatasync = 75 => file::fdatasync;
    truncate = 76 => file::truncate;
    ftruncate = 77 => file::ftruncate;
    getdents = 78 => directory::getdents;
    getcwd = 79 => directory::getcwd;
    chdir = 80 => directory::chdir;
    fchdir = 81 => directory::fchdir;
    rename = 82 => directory::rename;
    mkdir = 83 => directory::mkdir;
    rmdir = 84 => directory::rmdir;
    creat = 85 => open::creat;
    link = 86 => directory::link;
    unlink = 87 => directory::unlink;
    symlink = 88 => directory::symlink;
    readlink = 89 => directory::readlink;
    chmod = 90 => attributes::chmod;
    fchmod = 91 => attributes::fchmod;
    chown = 92 => attributes::chown;
    fchown = 93 => attributes::fchown;
    lchown = 94 => attributes::lchown;
    umask = 95 => attributes::umask;
    gettimeofday = 96 => time::gettimeofday;
    getrlimit = 97 => limits::getrlimit;
    getrusage = 98 => limits::getrusage;
    sysinfo = 99 => system::sysinfo, "no buffers or high memory in the answer";
    times = 100 => time::times;
    getuid = 102 => credentials::getuid;
    syslog = 103 => system::syslog;
    getgid = 104 => credentials::getgid;
    setuid = 105 => credentials::setuid;
    setgid = 106 => credentials::setgid;
    geteuid = 107 => credentials::geteuid;
    getegid = 108 => credentials::getegid;
    setpgid = 109 => process::setpgid;
    getppid = 110 => process::getppid;
    getpgrp = 111 => process::getpgrp;
    setsid = 112 => process::setsid;
    setreuid = 113 => credentials::setreuid;
    setregid = 114 => credentials::setregid;
    getgroups = 115 => credentials::getgroups;
    setgroups = 116 => credentials::setgroups;
    setresuid = 117 => credentials::setresuid;
    getresuid = 118 => credentials::getresuid;
    setresgid = 119 => credentials::setresgid;
    getresgid = 120 => credentials::getresgid;
    getpgid = 121 => process::getpgid;
    setfsuid = 122 => credentials::setfsuid;
    setfsgid = 123 => credentials::setfsgid;
    getsid = 124 => process::getsid;
    capget = 125 => credentials::capget;
    capset = 126 => credentials::capset;
    rt_sigpending = 127 => signal::rt_sigpending;
    rt_sigtimedwait = 128 => signal::rt_sigtimedwait;
    rt_sigqueueinfo = 129 => signal::rt_sigqueueinfo;
    rt_sigsuspend = 130 => signal::rt_sigsuspend;
    sigaltstack = 131 => signal::sigaltstack;
    utime = 132 => attributes::utime;
    mknod = 133 => directory::mknod;
    personality = 135 => system::personality;
    statfs = 137 => mount::statfs;
    fstatfs = 138 => mount::fstatfs;
    getpriority = 140 => scheduling::getpriority;
    setpriority = 141 => scheduling::setpriority;
    sched_setparam = 142 => scheduling::sched_setparam;
    sched_getparam = 143 => scheduling::sched_getparam;
    sched_setscheduler = 144 => scheduling::sched_setscheduler;
    sched_getscheduler = 145 => scheduling::sched_getscheduler;
    sched_get_priority_max = 146 => scheduling::sched_get_priority_max;
    sched_get_priority_min = 147 => scheduling::sched_get_priority_min;
    sched_rr_get_interval = 148 => scheduling::sched_rr_get_interval;
    mlock = 149 => memory::mlock;
    munlock = 150 => memory::munlock;
    mlockall = 151 => memory::mlockall;
    munlockall = 152 => memory::munlockall;
    pivot_root = 155 => mount::pivot_root;
    prctl = 157 => prctl::prctl, "no seccomp modes, speculation control, MDWE, core scheduling, KSM, forbidden TSC, PR_SET_MM_MAP";
    arch_prctl = 158 => prctl::arch_prctl, "no shadow stacks, tagged addresses or forbidden CPUID";
    setrlimit = 160 => limits::setrlimit;
    chroot = 161 => directory::chroot;
    sync = 162 => file::sync;
    settimeofday = 164 => time::settimeofday;
    mount = 165 => mount::mount;
    umount2 = 166 => mount::umount2;
    swapon = 167 => swap::swapon, "a device; no file yet; SWAP_FLAG_DISCARD_PAGES has no effect";
    swapoff = 168 => swap::swapoff;
    reboot = 169 => system::reboot, "restart, halt and power-off; no kexec, no suspend";
    sethostname = 170 => system::sethostname;
    setdomainname = 171 => system::setdomainname;
    gettid = 186 => process::gettid;
    readahead = 187 => file::readahead;
    setxattr = 188 => xattr::setxattr;
    lsetxattr = 189 => xattr::lsetxattr;
    fsetxattr = 190 => xattr::fsetxattr;
    getxattr = 191 => xattr::getxattr;
    lgetxattr = 192 => xattr::lgetxattr;
    fgetxattr = 193 => xattr::fgetxattr;
    listxattr = 194 => xattr::listxattr;
    llistxattr = 195 => xattr::llistxattr;
    flistxattr = 196 => xattr::flistxattr;
    removexattr = 197 => xattr::removexattr;
    lremovexattr = 198 => xattr::lremovexattr;
    fremovexattr = 199 => xattr::fremovexattr;
    tkill = 200 => signal::tkill;
    time = 201 => time::time;
    futex = 202 => futex::futex;
    sched_setaffinity = 203 => scheduling::sched_setaffinity;
    sched_getaffinity = 204 => scheduling::sched_getaffinity;
    getdents64 = 217 => directory::getdents64;
    set_tid_address = 218 => process::set_tid_address;
    restart_syscall = 219 => signal::restart_syscall;
    fadvise64 = 221 => file::fadvise64;
    timer_create = 222 => timer::timer_create;
    timer_settime = 223 => timer::timer_settime;
    timer_gettime = 224 => timer::timer_gettime;
    timer_getoverrun = 225 => timer::timer_getoverrun;
    timer_delete = 226 => timer::timer_delete;
    clock_settime = 227 => time::clock_settime, "CLOCK_REALTIME only";
    clock_gettime = 228 => time::clock_gettime, "no clocks of other processes, no device clocks";
    clock_getres = 229 => time::clock_getres;
    clock_nanosleep = 230 => time::clock_nanosleep;
    exit_group = 231 => process::exit_group;
    epoll_create = 213 => event::epoll_create;
    epoll_wait = 232 => event::epoll_wait;
    epoll_ctl = 233 => event::epoll_ctl;
    tgkill = 234 => signal::tgkill;
    utimes = 235 => attributes::utimes;
    waitid = 247 => process::waitid;
    ioprio_set = 251 => scheduling::ioprio_set;
    ioprio_get = 252 => scheduling::ioprio_get;
    inotify_init = 253 => inotify::inotify_init;
    inotify_add_watch = 254 => inotify::inotify_add_watch;
    inotify_rm_watch = 255 => inotify::inotify_rm_watch;
    openat = 257 => open::openat;
    mkdirat = 258 => directory::mkdirat;
    mknodat = 259 => directory::mknodat;
    fchownat = 260 => attributes::fchownat;
    futimesat = 261 => attributes::futimesat;
    newfstatat = 262 => attributes::newfstatat;
    unlinkat = 263 => directory::unlinkat;
    renameat = 264 => directory::renameat;
    linkat = 265 => directory::linkat;
    symlinkat = 266 => directory::symlinkat;
    readlinkat = 267 => directory::readlinkat;
    fchmodat = 268 => attributes::fchmodat;
    faccessat = 269 => attributes::faccessat;
    pselect6 = 270 => poll::pselect6;
    ppoll = 271 => poll::ppoll;
    unshare = 272 => process::unshare;
    set_robust_list = 273 => futex::set_robust_list;
    get_robust_list = 274 => futex::get_robust_list;
    splice = 275 => file::splice, "copies; the SPLICE_F flags change nothing";
    tee = 276 => file::tee;
    sync_file_range = 277 => file::sync_file_range;
    vmsplice = 278 => file::vmsplice, "copies";
    utimensat = 280 => attributes::utimensat;
    epoll_pwait = 281 => event::epoll_pwait;
    signalfd = 282 => event::signalfd;
    timerfd_create = 283 => event::timerfd_create;
    timerfd_settime = 286 => event::timerfd_settime;
    timerfd_gettime = 287 => event::timerfd_gettime;
    signalfd4 = 289 => event::signalfd4;
    epoll_create1 = 291 => event::epoll_create1;
    eventfd = 284 => event::eventfd;
    fallocate = 285 => file::fallocate;
    accept4 = 288 => socket::accept4;
    eventfd2 = 290 => event::eventfd2;
    dup3 = 292 => descriptor::dup3;
    pipe2 = 293 => event::pipe2;
    inotify_init1 = 294 => inotify::inotify_init1;
    preadv = 295 => file::preadv;
    pwritev = 296 => file::pwritev;
    rt_tgsigqueueinfo = 297 => signal::rt_tgsigqueueinfo;
    recvmmsg = 299 => message::recvmmsg;
    prlimit64 = 302 => limits::prlimit64;
    syncfs = 306 => file::syncfs;
    sendmmsg = 307 => message::sendmmsg;
    setns = 308 => process::setns;
    getcpu = 309 => scheduling::getcpu;
    process_vm_readv = 310 => remote::process_vm_readv;
    process_vm_writev = 311 => remote::process_vm_writev;
    kcmp = 312 => remote::kcmp;
    sched_setattr = 314 => scheduling::sched_setattr;
    sched_getattr = 315 => scheduling::sched_getattr;
    renameat2 = 316 => directory::renameat2;
    getrandom = 318 => system::getrandom;
    memfd_create = 319 => open::memfd_create, "no huge pages";
    execveat = 322 => process::execveat;
    membarrier = 324 => memory::membarrier;
    copy_file_range = 326 => file::copy_file_range;
    preadv2 = 327 => file::preadv2, "of the flags RWF_HIPRI and RWF_NOWAIT";
    mlock2 = 325 => memory::mlock2;
    pwritev2 = 328 => file::pwritev2, "of the flags RWF_HIPRI, RWF_DSYNC, RWF_SYNC and RWF_APPEND";
    pkey_mprotect = 329 => memory::pkey_mprotect;
    pkey_alloc = 330 => memory::pkey_alloc;
    pkey_free = 331 => memory::pkey_free;
    statx = 332 => attributes::statx;
    rseq = 334 => process::rseq;
    pidfd_send_signal = 424 => signal::pidfd_send_signal;
    pidfd_open = 434 => process::pidfd_open;
    clone3 = 435 => process::clone3, "no CLONE_INTO_CGROUP";
    close_range = 436 => descriptor::close_range;
    openat2 = 437 => open::openat2;
    pidfd_getfd = 438 => process::pidfd_getfd;
    faccessat2 = 439 => attributes::faccessat2;
    process_madvise = 440 => remote::process_madvise;
    epoll_pwait2 = 441 => event::epoll_pwait2;
    process_mrelease = 448 => remote::process_mrelease;
    futex_waitv = 449 => futex::futex_waitv;
    fchmodat2 = 452 => attributes::fchmodat2;
}

/// Runs the handler of system call `number`; its result as the program sees it is left to the caller.
///
/// Errors: `ENOSYS` for a number that has no handler; else the handler's.
#[inline(always)]
pub fn call(number: usize, context: &mut Context<'_>) -> Result<usize> {
    match TABLE.get(number) {
        Some(Some(entry)) => entry(context),
        _ => Err(Errno::ENOSYS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the guest's pointer tests and its fuzzer know of the calls: `("name", number, "letters"),` on each line.
    const GUEST_CALLS: &str = include_str!("../../../tests/guest/src/calls.rs");

    fn known_to_the_guest(call: &Call) -> Option<&'static str> {
        let start = std::format!("(\"{}\", {}, \"", call.name, call.number);
        let line = GUEST_CALLS.lines().find_map(|line| line.trim().strip_prefix(&*start))?;
        line.strip_suffix("\"),")
    }

    #[test]
    fn the_guest_tests_every_pointer_of_every_call() {
        for call in IMPLEMENTED {
            let letters = known_to_the_guest(call);
            let letters = letters.unwrap_or_else(|| panic!("tests/guest/src/calls.rs lacks {}", call.name));
            for index in (0..6).filter(|index| call.pointers >> index & 1 != 0) {
                let letter = letters.chars().nth(index).unwrap_or(' ');
                assert!(
                    "svtpa".contains(letter),
                    "argument {index} of {} is a pointer, not {letter:?}",
                    call.name
                );
            }
        }
    }

    #[test]
    fn every_number_has_the_name_that_linux_gives_it() {
        for call in IMPLEMENTED {
            assert_eq!(abi::nr::x86_64::name(call.number), Some(call.name), "number {}", call.number);
        }
    }
}
