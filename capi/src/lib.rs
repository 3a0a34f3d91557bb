//! C interface of [`elbo_rust`]: losses with gradients, products, optimizers, and models in the caller's memory.
//!
//! The functions are documented in `include/elbo.h`, which cbindgen writes from this source. Each has three parts:
//! its arguments are checked ([`arguments`]), the crate is called, and its error or its panic becomes a status with a
//! message ([`status`]).

#![allow(non_camel_case_types)]

mod arguments;
mod handle;

// In the order of the header.
mod status;

mod compute;

mod loss;

mod products;

mod optimizers;

mod model;

mod inference;

mod data;

mod training;

pub use compute::*;
pub use data::*;
pub use inference::*;
pub use loss::*;
pub use model::*;
pub use optimizers::*;
pub use products::*;
pub use status::*;
pub use training::*;
