//! Tests of the way of a transfer, on a disk in memory and on one whose driver misbehaves as a script says.

use crate::memory::MemoryDisk;
use crate::{
    Bio, BioFlags, BlockDevice, Disk, Driver, Limits, Operation, Partition, Plug, Request, SECTOR_SIZE,
    Scheduler, Segment, find, find_by_name,
};
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use machine::PAGE_SIZE;
use machine::memory::{AllocFlags, Frame};
use machine::sync::SpinLock;
use proptest::prelude::*;
use vfs::DeviceId;

const NUMBER: DeviceId = DeviceId::new(240, 7);

/// What a driver was asked, in its order.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    operation: Operation,
    flags: BioFlags,
    sector: u64,
    sectors: u64,
}

/// A driver with a queue of some length whose requests are carried out when [`Scripted::step`] says so, in any order.
struct Scripted {
    limits: Limits,
    depth: usize,
    state: SpinLock<State>,
}

#[derive(Default)]
struct State {
    stable: Vec<u8>,
    queued: VecDeque<Request>,
    seen: Vec<Seen>,
    failing: Option<u64>,
    fails_flush: bool,
    kicked: bool,
}

impl Scripted {
    fn new(sectors: u64, depth: usize, limits: Limits) -> Arc<Scripted> {
        let state = State { stable: vec![0; sectors as usize * SECTOR_SIZE], ..State::default() };
        Arc::new(Scripted { limits, depth, state: SpinLock::new(state) })
    }

    fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// Carries out one of the requests that it has, chosen by `choice`; false if it has none.
    fn step(&self, disk: &Disk, choice: usize) -> bool {
        let (request, result) = {
            let mut state = self.state.lock();
            if state.queued.is_empty() || !state.kicked {
                return false;
            }
            let place = choice % state.queued.len();
            let request = state.queued.remove(place).unwrap();
            let result = carry_out(&mut state, &request);
            (request, result)
        };
        request.complete(result);
        disk.run_queue(0);
        true
    }

    fn run(&self, disk: &Disk) {
        while self.step(disk, 0) {}
        assert!(self.state.lock().queued.is_empty(), "the driver was never told");
    }
}

fn carry_out(state: &mut State, request: &Request) -> Result<()> {
    if request.operation == Operation::Flush {
        return if state.fails_flush { Err(Errno::EIO) } else { Ok(()) };
    }
    let range = request.sector..request.sector + request.sectors;
    if state.failing.is_some_and(|sector| range.contains(&sector)) {
        return Err(Errno::EIO);
    }
    let place = &mut state.stable[range.start as usize * SECTOR_SIZE..range.end as usize * SECTOR_SIZE];
    if matches!(request.operation, Operation::Discard | Operation::WriteZeroes) {
        place.fill(0);
    }
    let mut at = 0;
    for segment in request.segments() {
        let piece = &mut place[at..at + segment.length as usize];
        match request.operation {
            Operation::Read => segment.frame.write(segment.offset as usize, piece),
            _ => segment.frame.read(segment.offset as usize, piece),
        }
        at += piece.len();
    }
    Ok(())
}

impl Driver for Scripted {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn queue(&self, _queue: usize, request: Request) -> core::result::Result<(), Request> {
        let mut state = self.state.lock();
        if state.queued.len() >= self.depth {
            return Err(request);
        }
        // What every driver may rely on.
        let limits = &self.limits;
        assert!(request.sectors > 0 || request.operation == Operation::Flush);
        if matches!(request.operation, Operation::Read | Operation::Write) {
            assert!(request.sectors <= u64::from(limits.max_sectors));
            assert!(request.segment_count() <= usize::from(limits.max_segments));
            assert_eq!(request.segment_count(), request.segments().count());
            assert!(request.segments().all(|segment| segment.length <= limits.max_segment_size));
            let bytes: u64 = request.segments().map(|segment| u64::from(segment.length)).sum();
            assert_eq!(bytes, request.sectors * SECTOR_SIZE as u64);
        }
        assert!(!request.flags.contains(BioFlags::PREFLUSH));
        assert!(limits.fua || !request.flags.contains(BioFlags::FUA));
        let Request { operation, flags, sector, sectors, .. } = request;
        state.seen.push(Seen { operation, flags, sector, sectors });
        state.kicked = false;
        state.queued.push_back(request);
        Ok(())
    }

