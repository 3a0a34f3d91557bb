//! Scores and labels from a CSV file.

use crate::data::formats::cells::is_number;
use crate::data::formats::csv_table::CsvTable;
use crate::data::formats::file::STDIN;
use crate::data::formats::records::TableError;
use crate::data::labels::{self, Labeled};
use crate::failure::{Failure, Result};
use std::path::Path;

/// The score column of `elbo score`.
const SCORE: &str = "negative_elbo";
/// Maximum number of classes in a message.
const NAMED: usize = 10;

pub struct Scores {
    /// The name and the scores of each column.
    pub columns: Vec<(String, Vec<f64>)>,
    /// True for the rows of the positive class.
    pub positive: Vec<bool>,
    /// The name of the positive class.
    pub class: String,
}

impl Scores {
    /// Reads the score columns (default: `negative_elbo`) of a file, and the labels of that or another file.
    pub fn read(
        path: &Path,
        scores: &[String],
        label_column: &str,
        label_file: Option<&Path>,
        positive: Option<&str>,
    ) -> Result<Self> {
        let names = match scores {
            [] => vec![SCORE.to_owned()],
            names => names.to_vec(),
        };
        let file = match path == Path::new("-") {
            true => STDIN.to_owned(),
            false => path.display().to_string(),
        };
        let table = CsvTable::read(path, "a CSV file with a header")?;
        if table.rows.is_empty() {
            return Err(Failure::Run(format!("{file}: the table has a header but no rows")));
        }
        let column = |option: &str, name: &str| {
            let wrong = |error| Failure::Usage(format!("{file}: {option}: {error}"));
            let place = table.columns.place(name).map_err(wrong)?;
            // Chosen by its number from a table whose first row would be lost as a header.
            let header = &table.columns.names[place];
            if header != name.trim() && is_number(header) {
                return Err(wrong(format!(
                    "line 1 has the number {header} in this column; expected a header with names"
                )));
            }
            Ok(place)
        };
        let wrong = |error: TableError| Failure::Run(format!("{file}: {error}"));
        let columns: Vec<(String, Vec<f64>)> = names
            .into_iter()
            .map(|name| {
                let numbers = table.numbers(column("--score-column", &name)?).map_err(wrong)?;
                Ok((name, numbers))
            })
            .collect::<Result<_>>()?;
        let classes = match label_file {
            None => table.labels(column("--label-column", label_column)?).map_err(wrong)?,
            Some(path) => {
                let (header, of) = (Some(label_column), &file[..]);
                let labeled = Labeled { rows: table.rows.len(), of, header, classes: &[] };
                labels::read(path, &labeled)?.values.into_text()
            }
        };
        let class = positive_class(&classes, positive)?;
        let positive: Vec<bool> = classes.iter().map(|name| *name == class).collect();
        if positive.iter().all(|&is| is) {
            return Err(Failure::Run(format!(
                "{file}: all {} rows have the label '{class}'; expected rows of at least two classes",
                positive.len()
            )));
        }
        Ok(Self { columns, positive, class })
    }
}

/// The requested class if any row has it; without a request, class 1 of 0 and 1.
fn positive_class(classes: &[String], asked: Option<&str>) -> Result<String> {
    let mut known: Vec<&str> = classes.iter().map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let list = || {
        let more = if known.len() > NAMED { ", …" } else { "" };
        format!("{}{more}", known[..known.len().min(NAMED)].join(", "))
    };
    match asked {
        Some(name) if known.contains(&name) => Ok(name.to_owned()),
        Some(name) => Err(Failure::Usage(format!(
            "--positive {name}: no row has this label; the labels are {}",
            list()
        ))),
        None if known == ["0", "1"] => Ok("1".to_owned()),
        None => Err(Failure::Usage(format!(
            "--positive is missing; name the class that high scores indicate, one of {}",
            list()
        ))),
    }
}
