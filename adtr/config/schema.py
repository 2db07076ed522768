"""Parameters: the sections of params/, what each admits, and their form on the command line.

A stage gets frozen sections; study.py lays the files of params/ over each other. Sections of baselines are made of what
params/default.yaml says of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from adtr.errors import UserError


def _no_flag(value: Any) -> Any:
    """Python takes true for 1; a parameter file should not."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


Positive = Annotated[int, BeforeValidator(_no_flag), Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # safe as a folder's name

BACKBONES = Literal[
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "resnet34", "pixels",
]  # fmt: skip


NETWORKS = {"adtr_plus": ["model", "train", "adtr_plus"], "autoencoder": ["train", "autoencoder"]}  # and their sections


class Section(BaseModel):
    """A group of parameters that cannot be changed once read, and admits no unknown key."""

    prefix: ClassVar[str] = ""  # of its command-line options, where a command has these words from another section, too
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Features(Section):
    """What the frozen backbone sees and gives."""

    backbone: BACKBONES = Field(description="frozen backbone; pixels: raw pixels, a patch a token")
    weights: Literal["imagenet", "random"] = Field(description="its weights; random is for tests and speed")
    layers: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        min_length=1, description="which of the layers 1-5 are concatenated"
    )
    image_size: Positive = Field(description="side of the input, px")
    grid_size: Positive = Field(description="side of the feature grid, tokens")
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
        if self.image_size % self.grid_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of grid_size {self.grid_size}")
        if self.image_size < 32:
            raise ValueError(f"image_size {self.image_size} is less than 32, the stride of layer 5")
        return self


class Model(Section):
    """The transformer of ADTR, or what takes its place in an ablation."""

    variant: Literal["transformer", "no_attention", "no_query", "cnn"] = Field(
        description="the reconstruction network: ADTR's, or an ablation of it"
    )
    width: Positive = Field(description="channels inside the transformer, D")
    encoder_layers: Positive = Field(description="encoder layers")
    decoder_layers: Positive = Field(description="decoder layers")
    heads: Positive = Field(description="attention heads")
    ffn_width: Positive = Field(description="hidden width of the feed forward network")
    dropout: float = Field(ge=0, lt=1, description="dropout probability")
    standardize: bool = Field(description="standardise each channel on the training set")
    cnn_blocks: Positive = Field(description="residual blocks of the variant cnn")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Model":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Train(Section):
    """How it is trained."""

    epochs: Positive = Field(description="passes over the training images")
    batch_size: Positive = Field(description="images a step")
    lr: float = Field(gt=0, description="initial learning rate of AdamW")
    lr_drop_at: Share = Field(description="share of the epochs after which lr drops")
    lr_drop_factor: Share = Field(description="factor by which it drops")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up, at most a tenth of all")
    grad_clip: float = Field(ge=0, description="largest L2 norm of the gradient, 0 for none")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the matrix products; auto is bfloat16 where the device multiplies it natively"
    )
    capture: bool = Field(description="on a GPU, record a step once and replay it (CUDA graphs)")
    save_every: Positive = Field(description="epochs between two saved states")
    snapshots: int = Field(ge=0, description="models kept and measured on the way, evenly spaced; 0 for none")
    threads: Positive = Field(description="CPU threads of the training")


class Score(Section):
    """How differences become scores and metrics."""

    pooling: Positive = Field(description="side of the average pooling, tokens")
    image_score: Literal["max", "mean"] = Field(description="what of the pooled map is the image's score")
    aupro_limit: Share = Field(description="largest false positive rate of AUPRO")


class AdtrPlus(Section):
    """ADTR+: training goes on with anomalies at hand (Sec. 3.3)."""

    prefix: ClassVar[str] = "plus."
    start: Name = Field(description="the experiment whose finished run it starts from")
    anomalies: Literal["confetti", "outliers"] = Field(
        description="noisy copies of the normal images, or images of another data set"
    )
    loss: Literal["pixel", "image"] = Field(description="of labels by pixel (Eq. 7) or by image (Eq. 9)")
    alpha: float = Field(gt=0, description="weight of the push term")
    top_k: Positive = Field(description="tokens of an image that Eq. 8 averages")
    share: Share = Field(description="probability that confetti replaces a normal image")


class Confetti(Section):
    """Synthetic anomalies: squares of colour on normal images (Liznerski et al., ICLR 2021)."""

    prefix: ClassVar[str] = "confetti."
    variants: Positive = Field(description="noisy copies of each training image")
    seed: int = Field(ge=0, description="of the noise")
    reference: Positive = Field(description="side of the image that all lengths are given for, px")
    coloured: float = Field(ge=0, le=1, description="probability that a pixel is the centre of a coloured square")
    solid: float = Field(ge=0, le=1, description="the same for a dark square")
    smallest: Positive = Field(description="shortest side of a square, px")
    largest: Positive = Field(description="longest side of a square, px")
    rotation: float = Field(ge=0, le=90, description="largest rotation, degrees")
    blur: Positive = Field(description="side of the Gaussian kernel, px")
    sigma: float = Field(gt=0, description="its standard deviation, px")

    @model_validator(mode="after")
    def _sides_ascend(self) -> "Confetti":
        if self.smallest > self.largest:
            raise ValueError(f"smallest {self.smallest} is more than largest {self.largest}")
        return self


