//! Signals: delivery, masks, queues, restart rules, the alternate stack, faults.

use crate::case::{Case, Outcome, case};
use crate::sys::{self, errno, ok};
use crate::{ensure, ensure_eq};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("signal_handler_runs", handler),
    case("signal_info", info),
    case("signal_mask_defers", mask),
    case("signal_realtime_queue", realtime),
    case("signal_standard_merges", merges),
    case("signal_restart_and_eintr", restart),
    case("signal_alternate_stack", alternate),
    case("signal_fault_address", fault),
    case("signal_sigkill_cannot_be_caught", uncatchable),
    case("signal_sigchld", sigchld),
    case("signal_sigsuspend", sigsuspend),
    case("signal_alarm", alarm),
    case("signal_sigtimedwait", timedwait),
    case("signal_sigtimedwait_as_it_comes", timedwait_as_it_comes),
    case("signal_sigtimedwait_of_children", timedwait_of_children),
    case("signal_reset_on_exec", reset_on_exec),
    case("signal_registers_survive", registers),
    case("signal_at_exec_kills", at_exec),
    case("signal_at_exec_with_handler_kills", at_exec_with_handler),
];

static COUNT: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static LOCAL: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let local = 0u8;
    LOCAL.store(&raw const local as usize, Ordering::SeqCst);
    COUNT.fetch_add(1, Ordering::SeqCst);
    SEEN.store(signal, Ordering::SeqCst);
    // SAFETY: the kernel passes a siginfo.
    unsafe { ADDRESS.store((*info).si_addr() as usize, Ordering::SeqCst) };
}

fn install(signal: i32, flags: i32) -> Outcome {
    // SAFETY: a whole sigaction with a function of the right type.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        ok("sigaction", libc::sigaction(signal, &raw const action, std::ptr::null_mut()))?;
    }
    Ok(())
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a zeroed set is an empty set.
    unsafe {
        let mut set = std::mem::zeroed();
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn block(signals: &[i32], how: i32) -> Outcome {
    let set = set_of(signals);
    // SAFETY: one set.
    ok("sigprocmask", unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) })?;
    Ok(())
}

fn raise(signal: i32) {
    // SAFETY: numbers only.
    unsafe { libc::kill(libc::getpid(), signal) };
}

fn handler() -> Outcome {
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM, libc::SIGRTMIN() + 3] {
        install(signal, 0)?;
        raise(signal);
        ensure_eq!(SEEN.load(Ordering::SeqCst), signal);
    }
    ensure_eq!(COUNT.load(Ordering::SeqCst), 4);
    Ok(())
}

static SENDER: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(99);
static VALUE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_info(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo.
    unsafe {
        SENDER.store((*info).si_pid(), Ordering::SeqCst);
        CODE.store((*info).si_code, Ordering::SeqCst);
        VALUE.store((*info).si_value().sival_ptr as usize, Ordering::SeqCst);
    }
}

fn info() -> Outcome {
    // SAFETY: a whole sigaction with a function of the right type.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_info as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
        raise(libc::SIGUSR2);
        ensure_eq!(SENDER.load(Ordering::SeqCst), libc::getpid());
        ensure_eq!(CODE.load(Ordering::SeqCst), libc::SI_USER);
        libc::sigqueue(libc::getpid(), libc::SIGUSR2, libc::sigval { sival_ptr: 0x1234 as *mut _ });
        ensure_eq!(CODE.load(Ordering::SeqCst), libc::SI_QUEUE);
        ensure_eq!(VALUE.load(Ordering::SeqCst), 0x1234);
    }
    Ok(())
}

fn mask() -> Outcome {
    install(libc::SIGUSR1, 0)?;
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    raise(libc::SIGUSR1);
    ensure_eq!(COUNT.load(Ordering::SeqCst), 0);
    // SAFETY: one set.
    unsafe {
        let mut pending = std::mem::zeroed();
        ok("sigpending", libc::sigpending(&raw mut pending))?;
        ensure_eq!(libc::sigismember(&raw const pending, libc::SIGUSR1), 1);
        ensure_eq!(libc::sigismember(&raw const pending, libc::SIGUSR2), 0);
    }
    block(&[libc::SIGUSR1], libc::SIG_UNBLOCK)?;
    ensure_eq!(COUNT.load(Ordering::SeqCst), 1);
    Ok(())
}

