//! Training on several ranks, as threads of one process.

use elbo::distributed::{Communicator, ThreadRanks};
use elbo::loss::{CapacityPer, FreeBitsPer, Reduction};
use elbo::optim::{Clip, Sgd, Span};
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Likelihood, Objective, Penalty, Vae, Variance};
use elbo::{Compute, Dataset, Error, Result};
use ndarray::Array2;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn data(rows: usize, features: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, features), |(r, c)| ((r * 31 + c * 7) % 17) as f32 / 16.0)
}

fn config() -> Config {
    Config::builder(37, 3).hidden(&[29]).build().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The results of `work` on each of so many ranks.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Arc<ThreadRanks>) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let ranks = ThreadRanks::new(ranks).into_iter().map(Arc::new);
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn trainer(config: &Config, options: &Options) -> Result<Trainer> {
    Trainer::new(Vae::new(config.clone(), 1), options.clone(), Compute::serial())
}

/// The gradient of a batch is the sum of those of its shards, two neighbors at a time.
#[test]
fn the_gradient_is_a_tree_over_shards() {
    // The divisors of a sum do not depend on the number of rows.
    let objective = Objective { reduction: Reduction::Sum, ..Objective::default() };
    let x = data(50, 37);
    for rows in [50_u32, 49, 7, 3, 1] {
        let all: Vec<u32> = (0..rows).rev().collect();
        let gradient = |rows: &[u32], shards| {
            let options = Options { objective, shards, ..Options::default() };
            let mut trainer = trainer(&config(), &options).unwrap();
            trainer.gradient_of_rows(&x, rows).unwrap();
            trainer.gradient().unwrap().to_vec()
        };
        for shards in [2_usize, 4, 8, 16] {
            let bound = |i: usize| all.len() * i / shards;
            let mut tree: Vec<Vec<f32>> = (0..shards)
                .map(|i| match &all[bound(i)..bound(i + 1)] {
                    [] => vec![0.0; gradient(&[0], 1).len()],
                    rows => gradient(rows, 1),
                })
                .collect();
            while tree.len() > 1 {
                let add = |pair: &[Vec<f32>]| {
                    pair[0].iter().zip(&pair[1]).map(|(a, b)| a + b).collect::<Vec<f32>>()
                };
                tree = tree.chunks(2).map(add).collect();
            }
            assert_eq!(bits(&gradient(&all, shards)), bits(&tree[0]), "{rows} rows, {shards}");
        }
    }
}

fn objectives() -> Vec<(Config, Options)> {
    let of = |objective| (config(), Options { objective, ..Options::default() });
    let penalty = |penalty| of(Objective { penalty, ..Objective::default() });
    let optimal = Likelihood::Gaussian(Variance::Optimal);
    vec![
        of(Objective { beta: 2.0, reduction: Reduction::Mean, ..Objective::default() }),
        penalty(Penalty::FreeBits { lambda: 0.05, per: FreeBitsPer::Sample }),
        penalty(Penalty::FreeBits { lambda: 0.05, per: FreeBitsPer::Dimension }),
        penalty(Penalty::Capacity {
            gamma: 3.0,
            capacity: 1.0,
            over: Span::Steps(5),
            per: CapacityPer::Batch,
        }),
        (
            Config::builder(37, 3).hidden(&[29]).likelihood(optimal).build().unwrap(),
            Options::default(),
        ),
        (config(), Options { clip: Some(Clip::Norm(0.1)), ..Options::default() }),
        (config(), Options { optimizer: Sgd::default().into(), ..Options::default() }),
    ]
}

