//! Files, folders and descriptors.

use crate::case::{Case, Failure, Outcome, case, long_case};
use crate::sys::{self, c, errno, folder, ok};
use crate::{ensure, ensure_eq};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("files_write_read", write_read),
    case("files_sparse_hole_reads_zero", sparse),
    case("files_truncate", truncate),
    case("files_append", append),
    case("files_excl", exclusive),
    case("files_unlinked_stays_readable", unlinked),
    case("files_rename_replaces", rename),
    case("files_rename_directory_errors", rename_errors),
    case("files_symlink_loop", symlink_loop),
    case("files_hard_link_count", hard_links),
    case("files_getdents_sees_all", getdents),
    case("files_dup2_shares_offset", dup2),
    case("files_cloexec", cloexec),
    case("files_lowest_descriptor", lowest),
    case("files_umask", umask),
    case("files_permission_denied", permissions),
    case("files_name_limits", name_limits),
    case("files_seek", seek),
    case("files_openat_and_dot_dot", openat),
    case("files_statx_times", statx_times),
    case("files_pread_pwrite_vectors", vectors),
    case("files_dev_nodes", dev_nodes),
    case("files_proc_self", proc_self),
    long_case("files_100000_descriptors", 120, many_descriptors),
];

fn io<T>(result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Wrong(error.to_string()))
}

fn write_read() -> Outcome {
    let path = format!("{}/file", folder("wr")?);
    let data: Vec<u8> = (0..300_000u32).map(|i| (i * 7) as u8).collect();
    io(std::fs::write(&path, &data))?;
    ensure!(io(std::fs::read(&path))? == data);
    let meta = io(std::fs::metadata(&path))?;
    ensure_eq!(meta.len(), 300_000);
    ensure!(meta.blocks() >= 586, "blocks {}", meta.blocks());
    Ok(())
}

fn sparse() -> Outcome {
    let path = format!("{}/sparse", folder("sp")?);
    let file = io(std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&path))?;
    io(file.write_all_at(b"end", 50_000_000))?;
    let mut hole = [1; 4096];
    io(file.read_exact_at(&mut hole, 1_000_000))?;
    ensure!(hole == [0; 4096]);
    ensure!(io(file.metadata())?.blocks() < 100);
    Ok(())
}

fn truncate() -> Outcome {
    let path = format!("{}/file", folder("tr")?);
    io(std::fs::write(&path, [7; 10_000]))?;
    let file = io(std::fs::File::options().read(true).write(true).open(&path))?;
    io(file.set_len(5000))?;
    io(file.set_len(10_000))?;
    let data = io(std::fs::read(&path))?;
    ensure!(data[..5000].iter().all(|b| *b == 7) && data[5000..].iter().all(|b| *b == 0));
    Ok(())
}

fn append() -> Outcome {
    let path = c(&format!("{}/file", folder("ap")?));
    // SAFETY: the path is a C string; lseek takes numbers.
    let fd = ok("open", unsafe {
        libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR | libc::O_APPEND, 0o600)
    })?;
    sys::write(fd as i32, b"one")?;
    // SAFETY: numbers only.
    ensure_eq!(unsafe { libc::lseek(fd as i32, 0, libc::SEEK_SET) }, 0);
    sys::write(fd as i32, b"two")?;
    // SAFETY: numbers only.
    ensure_eq!(unsafe { libc::lseek(fd as i32, 0, libc::SEEK_CUR) }, 6);
    Ok(())
}

fn exclusive() -> Outcome {
    let path = format!("{}/file", folder("ex")?);
    io(std::fs::File::create_new(&path))?;
    let second = std::fs::File::create_new(&path);
    ensure!(second.is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)));
    Ok(())
}

fn unlinked() -> Outcome {
    let path = format!("{}/file", folder("ul")?);
    io(std::fs::write(&path, b"still here"))?;
    let file = io(std::fs::File::open(&path))?;
    io(std::fs::remove_file(&path))?;
    ensure_eq!(io(file.metadata())?.nlink(), 0);
    let mut buffer = [0; 10];
    io(file.read_exact_at(&mut buffer, 0))?;
    ensure_eq!(&buffer, b"still here");
    Ok(())
}

fn rename() -> Outcome {
    let dir = folder("rn")?;
    io(std::fs::write(format!("{dir}/a"), b"a"))?;
    io(std::fs::write(format!("{dir}/b"), b"b"))?;
    io(std::fs::rename(format!("{dir}/a"), format!("{dir}/b")))?;
    ensure_eq!(io(std::fs::read(format!("{dir}/b")))?, b"a");
    ensure!(!std::path::Path::new(&format!("{dir}/a")).exists());
    Ok(())
}

