//! Rates of a machine between two of its cores.

use crate::prediction::Processor;

/// Seconds per cache line by which a kernel takes longer when another core has touched its lines.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// A line there and back.
    pub round_trip: f64,
    /// Weights that another core has written, in a product of 1, 2, 4 and 8 tiles of rows; without and with
    /// the prefetch of the next panel.
    pub read_weights: [[f64; 2]; 4],
    /// Activations and their gradients that another core has written, in the weight gradient.
    pub read_rows: f64,
    /// The same, of which another core has a copy, overwritten by a product.
    pub write_rows: f64,
    /// The same of weights that another core has written past its caches.
    pub read_streamed: [[f64; 2]; 4],
    /// The update, prefetched for reading, for writing, and with weights written past the caches: weights of which
    /// another core has a copy, and weights and moments that another core has written.
    pub update: [[f64; 2]; 3],
}

impl Rates {
    /// Applies a function to every rate.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            round_trip: f(self.round_trip),
            read_weights: self.read_weights.map(|rates| rates.map(&f)),
            read_streamed: self.read_streamed.map(|rates| rates.map(&f)),
            read_rows: f(self.read_rows),
            write_rows: f(self.write_rows),
            update: self.update.map(|rates| rates.map(&f)),
        }
    }
}

/// Two processors of an AMD EPYC with Zen 4 cores (a virtual machine, AVX-512), by `--measure`: medians of 7
/// runs while its host had them near each other, and of 29 while they were on different chiplets.
pub const ZEN_4: Processor = Processor {
    near: Rates {
        round_trip: 63e-9,
        read_weights: [[0.0; 2]; 4],
        read_streamed: [
            [0.05e-9, 0.16e-9],
            [0.67e-9, 0.10e-9],
            [0.70e-9, 0.09e-9],
            [0.80e-9, 0.11e-9],
        ],
        read_rows: 0.13e-9,
        write_rows: 1.11e-9,
        update: [[0.88e-9, 0.0], [0.73e-9, 0.0], [0.0, 0.0]],
    },
    far: Rates {
        round_trip: 322e-9,
        read_weights: [
            [0.13e-9, 0.61e-9],
            [0.51e-9, 0.13e-9],
            [0.54e-9, 0.09e-9],
            [0.54e-9, 0.08e-9],
        ],
        read_streamed: [
            [0.16e-9, 0.17e-9],
            [0.70e-9, 0.10e-9],
            [0.70e-9, 0.09e-9],
            [0.70e-9, 0.10e-9],
        ],
        read_rows: 1.31e-9,
        write_rows: 9.99e-9,
        update: [[57.7e-9, 0.25e-9], [56.9e-9, 0.18e-9], [0.35e-9, 0.19e-9]],
    },
    step_1: 4.25e-3,
    // 420 MFLOP at 118.2 GFLOP/s.
    limit_1: 3.55e-3,
};
