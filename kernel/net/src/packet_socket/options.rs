//! The options of SOL_PACKET (packet(7)). What is not here (PACKET_TX_RING, PACKET_VNET_HDR …) is `ENOPROTOOPT`.
//!
//! Locks: setting up a ring holds `ring_change` (sleeping).

use abi::errno::{Errno, Result};
use abi::packet::*;
use alloc::sync::Arc;
use machine::sync::atomic::Ordering;
use zerocopy::{FromBytes, IntoBytes};

use super::ring::{Ring, RingShape, header_length};
use super::{PacketSocket, fanout};
use crate::socket::Socket;

/// An option that is on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Switch {
    /// PACKET_AUXDATA.
    Auxdata = 1,
    /// PACKET_ORIGDEV: there are no devices here whose frames seem to come from another.
    OriginalDevice = 2,
    /// PACKET_IGNORE_OUTGOING.
    IgnoreOutgoing = 4,
    /// PACKET_LOSS.
    Loss = 8,
    /// PACKET_QDISC_BYPASS: there is no queue to go round.
    QueueBypass = 16,
}

impl Switch {
    fn of(name: i32) -> Option<Switch> {
        Some(match name {
            PACKET_AUXDATA => Switch::Auxdata,
            PACKET_ORIGDEV => Switch::OriginalDevice,
            PACKET_IGNORE_OUTGOING => Switch::IgnoreOutgoing,
            PACKET_LOSS => Switch::Loss,
            PACKET_QDISC_BYPASS => Switch::QueueBypass,
            _ => return None,
        })
    }
}

fn number(value: &[u8]) -> Result<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// setsockopt(2). `EINVAL`, `EBUSY`: there is a ring; `ENODEV`, `ENOMEM`; `ENOPROTOOPT`.
pub(super) fn set(socket: &Arc<PacketSocket>, _whole: &Socket, name: i32, value: &[u8]) -> Result<()> {
    if let Some(switch) = Switch::of(name) {
        return set_switch(socket, switch, number(value)?);
    }
    match name {
        PACKET_ADD_MEMBERSHIP | PACKET_DROP_MEMBERSHIP => {
            let (wanted, _) = PacketMreq::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            socket.change_membership(&wanted, name == PACKET_ADD_MEMBERSHIP)
        }
        PACKET_VERSION => {
            let version = number(value)?;
            header_length(version)?;
            let _one = socket.ring_change.lock();
            if socket.ring.lock().is_some() {
                return Err(Errno::EBUSY);
            }
            socket.version.store(version, Ordering::Relaxed);
            Ok(())
        }
        PACKET_RESERVE => {
            let reserve = number(value)?;
            if reserve > i32::MAX as u32 {
                return Err(Errno::EINVAL);
            }
            let _one = socket.ring_change.lock();
            if socket.ring.lock().is_some() {
                return Err(Errno::EBUSY);
            }
            socket.reserve.store(reserve, Ordering::Relaxed);
            Ok(())
        }
        PACKET_RX_RING => set_ring(socket, value),
        PACKET_FANOUT => socket.join(&fanout::Wanted::read(value)?),
        // Which clock stamps frames: software's is the only one.
        PACKET_TIMESTAMP => number(value).map(drop),
        _ => Err(Errno::ENOPROTOOPT),
    }
}

fn set_switch(socket: &PacketSocket, switch: Switch, value: u32) -> Result<()> {
    if switch == Switch::IgnoreOutgoing && value > 1 {
        return Err(Errno::EINVAL);
    }
    if switch == Switch::Loss && socket.ring.lock().is_some() {
        return Err(Errno::EBUSY);
    }
    if value != 0 {
        socket.switches.fetch_or(switch as u32, Ordering::Relaxed);
    } else {
        socket.switches.fetch_and(!(switch as u32), Ordering::Relaxed);
    }
    Ok(())
}

/// PACKET_RX_RING: makes the ring, or with no blocks takes it away.
fn set_ring(socket: &Arc<PacketSocket>, value: &[u8]) -> Result<()> {
    let version = socket.version.load(Ordering::Relaxed);
    let needed = if version == TPACKET_V3 { size_of::<TpacketReq3>() } else { 16 };
    if value.len() < needed {
        return Err(Errno::EINVAL);
    }
    let mut whole = [0; size_of::<TpacketReq3>()];
    whole.iter_mut().zip(&value[..needed]).for_each(|(place, byte)| *place = *byte);
    let request = TpacketReq3::read_from_bytes(&whole).map_err(|_| Errno::EINVAL)?;
    let _one = socket.ring_change.lock();
    let old = socket.ring.lock().clone();
    if old.as_ref().is_some_and(|old| old.is_mapped()) {
        return Err(Errno::EBUSY);
    }
    if request.tp_block_nr == 0 {
        if request.tp_frame_nr != 0 {
            return Err(Errno::EINVAL);
        }
        socket.has_ring.store(false, Ordering::Release);
        let gone = socket.ring.lock().take();
        drop((gone, old));
        return Ok(());
    }
    if old.is_some() {
        return Err(Errno::EBUSY);
    }
    let shape = RingShape { version, request, reserve: socket.reserve.load(Ordering::Relaxed) };
    shape.check()?;
    let ring = Ring::new(shape, &socket.core)?;
    *socket.ring.lock() = Some(ring);
    socket.has_ring.store(true, Ordering::Release);
    Ok(())
}

/// getsockopt(2): writes into `value`, gives the length.
pub(super) fn get(socket: &PacketSocket, name: i32, value: &mut [u8]) -> Result<usize> {
    let answer = match name {
        PACKET_STATISTICS => {
            let drops = socket.drops.swap(0, Ordering::Relaxed);
            let packets = socket.packets.swap(0, Ordering::Relaxed);
            // The third is how often the queue of blocks was frozen.
            let words = [packets, drops, 0];
            let count = if socket.version.load(Ordering::Relaxed) == TPACKET_V3 { 3 } else { 2 };
            return put(words[..count].as_bytes(), value);
        }
        PACKET_HDRLEN => {
            let wanted = number(value)?;
            header_length(wanted)? as u32 - size_of::<SockaddrLl>() as u32
        }
        PACKET_VERSION => socket.version.load(Ordering::Relaxed),
        PACKET_RESERVE => socket.reserve.load(Ordering::Relaxed),
        PACKET_TIMESTAMP => 0,
        PACKET_FANOUT => socket.group().map_or(0, |group| group.describe()),
        _ => u32::from(socket.has(Switch::of(name).ok_or(Errno::ENOPROTOOPT)?)),
    };
    put(answer.as_bytes(), value)
}

fn put(answer: &[u8], value: &mut [u8]) -> Result<usize> {
    let length = answer.len().min(value.len());
    value[..length].copy_from_slice(&answer[..length]);
    Ok(length)
}
