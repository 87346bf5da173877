//! Network namespaces: what it costs to make one, to end one, and how that grows with all the others.
//!
//! `bench netns [FILTER]…` prints `NAME<TAB>VALUE`, and for a figure that depends on a size `NAME@SIZE<TAB>VALUE`. Times are
//! nanoseconds, memory is KiB. Each row runs in a process of its own, after the namespaces of the one before are gone.
//!
//! How a program sees that a namespace is gone for good, memory and all: Linux and Linnet count it against
//! `user.max_net_namespaces` until then. So with that limit at 1 a new one can be made exactly when no other is left.

mod netlink;
mod rows;

use std::ffi::CString;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

pub use netlink::{Body, GETLINK, Netlink};

const LIMIT: &str = "/proc/sys/user/max_net_namespaces";
const MANY: u32 = 100_000;

/// `bench netns`.
pub fn command(wanted: impl Fn(&str) -> bool) {
    // SAFETY: one rlimit.
    let raised = unsafe {
        let most = libc::rlimit { rlim_cur: 16_384, rlim_max: 16_384 };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most)
    };
    ok("setrlimit", raised);
    for (name, row) in rows::ROWS.iter().filter(|(name, _)| wanted(name)) {
        let child = crate::work::in_fork(|| {
            // A row that fails says so on standard error and prints no figure.
            if std::panic::catch_unwind(row).is_err() {
                // SAFETY: ends the child.
                unsafe { libc::_exit(1) };
            }
        });
        let mut status = 0;
        // SAFETY: waitpid writes one int.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        if status != 0 {
            eprintln!("bench: {name}: wait status {status:#x}");
            std::process::exit(1);
        }
        Home::new().wait_until_gone();
    }
}

/// The answer of a call that must not fail.
pub fn ok(what: &str, answer: i32) -> i32 {
    assert!(answer >= 0, "{what}: {}", std::io::Error::last_os_error());
    answer
}

pub fn close(fd: i32) {
    // SAFETY: a descriptor of ours.
    unsafe { libc::close(fd) };
}

/// A namespace, kept alive by a descriptor until this is dropped.
pub struct Namespace(pub i32);

impl Drop for Namespace {
    fn drop(&mut self) {
        close(self.0);
    }
}

impl Namespace {
    /// The one this process is in.
    fn current() -> Namespace {
        let path = CString::new("/proc/self/ns/net").unwrap_or_default();
        // SAFETY: a valid string.
        Namespace(ok("open", unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }))
    }

    /// Goes there.
    pub fn enter(&self) {
        // SAFETY: numbers only.
        ok("setns", unsafe { libc::setns(self.0, libc::CLONE_NEWNET) });
    }
}

fn unshare() -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::unshare(libc::CLONE_NEWNET) }
}

/// Where the row began, and the limit on namespaces.
pub struct Home {
    namespace: Namespace,
    limit: std::fs::File,
}

impl Home {
    pub fn new() -> Home {
        let limit = std::fs::File::options().write(true).open(LIMIT).expect(LIMIT);
        Home { namespace: Namespace::current(), limit }
    }

    /// Makes a namespace and stays at home.
    pub fn create(&self) -> Namespace {
        ok("unshare", unshare());
        let new = Namespace::current();
        self.namespace.enter();
        new
    }

    /// Makes so many.
    pub fn create_many(&self, count: usize) -> Vec<Namespace> {
        (0..count).map(|_| self.create()).collect()
    }

    /// The same, with the time that the calls that made them took.
    pub fn create_timed(&self, count: usize) -> (Vec<Namespace>, Duration) {
        let mut passed = Duration::ZERO;
        let all = (0..count)
            .map(|_| {
                let start = Instant::now();
                ok("unshare", unshare());
                passed += start.elapsed();
                Namespace::current()
            })
            .collect();
        self.namespace.enter();
        (all, passed)
    }

    /// A netlink socket in a namespace.
    pub fn socket_in(&self, namespace: &Namespace) -> Netlink {
        namespace.enter();
        let socket = Netlink::new();
        self.namespace.enter();
        socket
    }

    /// Allows so many.
    pub fn allow(&self, count: u32) {
        self.limit.write_all_at(count.to_string().as_bytes(), 0).expect(LIMIT);
    }

    /// Waits until none but the initial one is left, and gives the moment of the last look. Before what is to be timed, call
    /// `allow(1)`, so that setting the limit is not timed.
    pub fn gone_at(&self) -> Instant {
        loop {
            let at = Instant::now();
            if unshare() == 0 {
                self.namespace.enter();
                self.allow(MANY);
                return at;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Waits until none but the initial one is left, also none of those that looking made.
    pub fn wait_until_gone(&self) {
        self.allow(1);
        self.gone_at();
        std::thread::sleep(Duration::from_millis(200));
    }
}
