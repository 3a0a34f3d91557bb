//! Training and evaluation with numbers at the ends of f32.
//!
//! Every objective under every likelihood with every optimizer, on data, weights and settings that
//! overflow, vanish or coincide. A step is either done, and then all weights, the state of the optimizer
//! and the loss are finite; or it is an error, and then the weights are those before it, bit for bit, and the
//! same trainer says the same again.

use elbo::loss::importance::Estimator;
use elbo::loss::{CapacityPer, FreeBitsPer};
use elbo::optim::{Adam, AdamW, Adamax, Clip, Optimizer, Sgd, Span};
use elbo::train::{Options, Trainer};
use elbo::vae::{
    Config, EvaluationOptions, Likelihood, Objective, Parameters, Penalty, Vae, Variance,
};
use elbo::{Compute, Error};
use ndarray::{Array1, Array2};

const FEATURES: usize = 5;
const LATENT: usize = 2;

fn objectives() -> Vec<Objective> {
    let free_bits = |per| Penalty::FreeBits { lambda: 0.1, per };
    let over = Span::Steps(3);
    let capacity = |per| Penalty::Capacity { gamma: 10.0, capacity: 2.0, over, per };
    [
        Penalty::Kl,
        free_bits(FreeBitsPer::Element),
        free_bits(FreeBitsPer::Dimension),
        free_bits(FreeBitsPer::Sample),
        capacity(CapacityPer::Batch),
        capacity(CapacityPer::Sample),
        Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 },
        Penalty::Importance { samples: 3, estimator: Estimator::Iwae },
        Penalty::Importance { samples: 3, estimator: Estimator::Dreg },
    ]
    .map(|penalty| Objective { penalty, ..Objective::default() })
    .into()
}

fn likelihoods() -> [Likelihood; 10] {
    [
        Likelihood::Bernoulli,
        Likelihood::WeightedBernoulli { pos_weight: 3.0 },
        Likelihood::BernoulliProbabilities,
        Likelihood::ContinuousBernoulli,
        Likelihood::SquaredError,
        Likelihood::TanhSquaredError,
        Likelihood::Gaussian(Variance::Fixed(0.5)),
        Likelihood::Gaussian(Variance::Shared),
        Likelihood::Gaussian(Variance::PerFeature),
        Likelihood::Gaussian(Variance::Optimal),
    ]
}

/// Options with each optimizer, and one that stores and clips the gradient.
fn optimizers() -> Vec<Options> {
    let optimizers: [Optimizer; 6] = [
        Adam::default().into(),
        Adam { beta1: 0.0, beta2: 0.0, weight_decay: 0.1, ..Adam::default() }.into(),
        AdamW::default().into(),
        Sgd::default().into(),
        Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1, ..Sgd::default() }.into(),
        Adamax::default().into(),
    ];
    let of = |optimizer| Options { batch: 8, optimizer, ..Options::default() };
    let clipped = Options { clip: Some(Clip::Norm(1.0)), ..of(optimizers[0]) };
    optimizers.into_iter().map(of).chain([clipped]).collect()
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Stress {
    /// Nothing: there must be no error.
    None,
    LearningRate(f64),
    WeightDecay(f64),
    /// A factor on the data, beyond the range of some likelihoods.
    Data(f32),
    /// Bias of the encoder's logvar.
    Logvar(f32),
    /// Bias of the hidden layers.
    HiddenBias(f32),
    /// Factor on the weights of the encoder's hidden layer.
    HiddenWeights(f32),
    /// All rows the same.
    ConstantColumns,
    OneRow,
    /// Zeros, reconstructed up to an error this large.
    Exact(f32),
}

fn stresses() -> Vec<Stress> {
    let mut all = vec![Stress::None, Stress::ConstantColumns, Stress::OneRow];
    all.extend([1e3, 1e20, 1e30, 1e37, 3e38].map(Stress::LearningRate));
    all.extend([1e20, 3e38].map(Stress::WeightDecay));
    all.extend([1e-30, 1e10, 1e19, 1e30].map(Stress::Data));
    all.extend([200.0, -200.0, 88.0, 86.9, -86.9, -88.0, -100.0].map(Stress::Logvar));
    all.extend([-100.0, 1e18, 1e38].map(Stress::HiddenBias));
    all.extend([1e10, 1e20, 1e38].map(Stress::HiddenWeights));
    all.extend([0.0, 1e-21, 1e-19].map(Stress::Exact));
    all
}

