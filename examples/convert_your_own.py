"""Convert a network of timm, and see from which step on it is the network that it was made of."""

import timm
import torch

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs

torch.manual_seed(0)
model = timm.create_model("resnet18", num_classes=10).eval()  # pretrained=True for real weights
images = torch.randn(8, 3, 64, 64)  # your images, normalised as in training

thresholds = activation_thresholds(model, [images])  # or a DataLoader of (images, labels)
quantised = insert_qcfs(model, levels=16, thresholds=thresholds)  # train it on, if you like
snn = convert_model(quantised, neuron="multi")  # "if" sends {0, s}, "stbif" {-1, 0, 1} levels

readout = snn(images, timesteps=16)  # [T, B, classes]: the logits as known after each step
with torch.no_grad():
    expected = quantised(images)
for t in (1, 2, 4, 8, 12, 16):
    agree = (readout[t - 1].argmax(-1) == expected.argmax(-1)).double().mean()
    error = (readout[t - 1] - expected).norm() / expected.norm()
    print(f"T = {t:2}: {100 * agree:3.0f} % of the predictions agree, logits off by {error:.1e}")
print(snn.report)  # snn.audit(images, timesteps=16) counts, operation by operation
