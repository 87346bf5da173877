//! `tun` and `tap`: devices whose packets a program reads and writes through a descriptor of `/dev/net/tun` (tuntap.txt).
//!
//! | file | what |
//! |---|---|
//! | `file` | the descriptor: read, write, poll |
//! | `control` | its ioctls: making, joining and leaving a device |
//! | `queue` | the packets that wait for one descriptor |
//!
//! Key type: [`Tun`], the driver. A device has one queue for each descriptor (one without IFF_MULTI_QUEUE) and goes with its last
//! descriptor unless it is persistent. A descriptor keeps the namespace alive in which it was opened, not the one that its device
//! has been moved to; when the device goes the descriptor belongs to none.
//! Locks: rtnl for who has which queue; packets read the list of queues under RCU.

mod control;
mod file;
mod queue;

pub use file::register;

use abi::errno::{Errno, Result};
use abi::rtnetlink as linux;
use abi::tun::*;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use linnet_lib::netlink::{Builder, Failure};
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{RcuArc, SpinLock};
use security::{Kgid, Kuid};

use super::attributes::{Attribute, done, shown};
use super::statistics::Counted;
use super::{
    DeviceOperations, HardwareAddress, LinkKind, NetDevice, Rtnl, Template, check_ethernet_address,
    random_address,
};
use crate::message::Sender;
use crate::namespace::NetState;
use crate::packet::Packet;
use queue::Queue;

/// The kind; only a descriptor makes one.
pub static KIND: LinkKind = LinkKind {
    validate: |_, _| Err(Failure::new(Errno::EOPNOTSUPP, "tun/tap creation via rtnetlink is not supported.")),
    fill: Some(fill),
    is_queued: true,
    files: ATTRIBUTES,
    ..LinkKind::plain("tun", |_| Err(Errno::EOPNOTSUPP.into()))
};

/// What can be asked for in TUNSETIFF and is kept.
const FEATURES: u32 = IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE;
/// Descriptors of one device at most (`MAX_TAP_QUEUES`).
const QUEUES_MAX: usize = 256;
/// `tx_queue_len` of a tun; a tap has that of an Ethernet device.
const QUEUE_LENGTH: u32 = 500;
const MTU_MAX: u32 = 65_535;
/// No user, no group.
const NOBODY: u32 = u32::MAX;

/// The driver.
pub(super) struct Tun {
    is_tap: bool,
    /// [`FEATURES`] that are on, and IFF_PERSIST.
    flags: AtomicU32,
    /// Who may join besides administrators.
    owner: AtomicU32,
    group: AtomicU32,
    /// Bytes in front of a packet with IFF_VNET_HDR.
    header_length: AtomicU32,
    /// All that belong to it.
    members: SpinLock<Vec<Arc<Queue>>>,
    /// Those that take packets.
    active: RcuArc<Vec<Arc<Queue>>>,
    /// Its last descriptor has gone and it goes too: nobody joins any more.
    is_closing: AtomicBool,
}

/// How many queues a device has.
struct Count {
    active: usize,
    disabled: usize,
}

impl Tun {
    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// IFF_TUN or IFF_TAP.
    fn kind(&self) -> u32 {
        if self.is_tap { IFF_TAP } else { IFF_TUN }
    }

    /// The flags as programs see them.
    fn all_flags(&self) -> u32 {
        self.kind() | self.flags.load(Ordering::Relaxed)
    }

    fn count(&self) -> Count {
        let members = self.members.lock();
        let disabled = members.iter().filter(|queue| queue.is_disabled.load(Ordering::Relaxed)).count();
        Count { active: members.len() - disabled, disabled }
    }

    /// Whether the caller is neither its owner, of its group, nor an administrator.
    fn excludes(&self, namespace: &NetState, sender: &Sender) -> bool {
        let own = &sender.credentials;
        let (owner, group) = (self.owner.load(Ordering::Relaxed), self.group.load(Ordering::Relaxed));
        let is_other = owner != NOBODY && own.euid != Kuid(owner);
        let is_outside = group != NOBODY && !own.in_effective_group(Kgid(group));
        (is_other || is_outside) && !own.capable(namespace.owner(), security::Capability::NetAdmin)
    }

