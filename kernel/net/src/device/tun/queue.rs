//! One descriptor's side of a tun device: the packets that wait to be read, and which device it belongs to.
//!
//! Key type: [`Queue`]. It takes as many packets as its device's queue may be long (`tx_queue_len`) and [`BYTES_MAX`] bytes; what does
//! not fit is dropped by whoever sends it. A queue whose device goes is shut: it takes nothing and wakes who waits.
//! Locks: the packets and the device (spin, leaves); packets come with preemption off.

use abi::errno::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::sync::{SpinLock, WaitError, WaitKind, WaitQueue};

use crate::device::NetDevice;
use crate::packet::Packet;

/// Bytes of memory that waiting packets may take, however long the administrator lets the queue be.
pub(super) const BYTES_MAX: usize = 16 << 20;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// What a queue does with packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    /// It takes them.
    #[default]
    Open,
    /// It takes none; who reads waits for better times.
    Paused,
    /// It takes none and there will be none.
    Shut,
}

#[derive(Default)]
struct Contents {
    packets: VecDeque<Packet>,
    bytes: usize,
    mode: Mode,
}

/// See the module.
pub(super) struct Queue {
    number: u64,
    contents: SpinLock<Contents>,
    device: SpinLock<Option<Arc<NetDevice>>>,
    /// It belongs to its device but takes no part (IFF_DETACH_QUEUE).
    pub(super) is_disabled: AtomicBool,
    /// Who waits for packets, or to write.
    pub(super) changed: Arc<WaitQueue>,
}

impl Queue {
    /// One that belongs to no device. `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Queue>> {
        Ok(machine::memory::try_arc(Queue {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            contents: SpinLock::new(Contents::default()),
            device: SpinLock::new(None),
            is_disabled: AtomicBool::new(false),
            changed: machine::memory::try_arc(WaitQueue::new())?,
        })?)
    }

    /// A number that no other has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The device it belongs to. `EBADFD`: to none.
    pub(super) fn device(&self) -> Result<Arc<NetDevice>> {
        self.device.lock().clone().ok_or(Errno::EBADFD)
    }

    /// It belongs to a device now and takes packets.
    pub(super) fn join(&self, device: &Arc<NetDevice>) {
        let old = self.device.lock().replace(device.clone());
        drop(old);
        self.contents.lock().mode = Mode::Open;
    }

    /// It belongs to none any more.
    pub(super) fn leave(&self) {
        let old = self.device.lock().take();
        drop(old);
        self.empty(Mode::Shut);
    }

    /// It takes no packets until it joins again; those there were are dropped.
    pub(super) fn pause(&self) {
        self.empty(Mode::Paused);
    }

    fn empty(&self, mode: Mode) {
        let old = core::mem::replace(&mut *self.contents.lock(), Contents { mode, ..Contents::default() });
        drop(old);
        self.changed.wake_all();
    }

    /// Takes a packet if there is room; the packet back if there is not.
    pub(super) fn push(&self, packet: Packet, most: usize) -> core::result::Result<(), Packet> {
        let footprint = packet.footprint();
        let mut contents = self.contents.lock();
        let has_room = contents.mode == Mode::Open
            && contents.packets.len() < most
            && contents.bytes + footprint <= BYTES_MAX
            && contents.packets.try_reserve(1).is_ok();
        if !has_room {
            return Err(packet);
        }
        contents.bytes += footprint;
        contents.packets.push_back(packet);
        drop(contents);
        self.changed.wake_one();
        Ok(())
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.lock().packets.is_empty()
    }

    /// The first packet, or that there will be none.
    fn pop(&self) -> Option<Result<Packet>> {
        let mut contents = self.contents.lock();
        match contents.packets.pop_front() {
            Some(packet) => {
                contents.bytes -= packet.footprint();
                Some(Ok(packet))
            }
            None if contents.mode == Mode::Shut => Some(Err(Errno::EFAULT)),
            None => None,
        }
    }

    /// Takes the first packet off; waits for one. `EAGAIN`: it would have to; `EFAULT`: the queue is shut; `ERESTARTSYS`.
    pub(super) fn take(&self, is_nonblocking: bool) -> Result<Packet> {
        if is_nonblocking {
            return self.pop().unwrap_or(Err(Errno::EAGAIN));
        }
        match self.changed.wait_until_exclusive(WaitKind::Interruptible, None, || self.pop()) {
            Ok(result) => result,
            Err(WaitError::Interrupted | WaitError::TimedOut) => Err(Errno::ERESTARTSYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_gives_what_it_took_in_order() {
        let queue = Queue::new().unwrap();
        let packet = |byte| {
            let mut packet = Packet::with_room(0, 1).unwrap();
            packet.append(&[byte]).unwrap();
            packet
        };
        assert!(queue.push(packet(1), 2).is_ok());
        assert!(queue.push(packet(2), 2).is_ok());
        assert_eq!(queue.push(packet(3), 2).err().unwrap().bytes(), [3]);
        assert_eq!(queue.take(true).unwrap().bytes(), [1]);
        assert!(queue.push(packet(4), 2).is_ok());
        assert_eq!(queue.take(false).unwrap().bytes(), [2]);
        assert_eq!(queue.take(true).unwrap().bytes(), [4]);
        assert_eq!(queue.take(true).err(), Some(Errno::EAGAIN));
        queue.pause();
        assert!(queue.push(packet(5), 2).is_err());
        assert_eq!(queue.take(true).err(), Some(Errno::EAGAIN));
        queue.leave();
        assert_eq!(queue.take(false).err(), Some(Errno::EFAULT));
        assert!(queue.push(packet(5), 2).is_err());
    }
}
