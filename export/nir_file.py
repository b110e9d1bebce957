"""The exported layers as a NIR file, and golden spikes in NIR's form beside it."""

import io

import numpy as np
import torch
from torch import Tensor

from ..support.atomic import write_file
from .layers import Exportable, Flatten, Image, Layer, Neurons, Pool, Readout, Weighted

FORMAT = 1  # of what stands in `metadata`


def as_graph(network: Exportable, target, timesteps: int):
    """A `nir.NIRGraph` of a network as one target reads it.

    Args:
        target: `targets.Target`.
        timesteps: T that the network was converted for; named in the file.
    """
    import nir  # noqa: PLC0415  (needed for this alone)

    shapes = {name: layer.shape for name, layer in network.layers.items()}
    nodes = {}
    for layer in network.layers.values():
        given = shapes[layer.inputs[0]] if layer.inputs else layer.shape
        nodes[layer.name] = _node(nir, layer, given, target, timesteps, network)
    edges = [(name, layer.name) for layer in network.layers.values() for name in layer.inputs]
    return nir.NIRGraph(nodes=nodes, edges=edges)


def write(network: Exportable, target, timesteps: int, path) -> None:
    """Write the file whole or not at all, so that readers from nir 1.0.4 on take it.

    `v_reset`, which nir writes from 1.0.6 on and older readers refuse, is left out: a reader that
    wants one takes 0.
    """
    import h5py  # noqa: PLC0415
    import nir  # noqa: PLC0415

    content = io.BytesIO()
    nir.write(content, as_graph(network, target, timesteps))
    with h5py.File(content, "r+") as file:
        for node in file["node/nodes"].values():
            if "v_reset" in node:
                del node["v_reset"]
    write_file(path, content.getvalue())


def _node(nir, layer: Layer, given: tuple[int, ...], target, timesteps: int, network: Exportable):
    if isinstance(layer, Image):
        return nir.Input({"input": np.array(layer.shape)})
    if isinstance(layer, Readout):
        return nir.Output({"output": np.array(layer.shape)})
    if isinstance(layer, Flatten):
        return nir.Flatten({"input": np.array(given)}, 0, -1)
    if isinstance(layer, Pool):
        sides = (np.array(side) for side in (layer.kernel, layer.stride, layer.padding))
        return (nir.AvgPool2d if layer.average else nir.SumPool2d)(*sides)
    if isinstance(layer, Weighted):
        return _weights(nir, layer, given, network.bits)
    assert isinstance(layer, Neurons)
    threshold = np.full(layer.shape, layer.threshold, dtype=np.float32)
    if target.fires == ">":
        threshold = np.nextafter(threshold, np.float32(0))
    return nir.IF(
        r=np.full(layer.shape, target.resistance, dtype=np.float32),
        v_threshold=threshold,
        metadata={
            "format": FORMAT,
            "reset": "subtract",
            "v_init": layer.starts_at * layer.threshold,
            "fires": ">=",
            "threshold": layer.threshold,
            "T": timesteps,
            "site": layer.site,
        },
    )


def _weights(nir, layer: Weighted, given: tuple[int, ...], bits: int):
    kind = {8: np.int8, 16: np.int16, 32: np.float32}[bits]
    weight = layer.weight.numpy().astype(kind)
    bias = np.zeros(layer.channels) if layer.bias is None else layer.bias.numpy()
    bias = bias.astype(np.float32 if bits == 32 else np.int32)
    if weight.ndim == 2:
        return nir.Affine(weight=weight, bias=bias)
    return nir.Conv2d(
        input_shape=tuple(given[1:]),
        weight=weight,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bias,
    )


def as_written(network: Exportable) -> Exportable:
    """The network with the numbers that the file holds: weights rounded to float32."""
    for layer in network.weighted:
        layer.weight = layer.weight.float().double()
        if layer.bias is not None:
            layer.bias = layer.bias.float().double()
    return network


def write_golden(
    path, images: Tensor, spikes: dict[str, Tensor], outputs: Tensor, network: Exportable
) -> None:
    """Images, spikes and outputs as time-gridded data, [samples, steps, neurons] under node names.

    Args:
        images: [B, C, H, W]; the same in every step, stored once.
        spikes: {site: [T, B, ...]}.
        outputs: of each step [T, B, classes].
    """
    import h5py  # noqa: PLC0415

    names = {layer.site: layer.name for layer in network.neurons}
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["image_shape"] = list(images.shape[1:])
        _gridded(file, "input", images.unsqueeze(1).float())
        for site, sent in spikes.items():
            _gridded(file, names[site], sent.transpose(0, 1).to(torch.bool))
        _gridded(file, "output", outputs.transpose(0, 1).float())
    write_file(path, content.getvalue())


def _gridded(file, name: str, values: Tensor) -> None:
    """What `nir.data_ir.TimeGriddedData` holds: data [samples, steps, neurons] and dt."""
    group = file.create_group(f"nodes/{name}/observables/values")
    data = values.flatten(2).cpu().numpy()
    group.create_dataset("data", data=data, compression="gzip", shuffle=True)
    group.create_dataset("dt", data=1.0)
