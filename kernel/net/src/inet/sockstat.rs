//! `/proc/net/sockstat`, `sockstat6`: how many sockets there are, and what waits for them or for its other fragments.
//!
//! Locks: none held; what UDP's queues hold is asked of each socket, from one to the next by number.

use core::fmt::{self, Write};
use machine::PAGE_SIZE;
use vfs::pseudo::Text;

use super::socket::Transport;
use crate::namespace::NetNamespace;

/// Pages of memory that waits for the UDP sockets of both families.
fn udp_pages(net: &NetNamespace) -> usize {
    let (mut pages, mut from) = (0, 0);
    while let Some(socket) = net.inet().next_from(from) {
        from = socket.number() + 1;
        if socket.transport() == Transport::Udp {
            pages += socket.receive_queue().div_ceil(PAGE_SIZE);
        }
    }
    pages
}

/// `sockstat`. There are no sockets of TCP.
pub fn write_sockstat(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let fragments = net.ip.fragments.held(false);
    writeln!(out, "sockets: used {}", net.socket_count())?;
    writeln!(out, "TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0")?;
    writeln!(out, "UDP: inuse {} mem {}", net.inet().udp.table.count(false), udp_pages(net))?;
    writeln!(out, "RAW: inuse {}", net.inet().raw[0].table.len())?;
    writeln!(out, "FRAG: inuse {} memory {}", fragments.packets, fragments.bytes)
}

/// `sockstat6`.
pub fn write_sockstat6(net: &NetNamespace, out: &mut Text) -> fmt::Result {
    let fragments = net.ip.fragments.held(true);
    writeln!(out, "TCP6: inuse 0")?;
    writeln!(out, "UDP6: inuse {}", net.inet().udp.table.count(true))?;
    writeln!(out, "RAW6: inuse {}", net.inet().raw[1].table.len())?;
    writeln!(out, "FRAG6: inuse {} memory {}", fragments.packets, fragments.bytes)
}
