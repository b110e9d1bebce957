"""Which pretrained networks convert? The smallest variant of every timm family, and torchvision.

Random weights, moved norm statistics, no thought of spikes: `convert_model(model, calibration=...)`.
A family passes if the spiking network gives the logits of its quantised network in float64 (relative
error at most 1e-6, on two images of noise) in every step from some step on, until nothing changes any
more. Networks above 20 million parameters, and those that cast to float32 inside, run in float32 and are
judged by the proof that every conversion makes of itself (three steps with ideal neurons).

    python benchmarks/any_network.py                          # multi, all families, about an hour
    python benchmarks/any_network.py --neuron stbif --families resnet vision_transformer
    python benchmarks/any_network.py --check-only             # conversion and its own proof, minutes
    python benchmarks/any_network.py --torchvision

The result files of the day, .json and .md, go to benchmarks/results/; a later call adds its rows.
"""

import argparse
import datetime
import json
import platform
import re
import sys
import time
from pathlib import Path

import timm
import torch
import torchvision

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs
from spikeswap.graph import prepare

SMALLEST = {  # of each module of timm.list_modules() of timm 1.0.30, by parameters
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
CLASSIFIERS = (  # one of each of torchvision's classification modules
    "alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mnasnet0_5 "
    "mobilenet_v2 mobilenet_v3_small regnet_y_400mf resnet18 shufflenet_v2_x0_5 squeezenet1_1 swin_t "
    "vgg11_bn vit_b_16"
).split()
LARGE = 20e6  # parameters
STEPS = (16, 32, 60)


def build(name: str, source: str) -> tuple[torch.nn.Module, int]:
    """A network with ten classes and moved norm statistics, and the side of its images."""
    if source == "torchvision":
        side = {"vit_b_16": 224, "maxvit_t": 224, "inception_v3": 96}.get(name, 64)
        made = [(lambda: torchvision.models.get_model(name, weights=None, num_classes=10), side)]
    else:
        own = timm.get_pretrained_cfg(name)
        own = 224 if own is None else own.input_size[-1]
        made = [
            (lambda: timm.create_model(name, num_classes=10, img_size=64), 64),
            (lambda: timm.create_model(name, num_classes=10), 64),
            (lambda: timm.create_model(name, num_classes=10), own),
        ]
    for make, side in made:
        torch.manual_seed(0)
        try:
            model = make().eval()
            with torch.no_grad():
                model(torch.randn(2, 3, side, side))
        except (TypeError, RuntimeError, AssertionError, ValueError, IndexError):
            continue  # of another size of image
        return _moved(model), side
    raise ValueError(f"no size of image fits {name}")


def _moved(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for weight in model.parameters():  # a head of zeros would tell nothing
        if weight.dim() > 1 and not bool(weight.any()):
            torch.nn.init.normal_(weight, std=0.02)
    return model


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def exact_from(snn, images, expected) -> tuple[int | None, float]:
    """First step from which on the readout is the quantised network's, and its last error."""
    for steps in STEPS:
        readout = snn(images, timesteps=steps)
        errors = [error(logits, expected) for logits in readout]
        still = torch.equal(readout[-1], readout[-4]) or error(readout[-4], readout[-1]) < 1e-12
        if errors[-1] <= 1e-6 and still:
            break
    wrong = [t for t, e in enumerate(errors, 1) if not e <= 1e-6]
    first = max(wrong, default=0) + 1
    return (first if first <= len(errors) else None), errors[-1]


def _runs_in_float64(model: torch.nn.Module, side: int) -> bool:
    """Some cast to float32 inside."""
    try:
        with torch.no_grad():
            model.double()(torch.randn(1, 3, side, side, dtype=torch.float64))
    except RuntimeError:
        return False
    return True


def measure(name: str, source: str, options) -> dict:
    start = time.time()
    row: dict = {"variant": name, "neuron": options.neuron}
    model, side = build(name, source)
    row["side"], row["parameters"] = side, sum(p.numel() for p in model.parameters())
    large = row["parameters"] > LARGE or not _runs_in_float64(model, side)
    model = model.float() if large else model.double()
    dtype = torch.float32 if large else torch.float64
    images = torch.randn(4, 3, side, side, dtype=dtype)
    calibration, images = [images[:2]], images[2:]
    try:
        prepared = prepare(model, example_inputs=images, sites="all")
        snn = convert_model(
            prepared,
            neuron=options.neuron,
            calibration=calibration,
            levels=options.levels,
            method="max",
        )
    except UnconvertibleError as refusal:
        return {**row, "converts": False, "why": _words_of(refusal)}
    row.update(converts=True, sites=len(snn.sites), seconds=round(time.time() - start, 1))
    row["signed"] = sum(site.neuron.signed for site in snn.sites.values())
    row["equals"], row["share"] = None, None
    if options.check_only:
        return row
    totals = snn.audit(images[:1], timesteps=1).totals
    behind = [op for op in totals.operations if op.kind != "product" and not op.image]
    row["share"] = _share(behind)
    if not large:
        thresholds = activation_thresholds(prepared, calibration)
        quantised = insert_qcfs(prepared, options.levels, thresholds=thresholds).eval()
        with torch.no_grad():
            expected, own = quantised(images), model(images)
        row["exact_from"], row["last_error"] = exact_from(snn, images, expected)
        row["equals"] = row["exact_from"] is not None
        row["loss"] = error(expected, own)
    return {**row, "seconds": round(time.time() - start, 1)}


def _words_of(refusal: UnconvertibleError) -> str:
    """Its first lines in one, without the folder that packages were installed in."""
    lines = [line.strip() for line in str(refusal).splitlines()[:3]]
    return re.sub(r"[^\s(]*site-packages/", "", "; ".join(lines))


def _share(operations) -> float:
    """Share of the weight layers' connections whose data are spikes."""
    sizes = [(op.spiking, op.synapses if op.spiking else op.macs) for op in operations]
    return sum(size for spiking, size in sizes if spiking) / max(1, sum(size for _, size in sizes))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--families", nargs="+", default=list(SMALLEST), metavar="NAME")
    parser.add_argument("--torchvision", action="store_true", help="its classifiers instead")
    parser.add_argument("--neuron", default="multi", choices=("multi", "stbif", "if"))
    parser.add_argument("--levels", type=int, default=16, help="L (default: 16)")
    parser.add_argument("--check-only", action="store_true", help="do not run the time steps")
    parser.add_argument("--skip-done", action="store_true", help="leave out rows that are there")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def words(row: dict) -> list[str]:
    if not row["converts"]:
        return [row["family"], row["variant"], "no", "", "", "", "", row["why"]]
    equals = {True: "yes", False: "NO", None: "self-check"}[row["equals"]]
    return [
        row["family"],
        row["variant"],
        "yes",
        f"{row['sites']} ({row['signed']})",
        equals,
        str(row.get("exact_from") or ""),
        "" if row["share"] is None else f"{100 * row['share']:.1f} %",
        f"{row['loss']:.3f}" if "loss" in row else "",
    ]


def report(about: str, rows: list[dict]) -> str:
    head = ["family", "variant", "converts", "sites (signed)", "equals", "exact from", "on spikes"]
    head.append("error to the network itself, or why not")
    lines = [head, ["---"] * len(head), *map(words, rows)]
    done = [row for row in rows if row["converts"]]
    shares = sorted(row["share"] for row in done if row["share"] is not None)
    median = ""
    if shares:
        middle, least = 100 * shares[len(shares) // 2], 100 * shares[0]
        median = f", median share of spikes {middle:.1f} %, least {least:.1f} %"
    wrong = sum(row["equals"] is False for row in done)
    parts = [
        f"# Any network, {datetime.date.today()}",
        about,
        f"{len(done)} of {len(rows)} convert, {wrong} of them wrong{median}.",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
    ]
    return "\n\n".join(parts)


def main() -> None:
    options = parse()
    source = "torchvision" if options.torchvision else "timm"
    names = {n: n for n in CLASSIFIERS} if options.torchvision else SMALLEST
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"any_network-{source}-{options.neuron}-{datetime.date.today()}.json"
    path = options.output / name
    about = (
        f"{source}, random weights, {options.neuron}, L = {options.levels}, thresholds from two images "
        f"of noise, all sites. PyTorch {torch.__version__}, timm {timm.__version__}, torchvision "
        f"{torchvision.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s)."
    )
    for family in names if options.torchvision else options.families:
        rows = json.loads(path.read_text()) if path.exists() else []
        if options.skip_done and any(row["family"] == family for row in rows):
            continue
        row = {"family": family, **measure(names[family], source, options)}
        print(row, file=sys.stderr, flush=True)
        rows = [r for r in rows if r["family"] != family] + [row]
        rows.sort(key=lambda r: list(names).index(r["family"]))
        path.write_text(json.dumps(rows, indent=1) + "\n")
        path.with_suffix(".md").write_text(report(about, rows) + "\n")
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
