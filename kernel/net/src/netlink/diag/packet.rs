//! Packet sockets for sock_diag(7). Locks: a socket's memberships.

use abi::diag::*;
use abi::errno::{Errno, Result};
use abi::packet::TpacketReq3;
use abi::socket::{AF_PACKET, SockFilter};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::{Builder, Outcome};
use security::{Capability, UserNamespace};
use zerocopy::IntoBytes;

use super::{Dump, Listing, begin, cookie, is_dump, put_memory};
use crate::core::SocketCore;
use crate::namespace::NetNamespace;
use crate::netlink::request::{Handled, Reply, Request, begin_dump, boxed};
use crate::packet_socket::PacketSocket;

/// `EINVAL`: too short, a protocol; `EOPNOTSUPP`: for one only.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let wanted: SimpleDiagReq = request.message.fixed().ok_or(Errno::EINVAL)?;
    if wanted.sdiag_protocol != 0 {
        return Err(Errno::EINVAL.into());
    }
    if !is_dump(request) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    begin_dump(request, || {
        boxed(Dump::new(PacketListing {
            namespace: request.namespace().clone(),
            show: wanted.show,
            may_see_filter: request.may(Capability::NetAdmin),
            viewer: request.sender.credentials.user_namespace.clone(),
            from: 0,
        }))
    })
}

struct PacketListing {
    namespace: Arc<NetNamespace>,
    show: u32,
    may_see_filter: bool,
    viewer: Arc<UserNamespace>,
    from: u64,
}

impl Listing for PacketListing {
    type Socket = Arc<PacketSocket>;

    fn next(&mut self) -> Option<Arc<PacketSocket>> {
        let socket = self.namespace.packet_sockets().next_from(self.from)?;
        self.from = socket.number() + 1;
        Some(socket)
    }

    fn write(&self, socket: &Arc<PacketSocket>, out: &mut Builder, reply: &Reply) -> Result<()> {
        let core = socket.core();
        let mark = begin(out, reply)?;
        let (protocol, index, running) = socket.bound_to();
        let header = PacketDiagMsg {
            pdiag_family: AF_PACKET as u8,
            pdiag_type: core.kind().number() as u8,
            pdiag_num: protocol,
            pdiag_ino: core.inode_number() as u32,
            pdiag_cookie: cookie(core),
        };
        out.fixed(header.as_bytes())?;
        let shows = |what| self.show & what != 0;
        if shows(PACKET_SHOW_INFO) {
            put_info(socket, index, running, out)?;
            out.u32(PACKET_DIAG_UID, super::owner(&self.viewer, core))?;
        }
        if shows(PACKET_SHOW_MCLIST) {
            put_memberships(socket, out)?;
        }
        if shows(PACKET_SHOW_RING_CFG)
            && let Some(shape) = socket.ring_shape()
        {
            out.attribute(PACKET_DIAG_RX_RING, ring_words(&shape.request).as_bytes())?;
        }
        if shows(PACKET_SHOW_MEMINFO) {
            put_memory(out, PACKET_DIAG_MEMINFO, core)?;
        }
        if shows(PACKET_SHOW_FILTER) {
            put_filter(core, self.may_see_filter, out)?;
        }
        out.end(mark);
        Ok(())
    }
}

fn put_info(socket: &PacketSocket, index: i32, running: bool, out: &mut Builder) -> Result<()> {
    let (version, reserve) = socket.ring_settings();
    let (auxiliary, original) = socket.told();
    let flag = |on, flag| if on { flag } else { 0 };
    let info = PacketDiagInfo {
        pdi_index: index as u32,
        pdi_version: version,
        pdi_reserve: reserve,
        pdi_copy_thresh: 0,
        pdi_tstamp: 0,
        pdi_flags: flag(running, PDI_RUNNING)
            | flag(auxiliary, PDI_AUXDATA)
            | flag(original, PDI_ORIGDEV)
            | flag(socket.loses(), PDI_LOSS),
    };
    out.attribute(PACKET_DIAG_INFO, info.as_bytes())
}

fn put_memberships(socket: &PacketSocket, out: &mut Builder) -> Result<()> {
    socket.with_memberships(|memberships| {
        let mut entries = Vec::new();
        entries.try_reserve_exact(memberships.len()).map_err(|_| Errno::ENOMEM)?;
        entries.extend(memberships.iter().map(|one| {
            let mut address = [0; 32];
            address.iter_mut().zip(one.address).for_each(|(place, byte)| *place = byte);
            PacketDiagMclist {
                pdmc_index: one.index as u32,
                pdmc_count: one.count,
                pdmc_type: one.kind,
                pdmc_alen: one.length,
                pdmc_addr: address,
            }
        }));
        out.attribute(PACKET_DIAG_MCLIST, entries.as_bytes())
    })
}

/// `struct packet_diag_ring` is what was asked for, in another type.
fn ring_words(request: &TpacketReq3) -> [u32; 7] {
    [
        request.tp_block_size,
        request.tp_block_nr,
        request.tp_frame_size,
        request.tp_frame_nr,
        request.tp_retire_blk_tov,
        request.tp_sizeof_priv,
        request.tp_feature_req_word,
    ]
}

/// The filter's text; without the right to see it an empty attribute.
fn put_filter(core: &SocketCore, may_see: bool, out: &mut Builder) -> Result<()> {
    if !may_see {
        return out.attribute(PACKET_DIAG_FILTER, &[]);
    }
    let Some(filter) = core.filter() else { return Ok(()) };
    let mut text = Vec::new();
    text.try_reserve_exact(filter.instructions().len()).map_err(|_| Errno::ENOMEM)?;
    text.extend(filter.instructions().iter().map(|one| SockFilter {
        code: one.code,
        jt: one.jump_true,
        jf: one.jump_false,
        k: one.operand,
    }));
    out.attribute(PACKET_DIAG_FILTER, text.as_bytes())
}
