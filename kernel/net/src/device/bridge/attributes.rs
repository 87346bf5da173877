//! `/sys/class/net/BRIDGE/bridge` and `/sys/class/net/PORT/brport`: what is there of brctl(8)'s numbers.
//!
//! Locks: rtnl for changes, by the tables' helpers.

use abi::errno::{Errno, Result};
use abi::link as linux;
use alloc::sync::Arc;
use core::fmt::Write;
use linnet_lib::netlink::Outcome;

use super::{Bridge, Port, Setting, options, vlans};
use crate::device::NetDevice;
use crate::device::attributes::{Attribute, address, changeable, done, locked, set, shown};

fn bridge(device: &NetDevice) -> Result<&Bridge> {
    device.operations_as().ok_or(Errno::EINVAL)
}

fn identifier(out: &mut dyn Write, bytes: [u8; 8]) -> Result<()> {
    for (place, byte) in bytes.iter().enumerate() {
        done(write!(out, "{}{byte:02x}", if place == 2 { "." } else { "" }))?;
    }
    done(writeln!(out))
}

fn show_setting(device: &NetDevice, which: Setting, out: &mut dyn Write) -> Result<()> {
    done(writeln!(out, "{}", bridge(device)?.setting(which)))
}

/// Sets a number within a range. `ERANGE`.
fn store_setting(device: &Arc<NetDevice>, text: &[u8], which: Setting, range: (u64, u64)) -> Result<()> {
    set(device, text, |_, device, number| {
        if !(range.0..=range.1).contains(&number) {
            return Err(Errno::ERANGE.into());
        }
        bridge(device)?.set(which, number as u32);
        Ok(())
    })
}

/// The files of a bridge.
pub(in crate::device) const BRIDGE: &[Attribute] = &[
    changeable(
        "ageing_time",
        |device, out| show_setting(device, Setting::Ageing, out),
        |device, text| {
            store_setting(device, text, Setting::Ageing, (0, u32::MAX as u64))?;
            bridge(device)?.age_anew(device);
            Ok(())
        },
    ),
    changeable(
        "default_pvid",
        |device, out| show_setting(device, Setting::DefaultVlan, out),
        |device, text| {
            set(device, text, |rtnl, device, number| {
                let bridge = bridge(device)?;
                let number = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
                if bridge.filters() && u32::from(number) != bridge.setting(Setting::DefaultVlan) {
                    return Err(Errno::EPERM.into());
                }
                Ok(bridge.set_default_vlan(rtnl, device, number)?)
            })
        },
    ),
    shown("bridge_id", |device, out| identifier(out, bridge(device)?.identifier(device))),
    Attribute {
        name: "flush",
        read: None,
        store: Some(|device, _| {
            locked(device, |_| {
                options::flush(bridge(device)?);
                Ok(())
            })
        }),
    },
    changeable(
        "forward_delay",
        |device, out| show_setting(device, Setting::ForwardDelay, out),
        |device, text| store_setting(device, text, Setting::ForwardDelay, (0, u32::MAX as u64)),
    ),
    shown("group_addr", |device, out| address(out, &{ *bridge(device)?.group_address.lock() })),
    changeable(
        "group_fwd_mask",
        |device, out| done(writeln!(out, "0x{:x}", bridge(device)?.setting(Setting::GroupForwardMask))),
        |device, text| {
            set(device, text, |_, device, number| {
                if number & u64::from(options::RESTRICTED) != 0 {
                    return Err(Errno::EINVAL.into());
                }
                bridge(device)?.set(Setting::GroupForwardMask, number as u32 & 0xffff);
                Ok(())
            })
        },
    ),
    changeable(
        "hello_time",
        |device, out| show_setting(device, Setting::HelloTime, out),
        |device, text| store_setting(device, text, Setting::HelloTime, (100, 1000)),
    ),
    changeable(
        "max_age",
        |device, out| show_setting(device, Setting::MostAge, out),
        |device, text| store_setting(device, text, Setting::MostAge, (600, 4000)),
    ),
    changeable(
        "no_linklocal_learn",
        |device, out| show_setting(device, Setting::NoLinkLocalLearn, out),
        |device, text| store_setting(device, text, Setting::NoLinkLocalLearn, (0, 1)),
    ),
    changeable(
        "priority",
        |device, out| show_setting(device, Setting::Priority, out),
        |device, text| store_setting(device, text, Setting::Priority, (0, 0xffff)),
    ),
    shown("root_id", |device, out| identifier(out, bridge(device)?.identifier(device))),
    shown("root_path_cost", |_, out| done(writeln!(out, "0"))),
    shown("root_port", |_, out| done(writeln!(out, "0"))),
    shown("stp_state", |_, out| done(writeln!(out, "0"))),
    shown("topology_change", |_, out| done(writeln!(out, "0"))),
    shown("topology_change_detected", |_, out| done(writeln!(out, "0"))),
    changeable(
        "vlan_filtering",
        |device, out| show_setting(device, Setting::VlanFiltering, out),
        |device, text| {
            set(device, text, |_, device, number| {
                bridge(device)?.set(Setting::VlanFiltering, u32::from(number != 0));
                Ok(())
            })
        },
    ),
    changeable(
        "vlan_protocol",
        |device, out| done(writeln!(out, "0x{:04x}", bridge(device)?.setting(Setting::VlanProtocol))),
        |device, text| {
            set(device, text, |_, device, number| {
                let number = u16::try_from(number).map_err(|_| Errno::EPROTONOSUPPORT)?;
                vlans::check_protocol(number)?;
                bridge(device)?.set(Setting::VlanProtocol, number.into());
                Ok(())
            })
        },
    ),
];

