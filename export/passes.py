"""Passes over the layers: scales go into weights, groups and matrices become what readers take."""

from torch import Tensor

from .layers import Exportable, Flatten, Weighted


def merge_scales(network: Exportable) -> None:
    """Scales behind layers of weights that nothing else reads go into those."""
    for scale in [layer for layer in network.weighted if layer.name.split("_scale")[1:]]:
        sources = [network.layers[name] for name in scale.inputs]
        alone = all(isinstance(s, Weighted) and network.readers(s.name) == [scale] for s in sources)
        if not alone or len({s.name for s in sources}) < len(sources):
            continue
        factor = _diagonal(scale)
        for number, source in enumerate(sources):
            source.weight = source.weight * factor.view(-1, *[1] * (source.weight.dim() - 1))
            if source.bias is not None:
                source.bias = source.bias * factor
            if number == 0 and scale.bias is not None:
                source.bias = scale.bias + (0 if source.bias is None else source.bias)
        for reader in network.readers(scale.name):
            place = reader.inputs.index(scale.name)
            reader.inputs[place : place + 1] = scale.inputs
        del network.layers[scale.name]


def write_out_groups(network: Exportable) -> None:
    """Grouped convolutions become dense ones; `grown` says by how much."""
    for layer in network.weighted:
        if layer.groups > 1:
            network.grown[layer.name] = float(layer.groups)
            parts = layer.weight.chunk(layer.groups)
            dense = layer.weight.new_zeros(
                layer.channels, layer.weight.shape[1] * layer.groups, *layer.weight.shape[2:]
            )
            rows, columns = len(parts[0]), layer.weight.shape[1]
            for g, part in enumerate(parts):
                dense[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = part
            layer.weight, layer.groups = dense, 1


def linear_to_convolutions(network: Exportable) -> None:
    """Flattening and the matrices after it become convolutions over the whole field, then of 1 x 1."""
    for flat in [layer for layer in network.layers.values() if isinstance(layer, Flatten)]:
        seen = network.layers[flat.inputs[0]].shape
        for reader in network.readers(flat.name):
            reader.weight = reader.weight.view(-1, *seen)
            reader.inputs = [
                given
                for name in reader.inputs
                for given in (flat.inputs if name == flat.name else [name])
            ]
        del network.layers[flat.name]
    flattened: set[str] = set()
    for layer in network.layers.values():
        if isinstance(layer, Weighted) and layer.weight.dim() == 2 and flattened & {*layer.inputs}:
            layer.weight = layer.weight[:, :, None, None]
        whole = isinstance(layer, Weighted) and layer.weight.dim() == 4 and len(layer.shape) == 1
        if whole or flattened & {*layer.inputs}:
            layer.shape = (*layer.shape[:1], 1, 1)
            flattened.add(layer.name)


def _diagonal(scale: Weighted) -> Tensor:
    return scale.weight.diagonal() if scale.weight.dim() == 2 else scale.weight.flatten()
