//! `elbo plot latent`: a map of the latent means.

use crate::data::Data;
use crate::data::domain::Accepted;
use crate::failure::{Failure, Result};
use crate::figure::legend::{Entry, Mark, draw_column};
use crate::figure::panel::{Axis, MARGIN, Panel, TITLE_HEIGHT};
use crate::figure::scale::{Scale, around};
use crate::figure::style::{self, BLUE, INK, LABEL, PALETTE, anchored, sequential, shortened};
use crate::figure::{Area, DrawResult, Figure};
use crate::model::decode::codes;
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::output::path::FigurePath;
use crate::output::write_figure;
use crate::text::counted;
use clap::Args;
use elbo::Compute;
use elbo::vae::Vae;
use ndarray::{ArrayView2, Axis as Along};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Maximum number of classes with a color each.
const COLORS: usize = PALETTE.len();
/// Width of a color bar, and maximum width of class names, in pixels of the larger drawing.
const BAR: u32 = 220;
const NAMES: u32 = 340;

#[derive(Debug, Args)]
pub struct LatentOptions {
    #[command(flatten)]
    pub input: ModelAndData,

    /// Draw these two dimensions, such as 0,3 [default: the most active]
    ///
    /// The most active dimensions are those whose mean varies most over the data.
    #[arg(long, value_name = "I,J", value_parser = pair, allow_hyphen_values = true,
          help_heading = None)]
    pub dimensions: Option<[usize; 2]>,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE", help_heading = None)]
    pub out: FigurePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &LatentOptions, compute: &Compute) -> Result<()> {
    let (vae, _, data) =
        args.input.open_for(args.overwrite.of(&args.out.path), Accepted::Readable)?;
    let codes = codes(&vae, compute, &data)?;
    let (mu, logvar) = codes.view().split_at(Along(1), vae.config().latent());
    let variances: Vec<f64> = mu.columns().into_iter().map(variance).collect();
    let [i, j] = match args.dimensions {
        Some(chosen) => check(chosen, &vae)?,
        None => most_active(&variances),
    };
    let name = |dimension: usize| {
        format!("μ of dimension {dimension} (variance {})", significant(variances[dimension]))
    };
    let points = |column: usize, of: ArrayView2<f32>| of.column(column).mapv(f64::from).to_vec();
    // With a single dimension, the y axis shows its σ.
    let (y, y_name) = if i == j {
        (
            logvar.column(i).mapv(|v| f64::from(0.5 * v).exp()).to_vec(),
            format!("σ of dimension {i}"),
        )
    } else {
        (points(j, mu), name(j))
    };
    let figure = LatentFigure {
        points: points(i, mu).into_iter().zip(y).collect(),
        names: [name(i), y_name],
        coloring: Coloring::of(&data),
    };
    write_figure(&figure, &args.out)
}

fn check(chosen: [usize; 2], vae: &Vae) -> Result<[usize; 2]> {
    let latent = vae.config().latent();
    match chosen.into_iter().find(|&dimension| dimension >= latent) {
        None => Ok(chosen),
        Some(wrong) => Err(Failure::Usage(format!(
            "--dimensions: {wrong}: the model has {}, numbered from 0",
            counted(latent, "latent dimension")
        ))),
    }
}

fn variance(column: ndarray::ArrayView1<f32>) -> f64 {
    column.mapv(f64::from).var(0.0)
}

/// Formats a variance with three significant digits.
fn significant(value: f64) -> String {
    let magnitude = value.abs().log10().floor();
    match value {
        0.0 => "0".to_owned(),
        _ if (-4.0..3.0).contains(&magnitude) => {
            format!("{value:.*}", (2.0 - magnitude) as usize)
        }
        _ => format!("{value:.2e}"),
    }
}

/// The two dimensions of largest variance; the only dimension twice if there is one.
fn most_active(variances: &[f64]) -> [usize; 2] {
    let mut order: Vec<usize> = (0..variances.len()).collect();
    order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
    [order[0], *order.get(1).unwrap_or(&order[0])]
}

/// The colors of the points.
enum Coloring {
    None,
    /// One color per class; the last class may stand for all others.
    Classes {
        names: Vec<String>,
        of_rows: Vec<usize>,
    },
    /// More numbered classes than colors: a color scale from 0 to the largest number.
    Numbers {
        of_rows: Vec<u32>,
        most: u32,
    },
}

