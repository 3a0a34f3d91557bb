//! `elbo plot kl`: the KL divergence of one latent dimension from N(0, 1).
//!
//! Curves over μ and over σ, a map with level lines, and a table. The values come from the kernel of the
//! loss; the level lines from the formula `KL = ½(μ² + σ² − 1) − ln σ`, solved for μ.

use crate::failure::Result;
use crate::figure::legend::Entry;
use crate::figure::panel::{Axis, BELOW, MARGIN, Panel, TITLE_HEIGHT, title};
use crate::figure::scale::Scale;
use crate::figure::style::{
    self, AXIS, BLUE, GREEN, INK, LABEL, LINE, ORANGE, VERMILION, anchored, sequential, shortened,
    text_width,
};
use crate::figure::{Area, DrawResult, Figure};
use crate::options::overwrite::OverwriteOption;
use crate::output::path::FigurePath;
use crate::output::{Inputs, say, say_json, write_figure};
use clap::Args;
use elbo::Compute;
use elbo::loss::{Prior, kl};
use elbo::simd::InstructionSet;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde::Serialize;
use std::f64::consts::PI;

/// μ and σ of the table's rows.
const TABLE: [[f64; 2]; 4] = [[0.0, 1.0], [1.5, 1.0], [0.0, 2.0], [0.0, 0.1]];
/// Levels of the map, in nats.
const LEVELS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0];
/// Largest mean, and range of standard deviations, in the map and the curves.
const MU: f64 = 3.0;
const SIGMA: [f64; 2] = [0.005, 3.0];
/// Upper end of the curves' y axis, in nats.
const HIGHEST: f64 = 5.0;
/// Intervals of a curve.
const POINTS: usize = 160;

#[derive(Serialize)]
struct KlRow {
    mu: f64,
    sigma: f64,
    kl: f64,
}

#[derive(Debug, Args)]
pub struct KlFigureOptions {
    /// Add a row to the table: mean and standard deviation, such as 0.5,0.3
    #[arg(long, value_name = "MU,SIGMA", value_parser = gaussian, allow_hyphen_values = true)]
    pub at: Vec<[f64; 2]>,

    /// Print the table as one line of JSON
    ///
    /// mu, sigma, kl (in nats) of each row.
    #[arg(long)]
    pub json: bool,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE")]
    pub out: FigurePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &KlFigureOptions, compute: &Compute) -> Result<()> {
    args.overwrite.of(&args.out.path).check("--out", &Inputs::default())?;
    let points: Vec<[f64; 2]> = TABLE.iter().chain(&args.at).copied().collect();
    let values = divergences(compute.simd(), &points)?;
    let row = |(&[mu, sigma], kl): (&[f64; 2], f64)| KlRow { mu, sigma, kl };
    let table: Vec<KlRow> = points.iter().zip(values).map(row).collect();
    let figure = KlFigure::new(compute.simd(), &table)?;
    write_figure(&figure, &args.out)?;
    if args.json { say_json(&table) } else { say(&text(&table)) }
}

/// Computes KL(N(μ, σ²) ‖ N(0, 1)) at each point with the kernel of the loss.
fn divergences(simd: InstructionSet, points: &[[f64; 2]]) -> Result<Vec<f64>> {
    let mu: Vec<f32> = points.iter().map(|point| point[0] as f32).collect();
    let logvar: Vec<f32> = points.iter().map(|point| (2.0 * point[1].ln()) as f32).collect();
    let mut out = vec![0.0; points.len()];
    kl::per_dimension(simd, &mut out, &mu, &logvar, Prior::default())?;
    Ok(out.into_iter().map(f64::from).collect())
}

fn text(table: &[KlRow]) -> String {
    let mut text = "KL(N(μ, σ²) ‖ N(0, 1)) of one latent dimension\n\
                    \u{20}       μ         σ    KL in nats"
        .to_owned();
    for KlRow { mu, sigma, kl } in table {
        text.push_str(&format!("\n{mu:>8}  {sigma:>8}  {kl:>12.5}"));
    }
    text
}

