"""The network of a run, rebuilt from the plain numbers in its checkpoint."""

from torch import nn

from ..convert import insert_qcfs
from ..models import create_model
from ..neurons import QCFS


def build_network(build: dict) -> nn.Module:
    """Build what `build` describes, with fresh weights.

    Args:
        build: model (name), num_classes, img_size, in_chans, overrides (constructor arguments),
            and for a network with QCFS activations levels, threshold, mask, mask_sites; levels
            None leaves the model as it is (direct-trained and plain networks).

    Raises:
        ValueError: unknown name, or numbers that do not go together.
    """
    model = create_model(
        build["model"],
        num_classes=build["num_classes"],
        img_size=build["img_size"],
        in_chans=build["in_chans"],
        **build["overrides"],
    )
    if build.get("levels") is None:
        return model
    return insert_qcfs(
        model,
        levels=build["levels"],
        threshold=build["threshold"],
        mask=build["mask"],
        mask_sites=build.get("mask_sites") or None,
    )


def set_clip_share(model: nn.Module, share: float) -> None:
    """Let every QCFS site clip without quantising in this share of its training calls."""
    for site in model.modules():
        if isinstance(site, QCFS):
            site.clip_share = share


def restore_network(checkpoint: dict) -> nn.Module:
    """The trained network of a checkpoint (its averaged weights, if it has them), in eval mode."""
    model = build_network(checkpoint["build"])
    state = checkpoint.get("model_ema") or checkpoint["model"]
    for name, site in model.named_modules():
        if isinstance(site, QCFS) and site.threshold.shape != state[f"{name}.threshold"].shape:
            site.set_threshold(state[f"{name}.threshold"])  # one a channel, from data
    model.load_state_dict(state)
    return model.eval()
