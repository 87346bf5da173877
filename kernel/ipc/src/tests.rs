//! Pipes, futexes and epoll with several threads on several CPUs, in the orders that seeds choose. A lost wake-up is a deadlock,
//! which the simulator reports.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::epoll::EpollEvent;
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use abi::futex::FUTEX_WAITERS;
use abi::mman;
use abi::poll::PollEvents;
use machine::PAGE_SIZE;
use machine::user;
use mm::io::{SliceReader, SliceWriter};
use mm::{AddressSpace, Layout, Limits, MmapBacking, MmapRequest, Protection, Randomize};
use sched::Thread;
use sched::host::{Crew, point, repeats, run_seeds};
use security::Credentials;
use vfs::{File, anonymous};

use crate::epoll::{Control, Epoll};
use crate::eventfd::{EventFd, Reading};
use crate::futex::pi::{self, Attempt, PiThreads};
use crate::futex::{self, MATCH_ANY, Scope, Word};
use crate::pipe;

const SEEDS: u64 = 15;

fn open(operations: Arc<dyn vfs::FileOperations>, flags: OpenFlags) -> Arc<File> {
    anonymous::new_file("test", operations, flags, &Credentials::initial()).unwrap()
}

fn new_pipe() -> (Arc<File>, Arc<File>) {
    let (reader, writer) = pipe::create().unwrap();
    (open(reader, OpenFlags::empty()), open(writer, OpenFlags::WRONLY))
}

/// Two writers send numbered records that are atomic (pipe(7): up to PIPE_BUF), two readers take them: each comes once, and those of
/// one writer in order; then the end of the file.
fn records_through_a_pipe() {
    const RECORDS: u8 = 24;
    const LENGTH: usize = 1024;
    let (reader, writer) = new_pipe();
    let counts: Arc<Vec<AtomicU32>> = Arc::new((0..2 * RECORDS).map(|_| AtomicU32::new(0)).collect());
    let crew = Crew::new();
    for me in 0..2 {
        let writer = writer.clone();
        crew.spawn("writer", move || {
            for number in 0..RECORDS {
                let record = [me * RECORDS + number; LENGTH];
                assert_eq!(writer.write(&mut SliceReader::new(&record)), Ok(LENGTH));
            }
        });
    }
    drop(writer);
    for _ in 0..2 {
        let (reader, counts) = (reader.clone(), counts.clone());
        crew.spawn("reader", move || {
            let mut last = [None, None];
            loop {
                let mut record = [0; LENGTH];
                match reader.read(&mut SliceWriter::new(&mut record)).unwrap() {
                    0 => break,
                    length => assert_eq!(length, LENGTH),
                }
                assert!(record.iter().all(|byte| *byte == record[0]), "a torn record");
                counts[usize::from(record[0])].fetch_add(1, Ordering::Relaxed);
                let before = last[usize::from(record[0] / RECORDS)].replace(record[0]);
                assert!(before < Some(record[0]), "out of order");
            }
        });
    }
    crew.join();
    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
}

#[test]
fn pipes_lose_and_tear_nothing() {
    run_seeds(SEEDS, 4, records_through_a_pipe);
}

#[test]
fn a_seed_repeats_with_pipes() {
    repeats(4, 4, records_through_a_pipe);
}

#[test]
fn writers_to_a_pipe_without_readers_are_told() {
    run_seeds(SEEDS, 2, || {
        let (reader, writer) = new_pipe();
        let crew = Crew::new();
        crew.spawn("writer", move || {
            let result = loop {
                match writer.write(&mut SliceReader::new(&[0; PAGE_SIZE])) {
                    Ok(_) => {}
                    Err(errno) => break errno,
                }
            };
            assert_eq!(result, Errno::EPIPE);
        });
        for _ in 0..5 {
            reader.read(&mut SliceWriter::new(&mut [0; PAGE_SIZE])).unwrap();
        }
        drop(reader);
        crew.join();
    });
}

/// An address space with a page of zeros, in which threads of a test run.
#[derive(Clone)]
struct Program {
    space: Arc<AddressSpace>,
    page: usize,
}

