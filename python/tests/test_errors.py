"""The message for each kind of bad input."""

import json
import re
import threading

import numpy as np
import pytest
import scipy.sparse

from elbo_vae import VAE, Compute, Data, Model, Trainer, VAEDetector, loss

CONFIG = json.dumps({"features": 6, "encoder": [4], "latent": 2, "decoder": [4]})


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        (lambda x: x.astype(np.float64), TypeError, "`logits`: expected float32, found float64; convert it with "
            r"logits.astype\(numpy.float32\)"),
        (lambda x: x.astype(">f4"), TypeError, "found >f4 of foreign byte order; convert it with"),
        (lambda x: x.astype(object), TypeError, "expected float32, found object; convert it"),
        (lambda x: x.tolist(), TypeError, "expected a NumPy array of float32, found list; convert it with "
            r"numpy.asarray\("),
        (lambda x: scipy.sparse.csr_array(x), TypeError, r"found csr_array; convert it with .*.toarray\(\)"),
        (lambda x: x[0], ValueError, "expected 2 dimensions, found shape .7.; reshape it"),
        (lambda x: x[:, :5], ValueError, "expected shape .4, [57]., found .4, [57]."),
        (lambda x: x[:, ::-1], ValueError, "rows must be contiguous"),
        (lambda x: np.zeros((4, 7), dtype=[("a", "u1"), ("x", "f4")])["x"], ValueError, "not aligned; convert it "
            "with numpy.ascontiguousarray"),
        (lambda x: None, TypeError, "found NoneType"),
    ],
)  # fmt: skip
def test_arrays_of_the_loss(change, error, expected):
    x = np.zeros((4, 7), np.float32)
    for name, arguments in (("outputs", (change(x), x)), ("targets", (x, change(x)))):
        found = message(error, lambda: loss.bernoulli(*arguments, out=x.copy()))
        assert re.search(expected.replace("logits", name), found), found


def test_targets_and_settings_of_the_loss():
    x = np.zeros((4, 7), np.float32)
    bad = x.copy()
    bad[2, 3] = 1.5
    assert "row 2, column 3: 1.5 is outside [0, 1]" in message(
        ValueError, lambda: loss.bernoulli(x, bad)
    )
    bad[2, 3] = np.nan
    assert "row 2, column 3: NaN in the data" in message(
        ValueError, lambda: loss.squared_error(x, bad)
    )
    # NaN in outputs shows in the value.
    assert np.isnan(loss.squared_error(bad, x).value)
    expected = "`reduction`: expected batch-mean, sum or mean, found 'none'"
    assert message(ValueError, lambda: loss.kl(x, x, reduction="none")) == expected
    assert "'poisson'" in message(ValueError, lambda: loss.elbo(x, x, x, x, likelihood="poisson"))
    assert "`prior" in message(ValueError, lambda: loss.kl(x, x, prior=(0.0, -1.0)))
    assert "beta" in message(ValueError, lambda: loss.elbo(x, x, x, x, beta=-1.0))
    assert loss.bernoulli(x[:0], x[:0], reduction="sum").value == 0.0
    message(ValueError, lambda: loss.bernoulli(x[:0], x[:0]))


