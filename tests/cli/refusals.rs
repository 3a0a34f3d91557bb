//! Options that make no sense together.

use crate::scratch::Scratch;

#[test]
fn options_of_what_was_not_chosen_are_refused() {
    let scratch = Scratch::with_labels("refused");
    let cases = [
        (
            "--likelihood gaussian --pos-weight 2",
            "--pos-weight belongs to --likelihood bernoulli; here it is gaussian",
        ),
        ("--output tanh", "--output belongs to --likelihood squared-error; here it is bernoulli"),
        (
            "--likelihood continuous-bernoulli --variance 1",
            "--variance belongs to --likelihood gaussian; here it is continuous-bernoulli",
        ),
        ("--anneal-over 5", "--anneal-over belongs to --anneal, which is not there"),
        ("--anneal-from 0.1", "--anneal-from belongs to --anneal"),
        ("--cycles 3", "--cycles belongs to --anneal cyclical, which is not there"),
        ("--anneal linear --cycles 3", "--cycles belongs to --anneal cyclical; here it is linear"),
        ("--anneal cosine --cycle-ratio 1", "--cycle-ratio belongs to --anneal cyclical"),
        (
            "--anneal cyclical --anneal-from 0.1",
            "--anneal-from belongs to --anneal linear and cosine; here it is cyclical",
        ),
        ("--cycle-ratio 2", "'--cycle-ratio <R>': expected a number above 0 and at most 1"),
        ("--free-bits-per sample", "--free-bits-per belongs to --free-bits, which is not there"),
        ("--capacity-gamma 1", "--capacity-gamma belongs to --capacity"),
        ("--capacity-over 1", "--capacity-over belongs to --capacity"),
        ("--capacity-per batch", "--capacity-per belongs to --capacity"),
        ("--tc-alpha 1", "--tc-alpha belongs to --total-correlation"),
        ("--tc-gamma 1", "--tc-gamma belongs to --total-correlation"),
        ("--estimator dreg", "--estimator belongs to --importance-samples"),
        (
            "--free-bits 1 --capacity 3",
            "--free-bits and --capacity: each stands in the place of beta × KL; choose one",
        ),
        ("--capacity 3 --beta 4", "--beta: expected 1 with a capacity, whose weight is gamma"),
        ("--importance-samples 5 --beta 4", "--beta: expected 1 with importance weighting"),
        ("--importance-samples 5 --anneal linear", "--anneal: expected none where beta"),
        ("--total-correlation --reduction mean", "--reduction: expected sum or batch mean"),
        (
            "--likelihood gaussian --variance optimal --importance-samples 5",
            "--variance: expected a fixed or learned variance with importance weighting",
        ),
        ("--momentum 0.9", "--momentum belongs to --optimizer sgd; here it is adam"),
        (
            "--optimizer adamax --nesterov",
            "--nesterov belongs to --optimizer sgd; here it is adamax",
        ),
        ("--optimizer sgd --nesterov", "--nesterov: expected a momentum above 0 with it"),
        ("--clip-norm 1 --clip-value 1", "--clip-norm and --clip-value: a gradient is clipped in"),
        ("--decay-every 2", "--decay-every belongs to --schedule step; here it is constant"),
        ("--decay-factor 0.5", "--decay-factor belongs to --schedule step or plateau"),
        ("--schedule step --decay-over 3", "--decay-over belongs to --schedule cosine"),
        ("--decay-floor 0.5", "--decay-floor belongs to --schedule cosine"),
        ("--schedule cosine --decay-patience 3", "--decay-patience belongs to --schedule plateau"),
        (
            "--likelihood gaussian --augment binarize",
            "--likelihood: expected a Bernoulli likelihood beside binarized data",
        ),
        ("--augment dequantize", "--likelihood: expected a density on [0, 1] beside dequantized"),
        (
            "--signed --augment dequantize --likelihood gaussian",
            "--augment works on data from 0 to 1, and --signed makes them -1 to 1",
        ),
        (
            "--signed",
            "--signed makes data -1 to 1, and the likelihood bernoulli is for data from 0 to 1; \
             choose --likelihood squared-error --output tanh, or gaussian",
        ),
        (
            "--conditional",
            "--conditional: train.idx has no labels; name them with --labels, or a column",
        ),
        ("--test test.idx --labels train.labels", "--labels: the labels of --test are missing"),
        ("--test test.idx --test-labels test.labels", "--test-labels: the labels of --data are"),
        ("--test-labels test.labels", "not provided: --test <FILE>"),
        (
            "--test test.idx --labels train.labels --test-labels test.labels --test-fraction 0.2",
            "cannot be used with '--test-fraction <F>'",
        ),
        ("--test-fraction 1", "'--test-fraction <F>': expected a number above 0 and below 1"),
        ("--clip-to-range", "--clip-to-range belongs to --scale min-max"),
        (
            "--scale standardize",
            "--scale standardize makes numbers of any size; expected numbers in [0, 1] (or uint8, which is \
             divided by 255) for the likelihood bernoulli; choose --scale min-max, or --likelihood gaussian",
        ),
        ("--columns 1-3", "--columns belongs to a table, and train.idx is none"),
        ("--header no", "--header belongs to a table"),
        ("--array x", "--array belongs to a .npz file"),
        ("--size 8x8", "--size belongs to a folder of pictures"),
        ("--rgb", "--rgb belongs to a folder of pictures"),
        ("--size 8", "expected width and height in pixels, up to 16384, such as 64x48"),
        ("--labels train.labels --label-column x", "cannot be used with '--label-column <COLUMN>'"),
        // Numbers outside of their domains.
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
    let message = scratch.fails(2, "train --labels train.labels");
    assert!(message.contains("not provided: --data <FILE>"), "{message}");
}
