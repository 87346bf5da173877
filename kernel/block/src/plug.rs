//! Plugging: what one thread submits in a row is collected, so that neighbours become one request, and goes out together.
//!
//! Key types: [`Plug`] (the guard), [`PlugList`] (what it has collected). While the thread sleeps nothing is held back: the scheduler
//! hands the collection over first ([`sched::plug`]). A list that is full goes out at once.
//!
//! Locks: the list has a spin lock, a leaf, that only its thread takes.

use crate::disk::Disk;
use crate::driver::Request;
use crate::merge;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use machine::preempt;
use machine::sync::SpinLock;

/// More requests than this are not held back.
const MAX_REQUESTS: usize = 32;
/// A request of this many sectors goes out at once.
const LARGE_SECTORS: u64 = 256;

/// While it lives, the thread's transfers are collected. A plug within a plug does nothing by itself.
pub struct Plug {
    list: Option<Arc<PlugList>>,
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl Plug {
    /// Starts collecting.
    pub fn new() -> Plug {
        let list = machine::memory::try_arc(PlugList::default()).ok();
        let list = list.filter(|list| preempt::may_sleep() && sched::plug::set(list.clone()));
        Plug { list, _not_send: core::marker::PhantomData }
    }
}

impl Default for Plug {
    fn default() -> Plug {
        Plug::new()
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            sched::plug::clear();
            list.hand_over();
        }
    }
}

/// Requests that have not gone to their disks yet.
#[derive(Default)]
pub(crate) struct PlugList {
    requests: SpinLock<Vec<Request>>,
}

impl PlugList {
    /// The running thread's, if it collects.
    pub(crate) fn current() -> Option<Arc<PlugList>> {
        if !preempt::may_sleep() {
            return None;
        }
        let any: Arc<dyn Any + Send + Sync> = sched::plug::current()?;
        any.downcast().ok()
    }

    /// Takes a request, merged with a neighbour if there is one; gives it back if there is no memory to keep it.
    pub(crate) fn add(&self, mut request: Request) -> Result<(), Request> {
        let full = {
            let mut requests = self.requests.lock();
            let neighbour = requests.iter_mut().rev().find(|known| merge::are_neighbours(known, &request));
            if let Some(known) = neighbour {
                match merge::merge(known, request) {
                    Ok(()) => return Ok(()),
                    Err(back) => request = back,
                }
            }
            if requests.try_reserve(1).is_err() {
                return Err(request);
            }
            let large = request.sectors >= LARGE_SECTORS;
            requests.push(request);
            large || requests.len() >= MAX_REQUESTS
        };
        if full {
            self.hand_over();
        }
        Ok(())
    }

    /// Everything goes to its disk.
    pub(crate) fn hand_over(&self) {
        let mut requests = core::mem::take(&mut *self.requests.lock());
        // By disk, then by place, which gives the schedulers long runs.
        sort(&mut requests);
        let mut previous: Option<(Arc<Disk>, usize)> = None;
        for request in requests {
            let Some(disk) = request.disk() else { continue };
            let queue = disk.insert(request);
            let differs = |known: &mut (Arc<Disk>, usize)| !Arc::ptr_eq(&known.0, &disk) || known.1 != queue;
            if let Some((other, ready)) = previous.take_if(differs) {
                other.work_off_submitted(ready);
            }
            previous = Some((disk, queue));
        }
        if let Some((disk, queue)) = previous {
            disk.work_off_submitted(queue);
        }
    }
}

impl sched::plug::Plugged for PlugList {
    fn unplug(&self) {
        self.hand_over();
    }
}

/// By disk, then by place; what is for the same place stays in the order of coming. There are few: the library's way would
/// take memory, and a page of stack.
fn sort(requests: &mut [Request]) {
    let place = |request: &Request| (request.disk_address(), request.sector);
    for end in 1..requests.len() {
        let earlier = requests.get(..end).unwrap_or_default();
        let Some(moved) = requests.get(end) else { return };
        let to = earlier.partition_point(|request| place(request) <= place(moved));
        if let Some(part) = requests.get_mut(to..=end) {
            part.rotate_right(1);
        }
    }
}
