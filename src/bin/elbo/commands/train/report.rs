//! The report at the end of a run.

use super::files::{self, MODEL};
use super::options::TrainOptions;
use super::outcome::Outcome;
use crate::data::train_test::TrainTestSplit;
use crate::failure::Result;
use crate::output::{Console, say_json};
use crate::text::{counted, thousands};
use elbo::vae::{Evaluation, Likelihood, Objective, Penalty};
use serde::Serialize;
use std::time::Duration;

/// The line of `--json`.
#[derive(Serialize)]
struct TrainReport<'a> {
    epochs: usize,
    model_epoch: usize,
    train_loss: f64,
    validation_loss: f64,
    validation_reconstruction: f64,
    validation_kl: f64,
    active_units: usize,
    collapsed_units: usize,
    #[serde(flatten)]
    test: Option<TestReport>,
    warnings: Vec<&'a String>,
    images_per_second: f64,
    seconds: f64,
    model: String,
}

#[derive(Serialize)]
struct TestReport {
    test_rows: usize,
    test_loss: f64,
    test_reconstruction: f64,
    test_kl: f64,
}

/// Prints the summary of a run; the `earlier` warnings, about data and schedules, were printed at its beginning.
pub fn report(
    outcome: &Outcome,
    earlier: &[String],
    split: &TrainTestSplit,
    args: &TrainOptions,
    console: Console,
    time: Duration,
) -> Result<()> {
    let kept = outcome.kept_epoch();
    let (likelihood, objective) =
        (outcome.kept.vae.config().likelihood(), &outcome.kept.notes.objective);
    console.note(&format!(
        "{}, {} {}/s, {:.1} s",
        summary("validation", likelihood, objective, &outcome.validated),
        thousands(outcome.images_per_second),
        split.noun(),
        time.as_secs_f64(),
    ));
    if outcome.kept.notes.epoch < outcome.state.history.len() {
        let epochs = outcome.state.history.len();
        console.note(&format!(
            "kept the best model, of epoch {} of {epochs}",
            outcome.kept.notes.epoch
        ));
    }
    if let Some(tested) = &outcome.tested {
        let summary = summary("test", likelihood, objective, tested);
        console.note(&format!("{summary}, {}", counted(tested.rows, "row")));
    }
    let files = files::of_finished(split.is_table()).join(", ");
    console.note(&format!("in {}: {files}", args.out.display()));
    outcome.warnings.iter().for_each(|warning| console.warn(warning));
    if !args.json {
        return Ok(());
    }
    say_json(&TrainReport {
        epochs: outcome.state.history.len(),
        model_epoch: outcome.kept.notes.epoch,
        train_loss: kept.train_loss,
        validation_loss: kept.validation_loss,
        validation_reconstruction: kept.validation_reconstruction,
        validation_kl: kept.validation_kl,
        active_units: outcome.validated.active_units(),
        collapsed_units: outcome.validated.collapsed_units(),
        test: outcome.tested.as_ref().map(|tested| TestReport {
            test_rows: tested.rows,
            test_loss: tested.loss,
            test_reconstruction: tested.reconstruction,
            test_kl: tested.kl,
        }),
        warnings: earlier.iter().chain(&outcome.warned).chain(&outcome.warnings).collect(),
        images_per_second: outcome.images_per_second,
        seconds: time.as_secs_f64(),
        model: args.out.join(MODEL).display().to_string(),
    })
}

/// One line: the lower bound of the log-likelihood where the likelihood has one, otherwise the loss.
fn summary(
    data: &str,
    likelihood: Likelihood,
    objective: &Objective,
    evaluation: &Evaluation,
) -> String {
    let Evaluation { loss, reconstruction, kl, .. } = evaluation;
    let (name, value) = match (likelihood, objective.penalty) {
        (
            Likelihood::SquaredError
            | Likelihood::TanhSquaredError
            | Likelihood::WeightedBernoulli { .. },
            _,
        ) => ("loss".to_owned(), *loss),
        (_, Penalty::Importance { samples, .. }) => {
            let plural = if samples == 1 { "" } else { "s" };
            (format!("bound of {samples} sample{plural}"), -loss)
        }
        _ => ("ELBO".to_owned(), -(reconstruction + kl)),
    };
    format!(
        "{data} {name}: {value:.2} nats per example (reconstruction {reconstruction:.2}, KL {kl:.2})"
    )
}
