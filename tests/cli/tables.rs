//! Tables of every form, in every command that reads them.

use crate::scratch::{SHORT, Scratch};
use std::fs;
use std::io::Write;

const GAUSSIAN: &str = "--scale standardize --likelihood gaussian";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A model of columns `a` and `b` with the label column `kind`, and its data.
fn with_model(name: &str, options: &str) -> Scratch {
    let scratch = Scratch::new(name);
    fs::write(scratch.path("t.csv"), "a,b,kind\n1,2,x\n2,3.5,y\n3,4,x\n4,4.5,y\n").unwrap();
    let train = "train --data t.csv --validation t.csv --label-column kind";
    scratch.succeeds(&format!("{train} {GAUSSIAN} {SHORT} {options} --out m"));
    scratch
}

/// The same rows in other forms, and forms that are refused: in training, scoring and figures of scores.
#[test]
fn every_reader_of_tables_reads_the_same() {
    let scratch = with_model("tables", "");
    let scores = scratch.succeeds("score --model m/model.safetensors --data t.csv");
    let read = |bytes: &[u8]| fs::write(scratch.path("u.csv"), bytes).unwrap();
    let whole = "a,b,kind\n1,2,x\n2,3.5,y\n3,4,x\n4,4.5,y\n";
    let semicolons = whole.replace(',', ";");
    for bytes in [
        whole.replace('\n', "\r\n").into_bytes(),
        whole.replace('\n', "\r").into_bytes(),
        format!("\u{feff}sep=;\n{semicolons}\n\n").into_bytes(),
        format!("SEP=|\r\n{}", whole.replace(',', "|")).into_bytes(),
        whole.replace(',', "\t").into_bytes(),
        whole.replace("a,b,kind", "\"a\", b ,kind\n").into_bytes(),
        gzip(whole.as_bytes()),
        [&gzip(&whole.as_bytes()[..20])[..], &gzip(&whole.as_bytes()[20..]), &[0; 512]].concat(),
    ] {
        read(&bytes);
        let found = scratch.succeeds("score --model m/model.safetensors --data u.csv");
        assert_eq!(found, scores, "{}", String::from_utf8_lossy(&bytes));
        let roc = "plot roc --score-column b --label-column kind --positive x --out roc.svg";
        let area = scratch.succeeds(&format!("{roc} --scores t.csv"));
        assert_eq!(scratch.succeeds(&format!("{roc} --scores u.csv")), area);
        scratch.succeeds(&format!(
            "train --data u.csv --label-column kind {GAUSSIAN} {SHORT} --overwrite --out u"
        ));
    }
    let padded = [&gzip(whole.as_bytes())[..], b"\0\0rest"].concat();
    for (bytes, reason) in [
        (utf_16(whole), "the text is UTF-16; save it as UTF-8"),
        (gzip(&utf_16(whole)), "the text is UTF-16; save it as UTF-8"),
        (padded, "there are bytes after the end of the gzip data"),
        (gzip(whole.as_bytes())[..40].to_vec(), "damaged or truncated gzip file"),
        (
            whole.replace("3,4,x", "3,4,\"x").into_bytes(),
            "line 4, column 3: a quote is opened and not closed",
        ),
        (
            whole.replace("3,4,x", "\"3\"5,4,x").into_bytes(),
            "line 4, column 1: text follows a closing quote",
        ),
        (
            whole.replace("3,4,x", ",,").into_bytes(),
            "line 4 has separators but no values; remove it",
        ),
        (
            whole.replace("3,4,x", "3,4").into_bytes(),
            "line 4 has 2 columns; expected 3, as in the first line",
        ),
        (b"[\n {\"a\": 1}]".to_vec(), "JSON is not supported"),
        (
            b"%%MatrixMarket matrix array real general\n2 2\n1\n".to_vec(),
            "MatrixMarket is not supported",
        ),
        (b"[\r\n        {\"a\": 1}]".to_vec(), "JSON is not supported"),
        (b"<!DOCTYPE html>\n<p>".to_vec(), "the file is HTML or XML; expected data"),
    ] {
        read(&bytes);
        for line in [
            "score --model m/model.safetensors --data u.csv".to_owned(),
            "plot roc --scores u.csv --score-column b --label-column kind --positive x --out r.svg"
                .into(),
            format!("train --data u.csv --label-column kind {GAUSSIAN} --out x"),
            format!("train --data t.csv --validation u.csv --label-column kind {GAUSSIAN} --out x"),
        ] {
            let message = scratch.fails(1, &line);
            assert!(
                message.contains(reason) && message.starts_with("u.csv: "),
                "{line}: {message}"
            );
        }
    }
}

