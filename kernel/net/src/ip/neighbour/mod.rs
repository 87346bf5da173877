//! Who is on a link under which link-layer address: ARP and neighbour discovery.
//!
//! | file | what |
//! |---|---|
//! | here | a neighbour, and sending to it |
//! | `table` | the neighbours of an interface |
//! | `settings` | how they are asked |
//! | `proxy` | addresses that are answered for |
//! | `arp`, `discovery` | asking and answering, for IPv4 and IPv6 |
//!
//! Key types: [`Neighbour`], [`Neighbours`], [`Cast`]. When a neighbour is to be asked again is reckoned by [`linnet_lib::neighbour`].
//! Locks: one spinlock for each neighbour, a leaf: nothing is sent while it is held. Timers have a worker do what is due.

pub mod arp;
pub mod discovery;
pub(crate) mod proxy;
pub mod settings;
pub mod table;

use abi::errno::{Errno, Result};
use abi::neighbour::NTF_ROUTER;
use abi::rtnetlink as linux;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::net::IpAddr;
use linnet_lib::neighbour::{Effect, News, Reachability, Step};
use linnet_lib::wire::ethernet::{self, Ethernet, TYPE_IPV6};
use linnet_lib::wire::icmp as wire;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Once, SpinLock};
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::icmp::{self, Complaint};
use super::icmp6;
use crate::device::{HardwareAddress, NetDevice, traffic};
use crate::netlink::route::neighbour as announcements;
use crate::packet::Packet;

use settings::{NeighbourSettings, statistic, which};
pub use table::Neighbours;

const SECOND_NS: u64 = 1_000_000_000;

/// To how many a packet goes, as the link sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To one.
    Unicast,
    /// To all.
    Broadcast,
    /// To a group.
    Multicast,
}

/// A neighbour.
pub struct Neighbour {
    address: IpAddr,
    device: Weak<NetDevice>,
    settings: Arc<NeighbourSettings>,
    inner: SpinLock<Inner>,
    timer: Once<Timer>,
    /// A worker is to tell of it.
    is_told: AtomicBool,
}

struct Inner {
    reachability: Reachability,
    link: HardwareAddress,
    /// `NTF_*`.
    flags: u8,
    /// `RTPROT_*` of who made it.
    protocol: u8,
    /// What waits for its address.
    queue: VecDeque<Packet>,
    queued_bytes: usize,
    /// It is in no table any more.
    is_gone: bool,
}

/// What can be told of a neighbour.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its address.
    pub address: IpAddr,
    /// How sure we are of it.
    pub reachability: Reachability,
    /// Its link-layer address.
    pub link: HardwareAddress,
    /// `NTF_*`.
    pub flags: u8,
    /// `RTPROT_*`.
    pub protocol: u8,
}