    /// Lists those that take packets anew. Without memory those that left stay listed, shut.
    fn relist(&self) -> Result<()> {
        let count = self.members.lock().len();
        let mut list = Vec::new();
        list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        let members = self.members.lock();
        let active = members.iter().filter(|queue| !queue.is_disabled.load(Ordering::Relaxed));
        // Under rtnl there are as many as before.
        list.extend(active.take(count).cloned());
        drop(members);
        self.active.replace(Some(machine::memory::try_arc(list)?));
        Ok(())
    }

    /// A descriptor joins. `EBUSY`: another has, and only one can, or the device goes; `E2BIG`; `ENOMEM`.
    fn attach(&self, device: &Arc<NetDevice>, queue: &Arc<Queue>) -> Result<()> {
        let count = self.count();
        if self.is_closing.load(Ordering::Relaxed) || !self.has(IFF_MULTI_QUEUE) && count.active == 1 {
            return Err(Errno::EBUSY);
        }
        if count.active + count.disabled >= QUEUES_MAX {
            return Err(Errno::E2BIG);
        }
        {
            let mut members = self.members.lock();
            members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            members.push(queue.clone());
        }
        if let Err(error) = self.relist() {
            self.members.lock().retain(|other| other.number() != queue.number());
            return Err(error);
        }
        queue.join(device);
        Ok(())
    }

    /// A descriptor leaves for good; whether it was the last.
    fn detach(&self, queue: &Arc<Queue>) -> bool {
        let is_last = {
            let mut members = self.members.lock();
            members.retain(|other| other.number() != queue.number());
            members.is_empty()
        };
        queue.leave();
        let _ = self.relist();
        is_last
    }

    /// A descriptor's queue takes part or not.
    fn enable(&self, queue: &Arc<Queue>, device: &Arc<NetDevice>, on: bool) -> Result<()> {
        queue.is_disabled.store(!on, Ordering::Relaxed);
        if on {
            queue.join(device)
        } else {
            queue.pause()
        }
        self.relist()
    }
}

/// Which of some queues a packet goes to: packets between the same two addresses to the same.
fn pick(packet: &Packet, count: usize) -> usize {
    let header = packet.from_network_header();
    let addresses = match header.first().map(|byte| byte >> 4) {
        Some(4) => header.get(12..20),
        Some(6) => header.get(8..40),
        _ => None,
    };
    let hash = addresses
        .unwrap_or_default()
        .iter()
        .fold(0u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 16) as usize % count.max(1)
}

impl DeviceOperations for Tun {
    /// Counts what is dropped; what is read is counted when it is.
    fn transmit(&self, device: &Arc<NetDevice>, mut packet: Packet) {
        // It may wait for long: whoever sent it may go on, and nothing of the namespace is kept.
        packet.leave_namespace();
        packet.device = None;
        let most = device.queue_length.load(Ordering::Relaxed) as usize;
        let active = self.active.load_arc();
        let queue = active.as_ref().and_then(|list| list.get(pick(&packet, list.len())));
        if let Some(queue) = queue
            && queue.push(packet, most).is_ok()
        {
            return;
        }
        device.statistics.count(Counted::SendDropped, 0);
    }

    fn open(&self, _device: &Arc<NetDevice>, _rtnl: &Rtnl<'_>) -> Result<()> {
        // Who polls may write now.
        if let Some(active) = self.active.load_arc() {
            active.iter().for_each(|queue| queue.changed.wake_all());
        }
        Ok(())
    }

    fn check_address(&self, _device: &NetDevice, address: &[u8]) -> Result<()> {
        if self.is_tap { check_ethernet_address(address) } else { Err(Errno::EOPNOTSUPP) }
    }

    fn may_change_carrier(&self) -> bool {
        true
    }

    fn speed(&self, _device: &NetDevice) -> Option<(i32, &'static str)> {
        Some((10_000, "full"))
    }

    fn uninit(&self, _device: &Arc<NetDevice>, _rtnl: &Rtnl<'_>) {
        let members = core::mem::take(&mut *self.members.lock());
        members.iter().for_each(|queue| queue.leave());
        self.active.replace(None);
    }
}

