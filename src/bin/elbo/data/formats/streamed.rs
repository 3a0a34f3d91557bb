//! Arrays that stay in their file; each row is read when it is needed.
//!
//! Rows are read by position rather than mapped into memory. The pages of a mapped file count as memory of
//! the process, a file that is cut short ends the process with a signal, and mapping needs `unsafe`. A
//! positional read costs less than a microsecond while the system caches the page, keeps memory flat and
//! turns a shortened file into an error.

use super::dtype::Dtype;
use super::{elements, idx, npy};
use crate::failure::{Failure, Result};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// An array in a file; the first axis is the rows, all others are flattened.
#[derive(Debug)]
pub struct Streamed {
    file: File,
    name: String,
    /// Position of the first row.
    start: u64,
    rows: usize,
    width: usize,
    dtype: Dtype,
    /// Byte that is read as 1.
    white: u8,
    /// Message of the first read that failed.
    failed: OnceLock<String>,
    /// Time of the last change of the file when it was opened.
    modified: Option<SystemTime>,
    /// Number of batches left for which readahead hints are issued.
    announce: AtomicU32,
}

/// A read that takes longer than this had to wait for the disk.
const SLOW: Duration = Duration::from_micros(100);
/// Number of batches for which readahead hints are issued after a slow read. For a file that the system
/// caches, each hint would cost a third of a read and gain nothing.
const BATCHES: u32 = 256;

/// Bytes of one read when the whole file is read in order.
const PIECE: usize = 1 << 20;

impl Streamed {
    /// Opens an uncompressed IDX file or a `.npy` file in C order and returns it with the shape of the
    /// array; `None` for any other file, whose problem the reader into memory reports.
    pub fn open(path: &Path) -> Result<Option<(Self, Vec<usize>)>> {
        let name = path.display().to_string();
        let cannot = |error: io::Error| Failure::Run(format!("{name}: cannot read: {error}"));
        let file = File::open(path).map_err(cannot)?;
        let mut stream = BufReader::new(&file);
        let Some((dtype, shape, start)) = layout(&mut stream) else { return Ok(None) };
        if shape.len() < 2 {
            return Ok(None);
        }
        let Ok(promised) = elements::byte_count(&shape, dtype.size) else { return Ok(None) };
        let (rows, width) = (shape[0], shape[1..].iter().product());
        if file.metadata().map_err(cannot)?.len().checked_sub(start) != Some(promised as u64) {
            return Ok(None);
        }
        let (failed, announce) = (OnceLock::new(), AtomicU32::new(BATCHES));
        let modified = modified(&file);
        Ok(Some((
            Self { file, name, start, rows, width, dtype, white: 255, failed, modified, announce },
            shape,
        )))
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns true if the elements are bytes.
    pub fn is_bytes(&self) -> bool {
        self.dtype == Dtype::U8
    }

    /// Reads the byte `white` as 1.
    pub fn set_white(&mut self, white: u8) {
        self.white = white;
    }

    /// Returns true if no element is read as more than 1.
    pub fn is_unit(&self) -> bool {
        self.is_bytes() && self.white == 255
    }

    /// Returns true if float32 may not hold the elements exactly.
    pub fn is_wide(&self) -> bool {
        !self.dtype.fits_f32()
    }

    /// Overwrites `out` with a row, or with NaN if it cannot be read; [`Self::check`] then returns the error. A
    /// row of wide elements is rounded by `round`.
    pub fn read_row(&self, row: usize, out: &mut [f32], round: impl FnOnce(&[f64], &mut [f32])) {
        assert!(row < self.rows && out.len() == self.width);
        thread_local! {
            static BUFFERS: RefCell<(Vec<u8>, Vec<f64>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        }
        BUFFERS.with_borrow_mut(|(bytes, numbers)| {
            bytes.resize(self.row_bytes(), 0);
            let began = Instant::now();
            let read = read_exact_at(&self.file, bytes, self.place(row));
            if began.elapsed() > SLOW {
                self.announce.store(BATCHES, Ordering::Relaxed);
            }
            match read {
                Ok(()) if self.is_wide() => {
                    numbers.resize(self.width, 0.0);
                    self.dtype.decode_wide_row(bytes, numbers);
                    round(numbers, out);
                }
                Ok(()) if self.white != 255 => self.decode_bytes(bytes, out, f32::from),
                Ok(()) => self.dtype.decode_row(bytes, out),
                Err(error) => {
                    let _ = self.failed.set(self.describe(row, &error));
                    out.fill(f32::NAN);
                }
            }
        });
    }

    /// Returns the error of the first read that failed, if any.
    ///
    /// A file that was written to since it was opened is an error, too: its rows may be of two versions. A file of
    /// the same name in its place is none; the rows are those of the old one, which stays open.
    pub fn check(&self) -> Result<()> {
        if let Some(message) = self.failed.get() {
            return Err(Failure::Run(message.clone()));
        }
        if modified(&self.file) != self.modified {
            return Err(Failure::Run(format!(
                "{}: the file was changed while it was in use",
                self.name
            )));
        }
        Ok(())
    }

    /// Calls `work` with each row in order, not scaled.
    pub fn each(&self, mut work: impl FnMut(usize, &[f64]) -> Result<()>) -> Result<()> {
        let row_bytes = self.row_bytes();
        let at_a_time = (PIECE / row_bytes.max(1)).max(1);
        let mut bytes = vec![0; at_a_time.min(self.rows) * row_bytes];
        let mut row = vec![0.0; self.width];
        for first in (0..self.rows).step_by(at_a_time) {
            let rows = at_a_time.min(self.rows - first);
            let piece = &mut bytes[..rows * row_bytes];
            read_exact_at(&self.file, piece, self.place(first))
                .map_err(|error| Failure::Run(self.describe(first, &error)))?;
            for (i, bytes) in piece.chunks_exact(row_bytes.max(1)).enumerate() {
                if self.white == 255 {
                    self.dtype.decode_wide_row(bytes, &mut row);
                } else {
                    self.decode_bytes(bytes, &mut row, f64::from);
                }
                work(first + i, &row)?;
            }
        }
        Ok(())
    }

    /// Hints to the system which rows are read next, so that it fetches them from the disk meanwhile.
    pub fn prefetch(&self, rows: impl Iterator<Item = usize>) {
        let left = self.announce.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.announce.store(left - 1, Ordering::Relaxed);
        #[cfg(not(target_os = "linux"))]
        drop(rows);
        #[cfg(target_os = "linux")]
        for row in rows {
            let length = std::num::NonZeroU64::new(self.row_bytes() as u64);
            // If the hint fails, reading only takes longer.
            let _ = rustix::fs::fadvise(
                &self.file,
                self.place(row),
                length,
                rustix::fs::Advice::WillNeed,
            );
        }
    }

    fn decode_bytes<T>(&self, bytes: &[u8], out: &mut [T], number: impl Fn(f32) -> T) {
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = number(f32::from(byte) / f32::from(self.white));
        }
    }

    fn row_bytes(&self) -> usize {
        self.width * self.dtype.size
    }

    fn place(&self, row: usize) -> u64 {
        self.start + row as u64 * self.row_bytes() as u64
    }

    fn describe(&self, row: usize, error: &io::Error) -> String {
        let name = &self.name;
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return format!(
                "{name}: row {row} is missing: the file was truncated while it was in use"
            );
        }
        format!("{name}: row {row}: cannot read: {error}")
    }
}

