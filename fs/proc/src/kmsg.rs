//! `/proc/kmsg`: the kernel's log, consumed by reading, as with syslog(2) (proc_kmsg(5)). Locks: those of `task::syslog`.

use abi::errno::{Errno, Result};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use mm::io::IoWriter;
use security::Capability;
use task::syslog;
use vfs::{File, FileOperations, PollTable, Positioning};

struct Kmsg;

/// Opens it. Errors: `EPERM`.
pub fn open() -> Result<Arc<dyn FileOperations>> {
    let may = task::task::with_current(|task| task.credentials().has(Capability::Syslog));
    if may == Some(false) { Err(Errno::EPERM) } else { Ok(Arc::new(Kmsg)) }
}

impl FileOperations for Kmsg {
    fn read(&self, file: &File, to: &mut dyn IoWriter, _offset: u64) -> Result<usize> {
        if file.is_nonblocking() && !syslog::has_unread() {
            return Err(Errno::EAGAIN);
        }
        syslog::consume(to.remaining(), |line| match to.write_bytes(line)? {
            count if count == line.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        })
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    /// Ready or not as it is now; who polls is not woken by news, and looks again with a timeout.
    fn poll(&self, _file: &File, _table: &mut PollTable<'_>) -> PollEvents {
        if syslog::has_unread() { PollEvents::READABLE } else { PollEvents::empty() }
    }
}
