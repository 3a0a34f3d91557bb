//! Proof, before a step is taken, that no weight and no moment becomes NaN or ±∞ in it.
//!
//! # Method
//! 1. Bounds on |w|, |m| and |v| and on the gradient give bounds after the step: the formula of the
//!    optimizer with every term at its largest, in f64, and every result [`SLACK`] larger than f32
//!    rounds it.
//! 2. While they are below [`LIMIT`], no sum, difference or product of the step overflows. The only
//!    quotients have ε in the denominator, which is a normal number.
//! 3. Bounds only grow, by more than the weights do. Where they are too large, they are
//!    [measured](Bounds::measure) anew, and if that does not help the step is computed on copies
//!    first ([`UpdateRule::stays_finite`](super::UpdateRule::stays_finite)).
//!
//! So the usual step costs a dozen operations more, whatever the size of the model.

/// Upper bounds on the magnitudes of the weights and of both moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) w: f64,
    pub(crate) m: f64,
    pub(crate) v: f64,
}

/// Largest bound that counts as finite. The sum of two such numbers is still below the largest f32.
const LIMIT: f64 = 1e38;

/// Room for the roundings of one step, each of 2⁻²⁴ and no more than eight in a row.
const SLACK: f64 = 1.0 + 1e-6;

impl Bounds {
    /// The largest magnitudes of these buffers; not finite if an element is not.
    pub(crate) fn measure([w, m, v]: [&[f32]; 3]) -> Self {
        let largest = |values: &[f32]| f64::from(largest_magnitude(values));
        Self { w: largest(w), m: largest(m), v: largest(v) }
    }

    /// These bounds with room for rounding; `None` if one is beyond the limit.
    pub(super) fn rounded(self) -> Option<Self> {
        let Self { w, m, v } = self;
        // NaN, as from 0·∞, fails the comparison.
        let all = [w, m, v].map(|bound| bound * SLACK);
        let [w, m, v] = all;
        all.iter().all(|&bound| bound <= LIMIT).then_some(Self { w, m, v })
    }
}

/// The largest |x|; NaN if there is a NaN, 0 for an empty slice.
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // Without their sign, the bits of floats ascend with the numbers, and NaN is above ∞.
    let bits = values.iter().map(|value| value.to_bits() & (u32::MAX >> 1));
    f32::from_bits(bits.fold(0, u32::max))
}

#[cfg(test)]
mod tests {
    use super::super::{Adam, AdamW, Adamax, Optimizer, Sgd, UpdateRule};
    use super::*;
    use crate::compute::Compute;

    /// All rules, with usual and with extreme settings.
    fn rules() -> Vec<(String, UpdateRule)> {
        let mut rules = Vec::new();
        for learning_rate in [1e-3, 1.0, 1e20, 1e37, 3.3e38] {
            for epsilon in [1e-8, 1.2e-38, 1.0] {
                for [beta1, beta2] in [[0.9, 0.999], [0.0, 0.0], [0.999_999_999, 0.1]] {
                    let adam = Adam { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0 };
                    let mut optimizers = vec![Optimizer::Adam(adam)];
                    optimizers.push(Adam { weight_decay: 1e3, ..adam }.into());
                    let weight_decay = 0.5 / learning_rate;
                    optimizers
                        .push(AdamW { learning_rate, beta1, beta2, epsilon, weight_decay }.into());
                    let decays = [0.0, 1e38];
                    optimizers.extend(decays.map(|weight_decay| {
                        let adamax = Adamax { learning_rate, beta1, beta2, epsilon, weight_decay };
                        Optimizer::from(adamax)
                    }));
                    let momentum = beta1;
                    let nesterov = momentum > 0.0;
                    optimizers.extend(decays.map(|weight_decay| {
                        Optimizer::from(Sgd { learning_rate, momentum, nesterov, weight_decay })
                    }));
                    for optimizer in optimizers {
                        for t in [1, 1000] {
                            rules
                                .push((format!("{optimizer:?}, t={t}"), optimizer.at_step(t, 1.0)));
                        }
                    }
                }
            }
        }
        rules
    }

    #[test]
    fn bounded_steps_stay_within_their_bounds_and_others_are_tried() {
        let magnitudes = [0.0, 1e-38, 1e-19, 1.0, 1e10, 1.8e19, 1e30, 9e37, f32::MAX];
        let (mut proved, mut refused) = (0, 0);
        for (name, rule) in rules() {
            for w in magnitudes {
                for m in magnitudes {
                    for v in magnitudes {
                        // Gradients of either sign beside weights and moments of one sign.
                        let g = magnitudes.map(|g| [g, -g]);
                        for g in g.as_flattened().chunks(6) {
                            let n = g.len();
                            let mut new = [vec![w; n], vec![m; n], vec![v; n]];
                            let old = new.clone();
                            let [ow, om, ov] = old.each_ref().map(Vec::as_slice);
                            let compute = Compute::serial();
                            let finite = rule.stays_finite(&compute, [ow, om, ov], g);
                            rule.step_flat(&compute, new.each_mut().map(Vec::as_mut_slice), g);
                            let [nw, nm, nv] = new.each_ref().map(Vec::as_slice);
                            let after = Bounds::measure([nw, nm, nv]);
                            let is_finite =
                                [after.w, after.m, after.v].iter().all(|b| b.is_finite());
                            assert_eq!(finite, is_finite, "{name}: {w} {m} {v} {g:?}");
                            let bounds = Bounds::measure([ow, om, ov]);
                            let largest = f64::from(largest_magnitude(g));
                            if let Some(bound) = rule.bounds_after(bounds, largest) {
                                proved += 1;
                                let within = after.w <= bound.w && after.m <= bound.m;
                                assert!(within && after.v <= bound.v, "{name}: {w} {m} {v} {g:?}");
                            } else {
                                refused += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(proved > 10_000 && refused > 10_000, "{proved} {refused}");
    }

    #[test]
    fn measures_the_largest_magnitude() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[-3.0, 2.0, -0.0], 3.0),
            (&[f32::NEG_INFINITY, f32::MAX], f32::INFINITY),
        ] {
            assert_eq!(largest_magnitude(values), expected);
        }
        assert!(largest_magnitude(&[1.0, f32::NAN, f32::INFINITY]).is_nan());
    }
}
