//! `elbo plot roc`: ROC and precision-recall curves side by side.

use super::ranking::{Ranking, rank};
use super::scores::Scores;
use crate::failure::{Failure, Result};
use crate::figure::legend::{Entry, LegendRows, Mark};
use crate::figure::panel::{Axis, Panel};
use crate::figure::scale::Scale;
use crate::figure::style::{FAINT, LINE, PALETTE, shortened};
use crate::figure::{Area, DrawResult, Figure};
use crate::options::overwrite::OverwriteOption;
use crate::output::path::FigurePath;
use crate::output::{Inputs, say, say_json, write_figure};
use crate::text::{counted, thousands};
use clap::Args;
use plotters::prelude::*;
use serde::Serialize;
use std::path::PathBuf;

/// Points of a curve that are closer than this in both directions are drawn as one.
const NEAR: f64 = 5e-4;

#[derive(Debug, Args)]
pub struct RocOptions {
    /// Read the scores from FILE, a CSV such as `elbo score` writes
    ///
    /// With a header; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub scores: PathBuf,

    /// Draw this column of scores; repeat to compare several
    ///
    /// [default: negative_elbo]
    #[arg(long, value_name = "NAME")]
    pub score_column: Vec<String>,

    /// Read the labels from this column
    #[arg(long, value_name = "NAME", default_value = "label")]
    pub label_column: String,

    /// Read the labels from FILE, one for each row of --scores
    ///
    /// The formats are those of --labels of `elbo train`.
    #[arg(long, value_name = "FILE", conflicts_with = "label_column")]
    pub labels: Option<PathBuf>,

    /// Set the positive class, which high scores indicate
    ///
    /// [default: 1 if the labels are 0 and 1]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub positive: Option<String>,

    /// Print one line of JSON
    ///
    /// Its fields are rows, positive (the class), positives (its rows) and scores; for each column of scores
    /// column, roc_auc and average_precision.
    #[arg(long)]
    pub json: bool,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE")]
    pub out: FigurePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &RocOptions) -> Result<()> {
    let inputs =
        Inputs::new([("--scores", Some(&args.scores)), ("--labels", args.labels.as_ref())])?;
    args.overwrite.of(&args.out.path).check("--out", &inputs)?;
    let scores = Scores::read(
        &args.scores,
        &args.score_column,
        &args.label_column,
        args.labels.as_deref(),
        args.positive.as_deref(),
    )?;
    let rankings: Option<Vec<(String, Ranking)>> = scores
        .columns
        .iter()
        .map(|(name, column)| Some((name.clone(), rank(column, &scores.positive)?)))
        .collect();
    let rankings = rankings.ok_or_else(|| {
        Failure::Run(format!("{}: expected rows of two classes", args.scores.display()))
    })?;
    let positives = scores.positive.iter().filter(|&&is| is).count();
    let figure = RocFigure {
        rankings: &rankings,
        class: &scores.class,
        rows: scores.positive.len(),
        positives,
    };
    write_figure(&figure, &args.out)?;
    if args.json { say_json(&figure.report()) } else { say(&figure.text()) }
}

struct RocFigure<'a> {
    rankings: &'a [(String, Ranking)],
    class: &'a str,
    rows: usize,
    positives: usize,
}

#[derive(Serialize)]
struct RocReport<'a> {
    rows: usize,
    positive: &'a str,
    positives: usize,
    scores: Vec<RankingReport<'a>>,
}

#[derive(Serialize)]
struct RankingReport<'a> {
    column: &'a str,
    roc_auc: f64,
    average_precision: f64,
}

