from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from dino_detector.commands.arguments import parse_settings
from dino_detector.config import LIGHTWEIGHT, Config, ImageSize
from dino_detector.config.yaml_text import write_config
from dino_detector.errors import InputError


def parse(*argv: str) -> Config:
    config, _ = parse_settings([Config], argv, prog="train")
    return config


def refusal(*argv: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(*argv)
    return str(caught.value)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_empty_command_line_is_the_defaults() -> None:
    assert parse() == Config()


def test_every_setting_has_a_flag_a_help_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for name in Config().flat():
        assert f" --{name} " in text or name == "data"
    assert "DATA folder or file of a data set" in text
    assert "--train_backbone {lora,full,none}" in text
    assert "--feature_scales X [X ...] feature levels" in text
    assert "(default: [2.0, 1.0, 0.5])" in text
    assert "--lora_dropout X dropout on the input of the adapters (default: 0.0)" in text
    assert "--accumulate_batches N" in text
    assert "--only_evaluate [{true,false}]" in text
    for noise in ("<class", "Union", "Literal", "None", "Path(", "[]"):
        assert noise not in text


def test_help_groups_settings_by_their_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    lines = capsys.readouterr().out.splitlines()
    title = lines.index("The neck, the DETR-like decoder and its heads:")
    section = "\n".join(lines[title : title + 5])
    assert "--num_queries" in section
    assert "--epochs" not in section


def test_help_lists_only_what_is_shown_but_all_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {"checkpoint": "the file", "seed": ""}
    with pytest.raises(SystemExit):
        parse_settings([Config], ["--help"], prog="evaluate", shown=shown)
    text = " ".join(capsys.readouterr().out.split())
    assert "--checkpoint PATH the file" in text
    assert "(default: 42)" in text
    assert "--epochs" not in text
    config, _ = parse_settings([Config], ["--epochs", "3"], prog="evaluate", shown=shown)
    assert config.flat() == Config().flat() | {"epochs": 3}


def test_it_is_known_what_the_user_gave(in_tmp: Path) -> None:
    Path("run.yaml").write_text("seed: 42\nlora_layers: null\n")
    argv = ["--epochs=50", "--lightweight", "--config", "run.yaml"]
    _, given = parse_settings([Config], argv, prog="train")
    assert given == {"epochs", "lightweight", "seed", "lora_layers"}


def test_print_config_writes_a_file_that_reads_back_the_same(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("num_queries: 60\n")
    argv = ["--lightweight", "--epochs", "3", "--config", "run.yaml"]
    with pytest.raises(SystemExit) as stop:
        parse(*argv, "--print_config")
    assert stop.value.code == 0
    Path("printed.yaml").write_text(capsys.readouterr().out)
    assert parse("--config", "printed.yaml") == parse(*argv)
    assert set(yaml.safe_load(Path("printed.yaml").read_text())) == set(Config().flat())


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--epochs", "3"], "epochs", 3),
        (["--epochs=3"], "epochs", 3),
        (["--epochs", "3", "--epochs", "4"], "epochs", 4),
        (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
        (["--learning_rate", "1"], "learning_rate", 1.0),
        (["--precision", "32"], "precision", "32"),
        (["--image_size", "518"], "image_size", "518"),
        (["--image_size", "504x896"], "image_size", "504x896"),
        (["--dino_model", "5"], "dino_model", "5"),
        (["--output_dir", "out puts/a #1"], "output_dir", "out puts/a #1"),
        (["--val_images", "123"], "val_images", "123"),
        (["--lora_layers", "null"], "lora_layers", None),
        (["--lora_targets", "query"], "lora_targets", ["query"]),
        (["--lora_targets", "[query, mlp]"], "lora_targets", ["query", "mlp"]),
        (["--feature_layers", "-1"], "feature_layers", [-1]),
        (["--feature_layers", "2,5,-1"], "feature_layers", [2, 5, -1]),
        (["--feature_layers", "2", "5"], "feature_layers", [2, 5]),
        (["--feature_layers", "null"], "feature_layers", None),
        (["--feature_scales", "[4,2,.5]"], "feature_scales", [4.0, 2.0, 0.5]),
    ],
)
def test_a_flag_sets_its_setting_and_nothing_else(argv: list[str], name: str, value: object) -> None:
    assert parse(*argv).flat() == Config().flat() | {name: value}


@pytest.mark.parametrize(
    "text", ['{"hidden_size": 192, "layer_norm_eps": 1e-6}', "{hidden_size: 192, layer_norm_eps: 1e-6}"]
)
def test_a_mapping_is_json_or_yaml(text: str) -> None:
    config = parse("--backbone_weights", "random", "--backbone_architecture", text)
    assert config.backbone.backbone_architecture == {"hidden_size": 192, "layer_norm_eps": 1e-6}


@pytest.mark.parametrize("text", ['{"6-8": 4, "11": 32}', "{6-8: 4, 11: 32}"])
def test_layers_are_text_though_yaml_reads_a_number(text: str, in_tmp: Path) -> None:
    ranks = {"6-8": 4, "11": 32}
    assert parse("--lora_rank_pattern", text).backbone.lora_rank_pattern == ranks
    Path("run.yaml").write_text("lora_rank_pattern:\n  6-8: 4\n  11: 32\n")
    assert parse("--config", "run.yaml").backbone.lora_rank_pattern == ranks
    message = "--lora_rank_pattern must be a whole number for '11:32', not null"
    assert refusal("--lora_rank_pattern", '{"11:32"}') == message


def test_image_size_is_height_by_width() -> None:
    assert parse("--image_size", "504x896").data.image_size == ImageSize(height=504, width=896)


@pytest.mark.parametrize("name", ["use_deformable", "only_evaluate", "lightweight", "augmentation"])
def test_booleans_mean_what_they_say(name: str) -> None:
    for text in ("false", "False", "FALSE"):
        assert parse(f"--{name}", text).flat()[name] is False
        assert parse(f"--{name}={text}").flat()[name] is False
    for argv in ([f"--{name}", "true"], [f"--{name}", "True"], [f"--{name}"], [f"--{name}", "--epochs", "3"]):
        assert parse(*argv).flat()[name] is True


def test_flags_win_over_yaml_wherever_they_stand(in_tmp: Path) -> None:
    Path("run.yaml").write_text("epochs: 7\nbatch_size: 3\n")
    for argv in (["--config", "run.yaml", "--epochs", "9"], ["--epochs", "9", "--config=run.yaml"]):
        assert parse(*argv).flat() == Config().flat() | {"epochs": 9, "batch_size": 3}


def test_a_yaml_file_may_hold_nothing_but_a_null(in_tmp: Path) -> None:
    Path("run.yaml").write_text("lora_layers: null\n")
    assert parse("--config", "run.yaml").flat() == Config().flat() | {"lora_layers": None}


def test_a_later_yaml_file_wins_over_an_earlier_one(in_tmp: Path) -> None:
    Path("a.yaml").write_text("epochs: 7\nbatch_size: 3\n")
    Path("b.yaml").write_text("epochs: 8\n")
    assert parse("--config", "a.yaml", "--config", "b.yaml").flat() == Config().flat() | {"epochs": 8, "batch_size": 3}


def test_yaml_values_are_read_as_their_settings_mean_them(in_tmp: Path) -> None:
    Path("run.yaml").write_text(
        "precision: 32\nlearning_rate: 1e-4\nimage_size: [504, 896]\nlora_layers: null\nuse_deformable: no\n"
        "feature_scales: [2, 1]\ntrain_images: data/train\nbackbone_weights: random\n"
        "backbone_architecture:\n  hidden_size: 192\n  layer_norm_eps: 1e-6\n"
    )
    settings = parse("--config", "run.yaml").flat()
    assert settings == Config().flat() | {
        "precision": "32",
        "learning_rate": 1e-4,
        "image_size": "504x896",
        "lora_layers": None,
        "use_deformable": False,
        "feature_scales": [2.0, 1.0],
        "train_images": "data/train",
        "backbone_weights": "random",
        "backbone_architecture": {"hidden_size": 192, "layer_norm_eps": 1e-6},
    }


@pytest.mark.parametrize("size", ["518", "504x896", "[504, 896]", "[518, 518]", "518.5", "[1, 2, 3]", "true"])
def test_image_size_in_yaml(size: str, in_tmp: Path) -> None:
    Path("run.yaml").write_text(f"image_size: {size}\n")
    known = {"518": (518, 518), "504x896": (504, 896), "[504, 896]": (504, 896), "[518, 518]": (518, 518)}
    if size in known:
        assert parse("--config", "run.yaml").data.image_size == known[size]
    else:
        assert refusal("--config", "run.yaml").startswith("run.yaml: image_size ")
        assert refusal("--config", "run.yaml").endswith(
            " is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)"
        )


def test_lightweight_replaces_defaults_only(in_tmp: Path) -> None:
    preset = Config().flat() | LIGHTWEIGHT | {"lightweight": True}
    assert parse("--lightweight").flat() == preset
    Path("run.yaml").write_text("lightweight: true\nn_points: 8\nnum_queries: 60\n")
    assert parse("--config", "run.yaml").flat() == preset | {"n_points": 8, "num_queries": 60}
    model = "facebook/dinov2-base"
    for argv in (["--lightweight", "--dino_model", model], ["--dino_model", model, "--lightweight"]):
        assert parse(*argv).flat() == preset | {"dino_model": model}
    mixed = parse("--num_queries", "70", "--config", "run.yaml")
    assert mixed.flat() == preset | {"n_points": 8, "num_queries": 70}


def test_a_flag_turns_off_a_preset_of_the_yaml_file(in_tmp: Path) -> None:
    Path("run.yaml").write_text("lightweight: true\n")
    assert parse("--config", "run.yaml", "--lightweight", "false") == Config()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--lightweight", "--image_size", "504x896", "--lora_layers", "null", "--train_images", "bilder/é 1"],
        ["--backbone_weights", "random", "--backbone_architecture", '{"hidden_size": 192, "eps": 1e-06}'],
        ["--dino_model", "5", "--learning_rate", "1e-5", "--val_images", "123", "--precision", "16"],
        ["--only_evaluate", "--use_deformable", "false", "--feature_scales", "4", "--checkpoint", "yes"],
    ],
)
def test_a_written_config_reads_back_the_same(argv: list[str], in_tmp: Path) -> None:
    config = parse(*argv)
    write_config(config, Path("config.yaml"))
    assert parse("--config", "config.yaml") == config
    assert yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")) == config.flat()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epchs", "3"], "unknown flag --epchs; did you mean --epochs?"),
        (["--epoch", "3"], "unknown flag --epoch; did you mean --epochs?"),
        (["--num-queries", "3"], "unknown flag --num-queries; did you mean --num_queries?"),
        (["--zzz"], "unknown flag --zzz"),
        (["--num_queries_", "3", "--zzz"], "unknown flag --num_queries_; did you mean --num_queries?"),
        (["-e", "3"], "unknown flag -e"),
        (["x", "stray"], "unexpected 'stray'; settings are given as --name value"),
        (["epochs", "3"], "unexpected 'epochs'; settings are given as --name value; did you mean --epochs?"),
        (["--epochs"], "argument --epochs: expected one argument; see --help"),
        (["--epochs", "--seed", "3"], "argument --epochs: expected one argument; see --help"),
        (["--lora_targets"], "argument --lora_targets: expected at least one argument; see --help"),
        (["--checkpoint", ""], "--checkpoint needs a value; see --help"),
        (["--config"], "argument --config: expected one argument; see --help"),
        (["--confg", "a.yaml"], "unknown flag --confg; did you mean --config?"),
        (["--epochs", "ten"], "--epochs must be a whole number, not 'ten'"),
        (["--epochs", "3.5"], "--epochs must be a whole number, not 3.5"),
        (["--epochs", "null"], "--epochs must be a whole number, not null"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--learning_rate", "fast"], "--learning_rate must be a number, not 'fast'"),
        (["--learning_rate", "-1"], "--learning_rate must be above 0, not -1.0"),
        (["--lora_layers", "all"], "--lora_layers must be a whole number or null, not 'all'"),
        (["--only_evaluate", "maybe"], "--only_evaluate must be true or false, not 'maybe'"),
        (
            ["--train_backbone", "lorra"],
            "--train_backbone must be one of lora, full, none, not 'lorra'; did you mean lora?",
        ),
        (
            ["--image_size", "5a"],
            "--image_size '5a' is neither a number of pixels (518) nor HEIGHTxWIDTH (504x896)",
        ),
        (
            ["--lora_targets", "query,kee"],
            "--lora_targets must be one of query, key, value, output, mlp, not 'kee'; did you mean key?",
        ),
        (["--feature_layers", "a,b"], "--feature_layers must be a whole number, not 'a'"),
        (
            ["--backbone_architecture", "5"],
            '--backbone_architecture must be a mapping, such as {"name": 1}, not 5',
        ),
        (["--hidden_dim", "36"], "--hidden_dim must be a multiple of num_heads (8), not 36"),
        (["--debug", "--debug_samples", "0"], "--debug_samples must be at least 1, not 0"),
        (["--config", "none.yaml"], "none.yaml: no such settings file; correct --config"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(argv: list[str], message: str) -> None:
    assert refusal(*argv) == message


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("epchs: 3", "run.yaml: epchs is no setting; did you mean epochs?"),
        ("losses:\n  focal_alpha: 3", "run.yaml: losses is no setting"),
        ("3: 4", "run.yaml: 3 is no setting"),
        ("epochs: ten", "run.yaml: epochs must be a whole number, not 'ten'"),
        ("epochs:\nseed: 3", "run.yaml: epochs must be a whole number, not null"),
        ("epochs: 0", "run.yaml: epochs must be at least 1, not 0"),
        ("use_deformable: 1", "run.yaml: use_deformable must be true or false, not 1"),
        ("dino_model: 5", "run.yaml: dino_model must be text, not 5"),
        ("train_images: [a]", "run.yaml: train_images must be a path or null, not ['a']"),
        ("feature_scales: 2", "run.yaml: feature_scales must be a list, such as [2,1], not 2"),
        ("lightweight: maybe", "run.yaml: lightweight must be true or false, not 'maybe'"),
        ("- epochs", "run.yaml: holds no settings; write one on each line, such as epochs: 50"),
        ("epochs:", "run.yaml: epochs must be a whole number, not null"),
        ("train_images: ''", "run.yaml: train_images must be a path or null, not ''"),
        ("", "run.yaml: holds no settings; write one on each line, such as epochs: 50"),
    ],
)
def test_a_mistake_in_a_yaml_file_names_the_file(contents: str, message: str, in_tmp: Path) -> None:
    Path("run.yaml").write_text(contents)
    assert refusal("--config", "run.yaml") == message


