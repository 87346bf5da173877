//! The process file system: `/proc` (proc(5)).
//!
//! | file | what |
//! |---|---|
//! | `process` | `/proc/PID`: the directory and its files |
//! | `process_text` | the contents of those files |
//! | `namespaces` | `/proc/PID/ns`, the maps of user namespaces, the offsets of time namespaces |
//! | `descriptors` | `/proc/PID/fd`, `fdinfo` |
//! | `memory` | `/proc/PID/mem` |
//! | `mounts` | `/proc/PID/mounts`, `mountinfo`, which can be watched |
//! | `network` | `/proc/PID/net`: what others registered about a network namespace |
//! | `system`, `cpuinfo`, `kmsg` | the files about the whole system |
//! | `sysctl`, `sysctl_ip` | `/proc/sys` |
//!
//! Everything is computed when it is read; each value is read under its own lock, so a file is not one instant, as on
//! Linux. A directory of a process lives as long as the process. Locks: none of its own.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cpuinfo;
mod descriptors;
mod kmsg;
mod memory;
mod mounts;
mod namespaces;
pub mod network;
mod pressure;
mod process;
mod process_text;
mod sysctl;
mod sysctl_ip;
mod system;
mod sysvipc;

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use security::{Credentials, UserNamespace};
use task::pid::PidNamespace;
use vfs::pseudo::{self, Node, StaticDirectory};
use vfs::{FileSystemType, Inode, MountRequest};

/// `PROC_SUPER_MAGIC`.
const MAGIC: u32 = 0x9fa0;

/// What `image` knows and `/proc` tells.
#[derive(Clone, Copy)]
pub struct Identity {
    /// `uname -r`.
    pub release: &'static str,
    /// `uname -v`.
    pub version: &'static str,
}

/// Makes the file system type known. Errors: `EBUSY` if that was done before.
pub fn register(identity: Identity) -> Result<()> {
    let fixed = system::files(identity)
        .add("sys", Node::directory(Arc::new(sysctl::tree(identity))))
        .add("fs", Node::directory(Arc::new(StaticDirectory::new())))
        .add(
            "tty",
            Node::directory(Arc::new(
                StaticDirectory::new().add("ldisc", Node::directory(Arc::new(StaticDirectory::new()))),
            )),
        );
    network::add("unix", net::unix::write_sockets)?;
    network::add("arp", net::ip::show_counters::write_arp)?;
    network::add("snmp", net::ip::show_counters::write_snmp)?;
    network::add("snmp6", net::ip::show_counters::write_snmp6)?;
    network::add("netstat", net::ip::show_counters::write_netstat)?;
    network::add("sockstat", net::inet::sockstat::write_sockstat)?;
    network::add("sockstat6", net::inet::sockstat::write_sockstat6)?;
    network::add("udp", net::inet::show::write_udp)?;
    network::add("udp6", net::inet::show::write_udp6)?;
    network::add("raw", net::inet::show::write_raw)?;
    network::add("raw6", net::inet::show::write_raw6)?;
    network::add("icmp", net::inet::show::write_icmp)?;
    network::add("icmp6", net::inet::show::write_icmp6)?;
    network::add("packet", net::packet_socket::show::write_sockets)?;
    network::add("ptype", net::packet_socket::show::write_types)?;
    network::add("netlink", net::netlink::show::write_sockets)?;
    network::add("dev", net::device::show::write_devices)?;
    network::add("route", net::ip::show::write_routes)?;
    network::add("if_inet6", net::ip::show::write_addresses6)?;
    network::add("ipv6_route", net::ip::show::write_routes6)?;
    network::add("fib_trie", net::ip::show::write_trie)?;
    network::add("dev_mcast", net::ip::show::write_link_groups)?;
    network::add("igmp", net::ip::show::write_groups4)?;
    network::add("igmp6", net::ip::show::write_groups6)?;
    vfs::register_filesystem(Arc::new(Proc { fixed: Arc::new(fixed) }))
}

/// The type: every mount is an instance that shows the pid namespace of who mounts it.
struct Proc {
    fixed: Arc<StaticDirectory>,
}

/// The pid namespace of the running task; the first one for the kernel itself.
fn current_pids() -> Arc<PidNamespace> {
    task::task::with_current(|task| task.process().namespace().clone())
        .unwrap_or_else(|| task::pid::root().clone())
}

impl FileSystemType for Proc {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn user_mountable(&self) -> bool {
        true
    }

    fn must_be_visible(&self) -> bool {
        true
    }

    fn owner(&self, _credentials: &Credentials) -> Arc<UserNamespace> {
        current_pids().head().owner().clone()
    }

    fn mount(&self, _request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let pids = current_pids();
        let owner = pids.head().owner().clone();
        let root = process::Root::new(self.fixed.clone(), pids);
        // A name that is not there is an error even for who wants to make it, as on Linux.
        let root = Node::directory(Arc::new(root));
        Ok(pseudo::instance("proc", MAGIC, root, owner, Some(Errno::ENOENT)))
    }
}
