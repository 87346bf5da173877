//! Devices of a class that programs open: their node in `/dev` and their folder in `/sys/class`, for drivers that know no file system.
//!
//! Key types: [`ClassDevice`] (a description), [`Registration`] (it is there as long as this lives), [`View`] (who shows them: `fs/sysfs`, `fs/devfs`).
//! Who opens the node is the matter of whoever has registered its number with `vfs`.
//!
//! Locks: [`ALL`] (sleeping) is held around every change and while views are told; views take directories' locks.

use crate::Device;
use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use machine::sync::Mutex;

/// Writes the text of a file.
pub type Show = Box<dyn Fn(&mut dyn fmt::Write) -> Result<()> + Send + Sync>;

/// A file of a device in `/sys`, read-only.
pub struct ClassFile {
    /// Its name.
    pub name: &'static str,
    /// Writes its text.
    pub show: Show,
}

/// A character device of a class.
pub struct ClassDevice {
    /// Its name in `/dev` and in its class.
    pub name: String,
    /// Its class.
    pub class: &'static str,
    /// What it belongs to; `None`: nothing that is there (`virtual`).
    pub parent: Option<Arc<Device>>,
    /// Major and minor number.
    pub number: (u32, u32),
}

/// Who shows devices of classes. Thread context, one change after the other.
pub trait View: Send + Sync {
    /// There is a device.
    fn added(&self, device: &Arc<ClassDevice>);
    /// It has a file more.
    fn file_added(&self, device: &Arc<ClassDevice>, file: &Arc<ClassFile>) {
        let _ = (device, file);
    }
    /// All views have been told of a change: programs may hear of it.
    fn announce(&self, device: &Arc<ClassDevice>, change: Change) {
        let _ = (device, change);
    }
    /// It is not there any more.
    fn removed(&self, device: &Arc<ClassDevice>);
}

/// What programs hear of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It came.
    Added,
    /// Something about it is different.
    Changed,
    /// It goes.
    Removed,
}

struct Known {
    device: Arc<ClassDevice>,
    files: Vec<Arc<ClassFile>>,
}

struct All {
    views: Vec<&'static dyn View>,
    devices: Vec<Known>,
}

static ALL: Mutex<All> = Mutex::new(All { views: Vec::new(), devices: Vec::new() });

/// A device that is shown, until this is dropped (in thread context).
#[must_use]
pub struct Registration(Arc<ClassDevice>);

/// Shows a device. Thread context. Errors: `EEXIST`: its class has one of that name; `ENOMEM`.
pub fn register(device: ClassDevice) -> Result<Registration> {
    let mut all = ALL.lock();
    let same = |known: &Known| known.device.class == device.class && known.device.name == device.name;
    if all.devices.iter().any(same) {
        return Err(Errno::EEXIST);
    }
    all.devices.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let device = Arc::new(device);
    all.devices.push(Known { device: device.clone(), files: Vec::new() });
    all.views.iter().for_each(|view| view.added(&device));
    all.views.iter().for_each(|view| view.announce(&device, Change::Added));
    Ok(Registration(device))
}

impl Registration {
    /// Gives the device a file more, and has programs hear of the change. Thread context. Errors: `EEXIST`, `ENOMEM`.
    pub fn add_file(&self, name: &'static str, show: Show) -> Result<()> {
        let mut all = ALL.lock();
        let All { views, devices } = &mut *all;
        let known =
            devices.iter_mut().find(|known| Arc::ptr_eq(&known.device, &self.0)).ok_or(Errno::ENODEV)?;
        if known.files.iter().any(|file| file.name == name) {
            return Err(Errno::EEXIST);
        }
        known.files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let file = Arc::new(ClassFile { name, show });
        known.files.push(file.clone());
        views.iter().for_each(|view| view.file_added(&self.0, &file));
        views.iter().for_each(|view| view.announce(&self.0, Change::Changed));
        Ok(())
    }

    /// Leaves the device there for ever.
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut all = ALL.lock();
        let All { views, devices } = &mut *all;
        views.iter().for_each(|view| view.announce(&self.0, Change::Removed));
        views.iter().for_each(|view| view.removed(&self.0));
        devices.retain(|known| !Arc::ptr_eq(&known.device, &self.0));
    }
}

/// Shows devices through a view from now on, those that are there already too. Thread context. Errors: `ENOMEM`.
pub fn attach_view(view: &'static dyn View) -> Result<()> {
    let mut all = ALL.lock();
    all.views.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    for known in &all.devices {
        view.added(&known.device);
        known.files.iter().for_each(|file| view.file_added(&known.device, file));
    }
    all.views.push(view);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use machine::sync::SpinLock;

    static TOLD: SpinLock<Vec<String>> = SpinLock::new(Vec::new());

    struct Recorder;

    impl View for Recorder {
        fn added(&self, device: &Arc<ClassDevice>) {
            TOLD.lock().push(format!("added {}", device.name));
        }
        fn file_added(&self, device: &Arc<ClassDevice>, file: &Arc<ClassFile>) {
            let mut text = String::new();
            (file.show)(&mut text).unwrap();
            TOLD.lock().push(format!("file {} {} {text}", device.name, file.name));
        }
        fn announce(&self, device: &Arc<ClassDevice>, change: Change) {
            TOLD.lock().push(format!("{change:?} {}", device.name));
        }
        fn removed(&self, device: &Arc<ClassDevice>) {
            TOLD.lock().push(format!("removed {}", device.name));
        }
    }

    #[test]
    fn views_hear_of_devices_and_their_files_in_order() {
        let device =
            |name: &str| ClassDevice { name: name.into(), class: "test", parent: None, number: (1, 2) };
        let early = register(device("early")).unwrap();
        early.add_file("one", Box::new(|out| out.write_str("text").map_err(|_| Errno::EIO))).unwrap();
        attach_view(&Recorder).unwrap();
        assert_eq!(register(device("early")).err(), Some(Errno::EEXIST));
        let late = register(device("late")).unwrap();
        assert_eq!(early.add_file("one", Box::new(|_| Ok(()))).err(), Some(Errno::EEXIST));
        late.add_file("two", Box::new(|_| Ok(()))).unwrap();
        drop(late);
        early.keep();
        let expected = [
            "added early",
            "file early one text",
            "added late",
            "Added late",
            "file late two ",
            "Changed late",
            "Removed late",
            "removed late",
        ];
        assert_eq!(TOLD.lock().as_slice(), expected);
    }
}
