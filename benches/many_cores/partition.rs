//! The network's buffers in cache lines, and who touches them in which phase of a step: the rules of
//! `src/vae/step/partition.rs` and `src/compute/mod.rs`, which are private, once more.

use crate::caches::MOST_THREADS;
use elbo::gemm::PanelLayout;
use std::ops::Range;

pub const BATCH: usize = 128;
pub const FEATURES: usize = 784;
pub const HIDDEN: usize = 400;
pub const LATENT: usize = 20;
/// The layers of 784-400-20. The second one gives μ|logvar.
const LAYERS: [[usize; 2]; 4] =
    [[FEATURES, HIDDEN], [HIDDEN, 2 * LATENT], [LATENT, HIDDEN], [HIDDEN, FEATURES]];
const OUTPUT: usize = LAYERS.len() - 1;

/// Floats of a cache line.
const LINE: usize = 16;
/// Width of a panel.
const PANEL: usize = 48;
/// Inputs of a piece of the weight gradient; half as many in layers with fewer than two pieces.
const PIECE: usize = 96;
/// Rows of a block at most.
const BLOCK_ROWS: usize = 64;
/// Rows of a register tile.
pub const TILE_ROWS: usize = 8;
/// Threads that share a block at most, and what part of its work they do not share.
const CREW: usize = 4;
const UNSHARED: f64 = 0.2;
/// Multiply-adds for each thread that shares a product.
const SHARE: usize = 1 << 16;
/// Rows whose products take as long as the update.
const UPDATE_ROWS: usize = 12;
/// Chunks of outputs over which the input gradient of the output layer would be summed, in the partition by
/// outputs.
const CHUNKS: usize = 4;

/// How a step is divided among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Commit f240361: pieces halved by count, and with more than two threads blocks and pieces go to whatever
    /// thread is free.
    Stolen,
    /// Commit 83cfd44: neighboring blocks and pieces for each thread, the same in every step.
    Fixed,
    /// As built: the same, but the update writes the weights past the caches to memory, and threads share a block
    /// where there are too few.
    Present,
    /// Not built: the first and the last layer by outputs, whose weights stay where they are updated.
    ByOutputs,
}

/// What a thread does with cache lines, for the time that they take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Access {
    /// Weights of a product, for so many tiles of rows.
    Weights { tiles: usize, prefetched: bool },
    /// Activations or their gradients, read.
    Rows,
    /// The same, written.
    WriteRows,
    /// Weights and moments, updated.
    Update { how: Update },
}

/// How the update prefetches and writes the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// Prefetched for reading.
    Read,
    /// Prefetched for writing.
    Write,
    /// Written past the caches.
    Streamed,
}

/// Lines that a thread touches.
pub struct Touch {
    pub thread: usize,
    pub lines: Range<usize>,
    pub access: Access,
}

/// What happens between two synchronizations.
#[derive(Default)]
pub struct Phase {
    pub touches: Vec<Touch>,
    /// Multiply-adds of each thread, or what takes as long.
    pub work: Vec<f64>,
    /// Neighboring threads that start on it together.
    pub forks: Vec<Range<usize>>,
}

/// A layer and its buffers: offsets of lines.
struct Layer {
    inputs: usize,
    outputs: usize,
    panels: Vec<Panel>,
    weights: usize,
    /// Its input and the gradient of its output, a row of the batch after the other.
    x: Rows,
    dy: Rows,
}

#[derive(Clone, Copy)]
struct Panel {
    start: usize,
    width: usize,
}

#[derive(Clone, Copy)]
struct Rows {
    offset: usize,
    /// Lines of a row.
    row: usize,
}

impl Rows {
    fn columns(self, row: usize, columns: Range<usize>) -> Range<usize> {
        let at = self.offset + row * self.row;
        at + columns.start / LINE..at + columns.end.div_ceil(LINE).min(self.row)
    }

    fn whole(self, rows: Range<usize>) -> Range<usize> {
        self.offset + rows.start * self.row..self.offset + rows.end * self.row
    }
}

/// What the threads of a block do with its rows.
type Stage<'a> = dyn Fn(&mut Phase, Range<usize>, &[usize; 2]) + 'a;

/// Some rows of a panel, of which row 0 is the bias.
#[derive(Clone)]
struct Piece {
    layer: usize,
    panel: Panel,
    rows: Range<usize>,
}

