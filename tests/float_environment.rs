//! A caller's thread that flushes subnormal numbers or rounds otherwise gets the bits of any other thread,
//! and keeps its environment.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use ::elbo::layers::{activation, layer_norm};
use ::elbo::loss::{
    Bernoulli, Gaussian, Kl, LossTerm, Prior, ReconstructionInputs, Reduction, elbo,
};
use ::elbo::optim::{Adam, adam};
use ::elbo::simd::InstructionSet;
use ::elbo::train::{Options, Trainer};
use ::elbo::vae::{Config, EvaluationOptions, Likelihood, Objective, Penalty, Vae, Variance};
use ::elbo::{Compute, gemm, math};
use ndarray::Array2;
use std::hint::black_box;

/// The control register of the floating-point unit.
#[cfg(target_arch = "x86_64")]
mod control {
    /// Subnormal results and arguments count as 0.
    pub const FLUSH: u64 = 1 << 15 | 1 << 6;
    pub const TOWARD_ZERO: u64 = 0b11 << 13;

    pub fn read() -> u64 {
        let mut control = 0_u32;
        // SAFETY: stores 32 bits to a variable of that size.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control) };
        // Without the flags of exceptions that have occurred.
        u64::from(control & !0x3f)
    }

    pub fn write(control: u64) {
        let control = control as u32;
        // SAFETY: the bits are those of a value that was read, and defined ones.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control) };
    }
}
#[cfg(target_arch = "aarch64")]
mod control {
    /// Subnormal results and arguments count as 0.
    pub const FLUSH: u64 = 1 << 24;
    pub const TOWARD_ZERO: u64 = 0b11 << 22;

    pub fn read() -> u64 {
        let control: u64;
        // SAFETY: user code may read the register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) control) };
        control
    }

    pub fn write(control: u64) {
        // SAFETY: the bits are those of a value that was read, and defined ones.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) control) };
    }
}

/// Runs `work` on a thread of its own whose control register has these bits set besides, and checks that it
/// has them still afterwards.
fn under<R: Send>(bits: u64, work: impl Fn() -> R + Send + Sync) -> R {
    std::thread::scope(|scope| {
        let run = || {
            let before = control::read();
            control::write(before | bits);
            let result = work();
            let after = control::read();
            control::write(before);
            assert_eq!(after, before | bits, "the caller's environment has changed");
            result
        };
        scope.spawn(run).join().unwrap()
    })
}

/// The check of the check: multiplication as this thread has it.
#[test]
fn flags_change_ordinary_arithmetic() {
    let half_of_least = || black_box(black_box(f32::MIN_POSITIVE) * 0.5);
    assert!(under(0, half_of_least) > 0.0);
    assert_eq!(under(control::FLUSH, half_of_least), 0.0);
    let third = || black_box(black_box(2.0_f32) / black_box(3.0));
    assert!(under(control::TOWARD_ZERO, third) < under(0, third));
}

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u64> {
    values.into_iter().map(|value| u64::from(value.to_bits())).collect()
}

fn array(rows: usize, columns: usize, salt: usize, scale: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        (((i * 31 + j * 17 * salt + salt) % 97) as f32 / 48.0 - 1.0) * scale
    })
}

/// Numbers that both functions take, made in the default environment.
struct Data {
    x: Vec<f32>,
    a: Array2<f32>,
    b: Array2<f32>,
    logits: Array2<f32>,
    targets: Array2<f32>,
    mu: Array2<f32>,
    logvar: Array2<f32>,
    rows: Array2<f32>,
    dy: Array2<f32>,
    tiny: Array2<f32>,
    ordinary: Array2<f32>,
}

impl Data {
    fn new() -> Self {
        let logits = array(130, 9, 3, 4.0);
        Self {
            x: (0..70).map(|i| (i as f32 - 35.0) * 3.1).collect(),
            a: array(130, 40, 3, 1e-20),
            b: array(24, 40, 5, 1e-20),
            targets: logits.mapv(|l| if l > 0.0 { 1.0 } else { 0.25 }),
            logits,
            mu: array(130, 5, 7, 1e-37),
            logvar: array(130, 5, 11, 1e-38),
            rows: array(70, 30, 3, 1.0),
            dy: array(70, 30, 5, 1e-39),
            tiny: array(90, 17, 3, 1e-38),
            ordinary: array(90, 17, 3, 0.5).mapv(|x| x + 0.5),
        }
    }
}

