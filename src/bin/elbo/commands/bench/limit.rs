//! The limits of the cases: rates that the machine cannot exceed.

use super::{memory, peak};
use elbo::simd::InstructionSet;

/// The resource that limits a case.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// The rate of fused multiply-adds.
    Peak,
    /// The triad on arrays of this length, which moves as many bytes per element as the case.
    Triad { elements: usize },
    /// Reading the weights once for one row, two floating-point operations each; or the peak, if lower.
    Weights { count: usize },
    /// No informative limit.
    None,
}

/// A rate and its unit.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// 10⁹ per second.
    pub giga: f64,
    pub unit: &'static str,
}

impl Limit {
    /// Measures the limit now.
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

/// The rate of `work` in `seconds`, in 10⁹ per second.
pub fn giga(work: f64, seconds: f64) -> f64 {
    work / seconds / 1e9
}

fn lower(a: Rate, b: Rate) -> Rate {
    if b.giga < a.giga { b } else { a }
}

/// The higher of two measurements, as the processor's clock varies.
pub fn higher(a: Option<Rate>, b: Option<Rate>) -> Option<Rate> {
    a.into_iter().chain(b).max_by(|a, b| a.giga.total_cmp(&b.giga))
}
