//! How much memory this thread has allocated: exact, and without what is not the machine's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // No destructor and no lazy start, so that an allocator may use them.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static APART: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting for each thread the bytes that were asked for and not given back.
/// What one thread allocates and another frees is counted wrong; the scale run has one thread.
pub struct Counting;

fn count(bytes: usize, sign: i64) {
    // A thread that ends has nothing more to count.
    let apart = APART.try_with(Cell::get).unwrap_or(true);
    if !apart {
        let _ = LIVE.try_with(|live| live.set(live.get() + sign * bytes as i64));
    }
}

// SAFETY: every call is handed to the system's allocator as it is; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes that this thread has allocated, outside of [`apart`]; 0 in a program without [`Counting`].
pub(super) fn live() -> i64 {
    LIVE.with(Cell::get)
}

/// Does what is not to be counted: what it allocates is freed in here, too.
pub(super) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let before = APART.replace(true);
    let done = work();
    APART.set(before);
    done
}
