//! Devices and namespaces on the simulated machine: names, moves, the end of a namespace, packets through a pair.

use super::*;
use crate::ids::{self, Wanted};
use crate::lifetime;
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use crate::packet::PacketKind;
use registry::Arrival;
use std::vec;

pub(crate) fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text.as_bytes()).unwrap()
}

pub(crate) fn namespace() -> Arc<NetNamespace> {
    NetNamespace::create(security::initial_namespace()).unwrap()
}

fn dummy_in(namespace: &NetNamespace, text: &str) -> Arc<NetDevice> {
    let device = dummy::create(namespace.state(), None).unwrap();
    registry::register(&Rtnl::lock(namespace), &device, name(text), None).unwrap();
    device
}

/// A pair, each end in a namespace.
pub(crate) fn pair(one: &NetNamespace, other: &NetNamespace) -> (Arc<NetDevice>, Arc<NetDevice>) {
    let rtnl = Rtnl::lock_all(&[one, other]);
    let ends = (veth::create(one.state(), None).unwrap(), veth::create(other.state(), None).unwrap());
    registry::register(&rtnl, &ends.0, name("v%d"), None).unwrap();
    registry::register(&rtnl, &ends.1, name("v%d"), None).unwrap();
    veth::without_carrier(&ends.0);
    veth::without_carrier(&ends.1);
    veth::join(&ends.0, &ends.1);
    ends
}

pub(crate) fn simulate(test: impl FnOnce() + Send + 'static) {
    sched::host::run(7, 2, || {
        // Made before the first program on a real machine, and not by two workers at once.
        NetNamespace::initial();
        test();
    });
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
                Some(device) => {
                    registry::destroy(&device, &Origin::default());
                }
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
        drop(rtnl);
        registry::destroy(&first, &Origin::default()).unwrap();
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
        impl taps::Tap for Ear {
            fn number(&self) -> u64 {
                1
            }
            fn notify(&self, _device: &Arc<NetDevice>, _event: DeviceEvent) {}
            fn take(&self, _device: &Arc<NetDevice>, packet: &Packet, direction: taps::Direction) {
                // Not what IP says by itself when a device comes up.
                if direction != taps::Direction::In || packet.protocol != 0x1234 {
                    return;
                }
                self.0.lock().push((packet.len(), packet.kind, packet.protocol));
            }
        }
        let ear = Arc::new(Ear(SpinLock::new(Vec::new())));
        far.taps().add(abi::packet::ETH_P_ALL, ear.clone()).unwrap();
        let rtnl = Rtnl::lock_all(&[&here, &there]);
        set_flags(&rtnl, &near, linux::IFF_UP).unwrap();
        assert!(!near.has_carrier());
        set_flags(&rtnl, &far, linux::IFF_UP).unwrap();
        assert!(near.has_carrier() && far.has_carrier());
        let (sent, received) = (near.statistics.sums(), far.statistics.sums());
        traffic::transmit(&near, frame()).unwrap();
        assert_eq!(*ear.0.lock(), [(3, PacketKind::Broadcast, 0x1234)]);
        assert_eq!(near.statistics.sums().tx_packets, sent.tx_packets + 1);
        assert_eq!(far.statistics.sums().rx_packets, received.rx_packets + 1);
        // Nobody speaks that protocol.
        assert_eq!(far.statistics.sums().rx_dropped, received.rx_dropped + 1);
        set_flags(&rtnl, &far, 0).unwrap();
        assert!(!near.has_carrier());
        let dropped = near.statistics.sums().tx_dropped;
        traffic::transmit(&near, frame()).unwrap();
        assert_eq!(near.statistics.sums().tx_dropped, dropped + 1);
    });
}

/// What a device received, with its link header.
pub(crate) struct Ear(pub(crate) SpinLock<Vec<Vec<u8>>>);

