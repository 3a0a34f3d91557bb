//! Detection of the format of a file, and reading of each format.

use super::formats::image_shape::ImageShape;
use super::formats::images::{self, Images, PixelRows};
use super::formats::records::TableError;
use super::formats::streamed::Streamed;
use super::formats::{file, idx, image_file, npy, npz, separator, table};
use super::labels::{self, LabelValues, RawLabels};
use super::rows::Places;
use super::{Data, DataDescription, Rows};
use crate::failure::{Failure, Result};
use crate::text::listed;
use clap::ValueEnum;
use ndarray::Array2;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::path::Path;

/// Accepted formats, for messages.
const EXPECTED: &str = "expected IDX images, a .npy or .npz array, a .csv or .tsv table (any of them but .npz may \
                        be gzipped), or a directory of .png or .jpg images";

/// Files of at least this many bytes are streamed instead of read into memory.
const STREAM_FROM: u64 = 1 << 30;

const TRAIN_SAMPLE: &[u8] = include_bytes!("../sample/train-images-idx3-ubyte.gz");
const TEST_SAMPLE: &[u8] = include_bytes!("../sample/test-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../sample/train-labels-idx1-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../sample/test-labels-idx1-ubyte.gz");

/// Options for reading a file.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Array to read from a .npz file.
    pub array: Option<String>,
    /// Array that was read from another .npz file, if there was one.
    pub usual_array: Option<String>,
    /// Treatment of the first line of a table; `None` if the option is absent.
    pub header: Option<table::HeaderRow>,
    /// Columns of a table to read.
    pub columns: Option<String>,
    /// Columns of a table to exclude.
    pub drop_columns: Option<String>,
    /// Column of a table that holds the labels.
    pub label_column: Option<String>,
    /// True if the labels are in another file, so that those of a table are not read.
    pub labels_apart: bool,
    /// Width and height to which images are resized.
    pub size: Option<[u32; 2]>,
    /// Reads images in color instead of gray.
    pub rgb: bool,
    /// Value of bytes and pixels that is read as 1.
    pub white: Option<u16>,
    pub stream: Stream,
}

/// Choice between streaming an array from its file and reading it into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    #[default]
    Auto,
    Always,
    Never,
}

impl ReadOptions {
    /// Options for a second file, which has the columns of the first. Columns that are excluded from the first
    /// do not make a name ambiguous in the second.
    pub fn for_second_file(&self) -> Self {
        let usual_array = self.array.clone();
        Self { array: None, usual_array, white: None, columns: None, ..self.clone() }
    }
}

/// Options for reading a file, and the training data that it must resemble.
#[derive(Clone, Copy)]
pub struct ReadPlan<'a> {
    pub options: &'a ReadOptions,
    /// Description of the training data, which decides the columns and the size of images.
    pub like: Option<&'a DataDescription>,
    /// Requires the label column of the training data, as a conditional model does.
    pub labeled: bool,
    /// True if that is the data of a trained model, whose columns no option changes.
    pub fixed: bool,
}

impl Data {
    /// The first 5,000 training and 1,000 test images of MNIST with their labels, which the tool embeds.
    pub fn sample() -> Result<(Self, Self)> {
        let read = |name: &str, images: &[u8], labels: &[u8]| -> Result<Self> {
            let options = ReadOptions::default();
            let plan = ReadPlan { options: &options, like: None, labeled: false, fixed: false };
            let mut data = Self::parse(name, images, plan)?;
            data.labels = Some(labels::parse(name, labels)?.among(10, &[])?);
            Ok(data)
        };
        Ok((
            read("embedded training sample", TRAIN_SAMPLE, TRAIN_LABELS)?,
            read("embedded test sample", TEST_SAMPLE, TEST_LABELS)?,
        ))
    }

