//! Ranges, means and standard deviations of features, as `elbo train --scale` fits them.

use crate::data::{Data, Rows};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

/// Smallest and largest value, mean and standard deviation of each feature, float64 `[D]`.
type Fitted<'py> = [Bound<'py, PyArray1<f64>>; 4];

/// Returns the smallest and the largest value, the mean and the standard deviation (divided by the number of rows) of
/// each feature. A constant feature has a deviation of exactly 0.
///
/// One pass (Welford 1962), in the order of `data`, so that the bits are those of the tool's scaling.
#[pyfunction]
pub fn fit_scaling<'py>(py: Python<'py>, data: &Data) -> PyResult<Fitted<'py>> {
    let borrowed = data.borrow(py)?;
    let rows = borrowed.rows();
    let fitted = py.detach(|| fit(&rows));
    Ok(fitted.map(|values| values.into_pyarray(py)))
}

fn fit(rows: &Rows<'_>) -> [Vec<f64>; 4] {
    use elbo::Dataset;
    let features = rows.features();
    let (mut low, mut high) = (vec![f64::INFINITY; features], vec![f64::NEG_INFINITY; features]);
    let (mut mean, mut squares) = (vec![0.0; features], vec![0.0_f64; features]);
    let mut count = 0.0;
    rows.each(|row| {
        count += 1.0;
        for (j, &x) in row.iter().enumerate() {
            low[j] = low[j].min(x);
            high[j] = high[j].max(x);
            let away = x - mean[j];
            mean[j] += away / count;
            squares[j] += away * (x - mean[j]);
        }
    });
    let is_constant = |j: usize| low[j] >= high[j];
    let deviation = |j: usize| match is_constant(j) {
        true => 0.0,
        false => (squares[j] / f64::max(count, 1.0)).sqrt(),
    };
    let mut std: Vec<f64> = (0..features).map(deviation).collect();
    // Squares that leave the range of float64: once more, in units of the feature's range.
    let inexact: Vec<usize> =
        (0..features).filter(|&j| !is_constant(j) && !squares[j].is_normal()).collect();
    if !inexact.is_empty() {
        let mut by_range = vec![0.0; features];
        rows.each(|row| {
            for &j in &inexact {
                let away = (row[j] - mean[j]) / (high[j] - low[j]);
                by_range[j] += away * away;
            }
        });
        for j in inexact {
            std[j] = (high[j] - low[j]) * (by_range[j] / count).sqrt();
        }
    }
    [low, high, mean, std]
}
