//! Buffers that begin at a cache line, so that no register of the widest is loaded from two.

use std::ops::{Deref, DerefMut};

const LINE_BYTES: usize = 64;

/// Numbers of which the first begins a cache line.
pub struct Aligned {
    memory: Vec<f32>,
    first: usize,
    len: usize,
}

impl Aligned {
    pub fn filled(len: usize, value: f32) -> Self {
        let memory = vec![value; len + LINE_BYTES / size_of::<f32>()];
        // The offset is beyond the slack only where no address can be had: then any will do.
        let first = memory.as_ptr().align_offset(LINE_BYTES).min(memory.len() - len);
        Self { memory, first, len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[self.first..self.first + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.first..self.first + self.len]
    }
}
