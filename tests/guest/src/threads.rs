//! Threads: creation, futexes, thread-local storage, exit, affinity, scheduling.

use crate::case::{Case, Outcome, case, long_case};
use crate::sys::{self, errno, ok};
use crate::{ensure, ensure_eq};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("thread_join_and_tls", join),
    case("thread_mutex_counts", mutex),
    case("thread_condvar_ping_pong", ping_pong),
    case("thread_futex_errors", futex_errors),
    case("thread_futex_timeout", futex_timeout),
    case("thread_exit_group", exit_group),
    case("thread_exec_kills_others", exec_kills),
    case("thread_ids", ids),
    case("thread_affinity", affinity),
    case("thread_nice", nice),
    case("thread_scheduling_policy", policy),
    case("thread_runs_on_all_cpus", all_cpus),
    case("thread_preempts_a_busy_loop", preempts),
    case("thread_robust_mutex", robust),
    long_case("thread_10000", 240, ten_thousand),
];

fn join() -> Outcome {
    thread_local!(static VALUE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    let threads: Vec<_> = (0..16)
        .map(|i| {
            std::thread::spawn(move || {
                VALUE.set(i);
                std::thread::yield_now();
                VALUE.get()
            })
        })
        .collect();
    for (i, thread) in threads.into_iter().enumerate() {
        ensure!(thread.join().is_ok_and(|value| value == i));
    }
    Ok(())
}

fn mutex() -> Outcome {
    let counter = Arc::new(Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    *counter.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
                }
            });
        }
    });
    ensure_eq!(*counter.lock().map_err(|_| "poisoned")?, 80_000);
    Ok(())
}

fn ping_pong() -> Outcome {
    let turn = (Mutex::new(0u32), Condvar::new());
    let play = |me: u32| {
        for _ in 0..2000 {
            let Ok(guard) = turn.0.lock() else { return };
            let Ok(mut guard) = turn.1.wait_while(guard, |turn| *turn % 2 != me) else { return };
            *guard += 1;
            turn.1.notify_all();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play(1));
        play(0);
    });
    ensure_eq!(*turn.0.lock().map_err(|_| "poisoned")?, 4000);
    Ok(())
}

fn futex(word: *const AtomicU32, operation: i32, value: usize, time: usize) -> i64 {
    sys::call(libc::SYS_futex, [word as usize, operation as usize, value, time, 0, 0])
}

fn futex_errors() -> Outcome {
    let word = AtomicU32::new(5);
    ensure_eq!(futex(&raw const word, libc::FUTEX_WAIT, 6, 0), -1);
    ensure_eq!(errno(), libc::EAGAIN);
    ensure_eq!(futex(std::ptr::without_provenance(3), libc::FUTEX_WAIT, 6, 0), -1);
    ensure_eq!(errno(), libc::EINVAL);
    ensure_eq!(futex(std::ptr::without_provenance(4096), libc::FUTEX_WAIT, 6, 0), -1);
    ensure_eq!(errno(), libc::EFAULT);
    ensure_eq!(futex(&raw const word, libc::FUTEX_WAKE, 1, 0), 0);
    ensure_eq!(futex(&raw const word, 127, 0, 0), -1);
    ensure_eq!(errno(), libc::ENOSYS);
    Ok(())
}

fn futex_timeout() -> Outcome {
    let word = AtomicU32::new(5);
    let time = libc::timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    let start = std::time::Instant::now();
    ensure_eq!(futex(&raw const word, libc::FUTEX_WAIT, 5, &raw const time as usize), -1);
    ensure_eq!(errno(), libc::ETIMEDOUT);
    ensure!(start.elapsed().as_millis() >= 30);
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    ensure_eq!(futex(&raw const word, libc::FUTEX_WAIT, 5, &raw const bad as usize), -1);
    ensure_eq!(errno(), libc::EINVAL);
    Ok(())
}

fn exit_group() -> Outcome {
    let code = sys::in_child(|| {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        std::thread::spawn(|| {
            sys::sleep_ms(20);
            // SAFETY: ends the process.
            unsafe { libc::_exit(33) }
        });
        sys::sleep_ms(100_000);
        0
    })?;
    ensure_eq!(code, 33);
    Ok(())
}

fn exec_kills() -> Outcome {
    let code = sys::in_child(|| {
        for _ in 0..4 {
            std::thread::spawn(|| sys::sleep_ms(100_000));
        }
        // exec from another thread than the first: it takes over the process's id.
        let before = std::process::id();
        std::thread::spawn(move || {
            let script = format!("[ $$ = {before} ] && exit 44");
            let error = std::os::unix::process::CommandExt::exec(
                std::process::Command::new("/bin/sh").args(["-c", &script]),
            );
            eprintln!("{error}");
        });
        sys::sleep_ms(100_000);
        0
    })?;
    ensure_eq!(code, 44);
    Ok(())
}

fn ids() -> Outcome {
    // SAFETY: numbers only.
    unsafe {
        ensure_eq!(libc::gettid(), libc::getpid());
        let pid = libc::getpid();
        let other = std::thread::spawn(move || (libc::gettid() != pid, libc::getpid() == pid)).join();
        ensure!(other.is_ok_and(|(differs, same)| differs && same));
        ensure_eq!(libc::syscall(libc::SYS_tgkill, pid, 999_999, 0), -1);
        ensure_eq!(errno(), libc::ESRCH);
    }
    Ok(())
}

