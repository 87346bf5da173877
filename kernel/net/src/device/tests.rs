//! Devices and namespaces on the simulated machine: names, moves, the end of a namespace, packets through a pair.

use super::*;
use crate::ids::{self, Wanted};
use crate::lifetime;
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use crate::packet::PacketKind;
use registry::Arrival;

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text.as_bytes()).unwrap()
}

fn namespace() -> Arc<NetNamespace> {
    NetNamespace::create(security::initial_namespace()).unwrap()
}

fn dummy_in(namespace: &NetNamespace, text: &str) -> Arc<NetDevice> {
    let device = dummy::create(namespace.state(), None).unwrap();
    registry::register(&Rtnl::lock(namespace), &device, name(text), None).unwrap();
    device
}

/// A pair, each end in a namespace.
fn pair(one: &NetNamespace, other: &NetNamespace) -> (Arc<NetDevice>, Arc<NetDevice>) {
    let rtnl = Rtnl::lock_all(&[one, other]);
    let ends = (veth::create(one.state(), None).unwrap(), veth::create(other.state(), None).unwrap());
    registry::register(&rtnl, &ends.0, name("v%d"), None).unwrap();
    registry::register(&rtnl, &ends.1, name("v%d"), None).unwrap();
    veth::without_carrier(&ends.0);
    veth::without_carrier(&ends.1);
    veth::join(&ends.0, &ends.1);
    ends
}

fn simulate(test: impl FnOnce() + Send + 'static) {
    sched::host::run(7, 2, test);
}

/// The first free number is what trying each would find, whatever other names there are.
#[test]
fn a_pattern_gets_the_lowest_free_number() {
    simulate(|| {
        let space = namespace();
        for other in ["d", "d07", "d1x", "e0", "e2", "dd0", "d0000000000", "d4294967295"] {
            dummy_in(&space, other);
        }
        let mut state = 1u32;
        for _ in 0..300 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (state >> 16) % 40;
            let named = alloc::format!("d{number}");
            match space.devices.by_name(named.as_bytes()) {
                Some(device) => registry::delete(&Rtnl::lock(&space), &device, &Origin::default()),
                None => _ = dummy_in(&space, &named),
            }
            for (before, pattern) in [(&b"d"[..], "d%d"), (b"e", "e%d"), (b"", "%d"), (b"d1", "d1%d")] {
                let is_free = |number: &u32| {
                    let tried = InterfaceName::numbered(before, *number, b"").unwrap();
                    space.devices.by_name(tried.as_bytes()).is_none()
                };
                let lowest = (0..).find(is_free).unwrap();
                let expected = InterfaceName::numbered(before, lowest, b"").unwrap();
                assert_eq!(registry::resolve_name(&space, name(pattern)), Ok(expected));
            }
        }
    });
}

#[test]
fn names_are_found_and_become_free() {
    simulate(|| {
        let space = namespace();
        let first = dummy_in(&space, "d%d");
        let second = dummy_in(&space, "d%d");
        assert_eq!((first.name(), second.name()), (name("d0"), name("d1")));
        assert_eq!((first.index(), second.index()), (2, 3));
        let rtnl = Rtnl::lock(&space);
        registry::rename(&rtnl, &first, name("other")).unwrap();
        registry::add_alternative(&rtnl, &first, b"a-rather-long-alternative-name").unwrap();
        assert_eq!(registry::add_alternative(&rtnl, &second, b"other"), Err(Errno::EEXIST));
        assert!(space.devices.by_name(b"d0").is_none());
        assert_eq!(space.devices.by_name(b"a-rather-long-alternative-name").unwrap().index(), 2);
        registry::delete(&rtnl, &first, &Origin::default());
        assert!(space.devices.by_name(b"other").is_none());
        assert!(space.devices.by_name(b"a-rather-long-alternative-name").is_none());
        assert_eq!(space.devices.len(), 2);
    });
}

