"""The same bits as the tool for the same options and seed, and the same model files."""

import json
import subprocess

import numpy as np
import pytest

from elbo_vae import VAE, VAEDetector

# Parameters of the estimator beside the options of the tool.
CASES = {
    "gaussian": (
        {"scale": "none", "logvar_clamp": (-10, 10)},
        "--likelihood gaussian --logvar-clamp=-10,10",
    ),
    "standardized": (
        {"variance": "per-feature"},
        "--likelihood gaussian --variance per-feature --scale standardize",
    ),
    "min-max": (
        {"likelihood": "bernoulli", "scale": "min-max", "pos_weight": 2.0},
        "--scale min-max --pos-weight 2",
    ),
    "network": (
        {
            "encoder": (24, 16),
            "decoder": (20,),
            "activation": "leaky-relu:0.2",
            "layer_norm": True,
            "dropout": 0.1,
            "prior_mean": 0.5,
            "prior_std": 2.0,
            "n_components": 5,
        },
        "--encoder 24,16 --decoder 20 --activation leaky-relu:0.2 --layer-norm --dropout 0.1 --prior-mean 0.5 "
        "--prior-std 2 --latent 5 --likelihood gaussian --scale standardize",
    ),
    "squared error, beta, reduction": (
        {"likelihood": "squared-error", "beta": 0.3, "reduction": "sum", "epochs": "17steps"},
        "--likelihood squared-error --scale standardize --beta 0.3 --reduction sum --epochs 17steps",
    ),
    "cyclical annealing": (
        {"annealing": "cyclical", "cycles": 2, "beta": 4.0, "variance": "optimal"},
        "--likelihood gaussian --variance optimal --scale standardize --anneal cyclical --cycles 2 --beta 4",
    ),
    "linear annealing": (
        {"annealing": "linear", "anneal_from": 0.1, "anneal_over": 2, "variance": 0.5},
        "--likelihood gaussian --variance 0.5 --scale standardize --anneal linear --anneal-from 0.1 "
        "--anneal-over 2epochs",
    ),
    "cosine annealing, early stopping": (
        {"annealing": "cosine", "patience": 2, "epochs": 12, "learning_rate": 0.05},
        "--likelihood gaussian --scale standardize --anneal cosine --patience 2 --epochs 12 --lr 0.05",
    ),
    "best model": (
        {"keep": "best", "learning_rate": 0.1, "epochs": 8},
        "--likelihood gaussian --scale standardize --keep best --lr 0.1 --epochs 8",
    ),
    "free bits, adamw, cosine": (
        {
            "free_bits": 0.25,
            "free_bits_per": "sample",
            "optimizer": "adamw",
            "weight_decay": 0.1,
            "schedule": "cosine",
            "decay_floor": 0.1,
            "warm_up": 3,
        },
        "--likelihood gaussian --scale standardize --free-bits 0.25 --free-bits-per sample --optimizer adamw "
        "--weight-decay 0.1 --schedule cosine --decay-floor 0.1 --warm-up 3",
    ),
    "capacity, sgd, steps": (
        {
            "capacity": 5.0,
            "capacity_gamma": 2.0,
            "capacity_per": "sample",
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "nesterov": True,
            "schedule": "step",
            "decay_every": 1,
            "decay_factor": 0.7,
            "clip_norm": 1.0,
        },
        "--likelihood gaussian --scale standardize --capacity 5 --capacity-gamma 2 --capacity-per sample "
        "--optimizer sgd --lr 1e-3 --momentum 0.9 --nesterov --schedule step --decay-every 1 --decay-factor 0.7 "
        "--clip-norm 1",
    ),
    "total correlation, adamax, plateau": (
        {
            "total_correlation": True,
            "tc_alpha": 0.5,
            "tc_gamma": 0.25,
            "optimizer": "adamax",
            "schedule": "plateau",
            "decay_patience": 1,
            "accumulate": 2,
            "clip_value": 0.01,
        },
        "--likelihood gaussian --scale standardize --total-correlation --tc-alpha 0.5 --tc-gamma 0.25 "
        "--optimizer adamax --schedule plateau --decay-patience 1 --accumulate 2 --clip-value 0.01",
    ),
    "importance samples": (
        {"importance_samples": 3, "gradient_estimator": "dreg"},
        "--likelihood gaussian --scale standardize --importance-samples 3 --estimator dreg",
    ),
}
IMAGE_CASES = {
    "bernoulli": ({"likelihood": "bernoulli"}, ""),
    "binarized": (
        {"likelihood": "bernoulli-probabilities", "augmentation": "binarize"},
        "--likelihood bernoulli-probabilities --augment binarize",
    ),
    "dequantized": (
        {"likelihood": "continuous-bernoulli", "augmentation": "dequantize:16"},
        "--likelihood continuous-bernoulli --augment dequantize:16",
    ),
    "tanh": (
        {"likelihood": "tanh-squared-error"},
        "--likelihood squared-error --output tanh",
    ),
}