struct KlFigure<'a> {
    table: &'a [KlRow],
    over_mu: Vec<KlCurve>,
    over_sigma: Vec<KlCurve>,
    regions: Vec<KlRegion>,
}

struct KlCurve {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

impl KlCurve {
    fn new(
        simd: InstructionSet,
        name: String,
        color: RGBColor,
        along: impl Fn(f64) -> (f64, [f64; 2]),
    ) -> Result<Self> {
        let places: Vec<(f64, [f64; 2])> =
            (0..=POINTS).map(|i| along(i as f64 / POINTS as f64)).collect();
        let points: Vec<[f64; 2]> = places.iter().map(|(_, point)| *point).collect();
        let values = divergences(simd, &points)?;
        let points = places.iter().map(|(x, _)| *x).zip(values);
        Ok(Self { name, color, points: points.filter(|(_, kl)| *kl <= HIGHEST).collect() })
    }
}

/// The region of the map where the KL divergence is at most a level.
struct KlRegion {
    level: f64,
    /// The right edge as points (μ, σ) by rising σ, outside the map if μ > [`MU`]. The left edge mirrors it.
    edge: Vec<(f64, f64)>,
}

impl KlRegion {
    fn new(level: f64) -> Self {
        // At μ = 0, σ² = 2c + 1 + 2 ln σ has a root on either side of σ = 1. Solved for either σ, it is a
        // fixed-point iteration that contracts by σ² at the lower root and by 1/σ² at the upper.
        let (mut low, mut high) = (0.0_f64, 2.0_f64);
        for _ in 0..60 {
            low = (0.5 * low * low - level - 0.5).exp();
            high = (2.0 * level + 1.0 + 2.0 * high.ln()).sqrt();
        }
        let (bottom, top) = (low.max(SIGMA[0]), high.min(SIGMA[1]));
        let point = |i: usize| {
            // Denser towards the ends, where the edge is flat.
            let part = 0.5 - 0.5 * (PI * i as f64 / POINTS as f64).cos();
            let sigma = bottom + (top - bottom) * part;
            (level_mu(level, sigma), sigma)
        };
        Self { level, edge: (0..=POINTS).map(point).collect() }
    }

    /// The boundary of the region, cut at the sides of the map.
    fn outline(&self) -> Vec<(f64, f64)> {
        let right = self.edge.iter().map(|&(mu, sigma)| (mu.min(MU), sigma));
        let left = right.clone().rev().map(|(mu, sigma)| (-mu, sigma));
        right.chain(left).collect()
    }

