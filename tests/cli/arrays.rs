//! Arrays: their headers, and rows that are images or not.

use crate::scratch::{SHORT, Scratch, last_line};
use ndarray::{Array2, Array4, Axis};
use ndarray_npy::write_npy;
use std::fs;
use std::io::Write;

#[test]
fn draws_channels_first_and_last_alike() {
    let scratch = Scratch::new("channels");
    // Red above, green below: bands of 4 and 2 pixels.
    let last = Array4::from_shape_fn((20, 6, 8, 3), |(_, y, _, channel)| {
        if (channel == 0 && y < 4) || (channel == 1 && y >= 4) { 255_u8 } else { 0 }
    });
    let first = last.clone().permuted_axes([0, 3, 1, 2]);
    write_npy(scratch.path("last.npy"), &last).unwrap();
    write_npy(scratch.path("first.npy"), &first.as_standard_layout().to_owned()).unwrap();
    write_npy(scratch.path("fortran.npy"), &first).unwrap();
    let gray = last.index_axis(Axis(3), 0).insert_axis(Axis(1)).to_owned();
    write_npy(scratch.path("gray.npy"), &gray).unwrap();
    for (data, size) in
        [("last", ""), ("first", ""), ("first", "--size 8x6"), ("fortran", ""), ("gray", "")]
    {
        let line =
            format!("train --data {data}.npy --validation {data}.npy {SHORT} {size} --out m");
        scratch.succeeds(&line);
        let sheet = image::open(scratch.path("m/reconstructions.png")).unwrap().to_rgb8();
        // Inputs are above their reconstructions; each pixel is a square of 7, in a frame of 2.
        let colors = [(2, 2), (2 + 55, 2 + 27), (2, 2 + 28), (2 + 55, 2 + 41)]
            .map(|(x, y)| sheet.get_pixel(x, y).0);
        let (upper, lower) =
            if data == "gray" { ([255; 3], [0; 3]) } else { ([255, 0, 0], [0, 255, 0]) };
        assert_eq!(colors, [upper, upper, lower, lower], "{data} {size}");
        let report = last_line(&scratch.succeeds("inspect m/model.safetensors --json"));
        let image = &report["data"]["image"];
        assert_eq!(
            (image["height"].as_u64(), image["width"].as_u64()),
            (Some(6), Some(8)),
            "{data}"
        );
        if data == "first" && size.is_empty() {
            let model = "reconstruct --model m/model.safetensors";
            scratch.succeeds(&format!("{model} --data fortran.npy --out r.png"));
            let message = scratch.fails(1, &format!("{model} --data last.npy --out s.png"));
            assert!(
                message.contains("the channels of a pixel adjacent, but those of"),
                "{message}"
            );
        }
        fs::remove_dir_all(scratch.path("m")).unwrap();
    }
}

#[test]
fn rows_of_an_array_are_images_only_if_they_are_square_or_have_a_size() {
    let scratch = Scratch::new("array-kinds");
    let ramp =
        |features| Array2::from_shape_fn((40, features), |(i, j)| ((i * j) % 7) as f32 / 7.0);
    for (features, size, images) in
        [(3, "", false), (49, "", false), (63, "", false), (64, "", true), (63, "--size 9x7", true)]
    {
        write_npy(scratch.path("x.npy"), &ramp(features)).unwrap();
        let said = scratch
            .says(&format!("train --data x.npy --hidden 8 --latent 2 --epochs 1 {size} --out m"));
        let noun = if images { " images/s" } else { " rows/s" };
        assert!(said.lines().filter(|line| line.contains("/s")).all(|line| line.contains(noun)));
        let drawn = scratch.names_in("m").contains(&"samples.png".to_owned());
        assert_eq!(drawn, images, "{features} {size}");
        if features == 3 {
            let message = scratch.fails(2, "sample --model m/model.safetensors --out s.png");
            assert!(message.contains("are not images; write .csv or .npy, or give the size"));
        }
        fs::remove_dir_all(scratch.path("m")).unwrap();
    }
}

