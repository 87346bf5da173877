//! RTM_GETLINK: one interface, all interfaces. Locks: none; a dump goes on from the last index.

use abi::errno::{Errno, Result};
use abi::rtnetlink::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Builder, Failure, Outcome, Strictness};

use super::describe::{Details, ROOM, describe};
use super::{HEADER, Parsed, check_unique_namespace, find, namespace_by_id, parse};
use crate::device::LinkKind;
use crate::namespace::NetNamespace;
use crate::netlink::request::{Dumper, Reply, Request, boxed};
use crate::netlink::route::fill_devices;

/// What a strict request may not have in its header.
fn has_surplus(header: &InterfaceMessage) -> bool {
    header.__ifi_pad != 0 || header.ifi_type != 0 || header.ifi_flags != 0 || header.ifi_change != 0
}

fn check_attributes(attributes: &Parsed<'_>, allowed: &[u16], text: &'static str) -> Outcome<()> {
    match attributes.iter().find(|attribute| !allowed.contains(&attribute.kind)) {
        Some(_) => Err(Failure::new(Errno::EINVAL, text)),
        None => Ok(()),
    }
}

/// Whose interfaces are asked for, and by which id.
fn subject(request: &Request<'_>, attributes: &Parsed<'_>) -> Outcome<(Arc<NetNamespace>, Option<i32>)> {
    match attributes.get(IFLA_TARGET_NETNSID) {
        Some(id) => Ok((namespace_by_id(request, id.i32())?, Some(id.i32()))),
        None => Ok((request.namespace().clone(), None)),
    }
}

/// One. Errors: `EINVAL`: it names none; `ENODEV`, `EACCES`, `EOPNOTSUPP`.
pub(super) fn get(request: &Request<'_>) -> Outcome<()> {
    let strict = request.is_strict();
    let header: InterfaceMessage =
        request.message.fixed().ok_or(Failure::new(Errno::EINVAL, "Invalid header for get link"))?;
    if strict && has_surplus(&header) {
        return Err(Failure::new(Errno::EINVAL, "Invalid values in header for get link request"));
    }
    let strictness = if strict { Strictness::Old } else { Strictness::Liberal };
    let (_, attributes) = parse(request, strictness)?;
    if strict {
        let allowed = [IFLA_IFNAME, IFLA_ALT_IFNAME, IFLA_EXT_MASK, IFLA_TARGET_NETNSID];
        check_attributes(&attributes, &allowed, "Unsupported attribute in get link request")?;
    }
    check_unique_namespace(&attributes, true)?;
    let (namespace, target) = subject(request, &attributes)?;
    let device = find(&namespace, &header, &attributes)?;
    let details = Details {
        kind: RTM_NEWLINK,
        filter: attributes.get(IFLA_EXT_MASK).map_or(0, |mask| mask.u32()),
        target,
        ..Details::default()
    };
    let mut out = Builder::new(ROOM);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe(&device, request.namespace().state(), &details, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

/// All, or those of a kind.
pub(super) fn dump(request: &Request<'_>) -> Outcome<Box<dyn Dumper>> {
    let strict = request.is_strict();
    if strict {
        let header: InterfaceMessage =
            request.message.fixed().ok_or(Failure::new(Errno::EINVAL, "Invalid header for link dump"))?;
        if has_surplus(&header) {
            return Err(Failure::new(Errno::EINVAL, "Invalid values in header for link dump request"));
        }
        if header.ifi_index != 0 {
            let text = "Filter by device index not supported for link dumps";
            return Err(Failure::new(Errno::EINVAL, text));
        }
    }
    let mut list = LinkDump {
        viewer: request.namespace().clone(),
        namespace: request.namespace().clone(),
        details: Details { kind: RTM_NEWLINK, ..Details::default() },
        of_kind: None,
        master: None,
        next: 0,
    };
    let strictness = if strict { Strictness::Old } else { Strictness::Liberal };
    let parsed = match parse(request, strictness) {
        Ok((_, parsed)) => parsed,
        // Old programs send less than a header.
        Err(_) if !strict || request.message.payload.len() < HEADER => return boxed(list),
        Err(failure) => return Err(failure),
    };
    if strict {
        let allowed = [IFLA_TARGET_NETNSID, IFLA_EXT_MASK, IFLA_MASTER, IFLA_LINKINFO];
        check_attributes(&parsed, &allowed, "Unsupported attribute in link dump request")?;
    }
    if parsed.has(IFLA_TARGET_NETNSID) {
        let failed = |failure| Failure { text: Some("Invalid target network namespace id"), ..failure };
        let (namespace, target) = subject(request, &parsed).map_err(failed)?;
        (list.namespace, list.details.target) = (namespace, target);
    }
    list.details.filter = parsed.get(IFLA_EXT_MASK).map_or(0, |mask| mask.u32());
    list.master = parsed.get(IFLA_MASTER).map(|master| master.u32());
    if let Some(info) = parsed.get(IFLA_LINKINFO)
        && let Some(kind) = info.nested().find(|attribute| attribute.kind == IFLA_INFO_KIND)
    {
        list.of_kind = super::kind_named(kind.text());
    }
    boxed(list)
}

struct LinkDump {
    viewer: Arc<NetNamespace>,
    namespace: Arc<NetNamespace>,
    details: Details,
    /// Only these; a kind that nobody knows filters nothing, as on Linux.
    of_kind: Option<&'static LinkKind>,
    master: Option<u32>,
    /// The first index that was not told yet.
    next: i32,
}

impl Dumper for LinkDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        let (of_kind, of_master) = (self.of_kind, self.master);
        fill_devices(&self.namespace, &mut self.next, out, |device, out| {
            let is = |kind: &LinkKind| device.kind().is_some_and(|own| core::ptr::eq(own, kind));
            let belongs = |master: u32| {
                let own = device.adjacency.master().map_or(0, |own| own.index() as u32);
                master == 0 || own == master
            };
            if !of_kind.is_none_or(is) || !of_master.is_none_or(belongs) {
                return Ok(());
            }
            describe(device, self.viewer.state(), &self.details, out, reply)
        })
    }

    fn generation(&self) -> Option<u32> {
        Some(self.namespace.devices.generation())
    }
}
