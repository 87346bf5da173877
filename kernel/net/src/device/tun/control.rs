//! The ioctls of `/dev/net/tun`: which device a descriptor is the other side of, and what that device is like.
//!
//! Locks: the descriptor's `control` (sleeping), then rtnl of the namespace it was opened in, or of its device's.

use abi::errno::{Errno, Result};
use abi::ioctl::*;
use abi::rtnetlink as linux;
use abi::tun::*;
use alloc::sync::Arc;
use linnet_lib::netlink::Failure;
use machine::sync::atomic::Ordering;
use mm::user::UserPtr;
use security::Capability;

use super::file::TunFile;
use super::{FEATURES, Tun, create};
use crate::device::registry;
use crate::device::{InterfaceName, NetDevice, Rtnl, change, rtnl};
use crate::message::Sender;

const NAME: usize = linux::IFNAMSIZ;
/// `struct ifreq`.
type Request = [u8; 40];

fn flags_of(request: &Request) -> u32 {
    u32::from(u16::from_ne_bytes([request[NAME], request[NAME + 1]]))
}

/// An ioctl. `EBADFD`: the descriptor belongs to no device yet or any more; `EINVAL`: there is no such.
pub(super) fn ioctl(file: &TunFile, command: u32, argument: usize) -> Result<usize> {
    let place = UserPtr::<Request>::new(argument);
    match command {
        TUNGETFEATURES => {
            let features = IFF_TUN | IFF_TAP | IFF_NO_CARRIER | FEATURES;
            UserPtr::<u32>::new(argument).write(&features)?;
        }
        TUNSETQUEUE => set_queue(file, flags_of(&place.read()?))?,
        TUNSETIFF => {
            let mut request = place.read()?;
            let _control = file.control.lock();
            if file.queue.device().is_ok() {
                return Err(Errno::EEXIST);
            }
            set_interface(file, &mut request)?;
            place.write(&request)?;
        }
        TUNSETIFINDEX => {
            if file.queue.device().is_ok() {
                return Err(Errno::EPERM);
            }
            let index = UserPtr::<i32>::new(argument).read()?;
            if index < 0 {
                return Err(Errno::EINVAL);
            }
            file.wanted_index.store(index, Ordering::Relaxed);
        }
        _ => return of_device(file, command, argument),
    }
    Ok(0)
}

/// TUNSETIFF: joins the device of that name, or makes one (`tun_set_iff`).
fn set_interface(file: &TunFile, request: &mut Request) -> Result<()> {
    let flags = flags_of(request);
    let namespace = file.namespace.state();
    let wanted = request[..NAME - 1].split(|byte| *byte == 0).next().unwrap_or_default();
    let rtnl = Rtnl::lock(namespace);
    let device = match namespace.devices.by_name(wanted) {
        Some(device) => {
            join(file, &rtnl, &device, flags)?;
            device
        }
        None => make(file, &rtnl, wanted, flags)?,
    };
    if flags & IFF_NO_CARRIER != 0 {
        change::carrier_off(&rtnl, &device);
    } else {
        change::carrier_on(&rtnl, &device);
    }
    request[..NAME].copy_from_slice(device.name().padded());
    Ok(())
}

/// Joins a device that is there. `EBUSY`: it should not be, or others have joined; `EINVAL`: it is of another kind; `EPERM`.
fn join(file: &TunFile, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, flags: u32) -> Result<()> {
    if flags & IFF_TUN_EXCL != 0 {
        return Err(Errno::EBUSY);
    }
    let tun = device.operations_as::<Tun>().ok_or(Errno::EINVAL)?;
    if flags & tun.kind() == 0 {
        return Err(Errno::EINVAL);
    }
    if (flags & IFF_MULTI_QUEUE != 0) != tun.has(IFF_MULTI_QUEUE) {
        return Err(Errno::EINVAL);
    }
    if tun.excludes(file.namespace.state(), &Sender::current()) {
        return Err(Errno::EPERM);
    }
    tun.attach(device, &file.queue)?;
    let count = tun.count();
    // What the first one said of all queues stays.
    if count.active + count.disabled == 1 || !tun.has(IFF_MULTI_QUEUE) {
        tun.set(FEATURES & !flags, false);
        tun.set(FEATURES & flags, true);
    }
    change::state_changed(rtnl, device);
    Ok(())
}

