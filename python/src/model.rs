//! The model: weights, model files, and forward passes.

use crate::Compute;
use crate::arrays::{matrix, vector_of};
use crate::data::{Data, Rows};
use crate::errors::OrRaise;
use crate::settings::{read, write};
use elbo::Dataset;
use elbo::vae::{Config, DrawOptions, Evaluation, EvaluationOptions, Vae};
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that are copied at a time, where rows have to be copied.
const CHUNK: usize = 1 << 20;

/// Two arrays of one type.
type Pair<'py, T> = (Bound<'py, T>, Bound<'py, T>);

/// A function that restores a pickled model, and its arguments.
type Reduced<'py> = (Bound<'py, PyAny>, (String, Bound<'py, PyDict>));

/// A variational autoencoder: its configuration and its weights.
///
/// All methods may be called from several threads at once.
#[pyclass(frozen, module = "elbo_vae._core")]
pub struct Model {
    /// `None` once closed.
    vae: Mutex<Option<Arc<Vae>>>,
}

impl From<Vae> for Model {
    fn from(vae: Vae) -> Self {
        Self { vae: Mutex::new(Some(Arc::new(vae))) }
    }
}

impl Model {
    /// The weights, which stay in memory as long as they are used.
    pub fn vae(&self) -> PyResult<Arc<Vae>> {
        let vae = self.vae.lock().unwrap_or_else(PoisonError::into_inner).clone();
        vae.ok_or_else(|| PyValueError::new_err("the model is closed; load or fit it again"))
    }
}

#[pymethods]
impl Model {
    /// Creates a model with the initial weights of `seed`; `config` is JSON.
    #[new]
    fn new(config: &str, seed: u64) -> PyResult<Self> {
        Ok(Vae::new(read::<Config>("model", config)?, seed).into())
    }

    /// Reads a model file, and returns the model and the notes in it as JSON, if it has any.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<(Self, Option<String>)> {
        let loaded = py.detach(|| Vae::load_with::<serde_json::Value>(&path));
        let (vae, notes) = loaded.or_raise()?;
        Ok((vae.into(), notes.map(|notes| write(&notes))))
    }

    /// Writes a model file, with `notes` (JSON) in its metadata.
    #[pyo3(signature = (path, notes=None))]
    fn save(&self, py: Python<'_>, path: PathBuf, notes: Option<&str>) -> PyResult<()> {
        let vae = self.vae()?;
        let notes: Option<serde_json::Value> = notes.map(|json| read("notes", json)).transpose()?;
        let saved = py.detach(|| match notes {
            None => vae.save(&path),
            Some(notes) => vae.save_with(&path, &notes),
        });
        saved.or_raise()
    }

    /// Creates a model of this configuration (JSON) with the tensors of `tensors`.
    #[staticmethod]
    fn from_tensors(config: &str, tensors: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut vae = Vae::new(read::<Config>("model", config)?, 1);
        let tensor = |name: &str| {
            let found = tensors.get_item(name)?;
            found.ok_or_else(|| PyKeyError::new_err(format!("no tensor `{name}`")))
        };
        let names: Vec<String> = vae.parameters().names().map(str::to_owned).collect();
        for name in names {
            let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
            let (weight, bias) = (tensor(&weight)?, tensor(&bias)?);
            let weight = matrix("weight", &weight)?;
            let bias = vector_of::<f32>("bias", &bias, "float32")?;
            vae.parameters_mut().set(&name, weight.as_array(), bias.as_array()).or_raise()?;
        }
        let names: Vec<String> = vae.parameters().vectors().map(str::to_owned).collect();
        for name in names {
            let values = tensor(&name)?;
            let values = vector_of::<f32>("values", &values, "float32")?;
            vae.parameters_mut().set_vector(&name, values.as_array()).or_raise()?;
        }
        Ok(vae.into())
    }

    /// Returns copies of the weights under the names of model files.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let vae = self.vae()?;
        let (parameters, tensors) = (vae.parameters(), PyDict::new(py));
        for name in parameters.names() {
            let weight: Array2<f32> = parameters.weight(name).expect("a name of its own");
            let bias: Array1<f32> = parameters.bias(name).expect("a name of its own");
            tensors.set_item(format!("{name}.weight"), weight.into_pyarray(py))?;
            tensors.set_item(format!("{name}.bias"), bias.into_pyarray(py))?;
        }
        for name in parameters.vectors() {
            let values = parameters.vector(name).expect("a name of its own").to_owned();
            tensors.set_item(name, values.into_pyarray(py))?;
        }
        Ok(tensors)
    }

    /// The configuration as JSON.
    #[getter]
    fn config(&self) -> PyResult<String> {
        Ok(write(self.vae()?.config()))
    }

    /// D, the width of a row of data.
    #[getter]
    fn features(&self) -> PyResult<usize> {
        Ok(self.vae()?.config().features())
    }

    /// Z, the number of latent dimensions.
    #[getter]
    fn latent(&self) -> PyResult<usize> {
        Ok(self.vae()?.config().latent())
    }

    /// C, the width of the condition of a row; 0 for none.
    #[getter]
    fn conditions(&self) -> PyResult<usize> {
        Ok(self.vae()?.config().conditions())
    }

    /// Number of learned parameters.
    #[getter]
    fn parameters(&self) -> PyResult<usize> {
        Ok(self.vae()?.config().parameters())
    }

    /// Frees the weights. Later calls raise an error; calls under way are not disturbed.
    fn close(&self) {
        *self.vae.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Pickles the configuration and the tensors.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py>> {
        let from_tensors = py.get_type::<Self>().getattr("from_tensors")?;
        Ok((from_tensors, (self.config()?, self.tensors(py)?)))
    }

    fn __repr__(&self) -> String {
        match self.vae() {
            Ok(vae) => format!("Model({}, {} parameters)", vae.config(), vae.config().parameters()),
            Err(_) => "Model(closed)".to_owned(),
        }
    }

    /// Returns the mean and the log-variance of the posterior of each row, float32 `[B, Z]` each.
    #[pyo3(signature = (data, compute=None))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        compute: Option<&Compute>,
    ) -> PyResult<Pair<'py, PyArray2<f32>>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let rows = borrowed.rows();
        expect_conditions(&vae, rows.conditions())?;
        let (mu, logvar) = py.detach(|| encode(&vae, &compute, &rows)).or_raise()?;
        Ok((mu.into_pyarray(py), logvar.into_pyarray(py)))
    }

    /// Returns the mean of the likelihood for latent codes z `[B, Z]`, or with `logits` the decoder's output itself:
    /// float32 `[B, D]`.
    #[pyo3(signature = (z, *, conditions=None, logits=false, compute=None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        z: &Bound<'py, PyAny>,
        conditions: Option<&Bound<'py, PyAny>>,
        logits: bool,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (vae, compute, z) = (self.vae()?, crate::compute(compute), matrix("z", z)?);
        let conditions = conditions.map(|array| matrix("conditions", array)).transpose()?;
        let (z, conditions) = (z.as_array(), conditions.as_ref().map(|array| array.as_array()));
        let decoded = py.detach(|| -> PyResult<_> {
            let wide = beside(&vae, z, conditions)?;
            let wide = wide.as_ref().map_or(z, |wide| wide.view());
            let mut out = Array2::zeros((z.nrows(), vae.config().features()));
            let mut inference = vae.inference(&compute);
            for at in chunks(z.nrows(), vae.config().features()) {
                let (out, z) = (out.slice_mut(s![at.clone(), ..]), wide.slice(s![at, ..]));
                match logits {
                    true => inference.decode_logits(out, z).or_raise()?,
                    false => inference.decode(out, z).or_raise()?,
                }
            }
            Ok(out)
        })?;
        Ok(decoded.into_pyarray(py))
    }

    /// Returns the mean of the likelihood at the mean of each row's latent code, float32 `[B, D]`.
    #[pyo3(signature = (data, compute=None))]
    fn reconstruct<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let rows = borrowed.rows();
        expect_conditions(&vae, rows.conditions())?;
        Ok(py.detach(|| reconstruct(&vae, &compute, &rows)).or_raise()?.into_pyarray(py))
    }

    /// Draws codes from the prior, and returns the mean of the likelihood for each, or with `noise` data drawn from the
    /// likelihood: float32 `[count, D]`. `variance` is that of a Gaussian likelihood in place of the model's.
    #[pyo3(signature = (count, seed, *, noise=false, variance=None, conditions=None, compute=None))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        count: usize,
        seed: u64,
        noise: bool,
        variance: Option<f32>,
        conditions: Option<&Bound<'py, PyAny>>,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (vae, compute) = (self.vae()?, crate::compute(compute));
        let conditions = conditions.map(|array| matrix("conditions", array)).transpose()?;
        let conditions = conditions.as_ref().map(|array| array.as_array());
        if let Some(rows) = conditions.map(|conditions| conditions.nrows()).filter(|&n| n != count)
        {
            let message = format!("`conditions`: expected {count} rows, found {rows}");
            return Err(PyValueError::new_err(message));
        }
        let options = DrawOptions { seed, variance };
        let drawn = py.detach(|| match (conditions, noise) {
            (None, false) => vae.sample(&compute, count, seed),
            (None, true) => vae.sample_data(&compute, count, &options),
            (Some(conditions), false) => vae.sample_given(&compute, conditions, seed),
            (Some(conditions), true) => vae.sample_data_given(&compute, conditions, &options),
        });
        Ok(drawn.or_raise()?.into_pyarray(py))
    }

    /// Returns the two terms of each row's negative ELBO at the mean of its latent code, in nats: the reconstruction and
    /// the KL divergence, float64 `[B]` each.
    #[pyo3(signature = (data, compute=None))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        compute: Option<&Compute>,
    ) -> PyResult<Pair<'py, PyArray1<f64>>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let rows = borrowed.rows();
        let scores = py.detach(|| vae.score(&compute, &rows)).or_raise()?;
        Ok((scores.reconstruction.into_pyarray(py), scores.kl.into_pyarray(py)))
    }

    /// Returns the reconstruction term of each row feature by feature, in nats: float64 `[B, D]`.
    #[pyo3(signature = (data, compute=None))]
    fn score_features<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let rows = borrowed.rows();
        let scores = py.detach(|| -> elbo::Result<_> {
            let mut scores = Array2::zeros((rows.row_count(), rows.features()));
            for at in chunks(rows.row_count(), rows.features()) {
                let part = Part { rows: &rows, first: at.start, count: at.len() };
                let of_part = vae.score_features(&compute, &part)?;
                scores.slice_mut(s![at, ..]).assign(&of_part);
            }
            Ok(scores)
        });
        Ok(scores.or_raise()?.into_pyarray(py))
    }

    /// Evaluates the loss of all rows with one draw of the noise for each, in nats per row. `objective` and
    /// `augmentation` are JSON.
    ///
    /// Returns a dictionary with the loss, its two terms, and the KL divergence and the variance of the mean of
    /// each latent dimension.
    #[pyo3(signature = (data, *, objective=None, augmentation=None, seed=1, compute=None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        objective: Option<&str>,
        augmentation: Option<&str>,
        seed: u64,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let mut options = EvaluationOptions { seed, ..EvaluationOptions::default() };
        if let Some(objective) = objective {
            options.objective = read("objective", objective)?;
        }
        if let Some(augmentation) = augmentation {
            options.augmentation = read("augmentation", augmentation)?;
        }
        let rows = borrowed.rows();
        let found = py.detach(|| vae.evaluate(&compute, &rows, &options)).or_raise()?;
        let active_units = found.active_units();
        let Evaluation { loss, reconstruction, kl, kl_per_dimension, mu_variance, .. } = found;
        let of = PyDict::new(py);
        of.set_item("loss", loss)?;
        of.set_item("reconstruction", reconstruction)?;
        of.set_item("kl", kl)?;
        of.set_item("active_units", active_units)?;
        of.set_item("kl_per_dimension", kl_per_dimension.into_pyarray(py))?;
        of.set_item("mu_variance", mu_variance.into_pyarray(py))?;
        Ok(of)
    }

    /// Estimates ln p(x) of each row by the importance-weighted bound with `samples` samples, in nats: float64
    /// `[B]`.
    #[pyo3(signature = (data, samples, *, seed=1, compute=None))]
    fn marginal_log_likelihood<'py>(
        &self,
        py: Python<'py>,
        data: &Data,
        samples: usize,
        seed: u64,
        compute: Option<&Compute>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let (vae, compute, borrowed) = (self.vae()?, crate::compute(compute), data.borrow(py)?);
        let options = EvaluationOptions { seed, ..EvaluationOptions::default() };
        let rows = borrowed.rows();
        let found = py.detach(|| vae.marginal_log_likelihood(&compute, &rows, samples, &options));
        Ok(found.or_raise()?.of_rows.into_pyarray(py))
    }
}

