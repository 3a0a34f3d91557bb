//! The whole step against PyTorch: forward values, the loss, every gradient, ten steps of Adam.
//!
//! `tests/golden/make.py` wrote the values; `tests/golden/README.md` says how, and how far
//! PyTorch's own float32 is from them. Inputs, weights and noise are not stored: [`hashed`] makes
//! them here as `hashed.py` made them there, and their checksums are compared before anything.

use elbo::Compute;
use elbo::layers::reparameterize;
use elbo::loss::Reduction;
use elbo::simd::InstructionSet;
use elbo::train::{Options, Trainer};
use elbo::vae::{Config, Objective, Parameters, Vae};
use ndarray::{ArrayView1, ArrayView2};
use serde_json::Value;
use std::path::Path;

/// Steps of Adam in each file.
const STEPS: usize = 10;

/// The largest error allowed for a tensor or term of this name, in the units of
/// [`Golden::distance`]: about three times what was measured, which is the same on every machine.
fn tolerance(name: &str) -> f64 {
    match name.split('/').next() {
        // A chain of up to 784 additions, each rounded: 1e-6 of its size, where PyTorch's blocked
        // sums have half of that.
        Some("mu" | "logvar" | "z" | "logits") => 3e-6,
        // Sums over the batch of products of such numbers, some of which cancel.
        Some("gradient") => 3e-6,
        // Ten steps move a weight by a hundredth at most, and a typical gradient is known to
        // 1e-6: what is left is the rounding of the weight itself at each step.
        Some("after") => 1e-6,
        // Sums in f64 of values whose errors have either sign.
        Some("reconstruction" | "loss") => 1e-6,
        // A sum of few values, with the errors of μ and logvar.
        Some("kl") => 2e-6,
        _ => panic!("no tolerance for {name}"),
    }
}

