//! `clone`, `clone3`, `unshare`, `setns` flags.

pub use linux_raw_sys::general::{
    CLONE_ARGS_SIZE_VER0, CLONE_ARGS_SIZE_VER1, CLONE_ARGS_SIZE_VER2, CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID, CLONE_CLEAR_SIGHAND, CLONE_DETACHED, CLONE_FILES, CLONE_FS, CLONE_INTO_CGROUP,
    CLONE_IO, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME,
    CLONE_NEWUSER, CLONE_NEWUTS, CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_PIDFD, CLONE_PTRACE, CLONE_SETTLS,
    CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM, CSIGNAL,
};

use bitflags::bitflags;

bitflags! {
    /// Flags of `clone3(2)`, without the exit signal that `clone(2)` has in the low byte.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CloneFlags: u64 {
        /// Share the address space.
        const VM = CLONE_VM as u64;
        /// Share root, working directory, umask.
        const FS = CLONE_FS as u64;
        /// Share descriptors.
        const FILES = CLONE_FILES as u64;
        /// Share signal handlers.
        const SIGHAND = CLONE_SIGHAND as u64;
        /// Make a pidfd.
        const PIDFD = CLONE_PIDFD as u64;
        /// The tracer traces the child too.
        const PTRACE = CLONE_PTRACE as u64;
        /// The parent waits until the child execs or ends.
        const VFORK = CLONE_VFORK as u64;
        /// Same parent as the caller.
        const PARENT = CLONE_PARENT as u64;
        /// Same thread group.
        const THREAD = CLONE_THREAD as u64;
        /// New mount namespace.
        const NEWNS = CLONE_NEWNS as u64;
        /// Share System V semaphore undo.
        const SYSVSEM = CLONE_SYSVSEM as u64;
        /// Set the thread pointer.
        const SETTLS = CLONE_SETTLS as u64;
        /// Write the tid in the parent.
        const PARENT_SETTID = CLONE_PARENT_SETTID as u64;
        /// Clear the tid and wake when the child ends.
        const CHILD_CLEARTID = CLONE_CHILD_CLEARTID as u64;
        /// Ignored (`clone3`: EINVAL).
        const DETACHED = CLONE_DETACHED as u64;
        /// The tracer may not force tracing.
        const UNTRACED = CLONE_UNTRACED as u64;
        /// Write the tid in the child.
        const CHILD_SETTID = CLONE_CHILD_SETTID as u64;
        /// New cgroup namespace.
        const NEWCGROUP = CLONE_NEWCGROUP as u64;
        /// New UTS namespace.
        const NEWUTS = CLONE_NEWUTS as u64;
        /// New IPC namespace.
        const NEWIPC = CLONE_NEWIPC as u64;
        /// New user namespace.
        const NEWUSER = CLONE_NEWUSER as u64;
        /// New pid namespace.
        const NEWPID = CLONE_NEWPID as u64;
        /// New network namespace.
        const NEWNET = CLONE_NEWNET as u64;
        /// Share the I/O context.
        const IO = CLONE_IO as u64;
        /// Reset signal handlers.
        const CLEAR_SIGHAND = CLONE_CLEAR_SIGHAND;
        /// Start in a given cgroup.
        const INTO_CGROUP = CLONE_INTO_CGROUP;
        /// New time namespace (`clone3`, `unshare`).
        const NEWTIME = CLONE_NEWTIME as u64;
    }
}

abi_struct! {
    /// `struct clone_args`.
    pub struct CloneArgs: 88 {
        /// [`CloneFlags`].
        pub flags: u64,
        /// Where the pidfd goes.
        pub pidfd: u64,
        /// Where the tid goes in the child.
        pub child_tid: u64,
        /// Where the tid goes in the parent.
        pub parent_tid: u64,
        /// Signal to the parent at the end.
        pub exit_signal: u64,
        /// Lowest byte of the stack.
        pub stack: u64,
        /// Its size.
        pub stack_size: u64,
        /// Thread pointer.
        pub tls: u64,
        /// Array of tids, innermost pid namespace first.
        pub set_tid: u64,
        /// Entries in it.
        pub set_tid_size: u64,
        /// Descriptor of the cgroup.
        pub cgroup: u64,
    }
}
