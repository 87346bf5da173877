//! The structures against `linux-raw-sys`: sizes and the offsets that matter.

use crate::*;
use core::mem::{offset_of, size_of};
use linux_raw_sys::{general, system};

macro_rules! same_size {
    ($($ours:ty = $theirs:ty;)*) => {
        $(assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));)*
    };
}

macro_rules! same_offset {
    ($($ours:ty = $theirs:ty { $($field:ident)* })*) => {
        $($(assert_eq!(offset_of!($ours, $field), offset_of!($theirs, $field), stringify!($ours.$field));)*)*
    };
}

#[test]
fn sizes_are_those_of_linux() {
    same_size! {
        stat::Stat = general::stat;
        stat::Statx = general::statx;
        fs::Statfs = general::statfs;
        fcntl::OpenHow = general::open_how;
        fcntl::Flock = general::flock;
        fcntl::FOwnerEx = general::f_owner_ex;
        signal::SigInfo = general::siginfo;
        signal::SigAction = general::kernel_sigaction;
        signal::SigSet = general::kernel_sigset_t;
        signal::StackT = general::sigaltstack;
        signal::SigEvent = general::sigevent;
        time::Timespec = general::__kernel_timespec;
        time::Timeval = general::__kernel_old_timeval;
        time::Itimerspec = general::__kernel_itimerspec;
        resource::Rlimit = general::rlimit64;
        resource::Rusage = general::rusage;
        futex::FutexWaitv = general::futex_waitv;
        futex::RobustListHead = general::robust_list_head;
        poll::Pollfd = general::pollfd;
        epoll::EpollEvent = general::epoll_event;
        epoll::EpollParams = general::epoll_params;
        termios::Termios = general::termios;
        termios::Termios2 = general::termios2;
        termios::Termio = general::termio;
        termios::Winsize = general::winsize;
        clone::CloneArgs = general::clone_args;
        uio::IoVec = general::iovec;
        mount::MountAttr = general::mount_attr;
        mount::MntIdReq = general::mnt_id_req;
        inotify::InotifyEvent = general::inotify_event;
        capability::UserCapHeader = general::__user_cap_header_struct;
        capability::UserCapData = general::__user_cap_data_struct;
        capability::VfsCapData = general::vfs_ns_cap_data;
        sysinfo::Sysinfo = system::sysinfo;
        utsname::Utsname = system::new_utsname;
    }
}

#[test]
fn fields_lie_where_linux_has_them() {
    same_offset! {
        stat::Stat = general::stat { st_mode st_rdev st_size st_blksize st_blocks st_atime st_mtime st_ctime }
        stat::Statx = general::statx { stx_nlink stx_mode stx_ino stx_blocks stx_atime stx_mtime stx_rdev_major
            stx_mnt_id stx_subvol stx_atomic_write_unit_max_opt }
        fs::Statfs = general::statfs { f_blocks f_fsid f_namelen f_flags }
        resource::Rusage = general::rusage { ru_stime ru_maxrss ru_minflt ru_nivcsw }
        clone::CloneArgs = general::clone_args { exit_signal stack tls set_tid cgroup }
        termios::Termios2 = general::termios2 { c_line c_cc c_ispeed }
        signal::SigAction = general::kernel_sigaction { sa_flags sa_restorer sa_mask }
        sysinfo::Sysinfo = system::sysinfo { loads totalram procs totalhigh mem_unit }
    }
    assert_eq!(offset_of!(signal::RtSigframe, info), 312);
    assert_eq!(offset_of!(signal::Ucontext, uc_mcontext), 40);
    assert_eq!(offset_of!(signal::SigContext, fpstate), 184);
    assert_eq!(offset_of!(signal::SigInfo, fields), 16);
}

#[test]
fn errors_have_their_numbers() {
    assert_eq!(Errno::ENOENT.code(), 2);
    assert_eq!(Errno::EHWPOISON.as_return(), -133);
    assert_eq!(Errno::ENOSYS.name(), "ENOSYS");
    assert_eq!(Errno::from_code(11), Some(Errno::EWOULDBLOCK));
    assert_eq!((Errno::from_code(0), Errno::from_code(-2), Errno::from_code(4096)), (None, None, None));
    assert!(Errno::ERESTARTSYS.is_restart() && !Errno::EINTR.is_restart());
    assert_eq!(size_of::<Result<()>>(), 2);
    assert!(Errno::ALL.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn calls_have_their_numbers() {
    assert_eq!((nr::x86_64::READ, nr::x86_64::CLONE3, nr::x86_64::FUTEX_WAITV), (0, 435, 449));
    assert_eq!(nr::x86_64::name(231), Some("exit_group"));
    assert_eq!((nr::x86_64::name(400), nr::x86_64::name(9999)), (None, None));
    const { assert!(nr::x86_64::LIMIT > 462) };
}

#[test]
fn device_numbers_pack_as_in_linux() {
    for (major, minor) in [(0, 0), (4, 64), (8, 255), (259, 256), (0xfff, 0xf_ffff)] {
        assert_eq!(stat::decode_device(stat::encode_device(major, minor)), (major, minor));
    }
    assert_eq!(stat::encode_device(4, 64), 0x440);
    assert_eq!(stat::encode_device(259, 256), 0x11_0300);
}

#[test]
fn siginfo_fields_are_where_programs_look() {
    let child = signal::SigInfo::child(signal::CLD_EXITED as i32, 42, 7, 3, 10, 20);
    assert_eq!((child.pid(), child.uid(), child.status(), child.times()), (42, 7, 3, (10, 20)));
    let bytes = child.bytes();
    assert_eq!((bytes[0], bytes[8], bytes[16], bytes[20], bytes[24]), (17, 1, 42, 7, 3));
    let timer = signal::SigInfo::timer(14, 5, 2, 0xabcd);
    assert_eq!((timer.timer_overrun(), timer.value()), ((5, 2), 0xabcd));
    let set = signal::SigSet::of(1).union(signal::SigSet::of(64));
    assert!(set.iter().eq([1, 64]) && set.first() == Some(1) && !set.contains(2));
    assert!(signal::SigSet::of(0).is_empty() && signal::SigSet::of(65).is_empty());
}

#[test]
fn times_are_checked() {
    let time = |tv_sec, tv_nsec| time::Timespec { tv_sec, tv_nsec };
    assert_eq!(time(1, 5).to_nanoseconds(), Ok(1_000_000_005));
    assert_eq!(time(i64::MAX, 0).to_nanoseconds(), Ok(i64::MAX as u64));
    for bad in [time(-1, 0), time(0, -1), time(0, 1_000_000_000)] {
        assert_eq!(bad.to_nanoseconds(), Err(Errno::EINVAL));
    }
}
