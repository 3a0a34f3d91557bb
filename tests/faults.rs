//! Faults of the data set and of single rows: which error is reported, and what goes on after it.

use elbo::loss::importance::Estimator;
use elbo::loss::{CapacityPer, FreeBitsPer};
use elbo::optim::Span;
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, EvaluationOptions, Likelihood, Objective, Penalty, Vae, Variance};
use elbo::{Compute, Dataset, Error};
use ndarray::{Array1, Array2};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn compute(threads: usize) -> Compute {
    Compute::new(InstructionSet::detect(), threads).unwrap()
}

/// Wide enough for the threads to share 256 rows.
const FEATURES: usize = 600;
const ROWS: usize = 512;

/// A model whose μ and logvar are what columns 0 to 2 of a row say.
fn steered(likelihood: Likelihood) -> Vae {
    let config = Config::builder(FEATURES, 2).hidden(&[]).likelihood(likelihood).build().unwrap();
    let mut vae = Vae::new(config, 1);
    let parameters = vae.parameters_mut();
    for (name, columns) in [("mu", vec![(0, 1e30)]), ("logvar", vec![(1, 200.0), (2, -200.0)])] {
        let mut weight = Array2::zeros((2, FEATURES));
        for (column, value) in columns {
            weight[[1, column]] = value;
        }
        parameters.set(name, weight.view(), Array1::zeros(2).view()).unwrap();
    }
    vae
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    NaN,
    OutOfRange,
    LargeLogvar,
    SmallLogvar,
    LargeMean,
}

impl Fault {
    fn plant(self, data: &mut Array2<f32>, row: usize) {
        let (column, value) = match self {
            Self::NaN => (7, f32::NAN),
            Self::OutOfRange => (9, 1.5),
            Self::LargeLogvar => (1, 1.0),
            Self::SmallLogvar => (2, 1.0),
            Self::LargeMean => (0, 1.0),
        };
        data[[row, column]] = value;
    }

    fn message(self, row: usize) -> String {
        match self {
            Self::NaN => format!("row {row}, column 7: NaN in the data"),
            Self::OutOfRange => format!("row {row}, column 9: 1.5 is outside [0, 1]"),
            Self::LargeLogvar => {
                format!("latent dimension 1 of row {row}: exp(logvar) overflows at logvar = 200")
            }
            Self::SmallLogvar => {
                format!("latent dimension 1 of row {row}: exp(-logvar) overflows at logvar = -200")
            }
            Self::LargeMean => {
                format!("the loss of row {row} is not finite")
            }
        }
    }
}

#[test]
fn names_the_first_faulty_row_on_any_number_of_threads() {
    use Fault::{LargeLogvar, LargeMean, NaN, OutOfRange, SmallLogvar};
    let free_bits = |per| Penalty::FreeBits { lambda: 0.1, per };
    let capacity = |per| Penalty::Capacity { gamma: 1.0, capacity: 1.0, over: Span::Steps(1), per };
    let samples = 2;
    let all: &[Fault] = &[NaN, OutOfRange, LargeLogvar, LargeMean];
    let with_small: &[Fault] = &[NaN, OutOfRange, LargeLogvar, SmallLogvar, LargeMean];
    let penalties = [
        (Penalty::Kl, all),
        (free_bits(FreeBitsPer::Element), all),
        (free_bits(FreeBitsPer::Dimension), all),
        (free_bits(FreeBitsPer::Sample), all),
        (capacity(CapacityPer::Batch), all),
        (capacity(CapacityPer::Sample), all),
        (Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 }, with_small),
        (Penalty::Importance { samples, estimator: Estimator::Iwae }, all),
        (Penalty::Importance { samples, estimator: Estimator::Dreg }, with_small),
    ];
    let options = EvaluationOptions::default();
    for threads in [1, 2, 3, 4] {
        let compute = compute(threads);
        for (case, (penalty, faults)) in penalties.iter().enumerate() {
            // Each kind comes first once, with two others behind it: in the same block, and in others.
            for first in 0..faults.len() {
                let vae = steered(Likelihood::Bernoulli);
                let rows = [[37, 40, 300], [60, 130, 131]][(first + case) % 2];
                let mut data = Array2::zeros((ROWS, FEATURES));
                for (i, row) in rows.into_iter().enumerate() {
                    faults[(first + i) % faults.len()].plant(&mut data, row);
                }
                let fault = faults[first];
                let expected = fault.message(rows[0]);
                let check = |error: Option<Error>, path: &str| {
                    let message = error.map(|error| error.to_string()).unwrap_or_default();
                    let context = format!("{path}, {penalty:?}, {fault:?}, {threads} threads");
                    assert!(message.starts_with(&expected), "{context}: {message}");
                };
                let objective = Objective { penalty: *penalty, ..Objective::default() };
                let noise = Array2::zeros((ROWS * objective.samples(), 2));
                let training = Options { objective, ..Options::default() };
                let mut trainer = Trainer::new(vae.clone(), training, compute.clone()).unwrap();
                let error = trainer.step_with_noise(&data, noise.view()).err();
                check(error, "step_with_noise");
                let error = trainer.gradient_with_noise(&data, noise.view()).err();
                check(error, "gradient_with_noise");
                assert!(trainer.gradient().is_none());
                let with_objective = EvaluationOptions { objective, ..options };
                check(vae.evaluate(&compute, &data, &with_objective).err(), "evaluate");
                if case == 0 {
                    check(vae.score(&compute, &data).err(), "score");
                }
                if case == 0 && fault != LargeMean {
                    check(vae.decompose(&compute, &data, &options).err(), "decompose");
                    let error = vae.marginal_log_likelihood(&compute, &data, 2, &options).err();
                    check(error, "marginal_log_likelihood");
                }
            }
        }
    }
}