@pytest.mark.parametrize("contents", [b"a: [", b"\xff\xfe\x00", b"a: b: c"])
def test_a_file_that_is_not_yaml_is_refused(contents: bytes, in_tmp: Path) -> None:
    Path("run.yaml").write_bytes(contents)
    assert refusal("--config", "run.yaml").startswith("run.yaml: cannot be read as YAML (")


def test_a_mistake_names_the_file_that_holds_it(in_tmp: Path) -> None:
    Path("a.yaml").write_text("epochs: 0\nseed: 1\n")
    Path("b.yaml").write_text("seed: 2\n")
    assert refusal("--config", "a.yaml", "--config", "b.yaml") == "a.yaml: epochs must be at least 1, not 0"
    Path("a.yaml").write_text("seed: 1\n")
    Path("b.yaml").write_text("seed: two\n")
    message = "b.yaml: seed must be a whole number, not 'two'"
    assert refusal("--seed", "3", "--config", "a.yaml", "--config", "b.yaml") == message


@dataclasses.dataclass(frozen=True)
class Meal:
    """What to eat."""

    dish: Path
    """the dish"""
    _: dataclasses.KW_ONLY
    salt: float
    """how much"""
    plates: int = 2
    """100 % of them"""


def cook(*argv: str) -> Meal:
    (meal,) = parse_settings([Meal], argv, prog="cook", usage="DISH --salt X")
    return meal