def train_with(tool, tmp_path, rows, options):
    """The model file that the tool writes."""
    np.save(tmp_path / "rows.npy", rows)
    command = [tool, "train", "--quiet", "--data", tmp_path / "rows.npy", "--out", tmp_path / "run"]
    command += ["--hidden", "16", "--latent", "3", "--batch", "32", "--seed", "7", "--epochs", "4"]
    # The last of an option that is given twice counts.
    for name in ("--latent", "--epochs"):
        if name in options:
            at = command.index(name)
            del command[at : at + 2]
    done = subprocess.run([*command, *options.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path / "run" / "model.safetensors"


def fitted(parameters, rows, **more):
    usual = {"hidden": 16, "n_components": 3, "batch_size": 32, "random_state": 7, "epochs": 4}
    return VAE(validation_fraction=0.1, **{**usual, **parameters}, **more).fit(rows)


def header(path):
    """Metadata and layout of a model file."""
    data = path.read_bytes()
    found = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(found["__metadata__"]["elbo"]), found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_writes_the_bytes_of_the_tool(tool, tmp_path, table, case, dtype):
    parameters, options = CASES[case]
    rows = table.astype(dtype)
    expected = train_with(tool, tmp_path, rows, options)
    path = tmp_path / "own.safetensors"
    fitted(parameters, rows, n_jobs=2).save(path)
    assert header(path)[0] == header(expected)[0]
    assert path.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("case", IMAGE_CASES)
def test_writes_the_bytes_of_the_tool_for_images(tool, tmp_path, images, case):
    parameters, options = IMAGE_CASES[case]
    expected = train_with(tool, tmp_path, images, options)
    path = tmp_path / "own.safetensors"
    fitted(parameters, images).save(path)
    assert path.read_bytes() == expected.read_bytes()


def test_bytes_are_read_as_the_tool_reads_them(tool, tmp_path, images):
    pixels = (images * 255).astype(np.uint8)
    expected = train_with(tool, tmp_path, pixels, "")
    path = tmp_path / "own.safetensors"
    vae = fitted({"likelihood": "bernoulli", "scale": "bytes"}, pixels)
    vae.save(path)
    assert path.read_bytes() == expected.read_bytes()
    assert vae.reconstruct(pixels).min() >= 0 and 100 < vae.reconstruct(pixels).max() <= 255


def test_validation_rows_of_their_own(tool, tmp_path, table):
    np.save(tmp_path / "held.npy", table[200:])
    options = f"--likelihood gaussian --scale standardize --validation {tmp_path}/held.npy"
    expected = train_with(tool, tmp_path, table[:200], options)
    path = tmp_path / "own.safetensors"
    vae = VAE(3, hidden=16, batch_size=32, random_state=7, epochs=4)
    vae.fit(table[:200], validation=table[200:]).save(path)
    assert path.read_bytes() == expected.read_bytes()


def test_reads_models_and_scores_as_the_tool(tool, tmp_path, table):
    for case in ("standardized", "min-max", "network"):
        folder = tmp_path / case
        folder.mkdir()
        path = train_with(tool, folder, table, CASES[case][1])
        loaded = VAE.load(path)
        own = fitted(CASES[case][0], table)
        assert loaded.reconstruct(table).tobytes() == own.reconstruct(table).tobytes()
        assert {k: v.tolist() for k, v in loaded.history_.items()} == {
            k: v.tolist() for k, v in own.history_.items() if k != "seconds"
        }
        # A file that is read and written keeps its bytes.
        loaded.save(folder / "again.safetensors")
        assert (folder / "again.safetensors").read_bytes() == path.read_bytes()
        beyond = np.vstack([table, table.max(axis=0) + 5.0])
        np.save(folder / "new.npy", beyond)
        command = [tool, "score", "--quiet", "--model", path, "--data", folder / "new.npy"]
        subprocess.run([*command, "--out", folder / "scores.npy"], check=True, capture_output=True)
        scores = np.load(folder / "scores.npy")
        np.testing.assert_array_equal(-loaded.score_samples(beyond), scores[:, 2])
        of_features = -loaded.score_features(beyond)
        np.testing.assert_allclose(of_features.sum(axis=1), scores[:, 0], rtol=1e-6, atol=1e-5)


def test_the_tool_reads_models_of_the_estimators(tool, tmp_path, table):
    path = tmp_path / "own.safetensors"
    VAEDetector(random_state=3, epochs=2).fit(table).save(path)
    np.save(tmp_path / "rows.npy", table)
    command = [tool, "score", "--model", path, "--data", tmp_path / "rows.npy"]
    done = subprocess.run(
        [*command, "--flag-above", "0.9", "--out", tmp_path / "scores.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10.0 %" in done.stderr or "30" in done.stderr, done.stderr
    detector = VAEDetector.load(path)
    flagged = np.load(tmp_path / "scores.npy")[:, -1]
    np.testing.assert_array_equal(flagged == 1.0, detector.predict(table) == -1)


def test_writes_model_files_of_partial_fits(tmp_path, table):
    vae = VAE(3, hidden=16, random_state=1)
    for _ in range(3):
        vae.partial_fit(table)
    vae.save(tmp_path / "model.safetensors")
    loaded = VAE.load(tmp_path / "model.safetensors")
    assert loaded.reconstruct(table).tobytes() == vae.reconstruct(table).tobytes()