    /// Reads a file or a directory; `-` is standard input, and `FILE.npz:NAME` an array of an archive. Its first
    /// bytes decide the format, and then its name.
    pub fn read(path: &Path, plan: ReadPlan) -> Result<Self> {
        if path == Path::new("-") {
            return Self::parse(file::STDIN, io::stdin().lock(), plan);
        }
        let name = path.display().to_string();
        let (path, named) = npz::split_name(path);
        if named.is_some() && plan.options.array.is_some() {
            return Err(Failure::Usage(format!("--array: {name} already names an array")));
        }
        if path.is_dir() {
            plan.check_kind(&name, FileKind::Images)?;
            return of_images(name, images::read_directory(path, plan.images()?)?, plan);
        }
        let cannot = |error: io::Error| Failure::cannot_read(&name, &error);
        let mut opened = file::open(path)?;
        let mut start = Vec::new();
        // Enough for the beginnings of all formats, as the rest is read after these bytes.
        opened.by_ref().take(512).read_to_end(&mut start).map_err(cannot)?;
        if start.starts_with(b"\x89PNG") || start.starts_with(b"\xff\xd8\xff") {
            plan.check_kind(&name, FileKind::Images)?;
            return of_images(name, images::read_one(path, plan.images()?)?, plan);
        }
        if start.starts_with(npz::MAGIC) {
            plan.check_kind(&name, FileKind::Archive)?;
            opened.rewind().map_err(cannot)?;
            let choice = npz::ArrayChoice {
                named: named.or(plan.options.array.as_deref()),
                usual: plan.options.usual_array.as_deref(),
            };
            let array = npz::with_array(opened, choice, |stream| {
                npy::read(stream).map_err(|error| error.to_string())
            });
            let array = array.map_err(|reason| match choice.named {
                // The option names what the file does not have.
                Some(_) if reason.starts_with(npz::NO_ARRAY) => {
                    Failure::Usage(format!("{name}: {reason}"))
                }
                _ => wrong(&name, &reason),
            });
            return of_npy(&name, array?, plan);
        }
        if named.is_some() {
            return Err(wrong(&name, "the file is not a .npz archive"));
        }
        if let Some(data) = streamed(path, &opened, plan)? {
            return Ok(data);
        }
        let data = Self::parse(&name, start.chain(opened), plan)?;
        if plan.options.stream == Stream::Always {
            return Err(cannot_stream(&name));
        }
        Ok(data)
    }

    /// Reads an IDX file, a `.npy` file or a table from a stream, gzipped or not.
    pub fn parse(name: &str, stream: impl Read, plan: ReadPlan) -> Result<Self> {
        let mut plain = file::plain(name, stream, EXPECTED)?;
        let start = file::start(name, &mut plain, EXPECTED)?;
        if start.starts_with(npy::MAGIC) {
            plan.check_kind(name, FileKind::Array)?;
            return of_npy(
                name,
                npy::read(plain).map_err(|error| wrong(name, &error.to_string()))?,
                plan,
            );
        }
        if start.starts_with(&[0, 0]) {
            plan.check_kind(name, FileKind::Array)?;
            let idx = idx::read(plain).map_err(|error| wrong(name, &error.to_string()))?;
            let flat = [idx.shape[0], idx.shape[1..].iter().product()];
            let rows = Array2::from_shape_vec(flat, idx.bytes).expect("the reader counted them");
            return of_array(name, Rows::U8(rows), &idx.shape, plan);
        }
        if let Some(reason) = file::unsupported(start) {
            return Err(wrong(name, reason));
        }
        if file::is_text(start) && !has_binary_name(name) {
            plan.check_kind(name, FileKind::Table)?;
            return of_table(name, plain, plan);
        }
        if let Some(format) = image_file::other_format(start) {
            let reason = format!("{format} images are not supported; convert it to PNG or JPEG");
            return Err(wrong(name, &reason));
        }
        Err(wrong(name, &format!("unknown format; {EXPECTED}")))
    }
}

fn cannot_stream(name: &str) -> Failure {
    Failure::Usage(format!(
        "--stream always: {name} cannot be streamed; only uncompressed IDX files and .npy files in C order \
         can"
    ))
}

fn wrong(name: &str, reason: &str) -> Failure {
    Failure::Run(format!("{name}: {reason}"))
}

/// Returns true if a file has the name of a binary format.
fn has_binary_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".idx", ".npy", ".npz", "-ubyte", ".png", ".jpg", ".jpeg"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Opens a large array, which stays in its file.
fn streamed(path: &Path, opened: &File, plan: ReadPlan) -> Result<Option<Data>> {
    let name = path.display().to_string();
    let file = opened.metadata().ok().filter(|about| about.is_file());
    let wanted = file.is_some_and(|about| match plan.options.stream {
        Stream::Auto => about.len() >= STREAM_FROM,
        Stream::Always => true,
        Stream::Never => false,
    });
    if !wanted {
        return Ok(None);
    }
    match Streamed::open(path)? {
        Some((rows, shape)) => {
            plan.check_kind(&name, FileKind::Array)?;
            of_array(&name, Rows::Streamed(rows), &shape, plan).map(Some)
        }
        None => Ok(None),
    }
}

