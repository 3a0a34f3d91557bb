//! Checks of an output file before the work: it can be written, and nothing of the user's is lost.
//!
//! An existing file is replaced if a command of this tool may have written it: an image or a figure, an array
//! of floats with two axes, a table with the header of a result, an ONNX model of this tool, or an empty file.
//! Anything else belongs to the user.

use super::inputs::Inputs;
use super::path::is_stdout;
use super::staged::{resolved, temporary_name};
use crate::failure::{Failure, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Beginnings of the headers of tables that commands write, whatever the model.
const HEADERS: [&[&str]; 4] =
    [&["row", "reconstruction"], &["mu_0"], &["dimension", "value"], &["from", "to", "part"]];

/// Checks that `option` can write the file `out`, and that it replaces nothing but an earlier result.
pub fn check_target(option: &str, out: &Path, inputs: &Inputs) -> Result<()> {
    if is_stdout(out) {
        return Ok(());
    }
    inputs.expect_none_is(option, out)?;
    if out.is_file()
        && let Some(found) = foreign(out)
    {
        return Err(Failure::Usage(format!(
            "{option} {}: {found}, not a result of this command, and it would be overwritten; choose another \
             name",
            out.display()
        )));
    }
    check_writable(out)
}

/// Checks that a file can be written, or replaced if it exists.
pub fn check_writable(out: &Path) -> Result<()> {
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

/// Checks a table that would be replaced: it has the header of a result, or the columns `names` and the long
/// numbers of a decoder, which data with these columns rarely have.
pub fn check_table(option: &str, out: &Path, names: &[String]) -> Result<()> {
    if extension(out) != "csv" || !out.is_file() {
        return Ok(());
    }
    let Some(line) = first_line(out).filter(|line| !line.is_empty()) else { return Ok(()) };
    let mut header = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
    let header = header.records().next().and_then(std::result::Result::ok).unwrap_or_default();
    // `value_2` if the data have a column `value`.
    let is_own = |cell: &str, own: &str| {
        let rest = cell.strip_prefix(own);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    let starts = |start: &&[&str]| {
        header.len() > start.len() && header.iter().zip(*start).all(|(cell, own)| is_own(cell, own))
    };
    if HEADERS.iter().any(starts) || header.iter().eq(names) && has_decoded(out) {
        return Ok(());
    }
    let shown: String = line.chars().take(60).collect();
    Err(Failure::Usage(format!(
        "{option} {}: a table with the first line '{}', not a result of this command, and it would be \
         overwritten; choose another name",
        out.display(),
        shown.trim_end()
    )))
}

/// Returns true if the first rows of a table may be those of a decoder: most numbers have as many digits as its
/// outputs, or each column has at most two values, as if drawn from a Bernoulli distribution.
fn has_decoded(table: &Path) -> bool {
    /// Rows that are looked at.
    const ROWS: usize = 20;
    /// A float32 has seven, of which the last may be 0.
    const DIGITS: usize = 6;
    let Ok(mut table) = csv::Reader::from_path(table) else { return false };
    let (mut rows, mut numbers, mut long) = (0, 0, 0);
    let mut values: Vec<BTreeSet<String>> = Vec::new();
    for record in table.records().take(ROWS) {
        let Ok(record) = record else { return false };
        rows += 1;
        values.resize(record.len(), BTreeSet::new());
        for (column, cell) in record.iter().enumerate().filter(|(_, c)| c.parse::<f64>().is_ok()) {
            let mantissa = cell.split('e').next().unwrap_or_default();
            let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            numbers += 1;
            long += usize::from(digits.trim_start_matches('0').len() >= DIGITS);
            values[column].insert(cell.to_owned());
        }
    }
    let drawn = values.iter().all(|values| values.len() <= 2);
    rows == 0 || numbers > 0 && (drawn || 2 * long >= numbers)
}

/// Describes a file that no command wrote under a name with its extension; `None` if one may have.
fn foreign(path: &Path) -> Option<&'static str> {
    let start = start(path);
    let has = |text: &str| has_within(&start, start.len(), text.as_bytes());
    let (own, otherwise) = match &extension(path)[..] {
        "png" => (start.starts_with(b"\x89PNG\r\n\x1a\n"), "a file that is not a PNG image"),
        "svg" => (has("<svg"), "a file that is not an SVG figure"),
        "npy" => (
            start.starts_with(b"\x93NUMPY\x01")
                && (has("'<f4'") || has("'<f8'"))
                && has("False")
                && axes(&start) == 2,
            "a file that is not a float array with two axes",
        ),
        // `check_table` looks at the header when the columns are known.
        "csv" => (!start.contains(&0), "a file that is not a table"),
        // The version of the format, then the name of the program.
        "onnx" => (
            start.first() == Some(&8) && has_within(&start, 16, b"elbo"),
            "a file that is not an ONNX model of elbo",
        ),
        // Pages of the manual.
        "1" => (has(".TH "), "a file that is not a manual page"),
        _ => (false, "an existing file"),
    };
    (!own && !start.is_empty()).then_some(otherwise)
}

fn has_within(start: &[u8], length: usize, part: &[u8]) -> bool {
    start[..length.min(start.len())].windows(part.len()).any(|window| window == part)
}

/// Number of axes in the header of a `.npy` file.
fn axes(start: &[u8]) -> usize {
    let text = String::from_utf8_lossy(start);
    let shape = text.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
    shape.map_or(0, |(shape, _)| shape.split(',').filter(|axis| !axis.trim().is_empty()).count())
}

/// The first bytes of a file; none if it cannot be read.
fn start(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    let file = File::open(path);
    // Without permission to read, only the name is known.
    let _ = file.and_then(|file| file.take(1024).read_to_end(&mut start));
    start
}

fn first_line(path: &Path) -> Option<String> {
    use std::io::BufRead;
    let mut line = Vec::new();
    std::io::BufReader::new(File::open(path).ok()?.take(1 << 20))
        .read_until(b'\n', &mut line)
        .ok()?;
    Some(String::from_utf8_lossy(&line).into_owned())
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn replaces_earlier_results_only() {
        let scratch = Scratch::new("target");
        let ours: [(&str, &[u8]); 8] = [
            ("a.png", b"\x89PNG\r\n\x1a\n..."),
            ("a.svg", b"<?xml version='1.0'?>\n<svg width='3'>"),
            ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"),
            ("a.onnx", b"\x08\x09\x12\x04elbo"),
            ("a.csv", b"row,reconstruction,kl,negative_elbo\n0,1,2,3\n"),
            ("g.csv", b"dimension_2,value_3,dimension,value\n0,1,2,3\n"),
            ("e.csv", b""),
            ("e.png", b""),
        ];
        let foreign: [(&str, &[u8]); 12] = [
            ("b.png", b"GIF89a"),
            ("b.svg", b"my notes"),
            ("b.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }"),
            ("c.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"),
            ("d.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }"),
            ("b.onnx", b"\x08\x07\x12\x07pytorch"),
            ("b.csv", b"height,weight\n1,2\n"),
            ("d.csv", b"x0,x1,y\n1,2,3\n"),
            ("h.csv", b"dimension\n1\n"),
            ("i.csv", b"dimension_a,value\n1,2\n"),
            ("c.csv", b"PK\x03\x04\x00\x00"),
            ("b.1", b"notes"),
        ];
        let check = |name: &str, bytes: &[u8]| {
            let path = scratch.0.join(name);
            fs::write(&path, bytes).unwrap();
            check_target("--out", &path, &Inputs::default())
                .and_then(|()| check_table("--out", &path, &["a".to_owned()]))
        };
        for (name, bytes) in ours {
            assert!(check(name, bytes).is_ok(), "{name}");
        }
        for (name, bytes) in foreign {
            let failure = check(name, bytes).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{name}");
            assert!(failure.to_string().contains("it would be overwritten"), "{failure}");
        }
        // The columns of the data, of a result and of other data.
        for own in [&b"a\n0.4837213\n0\n"[..], b"a\n-1.234567e-8\n", b"a\n", b"a\n1\n0\n1\n"] {
            assert!(check("f.csv", own).is_ok());
        }
        for data in
            [&b"a\n1\n0.25\n3\n"[..], b"a\n0.00012\n1e30\n2\n", b"a\n0.1234567,1\n", b"a\nx\n"]
        {
            assert!(check("f.csv", data).is_err());
        }
        assert_eq!(scratch.names().len(), 21, "no probe is left");
    }

    #[test]
    fn rejects_what_cannot_be_written() {
        let scratch = Scratch::new("unwritable");
        let check = |name: &str| {
            let failure = check_target("--out", &scratch.0.join(name), &Inputs::default());
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
