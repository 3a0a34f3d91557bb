//! The command line: what can be asked for, and what makes no sense.

use crate::failure::{Failure, Result};
use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use elbo::Compute;
use elbo::simd::InstructionSet;
use std::path::PathBuf;
use std::str::FromStr;

/// Train and use MLP variational autoencoders: the same bits on any thread count and any
/// instruction set.
#[derive(Debug, Parser)]
#[command(name = "elbo", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub machine: Machine,
}

/// How the work is done. Neither option changes a bit of any result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Threads to compute on [default: as many as the process may use]
    #[arg(long, global = true, value_name = "N", value_parser = count(4096), allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set: auto (the widest there is), scalar, v3 (AVX2 and FMA), v4 (AVX-512),
    /// neon
    #[arg(long, global = true, value_name = "SET", default_value = "auto", value_parser = simd())]
    simd: InstructionSet,
}

impl Machine {
    /// The instruction set and the threads that were asked for.
    pub fn compute(&self) -> Result<Compute> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Compute::new(self.simd, self.threads.unwrap_or_else(available))?)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model and leave it in a folder with its history and pictures
    #[command(after_help = "\
Without --data it trains on an embedded sample of MNIST (5,000 images; the test takes 1,000 others). \
The folder then holds model.safetensors, history.csv, samples.png, reconstructions.png \
(inputs above outputs) and loss.png.

Examples:
  elbo train
  elbo train --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --out mnist
  elbo train --data table.npy --hidden 256,64 --latent 8 --epochs 50 --json --quiet")]
    Train(Train),

    /// Measure a model's loss on a data set
    #[command(after_help = "\
Deterministic: the noise is a function of the seed and of the row.

Example:
  elbo eval --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --json")]
    Eval(Eval),

    /// Draw examples from a model
    #[command(after_help = "\
Deterministic: sample i is a function of the seed and of i.

Example:
  elbo sample --model elbo-out/model.safetensors --count 100 --seed 7 --out samples.png")]
    Sample(Sample),

    /// Show what a model makes of a data set: each example encoded to its mean and decoded
    #[command(after_help = "\
Deterministic: the mean of the latent code is decoded, without noise.

Example:
  elbo reconstruct --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out reconstructions.png")]
    Reconstruct(Reconstruct),

    /// Write the latent code of each example of a data set
    #[command(after_help = "\
With Z latent dimensions, row i of the array (float32, [rows, 2·Z]) holds the mean mu of example i in \
columns 0 to Z-1 and the logarithm of its variance, logvar, in columns Z to 2·Z-1.

Example:
  elbo encode --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --out codes.npy
  python3 -c \"import numpy as np; mu, logvar = np.split(np.load('codes.npy'), 2, axis=1)\"")]
    Encode(Encode),

    /// Measure the kernels on this machine, each beside what the machine can do at most
    #[command(after_help = "\
A case is measured on one thread and on --threads, and beside it its limit: the rate of fused \
multiply-adds that the processor reaches on those threads (peak), or the memory's triad a = b + s*c \
on arrays of the same length. `fraction` is value / limit. A share means something on a machine that \
does nothing else.

Cases: peak, triad, train_step (gathering rows, noise, loss, backward, Adam), loss (BCE + KL with \
gradients), product (of one layer: forward, input gradient, weight gradient), math, noise (normal \
numbers), infer (encode to the mean, decode, sigmoid).

Examples:
  elbo bench
  elbo bench --filter train_step/784-400-20/128 --threads 2
  elbo bench --filter 'product/784-400 input gradient'
  elbo bench --json --simd v3 > v3.jsonl")]
    Bench(Bench),
}

#[derive(Debug, Args)]
pub struct Train {
    /// Training data: IDX images (plain or .gz), or .npy (float32 or float64 from 0 to 1, or uint8,
    /// which is divided by 255; all axes but the first are flattened) [default: the embedded sample]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,

    /// Test data, as --data [default: a tenth of the rows of --data, drawn by the seed and held out
    /// of the training]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub test: Option<PathBuf>,

    /// Widths of the encoder's hidden layers from the data inwards, in units, separated by commas;
    /// the decoder mirrors them
    #[arg(long, value_name = "WIDTHS", default_value = "400", allow_negative_numbers = true)]
    pub hidden: Widths,

    /// Latent dimensions
    #[arg(long, value_name = "Z", default_value_t = 20, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub latent: usize,

