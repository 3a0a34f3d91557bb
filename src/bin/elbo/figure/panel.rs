//! A chart with its title, legend and axes.

use super::legend::{Entry, LegendRows};
use super::scale::Scale;
use super::style::{self, AXIS, GRID, INK, LABEL, TITLE, text_width, width_in};
use super::{Area, DrawResult};
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<Scale, Scale>>;

/// Distance between the border of a panel and its contents.
pub const MARGIN: i32 = 30;
pub const TITLE_HEIGHT: i32 = 66;
/// Height of the labels and the name of the x axis.
pub const BELOW: u32 = AXIS + LABEL + 34;
/// Length of a tick mark.
const TICK: i32 = 10;

pub struct Panel<'a> {
    pub title: &'a str,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub legend: &'a [Entry],
    /// Minimum height of the legend, which aligns the axes of adjacent panels.
    pub least_legend: i32,
}

pub struct Axis<'a> {
    pub name: &'a str,
    pub scale: Scale,
    /// Draws a grid line at each tick.
    pub grid: bool,
}

impl<'a> Axis<'a> {
    pub fn new(name: &'a str, scale: Scale) -> Self {
        Self { name, scale, grid: true }
    }

    pub fn without_grid(self) -> Self {
        Self { grid: false, ..self }
    }
}

impl Panel<'_> {
    /// Draws title, legend and axes, and returns the chart for the data.
    pub fn draw<'b, B: DrawingBackend>(&self, area: &'b Area<B>) -> DrawResult<Chart<'b, B>> {
        let (width, _) = area.dim_in_pixel();
        let widest = self.y.scale.ticks().iter().map(|(_, label)| text_width(area, label, LABEL));
        let beside = widest.max().unwrap_or(0) + 2 * TICK + AXIS as i32 + 26;
        let left = MARGIN + beside;
        let inner = width as i32 - left - MARGIN;

        title(area, self.title, (left, MARGIN), inner)?;
        let legend = LegendRows::arranged(area, self.legend, inner);
        legend.draw(area, self.legend, (left, MARGIN + TITLE_HEIGHT))?;
        let above = MARGIN + TITLE_HEIGHT + legend.height().max(self.least_legend) + 12;

        // Half of the last label extends beyond the x axis.
        let last =
            self.x.scale.ticks().last().map_or(0, |(_, label)| text_width(area, label, LABEL));
        let mut chart = ChartBuilder::on(area)
            .margin(MARGIN)
            .margin_top(above)
            .margin_right(MARGIN.max(last / 2 + 14))
            .x_label_area_size(BELOW)
            .y_label_area_size(beside)
            .build_cartesian_2d(self.x.scale.clone(), self.y.scale.clone())?;
        let mut mesh = chart.configure_mesh();
        mesh.axis_style(INK.stroke_width(2))
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .label_style(style::text(LABEL))
            .axis_desc_style(style::text(AXIS))
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            // More than the ticks of any scale.
            .x_labels(1000)
            .y_labels(1000)
            .set_all_tick_mark_size(TICK);
        if !self.x.grid {
            mesh.disable_x_mesh();
        }
        if !self.y.grid {
            mesh.disable_y_mesh();
        }
        mesh.draw()?;
        Ok(chart)
    }
}

/// Draws a title in bold, in a smaller font if it does not fit, and shortened if it still does not.
pub fn title<B: DrawingBackend>(
    area: &Area<B>,
    text: &str,
    at: (i32, i32),
    width: i32,
) -> DrawResult {
    let wide = |text: &str, size| width_in(area, text, &style::bold(size));
    let size = [TITLE, TITLE - 4, TITLE - 8, TITLE - 12]
        .into_iter()
        .find(|&size| wide(text, size) <= width)
        .unwrap_or(TITLE - 12);
    let mut text = text.to_owned();
    while wide(&text, size) > width && text.chars().count() > 2 {
        text = style::shortened(&text, text.chars().count() - 1);
    }
    let left = style::anchored(style::bold(size), HPos::Left);
    area.draw(&Text::new(text, (at.0, at.1 + TITLE as i32 / 2), left))?;
    Ok(())
}
