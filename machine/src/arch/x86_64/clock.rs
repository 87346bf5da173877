//! Clocks: the time-stamp counter as the monotonic clock, the local APIC as the one-shot timer, CMOS as the calendar.
//!
//! The counter's rate comes from kvm-clock, else CPUID, else it is measured against HPET, the ACPI timer or the PIT. The
//! APIC timer's rate is measured in the same window. Everything is constant after [`init`]; no locks. Reference: Intel
//! SDM volume 3, 11.5.4 and 18.17; IA-PC HPET 1.0a; Linux `Documentation/virt/kvm/x86/msr.rst`.

use super::acpi;
use super::apic::{self, TimerMode};
use super::cpu::{self, cycles, has, in8, in32, out8, write_msr};
use super::features::{self, Features};
use super::paging::{Caching, map_device};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What every reading of the clock needs: set at boot, in a cache line of its own that nobody writes to afterwards.
#[repr(align(64))]
struct Rate {
    multiplier: AtomicU32,
    shift: AtomicU32,
    base_cycles: AtomicU64,
}

static RATE: Rate =
    Rate { multiplier: AtomicU32::new(0), shift: AtomicU32::new(32), base_cycles: AtomicU64::new(0) };
/// Timer ticks per nanosecond, times 2^32 (APIC ticks, or counter cycles with the deadline timer).
static TIMER_RATE: AtomicU64 = AtomicU64::new(0);
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
static BOOT_REALTIME: AtomicU64 = AtomicU64::new(0);
static WINDOW: super::lock::RawLock<Option<Window>> = super::lock::RawLock::new(None);

/// Nanoseconds since kernel entry.
#[inline]
pub(crate) fn now_ns() -> u64 {
    let delta = cycles().wrapping_sub(RATE.base_cycles.load(Ordering::Relaxed));
    // A counter a little behind the boot CPU's must not look like the far future.
    let delta = if delta >> 63 != 0 { 0 } else { delta };
    let multiplier = RATE.multiplier.load(Ordering::Relaxed);
    ((u128::from(delta) * u128::from(multiplier)) >> RATE.shift.load(Ordering::Relaxed)) as u64
}

/// The wall clock when [`now_ns`] was 0, in nanoseconds since 1970.
pub(crate) fn boot_realtime_ns() -> u64 {
    BOOT_REALTIME.load(Ordering::Relaxed)
}

/// `ns = (tsc - base_cycles) * multiplier >> shift`: base cycles, multiplier, shift.
pub(crate) fn clock_parameters() -> Option<(u64, u32, u32)> {
    let multiplier = RATE.multiplier.load(Ordering::Relaxed);
    (multiplier != 0)
        .then(|| (RATE.base_cycles.load(Ordering::Relaxed), multiplier, RATE.shift.load(Ordering::Relaxed)))
}

/// A clock of known rate to measure by.
#[derive(Clone, Copy)]
enum Reference {
    /// Main counter register's address, and its femtoseconds per tick.
    Hpet(usize, u64),
    /// Port, and the mask of its width. 3.579545 MHz.
    AcpiTimer(u16, u32),
    /// Channel 2, counting down from 65535 at 1.193182 MHz.
    Pit,
}

impl Reference {
    fn find() -> Reference {
        if let Some(address) = acpi::facts().hpet.and_then(|base| map_device(base, 1024, Caching::Uncached)) {
            // SAFETY: the HPET's registers, mapped uncached.
            unsafe {
                let period = (address as *const u64).read_volatile() >> 32;
                if (100_000..=100_000_000).contains(&period) {
                    let configuration = (address + 0x10) as *mut u64;
                    configuration.write_volatile(configuration.read_volatile() | 1);
                    return Reference::Hpet(address + 0xf0, period);
                }
            }
        }
        if let Some((port, wide)) = acpi::facts().pm_timer {
            return Reference::AcpiTimer(port, if wide { u32::MAX } else { 0xff_ffff });
        }
        // SAFETY: programs channel 2 of the PIT (mode 0, gate on, speaker off); no effect on memory.
        unsafe {
            out8(0x61, in8(0x61) & !2 | 1);
            out8(0x43, 0xb0);
            out8(0x42, 0xff);
            out8(0x42, 0xff);
        }
        Reference::Pit
    }

