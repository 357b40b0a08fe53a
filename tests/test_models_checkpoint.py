"""Reading torch's files without torch, what does not fit, what is dangerous, and KerasHub's names."""

import argparse
import pickle
import zipfile

import keras
import numpy as np
import pytest
from keras import Input, Model, layers, ops

from kerascnn import models
from kerascnn.errors import DataError, UsageError
from kerascnn.models import checkpoint, torch_file
from kerascnn.training.transfer import start_from


def small_net(filters=4, num_classes=2):
    inputs = Input((6, 6, 3))
    x = layers.Conv2D(filters, 3, use_bias=False, name="stem_0")(inputs)
    x = layers.BatchNormalization(name="stem_1")(x)
    return Model(inputs, layers.Dense(num_classes, name="fc")(layers.GlobalAveragePooling2D()(x)), name="small")


def state_dict(filters=4, num_classes=2):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    stem = torch.nn.Sequential(torch.nn.Conv2d(3, filters, 3, bias=False), torch.nn.BatchNorm2d(filters))
    module = torch.nn.ModuleDict({"stem": stem, "fc": torch.nn.Linear(filters, num_classes)})
    return module.state_dict()


@pytest.mark.parametrize("zipped", [True, False])
def test_every_type_and_view_is_read_as_torch_reads_it(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "float32": base,
        "transposed view": base.T,
        "view with an offset": base[1:, ::2],
        "float64": base.double() / 7,
        "float16": base.half() / 7,
        "bfloat16": base.bfloat16() / 7,
        "int64": base.long(),
        "uint8": base.byte(),
        "bool": base > 5,
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    path = tmp_path / "all.pth"
    torch.save({"state_dict": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    read = torch_file.read_state_dict(path)
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        expected = tensor.detach().float().numpy() if name == "bfloat16" else tensor.detach().numpy()
        np.testing.assert_array_equal(read[name], expected, err_msg=name, strict=True)


def test_weights_arrive_in_keras_order(tmp_path):
    torch = pytest.importorskip("torch")
    state, model = state_dict(), small_net()
    torch.save(state, tmp_path / "a.pth")
    checkpoint.load_torch_weights(model, tmp_path / "a.pth")
    kernel = np.array(model.get_layer("stem_0").kernel)
    assert kernel[1, 2, 0, 3] == state["stem.0.weight"][3, 0, 1, 2].item()
    np.testing.assert_array_equal(np.array(model.get_layer("fc").kernel).T, state["fc.weight"].numpy())
    np.testing.assert_array_equal(np.array(model.get_layer("stem_1").moving_variance), 1)


def test_another_shape_names_the_first_layer_and_changes_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(state_dict(filters=5), tmp_path / "wide.pth")
    model = small_net()
    before = model.get_weights()
    message = r"wide.pth does not fit 'small': at layer 'stem_0' .*kernel is of shape \(3, 3, 3, 4\).*\(3, 3, 3, 5\)"
    with pytest.raises(DataError, match=message):
        checkpoint.load_torch_weights(model, tmp_path / "wide.pth")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_number_of_classes_says_how_to_keep_the_last_layer(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(state_dict(num_classes=7), tmp_path / "seven.pth")
    model = small_net()
    last = np.array(model.get_layer("fc").kernel)
    with pytest.raises(DataError, match=r"at layer 'fc' .*keep the layer's own weights, give skip='fc'"):
        checkpoint.load_torch_weights(model, tmp_path / "seven.pth")
    checkpoint.load_torch_weights(model, tmp_path / "seven.pth", skip=("fc",))
    np.testing.assert_array_equal(np.array(model.get_layer("fc").kernel), last)
    with pytest.raises(UsageError, match=r"'small' has no layer 'fcc'\. Did you mean 'fc'"):
        checkpoint.load_torch_weights(model, tmp_path / "seven.pth", skip=("fcc",))


def test_a_layer_that_only_one_side_has(tmp_path):
    torch = pytest.importorskip("torch")
    state = state_dict()
    torch.save({**state, "deep.0.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(DataError, match="the model has no layer 'deep_0'"):
        checkpoint.load_torch_weights(small_net(), tmp_path / "more.pth")
    torch.save({k: v for k, v in state.items() if "fc" not in k}, tmp_path / "less.pth")
    with pytest.raises(DataError, match="has no layer 'fc', the first of 'small' that it lacks"):
        checkpoint.load_torch_weights(small_net(), tmp_path / "less.pth")


def filled(model, state):
    """True if a model has the weights of `state_dict()`."""
    kernel = np.array(model.get_layer("stem_0").kernel).transpose(3, 2, 0, 1)
    return (kernel == state["stem.0.weight"].numpy()).all() and (
        state["fc.weight"].numpy() == np.array(model.get_layer("fc").kernel).T
    ).all()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: {"state_dict": s, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": s["fc.bias"]}}, "param_groups": [{"lr": 0.1}]}},
        lambda s: {"model_state_dict": s, "loss": np.float64(0.5)},
        lambda s: {"net": s, "acc": 93.1},
        lambda s: {"state_dict": s, "state_dict_ema": {k: v + 1 for k, v in s.items()}},
        lambda s: {"state_dict_ema": s},
        lambda s: {"my own name": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {
            "state_dict": {f"model.{k}": v for k, v in s.items()},
            "hyper_parameters": {"size": s["fc.bias"].shape},
        },
        lambda s: {(k if k.startswith("fc") else f"backbone.{k}"): v for k, v in s.items()},
        lambda s: {**{f"backbone.{k}": v for k, v in s.items()}, "projector.0.weight": s["fc.weight"]},
        lambda s: {**{f"module.{k}": v for k, v in s.items()}, "n_averaged": s["fc.bias"][0].long()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrapped_weights_arrive(wrapped, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    state, model = state_dict(), small_net()
    torch.save(wrapped(dict(state)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert not filled(model, state)
    checkpoint.load_torch_weights(model, tmp_path / "a.pth")
    assert filled(model, state)


def test_of_several_dictionaries_none_is_guessed(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"generator": state_dict(), "critic": state_dict()}, tmp_path / "two.pth")
    with pytest.raises(DataError, match="holds 2 dictionaries of tensors, 'generator', 'critic'"):
        checkpoint.load_torch_weights(small_net(), tmp_path / "two.pth")


@pytest.mark.parametrize("skip", ["fc", ["fc"], ("fc",), "('fc',)", "fc,", " fc , stem_1"])
def test_layers_to_skip_in_every_spelling(skip, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(state_dict(num_classes=7), tmp_path / "seven.pth")
    model = small_net()
    last = np.array(model.get_layer("fc").kernel)
    checkpoint.load_torch_weights(model, tmp_path / "seven.pth", skip=skip)
    np.testing.assert_array_equal(np.array(model.get_layer("fc").kernel), last)


def test_a_checkpoint_fills_the_layers_that_fit(tmp_path):
    torch = pytest.importorskip("torch")
    state, model = state_dict(num_classes=7), small_net()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "seven.pth")
    assert start_from(model, tmp_path / "seven.pth", ["a", "b"]) == (["stem_0", "stem_1"], ["fc"])
    kernel = np.array(model.get_layer("stem_0").kernel)
    np.testing.assert_array_equal(kernel, state["stem.0.weight"].numpy().transpose(2, 3, 1, 0))
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="No layer of 'small' has the name and shape of one in"):
        start_from(model, tmp_path / "other.pth", ["a", "b"])
    with pytest.raises(DataError, match=r"No checkpoint file '.*gone\.pth'"):
        start_from(model, tmp_path / "gone.pth", ["a", "b"])


def test_a_file_that_declares_more_than_it_holds(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "zip.pth")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pth").read_bytes()
    count = (3).to_bytes(8, "little")
    assert old.count(count) == 1
    (tmp_path / "old.pth").write_bytes(old.replace(count, (10**12).to_bytes(8, "little")))
    with zipfile.ZipFile(tmp_path / "zip.pth") as source, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as bomb:
        for name in source.namelist():
            bomb.writestr(name, bytes(1 << 20) if "/data/" in name else source.read(name))
    for name in ("old", "bomb"):
        with pytest.raises(DataError, match=rf"{name}\.pth declares [0-9,]+ bytes for .* and has [0-9,]+: it was not"):
            torch_file.read_state_dict(tmp_path / f"{name}.pth")
    memo = b"\x80\x02}r\xff\xff\xff\xff."  # would make a memo of 64 GiB
    text = b"\x80\x02\x8d" + (1 << 50).to_bytes(8, "little") + b"short"
    for content in (memo, text):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.pth is not a torch checkpoint"):
            torch_file.read_state_dict(tmp_path / "a.pth")


def test_a_whole_module_says_what_to_save(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(DataError, match=r"torch\.nn\.modules\.linear\.Linear, .*torch\.save\(module\.state_dict\(\)"):
        torch_file.read_state_dict(tmp_path / "module.pth")


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/kerascnn-was-here",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(zipped, tmp_path):
    path = tmp_path / "evil.pth"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("evil/data.pkl", pickle.dumps({"a": Evil()}))
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"wants to use (posix|nt)\.system, which no tensor needs"):
        torch_file.read_state_dict(path)


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(DataError, match=r"No checkpoint file '.*missing\.pth'"):
        torch_file.read_state_dict(tmp_path / "missing.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(DataError, match=r"text\.pth is not a torch checkpoint"):
        torch_file.read_state_dict(tmp_path / "text.pth")
    (tmp_path / "list.pth").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"list\.pth is not a torch checkpoint"):
        torch_file.read_state_dict(tmp_path / "list.pth")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"arrays\.npz is not a torch checkpoint: it is a ZIP file without data\.pkl"):
        torch_file.read_state_dict(tmp_path / "arrays.npz")
    (tmp_path / "text.safetensors").write_text("weights")
    pytest.importorskip("safetensors")
    with pytest.raises(DataError, match=r"text\.safetensors is not a safetensors file"):
        torch_file.read_state_dict(tmp_path / "text.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_short(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "short.pth"
    torch.save(state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"short\.pth|reaches beyond"):
            torch_file.read_state_dict(path)


def test_a_tensor_that_reaches_beyond_its_storage():
    storage = torch_file._Storage("FloatStorage", "0")
    for tensor in [
        torch_file._Tensor(storage, 0, (2, 3), (3, 1)),
        torch_file._Tensor(storage, 4, (2,), (1,)),
        torch_file._Tensor(storage, 4, (2,), (-1,)),
        torch_file._Tensor(storage, 0, (10**12,), (0,)),
    ]:
        with pytest.raises(DataError, match="reaches beyond the 5 numbers"):
            torch_file._array(tensor, {storage: np.zeros(5, "f4")})


def test_imagenet_weights_from_the_cache_folder_or_where_to_put_them(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("KERASCNN_DATA", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    message = rf"put resnet18-f37072fd\.pth into {tmp_path}/weights, or give a checkpoint's path"
    with pytest.raises(DataError, match=message):
        models.resnet18((32, 32, 3), weights="imagenet")
    torch.save(state_dict(), tmp_path / "weights" / "resnet18-f37072fd.pth")
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth has no layer 'conv1'"):
        models.resnet18((32, 32, 3), weights="imagenet")


def test_kerashub_names():
    names = ["conv1_conv", "conv1_bn", "stack0_block1_2_conv", "stack3_block0_0_conv", "stack3_block0_0_bn"]
    ours = ["conv1", "bn1", "layer1_1_conv2", "layer4_0_downsample_0", "layer4_0_downsample_1"]
    assert [checkpoint._torch_name(name) for name in names] == ours


def test_kerashub_backbone_with_the_same_weights_gives_the_same_answers():
    hub = pytest.importorskip("keras_hub")
    backbone = hub.models.ResNetBackbone([64], [7], [64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 2], "basic_block")
    classifier = hub.models.ResNetImageClassifier(backbone=backbone, num_classes=5, activation=None)
    rng = np.random.default_rng(0)
    for variable in classifier.weights:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    model = models.resnet18((64, 64, 3), 5)
    checkpoint.copy_kerashub_weights(model, classifier)
    images = rng.normal(size=(2, 64, 64, 3)).astype("float32")
    scores = keras.ops.softmax(classifier.predict_on_batch(images))
    np.testing.assert_allclose(model.predict_on_batch(images), np.array(scores), atol=1e-5)


def test_kerashub_that_is_not_installed():
    try:
        import keras_hub  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="needs KerasHub: pip install keras-hub"):
            models.resnet18((32, 32, 3), weights="kerashub")
    else:
        pytest.skip("keras-hub is installed")


def test_flattened_maps_are_put_in_keras_order(tmp_path):
    """Torch flattens (channels, rows, columns), Keras (rows, columns, channels): the answers must be torch's."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    conv, norm, fc = torch.nn.Conv2d(3, 4, (3, 2)), torch.nn.BatchNorm1d(4 * 6 * 7), torch.nn.Linear(4 * 6 * 7, 168)
    torch.nn.init.normal_(norm.weight)
    names = torch.nn.ModuleDict({"conv": conv, "norm": norm, "fc": fc}).eval()
    torch.save(names.state_dict(), tmp_path / "net.pth")
    inputs = Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(4, (3, 2), activation="relu", name="conv")(inputs))
    x = layers.Dropout(0.5)(layers.BatchNormalization(epsilon=1e-5, name="norm")(x))
    model = Model(inputs, layers.Dense(168, name="fc")(x))
    checkpoint.load_torch_weights(model, tmp_path / "net.pth")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        expected = fc(norm(torch.relu(conv(torch.from_numpy(images.transpose(0, 3, 1, 2)))).flatten(1))).numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(images)), expected, atol=1e-5)


@pytest.mark.parametrize("flat", [layers.Reshape((-1,)), lambda x: ops.reshape(x, (-1, 4 * 6 * 7))])
def test_maps_that_are_reshaped_are_put_in_keras_order(tmp_path, flat):
    torch = pytest.importorskip("torch")
    conv, fc = torch.nn.Conv2d(3, 4, (3, 2)), torch.nn.Linear(4 * 6 * 7, 5)
    torch.save(torch.nn.ModuleDict({"conv": conv, "fc": fc}).state_dict(), tmp_path / "net.pth")
    inputs = Input((8, 8, 3))
    model = Model(inputs, layers.Dense(5, name="fc")(flat(layers.Conv2D(4, (3, 2), name="conv")(inputs))))
    checkpoint.load_torch_weights(model, tmp_path / "net.pth")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    with torch.no_grad():
        expected = fc(conv(torch.from_numpy(images.transpose(0, 3, 1, 2))).flatten(1)).numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(images)), expected, atol=1e-5)


def test_flattened_maps_beside_other_numbers_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    inputs, more = Input((2, 2, 3)), Input((5,))
    both = layers.Concatenate()([more, layers.Flatten()(inputs)])
    model = Model([inputs, more], layers.Dense(4, name="fc")(both))
    torch.save(torch.nn.ModuleDict({"fc": torch.nn.Linear(17, 4)}).state_dict(), tmp_path / "net.pth")
    with pytest.raises(DataError, match=r"reads flattened maps of \(2, 2, 3\) together with other numbers, 17 in all"):
        checkpoint.load_torch_weights(model, tmp_path / "net.pth")
