//! The whole model in plain f64, with its gradient derived once more: the twin against central
//! differences, and the crate against the twin.

use elbo::loss::Reduction;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Objective, Vae};
use elbo::{Compute, simd::InstructionSet};
use ndarray::{Array1, Array2, Axis};

/// Weight `[out, in]` and bias of each layer by the crate's names, in the order of the pass.
#[derive(Clone)]
struct Twin {
    encoder: Vec<(Array2<f64>, Array1<f64>)>,
    mu: (Array2<f64>, Array1<f64>),
    logvar: (Array2<f64>, Array1<f64>),
    decoder: Vec<(Array2<f64>, Array1<f64>)>,
}

type Layer = (Array2<f64>, Array1<f64>);

impl Twin {
    fn of(vae: &Vae) -> Self {
        let parameters = vae.parameters();
        let layer = |name: &str| -> Layer {
            (
                parameters.weight(name).unwrap().mapv(f64::from),
                parameters.bias(name).unwrap().mapv(f64::from),
            )
        };
        let depth = |widths: &[usize]| widths.len();
        let config = vae.config();
        Self {
            encoder: (0..depth(config.encoder())).map(|i| layer(&format!("encoder.{i}"))).collect(),
            mu: layer("mu"),
            logvar: layer("logvar"),
            decoder: (0..=depth(config.decoder()))
                .map(|i| layer(&format!("decoder.{i}")))
                .collect(),
        }
    }

    /// All layers, with their names.
    fn layers_mut(&mut self) -> Vec<(String, &mut Layer)> {
        let encoder = self.encoder.iter_mut().enumerate().map(|(i, l)| (format!("encoder.{i}"), l));
        let heads = [("mu".to_owned(), &mut self.mu), ("logvar".to_owned(), &mut self.logvar)];
        let decoder = self.decoder.iter_mut().enumerate().map(|(i, l)| (format!("decoder.{i}"), l));
        encoder.chain(heads).chain(decoder).collect()
    }

    /// The loss and its gradient, which has the form of the model itself.
    ///
    /// `weights` are those of reconstruction and KL in the loss, reduction included.
    fn loss(&self, x: &Array2<f64>, noise: &Array2<f64>, weights: [f64; 2]) -> (f64, Self) {
        let dense = |(weight, bias): &Layer, x: &Array2<f64>| x.dot(&weight.t()) + bias;
        let relu = |x: Array2<f64>| x.mapv(|v| if v > 0.0 { v } else { 0.0 });

        // Forward, every activation kept.
        let mut h = vec![x.clone()];
        for layer in &self.encoder {
            h.push(relu(dense(layer, h.last().unwrap())));
        }
        let (mu, logvar) =
            (dense(&self.mu, h.last().unwrap()), dense(&self.logvar, h.last().unwrap()));
        let sigma_epsilon = logvar.mapv(|v| (0.5 * v).exp()) * noise;
        let mut g = vec![&mu + &sigma_epsilon];
        for layer in &self.decoder[..self.decoder.len() - 1] {
            g.push(relu(dense(layer, g.last().unwrap())));
        }
        let logits = dense(self.decoder.last().unwrap(), g.last().unwrap());

        let reconstruction: f64 = logits
            .iter()
            .zip(x)
            .map(|(&l, &t)| l.max(0.0) - l * t + (-l.abs()).exp().ln_1p())
            .sum();
        let kl: f64 = mu.iter().zip(&logvar).map(|(&m, &v)| 0.5 * (m * m + v.exp_m1() - v)).sum();
        let loss = weights[0] * reconstruction + weights[1] * kl;

        // Backward.
        let mut gradient = self.clone();
        let back =
            |dy: &Array2<f64>, x: &Array2<f64>, (weight, _): &Layer| -> (Layer, Array2<f64>) {
                ((dy.t().dot(x), dy.sum_axis(Axis(0))), dy.dot(weight))
            };
        let mask = |d: Array2<f64>, y: &Array2<f64>| d * y.mapv(|v| f64::from(u8::from(v > 0.0)));
        let mut d = (logits.mapv(|l| 1.0 / (1.0 + (-l).exp())) - x) * weights[0];
        for i in (0..self.decoder.len()).rev() {
            let (layer, dx) = back(&d, &g[i], &self.decoder[i]);
            gradient.decoder[i] = layer;
            d = if i == 0 { dx } else { mask(dx, &g[i]) };
        }
        let dmu = &d + &(weights[1] * &mu);
        let dlogvar = 0.5 * &d * &sigma_epsilon + weights[1] * 0.5 * logvar.mapv(f64::exp_m1);
        let (layer, from_mu) = back(&dmu, h.last().unwrap(), &self.mu);
        gradient.mu = layer;
        let (layer, from_logvar) = back(&dlogvar, h.last().unwrap(), &self.logvar);
        gradient.logvar = layer;
        d = from_mu + from_logvar;
        for i in (0..self.encoder.len()).rev() {
            let (layer, dx) = back(&mask(d, &h[i + 1]), &h[i], &self.encoder[i]);
            gradient.encoder[i] = layer;
            d = dx;
        }
        (loss, gradient)
    }
}

