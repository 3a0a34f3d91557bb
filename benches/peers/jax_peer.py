"""Measures JAX, jit-compiled: training step, loss with gradients.

`jax_peer.py --threads N CASE …` measures every variant: dispatch is asynchronous or synchronous, which is fixed for a
process, and a call makes one training step or scans over several.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import measure

DISPATCH = ("async", "sync")

if sys.argv[1:2] not in [[mode] for mode in DISPATCH]:
    runs = [subprocess.run([sys.executable, __file__, mode, *sys.argv[1:]]) for mode in DISPATCH]
    sys.exit(any(run.returncode for run in runs))

dispatch = sys.argv.pop(1)
# Read once, when the first array is made.
jax.config.update("jax_cpu_enable_async_dispatch", dispatch == "async")
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
    x = jnp.asarray(measure.binary((batch, widths[0]), 1))
    adam = optax.adam(1e-3)

    def initial():
        layers = [(jnp.asarray(w.T), jnp.asarray(b)) for w, b in measure.network(widths)]
        return layers, adam.init(layers), jax.random.PRNGKey(0)

    def step(state, x):
        layers, moments, key = state
        key, noise = jax.random.split(key)
        loss, gradients = jax.value_and_grad(model_loss)(layers, x, noise)
        updates, moments = adam.update(gradients, moments, layers)
        return (optax.apply_updates(layers, updates), moments, key), loss

    def time(variant, call, state, steps):
        def work():
            nonlocal state
            state, loss = call(state, x)
            return loss

        shape = measure.shape_of(widths)
        return peer.time("train_step", shape, batch, work, jax.block_until_ready, variant, steps)

    # Donated buffers let the new parameters and moments replace the old ones in place.
    one = jax.jit(step, donate_argnums=0)
    state, losses = initial(), []
    for _ in range(measure.CHECKED_STEPS):
        state, loss = one(state, x)
        losses.append(float(loss))
    assert losses[-1] < losses[0], "training does not reduce the loss"
    milliseconds = time(dispatch, one, state, 1)

    # As many steps as fill a repetition, and enough for the check.
    steps = max(measure.CHECKED_STEPS, round(measure.REPETITION * 1e3 / milliseconds))
    scan = lambda state, x: jax.lax.scan(lambda state, _: step(state, x), state, length=steps)
    several = jax.jit(scan, donate_argnums=0)
    state, scanned = several(initial(), x)
    # Other noise, or the same noise in each step, changes the losses by more than this.
    assert np.allclose(scanned[: len(losses)], losses, rtol=1e-5), "scan trains differently"
    time(f"{dispatch}, scan", several, state, steps)


def loss(rows):
    inputs = measure.loss_inputs(rows)
    call = jax.jit(jax.value_and_grad(objective, argnums=(0, 2, 3)))
    on_device = [jnp.asarray(a) for a in inputs]
    work = lambda: call(*on_device)
    assert np.isclose(float(work()[0]), measure.loss_value(*inputs), rtol=1e-4)
    peer.time("loss", measure.LOSS_SHAPE, rows, work, jax.block_until_ready, dispatch)


if "train_step" in cases:
    for widths, batch in measure.TRAIN:
        train(widths, batch)
if "loss" in cases:
    for rows in measure.LOSS_ROWS:
        loss(rows)
