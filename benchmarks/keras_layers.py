"""What the Keras layers cost, side by side with the host's own: `KERAS_BACKEND=jax python benchmarks/keras_layers.py`.

Both layers run in one process, turn by turn, so that whatever else the machine does hits both alike. A ratio is the
median of the ratios of all turns.
"""

import argparse
import platform
import resource
import statistics
import time

import keras
import numpy as np

from symmetric_layers.keras import GlobalConv1D, OrbitBatchNormalization, SymmetricConv2D

BANKS = {"h": {"h": "100%"}, "hv": {"hv": "100%"}, "mixed": {"h": "25%", "v": "25%", "hv": "25%"}}


def training_step(layer, shape, filters):
    """One step of gradient descent on fixed numbers, as a function without arguments."""
    random = np.random.RandomState(0)
    inputs = keras.Input(shape[1:])
    model = keras.Model(
        inputs, keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((-1, filters))(layer(inputs)))
    )
    model.compile("sgd", "mse")
    x = keras.ops.convert_to_tensor(random.standard_normal(shape).astype("float32"))
    y = keras.ops.convert_to_tensor(random.standard_normal((shape[0], filters)).astype("float32"))
    return lambda: float(model.train_on_batch(x, y))


def side_by_side(ours, theirs, turns):
    """The median milliseconds of both, and the median of their ratios, for the table."""
    seconds = {ours: [], theirs: []}
    for turn in range(turns + 2):
        for run in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            run()
            seconds[run].append(time.perf_counter() - start)
    mine, host = seconds[ours][2:], seconds[theirs][2:]  # the first turns compile
    ratio = statistics.median(a / b for a, b in zip(mine, host, strict=True))
    return f"{statistics.median(mine) * 1e3:9.2f} {statistics.median(host) * 1e3:9.2f} {ratio:8.5f}"


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    asked = parser.parse_args()
    print(f"keras {keras.__version__} on {keras.backend.backend()}, {platform.machine()}, float32")
    print("training step, 3x3             ours ms   host ms   ratio")
    for channels in asked.channels:
        for name, symmetry in BANKS.items():
            shape = (asked.batch, asked.size, asked.size, channels)
            row = side_by_side(
                training_step(SymmetricConv2D(channels, 3, padding="same", symmetry=symmetry), shape, channels),
                training_step(keras.layers.Conv2D(channels, 3, padding="same"), shape, channels),
                asked.turns,
            )
            print(f"{channels:4} channels, {name:<14} {row}")
    channels = asked.channels[0]
    shape = (asked.batch, asked.size, asked.size, channels)
    print(f"strides 2, padding 'same', mirrored grid, {channels} channels")
    for name, symmetry in BANKS.items():
        arguments, how = (channels, 3, 2, "same"), {"symmetry": symmetry, "grid": "mirrored"}
        ours, host = SymmetricConv2D(*arguments, **how), keras.layers.Conv2D(*arguments)
        row = side_by_side(training_step(ours, shape, channels), training_step(host, shape, channels), asked.turns)
        print(f"{name:<28} {row}")
    print(f"batch norm, {channels} channels")
    for name, symmetry in BANKS.items():
        ours, host = OrbitBatchNormalization(symmetry=symmetry), keras.layers.BatchNormalization()
        row = side_by_side(training_step(ours, shape, channels), training_step(host, shape, channels), asked.turns)
        print(f"{name:<28} {row}")
    row = side_by_side(
        training_step(GlobalConv1D(16), (1, 4096, 16), 16),
        training_step(keras.layers.Conv1D(16, 8191, padding="same"), (1, 4096, 16), 16),
        3,
    )
    print(f"GlobalConv1D, width 4096     {row}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = training_step(GlobalConv1D(16), (1, 100_000, 16), 16)
    step()
    start = time.perf_counter()
    step()
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"GlobalConv1D, width 100000   {(time.perf_counter() - start) * 1e3:9.2f} ms, {more:.0f} MiB more at the peak"
    )


if __name__ == "__main__":
    main()
