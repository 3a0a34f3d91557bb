//! Export of a model to ONNX.

mod graph;
mod layers;
mod likelihood;
pub mod messages;
mod units;

use crate::data::DataDescription;
use crate::failure::{Failure, Result};
use elbo::vae::Vae;
use graph::Graph;
use messages::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use prost::Message;

/// A part of a model to export. A conditional model takes the condition as a second input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExportedPart {
    /// From x, in the units of the data, to μ.
    Encoder,
    /// From z to the mean of the likelihood, in the units of the data.
    Decoder,
    /// From x to the mean of the likelihood at z = μ, both in the units of the data.
    Reconstruct,
}

impl ExportedPart {
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Reconstruct => "reconstruct",
        }
    }
}

/// Maximum size of a protocol buffer.
const MOST_BYTES: usize = i32::MAX as usize;

/// Encodes a part of a model as an ONNX file. The same model gives the same bytes.
pub fn encode(vae: &Vae, notes: &DataDescription, part: ExportedPart) -> Result<Vec<u8>> {
    let model = model(vae, notes, part)?;
    let length = model.encoded_len();
    if length > MOST_BYTES {
        return Err(Failure::Run(format!(
            "--onnx {}: the model takes {length} bytes; an ONNX file holds at most {MOST_BYTES}",
            part.name()
        )));
    }
    Ok(model.encode_to_vec())
}

/// Returns the lowest versions of the intermediate representation and of the operator set that have all operators
/// of a graph. Older runtimes refuse higher ones.
///
/// Source: the operator schemas and the table of versions of ONNX (Versioning.md).
fn versions(graph: &GraphProto) -> (i64, i64) {
    let has = |operator: &str| graph.node.iter().any(|node| node.op_type == operator);
    if has("Gelu") {
        (9, 20)
    } else if has("LayerNormalization") {
        (8, 17)
    } else {
        (7, 13)
    }
}

fn model(vae: &Vae, notes: &DataDescription, part: ExportedPart) -> Result<ModelProto> {
    let config = vae.config();
    let mut graph = Graph::default();
    let condition = |graph: &mut Graph| {
        let width = config.conditions();
        (width > 0).then(|| graph.input("condition", width, "the class of each row, one-hot"))
    };
    let (features, latent) = (config.features(), config.latent());
    if part == ExportedPart::Decoder {
        let z = graph.input("z", latent, "latent codes");
        let condition = condition(&mut graph);
        let y = layers::decoder(&mut graph, vae, z, condition.as_deref())?;
        units::leave(&mut graph, notes, y);
    } else {
        let what = "examples, in the units of the data";
        let x = graph.typed_input("x", features, what, units::element_type(notes));
        let condition = condition(&mut graph);
        let x = units::enter(&mut graph, notes, config.likelihood(), x);
        let mu = layers::encoder(&mut graph, vae, x, condition.as_deref());
        if part == ExportedPart::Reconstruct {
            let y = layers::decoder(&mut graph, vae, mu, condition.as_deref())?;
            units::leave(&mut graph, notes, y);
        }
    }
    let graph = if part == ExportedPart::Encoder {
        let what = "the mean of the latent code of each row";
        graph.finish(part.name(), "mu", latent, what, messages::FLOAT)
    } else {
        let what = "the mean of the likelihood, in the units of the data";
        graph.finish(part.name(), "reconstruction", features, what, units::element_type(notes))
    };
    let (ir_version, opset) = versions(&graph);
    let list = |names: &[String]| serde_json::to_string(names).expect("names are strings");
    let property = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
    Ok(ModelProto {
        ir_version,
        producer_name: "elbo".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        // Column and class names are JSON arrays, empty if there are none.
        metadata_props: vec![
            property("model", config.to_string()),
            property("activation", config.activation().to_string()),
            property("likelihood", config.likelihood().name().to_owned()),
            property("columns", list(&notes.columns)),
            property("classes", list(&notes.classes)),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elbo::layers::activation::Activation;
    use elbo::vae::Config;

    #[test]
    fn declares_the_lowest_versions_that_have_the_operators() {
        let version = |activation, layer_norm, hidden: &[usize], part| {
            let config =
                Config::builder(6, 2).hidden(hidden).activation(activation).layer_norm(layer_norm);
            let vae = Vae::new(config.build().unwrap(), 1);
            let model = model(&vae, &DataDescription::default(), part).unwrap();
            (model.ir_version, model.opset_import[0].version)
        };
        use ExportedPart::{Decoder, Encoder, Reconstruct};
        for part in [Encoder, Decoder, Reconstruct] {
            for activation in [
                Activation::Relu,
                Activation::LeakyRelu { slope: 0.1 },
                Activation::Elu { alpha: 1.0 },
                Activation::Silu,
                Activation::Softplus,
                Activation::Tanh,
                Activation::Sigmoid,
            ] {
                assert_eq!(version(activation, false, &[4], part), (7, 13), "{activation}");
                assert_eq!(version(activation, true, &[4], part), (8, 17), "{activation}");
            }
            for activation in [Activation::Gelu, Activation::GeluTanh] {
                assert_eq!(version(activation, true, &[4], part), (9, 20), "{activation}");
                // Without a hidden layer, the activation is not used.
                assert_eq!(version(activation, false, &[], part), (7, 13), "{activation}");
            }
        }
    }
}
