"""Where recipes lie and how they are read."""

import difflib
from pathlib import Path

import yaml


def near_names(name, known) -> str:
    """`did you mean a, b?`, or all known names if none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=4, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"


def known_configs(folder: Path) -> list[str]:
    """Stems of the recipes in a folder and its sub-folders, sorted."""
    return sorted(
        {path.stem for pattern in ("*.yaml", "*/*.yaml") for path in folder.glob(pattern)}
    )


def find_config(name_or_path, folder: Path) -> Path:
    """The file that a bare name or a path means; ValueError lists near names."""
    given = Path(name_or_path).expanduser()
    if not given.name or given.is_dir():
        raise ValueError(f"config {str(name_or_path)!r} is a folder; name a .yaml file")
    spellings = (
        [given] if given.suffix in (".yaml", ".yml") else [given.with_name(given.name + ".yaml")]
    )
    spellings += [given] if given not in spellings else []
    bare = given.parent == Path(".") and not str(name_or_path).startswith(".")
    for spelling in spellings:
        candidates = [spelling]
        if not given.is_absolute() and not str(name_or_path).startswith("."):
            beside = [
                folder / spelling,
                *(sorted(folder.glob(f"*/{spelling.name}")) if bare else []),
            ]
            candidates = beside + candidates if bare else candidates + beside
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    if bare:
        hint = near_names(given.stem, known_configs(folder))
        raise ValueError(
            f"unknown config {str(name_or_path)!r}; {hint}; or give a path to a .yaml file"
        )
    hint = near_names(given.stem, known_configs(folder))
    raise ValueError(f"config file {str(name_or_path)!r} does not exist; recipes by name: {hint}")


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; ValueError for anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"config {str(path)!r} is not valid YAML: {reason}") from error
    except OSError as error:
        raise ValueError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(
            f"config {str(path)!r} holds a {type(content).__name__}, not KEY: VALUE lines; "
            "see configs/swin_t_bn.yaml for the form"
        )
    return content
