//! Random configurations.

use elbo::loss::importance::Estimator;
use elbo::loss::{CapacityPer, FreeBitsPer, Prior, Reduction};
use elbo::optim::{Adam, AdamW, Adamax, Clip, Decay, LearningRateSchedule, Optimizer, Sgd, Span};
use elbo::train::Options;
use elbo::vae::{Annealing, Config, Likelihood, Objective, Penalty, Variance};
use elbo::{Augmentation, Dataset};
use ndarray::{Array2, s};

/// Numbers from a seed (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.between(1, n) == 1
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)].clone()
    }

    /// Widths of up to `depth` hidden layers.
    fn widths(&mut self, [narrow, wide]: [usize; 2], depth: usize) -> Vec<usize> {
        (0..self.between(0, depth)).map(|_| self.between(narrow, wide)).collect()
    }
}

pub const ACTIVATIONS: [&str; 9] =
    ["relu", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "softplus", "tanh", "sigmoid"];

fn likelihood(draw: &mut Draw) -> Likelihood {
    draw.of(&[
        Likelihood::Bernoulli,
        Likelihood::WeightedBernoulli { pos_weight: 2.5 },
        Likelihood::BernoulliProbabilities,
        Likelihood::ContinuousBernoulli,
        Likelihood::SquaredError,
        Likelihood::TanhSquaredError,
        Likelihood::Gaussian(Variance::Fixed(0.3)),
        Likelihood::Gaussian(Variance::Shared),
        Likelihood::Gaussian(Variance::PerFeature),
        Likelihood::Gaussian(Variance::Optimal),
    ])
}

fn objective(draw: &mut Draw) -> Objective {
    let span = draw.of(&[Span::Steps(7), Span::Epochs(2)]);
    let penalty = match draw.between(0, 9) {
        0..=2 => Penalty::Kl,
        3 => Penalty::FreeBits { lambda: 0.05, per: FreeBitsPer::Element },
        4 => Penalty::FreeBits { lambda: 0.05, per: FreeBitsPer::Dimension },
        5 => Penalty::FreeBits { lambda: 0.1, per: FreeBitsPer::Sample },
        6 => Penalty::Capacity { gamma: 3.0, capacity: 4.0, over: span, per: CapacityPer::Batch },
        7 => Penalty::Capacity { gamma: 3.0, capacity: 4.0, over: span, per: CapacityPer::Sample },
        8 => Penalty::TotalCorrelation { alpha: 0.7, gamma: 1.3 },
        _ => Penalty::Importance {
            samples: draw.between(1, 4),
            estimator: draw.of(&[Estimator::Iwae, Estimator::Dreg]),
        },
    };
    let (beta, annealing) = match penalty {
        Penalty::Capacity { .. } | Penalty::Importance { .. } => (1.0, Annealing::Constant),
        _ => {
            let annealing = draw.of(&[
                Annealing::Constant,
                Annealing::Linear { from: 0.2, over: span },
                Annealing::Cosine { from: 0.1, over: span },
                Annealing::Cyclical { cycles: 2, ratio: 0.5, over: span },
            ]);
            (draw.of(&[1.0, 0.5, 4.0]), annealing)
        }
    };
    let reductions: &[Reduction] = match penalty {
        Penalty::Kl | Penalty::FreeBits { per: FreeBitsPer::Element, .. } => {
            &[Reduction::BatchMean, Reduction::Sum, Reduction::Mean]
        }
        _ => &[Reduction::BatchMean, Reduction::Sum],
    };
    Objective { beta, reduction: draw.of(reductions), annealing, penalty }
}

/// A model, its training options, and data for it.
pub struct Case {
    pub config: Config,
    pub options: Options,
    pub x: Array2<f32>,
    pub conditions: Array2<f32>,
    pub seed: u64,
}