/// A device that is in no table yet. `ENOMEM`.
fn create(namespace: &Arc<NetState>, is_tap: bool, flags: u32) -> Result<Arc<NetDevice>> {
    let own = Tun {
        is_tap,
        flags: AtomicU32::new(flags & FEATURES),
        owner: AtomicU32::new(NOBODY),
        group: AtomicU32::new(NOBODY),
        header_length: AtomicU32::new(size_of::<VirtioNetHeader>() as u32),
        members: SpinLock::new(Vec::new()),
        active: RcuArc::empty(),
        is_closing: AtomicBool::new(false),
    };
    let template = Template {
        hardware_type: if is_tap { linux::ARPHRD_ETHER } else { linux::ARPHRD_NONE },
        flags: if is_tap {
            linux::IFF_BROADCAST | linux::IFF_MULTICAST
        } else {
            linux::IFF_POINTOPOINT | linux::IFF_NOARP | linux::IFF_MULTICAST
        },
        mtu: 1500,
        mtu_range: (68, if is_tap { MTU_MAX - abi::packet::ETH_HLEN as u32 } else { MTU_MAX }),
        address: if is_tap { random_address() } else { HardwareAddress::new() },
        broadcast: HardwareAddress::from_iter(core::iter::repeat_n(0xff, if is_tap { 6 } else { 0 })),
        queues: if flags & IFF_MULTI_QUEUE != 0 { QUEUES_MAX as u32 } else { 1 },
        is_bound: false,
        kind: Some(&KIND),
    };
    let device = NetDevice::new(namespace, template, Box::new(own))?;
    if !is_tap {
        device.queue_length.store(QUEUE_LENGTH, Ordering::Relaxed);
        device.address_origin.store(0, Ordering::Relaxed);
    }
    Ok(device)
}

/// IFLA_INFO_DATA (`tun_fill_info`).
fn fill(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(tun) = device.operations_as::<Tun>() else { return Ok(()) };
    out.u8(IFLA_TUN_TYPE, tun.kind() as u8)?;
    let viewer = Sender::current().credentials.user_namespace.clone();
    let (owner, group) = (tun.owner.load(Ordering::Relaxed), tun.group.load(Ordering::Relaxed));
    if owner != NOBODY {
        out.u32(IFLA_TUN_OWNER, viewer.from_kuid_munged(Kuid(owner)))?;
    }
    if group != NOBODY {
        out.u32(IFLA_TUN_GROUP, viewer.from_kgid_munged(Kgid(group)))?;
    }
    out.u8(IFLA_TUN_PI, u8::from(!tun.has(IFF_NO_PI)))?;
    out.u8(IFLA_TUN_VNET_HDR, u8::from(tun.has(IFF_VNET_HDR)))?;
    out.u8(IFLA_TUN_PERSIST, u8::from(tun.has(IFF_PERSIST)))?;
    out.u8(IFLA_TUN_MULTI_QUEUE, u8::from(tun.has(IFF_MULTI_QUEUE)))?;
    if tun.has(IFF_MULTI_QUEUE) {
        let count = tun.count();
        out.u32(IFLA_TUN_NUM_QUEUES, count.active as u32)?;
        out.u32(IFLA_TUN_NUM_DISABLED_QUEUES, count.disabled as u32)?;
    }
    Ok(())
}

fn tun_of(device: &NetDevice) -> Result<&Tun> {
    device.operations_as().ok_or(Errno::EINVAL)
}

/// Writes a user or group as its number where the reader is, -1 for none.
fn show_id(out: &mut dyn Write, id: u32, number: impl FnOnce() -> u32) -> Result<()> {
    let number = if id == NOBODY { -1 } else { i64::from(number()) };
    done(writeln!(out, "{number}"))
}

/// The files that only these devices have (`ip tuntap` reads them).
const ATTRIBUTES: &[Attribute] = &[
    shown("group", |device, out| {
        let group = tun_of(device)?.group.load(Ordering::Relaxed);
        show_id(out, group, || Sender::current().credentials.user_namespace.from_kgid_munged(Kgid(group)))
    }),
    shown("owner", |device, out| {
        let owner = tun_of(device)?.owner.load(Ordering::Relaxed);
        show_id(out, owner, || Sender::current().credentials.user_namespace.from_kuid_munged(Kuid(owner)))
    }),
    shown("tun_flags", |device, out| done(writeln!(out, "0x{:x}", tun_of(device)?.all_flags()))),
];
