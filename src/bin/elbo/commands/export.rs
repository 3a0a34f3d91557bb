//! `elbo export`: a model as an ONNX file.

use crate::failure::{Failure, Result};
use crate::onnx::{self, ExportedPart};
use crate::options::data::ModelFile;
use crate::output::{Console, OutputDirectory, Staged, is_stdout, write_file};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Export a model to ONNX
#[derive(Debug, Args)]
#[command(after_long_help = "\
The encoder maps x [rows, features] to mu [rows, latent]. The decoder maps z [rows, latent] to reconstruction \
[rows, features], the mean of the likelihood. reconstruct maps x to reconstruction, decoding mu. The number of \
rows is free and the type float32. A conditional model has the second input condition [rows, classes], one-hot.

x and reconstruction are in the units of the data: the file includes --scale and --signed of `elbo train`. \
Pixels stored as bytes must be divided by 255 first. The metadata lists columns and classes. The encoder's \
log-variance is not exported. The file declares the lowest versions that its operators need: IR 7 and operator \
set 13 (ONNX Runtime 1.6), IR 8 and set 17 with layer normalization (1.12), IR 9 and set 20 with GELU (1.17). The \
same model gives the same bytes.

Examples:
  elbo export --onnx reconstruct --model elbo-out/model.safetensors --out reconstruct.onnx
  elbo export --onnx all --model elbo-out/model.safetensors --out onnx
  python3 -c \"import onnxruntime as o; o.InferenceSession('onnx/encoder.onnx').run(['mu'], {'x': x})\"")]
pub struct ExportOptions {
    #[command(flatten)]
    pub model: ModelFile,

    /// Export this part: encoder, decoder, reconstruct, or all three
    #[arg(long, value_name = "PART", value_enum, hide_possible_values = true)]
    pub onnx: PartName,

    /// Write the model to FILE, or to the directory FILE with --onnx all
    ///
    /// The directory is created if needed and receives encoder.onnx, decoder.onnx and reconstruct.onnx.
    /// - writes one part to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PartName {
    Encoder,
    Decoder,
    Reconstruct,
    All,
}

pub fn run(args: &ExportOptions, console: Console) -> Result<()> {
    args.model.expect_other(&args.out)?;
    let (vae, notes) = args.model.open()?;
    let (config, notes) = (vae.config(), &notes.data);
    if notes.scaling.features().is_some_and(|found| found != config.features()) {
        return Err(Failure::Run(format!(
            "{}: damaged: the scaling is not for the model's {} features",
            args.model.model.display(),
            config.features()
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
            let folder =
                OutputDirectory::prepare(&args.out, &names.each_ref().map(String::as_str))?;
            let mut staged = Staged::default();
            for (part, name) in parts.into_iter().zip(&names) {
                let bytes = onnx::encode(&vae, notes, part)?;
                staged.add(&folder.join(name), |file| file.write_all(&bytes))?;
            }
            staged.commit()?;
        }
    }
    if !is_stdout(&args.out) {
        let likelihood = config.likelihood().name();
        console.note(&format!("{config}, {likelihood} likelihood: {}", args.out.display()));
    }
    Ok(())
}
