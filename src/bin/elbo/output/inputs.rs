//! Files that a call reads, which its output must not replace.

use crate::data::formats::image_file::is_image;
use crate::data::formats::npz::split_name;
use crate::failure::{Failure, Result};
use std::fs;
#[cfg(unix)]
use std::io;
use std::path::{Path, PathBuf};

/// Options of a run whose files its model depends on.
const OF_A_RUN: [&str; 6] =
    ["data", "validation", "test", "labels", "validation-labels", "test-labels"];

/// Files and directories that a call reads, or that its model was trained on.
#[derive(Default)]
pub struct Inputs(Vec<Input>);

struct Input {
    /// Reason to keep the file, such as `--data reads this file`.
    reason: String,
    source: Source,
}

/// Source of what an option reads.
enum Source {
    Path(PathBuf),
    Stdin,
}

impl Inputs {
    /// Collects the files of options, of which some may not be given.
    pub fn new<'a>(
        files: impl IntoIterator<Item = (&'static str, Option<&'a PathBuf>)>,
    ) -> Result<Self> {
        let given = files.into_iter().filter_map(|(option, path)| Some((option, path?)));
        let mut inputs = Self::default();
        let mut piped = None;
        for (option, path) in given {
            if path.as_os_str() != "-" {
                inputs.add(format!("{option} reads this file"), path);
                continue;
            }
            if let Some(first) = piped.replace(option) {
                return Err(Failure::Usage(format!(
                    "{first} and {option} cannot both read standard input (-)"
                )));
            }
            let reason = format!("{option} reads this file as standard input");
            inputs.0.push(Input { reason, source: Source::Stdin });
        }
        Ok(inputs)
    }

    /// Adds the files that the run of a model read, if the `run.toml` beside the model names them.
    pub fn add_run_of(&mut self, model: &Path) {
        let Ok(text) = fs::read_to_string(model.with_file_name("run.toml")) else { return };
        let Ok(run) = text.parse::<toml::Table>() else { return };
        for option in OF_A_RUN {
            let path = run.get(option).and_then(toml::Value::as_str);
            // The standard input of that run is not that of this call.
            if let Some(path) = path.filter(|path| *path != "-") {
                self.add("the model was trained with this file".to_owned(), Path::new(path));
            }
        }
    }

    fn add(&mut self, reason: String, path: &Path) {
        // The file of FILE.npz:NAME.
        let (path, _) = split_name(path);
        self.0.push(Input { reason, source: Source::Path(path.to_owned()) });
    }

    /// Returns an error if a file that `option` writes is one of these, by whatever path or link, or an image in
    /// a directory of images that is read.
    pub fn expect_none_is(&self, option: &str, out: &Path) -> Result<()> {
        let place = Place::of(out);
        for Input { reason, source } in &self.0 {
            let Some(read) = source.place() else { continue };
            if place.is(&read) {
                return Err(Failure::Usage(format!(
                    "{option} {}: {reason}, and it would be overwritten; choose another name",
                    out.display()
                )));
            }
            if source.is_dir() && is_image(out) {
                read.expect_outside(option, out, &place, reason)?;
            }
        }
        Ok(())
    }

    /// Returns an error if the directory `out`, which will hold images, is or is in a directory that is read.
    pub fn expect_none_around(&self, option: &str, out: &Path) -> Result<()> {
        let place = Place::of(out);
        for Input { reason, source } in self.0.iter().filter(|input| input.source.is_dir()) {
            if let Some(read) = source.place() {
                read.expect_outside(option, out, &place, reason)?;
            }
        }
        Ok(())
    }
}

impl Source {
    /// Returns the place of a source that exists and that an output could replace.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Path(path) => path.exists().then(|| Place::of(path)),
            // A redirected file has a number, but its path is not known on every system.
            Self::Stdin => Some(Place { path: PathBuf::new(), number: Some(number_of_stdin()?) }),
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self, Self::Path(path) if path.is_dir())
    }
}

/// A place on the disk, which several paths may lead to.
struct Place {
    path: PathBuf,
    /// Number of the file, which all of its names share; `None` if it does not exist.
    number: Option<(u64, u64)>,
}

impl Place {
    /// Resolves a path, as far as it exists.
    fn of(path: &Path) -> Self {
        let mut rest = Vec::new();
        let mut known = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let resolved = loop {
            if let Ok(resolved) = known.canonicalize() {
                break resolved;
            }
            match known.file_name().map(ToOwned::to_owned) {
                Some(name) if known.pop() => rest.push(name),
                _ => break known,
            }
        };
        let path = rest.iter().rev().fold(resolved, |path, name| path.join(name));
        Self { number: number(&path), path }
    }

    fn is(&self, other: &Self) -> bool {
        self.path == other.path || (self.number.is_some() && self.number == other.number)
    }

