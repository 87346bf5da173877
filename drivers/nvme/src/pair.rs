//! A submission queue and its completion queue, and what is in them.
//!
//! Key types: [`Pair`], [`Late`] (what is to be done about commands that take too long). A request that is several commands ends with the last of
//! them. Reference: NVMe Base 1.4, 4.1 and 4.3. Locks: one spin lock with interrupts off for each pair.

use crate::command::{COMMAND_BYTES, COMPLETION_BYTES, Command, Completed};
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::Request;
use machine::dma::{DmaAddress, DmaRegion};
use machine::memory::try_arc;
use machine::sync::IrqSpinLock;
use machine::sync::atomic::{AtomicU32, Ordering};

/// The most pages of one command; also of a request, so that a request has no more commands than that.
pub const MAX_PAGES: usize = 64;
/// Bytes of a command's list of pages.
const LIST_BYTES: usize = MAX_PAGES * 8;
/// Commands taken back between two looks at the lock.
const BATCH: usize = 16;

/// A request and how many of its commands are under way.
struct Group {
    request: IrqSpinLock<Option<Request>>,
    left: AtomicU32,
    failed: IrqSpinLock<Option<Errno>>,
}

impl Group {
    /// One of its commands is done.
    fn end_one(&self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.lock().get_or_insert(error);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let request = self.request.lock().take();
            let result = self.failed.lock().map_or(Ok(()), Err);
            match (request, result) {
                (Some(request), Err(Errno::EAGAIN)) => request.retry(),
                (Some(request), result) => request.complete(result),
                (None, _) => {}
            }
        }
    }
}

/// A command that the controller has.
struct Given {
    group: Arc<Group>,
    /// Since when, of [`machine::time::now_ns`]; or since when it is asked to give it up.
    since_ns: u64,
    is_aborted: bool,
}

struct State {
    tail: u16,
    head: u16,
    lap: bool,
    given: Vec<Option<Given>>,
    free: Vec<u16>,
    is_full: bool,
    is_broken: bool,
    /// The controller is being reset.
    is_paused: bool,
}

/// How long a command may take, and then its abortion.
pub const PATIENCE_NS: u64 = 30_000_000_000;

/// What is to be done about a pair's commands that take too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// Nothing before this time; `None`: it has no commands.
    Nothing(Option<u64>),
    /// This one is to be given up by the controller, which has had its time.
    Abort(u16),
    /// The controller does not even do that.
    Reset,
}

/// A pair of queues.
pub struct Pair {
    submission: DmaRegion,
    completion: DmaRegion,
    /// A list of pages for each command.
    lists: DmaRegion,
    entries: u16,
    state: IrqSpinLock<State>,
}

/// The commands that fit: a queue with all entries used would look empty.
fn ids(entries: u16) -> impl Iterator<Item = u16> {
    (0..entries - 1).rev()
}

impl Pair {
    /// Queues of so many entries. Errors: `ENOMEM`.
    pub fn new(entries: u16) -> Result<Pair> {
        let count = usize::from(entries);
        let mut given = Vec::new();
        given.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        given.resize_with(count, || None);
        let mut free = Vec::new();
        free.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        free.extend(ids(entries));
        let state = State {
            tail: 0,
            head: 0,
            lap: true,
            given,
            free,
            is_full: false,
            is_broken: false,
            is_paused: false,
        };
        Ok(Pair {
            submission: DmaRegion::alloc(count * COMMAND_BYTES)?,
            completion: DmaRegion::alloc(count * COMPLETION_BYTES)?,
            lists: DmaRegion::alloc(count * LIST_BYTES)?,
            entries,
            state: IrqSpinLock::new(state),
        })
    }

    pub fn entries(&self) -> u16 {
        self.entries
    }

    pub fn submission_address(&self) -> DmaAddress {
        self.submission.address()
    }

    pub fn completion_address(&self) -> DmaAddress {
        self.completion.address()
    }

    /// Where the next command goes, for the doorbell; `None`: nobody is to ring.
    pub fn tail(&self) -> Option<u16> {
        let state = self.state.lock();
        (!state.is_paused).then_some(state.tail)
    }

    /// Puts a request's commands in. `make` makes command N, and gives its pages in order to what
    /// it is called with. Gives the request back if they do not fit now.
    pub fn add(
        &self,
        request: Request,
        count: usize,
        mut make: impl FnMut(&Request, usize, &mut dyn FnMut(u64)) -> Command,
    ) -> core::result::Result<(), Request> {
        let mut state = self.state.lock();
        if state.is_broken || count == 0 || count > MAX_PAGES {
            drop(state);
            request.complete(Err(Errno::EIO));
            return Ok(());
        }
        if state.is_paused || state.free.len() < count {
            state.is_full = true;
            return Err(request);
        }
        let left = AtomicU32::new(count as u32);
        let group = Group { request: IrqSpinLock::new(None), left, failed: IrqSpinLock::new(None) };
        let Ok(group) = try_arc(group) else {
            drop(state);
            request.complete(Err(Errno::ENOMEM));
            return Ok(());
        };
        for number in 0..count {
            let Some(id) = state.free.pop() else { break };
            let command = self.with_pages(id, |page| make(&request, number, page));
            command.write(&self.submission, usize::from(state.tail) * COMMAND_BYTES, id);
            state.tail = (state.tail + 1) % self.entries;
            if let Some(place) = state.given.get_mut(usize::from(id)) {
                let since_ns = machine::time::now_ns();
                *place = Some(Given { group: group.clone(), since_ns, is_aborted: false });
            }
        }
        *group.request.lock() = Some(request);
        Ok(())
    }