impl Stress {
    fn data(self) -> Array2<f32> {
        let rows = if matches!(self, Self::OneRow) { 1 } else { 24 };
        Array2::from_shape_fn((rows, FEATURES), |(r, c)| {
            let value = ((3 * r + 7 * c) % 9) as f32 / 8.0;
            match self {
                Self::Data(factor) => value * factor,
                Self::ConstantColumns => c as f32 / 8.0,
                Self::Exact(_) => 0.0,
                _ => value,
            }
        })
    }

    fn model(self, likelihood: Likelihood) -> Vae {
        let config = Config::builder(FEATURES, LATENT).hidden(&[4]).likelihood(likelihood);
        let mut vae = Vae::new(config.build().unwrap(), 1);
        let parameters = vae.parameters_mut();
        match self {
            Self::Logvar(value) => set(parameters, "logvar", 1.0, Some(value)),
            Self::HiddenBias(value) => {
                set(parameters, "encoder.0", 1.0, Some(value));
                set(parameters, "decoder.0", 1.0, Some(value));
            }
            Self::HiddenWeights(factor) => set(parameters, "encoder.0", factor, None),
            Self::Exact(value) => set(parameters, "decoder.1", 0.0, Some(value)),
            _ => {}
        }
        vae
    }

    fn options(self, options: &Options) -> Options {
        let optimizer = match self {
            Self::LearningRate(rate) => options.optimizer.with_learning_rate(rate),
            Self::WeightDecay(decay) => options.optimizer.with_weight_decay(decay),
            _ => options.optimizer,
        };
        Options { optimizer, ..options.clone() }
    }
}

/// Multiplies the weights of a layer and sets its bias.
fn set(parameters: &mut Parameters, name: &str, factor: f32, bias: Option<f32>) {
    let weight = parameters.weight(name).unwrap() * factor;
    let old = parameters.bias(name).unwrap();
    let bias = bias.map_or(old.clone(), |bias| Array1::from_elem(old.len(), bias));
    parameters.set(name, weight.view(), bias.view()).unwrap();
}

fn bits(vae: &Vae) -> Vec<u32> {
    vae.parameters().iter().map(|weight| weight.to_bits()).collect()
}

/// Trains for up to 7 steps and returns the error that ended them.
fn train(trainer: &mut Trainer, data: &Array2<f32>, context: &str) -> Option<Error> {
    for _ in 0..9 {
        let before = bits(trainer.vae());
        match trainer.step(data) {
            Ok(step) => {
                let finite = trainer.vae().parameters().iter().all(|weight| weight.is_finite());
                assert!(finite, "{context}: step {step:?} leaves weights that are not finite");
                if let Some(step) = step {
                    let terms = [step.loss, step.reconstruction, step.kl];
                    assert!(terms.iter().all(|term| term.is_finite()), "{context}: {step:?}");
                }
            }
            Err(error) => {
                assert_eq!(bits(trainer.vae()), before, "{context}: weights changed by {error}");
                let again = trainer.step(data).unwrap_err().to_string();
                assert_eq!(again, error.to_string(), "{context}");
                return Some(error);
            }
        }
    }
    None
}

/// The state of the optimizer is finite: a checkpoint that holds NaN or ±∞ cannot be resumed.
#[cfg(feature = "safetensors")]
fn check_state(trainer: &Trainer, context: &str) {
    let path = std::env::temp_dir().join(format!("elbo-stress-{}", std::process::id()));
    trainer.save_checkpoint(&path).unwrap();
    let resumed = Trainer::resume(&path, Compute::serial());
    std::fs::remove_file(&path).unwrap();
    if let Err(error) = resumed {
        panic!("{context}: {error}");
    }
}

#[cfg(not(feature = "safetensors"))]
fn check_state(_: &Trainer, _: &str) {}

/// Every evaluation is an error or finite.
fn evaluate(vae: &Vae, data: &Array2<f32>, objective: Objective, context: &str) {
    let compute = Compute::serial();
    let options = EvaluationOptions { objective, ..EvaluationOptions::default() };
    if let Ok(found) = vae.evaluate(&compute, data, &options) {
        let numbers = [found.loss, found.reconstruction, found.kl];
        let all = numbers.iter().chain(&found.kl_per_dimension).chain(&found.mu_variance);
        assert!(all.clone().all(|number| number.is_finite()), "{context}: {found:?}");
    }
    if let Ok(found) = vae.decompose(&compute, data, &options) {
        let sum = found.mutual_information + found.total_correlation + found.dimension_wise_kl;
        assert!(sum.is_finite(), "{context}: {found:?}");
    }
    if let Ok(found) = vae.score(&compute, data) {
        assert!(found.negative_elbo().all(|score| !score.is_nan()), "{context}: {found:?}");
    }
    if let Ok(found) = vae.marginal_log_likelihood(&compute, data, 3, &options) {
        let finite = found.of_rows.iter().all(|value| value.is_finite());
        assert!(finite && found.log_likelihood.is_finite(), "{context}: {found:?}");
    }
}