    fn kick(&self, _queue: usize) {
        self.state.lock().kicked = true;
    }
}

fn limits() -> Limits {
    Limits {
        logical_block_size: 512,
        physical_block_size: 512,
        max_sectors: 64,
        max_segments: 16,
        max_segment_size: 4096,
        max_discard_sectors: 100,
        discard_granularity: 0,
        max_write_zeroes_sectors: 0,
        write_cache: true,
        fua: false,
        rotational: false,
    }
}

fn scripted(sectors: u64, depth: usize, limits: Limits) -> (Arc<Scripted>, Arc<Disk>, Arc<BlockDevice>) {
    let driver = Scripted::new(sectors, depth, limits);
    let disk = Disk::new(String::from("test"), driver.clone(), sectors, false);
    let device = BlockDevice::whole(disk.clone(), NUMBER);
    (driver, disk, device)
}

/// Where a completion leaves its result.
type Told = Arc<SpinLock<Option<Result<()>>>>;

/// A transfer of whole pages or less of `byte`, and where its result will be.
fn bio(operation: Operation, sector: u64, sectors: u64, byte: u8) -> (Bio, Told) {
    let told: Told = Arc::new(SpinLock::new(None));
    let own = told.clone();
    let mut bio = Bio::new(
        operation,
        sector,
        Box::new(move |result| assert!(own.lock().replace(result).is_none(), "completed twice")),
    );
    let mut left = sectors as usize * SECTOR_SIZE;
    while left > 0 && matches!(operation, Operation::Read | Operation::Write) {
        let length = left.min(PAGE_SIZE);
        let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
        frame.write(0, &vec![byte; length]);
        bio.push(Segment { frame, offset: 0, length: length as u32 }).unwrap();
        left -= length;
    }
    bio.sectors = sectors;
    (bio, told)
}

fn result(told: &Told) -> Option<Result<()>> {
    *told.lock()
}

#[test]
fn a_disk_in_memory_reads_what_was_written() {
    let disk = Disk::new(String::from("test"), MemoryDisk::new(vec![0; 64 * SECTOR_SIZE]), 64, false);
    let device = BlockDevice::whole(disk, NUMBER);
    let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
    frame.write(0, b"hello");
    let segment = Segment { frame, offset: 0, length: 1024 };
    device.transfer(Operation::Write, BioFlags::FUA, 3, core::slice::from_ref(&segment)).unwrap();
    let mut bytes = [0; 7];
    device.read_bytes(3 * 512 - 1, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0hello\0");
    assert_eq!(
        device.transfer(Operation::Write, BioFlags::empty(), 63, core::slice::from_ref(&segment)),
        Err(Errno::EIO)
    );
    assert_eq!(device.read_bytes(64 * 512 - 2, &mut bytes), Err(Errno::EIO));
    device.discard(3, 1).unwrap();
    device.read_bytes(3 * 512, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 7]);
    device.set_read_only(true);
    assert_eq!(device.transfer(Operation::Write, BioFlags::empty(), 0, &[segment]), Err(Errno::EROFS));
    device.flush().unwrap();
}

#[test]
fn what_is_too_large_goes_in_pieces() {
    let (driver, disk, device) = scripted(4096, 64, limits());
    let (big, told) = bio(Operation::Write, 0, 300, 7);
    device.submit(big);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Ok(())));
    assert!(driver.state.lock().stable[..300 * 512].iter().all(|byte| *byte == 7));
    assert_eq!(driver.state.lock().stable[300 * 512], 0);
    assert_eq!(driver.seen().iter().map(|seen| seen.sectors).collect::<Vec<_>>(), [64, 64, 64, 64, 44]);
    // A piece that fails fails the whole; the others are still tried.
    driver.state.lock().failing = Some(100);
    let (big, told) = bio(Operation::Read, 0, 300, 0);
    device.submit(big);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Err(Errno::EIO)));
}

