"""The estimators beyond the rules that scikit-learn checks."""

import copy
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import elbo_vae
from elbo_vae import VAE, VAEDetector

SMALL = {"n_components": 2, "hidden": 16, "random_state": 1}


def test_learns_a_table_of_two_hidden_dimensions(table):
    vae = VAE(**SMALL, epochs=300, learning_rate=3e-3, variance="per-feature").fit(table)
    error = ((vae.reconstruct(table) - table) ** 2).mean() / table.var(axis=0).mean()
    # Two components of a PCA leave 0.3 % of the variance.
    assert error < 0.01
    assert vae.history_["train_loss"][-1] < vae.history_["train_loss"][0]
    assert vae.score(table) > VAE(**SMALL, epochs=1).fit(table).score(table)
    # Samples have the mean and the spread of the data.
    drawn = vae.sample(4000, noise=True)
    np.testing.assert_allclose(drawn.mean(axis=0), table.mean(axis=0), atol=0.8)
    np.testing.assert_allclose(drawn.std(axis=0), table.std(axis=0), rtol=0.3)
    assert (vae.sample(5) == vae.sample(9)[:5]).all()
    assert (vae.sample(5, random_state=2) != vae.sample(5)).any()


def test_codes_and_rows_go_both_ways(table):
    vae = VAE(**SMALL, epochs=3).fit(table)
    codes, logvar = vae.encode(table)
    assert codes.dtype == logvar.dtype == np.float32 and codes.shape == (300, 2)
    np.testing.assert_array_equal(vae.transform(table), codes)
    np.testing.assert_array_equal(vae.inverse_transform(codes), vae.reconstruct(table))
    assert vae.reconstruct(table).dtype == np.float64


def test_scores_add_up(table):
    vae = VAE(**SMALL, epochs=3).fit(table)
    kl = -(vae.score_samples(table) - vae.score_features(table).sum(axis=1))
    codes, logvar = (part.astype(np.float64) for part in vae.encode(table))
    by_hand = 0.5 * (codes**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)
    np.testing.assert_allclose(kl, by_hand, rtol=1e-4, atol=1e-5)
    bound = vae.marginal_log_likelihood(table, 200)
    # The bound tightens with the number of samples.
    assert bound.shape == (300,) and bound.mean() > vae.score(table)


def test_history_validation_and_callback(table):
    records = []
    vae = VAE(**SMALL, epochs=5, validation_fraction=0.2)
    vae.fit(table, callback=records.append)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]
    for name, values in vae.history_.items():
        assert values.tolist() == [record[name] for record in records]
    assert {"validation_loss", "active_units", "beta", "seconds"} < set(vae.history_)
    assert vae.kl_per_dimension_.shape == vae.mu_variance_.shape == (2,)

    stopped = VAE(**SMALL, epochs=5).fit(table, callback=lambda record: record["epoch"] == 2)
    assert stopped.n_epochs_ == len(stopped.history_["train_loss"]) == 2
    whole = VAE(**SMALL, epochs=2).fit(table)
    np.testing.assert_array_equal(stopped.transform(table), whole.transform(table))


def test_early_stopping_keeps_the_best_epoch(table):
    vae = VAE(**SMALL, epochs=200, patience=3, learning_rate=0.05).fit(table)
    losses = vae.history_["validation_loss"]
    assert vae.n_epochs_ == vae.best_epoch_ + 3 < 200
    assert losses.argmin() + 1 == vae.best_epoch_
    best = VAE(**SMALL, epochs=vae.best_epoch_, validation_fraction=0.1, learning_rate=0.05)
    np.testing.assert_array_equal(best.fit(table).transform(table), vae.transform(table))


def test_an_exception_of_the_callback_leaves_a_usable_estimator(table):
    def fail(record):
        if record["epoch"] == 2:
            raise LookupError("as a user's code may")

    vae = VAE(**SMALL, epochs=9)
    with pytest.raises(LookupError):
        vae.fit(table, callback=fail)
    whole = VAE(**SMALL, epochs=2).fit(table)
    np.testing.assert_array_equal(vae.transform(table), whole.transform(table))


def test_detects_rows_that_are_far_from_the_others(table):
    rows = np.vstack([table, table[:6] + [[30, -30, 30, -30, 30, -30]]])
    detector = VAEDetector(contamination=6 / 306, random_state=1).fit(rows)
    assert (detector.predict(rows) == -1).sum() == 6
    assert (detector.predict(rows[-6:]) == -1).all()
    assert (detector.fit_predict(rows) == detector.predict(rows)).all()
    np.testing.assert_allclose(
        detector.decision_function(rows), detector.score_samples(rows) - detector.offset_
    )
    # A single wrong value is found in its feature.
    row = table[:1].copy()
    row[0, 3] += 50
    assert detector.score_features(row).argmin() == 3


