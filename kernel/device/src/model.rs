//! Devices, drivers, and how they find each other.
//!
//! Key types: [`Device`], [`Driver`], [`Instance`], [`View`]. A device is in the tree from [`add`] to [`remove`]; whenever a device or a
//! driver comes, they are tried against each other. Removal goes from the leaves to the root: a driver's service ends
//! ([`Instance::remove`]) before its device leaves the tree.
//!
//! Locks: [`TREE`] (a spin lock, a leaf) lists devices, drivers and views; a device's `bound` (sleeping) is held while a driver is tried or
//! taken off, so that the two do not meet. A driver's probe may add devices: children's locks are taken under their parents'.

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{Mutex, SpinLock};

/// Writes the text of a file of a device.
pub type Show = fn(&Device, &mut dyn fmt::Write) -> Result<()>;
/// Takes what a program has written to one.
pub type Store = fn(&Arc<Device>, &[u8]) -> Result<()>;

/// A file of a device in `/sys`: what it says, from what the bus keeps of the device.
#[derive(Clone, Copy)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Writes its text.
    pub show: Show,
    /// Takes what is written to it; `None`: read-only.
    pub store: Option<Store>,
}

/// Whether a device works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// It works (D0).
    On,
    /// It keeps its state but does nothing (D3hot).
    Suspended,
}

/// A driver's service of one device.
pub trait Instance: Send + Sync {
    /// The device goes or another driver takes it: stops it, ends what is under way with `ENODEV` or `EIO`, and unregisters from
    /// classes. Thread context.
    fn remove(&self);
    /// The device is about to sleep, or works again. Thread context.
    ///
    /// Errors: `EOPNOTSUPP`: this driver cannot.
    fn set_power(&self, state: Power) -> Result<()> {
        let _ = state;
        Err(Errno::EOPNOTSUPP)
    }
}

/// A driver of devices of one bus.
pub trait Driver: Send + Sync {
    /// Its name, as in `/sys/bus/BUS/drivers`.
    fn name(&self) -> &'static str;
    /// Which bus.
    fn bus(&self) -> &'static str;
    /// Whether it serves such a device.
    fn matches(&self, device: &Device) -> bool;
    /// Starts serving. Thread context.
    ///
    /// Errors: whatever is wrong with the device; it stays without a driver.
    fn probe(&self, device: &Arc<Device>) -> Result<Box<dyn Instance>>;
    /// The files that a device has in `/sys` as long as this driver serves it.
    fn attributes(&self) -> &'static [Attribute] {
        &[]
    }
}

/// Who shows devices. Thread context.
pub trait View: Send + Sync {
    /// A device is in the tree; its parent was told of before.
    fn added(&self, device: &Arc<Device>);
    /// A driver serves it now, or none does.
    fn bound(&self, device: &Arc<Device>, driver: Option<&'static dyn Driver>);
    /// It has left the tree.
    fn removed(&self, device: &Arc<Device>);
    /// There is a driver.
    fn driver_added(&self, driver: &'static dyn Driver);
}

/// What serves a device.
struct Bound {
    driver: &'static dyn Driver,
    instance: Box<dyn Instance>,
}

/// A device.
pub struct Device {
    name: String,
    bus: &'static str,
    parent: Option<Arc<Device>>,
    /// What its bus knows of it.
    on_bus: Arc<dyn Any + Send + Sync>,
    attributes: &'static [Attribute],
    /// The lines of `uevent` and `modalias`, without the driver's.
    identity: String,
    bound: Mutex<Option<Bound>>,
    removed: AtomicBool,
}

impl Device {
    /// A device named `name` on `bus`, not in the tree yet. `identity` is what `uevent` says of it, in lines.
    pub fn new(
        name: String,
        bus: &'static str,
        parent: Option<Arc<Device>>,
        on_bus: Arc<dyn Any + Send + Sync>,
        attributes: &'static [Attribute],
        identity: String,
    ) -> Arc<Device> {
        let (bound, removed) = (Mutex::new(None), AtomicBool::new(false));
        Arc::new(Device { name, bus, parent, on_bus, attributes, identity, bound, removed })
    }

    /// Its name, the only one on its bus.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its bus; empty for one that only holds others.
    pub fn bus(&self) -> &'static str {
        self.bus
    }

    /// What it hangs on.
    pub fn parent(&self) -> Option<&Arc<Device>> {
        self.parent.as_ref()
    }

    /// Its place below `/sys/devices`.
    pub fn path(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{}/{}", parent.path(), self.name),
            None => self.name.clone(),
        }
    }

