"""A program for a process that has never seen the models it loads: writes down what each of them answers.

Only what loads by class needs the layers; a SavedModel is loaded before they are so much as imported.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

PICTURES = np.random.RandomState(7).standard_normal((4, 6, 6, 1)).astype("float32")


def saved_model(folder):
    """What a SavedModel answers, loaded as a server would."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta.signature_def["serving_default"]
        (x,), (y,) = signature.inputs.values(), signature.outputs.values()
        return session.run(y.name, {x.name: PICTURES})


def from_class(load):
    """What a Keras model answers."""
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default():
        return load().predict(PICTURES)


def main(folder):
    answers = {name: saved_model(folder / name) for name in ("session_saved_model", "keras_saved_model",
                                                            "eager_saved_model")}  # fmt: skip
    if "symmetric_layers" in sys.modules:
        raise SystemExit("the layers were loaded, which a server does not have")

    from cases_tf1 import LAYERS, every_layer

    def h5(name):
        return lambda: tf.keras.models.load_model(str(folder / name), custom_objects=LAYERS)

    def weights(name):
        def load():
            model = every_layer()
            model.load_weights(str(folder / name))
            return model

        return load

    def saver():
        model = every_layer()
        tf.compat.v1.train.Saver().restore(tf.keras.backend.get_session(), str(folder / "saver" / "model"))
        return model

    def exported():
        path = str(folder / "keras_saved_model")
        return tf.keras.experimental.load_from_saved_model(path, custom_objects=LAYERS)

    loads = {
        "model.h5": h5("model.h5"),
        "eager.h5": h5("eager.h5"),
        "weights.h5": weights("weights.h5"),
        "weights": weights("weights/weights"),
        "eager_weights": weights("eager_weights/weights"),
        "saver": saver,
        "exported": exported,
    }
    answers.update({name: from_class(load) for name, load in loads.items()})
    np.savez(str(folder / "answers.npz"), **answers)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