    fn read(self) -> u64 {
        // SAFETY: reads counters; no effect on memory.
        unsafe {
            match self {
                Reference::Hpet(address, _) => u64::from((address as *const u32).read_volatile()),
                Reference::AcpiTimer(port, mask) => u64::from(in32(port) & mask),
                Reference::Pit => {
                    out8(0x43, 0x80);
                    let low = in8(0x42);
                    0xffff - u64::from(u16::from_le_bytes([low, in8(0x42)]))
                }
            }
        }
    }

    fn nanoseconds(self, from: u64, to: u64) -> u64 {
        let ticks = |mask: u64| to.wrapping_sub(from) & mask;
        match self {
            Reference::Hpet(_, period) => {
                (u128::from(ticks(0xffff_ffff)) * u128::from(period) / 1_000_000) as u64
            }
            Reference::AcpiTimer(_, mask) => {
                (u128::from(ticks(u64::from(mask))) * 1_000_000_000 / 3_579_545) as u64
            }
            Reference::Pit => ticks(0xffff) * 1_000_000_000 / 1_193_182,
        }
    }
}

/// One reading of all three clocks, as close together as luck allows.
#[derive(Clone, Copy)]
struct Sample {
    reference: u64,
    cycles: u64,
    timer: u32,
}

#[derive(Clone, Copy)]
struct Window {
    reference: Reference,
    start: Sample,
}

/// Reads the clocks several times and keeps the reading that took least time.
fn sample(reference: Reference) -> Sample {
    let mut best = Sample { reference: 0, cycles: 0, timer: 0 };
    let mut shortest = u64::MAX;
    for _ in 0..8 {
        let before = cycles();
        let value = reference.read();
        let after = cycles();
        if after - before < shortest {
            shortest = after - before;
            best = Sample {
                reference: value,
                cycles: before + (after - before) / 2,
                timer: apic::timer_count(),
            };
        }
    }
    best
}

/// Starts measuring; what boot does until [`init`] is the window.
pub(super) fn start_calibration() {
    apic::mask_timer();
    apic::start_timer(u32::MAX);
    let reference = Reference::find();
    *WINDOW.lock() = Some(Window { reference, start: sample(reference) });
}

const WINDOW_NS: u64 = 10_000_000;

/// The counter's rate as KVM, another hypervisor or the processor says it, and who did.
fn known_khz() -> Option<(u64, &'static str)> {
    if has(Features::KVM_CLOCK)
        && let Some(khz) = kvm_clock_khz()
    {
        return Some((khz, "kvm-clock"));
    }
    features::counter_khz(cpu::leaf).map(|khz| (khz, "CPUID"))
}

/// KVM's time page: version, padding, tsc, ns, multiplier, shift, flags.
#[repr(C, align(64))]
struct KvmTime(core::cell::UnsafeCell<[u32; 8]>);
// SAFETY: written by the hypervisor only between two calls on the boot CPU.
unsafe impl Sync for KvmTime {}
static KVM_TIME: KvmTime = KvmTime(core::cell::UnsafeCell::new([0; 8]));

/// The counter's rate as KVM's paravirtual clock says it. Only with [`Features::KVM_CLOCK`].
fn kvm_clock_khz() -> Option<u64> {
    let physical = (KVM_TIME.0.get() as u64).wrapping_sub(super::paging::image_delta());
    // SAFETY: MSR_KVM_SYSTEM_TIME_NEW: the page is ours, outlives the registration, and the clock is switched off again.
    let words = unsafe {
        write_msr(0x4b56_4d01, physical | 1);
        let words = KVM_TIME.0.get().read_volatile();
        write_msr(0x4b56_4d01, 0);
        words
    };
    features::kvm_khz(words[6], (words[7] as u8).cast_signed())
}