    /// What its bus knows of it, if it is a `T`.
    pub fn on_bus<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.on_bus.clone().downcast().ok()
    }

    /// Its files.
    pub fn attributes(&self) -> &'static [Attribute] {
        self.attributes
    }

    /// What `uevent` says, without the driver.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The name of the driver that serves it. May sleep.
    pub fn driver(&self) -> Option<&'static str> {
        self.bound_driver().map(Driver::name)
    }

    fn bound_driver(&self) -> Option<&'static dyn Driver> {
        self.bound.lock().as_ref().map(|bound| bound.driver)
    }

    /// Whether it has left the tree.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Puts it to sleep or wakes it. May sleep.
    ///
    /// Errors: `ENODEV`: no driver; else the driver's.
    pub fn set_power(&self, state: Power) -> Result<()> {
        self.bound.lock().as_ref().ok_or(Errno::ENODEV)?.instance.set_power(state)
    }

    /// Ends its driver's service, if it has one. May sleep. Errors: `ENODEV`: it has none.
    pub fn unbind(self: &Arc<Self>) -> Result<()> {
        let mut bound = self.bound.lock();
        bound.take().ok_or(Errno::ENODEV)?.instance.remove();
        drop(bound);
        for view in views() {
            view.bound(self, None);
        }
        Ok(())
    }

    /// Tries a driver. Errors: `EBUSY`: it has one; `ENODEV`: not for this driver, or removed; else the driver's.
    pub fn bind(self: &Arc<Self>, driver: &'static dyn Driver) -> Result<()> {
        let mut bound = self.bound.lock();
        if bound.is_some() {
            return Err(Errno::EBUSY);
        }
        if self.is_removed() || driver.bus() != self.bus || !driver.matches(self) {
            return Err(Errno::ENODEV);
        }
        let instance = driver.probe(self)?;
        *bound = Some(Bound { driver, instance });
        drop(bound);
        for view in views() {
            view.bound(self, Some(driver));
        }
        Ok(())
    }

    /// Tries drivers until one serves it.
    fn find_driver(self: &Arc<Self>) {
        let drivers = TREE.lock().drivers.clone();
        for driver in drivers {
            match self.bind(driver) {
                Ok(()) | Err(Errno::EBUSY) => return,
                Err(Errno::ENODEV) => {}
                Err(error) => log::warn!("{}: {}: probe failed: {error:?}", self.name, driver.name()),
            }
        }
    }
}

#[derive(Default)]
struct Tree {
    /// Parents before children.
    devices: Vec<Arc<Device>>,
    drivers: Vec<&'static dyn Driver>,
    views: Vec<&'static dyn View>,
}

static TREE: SpinLock<Tree> =
    SpinLock::new(Tree { devices: Vec::new(), drivers: Vec::new(), views: Vec::new() });

fn views() -> Vec<&'static dyn View> {
    TREE.lock().views.clone()
}

/// Puts a device into the tree and looks for a driver. Thread context.
///
/// Errors: `EEXIST`: the bus has one of that name; `ENODEV`: the parent is gone.
pub fn add(device: Arc<Device>) -> Result<()> {
    if device.parent.as_ref().is_some_and(|parent| parent.is_removed()) {
        return Err(Errno::ENODEV);
    }
    {
        let mut tree = TREE.lock();
        if tree.devices.iter().any(|known| known.bus == device.bus && known.name == device.name) {
            return Err(Errno::EEXIST);
        }
        tree.devices.push(device.clone());
    }
    for view in views() {
        view.added(&device);
    }
    device.find_driver();
    Ok(())
}

