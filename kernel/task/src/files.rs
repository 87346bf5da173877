//! What processes need from files: opening a program, its set-user-ID bits, closing on exec.
//!
//! Thin: everything is the virtual file system's; here is only how exec asks.

use crate::limits::Resource;
use crate::signal::send::to_task;
use crate::signal::{Signal, SignalInfo};
use crate::task::{Task, with_current};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use alloc::sync::Arc;
use security::{ExecFile, Kgid, Kuid};
use vfs::file::Program;
use vfs::namei::{LookupFlags, Start, resolve};
use vfs::{File, LookupContext};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;
const ANY_EXECUTE: u32 = 0o0111;

/// Opens a file to run it.
///
/// # Errors
/// What path lookup says; EACCES: not a regular file, not executable, or on a noexec mount; ETXTBSY: open for writing.
pub(crate) fn open_program(
    task: &Task,
    directory: Option<i32>,
    path: &[u8],
    flags: u32,
) -> Result<Arc<Program>> {
    let fs = task.file_system()?;
    let credentials = task.credentials();
    let context = LookupContext { fs: &fs, credentials: &credentials };
    let base = match directory.filter(|_| path.first() != Some(&b'/')) {
        Some(number) => Some(task.open_files()?.get(number)?),
        None => None,
    };
    let start = match &base {
        Some(file) => Start::File(file),
        None => Start::WorkingDirectory,
    };
    let mut lookup = LookupFlags::empty();
    if flags & super::exec::AT_SYMLINK_NOFOLLOW == 0 {
        lookup |= LookupFlags::FOLLOW;
    }
    if flags & super::exec::AT_EMPTY_PATH != 0 {
        lookup |= LookupFlags::EMPTY_PATH;
    }
    let place = resolve(&context, start, path, lookup)?;
    if place.inode()?.kind() == vfs::FileKind::Symlink {
        return Err(Errno::ELOOP);
    }
    let file = vfs::open::open_path(&place, OpenFlags::EXEC, &context)?;
    if !file.is_executable_here() || place.status()?.mode & ANY_EXECUTE == 0 {
        return Err(Errno::EACCES);
    }
    Program::new(file)
}

/// Who a program becomes by its set-user-ID and set-group-ID bits and its capabilities.
///
/// # Errors
/// What reading its attributes says.
pub(crate) fn exec_identity(task: &Task, file: &File) -> Result<ExecFile> {
    let path = file.path();
    let credentials = task.credentials();
    let namespace = &credentials.user_namespace;
    if !path.mount.may_set_ids(&task.live_namespaces()?.mount, namespace) {
        return Ok(ExecFile::default());
    }
    let status = path.status()?;
    // Bits of somebody whom the user namespace does not know do not count.
    if namespace.from_kuid(status.uid).is_none() || namespace.from_kgid(status.gid).is_none() {
        return Ok(ExecFile::default());
    }
    let group_bits = SET_GROUP_ID | GROUP_EXECUTE;
    Ok(ExecFile {
        set_uid: (status.mode & SET_USER_ID != 0).then_some(Kuid(status.uid.0)),
        set_gid: (status.mode & group_bits == group_bits).then_some(Kgid(status.gid.0)),
        capabilities: None,
    })
}

/// Whether a descriptor would be closed by exec.
pub(crate) fn closes_on_exec(task: &Task, number: i32) -> bool {
    let Some(files) = task.files() else { return false };
    files.close_on_exec(number).is_ok_and(|flag| flag == vfs::CloseOnExec::Yes)
}

/// exec gets a descriptor table of its own, without those that close on exec.
pub(crate) fn close_on_exec(task: &Task) {
    let Some(files) = task.files() else { return };
    // Two are the task's own reference and this one.
    let files = if Arc::strong_count(&files) > 2 {
        match files.fork() {
            Ok(own) => {
                drop(task.replace_files(Some(own.clone())));
                own
            }
            Err(_) => files,
        }
    } else {
        files
    };
    files.close_for_exec();
}

/// Tells the virtual file system where RLIMIT_FSIZE comes from, and what passing it means (getrlimit(2)).
pub(crate) fn register_size_limit() {
    fn limit() -> u64 {
        with_current(|task| task.process().limit(Resource::FileSize)).unwrap_or(u64::MAX)
    }
    fn exceeded() {
        with_current(|task| {
            let _ = to_task(task, SignalInfo::from_kernel(Signal::SIGXFSZ));
        });
    }
    vfs::attributes::register_size_limit(limit, exceeded);
}
