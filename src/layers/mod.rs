//! Layers of the network: each forward beside its backward.
//!
//! The functions here work on the caller's own arrays. A backward function says in its first
//! line whether it overwrites or accumulates; gradients carry a `d`. A layer's backward needs
//! only what its arguments name: no tape, no graph.
//!
//! The three layers that an MLP VAE cannot do without:
//! [`dense`] `y = x·Wᵀ + b`, [`relu`] `y = max(x, 0)`, and [`reparameterize`]
//! `z = μ + e^{v/2}·ε`. In place of the rectifier any other [`activation`]; before it
//! [`layer_norm`], behind it [`dropout`].

pub mod activation;
pub mod dense;
pub mod dropout;
pub mod layer_norm;
pub mod relu;
pub mod reparameterize;
pub mod soft_clamp;
