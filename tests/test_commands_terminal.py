from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerascnn
from kerascnn import cli
from kerascnn.commands.terminal import TYPED, in_options, said

OPTIONS = {"top": "--top", "batch_size": "--batch-size", "strict": "--strict", "start_from": "--from"}
OPTIONS["skip"] = "--model-options skip="


@pytest.mark.parametrize(
    ("library", "shell"),
    [
        ("top=0 is not allowed.", "--top 0 is not allowed."),
        ("Without strict=True, files are skipped.", "Without --strict, files are skipped."),
        ("Give batch_size=8, or top=3.", "Give --batch-size 8, or --top 3."),
        ("start_from='x' has no weights", "--from 'x' has no weights"),
        ("give skip='fc'", "give --model-options skip='fc'"),
        ("stop=0, photos/top=0.png and atop=3 stay", "stop=0, photos/top=0.png and atop=3 stay"),
    ],
)
def test_parameters_become_options(library, shell):
    assert in_options(library, OPTIONS) == shell
    assert in_options(library, {}) == library


@pytest.mark.parametrize(
    ("command", "option"),
    [("train", "--image-size"), ("predict", "--top"), ("train", "--from"), ("train", "--model-options skip=")],
)
def test_every_command_knows_its_options(command, option):
    assert option in cli._options([command, "x"]).values()


def test_lines_speak_of_options_and_paths_stay_as_they_are():
    typed = TYPED.set(lambda: {"epochs": "--epochs"})
    try:
        assert said("Note: epochs=3 is few.") == "Note: --epochs 3 is few."
        assert said(Path("epochs=3/report.html")) == Path("epochs=3/report.html")
    finally:
        TYPED.reset(typed)


@pytest.mark.parametrize("arguments", [[], ["experiment"], ["trian"]])
def test_no_command_has_the_option_of_all_commands(arguments):
    assert cli._options(arguments) == {"KERASCNN_MAX_MEGAPIXELS": "--max-megapixels"}


def test_the_library_names_parameters_and_the_shell_options(trained, tmp_path, capsys):
    Image.fromarray(np.zeros((8, 8, 3), "uint8")).save(tmp_path / "a.png")
    with pytest.raises(kerascnn.errors.UsageError, match=r"^top=0 is not allowed"):
        kerascnn.predict(trained, tmp_path / "a.png", top=0)
    assert cli.run_command(["predict", str(trained.folder), str(tmp_path / "a.png"), "--top", "0"]) == 2
    assert "--top 0 is not allowed: it must be at least 1." in capsys.readouterr().err


def test_the_shell_names_strict(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.fromarray(np.full((8, 8, 3), 9 * i, "uint8")).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a" / "0.png").write_bytes((tmp_path / "a" / "0.png").read_bytes()[:40])
    assert cli.run_command(["train", str(tmp_path), "--strict", "--batch-size", "8"]) == 1
    assert "Without --strict, broken files are skipped" in capsys.readouterr().err
