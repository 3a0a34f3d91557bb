//! Trains a model with each objective on the tool's embedded MNIST sample and prints the table of
//! the guide (`elbo::guide::loss`).
//!
//! ```text
//! cargo run --release --features cli --example objectives
//! ```
//!
//! The output is Markdown. The numbers are the same on every machine; the run takes a minute or two.

use elbo::Compute;
use elbo::loss::importance::Estimator;
use elbo::loss::{CapacityPer, FreeBitsPer, Kl, KlInputs, LossTerm, Reduction};
use elbo::optim::Span;
use elbo::train::{Options, Trainer};
use elbo::vae::{
    Annealing, Config, EvaluationOptions, Likelihood, Objective, Penalty, Vae, Variance,
};
use flate2::read::GzDecoder;
use ndarray::Array2;
use std::error::Error;
use std::io::Read;

const EPOCHS: usize = 20;
const LATENT: usize = 20;
/// Importance samples per image for the marginal likelihood.
const SAMPLES: usize = 200;
/// Number of test images whose marginal likelihood is estimated.
const MARGINAL_ROWS: usize = 500;

/// Returns the images of a gzipped IDX file as bytes, one image per row.
fn images(gzipped: &[u8]) -> Result<Array2<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzipped).read_to_end(&mut bytes)?;
    let pixels = bytes.split_off(16);
    Ok(Array2::from_shape_vec((pixels.len() / 784, 784), pixels)?)
}

struct Run {
    name: &'static str,
    likelihood: Likelihood,
    objective: Objective,
}

struct Found {
    reconstruction: f64,
    kl: f64,
    /// Standard deviation of the KL over the test images.
    spread: f64,
    active: usize,
    collapsed: usize,
    least: f64,
    information: f64,
    correlation: f64,
    dimension_wise: f64,
    marginal: f64,
}

