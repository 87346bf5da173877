//! Times of messages as control messages (`SO_TIMESTAMP`, `SO_TIMESTAMPNS`). Locks: none.

use abi::errno::{Errno, Result};
use abi::socket::{SO_TIMESTAMP_NEW, SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPNS_OLD, SOL_SOCKET};
use abi::time::{Timespec, Timeval};
use alloc::vec::Vec;
use zerocopy::IntoBytes;

use crate::core::SocketCore;
use crate::message::{Ancillary, ControlMessage};
use crate::options::Switches;

/// Adds the time a message came (nanoseconds since 1970), in the form that the receiver asked for. `ENOMEM`.
pub fn add(core: &SocketCore, time_ns: u64, ancillary: &mut Ancillary) -> Result<()> {
    let options = &core.options;
    if !options.has(Switches::TIMESTAMP) {
        return Ok(());
    }
    let (nanoseconds, new) = (options.has(Switches::TIMESTAMP_NS), options.has(Switches::TIMESTAMP_NEW));
    let kind = match (nanoseconds, new) {
        (false, false) => SO_TIMESTAMP_OLD,
        (false, true) => SO_TIMESTAMP_NEW,
        (true, false) => SO_TIMESTAMPNS_OLD,
        (true, true) => SO_TIMESTAMPNS_NEW,
    };
    let (timespec, timeval) = (Timespec::from_nanoseconds(time_ns), Timeval::from_nanoseconds(time_ns));
    let bytes = if nanoseconds { timespec.as_bytes() } else { timeval.as_bytes() };
    let mut data = Vec::new();
    data.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    data.extend_from_slice(bytes);
    ancillary.others.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    ancillary.others.push(ControlMessage { level: SOL_SOCKET as i32, kind: kind as i32, data });
    Ok(())
}