fn realtime() -> Outcome {
    let signal = libc::SIGRTMIN() + 1;
    install(signal, 0)?;
    block(&[signal], libc::SIG_BLOCK)?;
    for _ in 0..10 {
        raise(signal);
    }
    block(&[signal], libc::SIG_UNBLOCK)?;
    ensure_eq!(COUNT.load(Ordering::SeqCst), 10);
    Ok(())
}

fn merges() -> Outcome {
    install(libc::SIGUSR1, 0)?;
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    for _ in 0..10 {
        raise(libc::SIGUSR1);
    }
    block(&[libc::SIGUSR1], libc::SIG_UNBLOCK)?;
    ensure_eq!(COUNT.load(Ordering::SeqCst), 1);
    Ok(())
}

fn restart() -> Outcome {
    for (flags, restarts) in [(libc::SA_RESTART, true), (0, false)] {
        install(libc::SIGUSR1, flags)?;
        let (reader, writer) = sys::pipe(0)?;
        // SAFETY: numbers only.
        let me = unsafe { libc::getpid() };
        let child = sys::fork(|| {
            sys::sleep_ms(100);
            // SAFETY: numbers only.
            unsafe { libc::kill(me, libc::SIGUSR1) };
            sys::sleep_ms(100);
            i32::from(sys::write(writer, b"x").is_err())
        })?;
        let mut byte = 0u8;
        // SAFETY: one byte.
        let count = unsafe { libc::read(reader, (&raw mut byte).cast(), 1) };
        let error = errno();
        if restarts {
            ensure_eq!(count, 1);
        } else {
            ensure_eq!((count, error), (-1, libc::EINTR));
        }
        sys::wait(child)?;
    }
    Ok(())
}

fn alternate() -> Outcome {
    let bytes = 65536;
    let memory = sys::map(bytes, libc::PROT_READ | libc::PROT_WRITE)?;
    let stack = libc::stack_t { ss_sp: memory.cast(), ss_flags: 0, ss_size: bytes };
    // SAFETY: the stack is mapped and stays so.
    ok("sigaltstack", unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
    install(libc::SIGUSR1, libc::SA_ONSTACK)?;
    raise(libc::SIGUSR1);
    let local = LOCAL.load(Ordering::SeqCst);
    ensure!((memory as usize..memory as usize + bytes).contains(&local));
    let small = libc::stack_t { ss_sp: memory.cast(), ss_flags: 0, ss_size: 100 };
    // SAFETY: refused by the kernel.
    ensure_eq!(unsafe { libc::sigaltstack(&raw const small, std::ptr::null_mut()) }, -1);
    ensure_eq!(errno(), libc::ENOMEM);
    Ok(())
}

extern "C" fn exit_with_match(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo; the process ends.
    unsafe {
        let right = (*info).si_addr() as usize == ADDRESS.load(Ordering::SeqCst);
        libc::_exit(
            signal * 4 + i32::from(right) * 2 + i32::from((*info).si_code == CODE.load(Ordering::SeqCst)),
        );
    }
}

fn fault() -> Outcome {
    let read_only = sys::map(4096, libc::PROT_READ)? as usize;
    for (address, code) in [(16, 1), (read_only + 8, 2), (0x1000_0000_0000_0000, 1)] {
        let status = sys::in_child(|| {
            // SAFETY: the fault is what is tested.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = exit_with_match as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut());
                CODE.store(code, Ordering::SeqCst);
                ADDRESS.store(address, Ordering::SeqCst);
                if address > usize::MAX >> 17 {
                    // Not canonical: a general protection fault, which tells no address.
                    ADDRESS.store(0, Ordering::SeqCst);
                    CODE.store(libc::SI_KERNEL, Ordering::SeqCst);
                }
                std::ptr::write_volatile(address as *mut u8, 1);
            }
            0
        })?;
        ensure_eq!((address, status), (address, libc::SIGSEGV * 4 + 3));
    }
    Ok(())
}

