//! What a run says at its end.

use super::files::{self, MODEL};
use super::options::TrainOptions;
use super::run::Outcome;
use crate::data::train_test::TrainTestSplit;
use crate::failure::Result;
use crate::model::history::EpochRecord;
use crate::output::thousands;
use crate::output::{say, say_json};
use elbo::vae::{Likelihood, Objective, Penalty};
use serde::Serialize;
use std::time::Duration;

/// The last line of `--json`.
#[derive(Serialize)]
struct TrainReport<'a> {
    epochs: usize,
    model_epoch: usize,
    train_loss: f64,
    test_loss: f64,
    test_reconstruction: f64,
    test_kl: f64,
    active_units: usize,
    collapsed_units: usize,
    warnings: &'a [String],
    images_per_second: f64,
    seconds: f64,
    model: String,
}

pub fn report(
    outcome: &Outcome,
    sets: &TrainTestSplit,
    args: &TrainOptions,
    time: Duration,
) -> Result<()> {
    let kept = outcome.kept();
    if args.json {
        let report = TrainReport {
            epochs: outcome.history.len(),
            model_epoch: outcome.notes.epoch,
            train_loss: kept.train_loss,
            test_loss: kept.test_loss,
            test_reconstruction: kept.test_reconstruction,
            test_kl: kept.test_kl,
            active_units: outcome.tested.active_units(),
            collapsed_units: outcome.tested.collapsed_units(),
            warnings: &outcome.warnings,
            images_per_second: outcome.images_per_second,
            seconds: time.as_secs_f64(),
            model: args.out.join(MODEL).display().to_string(),
        };
        return say_json(&report);
    }
    let (name, value) = bound(outcome.vae.config().likelihood(), &outcome.notes.objective, kept);
    say(&format!(
        "test {name}: {value:.2} nats per example (reconstruction {:.2}, KL {:.2}), {} {}/s, {:.1} s",
        kept.test_reconstruction,
        kept.test_kl,
        thousands(outcome.images_per_second),
        sets.noun(),
        time.as_secs_f64(),
    ))?;
    if outcome.notes.epoch < outcome.history.len() {
        let epochs = outcome.history.len();
        say(&format!(
            "the model is that of epoch {} of {epochs}, the best one",
            outcome.notes.epoch
        ))?;
    }
    say(&format!("in {}: {}", args.out.display(), files::all(sets.is_table()).join(", ")))?;
    outcome.warnings.iter().try_for_each(|warning| say(&format!("warning: {warning}")))
}

/// What bounds the log-likelihood of the test data from below, where the output has one.
fn bound(likelihood: Likelihood, objective: &Objective, kept: &EpochRecord) -> (String, f64) {
    let elbo = -(kept.test_reconstruction + kept.test_kl);
    match (likelihood, objective.penalty) {
        (Likelihood::SquaredError | Likelihood::TanhSquaredError, _) => {
            ("loss".to_owned(), kept.test_loss)
        }
        (Likelihood::WeightedBernoulli { .. }, _) => ("loss".to_owned(), kept.test_loss),
        (_, Penalty::Importance { samples, .. }) => {
            (format!("bound of {samples} samples"), -kept.test_loss)
        }
        _ => ("ELBO".to_owned(), elbo),
    }
}
