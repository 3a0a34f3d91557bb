//! Encoder and decoder as nodes.

use super::graph::{Attribute, Graph};
use super::likelihood;
use crate::failure::Result;
use elbo::layers::activation::Activation;
use elbo::layers::layer_norm;
use elbo::vae::Vae;

/// Adds the encoder, from `x` to μ.
pub fn encoder(graph: &mut Graph, vae: &Vae, x: String, condition: Option<&str>) -> String {
    graph.enter("encoder");
    let h = concatenated(graph, x, condition);
    let h = hidden(graph, vae, "encoder", vae.config().encoder().len(), h);
    graph.enter("mu");
    dense(graph, vae, "mu", &h)
}

/// Adds the decoder, from `z` to the mean of the likelihood.
pub fn decoder(graph: &mut Graph, vae: &Vae, z: String, condition: Option<&str>) -> Result<String> {
    graph.enter("decoder");
    let depth = vae.config().decoder().len();
    let h = concatenated(graph, z, condition);
    let h = hidden(graph, vae, "decoder", depth, h);
    let name = format!("decoder.{depth}");
    graph.enter(name.clone());
    let output = dense(graph, vae, &name, &h);
    graph.enter("likelihood");
    likelihood::mean(graph, vae.config().likelihood(), output)
}

/// `[x, condition]`, joined along the columns.
fn concatenated(graph: &mut Graph, x: String, condition: Option<&str>) -> String {
    match condition {
        None => x,
        Some(condition) => {
            graph.node_with("Concat", &[&x, condition], &[Attribute::Int("axis", 1)])
        }
    }
}

fn hidden(graph: &mut Graph, vae: &Vae, part: &str, depth: usize, x: String) -> String {
    let mut h = x;
    for i in 0..depth {
        let name = format!("{part}.{i}");
        graph.enter(name.clone());
        h = dense(graph, vae, &name, &h);
        if vae.config().layer_norm() {
            h = normalized(graph, vae, &format!("{part}_norm.{i}"), &h);
        }
        h = activated(graph, vae.config().activation(), &h);
    }
    h
}

/// `x·Wᵀ + b`.
fn dense(graph: &mut Graph, vae: &Vae, name: &str, x: &str) -> String {
    let parameters = vae.parameters();
    let weight = parameters.weight(name).expect("a layer of the model");
    let bias = parameters.bias(name).expect("a layer of the model");
    let weight = graph.tensor(format!("{name}.weight"), weight.shape(), &weight);
    let bias = graph.tensor(format!("{name}.bias"), bias.shape(), &bias);
    graph.node_with("Gemm", &[x, &weight, &bias], &[Attribute::Int("transB", 1)])
}

fn normalized(graph: &mut Graph, vae: &Vae, name: &str, x: &str) -> String {
    let [gain, shift] = ["weight", "bias"].map(|vector| {
        let name = format!("{name}.{vector}");
        let vector = vae.parameters().vector(&name).expect("a normalization of the model");
        graph.tensor(name, vector.shape(), vector)
    });
    let epsilon = Attribute::Float("epsilon", layer_norm::EPSILON as f32);
    let attributes = [Attribute::Int("axis", -1), epsilon];
    graph.node_with("LayerNormalization", &[x, &gain, &shift], &attributes)
}

fn activated(graph: &mut Graph, activation: Activation, x: &str) -> String {
    let with =
        |graph: &mut Graph, operator, attribute| graph.node_with(operator, &[x], &[attribute]);
    match activation {
        Activation::Relu => graph.node("Relu", &[x]),
        Activation::LeakyRelu { slope } => {
            with(graph, "LeakyRelu", Attribute::Float("alpha", slope))
        }
        Activation::Elu { alpha } => with(graph, "Elu", Attribute::Float("alpha", alpha)),
        Activation::Gelu => with(graph, "Gelu", Attribute::Text("approximate", "none")),
        Activation::GeluTanh => with(graph, "Gelu", Attribute::Text("approximate", "tanh")),
        Activation::Silu => {
            let sigmoid = graph.node("Sigmoid", &[x]);
            graph.node("Mul", &[x, &sigmoid])
        }
        Activation::Softplus => graph.node("Softplus", &[x]),
        Activation::Tanh => graph.node("Tanh", &[x]),
        Activation::Sigmoid => graph.node("Sigmoid", &[x]),
    }
}
