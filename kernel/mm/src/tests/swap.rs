//! Swap space: pages leave and come back beside a model, with forks, errors of the disk, and a machine whose programs are larger than it.

use super::*;
use crate::lend::{Lending, lend};
use crate::oom::{OomCandidate, OomReport, OomState, OomVictims};
use crate::swap::{self, AreaIdentity, AreaRequest, Direction, Discards, Header, SwapStore, Transfer};
use crate::{oom, reclaim};
use abi::errno::Errno;
use alloc::sync::Weak;
use machine::memory::{AllocFlags, Frame, PageTable};
use sched::host::{Crew, run_seeds};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex as HostMutex;

/// A place for swap space.
#[derive(Default)]
struct Store {
    size: u64,
    pages: HostMutex<BTreeMap<u64, Vec<u8>>>,
    /// Pages that cannot be read, and whether nothing can be written.
    bad: HostMutex<BTreeSet<u64>>,
    refuses: HostMutex<bool>,
}

impl Store {
    fn new(size: u64) -> Arc<Store> {
        Arc::new(Store { size, ..Store::default() })
    }
}

impl SwapStore for Store {
    fn pages(&self) -> u64 {
        self.size
    }

    fn start(&self, mut transfer: Transfer) {
        let first = transfer.first();
        // In two pieces, as where a file is broken.
        let count = transfer.frames().len();
        if count > 1 {
            self.start(transfer.split_off(count / 2));
        }
        let mut result = Ok(());
        for (page, frame) in (first..).zip(transfer.frames()) {
            match transfer.direction() {
                Direction::Out if *self.refuses.lock().unwrap() => result = Err(Errno::EIO),
                Direction::Out => {
                    let mut bytes = std::vec![0; PAGE_SIZE];
                    frame.read(0, &mut bytes);
                    self.pages.lock().unwrap().insert(page, bytes);
                }
                Direction::In if self.bad.lock().unwrap().contains(&page) => result = Err(Errno::EIO),
                Direction::In => match self.pages.lock().unwrap().get(&page) {
                    Some(bytes) => frame.write(0, bytes),
                    None => panic!("page {page} was never written"),
                },
            }
        }
        transfer.complete(result);
    }
}

fn swap_on(store: &Arc<Store>, number: u64) {
    let request = AreaRequest {
        path: std::format!("/dev/test{number}"),
        identity: AreaIdentity::Device(number),
        is_file: false,
        priority: None,
        header: Header { pages: store.size, bad_pages: Vec::from([3]) },
        discards: Discards::empty(),
    };
    swap::swap_on(store.clone(), request).unwrap();
}

/// The programs of a test.
struct Programs(HostMutex<Vec<Weak<AddressSpace>>>);

static PROGRAMS: Programs = Programs(HostMutex::new(Vec::new()));

impl OomVictims for Programs {
    fn for_each(&self, f: &mut dyn FnMut(OomCandidate)) {
        let all = self.0.lock().unwrap().clone();
        for address_space in all.iter().filter_map(Weak::upgrade) {
            f(OomCandidate { id: 1, address_space, score_adjust: 0, state: OomState::Unkillable });
        }
    }
    fn kill(&self, _: u64, _: &OomReport) {
        panic!("the OOM killer was called");
    }
    fn current_is_dying(&self) -> bool {
        false
    }
}

fn program(space: Arc<AddressSpace>) -> Arc<AddressSpace> {
    PROGRAMS.0.lock().unwrap().push(Arc::downgrade(&space));
    space
}

fn start() {
    init();
    oom::register(&PROGRAMS);
}

const PAGES: usize = 300;

/// A program, and what must be in the first byte of each of its pages; `None`: unmapped.
struct Twin {
    space: Arc<AddressSpace>,
    base: usize,
    model: Vec<Option<u8>>,
}

impl Twin {
    fn new() -> Twin {
        let space = program(new_space());
        let base = map_private(&space, PAGES);
        Twin { space, base, model: std::vec![Some(0); PAGES] }
    }

    fn address(&self, page: usize) -> usize {
        self.base + page * PAGE_SIZE
    }

