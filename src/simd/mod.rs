//! Instruction sets as values, and the 16 canonical lanes of every kernel.
//!
//! An [`InstructionSet`] is a value: detected or requested once, then passed down. There is no
//! global state and no environment variable, so a program can run two of them side by side, and
//! a test can run all that the machine has in one loop.
//!
//! # How the bits stay the same
//! A kernel sees its data as groups of [`LANES`] = 16 consecutive elements, on every instruction
//! set: one register with AVX-512, two with AVX2, four with NEON, an array in the scalar twins.
//! Lane functions are made of IEEE operations that every target rounds alike (fused
//! multiply-add, add, subtract, multiply, divide, square root, compare, select, bit operations),
//! and sums over lanes run through one fixed tree (`sum`). So the width of a register
//! affects speed alone.
//!
//! Nor does the floating-point environment of the caller change a bit. A thread that takes subnormal
//! numbers for 0 (FTZ and DAZ, as `-ffast-math` sets them) or rounds otherwise than to nearest has the
//! default environment while it is in this crate and its own afterwards; the threads of a
//! [`Compute`](crate::Compute) always have the default. On processors other than x86-64 and 64-bit ARM
//! the environment must be the default.

#[allow(unsafe_code)] // two marker traits for a plain array
pub(crate) mod aligned;
#[allow(unsafe_code)] // the control register of the floating-point unit
pub(crate) mod environment;
pub(crate) mod lanes;
#[allow(unsafe_code)] // one instruction that reads nothing
pub(crate) mod prefetch;
#[allow(unsafe_code)]
pub(crate) mod stream;
pub(crate) mod sum;

pub use aligned::AlignedBuffer;

use crate::error::Error;
use environment::FloatEnvironment;
use pulp::{Scalar128b, WithSimd};
use std::fmt;
use std::str::FromStr;

/// Canonical lanes: the number of consecutive elements that every kernel treats as one group.
pub const LANES: usize = 16;

/// Runs `work` on the instruction set of its caller without inlining it.
///
/// Kernels are inlined into their callers, up to the dispatch, so that they are compiled for its
/// instructions. Long code that several callers share goes through this function instead: it is
/// compiled once for each instruction set, and the call costs little beside a row or a tile.
#[inline(never)]
pub(crate) fn apart<S: pulp::Simd, W: WithSimd>(simd: S, work: W) -> W::Output {
    // Not inlined itself, it enters the target features again, so that its body can be inlined.
    simd.vectorize(work)
}

/// True for portable sets, whose registers are arrays and whose multiply-add is a call for each lane.
///
/// Unrolling and inlining, which real registers need for speed, would be slow to compile there and
/// save nothing.
///
/// pulp's register types are the same structs in all sets, so the number of registers has to tell them
/// apart: 16 of 4 lanes and 8 of 16 lanes are portable only. 16 of 8 lanes are those of AVX2 and of
/// the portable set of that width, which counts as real.
#[inline(always)]
pub(crate) const fn is_portable<S: pulp::Simd>() -> bool {
    // Registers of AVX-512 and NEON are 32; those of AVX2 are 16 of 8 lanes.
    S::REGISTER_COUNT < 32 && S::F32_LANES != 8
}

/// Calls a lane function: inlined for real registers, as a shared function for portable sets.
macro_rules! lane_call {
    ($function:ident($simd:ident: $S:ident, $x:ident: $Argument:ty) -> $Result:ty) => {{
        #[inline(never)]
        fn called<$S: Simd>(simd: $S, x: $Argument) -> $Result {
            $function(simd, x)
        }
        if const { $crate::simd::is_portable::<$S>() } {
            called($simd, $x)
        } else {
            $function($simd, $x)
        }
    }};
}
pub(crate) use lane_call;

/// Token of AVX2 if `S` includes it, for the shuffles that pulp's generic interface does not have.
/// Resolved at compile time.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn avx2<S: pulp::Simd>(simd: S) -> Option<pulp::x86::V3> {
    #[cfg(feature = "avx512")]
    // AVX-512 includes AVX2: its token holds one of that.
    if let Some(v4) = avx512(simd) {
        return Some(*v4);
    }
    (&simd as &dyn std::any::Any).downcast_ref().copied()
}

