//! Output of measurements, as lines of JSON or of a table.

use crate::failure::Result;
use crate::output::{say, say_json};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Record {
    pub case: &'static str,
    pub shape: String,
    /// Rows, if the case has any.
    pub batch: Option<usize>,
    pub threads: usize,
    pub simd: &'static str,
    /// The rate in the best repetition, in `unit`.
    pub value: f64,
    pub unit: &'static str,
    pub limit: Option<f64>,
    pub limit_unit: Option<&'static str>,
    /// `value / limit`.
    pub fraction: Option<f64>,
    /// The median rate of all repetitions, in `unit`.
    pub median: f64,
    /// Duration of a call in the best repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// Bandwidth of a case that measures memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gigabytes_per_second: Option<f64>,
    /// Microseconds of a cache line from one thread to another and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_after: Option<f64>,
}

/// The output format of records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecordFormat {
    Json,
    Table,
}

impl RecordFormat {
    pub fn header(self) -> Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Table => say(&line(
                [
                    "case",
                    "shape",
                    "batch",
                    "threads",
                    "best",
                    "median",
                    "",
                    "share",
                    "of",
                    "",
                    "round trip",
                    "time of a call",
                ]
                .map(str::to_owned),
            )),
        }
    }

    pub fn record(self, record: &Record) -> Result<()> {
        match self {
            Self::Json => say_json(record),
            Self::Table => say(&line(record.columns())),
        }
    }
}

impl Record {
    fn columns(&self) -> [String; 12] {
        let mut call = self.milliseconds.map(time).unwrap_or_default();
        if let Some(rate) = self.gigabytes_per_second {
            call.push_str(&format!(", {} GB/s", digits(rate)));
        }
        let round_trip = self.round_trip_before.zip(self.round_trip_after);
        if let Some(disturbance) = round_trip.and_then(disturbance) {
            call.push_str(&format!("  ({disturbance})"));
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        [
            self.case.to_owned(),
            self.shape.clone(),
            or_dash(self.batch.map(|batch| batch.to_string())),
            self.threads.to_string(),
            digits(self.value),
            digits(self.median),
            self.unit.to_owned(),
            or_dash(self.fraction.map(|fraction| format!("{:.1} %", 100.0 * fraction))),
            or_dash(self.limit.map(digits)),
            self.limit_unit.unwrap_or_default().to_owned(),
            round_trip.map(|(a, b)| format!("{a:.2}, {b:.2} µs")).unwrap_or_default(),
            call,
        ]
    }
}

/// Reason why a time between two round trips, in microseconds, says little.
fn disturbance((before, after): (f64, f64)) -> Option<&'static str> {
    /// Longer than between any two cores, and shorter than a wait for a processor.
    const BUSY: f64 = 5.0;
    match (before.min(after), before.max(after)) {
        (_, most) if most > BUSY => Some("disturbed: another process used a core"),
        (least, most) if most > 2.0 * least => Some("disturbed: the threads moved"),
        _ => None,
    }
}

/// A line of the table, with numbers aligned to the right.
fn line(columns: [String; 12]) -> String {
    let [
        case,
        shape,
        batch,
        threads,
        best,
        median,
        unit,
        share,
        limit,
        limit_unit,
        round_trip,
        call,
    ] = columns;
    let line = format!(
        "{case:<10}  {shape:<23}  {batch:>5}  {threads:>7}  {best:>8}  {median:>8}  {unit:<10}  \
         {share:>7}  {limit:>8}  {limit_unit:<22}  {round_trip:<13}  {call}"
    );
    line.trim_end().to_owned()
}

/// A number with four significant digits, or all digits before the point.
fn digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn time(milliseconds: f64) -> String {
    if milliseconds < 1.0 {
        format!("{} µs", digits(1e3 * milliseconds))
    } else {
        format!("{} ms", digits(milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_disturbed_a_measurement() {
        let found = [(0.06, 0.07), (0.31, 0.3), (0.06, 0.3), (0.31, 0.03), (0.3, 77.4)];
        let found = found.map(disturbance).map(|text| text.unwrap_or_default());
        let moved = "disturbed: the threads moved";
        assert_eq!(found, ["", "", moved, moved, "disturbed: another process used a core"]);
    }

    #[test]
    fn numbers_have_four_significant_digits() {
        assert_eq!(
            [1234.5, 123.45, 12.345, 0.01234].map(digits),
            ["1234", "123.5", "12.35", "0.012"]
        );
        assert_eq!([0.0123, 1.5].map(time), ["12.30 µs", "1.500 ms"]);
    }
}