impl taps::Tap for Ear {
    fn number(&self) -> u64 {
        1
    }
    fn notify(&self, _device: &Arc<NetDevice>, _event: DeviceEvent) {}
    fn take(&self, _device: &Arc<NetDevice>, packet: &Packet, direction: taps::Direction) {
        // Not what IP says by itself when a device comes up.
        let frame = packet.from_link_header();
        let is_ours = |place: usize| frame.get(place..place + 2) == Some(&[0x12, 0x34]);
        if direction == taps::Direction::In && (is_ours(12) || is_ours(16)) {
            self.0.lock().push(frame.to_vec());
        }
    }
}

pub(crate) fn listen(device: &NetDevice) -> Arc<Ear> {
    let ear = Arc::new(Ear(SpinLock::new(Vec::new())));
    device.taps().add(abi::packet::ETH_P_ALL, ear.clone()).unwrap();
    ear
}

pub(crate) fn send(device: &Arc<NetDevice>, bytes: &[u8]) {
    let mut packet = Packet::with_room(16, bytes.len()).unwrap();
    packet.append(bytes).unwrap();
    traffic::transmit(device, packet).unwrap();
}

/// IFLA_INFO_DATA of attributes, as bytes.
fn data(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for (kind, value) in attributes {
        bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = bytes.len() as u16;
    bytes[..2].copy_from_slice(&length.to_ne_bytes());
    bytes[2..4].copy_from_slice(&linux::IFLA_INFO_DATA.to_ne_bytes());
    bytes
}

/// Makes a device of a kind on another.
fn make_on(
    space: &Arc<NetNamespace>,
    lower: &Arc<NetDevice>,
    kind: &'static LinkKind,
    options: &[(u16, &[u8])],
) -> Outcome<Arc<NetDevice>> {
    let bytes = data(options);
    let attributes = Default::default();
    let nest = linnet_lib::netlink::AttributeIter::new(&bytes, 0).next();
    (kind.validate)(&attributes, nest)?;
    let below = lower.namespace();
    let rtnl = Rtnl::lock_all(&[space, &below]);
    let new = NewLink {
        namespace: space.state(),
        address: None,
        attributes: &attributes,
        data: nest,
        lower: Ok(lower.clone()),
    };
    let device = (kind.create)(&new)?;
    registry::register(&rtnl, &device, name("x%d"), None)?;
    if let Err(failure) = (kind.attach)(&rtnl, &device, &new) {
        registry::unregister(&rtnl, core::slice::from_ref(&device), &Origin::default());
        return Err(failure);
    }
    Ok(device)
}

fn up(device: &Arc<NetDevice>) {
    rtnl::with_pair(device, &[], |rtnl| set_flags(rtnl, device, linux::IFF_UP)).unwrap().unwrap();
}

#[test]
fn vlans_put_tags_on_and_take_them_off() {
    simulate(|| {
        let (here, there, third) = (namespace(), namespace(), namespace());
        let (near, far) = pair(&here, &there);
        let tag = |number: u16| make_on(&here, &near, &vlan::KIND, &[(1, &number.to_ne_bytes())]);
        let one = tag(5).unwrap();
        assert_eq!(tag(5).err().unwrap().errno, Errno::EEXIST);
        assert_eq!(tag(4095).err().unwrap().errno, Errno::ERANGE);
        // The far end's VLAN lives in a third namespace.
        let two = make_on(&third, &far, &vlan::KIND, &[(1, &5u16.to_ne_bytes())]).unwrap();
        let refused = rtnl::with_pair(&one, &[], |rtnl| set_flags(rtnl, &one, linux::IFF_UP));
        assert_eq!(refused.unwrap().unwrap_err().errno, Errno::ENETDOWN);
        up(&near);
        up(&far);
        up(&one);
        sched::work::flush().unwrap();
        assert!(one.is_up() && two.is_up() && two.has_carrier());
        let (raw, ear) = (listen(&far), listen(&two));
        let mut frame = two.address().to_vec();
        frame.extend(one.address());
        frame.extend([0x12, 0x34, 1, 2, 3]);
        send(&one, &frame);
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!((&*raw.0.lock(), &*ear.0.lock()), (&vec![tagged.clone()], &vec![frame]));
        // Pieces of it, of which two are whole headers, and a VLAN that is not there.
        for length in 0..20 {
            send(&near, &tagged[..length]);
        }
        tagged[15] = 6;
        send(&near, &tagged);
        assert_eq!(ear.0.lock().len(), 3);
        // The lower device goes down, its VLANs too, wherever they are; it goes, and they go.
        rtnl::with_pair(&far, &[], |rtnl| set_flags(rtnl, &far, 0)).unwrap().unwrap();
        sched::work::flush().unwrap();
        assert!(!two.is_up() && one.is_up() && !one.has_carrier());
        registry::destroy(&near, &Origin::default()).unwrap();
        assert!(!one.is_registered() && !two.is_registered() && !far.is_registered());
        assert_eq!((here.devices.len(), third.devices.len()), (1, 1));
    });
}

#[test]
fn macvlans_are_told_apart_by_address() {
    simulate(|| {
        let (here, there, third) = (namespace(), namespace(), namespace());
        let (near, far) = pair(&here, &there);
        let bridge = [(1, &4u32.to_ne_bytes()[..])];
        let one = make_on(&here, &near, &macvlan::KIND, &bridge).unwrap();
        let two = make_on(&third, &near, &macvlan::KIND, &bridge).unwrap();
        let passthru = make_on(&here, &near, &macvlan::KIND, &[(1, &8u32.to_ne_bytes()[..])]);
        assert_eq!(passthru.err().unwrap().errno, Errno::EINVAL);
        [&near, &far, &one, &two].into_iter().for_each(up);
        let ears = [&near, &far, &one, &two].map(|device| listen(device));
        let heard = || ears.each_ref().map(|ear| core::mem::take(&mut *ear.0.lock()).len());
        let frame = |to: &[u8], from: &NetDevice| {
            let mut frame = to.to_vec();
            frame.extend(from.address());
            frame.extend([0x12, 0x34, 1]);
            frame
        };
        send(&far, &frame(&two.address(), &far));
        assert_eq!(heard(), [1, 0, 0, 1]);
        // Among themselves without the lower device.
        send(&one, &frame(&two.address(), &one));
        assert_eq!(heard(), [0, 0, 0, 1]);
        send(&one, &frame(&[0xff; 6], &one));
        assert_eq!(heard(), [0, 1, 0, 1]);
        send(&far, &frame(&[0xff; 6], &far));
        assert_eq!(heard(), [1, 0, 1, 1]);
        // Its frames go to nobody else.
        let other = bridge::tests::bridge_in(&here, "br0");
        let enslaved = other.operations().enslave(&Rtnl::lock(&here), &other, &near).unwrap_err();
        assert_eq!(enslaved.errno, Errno::EBUSY);
        registry::destroy(&one, &Origin::default()).unwrap();
        drop(third);
        lifetime::clean_queued();
        sched::work::flush().unwrap();
        assert!(!two.is_registered() && near.handler.is_none() && near.is_registered());
    });
}

#[test]
fn devices_lie_on_each_other_within_bounds() {
    simulate(|| {
        let space = namespace();
        let mut at = dummy_in(&space, "d0");
        for number in 1..8u16 {
            at = make_on(&space, &at, &vlan::KIND, &[(1, &number.to_ne_bytes())]).unwrap();
        }
        let deeper = make_on(&space, &at, &vlan::KIND, &[(1, &9u16.to_ne_bytes())]);
        assert_eq!(deeper.err().unwrap().errno, Errno::EMLINK);
        // A circle: a VLAN of a bridge as its port.
        let bridge = bridge::tests::bridge_in(&space, "br0");
        let on_it = make_on(&space, &bridge, &vlan::KIND, &[(1, &1u16.to_ne_bytes())]).unwrap();
        let circle = bridge.operations().enslave(&Rtnl::lock(&space), &bridge, &on_it).unwrap_err();
        assert_eq!(circle.errno, Errno::EBUSY);
        // All goes with the lowest.
        let lowest = space.devices.by_name(b"d0").unwrap();
        registry::destroy(&lowest, &Origin::default()).unwrap();
        assert_eq!(space.devices.len(), 3);
    });
}
