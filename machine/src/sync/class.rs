//! Lock classes and the run-time check of the lock order (debug builds and feature `lockdep`; nothing otherwise).
//!
//! All locks made at one place in the source are one class; a lock made with [`LockClass`] names its class. When a lock is
//! taken while others are held, "held before taken" becomes an edge of a graph of classes. An edge that closes a circle
//! is an order violation: both chains are printed at once, although nothing may ever have hung. Also found: a lock that
//! interrupt handlers take and that is elsewhere held with interrupts on, a lock taken twice, sleeping with a spin
//! lock held.
//!
//! Key types: [`LockClass`], `Tag` (in each lock), `HeldLocks` (of each thread).

/// A named class of locks, for locks made at one place that are nevertheless ordered among themselves.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
}

impl LockClass {
    /// A class with a name for reports.
    pub const fn new(name: &'static str) -> LockClass {
        LockClass { name }
    }
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// How many order violations were found since boot; 0 in builds without the checker.
pub fn violations() -> u64 {
    imp::violations()
}

pub(crate) use imp::Tag;
pub(crate) use imp::check_may_sleep;

#[cfg(any(debug_assertions, feature = "lockdep"))]
pub(crate) use imp::HeldLocks;

#[cfg(not(any(debug_assertions, feature = "lockdep")))]
mod imp {
    use super::LockClass;

    /// What a lock carries for the checker: nothing in this build.
    pub(crate) struct Tag;

    impl Tag {
        #[inline(always)]
        pub(crate) const fn here() -> Tag {
            Tag
        }
        #[inline(always)]
        pub(crate) const fn of(_class: &'static LockClass) -> Tag {
            Tag
        }
        #[inline(always)]
        pub(crate) fn acquire(&self, _address: usize) {}
        #[inline(always)]
        pub(crate) fn acquired(&self, _address: usize) {}
        #[inline(always)]
        pub(crate) fn release(&self, _address: usize) {}
    }

    pub(super) fn violations() -> u64 {
        0
    }

    #[inline(always)]
    pub(crate) fn check_may_sleep() {}
}

#[cfg(any(debug_assertions, feature = "lockdep"))]
mod imp {
    use core::cell::UnsafeCell;
    use core::fmt;
    use core::panic::Location;
    use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};

    use super::LockClass;
    use crate::preempt::INTERRUPT_MASK;
    use crate::sync::raw::RawSpinLock;
    use crate::{arch, local, thread};

    const CLASSES: usize = 512;
    const WORDS: usize = CLASSES / 64;
    const HELD: usize = 32;
    const USED_IN_INTERRUPT: u8 = 1;
    const HELD_WITH_INTERRUPTS: u8 = 2;

    #[derive(Clone, Copy)]
    enum Name {
        None,
        Place(&'static Location<'static>),
        Class(&'static LockClass),
    }

    impl Name {
        fn is_same(&self, other: &Name) -> bool {
            match (self, other) {
                (Name::Place(a), Name::Place(b)) => {
                    a.line() == b.line() && a.column() == b.column() && a.file() == b.file()
                }
                (Name::Class(a), Name::Class(b)) => core::ptr::eq(*a, *b),
                _ => false,
            }
        }
        fn hash(&self) -> usize {
            match self {
                Name::None => 0,
                Name::Place(place) => {
                    place.line() as usize * 31 + place.column() as usize * 7 + place.file().len() * 131
                }
                Name::Class(class) => core::ptr::from_ref(*class).addr() / 16,
            }
        }
    }

