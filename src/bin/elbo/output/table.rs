//! Tables of numbers: `.npy` arrays, or `.csv` with a header.

use super::path::TablePath;
use super::{npy, write_file};
use crate::data::{DataDescription, UserRows};
use crate::failure::Result;
use crate::text::number;
use elbo::vae::Vae;
use std::io::{self, Write};

/// A column of text after the numbers of a `.csv` file; a `.npy` file does not contain it.
pub struct TextColumn {
    pub name: String,
    pub cells: Vec<String>,
}

/// Writes rows as `.csv` or `.npy`.
pub fn write(
    to: &TablePath,
    rows: &UserRows,
    names: &[String],
    text: Option<&TextColumn>,
) -> Result<()> {
    match to {
        TablePath::Npy(path) => write_file(path, |file| write_npy(file, rows)),
        TablePath::Csv(path) => write_file(path, |file| {
            let header = names.iter().chain(text.map(|text| &text.name));
            let records = (0..rows.len())
                .map(|i| cells(rows, i).into_iter().chain(text.map(|text| text.cells[i].clone())));
            write_csv(file, header, records)
        }),
    }
}

/// Writes rows as `.npy`, in the type that they have.
pub fn write_npy(file: &mut (impl Write + ?Sized), rows: &UserRows) -> io::Result<()> {
    match rows {
        UserRows::F32(rows) => npy::write(file, rows.view()),
        UserRows::F64(rows) => npy::write(file, rows.view()),
    }
}

/// Formats the numbers of a row.
pub fn cells(rows: &UserRows, row: usize) -> Vec<String> {
    match rows {
        UserRows::F32(rows) => rows.row(row).iter().map(|&x| number(x)).collect(),
        UserRows::F64(rows) => rows.row(row).iter().map(|&x| number(x)).collect(),
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

/// Name of a column beside those of the data: `name`, or `name_2` and so on if the data have such a column.
pub fn unique(name: &str, of_data: &[String]) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !of_data.contains(name)).expect("a finite number of columns")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use ndarray::arr2;

    #[test]
    fn names_of_columns_are_unique() {
        let names = ["class", "value", "value_2"].map(str::to_owned);
        let found = ["class", "value", "step"].map(|name| unique(name, &names));
        assert_eq!(found, ["class_2", "value_3", "step"]);
    }

    #[test]
    fn writes_numbers_that_parse_to_the_same_bits() {
        let names = ["a", "b,c"].map(str::to_owned);
        let text = TextColumn { name: "class".into(), cells: vec!["x".into(), "y z".into()] };
        let scratch = Scratch::new("table");
        let path = scratch.0.join("a.csv");
        let rows = arr2(&[[0.1, -1e-30], [1e30, 3.0]]);
        write(&TablePath::Csv(path.clone()), &UserRows::F32(rows), &names, Some(&text)).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "a,\"b,c\",class\n0.1,-1e-30,x\n1e30,3,y z\n");
        let wide = UserRows::F64(arr2(&[[1_700_000_031.0, 0.1], [1e40, 16_777_217.0]]));
        write(&TablePath::Csv(path.clone()), &wide, &names, None).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "a,\"b,c\"\n1700000031,0.1\n1e40,16777217\n");
    }
}
