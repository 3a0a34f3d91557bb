//! Data sets whose rows the caller's functions fill.

use crate::arguments::shared;
use crate::status::elbo_status::*;
use crate::status::{Failure, Outcome};
use elbo_rust::Dataset;
use elbo_rust::vae::Config;
use std::ffi::c_void;
use std::panic::resume_unwind;

/// A function of the caller that fills `out`, `columns` numbers, with row `row` of a data set. Returns 0; another
/// number ends the call of the library with ELBO_CALLBACK.
///
/// It is called from the threads of the call's elbo_compute, several at a time, with the rows in any order, and must
/// give the same numbers for a row each time. It must not throw a C++ exception or leave by longjmp.
pub type elbo_read_row = Option<
    unsafe extern "C" fn(context: *mut c_void, row: usize, out: *mut f32, columns: usize) -> i32,
>;

/// Rows that functions of the caller fill.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elbo_dataset {
    /// Number of rows.
    pub rows: usize,
    /// Fills a row, as wide as the model's features.
    pub read_row: elbo_read_row,
    /// Fills the condition of a row, as wide as the model's conditions; null if it has none.
    pub read_condition: elbo_read_row,
    /// First argument of both functions.
    pub context: *mut c_void,
}

/// The payload with which a failed callback unwinds to the function that the caller called.
pub(crate) struct CallbackFailure {
    function: &'static str,
    row: usize,
    code: i32,
}

impl From<Box<CallbackFailure>> for Failure {
    fn from(failure: Box<CallbackFailure>) -> Self {
        let CallbackFailure { function, row, code } = *failure;
        Self::new(ELBO_CALLBACK, format!("`{function}` returned {code} for row {row}"))
    }
}

/// A data set of the caller, with the widths of a model.
pub(crate) struct CallerRows {
    data: elbo_dataset,
    features: usize,
    conditions: usize,
}

// SAFETY: the functions may be called by several threads at a time, with their context, by the contract of the
// header.
unsafe impl Sync for CallerRows {}
// SAFETY: as above; the context is only passed on.
unsafe impl Send for CallerRows {}

impl CallerRows {
    /// # Safety
    /// `data` is null, or a data set of the caller, as the header says.
    pub(crate) unsafe fn new(data: *const elbo_dataset, config: &Config) -> Outcome<Self> {
        // SAFETY: a structure, by the contract.
        let data = *unsafe { shared("data", data) }?;
        if data.read_row.is_none() {
            let message = "`read_row` is a null pointer; set the function that fills a row";
            return Err(Failure::new(ELBO_NULL, message));
        }
        let conditions = if data.read_condition.is_some() { config.conditions() } else { 0 };
        if data.read_condition.is_none() && config.conditions() > 0 {
            let message = format!(
                "`read_condition` is a null pointer; the model has {} conditions a row",
                config.conditions()
            );
            return Err(Failure::new(ELBO_NULL, message));
        }
        Ok(Self { data, features: config.features(), conditions })
    }

    fn call(&self, name: &'static str, read: elbo_read_row, row: usize, out: &mut [f32]) {
        let read = read.expect("checked by `new`");
        // SAFETY: a function of the caller with its context, and memory for the numbers that it fills.
        let code = unsafe { read(self.data.context, row, out.as_mut_ptr(), out.len()) };
        if code != 0 {
            // The crate passes a panic of a data set on, with the trainer as it was before the step. Without the
            // message that `panic!` prints.
            resume_unwind(Box::new(CallbackFailure { function: name, row, code }));
        }
    }
}

impl Dataset for CallerRows {
    fn row_count(&self) -> usize {
        self.data.rows
    }

    fn features(&self) -> usize {
        self.features
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.call("read_row", self.data.read_row, row, out);
    }

    fn conditions(&self) -> usize {
        self.conditions
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        if !out.is_empty() {
            self.call("read_condition", self.data.read_condition, row, out);
        }
    }
}
