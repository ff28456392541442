//! How often the heap was asked, counted per thread. Owns the counting allocator, which a binary makes its own; the memory
//! is that of the product's allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory; 0 for ever where [`Counting`] is not the allocator.
#[must_use]
pub fn asked() -> u64 {
    ASKED.with(Cell::get)
}

fn count() {
    // A thread that ends may free and allocate when its locals are gone.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

/// The product's allocator, counted.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is passed on unchanged, and counting allocates nothing: the cell is constant and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and all memory came from the same allocator.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, and all memory came from the same allocator.
        unsafe { MiMalloc.realloc(memory, layout, size) }
    }
}