/// Time of the last change of a file, where the system tells.
fn modified(file: &File) -> Option<SystemTime> {
    file.metadata().and_then(|about| about.modified()).ok()
}

/// Returns the element type, the shape and the position of the first element.
fn layout(stream: &mut BufReader<&File>) -> Option<(Dtype, Vec<usize>, u64)> {
    use std::io::BufRead;
    if stream.fill_buf().ok()?.starts_with(npy::MAGIC) {
        let header = npy::NpyHeader::read(stream).ok()?;
        let dtype = Dtype::parse(&header.descr).filter(|_| !header.fortran_order)?;
        return Some((dtype, header.shape, stream.stream_position().ok()?));
    }
    let shape = idx::read_header(2..=u8::MAX, stream).ok()?;
    Some((Dtype::U8, shape, stream.stream_position().ok()?))
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut place: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, place) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                place += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use crate::data::scaling::Scaling;
    use crate::scratch::Scratch;
    use ndarray::{Array2, Array3, ShapeBuilder};
    use ndarray_npy::{WritableElement, WriteNpyExt, write_npy};
    use std::path::PathBuf;

    /// An array file in a directory of its own.
    struct ArrayFile {
        path: PathBuf,
        _scratch: Scratch,
    }

    impl ArrayFile {
        fn new(name: &str) -> Self {
            let scratch = Scratch::new(&format!("streamed-{name}"));
            Self { path: scratch.0.join("array"), _scratch: scratch }
        }

        fn open(&self) -> Option<(Streamed, Vec<usize>)> {
            Streamed::open(&self.path).unwrap()
        }
    }

    fn streams_as_it_is_read<T: WritableElement>(file: &ArrayFile, array: &Array2<T>) {
        write_npy(&file.path, array).unwrap();
        let in_memory = match npy::read(File::open(&file.path).unwrap()).unwrap().rows {
            npy::NpyRows::U8(rows) => Rows::U8(rows),
            npy::NpyRows::F32(rows) => Rows::F32(rows),
            npy::NpyRows::F64(rows) => Rows::F64(rows),
        };
        let (streamed, _) = file.open().unwrap();
        assert_eq!(
            (streamed.len(), streamed.width(), streamed.is_bytes(), streamed.is_wide()),
            (in_memory.len(), in_memory.width(), in_memory.are_bytes(), in_memory.are_wide())
        );
        let width = in_memory.width();
        let mut seen = 0;
        let scaling = Scaling::Standardize { mean: vec![0.25; width], std: vec![3.0; width] };
        let stays = Rows::Streamed(streamed);
        let both = |row: usize| {
            let (mut a, mut b) = (vec![f32::NAN; width], vec![f32::NAN; width]);
            stays.read_row(row, &scaling, &mut a);
            in_memory.read_row(row, &scaling, &mut b);
            (a, b)
        };
        let Rows::Streamed(streamed) = &stays else { unreachable!() };
        let mut numbers_in_memory = Vec::new();
        in_memory
            .each(|_, numbers| {
                numbers_in_memory.push(numbers.to_vec());
                Ok(())
            })
            .unwrap();
        streamed
            .each(|row, numbers| {
                let (a, b) = both(row);
                assert!(row == seen && numbers == numbers_in_memory[row] && a == b, "{row}");
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, in_memory.len());
        let (a, b) = both(seen / 2);
        assert_eq!(a, b);
        streamed.announce.store(1, Ordering::Relaxed);
        streamed.prefetch(0..seen);
        assert_eq!(streamed.announce.load(Ordering::Relaxed), 0);
        streamed.check().unwrap();
    }

    #[test]
    fn reads_the_same_rows_as_into_memory() {
        let file = ArrayFile::new("same");
        // More than one piece, and the last one shorter.
        let wide = |i, j| ((i * 7 + j) % 251) as u8;
        streams_as_it_is_read(&file, &Array2::from_shape_fn((5000, 433), |(i, j)| wide(i, j)));
        let numbers = Array2::from_shape_fn((500, 37), |(i, j)| (i * j) as f32 / 7.0);
        streams_as_it_is_read(&file, &numbers);
        streams_as_it_is_read(&file, &numbers.mapv(|x| f64::from(x) / 3.0));
        streams_as_it_is_read(&file, &numbers.mapv(|x| 1_700_000_000 + x as i64));
        streams_as_it_is_read(&file, &numbers.mapv(|x| x as i16));
    }

    #[test]
    fn streams_idx() {
        let file = ArrayFile::new("idx");
        let bytes: Vec<u8> =
            [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3].into_iter().chain(0..6).collect();
        std::fs::write(&file.path, &bytes).unwrap();
        let (streamed, shape) = file.open().unwrap();
        let mut row = [f32::NAN; 3];
        streamed.read_row(1, &mut row, |_, _| unreachable!());
        assert_eq!((shape, row), (vec![2, 1, 3], [3.0, 4.0, 5.0].map(|x: f32| x / 255.0)));
    }

    #[test]
    fn leaves_other_files_to_the_readers_into_memory() {
        let file = ArrayFile::new("others");
        let fortran = Array2::<f32>::zeros((2, 3).f());
        write_npy(&file.path, &fortran).unwrap();
        assert!(file.open().is_none());
        let mut bytes = Vec::new();
        Array3::<u8>::zeros((4, 2, 2)).write_npy(&mut bytes).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&file.path, &bytes[..length]).unwrap();
            assert!(file.open().is_none(), "{length}");
        }
        std::fs::write(&file.path, &bytes).unwrap();
        assert_eq!(file.open().unwrap().1, [4, 2, 2]);
        bytes.push(0);
        std::fs::write(&file.path, &bytes).unwrap();
        assert!(file.open().is_none());
    }

    #[test]
    fn reports_a_file_that_is_truncated_meanwhile() {
        let file = ArrayFile::new("cut");
        write_npy(&file.path, &Array2::<f32>::ones((10, 4))).unwrap();
        // Long ago: the system counts the time of a change in steps.
        let writable = File::options().write(true).open(&file.path).unwrap();
        writable.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).unwrap();
        let (streamed, _) = file.open().unwrap();
        streamed.check().unwrap();
        let length = std::fs::metadata(&file.path).unwrap().len();
        writable.set_len(length - 20).unwrap();
        let mut row = [0.0; 4];
        streamed.read_row(7, &mut row, |_, _| unreachable!());
        assert_eq!(row, [1.0; 4]);
        let message = streamed.check().unwrap_err().to_string();
        assert!(message.ends_with("the file was changed while it was in use"), "{message}");
        streamed.read_row(8, &mut row, |_, _| unreachable!());
        assert!(row.iter().all(|x| x.is_nan()));
        let message = streamed.check().unwrap_err().to_string();
        assert!(
            message.ends_with("row 8 is missing: the file was truncated while it was in use"),
            "{message}"
        );
        assert!(streamed.each(|_, _| Ok(())).is_err());
    }
}
