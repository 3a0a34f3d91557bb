//! `elbo inspect`: the contents of a model file.

use crate::data::{DataDescription, ImageShape};
use crate::failure::Result;
use crate::model::history::{self, EpochRecord};
use crate::model::{self, ModelMetadata, Quantiles, TrainingMetadata};
use crate::output::{say, say_json};
use crate::text::{counted, thousands};
use clap::Args;
use elbo::loss::Prior;
use elbo::vae::{COLLAPSED_KL, Config, Likelihood, Objective, Penalty, Vae, Variance};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Width of the longest bar, in characters.
const BAR: usize = 40;

/// Maximum number of columns or classes in a line.
const LISTED: usize = 20;

/// Show the contents of a model file
#[derive(Debug, Args)]
#[command(after_long_help = "\
Shows layers and parameters, likelihood and prior, data preparation, the course of training, and the KL \
divergence of each latent dimension on the validation data. Files not written by elbo show layers only.

Examples:
  elbo inspect elbo-out/model.safetensors
  elbo inspect elbo-out/model.safetensors --json")]
pub struct InspectOptions {
    /// Read the model from MODEL, a .safetensors file
    ///
    /// A model or checkpoint written by `elbo train`, or a PyTorch state dict in the safetensors format.
    #[arg(value_name = "MODEL", required_unless_present = "option")]
    file: Option<PathBuf>,

    /// Read the model from FILE, as in other commands
    #[arg(
        id = "option",
        long = "model",
        short = 'm',
        value_name = "FILE",
        hide = true,
        conflicts_with = "file"
    )]
    option: Option<PathBuf>,

    /// Print one line of JSON: config, parameters, layers, data, training
    #[arg(long)]
    json: bool,
}

pub fn run(args: &InspectOptions) -> Result<()> {
    let path: PathBuf = args.file.iter().chain(&args.option).collect();
    let (vae, notes) = model::open(&path)?;
    if args.json {
        say_json(&ModelReport::of(&vae, &notes))
    } else {
        say(text(&vae, &notes).trim_end())
    }
}

/// A dense layer or a vector of parameters.
#[derive(Serialize)]
struct Layer {
    name: String,
    /// Numbers of inputs and outputs of a dense layer, or the length of a vector.
    shape: Vec<usize>,
}

#[derive(Serialize)]
struct ModelReport<'a> {
    config: &'a Config,
    parameters: usize,
    layers: Vec<Layer>,
    data: &'a DataDescription,
    training: Option<TrainingReport<'a>>,
}

/// The metadata of training, with the history under its public names.
#[derive(Serialize)]
struct TrainingReport<'a> {
    objective: Objective,
    seed: u64,
    rows: usize,
    epoch: usize,
    history: &'a [EpochRecord],
    kl_per_dimension: &'a [f64],
    mu_variance: &'a [f64],
    scores: Option<&'a Quantiles>,
}

impl<'a> ModelReport<'a> {
    fn of(vae: &'a Vae, notes: &'a ModelMetadata) -> Self {
        Self {
            config: vae.config(),
            parameters: vae.config().parameters(),
            layers: layers(vae),
            data: &notes.data,
            training: notes.training.as_ref().map(|training| TrainingReport {
                objective: training.objective,
                seed: training.seed,
                rows: training.rows,
                epoch: training.epoch,
                history: &training.history,
                kl_per_dimension: &training.kl_per_dimension,
                mu_variance: &training.mu_variance,
                scores: training.scores.as_ref(),
            }),
        }
    }
}

fn layers(vae: &Vae) -> Vec<Layer> {
    let parameters = vae.parameters();
    let dense = parameters.names().map(|name| {
        let weight = parameters.weight(name).expect("a layer of the model");
        Layer { name: name.to_owned(), shape: vec![weight.ncols(), weight.nrows()] }
    });
    let vectors = parameters.vectors().map(|name| {
        let length = parameters.vector(name).expect("a vector of the model").len();
        Layer { name: name.to_owned(), shape: vec![length] }
    });
    dense.chain(vectors).collect()
}

fn text(vae: &Vae, notes: &ModelMetadata) -> String {
    let config = vae.config();
    let mut text =
        format!("Model: {config}, {} parameters\n", thousands(config.parameters() as f64));
    for Layer { name, shape } in layers(vae) {
        let shape: Vec<_> = shape.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  {name:<24} {}", shape.join(" → "));
    }
    let _ = writeln!(text, "  {}", architecture(config));
    let _ = writeln!(text, "\nData: {}", data_summary(&notes.data, config.features()));
    match &notes.training {
        None => text.push_str("\nTraining: not recorded in this file\n"),
        Some(training) => {
            text.push_str(&training_summary(training));
            text.push_str(&bars(training));
        }
    }
    text
}