    fn range(&self, page: usize, count: usize) -> core::ops::Range<usize> {
        self.address(page)..self.address((page + count).min(PAGES))
    }

    fn check(&self, page: usize) {
        assert_eq!(peek(&self.space, self.address(page)).ok(), self.model[page], "page {page}");
    }

    /// Any one page from here on.
    fn check_from(&self, page: usize) {
        assert_eq!(peek(&self.space, self.address(page)), Ok(1));
    }

    fn check_all(&self) {
        (0..PAGES).for_each(|page| self.check(page));
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn step(dice: &mut Dice, twins: &mut Vec<Twin>) {
    let (which, count_of_twins) = (dice.below(twins.len()), twins.len());
    let page = dice.below(PAGES);
    let twin = &mut twins[which];
    match dice.below(20) {
        0..6 => {
            let value = dice.below(256) as u8;
            let written = poke(&twin.space, twin.address(page), value);
            assert_eq!(written.is_ok(), twin.model[page].is_some());
            twin.model[page] = twin.model[page].map(|_| value);
        }
        6..10 => twin.check(page),
        10..13 => {
            let count = dice.below(100) + 1;
            swap::out::page_out(&twin.space, twin.range(page, count));
        }
        13 => _ = swap::drop_clean(dice.below(50) + 1),
        14 => _ = swap::out::shrink(dice.below(100) + 1, 20),
        15 if count_of_twins < 5 => {
            let space = program(twin.space.fork().unwrap());
            let copy = Twin { space, base: twin.base, model: twin.model.clone() };
            twins.push(copy);
        }
        16 if count_of_twins > 1 => drop(twins.swap_remove(which)),
        17 => {
            let count = (dice.below(20) + 1).min(PAGES - page);
            let range = twin.range(page, count);
            twin.space.madvise(range.start, range.len(), mman::MADV_DONTNEED).ok();
            twin.model[page..page + count].iter_mut().for_each(|byte| *byte = byte.map(|_| 0));
        }
        18 if dice.below(4) == 0 => {
            twin.space.munmap(twin.address(page), PAGE_SIZE).unwrap();
            twin.model[page] = None;
        }
        19 if dice.below(4) == 0 => {
            swap::swap_off(AreaIdentity::Device(1)).unwrap();
            assert!(twins.iter().all(|twin| twin.space.usage().swapped == 0));
        }
        _ => {}
    }
}

#[test]
fn programs_agree_with_a_model_while_their_pages_come_and_go() {
    run_seeds(2, 2, || {
        start();
        for seed in 0..12 {
            let store = Store::new(700);
            swap_on(&store, 1);
            let mut dice = Dice(seed);
            let mut twins = std::vec![Twin::new()];
            for _ in 0..600 {
                step(&mut dice, &mut twins);
                if !swap::is_area(AreaIdentity::Device(1)) {
                    swap_on(&store, 1);
                }
            }
            twins.iter().for_each(Twin::check_all);
            drop(twins);
            let info = swap::info();
            assert_eq!((info.free, info.cached), (info.total, 0), "seed {seed}: slots are lost");
            assert_eq!(info.total, 700 - 2, "the header and a bad page are not used");
            swap::swap_off(AreaIdentity::Device(1)).unwrap();
            assert_eq!(swap::info().total, 0);
        }
        assert!(swap::info().pages_in > 1000 && swap::info().pages_out > 1000);
    });
}

#[test]
fn advice_brings_pages_back() {
    run_seeds(1, 2, || {
        start();
        swap_on(&Store::new(2000), 1);
        let twin = Twin::new();
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), page as u8).unwrap());
        twin.space.madvise(twin.base, PAGES * PAGE_SIZE, mman::MADV_PAGEOUT).unwrap();
        assert_eq!((twin.space.usage().swapped, swap::info().cached), (PAGES, 0));
        let before = swap::info().pages_in;
        twin.space.madvise(twin.address(10), 50 * PAGE_SIZE, mman::MADV_WILLNEED).unwrap();
        let read = swap::info().pages_in - before;
        assert!((50..64).contains(&read), "{read} pages for 50, and neighbours");
        (10..60).for_each(|page| assert_eq!(peek(&twin.space, twin.address(page)), Ok(page as u8)));
        assert_eq!(swap::info().pages_in - before, read, "they had been read");
    });
}

