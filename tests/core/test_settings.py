"""Settings come from recipe, preset and command line in this order, and every fault is named before a run begins."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from datanas.comparison.config import resolve_comparison
from datanas.core.errors import ConfigError
from datanas.core.settings import Written, apply_overrides, merge, parse_overrides, parse_yaml, read_yaml
from datanas.engine.config import Config, resolve


def fault(raw: dict[str, Any], *overrides: tuple[str, object]) -> str:
    """What is said of a configuration that must be refused."""
    with pytest.raises(ConfigError) as caught:
        resolve(raw, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:1", "1:1"),
        ("12:30:45", "12:30:45"),
        ("1e-3", 1e-3),
        ("3.0e-4", 3e-4),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("7", 7),
        ("-7", -7),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'7'", "7"),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("{a: 1}", {"a": 1}),
        (".inf", math.inf),
    ],
)
def test_values_are_read_as_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_both_forms_of_an_override_are_read() -> None:
    tokens = ["--sampler.samples", "7", "--search.split=2:1", "--train.drop-path", "-1", "--run.name=a=b"]
    assert parse_overrides(tokens) == [
        ("sampler.samples", "7"),
        ("search.split", "2:1"),
        ("train.drop_path", "-1"),
        ("run.name", "a=b"),
    ]
    assert all(type(value) is Written for _, value in parse_overrides(tokens))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["samples"], "unexpected argument 'samples'"),
        (["--"], "unexpected argument '--'"),
        (["--seed"], "--seed: a value must follow"),
        (["--seed", "--device", "cpu"], "--seed: a value must follow"),
    ],
)
def test_an_incomplete_override_is_refused(tokens: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(tokens)


def test_overrides_make_sections_and_leave_the_original_alone() -> None:
    raw = {"search": {"epochs": 1, "weights": {"lr": 0.1}}}
    found = apply_overrides(raw, [("search.weights.clip", 3.0), ("seed", 1), ("seed", 2)])
    assert found == {"search": {"epochs": 1, "weights": {"lr": 0.1, "clip": 3.0}}, "seed": 2}
    assert raw == {"search": {"epochs": 1, "weights": {"lr": 0.1}}}


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.epochs\.x: search\.epochs is a value \(3\), not a section"):
        apply_overrides({"search": {"epochs": 3}}, [("search.epochs.x", 1)])


def test_merge_goes_into_sections_and_replaces_values() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 1}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"sed": 1}, "sed: unknown key; did you mean 'seed'?"),
        ({"search": {"epoch": 1}}, "search.epoch: unknown key; did you mean 'epochs'?"),
        ({"search": {"weights": {"momentun": 0}}}, "search.weights.momentun: unknown key; did you mean 'momentum'?"),
        ({"sampler": {"sample": 4}}, "sampler.sample: unknown key; did you mean 'samples'?"),
        ({"sampler": {"tau": {"strt": 1}}}, "sampler.tau.strt: unknown key; did you mean 'start'?"),
        ({"task": {"train_augment": {"cutuot": 1}}}, "task.train_augment.cutuot: unknown key; did you mean 'cutout'?"),
        ({"sampler": {"name": "egz"}}, "sampler.name: unknown sampler 'egz'; did you mean 'egs'?"),
        ({"space": "conv_sell"}, "space.name: unknown space 'conv_sell'; did you mean 'conv_cell'?"),
    ],
)
def test_an_unknown_name_is_shown_with_its_neighbour(raw: dict[str, Any], message: str) -> None:
    assert message in fault(raw)


def test_an_unknown_name_without_a_neighbour_lists_what_is_known() -> None:
    assert "xyz: unknown key; known: end, start" in fault({"sampler": {"tau": {"xyz": 1}}})


@pytest.mark.parametrize(
    ("raw", "field", "given"),
    [
        ({"search": {"epochs": "x"}}, "search.epochs", "'x'"),
        ({"seed": 1.5}, "seed", "1.5"),
        ({"search": {"split": 1}}, "search.split", "1"),
        ({"search": [1]}, "search", "[1]"),
        ({"sampler": 5}, "sampler", "5"),
        ({"search": {"alpha": {"betas": [0.5, "a"]}}}, "search.alpha.betas.1", "'a'"),
        ({"sampler": {1: 2}}, "sampler.1", "1"),
    ],
)
def test_a_wrong_type_is_named_with_what_was_given(raw: dict[str, Any], field: str, given: str) -> None:
    message = fault(raw)
    assert message.startswith(f"{field}: ")
    assert message.endswith(f"got {given}")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"seed": -1}, "seed: must be at least 0, got -1"),
        ({"search": {"weights": {"lr": 0}}}, "search.weights.lr: must be greater than 0.0, got 0"),
        ({"sampler": {"samples": 65}}, "sampler.samples: must be at most 64, got 65"),
        ({"train": {"drop_path": 1}}, "train.drop_path: must be less than 1.0, got 1"),
        ({"search": {"execution": "spars"}}, "search.execution: must be 'sparse' or 'dense', got 'spars'"),
        ({"sampler": {"preset": "papr"}}, "'default', 'paper', 'official' or 'inclusion', got 'papr'"),
        ({"search": {"alpha": {"betas": [0.5, 1]}}}, "search.alpha.betas: must both be in [0, 1), got [0.5, 1]"),
        ({"sampler": {"constraint": {"kind": "l2", "power": 2}}}, "power belongs to kind `power`, not to `l2`"),
        ({"data": {"name": "npz"}}, "data.root: is required"),
    ],
)
def test_a_value_out_of_range_is_refused(raw: dict[str, Any], message: str) -> None:
    assert message in fault(raw)


def test_what_is_no_number_is_refused() -> None:
    assert fault({"search": {"weights": {"lr": math.nan}}}).startswith("search.weights.lr: ")


@pytest.mark.parametrize("ratio", ["1", "0:1", "1:0", "1:-1", "1:1:1", "a:b", "1/2", ""])
@pytest.mark.parametrize("field", ["split", "steps"])
def test_a_malformed_ratio_is_refused(field: str, ratio: str) -> None:
    assert f"search.{field}: a ratio must be two positive numbers m:n" in fault({"search": {field: ratio}})


def test_steps_are_whole_numbers_and_a_split_need_not_be() -> None:
    assert resolve({"search": {"split": "1.5:1", "steps": "3:2"}}).search.split == "1.5:1"
    assert "search.steps: must be two whole numbers" in fault({"search": {"steps": "1.5:1"}})


@pytest.mark.parametrize("name", ["a/b", "..", ".", "/", "", "a/"])
def test_a_run_is_named_by_one_folder(name: str) -> None:
    assert fault({"run": {"name": name}}).startswith("run.name: ")


def test_a_run_may_have_any_plain_name() -> None:
    assert resolve({"run": {"name": "cifar 10, M=4.1"}}).run.name == "cifar 10, M=4.1"


@pytest.mark.parametrize(
    ("raw", "field"), [({"sampler": {"preset": [1]}}, "sampler.preset"), ({"plugins": 5}, "plugins")]
)
def test_a_wrong_type_is_no_traceback(raw: dict[str, Any], field: str) -> None:
    assert fault(raw).startswith(f"{field}: ")


def test_an_infinite_value_is_refused() -> None:
    assert fault({"search": {"weights": {"lr": math.inf}}}).startswith("search.weights.lr: ")


def test_an_empty_section_can_be_filled_by_an_override() -> None:
    assert apply_overrides({"sampler": None}, [("sampler.samples", 7)]) == {"sampler": {"samples": 7}}


def test_all_faults_are_told_together() -> None:
    raw = {"sed": 1, "search": {"epochs": 0}, "sampler": {"samples": 0, "probs": "x"}, "space": "nowhere"}
    places = {line.split(":")[0] for line in fault(raw).splitlines()}
    assert places == {"sed", "search.epochs", "sampler.samples", "sampler.probs", "space.name"}


def test_sections_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(resolve({}).search, "epochs", 3)  # noqa: B010 -- for mypy it is no attribute to set


@pytest.mark.parametrize("raw", [{}, {"sampler": "egs", "space": None}, {"sampler": {}, "task": "classification"}])
def test_a_component_may_be_a_name_or_nothing(raw: dict[str, Any]) -> None:
    assert resolve(raw) == resolve({})


@pytest.mark.parametrize("preset", ["default", "paper", "official"])
def test_the_written_configuration_reads_back_equal(preset: str, tiny_config: dict[str, Any]) -> None:
    config = resolve({**tiny_config, "sampler": {"preset": preset, "tau": {"end": 1e-5}}, "search": {"split": "1:60"}})
    text = config.to_yaml()
    assert resolve(parse_yaml(text)) == config
    assert resolve(yaml.safe_load(text)) == config


def test_a_changed_value_reads_back_unequal(tiny_config: dict[str, Any]) -> None:
    """Negative control."""
    config = resolve(tiny_config)
    assert resolve(parse_yaml(config.to_yaml()), [("sampler.tau.end", 0.5)]) != config


def test_a_configuration_resolves_to_itself_and_takes_overrides(tiny_config: dict[str, Any]) -> None:
    config = resolve(tiny_config)
    assert resolve(config) is config
    changed = resolve(config, [("sampler.samples", 2)])
    assert isinstance(changed, Config)
    assert changed == resolve(tiny_config, [("sampler.samples", 2)])


def resolved(**sampler: object) -> dict[str, Any]:
    return resolve({"sampler": sampler}).sampler.model_dump()


def test_the_paper_preset_is_the_text() -> None:
    found = resolved(preset="paper")
    assert (found["scope"], found["normalise"], found["probs"]) == ("edge", "sum", "softmax")
    assert found["tau"] == {"start": 1.0, "end": 1.0}
    assert found["constraint"]["kind"] == "l1"
    assert (found["constraint"]["reduction"], found["constraint"]["target"]) == ("sum", "code")
    assert found["init_std"] == 0.0


def test_the_official_preset_is_the_authors_program() -> None:
    found = resolved(preset="official")
    assert (found["scope"], found["normalise"], found["probs"]) == ("edge", "mean", "relu")
    assert found["tau"] == {"start": 5.0, "end": 1.0}
    wanted = {"kind": "l1", "gamma": 0.1, "reduction": "mean", "target": "normalised", "through_gates": False}
    assert wanted.items() <= found["constraint"].items()
    assert found["init_std"] == 1e-3


def test_no_preset_is_the_default_preset() -> None:
    assert resolved() == resolved(preset="default")
    assert resolved() | {"preset": "paper"} != resolved(preset="paper")


def test_explicit_values_win_over_the_preset() -> None:
    found = resolved(preset="official", scope="node", constraint={"gamma": 0.5}, tau={"end": 0.5})
    assert (found["scope"], found["constraint"]["gamma"], found["constraint"]["reduction"]) == ("node", 0.5, "mean")
    assert found["tau"] == {"start": 5.0, "end": 0.5}


def test_a_recipe_is_read_from_its_path(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\nsearch: {split: 2:1, alpha: {lr: 1e-3}}\n")
    config = resolve(recipe, [("seed", 4)])
    assert (config.seed, config.search.split, config.search.alpha.lr) == (4, "2:1", 1e-3)


def test_an_empty_recipe_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert resolve(tmp_path / "empty.yaml") == resolve({})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "must be a mapping of sections, got list"),
        (b"a: [1\n", "not YAML"),
        (b"a: \xff\n", "not text in UTF-8: byte 3 is 0xff"),
        (b"!!python/object/apply:os.getcwd []\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(recipe)
    assert str(caught.value).startswith(str(recipe))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: No such file"):
        read_yaml(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    "recipe", sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_resolves(recipe: Path) -> None:
    raw = read_yaml(recipe)
    if "methods" in raw:
        table = [] if raw.get("retrain") else [("base.truth.table", "table.npz")]
        resolve_comparison(raw, [("base.data.root", "."), *table])
        return
    if "networks" in raw:  # nothing is learned: benchmarks/hardware.py reads it
        return
    raw["data"] = raw["data"] if raw["data"]["name"].startswith("photo") else {**raw["data"], "root": "."}
    assert resolve(raw).data.name == raw["data"]["name"]


TEXTS = ["1", "20240101", "2024-01-01", "007", "1e5", "1.10", "no", "true", "#1", "~", "null", "a: b", "[a", "12:30"]


def given(*tokens: str) -> Config:
    """A configuration of the command line alone."""
    return resolve({}, parse_overrides(tokens))


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_is_written(text: str) -> None:
    assert given("--run.name", text).run.name == text
    assert given("--data.name", "folder", "--data.root", text).data.root == Path(text)  # type: ignore[attr-defined]
    assert given("--train.start_from", text).train.start_from == Path(text)


@pytest.mark.parametrize("text", ["1", "20240101", "2024-01-01", "007", "1e5", "1.10", "no", "true", "12:30"])
def test_a_recipe_s_text_is_taken_as_it_is_written(text: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"run: {{name: {text}}}\ndata: {{name: folder, root: {text}}}\n")
    config = resolve(recipe)
    assert (config.run.name, config.data.root) == (text, Path(text))  # type: ignore[attr-defined]


def test_a_recipe_s_null_and_quotes_mean_what_yaml_says(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("run: {name: null}\ntruth: {table: ~, metric: 'null'}\n")
    config = resolve(tmp_path / "recipe.yaml")
    assert (config.run.name, config.truth.table, config.truth.metric) == (None, None, "null")


def test_what_is_no_text_is_read_as_yaml() -> None:
    config = given("--search.examples", "null", "--search.weights.nesterov", "yes", "--search.alpha.betas", "[0.5, .9]")
    assert (config.search.examples, config.search.weights.nesterov) == (None, True)
    assert config.search.alpha.betas == (0.5, 0.9)
    assert given("--train.max_macs", "1M").train.max_macs == 1_000_000
    assert given("--search.gap.images", "7").search.gap.examples == 7


def test_texts_inside_a_list_stay_texts() -> None:
    config = given("--task.name", "segmentation", "--task.classes", "[1, 007, no]")
    assert config.task.classes == ("1", "007", "no")  # type: ignore[attr-defined]


def test_an_empty_text_leaves_a_path_out_and_is_no_name() -> None:
    assert resolve({"train": {"start_from": "a"}}, parse_overrides(["--train.start_from="])).train.start_from is None
    with pytest.raises(ConfigError, match=r"^run\.name: "):
        given("--run.name", "")


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_one_of_a_few_words_is_left_out_by_null(text: str) -> None:
    assert given("--sampler.derivation.rule", text).sampler.derivation.rule is None  # type: ignore[attr-defined]


def test_the_number_of_a_device_is_that_of_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("device: 1\n")
    assert given("--device", "0").device == "cuda:0"
    assert resolve(tmp_path / "recipe.yaml").device == "cuda:1"


@pytest.mark.parametrize("name", ["x" * 256, "\u00e9" * 128, "a\0b"])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    assert fault({"run": {"name": name}}).startswith("run.name: must be a name that a folder can have")
    assert resolve({"run": {"name": "x" * 255}}).run.name == "x" * 255


def test_an_unknown_key_of_a_component_that_nobody_chose_names_it_and_the_key_s_owners() -> None:
    message = fault({"data": {"root": "x"}})
    assert message.startswith("data.root: unknown key; ")
    assert "data.name is not given, so that it is 'photos'; root is known to camvid, cifar10, " in message
    assert "not given" not in fault({"data": {"name": "photos", "root": "x"}})


def test_a_comparison_reads_texts_as_its_base_has_them(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "base: {seed: 3, data: {name: folder, root: 2024, test_share: 0.5}, truth: {metric: 007}}\n"
        "methods: {egs: {sampler: {samples: 3}}}\nbudget: {steps: 5}\nretrain: true\n"
    )
    config = resolve_comparison(tmp_path / "r.yaml", parse_overrides(["--base.run.name", "1e5"]))
    assert config.base["data"] == {"name": "folder", "root": "2024", "test_share": 0.5}
    assert (config.base["seed"], config.base["truth"], config.base["run"]) == (3, {"metric": "007"}, {"name": "1e5"})
    assert config.methods["egs"]["sampler"]["samples"] == 3