def test_a_positional_setting_stands_anywhere() -> None:
    for argv in (["soup", "--salt", "1"], ["--salt", "1", "soup"]):
        assert cook(*argv) == Meal(Path("soup"), salt=1.0, plates=2)


USAGE = "cook DISH --salt X [--SETTING VALUE ...]"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], f"missing: dish, salt; usage: {USAGE}"),
        (["--salt", "1"], f"missing: dish; usage: {USAGE}"),
        (["soup"], f"missing: salt; usage: {USAGE}"),
        (["soup", "bread", "--salt", "1"], "unexpected 'bread'; settings are given as --name value"),
        (["--dish", "soup", "--salt", "1"], "unknown flag --dish"),
        (["--config", "a.yaml", "soup", "--salt", "1"], "unknown flag --config"),
    ],
)
def test_a_missing_or_second_value_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        cook(*argv)
    assert str(caught.value) == message


def test_usage_shows_what_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cook("--help")
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {USAGE}\n")
    assert "100 % of them (default: 2)" in text
    assert "how much (required)" in text


@dataclasses.dataclass(frozen=True)
class Shelf:
    """What stands where."""

    books: list[Path] = dataclasses.field(default_factory=list)
    """the books"""
    widths: list[float] = dataclasses.field(default_factory=lambda: [1.0])
    """in metres"""
    open: bool = False
    """without a door"""