/// Numbers that Python and Rust make alike: the twin of `tests/golden/hashed.py`.
mod hashed {
    fn fnv1a(name: &str) -> u32 {
        name.bytes()
            .fold(0x811C_9DC5, |key, byte| (key ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    fn mix(x: u32) -> u32 {
        let x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        let x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^ (x >> 16)
    }

    fn bits(name: &str, count: usize) -> impl Iterator<Item = u32> {
        let key = fnv1a(name);
        (0..count as u32).map(move |i| mix(mix(i) ^ key))
    }

    /// In [-1, 1), multiples of 2⁻²³.
    pub fn uniform(name: &str, count: usize) -> Vec<f32> {
        bits(name, count).map(|b| ((b >> 8) as f32 - 8_388_608.0) / 8_388_608.0).collect()
    }

    /// In [0, 1]: half of them 0, a quarter 1, the others between.
    pub fn targets(name: &str, count: usize) -> Vec<f32> {
        uniform(name, count).iter().map(|u| (2.0 * u).clamp(0.0, 1.0)).collect()
    }

    /// Half the sum of twelve uniform numbers, multiples of 2⁻²⁰.
    pub fn noise(name: &str, count: usize) -> Vec<f32> {
        let parts: Vec<i32> = bits(name, 12 * count).map(|b| (b >> 12) as i32 - 524_288).collect();
        parts.chunks(12).map(|twelve| twelve.iter().sum::<i32>() as f32 / 1_048_576.0).collect()
    }

    /// Uniform in ±2⁻ᵏ, for the largest k ≥ 0 with 2⁻ᵏ at least 2/√fan_in.
    pub fn weights(name: &str, count: usize, fan_in: usize) -> Vec<f32> {
        let mut scale = 1.0;
        let mut power = 16;
        while power <= fan_in {
            (scale, power) = (scale / 2.0, power * 4);
        }
        uniform(name, count).iter().map(|u| u * scale).collect()
    }

    /// `Σ (2i + 1)·bitsᵢ` modulo 2³², in hexadecimal.
    pub fn checksum(values: &[f32]) -> String {
        let sum = values.iter().enumerate().fold(0u32, |sum, (i, value)| {
            sum.wrapping_add((2 * i as u32 + 1).wrapping_mul(value.to_bits()))
        });
        format!("{sum:08x}")
    }
}

/// A tensor as PyTorch computed it: whole, or as its norm, projections and some of its entries.
struct Golden {
    shape: Vec<usize>,
    /// Error of PyTorch's own float32 run, in the units of [`distance`](Self::distance).
    float32: f64,
    parts: Parts,
}

enum Parts {
    Whole(Vec<f64>),
    Digest { norm: f64, projections: Vec<f64>, entries: Vec<(usize, f64)> },
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    numbers(value).iter().map(|&n| n as usize).collect()
}

impl Golden {
    fn parse(value: &Value) -> Self {
        let parts = match value.get("values") {
            Some(values) => Parts::Whole(numbers(values)),
            None => Parts::Digest {
                norm: number(&value["norm"]),
                projections: numbers(&value["projections"]),
                entries: value["entries"]
                    .as_array()
                    .expect("an array")
                    .iter()
                    .map(|pair| (number(&pair[0]) as usize, number(&pair[1])))
                    .collect(),
            },
        };
        Self { shape: sizes(&value["shape"]), float32: number(&value["float32"]), parts }
    }

    /// The largest error of `found`, relative to a scale.
    ///
    /// An entry's scale is its size or the root mean square of the tensor, whichever is larger;
    /// the norm's is itself; a projection's is the root mean square of what projections of such
    /// a tensor are, `norm/√3`. A wrong number of entries or one that is not finite is infinitely
    /// far.
    fn distance(&self, found: &[f32]) -> f64 {
        let count = self.shape.iter().product::<usize>();
        if found.len() != count || found.iter().any(|value| !value.is_finite()) {
            return f64::INFINITY;
        }
        let found: Vec<f64> = found.iter().copied().map(f64::from).collect();
        let norm_of = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mut worst = 0.0_f64;
        let mut see = |found: f64, golden: f64, scale: f64| {
            worst = worst.max((found - golden).abs() / scale);
        };
        match &self.parts {
            Parts::Whole(values) => {
                assert_eq!(values.len(), count);
                let rms = norm_of(values) / (count as f64).sqrt();
                for (&found, &golden) in found.iter().zip(values) {
                    see(found, golden, golden.abs().max(rms));
                }
            }
            Parts::Digest { norm, projections, entries } => {
                see(norm_of(&found), *norm, *norm);
                for (k, &golden) in projections.iter().enumerate() {
                    let direction = hashed::uniform(&format!("projection/{k}"), count);
                    let projection =
                        found.iter().zip(&direction).map(|(f, &d)| f * f64::from(d)).sum::<f64>();
                    see(projection, golden, norm / 3.0_f64.sqrt());
                }
                let rms = norm / (count as f64).sqrt();
                for &(i, golden) in entries {
                    see(found[i], golden, golden.abs().max(rms));
                }
            }
        }
        worst
    }
}

/// One of the two files.
struct File {
    network: Network,
    json: Value,
}

struct Network {
    prefix: String,
    features: usize,
    hidden: Vec<usize>,
    latent: usize,
    batch: usize,
}

impl File {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = std::fs::read_to_string(&path).expect("the file is committed");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let of = &json["network"];
        let network = Network {
            prefix: format!("{}/{}", of["name"].as_str().expect("a name"), of["seed"]),
            features: number(&of["features"]) as usize,
            hidden: sizes(&of["hidden"]),
            latent: number(&of["latent"]) as usize,
            batch: number(&of["batch"]) as usize,
        };
        Self { network, json }
    }

    fn assert_checksum(&self, name: &str, values: &[f32]) {
        let golden = self.json["checksums"][name].as_str();
        assert_eq!(Some(&*hashed::checksum(values)), golden, "{name} is not the tensor of make.py");
    }

    /// Name and values of every parameter, `[out, in]` row-major, in PyTorch's order.
    fn parameters(&self) -> Vec<(String, Vec<f32>)> {
        let mut made = vec![];
        for (layer, [inputs, outputs]) in self.network.layers() {
            for (kind, count) in [("weight", inputs * outputs), ("bias", outputs)] {
                let full = format!("{}/{layer}.{kind}", self.network.prefix);
                let values = hashed::weights(&full, count, inputs);
                self.assert_checksum(&full, &values);
                made.push((format!("{layer}.{kind}"), values));
            }
        }
        made
    }

    /// Data `[batch, features]` and noise `[batch, latent]` of one step.
    fn batch(&self, step: usize) -> (Vec<f32>, Vec<f32>) {
        let Network { prefix, features, latent, batch, .. } = &self.network;
        let (data, noise) = (format!("{prefix}/{step}/targets"), format!("{prefix}/{step}/noise"));
        let made =
            (hashed::targets(&data, batch * features), hashed::noise(&noise, batch * latent));
        self.assert_checksum(&data, &made.0);
        self.assert_checksum(&noise, &made.1);
        made
    }
}

impl Network {
    /// Name and `[inputs, outputs]` of every dense layer, in PyTorch's order.
    fn layers(&self) -> Vec<(String, [usize; 2])> {
        let chain = |name: &str, widths: &[usize]| -> Vec<_> {
            let pairs = widths.windows(2).enumerate();
            pairs.map(|(i, w)| (format!("{name}.{i}"), [w[0], w[1]])).collect()
        };
        let up = [&[self.features], &self.hidden[..]].concat();
        let down: Vec<usize> = up.iter().rev().copied().collect();
        let top = up[up.len() - 1];
        let mut layers = chain("encoder", &up);
        layers.extend(["mu", "logvar"].map(|name| (name.into(), [top, self.latent])));
        layers.extend(chain("decoder", &[&[self.latent], &down[..]].concat()));
        layers
    }
}

#[test]
fn inputs_match_the_checksums_of_the_script() {
    for name in ["deep.json", "classic.json"] {
        let file = File::read(name);
        let parameters = file.parameters().len();
        for step in 0..STEPS {
            file.batch(step);
        }
        let stored = file.json["checksums"].as_object().expect("an object").len();
        assert_eq!(stored, parameters + 2 * STEPS, "{name} has checksums that nothing was held to");
    }
}

/// Compares with what the file holds, and counts what was compared.
struct Comparison<'a> {
    variant: &'a Value,
    label: String,
    compared: usize,
    failures: Vec<String>,
}

impl Comparison<'_> {
    fn tensor(&mut self, name: &str, found: &[f32]) {
        let golden = Golden::parse(&self.variant["tensors"][name]);
        self.judge(name, golden.distance(found), golden.float32);
    }

