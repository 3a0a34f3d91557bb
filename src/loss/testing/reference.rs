//! Plain f64 twins of the losses: the formulas of the modules, an element at a time.

use crate::loss::kl::{NormalKl, Prior};
use crate::loss::total_correlation::TcWeights;
use ndarray::Array2;

/// `[logit, target]` → loss, `[dlogit]`.
pub(crate) fn bernoulli([l, t]: [f64; 2]) -> (f64, [f64; 1]) {
    let softplus = (-l.abs()).exp().ln_1p();
    // max(l,0) − l·t and σ(l) − t, arranged so that they do not cancel at a saturated logit.
    let wrong = if l > 0.0 { 1.0 - t } else { t };
    let linear = if wrong == 0.0 { 0.0 } else { l.abs() * wrong };
    let away = (-l.abs()).exp() / (1.0 + (-l.abs()).exp());
    let gradient = if l > 0.0 { wrong - away } else { away - wrong };
    (linear + softplus, [gradient])
}

/// `[probability, target]` → loss, `[dprobability]`.
pub(crate) fn bernoulli_probability([x, t]: [f64; 2]) -> (f64, [f64; 1]) {
    let (log_x, log_1_x) = (x.ln().max(-100.0), (-x).ln_1p().max(-100.0));
    (-(t * log_x + (1.0 - t) * log_1_x), [(x - t) / (x * (1.0 - x)).max(1e-12)])
}

/// `[prediction, target]` → loss, `[dprediction]`.
pub(crate) fn squared_error([x, t]: [f64; 2]) -> (f64, [f64; 1]) {
    ((x - t) * (x - t), [2.0 * (x - t)])
}

/// `[mu, logvar]` → divergence, `[dmu, dlogvar]`.
pub(crate) fn standard_normal_kl([mu, v]: [f64; 2]) -> (f64, [f64; 2]) {
    let spread = if v.abs() < 1e-2 {
        // expm1(v) − v cancels in f64 too: seven terms of its series reach 1e-18.
        let mut series = 0.0;
        for n in (2..9).rev() {
            series = 1.0 / f64::from(n) * (series * v + 1.0);
        }
        v * v * series
    } else {
        v.exp_m1() - v
    };
    (0.5 * (mu * mu + spread), [mu, 0.5 * v.exp_m1()])
}

/// `[mu, logvar]` and the prior's `[mean, 1/variance, ln variance]` → divergence, `[dmu, dlogvar]`.
pub(crate) fn normal_kl([mu, v]: [f64; 2], [mean, inverse, log]: [f64; 3]) -> (f64, [f64; 2]) {
    let (spread, [_, dv]) = standard_normal_kl([0.0, v - log]);
    (0.5 * (mu - mean) * (mu - mean) * inverse + spread, [(mu - mean) * inverse, dv])
}

/// `[z, logvar, epsilon]` → ln q(z|x) − ln p(z) for z = mu + sigma·epsilon, under N(0, 1).
pub(crate) fn log_ratio([z, v, epsilon]: [f64; 3]) -> (f64, [f64; 0]) {
    (0.5 * (z * z - v - epsilon * epsilon), [])
}

/// `[logit, target]` and the weight of the ones → loss, `[dlogit]`.
pub(crate) fn weighted_bernoulli([l, t]: [f64; 2], p: f64) -> (f64, [f64; 1]) {
    let (ones, [down]) = bernoulli([l, 1.0]);
    let (zeros, [up]) = bernoulli([l, 0.0]);
    (p * t * ones + (1.0 - t) * zeros, [p * t * down + (1.0 - t) * up])
}

/// `[mu, logvar]` → max(lambda, divergence from N(0, 1)), `[dmu, dlogvar]`.
pub(crate) fn element_free_bits(inputs: [f64; 2], lambda: f64) -> (f64, [f64; 2]) {
    let (kl, gradients) = standard_normal_kl(inputs);
    if kl <= lambda { (lambda, [0.0; 2]) } else { (kl, gradients) }
}

