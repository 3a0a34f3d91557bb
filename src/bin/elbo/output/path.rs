//! Names of files to write, and what their endings say.

use crate::figure::FigureFormat;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A picture, in the format that its name asks for.
#[derive(Clone, Debug)]
pub struct FigurePath {
    pub path: PathBuf,
    pub format: FigureFormat,
}

impl FigurePath {
    /// `None` if the name has the ending of neither format.
    fn of(path: &Path) -> Option<Self> {
        let format = match &ending(path)[..] {
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
        Self::of(Path::new(text)).ok_or("expected a name that ends in .png or .svg")
    }
}

/// Decoded codes: to look at, or to go on with.
#[derive(Clone, Debug)]
pub enum DecodedPath {
    Figure(FigurePath),
    Array(PathBuf),
    Table(PathBuf),
}

impl DecodedPath {
    pub fn path(&self) -> &Path {
        match self {
            Self::Figure(picture) => &picture.path,
            Self::Array(path) | Self::Table(path) => path,
        }
    }
}

impl FromStr for DecodedPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = Path::new(text);
        match &ending(path)[..] {
            "npy" => Ok(Self::Array(path.to_owned())),
            "csv" => Ok(Self::Table(path.to_owned())),
            _ => FigurePath::of(path)
                .map(Self::Figure)
                .ok_or("expected a name that ends in .png, .svg, .npy or .csv"),
        }
    }
}

/// What the name of an output file says about its contents, where these are columns.
#[derive(Clone, Debug)]
pub enum TablePath {
    Table(PathBuf),
    Array(PathBuf),
}

impl FromStr for TablePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("csv") => Ok(Self::Table(path)),
            Some("npy") => Ok(Self::Array(path)),
            _ => Err("expected a name that ends in .csv or .npy"),
        }
    }
}

/// The name of a `.npy` or `.csv` file.
pub fn array_name(text: &str) -> Result<PathBuf, &'static str> {
    match text.parse() {
        Ok(DecodedPath::Array(path) | DecodedPath::Table(path)) => Ok(path),
        _ => Err("expected a name that ends in .npy or .csv"),
    }
}

fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format() {
        let format = |name: &str| name.parse::<FigurePath>().map(|picture| picture.format);
        assert_eq!(format("a/b.PNG"), Ok(FigureFormat::Png));
        assert_eq!(format("x.y.svg"), Ok(FigureFormat::Svg));
        for name in ["png", "x.pdf", "x", ""] {
            assert!(format(name).is_err() && name.parse::<DecodedPath>().is_err(), "{name}");
        }
        assert!(matches!("x.npy".parse(), Ok(DecodedPath::Array(_))));
        assert!(matches!("x.csv".parse(), Ok(DecodedPath::Table(_))));
        assert!(matches!("x.svg".parse(), Ok(DecodedPath::Figure(_))));
    }
}
