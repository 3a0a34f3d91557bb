//! Reads configuration text: the JSON and TOML forms of models and training options, valid ones with some
//! numbers and names replaced, and arbitrary text. A configuration that is valid is unchanged by writing and
//! reading, and a trainer can be made of it or refuses it, without a panic or a large allocation.

#![no_main]

use draw::Case;
use elbo::layers::activation::Activation;
use elbo::optim::Optimizer;
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Vae};
use elbo::{Augmentation, Compute};
use elbo_fuzz::{Input, Meter, measured};
use libfuzzer_sys::fuzz_target;
use ndarray::Array2;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::{Debug, Display};
use std::str::FromStr;

#[path = "../../tests/composition/draw.rs"]
#[allow(dead_code)]
mod draw;

#[global_allocator]
static METER: Meter = Meter;

/// Words that replace a number or a name.
const WORDS: [&str; 40] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "-1",
    "-0.0",
    "0.5",
    "0.1",
    "0.9999999999",
    "1e-46",
    "1e-45",
    "1.2e-38",
    "3.4028235e38",
    "3.5e38",
    "1e300",
    "-1e300",
    "5e-324",
    "255",
    "65536",
    "65537",
    "16777216",
    "16777217",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "\"\"",
    "\"relu\"",
    "\"gelu-tanh\"",
    "\"Mean\"",
    "\"Sum\"",
    "\"kl\"",
    "\"constant\"",
    "\"optimal\"",
    "[]",
    "[1,2]",
    "{}",
];

/// Replaces some of the numbers and names of a JSON text.
fn edited(input: &mut Input, text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..input.size(4) {
        // A value follows a colon, a comma or a bracket.
        let starts: Vec<usize> =
            text.match_indices([':', ',', '[']).map(|(at, _)| at + 1).collect();
        let Some(&start) = starts.get(usize::from(input.byte()) % starts.len().max(1)) else {
            break;
        };
        let length = text[start..].find([',', '}', ']', ':']).unwrap_or(0);
        text.replace_range(start..start + length, WORDS[input.size(WORDS.len() - 1)]);
    }
    text
}

/// Parses a JSON text. A result is unchanged by writing and reading, as JSON and as TOML.
fn parsed<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    text: &str,
    is_valid: impl Fn(&T) -> bool,
) -> Option<T> {
    let (parsed, peak) = measured(|| serde_json::from_str::<T>(text));
    assert!(peak <= 64 * text.len() + 65_536, "{peak} bytes for {text}");
    let value = match parsed {
        Ok(value) if is_valid(&value) => value,
        Ok(_) => return None,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
    // TOML has no integers beyond i64.
    if let Ok(toml) = toml::to_string(&value) {
        assert_eq!(toml::from_str::<T>(&toml).unwrap(), value, "{toml}");
    }
    Some(value)
}

/// Parses a name. A result is unchanged by writing and reading.
fn named<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = text.parse::<T>().ok()?;
    let written = value.to_string();
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{text}, {written}");
    Some(value)
}

/// Makes a trainer and takes a step.
fn train(config: &Config, options: &Options) {
    let valid = options.validate_for(config).is_ok();
    // Larger ones may be refused by this machine and accepted by another.
    if config.parameters() > 20_000 {
        return;
    }
    let vae = Vae::new(config.clone(), 1);
    let weights = vae.parameters().len();
    let compute = Compute::serial();
    let (trainer, peak) = measured(|| Trainer::new(vae, options.clone(), compute));
    assert_eq!(trainer.is_ok(), valid, "{config:?} {options:?}");
    // The state does not depend on the size of a batch, which may be larger than the data.
    assert!(peak <= 64 * weights + 65_536, "{peak} bytes for {config:?} {options:?}");
    let Ok(mut trainer) = trainer else { return };
    if options.objective.samples() > 100 {
        return;
    }
    let x = Array2::from_elem((3, config.features()), 0.5);
    let conditions = Array2::zeros((3, config.conditions()));
    let data = draw::Rows { x, conditions };
    let (step, peak) = measured(|| trainer.step(&data));
    let rows = 3 * options.objective.samples();
    let widths = config.encoder().iter().chain(config.decoder()).sum::<usize>()
        + config.features()
        + 8 * (config.latent() + 16)
        + config.conditions();
    let limit = 64 * weights + 256 * (rows + 16) * (widths + 64) + (1 << 20);
    assert!(peak <= limit, "{peak} bytes, {limit} allowed, for {config:?} {options:?}");
    if step.is_ok() {
        assert!(trainer.vae().parameters().iter().all(|weight| weight.is_finite()));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    if input.byte() < 32 {
        let text = String::from_utf8_lossy(&bytes[1.min(bytes.len())..]);
        parsed::<Config>(&text, |_| true);
        parsed::<Options>(&text, |options| options.validate().is_ok());
        if let Some(activation) = named::<Activation>(&text) {
            assert!(activation.validate().is_ok());
        }
        named::<Optimizer>(&text);
        named::<Augmentation>(&text);
        if let Some(set) = named::<InstructionSet>(&text) {
            assert!(InstructionSet::available().contains(&set));
        }
        return;
    }
    let seed = u64::from_le_bytes(std::array::from_fn(|_| input.byte()));
    let Some(case) = Case::draw(seed, [1, 12], 3, [2, 9]) else { return };
    let texts = [
        serde_json::to_string(&case.config).unwrap(),
        serde_json::to_string(&case.options).unwrap(),
    ];
    let [config, options] = texts.map(|text| edited(&mut input, &text));
    let config = parsed::<Config>(&config, |_| true);
    let options = parsed::<Options>(&options, |options| {
        // A number that JSON cannot hold is not valid either.
        options.validate().is_ok()
    });
    if let (Some(config), Some(options)) = (config, options) {
        train(&config, &options);
    }
});
