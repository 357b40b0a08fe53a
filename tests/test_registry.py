import importlib
import inspect
import subprocess
import sys

import pytest

from kerascnn.errors import UsageError, nearest, unknown
from kerascnn.models import MODELS
from kerascnn.registry import Registry


def things(tmp_path, text):
    (tmp_path / "a.py").write_text(text)
    return Registry("thing", "things_of_a_test", tmp_path, hint="list things")


def test_names_and_facts_come_from_the_source_text_which_is_not_run(tmp_path):
    registry = things(
        tmp_path,
        "raise SystemExit('run')\n@register('two-words', size=(2, 3))\ndef f():\n    '''First line.\n\n    More.'''\n"
        "@register(source='paper')\ndef g(): pass\ndef not_registered(): pass\n",
    )
    assert registry.names() == ["g", "two-words"]
    assert registry.file("two-words") == tmp_path / "a.py"
    assert registry.facts("two-words") == {"doc": "First line.", "size": (2, 3)}
    assert registry.facts("g") == {"doc": "", "source": "paper"}


def test_facts_that_are_not_given_are_the_usual_ones(tmp_path):
    (tmp_path / "a.py").write_text("@register(size=3)\ndef f(): pass\n@register()\ndef g(): pass\n")
    registry = Registry("thing", "things_of_a_test", tmp_path, size=1, colour="red")
    assert registry.facts("f") == {"doc": "", "size": 3, "colour": "red"}
    assert registry.facts("g") == {"doc": "", "size": 1, "colour": "red"}
    registry.register("h", colour="blue")(lambda: 0)
    assert registry.facts("h") == {"doc": "", "size": 1, "colour": "blue"}


def test_a_name_in_two_files_is_an_error(tmp_path):
    registry = things(tmp_path, "@register()\ndef f(): pass\n")
    (tmp_path / "b.py").write_text("@register('f')\ndef g(): pass\n")
    with pytest.raises(ValueError, match=r"'f' is registered twice: things_of_a_test\.a and things_of_a_test\.b"):
        registry.names()


def test_a_users_own_function_can_be_registered_once(tmp_path):
    registry = things(tmp_path, "")

    @registry.register(size=1)
    def mine():
        return 7

    assert registry.get("mine")() == 7
    assert registry.facts("mine") == {"doc": "", "size": 1}
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("mine")(lambda: 8)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path):
    registry = things(tmp_path, "@register()\ndef alexnet(): pass\n@register()\ndef vgg16(): pass\n")
    with pytest.raises(UsageError, match=r"Unknown thing 'alexnte'\. Did you mean 'alexnet'\?.*List them: list things"):
        registry.get("alexnte")
    assert "nothing" not in registry


def test_nearest_ignores_case_and_unknown_lists_few_names_only():
    assert nearest("CIFAR_NET", ["lenet5", "cifar_net"])[0] == "cifar_net"
    assert "Known: a, b." in str(unknown("letter", "zzz", ["a", "b"]))
    assert "Known" not in str(unknown("number", "x", range(100)))


def test_listing_models_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, kerascnn; from kerascnn.models import MODELS; assert 'cifar_net' in MODELS.names();"
        "assert MODELS.facts('cifar_net')['parameters'] == 6_216_114;"
        "import kerascnn.cli; print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_are_attributes_of_their_package():
    import kerascnn

    assert kerascnn.models.lenet5 is MODELS.get("lenet5")
    assert "lenet5" in dir(kerascnn.models)
    with pytest.raises(AttributeError, match="no attribute 'lenet6'"):
        kerascnn.models.lenet6  # noqa: B018


def test_training_imports_no_look_that_was_not_asked_for():
    code = (
        "import sys, kerascnn.training.train; "
        "rooms = ('kerascnn.explain', 'kerascnn.dataset_scan', 'kerascnn.callbacks.', 'kerascnn.pages'); "
        "print([name for name in sys.modules if name.startswith(rooms)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "name", ["", "anatomy", "callbacks", "dataset_scan", "datasets", "experiments", "explain", "models", "using"]
)
def test_dir_of_every_room_lists_its_public_names(name):
    room = importlib.import_module(f"kerascnn.{name}".rstrip("."))
    known = {
        "": {"train", "predict", "scan", "lr_find", "batch_find", "check_data", "models"},
        "anatomy": {"layer_table", "receptive_field"},
        "callbacks": {"FilterGrid", "TopPatches"},
        "dataset_scan": {"scan", "ScanResult"},
        "datasets": {"load", "ImageData"},
        "experiments": {"invariance", "probes"},
        "explain": {"saliency", "Neuron", "maps"},
        "models": {"lenet5", "cifar_net"},
        "using": {"adopt", "predict"},
    }[name]
    assert known <= set(dir(room))
    assert all(callable(getattr(room, each)) or inspect.ismodule(getattr(room, each)) for each in known)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        room.nothing  # noqa: B018


def test_a_registered_name_is_the_function_though_its_module_is_called_alike():
    from kerascnn import experiments

    assert importlib.import_module("kerascnn.experiments.nearest").nearest is experiments.nearest
    assert inspect.isfunction(experiments.nearest)
