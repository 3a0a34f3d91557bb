//! `elbo plot`.

use super::Input;
use super::files::Picture;
use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
// Without a figure: a message of one line that names them, not the help.
#[command(arg_required_else_help = false)]
pub struct Plot {
    #[command(subcommand)]
    pub what: Figure,
}

#[derive(Debug, Subcommand)]
pub enum Figure {
    /// How the loss, its two terms, their weight and the learning rate went from epoch to epoch
    #[command(after_help = "\
The weight of the KL divergence and the learning rate have panels of their own where they change.

Examples:
  elbo plot history --run elbo-out --out history.svg
  elbo plot history --history elbo-out/history.csv --out history.png")]
    History(History),

    /// A map of the latent means in two dimensions, colored by label
    #[command(after_help = "\
The map takes two of the model's own dimensions as they are, not principal components: those whose mean \
varies most over the data, or those of --dimensions.

Examples:
  elbo plot latent --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--labels t10k-labels-idx1-ubyte.gz --out latent.png
  elbo plot latent --model m.safetensors --data table.npy --dimensions 0,3 --out latent.svg")]
    Latent(Latent),

    /// The KL divergence of each latent dimension as bars
    #[command(after_help = "\
Dimensions below the line at 0.01 nats have collapsed onto the prior: the code says nothing there.

Examples:
  elbo plot kl-per-dimension --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out kl.png
  elbo plot kl-per-dimension --model m.safetensors --data table.npy --by-index --log --out kl.svg")]
    KlPerDimension(KlPerDimension),

    /// How well scores tell one class from the others: ROC and precision-recall
    #[command(after_help = "\
Higher scores are to mean the positive class. Ties count half in the area under the ROC curve; average \
precision is the sum over thresholds of the precision times the gain in recall, without interpolation. \
Both are printed too.

Examples:
  elbo plot roc --scores scores.csv --positive malignant --out roc.png
  elbo plot roc --scores scores.csv --label-column outlier --positive 1 --score-column negative_elbo \
--score-column reconstruction --json --out roc.svg")]
    Roc(Roc),

    /// The KL divergence of one latent dimension from the prior N(0, 1), as curves, a map and a table
    #[command(after_help = "\
Computed by the same kernel as the loss. The table is printed too.

Examples:
  elbo plot kl --out kl.png
  elbo plot kl --at 0.5,0.3 --at -1,2 --out kl.svg")]
    Kl(Kl),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["run", "history", "model"]))]
pub struct History {
    /// The folder of a run: its history.csv is drawn
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// A history.csv that `elbo train` wrote
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// A model.safetensors that `elbo train` wrote: its history is drawn
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE")]
    pub out: Picture,
}

#[derive(Debug, Args)]
pub struct Latent {
    #[command(flatten)]
    pub input: Input,

    /// The dimensions to draw, such as 0,3 [default: the two whose mean varies most]
    #[arg(long, value_name = "I,J", value_parser = pair, allow_hyphen_values = true,
          help_heading = "Figure")]
    pub dimensions: Option<[usize; 2]>,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE", help_heading = "Figure")]
    pub out: Picture,
}

#[derive(Debug, Args)]
pub struct KlPerDimension {
    #[command(flatten)]
    pub input: Input,

    /// In the order of the dimensions [default: largest first]
    #[arg(long, help_heading = "Figure")]
    pub by_index: bool,

    /// A logarithmic axis, which tells small values apart
    #[arg(long, help_heading = "Figure")]
    pub log: bool,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE", help_heading = "Figure")]
    pub out: Picture,
}

#[derive(Debug, Args)]
pub struct Roc {
    /// The scores: CSV with a header, such as `elbo score` writes
    #[arg(long, value_name = "FILE")]
    pub scores: PathBuf,

    /// The column of the scores; name several to compare them [default: negative_elbo]
    #[arg(long, value_name = "NAME")]
    pub score_column: Vec<String>,

    /// The column of the labels
    #[arg(long, value_name = "NAME", default_value = "label")]
    pub label_column: String,

    /// Labels in a file of their own instead, as --labels of `elbo train`, one for each row of --scores
    #[arg(long, value_name = "FILE", conflicts_with = "label_column")]
    pub labels: Option<PathBuf>,

    /// The label of the positive class, the one that high scores are to find [default: 1, where labels
    /// are 0 and 1]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub positive: Option<String>,

    /// Print one line of JSON: rows, positive, positives, scores (for each column: column, roc_auc,
    /// average_precision)
    #[arg(long)]
    pub json: bool,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE")]
    pub out: Picture,
}

#[derive(Debug, Args)]
pub struct Kl {
    /// One more row of the table: mean and standard deviation, such as 0.5,0.3
    #[arg(long, value_name = "MU,SIGMA", value_parser = gaussian, allow_hyphen_values = true)]
    pub at: Vec<[f64; 2]>,

    /// Print the table as one line of JSON: mu, sigma, kl (nats) of each row
    #[arg(long)]
    pub json: bool,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE")]
    pub out: Picture,
}

fn pair(text: &str) -> Result<[usize; 2], &'static str> {
    let numbers = text.split_once(',').map(|(i, j)| [i, j].map(|n| n.trim().parse().ok()));
    match numbers {
        Some([Some(i), Some(j)]) if i != j => Ok([i, j]),
        _ => Err("expected two different dimensions with a comma between them, such as 0,3"),
    }
}

fn gaussian(text: &str) -> Result<[f64; 2], &'static str> {
    let finite = |number: &str| number.trim().parse().ok().filter(|n: &f64| n.is_finite());
    let numbers = text.split_once(',').map(|(mu, sigma)| [mu, sigma].map(finite));
    match numbers {
        Some([Some(mu), Some(sigma)]) if sigma > 0.0 => Ok([mu, sigma]),
        _ => Err("expected a mean and a standard deviation above 0, such as 0.5,0.3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_of_two_numbers() {
        assert_eq!(pair("0, 3"), Ok([0, 3]));
        assert!(["", "1", "1,1", "-1,2", "1,2,3", "a,b"].into_iter().all(|t| pair(t).is_err()));
        assert_eq!(gaussian("-1,2"), Ok([-1.0, 2.0]));
        assert!(["0,0", "0,-1", "0", "NaN,1", "0,inf"].into_iter().all(|t| gaussian(t).is_err()));
    }
}
