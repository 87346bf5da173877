//! What the generic code keeps per CPU, in one static array.
//!
//! Key type: [`Local`]. Its fields are touched by their own CPU with preemption off, or are atomic for the others.
//!
//! # Invariants
//! A field that says "own CPU" is only written by code that runs on that CPU with preemption off; interrupt handlers
//! that could see it half-changed look at [`Local::allocator_busy`] first.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};

use crate::MAX_CPUS;
use crate::arch;

/// One CPU's block.
#[repr(align(128))]
pub(crate) struct Local {
    /// The interrupt state to restore when the last [`crate::irq::IrqGuard`] goes. Own CPU.
    pub(crate) saved_irq: AtomicUsize,
    /// The thread that is being switched away from, until the next one has taken over. Own CPU.
    pub(crate) switching_from: AtomicPtr<crate::thread::KernelThread>,
    /// The thread this CPU runs, for others that spin while it does (never dereferenced).
    pub(crate) running: AtomicUsize,
    /// Set while the per-CPU caches of the allocators are being changed: a nested user goes to the shared pool.
    pub(crate) allocator_busy: AtomicBool,
    pub(crate) pages: crate::memory::buddy::PageCacheCpu,
    pub(crate) heap: crate::memory::slab::CpuCaches,
    pub(crate) rcu: crate::sync::rcu::CpuRcu,
    pub(crate) calls: crate::cpu::CallSlot,
    pub(crate) tlb: crate::memory::table::CpuTlb,
    #[cfg(any(debug_assertions, feature = "lockdep"))]
    pub(crate) held: crate::sync::class::HeldLocks,
}

impl Local {
    const fn new() -> Local {
        Local {
            saved_irq: AtomicUsize::new(0),
            switching_from: AtomicPtr::new(core::ptr::null_mut()),
            running: AtomicUsize::new(0),
            allocator_busy: AtomicBool::new(false),
            pages: crate::memory::buddy::PageCacheCpu::new(),
            heap: crate::memory::slab::CpuCaches::new(),
            rcu: crate::sync::rcu::CpuRcu::new(),
            calls: crate::cpu::CallSlot::new(),
            tlb: crate::memory::table::CpuTlb::new(),
            #[cfg(any(debug_assertions, feature = "lockdep"))]
            held: crate::sync::class::HeldLocks::new(),
        }
    }
}

static LOCALS: [Local; MAX_CPUS] = [const { Local::new() }; MAX_CPUS];

/// This CPU's block; stays this CPU's only while preemption is off.
#[inline(always)]
pub(crate) fn local() -> &'static Local {
    of(arch::cpu_id())
}

/// The block of a CPU.
#[inline(always)]
pub(crate) fn of(cpu: u32) -> &'static Local {
    &LOCALS[cpu as usize % MAX_CPUS]
}
