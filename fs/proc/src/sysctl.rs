//! `/proc/sys`: settings (proc_sys(5)). Only those that have an effect here are offered.
//!
//! Writing needs what the files' permissions say, besides the checks of what is set. Locks: those of what is set.

use crate::Identity;
use abi::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{Display, Write};
use core::str::FromStr;
use core::sync::atomic::{AtomicU64, Ordering};
use ipc::epoll;
use ipc::inotify;
use ipc::sysv::{Objects, Setting};
use ipc::user_limit::UserLimit;
use machine::oops::{self, OopsPolicy};
use machine::sync::Once;
use mm::write_back::limits::{self, BACKGROUND, FOREGROUND};
use net::{NetNamespace, sysctl};
use security::{Capability, NamespaceKind};
use vfs::AccessMask;
use vfs::pseudo::{Node, StaticDirectory, Text};

/// How often `vm.drop_caches` goes round: names that others make meanwhile must not keep it.
const MOST_ROUNDS: usize = 100;
/// More threads cannot have ids (futex(2)).
const FUTEX_TID_MASK: usize = 0x3fff_ffff;
/// The id of this boot, made when it is first asked for.
static BOOT_ID: Once<[u8; 16]> = Once::new();

/// Writes random bytes as a UUID of version 4 (RFC 9562).
fn write_uuid(mut bytes: [u8; 16], out: &mut Text) -> core::fmt::Result {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.write_char('-')?;
        }
        write!(out, "{byte:02x}")?;
    }
    out.write_char('\n')
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    machine::random::fill(&mut bytes);
    bytes
}

/// A number that can be read and set.
fn number<N: Display + FromStr + 'static>(
    get: impl Fn() -> N + Send + Sync + 'static,
    set: impl Fn(N) -> Result<()> + Send + Sync + 'static,
) -> Node {
    Node::writable_text(
        0o644,
        move |out| writeln!(out, "{}", get()).map_err(|_| Errno::ENOMEM),
        move |input| {
            let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
            set(text.trim().parse().map_err(|_| Errno::EINVAL)?)
        },
    )
}

/// A limit for each user.
fn user_limit(limit: &'static UserLimit) -> Node {
    number(move || limit.get(), move |value| limit.set(value))
}

/// A number that is what it is.
fn constant(value: u64) -> Node {
    Node::text(0o444, move |out| writeln!(out, "{value}"))
}

/// A name of the caller's UTS namespace.
fn uts(get: fn(&task::namespaces::UtsNamespace) -> task::namespaces::Name, set: SetName) -> Node {
    Node::writable_text(
        0o644,
        move |out| {
            let name = get(&*current_uts()?);
            writeln!(out, "{}", String::from_utf8_lossy(&name)).map_err(|_| Errno::ENOMEM)
        },
        move |input| {
            let name = input.strip_suffix(b"\n").unwrap_or(input);
            set(&*current_uts()?, name)
        },
    )
}

fn current_uts() -> Result<Arc<task::namespaces::UtsNamespace>> {
    task::task::with_current(|task| Ok(task.live_namespaces()?.uts.clone())).ok_or(Errno::ENOENT)?
}

type SetName = fn(&task::namespaces::UtsNamespace, &[u8]) -> Result<()>;

fn directory(contents: StaticDirectory) -> Node {
    Node::directory(Arc::new(contents))
}

/// The whole tree.
pub fn tree(identity: Identity) -> StaticDirectory {
    StaticDirectory::new()
        .add("kernel", directory(kernel(identity)))
        .add("vm", directory(vm()))
        .add("fs", directory(fs()))
        .add("net", directory(net()))
        .add("user", directory(user()))
}

/// `/proc/sys/user`: how many namespaces each user may have in the caller's user namespace (namespaces(7)).
fn user() -> StaticDirectory {
    NamespaceKind::ALL.into_iter().fold(StaticDirectory::new(), |all, kind| {
        all.add(&alloc::format!("max_{}_namespaces", kind.name()), namespace_limit(kind))
    })
}

