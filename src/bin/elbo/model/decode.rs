//! What a model makes of noise, of codes and of data.

use crate::data::formats::columns::listed;
use crate::data::{Data, DataDescription};
use crate::failure::{Failure, Result};
use elbo::Compute;
use elbo::vae::{Encoded, Vae};
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice, concatenate};

/// Rows that go through the model at a time: a large file of bytes is never all numbers at once.
const PIECE: usize = 4096;

/// The class that a label names.
pub fn class_of(label: &str, classes: usize, notes: &DataDescription) -> Result<usize> {
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

pub fn one_hot(class: usize, classes: usize) -> Array1<f32> {
    Array1::from_shape_fn(classes, |i| f32::from(u8::from(i == class)))
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
pub fn by_pieces(
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
