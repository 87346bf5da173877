//! `/proc/PID/net`: tables about the network namespace of a process.
//!
//! Key type: [`WriteTable`]: a file is a function that writes about a namespace; [`add`] gives it a name. Families and protocols
//! are added where the image is put together. An open file keeps the namespace alive, an open directory does not.
//! Locks: the list's, a leaf.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use machine::sync::SpinLock;
use net::NetNamespace;
use vfs::FileKind;
use vfs::pseudo::{Directory, Lister, Node, Text};

use crate::process::ProcessDirectory;

/// Writes a table about a namespace.
pub type WriteTable = fn(&NetNamespace, &mut Text) -> fmt::Result;

static FILES: SpinLock<Vec<(&'static str, WriteTable)>> = SpinLock::new(Vec::new());

/// Adds a file to every `/proc/PID/net`. Errors: `EEXIST`, `ENOMEM`.
pub fn add(name: &'static str, write: WriteTable) -> Result<()> {
    let mut files = FILES.lock();
    if files.iter().any(|(known, _)| *known == name) {
        return Err(Errno::EEXIST);
    }
    files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    files.push((name, write));
    Ok(())
}

/// The network namespace of a task.
fn of_task(task: &task::Task) -> Arc<NetNamespace> {
    task.live_namespaces().map_or_else(|_| NetNamespace::initial().clone(), |set| set.net.clone())
}

/// The network namespace of the calling task.
pub(crate) fn of_caller() -> Arc<NetNamespace> {
    task::task::with_current(of_task).unwrap_or_else(|| NetNamespace::initial().clone())
}

/// The directory of a process.
pub(crate) fn directory(process: ProcessDirectory) -> Node {
    Node::directory(Arc::new(NetworkDirectory(process)))
}

struct NetworkDirectory(ProcessDirectory);

impl Directory for NetworkDirectory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = FILES.lock().iter().find(|(known, _)| known.as_bytes() == name).map(|(_, write)| *write);
        let write = found.ok_or(Errno::ENOENT)?;
        let namespace = of_task(&*self.0.task()?);
        Ok(Node::text(0o444, move |out| write(&namespace, out)))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let names: Vec<&str> = FILES.lock().iter().map(|(name, _)| *name).collect();
        for (index, name) in names.iter().enumerate().skip(cursor as usize) {
            if !take(name.as_bytes(), FileKind::Regular, index as u64 + 1, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }

    fn caching(&self) -> vfs::NameCaching {
        // The process may move to another namespace.
        vfs::NameCaching::Checked
    }
}
