#!/usr/bin/env python3
"""A model of training on many ranks: the time of a step for up to 1,024 of them, from rates measured on two.

    benches/ranks/model.py                        Markdown tables
    benches/ranks/model.py --check                exit status 1 if a measured step is not predicted within 25 %
    benches/ranks/model.py --picture FILE.svg     weak and strong scaling

Everything that it prints is a prediction, except the column "measured".

Method
1. A rank computes the forward and backward pass of its rows. Then all ranks agree on the loss: log2 R messages.
2. The weight gradients follow, bucket by bucket from the last layer to the first. When a bucket is complete, its first
   message leaves. Between two buckets the rank looks for messages that have arrived, adds or copies them, and sends
   those of the next round. All ranks do the same at the same time, so it is enough to follow one.
3. A message takes `latency + bytes / bandwidth`. A rank sends one after another, and spends `copy` on each byte.
4. A bucket whose sum is complete is applied by Adam. The step ends with the last one.
"""

import argparse
import math
import sys
from dataclasses import dataclass

# Weights of a bucket: `BUCKET` of src/distributed/reduction.rs.
BUCKET = 1 << 16


@dataclass(frozen=True)
class Network:
    """A VAE, and the seconds that parts of its step take on one rank of one thread."""

    name: str
    weights: int
    forward_backward: float  # for each row
    weight_gradient: float  # for each row
    adam: float  # for each weight


@dataclass(frozen=True)
class Link:
    """What connects the ranks."""

    name: str
    latency: float  # seconds
    bandwidth: float  # bytes in a second that a rank can send
    copy: float  # seconds of the processor for each byte sent, and for each byte received


NO_MESSAGES = Link("", 0.0, math.inf, 0.0)


def tree(ranks):
    """Shares of a bucket in the messages that a rank sends: recursive halving, then doubling."""
    power = 1 << (ranks.bit_length() - 1)
    halvings = [0.5**k for k in range(1, power.bit_length())]
    # Ranks beyond the largest power of two send everything before, and receive everything after.
    extra = [1.0] if power < ranks else []
    return extra + halvings + halvings[::-1] + extra


def ring(ranks):
    """The same for a ring: each message has one part of R."""
    return [1.0 / ranks] * (2 * (ranks - 1))


