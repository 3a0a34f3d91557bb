//! `elbo export`: a model as an ONNX file.

use crate::data::DataDescription;
use crate::failure::{Failure, Result};
use crate::model::file_of;
use crate::onnx::{self, ExportedPart};
use crate::options::data::ModelFile;
use crate::options::overwrite::OverwriteOption;
use crate::output::mark::MarkedFormat;
use crate::output::{Console, Inputs, OutputDirectory, Staged, is_stdout, write_file};
use clap::{Args, ValueEnum};
use elbo::vae::Vae;
use std::path::PathBuf;

/// Export a model to ONNX
#[derive(Debug, Args)]
#[command(after_long_help = "\
The encoder maps x [rows, features] to mu [rows, latent]. The decoder maps z [rows, latent] to reconstruction \
[rows, features], the mean of the likelihood. reconstruct maps x to reconstruction, decoding mu. The number of \
rows is free and the type float32; x and reconstruction are float64 if a feature lies far from 0 compared to its \
spread, as timestamps do. A conditional model has the second input condition [rows, classes], one-hot.

x and reconstruction are in the units of the data: the file includes --scale and --signed of `elbo train`. \
Pixels stored as bytes must be divided by 255 (or the value of --white) first. The metadata lists columns and classes. The encoder's \
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

    #[command(flatten)]
    overwrite: OverwriteOption,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PartName {
    Encoder,
    Decoder,
    Reconstruct,
    All,
}

impl PartName {
    fn parts(self) -> &'static [ExportedPart] {
        match self {
            Self::Encoder => &[ExportedPart::Encoder],
            Self::Decoder => &[ExportedPart::Decoder],
            Self::Reconstruct => &[ExportedPart::Reconstruct],
            Self::All => &[ExportedPart::Encoder, ExportedPart::Decoder, ExportedPart::Reconstruct],
        }
    }
}

pub fn run(args: &ExportOptions, console: Console) -> Result<()> {
    let model = file_of(&args.model.model);
    let mut inputs = Inputs::new([("--model", Some(&model))])?;
    inputs.add_run_of(&model);
    let parts = args.onnx.parts();
    let names: Vec<String> = parts.iter().map(|part| format!("{}.onnx", part.name())).collect();
    let directory = match parts {
        [_] => {
            if !is_stdout(&args.out) && args.out.extension().is_none_or(|end| end != "onnx") {
                return Err(Failure::Usage(format!(
                    "--out {}: expected a file name that ends in .onnx, or - for standard output",
                    args.out.display()
                )));
            }
            args.overwrite.of(&args.out).check("--out", &inputs)?;
            None
        }
        _ => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let directory = OutputDirectory::prepare(&args.out, &names)?;
            for name in names {
                args.overwrite.of(&directory.join(name)).check("--out", &inputs)?;
            }
            Some(directory)
        }
    };
    let (vae, notes) = args.model.open()?;
    let (config, notes) = (vae.config(), &notes.data);
    if notes.scaling.features().is_some_and(|found| found != config.features()) {
        return Err(Failure::Run(format!(
            "{}: damaged: the scaling is not for the model's {} features",
            args.model.model.display(),
            config.features()
        )));
    }
    let encoded: Vec<Vec<u8>> =
        parts.iter().map(|&part| marked(&vae, notes, part)).collect::<Result<_>>()?;
    match directory {
        None => write_file(&args.out, |file| file.write_all(&encoded[0]))?,
        Some(directory) => {
            let mut staged = Staged::default();
            for (name, bytes) in names.iter().zip(&encoded) {
                staged.add(&directory.join(name), |file| file.write_all(bytes))?;
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

/// Encodes a part with the mark of an ONNX file of elbo, on standard output too.
fn marked(vae: &Vae, notes: &DataDescription, part: ExportedPart) -> Result<Vec<u8>> {
    Ok(MarkedFormat::Onnx.mark(onnx::encode(vae, notes, part)?))
}
