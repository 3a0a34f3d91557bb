//! How a file of data is read, where it leaves something open.

use super::values::WidthHeight;
use crate::data::formats::table::Header;
use crate::data::{ReadOptions, Stream};
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reading data")]
pub struct ReadingOptions {
    /// Of a .npz file: the array to read [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub array: Option<String>,

    /// Of a table: whether its first line names the columns, yes, no or auto (yes if it is words, no if it
    /// is numbers, an error if it has both, labels aside)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    header: HeaderName,

    /// Of a table: the columns to read, by name or by number from 1 on, such as age,income or 1-5,7
    /// [default: all but the label]
    #[arg(long, value_name = "LIST")]
    pub columns: Option<String>,

    /// Of a table: columns to leave out, as --columns
    #[arg(long, value_name = "LIST")]
    pub drop_columns: Option<String>,

    /// Of a table: the column of labels, by name or by number from 1 on; they may be words
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,

    /// Of pictures: width and height in pixels, such as 64x48, that each is resized to, whatever its
    /// proportions [default: all have one size]
    #[arg(long, value_name = "WxH")]
    pub size: Option<WidthHeight>,

    /// Of pictures: read them in color, three numbers a pixel [default: gray]
    #[arg(long)]
    pub rgb: bool,

    /// Whether a plain IDX or .npy file stays on the disk and each row is read when it is wanted: auto
    /// (from 1 GiB on), always or never; the results are the same
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = true)]
    pub stream: Stream,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum HeaderName {
    Yes,
    No,
    #[default]
    Auto,
}

impl ReadingOptions {
    /// The same for the readers.
    pub fn read(&self) -> ReadOptions {
        ReadOptions {
            array: self.array.clone(),
            header: match self.header {
                HeaderName::Yes => Some(Header::Yes),
                HeaderName::No => Some(Header::No),
                HeaderName::Auto => None,
            },
            columns: self.columns.clone(),
            drop_columns: self.drop_columns.clone(),
            label_column: self.label_column.clone(),
            size: self.size.map(|size| size.0),
            rgb: self.rgb,
            stream: self.stream,
        }
    }
}
