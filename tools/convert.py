"""Turn a trained QCFS network into a spiking network, and say what that costs."""

import _door

if __name__ == "__main__":
    _door.run("convert")
