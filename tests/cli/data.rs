//! Data of all kinds: tables, archives, image directories, files too large for memory.

use crate::scratch::{SHORT, Scratch, images, last_line, read_array, write_idx};
use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{Array2, Axis};
use ndarray_npy::write_npy;
use std::fs;

const GAUSSIAN: &str = "--scale standardize --likelihood gaussian";

/// Rows around three centers of very different scale, and one constant column.
fn numbers(row: usize) -> [f64; 4] {
    let kind = (row % 3) as f64;
    let [a, b, c] = [7, 11, 5].map(|n| ((row * n) % 13) as f64 / 13.0);
    [1000.0 + 50.0 * kind + 9.0 * a, -0.01 * kind + 0.002 * b, 3.0 * kind + c - 2.0, 6.5]
}

/// A table with a column of words, with the columns in the given order.
fn table(rows: std::ops::Range<usize>, columns: &[&str], separator: &str) -> String {
    let names = ["width", "depth", "age", "constant"];
    let mut text = columns.join(separator) + "\n";
    for row in rows {
        let cell = |name: &&str| match names.iter().position(|known| known == name) {
            Some(place) => numbers(row)[place].to_string(),
            None => ["small", "middle, so", "large"][row % 3].to_owned(),
        };
        let quoted = |cell: String| if cell.contains(',') { format!("\"{cell}\"") } else { cell };
        let cells: Vec<String> = columns.iter().map(cell).map(quoted).collect();
        text += &(cells.join(separator) + "\n");
    }
    text
}

const COLUMNS: [&str; 5] = ["width", "kind", "depth", "age", "constant"];

fn cells(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = text.lines().map(|line| line.split(',').collect());
    (lines.next().unwrap(), lines.collect())
}

#[test]
fn table_with_labels_trains_and_is_written_in_its_units() {
    let scratch = Scratch::new("table");
    fs::write(scratch.path("all.csv"), table(0..300, &COLUMNS, ",")).unwrap();
    let train = "train --data all.csv --label-column kind --hidden 16 --latent 2 --epochs 60 --batch 16 \
                 --lr 0.01";
    let stdout = scratch.says(&format!("{train} {GAUSSIAN} --out m"));
    assert!(
        stdout.starts_with("4-16-2-16-4 (") && stdout.contains("270 train, 30 validation rows"),
        "{stdout}"
    );
    assert!(stdout.contains("1 feature is constant in the training rows"), "{stdout}");

    let model = "--model m/model.safetensors";
    scratch.succeeds(&format!("reconstruct {model} --data all.csv --out r.csv"));
    let text = fs::read_to_string(scratch.path("r.csv")).unwrap();
    let (header, rows) = cells(&text);
    assert_eq!((header, rows.len()), (vec!["width", "depth", "age", "constant"], 300));
    // In the order of the file, and nearer to each row than to the next, which is of another kind.
    for (i, row) in rows.iter().enumerate() {
        let width: f64 = row[0].parse().unwrap();
        assert!((width - numbers(i)[0]).abs() < 20.0, "row {i}: {width}");
    }
    scratch.succeeds(&format!("reconstruct {model} --data all.csv --out r.npy"));
    let array = read_array(&scratch.path("r.npy"));
    for (row, array) in rows.iter().zip(array.rows()) {
        let row: Vec<f32> = row.iter().map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(row, array.to_vec());
    }

    scratch.succeeds(&format!("sample {model} --count 50 --out s.csv"));
    let text = fs::read_to_string(scratch.path("s.csv")).unwrap();
    let (header, rows) = cells(&text);
    assert_eq!((header.len(), rows.len()), (4, 50));
    assert!(rows.iter().all(|row| (900.0..1200.0).contains(&row[0].parse::<f64>().unwrap())));
    scratch.succeeds(&format!("encode {model} --data all.csv --out e.csv"));
    let text = fs::read_to_string(scratch.path("e.csv")).unwrap();
    assert!(text.starts_with("mu_0,mu_1,logvar_0,logvar_1\n") && text.lines().count() == 301);

    // Other files may have another order of columns, and more columns.
    let mut columns = COLUMNS;
    columns.reverse();
    fs::write(scratch.path("turned.tsv"), table(0..300, &columns, "\t")).unwrap();
    scratch.succeeds(&format!("reconstruct {model} --data turned.tsv --out t.npy"));
    assert_eq!(read_array(&scratch.path("t.npy")), array);
    fs::write(scratch.path("few.csv"), table(0..9, &["width", "age"], ",")).unwrap();
    let message = scratch.fails(1, &format!("reconstruct {model} --data few.csv --out x.npy"));
    assert_eq!(
        message,
        "few.csv: no column 'depth', which the training data have; the file has width, age"
    );
    let message =
        scratch.fails(2, &format!("encode {model} --data all.csv --columns age --out x.npy"));
    assert!(
        message.starts_with("--columns: the columns are those of the training data (width, depth"),
        "{message}"
    );
}