/// Token of AVX-512 if `S` is that, like [`avx2`].
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
#[inline(always)]
pub(crate) fn avx512<S: pulp::Simd>(simd: S) -> Option<pulp::x86::V4> {
    (&simd as &dyn std::any::Any).downcast_ref().copied()
}

/// An instruction set that this machine can run, as a value to pass down.
///
/// It is only obtained by detection ([`detect`](Self::detect), [`available`](Self::available), or
/// parsing a name), so having one proves that the machine has its instructions.
///
/// ```
/// use elbo::simd::InstructionSet;
///
/// let best = InstructionSet::detect();
/// assert!(InstructionSet::available().contains(&best));
/// assert_eq!("scalar".parse::<InstructionSet>()?.lanes(), 4);
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct InstructionSet(Token);

/// The token types of pulp: each but the scalar ones exists only where its features do.
#[derive(Clone, Copy)]
enum Token {
    Scalar4(Scalar128b),
    #[cfg(feature = "twins")]
    Scalar8(pulp::Scalar256b),
    #[cfg(feature = "twins")]
    Scalar16(pulp::Scalar512b),
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    V4(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl InstructionSet {
    /// Portable code, four lanes at a time.
    pub const SCALAR: Self = Self(Token::Scalar4(Scalar128b));
    /// Portable code in arrays of eight: the twin of a 256-bit register. For tests of the bits
    /// contract on machines without one; slower than [`Self::SCALAR`].
    #[cfg(feature = "twins")]
    pub const SCALAR_8: Self = Self(Token::Scalar8(pulp::Scalar256b));
    /// Portable code in arrays of sixteen: the twin of a 512-bit register, for tests.
    #[cfg(feature = "twins")]
    pub const SCALAR_16: Self = Self(Token::Scalar16(pulp::Scalar512b));

    /// The best instruction set that this machine has: the widest, or [`Self::SCALAR`].
    #[must_use]
    pub fn detect() -> Self {
        *Self::available().last().expect("the scalar sets are always there")
    }

    /// All instruction sets that this machine can run, the best one last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "nothing is pushed where there is nothing to detect")]
        let mut sets = Vec::new();
        // Before the portable set, which is faster: they are never the ones detected.
        #[cfg(feature = "twins")]
        sets.extend([Self::SCALAR_16, Self::SCALAR_8]);
        // From the slowest to the fastest: `detect` takes the last.
        sets.push(Self::SCALAR);
        #[cfg(target_arch = "x86_64")]
        sets.extend(pulp::x86::V3::try_new().map(|token| Self(Token::V3(token))));
        #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
        sets.extend(pulp::x86::V4::try_new().map(|token| Self(Token::V4(token))));
        #[cfg(target_arch = "aarch64")]
        sets.extend(pulp::aarch64::Neon::try_new().map(|token| Self(Token::Neon(token))));
        sets
    }

    /// Returns its name, as [`FromStr`] reads it: `scalar`, `avx2` (with FMA), `avx512` (F, BW, CD, DQ and
    /// VL) or `neon`; with the feature `twins` also `scalar8` and `scalar16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Token::Scalar4(_) => "scalar",
            #[cfg(feature = "twins")]
            Token::Scalar8(_) => "scalar8",
            #[cfg(feature = "twins")]
            Token::Scalar16(_) => "scalar16",
            #[cfg(target_arch = "x86_64")]
            Token::V3(_) => "avx2",
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Token::V4(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => "neon",
        }
    }

    /// Number of `f32` in a register.
    #[must_use]
    pub fn lanes(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        self.dispatch(Lanes)
    }

