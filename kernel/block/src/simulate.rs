//! A disk with a volatile cache, for host tests of what must survive a cut of the power.
//!
//! [`SimulatedDisk`] records every write and flush in the order in which they were given to it, and when each completed. Afterwards it shows what
//! could be found on it had the power been cut at any moment ([`SimulatedDisk::image`]): everything that completed before a flush which
//! completed too, and what was written through the cache; of the rest a part that a seed chooses, sector by sector in the worst case. It can fail
//! transfers by script ([`Fault`]) and complete them late and out of order ([`SimulatedDisk::serve`]).
//!
//! Key types: [`SimulatedDisk`], [`Fault`], [`Dice`]. Locks: one spin lock, a leaf; requests are completed without it.

use crate::SECTOR_SIZE;
use crate::bio::{BioFlags, Operation};
use crate::driver::{Driver, Limits, Request};
use abi::errno::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use machine::sync::{SpinLock, WaitKind, WaitQueue};

/// Numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number, any.
    pub fn roll(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Transfers that fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which operation.
    pub operation: Operation,
    /// Those that touch one of these sectors. A flush touches every sector.
    pub sectors: Range<u64>,
    /// So many of them succeed first.
    pub after: u64,
    /// So many of them fail then.
    pub times: u64,
    /// With this error.
    pub error: Errno,
}

/// Something that changes what is on the disk, in the order in which it was asked for.
struct Event {
    kind: Kind,
    /// How many events had been asked for when it completed.
    completed: Option<usize>,
}

enum Kind {
    Write { sector: u64, bytes: Vec<u8>, through: bool },
    Flush,
}

struct State {
    /// What was on the disk at first.
    base: Vec<u8>,
    /// What whoever reads finds.
    now: Vec<u8>,
    events: Vec<Event>,
    /// Sectors that were asked for to be read.
    read: BTreeSet<u64>,
    /// Requests that were nothing but a flush.
    flushes: u64,
    faults: Vec<Fault>,
    /// Requests that complete late, and the events of theirs: the last that they are.
    held: Vec<(Request, Option<usize>)>,
    /// Chooses which completes next; `None`: each completes at once.
    late: Option<Dice>,
    closed: bool,
}

/// The disk.
pub struct SimulatedDisk {
    state: SpinLock<State>,
    asked: WaitQueue,
}

impl SimulatedDisk {
    /// A disk with these contents, on stable storage, which does everything at once.
    pub fn new(bytes: Vec<u8>) -> Arc<SimulatedDisk> {
        let state = State {
            now: bytes.clone(),
            base: bytes,
            events: Vec::new(),
            read: BTreeSet::new(),
            flushes: 0,
            faults: Vec::new(),
            held: Vec::new(),
            late: None,
            closed: false,
        };
        Arc::new(SimulatedDisk { state: SpinLock::new(state), asked: WaitQueue::new() })
    }

    /// From now on requests complete in an order that `seed` chooses, when a thread that runs [`SimulatedDisk::serve`] comes to it.
    pub fn be_late(&self, seed: u64) {
        self.state.lock().late = Some(Dice::new(seed));
    }

    /// Completes late requests until [`SimulatedDisk::close`]: what a thread of the test does.
    pub fn serve(&self) {
        loop {
            let next = || {
                let mut state = self.state.lock();
                let held = state.held.len() as u64;
                if held == 0 {
                    return state.closed.then_some(None);
                }
                let which = state.late.as_mut().map_or(0, |dice| dice.below(held));
                Some(Some(state.held.swap_remove(which as usize)))
            };
            match self.asked.wait_until(WaitKind::Uninterruptible, None, next) {
                Ok(Some((request, event))) => self.carry_out(request, event),
                _ => return,
            }
        }
    }

