//! A word to the cache ahead of time.

use super::LANES;

/// Asks for the cache lines of a slice, which will be read and written soon. A hint: it changes
/// nothing but the time, and does nothing on processors other than x86.
#[inline(always)]
pub(crate) fn prefetch(slice: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in slice.chunks(LANES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}