/// The port that a device is. `EINVAL`.
fn port(device: &NetDevice) -> Result<Arc<Port>> {
    let master = device.adjacency.master().ok_or(Errno::EINVAL)?;
    bridge(&master)?.port_of(device).ok_or(Errno::EINVAL)
}

fn show_flag(device: &NetDevice, flag: u16, out: &mut dyn Write) -> Result<()> {
    done(writeln!(out, "{}", u8::from(port(device)?.has(flag))))
}

fn store_port(
    device: &Arc<NetDevice>,
    text: &[u8],
    act: impl FnOnce(&Port, u64) -> Outcome<()>,
) -> Result<()> {
    set(device, text, |_, device, number| {
        let port = port(device)?;
        act(&port, number)?;
        super::notify::port(&port, abi::rtnetlink::RTM_NEWLINK);
        Ok(())
    })
}

fn store_flag(device: &Arc<NetDevice>, text: &[u8], flag: u16) -> Result<()> {
    store_port(device, text, |port, number| {
        port.set(flag, number != 0);
        Ok(())
    })
}

macro_rules! flag {
    ($name:literal, $flag:ident) => {
        changeable(
            $name,
            |device, out| show_flag(device, linux::$flag, out),
            |device, text| store_flag(device, text, linux::$flag),
        )
    };
}

/// The files of a port.
pub(in crate::device) const PORT: &[Attribute] = &[
    flag!("bpdu_guard", IFLA_BRPORT_GUARD),
    flag!("broadcast_flood", IFLA_BRPORT_BCAST_FLOOD),
    shown("designated_bridge", |device, out| {
        let port = port(device)?;
        identifier(out, bridge(&port.bridge)?.identifier(&port.bridge))
    }),
    shown("designated_cost", |_, out| done(writeln!(out, "0"))),
    shown("designated_port", |device, out| done(writeln!(out, "{}", port(device)?.identifier()))),
    shown("designated_root", |device, out| {
        let port = port(device)?;
        identifier(out, bridge(&port.bridge)?.identifier(&port.bridge))
    }),
    Attribute {
        name: "flush",
        read: None,
        store: Some(|device, text| {
            let _ = text;
            locked(device, |_| {
                options::flush_port(&port(device)?);
                Ok(())
            })
        }),
    },
    changeable(
        "group_fwd_mask",
        |device, out| done(writeln!(out, "0x{:x}", port(device)?.group_forward_mask())),
        |device, text| {
            store_port(device, text, |port, number| {
                if number & 2 != 0 {
                    return Err(Errno::EINVAL.into());
                }
                port.set_group_forward_mask(number as u32 & 0xffff);
                Ok(())
            })
        },
    ),
    flag!("hairpin_mode", IFLA_BRPORT_MODE),
    flag!("isolated", IFLA_BRPORT_ISOLATED),
    flag!("learning", IFLA_BRPORT_LEARNING),
    flag!("multicast_flood", IFLA_BRPORT_MCAST_FLOOD),
    changeable(
        "path_cost",
        |device, out| done(writeln!(out, "{}", port(device)?.cost())),
        |device, text| {
            store_port(device, text, |port, number| match number {
                1..=65535 => {
                    port.set_cost(number as u32);
                    Ok(())
                }
                _ => Err(Errno::ERANGE.into()),
            })
        },
    ),
    shown("port_id", |device, out| done(writeln!(out, "0x{:x}", port(device)?.identifier()))),
    shown("port_no", |device, out| done(writeln!(out, "0x{:x}", port(device)?.number))),
    changeable(
        "priority",
        |device, out| done(writeln!(out, "{}", port(device)?.priority())),
        |device, text| {
            store_port(device, text, |port, number| match number {
                0..=63 => {
                    port.set_priority(number as u32);
                    Ok(())
                }
                _ => Err(Errno::ERANGE.into()),
            })
        },
    ),
    shown("state", |device, out| done(writeln!(out, "{}", port(device)?.state()))),
    flag!("unicast_flood", IFLA_BRPORT_UNICAST_FLOOD),
];
