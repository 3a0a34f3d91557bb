//! The mean of each likelihood as nodes.

use super::graph::Graph;
use crate::failure::{Failure, Result};
use elbo::vae::Likelihood;

/// What the model shows for an output of its last layer.
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
                "the likelihood {}: its mean cannot be exported",
                other.name()
            )));
        }
    })
}

/// From here on the formula loses no digits; below it a series.
const SERIES_BELOW: f32 = 2.0;

/// `1/a − 1/(eᵃ − 1) = ½ − a·p(a²)` for |a| < 2: the coefficients B₂ₙ/(2n)! of the Bernoulli numbers. The
/// series converges within 2π, the first term left out is 1e-8.
const SERIES: [f32; 7] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -5.284_19e-10,
    1.338_254e-11,
];

/// `1/(1 − e^{−l}) − 1/l`, by a = |l|: r = 1/a − e^{−a}/(1 − e^{−a}) for l < 0, 1 − r for l > 0.
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
    // Where the formula is ∞ − ∞ the series is taken.
    let below = graph.node("Where", &[&is_near, &near, &far]);
    let above = graph.node("Sub", &[&one, &below]);
    let is_above = graph.node("Less", &[&zero, l]);
    graph.node("Where", &[&is_above, &above, &below])
}