/// Ends the measurement, starts the clock and this CPU's timer.
pub(super) fn init() {
    let Some(Window { reference, start }) = WINDOW.lock().take() else { return };
    let mut end = sample(reference);
    while reference.nanoseconds(start.reference, end.reference) < WINDOW_NS {
        cpu::relax();
        end = sample(reference);
    }
    let elapsed = reference.nanoseconds(start.reference, end.reference).max(1);
    let measured = (end.cycles - start.cycles) as u128 * 1_000_000 / u128::from(elapsed);
    let measured_by = match reference {
        Reference::Hpet(..) => "HPET",
        Reference::AcpiTimer(..) => "ACPI timer",
        Reference::Pit => "PIT",
    };
    let (khz, source) = known_khz().unwrap_or((measured as u64, measured_by));
    let khz = khz.max(1);
    set_rate(khz);
    let ticks = u64::from(start.timer.wrapping_sub(end.timer));
    apic::start_timer(0);
    if has(Features::TSC_DEADLINE) {
        DEADLINE_MODE.store(true, Ordering::Relaxed);
        TIMER_RATE.store((u128::from(khz) << 32).div_euclid(1_000_000) as u64, Ordering::Relaxed);
    } else {
        TIMER_RATE.store(((u128::from(ticks) << 32) / u128::from(elapsed)) as u64, Ordering::Relaxed);
    }
    init_cpu();
    BOOT_REALTIME.store(read_calendar().saturating_sub(now_ns()), Ordering::Relaxed);
    log::info!(
        "clock: counter {khz} kHz by {source}, timer {}",
        if has(Features::TSC_DEADLINE) { "by deadline" } else { "one-shot" },
    );
}

fn set_rate(khz: u64) {
    let mut shift = 32;
    while shift > 0 && (1_000_000u128 << shift) / u128::from(khz) > u128::from(u32::MAX) {
        shift -= 1;
    }
    RATE.shift.store(shift, Ordering::Relaxed);
    RATE.base_cycles.store(super::boot::entry_cycles(), Ordering::Relaxed);
    RATE.multiplier.store(((1_000_000u128 << shift) / u128::from(khz)) as u32, Ordering::Relaxed);
}

/// Sets this CPU's timer up (the rates are known).
pub(super) fn init_cpu() {
    let deadline = DEADLINE_MODE.load(Ordering::Relaxed);
    apic::set_timer_mode(if deadline { TimerMode::Deadline } else { TimerMode::OneShot });
}

/// Arms this CPU's timer; a deadline that has passed fires at once.
#[inline]
pub(crate) fn set_timer(deadline_ns: u64) {
    let left = deadline_ns.saturating_sub(now_ns());
    let ticks = ((u128::from(left) * u128::from(TIMER_RATE.load(Ordering::Relaxed))) >> 32) as u64;
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // SAFETY: the deadline register exists in this mode; 0 would disarm it.
        unsafe { write_msr(cpu::MSR_TSC_DEADLINE, cycles().saturating_add(ticks).max(1)) };
    } else {
        // A deadline farther away than the counter reaches fires early; the handler then arms again.
        apic::start_timer(ticks.clamp(1, u64::from(u32::MAX)) as u32);
    }
}

/// Disarms this CPU's timer.
#[inline]
pub(crate) fn cancel_timer() {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // SAFETY: as in `set_timer`; 0 disarms.
        unsafe { write_msr(cpu::MSR_TSC_DEADLINE, 0) };
    } else {
        apic::start_timer(0);
    }
}

fn cmos(register: u8) -> u8 {
    // SAFETY: index and data port of the CMOS clock (NMI stays enabled: bit 7 clear).
    unsafe {
        out8(0x70, register);
        in8(0x71)
    }
}

/// Seconds, minutes, hours, day, month, year, century, as they are in CMOS.
fn cmos_fields() -> [u8; 7] {
    let century = acpi::facts().century;
    [0, 2, 4, 7, 8, 9, century]
        .map(|register| if register == 0 && century == 0 { cmos(0) } else { cmos(register) })
}

/// The wall clock in nanoseconds since 1970, or 0 if there is no clock.
fn read_calendar() -> u64 {
    let mut fields = cmos_fields();
    for _ in 0..1000 {
        let again = cmos_fields();
        if fields == again && cmos(10) & 0x80 == 0 {
            break;
        }
        fields = again;
    }
    let mode = cmos(11);
    if mode == 0xff || fields[3] == 0 || fields[4] == 0 {
        return 0;
    }
    let afternoon = fields[2] & 0x80 != 0;
    fields[2] &= 0x7f;
    if mode & 4 == 0 {
        fields = fields.map(|value| (value >> 4) * 10 + (value & 15));
    }
    if mode & 2 == 0 {
        fields[2] = fields[2] % 12 + if afternoon { 12 } else { 0 };
    }
    let [second, minute, hour, day, month, year, century] = fields.map(u64::from);
    let century = if acpi::facts().century != 0 && (19..=30).contains(&century) { century } else { 20 };
    let days = days_since_1970(century * 100 + year, month, day);
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (counting from March, so that leap days come last).
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day;
    days.saturating_sub(719_469)
}