    /// Ends [`SimulatedDisk::serve`] once nothing is left to do.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.asked.wake_all();
    }

    /// Some transfers fail from now on.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// No transfer fails any more.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// The sectors that were read, or written, so far.
    pub fn touched(&self, operation: Operation) -> BTreeSet<u64> {
        let state = self.state.lock();
        if operation == Operation::Read {
            return state.read.clone();
        }
        let written = state.events.iter().filter_map(|event| match &event.kind {
            Kind::Write { sector, bytes, .. } => Some(*sector..*sector + (bytes.len() / SECTOR_SIZE) as u64),
            Kind::Flush => None,
        });
        written.flatten().collect()
    }

    /// How many flushes it was asked for, by themselves.
    pub fn flushes(&self) -> u64 {
        self.state.lock().flushes
    }

    /// How many writes and flushes it was asked for: a moment in time, as [`SimulatedDisk::image`] takes it.
    pub fn moment(&self) -> usize {
        self.state.lock().events.len()
    }

    /// The moments just before and just after a flush or a write through the cache: where what is guaranteed changes.
    pub fn boundaries(&self) -> Vec<usize> {
        let state = self.state.lock();
        let mut moments: Vec<usize> = Vec::new();
        for (index, event) in state.events.iter().enumerate() {
            if matches!(event.kind, Kind::Flush | Kind::Write { through: true, .. }) {
                moments.extend([index, index + 1]);
                moments.extend(event.completed);
            }
        }
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// What may be found on the disk if the power was cut when so many events had been asked for.
    pub fn image(&self, moment: usize, seed: u64) -> Vec<u8> {
        let state = self.state.lock();
        let mut image = state.base.clone();
        let mut fate = Fate::new(seed);
        let events = state.events.get(..moment).unwrap_or(&state.events);
        let done = |event: &Event| event.completed.is_some_and(|completed| completed <= moment);
        // The newest flush that completed: what had completed when it was asked for is safe.
        let flushed = events.iter().rposition(|event| matches!(event.kind, Kind::Flush) && done(event));
        for event in events {
            let Kind::Write { sector, bytes, through } = &event.kind else { continue };
            let before_flush = flushed.is_some_and(|flush| event.completed.is_some_and(|at| at <= flush));
            let safe = before_flush || (*through && done(event));
            fate.next_write();
            for (index, piece) in bytes.chunks(SECTOR_SIZE).enumerate() {
                let at = *sector as usize * SECTOR_SIZE + index * SECTOR_SIZE;
                if safe || fate.spares_sector() {
                    image[at..at + piece.len()].copy_from_slice(piece);
                }
            }
        }
        image
    }

    /// What is on the disk for whoever reads it now.
    pub fn contents(&self) -> Vec<u8> {
        self.state.lock().now.clone()
    }

    /// Records what a request will change. The event that says when it is complete.
    fn record(state: &mut State, request: &Request) -> Option<usize> {
        if request.flags.contains(BioFlags::PREFLUSH) {
            let completed = Some(state.events.len() + 1);
            state.events.push(Event { kind: Kind::Flush, completed });
        }
        let kind = match request.operation {
            Operation::Read => {
                state.read.extend(request.sector..request.sector + request.sectors);
                return None;
            }
            Operation::Flush => {
                state.flushes += 1;
                Kind::Flush
            }
            Operation::Write => {
                let mut bytes = Vec::new();
                for segment in request.segments() {
                    let at = bytes.len();
                    bytes.resize(at + segment.length as usize, 0);
                    segment.frame.read(segment.offset as usize, &mut bytes[at..]);
                }
                let through = request.flags.contains(BioFlags::FUA);
                Kind::Write { sector: request.sector, bytes, through }
            }
            Operation::Discard | Operation::WriteZeroes => {
                let bytes = vec![0; request.sectors as usize * SECTOR_SIZE];
                Kind::Write { sector: request.sector, bytes, through: request.flags.contains(BioFlags::FUA) }
            }
        };
        state.events.push(Event { kind, completed: None });
        Some(state.events.len() - 1)
    }

    /// Does what a request asks for, and completes it.
    fn carry_out(&self, request: Request, event: Option<usize>) {
        let result = self.state.lock().carry_out(&request, event);
        request.complete(result);
    }
}

impl State {
    fn carry_out(&mut self, request: &Request, event: Option<usize>) -> Result<()> {
        if let Some(error) = self.fault(request) {
            // As if it had never been asked for; a real disk may do a part, which a cut of the power covers.
            if let Some(Event { kind: Kind::Write { bytes, .. }, .. }) =
                event.and_then(|at| self.events.get_mut(at))
            {
                bytes.clear();
            }
            return Err(error);
        }
        let moment = self.events.len();
        let first = request.sector as usize * SECTOR_SIZE;
        if request.operation == Operation::Read {
            let mut at = first;
            for segment in request.segments() {
                let piece = self.now.get(at..at + segment.length as usize).ok_or(Errno::EIO)?;
                segment.frame.write(segment.offset as usize, piece);
                at += piece.len();
            }
            return Ok(());
        }
        let Some(event) = event.and_then(|at| self.events.get_mut(at)) else { return Ok(()) };
        event.completed = Some(moment);
        if let Kind::Write { bytes, .. } = &event.kind {
            self.now.get_mut(first..first + bytes.len()).ok_or(Errno::EIO)?.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn fault(&mut self, request: &Request) -> Option<Errno> {
        let end = request.sector + request.sectors;
        for fault in &mut self.faults {
            let touches = fault.sectors.start < end && request.sector < fault.sectors.end;
            if fault.operation != request.operation || !(touches || request.operation == Operation::Flush) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Some(fault.error);
            }
        }
        None
    }
}

impl Driver for SimulatedDisk {
    fn limits(&self) -> Limits {
        Limits {
            logical_block_size: 512,
            physical_block_size: 512,
            max_sectors: 256,
            max_segments: 64,
            max_segment_size: 4096,
            max_discard_sectors: u32::MAX,
            discard_granularity: 0,
            max_write_zeroes_sectors: u32::MAX,
            write_cache: true,
            fua: true,
            rotational: false,
        }
    }

