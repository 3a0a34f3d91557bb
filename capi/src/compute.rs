//! Threads as a handle.

use crate::arguments::{Place, end, shared, text};
use crate::status::elbo_status::ELBO_THREADS;
use crate::status::{Failure, Outcome, elbo_status, guard};
use elbo_rust::Compute;
use elbo_rust::simd::InstructionSet;
use std::ffi::{CStr, c_char};

/// Instruction set and threads to compute with. Neither changes a bit of a result.
///
/// May be used by several threads at the same time: the first shares its work with the threads of the handle,
/// the others work alone meanwhile. The child of a fork does not have the threads: a call there with this handle, or
/// with one made from it, is an error (ELBO_THREADS) unless it is of one thread.
#[derive(Clone)]
pub struct elbo_compute {
    compute: Compute,
    /// The process that has the threads.
    process: u32,
}

impl elbo_compute {
    fn new(compute: Compute) -> Self {
        Self { compute, process: std::process::id() }
    }

    /// The threads, to compute with.
    pub(crate) fn here(&self) -> Outcome<&Compute> {
        // A call of the system, which a handle of one thread does without.
        if self.compute.threads() > 1 && self.process != std::process::id() {
            return Err(Failure::new(
                ELBO_THREADS,
                "the threads of the handle are those of another process; make an elbo_compute after the fork",
            ));
        }
        Ok(&self.compute)
    }

    pub(crate) fn simd(&self) -> InstructionSet {
        self.compute.simd()
    }
}

/// Starts threads: one fewer than `threads`, as the calling thread is one of them; for 0, as many as there are
/// processors for this process. Uses the widest instruction set of the machine.
///
/// Errors: ELBO_NULL, ELBO_MISALIGNED; ELBO_OPTION for more than 65536 threads; ELBO_THREADS if the system refuses
/// them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_compute_new(
    compute: *mut *mut elbo_compute,
    threads: usize,
) -> elbo_status {
    guard("elbo_compute_new", || {
        let place = Place::new("compute", compute)?;
        let make = || Ok(elbo_compute::new(start(InstructionSet::detect(), threads)?));
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.fill(make) }
    })
}

/// As `elbo_compute_new`, with an instruction set by name: "auto", "scalar", "avx2", "avx512" or "neon".
///
/// Errors: as `elbo_compute_new`; ELBO_OPTION for a name that is unknown or that this machine does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_compute_new_with(
    compute: *mut *mut elbo_compute,
    instruction_set: *const c_char,
    threads: usize,
) -> elbo_status {
    guard("elbo_compute_new_with", || {
        let place = Place::new("compute", compute)?;
        let make = || {
            // SAFETY: a text, by the contract of the header.
            let name = unsafe { text("instruction_set", instruction_set) }?;
            let simd = name.to_string_lossy().parse()?;
            Ok(elbo_compute::new(start(simd, threads)?))
        };
        // SAFETY: memory of the caller, by the contract of the header.
        unsafe { place.fill(make) }
    })
}

/// Limit on the threads: more are taken for a fault. The memory of their list is not the system's to refuse.
const MOST_THREADS: usize = 65_536;

fn start(simd: InstructionSet, threads: usize) -> Result<Compute, Failure> {
    if threads > MOST_THREADS {
        return Err(Failure::option("threads", "at most 65536", threads));
    }
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Compute::new(simd, if threads == 0 { all() } else { threads })?)
}

/// Returns the number of threads; 0 for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_compute_threads(compute: *const elbo_compute) -> usize {
    // SAFETY: a handle, by the contract of the header.
    unsafe { shared("compute", compute) }.map_or(0, |handle| handle.compute.threads())
}

/// Returns the name of the instruction set; an empty text for a null pointer. The text is static.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_compute_instruction_set(
    compute: *const elbo_compute,
) -> *const c_char {
    const NAMES: [&CStr; 4] = [c"scalar", c"avx2", c"avx512", c"neon"];
    // SAFETY: a handle, by the contract of the header.
    let handle = unsafe { shared("compute", compute) };
    let name = handle.map_or("", |handle| handle.compute.simd().name());
    let named = NAMES.iter().find(|text| text.to_bytes() == name.as_bytes());
    named.map_or(c"", |text| text).as_ptr()
}

/// Ends the threads once no model, inference or trainer uses them. Nothing happens for a null pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elbo_compute_free(compute: *mut elbo_compute) {
    guard("elbo_compute_free", || {
        // SAFETY: a handle that is not used any more, by the contract of the header.
        unsafe { end(compute) };
        Ok(())
    });
}
