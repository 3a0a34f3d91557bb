//! Line numbers for a parser that only counts bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};

/// A stream that records where its lines end until they have been counted.
///
/// The line numbers of the `csv` crate are off by one after `\r\n` and by more after empty lines; its byte
/// positions are right.
pub struct LineCounter<R> {
    stream: R,
    read: u64,
    ends: RefCell<LineEnds>,
}

#[derive(Default)]
struct LineEnds {
    /// Positions of the `\n` that have been read but not counted.
    pending: VecDeque<u64>,
    /// Number of `\n` before the last position asked for.
    counted: u64,
    /// Position of the last `\n` that was counted.
    last: Option<u64>,
}

impl<R> LineCounter<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, read: 0, ends: RefCell::default() }
    }

    /// Returns the line, from 1 on, of the last byte before position `end`, where a record ends with or
    /// without its line break. Positions must ascend from call to call.
    pub fn line(&self, end: u64) -> u64 {
        let mut ends = self.ends.borrow_mut();
        while let Some(&first) = ends.pending.front().filter(|&&first| first < end) {
            ends.pending.pop_front();
            ends.counted += 1;
            ends.last = Some(first);
        }
        // A line break belongs to the line that it ends.
        ends.counted + u64::from(ends.last.is_none_or(|last| last + 1 != end))
    }
}

impl<R: Read> Read for LineCounter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let breaks = buffer[..count].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.ends.get_mut().pending.extend(breaks.map(|(place, _)| self.read + place as u64));
        self.read += count as u64;
        Ok(count)
    }
}
