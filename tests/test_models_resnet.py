"""ResNet: table 1's sizes, options, and the same answers as a torch network with torchvision's names and weights."""

import keras
import numpy as np
import pytest

import kerascnn
from kerascnn import models
from kerascnn.errors import UsageError
from kerascnn.network import graph


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 64), ("resnet34", 64), ("resnet50", 256)])
def test_table_1(name, channels):
    with graph.without_weights():
        model = models.MODELS.get(name)()
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}
    assert shapes["conv1"] == (112, 112, 64)
    assert shapes["maxpool"] == (56, 56, 64)
    last = {"resnet18": (1, 1, 1, 1), "resnet34": (2, 3, 5, 2), "resnet50": (2, 3, 5, 2)}[name]
    for stage, (block, side) in enumerate(zip(last, (56, 28, 14, 7), strict=True), start=1):
        assert shapes[f"layer{stage}_{block}_relu"] == (side, side, channels * 2 ** (stage - 1))
        assert f"layer{stage}_{block + 1}_relu" not in shapes


def test_the_small_stem_keeps_small_images():
    with graph.without_weights():
        model = models.resnet18((32, 32, 3), 10, stem="small")
    assert model.get_layer("layer1_1_relu").output.shape == (None, 32, 32, 64)
    assert model.get_layer("layer4_1_relu").output.shape == (None, 4, 4, 512)
    assert model.get_layer("conv1").kernel.shape == (3, 3, 3, 64)
    with pytest.raises(UsageError, match="Unknown stem of resnet34 'tiny'"):
        models.resnet34(stem="tiny")


def test_where_the_bottleneck_strides():
    with graph.without_weights():
        ours, papers = models.resnet50(), models.resnet50(stride_in_3x3=False)
    for model, strides in ((ours, ((1, 1), (2, 2))), (papers, ((2, 2), (1, 1)))):
        both = model.get_layer("layer2_0_conv1").strides, model.get_layer("layer2_0_conv2").strides
        assert both == strides
    assert ours.count_params() == papers.count_params()


def torch_resnet(blocks, *, bottleneck, num_classes):
    """torchvision's network, written by hand: the same module names, hence the same state dict."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def conv(cin, cout, size, stride=1):
        return nn.Conv2d(cin, cout, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, cin, width, stride):
            super().__init__()
            out = 4 * width if bottleneck else width
            if bottleneck:
                sizes = [(cin, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            else:
                sizes = [(cin, width, 3, stride), (width, width, 3, 1)]
            for number, size in enumerate(sizes, start=1):
                setattr(self, f"conv{number}", conv(*size))
                setattr(self, f"bn{number}", nn.BatchNorm2d(size[1]))
            self.depth, self.downsample = len(sizes), None
            if stride > 1 or cin != out:
                self.downsample = nn.Sequential(conv(cin, out, 1, stride), nn.BatchNorm2d(out))

        def forward(self, x):
            y = x
            for number in range(1, self.depth + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                y = torch.relu(y) if number < self.depth else y
            return torch.relu(y + (self.downsample(x) if self.downsample else x))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
            self.maxpool, cin = nn.MaxPool2d(3, 2, 1), 64
            for stage, count in enumerate(blocks, start=1):
                width, stage_blocks = 64 * 2 ** (stage - 1), []
                for number in range(count):
                    stage_blocks.append(Block(cin, width, 2 if stage > 1 and number == 0 else 1))
                    cin = 4 * width if bottleneck else width
                setattr(self, f"layer{stage}", nn.Sequential(*stage_blocks))
            self.fc = nn.Linear(cin, num_classes)

        def forward(self, x):
            x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    network = ResNet()
    nn.init.normal_(network.fc.weight, std=0.05)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):  # as if trained
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def logits(model, images):
    """Scores before the softmax, by the flat graph."""
    flat = graph.flatten(model)
    values = flat.run([images], lambda node, args, kwargs: node.operation(*args, **kwargs))
    return keras.ops.convert_to_numpy(values[flat.nodes[-1].inputs[0]])


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck", "side"),
    [
        ("resnet18", (2, 2, 2, 2), False, 64),
        pytest.param("resnet18", (2, 2, 2, 2), False, 224, marks=pytest.mark.slow),
        pytest.param("resnet34", (3, 4, 6, 3), False, 224, marks=pytest.mark.slow),
        pytest.param("resnet50", (3, 4, 6, 3), True, 224, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_torch_checkpoint_gives_torchs_logits(name, blocks, bottleneck, side, kind, tmp_path):
    torch = pytest.importorskip("torch")
    twin = torch_resnet(blocks, bottleneck=bottleneck, num_classes=1000)
    path = tmp_path / f"twin.{kind}"
    if kind == "pth":
        torch.save(twin.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(twin.state_dict(), path)
    model = models.MODELS.get(name)((side, side, 3), weights=path)
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    with torch.no_grad():
        expected = twin(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits(model, images), expected, atol=1e-4)


def test_pytorchs_count_of_trainable_parameters():
    twin = torch_resnet((2, 2, 2, 2), bottleneck=False, num_classes=1000)
    assert sum(p.numel() for p in twin.parameters()) == models.MODELS.facts("resnet18")["published"] == 11_689_512


@pytest.mark.slow
def test_a_run_starts_from_a_torch_checkpoint_and_reads_it_once(tmp_path):
    torch = pytest.importorskip("torch")
    twin = torch_resnet((2, 2, 2, 2), bottleneck=False, num_classes=1000)
    path = tmp_path / "twin.pth"
    torch.save(twin.state_dict(), path)
    run = kerascnn.train(
        model="resnet18",
        model_options={"weights": str(path), "skip": ["fc"]},
        image_size=32,
        channels=3,
        batch_size=16,
        steps=1,
        eval_every=1,
        train_last=1,
        schedule="constant",
        out=tmp_path / "run",
        on_run=lambda run: path.unlink(),
        say=lambda line: None,
    )
    first = kerascnn.load(run).get_layer("conv1").get_weights()[0]
    np.testing.assert_array_equal(first, twin.conv1.weight.detach().numpy().transpose(2, 3, 1, 0))
    assert kerascnn.train(resume=run, steps=2, say=lambda line: None).read("run")["result"]["epochs"] == 2