#[test]
fn reads_long_integers_of_python_2_in_headers() {
    let scratch = Scratch::new("long-shape");
    let npy = |shape: &str, descr: &str, elements: &[u8]| {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(elements);
        file
    };
    let rows = [0.0_f32, 0.25, 0.5, 0.75, 1.0, 0.0].map(f32::to_le_bytes);
    fs::write(scratch.path("l.npy"), npy("(2L, 3L)", "<f4", rows.as_flattened())).unwrap();
    fs::write(scratch.path("y.npy"), npy("(2L,)", "|u1", &[1, 0])).unwrap();
    fs::write(scratch.path("n.npy"), npy("(np.int64(2), 3)", "<f4", rows.as_flattened())).unwrap();
    let train = |data: &str| format!("train --data {data} --validation {data} {SHORT} --out m");
    let labels = "--conditional --labels y.npy --validation-labels y.npy";
    scratch.succeeds(&format!("{} {labels}", train("l.npy")));
    let report = last_line(&scratch.succeeds("inspect m/model.safetensors --json"));
    assert_eq!(report["config"]["conditions"], 2);
    fs::remove_dir_all(scratch.path("m")).unwrap();
    scratch.succeeds(&format!("{} --scale min-max --likelihood gaussian", train("l.npy")));
    let report = last_line(&scratch.succeeds("inspect m/model.safetensors --json"));
    let scaling = &report["data"]["scaling"]["min-max"];
    assert_eq!(scaling["low"], serde_json::json!([0.0, 0.25, 0.0]));
    assert_eq!(scaling["high"], serde_json::json!([0.75, 1.0, 0.5]));
    let message = scratch.fails(1, &train("n.npy").replace("--out m", "--out n"));
    assert_eq!(message, "n.npy: damaged .npy header: shape must contain integers");
}

/// An archive with 40 training rows, 10 test rows and their labels, and the arrays as files.
fn with_archive(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let file = fs::File::create(scratch.path("two.npz")).unwrap();
    let mut archive = zip::ZipWriter::new(file);
    for (set, count) in [("train", 40), ("test", 10)] {
        let rows = Array2::from_shape_fn((count, 3), |(i, j)| ((i * 3 + j) % 8) as f32 / 8.0);
        write_npy(scratch.path(&format!("x_{set}.npy")), &rows).unwrap();
        let labels = ndarray::Array1::from_shape_fn(count, |i| i as i64 % 2);
        write_npy(scratch.path(&format!("y_{set}.npy")), &labels).unwrap();
        for array in [format!("x_{set}.npy"), format!("y_{set}.npy")] {
            archive.start_file(&*array, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&fs::read(scratch.path(&array)).unwrap()).unwrap();
        }
    }
    archive.finish().unwrap();
    scratch
}

#[test]
fn arrays_of_an_archive_are_named_one_by_one() {
    let scratch = with_archive("named-arrays");
    let short = "--hidden 4 --latent 1 --epochs 1";
    let model = |out: &str| fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    let train =
        |files: &str, out: &str| scratch.says(&format!("train {files} {short} --out {out}"));
    train("--data x_train.npy --validation x_test.npy", "plain");
    for (i, files) in [
        "--data two.npz --array x_train --validation two.npz:x_test",
        "--data two.npz:x_train --validation two.npz:x_test.npy",
        "--data two.npz --array x_train --validation x_test.npy",
        "--data two.npz:x_train --validation x_test.npy",
    ]
    .into_iter()
    .enumerate()
    {
        let said = train(files, &format!("m{i}"));
        assert!(said.contains("40 train, 10 validation rows"), "{said}");
        assert!(model(&format!("m{i}")) == model("plain"), "{files}");
    }
    train(
        "--data x_train.npy --validation x_test.npy --conditional --labels y_train.npy \
         --validation-labels y_test.npy",
        "labeled",
    );
    train(
        "--data two.npz:x_train --validation two.npz:x_test --conditional --labels two.npz:y_train \
         --validation-labels two.npz:y_test",
        "all",
    );
    assert!(model("all") == model("labeled"));
    let encode = "encode --model all/model.safetensors --out -";
    assert_eq!(
        scratch.succeeds(&format!("{encode} --data two.npz:x_test --labels two.npz:y_test")),
        scratch.succeeds(&format!("{encode} --data x_test.npy --labels y_test.npy"))
    );
}

#[test]
fn the_array_of_the_training_data_is_no_test_array() {
    let scratch = with_archive("same-array");
    let names = "the file has 4 arrays (x_test, x_train, y_test, y_train); choose one by its name, as in \
                 FILE.npz:x_test";
    let same = "two.npz: the array 'x_train' of this file is the training data; name another array, as in \
                two.npz:x_test";
    for (code, files, message) in [
        (2, "--data two.npz --array x_train --test two.npz", same),
        (2, "--data two.npz --array x_train --validation two.npz", same),
        (2, "--data two.npz:x_train --test two.npz", same),
        (2, "--data two.npz:z --test two.npz", "two.npz:z: no array 'z'; the file has x_test, "),
        (1, "--data two.npz --test x_test.npy", names),
        (1, "--data two.npz:x_train --labels two.npz --conditional", names),
        (
            1,
            "--data two.npz:x_train --labels two.npz:x_train",
            "dtype <f4 is not supported for labels",
        ),
        (
            2,
            "--data two.npz:x_train --array x_train",
            "--array: two.npz:x_train already names an array",
        ),
        (
            2,
            "--data x_train.npy --array x",
            "--array applies only to .npz files; x_train.npy is not one",
        ),
        (1, "--data none.npz:x", "none.npz: cannot read: No such file"),
    ] {
        let found = scratch.fails(code, &format!("train {files} --out m"));
        assert!(found.contains(message), "{files}: {found}");
    }
}

