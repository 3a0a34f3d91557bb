//! Tables of numbers: `.npy` arrays, or `.csv` with a header.

use super::path::TablePath;
use super::{npy, write_file};
use crate::data::DataDescription;
use crate::failure::Result;
use elbo::vae::Vae;
use ndarray::ArrayView2;
use std::io::Write;

/// A column of text after the numbers of a `.csv` file; a `.npy` file does not contain it.
pub struct TextColumn {
    pub name: String,
    pub cells: Vec<String>,
}

/// Writes rows as `.csv` or `.npy`.
pub fn write(
    to: &TablePath,
    rows: ArrayView2<f32>,
    names: &[String],
    text: Option<&TextColumn>,
) -> Result<()> {
    match to {
        TablePath::Npy(path) => write_file(path, |file| npy::write(file, rows)),
        TablePath::Csv(path) => write_file(path, |file| {
            let header = names.iter().chain(text.map(|text| &text.name));
            let records = rows.rows().into_iter().enumerate().map(|(i, row)| {
                row.into_iter().map(|&x| number(x)).chain(text.map(|text| text.cells[i].clone()))
            });
            write_csv(file, header, records)
        }),
    }
}

/// Writes CSV: the header, then each record.
pub fn write_csv<R: IntoIterator<Item: AsRef<[u8]>>>(
    file: impl Write,
    header: impl IntoIterator<Item: AsRef<[u8]>>,
    records: impl IntoIterator<Item = R>,
) -> csv::Result<()> {
    let mut table = csv::Writer::from_writer(file);
    table.write_record(header)?;
    for record in records {
        table.write_record(record)?;
    }
    Ok(table.flush()?)
}

/// Names of the features of a model.
pub fn features(data: &DataDescription, vae: &Vae) -> Vec<String> {
    (0..vae.config().features()).map(|i| data.feature(i)).collect()
}

/// Formats a number with the fewest digits that parse to the same number.
pub fn number(x: f32) -> String {
    if x == 0.0 || (1e-5..1e16).contains(&x.abs()) { x.to_string() } else { format!("{x:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use ndarray::arr2;

    #[test]
    fn writes_numbers_that_parse_to_the_same_bits() {
        let names = ["a", "b,c"].map(str::to_owned);
        let text = TextColumn { name: "class".into(), cells: vec!["x".into(), "y z".into()] };
        let scratch = Scratch::new("table");
        let path = scratch.0.join("a.csv");
        let rows = arr2(&[[0.1, -1e-30], [1e30, 3.0]]);
        write(&TablePath::Csv(path.clone()), rows.view(), &names, Some(&text)).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "a,\"b,c\",class\n0.1,-1e-30,x\n1e30,3,y z\n");
        for x in [0.1_f32, 1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, -0.0, 16_777_217.0, 1e16] {
            assert_eq!(number(x).parse::<f32>().unwrap().to_bits(), x.to_bits());
        }
    }
}
