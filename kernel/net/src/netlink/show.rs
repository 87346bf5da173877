//! `/proc/net/netlink`. Locks: a socket's groups; goes from socket to socket by protocol and port.

use alloc::sync::Arc;
use core::fmt::{self, Write};
use vfs::pseudo::Text;

use super::PROTOCOLS;
use crate::namespace::NetNamespace;

/// Writes the table. The first column, an address on Linux, is the socket's own number; the kernel's ends have 0.
pub fn write_sockets(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    writeln!(
        out,
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode"
    )?;
    for protocol in PROTOCOLS {
        if protocol.has_kernel {
            writeln!(
                out,
                "{:016x} {:<3} {:<10} {:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
                0, protocol.number, 0, 0, 0, 0, 0, 2, 0, 0
            )?;
        }
        let mut port = 1;
        while let Some(socket) = namespace.netlink.next_from(protocol.number, port) {
            if socket.protocol().number != protocol.number {
                break;
            }
            let core = socket.core();
            writeln!(
                out,
                "{:016x} {:<3} {:<10} {:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
                socket.number(),
                protocol.number,
                socket.port(),
                socket.group_mask(),
                core.receive_charged(),
                core.send_charged(),
                u8::from(socket.is_dumping()),
                Arc::strong_count(&socket).saturating_sub(1),
                core.drops(),
                core.inode_number(),
            )?;
            let Some(next) = socket.port().checked_add(1) else { break };
            port = next;
        }
    }
    Ok(())
}
