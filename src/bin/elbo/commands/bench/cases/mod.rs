//! What is measured, by groups.

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

/// Something to measure on a number of threads.
pub struct Case {
    pub group: &'static str,
    pub shape: String,
    /// Rows, where there are some.
    pub batch: Option<usize>,
    pub threads: usize,
    /// Of one call.
    pub work: Work,
    pub limit: Limit,
    /// Prepares the data, checks a result, and times calls.
    #[allow(clippy::type_complexity, reason = "a function, once")]
    pub run: Box<dyn FnOnce(&Compute, Clock) -> Result<Timing>>,
}

/// How much a call does, and how a billion of that a second is called.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub amount: f64,
    pub unit: &'static str,
    /// Moved to and from memory, where that is what is measured.
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
    /// What --filter looks in.
    pub fn name(&self) -> String {
        let mut name = format!("{}/{}", self.group, self.shape);
        if let Some(batch) = self.batch {
            name.push_str(&format!("/{batch}"));
        }
        name
    }
}

/// All cases in the order in which they are measured; those that can be divided on one thread and
/// on `threads`.
pub fn all(threads: usize) -> Vec<Case> {
    let both = if threads == 1 { vec![1] } else { vec![1, threads] };
    let mut cases = machine::cases(&both);
    cases.extend(train_step::cases(&both));
    cases.extend(loss::cases(&both));
    cases.extend(product::cases(&both));
    cases.extend(math::cases());
    cases.extend(noise::cases());
    cases.extend(infer::cases(&both));
    cases.extend(marginal::cases(&both));
    cases
}

/// Numbers from 0 to 1 that use all their digits, a function of place and salt.
fn uniform(rows: usize, columns: usize, salt: u64) -> Result<Array2<f32>> {
    let mut numbers = Array2::zeros((rows, columns));
    fill_uniform(numbers.view_mut(), salt)?;
    Ok(numbers)
}

fn fill_uniform(numbers: ArrayViewMut2<'_, f32>, salt: u64) -> Result<()> {
    let simd = InstructionSet::detect();
    Ok(Generator::new(salt).uniform(simd, numbers, Stream::Noise, 0, 0)?)
}

/// Numbers from −1 to 1.
fn signed(rows: usize, columns: usize, salt: u64) -> Result<Array2<f32>> {
    Ok(uniform(rows, columns, salt)?.mapv_into(|u| 2.0 * u - 1.0))
}

/// That a result is right: what is wrong should not be timed.
fn check(right: bool, case: &str) -> Result<()> {
    if right {
        return Ok(());
    }
    Err(Failure::Run(format!(
        "{case}: the result is wrong; please report this with the machine's name"
    )))
}
