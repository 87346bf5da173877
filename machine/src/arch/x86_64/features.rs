//! What CPUID says, decoded. Pure, so that tests on the host can play any processor and hypervisor.
//!
//! Key items: [`detect`], [`control_bits`], [`counter_khz`], [`kvm_khz`]. Reference: Intel SDM volume 2, CPUID; Linux
//! `Documentation/virt/kvm/x86/cpuid.rst` and `msr.rst`.

bitflags::bitflags! {
    /// What the kernel uses if it is there.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Features: u32 {
        /// RDFSBASE and its like.
        const FSGSBASE = 1;
        /// The kernel cannot run user pages.
        const SMEP = 1 << 1;
        /// The kernel cannot touch user pages except where it says so.
        const SMAP = 1 << 2;
        /// Programs cannot read descriptor tables.
        const UMIP = 1 << 3;
        /// Address space numbers in the TLB.
        const PCID = 1 << 4;
        /// 1 GiB pages.
        const HUGE_PAGES = 1 << 5;
        /// XSAVE and XRSTOR.
        const XSAVE = 1 << 6;
        /// XSAVEOPT.
        const XSAVEOPT = 1 << 7;
        /// The local APIC by system registers.
        const X2APIC = 1 << 8;
        /// The local timer at a value of the counter.
        const TSC_DEADLINE = 1 << 9;
        /// RDRAND.
        const RDRAND = 1 << 10;
        /// RDSEED.
        const RDSEED = 1 << 11;
        /// Fast short REP MOVSB.
        const FAST_STRINGS = 1 << 12;
        /// The processor is a hypervisor's.
        const HYPERVISOR = 1 << 13;
        /// KVM's clock, by the newer registers.
        const KVM_CLOCK = 1 << 14;
        /// Protection keys for user pages.
        const PKU = 1 << 15;
    }
}

const HYPERVISOR_LEAF: u32 = 0x4000_0000;
/// Hypervisors that have it tell the counter's rate here.
const HYPERVISOR_TIMING_LEAF: u32 = 0x4000_0010;
const KVM_FEATURES_LEAF: u32 = 0x4000_0001;

/// The four registers of a leaf: EAX, EBX, ECX, EDX.
pub(crate) type Leaf = [u32; 4];

/// A leaf if the processor has it: beyond the last one it answers with another's data.
fn leaf(cpuid: &impl Fn(u32, u32) -> Leaf, number: u32, subleaf: u32) -> Leaf {
    let [last, ..] = cpuid(number & 0xffff_0000, 0);
    if number <= last { cpuid(number, subleaf) } else { [0; 4] }
}

/// What this processor has. `cpuid` gives a leaf and subleaf as the instruction does.
pub(crate) fn detect(cpuid: impl Fn(u32, u32) -> Leaf) -> Features {
    let [_, _, c1, _] = leaf(&cpuid, 1, 0);
    let [_, b7, c7, d7] = leaf(&cpuid, 7, 0);
    let [xsave_extras, ..] = leaf(&cpuid, 13, 1);
    let [_, _, _, extended] = leaf(&cpuid, 0x8000_0001, 0);
    let hypervisor = c1 & 1 << 31 != 0;
    let kvm_clock = hypervisor && is_kvm(&cpuid) && leaf(&cpuid, KVM_FEATURES_LEAF, 0)[0] & 1 << 3 != 0;
    let mut features = Features::empty();
    for (feature, there) in [
        (Features::FSGSBASE, b7 & 1 != 0),
        (Features::SMEP, b7 & 1 << 7 != 0),
        (Features::SMAP, b7 & 1 << 20 != 0),
        (Features::UMIP, c7 & 1 << 2 != 0),
        // Its register is saved with the vector state.
        (Features::PKU, c7 & 1 << 3 != 0 && c1 & 1 << 26 != 0),
        (Features::PCID, c1 & 1 << 17 != 0),
        (Features::HUGE_PAGES, extended & 1 << 26 != 0),
        (Features::XSAVE, c1 & 1 << 26 != 0),
        (Features::XSAVEOPT, c1 & 1 << 26 != 0 && xsave_extras & 1 != 0),
        (Features::X2APIC, c1 & 1 << 21 != 0),
        (Features::TSC_DEADLINE, c1 & 1 << 24 != 0),
        (Features::RDRAND, c1 & 1 << 30 != 0),
        (Features::RDSEED, b7 & 1 << 18 != 0),
        (Features::FAST_STRINGS, d7 & 1 << 4 != 0),
        (Features::HYPERVISOR, hypervisor),
        (Features::KVM_CLOCK, kvm_clock),
    ] {
        features.set(feature, there);
    }
    features
}

