//! A complete training step: gathering rows of a shuffled epoch, noise, forward, loss, backward, Adam.
//!
//! No element of the data is zero, except in `digits`, the embedded sample of MNIST, where four fifths are.
//! Rows of 784 are bytes, as in image files; the others are f32.

use super::{Case, Work, check, uniform};
use crate::commands::bench::clock::{Clock, Timing};
use crate::commands::bench::limit::Limit;
use crate::data::{Data, Rows};
use crate::failure::Result;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Compute, Dataset};
use ndarray::{Axis, Slice};

/// Rows of generated data: whole batches of every size, and more than the first-level cache holds.
const ROWS: usize = 8192;

#[derive(Clone, Copy)]
struct Model {
    features: usize,
    hidden: usize,
    latent: usize,
    batch: usize,
    digits: bool,
}

const MODELS: [Model; 5] = [
    Model { features: 784, hidden: 400, latent: 20, batch: 128, digits: false },
    Model { features: 784, hidden: 400, latent: 20, batch: 128, digits: true },
    Model { features: 784, hidden: 400, latent: 20, batch: 1024, digits: false },
    Model { features: 2048, hidden: 1024, latent: 64, batch: 256, digits: false },
    Model { features: 30, hidden: 64, latent: 8, batch: 64, digits: false },
];

/// The classic network, which comes first, runs on each number of `scaling` threads, the others on `threads`.
pub fn cases(threads: &[usize], scaling: &[usize]) -> Vec<Case> {
    let each = MODELS.iter().enumerate().flat_map(|(i, model)| {
        let threads = if i == 0 { scaling } else { threads };
        threads.iter().map(move |&threads| (model, threads))
    });
    each.map(|(&model, threads)| Case {
        group: "train_step",
        shape: model.shape(),
        batch: Some(model.batch),
        threads,
        work: Work::flop(model.flop()),
        limit: Limit::Peak,
        run: Box::new(move |compute, clock| model.time(compute, clock)),
    })
    .collect()
}

impl Model {
    fn shape(self) -> String {
        let digits = if self.digits { " digits" } else { "" };
        format!("{}-{}-{}{digits}", self.features, self.hidden, self.latent)
    }

    /// Operations of the products: three per layer but two in the first, whose input needs no gradient.
    fn flop(self) -> usize {
        let Self { features: d, hidden: h, latent: z, batch, .. } = self;
        let weights = d * h + h * 2 * z + z * h + h * d;
        2 * batch * (3 * weights - d * h)
    }

    fn data(self) -> Result<Box<dyn Dataset>> {
        Ok(match self {
            Self { digits: true, .. } => {
                let images = Data::sample()?.0;
                let whole_batches = images.len() / self.batch * self.batch;
                let Rows::U8(mut bytes) = images.rows else { unreachable!("MNIST is bytes") };
                bytes.slice_axis_inplace(Axis(0), Slice::from(..whole_batches));
                Box::new(bytes)
            }
            Self { features: 784, .. } => {
                let bytes = uniform(ROWS, 784, 1)?.mapv(|u| 1 + (255.0 * u) as u8);
                Box::new(bytes)
            }
            Self { features, .. } => Box::new(uniform(ROWS, features, 1)?),
        })
    }

    fn time(self, compute: &Compute, clock: Clock) -> Result<Timing> {
        let data = self.data()?;
        let config = Config::builder(self.features, self.latent).hidden(&[self.hidden]).build()?;
        let options = Options { batch: self.batch, ..Options::default() };
        let mut trainer = Trainer::new(Vae::new(config, 1), options, compute.clone())?;
        let first = trainer.step(&*data)?;
        check(first.is_some_and(|step| step.loss.is_finite()), "train_step")?;
        compute.install(|| {
            clock.time(|| {
                // `None` marks the end of an epoch; the next call begins another.
                while trainer.step(&*data)?.is_none() {}
                Ok(())
            })
        })
    }
}
