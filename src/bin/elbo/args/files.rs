//! Names of files to write, and what their endings say.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A picture, in the format that its name asks for.
#[derive(Clone, Debug)]
pub struct Picture {
    pub path: PathBuf,
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Svg,
}

impl Picture {
    /// `None` if the name has the ending of neither format.
    fn of(path: &Path) -> Option<Self> {
        let format = match &ending(path)[..] {
            "png" => Format::Png,
            "svg" => Format::Svg,
            _ => return None,
        };
        Some(Self { path: path.to_owned(), format })
    }
}

impl FromStr for Picture {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of(Path::new(text)).ok_or("expected a name that ends in .png or .svg")
    }
}

/// Decoded codes: to look at, or to go on with.
#[derive(Clone, Debug)]
pub enum Decoded {
    Picture(Picture),
    Array(PathBuf),
    Table(PathBuf),
}

impl Decoded {
    pub fn path(&self) -> &Path {
        match self {
            Self::Picture(picture) => &picture.path,
            Self::Array(path) | Self::Table(path) => path,
        }
    }
}

impl FromStr for Decoded {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = Path::new(text);
        match &ending(path)[..] {
            "npy" => Ok(Self::Array(path.to_owned())),
            "csv" => Ok(Self::Table(path.to_owned())),
            _ => Picture::of(path)
                .map(Self::Picture)
                .ok_or("expected a name that ends in .png, .svg, .npy or .csv"),
        }
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
        let format = |name: &str| name.parse::<Picture>().map(|picture| picture.format);
        assert_eq!(format("a/b.PNG"), Ok(Format::Png));
        assert_eq!(format("x.y.svg"), Ok(Format::Svg));
        for name in ["png", "x.pdf", "x", ""] {
            assert!(format(name).is_err() && name.parse::<Decoded>().is_err(), "{name}");
        }
        assert!(matches!("x.npy".parse(), Ok(Decoded::Array(_))));
        assert!(matches!("x.csv".parse(), Ok(Decoded::Table(_))));
        assert!(matches!("x.svg".parse(), Ok(Decoded::Picture(_))));
    }
}