/// Takes a device and all that hangs on it out of the tree. Thread context. Errors: `ENODEV`: it is not there.
pub fn remove(device: &Arc<Device>) -> Result<()> {
    if device.removed.swap(true, Ordering::AcqRel) {
        return Err(Errno::ENODEV);
    }
    while let Some(child) = children(device).pop() {
        // Somebody else may be at it: then it goes without us.
        if remove(&child).is_err() {
            break;
        }
    }
    let _ = device.unbind();
    TREE.lock().devices.retain(|known| !Arc::ptr_eq(known, device));
    for view in views() {
        view.removed(device);
    }
    Ok(())
}

/// What hangs on a device, in the order of coming.
pub fn children(device: &Arc<Device>) -> Vec<Arc<Device>> {
    let tree = TREE.lock();
    let is_child =
        |known: &&Arc<Device>| known.parent.as_ref().is_some_and(|parent| Arc::ptr_eq(parent, device));
    tree.devices.iter().filter(is_child).cloned().collect()
}

/// The device of a bus with this name.
pub fn find(bus: &str, name: &str) -> Option<Arc<Device>> {
    TREE.lock().devices.iter().find(|device| device.bus == bus && device.name == name).cloned()
}

/// Makes a driver known and tries it with every device that has none. Thread context.
pub fn register_driver(driver: &'static dyn Driver) {
    let devices = {
        let mut tree = TREE.lock();
        tree.drivers.push(driver);
        tree.devices.clone()
    };
    for view in views() {
        view.driver_added(driver);
    }
    devices.iter().for_each(Device::find_driver);
}

/// Shows the tree through a view from now on, what is there already too. Thread context.
pub fn attach_view(view: &'static dyn View) {
    let (devices, drivers) = {
        let mut tree = TREE.lock();
        tree.views.push(view);
        (tree.devices.clone(), tree.drivers.clone())
    };
    drivers.iter().for_each(|driver| view.driver_added(*driver));
    for device in &devices {
        view.added(device);
        if let Some(driver) = device.bound_driver() {
            view.bound(device, Some(driver));
        }
    }
}

/// The next number of a kind of device (`virtio0`, `virtio1`), starting at 0, the lowest that no device of the bus has.
pub(crate) fn next_name(bus: &str, prefix: &str) -> String {
    let tree = TREE.lock();
    let taken = |name: &str| tree.devices.iter().any(|device| device.bus == bus && device.name == name);
    let mut number = 0u32;
    loop {
        let name = prefix.to_string() + &number.to_string();
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::sync::atomic::AtomicU32;

    static LIVE: AtomicU32 = AtomicU32::new(0);

    struct Served;
    impl Instance for Served {
        fn remove(&self) {
            LIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    struct Only(&'static str);
    impl Driver for Only {
        fn name(&self) -> &'static str {
            "only"
        }
        fn bus(&self) -> &'static str {
            "test"
        }
        fn matches(&self, device: &Device) -> bool {
            device.name().starts_with(self.0)
        }
        fn probe(&self, _device: &Arc<Device>) -> Result<Box<dyn Instance>> {
            LIVE.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Served))
        }
    }

    fn device(name: &str, parent: Option<Arc<Device>>) -> Arc<Device> {
        Device::new(name.into(), "test", parent, Arc::new(()), &[], String::new())
    }

    #[test]
    fn drivers_find_devices_and_children_go_first() {
        let top = device("top", None);
        add(top.clone()).unwrap();
        register_driver(&Only("x"));
        let child = device("x1", Some(top.clone()));
        add(child.clone()).unwrap();
        assert_eq!(add(device("x1", None)), Err(Errno::EEXIST));
        assert_eq!(child.driver(), Some("only"));
        assert_eq!(child.path(), "top/x1");
        assert_eq!(child.set_power(Power::Suspended), Err(Errno::EOPNOTSUPP));
        child.unbind().unwrap();
        assert_eq!((child.driver(), LIVE.load(Ordering::Relaxed)), (None, 0));
        child.bind(&Only("x")).unwrap();
        assert_eq!(next_name("test", "x"), "x0");
        remove(&top).unwrap();
        assert_eq!(LIVE.load(Ordering::Relaxed), 0);
        assert!(find("test", "x1").is_none() && child.is_removed());
        assert_eq!(add(device("x2", Some(top))), Err(Errno::ENODEV));
    }
}
