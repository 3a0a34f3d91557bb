//! `elbo export`: a model for other programs to run.

use crate::args::{Export, PartName};
use crate::failure::{Failure, Result};
use crate::onnx::{self, Part};
use crate::output::{Folder, Staged, say, write_file};
use std::io::Write;

pub fn run(args: &Export) -> Result<()> {
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
        PartName::Encoder => one(Part::Encoder)?,
        PartName::Decoder => one(Part::Decoder)?,
        PartName::Reconstruct => one(Part::Reconstruct)?,
        PartName::All => {
            let parts = [Part::Encoder, Part::Decoder, Part::Reconstruct];
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
