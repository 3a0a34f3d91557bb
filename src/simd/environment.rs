//! The floating-point environment of a thread: rounding, and what becomes of subnormal numbers.
//!
//! A library compiled with `-ffast-math` may leave a thread in a mode in which subnormal numbers count as
//! 0 (FTZ and DAZ in the MXCSR of x86-64, FZ in the FPCR of 64-bit ARM), and `fesetround` changes how
//! every operation rounds. Both would change bits: those of the caller's thread and, since new threads
//! inherit them, of the threads that it starts. So every kernel runs in the default environment, which
//! is also the one that the compiler assumes, and the caller's is put back afterwards.

/// The default floating-point environment on this thread until it is dropped: rounding to nearest, and
/// subnormal numbers as IEEE 754 has them.
///
/// Costs one load of the control register where it is the default already.
#[must_use = "the environment lasts until the value is dropped"]
pub(crate) struct FloatEnvironment {
    /// The control register to put back; `None` if it was the default.
    before: Option<Control>,
}

impl FloatEnvironment {
    #[inline(always)]
    pub(crate) fn standard() -> Self {
        let control = read();
        let standard = control & !DEVIATIONS;
        if control == standard {
            return Self { before: None };
        }
        write(standard);
        Self { before: Some(control) }
    }
}

impl Drop for FloatEnvironment {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(control) = self.before {
            write(control);
        }
    }
}

/// Puts this thread into the default environment for good.
pub(crate) fn make_standard() {
    std::mem::forget(FloatEnvironment::standard());
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    pub(super) type Control = u32;
    /// FTZ, the rounding mode, and DAZ.
    pub(super) const DEVIATIONS: Control = 1 << 15 | 0b11 << 13 | 1 << 6;

    #[inline(always)]
    pub(super) fn read() -> Control {
        let mut control: Control = 0;
        // SAFETY: stores the 32 bits of MXCSR, which every x86-64 has, to a variable of that size.
        unsafe {
            asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags))
        };
        control
    }

    /// Not inlined, and a barrier to memory accesses: no operation on loaded numbers moves across it.
    #[cold]
    #[inline(never)]
    pub(super) fn write(control: Control) {
        // SAFETY: the value was read from MXCSR, with some of its defined bits cleared, so no reserved bit
        // is set.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags))
        };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    pub(super) type Control = u64;
    /// FZ, the rounding mode, FZ16, AH and FIZ.
    pub(super) const DEVIATIONS: Control = 1 << 24 | 0b11 << 22 | 1 << 19 | 0b11;

    #[inline(always)]
    pub(super) fn read() -> Control {
        let control: Control;
        // SAFETY: reads the control register of the floating-point unit, which user code may.
        unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nostack, preserves_flags)) };
        control
    }

    /// Not inlined, and a barrier to memory accesses: no operation on loaded numbers moves across it.
    #[cold]
    #[inline(never)]
    pub(super) fn write(control: Control) {
        // SAFETY: the value was read from the register, with some of its defined bits cleared.
        unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
    }
}

/// Other processors are taken as they are.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    pub(super) type Control = u32;
    pub(super) const DEVIATIONS: Control = 0;

    pub(super) fn read() -> Control {
        0
    }

    pub(super) fn write(_: Control) {}
}

use register::{Control, DEVIATIONS, read, write};
