//! Layers of the network: each forward pass beside its backward pass.
//!
//! The functions work on the caller's own arrays. A backward function says in its first line whether it
//! overwrites or accumulates; gradients carry a `d`. A backward pass needs only what its arguments name:
//! there is no tape and no graph.
//!
//! | | | |
//! |---|---|---|
//! | [`dense`] | `y = x·Wᵀ + b` | |
//! | [`layer_norm`] | each row to mean 0 and variance 1 | optional, before the activation |
//! | [`activation`] | `y = f(x)`, the rectifier by default | after each hidden layer |
//! | [`dropout`] | `y = 0` with a probability | optional, after the activation |
//! | [`soft_clamp`] | keeps `logvar` within bounds | optional, before the sampling |
//! | [`reparameterize`] | `z = μ + e^{v/2}·ε` | the latent sample |

pub mod activation;
pub mod dense;
pub mod dropout;
pub mod layer_norm;
pub mod reparameterize;
pub mod soft_clamp;