pub struct Network {
    layers: Vec<Layer>,
    pieces: Vec<Piece>,
    /// Those of commit 83cfd44 and before.
    old_pieces: Vec<Piece>,
    /// Lines of the weights, and of each moment.
    pub weight_lines: usize,
    /// Partial sums of the input gradient, in the partition by outputs.
    partial: Rows,
    pub lines: usize,
}

impl Network {
    pub fn new() -> Self {
        let mut layers = Vec::new();
        let mut weights = 0;
        for [inputs, outputs] in LAYERS {
            let layout = PanelLayout { inputs, outputs };
            let panels = panels(layout);
            let rows = Rows { offset: 0, row: 0 };
            layers.push(Layer { inputs, outputs, panels, weights, x: rows, dy: rows });
            weights += layout.len() / LINE;
        }
        // Behind the weights lie two moments, then the rows.
        let mut lines = 3 * weights;
        let mut rows = |columns: usize| {
            let rows = Rows { offset: lines, row: columns.div_ceil(LINE) };
            lines += BATCH * rows.row;
            rows
        };
        for layer in &mut layers {
            (layer.x, layer.dy) = (rows(layer.inputs), rows(layer.outputs));
        }
        let partial = rows(CHUNKS * HIDDEN);
        let pieces =
            cut_into_pieces(&layers, |inputs| if inputs < 2 * PIECE { PIECE / 2 } else { PIECE });
        let old_pieces = cut_into_pieces(&layers, |_| PIECE);
        Self { layers, pieces, old_pieces, weight_lines: weights, partial, lines }
    }

    /// Number of lines of weights that the pieces cover; each once, or this panics.
    pub fn covered(&self) -> usize {
        let mut covered = vec![false; self.weight_lines];
        for line in self.pieces.iter().flat_map(|piece| self.lines_of(piece)) {
            assert!(!std::mem::replace(&mut covered[line], true), "line {line} is in two pieces");
        }
        covered.into_iter().filter(|&c| c).count()
    }

    /// Multiply-adds of a step, or what takes as long.
    pub fn work(&self) -> f64 {
        let step = self.step(Partition::Fixed, 1, 0);
        step.iter().flat_map(|phase| &phase.work).sum()
    }

    /// The phases of a step. `number` tells one step from another, where threads do not do the same each time.
    pub fn step(&self, partition: Partition, threads: usize, number: usize) -> Vec<Phase> {
        match partition {
            Partition::ByOutputs if threads > 1 => self.by_outputs(threads),
            Partition::Present if threads > 1 => {
                let size = block_rows(threads);
                let order = shuffled(threads, 0);
                let mut phases = if BATCH.div_ceil(size) < threads {
                    self.shared_phases(threads, size)
                } else {
                    vec![self.rows_phase(threads, size, &order, true)]
                };
                phases.push(self.pieces_phase(threads, &order, Update::Streamed));
                phases
            }
            _ => {
                let is_old = partition == Partition::Stolen;
                let how = if is_old { Update::Read } else { Update::Write };
                let shuffle =
                    |phase| shuffled(threads, if is_old { 2 * number + phase } else { 0 });
                vec![
                    self.rows_phase(threads, old_block_rows(threads), &shuffle(0), !is_old),
                    self.pieces_phase(threads, &shuffle(1), how),
                ]
            }
        }
    }

    /// Region 1: blocks of rows through the whole network.
    fn rows_phase(
        &self,
        threads: usize,
        size: usize,
        order: &[usize],
        can_prefetch: bool,
    ) -> Phase {
        let mut phase = Phase::new(threads);
        let blocks = BATCH.div_ceil(size);
        for (seat, blocks) in cut(&vec![1; blocks], threads) {
            for block in blocks {
                let rows = block * size..BATCH.min((block + 1) * size);
                let mut worker = Worker { phase: &mut phase, thread: order[seat] };
                worker.touch(self.layers[0].x.whole(rows.clone()), Access::WriteRows);
                for layer in &self.layers {
                    let access = layer.forward_access(rows.len(), can_prefetch);
                    worker.touch(self.weights(layer), access);
                    worker.work(rows.len() * layer.inputs * layer.outputs);
                }
                for (l, layer) in self.layers.iter().enumerate() {
                    // The outputs of a layer are the inputs of the next one.
                    if l > 0 {
                        worker.touch(layer.x.whole(rows.clone()), Access::WriteRows);
                        worker.work(rows.len() * layer.inputs * layer.outputs);
                    }
                    worker.touch(layer.dy.whole(rows.clone()), Access::WriteRows);
                }
            }
        }
        phase
    }

