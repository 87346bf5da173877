//! NETLINK_GENERIC: families by name, and the controller that knows them (`nlctrl`).
//!
//! There is one family so far, the controller itself. Others add themselves to [`FAMILIES`]. Locks: none; the list is constant.

use abi::errno::{Errno, Result};
use abi::netlink as linux;
use linnet_lib::netlink::{Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use zerocopy::IntoBytes;

use super::request::{Dumper, Handled, Reply, Request, begin_dump, boxed, fits};

/// Multicast groups: numbers are given from 16 on, as on Linux, the controller's `notify` first.
pub const GROUPS: u32 = 32;
const CONTROLLER_GROUP: u32 = 16;

/// A family.
#[derive(Debug)]
pub struct Family {
    id: u16,
    name: &'static str,
    version: u32,
    header: u32,
    max_attribute: u32,
    /// Commands with what they can do.
    operations: &'static [(u32, u32)],
    /// Groups by name and number.
    groups: &'static [(&'static str, u32)],
}

/// All families, ascending by id.
const FAMILIES: &[Family] = &[Family {
    id: linux::GENL_ID_CTRL,
    name: "nlctrl",
    version: 2,
    header: 0,
    max_attribute: 10,
    operations: &[(
        linux::CTRL_CMD_GETFAMILY as u32,
        (linux::GENL_CMD_CAP_DO | linux::GENL_CMD_CAP_DUMP | linux::GENL_CMD_CAP_HASPOL) as u32,
    )],
    groups: &[("notify", CONTROLLER_GROUP)],
}];

static POLICIES: Policies = Policies {
    max: 10,
    rules: &[
        (linux::CTRL_ATTR_FAMILY_ID, Policy::U16),
        (linux::CTRL_ATTR_FAMILY_NAME, Policy::NulString(15)),
    ],
};

const HEADER: usize = size_of::<linux::GenericHeader>();

/// A message to a family. `ENOENT`: there is none of that number; `EINVAL`, `EOPNOTSUPP`.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let kind = request.message.header.nlmsg_type;
    if !FAMILIES.iter().any(|family| family.id == kind) {
        return Err(Errno::ENOENT.into());
    }
    let header: linux::GenericHeader = request.message.fixed().ok_or(Errno::EINVAL)?;
    let dumps = request.message.header.nlmsg_flags & linux::NLM_F_DUMP != 0;
    match (u16::from(header.cmd), dumps) {
        (linux::CTRL_CMD_GETFAMILY, true) => begin_dump(request, || boxed(FamilyDump { next: 0 })),
        (linux::CTRL_CMD_GETFAMILY, false) => get_family(request).map(|()| Handled::Done),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn get_family(request: &Request<'_>) -> Outcome<()> {
    let attributes =
        Attributes::<11>::parse_message(&request.message, HEADER, &POLICIES, Strictness::Liberal)?;
    let mut found = None;
    let mut asked = false;
    if let Some(id) = attributes.get(linux::CTRL_ATTR_FAMILY_ID) {
        asked = true;
        found = FAMILIES.iter().find(|family| family.id == id.u16());
    }
    if let Some(name) = attributes.get(linux::CTRL_ATTR_FAMILY_NAME) {
        asked = true;
        found = FAMILIES.iter().find(|family| family.name.as_bytes() == name.text());
    }
    let family = match (found, asked) {
        (Some(family), _) => family,
        (None, true) => return Err(Errno::ENOENT.into()),
        (None, false) => return Err(Failure::from(Errno::EINVAL)),
    };
    let mut out = Builder::new(super::socket::DUMP_MAX);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe(family, &mut out, &reply)?;
    request.answer(out);
    Ok(())
}

fn describe(family: &Family, out: &mut Builder, reply: &Reply) -> Result<()> {
    let mark = out.begin(linux::GENL_ID_CTRL, reply.flags, reply.sequence, reply.port)?;
    let header = linux::GenericHeader { cmd: linux::CTRL_CMD_NEWFAMILY as u8, version: 2, reserved: 0 };
    out.fixed(header.as_bytes())?;
    out.text(linux::CTRL_ATTR_FAMILY_NAME, family.name.as_bytes())?;
    out.u16(linux::CTRL_ATTR_FAMILY_ID, family.id)?;
    out.u32(linux::CTRL_ATTR_VERSION, family.version)?;
    out.u32(linux::CTRL_ATTR_HDRSIZE, family.header)?;
    out.u32(linux::CTRL_ATTR_MAXATTR, family.max_attribute)?;
    let operations = out.nest(linux::CTRL_ATTR_OPS | linux::NLA_F_NESTED)?;
    for (index, (command, flags)) in family.operations.iter().enumerate() {
        let one = out.nest((index as u16 + 1) | linux::NLA_F_NESTED)?;
        out.u32(linux::CTRL_ATTR_OP_ID, *command)?;
        out.u32(linux::CTRL_ATTR_OP_FLAGS, *flags)?;
        out.end_nest(one);
    }
    out.end_nest(operations);
    let groups = out.nest(linux::CTRL_ATTR_MCAST_GROUPS | linux::NLA_F_NESTED)?;
    for (index, (name, number)) in family.groups.iter().enumerate() {
        let one = out.nest((index as u16 + 1) | linux::NLA_F_NESTED)?;
        out.u32(linux::CTRL_ATTR_MCAST_GRP_ID, *number)?;
        out.text(linux::CTRL_ATTR_MCAST_GRP_NAME, name.as_bytes())?;
        out.end_nest(one);
    }
    out.end_nest(groups);
    out.end(mark);
    Ok(())
}

struct FamilyDump {
    next: usize,
}

impl Dumper for FamilyDump {
    fn fill(&mut self, out: &mut Builder, reply: &Reply) -> Result<bool> {
        while let Some(family) = FAMILIES.get(self.next) {
            if !fits(out, |out| describe(family, out, reply))? {
                return Ok(false);
            }
            self.next += 1;
        }
        Ok(true)
    }
}
