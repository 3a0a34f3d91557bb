//! Elementary functions of the platform's C library are not used where their bits would matter.
//!
//! `f32::exp`, `f64::cos`, `f64::powf` and their kin give other last bits on another C library or
//! processor. Weights, losses and logged numbers are computed with the functions of `math` instead;
//! only square roots, which IEEE 754 rounds exactly, come from the standard library.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

const FUNCTIONS: [&str; 28] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "exp",
    "exp2", "exp_m1", "gamma", "hypot", "ln", "ln_1p", "ln_gamma", "log", "log10", "log2", "powf",
    "powi", "sin", "sin_cos", "sinh", "tan", "tanh",
];

/// Files and directories of the tool that may use the platform's functions.
const ALLOWED: [(&str, &str); 4] = [
    ("/figure/", "draws: coordinates are rounded to pixels"),
    ("/plot/", "draws: coordinates are rounded to pixels"),
    ("/bench/", "checks a kernel against the platform before timing it"),
    ("/interpolate.rs", "spherical interpolation between two codes that a user chose"),
];

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The name in `mod name;`, whatever its visibility.
fn declared_module(line: &str) -> Option<&str> {
    let (_, name) = line.trim_start().split_once("mod ")?;
    name.strip_suffix(';')
}

/// Splits a file into its lines outside of test modules, and the test modules in files of their own.
fn without_tests(text: &str) -> (Vec<(usize, &str)>, Vec<&str>) {
    let lines: Vec<&str> = text.lines().collect();
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    for (number, &line) in lines.iter().enumerate() {
        if line == "#[cfg(test)]" {
            let next = lines.get(number + 1).copied().unwrap_or_default();
            if let Some(module) = declared_module(next) {
                modules.push(module);
            } else if next.contains("mod ") {
                break; // a test module in place, always the last item of a file
            }
        }
        kept.push((number + 1, line));
    }
    (kept, modules)
}

/// The called function, if the line calls one of [`FUNCTIONS`] as a method or by its path.
fn platform_call(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    FUNCTIONS.into_iter().find(|name| {
        code.contains(&format!(".{name}("))
            || ["f32", "f64"].iter().any(|float| code.contains(&format!("{float}::{name}")))
    })
}

#[test]
fn numbers_do_not_depend_on_platform_functions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect();

    let mut test_modules = HashSet::new();
    for (path, text) in &texts {
        let stem = path.file_stem().unwrap();
        let is_root = ["mod", "lib", "main"].iter().any(|root| stem == *root);
        let directory =
            if is_root { path.parent().unwrap().into() } else { path.with_extension("") };
        for module in without_tests(text).1 {
            test_modules.insert(directory.join(module));
        }
    }

    let mut calls = Vec::new();
    for (path, text) in &texts {
        let shown = path.to_str().unwrap().replace('\\', "/");
        let is_test = path.ancestors().any(|path| test_modules.contains(&path.with_extension("")));
        let is_allowed = ALLOWED.iter().any(|(part, _)| shown.contains(part));
        if is_test || is_allowed {
            continue;
        }
        for (number, line) in without_tests(text).0 {
            if let Some(function) = platform_call(line) {
                calls
                    .push(format!("{shown}:{number}: `{function}`; use elbo's own (math::scalar)"));
            }
        }
    }
    assert!(calls.is_empty(), "platform functions:\n{}", calls.join("\n"));
}

#[test]
fn finds_calls_and_skips_comments_and_tests() {
    assert_eq!(platform_call("let y = x.exp();"), Some("exp"));
    assert_eq!(platform_call("values.map(f64::ln)"), Some("ln"));
    assert_eq!(platform_call("let y = scalar::exp(x); // not x.exp()"), None);
    assert_eq!(platform_call("let y = x.sqrt().expect(\"a root\");"), None);
    let text = "a\n#[cfg(test)]\nmod reference;\nb\n#[cfg(test)]\nmod tests {\n    x.exp()\n}\n";
    let (kept, modules) = without_tests(text);
    assert_eq!(kept.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(modules, ["reference"]);
}
