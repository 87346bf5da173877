//! The queued spin lock itself, without data, preemption or checking.
//!
//! One atomic operation takes a free lock; a plain store frees it. Contenders queue (Mellor-Crummey and Scott, "Algorithms
//! for Scalable Synchronization on Shared-Memory Multiprocessors", 1991): each spins on a node of its own CPU, so a long
//! queue costs no cache traffic, and gets the lock in order. A node is used only while its CPU waits, so a CPU needs
//! one for each context that can interrupt another: thread, interrupt, NMI.
//!
//! Key types: [`RawSpinLock`], [`NodeTable`].

use super::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

const CONTEXTS: usize = 4;

/// A place in the queue.
struct Node {
    granted: AtomicBool,
    /// The tail code of the next in the queue; 0 = none yet.
    next: AtomicU16,
}

/// One CPU's nodes and how many are in use.
#[cfg_attr(not(loom), repr(align(64)))]
pub(crate) struct CpuNodes {
    depth: AtomicU8,
    nodes: [Node; CONTEXTS],
}

/// The nodes of all CPUs.
pub(crate) trait NodeTable {
    /// The nodes of one CPU.
    fn of(&self, cpu: usize) -> &CpuNodes;
    /// Lets others run for a moment.
    fn relax(&self);
}

/// See the module.
pub(crate) struct RawSpinLock {
    locked: AtomicU8,
    /// Who is last in the queue: CPU * 4 + context + 1, or 0.
    tail: AtomicU16,
}

macro_rules! maybe_const_fn {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident() -> $ty:ty $body:block)*) => { $(
        #[cfg(not(loom))]
        $(#[$meta])* $vis const fn $name() -> $ty $body
        #[cfg(loom)]
        $(#[$meta])* $vis fn $name() -> $ty $body
    )* };
}

impl CpuNodes {
    maybe_const_fn! {
        pub(crate) fn new() -> CpuNodes {
            CpuNodes { depth: AtomicU8::new(0), nodes: [Node::new(), Node::new(), Node::new(), Node::new()] }
        }
    }
}

impl Node {
    maybe_const_fn! {
        fn new() -> Node {
            Node { granted: AtomicBool::new(false), next: AtomicU16::new(0) }
        }
    }
}

impl RawSpinLock {
    maybe_const_fn! {
        /// A free lock.
        pub(crate) fn new() -> RawSpinLock {
            RawSpinLock { locked: AtomicU8::new(0), tail: AtomicU16::new(0) }
        }
    }

    /// Takes the lock if it is free and nobody waits.
    #[inline(always)]
    pub(crate) fn try_lock(&self) -> bool {
        self.tail.load(Ordering::Relaxed) == 0
            && self.locked.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Frees the lock. Only the holder may call it.
    #[inline(always)]
    pub(crate) fn unlock(&self) {
        self.locked.store(0, Ordering::Release);
    }

    /// Makes it a free lock. Nobody else uses it.
    #[inline(always)]
    pub(crate) fn reset(&self) {
        self.locked.store(0, Ordering::Relaxed);
        self.tail.store(0, Ordering::Relaxed);
    }

    /// Whether someone holds it.
    #[inline]
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed) != 0
    }

    /// Waits in the queue. Preemption is off, and stays off while the lock is held.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_queued(&self, table: &impl NodeTable, cpu: usize) {
        let mine = table.of(cpu);
        let context = mine.depth.load(Ordering::Relaxed);
        if usize::from(context) >= CONTEXTS {
            return self.lock_unqueued(table);
        }
        mine.depth.store(context + 1, Ordering::Relaxed);
        let code = (cpu * CONTEXTS + usize::from(context) + 1) as u16;
        let node = &mine.nodes[usize::from(context)];
        node.granted.store(false, Ordering::Relaxed);
        node.next.store(0, Ordering::Relaxed);

        let before = self.tail.swap(code, Ordering::AcqRel);
        if before != 0 {
            node_of(table, before).next.store(code, Ordering::Release);
            while !node.granted.load(Ordering::Acquire) {
                table.relax();
            }
        }
        // First in the queue now.
        self.lock_unqueued(table);
        if self.tail.compare_exchange(code, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            let mut next = node.next.load(Ordering::Acquire);
            while next == 0 {
                table.relax();
                next = node.next.load(Ordering::Acquire);
            }
            node_of(table, next).granted.store(true, Ordering::Release);
        }
        mine.depth.store(context, Ordering::Relaxed);
    }

    fn lock_unqueued(&self, table: &impl NodeTable) {
        while self.locked.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.locked.load(Ordering::Relaxed) != 0 {
                table.relax();
            }
            #[cfg(loom)]
            table.relax();
        }
    }
}

fn node_of(table: &impl NodeTable, code: u16) -> &Node {
    let place = usize::from(code) - 1;
    &table.of(place / CONTEXTS).nodes[place % CONTEXTS]
}

#[cfg(not(loom))]
mod global {
    use super::{CpuNodes, NodeTable, RawSpinLock};
    use crate::{MAX_CPUS, arch};

    static NODES: [CpuNodes; MAX_CPUS] = [const { CpuNodes::new() }; MAX_CPUS];

    struct Global;

    impl NodeTable for Global {
        fn of(&self, cpu: usize) -> &CpuNodes {
            &NODES[cpu]
        }
        fn relax(&self) {
            arch::relax();
        }
    }

    impl RawSpinLock {
        /// Takes the lock. Preemption is off and stays off while it is held.
        #[inline(always)]
        pub(crate) fn lock(&self) {
            #[cfg(not(target_os = "none"))]
            arch::lock_point();
            if !self.try_lock() {
                self.lock_queued(&Global, arch::cpu_id() as usize);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    struct Table([CpuNodes; 3]);

    impl NodeTable for Table {
        fn of(&self, cpu: usize) -> &CpuNodes {
            &self.0[cpu]
        }
        fn relax(&self) {
            loom::thread::yield_now();
        }
    }

    struct Shared {
        lock: RawSpinLock,
        table: Table,
        value: loom::cell::UnsafeCell<u32>,
    }

    // SAFETY: `value` is only touched under `lock`; loom checks just that.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    fn add_one(shared: &Shared, cpu: usize) {
        if !shared.lock.try_lock() {
            shared.lock.lock_queued(&shared.table, cpu);
        }
        // SAFETY: the lock is held.
        shared.value.with_mut(|value| unsafe { *value += 1 });
        shared.lock.unlock();
    }

    fn contend(threads: usize, bound: Option<usize>) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = bound;
        model.check(move || {
            let shared = Arc::new(Shared {
                lock: RawSpinLock::new(),
                table: Table([CpuNodes::new(), CpuNodes::new(), CpuNodes::new()]),
                value: loom::cell::UnsafeCell::new(0),
            });
            let others: Vec<_> = (1..threads)
                .map(|cpu| {
                    let shared = shared.clone();
                    loom::thread::spawn(move || add_one(&shared, cpu))
                })
                .collect();
            add_one(&shared, 0);
            for other in others {
                other.join().unwrap();
            }
            // SAFETY: all threads have ended.
            shared.value.with(|value| assert_eq!(unsafe { *value }, threads as u32));
        });
    }

    #[test]
    fn loom_queue_of_two() {
        contend(2, None);
    }

    #[test]
    fn loom_queue_of_three() {
        contend(3, Some(2));
    }
}
