//! Programs that ask for more than there is; the machine must survive and stay usable.

use crate::case::{Case, Failure, Outcome, case, long_case};
use crate::sys::{self, errno};
use crate::{ensure, ensure_eq};

/// The cases of this file.
pub const CASES: &[Case] = &[
    long_case("hostile_fork_bomb_with_limit", 60, fork_bomb_limited),
    long_case("hostile_fork_bomb", 120, fork_bomb),
    long_case("hostile_touch_all_memory", 120, touch_everything),
    long_case("hostile_many_mappings", 120, many_mappings),
    long_case("hostile_fill_tmpfs", 120, fill_tmpfs),
    long_case("hostile_kill_storm", 120, kill_storm),
    long_case("hostile_pipe_hoard", 60, pipe_hoard),
    long_case("hostile_deep_folders", 60, deep_folders),
    case("hostile_endless_devices", endless_devices),
    case("hostile_endless_times", endless_times),
    long_case("hostile_long_maps", 60, long_maps),
];

/// The machine still works: a program can be started.
fn still_usable() -> Outcome {
    let status = std::process::Command::new("/bin/true").status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(Failure::Wrong(format!("/bin/true: {status}"))) }
}

fn fork_bomb_limited() -> Outcome {
    let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    let code = sys::in_child(|| {
        // SAFETY: one rlimit; numbers.
        unsafe {
            libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit);
            libc::setresuid(1234, 1234, 1234);
        }
        let mut started = 0;
        let sleeper = || {
            sys::sleep_ms(100_000);
            0
        };
        while sys::fork(sleeper).is_ok() {
            started += 1;
            if started > 500 {
                return 1;
            }
        }
        i32::from(errno() != libc::EAGAIN) * 2 + i32::from(!(90..=100).contains(&started)) * 4
    })?;
    ensure_eq!(code, 0);
    still_usable()
}

fn fork_bomb() -> Outcome {
    // Every process forks as often as it can, until 2000 have started or the kernel refuses.
    let counter = sys::map_shared_counter()?;
    let bomb = sys::fork(|| {
        loop {
            if counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 2000 {
                sys::sleep_ms(100_000);
            }
            // SAFETY: one thread.
            if unsafe { libc::fork() } < 0 {
                sys::sleep_ms(10);
            }
        }
    })?;
    while counter.load(std::sync::atomic::Ordering::SeqCst) < 2000 {
        sys::sleep_ms(50);
    }
    // The runner kills the group at the end; here one process of it must be killable at once.
    // SAFETY: numbers only.
    unsafe { libc::kill(bomb, libc::SIGKILL) };
    sys::wait(bomb)?;
    Ok(())
}

fn touch_everything() -> Outcome {
    let child = sys::fork(|| {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        loop {
            let Ok(memory) = sys::map(16 << 20, libc::PROT_READ | libc::PROT_WRITE) else { return 3 };
            // SAFETY: within the mapping.
            unsafe { memory.write_bytes(1, 16 << 20) };
        }
    })?;
    let status = sys::wait(child)?;
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    ensure!(killed || status == 3 << 8, "status {status:#x}");
    still_usable()
}

fn many_mappings() -> Outcome {
    let code = sys::in_child(|| {
        let mut count = 0;
        while count < 200_000 {
            // Alternating protections, so that neighbours cannot be merged.
            let protection = if count % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
            if sys::map(4096, protection).is_err() {
                break;
            }
            count += 1;
        }
        i32::from(errno() != libc::ENOMEM) + i32::from(!(60_000..=65_600).contains(&count)) * 2
    })?;
    ensure_eq!(code, 0);
    still_usable()
}

fn fill_tmpfs() -> Outcome {
    let dir = sys::folder("fill")?;
    let place = sys::c(&dir);
    let options = c"size=20m";
    // SAFETY: C strings.
    let mounted = unsafe {
        libc::mount(c"none".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast())
    };
    ensure_eq!(mounted, 0);
    let error = (0..100)
        .map(|i| std::fs::write(format!("{dir}/{i}"), vec![1; 1 << 20]))
        .find_map(Result::err)
        .and_then(|e| e.raw_os_error());
    // SAFETY: a C string.
    let unmounted = unsafe { libc::umount2(place.as_ptr(), 0) };
    ensure_eq!(error, Some(libc::ENOSPC));
    ensure_eq!(unmounted, 0);
    Ok(())
}

