//! Hand-written SIMD kernels for MLP variational autoencoders.
//!
//! The crate computes the **evidence lower bound** of a VAE whose encoder and decoder are chains
//! of dense layers, its gradient, and everything around it: forward and backward passes derived
//! by hand, no autodiff, no framework.
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
//! # Where things are
//! | | |
//! |---|---|
//! | [`guide`] | the VAE loss term by term, the library, the tool, exchange with PyTorch and ONNX |
//! | [`vae`], [`train`] | the model and its training |
//! | [`loss`], [`layers`], [`optim`] | the kernels, usable alone on your own arrays |
//! | [`gemm`], [`math`], [`random`] | what they are made of |
//! | [`simd`], [`Compute`] | the instruction set and the threads, as values to pass down |
//!
//! # Dimensions
//! One letter each, in all documentation:
//!
//! | letter | what |
//! |---|---|
//! | B | rows of a batch |
//! | D | features: the width of a row of data |
//! | H | units of a hidden layer |
//! | Z | latent dimensions |
//! | K, N | inputs and outputs of a dense layer; K is the inner dimension of its product |
//! | M | rows of a product |
//!
//! Matrices are row-major; weights are `[N, K]` as in PyTorch wherever they are shown. Losses are in
//! nats.
//!
//! # Reproducibility
//! Results do not depend on the instruction set or the number of threads, to the last bit:
//!
//! - an element of a product is one chain of fused multiply-adds in ascending order ([`gemm`]);
//! - sums run over 16 canonical lanes, which are joined by one fixed tree ([`simd`]);
//! - vector functions use only operations that every target rounds alike ([`math`]);
//! - random numbers are a function of where they are used ([`random`]);
//! - weight gradients are split over weights, never over partial sums of the batch.
//!
//! So one seed gives one model, on one thread or 64, on scalar code, AVX2, AVX-512 or NEON. The
//! price: a processor without fused multiply-add emulates it (see below).
//!
//! # What the processor must have
//! Nothing, to give right results; for speed, fused multiply-add in vector registers. The best that
//! the machine has is found at run time ([`simd::InstructionSet::detect`]), so one program serves
//! all of them and need not be compiled for any:
//!
//! | name | processor | one training step, one thread |
//! |---|---|---|
//! | `v4` | x86-64 with AVX-512 F, BW, CD, DQ and VL | 2.0 ms |
//! | `v3` | x86-64 with AVX2 and FMA | 3.8 ms |
//! | `neon` | 64-bit ARM | not measured |
//! | `scalar` | any other; here with FMA behind a call | 450 ms |
//! | `scalar` | any other; here without FMA | 500 ms |
//!
//! (784-400-20, 128 rows, all on one Zen 5.) The feature `avx512` is on by default. Without it the
//! AVX-512 kernels are not compiled, which saves a third of the compiler's time, and a processor
//! that has AVX-512 runs `v3`, in twice the time.
//!
//! A processor without FMA (x86-64 before 2013, some for small machines since, emulators) runs
//! `scalar`, more than a hundred times slower than AVX2. Each multiply-add is a call of
//! [`f32::mul_add`], rounded once as the contract demands: product and sum in f64, the sum rounded to
//! odd and then to f32. The call is most of the price. It is paid as well where `scalar` is asked for
//! on a processor with FMA, because portable code is compiled for the oldest x86-64: there the callee
//! finds the instruction at run time and uses it, to the same bits.
//!
//! # Errors
//! Public functions check their arguments once and return [`Error`], which says what was
//! expected and what was found. NaN in gives NaN out, or an error that names where it came from;
//! nothing is clamped silently.
//!
//! # Features
//! `avx512` (default) adds the AVX-512 kernels (above); `safetensors` adds model files and checkpoints;
//! `cli` adds the tool `elbo`; `twins` adds portable twins of registers that the machine may
//! not have, for tests.

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

mod augmentation;
mod compute;
mod dataset;

pub use augmentation::Augmentation;
pub use compute::Compute;
pub use dataset::{Conditioned, Dataset, Element, Labeled};
pub use error::{Error, Result};

/// The examples of the README, as doctests.
#[cfg(all(doctest, feature = "safetensors"))]
#[doc = include_str!("../README.md")]
struct Readme;