#[test]
fn words_are_classes_of_a_conditional_model() {
    let scratch = Scratch::new("classes");
    fs::write(scratch.path("all.csv"), table(0..150, &COLUMNS, ";")).unwrap();
    let train =
        format!("train --data all.csv --label-column kind --conditional {SHORT} {GAUSSIAN}");
    scratch.succeeds(&format!("{train} --out m"));
    let model = "--model m/model.safetensors";
    scratch.succeeds(&format!("sample {model} --count 6 --out s.csv"));
    let text = fs::read_to_string(scratch.path("s.csv")).unwrap();
    let kinds: Vec<&str> = text.lines().map(|line| line.splitn(5, ',').nth(4).unwrap()).collect();
    let [large, middle, small] = ["large", "\"middle, so\"", "small"];
    assert_eq!(kinds, ["kind", large, middle, small, large, middle, small]);
    scratch.succeeds(&format!("sample {model} --count 6 --label small --out one.csv"));
    let message = scratch.fails(2, &format!("sample {model} --label tiny --out x.csv"));
    assert_eq!(message, "--label tiny: the model has the classes large, middle, so, small");

    // The model records its label column.
    let eval = scratch.succeeds(&format!("eval {model} --data all.csv --json"));
    let words: String =
        (0..150).map(|i| format!("{}\n", ["small", "\"middle, so\"", "large"][i % 3])).collect();
    fs::write(scratch.path("labels.csv"), format!("kind\n{words}")).unwrap();
    let file = format!("eval {model} --data all.csv --labels labels.csv --json");
    assert_eq!(scratch.succeeds(&file), eval);
    fs::write(scratch.path("other.csv"), table(0..9, &COLUMNS, ",").replace("large", "huge"))
        .unwrap();
    let message = scratch.fails(1, &format!("eval {model} --data other.csv"));
    assert!(
        message.starts_with("other.csv: line 4: the model does not know the class 'huge'; it has the classes large, "),
        "{message}"
    );
    fs::write(
        scratch.path("without.csv"),
        table(0..9, &["width", "depth", "age", "constant"], ","),
    )
    .unwrap();
    let message = scratch.fails(1, &format!("eval {model} --data without.csv"));
    assert_eq!(
        message,
        "without.csv: no column 'kind', from which the model takes the classes; the file has width, depth, \
         age, constant; give the labels with --label-column or --labels"
    );
}

#[test]
fn table_without_header_is_scored_by_position() {
    let scratch = Scratch::new("headerless");
    let whole = table(0..60, &["width", "depth", "age", "kind"], "|");
    let (_, rows) = whole.split_once('\n').unwrap();
    fs::write(scratch.path("t.csv"), rows).unwrap();
    scratch.succeeds(&format!("train --data t.csv --label-column 4 {SHORT} {GAUSSIAN} --out m"));
    let model = "--model m/model.safetensors";
    scratch.says(&format!("score {model} --data t.csv --out s.csv"));
    let text = fs::read_to_string(scratch.path("s.csv")).unwrap();
    let labels: Vec<&str> = text.lines().map(|line| line.splitn(5, ',').nth(4).unwrap()).collect();
    assert_eq!(labels[..4], ["label", "small", "\"middle, so\"", "large"]);
    // A file of the features alone is enough.
    let rows: String =
        rows.lines().map(|line| format!("{}\n", line.rsplit_once('|').unwrap().0)).collect();
    fs::write(scratch.path("few.csv"), rows).unwrap();
    scratch.says(&format!("score {model} --data few.csv --out few-s.csv"));
    let few = fs::read_to_string(scratch.path("few-s.csv")).unwrap();
    for (few, all) in few.lines().zip(text.lines()) {
        assert_eq!(all.splitn(5, ',').take(4).collect::<Vec<_>>().join(","), few);
    }
}

