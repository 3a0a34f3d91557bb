//! Loads arbitrary model files and checkpoints. A file that loads must survive saving and loading with
//! the same parameters and bytes, memory must be bounded by the size of the file and not by its
//! header, and a checkpoint that loads must allow further training.

#![no_main]

use draw::Draw;
use elbo::Compute;
use elbo::train::Trainer;
use elbo::vae::Vae;
use elbo_fuzz::{Meter, measured, same};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ndarray::Array2;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[path = "../../tests/composition/draw.rs"]
#[allow(dead_code)]
mod draw;

/// Entry of a header that is not a tensor.
const METADATA: &str = "__metadata__";

#[global_allocator]
static METER: Meter = Meter;

/// Directory of this process. It is in memory where the system allows it, because saving a model
/// waits for the disk.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = parent.join(format!("elbo-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a directory for the model files");
    folder
});

fn assert_same_weights(found: &Vae, expected: &Vae) {
    assert_eq!(found.config(), expected.config());
    let mut pairs = found.parameters().iter().zip(expected.parameters().iter());
    assert!(pairs.all(|(&a, &b)| same(a, b)), "the weights changed");
}

/// Changes a file as its structure suggests: shapes, types, places and names of its tensors, and the numbers in
/// its metadata.
fn edited(header: &[u8], seed: u32) -> Option<Vec<u8>> {
    const NUMBERS: [i64; 12] =
        [0, 1, 2, 3, 4, -1, 5, 100_000, 1 << 24, 1 << 31, 1 << 32, i64::MAX / 4 + 1];
    let mut draw = Draw(u64::from(seed));
    let mut header: Map<String, Value> = serde_json::from_slice(header).ok()?;
    // Earlier edits may have left entries of another kind, which have nothing to index.
    if !header.values().all(Value::is_object) {
        return None;
    }
    let tensors: Vec<String> = header.keys().filter(|name| *name != METADATA).cloned().collect();
    let mut any = |n: usize| draw.between(0, n.max(1) - 1);
    let (name, other) = (tensors.get(any(tensors.len()))?, tensors.get(any(tensors.len()))?);
    let number = Value::from(NUMBERS[any(NUMBERS.len())]);
    match any(9) {
        0 => header[name]["dtype"] = ["F16", "F64", "BF16", "I32", "U8", "BOOL"][any(6)].into(),
        1 => *header[name]["shape"].get_mut(any(2))? = number,
        2 => header[name]["shape"].as_array_mut()?.push(number),
        3 => header[name]["shape"].as_array_mut()?.reverse(),
        4 => *header[name]["data_offsets"].get_mut(any(2))? = number,
        // Two tensors of the same bytes, then of the same name but for its end.
        5 => header[name]["data_offsets"] = header[other]["data_offsets"].clone(),
        6 => {
            let tensor = header.remove(name)?;
            header.insert(name.replace(['0', '1', '2'], &any(4).to_string()), tensor);
        }
        // Many empty layers: their names alone are a long header.
        7 => {
            let part = ["encoder", "decoder"][any(2)];
            for i in 0..[3, 30][any(2)] {
                for (end, shape) in [("weight", "[0,0]"), ("bias", "[0]")] {
                    let text = format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
                    header.insert(format!("{part}.{i}.{end}"), serde_json::from_str(&text).ok()?);
                }
            }
        }
        // A number of the configuration, the options or the progress.
        _ => {
            let text = header.get(METADATA)?.get("elbo")?.as_str()?.to_owned();
            let is_digit = |c: char| c.is_ascii_digit() || "-.e".contains(c);
            let starts: Vec<usize> = text
                .match_indices([':', '[', ','])
                .map(|(at, _)| at + 1)
                .filter(|&at| text[at..].starts_with(is_digit) || text[at..].starts_with("null"))
                .collect();
            let start = *starts.get(any(starts.len()))?;
            let length = text[start..].find([',', '}', ']'])?;
            let numbers = ["-1", "0.5", "1e-300", "1e300", "null", "18446744073709551615", "[]"];
            let number = match any(2) {
                0 => number.to_string(),
                _ => numbers[any(numbers.len())].to_owned(),
            };
            let text = [&text[..start], &number, &text[start + length..]].concat();
            header[METADATA]["elbo"] = text.into();
        }
    }
    serde_json::to_vec(&header).ok()
}

// A file starts with the length of its header, and nearly every mutation of the header makes that
// length wrong. So most mutations change the header alone, its bytes or its structure, and then correct the
// length.
fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let header = bytes[..size].split_first_chunk().and_then(|(&length, rest)| {
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)
    });
    let Some((header, tensors)) = header.filter(|_| !seed.is_multiple_of(4)) else {
        return fuzzer_mutate(bytes, size, max_size);
    };
    let (mut header, tensors) = (header.to_vec(), tensors.to_vec());
    if let Some(edited) = Some(&header).filter(|_| seed & 1 == 1).and_then(|h| edited(h, seed)) {
        header = edited;
    } else {
        let (length, room) = (header.len(), max_size.saturating_sub(8 + tensors.len()));
        header.resize(room.max(length), 0);
        let length = fuzzer_mutate(&mut header, length, room.max(length));
        header.truncate(length);
    }
    let file = [&(header.len() as u64).to_le_bytes(), &header[..], &tensors].concat();
    let size = file.len().min(max_size);
    bytes[..size].copy_from_slice(&file[..size]);
    size
});

fuzz_target!(|bytes: &[u8]| {
    let [given, saved, again] =
        ["given", "saved", "again"].map(|name| FOLDER.join(name).with_extension("safetensors"));
    fs::write(&given, bytes).unwrap();

    let (vae, peak) = measured(|| Vae::load(&given));
    // The factor covers the file, its parsed header, the values of a tensor, and layers with one
    // output, whose panels are sixteen wide.
    let limit = 64 * bytes.len() + 65_536;
    assert!(peak <= limit, "{peak} bytes for a file of {}", bytes.len());
    let Ok(vae) = vae else {
        assert!(Trainer::resume(&given, Compute::serial()).is_err());
        return;
    };
    vae.save(&saved).unwrap();
    let loaded = Vae::load(&saved).unwrap();
    assert_same_weights(&loaded, &vae);
    loaded.save(&again).unwrap();
    assert_eq!(fs::read(&saved).unwrap(), fs::read(&again).unwrap());

    let Ok(trainer) = Trainer::resume(&given, Compute::serial()) else { return };
    trainer.save_checkpoint(&saved).unwrap();
    let mut resumed = Trainer::resume(&saved, Compute::serial()).unwrap();
    assert_same_weights(resumed.vae(), &vae);
    assert_eq!(resumed.options(), trainer.options());
    resumed.save_checkpoint(&again).unwrap();
    assert_eq!(fs::read(&saved).unwrap(), fs::read(&again).unwrap());

    // A step from any state either succeeds or returns an error and leaves the weights unchanged.
    let data = Array2::from_elem((3, vae.config().features()), 0.5_f32);
    for _ in 0..3 {
        let before = resumed.vae().clone();
        if resumed.step(&data).is_err() {
            assert_same_weights(resumed.vae(), &before);
            break;
        }
    }
});
