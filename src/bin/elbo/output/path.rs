//! Names of output files, whose extension selects the format.

use crate::figure::FigureFormat;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A `.png` or `.svg` file.
#[derive(Clone, Debug)]
pub struct FigurePath {
    pub path: PathBuf,
    pub format: FigureFormat,
}

impl FigurePath {
    fn of(path: &Path) -> Option<Self> {
        let format = match &extension(path)[..] {
            "png" => FigureFormat::Png,
            "svg" => FigureFormat::Svg,
            _ => return None,
        };
        Some(Self { path: path.to_owned(), format })
    }
}

impl FromStr for FigurePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of(Path::new(text)).ok_or("expected a file name that ends in .png or .svg")
    }
}

/// A figure or a table of decoded codes.
#[derive(Clone, Debug)]
pub enum DecodedPath {
    Figure(FigurePath),
    Table(TablePath),
}

impl DecodedPath {
    pub fn path(&self) -> &Path {
        match self {
            Self::Figure(figure) => &figure.path,
            Self::Table(table) => table.path(),
        }
    }
}

impl FromStr for DecodedPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let figure = FigurePath::of(Path::new(text)).map(Self::Figure);
        figure.or_else(|| text.parse().ok().map(Self::Table)).ok_or(
            "expected a file name that ends in .png, .svg, .npy or .csv, or - for CSV on standard output",
        )
    }
}

/// A `.csv` table or a `.npy` array; `-` is CSV on standard output.
#[derive(Clone, Debug)]
pub enum TablePath {
    Csv(PathBuf),
    Npy(PathBuf),
}

impl TablePath {
    pub fn path(&self) -> &Path {
        let (Self::Csv(path) | Self::Npy(path)) = self;
        path
    }
}

impl FromStr for TablePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        match &extension(&path)[..] {
            "csv" => Ok(Self::Csv(path)),
            "npy" => Ok(Self::Npy(path)),
            _ if is_stdout(&path) => Ok(Self::Csv(path)),
            _ => Err(
                "expected a file name that ends in .csv or .npy, or - for CSV on standard output",
            ),
        }
    }
}

/// Returns true if an output goes to standard output.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Lowercase extension of a file name.
pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_selects_the_format() {
        let format = |name: &str| name.parse::<FigurePath>().map(|picture| picture.format);
        assert_eq!(format("a/b.PNG"), Ok(FigureFormat::Png));
        assert_eq!(format("x.y.svg"), Ok(FigureFormat::Svg));
        for name in ["png", "x.pdf", "x", ""] {
            assert!(format(name).is_err() && name.parse::<DecodedPath>().is_err(), "{name}");
        }
        let table = |name: &str| match name.parse() {
            Ok(DecodedPath::Table(table)) => table,
            other => panic!("{name}: {other:?}"),
        };
        assert!(matches!(table("x.npy"), TablePath::Npy(_)));
        assert!(matches!(table("x.csv"), TablePath::Csv(_)));
        assert!(matches!(table("-"), TablePath::Csv(_)));
        assert!(matches!("x.svg".parse(), Ok(DecodedPath::Figure(_))));
    }
}
