//! Loop devices (loop(4)): a file, or a disk, as a disk of its own.
//!
//! Key types: [`Control`] (`/dev/loop-control`, which makes and removes them), `device::LoopDevice` (one, as the driver of its disk),
//! `backing::Backing` (what is behind it while it is bound, and the thread that does its work).
//!
//! Locks: [`DEVICES`] (sleeping) is held while devices are made, removed, bound, so that no two files can be bound in a ring; inside it a
//! device's `bound` (sleeping), and a queue of requests, a leaf usable in interrupts.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backing;
mod device;
mod status;

use abi::errno::{Errno, Result};
use abi::ioctl::{LOOP_CTL_ADD, LOOP_CTL_GET_FREE, LOOP_CTL_REMOVE};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use device::LoopDevice;
use machine::sync::Mutex;
use vfs::chardev::{self, Device};
use vfs::{DeviceId, File, FileKind, FileOperations, Positioning};

/// `/dev/loop-control`.
const CONTROL: DeviceId = DeviceId::new(10, 237);
/// Major number of the devices.
pub(crate) const MAJOR: u32 = 7;
/// How many there are from the start, as Linux has them by default (`max_loop`).
const FIRST_DEVICES: u32 = 8;
/// As many as there are minor numbers.
const MAX_DEVICES: u32 = 1 << 20;

/// All devices, by number.
pub(crate) static DEVICES: Mutex<BTreeMap<u32, Arc<LoopDevice>>> = Mutex::new(BTreeMap::new());

/// The node that makes devices, and its open file.
struct Control;

impl Device for Control {
    fn name(&self) -> &str {
        "misc"
    }

    fn open(&self, _id: DeviceId, _file: &File) -> Result<Arc<dyn FileOperations>> {
        Ok(Arc::new(Control))
    }
}

/// Makes the device of a number. Errors: `EEXIST`; `ENOSPC`, `ENOMEM`.
fn add(devices: &mut BTreeMap<u32, Arc<LoopDevice>>, number: u32) -> Result<u32> {
    if number >= MAX_DEVICES {
        return Err(Errno::EINVAL);
    }
    if devices.contains_key(&number) {
        return Err(Errno::EEXIST);
    }
    devices.insert(number, LoopDevice::make(number)?);
    Ok(number)
}

/// The first number that is free.
fn first_free(devices: &BTreeMap<u32, Arc<LoopDevice>>) -> u32 {
    let taken = (0..).zip(devices.keys()).take_while(|(number, key)| number == *key);
    taken.count() as u32
}

/// Errors: `EINVAL`; `ENODEV`: there is none; `EBUSY`: it is bound or open.
fn remove(devices: &mut BTreeMap<u32, Arc<LoopDevice>>, number: i32) -> Result<()> {
    let number = u32::try_from(number).map_err(|_| Errno::EINVAL)?;
    let device = devices.get(&number).ok_or(Errno::ENODEV)?;
    if device.is_bound() || device.is_used() {
        return Err(Errno::EBUSY);
    }
    device.take_away();
    devices.remove(&number);
    Ok(())
}

impl FileOperations for Control {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        let mut devices = DEVICES.lock();
        let number = argument as i32;
        match command {
            LOOP_CTL_ADD => {
                let free = || first_free(&devices);
                let wanted = u32::try_from(number).unwrap_or_else(|_| free());
                add(&mut devices, wanted).map(|number| number as usize)
            }
            LOOP_CTL_REMOVE => remove(&mut devices, number).map(|()| 0),
            LOOP_CTL_GET_FREE => {
                if let Some((number, _)) = devices.iter().find(|(_, device)| !device.is_bound()) {
                    return Ok(*number as usize);
                }
                let free = first_free(&devices);
                add(&mut devices, free).map(|number| number as usize)
            }
            // Linux's answer of this one.
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// Makes `/dev/loop-control` work, and the first devices. Thread context. Errors: `EBUSY`, `ENOMEM`.
pub fn register() -> Result<()> {
    let mut devices = DEVICES.lock();
    for number in 0..FIRST_DEVICES {
        add(&mut devices, number)?;
    }
    drop(devices);
    chardev::register(FileKind::CharDevice, CONTROL.major, CONTROL.minor..=CONTROL.minor, Arc::new(Control))
}
