"""What params/ admits: the sections of parameters with their types, bounds and meanings, and data sets.

The parameters of methods are in methods.py; study.py lays the files of params/ over each other.
"""

import importlib.util
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

from adtr.errors import UserError


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError("an odd number is expected")
    return side


def _sound(text: str) -> str:
    for sign in text:
        if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp"):  # control, half of a pair, line separators
            raise ValueError(f"holds {sign!a}, which is no sign of a line of text")
    return text


def _line(text: str) -> str:
    return _sound(" ".join(text.split()))


def _title(text: str) -> str:
    title = _line(text)
    seen = [sign for sign in title if sign.isprintable() and sign != " "]
    if not seen or title[0] in "=+-@_":  # a spreadsheet computes what begins so, a legend hides _
        raise ValueError("a title is expected, which does not begin with = + - @ or _")
    return title


LONGEST = 100  # bytes of a name: files are called by several of them
UNQUOTABLE = '/\\$`"!,{}'  # in a path, a pattern of Snakemake, or the commands that it sends to a cluster


def _category(name: str) -> str:
    odd = [sign for sign in name if sign in UNQUOTABLE or not sign.isprintable()]
    if odd:
        raise ValueError(f"no category may hold {odd[0]!a}: rename its folder")
    if name.strip() != name or name in ("", ".", "..", "mean") or len(name.encode()) > LONGEST:
        why = f"no blank at its ends, at most {LONGEST} bytes, not mean, a column of the tables"
        raise ValueError(f"the name of a folder is expected: {why}")
    return name


# Strict: YAML has numbers, and neither true nor '5' is one
Whole = Annotated[int, Strict(), Field(ge=0, lt=2**31)]
Positive = Annotated[int, Strict(), Field(gt=0, lt=2**31)]
Side = Annotated[int, Strict(), Field(gt=0, le=2**14)]  # of an image or a grid; of more, no memory holds the images
Threads = Annotated[int, Strict(), Field(gt=0, le=1024)]
Odd = Annotated[Positive, AfterValidator(_odd)]
Number = Annotated[float, Strict()]
Share = Annotated[float, Strict(), Field(gt=0, le=1)]
Flag = Annotated[bool, Strict()]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=LONGEST)]
Category = Annotated[str, AfterValidator(_category)]  # a folder of the user's
Text = Annotated[str, AfterValidator(_sound)]
Line = Annotated[str, AfterValidator(_line)]  # a text of several lines becomes one
Title = Annotated[str, AfterValidator(_title)]

Backbone = Literal[
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "resnet34", "pixels",
]  # fmt: skip


