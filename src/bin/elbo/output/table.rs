//! Rows of numbers on their way out: `.npy`, or `.csv` with a header.

use super::path::TablePath;
use super::{npy, write_file};
use crate::data::DataDescription;
use crate::failure::Result;
use elbo::vae::Vae;
use ndarray::ArrayView2;
use std::io::Write;

/// A column of words after the numbers, which a `.npy` file has no place for.
pub struct Words {
    pub name: String,
    pub cells: Vec<String>,
}

/// Writes rows as `.csv` or `.npy`.
pub fn write(
    to: &TablePath,
    rows: ArrayView2<f32>,
    names: &[String],
    words: Option<&Words>,
) -> Result<()> {
    match to {
        TablePath::Npy(path) => write_file(path, |file| npy::write(file, rows)),
        TablePath::Csv(path) => write_file(path, |file| write_csv(file, rows, names, words)),
    }
}

fn write_csv(
    file: impl Write,
    rows: ArrayView2<f32>,
    names: &[String],
    words: Option<&Words>,
) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(names.iter().chain(words.map(|words| &words.name)))?;
    for (i, row) in rows.rows().into_iter().enumerate() {
        for &x in row {
            writer.write_field(number(x))?;
        }
        if let Some(words) = words {
            writer.write_field(&words.cells[i])?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(writer.flush()?)
}

/// What the columns of a table of rows are called.
pub fn features(notes: &DataDescription, vae: &Vae) -> Vec<String> {
    (0..vae.config().features()).map(|i| notes.feature(i)).collect()
}

/// The fewest digits that are read back as the same number.
pub fn number(x: f32) -> String {
    if x == 0.0 || (1e-5..1e16).contains(&x.abs()) { x.to_string() } else { format!("{x:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn a_table_has_a_header_and_numbers_that_come_back() {
        let names = ["a", "b,c"].map(str::to_owned);
        let words = Words { name: "class".into(), cells: vec!["x".into(), "y z".into()] };
        let mut file = Vec::new();
        let rows = arr2(&[[0.1, -1e-30], [1e30, 3.0]]);
        write_csv(&mut file, rows.view(), &names, Some(&words)).unwrap();
        assert_eq!(String::from_utf8(file).unwrap(), "a,\"b,c\",class\n0.1,-1e-30,x\n1e30,3,y z\n");
        for x in [0.1_f32, 1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, -0.0, 16_777_217.0, 1e16] {
            assert_eq!(number(x).parse::<f32>().unwrap().to_bits(), x.to_bits());
        }
    }
}
