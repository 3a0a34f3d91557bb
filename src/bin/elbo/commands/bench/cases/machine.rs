//! The machine's limits, to which the other cases are compared.

use super::{Case, Work};
use crate::commands::bench::limit::Limit;
use crate::commands::bench::{memory, peak};

/// Rows of 784 in the arrays of the triad and in the loss.
pub const ROWS: [usize; 3] = [128, 1024, 16_384];

pub fn cases(threads: &[usize]) -> Vec<Case> {
    let peaks = threads.iter().map(|&threads| Case {
        group: "peak",
        shape: "multiply-add".to_owned(),
        batch: None,
        threads,
        work: Work::flop(1),
        limit: Limit::None,
        run: Box::new(move |compute, _| Ok(peak::measure(compute.simd(), threads))),
    });
    let triads = ROWS.iter().flat_map(|rows| threads.iter().map(move |&threads| (rows, threads)));
    let triads = triads.map(|(&rows, threads)| {
        let elements = 784 * rows;
        Case {
            group: "triad",
            shape: "784".to_owned(),
            batch: Some(rows),
            threads,
            work: Work { bytes: Some(memory::TRIAD_BYTES * elements), ..Work::elements(elements) },
            limit: Limit::None,
            run: Box::new(move |compute, _| Ok(memory::triad(compute.simd(), threads, elements))),
        }
    });
    peaks.chain(triads).collect()
}
