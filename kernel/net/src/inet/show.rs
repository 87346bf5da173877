//! `/proc/net/udp`, `udp6`, `raw`, `raw6`, `icmp`, `icmp6`, `udplite`, `protocols`. Locks: none held; from socket to socket by number.

use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::net::IpAddr;
use vfs::pseudo::Text;

use super::address::octets;
use super::socket::{InetSocket, Transport};
use crate::namespace::NetNamespace;

/// `TCP_ESTABLISHED` and `TCP_CLOSE`.
const STATES: (u8, u8) = (1, 7);

/// An address as the tables have it: words in the machine's order, then the port.
fn write_address(out: &mut Text, address: IpAddr, port: u16, is_v6: bool) -> fmt::Result {
    match address {
        IpAddr::V4(address) if !is_v6 => {
            write!(out, "{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()))
        }
        address => {
            for word in octets(address).as_chunks::<4>().0 {
                write!(out, "{:08X}", u32::from_ne_bytes(*word))?;
            }
            write!(out, ":{port:04X}")
        }
    }
}

fn write_line(out: &mut Text, slot: usize, socket: &Arc<InetSocket>) -> fmt::Result {
    let (endpoints, core) = (socket.endpoints(), socket.core());
    let is_v6 = socket.is_v6();
    write!(out, "{slot:5}: ")?;
    write_address(out, endpoints.local, endpoints.port, is_v6)?;
    out.write_char(' ')?;
    match endpoints.remote {
        Some(remote) => write_address(out, remote.address, remote.port, is_v6)?,
        None => write_address(out, super::address::any(core.family()), 0, is_v6)?,
    }
    write!(
        out,
        " {:02X} {:08X}:{:08X} {:02X}:{:08X} {:08X} {:5} {:8} {} {} {:016x} {}",
        if endpoints.remote.is_some() { STATES.0 } else { STATES.1 },
        core.send_charged(),
        socket.receive_queue(),
        0,
        0,
        0,
        core.owner().0,
        0,
        core.inode_number(),
        Arc::strong_count(socket).saturating_sub(1),
        socket.number(),
        core.drops(),
    )
}

/// How wide the lines of IPv4's UDP and echo sockets are made.
const WIDTH: usize = 127;

fn write_table(namespace: &NetNamespace, out: &mut Text, transport: Transport, is_v6: bool) -> fmt::Result {
    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout \
                        inode ref pointer drops";
    const HEAD_6: &str = "  sl  local_address                         remote_address                        \
                          st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
    let width = if is_v6 || transport == Transport::Raw { 0 } else { WIDTH };
    match (is_v6, transport) {
        (true, _) => writeln!(out, "{HEAD_6}")?,
        (false, Transport::Udp) => writeln!(out, " {HEAD:<126}")?,
        (false, _) => writeln!(out, "{HEAD:<width$}")?,
    }
    let mut from = 0;
    while let Some(socket) = namespace.inet().next_from(from) {
        from = socket.number() + 1;
        let is_found = socket.transport() == transport && socket.is_v6() == is_v6;
        let port = socket.endpoints().port;
        if !is_found || port == 0 {
            continue;
        }
        let mut line = Text::default();
        write_line(&mut line, usize::from(port), &socket)?;
        writeln!(out, "{:<width$}", alloc::format!("{line}"))?;
    }
    Ok(())
}

/// `/proc/net/udp`.
pub fn write_udp(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Udp, false)
}

/// `/proc/net/udp6`.
pub fn write_udp6(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Udp, true)
}

/// `/proc/net/raw`.
pub fn write_raw(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Raw, false)
}

/// `/proc/net/raw6`.
pub fn write_raw6(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Raw, true)
}

/// `/proc/net/icmp`.
pub fn write_icmp(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Ping, false)
}

/// `/proc/net/icmp6`.
pub fn write_icmp6(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    write_table(namespace, out, Transport::Ping, true)
}