impl Program {
    fn new() -> Program {
        let space = AddressSpace::new(Layout::new(8 << 20, Randomize::No)).unwrap();
        let request = MmapRequest {
            address: 0,
            length: PAGE_SIZE,
            protection: Protection::READ | Protection::WRITE,
            flags: mman::MAP_ANONYMOUS | mman::MAP_PRIVATE,
            backing: MmapBacking::Anonymous,
        };
        let page = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        space.write_remote(page, &[0; 64], mm::RemoteAccess::Checked).unwrap();
        Program { space, page }
    }
    fn enter(&self) {
        sched::current().set_page_table(Some(self.space.page_table().clone()));
    }
    fn word(&self, index: usize) -> Word<'_> {
        Word::new(&self.space, self.page + 4 * index, Scope::Private).unwrap()
    }
    fn load(&self, index: usize) -> u32 {
        user::read_u32_atomic(self.page + 4 * index).unwrap()
    }
    fn exchange(&self, index: usize, old: u32, new: u32) -> u32 {
        user::compare_exchange_u32(self.page + 4 * index, old, new).unwrap()
    }
    fn swap(&self, index: usize, new: u32) -> u32 {
        user::fetch_update_u32(self.page + 4 * index, |_| new).unwrap()
    }
    fn spawn(&self, crew: &Crew, work: impl FnOnce(&Program) + Send + 'static) -> Arc<Thread> {
        let program = self.clone();
        crew.spawn("program", move || {
            program.enter();
            work(&program);
        })
    }
}

/// The mutex of Drepper's "Futexes Are Tricky": 0 free, 1 taken, 2 taken and perhaps waited for.
fn lock(program: &Program) {
    let mut seen = program.exchange(0, 0, 1);
    while seen != 0 {
        if seen == 2 || program.exchange(0, 1, 2) != 0 {
            match futex::wait(program.word(0), 2, None, MATCH_ANY) {
                Ok(()) | Err(Errno::EAGAIN) => {}
                Err(errno) => panic!("{errno:?}"),
            }
        }
        seen = program.exchange(0, 0, 2);
    }
}

fn unlock(program: &Program) {
    if program.swap(0, 0) == 2 {
        futex::wake(program.word(0), 1, MATCH_ANY).unwrap();
    }
}

fn a_mutex_on_a_futex() {
    let program = Program::new();
    let crew = Crew::new();
    for _ in 0..4 {
        program.spawn(&crew, |program| {
            for _ in 0..8 {
                lock(program);
                let seen = program.load(1);
                point();
                program.swap(1, seen + 1);
                unlock(program);
            }
        });
    }
    crew.join();
    program.enter();
    assert_eq!(program.load(1), 32);
}

#[test]
fn a_futex_mutex_excludes_and_wakes() {
    run_seeds(SEEDS, 4, a_mutex_on_a_futex);
}

#[test]
fn a_seed_repeats_with_futexes() {
    repeats(4, 3, a_mutex_on_a_futex);
}

#[test]
fn requeued_waiters_are_woken_at_the_other_word() {
    run_seeds(SEEDS, 3, || {
        let program = Program::new();
        let crew = Crew::new();
        for _ in 0..4 {
            program
                .spawn(&crew, |program| assert_eq!(futex::wait(program.word(0), 0, None, MATCH_ANY), Ok(())));
        }
        program.enter();
        let (mut moved, mut woken) = (0, 0);
        while moved + woken < 4 {
            // One is woken and one moved each time that there are so many.
            let both = futex::requeue(program.word(0), program.word(1), 1, 1, Some(0)).unwrap();
            woken += both.min(1);
            moved += both.saturating_sub(1);
            sched::yield_now();
        }
        assert_eq!(futex::wake(program.word(0), 9, MATCH_ANY), Ok(0));
        assert_eq!(futex::wake(program.word(1), 9, MATCH_ANY), Ok(moved));
        crew.join();
    });
}

#[test]
fn a_wake_and_a_timeout_agree_on_who_came_first() {
    run_seeds(SEEDS, 2, || {
        let program = Program::new();
        let crew = Crew::new();
        let waits = Arc::new(AtomicU32::new(0));
        for _ in 0..3 {
            let waits = waits.clone();
            program.spawn(&crew, move |program| {
                let deadline = machine::time::now_ns() + 4_000;
                match futex::wait(program.word(0), 0, Some(deadline), MATCH_ANY) {
                    Ok(()) => drop(waits.fetch_add(1, Ordering::Relaxed)),
                    Err(errno) => assert_eq!(errno, Errno::ETIMEDOUT),
                }
            });
        }
        program.enter();
        let mut woken = 0;
        for _ in 0..6 {
            woken += futex::wake(program.word(0), 1, MATCH_ANY).unwrap();
            point();
        }
        crew.join();
        assert_eq!(waits.load(Ordering::Relaxed) as usize, woken, "each wake-up that was counted was had");
    });
}