#[test]
fn a_device_moves() {
    simulate(|| {
        let (here, there) = (namespace(), namespace());
        let device = dummy_in(&here, "d0");
        let _taken = dummy_in(&there, "d0");
        let rtnl = Rtnl::lock_all(&[&here, &there]);
        let mut arrival = Arrival { namespace: there.state(), fallback: None, index: None };
        assert_eq!(registry::move_to(&rtnl, &device, &arrival).unwrap_err().errno, Errno::EEXIST);
        arrival.fallback = Some(name("e%d"));
        registry::move_to(&rtnl, &device, &arrival).unwrap();
        assert_eq!((device.name(), device.index()), (name("e0"), 3));
        assert!(here.devices.by_name(b"d0").is_none());
        let loopback = here.devices.by_index(1).unwrap();
        assert_eq!(registry::move_to(&rtnl, &loopback, &arrival).unwrap_err().errno, Errno::EINVAL);
    });
}

#[test]
fn a_namespace_ends() {
    simulate(|| {
        let (here, there) = (namespace(), namespace());
        let (near, far) = pair(&here, &there);
        ids::allocate(here.state(), there.state(), Wanted::Lowest, Origin::default()).unwrap();
        ids::allocate(there.state(), here.state(), Wanted::Exactly(5), Origin::default()).unwrap();
        let state = there.state().clone();
        drop(there);
        assert!(state.live().is_none());
        lifetime::clean_queued();
        sched::work::flush().unwrap();
        assert_eq!(here.ids.counts(), (0, 0));
        assert!(!near.is_registered() && !far.is_registered());
        assert_eq!((here.devices.len(), state.devices.len()), (1, 0));
        drop((near, far));
        // Nothing keeps the state of what is gone but this test.
        assert_eq!(Arc::strong_count(&state), 1);
    });
}

#[test]
fn a_namespace_is_small() {
    let sizes = size_of::<NetState>() + size_of::<NetNamespace>() + size_of::<NetDevice>() + 1024;
    assert!(sizes < 16 << 10, "{sizes} bytes for a namespace with its loopback");
}

#[test]
fn packets_go_through_a_pair() {
    simulate(|| {
        let (here, there) = (namespace(), namespace());
        let (near, far) = pair(&here, &there);
        let frame = || {
            let mut packet = Packet::with_room(16, 64).unwrap();
            packet.append(&[0xff; 6]).unwrap();
            packet.append(&near.address()).unwrap();
            packet.append(&[0x12, 0x34, 1, 2, 3]).unwrap();
            packet
        };
        assert_eq!(traffic::transmit(&near, frame()), Err(Errno::ENETDOWN));
        struct Ear(SpinLock<Vec<(usize, PacketKind, u16)>>);
        impl traffic::Tap for Ear {
            fn take(&self, packet: &Packet) {
                self.0.lock().push((packet.len(), packet.kind, packet.protocol));
            }
        }
        let ear = Arc::new(Ear(SpinLock::new(Vec::new())));
        far.taps().add(ear.clone()).unwrap();
        let rtnl = Rtnl::lock_all(&[&here, &there]);
        set_flags(&rtnl, &near, linux::IFF_UP).unwrap();
        assert!(!near.has_carrier());
        set_flags(&rtnl, &far, linux::IFF_UP).unwrap();
        assert!(near.has_carrier() && far.has_carrier());
        traffic::transmit(&near, frame()).unwrap();
        assert_eq!(*ear.0.lock(), [(3, PacketKind::Broadcast, 0x1234)]);
        assert_eq!((near.statistics.sums().tx_packets, far.statistics.sums().rx_packets), (1, 1));
        // Nobody speaks that protocol.
        assert_eq!(far.statistics.sums().rx_dropped, 1);
        set_flags(&rtnl, &far, 0).unwrap();
        assert!(!near.has_carrier());
        traffic::transmit(&near, frame()).unwrap();
        assert_eq!(near.statistics.sums().tx_dropped, 1);
    });
}
