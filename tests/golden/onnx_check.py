"""Compares exported ONNX files with elbo, for every kind of layer and likelihood.

    python tests/golden/onnx_check.py ELBO

Trains small models with the tool ELBO (each activation, layer normalization, each likelihood,
conditions, scaled data, no hidden layer), exports their three parts, validates them with onnx.checker,
and compares the results of ONNX Runtime with `elbo encode` and `elbo reconstruct`. Needs numpy, onnx
and onnxruntime. Prints the largest difference of each model, and writes classic_reconstruct.onnx,
whose bytes `cargo test --test cli export` expects.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

FOLDER = pathlib.Path(__file__).parent
FEATURES, ROWS = 12, 300
UNIT = ["relu", "leaky-relu:0.2", "elu:1.5", "gelu", "gelu-tanh", "silu", "softplus", "tanh", "sigmoid"]
MODELS = {f"activation {name}": f"--activation {name} --lr 0.01" for name in UNIT} | {
    "layer norm": "--layer-norm --hidden 16,9 --activation gelu",
    "no hidden layer": "--hidden none",
    "linear encoder": "--encoder none --decoder 7,9",
    "bernoulli probabilities": "--likelihood bernoulli-probabilities",
    "pos weight": "--pos-weight 3",
    "continuous Bernoulli": "--likelihood continuous-bernoulli",
    "continuous Bernoulli, far": "--likelihood continuous-bernoulli --epochs 300 --lr 0.01",
    "squared error": "--likelihood squared-error",
    "tanh": "--likelihood squared-error --output tanh",
    "gaussian": "--likelihood gaussian --variance per-feature",
    "conditional": "--labels labels.npy --layer-norm",
    "clamped logvar": "--logvar-clamp -3,3",
    "signed": "--signed --likelihood squared-error --output tanh",
    "standardized": "--scale standardize --likelihood gaussian",
    "min-max": "--scale min-max --likelihood gaussian",
    "min-max, clipped": "--scale min-max --clip-to-range --signed --likelihood squared-error --output tanh",
    "784-400-20": "",
}


def data(folder):
    random = np.random.default_rng(1)
    x = random.random((ROWS, FEATURES), dtype=np.float32)
    x[:, :4] = (x[:, :4] > 0.5) * np.float32(0.999)
    labels = random.integers(0, 3, ROWS).astype(np.uint8)
    np.save(folder / "x.npy", x)
    # Columns far from 0 with different ranges; outside.npy exceeds the range of the training rows.
    table = 1000 + x * np.arange(1, FEATURES + 1, dtype=np.float32)
    np.save(folder / "table.npy", table)
    np.save(folder / "outside.npy", 1.01 * table)
    np.save(folder / "labels.npy", labels)
    return x, 1.01 * table, np.eye(3, dtype=np.float32)[labels]


def difference(elbo, folder, name, options, x, outside, condition):
    run = lambda line: subprocess.run(
        [elbo, *line.split()], cwd=folder, check=True, capture_output=True, text=True
    )
    conditional = "--labels" in options
    labels = "--labels labels.npy" if conditional else ""
    train, test = ("table", "outside") if "--scale" in options else ("x", "x")
    x = outside if test == "outside" else x
    if name == "784-400-20":
        x, test = np.random.default_rng(2).random((64, 784), dtype=np.float32), "wide"
        np.save(folder / "wide.npy", x)
        run("train --epochs 1 --quiet --out model")
    else:
        defaults = "--hidden 16 " if "--hidden" not in options else ""
        defaults += "--epochs 20 " if "--epochs" not in options else ""
        conditioned = "--conditional" if conditional else ""
        run(
            f"train --data {train}.npy {defaults}--latent 3 --batch 32 --quiet --out model {options} "
            f"{conditioned}"
        )
    with_data = f"--model model/model.safetensors --data {test}.npy {labels}"
    run(f"encode {with_data} --out codes.npy")
    run(f"reconstruct {with_data} --out means.npy")
    run("export --model model/model.safetensors --onnx all --out onnx")
    codes, means = np.load(folder / "codes.npy"), np.load(folder / "means.npy")
    mu = codes[:, : codes.shape[1] // 2]

    worst = {}
    given = {"condition": condition} if conditional else {}
    cases = {
        "encoder": ("mu", {"x": x}, mu),
        "decoder": ("reconstruction", {"z": mu}, means),
        "reconstruct": ("reconstruction", {"x": x}, means),
    }
    for part, (output, inputs, expected) in cases.items():
        file = folder / "onnx" / f"{part}.onnx"
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(file)
        found = session.run([output], inputs | given)[0]
        assert found.shape == expected.shape and found.dtype == np.float32
        # Relative to the largest number, where that is above 1.
        worst[part] = np.abs(found - expected).max() / max(1, np.abs(expected).max())
        one = session.run([output], {key: value[:1] for key, value in (inputs | given).items()})[0]
        assert one.shape == (1, expected.shape[1])
    return worst, np.abs(mu).max(), means.min(), means.max()


def fixture(elbo):
    out = FOLDER / "classic_reconstruct.onnx"
    model = FOLDER / "classic_state_dict.safetensors"
    command = [elbo, "export", "--onnx", "reconstruct", "--model", model, "--out", out, "--overwrite"]
    subprocess.run(command, check=True, capture_output=True)
    onnx.checker.check_model(onnx.load(out), full_check=True)


if __name__ == "__main__":
    elbo = pathlib.Path(sys.argv[1]).resolve()
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
    total = 0.0
    for name, options in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            worst, mu, low, high = difference(elbo, folder, name, options, *data(folder))
        parts = ", ".join(f"{part} {value:.1e}" for part, value in worst.items())
        print(f"{name}: {parts}; mu up to {mu:.1f}, reconstructions {low:.3f} to {high:.3f}")
        total = max(total, *worst.values())
    print(f"largest difference: {total:.1e}")
    assert total < 1e-5
    fixture(elbo)