/// Bits of kernels whose arguments or results are subnormal.
fn kernels(compute: &Compute, data: &Data) -> Vec<u64> {
    let (set, mut out) = (compute.simd(), Vec::new());
    let Data { x, a, b, logits, targets, mu, logvar, rows, dy, .. } = data;
    let (mut y, mut slope) = ([0.0; 70], [0.0; 70]);
    math::exp(set, &mut y, x).unwrap();
    out.extend(bits(&y));
    for activation in activation::Activation::all() {
        activation::forward(set, activation, &mut y, &mut slope, x).unwrap();
        out.extend(bits(y.iter().chain(&slope)));
    }

    // Sums of products of 1e-40 and less.
    let panels = gemm::Panels::pack(b.view(), &[1e-41; 24]).unwrap();
    let mut product = Array2::zeros((130, 24));
    gemm::product(compute, product.view_mut(), a.view(), &panels).unwrap();
    out.extend(bits(&product));

    // The gradient of 1e-37/130.
    let [mut doutputs, mut dmu, mut dlogvar] =
        [9, 5, 5].map(|columns| Array2::zeros((130, columns)));
    let inputs = elbo::Inputs {
        outputs: logits.view(),
        targets: targets.view(),
        mu: mu.view(),
        logvar: logvar.view(),
        prior: Prior::default(),
    };
    let gradients = elbo::Gradients {
        doutputs: doutputs.view_mut(),
        dmu: dmu.view_mut(),
        dlogvar: dlogvar.view_mut(),
    };
    let terms = elbo::Terms { reconstruction: Bernoulli, penalty: Kl, beta: 1.0 };
    let value = elbo::forward_backward(compute, terms, gradients, inputs, Reduction::BatchMean);
    out.push(value.unwrap().loss.to_bits());
    out.extend(bits(doutputs.iter().chain(&dmu).chain(&dlogvar)));

    // A scale below the normal numbers: 0.5·e^{-88}, over 130 rows.
    let inputs = ReconstructionInputs { outputs: logits.view(), targets: targets.view() };
    let gaussian = Gaussian::Shared { logvar: 88.0 };
    let value =
        gaussian.forward_backward(compute, doutputs.view_mut(), inputs, Reduction::BatchMean);
    out.push(value.unwrap().to_bits());
    out.extend(bits(&doutputs));

    // Sums over the rows outside of the kernels of a row.
    let (mut y, mut normalized, mut dx) =
        (Array2::zeros((70, 30)), Array2::zeros((70, 30)), Array2::zeros((70, 30)));
    let (mut inverse_std, gain) = ([0.0; 70], [1.0; 30]);
    let (mut dgain, mut dshift) = ([0.0; 30], [0.0; 30]);
    let views = (y.view_mut(), normalized.view_mut());
    layer_norm::forward(
        compute,
        views.0,
        views.1,
        &mut inverse_std,
        rows.view(),
        &gain,
        &[0.0; 30],
    )
    .unwrap();
    layer_norm::backward(
        compute,
        dx.view_mut(),
        &mut dgain,
        &mut dshift,
        dy.view(),
        normalized.view(),
        &inverse_std,
        &gain,
    )
    .unwrap();
    out.extend(bits(dx.iter().chain(&dgain).chain(&dshift)));

    // A step size and a weight below the normal numbers.
    let (mut w, mut m, mut v) = ([1e-40_f32; 20], [0.0; 20], [0.0; 20]);
    let adam = Adam { learning_rate: 1e-41, ..Adam::default() };
    adam::step(set, &adam, 1, &mut w, &mut m, &mut v, &[1e-3; 20]).unwrap();
    out.extend(bits(&w));
    out
}

/// Bits of models that are trained and evaluated.
fn models(compute: &Compute, data: &Data) -> Vec<u64> {
    let mut out = Vec::new();
    let Data { tiny, ordinary, .. } = data;
    let correlation = Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 };
    let gaussian = Likelihood::Gaussian(Variance::Shared);
    for (data, likelihood, penalty) in [
        (tiny, gaussian, Penalty::Kl),
        (ordinary, Likelihood::Bernoulli, Penalty::Kl),
        (ordinary, Likelihood::Bernoulli, correlation),
        (ordinary, Likelihood::Bernoulli, Penalty::importance(3)),
    ] {
        let config =
            Config::builder(17, 3).hidden(&[19, 11]).likelihood(likelihood).build().unwrap();
        let objective = Objective { penalty, ..Objective::default() };
        let options = Options { objective, batch: 32, ..Options::default() };
        let mut trainer = Trainer::new(Vae::new(config, 5), options, compute.clone()).unwrap();
        for _ in 0..6 {
            let epoch = trainer.epoch(data, |_| {}).unwrap();
            out.push(epoch.loss.to_bits());
        }
        let vae = trainer.into_vae();
        out.extend(bits(vae.parameters().iter()));
        let options = EvaluationOptions { objective, ..EvaluationOptions::default() };
        let evaluation = vae.evaluate(compute, data, &options).unwrap();
        out.extend([evaluation.loss, evaluation.kl].map(f64::to_bits));
        out.push(vae.decompose(compute, data, &options).unwrap().mutual_information.to_bits());
        let marginal = vae.marginal_log_likelihood(compute, data, 5, &options).unwrap();
        out.push(marginal.log_likelihood.to_bits());
        out.extend(bits(&vae.reconstruct(compute, data.view()).unwrap()));
        out.extend(bits(&vae.sample(compute, 7, 3).unwrap()));
    }
    out
}

fn same_under_any_environment(of: fn(&Compute, &Data) -> Vec<u64>) {
    let data = Data::new();
    let work = |compute: &Compute| of(compute, &data);
    for set in InstructionSet::available() {
        let expected = under(0, || work(&Compute::new(set, 1).unwrap()));
        for flags in [control::FLUSH, control::TOWARD_ZERO, control::FLUSH | control::TOWARD_ZERO] {
            for threads in [1, 2] {
                // Threads started in this environment, and threads that were there before.
                let started = || work(&Compute::new(set, threads).unwrap());
                assert!(under(flags, started) == expected, "{set}, {threads} threads, {flags:#x}");
                let compute = Compute::new(set, threads).unwrap();
                let found = under(flags, || work(&compute));
                assert!(found == expected, "{set}, {threads} threads, {flags:#x}");
                let found = under(flags, || compute.install(|| work(&compute)));
                assert!(found == expected, "{set}, {threads} threads, installed, {flags:#x}");
            }
        }
    }
}

#[test]
fn kernels_have_the_same_bits_under_any_environment() {
    same_under_any_environment(kernels);
}

#[test]
fn models_have_the_same_bits_under_any_environment() {
    same_under_any_environment(models);
}

/// A panic in the caller's code leaves the environment as it was.
#[test]
fn a_panic_puts_the_environment_back() {
    under(control::FLUSH, || {
        let compute = Compute::serial();
        let panic = || compute.install(|| -> () { std::panic::resume_unwind(Box::new(())) });
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panic)).is_err());
    });
}
