//! How the loss and its parts went from epoch to epoch.

use super::figure::{Area, DrawError, Figure, write};
use super::legend::{Entry, Mark};
use super::panel::{Axis, Panel};
use super::scale::{Scale, around};
use super::style::{BLUE, ORANGE, PURPLE};
use crate::args;
use crate::failure::{Failure, Result};
use crate::history::{self, Epoch};
use crate::model;
use elbo::vae::{Likelihood, Objective, Penalty};
use plotters::prelude::*;
use std::path::PathBuf;

/// Width of the figure and height of a row of its panels.
const WIDTH: u32 = 1500;
const HEIGHT: u32 = 500;
/// Marks show where the values are while there are few of them.
const FEW: usize = 30;
const NATS: &str = "nats per example";

pub fn run(args: &args::History) -> Result<()> {
    let (epochs, known) = read(args)?;
    let figure = match &known {
        None => History::new(&epochs, None),
        Some(known) => History::new(&epochs, Some(&known.objective)).of(known.likelihood),
    };
    write(&figure, &args.out)
}

/// What a model file says of the loss.
struct Known {
    objective: Objective,
    likelihood: Likelihood,
}

/// The epochs, and what was optimized where a model file says so.
fn read(args: &args::History) -> Result<(Vec<Epoch>, Option<Known>)> {
    if let Some(path) = &args.model {
        let (vae, notes) = model::open(path)?;
        let training = notes.training.ok_or_else(|| {
            Failure::Run(format!(
                "{}: the file holds no history; expected a model.safetensors that `elbo train` wrote",
                path.display()
            ))
        })?;
        return Ok((
            training.history,
            Some(Known { objective: training.objective, likelihood: vae.config().likelihood() }),
        ));
    }
    if let Some(path) = &args.history {
        return Ok((history::read_csv(path)?, None));
    }
    let folder: PathBuf = args.run.iter().collect();
    let epochs = history::read_csv(&folder.join("history.csv"))?;
    // The table is drawn also where the model has gone.
    let opened = model::open(&folder.join("model.safetensors")).ok();
    let known = opened.and_then(|(vae, notes)| {
        notes.training.map(|training| Known {
            objective: training.objective,
            likelihood: vae.config().likelihood(),
        })
    });
    Ok((epochs, known))
}

/// What the loss is, over its chart.
fn title_of(objective: &Objective) -> &'static str {
    match objective.penalty {
        Penalty::Kl
            if *objective
                == Objective { reduction: objective.reduction, ..Objective::default() } =>
        {
            "Loss (negative ELBO)"
        }
        Penalty::Kl => "Loss (reconstruction + β × KL)",
        Penalty::FreeBits { .. } => "Loss (with free bits)",
        Penalty::Capacity { .. } => "Loss (with a capacity)",
        Penalty::TotalCorrelation { .. } => "Loss (β-TCVAE)",
        Penalty::Importance { .. } => "Loss (importance-weighted)",
        _ => "Loss",
    }
}

/// The three terms side by side, training and test in each; below them weight and learning rate, where
/// they change.
///
/// Side by side, because they differ so much in size that on one axis each would look flat.
pub struct History<'a> {
    epochs: &'a [Epoch],
    /// What the loss is: the title of the first panel.
    loss: &'static str,
    /// Of the loss and of the reconstruction.
    unit: &'static str,
}

/// A quantity of each epoch.
type Value = fn(&Epoch) -> f64;

struct Curve {
    name: &'static str,
    color: RGBColor,
    value: Value,
}

impl Curve {
    /// Training and test of a term.
    const fn pair(train: Value, test: Value) -> [Self; 2] {
        [
            Self { name: "train", color: ORANGE, value: train },
            Self { name: "test", color: BLUE, value: test },
        ]
    }
}

const TERMS: [[Curve; 2]; 3] = [
    Curve::pair(|e| e.train_loss, |e| e.test_loss),
    Curve::pair(|e| e.train_reconstruction, |e| e.test_reconstruction),
    Curve::pair(|e| e.train_kl, |e| e.test_kl),
];

const BETA: Curve = Curve { name: "β", color: PURPLE, value: |e| f64::from(e.beta) };
const RATE: Curve = Curve { name: "learning rate", color: PURPLE, value: |e| e.learning_rate };

impl<'a> History<'a> {
    pub fn new(epochs: &'a [Epoch], objective: Option<&Objective>) -> Self {
        Self { epochs, loss: objective.map_or("Loss", title_of), unit: NATS }
    }

    /// Of a model of this likelihood. A squared error is no logarithm of a probability.
    pub fn of(mut self, likelihood: Likelihood) -> Self {
        if matches!(likelihood, Likelihood::SquaredError | Likelihood::TanhSquaredError) {
            self.unit = "per example";
        }
        self
    }

    fn beta_changes(&self) -> bool {
        self.changes(|epoch| f64::from(epoch.beta))
    }

    fn rate_changes(&self) -> bool {
        self.changes(|epoch| epoch.learning_rate)
    }

    fn changes(&self, value: Value) -> bool {
        self.epochs.iter().any(|epoch| value(epoch) != value(&self.epochs[0]))
    }

    fn below(&self) -> usize {
        usize::from(self.beta_changes()) + usize::from(self.rate_changes())
    }

