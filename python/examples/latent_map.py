"""Digits on a map: a model of two latent dimensions, and where it puts each image.

python latent_map.py [latent_map.png]
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from elbo_vae import VAE

# 1,797 images of 8 x 8 pixels, as numbers in [0, 1].
images, labels = load_digits(return_X_y=True)
train, test, train_labels, test_labels = train_test_split(
    images / 16.0, labels, test_size=300, stratify=labels, random_state=0
)

vae = VAE(
    n_components=2,
    hidden=(256, 128),
    likelihood="bernoulli",
    annealing="linear",
    epochs=300,
    patience=40,
    random_state=1,
    n_jobs=-1,
)
vae.fit(train)
print(
    f"epoch {vae.best_epoch_} of {vae.n_epochs_}: evidence lower bound {vae.score(test):.2f} nats on {len(test)} other images"
)

# Images of one digit lie together: the nearest neighbors on the map name most of them.
codes = vae.transform(test)
neighbors = KNeighborsClassifier(15).fit(vae.transform(train), train_labels)
accuracy = neighbors.score(codes, test_labels)
print(f"digits named by their neighbors on the map: {accuracy:.0%}")
assert accuracy > 0.6, "the map does not separate the digits"

if len(sys.argv) > 1:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6))
    points = left.scatter(*vae.transform(train).T, c=train_labels, cmap="tab10", s=8)
    left.legend(*points.legend_elements(), title="digit", loc="upper right")
    left.set(title="mean of each image's latent code", xlabel="dimension 1", ylabel="dimension 2")
    # The decoder's image for each place of a grid.
    axis = np.linspace(-2.5, 2.5, 16)
    places = np.array([[x, y] for y in axis[::-1] for x in axis])
    grid = vae.inverse_transform(places).reshape(16, 16, 8, 8)
    right.imshow(grid.transpose(0, 2, 1, 3).reshape(128, 128), cmap="gray", extent=(-2.5, 2.5) * 2)
    right.set(title="decoded codes", xlabel="dimension 1")
    figure.savefig(sys.argv[1], bbox_inches="tight")
    print("written:", sys.argv[1])
