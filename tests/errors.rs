//! Error messages of the library, and the state that an error leaves unchanged.

use elbo::loss::Reduction;
use elbo::optim::{Adam, Sgd, Span};
use elbo::train::{Options, Trainer};
use elbo::vae::{
    Annealing, Config, EvaluationOptions, Likelihood, Objective, Penalty, Vae, Variance,
};
use elbo::{Compute, Error};
use ndarray::Array2;

fn vae() -> Vae {
    Vae::new(Config::builder(6, 2).hidden(&[5]).build().unwrap(), 1)
}

fn trainer(options: Options) -> Trainer {
    Trainer::new(vae(), options, Compute::serial()).unwrap()
}

fn data() -> Array2<f32> {
    Array2::from_shape_fn((40, 6), |(r, c)| ((r + c) % 5) as f32 / 4.0)
}

/// Trains to the first error.
fn first_error(trainer: &mut Trainer, data: &Array2<f32>) -> Error {
    loop {
        if let Err(error) = trainer.step(data) {
            return error;
        }
    }
}

#[test]
fn names_the_place_of_a_pixel_outside_the_unit_interval() {
    for (value, shown) in [(1.5, "1.5"), (-0.25, "-0.25")] {
        let mut data = data();
        data[[17, 4]] = value;
        let message = first_error(&mut trainer(Options::default()), &data).to_string();
        let expected = format!("row 17, column 4: {shown} is outside [0, 1]");
        assert!(message.starts_with(&expected), "{message}");
        let message =
            vae().evaluate(&Compute::serial(), &data, &EvaluationOptions::default()).unwrap_err();
        assert!(message.to_string().starts_with(&expected), "{message}");
    }
}

#[test]
fn names_place_and_step_of_nan_and_changes_nothing() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut data = data();
        data[[23, 1]] = value;
        let mut trainer = trainer(Options { batch: 8, ..Options::default() });
        let error = first_error(&mut trainer, &data);
        let before = trainer.vae().parameters().to_vec();
        let steps = trainer.steps();
        let expected = format!(
            "row 23, column 1: {value} in the data at step {}; remove the row or replace the value",
            steps + 1
        );
        assert_eq!(error.to_string(), expected);
        // The same batch comes next, and the weights are those before it.
        assert_eq!(trainer.step(&data).unwrap_err().to_string(), expected);
        assert!(trainer.vae().parameters()[..] == before[..]);
        // With the value mended, training goes on.
        data[[23, 1]] = 0.5;
        assert_eq!(trainer.step(&data).unwrap().unwrap().step, steps + 1);
    }
}

#[test]
fn stops_before_a_non_finite_loss_reaches_the_weights() {
    let optimizer = Adam { learning_rate: 1e30, ..Adam::default() }.into();
    let mut trainer = trainer(Options { batch: 8, optimizer, ..Options::default() });
    let mut before = trainer.vae().parameters().to_vec();
    let error = loop {
        match trainer.step(&data()) {
            Ok(_) => before = trainer.vae().parameters().to_vec(),
            Err(error) => break error,
        }
    };
    assert!(before.iter().all(|w| !w.is_nan()));
    assert!(trainer.vae().parameters()[..] == before[..]);
    let next = trainer.steps() + 1;
    match &error {
        Error::NotFiniteLoss { step, row, .. } | Error::LogvarOverflow { step, row, .. } => {
            assert_eq!(*step, Some(next));
            assert!(*row < 40);
        }
        other => panic!("{other}"),
    }
    let message = error.to_string();
    assert!(message.contains(&format!("at step {next}")), "{message}");
    assert!(message.contains("the weights were not changed"), "{message}");
}