    /// The parts of both edges that lie in the map.
    fn lines(&self) -> Vec<Vec<(f64, f64)>> {
        let inside = || self.edge.split(|&(mu, _)| mu > MU).filter(|part| part.len() > 1);
        let side = |sign: f64| {
            inside().map(move |part| part.iter().map(|&(mu, sigma)| (sign * mu, sigma)).collect())
        };
        side(1.0).chain(side(-1.0)).collect()
    }
}

/// The mean at which KL(N(μ, σ²) ‖ N(0, 1)) reaches a level c: `μ = √(2c + 1 + 2 ln σ − σ²)`.
fn level_mu(level: f64, sigma: f64) -> f64 {
    // At the ends of a region the sum is 0 up to rounding.
    (2.0 * level + 1.0 + 2.0 * sigma.ln() - sigma * sigma).max(0.0).sqrt()
}

impl<'a> KlFigure<'a> {
    fn new(simd: InstructionSet, table: &'a [KlRow]) -> Result<Self> {
        let over_mu = [(1.0, BLUE), (0.5, ORANGE), (0.1, GREEN), (2.0, VERMILION)]
            .into_iter()
            .map(|(sigma, color)| {
                KlCurve::new(simd, format!("σ = {sigma}"), color, |part| {
                    let mu = MU * (2.0 * part - 1.0);
                    (mu, [mu, sigma])
                })
            })
            .collect::<Result<_>>()?;
        let over_sigma = [(0.0, BLUE), (1.0, ORANGE), (2.0, VERMILION)]
            .into_iter()
            .map(|(mu, color)| {
                KlCurve::new(simd, format!("μ = {mu}"), color, |part| {
                    // Denser where the curve is steep.
                    let sigma = 0.001 + (SIGMA[1] - 0.001) * part * part;
                    (sigma, [mu, sigma])
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { table, over_mu, over_sigma, regions: LEVELS.map(KlRegion::new).into() })
    }

    fn curves<B: DrawingBackend>(
        area: &Area<B>,
        title: &str,
        x: Axis,
        curves: &[KlCurve],
    ) -> DrawResult {
        let entry = |curve: &KlCurve| Entry::line(curve.color, curve.name.clone());
        let legend: Vec<Entry> = curves.iter().map(entry).collect();
        let y = Axis::new("KL (nats)", Scale::linear(0.0..HIGHEST, 5));
        let mut chart = Panel { title, x, y, legend: &legend, least_legend: 0 }.draw(area)?;
        for curve in curves.iter().rev() {
            let line = curve.color.stroke_width(LINE);
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), line))?;
        }
        Ok(())
    }

    fn map<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let panel = Panel {
            title: "KL over μ and σ (nats)",
            x: Axis::new("μ", Scale::linear(-MU..MU, 6)).without_grid(),
            y: Axis::new("σ", Scale::linear(0.0..SIGMA[1], 6)).without_grid(),
            legend: &[],
            least_legend: 0,
        };
        let mut chart = panel.draw(area)?;
        let whole = Rectangle::new([(-MU, SIGMA[0]), (MU, SIGMA[1])], color(LEVELS.len()).filled());
        chart.draw_series([whole])?;
        for (band, region) in self.regions.iter().enumerate().rev() {
            let inside = Polygon::new(region.outline(), color(band).filled());
            chart.draw_series([inside])?;
            for line in region.lines() {
                chart.draw_series(LineSeries::new(line, WHITE.stroke_width(3)))?;
            }
        }
        let style = anchored(style::text(LABEL - 4), HPos::Center);
        for (i, region) in self.regions.iter().enumerate() {
            let mu = level_mu(region.level, 1.0);
            if mu > MU {
                continue;
            }
            // Right and left in turn, so that neighboring labels do not overlap.
            let at = (if i % 2 == 0 { mu } else { -mu }, 1.0);
            let name = region.level.to_string();
            let half = text_width(area, &name, LABEL - 4) / 2 + 5;
            let label = EmptyElement::at(at)
                + Rectangle::new([(-half, -17), (half, 17)], WHITE.mix(0.8).filled())
                + Text::new(name, (0, 0), style.clone());
            chart.draw_series([label])?;
        }
        let letter = anchored(style::bold(LABEL - 4), HPos::Center);
        for (i, row) in self.table.iter().enumerate() {
            let shown = row.mu.abs() <= MU && (SIGMA[0]..=SIGMA[1]).contains(&row.sigma);
            if shown {
                let mark = EmptyElement::at((row.mu, row.sigma))
                    + Circle::new((0, 0), 20, INK.filled())
                    + Circle::new((0, 0), 17, WHITE.filled())
                    + Text::new(letter_of(i), (0, -2), letter.clone());
                chart.draw_series([mark])?;
            }
        }
        Ok(())
    }

