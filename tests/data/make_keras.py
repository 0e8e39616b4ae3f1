"""Makes the files of tests/data/keras with Keras itself: `python tests/data/make_keras.py`."""

import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

FOLDER = Path(__file__).parent / "keras"


def model(dtype: str) -> keras.Model:
    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    found = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, dtype=dtype), keras.layers.Dense(1, dtype=dtype)]
    )
    found.compile("adam", "mse")
    found.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for dtype in ("float32", "bfloat16"):
        model(dtype).save(FOLDER / f"{dtype}.keras")
    model("float16").save_weights(FOLDER / "float16.weights.h5")
    model("float32").save(FOLDER / "legacy.h5")


if __name__ == "__main__":
    main()
