//! Every function of the header with null, misaligned and overlapping pointers, strides and sizes that do not fit,
//! and settings outside their domains: an error with a message, never a crash.
//!
//! A table lists the arguments of each function by kind. The test calls the function as it should be called, and
//! then once for each way in which one of the arguments can be wrong. It reads the names of the functions from
//! `include/elbo.h`, so that none is left out.

mod common;

use common::{Memory, fill_row, message, model, status_name};
use elbo::elbo_status::*;
use elbo::*;
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// An argument, as a machine word, and what can be wrong with it.
#[derive(Clone, Copy)]
struct Argument {
    value: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A handle or a structure: neither null nor misaligned.
    Pointer,
    /// The same, or null.
    OptionalPointer,
    /// Text: not null.
    Text,
    /// An array that is read.
    Input,
    /// An array that is written.
    Output,
    /// A place for one result of another kind than numbers: not part of the check for overlaps.
    Place,
    /// A stride: no less than so many columns.
    Stride(usize),
    /// A number of rows or elements: multiplied by others, it may leave the address space.
    Size,
    /// The same for memory that the function makes.
    Allocation,
    /// A number of threads.
    Threads,
    /// A constant of an enum.
    Code,
    /// A finite f32, or f64.
    Float,
    Double,
    /// Any number, or a pointer that is only passed on.
    Free,
}
use Kind::*;

/// A call with these arguments.
type Call = dyn Fn(&[usize]) -> elbo_status;

struct Function {
    name: &'static str,
    arguments: Vec<Argument>,
    call: Box<Call>,
}

/// A function with its arguments in order: `kind => value`.
macro_rules! function {
    (@convert $value:expr, Float) => { f32::from_bits($value as u32) };
    (@convert $value:expr, Double) => { f64::from_bits($value as u64) };
    (@convert $value:expr, OnStep) => {{
        let _ = $value;
        None
    }};
    (@convert $value:expr, $($kind:tt)+) => { $value as _ };
    (@kind OnStep) => { Free };
    (@kind $($kind:tt)+) => { $($kind)+ };
    ($name:ident($($kind:ident $(($columns:expr))? => $value:expr),* $(,)?)) => {{
        let arguments = vec![$(Argument {
            value: $value as usize,
            kind: function!(@kind $kind $(($columns))?),
        }),*];
        let call = |words: &[usize]| {
            let mut words = words.iter().copied();
            $name($(function!(@convert words.next().unwrap(), $kind)),*)
        };
        Function { name: stringify!($name), arguments, call: Box::new(call) }
    }};
}

