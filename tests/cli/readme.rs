//! Runs the commands of the README's anomaly detection example.

use crate::scratch::Scratch;
use std::fs;
use std::path::Path;

/// Returns the commands of the first fenced block below a heading, one line each.
fn commands(readme: &str, heading: &str) -> Vec<String> {
    let (_, below) = readme.split_once(heading).expect("the heading");
    let (_, block) = below.split_once("```sh\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");
    block.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

#[test]
fn anomaly_example_of_the_readme_flags_rows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new("readme");
    fs::create_dir_all(scratch.path("tests/data")).unwrap();
    for part in ["train", "test"] {
        let name = format!("tests/data/breast-cancer-{part}.csv");
        fs::copy(root.join(&name), scratch.path(&name)).unwrap();
    }
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let commands = commands(&readme, "## Anomaly detection on a CSV");
    assert_eq!(commands.len(), 3, "{commands:?}");
    let said: Vec<String> = commands
        .iter()
        .map(|command| {
            let output = scratch.run(command.strip_prefix("elbo ").expect("a command of elbo"));
            assert!(output.status.success(), "{command}");
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        })
        .collect();
    assert!(said[1].contains(" of 342 rows flagged, above "), "{}", said[1]);
    assert!(said[2].starts_with("342 rows, 199 of class malignant"), "{}", said[2]);
    // benches/peers/tables.py measured the same options and seed.
    let json = fs::read_to_string(root.join("tests/data/anomaly-areas.json")).unwrap();
    let tables: serde_json::Value = serde_json::from_str(&json).unwrap();
    let area = tables["elbo, --preset anomaly"]["breast-cancer"][0].as_f64().unwrap();
    assert!(said[2].contains(&format!("{area:.4}")), "{area} in {}", said[2]);

    let table = fs::read_to_string(scratch.path("scores.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 342);
    assert_eq!(rows[0].join(" "), "row reconstruction kl negative_elbo flagged label");
    let share = |label: &str| {
        let flags: Vec<f64> =
            rows.iter().filter(|row| row[5] == label).map(|row| row[4].parse().unwrap()).collect();
        flags.iter().sum::<f64>() / flags.len() as f64
    };
    // Few ordinary rows exceed the 0.99 quantile of the training rows; many anomalies do.
    let (ordinary, strange) = (share("benign"), share("malignant"));
    assert!(ordinary < 0.05 && strange > 3.0 * ordinary, "{ordinary} {strange}");
    assert!(scratch.path("roc.png").exists());
}
