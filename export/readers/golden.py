"""Compare a network at the other side with the golden spikes that travel beside its file.

    python golden.py            # load.py and golden.h5 lie beside this script

`golden.h5` holds nodes/NAME/observables/values/data, [samples, steps, neurons], as NIR's time-gridded
data have it: the image of "input" (one step, the same in every one), the spikes of every neuron and the
values of "output".
"""

from pathlib import Path

import h5py
import numpy as np
import torch


def read(path="golden.h5"):
    """{node: array [samples, steps, neurons]}."""
    with h5py.File(path) as file:
        return {
            name: group["observables"]["values"]["data"][()]
            for name, group in file["nodes"].items()
        }


def as_nir(path="golden.h5"):
    """The same as `nir.data_ir.NIRGraphData`."""
    from nir.data_ir import NIRGraphData, NIRNodeData, TimeGriddedData

    gridded = {name: TimeGriddedData(data, dt=1.0) for name, data in read(path).items()}
    return NIRGraphData({name: NIRNodeData({"values": data}) for name, data in gridded.items()})


def main():
    from load import load

    here = Path(__file__).parent
    golden = read(here / "golden.h5")
    network = load(here / "network.nir")
    with h5py.File(here / "golden.h5") as file:
        shape = tuple(file.attrs["image_shape"])
    images = torch.from_numpy(golden.pop("input")).view(-1, *shape)
    wanted = golden.pop("output")
    outputs, spikes = network(images, wanted.shape[1])
    for name, sent in golden.items():
        ours = spikes[name].transpose(0, 1).flatten(2).numpy().astype(bool)
        print(f"{name}: {int((ours != sent).sum())} of {sent.size} spikes differ")
    found = outputs.transpose(0, 1).flatten(2).numpy()
    print(f"output: largest difference {np.abs(found - wanted).max():.3g}")


if __name__ == "__main__":
    main()
