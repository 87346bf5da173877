//! What `/sys/class/net/NAME` says of a device and lets an administrator change: one table for each directory (sysfs-class-net).
//!
//! Key type: [`Attribute`]. Only what is so here is shown. A number is written as programs write it: decimal, `0x`, or octal.
//! Locks: rtnl for what is changed, taken here.

use abi::errno::{Errno, Result};
use abi::rtnetlink as linux;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use linnet_lib::netlink::Outcome;
use machine::sync::atomic::Ordering;
use security::Capability;

use super::{Gauge, NetDevice, Rtnl, bridge, change, rtnl};
use crate::message::Sender;
use crate::netlink::uevent;

/// Writes what is read.
type Read = fn(&NetDevice, &mut dyn Write) -> Result<()>;
/// Takes what is written.
type Store = fn(&Arc<NetDevice>, &[u8]) -> Result<()>;

/// A file.
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What reading gives; none: it cannot be read.
    pub read: Option<Read>,
    /// What writing does; none: it cannot be written.
    pub store: Option<Store>,
}

pub(super) const fn shown(name: &'static str, read: Read) -> Attribute {
    Attribute { name, read: Some(read), store: None }
}

pub(super) const fn changeable(name: &'static str, read: Read, store: Store) -> Attribute {
    Attribute { name, read: Some(read), store: Some(store) }
}

pub(super) fn done(result: fmt::Result) -> Result<()> {
    result.map_err(|_| Errno::ENOMEM)
}

macro_rules! line {
    ($out:expr, $($arguments:tt)*) => { done(writeln!($out, $($arguments)*)) };
}

/// What is only known while the device is up. `EINVAL`.
fn while_up(device: &NetDevice) -> Result<()> {
    if device.is_up() { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn address(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    for (place, byte) in bytes.iter().enumerate() {
        done(write!(out, "{}{byte:02x}", if place == 0 { "" } else { ":" }))?;
    }
    line!(out, "")
}

fn operational_state(device: &NetDevice, out: &mut dyn Write) -> Result<()> {
    const NAMES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];
    let name = NAMES.get(usize::from(device.operational_state())).ok_or(Errno::EINVAL)?;
    line!(out, "{name}")
}

/// The directory itself.
pub const DEVICE: &[Attribute] = &[
    shown("addr_assign_type", |device, out| line!(out, "{}", device.address_origin.load(Ordering::Relaxed))),
    shown("addr_len", |device, out| line!(out, "{}", device.address().len())),
    shown("address", |device, out| address(out, &device.address())),
    shown("broadcast", |device, out| address(out, &device.broadcast())),
    changeable(
        "carrier",
        |device, out| while_up(device).and_then(|()| line!(out, "{}", u8::from(device.has_carrier()))),
        |device, text| {
            set(device, text, |rtnl, device, number| {
                while_up(device)?;
                Ok(change::set_carrier(rtnl, device, number != 0)?)
            })
        },
    ),
    shown("carrier_changes", |device, out| {
        line!(out, "{}", device.gauge(Gauge::CarrierUps) + device.gauge(Gauge::CarrierDowns))
    }),
    shown("carrier_down_count", |device, out| line!(out, "{}", device.gauge(Gauge::CarrierDowns))),
    shown("carrier_up_count", |device, out| line!(out, "{}", device.gauge(Gauge::CarrierUps))),
    shown("dev_id", |_, out| line!(out, "0x0")),
    shown("dev_port", |_, out| line!(out, "0")),
    shown("dormant", |device, out| while_up(device).and_then(|()| line!(out, "0"))),
    shown("duplex", |device, out| {
        while_up(device)?;
        let (_, duplex) = device.operations().speed(device).ok_or(Errno::EINVAL)?;
        line!(out, "{duplex}")
    }),
    changeable(
        "flags",
        |device, out| line!(out, "0x{:x}", raw_flags(device)),
        |device, text| {
            set(device, text, |rtnl, device, number| change::set_flags(rtnl, device, number as u32))
        },
    ),
    changeable(
        "ifalias",
        |device, out| match device.alias() {
            Some(alias) => line!(out, "{}", alloc::string::String::from_utf8_lossy(&alias)),
            None => Ok(()),
        },
        |device, text| {
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            locked(device, |rtnl| Ok(change::set_alias(rtnl, device, text)?))
        },
    ),
    shown("ifindex", |device, out| line!(out, "{}", device.index())),
    shown("iflink", |device, out| {
        line!(out, "{}", device.peer().map_or(device.index(), |peer| peer.index()))
    }),
    shown("link_mode", |device, out| line!(out, "{}", device.link_mode.load(Ordering::Relaxed))),
    changeable(
        "mtu",
        |device, out| line!(out, "{}", device.mtu()),
        |device, text| {
            set(device, text, |rtnl, device, number| change::set_mtu(rtnl, device, narrow(number)?))
        },
    ),
    shown("name_assign_type", |device, out| line!(out, "{}", if device.kind().is_some() { 3 } else { 2 })),
    changeable(
        "netdev_group",
        |device, out| line!(out, "{}", device.gauge(Gauge::Group)),
        |device, text| {
            set(device, text, |rtnl, device, number| {
                change::set_group(rtnl, device, narrow(number)?);
                Ok(())
            })
        },
    ),
    shown("operstate", operational_state),
    shown("proto_down", |_, out| line!(out, "0")),
    shown("speed", |device, out| {
        while_up(device)?;
        let (speed, _) = device.operations().speed(device).ok_or(Errno::EINVAL)?;
        line!(out, "{speed}")
    }),
    shown("testing", |device, out| while_up(device).and_then(|()| line!(out, "0"))),
    changeable(
        "tx_queue_len",
        |device, out| line!(out, "{}", device.gauge(Gauge::QueueLength)),
        |device, text| {
            set(device, text, |rtnl, device, number| {
                let number = u32::try_from(number).map_err(|_| Errno::ERANGE)?;
                Ok(change::set_queue_length(rtnl, device, number)?)
            })
        },
    ),
    shown("type", |device, out| line!(out, "{}", device.hardware_type())),
    changeable("uevent", describe, |device, text| {
        let word = text.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        locked(device, |_| {
            uevent::announce(device, uevent::Action::named(word).ok_or(Errno::EINVAL)?);
            Ok(())
        })
    }),
];

/// The lines of `uevent`.
fn describe(device: &NetDevice, out: &mut dyn Write) -> Result<()> {
    if let Some(word) = uevent::device_type(device) {
        line!(out, "DEVTYPE={word}")?;
    }
    line!(out, "INTERFACE={}", device.name())?;
    line!(out, "IFINDEX={}", device.index())
}

/// The flags as they are kept: promiscuous while anyone wants it.
fn raw_flags(device: &NetDevice) -> u32 {
    let mut flags = device.flags.load(Ordering::Relaxed);
    for (gauge, bit) in [(Gauge::Promiscuity, linux::IFF_PROMISC), (Gauge::AllMulticast, linux::IFF_ALLMULTI)]
    {
        if device.gauge(gauge) > 0 {
            flags |= bit;
        }
    }
    flags
}

/// A number in base 10, 16 (`0x`) or 8 (`0`), with or without a line's end. `EINVAL`, `ERANGE`.
fn number(text: &[u8]) -> Result<u64> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || digits.starts_with('+') {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, base).map_err(|error| match error.kind() {
        core::num::IntErrorKind::PosOverflow => Errno::ERANGE,
        _ => Errno::EINVAL,
    })
}

