//! Which cores have a copy of which cache line, and what crosses between them.

use std::ops::Range;

/// Cores at most: copies of a line are the bits of a number.
pub const MOST_THREADS: usize = u128::BITS as usize;

/// Threads, one on each core, spread over chiplets: neighbors share one.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub threads: usize,
    pub chiplets: usize,
}

impl Machine {
    pub fn chiplet(self, thread: usize) -> usize {
        thread * self.chiplets / self.threads
    }

    pub fn are_near(self, one: usize, other: usize) -> bool {
        self.chiplet(one) == self.chiplet(other)
    }
}

/// What an access needs of other cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// The line comes from the core that wrote it last.
    In { near: bool },
    /// The core has the line, and others give up their copies before it is written.
    Upgrade { near: bool },
    /// The line comes from memory, to which a core has written it past its caches.
    FromMemory,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Read,
    Write,
    /// A write past the caches.
    Stream,
}

#[derive(Clone, Copy, Default)]
struct Line {
    /// Who wrote it last.
    writer: Option<u8>,
    /// Who has a copy.
    copies: u128,
    /// Written past the caches.
    in_memory: bool,
}

/// Caches that are never full: a line stays with a core until another one writes it.
pub struct Caches {
    machine: Machine,
    lines: Vec<Line>,
}

impl Caches {
    pub fn new(machine: Machine, lines: usize) -> Self {
        Self { machine, lines: vec![Line::default(); lines] }
    }

    /// Reads or writes lines, and reports each that crosses.
    pub fn touch(
        &mut self,
        thread: usize,
        lines: Range<usize>,
        kind: Kind,
        mut report: impl FnMut(Crossing),
    ) {
        let machine = self.machine;
        for line in &mut self.lines[lines] {
            let (mine, others) = (1 << thread, line.copies & !(1 << thread));
            if line.copies & mine == 0 {
                if line.in_memory {
                    report(Crossing::FromMemory);
                } else if let Some(writer) = line.writer {
                    report(Crossing::In { near: machine.are_near(thread, writer.into()) });
                }
            } else if kind != Kind::Read && others != 0 {
                // The farthest copy is that of the first or of the last thread.
                let (first, last) = (others.trailing_zeros(), others.ilog2());
                let near = [first, last].iter().all(|&t| machine.are_near(thread, t as usize));
                report(Crossing::Upgrade { near });
            }
            line.copies |= mine;
            match kind {
                Kind::Read => {}
                Kind::Write => {
                    *line = Line { writer: Some(thread as u8), copies: mine, in_memory: false };
                }
                Kind::Stream => *line = Line { writer: None, copies: 0, in_memory: true },
            }
        }
    }
}
