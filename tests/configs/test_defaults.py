"""Recipes: found by name, checked by key, type and range, read back as they were written."""

import math
import os
from pathlib import Path

import pytest

from spikeswap.configs import default_config, get_config, list_configs, save_config
from spikeswap.configs.checks import CHECKS

RECIPES = """mst_swin_t resnet18 resnet20 resnet34 swin_nano_bn swin_s_bn swin_t_bn vgg16
    cifar10_snn cifar10_cnn spikingformer_mnist5k sdt_mnist5k spikingresformer_mnist5k
    spikingformer_8_768_imagenet sdt_8_768_imagenet spikingresformer_s_imagenet""".split()


def test_the_recipes_are_there():
    assert set(RECIPES) <= set(list_configs())


@pytest.mark.parametrize("name", list_configs())
def test_every_recipe_reads_and_is_frozen(name):
    cfg = get_config(name)
    assert cfg == get_config(f"{name}.yaml")
    assert cfg.is_frozen()
    with pytest.raises(AttributeError):
        cfg.TRAIN.EPOCHS = 1


@pytest.mark.parametrize("name", [name for name in RECIPES if "swin" in name])
def test_swin_recipes_train_with_masks(name):
    assert get_config(name).MODEL.MASK == 0.75


def test_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert get_config("swin_t_bn.yaml").MODEL.NAME == "swin_t_bn"


def test_a_path_and_a_bare_name_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("TRAIN:\n  LR: 3e-3\n  EPOCHS: 2\n")
    assert get_config(tmp_path / "mine.yaml").TRAIN.EPOCHS == 2
    monkeypatch.chdir(tmp_path)
    cfg = get_config("mine")
    assert cfg.TRAIN.LR == 3e-3 and isinstance(cfg.TRAIN.LR, float)


def test_a_dotted_path_never_means_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        get_config("./swin_t_bn.yaml")


def test_defaults_alone():
    cfg = get_config()
    assert cfg == default_config()
    assert cfg.MODEL.LEVELS == 16


def test_overrides_win_and_keep_types():
    words = "TRAIN.LR 1 TRAIN.EPOCHS 3 DATA.PATH 2024 DATA.DOWNLOAD true".split()
    cfg = get_config("swin_t_bn", words)
    assert (cfg.TRAIN.LR, cfg.TRAIN.EPOCHS) == (1.0, 3)
    assert isinstance(cfg.TRAIN.LR, float)
    assert (cfg.DATA.PATH, cfg.DATA.DOWNLOAD) == ("2024", True)


def test_overrides_as_a_mapping():
    cfg = get_config(
        "swin_t_bn", {"TRAIN.EPOCHS": 3, "EVAL.TIMESTEPS": [1, 2], "DATA.PATH": Path("x")}
    )
    assert (cfg.TRAIN.EPOCHS, cfg.EVAL.TIMESTEPS, cfg.DATA.PATH) == (3, [1, 2], "x")


def test_text_that_looks_like_nothing_else_stays_text():
    cfg = get_config("", ["CONVERT.CALIBRATE", "none", "TRAIN.INIT", ""])
    assert (cfg.CONVERT.CALIBRATE, cfg.TRAIN.INIT) == ("none", "")


def test_model_overrides_hold_any_argument():
    words = [
        "MODEL.OVERRIDES.depths",
        "[2, 2]",
        "MODEL.OVERRIDES",
        "{norm: ln, drop_path: 1e-1, tet: false}",
    ]
    overrides = dict(get_config("swin_nano_bn", words).MODEL.OVERRIDES)
    assert overrides["depths"] == [2, 2]
    assert overrides["norm"] == "ln" and overrides["drop_path"] == 0.1
    assert overrides["tet"] is False


def test_words_of_digits_stay_words(tmp_path):
    """Which stages pool is a word of four digits, not an octal number."""
    (tmp_path / "mine.yaml").write_text("MODEL:\n  OVERRIDES:\n    pooling_stat: '0111'\n")
    cfg = get_config(tmp_path / "mine.yaml")
    assert cfg.MODEL.OVERRIDES.pooling_stat == "0111"
    save_config(cfg, tmp_path / "config.yaml")
    assert get_config(tmp_path / "config.yaml") == cfg
    words = ["MODEL.OVERRIDES.pooling_stat", "0011", "MODEL.OVERRIDES.tau", "1.5e0"]
    overrides = dict(get_config("sdt_mnist5k", words).MODEL.OVERRIDES)
    assert (overrides["pooling_stat"], overrides["tau"]) == ("0011", 1.5)


def test_saved_config_reads_back_equal(tmp_path):
    cfg = get_config("swin_t_bn", ["MODEL.OVERRIDES.depths", "[2, 2]", "TRAIN.LR", "1e-4"])
    save_config(cfg, tmp_path / "config.yaml")
    assert get_config(tmp_path / "config.yaml") == cfg