fn uncatchable() -> Outcome {
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        ensure!(install(signal, 0).is_err());
        ensure_eq!(errno(), libc::EINVAL);
    }
    // SAFETY: numbers only.
    unsafe {
        ensure_eq!(libc::kill(libc::getpid(), 65), -1);
        ensure_eq!(errno(), libc::EINVAL);
        ensure_eq!(libc::kill(999_999, 0), -1);
        ensure_eq!(errno(), libc::ESRCH);
    }
    Ok(())
}

fn sigchld() -> Outcome {
    install(libc::SIGCHLD, 0)?;
    block(&[libc::SIGCHLD], libc::SIG_BLOCK)?;
    let child = sys::fork(|| 3)?;
    sys::wait(child)?;
    block(&[libc::SIGCHLD], libc::SIG_UNBLOCK)?;
    ensure_eq!(COUNT.load(Ordering::SeqCst), 1);
    Ok(())
}

fn sigsuspend() -> Outcome {
    install(libc::SIGUSR1, 0)?;
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    raise(libc::SIGUSR1);
    let empty = set_of(&[]);
    // SAFETY: one set.
    ensure_eq!(unsafe { libc::sigsuspend(&raw const empty) }, -1);
    ensure_eq!(errno(), libc::EINTR);
    ensure_eq!(COUNT.load(Ordering::SeqCst), 1);
    raise(libc::SIGUSR1);
    ensure_eq!(COUNT.load(Ordering::SeqCst), 1);
    Ok(())
}

fn alarm() -> Outcome {
    install(libc::SIGALRM, 0)?;
    let time = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 30_000 },
    };
    // SAFETY: one itimerval.
    unsafe {
        ok("setitimer", libc::setitimer(libc::ITIMER_REAL, &raw const time, std::ptr::null_mut()))?;
        ensure_eq!(libc::pause(), -1);
        ensure_eq!(errno(), libc::EINTR);
    }
    ensure_eq!(SEEN.load(Ordering::SeqCst), libc::SIGALRM);
    Ok(())
}

fn timedwait() -> Outcome {
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    let set = set_of(&[libc::SIGUSR1]);
    let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    // SAFETY: one set, one timespec, no siginfo wanted.
    unsafe {
        ensure_eq!(libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time), -1);
        ensure_eq!(errno(), libc::EAGAIN);
        raise(libc::SIGUSR1);
        ensure_eq!(libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time), libc::SIGUSR1);
    }
    Ok(())
}

/// A signal that comes while its receiver is about to sleep is what it waited for, not an interruption.
fn timedwait_as_it_comes() -> Outcome {
    const TIMES: usize = 3000;
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    let ready = sys::map_shared_counter()?;
    let set = set_of(&[libc::SIGUSR1]);
    let time = libc::timespec { tv_sec: 20, tv_nsec: 0 };
    let child = sys::fork(|| {
        for time_number in 1..=TIMES {
            ready.store(time_number, Ordering::SeqCst);
            // Earlier or later than the signal.
            (0..time_number % 1000).for_each(|_| std::hint::spin_loop());
            // SAFETY: one set, one timespec, no siginfo wanted.
            let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) };
            if signal != libc::SIGUSR1 {
                return if errno() == libc::EINTR { 1 } else { 2 };
            }
        }
        0
    })?;
    for time_number in 1..=TIMES {
        while ready.load(Ordering::SeqCst) < time_number {
            if (0..10_000).any(|_| ready.load(Ordering::SeqCst) == time_number) {
                break;
            }
            let mut status = 0;
            // SAFETY: asks whether the child has ended early, without waiting.
            if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
                return Err(format!("signal {time_number}: the child ended with status {status:#x}").into());
            }
        }
        // SAFETY: numbers only.
        ok("kill", unsafe { libc::kill(child, libc::SIGUSR1) })?;
    }
    ensure_eq!(sys::wait(child)?, 0);
    Ok(())
}