def test_places_of_gradients():
    x = np.zeros((4, 7), np.float32)
    place = np.zeros((4, 14), np.float32)
    assert "overlaps another argument" in message(
        ValueError, lambda: loss.bernoulli(x, x.copy(), out=x)
    )
    found = message(ValueError, lambda: loss.kl(x, x, out=(place[:, :7], place[:, 6:13])))
    assert found.startswith("`dlogvar`: the array overlaps another argument")
    found = message(ValueError, lambda: loss.kl(x, x, out=(place[:, :7], place[::-1, 7:])))
    assert "results need contiguous rows, found strides [-56, 4]" in found
    found = message(ValueError, lambda: loss.kl(x[:2], x[:2], out=(place[:2, :7], place[1:3, :7])))
    assert "overlaps" in found
    found = message(ValueError, lambda: loss.kl(place[::-1, :7], x, out=(place[:, :7], x.copy())))
    assert "overlaps" in found
    loss.kl(x, x, out=(place[:, :7], place[:, 7:]))
    loss.kl(place[:, :7], place[:, 7:], out=(x, x.copy()))
    found = message(ValueError, lambda: loss.kl(place[:, :7], x, out=(place[:, 7:], place[:, :7])))
    assert "`dlogvar`" in found
    frozen = x.copy()
    frozen.flags.writeable = False
    assert "read-only" in message(ValueError, lambda: loss.bernoulli(x, x, out=frozen))
    found = message(ValueError, lambda: loss.bernoulli(x, x, out=place[:, ::2]))
    assert "results need contiguous rows" in found
    assert "float32" in message(TypeError, lambda: loss.bernoulli(x, x, out=x.astype(float)))
    assert "`doutputs`: expected shape" in message(
        ValueError, lambda: loss.bernoulli(x, x, out=place)
    )


@pytest.mark.parametrize(
    ("rows", "error", "expected"),
    [
        (np.array([[1.0, np.nan], [1, 2]]), ValueError, "contains NaN"),
        (np.array([[1.0, np.inf], [1, 2]]), ValueError, "infinity"),
        (np.zeros((0, 3)), ValueError, r"0 sample\(s\)"),
        (np.zeros((3, 0)), ValueError, r"0 feature\(s\)"),
        (np.zeros(3), ValueError, "Reshape your data"),
        (np.zeros((3, 2, 2)), ValueError, "dim 3"),
        (np.array([["a", "b"]], dtype=object), ValueError, "could not convert string to float"),
        (scipy.sparse.csr_array(np.eye(3)), TypeError, "Sparse data was passed"),
        (np.ones((3, 2)) * 1j, ValueError, "Complex data not supported"),
    ],
)
def test_rows_of_an_estimator(rows, error, expected):
    for estimator in (VAE(epochs=1), VAEDetector(epochs=1)):
        assert re.search(expected, message(error, lambda: estimator.fit(rows)))


def test_rows_of_a_fitted_estimator(table):
    vae = VAE(2, hidden=4, epochs=1, random_state=1).fit(table)
    for call in (vae.transform, vae.score_samples, vae.score_features, vae.reconstruct, vae.score):
        assert "NaN" in message(ValueError, lambda: call(np.full((2, 6), np.nan)))
        assert "expecting 6 features" in message(ValueError, lambda: call(table[:, :4]))
        assert "Reshape" in message(ValueError, lambda: call(table[0]))
    assert "z" in message(ValueError, lambda: vae.inverse_transform(np.zeros((2, 5))))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"likelihood": "poisson"}, "'likelihood' parameter of VAE must be a str among"),
        ({"n_components": 0}, "'n_components' parameter of VAE must be an int"),
        ({"hidden": (4, 0)}, r"hidden: expected widths of at least 1; found \(4, 0\)"),
        ({"activation": "swish"}, "`activation`: expected"),
        ({"optimizer": "rmsprop"}, "`optimizer`: expected"),
        ({"learning_rate": -1.0}, "`learning_rate`: expected"),
        ({"momentum": 0.9}, "momentum: it does not apply to optimizer='adam'"),
        ({"nesterov": True}, "nesterov: it does not apply to optimizer='adam'"),
        (
            {"adam_beta1": 0.5, "optimizer": "sgd"},
            "adam_beta1: it does not apply to optimizer='sgd'",
        ),
        ({"annealing": "sigmoid"}, "annealing: expected one of 'constant'"),
        (
            {"annealing": "linear", "anneal_over": "3years"},
            "anneal_over: expected a number of epochs",
        ),
        ({"free_bits": 0.1, "capacity": 1.0}, "free_bits: it excludes capacity; give one of them"),
        ({"free_bits": 0.1, "free_bits_per": "batch"}, "free_bits_per: expected one of"),
        ({"beta": 2.0, "capacity": 1.0}, "`beta`: expected 1 with a capacity"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm: it excludes clip_value"),
        ({"schedule": "linear"}, "schedule: expected one of"),
        ({"dropout": 1.5}, "dropout"),
        ({"epochs": 0}, "epochs: expected a number of epochs"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"variance": "free"}, "variance: expected one of 'shared'"),
        (
            {"variance": 1.0, "likelihood": "squared-error"},
            "variance: it applies only to likelihood='gaussian'",
        ),
        ({"pos_weight": 2.0}, "pos_weight: it applies only to likelihood='bernoulli'"),
        ({"augmentation": "blur"}, "`augmentation`: expected none, binarize or dequantize"),
        ({"likelihood": "bernoulli"}, r"is outside \[0, 1\]"),
        ({"patience": 2, "validation_fraction": 0.0}, "validation_fraction: patience, keep='best'"),
        ({"random_state": -1}, "'random_state' parameter|random_state: expected 0"),
        ({"total_correlation": True, "batch_size": 1}, "`batch`: expected at least 2 rows"),
    ],
)
def test_parameters(table, parameters, expected):
    vae = VAE(**{"n_components": 2, "hidden": 4, "epochs": 1, **parameters})
    found = message(ValueError, lambda: vae.fit(table))
    assert re.search(expected, found), found
    assert not hasattr(vae, "model_")


