"""Evaluate runs side by side: each network as it was trained, and its spiking conversion."""

import _door

if __name__ == "__main__":
    _door.run("eval")
