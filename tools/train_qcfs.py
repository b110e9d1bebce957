"""Train a network with QCFS activations, the ANN that tools/convert.py turns into an SNN."""

import _door

if __name__ == "__main__":
    _door.run("train")
