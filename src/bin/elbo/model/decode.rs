//! Samples, reconstructions and codes of a model.

use crate::data::{Data, DataDescription};
use crate::failure::{Failure, Result};
use crate::text::listed;
use elbo::Compute;
use elbo::vae::{DrawOptions, Encoded, Vae};
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice, concatenate};

/// Rows that are processed at a time, so that a large file of bytes is never converted as a whole.
const PIECE: usize = 4096;

/// Finds the class of `--label`.
pub fn class_of(label: &str, classes: usize, data: &DataDescription) -> Result<usize> {
    if classes == 0 {
        return Err(Failure::Usage(
            "--label: the model is not conditional; train one with `elbo train --conditional`"
                .to_owned(),
        ));
    }
    if !data.classes.is_empty() {
        return data.classes.iter().position(|class| class == label).ok_or_else(|| {
            Failure::Usage(format!(
                "--label {label}: the model has the classes {}",
                listed(&data.classes)
            ))
        });
    }
    match label.parse() {
        Ok(class) if class < classes => Ok(class),
        _ => Err(Failure::Usage(format!(
            "--label {label}: the model has the classes 0 to {}",
            classes - 1
        ))),
    }
}

/// Encodes a class as a condition.
pub fn one_hot(class: usize, classes: usize) -> Array1<f32> {
    Array1::from_shape_fn(classes, |i| f32::from(u8::from(i == class)))
}

/// Draws samples, the means of the likelihood. Those of a conditional model are of the class `label`, or of all classes in turn.
pub fn samples(
    vae: &Vae,
    compute: &Compute,
    count: usize,
    seed: u64,
    label: Option<usize>,
) -> Result<Array2<f32>> {
    Ok(match conditions_of(vae, count, label) {
        None => vae.sample(compute, count, seed)?,
        Some(conditions) => vae.sample_given(compute, conditions.view(), seed)?,
    })
}

/// Draws rows from the likelihood, of the codes and classes of [`samples`].
pub fn drawn(
    vae: &Vae,
    compute: &Compute,
    count: usize,
    options: &DrawOptions,
    label: Option<usize>,
) -> Result<Array2<f32>> {
    Ok(match conditions_of(vae, count, label) {
        None => vae.sample_data(compute, count, options)?,
        Some(conditions) => vae.sample_data_given(compute, conditions.view(), options)?,
    })
}

/// The conditions of samples: the class `label`, or all classes in turn; `None` for a model without any.
fn conditions_of(vae: &Vae, count: usize, label: Option<usize>) -> Option<Array2<f32>> {
    let classes = vae.config().conditions();
    let class = |i: usize| label.unwrap_or(i % classes);
    let one_hot = |(i, j)| f32::from(u8::from(class(i) == j));
    (classes > 0).then(|| Array2::from_shape_fn((count, classes), one_hot))
}

/// Reconstructs inputs, given their conditions if the model is conditional.
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

/// Encodes each row as μ followed by logvar.
pub fn codes(vae: &Vae, compute: &Compute, data: &Data) -> Result<Array2<f32>> {
    by_pieces(data, data.len(), 2 * vae.config().latent(), |inputs, conditions| {
        let code = posterior(vae, compute, inputs, conditions)?;
        Ok(concatenate![Axis(1), code.mu, code.logvar])
    })
}

/// Returns the mean code of one row.
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

/// Applies `work` to the first `rows` rows and their conditions in pieces; its results have `width` columns.
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