#[test]
fn a_discard_is_cut_and_zeroes_are_written_where_the_device_cannot() {
    let (driver, disk, device) = scripted(4096, 64, limits());
    let (all, told) = bio(Operation::Discard, 0, 250, 0);
    device.submit(all);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Ok(())));
    assert_eq!(driver.seen().iter().map(|seen| seen.sectors).collect::<Vec<_>>(), [100, 100, 50]);
    let (zeroes, told) = bio(Operation::WriteZeroes, 0, 8, 0);
    device.submit(zeroes);
    assert_eq!(result(&told), Some(Err(Errno::EOPNOTSUPP)));
    let memory = MemoryDisk::new(vec![1; 4096 * SECTOR_SIZE]);
    let device = BlockDevice::whole(Disk::new(String::from("test"), memory.clone(), 4096, false), NUMBER);
    device.write_zeroes(1, 4000).unwrap();
    let contents = memory.contents();
    assert_eq!((contents[511], contents[512], contents[4001 * 512 - 1], contents[4001 * 512]), (1, 0, 0, 1));
}

#[test]
fn transfers_not_in_whole_blocks_are_refused() {
    let (_, _, device) = scripted(4096, 64, Limits { logical_block_size: 4096, ..limits() });
    for (sector, sectors) in [(1, 8), (8, 4)] {
        let (odd, told) = bio(Operation::Write, sector, sectors, 1);
        device.submit(odd);
        assert_eq!(result(&told), Some(Err(Errno::EINVAL)));
    }
    // Memory that is not as long as the sectors.
    let (mut short, told) = bio(Operation::Write, 0, 8, 1);
    short.sectors = 16;
    device.submit(short);
    assert_eq!(result(&told), Some(Err(Errno::EINVAL)));
    let (far, told) = bio(Operation::Discard, u64::MAX - 3, 8, 1);
    device.submit(far);
    assert_eq!(result(&told), Some(Err(Errno::EIO)));
}

#[test]
fn neighbours_that_wait_become_one() {
    for scheduler in [Scheduler::None, Scheduler::MqDeadline] {
        let (driver, disk, device) = scripted(4096, 1, limits());
        disk.set_scheduler(scheduler);
        let mut all = Vec::new();
        // The first fills the driver; the others wait, in front of and behind each other.
        for sector in [1000, 16, 8, 24, 0, 100] {
            let (one, told) = bio(Operation::Write, sector, 8, sector as u8 + 1);
            device.submit(one);
            all.push(told);
        }
        driver.run(&disk);
        assert!(all.iter().all(|told| result(told) == Some(Ok(()))));
        let mut seen: Vec<_> = driver.seen().iter().map(|seen| (seen.sector, seen.sectors)).collect();
        seen[1..].sort();
        assert_eq!(seen, [(1000, 8), (0, 32), (100, 8)], "{scheduler:?}");
        for sector in [1000usize, 16, 8, 24, 0, 100] {
            assert_eq!(driver.state.lock().stable[sector * 512], sector as u8 + 1);
        }
        let writes = device.statistics().totals(crate::Kind::Write);
        assert_eq!((writes.requests, writes.merged, writes.sectors), (3, 3, 48));
        assert_eq!(device.statistics().in_flight(), (0, 0));
    }
}

#[test]
fn merging_stays_within_limits_and_can_be_switched_off() {
    let (driver, disk, device) = scripted(4096, 1, Limits { max_sectors: 16, ..limits() });
    let submit = |sector| device.submit(bio(Operation::Write, sector, 8, 1).0);
    [1000, 0, 8, 16, 24].into_iter().for_each(submit);
    driver.run(&disk);
    let seen: Vec<_> = driver.seen().iter().map(|seen| (seen.sector, seen.sectors)).collect();
    assert_eq!(seen, [(1000, 8), (0, 16), (16, 16)]);
    disk.set_merges(false);
    [1000, 0, 8].into_iter().for_each(submit);
    driver.run(&disk);
    assert_eq!(driver.seen().len(), 6);
}

#[test]
fn mq_deadline_takes_reads_first_and_sectors_in_order() {
    let (driver, disk, device) = scripted(4096, 1, limits());
    disk.set_scheduler(Scheduler::MqDeadline);
    let mut tolds = Vec::new();
    for (operation, sector) in [
        (Operation::Write, 4000),
        (Operation::Write, 300),
        (Operation::Write, 100),
        (Operation::Read, 900),
        (Operation::Read, 500),
        (Operation::Read, 700),
    ] {
        let (one, told) = bio(operation, sector, 8, 1);
        device.submit(one);
        tolds.push(told);
    }
    driver.run(&disk);
    let seen: Vec<_> = driver.seen().iter().map(|seen| seen.sector).collect();
    // After a turn from writes to reads the oldest read begins, then from there on upwards, then what is left.
    assert_eq!(seen[0], 4000);
    assert_eq!(seen[1], 900);
    let reads: Vec<_> = seen[1..4].to_vec();
    assert!(reads.iter().all(|sector| *sector >= 500), "{seen:?}");
    // Back to `none` with some waiting: nothing is lost.
    for sector in [10, 2000, 1000] {
        let (one, told) = bio(Operation::Write, sector, 8, 1);
        device.submit(one);
        tolds.push(told);
    }
    disk.set_scheduler(Scheduler::None);
    driver.run(&disk);
    assert!(tolds.iter().all(|told| result(told) == Some(Ok(()))));
}

