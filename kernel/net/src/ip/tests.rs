//! Addresses and routes on the simulated machine, against a model that looks at everything.

use abi::route::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use linnet_lib::fib::Prefix;

use super::address::{Address, AddressKind, inet, inet6, key_of, kind_of, network_of, select_source};
use super::route::change::{self, MODE_APPEND, Wanted, WantedHop};
use super::route::{self, Flow, RouteKind};
use crate::device::{InterfaceName, NetDevice, Rtnl, dummy, registry, set_flags};
use crate::lifetime;
use crate::namespace::NetNamespace;
use crate::netlink::Origin;

fn simulate(test: impl FnOnce() + Send + 'static) {
    sched::host::run(7, 2, test);
}

/// A namespace with so many dummies that are up.
fn namespace(devices: usize) -> (Arc<NetNamespace>, Vec<Arc<NetDevice>>) {
    let space = NetNamespace::create(security::initial_namespace()).unwrap();
    let rtnl = Rtnl::lock(&space);
    let mut all = Vec::new();
    for _ in 0..devices {
        let device = dummy::create(space.state(), None).unwrap();
        registry::register(&rtnl, &device, InterfaceName::new(b"d%d").unwrap(), None).unwrap();
        set_flags(&rtnl, &device, device.flags() | abi::rtnetlink::IFF_UP).unwrap();
        all.push(device);
    }
    drop(rtnl);
    (space, all)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn give(space: &NetNamespace, device: &Arc<NetDevice>, text: &str, length: u8) {
    let rtnl = Rtnl::lock(space);
    let local = ip(text);
    let origin = Origin::default();
    if local.is_ipv4() {
        inet::add(&rtnl, device, Address::new(local, length, 0, device.name()), &origin).unwrap();
    } else {
        inet6::add(&rtnl, device, Address::new(local, length, 0, device.name()), &origin).unwrap();
    }
}

fn through(device: &NetDevice, prefix: Prefix, is_v6: bool) -> Wanted {
    let hop = WantedHop { index: device.index(), ..WantedHop::default() };
    Wanted { hop, scope: if is_v6 { 0 } else { RT_SCOPE_LINK }, ..Wanted::to(is_v6, prefix) }
}

#[test]
fn addresses_bring_their_routes_and_take_them_along() {
    simulate(|| {
        let (space, devices) = namespace(2);
        let net = space.state();
        give(&space, &devices[0], "10.0.0.1", 24);
        give(&space, &devices[0], "10.0.0.2", 24);
        give(&space, &devices[0], "2001:db8::1", 64);
        assert_eq!(kind_of(net, ip("10.0.0.2"), 0), AddressKind::Local);
        assert_eq!(kind_of(net, ip("10.0.0.2"), devices[1].index()), AddressKind::Other);
        assert_eq!(kind_of(net, ip("10.0.0.255"), 0), AddressKind::Broadcast);
        assert_eq!(kind_of(net, ip("2001:db8::1"), devices[0].index()), AddressKind::Local);
        assert_eq!(kind_of(net, ip("224.0.0.5"), 0), AddressKind::Multicast);
        assert_eq!(select_source(net, &devices[0], ip("10.0.0.77")), Some(ip("10.0.0.1")));
        assert_eq!(select_source(net, &devices[0], ip("2001:db8::9")), Some(ip("2001:db8::1")));
        let found = route::output(net, &Flow::to(ip("10.0.0.9"))).unwrap();
        assert_eq!((found.kind, found.source), (RouteKind::Unicast, Some(ip("10.0.0.1"))));
        let found = route::output(net, &Flow::to(ip("2001:db8::9"))).unwrap();
        assert!(Arc::ptr_eq(&found.device, &devices[0]));
        // The first of a network takes those behind it along.
        let rtnl = Rtnl::lock(&space);
        let first = devices[0].ip().unwrap().addresses4.get(ip("10.0.0.1")).unwrap();
        inet::remove(&rtnl, &devices[0], &first, &Origin::default());
        drop(rtnl);
        assert_eq!(kind_of(net, ip("10.0.0.2"), 0), AddressKind::Other);
        assert!(route::output(net, &Flow::to(ip("10.0.0.9"))).is_err());
        assert!(devices[0].ip().unwrap().routes.iter().all(|entry| entry.is_v6));
    });
}

/// A small generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What the model keeps of a route: prefix, metric, place among those, device.
type Modelled = (Prefix, u32, u64, usize);

#[test]
fn look_ups_agree_with_a_list() {
    simulate(|| {
        let (space, devices) = namespace(3);
        let net = space.state();
        let mut numbers = Numbers(1);
        let mut model: Vec<Modelled> = Vec::new();
        for step in 0..600u64 {
            let length = numbers.next(33) as u8;
            let address =
                Ipv4Addr::from_bits((numbers.next(4) << 30 | numbers.next(8) << 8) as u32 | 1 << 24);
            let prefix = network_of(address.into(), length);
            let metric = numbers.next(3) as u32;
            let device = numbers.next(3) as usize;
            let rtnl = Rtnl::lock(&space);
            let wanted = Wanted { priority: metric, ..through(&devices[device], prefix, false) };
            if numbers.next(3) > 0 {
                let added = change::add(net, &wanted, MODE_APPEND, &Origin::default());
                let is_known =
                    model.iter().any(|other| (other.0, other.1, other.3) == (prefix, metric, device));
                assert_eq!(added.is_err(), is_known, "{prefix:?} {metric} {device}");
                if !is_known {
                    model.push((prefix, metric, step, device));
                }
            } else {
                // Metric 0 in a request to delete stands for any.
                let meant = |other: &Modelled| {
                    other.0 == prefix && other.3 == device && (metric == 0 || other.1 == metric)
                };
                let mut all: Vec<Modelled> = model.iter().copied().filter(meant).collect();
                all.sort_unstable_by_key(|other| (other.1, other.2));
                let removed = change::delete(net, &wanted, &Origin::default());
                assert_eq!(removed.is_ok(), !all.is_empty());
                if let Some(gone) = all.first() {
                    model.retain(|other| other != gone);
                }
            }
            drop(rtnl);
            let to = Ipv4Addr::from_bits((numbers.next(4) << 30 | numbers.next(8) << 8) as u32 | 1 << 24);
            let best = model
                .iter()
                .filter(|other| other.0.covers(key_of(to.into())))
                .min_by_key(|other| (core::cmp::Reverse(other.0.length), other.1, other.2));
            if to.is_multicast() || to.octets()[0] == 0 {
                continue;
            }
            match (route::output(net, &Flow::to(to.into())), best) {
                (Ok(found), Some(best)) => {
                    assert_eq!(found.prefix, best.0);
                    assert!(Arc::ptr_eq(&found.device, &devices[best.3]));
                }
                (Err(error), None) => assert_eq!(error, abi::Errno::ENETUNREACH),
                (found, best) => panic!("{to}: {:?} {best:?}", found.map(|found| found.prefix)),
            }
        }
        assert!(model.len() > 50);
        // A device that goes takes its own routes along and no others.
        registry::unregister(&Rtnl::lock(&space), core::slice::from_ref(&devices[1]), &Origin::default());
        let left = net.ip.control.tables4.get(RT_TABLE_MAIN).unwrap().len();
        assert_eq!(left, model.iter().filter(|other| other.3 != 1).count());
    });
}

#[test]
fn equal_ways_share_by_weight() {
    simulate(|| {
        let (space, devices) = namespace(2);
        let net = space.state();
        give(&space, &devices[0], "10.0.0.1", 24);
        give(&space, &devices[1], "10.0.1.1", 24);
        let way =
            |gateway: &str, weight| WantedHop { gateway: Some(ip(gateway)), weight, ..WantedHop::default() };
        let wanted = Wanted {
            is_multipath: true,
            hops: [way("10.0.0.9", 0), way("10.0.1.9", 2)].into_iter().collect(),
            ..Wanted::to(false, Prefix::new(0, 0))
        };
        change::add(net, &wanted, MODE_APPEND, &Origin::default()).unwrap();
        let mut second = 0;
        for number in 0..4000u32 {
            let hash = number.wrapping_mul(0x9e37_79b9) | 1;
            let found = route::output(net, &Flow { hash, ..Flow::to(ip("8.8.8.8")) }).unwrap();
            second += usize::from(found.gateway == Some(ip("10.0.1.9")));
        }
        assert!((2800..3200).contains(&second), "{second} of 4000");
        // With one device down all takes the other way.
        let rtnl = Rtnl::lock(&space);
        set_flags(&rtnl, &devices[1], devices[1].flags() & !abi::rtnetlink::IFF_UP).unwrap();
        drop(rtnl);
        for hash in [1, u32::MAX] {
            let found = route::output(net, &Flow { hash, ..Flow::to(ip("8.8.8.8")) }).unwrap();
            assert_eq!(found.gateway, Some(ip("10.0.0.9")));
        }
    });
}

#[test]
fn what_paths_taught_is_bounded_and_lowers_mtus() {
    simulate(|| {
        let (space, devices) = namespace(1);
        let net = space.state();
        give(&space, &devices[0], "10.0.0.1", 8);
        for number in 0..10_000u32 {
            let to = Ipv4Addr::from_bits(0x0a00_0000 + 256 + number);
            route::note_path_mtu(net, to.into(), &devices[0], 1000);
        }
        let known = (0..10_000u32)
            .filter(|number| {
                let to = Ipv4Addr::from_bits(0x0a00_0000 + 256 + number);
                route::output(net, &Flow::to(to.into())).unwrap().mtu == 1000
            })
            .count();
        assert_eq!(known, 4096);
        route::note_path_mtu(net, ip("10.9.9.9"), &devices[0], 100);
        assert_eq!(route::output(net, &Flow::to(ip("10.9.9.9"))).unwrap().mtu, 552);
    });
}

#[test]
fn a_namespace_with_all_of_it_ends_without_a_trace() {
    simulate(|| {
        let (space, devices) = namespace(2);
        give(&space, &devices[0], "10.0.0.1", 24);
        give(&space, &devices[0], "2001:db8::1", 64);
        let rtnl = Rtnl::lock(&space);
        for number in 0..200u32 {
            let prefix = network_of(Ipv4Addr::from_bits(0x0b00_0000 + (number << 8)).into(), 24);
            let wanted = through(&devices[1], prefix, false);
            change::add(space.state(), &wanted, MODE_APPEND, &Origin::default()).unwrap();
        }
        drop(rtnl);
        let state = Arc::downgrade(space.state());
        let device = Arc::downgrade(&devices[1]);
        drop((devices, space));
        lifetime::clean_queued();
        sched::work::flush().unwrap();
        // What readers could see goes after a grace period, and what that held after another.
        for _ in 0..4 {
            machine::sync::rcu::synchronize();
            machine::sync::rcu::barrier();
        }
        assert_eq!((device.strong_count(), state.strong_count()), (0, 0));
    });
}
