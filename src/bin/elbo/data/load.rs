//! Telling formats apart, and reading each.

use super::formats::columns::listed;
use super::formats::image_shape::ImageShape;
use super::formats::images::{self, Images};
use super::formats::streamed::Streamed;
use super::formats::{file, idx, npy, npz, table};
use super::labels::{self, Cells, Raw};
use super::{Data, DataDescription, Rows};
use crate::failure::{Failure, Result};
use clap::ValueEnum;
use ndarray::Array2;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::path::Path;

/// What can be read, for messages.
pub const EXPECTED: &str = "expected IDX images, a .npy or .npz array, a table (.csv, .tsv; all of these \
                            plain or .gz but .npz), or a folder of .png or .jpg";

/// Files from this size on stay where they are.
const STREAM_FROM: u64 = 1 << 30;

const TRAIN_SAMPLE: &[u8] = include_bytes!("../sample/train-images-idx3-ubyte.gz");
const TEST_SAMPLE: &[u8] = include_bytes!("../sample/test-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../sample/train-labels-idx1-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../sample/test-labels-idx1-ubyte.gz");

/// How a file is read, where it leaves something open.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The array of a .npz file.
    pub array: Option<String>,
    /// Whether a table has a header; `None` if nobody said so.
    pub header: Option<table::Header>,
    /// Columns of a table to read.
    pub columns: Option<String>,
    /// Columns of a table to leave out.
    pub drop_columns: Option<String>,
    /// The column of a table that holds the labels.
    pub label_column: Option<String>,
    /// Width and height that pictures are resized to.
    pub size: Option<[u32; 2]>,
    /// Whether pictures are read in color.
    pub rgb: bool,
    pub stream: Stream,
}

/// Where a large array is while it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    #[default]
    Auto,
    Always,
    Never,
}

impl ReadOptions {
    /// For a second file, which has the columns of the first.
    pub fn for_more_of_the_same(&self) -> Self {
        Self { columns: None, drop_columns: None, ..self.clone() }
    }
}

/// How to read: what the command line says, and what a model's notes say.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub options: &'a ReadOptions,
    /// Data that the new ones are to be like; the options are for what it leaves open.
    pub like: Option<&'a DataDescription>,
    /// Whether labels are wanted: the column that a model's labels came from is then read again.
    pub labeled: bool,
}

impl Data {
    /// The first 5,000 training and 1,000 test images of MNIST, which the tool carries, with their labels.
    pub fn sample() -> Result<(Self, Self)> {
        let read = |name: &str, images: &[u8], labels: &[u8]| -> Result<Self> {
            let options = ReadOptions::default();
            let plan = Plan { options: &options, like: None, labeled: false };
            let mut data = Self::parse(name, images, plan)?;
            data.labels = Some(labels::parse(name, labels)?.among(10, &[])?);
            Ok(data)
        };
        Ok((
            read("embedded training sample", TRAIN_SAMPLE, TRAIN_LABELS)?,
            read("embedded test sample", TEST_SAMPLE, TEST_LABELS)?,
        ))
    }

