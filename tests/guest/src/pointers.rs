//! Wrong pointers: every call that takes one answers EFAULT, and the machine goes on.

use crate::case::{Case, Outcome, case};
use crate::ensure;
use crate::sys::{self, call, errno};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("pointers_efault_everywhere", everywhere),
    case("pointers_partial_read", partial_read),
    case("pointers_end_of_user_space", end_of_user),
    case("pointers_random_calls", random_calls),
];

/// Stands for the pointer under test.
const P: usize = 0xdead_0000_0000_0001;
/// Stands for a pointer to a string that names a file.
const PATH: usize = 0xdead_0000_0000_0002;
/// Stands for a descriptor of a regular file, of a pipe's ends, of a folder.
const FILE: usize = 0xdead_0000_0000_0003;
const READER: usize = 0xdead_0000_0000_0004;
const WRITER: usize = 0xdead_0000_0000_0005;
const FOLDER: usize = 0xdead_0000_0000_0006;
const AT_CWD: usize = libc::AT_FDCWD as usize;

type Row = (&'static str, i64, [usize; 6]);

const TABLE: &[Row] = &[
    ("read", libc::SYS_read, [READER, P, 4, 0, 0, 0]),
    ("read file", libc::SYS_read, [FILE, P, 4, 0, 0, 0]),
    ("write", libc::SYS_write, [WRITER, P, 4, 0, 0, 0]),
    ("write file", libc::SYS_write, [FILE, P, 4, 0, 0, 0]),
    ("pread64", libc::SYS_pread64, [FILE, P, 4, 0, 0, 0]),
    ("pwrite64", libc::SYS_pwrite64, [FILE, P, 4, 0, 0, 0]),
    ("readv", libc::SYS_readv, [FILE, P, 1, 0, 0, 0]),
    ("writev", libc::SYS_writev, [FILE, P, 1, 0, 0, 0]),
    ("open", libc::SYS_open, [P, 0, 0, 0, 0, 0]),
    ("openat", libc::SYS_openat, [AT_CWD, P, 0, 0, 0, 0]),
    ("stat", libc::SYS_stat, [PATH, P, 0, 0, 0, 0]),
    ("stat path", libc::SYS_stat, [P, P, 0, 0, 0, 0]),
    ("lstat", libc::SYS_lstat, [PATH, P, 0, 0, 0, 0]),
    ("fstat", libc::SYS_fstat, [FILE, P, 0, 0, 0, 0]),
    ("newfstatat", libc::SYS_newfstatat, [AT_CWD, PATH, P, 0, 0, 0]),
    ("statx", libc::SYS_statx, [AT_CWD, PATH, 0, 0xfff, P, 0]),
    ("statfs", libc::SYS_statfs, [PATH, P, 0, 0, 0, 0]),
    ("access", libc::SYS_access, [P, 0, 0, 0, 0, 0]),
    ("mkdir", libc::SYS_mkdir, [P, 0o700, 0, 0, 0, 0]),
    ("rmdir", libc::SYS_rmdir, [P, 0, 0, 0, 0, 0]),
    ("unlink", libc::SYS_unlink, [P, 0, 0, 0, 0, 0]),
    ("rename", libc::SYS_rename, [PATH, P, 0, 0, 0, 0]),
    ("link", libc::SYS_link, [P, PATH, 0, 0, 0, 0]),
    ("symlink", libc::SYS_symlink, [P, PATH, 0, 0, 0, 0]),
    ("readlink", libc::SYS_readlink, [P, PATH, 10, 0, 0, 0]),
    ("chmod", libc::SYS_chmod, [P, 0, 0, 0, 0, 0]),
    ("chown", libc::SYS_chown, [P, 0, 0, 0, 0, 0]),
    ("truncate", libc::SYS_truncate, [P, 0, 0, 0, 0, 0]),
    ("chdir", libc::SYS_chdir, [P, 0, 0, 0, 0, 0]),
    ("getcwd", libc::SYS_getcwd, [P, 100, 0, 0, 0, 0]),
    ("getdents64", libc::SYS_getdents64, [FOLDER, P, 1000, 0, 0, 0]),
    ("pipe2", libc::SYS_pipe2, [P, 0, 0, 0, 0, 0]),
    ("poll", libc::SYS_poll, [P, 1, 0, 0, 0, 0]),
    ("select", libc::SYS_select, [10, P, 0, 0, 0, 0]),
    ("epoll_wait", libc::SYS_epoll_ctl, [FILE, 1, READER, P, 0, 0]),
    ("execve", libc::SYS_execve, [P, 0, 0, 0, 0, 0]),
    ("uname", libc::SYS_uname, [P, 0, 0, 0, 0, 0]),
    ("gettimeofday", libc::SYS_gettimeofday, [P, 0, 0, 0, 0, 0]),
    ("clock_gettime", libc::SYS_clock_gettime, [0, P, 0, 0, 0, 0]),
    ("clock_getres", libc::SYS_clock_getres, [0, P, 0, 0, 0, 0]),
    ("nanosleep", libc::SYS_nanosleep, [P, 0, 0, 0, 0, 0]),
    ("getrlimit", libc::SYS_getrlimit, [7, P, 0, 0, 0, 0]),
    ("setrlimit", libc::SYS_setrlimit, [7, P, 0, 0, 0, 0]),
    ("prlimit64", libc::SYS_prlimit64, [0, 7, 0, P, 0, 0]),
    ("getrusage", libc::SYS_getrusage, [0, P, 0, 0, 0, 0]),
    ("times", libc::SYS_times, [P, 0, 0, 0, 0, 0]),
    ("sysinfo", libc::SYS_sysinfo, [P, 0, 0, 0, 0, 0]),
    ("rt_sigaction", libc::SYS_rt_sigaction, [10, P, 0, 8, 0, 0]),
    ("rt_sigaction old", libc::SYS_rt_sigaction, [10, 0, P, 8, 0, 0]),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask, [0, P, 0, 8, 0, 0]),
    ("rt_sigpending", libc::SYS_rt_sigpending, [P, 8, 0, 0, 0, 0]),
    ("sigaltstack", libc::SYS_sigaltstack, [P, 0, 0, 0, 0, 0]),
    ("setitimer", libc::SYS_setitimer, [0, P, 0, 0, 0, 0]),
    ("getgroups", libc::SYS_setgroups, [1, P, 0, 0, 0, 0]),
    ("getresuid", libc::SYS_getresuid, [P, P, P, 0, 0, 0]),
    ("sched_setparam", libc::SYS_sched_getparam, [0, P, 0, 0, 0, 0]),
    ("sched_setaffinity", libc::SYS_sched_setaffinity, [0, 8, P, 0, 0, 0]),
    ("sched_getaffinity", libc::SYS_sched_getaffinity, [0, 128, P, 0, 0, 0]),
    ("futex", libc::SYS_futex, [P & !3, 0, 0, 0, 0, 0]),
    ("prctl name", libc::SYS_prctl, [15, P, 0, 0, 0, 0]),
    ("ioctl", libc::SYS_ioctl, [READER, libc::FIONREAD as usize, P, 0, 0, 0]),
    ("mount", libc::SYS_mount, [PATH, P, PATH, 0, 0, 0]),
    ("getrandom", libc::SYS_getrandom, [P, 10, 0, 0, 0, 0]),
    ("utimensat", libc::SYS_utimensat, [AT_CWD, PATH, P, 0, 0, 0]),
    ("timerfd_settime", libc::SYS_clone3, [P, 88, 0, 0, 0, 0]),
];

