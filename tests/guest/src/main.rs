//! Linux programs that test the kernel from inside, in one binary.
//!
//! `guest-tests [--list] [--here] [--long] [--seed=N] [FILTER]…` runs the cases whose name contains a filter (or equals `=NAME`),
//! each in a child process with a time limit, and prints `ok NAME`, `FAIL NAME: why` or `skip NAME: why`.
//! `--long` adds the cases that take hours, `--seed` is what the random ones begin with.
//! `--here` runs them in this very process, for a debugger or a kernel that cannot fork yet. A case counts only
//! if the same binary has passed it on Linux: `linux-passed.txt` beside the sources. `--transcripts` is another family,
//! see `transcript`; `--disk-calls`, `--disk-device`, `--disk-direct`, `--disk-loop`, `--disk-tree`, `--disk-writer`, `--port` and `--swap` are tools for tests that the host drives, see there.

mod calls;
mod case;
mod disk_calls;
mod disk_device;
mod disk_direct;
mod disk_loop;
mod disk_tree;
mod disk_writer;
mod elf;
mod files;
mod floods;
mod fuzz;
mod hostile;
mod inet_help;
mod link;
mod memory;
mod namespaces;
mod netlink;
mod netns;
mod pipes;
mod pointers;
mod port;
mod process;
mod signals;
mod swap;
mod sys;
mod threads;
mod time;
mod transcript;
mod tun;
mod tun_help;
mod unix;
mod unix_help;

use case::{Case, Verdict};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(helper) = arguments.first().and_then(|name| name.strip_prefix("--helper-")) {
        std::process::exit(process::helper(helper, &arguments[1..]));
    }
    match arguments.first().map(String::as_str) {
        Some("--disk-calls") => std::process::exit(disk_calls::command(&arguments[1..])),
        Some("--disk-device") => std::process::exit(disk_device::command(&arguments[1..])),
        Some("--disk-direct") => std::process::exit(disk_direct::command(&arguments[1..])),
        Some("--disk-loop") => std::process::exit(disk_loop::command(&arguments[1..])),
        Some("--disk-tree") => std::process::exit(disk_tree::command(&arguments[1..])),
        Some("--disk-writer") => std::process::exit(disk_writer::command(&arguments[1..])),
        Some("--port") => std::process::exit(port::command(&arguments[1..])),
        Some("--swap") => std::process::exit(swap::command(&arguments[1..])),
        _ => {}
    }
    if arguments.first().is_some_and(|word| word == "--transcripts") {
        return transcript::print(&arguments[1..]);
    }
    if let Some(seed) = arguments.iter().find_map(|word| word.strip_prefix("--seed=")?.parse().ok()) {
        case::SEED.store(seed, std::sync::atomic::Ordering::Relaxed);
    }
    let long = arguments.iter().any(|word| word == "--long");
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let cases = all().into_iter().filter(|case| long || !case.only_long).filter(|case| {
        filters.is_empty()
            || filters.iter().any(|filter| match filter.strip_prefix('=') {
                Some(name) => case.name == name,
                None => case.name.contains(filter.as_str()),
            })
    });
    if arguments.iter().any(|word| word == "--list") {
        cases.for_each(|case| println!("{}", case.name));
        return;
    }
    // Cases that use all memory up end themselves, not whoever reports; each takes this back for itself.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let here = arguments.iter().any(|word| word == "--here");
    let mut failed = false;
    for case in cases {
        println!("run {}", case.name);
        match if here { case.run_here() } else { case.run_in_child() } {
            Verdict::Passed => println!("ok {}", case.name),
            Verdict::Skipped(why) => println!("skip {}: {why}", case.name),
            Verdict::Failed(why) => {
                failed = true;
                println!("FAIL {}: {why}", case.name);
            }
        }
    }
    std::process::exit(i32::from(failed));
}

fn all() -> Vec<&'static Case> {
    let groups = [
        files::CASES,
        pipes::CASES,
        process::CASES,
        signals::CASES,
        threads::CASES,
        memory::CASES,
        time::CASES,
        pointers::CASES,
        elf::CASES,
        hostile::CASES,
        unix::CASES,
        namespaces::CASES,
        netns::CASES,
        tun::CASES,
        fuzz::CASES,
        floods::CASES,
        link::CASES,
    ];
    groups.into_iter().flatten().collect()
}