fn run(compute: &Compute, train: &Array2<u8>, test: &Array2<u8>, run: &Run) -> elbo::Result<Found> {
    let config = Config::builder(784, LATENT).hidden(&[200]).likelihood(run.likelihood).build()?;
    let options = Options { objective: run.objective, batch: 100, ..Options::default() };
    let mut trainer = Trainer::new(Vae::new(config, 1), options, compute.clone())?;
    for _ in 0..EPOCHS {
        trainer.epoch(train, |_| ())?;
    }
    let vae = trainer.vae();
    let plain = EvaluationOptions::default();
    let evaluation = vae.evaluate(compute, test, &plain)?;
    let parts = vae.decompose(compute, test, &plain)?;
    let code = vae.encode(compute, test.mapv(|v| f32::from(v) / 255.0).view())?;
    let mut each = vec![0.0; test.nrows()];
    let (mu, logvar, prior) = (code.mu.view(), code.logvar.view(), vae.config().prior());
    Kl.per_example(compute, &mut each, KlInputs { mu, logvar, prior })?;
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    let variance = each.iter().map(|kl| (kl - mean).powi(2)).sum::<f64>() / each.len() as f64;
    let some = test.slice(ndarray::s![..MARGINAL_ROWS, ..]);
    let marginal = match run.likelihood {
        Likelihood::Gaussian(Variance::Optimal) => f64::NAN,
        _ => vae.marginal_log_likelihood(compute, &some, SAMPLES, &plain)?.log_likelihood,
    };
    Ok(Found {
        reconstruction: evaluation.reconstruction,
        kl: evaluation.kl,
        spread: variance.sqrt(),
        active: evaluation.active_units(),
        collapsed: evaluation.collapsed_units(),
        least: evaluation.kl_per_dimension.iter().fold(f64::INFINITY, |a, &b| a.min(b)),
        information: parts.mutual_information,
        correlation: parts.total_correlation,
        dimension_wise: parts.dimension_wise_kl,
        marginal,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let train = images(include_bytes!("../src/bin/elbo/sample/train-images-idx3-ubyte.gz"))?;
    let test = images(include_bytes!("../src/bin/elbo/sample/test-images-idx3-ubyte.gz"))?;
    let compute = Compute::parallel()?;
    let elbo = Objective::default();
    let beta = |beta| Objective { beta, ..elbo };
    let penalty = |penalty| Objective { penalty, ..elbo };
    let annealed = |annealing| Objective { annealing, ..elbo };
    let whole = Span::Epochs(EPOCHS as u64);
    let half = Span::Epochs(EPOCHS as u64 / 2);
    let free =
        |beta, lambda, per| Objective { beta, penalty: Penalty::FreeBits { lambda, per }, ..elbo };
    let capacity =
        |capacity, per| penalty(Penalty::Capacity { gamma: 100.0, capacity, over: half, per });
    let tc = |beta| Objective {
        beta,
        penalty: Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 },
        ..elbo
    };
    let importance = |samples, estimator| penalty(Penalty::Importance { samples, estimator });
    let bernoulli = |name, objective| Run { name, likelihood: Likelihood::Bernoulli, objective };
    let runs = [
        bernoulli("ELBO: β = 1", elbo),
        bernoulli("β = 0: reconstruction only", beta(0.0)),
        bernoulli("β = 0.1", beta(0.1)),
        bernoulli("β = 4", beta(4.0)),
        bernoulli("β = 20", beta(20.0)),
        bernoulli("mean/mean, β = 1", Objective { reduction: Reduction::Mean, ..elbo }),
        bernoulli(
            "mean/mean, β = Z/D",
            Objective { beta: LATENT as f32 / 784.0, reduction: Reduction::Mean, ..elbo },
        ),
        bernoulli(
            "linear warm-up, half the run",
            annealed(Annealing::Linear { from: 0.0, over: half }),
        ),
        bernoulli(
            "cosine warm-up, half the run",
            annealed(Annealing::Cosine { from: 0.0, over: half }),
        ),
        bernoulli(
            "cyclical, 4 cycles, ratio 0.5",
            annealed(Annealing::Cyclical { cycles: 4, ratio: 0.5, over: whole }),
        ),
        bernoulli("β = 4, free bits 0.5 per element", free(4.0, 0.5, FreeBitsPer::Element)),
        bernoulli("β = 4, free bits 0.5 per dimension", free(4.0, 0.5, FreeBitsPer::Dimension)),
        bernoulli("β = 4, free bits 10 per sample", free(4.0, 10.0, FreeBitsPer::Sample)),
        bernoulli("capacity 10, batch mean, γ = 100", capacity(10.0, CapacityPer::Batch)),
        bernoulli("capacity 25, batch mean, γ = 100", capacity(25.0, CapacityPer::Batch)),
        bernoulli("capacity 25 per sample, γ = 100", capacity(25.0, CapacityPer::Sample)),
        bernoulli("β-TCVAE, β = 1", tc(1.0)),
        bernoulli("β-TCVAE, β = 6", tc(6.0)),
        bernoulli("IWAE, k = 5", importance(5, Estimator::Iwae)),
        bernoulli("IWAE, k = 50", importance(50, Estimator::Iwae)),
        bernoulli("IWAE with DReG, k = 50", importance(50, Estimator::Dreg)),
        Run {
            name: "continuous Bernoulli",
            likelihood: Likelihood::ContinuousBernoulli,
            objective: elbo,
        },
        Run {
            name: "Gaussian, σ² = 1",
            likelihood: Likelihood::Gaussian(Variance::Fixed(1.0)),
            objective: elbo,
        },
        Run {
            name: "Gaussian, σ² = 0.01",
            likelihood: Likelihood::Gaussian(Variance::Fixed(0.01)),
            objective: elbo,
        },
        Run {
            name: "Gaussian, σ² learned",
            likelihood: Likelihood::Gaussian(Variance::Shared),
            objective: elbo,
        },
        Run {
            name: "Gaussian, σ² optimal",
            likelihood: Likelihood::Gaussian(Variance::Optimal),
            objective: elbo,
        },
    ];
    println!(
        "| objective | reconstruction | KL | SD of KL | active | collapsed | smallest KL of a \
         dimension | MI | TC | dimension-wise KL | ln p(x), {SAMPLES} samples |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for case in &runs {
        let found = run(&compute, &train, &test, case)?;
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {} | {} | {:.3} | {:.2} | {:.2} | {:.2} | {} |",
            case.name,
            found.reconstruction,
            found.kl,
            found.spread,
            found.active,
            found.collapsed,
            found.least,
            found.information,
            found.correlation,
            found.dimension_wise,
            if found.marginal.is_nan() { "-".to_owned() } else { format!("{:.2}", found.marginal) },
        );
    }
    Ok(())
}