impl Neighbour {
    /// A neighbour of which nothing is known, or (on a link where nobody asks) need be. `ENOMEM`.
    fn new(
        device: &Arc<NetDevice>,
        address: IpAddr,
        settings: &Arc<NeighbourSettings>,
    ) -> Result<Arc<Neighbour>> {
        let now = machine::time::now_ns();
        let needs_no_asking = device.flags() & (linux::IFF_NOARP | linux::IFF_LOOPBACK) != 0;
        let (reachability, link) = if needs_no_asking {
            (Reachability::without_asking(now), device.address())
        } else {
            (Reachability::new(now), HardwareAddress::new())
        };
        let inner = Inner {
            reachability,
            link,
            flags: 0,
            protocol: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_gone: false,
        };
        let neighbour = try_arc(Neighbour {
            address,
            device: Arc::downgrade(device),
            settings: settings.clone(),
            inner: SpinLock::new(inner),
            timer: Once::new(),
            is_told: AtomicBool::new(false),
        })?;
        let timer = Timer::new(try_arc(Expiry(Arc::downgrade(&neighbour)))?)?;
        let _ = neighbour.timer.set(timer);
        settings::family(address.is_ipv6()).note(statistic::ALLOCATIONS);
        Ok(neighbour)
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The interface it is at; `None` once that is gone.
    pub fn device(&self) -> Option<Arc<NetDevice>> {
        self.device.upgrade()
    }

    /// What can be told of it.
    pub fn describe(&self) -> Description {
        let inner = self.inner.lock();
        Description {
            address: self.address,
            reachability: inner.reachability,
            link: inner.link.clone(),
            flags: inner.flags,
            protocol: inner.protocol,
        }
    }

    /// Sets what an administrator says of it beside its state.
    pub(crate) fn set_marks(&self, flags: u8, protocol: Option<u8>) {
        let mut inner = self.inner.lock();
        inner.flags = flags;
        if let Some(protocol) = protocol {
            inner.protocol = protocol;
        }
    }

    /// Arms the timer for what the state wants.
    fn arm(&self, deadline_ns: Option<u64>) {
        let Some(timer) = self.timer.get() else { return };
        match deadline_ns {
            Some(deadline) if timer.deadline_ns() != Some(deadline) => timer.arm(deadline),
            Some(_) => {}
            None => {
                timer.cancel();
            }
        }
    }

    /// Sends a packet (at its network header) to it, or has it wait for the address.
    fn send(self: &Arc<Self>, device: &Arc<NetDevice>, packet: Packet) -> Result<()> {
        let now = machine::time::now_ns();
        let mut inner = self.inner.lock();
        if inner.reachability.state().is_connected() {
            inner.reachability.mark_used(now);
            let link = inner.link.clone();
            drop(inner);
            return transmit(device, &link, packet);
        }
        let before = inner.reachability.deadline_ns();
        let step = inner.reachability.use_for_sending(now, &self.settings.parameters());
        let deadline = inner.reachability.deadline_ns();
        if inner.reachability.state().is_valid() {
            let link = inner.link.clone();
            drop(inner);
            if deadline != before {
                self.arm(deadline);
            }
            return transmit(device, &link, packet);
        }
        if inner.is_gone || step == Step::Fail {
            return Err(Errno::EHOSTUNREACH);
        }
        let cost = packet.footprint();
        let mut displaced = VecDeque::new();
        if inner.queued_bytes + cost > self.settings.get(which::QUEUE_BYTES).max(0) as usize {
            // All that waits goes at once: packets end with no lock held, and this happens only in a flood.
            displaced = inner.take_queue();
        }
        if inner.queue.try_reserve(1).is_ok() {
            inner.queued_bytes += cost;
            inner.queue.push_back(packet);
        }
        let source = inner.queue.front().and_then(source_of);
        drop(inner);
        drop(displaced);
        self.arm(deadline);
        self.act(step, device, source);
        Ok(())
    }

    /// Somebody says something of it; whether that changed what programs see.
    pub(crate) fn hear(self: &Arc<Self>, link: Option<&[u8]>, mut news: News) -> Effect {
        let Some(device) = self.device() else { return Effect::default() };
        let now = machine::time::now_ns();
        let mut inner = self.inner.lock();
        if inner.is_gone {
            return Effect::default();
        }
        news.is_other_address = link.is_some_and(|link| inner.link.as_slice() != link);
        if link.is_none()
            && news.state.is_valid()
            && !inner.reachability.state().is_valid()
            && inner.link.is_empty()
        {
            return Effect::default();
        }
        let effect = inner.reachability.hear(news, now, &self.settings.parameters());
        if let (true, Some(link)) = (effect.takes_address, link) {
            inner.link = link.iter().copied().take(linux::MAX_ADDR_LEN).collect();
        }
        let waiting = if effect.becomes_valid || effect.fails { inner.take_queue() } else { VecDeque::new() };
        let link = inner.link.clone();
        let deadline = inner.reachability.deadline_ns();
        drop(inner);
        self.arm(deadline);
        for packet in waiting {
            if effect.becomes_valid {
                let _ = transmit(&device, &link, packet);
            } else {
                report_unreachable(&device, &packet);
            }
        }
        effect
    }

    /// Whether it is a router; whether that is news.
    pub(super) fn set_router(&self, is_router: bool) -> bool {
        let mut inner = self.inner.lock();
        let old = inner.flags;
        inner.flags = if is_router { old | NTF_ROUTER } else { old & !NTF_ROUTER };
        inner.flags != old
    }

    /// Finds out whether it is there, as if something were to be sent.
    pub(crate) fn use_now(self: &Arc<Self>, device: &Arc<NetDevice>) {
        let mut inner = self.inner.lock();
        let now = machine::time::now_ns();
        let step = inner.reachability.use_for_sending(now, &self.settings.parameters());
        let deadline = inner.reachability.deadline_ns();
        drop(inner);
        self.arm(deadline);
        self.act(step, device, None);
    }

    /// Has a worker tell of it, unless one is about to.
    pub(crate) fn when_idle(self: &Arc<Self>, device: &Arc<NetDevice>, tell: fn(&NetDevice, &Neighbour)) {
        if self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let (device, one) = (device.clone(), self.clone());
        let work = move || {
            one.is_told.store(false, Ordering::Relaxed);
            tell(&device, &one);
        };
        if sched::work::queue(work).is_err() {
            self.is_told.store(false, Ordering::Relaxed);
        }
    }

    /// A transport heard from it.
    pub fn confirm(&self) {
        self.inner.lock().reachability.confirm(machine::time::now_ns());
    }

    /// Does what a step asks for, with no lock held.
    fn act(self: &Arc<Self>, step: Step, device: &Arc<NetDevice>, source: Option<IpAddr>) {
        let link = match step {
            Step::AskGroup => None,
            // One whose address is not known cannot be asked itself.
            Step::AskNeighbour => Some(self.inner.lock().link.clone()).filter(|link| !link.is_empty()),
            Step::AskProgram => return announcements::ask_program(device, self),
            Step::Fail => {
                settings::family(self.address.is_ipv6()).note(statistic::FAILURES);
                let waiting = self.inner.lock().take_queue();
                return waiting.iter().for_each(|packet| report_unreachable(device, packet));
            }
            Step::Nothing => return,
        };
        match self.address {
            IpAddr::V4(address) => arp::ask(device, address, source, link.as_deref()),
            IpAddr::V6(address) => discovery::ask(device, address, source, link.is_some()),
        }
    }

    /// Its timer expired: a worker's task.
    fn look(self: &Arc<Self>) {
        let Some(device) = self.device() else { return };
        let now = machine::time::now_ns();
        let mut inner = self.inner.lock();
        if inner.is_gone {
            return;
        }
        let (is_notable, step) = inner.reachability.expire(now, &self.settings.parameters());
        let source = inner.queue.front().and_then(source_of);
        let deadline = inner.reachability.deadline_ns();
        drop(inner);
        self.arm(deadline);
        self.act(step, &device, source);
        if is_notable {
            announcements::announce(&device, self);
        }
    }

    /// It is in no table any more: nothing waits for it.
    fn end(&self) {
        settings::family(self.address.is_ipv6()).note(statistic::ENDS);
        let mut inner = self.inner.lock();
        inner.is_gone = true;
        let waiting = inner.take_queue();
        drop(inner);
        drop(waiting);
        self.arm(None);
    }
}

impl Inner {
    fn take_queue(&mut self) -> VecDeque<Packet> {
        self.queued_bytes = 0;
        core::mem::take(&mut self.queue)
    }
}

struct Expiry(Weak<Neighbour>);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let Some(neighbour) = self.0.upgrade() else { return TimerAction::Done };
        match sched::work::queue(move || neighbour.look()) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + SECOND_NS),
        }
    }
}

