//! Reader of one array of a `.npz` file, NumPy's archive of arrays: a zip file of `.npy` files.

use crate::text::listed;
use std::io::{Read, Seek};
use zip::ZipArchive;

/// First bytes of a zip file.
pub const MAGIC: &[u8; 4] = b"PK\x03\x04";

/// Passes the `.npy` file of the array `wanted` to `read`; without a name, that of the only array.
pub fn with_array<T>(
    archive: impl Read + Seek,
    wanted: Option<&str>,
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
    let chosen = match (wanted, &names[..]) {
        (_, []) => {
            return Err(
                "the zip archive contains no .npy array; expected a file that numpy.savez wrote (if \
                         this is a spreadsheet, save it as .csv)"
                    .to_owned(),
            );
        }
        (Some(wanted), names) => {
            let wanted = wanted.strip_suffix(".npy").unwrap_or(wanted);
            names.iter().find(|name| *name == wanted).ok_or_else(|| {
                format!("--array: no array '{wanted}'; the file has {}", listed(names))
            })?
        }
        (None, [only]) => only,
        (None, names) => {
            return Err(format!(
                "the file has {} arrays ({}); choose one with --array",
                names.len(),
                listed(names)
            ));
        }
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
        with_array(Cursor::new(archive), wanted, |stream| {
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
            Err("the file has 2 arrays (x, y); choose one with --array".into())
        );
        assert_eq!(
            contents(&two, Some("z")),
            Err("--array: no array 'z'; the file has x, y".into())
        );
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
