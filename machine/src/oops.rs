//! Bugs of the kernel's own: who dies of one, what is remembered of it, and how a panic ends.
//!
//! A bug met by a thread that holds no spin lock and is not in an interrupt ends that thread and taints the kernel (an *oops*);
//! any other ends the machine (a *panic*). Sleeping locks that the thread held stay locked, and what it owned is leaked, as
//! on Linux. `oops=panic` and `panic=SECONDS` on the command line change that (Linux's `kernel-parameters.txt`), and so do
//! the files in `/proc/sys/kernel`. The report itself is the backend's (`arch/x86_64/panic.rs`). No locks.

use crate::arch;
#[cfg(target_os = "none")]
use crate::{hooks, sync, thread};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// The taint of a kernel that has met a bug of its own (`TAINT_DIE` of Linux's `tainted-kernels.rst`).
pub const TAINT_DIE: u64 = 1 << 7;

static TAINT: AtomicU64 = AtomicU64::new(0);
static PANIC_ON_OOPS: AtomicBool = AtomicBool::new(false);
static PANIC_TIMEOUT_S: AtomicI32 = AtomicI32::new(0);

/// What an oops leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OopsPolicy {
    /// The thread that met it ends.
    EndThread,
    /// The machine panics.
    Panic,
}

/// What is wrong with this kernel, as in `/proc/sys/kernel/tainted`; 0 is nothing.
pub fn taint() -> u64 {
    TAINT.load(Ordering::Relaxed)
}

/// What an oops leads to.
pub fn policy() -> OopsPolicy {
    if PANIC_ON_OOPS.load(Ordering::Relaxed) { OopsPolicy::Panic } else { OopsPolicy::EndThread }
}

/// Says what an oops shall lead to.
pub fn set_policy(policy: OopsPolicy) {
    PANIC_ON_OOPS.store(policy == OopsPolicy::Panic, Ordering::Relaxed);
}

/// Seconds from a panic to the reboot: 0 never, below 0 at once.
pub fn panic_timeout_s() -> i32 {
    PANIC_TIMEOUT_S.load(Ordering::Relaxed)
}

/// Sets [`panic_timeout_s`].
pub fn set_panic_timeout_s(seconds: i32) {
    PANIC_TIMEOUT_S.store(seconds, Ordering::Relaxed);
}

/// Ends the machine with this message: for what the kernel cannot go on after, whichever thread finds it.
pub fn fatal(message: core::fmt::Arguments<'_>) -> ! {
    arch::fatal(message)
}

/// Reads the parameters. Once, by early boot.
#[cfg(target_os = "none")]
pub(crate) fn init(command_line: &str) {
    for word in command_line.split_ascii_whitespace().take_while(|word| *word != "--") {
        if word == "oops=panic" {
            set_policy(OopsPolicy::Panic);
        } else if let Some(Ok(seconds)) = word.strip_prefix("panic=").map(str::parse) {
            set_panic_timeout_s(seconds);
        }
    }
}

/// Whether the running thread may die of a bug without the machine: it is a thread with a stack of its own that holds no
/// spin lock and is not in an interrupt.
#[cfg(target_os = "none")]
pub(crate) fn is_survivable() -> bool {
    arch::preempt_count() == 0 && policy() == OopsPolicy::EndThread && thread::may_oops()
}

/// Ends the running thread because of a bug that has been reported. Interrupts on. Comes back if the machine must panic.
#[cfg(target_os = "none")]
pub(crate) fn end_thread(what: &str) {
    TAINT.fetch_or(TAINT_DIE, Ordering::Relaxed);
    if thread::begin_oops() {
        hooks::oops(what);
        return;
    }
    // A bug on the way out of a bug: whatever is broken is not touched again. The stack stays, others may point into it.
    log::error!("Fixing recursive fault but reboot is needed!");
    loop {
        sync::wait::nap(u64::MAX);
    }
}
