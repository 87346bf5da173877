//! CPUs: who am I, how many are there, sets of them, data per CPU, calls across.
//!
//! Key types: [`CpuId`], [`CpuSet`], [`PerCpu`].

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use crate::preempt::{self, PreemptGuard};
use crate::sync::raw::RawSpinLock;
use crate::{arch, local};

/// The most CPUs the kernel supports.
pub const MAX_CPUS: usize = 256;
const WORDS: usize = MAX_CPUS / 64;

/// A CPU's number, `0..count()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuId(u32);

impl CpuId {
    /// The CPU with this number, if it is below [`MAX_CPUS`].
    pub const fn new(number: usize) -> Option<CpuId> {
        if number < MAX_CPUS { Some(CpuId(number as u32)) } else { None }
    }
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The CPU that runs this code: only a hint unless preemption is off.
#[inline(always)]
pub fn current() -> CpuId {
    CpuId(arch::cpu_id())
}

/// How many CPUs are online; fixed after boot. Their ids are `0..count()`.
#[inline]
pub fn count() -> usize {
    arch::cpu_count()
}

/// All online CPUs.
pub fn online() -> impl Iterator<Item = CpuId> + Clone {
    (0..count()).map(|number| CpuId(number as u32))
}

/// The idle thread's wait: call with interrupts off (an [`crate::irq::IrqGuard`] held as the only guard); enables them
/// and halts atomically, and returns with them off again after an interrupt. On the host yields to the simulator.
pub fn idle_wait() {
    assert!(arch::preempt_count() == preempt::IRQ_GUARD, "idle_wait() wants one IrqGuard and nothing else");
    crate::sync::rcu::idle_enter();
    arch::idle_wait();
    crate::sync::rcu::idle_exit();
}

/// What the CPUID instruction tells in EAX, EBX, ECX, EDX; zeros for a leaf that the processor has not.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    arch::cpuid_words(leaf, subleaf)
}

/// Asks `cpu` to reschedule: it sets its need-resched flag and runs the preempt hook when its interrupt ends.
pub fn send_reschedule(cpu: CpuId) {
    if cpu.index() < count() {
        arch::send_ipi(cpu.0, arch::Ipi::Reschedule);
    }
}

/// Runs `f` on each CPU of the set (also this one, if in it), in interrupt context, and waits until all have done.
///
/// Must not be called with interrupts off or from an interrupt (panics: it could deadlock).
pub fn call_on(cpus: &CpuSet, f: &(dyn Fn() + Sync)) {
    assert!(arch::irq_enabled() && !crate::irq::in_interrupt(), "call_on() with interrupts off");
    // The lock's waiters spin with interrupts on, so they answer the call of the holder.
    let guard = preempt::disable();
    CALL_LOCK.lock();
    let call = Call { f: &raw const *f, pending: AtomicUsize::new(0) };
    CALL.store((&raw const call).cast_mut().cast(), Ordering::Release);
    let me = current();
    for cpu in cpus.iter().filter(|cpu| *cpu != me && cpu.index() < count()) {
        call.pending.fetch_add(1, Ordering::Relaxed);
        local::of(cpu.0).calls.requested.store(true, Ordering::Release);
        arch::send_ipi(cpu.0, arch::Ipi::Call);
    }
    if cpus.contains(me) {
        let _irq = crate::irq::disable();
        f();
    }
    while call.pending.load(Ordering::Acquire) != 0 {
        arch::relax();
    }
    CALL.store(core::ptr::null_mut(), Ordering::Relaxed);
    CALL_LOCK.unlock();
    drop(guard);
}

struct Call<'a> {
    f: *const (dyn Fn() + Sync + 'a),
    pending: AtomicUsize,
}

static CALL_LOCK: RawSpinLock = RawSpinLock::new();
/// The call under way: points to the `Call` on the stack of the CPU that holds `CALL_LOCK`.
static CALL: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Whether a CPU has been asked to run the current call.
pub(crate) struct CallSlot {
    requested: AtomicBool,
}

impl CallSlot {
    pub(crate) const fn new() -> CallSlot {
        CallSlot { requested: AtomicBool::new(false) }
    }
}

