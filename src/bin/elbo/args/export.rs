//! `elbo export`.

use super::Model;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub const AFTER_HELP: &str = "\
encoder takes x [rows, features] to mu [rows, latent]; decoder takes z [rows, latent] to reconstruction \
[rows, features], the mean of the likelihood; reconstruct takes x to reconstruction through mu. Any number of \
rows, float32. A conditional model takes condition [rows, classes] besides, one-hot. x and reconstruction have \
the units of the data: --scale and --signed of `elbo train` are a part of the file. Only bytes are not: they go \
in divided by 255. Columns and classes are listed in its metadata. The file is of IR version \
9 with operators of version 20 (ONNX 1.16, ONNX Runtime 1.17 or later). The same model gives the same bytes. \
An encoder's log-variance is not exported.

Examples:
  elbo export --onnx reconstruct --model elbo-out/model.safetensors --out reconstruct.onnx
  elbo export --onnx all --model elbo-out/model.safetensors --out onnx
  python3 -c \"import onnxruntime as o; o.InferenceSession('onnx/encoder.onnx').run(['mu'], {'x': x})\"";

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    pub model: Model,

    /// What to write as ONNX: encoder, decoder, reconstruct, or all three
    #[arg(long, value_name = "PART", value_enum, hide_possible_values = true)]
    pub onnx: PartName,

    /// The file to write; of all, a folder for encoder.onnx, decoder.onnx and reconstruct.onnx, made if
    /// it is not there
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PartName {
    Encoder,
    Decoder,
    Reconstruct,
    All,
}
