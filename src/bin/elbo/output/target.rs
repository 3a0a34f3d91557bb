//! Checks of an output file before the work: it can be written, and nothing of the user's is lost.
//!
//! Without `--overwrite`, an existing file is replaced only if it is empty or has the mark of a file that elbo
//! wrote and nobody changed since.

use super::inputs::Inputs;
use super::mark::MarkedFormat;
use super::path::is_stdout;
use super::staged::{resolved, temporary_name};
use crate::failure::{Failure, Result};
use std::fs::{self, File};
use std::path::Path;

/// A file to write.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub path: &'a Path,
    /// True if it may replace a file that is not an earlier result.
    pub overwrite: bool,
}

impl Target<'_> {
    /// Checks that `option` can write the file, and that nothing is lost that it may not replace.
    pub fn check(self, option: &str, inputs: &Inputs) -> Result<()> {
        let Self { path, overwrite } = self;
        if is_stdout(path) {
            return Ok(());
        }
        inputs.expect_none_is(option, path)?;
        if !overwrite && let Some(found) = foreign(path) {
            return Err(Failure::Usage(format!(
                "{option} {}: the file exists{found}; choose another name, or replace it with --overwrite",
                path.display()
            )));
        }
        check_writable(path)
    }
}

/// Checks that a file can be written, or replaced if it exists.
fn check_writable(out: &Path) -> Result<()> {
    let cannot = |error: &dyn std::fmt::Display| Failure::cannot_write(out, error);
    match fs::metadata(out) {
        Ok(about) if about.is_dir() => return Err(cannot(&"it is a directory")),
        Ok(about) if about.is_file() && about.permissions().readonly() => {
            return Err(cannot(&"the file is read-only"));
        }
        // A device or a pipe, which is written in place.
        Ok(about) if !about.is_file() => {
            return File::options().write(true).open(out).map(drop).map_err(|error| cannot(&error));
        }
        _ => {}
    }
    let probe = temporary_name(&resolved(out))?;
    File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|error| cannot(&error))
}

/// Describes an existing file that only `--overwrite` replaces; `None` if there is none, or if nothing is lost
/// with it.
fn foreign(path: &Path) -> Option<&'static str> {
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.len() == 0 {
        return None;
    }
    let Some(format) = MarkedFormat::of(path) else { return Some("") };
    // Without permission to read, nothing is known of the file.
    match fs::read(path) {
        Ok(bytes) if format.is_marked(&bytes) => None,
        _ => Some(", and elbo did not write it, or it was changed since"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn replaces_only_marked_or_empty_files_unless_told_to() {
        let scratch = Scratch::new("target");
        let check = |name: &str, bytes: &[u8], overwrite| {
            let path = scratch.0.join(name);
            fs::write(&path, bytes).unwrap();
            Target { path: &path, overwrite }.check("--out", &Inputs::default())
        };
        let svg = MarkedFormat::Svg.mark(b"<svg/>".to_vec());
        let onnx = MarkedFormat::Onnx.mark(b"\x08\x09\x12\x04elbo".to_vec());
        let ours: [(&str, &[u8]); 5] =
            [("a.svg", &svg), ("a.SVG", &svg), ("a.onnx", &onnx), ("e.csv", b""), ("e.png", b"")];
        for (name, bytes) in ours {
            assert!(check(name, bytes, false).is_ok(), "{name}");
        }
        let foreign: [(&str, &[u8]); 10] = [
            ("b.png", b"\x89PNG\r\n\x1a\n..."),
            ("b.svg", b"<svg width='3'>"),
            // Of another format, and changed.
            ("b.onnx", &svg),
            ("c.svg", &svg[1..]),
            ("b.onnx", b"\x08\x09\x12\x04elbo"),
            ("b.csv", b"row,reconstruction,kl,negative_elbo\n0,1,2,3\n"),
            ("b.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"),
            ("b.safetensors", b"model"),
            ("b.1", b".TH elbo 1\n"),
            ("b", b"notes"),
        ];
        for (name, bytes) in foreign {
            let failure = check(name, bytes, false).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{name}");
            assert!(failure.to_string().contains("replace it with --overwrite"), "{failure}");
            assert!(check(name, bytes, true).is_ok(), "{name}");
        }
        assert_eq!(scratch.names().len(), 14, "no probe is left");
    }

    #[test]
    fn rejects_what_cannot_be_written() {
        let scratch = Scratch::new("unwritable");
        let check = |name: &str| {
            let path = scratch.0.join(name);
            let failure =
                Target { path: &path, overwrite: true }.check("--out", &Inputs::default());
            assert!(matches!(failure, Err(Failure::Run(_))), "{name}");
            failure.unwrap_err().to_string()
        };
        fs::create_dir(scratch.0.join("d.csv")).unwrap();
        fs::write(scratch.0.join("r.csv"), "row,reconstruction,kl\n").unwrap();
        let mut permissions = fs::metadata(scratch.0.join("r.csv")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(scratch.0.join("r.csv"), permissions).unwrap();
        assert!(check("d.csv").ends_with("d.csv: cannot write: it is a directory"));
        assert!(check("r.csv").ends_with("r.csv: cannot write: the file is read-only"));
        assert!(check("none/s.csv").contains("none/s.csv: cannot write: No such file"));
        assert!(check("r.csv/s.csv").contains("r.csv/s.csv: cannot write: "));
    }
}
