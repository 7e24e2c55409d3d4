"""search, derive, train, evaluate, profile: what each leaves behind and prints."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from datanas import Architecture
from datanas.engine.config import resolve
from datanas.runs import read_metrics


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def misspelt(architecture: Path, target: Path) -> Path:
    """Write the architecture with all its operations named as no operation is."""
    plain = json.loads(architecture.read_text())
    for cell in plain["cells"].values():
        cell["primitives"] = [f"{name}_33" for name in cell["primitives"]]
    target.write_text(json.dumps(plain))
    return target


class TestSearch:
    def test_leaves_the_files_of_a_run(self, chain: Any) -> None:
        found = files(chain.search)
        events = {name for name in found if name.startswith("events.out.tfevents.")}
        names = ("manifest.json", "state.json", "state.safetensors")
        steps = {f"checkpoints/step-{step:08d}/{name}" for step in (3, 6) for name in names}
        assert len(events) == 1
        assert found - events - steps == {
            "architecture.json",
            "cells.png",
            "cells.svg",
            "config.yaml",
            "clock.json",
            "data.json",
            "env.json",
            "genotypes/epoch-0001.json",
            "genotypes/epoch-0002.json",
            "lock",
            "metrics.jsonl",
            "modes.json",
            "result.json",
        }
        assert steps <= found

    def test_keeps_what_the_last_epoch_would_have_kept(self, chain: Any) -> None:
        kept = Architecture.load(chain.search / "architecture.json")
        last = Architecture.load(chain.search / "genotypes" / "epoch-0002.json")
        assert kept == last
        assert kept.posterior == last.posterior
        assert kept.source is not None
        assert kept.source["seed"] == 0
        assert kept.source["data"]["name"] == "npz"
        assert kept.source["method"]["name"] == "egs"

    def test_writes_the_resolved_configuration(self, chain: Any, make_config: Callable[[Path], Any]) -> None:
        config = make_config(chain.root)
        config["run"]["name"] = "search"
        written = yaml.safe_load((chain.search / "config.yaml").read_text())
        assert resolve(written) == resolve(config)
        assert written == resolve(config).model_dump(mode="json")

    def test_tells_the_environment(self, chain: Any) -> None:
        environment = json.loads((chain.search / "env.json").read_text())
        assert {"started", "command", "python", "platform", "cpu", "versions"} <= set(environment)

    def test_logs_an_epoch_a_line_for_people_and_tensorboard(self, chain: Any) -> None:
        lines = read_metrics(chain.search)
        assert [(line["step"], line["epoch"]) for line in lines] == [(3, 1), (6, 2)]
        events = EventAccumulator(str(chain.search)).Reload()
        for name in ("train/loss", "train/alpha loss", "gap/supernet", "gap/child", "flatness/normal"):
            assert name in events.Tags()["scalars"]
            shown = [event.value for event in events.Scalars(name)]
            assert shown == pytest.approx([line[name] for line in lines], rel=1e-6)

    def test_shows_p_by_epoch_and_the_kept_cells_in_tensorboard(self, chain: Any) -> None:
        events = EventAccumulator(str(chain.search)).Reload()
        for name in ("P/normal", "P/reduce"):
            assert [event.step for event in events.Images(name)] == [3, 6]
        (cells,) = events.Images("cells")
        assert cells.encoded_image_string == (chain.search / "cells.png").read_bytes()

    def test_has_its_last_score_beside_its_settings_in_tensorboard(self, chain: Any) -> None:
        events = EventAccumulator(str(chain.search)).Reload()
        (final,) = events.Scalars("final/accuracy")
        assert final.value == pytest.approx(read_metrics(chain.search)[-1]["gap/child"], rel=1e-6)
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = HParamsPluginData.FromString(content).session_start_info.hparams
        assert settings["search.epochs"].number_value == 2

    def test_prints_the_cells_and_says_where_they_are(self, chain: Any) -> None:
        code, out, err = chain.printed["search"]
        assert code == 0
        assert "normal: " in out
        assert "reduce: " in out
        assert f"written to {chain.search}: architecture.json" in out
        assert "epoch 2/2" in err
        assert (chain.search / "cells.svg").read_text().startswith("<?xml")
        assert (chain.search / "cells.png").read_bytes().startswith(b"\x89PNG")

    def test_names_the_score_of_its_last_measurement(self, chain: Any) -> None:
        last = read_metrics(chain.search)[-1]
        shown = [f"{100 * last[f'gap/{name}']:.2f}%" for name in ("supernet", "children_mean", "child")]
        line = f"accuracy: supernet {shown[0]}, sampled children {shown[1]}, child kept {shown[2]}"
        assert line in chain.printed["search"].out.splitlines()

    def test_ends_with_the_warnings_of_the_kept_cell(self, chain: Any) -> None:
        written = json.loads((chain.search / "result.json").read_text())["warnings"]
        lines = chain.printed["search"].out.splitlines()
        scores = next(place for place, line in enumerate(lines) if line.startswith("accuracy: "))
        assert written
        assert lines[scores + 1 : -1] == [f"warning: {warning}" for warning in written]

    def test_warns_of_nothing_where_nothing_is_wrong(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        run = shutil.copytree(chain.search, tmp_path / "run")
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**result, "warnings": []}))
        outcome = cli("search", "--resume", run)
        assert outcome.code == 0
        assert "warning" not in outcome.out

    def test_quiet_is_quiet(self, settings: list[str], cli: Callable[..., Any]) -> None:
        assert cli("search", *settings, "--search.epochs", 1, "--quiet").err == ""

    def test_its_config_file_alone_repeats_it(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        assert cli("search", "-c", chain.search / "config.yaml", "--run.root", tmp_path, "--quiet").code == 0
        again = tmp_path / "search"
        assert (again / "architecture.json").read_bytes() == (chain.search / "architecture.json").read_bytes()
        for step in (3, 6):
            state = Path("checkpoints") / f"step-{step:08d}" / "state.safetensors"
            assert (again / state).read_bytes() == (chain.search / state).read_bytes()

    def test_another_seed_is_another_search(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        config = chain.search / "config.yaml"
        assert cli("search", "-c", config, "--seed", 1, "--run.root", tmp_path, "--quiet").code == 0
        first, second = (read_metrics(run) for run in (chain.search, tmp_path / "search"))
        assert first[0]["train/loss"] != second[0]["train/loss"]
        assert yaml.safe_load((tmp_path / "search" / "config.yaml").read_text())["seed"] == 1


class TestDerive:
    @pytest.fixture
    def run(self, chain: Any, tmp_path: Path) -> Path:
        return Path(shutil.copytree(chain.search, tmp_path / "run"))

    def test_writes_what_the_search_wrote(self, run: Path, chain: Any, cli: Callable[..., Any]) -> None:
        for name in ("architecture.json", "cells.svg", "cells.png"):
            (run / name).unlink()
        assert cli("derive", run).code == 0
        for name in ("architecture.json", "cells.svg", "cells.png"):
            assert (run / name).read_bytes() == (chain.search / name).read_bytes()

    def test_lists_the_likeliest_in_order(self, chain: Any) -> None:
        out = chain.printed["derive"].out
        numbered = [line for line in out.splitlines() if " log P " in line and "Genotype(" in line]
        assert [line.split(".")[0].strip() for line in numbered] == ["2", "3"]
        kept = Architecture.load(chain.root / "derived.json")
        assert kept.posterior is not None
        log_probs = [kept.posterior["log_prob"], *(float(line.split("log P ")[1].split()[0]) for line in numbered)]
        assert log_probs[0] >= log_probs[1] - 5e-4
        assert log_probs[1:] == sorted(log_probs[1:], reverse=True)
        genotypes = {line[line.index("Genotype(") :] for line in numbered}
        assert len({*genotypes, kept.to_genotype()}) == 3

    def test_writes_elsewhere_with_the_pictures_beside_it(self, chain: Any) -> None:
        kept = Architecture.load(chain.root / "derived.json")
        assert kept == Architecture.load(chain.search / "architecture.json")
        assert (chain.root / "derived.svg").is_file()
        assert (chain.root / "derived.png").is_file()

    def test_makes_the_folder_that_it_writes_to(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        target = tmp_path / "deep" / "down" / "a.json"
        assert cli("derive", chain.search, "-o", target).code == 0
        assert Architecture.load(target) == Architecture.load(chain.search / "architecture.json")
        assert sorted(path.name for path in target.parent.iterdir()) == ["a.json", "a.png", "a.svg"]

    def test_names_the_file_that_it_cannot_write(self, run: Path, cli: Callable[..., Any]) -> None:
        before = files(run)
        target = run / "config.yaml" / "a.json"
        message = f"error: {target}: cannot be written: File exists\n"
        assert cli("derive", run, "-o", target) == (6, "", message)
        assert files(run) == before

    def test_samples_decide_how_many_operations_are_kept(self, run: Path, cli: Callable[..., Any]) -> None:
        counts = []
        for samples in (1, 4, 20):
            assert cli("derive", run, "--samples", samples).code == 0
            kept = Architecture.load(run / "derived.json")
            assert kept.posterior is not None
            assert kept.posterior["samples"] == samples
            counts.append(sum(int(cell.code.sum()) for cell in kept.cells.values()))
        assert counts == sorted(set(counts))

    @pytest.mark.parametrize(
        "given", [("--samples", 1), ("--epoch", 1), ("--checkpoint", "best"), ("--rule", "top_edges")]
    )
    def test_what_the_search_keeps_stays(
        self, run: Path, chain: Any, cli: Callable[..., Any], given: tuple[object, ...]
    ) -> None:
        outcome = cli("derive", run, *given)
        assert outcome.code == 0
        assert outcome.out.endswith(f"written to {run / 'derived.json'}\n")
        for name in ("architecture.json", "cells.svg", "cells.png"):
            assert (run / name).read_bytes() == (chain.search / name).read_bytes()
        assert (run / "derived.svg").is_file()

    def test_takes_what_an_earlier_epoch_would_have_kept(self, run: Path, cli: Callable[..., Any]) -> None:
        assert cli("derive", run, "--epoch", 1).code == 0
        assert (run / "derived.json").read_bytes() == (run / "genotypes" / "epoch-0001.json").read_bytes()

    def test_genotype_is_all_that_is_printed_and_nothing_is_written(self, run: Path, cli: Callable[..., Any]) -> None:
        kept = Architecture.load(run / "architecture.json")
        (run / "architecture.json").unlink()
        assert cli("derive", run, "--genotype") == (0, kept.to_genotype() + "\n", "")
        assert not (run / "architecture.json").exists()

    @pytest.mark.parametrize(
        ("given", "code", "message"),
        [
            (["--top", "0"], 2, "--top: must be at least 1, got 0"),
            (["--samples", "0"], 2, "sampler.samples: must be at least 1, got 0"),
            (["--epoch", "9"], 3, "has kept nothing for epoch 9"),
            *(
                (["--epoch", "1", *more], 2, "--epoch: the other options need the probabilities of a checkpoint")
                for more in (["--top", "2"], ["--samples", "2"], ["--checkpoint", "best"])
            ),
        ],
    )
    def test_what_it_cannot_do(
        self, given: list[str], code: int, message: str, run: Path, cli: Callable[..., Any]
    ) -> None:
        before = files(run)
        outcome = cli("derive", run, *given)
        assert outcome.code == code
        assert message in outcome.err
        assert files(run) == before


class TestTrain:
    def test_leaves_the_files_of_a_run(self, chain: Any) -> None:
        found = files(chain.train)
        assert {
            "architecture.json",
            "config.yaml",
            "env.json",
            "evaluation.json",
            "metrics.jsonl",
            "network.safetensors",
            "checkpoints/step-00000006/state.safetensors",
        } <= found
        assert any(name.startswith("events.out.tfevents.") for name in found)

    def test_has_its_figures_in_tensorboard(self, chain: Any) -> None:
        events = EventAccumulator(str(chain.train)).Reload()
        found = json.loads((chain.train / "evaluation.json").read_text())
        for name, figure in (("accuracy", "score"), ("macs", "macs")):
            assert events.Scalars(f"final/{name}")[0].value == pytest.approx(found[figure], rel=1e-6)

    def test_trains_the_architecture_of_the_search(self, chain: Any) -> None:
        searched = (chain.search / "architecture.json").read_bytes()
        assert (chain.train / "architecture.json").read_bytes() == searched

    def test_prints_the_figures_that_it_writes(self, chain: Any) -> None:
        evaluation = json.loads((chain.train / "evaluation.json").read_text())
        assert f"test error {evaluation['error']:.2%}" in chain.printed["train"].out
        assert f"{evaluation['parameters']:,} parameters" in chain.printed["train"].out
        assert evaluation["error"] == pytest.approx(1 - evaluation["score"])

    def test_takes_a_published_architecture(self, settings: list[str], runs: Path, cli: Callable[..., Any]) -> None:
        outcome = cli("train", "darts_v2", *settings, "--train.epochs", 1)
        assert outcome.code == 0
        kept = Architecture.load(runs / "run" / "architecture.json")
        assert kept.source is not None
        assert kept.source["name"] == "darts_v2"

    def test_a_recurrent_cell_is_told_what_images_take(self, settings: list[str], refused: Callable[..., None]) -> None:
        message = (
            "task.name: darts_v2_rnn of space recurrent_cell cannot be trained on task classification, which takes "
            "convolutional cells, such as darts_v2; it is for tasks such as language"
        )
        refused(2, message, "train", "darts_v2_rnn", *settings)

    def test_the_file_of_an_unknown_operation_is_named(
        self, chain: Any, settings: list[str], tmp_path: Path, refused: Callable[..., None]
    ) -> None:
        file = misspelt(chain.search / "architecture.json", tmp_path / "mine.json")
        refused(3, f"error: {file}: cells.normal: unknown operation ", "train", file, *settings, "--dry-run")

    def test_the_architecture_may_be_an_option(self, settings: list[str], cli: Callable[..., Any]) -> None:
        outcome = cli("train", *settings, "--architecture", "darts_v2", "--print-config")
        assert (outcome.code, outcome.err) == (0, "")

    def test_a_held_out_share_is_measured(
        self, chain: Any, settings: list[str], runs: Path, cli: Callable[..., Any]
    ) -> None:
        more = ["--train.validation", "0.25", "--train.ema", "0.9"]
        assert cli("train", chain.search, *settings, *more, "--quiet").code == 0
        assert all(0 <= line["validation/accuracy"] <= 1 for line in read_metrics(runs / "run"))


class TestEvaluate:
    def test_twice_gives_what_training_printed(self, chain: Any, cli: Callable[..., Any]) -> None:
        figures = chain.printed["train"].out.splitlines()[:2]
        before = files(chain.train)
        assert chain.printed["evaluate"] == (0, "\n".join([*figures, ""]), "")
        assert figures[1].startswith("  95 % interval of accuracy ")
        assert cli("evaluate", chain.train) == chain.printed["evaluate"]
        assert files(chain.train) == before

    def test_takes_data_from_elsewhere(self, chain: Any, tiny_images: Path, tmp_path: Path, cli: Any) -> None:
        moved = shutil.copy(tiny_images, tmp_path / "moved.npz")
        assert cli("evaluate", chain.train, "--data.root", moved) == chain.printed["evaluate"]

    def test_needs_a_finished_training(self, chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
        run = shutil.copytree(chain.train, tmp_path / "run")
        (run / "network.safetensors").unlink()
        outcome = cli("evaluate", run)
        assert outcome.code == 3
        assert "finish it with train --resume" in outcome.err

    def test_refuses_a_network_of_another_architecture(self, chain: Any, tmp_path: Path, cli: Any) -> None:
        run = shutil.copytree(chain.train, tmp_path / "run")
        other = Architecture.load(chain.search / "genotypes" / "epoch-0001.json")
        assert other != Architecture.load(run / "architecture.json")
        other.save(run / "architecture.json")
        code, out, err = cli("evaluate", run)
        assert (code, out) == (3, "")
        assert "network.safetensors: does not fit the run's architecture" in err

    def test_names_the_file_of_an_unknown_operation(self, chain: Any, tmp_path: Path, cli: Any) -> None:
        run = shutil.copytree(chain.train, tmp_path / "run")
        file = misspelt(run / "architecture.json", run / "architecture.json")
        code, out, err = cli("evaluate", run)
        assert (code, out) == (3, "")
        assert err.startswith(f"error: {file}: cells.normal: unknown operation ")

    def test_the_network_is_what_was_trained(self, chain: Any) -> None:
        tensors = load_file(chain.train / "network.safetensors")
        evaluation = json.loads((chain.train / "evaluation.json").read_text())
        learned = [name for name in tensors if "running" not in name and "num_batches" not in name]
        assert sum(tensors[name].numel() for name in learned) == evaluation["parameters"]


class TestProfile:
    NAMES = ("DARTS", "darts_v2", "data_m7")
    SIZE = ("--channels", "4", "--cells", "3", "--classes", "3", "--size", "8")
    SMALL = (*SIZE, "--batch", "1", "--no-memory", "--device", "cpu", "--threads", "1")

    def test_counts_what_training_counted(self, chain: Any, cli: Callable[..., Any]) -> None:
        evaluation = json.loads((chain.train / "evaluation.json").read_text())
        for given in (chain.search, chain.search / "architecture.json"):
            outcome = cli("profile", given, *self.SMALL)
            assert outcome.code == 0
            lines = dict(line.split(maxsplit=1) for line in outcome.out.partition("\n\n")[0].splitlines())
            assert lines["parameters"] == f"{evaluation['parameters']:,}"
            assert lines["multiply-adds"] == f"{evaluation['macs'] / 1e6:,.1f} M an image at 8x8"
            assert " ms for a batch of 1 on cpu, 1 thread, float32, median of 10 after 3; " in lines["latency"]

    def test_takes_a_published_name(self, cli: Callable[..., Any]) -> None:
        first, second, third = (cli("profile", name, *self.SMALL).out.splitlines()[:2] for name in self.NAMES)
        assert first == second
        assert first != third

    def test_prints_json(self, cli: Callable[..., Any]) -> None:
        code, out, _ = cli("profile", "gdas", *self.SMALL, "--batch", "2", "--json")
        assert code == 0
        found = json.loads(out)
        assert list(found["latency_ms"]) == ["1", "2"]
        assert (found["threads"], found["precision"], found["memory_bytes"]) == (1, "float32", {})

    def test_takes_an_architecture_of_another_space_without_settings(self, tmp_path: Path, cli: Any) -> None:
        text = "|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
        Architecture.from_genotype(text).save(tmp_path / "cell.json")
        code, out, _ = cli("profile", tmp_path / "cell.json", "--device", "cpu", "--no-memory")
        assert code == 0
        assert " M an image at 32x32" in out

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (["darts_v3"], "unknown architecture 'darts_v3'; did you mean 'darts_v2'?"),
            (["darts_v2", "--cells", "0"], "cells must be at least 1, got 0"),
            (["darts_v2", "--size", "0"], "--size: must be at least 1, got 0"),
            (["darts_v2", "--batch", "0"], "--batch: must be at least 1, got 0"),
            (["darts_v2", "--device", "toaster"], "device: 'toaster' cannot be used here"),
        ],
    )
    def test_what_it_cannot_do(self, given: list[str], message: str, cli: Callable[..., Any]) -> None:
        code, out, err = cli("profile", *given)
        assert (code, out) == (2, "")
        assert message in err


class TestBest:
    """The checkpoint after the epoch that scored best stays, whatever comes later."""

    @pytest.fixture
    def searched(self, settings: list[str], runs: Path, cli: Callable[..., Any]) -> tuple[Path, int]:
        """A search of six epochs that keeps one checkpoint beside the best, and the best epoch."""
        more = ["--search.epochs", 6, "--run.keep", 1, "--search.weights.lr", 0.2, "--seed", 3]
        more += ["--task.search_augment.flip", "true"]
        assert cli("search", *settings, *more, "--quiet").code == 0
        scores = [line["gap/child"] for line in read_metrics(runs / "run")]
        best = scores.index(max(scores)) + 1
        assert best < 6, scores
        return runs / "run", best

    def test_is_what_derive_takes(self, searched: tuple[Path, int], tmp_path: Path, cli: Callable[..., Any]) -> None:
        run, best = searched
        found = {path.name for path in (run / "checkpoints").iterdir()}
        assert found == {f"step-{3 * best:08d}", "step-00000018"}
        for given, epoch in (([], 6), (["--checkpoint", "last"], 6), (["--checkpoint", "best"], best)):
            assert cli("derive", run, *given, "-o", tmp_path / "a.json").code == 0
            kept = Architecture.load(run / "genotypes" / f"epoch-{epoch:04d}.json")
            derived = Architecture.load(tmp_path / "a.json")
            assert (derived, derived.posterior) == (kept, kept.posterior)

    def test_is_what_evaluate_takes(self, settings: list[str], runs: Path, cli: Callable[..., Any]) -> None:
        more = ["--train.validation", 0.25, "--train.epochs", 5, "--train.ema", 0.5, "--run.keep", 1]
        assert cli("train", "darts_v2", *settings, *more, "--train.weights.lr", 0.3, "--quiet").code == 0
        run = runs / "run"
        scores = [line["validation/accuracy"] for line in read_metrics(run)]
        best = scores.index(max(scores)) + 1
        assert (run / "checkpoints" / f"step-{best * 2:08d}").is_dir()
        printed = {
            given: cli("evaluate", run, *given) for given in ((), ("--checkpoint", "last"), ("--checkpoint", "best"))
        }
        assert {outcome.code for outcome in printed.values()} == {0}
        assert printed[()].out == printed[("--checkpoint", "last")].out
        if best < 5:
            assert printed[()].out != printed[("--checkpoint", "best")].out

    def test_is_not_there_where_nothing_was_compared(self, chain: Any, cli: Callable[..., Any]) -> None:
        code, out, err = cli("evaluate", chain.train, "--checkpoint", "best")
        assert (code, out) == (3, "")
        assert err == f"error: {chain.train}: has no best checkpoint: nothing was measured after an epoch\n"


@pytest.mark.parametrize("given", ["train", "search"])
def test_a_run_s_profile_is_that_of_the_network_it_trains(given: str, chain: Any, cli: Callable[..., Any]) -> None:
    trained = json.loads((chain.train / "evaluation.json").read_text())
    printed = cli("profile", getattr(chain, given), "--device", "cpu", "--no-memory").out
    assert f"parameters     {trained['parameters']:,}\n" in printed
    assert f"multiply-adds  {trained['macs'] / 1e6:,.1f} M an image at 8x8\n" in printed


def test_a_run_s_profile_is_of_its_network_and_no_other(chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = shutil.copytree(chain.train, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"(?m)^(train:\n(?:  .*\n)*?  channels: )\d+$", r"\g<1>6", config))
    code, out, err = cli("profile", run, "--device", "cpu", "--no-memory")
    assert (code, out) == (3, "")
    assert "network.safetensors: does not fit the run's architecture: stem.conv.weight has shape" in err
    assert cli("profile", run, "--channels", 6, "--device", "cpu", "--no-memory").code == 0


def test_options_change_a_run_s_profile(chain: Any, cli: Callable[..., Any]) -> None:
    plain, wider, larger = (
        cli("profile", chain.train, "--device", "cpu", "--no-memory", *options).out.splitlines()
        for options in ([], ["--channels", 8], ["--size", 16])
    )
    assert wider[0] != plain[0] == larger[0]
    assert larger[2].endswith("at 16x16")


def test_a_search_s_cell_is_trained_as_its_recipe_says(chain: Any, tmp_path: Path, cli: Callable[..., Any]) -> None:
    outcome = cli("train", chain.search, "--run.root", tmp_path, "--run.name", "again", "--quiet")
    assert outcome.code == 0, outcome.err
    for file in ("evaluation.json", "network.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (chain.train / file).read_bytes()
