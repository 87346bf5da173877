//! IFLA_AF_SPEC: what each protocol family says of an interface, and setting it (`inet_fill_link_af`, `inet6_fill_link_af`).
//!
//! Locks: none to read; setting is under [`crate::device::Rtnl`].

use abi::errno::{Errno, Result};
use abi::netlink::NLA_F_NESTED;
use abi::route::LinkCacheInfo;
use abi::rtnetlink::*;
use abi::socket::{AF_INET, AF_INET6};
use linnet_lib::netlink::{Attribute, Builder, Outcome};
use machine::sync::atomic::Ordering;
use zerocopy::IntoBytes;

use crate::device::NetDevice;
use crate::ip::config::{v4, v6};
use crate::ip::device::IpDevice;

/// Longest packet that is put together again.
const REASSEMBLED_MOST: u32 = 65_535;
/// How long a neighbour is reachable at first, and between solicitations, in milliseconds.
const REACHABLE_MS: u32 = 30_000;
const RETRANSMIT_MS: u32 = 1_000;

/// Writes the attribute.
pub(super) fn describe(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(ip) = device.ip() else { return Ok(()) };
    let all = out.nest(IFLA_AF_SPEC | NLA_F_NESTED)?;
    if ip.has(false) {
        let nest = out.nest(AF_INET as u16 | NLA_F_NESTED)?;
        out.attribute(IFLA_INET_CONF, ip.settings4.all().as_bytes())?;
        out.end_nest(nest);
    }
    if ip.has(true) {
        let nest = out.nest(AF_INET6 as u16 | NLA_F_NESTED)?;
        describe6(&ip, out)?;
        out.end_nest(nest);
    }
    out.end_nest(all);
    Ok(())
}

fn describe6(ip: &IpDevice, out: &mut Builder) -> Result<()> {
    out.u32(IFLA_INET6_FLAGS, ip.flags6.load(Ordering::Relaxed))?;
    let times = LinkCacheInfo {
        max_reasm_len: REASSEMBLED_MOST,
        tstamp: ip.updated6.load(Ordering::Relaxed),
        reachable_time: REACHABLE_MS,
        retrans_time: RETRANSMIT_MS,
    };
    out.attribute(IFLA_INET6_CACHEINFO, times.as_bytes())?;
    let mut settings = ip.settings6.all();
    // A secret is not told.
    settings[v6::STABLE_SECRET] = 0;
    out.attribute(IFLA_INET6_CONF, settings.as_bytes())?;
    out.attribute(IFLA_INET6_TOKEN, &[0; 16])?;
    out.u8(IFLA_INET6_ADDR_GEN_MODE, ip.settings6.get(v6::ADDR_GEN_MODE) as u8)?;
    Ok(())
}

/// Whether each part of a request can be done (`validate_linkmsg`). `EAFNOSUPPORT`: a family that is not here; `EINVAL`.
pub(super) fn check(attribute: &Attribute<'_>) -> Outcome<()> {
    for family in attribute.nested() {
        match u32::from(family.kind) {
            AF_INET | AF_INET6 => {}
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        }
        for one in family.nested() {
            let is_mode = u32::from(family.kind) == AF_INET6 && one.kind == IFLA_INET6_ADDR_GEN_MODE;
            if is_mode && one.u8() > 3 {
                return Err(Errno::EINVAL.into());
            }
        }
    }
    Ok(())
}

/// Sets what a request says.
pub(super) fn set(device: &NetDevice, attribute: &Attribute<'_>) -> Outcome<()> {
    check(attribute)?;
    let ip = device.ip().ok_or(Errno::EAFNOSUPPORT)?;
    for family in attribute.nested() {
        for one in family.nested() {
            match (u32::from(family.kind), one.kind) {
                (AF_INET, IFLA_INET_CONF) => {
                    for setting in
                        one.nested().filter(|setting| (1..=v4::COUNT as u16).contains(&setting.kind))
                    {
                        ip.settings4.set(usize::from(setting.kind) - 1, setting.i32());
                    }
                }
                (AF_INET6, IFLA_INET6_ADDR_GEN_MODE) => {
                    ip.settings6.set(v6::ADDR_GEN_MODE, i32::from(one.u8()));
                    ip.touch();
                }
                _ => {}
            }
        }
    }
    Ok(())
}