#[test]
fn writes_are_not_starved() {
    let (driver, disk, device) = scripted(1 << 16, 1, limits());
    disk.set_scheduler(Scheduler::MqDeadline);
    device.submit(bio(Operation::Write, 0, 8, 1).0);
    let (write, told) = bio(Operation::Write, 60000, 8, 1);
    device.submit(write);
    for step in 0..200 {
        device.submit(bio(Operation::Read, (step * 32) % 50000, 8, 1).0);
        device.submit(bio(Operation::Read, (step * 48 + 16) % 50000, 8, 1).0);
        driver.step(&disk, 0);
    }
    assert_eq!(result(&told), Some(Ok(())));
}

#[test]
fn flushes_are_in_order_and_shared() {
    let (driver, disk, device) = scripted(4096, 8, limits());
    // PREFLUSH, write, flush because the device has no FUA.
    let (mut one, told) = bio(Operation::Write, 0, 8, 1);
    one.flags = BioFlags::PREFLUSH | BioFlags::FUA;
    device.submit(one);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Ok(())));
    let seen: Vec<_> = driver.seen().iter().map(|seen| seen.operation).collect();
    assert_eq!(seen, [Operation::Flush, Operation::Write, Operation::Flush]);
    // One is under way; the three that come meanwhile share the next.
    let tolds: Vec<_> = (0..4)
        .map(|_| {
            let (flush, told) = bio(Operation::Flush, 0, 0, 0);
            device.submit(flush);
            told
        })
        .collect();
    assert_eq!(driver.seen().len(), 4);
    driver.run(&disk);
    assert_eq!(driver.seen().len(), 5);
    assert!(tolds.iter().all(|told| result(told) == Some(Ok(()))));
    // A flush that fails fails the write that must be behind it, which is not done then.
    driver.state.lock().fails_flush = true;
    let (mut one, told) = bio(Operation::Write, 64, 8, 9);
    one.flags = BioFlags::PREFLUSH;
    device.submit(one);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Err(Errno::EIO)));
    assert_eq!(driver.state.lock().stable[64 * 512], 0);
}

#[test]
fn without_a_cache_flushes_are_nothing() {
    let (driver, disk, device) = scripted(4096, 8, Limits { write_cache: false, ..limits() });
    let (flush, told) = bio(Operation::Flush, 0, 0, 0);
    device.submit(flush);
    assert_eq!(result(&told), Some(Ok(())));
    let (mut one, told) = bio(Operation::Write, 0, 8, 1);
    one.flags = BioFlags::PREFLUSH | BioFlags::FUA;
    device.submit(one);
    driver.run(&disk);
    assert_eq!(result(&told), Some(Ok(())));
    assert_eq!(
        driver.seen(),
        [Seen { operation: Operation::Write, flags: BioFlags::empty(), sector: 0, sectors: 8 }]
    );
}

#[test]
fn read_ahead_fails_where_others_wait() {
    let (driver, disk, device) = scripted(4096, 1, limits());
    disk.set_max_waiting(4);
    for place in 0..5 {
        device.submit(bio(Operation::Write, place * 100, 8, 1).0);
    }
    let (mut ahead, told) = bio(Operation::Read, 2000, 8, 0);
    ahead.flags = BioFlags::READ_AHEAD;
    device.submit(ahead);
    assert_eq!(result(&told), Some(Err(Errno::EAGAIN)));
    driver.run(&disk);
}

