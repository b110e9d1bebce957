"""For a paper: a paragraph of methods in LaTeX, and the BibTeX of what it cites."""

from collections.abc import Mapping, Sequence

from .tables import latex
from .words import describe_model

_ENTRIES = {
    "wang2023masked": """@inproceedings{wang2023masked,
  title = {Masked Spiking Transformer},
  author = {Wang, Ziqing and Fang, Yuetong and Cao, Jiahang and Zhang, Qiang and Wang, Zhongrui and Xu, Renjing},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  year = {2023}
}""",  # noqa: E501
    "bu2022optimal": """@inproceedings{bu2022optimal,
  title = {Optimal {ANN-SNN} Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks},
  author = {Bu, Tong and Fang, Wei and Ding, Jianhao and Dai, PengLin and Yu, Zhaofei and Huang, Tiejun},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
    "horowitz2014computing": """@inproceedings{horowitz2014computing,
  title = {1.1 Computing's energy problem (and what we can do about it)},
  author = {Horowitz, Mark},
  booktitle = {IEEE International Solid-State Circuits Conference Digest of Technical Papers},
  pages = {10--14},
  year = {2014}
}""",
    "lemaire2022analytical": """@inproceedings{lemaire2022analytical,
  title = {An Analytical Estimation of Spiking Neural Networks Energy Efficiency},
  author = {Lemaire, Edgar and Cordone, Lo{\\"i}c and Castagnetti, Andrea and Novac, Pierre-Emmanuel and Courtois, Jonathan and Miramond, Beno{\\^i}t},
  booktitle = {International Conference on Neural Information Processing},
  year = {2022}
}""",  # noqa: E501
    "yan2024reconsidering": """@article{yan2024reconsidering,
  title = {Reconsidering the energy efficiency of spiking neural networks},
  author = {Yan, Zhanglu and Bai, Zhenyu and Wong, Weng-Fai},
  journal = {arXiv preprint arXiv:2409.08290},
  year = {2024}
}""",
    "lecun1998gradient": """@article{lecun1998gradient,
  title = {Gradient-based learning applied to document recognition},
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE},
  volume = {86}, number = {11}, pages = {2278--2324},
  year = {1998}
}""",
    "xiao2017fashion": """@article{xiao2017fashion,
  title = {{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal = {arXiv preprint arXiv:1708.07747},
  year = {2017}
}""",
    "krizhevsky2009learning": """@techreport{krizhevsky2009learning,
  title = {Learning multiple layers of features from tiny images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}""",
    "russakovsky2015imagenet": """@article{russakovsky2015imagenet,
  title = {{ImageNet} Large Scale Visual Recognition Challenge},
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and Fei-Fei, Li},
  journal = {International Journal of Computer Vision},
  volume = {115}, number = {3}, pages = {211--252},
  year = {2015}
}""",  # noqa: E501
}
_DATA = {
    "mnist": "lecun1998gradient",
    "mnist5k": "lecun1998gradient",
    "fashion_mnist": "xiao2017fashion",
    "cifar10": "krizhevsky2009learning",
    "cifar100": "krizhevsky2009learning",
    "imagenet": "russakovsky2015imagenet",
}
_ENERGY = {
    "45nm-fp32": "horowitz2014computing",
    "45nm-fp16": "horowitz2014computing",
    "45nm-int8": "horowitz2014computing",
    "lemaire": "lemaire2022analytical",
}  # a model of one's own is cited by its own words


def references(records: Sequence[dict], data: str | None) -> dict[str, str]:
    """{key: BibTeX entry} of the methods, data and energy models that these records rest on."""
    keys = []
    if any(record["kind"] == "converted" for record in records):
        keys.append("bu2022optimal")
    if any(record["mask"] for record in records):
        keys.append("wang2023masked")
    keys += [_DATA[data]] if data in _DATA else []
    models = [record["energy_model"] for record in records if record["energy_millijoules"]]
    keys += dict.fromkeys(_ENERGY[name] for name in models if name in _ENERGY)
    if any(record["energy_to_quantised"] is not None for record in records):
        keys.append("yan2024reconsidering")
    return {key: _ENTRIES[key] for key in keys}


def bibliography(records: Sequence[dict], data: str | None) -> str:
    """references.bib"""
    return "\n\n".join([*references(records, data).values(), ""])


def methods(records: Sequence[dict], about: Mapping) -> str:
    """A paragraph in LaTeX: what was evaluated on what, with every setting and version.

    Args:
        about: data, split, images, device and versions, each of which may be None.
    """
    cited = references(records, about.get("data"))

    def cite(*keys: str) -> str:
        known = [key for key in keys if key in cited]
        return rf"~\cite{{{','.join(known)}}}" if known else ""

    versions = ", ".join(f"{name} {number}" for name, number in (about["versions"] or {}).items())
    where = f" on {latex(str(about['device']))}" if about.get("device") else ""
    lines = [
        "% made by spikeswap; cites references.bib",
        f"All networks were evaluated with {latex(versions)}{where}.",
    ]
    if about.get("data"):
        count = f"{about['images']:,} images of the " if about.get("images") else "the "
        lines.append(
            f"Accuracy is top-1 on {count}{latex(str(about.get('split') or 'held-out'))} split of "
            f"{latex(about['data'])}{cite(_DATA.get(about['data'], ''))}."
        )
    for record in records:
        methods_of = cite(
            *(["bu2022optimal"] if record["kind"] == "converted" else []),
            *(["wang2023masked"] if record["mask"] else []),
        )
        lines.append(f"{latex(record['name'])}{methods_of}: {latex(describe_model(record))}")
    for name, source in _energy_models(records).items():
        said = cite(_ENERGY[name]) if name in _ENERGY else f" ({latex(source)})"
        lines.append(
            f"Energy follows the model {latex(name)}{said}, per image, from operations counted in the "
            "simulation."
        )
    if "yan2024reconsidering" in cited:
        lines.append(
            "The rival of each spiking network is its own quantised network, run once"
            f"{cite('yan2024reconsidering')}."
        )
    return "\n".join([*lines, ""])


def _energy_models(records: Sequence[dict]) -> dict[str, str]:
    """{name: source} of the models that the records' energies follow."""
    found = {}
    for record in records:
        name = record["energy_model"]
        if record["energy_millijoules"]:
            found[name] = ((record.get("energies") or {}).get(name) or {}).get("source", "")
    return dict(sorted(found.items()))
