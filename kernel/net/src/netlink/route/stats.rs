//! RTM_GETSTATS: counters of one interface or of all (`if_stats_msg`). Of the groups only IFLA_STATS_LINK_64 has something to tell.
//!
//! Locks: none; a dump goes on from the last index.

use abi::errno::{Errno, Result};
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Failure, Outcome};
use zerocopy::IntoBytes;

use super::{Handler, fill_devices};
use crate::device::NetDevice;
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

pub(super) const HANDLERS: &[Handler] =
    &[Handler { message: RTM_GETSTATS, family: 0, act: Some(get), dump: Some(dump) }];

const ROOM: usize = 1024;

fn header(request: &Request<'_>, is_dump: bool) -> Outcome<StatsMessage> {
    let header: StatsMessage =
        request.message.fixed().ok_or(Failure::new(Errno::EINVAL, "Invalid header for stats dump"))?;
    if !request.is_strict() {
        return Ok(header);
    }
    if header.pad1 != 0 || header.pad2 != 0 || (is_dump && header.ifindex != 0) {
        return Err(Failure::new(Errno::EINVAL, "Invalid values in header for stats dump request"));
    }
    if header.filter_mask >= 1 << IFLA_STATS_AF_SPEC {
        return Err(Failure::new(Errno::EINVAL, "Invalid stats requested through filter mask"));
    }
    Ok(header)
}

fn describe(device: &NetDevice, mask: u32, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(RTM_NEWSTATS, reply.flags, reply.sequence, reply.port)?;
    let header =
        StatsMessage { ifindex: device.index() as u32, filter_mask: mask, ..StatsMessage::default() };
    out.fixed(header.as_bytes())?;
    if mask & 1 << (IFLA_STATS_LINK_64 - 1) != 0 {
        out.attribute(IFLA_STATS_LINK_64, device.statistics().sums().as_bytes())?;
    }
    out.end(mark);
    Ok(())
}

/// One. Errors: `EINVAL`: no index or no mask; `ENODEV`.
fn get(request: &Request<'_>) -> Outcome<()> {
    let header = header(request, false)?;
    if header.ifindex == 0 {
        return Err(Errno::EINVAL.into());
    }
    let device = request.namespace().devices.by_index(header.ifindex as i32).ok_or(Errno::ENODEV)?;
    if header.filter_mask == 0 {
        return Err(Failure::new(Errno::EINVAL, "Filter mask must be set for stats get"));
    }
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe(&device, header.filter_mask, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// All. `EINVAL`: no mask.
fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let header = header(request, true)?;
    if header.filter_mask == 0 {
        return Err(Failure::new(Errno::EINVAL, "Filter mask must be set for stats dump"));
    }
    boxed(StatsDump { namespace: request.namespace().clone(), mask: header.filter_mask, next: 0 })
}

struct StatsDump {
    namespace: Arc<NetNamespace>,
    mask: u32,
    next: i32,
}

impl Dumper for StatsDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        fill_devices(&self.namespace, &mut self.next, out, |device, out| {
            describe(device, self.mask, out, reply)
        })
    }
    fn generation(&self) -> Option<u32> {
        Some(self.namespace.devices.generation())
    }
}
