//! What sockets ask of the task that calls: who it is, what paths mean to it, what it may.
//!
//! Key types: none; [`Pid`] is a socket's [`ProcessHandle`]. Locks: none held.

use crate::limits::Resource;
use crate::namespaces::{Namespace, nsfs};
use crate::pid::Pid;
use crate::task::with_current;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use net::message::{Caller, ProcessHandle, register_caller};
use net::{NetNamespace, Sender};
use vfs::{File, FsContext};

impl ProcessHandle for Pid {
    fn number(&self) -> i32 {
        with_current(|task| self.number_in(task.process().namespace())).unwrap_or(0)
    }

    fn open(&self) -> Result<Arc<File>> {
        let process = self.process().ok_or(Errno::ESRCH)?;
        with_current(|task| crate::pidfd::file_of(task, process.pid())).ok_or(Errno::ESRCH)?
    }
}

struct CallingTask;

impl Caller for CallingTask {
    fn sender(&self) -> Option<Sender> {
        with_current(|task| Sender {
            process: Some(task.process().pid().clone()),
            credentials: task.credentials(),
        })
    }

    fn network(&self) -> Option<Arc<NetNamespace>> {
        with_current(|task| task.live_namespaces().ok().map(|set| set.net.clone()))?
    }

    fn file_system(&self) -> Option<Arc<FsContext>> {
        with_current(|task| task.fs())?
    }

    fn descriptor_limit(&self) -> Option<u64> {
        with_current(|task| task.process().limit(Resource::OpenFiles))
    }

    fn namespace_of_descriptor(&self, descriptor: i32) -> Result<Arc<NetNamespace>> {
        let files = with_current(|task| task.open_files()).ok_or(Errno::EBADF)??;
        match nsfs::of_file(&*files.get_open(descriptor)?)? {
            Namespace::Net(namespace) => Ok(namespace),
            _ => Err(Errno::EINVAL),
        }
    }

    fn namespace_of_process(&self, process: i32) -> Result<Arc<NetNamespace>> {
        let found = with_current(|task| task.process().namespace().find_task(process));
        let set = found.flatten().ok_or(Errno::ESRCH)?.live_namespaces().map_err(|_| Errno::ESRCH)?;
        Ok(set.net.clone())
    }
}

/// Tells the network crate whom to ask.
pub(crate) fn register() {
    register_caller(&CallingTask);
}
