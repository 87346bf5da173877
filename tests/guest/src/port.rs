//! What programs see of a port to the host (virtio-console): `--port DEVICE`. The host does its part when it reads `@@host`: it connects; it sends
//! `last words` and goes; it pulls the port out.

use std::fs::{File, OpenOptions};
use std::io::{self, Error, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

const IN: i16 = libc::POLLIN;
const OUT: i16 = libc::POLLOUT;
const HUP: i16 = libc::POLLHUP;

/// Runs; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let result = match arguments {
        [device] => rules(device),
        _ => Err(Error::other("--port DEVICE")),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("port: {error}");
            1
        }
    }
}

fn open(device: &str, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(device)
}

/// What a call says: how many bytes, or the errno as a negative number.
fn code(result: io::Result<usize>) -> i64 {
    result.map_or_else(|error| -i64::from(error.raw_os_error().unwrap_or(i32::MAX)), |count| count as i64)
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, due: T) -> io::Result<()> {
    if found == due { Ok(()) } else { Err(Error::other(format!("{what}: {found:?}, not {due:?}"))) }
}

fn poll(file: &File) -> i16 {
    let mut entry = libc::pollfd { fd: file.as_raw_fd(), events: IN | OUT, revents: 0 };
    // SAFETY: one entry, which is there.
    unsafe { libc::poll(&raw mut entry, 1, 0) };
    entry.revents
}

/// Has the host do the next thing, and waits until the port looks so.
fn host(file: &File, due: i16) -> io::Result<()> {
    println!("@@host");
    io::stdout().flush()?;
    let end = Instant::now() + Duration::from_secs(30);
    while poll(file) != due {
        if Instant::now() > end {
            return expect("what poll says", poll(file), due);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn rules(device: &str) -> io::Result<()> {
    let mut file = open(device, libc::O_NONBLOCK)?;
    expect("a second open", open(device, 0).err().and_then(|error| error.raw_os_error()), Some(libc::EBUSY))?;
    let mut buffer = [0; 64];
    // Nobody has connected: reading is at its end, writing waits.
    expect("poll without a host", poll(&file), IN | HUP)?;
    expect("a read without a host", code(file.read(&mut buffer)), 0)?;
    expect("a write without a host", code(file.write(b"x")), -i64::from(libc::EAGAIN))?;
    host(&file, OUT)?;
    expect("a read of nothing", code(file.read(&mut buffer)), -i64::from(libc::EAGAIN))?;
    expect("a write of nothing", code(file.write(b"")), 0)?;
    expect("a short write", code(file.write(b"short")), 5)?;
    expect("a long write", code(file.write(&[1; 100_000])), 32 << 10)?;
    // SAFETY: asks for a number.
    let place = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) };
    expect("a seek", (place, Error::last_os_error().raw_os_error()), (-1, Some(libc::ESPIPE)))?;
    // The host goes: what it has sent is there still.
    host(&file, IN | HUP)?;
    expect("the last words", code(file.read(&mut buffer)), 10)?;
    expect("the last words", &buffer[..10], b"last words")?;
    expect("the end", code(file.read(&mut buffer)), 0)?;
    // Closed and opened again.
    drop(file);
    let mut file = open(device, 0)?;
    host(&file, HUP)?;
    expect("a read of what is gone", code(file.read(&mut buffer)), -i64::from(libc::ENODEV))?;
    expect("a write to what is gone", code(file.write(b"x")), -i64::from(libc::ENODEV))?;
    drop(file);
    let end = Instant::now() + Duration::from_secs(30);
    while open(device, 0).is_ok() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    expect("the device is gone", open(device, 0).is_err(), true)
}
