//! Files of `/proc` about the whole system: `stat`, `meminfo`, `cpuinfo`, `uptime`, `loadavg`, `version`, ….
//!
//! Each function writes one file as proc(5) describes it. Locks: those of what is asked.

use crate::Identity;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use machine::cpu;
use task::namespaces::OffsetClock;
use vfs::FileKind;
use vfs::pseudo::{Node, StaticDirectory, Text};

/// Nanoseconds in a tick of `USER_HZ`.
pub const TICK_NS: u64 = 10_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// The files with fixed names.
pub fn files(identity: Identity) -> StaticDirectory {
    let text = |write: fn(&mut Text) -> fmt::Result| Node::text(0o444, write);
    StaticDirectory::new()
        .add("cmdline", text(command_line))
        .add("consoles", text(consoles))
        .add("cpuinfo", text(crate::cpuinfo::write))
        .add("devices", text(devices))
        .add("diskstats", text(|out| block::attributes::write_diskstats(out)))
        .add("filesystems", text(filesystems))
        .add("kmsg", Node::opening(0o400, crate::kmsg::open))
        .add("loadavg", text(loadavg))
        .add("meminfo", text(meminfo))
        .add("slabinfo", Node::text(0o400, slabinfo))
        .add("mounts", Node::symlink("self/mounts"))
        .add("pressure", Node::directory(Arc::new(crate::pressure::tree())))
        .add("partitions", text(|out| block::attributes::write_partitions(out)))
        .add("stat", text(stat))
        .add("swaps", text(swaps))
        .add("sysvipc", Node::directory(Arc::new(crate::sysvipc::tree())))
        .add("uptime", text(uptime))
        .add("version", Node::text(0o444, move |out| version(identity, out)))
        .add("vmstat", text(vmstat))
}

fn command_line(out: &mut Text) -> fmt::Result {
    writeln!(out, "{}", machine::boot::command_line().trim_end())
}

fn version(identity: Identity, out: &mut Text) -> fmt::Result {
    writeln!(out, "Linux version {} (linnet@linnet) (rustc) {}", identity.release, identity.version)
}

fn consoles(out: &mut Text) -> fmt::Result {
    writeln!(out, "{:<21}-W- (EC p a)    4:64", "ttyS0")
}

/// What the boot-time clock of the reader's time namespace shows when the machine's shows `ns`.
pub fn shown_boottime_ns(ns: u64) -> u64 {
    let clocks = task::task::with_current(|task| task.live_namespaces().ok()).flatten();
    clocks.map_or(ns, |set| set.time.to_namespace_ns(OffsetClock::Boottime, ns))
}

fn uptime(out: &mut Text) -> fmt::Result {
    let idle: u64 = cpu::online().map(|cpu| sched::cpu_times(cpu).idle_ns).sum();
    let show = |ns: u64| (ns / SECOND_NS, ns % SECOND_NS / TICK_NS);
    let (up, idle) = (show(shown_boottime_ns(machine::time::now_ns())), show(idle));
    writeln!(out, "{}.{:02} {}.{:02}", up.0, up.1, idle.0, idle.1)
}

fn loadavg(out: &mut Text) -> fmt::Result {
    // The averages have 11 fractional bits; round to hundredths as Linux does.
    for load in sched::load_averages() {
        let load = load + 10;
        write!(out, "{}.{:02} ", load >> 11, ((load & 2047) * 100) >> 11)?;
    }
    let counts = sched::counts();
    writeln!(out, "{}/{} {}", counts.running, counts.threads, crate::current_pids().last_number())
}

/// slabinfo(5): the size classes of the kernel's heap.
fn slabinfo(out: &mut Text) -> fmt::Result {
    out.write_str("slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n")?;
    for class in machine::memory::heap::class_stats() {
        let (size, slabs) = (class.object_bytes, class.slabs);
        let name = alloc::format!("kmalloc-{size}");
        let per_slab = class.pages_per_slab * machine::PAGE_SIZE / size;
        writeln!(
            out,
            "{name:<17} {:>6} {:>6} {size:>6} {per_slab:>4} {:>4} : tunables    0    0    0 : slabdata {slabs:>6} {slabs:>6}      0",
            class.active_objects, class.total_objects, class.pages_per_slab
        )?;
    }
    Ok(())
}

/// The areas of swap space (proc_swaps(5)), sizes in KiB.
fn swaps(out: &mut Text) -> fmt::Result {
    out.write_str("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")?;
    for area in mm::swap::areas().map_err(|_| fmt::Error)? {
        let kind = if area.is_file { "file\t" } else { "partition" };
        let column = |kib: u64| if kib < 10_000_000 { "\t" } else { "" };
        let (size, used) = (area.pages * 4, area.used * 4);
        write!(out, "{:<40}{kind}\t{size}\t{}", area.path, column(size))?;
        writeln!(out, "{used}\t{}{}", column(used), area.priority)?;
    }
    Ok(())
}