    /// Region 1 where there are fewer blocks than threads: the neighbors that share a block cut the outputs of its
    /// large products and the inputs of its large input gradients in two; the first of them does the rest.
    fn shared_phases(&self, threads: usize, size: usize) -> Vec<Phase> {
        let blocks = cut_seats(&vec![1; BATCH.div_ceil(size)], 0..threads, threads);
        let crews: Vec<_> = blocks.iter().map(|(seats, _)| seats.clone()).collect();
        let step: usize = self.layers.iter().enumerate().map(|(l, layer)| layer.products(l)).sum();
        let large = self.layers.iter().enumerate();
        let large = large.filter(|(_, layer)| layer.is_shared(size));
        let large: usize = large.map(|(l, layer)| layer.products(l)).sum();
        // Multiply-adds of the large products take the time of the shared part of the work.
        let scale = (1.0 - UNSHARED) * step as f64 / large as f64;

        let mut phases = Vec::new();
        let mut phase = |forks: &[Range<usize>], run: &Stage<'_>| {
            let mut phase = Phase { forks: forks.to_vec(), ..Phase::new(threads) };
            for (seats, blocks) in &blocks {
                for block in blocks.clone() {
                    let rows = [block * size, BATCH.min((block + 1) * size)];
                    run(&mut phase, seats.clone(), &rows);
                }
            }
            phases.push(phase);
        };
        phase(std::slice::from_ref(&(0..threads)), &|phase, seats, &[start, end]| {
            let mut worker = Worker { phase, thread: seats.start };
            worker.touch(self.layers[0].x.whole(start..end), Access::WriteRows);
            // Also of a block that one thread has: its time is then that of the same stages.
            worker.phase.work[seats.start] += UNSHARED * ((end - start) * step) as f64;
        });
        for (l, layer) in self.layers.iter().enumerate() {
            let y = self.layers.get(l + 1).map_or(layer.dy, |next| next.x);
            if !layer.is_shared(size) {
                phase(&[], &|phase, seats, &[start, end]| {
                    let mut worker = Worker { phase, thread: seats.start };
                    worker.touch(layer.x.whole(start..end), Access::Rows);
                    worker.touch(self.weights(layer), layer.forward_access(end - start, true));
                    worker.touch(y.whole(start..end), Access::WriteRows);
                });
                continue;
            }
            phase(&crews, &|phase, seats, &[start, end]| {
                for (thread, panels) in layer.share_outputs(seats, end - start) {
                    let mut worker = Worker { phase, thread };
                    worker.touch(layer.x.whole(start..end), Access::Rows);
                    let (first, last) = (layer.panels[panels.start], layer.panels[panels.end - 1]);
                    let columns = first.start..last.start + last.width;
                    let line = |output| layer.weights + (layer.inputs + 1) * output / LINE;
                    let access = layer.forward_access(end - start, true);
                    worker.touch(line(columns.start)..line(columns.end), access);
                    let outputs = columns.end.min(layer.outputs) - columns.start;
                    for row in start..end {
                        worker.touch(y.columns(row, columns.clone()), Access::WriteRows);
                    }
                    let work = ((end - start) * layer.inputs * outputs) as f64;
                    worker.phase.work[thread] += scale * work;
                }
            });
        }
        // The loss, then the input gradients.
        for (l, layer) in self.layers.iter().enumerate().rev() {
            phase(&[], &|phase, seats, &[start, end]| {
                let mut worker = Worker { phase, thread: seats.start };
                worker.touch(layer.dy.whole(start..end), Access::Rows);
                worker.touch(layer.dy.whole(start..end), Access::WriteRows);
            });
            if l == 0 || !layer.is_shared(size) {
                continue;
            }
            phase(&crews, &|phase, seats, &[start, end]| {
                for (thread, inputs) in layer.share_inputs(seats, end - start) {
                    let mut worker = Worker { phase, thread };
                    worker.touch(layer.dy.whole(start..end), Access::Rows);
                    for &panel in &layer.panels {
                        let rows = inputs.start + 1..inputs.end + 1;
                        let lines = self.lines_of(&Piece { layer: l, panel, rows });
                        worker.touch(lines, layer.forward_access(end - start, false));
                    }
                    for row in start..end {
                        worker.touch(layer.x.columns(row, inputs.clone()), Access::WriteRows);
                    }
                    let work = ((end - start) * inputs.len() * layer.outputs) as f64;
                    worker.phase.work[thread] += scale * work;
                }
            });
        }
        phases
    }

    /// Region 2: pieces of the weight gradient, and the update.
    fn pieces_phase(&self, threads: usize, order: &[usize], how: Update) -> Phase {
        let mut phase = Phase::new(threads);
        let pieces = if how == Update::Streamed { &self.pieces } else { &self.old_pieces };
        let weights: Vec<_> = pieces.iter().map(Piece::work).collect();
        let shares = if how == Update::Read {
            cut(&vec![1; weights.len()], threads)
        } else {
            cut(&weights, threads)
        };
        for (seat, share) in shares {
            let mut worker = Worker { phase: &mut phase, thread: order[seat] };
            pieces[share].iter().for_each(|piece| self.update(&mut worker, piece, how));
        }
        phase
    }

    fn update(&self, worker: &mut Worker<'_>, piece: &Piece, how: Update) {
        let layer = &self.layers[piece.layer];
        let Panel { start, width } = piece.panel;
        for row in 0..BATCH {
            let inputs = piece.rows.start.saturating_sub(1)..piece.rows.end - 1;
            worker.touch(layer.x.columns(row, inputs), Access::Rows);
            worker.touch(layer.dy.columns(row, start..start + width), Access::Rows);
        }
        for moment in 0..3 {
            let Range { start, end } = self.lines_of(piece);
            let first = moment * self.weight_lines;
            // Moments belong to one thread: they stay in its caches.
            let how = if moment > 0 && how == Update::Streamed { Update::Write } else { how };
            worker.touch(first + start..first + end, Access::Update { how });
        }
        worker.work(piece.work());
    }

    /// The first and the last layer by outputs, the small ones by rows.
    fn by_outputs(&self, threads: usize) -> Vec<Phase> {
        let tiles = BATCH / TILE_ROWS;
        let rows_of = |tile: usize| tile * TILE_ROWS..(tile + 1) * TILE_ROWS;
        let first = &self.layers[0];
        let last = &self.layers[OUTPUT];

        // 1. Gather.
        let mut gather = Phase::new(threads);
        for (thread, tiles) in cut(&vec![1; tiles], threads) {
            let mut worker = Worker { phase: &mut gather, thread };
            let rows = tiles.start * TILE_ROWS..tiles.end * TILE_ROWS;
            worker.touch(first.x.whole(rows), Access::WriteRows);
        }
        // 2. The first layer: outputs, then rows.
        let forward = |layer: &Layer, y: Rows| {
            let mut phase = Phase::new(threads);
            let tasks: Vec<_> = (0..layer.panels.len())
                .flat_map(|panel| (0..tiles).map(move |tile| (panel, tile)))
                .collect();
            let weights: Vec<_> = tasks.iter().map(|task| layer.panels[task.0].width).collect();
            for (thread, range) in cut(&weights, threads) {
                let mut worker = Worker { phase: &mut phase, thread };
                let height = range.len().min(tiles);
                for &(panel, tile) in &tasks[range] {
                    let Panel { start, width } = layer.panels[panel];
                    let at = layer.weights + (layer.inputs + 1) * start / LINE;
                    let lines = (layer.inputs + 1) * width / LINE;
                    let access = layer.forward_access(height * TILE_ROWS, true);
                    worker.touch(at..at + lines, access);
                    for row in rows_of(tile) {
                        worker.touch(layer.x.whole(row..row + 1), Access::Rows);
                        worker.touch(y.columns(row, start..start + width), Access::WriteRows);
                    }
                    worker.work(TILE_ROWS * layer.inputs * width.min(layer.outputs - start));
                }
            }
            phase
        };
        let one = forward(first, self.layers[1].x);
        // 3. The small layers forward.
        let small = |backward: bool| {
            let mut phase = Phase::new(threads);
            for (thread, tiles) in cut(&vec![1; tiles], threads) {
                let mut worker = Worker { phase: &mut phase, thread };
                let rows = tiles.start * TILE_ROWS..tiles.end * TILE_ROWS;
                if backward {
                    // The partial sums, and the gradients of the layers below.
                    worker.touch(self.partial.whole(rows.clone()), Access::Rows);
                    for layer in &self.layers[..OUTPUT] {
                        worker.touch(layer.dy.whole(rows.clone()), Access::WriteRows);
                    }
                } else {
                    worker.touch(self.layers[1].x.whole(rows.clone()), Access::Rows);
                    for layer in &self.layers[2..] {
                        worker.touch(layer.x.whole(rows.clone()), Access::WriteRows);
                    }
                }
                for layer in &self.layers[1..OUTPUT] {
                    worker.touch(self.weights(layer), layer.forward_access(rows.len(), true));
                    worker.work(rows.len() * layer.inputs * layer.outputs);
                }
            }
            phase
        };
        // 5. The input gradient of the last layer: chunks of outputs, some inputs of each, then rows, in the
        // order in which the pieces are updated.
        let pieces = self.chunked();
        let mut partial = Phase::new(threads);
        let tasks: Vec<_> = pieces
            .chunk_by(|a, b| a.0 == b.0 && a.1.rows == b.1.rows)
            .flat_map(|cell| (0..tiles).map(move |tile| (cell, tile)))
            .collect();
        let cell_work = |cell: &[(usize, Piece)]| -> usize {
            cell.iter().map(|(_, piece)| TILE_ROWS * piece.rows.len() * piece.panel.width).sum()
        };
        let weights: Vec<_> = tasks.iter().map(|task| cell_work(task.0)).collect();
        for (thread, range) in cut(&weights, threads) {
            let mut worker = Worker { phase: &mut partial, thread };
            let height = range.len().min(tiles) * TILE_ROWS;
            for &(cell, tile) in &tasks[range] {
                for (_, piece) in cell {
                    worker.touch(self.lines_of(piece), last.forward_access(height, true));
                    let Panel { start, width } = piece.panel;
                    for row in rows_of(tile) {
                        worker.touch(last.dy.columns(row, start..start + width), Access::Rows);
                    }
                }
                let (chunk, Piece { rows: inputs, .. }) = &cell[0];
                let at = chunk * HIDDEN;
                for row in rows_of(tile) {
                    let columns = at + inputs.start.saturating_sub(1)..at + inputs.end - 1;
                    worker.touch(self.partial.columns(row, columns), Access::WriteRows);
                }
                worker.work(cell_work(cell));
            }
        }
        // 7. The weight gradients, the pieces of each layer among all threads.
        let mut update = Phase::new(threads);
        for layer in 0..self.layers.len() {
            let pieces: Vec<_> = if layer == OUTPUT {
                pieces.iter().map(|(_, piece)| piece.clone()).collect()
            } else {
                self.pieces.iter().filter(|piece| piece.layer == layer).cloned().collect()
            };
            let weights: Vec<_> = pieces.iter().map(Piece::work).collect();
            for (thread, range) in cut(&weights, threads) {
                let mut worker = Worker { phase: &mut update, thread };
                pieces[range]
                    .iter()
                    .for_each(|piece| self.update(&mut worker, piece, Update::Write));
            }
        }
        vec![gather, one, small(false), forward(last, last.dy), partial, small(true), update]
    }

    /// The pieces of the last layer with their chunk: by chunk, then by inputs, then by panel.
    fn chunked(&self) -> Vec<(usize, Piece)> {
        let pieces = self.pieces.iter().filter(|piece| piece.layer == OUTPUT);
        let size = self.layers[OUTPUT].panels.len().div_ceil(CHUNKS) * PANEL;
        let mut pieces: Vec<_> =
            pieces.map(|piece| (piece.panel.start / size, piece.clone())).collect();
        pieces.sort_by_key(|(chunk, piece)| (*chunk, piece.rows.start));
        pieces
    }

    fn weights(&self, layer: &Layer) -> Range<usize> {
        let len = PanelLayout { inputs: layer.inputs, outputs: layer.outputs }.len();
        layer.weights..layer.weights + len / LINE
    }

    /// Lines of the weights of a piece.
    fn lines_of(&self, piece: &Piece) -> Range<usize> {
        let layer = &self.layers[piece.layer];
        let Panel { start, width } = piece.panel;
        let at = layer.weights + (layer.inputs + 1) * start / LINE;
        at + piece.rows.start * width / LINE..at + piece.rows.end * width / LINE
    }
}

