//! Options that say how a data file is read.

use super::values::{WidthHeight, former_shape};
use crate::data::formats::table::HeaderRow;
use crate::data::{DataDescription, ImageShape, ReadOptions, Stream};
use crate::failure::{Failure, Result};
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input format")]
pub struct ReadingOptions {
    /// Array to read from the .npz file of --data [default: the only one]
    ///
    /// Other files name their array after a colon, and --data may, too: FILE.npz:NAME.
    #[arg(long, value_name = "NAME")]
    pub array: Option<String>,

    /// Read a header line of a table: yes, no or auto
    ///
    /// auto: yes if the first line is words, or the column names of the model; no if it is numbers; an error if it
    /// could be either.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    header: HeaderName,

    /// Table columns to read, such as age,income or 1-5,7 [default: all]
    ///
    /// By name, or by number from 1; a range such as 3-3 is always by number. The label column is no feature.
    #[arg(long, value_name = "LIST")]
    pub columns: Option<String>,

    /// Table columns to leave out, such as id,name or 1-5,7
    #[arg(long, value_name = "LIST")]
    pub drop_columns: Option<String>,

    /// Table column of the labels, by name or by number from 1
    ///
    /// The labels may be words.
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,

    /// Read images in color [default: gray]
    #[arg(long)]
    pub rgb: bool,

    /// Read this value of bytes or pixels as 1 [default: 255 or 65535]
    ///
    /// For uint8 arrays, IDX files and images (65535 only in those of 16 bits) of a smaller range: 1 for masks of
    /// zeros and ones, 15 for 16 gray levels. Kept in the model file.
    #[arg(long, value_name = "VALUE", value_parser = clap::value_parser!(u16).range(1..))]
    pub white: Option<u16>,

    /// Leave large arrays on the disk: auto, always or never
    ///
    /// auto: from 1 GiB on. Applies to plain IDX and .npy files, whose rows are then read when they are needed.
    /// The results are the same.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    pub stream: Stream,

    #[command(flatten)]
    pub image: ImageSize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum HeaderName {
    Yes,
    No,
    #[default]
    Auto,
}

impl ReadingOptions {
    /// Returns the options for the readers.
    pub fn read(&self) -> ReadOptions {
        ReadOptions {
            array: self.array.clone(),
            usual_array: None,
            header: match self.header {
                HeaderName::Yes => Some(HeaderRow::Yes),
                HeaderName::No => Some(HeaderRow::No),
                HeaderName::Auto => None,
            },
            columns: self.columns.clone(),
            drop_columns: self.drop_columns.clone(),
            label_column: self.label_column.clone(),
            labels_apart: false,
            size: self.image.wanted().map(|size| size.0),
            rgb: self.rgb,
            white: self.white,
            stream: self.stream,
        }
    }
}

/// Size of the images, in files and in figures.
#[derive(Clone, Debug, Default, Args)]
pub struct ImageSize {
    /// Image size in pixels, such as 64x48 (width x height)
    ///
    /// Images of a folder are resized to it, whatever their proportions; rows of other data are shown as
    /// images of this size [default: the size in the data; without one, rows of 64 or more elements are square
    /// images if they can be, and other rows are not images].
    #[arg(long, value_name = "WxH")]
    pub size: Option<WidthHeight>,

    /// Former name of --size, with the sides in the other order
    #[arg(long, value_name = "HxW", hide = true, value_parser = former_shape, conflicts_with = "size")]
    shape: Option<WidthHeight>,
}

impl ImageSize {
    fn wanted(&self) -> Option<WidthHeight> {
        self.size.or(self.shape)
    }

    /// Returns the shape of rows of `features` elements as images; `known` is the shape that the data or the
    /// model have.
    pub fn of(&self, features: usize, known: Option<ImageShape>) -> Result<ImageShape> {
        let known = known.filter(|known| known.elements() == features);
        let Some(WidthHeight([width, height])) = self.wanted() else {
            return Ok(known.unwrap_or_else(|| ImageShape::nearly_square(features)));
        };
        // A color image has three numbers per pixel, in the order of the data.
        let shapes = [1, 3].map(|channels| ImageShape {
            channels_first: known
                .is_some_and(|known| known.channels_first && known.channels == channels),
            ..ImageShape::new(height as usize, width as usize, channels)
        });
        shapes.into_iter().find(|shape| shape.elements() == features).ok_or_else(|| {
            Failure::Usage(format!(
                "--size {width}x{height}: expected width × height to be {features}, the elements of a row \
                 (or a third of them, for color)"
            ))
        })
    }

    /// Returns the shape of the rows as images; `None` for rows that are not images, without `--size`.
    pub fn images(&self, features: usize, data: &DataDescription) -> Result<Option<ImageShape>> {
        if data.is_table(features) && self.wanted().is_none() {
            return Ok(None);
        }
        self.of(features, data.image).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_must_fit_the_rows() {
        let given = |size: &str| ImageSize { size: Some(size.parse().unwrap()), shape: None };
        let image = ImageShape::new;
        let size = given("30x20");
        assert_eq!(size.of(600, None).unwrap(), image(20, 30, 1));
        assert_eq!(size.of(1800, None).unwrap(), image(20, 30, 3));
        assert!(matches!(size.of(784, None), Err(Failure::Usage(_))));
        let known = Some(image(10, 20, 3));
        assert_eq!(ImageSize::default().of(600, known).unwrap(), image(10, 20, 3));
        assert_eq!(ImageSize::default().of(600, None).unwrap(), image(24, 25, 1));
        let red_first = ImageShape { channels_first: true, ..image(20, 30, 3) };
        assert_eq!(size.of(1800, Some(red_first)).unwrap(), red_first);
        assert_eq!(given("60x30").of(1800, Some(red_first)).unwrap(), image(30, 60, 1));
        assert!("28".parse::<WidthHeight>().is_err() && "0x3".parse::<WidthHeight>().is_err());
        // Squares are the same in both orders.
        assert_eq!(former_shape("8x8").unwrap().0, [8, 8]);
        assert_eq!(
            former_shape("20x30").unwrap_err(),
            "use --size, which has the width first: --size 30x20"
        );
    }
}
