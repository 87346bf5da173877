//! RTM_GETMULTICAST: the groups that interfaces are in, as messages (`inet_dump_ifmcaddr`, `inet6_dump_ifmcaddr`).
//!
//! Locks: none; a dump goes on from the interface and group where it stopped.

use abi::errno::{Errno, Result};
use abi::route::*;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Outcome};
use zerocopy::IntoBytes;

use super::Handler;
use super::address::put_address;
use crate::device::NetDevice;
use crate::ip::address::now_hundredths;
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
    boxed(GroupDump { namespace: request.namespace().clone(), families, family: 0, next: 0, skip: 0 })
}

struct GroupDump {
    namespace: Arc<NetNamespace>,
    families: &'static [bool],
    family: usize,
    next: i32,
    /// Groups of the next interface that were told.
    skip: usize,
}

fn describe(device: &NetDevice, group: &Group, is_v6: bool, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(RTM_GETMULTICAST, reply.flags, reply.sequence, reply.port)?;
    let header = AddressMessage {
        ifa_family: if is_v6 { V6 } else { V4 },
        ifa_prefixlen: if is_v6 { 128 } else { 32 },
        ifa_flags: IFA_F_PERMANENT as u8,
        ifa_scope: match group.address {
            core::net::IpAddr::V6(address) => crate::ip::address::inet6::scope(address),
            core::net::IpAddr::V4(_) => RT_SCOPE_UNIVERSE,
        },
        ifa_index: device.index() as u32,
    };
    out.fixed(header.as_bytes())?;
    put_address(out, IFA_MULTICAST, group.address)?;
    let lifetimes = AddressLifetimes {
        ifa_prefered: u32::MAX,
        ifa_valid: u32::MAX,
        cstamp: now_hundredths(),
        tstamp: now_hundredths(),
    };
    out.attribute(IFA_CACHEINFO, lifetimes.as_bytes())?;
    out.end(mark);
    Ok(())
}

impl Dumper for GroupDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(is_v6) = self.families.get(self.family).copied() {
            while let Some(device) = self.namespace.devices().next_from(self.next) {
                if device.index() != self.next {
                    (self.next, self.skip) = (device.index(), 0);
                }
                let groups = device.ip().into_iter().flat_map(|ip| ip.groups.of_family(is_v6));
                for group in groups.skip(self.skip) {
                    let before = out.mark();
                    match describe(&device, &group, is_v6, out, reply) {
                        Ok(()) => self.skip += 1,
                        Err(Errno::EMSGSIZE) => {
                            out.cancel(before);
                            return Ok(false);
                        }
                        Err(error) => return Err(error),
                    }
                }
                self.skip = 0;
                match device.index().checked_add(1) {
                    Some(next) => self.next = next,
                    None => break,
                }
            }
            self.family += 1;
            (self.next, self.skip) = (0, 0);
        }
        Ok(true)
    }
}