/// Masks of zeros and ones, as bytes.
fn mask(rows: usize) -> ndarray::Array3<u8> {
    ndarray::Array3::from_shape_fn((rows, 8, 8), |(i, y, x)| ((i + y * x) % 3 == 0) as u8)
}

#[test]
fn bytes_of_a_small_range_are_announced_and_read_by_their_white() {
    let scratch = Scratch::new("white");
    write_npy(scratch.path("u.npy"), &mask(40)).unwrap();
    write_npy(scratch.path("bool.npy"), &mask(40).mapv(|x| x == 1)).unwrap();
    write_npy(scratch.path("f.npy"), &mask(40).mapv(f32::from)).unwrap();
    write_npy(scratch.path("full.npy"), &mask(40).mapv(|x| x * 255)).unwrap();
    crate::scratch::write_idx(&scratch.path("u.idx"), &mask(40));
    fs::create_dir(scratch.path("pictures")).unwrap();
    for (i, image) in mask(40).outer_iter().enumerate() {
        let bytes = image.iter().copied().collect();
        let image = image::GrayImage::from_raw(8, 8, bytes).unwrap();
        image.save(scratch.path(&format!("pictures/{i:02}.png"))).unwrap();
    }
    let warning = |name: &str| {
        format!(
            "warning: {name}: the largest value is 1 (of 255), which is read as 0.0039; to read 1 as 1, use \
             --white 1\n"
        )
    };
    let train = |line: &str| {
        let line =
            format!("train --hidden 8 --latent 2 --epochs 2 --quiet --json --overwrite {line}");
        let output = scratch.run(&line);
        assert!(output.status.success(), "{line}");
        let loss = last_line(&String::from_utf8(output.stdout).unwrap())["validation_loss"].clone();
        (String::from_utf8(output.stderr).unwrap(), loss.as_f64().unwrap())
    };
    let (_, fair) = train("--data f.npy --out f");
    assert_eq!(train("--data bool.npy --out b").1, fair);
    for name in ["u.npy", "u.idx", "pictures"] {
        let (said, dark) = train(&format!("--data {name} --out dark"));
        assert_eq!(said.matches(&warning(name)).count(), 1, "{said}");
        assert_ne!(dark, fair);
        for stream in ["never", "always"] {
            if stream == "always" && name == "pictures" {
                continue;
            }
            let (said, loss) =
                train(&format!("--data {name} --white 1 --stream {stream} --out white"));
            assert!(!said.contains("largest value"), "{said}");
            assert_eq!(loss, fair, "{name} {stream}");
        }
        assert!(
            !train(&format!("--data {name} --scale min-max --out m")).0.contains("largest value")
        );
        for out in ["dark", "white", "m"] {
            fs::remove_dir_all(scratch.path(out)).unwrap();
        }
    }
    // Scores read the bytes as training did, and other files by an option of their own.
    train("--data u.npy --white 1 --out white");
    let score = |line: &str| {
        let output = scratch.run(&format!("score --model white/model.safetensors {line}"));
        assert!(output.status.success(), "{line}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (expected, said) = score("--data f.npy");
    for line in ["--data u.npy", "--data u.idx", "--data pictures", "--data full.npy --white 255"] {
        assert_eq!(score(line).0, expected, "{line}");
    }
    assert!(!said.contains("largest value"), "{said}");
    let message = scratch.fails(1, "score --model white/model.safetensors --data full.npy");
    assert!(message.contains("found 255; expected values in [0, 1]"), "{message}");
    let text = scratch.succeeds("inspect white/model.safetensors");
    assert!(text.contains("values 0 to 1 read as 0 to 1"), "{text}");
    // A model that was trained on floats warns about bytes.
    let output = scratch.run("score --model f/model.safetensors --data u.npy");
    assert!(String::from_utf8(output.stderr).unwrap().contains(&warning("u.npy")));

    fs::write(scratch.path("t.csv"), "a,b\n1,2\n3,4\n").unwrap();
    for (line, part) in [
        ("--data f.npy --white 1", "--white applies only to bytes (uint8) and images; f.npy"),
        ("--data t.csv --white 1", "--white applies only to bytes (uint8) and images; t.csv"),
        ("--data u.npy --white 256", "--white 256: u.npy has 8 bits per value, 0 to 255"),
        ("--data u.npy --white 0", "'0' for '--white <VALUE>'"),
        ("--white 1", "--white requires --data"),
    ] {
        let message = scratch.fails(2, &format!("train {line} --out new"));
        assert!(message.contains(part), "{line}: {message}");
    }
}
