//! Hand-written SIMD kernels for MLP variational autoencoders.
#![deny(missing_docs, unsafe_code)]

pub mod error;
pub mod gemm;
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

pub use compute::Compute;
pub use dataset::{Dataset, Element};
pub use error::{Error, Result};