fn rename_errors() -> Outcome {
    let dir = folder("re")?;
    io(std::fs::create_dir_all(format!("{dir}/d/sub")))?;
    io(std::fs::create_dir(format!("{dir}/full")))?;
    io(std::fs::write(format!("{dir}/full/x"), b""))?;
    io(std::fs::write(format!("{dir}/f"), b""))?;
    let error = |from: &str, to: &str| {
        std::fs::rename(format!("{dir}/{from}"), format!("{dir}/{to}")).err().and_then(|e| e.raw_os_error())
    };
    ensure_eq!(error("d", "d/sub/in"), Some(libc::EINVAL));
    ensure_eq!(error("d", "full"), Some(libc::ENOTEMPTY));
    ensure_eq!(error("f", "d"), Some(libc::EISDIR));
    ensure_eq!(error("d", "f"), Some(libc::ENOTDIR));
    ensure_eq!(error("none", "f"), Some(libc::ENOENT));
    Ok(())
}

fn symlink_loop() -> Outcome {
    let dir = folder("sl")?;
    io(symlink("b", format!("{dir}/a")))?;
    io(symlink("a", format!("{dir}/b")))?;
    let error = std::fs::File::open(format!("{dir}/a")).err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ELOOP));
    // 40 links in a row are followed, 41 are not.
    io(std::fs::write(format!("{dir}/l0"), b"end"))?;
    for i in 1..=41 {
        io(symlink(format!("l{}", i - 1), format!("{dir}/l{i}")))?;
    }
    ensure_eq!(io(std::fs::read(format!("{dir}/l40")))?, b"end");
    let error = std::fs::read(format!("{dir}/l41")).err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ELOOP));
    Ok(())
}

fn hard_links() -> Outcome {
    let dir = folder("hl")?;
    io(std::fs::write(format!("{dir}/a"), b"x"))?;
    io(std::fs::hard_link(format!("{dir}/a"), format!("{dir}/b")))?;
    let (a, b) = (io(std::fs::metadata(format!("{dir}/a")))?, io(std::fs::metadata(format!("{dir}/b")))?);
    ensure_eq!(a.nlink(), 2);
    ensure_eq!(a.ino(), b.ino());
    let error = std::fs::hard_link(&dir, format!("{dir}/c")).err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::EPERM));
    io(std::fs::create_dir(format!("{dir}/sub")))?;
    ensure_eq!(io(std::fs::metadata(&dir))?.nlink(), 3);
    Ok(())
}

fn getdents() -> Outcome {
    let dir = folder("gd")?;
    for i in 0..2000 {
        io(std::fs::write(format!("{dir}/file-with-a-longer-name-{i}"), b""))?;
    }
    let mut names = std::collections::BTreeSet::new();
    for entry in io(std::fs::read_dir(&dir))? {
        let entry = io(entry)?;
        ensure!(names.insert(entry.file_name()), "{:?} twice", entry.file_name());
        // What was already read may go while the folder is read.
        io(std::fs::remove_file(entry.path()))?;
    }
    ensure_eq!(names.len(), 2000);
    Ok(())
}

fn dup2() -> Outcome {
    let path = c(&format!("{}/file", folder("du")?));
    // SAFETY: the path is a C string; the rest are numbers.
    unsafe {
        let fd = ok("open", libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600))? as i32;
        ensure_eq!(libc::dup2(fd, 77), 77);
        sys::write(fd, b"abc")?;
        ensure_eq!(libc::lseek(77, 0, libc::SEEK_CUR), 3);
        ensure_eq!(libc::dup2(77, 77), 77);
        ensure_eq!(libc::dup3(77, 77, 0), -1);
        ensure_eq!(errno(), libc::EINVAL);
        ensure_eq!(libc::dup2(1000, 5), -1);
        ensure_eq!(errno(), libc::EBADF);
    }
    Ok(())
}

fn cloexec() -> Outcome {
    // SAFETY: numbers and C strings.
    unsafe {
        let kept = ok("dup", libc::dup(2))?;
        let closed = ok("dup", libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 100))?;
        ensure!(closed >= 100);
        ensure_eq!(libc::fcntl(closed as i32, libc::F_GETFD), libc::FD_CLOEXEC);
        let code = crate::process::run_helper(&["open", &kept.to_string(), &closed.to_string()])?;
        ensure_eq!(code, 0b01);
    }
    Ok(())
}