fn of_npy(name: &str, npy: npy::Npy, plan: ReadPlan) -> Result<Data> {
    let rows = match npy.rows {
        npy::NpyRows::U8(rows) => Rows::U8(rows),
        npy::NpyRows::F32(rows) => Rows::F32(rows),
        npy::NpyRows::F64(rows) => Rows::F64(rows),
    };
    of_array(name, rows, &npy.shape, plan)
}

fn of_array(name: &str, rows: Rows, shape: &[usize], plan: ReadPlan) -> Result<Data> {
    if rows.len() == 0 || rows.width() == 0 {
        return Err(wrong(name, &format!("no data: the array has shape {shape:?}")));
    }
    let image = ImageShape::of_array(shape);
    if let (Some(found), Some(expected)) = (image, plan.like.and_then(|like| like.image))
        && found != expected
        && found.elements() == expected.elements()
    {
        return Err(wrong(
            name,
            &format!("the images are {found}, but those of the training data are {expected}"),
        ));
    }
    let (rows, deepest, white) = plan.whiten(name, rows)?;
    Ok(Data { image, deepest, white, ..Data::new(name, rows) })
}

fn of_images(name: String, images: Images, plan: ReadPlan) -> Result<Data> {
    let expected = plan.like.and_then(|like| like.image);
    if let Some(expected) = expected.filter(|&expected| expected != images.shape) {
        let ImageShape { height, width, .. } = images.shape;
        return Err(wrong(
            &name,
            &format!(
                "the images are {width}x{height} pixels (width x height), but the training images are {}x{}; \
                 resize them with --size {0}x{1}",
                expected.width, expected.height
            ),
        ));
    }
    let found = images.classes.map(|classes| RawLabels {
        name: name.clone(),
        values: LabelValues::Text(classes),
        places: Places::Files(images.files.iter().map(|file| file.display().to_string()).collect()),
    });
    let resized = plan.images()?.size.is_some();
    let (rows, deepest, white) = match images.rows {
        PixelRows::U8(rows) => plan.whiten(&name, Rows::U8(rows))?,
        PixelRows::F32(rows) => (Rows::F32(rows), u16::MAX, plan.white()),
    };
    let warnings = images.warning.into_iter().collect();
    let image = Some(images.shape);
    Ok(Data { image, resized, found, deepest, white, warnings, ..Data::new(&name, rows) })
}

fn of_table(name: &str, plain: impl BufRead, plan: ReadPlan) -> Result<Data> {
    let table = table::read(plain, &plan.table(name)?).map_err(|error| match error {
        TableError::Table(reason) => wrong(name, &reason),
        TableError::Option(reason) => Failure::Usage(format!("{name}: {reason}")),
    })?;
    let width = table.columns.len();
    let numbered = !table.number_names && table.columns.iter().all(|name| table::is_count(name));
    let rows = Array2::from_shape_vec([table.numbers.len() / width, width], table.numbers)
        .expect("every line has every column");
    let found = table.labels.map(|labels| RawLabels {
        name: name.to_owned(),
        values: LabelValues::Text(labels),
        places: Places::Lines(table.lines.clone()),
    });
    found.as_ref().map_or(Ok(()), RawLabels::check_missing)?;
    Ok(Data {
        columns: table.columns,
        number_names: table.number_names,
        table_width: numbered.then_some(table.file_columns),
        lines: table.lines,
        label_column: table.label_column,
        found,
        ..Data::new(name, Rows::F64(rows))
    })
}

/// Kinds of files with options of their own.
#[derive(Clone, Copy, PartialEq)]
enum FileKind {
    /// IDX or `.npy`.
    Array,
    Archive,
    Table,
    Images,
}

impl FileKind {
    fn plural(self) -> &'static str {
        match self {
            Self::Array => "arrays",
            Self::Archive => ".npz files",
            Self::Table => "tables",
            Self::Images => "images",
        }
    }
}