impl Function {
    fn check(&self) {
        let words: Vec<usize> = self.arguments.iter().map(|argument| argument.value).collect();
        // As it should be, before and after everything else.
        self.expect(&words, &[ELBO_OK], "as it should be");
        for (at, argument) in self.arguments.iter().enumerate() {
            let with = |value: usize, statuses: &[elbo_status], what: &str| {
                let mut words = words.clone();
                words[at] = value;
                self.expect(&words, statuses, &format!("argument {at} {what}"));
            };
            let pointer = argument.value;
            match argument.kind {
                Pointer | Input | Output | Place | Text => with(0, &[ELBO_NULL], "null"),
                OptionalPointer => with(0, &[ELBO_OK], "null"),
                Stride(columns) => {
                    with(columns - 1, &[ELBO_STRIDE], "below the columns");
                    with(0, &[ELBO_STRIDE], "0");
                    with(usize::MAX, &[ELBO_SIZE], "beyond the address space");
                    with(usize::MAX / 4, &[ELBO_SIZE], "beyond the address space");
                }
                Size => {
                    for size in [usize::MAX, usize::MAX / 2, usize::MAX / 8, 1 << 62] {
                        // More columns than a stride are an error of the stride; sizes just inside of the
                        // address space overlap.
                        with(size, &[ELBO_SIZE, ELBO_STRIDE, ELBO_OVERLAP], &format!("{size}"));
                    }
                }
                Allocation => {
                    for size in [usize::MAX, usize::MAX - 14, usize::MAX / 2, 1 << 62] {
                        with(size, &[ELBO_MEMORY], &format!("{size}"));
                    }
                }
                Threads => {
                    for threads in [usize::MAX, 1 << 40, 100_000] {
                        with(threads, &[ELBO_OPTION], &format!("{threads}"));
                    }
                }
                Code => {
                    for code in [-1, 99, i32::MIN, i32::MAX] {
                        with(code as usize, &[ELBO_OPTION], &format!("{code}"));
                    }
                }
                Float => {
                    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        with(value.to_bits() as usize, &[ELBO_OPTION], &format!("{value}"));
                    }
                }
                Double => {
                    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                        with(value.to_bits() as usize, &[ELBO_OPTION], &format!("{value}"));
                    }
                }
                Free => {}
            }
            if matches!(argument.kind, Pointer | OptionalPointer | Input | Output | Place) {
                for bytes in [1, 2, 3] {
                    with(pointer + bytes, &[ELBO_MISALIGNED], &format!("misaligned by {bytes}"));
                }
            }
            if argument.kind == Output {
                for (other_at, other) in self.arguments.iter().enumerate() {
                    if other_at != at && matches!(other.kind, Output | Input) {
                        // The first bytes of both, and, of another alignment, the next ones.
                        with(other.value, &[ELBO_OVERLAP], &format!("at argument {other_at}"));
                        with(
                            other.value + 8,
                            &[ELBO_OVERLAP, ELBO_OK],
                            &format!("8 bytes after argument {other_at}"),
                        );
                    }
                }
            }
        }
        self.expect(&words, &[ELBO_OK], "as it should be, again");
    }

    fn expect(&self, words: &[usize], statuses: &[elbo_status], what: &str) {
        let status = (self.call)(words);
        let (name, message) = (self.name, message());
        assert!(
            statuses.contains(&status),
            "{name}, {what}: {} and not {statuses:?}; {message}",
            status_name(status)
        );
        if status != ELBO_OK {
            assert!(message.starts_with(&format!("{name}: ")), "{name}, {what}: {message}");
            assert!(message.len() > name.len() + 20, "{name}, {what}: {message}");
        }
    }
}

/// Functions that return no status, which the last test calls.
const WITHOUT_STATUS: [&str; 14] = [
    "elbo_last_error_message",
    "elbo_status_name",
    "elbo_version",
    "elbo_compute_threads",
    "elbo_compute_instruction_set",
    "elbo_compute_free",
    "elbo_panels_free",
    "elbo_model_features",
    "elbo_model_latent",
    "elbo_model_conditions",
    "elbo_model_parameters",
    "elbo_model_free",
    "elbo_inference_free",
    "elbo_trainer_free",
];

fn float(value: f32) -> usize {
    value.to_bits() as usize
}

fn double(value: f64) -> usize {
    value.to_bits() as usize
}