#[test]
fn rejects_an_output_that_would_overwrite_the_data() {
    let scratch = Scratch::new("own");
    let whole = table(0..30, &["width", "depth"], ",");
    fs::write(scratch.path("own.csv"), &whole).unwrap();
    scratch.succeeds(&format!("train --data own.csv {SHORT} {GAUSSIAN} --out m"));
    for command in ["score", "encode", "reconstruct", "interpolate --rows 0,1"] {
        let message = scratch.fails(
            2,
            &format!("{command} --model m/model.safetensors --data own.csv --out m/../own.csv"),
        );
        assert_eq!(
            message,
            "--out m/../own.csv: --data reads this file, and it would be overwritten; choose another name",
            "{command}"
        );
    }
    assert_eq!(fs::read_to_string(scratch.path("own.csv")).unwrap(), whole);
}

#[test]
fn table_errors_name_line_and_column() {
    let scratch = Scratch::new("wrong-table");
    let whole = table(0..30, &["width", "depth"], ",");
    let lines: Vec<&str> = whole.lines().collect();
    let with = |line: usize, text: &str| {
        let mut lines = lines.clone();
        lines[line - 1] = text;
        fs::write(scratch.path("t.csv"), lines.join("\r\n")).unwrap();
    };
    for (text, message) in [
        (
            "3,",
            "t.csv: line 12, column 'depth': missing value; fill it in, remove the line, or exclude",
        ),
        ("3,?", "t.csv: line 12, column 'depth': missing value (?)"),
        (
            "3,red",
            "t.csv: line 12, column 'depth': expected a number, found 'red'; exclude the column with",
        ),
        ("3", "t.csv: line 12 has 1 column; expected 2, as in the first line"),
    ] {
        with(12, text);
        let found = scratch.fails(1, &format!("train --data t.csv {GAUSSIAN} --out x"));
        assert!(found.starts_with(message), "{found}");
    }
    let wide: Vec<u8> = "\u{feff}a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(scratch.path("t.csv"), wide).unwrap();
    let message = scratch.fails(1, "train --data t.csv --out x");
    assert_eq!(message, "t.csv: the text is UTF-16; save it as UTF-8");
    // The default likelihood requires numbers from 0 to 1.
    with(1, lines[0]);
    let message = scratch.fails(1, "train --data t.csv --out x");
    assert!(
        message.starts_with("t.csv: line 2, column 'width': found 1000; expected values in [0, 1]")
            && message.contains("--scale standardize --likelihood gaussian"),
        "{message}"
    );
    let message =
        scratch.fails(2, &format!("train --data t.csv --columns tall {GAUSSIAN} --out x"));
    assert_eq!(message, "t.csv: --columns: no column 'tall'; the file has width, depth");
    scratch
        .succeeds(&format!("train --data t.csv --drop-columns depth {SHORT} {GAUSSIAN} --out m"));
    assert!(scratch.succeeds("inspect m/model.safetensors").contains("1 column: width"));
}

#[test]
fn min_max_clips_values_out_of_range() {
    let scratch = Scratch::new("min-max");
    fs::write(scratch.path("train.csv"), table(0..90, &["width", "depth"], ",")).unwrap();
    fs::write(scratch.path("test.csv"), "width,depth\n1020,-0.01\n2000,-0.01\n").unwrap();
    let train = format!("train --data train.csv --validation test.csv --scale min-max {SHORT}");
    // The first row of the test is in the range; -0.01 is the value of the first training row.
    let clipped = "warning: test.csv: 1 row has values outside of the range of the training rows, which are \
                   clipped to it (first: line 3, column 'width': found 2000, expected 1000 to ";
    let said = scratch.run(&format!("{train} --out m"));
    assert!(
        said.status.success() && String::from_utf8_lossy(&said.stderr).contains(clipped),
        "{said:?}"
    );
    let loss = |stdout: &str| last_line(stdout)["validation_loss"].clone();
    let explicit = scratch.run(&format!("{train} --clip-to-range --out m"));
    assert!(
        explicit.status.success() && !String::from_utf8_lossy(&explicit.stderr).contains("clipped")
    );
    let text = |output: &std::process::Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(loss(&text(&said)), loss(&text(&explicit)));
    let model = "--model m/model.safetensors";
    scratch.succeeds(&format!("reconstruct {model} --data test.csv --out r.npy"));
    let rows = read_array(&scratch.path("r.npy"));
    assert!(rows.column(0).iter().all(|x| (1000.0..=1110.0).contains(x)), "{rows}");

    let inside = format!(
        "train --data train.csv --validation train.csv --scale min-max {SHORT} --out strict"
    );
    scratch.succeeds(&inside);
    let eval = "eval --model strict/model.safetensors --data test.csv";
    let said = scratch.run(eval);
    assert!(String::from_utf8_lossy(&said.stderr).starts_with(clipped), "{said:?}");
    assert_eq!(scratch.succeeds(&format!("{eval} --clip-to-range")), text(&said));
    let message = scratch.fails(2, &format!("{eval} --columns width"));
    assert!(
        message.starts_with("--columns: the columns are those of the training data"),
        "{message}"
    );
}