    /// Runs `op` compiled for this instruction set: the entry point for your own kernels.
    ///
    /// Call it once for the work of a task, never for a row: the call is not inlined. `op` must be a
    /// struct whose `with_simd` is `#[inline(always)]`; closures are not reliably compiled for the
    /// instruction set. The traits are those of pulp 0.22. Until it returns, the thread has the default
    /// floating-point environment (see the [module](self)).
    ///
    /// ```
    /// use elbo::simd::InstructionSet;
    /// use pulp::{Simd, WithSimd};
    ///
    /// struct Halve<'a>(&'a mut [f32]);
    ///
    /// impl WithSimd for Halve<'_> {
    ///     type Output = ();
    ///     #[inline(always)]
    ///     fn with_simd<S: Simd>(self, simd: S) {
    ///         let (vectors, rest) = S::as_mut_simd_f32s(self.0);
    ///         let half = simd.splat_f32s(0.5);
    ///         for vector in vectors {
    ///             *vector = simd.mul_f32s(half, *vector);
    ///         }
    ///         for x in rest {
    ///             *x *= 0.5;
    ///         }
    ///     }
    /// }
    ///
    /// let mut x = [1.0; 37];
    /// InstructionSet::detect().dispatch(Halve(&mut x));
    /// assert_eq!(x, [0.5; 37]);
    /// ```
    #[inline]
    pub fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        use pulp::Simd as _;
        let _environment = FloatEnvironment::standard();
        match self.0 {
            // One arm for each set: `op` is compiled in each, with its target features.
            Token::Scalar4(token) => token.vectorize(op),
            #[cfg(feature = "twins")]
            Token::Scalar8(token) => token.vectorize(op),
            #[cfg(feature = "twins")]
            Token::Scalar16(token) => token.vectorize(op),
            #[cfg(target_arch = "x86_64")]
            Token::V3(token) => pulp::Simd::vectorize(token, op),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Token::V4(token) => pulp::Simd::vectorize(token, op),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(token) => pulp::Simd::vectorize(token, op),
        }
    }
}

/// Returns the widest set of this machine.
impl Default for InstructionSet {
    fn default() -> Self {
        Self::detect()
    }
}

impl PartialEq for InstructionSet {
    fn eq(&self, other: &Self) -> bool {
        // The tokens of pulp have no comparison; names are distinct.
        self.name() == other.name()
    }
}

impl Eq for InstructionSet {}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstructionSet({})", self.name())
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for InstructionSet {
    type Err = Error;

    /// Reads `auto` or one of the names of [`InstructionSet::name`], or the earlier names `v3` for `avx2`
    /// and `v4` for `avx512`.
    ///
    /// # Errors
    /// [`Error::InstructionSet`] for a name that is unknown or that this machine cannot run.
    fn from_str(name: &str) -> Result<Self, Error> {
        let name = match name {
            "auto" => return Ok(Self::detect()),
            "v3" => "avx2",
            "v4" => "avx512",
            name => name,
        };
        let available = Self::available();
        available.iter().copied().find(|set| set.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|set| set.name()).collect();
            Error::InstructionSet { requested: name.to_owned(), available: names.join(", ") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_sets() {
        for set in InstructionSet::available() {
            assert_eq!(set.name().parse::<InstructionSet>().unwrap(), set);
        }
        assert_eq!("auto".parse::<InstructionSet>().unwrap(), InstructionSet::detect());
        for (earlier, name) in [("v3", "avx2"), ("v4", "avx512")] {
            let sets = [earlier, name].map(|name| name.parse::<InstructionSet>().ok());
            assert_eq!(sets[0], sets[1], "{earlier}");
        }
    }

    #[test]
    fn rejects_unknown_names_and_lists_those_available() {
        let message = "v9".parse::<InstructionSet>().unwrap_err().to_string();
        assert!(
            message.contains("`v9`") && message.contains("has ") && message.contains("scalar"),
            "{message}"
        );
    }

    #[test]
    fn only_scalar_sets_are_portable() {
        struct Portable;
        impl WithSimd for Portable {
            type Output = bool;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> bool {
                is_portable::<S>()
            }
        }
        for set in InstructionSet::available() {
            assert_eq!(
                set.dispatch(Portable),
                ["scalar", "scalar16"].contains(&set.name()),
                "{set}"
            );
        }
    }

    #[test]
    fn registers_divide_the_sixteen_lanes() {
        for set in InstructionSet::available() {
            assert_eq!(LANES % set.lanes(), 0, "{set}");
        }
    }
}