/// Thread ids of the test: the place in this list, from 1.
static THREADS: std::sync::Mutex<Vec<Arc<Thread>>> = std::sync::Mutex::new(Vec::new());

struct ListedThreads;

impl PiThreads for ListedThreads {
    fn current_id(&self) -> u32 {
        let me = sched::current_arc();
        let mut threads = THREADS.lock().unwrap();
        let known = threads.iter().position(|thread| Arc::ptr_eq(thread, &me));
        let index = known.unwrap_or_else(|| {
            threads.push(me);
            threads.len() - 1
        });
        index as u32 + 1
    }
    fn find(&self, id: u32) -> Option<Arc<Thread>> {
        THREADS.lock().unwrap().get(id as usize - 1).cloned()
    }
}

#[test]
fn a_pi_futex_excludes_and_is_handed_over() {
    run_seeds(SEEDS, 4, || {
        pi::register_threads(&ListedThreads);
        let program = Program::new();
        let crew = Crew::new();
        for number in 0..4 {
            program.spawn(&crew, move |program| {
                if number == 3 {
                    sched::current().set_nice(-5);
                }
                let me = ListedThreads.current_id();
                for _ in 0..6 {
                    if program.exchange(0, 0, me) != 0 {
                        pi::lock(program.word(0), Attempt::Wait, None).unwrap();
                    }
                    assert_eq!(program.load(0) & !FUTEX_WAITERS, me);
                    let seen = program.load(1);
                    point();
                    program.swap(1, seen + 1);
                    if program.exchange(0, me, 0) != me {
                        pi::unlock(program.word(0)).unwrap();
                    }
                }
            });
        }
        crew.join();
        program.enter();
        assert_eq!((program.load(0), program.load(1)), (0, 24));
    });
}

/// What an epoll says, until its events tell of `wanted` signals taken from the event descriptors.
fn take_signals(epoll: &Epoll, files: &[Arc<File>], taken: &AtomicU32, wanted: u32) -> Result<()> {
    while taken.load(Ordering::Acquire) < wanted {
        // The last signal may be taken by another: then nothing more comes.
        let deadline = Some(machine::time::now_ns() + 10_000_000);
        let mut ready = Vec::new();
        epoll.wait(4, deadline, |event| {
            ready.push(event.data as usize);
            Ok(())
        })?;
        for index in ready {
            let mut value = [0; 8];
            match files[index].read(&mut SliceWriter::new(&mut value)) {
                Ok(8) => drop(taken.fetch_add(u64::from_le_bytes(value) as u32, Ordering::AcqRel)),
                Err(Errno::EAGAIN) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(())
}

#[test]
fn epoll_tells_of_every_signal() {
    const ROUNDS: u32 = 10;
    run_seeds(SEEDS, 4, || {
        let epoll = Epoll::new(0);
        let events: Vec<_> = (0..3).map(|_| EventFd::new(0, Reading::All)).collect();
        let files: Arc<Vec<_>> = Arc::new(
            events.iter().map(|event| open(event.clone(), OpenFlags::NONBLOCK | OpenFlags::RDWR)).collect(),
        );
        for (index, file) in files.iter().enumerate() {
            let event = EpollEvent { events: PollEvents::READABLE.bits(), data: index as u64 };
            epoll.control(Control::Add, index as i32, file, event).unwrap();
        }
        let taken = Arc::new(AtomicU32::new(0));
        let crew = Crew::new();
        for _ in 0..2 {
            let (epoll, files, taken) = (epoll.clone(), files.clone(), taken.clone());
            crew.spawn("waiter", move || {
                take_signals(&epoll, &files, &taken, 3 * ROUNDS).unwrap();
            });
        }
        for event in events {
            crew.spawn("signaller", move || {
                for _ in 0..ROUNDS {
                    event.signal(1);
                    sched::yield_now();
                }
            });
        }
        crew.join();
        assert_eq!(taken.load(Ordering::Relaxed), 3 * ROUNDS);
    });
}
