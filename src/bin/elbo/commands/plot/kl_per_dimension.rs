//! `elbo plot kl-per-dimension`: the KL divergence of each latent dimension as bars.

use crate::data::domain::Accepted;
use crate::failure::Result;
use crate::figure::legend::{Entry, Mark};
use crate::figure::panel::{Axis, Panel};
use crate::figure::scale::Scale;
use crate::figure::style::{BLUE, FAINT, VERMILION};
use crate::figure::{Area, DrawResult, Figure};
use crate::model::usable::{self, OfUsable, of_usable};
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::output::path::FigurePath;
use crate::output::{Console, write_figure};
use clap::Args;
use elbo::vae::{COLLAPSED_KL, EvaluationOptions};
use elbo::{Compute, Dataset};
use plotters::prelude::*;

/// Maximum number of bars with a label each.
const NUMBERED: usize = 40;
/// Lower end of the logarithmic axis, in nats.
const LEAST: f64 = 1e-4;

#[derive(Debug, Args)]
pub struct KlPerDimensionOptions {
    #[command(flatten)]
    pub input: ModelAndData,

    /// Keep the order of the dimensions [default: largest KL first]
    #[arg(long, help_heading = None)]
    pub by_index: bool,

    /// Use a logarithmic axis, which separates small values
    #[arg(long, help_heading = None)]
    pub log: bool,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE", help_heading = None)]
    pub out: FigurePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &KlPerDimensionOptions, compute: &Compute) -> Result<()> {
    let (vae, _, data) =
        args.input.open_for(args.overwrite.of(&args.out.path), Accepted::Finite)?;
    let evaluate = |rows: &dyn Dataset| vae.evaluate(compute, rows, &EvaluationOptions::default());
    let probe = |rows: &dyn Dataset| evaluate(rows).map(drop);
    let OfUsable { result: evaluation, left_out } =
        of_usable(&data, &data.view(0..data.len()), probe, evaluate)?;
    let warning = usable::warning(&left_out, &data, "which the figure leaves out");
    Console { quiet: true, silent: false }.warn_all(warning);
    let mut bars: Vec<(usize, f64)> =
        evaluation.kl_per_dimension.iter().copied().enumerate().collect();
    if !args.by_index {
        bars.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    let figure = KlBars {
        bars,
        sorted: !args.by_index,
        logarithmic: args.log,
        collapsed: evaluation.collapsed_units(),
        total: evaluation.kl,
    };
    write_figure(&figure, &args.out)
}

struct KlBars {
    /// Dimension and nats, from left to right.
    bars: Vec<(usize, f64)>,
    sorted: bool,
    logarithmic: bool,
    collapsed: usize,
    total: f64,
}

impl KlBars {
    /// The position of a value on the y axis.
    fn on_axis(&self, nats: f64) -> f64 {
        if self.logarithmic { nats.max(LEAST).log10() } else { nats }
    }

    fn y(&self) -> Scale {
        let most = self.bars.iter().map(|(_, nats)| *nats).fold(2.0 * COLLAPSED_KL, f64::max);
        if self.logarithmic {
            Scale::logarithmic(LEAST.log10()..most.log10() + 0.2, 8)
        } else {
            Scale::linear(0.0..1.06 * most, 7)
        }
    }

    fn x(&self) -> (Scale, &'static str) {
        let range = -0.6..self.bars.len() as f64 - 0.4;
        let name =
            if self.sorted { "latent dimension, largest KL first" } else { "latent dimension" };
        if self.bars.len() <= NUMBERED {
            let number =
                |(at, (dimension, _)): (usize, &(usize, f64))| (at as f64, dimension.to_string());
            let ticks = self.bars.iter().enumerate().map(number).collect();
            return (Scale::with_ticks(range, ticks), name);
        }
        let name =
            if self.sorted { "rank of the latent dimension, largest KL first" } else { name };
        (Scale::whole(range, 10), name)
    }
}

impl Figure for KlBars {
    fn size(&self) -> [u32; 2] {
        [if self.bars.len() <= 24 { 900 } else { 1300 }, 540]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let all = self.bars.len();
        let active = all - self.collapsed;
        let threshold = VERMILION.stroke_width(3);
        let legend = [
            Entry::new(Mark::Bar(BLUE), format!("{active} active")),
            Entry::new(Mark::Bar(FAINT), format!("{} collapsed", self.collapsed)),
            Entry::new(Mark::Dashed(threshold), format!("{COLLAPSED_KL} nats")),
        ];
        let (scale, name) = self.x();
        let panel = Panel {
            title: &format!("KL of each latent dimension: {:.2} nats in total", self.total),
            x: Axis::new(name, scale).without_grid(),
            y: Axis::new("KL (nats per example)", self.y()),
            legend: &legend,
            least_legend: 0,
        };
        let mut chart = panel.draw(area)?;
        let floor = self.y().bounds().start;
        chart.draw_series(self.bars.iter().enumerate().map(|(at, (_, nats))| {
            let (at, color) = (at as f64, if *nats < COLLAPSED_KL { FAINT } else { BLUE });
            Rectangle::new([(at - 0.4, floor), (at + 0.4, self.on_axis(*nats))], color.filled())
        }))?;
        let line = self.on_axis(COLLAPSED_KL);
        let ends = self.x().0.bounds();
        let along = [(ends.start, line), (ends.end, line)];
        chart.draw_series(DashedLineSeries::new(along, 16, 14, threshold))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{png, svg};

    #[test]
    fn draws_any_number_of_dimensions() {
        for (dimensions, logarithmic) in [(1, false), (1, true), (20, false), (300, true)] {
            let bars: Vec<(usize, f64)> =
                (0..dimensions).map(|i| (i, 3.0 / (1.0 + i as f64 * i as f64))).collect();
            let total = bars.iter().map(|bar| bar.1).sum();
            let figure = KlBars { bars, sorted: true, logarithmic, collapsed: 0, total };
            png(&figure).unwrap();
        }
        // All dimensions collapsed, with a KL of exactly 0.
        let bars = vec![(0, 0.0), (1, 0.0)];
        let figure = KlBars { bars, sorted: false, logarithmic: true, collapsed: 2, total: 0.0 };
        assert!(svg(&figure).unwrap().contains("2 collapsed"));
    }
}