/// As many bits as an `int` has: the rest is cut off, as Linux does.
fn narrow(number: u64) -> Result<u32> {
    Ok(number as u32)
}

/// Runs `act` under the device's lock, for an administrator. `EPERM`; `ENODEV`: the device is gone.
pub(super) fn locked(device: &Arc<NetDevice>, act: impl FnOnce(&Rtnl<'_>) -> Outcome<()>) -> Result<()> {
    let namespace = device.namespace();
    if !Sender::current().credentials.capable(namespace.owner(), Capability::NetAdmin) {
        return Err(Errno::EPERM);
    }
    let result = rtnl::with_pair(device, &[], act).ok_or(Errno::ENODEV)?;
    result.map_err(|failure| failure.errno)
}

pub(super) fn set(
    device: &Arc<NetDevice>,
    text: &[u8],
    act: impl FnOnce(&Rtnl<'_>, &Arc<NetDevice>, u64) -> Outcome<()>,
) -> Result<()> {
    let namespace = device.namespace();
    if !Sender::current().credentials.capable(namespace.owner(), Capability::NetAdmin) {
        return Err(Errno::EPERM);
    }
    let number = number(text)?;
    locked(device, |rtnl| act(rtnl, device, number))
}

macro_rules! counters {
    ($($name:ident)*) => {
        /// `statistics`.
        pub const STATISTICS: &[Attribute] =
            &[$(shown(stringify!($name), |device, out| line!(out, "{}", device.statistics().sums().$name))),*];
    };
}

counters! {
    collisions multicast rx_bytes rx_compressed rx_crc_errors rx_dropped rx_errors rx_fifo_errors rx_frame_errors
    rx_length_errors rx_missed_errors rx_nohandler rx_over_errors rx_packets tx_aborted_errors tx_bytes
    tx_carrier_errors tx_compressed tx_dropped tx_errors tx_fifo_errors tx_heartbeat_errors tx_packets tx_window_errors
}

/// `bridge`, of a bridge.
pub const BRIDGE: &[Attribute] = bridge::attributes::BRIDGE;
/// `brport`, of a bridge's port.
pub const PORT: &[Attribute] = bridge::attributes::PORT;

/// The files that a device has of its kind.
pub fn of_kind(device: &NetDevice) -> &'static [Attribute] {
    device.kind().map_or(&[], |kind| kind.files)
}

/// Whether a device is a bridge.
pub fn is_bridge(device: &NetDevice) -> bool {
    device.operations_as::<bridge::Bridge>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_programs_write_them() {
        assert_eq!(number(b"1500\n"), Ok(1500));
        assert_eq!(number(b"0x10"), Ok(16));
        assert_eq!(number(b"010"), Ok(8));
        assert_eq!(number(b"0"), Ok(0));
        assert_eq!(number(b"+7"), Ok(7));
        for bad in [&b""[..], b"\n", b"x", b"0x", b"-1", b"1 2", b"++1", b"0x+1", b"\xff"] {
            assert_eq!(number(bad), Err(Errno::EINVAL), "{}", bad.escape_ascii());
        }
        assert_eq!(number(b"99999999999999999999"), Err(Errno::ERANGE));
    }
}