/// `[mean, logvar, target]` → loss, `[dmean, dlogvar]`.
pub(crate) fn gaussian([m, s, t]: [f64; 3]) -> (f64, [f64; 2]) {
    let scaled = (m - t) * (-s).exp();
    let square = (m - t) * scaled;
    (0.5 * (square + s + std::f64::consts::TAU.ln()), [scaled, 0.5 * (1.0 - square)])
}

/// `[output, target]` → squared error of its tanh, `[doutput]`.
pub(crate) fn tanh_squared_error([l, t]: [f64; 2]) -> (f64, [f64; 1]) {
    // 1 − tanh² without its cancellation.
    let slope = (1.0 / l.cosh()).powi(2);
    ((l.tanh() - t).powi(2), [2.0 * (l.tanh() - t) * slope])
}

/// `[logit, target]` → loss, `[dlogit]`. The gradient at target 0 is the mean.
pub(crate) fn continuous_bernoulli([l, t]: [f64; 2]) -> (f64, [f64; 1]) {
    let a = l.abs();
    let wrong = if l > 0.0 { 1.0 - t } else { t };
    // ln((1 − e^{−a})/a) and 1/a − 1/(e^a − 1); both cancel near 0.
    let (normalizer, mean) = if a < 0.05 {
        let square = a * a;
        (
            -a / 2.0 + square * (1.0 / 24.0 - square * (1.0 / 2880.0 - square / 181_440.0)),
            0.5 - a * (1.0 / 12.0 - square * (1.0 / 720.0 - square / 30240.0)),
        )
    } else {
        ((-(-a).exp_m1() / a).ln(), 1.0 / a - 1.0 / a.exp_m1())
    };
    let away = wrong - mean;
    (a * wrong + normalizer, [if l > 0.0 { away } else { -away }])
}

/// The result of [`total_correlation`].
pub(crate) struct TotalCorrelation {
    /// Mutual information, total correlation, dimension-wise KL.
    pub(crate) parts: [f64; 3],
    /// The mean of the magnitudes of the four logarithms' terms.
    pub(crate) magnitude: f64,
    /// By z, μ and v: the gradient, and the sum of the magnitudes of its terms.
    pub(crate) gradients: [(Array2<f64>, Array2<f64>); 3],
}