def test_what_is_refused(table):
    vae = VAE(2, hidden=4, epochs=1, random_state=1)
    # Rows have no weights in the crate's objective.
    assert "sample_weight" in message(TypeError, lambda: vae.fit(table, sample_weight=np.ones(300)))
    found = message(ValueError, lambda: VAE(validation_fraction=0.1).fit(table, validation=table))
    assert "excludes validation rows of their own" in found
    assert "expected uint8 with scale='bytes', found float64" in message(
        TypeError, lambda: VAE(scale="bytes").fit(table)
    )
    found = message(ValueError, lambda: VAEDetector(variance="optimal").fit(table))
    assert "under 'optimal' a single row has no score" in found
    found = message(ValueError, lambda: VAE(annealing="linear").partial_fit(table))
    assert found.startswith("anneal_over: its default depends on the number of epochs")
    optimal = VAE(2, hidden=4, epochs=1, variance="optimal").fit(table)
    assert "`variance`: expected a fixed or learned one" in message(
        ValueError, lambda: optimal.score_samples(table)
    )
    assert np.isfinite(optimal.score(table))


def test_divergence_is_a_floating_point_error(table):
    vae = VAE(2, hidden=4, scale="none", epochs=3, random_state=1)
    found = message(FloatingPointError, lambda: vae.fit(table * 1e6))
    assert "step 1" in found and not hasattr(vae, "model_")
    # One that diverges later keeps the weights of the last good step.
    vae.set_params(learning_rate=1e30, optimizer="sgd", scale=None)
    assert "step 2" in message(FloatingPointError, lambda: vae.fit(table))
    assert np.isfinite(vae.model_.tensors()["mu.weight"]).all()