#[test]
fn evaluations_refuse_what_training_refuses() {
    use elbo::Augmentation::{Binarize, Dequantize};
    let compute = Compute::serial();
    let data = Array2::<f32>::zeros((4, 3));
    let gaussian = Likelihood::Gaussian(Variance::Fixed(1.0));
    for (likelihood, augmentation, expected) in [
        (Likelihood::ContinuousBernoulli, Dequantize { levels: 1 }, "`levels`: expected from 2"),
        (Likelihood::ContinuousBernoulli, Dequantize { levels: 0 }, "`levels`: expected from 2"),
        (gaussian, Binarize, "`likelihood`: expected a Bernoulli likelihood beside binarized data"),
        (
            Likelihood::Bernoulli,
            Dequantize { levels: 256 },
            "`likelihood`: expected a density on [0, 1] beside dequantized data",
        ),
    ] {
        let config = Config::builder(3, 1).hidden(&[]).likelihood(likelihood).build().unwrap();
        let vae = Vae::new(config, 1);
        let options = EvaluationOptions { augmentation, ..EvaluationOptions::default() };
        let training = Options { augmentation, ..Options::default() };
        for (path, error) in [
            ("training", Trainer::new(vae.clone(), training, compute.clone()).err()),
            ("evaluate", vae.evaluate(&compute, &data, &options).err()),
            ("decompose", vae.decompose(&compute, &data, &options).err()),
            ("marginal", vae.marginal_log_likelihood(&compute, &data, 2, &options).err()),
        ] {
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.starts_with(expected), "{path}, {augmentation:?}: {message}");
        }
    }
    // An invalid objective, which decompose and the marginal likelihood do not compute.
    let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
    let objective = Objective { beta: f32::NAN, ..Objective::default() };
    let options = EvaluationOptions { objective, ..EvaluationOptions::default() };
    for error in [
        vae.evaluate(&compute, &data, &options).err(),
        vae.decompose(&compute, &data, &options).err(),
        vae.marginal_log_likelihood(&compute, &data, 2, &options).err(),
    ] {
        assert!(error.unwrap().to_string().starts_with("`beta`: expected a non-negative"));
    }
}