/// Activation, regularization, likelihood and prior in one line.
fn architecture(config: &Config) -> String {
    let mut parts = vec![format!("activation {}", config.activation())];
    if config.layer_norm() {
        parts.push("layer normalization".to_owned());
    }
    if config.dropout() > 0.0 {
        parts.push(format!("dropout {}", config.dropout()));
    }
    if config.conditions() > 0 {
        parts.push(counted(config.conditions(), "condition"));
    }
    if let Some([low, high]) = config.logvar_clamp() {
        parts.push(format!("log-variance soft-clamped to [{low}, {high}]"));
    }
    let likelihood = config.likelihood();
    let detail = match likelihood {
        Likelihood::WeightedBernoulli { pos_weight } => format!(" (positive weight {pos_weight})"),
        Likelihood::Gaussian(Variance::Fixed(variance)) => format!(" (variance {variance})"),
        Likelihood::Gaussian(Variance::Shared) => " (one learned variance)".to_owned(),
        Likelihood::Gaussian(Variance::PerFeature) => " (learned variance per feature)".to_owned(),
        Likelihood::Gaussian(Variance::Optimal) => " (optimal variance of each batch)".to_owned(),
        _ => String::new(),
    };
    parts.push(format!("likelihood {}{detail}", likelihood.name()));
    let Prior { mean, std } = config.prior();
    parts.push(format!("prior N({mean}, {std}²)"));
    parts.join(", ")
}

/// The kind of data, its preparation and its classes in one line.
fn data_summary(data: &DataDescription, features: usize) -> String {
    let mut parts = vec![match (&data.image, data.columns.is_empty()) {
        (Some(ImageShape { height, width, channels, .. }), _) => {
            let color = if *channels == 1 { "gray" } else { "color" };
            format!("{color} images of {height} × {width}")
        }
        (None, true) => counted(features, "feature"),
        (None, false) => format!("{}: {}", counted(features, "column"), listed(&data.columns)),
    }];
    parts.extend(data.white.map(|white| format!("values 0 to {white} read as 0 to 1")));
    parts.extend(data.preparation().into_iter().map(str::to_owned));
    if !data.classes.is_empty() {
        parts.push(format!("classes {}", listed(&data.classes)));
    }
    parts.join("; ")
}

/// Names separated by commas, at most [`LISTED`] of them.
fn listed(names: &[String]) -> String {
    match names.len() {
        0..=LISTED => names.join(", "),
        all => {
            let more = thousands((all - LISTED) as f64);
            format!("{} and {more} more", names[..LISTED].join(", "))
        }
    }
}

fn training_summary(training: &TrainingMetadata) -> String {
    let TrainingMetadata { objective, seed, rows, epoch, history, scores, .. } = training;
    let penalty = match objective.penalty {
        Penalty::Kl => format!("β = {}", objective.beta),
        Penalty::FreeBits { lambda, .. } => format!("β = {}, {lambda} free bits", objective.beta),
        Penalty::Capacity { gamma, capacity, .. } => format!("capacity {capacity}, γ = {gamma}"),
        Penalty::TotalCorrelation { .. } => format!("β-TCVAE, β = {}", objective.beta),
        Penalty::Importance { samples, .. } => counted(samples, "importance sample"),
        _ => String::new(),
    };
    let mut text = format!(
        "\nTraining: {}, {}, {penalty}, seed {seed}\n",
        counted(*rows, "row"),
        counted(history.len(), "epoch"),
    );
    let best = best_epoch(training);
    let shown = [("first", history.first()), ("best", best), ("last", history.last())];
    text.push_str("           epoch  validation loss  reconstruction        KL\n");
    for (name, epoch) in shown.iter().filter_map(|(name, epoch)| Some((name, (*epoch)?))) {
        let _ = writeln!(
            text,
            "  {name:<8} {:>5} {:>16.3} {:>15.3} {:>9.3}",
            epoch.epoch,
            epoch.validation_loss,
            epoch.validation_reconstruction,
            epoch.validation_kl
        );
    }
    let _ = writeln!(text, "  weights from the end of epoch {epoch}");
    if let Some(scores) = scores {
        let _ = writeln!(
            text,
            "  negative ELBO of the training rows: median {:.3}, 0.95 quantile {:.3}, 0.99 {:.3}",
            scores.at(0.5),
            scores.at(0.95),
            scores.at(0.99)
        );
    }
    text
}

