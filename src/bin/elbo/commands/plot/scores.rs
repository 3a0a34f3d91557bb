//! Scores and labels from a CSV file.

use crate::data::formats::delimited::Delimited;
use crate::data::labels;
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
        let table = CsvTable::read(path)?;
        let columns: Vec<(String, Vec<f64>)> = names
            .into_iter()
            .map(|name| {
                let numbers = table.numbers(table.column("--score-column", &name)?)?;
                Ok((name, numbers))
            })
            .collect::<Result<_>>()?;
        let classes = match label_file {
            None => table.cells(table.column("--label-column", label_column)?),
            Some(path) => labels::read(path, table.rows.len(), &table.name)?.cells.into_words(),
        };
        let class = positive_class(&classes, positive)?;
        let positive: Vec<bool> = classes.iter().map(|name| *name == class).collect();
        if positive.iter().all(|&is| is) {
            return Err(Failure::Run(format!(
                "{}: all {} rows have the label '{class}'; expected rows of at least two classes",
                table.name,
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

/// A CSV file with a header, as text.
struct CsvTable {
    name: String,
    text: Delimited,
    header: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

impl CsvTable {
    fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = Delimited::read(path)
            .map_err(|error| Failure::Run(format!("{name}: cannot read: {error}")))?;
        let wrong = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => Failure::Run(format!(
                "{name}: line {}: {len} cells; expected {expected_len} as in the header",
                text.line(pos.as_ref())
            )),
            csv::ErrorKind::Utf8 { pos, .. } => Failure::Run(format!(
                "{name}: line {}: not UTF-8; expected CSV with a header",
                text.line(pos.as_ref())
            )),
            _ => Failure::Run(format!("{name}: expected CSV with a header")),
        };
        let mut reader = text.records();
        let header: Vec<String> =
            reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
        let rows = reader.records().collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
        if rows.is_empty() {
            return Err(Failure::Run(format!(
                "{name}: no rows below the header; expected a row for each score"
            )));
        }
        Ok(Self { name, text, header, rows })
    }

    fn column(&self, option: &str, name: &str) -> Result<usize> {
        self.header.iter().position(|known| known == name).ok_or_else(|| {
            Failure::Usage(format!(
                "{option} {name}: {} has no such column; its columns are {}",
                self.name,
                self.header.join(", ")
            ))
        })
    }

    fn cells(&self, column: usize) -> Vec<String> {
        self.rows.iter().map(|row| row[column].to_owned()).collect()
    }

    fn numbers(&self, column: usize) -> Result<Vec<f64>> {
        let number = |row: &csv::StringRecord| {
            row[column].parse().ok().filter(|number: &f64| !number.is_nan()).ok_or_else(|| {
                Failure::Run(format!(
                    "{}: line {}, column {}: '{}'; expected a number",
                    self.name,
                    self.text.line(row.position()),
                    self.header[column],
                    &row[column]
                ))
            })
        };
        self.rows.iter().map(number).collect()
    }
}
