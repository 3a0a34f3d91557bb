//! A buffer of `f32` that starts on a cache line, as the register tiles want it.

use std::ops::{Deref, DerefMut};

/// One cache line: the unit in which an [`AlignedBuffer`] is allocated.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: an array of sixteen f32 in `repr(C, align(64))` is 64 bytes without padding, any bit
// pattern of which is a valid value.
unsafe impl pulp::bytemuck::Zeroable for Line {}
// SAFETY: as above; `Line` is Copy and holds no pointer.
unsafe impl pulp::bytemuck::Pod for Line {}

/// A fixed number of `f32`, zero at first, the first one on a 64-byte boundary.
#[derive(Clone, Default)]
pub(crate) struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
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
    fn starts_on_a_cache_line_and_is_zero() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let buffer = AlignedBuffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|&v| v == 0.0));
        }
    }
}