/// The three parts and the gradients of their weighted sum, pair by pair.
pub(crate) fn total_correlation(
    inputs: &[Array2<f32>; 3],
    weights: TcWeights,
    dataset_size: usize,
    prior: Prior,
) -> TotalCorrelation {
    let [z, mu, v] = inputs.each_ref().map(|array| array.mapv(f64::from));
    let (rows, latent) = z.dim();
    let (b, ln_2_pi) = (rows as f64, std::f64::consts::TAU.ln());
    let ln_weight = (dataset_size as f64 * b).ln();
    let NormalKl { mean, inverse_variance, log_variance } = NormalKl::new(prior);
    let [mean, inverse, log] = [mean, inverse_variance, log_variance].map(f64::from);
    let [alpha, beta, gamma] = [weights.alpha, weights.beta, weights.gamma].map(f64::from);
    let log_sum = |logs: &[f64]| {
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + logs.iter().map(|l| (l - largest).exp()).sum::<f64>().ln()
    };
    let (mut parts, mut magnitude) = ([0.0; 3], 0.0);
    let mut gradients = [(); 3].map(|()| (Array2::zeros(z.dim()), Array2::zeros(z.dim())));
    for i in 0..rows {
        let square = |j: usize, d: usize| (z[[i, d]] - mu[[j, d]]).powi(2) * (-v[[j, d]]).exp();
        let density = |j: usize, d: usize| -0.5 * (square(j, d) + v[[j, d]] + ln_2_pi);
        let column = |d: usize| (0..rows).map(|j| density(j, d)).collect::<Vec<f64>>();
        let joint: Vec<f64> = (0..rows).map(|j| (0..latent).map(|d| density(j, d)).sum()).collect();
        let aggregate = log_sum(&joint);
        let marginals: Vec<f64> = (0..latent).map(|d| log_sum(&column(d))).collect();
        let from_mean = |d: usize| z[[i, d]] - mean;
        let of_prior: f64 =
            (0..latent).map(|d| -0.5 * (from_mean(d).powi(2) * inverse + log + ln_2_pi)).sum();
        let product: f64 = marginals.iter().map(|m| m - ln_weight).sum();
        parts[0] += (joint[i] - (aggregate - ln_weight)) / b;
        parts[1] += (aggregate - ln_weight - product) / b;
        parts[2] += (product - of_prior) / b;
        magnitude += (aggregate.abs()
            + ln_weight
            + marginals.iter().map(|m| m.abs() + ln_weight).sum::<f64>()
            + (0..latent).map(|d| square(i, d) + v[[i, d]].abs() + 1.0).sum::<f64>()
            + of_prior.abs())
            / b;
        for d in 0..latent {
            // A difference may be much smaller than what it is the difference of.
            let mut add = |which: usize, row: usize, term: f64, size: f64| {
                gradients[which].0[[row, d]] += term;
                gradients[which].1[[row, d]] += size.abs();
            };
            let pull = gamma * from_mean(d) * inverse / b;
            add(0, i, pull, pull);
            for j in 0..rows {
                let u = (z[[i, d]] - mu[[j, d]]) * (-v[[j, d]]).exp();
                let own = if i == j { alpha } else { 0.0 };
                let joint = (beta - alpha) * (joint[j] - aggregate).exp();
                let marginal = (gamma - beta) * (density(j, d) - marginals[d]).exp();
                for c in [own / b, joint / b, marginal / b] {
                    add(0, i, -c * u, c * u);
                    add(1, j, c * u, c * u);
                    let stretch = square(j, d);
                    add(2, j, 0.5 * c * (stretch - 1.0), c * (stretch + 1.0));
                }
            }
        }
    }
    TotalCorrelation { parts, magnitude, gradients }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_has_the_published_values() {
        for (mu, sigma, kl) in
            [(0.0, 1.0, 0.0), (1.5, 1.0, 1.125), (0.0, 2.0, 0.80685), (0.0, 0.1, 1.80759)]
        {
            let found = standard_normal_kl([mu, 2.0 * f64::ln(sigma)]).0;
            assert!((found - kl).abs() < 5e-6, "KL({mu}, {sigma}) = {found}, not {kl}");
        }
    }

    #[test]
    fn kl_agrees_with_the_other_published_form() {
        for i in -400..=400 {
            for mu in [0.0, 0.3, -2.5] {
                let v = f64::from(i) / 50.0;
                let other = -0.5 * (1.0 + v - v.exp() - mu * mu);
                let found = standard_normal_kl([mu, v]).0;
                // The other form subtracts numbers of the size of its largest term.
                let size = 1.0 + v.abs() + v.exp() + mu * mu;
                assert!((found - other).abs() <= 2.0 * f64::EPSILON * size, "{mu} {v}");
            }
        }
    }

    #[test]
    fn loss_from_logits_agrees_with_probabilities() {
        for i in -60..=60 {
            for t in [0.0, 0.25, 1.0] {
                let l = f64::from(i) / 5.0;
                let x = 1.0 / (1.0 + (-l).exp());
                let (value, [dlogit]) = bernoulli([l, t]);
                let (other, [dx]) = bernoulli_probability([x, t]);
                assert!((value - other).abs() <= 1e-9 * value, "{l} {t}: {value} {other}");
                // dl = dx·σ'(l)
                assert!((dlogit - dx * x * (1.0 - x)).abs() <= 1e-10, "{l} {t}");
            }
        }
    }
}
