//! RTM_GETMULTICAST: the groups that interfaces are in, as messages (`inet_dump_ifmcaddr`, `inet6_dump_ifmcaddr`).
//!
//! Locks: none; a dump goes on from the interface and group where it stopped.

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::IpAddr;
use linnet_lib::netlink::{Builder, Outcome};
use zerocopy::IntoBytes;

use super::Handler;
use super::address::put_address;
use crate::device::NetDevice;
use crate::ip::address::inet6;
use crate::ip::multicast::Group;
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};

const V4: u8 = AF_INET as u8;
const V6: u8 = AF_INET6 as u8;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_GETMULTICAST, family: V4, act: None, dump: Some(dump4) },
    Handler { message: RTM_GETMULTICAST, family: V6, act: None, dump: Some(dump6) },
    Handler { message: RTM_GETMULTICAST, family: 0, act: None, dump: Some(dump_both) },
];

fn dump4(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[false])
}
fn dump6(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[true])
}
fn dump_both(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    begin(request, &[false, true])
}

fn begin(request: &Request<'_>, families: &'static [bool]) -> Outcome<Box<dyn Dumper>> {
    boxed(GroupDump { namespace: request.namespace().clone(), families, family: 0, next: 0, place: 0 })
}

struct GroupDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    family: usize,
    next: i32,
    /// Where among the next interface's groups it goes on.
    place: u64,
}

fn describe(device: &NetDevice, group: &Group, is_v6: bool, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(RTM_GETMULTICAST, reply.flags, reply.sequence, reply.port)?;
    let header = AddressMessage {
        ifa_family: if is_v6 { V6 } else { V4 },
        ifa_prefixlen: if is_v6 { 128 } else { 32 },
        ifa_flags: IFA_F_PERMANENT as u8,
        ifa_scope: match group.address {
            IpAddr::V6(address) if inet6::scope(address) == RT_SCOPE_SITE => RT_SCOPE_SITE,
            _ => RT_SCOPE_UNIVERSE,
        },
        ifa_index: device.index() as u32,
    };
    out.fixed(header.as_bytes())?;
    put_address(out, IFA_MULTICAST, group.address)?;
    let lifetimes = AddressLifetimes {
        ifa_prefered: u32::MAX,
        ifa_valid: u32::MAX,
        cstamp: group.created,
        tstamp: group.created,
    };
    out.u32(IFA_MC_USERS, group.users)?;
    out.attribute(IFA_CACHEINFO, lifetimes.as_bytes())?;
    out.end(mark);
    Ok(())
}

impl Dumper for GroupDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(is_v6) = self.families.get(self.family).copied() {
            while let Some(device) = self.namespace.devices().next_from(self.next) {
                if device.index() != self.next {
                    (self.next, self.place) = (device.index(), 0);
                }
                let ip = device.ip();
                let next = |from| ip.as_ref().and_then(|ip| ip.groups.next_of_family(is_v6, from));
                while let Some((behind, group)) = next(self.place) {
                    let before = out.mark();
                    match describe(&device, &group, is_v6, out, reply) {
                        Ok(()) => self.place = behind,
                        Err(Errno::EMSGSIZE) => {
                            out.cancel(before);
                            return Ok(false);
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.place = 0;
                match device.index().checked_add(1) {
                    Some(next) => self.next = next,
                    None => break,
                }
            }
            self.family += 1;
            (self.next, self.place) = (0, 0);
        }
        Ok(true)
    }
}