#[test]
fn a_page_that_cannot_be_read_hurts_who_wants_it_only() {
    run_seeds(2, 2, || {
        start();
        let store = Store::new(1000);
        swap_on(&store, 1);
        let twin = Twin::new();
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), page as u8).unwrap());
        swap::out::page_out(&twin.space, twin.range(0, PAGES));
        assert_eq!(twin.space.usage().swapped, PAGES);
        let bad = twin.space.page_table().swapped_at(twin.address(100)).unwrap().number() & 0xffff_ffff;
        store.bad.lock().unwrap().insert(bad);
        assert_eq!(touch(&twin.space, twin.address(100), FaultAccess::READ), Err(FaultError::BusError));
        for page in (0..PAGES).filter(|page| *page != 100) {
            assert_eq!(peek(&twin.space, twin.address(page)), Ok(page as u8));
        }
        store.bad.lock().unwrap().clear();
        assert_eq!(peek(&twin.space, twin.address(100)), Ok(100), "it is tried again");
    });
}

#[test]
fn what_a_device_writes_stays() {
    run_seeds(2, 2, || {
        start();
        swap_on(&Store::new(1000), 1);
        let twin = Twin::new();
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), page as u8).unwrap());
        twin.space.activate();
        let lent = lend(twin.address(10), 20 * PAGE_SIZE, Lending::ToWrite).unwrap();
        PageTable::activate_kernel();
        swap::out::page_out(&twin.space, twin.range(0, PAGES));
        assert_eq!(twin.space.usage().swapped, PAGES - 20);
        lent.frames()[7].write(0, &[99]);
        assert_eq!(peek(&twin.space, twin.address(17)), Ok(99));
        drop(lent);
        swap::out::page_out(&twin.space, twin.range(0, PAGES));
        assert_eq!(twin.space.usage().swapped, PAGES);
        assert_eq!(peek(&twin.space, twin.address(17)), Ok(99));
    });
}

#[test]
fn a_page_that_cannot_be_written_stays() {
    run_seeds(2, 2, || {
        start();
        let store = Store::new(1000);
        swap_on(&store, 1);
        let twin = Twin::new();
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), page as u8).unwrap());
        *store.refuses.lock().unwrap() = true;
        swap::out::page_out(&twin.space, twin.range(0, PAGES));
        assert_eq!(swap::drop_clean(PAGES), 0);
        (0..PAGES).for_each(|page| assert_eq!(peek(&twin.space, twin.address(page)), Ok(page as u8)));
        *store.refuses.lock().unwrap() = false;
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), 1).unwrap());
        swap::out::page_out(&twin.space, twin.range(0, PAGES));
        assert_eq!(twin.space.usage().swapped, PAGES, "once it can be written it goes");
        drop(twin);
        let info = swap::info();
        assert_eq!((info.free, info.cached), (info.total, 0));
    });
}

#[test]
fn what_is_used_stays_longer() {
    run_seeds(1, 2, || {
        start();
        swap_on(&Store::new(2000), 1);
        let (hot, cold) = (Twin::new(), Twin::new());
        let touch_all = |twin: &Twin| {
            for page in 0..PAGES {
                touch(&twin.space, twin.address(page), FaultAccess::WRITE).unwrap();
                // The software page table notes no use: mapping a page does.
                let mut batch = machine::memory::TlbBatch::new(twin.space.page_table());
                let range = twin.range(page, 1);
                twin.space.page_table().update_range(range, &mut batch, |_, mapping| {
                    machine::memory::EntryAction::Map(mapping.frame.clone(), mapping.perms)
                });
            }
        };
        touch_all(&hot);
        touch_all(&cold);
        // The first look takes the marks of being new away.
        swap::out::shrink(1, 4 * PAGES);
        let mut freed = 0;
        for _ in 0..40 {
            touch_all(&hot);
            freed += swap::out::shrink(16, 4);
        }
        let (hot, cold) = (hot.space.usage().swapped, cold.space.usage().swapped);
        assert!(freed > 200 && hot * 4 < cold, "{freed} freed: {hot} hot, {cold} cold");
    });
}