/// Three epochs, with a checkpoint after the first step of the second one that another number of ranks resumes.
#[test]
fn checkpoints_resume_on_another_number_of_ranks_to_the_same_bits() {
    let x = data(70, 37);
    let folder = std::env::temp_dir().join(format!("elbo-ranks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("checkpoint.safetensors");
    for (config, options) in objectives() {
        // Batches of 30, 30 and 10 rows.
        let options = Options { batch: 30, shards: 4, ..options };
        let run = |rank: Arc<ThreadRanks>, from: Option<Trainer>, steps: u64| {
            let trainer = from.unwrap_or_else(|| trainer(&config, &options).unwrap());
            let mut trainer = trainer.with_ranks(rank).unwrap();
            while trainer.steps() < steps {
                trainer.step(&x).unwrap();
            }
            trainer
        };
        let whole = on_ranks(1, |rank| run(rank, None, 9)).remove(0);
        for [before, after] in [[4, 2], [2, 1], [1, 4]] {
            let halted = on_ranks(before, |rank| run(rank, None, 4)).remove(0);
            halted.save_checkpoint(&path).unwrap();
            let resumed = on_ranks(after, |rank| {
                let from = Trainer::resume(&path, Compute::serial()).unwrap();
                run(rank, Some(from), 9)
            });
            for trainer in resumed {
                let same = bits(trainer.vae().parameters()) == bits(whole.vae().parameters());
                assert!(same, "{before} and {after} ranks: {options:?}");
                assert_eq!(trainer.epoch_so_far(), whole.epoch_so_far());
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Shards change the last digits alone.
#[test]
fn any_number_of_ranks_and_shards_is_close_to_one() {
    let x = data(96, 37);
    for (config, options) in objectives() {
        let options = Options { batch: 25, ..options };
        let run = |rank: Arc<ThreadRanks>, shards| {
            let options = Options { shards, ..options.clone() };
            let mut trainer = trainer(&config, &options).unwrap().with_ranks(rank).unwrap();
            while trainer.steps() < 100 {
                trainer.step(&x).unwrap();
            }
            trainer.into_vae().parameters().to_vec()
        };
        let one = on_ranks(1, |rank| run(rank, 1)).remove(0);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let length = norm(&mut one.iter().map(|&w| f64::from(w)));
        for (ranks, shards) in [(1, 4), (3, 1), (2, 1), (5, 1)] {
            let found = on_ranks(ranks, |rank| run(rank, shards));
            assert!(found.iter().all(|weights| bits(weights) == bits(&found[0])));
            let mut differences =
                found[0].iter().zip(&one).map(|(a, b)| f64::from(*a) - f64::from(*b));
            let distance = norm(&mut differences) / length;
            assert!(distance < 1e-5, "{ranks} ranks, {shards} shards: {distance}: {options:?}");
        }
    }
}

#[test]
fn noise_of_the_caller_is_cut_with_the_rows() {
    let x = data(13, 37);
    let noise = Array2::from_shape_fn((13, 3), |(r, c)| ((r * 5 + c) % 7) as f32 / 3.0 - 1.0);
    let options = Options { shards: 4, ..Options::default() };
    let run = |rank: Arc<ThreadRanks>| {
        let mut trainer = trainer(&config(), &options).unwrap().with_ranks(rank).unwrap();
        trainer.step_with_noise(&x, noise.view()).unwrap();
        let loss = trainer.gradient_with_noise(&x, noise.view()).unwrap().loss;
        trainer.apply_gradient().unwrap();
        (loss, bits(trainer.vae().parameters()))
    };
    let alone = on_ranks(1, run).remove(0);
    let mut chain = trainer(&config(), &Options::default()).unwrap();
    chain.step_with_noise(&x, noise.view()).unwrap();
    let expected = chain.gradient_with_noise(&x, noise.view()).unwrap().loss;
    assert!((alone.0 - expected).abs() < 1e-4 * expected, "{} {expected}", alone.0);
    for ranks in [2, 4] {
        assert!(on_ranks(ranks, run).into_iter().all(|found| found == alone));
    }
}

#[test]
fn rejects_what_cannot_be_cut_into_shards() {
    let message = |config: &Config, options: &Options, ranks| {
        let of = |rank: Arc<ThreadRanks>| {
            trainer(config, options).and_then(|trainer| trainer.with_ranks(rank))
        };
        let mut messages = on_ranks(ranks, |rank| of(rank).err().unwrap().to_string());
        messages.dedup();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    };
    for shards in [0, 3, 6, 2048] {
        let options = Options { shards, ..Options::default() };
        let expected = format!("`shards`: expected a power of two from 1 to 1024, found {shards}");
        assert_eq!(message(&config(), &options, 1), expected);
    }
    let options = Options { shards: 4, ..Options::default() };
    for ranks in [3, 8] {
        assert_eq!(
            message(&config(), &options, ranks),
            format!(
                "`ranks`: expected a number that divides the shards, found {ranks}; with 4 shards, 1, 2 or 4 would do"
            )
        );
    }
    let penalty = Penalty::TotalCorrelation { alpha: 1.0, gamma: 1.0 };
    let objective = Objective { beta: 2.0, penalty, ..Objective::default() };
    for (shards, ranks, setting) in [(2, 1, "shards"), (1, 2, "ranks")] {
        let options = Options { shards, objective, ..Options::default() };
        assert_eq!(
            message(&config(), &options, ranks),
            format!(
                "`{setting}`: expected 1 with total correlation, which compares all rows of a batch with one \
                 another, found 2"
            )
        );
        let penalty = Penalty::FreeBits { lambda: 0.1, per: FreeBitsPer::Dimension };
        let objective = Objective { penalty, ..Objective::default() };
        let options = Options { shards, objective, accumulate: 2, ..Options::default() };
        let found = message(&config(), &options, ranks);
        assert!(found.starts_with(&format!("`{setting}`: expected 1 with gradient")), "{found}");
    }
}

#[test]
fn ranks_with_other_options_are_named() {
    let errors = on_ranks(3, |rank| {
        let seed = if rank.rank() == 2 { 5 } else { 1 };
        let options = Options { seed, ..Options::default() };
        trainer(&config(), &options).unwrap().with_ranks(rank).err().unwrap().to_string()
    });
    for error in errors {
        assert_eq!(error, "rank 2: its model, options or state differ from those of rank 0");
    }
}

#[test]
fn other_weights_are_found_with_their_rank_and_step() {
    let x = data(60, 37);
    let errors = on_ranks(2, |rank| {
        let options = Options { batch: 30, shards: 2, ..Options::default() };
        let index = rank.rank();
        let mut trainer = trainer(&config(), &options).unwrap().with_ranks(rank).unwrap();
        trainer.gradient_of_rows(&x, &[0, 1, 2]).unwrap();
        if index == 1 {
            // As a bit that has flipped in memory.
            trainer.gradient_mut().unwrap()[0] += 1.0;
        }
        trainer.apply_gradient().unwrap();
        loop {
            if let Err(error) = trainer.step(&x) {
                return (error.to_string(), trainer.steps());
            }
        }
    });
    for found in errors {
        let message = "rank 1: its weights differ from those of rank 0 after step 100";
        assert_eq!(found, (message.to_owned(), 100));
    }
}

/// Rows of which some are NaN, or panic, once they are read for the n-th time.
struct Faulty {
    x: Array2<f32>,
    row: usize,
    panics: bool,
    reads: AtomicUsize,
}

impl Dataset for Faulty {
    fn row_count(&self) -> usize {
        self.x.nrows()
    }

    fn features(&self) -> usize {
        self.x.ncols()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.x.read_row(row, out);
        // In the second epoch.
        let faulty = self.x.nrows().saturating_sub(self.row);
        if row >= self.row && self.reads.fetch_add(1, Ordering::Relaxed) > faulty {
            assert!(!self.panics, "the disk is gone");
            out[3] = f32::NAN;
        }
    }
}

#[test]
fn a_rank_that_errs_stops_all_with_its_message_and_the_weights_before() {
    for ranks in [2, 3, 4] {
        let shards = if ranks == 3 { 1 } else { 4 };
        let results = on_ranks(ranks, |rank| {
            let index = rank.rank();
            let x = data(60, 37);
            let clean = x.clone();
            let data = Faulty { x, row: 40, panics: false, reads: AtomicUsize::new(0) };
            let options = Options { batch: 20, shards, ..Options::default() };
            let mut trainer = trainer(&config(), &options).unwrap().with_ranks(rank).unwrap();
            let mut before;
            let error = loop {
                before = bits(trainer.vae().parameters());
                if let Err(error) = trainer.step(&data) {
                    break error;
                }
            };
            assert_eq!(bits(trainer.vae().parameters()), before);
            // All go on with the same batch.
            trainer.step(&clean).unwrap();
            (index, error, bits(trainer.vae().parameters()))
        });
        let own: Vec<_> = results
            .iter()
            .filter(|(_, error, _)| matches!(error, Error::NotFiniteData { .. }))
            .collect();
        assert_eq!(own.len(), 1, "{results:?}");
        let (failed, error, weights) = own[0];
        for (index, found, after) in &results {
            if index != failed {
                assert_eq!(found.to_string(), format!("rank {failed}: {error}"));
            }
            assert_eq!(after, weights);
        }
    }
}

#[test]
fn a_panic_at_one_rank_is_an_error_at_the_others() {
    let results = on_ranks(2, |rank| {
        let index = rank.rank();
        let row = if index == 1 { 0 } else { usize::MAX };
        let data = Faulty { x: data(60, 37), row, panics: true, reads: AtomicUsize::new(0) };
        let options = Options { batch: 20, ..Options::default() };
        let mut trainer = trainer(&config(), &options).unwrap().with_ranks(rank).unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            loop {
                if let Err(error) = trainer.step(&data) {
                    return error.to_string();
                }
            }
        });
        std::panic::catch_unwind(run)
    });
    let message = results[0].as_ref().unwrap();
    assert_eq!(message, "rank 1: panicked: the disk is gone");
    assert!(results[1].is_err());
}

#[test]
fn the_end_of_a_rank_ends_the_others() {
    for ranks in [2, 3, 4] {
        let x = data(60, 37);
        let errors = on_ranks(ranks, |rank| {
            let last = rank.rank() + 1 == rank.ranks();
            let options = Options { batch: 20, ..Options::default() };
            let mut trainer = trainer(&config(), &options).unwrap().with_ranks(rank).unwrap();
            loop {
                if last && trainer.steps() == 7 {
                    return None;
                }
                if let Err(error) = trainer.step(&x) {
                    return Some(error.to_string());
                }
            }
        });
        let (last, others) = errors.split_last().unwrap();
        assert_eq!(*last, None);
        for error in others {
            let error = error.as_ref().unwrap();
            assert!(error.ends_with("the rank has ended"), "{error}");
        }
    }
}
