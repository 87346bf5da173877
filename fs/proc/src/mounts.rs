//! `/proc/PID/mounts` and `mountinfo`: the mounts of a process as a text that can be watched (proc_pid_mounts(5)).
//!
//! An open file keeps the namespace and the root that the process had when it was opened. poll(2) tells `POLLERR|POLLPRI` once for all
//! changes since the last time that it told, or since the file was opened. Locks: none of its own.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use core::fmt;
use machine::sync::atomic::{AtomicU64, Ordering};
use mm::io::IoWriter;
use vfs::pseudo::{Text, TextFile};
use vfs::{File, FileOperations, MountNamespace, Path, PollTable};

use crate::process::ProcessDirectory;

/// Writes about the mounts of a namespace as a process with this root sees them.
pub type WriteMounts = fn(&Path, &MountNamespace, &mut Text) -> fmt::Result;

struct MountFile {
    text: TextFile,
    namespace: Arc<MountNamespace>,
    /// The changes that poll has told of.
    told: AtomicU64,
}

/// Opens it. Errors: `ESRCH`, `ENOENT`, `EINVAL`: the process has ended.
pub fn open(directory: &ProcessDirectory, write: WriteMounts) -> Result<Arc<dyn FileOperations>> {
    let state = directory.task()?.file_system()?.state().ok_or(Errno::EINVAL)?;
    let (root, namespace) = (state.root.clone(), state.namespace.clone());
    let told = AtomicU64::new(namespace.changes().0);
    let shown = namespace.clone();
    let text = TextFile::new(move |out| write(&root, &shown, out).map_err(|_| Errno::ENOMEM));
    Ok(Arc::new(MountFile { text, namespace, told }))
}

impl FileOperations for MountFile {
    fn read(&self, file: &File, to: &mut dyn IoWriter, offset: u64) -> Result<usize> {
        self.text.read(file, to, offset)
    }

    fn poll(&self, _file: &File, table: &mut PollTable<'_>) -> PollEvents {
        table.register(self.namespace.changes().1);
        let (now, _) = self.namespace.changes();
        let is_news = self.told.swap(now, Ordering::Relaxed) != now;
        PollEvents::READABLE | if is_news { PollEvents::ERR | PollEvents::PRI } else { PollEvents::empty() }
    }
}
