//! The cases of the benchmark, by group.

mod infer;
mod loss;
mod machine;
mod marginal;
mod math;
mod noise;
mod product;
mod train_step;

use super::clock::{Clock, Timing};
use super::limit::Limit;
use crate::failure::{Failure, Result};
use elbo::Compute;
use elbo::random::{Generator, Stream};
use elbo::simd::InstructionSet;
use ndarray::{Array2, ArrayViewMut2};

/// A case of the benchmark.
pub struct Case {
    pub group: &'static str,
    pub shape: String,
    /// Rows, if the case has any.
    pub batch: Option<usize>,
    pub threads: usize,
    /// Work of one call.
    pub work: Work,
    pub limit: Limit,
    /// Prepares the data, checks a result, and times calls.
    #[allow(clippy::type_complexity, reason = "the only use of this type")]
    pub run: Box<dyn FnOnce(&Compute, Clock) -> Result<Timing>>,
}

/// The amount of work in a call.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub amount: f64,
    /// Unit of 10⁹ per second.
    pub unit: &'static str,
    /// Bytes read and written, in a case that measures memory.
    pub bytes: Option<usize>,
}

impl Work {
    /// Floating-point operations: two for a multiply-add.
    fn flop(amount: usize) -> Self {
        Self { amount: amount as f64, unit: "GFLOP/s", bytes: None }
    }

    fn elements(amount: usize) -> Self {
        Self { amount: amount as f64, unit: "Gelement/s", bytes: None }
    }
}

impl Case {
    /// The name that --filter searches: group/shape/batch.
    pub fn name(&self) -> String {
        let mut name = format!("{}/{}", self.group, self.shape);
        if let Some(batch) = self.batch {
            name.push_str(&format!("/{batch}"));
        }
        name
    }
}

/// All cases in order; those that use several threads, both on one thread and on `threads`, and the training
/// step of the classic network on every power of two between them.
pub fn all(threads: usize) -> Vec<Case> {
    let both = if threads == 1 { vec![1] } else { vec![1, threads] };
    let mut cases = machine::cases(&both);
    cases.extend(train_step::cases(&both, &powers_of_two_to(threads)));
    cases.extend(loss::cases(&both));
    cases.extend(product::cases(&both));
    cases.extend(math::cases());
    cases.extend(noise::cases());
    cases.extend(infer::cases(&both));
    cases.extend(marginal::cases(&both));
    cases
}

/// 1, 2, 4, … below `threads`, and `threads`.
fn powers_of_two_to(threads: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |power| Some(2 * power));
    powers.take_while(|&power| power < threads).chain([threads]).collect()
}

/// Reproducible random numbers from 0 to 1, a function of position and salt.
fn uniform(rows: usize, columns: usize, salt: u64) -> Result<Array2<f32>> {
    let mut numbers = Array2::zeros((rows, columns));
    fill_uniform(numbers.view_mut(), salt)?;
    Ok(numbers)
}

fn fill_uniform(numbers: ArrayViewMut2<'_, f32>, salt: u64) -> Result<()> {
    let simd = InstructionSet::detect();
    Ok(Generator::new(salt).uniform(simd, numbers, Stream::Noise, 0, 0)?)
}

/// Reproducible random numbers from −1 to 1.
fn signed(rows: usize, columns: usize, salt: u64) -> Result<Array2<f32>> {
    Ok(uniform(rows, columns, salt)?.mapv_into(|u| 2.0 * u - 1.0))
}

/// Returns an error if a result is wrong, before it is timed.
fn check(right: bool, case: &str) -> Result<()> {
    if right {
        return Ok(());
    }
    Err(Failure::Run(format!(
        "{case}: wrong result on this machine; please report it with the processor's name"
    )))
}
