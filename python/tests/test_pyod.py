"""The adapter to PyOD."""

import numpy as np
import pytest
from sklearn.base import clone

from elbo_vae import VAEDetector

pytest.importorskip("pyod")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_signs_and_labels_are_those_of_pyod(table):
    from elbo_vae.pyod import VAE

    rows = np.vstack([table, table[:3] + [[40, -40, 40, -40, 40, -40]]])
    detector = VAEDetector(random_state=1)
    adapter = VAE(contamination=0.01, detector=detector).fit(rows)
    assert sorted(adapter.decision_scores_.argsort()[-3:]) == [300, 301, 302]
    assert set(np.flatnonzero(adapter.labels_)) >= {300, 301, 302}
    assert adapter.labels_.sum() == 4
    np.testing.assert_array_equal(adapter.decision_function(rows), adapter.decision_scores_)
    np.testing.assert_array_equal(adapter.predict(rows), adapter.labels_)
    of_sklearn = clone(detector).set_params(contamination=0.01).fit(rows)
    np.testing.assert_array_equal(-of_sklearn.score_samples(rows), adapter.decision_scores_)
    assert adapter.predict_proba(rows).shape == (303, 2)
    # The detector that was given is left as it was.
    assert not hasattr(detector, "model_")
    assert set(adapter.get_params(deep=False)) == {"contamination", "detector"}