#[test]
fn steps_are_finite_or_errors_that_change_nothing() {
    let (mut done, mut refused) = (0, 0);
    for stress in stresses() {
        let data = stress.data();
        for likelihood in likelihoods() {
            for objective in objectives() {
                for options in optimizers() {
                    let options = Options { objective, ..stress.options(&options) };
                    let context = format!("{stress:?}, {likelihood:?}, {options:?}");
                    let vae = stress.model(likelihood);
                    let Ok(mut trainer) = Trainer::new(vae, options, Compute::serial()) else {
                        // Importance weighting under the optimal variance, AdamW with lr·wd > 1.
                        continue;
                    };
                    let error = train(&mut trainer, &data, &context);
                    if let (Stress::None, Some(error)) = (stress, &error) {
                        panic!("{context}: {error}");
                    }
                    let text = error.as_ref().map(Error::to_string).unwrap_or_default();
                    let of_data = text.contains("is outside [") || text.is_empty();
                    assert!(of_data || text.contains("were not changed"), "{context}: {text}");
                    if error.is_some() {
                        refused += 1
                    } else {
                        done += 1
                    }
                    // The state does not depend on the likelihood: one objective of each is enough.
                    if trainer.steps() > 0 && matches!(objective.penalty, Penalty::Kl) {
                        check_state(&trainer, &context);
                    }
                    if matches!(trainer.options().optimizer, Optimizer::Sgd(_)) {
                        evaluate(trainer.vae(), &data, objective, &context);
                    }
                }
            }
        }
    }
    assert!(done > 5_000 && refused > 1_000, "{done} done, {refused} refused");
}

#[test]
fn rejects_rates_that_are_infinite_in_f32() {
    let vae = || Stress::None.model(Likelihood::Bernoulli);
    for Options { optimizer, .. } in optimizers() {
        for (optimizer, setting) in [
            (optimizer.with_learning_rate(1e39), "learning_rate"),
            (optimizer.with_learning_rate(0.0).with_weight_decay(1e39), "weight_decay"),
        ] {
            let options = Options { optimizer, ..Options::default() };
            let error = Trainer::new(vae(), options, Compute::serial()).err().unwrap();
            let expected = format!("`{setting}`: expected a number of at most 3.4e38, found 1");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn learning_rate_whose_correction_overflows_is_an_error_of_the_step() {
    // lr/(1 − β₁) = 3.5e38 in the first step: −∞·0 is NaN for every weight without a gradient.
    let optimizer = Adam { learning_rate: 3.5e37, ..Adam::default() }.into();
    let options = Options { optimizer, ..Options::default() };
    let vae = Stress::None.model(Likelihood::Bernoulli);
    let before = bits(&vae);
    let mut trainer = Trainer::new(vae, options, Compute::serial()).unwrap();
    let error = trainer.step(&Stress::None.data()).unwrap_err();
    let expected = "the update of the weights is not finite at step 1; the weights were not changed; \
                    try a smaller learning rate";
    assert_eq!(error.to_string(), expected);
    assert_eq!(bits(trainer.vae()), before);
}

#[test]
fn two_rows_repeated_many_times_stay_finite() {
    let compute = Compute::serial();
    let data = Array2::from_shape_fn((100_000, 2), |(r, c)| ((r + c) % 2) as f32);
    for likelihood in [Likelihood::Bernoulli, Likelihood::Gaussian(Variance::PerFeature)] {
        let config = Config::builder(2, 1).hidden(&[4]).likelihood(likelihood).build().unwrap();
        let options = Options { batch: 10_000, ..Options::default() };
        let mut trainer = Trainer::new(Vae::new(config, 1), options, compute.clone()).unwrap();
        let epoch = trainer.epoch(&data, |_| ()).unwrap();
        assert!(epoch.loss.is_finite() && epoch.rows == 100_000);
        let found = trainer.vae().evaluate(&compute, &data, &EvaluationOptions::default()).unwrap();
        assert!(found.loss.is_finite() && found.rows == 100_000);
        let few = data.slice(ndarray::s![..2_000, ..]);
        let parts = trainer.vae().decompose(&compute, &few, &EvaluationOptions::default()).unwrap();
        assert!(parts.mutual_information.is_finite(), "{parts:?}");
    }
}
