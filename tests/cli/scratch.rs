//! A directory to run the tool in, and data for it.

use ndarray::{Array2, Array3};
use ndarray_npy::{read_npy, write_npy};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for one test, in which the tool runs; removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("elbo-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns a directory with `train.idx` and `test.idx` of 6×5 images, and a model trained on them.
    pub fn with_model(name: &str) -> Self {
        let scratch = Self::new(name);
        write_idx(&scratch.path("train.idx"), &images(150, 1));
        write_idx(&scratch.path("test.idx"), &images(40, 2));
        scratch.succeeds(&format!("{TRAIN} --quiet --out model"));
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_elbo"));
        command.args(line.split_whitespace()).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a command that must succeed, with only warnings and notes on standard error, and returns its standard output.
    pub fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_known = |line: &str| line.starts_with("warning: ") || line.starts_with("note: ");
        let quiet = stderr.lines().all(is_known);
        assert!(output.status.success() && quiet, "elbo {line}\n{stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, whatever it prints.
    pub fn works(&self, line: &str) {
        let output = self.run(line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "elbo {line}\n{stderr}");
    }

    /// Runs a command that must succeed, with nothing on standard output, and returns its standard error.
    pub fn says(&self, line: &str) -> String {
        let output = self.run(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "elbo {line}\n{stderr}");
        stderr
    }

    /// Runs a command that must fail with this exit code, one line on standard error and no change in the
    /// directory, and returns its message.
    pub fn fails(&self, code: i32, line: &str) -> String {
        let before = self.names();
        let output = self.run(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "elbo {line}\n{stderr}");
        assert_eq!(stderr.matches('\n').count(), 1, "elbo {line}\n{stderr}");
        assert_eq!(self.names(), before, "elbo {line} left something behind");
        let message = stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{stderr}"));
        message.trim_end().to_owned()
    }

    /// Returns all paths in the directory, sorted.
    fn names(&self) -> Vec<PathBuf> {
        fn collect(folder: &Path, names: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, names);
                }
                names.push(path);
            }
        }
        let mut names = Vec::new();
        collect(&self.0, &mut names);
        names.sort();
        names
    }

    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A very short run.
pub const TRAIN: &str = "train --data train.idx --validation test.idx --hidden 16,9 --latent 3 --epochs 2 \
                     --batch 32";

/// Images of bars that move with the row, which a model can learn.
pub fn images(count: usize, seed: usize) -> Array3<u8> {
    Array3::from_shape_fn((count, 6, 5), |(i, y, x)| {
        let bar = (i * 7 + seed) % 6;
        if y == bar || x == bar { 255 - (i % 50) as u8 } else { (i % 3) as u8 }
    })
}

pub fn write_idx(path: &Path, images: &Array3<u8>) {
    let mut file = vec![0, 0, 8, 3];
    file.extend(images.shape().iter().flat_map(|&n| (n as u32).to_be_bytes()));
    file.extend(images.iter());
    fs::write(path, file).unwrap();
}

pub fn last_line(stdout: &str) -> Value {
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// Reads an array of float32, or of float64, which is rounded to it.
pub fn read_array(path: &Path) -> Array2<f32> {
    read_npy(path)
        .or_else(|_| read_npy(path).map(|wide: Array2<f64>| wide.mapv(|x| x as f32)))
        .unwrap()
}

/// Rows of numbers around −0.5 and 0.5 with a little structure, in [−1, 1].
pub fn signed_table(rows: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, 12), |(i, j)| {
        let sign = if (i + j / 4) % 3 == 0 { 0.6 } else { -0.4 };
        sign + 0.01 * ((i * 7 + j * 5) % 23) as f32
    })
}

/// Options of short runs, which replace earlier ones.
pub const SHORT: &str = "--hidden 8 --latent 2 --epochs 2 --batch 32 --quiet --json --overwrite";

impl Scratch {
    /// Returns a directory with the images of [`Self::with_model`] and their labels, but no model.
    pub fn with_labels(name: &str) -> Self {
        let scratch = Self::new(name);
        for (set, count, seed) in [("train", 150, 1), ("test", 40, 2)] {
            write_idx(&scratch.path(&format!("{set}.idx")), &images(count, seed));
            let labels = (0..count).map(|i| ((i * 7 + seed) % 6) as u8);
            let mut file = vec![0, 0, 8, 1];
            file.extend((count as u32).to_be_bytes());
            file.extend(labels);
            fs::write(scratch.path(&format!("{set}.labels")), file).unwrap();
        }
        write_npy(scratch.path("signed.npy"), &signed_table(150)).unwrap();
        scratch
    }
}