fn kill_storm() -> Outcome {
    let start = std::time::Instant::now();
    let mut round = 0u64;
    while start.elapsed().as_secs() < 5 {
        let child = sys::fork(|| {
            loop {
                // SAFETY: null-terminated arrays of C strings; one thread.
                unsafe {
                    let grandchild = libc::fork();
                    if grandchild == 0 {
                        let words = [c"/bin/true".as_ptr(), std::ptr::null()];
                        libc::execve(words[0], words.as_ptr(), words[1..].as_ptr());
                        libc::_exit(1);
                    }
                    if let Ok(memory) = sys::map(1 << 20, libc::PROT_READ | libc::PROT_WRITE) {
                        memory.write_bytes(1, 1 << 20);
                        libc::munmap(memory.cast(), 1 << 20);
                    }
                    libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG);
                }
            }
        })?;
        std::thread::sleep(std::time::Duration::from_micros(round * 37 % 5000));
        // SAFETY: numbers only.
        unsafe { libc::kill(child, libc::SIGKILL) };
        ensure_eq!(libc::WTERMSIG(sys::wait(child)?), libc::SIGKILL);
        round += 1;
    }
    ensure!(round > 10, "only {round} rounds");
    still_usable()
}

fn pipe_hoard() -> Outcome {
    let code = sys::in_child(|| {
        let block = [1u8; 65536];
        let mut count = 0;
        while let Ok((_, writer)) = sys::pipe(libc::O_NONBLOCK) {
            // SAFETY: a buffer of that length.
            unsafe { libc::write(writer, block.as_ptr().cast(), block.len()) };
            count += 1;
        }
        i32::from(count < 100)
    })?;
    ensure_eq!(code, 0);
    still_usable()
}

fn deep_folders() -> Outcome {
    let dir = sys::folder("deep")?;
    let code = sys::in_child(|| {
        if std::env::set_current_dir(&dir).is_err() {
            return 1;
        }
        for _ in 0..2000 {
            if std::fs::create_dir("d").is_err() || std::env::set_current_dir("d").is_err() {
                return 2;
            }
        }
        // The path is longer than getcwd can tell.
        i32::from(std::env::current_dir().is_ok()) * 4
    })?;
    ensure!(code == 0 || code == 4, "code {code}");
    still_usable()
}

/// From a device without end to one that swallows everything; found by the fuzzer.
fn endless_devices() -> Outcome {
    let child = sys::fork(|| {
        // SAFETY: C strings, numbers and a null pointer that is allowed.
        unsafe {
            let zero = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
            if libc::sendfile(null, zero, std::ptr::null_mut(), 1 << 20) <= 0 {
                return 1;
            }
            libc::alarm(1);
            loop {
                libc::sendfile(null, zero, std::ptr::null_mut(), 1 << 30);
            }
        }
    })?;
    let status = sys::wait(child)?;
    ensure!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM, "status {status:#x}");
    Ok(())
}

/// A text of `/proc` larger than any block of memory: all of it, or `ENOMEM`.
fn long_maps() -> Outcome {
    let mut path = sys::folder("maps")?;
    for _ in 0..13 {
        path = format!("{path}/{}", "n".repeat(250));
        std::fs::create_dir(&path).map_err(|e| e.to_string())?;
    }
    path.push_str("/f");
    std::fs::write(&path, [1; 8192]).map_err(|e| e.to_string())?;
    let code = sys::in_child(|| {
        // SAFETY: a C string; new mappings at addresses of the kernel's choice.
        unsafe {
            let fd = libc::open(sys::c(&path).as_ptr(), libc::O_RDONLY);
            for index in 0..2000 {
                let protection = if index % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
                let place = libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE, fd, 0);
                if place == libc::MAP_FAILED {
                    return 1;
                }
            }
        }
        match std::fs::read("/proc/self/maps") {
            Ok(text) => i32::from(text.len() < 6 << 20) * 2,
            Err(error) => i32::from(error.raw_os_error() != Some(libc::ENOMEM)) * 4,
        }
    })?;
    ensure_eq!(code, 0);
    still_usable()
}

/// Times so far away that adding them to now would overflow; found by the fuzzer.
fn endless_times() -> Outcome {
    let code = sys::in_child(|| {
        for far in [u64::MAX - 1, u64::MAX / 2, u64::MAX / 1_000_000_000, i64::MAX as u64 / 1_000_000_000] {
            let limit = libc::rlimit { rlim_cur: far, rlim_max: libc::RLIM_INFINITY };
            let time = [far as i64, 0, far as i64, 0];
            // SAFETY: one rlimit; an itimerval, which four words are.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
                for which in 0..3 {
                    libc::syscall(libc::SYS_setitimer, which, time.as_ptr(), 0);
                }
            }
            let start = std::time::Instant::now();
            while start.elapsed().as_millis() < 30 {}
        }
        0
    })?;
    ensure_eq!(code, 0);
    still_usable()
}
