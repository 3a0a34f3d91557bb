//! Options that do not go together.

use crate::scratch::Scratch;
use std::fs;

#[test]
fn rejects_options_that_do_not_apply() {
    let scratch = Scratch::with_labels("refused");
    let cases = [
        (
            "--likelihood gaussian --pos-weight 2",
            "--pos-weight applies only with --likelihood bernoulli (here: gaussian)",
        ),
        (
            "--output tanh",
            "--output applies only with --likelihood squared-error (here: bernoulli)",
        ),
        (
            "--likelihood continuous-bernoulli --variance 1",
            "--variance applies only with --likelihood gaussian (here: continuous-bernoulli)",
        ),
        ("--anneal-over 5", "--anneal-over requires --anneal"),
        ("--anneal-from 0.1", "--anneal-from requires --anneal linear or cosine"),
        ("--cycles 3", "--cycles requires --anneal cyclical"),
        (
            "--anneal linear --cycles 3",
            "--cycles applies only with --anneal cyclical (here: linear)",
        ),
        ("--anneal cosine --cycle-ratio 1", "--cycle-ratio applies only with --anneal cyclical"),
        (
            "--anneal cyclical --anneal-from 0.1",
            "--anneal-from applies only with --anneal linear or cosine (here: cyclical)",
        ),
        ("--cycle-ratio 2", "'--cycle-ratio <R>': expected a number above 0 and at most 1"),
        ("--free-bits-per sample", "--free-bits-per requires --free-bits"),
        ("--capacity-gamma 1", "--capacity-gamma requires --capacity"),
        ("--capacity-over 1", "--capacity-over requires --capacity"),
        ("--capacity-per batch", "--capacity-per requires --capacity"),
        ("--tc-alpha 1", "--tc-alpha requires --total-correlation"),
        ("--tc-gamma 1", "--tc-gamma requires --total-correlation"),
        ("--estimator dreg", "--estimator requires --importance-samples"),
        (
            "--free-bits 1 --capacity 3",
            "--free-bits and --capacity cannot be used together; choose one",
        ),
        ("--capacity 3 --beta 4", "--beta: expected 1 with a capacity, whose weight is gamma"),
        ("--importance-samples 5 --beta 4", "--beta: expected 1 with importance weighting"),
        (
            "--importance-samples 5 --anneal linear",
            "--importance-samples and --anneal cannot be used together: the bound has no weight",
        ),
        ("--total-correlation --reduction mean", "--reduction: expected sum or batch mean"),
        (
            "--likelihood gaussian --variance optimal --importance-samples 5",
            "--variance: expected a fixed or learned variance with importance weighting",
        ),
        ("--momentum 0.9", "--momentum applies only with --optimizer sgd (here: adam)"),
        (
            "--optimizer adamax --nesterov",
            "--nesterov applies only with --optimizer sgd (here: adamax)",
        ),
        (
            "--optimizer sgd --nesterov",
            "--nesterov: expected a momentum above 0 with Nesterov's variant",
        ),
        ("--clip-norm 1 --clip-value 1", "--clip-norm and --clip-value cannot be used together"),
        ("--decay-every 2", "--decay-every applies only with --schedule step (here: constant)"),
        ("--decay-factor 0.5", "--decay-factor applies only with --schedule step or plateau"),
        ("--schedule step --decay-over 3", "--decay-over applies only with --schedule cosine"),
        ("--decay-floor 0.5", "--decay-floor applies only with --schedule cosine"),
        (
            "--schedule cosine --decay-patience 3",
            "--decay-patience applies only with --schedule plateau",
        ),
        (
            "--likelihood gaussian --augment binarize",
            "--likelihood: expected a Bernoulli likelihood beside binarized data",
        ),
        ("--augment dequantize", "--likelihood: expected a density on [0, 1] beside dequantized"),
        (
            "--signed --augment dequantize --likelihood gaussian",
            "--augment and --signed cannot be used together: augmentation needs data from 0 to 1",
        ),
        (
            "--signed",
            "--signed maps data to [-1, 1], but the likelihood bernoulli needs data in [0, 1]; \
             use --likelihood squared-error --output tanh, or --likelihood gaussian",
        ),
        ("--conditional", "--conditional: train.idx has no labels; give them with --labels"),
        ("--validation test.idx --labels train.labels", "--labels requires --validation-labels"),
        (
            "--validation test.idx --validation-labels test.labels",
            "--validation-labels requires --labels",
        ),
        ("--validation-labels test.labels", "--validation-labels requires --validation"),
        ("--test-labels test.labels", "--test-labels requires --test"),
        ("--labels train.labels --test test.idx --conditional", "--labels requires --test-labels"),
        (
            "--validation test.idx --labels train.labels --validation-labels test.labels --validation-fraction 0.2",
            "--validation and --validation-fraction cannot be used together",
        ),
        (
            "--validation-fraction 1",
            "'--validation-fraction <F>': expected a number above 0 and below 1",
        ),
        ("--clip-to-range", "--clip-to-range applies only with --scale min-max (here: none)"),
        (
            "--scale standardize",
            "--scale standardize gives values of any size; expected values in [0, 1] (or uint8, which is \
             divided by 255) for the likelihood bernoulli; use --scale min-max or --likelihood gaussian",
        ),
        ("--columns 1-3", "--columns applies only to tables; train.idx is not one of them"),
        ("--header no", "--header applies only to tables"),
        ("--array x", "--array applies only to .npz files"),
        ("--size 8x8", "--size 8x8: expected width × height to be 30, the elements of a row"),
        ("--rgb", "--rgb applies only to images"),
        ("--size 8", "expected width and height in pixels, up to 16384, such as 64x48"),
        (
            "--labels train.labels --label-column x",
            "--labels and --label-column cannot be used together",
        ),
        // Numbers outside their domains.
        ("--dropout 1", "'--dropout <P>': expected a number from 0 to below 1"),
        ("--prior-std 0", "'--prior-std <S>': expected a number above 0"),
        ("--prior-mean inf", "'--prior-mean <M>': expected a finite number"),
        ("--prior-std 1e30", "--prior-std: expected a number from 1e-15 to 1e15"),
        ("--logvar-clamp 3,-3", "'--logvar-clamp <LOW,HIGH>': expected two numbers in ascending"),
        ("--logvar-clamp -100,3", "--logvar-clamp: expected two numbers from -80 to 80"),
        ("--activation swish", "'--activation <NAME>': expected relu, leaky-relu, elu, gelu"),
        ("--likelihood poisson", "'--likelihood <NAME>'"),
        ("--likelihood gaussian --variance 0", "expected a number above 0, shared, per-feature or"),
        ("--pos-weight 0", "'--pos-weight <W>': expected a number above 0"),
        (
            "--anneal-over 10weeks",
            "expected a number of epochs or steps, 1 or more, such as 10epochs",
        ),
        ("--free-bits -1", "'--free-bits <NATS>': expected a number, 0 or more"),
        ("--importance-samples 0", "'--importance-samples <K>': expected a whole number from 1"),
        ("--momentum 1", "'--momentum <MU>': expected a number from 0 to below 1"),
        ("--weight-decay -1", "'--weight-decay <RATE>': expected a number, 0 or more"),
        ("--clip-norm 0", "'--clip-norm <NORM>': expected a number above 0"),
        ("--decay-factor 1", "'--decay-factor <F>': expected a number above 0 and below 1"),
        ("--accumulate 0", "'--accumulate <N>': expected a whole number from 1"),
        ("--augment dequantize:1", "'--augment <NAME>': expected from 2 to 65536"),
        ("--encoder 8,0", "'--encoder <WIDTHS>': expected widths from 1"),
    ];
    for (options, part) in cases {
        let line = format!("train --data train.idx --out new {options}");
        let message = scratch.fails(2, &line);
        assert!(message.contains(part), "elbo {line}: {message}");
    }
    // Columns that a file does not have.
    fs::write(scratch.path("t.csv"), "a,b\n1,2\n3,4\n").unwrap();
    for (options, part) in [
        ("t.csv --label-column nope", "t.csv: --label-column: no column 'nope'; the file has a, b"),
        ("t.csv --columns nope", "t.csv: --columns: no column 'nope'"),
        ("t.csv --columns 1-9", "t.csv: --columns: no columns 1-9"),
        ("t.csv --drop-columns 5", "t.csv: --drop-columns: no column '5'"),
    ] {
        let message = scratch.fails(2, &format!("train --out new --data {options}"));
        assert!(message.starts_with(part), "{options}: {message}");
    }
    let message = scratch.fails(2, "train --labels train.labels");
    assert!(message.contains("--labels requires --data"), "{message}");
}