struct Case {
    config: Config,
    rows: usize,
    objective: Objective,
}

fn cases() -> Vec<Case> {
    let objective = |beta, reduction| Objective { beta, reduction, ..Objective::default() };
    vec![
        Case {
            config: Config::builder(11, 3).hidden(&[7]).build().unwrap(),
            rows: 5,
            objective: objective(1.0, Reduction::BatchMean),
        },
        Case {
            config: Config::builder(9, 2).encoder(&[6, 5]).decoder(&[4, 8, 3]).build().unwrap(),
            rows: 4,
            objective: objective(4.0, Reduction::Sum),
        },
        Case {
            config: Config::builder(6, 1).hidden(&[]).build().unwrap(),
            rows: 3,
            objective: objective(0.5, Reduction::Mean),
        },
    ]
}

impl Case {
    fn vae(&self) -> Vae {
        Vae::new(self.config.clone(), 11)
    }

    fn x(&self) -> Array2<f32> {
        Array2::from_shape_fn((self.rows, self.config.features()), |(r, c)| {
            ((r * 13 + c * 7) % 19) as f32 / 18.0
        })
    }

    fn noise(&self) -> Array2<f32> {
        Array2::from_shape_fn((self.rows, self.config.latent()), |(r, c)| {
            ((r * 5 + c * 3) % 11) as f32 / 4.0 - 1.25
        })
    }

    /// By what the sums of the two terms are multiplied.
    fn weights(&self) -> [f64; 2] {
        let (b, d, z) =
            (self.rows as f64, self.config.features() as f64, self.config.latent() as f64);
        let beta = f64::from(self.objective.beta);
        match self.objective.reduction {
            Reduction::Sum => [1.0, beta],
            Reduction::BatchMean => [1.0 / b, beta / b],
            Reduction::Mean => [1.0 / (b * d), beta / (b * z)],
        }
    }
}

#[test]
fn gradient_of_the_twin_matches_central_differences() {
    for case in cases() {
        let (x, noise) = (case.x().mapv(f64::from), case.noise().mapv(f64::from));
        let twin = Twin::of(&case.vae());
        let (_, mut gradient) = twin.loss(&x, &noise, case.weights());
        let h = 1e-5;
        let at = |layer: usize, index: usize, by: f64| {
            let mut moved = twin.clone();
            let mut layers = moved.layers_mut();
            let (weight, bias) = &mut *layers[layer].1;
            let weights = weight.len();
            match index.checked_sub(weights) {
                None => weight.as_slice_mut().unwrap()[index] += by,
                Some(index) => bias[index] += by,
            }
            moved.loss(&x, &noise, case.weights()).0
        };
        // Relative to the largest gradient of the tensor: single elements may be zero.
        for (number, (name, (dweight, dbias))) in gradient.layers_mut().into_iter().enumerate() {
            let exact: Vec<f64> = dweight.iter().chain(dbias.iter()).copied().collect();
            let largest = exact.iter().fold(0.0_f64, |a, d| a.max(d.abs()));
            assert!(largest > 0.0, "{}: {name} has a zero gradient", case.config);
            for (index, d) in exact.iter().enumerate() {
                let numeric = (at(number, index, h) - at(number, index, -h)) / (2.0 * h);
                let error = (numeric - d).abs() / largest;
                assert!(error < 1e-6, "{}: {name}[{index}]: {numeric} {d}", case.config);
            }
        }
    }
}

#[test]
fn loss_and_gradient_match_the_twin() {
    for case in cases() {
        let (x, noise) = (case.x(), case.noise());
        let twin = Twin::of(&case.vae());
        let (loss, mut exact) =
            twin.loss(&x.mapv(f64::from), &noise.mapv(f64::from), case.weights());
        for simd in InstructionSet::available() {
            let options = Options { objective: case.objective, ..Options::default() };
            let compute = Compute::new(simd, 1).unwrap();
            let mut trainer = Trainer::new(case.vae(), options, compute).unwrap();
            let found = trainer.gradient_with_noise(&x, noise.view()).unwrap();
            assert!((found.loss / loss - 1.0).abs() < 1e-6, "{simd}: {} {loss}", found.loss);
            let gradient = trainer.gradient().unwrap();
            for (name, (dweight, dbias)) in exact.layers_mut() {
                let found_weight = gradient.weight(&name).unwrap();
                let found_bias = gradient.bias(&name).unwrap();
                let largest =
                    dweight.iter().chain(dbias.iter()).fold(0.0_f64, |a, d| a.max(d.abs()));
                let pairs = found_weight.iter().zip(dweight.iter());
                for (&found, &exact) in pairs.chain(found_bias.iter().zip(dbias.iter())) {
                    // A handful of chained roundings of 6e-8 each.
                    let error = (f64::from(found) - exact).abs() / largest;
                    assert!(error < 2e-6, "{simd}: {name}: {found} {exact}");
                }
            }
        }
    }
}