fn lowest() -> Outcome {
    // SAFETY: numbers only.
    unsafe {
        let a = libc::dup(2);
        let b = libc::dup(2);
        let d = libc::dup(2);
        ensure!(a < b && b < d);
        libc::close(a);
        libc::close(b);
        ensure_eq!(libc::dup(2), a);
        ensure_eq!(libc::dup(2), b);
        ensure_eq!(libc::fcntl(2, libc::F_DUPFD, d), d + 1);
    }
    Ok(())
}

fn umask() -> Outcome {
    let dir = folder("um")?;
    // SAFETY: numbers only.
    unsafe { libc::umask(0o027) };
    io(std::fs::write(format!("{dir}/f"), b""))?;
    io(std::fs::create_dir(format!("{dir}/d")))?;
    ensure_eq!(io(std::fs::metadata(format!("{dir}/f")))?.mode() & 0o7777, 0o640);
    ensure_eq!(io(std::fs::metadata(format!("{dir}/d")))?.mode() & 0o7777, 0o750);
    Ok(())
}

fn permissions() -> Outcome {
    let dir = folder("pe")?;
    io(std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)))?;
    let file = format!("{dir}/f");
    io(std::fs::write(&file, b"secret"))?;
    io(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)))?;
    let code = sys::in_child(|| {
        // SAFETY: numbers only.
        if unsafe { libc::setresgid(1000, 1000, 1000) != 0 || libc::setresuid(1000, 1000, 1000) != 0 } {
            return 1;
        }
        let open = std::fs::read(&file).err().and_then(|e| e.raw_os_error());
        let create = std::fs::write(format!("{dir}/new"), b"").err().and_then(|e| e.raw_os_error());
        let chmod = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777));
        let chmod = chmod.err().and_then(|e| e.raw_os_error());
        i32::from(open != Some(libc::EACCES)) * 2
            + i32::from(create != Some(libc::EACCES)) * 4
            + i32::from(chmod != Some(libc::EPERM)) * 8
    })?;
    ensure_eq!(code, 0);
    Ok(())
}

fn name_limits() -> Outcome {
    let dir = folder("nl")?;
    let name = "n".repeat(255);
    io(std::fs::write(format!("{dir}/{name}"), b""))?;
    let error = std::fs::write(format!("{dir}/{name}n"), b"").err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ENAMETOOLONG));
    let long = format!("{dir}/{}", "./".repeat(2100));
    let error = std::fs::metadata(long).err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ENAMETOOLONG));
    let error = std::fs::metadata("").err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ENOENT));
    let error = std::fs::metadata(format!("{dir}/{name}/x")).err().and_then(|e| e.raw_os_error());
    ensure_eq!(error, Some(libc::ENOTDIR));
    Ok(())
}

fn seek() -> Outcome {
    let path = c(&format!("{}/file", folder("se")?));
    // SAFETY: the path is a C string; the rest are numbers.
    unsafe {
        let fd = ok("open", libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600))? as i32;
        ensure_eq!(libc::lseek(fd, 10, libc::SEEK_END), 10);
        ensure_eq!(libc::lseek(fd, -1, libc::SEEK_SET), -1);
        ensure_eq!(errno(), libc::EINVAL);
        ensure_eq!(libc::lseek(fd, 0, 99), -1);
        ensure_eq!(errno(), libc::EINVAL);
        ensure_eq!(sys::read(fd, 10)?.len(), 0);
        let (reader, _writer) = sys::pipe(0)?;
        ensure_eq!(libc::lseek(reader, 0, libc::SEEK_CUR), -1);
        ensure_eq!(errno(), libc::ESPIPE);
    }
    Ok(())
}

fn openat() -> Outcome {
    let dir = folder("oa")?;
    io(std::fs::create_dir_all(format!("{dir}/x/y")))?;
    io(std::fs::write(format!("{dir}/x/f"), b"f"))?;
    let (path, up) = (c(&format!("{dir}/x/y")), c("../f"));
    let root = c("/../../../tmp/..");
    // SAFETY: the paths are C strings; the rest are numbers.
    unsafe {
        let at = ok("open", libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY))? as i32;
        let fd = ok("openat", libc::openat(at, up.as_ptr(), libc::O_RDONLY))? as i32;
        ensure_eq!(sys::read(fd, 10)?, b"f");
        ensure_eq!(libc::openat(fd, up.as_ptr(), libc::O_RDONLY), -1);
        ensure_eq!(errno(), libc::ENOTDIR);
        ensure_eq!(libc::chdir(root.as_ptr()), 0);
        ensure_eq!(io(std::env::current_dir())?, std::path::Path::new("/"));
        ensure_eq!(libc::fchdir(at), 0);
        ensure_eq!(io(std::env::current_dir())?, std::path::PathBuf::from(format!("{dir}/x/y")));
    }
    Ok(())
}

