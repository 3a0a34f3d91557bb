//! Reader of one array of a `.npz` file, NumPy's archive of arrays: a zip file of `.npy` files.

use crate::text::listed;
use std::io::{Read, Seek};
use std::path::Path;
use zip::ZipArchive;

/// First bytes of a zip file.
pub const MAGIC: &[u8; 4] = b"PK\x03\x04";

/// Start of the message if the archive does not have the named array.
pub const NO_ARRAY: &str = "no array";

/// Choice of an array of an archive.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArrayChoice<'a> {
    /// Array that the user named for this file.
    pub named: Option<&'a str>,
    /// Array of another file, which is read if this file has several arrays and one of this name.
    pub usual: Option<&'a str>,
}

/// Splits `FILE.npz:NAME` into the file and the name of the array; any other path has no name.
pub fn split_name(path: &Path) -> (&Path, Option<&str>) {
    const SUFFIX: &str = ".npz:";
    let Some(text) = path.to_str().filter(|_| !path.exists()) else { return (path, None) };
    match text.to_ascii_lowercase().rfind(SUFFIX) {
        Some(at) => {
            let (file, name) = text.split_at(at + SUFFIX.len());
            (Path::new(&file[..file.len() - 1]), Some(name))
        }
        None => (path, None),
    }
}

/// Passes the `.npy` file of the chosen array to `read`; without a choice, that of the only array.
pub fn with_array<T>(
    archive: impl Read + Seek,
    choice: ArrayChoice,
    read: impl FnOnce(&mut dyn Read) -> Result<T, String>,
) -> Result<T, String> {
    let mut archive =
        ZipArchive::new(archive).map_err(|error| format!("damaged archive: {error}"))?;
    let mut names = Vec::new();
    for file in archive.file_names() {
        let file = file.map_err(|error| format!("damaged archive: {error}"))?;
        names.extend(file.strip_suffix(".npy").map(str::to_owned));
    }
    names.sort();
    let find = |wanted: &str| {
        let wanted = wanted.strip_suffix(".npy").unwrap_or(wanted);
        names.iter().find(|name| *name == wanted)
    };
    let chosen = match (choice.named, &names[..]) {
        (_, []) => {
            return Err(
                "the zip archive contains no .npy array; expected a file that numpy.savez wrote (if \
                         this is a spreadsheet, save it as .csv)"
                    .to_owned(),
            );
        }
        (Some(wanted), _) => find(wanted)
            .ok_or_else(|| format!("{NO_ARRAY} '{wanted}'; the file has {}", listed(&names)))?,
        (None, [only]) => only,
        (None, [first, ..]) => choice.usual.and_then(find).ok_or_else(|| {
            format!(
                "the file has {} arrays ({}); choose one by its name, as in FILE.npz:{first}",
                names.len(),
                listed(&names)
            )
        })?,
    };
    let mut entry = archive
        .by_name(&format!("{chosen}.npy"))
        .map_err(|error| format!("array '{chosen}': {error}"))?;
    read(&mut entry).map_err(|message| format!("array '{chosen}': {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (i, (name, contents)) in files.iter().enumerate() {
            // As numpy.savez and as numpy.savez_compressed.
            let method = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated][i % 2];
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(*name, options).unwrap();
            writer.write_all(contents).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn contents(archive: &[u8], wanted: Option<&str>) -> Result<Vec<u8>, String> {
        let choice = ArrayChoice { named: wanted, usual: None };
        choose(archive, choice)
    }

    fn choose(archive: &[u8], choice: ArrayChoice) -> Result<Vec<u8>, String> {
        with_array(Cursor::new(archive), choice, |stream| {
            let mut contents = Vec::new();
            stream.read_to_end(&mut contents).map_err(|error| error.to_string())?;
            Ok(contents)
        })
    }

    #[test]
    fn finds_arrays_by_name() {
        let two = archive(&[("x.npy", b"first"), ("y.npy", b"second"), ("notes.txt", b"")]);
        assert_eq!(contents(&two, Some("x")), Ok(b"first".to_vec()));
        assert_eq!(contents(&two, Some("y.npy")), Ok(b"second".to_vec()));
        assert_eq!(contents(&archive(&[("a.npy", b"only")]), None), Ok(b"only".to_vec()));
        assert_eq!(
            contents(&two, None),
            Err("the file has 2 arrays (x, y); choose one by its name, as in FILE.npz:x".into())
        );
        assert_eq!(contents(&two, Some("z")), Err("no array 'z'; the file has x, y".into()));
        // The name that another file is read by.
        let usual =
            |archive: &[u8], name| choose(archive, ArrayChoice { named: None, usual: Some(name) });
        assert_eq!(usual(&two, "y"), Ok(b"second".to_vec()));
        assert_eq!(usual(&archive(&[("a.npy", b"only")]), "y"), Ok(b"only".to_vec()));
        assert!(usual(&two, "z").unwrap_err().contains("choose one by its name"));
    }

    #[test]
    fn splits_the_name_of_an_array_from_its_file() {
        for (path, file, name) in [
            ("a/two.npz:x_train", "a/two.npz", Some("x_train")),
            ("C:/TWO.NPZ:x", "C:/TWO.NPZ", Some("x")),
            ("two.npz:a:b.npy", "two.npz", Some("a:b.npy")),
            ("two.npz", "two.npz", None),
            ("t.csv:x", "t.csv:x", None),
            ("-", "-", None),
        ] {
            assert_eq!(split_name(Path::new(path)), (Path::new(file), name), "{path}");
        }
    }

    #[test]
    fn rejects_other_zip_archives() {
        let book = archive(&[("[Content_Types].xml", b"")]);
        assert!(
            contents(&book, None)
                .unwrap_err()
                .starts_with("the zip archive contains no .npy array")
        );
        let whole = archive(&[("a.npy", &[7; 1000]), ("b.npy", &[7; 1000])]);
        for end in (4..whole.len()).step_by(7) {
            let message = contents(&whole[..end], Some("b")).unwrap_err();
            assert!(message.starts_with("damaged archive"), "{end}: {message}");
        }
    }

    #[test]
    fn rejects_a_damaged_entry() {
        let mut file = archive(&[("b.npy", b""), ("a.npy", &[7; 1000])]);
        let place = file.windows(5).rposition(|name| name == b"a.npy").unwrap();
        let place = file[..place].windows(5).rposition(|name| name == b"a.npy").unwrap();
        file[place + 6] ^= 0x55;
        assert!(contents(&file, Some("a")).unwrap_err().starts_with("array 'a': "));
    }
}
