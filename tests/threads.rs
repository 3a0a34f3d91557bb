//! Threads end with the last owner of their [`Compute`], whatever happened before.
//!
//! A file with a single test: no other starts threads in the same process.
#![cfg(target_os = "linux")]

use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use ndarray::Array2;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROWS: usize = 1024;
const FEATURES: usize = 600;

/// Names of this process's threads that belong to a team, in order.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end between the two.
        let name = fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        if name.starts_with("elbo-") {
            names.push(name.trim_end().to_owned());
        }
    }
    names.sort();
    names
}

/// Waits until no thread of a team is left: the system lists one for a moment after it has been joined.
fn expect_none(context: &str) {
    let start = Instant::now();
    while !names().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "{context}: {:?}", names());
        sleep(Duration::from_millis(1));
    }
}

/// Rows of zeros; reading one of them panics.
struct Lost(usize);

impl Dataset for Lost {
    fn row_count(&self) -> usize {
        ROWS
    }
    fn features(&self) -> usize {
        FEATURES
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row != self.0, "a row is lost");
        out.fill(0.0);
    }
}

#[test]
fn threads_end_with_the_last_owner_of_their_compute() {
    let vae = || Vae::new(Config::builder(FEATURES, 4).hidden(&[64]).build().unwrap(), 1);
    let data = Array2::<f32>::zeros((ROWS, FEATURES));
    let options = Options { batch: 256, ..Options::default() };
    expect_none("at the start");
    for threads in [2, 3, 8] {
        let expected: Vec<_> = (1..threads).map(|index| format!("elbo-{index}")).collect();
        let start = || {
            let compute = Compute::new(InstructionSet::detect(), threads).unwrap();
            assert_eq!(names(), expected);
            let trainer = Trainer::new(vae(), options.clone(), compute.clone()).unwrap();
            (compute, trainer)
        };

        // At once, before they have worked.
        drop(start());
        expect_none("unused");

        // In the middle of an epoch, between two steps.
        let (compute, mut trainer) = start();
        for _ in 0..3 {
            trainer.step(&data).unwrap();
        }
        assert_eq!((trainer.epochs(), trainer.steps()), (0, 3));
        drop(trainer);
        // The other owner can use them still.
        assert_eq!(names(), expected);
        vae().evaluate(&compute, &data, &EvaluationOptions::default()).unwrap();
        drop(compute);
        expect_none("between two steps");

        // In the middle of an epoch, by a panic of the caller, which unwinds through all owners.
        let interrupted = || {
            let (_compute, mut trainer) = start();
            trainer.epoch(&data, |step| assert!(step.step < 2, "enough")).unwrap();
        };
        catch_unwind(AssertUnwindSafe(interrupted)).unwrap_err();
        expect_none("a panic of the caller");

        // In the middle of a step, by a panic of the data set.
        for row in [0, ROWS - 1] {
            let interrupted = || {
                let (_compute, mut trainer) = start();
                trainer.epoch(&Lost(row), |_| ()).unwrap();
            };
            catch_unwind(AssertUnwindSafe(interrupted)).unwrap_err();
            expect_none("a panic of the data set");
        }

        // On another thread than the one that started them, while that one uses them.
        let (compute, mut trainer) = start();
        let rows = data.clone();
        let other = std::thread::spawn(move || trainer.step(&rows).map(|_| ()));
        vae().evaluate(&compute, &data, &EvaluationOptions::default()).unwrap();
        drop(compute);
        other.join().unwrap().unwrap();
        expect_none("on another thread");
    }
}
