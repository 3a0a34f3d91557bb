//! Layers of the network: each forward beside its backward.
//!
//! The functions here work on the caller's own arrays. A backward function says in its first
//! line whether it overwrites or accumulates; gradients carry a `d`. A layer's backward needs
//! only what its arguments name: no tape, no graph.
//!
//! The three layers of an MLP VAE:
//! [`dense`] `y = x·Wᵀ + b`, [`relu`] `y = max(x, 0)`, and [`reparameterise`]
//! `z = μ + e^{v/2}·ε`.

pub mod dense;
pub mod relu;
pub mod reparameterise;