fn affinity() -> Outcome {
    // SAFETY: cpu sets that live throughout.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let bytes = size_of::<libc::cpu_set_t>();
        ok("sched_getaffinity", libc::sched_getaffinity(0, bytes, &raw mut set))?;
        let cpus: Vec<usize> = (0..1024).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect();
        for cpu in cpus {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut one);
            ok("sched_setaffinity", libc::sched_setaffinity(0, bytes, &raw const one))?;
            for _ in 0..100 {
                ensure_eq!(libc::sched_getcpu(), cpu as i32);
                libc::sched_yield();
            }
        }
        let none: libc::cpu_set_t = std::mem::zeroed();
        ensure_eq!(libc::sched_setaffinity(0, bytes, &raw const none), -1);
        ensure_eq!(errno(), libc::EINVAL);
    }
    Ok(())
}

fn nice() -> Outcome {
    // SAFETY: numbers only.
    let code = sys::in_child(|| unsafe {
        let bad = |holds: bool, bit: i32| if holds { 0 } else { 1 << bit };
        bad(libc::nice(5) == 5, 0)
            | bad(libc::getpriority(libc::PRIO_PROCESS, 0) == 5, 1)
            | bad(libc::setpriority(libc::PRIO_PROCESS, 0, 100) == 0, 2)
            | bad(libc::getpriority(libc::PRIO_PROCESS, 0) == 19, 3)
            | bad(libc::setresuid(1000, 1000, 1000) == 0, 4)
            | bad(libc::setpriority(libc::PRIO_PROCESS, 0, 0) == -1 && errno() == libc::EACCES, 5)
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn policy() -> Outcome {
    // SAFETY: one sched_param.
    unsafe {
        ensure_eq!(libc::sched_get_priority_max(libc::SCHED_FIFO), 99);
        ensure_eq!(libc::sched_get_priority_min(libc::SCHED_RR), 1);
        let mut param: libc::sched_param = std::mem::zeroed();
        ensure_eq!(libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param), -1);
        ensure_eq!(errno(), libc::EINVAL);
        param.sched_priority = 10;
        ok("sched_setscheduler", libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param))?;
        ensure_eq!(libc::sched_getscheduler(0), libc::SCHED_FIFO);
        // A real-time thread comes before an ordinary one that wants the same processor.
        let child = sys::fork(|| libc::sched_getscheduler(0))?;
        ensure_eq!(libc::WEXITSTATUS(sys::wait(child)?), libc::SCHED_FIFO);
    }
    Ok(())
}

fn all_cpus() -> Outcome {
    let count = std::thread::available_parallelism().map_err(|e| e.to_string())?.get();
    if count == 1 {
        return Err(crate::case::Failure::Skip("one processor".to_owned()));
    }
    let seen = AtomicUsize::new(0);
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                barrier.wait();
                let start = std::time::Instant::now();
                while start.elapsed().as_millis() < 300 {
                    // SAFETY: numbers only.
                    seen.fetch_or(1 << unsafe { libc::sched_getcpu() }, Ordering::Relaxed);
                }
            });
        }
    });
    ensure_eq!(seen.load(Ordering::Relaxed).count_ones() as usize, count);
    Ok(())
}

fn preempts() -> Outcome {
    // More busy loops than processors; each must get its turn.
    let count = std::thread::available_parallelism().map_err(|e| e.to_string())?.get() * 3;
    let turns: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for turn in &turns {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    turn.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        sys::sleep_ms(1000);
        stop.store(true, Ordering::Relaxed);
    });
    let all: Vec<usize> = turns.iter().map(|turn| turn.load(Ordering::Relaxed)).collect();
    let (least, most) = (all.iter().min().copied().unwrap_or(0), all.iter().max().copied().unwrap_or(0));
    ensure!(least > most / 20, "unfair: {all:?}");
    Ok(())
}

fn robust() -> Outcome {
    let memory = sys::map(4096, libc::PROT_READ | libc::PROT_WRITE)?;
    let mutex: *mut libc::pthread_mutex_t = memory.cast();
    // SAFETY: the mutex lives in the mapping; its attributes on this stack.
    unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutex_init(mutex, &raw const attributes);
        let address = mutex as usize;
        let locked = std::thread::spawn(move || libc::pthread_mutex_lock(address as *mut _)).join();
        ensure!(locked.is_ok_and(|code| code == 0));
        ensure_eq!(libc::pthread_mutex_lock(mutex), libc::EOWNERDEAD);
        ensure_eq!(libc::pthread_mutex_consistent(mutex), 0);
        ensure_eq!(libc::pthread_mutex_unlock(mutex), 0);
    }
    Ok(())
}

fn ten_thousand() -> Outcome {
    let (ready, release) = (AtomicUsize::new(0), (Mutex::new(false), Condvar::new()));
    let mut started = 0;
    std::thread::scope(|scope| {
        for _ in 0..10_000 {
            let builder = std::thread::Builder::new().stack_size(16 * 1024);
            let thread = builder.spawn_scoped(scope, || {
                ready.fetch_add(1, Ordering::SeqCst);
                if let Ok(guard) = release.0.lock() {
                    drop(release.1.wait_while(guard, |open| !*open));
                }
            });
            if thread.is_err() {
                break;
            }
            started += 1;
        }
        if let Ok(mut open) = release.0.lock() {
            *open = true;
        }
        release.1.notify_all();
    });
    ensure_eq!(ready.load(Ordering::SeqCst), started);
    // A kernel with little memory may refuse, with EAGAIN, but must survive.
    ensure!(started > 1000, "only {started} threads");
    Ok(())
}
