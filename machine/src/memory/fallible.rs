//! Boxes and counted references whose making can fail: what the standard library does not offer in its stable part.
//!
//! No locks.

use alloc::alloc::{alloc, dealloc};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::alloc::Layout;

use super::OutOfMemory;

/// `Box::new` that gives the value back when there is no memory. Any context.
pub fn try_box<T>(value: T) -> Result<Box<T>, T> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    // SAFETY: the layout is not empty.
    let place = unsafe { alloc(layout) }.cast::<T>();
    if place.is_null() {
        return Err(value);
    }
    // SAFETY: fresh memory of the global allocator with this type's layout.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// `Arc::new` that fails when there is no memory (the value is dropped then). Any context.
///
/// The standard library cannot be told where to put an `Arc`, so this makes sure that the place it will take is free: an
/// object of the same layout goes back to this CPU's free list, which works last in, first out, and nobody else can come
/// to that list meanwhile. For values of up to a few KiB.
pub fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfMemory> {
    let counts = Layout::new::<(usize, usize)>();
    let (layout, _) = counts.extend(Layout::new::<T>()).map_err(|_| OutOfMemory)?;
    let layout = layout.pad_to_align();
    // SAFETY: the layout is not empty: the counts are in it.
    let place = unsafe { alloc(layout) };
    if place.is_null() {
        return Err(OutOfMemory);
    }
    let guard = crate::irq::disable();
    // SAFETY: allocated just before with this layout.
    unsafe { dealloc(place, layout) };
    let made = Arc::new(value);
    drop(guard);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive() {
        assert_eq!(try_box(7u64).as_deref(), Ok(&7));
        assert_eq!(try_box(()), Ok(Box::new(())));
        let shared = try_arc([1u8; 100]).unwrap();
        assert_eq!(*shared, [1; 100]);
        #[repr(align(128))]
        struct Wide(u8);
        let wide = try_arc(Wide(3)).unwrap();
        assert_eq!(core::ptr::from_ref(&*wide).addr() % 128, 0);
        assert_eq!(wide.0, 3);
    }
}
