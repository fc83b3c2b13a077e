//! Counts what the input in hand allocates, so that an input that asks for too much is named before the machine suffers.
//!
//! The only unsafe code here: an allocator cannot be had without. It passes every call on and counts in thread-local cells.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Beyond this an allocation fails and the process ends: the watchdog's file names the input.
const CEILING: isize = 1 << 30;

/// The system's allocator, counted per thread.
pub struct Counted;

/// From here on this thread's peak is counted anew.
pub fn begin() {
    HELD.set(0);
    PEAK.set(0);
}

/// Octets that this thread held at most since [`begin`].
pub fn peak() -> usize {
    PEAK.get().max(0) as usize
}

fn count(octets: isize) -> bool {
    // A thread that is being torn down has no cells any more; nothing is fuzzed there.
    let held = HELD.try_with(|held| {
        held.set(held.get() + octets);
        held.get()
    });
    let held = held.unwrap_or(0);
    let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    held < CEILING
}

// SAFETY: every call goes to `System` with the arguments it came with; what is added neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !count(size as isize - layout.size() as isize) {
            return std::ptr::null_mut();
        }
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
}
