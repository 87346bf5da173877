//! Internet sockets on the simulated machine: datagrams over the loopback, many sockets at one port, garbage from below.

use abi::errno::{Errno, Result};
use abi::inet::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::sync::Arc;
use core::net::IpAddr;
use machine::sync::SpinLock;
use mm::io::{SliceReader, SliceWriter};
use security::Credentials;
use std::vec;
use std::vec::Vec;

use super::address::Endpoint;
use super::network::Received;
use super::{ping, raw, udp};
use crate::device::tests::{namespace, simulate};
use crate::device::{Rtnl, set_flags};
use crate::ip::input::IcmpError;
use crate::ip::route::RouteKind;
use crate::message::{Ancillary, MessageFlags, ReceiveMessage, SendMessage, SocketAddress};
use crate::namespace::NetNamespace;
use crate::options::Switches;
use crate::packet::Packet;
use crate::socket::{Socket, SocketKind};

/// A namespace whose loopback is up.
fn network() -> Arc<NetNamespace> {
    let space = namespace();
    let lo = space.devices().by_index(1).unwrap();
    set_flags(&Rtnl::lock(&space), &lo, abi::rtnetlink::IFF_UP).unwrap();
    space
}

fn open(space: &Arc<NetNamespace>, family: u32) -> Arc<Socket> {
    super::create(family, SocketKind::Datagram, 0, space, &Credentials::initial()).unwrap()
}

fn place(family: u32, text: &str, port: u16) -> SocketAddress {
    Endpoint::new(text.parse().unwrap(), port).to_socket_address(family as u16)
}

fn send(socket: &Socket, to: SocketAddress, bytes: &[u8]) -> Result<usize> {
    let mut message = SendMessage {
        address: to,
        data: &mut SliceReader::new(bytes),
        ancillary: Ancillary::default(),
        flags: MessageFlags::DONTWAIT,
    };
    socket.operations().send(socket, &mut message)
}

fn receive(socket: &Socket) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 70_000];
    let mut writer = SliceWriter::new(&mut bytes);
    let count = {
        let mut message = ReceiveMessage::new(&mut writer, MessageFlags::DONTWAIT);
        socket.operations().receive(socket, &mut message)?
    };
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn datagrams_go_over_the_loopback() {
    simulate(|| {
        let space = network();
        for (family, text) in [(AF_INET, "127.0.0.1"), (AF_INET6, "::1"), (AF_INET6, "127.0.0.1")] {
            let (one, other) = (open(&space, family), open(&space, family));
            one.operations().bind(&one, &place(family, text, 5000)).unwrap();
            for size in [0, 1, 1000, 65_000] {
                let bytes = vec![b'x'; size];
                assert_eq!(send(&other, place(family, text, 5000), &bytes), Ok(size));
                assert_eq!(receive(&one), Ok(bytes));
            }
            assert_eq!(receive(&one), Err(Errno::EAGAIN));
            one.operations().release(&one);
            // Nobody is there any more: who is connected is told.
            other.operations().connect(&other, &place(family, text, 5000), false).unwrap();
            assert_eq!(send(&other, SocketAddress::NONE, b"x"), Ok(1));
            assert_eq!(receive(&other), Err(Errno::ECONNREFUSED));
            other.operations().release(&other);
        }
        assert!(space.inet().udp.table.is_empty() && space.inet().udp.ports.lock().is_empty());
        assert!(space.inet().next_from(0).is_none());
    });
}

#[test]
fn a_namespace_ends_with_its_last_socket() {
    simulate(|| {
        let space = network();
        let state = Arc::downgrade(space.state());
        let socket = open(&space, AF_INET);
        socket.operations().bind(&socket, &place(AF_INET, "127.0.0.1", 5000)).unwrap();
        send(&socket, place(AF_INET, "127.0.0.1", 5000), b"to itself, never read").unwrap();
        drop(space);
        socket.operations().release(&socket);
        drop(socket);
        crate::lifetime::clean_queued();
        machine::sync::rcu::barrier();
        assert!(state.upgrade().is_none());
    });
}

#[test]
fn many_sockets_at_one_port_are_told_apart() {
    simulate(|| {
        const COUNT: u32 = 600;
        let space = network();
        let address = |number: u32| std::format!("127.{}.{}.9", number / 250, number % 250 + 1);
        let sender = open(&space, AF_INET);
        let all: Vec<Arc<Socket>> = (0..COUNT)
            .map(|number| {
                let socket = open(&space, AF_INET);
                socket.operations().bind(&socket, &place(AF_INET, &address(number), 6000)).unwrap();
                socket
            })
            .collect();
        let another = open(&space, AF_INET);
        let taken = another.operations().bind(&another, &place(AF_INET, "0.0.0.0", 6000));
        assert_eq!(taken, Err(Errno::EADDRINUSE));
        for number in [0, 1, COUNT / 2, COUNT - 1] {
            send(&sender, place(AF_INET, &address(number), 6000), b"x").unwrap();
            assert_eq!(receive(&all[number as usize]), Ok(b"x".to_vec()));
        }
        assert!(all.iter().all(|socket| receive(socket) == Err(Errno::EAGAIN)));
        all.iter().for_each(|socket| socket.operations().release(socket));
        another.operations().bind(&another, &place(AF_INET, "0.0.0.0", 6000)).unwrap();
    });
}

