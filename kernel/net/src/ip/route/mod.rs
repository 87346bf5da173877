//! Routes: where packets go.
//!
//! | file | what |
//! |---|---|
//! | `table` | what a route is; the tables of a namespace |
//! | `rule` | which table is asked for which packet |
//! | `lookup` | finding the route of a packet, out and in |
//! | `change` | a request for a route, checked, put into its table or taken out |
//! | `cache` | what paths taught: smaller MTUs, better routers |
//! | `nexthop` | next hops as objects that routes name |
//! | `sync` | routes follow devices and addresses |
//!
//! Key types: [`Flow`] (what a route is looked up for), [`Route`] (what is found).
//! Locks: tables change under [`crate::device::Rtnl`]; a look-up takes no lock but a leaf for a path's MTU.

pub mod cache;
pub mod change;
pub mod lookup;
pub mod nexthop;
pub mod rule;
pub mod sync;
pub mod table;

use alloc::sync::Arc;
use core::net::IpAddr;
use linnet_lib::fib::Prefix;
use machine::sync::atomic::Ordering;

use crate::device::NetDevice;
use crate::namespace::NetState;

pub use cache::{note_path_mtu, note_redirect};
pub use lookup::{input, output};

/// What a route is looked up for.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Where to.
    pub destination: IpAddr,
    /// Where from, if that is known.
    pub source: Option<IpAddr>,
    /// Type of service.
    pub tos: u8,
    /// `SO_MARK`.
    pub mark: u32,
    /// The interface to send through, 0 for any.
    pub output: i32,
    /// The interface it came in through, 0 for the machine itself.
    pub input: i32,
    /// Who sends.
    pub user_id: u32,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Source and destination port in the byte order of the machine.
    pub ports: (u16, u16),
    /// Chooses among equal ways; 0: from the addresses.
    pub hash: u32,
}

impl Flow {
    /// To an address, from whoever.
    pub fn to(destination: IpAddr) -> Flow {
        Flow {
            destination,
            source: None,
            tos: 0,
            mark: 0,
            output: 0,
            input: 0,
            user_id: u32::MAX,
            protocol: 0,
            ports: (0, 0),
            hash: 0,
        }
    }
}

/// What becomes of a packet on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It goes on to someone.
    Unicast,
    /// It is for this machine.
    Local,
    /// It is for everyone on a link, us too.
    Broadcast,
    /// It is for a group; [`Route::is_member`] says whether for us too.
    Multicast,
}

/// A route that was found.
#[derive(Clone)]
pub struct Route {
    /// What becomes of the packet.
    pub kind: RouteKind,
    /// Through this device; for what is for us, the device it belongs to (out: the loopback).
    pub device: Arc<NetDevice>,
    /// To this router; none: to the destination itself.
    pub gateway: Option<IpAddr>,
    /// From this address.
    pub source: Option<IpAddr>,
    /// Bytes of a packet that gets through.
    pub mtu: u32,
    /// How far it may go, if the route says that.
    pub hop_limit: Option<u8>,
    /// The table it was found in.
    pub table: u32,
    /// What was found there; none for what needs no route.
    pub entry: Option<Arc<table::Entry>>,
    /// The prefix that it was found for.
    pub prefix: Prefix,
    /// Whether its MTU may not be lowered (`RTAX_LOCK`).
    pub mtu_is_locked: bool,
    /// Seconds until what is known of the path's MTU is forgotten.
    pub path_expires: Option<u32>,
    /// Whether we are members of the group.
    pub is_member: bool,
}

/// Whether a router is one of the default routers of a device (`ip_fib_check_default`). Any context.
pub(crate) fn is_default_router(net: &NetState, device: &Arc<NetDevice>, router: IpAddr) -> bool {
    let is_it = |hop: &table::Hop| {
        hop.gateway == Some(router) && hop.device.as_ref().is_some_and(|other| Arc::ptr_eq(other, device))
    };
    let table = net.ip.control.tables(router.is_ipv6()).get(abi::route::RT_TABLE_MAIN);
    table.is_some_and(|table| {
        let found = |_: u128, entry: &Arc<table::Entry>| entry.hops.iter().any(is_it).then_some(());
        table.routes.find(Prefix::new(0, 0), found).is_some()
    })
}

/// Notes a change of routes: who keeps one looks again.
pub(crate) fn changed(net: &NetState) {
    net.ip.control.routing.fetch_add(1, Ordering::Release);
    net.ip.control.generation.fetch_add(1, Ordering::Relaxed);
}

/// A number that moves with every change of routes: a socket that keeps a [`Route`] compares it (`rt_genid`).
pub fn generation(net: &NetState) -> u64 {
    net.ip.control.routing.load(Ordering::Acquire)
}