def step(network, rows, ranks, link, shares_of=tree, speed=1.0):
    """Seconds of a step with `rows` rows on each of `ranks` ranks, each `speed` times as fast as one thread."""
    now = rows * network.forward_backward / speed
    if ranks > 1:
        now += math.ceil(math.log2(ranks)) * link.latency  # 1.
    buckets = max(1, network.weights // BUCKET)
    size = network.weights / buckets
    shares = shares_of(ranks) if ranks > 1 else []
    free, flights = 0.0, []

    def send(share, now):
        """Sends a message. Returns when the processor is free again, and when the message arrives."""
        nonlocal free
        bytes = 4 * size * share
        now += bytes * link.copy
        free = max(now, free) + bytes / link.bandwidth
        return now, free + link.latency

    def advance(now):
        """Handles all messages that have arrived. Returns the time after that."""
        for flight in list(flights):
            while flight[1] <= now:
                now += 4 * size * shares[flight[0]] * link.copy
                flight[0] += 1
                if flight[0] == len(shares):
                    flights.remove(flight)
                    now += size * network.adam / speed  # 4.
                    break
                now, flight[1] = send(shares[flight[0]], now)
        return now

    for _ in range(buckets):  # 2.
        now += rows * network.weight_gradient / buckets / speed
        if not shares:
            now += size * network.adam / speed
            continue
        now, arrival = send(shares[0], now)
        flights.append([0, arrival])
        now = advance(now)
    while flights:
        now = advance(max(now, min(arrival for _, arrival in flights)))
    return now


def overhead(network, rows, ranks, link, speed=1.0):
    """Part of a step by which messages make it longer."""
    without = step(network, rows, ranks, NO_MESSAGES, speed=speed)
    return step(network, rows, ranks, link, speed=speed) / without - 1


def hidden_from(network, ranks, link, speed=1.0, most=0.05):
    """The fewest rows of a rank, a multiple of 8, for which messages make a step at most `most` longer."""
    high = 8
    while overhead(network, high, ranks, link, speed) > most:
        high *= 2
        if high > 1 << 24:
            return None
    low = high // 2
    while high - low > 8:
        middle = (low + high) // 16 * 8
        low, high = (low, middle) if overhead(network, middle, ranks, link, speed) <= most else (middle, high)
    return high


# Measured with `cargo bench --bench ranks -- threads` on two processors of an AMD EPYC with Zen 4 cores: a step of 128
# rows without messages, less Adam at 0.55 ns a weight, of which the weight gradients are 38 % (profiled).
def measured(name, features, hidden, latent, seconds):
    layers = [(features, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, features)]
    weights = sum((inputs + 1) * outputs for inputs, outputs in layers)
    adam = 0.55e-9
    of_row = (seconds - weights * adam) / 128
    return Network(name, weights, 0.62 * of_row, 0.38 * of_row, adam)


SMALL = measured("784-400-20", 784, 400, 20, 4.59e-3)
LARGE = measured("2048-1024-64", 2048, 1024, 64, 31.7e-3)

# 5 GB/s: the value with which the steps below are predicted best.
COPY = 0.2e-9
FAST = Link("5 µs, 100 Gbit/s", 5e-6, 12.5e9, COPY)
MIDDLE = Link("30 µs, 10 Gbit/s", 30e-6, 1.25e9, COPY)
SLOW = Link("50 µs, 1 Gbit/s", 50e-6, 0.125e9, COPY)
LINKS = [FAST, MIDDLE, SLOW]

# Milliseconds of a step on two ranks with 128 rows each, measured with emulated links.
KNOWN = [
    (SMALL, FAST, 6.66),
    (SMALL, MIDDLE, 6.55),
    (SMALL, SLOW, 24.15),
    (LARGE, FAST, 34.70),
    (LARGE, MIDDLE, 37.57),
    (LARGE, SLOW, 157.96),
]
TOLERANCE = 0.25

# A machine of sixteen cores, 14 times as fast as one thread: the model of many cores in PERFORMANCE.md.
MACHINE = 14.0

RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def table(heads, lines):
    print("| " + " | ".join(heads) + " |")
    print("|---|" + "--:|" * (len(heads) - 1))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g} ms"


def check():
    lines, failed = [], False
    for network, link, known in KNOWN:
        predicted = 1e3 * step(network, 128, 2, link)
        error = predicted / known - 1
        failed |= abs(error) > TOLERANCE
        lines.append([f"{network.name}, {link.name}", f"{known:.3g} ms", f"{predicted:.3g} ms", f"{100 * error:+.0f} %"])
    table(["two ranks, 128 rows each", "measured", "predicted", "error"], lines)
    return failed


def weak(network, rows, speed, link, ranks):
    """Rows a second, compared with as many ranks whose messages cost nothing."""
    return step(network, rows, 1, NO_MESSAGES, speed=speed) / step(network, rows, ranks, link, speed=speed)


def strong(network, batch, speed, link, ranks):
    """How many times as fast as one rank a batch of so many rows is."""
    return step(network, batch, 1, NO_MESSAGES, speed=speed) / step(network, batch / ranks, ranks, link, speed=speed)


def tables():
    for speed, who in ((1.0, "one thread"), (MACHINE, "sixteen cores")):
        print(f"**Weak scaling**, 1,024 rows on each rank of {who}: part of the speed that is left\n")
        lines = [
            [f"{network.name}, {link.name}"] + [f"{100 * weak(network, 1024, speed, link, r):.0f} %" for r in RANKS[1:]]
            for network in (SMALL, LARGE)
            for link in LINKS
        ]
        table(["ranks"] + [str(r) for r in RANKS[1:]], lines)
        print(f"**Strong scaling**, a batch of 8,192 rows, ranks of {who}: times as fast as one rank\n")
        lines = [
            [f"{network.name}, {link.name}"] + [f"{strong(network, 8192, speed, link, r):.3g}" for r in RANKS[1:]]
            for network in (SMALL, LARGE)
            for link in LINKS
        ]
        table(["ranks"] + [str(r) for r in RANKS[1:]], lines)
        print(f"**Rows of each rank of {who} from which messages make a step at most 5 % longer**\n")
        lines = [
            [f"{network.name}, {link.name}"] + [str(hidden_from(network, r, link, speed) or "never") for r in (2, 16, 128, 1024)]
            for network in (SMALL, LARGE)
            for link in LINKS
        ]
        table(["ranks", "2", "16", "128", "1024"], lines)
    print("**Tree and ring**, 128 rows on each rank of one thread: a step with the tree / with a ring\n")
    counts = [2, 3, 4, 6, 16, 17, 48, 64, 96, 256, 1024]
    lines = [
        [f"{network.name}, {link.name}"]
        + [f"{step(network, 128, r, link) / step(network, 128, r, link, ring):.2f}" for r in counts]
        for network in (SMALL, LARGE)
        for link in LINKS
    ]
    table(["ranks"] + [str(r) for r in counts], lines)


