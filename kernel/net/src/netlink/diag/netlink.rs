//! Netlink sockets for sock_diag(7), the kernel's own ends among them (port 0 of a protocol that it answers). Locks: a socket's groups.

use abi::diag::*;
use abi::errno::{Errno, Result};
use abi::socket::{AF_NETLINK, SOCK_DGRAM};
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Outcome};
use zerocopy::IntoBytes;

use super::{Dump, Listing, begin, cookie, is_dump, put_memory, state};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Handled, Reply, Request, begin_dump, boxed};
use crate::netlink::socket::{NetlinkSocket, Toggle};
use crate::netlink::{PROTOCOLS, Protocol};

/// How many protocols there can be (`MAX_LINKS`).
const PROTOCOLS_MAX: u8 = 32;

/// `EINVAL`: too short; `EOPNOTSUPP`: for one only; `ENOENT`: no such protocol.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let wanted: SimpleDiagReq = request.message.fixed().ok_or(Errno::EINVAL)?;
    if !is_dump(request) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    begin_dump(request, || {
        if wanted.sdiag_protocol != NDIAG_PROTO_ALL && wanted.sdiag_protocol >= PROTOCOLS_MAX {
            return Err(Errno::ENOENT.into());
        }
        boxed(Dump::new(NetlinkListing {
            namespace: request.namespace().clone(),
            of: wanted.sdiag_protocol,
            show: wanted.show,
            protocol: 0,
            port: Some(0),
        }))
    })
}

struct NetlinkListing {
    namespace: Arc<NetNamespace>,
    of: u8,
    show: u32,
    /// The place in the table of protocols.
    protocol: usize,
    /// The port to go on from; 0 is the kernel's. None: all were told.
    port: Option<u32>,
}

/// A socket, or the kernel's end of a protocol.
enum Found {
    Kernel(&'static Protocol),
    Program(Arc<NetlinkSocket>),
}

impl Listing for NetlinkListing {
    type Socket = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let protocol = PROTOCOLS.get(self.protocol)?;
            let wanted = self.of == NDIAG_PROTO_ALL || self.of == protocol.number;
            let Some(port) = self.port.filter(|_| wanted) else {
                self.protocol += 1;
                self.port = Some(0);
                continue;
            };
            if port == 0 {
                self.port = Some(1);
                if protocol.has_kernel {
                    return Some(Found::Kernel(protocol));
                }
                continue;
            }
            let found = self.namespace.netlink.next_from(protocol.number, port);
            let found = found.filter(|socket| socket.protocol().number == protocol.number);
            self.port = found.as_ref().and_then(|socket| socket.port().checked_add(1));
            if let Some(socket) = found {
                return Some(Found::Program(socket));
            }
        }
    }

    fn write(&self, found: &Found, out: &mut Builder, reply: &Reply) -> Result<()> {
        let mark = begin(out, reply)?;
        match found {
            Found::Kernel(protocol) => out.fixed(
                NetlinkDiagMsg {
                    ndiag_family: AF_NETLINK as u8,
                    ndiag_type: SOCK_DGRAM as u8,
                    ndiag_protocol: protocol.number,
                    ndiag_state: state::CLOSE,
                    ..NetlinkDiagMsg::default()
                }
                .as_bytes(),
            )?,
            Found::Program(socket) => describe(socket, self.show, out)?,
        }
        out.end(mark);
        Ok(())
    }
}

fn describe(socket: &NetlinkSocket, show: u32, out: &mut Builder) -> Result<()> {
    let core = socket.core();
    let (port, group) = socket.connected_to();
    let header = NetlinkDiagMsg {
        ndiag_family: AF_NETLINK as u8,
        ndiag_type: core.kind().number() as u8,
        ndiag_protocol: socket.protocol().number,
        ndiag_state: if (port, group) == (0, 0) { state::CLOSE } else { state::ESTABLISHED },
        ndiag_portid: socket.port(),
        ndiag_dst_portid: port,
        ndiag_dst_group: group,
        ndiag_ino: core.inode_number() as u32,
        ndiag_cookie: cookie(core),
    };
    out.fixed(header.as_bytes())?;
    if show & NDIAG_SHOW_GROUPS != 0
        && let Some(words) = socket.group_words()?
    {
        out.attribute(NETLINK_DIAG_GROUPS, words.as_bytes())?;
    }
    if show & NDIAG_SHOW_MEMINFO != 0 {
        put_memory(out, NETLINK_DIAG_MEMINFO, core)?;
    }
    if show & NDIAG_SHOW_FLAGS != 0 {
        let toggles = [
            (Toggle::PacketInfo, NDIAG_FLAG_PKTINFO),
            (Toggle::BroadcastError, NDIAG_FLAG_BROADCAST_ERROR),
            (Toggle::NoEnobufs, NDIAG_FLAG_NO_ENOBUFS),
            (Toggle::ListenAllNsid, NDIAG_FLAG_LISTEN_ALL_NSID),
            (Toggle::CapAck, NDIAG_FLAG_CAP_ACK),
        ];
        let mut flags = if socket.is_dumping() { NDIAG_FLAG_CB_RUNNING } else { 0 };
        for (toggle, flag) in toggles {
            flags |= if socket.has(toggle) { flag } else { 0 };
        }
        out.u32(NETLINK_DIAG_FLAGS, flags)?;
    }
    Ok(())
}
