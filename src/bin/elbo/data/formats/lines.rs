//! Counting lines beneath a parser that only counts bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};

/// A stream that remembers where its lines end, for as long as nobody has asked.
///
/// The line numbers of the crate `csv` are off by one after `\r\n` and by more after empty lines; the
/// bytes it counts are right.
pub struct Lines<R> {
    stream: R,
    read: u64,
    counted: RefCell<Counted>,
}

#[derive(Default)]
struct Counted {
    /// Where the `\n` are that were read and not counted yet.
    ends: VecDeque<u64>,
    /// Those before the last place that was asked for, and where the last of them is.
    before: u64,
    last: Option<u64>,
}

impl<R> Lines<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, read: 0, counted: RefCell::default() }
    }

    /// The line, from 1 on, of the last character before byte `end`, where a record ends, with its line
    /// break or before it. Places are asked for in ascending order.
    pub fn line(&self, end: u64) -> u64 {
        let mut counted = self.counted.borrow_mut();
        while let Some(&first) = counted.ends.front().filter(|&&first| first < end) {
            counted.ends.pop_front();
            counted.before += 1;
            counted.last = Some(first);
        }
        // A line break belongs to the line that it ends.
        counted.before + u64::from(counted.last.is_none_or(|last| last + 1 != end))
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let ends = &mut self.counted.get_mut().ends;
        for (place, _) in buffer[..count].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            ends.push_back(self.read + place as u64);
        }
        self.read += count as u64;
        Ok(count)
    }
}
