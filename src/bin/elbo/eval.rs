//! `elbo eval`.

use crate::args;
use crate::failure::Result;
use crate::history::thousands;
use crate::output::{say, say_json};
use elbo::Compute;
use elbo::vae::{Evaluation, Objective};
use serde::Serialize;

pub fn run(args: &args::Eval, compute: &Compute) -> Result<()> {
    let (vae, data) = args.input.open()?;
    let objective = Objective { beta: args.beta, ..Objective::default() };
    let rows = data.part(0..data.len());
    let result = vae.evaluate(compute, rows.as_ref(), &objective, args.seed)?;
    if args.json { say_json(&Report::of(&result)) } else { say(&text(&result, args.beta)) }
}

#[derive(Serialize)]
struct Report<'a> {
    rows: usize,
    loss: f64,
    reconstruction: f64,
    kl: f64,
    kl_per_dimension: &'a [f64],
    active_units: usize,
}

impl<'a> Report<'a> {
    fn of(result: &'a Evaluation) -> Self {
        Self {
            rows: result.rows,
            loss: result.loss,
            reconstruction: result.reconstruction,
            kl: result.kl,
            kl_per_dimension: &result.kl_per_dimension,
            active_units: result.active_units(),
        }
    }
}

fn text(result: &Evaluation, beta: f32) -> String {
    let mut text = format!(
        "{} rows, nats per example\n\
         loss            {:10.4}\n\
         reconstruction  {:10.4}\n\
         KL              {:10.4}{}\n\
         active units    {} of {} (the mean's variance over the data is above 0.01)\n\
         KL of each latent dimension",
        thousands(result.rows as f64),
        result.loss,
        result.reconstruction,
        result.kl,
        if beta == 1.0 { String::new() } else { format!(" (weighed with {beta} in the loss)") },
        result.active_units(),
        result.kl_per_dimension.len(),
    );
    for (dimension, kl) in result.kl_per_dimension.iter().enumerate() {
        text.push_str(&format!("\n{dimension:>14}  {kl:10.4}"));
    }
    text
}
