//! The ioctls of interfaces (netdevice(7)): the old way to look and change, on any socket.
//!
//! `struct ifreq` is 40 bytes: a name, then what the command says. Locks: `Rtnl` for what changes something.

use abi::errno::{Errno, Result};
use abi::ioctl::*;
use abi::rtnetlink as linux;
use alloc::sync::Arc;
use linnet_lib::netlink::Outcome;
use mm::user::UserPtr;
use security::Capability;

use super::{Gauge, InterfaceName, NetDevice, change, registry, rtnl};
use crate::message::Sender;
use crate::namespace::NetNamespace;

const NAME: usize = linux::IFNAMSIZ;
type Request = [u8; 40];

/// Commands that drivers make what they like of (`SIOCDEVPRIVATE` and up).
const PRIVATE: core::ops::RangeInclusive<u32> = 0x89f0..=0x89ff;

/// An ioctl that no family knows. `ENOTTY`: neither does anyone here; `ENODEV`, `EPERM`, `EFAULT`, `EINVAL` and the like.
pub(crate) fn ioctl(namespace: &NetNamespace, command: u32, argument: usize) -> Result<usize> {
    let place = UserPtr::<Request>::new(argument);
    match command {
        SIOCGIFCONF => crate::ip::ioctl::list(namespace, argument),
        SIOCGIFNAME => {
            let mut request = place.read()?;
            let index = word(&request);
            let device = namespace.devices().by_index(index).ok_or(Errno::ENODEV)?;
            request[..NAME].copy_from_slice(device.name().padded());
            place.write(&request)?;
            Ok(0)
        }
        SIOCGIFFLAGS | SIOCGIFMETRIC | SIOCGIFMTU | SIOCGIFHWADDR | SIOCGIFMAP | SIOCGIFINDEX
        | SIOCGIFTXQLEN => {
            let mut request = place.read()?;
            let device = named(namespace, &request)?;
            look(&device, command, &mut request);
            place.write(&request)?;
            Ok(0)
        }
        SIOCSIFFLAGS | SIOCSIFMETRIC | SIOCSIFMTU | SIOCSIFHWADDR | SIOCSIFNAME | SIOCSIFTXQLEN
        | SIOCSIFHWBROADCAST | SIOCADDMULTI | SIOCDELMULTI => {
            let request = place.read()?;
            if !Sender::current().credentials.capable(namespace.owner(), Capability::NetAdmin) {
                return Err(Errno::EPERM);
            }
            let device = named(namespace, &request)?;
            rtnl::with_pair(&device, &[], |rtnl| set(rtnl, &device, command, &request))
                .ok_or(Errno::ENODEV)?
                .map_err(|failure: linnet_lib::netlink::Failure| failure.errno)?;
            Ok(0)
        }
        // No driver here has anything of ethtool(8)'s.
        SIOCETHTOOL => {
            named(namespace, &place.read()?)?;
            Err(Errno::EOPNOTSUPP)
        }
        command if PRIVATE.contains(&command) => {
            named(namespace, &place.read()?)?;
            Err(Errno::EOPNOTSUPP)
        }
        _ => Err(Errno::ENOTTY),
    }
}

fn word(request: &Request) -> i32 {
    request[NAME..].first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// The device that a request names.
fn named(namespace: &NetNamespace, request: &Request) -> Result<Arc<NetDevice>> {
    let name = &request[..NAME - 1];
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    namespace.devices().by_name(name).ok_or(Errno::ENODEV)
}

/// A device's address as a `struct sockaddr` whose family is its type of hardware (`netif_get_mac_address`).
pub(super) fn write_address(device: &NetDevice, request: &mut Request) {
    let address = device.address();
    request[NAME..NAME + 2].copy_from_slice(&device.hardware_type().to_ne_bytes());
    let place = &mut request[NAME + 2..NAME + 16];
    place.fill(0);
    place.iter_mut().zip(&address).for_each(|(place, byte)| *place = *byte);
}

fn look(device: &NetDevice, command: u32, request: &mut Request) {
    let value = match command {
        SIOCGIFFLAGS => {
            let flags = device.flags() as u16;
            request[NAME..NAME + 2].copy_from_slice(&flags.to_ne_bytes());
            return;
        }
        SIOCGIFHWADDR => {
            write_address(device, request);
            return;
        }
        SIOCGIFMAP => {
            request[NAME..].fill(0);
            return;
        }
        SIOCGIFMTU => device.mtu(),
        SIOCGIFINDEX => device.index() as u32,
        SIOCGIFTXQLEN => device.gauge(Gauge::QueueLength),
        // The metric, which no device has.
        _ => 0,
    };
    request[NAME..NAME + 4].copy_from_slice(&value.to_ne_bytes());
}

fn set(rtnl: &super::Rtnl<'_>, device: &Arc<NetDevice>, command: u32, request: &Request) -> Outcome<()> {
    match command {
        SIOCSIFFLAGS => {
            let flags = u32::from(u16::from_ne_bytes([request[NAME], request[NAME + 1]]));
            change::set_flags(rtnl, device, flags)
        }
        SIOCSIFMTU => change::set_mtu(rtnl, device, word(request) as u32),
        SIOCSIFHWADDR => {
            if u16::from_ne_bytes([request[NAME], request[NAME + 1]]) != device.hardware_type() {
                return Err(Errno::EINVAL.into());
            }
            Ok(change::set_address(rtnl, device, &request[NAME + 2..NAME + 16])?)
        }
        SIOCSIFTXQLEN => {
            let length = u32::try_from(word(request)).map_err(|_| Errno::EINVAL)?;
            Ok(change::set_queue_length(rtnl, device, length)?)
        }
        SIOCSIFNAME => {
            let wanted = request[NAME..2 * NAME - 1].split(|byte| *byte == 0).next().unwrap_or_default();
            registry::rename(rtnl, device, InterfaceName::new(wanted)?)?;
            Ok(())
        }
        SIOCADDMULTI | SIOCDELMULTI => {
            let is_unspecific = request[NAME..NAME + 2] == [0, 0];
            if !is_unspecific || device.hardware_type() != linux::ARPHRD_ETHER {
                return Err(Errno::EINVAL.into());
            }
            let address = request[NAME + 2..].first_chunk().ok_or(Errno::EINVAL)?;
            Ok(change::set_link_group(rtnl, device, *address, command == SIOCADDMULTI)?)
        }
        // The metric cannot be set, and the broadcast address not in this way.
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}
