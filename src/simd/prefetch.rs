//! Software prefetch.

use super::LANES;

/// Prefetches the cache line of an element. A hint: it affects speed alone, any address is allowed, and
/// on processors other than x86 it does nothing.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// [`prefetch`] into the second-level cache, for what is read only after much else.
#[inline(always)]
pub(crate) fn prefetch_second_level(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// [`prefetch`] of a line that will be written: the copies that other cores have of it are given up now, not
/// when the store waits for it.
#[inline(always)]
pub(crate) fn prefetch_for_write(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: changes no register and no flag, and faults at no address. Processors without the instruction
    // decode it as one that does nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Prefetches every cache line of a slice that starts on one and will be written.
#[inline(always)]
pub(crate) fn prefetch_slice_for_write(slice: &[f32]) {
    for line in slice.chunks(LANES) {
        prefetch_for_write(line.as_ptr());
    }
}
