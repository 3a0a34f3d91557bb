//! `elbo sample`, `elbo reconstruct` and `elbo encode`: what a model makes of noise or of data.

use crate::args::{self, PictureOrArray};
use crate::data::Data;
use crate::failure::{Failure, Result};
use crate::output::write_file;
use crate::pictures;
use elbo::Compute;
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
    let vae = args.model.open()?;
    let shape = args.shape.of(vae.config().features(), None)?;
    if matches!(args.out, PictureOrArray::Picture(_)) {
        check_images(args.count)?;
    }
    let samples = vae.sample(compute, args.count, args.seed)?;
    match &args.out {
        PictureOrArray::Array(path) => write_array(path, samples.view()),
        PictureOrArray::Picture(path) => {
            let picture = pictures::grid(samples.view(), shape);
            write_file(path, |file| pictures::write_png(&picture, file))
        }
    }
}

pub fn reconstruct(args: &args::Reconstruct, compute: &Compute) -> Result<()> {
    let (vae, data) = args.input.open()?;
    let shape = args.shape.of(data.width(), data.image)?;
    match &args.out {
        PictureOrArray::Array(path) => {
            let rows = args.count.unwrap_or(usize::MAX).min(data.len());
            let outputs = by_pieces(&data, rows, vae.config().features(), |inputs| {
                vae.reconstruct(compute, inputs)
            })?;
            write_array(path, outputs.view())
        }
        PictureOrArray::Picture(path) => {
            let rows = args.count.unwrap_or(PAIRS).min(data.len());
            check_images(rows)?;
            let inputs = data.numbers(0..rows);
            let outputs = vae.reconstruct(compute, inputs.view())?;
            let picture = pictures::pairs(inputs.view(), outputs.view(), shape);
            write_file(path, |file| pictures::write_png(&picture, file))
        }
    }
}

pub fn encode(args: &args::Encode, compute: &Compute) -> Result<()> {
    let (vae, data) = args.input.open()?;
    let codes = by_pieces(&data, data.len(), 2 * vae.config().latent(), |inputs| {
        let code = vae.encode(compute, inputs)?;
        Ok(concatenate![Axis(1), code.mu, code.logvar])
    })?;
    write_array(&args.out, codes.view())
}

/// `work` of the first `rows` rows, `width` wide.
fn by_pieces(
    data: &Data,
    rows: usize,
    width: usize,
    work: impl Fn(ArrayView2<f32>) -> elbo::Result<Array2<f32>>,
) -> Result<Array2<f32>> {
    let mut results = Array2::zeros((rows, width));
    for first in (0..rows).step_by(PIECE) {
        let piece = first..rows.min(first + PIECE);
        let result = work(data.numbers(piece.clone()).view())?;
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
