//! How much memory the inputs of a target take: an allocator that counts for each thread.

// A global allocator is an unsafe trait. This one hands every call to the system's and keeps sums beside it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread holds, and the most it has held since [`begin`]. What another thread frees
    /// is counted there, so that it may fall below nothing.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Install it in a test binary that runs targets: `#[global_allocator] static ALLOCATOR: Counting = Counting;`
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is the system allocator's, with its own arguments and results.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the place came from the system allocator, with this layout.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the place came from the system allocator, with this layout.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn count(bytes: isize) {
    // A thread that is ending has no counter any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now.saturating_add(bytes);
        held.set((now, most.max(now)));
    });
}

/// Begins to measure on this thread.
pub(crate) fn begin() -> isize {
    HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    })
}

/// The most bytes that this thread has held at once since [`begin`] gave `begun`, beyond what it held then.
pub(crate) fn most_since(begun: isize) -> usize {
    HELD.with(|held| held.get().1.saturating_sub(begun)).max(0) as usize
}
