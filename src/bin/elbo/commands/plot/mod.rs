//! `elbo plot`: figures of a run, of a model's codes and of scores.

mod history;
mod kl;
mod kl_per_dimension;
mod latent;
mod ranking;
mod roc;
mod scores;

use crate::failure::Result;
use clap::{Args, Subcommand};
use elbo::Compute;
use history::HistoryOptions;
use kl::KlOptions;
use kl_per_dimension::KlPerDimensionOptions;
use latent::LatentOptions;
use roc::RocOptions;

/// Draw figures: of a run, of a model's codes, of scores, of the KL divergence
#[derive(Debug, Args)]
// Without a figure: a message of one line that names them, not the help.
#[command(
    arg_required_else_help = false,
    after_help = "\
Each figure is a PNG or an SVG, as the name after --out says; `elbo plot FIGURE --help` says more.

Examples:
  elbo plot history --run elbo-out --out history.png
  elbo plot latent --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--labels t10k-labels-idx1-ubyte.gz --out latent.svg
  elbo plot roc --scores scores.csv --positive malignant --out roc.png
  elbo plot kl --out kl.png"
)]
pub struct PlotOptions {
    #[command(subcommand)]
    pub what: PlotCommand,
}

#[derive(Debug, Subcommand)]
pub enum PlotCommand {
    /// How the loss, its two terms, their weight and the learning rate went from epoch to epoch
    #[command(after_help = "\
The weight of the KL divergence and the learning rate have panels of their own where they change.

Examples:
  elbo plot history --run elbo-out --out history.svg
  elbo plot history --history elbo-out/history.csv --out history.png")]
    History(HistoryOptions),

    /// A map of the latent means in two dimensions, colored by label
    #[command(after_help = "\
The map takes two of the model's own dimensions as they are, not principal components: those whose mean \
varies most over the data, or those of --dimensions.

Examples:
  elbo plot latent --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--labels t10k-labels-idx1-ubyte.gz --out latent.png
  elbo plot latent --model m.safetensors --data table.npy --dimensions 0,3 --out latent.svg")]
    Latent(LatentOptions),

    /// The KL divergence of each latent dimension as bars
    #[command(after_help = "\
Dimensions below the line at 0.01 nats have collapsed onto the prior: the code says nothing there.

Examples:
  elbo plot kl-per-dimension --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out kl.png
  elbo plot kl-per-dimension --model m.safetensors --data table.npy --by-index --log --out kl.svg")]
    KlPerDimension(KlPerDimensionOptions),

    /// How well scores tell one class from the others: ROC and precision-recall
    #[command(after_help = "\
Higher scores are to mean the positive class. Ties count half in the area under the ROC curve; average \
precision is the sum over thresholds of the precision times the gain in recall, without interpolation. \
Both are printed too.

Examples:
  elbo plot roc --scores scores.csv --positive malignant --out roc.png
  elbo plot roc --scores scores.csv --label-column outlier --positive 1 --score-column negative_elbo \
--score-column reconstruction --json --out roc.svg")]
    Roc(RocOptions),

    /// The KL divergence of one latent dimension from the prior N(0, 1), as curves, a map and a table
    #[command(after_help = "\
Computed by the same kernel as the loss. The table is printed too.

Examples:
  elbo plot kl --out kl.png
  elbo plot kl --at 0.5,0.3 --at -1,2 --out kl.svg")]
    Kl(KlOptions),
}

pub fn run(args: &PlotOptions, compute: &Compute) -> Result<()> {
    match &args.what {
        PlotCommand::History(args) => history::run(args),
        PlotCommand::Latent(args) => latent::run(args, compute),
        PlotCommand::KlPerDimension(args) => kl_per_dimension::run(args, compute),
        PlotCommand::Roc(args) => roc::run(args),
        PlotCommand::Kl(args) => kl::run(args, compute),
    }
}