/// Ranges of rows of so many numbers each, to be copied one after the other.
fn chunks(rows: usize, width: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let size = (CHUNK / width.max(1)).clamp(64, 1 << 16);
    (0..rows).step_by(size).map(move |first| first..rows.min(first + size))
}

/// Returns an error if the width of the conditions is not that of the model.
fn expect_conditions(vae: &Vae, found: usize) -> PyResult<()> {
    let expected = vae.config().conditions();
    if expected == found {
        return Ok(());
    }
    let message = format!("`conditions`: expected {expected} columns, found {found}");
    Err(PyValueError::new_err(message))
}

/// Codes with their conditions to the right; `None` for a model without conditions.
fn beside(
    vae: &Vae,
    z: ArrayView2<'_, f32>,
    conditions: Option<ArrayView2<'_, f32>>,
) -> PyResult<Option<Array2<f32>>> {
    expect_conditions(vae, conditions.map_or(0, |conditions| conditions.ncols()))?;
    let Some(conditions) = conditions else { return Ok(None) };
    if conditions.nrows() != z.nrows() {
        let message =
            format!("`conditions`: expected {} rows, found {}", z.nrows(), conditions.nrows());
        return Err(PyValueError::new_err(message));
    }
    Ok(Some(concatenate(Axis(1), &[z, conditions]).expect("the same number of rows")))
}

