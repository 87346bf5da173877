//! The vDSO: placeholder until the image builder is in. Programs use the system calls.

use abi::errno::Result;
use mm::AddressSpace;

/// Maps the vDSO; `None` when there is none.
pub(crate) fn map(_space: &AddressSpace) -> Result<Option<usize>> {
    Ok(None)
}