    /// Passes over the training data
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(1_000_000), allow_negative_numbers = true)]
    pub epochs: usize,

    /// Rows of a batch; the last one of an epoch may be shorter
    #[arg(long, value_name = "ROWS", default_value_t = 128, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub batch: usize,

    /// Adam's learning rate, per step
    #[arg(long, value_name = "RATE", default_value_t = 0.001, value_parser = learning_rate,
          allow_negative_numbers = true)]
    pub lr: f64,

    /// Weight of the KL divergence: loss = reconstruction + beta × KL
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = beta,
          allow_negative_numbers = true)]
    pub beta: f32,

    /// Seed of the initial weights, the order of the rows, the noise and the rows held out
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true)]
    pub seed: u64,

    /// Folder for the results; made if it is not there, older results in it are replaced
    #[arg(long, value_name = "DIR", default_value = "elbo-out")]
    pub out: PathBuf,

    /// End with one line of JSON: epochs, train_loss, test_loss, test_reconstruction, test_kl (nats
    /// per example), images_per_second (in training), seconds (of the whole run), model (its path)
    #[arg(long)]
    pub json: bool,

    /// No progress bar and no line for each epoch
    #[arg(long)]
    pub quiet: bool,

    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub input: Input,

    /// Weight of the KL divergence: loss = reconstruction + beta × KL
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, value_parser = beta,
          allow_negative_numbers = true)]
    pub beta: f32,

    /// Seed of the noise: one draw for each row
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true)]
    pub seed: u64,

    /// Print one line of JSON: rows, loss, reconstruction, kl, kl_per_dimension (nats per example),
    /// active_units
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Sample {
    #[command(flatten)]
    pub model: Model,

    /// Samples to draw
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub count: usize,

    /// Seed of the latent codes
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true)]
    pub seed: u64,

    /// X.png for a grid of images, X.npy for an array (float32, [count, features], from 0 to 1)
    #[arg(long, value_name = "FILE")]
    pub out: PictureOrArray,

    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Args)]
pub struct Reconstruct {
    #[command(flatten)]
    pub input: Input,

    /// Examples to reconstruct, from the first one on [default: 40 for a .png, all for a .npy]
    #[arg(long, value_name = "N", value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub count: Option<usize>,

    /// X.png for a picture, inputs above outputs; X.npy for the outputs as an array (float32,
    /// [rows, features], from 0 to 1)
    #[arg(long, value_name = "FILE")]
    pub out: PictureOrArray,

    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Args)]
pub struct Encode {
    #[command(flatten)]
    pub input: Input,

    /// X.npy, the array to write
    #[arg(long, value_name = "FILE", value_parser = array_name)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Only the cases whose name, case/shape/batch, contains NAME
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,

    /// Repetitions of a case, of some 30 ms or one call each; the best and the median are shown
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = count(1000), allow_negative_numbers = true)]
    pub repetitions: usize,

    /// Print one line of JSON for each case: case, shape, batch, threads, simd, value (the best), unit,
    /// limit, limit_unit, fraction, median, milliseconds (a call, in the best repetition), gigabytes_per_second (of the triad)
    #[arg(long)]
    pub json: bool,
}

/// A trained model.
#[derive(Debug, Args)]
pub struct Model {
    /// The model: a model.safetensors that `elbo train` wrote, or a PyTorch state dict in that
    /// format
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
}

/// A trained model and data for it.
#[derive(Debug, Args)]
pub struct Input {
    #[command(flatten)]
    pub model: Model,

    /// The data: IDX images (plain or .gz), or .npy (float32 or float64 from 0 to 1, or uint8, which
    /// is divided by 255; all axes but the first are flattened)
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// How rows are shown as images.
#[derive(Debug, Args)]
pub struct Shape {
    /// Height and width in pixels of an image in pictures, such as 28x28 [default: those of the data's
    /// images where a command reads some, else the most nearly square]
    #[arg(long, value_name = "HxW")]
    shape: Option<HeightWidth>,
}

impl Shape {
    /// The shape of images of `features` pixels, of which the data may know something.
    pub fn of(&self, features: usize, data: Option<[usize; 2]>) -> Result<[usize; 2]> {
        let Some(HeightWidth([height, width])) = self.shape else {
            return Ok(data.unwrap_or_else(|| crate::pictures::nearly_square(features)));
        };
        if height.checked_mul(width) == Some(features) {
            return Ok([height, width]);
        }
        Err(Failure::Usage(format!(
            "--shape {height}x{width}: expected height × width to be {features}, \
             the elements of a row"
        )))
    }
}

#[derive(Clone, Copy, Debug)]
struct HeightWidth([usize; 2]);

impl FromStr for HeightWidth {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let sides = text
            .split_once(['x', '×'])
            .and_then(|(height, width)| Some([height.parse().ok()?, width.parse().ok()?]));
        match sides {
            Some(sides) if !sides.contains(&0) => Ok(Self(sides)),
            _ => Err("expected height and width in pixels, such as 28x28"),
        }
    }
}