/// The pieces of the layers, each of so many inputs of a panel.
fn cut_into_pieces(layers: &[Layer], length: impl Fn(usize) -> usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (l, layer) in layers.iter().enumerate() {
        let length = length(layer.inputs);
        for &panel in &layer.panels {
            pieces.extend((0..layer.inputs).step_by(length).map(|first| {
                let start = if first == 0 { 0 } else { first + 1 };
                let rows = start..layer.inputs.min(first + length) + 1;
                Piece { layer: l, panel, rows }
            }));
        }
    }
    pieces
}

impl Layer {
    /// Multiply-adds of a row in region 1, if this is layer `l`.
    fn products(&self, l: usize) -> usize {
        let directions = if l > 0 { 2 } else { 1 };
        directions * self.inputs * self.outputs
    }

    /// Whether threads share its product of so many rows.
    fn is_shared(&self, rows: usize) -> bool {
        rows * self.inputs * self.outputs >= 2 * SHARE
    }

    /// Panels of each thread that shares the product.
    fn share_outputs(&self, seats: Range<usize>, rows: usize) -> Vec<(usize, Range<usize>)> {
        let mut shares = Vec::new();
        self.halve_outputs(0..self.panels.len(), seats, rows, &mut shares);
        shares
    }

    fn halve_outputs(
        &self,
        panels: Range<usize>,
        seats: Range<usize>,
        rows: usize,
        shares: &mut Vec<(usize, Range<usize>)>,
    ) {
        let start = self.panels[panels.start].start;
        let end = self.panels.get(panels.end).map_or(self.outputs, |panel| panel.start);
        let wide = self.panels[panels.clone()].iter().filter(|p| p.width == PANEL).count();
        let most = if wide == panels.len() { wide.saturating_sub(1) } else { wide };
        let is_small = rows * self.inputs * (end - start) < 2 * SHARE;
        if seats.len() == 1 || is_small || most == 0 {
            return shares.push((seats.start, panels));
        }
        let left = seats.len().div_ceil(2);
        let share = ((end - start) * left).div_ceil(seats.len());
        let middle = panels.start + ((share + PANEL / 2) / PANEL).clamp(1, most);
        let seat = seats.start + left;
        self.halve_outputs(panels.start..middle, seats.start..seat, rows, shares);
        self.halve_outputs(middle..panels.end, seat..seats.end, rows, shares);
    }