def test_model_files(tmp_path, table):
    vae = VAE(2, hidden=4, epochs=1).fit(table)
    path = tmp_path / "model.safetensors"
    vae.save(path)
    assert isinstance(Model.load(path)[0], Model)
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        VAE.load(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    assert "not a complete safetensors file" in message(ValueError, lambda: VAE.load(path))
    conditional = json.dumps(json.loads(CONFIG) | {"conditions": 3})
    Model(conditional, 1).save(path)
    assert "the model is conditional" in message(ValueError, lambda: VAE.load(path))
    Model(CONFIG, 1).save(path, json.dumps({"data": {"signed": True}}))
    assert "--signed" in message(ValueError, lambda: VAE.load(path))
    Model(CONFIG, 1).save(path)
    assert VAE.load(path).transform(table).shape == (300, 2)
    assert "no scores of training rows" in message(ValueError, lambda: VAEDetector.load(path))


def test_a_closed_model(table):
    vae = VAE(2, hidden=4, epochs=1).fit(table)
    vae.model_.close()
    expected = "the model is closed; load or fit it again"
    assert message(ValueError, lambda: vae.transform(table)) == expected
    assert repr(vae.model_) == "Model(closed)"


def test_parts(table):
    assert "features" in message(ValueError, lambda: Model(CONFIG.replace("6", "0"), 1))
    model = Model(CONFIG, 1)
    assert repr(model) == "Model(6-4-2-4-6, 90 parameters)"
    rows = np.zeros((3, 6), np.float32)
    order = np.array([0, 3], np.uint32)
    assert "row 3 is not among the 3 rows" in message(ValueError, lambda: Data(rows, order=order))
    assert "belong together" in message(ValueError, lambda: Data(rows, shift=np.zeros(6)))
    found = message(ValueError, lambda: Data(rows, shift=np.zeros(5), divisor=np.ones(5)))
    assert "expected 5 features" in found
    found = message(ValueError, lambda: Data(rows, conditions=np.zeros((2, 1), np.float32)))
    assert "expected 3 rows, one for each of `x`, found 2" in found
    assert "`x`" in message(TypeError, lambda: Data(rows.astype(np.int32)))
    assert "`x`: expected shape [3, 6]" in message(
        ValueError, lambda: model.encode(Data(rows[:, :5].copy()))
    )
    with pytest.raises(KeyError, match="no tensor"):
        Model.from_tensors(CONFIG, {})
    message(OverflowError, lambda: Compute(-1))
    assert Compute(0).threads >= 1
    assert Data(np.array([[0.0, 1.0], [np.nan, 0.0]])).first_not_finite() == (1, 0)


def test_conditional_models(table):
    rng = np.random.default_rng(0)
    config = json.dumps(json.loads(CONFIG) | {"conditions": 2, "likelihood": "squared_error"})
    conditions = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 300)]
    data = Data(table.astype(np.float32) / 20, conditions=conditions)
    options = {
        "batch": 32,
        "objective": {"beta": 1.0, "reduction": "BatchMean"},
        "optimiser": {
            "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        },
        "seed": 1,
    }
    trainer = Trainer(Model(config, 1), json.dumps(options), Compute(1))
    losses = [trainer.epoch(data)[2] for _ in range(10)]
    assert losses[-1] < losses[0] and trainer.epochs == 10 and trainer.steps == 100
    model = trainer.model()
    codes, _ = model.encode(data)
    decoded = model.decode(codes, conditions=conditions)
    np.testing.assert_array_equal(decoded, model.reconstruct(data))
    assert model.sample(3, 1, conditions=conditions[:3]).shape == (3, 6)
    assert "conditions" in message(ValueError, lambda: model.decode(codes))
    expected = "`conditions`: expected 2 columns, found 0"
    assert message(ValueError, lambda: model.encode(Data(table))) == expected
    assert message(ValueError, lambda: model.reconstruct(Data(table))) == expected
    assert "expected 2 rows" in message(
        ValueError, lambda: model.sample(2, 1, conditions=conditions)
    )


def test_a_trainer_in_use(table):
    """A second thread gets an error, and does not wait with the interpreter's lock."""
    options = json.dumps(
        {
            "batch": 1,
            "objective": {"beta": 1.0, "reduction": "BatchMean"},
            "optimiser": {
                "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
            },
            "seed": 1,
        }
    )
    trainer = Trainer(Model(CONFIG, 1), options)
    rows = np.broadcast_to(np.full(6, 0.5, np.float32), (400_000, 6))
    thread = threading.Thread(target=trainer.epoch, args=(Data(rows),))
    thread.start()
    found = None
    while thread.is_alive() and found is None:
        try:
            assert trainer.steps in (0, 400_000)
        except RuntimeError as error:
            found = str(error)
    thread.join()
    assert found == "the trainer is in use by another thread; wait until it has finished"
