//! `/proc/cpuinfo`: the processors as CPUID describes them (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E).
//!
//! All processors are taken to be like the one that reads. Flags are those that the processor and this kernel offer to
//! programs; their names are Linux's. Locks: none.

use alloc::string::String;
use core::fmt::{self, Write};
use machine::cpu;
use vfs::pseudo::Text;

/// Names of the flags in the bits of one register of a leaf, from bit 0 on; `-` for a bit that has none or is not offered.
const FLAGS: [(u32, u32, usize, &str); 7] = [
    (
        1,
        0,
        3,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse \
         sse2 ss ht tm ia64 pbe",
    ),
    (
        0x8000_0001,
        0,
        3,
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm \
         3dnowext 3dnow",
    ),
    (
        1,
        0,
        2,
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 \
         sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
    ),
    (
        0x8000_0001,
        0,
        2,
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp \
         fma4 tce - - - tbm topoext",
    ),
    (
        7,
        0,
        1,
        "fsgsbase tsc_adjust - bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - - - avx512f avx512dq rdseed adx smap \
         avx512ifma - clflushopt clwb - avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    ),
    (13, 1, 0, "xsaveopt xsavec xgetbv1 xsaves"),
    (
        7,
        0,
        2,
        "- avx512vbmi umip pku ospke - avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg - \
         avx512_vpopcntdq - - - - - - - rdpid - - cldemote - movdiri movdir64b",
    ),
];

/// The file.
pub fn write(out: &mut Text) -> fmt::Result {
    cpu::online().try_for_each(|cpu| write_one(cpu.index(), out))
}

/// A text that CPUID gives in registers, up to its first NUL.
fn text(registers: &[u32]) -> String {
    let bytes: alloc::vec::Vec<u8> = registers.iter().flat_map(|word| word.to_le_bytes()).collect();
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from(String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).trim())
}

/// Family, model and stepping in CPUID's version word.
fn version(word: u32) -> [u32; 3] {
    let (base, extended) = (word >> 8 & 15, word >> 20 & 255);
    let family = if base == 15 { base + extended } else { base };
    let model = word >> 4 & 15 | if family >= 6 { (word >> 16 & 15) << 4 } else { 0 };
    [family, model, word & 15]
}

fn write_one(number: usize, out: &mut Text) -> fmt::Result {
    let [highest, b, c, d] = cpu::cpuid(0, 0);
    let [version_word, features, ..] = cpu::cpuid(1, 0);
    let [family, model, stepping] = version(version_word);
    let brand: alloc::vec::Vec<u32> =
        (0x8000_0002..=0x8000_0004).flat_map(|leaf| cpu::cpuid(leaf, 0)).collect();
    let count = cpu::count();
    let khz = machine::time::counter_khz();
    writeln!(out, "processor\t: {number}\nvendor_id\t: {}", text(&[b, d, c]))?;
    writeln!(out, "cpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {}", text(&brand))?;
    writeln!(out, "stepping\t: {stepping}\ncpu MHz\t\t: {}.{:03}", khz / 1000, khz % 1000)?;
    let [_, _, cache, _] = cpu::cpuid(0x8000_0006, 0);
    writeln!(out, "cache size\t: {} KB", cache >> 16)?;
    writeln!(out, "physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {number}\ncpu cores\t: {count}")?;
    writeln!(out, "apicid\t\t: {number}\ninitial apicid\t: {number}")?;
    writeln!(out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {highest}\nwp\t\t: yes")?;
    write!(out, "flags\t\t:")?;
    for (leaf, subleaf, register, names) in FLAGS {
        let word = cpu::cpuid(leaf, subleaf).get(register).copied().unwrap_or(0);
        for (bit, name) in names.split_whitespace().enumerate() {
            if name != "-" && word >> bit & 1 != 0 {
                write!(out, " {name}")?;
            }
        }
    }
    // The counter is turned twice in a loop of the old kind: BogoMIPS are two for each of its millions.
    writeln!(out, "\nbugs\t\t:\nbogomips\t: {}.{:02}", khz / 500, khz / 5 % 100)?;
    let [physical, ..] = cpu::cpuid(0x8000_0008, 0);
    let clflush = (features >> 8 & 255) * 8;
    writeln!(out, "clflush size\t: {clflush}\ncache_alignment\t: {clflush}")?;
    writeln!(out, "address sizes\t: {} bits physical, 48 bits virtual", physical & 255)?;
    writeln!(out, "power management:\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_manual_reads_them() {
        assert_eq!(version(0x000906ea), [6, 0x9e, 10]);
        assert_eq!(version(0x00a20f12), [0x19, 0x21, 2]);
        assert_eq!(version(0x00000543), [5, 4, 3]);
    }

    #[test]
    fn texts_end_at_the_first_zero() {
        assert_eq!(text(&[u32::from_le_bytes(*b"  ab"), u32::from_le_bytes(*b"c \0x")]), "abc");
    }

    #[test]
    fn no_register_has_more_flags_than_bits() {
        assert!(FLAGS.iter().all(|(.., names)| names.split_whitespace().count() <= 32));
    }
}