COLORS = {FAST: "#1b7837", MIDDLE: "#2166ac", SLOW: "#b2182b"}


def picture():
    """Both kinds of scaling of 784-400-20 beside each other, logarithmic in the ranks."""
    width, height, top, bottom = 900, 420, 48, 360
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]

    def panel(left, title, unit, value, ticks, place):
        right = left + 300
        x = lambda ranks: left + math.log2(ranks) / 10 * (right - left)
        y = lambda v: bottom - place(v) * (bottom - top)
        parts.append(f'<text x="{left}" y="24" font-size="14">{title}</text>')
        for ranks in RANKS[::2]:
            parts.append(f'<path d="M{x(ranks):.0f} {bottom}V{top}" stroke="#ddd"/>')
            parts.append(f'<text x="{x(ranks):.0f}" y="{bottom + 18}" text-anchor="middle">{ranks}</text>')
        for tick, label in ticks:
            parts.append(f'<path d="M{left} {y(tick):.0f}H{right}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.0f}" text-anchor="end">{label}</text>')
        parts.append(f'<text x="{(left + right) / 2:.0f}" y="{bottom + 38}" text-anchor="middle">ranks</text>')
        parts.append(f'<text x="{left}" y="{top - 8}" fill="#555">{unit}</text>')
        for speed, dashes in ((1.0, ""), (MACHINE, "5 3")):
            for link in LINKS:
                points = " ".join(f"{x(r):.1f},{y(value(speed, link, r)):.1f}" for r in RANKS)
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{COLORS[link]}" stroke-width="2" stroke-dasharray="{dashes}"/>'
                )

    percent = [(v / 100, f"{v} %") for v in (0, 25, 50, 75, 100)]
    panel(60, "1,024 rows on each rank", "part of the speed that is left",
          lambda speed, link, r: weak(SMALL, 1024, speed, link, r), percent, lambda v: v)
    powers = [(2**k, str(2**k)) for k in range(0, 11, 2)]
    panel(430, "8,192 rows on all ranks", "times as fast as one rank",
          lambda speed, link, r: strong(SMALL, 8192, speed, link, r), powers, lambda v: max(0.0, math.log2(max(v, 1e-9))) / 10)
    for i, link in enumerate(LINKS):
        parts.append(f'<path d="M746 {70 + 20 * i}h24" stroke="{COLORS[link]}" stroke-width="2"/>')
        parts.append(f'<text x="776" y="{74 + 20 * i}">{link.name}</text>')
    for i, (dashes, text) in enumerate((("", "rank of one thread"), ("5 3", "rank of 16 cores"))):
        parts.append(f'<path d="M746 {144 + 20 * i}h24" stroke="#333" stroke-width="2" stroke-dasharray="{dashes}"/>')
        parts.append(f'<text x="776" y="{148 + 20 * i}">{text}</text>')
    parts.append('<text x="60" y="412" fill="#555">784-400-20. A model, not a measurement.</text>')
    return "\n".join(parts + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with measured steps only")
    parser.add_argument("--picture", metavar="FILE.svg")
    arguments = parser.parse_args()
    if arguments.picture:
        with open(arguments.picture, "w", encoding="utf-8") as file:
            file.write(picture())
        return 0
    failed = check()
    if not arguments.check:
        tables()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
