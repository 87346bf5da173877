//! The entries of the machine's own addresses, what is forgotten when, and that what aged goes (`br_fdb.c`).
//!
//! Locks: the table's (spin), for one change; nothing is told under it.

use abi::link::IFLA_BRPORT_LEARNING;
use abi::rtnetlink::{RTM_DELNEIGH, RTM_NEWNEIGH};
use alloc::sync::{Arc, Weak};
use machine::sync::atomic::Ordering;
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::table::{BY_USER, FIRST, LOCAL, Place, STATIC, View};
use super::{Bridge, Key, Port, Setting, TICK_NS, notify};
use crate::device::{NetDevice, check_ethernet_address};

const SECOND_NS: u64 = 1_000_000_000;

impl Bridge {
    /// Where a port's entries are, or those of the bridge itself: the number and the device.
    fn at<'a>(device: &'a Arc<NetDevice>, port: Option<&'a Arc<Port>>) -> (u16, &'a Arc<NetDevice>) {
        port.map_or((0, device), |port| (port.number, &port.device))
    }

    fn tell(&self, device: &Arc<NetDevice>, port: Option<&Arc<Port>>, view: &View, kind: u16) {
        match port {
            Some(port) => notify::entry(port, view, kind),
            None => notify::entry_of(device, self, view, kind),
        }
    }

    /// The address of a port or of the bridge itself is the machine's in a VLAN. Of several with one address the first has it.
    pub(super) fn add_own(&self, device: &Arc<NetDevice>, port: Option<&Arc<Port>>, vlan: u16) {
        let (number, own) = Bridge::at(device, port);
        let Ok(address) = <[u8; 6]>::try_from(own.address().as_slice()) else { return };
        if check_ethernet_address(&address).is_err() {
            return;
        }
        let (key, now) = (Key { vlan, address }, machine::time::now_ns());
        let Some(place) = Place::new(key, number, LOCAL | STATIC, now) else { return };
        let mut table = self.table.write();
        if table.get(&key, now, u64::MAX).is_some_and(|entry| entry.flags & LOCAL != 0) {
            return;
        }
        table.insert(place);
        drop(table);
        let view = View { key, port: number, flags: LOCAL | STATIC, updated_ns: now, used_ns: now };
        self.tell(device, port, &view, RTM_NEWNEIGH);
    }

    /// A port or the bridge itself has another address, in all its VLANs.
    pub(super) fn readdress(&self, device: &Arc<NetDevice>, port: Option<&Arc<Port>>) {
        self.forget_at(device, port, |view| view.flags & LOCAL != 0 && view.flags & BY_USER == 0);
        let vlans = port.map_or(&self.vlans, |port| &port.vlans);
        self.add_own(device, port, 0);
        let mut next = 0;
        while let Some((vlan, _)) = vlans.next_from(next) {
            self.add_own(device, port, vlan);
            next = vlan + 1;
        }
    }

    /// Forgets the entries of a port that `which` picks. The lock is let go of after each few.
    pub(super) fn forget(&self, port: &Arc<Port>, which: impl Fn(&View) -> bool) {
        self.forget_at(&port.bridge, Some(port), which);
    }

    /// The same for a port or the bridge itself.
    pub(super) fn forget_at(
        &self,
        device: &Arc<NetDevice>,
        port: Option<&Arc<Port>>,
        which: impl Fn(&View) -> bool,
    ) {
        let (number, _) = Bridge::at(device, port);
        let mut at = Some(FIRST);
        while let Some(from) = at {
            let Some(view) = self.table.read().next_of_port(number, &from) else { return };
            at = view.key.next();
            if which(&view) && self.table.write().remove(&view.key).is_some() {
                self.tell(device, port, &view, RTM_DELNEIGH);
            }
        }
    }

    /// Something may age at this time: has it removed then. Any context.
    pub(crate) fn expect_ageing(&self, device: &Arc<NetDevice>, at_ns: u64) {
        let due = self.next_collection.load(Ordering::Relaxed);
        if due != 0 && due <= at_ns {
            return;
        }
        self.next_collection.store(at_ns, Ordering::Relaxed);
        let fresh = if self.timer.lock().is_none() {
            Timer::new(Arc::new(Expiry(Arc::downgrade(device)))).ok()
        } else {
            None
        };
        let mut timer = self.timer.lock();
        if timer.is_none() {
            *timer = fresh;
        }
        if let Some(timer) = timer.as_ref() {
            timer.arm(at_ns);
        }
    }

    /// How long it is until then, in hundredths of a second.
    pub(super) fn until_collection(&self) -> u64 {
        let due = self.next_collection.load(Ordering::Relaxed);
        due.saturating_sub(machine::time::now_ns()) / TICK_NS
    }

    /// The ageing time is another: what that means is looked at now.
    pub(super) fn age_anew(&self, device: &Arc<NetDevice>) {
        self.next_collection.store(0, Ordering::Relaxed);
        self.expect_ageing(device, machine::time::now_ns());
    }

    /// Removes what aged, a few entries at a time, and looks again when the next is due, but not more than once a second.
    fn collect(&self, device: &Arc<NetDevice>) {
        const FEW: usize = 32;
        self.next_collection.store(0, Ordering::Relaxed);
        let now = machine::time::now_ns();
        let (mut from, mut next) = (Some(FIRST), u64::MAX);
        while let Some(at) = from {
            let mut gone = arrayvec::ArrayVec::<_, FEW>::new();
            let keep = |view| gone.push(view);
            from = self.table.write().collect(at, now, self.ageing_ns(), FEW, &mut next, keep);
            gone.iter().for_each(|view| notify::entry_of(device, self, view, RTM_DELNEIGH));
        }
        if next < u64::MAX && device.is_registered() {
            self.expect_ageing(device, next.max(now + SECOND_NS));
        }
    }

    /// Whether a port learns from frames that are for the link alone.
    pub(super) fn learns_link_local(&self, port: &Port) -> bool {
        port.has(IFLA_BRPORT_LEARNING) && self.setting(Setting::NoLinkLocalLearn) == 0
    }
}

/// Has what aged removed by a worker.
struct Expiry(Weak<NetDevice>);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let weak = self.0.clone();
        let work = move || {
            if let Some(device) = weak.upgrade()
                && let Some(bridge) = device.operations_as::<Bridge>()
            {
                bridge.collect(&device);
            }
        };
        match sched::work::queue(work) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + SECOND_NS),
        }
    }
}
