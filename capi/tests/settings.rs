//! Every member of the structures outside its domain: ELBO_OPTION, with what is expected and what was found.

mod common;

use common::{fill_row, message, status_name};
use elbo::elbo_status::*;
use elbo::*;
use std::ptr::{null, null_mut};

fn expect(status: elbo_status, statuses: &[elbo_status], what: &str) {
    assert!(statuses.contains(&status), "{what}: {}; {}", status_name(status), message());
}

/// Sets one member to each of some values and calls the function.
macro_rules! members {
    ($base:expr, $call:expr; $($member:ident { $($other:ident: $with:expr),* } : $($value:expr),+;)*) => {$(
        for value in [$($value),+] {
            let mut changed = $base;
            $(changed.$other = $with;)*
            changed.$member = value;
            let what = format!("{} = {value:?}", stringify!($member));
            expect($call(&changed), &[ELBO_OPTION], &what);
            let text = message();
            assert!(text.contains(": expected ") && text.contains('`'), "{what}: {text}");
        }
    )*};
}

#[test]
fn settings_outside_their_domains_are_rejected() {
    use elbo_annealing::*;
    use elbo_clip::*;
    use elbo_decay::*;
    use elbo_penalty_kind::*;
    let codes = [-1, 99, i32::MIN, i32::MAX];
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    // SAFETY: the functions of the header, called as it says.
    unsafe {
        let mut compute = null_mut();
        expect(elbo_compute_new(&mut compute, 1), &[ELBO_OK], "compute");
        let model = common::model(12, 3, 0);

        let mut config = std::mem::zeroed::<elbo_config>();
        expect(elbo_config_init(&mut config, 12, 3), &[ELBO_OK], "config");
        let widths = [7, 0, usize::MAX];
        (config.encoder, config.encoder_layers) = (widths.as_ptr(), 1);
        let new_model = |config: &elbo_config| {
            let mut model = null_mut();
            let status = elbo_model_new(&mut model, config, 1);
            assert_eq!(model.is_null(), status != ELBO_OK);
            elbo_model_free(model);
            status
        };
        expect(new_model(&config), &[ELBO_OK], "the defaults");
        for code in codes {
            members!(config, new_model;
                activation {}: code;
                likelihood {}: code;
                layer_norm {}: code;
                logvar_clamp {}: code;
            );
        }
        members!(config, new_model;
            features {}: 0, usize::MAX, 1 << 40;
            latent {}: 0, usize::MAX, 1 << 40;
            conditions {}: usize::MAX, 1 << 40;
            encoder_layers {}: 2, 3, 1001, usize::MAX;
            dropout {}: nan, infinity, -0.1, 1.0;
            prior_mean {}: nan, infinity;
            prior_std {}: nan, infinity, 0.0, -1.0;
            activation_parameter { activation: elbo_activation::ELBO_LEAKY_RELU as i32 }:
                nan, infinity, -1.0, 1.0;
            activation_parameter { activation: elbo_activation::ELBO_ELU as i32 }:
                nan, infinity, 0.0, -1.0;
            likelihood_parameter { likelihood: elbo_likelihood::ELBO_LIKELIHOOD_WEIGHTED_BERNOULLI as i32 }: nan, infinity, 0.0, -1.0;
            likelihood_parameter { likelihood: elbo_likelihood::ELBO_LIKELIHOOD_GAUSSIAN as i32 }: nan, infinity, 0.0, -1.0;
            logvar_low { logvar_clamp: 1, logvar_high: 4.0 }: nan, infinity, -81.0, 4.0;
            logvar_high { logvar_clamp: 1, logvar_low: -4.0 }: nan, infinity, 81.0, -4.0;
        );
        let mut no_widths = config;
        no_widths.encoder = null();
        expect(new_model(&no_widths), &[ELBO_NULL], "no widths");

        let mut options = std::mem::zeroed::<elbo_train_options>();
        expect(elbo_train_options_init(&mut options), &[ELBO_OK], "options");
        let new_trainer = |options: &elbo_train_options| {
            let mut trainer = null_mut();
            let status = elbo_trainer_new(&mut trainer, model, compute, options);
            assert_eq!(trainer.is_null(), status != ELBO_OK);
            elbo_trainer_free(trainer);
            status
        };
        expect(new_trainer(&options), &[ELBO_OK], "the defaults");
        for code in codes {
            members!(options, new_trainer;
                reduction {}: code;
                annealing {}: code;
                penalty {}: code;
                clip {}: code;
                decay {}: code;
                augmentation {}: code;
                per { penalty: ELBO_FREE_BITS as i32 }: code;
                per { penalty: ELBO_CAPACITY as i32 }: code;
                estimator { penalty: ELBO_IMPORTANCE as i32 }: code;
            );
        }
        let epochs = elbo_span { unit: 1, count: 8 };
        let spans = [elbo_span { unit: 2, count: 8 }, elbo_span { unit: 0, count: 0 }];
        let [unknown, empty] = spans;
        members!(options, new_trainer;
            batch {}: 0;
            accumulate {}: 0;
            shards {}: 0, 3, usize::MAX;
            beta {}: nan, infinity, -1.0;
            annealing_from { annealing: ELBO_ANNEALING_LINEAR as i32, annealing_over: epochs }:
                nan, infinity, -1.0;
            annealing_over { annealing: ELBO_ANNEALING_COSINE as i32 }: unknown, empty;
            annealing_cycles { annealing: ELBO_ANNEALING_CYCLICAL as i32, annealing_over: epochs }:
                0, 5;
            annealing_ratio { annealing: ELBO_ANNEALING_CYCLICAL as i32, annealing_over: epochs }:
                nan, infinity, 0.0, 1.1;
            lambda { penalty: ELBO_FREE_BITS as i32 }: nan, infinity, -1.0;
            gamma { penalty: ELBO_CAPACITY as i32, capacity_over: epochs }: nan, infinity, -1.0;
            capacity { penalty: ELBO_CAPACITY as i32, capacity_over: epochs }: nan, infinity, -1.0;
            capacity_over { penalty: ELBO_CAPACITY as i32 }: unknown, empty;
            alpha { penalty: ELBO_TOTAL_CORRELATION as i32 }: nan, infinity, -1.0;
            samples { penalty: ELBO_IMPORTANCE as i32 }: 0, usize::MAX;
            clip_limit { clip: ELBO_CLIP_NORM as i32 }: nan, infinity, 0.0, -1.0;
            clip_limit { clip: ELBO_CLIP_VALUE as i32 }: nan, infinity, 0.0, -1.0;
            decay_epochs { decay: ELBO_DECAY_STEP as i32, decay_factor: 0.5 }: 0;
            decay_factor { decay: ELBO_DECAY_STEP as i32, decay_epochs: 3 }:
                f64::NAN, f64::INFINITY, 0.0, 1.5;
            decay_factor { decay: ELBO_DECAY_PLATEAU as i32 }: f64::NAN, f64::INFINITY, 0.0, 1.0;
            decay_over { decay: ELBO_DECAY_COSINE as i32 }: unknown, empty;
            decay_floor { decay: ELBO_DECAY_COSINE as i32, decay_over: epochs }:
                f64::NAN, f64::INFINITY, -0.1, 1.1;
            augmentation_levels { augmentation: elbo_augmentation::ELBO_AUGMENTATION_DEQUANTIZE as i32 }: 0;
        );

        // The optimizer, in training and alone.
        let [mut w, mut m, mut v, g] = [[0.5_f32; 4]; 4];
        for kind in 0..4 {
            let mut optimizer = std::mem::zeroed::<elbo_optimizer>();
            expect(elbo_optimizer_init(&mut optimizer, kind), &[ELBO_OK], "optimizer");
            let mut use_it = |optimizer: &elbo_optimizer| {
                let mut options = options;
                options.optimizer = *optimizer;
                let status = new_trainer(&options);
                let (w, m, v) = (w.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr());
                assert_eq!(
                    elbo_optimizer_step(compute, optimizer, 1, w, m, v, g.as_ptr(), 4),
                    status
                );
                status
            };
            expect(use_it(&optimizer), &[ELBO_OK], "the defaults");
            let (nan, infinity) = (f64::NAN, f64::INFINITY);
            members!(optimizer, &mut use_it;
                kind {}: -1, 4, i32::MAX;
                learning_rate {}: nan, infinity, -1.0, 1e39;
                weight_decay {}: nan, infinity, -1.0, 1e39;
            );
            if kind == elbo_optimizer_kind::ELBO_SGD as i32 {
                members!(optimizer, &mut use_it;
                    momentum {}: nan, infinity, -0.1, 1.0;
                    nesterov {}: -1, 2, i32::MAX;
                );
            } else {
                members!(optimizer, &mut use_it;
                    beta1 {}: nan, infinity, -0.1, 1.0;
                    beta2 {}: nan, infinity, -0.1, 1.0;
                    epsilon {}: nan, infinity, -1.0;
                );
            }
        }

        // The terms of the losses.
        let numbers = [0.5_f32; 12];
        let x = numbers.as_ptr();
        let reconstruction =
            elbo_reconstruction { kind: 0, pos_weight: 1.0, logvar: 0.0, logvars: null() };
        let evaluate = |term: &elbo_reconstruction| {
            let mut value = 0.0;
            elbo_reconstruction_forward(compute, term, &mut value, x, 4, x, 4, 3, 4, 0)
        };
        expect(evaluate(&reconstruction), &[ELBO_OK], "Bernoulli");
        members!(reconstruction, evaluate;
            kind {}: -1, 10, i32::MIN, i32::MAX;
            pos_weight { kind: 1 }: nan, infinity, -1.0;
        );
        let mut per_feature = reconstruction;
        per_feature.kind = elbo_reconstruction_kind::ELBO_GAUSSIAN_PER_FEATURE as i32;
        expect(evaluate(&per_feature), &[ELBO_NULL], "no variances");
        per_feature.logvars = x.byte_add(1);
        expect(evaluate(&per_feature), &[ELBO_MISALIGNED], "variances");
        per_feature.logvars = x;
        expect(evaluate(&per_feature), &[ELBO_OK], "variances");
        let mut logvars = [0.5_f32; 12];
        per_feature.logvars = logvars.as_ptr();
        let (mut value, out) = (0.0, logvars.as_mut_ptr());
        let status = elbo_reconstruction_forward_backward(
            compute,
            &per_feature,
            &mut value,
            out,
            4,
            x,
            4,
            x,
            4,
            3,
            4,
            0,
        );
        expect(status, &[ELBO_OVERLAP], "variances in the gradient");

        let penalty = elbo_penalty {
            kind: 0,
            per: 2,
            lambda: 0.0,
            gamma: 1.0,
            nats: 0.0,
            prior_mean: 0.0,
            prior_std: 1.0,
        };
        let evaluate = |penalty: &elbo_penalty| {
            let mut value = 0.0;
            elbo_penalty_forward(compute, penalty, &mut value, x, 4, x, 4, 3, 4, 0)
        };
        expect(evaluate(&penalty), &[ELBO_OK], "KL");
        members!(penalty, evaluate;
            // The last two are those of training alone.
            kind {}: -1, 3, 4, 5, i32::MAX;
            per { kind: 1 }: -1, 3, 4;
            per { kind: 2 }: -1, 0, 1, 4;
            lambda { kind: 1 }: nan, infinity, -1.0;
            gamma { kind: 2 }: nan, infinity, -1.0;
            nats { kind: 2 }: nan, infinity, -1.0;
            prior_mean {}: nan, infinity;
            prior_std {}: nan, infinity, 0.0, -1.0;
        );

        elbo_model_free(model);
        elbo_compute_free(compute);
    }
}