/// Runs the call that this CPU was asked for, if any. Interrupt context.
pub(crate) fn run_pending_call() {
    if !local::local().calls.requested.swap(false, Ordering::Acquire) {
        return;
    }
    // SAFETY: this CPU was asked, so the caller waits for `pending` to drop and its stack frame is there until it does.
    let call = unsafe { &*CALL.load(Ordering::Acquire).cast::<Call<'static>>() };
    // SAFETY: as above; the function outlives the wait.
    unsafe { (*call.f)() };
    call.pending.fetch_sub(1, Ordering::Release);
}

/// Starts all other CPUs; each calls `entry` on its boot stack, which must not return. Gives the number online.
pub fn start_secondary_cpus(entry: fn(CpuId)) -> usize {
    static ENTRY: crate::sync::Once<fn(CpuId)> = crate::sync::Once::new();
    fn start(cpu: u32) {
        crate::sync::rcu::cpu_online(cpu);
        if let Some(entry) = ENTRY.get() {
            entry(CpuId(cpu));
        }
        panic!("the entry of CPU {cpu} returned");
    }
    if ENTRY.set(entry).is_err() {
        return count();
    }
    arch::start_secondary_cpus(start)
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl CpuSet {
    /// The empty set.
    pub const EMPTY: CpuSet = CpuSet { words: [0; WORDS] };

    /// The empty set.
    pub const fn new() -> CpuSet {
        CpuSet::EMPTY
    }
    /// All CPUs that are online.
    pub fn all_online() -> CpuSet {
        online().collect()
    }
    /// Every possible CPU.
    pub const fn all() -> CpuSet {
        CpuSet { words: [u64::MAX; WORDS] }
    }
    /// The set of one CPU.
    pub fn single(cpu: CpuId) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        set.insert(cpu);
        set
    }
    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.words[cpu.index() / 64] >> (cpu.index() % 64) & 1 != 0
    }
    /// Adds `cpu`.
    pub fn insert(&mut self, cpu: CpuId) {
        self.words[cpu.index() / 64] |= 1 << (cpu.index() % 64);
    }
    /// Takes `cpu` out.
    pub fn remove(&mut self, cpu: CpuId) {
        self.words[cpu.index() / 64] &= !(1 << (cpu.index() % 64));
    }
    /// The CPUs in both sets.
    pub fn intersect(&self, other: &CpuSet) -> CpuSet {
        CpuSet { words: core::array::from_fn(|i| self.words[i] & other.words[i]) }
    }
    /// The CPUs in either set.
    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet { words: core::array::from_fn(|i| self.words[i] | other.words[i]) }
    }
    /// Whether no CPU is in the set.
    pub fn is_empty(&self) -> bool {
        self.words == [0; WORDS]
    }
    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }
    /// The CPU with the lowest number.
    pub fn first(&self) -> Option<CpuId> {
        self.iter().next()
    }
    /// The CPUs by rising number.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            core::iter::successors((word != 0).then_some(word), |w| {
                let rest = w & (w - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |w| CpuId(index as u32 * 64 + w.trailing_zeros()))
        })
    }
    /// From Linux's `cpu_set_t` bytes (little endian bits); bits past [`MAX_CPUS`] are dropped.
    pub fn from_bytes(bytes: &[u8]) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for (index, &byte) in bytes.iter().enumerate().take(MAX_CPUS / 8) {
            set.words[index / 8] |= u64::from(byte) << (index % 8 * 8);
        }
        set
    }
    /// As Linux's `cpu_set_t`, little endian bits.
    pub fn to_bytes(&self) -> [u8; MAX_CPUS / 8] {
        core::array::from_fn(|index| (self.words[index / 8] >> (index % 8 * 8)) as u8)
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

/// One `T` for each CPU, each on cache lines of its own.
///
/// `T` must be `Sync`: interrupts on the same CPU and [`PerCpu::get_on`] see it too. For plain counters use relaxed
/// atomics.
pub struct PerCpu<T> {
    slots: Box<[Slot<T>]>,
}

#[repr(align(64))]
struct Slot<T>(T);

impl<T> PerCpu<T> {
    /// Makes one value for each possible CPU (all that may come online: before [`start_secondary_cpus`] already).
    pub fn new_with(mut make: impl FnMut(CpuId) -> T) -> PerCpu<T> {
        PerCpu { slots: (0..possible_count()).map(|number| Slot(make(CpuId(number as u32)))).collect() }
    }
    /// This CPU's value.
    #[inline]
    pub fn get<'g>(&'g self, guard: &'g PreemptGuard) -> &'g T {
        let _ = guard;
        // In range: a CPU that runs is one of the possible ones.
        &self.slots[arch::cpu_id() as usize].0
    }
    /// The value of some CPU.
    #[inline]
    pub fn get_on(&self, cpu: CpuId) -> &T {
        &self.slots[cpu.index()].0
    }
    /// All values with their CPU.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &T)> {
        self.slots.iter().enumerate().map(|(number, slot)| (CpuId(number as u32), &slot.0))
    }
}

/// How many CPUs can come online: what the firmware lists, known before the heap is used.
pub fn possible_count() -> usize {
    arch::possible_cpus()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let cpus: CpuSet = [3, 64, 200].iter().filter_map(|&n| CpuId::new(n)).collect();
        assert_eq!(cpus.len(), 3);
        assert_eq!(cpus.first(), CpuId::new(3));
        assert_eq!(CpuSet::from_bytes(&cpus.to_bytes()), cpus);
        assert_eq!(cpus.iter().map(CpuId::index).collect::<alloc::vec::Vec<_>>(), [3, 64, 200]);
        assert!(cpus.intersect(&CpuSet::EMPTY).is_empty());
    }
}