    fn expect_outside(&self, option: &str, out: &Path, place: &Self, reason: &str) -> Result<()> {
        if !place.path.starts_with(&self.path) {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{option} {}: {} the images of {}, and later commands would read the images written there, too; \
             choose another directory",
            out.display(),
            reason.trim_end_matches(" this file"),
            self.path.display()
        )))
    }
}

/// Device and number of a file, which tell it under any name: that of a link, of another mount, or none.
#[cfg(unix)]
fn number(path: &Path) -> Option<(u64, u64)> {
    number_of(&fs::metadata(path).ok()?)
}

/// Device and number of the file that standard input was redirected from.
#[cfg(unix)]
fn number_of_stdin() -> Option<(u64, u64)> {
    use std::os::fd::AsFd;
    let file = io::stdin().as_fd().try_clone_to_owned().ok()?;
    number_of(&fs::File::from(file).metadata().ok()?)
}

#[cfg(unix)]
fn number_of(about: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    about.is_file().then(|| (about.dev(), about.ino()))
}

#[cfg(not(unix))]
fn number(_: &Path) -> Option<(u64, u64)> {
    None
}

#[cfg(not(unix))]
fn number_of_stdin() -> Option<(u64, u64)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn refused(read: &Path, out: &Path) -> Option<String> {
        let inputs = Inputs::new([("--data", Some(&read.to_owned()))]).unwrap();
        inputs.expect_none_is("--out", out).err().map(|failure| failure.to_string())
    }

    #[test]
    #[cfg(unix)]
    fn finds_an_input_by_any_path_or_link() {
        let scratch = Scratch::new("inputs");
        let path = |name: &str| scratch.0.join(name);
        fs::create_dir(path("sub")).unwrap();
        fs::write(path("a.csv"), "1").unwrap();
        fs::write(path("b.csv"), "1").unwrap();
        fs::hard_link(path("a.csv"), path("hard.csv")).unwrap();
        std::os::unix::fs::symlink("a.csv", path("soft.csv")).unwrap();
        std::os::unix::fs::symlink(&scratch.0, path("sub/up")).unwrap();
        for name in ["a.csv", "sub/../a.csv", "hard.csv", "soft.csv", "sub/up/a.csv", "./a.csv"] {
            let message = refused(&path("a.csv"), &path(name)).expect(name);
            assert!(message.contains("--data reads this file, and it would be"), "{message}");
            assert!(refused(&path(name), &path("a.csv")).is_some(), "{name}");
        }
        fs::write(path("two.npz"), "1").unwrap();
        assert!(refused(&path("two.npz:x"), &path("two.npz")).is_some());
        for name in ["b.csv", "sub/a.csv", "new.csv", "sub/up/new.csv"] {
            assert_eq!(refused(&path("a.csv"), &path(name)), None, "{name}");
        }
    }

    #[test]
    fn keeps_new_images_out_of_a_directory_of_images() {
        let scratch = Scratch::new("photos");
        let path = |name: &str| scratch.0.join(name);
        fs::create_dir_all(path("photos/cats")).unwrap();
        for name in ["photos/new.png", "photos/cats/new.JPG", "photos/../photos/x.png"] {
            let message = refused(&path("photos"), &path(name)).expect(name);
            assert!(message.contains("--data reads the images of"), "{message}");
        }
        for name in ["photos/scores.csv", "new.png", "photos2/new.png"] {
            assert_eq!(refused(&path("photos"), &path(name)), None, "{name}");
        }
        let inputs = Inputs::new([("--data", Some(&path("photos")))]).unwrap();
        for (name, outside) in
            [("photos", false), ("photos/new/deep", false), ("", true), ("photos2", true)]
        {
            let refused = inputs.expect_none_around("--out", &path(name));
            assert_eq!(refused.is_ok(), outside, "{name}");
        }
    }

    #[test]
    fn keeps_the_training_data_of_a_model() {
        let scratch = Scratch::new("trained");
        let path = |name: &str| scratch.0.join(name);
        fs::write(path("run.toml"), format!("labels = {:?}\nlatent = 2", path("l.csv"))).unwrap();
        fs::write(path("l.csv"), "1").unwrap();
        let mut inputs = Inputs::default();
        inputs.add_run_of(&path("model.safetensors"));
        let message = inputs.expect_none_is("--out", &path("l.csv")).unwrap_err().to_string();
        assert!(message.contains("the model was trained with this file"), "{message}");
        assert!(inputs.expect_none_is("--out", &path("run.csv")).is_ok());
    }

    #[test]
    fn rejects_two_inputs_from_standard_input() {
        let dash = PathBuf::from("-");
        let options = ["--data", "--validation"].map(|option| (option, Some(&dash)));
        let message = Inputs::new(options).err().unwrap().to_string();
        assert_eq!(message, "--data and --validation cannot both read standard input (-)");
        assert!(Inputs::new([options[0], ("--test", None)]).is_ok());
    }
}