fn namespace_limit(kind: NamespaceKind) -> Node {
    let users =
        || task::task::with_current(|task| task.credentials().user_namespace.clone()).ok_or(Errno::ENOENT);
    let node = Node::writable_text(
        0o644,
        move |out| writeln!(out, "{}", users()?.limit(kind)).map_err(|_| Errno::ENOMEM),
        move |input| {
            let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
            let limit: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
            users()?.set_limit(kind, u32::try_from(limit).map_err(|_| Errno::EINVAL)?);
            Ok(())
        },
    );
    // Who has CAP_SYS_RESOURCE in its namespace is its owner here, everybody else may read.
    node.allow(|credentials, mask| {
        let allowed = !mask.contains(AccessMask::WRITE) || credentials.has(Capability::SysResource);
        if allowed && !mask.contains(AccessMask::EXECUTE) { Ok(()) } else { Err(Errno::EACCES) }
    })
}

fn kernel(identity: Identity) -> StaticDirectory {
    let random_files = StaticDirectory::new()
        .add("boot_id", Node::text(0o444, |out| write_uuid(*BOOT_ID.get_or_init(random), out)))
        .add("uuid", Node::text(0o444, |out| write_uuid(random(), out)))
        .add("entropy_avail", constant(256))
        .add("poolsize", constant(256));
    StaticDirectory::new()
        .add("ostype", Node::text(0o444, |out| out.write_str("Linux\n")))
        .add("osrelease", Node::text(0o444, move |out| writeln!(out, "{}", identity.release)))
        .add("version", Node::text(0o444, move |out| writeln!(out, "{}", identity.version)))
        .add("hostname", uts(|uts| uts.host_name(), |uts, name| uts.set_host_name(name)))
        .add("domainname", uts(|uts| uts.domain_name(), |uts, name| uts.set_domain_name(name)))
        .add("pid_max", number(pid_max, set_pid_max))
        .add("ns_last_pid", number(last_pid, set_last_pid).mode(0o666))
        .add("threads-max", number(|| task::fork::max_tasks() as u64, set_threads_max))
        .add("ngroups_max", constant(security::NGROUPS_MAX as u64))
        .add("cap_last_cap", constant(security::Capability::ALL.len() as u64 - 1))
        .add("overflowuid", constant(u64::from(security::OVERFLOW_ID)))
        .add("overflowgid", constant(u64::from(security::OVERFLOW_ID)))
        .add("tainted", Node::text(0o444, |out| writeln!(out, "{}", oops::taint())))
        .add("panic", number(oops::panic_timeout_s, set_panic))
        .add("panic_on_oops", number(|| u64::from(oops::policy() == OopsPolicy::Panic), set_panic_on_oops))
        .add("randomize_va_space", constant(2))
        .add("random", directory(random_files))
        .add("msgmax", per_ipc(|objects| &objects.message_size, i32::MAX as u32))
        .add("msgmnb", per_ipc(|objects| &objects.queue_bytes, i32::MAX as u32))
        .add("shmmni", per_ipc(|objects| &objects.segment_count, ipc::sysv::table::MOST))
        .add("shmmax", per_ipc_wide(|objects| &objects.segments.most_bytes))
        .add("shmall", per_ipc_wide(|objects| &objects.segments.most_pages))
        .add("msgmni", per_ipc(|objects| &objects.queues, ipc::sysv::table::MOST))
}

/// A setting of the caller's IPC namespace, up to `most`.
fn per_ipc(get: fn(&Objects) -> &Setting, most: u32) -> Node {
    number(
        move || crate::sysvipc::namespace().map_or(0, |namespace| get(namespace.content()).get()),
        move |value| get(crate::sysvipc::namespace()?.content()).set(value, most),
    )
}

/// A 64-bit setting of the caller's IPC namespace.
fn per_ipc_wide(get: fn(&Objects) -> &AtomicU64) -> Node {
    number(
        move || {
            crate::sysvipc::namespace()
                .map_or(0, |namespace| get(namespace.content()).load(Ordering::Relaxed))
        },
        move |value| {
            get(crate::sysvipc::namespace()?.content()).store(value, Ordering::Relaxed);
            Ok(())
        },
    )
}

fn pid_max() -> u64 {
    u64::from(crate::current_pids().max())
}

fn last_pid() -> u32 {
    crate::current_pids().last_number()
}

fn set_last_pid(value: u32) -> Result<()> {
    let pids = crate::current_pids();
    let allowed = |capability| {
        task::task::with_current(|task| task.credentials().capable(pids.head().owner(), capability))
    };
    if allowed(Capability::SysAdmin) != Some(true) && allowed(Capability::CheckpointRestore) != Some(true) {
        return Err(Errno::EPERM);
    }
    pids.set_last_number(value)
}

fn set_pid_max(value: u64) -> Result<()> {
    crate::current_pids().set_max(u32::try_from(value).map_err(|_| Errno::EINVAL)?)
}

