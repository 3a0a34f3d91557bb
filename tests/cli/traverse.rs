//! `elbo traverse` and `elbo interpolate`: outputs in each format, and errors.

use crate::scratch::{Scratch, read_array};
use ndarray::{Array2, Axis};
use ndarray_npy::write_npy;
use std::fs;

/// Runs a command with every format. Returns the array, the lines of the table and the SVG.
fn written(scratch: &Scratch, line: &str) -> (Array2<f32>, Vec<String>, String) {
    for format in ["png", "svg", "npy", "csv"] {
        assert_eq!(scratch.succeeds(&format!("{line} --overwrite --out x.{format}")), "");
    }
    let svg = fs::read_to_string(scratch.path("x.svg")).unwrap();
    assert!(
        svg.starts_with("<svg width=\"") && svg.contains("</svg>\n<!-- elbo, CRC-32 "),
        "{line}"
    );
    image::open(scratch.path("x.png")).unwrap();
    let table = fs::read_to_string(scratch.path("x.csv")).unwrap();
    let array = read_array(&scratch.path("x.npy"));
    (array, table.lines().map(str::to_owned).collect(), svg)
}

fn cells(line: &str) -> Vec<f32> {
    line.split(',').map(|cell| cell.parse().unwrap()).collect()
}

#[test]
fn traversal_varies_one_dimension_per_row() {
    let scratch = Scratch::with_model("traverse");
    let model = "--model model/model.safetensors";
    let (array, table, svg) = written(&scratch, &format!("traverse {model} --steps 5"));
    assert_eq!((array.dim(), table.len()), ((3 * 5, 30), 16));
    assert!(table[0].starts_with("dimension,value,x0,x1,"), "{}", table[0]);
    assert!(table[1].starts_with("0,-3,") && table[15].starts_with("2,3,"), "{}", table[15]);
    // The table equals the array, and the middle of each strip is the prior mean.
    for (row, line) in array.rows().into_iter().zip(&table[1..]) {
        assert_eq!(cells(line)[2..], row.to_vec());
    }
    assert_eq!(array.row(2), array.row(7));
    assert_ne!(array.row(1), array.row(6));
    assert!(svg.contains("Latent traversals around the mean of the prior"));
    assert!(svg.contains("dimension 2") && svg.contains(">\n+3\n"), "rows and columns are named");
    assert!(svg.contains("<image x=") && svg.contains("data:image/png;base64,iVBOR"));

    // Around a row, the middle is its own code, which decodes to its reconstruction.
    let around = format!("traverse {model} --data test.idx --row 3 --steps 3 --range 0.5");
    let (array, _, svg) = written(&scratch, &format!("{around} --dimensions 2,0"));
    assert_eq!(array.dim(), (6, 30));
    scratch.succeeds(&format!("reconstruct {model} --data test.idx --out r.npy"));
    let rebuilt = read_array(&scratch.path("r.npy"));
    assert_eq!(array.row(1), rebuilt.row(3));
    assert_eq!(array.row(4), rebuilt.row(3));
    assert!(svg.contains("around row 3 of test.idx") && svg.contains("dimension 0"));
    assert!(!svg.contains("dimension 1"));

    for (code, line, part) in [
        (
            2,
            "--dimensions 0,3",
            "--dimensions: 3: the model has 3 latent dimensions, numbered from 0",
        ),
        (2, "--dimensions most", "expected all, active, or numbers"),
        (2, "--data test.idx --row 40", "row 40: test.idx has 40 rows, numbered from 0"),
        (2, "--row 1", "--data"),
        (2, "--range 0", "expected a number above 0"),
        (2, "--label 1", "--label: the model is not conditional"),
        (2, "--steps 0", "expected a whole number from 1 to 1000"),
        (2, "--size 5x5", "--size 5x5: expected width"),
        (1, "--data none.idx", "none.idx: cannot read"),
    ] {
        let message = scratch.fails(code, &format!("traverse {model} {line} --out new.png"));
        assert!(message.contains(part), "{line}: {message}");
    }
    let message = scratch.fails(2, &format!("traverse {model} --out x.pdf"));
    assert!(
        message.contains("expected a file name that ends in .png, .svg, .npy or .csv"),
        "{message}"
    );
}