def test_partial_fit_goes_on(table):
    vae = VAE(**SMALL)
    losses = [vae.partial_fit(table).score(table) for _ in range(20)]
    assert losses[-1] > losses[0] and vae.n_epochs_ == 20
    whole = VAE(**SMALL, epochs=20).fit(table)
    np.testing.assert_array_equal(vae.transform(table), whole.transform(table))
    vae.fit(table).partial_fit(table)
    assert vae.n_epochs_ == 11


def test_frames_and_names(table):
    frame = pd.DataFrame(table, columns=[f"c{i}" for i in range(6)])
    vae = VAE(**SMALL, epochs=2).set_output(transform="pandas").fit(frame)
    codes = vae.transform(frame)
    assert list(codes.columns) == list(vae.get_feature_names_out()) == ["vae0", "vae1"]
    np.testing.assert_array_equal(vae.feature_names_in_, frame.columns)
    assert (codes.to_numpy() == VAE(**SMALL, epochs=2).fit(table).transform(table)).all()


def test_names_go_into_model_files(table, tmp_path):
    frame = pd.DataFrame(table, columns=[f"c{i}" for i in range(6)])
    VAE(**SMALL, epochs=2).fit(frame).save(tmp_path / "model.safetensors")
    loaded = VAE.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.feature_names_in_, frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame[frame.columns[::-1]])


def test_pipelines_and_searches(table):
    pipeline = make_pipeline(StandardScaler(), VAE(**SMALL, epochs=2, scale="none"))
    assert pipeline.fit_transform(table).shape == (300, 2)
    search = GridSearchCV(
        VAE(**SMALL, epochs=3), {"n_components": [1, 2], "beta": [0.5, 1.0]}, cv=2
    )
    search.fit(table)
    assert set(search.best_params_) == {"n_components", "beta"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pickles_copies_and_clones(table):
    vae = VAE(**SMALL, epochs=2, activation="gelu", layer_norm=True).fit(table)
    for again in (pickle.loads(pickle.dumps(vae)), copy.deepcopy(vae)):
        np.testing.assert_array_equal(again.transform(table), vae.transform(table))
        assert again.partial_fit(table).n_epochs_ == 3
    assert not hasattr(clone(vae), "model_")
    state = vae.__getstate__() | {"_elbo_vae": (99, "9.0.0")}
    with pytest.raises(
        ValueError, match=r"this pickle has format 99, written by elbo-vae 9.0.0; .*save\(\)"
    ):
        VAE().__setstate__(state)


def test_all_numbers_of_threads_give_the_same_bits(table):
    fits = [VAE(**SMALL, epochs=2, n_jobs=jobs).fit(table) for jobs in (None, 1, 2, -1)]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.transform(table), fits[0].transform(table))


def test_rows_of_any_layout_give_the_same_bits(table):
    wanted = VAE(**SMALL, epochs=2).fit(table).transform(table)
    wide = np.full((600, 20), np.nan)
    wide[::2, 3:15:2] = table
    turned = np.asfortranarray(table)
    for rows in (wide[::2, 3:15:2], turned, table[::-1][::-1], table.astype(">f8"), table.tolist()):
        found = VAE(**SMALL, epochs=2).fit(rows).transform(rows)
        np.testing.assert_array_equal(found, wanted)


def test_random_states(table):
    def codes(state):
        return VAE(2, hidden=16, epochs=1, random_state=state).fit(table).transform(table)

    assert (codes(np.random.RandomState(3)) == codes(np.random.RandomState(3))).all()
    assert (codes(None) != codes(None)).any()
    assert VAE(2, hidden=4, epochs=1, random_state=2**64 - 1).fit(table).seed_ == 2**64 - 1


def test_scales(table, images):
    rows = MinMaxScaler().fit_transform(table)
    vae = VAE(**SMALL, likelihood="bernoulli", scale="min-max", epochs=2).fit(table)
    same = VAE(**SMALL, likelihood="bernoulli", epochs=2).fit(rows)
    np.testing.assert_allclose(vae.transform(table), same.transform(rows), atol=1e-5)
    # Values beyond the training rows are clipped, and count by their distance.
    beyond = table.max(axis=0, keepdims=True) + 3.0
    assert vae.score_samples(beyond) < vae.score_samples(table.max(axis=0, keepdims=True))
    constant = np.hstack([table, np.full((300, 1), 7.0)])
    back = VAE(**SMALL, epochs=2).fit(constant).reconstruct(constant)
    assert (back[:, 6] == 7.0).all()


def test_progress(table, capsys, monkeypatch):
    VAE(**SMALL, epochs=2, verbose=True, validation_fraction=0.1).fit(table)
    assert "2/2" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    VAE(**SMALL, epochs=2, verbose=True, validation_fraction=0.1).fit(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2: train ")
    assert ", validation " in lines[0]


def test_imports_what_it_uses():
    import subprocess

    program = "import sys, elbo_vae.loss; print([m for m in ('sklearn', 'pandas', 'torch', 'pyod', 'tqdm') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert {"VAE", "VAEDetector", "loss"} <= set(dir(elbo_vae))
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        elbo_vae.other