/// Errors: `EINVAL` outside of what Linux takes.
fn set_threads_max(value: u64) -> Result<()> {
    let value = usize::try_from(value).ok().filter(|value| (20..=FUTEX_TID_MASK).contains(value));
    task::fork::set_max_tasks(value.ok_or(Errno::EINVAL)?);
    Ok(())
}

fn set_panic(seconds: i32) -> Result<()> {
    oops::set_panic_timeout_s(seconds);
    Ok(())
}

fn set_panic_on_oops(value: u64) -> Result<()> {
    oops::set_policy(if value == 0 { OopsPolicy::EndThread } else { OopsPolicy::Panic });
    Ok(())
}

fn vm() -> StaticDirectory {
    StaticDirectory::new()
        .add(
            "overcommit_memory",
            number(
                || mm::commit::mode() as u64,
                |mode| mm::commit::set_mode(u8::try_from(mode).map_err(|_| Errno::EINVAL)?),
            ),
        )
        .add(
            "overcommit_ratio",
            number(
                || u64::from(mm::commit::ratio_percent()),
                |percent| {
                    mm::commit::set_ratio_percent(u32::try_from(percent).map_err(|_| Errno::EINVAL)?);
                    Ok(())
                },
            ),
        )
        .add("swappiness", number(mm::reclaim::swappiness, mm::reclaim::set_swappiness))
        .add("page-cluster", number(mm::swap::page_cluster, mm::swap::set_page_cluster))
        .add("overcommit_kbytes", number(mm::commit::limit_kib, set_overcommit_kib))
        .add("oom_kill_allocating_task", number(kills_allocating_task, set_kills_allocating_task))
        .add("panic_on_oom", number(mm::oom::panic_on_oom, mm::oom::set_panic_on_oom))
        .add("watermark_scale_factor", number(machine::memory::mark_scale, set_mark_scale))
        .add("min_free_kbytes", number(min_free_kib, set_min_free_kib))
        .add("vfs_cache_pressure", number(mm::reclaim::cache_pressure, mm::reclaim::set_cache_pressure))
        .add("dirty_background_ratio", number(|| BACKGROUND.ratio(), |percent| BACKGROUND.set_ratio(percent)))
        .add("dirty_background_bytes", number(|| BACKGROUND.bytes(), |bytes| BACKGROUND.set_bytes(bytes, 1)))
        .add("dirty_ratio", number(|| FOREGROUND.ratio(), |percent| FOREGROUND.set_ratio(percent)))
        .add("dirty_bytes", number(|| FOREGROUND.bytes(), |bytes| FOREGROUND.set_bytes(bytes, 2)))
        .add("dirty_expire_centisecs", number(limits::expire_centiseconds, limits::set_expire_centiseconds))
        .add(
            "dirty_writeback_centisecs",
            number(limits::write_back_centiseconds, limits::set_write_back_centiseconds),
        )
        .add("drop_caches", Node::writable_text(0o200, |_| Ok(()), drop_caches))
        .add("max_map_count", constant(mm::MAX_MAP_COUNT as u64))
        .add("mmap_min_addr", constant(mm::MMAP_MINIMUM_ADDRESS as u64))
}

fn set_mount_max(count: u32) -> Result<()> {
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    vfs::mount::set_mount_max(count);
    Ok(())
}

fn set_file_max(max: usize) -> Result<()> {
    vfs::file::set_max_open_files(max);
    Ok(())
}

fn set_overcommit_kib(kib: u64) -> Result<()> {
    mm::commit::set_limit_kib(kib);
    Ok(())
}

fn kills_allocating_task() -> u64 {
    u64::from(mm::oom::KILLS_ALLOCATING_TASK.load(Ordering::Relaxed))
}

fn set_kills_allocating_task(value: u64) -> Result<()> {
    mm::oom::KILLS_ALLOCATING_TASK.store(value != 0, Ordering::Relaxed);
    Ok(())
}

/// Errors: `EINVAL` outside of what Linux takes.
fn set_mark_scale(scale: usize) -> Result<()> {
    if !(1..=3000).contains(&scale) {
        return Err(Errno::EINVAL);
    }
    machine::memory::set_mark_scale(scale);
    Ok(())
}

fn min_free_kib() -> usize {
    machine::memory::stats().reserve_pages * (machine::PAGE_SIZE / 1024)
}

