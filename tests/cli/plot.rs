//! `elbo plot`: every figure in both formats, its numbers, and its errors.

use crate::scratch::{SHORT, Scratch, last_line};
use std::fs;

/// Draws a figure in both formats and returns what was printed with the first.
fn drawn(scratch: &Scratch, line: &str) -> String {
    let printed = scratch.succeeds(&format!("{line} --out x.png"));
    assert_eq!(scratch.succeeds(&format!("{line} --out x.svg")), printed);
    image::open(scratch.path("x.png")).unwrap();
    let svg = fs::read_to_string(scratch.path("x.svg")).unwrap();
    assert!(
        svg.starts_with("<svg width=\"") && svg.contains("</svg>\n<!-- elbo, CRC-32 "),
        "{line}"
    );
    assert!(svg.contains("font-family=\"DejaVu Sans, sans-serif\""), "{line}");
    printed
}

fn svg(scratch: &Scratch) -> String {
    fs::read_to_string(scratch.path("x.svg")).unwrap()
}

#[test]
fn draws_the_history_of_a_run_or_a_table() {
    let scratch = Scratch::with_labels("plot-history");
    scratch.succeeds(&format!(
        "train --data train.idx --validation test.idx {SHORT} --anneal linear --anneal-over 2 --out m"
    ));
    assert_eq!(drawn(&scratch, "plot history --run m"), "");
    let by_run = svg(&scratch);
    assert!(by_run.contains("Weight of the KL divergence") && !by_run.contains("Learning rate"));
    drawn(&scratch, "plot history --history m/history.csv");
    let by_table = svg(&scratch);
    assert!(
        by_table.contains(">\nLoss\n") && by_run.contains(">\nLoss (reconstruction + β × KL)\n")
    );
    drawn(&scratch, "plot history --model m/model.safetensors");
    assert_eq!(svg(&scratch), by_run);

    let whole = fs::read_to_string(scratch.path("m/history.csv")).unwrap();
    fs::write(scratch.path("header.csv"), whole.lines().next().unwrap()).unwrap();
    fs::write(scratch.path("word.csv"), whole.replace("\n2,", "\ntwo,")).unwrap();
    // Other line breaks, and empty lines.
    let blank = whole.replace('\n', "\r\n").replace("\r\n2,", "\r\n\r\n\r\ntwo,");
    fs::write(scratch.path("blank.csv"), blank).unwrap();
    fs::write(scratch.path("other.csv"), "a,b\n1,2\n").unwrap();
    for (code, from, part) in [
        (1, "--history header.csv", "header.csv: no epochs; expected a history.csv"),
        (1, "--history word.csv", "word.csv: line 3: "),
        (1, "--history blank.csv", "blank.csv: line 5: "),
        (1, "--history other.csv", "missing field `epoch`"),
        (1, "--history none.csv", "none.csv: cannot read: No such file"),
        (1, "--run nowhere", "nowhere/history.csv: cannot read: No such file"),
        (2, "", "--run"),
        (2, "--run m --history m/history.csv", "cannot be used with"),
    ] {
        let message = scratch.fails(code, &format!("plot history {from} --out new.png"));
        assert!(message.contains(part), "{from}: {message}");
    }
    let message = scratch.fails(2, "plot history --run m --out x.pdf");
    assert!(message.contains("expected a file name that ends in .png or .svg"), "{message}");
}

