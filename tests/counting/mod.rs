//! An allocator that counts what the whole process allocates, and what each thread does.

// Each test reads some of the counts.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN_ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static OWN_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Allocations so far.
pub fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Allocations of this thread so far.
pub fn own_allocations() -> usize {
    OWN_ALLOCATIONS.get()
}

/// Bytes that this thread has allocated and not freed.
pub fn own_bytes() -> isize {
    OWN_BYTES.get()
}

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    OWN_ALLOCATIONS.set(OWN_ALLOCATIONS.get() + 1);
    OWN_BYTES.set(OWN_BYTES.get() + bytes as isize);
}

// SAFETY: every call goes to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OWN_BYTES.set(OWN_BYTES.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        OWN_BYTES.set(OWN_BYTES.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
