//! Status codes, and the message of the last error of each thread.

use crate::data::CallbackFailure;
use elbo_rust::Error;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Result of a function: `ELBO_OK`, which is 0, or the kind of the error. `elbo_last_error_message` has the
/// details.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum elbo_status {
    /// No error.
    ELBO_OK = 0,
    /// A pointer is null where the function reads or writes.
    ELBO_NULL = 1,
    /// A pointer is not a multiple of the size of what it points to.
    ELBO_MISALIGNED = 2,
    /// A row stride is less than the number of columns.
    ELBO_STRIDE = 3,
    /// Memory that is written overlaps other memory of the same call.
    ELBO_OVERLAP = 4,
    /// A number of rows or columns does not fit the model, the other arguments, or the address space.
    ELBO_SIZE = 5,
    /// A setting is outside its domain or does not go with the others.
    ELBO_OPTION = 6,
    /// A value of the data is one that the loss does not accept.
    ELBO_DATA = 7,
    /// A loss, a gradient or an update is NaN or infinite.
    ELBO_NOT_FINITE = 8,
    /// The machine does not have the memory.
    ELBO_MEMORY = 9,
    /// The system refuses the threads.
    ELBO_THREADS = 10,
    /// A file cannot be read or written.
    ELBO_IO = 11,
    /// A file is damaged or not a model file.
    ELBO_MODEL_FILE = 12,
    /// A function of the caller reported a failure.
    ELBO_CALLBACK = 13,
    /// Another thread, or a callback, is using the handle.
    ELBO_BUSY = 14,
    /// An update of the weights was interrupted, and the trainer cannot go on.
    ELBO_INTERRUPTED = 15,
    /// A fault of this library. Please report it.
    ELBO_INTERNAL = 16,
}

use elbo_status::*;

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    status: elbo_status,
    message: String,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: elbo_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A setting outside its domain, in the words of [`Error::Config`].
    pub(crate) fn option(setting: &str, expected: &str, found: impl Display) -> Self {
        Self::new(ELBO_OPTION, format!("`{setting}`: expected {expected}, found {found}"))
    }

    fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<CallbackFailure>() {
            Ok(failure) => return failure.into(),
            Err(payload) => payload,
        };
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "without a message".to_owned());
        Self::new(ELBO_INTERNAL, format!("a fault of the library, please report it: {text}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Shape { .. } | Error::Layout { .. } => ELBO_SIZE,
            Error::TargetOutOfRange { .. }
            | Error::NotFiniteData { .. }
            | Error::NotFiniteCondition { .. } => ELBO_DATA,
            Error::NotFiniteLoss { .. }
            | Error::NotFiniteGradient { .. }
            | Error::NotFiniteBatch { .. }
            | Error::NotFiniteUpdate { .. }
            | Error::NoVariance { .. }
            | Error::LogvarOverflow { .. } => ELBO_NOT_FINITE,
            Error::Memory { .. } => ELBO_MEMORY,
            Error::Interrupted => ELBO_INTERRUPTED,
            Error::Config { .. } | Error::InstructionSet { .. } => ELBO_OPTION,
            Error::Threads { .. } => ELBO_THREADS,
            Error::Io { .. } => ELBO_IO,
            Error::ModelFile { .. } => ELBO_MODEL_FILE,
            _ => ELBO_INTERNAL,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs the body of the function `name`: turns its error, or a panic in it, into a status, and keeps the message.
pub(crate) fn guard(name: &str, body: impl FnOnce() -> Outcome<()>) -> elbo_status {
    // What a panic leaves behind is either dropped or, in a trainer, checked by the crate.
    let outcome = catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|payload| Err(Failure::of_panic(payload)));
    match outcome {
        Ok(()) => ELBO_OK,
        Err(Failure { status, message }) => {
            // A path may hold a NUL only if the system gave it one; the message then ends there.
            let mut bytes = format!("{name}: {message}").into_bytes();
            bytes.retain(|&byte| byte != 0);
            let text = CString::new(bytes).unwrap_or_default();
            // A thread that is ending has no message any more.
            let _ = LAST.try_with(|last| *last.borrow_mut() = text);
            status
        }
    }
}

/// Returns the message of the last error on the calling thread: the function, what is wrong, where, and what to
/// do. UTF-8; empty if there has been no error.
///
/// A call without an error leaves the message as it is. The text belongs to the library and is valid until the
/// next error on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn elbo_last_error_message() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Returns the name of a status, such as "ELBO_OVERLAP"; "unknown status" for other numbers. The text is
/// static.
#[unsafe(no_mangle)]
pub extern "C" fn elbo_status_name(status: i32) -> *const c_char {
    const NAMES: [(elbo_status, &CStr); 17] = [
        (ELBO_OK, c"ELBO_OK"),
        (ELBO_NULL, c"ELBO_NULL"),
        (ELBO_MISALIGNED, c"ELBO_MISALIGNED"),
        (ELBO_STRIDE, c"ELBO_STRIDE"),
        (ELBO_OVERLAP, c"ELBO_OVERLAP"),
        (ELBO_SIZE, c"ELBO_SIZE"),
        (ELBO_OPTION, c"ELBO_OPTION"),
        (ELBO_DATA, c"ELBO_DATA"),
        (ELBO_NOT_FINITE, c"ELBO_NOT_FINITE"),
        (ELBO_MEMORY, c"ELBO_MEMORY"),
        (ELBO_THREADS, c"ELBO_THREADS"),
        (ELBO_IO, c"ELBO_IO"),
        (ELBO_MODEL_FILE, c"ELBO_MODEL_FILE"),
        (ELBO_CALLBACK, c"ELBO_CALLBACK"),
        (ELBO_BUSY, c"ELBO_BUSY"),
        (ELBO_INTERRUPTED, c"ELBO_INTERRUPTED"),
        (ELBO_INTERNAL, c"ELBO_INTERNAL"),
    ];
    let named = NAMES.iter().find(|(code, _)| *code as i32 == status);
    named.map_or(c"unknown status", |(_, name)| name).as_ptr()
}

/// Returns the version of the library, such as "0.1.0". The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn elbo_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}
