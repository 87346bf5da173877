//! A bridge between namespaces on the simulated machine, against a model of a learning bridge; garbage from the wire; ends.

use super::*;
use crate::device::registry;
use crate::device::tests::{Ear, listen, name, namespace, pair, send, simulate};
use crate::device::{set_address, set_flags};
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;

/// A host at the far end of a port.
struct Host {
    _space: Arc<NetNamespace>,
    device: Arc<NetDevice>,
    port: Arc<NetDevice>,
    ear: Arc<Ear>,
}

impl Host {
    fn heard(&self) -> Vec<Vec<u8>> {
        core::mem::take(&mut *self.ear.0.lock())
    }
}

struct Net {
    home: Arc<NetNamespace>,
    bridge: Arc<NetDevice>,
    ear: Arc<Ear>,
    hosts: Vec<Host>,
}

pub(crate) fn bridge_in(space: &Arc<NetNamespace>, text: &str) -> Arc<NetDevice> {
    let attributes = Default::default();
    let new = NewLink {
        namespace: space.state(),
        address: None,
        attributes: &attributes,
        data: None,
        lower: Err(abi::errno::Errno::EINVAL),
    };
    let device = create(&new).unwrap();
    registry::register(&Rtnl::lock(space), &device, name(text), None).unwrap();
    device
}

fn net(count: usize) -> Net {
    let home = namespace();
    let bridge = bridge_in(&home, "br0");
    set_flags(&Rtnl::lock(&home), &bridge, linux::IFF_UP).unwrap();
    let hosts = (0..count).map(|_| host(&home, &bridge)).collect();
    Net { ear: listen(&bridge), home, bridge, hosts }
}

fn host(home: &Arc<NetNamespace>, bridge: &Arc<NetDevice>) -> Host {
    let space = namespace();
    let (port, device) = pair(home, &space);
    let rtnl = Rtnl::lock_all(&[home, &space]);
    port::enslave(&rtnl, bridge, &port).unwrap();
    set_flags(&rtnl, &port, linux::IFF_UP).unwrap();
    set_flags(&rtnl, &device, linux::IFF_UP).unwrap();
    drop(rtnl);
    let ear = listen(&device);
    Host { _space: space, device, port, ear }
}

fn frame(destination: [u8; 6], source: [u8; 6], payload: u8) -> Vec<u8> {
    let mut bytes = Vec::from(destination);
    bytes.extend(source);
    bytes.extend([0x12, 0x34, payload]);
    bytes
}

fn own(device: &NetDevice) -> [u8; 6] {
    device.address().as_slice().try_into().unwrap()
}

#[test]
fn a_bridge_joins_namespaces() {
    simulate(|| {
        let net = net(3);
        let [a, b, c] = &net.hosts[..] else { unreachable!() };
        assert!(net.bridge.has_carrier());
        // Addresses that IP has not told the bridge of.
        let [at_a, at_b, at_c] = [1, 2, 3].map(|last| [2, 1, 1, 1, 1, last]);
        // To nobody known: to all but where it came from.
        let first = frame(at_b, at_a, 1);
        send(&a.device, &first);
        assert_eq!((a.heard(), b.heard(), c.heard()), (vec![], vec![first.clone()], vec![first]));
        // Back to who was heard.
        let second = frame(at_a, at_b, 2);
        send(&b.device, &second);
        assert_eq!((a.heard(), b.heard(), c.heard()), (vec![second], vec![], vec![]));
        // To all, and to the machine.
        assert_eq!(net.ear.0.lock().len(), 0);
        let third = frame([0xff; 6], at_c, 3);
        send(&c.device, &third);
        assert_eq!((a.heard(), b.heard(), c.heard()), (vec![third.clone()], vec![third.clone()], vec![]));
        assert_eq!(*net.ear.0.lock(), [third]);
        // From the machine.
        let fourth = frame(at_c, own(&net.bridge), 4);
        send(&net.bridge, &fourth);
        assert_eq!((a.heard(), b.heard(), c.heard()), (vec![], vec![], vec![fourth]));
        // To the machine: its address is the least of its ports'.
        let least = net.hosts.iter().map(|host| own(&host.port)).min().unwrap();
        assert_eq!(own(&net.bridge), least);
        let fifth = frame(least, at_a, 5);
        send(&a.device, &fifth);
        assert_eq!(net.ear.0.lock().len(), 2);
        assert_eq!((b.heard(), c.heard()), (vec![], vec![]));
    });
}

/// A frame with the tag of a VLAN in it.
fn tagged(frame: &[u8], vlan: u8) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat()
}