#[test]
fn draws_codes_with_and_without_labels() {
    let scratch = Scratch::with_labels("plot-latent");
    let train = "train --data train.idx --validation test.idx --hidden 8 --epochs 2 --batch 32 --quiet --json";
    scratch.succeeds(&format!("{train} --latent 3 --out m"));
    let on = "--model m/model.safetensors --data test.idx";
    drawn(&scratch, &format!("plot latent {on}"));
    assert!(svg(&scratch).contains("Latent means of 40 rows"));
    drawn(&scratch, &format!("plot latent {on} --labels test.labels --dimensions 2,0"));
    let map = svg(&scratch);
    assert!(
        map.contains("μ of dimension 2 (variance") && map.contains("μ of dimension 0 (variance")
    );
    assert_eq!(
        map.matches("<circle").count(),
        40 + 6,
        "a point for each row, a mark for each class"
    );
    for logarithmic in ["", "--log"] {
        drawn(&scratch, &format!("plot kl-per-dimension {on} {logarithmic}"));
        assert!(svg(&scratch).contains("KL of each latent dimension"));
    }

    // A single dimension, and a model that requires labels.
    let labeled = "--conditional --labels train.labels --validation-labels test.labels";
    scratch.succeeds(&format!("{train} {labeled} --latent 1 --out c"));
    let on = "--model c/model.safetensors --data test.idx";
    drawn(&scratch, &format!("plot latent {on} --labels test.labels"));
    assert!(svg(&scratch).contains("σ of dimension 0"));
    drawn(&scratch, &format!("plot kl-per-dimension {on} --labels test.labels --by-index"));

    let message = scratch.fails(2, &format!("plot latent {on} --out new.png"));
    assert!(message.contains("--labels: missing"), "{message}");
    let on = "--model m/model.safetensors --data test.idx";
    for (code, line, part) in [
        (2, "latent --dimensions 0,3", "--dimensions: 3: the model has 3 latent dimensions"),
        (2, "latent --dimensions 1", "expected two different dimensions"),
        (1, "latent --labels train.labels", "train.labels: the file has 150 labels; expected 40"),
    ] {
        let message = scratch.fails(code, &format!("plot {line} {on} --out new.png"));
        assert!(message.contains(part), "{line}: {message}");
    }
}

