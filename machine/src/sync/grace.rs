//! Grace periods: when every CPU has passed a point where it read nothing, everything unlinked before can be freed.
//!
//! Grace periods have numbers and come one after the other; one serves all requests made before it began. When one begins
//! it notes the CPUs that are online and not idle; each takes itself off the list at its next quiescent point; the last
//! one ends it, and begins the next if somebody asked for one meanwhile.
//!
//! Key type: [`Grace`]. It knows nothing of callbacks (see `rcu`), so that loom can check it alone.

use super::atomic::{AtomicU64, Ordering, fence};
use super::raw::RawSpinLock;

/// What the machine looks like to a grace period.
pub(crate) trait World {
    /// How many CPUs there may be: ids below it are asked about.
    fn cpus(&self) -> usize;
    /// Whether the CPU is online and may be reading.
    fn is_busy(&self, cpu: usize) -> bool;
    /// Takes the lock; interrupts and preemption are off already.
    fn lock(&self, lock: &RawSpinLock);
}

/// The state of grace periods.
pub(crate) struct Grace<const WORDS: usize> {
    /// Number of the last one that began.
    current: AtomicU64,
    /// Number of the last one that ended.
    completed: AtomicU64,
    /// The highest number that somebody waits for. Under `lock`.
    wanted: AtomicU64,
    /// The CPUs that the current one waits for.
    waiting: [AtomicU64; WORDS],
    lock: RawSpinLock,
}

impl<const WORDS: usize> Grace<WORDS> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Grace<WORDS> {
        Grace {
            current: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            waiting: [const { AtomicU64::new(0) }; WORDS],
            lock: RawSpinLock::new(),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Grace<WORDS> {
        Grace {
            current: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            waiting: core::array::from_fn(|_| AtomicU64::new(0)),
            lock: RawSpinLock::new(),
        }
    }

    /// The number of the last grace period that began.
    #[inline(always)]
    pub(crate) fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Whether the grace period of this number has ended.
    #[inline]
    pub(crate) fn is_over(&self, number: u64) -> bool {
        self.completed.load(Ordering::Acquire) >= number
    }

    /// Whether one is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.completed.load(Ordering::Relaxed) != self.current.load(Ordering::Relaxed)
    }

    /// Whether the current one waits for a CPU.
    pub(crate) fn waits_for(&self, cpu: usize) -> bool {
        self.waiting[cpu / 64].load(Ordering::Acquire) >> (cpu % 64) & 1 != 0
    }

    /// Asks for a grace period that begins after this call's memory effects; gives its number.
    pub(crate) fn request(&self, world: &impl World) -> u64 {
        world.lock(&self.lock);
        let current = self.current.load(Ordering::Relaxed);
        let number = current + 1;
        if self.wanted.load(Ordering::Relaxed) < number {
            self.wanted.store(number, Ordering::Relaxed);
        }
        if self.completed.load(Ordering::Relaxed) == current {
            self.begin(world);
        }
        self.lock.unlock();
        number
    }

    /// Begins grace periods as long as somebody wants one and they end at once. The lock is held, none is under way.
    fn begin(&self, world: &impl World) {
        while self.wanted.load(Ordering::Relaxed) > self.current.load(Ordering::Relaxed) {
            let number = self.current.load(Ordering::Relaxed) + 1;
            // What was unlinked before comes before looking who reads; pairs with the fence of who stops being idle.
            fence(Ordering::SeqCst);
            let mut words = [0; WORDS];
            for cpu in (0..world.cpus()).filter(|&cpu| world.is_busy(cpu)) {
                words[cpu / 64] |= 1 << (cpu % 64);
            }
            for (slot, word) in self.waiting.iter().zip(words) {
                slot.store(word, Ordering::Release);
            }
            self.current.store(number, Ordering::Release);
            if words != [0; WORDS] {
                return;
            }
            self.completed.store(number, Ordering::Release);
        }
    }

    /// The CPU reads nothing right now. Called with its preemption off or from the scheduler.
    pub(crate) fn quiescent(&self, world: &impl World, cpu: usize) {
        let bit = 1 << (cpu % 64);
        let word = &self.waiting[cpu / 64];
        if word.load(Ordering::Acquire) & bit == 0 {
            return;
        }
        let left = word.fetch_and(!bit, Ordering::AcqRel) & !bit;
        if left != 0 {
            return;
        }
        world.lock(&self.lock);
        let current = self.current.load(Ordering::Relaxed);
        let all = self.waiting.iter().all(|word| word.load(Ordering::Acquire) == 0);
        if all && self.completed.load(Ordering::Relaxed) != current {
            self.completed.store(current, Ordering::Release);
            self.begin(world);
        }
        self.lock.unlock();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, AtomicUsize};

    struct Two;

    impl World for Two {
        fn cpus(&self) -> usize {
            2
        }
        fn is_busy(&self, _cpu: usize) -> bool {
            true
        }
        fn lock(&self, lock: &RawSpinLock) {
            while !lock.try_lock() {
                loom::thread::yield_now();
            }
        }
    }

    /// CPU 1 reads through a pointer twice, quiescent in between; CPU 0 unlinks, waits and frees.
    #[test]
    fn loom_readers_never_see_freed_memory() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let grace = Arc::new(Grace::<1>::new());
            let pointer = Arc::new(AtomicUsize::new(1));
            let freed = Arc::new(AtomicBool::new(false));
            let reader = {
                let (grace, pointer, freed) = (grace.clone(), pointer.clone(), freed.clone());
                loom::thread::spawn(move || {
                    for _ in 0..2 {
                        if pointer.load(Ordering::Acquire) == 1 {
                            assert!(!freed.load(Ordering::Relaxed), "read after free");
                        }
                        grace.quiescent(&Two, 1);
                    }
                })
            };
            pointer.store(0, Ordering::Release);
            let number = grace.request(&Two);
            grace.quiescent(&Two, 0);
            if grace.is_over(number) {
                freed.store(true, Ordering::Relaxed);
            }
            reader.join().unwrap();
            grace.quiescent(&Two, 1);
            assert!(grace.is_over(number));
        });
    }
}