#[test]
fn vlans_keep_frames_apart() {
    use abi::link::{BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED};
    simulate(|| {
        let net = net(3);
        let [a, b, c] = &net.hosts[..] else { unreachable!() };
        let bridge = net.bridge.operations_as::<Bridge>().unwrap();
        bridge.set(Setting::VlanFiltering, 1);
        let add = |host: &Host, vlan, flags| {
            let port = bridge.port_of(&host.port).unwrap();
            assert!(bridge.add_vlan(&net.bridge, Some(&port), vlan, flags));
        };
        add(b, 5, 0);
        add(c, 5, BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
        let all = frame([0xff; 6], [2, 1, 1, 1, 1, 1], 1);
        // In the default VLAN all may hear it.
        send(&a.device, &all);
        assert_eq!((b.heard(), c.heard()), (vec![all.clone()], vec![all.clone()]));
        // Where it is not in it comes in by no port.
        send(&a.device, &tagged(&all, 5));
        assert_eq!((b.heard(), c.heard()), (vec![], vec![]));
        // The tag goes where it is not wanted, and comes where it is.
        send(&b.device, &tagged(&all, 5));
        assert_eq!((a.heard(), c.heard()), (vec![], vec![all.clone()]));
        send(&c.device, &all);
        assert_eq!((a.heard(), b.heard()), (vec![], vec![tagged(&all, 5)]));
        // What was learned in one is not known in another: in the default one the address is where it was first.
        let back = frame([2, 1, 1, 1, 1, 1], [2, 1, 1, 1, 1, 9], 2);
        send(&a.device, &back);
        assert_eq!(b.heard().len() + c.heard().len(), 0);
        let port = bridge.port_of(&b.port).unwrap();
        assert!(bridge.remove_vlan(&net.bridge, Some(&port), 5));
        send(&c.device, &all);
        assert_eq!((a.heard(), b.heard()), (vec![], vec![]));
    });
}

#[test]
fn what_a_port_may() {
    simulate(|| {
        let net = net(3);
        let [a, b, c] = &net.hosts[..] else { unreachable!() };
        let bridge = net.bridge.operations_as::<Bridge>().unwrap();
        let ports: Vec<_> = net.hosts.iter().map(|host| bridge.port_of(&host.port).unwrap()).collect();
        let unknown = frame([2, 0, 0, 0, 0, 99], own(&a.device), 1);
        ports[1].set(abi::link::IFLA_BRPORT_UNICAST_FLOOD, false);
        send(&a.device, &unknown);
        assert_eq!((a.heard().len(), b.heard().len(), c.heard().len()), (0, 0, 1));
        ports[0].set(abi::link::IFLA_BRPORT_MODE, true);
        send(&a.device, &unknown);
        assert_eq!((a.heard().len(), b.heard().len(), c.heard().len()), (1, 0, 1));
        for port in [0, 2] {
            ports[port].set(abi::link::IFLA_BRPORT_ISOLATED, true);
        }
        let all = frame([0xff; 6], own(&a.device), 1);
        send(&a.device, &all);
        assert_eq!((a.heard().len(), b.heard().len(), c.heard().len()), (1, 1, 0));
        // Addresses that bridges keep to themselves go no further, but for those that are let through.
        let lldp = frame([1, 0x80, 0xc2, 0, 0, 0x0e], own(&b.device), 1);
        send(&b.device, &lldp);
        assert_eq!((a.heard().len(), c.heard().len()), (0, 0));
        bridge.set(Setting::GroupForwardMask, 1 << 0x0e);
        send(&b.device, &lldp);
        assert_eq!((a.heard().len(), c.heard().len()), (1, 1));
        // A port that is down forgets.
        let knows = |device: &NetDevice| {
            let key = Key { vlan: 0, address: own(device) };
            bridge.table.read().route(&key, machine::time::now_ns(), bridge.ageing_ns()).is_some()
        };
        assert!(knows(&a.device) && knows(&b.device));
        let rtnl = Rtnl::lock_all(&[&net.home, &a._space, &b._space]);
        set_flags(&rtnl, &a.port, 0).unwrap();
        set_flags(&rtnl, &b.port, 0).unwrap();
        assert!(!knows(&a.device) && !knows(&b.device));
        assert_eq!(ports[0].state(), abi::link::BR_STATE_DISABLED);
        assert!(net.bridge.has_carrier());
    });
}

#[test]
fn ports_come_and_go() {
    simulate(|| {
        let mut net = net(2);
        let bridge = net.bridge.operations_as::<Bridge>().unwrap();
        let gone = net.hosts.remove(0);
        assert_eq!(gone.port.gauge(crate::device::Gauge::Promiscuity), 1);
        {
            let rtnl = Rtnl::lock(&net.home);
            let again = port::enslave(&rtnl, &net.bridge, &gone.port).unwrap_err();
            assert_eq!(again.errno, abi::errno::Errno::EBUSY);
            let other = bridge_in_locked(&rtnl, &net.home);
            let error = port::enslave(&rtnl, &net.bridge, &other).unwrap_err();
            assert_eq!(error.errno, abi::errno::Errno::ELOOP);
            registry::leave_master(&rtnl, &gone.port);
        }
        assert_eq!(gone.port.gauge(crate::device::Gauge::Promiscuity), 0);
        assert!(gone.port.adjacency.master().is_none() && gone.port.handler.is_none());
        assert_eq!(own(&net.bridge), own(&net.hosts[0].port));
        // The number is free again.
        let third = host(&net.home, &net.bridge);
        assert_eq!(bridge.port_of(&third.port).unwrap().number, 1);
        // The bridge goes, the ports stay.
        registry::destroy(&net.bridge, &Origin::default()).unwrap();
        assert!(third.port.adjacency.master().is_none() && third.port.is_registered());
        assert_eq!(third.port.gauge(crate::device::Gauge::AllMulticast), 0);
    });
}

fn bridge_in_locked(rtnl: &Rtnl<'_>, space: &Arc<NetNamespace>) -> Arc<NetDevice> {
    let attributes = Default::default();
    let lower = Err(abi::errno::Errno::EINVAL);
    let new = NewLink { namespace: space.state(), address: None, attributes: &attributes, data: None, lower };
    let device = create(&new).unwrap();
    registry::register(rtnl, &device, name("br%d"), None).unwrap();
    device
}

#[test]
fn a_namespace_with_a_bridge_ends() {
    simulate(|| {
        let net = net(3);
        let state = net.home.state().clone();
        let far: Vec<_> = net.hosts.iter().map(|host| host.device.clone()).collect();
        let Net { home, bridge, ear, hosts } = net;
        drop((bridge, ear));
        for host in hosts {
            send(&host.device, &frame([0xff; 6], own(&host.device), 1));
            host.device.taps().remove(abi::packet::ETH_P_ALL, 1);
            drop(host);
        }
        drop(home);
        crate::lifetime::clean_queued();
        sched::work::flush().unwrap();
        assert!(far.iter().all(|device| !device.is_registered()));
        drop(far);
        // What readers might have looked at goes after a grace period.
        machine::sync::rcu::synchronize();
        for _ in 0..100 {
            if Arc::strong_count(&state) == 1 {
                break;
            }
            let _ = sched::sleep::sleep_until(
                machine::time::now_ns() + 1_000_000,
                sched::WaitKind::Uninterruptible,
            );
            sched::work::flush().unwrap();
        }
        assert_eq!(Arc::strong_count(&state), 1, "something keeps the state of what is gone");
    });
}

#[test]
fn settings_follow_the_ports() {
    simulate(|| {
        let net = net(2);
        let rtnl = Rtnl::lock_all(&[&net.home, &net.hosts[0]._space, &net.hosts[1]._space]);
        crate::device::set_mtu(&rtnl, &net.hosts[0].port, 1400).unwrap();
        assert_eq!(net.bridge.mtu(), 1400);
        set_address(&rtnl, &net.hosts[1].port, &[2, 0, 0, 0, 0, 1]).unwrap();
        assert_eq!(own(&net.bridge), [2, 0, 0, 0, 0, 1]);
        // What the administrator sets stays.
        set_address(&rtnl, &net.bridge, &[2, 0, 0, 0, 0, 9]).unwrap();
        crate::device::set_mtu(&rtnl, &net.bridge, 1300).unwrap();
        crate::device::set_mtu(&rtnl, &net.hosts[0].port, 1200).unwrap();
        assert_eq!((own(&net.bridge), net.bridge.mtu()), ([2, 0, 0, 0, 0, 9], 1300));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What hosts hear of each other's frames is what a table of who was heard where says.
    #[test]
    fn it_forwards_as_the_model_does(steps in proptest::collection::vec((0..4usize, 0..6u8, 0..6u8), 1..60)) {
        simulate(move || {
            let net = net(4);
            let address = |number: u8| if number == 0 { [0xff; 6] } else { [2, 1, 1, 1, 1, number] };
            let mut places = BTreeMap::new();
            for (place, source, destination) in steps {
                let (source, destination) = (address(source.max(1)), address(destination));
                let bytes = frame(destination, source, 7);
                send(&net.hosts[place].device, &bytes);
                places.insert(source, place);
                let known = places.get(&destination);
                for (number, host) in net.hosts.iter().enumerate() {
                    let wanted = number != place && known.is_none_or(|known| *known == number);
                    prop_assert_eq_in(host.heard(), if wanted { vec![bytes.clone()] } else { vec![] });
                }
            }
        });
    }

    /// Nothing that comes over the wire hurts.
    #[test]
    fn garbage_passes(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..40)) {
        simulate(move || {
            let net = net(2);
            for bytes in &frames {
                send(&net.hosts[0].device, bytes);
            }
            let bridge = net.bridge.operations_as::<Bridge>().unwrap();
            // And the two hosts, by what IP says by itself.
            assert!(bridge.table.read().learned() <= frames.len() + 2);
        });
    }
}

fn prop_assert_eq_in(one: Vec<Vec<u8>>, other: Vec<Vec<u8>>) {
    assert_eq!(one, other);
}