    /// Draws the colors of the bands from the bottom up, and the levels between them.
    fn color_bar<B: DrawingBackend>(area: &Area<B>) -> DrawResult {
        let (_, height) = area.dim_in_pixel();
        let (top, bottom) = (MARGIN + TITLE_HEIGHT + 12, height as i32 - MARGIN - BELOW as i32);
        let bands = LEVELS.len() as i32 + 1;
        let edge = |band: i32| bottom - (bottom - top) * band / bands;
        let label = anchored(style::text(LABEL), HPos::Left);
        for band in 0..bands {
            let corners = [(0, edge(band + 1)), (44, edge(band))];
            area.draw(&Rectangle::new(corners, color(band as usize).filled()))?;
        }
        let ends = [(0, 0.0)].into_iter();
        for (band, level) in ends.chain((1..).zip(LEVELS)) {
            let at = (54, edge(band));
            area.draw(&PathElement::new([(44, at.1), (50, at.1)], INK.stroke_width(2)))?;
            area.draw(&Text::new(level.to_string(), (at.0 + 4, at.1), label.clone()))?;
        }
        area.draw(&Text::new("nats", (0, top - 26), label))?;
        Ok(())
    }

    fn table<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let (width, _) = area.dim_in_pixel();
        title(area, "KL(N(μ, σ²) ‖ N(0, 1))", (MARGIN, MARGIN), width as i32 - 2 * MARGIN)?;
        let right = anchored(style::text(AXIS), HPos::Right);
        let columns = [0.12, 0.36, 0.58, 0.92].map(|part| (part * f64::from(width)) as i32);
        let mut y = MARGIN + 110;
        let head = anchored(style::bold(AXIS), HPos::Right);
        for (x, name) in columns.into_iter().zip(["", "μ", "σ", "KL (nats)"]) {
            area.draw(&Text::new(name, (x, y), head.clone()))?;
        }
        let rule =
            |y: i32| PathElement::new([(MARGIN, y), (columns[3] + 8, y)], INK.stroke_width(2));
        area.draw(&rule(y + 32))?;
        for (i, row) in self.table.iter().enumerate() {
            y += 64;
            let cells = [
                letter_of(i),
                shortened(&row.mu.to_string().replace('-', "−"), 8),
                shortened(&row.sigma.to_string(), 8),
                format!("{:.5}", row.kl),
            ];
            for (x, cell) in columns.into_iter().zip(cells) {
                area.draw(&Text::new(cell, (x, y), right.clone()))?;
            }
        }
        area.draw(&rule(y + 34))?;
        let left = anchored(style::text(AXIS), HPos::Left);
        area.draw(&Text::new("KL = ½(μ² + σ² − 1) − ln σ", (MARGIN, y + 84), left))?;
        Ok(())
    }
}

/// The color of a band: light where the divergence is small.
fn color(band: usize) -> RGBColor {
    sequential(1.0 - band as f64 / LEVELS.len() as f64)
}

/// The letter of a row of the table, a to z; its number beyond.
fn letter_of(row: usize) -> String {
    char::from_u32('a' as u32 + row as u32)
        .filter(char::is_ascii_lowercase)
        .map_or_else(|| (row + 1).to_string(), String::from)
}

impl Figure for KlFigure<'_> {
    fn size(&self) -> [u32; 2] {
        // Taller if --at adds rows that do not fit.
        let rows = self.table.len().saturating_sub(7) as u32;
        [1100, 920 + 32 * rows]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let (width, _) = area.dim_in_pixel();
        let (above, below) = area.split_vertically(940);
        let panels = above.split_evenly((1, 2));
        let mu = Axis::new("μ", Scale::linear(-MU..MU, 6));
        Self::curves(&panels[0], "KL over the mean μ", mu, &self.over_mu)?;
        let sigma = Axis::new("σ", Scale::linear(0.0..SIGMA[1], 6));
        Self::curves(&panels[1], "KL over the standard deviation σ", sigma, &self.over_sigma)?;
        let (left, table) = below.split_horizontally(width * 64 / 100);
        let (map, bar) = left.split_horizontally(width * 64 / 100 - 170);
        self.map(&map)?;
        Self::color_bar(&bar)?;
        self.table(&table)
    }
}

