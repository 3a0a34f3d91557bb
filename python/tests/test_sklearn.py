"""The rules of scikit-learn."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from elbo_vae import VAE, VAEDetector


@parametrize_with_checks([VAE(), VAEDetector()])
def test_rules_of_scikit_learn(estimator, check):
    check(estimator)
