//! Addresses end by themselves: each namespace has a queue of when something is to be done about an address (`check_lifetime`,
//! `addrconf_verify`), and one timer for the earliest.
//!
//! Key type: `Deadlines`. The timer has a worker take the lock of the namespace; nothing here keeps a namespace.
//! Locks: a leaf spinlock.

use abi::route::*;
use abi::rtnetlink::RTM_NEWADDR;
use alloc::sync::{Arc, Weak};
use machine::sync::SpinLock;
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::{Address, FOREVER, inet, inet6};
use crate::device::Rtnl;
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::address::announce;

const SECOND_NS: u64 = 1_000_000_000;
/// What cannot be done for want of memory is tried again after this.
const RETRY_NS: u64 = SECOND_NS;

/// When the namespace has to look at its addresses next.
pub(crate) struct Deadlines {
    timer: SpinLock<Option<Timer>>,
}

impl Deadlines {
    pub(crate) const fn new() -> Deadlines {
        Deadlines { timer: SpinLock::new(None) }
    }

    /// No more: the namespace ends.
    pub(crate) fn stop(&self) {
        let timer = self.timer.lock().take();
        drop(timer);
    }

    fn wake_at(&self, net: &Arc<NetState>, deadline_ns: u64) {
        let fresh = if self.timer.lock().is_none() {
            Timer::new(Arc::new(Expiry(Arc::downgrade(net)))).ok()
        } else {
            None
        };
        let mut timer = self.timer.lock();
        let timer = match fresh {
            Some(fresh) if timer.is_none() => timer.insert(fresh),
            _ => match timer.as_mut() {
                Some(timer) => timer,
                None => return,
            },
        };
        if timer.deadline_ns().is_none_or(|armed| armed > deadline_ns) {
            timer.arm(deadline_ns);
        }
    }
}

struct Expiry(Weak<NetState>);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let Some(net) = self.0.upgrade() else { return TimerAction::Done };
        match sched::work::queue(move || look(&net)) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + RETRY_NS),
        }
    }
}

/// When something is to be done about an address: it is deprecated, or it ends.
fn deadline(address: &Address) -> Option<u64> {
    let after = |seconds: u32| address.updated_ns + u64::from(seconds) * SECOND_NS;
    let ends = (address.valid != FOREVER).then(|| after(address.valid));
    let is_preferred = address.preferred != FOREVER && !address.has(IFA_F_DEPRECATED);
    let deprecated = is_preferred.then(|| after(address.preferred));
    [ends, deprecated].into_iter().flatten().min()
}

/// Has the namespace look at an address when it is time.
pub(crate) fn watch(net: &Arc<NetState>, address: &Address) {
    if let Some(deadline_ns) = deadline(address) {
        net.ip.control.deadlines.wake_at(net, deadline_ns);
    }
}

/// Has the namespace look at its IPv6 routes and addresses at some time.
pub(crate) fn watch_at(net: &Arc<NetState>, deadline_ns: u64) {
    net.ip.control.deadlines.wake_at(net, deadline_ns);
}

/// Does what is due: a worker's task.
fn look(net: &Arc<NetState>) {
    if net.live().is_none() {
        return;
    }
    let rtnl = Rtnl::lock(net);
    let now = machine::time::now_ns();
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        let Some(ip) = device.ip() else { continue };
        for is_v6 in [false, true] {
            for address in ip.addresses(is_v6).iter() {
                let Some(due) = deadline(&address) else { continue };
                if due > now {
                    net.ip.control.deadlines.wake_at(net, due);
                    continue;
                }
                let ends = address.valid != FOREVER
                    && address.updated_ns + u64::from(address.valid) * SECOND_NS <= now;
                match (ends, is_v6) {
                    (true, false) => inet::remove(&rtnl, &device, &address, &Origin::default()),
                    (true, true) => inet6::remove(&rtnl, &device, &address, &Origin::default()),
                    (false, _) => {
                        let flags = address.flags | IFA_F_DEPRECATED;
                        let deprecated = Address { flags, ..(*address).clone() };
                        if let Ok(new) = ip.addresses(is_v6).replace(deprecated) {
                            announce(net, RTM_NEWADDR, &device, &new, &Origin::default());
                            watch(net, &new);
                        }
                    }
                }
            }
        }
        end_routes(net, &ip, now);
    }
}

/// Takes out routes whose time is over.
fn end_routes(net: &Arc<NetState>, ip: &crate::ip::device::IpDevice, now: u64) {
    for entry in ip.routes.iter() {
        let Some(end) = entry.expires_ns else { continue };
        if end <= now {
            crate::ip::route::sync::expire(net, &entry);
        } else {
            net.ip.control.deadlines.wake_at(net, end);
        }
    }
}
