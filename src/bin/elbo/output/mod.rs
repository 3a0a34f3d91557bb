//! Output of the commands: files, figures and lines on standard output.

mod console;
mod directory;
pub mod images;
mod inputs;
pub mod mark;
pub mod npy;
pub mod path;
mod staged;
mod stdout;
pub mod strips;
pub mod table;
mod target;

pub use console::Console;
pub use directory::OutputDirectory;
pub use inputs::Inputs;
pub use path::is_stdout;
pub use staged::{Staged, write_bytes, write_figure, write_file};
pub use stdout::{say, say_json};
pub use target::Target;
