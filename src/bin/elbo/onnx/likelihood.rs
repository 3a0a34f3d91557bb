//! The mean of each likelihood, as nodes.

use super::graph::Graph;
use crate::failure::{Failure, Result};
use elbo::vae::Likelihood;

/// Adds the mean of the likelihood, given the output of the last layer.
pub fn mean(graph: &mut Graph, likelihood: Likelihood, output: String) -> Result<String> {
    Ok(match likelihood {
        Likelihood::Bernoulli
        | Likelihood::WeightedBernoulli { .. }
        | Likelihood::BernoulliProbabilities => graph.node("Sigmoid", &[&output]),
        Likelihood::ContinuousBernoulli => continuous_bernoulli(graph, &output),
        Likelihood::TanhSquaredError => graph.node("Tanh", &[&output]),
        Likelihood::SquaredError | Likelihood::Gaussian(_) => output,
        other => {
            return Err(Failure::Run(format!(
                "the mean of the {} likelihood cannot be exported to ONNX",
                other.name()
            )));
        }
    })
}

/// Below this |l| the mean comes from the series, above it from the formula, which cancels near 0.
const SERIES_BELOW: f32 = 2.0;

/// Coefficients of p in `1/a − 1/(eᵃ − 1) = ½ − a·p(a²)`: B₂ₙ/(2n)!, with the Bernoulli numbers B₂ₙ. The
/// series converges for |a| < 2π; for |a| < 2 the first omitted term is at most 1e-8.
const SERIES: [f32; 7] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -5.284_19e-10,
    1.338_254e-11,
];

/// Adds the mean `1/(1 − e^{−l}) − 1/l`. With a = |l| and r = 1/a − e^{−a}/(1 − e^{−a}) it is r for l < 0 and
/// 1 − r for l > 0.
fn continuous_bernoulli(graph: &mut Graph, l: &str) -> String {
    let [zero, half, one] = [0.0, 0.5, 1.0].map(|value| graph.number(value));
    let a = graph.node("Abs", &[l]);

    let square = graph.node("Mul", &[&a, &a]);
    let mut sum = graph.number(SERIES[SERIES.len() - 1]);
    for &coefficient in SERIES[..SERIES.len() - 1].iter().rev() {
        let product = graph.node("Mul", &[&sum, &square]);
        let coefficient = graph.number(coefficient);
        sum = graph.node("Add", &[&product, &coefficient]);
    }
    let odd = graph.node("Mul", &[&sum, &a]);
    let near = graph.node("Sub", &[&half, &odd]);

    let minus = graph.node("Neg", &[&a]);
    let e = graph.node("Exp", &[&minus]);
    let rest = graph.node("Sub", &[&one, &e]);
    let odds = graph.node("Div", &[&e, &rest]);
    let inverse = graph.node("Reciprocal", &[&a]);
    let far = graph.node("Sub", &[&inverse, &odds]);

    let limit = graph.number(SERIES_BELOW);
    let is_near = graph.node("Less", &[&a, &limit]);
    // `Where` also discards the formula's NaN at l = 0, where it is ∞ − ∞.
    let below = graph.node("Where", &[&is_near, &near, &far]);
    let above = graph.node("Sub", &[&one, &below]);
    let is_above = graph.node("Less", &[&zero, l]);
    graph.node("Where", &[&is_above, &above, &below])
}
