//! Descriptors in flight (`SCM_RIGHTS`): how many a user may have, and the collection of circles.
//!
//! Key type: [`InFlight`]: the files of one message while it waits. While they do, the sockets among them are in the one graph
//! ([`super::graph`]). A socket that only messages hold can be in a circle of such; a worker finds those and empties their queues.
//!
//! Whoever makes a descriptor out of one in flight (receiving, peeking, accepting) does so under the graph's lock, so that the
//! collector, which holds it while it looks, sees no half of it. Locks: `STATE`, a sleeping lock over everything
//! here; queues are leaves under it. Files are dropped without it: see [`drop_files`].

use abi::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::sync::{Mutex, SpinLock};
use security::{Capability, Credentials, Kuid};
use vfs::File;

use super::graph::Graph;
use super::{UnixOperations, UnixSocket};
use crate::message;
use crate::socket::Socket;

struct State {
    graph: Graph<Weak<UnixSocket>>,
    /// How many descriptors of each user are in flight.
    users: BTreeMap<Kuid, usize>,
}

static STATE: Mutex<State> = Mutex::new(State { graph: Graph::new(), users: BTreeMap::new() });
/// Sockets in flight, for those who need not ask the graph if there are none.
static SOCKETS: AtomicUsize = AtomicUsize::new(0);
static SCHEDULED: AtomicBool = AtomicBool::new(false);

/// The files of a message that has not been received.
pub struct InFlight {
    files: Vec<Arc<File>>,
    user: Kuid,
    receiver: u64,
}

/// The UNIX socket that a file is.
fn socket_of(file: &File) -> Option<&Arc<UnixSocket>> {
    let socket = file.operations_as::<Socket>()?;
    Some(socket.operations_as::<UnixOperations>()?.socket())
}

impl InFlight {
    /// Puts files on their way to a receiver. `ETOOMANYREFS`: the user has too many on the way.
    pub fn new(files: Vec<Arc<File>>, receiver: &Arc<UnixSocket>, who: &Credentials) -> Result<InFlight> {
        let mut state = STATE.lock();
        let user = who.ruid;
        let limit = message::caller().and_then(|caller| caller.descriptor_limit()).unwrap_or(u64::MAX);
        let have = state.users.get(&user).copied().unwrap_or(0);
        let privileged = who.has(Capability::SysResource) || who.has(Capability::SysAdmin);
        if have as u64 > limit && !privileged {
            drop(state);
            drop_files(files);
            return Err(Errno::ETOOMANYREFS);
        }
        *state.users.entry(user).or_insert(0) += files.len();
        let owner = receiver.reader_number();
        for socket in files.iter().filter_map(|file| socket_of(file)) {
            let weak = Arc::downgrade(socket);
            state.graph.add((socket.number(), weak), (receiver.number(), Arc::downgrade(receiver)), owner);
            SOCKETS.fetch_add(1, Ordering::Relaxed);
        }
        Ok(InFlight { files, user, receiver: receiver.number() })
    }

    /// Takes them out of flight.
    fn land(&mut self) -> Vec<Arc<File>> {
        let files = core::mem::take(&mut self.files);
        let mut state = STATE.lock();
        if let Some(count) = state.users.get_mut(&self.user) {
            *count -= files.len();
            if *count == 0 {
                state.users.remove(&self.user);
            }
        }
        for socket in files.iter().filter_map(|file| socket_of(file)) {
            state.graph.remove(socket.number(), self.receiver);
            SOCKETS.fetch_sub(1, Ordering::Relaxed);
        }
        files
    }

    /// The files, received.
    pub fn receive(mut self) -> Vec<Arc<File>> {
        self.land()
    }

    /// The files, while they stay (`MSG_PEEK`). `ENOMEM`.
    pub fn peek(&self) -> Result<Vec<Arc<File>>> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(self.files.len()).map_err(|_| Errno::ENOMEM)?;
        let _state = STATE.lock();
        copy.extend(self.files.iter().cloned());
        Ok(copy)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.files.is_empty() {
            let files = self.land();
            drop_files(files);
        }
    }
}

/// Files that wait to be dropped by a thread that drops some already, by the thread.
static DROPPING: SpinLock<BTreeMap<usize, Vec<Arc<File>>>> = SpinLock::new(BTreeMap::new());

/// Drops files without recursion: dropping the last reference of a socket empties its queue, and so drops the files in that, which
/// comes here again on the same stack; those are put on a list that the outermost call works through.
pub fn drop_files(files: Vec<Arc<File>>) {
    let thread = sched::try_current().map_or(0, |thread| core::ptr::from_ref(&*thread).addr());
    {
        let mut dropping = DROPPING.lock();
        if let Some(waiting) = dropping.get_mut(&thread) {
            waiting.extend(files);
            return;
        }
        dropping.insert(thread, files);
    }
    loop {
        let next = {
            let mut dropping = DROPPING.lock();
            match dropping.get_mut(&thread).and_then(Vec::pop) {
                Some(file) => file,
                None => {
                    dropping.remove(&thread);
                    return;
                }
            }
        };
        drop(next);
    }
}

/// Runs `change`, which makes a connection that was not accepted a socket of its own, so that the collector sees it before or after.
pub fn accepting<R>(change: impl FnOnce() -> R) -> R {
    if SOCKETS.load(Ordering::Acquire) == 0 {
        return change();
    }
    let _state = STATE.lock();
    change()
}

/// A socket was closed: if circles can be, a worker looks for them soon.
pub fn note_closed() {
    if SOCKETS.load(Ordering::Acquire) == 0 || SCHEDULED.swap(true, Ordering::AcqRel) {
        return;
    }
    if sched::work::queue(collect).is_err() {
        SCHEDULED.store(false, Ordering::Release);
    }
}

/// Finds what only circles hold, and empties its queues.
fn collect() {
    SCHEDULED.store(false, Ordering::Release);
    let mut messages = Vec::new();
    {
        let mut state = STATE.lock();
        if !state.graph.maybe_cyclic() {
            return;
        }
        let owner_of = |number: u64, socket: &Weak<UnixSocket>| {
            socket.upgrade().map_or(number, |socket| socket.reader_number())
        };
        let has_outside = |_: u64, socket: &Weak<UnixSocket>, in_flight: usize| {
            socket.upgrade().is_none_or(|socket| socket.file_count() > in_flight)
        };
        for socket in state.graph.garbage(owner_of, has_outside).into_iter().filter_map(Weak::upgrade) {
            socket.take_rights(&mut messages);
        }
    }
    // Dropping them drops the files, which closes the sockets.
    drop(messages);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_collected_where_nothing_flies() {
        machine::host::run(1, 1, || {
            assert_eq!(accepting(|| 7), 7);
            drop_files(Vec::new());
            assert!(DROPPING.lock().is_empty());
        });
    }
}
