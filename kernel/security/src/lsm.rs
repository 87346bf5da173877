//! The hooks of security modules: asked after the ordinary checks allowed something.
//!
//! Key types: [`SecurityModule`] (all hooks allow by default), [`Access`]. No module is built in yet; with none
//! registered a hook costs one load. Locks: the list is written once, at boot.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use machine::sync::Once;

use crate::{Capability, Credentials, UserNamespace};

/// What a module is asked about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Access<'a> {
    /// Use of a capability in a namespace.
    Capable(&'a UserNamespace, Capability),
    /// Access to an object in a file system: its label (`security.*`) and the `MAY_*` mask.
    Inode(Option<&'a [u8]>, u32),
    /// A signal to, or tracing of, a task with these credentials.
    Task(&'a Credentials),
    /// Execution of a file with these credentials to be.
    Exec(&'a Credentials),
}

/// A security module: it can only forbid. Errors are given to the caller (`EACCES` or `EPERM` by custom).
pub trait SecurityModule: Send + Sync {
    /// The name in `/sys/kernel/security/lsm`.
    fn name(&self) -> &'static str;
    /// Whether the subject may.
    fn check(&self, subject: &Credentials, access: Access<'_>) -> Result<()>;
}

static MODULES: Once<Box<[&'static dyn SecurityModule]>> = Once::new();

/// Installs the list of modules, in their order. `EPERM`: there is one already.
pub fn register_modules(modules: Box<[&'static dyn SecurityModule]>) -> Result<()> {
    MODULES.set(modules).map_err(|_| Errno::EPERM)
}

/// Asks every module; the first refusal counts.
pub fn hook_check(subject: &Credentials, access: Access<'_>) -> Result<()> {
    let Some(modules) = MODULES.get() else { return Ok(()) };
    modules.iter().try_for_each(|module| module.check(subject, access))
}
