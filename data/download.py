"""Fetching a data set through torchvision: only when asked, and with a clear word if it fails."""

from pathlib import Path


def downloaded(name: str, class_name: str, root: Path) -> list:
    """Training and test part of a torchvision data set, fetched to `root` if not there."""
    import torchvision

    kind = getattr(torchvision.datasets, class_name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        return [kind(str(root), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"download of {name} to {str(root)!r} failed: {error}; fetch it elsewhere and give "
            "its folder as --data-path"
        ) from error