impl Case {
    /// A case with widths from `widths[0]` to `widths[1]` and up to `depth` hidden layers on each side; `None` if
    /// the drawn options do not go together.
    pub fn draw(seed: u64, widths: [usize; 2], depth: usize, rows: [usize; 2]) -> Option<Self> {
        let mut draw = Draw(seed);
        let draw = &mut draw;
        let features = draw.between(widths[0], widths[1]);
        let latent = draw.between(1, 5);
        let (encoder, decoder) = (draw.widths(widths, depth), draw.widths(widths, depth));
        let hidden = !encoder.is_empty() || !decoder.is_empty();
        // Two units normalized are ±1, whatever they were: a gradient of nothing but rounding.
        let normalizable = hidden && encoder.iter().chain(&decoder).all(|&width| width >= 4);
        let conditions = if draw.one_in(3) { draw.between(1, 20) } else { 0 };
        let likelihood = likelihood(draw);
        let mut builder = Config::builder(features, latent)
            .encoder(&encoder)
            .decoder(&decoder)
            .conditions(conditions)
            .activation(draw.of(&ACTIVATIONS).parse().expect("a name"))
            .layer_norm(normalizable && draw.one_in(2))
            .dropout(if hidden && draw.one_in(3) { 0.3 } else { 0.0 })
            .likelihood(likelihood);
        if draw.one_in(3) {
            builder = builder.prior(Prior { mean: 0.4, std: 1.7 });
        }
        if draw.one_in(3) {
            builder = builder.logvar_clamp(-4.0, 2.0);
        }
        let config = builder.build().expect("every part is in its domain");

        let rate = 0.01;
        let optimizer: Optimizer = draw.of(&[
            Adam { learning_rate: rate, ..Adam::default() }.into(),
            Adam { learning_rate: rate, weight_decay: 0.01, ..Adam::default() }.into(),
            AdamW { learning_rate: rate, ..AdamW::default() }.into(),
            Sgd { learning_rate: rate / 10.0, momentum: 0.9, nesterov: true, ..Sgd::default() }
                .into(),
            Adamax { learning_rate: rate, ..Adamax::default() }.into(),
        ]);
        let schedule = LearningRateSchedule {
            warm_up: draw.of(&[0, 3]),
            decay: draw.of(&[
                Decay::Constant,
                Decay::Step { epochs: 1, factor: 0.5 },
                Decay::Cosine { over: Span::Steps(9), floor: 0.1 },
                Decay::Plateau { patience: 0, factor: 0.5 },
            ]),
        };
        let augmentation = match likelihood {
            Likelihood::Bernoulli if draw.one_in(2) => Augmentation::Binarize,
            Likelihood::ContinuousBernoulli if draw.one_in(2) => {
                Augmentation::Dequantize { levels: 256 }
            }
            _ => Augmentation::None,
        };
        let rows = draw.between(rows[0], rows[1]);
        let options = Options {
            batch: draw.between(2, rows),
            objective: objective(draw),
            optimizer,
            seed: seed ^ 5,
            accumulate: draw.of(&[1, 1, 2]),
            shards: 1,
            clip: draw.of(&[None, None, Some(Clip::Norm(0.5)), Some(Clip::Value(0.01))]),
            schedule,
            augmentation,
        };
        let signed = matches!(
            likelihood,
            Likelihood::TanhSquaredError | Likelihood::SquaredError | Likelihood::Gaussian(_)
        );
        let x = Array2::from_shape_fn((rows, features), |_| {
            let gray = (255.0 * draw.unit()).round() / 255.0;
            if signed { 2.0 * gray - 1.0 } else { gray }
        });
        let conditions = Array2::from_shape_fn((rows, conditions), |_| draw.unit() - 0.3);
        options.validate_for(&config).ok()?;
        Some(Self { config, options, x, conditions, seed })
    }

    /// Noise for the first `rows` rows.
    pub fn noise(&self, rows: usize) -> Array2<f32> {
        let mut draw = Draw(self.seed ^ 77);
        let samples = self.options.objective.samples();
        Array2::from_shape_fn((rows * samples, self.config.latent()), |_| {
            // Near enough to a normal number.
            (0..4).map(|_| draw.unit()).sum::<f32>() * 1.7 - 3.4
        })
    }

    /// The first `rows` rows, as a data set.
    pub fn data(&self, rows: usize) -> Rows {
        Rows {
            x: self.x.slice(s![..rows, ..]).to_owned(),
            conditions: self.conditions.slice(s![..rows, ..]).to_owned(),
        }
    }
}

/// Rows with their conditions.
pub struct Rows {
    pub x: Array2<f32>,
    pub conditions: Array2<f32>,
}

impl Dataset for Rows {
    fn row_count(&self) -> usize {
        self.x.nrows()
    }

    fn features(&self) -> usize {
        self.x.ncols()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(self.x.row(row).as_slice().expect("standard layout"));
    }

    fn conditions(&self) -> usize {
        self.conditions.ncols()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(self.conditions.row(row).as_slice().expect("standard layout"));
    }
}
