//! `/proc/net/packet` and `/proc/net/ptype`. Locks: none; goes from socket to socket by number.

use core::fmt::{self, Write};

use abi::packet::{ETH_P_ALL, ETH_P_ARP, ETH_P_IP, ETH_P_IPV6};
use alloc::sync::Arc;
use vfs::pseudo::Text;

use super::PacketSocket;
use crate::namespace::NetNamespace;

fn each(namespace: &NetNamespace, mut write: impl FnMut(&Arc<PacketSocket>) -> fmt::Result) -> fmt::Result {
    let mut from = 0;
    while let Some(socket) = namespace.packet_sockets().next_from(from) {
        from = socket.number() + 1;
        write(&socket)?;
    }
    Ok(())
}

/// Writes the table of packet sockets. The first column, an address on Linux, is the socket's own number.
pub fn write_sockets(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    writeln!(out, "sk               RefCnt Type Proto  Iface R Rmem   User   Inode")?;
    each(namespace, |socket| {
        let (protocol, index, running) = socket.bound_to();
        let core = socket.core();
        writeln!(
            out,
            "{:016x} {:<6} {:<4} {:04x}   {:<5} {} {:<6} {:<6} {:<6}",
            socket.number(),
            Arc::strong_count(socket).saturating_sub(1),
            core.kind().number(),
            protocol,
            index,
            u8::from(running),
            core.receive_charged(),
            core.owner().0,
            core.inode_number(),
        )
    })
}

/// Writes who takes which packets: sockets first those of all protocols, then the protocols of the kernel.
pub fn write_types(namespace: &NetNamespace, out: &mut Text) -> fmt::Result {
    writeln!(out, "Type Device      Function")?;
    each(namespace, |socket| {
        let (protocol, index, running) = socket.bound_to();
        if !running {
            return Ok(());
        }
        let name = namespace.devices().by_index(index).map(|device| alloc::format!("{}", device.name()));
        let function = if socket.ring_shape().is_some() { "tpacket_rcv" } else { "packet_rcv" };
        let name = name.unwrap_or_default();
        if protocol == ETH_P_ALL {
            writeln!(out, "ALL  {name:<8} {function}")
        } else {
            writeln!(out, "{protocol:04x} {name:<8} {function}")
        }
    })?;
    for (protocol, function) in [(ETH_P_IP, "ip_rcv"), (ETH_P_ARP, "arp_rcv"), (ETH_P_IPV6, "ipv6_rcv")] {
        if crate::device::traffic::has_protocol(protocol) {
            writeln!(out, "{protocol:04x}          {function}")?;
        }
    }
    Ok(())
}