    fn panel<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        title: &str,
        unit: &str,
        curves: &[Curve],
    ) -> std::result::Result<(), DrawError> {
        let last = self.epochs.last().map_or(1, |epoch| epoch.epoch);
        let first = self.epochs.first().map_or(1, |epoch| epoch.epoch);
        let values = || curves.iter().flat_map(|curve| self.epochs.iter().map(curve.value));
        let legend: Vec<Entry> = match curves {
            [_] => Vec::new(),
            _ => curves
                .iter()
                .map(|curve| Entry::new(Mark::Line(curve.color.stroke_width(5)), curve.name))
                .collect(),
        };
        let panel = Panel {
            title,
            // Half an epoch of air on either side; a single epoch stands in the middle.
            x: Axis::new("epoch", Scale::whole(first as f64 - 0.5..last as f64 + 0.5, 10)),
            y: Axis::new(unit, Scale::linear(around(values(), 0.06), 9)),
            legend: &legend,
            least_legend: 0,
        };
        let mut chart = panel.draw(area)?;
        for curve in curves {
            let points = self
                .epochs
                .iter()
                .map(|epoch| (epoch.epoch as f64, (curve.value)(epoch)))
                .filter(|(_, value)| value.is_finite());
            let line = curve.color.stroke_width(5);
            chart.draw_series(LineSeries::new(points.clone(), line))?;
            if self.epochs.len() <= FEW {
                chart.draw_series(points.map(|at| Circle::new(at, 8, curve.color.filled())))?;
            }
        }
        Ok(())
    }
}

impl Figure for History<'_> {
    fn size(&self) -> [u32; 2] {
        [WIDTH, HEIGHT * (1 + u32::from(self.below() > 0))]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> std::result::Result<(), DrawError> {
        let rows = area.split_evenly((1 + usize::from(self.below() > 0), 1));
        let titles = [self.loss, "Reconstruction", "KL divergence"];
        let panels = rows[0].split_evenly((1, TERMS.len()));
        for (i, (panel, term)) in panels.iter().zip(&TERMS).enumerate() {
            self.panel(panel, titles[i], [self.unit, self.unit, NATS][i], term)?;
        }
        let Some(row) = rows.get(1) else { return Ok(()) };
        let mut below = row.split_evenly((1, self.below())).into_iter();
        if self.beta_changes()
            && let Some(panel) = below.next()
        {
            self.panel(&panel, "Weight of the KL divergence", "β", &[BETA])?;
        }
        if self.rate_changes()
            && let Some(panel) = below.next()
        {
            self.panel(&panel, "Learning rate", "learning rate", &[RATE])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{png, svg};
    use super::*;

    fn history(epochs: usize) -> Vec<Epoch> {
        let epoch = |epoch: usize| {
            let fall = (-0.5 * epoch as f64).exp();
            let (reconstruction, kl) = (80.0 + 60.0 * fall, 25.0 - 12.0 * fall);
            Epoch {
                epoch,
                train_loss: reconstruction + kl + 2.0 * fall - 1.0,
                train_reconstruction: reconstruction + 2.0 * fall - 1.0,
                train_kl: kl,
                test_loss: reconstruction + kl + 0.4,
                test_reconstruction: reconstruction,
                test_kl: kl + 0.4,
                test_active_units: 20,
                beta: 1.0,
                learning_rate: 1e-3,
                images_per_second: None,
            }
        };
        (1..=epochs).map(epoch).collect()
    }

    #[test]
    fn both_curves_are_drawn_in_each_panel() {
        for epochs in [1, 2, 10, 200] {
            let epochs = history(epochs);
            let image =
                png(&History { loss: "Loss (negative ELBO)", ..History::new(&epochs, None) })
                    .unwrap();
            for panel in 0..3 {
                for color in [ORANGE, BLUE] {
                    let drawn = image
                        .enumerate_pixels()
                        .filter(|(x, y, pixel)| {
                            // Below the legend.
                            *y > 75
                                && x / (WIDTH / 3) == panel
                                && pixel.0[0].abs_diff(color.0) < 40
                                && pixel.0[1].abs_diff(color.1) < 40
                                && pixel.0[2].abs_diff(color.2) < 40
                        })
                        .count();
                    assert!(drawn > 30, "{} epochs, panel {panel}: {drawn}", epochs.len());
                }
            }
        }
    }

    #[test]
    fn weight_and_learning_rate_are_drawn_where_they_change() {
        let mut epochs = history(5);
        let titles = |epochs: &[Epoch]| {
            let text = svg(&History::new(epochs, None)).unwrap();
            ["Weight of the KL", "Learning rate"].map(|title| text.contains(title))
        };
        assert_eq!(titles(&epochs), [false, false]);
        epochs[4].learning_rate = 1e-4;
        assert_eq!(titles(&epochs), [false, true]);
        epochs[0].beta = 0.2;
        assert_eq!(titles(&epochs), [true, true]);
        assert_eq!(History::new(&epochs, None).size(), [1500, 1000]);
    }

    #[test]
    fn a_squared_error_is_not_in_nats() {
        let epochs = history(3);
        let nats = |likelihood| {
            let text = svg(&History::new(&epochs, None).of(likelihood)).unwrap();
            text.matches(">\nnats per example\n").count()
        };
        assert_eq!(nats(Likelihood::Bernoulli), 3);
        assert_eq!(nats(Likelihood::SquaredError), 1);
    }
}
