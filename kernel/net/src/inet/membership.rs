//! Multicast groups that a socket is in, and from whom it wants to hear (ip(7), ipv6(7), RFC 3678).
//!
//! Key types: [`Memberships`], [`Membership`]. A device is held in a group once for each membership. Whom a socket hears is decided for
//! each socket by its own list; a socket that is in no such group hears what others joined unless IP_MULTICAST_ALL is off.
//! Locks: a socket's list (sleeping) for changes; what packets need is a copy behind RCU.

use abi::errno::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use machine::memory::try_arc;
use machine::sync::{RcuArc, rcu};

use super::receive::About;
use super::settings::Flag;
use super::socket::InetSocket;
use crate::device::NetDevice;
use crate::ip::multicast;
use crate::ip::sysctl;

/// Whom a member hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// All but those listed.
    Exclude,
    /// Only those listed.
    Include,
}

/// One group on one interface.
#[derive(Clone)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// The interface's index.
    pub index: i32,
    /// How its list is meant.
    pub mode: Mode,
    /// The list.
    pub sources: Vec<IpAddr>,
    device: Weak<NetDevice>,
}

/// The groups of a socket.
#[derive(Default)]
pub struct Memberships {
    list: RcuArc<Vec<Membership>>,
}

/// What changes a membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Hear everyone in the group.
    Join,
    /// Hear nobody.
    Leave,
    /// Hear one more; joins.
    AddSource(IpAddr),
    /// Hear one less; leaves with the last.
    DropSource(IpAddr),
    /// Hear everyone but this one.
    Block(IpAddr),
    /// Hear this one again.
    Unblock(IpAddr),
}

impl Memberships {
    fn snapshot(&self) -> Option<Arc<Vec<Membership>>> {
        self.list.load_arc()
    }

    /// Whether a packet for a group is heard; `None`: the socket is not in it.
    fn hears(&self, group: IpAddr, index: i32, source: IpAddr) -> Option<bool> {
        if self.list.is_none() {
            return None;
        }
        let guard = rcu::read_lock();
        let list = self.list.load(&guard)?;
        let one = list.iter().find(|one| one.group == group && one.index == index)?;
        let listed = one.sources.contains(&source);
        Some(listed == (one.mode == Mode::Include))
    }
}

impl InetSocket {
    /// Whether a packet to a group is for this socket (`ip_mc_sf_allow`).
    pub(super) fn hears(&self, about: &About) -> bool {
        let group = about.destination.address;
        let all = if group.is_ipv4() { Flag::MULTICAST_ALL } else { Flag::V6_MULTICAST_ALL };
        let found = self.joined.hears(group, about.device, about.source.address);
        found.unwrap_or_else(|| self.settings.has(all))
    }
}

/// Changes a socket's membership of a group on an interface (0: the one that routing chooses, or any that it is in).
///
/// Errors: `EINVAL`: no group, the wrong mode; `ENODEV`; `EADDRINUSE`: in it already; `EADDRNOTAVAIL`: not in it, or the source is listed
/// already, or not; `ENOBUFS`: too many; `ENOMEM`.
pub fn change(
    socket: &Arc<InetSocket>,
    group: IpAddr,
    device: Option<Arc<NetDevice>>,
    change: Change,
) -> Result<()> {
    if !group.is_multicast() {
        return Err(Errno::EINVAL);
    }
    let _one = socket.memberships.lock();
    let old = socket.joined.snapshot();
    let mut list: Vec<Membership> = Vec::new();
    let old_list = old.as_deref().map_or(&[][..], |list| list.as_slice());
    list.try_reserve_exact(old_list.len() + 1).map_err(|_| Errno::ENOMEM)?;
    list.extend(old_list.iter().cloned());
    let index = device.as_ref().map(|device| device.index());
    let place =
        list.iter().position(|one| one.group == group && index.is_none_or(|index| one.index == index));
    match change {
        Change::Join => {
            if place.is_some() {
                return Err(Errno::EADDRINUSE);
            }
            enter(socket, &mut list, group, device, Mode::Exclude, None)?;
        }
        Change::AddSource(source) if place.is_none() => {
            enter(socket, &mut list, group, device, Mode::Include, Some(source))?;
        }
        Change::Leave => {
            let place = place.ok_or(Errno::EADDRNOTAVAIL)?;
            leave(socket, &mut list, place);
        }
        _ => {
            let place = place.ok_or(Errno::EINVAL)?;
            if change_sources(&mut list[place], change, sources_max(socket, group))? {
                leave(socket, &mut list, place);
            }
        }
    }
    replace(socket, list)
}