/// What a child sends just before its end comes with its information, although the end follows at once.
fn timedwait_of_children() -> Outcome {
    block(&[libc::SIGUSR1], libc::SIG_BLOCK)?;
    let set = set_of(&[libc::SIGUSR1]);
    let time = libc::timespec { tv_sec: 5, tv_nsec: 0 };
    let parent = std::process::id() as i32;
    for number in 0..2000 {
        // SAFETY: plain numbers.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let child = sys::fork(|| {
            (0..number % 1000).for_each(|_| std::hint::spin_loop());
            // SAFETY: numbers only.
            unsafe { libc::kill(parent, libc::SIGUSR1) }
        })?;
        // SAFETY: a set, a siginfo, a timespec.
        let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const time) };
        let error = if signal < 0 { errno() } else { 0 };
        // SAFETY: kill(2) fills this.
        ensure_eq!((number, signal, error, unsafe { info.si_pid() }), (number, libc::SIGUSR1, 0, child));
        ensure_eq!(sys::wait(child)?, 0);
    }
    Ok(())
}

fn reset_on_exec() -> Outcome {
    // A caught signal is reset, an ignored one stays, the mask stays: the shell would otherwise not start.
    install(libc::SIGUSR1, 0)?;
    let script = "kill -USR1 $$; exit 1";
    let status =
        std::process::Command::new("/bin/sh").args(["-c", script]).status().map_err(|e| e.to_string())?;
    ensure_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGUSR1));
    // SAFETY: numbers only.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let status =
        std::process::Command::new("/bin/sh").args(["-c", script]).status().map_err(|e| e.to_string())?;
    ensure_eq!(status.code(), Some(1));
    Ok(())
}

fn registers() -> Outcome {
    // A timer interrupts a floating-point loop; its handler uses the same registers.
    extern "C" fn clobber(_: i32) {
        let x = COUNT.fetch_add(1, Ordering::SeqCst) as f64;
        std::hint::black_box((0..50).fold(x, |sum, i| sum * 1.5 + f64::from(i)));
    }
    let time = libc::timeval { tv_sec: 0, tv_usec: 2000 };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: a handler of the right type and one itimerval.
    unsafe {
        libc::signal(libc::SIGALRM, clobber as *const () as usize);
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    let compute = || (0..20_000).fold(0.5f64, |x, i| (x * 1.000_1 + f64::from(i)).sqrt());
    let expected = compute();
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 300 {
        ensure!(std::hint::black_box(compute()).to_bits() == expected.to_bits());
    }
    ensure!(COUNT.load(Ordering::SeqCst) > 5);
    Ok(())
}

/// A signal that comes at any time around exec, to a program without a handler for it, ends it.
fn at_exec() -> Outcome {
    kill_around_exec(|| {})
}

/// The same if the old program had a handler, which passes the signal on to the default action.
fn at_exec_with_handler() -> Outcome {
    extern "C" fn pass_on(signal: i32) {
        // SAFETY: both may be called in a handler.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    // SAFETY: a handler of the right type.
    kill_around_exec(|| unsafe {
        libc::signal(libc::SIGTERM, pass_on as *const () as usize);
    })
}

/// Children that do `first` and then execute another program get SIGTERM after random times, for some seconds.
fn kill_around_exec(first: fn()) -> Outcome {
    let start = std::time::Instant::now();
    let mut random = crate::case::SEED.load(Ordering::Relaxed);
    // How long a child takes until the new program has begun: then exec closes the pipe.
    let mut longest = std::time::Duration::ZERO;
    let mut rounds = 0;
    while start.elapsed().as_secs() < 4 {
        let (reading, writing) = sys::pipe(libc::O_CLOEXEC)?;
        let begun = std::time::Instant::now();
        let child = sys::fork(|| {
            first();
            crate::process::exec_self(&["sleep"]);
            98
        })?;
        sys::close(writing);
        if rounds < 5 {
            sys::read(reading, 1)?;
            longest = longest.max(begun.elapsed());
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = longest.mul_f64((random >> 40) as f64 / (1u64 << 24) as f64 * 1.2);
        while begun.elapsed() < delay {
            std::hint::spin_loop();
        }
        // SAFETY: numbers only.
        ok("kill", unsafe { libc::kill(child, libc::SIGTERM) })?;
        let status = sys::wait(child)?;
        ensure!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM,
            "status {status:#x} in round {rounds}, {delay:?} of {longest:?} after fork"
        );
        sys::close(reading);
        rounds += 1;
    }
    ensure!(rounds > 50, "{rounds} rounds only");
    Ok(())
}