#[test]
fn a_shared_port_is_spread_over_its_sockets() {
    simulate(|| {
        let space = network();
        let all: Vec<Arc<Socket>> = (0..8)
            .map(|_| {
                let socket = open(&space, AF_INET);
                socket.core().options.switch(Switches::REUSEPORT, true);
                socket.operations().bind(&socket, &place(AF_INET, "127.0.0.1", 7000)).unwrap();
                socket
            })
            .collect();
        for _ in 0..64 {
            let sender = open(&space, AF_INET);
            send(&sender, place(AF_INET, "127.0.0.1", 7000), b"x").unwrap();
            sender.operations().release(&sender);
        }
        let counts: Vec<usize> =
            all.iter().map(|socket| std::iter::from_fn(|| receive(socket).ok()).count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 64);
        assert!(counts.iter().filter(|count| **count > 0).count() > 3, "{counts:?}");
        all.iter().for_each(|socket| socket.operations().release(socket));
    });
}

#[test]
fn garbage_from_below_hurts_nobody() {
    simulate(|| {
        let space = network();
        let device = space.devices().by_index(1).unwrap();
        let who = Credentials::initial();
        let mut listeners = vec![open(&space, AF_INET), open(&space, AF_INET6)];
        for (family, protocol) in [(AF_INET, 1), (AF_INET6, 58), (AF_INET, 17), (AF_INET6, 17)] {
            listeners.push(super::create(family, SocketKind::Raw, protocol, &space, &who).unwrap());
        }
        listeners[0].operations().bind(&listeners[0], &place(AF_INET, "0.0.0.0", 0x4141)).unwrap();
        let addresses: [IpAddr; 2] = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let seed = SpinLock::new(0x1234_5678_9abc_def0_u64);
        let next = || {
            let mut seed = seed.lock();
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            *seed
        };
        for _ in 0..3000 {
            let bytes: Vec<u8> =
                (0..next() % 40).map(|_| if next() % 2 == 0 { 0x41 } else { next() as u8 }).collect();
            let address = addresses[(next() % 2) as usize];
            let protocol = [IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6][(next() % 3) as usize];
            let mut packet = Packet::with_room(64, bytes.len()).unwrap();
            packet.append(&bytes).unwrap();
            packet.mark_network_header();
            let received = Received {
                net: space.state().clone(),
                source: address,
                destination: address,
                hop_limit: 1,
                traffic_class: 0,
                route_kind: [RouteKind::Local, RouteKind::Broadcast, RouteKind::Multicast]
                    [(next() % 3) as usize],
                device: device.clone(),
                protocol,
            };
            raw::receive(&packet, &received, protocol);
            ping::receive(&packet, &received);
            udp::receive(packet, &received);
            let error = IcmpError {
                net: space.state().clone(),
                source: address,
                destination: address,
                offender: address,
                device: device.clone(),
                kind: next() as u8 % 16,
                code: next() as u8 % 16,
                info: next() as u32,
            };
            udp::error(&error, &bytes);
            ping::error(&error, &bytes);
            raw::error(&error, protocol, &bytes);
        }
        for listener in &listeners {
            while receive(listener).is_ok() {}
            // What waits is bounded.
            assert!(listener.core().receive_charged() <= listener.core().options.receive_buffer() + 4096);
            listener.operations().release(listener);
        }
    });
}

/// However senders are moved between processors: what was sent to this machine is there when the call is over, in one piece or in many.
#[test]
fn what_is_sent_is_there() {
    sched::host::run_seeds(24, 2, || {
        NetNamespace::initial();
        let space = network();
        let lo = space.devices().by_index(1).unwrap();
        assert!(crate::device::set_mtu(&Rtnl::lock(&space), &lo, 1500).is_ok());
        let crew = sched::host::Crew::new();
        for number in 0..3_u16 {
            let space = space.clone();
            crew.spawn("sender", move || {
                let (family, text) = [(AF_INET, "127.0.0.1"), (AF_INET6, "::1")][usize::from(number) % 2];
                let (one, other) = (open(&space, family), open(&space, family));
                one.operations().bind(&one, &place(family, text, 5000 + number)).unwrap();
                for size in [1, 4000, 20_000] {
                    let bytes = vec![number as u8; size];
                    assert_eq!(send(&other, place(family, text, 5000 + number), &bytes), Ok(size));
                    assert_eq!(receive(&one), Ok(bytes));
                }
                one.operations().release(&one);
                other.operations().release(&other);
            });
        }
        crew.join();
    });
}
