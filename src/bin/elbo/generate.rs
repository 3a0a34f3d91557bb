//! `elbo sample`, `elbo reconstruct` and `elbo encode`: what a model makes of noise or of data.

use crate::args::{self, PictureOrArray};
use crate::data::Data;
use crate::failure::{Failure, Result};
use crate::model::is_signed;
use crate::output::write_file;
use crate::pictures;
use elbo::vae::Vae;
use elbo::{Augmentation, Compute};
use ndarray::{Array2, ArrayView2, Axis, Slice, concatenate};
use ndarray_npy::WriteNpyExt;
use std::path::Path;

/// Rows that go through the model at a time: a large file of bytes is never all numbers at once.
const PIECE: usize = 4096;
/// Pairs in a picture, if nobody says how many.
const PAIRS: usize = 40;
/// A picture of more images would be too large to look at.
const MOST_IMAGES: usize = 10_000;

pub fn sample(args: &args::Sample, compute: &Compute) -> Result<()> {
    let (vae, _) = args.model.open()?;
    let shape = args.shape.of(vae.config().features(), None)?;
    if matches!(args.out, PictureOrArray::Picture(_)) {
        check_images(args.count)?;
    }
    let classes = vae.config().conditions();
    check_label(args.label, classes)?;
    let mut samples = samples(&vae, compute, args.count, args.seed, args.label)?;
    match &args.out {
        PictureOrArray::Array(path) => write_array(path, samples.view()),
        PictureOrArray::Picture(path) => {
            if is_signed(vae.config().likelihood(), args.signed) {
                pictures::from_signed(&mut samples);
            }
            let columns = if args.label.is_none() && classes > 0 { Some(classes) } else { None };
            let picture = pictures::grid(samples.view(), shape, columns);
            write_file(path, |file| pictures::write_png(&picture, file))
        }
    }
}

fn check_label(label: Option<usize>, classes: usize) -> Result<()> {
    match label {
        Some(_) if classes == 0 => Err(Failure::Usage(
            "--label: the model has no conditions; `elbo train --labels` (of the embedded sample: \
             --conditional) makes one that has"
                .to_owned(),
        )),
        Some(label) if label >= classes => Err(Failure::Usage(format!(
            "--label {label}: the model has {classes} classes, 0 to {}",
            classes - 1
        ))),
        _ => Ok(()),
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
    let (vae, _, data) = args.input.open(Augmentation::None)?;
    let shape = args.shape.of(data.width(), data.image)?;
    match &args.out {
        PictureOrArray::Array(path) => {
            let rows = args.count.unwrap_or(usize::MAX).min(data.len());
            let outputs = by_pieces(&data, rows, vae.config().features(), |inputs, conditions| {
                reconstructions(&vae, compute, inputs, conditions)
            })?;
            write_array(path, outputs.view())
        }
        PictureOrArray::Picture(path) => {
            let rows = args.count.unwrap_or(PAIRS).min(data.len());
            check_images(rows)?;
            let mut inputs = data.numbers(0..rows);
            let conditions = data.conditions(0..rows);
            let conditions = conditions.as_ref().map(|c| c.view());
            let mut outputs = reconstructions(&vae, compute, inputs.view(), conditions)?;
            if is_signed(vae.config().likelihood(), data.signed) {
                pictures::from_signed(&mut inputs);
                pictures::from_signed(&mut outputs);
            }
            let picture = pictures::pairs(inputs.view(), outputs.view(), shape);
            write_file(path, |file| pictures::write_png(&picture, file))
        }
    }
}

pub fn encode(args: &args::Encode, compute: &Compute) -> Result<()> {
    let (vae, _, data) = args.input.open(Augmentation::None)?;
    write_array(&args.out, codes(&vae, compute, &data)?.view())
}

/// μ and logvar of each row, side by side.
pub fn codes(vae: &Vae, compute: &Compute, data: &Data) -> Result<Array2<f32>> {
    // Labels of a model without conditions are there to be looked at.
    let conditional = vae.config().conditions() > 0;
    by_pieces(data, data.len(), 2 * vae.config().latent(), |inputs, conditions| {
        let code = match conditions.filter(|_| conditional) {
            None => vae.encode(compute, inputs)?,
            Some(conditions) => vae.encode_given(compute, inputs, conditions)?,
        };
        Ok(concatenate![Axis(1), code.mu, code.logvar])
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
        let result = work(data.numbers(piece.clone()).view(), conditions)?;
        results.slice_axis_mut(Axis(0), Slice::from(piece)).assign(&result);
    }
    Ok(results)
}

fn check_images(count: usize) -> Result<()> {
    if count <= MOST_IMAGES {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--count {count}: expected at most {MOST_IMAGES} for a .png; write a .npy instead"
    )))
}

fn write_array(path: &Path, array: ArrayView2<f32>) -> Result<()> {
    write_file(path, |file| array.write_npy(file))
}
