//! The module `elbo_vae._core`: the model, its training and the loss kernels on NumPy arrays.
//!
//! Functions borrow the arrays of the caller and release the interpreter's lock while they compute.
//! Settings come as JSON, in the form in which model files hold them; the package `elbo_vae` writes it from
//! keyword arguments. The Python files beside this crate hold everything else.

mod arrays;
mod data;
mod errors;
mod loss;
mod model;
mod scaling;
mod settings;
mod trainer;

use elbo::simd::InstructionSet;
use pyo3::prelude::*;

/// Threads to compute with.
///
/// The number of threads changes no bit of any result.
#[pyclass(frozen, module = "elbo_vae._core")]
pub struct Compute(elbo::Compute);

#[pymethods]
impl Compute {
    /// Starts `threads` threads, the calling one included; as many as the process may use for 0.
    #[new]
    fn new(threads: usize) -> PyResult<Self> {
        let compute = match threads {
            0 => elbo::Compute::parallel(),
            1 => Ok(elbo::Compute::serial()),
            threads => elbo::Compute::new(InstructionSet::detect(), threads),
        };
        compute.map(Self).map_err(errors::to_python)
    }

    /// Number of threads.
    #[getter]
    fn threads(&self) -> usize {
        self.0.threads()
    }

    /// Name of the instruction set of the kernels.
    #[getter]
    fn instruction_set(&self) -> String {
        self.0.simd().to_string()
    }
}

/// The threads of the caller's `Compute`; the calling thread alone if there is none.
fn compute(of: Option<&Compute>) -> elbo::Compute {
    of.map_or_else(elbo::Compute::serial, |compute| compute.0.clone())
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::Compute;
    #[pymodule_export]
    use crate::data::{Data, hold_out};
    #[pymodule_export]
    use crate::loss::{elbo_loss, gaussian_dlogvar, penalty, reconstruction, total_correlation};
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::scaling::fit_scaling;
    #[pymodule_export]
    use crate::settings::{parse_activation, parse_augmentation, parse_optimizer};
    #[pymodule_export]
    use crate::trainer::Trainer;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
