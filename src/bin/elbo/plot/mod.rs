//! `elbo plot`: figures of a run, of a model's codes and of scores.

mod contour;
mod divergence;
mod figure;
mod history;
mod kl_bars;
mod latent;
mod legend;
mod panel;
mod ranking;
mod responses;
mod roc;
mod scale;
mod scores;
mod smooth;
mod strips;
mod style;

pub use figure::{write, write_png};
pub use history::History;
pub use responses::{MOST as MOST_PANELS, Response, Responses};
pub use strips::Strips;

use crate::args::{self, Figure};
use crate::failure::Result;
use elbo::Compute;

pub fn run(args: &args::Plot, compute: &Compute) -> Result<()> {
    match &args.what {
        Figure::History(args) => history::run(args),
        Figure::Latent(args) => latent::run(args, compute),
        Figure::KlPerDimension(args) => kl_bars::run(args, compute),
        Figure::Roc(args) => roc::run(args),
        Figure::Kl(args) => divergence::run(args, compute),
    }
}
