//! `elbo inspect`: what is in a model file.

use crate::failure::Result;
use crate::model;
use crate::model::history;
use crate::model::{ModelMetadata, TrainingMetadata};
use crate::output::thousands;
use crate::output::{say, say_json};
use clap::Args;
use elbo::loss::Prior;
use elbo::vae::{COLLAPSED_KL, Config, Likelihood, Penalty, Vae, Variance};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Cells of the longest bar.
const BAR: usize = 40;

/// Show what is in a model file
#[derive(Debug, Args)]
#[command(after_help = "\
Layers and parameters, likelihood and prior, how the data were read, how training went, and the KL \
divergence of each latent dimension over the test data. A file from elsewhere has no more than the layers.

Examples:
  elbo inspect elbo-out/model.safetensors
  elbo inspect elbo-out/model.safetensors --json")]
pub struct InspectOptions {
    /// The model: a model.safetensors or checkpoint.safetensors that `elbo train` wrote, or a PyTorch
    /// state dict in that format
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,

    /// Print one line of JSON: config (of the model), parameters, layers, and data and training, the notes
    /// of `elbo train`
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectOptions) -> Result<()> {
    let (vae, notes) = model::open(&args.model)?;
    if args.json {
        say_json(&ModelReport::of(&vae, &notes))
    } else {
        say(text(&vae, &notes).trim_end())
    }
}

/// A layer or a vector of parameters.
#[derive(Serialize)]
struct Layer {
    name: String,
    /// Inputs and outputs of a dense layer; the length of a vector.
    shape: Vec<usize>,
}

#[derive(Serialize)]
struct ModelReport<'a> {
    config: &'a Config,
    parameters: usize,
    layers: Vec<Layer>,
    #[serde(flatten)]
    notes: &'a ModelMetadata,
}

impl<'a> ModelReport<'a> {
    fn of(vae: &'a Vae, notes: &'a ModelMetadata) -> Self {
        Self {
            config: vae.config(),
            parameters: vae.config().parameters(),
            layers: layers(vae),
            notes,
        }
    }
}

fn layers(vae: &Vae) -> Vec<Layer> {
    let parameters = vae.parameters();
    let dense = parameters.names().map(|name| {
        let weight = parameters.weight(name).expect("a name of its own");
        Layer { name: name.to_owned(), shape: vec![weight.ncols(), weight.nrows()] }
    });
    let vectors = parameters.vectors().map(|name| {
        let length = parameters.vector(name).expect("a name of its own").len();
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
    let _ = writeln!(text, "  {}", sentence(config));
    let _ = writeln!(text, "\nData: {}", notes.data.describe(config.features()));
    match &notes.training {
        None => text.push_str("\nTraining: the file does not say\n"),
        Some(training) => {
            text.push_str(&course(training));
            text.push_str(&bars(training));
        }
    }
    text
}

/// What the layers do and what the output means.
fn sentence(config: &Config) -> String {
    let mut parts = vec![format!("activation {}", config.activation())];
    if config.layer_norm() {
        parts.push("layer normalization".to_owned());
    }
    if config.dropout() > 0.0 {
        parts.push(format!("dropout {}", config.dropout()));
    }
    if config.conditions() > 0 {
        parts.push(format!("{} conditions", config.conditions()));
    }
    if let Some([low, high]) = config.logvar_clamp() {
        parts.push(format!("log-variance bent into [{low}, {high}]"));
    }
    let likelihood = config.likelihood();
    let of = match likelihood {
        Likelihood::WeightedBernoulli { pos_weight } => format!(" (ones weigh {pos_weight})"),
        Likelihood::Gaussian(Variance::Fixed(variance)) => format!(" of variance {variance}"),
        Likelihood::Gaussian(Variance::Shared) => " of one learned variance".to_owned(),
        Likelihood::Gaussian(Variance::PerFeature) => " of a learned variance a feature".to_owned(),
        Likelihood::Gaussian(Variance::Optimal) => " of the batch's own variance".to_owned(),
        _ => String::new(),
    };
    parts.push(format!("likelihood {}{of}", likelihood.name()));
    let Prior { mean, std } = config.prior();
    parts.push(format!("prior N({mean}, {std}²)"));
    parts.join(", ")
}

fn course(training: &TrainingMetadata) -> String {
    let TrainingMetadata { objective, seed, rows, epoch, history, scores, .. } = training;
    let penalty = match objective.penalty {
        Penalty::Kl => format!("β = {}", objective.beta),
        Penalty::FreeBits { lambda, .. } => format!("β = {}, {lambda} free bits", objective.beta),
        Penalty::Capacity { gamma, capacity, .. } => format!("capacity {capacity}, γ = {gamma}"),
        Penalty::TotalCorrelation { .. } => format!("β-TCVAE, β = {}", objective.beta),
        Penalty::Importance { samples, .. } => format!("{samples} importance samples"),
        _ => String::new(),
    };
    let mut text = format!(
        "\nTraining: {} rows, {} epochs, {penalty}, seed {seed}\n",
        thousands(*rows as f64),
        history.len(),
    );
    let best = history::best(history);
    let shown = [("first", history.first()), ("best", best), ("last", history.last())];
    text.push_str("           epoch  test loss  reconstruction        KL\n");
    for (name, epoch) in shown.iter().filter_map(|(name, epoch)| Some((name, (*epoch)?))) {
        let _ = writeln!(
            text,
            "  {name:<8} {:>5} {:>10.3} {:>15.3} {:>9.3}",
            epoch.epoch, epoch.test_loss, epoch.test_reconstruction, epoch.test_kl
        );
    }
    let _ = writeln!(text, "  the weights are those after epoch {epoch}");
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

/// The KL divergence of each latent dimension as a bar, the largest first.
fn bars(training: &TrainingMetadata) -> String {
    let kl = &training.kl_per_dimension;
    let mut order: Vec<usize> = (0..kl.len()).collect();
    order.sort_by(|&a, &b| kl[b].total_cmp(&kl[a]));
    let largest = order.first().map_or(0.0, |&first| kl[first]);
    let mut text = String::from("\nKL per latent dimension, nats (variance of mu)\n");
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

/// A part of [`BAR`] cells, to an eighth of a cell.
fn bar(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * (8 * BAR) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.5).chars().count(), BAR / 2);
        assert_eq!(bar(1.0 / (8 * BAR) as f64), "▏");
        assert_eq!(bar(0.0), "");
    }
}
