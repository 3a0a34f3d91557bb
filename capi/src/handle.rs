//! Handles that one call at a time may use.

use crate::arguments::{end, shared};
use crate::status::elbo_status::*;
use crate::status::{Failure, Outcome, guard};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that is lent to one call at a time: a second one, from another thread or from a callback of the first,
/// is an error and not a data race.
pub(crate) struct Exclusive<T> {
    is_lent: AtomicBool,
    value: UnsafeCell<T>,
}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { is_lent: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Lends the value to `work`.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> Outcome<R>) -> Outcome<R> {
        let _return = self.lend()?;
        // SAFETY: `is_lent` was false, and is true until `work` has returned or its panic has passed: there is no
        // other reference.
        work(unsafe { &mut *self.value.get() })
    }

    fn lend(&self) -> Outcome<impl Drop> {
        struct Return<'a>(&'a AtomicBool);
        impl Drop for Return<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        if self.is_lent.swap(true, Ordering::Acquire) {
            return Err(Failure::new(
                ELBO_BUSY,
                "the handle is in use by another thread, or by the call that runs this callback; give each \
                 thread a handle of its own",
            ));
        }
        Ok(Return(&self.is_lent))
    }
}

// SAFETY: the value is reached by one thread at a time, as through a mutex.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// Ends a handle that [`Place::fill`](crate::arguments::Place::fill) made. Nothing happens for a null pointer; a
/// handle that a call is using, which may be the call that runs this callback, stays, and the thread's last error
/// says so.
///
/// # Safety
/// The handle has not been ended.
pub(crate) unsafe fn end_unless_lent<H, T>(
    name: &str,
    handle: *mut H,
    value: impl FnOnce(&H) -> &Exclusive<T>,
) {
    if handle.is_null() {
        return;
    }
    guard(name, || {
        // SAFETY: a handle, by the contract.
        let lent = value(unsafe { shared("handle", handle.cast_const()) }?).lend().map(drop);
        lent?;
        // SAFETY: as above; no call uses it.
        unsafe { end(handle) };
        Ok(())
    });
}