/// Makes a device. `EPERM`; `EINVAL`: of neither kind; what a new link's name and index can fail with.
fn make(file: &TunFile, rtnl: &Rtnl<'_>, wanted: &[u8], flags: u32) -> Result<Arc<NetDevice>> {
    let namespace = file.namespace.state();
    if !Sender::current().credentials.capable(namespace.owner(), Capability::NetAdmin) {
        return Err(Errno::EPERM);
    }
    let (is_tap, pattern): (bool, &[u8]) = match flags {
        flags if flags & IFF_TUN != 0 => (false, b"tun%d"),
        flags if flags & IFF_TAP != 0 => (true, b"tap%d"),
        _ => return Err(Errno::EINVAL),
    };
    let name = InterfaceName::new(if wanted.is_empty() { pattern } else { wanted })?;
    let index = Some(file.wanted_index.load(Ordering::Relaxed)).filter(|index| *index > 0);
    let device = create(namespace, is_tap, flags)?;
    let tun = device.operations_as::<Tun>().ok_or(Errno::EINVAL)?;
    registry::register(rtnl, &device, name, index).map_err(|failure: Failure| failure.errno)?;
    if let Err(error) = tun.attach(&device, &file.queue) {
        registry::unregister(rtnl, core::slice::from_ref(&device), &crate::netlink::Origin::default());
        return Err(error);
    }
    crate::netlink::route::link::announce(&device, u32::MAX);
    Ok(device)
}

/// TUNSETQUEUE: lets a descriptor's queue take part in its device or not. `EINVAL`.
fn set_queue(file: &TunFile, flags: u32) -> Result<()> {
    let _control = file.control.lock();
    let on = match flags {
        flags if flags & IFF_ATTACH_QUEUE != 0 => true,
        flags if flags & IFF_DETACH_QUEUE != 0 => false,
        _ => return Err(Errno::EINVAL),
    };
    let device = file.queue.device().map_err(|_| Errno::EINVAL)?;
    let done = rtnl::with_pair(&device, &[], |rtnl| {
        let tun = device.operations_as::<Tun>().ok_or(Errno::EINVAL)?;
        let is_disabled = file.queue.is_disabled.load(Ordering::Relaxed);
        if !tun.has(IFF_MULTI_QUEUE) || is_disabled != on {
            return Err(Errno::EINVAL);
        }
        tun.enable(&file.queue, &device, on)?;
        change::state_changed(rtnl, &device);
        Ok(())
    });
    done.unwrap_or(Err(Errno::EINVAL))
}

/// An ioctl about the device that the descriptor belongs to, under that one's lock.
fn of_device(file: &TunFile, command: u32, argument: usize) -> Result<usize> {
    let device = file.queue.device()?;
    let tun = device.operations_as::<Tun>().ok_or(Errno::EBADFD)?;
    match command {
        TUNGETIFF | SIOCGIFHWADDR | TUNGETSNDBUF | TUNGETVNETHDRSZ | TUNGETVNETLE => {
            look(file, &device, tun, command, argument)?;
        }
        SIOCSIFHWADDR => {
            let request = UserPtr::<Request>::new(argument).read()?;
            if u16::from_ne_bytes([request[NAME], request[NAME + 1]]) != device.hardware_type() {
                return Err(Errno::EINVAL);
            }
            under_lock(&device, |rtnl| change::set_address(rtnl, &device, &request[NAME + 2..NAME + 16]))?;
        }
        TUNSETCARRIER => {
            let is_there = UserPtr::<u32>::new(argument).read()? != 0;
            under_lock(&device, |rtnl| change::set_carrier(rtnl, &device, is_there))?;
        }
        // All writes are done when they return: nothing waits that a buffer could bound.
        TUNSETSNDBUF => match UserPtr::<i32>::new(argument).read()? {
            ..=0 => return Err(Errno::EINVAL),
            size => file.send_buffer.store(size, Ordering::Relaxed),
        },
        TUNSETVNETHDRSZ => {
            let size = UserPtr::<i32>::new(argument).read()?;
            if !(size_of::<VirtioNetHeader>() as i32..=HEADER_MAX).contains(&size) {
                return Err(Errno::EINVAL);
            }
            tun.header_length.store(size as u32, Ordering::Relaxed);
        }
        // The processor's order is the little end's anyway.
        TUNSETVNETLE => {
            let is_little = UserPtr::<i32>::new(argument).read()? != 0;
            file.is_little_endian.store(is_little, Ordering::Relaxed);
        }
        _ => change_device(&device, tun, command, argument)?,
    }
    Ok(0)
}

