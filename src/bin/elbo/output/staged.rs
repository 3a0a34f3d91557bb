//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name in its own directory and renamed when it is complete. If anything
//! fails before that, the temporary file is removed and an older file of the final name is left as it was. Last,
//! the directory is synced, so that the new names survive a power cut.
//! The library saves models the same way, but a command may have several files appear together.

use super::mark::MarkedFormat;
use super::path::{FigurePath, is_stdout};
use super::stdout::print;
use crate::failure::{Failure, Result};
use crate::figure::{self, Figure};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file with `write`, whole or not at all; `-` is standard output.
pub fn write_file<E: Display>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
) -> Result<()> {
    if is_stdout(path) {
        // Buffered as a whole, because `print` accepts a closed pipe.
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|error| Failure::Run(format!("standard output: {error}")))?;
        return print(&bytes);
    }
    if fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        return write_device(path, write);
    }
    let mut staged = Staged::default();
    staged.add(path, write)?;
    staged.commit()
}

/// Writes to a device or a pipe, which cannot be renamed.
fn write_device<E: Display>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
) -> Result<()> {
    let cannot = |error: &dyn Display| Failure::cannot_write(path, error);
    let file = File::options().write(true).open(path).map_err(|error| cannot(&error))?;
    let mut file = BufWriter::new(file);
    write(&mut file).map_err(|error| cannot(&error))?;
    file.flush().map_err(|error| cannot(&error))
}

/// Follows a symbolic link to the file that is replaced.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if path.is_symlink() {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    } else {
        path.to_owned()
    }
}

/// Writes the bytes of a figure, which may have failed to render, whole or not at all, with the mark of its
/// format.
pub fn write_bytes<E: Display>(path: &Path, bytes: std::result::Result<Vec<u8>, E>) -> Result<()> {
    let bytes = bytes.map_err(|error| Failure::cannot_write(path, &error))?;
    let bytes = marked(path, bytes);
    write_file(path, |file| file.write_all(&bytes))
}

/// Adds the mark of the format that the name of a file has.
fn marked(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    match MarkedFormat::of(path) {
        Some(format) => format.mark(bytes),
        None => bytes,
    }
}

/// Writes a figure in the format of its file name.
pub fn write_figure(figure: &impl Figure, to: &FigurePath) -> Result<()> {
    write_bytes(&to.path, figure::render(figure, to.format))
}

/// Files that are complete and will be renamed together.
#[derive(Default)]
pub struct Staged {
    /// Temporary and final name of each file.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Writes the contents of `path` to a temporary file.
    pub fn add<E: Display>(
        &mut self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
    ) -> Result<()> {
        let target = resolved(path);
        let temporary = temporary_name(&target)?;
        // An existing file of this name was left by a killed process of the same number.
        let file = OpenFile::create(&temporary);
        let file = file.map_err(|error| Failure::cannot_write(path, &error))?;
        self.files.push((temporary, target));
        let mut file = BufWriter::new(file);
        write(&mut file).map_err(|error| Failure::cannot_write(path, &error))?;
        let file = file.into_inner().map_err(|error| Failure::cannot_write(path, error.error()))?;
        // Synced before it is renamed, so that a power cut cannot leave an empty file.
        file.sync_all().map_err(|error| Failure::cannot_write(path, &error))
    }

    /// Writes the bytes of a figure, which may have failed to render, to a temporary file, with the mark of its
    /// format.
    pub fn add_bytes<E: Display>(
        &mut self,
        path: &Path,
        bytes: std::result::Result<Vec<u8>, E>,
    ) -> Result<()> {
        let bytes = bytes.map_err(|error| Failure::cannot_write(path, &error))?;
        let bytes = marked(path, bytes);
        self.add(path, |file| file.write_all(&bytes))
    }

    /// Lets `write` create the temporary file under the name that it is given.
    pub fn add_by_name(
        &mut self,
        path: &Path,
        write: impl FnOnce(&Path) -> elbo::Result<()>,
    ) -> Result<()> {
        let temporary = temporary_name(path)?;
        self.files.push((temporary.clone(), path.to_owned()));
        write(&temporary).map_err(|error| match error {
            // The user knows the final name only.
            elbo::Error::Io { source, .. } => Failure::cannot_write(path, &source),
            error => error.into(),
        })
    }