/// From which address a packet (at its network header) comes.
fn source_of(packet: &Packet) -> Option<IpAddr> {
    let bytes = packet.bytes();
    if packet.protocol == TYPE_IPV6 {
        let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
        return Some(IpAddr::from(octets));
    }
    let octets: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

/// A neighbour does not answer: who sent a packet to it is told.
fn report_unreachable(device: &Arc<NetDevice>, packet: &Packet) {
    let net = device.namespace();
    if packet.protocol == TYPE_IPV6 {
        icmp6::complain(&net, packet, wire::v6::UNREACHABLE, wire::v6::ADDRESS_UNREACHABLE, 0);
    } else {
        icmp::complain(&net, packet, Complaint::NoHost);
    }
}

/// Puts the link-layer header in front and sends.
fn transmit(device: &Arc<NetDevice>, link: &[u8], mut packet: Packet) -> Result<()> {
    let destination = link.try_into().map_err(|_| Errno::EINVAL)?;
    let source = device.address().as_slice().try_into().map_err(|_| Errno::EINVAL)?;
    let header = Ethernet { destination, source, kind: packet.protocol };
    packet.push(ethernet::HEADER)?.copy_from_slice(&header.write());
    traffic::transmit(device, packet)
}

/// The link-layer address of a group (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_link(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// Sends a packet, whose bytes begin with its network header, through a device to a next hop. Any context.
///
/// # Errors
/// `ENETDOWN`: the device is down; `EHOSTUNREACH`: the neighbour does not answer; `ENOBUFS`: there is no room for one more; `ENOMEM`.
pub fn send(device: &Arc<NetDevice>, next_hop: IpAddr, cast: Cast, mut packet: Packet) -> Result<()> {
    if device.header_length() == 0 {
        packet.mark_link_header();
        return traffic::transmit(device, packet);
    }
    if device.is_loopback() {
        return transmit(device, &[0; 6], packet);
    }
    match cast {
        Cast::Broadcast => transmit(device, &device.broadcast(), packet),
        Cast::Multicast => transmit(device, &group_link(next_hop), packet),
        Cast::Unicast if device.flags() & linux::IFF_NOARP != 0 => {
            transmit(device, &device.address(), packet)
        }
        Cast::Unicast => {
            let ip = device.ip().ok_or(Errno::ENETDOWN)?;
            let neighbour = ip.neighbours(next_hop.is_ipv6()).find_or_add(device, next_hop)?;
            neighbour.send(device, packet)
        }
    }
}
