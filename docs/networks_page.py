"""The page docs/networks.md, made from the registry: python docs/networks_page.py > docs/networks.md

It gives the sources' numbers next to ours and a reason for every difference. A test keeps the page current.
"""

from kerascnn.anatomy import layer_table, totals
from kerascnn.models import MODELS
from kerascnn.network import graph

HEAD = """# The networks

<!-- Made by `python docs/networks_page.py > docs/networks.md`; change the builders' facts, not this page. -->

Every network is a function in `kerascnn.models` that returns a plain `keras.Model`. Called without arguments, it
returns the network of the source, with the same input size, number of classes and layer names.

```python
import kerascnn

model = kerascnn.models.zfnet_miniplaces()
print(model.get_layer("conv2").kernel.shape)  # (5, 5, 48, 256): two groups, as in the report
```

The command line lists them and prints their tables:

```
kerascnn models
kerascnn table zfnet_miniplaces
```
"""

NOTES = """
## How to read the counts

*Parameters* counts all weights. Where batch normalisation keeps moving averages, fewer of them are *trained*. The
source's number is given as the source prints it. MACs are the multiply-accumulates for one image in convolutions,
dense layers and recurrent layers.

## What else differs from the sources, or had to be chosen

- **cifar_net**: the CS7011 report prints 6,216,114 parameters, of which 6,216,094 are trainable and 20 are not. Our
  counts agree: the 20 are the moving mean and variance of the batch normalisation on the ten outputs. The report
  calls the activation of the output both "ReLU-Activation" and softmax; it is a softmax.
- **lenet5**: C3 sees all six maps of S2, subsampling has no coefficients, and the output is a softmax. This gives
  61,706 parameters, where the paper counts 60,000. `variant="1998"` uses the paper's tanh and average pooling.
- **tdt_lenet**: our network has 390,410 parameters. The report's equation (5) gives the last layer 64 x 10 = 640 and
  forgets the ten biases, so the report counts 390,400.
- **tdt_model1, tdt_model2**: the report does not print kernel sizes. For Model 1 we chose 3x3; 5x5 for Model 2
  follows from the report's "same structure as LeNet". Its table prints a ReLU after Dense 2048;
  `relu_after_2048=False` leaves it out.
- **alexnet**: the paper says 224x224, but its own map sizes need 227x227. Its figure 2 gives the first layer 253,440
  neurons, but 55 x 55 x 96 is 290,400; the numbers of the other layers agree.
- **zfnet**: the printed sides 110, 55, 26, 13 and 6 need one pixel of padding and pooling that rounds sizes up.
- **zfnet_miniplaces**: the text of the CS 280 report once describes the first layer as "3x3 kernel, stride 2", but
  its design section and its printed weights (96, 3, 7, 7) say 7x7. The printed blobs do not include normalisation, so
  we use none.
- **alexnet_miniplaces**: "the same with an 11x11/4 first layer" cannot keep the stride of 2 in conv2, because nothing
  would be left at pool5. conv2 has AlexNet's stride of 1.
- **vgg11 to vgg19**: the paper's table 2 prints millions: 133, 133, 133, 134, 138 and 144. Our counts round to these.
- **resnet18, 34, 50**: torchvision counts only trainable parameters. In resnet50 the stride is in the 3x3
  convolution, as in torchvision; `stride_in_3x3=False` puts it where the paper does.
- **airbench94, 95, 96**: a run computes the filters of the first convolution from its training images; a network that
  was not made by a run has random ones. In the source, the biases of this convolution stop learning after three
  passes; here they continue.
- **rnn, lstm, gru**: the report does not print counts; it calls 100 hidden units the best size. The GRU's reset gate
  acts before the matrix product, as in the TensorFlow of 2017.

## Pretrained ResNets

`kerascnn.models.resnet18(weights="resnet18-f37072fd.pth")` reads a torchvision checkpoint (`.pth` without torch, or
`.safetensors`); `weights="imagenet"` takes torchvision's file from the cache folder or downloads it; without a
connection, the error says where to put the file. For another number of classes, use `skip=("fc",)`, which leaves the
new last layer as it is. If keras-hub is installed, `weights="kerashub"` copies its preset, which was trained by timm
and has the same layers but other weights.

## Other image sizes

Every builder takes `input_shape=`. If the image is too small for the pooling layers, an error names the layer and the
smallest size. `kerascnn.models.vgg.as_convolutions(model)` turns trained dense layers into convolutions, so that the
same weights also work on larger images.
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
