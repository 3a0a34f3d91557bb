//! Outputs of a table model along a traversal: lines for the features that change most.

use super::legend::{Entry, LegendRows};
use super::panel::{Axis, MARGIN, Panel, title};
use super::scale::{Scale, around};
use super::style::{LINE, PALETTE, TITLE, shortened};
use super::{Area, DrawResult, Figure};
use ndarray::{ArrayView2, Axis as Along};
use plotters::prelude::*;

/// Lines in each panel.
const LINES: usize = 5;
/// Panels per row.
const ACROSS: usize = 3;
/// Maximum number of panels.
pub const MOST: usize = 60;
/// Width and height of a panel.
const PANEL: [u32; 2] = [500, 460];
/// Height of the title.
const HEAD: u32 = 60;

pub struct ResponseLines<'a> {
    pub title: &'a str,
    pub panels: Vec<ResponsePanel<'a>>,
    /// Names of the features.
    pub names: &'a [String],
    /// Name of the x axis.
    pub along: &'a str,
    /// Name of the y axis.
    pub outputs: &'static str,
    /// Positions on the x axis.
    pub values: &'a [f64],
}

pub struct ResponsePanel<'a> {
    pub title: String,
    /// The outputs at each value: values × features.
    pub rows: ArrayView2<'a, f32>,
}

impl ResponsePanel<'_> {
    /// The features with the largest range, in descending order.
    fn features(&self) -> Vec<usize> {
        let spread: Vec<f32> = self
            .rows
            .axis_iter(Along(1))
            .map(|column| {
                let low = column.iter().copied().fold(f32::INFINITY, f32::min);
                let high = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                high - low
            })
            .collect();
        let mut order: Vec<usize> = (0..spread.len()).collect();
        order.sort_by(|&a, &b| spread[b].total_cmp(&spread[a]));
        order.truncate(LINES);
        order
    }
}

impl ResponseLines<'_> {
    /// The features and colors of the lines in each panel.
    fn lines(&self) -> Vec<Vec<(usize, RGBColor)>> {
        let mut seen: Vec<usize> = Vec::new();
        self.panels
            .iter()
            .map(|panel| {
                let mut taken = [false; PALETTE.len()];
                let color = |feature: usize| {
                    let place =
                        seen.iter().position(|&other| other == feature).unwrap_or_else(|| {
                            seen.push(feature);
                            seen.len() - 1
                        });
                    // A feature keeps its color in all panels, unless another of this panel has taken it.
                    let mut all = (0..PALETTE.len()).map(|i| (place + i) % PALETTE.len());
                    let free = all.find(|&i| !taken[i]).unwrap_or(0);
                    taken[free] = true;
                    (feature, PALETTE[free])
                };
                panel.features().into_iter().map(color).collect()
            })
            .collect()
    }

    fn legend(&self, lines: &[(usize, RGBColor)]) -> Vec<Entry> {
        let entry = |(feature, color): &(usize, RGBColor)| {
            Entry::line(*color, shortened(&self.names[*feature], 20))
        };
        lines.iter().map(entry).collect()
    }
}

impl Figure for ResponseLines<'_> {
    fn size(&self) -> [u32; 2] {
        let across = self.panels.len().clamp(1, ACROSS);
        let down = self.panels.len().div_ceil(across);
        // A single panel is widened for the figure's title.
        [(PANEL[0] * across as u32).max(700), PANEL[1] * down as u32 + HEAD]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let (width, _) = area.dim_in_pixel();
        title(area, self.title, (MARGIN, MARGIN), width as i32 - 2 * MARGIN)?;
        let (_, below) = area.split_vertically(HEAD as i32 * 2 - TITLE as i32 / 4);
        let across = self.panels.len().clamp(1, ACROSS);
        let places = below.split_evenly((self.panels.len().div_ceil(across), across));
        let lines = self.lines();
        let legends: Vec<Vec<Entry>> = lines.iter().map(|lines| self.legend(lines)).collect();
        let room = places[0].dim_in_pixel().0 as i32 - 200;
        let least_legend = legends
            .iter()
            .map(|legend| LegendRows::arranged(&places[0], legend, room).height())
            .max()
            .unwrap_or(0);
        let ends = around(self.values.iter().copied(), 0.02);
        let panels = places.iter().zip(&self.panels).zip(lines.iter().zip(&legends));
        for ((place, response), (lines, legend)) in panels {
            let shown = lines
                .iter()
                .flat_map(|(feature, _)| response.rows.column(*feature).to_vec())
                .map(f64::from);
            let panel = Panel {
                title: &response.title,
                x: Axis::new(self.along, Scale::linear(ends.clone(), 7)),
                y: Axis::new(self.outputs, Scale::linear(around(shown, 0.06), 6)),
                legend,
                least_legend,
            };
            let mut chart = panel.draw(place)?;
            for (feature, color) in lines.iter().rev() {
                let outputs = response.rows.column(*feature);
                let points = self.values.iter().copied().zip(outputs.iter().map(|&y| f64::from(y)));
                chart.draw_series(LineSeries::new(points, color.stroke_width(LINE)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{png, svg};
    use ndarray::arr2;

    impl ResponseLines<'_> {
        fn color_in(&self, panel: usize, feature: usize) -> RGBColor {
            let lines = &self.lines()[panel];
            lines.iter().find(|line| line.0 == feature).unwrap().1
        }
    }

    #[test]
    fn draws_the_features_with_the_largest_range_in_one_color_each() {
        let rows = arr2(&[[0.0, 1.0, 5.0, 0.0], [0.1, -1.0, 5.0, 0.3]]);
        let response = ResponsePanel { title: "dimension 0".to_owned(), rows: rows.view() };
        assert_eq!(response.features(), [1, 3, 0, 2]);
        let names: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let other = arr2(&[[0.0, 0.0, 5.0, 0.0], [0.1, 0.0, 7.0, 0.3]]);
        let panels = (0..4).map(|i| ResponsePanel {
            title: format!("dimension {i}"),
            rows: if i == 1 { other.view() } else { rows.view() },
        });
        let figure = ResponseLines {
            title: "Traversal",
            panels: panels.collect(),
            names: &names,
            along: "z",
            outputs: "output",
            values: &[-3.0, 3.0],
        };
        // A feature has the same color in all panels.
        let lines = figure.lines();
        assert_eq!(figure.color_in(0, 1), PALETTE[0]);
        assert!([0, 1, 2, 3].iter().all(|&f| figure.color_in(0, f) == figure.color_in(1, f)));
        assert_eq!(lines[1][0].0, 2);
        assert_eq!(png(&figure).unwrap().dimensions(), (1500, 980));
        assert!(svg(&figure).unwrap().contains("dimension 3"));
    }
}
