"""Measures JAX, jit-compiled: training step, loss with gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import measure

threads, cases = measure.arguments()
# XLA uses one thread for each core that the process may run on; it has no option for fewer.
peer = measure.Peer("JAX", jax.__version__, threads)


def objective(o, x, mu, logvar):
    bce = jnp.maximum(o, 0) - o * x + jnp.log1p(jnp.exp(-jnp.abs(o)))
    return jnp.sum(bce) - 0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar))


def model_loss(layers, x, key):
    apply = lambda layer, x: x @ layer[0] + layer[1]
    encoder, to_mu, to_logvar, decoder, output = layers
    hidden = jax.nn.relu(apply(encoder, x))
    mu, logvar = apply(to_mu, hidden), apply(to_logvar, hidden)
    z = mu + jax.random.normal(key, mu.shape) * jnp.exp(0.5 * logvar)
    return objective(apply(output, jax.nn.relu(apply(decoder, z))), x, mu, logvar)


def train(widths, batch):
    layers = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in measure.network(widths)]
    x = jnp.asarray(measure.binary((batch, widths[0]), 1))
    adam = optax.adam(1e-3)

    # Donated buffers let the new parameters and moments replace the old ones in place.
    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(layers, moments, key, x):
        key, noise = jax.random.split(key)
        loss, gradients = jax.value_and_grad(model_loss)(layers, x, noise)
        updates, moments = adam.update(gradients, moments, layers)
        return optax.apply_updates(layers, updates), moments, key, loss

    state = (layers, adam.init(layers), jax.random.PRNGKey(0))

    def work():
        nonlocal state
        *state, loss = step(*state, x)
        return loss

    first = float(work())
    peer.time("train_step", measure.shape_of(widths), batch, work, jax.block_until_ready)
    assert float(work()) < first, "training does not reduce the loss"


def loss(rows):
    inputs = measure.loss_inputs(rows)
    call = jax.jit(jax.value_and_grad(objective, argnums=(0, 2, 3)))
    on_device = [jnp.asarray(a) for a in inputs]
    work = lambda: jax.block_until_ready(call(*on_device))
    assert np.isclose(float(work()[0]), measure.loss_value(*inputs), rtol=1e-4)
    peer.time("loss", measure.LOSS_SHAPE, rows, work)


if "train_step" in cases:
    for widths, batch in measure.TRAIN:
        train(widths, batch)
if "loss" in cases:
    for rows in measure.LOSS_ROWS:
        loss(rows)
