//! Readers of the file formats, each apart from what the tool does with the rows.

pub mod columns;
pub mod delimited;
pub mod file;
pub mod idx;
pub mod image_shape;
pub mod images;
mod lines;
pub mod npy;
pub mod npz;
mod records;
pub mod streamed;
pub mod table;