    /// Inputs of each thread that shares the input gradient.
    fn share_inputs(&self, seats: Range<usize>, rows: usize) -> Vec<(usize, Range<usize>)> {
        let mut shares = Vec::new();
        self.halve_inputs(0..self.inputs, seats, rows.next_multiple_of(LINE), &mut shares);
        shares
    }

    fn halve_inputs(
        &self,
        inputs: Range<usize>,
        seats: Range<usize>,
        lanes: usize,
        shares: &mut Vec<(usize, Range<usize>)>,
    ) {
        let is_small = lanes * inputs.len() * self.outputs < 2 * SHARE;
        if seats.len() == 1 || is_small {
            return shares.push((seats.start, inputs));
        }
        let left = seats.len().div_ceil(2);
        let share = (inputs.len() * left).div_ceil(seats.len()).next_multiple_of(LINE);
        let middle = inputs.end.min(inputs.start + share);
        let seat = seats.start + left;
        self.halve_inputs(inputs.start..middle, seats.start..seat, lanes, shares);
        self.halve_inputs(middle..inputs.end, seat..seats.end, lanes, shares);
    }

    /// Access to the weights by a product of some rows, with the rule by which it prefetches.
    fn forward_access(&self, rows: usize, can_prefetch: bool) -> Access {
        const PAUSE_STEPS: usize = 4;
        let tiles = rows.div_ceil(TILE_ROWS);
        let pauses = tiles * (self.inputs / PAUSE_STEPS);
        let lines = (self.inputs + 1) * PANEL / LINE;
        Access::Weights { tiles, prefetched: can_prefetch && lines.div_ceil(pauses.max(1)) <= 3 }
    }
}

