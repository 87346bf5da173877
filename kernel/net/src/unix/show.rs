//! `/proc/net/unix`: one line for each UNIX socket of a network namespace.
//!
//! Locks: that of each socket's state, one after the other.

use alloc::sync::Arc;
use core::fmt::{self, Write};

use super::{Status, UnixSocket};
use crate::namespace::NetNamespace;
use vfs::pseudo::Text;

/// Writes the table. Linux shows kernel addresses in the first column, hashed; here it is the socket's own number.
pub fn write_sockets(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    writeln!(out, "Num       RefCount Protocol Flags    Type St Inode Path")?;
    let mut result = Ok(());
    namespace.unix().for_each(|socket| {
        if result.is_ok() {
            result = write_socket(socket, out);
        }
    });
    result
}

fn write_socket(socket: &Arc<UnixSocket>, out: &mut Text) -> fmt::Result {
    const ACCEPTS: u32 = 1 << 16;
    let (status, address) = {
        let state = socket.state.lock();
        (state.status, state.address.clone())
    };
    let has_file = socket.core.inode_number() != 0;
    let state = match (status, has_file) {
        (Status::Connected, true) => 3,
        (Status::Connected, false) => 2,
        (_, true) => 1,
        (_, false) => 4,
    };
    // One reference is the one that this looks through.
    let references = Arc::strong_count(socket).saturating_sub(1);
    write!(
        out,
        "{:016x}: {:08X} {:08X} {:08X} {:04X} {:02X} {:5}",
        socket.number,
        references,
        0,
        if status == Status::Listening { ACCEPTS } else { 0 },
        socket.core.kind().number(),
        state,
        socket.core.inode_number(),
    )?;
    if let Some(address) = address {
        out.write_char(' ')?;
        for byte in address.name() {
            // Abstract names begin with an at sign, whatever else is not text shows as one too.
            out.write_char(if *byte == 0 { '@' } else { char::from(*byte) })?;
        }
    }
    out.write_char('\n')
}
