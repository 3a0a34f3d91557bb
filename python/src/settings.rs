//! Settings by name, in the JSON of model files.

use crate::errors::OrRaise;
use elbo::Augmentation;
use elbo::layers::activation::Activation;
use elbo::optim::Optimizer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Reads settings from JSON.
pub fn read<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| {
        // Serde adds the place in the JSON, which no user has written.
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        PyValueError::new_err(format!("{what}: {text}"))
    })
}

/// Writes settings as JSON.
pub fn write(settings: &impl serde::Serialize) -> String {
    serde_json::to_string(settings).expect("plain data")
}

/// Returns the JSON of an activation by name, such as `relu` or `leaky-relu:0.2`.
#[pyfunction]
pub fn parse_activation(name: &str) -> PyResult<String> {
    Ok(write(&name.parse::<Activation>().or_raise()?))
}

/// Returns the JSON of an augmentation by name, such as `binarize` or `dequantize:16`.
#[pyfunction]
pub fn parse_augmentation(name: &str) -> PyResult<String> {
    Ok(write(&name.parse::<Augmentation>().or_raise()?))
}

/// Returns the JSON of an optimizer by name, with its default settings.
#[pyfunction]
pub fn parse_optimizer(name: &str) -> PyResult<String> {
    Ok(write(&name.parse::<Optimizer>().or_raise()?))
}