/// The posterior of each row.
fn encode(
    vae: &Vae,
    compute: &elbo::Compute,
    rows: &Rows<'_>,
) -> elbo::Result<(Array2<f32>, Array2<f32>)> {
    let dim = (rows.row_count(), vae.config().latent());
    let (mut mu, mut logvar) = (Array2::zeros(dim), Array2::zeros(dim));
    let mut inference = vae.inference(compute);
    for at in chunks(rows.row_count(), rows.features()) {
        let (mu, logvar) = (mu.slice_mut(s![at.clone(), ..]), logvar.slice_mut(s![at.clone(), ..]));
        if let Some(x) = rows.plain() {
            inference.encode(mu, logvar, x.slice(s![at, ..]))?;
            continue;
        }
        let x = rows.read(at.start, at.len());
        let x = match rows.read_conditions(at.start, at.len()) {
            None => x,
            Some(conditions) => concatenate(Axis(1), &[x.view(), conditions.view()])
                .expect("the same number of rows"),
        };
        inference.encode(mu, logvar, x.view())?;
    }
    Ok((mu, logvar))
}

/// The reconstruction of each row, without noise.
fn reconstruct(vae: &Vae, compute: &elbo::Compute, rows: &Rows<'_>) -> elbo::Result<Array2<f32>> {
    let mut out = Array2::zeros((rows.row_count(), rows.features()));
    let mut inference = vae.inference(compute);
    for at in chunks(rows.row_count(), rows.features()) {
        let out = out.slice_mut(s![at.clone(), ..]);
        if let Some(x) = rows.plain() {
            inference.reconstruct(out, x.slice(s![at, ..]))?;
            continue;
        }
        let x = rows.read(at.start, at.len());
        match rows.read_conditions(at.start, at.len()) {
            None => inference.reconstruct(out, x.view())?,
            Some(given) => {
                let pixels = vae.reconstruct_given(compute, x.view(), given.view())?;
                let mut out = out;
                out.assign(&pixels);
            }
        }
    }
    Ok(out)
}

/// Some rows of a data set.
struct Part<'a> {
    rows: &'a Rows<'a>,
    first: usize,
    count: usize,
}

impl Dataset for Part<'_> {
    fn row_count(&self) -> usize {
        self.count
    }

    fn features(&self) -> usize {
        self.rows.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.rows.read_row(self.first + row, out);
    }

    fn conditions(&self) -> usize {
        self.rows.conditions()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        self.rows.read_condition(self.first + row, out);
    }
}
