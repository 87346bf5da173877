//! Routing tables: what a route is, and the tables of a namespace by number.
//!
//! Key types: [`Entry`] (a route as it was made: never changes but for the state of its next hops), [`Hop`], [`Table`], [`Tables`].
//! A table has its routes by prefix, those of one prefix in the order in which they are tried ([`Order`]). Routes are also listed
//! with the devices they go through and under the source address they prefer, so that what goes takes only its own along.
//! Locks: changed under [`crate::device::Rtnl`]; read without a lock.

use abi::errno::Result;
use abi::route::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use linnet_lib::fib::Prefix;
use machine::memory::try_arc;
use machine::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

use crate::device::NetDevice;
use crate::ip::address::{address_of, key_of};
use crate::ip::map::{Groups, RcuMap};
use crate::namespace::NetState;

/// How many metrics there are (`RTAX_MAX`), with the unspecified one.
pub const METRICS: usize = RTAX_FASTOPEN_NO_COOKIE as usize + 1;

/// The metrics of a route; 0 for one that is not set.
pub type Metrics = [u32; METRICS];

/// One way that a route goes.
pub struct Hop {
    /// Through which device; none for a route that refuses.
    pub device: Option<Arc<NetDevice>>,
    /// To which router; none for a neighbour itself. A router of IPv6 may serve IPv4 (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Its share less one.
    pub weight: u16,
    /// `RTNH_F_*`.
    pub flags: AtomicU32,
    /// How far the gateway or destination is.
    pub scope: u8,
    /// The realm (RTA_FLOW).
    pub realm: u32,
    /// The last hash value that takes this way, of 31 bits; -1 for none.
    pub upper: AtomicI32,
}

impl Hop {
    /// One through a device to its neighbours.
    pub fn direct(device: Option<Arc<NetDevice>>, scope: u8) -> Hop {
        Hop {
            device,
            gateway: None,
            weight: 0,
            flags: AtomicU32::new(0),
            scope,
            realm: 0,
            upper: AtomicI32::new(-1),
        }
    }

    /// A copy with the state that it has now.
    pub fn copy(&self) -> Hop {
        Hop {
            device: self.device.clone(),
            gateway: self.gateway,
            weight: self.weight,
            flags: AtomicU32::new(self.flags()),
            scope: self.scope,
            realm: self.realm,
            upper: AtomicI32::new(self.upper.load(Ordering::Relaxed)),
        }
    }

    /// Its flags now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// The index of its device, 0 for none.
    pub fn index(&self) -> i32 {
        self.device.as_ref().map_or(0, |device| device.index())
    }

    /// Whether it goes the same way.
    pub fn is_like(&self, other: &Hop) -> bool {
        self.gateway == other.gateway
            && self.index() == other.index()
            && self.realm == other.realm
            && (self.flags() ^ other.flags()) & RTNH_F_ONLINK == 0
    }
}

/// A route.
pub struct Entry {
    /// Its table.
    pub table: u32,
    /// Whether it is of IPv6.
    pub is_v6: bool,
    /// Where it leads.
    pub prefix: Prefix,
    /// Whom it serves (IPv6).
    pub source: Prefix,
    /// For which type of service; 0 for all.
    pub tos: u8,
    /// Its metric: the lowest is taken.
    pub priority: u32,
    /// `RTN_*`.
    pub kind: u8,
    /// `RT_SCOPE_*` (IPv4).
    pub scope: u8,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// What packets on it are sent from.
    pub preferred: Option<IpAddr>,
    /// `RTNH_F_*` of it as a whole, and of IPv6 `RTF_ADDRCONF` and the like.
    pub flags: AtomicU32,
    /// Its metrics, if any is set.
    pub metrics: Option<Arc<Metrics>>,
    /// RTA_PREF (IPv6).
    pub preference: u8,
    /// When it ends, if it does.
    pub expires_ns: Option<u64>,
    /// The number of the next hop it names; 0: none.
    pub nexthop: u32,
    /// Whether that is a group.
    pub is_of_group: bool,
    /// The ways it goes.
    pub hops: Vec<Hop>,
    /// Its number; later ones are higher.
    pub serial: u64,
    /// Its place among those of its prefix.
    pub place: Order,
}

impl Entry {
    /// Its destination.
    pub fn destination(&self) -> IpAddr {
        address_of(self.prefix.key, self.is_v6)
    }