#[test]
fn a_working_set_of_twice_the_memory() {
    run_seeds(3, 2, || {
        start();
        start_threads();
        swap_on(&Store::new(4000), 1);
        let stats = machine::memory::stats();
        let take = stats.free_pages.saturating_sub(stats.reserve_pages + 500);
        let taken: Vec<Frame> = (0..take).map_while(|_| Frame::alloc(AllocFlags::NO_RECLAIM).ok()).collect();
        let crew = Crew::new();
        for number in 0..3u8 {
            crew.spawn("program", move || {
                let space = program(new_space());
                let base = map_private(&space, 350);
                let value = |page: usize, round: u8| (page as u8).wrapping_mul(7) ^ number << 6 ^ round;
                for round in 0..3 {
                    for page in 0..350 {
                        let address = base + page * PAGE_SIZE;
                        if round > 0 {
                            assert_eq!(peek(&space, address), Ok(value(page, round - 1)));
                        }
                        poke(&space, address, value(page, round)).unwrap();
                    }
                }
            });
        }
        crew.join();
        drop(taken);
        assert!(swap::info().pages_out > 500, "{} pages left", swap::info().pages_out);
        assert!(reclaim::reclaimed_pages() > 500);
    });
}

#[test]
fn swappiness_says_whose_pages_go() {
    run_seeds(1, 2, || {
        start();
        swap_on(&Store::new(2000), 1);
        let twin = Twin::new();
        (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), 1).unwrap());
        // The marks of being new go.
        swap::out::shrink(1, 4 * PAGES);
        let already = twin.space.usage().swapped;
        let disk = Disk::new(200);
        let cache = PageCache::new(disk, 200 * PAGE_SIZE as u64);
        let read_all = || {
            let mut writer = crate::io::VecWriter::new(200 * PAGE_SIZE);
            assert_eq!(cache.read(0, &mut writer), Ok(200 * PAGE_SIZE));
            while reclaim::generations::shrink(1, 1) == 0 {}
        };
        read_all();
        reclaim::set_swappiness(0).unwrap();
        let files = cache.page_count();
        assert!(reclaim::free_pages() > 0);
        assert_eq!(twin.space.usage().swapped, already, "with 0 files go as long as there are any");
        assert!(cache.page_count() < files);
        reclaim::set_swappiness(200).unwrap();
        let files = cache.page_count();
        assert!(reclaim::free_pages() > 0);
        assert_eq!(cache.page_count(), files, "with 200 programs go as long as there are any");
        assert!(twin.space.usage().swapped > already);
        assert_eq!(reclaim::set_swappiness(201), Err(Errno::EINVAL));
    });
}

#[test]
fn page_cluster_says_how_many_are_read() {
    run_seeds(1, 2, || {
        start();
        swap_on(&Store::new(2000), 1);
        let twin = Twin::new();
        for (cluster, most) in [(0, 1), (3, 8), (5, 32)] {
            (0..PAGES).for_each(|page| poke(&twin.space, twin.address(page), 1).unwrap());
            swap::out::page_out(&twin.space, twin.range(0, PAGES));
            swap::set_page_cluster(cluster).unwrap();
            let before = swap::info().pages_in;
            twin.check_from(100);
            let read = swap::info().pages_in - before;
            assert!(read >= most / 2 && (1..=most).contains(&read), "{read} read at {cluster}");
        }
    });
}

/// A shrinker that notes how much was asked of it.
struct Asked(HostMutex<Vec<usize>>);

impl reclaim::Shrinker for Asked {
    fn shrink(&self, wanted: usize) -> usize {
        self.0.lock().unwrap().push(wanted);
        1
    }
}