fn is_kvm(cpuid: &impl Fn(u32, u32) -> Leaf) -> bool {
    let [_, name @ ..] = cpuid(HYPERVISOR_LEAF, 0);
    name.map(u32::to_le_bytes).as_flattened() == b"KVMKVMKVM\0\0\0"
}

/// The bits of CR4 that switch on what is there, with those that every 64-bit processor has.
pub(crate) fn control_bits(features: Features) -> u64 {
    const PGE: u64 = 1 << 7;
    const OSFXSR: u64 = 1 << 9;
    const OSXMMEXCPT: u64 = 1 << 10;
    let mut bits = PGE | OSFXSR | OSXMMEXCPT;
    for (feature, bit) in [
        (Features::UMIP, 11),
        (Features::FSGSBASE, 16),
        (Features::PCID, 17),
        (Features::XSAVE, 18),
        (Features::SMEP, 20),
        (Features::SMAP, 21),
        (Features::PKU, 22),
    ] {
        if features.contains(feature) {
            bits |= 1 << bit;
        }
    }
    bits
}

/// The counter's rate as the hypervisor or the processor says it; `None` if neither does.
pub(crate) fn counter_khz(cpuid: impl Fn(u32, u32) -> Leaf) -> Option<u64> {
    let hypervisor = leaf(&cpuid, 1, 0)[2] & 1 << 31 != 0;
    if hypervisor {
        let [khz, ..] = leaf(&cpuid, HYPERVISOR_TIMING_LEAF, 0);
        if khz != 0 {
            return Some(u64::from(khz));
        }
    }
    let [denominator, numerator, crystal_hz, _] = leaf(&cpuid, 0x15, 0).map(u64::from);
    let rate_hz = (crystal_hz * numerator).checked_div(denominator)?;
    (rate_hz != 0).then_some(rate_hz / 1000)
}

