//! Elementary functions of numbers in the cache, on one thread.

use super::{Case, Work, check, signed};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::failure::Result;
use elbo::Compute;
use elbo::math;
use elbo::simd::InstructionSet;
use std::hint::black_box;

const ELEMENTS: usize = 4096;

#[derive(Clone, Copy)]
struct MathFunction {
    name: &'static str,
    /// True if the function is defined for negative numbers.
    signed: bool,
    over: fn(InstructionSet, &mut [f32], &[f32]) -> elbo::Result<()>,
    max_ulp: f64,
    exact: fn(f64) -> f64,
}

fn functions() -> [MathFunction; 7] {
    use math::*;
    let function =
        |name, over, max_ulp, exact| MathFunction { name, signed: true, over, max_ulp, exact };
    [
        function("exp", exp, EXP_MAX_ULP, f64::exp),
        function("expm1", expm1, EXPM1_MAX_ULP, f64::exp_m1),
        MathFunction { signed: false, ..function("log", log, LOG_MAX_ULP, f64::ln) },
        MathFunction { signed: false, ..function("log1p", log1p, LOG1P_MAX_ULP, f64::ln_1p) },
        function("sigmoid", sigmoid, SIGMOID_MAX_ULP, |x| 1.0 / (1.0 + (-x).exp())),
        function("softplus", softplus, SOFTPLUS_MAX_ULP, |x| x.exp().ln_1p()),
        function("tanh", tanh, TANH_MAX_ULP, f64::tanh),
    ]
}

pub fn cases() -> Vec<Case> {
    functions()
        .map(|function| Case {
            group: "math",
            shape: format!("{} {ELEMENTS}", function.name),
            batch: None,
            threads: 1,
            work: Work::elements(ELEMENTS),
            limit: Limit::None,
            run: Box::new(move |compute, clock| function.time(compute, clock)),
        })
        .into()
}

impl MathFunction {
    fn time(self, compute: &Compute, clock: Clock) -> Result<Timing> {
        let Self { signed: below_zero, over, max_ulp, exact, .. } = self;
        let number = |x: &f32| if below_zero { 8.0 * x } else { 8.0 * x.abs() + 1e-3 };
        let x: Vec<f32> = signed(1, ELEMENTS, 1)?.iter().map(number).collect();
        let mut out = vec![f32::NAN; ELEMENTS];
        over(compute.simd(), &mut out, &x)?;
        let right = out.iter().zip(&x).all(|(&found, &x)| {
            let exact = exact(f64::from(x));
            // The ULP at the lower end of a binade, where it is largest relative to the number.
            let ulp = f64::from(f32::EPSILON) * exact.abs();
            (f64::from(found) - exact).abs() <= max_ulp * ulp
        });
        check(right, self.name)?;
        clock.time(|| Ok(over(compute.simd(), black_box(&mut out), black_box(&x))?))
    }
}