    fn queue(&self, _queue: usize, request: Request) -> core::result::Result<(), Request> {
        let mut state = self.state.lock();
        let event = SimulatedDisk::record(&mut state, &request);
        if state.late.is_some() {
            state.held.push((request, event));
            drop(state);
            self.asked.wake_all();
        } else {
            drop(state);
            self.carry_out(request, event);
        }
        Ok(())
    }

    fn kick(&self, _queue: usize) {}
}

/// What becomes of writes that nothing makes safe.
struct Fate {
    dice: Dice,
    mode: u64,
    spared: bool,
}

impl Fate {
    fn new(seed: u64) -> Fate {
        let mut dice = Dice::new(seed);
        let mode = dice.below(6);
        Fate { dice, mode, spared: false }
    }

    fn next_write(&mut self) {
        self.spared = match self.mode {
            0 => false,
            1 => true,
            2 => self.dice.once_in(2),
            3 => self.dice.once_in(16),
            4 => !self.dice.once_in(16),
            _ => self.spared,
        };
    }

    fn spares_sector(&mut self) -> bool {
        if self.mode == 5 { self.dice.once_in(2) } else { self.spared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockDevice, Disk, Segment};
    use machine::memory::{AllocFlags, Frame};

    fn device(disk: &Arc<SimulatedDisk>) -> Arc<BlockDevice> {
        let sectors = (disk.contents().len() / SECTOR_SIZE) as u64;
        let number = vfs::DeviceId::new(254, 0);
        BlockDevice::whole(Disk::new("cut0".into(), disk.clone(), sectors, false), number)
    }

    fn write(device: &BlockDevice, sector: u64, sectors: u32, value: u8, flags: BioFlags) -> Result<()> {
        let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
        frame.write(0, &vec![value; sectors as usize * SECTOR_SIZE]);
        let segment = Segment { frame, offset: 0, length: sectors * SECTOR_SIZE as u32 };
        device.transfer(Operation::Write, flags, sector, &[segment])
    }

    #[test]
    fn a_flush_makes_safe_what_completed_before_it_and_nothing_else() {
        sched::host::run(1, 1, || {
            let disk = SimulatedDisk::new(vec![0; 8 * SECTOR_SIZE]);
            let device = device(&disk);
            write(&device, 0, 2, 1, BioFlags::empty()).unwrap();
            device.flush().unwrap();
            write(&device, 2, 2, 2, BioFlags::empty()).unwrap();
            write(&device, 4, 1, 3, BioFlags::FUA).unwrap();
            let (mut torn, mut lost, mut kept) = (0, 0, 0);
            for seed in 0..200 {
                let image = disk.image(disk.moment(), seed);
                let at = |sector: usize| image[sector * SECTOR_SIZE];
                assert_eq!((at(0), at(1), at(4)), (1, 1, 3));
                match (at(2), at(3)) {
                    (2, 2) => kept += 1,
                    (0, 0) => lost += 1,
                    _ => torn += 1,
                }
                // Before the flush nothing is safe; before the write nothing is there.
                assert_eq!(disk.image(0, seed), vec![0; 8 * SECTOR_SIZE]);
            }
            assert!(torn > 0 && lost > 0 && kept > 0, "{torn} {lost} {kept}");
            let unsafe_yet = (0..50).any(|seed| disk.image(1, seed)[0] == 0);
            assert!(unsafe_yet, "a write without a flush is never lost");
        });
    }

    #[test]
    fn faults_come_as_written() {
        sched::host::run(1, 1, || {
            let disk = SimulatedDisk::new(vec![0; 8 * SECTOR_SIZE]);
            let device = device(&disk);
            let error = Errno::EIO;
            disk.fail(Fault { operation: Operation::Write, sectors: 2..3, after: 1, times: 1, error });
            write(&device, 2, 1, 1, BioFlags::empty()).unwrap();
            write(&device, 4, 1, 1, BioFlags::empty()).unwrap();
            assert_eq!(write(&device, 1, 2, 9, BioFlags::empty()), Err(Errno::EIO));
            assert_eq!(disk.contents()[2 * SECTOR_SIZE], 1);
            write(&device, 1, 2, 9, BioFlags::empty()).unwrap();
            assert_eq!(disk.contents()[2 * SECTOR_SIZE], 9);
        });
    }

    #[test]
    fn late_requests_complete_in_another_order() {
        sched::host::run_seeds(8, 2, || {
            let disk = SimulatedDisk::new(vec![0; 64 * SECTOR_SIZE]);
            disk.be_late(3);
            let device = device(&disk);
            let crew = sched::host::Crew::new();
            let served = disk.clone();
            let server = sched::host::Crew::new();
            server.spawn("disk", move || served.serve());
            for sector in 0..16 {
                let device = device.clone();
                crew.spawn("writer", move || {
                    write(&device, sector, 1, 7, BioFlags::empty()).unwrap();
                    device.flush().unwrap();
                });
            }
            crew.join();
            disk.close();
            server.join();
            // Every flush came after its writer's write: all is safe.
            for seed in 0..8 {
                assert!(disk.image(disk.moment(), seed)[..16 * SECTOR_SIZE].iter().all(|byte| *byte == 7));
            }
        });
    }
}
