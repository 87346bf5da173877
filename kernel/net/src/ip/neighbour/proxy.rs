//! Addresses that the machine answers for though they are someone else's (`ip neigh add proxy`).
//!
//! Key types: [`Proxy`], [`Proxies`] (of an interface, or of a namespace for all interfaces), `Answer`, `Waiting` (answers of an
//! interface whose time has not come). Locks: addresses change under [`crate::device::Rtnl`] and are read without a lock; a leaf
//! spinlock for the answers that wait.

use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::wire::arp::Arp;
use machine::memory::try_arc;
use machine::sync::SpinLock;
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::settings::which;
use crate::device::NetDevice;
use crate::ip::address::key_of;
use crate::ip::map::RcuMap;
use crate::ip::multicast;
use crate::namespace::NetState;

const MILLISECOND_NS: u64 = 1_000_000;
/// What cannot be done for want of memory is tried again after this.
const RETRY_MS: u64 = 100;
/// Answers that wait at most, whatever `proxy_qlen` says.
const QUEUE_MOST: i32 = 1024;

/// An address that is answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The address.
    pub address: IpAddr,
    /// `NTF_*`.
    pub flags: u8,
    /// `RTPROT_*` of who made it.
    pub protocol: u8,
}

/// Those of one place, of one family.
pub struct Proxies(RcuMap<Arc<Proxy>>);

impl Proxies {
    pub(crate) const fn new() -> Proxies {
        Proxies(RcuMap::new())
    }

    /// The one with this address. Any context.
    pub(crate) fn get(&self, address: IpAddr) -> Option<Arc<Proxy>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(key_of(address))
    }

    /// The first one whose address is not less than `key`, with its key.
    pub(crate) fn next_from(&self, key: u128) -> Option<(u128, Arc<Proxy>)> {
        self.0.first_from(key)
    }

    /// Adds one, or puts it in the place of the one with this address. Who asks for one of IPv6 on the link must reach us. `ENOMEM`.
    pub(crate) fn set(
        &self,
        net: &Arc<NetState>,
        device: Option<&Arc<NetDevice>>,
        proxy: Proxy,
    ) -> Result<()> {
        let known = self.get(proxy.address);
        let address = proxy.address;
        // Who does not say who makes it leaves that as it was.
        let protocol = known.as_ref().map_or(0, |known| known.protocol);
        let protocol = if proxy.protocol == 0 { protocol } else { proxy.protocol };
        self.0.set(key_of(address), try_arc(Proxy { protocol, ..proxy })?)?;
        if let (true, Some(device), IpAddr::V6(address)) = (known.is_none(), device, address) {
            let _ = multicast::join(net, device, multicast::solicited_node(address).into());
        }
        Ok(())
    }

    /// Takes one out; whether it was there. `ENOMEM`.
    pub(crate) fn remove(
        &self,
        net: &Arc<NetState>,
        device: Option<&Arc<NetDevice>>,
        address: IpAddr,
    ) -> Result<bool> {
        if self.get(address).is_none() {
            return Ok(false);
        }
        self.0.remove(key_of(address))?;
        if let (Some(device), IpAddr::V6(address)) = (device, address) {
            let _ = multicast::leave(net, device, multicast::solicited_node(address).into());
        }
        Ok(true)
    }

    /// Takes all out at once, needing no memory.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// What a question for an address that came in through a device is answered with. Any context.
pub(crate) fn find(net: &NetState, device: &NetDevice, address: IpAddr) -> Option<Arc<Proxy>> {
    let is_v6 = address.is_ipv6();
    let own = device.ip().and_then(|ip| ip.neighbours(is_v6).proxies().get(address));
    own.or_else(|| net.ip.control.proxies(is_v6).get(address))
}

/// The addresses that are answered for on a device, or on all. `ENODEV`: the device is gone.
pub(crate) fn with_proxies<R>(
    net: &Arc<NetState>,
    device: Option<&Arc<NetDevice>>,
    is_v6: bool,
    act: impl FnOnce(&Proxies) -> Result<R>,
) -> Result<R> {
    match device {
        Some(device) => act(device.ip().ok_or(Errno::ENODEV)?.neighbours(is_v6).proxies()),
        None => act(net.ip.control.proxies(is_v6)),
    }
}

