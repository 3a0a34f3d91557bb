//! `elbo encode`: the latent code of each example.

use crate::data::UserRows;
use crate::data::domain::Accepted;
use crate::failure::Result;
use crate::model::decode::codes;
use crate::model::usable;
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::output::Console;
use crate::output::path::TablePath;
use crate::output::table;
use clap::Args;
use elbo::Compute;

/// Write the latent code of each row of a data set
#[derive(Debug, Args)]
#[command(after_long_help = "\
With Z latent dimensions, row i of the array (float32, [rows, 2·Z]) holds the mean mu of row i in columns 0 to \
Z-1 and the logarithm of its variance, logvar, in columns Z to 2·Z-1.

Example:
  elbo encode --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --out codes.npy
  python3 -c \"import numpy as np; mu, logvar = np.split(np.load('codes.npy'), 2, axis=1)\"")]
pub struct EncodeOptions {
    #[command(flatten)]
    input: ModelAndData,

    /// File to write: X.npy, X.csv, or - for CSV on standard output
    ///
    /// The header of a .csv is mu_0 … logvar_0 …
    #[arg(long, short, help_heading = None, value_name = "FILE")]
    out: TablePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &EncodeOptions, compute: &Compute, console: Console) -> Result<()> {
    let (vae, _, data) =
        args.input.open_for(args.overwrite.of(args.out.path()), Accepted::Finite)?;
    let codes = codes(&vae, compute, &data)?;
    console.warn_all(usable::not_finite(codes.view(), &data));
    let latent = vae.config().latent();
    let name = |kind: &'static str| (0..latent).map(move |i| format!("{kind}_{i}"));
    let names: Vec<String> = name("mu").chain(name("logvar")).collect();
    table::write(&args.out, &UserRows::F32(codes), &names, None)
}
