//! Measures candle: training step, inference and products.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear};
use elbo_peers::networks::{INFER, Network, PRODUCT_ROWS, PRODUCTS, TRAIN};
use elbo_peers::{Peer, binary, uniform};
use std::hint::black_box;

struct Vae {
    encoder: Linear,
    mu: Linear,
    logvar: Linear,
    decoder: Linear,
    output: Linear,
}

impl Vae {
    fn new([d, h, z]: [usize; 3], variables: &VarBuilder) -> Result<Self> {
        let dense = |k, n, name| linear(k, n, variables.pp(name));
        Ok(Self {
            encoder: dense(d, h, "encoder")?,
            mu: dense(h, z, "mu")?,
            logvar: dense(h, z, "logvar")?,
            decoder: dense(z, h, "decoder")?,
            output: dense(h, d, "output")?,
        })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.output.forward(&self.decoder.forward(z)?.relu()?)
    }

    fn loss(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.encoder.forward(x)?.relu()?;
        let (mu, logvar) = (self.mu.forward(&hidden)?, self.logvar.forward(&hidden)?);
        let z = (&mu + (mu.randn_like(0.0, 1.0)? * (&logvar * 0.5)?.exp()?)?)?;
        let o = self.decode(&z)?;
        let tail = (o.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let reconstruction = ((o.relu()? - (&o * x)?)? + tail)?.sum_all()?;
        let kl = ((((&logvar + 1.0)? - mu.sqr()?)? - logvar.exp()?)?.sum_all()? * -0.5)?;
        reconstruction + kl
    }

    fn reconstruct(&self, x: &Tensor) -> Result<Tensor> {
        sigmoid(&self.decode(&self.mu.forward(&self.encoder.forward(x)?.relu()?)?)?)
    }
}

fn rows(network: Network) -> Result<Tensor> {
    let shape = (network.batch, network.widths[0]);
    Tensor::from_vec(binary(shape.0 * shape.1, 1), shape, &Device::Cpu)
}

fn train(peer: &Peer, network: Network) -> Result<()> {
    let x = rows(network)?;
    let map = VarMap::new();
    let model = Vae::new(network.widths, &VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))?;
    // AdamW without weight decay is Adam.
    let options = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(map.all_vars(), options)?;
    let mut step = || -> Result<f32> {
        let loss = model.loss(&x)?;
        optimizer.backward_step(&loss)?;
        loss.to_scalar()
    };
    let first = step()?;
    peer.time("train_step", &network.shape(), network.batch, || {
        black_box(step().expect("a step"));
    });
    let last = step()?;
    assert!(last < first, "training does not reduce the loss: {first}, then {last}");
    Ok(())
}

fn infer(peer: &Peer, network: Network) -> Result<()> {
    let x = rows(network)?;
    let map = VarMap::new();
    let variables = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    Vae::new(network.widths, &variables)?;
    // Tensors instead of variables, so that nothing is kept for a backward pass.
    let weights = map.data().lock().expect("one thread").clone();
    let weights = weights.into_iter().map(|(name, v)| (name, v.as_detached_tensor())).collect();
    let constants = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let model = Vae::new(network.widths, &constants)?;
    peer.time("infer", &network.shape(), network.batch, || {
        black_box(model.reconstruct(&x).expect("a reconstruction"));
    });
    Ok(())
}

fn products(peer: &Peer) -> Result<()> {
    let matrix = |m, n, seed| Tensor::from_vec(uniform(m * n, seed), (m, n), &Device::Cpu);
    for [k, n] in PRODUCTS {
        let x = matrix(PRODUCT_ROWS, k, 1)?;
        let weight = matrix(n, k, 2)?;
        let dy = matrix(PRODUCT_ROWS, n, 3)?;
        for (kind, a, b) in [
            ("forward", x.clone(), weight.t()?),
            ("input gradient", dy.clone(), weight.clone()),
            ("weight gradient", dy.t()?, x.clone()),
        ] {
            peer.time("product", &format!("{k}-{n} {kind}"), PRODUCT_ROWS, || {
                black_box(a.matmul(&b).expect("a product"));
            });
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let peer = Peer::from_args("candle", "candle-core");
    if peer.wants("train_step") {
        TRAIN.into_iter().try_for_each(|network| train(&peer, network))?;
    }
    if peer.wants("infer") {
        INFER.into_iter().try_for_each(|network| infer(&peer, network))?;
    }
    if peer.wants("product") {
        products(&peer)?;
    }
    Ok(())
}