#[test]
fn reads_active_dimensions_from_the_model_file() {
    let scratch = Scratch::with_labels("traverse-active");
    let train = "train --data train.idx --validation test.idx --hidden 16 --latent 4 --batch 16 --lr 0.01 --quiet";
    scratch.succeeds(&format!("{train} --epochs 20 --out m"));
    let line = "traverse --model m/model.safetensors --dimensions active --steps 2 --overwrite --out t.csv";
    scratch.succeeds(line);
    let table = fs::read_to_string(scratch.path("t.csv")).unwrap();
    let report = scratch.succeeds("eval --model m/model.safetensors --data test.idx --json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let active = report["active_units"].as_u64().unwrap() as usize;
    assert!(active > 0);
    assert_eq!(table.lines().count(), 1 + 2 * active);
    // With this weight, every dimension collapses.
    scratch.succeeds(&format!("{train} --epochs 3 --beta 1000 --out c"));
    let message = scratch.fails(1, &line.replace("m/model", "c/model"));
    assert!(message.contains("the posterior has collapsed"), "{message}");
}

#[test]
fn table_is_drawn_as_lines_and_written_in_its_units() {
    let scratch = Scratch::new("traverse-table");
    let rows: Vec<String> = (0..120)
        .map(|i| {
            let t = (i as f64 * 0.7).sin();
            format!("{},{},{}", 1000.0 + 50.0 * t, 3.0 - t, 0.2 * (i as f64).cos())
        })
        .collect();
    fs::write(scratch.path("t.csv"), format!("weight,size,noise\n{}\n", rows.join("\n"))).unwrap();
    scratch.succeeds(
        "train --data t.csv --scale standardize --likelihood gaussian --variance shared --hidden 8 \
         --latent 2 --epochs 30 --batch 16 --lr 0.01 --quiet --out m",
    );
    let model = "--model m/model.safetensors";
    let (array, table, svg) = written(&scratch, &format!("traverse {model} --steps 7"));
    assert_eq!(table[0], "dimension,value,weight,size,noise");
    assert!(array.column(0).iter().all(|weight| (700.0..1300.0).contains(weight)), "{array}");
    for name in ["weight", "size", "noise", "output (standard deviations)"] {
        assert!(svg.contains(&format!(">\n{name}\n")), "{name}");
    }
    assert!(!svg.contains("<image"));
    // As images, with --size.
    scratch.succeeds(&format!("traverse {model} --size 3x1 --out i.svg"));
    assert!(fs::read_to_string(scratch.path("i.svg")).unwrap().contains("<image"));

    // Values beyond the range of the training rows.
    scratch.succeeds(
        "train --data t.csv --scale min-max --hidden 8 --latent 2 --epochs 1 --quiet --out r",
    );
    fs::write(scratch.path("far.csv"), "weight,size,noise\n2000,3,0\n").unwrap();
    let around = "traverse --model r/model.safetensors --data far.csv --overwrite --out far.npy";
    let said = scratch.says(around);
    assert!(
        said.contains("far.csv: 1 row has values outside of the range of the training rows"),
        "{said}"
    );
    assert_eq!(scratch.says(&format!("{around} --clip-to-range")), "");

    let (array, table, _) =
        written(&scratch, &format!("interpolate {model} --data t.csv --rows 4,9,4 --steps 3"));
    assert_eq!(table[0], "from,to,part,weight,size,noise");
    assert_eq!((&table[1][..6], &table[6][..6]), ("4,9,0,", "9,4,1,"));
    // There and back.
    assert_eq!(array.row(0), array.row(5));
    assert_eq!(array.row(2), array.row(3));
}

#[test]
fn interpolates_from_row_to_row() {
    let scratch = Scratch::with_model("interpolate");
    let on = "--model model/model.safetensors --data test.idx";
    let (array, table, svg) =
        written(&scratch, &format!("interpolate {on} --rows 5,7,1 --steps 4"));
    assert_eq!((array.dim(), table.len()), ((8, 30), 9));
    scratch.succeeds(&format!("reconstruct {on} --out r.npy"));
    let rebuilt = read_array(&scratch.path("r.npy"));
    for (row, known) in [(0, 5), (3, 7), (4, 7), (7, 1)] {
        assert_eq!(array.row(row), rebuilt.row(known));
    }
    assert!(
        svg.contains(">\nrow 5 → 7\n")
            && svg.contains(">\nfrom\n")
            && svg.contains("straight lines")
    );
    let (arc, _, svg) =
        written(&scratch, &format!("interpolate {on} --rows 5,7,1 --steps 4 --spherical"));
    assert!(svg.contains("Along arcs"));
    // Another path between the same ends.
    assert_ne!(arc.row(1), array.row(1));
    for row in [0, 3, 4, 7] {
        let off = (&arc.row(row) - &array.row(row)).mapv(f32::abs).sum();
        assert!(off < 1e-3, "{row}: {off}");
    }

    for (line, part) in [
        ("--rows 5", "expected at least two rows"),
        ("--rows 5,40", "row 40: test.idx has 40 rows, numbered from 0"),
        ("--rows 5,6 --steps 1", "expected a whole number from 2 to 1000"),
        ("--rows 5,6 --label 0", "--label: the model is not conditional"),
    ] {
        let message = scratch.fails(2, &format!("interpolate {on} {line} --out new.png"));
        assert!(message.contains(part), "{line}: {message}");
    }
}

#[test]
fn conditional_model_decodes_the_class_of_the_row_or_the_given_one() {
    let scratch = Scratch::with_labels("traverse-conditional");
    let labeled = "--labels train.labels --validation-labels test.labels --conditional";
    scratch.succeeds(&format!(
        "train --data train.idx --validation test.idx {labeled} --hidden 32 --latent 2 --epochs 30 \
         --batch 16 --lr 0.01 --quiet --out m"
    ));
    let model = "--model m/model.safetensors";
    let message = scratch.fails(2, &format!("traverse {model} --out new.png"));
    assert!(
        message.contains("--label: missing; the model is conditional on 6 classes"),
        "{message}"
    );
    let (array, _, svg) = written(&scratch, &format!("traverse {model} --label 3"));
    assert!(svg.contains("class 3"));
    // In the 6×5 images of class k, row k and column k are bright.
    let mean = array.mean_axis(Axis(0)).unwrap();
    let row = |y: usize| (0..5).map(|x| mean[5 * y + x]).sum::<f32>();
    assert!((0..6).all(|y| y == 3 || row(3) > row(y) + 1.0), "{mean}");

    let on = format!("{model} --labels test.labels");
    let middle = format!("traverse {on} --data test.idx --row 2 --steps 1 --out t.npy");
    scratch.succeeds(&middle);
    scratch.succeeds(&format!("reconstruct {on} --data test.idx --out r.npy"));
    let rebuilt = read_array(&scratch.path("r.npy"));
    assert_eq!(read_array(&scratch.path("t.npy")).row(0), rebuilt.row(2));
    scratch.succeeds(&format!("interpolate {on} --data test.idx --rows 2,3 --out i.npy"));
    let way = read_array(&scratch.path("i.npy"));
    assert_eq!((way.row(0), way.row(9)), (rebuilt.row(2), rebuilt.row(3)));
    let message = scratch.fails(2, &format!("traverse {model} --data test.idx --out new.png"));
    assert!(message.contains("--labels: missing"), "{message}");
    let message = scratch.fails(2, &format!("traverse {model} --label 6 --out new.png"));
    assert!(message.contains("--label 6: the model has the classes 0 to 5"), "{message}");
}

#[test]
fn color_images_keep_their_channels() {
    let scratch = Scratch::new("traverse-color");
    // Red above, blue below, more or less bright.
    let rows = ndarray::Array4::from_shape_fn((80, 4, 3, 3), |(i, y, _, c)| {
        let bright = 0.3 + 0.7 * ((i * 13) % 17) as f32 / 16.0;
        if (y < 2 && c == 0) || (y >= 2 && c == 2) { bright } else { 0.0 }
    });
    write_npy(scratch.path("c.npy"), &rows).unwrap();
    scratch.succeeds(
        "train --data c.npy --hidden 16 --latent 2 --epochs 60 --batch 16 --lr 0.01 --quiet --out m",
    );
    let model = "--model m/model.safetensors";
    scratch.succeeds(&format!("traverse {model} --out t.png"));
    scratch.succeeds(&format!("sample {model} --count 4 --out s.png"));
    let picture = image::open(scratch.path("s.png")).unwrap();
    assert!(picture.color().has_color());
    let picture = picture.to_rgb8();
    // 4×3 pixels as squares of 8, 2 around and between.
    assert_eq!(picture.dimensions(), (2 * (3 * 8 + 2) + 2, 2 * (4 * 8 + 2) + 2));
    let [top, bottom] = [5, 5 + 24].map(|y| picture.get_pixel(5, y).0);
    assert!(top[0] > 40 + top[2] && bottom[2] > 40 + bottom[0], "{top:?} {bottom:?}");
    // Each pixel of an image is a whole square.
    let square: Vec<_> = (2..10).flat_map(|y| (2..10).map(move |x| (x, y))).collect();
    assert!(square.iter().all(|&(x, y)| picture.get_pixel(x, y).0 == picture.get_pixel(2, 2).0));
}