fn statx_times() -> Outcome {
    let path = format!("{}/file", folder("st")?);
    io(std::fs::write(&path, b"x"))?;
    let name = c(&path);
    let times = [
        libc::timespec { tv_sec: 12345, tv_nsec: 678 },
        libc::timespec { tv_sec: 23456, tv_nsec: 999_999_999 },
    ];
    // SAFETY: a C string and two timespecs.
    ok("utimensat", unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), times.as_ptr(), 0) })?;
    let meta = io(std::fs::metadata(&path))?;
    ensure_eq!((meta.atime(), meta.atime_nsec()), (12345, 678));
    ensure_eq!((meta.mtime(), meta.mtime_nsec()), (23456, 999_999_999));
    ensure!(meta.ctime() > 1_000_000);
    Ok(())
}

fn vectors() -> Outcome {
    let path = c(&format!("{}/file", folder("ve")?));
    let parts = [&b"hello "[..], b"", b"world"]
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: a C string and vectors of live buffers.
    unsafe {
        let fd = ok("open", libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600))? as i32;
        ensure_eq!(libc::writev(fd, parts.as_ptr(), 3), 11);
        ensure_eq!(libc::pwritev(fd, parts.as_ptr(), 1, 100), 6);
        let mut buffer = [0u8; 11];
        ensure_eq!(libc::pread(fd, buffer.as_mut_ptr().cast(), 11, 0), 11);
        ensure_eq!(&buffer, b"hello world");
        ensure_eq!(libc::writev(fd, parts.as_ptr(), -1), -1);
        ensure_eq!(errno(), libc::EINVAL);
        ensure_eq!(libc::writev(fd, parts.as_ptr(), 0), 0);
    }
    Ok(())
}

fn dev_nodes() -> Outcome {
    ensure_eq!(io(std::fs::read("/dev/null"))?.len(), 0);
    let full = std::fs::write("/dev/full", b"x").err().and_then(|e| e.raw_os_error());
    ensure_eq!(full, Some(libc::ENOSPC));
    let (a, b) = (random_bytes()?, random_bytes()?);
    ensure!(a != b && a != [0; 32]);
    let kind = io(std::fs::metadata("/dev/zero"))?;
    ensure_eq!(kind.rdev(), 0x105);
    Ok(())
}

fn random_bytes() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    io(std::io::Read::read_exact(&mut io(std::fs::File::open("/dev/urandom"))?, &mut bytes))?;
    Ok(bytes)
}

fn proc_self() -> Outcome {
    let pid = std::process::id();
    let stat = io(std::fs::read_to_string("/proc/self/stat"))?;
    ensure!(stat.starts_with(&format!("{pid} (")), "{stat}");
    let status = io(std::fs::read_to_string("/proc/self/status"))?;
    ensure!(status.contains(&format!("Pid:\t{pid}\n")));
    ensure_eq!(io(std::fs::read_link("/proc/self"))?, std::path::PathBuf::from(pid.to_string()));
    let maps = io(std::fs::read_to_string("/proc/self/maps"))?;
    ensure!(maps.contains("[stack]"), "{maps}");
    let path = format!("{}/file", folder("ps")?);
    let file = io(std::fs::File::create(&path))?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    ensure_eq!(io(std::fs::read_link(link))?, std::path::PathBuf::from(&path));
    Ok(())
}

fn many_descriptors() -> Outcome {
    let limit = libc::rlimit { rlim_cur: 150_000, rlim_max: 150_000 };
    // SAFETY: one rlimit; the rest are numbers.
    unsafe {
        ok("setrlimit", libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
        let first = ok("dup", libc::dup(2))? as i32;
        for i in 1..100_000 {
            ensure_eq!(libc::dup(2), first + i);
        }
        let code = sys::in_child(|| i32::from(libc::fcntl(first + 99_999, libc::F_GETFD) != 0))?;
        ensure_eq!(code, 0);
        let small = libc::rlimit { rlim_cur: 64, rlim_max: 150_000 };
        ok("setrlimit", libc::setrlimit(libc::RLIMIT_NOFILE, &raw const small))?;
        ensure_eq!(libc::dup(2), -1);
        ensure_eq!(errno(), libc::EMFILE);
        ensure_eq!(libc::syscall(libc::SYS_close_range, first, first + 99_999, 0), 0);
        ensure_eq!(libc::dup(2), first);
    }
    Ok(())
}
