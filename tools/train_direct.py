"""Train a spiking network directly, or its conventional rival with ReLU, as in its paper."""

import _door

if __name__ == "__main__":
    _door.run("train-direct")
