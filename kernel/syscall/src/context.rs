//! What handlers ask of the caller: files, paths, credentials, limits. Short forms over `task` and `vfs`.
//!
//! Locks: none held between calls; each form takes what it needs and gives it back.

use crate::decode::{Context, Fd};
use abi::errno::{Errno, Result};
use abi::fcntl::AT_FDCWD;
use abi::fcntl::ResolveFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use mm::AddressSpace;
use mm::user::UserString;
use security::{Capability, Credentials};
use task::Task;
use task::limits::Resource;
use vfs::descriptor::CloseOnExec;
use vfs::namei::{self, LookupFlags, Start};
use vfs::{File, LookupContext, PATH_MAX, Path};

impl Context<'_> {
    /// The sixth argument as it is in its register, for calls whose fifth is unused on 64-bit machines.
    pub fn sixth_argument(&self) -> u64 {
        self.registers.r9
    }

    /// The caller's credentials.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.task.credentials()
    }

    /// Errors: `EPERM` unless the caller has the capability in its user namespace.
    pub fn require(&self, capability: Capability) -> Result<()> {
        if self.credentials().has(capability) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Errors: `EPERM` unless the caller has the capability in the machine's user namespace: for what is not any namespace's.
    pub fn require_global(&self, capability: Capability) -> Result<()> {
        let allowed = security::capable_anywhere_above(&self.credentials(), capability);
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// The thread with this id as the caller sees it. Errors: `ESRCH`.
    pub fn find_task(&self, tid: i32) -> Result<Arc<Task>> {
        task::calls::find_task(self.task, tid)
    }

    /// The caller's address space, which is active. Errors: `ENOMEM` (never while a program runs).
    pub fn address_space(&self) -> Result<Arc<AddressSpace>> {
        self.task.process().space().ok_or(Errno::ENOMEM)
    }

    /// The limits that memory calls look at.
    pub fn memory_limits(&self) -> mm::Limits {
        task::fault::memory_limits(self.task.process(), self.task)
    }

    /// What an open descriptor refers to. Errors: `EBADF`.
    #[inline]
    pub fn file(&self, fd: Fd) -> Result<Arc<File>> {
        self.task.open_file(fd.0)
    }

    /// The same by number. Errors: `EBADF`.
    pub fn file_number(&self, fd: i32) -> Result<Arc<File>> {
        self.file(Fd(fd))
    }

    /// One more than the highest descriptor the caller may have.
    pub fn descriptor_limit(&self) -> u64 {
        self.task.process().limits().soft(Resource::OpenFiles)
    }

    /// Gives the file the lowest free descriptor. Errors: `EMFILE`, `ENOMEM`.
    pub fn install(&self, file: Arc<File>, close_on_exec: CloseOnExec) -> Result<usize> {
        let limit = self.descriptor_limit();
        self.task.open_files()?.install(file, close_on_exec, limit).map(|fd| fd as usize)
    }

    /// A path argument. Errors: `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, path: UserString) -> Result<Vec<u8>> {
        path.read(PATH_MAX)
    }

    /// Calls with root, working directory and credentials of the caller.
    pub fn with_context<R>(&self, call: impl FnOnce(&LookupContext<'_>) -> Result<R>) -> Result<R> {
        let fs = self.task.file_system()?;
        let credentials = self.credentials();
        call(&LookupContext { fs: &fs, credentials: &credentials })
    }

    /// Calls with the caller's context and the place where a relative path starts. A descriptor that is not open matters only
    /// to relative paths, so it becomes an error only there. Errors: those of the call, `EBADF`.
    pub fn with_lookup<R>(
        &self,
        at: Fd,
        path: &[u8],
        call: impl FnOnce(&LookupContext<'_>, Start<'_>) -> Result<R>,
    ) -> Result<R> {
        if at.0 == AT_FDCWD || path.first() == Some(&b'/') {
            return self.with_context(|context| call(context, Start::WorkingDirectory));
        }
        let file = self.file(at)?;
        self.with_context(|context| call(context, Start::File(&file)))
    }

    /// The same for openat2(2): in a scope an absolute path begins at the descriptor, too. Errors: as [`Context::with_lookup`].
    pub fn with_scope<R>(
        &self,
        at: Fd,
        path: &[u8],
        resolve: ResolveFlags,
        call: impl FnOnce(&LookupContext<'_>, Start<'_>) -> Result<R>,
    ) -> Result<R> {
        let scoped = resolve.intersects(ResolveFlags::IN_ROOT | ResolveFlags::BENEATH);
        self.with_lookup(at, if scoped { b"." } else { path }, call)
    }

    /// The same for two paths. Errors: as [`Context::with_lookup`].
    pub fn with_two_starts<R>(
        &self,
        first: (Fd, &[u8]),
        second: (Fd, &[u8]),
        call: impl FnOnce(&LookupContext<'_>, Start<'_>, Start<'_>) -> Result<R>,
    ) -> Result<R> {
        self.with_lookup(first.0, first.1, |_, first| {
            self.with_lookup(second.0, second.1, |context, second| call(context, first, second))
        })
    }

    /// The place that a path argument names. Errors: those of path_resolution(7).
    pub fn resolve(&self, at: Fd, path: UserString, flags: LookupFlags) -> Result<Path> {
        let path = self.path(path)?;
        self.with_lookup(at, &path, |context, start| namei::resolve(context, start, &path, flags))
    }
}