impl Piece {
    fn work(&self) -> usize {
        self.rows.len() * self.panel.width * (BATCH + UPDATE_ROWS)
    }
}

impl Phase {
    fn new(threads: usize) -> Self {
        assert!(threads <= MOST_THREADS);
        let forks = std::iter::once(0..threads).collect();
        Self { touches: Vec::new(), work: vec![0.0; threads], forks }
    }
}

/// A thread in a phase.
struct Worker<'a> {
    phase: &'a mut Phase,
    thread: usize,
}

impl Worker<'_> {
    fn touch(&mut self, lines: Range<usize>, access: Access) {
        self.phase.touches.push(Touch { thread: self.thread, lines, access });
    }

    fn work(&mut self, multiply_adds: usize) {
        self.phase.work[self.thread] += multiply_adds as f64;
    }
}

/// Panels of 48 outputs; the last 64 are two of 32.
fn panels(layout: PanelLayout) -> Vec<Panel> {
    let mut panels = Vec::new();
    let (mut start, end) = (0, layout.outputs.next_multiple_of(LINE));
    while start < end {
        let width = match end - start {
            64 | 32 => 32,
            16 => 16,
            _ => PANEL,
        };
        // The layout of the crate says where a panel begins.
        assert_eq!(layout.bias_index(start), (layout.inputs + 1) * start, "{layout:?}");
        assert_eq!(layout.weight_index(start, 0), (layout.inputs + 1) * start + width);
        panels.push(Panel { start, width });
        start += width;
    }
    panels
}

