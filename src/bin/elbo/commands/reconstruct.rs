//! `elbo reconstruct`: the rows of a data set, encoded and decoded.

use crate::data::domain::Accepted;
use crate::data::{Data, DataDescription, ImageShape};
use crate::failure::Result;
use crate::figure::image_grid::{self, Sheet};
use crate::figure::sheet::LabeledSheet;
use crate::model::ModelMetadata;
use crate::model::decode::{by_pieces, reconstructions};
use crate::model::usable;
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::options::values::{MAX_WIDTH, count};
use crate::output::Console;
use crate::output::images::{check_images, expect_images, to_pixels, write_sheet};
use crate::output::path::{DecodedPath, FigurePath};
use crate::output::table::{self, features};
use clap::Args;
use elbo::Compute;
use ndarray::Array2;

/// Default number of pairs in a figure.
const PAIRS: usize = 40;

/// Reconstruct the rows of a data set
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each row is encoded to the mean of its latent code, which is decoded, without noise, to the mean of the \
likelihood, in the units of the training data.

Example:
  elbo reconstruct --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out reconstructions.png")]
pub struct ReconstructOptions {
    #[command(flatten)]
    input: ModelAndData,

    /// Rows to reconstruct, from the first [default: all; in a figure 40]
    #[arg(long, help_heading = None, value_name = "N", value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    count: Option<usize>,

    /// File to write: X.png, X.svg, X.npy, X.csv, or - for CSV
    ///
    /// .png: a sheet of images, inputs above outputs; .svg: the same with a title and names; .npy: the outputs
    /// as an array (float32, or float64 of scaled data, [rows, features]); .csv: a table with a header.
    #[arg(long, short, help_heading = None, value_name = "FILE")]
    out: DecodedPath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &ReconstructOptions, compute: &Compute, console: Console) -> Result<()> {
    let (vae, ModelMetadata { data: notes, .. }, data) =
        args.input.open_for(args.overwrite.of(args.out.path()), Accepted::Finite)?;
    match &args.out {
        DecodedPath::Table(path) => {
            let rows = args.count.unwrap_or(usize::MAX).min(data.len());
            let outputs = by_pieces(&data, rows, vae.config().features(), |inputs, conditions| {
                reconstructions(&vae, compute, inputs, conditions)
            })?;
            console.warn_all(usable::not_finite(outputs.view(), &data));
            let outputs = notes.to_user_units(outputs.view());
            table::write(path, &outputs, &features(&notes, &vae), None)
        }
        DecodedPath::Figure(picture) => {
            let rows = args.count.unwrap_or(PAIRS).min(data.len());
            check_images(rows)?;
            let image = data.image.or(notes.image);
            let like = DataDescription { image, ..notes.clone() };
            let shape =
                expect_images(picture, args.input.reading.image.images(data.width(), &like)?)?;
            let mut inputs = data.numbers(0..rows)?;
            let conditions = data.conditions(0..rows);
            let conditions = conditions.as_ref().map(|c| c.view());
            let mut outputs = reconstructions(&vae, compute, inputs.view(), conditions)?;
            to_pixels(&mut inputs, &vae, &notes);
            to_pixels(&mut outputs, &vae, &notes);
            write_pairs(picture, &data, &inputs, &outputs, shape)
        }
    }
}

/// Draws each input above its output.
fn write_pairs(
    picture: &FigurePath,
    data: &Data,
    inputs: &Array2<f32>,
    outputs: &Array2<f32>,
    shape: ImageShape,
) -> Result<()> {
    let rows = inputs.nrows();
    let sheet: Sheet = image_grid::pairs(inputs.view(), outputs.view(), shape);
    let bands = sheet.rows() / 2;
    // Names stand above columns, so they can only name rows if there is one band.
    let labels = data.label_names().filter(|_| bands == 1);
    let pair = ["input", "output"].map(|name| [name.to_owned(), String::new()]);
    let figure = LabeledSheet {
        title: &match rows {
            1 => format!("The first row of {}", data.file_name()),
            _ => format!("The first {rows} rows of {}", data.file_name()),
        },
        along: "and their reconstructions",
        columns: labels.into_iter().flatten().take(rows).collect(),
        rows: vec![pair; bands].concat(),
        sheet: &sheet,
    };
    write_sheet(&figure, picture)
}