#[test]
fn every_function_rejects_every_wrong_argument() {
    const ROWS: usize = 5;
    const D: usize = 12;
    const Z: usize = 3;
    const C: usize = 2;
    // SAFETY: the functions of the header, called as it says, or with what they have to reject.
    unsafe {
        let mut memory = Memory::default();
        let folder =
            std::env::temp_dir().join(format!("elbo-capi-contract-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file =
            |name: &str| std::ffi::CString::new(folder.join(name).to_str().unwrap()).unwrap();
        let (model_file, checkpoint) = (file("model.safetensors"), file("checkpoint.safetensors"));

        let mut compute = null_mut();
        assert_eq!(elbo_compute_new(&mut compute, 2), ELBO_OK);
        let model = model(D, Z, 0);
        let conditional = common::model(D, Z, C);
        let mut inference = null_mut();
        assert_eq!(elbo_inference_new(&mut inference, conditional, compute), ELBO_OK);
        let mut options = std::mem::zeroed::<elbo_train_options>();
        assert_eq!(elbo_train_options_init(&mut options), ELBO_OK);
        options.batch = 4;
        let mut trainer = null_mut();
        assert_eq!(elbo_trainer_new(&mut trainer, model, compute, &options), ELBO_OK);
        assert_eq!(elbo_model_save(model, model_file.as_ptr()), ELBO_OK);
        assert_eq!(elbo_trainer_save_checkpoint(trainer, checkpoint.as_ptr()), ELBO_OK);
        let mut panels = null_mut();
        assert_eq!(elbo_panels_new(&mut panels, D, Z), ELBO_OK);
        let mut config = std::mem::zeroed::<elbo_config>();
        assert_eq!(elbo_config_init(&mut config, D, Z), ELBO_OK);
        let bernoulli =
            elbo_reconstruction { kind: 0, pos_weight: 0.0, logvar: 0.0, logvars: null() };
        let gaussian = elbo_reconstruction { kind: 7, ..bernoulli };
        let kl = elbo_penalty {
            kind: 0,
            per: 0,
            lambda: 0.0,
            gamma: 0.0,
            nats: 0.0,
            prior_mean: 0.0,
            prior_std: 1.0,
        };
        let mut optimizer = std::mem::zeroed::<elbo_optimizer>();
        assert_eq!(elbo_optimizer_init(&mut optimizer, 0), ELBO_OK);
        let data = elbo_dataset {
            rows: 10,
            read_row: Some(fill_row),
            read_condition: None,
            context: null_mut(),
        };

        let mut place = null_mut::<c_void>();
        let place = &raw mut place;
        let mut evaluation = std::mem::zeroed::<elbo_evaluation>();
        let mut step = std::mem::zeroed::<elbo_step>();
        let mut epoch = std::mem::zeroed::<elbo_epoch>();
        let mut length = 0_usize;
        // Arrays of [ROWS, D] and [ROWS, Z] in rows of 16 numbers, each in memory of its own that has room for another at
        // its second number.
        let mut array = || memory.floats(ROWS * 32);
        let [outputs, targets, doutputs, mu, logvar, dmu, dlogvar, z, dz] =
            [(); 9].map(|()| array());
        let [w, m, v, g, weight, conditions] = [(); 6].map(|()| array());
        let [values, of_kl] = [(); 2].map(|()| memory.doubles(ROWS * 16));
        let value = values.cast::<elbo_value>();
        let parts = values.cast::<elbo_decomposition>();
        let (compute_name, layers) = (c"auto", [7_usize]);
        config.encoder = layers.as_ptr();
        config.encoder_layers = 1;

        let functions = [
            function!(elbo_compute_new(Place => place, Threads => 1)),
            function!(elbo_compute_new_with(Place => place, Text => compute_name.as_ptr(), Threads => 1)),
            function!(elbo_reconstruction_forward(
                Pointer => compute, Pointer => &raw const bernoulli, Output => values, Input => outputs, Stride(D) => 16,
                Input => targets, Stride(D) => D, Size => ROWS, Size => D, Code => 0,
            )),
            function!(elbo_reconstruction_forward_backward(
                Pointer => compute, Pointer => &raw const bernoulli, Output => values, Output => doutputs, Stride(D) => D,
                Input => outputs, Stride(D) => 16, Input => targets, Stride(D) => 13, Size => ROWS, Size => D,
                Code => 0,
            )),
            function!(elbo_reconstruction_per_example(
                Pointer => compute, Pointer => &raw const bernoulli, Output => values, Input => outputs, Stride(D) => D,
                Input => targets, Stride(D) => 16, Size => ROWS, Size => D,
            )),
            function!(elbo_gaussian_backward_logvar(
                Pointer => compute, Pointer => &raw const gaussian, Output => values, Input => outputs, Stride(D) => D,
                Input => targets, Stride(D) => 16, Size => ROWS, Size => D, Code => 0,
            )),
            function!(elbo_penalty_forward(
                Pointer => compute, Pointer => &raw const kl, Output => values, Input => mu, Stride(Z) => Z, Input => logvar,
                Stride(Z) => 16, Size => ROWS, Size => Z, Code => 0,
            )),
            function!(elbo_penalty_forward_backward(
                Pointer => compute, Pointer => &raw const kl, Output => values, Output => dmu, Stride(Z) => Z,
                Output => dlogvar, Stride(Z) => 4, Input => mu, Stride(Z) => Z, Input => logvar, Stride(Z) => 16,
                Size => ROWS, Size => Z, Code => 0,
            )),
            function!(elbo_penalty_per_example(
                Pointer => compute, Pointer => &raw const kl, Output => values, Input => mu, Stride(Z) => Z, Input => logvar,
                Stride(Z) => 16, Size => ROWS, Size => Z,
            )),
            function!(elbo_objective_forward(
                Pointer => compute, Pointer => &raw const bernoulli, Pointer => &raw const kl, Float => float(1.0),
                Output => value, Input => outputs, Stride(D) => D, Input => targets, Stride(D) => 16,
                Input => mu, Stride(Z) => Z, Input => logvar, Stride(Z) => 16, Size => ROWS, Size => D, Size => Z,
                Code => 0,
            )),
            function!(elbo_objective_forward_backward(
                Pointer => compute, Pointer => &raw const bernoulli, Pointer => &raw const kl, Float => float(1.0),
                Output => value, Output => doutputs, Stride(D) => D, Output => dmu, Stride(Z) => Z,
                Output => dlogvar, Stride(Z) => Z, Input => outputs, Stride(D) => D, Input => targets,
                Stride(D) => 16, Input => mu, Stride(Z) => Z, Input => logvar, Stride(Z) => 16, Size => ROWS,
                Size => D, Size => Z, Code => 0,
            )),
            function!(elbo_total_correlation_forward_backward(
                Pointer => compute, Output => parts, Output => dz, Stride(Z) => Z, Output => dmu,
                Stride(Z) => Z, Output => dlogvar, Stride(Z) => 5, Input => z, Stride(Z) => Z, Input => mu,
                Stride(Z) => Z, Input => logvar, Stride(Z) => Z, Size => ROWS, Size => Z, Free => 100,
                Float => float(1.0), Float => float(1.0), Float => float(1.0), Float => float(0.0),
                Float => float(1.0),
            )),
            function!(elbo_panels_new(Place => place, Allocation => D, Allocation => Z)),
            function!(elbo_panels_set(Pointer => panels, Input => weight, Stride(Z) => 4, Input => w)),
            function!(elbo_panels_get(Pointer => panels, Output => weight, Stride(Z) => 4, Output => w)),
            function!(elbo_panels_data(Pointer => panels, Place => place, Place => &raw mut length)),
            function!(elbo_product(
                Pointer => compute, Output => outputs, Stride(D) => 13, Input => z, Stride(Z) => 4,
                Pointer => panels, Size => ROWS,
            )),
            function!(elbo_input_gradient(
                Pointer => compute, Output => dz, Stride(Z) => 4, Input => doutputs, Stride(D) => 13,
                Pointer => panels, Size => ROWS,
            )),
            function!(elbo_weight_gradient(
                Pointer => compute, Pointer => panels, Input => z, Stride(Z) => 4, Input => doutputs,
                Stride(D) => 13, Size => ROWS,
            )),
            function!(elbo_optimizer_init(Place => &raw mut optimizer, Code => 0)),
            function!(elbo_optimizer_step(
                Pointer => compute, Pointer => &raw const optimizer, Free => 1, Output => w, Output => m, Output => v,
                Input => g, Size => 40,
            )),
            function!(elbo_config_init(Place => &raw mut config, Free => D, Free => Z)),
            function!(elbo_model_new(Place => place, Pointer => &raw const config, Free => 1)),
            function!(elbo_model_load(Place => place, Text => model_file.as_ptr())),
            function!(elbo_model_save(Pointer => model, Text => model_file.as_ptr())),
            function!(elbo_model_evaluate(
                Pointer => model, Pointer => compute, Place => &raw mut evaluation, Pointer => &raw const data, Free => 1,
            )),
            function!(elbo_inference_new(Place => place, Pointer => model, Pointer => compute)),
            function!(elbo_encode(
                Pointer => inference, Output => mu, Stride(Z) => Z, Output => logvar, Stride(Z) => 4,
                Input => targets, Stride(D) => D, Input => conditions, Stride(C) => 4, Size => ROWS,
            )),
            function!(elbo_decode(
                Pointer => inference, Output => outputs, Stride(D) => 16, Input => z, Stride(Z) => Z,
                Input => conditions, Stride(C) => 4, Size => ROWS,
            )),
            function!(elbo_decode_logits(
                Pointer => inference, Output => outputs, Stride(D) => 16, Input => z, Stride(Z) => Z,
                Input => conditions, Stride(C) => 4, Size => ROWS,
            )),
            function!(elbo_reconstruct(
                Pointer => inference, Output => outputs, Stride(D) => 16, Input => targets, Stride(D) => D,
                Input => conditions, Stride(C) => 4, Size => ROWS,
            )),
            function!(elbo_score(
                Pointer => inference, Output => values, Output => of_kl, Input => targets, Stride(D) => D,
                Input => conditions, Stride(C) => 4, Size => ROWS,
            )),
            function!(elbo_sample(
                Pointer => inference, Output => outputs, Stride(D) => 16, Input => conditions, Stride(C) => 4,
                Size => ROWS, Free => 1, Free => 0,
            )),
            function!(elbo_train_options_init(Place => &raw mut options)),
            function!(elbo_trainer_new(
                Place => place, Pointer => model, Pointer => compute, Pointer => &raw const options,
            )),
            function!(elbo_trainer_resume(
                Place => place, Text => checkpoint.as_ptr(), Pointer => compute,
            )),
            function!(elbo_trainer_step(
                Pointer => trainer, OptionalPointer => &raw mut step, Pointer => &raw const data,
            )),
            function!(elbo_trainer_epoch(
                Pointer => trainer, OptionalPointer => &raw mut epoch, Pointer => &raw const data, OnStep => 0,
                Free => null_mut::<c_void>(),
            )),
            function!(elbo_trainer_observe(Pointer => trainer, Double => double(1.0))),
            function!(elbo_trainer_evaluate(
                Pointer => trainer, Place => &raw mut evaluation, Pointer => &raw const data, Free => 1,
            )),
            function!(elbo_trainer_model(Pointer => trainer, Place => place)),
            function!(elbo_trainer_save_checkpoint(Pointer => trainer, Text => checkpoint.as_ptr())),
        ];
        for function in &functions {
            function.check();
        }

        let header = include_str!("../include/elbo.h");
        let declared: BTreeSet<&str> = header
            .lines()
            .filter(|line| !line.starts_with("//") && !line.starts_with("typedef"))
            .filter_map(|line| {
                let name = line.split('(').next().filter(|name| name.len() < line.len())?;
                name.split([' ', '*']).next_back().filter(|name| name.starts_with("elbo_"))
            })
            .collect();
        let called = functions.iter().map(|function| function.name).chain(WITHOUT_STATUS);
        assert_eq!(called.collect::<BTreeSet<_>>(), declared);

        elbo_panels_free(panels);
        elbo_trainer_free(trainer);
        elbo_inference_free(inference);
        elbo_model_free(conditional);
        elbo_model_free(model);
        elbo_compute_free(compute);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