    fn term(&mut self, name: &str, found: &[f64]) {
        let term = &self.variant["terms"][name];
        let golden = numbers(&term["values"]);
        assert_eq!(found.len(), golden.len());
        let errors = found.iter().zip(&golden).map(|(f, g)| (f / g - 1.0).abs());
        let worst = errors.fold(0.0, |a, b| if b <= a { a } else { b }); // a NaN stays
        self.judge(name, worst, number(&term["float32"]));
    }

    fn judge(&mut self, name: &str, distance: f64, float32: f64) {
        let (allowed, label) = (tolerance(name), &self.label);
        let line = format!(
            "{label}: {name:26} {distance:.1e} (PyTorch {float32:.1e}), allowed {allowed:.0e}"
        );
        println!("{line}");
        self.compared += 1;
        if distance.is_nan() || distance > allowed {
            self.failures.push(line);
        }
    }

    fn parameters(&mut self, prefix: &str, found: &Parameters) {
        for name in found.names() {
            let weight = found.weight(name).expect("a layer has a weight");
            let bias = found.bias(name).expect("a layer has a bias");
            self.tensor(&format!("{prefix}/{name}.weight"), weight.as_slice().expect("row-major"));
            self.tensor(&format!("{prefix}/{name}.bias"), bias.as_slice().expect("contiguous"));
        }
    }
}