fn meminfo(out: &mut Text) -> fmt::Result {
    let m = mm::stats::meminfo();
    let swap = mm::swap::info();
    let lines = [
        ("MemTotal", m.total),
        ("MemFree", m.free),
        ("MemAvailable", m.available),
        ("Buffers", 0),
        ("Cached", m.cached),
        ("SwapCached", swap.cached * 4),
        ("Active", m.anonymous),
        ("Inactive", m.cached),
        ("Unevictable", m.locked),
        ("Mlocked", m.locked),
        ("SwapTotal", swap.total * 4),
        ("SwapFree", swap.free * 4),
        ("Dirty", m.dirty),
        ("Writeback", m.writeback),
        ("AnonPages", m.anonymous),
        ("Shmem", m.shmem),
        ("Slab", m.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", m.slab),
        ("KernelStack", m.kernel_stack),
        ("PageTables", m.page_tables),
        ("CommitLimit", m.commit_limit),
        ("Committed_AS", m.committed),
    ];
    for (name, kib) in lines {
        let label = alloc::format!("{name}:");
        writeln!(out, "{label:<15} {kib:>8} kB")?;
    }
    Ok(())
}

fn stat(out: &mut Text) -> fmt::Result {
    let line = |out: &mut Text, name: &str, cpus: &mut dyn Iterator<Item = cpu::CpuId>| {
        let mut sum = [0_u64; 10];
        for times in cpus.map(sched::cpu_times) {
            let all = [times.user_ns, times.nice_ns, times.system_ns, times.idle_ns, times.iowait_ns];
            sum.iter_mut().zip(all).for_each(|(sum, ns)| *sum += ns);
        }
        write!(out, "{name}")?;
        sum.iter().try_for_each(|ns| write!(out, " {}", ns / TICK_NS))?;
        writeln!(out)
    };
    line(out, "cpu ", &mut cpu::online())?;
    for cpu in cpu::online() {
        line(out, &alloc::format!("cpu{}", cpu.index()), &mut core::iter::once(cpu))?;
    }
    let counts = sched::counts();
    writeln!(out, "intr 0\nctxt {}", counts.context_switches)?;
    writeln!(out, "btime {}", sched::clock::realtime_offset_ns().max(0) as u64 / SECOND_NS)?;
    writeln!(out, "processes {}", counts.forks)?;
    writeln!(out, "procs_running {}\nprocs_blocked {}", counts.running, counts.blocked)
}

fn devices(out: &mut Text) -> fmt::Result {
    for (title, kind) in [("Character", FileKind::CharDevice), ("\nBlock", FileKind::BlockDevice)] {
        writeln!(out, "{title} devices:")?;
        let mut lines: alloc::collections::BTreeSet<(u32, String)> = Default::default();
        vfs::chardev::for_each(kind, |major, name| {
            lines.insert((major, String::from(name)));
        });
        for (major, name) in lines {
            writeln!(out, "{major:>3} {name}")?;
        }
    }
    Ok(())
}

fn filesystems(out: &mut Text) -> fmt::Result {
    for kind in vfs::superblock::filesystems() {
        writeln!(out, "{}\t{}", if kind.needs_device() { "" } else { "nodev" }, kind.name())?;
    }
    Ok(())
}

fn vmstat(out: &mut Text) -> fmt::Result {
    let m = mm::stats::meminfo();
    let pages = |kib: u64| kib / 4;
    writeln!(out, "nr_free_pages {}", pages(m.free))?;
    writeln!(out, "nr_anon_pages {}", pages(m.anonymous))?;
    writeln!(out, "nr_file_pages {}", pages(m.cached))?;
    writeln!(out, "nr_dirty {}", pages(m.dirty))?;
    writeln!(out, "nr_writeback {}", pages(m.writeback))?;
    writeln!(out, "nr_shmem {}", pages(m.shmem))?;
    writeln!(out, "nr_page_table_pages {}", pages(m.page_tables))?;
    writeln!(out, "nr_kernel_stack {}", m.kernel_stack)?;
    let thresholds = mm::write_back::limits::Thresholds::now();
    let rows = [
        ("nr_dirtied", mm::stats::PAGES_DIRTIED.get()),
        ("nr_written", mm::stats::PAGES_WRITTEN.get()),
        ("nr_dirty_threshold", thresholds.foreground),
        ("nr_dirty_background_threshold", thresholds.background),
        ("pgpgin", mm::stats::PAGES_READ.get() * 4),
        ("pgpgout", mm::stats::PAGES_WRITTEN.get() * 4),
        ("pswpin", mm::swap::info().pages_in),
        ("pswpout", mm::swap::info().pages_out),
        ("pgsteal_file", mm::reclaim::reclaimed_pages()),
    ];
    rows.iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
}
