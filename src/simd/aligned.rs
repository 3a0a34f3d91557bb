//! Buffer of `f32` that starts on a cache line, so that no register is loaded from two lines.

use std::ops::{Deref, DerefMut};

/// One cache line, the unit of allocation.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: an array of sixteen f32 in `repr(C, align(64))` is 64 bytes without padding, any bit
// pattern of which is a valid value.
unsafe impl pulp::bytemuck::Zeroable for Line {}
// SAFETY: as above; `Line` is Copy and holds no pointer.
unsafe impl pulp::bytemuck::Pod for Line {}

/// Fixed number of `f32`, the first one on a 64-byte boundary; dereferences to a slice.
///
/// Kernels accept any slice; those that begin on a cache line are read fastest.
///
/// ```
/// use elbo::simd::AlignedBuffer;
///
/// let mut buffer = AlignedBuffer::zeros(100);
/// buffer[99] = 1.0;
/// assert_eq!(buffer.as_ptr() as usize % 64, 0);
/// assert_eq!(buffer.iter().sum::<f32>(), 1.0);
/// ```
#[derive(Clone, Default)]
pub struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    /// Allocates `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self::filled(len, 0.0)
    }

    /// Allocates `len` copies of `value`.
    #[must_use]
    pub fn filled(len: usize, value: f32) -> Self {
        Self { lines: vec![Line([value; 16]); len.div_ceil(16)], len }
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];
    #[inline]
    fn deref(&self) -> &[f32] {
        &pulp::bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for AlignedBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut pulp::bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_cache_line_with_zeros() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let buffer = AlignedBuffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|&v| v == 0.0));
        }
    }
}