impl Coloring {
    fn of(data: &Data) -> Self {
        let (Some(labels), Some(names)) = (&data.labels, data.label_names()) else {
            return Self::None;
        };
        Self::of_labels(&labels.of_rows, &names)
    }

    fn of_labels(of_rows: &[u32], names: &[String]) -> Self {
        // The name and the number of rows of each class.
        let mut classes: BTreeMap<u32, (&str, usize)> = BTreeMap::new();
        for (&label, name) in of_rows.iter().zip(names) {
            classes.entry(label).or_insert((name, 0)).1 += 1;
        }
        let mut shown: Vec<u32> = classes.keys().copied().collect();
        if shown.len() > COLORS {
            if names.iter().zip(of_rows).all(|(name, label)| *name == label.to_string()) {
                let most = *shown.last().unwrap_or(&0);
                return Self::Numbers { of_rows: of_rows.to_vec(), most };
            }
            shown.sort_by_key(|label| Reverse(classes[label].1));
            shown.truncate(COLORS - 1);
            shown.sort_unstable();
        }
        let place = |label: &u32| shown.binary_search(label).unwrap_or(shown.len());
        let of_rows = of_rows.iter().map(place).collect();
        let mut names: Vec<String> = shown.iter().map(|label| of_class(classes[label].0)).collect();
        if classes.len() > shown.len() {
            names.push("others".to_owned());
        }
        Self::Classes { of_rows, names }
    }

    fn color(&self, row: usize) -> RGBColor {
        match self {
            Self::None => BLUE,
            Self::Classes { of_rows, .. } => PALETTE[of_rows[row]],
            Self::Numbers { of_rows, most } => {
                sequential(f64::from(of_rows[row]) / f64::from((*most).max(1)))
            }
        }
    }
}

/// Name of a class in the legend; that of missing labels is empty.
fn of_class(name: &str) -> String {
    if name.is_empty() { "no label".to_owned() } else { name.to_owned() }
}

struct LatentFigure {
    points: Vec<(f64, f64)>,
    /// Names of the axes.
    names: [String; 2],
    coloring: Coloring,
}

impl LatentFigure {
    /// Radius and opacity of a point, smaller and more transparent the more points there are.
    fn mark(&self) -> (i32, f64) {
        match self.points.len() {
            0..=300 => (9, 0.9),
            301..=3000 => (6, 0.75),
            3001..=20_000 => (4, 0.6),
            _ => (3, 0.4),
        }
    }

    /// Width of the legend.
    fn beside(&self) -> u32 {
        match &self.coloring {
            Coloring::None => 0,
            Coloring::Numbers { .. } => BAR,
            Coloring::Classes { names, .. } => {
                let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
                (110 + 22 * longest as u32).clamp(BAR, NAMES)
            }
        }
    }

    fn legend<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let top = MARGIN + TITLE_HEIGHT;
        let left = anchored(style::text(LABEL), HPos::Left);
        match &self.coloring {
            Coloring::None => Ok(()),
            Coloring::Classes { names, .. } => {
                let entry = |(i, name): (usize, &String)| {
                    Entry::new(Mark::Dot(PALETTE[i]), shortened(name, 13))
                };
                let entries: Vec<Entry> = names.iter().enumerate().map(entry).collect();
                area.draw(&Text::new("label", (14, top + 8), left))?;
                draw_column(area, &entries, (0, top + 34))
            }
            Coloring::Numbers { most, .. } => {
                let (_, height) = area.dim_in_pixel();
                let (top, bottom) = (top + 40, height as i32 - 200);
                for y in top..bottom {
                    let place = f64::from(bottom - y) / f64::from(bottom - top);
                    let strip = [(20, y), (64, y + 1)];
                    area.draw(&Rectangle::new(strip, sequential(place).filled()))?;
                }
                let scale = Scale::whole(0.0..f64::from(*most), 6);
                for (value, name) in scale.ticks() {
                    let part = value / f64::from((*most).max(1));
                    let y = bottom - (part * f64::from(bottom - top)) as i32;
                    area.draw(&PathElement::new([(64, y), (72, y)], INK.stroke_width(2)))?;
                    area.draw(&Text::new(name.clone(), (82, y), left.clone()))?;
                }
                area.draw(&Text::new("label", (20, top - 30), left))?;
                Ok(())
            }
        }
    }
}