/// Ten steps of one variant of a file.
fn ten_steps_agree(file: &File, variant: &Value, compute: &Compute) {
    let Network { features, hidden, latent, batch, .. } = &file.network;
    let data = |values: &[f32]| -> ndarray::Array2<f32> {
        ArrayView2::from_shape((*batch, values.len() / batch), values).expect("[B, …]").to_owned()
    };
    let objective = Objective {
        beta: number(&variant["beta"]) as f32,
        reduction: match variant["reduction"].as_str() {
            Some("sum") => Reduction::Sum,
            Some("batch mean") => Reduction::BatchMean,
            Some("mean") => Reduction::Mean,
            other => panic!("no such reduction: {other:?}"),
        },
        ..Objective::default()
    };
    let label = format!(
        "{}, beta {}, {}, {}",
        file.network.prefix,
        variant["beta"],
        variant["reduction"],
        compute.simd().name()
    );
    let mut golden = Comparison { variant, label, compared: 0, failures: vec![] };

    let config = Config::builder(*features, *latent).hidden(hidden).build().expect("a network");
    let mut vae = Vae::new(config, 1);
    for pair in file.parameters().chunks(2) {
        let [(name, weight), (_, bias)] = pair else { unreachable!("weight and bias in turn") };
        let weight = ArrayView2::from_shape((bias.len(), weight.len() / bias.len()), weight);
        let name = name.strip_suffix(".weight").expect("the weight comes first");
        let weight = weight.expect("[out, in]");
        vae.parameters_mut().set(name, weight, ArrayView1::from(bias)).expect("a layer");
    }

    // Forward, part by part.
    let (x, noise) = file.batch(0);
    let code = vae.encode(compute, data(&x).view()).expect("the data fit");
    let [mu, logvar] = [&code.mu, &code.logvar].map(|a| a.as_slice().expect("row-major"));
    let (mut z, mut sigma_epsilon) = (vec![f32::NAN; mu.len()], vec![f32::NAN; mu.len()]);
    reparameterize::forward(compute.simd(), &mut z, &mut sigma_epsilon, mu, logvar, &noise)
        .expect("equal lengths");
    let logits = vae.decode_logits(compute, data(&z).view()).expect("the code fits");
    golden.tensor("mu", mu);
    golden.tensor("logvar", logvar);
    golden.tensor("z", &z);
    golden.tensor("logits", logits.as_slice().expect("row-major"));

    // The gradient of the first step.
    let options = Options { objective, ..Options::default() };
    let mut trainer = Trainer::new(vae, options, compute.clone()).expect("valid options");
    trainer.gradient_with_noise(&data(&x), data(&noise).view()).expect("finite");
    golden.parameters("gradient", trainer.gradient().expect("asked for above"));

    // Ten steps.
    let mut terms = [const { vec![] }; 3];
    for step in 0..STEPS {
        let (x, noise) = file.batch(step);
        let done = trainer.step_with_noise(&data(&x), data(&noise).view()).expect("finite");
        for (of, term) in terms.iter_mut().zip([done.reconstruction, done.kl, done.loss]) {
            of.push(term);
        }
    }
    for (name, found) in ["reconstruction", "kl", "loss"].into_iter().zip(&terms) {
        golden.term(name, found);
    }
    golden.parameters("after", trainer.vae().parameters());

    let all = ["tensors", "terms"].map(|of| variant[of].as_object().expect("an object").len());
    assert_eq!(golden.compared, all.iter().sum::<usize>(), "the file has more than was compared");
    assert!(golden.failures.is_empty(), "too far from PyTorch:\n{}", golden.failures.join("\n"));
}

#[test]
fn deep_network_matches_pytorch_on_every_instruction_set() {
    let file = File::read("deep.json");
    for simd in InstructionSet::available() {
        let compute = Compute::new(simd, 1).expect("one thread");
        for variant in file.json["variants"].as_array().expect("an array") {
            ten_steps_agree(&file, variant, &compute);
        }
    }
}

#[test]
fn classic_network_matches_pytorch() {
    let file = File::read("classic.json");
    let compute = Compute::new(InstructionSet::detect(), 2).expect("two threads");
    for variant in file.json["variants"].as_array().expect("an array") {
        ten_steps_agree(&file, variant, &compute);
    }
}

