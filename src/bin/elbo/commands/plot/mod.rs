//! `elbo plot`: figures of a run, of latent codes and of scores.

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
use kl::KlFigureOptions;
use kl_per_dimension::KlPerDimensionOptions;
use latent::LatentOptions;
use roc::RocOptions;

/// Draw figures of a run, of latent codes, of scores and of the KL divergence
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_long_help = "\
The name after --out chooses PNG or SVG. `elbo plot FIGURE --help` explains a figure and its options.

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
    /// Draw the learning curves: loss, reconstruction and KL by epoch
    #[command(after_long_help = "\
The weight of the KL divergence and the learning rate have their own panels if they change.

Examples:
  elbo plot history --run elbo-out --out history.svg
  elbo plot history --history elbo-out/history.csv --out history.png")]
    History(HistoryOptions),

    /// Draw a map of the latent means in two dimensions, colored by label
    #[command(after_long_help = "\
The axes are two latent dimensions, not principal components: those whose mean varies most over the data, \
or those of --dimensions.

Examples:
  elbo plot latent --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--labels t10k-labels-idx1-ubyte.gz --out latent.png
  elbo plot latent --model m.safetensors --data table.npy --dimensions 0,3 --out latent.svg")]
    Latent(LatentOptions),

    /// Draw the KL divergence of each latent dimension as a bar
    #[command(after_long_help = "\
Dimensions below the line at 0.01 nats have collapsed onto the prior: their codes carry no information.

Examples:
  elbo plot kl-per-dimension --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out kl.png
  elbo plot kl-per-dimension --model m.safetensors --data table.npy --by-index --log --out kl.svg")]
    KlPerDimension(KlPerDimensionOptions),

    /// Draw ROC and precision-recall curves of scores
    #[command(after_long_help = "\
Higher scores should indicate the positive class. Ties count half in the area under the ROC curve; average \
precision is the sum over thresholds of the precision times the gain in recall, without interpolation. \
Both are also printed.

Examples:
  elbo plot roc --scores scores.csv --positive malignant --out roc.png
  elbo plot roc --scores scores.csv --label-column outlier --positive 1 --score-column negative_elbo \
--score-column reconstruction --json --out roc.svg")]
    Roc(RocOptions),

    /// Draw the KL divergence of one latent dimension: curves, map, table
    #[command(after_long_help = "\
The values are computed by the same kernel as the loss. The table is also printed.

Examples:
  elbo plot kl --out kl.png
  elbo plot kl --at 0.5,0.3 --at -1,2 --out kl.svg")]
    Kl(KlFigureOptions),
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
