//! Packets in and out of devices.
//!
//! Key functions: [`transmit`], [`receive`]. Software devices do not call each other's receivers: what is received goes to
//! a queue of the CPU it happens on, at most [`BACKLOG_MAX`] long (what does not fit is dropped and counted), and is worked
//! off by the sender itself once it holds no spin lock and is not working one off already. So a chain of devices needs no more
//! stack than one, and a sender pays for what it causes.
//!
//! Contexts: any. Protocols and taps are called with preemption off and must not sleep. A sender who still holds a spin lock
//! leaves the work to its CPU's worker thread.
//! Locks: each CPU's queue, a leaf, interrupts off.

use abi::errno::{Errno, Result};
use abi::link::{ETH_P_8021AD, ETH_P_8021Q};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use machine::cpu::{self, CpuId, PerCpu};
use machine::preempt;
use machine::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::sync::{IrqSpinLock, Once};

use linnet_lib::wire::ethernet::{TYPE_ARP, TYPE_IPV4, TYPE_IPV6};

use super::NetDevice;
use super::statistics::Counted;
use super::taps::{self, Direction};
use super::vlan;
use crate::ip;
use crate::packet::Packet;

/// `net.core.netdev_max_backlog`.
pub static BACKLOG_MAX: AtomicUsize = AtomicUsize::new(1000);
/// How many packets are worked off before others may run on the CPU.
const BUDGET: usize = 64;
/// How many times so many before the rest is left to the CPU's worker, which lets other work pass in between.
const ROUNDS: usize = 32;

#[derive(Default)]
struct Backlog {
    queue: IrqSpinLock<VecDeque<Packet>>,
    /// It is being worked off, on its CPU and with preemption off.
    active: AtomicBool,
    /// The worker has been asked to.
    asked: AtomicBool,
    dropped: AtomicUsize,
}

fn backlogs() -> &'static PerCpu<Backlog> {
    static BACKLOGS: Once<PerCpu<Backlog>> = Once::new();
    BACKLOGS.get_or_init(|| PerCpu::new_with(|_| Backlog::default()))
}

/// How many packets were dropped because a queue was full.
pub fn backlog_drops() -> usize {
    backlogs().iter().map(|(_, backlog)| backlog.dropped.load(Ordering::Relaxed)).sum()
}

/// What a protocol does with a packet for it; its link header is off.
type Protocol = fn(Packet);

/// Who gets which protocol's packets. Protocols of this crate add themselves.
const PROTOCOLS: &[(u16, Protocol)] = &[
    (TYPE_IPV4, ip::input::receive_v4),
    (TYPE_IPV6, ip::input::receive_v6),
    (TYPE_ARP, ip::neighbour::arp::receive),
];

/// Whether a protocol's packets go anywhere.
pub fn has_protocol(wanted: u16) -> bool {
    PROTOCOLS.iter().any(|(protocol, _)| *protocol == wanted)
}

/// Sends a packet, whose bytes begin with its link header, through a device. Any context; works off what that causes.
/// `ENETDOWN`: the device is down.
pub fn transmit(device: &Arc<NetDevice>, mut packet: Packet) -> Result<()> {
    if !device.is_up() {
        return Err(Errno::ENETDOWN);
    }
    work_off(|| {
        packet.mark_link_header();
        taps::tell_all(device, &packet, Direction::Out);
        device.operations().transmit(device, packet);
    });
    Ok(())
}

/// A packet that is sent comes to this machine, too, or a program hands it to a device as if it had come from outside: as [`receive`], and works it off.
pub fn loop_back(device: &Arc<NetDevice>, packet: Packet) {
    work_off(|| receive(device, packet));
}

/// Does what causes packets on this CPU and works them off, before the caller can move to another CPU: what was sent to this machine
/// is there when the call that sent it is over. Any context.
fn work_off(cause: impl FnOnce()) {
    let may_work = preempt::may_sleep();
    let guard = preempt::disable();
    cause();
    let cpu = cpu::current();
    let more = may_work && run_some(cpu);
    drop(guard);
    if !may_work {
        ask_worker(cpu);
    } else if more {
        run_rounds(cpu);
    }
}