#[test]
fn optimal_variance_of_an_exact_batch_is_an_error_by_name() {
    let likelihood = Likelihood::Gaussian(Variance::Optimal);
    let config = Config::builder(2, 1).hidden(&[3]).likelihood(likelihood).build().unwrap();
    for bias in [0.0, 1e-21] {
        let mut vae = Vae::new(config.clone(), 1);
        let zeros = Array2::zeros((2, 3));
        let bias = Array1::from_elem(2, bias);
        vae.parameters_mut().set("decoder.1", zeros.view(), bias.view()).unwrap();
        let mut trainer = Trainer::new(vae, Options::default(), Compute::serial()).unwrap();
        let error = trainer.step(&Array2::<f32>::zeros((8, 2))).unwrap_err().to_string();
        assert!(error.starts_with("the optimal variance of the rows of the batch is "), "{error}");
        assert!(
            error.ends_with(
                "at step 1: they are reconstructed exactly; choose a fixed or a \
            learned variance; the weights were not changed"
            ),
            "{error}"
        );
        // In an evaluation it is the variance of all rows: 256 exact ones may be among them.
        let mut data = Array2::zeros((600, 2));
        let evaluate = |data: &Array2<f32>| {
            trainer.vae().evaluate(&Compute::serial(), data, &EvaluationOptions::default())
        };
        if bias[0] == 0.0 {
            let error = evaluate(&data).unwrap_err();
            assert!(matches!(error, Error::NoVariance { step: None, .. }), "{error}");
        }
        data[[599, 1]] = 2.0;
        // Half of 1,200 elements · (ln 2πσ² + 1), σ² = 4/1200, for each of 600 rows.
        let variance: f64 = 4.0 / 1200.0;
        let expected = (2.0 * std::f64::consts::PI * variance).ln() + 1.0;
        let found = evaluate(&data).unwrap().reconstruction;
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

/// Rows of zeros and ones, read through `before`.
struct Hooked<F>(usize, F);

impl<F: Fn(usize) + Sync> Dataset for Hooked<F> {
    fn row_count(&self) -> usize {
        self.0
    }

    fn features(&self) -> usize {
        FEATURES
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.1(row);
        for (column, value) in out.iter_mut().enumerate() {
            *value = ((row + column) % 2) as f32;
        }
    }
}

fn plain() -> Vae {
    Vae::new(Config::builder(FEATURES, 2).hidden(&[]).build().unwrap(), 1)
}

#[test]
fn panics_of_the_data_set_are_passed_on_and_training_goes_on() {
    let options = Options { batch: 256, ..Options::default() };
    for threads in [1, 2, 4] {
        let compute = compute(threads);
        let trainer = || Trainer::new(plain(), options.clone(), compute.clone()).unwrap();
        let good = Hooked(ROWS, |_| ());
        let bad = Hooked(ROWS, |row| assert!(row != 200, "row 200 is lost"));
        let (mut whole, mut interrupted) = (trainer(), trainer());
        for _ in 0..2 {
            whole.epoch(&good, |_| ()).unwrap();
        }
        let mut panics = 0;
        while interrupted.epochs() < 2 {
            let before = interrupted.vae().parameters().to_vec();
            match catch_unwind(AssertUnwindSafe(|| interrupted.step(&bad))) {
                Ok(step) => drop(step.unwrap()),
                Err(panic) => {
                    panics += 1;
                    assert!(text(&*panic).contains("row 200 is lost"));
                    assert!(interrupted.vae().parameters()[..] == before[..]);
                    interrupted.step(&good).unwrap();
                }
            }
        }
        assert_eq!(panics, 2);
        assert!(interrupted.vae().parameters()[..] == whole.vae().parameters()[..]);
        // An evaluation has no state to lose.
        let (vae, options) = (plain(), EvaluationOptions::default());
        let paths: [&dyn Fn() -> bool; 4] = [
            &|| vae.evaluate(&compute, &bad, &options).is_ok(),
            &|| vae.score(&compute, &bad).is_ok(),
            &|| vae.decompose(&compute, &bad, &options).is_ok(),
            &|| vae.marginal_log_likelihood(&compute, &bad, 2, &options).is_ok(),
        ];
        for path in paths {
            assert!(catch_unwind(AssertUnwindSafe(path)).is_err());
        }
        assert!(vae.evaluate(&compute, &good, &options).is_ok());
    }
}

/// The message of a panic.
fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap()
}

#[test]
fn a_panic_in_the_rows_of_any_thread_leaves_its_threads_for_others() {
    // Rows in their order: the first row is read by the first thread, the last one by the last.
    let good = Hooked(ROWS, |_| ());
    let noise = Array2::zeros((ROWS, 2));
    let expected = {
        let mut trainer = Trainer::new(plain(), Options::default(), compute(1)).unwrap();
        trainer.step_with_noise(&good, noise.view()).unwrap();
        trainer.vae().parameters().to_vec()
    };
    for threads in [2, 3, 5] {
        let compute = compute(threads);
        let trainer = || Trainer::new(plain(), Options::default(), compute.clone()).unwrap();
        let steps = |mut trainer: Trainer| {
            trainer.step_with_noise(&good, noise.view()).unwrap();
            assert!(trainer.vae().parameters()[..] == expected[..], "{threads} threads");
        };
        for lost in [vec![0], vec![ROWS - 1], vec![0, ROWS - 1], (0..ROWS).collect()] {
            let bad = Hooked(ROWS, |row| assert!(!lost.contains(&row), "row {row} is lost"));
            let mut interrupted = trainer();
            for _ in 0..2 {
                let step = || interrupted.step_with_noise(&bad, noise.view());
                let panic = catch_unwind(AssertUnwindSafe(step)).unwrap_err();
                // Of several panics, that of the first thread is passed on.
                assert_eq!(text(&*panic), format!("row {} is lost", lost[0]));
            }
            // Other work of the same threads, then the trainer itself.
            plain().evaluate(&compute, &good, &EvaluationOptions::default()).unwrap();
            steps(interrupted);
            steps(trainer());
            // A trainer that ends right after the panic leaves the threads to others …
            let mut ended = trainer();
            let step = || ended.step_with_noise(&bad, noise.view());
            catch_unwind(AssertUnwindSafe(step)).unwrap_err();
            drop(ended);
            steps(trainer());
        }
        // … and the last owner of the threads ends them.
        let (own, bad) = (self::compute(threads), Hooked(ROWS, |_| panic!("no row")));
        let mut ended = Trainer::new(plain(), Options::default(), own).unwrap();
        let step = || ended.step_with_noise(&bad, noise.view());
        assert_eq!(text(&*catch_unwind(AssertUnwindSafe(step)).unwrap_err()), "no row");
    }
}

#[test]
fn data_sets_that_wait_for_threads_of_their_own_do_not_block() {
    // While a thread of rayon waits, it runs other work: one that held a lock would meet it again.
    fn spin(row: usize) -> usize {
        (0..2_000).fold(row, |sum, i| sum.rotate_left(3) ^ i)
    }
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let own = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let install = |row: usize| {
            own.install(|| std::hint::black_box(spin(row)));
        };
        let join = |row: usize| {
            let (left, right) = rayon::join(|| spin(row), || spin(row + 1));
            std::hint::black_box(left ^ right);
        };
        let hooks: [&(dyn Fn(usize) + Sync); 2] = [&install, &join];
        let options = EvaluationOptions::default();
        for threads in [2, 3, 4] {
            let compute = compute(threads);
            for hook in hooks {
                let data = Hooked(300, hook);
                let vae = plain();
                let expected = vae.evaluate(&compute, &Hooked(300, |_| ()), &options).unwrap();
                assert_eq!(vae.evaluate(&compute, &data, &options).unwrap(), expected);
                vae.score(&compute, &data).unwrap();
                vae.decompose(&compute, &data, &options).unwrap();
                vae.marginal_log_likelihood(&compute, &data, 5, &options).unwrap();
                let importance =
                    Objective { penalty: Penalty::importance(3), ..Objective::default() };
                let weighted = EvaluationOptions { objective: importance, ..options };
                vae.evaluate(&compute, &data, &weighted).unwrap();
                let training = Options { batch: 100, ..Options::default() };
                Trainer::new(vae, training, compute.clone()).unwrap().epoch(&data, |_| ()).unwrap();
            }
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(300)).expect("no deadlock");
}

#[test]
fn a_bad_row_ends_a_marginal_likelihood_early() {
    let reads = AtomicUsize::new(0);
    let mut data = Array2::<f32>::zeros((1000, 3));
    data[[0, 1]] = -1.0;
    struct Counted<'a>(&'a Array2<f32>, &'a AtomicUsize);
    impl Dataset for Counted<'_> {
        fn row_count(&self) -> usize {
            self.0.nrows()
        }
        fn features(&self) -> usize {
            self.0.ncols()
        }
        fn read_row(&self, row: usize, out: &mut [f32]) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_row(row, out);
        }
    }
    let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
    let counted = Counted(&data, &reads);
    let options = EvaluationOptions::default();
    let error = vae.marginal_log_likelihood(&Compute::serial(), &counted, 2, &options).unwrap_err();
    assert!(error.to_string().starts_with("row 0, column 1: -1 is outside [0, 1]"), "{error}");
    assert!(reads.into_inner() <= 256);
}

