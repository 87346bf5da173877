//! Named pipes: the hook that `ipc`, which lies above, fills in.
//!
//! Locks: none. The pipe behind a FIFO is kept in its inode ([`Inode::attached`]).

use alloc::sync::Arc;

use abi::errno::{Errno, Result};
use machine::sync::Once;

use crate::file::{File, FileOperations};
use crate::inode::Inode;

/// Opens a FIFO for a description; may sleep until the other end is opened. `EINTR`; `ENXIO`: nonblocking writer without
/// a reader.
pub type FifoOpener = fn(&Arc<Inode>, &File) -> Result<Arc<dyn FileOperations>>;

static OPENER: Once<FifoOpener> = Once::new();

/// Registers what opens FIFOs; the first call counts.
pub fn register_opener(opener: FifoOpener) {
    let _ = OPENER.set(opener);
}

/// Opens a FIFO. `ENXIO` before anyone registered.
pub(crate) fn open(inode: &Arc<Inode>, file: &File) -> Result<Arc<dyn FileOperations>> {
    OPENER.get().ok_or(Errno::ENXIO)?(inode, file)
}