#[test]
fn roc_draws_curves_and_prints_areas() {
    let scratch = Scratch::new("plot-roc");
    // By hand: AUC 3/4, average precision 1/2 + 1/2·2/3.
    let table = "row,negative_elbo,kl,label\n0,0.1,1,benign\n1,0.4,1,benign\n2,0.35,1,malignant\n\
                 3,0.8,1,malignant\n";
    fs::write(scratch.path("scores.csv"), table).unwrap();
    fs::write(scratch.path("labels.idx"), [0, 0, 8, 1, 0, 0, 0, 4, 0, 0, 1, 1]).unwrap();
    let roc = "plot roc --scores scores.csv --positive malignant";
    let printed = drawn(&scratch, roc);
    assert!(printed.contains("4 rows, 2 of class malignant"), "{printed}");
    assert!(printed.contains("0.7500") && printed.contains("0.8333"), "{printed}");
    let figure = svg(&scratch);
    assert!(figure.contains("area 0.7500") && figure.contains("average precision 0.8333"));

    let several = format!("{roc} --score-column kl --score-column negative_elbo --json");
    let report = last_line(&drawn(&scratch, &several));
    assert_eq!((report["rows"].as_u64(), report["positives"].as_u64()), (Some(4), Some(2)));
    let [kl, elbo] = &report["scores"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((kl["column"].as_str(), kl["roc_auc"].as_f64()), (Some("kl"), Some(0.5)));
    assert_eq!(kl["average_precision"].as_f64(), Some(0.5));
    assert_eq!(elbo["roc_auc"].as_f64(), Some(0.75));
    // 1 is the positive class of 0 and 1.
    let by_file = drawn(&scratch, "plot roc --scores scores.csv --labels labels.idx --json");
    assert_eq!(last_line(&by_file)["scores"][0]["roc_auc"].as_f64(), Some(0.75));

    // Scores or labels from standard input.
    for (file, line) in [
        ("scores.csv", "plot roc --scores - --positive malignant --out in.svg"),
        ("labels.idx", "plot roc --scores scores.csv --labels - --out in.svg"),
    ] {
        let input = fs::File::open(scratch.path(file)).unwrap();
        let output = scratch.command(line).stdin(input).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("0.7500"), "{line}: {text}");
    }
    fs::write(scratch.path("words.csv"), "a b c").unwrap();
    let input = fs::File::open(scratch.path("words.csv")).unwrap();
    let line = "plot roc --scores - --positive 1 --out in.svg";
    let output = scratch.command(line).stdin(input).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: standard input: "), "{text}");

    fs::write(scratch.path("nan.csv"), table.replace("0.35", "NaN")).unwrap();
    fs::write(scratch.path("empty.csv"), "negative_elbo,label\n").unwrap();
    let blank = "negative_elbo;label\r\n1.5;a\r\n\r\n\r\nx;b\r\n";
    fs::write(scratch.path("blank.csv"), blank).unwrap();
    fs::write(scratch.path("short.csv"), "negative_elbo,label\n1,a\n2\n").unwrap();
    fs::write(scratch.path("one.csv"), "negative_elbo,label\n1,a\n2,a\n").unwrap();
    fs::write(scratch.path("few.idx"), [0, 0, 8, 1, 0, 0, 0, 3, 0, 0, 1]).unwrap();
    for (code, line, part) in [
        (
            2,
            "--scores scores.csv",
            "--positive is missing; name the class that high scores indicate, one of benign, malignant",
        ),
        (2, "--scores scores.csv --positive 1", "--positive 1: no row has this label"),
        (
            2,
            "--scores scores.csv --score-column x",
            "scores.csv: --score-column: no column 'x'; the file has row, negative_elbo, kl, label",
        ),
        (2, "--scores scores.csv --label-column x", "scores.csv: --label-column: no column 'x'"),
        (
            1,
            "--scores nan.csv --positive benign",
            "nan.csv: line 4, column 'negative_elbo': expected a number, found 'NaN'",
        ),
        (1, "--scores empty.csv --positive 1", "empty.csv: the table has a header but no rows"),
        (1, "--scores short.csv --positive a", "short.csv: line 3 has 1 column; expected 2"),
        (
            1,
            "--scores blank.csv --positive a",
            "blank.csv: line 5, column 'negative_elbo': expected a number, found 'x'",
        ),
        (1, "--scores one.csv --positive a", "one.csv: all 2 rows have the label 'a'"),
        (1, "--scores scores.csv --labels few.idx", "few.idx: the file has 3 labels; expected 4"),
        (1, "--scores none.csv", "none.csv: cannot read: No such file"),
        (2, "--scores scores.csv --labels few.idx --label-column label", "cannot be used with"),
    ] {
        let message = scratch.fails(code, &format!("plot roc {line} --out new.png"));
        assert!(message.contains(part), "{line}: {message}");
    }
}

#[test]
fn draws_the_divergence_and_prints_the_table() {
    let scratch = Scratch::new("plot-kl");
    let table = drawn(&scratch, "plot kl");
    for number in ["0.00000", "1.12500", "0.80685", "1.80759"] {
        assert!(table.contains(number) && svg(&scratch).contains(number), "{table}");
    }
    // The same bits on any instruction set.
    let json = drawn(&scratch, "plot kl --json --at 0,0.5 --at -1,1");
    assert_eq!(
        scratch.succeeds("plot kl --json --at 0,0.5 --at -1,1 --simd scalar --out s.svg"),
        json
    );
    assert_eq!(fs::read_to_string(scratch.path("s.svg")).unwrap(), svg(&scratch));
    let rows = last_line(&json);
    let last = &rows.as_array().unwrap()[5];
    assert_eq!(
        [&last["mu"], &last["sigma"], &last["kl"]].map(|n| n.as_f64()),
        [-1.0, 1.0, 0.5].map(Some)
    );
    let half = rows[4]["kl"].as_f64().unwrap();
    assert!((half - (2.0_f64.ln() - 0.375)).abs() < 1e-6, "{half}");
    let message = scratch.fails(2, "plot kl --at 1,0 --out new.png");
    assert!(message.contains("expected a mean and a standard deviation above 0"), "{message}");
    let message = scratch.fails(1, "plot kl --out missing/new.svg");
    assert!(message.starts_with("missing/new.svg: cannot write: "), "{message}");
}