/// The counter's rate from the two fields of KVM's time page: `ns = (cycles << shift) * multiplier >> 32`.
pub(crate) fn kvm_khz(multiplier: u32, shift: i8) -> Option<u64> {
    let khz = (1_000_000u128 << 32).checked_div(u128::from(multiplier))?;
    let khz = if shift < 0 {
        khz.checked_shl(u32::from(shift.unsigned_abs()))?
    } else {
        khz.checked_shr(u32::from(shift.unsigned_abs()))?
    };
    u64::try_from(khz).ok().filter(|khz| *khz != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table<'a> = &'a [(u32, u32, Leaf)];

    /// A processor with these leaves. Beyond the last basic one it answers with that one's data, as Intel's do.
    fn processor(table: Table<'_>) -> impl Fn(u32, u32) -> Leaf {
        move |number, subleaf| {
            let find = |number, subleaf| table.iter().find(|entry| (entry.0, entry.1) == (number, subleaf));
            let last =
                table.iter().map(|entry| entry.0).filter(|entry| *entry < 0x4000_0000).max().unwrap_or(0);
            match find(number, subleaf) {
                Some((.., leaf)) => *leaf,
                None if number < 0x4000_0000 && number > last => {
                    find(last, 0).map_or([0; 4], |entry| entry.2)
                }
                None => [0; 4],
            }
        }
    }

    const KVM_NAME: [u32; 3] =
        [u32::from_le_bytes(*b"KVMK"), u32::from_le_bytes(*b"VMKV"), u32::from_le_bytes(*b"M\0\0\0")];

    #[test]
    fn an_old_processor_has_nothing_and_gets_no_unknown_bit() {
        // Leaf 2 is the last: leaf 7 would answer with its cache descriptors, all bits set here.
        let cpuid = processor(&[(0, 0, [2, 0, 0, 0]), (1, 0, [0; 4]), (2, 0, [u32::MAX; 4])]);
        let features = detect(&cpuid);
        assert_eq!(features, Features::empty());
        assert_eq!(control_bits(features), 0x680);
        assert_eq!(counter_khz(cpuid), None);
    }

    #[test]
    fn a_new_processor_has_everything() {
        let all = processor(&[
            (0, 0, [0x15, 0, 0, 0]),
            (1, 0, [0, 0, 1 << 17 | 1 << 21 | 1 << 24 | 1 << 26 | 1 << 30, 0]),
            (7, 0, [0, 1 | 1 << 7 | 1 << 18 | 1 << 20, 1 << 2 | 1 << 3, 1 << 4]),
            (13, 1, [1, 0, 0, 0]),
            (0x15, 0, [2, 216, 24_000_000, 0]),
            (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
            (0x8000_0001, 0, [0, 0, 0, 1 << 26]),
        ]);
        let features = detect(&all);
        assert_eq!(features, Features::all() - Features::HYPERVISOR - Features::KVM_CLOCK);
        assert_eq!(control_bits(features), 0x680 | 1 << 11 | 0b11_0111 << 16 | 1 << 22);
        assert_eq!(counter_khz(all), Some(2_592_000));
    }

    /// Each bit by itself: no feature is taken for another.
    #[test]
    fn every_feature_has_its_own_bit() {
        for (feature, number, register, bit) in [
            (Features::PCID, 1, 2, 17),
            (Features::X2APIC, 1, 2, 21),
            (Features::TSC_DEADLINE, 1, 2, 24),
            (Features::XSAVE, 1, 2, 26),
            (Features::RDRAND, 1, 2, 30),
            (Features::HYPERVISOR, 1, 2, 31),
            (Features::FSGSBASE, 7, 1, 0),
            (Features::SMEP, 7, 1, 7),
            (Features::RDSEED, 7, 1, 18),
            (Features::SMAP, 7, 1, 20),
            (Features::UMIP, 7, 2, 2),
            (Features::FAST_STRINGS, 7, 3, 4),
        ] {
            let mut leaf = [0; 4];
            leaf[register] = 1u32 << bit;
            let table = [(0, 0, [7, 0, 0, 0]), (number, 0, leaf)];
            assert_eq!(detect(processor(&table)), feature);
        }
    }

    #[test]
    fn kvm_has_a_clock_only_if_it_says_so() {
        let [b, c, d] = KVM_NAME;
        for (hypervisor, name, bits, expected) in [
            (1 << 31, [0x4000_0001, b, c, d], 1 << 3, true),
            (1 << 31, [0x4000_0001, b, c, d], 1 << 0, false), // the older registers only
            (1 << 31, [0x4000_0001, b, c, d ^ 1], 1 << 3, false), // another hypervisor
            (0, [0x4000_0001, b, c, d], 1 << 3, false),       // none at all
            (1 << 31, [0x4000_0000, b, c, d], 1 << 3, false), // no such leaf
        ] {
            let table = [
                (0, 0, [1, 0, 0, 0]),
                (1, 0, [0, 0, hypervisor, 0]),
                (0x4000_0000, 0, name),
                (0x4000_0001, 0, [bits, 0, 0, 0]),
            ];
            assert_eq!(detect(processor(&table)).contains(Features::KVM_CLOCK), expected);
        }
    }

    #[test]
    fn the_hypervisors_rate_goes_before_the_processors() {
        let table = |last| {
            [
                (0, 0, [0x15, 0, 0, 0]),
                (1, 0, [0, 0, 1 << 31, 0]),
                (0x15, 0, [1, 100, 25_000_000, 0]),
                (0x4000_0000, 0, [last, 0, 0, 0]),
                (0x4000_0010, 0, [2_900_000, 1_000_000, 0, 0]),
            ]
        };
        assert_eq!(counter_khz(processor(&table(0x4000_0010))), Some(2_900_000));
        assert_eq!(counter_khz(processor(&table(0x4000_0001))), Some(2_500_000));
        // A crystal of unknown rate, or no ratio.
        for leaf in [[1, 100, 0, 0], [0, 100, 25_000_000, 0], [1, 0, 25_000_000, 0]] {
            assert_eq!(counter_khz(processor(&[(0, 0, [0x15, 0, 0, 0]), (0x15, 0, leaf)])), None);
        }
    }

    #[test]
    fn kvms_fields_give_the_rate() {
        // 2 GHz: half a nanosecond per cycle. 1 GHz as one and a half doublings either way.
        assert_eq!(kvm_khz(1 << 31, 0), Some(2_000_000));
        assert_eq!(kvm_khz(1 << 31, 1), Some(1_000_000));
        assert_eq!(kvm_khz(1 << 31, -1), Some(4_000_000));
        assert_eq!(kvm_khz(0, 0), None);
        assert_eq!(kvm_khz(1, -128), None);
        assert_eq!(kvm_khz(u32::MAX, 127), None);
    }
}