/// Returns the epoch of the lowest validation loss among those that `--keep best` chooses from, after which the
/// objective is final; `None` if there is none, or if the file does not tell which they are.
fn best_epoch(training: &TrainingMetadata) -> Option<&EpochRecord> {
    let TrainingMetadata { objective, history, rows, .. } = training;
    let best_of = |steps_per_epoch: u64| {
        let is_final = |record: &&EpochRecord| {
            let epoch = record.epoch as u64;
            objective.is_final_at(epoch * steps_per_epoch, epoch)
        };
        history::best(history.iter().filter(is_final))
    };
    // The file does not hold the steps of an epoch, but the weight of the KL in the last step of each.
    let is_possible = |steps_per_epoch: &u64| {
        history.iter().all(|record| {
            let epoch = record.epoch as u64;
            objective.beta_at(epoch * steps_per_epoch - 1, epoch - 1) == record.beta
        })
    };
    let mut possible = (1..=*rows as u64).filter(is_possible).map(best_of);
    let first = possible.next()?;
    possible.all(|other| other == first).then_some(first)?
}

/// The KL divergence of each latent dimension as a text bar, largest first.
fn bars(training: &TrainingMetadata) -> String {
    let kl = &training.kl_per_dimension;
    let mut order: Vec<usize> = (0..kl.len()).collect();
    order.sort_by(|&a, &b| kl[b].total_cmp(&kl[a]));
    let largest = order.first().map_or(0.0, |&first| kl[first]);
    let mut text = String::from("\nKL per latent dimension in nats (variance of mu)\n");
    for dimension in order {
        let collapsed = if kl[dimension] < COLLAPSED_KL { "  collapsed" } else { "" };
        let _ = writeln!(
            text,
            "  {dimension:>4} {:>8.4} {:<BAR$} ({:.3}){collapsed}",
            kl[dimension],
            bar(kl[dimension] / largest.max(1e-300)),
            training.mu_variance.get(dimension).copied().unwrap_or(f64::NAN),
        );
    }
    text
}

/// A bar of a share of [`BAR`] characters, in steps of an eighth of a character.
fn bar(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * (8 * BAR) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run whose validation loss rises with each epoch.
    fn training(objective: Objective, epochs: u64, steps_per_epoch: u64) -> TrainingMetadata {
        let record = |epoch: u64| EpochRecord {
            epoch: epoch as usize,
            train_loss: 1.0,
            train_reconstruction: 1.0,
            train_kl: 0.0,
            validation_loss: epoch as f64,
            validation_reconstruction: 1.0,
            validation_kl: 0.0,
            validation_active_units: 1,
            beta: objective.beta_at(epoch * steps_per_epoch - 1, epoch - 1),
            learning_rate: 0.001,
            images_per_second: None,
        };
        TrainingMetadata {
            objective,
            seed: 1,
            rows: 1000,
            epoch: epochs as usize,
            history: (1..=epochs).map(record).collect(),
            kl_per_dimension: Vec::new(),
            mu_variance: Vec::new(),
            scores: None,
        }
    }

    #[test]
    fn best_epoch_is_one_after_the_end_of_the_annealing() {
        use elbo::loss::CapacityPer;
        use elbo::optim::Span;
        use elbo::vae::Annealing;
        let annealed = |annealing| Objective { beta: 4.0, annealing, ..Objective::default() };
        let best = |objective, epochs| {
            let training = training(objective, epochs, 10);
            best_epoch(&training).map(|record| record.epoch)
        };
        assert_eq!(best(Objective::default(), 9), Some(1));
        // 35 steps end in epoch 4 of 10 steps each.
        for over in [Span::Steps(35), Span::Steps(40), Span::Epochs(4)] {
            for annealing in [
                Annealing::Linear { from: 0.5, over },
                Annealing::Cosine { from: 0.0, over },
                Annealing::Cyclical { cycles: 1, ratio: 1.0, over },
            ] {
                assert_eq!(best(annealed(annealing), 9), Some(4), "{annealing:?}");
                assert_eq!(best(annealed(annealing), 3), None, "{annealing:?}");
            }
        }
        let capacity = |over| Objective {
            penalty: Penalty::Capacity { gamma: 9.0, capacity: 5.0, over, per: CapacityPer::Batch },
            ..Objective::default()
        };
        assert_eq!(best(capacity(Span::Epochs(3)), 9), Some(3));
        // The weight of the KL is the same in all epochs, so the steps of an epoch are unknown.
        assert_eq!(best(capacity(Span::Steps(35)), 9), None);
    }

    #[test]
    fn lists_a_limited_number_of_names() {
        let names: Vec<String> = (0..3000).map(|i| format!("c{i}")).collect();
        assert_eq!(listed(&names[..3]), "c0, c1, c2");
        let text = listed(&names);
        assert!(text.starts_with("c0, c1") && text.ends_with(", c19 and 2,980 more"), "{text}");
    }

    #[test]
    fn bars_are_proportional_to_their_share() {
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.5).chars().count(), BAR / 2);
        assert_eq!(bar(1.0 / (8 * BAR) as f64), "▏");
        assert_eq!(bar(0.0), "");
    }
}