/// Widths of hidden layers.
#[derive(Clone, Debug)]
pub struct Widths(pub Vec<usize>);

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let widths: Option<Vec<usize>> = text
            .split(',')
            .map(|width| width.trim().parse().ok().filter(|n| (1..=MAX_WIDTH).contains(n)))
            .collect();
        widths.map(Self).ok_or_else(|| {
            format!("expected widths from 1 to {MAX_WIDTH}, separated by commas, such as 512,256")
        })
    }
}

/// What the name of an output file says about its contents.
#[derive(Clone, Debug)]
pub enum PictureOrArray {
    Picture(PathBuf),
    Array(PathBuf),
}

impl FromStr for PictureOrArray {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("png") => Ok(Self::Picture(path)),
            Some("npy") => Ok(Self::Array(path)),
            _ => Err("expected a name that ends in .png or .npy"),
        }
    }
}

fn array_name(text: &str) -> std::result::Result<PathBuf, &'static str> {
    match text.parse() {
        Ok(PictureOrArray::Array(path)) => Ok(path),
        _ => Err("expected a name that ends in .npy"),
    }
}

/// More units in one layer fit no machine.
const MAX_WIDTH: usize = 1 << 24;

/// Whole numbers from 1 on.
/// A seed: any number of 64 bits.
fn seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

fn count(most: usize) -> impl TypedValueParser<Value = usize> {
    StringValueParser::new().try_map(move |text| match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    })
}

fn simd() -> impl TypedValueParser<Value = InstructionSet> {
    StringValueParser::new().try_map(|name| name.parse::<InstructionSet>())
}

fn learning_rate(text: &str) -> std::result::Result<f64, &'static str> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("expected a number above 0, such as 0.001"),
    }
}

fn beta(text: &str) -> std::result::Result<f32, &'static str> {
    match text.parse() {
        Ok(beta) if beta >= 0.0 && f32::is_finite(beta) => Ok(beta),
        _ => Err("expected a number, 0 or more"),
    }
}

/// Reads the command line. `None` if it asked for help or the version, which are then printed.
pub fn parse() -> Result<Option<Cli>> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            crate::output::say(error.render().to_string().trim_end())?;
            Ok(None)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::Usage(
            "expected a command: train, eval, sample, reconstruct, encode or bench; \
                `elbo --help` says more"
                .to_owned(),
        )),
        _ => Err(Failure::Usage(one_line(&error.render().to_string()))),
    }
}

/// Clap's message without the usage that it repeats, in one line.
fn one_line(message: &str) -> String {
    let mut line = String::new();
    for part in message.lines().map(str::trim).take_while(|part| !part.starts_with("Usage:")) {
        if part.is_empty() || part.starts_with("For more information") {
            continue;
        }
        if let Some(tip) = part.strip_prefix("tip: ") {
            line.push_str("; ");
            line.push_str(tip);
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(part.strip_prefix("error: ").unwrap_or(part));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_documented() {
        for command in Cli::command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("elbo {}", command.get_name())), "no example");
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{}: {option}", command.get_name());
            }
        }
    }

    #[test]
    fn a_message_is_one_line_that_names_the_option() {
        let cases = [
            (
                "train --latent 0",
                "invalid value '0' for '--latent <Z>': expected a whole number from 1 to 16777216",
            ),
            (
                "train --lr NaN",
                "invalid value 'NaN' for '--lr <RATE>': expected a number above 0, such as 0.001",
            ),
            (
                "train --hidden 400,0",
                "invalid value '400,0' for '--hidden <WIDTHS>': expected widths from 1 to \
                 16777216, separated by commas, such as 512,256",
            ),
            (
                "sample --model m --out x.jpg",
                "invalid value 'x.jpg' for '--out <FILE>': \
                 expected a name that ends in .png or .npy",
            ),
            ("eval --model m", "the following required arguments were not provided: --data <FILE>"),
            (
                "train --latnet 3",
                "unexpected argument '--latnet' found; a similar argument exists: '--latent'",
            ),
        ];
        for (line, message) in cases {
            let words = std::iter::once("elbo").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(one_line(&error.render().to_string()), message);
        }
    }

    #[test]
    fn shapes_must_fit() {
        let shape = Shape { shape: Some("20x30".parse().unwrap()) };
        assert_eq!(shape.of(600, None).unwrap(), [20, 30]);
        assert!(matches!(shape.of(784, None), Err(Failure::Usage(_))));
        assert_eq!(Shape { shape: None }.of(600, Some([60, 10])).unwrap(), [60, 10]);
        assert_eq!(Shape { shape: None }.of(600, None).unwrap(), [24, 25]);
        assert!("28".parse::<HeightWidth>().is_err() && "0x3".parse::<HeightWidth>().is_err());
    }
}
