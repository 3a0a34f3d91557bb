//! `elbo encode`: the latent code of each example.

use crate::failure::Result;
use crate::model::decode::codes;
use crate::options::data::ModelAndData;
use crate::output::path::array_name;
use crate::output::table;
use clap::Args;
use elbo::Compute;
use std::path::PathBuf;

/// Write the latent code of each example of a data set
#[derive(Debug, Args)]
#[command(after_help = "\
With Z latent dimensions, row i of the array (float32, [rows, 2·Z]) holds the mean mu of example i in \
columns 0 to Z-1 and the logarithm of its variance, logvar, in columns Z to 2·Z-1.

Example:
  elbo encode --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --out codes.npy
  python3 -c \"import numpy as np; mu, logvar = np.split(np.load('codes.npy'), 2, axis=1)\"")]
pub struct EncodeOptions {
    #[command(flatten)]
    pub input: ModelAndData,

    /// X.npy, the array to write, or X.csv, a table with the header mu_0 … logvar_0 …
    #[arg(long, value_name = "FILE", value_parser = array_name, help_heading = "Results")]
    pub out: PathBuf,
}

pub fn run(args: &EncodeOptions, compute: &Compute) -> Result<()> {
    let (vae, _, data) = args.input.open_for(&args.out)?;
    let codes = codes(&vae, compute, &data)?;
    let latent = vae.config().latent();
    let name = |kind: &'static str| (0..latent).map(move |i| format!("{kind}_{i}"));
    let names: Vec<String> = name("mu").chain(name("logvar")).collect();
    table::write(&args.out, codes.view(), &names, None)
}
