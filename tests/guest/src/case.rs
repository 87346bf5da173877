//! What a case is, and how one is run without endangering the others.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Why a case did not pass.
pub enum Failure {
    /// The kernel did something else.
    Wrong(String),
    /// It cannot be tested here.
    Skip(String),
}

impl<T: Into<String>> From<T> for Failure {
    fn from(text: T) -> Failure {
        Failure::Wrong(text.into())
    }
}

/// What a case's function returns.
pub type Outcome = Result<(), Failure>;

/// One named test.
pub struct Case {
    /// `group_what`.
    pub name: &'static str,
    /// Killed after this long.
    pub limit: Duration,
    /// Whether it runs with `--long` only.
    pub only_long: bool,
    /// The test.
    pub run: fn() -> Outcome,
}

/// A case with the usual limit, generous because processors may be emulated.
pub const fn case(name: &'static str, run: fn() -> Outcome) -> Case {
    Case { name, limit: Duration::from_secs(20), only_long: false, run }
}

/// A case that takes long.
pub const fn long_case(name: &'static str, seconds: u64, run: fn() -> Outcome) -> Case {
    Case { name, limit: Duration::from_secs(seconds), only_long: false, run }
}

/// A case that runs with `--long` only.
pub const fn only_long_case(name: &'static str, seconds: u64, run: fn() -> Outcome) -> Case {
    Case { name, limit: Duration::from_secs(seconds), only_long: true, run }
}

/// What `--seed=N` said, or the seed of every day.
pub static SEED: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// How it went.
pub enum Verdict {
    /// As it should.
    Passed,
    /// Not tested.
    Skipped(String),
    /// Wrong.
    Failed(String),
}

/// Fails the case with a message if the condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr) => {
        if !$condition {
            return Err($crate::case::Failure::Wrong(format!("line {}: {}", line!(), stringify!($condition))));
        }
    };
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::case::Failure::Wrong(format!("line {}: {}", line!(), format!($($message)+))));
        }
    };
}

/// Fails the case unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::case::Failure::Wrong(format!(
                "line {}: {} is {:?}, not {:?}",
                line!(),
                stringify!($left),
                left,
                right
            )));
        }
    }};
}

impl Case {
    /// Runs the case in this process.
    pub fn run_here(&self) -> Verdict {
        match std::panic::catch_unwind(self.run) {
            Ok(Ok(())) => Verdict::Passed,
            Ok(Err(Failure::Wrong(why))) => Verdict::Failed(why),
            Ok(Err(Failure::Skip(why))) => Verdict::Skipped(why),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Verdict::Failed(format!("panicked: {}", text.unwrap_or_default()))
            }
        }
    }

    /// Runs the case in a child in a process group of its own; all of it is killed at the end.
    pub fn run_in_child(&self) -> Verdict {
        let mut ends = [0; 2];
        // SAFETY: pipe2 writes two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Verdict::Failed(format!("pipe: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        if child < 0 {
            return Verdict::Failed(format!("fork: {}", std::io::Error::last_os_error()));
        }
        if child == 0 {
            self.child(ends[1]);
        }
        // SAFETY: the descriptors are ours; the group is the child's.
        let reader = unsafe {
            libc::setpgid(child, child);
            libc::close(ends[1]);
            std::fs::File::from_raw_fd(ends[0])
        };
        let verdict = self.watch(child, reader);
        // SAFETY: no memory is involved.
        unsafe {
            libc::kill(-child, libc::SIGKILL);
            while libc::waitpid(-child, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
        }
        verdict
    }

    /// In the child: runs, tells the verdict through the pipe, ends.
    fn child(&self, pipe: i32) -> ! {
        // SAFETY: no memory is involved.
        unsafe { libc::setpgid(0, 0) };
        let _ = std::fs::write("/proc/self/oom_score_adj", "0");
        std::panic::set_hook(Box::new(|_| {}));
        let message = match self.run_here() {
            Verdict::Passed => "P".to_owned(),
            Verdict::Skipped(why) => format!("S{why}"),
            Verdict::Failed(why) => format!("F{why}"),
        };
        // SAFETY: the pointer and length are of one string.
        unsafe {
            libc::write(pipe, message.as_ptr().cast(), message.len());
            libc::_exit(0)
        }
    }

    /// In the parent: waits for the verdict, the child's death or the end of its time.
    fn watch(&self, child: i32, mut reader: std::fs::File) -> Verdict {
        let deadline = Instant::now() + self.limit;
        let mut message = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis().min(60_000) as i32) };
            if ready > 0 {
                let mut buffer = [0; 4096];
                match reader.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => message.extend_from_slice(&buffer[..count]),
                }
                if !message.is_empty() {
                    break;
                }
            } else if left.is_zero() {
                // SAFETY: no memory is involved but the null pointer, which is allowed.
                unsafe {
                    libc::kill(-child, libc::SIGKILL);
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
                return Verdict::Failed(format!("still running after {} s", self.limit.as_secs()));
            }
        }
        let mut status = 0;
        // SAFETY: waitpid writes one int.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        let text = String::from_utf8_lossy(&message).replace('\n', " | ");
        match text.chars().next() {
            Some('P') => Verdict::Passed,
            Some('S') => Verdict::Skipped(text[1..].to_owned()),
            Some(_) => Verdict::Failed(text[1..].to_owned()),
            None if libc::WIFSIGNALED(status) => {
                Verdict::Failed(format!("killed by {}", libc::WTERMSIG(status)))
            }
            None => Verdict::Failed(format!("ended with wait status {status:#x}")),
        }
    }
}