    /// Its flags now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// A metric; 0 if it is not set.
    pub fn metric(&self, which: u16) -> u32 {
        self.metrics.as_ref().and_then(|metrics| metrics.get(usize::from(which)).copied()).unwrap_or(0)
    }

    /// Whether it has ended.
    pub fn is_expired(&self) -> bool {
        self.expires_ns.is_some_and(|end| end <= machine::time::now_ns())
    }

    /// Whether another says the same in all but its state (`fib_find_info`).
    pub fn is_like(&self, other: &Entry) -> bool {
        let is_same = |left: &Option<Arc<Metrics>>, right: &Option<Arc<Metrics>>| match (left, right) {
            (None, None) => true,
            (Some(left), Some(right)) => left == right,
            _ => false,
        };
        self.kind == other.kind
            && self.scope == other.scope
            && self.protocol == other.protocol
            && self.preferred == other.preferred
            && self.source == other.source
            && self.nexthop == other.nexthop
            && is_same(&self.metrics, &other.metrics)
            && self.hops.len() == other.hops.len()
            && self
                .hops
                .iter()
                .zip(&other.hops)
                .all(|(one, other)| one.is_like(other) && one.weight == other.weight)
    }
}

/// The order of the routes of one prefix: higher type of service, lower metric, earlier place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(pub u128);

/// A place in the middle.
const MIDDLE: u64 = 1 << 62;

impl Order {
    /// The first place for a type of service and metric.
    pub fn first(tos: u8, priority: u32) -> Order {
        Order(u128::from(u8::MAX - tos) << 96 | u128::from(priority) << 64)
    }
    /// Where the first of several goes.
    pub fn middle(tos: u8, priority: u32) -> Order {
        Order(Order::first(tos, priority).0 | u128::from(MIDDLE))
    }
    /// Whether another has the same type of service and metric.
    pub fn is_beside(self, other: Order) -> bool {
        self.0 >> 64 == other.0 >> 64
    }
    /// The place behind.
    pub fn after(self) -> Order {
        Order(self.0 + 1)
    }
    /// The place before.
    pub fn before(self) -> Order {
        Order(self.0 - 1)
    }
}

/// A table.
pub struct Table {
    /// Its number.
    pub id: u32,
    pub(crate) routes: Groups<Arc<Entry>>,
    count: AtomicUsize,
}

impl Table {
    /// How many routes it has.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes of a prefix as they are now, in order.
    pub(crate) fn of_prefix(&self, prefix: Prefix) -> impl Iterator<Item = Arc<Entry>> {
        self.routes.values(prefix)
    }
}

/// The tables of one family of a namespace.
pub struct Tables {
    by_id: RcuMap<Arc<Table>>,
    by_preferred: Groups<Arc<Entry>>,
    /// Local and main, which nearly every look-up wants.
    usual: [machine::sync::RcuArc<Table>; 2],
}

impl Tables {
    pub(crate) const fn new() -> Tables {
        Tables {
            by_id: RcuMap::new(),
            by_preferred: Groups::new(),
            usual: [const { machine::sync::RcuArc::empty() }; 2],
        }
    }

    /// In the order in which dumps tell tables: by the low eight bits first.
    fn key(id: u32) -> u128 {
        u128::from(id & 0xff) << 32 | u128::from(id)
    }

    fn usual(&self, id: u32) -> Option<&machine::sync::RcuArc<Table>> {
        match id {
            RT_TABLE_LOCAL => self.usual.first(),
            RT_TABLE_MAIN => self.usual.last(),
            _ => None,
        }
    }

    /// The table of this number. Any context.
    pub fn get(&self, id: u32) -> Option<Arc<Table>> {
        match self.usual(id) {
            Some(cell) => cell.load_arc(),
            None => self.by_id.get(Tables::key(id)),
        }
    }

    /// Calls `look` with a table in an RCU section.
    pub(crate) fn with<R>(&self, id: u32, look: impl FnOnce(&Table) -> Option<R>) -> Option<R> {
        match self.usual(id) {
            Some(cell) => {
                let guard = machine::sync::rcu::read_lock();
                look(cell.load(&guard)?)
            }
            None => look(&*self.by_id.get(Tables::key(id))?),
        }
    }