    /// Renames the files in the order in which they were added.
    pub fn commit(mut self) -> Result<()> {
        self.files.reverse();
        let mut renamed: Vec<PathBuf> = Vec::new();
        while let Some((temporary, path)) = self.files.pop() {
            if let Err(error) = fault().and_then(|()| fs::rename(&temporary, &path)) {
                self.files.push((temporary, path.clone()));
                return Err(Failure::cannot_write(&path, &error));
            }
            // The last file of each directory.
            renamed.retain(|other| other.parent() != path.parent());
            renamed.push(path);
        }
        renamed.iter().try_for_each(|path| {
            sync_directory_of(path).map_err(|error| Failure::cannot_write(path, &error))
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            // If this fails, the file is gone already.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Makes the new names in the directory of a file survive a power cut.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // A directory may be writable, but not readable.
    let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) else { return Ok(()) };
    use io::ErrorKind::{InvalidInput, Unsupported};
    match fault().and_then(|()| directory.sync_all()) {
        // Some file systems sync no directories.
        Err(error) if !matches!(error.kind(), InvalidInput | Unsupported) => Err(error),
        _ => Ok(()),
    }
}

/// A file being written.
struct OpenFile(File);

impl OpenFile {
    fn create(path: &Path) -> io::Result<Self> {
        fault()?;
        File::create(path).map(Self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fault()?;
        self.0.sync_all()
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = fault() {
            // A disk that is full takes a part.
            self.0.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Error that a unit test asks for at this operation on the disk.
#[cfg(not(test))]
fn fault() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use tests::fault;

/// Returns a hidden name in the same directory, so that renaming never crosses file systems.
pub(super) fn temporary_name(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Failure::Usage(format!("{}: expected a file name", path.display())));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::cell::Cell;

    thread_local! {
        /// Operations on the disk until one fails, and its error.
        static FAULT: Cell<Option<(usize, io::ErrorKind)>> = const { Cell::new(None) };
    }

    pub(super) fn fault() -> io::Result<()> {
        match FAULT.get() {
            Some((0, kind)) => Err(kind.into()),
            Some((left, kind)) => {
                FAULT.set(Some((left - 1, kind)));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The operation fails, and so do all later ones: the disk stays full.
    #[test]
    fn a_disk_that_fails_at_any_operation_leaves_old_or_new_files_whole() {
        let scratch = Scratch::new("faults");
        let path = |name: &str| scratch.0.join(name);
        let names = ["a", "b", "c"];
        // Longer than the buffer, so that there are several writes.
        let new = |name: &str| name.repeat(20_000);
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            let (mut operations, mut unsynced) = (0, false);
            loop {
                names.iter().for_each(|name| fs::write(path(name), "old").unwrap());
                FAULT.set(Some((operations, kind)));
                let write = || -> Result<()> {
                    let mut staged = Staged::default();
                    for name in names {
                        let text = new(name);
                        staged.add(&path(name), |file| {
                            text.as_bytes().chunks(3000).try_for_each(|part| file.write_all(part))
                        })?;
                    }
                    staged.commit()
                };
                let result = write();
                FAULT.set(None);
                assert_eq!(scratch.names(), names, "at operation {operations}");
                let contents = names.map(|name| fs::read_to_string(path(name)).unwrap());
                // The first files are new, the others old, none is half.
                let renamed =
                    names.iter().zip(&contents).take_while(|(n, text)| **text == new(n)).count();
                assert!(contents[renamed..].iter().all(|text| text == "old"), "{operations}");
                if result.is_ok() {
                    assert_eq!(renamed, 3);
                    break;
                }
                // All files have their names, but a power cut could take them away.
                unsynced |= renamed == 3;
                let message = result.unwrap_err().to_string();
                let file = path(names[renamed.min(2)]);
                assert!(message.contains(": cannot write: "), "{message}");
                if renamed > 0 {
                    assert!(message.starts_with(&file.display().to_string()), "{message}");
                }
                operations += 1;
            }
            // Creation, several writes and the sync of each file, three renames, and the sync of the directory.
            assert!(operations > 3 * 4 + 3 + 1, "{operations}");
            assert_eq!(unsynced, cfg!(unix), "a directory that cannot be synced is an error");
        }
    }

    #[test]
    fn failure_leaves_the_older_file_and_nothing_else() {
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
    fn staged_files_appear_together() {
        let scratch = Scratch::new("together");
        let mut staged = Staged::default();
        staged.add(&scratch.0.join("a"), |file| file.write_all(b"1")).unwrap();
        staged.add(&scratch.0.join("b"), |file| file.write_all(b"2")).unwrap();
        assert!(scratch.names().iter().all(|name| name.ends_with(".tmp")));
        staged.commit().unwrap();
        assert_eq!(scratch.names(), ["a", "b"]);
    }
}
