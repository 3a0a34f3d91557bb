//! Hand-written SIMD kernels for MLP variational autoencoders.
//!
//! The crate computes the **evidence lower bound** of a VAE whose encoder and decoder are chains
//! of dense layers, the gradient of that bound, and what training needs around it. Forward and
//! backward passes are derived by hand, without autodiff and without a framework.
//!
//! ```
//! use elbo::{Compute, train::{Options, Trainer}, vae::{Config, Vae}};
//! use ndarray::Array2;
//!
//! let x = Array2::from_shape_fn((256, 64), |(r, c)| f32::from(u8::from((r + c) % 8 < 3)));
//! let vae = Vae::new(Config::builder(64, 4).hidden(&[32]).build()?, 1);
//! let mut trainer = Trainer::new(vae, Options::default(), Compute::parallel()?)?;
//! let epoch = trainer.epoch(&x, |step| println!("{}", step.loss))?;
//! assert!((epoch.loss - (epoch.reconstruction + epoch.kl)).abs() < 1e-9);
//! # Ok::<(), elbo::Error>(())
//! ```
//!
//! # Modules
//! | module | content |
//! |---|---|
//! | [`guide`] | the VAE loss term by term, the library, the tool, exchange with PyTorch and ONNX |
//! | [`vae`], [`train`] | the model and its training |
//! | [`distributed`] | training on several processes or machines |
//! | [`loss`], [`layers`], [`optim`] | kernels that also work alone, on your own arrays |
//! | [`gemm`], [`math`], [`random`] | the building blocks of the kernels |
//! | [`simd`], [`Compute`] | instruction set and threads, as values to pass down |
//!
//! # Dimensions
//! The documentation uses one letter for each dimension:
//!
//! | letter | meaning |
//! |---|---|
//! | B | rows of a batch |
//! | C | conditions: the width of the condition vector of a row |
//! | D | features: the width of a row of data |
//! | H | units of a hidden layer |
//! | Z | latent dimensions |
//! | K, N | inputs and outputs of a dense layer; K is the inner dimension of its product |
//! | M | rows of a product |
//!
//! Matrices are row-major; weights are `[N, K]`, as in PyTorch, wherever they are visible. Losses are
//! in nats.
//!
//! # Threads
//! Functions over a batch of rows, and sums over all weights, take a [`&Compute`](Compute) and share
//! their work among its threads. Element-wise functions on slices, and functions of one row, take an
//! [`InstructionSet`](simd::InstructionSet) and run on the calling thread. [`loss`], [`layers`] and
//! [`optim`] follow this rule without exception. How the threads share work and how they wait is in the
//! [guide](guide::library).
//!
//! # Reproducibility
//! Results do not depend on the instruction set or the number of threads, down to the last bit:
//!
//! - an element of a product is one chain of fused multiply-adds in ascending order ([`gemm`]);
//! - sums run over 16 canonical lanes, which are joined by one fixed tree ([`simd`]);
//! - elementary functions use only operations that every target rounds alike ([`math`]), never the
//!   C library of the platform;
//! - random numbers are a function of the place where they are used ([`random`]);
//! - weight gradients are split over weights, never over partial sums of the batch.
//!
//! So a seed determines the model, on one thread or 64, with scalar code, AVX2, AVX-512 or NEON. The
//! cost is that a processor without fused multiply-add has to emulate it (see below).
//!
//! # Processors
//! The crate runs on any processor; it is fast on those with fused multiply-add in vector registers.
//! [`simd::InstructionSet::detect`] selects the widest instruction set at run time, so a single build
//! serves all machines.
//!
//! | instruction set | processor | one training step, one thread |
//! |---|---|---|
//! | AVX-512 | x86-64 with AVX-512 F, BW, CD, DQ and VL | 2.0 ms |
//! | AVX2 | x86-64 with AVX2 and FMA | 3.8 ms |
//! | NEON | 64-bit ARM | not measured |
//! | scalar | any other; measured with FMA behind a call | 450 ms |
//! | scalar | any other; measured without FMA | 500 ms |
//!
//! (784-400-20, 128 rows, all on the same Zen 5.) The feature `avx512` is on by default. Without it the
//! AVX-512 kernels are not compiled, which saves a third of the compile time, and a processor with
//! AVX-512 uses AVX2, which takes twice as long.
//!
//! A processor without FMA (x86-64 before 2013, some low-power processors since, emulators) uses scalar
//! code, which is more than a hundred times slower than AVX2. Each multiply-add is a call of
//! [`f32::mul_add`], rounded once as the contract requires: product and sum in f64, the sum rounded to
//! odd and then to f32. Most of the cost is the call. Scalar code selected on a processor with FMA pays
//! it as well, because portable code is compiled for the oldest x86-64; the called function detects FMA
//! at run time and uses it, with the same bits.
//!
//! # Errors
//! Public functions check their arguments once and return [`Error`], which names the expected and the
//! found value. NaN in gives NaN out, or an error that names the origin of the NaN; nothing is clamped
//! silently.
//!
//! - Training and evaluation name the first faulty row, in the order of the batch, whatever the number of
//!   threads.
//! - After a training step without an error all weights and the state of the optimizer are finite. After
//!   one with an error the weights are those before it, bit for bit.
//! - A panic in a [`Dataset`] is passed on to the caller of the training step or the evaluation, on any
//!   number of threads. A trainer is then as it was before the step, and can go on. Nothing is locked while
//!   rows are read, so a data set may use threads of its own.
//! - A model, a batch or a table of pairs that needs more memory than the machine or the control group of
//!   the process has, or than the allocator grants, is refused with [`Error::Memory`], which has the
//!   figure, before any of it is allocated.
//!
//! # Features
//! - `avx512` (default) adds the AVX-512 kernels;
//! - `safetensors` adds model files and checkpoints;
//! - `cli` adds the tool `elbo`;
//! - `mpi` adds the ranks of MPI to [`distributed`], and to the tool;
//! - `twins` adds portable implementations of registers that the machine may not have, for tests.

#![deny(missing_docs, unsafe_code)]

/// `debug_assert!` of the standard library, checked in this crate's unit tests as well.
///
/// The development profile compiles without debug assertions: those that the standard library
/// adds to every slice access double the time it takes to compile the kernels.
macro_rules! debug_assert {
    ($($argument:tt)*) => {
        if cfg!(any(debug_assertions, test)) {
            assert!($($argument)*);
        }
    };
}
/// `debug_assert_eq!`, checked as [`debug_assert`] is.
macro_rules! debug_assert_eq {
    ($($argument:tt)*) => {
        if cfg!(any(debug_assertions, test)) {
            assert_eq!($($argument)*);
        }
    };
}

pub mod distributed;
pub mod error;
pub mod gemm;
pub mod guide;
pub mod layers;
pub mod loss;
pub mod math;
pub mod optim;
pub mod random;
pub mod simd;
pub mod train;
pub mod vae;

mod compute;
mod dataset;
mod memory;

#[cfg(test)]
mod exhaustive;

pub use compute::Compute;
pub use dataset::{Augmentation, Conditioned, Dataset, Element, Labeled};
pub use error::{Error, Result};

/// Examples of the README, run as doctests.
#[cfg(all(doctest, feature = "safetensors"))]
#[doc = include_str!("../README.md")]
struct Readme;
