"""The house: imports run downwards only, the package list is the tree, the root stays clean."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    name: number
    for number, names in enumerate(
        (
            "support",
            "configs data distributed",
            "neurons",
            "ops",
            "graph",
            "counting models",
            "calibrate snn",
            "convert",
            "evaluate export train",
            "pretrained report",
            "commands",
            "tools",
        )
    )
    for name in names.split()
}
LIBRARY = [folder for folder in FLOORS if folder != "tools"]
OUTSIDE = ["tests", "docs", "examples", "benchmarks"]
BARE_NAMES = {*FLOORS, "tests"}


def python_files(folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path, package):
    """(line, absolute dotted name) of every import; relative ones resolved within `package`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, False
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package[: len(package) - node.level + 1]
                assert kept, f"{path.name}:{node.lineno} leaves the package"
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}", bool(node.level)


def package_of(path):
    return ["spikeswap", *path.relative_to(ROOT).parent.parts]


def show(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("folder", LIBRARY)
def test_imports_run_downwards(folder):
    wrong = []
    for path in python_files([folder]):
        for line, name, _ in imports(path, package_of(path)):
            parts = name.split(".")
            if parts[0] != "spikeswap":
                continue
            target = parts[1] if len(parts) > 1 else ""
            if target == folder:
                continue
            if FLOORS.get(target, 99) >= FLOORS[folder]:
                wrong.append(f"{show(path)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_files():
    """What a file imports when it is imported, file by file: a circle has no order to read it in."""
    files = {".".join([*package_of(path), path.stem]): path for path in python_files(LIBRARY)}
    needs = {name: needed_by(path, files) for name, path in files.items()}
    while ready := [name for name, others in needs.items() if not others & needs.keys()]:
        for name in ready:
            del needs[name]
    assert not needs, "circles among: " + ", ".join(sorted(needs))


def needed_by(path, files) -> set[str]:
    """Names of the files that this one imports at its top level."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    lines = {node.lineno for node in top if isinstance(node, (ast.Import, ast.ImportFrom))}
    found = set()
    for line, name, _ in imports(path, package_of(path)):
        if line in lines:
            for candidate in (name, name.rpartition(".")[0]):
                found |= {candidate} & files.keys()
                package = f"{candidate}.__init__"
                if (
                    package in files
                    and path.name != "__init__.py"
                    and files[package].parent != path.parent
                ):
                    found.add(package)
    return found - {".".join([*package_of(path), path.stem])}


@pytest.mark.parametrize("folder", LIBRARY)
def test_library_imports_itself_relatively(folder):
    wrong = [
        f"{show(path)}:{line} imports {name}"
        for path in python_files([folder])
        for line, name, relative in imports(path, package_of(path))
        if name.split(".")[0] == "spikeswap" and not relative
    ]
    assert not wrong, "\n".join(wrong)


def test_no_bare_folder_names():
    wrong = []
    for path in [ROOT / "__init__.py", *python_files([*FLOORS, *OUTSIDE])]:
        for line, name, relative in imports(path, package_of(path)):
            if not relative and name.split(".")[0] in BARE_NAMES:
                wrong.append(f"{show(path)}:{line} imports {name}; say spikeswap.{name}")
    assert not wrong, "\n".join(wrong)


def test_only_commands_read_the_config():
    wrong = [
        f"{show(path)}:{line} imports {name}"
        for path in python_files(
            [folder for folder in LIBRARY if folder not in ("configs", "commands")]
        )
        for line, name, _ in imports(path, package_of(path))
        if name.split(".")[0] == "yacs" or name.startswith("spikeswap.configs")
    ]
    assert not wrong, "\n".join(wrong)


def test_package_list_is_the_tree():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    folders = {path.parent for path in python_files(LIBRARY)}
    tree = {"spikeswap", *(".".join(["spikeswap", *f.relative_to(ROOT).parts]) for f in folders)}
    assert sorted(listed) == sorted(tree)
    without = [show(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not without, f"no __init__.py in {without}"


def test_no_packages_outside_the_library():
    found = [
        show(path)
        for folder in [*OUTSIDE, "tools"]
        for path in (ROOT / folder).rglob("__init__.py")
    ]
    assert not found, found
    known = {*FLOORS, *OUTSIDE}
    strangers = [path.parent.name for path in ROOT.glob("[!.]*/__init__.py")]
    assert set(strangers) <= known, f"new folder: give it a floor here ({strangers})"


def test_root_holds_only_the_doors_of_the_package():
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]
    lines = (ROOT / "__init__.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 20
    relative = [n for n in ast.walk(ast.parse("\n".join(lines))) if getattr(n, "level", 0)]
    assert not relative, "a relative import in the root breaks pytest in a clone of another name"


def test_pyproject_has_three_lines():
    assert len((ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()) == 3


def test_import_is_cheap():
    code = "import sys, spikeswap; spikeswap.__version__; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_unknown_attribute_is_an_attribute_error():
    import spikeswap

    with pytest.raises(AttributeError, match="no attribute 'lead'"):
        _ = spikeswap.lead


def tracked_files():
    """Files of the repository, or a skip where there is no git."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        pytest.skip(result.stderr.decode(errors="replace"))
    paths = [ROOT / name for name in result.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_machine_paths():
    folders = "|".join(["root", "work", r"home/\w+", r"Users/\w+", "mnt", "scratch"])
    machine_path = re.compile(rf"(?<![\w.:/<>{{}}~-])/(?:{folders})/[\w.]")
    wrong = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{show(path)}: {found.group()}" for found in machine_path.finditer(text)]
    assert not wrong, "\n".join(wrong)


def test_wheel_holds_the_library_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", minversion="70.1")  # the first that builds wheels alone
    copy, out = tmp_path / "a clone of another name", tmp_path / "out"
    for path in tracked_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    out.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(out.glob("*.whl"))).namelist())
    names = {name for name in names if ".dist-info/" not in name}
    kept = (".py", ".yaml", ".html", ".jinja", ".js", ".json", ".jsonl", ".pt", ".safetensors")
    inside = [p for f in LIBRARY for p in (copy / f).rglob("*") if p.suffix in kept]
    wanted = {f"spikeswap/{path.relative_to(copy).as_posix()}" for path in inside}
    assert names == wanted | {
        f"spikeswap/{name}" for name in ("__init__.py", "__main__.py", "py.typed")
    }


def test_no_file_is_too_long_to_be_read():
    long = {show(path) for path in python_files(FLOORS) if len(path.read_text().splitlines()) > 400}
    assert not long
