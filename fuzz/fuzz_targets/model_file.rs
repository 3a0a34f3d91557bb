//! Loads arbitrary model files and checkpoints. A file that loads must survive saving and loading with
//! the same parameters and bytes, memory must be bounded by the size of the file and not by its
//! header, and a checkpoint that loads must allow further training.

#![no_main]

use elbo::Compute;
use elbo::train::Trainer;
use elbo::vae::Vae;
use elbo_fuzz::{Meter, measured, same};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ndarray::Array2;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

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

// A file starts with the length of its header, and nearly every mutation of the header makes that
// length wrong. So half of the mutations change the header alone and then correct the length.
fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let header = bytes[..size].split_first_chunk().and_then(|(&length, rest)| {
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)
    });
    let Some((header, tensors)) = header.filter(|_| seed.is_multiple_of(2)) else {
        return fuzzer_mutate(bytes, size, max_size);
    };
    let (mut header, tensors) = (header.to_vec(), tensors.to_vec());
    let (length, room) = (header.len(), max_size.saturating_sub(8 + tensors.len()));
    header.resize(room.max(length), 0);
    let length = fuzzer_mutate(&mut header, length, room.max(length));
    let file = [&(length as u64).to_le_bytes(), &header[..length], &tensors].concat();
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