#[test]
fn stops_before_a_gradient_beyond_f32_reaches_the_weights() {
    let config = Config::builder(6, 2)
        .hidden(&[4])
        .likelihood(Likelihood::Gaussian(Variance::Fixed(1e-38)))
        .build()
        .unwrap();
    for optimizer in [Adam::default().into(), Sgd::default().into()] {
        let vae = Vae::new(config.clone(), 1);
        let options = Options { optimizer, ..Options::default() };
        let mut trainer = Trainer::new(vae, options, Compute::serial()).unwrap();
        let error = trainer.step(&data()).unwrap_err().to_string();
        assert!(error.starts_with("the norm of the gradient is"), "{error}");
        assert!(error.contains("at step 1; the weights were not changed"), "{error}");
        assert!(trainer.vae().parameters()[..] == Vae::new(config.clone(), 1).parameters()[..]);
    }
}

#[test]
fn decompose_refuses_what_evaluate_refuses_and_names_the_row() {
    let compute = Compute::serial();
    let options = EvaluationOptions::default();
    let vae = Vae::new(Config::builder(2, 1).hidden(&[]).build().unwrap(), 1);
    let decompose =
        |data: &Array2<f32>| vae.decompose(&compute, data, &options).unwrap_err().to_string();
    // Bytes that were not divided by 255.
    let bytes = Array2::from_shape_fn((20, 2), |(r, c)| (100 * c + r) as f32);
    let message = decompose(&bytes);
    assert!(message.starts_with("row 0, column 1: 100 is outside [0, 1]"), "{message}");
    assert_eq!(message, vae.evaluate(&compute, &bytes, &options).unwrap_err().to_string());
    let mut nan = Array2::zeros((20, 2));
    nan[[17, 1]] = f32::NAN;
    assert!(decompose(&nan).starts_with("row 17, column 1: NaN in the data"));
}

#[test]
fn small_variances_under_total_correlation_are_named_as_such() {
    let mut vae = Vae::new(Config::builder(2, 1).hidden(&[]).build().unwrap(), 1);
    let (weight, bias) = (Array2::zeros((1, 2)), ndarray::arr1(&[-100.0]));
    vae.parameters_mut().set("logvar", weight.view(), bias.view()).unwrap();
    let data = Array2::<f32>::zeros((20, 2));
    let penalty = Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 };
    let objective = Objective { penalty, ..Objective::default() };
    let evaluation = EvaluationOptions { objective, ..EvaluationOptions::default() };
    let compute = Compute::serial();
    let expected = "latent dimension 0 of row 0: exp(-logvar) overflows at logvar = -100";
    for error in [
        vae.evaluate(&compute, &data, &evaluation).unwrap_err(),
        vae.decompose(&compute, &data, &EvaluationOptions::default()).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    // The KL divergence alone does not need the exponential.
    assert!(vae.evaluate(&compute, &data, &EvaluationOptions::default()).is_ok());
    let options = Options { objective, ..Options::default() };
    let mut trainer = Trainer::new(vae, options, compute).unwrap();
    let error = trainer.step(&data).unwrap_err().to_string();
    assert!(error.contains("exp(-logvar) overflows at logvar = -100 at step 1"), "{error}");
}

#[test]
fn learned_variance_stops_at_its_floor() {
    let likelihood = Likelihood::Gaussian(Variance::PerFeature);
    let config = Config::builder(6, 1).hidden(&[]).likelihood(likelihood).build().unwrap();
    let optimizer = Adam { learning_rate: 0.5, ..Adam::default() }.into();
    let options = Options { batch: 8, optimizer, ..Options::default() };
    let mut trainer = Trainer::new(Vae::new(config, 1), options, Compute::serial()).unwrap();
    // Biases learn the constant; what is left of the error is noise.
    let constant = Array2::<f32>::zeros((40, 6));
    for _ in 0..60 {
        trainer.epoch(&constant, |_| ()).unwrap();
    }
    let logvar = trainer.vae().parameters().vector("likelihood.logvar").unwrap().to_owned();
    assert!(logvar.iter().all(|&v| v >= -13.815_511), "{logvar}");
}

