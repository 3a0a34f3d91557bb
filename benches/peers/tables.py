"""Anomaly detection on planes and on three real tables: elbo, the other programs and the baselines without a
model, on the same rows.

    python benches/peers/tables.py data          writes the real tables to tests/data
    python benches/peers/tables.py run [ELBO]    scores all tables with every program, writes the areas to
                                                 tests/data/anomaly-areas.json and prints them as a table
    python benches/peers/tables.py digits ELBO   scores the table digits with each digit as the anomaly in turn

The tables ship with scikit-learn. The anomalies are those of ODDS (Rayana 2016): the malignant tumors in
wbc, the first cultivar in wine, the digit 0 in optdigits. The training part holds 60 % of the ordinary rows,
and anomalies at the same rate per ordinary row as the ODDS table (21 to 357, 10 to 119, 150 to 5066); the
test part holds all other rows. So the programs are not told which training rows are anomalies, and the
training part does contain some. Labels are used only for the area under the ROC curve of the test part.

A plane is a table of 12 columns: four standard normal numbers times a random 4 x 12 matrix, plus noise of 10 %
of the standard deviation of each column. The training part has 1,000 rows on the plane, and in the table
"contaminated plane" 50 of them are anomalies; the test part has 500 on it and 100 anomalies, which are off it by
noise of half a standard deviation. Every seed draws another plane.

Every program reads the same rows and runs with seeds 1 to 5. The preset of elbo was chosen on other tables, which
PERFORMANCE.md lists; all other programs run with their defaults. The baselines are the sum of squared z-scores, by
the mean and standard deviation of each column over the training part; the squared error of a reconstruction
from the principal components that hold 90 % of the variance of these standardized columns; and ECOD, which adds
up the logarithms of the tail probabilities of the columns.

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
# Number of anomalies among the 1,000 training rows of a plane.
PLANES = {"plane": 0, "contaminated plane": 50}
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


def split(is_anomaly, rate):
    """Returns the rows of the training and of the test part."""
    order = np.random.RandomState(1).permutation(len(is_anomaly))
    ordinary, strange = order[~is_anomaly[order]], order[is_anomaly[order]]
    kept = round(0.6 * len(ordinary))
    few = round(rate * kept)
    parts = (ordinary[:kept], strange[:few]), (ordinary[kept:], strange[few:])
    return [np.sort(np.concatenate(part)) for part in parts]


def write():
    for name, columns, rows, labels in tables():
        anomaly, rate = TABLES[name]
        is_anomaly = np.array([label == anomaly for label in labels])
        parts = dict(zip(("train", "test"), split(is_anomaly, rate)))
        for part, chosen in parts.items():
            with open(DATA / f"{name}-{part}.csv", "w", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                out.writerow([*columns, "label"])
                for i in chosen:
                    out.writerow([*(f"{value:.10g}" for value in rows[i]), labels[i]])
            print(name, part, len(chosen), "rows,", int(is_anomaly[chosen].sum()), "anomalies")


def plane(anomalies, seed):
    """Returns rows and labels of the training and of the test part."""
    random = np.random.default_rng(seed)
    axes = random.normal(size=(4, 12))
    deviation = np.sqrt((axes**2).sum(axis=0))

    def rows(ordinary, strange):
        count = ordinary + strange
        label = np.arange(count) >= ordinary
        on = random.normal(size=(count, 4)) @ axes
        noise = np.where(label, 0.5, 0.1)[:, None] * deviation * random.normal(size=on.shape)
        return on + noise, label

    return rows(1000 - anomalies, anomalies), rows(500, 100)


@functools.cache
def read(name, seed):
    """Rows and labels of the training and of the test part; only planes depend on the seed."""
    if name in PLANES:
        return plane(PLANES[name], seed)

    def part(which):
        with open(DATA / f"{name}-{which}.csv", newline="") as file:
            _, *rows = csv.reader(file)
        x = np.array([[float(value) for value in row[:-1]] for row in rows])
        return x, np.array([row[-1] == TABLES[name][0] for row in rows])

    return part("train"), part("test")


def standardized(train, test):
    deviation = train.std(axis=0)
    # A column that is constant in the training part is not scaled, as in scikit-learn.
    deviation[deviation == 0] = 1
    return [(part - train.mean(axis=0)) / deviation for part in (train, test)]


def squared_z_scores(train, test, _seed):
    return (standardized(train, test)[1] ** 2).sum(axis=1)


def pca(train, test, _seed):
    from sklearn.decomposition import PCA

    train, test = standardized(train, test)
    model = PCA(0.9, svd_solver="full").fit(train)
    return ((test - model.inverse_transform(model.transform(test))) ** 2).sum(axis=1)


def isolation_forest(train, test, seed):
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def ecod(train, test, _seed):
    from pyod.models.ecod import ECOD

    return ECOD().fit(train).decision_function(test)


def knn(train, test, _seed):
    from pyod.models.knn import KNN

    train, test = standardized(train, test)
    return KNN().fit(train).decision_function(test)


def pyod_vae(train, test, seed):
    from pyod.models.vae import VAE

    return VAE(random_state=seed, verbose=0).fit(train).decision_function(test)


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([f"c{column}" for column in range(rows.shape[1])])
        out.writerows([f"{value:.10g}" for value in row] for row in rows)


def elbo(binary, train, test, seed):
    """Runs `elbo train` and `elbo score` as a user would, and returns the column negative_elbo."""
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *words: subprocess.run(
            [binary, *map(str, words)], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        for name, rows in [("train", train), ("test", test)]:
            write_rows(pathlib.Path(folder) / f"{name}.csv", rows)
        run("train", "--data", "train.csv", "--preset", "anomaly", "--seed", seed, "--quiet", "--out", "model")
        run("score", "--model", "model/model.safetensors", "--data", "test.csv", "--out", "scores.csv")
        with open(pathlib.Path(folder) / "scores.csv", newline="") as file:
            return np.array([float(row["negative_elbo"]) for row in csv.DictReader(file)])


def main(binary):
    from sklearn.metrics import roc_auc_score

    def area(scores, name, seed):
        (train, _), (test, labels) = read(name, seed)
        return round(float(roc_auc_score(labels, scores(train, test, seed))), 4)

    programs = {
        "sum of squared z-scores": squared_z_scores,
        "PCA, 90 % of the variance": pca,
        "ECOD": ecod,
        "k nearest neighbors": knn,
        "isolation forest": isolation_forest,
        "PyOD VAE": pyod_vae,
        "elbo, --preset anomaly": binary and functools.partial(elbo, binary),
    }
    names = [*PLANES, *TABLES]
    path = DATA / "anomaly-areas.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for program, scores in programs.items():
        if scores:
            results[program] = {name: [area(scores, name, seed) for seed in SEEDS] for name in names}
    lines = [
        f'"{program}": {{{", ".join(f"{json.dumps(k)}: {v}" for k, v in results[program].items())}}}'
        for program in programs
        if program in results
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("| AUC, mean of 5 seeds (min, max) | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for program in programs:
        if program in results:
            cells = [
                f"{np.mean(aucs):.3f} ({min(aucs):.3f}, {max(aucs):.3f})"
                for aucs in results[program].values()
            ]
            print(f"| {program} | " + " | ".join(cells) + " |")


def each_digit(binary):
    from sklearn import datasets
    from sklearn.metrics import roc_auc_score

    programs = {
        "sum of squared z-scores": squared_z_scores,
        "PCA, 90 % of the variance": pca,
        "isolation forest": isolation_forest,
        "PyOD VAE": pyod_vae,
        "elbo, --preset anomaly": functools.partial(elbo, binary),
    }
    digits = datasets.load_digits()
    anomalies = [digits.target == digit for digit in range(10)]
    print("| AUC, mean of 5 seeds | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | mean |")
    print("|---|" + "--:|" * 11)
    for program, scores in programs.items():
        areas = []
        for is_anomaly in anomalies:
            train, test = split(is_anomaly, TABLES["digits"][1])
            found = [scores(digits.data[train], digits.data[test], seed) for seed in SEEDS]
            areas.append(np.mean([roc_auc_score(is_anomaly[test], of) for of in found]))
        cells = [f"{area:.3f}" for area in [*areas, np.mean(areas)]]
        print(f"| {program} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["data"]:
        write()
    elif sys.argv[1:2] == ["digits"] and len(sys.argv) == 3:
        each_digit(str(pathlib.Path(sys.argv[2]).resolve()))
    elif sys.argv[1:2] == ["run"]:
        main(str(pathlib.Path(sys.argv[2]).resolve()) if sys.argv[2:] else None)
    else:
        sys.exit(__doc__)
