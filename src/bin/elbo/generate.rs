//! `elbo sample`, `elbo reconstruct` and `elbo encode`: what a model makes of noise or of data.

use crate::args::{self, Format, Picture, PictureOrArray, Shape};
use crate::array_file::{self, Words};
use crate::data::Data;
use crate::data::columns::listed;
use crate::failure::{Failure, Result};
use crate::model::is_signed;
use crate::notes::{DataNotes, ImageShape, Notes};
use crate::output::write_file;
use crate::pictures::{self, Sheet};
use crate::plot::{self, Strips};
use crate::scaling::Scaling;
use crate::traverse::file_name;
use elbo::Compute;
use elbo::vae::{Encoded, Vae};
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice, concatenate};

/// Rows that go through the model at a time: a large file of bytes is never all numbers at once.
const PIECE: usize = 4096;
/// Pairs in a picture, if nobody says how many.
const PAIRS: usize = 40;
/// A picture of more images would be too large to look at.
pub const MOST_IMAGES: usize = 10_000;

pub fn sample(args: &args::Sample, compute: &Compute) -> Result<()> {
    let (vae, Notes { data: mut notes, .. }) = args.model.open()?;
    notes.signed |= args.signed;
    let shape = args.shape.of(vae.config().features(), notes.image)?;
    if let PictureOrArray::Picture(picture) = &args.out {
        check_images(args.count)?;
        check_pictures(picture, &args.shape, &notes)?;
    }
    let classes = vae.config().conditions();
    let label = args.label.as_deref().map(|label| class_of(label, classes, &notes)).transpose()?;
    let mut samples = samples(&vae, compute, args.count, args.seed, label)?;
    match &args.out {
        PictureOrArray::Array(path) => {
            notes.to_user_units(&mut samples);
            let drawn = |i: usize| notes.class(label.unwrap_or(i % classes));
            let words = (classes > 0).then(|| Words {
                name: class_column(&notes),
                cells: (0..args.count).map(drawn).collect(),
            });
            array_file::write(path, samples.view(), &features(&notes, &vae), words.as_ref())
        }
        PictureOrArray::Picture(picture) => {
            to_picture(&mut samples, &vae, &notes);
            let by_class = label.is_none() && classes > 0;
            let sheet = pictures::grid(samples.view(), shape, by_class.then_some(classes));
            let of_class =
                label.map_or_else(String::new, |l| format!(" of class {}", notes.class(l)));
            let plural = if args.count == 1 { "" } else { "s" };
            let columns = if by_class { classes.min(args.count) } else { 0 };
            let seed = args.seed;
            let figure = Strips {
                title: &format!("{} sample{plural}{of_class}", args.count),
                along: &if by_class {
                    format!("{} (seed {seed})", class_column(&notes))
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

/// What the column of classes is called.
fn class_column(notes: &DataNotes) -> String {
    notes.label_column.clone().unwrap_or_else(|| "class".to_owned())
}

/// As PNG the sheet alone, as SVG with its title and names.
fn write_sheet(figure: &Strips, picture: &Picture) -> Result<()> {
    match picture.format {
        Format::Png => write_file(&picture.path, |file| pictures::write_png(figure.sheet, file)),
        Format::Svg => plot::write(figure, picture),
    }
}

/// What the columns of a table of rows are called.
fn features(notes: &DataNotes, vae: &Vae) -> Vec<String> {
    (0..vae.config().features()).map(|i| notes.feature(i)).collect()
}

/// Rows as a model gave or saw them, as gray or colors from 0 to 1.
pub fn to_picture(rows: &mut Array2<f32>, vae: &Vae, notes: &DataNotes) {
    if notes.image.is_some() || notes.scaling == Scaling::None {
        notes.to_user_units(rows);
    }
    // Of data that were from −1 to 1 as they came.
    if !notes.signed && is_signed(vae.config().likelihood(), false) {
        pictures::from_signed(rows);
    }
}

/// The class that a label names.
pub fn class_of(label: &str, classes: usize, notes: &DataNotes) -> Result<usize> {
    if classes == 0 {
        return Err(Failure::Usage(
            "--label: the model has no conditions; `elbo train --conditional` makes one that has"
                .to_owned(),
        ));
    }
    if !notes.classes.is_empty() {
        return notes.classes.iter().position(|class| class == label).ok_or_else(|| {
            Failure::Usage(format!(
                "--label {label}: the model has the classes {}",
                listed(&notes.classes)
            ))
        });
    }
    match label.parse() {
        Ok(class) if class < classes => Ok(class),
        _ => Err(Failure::Usage(format!(
            "--label {label}: the model has {classes} classes, 0 to {}",
            classes - 1
        ))),
    }
}

/// Samples of a model: of a conditional one those of a class, or of all classes in turn.
pub fn samples(
    vae: &Vae,
    compute: &Compute,
    count: usize,
    seed: u64,
    label: Option<usize>,
) -> Result<Array2<f32>> {
    let classes = vae.config().conditions();
    if classes == 0 {
        return Ok(vae.sample(compute, count, seed)?);
    }
    let class = |i: usize| label.unwrap_or(i % classes);
    let one_hot = |(i, j)| f32::from(u8::from(class(i) == j));
    let conditions = Array2::from_shape_fn((count, classes), one_hot);
    Ok(vae.sample_given(compute, conditions.view(), seed)?)
}

/// What a model makes of data, given their conditions if they have some.
pub fn reconstructions(
    vae: &Vae,
    compute: &Compute,
    inputs: ArrayView2<f32>,
    conditions: Option<ArrayView2<f32>>,
) -> Result<Array2<f32>> {
    Ok(match conditions {
        None => vae.reconstruct(compute, inputs)?,
        Some(conditions) => vae.reconstruct_given(compute, inputs, conditions)?,
    })
}

pub fn reconstruct(args: &args::Reconstruct, compute: &Compute) -> Result<()> {
    let (PictureOrArray::Picture(Picture { path: out, .. }) | PictureOrArray::Array(out)) =
        &args.out;
    let (vae, Notes { data: notes, .. }, data) = args.input.open_for(out)?;
    let shape = args.shape.of(data.width(), data.image.or(notes.image))?;
    match &args.out {
        PictureOrArray::Array(path) => {
            let rows = args.count.unwrap_or(usize::MAX).min(data.len());
            let mut outputs =
                by_pieces(&data, rows, vae.config().features(), |inputs, conditions| {
                    reconstructions(&vae, compute, inputs, conditions)
                })?;
            notes.to_user_units(&mut outputs);
            array_file::write(path, outputs.view(), &features(&notes, &vae), None)
        }
        PictureOrArray::Picture(picture) => {
            let rows = args.count.unwrap_or(PAIRS).min(data.len());
            check_images(rows)?;
            check_pictures(picture, &args.shape, &notes)?;
            let mut inputs = data.numbers(0..rows)?;
            let conditions = data.conditions(0..rows);
            let conditions = conditions.as_ref().map(|c| c.view());
            let mut outputs = reconstructions(&vae, compute, inputs.view(), conditions)?;
            to_picture(&mut inputs, &vae, &notes);
            to_picture(&mut outputs, &vae, &notes);
            write_pairs(picture, &data, &inputs, &outputs, shape)
        }
    }
}

/// Each input above its output.
fn write_pairs(
    picture: &Picture,
    data: &Data,
    inputs: &Array2<f32>,
    outputs: &Array2<f32>,
    shape: ImageShape,
) -> Result<()> {
    let rows = inputs.nrows();
    let sheet: Sheet = pictures::pairs(inputs.view(), outputs.view(), shape);
    let bands = sheet.rows() / 2;
    // Names are over columns: each is of one row as long as there is one band.
    let labels = data.label_names().filter(|_| bands == 1);
    let pair = ["input", "output"].map(|name| [name.to_owned(), String::new()]);
    let figure = Strips {
        title: &match rows {
            1 => format!("The first row of {}", file_name(data)),
            _ => format!("The first {rows} rows of {}", file_name(data)),
        },
        along: "and what the model makes of them",
        columns: labels.into_iter().flatten().take(rows).collect(),
        rows: vec![pair; bands].concat(),
        sheet: &sheet,
    };
    write_sheet(&figure, picture)
}

pub fn encode(args: &args::Encode, compute: &Compute) -> Result<()> {
    let (vae, _, data) = args.input.open_for(&args.out)?;
    let codes = codes(&vae, compute, &data)?;
    let latent = vae.config().latent();
    let name = |kind: &'static str| (0..latent).map(move |i| format!("{kind}_{i}"));
    let names: Vec<String> = name("mu").chain(name("logvar")).collect();
    array_file::write(&args.out, codes.view(), &names, None)
}

/// μ and logvar of each row, side by side.
pub fn codes(vae: &Vae, compute: &Compute, data: &Data) -> Result<Array2<f32>> {
    by_pieces(data, data.len(), 2 * vae.config().latent(), |inputs, conditions| {
        let code = posterior(vae, compute, inputs, conditions)?;
        Ok(concatenate![Axis(1), code.mu, code.logvar])
    })
}

/// The mean code of one row.
pub fn code_of(vae: &Vae, compute: &Compute, data: &Data, row: usize) -> Result<Array1<f32>> {
    let conditions = data.conditions(row..row + 1);
    let conditions = conditions.as_ref().map(|c| c.view());
    let code = posterior(vae, compute, data.numbers(row..row + 1)?.view(), conditions)?;
    Ok(code.mu.row(0).to_owned())
}

fn posterior(
    vae: &Vae,
    compute: &Compute,
    inputs: ArrayView2<f32>,
    conditions: Option<ArrayView2<f32>>,
) -> Result<Encoded> {
    Ok(match conditions {
        None => vae.encode(compute, inputs)?,
        Some(conditions) => vae.encode_given(compute, inputs, conditions)?,
    })
}

/// `work` of the first `rows` rows and their conditions, `width` wide.
fn by_pieces(
    data: &Data,
    rows: usize,
    width: usize,
    work: impl Fn(ArrayView2<f32>, Option<ArrayView2<f32>>) -> Result<Array2<f32>>,
) -> Result<Array2<f32>> {
    let mut results = Array2::zeros((rows, width));
    for first in (0..rows).step_by(PIECE) {
        let piece = first..rows.min(first + PIECE);
        let conditions = data.conditions(piece.clone());
        let conditions = conditions.as_ref().map(|c| c.view());
        let result = work(data.numbers(piece.clone())?.view(), conditions)?;
        results.slice_axis_mut(Axis(0), Slice::from(piece)).assign(&result);
    }
    Ok(results)
}

fn check_images(count: usize) -> Result<()> {
    if count <= MOST_IMAGES {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--count {count}: expected at most {MOST_IMAGES} in a picture; write a .npy or .csv instead"
    )))
}

/// That rows are pictures, or are said to be.
fn check_pictures(picture: &Picture, shape: &Shape, notes: &DataNotes) -> Result<()> {
    if !notes.is_table() || shape.is_given() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--out {}: the model is of a table, whose rows are no pictures; write a .csv or .npy, or say what \
         they look like with --shape HxW",
        picture.path.display()
    )))
}