fn gaussian(text: &str) -> std::result::Result<[f64; 2], &'static str> {
    let finite = |number: &str| number.trim().parse().ok().filter(|n: &f64| n.is_finite());
    let numbers = text.split_once(',').map(|(mu, sigma)| [mu, sigma].map(finite));
    match numbers {
        Some([Some(mu), Some(sigma)]) if sigma > 0.0 => Ok([mu, sigma]),
        _ => Err("expected a mean and a standard deviation above 0, such as 0.5,0.3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{png, svg};

    fn rows(points: &[[f64; 2]]) -> Vec<KlRow> {
        let values = divergences(InstructionSet::detect(), points).unwrap();
        points.iter().zip(values).map(|(p, kl)| KlRow { mu: p[0], sigma: p[1], kl }).collect()
    }

    #[test]
    fn table_has_the_values_of_the_formula() {
        for (row, known) in rows(&TABLE).iter().zip([0.0, 1.125, 0.80685, 1.80759]) {
            assert!((row.kl - known).abs() < 5e-6, "{} {}: {}", row.mu, row.sigma, row.kl);
        }
        let text = text(&rows(&TABLE));
        for number in ["0.00000", "1.12500", "0.80685", "1.80759"] {
            assert!(text.contains(number), "{text}");
        }
    }

    #[test]
    fn level_lines_have_the_divergence_of_their_level() {
        for region in LEVELS.map(KlRegion::new) {
            let points: Vec<[f64; 2]> =
                region.lines().into_iter().flatten().map(|(mu, sigma)| [mu, sigma]).collect();
            for KlRow { mu, sigma, kl } in rows(&points) {
                // The kernel is given ln σ² in f32.
                let level = region.level;
                assert!((kl - level).abs() < 1e-6 * level.max(1.0), "{level}: {kl}, {mu}, {sigma}");
            }
        }
    }

    #[test]
    fn regions_close_at_their_tips_and_are_cut_at_the_sides_of_the_map() {
        // ½(σ² − 1) − ln σ = 2 at 0.0824 and 2.6338.
        let closed = KlRegion::new(2.0);
        let [bottom, top] = [closed.edge[0], closed.edge[POINTS]];
        assert!(bottom.0 < 1e-6 && (bottom.1 - 0.0824).abs() < 1e-4, "{bottom:?}");
        assert!(top.0 < 1e-6 && (top.1 - 2.6338).abs() < 1e-4, "{top:?}");
        assert_eq!(closed.lines().len(), 2);
        assert_eq!(level_mu(2.0, 1.0), 2.0);
        // Level 6 crosses each side of the map twice, and its bottom and top.
        let cut = KlRegion::new(6.0);
        assert_eq!(cut.lines().len(), 4);
        assert_eq!([cut.edge[0].1, cut.edge[POINTS].1], SIGMA);
        let outline = cut.outline();
        assert!(outline.iter().all(|(mu, _)| mu.abs() <= MU));
        assert!(outline.contains(&(-MU, cut.edge[POINTS / 2].1)));
    }

    #[test]
    fn draws_rows_outside_the_map_in_the_table_only() {
        let table = rows(&[[0.0, 1.0], [7.0, 0.5], [-1.0, 0.001], [1.0, 2.0]]);
        let figure = KlFigure::new(InstructionSet::detect(), &table).unwrap();
        assert_eq!(png(&figure).unwrap().dimensions(), (1100, 920));
        let text = svg(&figure).unwrap();
        assert!(text.contains("KL over the mean μ") && text.contains("24.818"));
    }

    #[test]
    fn parses_a_mean_and_a_positive_standard_deviation() {
        assert_eq!(gaussian("-1,2"), Ok([-1.0, 2.0]));
        assert!(["0,0", "0,-1", "0", "NaN,1", "0,inf"].into_iter().all(|t| gaussian(t).is_err()));
    }
}