    /// Reads a file or a folder, told apart by how it begins and then by its name.
    pub fn read(path: &Path, plan: Plan) -> Result<Self> {
        if path == Path::new("-") {
            return Self::parse("standard input", io::stdin().lock(), plan);
        }
        let name = path.display().to_string();
        if path.is_dir() {
            plan.refuse_others(&name, FileKind::Pictures)?;
            return of_images(name, images::read_folder(path, plan.images()?)?, plan);
        }
        let cannot = |error: io::Error| wrong(&name, &format!("cannot read: {error}"));
        let mut opened = file::open(path, EXPECTED)?;
        let mut start = Vec::new();
        opened.by_ref().take(8).read_to_end(&mut start).map_err(cannot)?;
        if start.starts_with(b"\x89PNG") || start.starts_with(b"\xff\xd8\xff") {
            plan.refuse_others(&name, FileKind::Pictures)?;
            return of_images(name, images::read_one(path, plan.images()?)?, plan);
        }
        if start.starts_with(npz::MAGIC) {
            plan.refuse_others(&name, FileKind::Archive)?;
            opened.rewind().map_err(cannot)?;
            let array = npz::with_array(opened, plan.options.array.as_deref(), |stream| {
                npy::read(stream).map_err(|error| error.to_string())
            });
            return of_npy(&name, array.map_err(|reason| wrong(&name, &reason))?);
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

    /// As [`Self::read`], from a stream: an IDX file, a `.npy` file or a table, gzipped or not.
    pub fn parse(name: &str, stream: impl Read, plan: Plan) -> Result<Self> {
        let mut plain = file::plain(name, stream, EXPECTED)?;
        let start = file::start(name, &mut plain, EXPECTED)?;
        if start.starts_with(npy::MAGIC) {
            plan.refuse_others(name, FileKind::Array)?;
            return of_npy(
                name,
                npy::read(plain).map_err(|error| wrong(name, &error.to_string()))?,
            );
        }
        if start.starts_with(&[0, 0]) {
            plan.refuse_others(name, FileKind::Array)?;
            let idx = idx::read(plain).map_err(|error| wrong(name, &error.to_string()))?;
            let flat = [idx.shape[0], idx.shape[1..].iter().product()];
            let rows = Array2::from_shape_vec(flat, idx.bytes).expect("the reader counted them");
            return of_array(name, Rows::U8(rows), &idx.shape);
        }
        if let Some(kind) = known(start) {
            return Err(wrong(name, kind));
        }
        if file::is_text(start) && !is_called_otherwise(name) {
            plan.refuse_others(name, FileKind::Table)?;
            return of_table(name, plain, plan);
        }
        Err(wrong(name, &format!("neither IDX nor .npy nor a table; {EXPECTED}")))
    }
}

fn cannot_stream(name: &str) -> Failure {
    Failure::Usage(format!(
        "--stream always: {name} must be in memory; only whole, plain IDX files and .npy files in C order can \
         stay on the disk"
    ))
}

fn wrong(name: &str, reason: &str) -> Failure {
    Failure::Run(format!("{name}: {reason}"))
}

/// What a file of another kind is, and what to make of it.
fn known(start: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 7] = [
        (
            b"PAR1",
            "a Parquet file; write it as text first (in Python: `pandas.read_parquet(f).to_csv(g, index=False)`)",
        ),
        (
            b"ARROW1",
            "an Arrow file; write it as text first (in Python: `pandas.read_feather(f).to_csv(g, index=False)`)",
        ),
        (b"\x89HDF", "an HDF5 file; write its array with numpy.save first"),
        (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
        (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
        (b"BZh", "a bzip2 file; expected it plain or .gz"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard file; expected it plain or .gz"),
    ];
    kinds.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Whether text stands under a name of something else.
fn is_called_otherwise(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".idx", ".npy", ".npz", "-ubyte", ".png", ".jpg", ".jpeg"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A large array, left in its file.
fn streamed(path: &Path, opened: &File, plan: Plan) -> Result<Option<Data>> {
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
            plan.refuse_others(&name, FileKind::Array)?;
            of_array(&name, Rows::Streamed(rows), &shape).map(Some)
        }
        None => Ok(None),
    }
}

fn of_npy(name: &str, npy: npy::Npy) -> Result<Data> {
    let rows = match npy.rows {
        npy::NpyRows::U8(rows) => Rows::U8(rows),
        npy::NpyRows::F32(rows) => Rows::F32(rows),
    };
    of_array(name, rows, &npy.shape)
}

fn of_array(name: &str, rows: Rows, shape: &[usize]) -> Result<Data> {
    if rows.len() == 0 || rows.width() == 0 {
        return Err(wrong(name, &format!("no data: its shape is {shape:?}")));
    }
    Ok(Data { image: ImageShape::of_array(shape), ..Data::new(name, rows) })
}

fn of_images(name: String, images: Images, plan: Plan) -> Result<Data> {
    let expected = plan.like.and_then(|like| like.image);
    if let Some(expected) = expected.filter(|&expected| expected != images.shape) {
        let ImageShape { height, width, .. } = images.shape;
        return Err(wrong(
            &name,
            &format!(
                "pictures of {width}x{height} pixels (width x height); the model is for {}x{}; --size {0}x{1} \
                 resizes them",
                expected.width, expected.height
            ),
        ));
    }
    let found =
        images.classes.map(|classes| Raw { name: name.clone(), cells: Cells::Words(classes) });
    let resized = plan.images()?.size.is_some();
    let rows = Rows::U8(images.rows);
    Ok(Data { image: Some(images.shape), resized, found, ..Data::new(&name, rows) })
}

fn of_table(name: &str, plain: impl BufRead, plan: Plan) -> Result<Data> {
    let table =
        table::read(plain, &plan.table(name)?).map_err(|error| wrong(name, &error.to_string()))?;
    let width = table.columns.len();
    let rows = Array2::from_shape_vec([table.numbers.len() / width, width], table.numbers)
        .expect("every line has every column");
    let found = table.labels.map(|words| Raw { name: name.to_owned(), cells: Cells::Words(words) });
    Ok(Data {
        columns: table.columns,
        label_column: table.label_column,
        found,
        ..Data::new(name, Rows::F32(rows))
    })
}

/// What options are about.
#[derive(Clone, Copy, PartialEq)]
enum FileKind {
    /// IDX or `.npy`.
    Array,
    Archive,
    Table,
    Pictures,
}

impl Plan<'_> {
    /// That no option is there that is about another format.
    fn refuse_others(&self, name: &str, format: FileKind) -> Result<()> {
        let ReadOptions { array, columns, drop_columns, label_column, rgb, stream, .. } =
            self.options;
        let options = [
            (array.is_some(), "--array", FileKind::Archive, ".npz files"),
            (columns.is_some(), "--columns", FileKind::Table, "tables"),
            (drop_columns.is_some(), "--drop-columns", FileKind::Table, "tables"),
            (label_column.is_some(), "--label-column", FileKind::Table, "tables"),
            (self.options.header.is_some(), "--header", FileKind::Table, "tables"),
            (*rgb, "--rgb", FileKind::Pictures, "image directories"),
        ];
        if let Some((_, option, _, of)) =
            options.iter().find(|(given, _, its, _)| *given && *its != format)
        {
            return Err(Failure::Usage(format!(
                "{option} applies only to {of}; {name} is not one"
            )));
        }
        if *stream == Stream::Always && format != FileKind::Array {
            return Err(cannot_stream(name));
        }
        Ok(())
    }

    fn images(&self) -> Result<images::ImageOptions> {
        let given = self.options.size;
        let Some(like) = self.like.and_then(|like| Some((like.image?, like.resized))) else {
            return Ok(images::ImageOptions { size: given, rgb: self.options.rgb });
        };
        let (shape, resized) = like;
        let size = [shape.width as u32, shape.height as u32];
        if self.options.rgb && shape.channels == 1 {
            return Err(Failure::Usage("--rgb: the model is one of gray pictures".to_owned()));
        }
        if let Some([width, height]) = given.filter(|given| *given != size) {
            let [of_width, of_height] = size;
            return Err(Failure::Usage(format!(
                "--size {width}x{height}: the model is for pictures of {of_width}x{of_height}"
            )));
        }
        let size = given.or(resized.then_some(size));
        Ok(images::ImageOptions { size, rgb: shape.channels == 3 })
    }

    fn table(&self, name: &str) -> Result<table::TableOptions<'_>> {
        let options = self.options;
        let tabs = [".tsv", ".tab", ".tsv.gz", ".tab.gz"];
        let named = name.to_ascii_lowercase();
        let delimiter = tabs.iter().any(|end| named.ends_with(end)).then_some(b'\t');
        let like = self.like.filter(|like| !like.columns.is_empty());
        let features = match (like, options.columns.as_deref()) {
            (None, None) => table::Features::All,
            (None, Some(list)) => table::Features::Listed(list),
            (Some(like), None) if options.drop_columns.is_none() => {
                table::Features::OfModel(&like.columns)
            }
            (Some(like), _) => {
                let option = if options.columns.is_some() { "--columns" } else { "--drop-columns" };
                return Err(Failure::Usage(format!(
                    "{option}: the model knows its columns ({}); leave the option out",
                    listed(&like.columns)
                )));
            }
        };
        let usual = self.like.and_then(|like| like.label_column.as_deref());
        Ok(table::TableOptions {
            delimiter,
            header: options.header.unwrap_or(table::Header::Auto),
            features,
            dropped: options.drop_columns.as_deref(),
            label: options.label_column.as_deref().or(usual.filter(|_| self.labeled)),
            usual_label: usual,
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
        Data::parse(name, bytes, Plan { options: &options, like: None, labeled: false })
    }

    fn message(bytes: &[u8]) -> String {
        parse("x", bytes).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_is_mnist() {
        let (train, test) = Data::sample().unwrap();
        assert_eq!((train.len(), test.len(), train.width()), (5000, 1000, 784));
        let shape = Some(ImageShape { height: 28, width: 28, channels: 1 });
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
    fn formats_are_known_by_how_they_begin() {
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
        // Of a .tsv only tabs stand between columns.
        assert_eq!(parse("x.tsv", b"a,b\tc\n1\t2\n").unwrap().columns, ["a,b", "c"]);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5\0"), format!("x: neither IDX nor .npy nor a table; {EXPECTED}"));
        assert!(parse("x.npy", b"1,2\n").unwrap_err().to_string().contains("neither IDX nor .npy"));
        assert!(message(b"PAR1...").starts_with("x: a Parquet file; write it as text first"));
        assert_eq!(
            message(&IDX[..18]),
            "x: truncated: its header promises 1×1×3 bytes, the file holds 2"
        );
        assert_eq!(
            message(&[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3]),
            "x: no data: its shape is [0, 3]"
        );
        let options = ReadOptions::default();
        let plan = Plan { options: &options, like: None, labeled: false };
        let missing = Data::read(Path::new("no/such/file"), plan).unwrap_err().to_string();
        assert!(missing.starts_with("no/such/file: cannot read: No such file"), "{missing}");
    }

    #[test]
    fn a_gzip_file_cut_anywhere_is_an_error() {
        let whole = gzip(&IDX);
        for end in 0..whole.len() {
            let message = message(&whole[..end]);
            assert!(
                ["empty", "truncated", "neither"].iter().any(|word| message.contains(word)),
                "{end}: {message}"
            );
        }
        let mut two = whole.clone();
        two.extend(gzip(&[7]));
        assert!(message(&two).contains("longer than"), "{}", message(&two));
    }
}