#[test]
fn taking_a_disk_away_fails_what_waits() {
    let (driver, disk, device) = scripted(4096, 1, limits());
    let (first, first_told) = bio(Operation::Write, 0, 8, 1);
    let (second, second_told) = bio(Operation::Write, 100, 8, 1);
    device.submit(first);
    device.submit(second);
    let helper = {
        let (driver, disk) = (driver.clone(), disk.clone());
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            driver.step(&disk, 0)
        })
    };
    disk.shut_down();
    assert!(helper.join().unwrap());
    assert_eq!(result(&first_told), Some(Ok(())));
    assert_eq!(result(&second_told), Some(Err(Errno::EIO)));
    let (late, told) = bio(Operation::Read, 0, 8, 0);
    device.submit(late);
    assert_eq!(result(&told), Some(Err(Errno::EIO)));
    // A request that a driver drops has failed.
    let (driver, _, device) = scripted(4096, 1, limits());
    let (lost, told) = bio(Operation::Read, 0, 8, 0);
    device.submit(lost);
    driver.state.lock().queued.clear();
    assert_eq!(result(&told), Some(Err(Errno::EIO)));
}

#[test]
fn disks_and_partitions_are_known_and_go() {
    let memory = MemoryDisk::new(vec![0; 1000 * SECTOR_SIZE]);
    let disk = Disk::register("vdx", memory.clone(), 1000, false, "virtual").unwrap();
    let whole = find_by_name("vdx").unwrap();
    assert_eq!(whole.number(), DeviceId::new(254, 23 * 16));
    assert!(Arc::ptr_eq(&find(whole.number()).unwrap(), &whole));
    assert_eq!(Disk::register("vdx", memory, 1000, false, "virtual").err(), Some(Errno::EEXIST));
    let part =
        |number, first_sector, sectors| Partition { number, first_sector, sectors, ..Partition::default() };
    disk.add_partition(part(1, 100, 50)).unwrap();
    assert_eq!(disk.add_partition(part(2, 149, 5)), Err(Errno::EBUSY));
    assert_eq!(disk.add_partition(part(1, 200, 5)), Err(Errno::EBUSY));
    assert_eq!(disk.add_partition(part(2, 999, 2)), Err(Errno::EINVAL));
    assert_eq!(disk.add_partition(part(2, u64::MAX, 2)), Err(Errno::EINVAL));
    let first = find_by_name("vdx1").unwrap();
    assert_eq!((first.number().minor, first.sectors()), (23 * 16 + 1, 50));
    // Its sectors are the disk's, further on; its end is its own.
    let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
    frame.write(0, b"part");
    let segment = Segment { frame, offset: 0, length: 512 };
    first.transfer(Operation::Write, BioFlags::empty(), 49, core::slice::from_ref(&segment)).unwrap();
    assert_eq!(first.transfer(Operation::Write, BioFlags::empty(), 50, &[segment]), Err(Errno::EIO));
    let mut bytes = [0; 4];
    whole.read_bytes(149 * 512, &mut bytes).unwrap();
    assert_eq!(&bytes, b"part");
    assert_eq!(whole.statistics().totals(crate::Kind::Write).requests, 1);
    // The disk is nobody's while a part of it is somebody's, and the other way round.
    let claim = first.claim("test").unwrap();
    assert_eq!(whole.claim("other").err(), Some(Errno::EBUSY));
    assert_eq!(first.claim("other").err(), Some(Errno::EBUSY));
    assert_eq!(disk.rescan(), Err(Errno::EBUSY));
    assert_eq!(disk.remove_partition(1), Err(Errno::EBUSY));
    drop(claim);
    let claim = whole.claim("test").unwrap();
    assert_eq!(first.claim("other").err(), Some(Errno::EBUSY));
    drop(claim);
    disk.resize_partition(1, 100, 60).unwrap();
    assert_eq!(first.sectors(), 60);
    disk.remove_partition(1).unwrap();
    assert!(find_by_name("vdx1").is_none());
    assert_eq!(first.read_bytes(0, &mut bytes), Err(Errno::EIO));
    let mut text = String::new();
    crate::attributes::write_partitions(&mut text).unwrap();
    assert!(text.contains(" 254      368        500 vdx\n"), "{text}");
    disk.set_sectors(2000);
    assert_eq!(whole.sectors(), 2000);
    disk.unregister();
    assert!(find_by_name("vdx").is_none());
    assert_eq!(whole.read_bytes(0, &mut bytes), Err(Errno::EIO));
}