    /// All tables, in the order of dumps.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Table>> {
        self.by_id.iter()
    }

    /// The first table behind one.
    pub(crate) fn next_after(&self, id: Option<u32>) -> Option<Arc<Table>> {
        self.by_id.first_from(id.map_or(0, |id| Tables::key(id) + 1)).map(|(_, table)| table)
    }

    /// The table of this number, made if it is not there. Under rtnl. `ENOMEM`.
    pub(crate) fn make(&self, id: u32) -> Result<Arc<Table>> {
        if let Some(table) = self.get(id) {
            return Ok(table);
        }
        let table = try_arc(Table { id, routes: Groups::new(), count: AtomicUsize::new(0) })?;
        self.by_id.set(Tables::key(id), table.clone())?;
        if let Some(cell) = self.usual(id) {
            cell.replace(Some(table.clone()));
        }
        Ok(table)
    }

    /// Adds a route to its table and to the lists of its devices. Under rtnl. `ENOMEM`: nothing has changed.
    pub(crate) fn add(&self, net: &NetState, table: &Table, entry: &Arc<Entry>) -> Result<()> {
        if let Err(error) = self.list(net, table, entry) {
            self.unlist(net, table, entry);
            return Err(error);
        }
        table.count.fetch_add(1, Ordering::Relaxed);
        super::changed(net);
        Ok(())
    }

    fn list(&self, net: &NetState, table: &Table, entry: &Arc<Entry>) -> Result<()> {
        net.ip.control.nexthops.list_route(entry)?;
        for hop in &entry.hops {
            if let Some(ip) = hop.device.as_ref().and_then(|device| device.ip()) {
                ip.routes.set(entry.serial.into(), entry.clone())?;
            }
        }
        if let Some(preferred) = entry.preferred {
            let name = Prefix::exact(key_of(preferred));
            self.by_preferred.set(name, entry.serial.into(), entry.clone())?;
        }
        table.routes.set(entry.prefix, entry.place.0, entry.clone())
    }

    fn unlist(&self, net: &NetState, table: &Table, entry: &Entry) {
        let is_there =
            table.routes.find(entry.prefix, |_, other| (other.serial == entry.serial).then_some(()));
        if is_there.is_some() {
            let _ = table.routes.remove(entry.prefix, entry.place.0);
        }
        self.unlist_aside(net, entry);
    }

    fn unlist_aside(&self, net: &NetState, entry: &Entry) {
        net.ip.control.nexthops.unlist_route(entry);
        for hop in &entry.hops {
            if let Some(ip) = hop.device.as_ref().and_then(|device| device.ip()) {
                let _ = ip.routes.remove(entry.serial.into());
            }
        }
        if let Some(preferred) = entry.preferred {
            let _ = self.by_preferred.remove(Prefix::exact(key_of(preferred)), entry.serial.into());
        }
    }

    /// Takes a route out. Under rtnl. Whether it was there.
    pub(crate) fn remove(&self, net: &NetState, entry: &Entry) -> bool {
        let Some(table) = self.get(entry.table) else { return false };
        let is_same = |other: &Arc<Entry>| (other.serial == entry.serial).then_some(());
        if table.routes.find(entry.prefix, |_, other| is_same(other)).is_none() {
            return false;
        }
        entry.flags.fetch_or(RTNH_F_DEAD, Ordering::Relaxed);
        self.unlist(net, &table, entry);
        table.count.fetch_sub(1, Ordering::Relaxed);
        super::changed(net);
        true
    }

    /// Puts a route in the place of another of the same prefix and place. Under rtnl. `ENOMEM`.
    pub(crate) fn replace(&self, net: &NetState, table: &Table, old: &Entry, new: &Arc<Entry>) -> Result<()> {
        if let Err(error) = self.list(net, table, new) {
            self.unlist_aside(net, new);
            return Err(error);
        }
        old.flags.fetch_or(RTNH_F_DEAD, Ordering::Relaxed);
        self.unlist_aside(net, old);
        super::changed(net);
        Ok(())
    }

    /// The routes that prefer a source.
    pub(crate) fn preferring(&self, source: IpAddr) -> Result<Vec<Arc<Entry>>> {
        let mut found = Vec::new();
        let failed = self.by_preferred.find(Prefix::exact(key_of(source)), |_, entry| {
            if found.try_reserve(1).is_err() {
                return Some(());
            }
            found.push(entry.clone());
            None
        });
        if failed.is_some() { Err(abi::errno::Errno::ENOMEM) } else { Ok(found) }
    }

    /// Lets go of everything at once.
    pub(crate) fn clear(&self) {
        self.by_id.iter().for_each(|table| table.routes.clear());
        self.by_id.clear();
        self.by_preferred.clear();
        self.usual.iter().for_each(|cell| cell.replace(None));
    }
}
