"""Speed and memory: the network's forward pass against its spiking conversion, step by step."""

import _door

if __name__ == "__main__":
    _door.run("bench")
