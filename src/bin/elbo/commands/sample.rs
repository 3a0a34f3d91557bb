//! `elbo sample`: samples of a model.

use crate::failure::{Failure, Result};
use crate::figure::image_grid;
use crate::figure::sheet::LabeledSheet;
use crate::model::ModelMetadata;
use crate::model::TrainingMetadata;
use crate::model::decode::{class_of, drawn, samples};
use crate::options::data::ModelFile;
use crate::options::overwrite::OverwriteOption;
use crate::options::reading::ImageSize;
use crate::options::values::{MAX_WIDTH, count, seed};
use crate::output::images::{check_images, expect_images, to_pixels, write_sheet};
use crate::output::path::{DecodedPath, is_stdout};
use crate::output::table::{self, TextColumn, features, unique};
use crate::output::{Console, say_json};
use clap::{Args, ValueEnum};
use elbo::Compute;
use elbo::vae::{DrawOptions, Likelihood, Vae, Variance};
use serde::Serialize;

/// Draw samples from a model
#[derive(Debug, Args)]
#[command(after_long_help = "\
A code is drawn from the prior and decoded, in the units of the training data. With --draw data, the default for \
tables, the sample is then drawn from the likelihood, p(x|z), and has the spread of the data: Gaussian noise of \
the model's variance (1/2 for squared error; with --variance optimal that of the validation rows), zeros and ones \
for a Bernoulli likelihood, numbers between them for a continuous one. With --draw mean, the default for images, \
the sample is the mean of that distribution, without its noise. Sample i is a function of the seed, of i and of \
its class, so the result is deterministic.

Examples:
  elbo sample --model elbo-out/model.safetensors --count 100 --seed 7 --out samples.png
  elbo sample --model table/model.safetensors --count 1000 --out rows.csv
  elbo sample --model table/model.safetensors --count 1000 --draw mean --out means.csv
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

    /// Draw data, or only their means [default: data for tables, else mean]
    ///
    /// data: from p(x|z), noise included; mean: the expected value of that, narrower than the data.
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    draw: Option<Draw>,

    /// Seed of the latent codes and of the noise
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

    #[command(flatten)]
    overwrite: OverwriteOption,

    /// Print a line of JSON on standard output
    ///
    /// count, features, draw (data or mean), likelihood, seed, out (path of the file).
    #[arg(long)]
    json: bool,
}

/// The part of the model's distribution that a sample shows.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Draw {
    Data,
    Mean,
}

#[derive(Serialize)]
struct SampleReport {
    count: usize,
    features: usize,
    draw: Draw,
    likelihood: &'static str,
    seed: u64,
    out: String,
}

pub fn run(args: &SampleOptions, compute: &Compute, console: Console) -> Result<()> {
    if args.json && is_stdout(args.out.path()) {
        let message = "--json and --out - both write to standard output; choose one";
        return Err(Failure::Usage(message.to_owned()));
    }
    let (vae, ModelMetadata { data: mut notes, training }) =
        args.model.open_for(args.overwrite.of(args.out.path()), &[])?;
    notes.signed |= args.signed;
    let shape = args.image.images(vae.config().features(), &notes)?;
    if let DecodedPath::Figure(picture) = &args.out {
        check_images(args.count)?;
        expect_images(picture, shape)?;
    }
    let classes = vae.config().conditions();
    let label = args.label.as_deref().map(|label| class_of(label, classes, &notes)).transpose()?;
    let is_table = training.is_some() && notes.is_table(vae.config().features());
    let usual = if is_table { Draw::Data } else { Draw::Mean };
    let draw = args.draw.unwrap_or(usual);
    let mut samples = match draw {
        Draw::Mean => samples(&vae, compute, args.count, args.seed, label)?,
        Draw::Data => {
            let variance = optimal_variance(&vae, training.as_ref())?;
            let options = DrawOptions { seed: args.seed, variance };
            drawn(&vae, compute, args.count, &options, label)?
        }
    };
    let report = SampleReport {
        count: args.count,
        features: vae.config().features(),
        draw,
        likelihood: vae.config().likelihood().name(),
        seed: args.seed,
        out: args.out.path().display().to_string(),
    };
    match &args.out {
        DecodedPath::Table(path) => {
            let samples = notes.to_user_units(samples.view());
            let drawn = |i: usize| notes.class(label.unwrap_or(i % classes));
            let names = features(&notes, &vae);
            let text = (classes > 0).then(|| TextColumn {
                name: unique(&notes.class_column(), &names),
                cells: (0..args.count).map(drawn).collect(),
            });
            table::write(path, &samples, &names, text.as_ref())?;
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
            write_sheet(&figure, picture)?;
        }
    }
    console.note(&described(draw, &vae));
    if args.json { say_json(&report) } else { Ok(()) }
}

/// Returns the note that says what was drawn.
fn described(draw: Draw, vae: &Vae) -> String {
    let likelihood = vae.config().likelihood().name();
    match draw {
        Draw::Data => format!(
            "note: drawn from the {likelihood} likelihood, with its noise (--draw mean: the means alone)"
        ),
        Draw::Mean => format!(
            "note: means of the {likelihood} likelihood, without its noise (--draw data: with it)"
        ),
    }
}

/// Returns the variance of a model that takes that of its batch: that of the validation rows, which the history
/// in the model file implies.
fn optimal_variance(vae: &Vae, training: Option<&TrainingMetadata>) -> Result<Option<f32>> {
    if vae.config().likelihood() != Likelihood::Gaussian(Variance::Optimal) {
        return Ok(None);
    }
    let epoch = training
        .and_then(|training| training.history.iter().find(|record| record.epoch == training.epoch));
    let Some(epoch) = epoch else {
        return Err(Failure::Usage(
            "--draw data: the variance of this model is that of a batch, and its file has no history to take it \
             from; use --draw mean"
                .to_owned(),
        ));
    };
    let features = vae.config().features();
    Ok(Some(Variance::of_reconstruction(epoch.validation_reconstruction, features)))
}