/// An answer in somebody else's name.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// To this question.
    Arp(Arp),
    /// Of neighbour discovery.
    Discovery {
        /// The address that was asked for.
        target: Ipv6Addr,
        /// Who asked, or all.
        to: Ipv6Addr,
        /// It is a router's.
        is_router: bool,
    },
}

impl Answer {
    fn send(&self, device: &Arc<NetDevice>) {
        match self {
            Answer::Arp(asked) => super::arp::reply(device, asked),
            Answer::Discovery { target, to, is_router } => {
                super::discovery::stand_in(device, *target, *to, *is_router);
            }
        }
    }
}

/// Answers that wait, so that the owner of the address can be quicker.
#[derive(Default)]
pub(super) struct Waiting(SpinLock<Queue>);

#[derive(Default)]
struct Queue {
    answers: VecDeque<(u64, Answer)>,
    timer: Option<Timer>,
}

impl Waiting {
    pub(super) const fn new() -> Waiting {
        Waiting(SpinLock::new(Queue { answers: VecDeque::new(), timer: None }))
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        let queue = core::mem::take(&mut *self.0.lock());
        drop(queue);
    }

    /// Takes one whose time has come; if there is none, when the next one's will.
    fn due(&self, now_ns: u64) -> core::result::Result<Answer, Option<u64>> {
        let mut queue = self.0.lock();
        let Some(place) = queue.answers.iter().position(|(at, _)| *at <= now_ns) else {
            return Err(queue.answers.iter().map(|(at, _)| *at).min());
        };
        queue.answers.swap_remove_back(place).map(|(_, answer)| answer).ok_or(None)
    }
}

/// Answers in somebody else's name: at once, or after a random part of `proxy_delay`. More than `proxy_qlen` do not wait. Any context.
pub(super) fn answer(device: &Arc<NetDevice>, is_v6: bool, is_at_once: bool, answer: Answer) {
    let Some(ip) = device.ip() else { return };
    let neighbours = ip.neighbours(is_v6);
    let settings = neighbours.settings();
    let delay_ms = settings.get(which::PROXY_DELAY).max(0) as u64;
    if is_at_once || delay_ms == 0 {
        return answer.send(device);
    }
    let at = machine::time::now_ns() + machine::random::next_u64() % (delay_ms * MILLISECOND_NS);
    let waiting = neighbours.waiting();
    let fresh = if waiting.0.lock().timer.is_none() {
        let Ok(expiry) = try_arc(Expiry(Arc::downgrade(device), is_v6)) else { return };
        Timer::new(expiry).ok()
    } else {
        None
    };
    let mut queue = waiting.0.lock();
    let most = settings.get(which::PROXY_QUEUE).clamp(0, QUEUE_MOST) as usize;
    if queue.answers.len() > most || queue.answers.try_reserve(1).is_err() {
        return;
    }
    if queue.timer.is_none() {
        queue.timer = fresh;
    }
    queue.answers.push_back((at, answer));
    if let Some(timer) = &queue.timer
        && timer.deadline_ns().is_none_or(|armed| armed > at)
    {
        timer.arm(at);
    }
}

struct Expiry(Weak<NetDevice>, bool);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let (Some(device), is_v6) = (self.0.upgrade(), self.1) else { return TimerAction::Done };
        match sched::work::queue(move || send_due(&device, is_v6)) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + RETRY_MS * MILLISECOND_NS),
        }
    }
}

/// Sends the answers whose time has come: a worker's task.
fn send_due(device: &Arc<NetDevice>, is_v6: bool) {
    let Some(ip) = device.ip() else { return };
    let waiting = ip.neighbours(is_v6).waiting();
    loop {
        match waiting.due(machine::time::now_ns()) {
            Ok(answer) => answer.send(device),
            Err(next) => {
                let queue = waiting.0.lock();
                if let (Some(at), Some(timer)) = (next, &queue.timer) {
                    timer.arm(at);
                }
                return;
            }
        }
    }
}
