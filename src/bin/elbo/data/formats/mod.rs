//! Readers of file formats; what the tool does with the rows is no concern of theirs.

pub mod cells;
pub mod columns;
pub mod csv_table;
mod dtype;
mod elements;
pub mod file;
mod gzip;
mod header;
pub mod idx;
pub mod image_file;
pub mod image_shape;
pub mod images;
mod jpeg_data;
mod lines;
pub mod npy;
pub mod npz;
pub mod records;
pub mod separator;
mod splitter;
pub mod streamed;
pub mod table;
mod table_options;
