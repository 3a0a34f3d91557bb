//! `elbo score`.

use super::Input;
use super::values::{MAX_WIDTH, TableOrArray, count, fraction, seed};
use clap::Args;

#[derive(Debug, Args)]
pub struct Score {
    #[command(flatten)]
    pub input: Input,

    /// Also estimate -ln p(x) of each row from K samples: column negative_bound
    #[arg(long, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true,
          help_heading = "Scores")]
    pub importance_samples: Option<usize>,

    /// Seed of these samples; the other columns are without noise
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true, help_heading = "Scores")]
    pub seed: u64,

    /// Flag rows whose negative_elbo is above this quantile of the training rows', such as 0.99: column
    /// flagged, 0 or 1
    #[arg(long, value_name = "Q", value_parser = fraction, allow_negative_numbers = true,
          help_heading = "Scores")]
    pub flag_above: Option<f64>,

    /// X.csv, or X.npy for an array (float64, the same columns without row and label) [default: CSV on
    /// standard output]
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<TableOrArray>,
}