#[test]
fn means_of_nothing_and_files_that_are_none_are_errors() {
    // SAFETY: as above.
    unsafe {
        let mut compute = null_mut();
        expect(elbo_compute_new(&mut compute, 1), &[ELBO_OK], "compute");
        let term = elbo_reconstruction { kind: 0, pos_weight: 0.0, logvar: 0.0, logvars: null() };
        let mut value = f64::NAN;
        // Null pointers of empty arrays: the sum of nothing is 0, its mean is none.
        let status = elbo_reconstruction_forward(
            compute,
            &term,
            &mut value,
            null(),
            0,
            null(),
            0,
            0,
            0,
            elbo_reduction::ELBO_SUM as i32,
        );
        expect(status, &[ELBO_OK], "a sum of nothing");
        assert_eq!(value, 0.0);
        let status =
            elbo_reconstruction_forward(compute, &term, &mut value, null(), 4, null(), 4, 0, 4, 0);
        expect(status, &[ELBO_SIZE], "a mean of nothing");

        let mut model = std::ptr::dangling_mut();
        let status = elbo_model_load(&mut model, c"/nonexistent/model".as_ptr());
        expect(status, &[ELBO_IO], "no file");
        assert!(model.is_null() && message().contains("/nonexistent/model: "), "{}", message());
        let path = std::env::temp_dir().join(format!("elbo-capi-none-{}", std::process::id()));
        std::fs::write(&path, "not a model").unwrap();
        let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        expect(elbo_model_load(&mut model, text.as_ptr()), &[ELBO_MODEL_FILE], "another file");
        let mut trainer = null_mut();
        let status = elbo_trainer_resume(&mut trainer, text.as_ptr(), compute);
        expect(status, &[ELBO_MODEL_FILE], "another file");
        std::fs::remove_file(&path).unwrap();

        let status = elbo_compute_new_with(&mut null_mut(), c"mmx".as_ptr(), 1);
        expect(status, &[ELBO_OPTION], "an unknown set");
        assert!(message().contains("`mmx`: this machine has scalar"), "{}", message());

        // A data set without rows, and a model of another width of data.
        let model = common::model(12, 3, 2);
        let mut data = elbo_dataset {
            rows: 0,
            read_row: Some(fill_row),
            read_condition: Some(fill_row),
            context: null_mut(),
        };
        let mut evaluation = std::mem::zeroed();
        let status = elbo_model_evaluate(model, compute, &mut evaluation, &data, 1);
        expect(status, &[ELBO_OPTION], "no rows");
        data.rows = usize::MAX;
        let status = elbo_model_evaluate(model, compute, &mut evaluation, &data, 1);
        expect(status, &[ELBO_OPTION], "too many rows");
        data.rows = 5;
        let status = elbo_model_evaluate(model, compute, &mut evaluation, &data, 1);
        expect(status, &[ELBO_OK], "conditions");
        data.read_condition = None;
        let status = elbo_model_evaluate(model, compute, &mut evaluation, &data, 1);
        expect(status, &[ELBO_NULL], "no conditions");
        assert!(message().ends_with("the model has 2 conditions a row"), "{}", message());
        elbo_model_free(model);
        elbo_compute_free(compute);
        // Nothing happens.
        elbo_compute_free(null_mut());
        elbo_model_free(null_mut());
        elbo_inference_free(null_mut());
        elbo_trainer_free(null_mut());
        elbo_panels_free(null_mut());
    }
}
