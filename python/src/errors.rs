//! Errors of the crate as Python exceptions.

use elbo::Error;
use pyo3::exceptions::{
    PyFloatingPointError, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::{PyErr, PyResult};

/// Returns the exception with the message of an error.
///
/// | error | exception |
/// |---|---|
/// | arrays, data and settings that do not fit, damaged model files | `ValueError` |
/// | a loss, a gradient or an update that is not finite | `FloatingPointError` |
/// | a file that cannot be read or written | `OSError` |
/// | too little memory | `MemoryError` |
/// | no threads, an update that a panic interrupted | `RuntimeError` |
pub fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::NotFiniteLoss { .. }
        | Error::NotFiniteBatch { .. }
        | Error::NotFiniteGradient { .. }
        | Error::NotFiniteUpdate { .. }
        | Error::LogvarOverflow { .. }
        | Error::NoVariance { .. } => PyFloatingPointError::new_err(message),
        Error::Io { path, source } => match source.raw_os_error() {
            // The interpreter picks the subclass, such as `FileNotFoundError`, by the number.
            Some(number) => PyOSError::new_err((number, message_of(number), path)),
            None => PyOSError::new_err(message),
        },
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::Threads { .. } | Error::Interrupted => PyRuntimeError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

/// The system's text for an error number, without the number that Rust adds.
fn message_of(number: i32) -> String {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// Converts the errors of the crate in results.
pub trait OrRaise<T> {
    /// Returns the value, or the exception of the error.
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for elbo::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(to_python)
    }
}