class Outliers(Section):
    """Images of another data set that serve as anomalies (Sec. 4.1)."""

    prefix: ClassVar[str] = "outliers."
    dataset: Name = Field(description="whose training images are drawn from")
    count: Positive = Field(description="images drawn")
    seed: int = Field(ge=0, description="of the draw")


class Params(Section):
    """All parameters of an experiment on a data set; a baseline's section comes from params/default.yaml."""

    method: Name
    features: Features
    model: Model
    train: Train
    score: Score
    adtr_plus: AdtrPlus
    confetti: Confetti
    outliers: Outliers

    @model_validator(mode="after")
    def _pooling_fits(self) -> "Params":
        if self.score.pooling > self.features.grid_size:
            raise ValueError(f"pooling {self.score.pooling} is more than grid_size {self.features.grid_size}")
        return self

    def method_sections(self) -> list[str]:
        """The sections that the method's `fit` gets: those of a network, or a baseline's own."""
        own = [self.method] if self.method in type(self).model_fields else ["model", "train"]
        return NETWORKS.get(self.method, own)

    def decisive(self) -> dict[str, Any]:
        """The sections that a run's numbers depend on: of its features, its method, its anomalies and its score."""
        anomalies = [self.adtr_plus.anomalies] if self.method == "adtr_plus" else []
        names = dict.fromkeys(["features", *self.method_sections(), *anomalies, "score"])
        return {"method": self.method} | {name: getattr(self, name).model_dump(mode="json") for name in names}


class Generated(Section):
    """Images that are made here, for tests."""

    images: Positive
    size: Positive
    seed: int = 0


class Dataset(Section):
    """Where a data set lies, how it is laid out, and what of it is used."""

    title: str
    layout: Literal["mvtec", "cifar10", "cifar100", "elpv"] = Field(description="mvtec, cifar10, cifar100 or elpv")
    root: str = Field(min_length=1, description="the folder, or package:NAME/FOLDER of an installed package")
    note: str = ""  # what a reader of its numbers must know
    categories: list[Name] | None = None  # none: every folder of `root` that holds train/good
    benchmark: Literal["mvtec", "cifar10"] | None = None
    generated: Generated | None = None
    seed: int = Field(default=0, ge=0, description="of CIFAR-10's sampled anomalies")
    train_share: Share = Field(default=0.75, description="of ELPV's normal images")
    set: dict[str, Any] = {}

    @model_validator(mode="after")
    def _categories_known(self) -> "Dataset":
        if self.categories is None and self.layout != "mvtec":
            raise ValueError("categories may be left out in MVTec's layout only")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError("a category stands twice")
        if "mean" in (self.categories or []):
            raise ValueError("no category may be called mean: tables have a column of that name")
        if self.generated and self.layout == "elpv":
            raise ValueError(f"images are generated in the layouts mvtec, cifar10 and cifar100, not {self.layout}")
        return self


def problems(error: ValidationError) -> list[str]:
    """What is wrong with a file's content, as 'section.name: message'."""
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice: PyYAML would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (run from the root of the repository)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping is expected")
    return content


def params_model(default: Mapping[str, Any]) -> type[Params]:
    """`Params` with a section for every baseline that params/default.yaml describes.

    Types are those of its values; what is a positive number there must be one everywhere.
    """
    baselines = {name: value for name, value in default.items() if name not in Params.model_fields}
    sections = {}
    for name, values in baselines.items():
        fields = {key: (_kind(value), ...) for key, value in values.items()} if isinstance(values, dict) else {}
        section = create_model(name, __base__=Section, **fields)  # type: ignore[call-overload]
        section.prefix = f"{name}."
        sections[name] = (section, ...)
    return create_model("Params", __base__=Params, **sections)  # type: ignore[call-overload]


def _kind(value: Any) -> Any:
    positive = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return Annotated[type(value), Field(gt=0)] if positive else type(value)


def option(section: type[Section], key: str) -> str:
    """The command-line option of a parameter."""
    return f"--{section.prefix}{key.replace('_', '-')}"


def as_options(*sections: Section) -> str:
    """Parameters in the form in which a stage's command takes them: '--epochs 500 --lr 0.0001'."""
    options = []
    for section in sections:
        for key, value in section.model_dump(mode="json").items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            options.append(f"{option(type(section), key)} {text}")
    return " ".join(options)