fn set_min_free_kib(kib: usize) -> Result<()> {
    machine::memory::set_reserve_pages(kib / (machine::PAGE_SIZE / 1024));
    Ok(())
}

/// `vm.drop_caches`: 1 for pages of files, 2 for names, inodes and metadata, 3 for both. Errors: `EINVAL`.
fn drop_caches(input: &[u8]) -> Result<()> {
    let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
    let what: u8 = text.trim().parse().ok().filter(|what| (1..=4).contains(what)).ok_or(Errno::EINVAL)?;
    if what & 1 != 0 {
        mm::reclaim::drop_pages();
    }
    if what & 2 != 0 {
        // The first round takes the second chances away; a directory can go after its last name only.
        for _ in 0..MOST_ROUNDS {
            if mm::reclaim::drop_objects() == 0 || sched::signal_pending() {
                break;
            }
            machine::sync::rcu::barrier();
        }
        mm::reclaim::drop_objects();
        machine::sync::rcu::barrier();
        machine::memory::heap::shrink();
    }
    Ok(())
}

fn fs() -> StaticDirectory {
    let file_nr =
        |out: &mut Text| writeln!(out, "{}\t0\t{}", vfs::file::open_files(), vfs::file::max_open_files());
    let epoll = StaticDirectory::new().add("max_user_watches", user_limit(&epoll::MAX_USER_WATCHES));
    let inotify = StaticDirectory::new()
        .add("max_queued_events", number(inotify::max_queued_events, inotify::set_max_queued_events))
        .add("max_user_instances", user_limit(&inotify::MAX_USER_INSTANCES))
        .add("max_user_watches", user_limit(&inotify::MAX_USER_WATCHES));
    let all = StaticDirectory::new().add("inotify", directory(inotify)).add("epoll", directory(epoll));
    all.add("mount-max", number(vfs::mount::mount_max, set_mount_max))
        .add("nr_open", constant(task::calls::max_open_files()))
        .add("file-max", number(vfs::file::max_open_files, set_file_max))
        .add("file-nr", Node::text(0o444, file_nr))
        .add(
            "pipe-max-size",
            number(
                || ipc::pipe::max_size() as u64,
                |size| ipc::pipe::set_max_size(usize::try_from(size).map_err(|_| Errno::EINVAL)?),
            ),
        )
}

/// A limit of the socket layer.
fn limit(setting: &'static sysctl::Setting) -> Node {
    Node::writable_text(
        0o644,
        move |out| writeln!(out, "{}", setting.get()).map_err(|_| Errno::ENOMEM),
        move |input| setting.set(parse(input)?),
    )
}

fn parse<N: FromStr>(input: &[u8]) -> Result<N> {
    core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?.trim().parse().map_err(|_| Errno::EINVAL)
}

fn net() -> StaticDirectory {
    let core = StaticDirectory::new()
        .add("wmem_default", limit(&sysctl::SEND_BUFFER_DEFAULT))
        .add("wmem_max", limit(&sysctl::SEND_BUFFER_MAX))
        .add("rmem_default", limit(&sysctl::RECEIVE_BUFFER_DEFAULT))
        .add("rmem_max", limit(&sysctl::RECEIVE_BUFFER_MAX))
        .add("optmem_max", limit(&sysctl::OPTION_MEMORY_MAX))
        .add("somaxconn", limit(&sysctl::BACKLOG_MAX));
    let unix = StaticDirectory::new().add(
        "max_dgram_qlen",
        per_network(
            |network| network.unix().queue_length() as u64,
            |network, length| {
                network.unix().set_queue_length(usize::try_from(length).map_err(|_| Errno::EINVAL)?)
            },
        ),
    );
    StaticDirectory::new()
        .add("core", directory(core))
        .add("unix", directory(unix))
        .add("ipv4", directory(crate::sysctl_ip::ipv4()))
        .add("ipv6", directory(crate::sysctl_ip::ipv6()))
}

/// A number of the caller's network namespace.
fn per_network(get: fn(&NetNamespace) -> u64, set: fn(&NetNamespace, u64) -> Result<()>) -> Node {
    Node::writable_text(
        0o644,
        move |out| writeln!(out, "{}", get(&crate::network::of_caller())).map_err(|_| Errno::ENOMEM),
        move |input| set(&crate::network::of_caller(), parse(input)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_version_and_variant() {
        let mut out = Text::default();
        write_uuid([0xff; 16], &mut out).unwrap();
        assert_eq!(alloc::format!("{out}"), "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
    }
}