#[test]
fn tables_that_the_tool_writes_can_be_read_back() {
    let rows = "0.1,0.2,x\n0.3,0.4,y\n0.5,0.9,x\n0.2,0.2,y\n";
    for (first, label, features, class) in [
        ("dimension,value,kind\n", "kind", "dimension,value", "kind"),
        ("row,\"class, from\",to\n", "to", "row,\"class, from\"", "to"),
        // Without a header, and with numbers as names.
        ("", "3", "column_1,column_2", "column_3"),
        ("2019,2020,kind\n", "kind", "2019,2020", "kind"),
    ] {
        let scratch = Scratch::new("round-trip");
        let header = |name: &str| {
            let text = fs::read_to_string(scratch.path(name)).unwrap();
            text.lines().next().unwrap().to_owned()
        };
        fs::write(scratch.path("t.csv"), format!("{first}{rows}")).unwrap();
        let train = format!("train --data t.csv --label-column {label} {SHORT} --conditional");
        scratch.succeeds(&format!("{train} --validation t.csv --out m"));
        let model = "--model m/model.safetensors";
        let scores = scratch.succeeds(&format!("score {model} --data t.csv"));
        scratch.succeeds(&format!("sample {model} --count 5 --out s.csv"));
        assert_eq!(header("s.csv"), format!("{features},{class}"));
        assert_eq!(scratch.succeeds(&format!("score {model} --data s.csv")).lines().count(), 6);
        fs::write(scratch.path("l.csv"), "label\nx\ny\nx\ny\n").unwrap();
        scratch.succeeds(&format!("reconstruct {model} --data t.csv --out r.csv"));
        assert_eq!(header("r.csv"), features);
        let again = scratch.succeeds(&format!("score {model} --data r.csv --labels l.csv"));
        assert_eq!(again.lines().count(), scores.lines().count());
        // Columns of the tool stand beside those of the data.
        scratch.succeeds(&format!("traverse {model} --label x --steps 3 --out v.csv"));
        scratch.succeeds(&format!(
            "interpolate {model} --data t.csv --rows 0,1 --steps 6 --out i.csv"
        ));
        for table in ["v.csv", "i.csv"] {
            fs::write(scratch.path("six.csv"), "label\nx\ny\nx\ny\nx\ny\n").unwrap();
            let found = scratch.succeeds(&format!("score {model} --data {table} --labels six.csv"));
            assert_eq!(found.lines().count(), 7, "{}", header(table));
            let names = header(table);
            let mut names: Vec<&str> = names.split(',').collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }
}

#[test]
fn header_of_numbers_is_no_row() {
    let scratch = Scratch::new("number-header");
    let rows = "0.1,0.2,0.3\n0.5,0.6,0.7\n0.9,0.1,0.4\n";
    let score = "score --model m/model.safetensors --data t.csv";
    let count = |line: &str| scratch.succeeds(line).lines().count() - 1;
    for (first, options) in
        [("0,1,2\n", ""), ("2019,2020,2021\n", "--header yes"), ("4,2,9\n", "--header yes")]
    {
        fs::write(scratch.path("t.csv"), format!("{first}{rows}")).unwrap();
        scratch.succeeds(&format!(
            "train --data t.csv --validation t.csv {options} {SHORT} --overwrite --out m"
        ));
        // The model knows that they are names.
        assert_eq!(count(score), 3, "{first}");
        let table = format!("r{}.csv", &first[..1]);
        scratch.succeeds(&format!(
            "reconstruct --model m/model.safetensors --data t.csv --out {table}"
        ));
        assert_eq!(
            count(&format!("score --model m/model.safetensors --data {table}")),
            3,
            "{first}"
        );
    }
    fs::write(scratch.path("other.csv"), format!("1,0,1\n{rows}")).unwrap();
    assert_eq!(count("score --model m/model.safetensors --data other.csv"), 4);
    // The index of a data frame: each advice can be followed.
    fs::write(scratch.path("q.csv"), ",0,1\n0,0.5,0.25\n1,0.75,1\n2,0.5,0\n").unwrap();
    let train = format!("train --data q.csv --validation q.csv {SHORT} --overwrite --out q");
    let message = scratch.fails(1, &train);
    assert_eq!(
        message,
        "q.csv: column 1 has no name in the header; if it is a pandas index, exclude it with \
         --drop-columns 1-1, or write the file with index=False"
    );
    scratch.succeeds(&format!("{train} --drop-columns 1-1"));
    assert_eq!(count("score --model q/model.safetensors --data q.csv"), 3);
    scratch.succeeds(&format!("{train} --columns 2-3"));
    let text = scratch.succeeds("inspect q/model.safetensors");
    assert!(text.contains("2 columns: 0, 1"), "{text}");
}

#[test]
fn conditional_model_has_the_classes_of_the_training_rows() {
    let scratch = with_model("unseen", "--conditional");
    let train =
        format!("train --data t.csv --label-column kind --conditional {GAUSSIAN} {SHORT} --out x");
    fs::write(scratch.path("u.csv"), "a,b,kind\n\n1,2,x\n2,3,zz\n").unwrap();
    let reason = "line 4: no training row has the class 'zz'; remove such rows, or train on rows of that class";
    for held in ["--validation u.csv", "--validation t.csv --test u.csv"] {
        assert_eq!(scratch.fails(1, &format!("{train} {held}")), format!("u.csv: {reason}"));
    }
    // Files of labels, and rows that are held out of the training file.
    fs::write(scratch.path("d.csv"), "a,b\n1,2\n2,3\n3,4\n4,5\n").unwrap();
    fs::write(scratch.path("l.csv"), "label\nx\ny\nx\ny\n").unwrap();
    fs::write(scratch.path("z.csv"), "label\nx\ny\nzz\ny\n").unwrap();
    let train = format!("train --data d.csv --conditional {GAUSSIAN} {SHORT} --out x");
    let of_files = "--labels l.csv --validation d.csv --validation-labels z.csv";
    assert_eq!(scratch.fails(1, &format!("{train} {of_files}")), format!("z.csv: {reason}"));
    let held_out = (1..40)
        .map(|seed| {
            scratch.run(&format!("{train} --labels z.csv --validation-fraction 0.3 --seed {seed}"))
        })
        .find(|output| !output.status.success())
        .unwrap();
    let message = String::from_utf8(held_out.stderr).unwrap();
    assert_eq!(
        message.trim_end(),
        "error: z.csv: line 4: no training row has the class 'zz'; the rows of that class are all held out; draw \
         others with --seed, or hold out a smaller fraction"
    );
    // One directory per class.
    for (file, bright) in
        [("train/a/1.png", 9), ("train/b/1.png", 99), ("other/a/1.png", 9), ("other/z/1.png", 9)]
    {
        let path = scratch.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(4, 4, image::Luma([bright])).save(path).unwrap();
    }
    let train = format!("train --data train --conditional {SHORT}");
    let message = scratch.fails(1, &format!("{train} --validation other --out x"));
    assert!(
        message.starts_with("other: other/z/1.png: no training row has the class 'z'"),
        "{message}"
    );
    scratch.succeeds(&format!("{train} --validation train --out p"));
    let message = scratch.fails(1, "score --model p/model.safetensors --data other");
    assert!(
        message.starts_with("other: other/z/1.png: the model does not know the class 'z'"),
        "{message}"
    );
    // A model without conditions takes no class from labels.
    let train = format!("train --data t.csv --label-column kind {GAUSSIAN} {SHORT} --out x");
    scratch.succeeds(&format!("{train} --validation u.csv"));
}

#[test]
fn missing_label_stays_missing() {
    let scratch = with_model("missing-label", "");
    fs::write(scratch.path("u.csv"), "a,b,kind\n1,2,x\n2,3,\n3,4,x\n").unwrap();
    let score = "score --model m/model.safetensors --data u.csv";
    let text = scratch.succeeds(score);
    let labels: Vec<&str> = text.lines().map(|line| line.rsplit_once(',').unwrap().1).collect();
    assert_eq!(labels, ["label", "x", "", "x"]);
    scratch.succeeds("eval --model m/model.safetensors --data u.csv");
    scratch.succeeds("plot latent --model m/model.safetensors --data u.csv --out l.svg");
    assert!(fs::read_to_string(scratch.path("l.svg")).unwrap().contains("no label"));
    scratch.says(&format!("{score} --out s.csv"));
    let message = scratch.fails(1, "plot roc --scores s.csv --positive x --out r.svg");
    assert_eq!(message, "s.csv: line 3, column 'label': missing label");
    // Where the label is needed, it is an error.
    let message = scratch.fails(
        1,
        "train --data u.csv --label-column kind --scale standardize --likelihood gaussian --out x",
    );
    assert_eq!(message, "u.csv: line 3, column 'kind': missing label");
    let scratch = with_model("missing-class", "--conditional");
    fs::write(scratch.path("u.csv"), "a,b,kind\n1,2,x\n2,3,\n").unwrap();
    assert_eq!(scratch.fails(1, score), "u.csv: line 3, column 'kind': missing label");
    // A second column of that name.
    fs::write(scratch.path("u.csv"), "a,b,kind,kind\n1,2,x,y\n").unwrap();
    assert_eq!(
        scratch.fails(1, score),
        "u.csv: two columns are called 'kind' (numbers 3, 4); rename or remove one, or exclude one with \
         --drop-columns; it is the label column of the training data"
    );
    scratch.succeeds(&format!("{score} --drop-columns 4"));
}

#[test]
fn labels_of_a_table_do_not_matter_beside_a_file_of_labels() {
    let scratch = with_model("labels-apart", "--conditional");
    fs::write(scratch.path("l.csv"), "kind\nx\ny\n").unwrap();
    let score = "score --model m/model.safetensors --labels l.csv --data u.csv";
    let mut tables = Vec::new();
    // Labels that are missing, unknown, twice there, or not there.
    for table in
        ["a,b,kind\n1,2,\n2,3,zz\n", "a,b,kind,kind\n1,2,x,y\n2,3,z,nan\n", "a,b\n1,2\n2,3\n"]
    {
        fs::write(scratch.path("u.csv"), table).unwrap();
        tables.push(scratch.succeeds(score));
    }
    assert!(tables[0].contains(",x\n") && tables[0].contains(",y\n"), "{}", tables[0]);
    assert!(tables.iter().all(|table| *table == tables[0]), "{tables:?}");
}

#[test]
fn excludes_one_of_two_columns_of_a_name() {
    let scratch = Scratch::new("one-of-two");
    fs::write(scratch.path("t.csv"), "a,b,b\n1,2,30\n2,4,10\n3,1,20\n4,3,50\n").unwrap();
    fs::write(scratch.path("u.csv"), "b,a\n2,1\n4,2\n1,3\n3,4\n").unwrap();
    // The test rows are read like the training rows, from a file of the same kind or another one.
    let train = format!("train --data t.csv --drop-columns 3 {GAUSSIAN} {SHORT}");
    scratch.succeeds(&format!("{train} --validation t.csv --test u.csv --out m"));
    let score = "score --model m/model.safetensors --data";
    let message = scratch.fails(1, &format!("{score} t.csv"));
    assert_eq!(
        message,
        "t.csv: two columns are called 'b' (numbers 2, 3); rename or remove one, or exclude one with \
         --drop-columns"
    );
    let scores = scratch.succeeds(&format!("{score} u.csv"));
    assert_eq!(scratch.succeeds(&format!("{score} t.csv --drop-columns 3")), scores);
    assert_ne!(scratch.succeeds(&format!("{score} t.csv --drop-columns 2")), scores);
    // The same table without its header.
    fs::write(scratch.path("n.csv"), "1,2,30\n2,4,10\n3,1,20\n4,3,50\n").unwrap();
    assert_eq!(scratch.succeeds(&format!("{score} n.csv --drop-columns 3")), scores);
    let message = scratch.fails(2, &format!("{score} t.csv --drop-columns 9"));
    assert!(message.starts_with("t.csv: --drop-columns: no column '9'"), "{message}");
}

#[test]
fn names_that_a_file_does_not_have_are_wrong_options() {
    let scratch = with_model("wrong-names", "--conditional");
    let train = format!("train --data t.csv {GAUSSIAN} --out x");
    let score = "plot roc --scores t.csv --out r.svg";
    for (line, part) in [
        (
            format!("{train} --label-column z"),
            "t.csv: --label-column: no column 'z'; the file has a, b, kind",
        ),
        (format!("{train} --columns z"), "t.csv: --columns: no column 'z'"),
        (
            format!("{train} --columns 2-9"),
            "t.csv: --columns: no columns 2-9; columns are numbered from 1 to 3",
        ),
        (format!("{train} --drop-columns z"), "t.csv: --drop-columns: no column 'z'"),
        (
            format!("{train} --columns a,kind --label-column kind"),
            "cannot be both a feature and the label",
        ),
        (
            "sample --model m/model.safetensors --label z --out s.csv".into(),
            "--label z: the model has the classes",
        ),
        (
            "interpolate --model m/model.safetensors --data t.csv --rows 0,9 --out i.csv".into(),
            "--rows: row 9: t.csv has 4 rows",
        ),
        (
            format!("{score} --score-column z --label-column kind --positive x"),
            "--score-column: no column 'z'",
        ),
        (
            format!("{score} --score-column a --label-column z --positive x"),
            "--label-column: no column 'z'",
        ),
        (
            format!("{score} --score-column a --label-column kind --positive z"),
            "--positive z: no row has",
        ),
    ] {
        let message = scratch.fails(2, &line);
        assert!(message.contains(part), "{line}: {message}");
    }
    // A table of scores without a header would lose its first row.
    fs::write(scratch.path("s.csv"), "0.5,x\n0.7,y\n0.1,y\n").unwrap();
    let message = scratch.fails(
        2,
        "plot roc --scores s.csv --score-column 1 --label-column 2 --positive y --out r.svg",
    );
    assert!(
        message.contains("line 1 has the number 0.5 in this column; expected a header"),
        "{message}"
    );
}

#[test]
fn wide_tables_are_read_in_linear_time() {
    let scratch = Scratch::new("wide");
    let write = |columns: usize| {
        let names: Vec<String> = (0..columns).map(|i| format!("ENSG{i:011}")).collect();
        let row = vec!["0.5"; columns].join(",") + "\n";
        fs::write(scratch.path("w.csv"), format!("{}\n{}", names.join(","), row.repeat(4)))
            .unwrap();
    };
    let seconds = |line: &str| {
        let start = std::time::Instant::now();
        scratch.succeeds(line);
        start.elapsed().as_secs_f64()
    };
    let train = "train --data w.csv --validation w.csv --hidden 2 --latent 1 --epochs 1 --quiet --overwrite --out m";
    let score = "score --model m/model.safetensors --data w.csv";
    write(4_000);
    let few = seconds(train) + seconds(score);
    write(40_000);
    let many = seconds(train) + seconds(score);
    // Comparing all names with all takes 100 times as long: 6 seconds for these.
    assert!(many < 20.0 * few.max(0.1), "{few} s for 4,000 columns, {many} s for 40,000");
}

/// Tables without names are matched by the number of columns, in every command that reads a table.
#[test]
fn a_wider_table_than_that_without_a_header_is_refused() {
    let scratch = Scratch::new("wider");
    let rows: Vec<[String; 6]> = (0..12)
        .map(|i: i32| {
            let x = |k: i32| format!("{}.5", (i * (k + 3) + k * k) % 7);
            [x(0), x(1), x(2), x(3), x(4), ["0", "1"][i as usize % 2].to_owned()]
        })
        .collect();
    // The columns of each file by their numbers; 9 is an index.
    let write = |name: &str, header: &str, order: &[usize]| {
        let mut text = header.to_owned();
        for (i, row) in rows.iter().enumerate() {
            let cell = |&k: &usize| row.get(k).cloned().unwrap_or_else(|| (100 + i).to_string());
            text += &order.iter().map(cell).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        fs::write(scratch.path(name), text).unwrap();
    };
    write("five.csv", "", &[0, 1, 2, 3, 4]);
    write("header.csv", "a,b,c,d,e\n", &[0, 1, 2, 3, 4]);
    write("index.csv", "", &[9, 0, 1, 2, 3, 4]);
    write("index-header.csv", "id,a,b,c,d,e\n", &[9, 0, 1, 2, 3, 4]);
    write("four.csv", "", &[0, 1, 2, 3]);
    write("label.csv", "", &[0, 1, 2, 3, 4, 5]);
    write("label-first.csv", "", &[5, 0, 1, 2, 3, 4]);
    write("index-label.csv", "", &[9, 0, 1, 2, 3, 4, 5]);
    write("index-label-header.csv", "id,a,b,c,d,e,kind\n", &[9, 0, 1, 2, 3, 4, 5]);
    let train = format!("train {GAUSSIAN} {SHORT} --overwrite");
    scratch.succeeds(&format!("{train} --data five.csv --out m"));
    scratch.succeeds(&format!("{train} --data label.csv --label-column 6 --out labeled"));
    scratch.succeeds(&format!("{train} --data label.csv --drop-columns 6 --out dropped"));
    scratch.succeeds(&format!("{train} --data label.csv --columns 1-5 --out chosen"));
    scratch.succeeds(&format!("{train} --data label-first.csv --label-column 1 --out first"));

    let scores = |line: &str| -> Vec<String> {
        let text = scratch.succeeds(&format!("score {line}"));
        let column =
            text.lines().next().unwrap().split(',').position(|name| name == "negative_elbo");
        let column = column.unwrap();
        text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().to_owned()).collect()
    };
    let expected = scores("--model m --data five.csv");
    assert_eq!(expected.len(), 12);
    for line in [
        "--model m --data header.csv",
        "--model m --data index.csv --drop-columns 1",
        "--model m --data index-header.csv --drop-columns id",
        "--model m --data label.csv --drop-columns 6",
        "--model m --data label.csv --label-column 6",
        "--model m --data label-first.csv --label-column 1",
        "--model m --data index-label.csv --drop-columns 1 --label-column 7",
        "--model labeled --data five.csv",
        "--model labeled --data header.csv",
        "--model labeled --data label.csv",
        "--model labeled --data index-label.csv --drop-columns 1",
        "--model labeled --data index-label-header.csv --drop-columns id",
        "--model labeled --data label-first.csv --label-column 1",
        "--model dropped --data label.csv",
        "--model dropped --data label.csv --drop-columns 6",
        "--model dropped --data five.csv",
        "--model chosen --data label.csv",
        "--model chosen --data five.csv",
        "--model first --data label-first.csv",
        "--model first --data five.csv",
        "--model first --data label.csv --label-column 6",
    ] {
        assert_eq!(scores(line), expected, "{line}");
    }
    for (line, reason) in [
        (
            "--model m --data index.csv",
            "index.csv: the file has 6 columns and no header; expected the 5 columns of the training data, \
             which had no header; exclude the others with --drop-columns",
        ),
        (
            "--model m --data index-header.csv",
            "index-header.csv: the file has 6 columns (id, a, b, c, d, e); expected the 5 columns of the \
             training data, which had no header; exclude the others with --drop-columns",
        ),
        ("--model m --data index-label-header.csv", "the file has 7 columns (id, "),
        (
            "--model m --data index-label.csv --header no --drop-columns 7",
            "7 columns and no header, of which --drop-columns leaves 6; expected the 5 columns",
        ),
        (
            "--model m --data four.csv",
            "the file has 4 columns and no header; expected the 5 columns of the training data, which had no \
             header",
        ),
        (
            "--model labeled --data index-label.csv --header no",
            "7 columns and no header; expected the 6 columns of the training data, or only its 5 features",
        ),
        ("--model labeled --data index-label-header.csv", "the file has 7 columns (id, "),
        ("--model dropped --data index-label.csv --header no", "the file has 7 columns"),
    ] {
        let message = scratch.fails(1, &format!("score {line}"));
        assert!(message.contains(reason), "{line}: {message}");
    }
    for data in ["index.csv", "index-header.csv"] {
        for line in [
            format!("eval --model m --data {data}"),
            format!("encode --model m --data {data} --overwrite --out e.csv"),
            format!("reconstruct --model m --data {data} --overwrite --out r.csv"),
        ] {
            let message = scratch.fails(1, &line);
            assert!(
                message.contains("exclude the others with --drop-columns"),
                "{line}: {message}"
            );
            scratch.succeeds(&format!("{line} --drop-columns 1"));
        }
        for option in ["--test", "--validation"] {
            let message =
                scratch.fails(1, &format!("{train} --data five.csv {option} {data} --out x"));
            assert!(message.contains("; remove the others from the file"), "{option}: {message}");
        }
    }
    let both = "--data label.csv --validation label.csv --test five.csv";
    scratch.succeeds(&format!("{train} {both} --drop-columns 6 --out x"));
    scratch.succeeds(&format!("{train} {both} --columns 1-5 --out x"));
}