class Section(BaseModel):
    """A group of parameters that cannot be changed once read, and admits no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Features(Section):
    """What the frozen backbone sees and gives."""

    backbone: Backbone = Field(description="frozen backbone; pixels: raw pixels, a patch a token")
    weights: Literal["imagenet", "random"] = Field(description="its weights; random is for tests and speed")
    layers: tuple[Annotated[int, Strict(), Field(ge=1, le=5)], ...] = Field(
        min_length=1, description="which of the layers 1-5 are concatenated"
    )
    image_size: Side = Field(description="side of the input, px")
    grid_size: Side = Field(description="side of the feature grid, tokens")
    precision: Literal["float32", "bfloat16"] = Field(
        description="of the backbone's weights and activations; bfloat16 is slow on a CPU without products in it"
    )

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if list(layers) != sorted(set(layers)):
            raise ValueError("layers must ascend, each once")
        return layers

    @model_validator(mode="after")
    def _fits(self) -> "Features":
        if self.grid_size > self.image_size or (self.image_size % self.grid_size and self.backbone == "pixels"):
            raise ValueError(f"image_size {self.image_size} is not a multiple of grid_size {self.grid_size}")
        if self.image_size < 32:
            raise ValueError(f"image_size {self.image_size} is less than 32, the stride of layer 5")
        return self


class Score(Section):
    """How differences become scores and metrics."""

    pooling: Positive = Field(description="side of the average pooling, tokens")
    image_score: Literal["max", "mean"] = Field(description="what of the pooled map is the image's score")
    aupro_limit: Share = Field(description="largest false positive rate of AUPRO")


class Threshold(Section):
    """From which score on an image is called anomalous, by normal images that are not trained on."""

    calibration: Number = Field(
        ge=0, lt=1, description="share of the normal training images that is held out to set the threshold; 0 for none"
    )
    false_alarms: Number = Field(gt=0, lt=1, description="largest share of normal images called anomalous")


class Confetti(Section):
    """Synthetic anomalies: squares of colour on normal images (Liznerski et al., ICLR 2021)."""

    variants: Positive = Field(description="noisy copies of each training image")
    seed: Seed = Field(description="of the noise")
    reference: Side = Field(description="side of the image that all lengths are given for, px")
    coloured: Number = Field(ge=0, le=1, description="probability that a pixel is the centre of a coloured square")
    solid: Number = Field(ge=0, le=1, description="the same for a dark square")
    smallest: Positive = Field(description="shortest side of a square, px")
    largest: Positive = Field(description="longest side of a square, px")
    rotation: Number = Field(ge=0, le=90, description="largest rotation, degrees")
    blur: Odd = Field(description="side of the Gaussian kernel, px, odd")
    sigma: Number = Field(gt=0, description="its standard deviation, px")

    @model_validator(mode="after")
    def _sides_ascend(self) -> "Confetti":
        if self.smallest > self.largest:
            raise ValueError(f"smallest {self.smallest} is more than largest {self.largest}")
        return self


class Outliers(Section):
    """Images of another data set that serve as anomalies (Sec. 4.1)."""

    dataset: Name = Field(description="whose training images are drawn from")
    count: Positive = Field(description="images drawn")
    seed: Seed = Field(description="of the draw")


FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CLASSES = {  # of the layouts that have no others
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "cifar100": FINE.split(),
    "elpv": ["mono", "poly"],
}
FOLDERS = {  # layouts of a folder a category, with masks, and what such a folder holds
    "mvtec": "train/good",
    "btad": "train/ok",
    "visa": "Data/Images/Normal",
    "dagm": "Train",
    "kolektorsdd": "*/*_label.bmp",
    "kolektorsdd2": "train/*_GT.png",
}


class Generated(Section):
    """Images that are made here, for tests."""

    images: Positive
    size: int = Field(ge=32, le=4096, strict=True)
    seed: Seed = 0


class Dataset(Section):
    """Where a data set lies, how it is laid out, and what of it is used."""

    title: Title
    layout: Literal[
        "mvtec", "btad", "visa", "dagm", "kolektorsdd", "kolektorsdd2", "cifar10", "cifar100", "elpv"
    ] = Field(description="that of a published data set: how its files are read")  # fmt: skip
    root: Text = Field(min_length=1, description="the folder, or package:NAME/FOLDER of an installed package")
    note: Line = ""  # what a reader of its numbers must know
    categories: list[Category] = []  # empty: every folder of `root` that is one by FOLDERS
    benchmark: Literal["mvtec", "cifar10"] | None = None
    generated: Generated | None = None
    seed: Seed = Field(default=0, description="of CIFAR-10's sampled anomalies")
    train_share: Share = Field(default=0.75, description="of ELPV's normal images, of KolektorSDD's items")
    set: dict[str, Any] = {}

    @model_validator(mode="after")
    def _categories_known(self) -> "Dataset":
        if not self.categories and self.layout not in FOLDERS:
            raise ValueError(f"categories may be left out in the layouts {', '.join(FOLDERS)} only")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("a category stands twice")
        if self.generated and self.layout not in ("mvtec", "cifar10", "cifar100"):
            raise ValueError(f"images are generated in the layouts mvtec, cifar10 and cifar100, not {self.layout}")
        return self


def categories_in(root: Path, layout: str) -> list[str]:
    """The folders of `root` that are categories in one of FOLDERS, by name; an OSError if it is not readable."""
    found = {path.relative_to(root).parts[0] for path in root.glob(f"*/{FOLDERS[layout]}")}
    return sorted(name for name in found if not name.startswith((".", "__MACOSX")))


def root_of(root: str, title: str = "the data set") -> Path:
    """The folder of a data set; 'package:NAME/FOLDER' is a folder of an installed package.

    Raises:
        UserError: the package is not installed, or `~` is nobody's home.
    """
    package, colon, inside = root.partition(":")
    if not colon or package != "package":
        try:
            return Path(root).expanduser()
        except RuntimeError:
            raise UserError(f"{title}: root {root}: no such user: write the folder in full") from None
    name, _, folder = inside.partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{title}: the package {name} is not installed: `make install`")
    return Path(spec.submodule_search_locations[0]) / folder
