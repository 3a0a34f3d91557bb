//! The learning curves of a run: the loss and its terms by epoch.

use super::legend::Entry;
use super::panel::{Axis, Panel};
use super::scale::{Scale, around};
use super::style::{BLUE, LINE, ORANGE, PURPLE};
use super::{Area, DrawResult, Figure};
use crate::model::history::EpochRecord;
use elbo::vae::{Likelihood, Objective, Penalty};
use plotters::prelude::*;

/// Width of the figure and height of a row of panels.
const WIDTH: u32 = 1500;
const HEIGHT: u32 = 500;
/// Maximum number of epochs with a marker each.
const FEW: usize = 30;
const NATS: &str = "nats per example";

/// The title of the loss panel.
fn loss_title(objective: &Objective) -> &'static str {
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

/// Loss, reconstruction and KL in a panel each, which differ too much in size for one axis; below them the
/// KL weight and the learning rate, if they change.
pub struct HistoryFigure<'a> {
    epochs: &'a [EpochRecord],
    /// Title of the loss panel.
    loss: &'static str,
    /// Unit of the loss and of the reconstruction.
    unit: &'static str,
}

/// Reads a quantity from the record of an epoch.
type Value = fn(&EpochRecord) -> f64;

struct EpochCurve {
    name: &'static str,
    color: RGBColor,
    value: Value,
}

impl EpochCurve {
    /// The train and validation curves of a term.
    const fn pair(train: Value, validation: Value) -> [Self; 2] {
        [
            Self { name: "train", color: ORANGE, value: train },
            Self { name: "validation", color: BLUE, value: validation },
        ]
    }
}

const TERMS: [[EpochCurve; 2]; 3] = [
    EpochCurve::pair(|e| e.train_loss, |e| e.validation_loss),
    EpochCurve::pair(|e| e.train_reconstruction, |e| e.validation_reconstruction),
    EpochCurve::pair(|e| e.train_kl, |e| e.validation_kl),
];

const BETA: EpochCurve = EpochCurve { name: "β", color: PURPLE, value: |e| f64::from(e.beta) };
const RATE: EpochCurve =
    EpochCurve { name: "learning rate", color: PURPLE, value: |e| e.learning_rate };

impl<'a> HistoryFigure<'a> {
    pub fn new(epochs: &'a [EpochRecord], objective: Option<&Objective>) -> Self {
        Self { epochs, loss: objective.map_or("Loss", loss_title), unit: NATS }
    }

    /// Sets the unit for a likelihood: a squared error is not in nats.
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

    /// Number of panels in the second row.
    fn below(&self) -> usize {
        usize::from(self.beta_changes()) + usize::from(self.rate_changes())
    }

    fn panel<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        title: &str,
        unit: &str,
        curves: &[EpochCurve],
    ) -> DrawResult {
        let last = self.epochs.last().map_or(1, |epoch| epoch.epoch);
        let first = self.epochs.first().map_or(1, |epoch| epoch.epoch);
        let values = || curves.iter().flat_map(|curve| self.epochs.iter().map(curve.value));
        let legend: Vec<Entry> = match curves {
            [_] => Vec::new(),
            _ => curves.iter().map(|curve| Entry::line(curve.color, curve.name)).collect(),
        };
        let panel = Panel {
            title,
            // Half an epoch on either side centers a single epoch.
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
            let line = curve.color.stroke_width(LINE);
            chart.draw_series(LineSeries::new(points.clone(), line))?;
            if self.epochs.len() <= FEW {
                chart.draw_series(points.map(|at| Circle::new(at, 8, curve.color.filled())))?;
            }
        }
        Ok(())
    }
}

impl Figure for HistoryFigure<'_> {
    fn size(&self) -> [u32; 2] {
        [WIDTH, HEIGHT * (1 + u32::from(self.below() > 0))]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
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
    use super::*;
    use crate::figure::{png, svg};

    fn history(epochs: usize) -> Vec<EpochRecord> {
        let epoch = |epoch: usize| {
            let fall = (-0.5 * epoch as f64).exp();
            let (reconstruction, kl) = (80.0 + 60.0 * fall, 25.0 - 12.0 * fall);
            EpochRecord {
                epoch,
                train_loss: reconstruction + kl + 2.0 * fall - 1.0,
                train_reconstruction: reconstruction + 2.0 * fall - 1.0,
                train_kl: kl,
                validation_loss: reconstruction + kl + 0.4,
                validation_reconstruction: reconstruction,
                validation_kl: kl + 0.4,
                validation_active_units: 20,
                beta: 1.0,
                learning_rate: 1e-3,
                images_per_second: None,
            }
        };
        (1..=epochs).map(epoch).collect()
    }

    #[test]
    fn draws_train_and_test_curves_in_each_panel() {
        for epochs in [1, 2, 10, 200] {
            let epochs = history(epochs);
            let image = png(&HistoryFigure {
                loss: "Loss (negative ELBO)",
                ..HistoryFigure::new(&epochs, None)
            })
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
    fn draws_kl_weight_and_learning_rate_if_they_change() {
        let mut epochs = history(5);
        let titles = |epochs: &[EpochRecord]| {
            let text = svg(&HistoryFigure::new(epochs, None)).unwrap();
            ["Weight of the KL", "Learning rate"].map(|title| text.contains(title))
        };
        assert_eq!(titles(&epochs), [false, false]);
        epochs[4].learning_rate = 1e-4;
        assert_eq!(titles(&epochs), [false, true]);
        epochs[0].beta = 0.2;
        assert_eq!(titles(&epochs), [true, true]);
        assert_eq!(HistoryFigure::new(&epochs, None).size(), [1500, 1000]);
    }

    #[test]
    fn squared_error_is_not_in_nats() {
        let epochs = history(3);
        let nats = |likelihood| {
            let text = svg(&HistoryFigure::new(&epochs, None).of(likelihood)).unwrap();
            text.matches(">\nnats per example\n").count()
        };
        assert_eq!(nats(Likelihood::Bernoulli), 3);
        assert_eq!(nats(Likelihood::SquaredError), 1);
    }
}