impl RocFigure<'_> {
    fn report(&self) -> RocReport<'_> {
        RocReport {
            rows: self.rows,
            positive: self.class,
            positives: self.positives,
            scores: self
                .rankings
                .iter()
                .map(|(column, ranking)| RankingReport {
                    column,
                    roc_auc: ranking.roc_auc,
                    average_precision: ranking.average_precision,
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let widest = self.rankings.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "{}, {} of class {}\n{:widest$}  ROC AUC  average precision",
            counted(self.rows, "row"),
            thousands(self.positives as f64),
            self.class,
            ""
        );
        for (name, ranking) in self.rankings {
            text.push_str(&format!(
                "\n{name:widest$}  {:7.4}  {:17.4}",
                ranking.roc_auc, ranking.average_precision
            ));
        }
        text
    }

    fn legend(&self, area_name: &str, value: fn(&Ranking) -> f64) -> Vec<Entry> {
        let several = self.rankings.len() > 1;
        let entry = |(i, (name, ranking)): (usize, &(String, Ranking))| {
            let name = if several { format!("{}: ", shortened(name, 24)) } else { String::new() };
            let name = format!("{name}{area_name} {:.4}", value(ranking));
            Entry::line(PALETTE[i % PALETTE.len()], name)
        };
        let mut entries: Vec<Entry> = self.rankings.iter().enumerate().map(entry).collect();
        entries.push(Entry::new(Mark::Dashed(FAINT.stroke_width(4)), "by chance"));
        entries
    }

    fn panel<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        panel: &Panel,
        chance: [(f64, f64); 2],
        curve: fn(&Ranking) -> Vec<(f64, f64)>,
    ) -> DrawResult {
        let mut chart = panel.draw(area)?;
        let dashes = DashedLineSeries::new(chance, 16, 14, FAINT.stroke_width(4));
        chart.draw_series(dashes)?;
        // The first curve is drawn last, on top of the others.
        for (i, (_, ranking)) in self.rankings.iter().enumerate().rev() {
            let line = PALETTE[i % PALETTE.len()].stroke_width(LINE);
            chart.draw_series(LineSeries::new(thinned(curve(ranking)), line))?;
        }
        Ok(())
    }
}

impl Figure for RocFigure<'_> {
    fn size(&self) -> [u32; 2] {
        [1300, 600 + 23 * (self.rankings.len() as u32 - 1)]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let unit = || Scale::linear(-0.02..1.02, 6);
        let panels = area.split_evenly((1, 2));
        let positives = format!("{} of {} positive", self.positives, counted(self.rows, "row"));
        let areas = self.legend("area", |ranking| ranking.roc_auc);
        let averages = self.legend("average precision", |ranking| ranking.average_precision);
        // Both panels leave the same height for the legend, which aligns their axes.
        let (width, _) = panels[0].dim_in_pixel();
        let heights = [&areas, &averages]
            .map(|legend| LegendRows::arranged(&panels[0], legend, width as i32 - 190).height());
        let least_legend = heights[0].max(heights[1]);
        let roc = Panel {
            title: &format!("ROC of class {}", shortened(self.class, 30)),
            x: Axis::new("false positive rate", unit()),
            y: Axis::new("true positive rate", unit()),
            legend: &areas,
            least_legend,
        };
        self.panel(&panels[0], &roc, [(0.0, 0.0), (1.0, 1.0)], |ranking| ranking.roc.clone())?;
        let precision_recall = Panel {
            title: &format!("Precision-recall: {positives}"),
            x: Axis::new("recall", unit()),
            y: Axis::new("precision", unit()),
            legend: &averages,
            least_legend,
        };
        let share = self.positives as f64 / self.rows as f64;
        let chance = [(0.0, share), (1.0, share)];
        self.panel(&panels[1], &precision_recall, chance, |r| steps(&r.precision_recall))
    }
}

/// Returns the precision as a step function of recall; the area under it is the average precision.
///
/// Each precision holds from the preceding recall to its own.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut recall_before = 0.0;
    let mut line = Vec::with_capacity(2 * points.len());
    for &(recall, precision) in points {
        line.extend([(recall_before, precision), (recall, precision)]);
        recall_before = recall;
    }
    line
}

/// Drops the points that would be drawn on the preceding one.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let last = points.len().saturating_sub(1);
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, (x, y)) in points.into_iter().enumerate() {
        let near = kept.last().is_some_and(|b| (x - b.0).abs() < NEAR && (y - b.1).abs() < NEAR);
        if !near || i == last {
            kept.push((x, y));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_the_steps_is_the_average_precision() {
        let ranking = rank(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap();
        let line = steps(&ranking.precision_recall);
        let area: f64 = line.windows(2).map(|pair| (pair[1].0 - pair[0].0) * pair[1].1).sum();
        assert!((area - ranking.average_precision).abs() < 1e-15);
    }

    #[test]
    fn thins_a_million_points_to_a_few_thousand() {
        let line: Vec<_> =
            (0..=1_000_000).map(|i| (f64::from(i) / 1e6, f64::from(i) / 1e6)).collect();
        let thin = thinned(line);
        assert!((1900..2100).contains(&thin.len()), "{}", thin.len());
        assert_eq!((thin[0], thin[thin.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        assert!(thinned(Vec::new()).is_empty());
    }
}