/// Low, unmapped, without permission, not canonical, the kernel's.
fn bad_pointers() -> Result<Vec<usize>, crate::case::Failure> {
    let forbidden = sys::map(4096, libc::PROT_NONE)? as usize;
    Ok(vec![8, 0x1234_5000, forbidden, 0x8000_0000_0000_0000, 0xffff_8880_0000_0000, usize::MAX - 100])
}

fn everywhere() -> Outcome {
    let dir = sys::folder("po")?;
    std::fs::write(format!("{dir}/file"), b"contents").map_err(|e| e.to_string())?;
    std::fs::set_permissions(format!("{dir}/file"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    let (file, folder) = (sys::c(&format!("{dir}/file")), sys::c(&dir));
    // SAFETY: C strings and numbers.
    let (file_fd, folder_fd) =
        unsafe { (libc::open(file.as_ptr(), libc::O_RDWR), libc::open(folder.as_ptr(), libc::O_RDONLY)) };
    let (reader, writer) = sys::pipe(0)?;
    sys::write(writer, b"something to read")?;
    let mut wrong = Vec::new();
    for (name, number, template) in TABLE {
        for pointer in bad_pointers()? {
            let arguments = template.map(|value| match value {
                P => pointer,
                PATH => file.as_ptr() as usize,
                FILE => file_fd as usize,
                READER => reader as usize,
                WRITER => writer as usize,
                FOLDER => folder_fd as usize,
                other if other == P & !3 => pointer & !3,
                other => other,
            });
            let result = call(*number, arguments);
            let error = if result == -1 { errno() } else { 0 };
            // epoll_ctl on a file that is no epoll checks the pointer first; sched_getparam alike.
            if error != libc::EFAULT {
                wrong.push(format!("{name}({pointer:#x}): {result} errno {error}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("; "));
    Ok(())
}

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