#[test]
fn cache_pressure_says_how_many_objects_go() {
    run_seeds(1, 1, || {
        let asked = Arc::new(Asked(HostMutex::default()));
        let shrinker: Arc<dyn reclaim::Shrinker> = asked.clone();
        reclaim::add_shrinker(Arc::downgrade(&shrinker));
        for (pressure, freed) in [(100, 1), (0, 0), (250, 1)] {
            reclaim::set_cache_pressure(pressure).unwrap();
            assert_eq!(reclaim::shrink_objects(1000), freed);
        }
        assert_eq!(*asked.0.lock().unwrap(), [1000, 2500]);
        drop((asked, shrinker));
        assert_eq!(reclaim::shrink_objects(1000), 0, "it lives no longer");
    });
}

#[test]
fn the_marks_are_apart_as_the_scale_says() {
    run_seeds(1, 1, || {
        let (total, before) = (machine::memory::stats().total_pages, machine::memory::high_mark());
        machine::memory::set_mark_scale(1000);
        let reserve = machine::memory::stats().reserve_pages;
        assert_eq!(machine::memory::high_mark(), reserve + 2 * (total / 10_000 * 1000).max(reserve / 2));
        assert!(machine::memory::high_mark() > before);
        machine::memory::set_mark_scale(10);
        assert_eq!(machine::memory::high_mark(), before);
    });
}

#[test]
fn files_in_memory_agree_with_a_model_while_their_pages_come_and_go() {
    run_seeds(2, 2, || {
        start();
        for seed in 0..8 {
            swap_on(&Store::new(700), 1);
            let mut dice = Dice(seed);
            let cache = PageCache::new_in_memory(0);
            let mut model: Vec<u8> = Vec::new();
            for _ in 0..400 {
                file_step(&mut dice, &cache, &mut model);
                if !swap::is_area(AreaIdentity::Device(1)) {
                    swap_on(&Store::new(700), 1);
                }
            }
            compare(&cache, &model);
            drop(cache);
            let info = swap::info();
            assert_eq!((info.free, info.cached), (info.total, 0), "seed {seed}: slots are lost");
            assert_eq!(stats::SHMEM_PAGES.get(), 0);
            swap::swap_off(AreaIdentity::Device(1)).unwrap();
        }
        assert!(swap::info().pages_in > 500 && swap::info().pages_out > 500);
    });
}

fn compare(cache: &PageCache, model: &[u8]) {
    let mut writer = crate::io::VecWriter::new(model.len() + 1);
    assert_eq!(cache.read(0, &mut writer), Ok(model.len()));
    assert!(writer.into_bytes() == model, "the file is another");
}

fn file_step(dice: &mut Dice, cache: &PageCache, model: &mut Vec<u8>) {
    const LONGEST: usize = 200 * PAGE_SIZE;
    let at = dice.below(LONGEST);
    let length = dice.below(5 * PAGE_SIZE) + 1;
    match dice.below(12) {
        0..5 => {
            let bytes = std::vec![dice.below(255) as u8 + 1; length];
            assert_eq!(cache.write(at as u64, &mut crate::io::SliceReader::new(&bytes)), Ok(length));
            model.resize(model.len().max(at + length), 0);
            model[at..at + length].copy_from_slice(&bytes);
        }
        5..8 => {
            let first = dice.below(150) as u64;
            swap::out::page_out_file(cache, first..first + dice.below(100) as u64);
        }
        8 => _ = swap::out::shrink(dice.below(100) + 1, 20),
        9 => {
            cache.truncate(at as u64).unwrap();
            model.resize(at, 0);
        }
        10 => {
            cache.punch_hole(at as u64..(at + length) as u64).unwrap();
            let end = (at + length).min(model.len());
            if at < end {
                model[at..end].fill(0);
            }
        }
        _ if dice.below(6) == 0 => swap::swap_off(AreaIdentity::Device(1)).unwrap(),
        _ => {
            compare(cache, model);
            let data = cache.seek_data(0);
            let first = model.iter().position(|byte| *byte != 0);
            assert!(first.is_none_or(|first| data.is_some_and(|data| data <= first as u64)));
        }
    }
}
