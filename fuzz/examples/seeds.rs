//! Writes the seeds of the target `model_file` into the folder given.

use elbo::Compute;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use ndarray::Array2;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: seeds FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    let deep = Config::builder(3, 1).encoder(&[2, 1]).decoder(&[2]).build()?;
    Vae::new(deep, 1).save(folder.join("deep.safetensors"))?;
    let linear = Vae::new(Config::builder(2, 1).hidden(&[]).build()?, 1);
    linear.save(folder.join("linear.safetensors"))?;
    let options = Options { batch: 2, ..Options::default() };
    let mut trainer = Trainer::new(linear, options, Compute::serial())?;
    trainer.step(&Array2::from_elem((3, 2), 0.5_f32))?;
    trainer.save_checkpoint(folder.join("checkpoint.safetensors"))?;
    Ok(())
}
