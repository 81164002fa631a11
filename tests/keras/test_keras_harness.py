"""Keras' own layer harness: building, serialization, symbolic and eager calls, training, mixed precision."""

import warnings

import pytest

import symmetric_layers.keras as layers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the harness looks for everything that could be installed
    from keras.src.testing import TestCase

EVERYTHING = {
    "kernel_size": (2, 3),
    "strides": 2,
    "padding": "same",
    "activation": "relu",
    "use_bias": False,
    "kernel_regularizer": "l2",
    "kernel_constraint": "unit_norm",
    "symmetry": {"hv": 8},
    "share_bias": False,
    "in_symmetry": {"hv": 4},
}
HARNESS = [  # class, arguments, input shape, output shape, trainable weights
    ("SymmetricConv1D", {"kernel_size": 3, "padding": "causal", "symmetry": {"h": 4}}, (2, 9, 3), (2, 9, 8), 2),
    ("SymmetricConv1D", {"kernel_size": 3, "groups": 2, "symmetry": {"h": "50%"}}, (2, 9, 4), (2, 7, 8), 2),
    ("SymmetricConv2D", {"kernel_size": 3, "symmetry": {"h": 2, "hv": 4}}, (2, 7, 8, 3), (2, 5, 6, 8), 2),
    ("SymmetricConv2D", EVERYTHING, (2, 7, 8, 5), (2, 4, 4, 8), 1),
    ("SymmetricConv3D", {"kernel_size": 2, "symmetry": {"hvz": 8}}, (1, 3, 4, 5, 2), (1, 2, 3, 4, 8), 2),
    ("SymmetricConv1DTranspose", {"kernel_size": 2, "symmetry": {"h": 6}}, (2, 5, 3), (2, 6, 8), 2),
    ("SymmetricConv2DTranspose", {"kernel_size": 2, "symmetry": {"hv": 4}}, (2, 3, 4, 3), (2, 4, 5, 8), 2),
    ("SymmetricConv3DTranspose", {"kernel_size": 2, "symmetry": {"hz": 4}}, (1, 2, 3, 4, 2), (1, 3, 4, 5, 8), 2),
    ("GlobalConv1D", {"activation": "tanh", "bias_initializer": "ones"}, (2, 6), (2, 6, 8), 3),
    ("GlobalConv1D", {"use_bias": False}, (2, 6, 3), (2, 6, 8), 2),
    ("TopKPool", {"k": 3}, (2, 6, 5), (2, 3, 5), 0),
    ("OrbitPool", {"symmetry": {"h": 2, "v": "50%"}, "reduce": "max"}, (2, 5, 6, 8), (2, 5, 6, 5), 0),
]


@pytest.mark.parametrize(
    ("name", "arguments", "given", "expected", "weights"), HARNESS, ids=[f"{n}-{a}" for n, a, *_ in HARNESS]
)
def test_the_harness_of_keras_passes(name, arguments, given, expected, weights):
    cls = getattr(layers, name)
    if name not in ("TopKPool", "OrbitPool"):
        arguments = {"filters": 8, **arguments}
    TestCase("run_layer_test").run_layer_test(
        cls,
        init_kwargs=arguments,
        input_shape=given,
        expected_output_shape=expected,
        expected_num_trainable_weights=weights,
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=0,
        expected_num_losses=1 if "kernel_regularizer" in arguments else 0,
        supports_masking=name in ("GlobalConv1D", "OrbitPool"),
    )