def shelve(*argv: str) -> dict[str, object]:
    (shelf,) = parse_settings([Shelf], argv, prog="shelve")
    return vars(shelf)


@pytest.mark.parametrize(
    "argv",
    [
        ["--books", "a.txt", "b.txt"],
        ["--books", "a.txt,b.txt"],
        ["--books", "a.txt,", "b.txt"],
        ["--books", "[a.txt, b.txt]"],
        ["--books", "[a.txt,", "b.txt]"],
        ["--books", "a.txt", "--books", "b.txt"],
        ["--books", "a.txt", "--open", "--books=b.txt"],
    ],
)
def test_files_are_listed_in_any_way_and_add_up(argv: list[str]) -> None:
    assert shelve(*argv)["books"] == [Path("a.txt"), Path("b.txt")]


@pytest.mark.parametrize("name", ["#1.txt", "a: b.txt", "{x}.txt", "null", "12", 'it\'s "one".txt', "[old.txt", "-"])
def test_a_file_may_have_any_name(name: str) -> None:
    assert shelve("--books", name, "b.txt")["books"] == [Path(name), Path("b.txt")]


def test_a_file_with_a_comma_is_given_in_brackets() -> None:
    assert shelve("--books", '["a,b.txt"]')["books"] == [Path("a,b.txt")]


@pytest.mark.parametrize("argv", [["4", "2", "-1"], ["4,2,-1"], ["[4,2,-1]"], ["[4,", "2,", "-1]"], ["4,", "2,", "-1"]])
def test_numbers_are_listed_in_any_way_and_the_last_list_counts(argv: list[str]) -> None:
    assert shelve("--widths", "7", "--widths", *argv, "--open") == {
        "books": [],
        "widths": [4.0, 2.0, -1.0],
        "open": True,
    }


def test_only_a_list_takes_more_than_one_value() -> None:
    with pytest.raises(InputError, match="unexpected 'true'; settings are given as --name value"):
        shelve("--open", "true", "true")


def test_the_help_of_a_list_of_files_has_no_default_and_shows_that_there_may_be_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        shelve("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--books PATH [PATH ...] the books --widths X [X ...] in metres (default: [1.0])" in text
