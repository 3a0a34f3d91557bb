"""Compares the reconstructions of PyTorch and elbo for the same model file.

    elbo reconstruct --model model.safetensors --data data.npy --out recon.npy
    python tests/golden/check_model.py model.safetensors data.npy recon.npy

Loads the file into the module of vae.py with `load_state_dict`, which rejects missing, unexpected and
misshapen tensors, and prints the largest difference. The exit code is 1 if it exceeds 1e-5. Like
elbo, the script divides u8 data by 255.
"""

import sys

import numpy as np
import torch
from safetensors.torch import load_file

from vae import VAE


def largest_difference(model_path, data_path, recon_path):
    state = load_file(model_path)
    features = state["encoder.0.weight"].shape[1]
    depth = sum(k.startswith("encoder.") and k.endswith(".weight") for k in state)
    hidden = [state[f"encoder.{i}.weight"].shape[0] for i in range(depth)]
    model = VAE(features, hidden, state["mu.weight"].shape[0])
    model.load_state_dict(state)

    data = np.load(data_path)
    data = data.reshape(len(data), -1)
    scale = 255 if data.dtype == np.uint8 else 1
    with torch.no_grad():
        ours = model(torch.from_numpy(data.astype(np.float32) / np.float32(scale))).numpy()
    theirs = np.load(recon_path)
    theirs = theirs.reshape(len(theirs), -1)
    if ours.shape != theirs.shape:
        sys.exit(f"{recon_path}: expected shape {ours.shape}, found {theirs.shape}")
    return np.abs(ours - theirs).max(), ours.shape


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    difference, shape = largest_difference(*sys.argv[1:])
    print(f"largest difference over {shape[0]} x {shape[1]} values: {difference:.2e}")
    sys.exit(not difference <= 1e-5)