impl ReadPlan<'_> {
    /// Checks that no option for another kind of file is given.
    fn check_kind(&self, name: &str, kind: FileKind) -> Result<()> {
        let ReadOptions { array, columns, drop_columns, label_column, rgb, stream, .. } =
            self.options;
        let options = [
            (array.is_some(), "--array", FileKind::Archive),
            (columns.is_some(), "--columns", FileKind::Table),
            (drop_columns.is_some(), "--drop-columns", FileKind::Table),
            (label_column.is_some(), "--label-column", FileKind::Table),
            (self.options.header.is_some(), "--header", FileKind::Table),
            (*rgb, "--rgb", FileKind::Images),
        ];
        if self.options.white.is_some() && kind == FileKind::Table {
            return Err(Failure::Usage(format!(
                "--white applies only to bytes (uint8) and images; {name} is a table"
            )));
        }
        let misplaced = options.iter().find(|(given, _, its)| *given && *its != kind);
        if let Some((_, option, its)) = misplaced {
            return Err(Failure::Usage(format!(
                "{option} applies only to {}; {name} is not one of them",
                its.plural()
            )));
        }
        if *stream == Stream::Always && kind != FileKind::Array {
            return Err(cannot_stream(name));
        }
        Ok(())
    }

    /// Value of bytes and pixels that is read as 1: that of the option, or of the training data.
    fn white(&self) -> Option<u16> {
        self.options.white.or_else(|| self.like?.white)
    }

    /// Reads bytes by the value of `--white`. Returns the rows, the largest value of a byte (0 for other numbers),
    /// and the value that is read as 1.
    fn whiten(&self, name: &str, rows: Rows) -> Result<(Rows, u16, Option<u16>)> {
        let are_bytes = rows.are_bytes();
        if !are_bytes && self.options.white.is_some() {
            return Err(Failure::Usage(format!(
                "--white applies only to bytes (uint8) and images; {name} has other numbers"
            )));
        }
        let Some(white) = self.white().filter(|_| are_bytes) else {
            return Ok((rows, if are_bytes { 255 } else { 0 }, None));
        };
        let byte = u8::try_from(white).map_err(|_| {
            Failure::Usage(format!("--white {white}: {name} has 8 bits per value, 0 to 255"))
        })?;
        let rows = match rows {
            Rows::U8(bytes) if byte != 255 => {
                Rows::F32(bytes.mapv(|value| f32::from(value) / f32::from(byte)))
            }
            Rows::Streamed(mut rows) => {
                rows.set_white(byte);
                Rows::Streamed(rows)
            }
            rows => rows,
        };
        Ok((rows, 255, Some(white)))
    }

    fn images(&self) -> Result<images::ImageOptions> {
        let (given, white) = (self.options.size, self.white());
        let Some(like) = self.like.and_then(|like| Some((like.image?, like.resized))) else {
            return Ok(images::ImageOptions { size: given, rgb: self.options.rgb, white });
        };
        let (shape, resized) = like;
        let size = [shape.width as u32, shape.height as u32];
        if self.options.rgb && shape.channels == 1 {
            return Err(Failure::Usage("--rgb: the training images are gray".to_owned()));
        }
        if let Some([width, height]) = given.filter(|given| *given != size) {
            let [of_width, of_height] = size;
            return Err(Failure::Usage(format!(
                "--size {width}x{height}: expected {of_width}x{of_height}, the size of the training images"
            )));
        }
        let size = given.or(resized.then_some(size));
        Ok(images::ImageOptions { size, rgb: shape.channels == 3, white })
    }

    fn table(&self, name: &str) -> Result<table::TableOptions<'_>> {
        let options = self.options;
        let like = self.like.filter(|like| !like.columns.is_empty());
        let features = match (like, options.columns.as_deref()) {
            (None, None) => table::Features::All,
            (None, Some(list)) => table::Features::Listed(list),
            (Some(like), None) => table::Features::OfModel {
                names: &like.columns,
                named: like.has_names(),
                width: like.table_width,
            },
            (Some(like), Some(_)) => {
                return Err(Failure::Usage(format!(
                    "--columns: the columns are those of the training data ({}); leave the option out",
                    listed(&like.columns)
                )));
            }
        };
        let usual = self.like.and_then(|like| like.label_column.as_deref());
        Ok(table::TableOptions {
            separator: separator::of_name(name),
            header: options.header.unwrap_or(table::HeaderRow::Auto),
            features,
            dropped: options.drop_columns.as_deref(),
            label: options.label_column.as_deref(),
            usual_label: usual,
            label_required: self.labeled,
            labels_apart: options.labels_apart,
            fixed: self.fixed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;
    use ndarray_npy::WriteNpyExt;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const IDX: [u8; 19] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 3, 0, 51, 255];

    fn parse(name: &str, bytes: &[u8]) -> Result<Data> {
        let options = ReadOptions::default();
        Data::parse(
            name,
            bytes,
            ReadPlan { options: &options, like: None, labeled: false, fixed: false },
        )
    }

    fn message(bytes: &[u8]) -> String {
        parse("x", bytes).unwrap_err().to_string()
    }

    #[test]
    fn embeds_mnist() {
        let (train, test) = Data::sample().unwrap();
        assert_eq!((train.len(), test.len(), train.width()), (5000, 1000, 784));
        let shape = Some(ImageShape::new(28, 28, 1));
        assert_eq!((train.image, test.image), (shape, shape));
        let digits = |data: &Data| {
            let mut counts = [0; 10];
            data.labels.iter().flat_map(|l| &l.of_rows).for_each(|&l| counts[l as usize] += 1);
            counts
        };
        assert_eq!(train.labels.as_ref().unwrap().of_rows[..5], [5, 0, 4, 1, 9]);
        assert_eq!(test.labels.as_ref().unwrap().of_rows[..5], [7, 2, 1, 0, 4]);
        assert!(digits(&train).iter().all(|n| (400..600).contains(n)), "{:?}", digits(&train));
        assert_eq!(digits(&test).iter().sum::<usize>(), 1000);
        // MNIST's mean gray value is 0.1307.
        let mean = train.numbers(0..5000).unwrap().mean().unwrap();
        assert!((mean - 0.13).abs() < 0.005, "{mean}");
    }

    #[test]
    fn detects_formats_by_their_first_bytes() {
        let bytes = arr2(&[[0_u8, 51, 255]]);
        let floats = bytes.mapv(|byte| f32::from(byte) / 255.0);
        let mut npy = Vec::new();
        floats.write_npy(&mut npy).unwrap();
        let table = format!("a,b,c\n0,{},1\n", 51.0_f32 / 255.0);
        for file in
            [&IDX[..], &gzip(&IDX), &npy, &gzip(&npy), table.as_bytes(), &gzip(table.as_bytes())]
        {
            assert_eq!(parse("x", file).unwrap().numbers(0..1).unwrap(), floats);
        }
        assert!(matches!(parse("x", &IDX).unwrap().rows, Rows::U8(found) if found == bytes));
        assert_eq!(parse("x", table.as_bytes()).unwrap().columns, ["a", "b", "c"]);
        // The columns of a .tsv are separated by tabs only.
        assert_eq!(parse("x.tsv", b"a,b\tc\n1\t2\n").unwrap().columns, ["a,b", "c"]);
    }

    #[test]
    fn rejects_what_cannot_be_read() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P9\0"), format!("x: unknown format; {EXPECTED}"));
        assert_eq!(
            message(b"RIFF\0\0\0\0WEBPVP8 "),
            "x: WebP images are not supported; convert it to PNG or JPEG"
        );
        assert!(parse("x.npy", b"1,2\n").unwrap_err().to_string().contains("unknown format"));
        assert!(message(b"PAR1...").starts_with("x: Parquet is not supported; convert it first"));
        assert_eq!(
            message(&IDX[..18]),
            "x: truncated: the header promises shape [1, 1, 3], but only 2 of 3 bytes follow"
        );
        assert_eq!(
            message(&[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3]),
            "x: no data: the array has shape [0, 3]"
        );
        let options = ReadOptions::default();
        let plan = ReadPlan { options: &options, like: None, labeled: false, fixed: false };
        let missing = Data::read(Path::new("no/such/file"), plan).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/file: cannot read: No such file"), "{missing}");
        assert!(!missing.contains("IDX"), "{missing}");
        for json in ["{\"a\": [1]}", "[{\"a\": 1}]", "[[1, 2]]"] {
            assert!(message(json.as_bytes()).starts_with("x: JSON is not supported"), "{json}");
        }
        assert!(message(b"%%MatrixMarket matrix").starts_with("x: MatrixMarket is not supported"));
    }

    #[test]
    fn rejects_truncated_gzip_files() {
        let whole = gzip(&IDX);
        for end in 0..whole.len() {
            let message = message(&whole[..end]);
            assert!(
                ["empty", "truncated", "unknown format"].iter().any(|word| message.contains(word)),
                "{end}: {message}"
            );
        }
        let mut two = whole.clone();
        two.extend(gzip(&[7]));
        assert!(message(&two).contains("data continue after the shape"), "{}", message(&two));
    }
}