impl Figure for LatentFigure {
    fn size(&self) -> [u32; 2] {
        [860 + self.beside() / 2, 800]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let (width, _) = area.dim_in_pixel();
        let beside = self.beside();
        let (map, legend) = area.split_horizontally(width - beside);
        let scale = |values: &mut dyn Iterator<Item = f64>| Scale::linear(around(values, 0.04), 7);
        let panel = Panel {
            title: &format!("Latent means of {}", counted(self.points.len(), "row")),
            x: Axis::new(&self.names[0], scale(&mut self.points.iter().map(|p| p.0))),
            y: Axis::new(&self.names[1], scale(&mut self.points.iter().map(|p| p.1))),
            legend: &[],
            least_legend: 0,
        };
        let mut chart = panel.draw(&map)?;
        let (radius, opacity) = self.mark();
        // Points are drawn in the order of the rows, so that no class covers the others.
        chart.draw_series(self.points.iter().enumerate().map(|(row, point)| {
            Circle::new(*point, radius, self.coloring.color(row).mix(opacity).filled())
        }))?;
        if beside > 0 { self.legend(&legend) } else { Ok(()) }
    }
}

fn pair(text: &str) -> std::result::Result<[usize; 2], &'static str> {
    let numbers = text.split_once(',').map(|(i, j)| [i, j].map(|n| n.trim().parse().ok()));
    match numbers {
        Some([Some(i), Some(j)]) if i != j => Ok([i, j]),
        _ => Err("expected two different dimensions with a comma between them, such as 0,3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{png, svg};

    #[test]
    fn most_active_dimensions_come_first() {
        assert_eq!(most_active(&[0.1, 0.9, 0.5]), [1, 2]);
        assert_eq!(most_active(&[0.3]), [0, 0]);
        assert_eq!(most_active(&[0.2, 0.2, 0.2]), [0, 1]);
    }

    #[test]
    fn variances_have_three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (1.0, "1.00"),
            (0.98765, "0.988"),
            (0.000312, "0.000312"),
            (4.321e-7, "4.32e-7"),
            (123.4, "123"),
            (54321.0, "5.43e4"),
        ];
        for (value, text) in cases {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn groups_more_classes_than_colors_or_uses_a_scale() {
        let labels: Vec<u32> = (0..30).map(|i| if i < 15 { i } else { 14 }).collect();
        let numbers: Vec<String> = labels.iter().map(ToString::to_string).collect();
        assert!(matches!(
            Coloring::of_labels(&labels, &numbers),
            Coloring::Numbers { most: 14, .. }
        ));
        let names: Vec<String> = labels.iter().map(|label| format!("class {label}")).collect();
        let Coloring::Classes { names, of_rows } = Coloring::of_labels(&labels, &names) else {
            panic!("expected classes, as the names are not numbers");
        };
        // The most frequent class and the first eight of the others have a color.
        assert_eq!(names.len(), COLORS);
        assert_eq!(
            (&names[0][..], &names[8][..], &names[9][..]),
            ("class 0", "class 14", "others")
        );
        assert_eq!((of_rows[0], of_rows[9], of_rows[29]), (0, 9, 8));
    }

    fn map(rows: usize, coloring: Coloring) -> LatentFigure {
        let point = |i: usize| ((i as f64 * 0.7).sin(), (i as f64 * 1.3).cos());
        let names = ["x", "y"].map(str::to_owned);
        LatentFigure { points: (0..rows).map(point).collect(), names, coloring }
    }

    #[test]
    fn draws_one_point_one_class_and_many_classes() {
        png(&map(1, Coloring::None)).unwrap();
        let names = vec!["the only class there is".to_owned()];
        let text = svg(&map(3, Coloring::Classes { names, of_rows: vec![0; 3] })).unwrap();
        assert!(text.contains("the only cla…"), "long names are cut");
        let of_rows: Vec<u32> = (0..100).collect();
        let text = svg(&map(100, Coloring::Numbers { of_rows, most: 99 })).unwrap();
        assert!(text.contains("label") && text.contains(">\n80\n"), "the scale has labels");
        png(&map(2, Coloring::Numbers { of_rows: vec![0, 0], most: 0 })).unwrap();
    }

    #[test]
    fn parses_pairs_of_different_dimensions() {
        assert_eq!(pair("0, 3"), Ok([0, 3]));
        assert!(["", "1", "1,1", "-1,2", "1,2,3", "a,b"].into_iter().all(|t| pair(t).is_err()));
    }
}