/// Bytes that may be in front of a packet: room for every header that virtio has.
const HEADER_MAX: i32 = 256;

/// What is only told.
fn look(file: &TunFile, device: &NetDevice, tun: &Tun, command: u32, argument: usize) -> Result<()> {
    let number = match command {
        TUNGETIFF => {
            let mut request = [0; size_of::<Request>()];
            request[..NAME].copy_from_slice(device.name().padded());
            let mut flags = tun.all_flags() | IFF_NOFILTER;
            if file.queue.is_disabled.load(Ordering::Relaxed) {
                flags |= IFF_DETACH_QUEUE;
            }
            request[NAME..NAME + 2].copy_from_slice(&(flags as u16).to_ne_bytes());
            return UserPtr::<Request>::new(argument).write(&request);
        }
        SIOCGIFHWADDR => {
            let place = UserPtr::<Request>::new(argument);
            let mut request = place.read()?;
            crate::device::ioctl::write_address(device, &mut request);
            return place.write(&request);
        }
        TUNGETSNDBUF => file.send_buffer.load(Ordering::Relaxed),
        TUNGETVNETHDRSZ => tun.header_length.load(Ordering::Relaxed) as i32,
        _ => i32::from(file.is_little_endian.load(Ordering::Relaxed)),
    };
    UserPtr::<i32>::new(argument).write(&number)
}

fn under_lock(device: &Arc<NetDevice>, act: impl FnOnce(&Rtnl<'_>) -> Result<()>) -> Result<()> {
    rtnl::with_pair(device, &[], act).unwrap_or(Err(Errno::EBADFD))
}

/// What changes the device by the argument's own value.
fn change_device(device: &Arc<NetDevice>, tun: &Tun, command: u32, argument: usize) -> Result<()> {
    let number = argument as u32;
    under_lock(device, |rtnl| {
        let own = &Sender::current().credentials.user_namespace;
        match command {
            // Never had an effect on Linux.
            TUNSETNOCSUM | TUNSETDEBUG => return Ok(()),
            TUNSETPERSIST => {
                let on = argument != 0;
                if tun.has(IFF_PERSIST) == on {
                    return Ok(());
                }
                tun.set(IFF_PERSIST, on);
            }
            TUNSETOWNER => {
                let owner = own.make_kuid(number).ok_or(Errno::EINVAL)?;
                tun.owner.store(owner.0, Ordering::Relaxed);
            }
            TUNSETGROUP => {
                let group = own.make_kgid(number).ok_or(Errno::EINVAL)?;
                tun.group.store(group.0, Ordering::Relaxed);
            }
            TUNSETLINK => {
                if device.is_up() {
                    return Err(Errno::EBUSY);
                }
                device.set_hardware_type(number as u16, address_length(number as u16));
                return Ok(());
            }
            // What a program says that it can take it need not be given: packets are always whole and checksummed.
            TUNSETOFFLOAD => return check_offloads(number),
            _ => return Err(Errno::EINVAL),
        }
        change::state_changed(rtnl, device);
        Ok(())
    })
}

/// `EINVAL`: offloads that nobody knows, or that depend on others which are off.
fn check_offloads(wanted: u32) -> Result<()> {
    const PAIR: u32 = TUN_F_USO4 | TUN_F_USO6;
    let mut known = 0;
    if wanted & TUN_F_CSUM != 0 {
        known = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO;
        if wanted & (TUN_F_TSO4 | TUN_F_TSO6) != 0 {
            known |= TUN_F_TSO_ECN;
        }
        if wanted & PAIR == PAIR {
            known |= PAIR;
        }
    }
    if wanted & !known != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Bytes of the address of a type of hardware, of those that a tun can be said to be (`tun_get_addr_len`).
fn address_length(kind: u16) -> usize {
    const TUNNEL6: u16 = 769;
    const IP6GRE: u16 = 823;
    match kind {
        linux::ARPHRD_ETHER => 6,
        linux::ARPHRD_TUNNEL | linux::ARPHRD_SIT | linux::ARPHRD_IPGRE => 4,
        TUNNEL6 | IP6GRE => 16,
        _ => 0,
    }
}
