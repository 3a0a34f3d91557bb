//! `elbo export`: a model for other programs to run.

use crate::failure::{Failure, Result};
use crate::onnx::{self, ExportedPart};
use crate::options::data::ModelFile;
use crate::output::{Folder, Staged, say, write_file};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;

/// Write a model for other programs to run
#[derive(Debug, Args)]
#[command(after_help = "\
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
  python3 -c \"import onnxruntime as o; o.InferenceSession('onnx/encoder.onnx').run(['mu'], {'x': x})\"")]
pub struct ExportOptions {
    #[command(flatten)]
    pub model: ModelFile,

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

pub fn run(args: &ExportOptions) -> Result<()> {
    let (vae, notes) = args.model.open()?;
    let (config, notes) = (vae.config(), &notes.data);
    if notes.scaling.features().is_some_and(|found| found != config.features()) {
        return Err(Failure::Run(format!(
            "{}: the notes on its data are for another number of features; damaged",
            args.model.model.display()
        )));
    }
    let one = |part| {
        let bytes = onnx::encode(&vae, notes, part)?;
        write_file(&args.out, |file| file.write_all(&bytes))
    };
    match args.onnx {
        PartName::Encoder => one(ExportedPart::Encoder)?,
        PartName::Decoder => one(ExportedPart::Decoder)?,
        PartName::Reconstruct => one(ExportedPart::Reconstruct)?,
        PartName::All => {
            let parts = [ExportedPart::Encoder, ExportedPart::Decoder, ExportedPart::Reconstruct];
            let names = parts.map(|part| format!("{}.onnx", part.name()));
            let folder = Folder::prepare(&args.out, &names.each_ref().map(String::as_str))?;
            let mut staged = Staged::default();
            for (part, name) in parts.into_iter().zip(&names) {
                let bytes = onnx::encode(&vae, notes, part)?;
                staged.add(&folder.join(name), |file| file.write_all(&bytes))?;
            }
            staged.commit()?;
        }
    }
    say(&format!("{config}, {} likelihood: {}", config.likelihood().name(), args.out.display()))
}