def test_configs_do_not_share_state():
    get_config("swin_t_bn", ["MODEL.OVERRIDES.depths", "[1]"])
    assert "depths" not in default_config().MODEL.OVERRIDES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["TRAIN.LRR", "1"], "unknown key 'TRAIN.LRR' in --set; did you mean TRAIN.LR"),
        (["MODL.NAME", "x"], "did you mean MODEL.NAME"),
        (["TRAIN", "1"], "unknown key 'TRAIN'"),
        (["TRAIN.EPOCHS.MORE", "1"], "did you mean TRAIN.EPOCHS"),
        (["TRAIN.EPOCHS", "x"], "TRAIN.EPOCHS in --set is 'x', but must be a whole number"),
        (["TRAIN.EPOCHS", "2.5"], "must be a whole number"),
        (["TRAIN.EPOCHS", "true"], "must be a whole number"),
        (["TRAIN.LR", "fast"], "TRAIN.LR in --set is 'fast', but must be a number"),
        (["DATA.DOWNLOAD", "1"], "must be true or false"),
        (["EVAL.TIMESTEPS", "8"], "must be a list"),
        (["EVAL.TIMESTEPS", "[0]"], "whole numbers >= 1"),
        (["MODEL.OVERRIDES", "3"], "must be a mapping"),
        (["TRAIN.EPOCHS"], "KEY VALUE pairs"),
        (["TRAIN.EPOCHS", "0"], "TRAIN.EPOCHS is 0, but must be >= 1"),
        (["MODEL.MASK", "1"], "at least 0 and below 1"),
        (["MODEL.MASK", "-0.1"], "at least 0 and below 1"),
        (["MODEL.MASK", "nan"], "at least 0 and below 1"),
        (["TRAIN.LR", "inf"], "finite"),
        (["DATA.CROP_SCALE", "[0, 1]"], "two numbers above 0"),
        (["DATA.CROP_SCALE", "[0.5, 2]"], "at most 1"),
        (["DATA.CROP_RATIO", "[2]"], "two numbers above 0"),
        (["DATA.ERASE", "1.5"], "from 0 to 1"),
        (["DATA.AUGMENT", "autoaugment"], "one of auto, none"),
        (["TRAIN.MIX_PROB", "-1"], "from 0 to 1"),
        (["TRAIN.SCHEDULE", "batch"], "one of update, epoch"),
        (["TRAIN.AMP", "half"], "one of none, bf16, fp16, auto"),
        (["CONVERT.NEURON", "lif"], "one of if, stbif, multi"),
        (["CONVERT.TIMESTEPS", "-4"], "CONVERT.TIMESTEPS is -4"),
    ],
)
def test_bad_overrides(words, message):
    with pytest.raises(ValueError) as caught:
        get_config("swin_t_bn", words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_t", "unknown config 'swin_t'; did you mean swin_t_bn"),
        ("swin_x_bn.yaml", "did you mean"),
        ("zzz", "known: cifar10_cnn"),
        ("no/such/file.yaml", "does not exist"),
    ],
)
def test_unknown_recipes(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        get_config(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"TRAIN: [", "not valid YAML"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n", "more than 8"),
        (
            b"a: &a {k: 1}\nb: &b {<<: [*a, *a, *a, *a, *a]}\nc: {<<: [*b, *b, *b, *b]}",
            "more than 8",
        ),
        (b"a: &a [*a]\n", "nested without end"),
        (b"a: " + b"[" * 10_000, "not valid YAML"),
        (b"a: " + b"9" * 10_000, "not valid YAML"),
        (b"a: !!int ''\n", "not valid YAML"),
        (b"a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        (b"# " + b"x" * 10**6, "more than 0.25 MiB"),
        (b"- 1\n", "not KEY: VALUE lines"),
        (b"TRAIN: 3\n", "must hold KEY: VALUE lines"),
        (b"TRANE:\n  LR: 1\n", "unknown key 'TRANE'"),
        (b"TRAIN:\n  EPOCH: 1\n", "did you mean TRAIN.EPOCHS"),
    ],
)
def test_bad_files(tmp_path, content, message):
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        get_config(tmp_path / "bad.yaml")
    assert message in str(caught.value) and "bad.yaml" in str(caught.value)


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        get_config(tmp_path)


def test_every_check_names_a_key_and_refuses_nan():
    cfg = default_config()
    for key, (holds, _) in CHECKS.items():
        group, name = key.split(".")
        assert holds(cfg[group][name]), key
        if isinstance(cfg[group][name], float):
            assert not holds(math.nan), key


def test_a_config_that_is_a_pipe_or_device_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "device.yaml"):
        with pytest.raises(ValueError, match=name):
            get_config(tmp_path / name)
