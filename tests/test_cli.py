import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerascnn import cli, runs
from kerascnn.commands.train import Fields, asked_recipe
from kerascnn.models import MODELS


def fill(folder, count, content):
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(content)


COMMAND = [sys.executable, "-m", "kerascnn"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capfd):
    """Runs a command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        code = cli.run_command([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, 'Unknown command "trian". Did you mean "train"?'),
        (
            ["train", "--epoch", "3"],
            2,
            "Unknown option: --epoch. Did you mean --epochs? List the options: kerascnn train --help",
        ),
        (["train", "--epochs", "three"], 2, "three"),
        (["train", "--epochs", "0"], 2, "--epochs 0 is out of range: it must be at least 1"),
        (["train", "--model", "cifar_nett"], 2, "Unknown model 'cifar_nett'. Did you mean 'cifar_net'"),
        (["train", "--recipe", "cs7001"], 2, "Unknown recipe 'cs7001'. Did you mean 'cs7011'"),
        (["train", "--optimizer", "adm"], 2, "--optimizer 'adm' is not allowed"),
        (
            ["train", "--rate-patience", "3", "--schedule", "cosine"],
            2,
            "Give --schedule 'constant', or --rate-patience 0",
        ),
        (["train", "--batch-size", "5000"], 2, "Give --batch-size 1293 or less."),
        (["train", "--resize-to", "24"], 2, "Give --resize-to 32 or more, or --image-size 24 or less."),
        (["train", "--test-views", "ten"], 2, "Give --resize-to 36, or leave out --test-views 'ten'."),
        (["train", "--validation", "0"], 2, "Give --validation 0.1, or --monitor 'loss'."),
        (["train", "--warmup-epochs", "2", "--schedule", "constant"], 2, "Leave it out, or give --schedule 'cosine'."),
        (["train", "--norm-bias-rate", "2"], 2, "Leave it out, or give --batch-norm."),
        (["train", "--image-size", "30000"], 2, "is predicted to fit: give --image-size "),
        (["train", "--dropout", "1.5"], 2, "--dropout 1.5 is out of range"),
        (["train", "--model-options", "variant"], 2, "--model-options 'variant' is not NAME=VALUE"),
        (["train", "--config", "none.toml"], 2, "no config file none.toml"),
        (["train", ""], 2, "''"),
        (["train", "--recipe", ""], 2, "Unknown recipe ''"),
        (["runs", "no/such"], 2, "There is no folder no/such"),
        (["train", "no/such/folder"], 2, "no/such/folder"),
        (["train", "digitz"], 2, "Did you mean 'digits'"),
        (["train", "--image-size", "8"], 2, "The smallest square it takes is 16x16: give --image-size 16 or larger"),
        (["train", "--resume", "last"], 2, "There is no last run"),
        (["train", "--resume", "last", "--out", "x"], 2, "continues in its own folder"),
        (["predict", "last"], 2, "No image was named"),
        (["predict", "last", "a.png"], 2, "There is no last run"),
        (["evaluate", "nothing"], 2, "There is no run 'nothing'"),
        (["data", "check", "no/such"], 2, "no/such"),
        (["data", "chek", "digits"], 2, 'Did you mean "check"'),
    ],
)
def test_what_is_typed_wrong_gets_one_line_and_exit_2(call, arguments, code, message):
    got, out, err = call(*arguments)
    assert message in err
    assert got == code
    assert out in ("", "Reading digits\n")
    assert err.startswith("kerascnn: ")
    assert err.count("\n") == 1
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "data"),
        (lambda p: (p / "only").mkdir(parents=True), "data"),
        (
            lambda p: [fill(p / name, count, b"") for name, count in (("all/a", 9), ("all/b", 9), ("notes", 0))],
            "in 2 folders: --classes 'leaves' makes each a class",
        ),
        (lambda p: [fill(p / name, 9, b"no image") for name in "ab"], "none of the 18 images can be read"),
        (lambda p: p.with_suffix(".npz").write_bytes(b"no npz") and p.write_text("x"), "data"),
    ],
)
def test_bad_data_gets_one_line_and_exit_1(call, make, message):
    make(Path("data"))
    before = sorted(Path().rglob("*"))
    code, out, err = call("train", "data")
    assert (code, out in ("", f"Reading {Path('data').resolve()}\n")) == (1, True)
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


def test_debug_shows_where_it_happened():
    with pytest.raises(ValueError, match="Unknown model"):
        cli.run_command(["train", "--model", "x", "--debug"])


@pytest.mark.parametrize("option", [["--max-megapixels", "0.005"], ["--max-megapixels=0.005"]])
def test_one_limit_for_the_images_of_every_command(call, make_folder, option):
    folder = make_folder({"a": 4, "b": 4}, size=(80, 80))
    assert call("data", "check", folder)[0] == 0
    code, _, err = call("data", "check", folder, *option)
    assert code == 1
    assert "its 80 x 80 pixels are more than 0.005 megapixels" in err
    assert call("data", "check", folder)[0] == 0  # the limit was for one command
    code, _, err = call("data", "check", folder, "--max-megapixels", "many")
    assert (code, "--max-megapixels many is not allowed" in err) == (2, True)


def test_listings_as_text_and_json(call):
    code, out, _ = call("models")
    assert code == 0
    assert "cifar_net" in out
    assert "6,216,114" in out
    assert json.loads(call("models", "--json")[1])["lenet5"]["parameters"] == 61_706
    assert set(json.loads(call("models", "--json")[1])) == set(MODELS.names())
    assert "digits" in call("datasets")[1]
    assert json.loads(call("datasets", "--json")[1])["digits"]["num_classes"] == 10
    assert "cs7011" in call("recipes")[1]
    assert json.loads(call("recipes", "--json")[1])["cs7011"]["rate_patience"] == 5
    told = call("recipes", "tdt4265-model1")[1].splitlines()
    assert any(re.fullmatch(r"epochs +10 +TDT4265 report 2019 *", line) for line in told)
    assert any(re.fullmatch(r"batch_size +64 +not printed there: ours *", line) for line in told)
    assert json.loads(call("runs", "--json")[1]) == []
    assert "Make one: kerascnn train" in call("runs")[1]


def test_every_recipe_field_is_an_option_with_its_meaning(call):
    code, out, _ = call("train", "--help")
    assert code == 0
    text = re.sub(r"[│\s]+", " ", out)
    from kerascnn.recipes import FIELDS

    for name, spec in FIELDS.items():
        if name != "data":
            assert f"--{name.replace('_', '-')}" in text
            assert spec.metadata["doc"].split(",")[0].split(";")[0] in text


def test_train_predict_evaluate_runs(call):
    """The main job, quickly: every stage says what it should, and stays out of stderr."""
    code, out, err = call("train", "--epochs", "2", "--out", "my run", "--seed", "3")
    assert (code, err) == (0, "")
    assert re.search(r"Test accuracy  \d+\.\d\d% \(95% interval \d+\.\d\d to \d+\.\d\d\) of 360 test images", out)
    (learnt,) = re.findall(r"Training       (\d+\.\d\d% of 1,\d{3}) training images, without augmentation", out)
    assert learnt in Path("my run/report.html").read_text()
    assert "SavedModel     my run/export/saved_model" in out
    assert "kerascnn predict 'my run' 'my run/samples'\n" in out
    assert "\x1b" not in out
    assert "\b" not in out
    run = runs.Run("my run")
    assert run.read("recipe")["seed"] == 3
    assert (run / "native.log").exists()

    sample = min((run / "samples").glob("*.png"))
    code, out, err = call("predict", "my run", sample, "--top", "3")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == str(sample)
    assert out.splitlines()[1].split() == ["index", "probability", "label"]
    rows = [line.split() for line in out.splitlines()[3:6]]
    assert all(row[0] == row[2] for row in rows)
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    answer = json.loads(call("predict", "my run", sample, "--json")[1])
    assert [row["rank"] for row in answer] == [1, 2, 3, 4, 5]
    table = list(csv.DictReader(io.StringIO(call("predict", "my run", sample, "--csv")[1])))
    assert [row["label"] for row in table] == [row["label"] for row in answer]

    code, out, err = call("evaluate", "my run")
    assert (code, err) == (0, "")
    assert "top-1" in out
    assert "Confusion (rows true, columns predicted)" in out
    measured = json.loads(call("evaluate", "my run", "--json")[1])
    assert measured["accuracy"] == run.read("run")["result"]["accuracy"]
    assert np.sum(measured["confusion"]) == 360

    code, out, err = call("export", "my run")
    assert (code, err) == (0, "")
    assert out.startswith("my run/export/saved_model  (reloaded")

    shutil.copytree("my run", runs.ROOT / "listed")
    assert "listed" in call("runs")[1]
    assert json.loads(call("runs", "--json")[1])[0]["result"]["images"] == 360

    (run / "broken.png").write_bytes(b"no image")
    code, out, err = call("predict", "my run", run / "broken.png", sample)
    assert code == 1
    assert str(sample) in out
    assert "1 of the files could not be read" in err
    assert "broken.png" in err

    code, out, err = call("train", "--out", "my run")
    assert code == 2
    assert "already exists and is not empty; nothing in it was changed" in err
    assert "To go on, continue it with --resume 'my run', or give another folder: --out FOLDER" in err
    code, out, err = call("train", "--resume", "my run")
    assert code == 2
    assert "type: kerascnn export 'my run'" in err
    code, out, err = call("train", "--resume", "my run", "--epochs", "1")
    assert code == 2
    assert "was made for 2 epochs; --epochs 1 is less. Leave it out." in err
    code, out, err = call("train", "--resume", "my run", "--learning-rate", "0.5")
    assert code == 2
    assert "learning_rate was 0.003, now 0.5" in err


@pytest.mark.slow
def test_train_takes_a_config_and_options_win(call):
    Path("a.toml").write_text('epochs = 1\nmodel = "lenet5"\nseed = 8\n[model_options]\nvariant = "modern"\n')
    arguments = [
        "train",
        "--config",
        "a.toml",
        "--seed",
        "9",
        "--model-options",
        "variant=1998",
        "--json",
        "--out",
        "r",
    ]
    code, out, err = call(*arguments)
    assert code == 0
    assert "epoch 1/1" in err
    recipe = runs.Run("r").read("recipe")
    assert (recipe["epochs"], recipe["seed"], recipe["model_options"]) == (1, 9, {"variant": 1998})
    assert json.loads(out)["status"] == "finished"
    Path("b.toml").write_text("rate_patience = 5\nepochs = 1\n")
    mended = asked_recipe("digits", "fast", Path("b.toml"), Fields(schedule="constant", model="lenet5"))
    assert (mended.schedule, mended.rate_patience, mended.epochs) == ("constant", 5, 1)
    again = call("train", "--config", "r/recipe.json", "--out", "s")
    assert again[0] == 0
    assert runs.Run("s").read("recipe") == recipe
    assert runs.Run("s").read("run")["result"] == json.loads(out)["result"]


def test_a_damaged_run_is_listed_and_an_unknown_backend_is_named(call, monkeypatch):
    run = runs.create(runs.ROOT / "bad", model="m", data="d")
    (run / "recipe.json").write_text("[]")
    code, out, _ = call("runs")
    assert code == 0
    assert "damaged" in out
    monkeypatch.setenv("KERAS_BACKEND", "nonsense")
    code, _, err = call("doctor")
    assert code == 2
    assert "KERAS_BACKEND='nonsense' is not allowed. Allowed: tensorflow, jax, torch." in err


def test_predict_evaluates_one_class(call, trained, tmp_path):
    photos = tmp_path / "mine"
    shutil.copytree(trained.folder.parent / "photos" / "grass", photos / "grass")
    code, out, err = call("predict", trained.folder, photos, "--evaluate", "--json")
    assert (code, err) == (0, "")
    both = json.loads(out)
    best = [row["label"] for row in both["predictions"] if row["rank"] == 1]
    assert both["evaluation"]["images"] == len(best) == 24
    assert both["evaluation"]["accuracy"] == best.count("grass") / 24
    code, out, err = call("predict", trained.folder, photos, "--evaluate", "--top", "1")
    assert (code, err) == (0, "")
    assert out.count(".png") == 24
    assert re.search(r"^images +24$", out, re.MULTILINE)


@pytest.mark.parametrize("more", [["photos", "--csv"], ["photos", "photos"], ["photos/cat/0.png"]])
def test_predict_evaluates_one_folder_as_text_or_json(call, make_folder, more):
    make_folder({"cat": 1})
    code, _, err = call("predict", "last", *more, "--evaluate")
    assert code == 2
    assert "--evaluate takes one folder of class folders" in err


def test_data_check(call, make_folder):
    code, out, err = call("data", "check", make_folder({"cat": 5, "dog": 7}))
    assert (code, err) == (0, "")
    assert "cat" in out
    assert "5" in out
    report = json.loads(call("data", "check", "photos", "--json")[1])
    assert report["image_shape"] == [32, 32, 3]  # lenet5's, not the 8x8 pixels of the images
    assert report["balance"]["commonest"] == "dog"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Training airbench94 resizes them to 32x32 pixels, 3 channels, where they take"),
        (
            ["--model", "cifar_net", "--channels", "1"],
            "Training cifar_net resizes them to 32x32 pixels, 1 channel, ",
        ),
        (["--image-size", "12"], "Training lenet5 resizes them to 12x12 pixels"),
        (["--image-size", "12", "--resize-to", "14"], "12x12"),
        (["--recipe", "fast"], "Training cifar_net resizes them to"),
        (["--config", "a.toml"], "Training lenet5 resizes them to 20x20 pixels"),
    ],
)
def test_data_check_says_what_training_does(call, make_folder, tmp_path, options, text):
    (tmp_path / "a.toml").write_text("image_size = 20\n")
    make_folder({"cat": 5, "dog": 7})
    code, out, err = call("data", "check", "photos", *options)
    assert (code, err) == (0, "")
    assert text in out
    assert "Always predicting the most frequent class, 'dog', is right for" in out
    problem = "Problem: --batch-size 64 is more than the 9 training images. Give --batch-size 9 or less."
    assert (problem in out) == bool(options)  # without options, the batch size is chosen
    if "--resize-to" in options:
        assert (
            "resizes them to 14x14 pixels, 3 channels, where they take 0.0 MB, in memory; the network sees crops of"
            in out
        )


def test_data_check_of_nested_folders(call, make_folder):
    make_folder({"nature/forest": 40, "nature/sea": 40, "city/street": 40})
    _, out, _ = call("data", "check", "photos")
    assert "Problem: 1 class is made of the images of several folders: nature (forest, sea)." in out
    assert "class of its own, give --classes 'leaves'" in out
    assert "No problem found" not in out
    _, out, _ = call("data", "check", "photos", "--classes", "leaves")
    assert out.endswith("No problem found.\n")
    assert "nature/forest" in out


def test_doctor(call):
    code, out, err = call("doctor")
    assert (code, err) == (0, "")
    assert re.search(r"^verdict +All is well: \w+ trains in \w+ on", out, re.MULTILINE)
    assert json.loads(call("doctor", "--json")[1])["keras"].startswith("3.")


def test_a_full_disk_and_a_read_only_folder_are_named(call, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "saved_models/x/recipe.json")

    monkeypatch.setattr(os, "replace", full)
    code, _, err = call("train", "--epochs", "1")
    assert code == 1
    assert err == "kerascnn: No space left on device: saved_models/x/recipe.json\n"


def test_a_nearly_full_disk_is_named_before_training(call, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    code, _, err = call("train", "--epochs", "1", "--out", "r")
    assert code == 1
    assert re.fullmatch(r"kerascnn: No space left on device: the run needs about 4 MB and 1 MB are free: r\n", err)
    assert os.listdir() == []


def test_a_loss_that_is_not_a_number_fails_in_one_line():
    arguments = ["train", "--optimizer", "sgd", "--learning-rate", "1000", "--schedule", "constant", "--out", "r"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("kerascnn: The loss became NaN or infinite in epoch 1")
    assert done.stderr.endswith("Try a smaller learning rate: --learning-rate 100\n")
    assert done.stderr.count("\n") == 1
    assert runs.Run("r").status == "failed"


def test_a_file_that_lends_no_weights(call):
    Path("x.h5").write_bytes(b"")
    code, _, err = call("train", "--from", "x.h5")
    assert code == 2
    assert f"--from '{Path('x.h5').resolve()}' is no .keras, .weights.h5" in err


def test_a_folder_that_cannot_be_made(call):
    Path("file").write_text("")
    code, _, err = call("train", "--epochs", "1", "--out", "file/run")
    assert code == 1
    assert "Not a directory: file/run" in err


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_go_on_and_exits_130():
    arguments = [*COMMAND, "train", "--epochs", "200", "--out", "r", "--schedule", "constant"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/"):
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(
        r"kerascnn: stopped by SIGINT in epoch \d+ after step \d+. Resume with: kerascnn train --resume r\n", err
    )
    assert runs.Run("r").status == "interrupted"
    epoch = int(re.search(r"epoch (\d+)", err)[1])
    process = subprocess.Popen([*COMMAND, "train", "--resume", "r"], stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch "):
            process.kill()
            break
    process.communicate()
    going_on = next(line for line in lines if line.startswith("Resuming at epoch"))
    assert int(re.search(r"epoch (\d+)", going_on)[1]) in (epoch, epoch + 1)  # the next one after its last step
    assert runs.Run("r").status == "killed"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["models"], ["runs"], ["trian"], ["--version"]])
def test_what_needs_no_keras_imports_none(arguments):
    code = f"import sys; from kerascnn.cli import run_command; run_command({arguments})\n"
    code += "print('imported', sorted({'keras', 'tensorflow', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"


def test_ctrl_c_before_training_begins_leaves_nothing():
    process = subprocess.Popen([*COMMAND, "train"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()  # "Reading digits", after Keras was imported
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "kerascnn: interrupted; nothing was written\n"
    assert os.listdir() == []


def test_a_pipe_that_closes_early_is_no_error():
    line = " ".join(COMMAND) + " models | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "model" in done.stdout


@pytest.mark.slow
def test_the_terminal_gets_a_bar_and_pipes_do_not():
    script = shutil.which("script")
    if not script:
        pytest.skip("needs the command `script` for a terminal")
    line = " ".join([*COMMAND, "train", "--epochs", "1", "--out", "r"])
    done = subprocess.run([script, "-qec", line, "/dev/null"], capture_output=True, text=True, check=True)
    assert "epoch 1/1" in done.stdout
    assert "\x1b[" in done.stdout
