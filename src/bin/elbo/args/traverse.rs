//! `elbo traverse` and `elbo interpolate`.

use super::files::Decoded;
use super::values::{self, count};
use super::{Input, Model, Reading, Shape};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Args)]
pub struct Traverse {
    #[command(flatten)]
    pub model: Model,

    /// The latent dimensions to move: all, active (those whose mean varies over the data by more than 0.01,
    /// most active first; the model file of `elbo train` knows them), or numbers such as 0,3,5
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub dimensions: Dimensions,

    /// Values of each dimension, the first and the last one included
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = count(1000),
          allow_negative_numbers = true)]
    pub steps: usize,

    /// How far a dimension moves in each direction, in standard deviations of the prior
    #[arg(long, value_name = "R", default_value_t = 3.0, value_parser = values::above_zero,
          allow_negative_numbers = true)]
    pub range: f64,

    /// Move around the mean code of a row of this data file [default: around the mean of the prior]
    #[arg(long, value_name = "FILE")]
    pub from_data: Option<PathBuf>,

    /// The row of --from-data, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = row, requires = "from_data",
          allow_negative_numbers = true)]
    pub row: usize,

    /// Labels of --from-data, which a conditional model needs to encode a row
    #[arg(long, value_name = "FILE", requires = "from_data")]
    pub labels: Option<PathBuf>,

    /// Of a model of --scale min-max: read a number of --from-data outside of the training rows' range as
    /// the nearer end of it
    #[arg(long, requires = "from_data")]
    pub clip_to_range: bool,

    /// Of a conditional model: the class to decode [default: that of the row of --from-data]
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    pub label: Option<String>,

    /// Data from -1 to 1: of a model from elsewhere that was trained so
    #[arg(long)]
    pub signed: bool,

    /// X.png or X.svg for a picture, one dimension a row; X.npy for an array (float32, [dimensions × steps,
    /// features]); X.csv for a table with the columns dimension, value and the features
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Decoded,

    #[command(flatten)]
    pub shape: Shape,

    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Debug, Args)]
pub struct Interpolate {
    #[command(flatten)]
    pub input: Input,

    /// The rows to go between, counted from 0: A,B for one strip, A,B,C for one from A to B and one from B
    /// to C
    #[arg(long, value_name = "ROWS", value_parser = rows, allow_hyphen_values = true,
          help_heading = "Interpolation")]
    pub rows: Rows,

    /// Codes of a strip, those of both rows included
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count_from_two,
          allow_negative_numbers = true, help_heading = "Interpolation")]
    pub steps: usize,

    /// Along the arc about the mean of the prior, on which codes stay as far from it as typical ones
    /// [default: along the straight line]
    #[arg(long, help_heading = "Interpolation")]
    pub spherical: bool,

    /// Of a conditional model: the class to decode [default: those of the rows, mixed as the codes are]
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true, help_heading = "Interpolation")]
    pub label: Option<String>,

    /// X.png or X.svg for a picture, between the two rows as they are; X.npy for an array (float32,
    /// [strips × steps, features]); X.csv for a table with the columns from, to, part and the features
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Decoded,

    #[command(flatten)]
    pub shape: Shape,
}

/// Which latent dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimensions {
    All,
    Active,
    These(Vec<usize>),
}

impl FromStr for Dimensions {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "all" => Ok(Self::All),
            "active" => Ok(Self::Active),
            list => list
                .split(',')
                .map(|number| number.trim().parse().ok())
                .collect::<Option<Vec<_>>>()
                .map(Self::These)
                .ok_or("expected all, active, or numbers of dimensions such as 0,3,5"),
        }
    }
}

/// Rows in the order of their strips, two at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows(pub Vec<usize>);

fn rows(text: &str) -> Result<Rows, &'static str> {
    let numbers: Option<Vec<usize>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers
        .filter(|numbers| numbers.len() >= 2)
        .map(Rows)
        .ok_or("expected two rows or more, counted from 0, with commas between them, such as 0,7")
}

fn row(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "expected the number of a row, 0 or more")
}

fn count_from_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (2..=1000).contains(&n) => Ok(n),
        _ => Err("expected a whole number from 2 to 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_of_numbers() {
        assert_eq!("all".parse(), Ok(Dimensions::All));
        assert_eq!("active".parse(), Ok(Dimensions::Active));
        assert_eq!("0, 3,5".parse(), Ok(Dimensions::These(vec![0, 3, 5])));
        for text in ["", "some", "1,", "-1", "1.5"] {
            assert!(text.parse::<Dimensions>().is_err() && rows(text).is_err(), "{text}");
        }
        assert!(rows("1").is_err() && rows("4,4").is_ok());
        assert!(count_from_two("1").is_err() && count_from_two("2").is_ok());
    }
}