/// Rows of a block.
pub fn block_rows(threads: usize) -> usize {
    let time = |share: usize| {
        let blocks = BATCH.div_ceil(share);
        let crew = smallest_crew(threads, blocks).min(CREW);
        blocks.div_ceil(threads) * share * (4 + crew) / crew
    };
    let shares = (1..=BLOCK_ROWS / TILE_ROWS).rev().map(|tiles| tiles * TILE_ROWS);
    shares.min_by_key(|&share| time(share)).expect("a block has at least a tile")
}

/// Threads of the block that gets the fewest.
fn smallest_crew(threads: usize, blocks: usize) -> usize {
    if threads == 1 || blocks == 1 {
        return threads;
    }
    let left = threads.div_ceil(2);
    let left_blocks = (blocks * left).div_ceil(threads).clamp(1, blocks - 1);
    smallest_crew(left, left_blocks).min(smallest_crew(threads - left, blocks - left_blocks))
}

/// The same at commit 83cfd44 and before.
fn old_block_rows(threads: usize) -> usize {
    BATCH.div_ceil(threads).next_multiple_of(TILE_ROWS).clamp(TILE_ROWS, BLOCK_ROWS)
}

/// Neighboring items for each thread, each of which has a processor.
fn cut(weights: &[usize], threads: usize) -> Vec<(usize, Range<usize>)> {
    cut_among(weights, threads, threads)
}

/// Neighboring items for threads, cut in two by weight until each processor has its own: the numbers of the threads
/// that work, and their items.
pub fn cut_among(
    weights: &[usize],
    threads: usize,
    processors: usize,
) -> Vec<(usize, Range<usize>)> {
    let shares = cut_seats(weights, 0..threads, processors);
    shares.into_iter().map(|(seats, items)| (seats.start, items)).collect()
}

/// The same, with all threads that are at hand for the items.
fn cut_seats(
    weights: &[usize],
    seats: Range<usize>,
    processors: usize,
) -> Vec<(Range<usize>, Range<usize>)> {
    fn halve(
        weights: &[usize],
        items: Range<usize>,
        seats: Range<usize>,
        processors: usize,
        shares: &mut Vec<(Range<usize>, Range<usize>)>,
    ) {
        if processors == 1 || items.len() <= 1 {
            shares.push((seats, items));
            return;
        }
        let left = processors.div_ceil(2);
        let work: usize = weights[items.clone()].iter().sum();
        let share = (work * left).div_ceil(processors);
        let mut sum = 0;
        let taken = weights[items.clone()].iter().take_while(|&&weight| {
            let before = sum;
            sum += weight;
            before + sum <= 2 * share
        });
        let middle = items.start + taken.count().clamp(1, items.len() - 1);
        let seat = seats.start + seats.len().div_ceil(2);
        halve(weights, items.start..middle, seats.start..seat, left, shares);
        halve(weights, middle..items.end, seat..seats.end, processors - left, shares);
    }
    let mut shares = Vec::new();
    halve(weights, 0..weights.len(), seats, processors, &mut shares);
    shares
}

/// The threads in the order in which they get their shares: with two of them always the same, with more by
/// chance if `number` is not 0.
fn shuffled(threads: usize, number: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..threads).collect();
    if threads > 2 && number > 0 {
        let mut state = number as u32;
        for i in (1..threads).rev() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            order.swap(i, (state >> 16) as usize % (i + 1));
        }
    }
    order
}
