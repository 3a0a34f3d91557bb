//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name in its own folder and renamed when it is complete;
//! if anything fails before, the temporary file is removed and an older file of the final name
//! is left as it was.

pub mod images;
pub mod npy;
pub mod path;
pub mod strips;
pub mod table;

use crate::failure::{Failure, Result};
use crate::figure::{self, Figure};
use path::FigurePath;
pub use path::is_stdout;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` by `write`, whole or not at all; `-` is standard output.
pub fn write_file<E: Display>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
) -> Result<()> {
    if is_stdout(path) {
        // To memory first: a reader that goes away is no failure.
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|error| Failure::Run(format!("standard output: {error}")))?;
        return print(&bytes);
    }
    let mut staged = Staged::default();
    staged.add(path, write)?;
    staged.commit()
}

/// Writes what may have failed to be drawn, whole or not at all.
pub fn write_bytes<E: Display>(path: &Path, bytes: std::result::Result<Vec<u8>, E>) -> Result<()> {
    let bytes = bytes.map_err(|error| cannot_write(path, &error))?;
    write_file(path, |file| file.write_all(&bytes))
}

/// Writes a figure in the format that its name asks for.
pub fn write_figure(figure: &impl Figure, to: &FigurePath) -> Result<()> {
    write_bytes(&to.path, figure::render(figure, to.format))
}

/// Files that are written and wait to be renamed, all of them together.
#[derive(Default)]
pub struct Staged {
    /// Temporary and final name.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Writes the contents of `path` beside it.
    pub fn add<E: Display>(
        &mut self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
    ) -> Result<()> {
        let temporary = temporary_name(path)?;
        // A file of this name can only be what a process of the same number left when it was
        // killed.
        let file = File::create(&temporary).map_err(|error| cannot_write(path, &error))?;
        self.files.push((temporary, path.to_owned()));
        let mut file = BufWriter::new(file);
        write(&mut file).map_err(|error| cannot_write(path, &error))?;
        let file = file.into_inner().map_err(|error| cannot_write(path, error.error()))?;
        // On the disk before the name points to it: a power cut must not leave an empty file.
        file.sync_all().map_err(|error| cannot_write(path, &error))
    }

    /// As [`Self::add`], of contents that may have failed to be drawn.
    pub fn add_bytes<E: Display>(
        &mut self,
        path: &Path,
        bytes: std::result::Result<Vec<u8>, E>,
    ) -> Result<()> {
        let bytes = bytes.map_err(|error| cannot_write(path, &error))?;
        self.add(path, |file| file.write_all(&bytes))
    }

    /// As [`Self::add`], by a function that makes the file itself, under the name it is told.
    pub fn add_by_name(
        &mut self,
        path: &Path,
        write: impl FnOnce(&Path) -> elbo::Result<()>,
    ) -> Result<()> {
        let temporary = temporary_name(path)?;
        self.files.push((temporary.clone(), path.to_owned()));
        write(&temporary).map_err(|error| match error {
            // Under the name that means something to the user.
            elbo::Error::Io { source, .. } => cannot_write(path, &source),
            error => error.into(),
        })
    }

    /// A file that is written already, under another name.
    pub fn adopt(&mut self, written: PathBuf, path: PathBuf) {
        self.files.push((written, path));
    }

    /// Gives every file its name, in the order they were added.
    pub fn commit(mut self) -> Result<()> {
        self.files.reverse();
        while let Some((temporary, path)) = self.files.pop() {
            if let Err(error) = fs::rename(&temporary, &path) {
                self.files.push((temporary, path.clone()));
                return Err(cannot_write(&path, &error));
            }
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            // It can only be gone already, and a failure is on its way to the user as it is.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// A folder for results: made if it is not there, and taken away again if nothing came of it.
pub struct Folder {
    path: PathBuf,
    /// The folders that were made for it, innermost first.
    made: Vec<PathBuf>,
}

impl Folder {
    /// Makes the folder and finds out whether files can be written there, before hours are spent
    /// on what is to be written.
    ///
    /// A folder that stands where one of the files `names` is to go is found out here too.
    pub fn prepare(path: &Path, names: &[&str]) -> Result<Self> {
        let cannot = |error: io::Error| {
            Failure::Run(format!(
                "{}: cannot write there: {error}; --out must be a folder that can be written",
                path.display()
            ))
        };
        let made = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let folder = Self { path: path.to_owned(), made: made.map(Path::to_owned).collect() };
        fs::create_dir_all(path).map_err(cannot)?;
        let probe = temporary_name(&path.join("probe"))?;
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(cannot)?;
        if let Some(taken) = names.iter().map(|name| path.join(name)).find(|file| file.is_dir()) {
            return Err(Failure::Run(format!(
                "{}: a folder stands where this file is to be written; remove it, or choose \
                 another --out",
                taken.display()
            )));
        }
        Ok(folder)
    }

    /// Removes what processes that were killed while they wrote one of these files have left of it.
    pub fn sweep(&self, names: &[&str]) {
        let left_behind = |hidden: &str| {
            let rest = names
                .iter()
                .find_map(|name| hidden.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.'));
            let number = rest
                .and_then(|rest| rest.strip_suffix(".tmp").or_else(|| rest.strip_suffix(".part")));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(left_behind) {
                // Only room on the disk is lost if it stays.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for folder in &self.made {
            // Fails, rightly, where there is something in it.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// A path as one can paste it into a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Standard error, for what a person reads beside the result: notes, which --quiet silences, and warnings.
#[derive(Clone, Copy)]
pub struct Console {
    pub quiet: bool,
}

impl Console {
    /// Prints a line unless the command is to be quiet.
    pub fn note(self, line: &str) {
        if !self.quiet {
            // If standard error is closed, there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    pub fn warn(self, line: &str) {
        let _ = writeln!(io::stderr(), "warning: {line}");
    }
}

/// Writes a line to standard output.
pub fn say(line: &str) -> Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes one line of JSON to standard output.
pub fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let line = serde_json::to_string(value);
    say(&line.map_err(|error| Failure::Run(format!("cannot write JSON: {error}")))?)
}

/// `1,234,567`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things: `1 row`, `1,234 rows`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count as f64), if count == 1 { "" } else { "s" })
}

fn cannot_write(path: &Path, error: &dyn Display) -> Failure {
    Failure::Run(format!("{}: cannot write: {error}", path.display()))
}

/// A hidden name in the same folder, so that renaming never crosses file systems.
fn temporary_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Failure::Usage(format!("{}: expected the name of a file", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("elbo-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_failure_midway_leaves_the_older_file_and_nothing_else() {
        let scratch = Scratch::new("midway");
        let path = scratch.0.join("a.txt");
        write_file(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_file(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: cannot write: the disk is full", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(scratch.names(), ["a.txt"]);
    }

    #[test]
    fn paths_can_be_pasted() {
        for (path, text) in [("a/b-1.x", "a/b-1.x"), ("my run", "'my run'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn what_killed_processes_left_is_swept_away() {
        let scratch = Scratch::new("sweep");
        let (left, stays) = (
            [".a.bin.17.tmp", ".a.bin.4000000000.part"],
            ["a.bin", ".a.bin.x.tmp", ".b.bin.17.tmp", ".a.bin.tmp"],
        );
        for name in left.iter().chain(&stays) {
            fs::write(scratch.0.join(name), "").unwrap();
        }
        Folder::prepare(&scratch.0, &[]).unwrap().sweep(&["a.bin"]);
        let mut names = scratch.names();
        names.sort();
        let mut expected = stays.map(str::to_owned);
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn staged_files_appear_together() {
        let scratch = Scratch::new("together");
        let mut staged = Staged::default();
        staged.add(&scratch.0.join("a"), |file| file.write_all(b"1")).unwrap();
        staged.add(&scratch.0.join("b"), |file| file.write_all(b"2")).unwrap();
        assert!(scratch.names().iter().all(|name| name.ends_with(".tmp")));
        staged.commit().unwrap();
        let mut names = scratch.names();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_folder_that_stays_empty_goes_away() {
        let scratch = Scratch::new("empty");
        let folder = Folder::prepare(&scratch.0.join("x/y"), &[]).unwrap();
        assert!(folder.join("").exists());
        drop(folder);
        assert!(scratch.names().is_empty());

        let folder = Folder::prepare(&scratch.0.join("x/y"), &[]).unwrap();
        write_file(&folder.join("a"), |file| file.write_all(b"1")).unwrap();
        drop(folder);
        assert!(scratch.0.join("x/y/a").exists());
    }

    #[test]
    fn a_folder_below_a_file_cannot_be() {
        let scratch = Scratch::new("below");
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        let message = Folder::prepare(&file.join("out"), &[]).err().unwrap().to_string();
        assert!(message.contains("file/out: cannot write there"), "{message}");
        assert_eq!(scratch.names(), ["file"]);
    }

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")];
        for (value, text) in cases {
            assert_eq!(thousands(value), text);
        }
        let rows = [0, 1, 1234].map(|count| counted(count, "row"));
        assert_eq!(rows, ["0 rows", "1 row", "1,234 rows"]);
    }
}
