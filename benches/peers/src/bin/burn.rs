//! Measures burn with its backend `flex`: training step and inference.

use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use burn::tensor::{Distribution, TensorData};
use elbo_peers::networks::{INFER, Network, TRAIN};
use elbo_peers::{Peer, binary};
use std::hint::black_box;

#[derive(Module, Debug)]
struct Vae {
    encoder: Linear,
    mu: Linear,
    logvar: Linear,
    decoder: Linear,
    output: Linear,
}

impl Vae {
    fn new(widths: [usize; 3], device: &Device) -> Self {
        let [d, h, z] = widths;
        let dense = |k, n| LinearConfig::new(k, n).init(device);
        Self {
            encoder: dense(d, h),
            mu: dense(h, z),
            logvar: dense(h, z),
            decoder: dense(z, h),
            output: dense(h, d),
        }
    }

    fn decode(&self, z: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.decoder.forward(z)))
    }

    fn loss(&self, x: Tensor<2>) -> Tensor<1> {
        let hidden = relu(self.encoder.forward(x.clone()));
        let (mu, logvar) = (self.mu.forward(hidden.clone()), self.logvar.forward(hidden));
        let noise = mu.random_like(Distribution::Normal(0.0, 1.0));
        let z = mu.clone() + noise * (logvar.clone() * 0.5).exp();
        let logits = self.decode(z);
        // −x·log σ(o) − (1 − x)·log σ(−o), through `log_sigmoid`, which has its own backward pass.
        let reconstruction = (x.neg() + 1.0) * logits.clone() - log_sigmoid(logits);
        let kl = (logvar.clone() + 1.0 - mu.clone() * mu - logvar.exp()).sum() * -0.5;
        reconstruction.sum() + kl
    }

    fn reconstruct(&self, x: Tensor<2>) -> Tensor<2> {
        sigmoid(self.decode(self.mu.forward(relu(self.encoder.forward(x)))))
    }
}

fn rows(network: Network, device: &Device) -> Tensor<2> {
    let shape = [network.batch, network.widths[0]];
    Tensor::from_data(TensorData::new(binary(shape[0] * shape[1], 1), shape), device)
}

fn train(peer: &Peer, network: Network) {
    let device = Device::flex().autodiff();
    let x = rows(network, &device);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let mut model = Some(Vae::new(network.widths, &device));
    let mut step = || {
        let taken = model.take().expect("the previous step returned the model");
        let loss = taken.loss(x.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &taken);
        model = Some(optimizer.step(1e-3, taken, gradients));
        loss
    };
    let first: f32 = step().into_scalar();
    peer.time("train_step", &network.shape(), network.batch, || {
        black_box(step());
    });
    let last: f32 = step().into_scalar();
    assert!(last < first, "training does not reduce the loss: {first}, then {last}");
}

fn infer(peer: &Peer, network: Network) {
    let device = Device::flex();
    let x = rows(network, &device);
    let model = Vae::new(network.widths, &device);
    peer.time("infer", &network.shape(), network.batch, || {
        black_box(model.reconstruct(x.clone()));
    });
}

fn main() {
    let peer = Peer::from_args("burn", "burn");
    if peer.wants("train_step") {
        TRAIN.into_iter().for_each(|network| train(&peer, network));
    }
    if peer.wants("infer") {
        INFER.into_iter().for_each(|network| infer(&peer, network));
    }
}
