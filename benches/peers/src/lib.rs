//! Arguments, clock and JSON output shared by the Rust programs.

#![deny(missing_docs)]

pub mod networks;

use serde_json::json;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_millis(150);
const REPETITION: Duration = Duration::from_millis(30);
const REPETITIONS: usize = 15;

/// Program under measurement, called as `PROGRAM --threads N CASE …`.
pub struct Peer {
    name: &'static str,
    version: String,
    /// Number of threads to use.
    pub threads: usize,
    cases: Vec<String>,
}

impl Peer {
    /// Parses the command line for the peer `name`. Its version is that of the crate `package` in the
    /// lock file.
    #[must_use]
    pub fn from_args(name: &'static str, package: &str) -> Self {
        let mut arguments = std::env::args().skip(1);
        assert_eq!(arguments.next().as_deref(), Some("--threads"), "usage: --threads N CASE …");
        let threads = arguments.next().and_then(|n| n.parse().ok()).expect("a number of threads");
        let version = locked_version(package);
        Self { name, version, threads, cases: arguments.collect() }
    }

    /// Returns another peer of the same program, with the same arguments.
    #[must_use]
    pub fn and(&self, name: &'static str, package: &str) -> Self {
        let (threads, cases) = (self.threads, self.cases.clone());
        Self { name, version: locked_version(package), threads, cases }
    }

    /// Returns true if `case` is to be measured.
    #[must_use]
    pub fn wants(&self, case: &str) -> bool {
        self.cases.iter().any(|c| c == case)
    }

    /// Prints the best and the median time of one call of `work` over the repetitions, each of which
    /// makes as many calls as fill it.
    pub fn time(&self, case: &str, shape: &str, batch: usize, mut work: impl FnMut()) {
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed() < WARM_UP || calls < 5 {
            work();
            calls += 1;
        }
        let call = start.elapsed() / calls;
        let calls = REPETITION.div_duration_f64(call).ceil().max(1.0) as u32;
        let mut times: Vec<f64> = (0..REPETITIONS)
            .map(|_| {
                let start = Instant::now();
                (0..calls).for_each(|_| work());
                start.elapsed().as_secs_f64() * 1e3 / f64::from(calls)
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let line = json!({
            "peer": self.name, "version": self.version, "case": case, "shape": shape,
            "batch": batch, "threads": self.threads,
            "milliseconds": times[0], "median": times[REPETITIONS / 2],
        });
        println!("{line}");
    }
}

fn locked_version(package: &str) -> String {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock").split_once(&entry).expect("a locked package");
    rest.split('"').next().expect("a version").to_string()
}

/// Returns pseudorandom numbers in [0, 1), the same in every run.
#[must_use]
pub fn uniform(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(next).collect()
}

/// Returns zeros and ones, a fifth of them ones.
#[must_use]
pub fn binary(count: usize, seed: u64) -> Vec<f32> {
    uniform(count, seed).into_iter().map(|u| f32::from(u8::from(u < 0.2))).collect()
}
