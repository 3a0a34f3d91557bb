//! A word to the cache ahead of time.

use super::LANES;

/// Asks for the cache line of an element that will be wanted soon. A hint: it changes nothing
/// but the time, any address will do, and processors other than x86 are not asked.
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

/// [`prefetch`] for every cache line of a slice that starts on one.
#[inline(always)]
pub(crate) fn prefetch_slice(slice: &[f32]) {
    for line in slice.chunks(LANES) {
        prefetch(line.as_ptr());
    }
}
