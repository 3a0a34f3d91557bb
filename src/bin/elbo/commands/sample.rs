//! `elbo sample`: samples of a model.

use crate::failure::Result;
use crate::figure::image_grid;
use crate::figure::sheet::LabeledSheet;
use crate::model::ModelMetadata;
use crate::model::decode::{class_of, samples};
use crate::options::data::ModelFile;
use crate::options::reading::ImageSize;
use crate::options::values::{MAX_WIDTH, count, seed};
use crate::output::images::{check_images, expect_images, to_pixels, write_sheet};
use crate::output::path::DecodedPath;
use crate::output::table::{self, TextColumn, features, unique};
use clap::Args;
use elbo::Compute;

/// Draw samples from a model
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each sample is the mean of the likelihood at a code drawn from the prior, in the units of the training data. \
Sample i is a function of the seed, of i and of its class, so the result is deterministic.

Examples:
  elbo sample --model elbo-out/model.safetensors --count 100 --seed 7 --out samples.png
  elbo sample --model table/model.safetensors --count 1000 --out rows.csv
  elbo sample --model conditional.safetensors --label 7 --out sevens.png
  elbo sample --model conditional.safetensors --count 50 --out classes.svg")]
pub struct SampleOptions {
    #[command(flatten)]
    model: ModelFile,

    /// Number of samples
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(MAX_WIDTH),
          allow_negative_numbers = true)]
    count: usize,

    /// Class to draw (conditional models) [default: all in turn]
    ///
    /// By name, or by number from 0 if the classes have no names. All classes in turn are a column each of an
    /// image.
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    label: Option<String>,

    /// Seed of the latent codes
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true)]
    seed: u64,

    /// Map outputs from [-1, 1] to [0, 1] (models not written by elbo)
    ///
    /// A model of `elbo train --signed` does so without this option, and figures always show a tanh output
    /// so.
    #[arg(long)]
    signed: bool,

    #[command(flatten)]
    image: ImageSize,

    /// File to write: X.png, X.svg, X.npy, X.csv, or - for CSV
    ///
    /// .png: a sheet of images; .svg: the same with a title and the classes above the columns; .npy: an array
    /// (float32, or float64 of scaled data, [count, features]); .csv: a table with a header and the class, if there is one.
    #[arg(long, short, value_name = "FILE")]
    out: DecodedPath,
}

pub fn run(args: &SampleOptions, compute: &Compute) -> Result<()> {
    let (vae, ModelMetadata { data: mut notes, .. }) = args.model.open_for(args.out.path(), &[])?;
    notes.signed |= args.signed;
    let shape = args.image.images(vae.config().features(), &notes)?;
    if let DecodedPath::Figure(picture) = &args.out {
        check_images(args.count)?;
        expect_images(picture, shape)?;
    }
    let classes = vae.config().conditions();
    let label = args.label.as_deref().map(|label| class_of(label, classes, &notes)).transpose()?;
    let mut samples = samples(&vae, compute, args.count, args.seed, label)?;
    match &args.out {
        DecodedPath::Table(path) => {
            let samples = notes.to_user_units(samples.view());
            let drawn = |i: usize| notes.class(label.unwrap_or(i % classes));
            let names = features(&notes, &vae);
            let text = (classes > 0).then(|| TextColumn {
                name: unique(&notes.class_column(), &names),
                cells: (0..args.count).map(drawn).collect(),
            });
            table::write(path, &samples, &names, text.as_ref())
        }
        DecodedPath::Figure(picture) => {
            let shape = expect_images(picture, shape)?;
            to_pixels(&mut samples, &vae, &notes);
            let by_class = label.is_none() && classes > 0;
            let sheet = image_grid::grid(samples.view(), shape, by_class.then_some(classes));
            let of_class =
                label.map_or_else(String::new, |l| format!(" of class {}", notes.class(l)));
            let plural = if args.count == 1 { "" } else { "s" };
            let columns = if by_class { classes.min(args.count) } else { 0 };
            let seed = args.seed;
            let figure = LabeledSheet {
                title: &format!("{} sample{plural}{of_class}", args.count),
                along: &if by_class {
                    format!("{} (seed {seed})", notes.class_column())
                } else {
                    format!("seed {seed}")
                },
                columns: (0..columns).map(|class| notes.class(class)).collect(),
                rows: Vec::new(),
                sheet: &sheet,
            };
            write_sheet(&figure, picture)
        }
    }
}