fn replace(socket: &InetSocket, list: Vec<Membership>) -> Result<()> {
    let list = if list.is_empty() { None } else { Some(try_arc(list)?) };
    socket.joined.list.replace(list);
    Ok(())
}

fn sources_max(socket: &InetSocket, group: IpAddr) -> usize {
    let which = if group.is_ipv4() { sysctl::IGMP_MAX_MSF } else { sysctl::MLD_MAX_MSF };
    usize::try_from(socket.core().namespace().state().ip_number(which)).unwrap_or(0)
}

fn enter(
    socket: &InetSocket,
    list: &mut Vec<Membership>,
    group: IpAddr,
    device: Option<Arc<NetDevice>>,
    mode: Mode,
    source: Option<IpAddr>,
) -> Result<()> {
    let state = socket.core().namespace().state();
    let device = device.ok_or(Errno::ENODEV)?;
    let most = if group.is_ipv4() {
        usize::try_from(state.ip_number(sysctl::IGMP_MAX_MEMBERSHIPS)).unwrap_or(0)
    } else {
        crate::sysctl::OPTION_MEMORY_MAX.get() / 64
    };
    if list.iter().filter(|one| one.group.is_ipv4() == group.is_ipv4()).count() >= most {
        return Err(Errno::ENOBUFS);
    }
    let mut sources = Vec::new();
    sources.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
    sources.extend(source);
    multicast::join(state, &device, group)?;
    list.push(Membership { group, index: device.index(), mode, sources, device: Arc::downgrade(&device) });
    Ok(())
}

fn leave(socket: &InetSocket, list: &mut Vec<Membership>, place: usize) {
    let gone = list.swap_remove(place);
    let state = socket.core().namespace().state();
    if let Some(device) = gone.device.upgrade().filter(|device| device.is_registered()) {
        // A device that has left the group by itself has nothing to leave.
        let _ = multicast::leave(state, &device, gone.group);
    }
}

/// Changes whom a member hears; whether nobody is left.
fn change_sources(one: &mut Membership, change: Change, most: usize) -> Result<bool> {
    let (source, wanted_mode, adds) = match change {
        Change::AddSource(source) => (source, Mode::Include, true),
        Change::DropSource(source) => (source, Mode::Include, false),
        Change::Block(source) => (source, Mode::Exclude, true),
        Change::Unblock(source) => (source, Mode::Exclude, false),
        Change::Join | Change::Leave => return Err(Errno::EINVAL),
    };
    if one.mode != wanted_mode {
        return Err(Errno::EINVAL);
    }
    let place = one.sources.iter().position(|known| *known == source);
    match (adds, place) {
        (true, Some(_)) | (false, None) => return Err(Errno::EADDRNOTAVAIL),
        (true, None) if one.sources.len() >= most => return Err(Errno::ENOBUFS),
        (true, None) => {
            one.sources.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            one.sources.push(source);
        }
        (false, Some(place)) => {
            one.sources.swap_remove(place);
        }
    }
    Ok(one.mode == Mode::Include && one.sources.is_empty())
}

/// The socket is closed: it leaves all its groups, the newest first.
pub fn leave_all(socket: &InetSocket) {
    let _one = socket.memberships.lock();
    let Some(list) = socket.joined.list.swap(None) else { return };
    let state = socket.core().namespace().state();
    for one in list.iter().rev() {
        if let Some(device) = one.device.upgrade().filter(|device| device.is_registered()) {
            let _ = multicast::leave(state, &device, one.group);
        }
    }
}
