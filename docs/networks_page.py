"""The page docs/networks.md, made from the registry: python docs/networks_page.py > docs/networks.md

The sources' numbers stand beside ours, and every difference has its reason; a test keeps the page current.
"""

from kerascnn.anatomy import layer_table, totals
from kerascnn.models import MODELS
from kerascnn.network import graph

HEAD = """# The networks

<!-- Made by `python docs/networks_page.py > docs/networks.md`; change the builders' facts, not this page. -->

Every network is a function in `kerascnn.models` that returns a plain `keras.Model`. Called without arguments it is the
source's own: its input size, its number of classes, its layer names.

```python
import kerascnn

model = kerascnn.models.zfnet_miniplaces()
print(model.get_layer("conv2").kernel.shape)  # (5, 5, 48, 256): two groups, as the report prints
```

The command line lists them and prints their tables:

```
kerascnn models
kerascnn table zfnet_miniplaces
```
"""

NOTES = """
## How to read the counts

*Parameters* are all weights; where batch normalisation keeps moving averages, the *trained* ones are fewer. The
source's number is as it prints it. MACs are multiply-accumulates of one image in convolutions, dense and recurrent
layers.

## What else differs from the sources, or had to be chosen

- **cifar_net**: the CS7011 report prints 6,216,114 parameters, of which 6,216,094 are trainable and 20 are not.
  Ours agree: the 20 are the moving mean and variance of the batch normalisation on the ten outputs. The report calls
  the output's activation "ReLU-Activation" and names it softmax: it is a softmax.
- **lenet5**: C3 sees all six maps of S2, subsampling has no coefficients, the output is a softmax: 61,706 parameters
  where the paper counts 60,000. `variant="1998"` has the paper's tanh and average pooling.
- **tdt_lenet**: 390,410 parameters. The report's equation (5) gives its last layer 64 x 10 = 640 and forgets the ten
  biases, hence its 390,400.
- **tdt_model1, tdt_model2**: the report prints no kernel sizes: 3x3 for Model 1 is our choice, 5x5 for Model 2 is its
  "same structure as LeNet". Its table prints a ReLU after Dense 2048; `relu_after_2048=False` leaves it out.
- **alexnet**: the paper says 224x224; its own map sizes need 227x227. Its figure 2 gives the first layer 253,440
  neurons, 55 x 55 x 96 are 290,400; the other layers' agree.
- **zfnet**: the printed sides 110, 55, 26, 13, 6 need one pixel of padding and pools that round up.
- **zfnet_miniplaces**: the CS 280 report's prose once calls the first layer "3x3 kernel, stride 2"; its design section
  and its printed weights (96, 3, 7, 7) say 7x7. No normalisation appears among its blobs, so there is none.
- **alexnet_miniplaces**: "the same with an 11x11/4 first layer" cannot keep conv2's stride of 2: nothing would be left
  at pool5. conv2 has AlexNet's stride of 1.
- **vgg11 to vgg19**: the paper's table 2 prints millions: 133, 133, 133, 134, 138, 144. Ours round to these.
- **resnet18, 34, 50**: torchvision counts trainable parameters only. In resnet50 the stride sits in the 3x3
  convolution, as in torchvision; `stride_in_3x3=False` is the paper's.
- **airbench94, 95, 96**: the first convolution's filters come from the training images that a run has; a network that
  no run made has random ones. In the source the biases beside them stop learning after three passes, here they go on.
- **rnn, lstm, gru**: the report prints no counts; 100 hidden units is what it calls the best size. The GRU's reset gate
  acts before the product, as in 2017's TensorFlow.

## Pretrained ResNets

`kerascnn.models.resnet18(weights="resnet18-f37072fd.pth")` reads a torchvision checkpoint (`.pth` without torch, or
`.safetensors`); `weights="imagenet"` takes torchvision's file from the cache folder or downloads it, and offline says
where to put it. For another number of classes keep the last layer's own weights: `skip=("fc",)`. With keras-hub
installed `weights="kerashub"` copies its preset, which was trained by timm: the same layers, other weights.

## Other image sizes

Every builder takes `input_shape=`; an image too small for the pools is an error that names the layer and the smallest
size. `kerascnn.models.vgg.as_convolutions(model)` turns trained dense layers into convolutions, so that the same
weights serve larger images.
"""


def page():
    """The page as text."""
    lines = [HEAD, "| network | source | input | classes | parameters | trained | the source's number | MACs |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    differences = []
    for name in MODELS.names():
        facts = MODELS.facts(name)
        with graph.without_weights():
            total = totals(layer_table(MODELS.get(name)())).loc["all"]
        published = facts.get("published", "")
        cells = [
            f"`{name}`",
            facts["source"],
            "x".join(map(str, facts["input_shape"])),
            str(facts["num_classes"]),
            f"{total.parameters:,}",
            f"{total.trainable:,}",
            f"{published:,}" if isinstance(published, int) else published,
            f"{total.macs:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if "difference" in facts:
            differences.append(f"| `{name}` | {facts['difference']} |")
    lines += ["", "| network | why the numbers differ, or what was chosen |", "|---|---|", *differences]
    return "\n".join(lines) + "\n" + NOTES


if __name__ == "__main__":
    print(page(), end="")
