"""The public surface as a user's type checker sees it. `make lint` reads this file, nothing runs it.

What is wrong on purpose carries an ignore: mypy complains of one that nothing needs.
"""

from typing import Any, assert_type

import torch
from torch import Tensor, fx, nn

import spikeswap
from spikeswap.calibrate import SWAPS, activation_thresholds, swap_gelu, swap_norm
from spikeswap.convert import (
    UnconvertibleError,
    clipped,
    convert_model,
    insert_qcfs,
    layer_errors,
    logit_errors,
    reference_network,
)
from spikeswap.counting import Report
from spikeswap.data import DataBundle, list_datasets, load_dataset
from spikeswap.evaluate import energy_model, evaluate, read_eval_json, write_eval_json
from spikeswap.export import UnexportableError, export
from spikeswap.graph import Prepared, prepare
from spikeswap.models import create_model, list_models, load_published
from spikeswap.report import write_report
from spikeswap.snn import ConversionInfo, Recording, SpikingNetwork

images = torch.rand(4, 1, 32, 32)

# models and data
assert_type(list_models(), list[str])
model = create_model("swin_nano_bn", num_classes=10, img_size=32, in_chans=1, patch_size=4)
assert_type(model, nn.Module)
load_published(model, "weights.pt")
assert_type(list_datasets(), list[str])
bundle = load_dataset("mnist5k", img_size=32)
assert_type(bundle, DataBundle)
loader = bundle.eval_loader(50, limit=200)

# to a spiking network
qcfs = insert_qcfs(model, levels=16, threshold=2.0, mask=0.75)
assert_type(qcfs, fx.GraphModule)
prepared = prepare(qcfs, example_inputs=images)
assert_type(prepared, Prepared)
thresholds = activation_thresholds(model, loader, method="percentile", percentile=99.9)
swap_norm(model, loader)
swap_gelu(model)
assert sorted(SWAPS)
try:
    snn = convert_model(prepared, neuron="multi", attention="accumulated", mask=0.75, seed=0)
except UnconvertibleError as error:
    raise SystemExit(str(error)) from error
assert_type(snn, SpikingNetwork)
assert_type(snn.info, ConversionInfo)
assert_type(clipped(model), nn.Module)
convert_model(model, calibration=loader, method="auto", levels=16, sites="all", neuron="stbif")
convert_model(model, neuron=3)  # type: ignore[arg-type]
insert_qcfs(model, levels="many")  # type: ignore[arg-type]

# simulate, record, audit
readout = snn(images, timesteps=32, first_index=0, chunk=8)
with snn.record("norm_act", membrane=True) as recording:
    snn(images, timesteps=4)
assert_type(recording, Recording)
assert_type(snn.report, Report)
assert_type(snn.audit(images, timesteps=8), Report)
snn.reset(1)  # type: ignore[call-arg]

# what it differs by
assert_type(layer_errors(snn, prepared, images, 32), list[dict])
assert_type(logit_errors(snn, prepared, images, 32), dict[int, float])
reference: Tensor = reference_network(snn, prepared)(images)

# evaluate, report, save
record = evaluate(snn, loader, timesteps=[1, 2, 4], ann=qcfs, energy=energy_model("45nm-fp32"))
assert_type(record, dict)
evaluate(snn, loader, limit="all")  # type: ignore[arg-type]
write_eval_json([record], "runs", data="mnist5k", split="val", images=200, device="cpu")
content: dict[str, Any] = read_eval_json("runs/eval.json")
write_report([record], "runs")
snn.save("folder")
assert_type(spikeswap.load("folder"), SpikingNetwork)
assert_type(spikeswap.load_pretrained("swin_nano_bn_mnist5k"), nn.Module)
assert_type(spikeswap.list_pretrained(), list[str])

exported = assert_type(export(snn, "out", target="sinabs", bits=8, example=images), dict[str, Any])
assert_type(UnexportableError([]).offences[0].remedy, str)