    /// Makes a command whose pages are told one after the other.
    fn with_pages(&self, id: u16, make: impl FnOnce(&mut dyn FnMut(u64)) -> Command) -> Command {
        let list = usize::from(id) * LIST_BYTES;
        let (mut first, mut second, mut count) = (0, 0, 0);
        let mut command = make(&mut |page| {
            match count {
                0 => first = page,
                number if number < MAX_PAGES => {
                    second = page;
                    self.lists.write(list + 8 * (number - 1), page);
                }
                _ => {}
            }
            count += 1;
        });
        if let Some((start, blocks)) = command.range {
            self.lists.write(list, 0u32);
            self.lists.write(list + 4, blocks);
            self.lists.write(list + 8, start);
            first = self.lists.address_at(list).0;
        }
        let second = if count > 2 { self.lists.address_at(list).0 } else { second };
        command.pages = [first, second];
        command
    }

    /// Takes back what is done, and says to `note` how far it has looked. Gives whether somebody waits for room. `Err`: the controller
    /// breaks the rules. Any context.
    pub fn complete(&self, mut note: impl FnMut(u16)) -> core::result::Result<bool, ()> {
        let mut somebody_waits = false;
        loop {
            let mut done: [Option<(Arc<Group>, Result<()>)>; BATCH] = [const { None }; BATCH];
            let mut count = 0;
            let mut state = self.state.lock();
            while count < BATCH && !state.is_broken {
                let entry = usize::from(state.head) * COMPLETION_BYTES;
                let Some(completed) = Completed::read(&self.completion, entry, state.lap) else { break };
                state.head = (state.head + 1) % self.entries;
                state.lap ^= state.head == 0;
                let place = state.given.get_mut(usize::from(completed.id)).and_then(Option::take);
                let Some(Given { group, .. }) = place else {
                    state.is_broken = true;
                    break;
                };
                state.free.push(completed.id);
                let result = completed.outcome();
                if let Some(slot) = done.get_mut(count) {
                    *slot = Some((group, result));
                }
                count += 1;
            }
            let (is_broken, head) = (state.is_broken, state.head);
            somebody_waits |= count > 0 && core::mem::take(&mut state.is_full);
            drop(state);
            if count > 0 {
                note(head);
            }
            done.into_iter().flatten().for_each(|(group, result)| group.end_one(result));
            if is_broken {
                return Err(());
            }
            if count < BATCH {
                return Ok(somebody_waits);
            }
        }
    }

    /// What is to be done about commands that take too long at `now_ns`. A command is to be aborted once, and has as long for that.
    pub fn late(&self, now_ns: u64) -> Late {
        let mut state = self.state.lock();
        let mut next = None;
        let mut abort = None;
        for (id, given) in state.given.iter_mut().enumerate() {
            let Some(given) = given else { continue };
            let due = given.since_ns.saturating_add(PATIENCE_NS);
            if due > now_ns {
                next = Some(next.map_or(due, |next: u64| next.min(due)));
            } else if given.is_aborted {
                return Late::Reset;
            } else if abort.is_none() {
                (given.is_aborted, given.since_ns) = (true, now_ns);
                abort = Some(id as u16);
            }
        }
        abort.map_or(Late::Nothing(next), Late::Abort)
    }

    /// Nothing more is put in until [`Pair::resume`].
    pub fn pause(&self) {
        self.state.lock().is_paused = true;
    }

    /// Takes back all requests, and is as new: the controller has been disabled and uses its memory no more.
    pub fn take_back(&self) -> Vec<Request> {
        let mut state = self.state.lock();
        let given: Vec<Arc<Group>> =
            state.given.iter_mut().filter_map(Option::take).map(|given| given.group).collect();
        (state.tail, state.head, state.lap) = (0, 0, true);
        state.free.clear();
        state.free.extend(ids(self.entries));
        crate::admin::clear(&self.completion);
        drop(state);
        given.into_iter().filter_map(|group| group.request.lock().take()).collect()
    }

    /// The controller has its queues again.
    pub fn resume(&self) {
        self.state.lock().is_paused = false;
    }

    /// Ends all that the controller has, which does not work any more: if it did not stop, the memory stays its own.
    pub fn drain(&self, has_stopped: bool) {
        let given: Vec<Arc<Group>> = {
            let mut state = self.state.lock();
            state.is_broken = true;
            state.given.iter_mut().filter_map(Option::take).map(|given| given.group).collect()
        };
        for group in given {
            if !has_stopped && let Some(request) = &*group.request.lock() {
                request.segments().for_each(|segment| core::mem::forget(segment.frame.clone()));
            }
            group.end_one(Err(Errno::EIO));
        }
    }
}
