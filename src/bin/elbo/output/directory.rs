//! Directories for the results of a command.

use super::path::is_stdout;
use super::staged::temporary_name;
use crate::failure::{Failure, Result};
use std::fs::{self, File, TryLockError};
use std::io;
use std::iter;
use std::path::{Path, PathBuf};

/// A directory for results, which is created if necessary and removed again if it stays empty.
pub struct OutputDirectory {
    path: PathBuf,
    /// Directories that were created for it, innermost first.
    created: Vec<PathBuf>,
    /// The directory itself, while it is locked; the system unlocks it when the process ends, however it does.
    lock: Option<File>,
}

impl OutputDirectory {
    /// Creates the directory and checks that the files `names` can be written there, before hours are spent on
    /// their contents.
    pub fn prepare(path: &Path, names: &[&str]) -> Result<Self> {
        if is_stdout(path) {
            return Err(Failure::Usage(
                "--out -: the results are several files; expected a directory".to_owned(),
            ));
        }
        let cannot = |error: io::Error| {
            Failure::Run(format!(
                "{}: cannot write to this directory: {error}; choose another --out",
                path.display()
            ))
        };
        let created = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists());
        let created = created.map(Path::to_owned).collect();
        let directory = Self { path: path.to_owned(), created, lock: None };
        fs::create_dir_all(path).map_err(cannot)?;
        let probe = temporary_name(&path.join("probe"))?;
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(cannot)?;
        if let Some(taken) = names.iter().map(|name| path.join(name)).find(|file| file.is_dir()) {
            return Err(Failure::Run(format!(
                "{}: cannot write this file, because a directory has its name; remove the directory or choose \
                 another --out",
                taken.display()
            )));
        }
        Ok(directory)
    }

    /// The directory of another process, which this one only reads.
    pub fn of_other(path: &Path) -> Self {
        Self { path: path.to_owned(), created: Vec::new(), lock: None }
    }

    /// Locks the directory until the end of the run; returns an error if another process has locked it.
    pub fn lock(&mut self) -> Result<()> {
        // On Windows a directory cannot be opened as a file, and some file systems have no locks.
        let Ok(directory) = File::open(&self.path) else { return Ok(()) };
        match directory.try_lock() {
            Ok(()) => self.lock = Some(directory),
            Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                // It may be empty still, but the other process needs it.
                self.created.clear();
                return Err(Failure::Usage(format!(
                    "{}: another `elbo train` is at work in this directory; wait for its end, or choose another \
                     --out",
                    self.path.display()
                )));
            }
        }
        Ok(())
    }

    /// Removes temporary files of `names` that killed processes have left behind.
    pub fn sweep(&self, names: &[&str]) {
        // A model has a temporary name of the library beside that of the tool.
        let left_behind = |hidden: &str| {
            iter::successors(named_by(hidden), |name| named_by(name))
                .any(|name| names.contains(&name))
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(left_behind) {
                // If this fails, only disk space is lost.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The name whose file has this temporary name, such as `a` of `.a.17.tmp`.
fn named_by(hidden: &str) -> Option<&str> {
    let name = hidden.strip_prefix('.')?;
    let name = name.strip_suffix(".tmp").or_else(|| name.strip_suffix(".part"))?;
    let (name, process) = name.rsplit_once('.')?;
    process.parse::<u32>().ok().map(|_| name)
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        for directory in &self.created {
            // Fails if the directory is not empty.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::write_file;
    use crate::scratch::Scratch;

    #[test]
    fn sweeps_temporary_files_of_killed_processes() {
        let scratch = Scratch::new("sweep");
        let (left, stays) = (
            [".a.bin.17.tmp", ".a.bin.4000000000.part", "..a.bin.17.tmp.17.part"],
            ["a.bin", ".a.bin.x.tmp", ".b.bin.17.tmp", ".a.bin.tmp", "..a.bin.17.tmp.x.part"],
        );
        for name in left.iter().chain(&stays) {
            fs::write(scratch.0.join(name), "").unwrap();
        }
        OutputDirectory::prepare(&scratch.0, &[]).unwrap().sweep(&["a.bin"]);
        let mut expected = stays.map(str::to_owned);
        expected.sort();
        assert_eq!(scratch.names(), expected);
    }

    #[test]
    fn removes_a_directory_that_stays_empty() {
        let scratch = Scratch::new("empty");
        let directory = OutputDirectory::prepare(&scratch.0.join("x/y"), &[]).unwrap();
        assert!(directory.join("").exists());
        drop(directory);
        assert!(scratch.names().is_empty());

        let directory = OutputDirectory::prepare(&scratch.0.join("x/y"), &[]).unwrap();
        write_file(&directory.join("a"), |file| file.write_all(b"1")).unwrap();
        drop(directory);
        assert!(scratch.0.join("x/y/a").exists());
    }

    #[test]
    #[cfg(unix)]
    fn one_of_two_has_the_lock_until_its_end() {
        let scratch = Scratch::new("lock");
        let [mut first, mut second] =
            [0, 1].map(|_| OutputDirectory::prepare(&scratch.0, &[]).unwrap());
        first.lock().unwrap();
        let out = scratch.0.join("new");
        let mut both = [0, 1].map(|_| OutputDirectory {
            path: out.clone(),
            created: vec![out.clone()],
            lock: None,
        });
        fs::create_dir(&out).unwrap();
        both[0].lock().unwrap();
        both[1].lock().unwrap_err();
        let [kept, refused] = both;
        drop(refused);
        assert!(out.exists(), "the directory of the other is removed");
        drop(kept);
        assert!(!out.exists());
        let message = second.lock().unwrap_err().to_string();
        assert!(
            message.contains(": another `elbo train` is at work in this directory"),
            "{message}"
        );
        drop(first);
        second.lock().unwrap();
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn rejects_a_directory_below_a_file() {
        let scratch = Scratch::new("below");
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        let message = OutputDirectory::prepare(&file.join("out"), &[]).err().unwrap().to_string();
        assert!(message.contains("file/out: cannot write to this directory"), "{message}");
        assert_eq!(scratch.names(), ["file"]);
    }
}