/// Sends a packet on that is being worked off: as [`transmit`], by who has preemption off and is called by what works off
/// packets, which works off what this causes, too. The device is up.
pub(crate) fn pass_on(device: &Arc<NetDevice>, mut packet: Packet) {
    packet.mark_link_header();
    taps::tell_all(device, &packet, Direction::Out);
    device.operations().transmit(device, packet);
}

/// A packet has come in through `device`; its bytes begin at its network header. Queues it here. Called by what a device does with a packet that is
/// transmitted, or by a protocol: whoever called those works it off.
pub fn receive(device: &Arc<NetDevice>, mut packet: Packet) {
    packet.device = Some(device.clone());
    packet.received_ns = machine::time::now_ns();
    let guard = preempt::disable();
    let backlog = backlogs().get(&guard);
    let mut queue = backlog.queue.lock();
    let has_room = queue.len() < BACKLOG_MAX.load(Ordering::Relaxed) && queue.try_reserve(1).is_ok();
    if has_room {
        queue.push_back(packet);
        return;
    }
    drop(queue);
    drop(packet);
    backlog.dropped.fetch_add(1, Ordering::Relaxed);
    device.statistics.count(Counted::ReceiveDropped, 0);
}

/// Works off what a sender may be kept busy with; the rest is the worker's: frames that go round in circles keep nobody for ever.
fn run_rounds(cpu: CpuId) {
    let mut rounds = 0..ROUNDS;
    while run_some(cpu) {
        if rounds.next().is_none() {
            return ask_worker(cpu);
        }
    }
}

/// Asks a CPU's worker to work its queue off: for who holds a lock now. Who is working it off goes on until it is empty.
fn ask_worker(cpu: CpuId) {
    let backlog = backlogs().get_on(cpu);
    let needs_nobody = backlog.active.load(Ordering::Acquire) || backlog.queue.lock().is_empty();
    if needs_nobody || backlog.asked.swap(true, Ordering::AcqRel) {
        return;
    }
    let work = move || {
        backlogs().get_on(cpu).asked.store(false, Ordering::Release);
        run_rounds(cpu);
    };
    if sched::work::queue_on(cpu, work).is_err() {
        backlog.asked.store(false, Ordering::Release);
    }
}

/// Works off some packets of this CPU's queue, which is `cpu`'s unless the caller has been moved; whether there may be more. Does nothing
/// for who is called by it.
fn run_some(cpu: CpuId) -> bool {
    let _guard = preempt::disable();
    if cpu::current() != cpu {
        ask_worker(cpu);
        return false;
    }
    let backlog = backlogs().get_on(cpu);
    if backlog.active.swap(true, Ordering::Acquire) {
        return false;
    }
    let mut more = true;
    for _ in 0..BUDGET {
        let next = backlog.queue.lock().pop_front();
        match next {
            Some(packet) => deliver(packet),
            None => {
                more = false;
                break;
            }
        }
    }
    backlog.active.store(false, Ordering::Release);
    // Who came meanwhile found it active and left its packet here.
    more || !backlog.queue.lock().is_empty()
}

/// A packet to the VLAN of its tag, or to the device's handler; the packet back if it is the device's own.
fn hand_over(device: &Arc<NetDevice>, mut packet: Packet) -> Option<Packet> {
    let is_tagged = |packet: &Packet| matches!(packet.protocol, ETH_P_8021Q | ETH_P_8021AD);
    if is_tagged(&packet) {
        packet = vlan::receive(device, packet)?;
    }
    if let Some(handler) = device.handler.load_arc() {
        packet = handler.receive(device, packet)?;
    }
    if is_tagged(&packet) { vlan::leftover(packet) } else { Some(packet) }
}

/// One packet: to the taps, to the device's handler, to its protocol. Preemption is off.
fn deliver(packet: Packet) {
    let Some(device) = packet.device.clone() else { return };
    if !device.is_up() {
        return;
    }
    taps::tell_all(&device, &packet, Direction::In);
    let Some(packet) = hand_over(&device, packet) else { return };
    let heard = taps::tell(&device, &packet, packet.protocol, Direction::In);
    match PROTOCOLS.iter().find(|(protocol, _)| *protocol == packet.protocol) {
        Some((_, take)) => take(packet),
        None if heard > 0 => {}
        None => device.statistics.count(Counted::ReceiveDropped, 0),
    }
}
