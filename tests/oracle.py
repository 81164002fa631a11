"""The meaning of every layer once more: slowly, in NumPy, from the description alone.

Nothing of `symmetric_layers` is imported here, so that the two can disagree. Everything is laid out as in PyTorch:
pictures `(N, C, *positions)`, filters `(filters, channels / groups, *kernel)`. Runs on Python 3.7.
"""

import itertools

import numpy as np

ORDER = ("h", "v", "z", "hv", "hz", "vz", "hvz")
AXIS = {"h": -1, "v": -2, "z": -3}


def arrangement(symmetry, filters, groups=1):
    """Per filter `(stored index, letters)`: which stored filter it reads, and which letters it is mirrored along."""
    result = []
    stored = 0
    for _ in range(groups):
        left = filters // groups
        for kind in ORDER:
            count = (symmetry or {}).get(kind, 0) // groups
            left -= count
            subsets = []
            for chosen in itertools.product((False, True), repeat=len(kind)):
                # binary order: the first letter of the kind changes fastest
                subsets.append("".join(letter for letter, on in zip(kind, chosen[::-1]) if on))
            for _ in range(count // len(subsets)):
                result += [(stored, letters) for letters in subsets]
                stored += 1
        for _ in range(left):
            result.append((stored, ""))
            stored += 1
    return result


def kinds(symmetry, filters, groups=1):
    """Per filter, the kind of the orbit it belongs to; `''` for free filters."""
    result = []
    for _ in range(groups):
        bank = []
        for kind in ORDER:
            bank += [kind] * ((symmetry or {}).get(kind, 0) // groups)
        result += bank + [""] * (filters // groups - len(bank))
    return result


def partner(symmetry, filters, letters, groups=1):
    """Per channel, the channel it becomes when the picture is mirrored along the letters."""
    who = arrangement(symmetry, filters, groups)
    belongs = kinds(symmetry, filters, groups)
    where = {key: index for index, key in enumerate(who)}
    result = []
    for (stored, mirrored), kind in zip(who, belongs):
        toggled = [c for c in kind if (c in mirrored) != (c in letters)]
        result.append(where[(stored, "".join(toggled))])
    return result


def flip(x, letters):
    """The picture (or filter) read backwards along the letters."""
    return np.flip(x, [AXIS[letter] for letter in letters]) if letters else x


def act(x, letters, symmetry=None, groups=1):
    """Mirrors pictures whose channels are arranged by `symmetry`: positions reversed, channels exchanged."""
    moved = np.empty_like(x)
    moved[:, partner(symmetry, x.shape[1], letters, groups)] = flip(x, letters)
    return moved


def expand(stored, symmetry, filters, groups=1, in_symmetry=None):
    """All filters `(filters, channels / groups, *kernel)` from the stored ones."""
    exchange = {}
    full = []
    for representative, letters in arrangement(symmetry, filters, groups):
        mirrored = flip(stored[representative], letters)
        if in_symmetry and letters:
            if letters not in exchange:
                per_group = {kind: count // groups for kind, count in in_symmetry.items()}
                exchange[letters] = partner(per_group, stored.shape[1], letters)
            moved = np.empty_like(mirrored)
            moved[exchange[letters]] = mirrored
            mirrored = moved
        full.append(mirrored)
    return np.stack(full)


def expand_bias(bias, symmetry, filters, groups=1):
    """One bias per filter from one per stored filter."""
    return np.array([bias[representative] for representative, _ in arrangement(symmetry, filters, groups)])


def collect(gradient, symmetry, filters, groups=1, in_symmetry=None):
    """The gradient of the stored filters: the sum over all filters that read them, each turned back."""
    who = arrangement(symmetry, filters, groups)
    total = np.zeros((max(stored for stored, _ in who) + 1,) + gradient.shape[1:], gradient.dtype)
    for index, (representative, letters) in enumerate(who):
        turned = flip(gradient[index], letters)
        if in_symmetry and letters:
            per_group = {kind: count // groups for kind, count in in_symmetry.items()}
            turned = turned[partner(per_group, gradient.shape[1], letters)]
        total[representative] += turned
    return total


def collect_bias(gradient, symmetry, filters, groups=1):
    """The gradient of the shared biases: the sum over all filters that use them."""
    who = [stored for stored, _ in arrangement(symmetry, filters, groups)]
    return np.bincount(who, weights=gradient)


def taps(kernel):
    """All positions inside a kernel."""
    return itertools.product(*[range(k) for k in kernel])


def window(tap, stride, dilation, out):
    """Where in the padded picture a tap of the kernel looks, over all output positions."""
    return tuple(slice(t * d, t * d + s * (o - 1) + 1, s) for t, s, d, o in zip(tap, stride, dilation, out))


def pad(x, pads, mode="zeros"):
    """Pads the positions; `pads` is one pair (before, after) per axis."""
    how = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    return np.pad(x, [(0, 0), (0, 0)] + list(pads), mode=how)


def conv(x, weight, bias, stride, pads, dilation, groups=1, mode="zeros"):
    """An ordinary convolution (cross-correlation) with all filters written out."""
    padded = pad(x, pads, mode)
    kernel = weight.shape[2:]
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[2:], kernel, stride, dilation)]
    channels, filters = x.shape[1] // groups, weight.shape[0] // groups
    result = np.zeros((x.shape[0], weight.shape[0]) + tuple(out), np.result_type(x, weight))
    for group in range(groups):
        inputs = padded[:, group * channels : (group + 1) * channels]
        rows = slice(group * filters, (group + 1) * filters)
        for tap in taps(kernel):
            seen = inputs[(slice(None), slice(None)) + window(tap, stride, dilation, out)]
            result[:, rows] += np.einsum("oc,nc...->no...", weight[(rows, slice(None)) + tap], seen)
    return result if bias is None else result + bias.reshape((1, -1) + (1,) * len(kernel))


def conv_weight_gradient(x, gradient, kernel, stride, pads, dilation, groups=1, mode="zeros"):
    """What `conv` sends back to all its filters."""
    padded = pad(x, pads, mode)
    out = gradient.shape[2:]
    channels, filters = x.shape[1] // groups, gradient.shape[1] // groups
    result = np.zeros((gradient.shape[1], channels) + tuple(kernel), gradient.dtype)
    for group in range(groups):
        inputs = padded[:, group * channels : (group + 1) * channels]
        rows = slice(group * filters, (group + 1) * filters)
        for tap in taps(kernel):
            seen = inputs[(slice(None), slice(None)) + window(tap, stride, dilation, out)]
            n, o, c = seen.shape[0], filters, channels
            result[(rows, slice(None)) + tap] = np.einsum(
                "nop,ncp->oc", gradient[:, rows].reshape(n, o, -1), seen.reshape(n, c, -1)
            )
    return result


def conv_transpose(x, weight, bias, stride, crops, out, dilation, groups=1):
    """An ordinary transposed convolution; `weight` is `(filters, channels / groups, *kernel)`.

    Args:
        crops: how many positions are cut off before the first one kept, per axis.
        out: the sizes kept.
    """
    kernel = weight.shape[2:]
    sizes = [
        max(s * (n - 1) + d * (k - 1) + 1, c + o)
        for n, k, s, d, c, o in zip(x.shape[2:], kernel, stride, dilation, crops, out)
    ]
    channels, filters = x.shape[1] // groups, weight.shape[0] // groups
    canvas = np.zeros((x.shape[0], weight.shape[0]) + tuple(sizes), np.result_type(x, weight))
    for group in range(groups):
        inputs = x[:, group * channels : (group + 1) * channels]
        rows = slice(group * filters, (group + 1) * filters)
        for tap in taps(kernel):
            place = window(tap, stride, dilation, x.shape[2:])
            canvas[(slice(None), rows) + place] += np.einsum(
                "oc,nc...->no...", weight[(rows, slice(None)) + tap], inputs
            )
    kept = canvas[(slice(None), slice(None)) + tuple(slice(c, c + o) for c, o in zip(crops, out))]
    return kept if bias is None else kept + bias.reshape((1, -1) + (1,) * len(kernel))


def conv_transpose_weight_gradient(x, gradient, kernel, stride, crops, dilation, groups=1):
    """What `conv_transpose` sends back to all its filters, `(filters, channels / groups, *kernel)`."""
    sizes = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation)]
    room = [(c, max(size - c - o, 0)) for size, c, o in zip(sizes, crops, gradient.shape[2:])]
    canvas = np.pad(gradient, [(0, 0), (0, 0)] + room)
    channels, filters = x.shape[1] // groups, gradient.shape[1] // groups
    result = np.zeros((gradient.shape[1], channels) + tuple(kernel), gradient.dtype)
    for group in range(groups):
        inputs = x[:, group * channels : (group + 1) * channels]
        rows = slice(group * filters, (group + 1) * filters)
        for tap in taps(kernel):
            seen = canvas[(slice(None), rows) + window(tap, stride, dilation, x.shape[2:])]
            n = x.shape[0]
            result[(rows, slice(None)) + tap] = np.einsum(
                "nop,ncp->oc", seen.reshape(n, filters, -1), inputs.reshape(n, channels, -1)
            )
    return result


def orbit_pool(x, symmetry, reduce):
    """One channel per orbit; free channels stay."""
    who = [stored for stored, _ in arrangement(symmetry, x.shape[1])]
    pick = {"mean": np.mean, "max": np.max}[reduce]
    members = [[i for i, stored in enumerate(who) if stored == s] for s in range(max(who) + 1)]
    return np.stack([pick(x[:, m], axis=1) for m in members], axis=1)


def orbit_batch_norm(x, symmetry, eps, weight=None, bias=None):
    """Normalises every orbit by its own mean and variance; also gives them, per orbit."""
    who = np.array([stored for stored, _ in arrangement(symmetry, x.shape[1])])
    result = np.empty_like(x)
    means, variances = [], []
    for s in range(who.max() + 1):
        values = x[:, who == s]
        means.append(values.mean())
        variances.append(values.var())
        normal = (values - means[-1]) / np.sqrt(variances[-1] + eps)
        result[:, who == s] = normal if weight is None else normal * weight[s] + bias[s]
    return result, np.array(means), np.array(variances)


def global_conv(x, centre, surround, bias=None):
    """The literal wide convolution over `(N, C, L)`: a kernel of 2L - 1, `surround` everywhere but in the middle."""
    length = x.shape[2]
    kernel = np.repeat(surround[:, :, None], 2 * length - 1, axis=2)
    kernel[:, :, length - 1] = centre
    return conv(x, kernel, bias, [1], [(length - 1, length - 1)], [1])


def top_k(x, k):
    """The k largest values over all positions, largest first: `(N, C, *positions)` to `(N, C, k)`."""
    flat = x.reshape(x.shape[0], x.shape[1], -1)
    return -np.sort(-flat, axis=2)[:, :, :k]
