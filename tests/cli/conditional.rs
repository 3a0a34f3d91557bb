//! Conditional models and their labels.

use crate::scratch::{SHORT, Scratch, read_array};
use ndarray::{Array1, Axis};
use ndarray_npy::write_npy;

#[test]
fn conditional_model_requires_labels_and_draws_the_given_class() {
    let scratch = Scratch::with_labels("conditional");
    let train = "train --data train.idx --hidden 32 --latent 2 --epochs 30 --batch 16 --lr 0.01 --quiet \
                 --json --conditional --labels train.labels";
    scratch.succeeds(&format!(
        "{train} --validation test.idx --validation-labels test.labels --out m"
    ));
    let model = "--model m/model.safetensors";
    let on = format!("{model} --data test.idx --labels test.labels");

    // In the 6×5 images of class k, row k and column k are bright.
    scratch.succeeds(&format!("sample {model} --label 3 --count 20 --out s.npy"));
    let samples = read_array(&scratch.path("s.npy"));
    let mean = samples.mean_axis(Axis(0)).unwrap();
    let row = |y: usize| (0..5).map(|x| mean[5 * y + x]).sum::<f32>();
    assert!((0..6).all(|y| y == 3 || row(3) > row(y) + 1.0), "{mean}");
    // Without a label, the classes take turns, with the same codes.
    scratch.succeeds(&format!("sample {model} --count 20 --out all.npy"));
    let all = read_array(&scratch.path("all.npy"));
    assert_eq!(all.row(3), samples.row(3));
    assert_eq!(all.row(15), samples.row(15));
    assert_ne!(all.row(4), samples.row(4));
    scratch.succeeds(&format!("sample {model} --count 20 --size 5x6 --out all.png"));
    let picture = image::open(scratch.path("all.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (6 * 42 + 2, 4 * 50 + 2));
    let picture = image::open(scratch.path("m/samples.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (6 * 42 + 2, 10 * 50 + 2));

    scratch.succeeds(&format!("eval {on} --json"));
    scratch.succeeds(&format!("reconstruct {on} --out r.npy"));
    scratch.succeeds(&format!("reconstruct {on} --out r.png"));
    scratch.succeeds(&format!("encode {on} --out e.npy"));
    assert_eq!(read_array(&scratch.path("r.npy")).dim(), (40, 30));
    // The class is an input of the decoder: other labels give other images.
    let wrong: Vec<i64> = (0..40).map(|i| (i * 7 + 3) % 6).collect();
    write_npy(scratch.path("wrong.npy"), &Array1::from(wrong)).unwrap();
    scratch
        .succeeds(&format!("reconstruct {model} --data test.idx --labels wrong.npy --out w.npy"));
    assert_ne!(read_array(&scratch.path("w.npy")), read_array(&scratch.path("r.npy")));

    write_npy(scratch.path("few.npy"), &Array1::<u8>::zeros(39)).unwrap();
    write_npy(scratch.path("high.npy"), &Array1::<u8>::from_elem(40, 6)).unwrap();
    for (code, line, part) in [
        (
            2,
            format!("sample {model} --label 6 --out x.npy"),
            "--label 6: the model has the classes 0 to 5",
        ),
        (
            2,
            format!("sample {model} --label -1 --out x.npy"),
            "--label -1: the model has the classes 0 to 5",
        ),
        (2, format!("eval {model} --data test.idx"), "--labels: missing; the model is conditional"),
        (
            2,
            format!("encode {model} --data test.idx --out x.npy"),
            "requires the label of each row",
        ),
        (
            1,
            format!("eval {model} --data test.idx --labels few.npy"),
            "few.npy: the file has 39 labels; expected 40, one per row of test.idx",
        ),
        (
            1,
            format!("eval {model} --data test.idx --labels high.npy"),
            "high.npy: row 0: the model does not know the class '6'; it has 6 classes, numbered from 0",
        ),
        (
            1,
            format!("eval {model} --data test.idx --labels test.idx"),
            "expected labels, which have 1 (is this a file of images?)",
        ),
        (
            1,
            format!("eval {model} --data test.idx --labels none"),
            "none: cannot read: No such file",
        ),
        (
            1,
            "train --data train.idx --labels test.labels --out x".into(),
            "40 labels; expected 150",
        ),
    ] {
        let message = scratch.fails(code, &line);
        assert!(message.contains(part), "elbo {line}: {message}");
    }

    scratch.succeeds(&format!("train --data train.idx {SHORT} --out plain"));
    let model = "--model plain/model.safetensors";
    let message = scratch.fails(2, &format!("sample {model} --label 3 --out x.npy"));
    assert!(message.contains("--label: the model is not conditional"), "{message}");
    // Without --conditional, labels only name rows in figures: the model is the same.
    scratch
        .succeeds(&format!("train --data train.idx --labels train.labels {SHORT} --out labeled"));
    let read = |out: &str| std::fs::read(scratch.path(out).join("model.safetensors")).unwrap();
    assert!(read("plain") == read("labeled"));
    let plain = scratch.succeeds(&format!("eval {model} --data test.idx"));
    let labeled = scratch.succeeds(&format!("eval {model} --data test.idx --labels test.labels"));
    assert_eq!(plain, labeled);
}

#[test]
fn embedded_sample_has_labels() {
    let scratch = Scratch::new("digits");
    let options = "train --conditional --epochs 1 --hidden 8 --latent 2";
    let stdout = scratch.says(&format!("{options} --out m"));
    assert!(stdout.starts_with("784-8-2-8-784 (") && stdout.contains(", 10 classes)"), "{stdout}");
    let picture = image::open(scratch.path("m/samples.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (10 * 58 + 2, 6 * 58 + 2));
    scratch.succeeds("sample --model m/model.safetensors --label 7 --count 9 --out sevens.png");
}