#[test]
fn reads_one_array_of_an_archive() {
    use std::io::Write;
    let scratch = Scratch::new("npz");
    write_npy(scratch.path("x.npy"), &images(60, 1)).unwrap();
    let file = fs::File::create(scratch.path("both.npz")).unwrap();
    let mut archive = zip::ZipWriter::new(file);
    for name in ["x.npy", "y.npy"] {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(name, options).unwrap();
        archive.write_all(&fs::read(scratch.path("x.npy")).unwrap()).unwrap();
    }
    archive.finish().unwrap();
    for data in ["both.npz:q", "both.npz --array q"] {
        let message = scratch.fails(2, &format!("train --data {data} --out m"));
        assert!(message.contains("no array 'q'; the file has x, y"), "{message}");
    }
    let message = scratch.fails(1, "train --data both.npz --out m");
    assert_eq!(
        message,
        "both.npz: the file has 2 arrays (x, y); choose one by its name, as in FILE.npz:x"
    );
    scratch.succeeds(&format!("train --data both.npz --array y {SHORT} --out a"));
    scratch.succeeds(&format!("train --data x.npy {SHORT} --out b"));
    let read = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    assert!(read("a") == read("b"));
}

#[test]
fn reads_images_in_one_directory_per_class() {
    let scratch = Scratch::new("pictures");
    for (class, bright) in [("night", 20), ("noon", 220)] {
        fs::create_dir_all(scratch.path(&format!("sky/{class}"))).unwrap();
        for i in 0..12_u8 {
            let path = scratch.path(&format!("sky/{class}/{i:02}.png"));
            let side = 8 + u32::from(i % 2) * 4;
            if i < 6 {
                GrayImage::from_fn(side, 8, |x, _| Luma([bright + (x as u8 + i) % 9]))
                    .save(path)
                    .unwrap();
            } else {
                RgbImage::from_pixel(side, 8, Rgb([bright + i, bright, bright - i]))
                    .save(path)
                    .unwrap();
            }
        }
    }
    let message = scratch.fails(1, "train --data sky --out m");
    assert!(
        message.contains("01.png: the image is 12x8 pixels (width x height)")
            && message.contains("--size 8x8"),
        "{message}"
    );
    let train = format!("train --data sky --size 6x4 --conditional {SHORT} --likelihood gaussian");
    scratch.succeeds(&format!("{train} --out m"));
    let model = "--model m/model.safetensors";
    scratch.succeeds(&format!("sample {model} --label noon --count 4 --out noon.csv"));
    let text = fs::read_to_string(scratch.path("noon.csv")).unwrap();
    assert!(
        text.starts_with("x0,x1,") && text.lines().nth(1).unwrap().ends_with(",noon"),
        "{text}"
    );
    // The images of the model, 6×4, are drawn nine times as large; size and classes are its own, too.
    scratch.succeeds(&format!("sample {model} --label noon --count 1 --out noon.png"));
    let picture = image::open(scratch.path("noon.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (6 * 8 + 4, 4 * 8 + 4));
    scratch.succeeds(&format!("reconstruct {model} --data sky --out r.npy"));
    assert_eq!(read_array(&scratch.path("r.npy")).dim(), (24, 24));
    let message =
        scratch.fails(2, &format!("reconstruct {model} --data sky --size 8x8 --out x.npy"));
    assert_eq!(message, "--size 8x8: expected 6x4, the size of the training images");

    scratch.succeeds(&format!(
        "train --data sky --size 6x4 --rgb {SHORT} --likelihood gaussian --out rgb"
    ));
    scratch.succeeds("reconstruct --model rgb/model.safetensors --data sky --out rgb.npy");
    let rows = read_array(&scratch.path("rgb.npy"));
    assert_eq!(rows.dim(), (24, 72));
    // A single image works like a directory with one image.
    scratch
        .succeeds("reconstruct --model rgb/model.safetensors --data sky/noon/03.png --out one.npy");
    assert_eq!(read_array(&scratch.path("one.npy")).row(0), rows.index_axis(Axis(0), 15));
}

#[test]
fn streamed_rows_give_the_same_bits_as_rows_in_memory() {
    let scratch = Scratch::new("streamed");
    write_idx(&scratch.path("bytes.idx"), &images(150, 1));
    let numbers = Array2::from_shape_fn((150, 4), |(i, j)| numbers(i)[j]);
    write_npy(scratch.path("numbers.npy"), &numbers).unwrap();
    write_npy(scratch.path("labels.npy"), &ndarray::Array1::from_shape_fn(150, |i| (i % 3) as u8))
        .unwrap();
    for data in [
        "--data bytes.idx",
        "--data bytes.idx --labels labels.npy --conditional --validation-fraction 0.3 --seed 5",
        "--data numbers.npy --scale standardize --likelihood gaussian",
        "--data numbers.npy --scale min-max --clip-to-range --augment dequantize --likelihood \
         continuous-bernoulli",
    ] {
        let run = |stream: &str| {
            let report =
                scratch.succeeds(&format!("train {data} {SHORT} --stream {stream} --out m"));
            let model = fs::read(scratch.path("m/model.safetensors")).unwrap();
            // Rows that are not images have no picture.
            let picture = fs::read(scratch.path("m/reconstructions.png")).ok();
            (last_line(&report)["validation_loss"].clone(), model, picture)
        };
        assert!(run("always") == run("never"), "{data}");
    }
    let eval = |stream: &str| {
        let data = "--data numbers.npy --clip-to-range";
        scratch.succeeds(&format!("eval --model m/model.safetensors {data} --stream {stream}"))
    };
    assert_eq!(eval("always"), eval("never"));

    fs::write(scratch.path("t.csv"), table(0..9, &["width", "depth"], ",")).unwrap();
    let message = scratch.fails(2, "train --data t.csv --stream always --out x");
    assert!(message.starts_with("--stream always: t.csv cannot be streamed; only "), "{message}");
    let mut cut = fs::read(scratch.path("bytes.idx")).unwrap();
    cut.truncate(1000);
    fs::write(scratch.path("cut.idx"), cut).unwrap();
    let message = scratch.fails(1, "train --data cut.idx --stream always --out x");
    assert!(
        message.starts_with("cut.idx: truncated: the header promises shape [150, 6, 5]"),
        "{message}"
    );
}

#[test]
fn validation_fraction_sets_the_held_out_rows() {
    let scratch = Scratch::new("fraction");
    write_idx(&scratch.path("train.idx"), &images(150, 1));
    let stdout = scratch.says(
        "train --data train.idx --validation-fraction 0.3 --hidden 8 --latent 2 --epochs 1 --out m",
    );
    assert!(stdout.contains("105 train, 45 validation rows"), "{stdout}");
    // run.toml repeats the run.
    scratch.succeeds("train --config m/run.toml --quiet --out again");
    let read = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    assert!(read("m") == read("again"));
}

/// A separate test file leaves nothing to hold out, unless the validation loss decides something.
#[test]
fn test_rows_of_their_own_leave_all_rows_of_the_data_to_train_on() {
    let scratch = Scratch::new("test-rows");
    let rows = |count: usize| {
        let numbers = (0..count).map(|i| format!("{},{}\n", i % 7, i % 5));
        format!("a,b\n{}", numbers.collect::<String>())
    };
    fs::write(scratch.path("t.csv"), rows(40)).unwrap();
    fs::write(scratch.path("u.csv"), rows(10)).unwrap();
    for (options, found) in [
        ("", "40 train, 10 test rows"),
        ("--validation-fraction 0.2", "32 train, 8 validation, 10 test rows"),
        ("--validation u.csv", "40 train, 10 validation, 10 test rows"),
        ("--patience 3", "36 train, 4 validation, 10 test rows"),
        ("--keep best", "36 train, 4 validation, 10 test rows"),
        ("--schedule plateau", "36 train, 4 validation, 10 test rows"),
    ] {
        let text = scratch.says(&format!(
            "train --data t.csv --test u.csv --scale standardize --likelihood gaussian --hidden 4 --latent 1 \
             --epochs 1 --overwrite --out o {options}"
        ));
        assert!(text.contains(found), "{options}: {text}");
    }
}