#[test]
fn the_partitions_of_a_disk_come_with_it() {
    let mut bytes = vec![0; 1000 * SECTOR_SIZE];
    // One of type 83 from 100 on, longer than the disk.
    bytes[0x1be + 4] = 0x83;
    bytes[0x1be + 8..][..4].copy_from_slice(&100u32.to_le_bytes());
    bytes[0x1be + 12..][..4].copy_from_slice(&5000u32.to_le_bytes());
    bytes[440..444].copy_from_slice(&0xabcd_0123u32.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let disk = Disk::register("vdy", MemoryDisk::new(bytes), 1000, false, "virtual").unwrap();
    let part = find_by_name("vdy1").unwrap();
    assert_eq!((part.first_sector(), part.sectors()), (100, 900));
    let by_uuid = crate::source::find_root("PARTUUID=ABCD0123-01").unwrap();
    assert!(Arc::ptr_eq(&part, &by_uuid));
    assert!(Arc::ptr_eq(&part, &crate::source::find_root("/dev/vdy1").unwrap()));
    assert!(Arc::ptr_eq(&part, &crate::source::find_root("254:385").unwrap()));
    assert!(crate::source::find_root("PARTUUID=abcd0123-01/PARTNROFF=1").is_none());
    for nothing in ["", "=", "PARTUUID=", "UUID=x", "/dev/", "::", "4:-1", "LABEL=\0"] {
        assert!(crate::source::find_root(nothing).is_none(), "{nothing:?}");
    }
    disk.rescan().unwrap();
    assert!(part.is_gone() && find_by_name("vdy1").is_some());
    disk.unregister();
    assert!(find_by_name("vdy1").is_none());
}

/// In a machine with threads: a plug collects until it goes, or its thread sleeps.
#[test]
fn a_plug_collects_until_its_thread_sleeps() {
    sched::host::run(1, 1, || {
        let (driver, disk, device) = scripted(4096, 64, limits());
        let plug = Plug::new();
        for sector in [16, 0, 8] {
            device.submit(bio(Operation::Write, sector, 8, 1).0);
        }
        assert!(driver.seen().is_empty(), "held back");
        drop(plug);
        assert_eq!(driver.seen().iter().map(|seen| seen.sectors).collect::<Vec<_>>(), [24]);
        let _plug = Plug::new();
        device.submit(bio(Operation::Write, 100, 8, 1).0);
        let soon = machine::time::now_ns() + 1000;
        sched::sleep::sleep_until(soon, machine::sync::WaitKind::Uninterruptible).unwrap();
        assert_eq!(driver.seen().len(), 2, "handed over before sleeping");
        driver.run(&disk);
    });
}

/// Many threads on several CPUs, a short queue, a driver thread that completes in any order: everything arrives.
#[test]
fn many_submit_while_the_queue_is_full() {
    sched::host::run_seeds(8, 3, || {
        let (driver, disk, device) = scripted(1 << 14, 3, limits());
        disk.set_max_waiting(8);
        let done = Arc::new((SpinLock::new(0), machine::sync::WaitQueue::new()));
        for thread in 0..4u64 {
            let (device, done) = (device.clone(), done.clone());
            let options = sched::SpawnOptions::default();
            sched::spawn("writer", options, move || {
                for step in 0..30 {
                    let _plug = (step % 7 == 0).then(Plug::new);
                    let sector = thread * 1000 + step * 8;
                    let (one, _) = bio(Operation::Write, sector, 8, 1 + thread as u8);
                    device.submit(one);
                }
                let last = Operation::Flush;
                device.transfer(last, BioFlags::empty(), 0, &[]).unwrap();
                *done.0.lock() += 1;
                done.1.wake_all();
            })
            .unwrap();
        }
        let mut choice = 7usize;
        while *done.0.lock() < 4 {
            choice = choice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if !driver.step(&disk, choice >> 33) {
                sched::yield_now();
            }
        }
        driver.run(&disk);
        for thread in 0..4usize {
            let place = thread * 1000 * SECTOR_SIZE;
            let state = driver.state.lock();
            assert!(
                state.stable[place..place + 240 * SECTOR_SIZE].iter().all(|byte| *byte == 1 + thread as u8)
            );
        }
        assert_eq!(device.statistics().in_flight(), (0, 0));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Read(u64, u64),
    Discard(u64, u64),
    Flush,
    /// The driver completes one of its requests.
    Complete(usize),
    Scheduler(bool),
}

/// A read that was submitted: its memory, its result, what it must give, and its first sector and end.
type Expected = (Vec<Segment>, Told, Vec<u8>, u64, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = (0u64..60, 1u64..40);
    let step = prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|((at, length), byte)| Step::Write(at * 4, length, byte)),
        3 => place.clone().prop_map(|(at, length)| Step::Read(at * 4, length)),
        1 => place.prop_map(|(at, length)| Step::Discard(at * 4, length)),
        1 => Just(Step::Flush),
        5 => any::<usize>().prop_map(Step::Complete),
        1 => any::<bool>().prop_map(Step::Scheduler),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever is submitted, split and merged: what the disk holds in the end, and what was read on the way, is what a model says. What overlaps
    /// something under way waits for it first, as everybody must; failing sectors fail whom they concern.
    #[test]
    fn any_transfers_equal_the_model(
        steps in steps(),
        depth in 1usize..5,
        failing in proptest::option::of(0u64..300),
        fua in any::<bool>(),
    ) {
        let (driver, disk, device) = scripted(300, depth, Limits { max_sectors: 16, max_segments: 3, fua, ..limits() });
        driver.state.lock().failing = failing;
        let mut model = vec![0u8; 300 * SECTOR_SIZE];
        let mut under_way: BTreeMap<u64, (u64, Told)> = BTreeMap::new();
        let mut reads: Vec<Expected> = Vec::new();
        for step in steps {
            let (mut one, told) = match step {
                Step::Write(at, length, byte) => bio(Operation::Write, at, length, byte),
                Step::Read(at, length) => bio(Operation::Read, at, length, 0xee),
                Step::Discard(at, length) => bio(Operation::Discard, at, length, 0),
                Step::Flush => bio(Operation::Flush, 0, 0, 0),
                Step::Complete(choice) => {
                    driver.step(&disk, choice);
                    continue;
                }
                Step::Scheduler(deadline) => {
                    disk.set_scheduler(if deadline { Scheduler::MqDeadline } else { Scheduler::None });
                    continue;
                }
            };
            let range = one.sector..one.sector + one.sectors;
            let overlaps = under_way.iter().any(|(first, (end, _))| *first < range.end && range.start < *end);
            if overlaps {
                driver.run(&disk);
            }
            under_way.retain(|_, (_, told)| result(told).is_none());
            if range.end > 300 {
                device.submit(one);
                prop_assert_eq!(result(&told), Some(Err(Errno::EIO)));
                continue;
            }
            let bytes = range.start as usize * SECTOR_SIZE..range.end as usize * SECTOR_SIZE;
            let fails = failing.is_some_and(|sector| range.contains(&sector));
            match step {
                Step::Write(_, length, byte) => {
                    one.flags.set(BioFlags::FUA, byte % 3 == 0);
                    one.flags.set(BioFlags::PREFLUSH, byte % 5 == 0);
                    model[bytes].fill(byte);
                    let _ = length;
                }
                Step::Discard(..) => model[bytes].fill(0),
                Step::Read(..) => {
                    let expected = model[bytes].to_vec();
                    reads.push((one.segments.clone(), told.clone(), expected, range.start, range.end));
                }
                _ => {}
            }
            if !range.is_empty() {
                under_way.insert(range.start, (range.end, told.clone()));
            }
            device.submit(one);
            // What fails may have been done in part: the model does not know.
            if fails {
                driver.run(&disk);
                prop_assert_eq!(result(&told), Some(Err(Errno::EIO)));
                let stable = &driver.state.lock().stable;
                model.copy_from_slice(stable);
            }
        }
        driver.run(&disk);
        prop_assert_eq!(&driver.state.lock().stable, &model);
        for (segments, told, expected, first, end) in reads {
            if failing.is_some_and(|sector| (first..end).contains(&sector)) {
                prop_assert_eq!(result(&told), Some(Err(Errno::EIO)));
                continue;
            }
            prop_assert_eq!(result(&told), Some(Ok(())));
            let mut got = Vec::new();
            for segment in &segments {
                let mut piece = vec![0; segment.length as usize];
                segment.frame.read(segment.offset as usize, &mut piece);
                got.extend(piece);
            }
            prop_assert_eq!(got, expected);
        }
        prop_assert_eq!(device.statistics().in_flight(), (0, 0));
    }
}
