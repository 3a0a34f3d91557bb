//! Stores that go past the caches, for memory that other cores have copies of.
//!
//! An ordinary store to a line that another core has read waits until that core has given up its copy: 28 ns a
//! line between the chiplets of a Zen 4, 6 ns within one, and a prefetch for writing does not shorten it. A
//! streaming store of a whole line takes 4 and 3 ns, and the other core reads the line as fast as before.
//!
//! Streaming stores are not ordered with other stores: [`finish`] comes before anything that tells another thread that the
//! values are there.

use pulp::Simd;

/// Overwrites a register's worth of elements. Whole cache lines should be written one right after the other.
///
/// # Safety
/// This thread calls [`finish`] before it or another one accesses the elements again.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    let (registers, _) = S::as_mut_simd_f32s(to);
    let to = &mut registers[0];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, _mm256_stream_ps};
        use std::mem::transmute_copy;
        let at = (&raw mut *to).cast::<f32>();
        // The instructions demand it; a buffer of weights is on cache lines.
        let is_aligned = at.addr().is_multiple_of(size_of::<S::f32s>());
        #[cfg(feature = "avx512")]
        if is_aligned && crate::simd::avx512(simd).is_some() {
            use std::arch::x86_64::{__m512, _mm512_stream_ps};
            // SAFETY: `S` is AVX-512, which the processor has then, and its register is this type. The pointer is
            // that of such a register, and aligned.
            return unsafe { _mm512_stream_ps(at, transmute_copy::<_, __m512>(&value)) };
        }
        let is_avx2 = size_of::<S::f32s>() == 32 && crate::simd::avx2(simd).is_some();
        if is_aligned && is_avx2 {
            // SAFETY: as above, with AVX2.
            return unsafe { _mm256_stream_ps(at, transmute_copy::<_, __m256>(&value)) };
        }
    }
    let _ = simd;
    *to = value;
}

/// Makes the values that this thread has stored visible to others before whatever it stores next.
#[inline(always)]
pub(crate) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use crate::simd::aligned::AlignedBuffer;
    use pulp::WithSimd;

    struct Fill<'a>(&'a mut [f32]);
    impl WithSimd for Fill<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (i, to) in self.0.chunks_exact_mut(S::F32_LANES).enumerate() {
                // SAFETY: `finish` comes before the elements are read.
                unsafe { store(simd, to, simd.splat_f32s(i as f32)) };
            }
            finish();
        }
    }

    #[test]
    fn stores_every_element_at_any_alignment() {
        for set in InstructionSet::available() {
            for shift in [0, 1, 4, 8] {
                let mut buffer = AlignedBuffer::zeros(160 + shift);
                set.dispatch(Fill(&mut buffer[shift..]));
                let lanes = set.lanes();
                let expected =
                    |i: usize| if i < shift { 0.0 } else { ((i - shift) / lanes) as f32 };
                for (i, &found) in buffer.iter().enumerate().take(shift + 160) {
                    assert_eq!(found, expected(i), "{set}, {shift}, {i}");
                }
            }
        }
    }
}