/// Zeros with a condition that may be NaN.
struct WithConditions(Vec<f32>);

impl Dataset for WithConditions {
    fn row_count(&self) -> usize {
        self.0.len()
    }
    fn features(&self) -> usize {
        3
    }
    fn read_row(&self, _: usize, out: &mut [f32]) {
        out.fill(0.0);
    }
    fn conditions(&self) -> usize {
        2
    }
    fn read_condition(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&[1.0, self.0[row]]);
    }
}

#[test]
fn names_the_row_of_a_condition_that_is_not_finite() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut conditions = vec![0.5; 30];
        (conditions[11], conditions[20]) = (value, value);
        let data = WithConditions(conditions);
        let config = Config::builder(3, 1).hidden(&[4]).conditions(2).build().unwrap();
        let (vae, compute) = (Vae::new(config, 1), Compute::serial());
        let options = EvaluationOptions::default();
        let mut trainer = Trainer::new(vae.clone(), Options::default(), compute.clone()).unwrap();
        let noise = Array2::zeros((30, 1));
        for error in [
            trainer.step_with_noise(&data, noise.view()).unwrap_err(),
            vae.evaluate(&compute, &data, &options).unwrap_err(),
            vae.score(&compute, &data).unwrap_err(),
            vae.decompose(&compute, &data, &options).unwrap_err(),
            vae.marginal_log_likelihood(&compute, &data, 2, &options).unwrap_err(),
        ] {
            let expected = format!("row 11: the condition's column 1 is {value}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn refuses_memory_that_no_machine_has_before_allocating() {
    let wide = |features, latent, hidden: &[usize]| {
        Config::builder(features, latent).hidden(hidden).build().unwrap_err().to_string()
    };
    let message = wide(10, 1_000_000_000, &[]);
    assert_eq!(message, "`latent`: expected from 1 to 16777216, found 1000000000");
    let message = wide(16_000_000, 16, &[1_000]);
    assert!(message.contains("at most 2147483648 weights, found 32"), "{message}");
    // Many wide rows whose gradients wait for the variance of all of them: such a batch is not taken in parts.
    let likelihood = Likelihood::Gaussian(Variance::Optimal);
    let wide = Config::builder(100_000, 1).hidden(&[]).likelihood(likelihood).build().unwrap();
    let data = Array2::<f32>::zeros((1, 100_000));
    let options = Options { batch: usize::MAX, ..Options::default() };
    let mut trainer = Trainer::new(Vae::new(wide, 1), options, Compute::serial()).unwrap();
    let rows: Vec<u32> = vec![0; 1 << 22];
    let error = trainer.gradient_of_rows(&data, &rows).unwrap_err().to_string();
    let expected = "a batch of 4194304 rows of 100000-1-100000 needs ";
    assert!(error.starts_with(expected) && error.contains(" GB of memory, "), "{error}");
    assert!(error.ends_with("use a smaller batch, fewer samples or a narrower model"), "{error}");
}

#[test]
fn importance_weighted_evaluation_has_the_bits_of_whole_chunks() {
    // 300 rows in parts of 85 rows of 3 samples, or of 1 row of 300 samples, on any number of threads.
    let data = Array2::from_shape_fn((300, 6), |(r, c)| ((r * c) % 5) as f32 / 4.0);
    let vae = Vae::new(Config::builder(6, 2).hidden(&[5]).build().unwrap(), 1);
    for samples in [3, 300] {
        let objective = Objective { penalty: Penalty::importance(samples), ..Objective::default() };
        let options = EvaluationOptions { objective, ..EvaluationOptions::default() };
        let expected = vae.evaluate(&compute(1), &data, &options).unwrap();
        for threads in [2, 3] {
            assert_eq!(vae.evaluate(&compute(threads), &data, &options).unwrap(), expected);
        }
        // In nats per example, the first 256 rows and the other 44: the noise is that of a row's number.
        let first = data.slice(ndarray::s![..256, ..]);
        let first = vae.evaluate(&compute(1), &first, &options).unwrap();
        assert_eq!((first.rows, expected.rows), (256, 300));
        // The training step has all rows at once, and its own noise: the same to a few percent.
        let training = Options { objective, ..Options::default() };
        let mut trainer = Trainer::new(vae.clone(), training, compute(1)).unwrap();
        let all: Vec<u32> = (0..300).collect();
        let loss = trainer.gradient_of_rows(&data, &all).unwrap().loss;
        assert!((loss / expected.loss - 1.0).abs() < 0.03, "{loss} {}", expected.loss);
    }
}

#[test]
fn a_gradient_is_applied_once_and_as_a_step_would() {
    let data = Array2::from_shape_fn((40, 6), |(r, c)| ((r + c) % 5) as f32 / 4.0);
    let likelihood = Likelihood::Gaussian(Variance::Shared);
    let config = Config::builder(6, 2).hidden(&[5]).likelihood(likelihood).build().unwrap();
    let mut vae = Vae::new(config, 1);
    // Close to the bound of ln 1e-6: the next step passes it.
    let logvar = Array1::from_elem(1, -13.815_f32);
    vae.parameters_mut().set_vector("likelihood.logvar", logvar.view()).unwrap();
    let zeros = Array2::<f32>::zeros((40, 6));
    let (weight, bias) = (Array2::zeros((6, 5)), Array1::zeros(6));
    vae.parameters_mut().set("decoder.1", weight.view(), bias.view()).unwrap();
    let trainer = |options| Trainer::new(vae.clone(), options, Compute::serial()).unwrap();
    let noise = Array2::zeros((40, 2));
    let (mut step, mut split) = (trainer(Options::default()), trainer(Options::default()));
    assert!(split.apply_gradient().is_err());
    for _ in 0..3 {
        step.step_with_noise(&zeros, noise.view()).unwrap();
        split.gradient_with_noise(&zeros, noise.view()).unwrap();
        split.apply_gradient().unwrap();
        assert!(step.vae().parameters()[..] == split.vae().parameters()[..]);
        assert_eq!(step.vae().parameters().vector("likelihood.logvar").unwrap()[0], -13.815_511);
        // It is used up.
        assert!(split.gradient().is_none() && split.gradient_mut().is_none());
        let error = split.apply_gradient().unwrap_err().to_string();
        assert!(error.starts_with("`gradient`: expected a call of `gradient_of_rows`"), "{error}");
    }
    // A step that clips stores a gradient of its own, and leaves one of earlier weights useless.
    let clip = Some(elbo::optim::Clip::Norm(1e-3));
    let mut clipped = trainer(Options { clip, ..Options::default() });
    clipped.gradient_with_noise(&data, noise.view()).unwrap();
    assert!(clipped.gradient().is_some());
    clipped.step(&data).unwrap();
    assert!(clipped.gradient().is_none() && clipped.apply_gradient().is_err());
    // What cannot be applied changes nothing.
    clipped.gradient_with_noise(&data, noise.view()).unwrap();
    clipped.gradient_mut().unwrap()[0] = f32::INFINITY;
    let before = clipped.vae().parameters().to_vec();
    let error = clipped.apply_gradient().unwrap_err().to_string();
    assert!(error.starts_with("the norm of the gradient is inf at step 2"), "{error}");
    assert!(clipped.vae().parameters()[..] == before[..] && clipped.steps() == 1);
}

#[test]
fn padding_of_weights_and_gradients_does_not_count() {
    let data = Array2::from_shape_fn((8, 3), |(r, c)| ((r + c) % 2) as f32);
    let vae = Vae::new(Config::builder(3, 1).hidden(&[]).build().unwrap(), 1);
    let is_padding: Vec<bool> = {
        let mut ones = vae.parameters().clone();
        ones.fill(1.0);
        ones.clear_padding();
        ones.iter().map(|&one| one == 0.0).collect()
    };
    assert_eq!(is_padding.iter().filter(|&&padding| !padding).count(), 14);
    let fill = |values: &mut [f32]| {
        values.iter_mut().zip(&is_padding).filter(|(_, p)| **p).for_each(|(value, _)| *value = 9.0);
    };
    let mut filled = vae.clone();
    fill(filled.parameters_mut());
    let options = Options { clip: Some(elbo::optim::Clip::Norm(1e-3)), ..Options::default() };
    let run = |vae: Vae, noisy: bool| {
        let mut trainer = Trainer::new(vae, options.clone(), Compute::serial()).unwrap();
        trainer.step(&data).unwrap();
        trainer.gradient_of_rows(&data, &[0, 1, 2]).unwrap();
        if noisy {
            fill(trainer.gradient_mut().unwrap());
        }
        trainer.apply_gradient().unwrap();
        trainer.step(&data).unwrap();
        trainer.vae().parameters().to_vec()
    };
    assert_eq!(run(filled, true), run(vae, false));
}

#[test]
fn rejects_weights_that_are_not_finite() {
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut vae = plain();
        let (weight, mut bias) =
            (vae.parameters().weight("mu").unwrap(), vae.parameters().bias("mu").unwrap());
        bias[1] = value;
        vae.parameters_mut().set("mu", weight.view(), bias.view()).unwrap();
        let error = Trainer::new(vae, Options::default(), Compute::serial()).err().unwrap();
        assert_eq!(error.to_string(), format!("`weights`: expected finite ones, found {value}"));
    }
}