#[cfg(feature = "safetensors")]
#[test]
fn state_dicts_of_other_layouts_give_pytorchs_reconstructions() {
    use elbo::layers::activation::Activation;
    use elbo::vae::{Likelihood, Naming, Variance};

    // As mapped_state_dict.toml has it.
    let mapped = Naming::new([
        ("encoder.0", "enc.0"),
        ("encoder_norm.0", "enc.1"),
        ("encoder.1", "enc.3"),
        ("encoder_norm.1", "enc.4"),
        ("mu", "to_mean"),
        ("logvar", "to_logvar"),
        ("decoder.0", "dec.0"),
        ("decoder_norm.0", "dec.1"),
        ("decoder.1", "dec.3"),
    ])
    .expect("no name twice")
    .activation(Activation::Gelu)
    .likelihood(Likelihood::Gaussian(Variance::Fixed(1.0)));
    let path = |name: &str, extension: &str| {
        let file = format!("tests/golden/{name}_state_dict.{extension}");
        Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
    };
    for (name, naming, known, widths) in [
        ("classic", Naming::classic(), true, "12-7-2-7-12"),
        ("pythae", Naming::pythae(), true, "6-512-2-512-6"),
        ("mapped", mapped, false, "9-7-5-3-8-9"),
    ] {
        let vae = Vae::load_as(path(name, "safetensors"), &naming).expect("a state dict");
        assert_eq!(vae.config().to_string(), widths);
        let detected = Vae::load(path(name, "safetensors"));
        assert_eq!(detected.is_ok(), known, "{name}");
        if let Ok(detected) = detected {
            assert_eq!(detected.config(), vae.config());
            assert_eq!(detected.parameters()[..], vae.parameters()[..]);
        }

        let text = std::fs::read_to_string(path(name, "json")).expect("committed");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let shape = sizes(&json["x"]["shape"]);
        let x: Vec<f32> = numbers(&json["x"]["values"]).iter().map(|&v| v as f32).collect();
        let x = ArrayView2::from_shape((shape[0], shape[1]), &x).expect("[B, D]");

        let compute = Compute::serial();
        let code = vae.encode(&compute, x).expect("the data fit");
        let reconstruction = vae.reconstruct(&compute, x).expect("the data fit");
        for (tensor, found) in
            [("mu", &code.mu), ("logvar", &code.logvar), ("reconstruction", &reconstruction)]
        {
            let of = &json[tensor];
            let parts = Parts::Whole(numbers(&of["values"]));
            let golden = Golden { shape: sizes(&of["shape"]), float32: 0.0, parts };
            assert_eq!(found.shape(), golden.shape);
            // Chains of up to 512 additions, two layer normalizations, a sigmoid of 2 ULP.
            let distance = golden.distance(found.as_slice().expect("row-major"));
            println!("{name} {tensor}: {distance:.1e}");
            assert!(distance < 1e-6, "{name} {tensor}: {distance:e}");
        }
    }
}

#[test]
fn comparison_detects_one_wrong_entry() {
    const TOLERANCE: f64 = 3e-6; // the largest that `tolerance` gives
    let (inputs, outputs) = (20, 400);
    let values = hashed::weights("comparison", inputs * outputs, inputs);
    let exact: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let rms = (exact.iter().map(|v| v * v).sum::<f64>() / exact.len() as f64).sqrt();

    let digest = Parts::Digest {
        norm: rms * (exact.len() as f64).sqrt(),
        projections: (0..4)
            .map(|k| {
                let direction = hashed::uniform(&format!("projection/{k}"), exact.len());
                exact.iter().zip(direction).map(|(v, d)| v * f64::from(d)).sum()
            })
            .collect(),
        entries: [0, 57, 4_000, 7_999].map(|i| (i, exact[i])).to_vec(),
    };
    for parts in [Parts::Whole(exact), digest] {
        let golden = Golden { shape: vec![outputs, inputs], float32: 0.0, parts };
        let changed = |change: &dyn Fn(&mut Vec<f32>)| {
            let mut copy = values.clone();
            change(&mut copy);
            golden.distance(&copy)
        };
        assert!(changed(&|_| ()) < 1e-12);
        for i in [0, 1, 57, 58, 3_999, 4_000, 7_999] {
            assert!(changed(&|copy| copy[i] += 1e-2 * rms as f32) > TOLERANCE, "entry {i}");
            assert_eq!(changed(&|copy| copy[i] = f32::NAN), f64::INFINITY);
        }
        assert!(changed(&|copy| copy.swap(3, 4)) > TOLERANCE);
        assert!(changed(&|copy| copy.iter_mut().for_each(|v| *v *= 1.0 + 2e-5)) > TOLERANCE);
        assert!(
            changed(&|copy| {
                let transposed = (0..copy.len()).map(|i| copy[i % outputs * inputs + i / outputs]);
                *copy = transposed.collect();
            }) > 0.1
        );
        assert_eq!(changed(&|copy| copy.truncate(7_999)), f64::INFINITY);
    }
}
