//! The losses of a variational autoencoder, each with its gradients from the same pass.
//!
//! A variational autoencoder minimizes the negative evidence lower bound,
//!
//! ```text
//! loss = −E_q[ln p(x|z)] + β·KL(q(z|x) ‖ p(z))
//!          reconstruction     divergence
//! ```
//!
//! The reconstruction term is small if the decoder reproduces the data; the divergence keeps the
//! posterior N(μ, e^v) close to the prior N(0, 1). For a logit or prediction `l` or `x`, a
//! target `t`, a mean `μ` and a log-variance `v`:
//!
//! | [`Reconstruction`] | value of an element | gradient |
//! |---|---|---|
//! | [`Bernoulli`] | `max(l,0) − l·t + ln(1+e^{−\|l\|})` | `σ(l) − t` |
//! | [`WeightedBernoulli`] | `(1−t)·l + (1+(p−1)t)·ln(1+e^{−l})` | `(p·t+1−t)·σ(l) − p·t` |
//! | [`ContinuousBernoulli`] | `−l·t + ln((e^l−1)/l)` | `m(l) − t` |
//! | [`BernoulliProbabilities`] | `−[t·max(ln x,−100) + (1−t)·max(ln(1−x),−100)]` | `(x−t)/max(x(1−x), 1e−12)` |
//! | [`SigmoidProbabilities`] | the same at `x = σ(l)` | times `x(1−x)` |
//! | [`Gaussian`] | `½((t−m)²e^{−s} + s + ln 2π)`; s shared, per feature, or optimal | `(m−t)e^{−s}`, `½(1 − (t−m)²e^{−s})` |
//! | [`SquaredError`] | `(x−t)²` | `2(x−t)` |
//! | [`TanhSquaredError`] | the same at `x = tanh l` | times `1−x²` |
//!
//! | [`KlPenalty`] | value | gradient |
//! |---|---|---|
//! | [`Kl`] | `½(μ² + expm1(v) − v)`; any normal prior | `μ`, `½·expm1(v)` |
//! | [`FreeBits`] | `max(λ, KL)` per element, dimension or sample | that of the KL above λ |
//! | [`Capacity`] | `γ·\|KL − C\|` for the batch or per sample | `γ·sign(KL − C)` times that of the KL |
//!
//! | both | |
//! |---|---|
//! | [`elbo`] | any reconstruction and any penalty, fused in one pass |
//! | [`total_correlation`] | α·MI + β·TC + γ·KL of dimensions, over all pairs of rows |
//! | [`importance`] | `−ln mean_k w_k` over k samples of z: IWAE and DReG |
//! | [`beta_convention`] | conversion of a weight β from one code's convention to another's |
//!
//! Each term is a value, evaluated through the trait [`LossTerm`]: `forward`, `forward_backward`, which
//! overwrites the gradients and returns the same value to the last bit, and `per_example`. Values are
//! in nats and in f64; arrays are f32 and row-major, their rows contiguous but not necessarily adjacent,
//! so a view of some columns of a wider array is accepted.
//!
//! # Reductions
//! [`Reduction`] defines how elements become one number, in the same way for both terms. Means over D
//! pixels and over Z latents multiply the effective β by D/Z, compared with sums over both.
//!
//! # Precision
//! Elements are computed in f32 to a few ULP (each module says how many), rows are summed as
//! [`simd`](crate::simd) describes, and the total is within 1e-6 of the exact value of the same f32
//! inputs, relative to the sum of the magnitudes of its terms and for any number of elements. Where all
//! terms are positive (Bernoulli, squared errors, the KL divergence) that is 1e-6 of the total; a Gaussian
//! or a continuous Bernoulli may have elements of both signs, whose sum is smaller than they are. No bit depends on the number of threads or on
//! the instruction set.
//!
//! Largest error of an element over all 2³² inputs as a fraction of the bound of its module, and the input at
//! which it occurs, as printed by
//! `cargo test --release --lib exhaustive -- --ignored --nocapture --test-threads 1`:
//!
//! | kernel | value | at | gradient | at |
//! |---|---|---|---|---|
//! | Bernoulli, t = 0 | 0.826 | 0.0031841097 | 0.801 | −4.157294 |
//! | weighted Bernoulli, p = 2.75, t = 0 | 0.510 | 0.0031841097 | 0.371 | −12.461158 |
//! | continuous Bernoulli, t = 0 | 0.473 | −2.4418316 | 0.568 | −2.0781927 |
//! | Bernoulli of probabilities, t = 0 | 0.319 | 0.28727737 | 0.568 | 0.49845347 |
//! | squared error, t = 0 | 0.250 | 2.2716365e−19 | exact |  |
//! | squared error of tanh, t = 0 | 0.702 | 0.55444294 | 0.672 | 1.6691651 |
//! | Bernoulli, t = 0.5 | 0.801 | 0.11213523 | 0.253 | 1.1236577 |
//! | weighted Bernoulli, p = 2.75, t = 0.5 | 0.518 | −0.0008984424 | 0.317 | 1.0356991 |
//! | continuous Bernoulli, t = 0.5 | 0.310 | 3.7176661 | 0.284 | 2.0781927 |
//! | Bernoulli of probabilities, t = 0.5 | 0.408 | 0.29614446 | 0.629 | 0.007878228 |
//! | squared error, t = 0.5 | 0.957 | 0.14650594 | 0.500 | 1.4901161e−08 |
//! | squared error of tanh, t = 0.5 | 0.999 | −0.00012210011 | 0.724 | −2.265644 |
//! | Bernoulli, t = 1 | 0.826 | −0.0031841097 | 0.801 | 4.157294 |
//! | weighted Bernoulli, p = 2.75, t = 1 | 0.648 | 87.68312 | 0.648 | 87.68312 |
//! | continuous Bernoulli, t = 1 | 0.473 | 2.4418316 | 0.568 | 2.0781927 |
//! | Bernoulli of probabilities, t = 1 | 0.316 | 0.7140743 | 0.428 | 2.9807474e−08 |
//! | squared error, t = 1 | 0.957 | 0.29301187 | 0.500 | 2.9802322e−08 |
//! | squared error of tanh, t = 1 | 0.999 | −0.00024420023 | 0.683 | −1.2988781 |
//! | mean of the continuous Bernoulli | 0.852 | −2.0781927 |  |  |
//! | KL of μ, v = 0 | 0.250 | 2.7052322e−21 | exact |  |
//! | KL of v, μ = 0 | 0.767 | 1.1060529 | 0.918 | 0.35688066 |
//! | Gaussian of s, t − m = ±1 | 0.769 | 2.0310254 | 0.500 | 17.32868 |
//! | Bernoulli of a rounded sigmoid, t = 0 | 0.319 | −0.908644 | 0.258 | −28.719152 |
//! | Bernoulli of a rounded sigmoid, t = 1 | 0.316 | 0.9152549 | 0.300 | −1.1275736 |
//!
//! # Threads and memory
//! Nothing is allocated, except by [`total_correlation`] and by free bits per dimension (2·Z numbers).
//! Rows are divided among the threads of [`Compute`](crate::Compute) in pieces of 64; up to 64 rows stay
//! on the calling thread. With several threads, run a loop of short calls inside one
//! [`Compute::install`](crate::Compute::install).
//!
//! # Example
//! The kernels alone, with buffers of your own and no model:
//!
//! ```
//! use ::elbo::Compute;
//! use ::elbo::loss::{self, Bernoulli, Kl, LossTerm, Prior, Reduction, elbo};
//! use ndarray::Array2;
//!
//! let (b, d, z) = (128, 784, 20);
//! let outputs = Array2::<f32>::zeros((b, d)); // logits from your decoder
//! let targets = Array2::<f32>::from_elem((b, d), 0.25);
//! let (mu, logvar) = (Array2::<f32>::ones((b, z)), Array2::<f32>::zeros((b, z)));
//! let mut doutputs = Array2::<f32>::zeros((b, d));
//! let (mut dmu, mut dlogvar) = (Array2::<f32>::zeros((b, z)), Array2::<f32>::zeros((b, z)));
//!
//! let result = elbo::forward_backward(
//!     &Compute::serial(),
//!     elbo::Terms { reconstruction: Bernoulli, penalty: Kl, beta: 4.0 },
//!     elbo::Gradients {
//!         doutputs: doutputs.view_mut(), dmu: dmu.view_mut(), dlogvar: dlogvar.view_mut(),
//!     },
//!     elbo::Inputs {
//!         outputs: outputs.view(), targets: targets.view(),
//!         mu: mu.view(), logvar: logvar.view(), prior: Prior::default(),
//!     },
//!     Reduction::BatchMean,
//! )?;
//! assert!((result.reconstruction - 784.0 * std::f64::consts::LN_2).abs() < 1e-4);
//! assert_eq!(result.kl, 20.0 * 0.5);
//! assert_eq!(result.loss, result.reconstruction + 4.0 * result.kl);
//! assert_eq!(doutputs[[0, 0]], 0.25 / 128.0); // (σ(0) − t)/B
//! assert_eq!(dmu[[0, 0]], 4.0 / 128.0); // β·μ/B
//!
//! // One term alone, example by example.
//! let inputs = loss::ReconstructionInputs { outputs: outputs.view(), targets: targets.view() };
//! let mut of_each = [0.0; 128];
//! Bernoulli.per_example(&Compute::serial(), &mut of_each, inputs)?;
//! assert!((of_each[0] - result.reconstruction).abs() < 1e-9);
//! # Ok::<(), ::elbo::Error>(())
//! ```

pub mod bernoulli;
pub mod bernoulli_probabilities;
pub mod beta_convention;
pub mod capacity;
pub mod continuous_bernoulli;
pub mod elbo;
pub mod free_bits;
pub mod gaussian;
pub mod importance;
pub mod kl;
pub mod squared_error;
pub mod total_correlation;

pub(crate) mod kernel;
mod prior;
mod reduction;
mod term;

#[cfg(test)]
pub(crate) mod testing;

pub use bernoulli::{Bernoulli, WeightedBernoulli};
pub use bernoulli_probabilities::{BernoulliProbabilities, SigmoidProbabilities};
pub use capacity::{Capacity, CapacityPer};
pub use continuous_bernoulli::ContinuousBernoulli;
pub use elbo::Elbo;
pub use free_bits::{FreeBits, FreeBitsPer};
pub use gaussian::Gaussian;
pub use kl::Kl;
pub use prior::Prior;
pub use reduction::Reduction;
pub use squared_error::{SquaredError, TanhSquaredError};
pub use term::{KlGradients, KlInputs, KlPenalty, LossTerm, Reconstruction, ReconstructionInputs};
pub use total_correlation::Decomposition;
