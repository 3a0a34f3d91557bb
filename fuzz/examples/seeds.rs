//! Writes the seed inputs of the target `model_file` to a directory.

use elbo::Compute;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Naming, Vae};
use ndarray::Array2;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: seeds DIRECTORY")?);
    std::fs::create_dir_all(&folder)?;
    let deep = Config::builder(3, 1).encoder(&[2, 1]).decoder(&[2]).build()?;
    Vae::new(deep, 1).save(folder.join("deep.safetensors"))?;
    // pythae's names, spelled out because `Naming::pythae` accepts only layers of 512 units.
    let pythae = Naming::new([
        ("encoder.0", "encoder.layers.0.0"),
        ("mu", "encoder.embedding"),
        ("logvar", "encoder.log_var"),
        ("decoder.0", "decoder.layers.0.0"),
        ("decoder.1", "decoder.layers.1.0"),
    ])?;
    let shallow = Vae::new(Config::builder(3, 1).hidden(&[2]).build()?, 1);
    shallow.save_as(folder.join("pythae.safetensors"), &pythae)?;
    let linear = Vae::new(Config::builder(2, 1).hidden(&[]).build()?, 1);
    linear.save(folder.join("linear.safetensors"))?;
    let options = Options { batch: 2, ..Options::default() };
    let mut trainer = Trainer::new(linear, options, Compute::serial())?;
    trainer.step(&Array2::from_elem((3, 2), 0.5_f32))?;
    trainer.save_checkpoint(folder.join("checkpoint.safetensors"))?;
    Ok(())
}
