//! What a case cannot exceed, measured beside it.

use super::{memory, peak};
use elbo::simd::InstructionSet;

/// Where the limit of a case comes from.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// The rate of multiply-adds.
    Peak,
    /// The triad on arrays of so many elements, which moves what an element of the case moves.
    Triad { elements: usize },
    /// So many weights, read once for one row: two floating-point operations for each of them. Or
    /// the peak, where that is lower.
    Weights { count: usize },
    /// None that would tell anything.
    None,
}

/// A rate, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In 10⁹ of what the case counts, a second.
    pub giga: f64,
    pub unit: &'static str,
}

impl Limit {
    /// As it is at this moment.
    pub fn measure(self, simd: InstructionSet, threads: usize) -> Option<Rate> {
        let peak = || Rate { giga: giga(1.0, peak(simd, threads)), unit: "GFLOP/s (FMA peak)" };
        match self {
            Self::Peak => Some(peak()),
            Self::Triad { elements } => {
                let seconds = memory::triad(simd, threads, elements).best;
                Some(Rate { giga: giga(elements as f64, seconds), unit: "Gelement/s (triad)" })
            }
            Self::Weights { count } => {
                let seconds = memory::read(simd, threads, count).best;
                let giga = giga(2.0 * count as f64, seconds);
                Some(lower(Rate { giga, unit: "GFLOP/s (weights read)" }, peak()))
            }
            Self::None => None,
        }
    }
}

fn peak(simd: InstructionSet, threads: usize) -> f64 {
    peak::measure(simd, threads).best
}

/// 10⁹ of something a second.
pub fn giga(work: f64, seconds: f64) -> f64 {
    work / seconds / 1e9
}

fn lower(a: Rate, b: Rate) -> Rate {
    if b.giga < a.giga { b } else { a }
}

/// The best of two looks: clocks change.
pub fn higher(a: Option<Rate>, b: Option<Rate>) -> Option<Rate> {
    a.into_iter().chain(b).max_by(|a, b| a.giga.total_cmp(&b.giga))
}
