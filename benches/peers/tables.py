"""Anomaly detection on three real tables: elbo, PyOD's VAE, an isolation forest and a baseline without
a model, on the same rows.

    python benches/peers/tables.py data          writes the tables to tests/data
    python benches/peers/tables.py run [ELBO]    scores them with every program, writes tables.json beside
                                                 this file and prints it as a table

The tables ship with scikit-learn. The anomalies are those of ODDS (Rayana 2016): the malignant tumors in
wbc, the first cultivar in wine, the digit 0 in optdigits. The training part holds 60 % of the ordinary rows,
and anomalies at the same rate per ordinary row as the ODDS table (21 to 357, 10 to 119, 150 to 5066); the
test part holds all other rows. So the programs are not told which training rows are anomalies, and the
training part does contain some. Labels are used only for the area under the ROC curve of the test part.

Every program reads the same files and runs with seeds 1 to 5. No setting was searched for by its AUC
(PERFORMANCE.md lists the settings that were tried). Both VAEs run with two settings, the same for all three
tables: PYOD, the defaults of PyOD's VAE, and HELD_OUT, the one of nine settings for which elbo had the best
ELBO of rows held out from the training parts. The isolation forest has its default settings. The baseline is
the sum of squared z-scores, by the mean and standard deviation of each column over the training part.

elbo holds out a tenth of the training part for validation, which is its default; the others train on all of
it. PyOD's default loss clamps the KL divergence to its capacity, which is 0, so it trains on the squared error
alone, with noise in the code. Needs numpy, scikit-learn, pyod and torch (scikit-learn 1.9.1, PyOD 3.6.7 and
torch 2.15.0 made the file).
"""

import csv
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
DATA = HERE.parent.parent / "tests" / "data"
SEEDS = range(1, 6)

# Anomalous class, and number of anomalies per ordinary row in the training part.
TABLES = {
    "breast-cancer": ("malignant", 21 / 357),
    "wine": ("cultivar-1", 10 / 119),
    "digits": ("zero", 150 / 5066),
}
PYOD = {
    "hidden": [128, 64, 32], "latent": 2, "dropout": 0.2, "lr": 0.001, "epochs": 30, "batch": 32
}
HELD_OUT = {"hidden": [64], "latent": 8, "dropout": 0.1, "lr": 0.002, "epochs": 300, "batch": 32}
DIGITS = "zero one two three four five six seven eight nine".split()


def tables():
    """Yields name, column names, rows and labels of each table."""
    from sklearn import datasets

    cancer = datasets.load_breast_cancer()
    names = [str(cancer.target_names[t]) for t in cancer.target]
    yield "breast-cancer", cancer.feature_names, cancer.data, names
    wine = datasets.load_wine()
    yield "wine", wine.feature_names, wine.data, [f"cultivar-{t + 1}" for t in wine.target]
    digits = datasets.load_digits()
    yield "digits", digits.feature_names, digits.data, [DIGITS[t] for t in digits.target]


def write():
    for name, columns, rows, labels in tables():
        anomaly, rate = TABLES[name]
        is_anomaly = np.array([label == anomaly for label in labels])
        order = np.random.RandomState(1).permutation(len(rows))
        ordinary, strange = order[~is_anomaly[order]], order[is_anomaly[order]]
        kept = round(0.6 * len(ordinary))
        few = round(rate * kept)
        parts = {
            "train": np.sort(np.concatenate([ordinary[:kept], strange[:few]])),
            "test": np.sort(np.concatenate([ordinary[kept:], strange[few:]])),
        }
        for part, chosen in parts.items():
            with open(DATA / f"{name}-{part}.csv", "w", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                out.writerow([*columns, "label"])
                for i in chosen:
                    out.writerow([*(f"{value:.10g}" for value in rows[i]), labels[i]])
            print(name, part, len(chosen), "rows,", int(is_anomaly[chosen].sum()), "anomalies")


@functools.cache
def read(name, part):
    with open(DATA / f"{name}-{part}.csv", newline="") as file:
        _, *rows = csv.reader(file)
    x = np.array([[float(value) for value in row[:-1]] for row in rows])
    return x, np.array([row[-1] == TABLES[name][0] for row in rows])


def squared_z_scores(name, _seed):
    train = read(name, "train")[0]
    deviation = train.std(axis=0)
    # A column that is constant in the training part is not scaled, as in scikit-learn.
    deviation[deviation == 0] = 1
    return (((read(name, "test")[0] - train.mean(axis=0)) / deviation) ** 2).sum(axis=1)


def isolation_forest(name, seed):
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(random_state=seed).fit(read(name, "train")[0])
    return -forest.score_samples(read(name, "test")[0])


def pyod(setting, name, seed):
    from pyod.models.vae import VAE

    vae = VAE(
        random_state=seed,
        verbose=0,
        encoder_neuron_list=setting["hidden"],
        decoder_neuron_list=setting["hidden"][::-1],
        latent_dim=setting["latent"],
        dropout_rate=setting["dropout"],
        lr=setting["lr"],
        epoch_num=setting["epochs"],
        batch_size=setting["batch"],
    )
    vae.fit(read(name, "train")[0])
    return vae.decision_function(read(name, "test")[0])


def elbo(binary, setting, name, seed):
    """Runs `elbo train` and `elbo score` as a user would, and returns the column negative_elbo."""
    setting = setting | {"hidden": ",".join(map(str, setting["hidden"]))}
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *words: subprocess.run(
            [binary, *map(str, words)], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        options = [f"--{key}={value}" for key, value in setting.items()]
        train, test = [DATA / f"{name}-{part}.csv" for part in ("train", "test")]
        run("train", "--data", train, "--label-column", "label", "--scale", "standardize",
            "--likelihood", "gaussian", *options, "--seed", seed, "--quiet", "--out", "model")
        run("score", "--model", "model/model.safetensors", "--data", test, "--out", "scores.csv")
        with open(pathlib.Path(folder) / "scores.csv", newline="") as file:
            return np.array([float(row["negative_elbo"]) for row in csv.DictReader(file)])


def main(binary):
    from sklearn.metrics import roc_auc_score

    given = lambda setting: binary and functools.partial(elbo, binary, setting)
    programs = {
        "sum of squared z-scores": squared_z_scores,
        "elbo, PyOD's settings": given(PYOD),
        "PyOD VAE, its defaults": functools.partial(pyod, PYOD),
        "elbo, by held-out ELBO": given(HELD_OUT),
        "PyOD VAE, by held-out ELBO": functools.partial(pyod, HELD_OUT),
        "isolation forest": isolation_forest,
    }
    path = HERE / "tables.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for program, scores in programs.items():
        if scores:
            results[program] = {
                name: [
                    round(float(roc_auc_score(read(name, "test")[1], scores(name, seed))), 4)
                    for seed in SEEDS
                ]
                for name in TABLES
            }
    lines = [
        f'"{program}": {{{", ".join(f"{json.dumps(k)}: {v}" for k, v in results[program].items())}}}'
        for program in programs
        if program in results
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("| AUC, mean of 5 seeds (min, max) | " + " | ".join(TABLES) + " |")
    print("|---|" + "---|" * len(TABLES))
    for program in programs:
        if program in results:
            cells = [
                f"{np.mean(aucs):.3f} ({min(aucs):.3f}, {max(aucs):.3f})"
                for aucs in results[program].values()
            ]
            print(f"| {program} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if sys.argv[1:] == ["data"]:
        write()
    elif sys.argv[1:2] == ["run"]:
        main(str(pathlib.Path(sys.argv[2]).resolve()) if sys.argv[2:] else None)
    else:
        sys.exit(__doc__)
