//! `elbo convert`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub const AFTER_HELP: &str = "\
Layouts: elbo (this crate's names, with the configuration), classic (the VAE of pytorch/examples: fc1, fc21, \
fc22, fc3, fc4), pythae (the default networks of its VAE: encoder.layers.0.0 and so on), map (as --map says). \
IN may have the names of any of the first three, and --to says those of OUT; with another --to than map, \
--map describes IN. Weights are [out, in], as PyTorch has them, in float32. The numbers are carried over to \
the bit. A model that the other side has no words for is refused: other activations, layer normalization, \
conditions, more hidden layers; of pythae other widths than 512.

A model read from classic or pythae has the Bernoulli likelihood, whose output is their sigmoid. That is the \
loss of the classic example and of pythae's reconstruction_loss=\"bce\"; pythae's default, half the squared \
error of the sigmoid, is no likelihood here: codes, reconstructions and samples of such a model are the same, \
but its loss in `elbo eval` and `elbo train` is the Bernoulli one.

A mapping is a TOML file of names here = names there, of layers (for their .weight and .bias) or of single \
tensors, and of what names do not tell:

  activation = \"gelu\"              # as --activation of `elbo train`; relu if it is missing
  likelihood = \"gaussian\"          # as --likelihood; bernoulli if it is missing
  variance = \"per-feature\"         # of gaussian; 1 if it is missing
  [names]
  \"encoder.0\" = \"enc.0\"
  mu = \"to_mean\"
  logvar = \"to_logvar\"
  \"decoder.0\" = \"dec.0\"
  \"decoder.1\" = \"dec.2\"
  \"likelihood.logvar\" = \"log_noise\"

Layer normalizations are encoder_norm.0, decoder_norm.0 and so on. Without [names] they are as here.

Examples:
  elbo convert elbo-out/model.safetensors classic.safetensors --to classic
  python3 -c \"import safetensors.torch as s; model.load_state_dict(s.load_file('classic.safetensors'))\"
  python3 -c \"import safetensors.torch as s; s.save_file(model.state_dict(), 'pythae.safetensors')\"
  elbo convert pythae.safetensors model.safetensors
  elbo convert mine.safetensors model.safetensors --map mine.toml
  elbo convert model.safetensors mine.safetensors --to map --map mine.toml";

#[derive(Debug, Args)]
pub struct Convert {
    /// The model to read: a model.safetensors that `elbo train` wrote, or a PyTorch state dict in that
    /// format
    #[arg(value_name = "IN")]
    pub input: PathBuf,

    /// The file to write
    #[arg(value_name = "OUT")]
    pub out: PathBuf,

    /// Layout of OUT: elbo, classic, pythae or map
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t = LayoutName::Elbo,
          hide_possible_values = true)]
    pub to: LayoutName,

    /// A mapping between the names of this crate and others, of OUT with --to map, otherwise of IN
    #[arg(long, value_name = "FILE", required_if_eq("to", "map"))]
    pub map: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum LayoutName {
    Elbo,
    Classic,
    Pythae,
    Map,
}
