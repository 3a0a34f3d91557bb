//! Hand-written SIMD kernels for MLP variational autoencoders.
#![deny(missing_docs, unsafe_code)]

pub mod error;
pub mod loss;
pub mod math;
pub mod random;
pub mod simd;

mod compute;

pub use compute::Compute;
pub use error::{Error, Result};
pub mod gemm;
