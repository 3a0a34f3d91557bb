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

/// Prefetches every cache line of a slice that starts on one.
#[inline(always)]
pub(crate) fn prefetch_slice(slice: &[f32]) {
    for line in slice.chunks(LANES) {
        prefetch(line.as_ptr());
    }
}