#[test]
fn rejects_invalid_combinations() {
    let objective = |penalty| Objective { penalty, ..Objective::default() };
    let cases = [
        (
            Options {
                batch: 1,
                objective: objective(Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 }),
                ..Options::default()
            }
            .validate(),
            "`batch`: expected at least 2 rows with total correlation",
        ),
        (
            Objective {
                annealing: Annealing::Cyclical { cycles: 10, ratio: 0.5, over: Span::Epochs(3) },
                ..Objective::default()
            }
            .validate(),
            "`annealing`: expected a span of at least two steps or epochs a cycle",
        ),
        (
            Objective {
                annealing: Annealing::Linear { from: 0.0, over: Span::Epochs(3) },
                ..objective(Penalty::importance(5))
            }
            .validate(),
            "`annealing`: expected none where beta is not a weight: the penalty has its own, found \
             linear",
        ),
        (
            Objective { reduction: Reduction::Mean, ..objective(Penalty::importance(5)) }
                .validate(),
            "`reduction`: expected sum or batch mean",
        ),
        (
            Vae::new(
                Config::builder(6, 2).likelihood(Likelihood::SquaredError).build().unwrap(),
                1,
            )
            .marginal_log_likelihood(&Compute::serial(), &data(), 5, &EvaluationOptions::default())
            .map(|_| ()),
            "`likelihood`: expected one that is normalized for a marginal likelihood",
        ),
    ];
    for (result, expected) in cases {
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn rejects_wrong_shapes_by_name() {
    let compute = Compute::serial();
    let wide = Array2::<f32>::zeros((3, 7));
    let cases = [
        (
            vae().encode(&compute, wide.view()).unwrap_err(),
            "`x`: expected shape [3, 6], found [3, 7]",
        ),
        (
            vae().decode(&compute, wide.view()).unwrap_err(),
            "`z`: expected shape [3, 2], found [3, 7]",
        ),
        (
            trainer(Options::default()).step(&wide).unwrap_err(),
            "`data`: expected shape [3, 6], found [3, 7]",
        ),
        (
            vae()
                .evaluate(&compute, &Array2::<f32>::zeros((0, 6)), &EvaluationOptions::default())
                .unwrap_err(),
            "`data`: expected at least one row, found 0",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn rejects_invalid_options_by_name() {
    let adam = |learning_rate| Adam { learning_rate, ..Adam::default() }.into();
    let objective = |beta| Objective { beta, ..Objective::default() };
    let cases = [
        (Options { batch: 0, ..Options::default() }, "`batch`: expected at least 1, found 0"),
        (
            Options { optimizer: adam(f64::NAN), ..Options::default() },
            "`learning_rate`: expected a non-negative finite number, found NaN",
        ),
        (
            Options { optimizer: adam(-1.0), ..Options::default() },
            "`learning_rate`: expected a non-negative finite number, found -1",
        ),
        (
            Options { objective: objective(f32::INFINITY), ..Options::default() },
            "`beta`: expected a non-negative finite number, found inf",
        ),
    ];
    for (options, message) in cases {
        let error = Trainer::new(vae(), options, Compute::serial()).err().unwrap();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_completed_epoch_takes_no_further_step() {
    let mut trainer = trainer(Options { batch: 16, ..Options::default() });
    for _ in 0..3 {
        trainer.step(&data()).unwrap().unwrap();
    }
    // Three batches were all of the first epoch: this is the second, and a whole one.
    let epoch = trainer.epoch(&data(), |_| ()).unwrap();
    assert_eq!((epoch.epoch, epoch.rows), (2, 40));
}

#[test]
fn inference_accepts_zero_rows() {
    let compute = Compute::serial();
    assert_eq!(vae().encode(&compute, Array2::zeros((0, 6)).view()).unwrap().mu.dim(), (0, 2));
    assert_eq!(vae().sample(&compute, 0, 1).unwrap().dim(), (0, 6));
}
