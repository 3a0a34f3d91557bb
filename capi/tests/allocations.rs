//! Inference, losses and optimizers allocate nothing after their set-up, nor does a training step that is not the first.

mod common;

use common::{Memory, fill_row, message};
use elbo::elbo_status::ELBO_OK;
use elbo::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the contract of the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the contract of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Calls a function twice, and returns the allocations of the second call.
fn allocations(mut call: impl FnMut() -> elbo_status) -> usize {
    assert_eq!(call(), ELBO_OK, "{}", message());
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    let status = call();
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    assert_eq!(status, ELBO_OK, "{}", message());
    after - before
}

/// One test alone: the count is that of the process.
#[test]
fn nothing_is_allocated_after_the_set_up() {
    const D: usize = 40;
    const Z: usize = 4;
    let mut memory = Memory::default();
    for (threads, conditions) in [(1, 0), (3, 0), (1, 5), (3, 5)] {
        let model = common::model(D, Z, conditions);
        // SAFETY: the functions of the header, called as it says.
        unsafe {
            let mut compute = null_mut();
            assert_eq!(elbo_compute_new(&mut compute, threads), ELBO_OK);
            for (rows, gap) in [(1, 0), (8, 0), (700, 0), (1, 3), (700, 3)] {
                let mut inference = null_mut();
                assert_eq!(elbo_inference_new(&mut inference, model, compute), ELBO_OK);
                let (x_stride, z_stride, c_stride) = (D + gap, Z + gap, conditions + gap);
                let [x, out, dout] = [(); 3].map(|()| memory.floats(rows * x_stride));
                let [mu, logvar, dmu, dlogvar] = [(); 4].map(|()| memory.floats(rows * z_stride));
                let c = if conditions == 0 {
                    null()
                } else {
                    memory.floats(rows * c_stride).cast_const()
                };
                let [values, kl] = [(); 2].map(|()| memory.doubles(rows));
                let what =
                    format!("{threads} threads, {conditions} conditions, {rows} rows, gap {gap}");
                let encode = || {
                    elbo_encode(
                        inference, mu, z_stride, logvar, z_stride, x, x_stride, c, c_stride, rows,
                    )
                };
                assert_eq!(allocations(encode), 0, "encode, {what}");
                let decode =
                    || elbo_decode(inference, out, x_stride, mu, z_stride, c, c_stride, rows);
                assert_eq!(allocations(decode), 0, "decode, {what}");
                let reconstruct =
                    || elbo_reconstruct(inference, out, x_stride, x, x_stride, c, c_stride, rows);
                assert_eq!(allocations(reconstruct), 0, "reconstruct, {what}");
                let score = || elbo_score(inference, values, kl, x, x_stride, c, c_stride, rows);
                assert_eq!(allocations(score), 0, "score, {what}");
                let sample = || elbo_sample(inference, out, x_stride, c, c_stride, rows, 1, 0);
                assert_eq!(allocations(sample), 0, "sample, {what}");
                elbo_inference_free(inference);

                let term =
                    elbo_reconstruction { kind: 0, pos_weight: 0.0, logvar: 0.0, logvars: null() };
                let penalty = elbo_penalty {
                    kind: 0,
                    per: 0,
                    lambda: 0.0,
                    gamma: 0.0,
                    nats: 0.0,
                    prior_mean: 0.0,
                    prior_std: 1.0,
                };
                let mut value = std::mem::zeroed();
                let objective = || {
                    elbo_objective_forward_backward(
                        compute, &term, &penalty, 1.0, &mut value, dout, x_stride, dmu, z_stride,
                        dlogvar, z_stride, out, x_stride, x, x_stride, mu, z_stride, logvar,
                        z_stride, rows, D, Z, 0,
                    )
                };
                assert_eq!(allocations(objective), 0, "objective, {what}");
                let mut optimizer = std::mem::zeroed();
                assert_eq!(elbo_optimizer_init(&mut optimizer, 0), ELBO_OK);
                let update = || {
                    elbo_optimizer_step(compute, &optimizer, 1, mu, logvar, dmu, dlogvar, rows * Z)
                };
                assert_eq!(allocations(update), 0, "Adam, {what}");
            }
            let mut options = std::mem::zeroed();
            assert_eq!(elbo_train_options_init(&mut options), ELBO_OK);
            options.batch = 64;
            let mut trainer = null_mut();
            assert_eq!(elbo_trainer_new(&mut trainer, model, compute, &options), ELBO_OK);
            let data = elbo_dataset {
                rows: 1000,
                read_row: Some(fill_row),
                read_condition: Some(fill_row),
                context: null_mut(),
            };
            let mut step = std::mem::zeroed();
            let train = || elbo_trainer_step(trainer, &mut step, &data);
            assert_eq!(allocations(train), 0, "step, {threads} threads, {conditions} conditions");
            elbo_trainer_free(trainer);
            elbo_compute_free(compute);
            elbo_model_free(model);
        }
    }
    // The count counts.
    let mut model = null_mut();
    // SAFETY: as above.
    let new = || unsafe {
        elbo_model_free(model);
        model = common::model(D, Z, 0);
        ELBO_OK
    };
    assert!(allocations(new) > 0);
}