    impl fmt::Display for Name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Name::None => f.write_str("?"),
                Name::Place(place) => write!(f, "{place}"),
                Name::Class(class) => f.write_str(class.name),
            }
        }
    }

    /// What a lock carries for the checker: its class.
    pub(crate) struct Tag {
        name: Name,
        /// Index of the class + 1 once known.
        id: AtomicU16,
    }

    #[derive(Clone, Copy)]
    struct Held {
        class: u16,
        address: usize,
        /// Interrupt depth at which it was taken.
        context: u32,
    }

    /// The locks that a thread (or a CPU without one) holds, oldest first.
    pub(crate) struct HeldLocks(UnsafeCell<HeldStack>);

    struct HeldStack {
        count: usize,
        locks: [Held; HELD],
    }

    // SAFETY: only used through `with_held`, by the thread or CPU that it belongs to, with interrupts off.
    unsafe impl Sync for HeldLocks {}
    // SAFETY: as above.
    unsafe impl Send for HeldLocks {}

    impl HeldLocks {
        pub(crate) const fn new() -> HeldLocks {
            HeldLocks(UnsafeCell::new(HeldStack {
                count: 0,
                locks: [Held { class: 0, address: 0, context: 0 }; HELD],
            }))
        }
    }

    struct Graph {
        names: [Name; CLASSES],
        count: usize,
    }

    /// `AFTER[a]` has bit b: b was taken while a was held. Bits are only set, under the graph's lock.
    static AFTER: [[AtomicU64; WORDS]; CLASSES] = [const { [const { AtomicU64::new(0) }; WORDS] }; CLASSES];
    static USES: [AtomicU8; CLASSES] = [const { AtomicU8::new(0) }; CLASSES];

    fn has_edge(from: usize, to: usize) -> bool {
        AFTER[from][to / 64].load(Ordering::Relaxed) >> (to % 64) & 1 != 0
    }

    struct Shared {
        lock: RawSpinLock,
        graph: UnsafeCell<Graph>,
    }

    // SAFETY: `graph` is only touched with `lock` held.
    unsafe impl Sync for Shared {}

    static SHARED: Shared = Shared {
        lock: RawSpinLock::new(),
        graph: UnsafeCell::new(Graph { names: [Name::None; CLASSES], count: 0 }),
    };
    static VIOLATIONS: AtomicU64 = AtomicU64::new(0);
    static FULL: AtomicBool = AtomicBool::new(false);

    pub(super) fn violations() -> u64 {
        VIOLATIONS.load(Ordering::Relaxed)
    }

    /// Runs `f` on the caller's held locks with interrupts off.
    fn with_held<R>(f: impl FnOnce(&mut HeldStack) -> R) -> R {
        let flags = arch::irq_save();
        let held = match thread::current_held() {
            Some(held) => held,
            None => &raw const local::local().held,
        };
        // SAFETY: it belongs to the running thread or this CPU, interrupts are off, and `f` does not come here again.
        let result = f(unsafe { &mut *(*held).0.get() });
        arch::irq_restore(flags);
        result
    }

    /// Runs `f` on the graph, interrupts off.
    fn with_graph<R>(f: impl FnOnce(&mut Graph) -> R) -> R {
        let flags = arch::irq_save();
        SHARED.lock.lock();
        // SAFETY: the lock is held.
        let result = f(unsafe { &mut *SHARED.graph.get() });
        SHARED.lock.unlock();
        arch::irq_restore(flags);
        result
    }

    impl Graph {
        fn class_of(&mut self, name: &Name) -> Option<u16> {
            let start = name.hash();
            for step in 0..CLASSES {
                let index = (start + step) % CLASSES;
                match &self.names[index] {
                    Name::None if self.count < CLASSES - 1 => {
                        self.names[index] = *name;
                        self.count += 1;
                        return Some(index as u16);
                    }
                    Name::None => return None,
                    other if other.is_same(name) => return Some(index as u16),
                    _ => {}
                }
            }
            None
        }

        /// Finds a chain of edges; `path[class]` is the one before it.
        fn find_path(&self, from: usize, to: usize, path: &mut [u16; CLASSES]) -> bool {
            let mut queue = [0u16; CLASSES];
            let mut seen = [0u64; WORDS];
            let (mut head, mut tail) = (0, 1);
            queue[0] = from as u16;
            seen[from / 64] |= 1 << (from % 64);
            while head < tail {
                let class = queue[head] as usize;
                head += 1;
                if class == to {
                    return true;
                }
                for next in (0..CLASSES).filter(|&next| has_edge(class, next)) {
                    if seen[next / 64] >> (next % 64) & 1 == 0 {
                        seen[next / 64] |= 1 << (next % 64);
                        path[next] = class as u16;
                        queue[tail] = next as u16;
                        tail += 1;
                    }
                }
            }
            false
        }
    }

    impl Tag {
        #[track_caller]
        pub(crate) const fn here() -> Tag {
            Tag { name: Name::Place(Location::caller()), id: AtomicU16::new(0) }
        }
        pub(crate) const fn of(class: &'static LockClass) -> Tag {
            Tag { name: Name::Class(class), id: AtomicU16::new(0) }
        }

        fn class(&self) -> Option<u16> {
            match self.id.load(Ordering::Relaxed) {
                0 if FULL.load(Ordering::Relaxed) => None,
                0 => {
                    let class = with_graph(|graph| graph.class_of(&self.name));
                    match class {
                        Some(class) => self.id.store(class + 1, Ordering::Relaxed),
                        None => FULL.store(true, Ordering::Relaxed),
                    }
                    class
                }
                id => Some(id - 1),
            }
        }

        /// The lock is about to be waited for.
        #[track_caller]
        pub(crate) fn acquire(&self, address: usize) {
            let Some(class) = self.class() else { return };
            let context = arch::preempt_count() & INTERRUPT_MASK;
            let (held, count) = with_held(|stack| (stack.locks, stack.count));
            for held in held.iter().take(count).filter(|held| held.context == context) {
                if held.address == address {
                    VIOLATIONS.fetch_add(1, Ordering::Relaxed);
                    panic!("lock {} taken twice, now at {}", self.name, Location::caller());
                }
                if held.class != class {
                    add_edge(held.class.into(), class.into(), Location::caller());
                }
            }
            note_use(class.into(), context != 0);
        }

        /// The lock is held now.
        pub(crate) fn acquired(&self, address: usize) {
            let Some(class) = self.class() else { return };
            let context = arch::preempt_count() & INTERRUPT_MASK;
            with_held(|stack| {
                if let Some(slot) = stack.locks.get_mut(stack.count) {
                    *slot = Held { class, address, context };
                    stack.count += 1;
                }
            });
        }

        /// The lock is about to be freed.
        pub(crate) fn release(&self, address: usize) {
            with_held(|stack| {
                let count = stack.count;
                if let Some(index) = stack.locks[..count].iter().rposition(|held| held.address == address) {
                    stack.locks.copy_within(index + 1..count, index);
                    stack.count -= 1;
                }
            });
        }
    }

    fn add_edge(from: usize, to: usize, place: &Location<'_>) {
        if has_edge(from, to) {
            return;
        }
        let circle = with_graph(|graph| {
            if AFTER[from][to / 64].fetch_or(1 << (to % 64), Ordering::Relaxed) >> (to % 64) & 1 != 0 {
                return None;
            }
            let mut path = [0; CLASSES];
            if !graph.find_path(to, from, &mut path) {
                return None;
            }
            let mut chain = [Name::None; 16];
            let (mut class, mut length) = (from, 0);
            while length < chain.len() {
                chain[length] = graph.names[class];
                length += 1;
                if class == to {
                    break;
                }
                class = path[class].into();
            }
            Some((chain, length, graph.names[from], graph.names[to]))
        });
        let Some((chain, length, from, to)) = circle else { return };
        VIOLATIONS.fetch_add(1, Ordering::Relaxed);
        crate::console::write_fmt(format_args!(
            "lock order violation at {place}:\n  now:     {from}\n        -> {to}\n  earlier: {to}\n"
        ));
        for name in chain[..length].iter().rev().skip(1) {
            crate::console::write_fmt(format_args!("        -> {name}\n"));
        }
    }

    /// Finds locks that interrupt handlers take and that are elsewhere held with interrupts on.
    fn note_use(class: usize, in_interrupt: bool) {
        let how = match (in_interrupt, arch::irq_enabled()) {
            (true, _) => USED_IN_INTERRUPT,
            (false, true) => HELD_WITH_INTERRUPTS,
            (false, false) => return,
        };
        let uses = &USES[class];
        if uses.load(Ordering::Relaxed) & how != 0 {
            return;
        }
        let before = uses.fetch_or(how, Ordering::Relaxed);
        let wrong = before | how == USED_IN_INTERRUPT | HELD_WITH_INTERRUPTS;
        let wrong = wrong.then(|| with_graph(|graph| graph.names[class]));
        if let Some(name) = wrong {
            VIOLATIONS.fetch_add(1, Ordering::Relaxed);
            crate::console::write_fmt(format_args!(
                "lock {name} is taken by interrupt handlers and also held with interrupts on\n"
            ));
        }
    }

    /// Panics, naming the locks held, if the caller must not sleep.
    #[track_caller]
    pub(crate) fn check_may_sleep() {
        if arch::preempt_count() == 0 {
            return;
        }
        VIOLATIONS.fetch_add(1, Ordering::Relaxed);
        let (held, count) = with_held(|stack| (stack.locks, stack.count));
        for held in &held[..count] {
            let name = with_graph(|graph| graph.names[usize::from(held.class)]);
            crate::console::write_fmt(format_args!("held: {name}\n"));
        }
        panic!("sleeping with a spinlock held (preempt count {:#x})", arch::preempt_count());
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use crate::sync::SpinLock;

    #[test]
    fn inversion_is_found() {
        let (first, second) = (SpinLock::new(1), SpinLock::new(2));
        let before = super::violations();
        {
            let _a = first.lock();
            let _b = second.lock();
        }
        assert_eq!(super::violations(), before);
        let _b = second.lock();
        let _a = first.lock();
        assert!(super::violations() > before);
    }
}
