"""The parameters of each method, a section a method, and `Params`, all that decides an experiment on a data set.

The code of a method is adtr/methods/<name>.py; its parameters stand here, so that a plan of runs needs no PyTorch.
Their values are in params/default.yaml. To add a method: its section here (if it has parameters), its name in
`Params.method`, its module, and an experiment in params/experiments.yaml.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from adtr.config.schema import (
    Confetti,
    Features,
    Flag,
    Name,
    Number,
    Odd,
    Outliers,
    Positive,
    Score,
    Section,
    Share,
    Threads,
    Threshold,
    Whole,
)


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
    dropout: Number = Field(ge=0, lt=1, description="dropout probability")
    standardize: Flag = Field(description="standardise each channel on the training set")
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
    lr: Number = Field(gt=0, description="initial learning rate of AdamW")
    lr_drop_at: Share = Field(description="share of the epochs after which lr drops")
    lr_drop_factor: Share = Field(description="factor by which it drops")
    weight_decay: Number = Field(ge=0, description="weight decay of AdamW")
    warmup_steps: Whole = Field(description="steps of linear warm-up, at most a tenth of all")
    grad_clip: Number = Field(ge=0, description="largest L2 norm of the gradient, 0 for none")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the matrix products; auto is bfloat16 where the device is faster in it"
    )
    capture: Flag = Field(description="on a GPU, record a step once and replay it (CUDA graphs)")
    snapshots: Whole = Field(description="models kept and measured on the way, evenly spaced; 0 for none")
    deterministic: Flag = Field(description="on a GPU, ask for kernels that give the same bytes each time")
    threads: Threads = Field(description="CPU threads of the training")
    # Decides no number, so no dump has it: neither a digest nor a run's record
    save_minutes: Number = Field(default=0, ge=0, exclude=True, description="between two states, 0: after each epoch")


MEAN = "mean"  # in place of an experiment whose reconstruction is measured


class Method(Section):
    """The parameters of a method."""

    uses: ClassVar[tuple[str, ...]] = ()  # further sections that its `fit` reads
    random: ClassVar[bool] = True  # whether a seed changes what it learns


class AdtrPlus(Method):
    """ADTR+: training of a finished ADTR goes on, with anomalies where `share` is above 0 (Sec. 3.3)."""

    uses: ClassVar[tuple[str, ...]] = ("model", "train")

    start: Name = Field(description="the experiment whose finished run it starts from")
    anomalies: Literal["confetti", "outliers"] = Field(
        description="noisy copies of the normal images, or images of another data set"
    )
    loss: Literal["pixel", "image"] = Field(description="of labels by pixel (Eq. 7) or by image (Eq. 9)")
    alpha: Number = Field(gt=0, description="weight of the push term")
    top_k: Positive = Field(description="tokens of an image that Eq. 8 averages")
    share: Number = Field(
        ge=0, le=1, description="probability that confetti replaces a normal image; 0 trains on normal images alone"
    )


class Residual(Method):
    """What a reconstruction leaves, by its distance to what it leaves of normal images. Not the paper's."""

    uses: ClassVar[tuple[str, ...]] = ("model",)

    start: Name = Field(description="experiment whose finished reconstruction it measures; mean: of each position")
    distance: Literal["l2", "standardized", "mahalanobis"] = Field(
        description="norm (Eq. 3), of standardised channels, or Mahalanobis distance"
    )
    channels: Positive = Field(description="channels drawn at random; all, where there are fewer")
    epsilon: Number = Field(gt=0, description="added to each variance, as a share of their mean")
    shared: Flag = Field(description="one distribution for all positions, in place of one for each")
    equal_scale: Flag = Field(description="times the deviation at a position, so that all positions share a unit")

    @model_validator(mode="after")
    def _has_units(self) -> "Residual":
        if self.equal_scale and (self.shared or self.distance == "l2"):
            raise ValueError("equal_scale: the distance l2, and one that is shared, have one unit for all positions")
        return self


class Padim(Method):
    """PaDiM: a Gaussian at every position (Defard et al., ICPR 2021)."""

    channels: Positive = Field(description="channels drawn at random; all, where there are fewer")
    epsilon: Number = Field(gt=0, description="added to the diagonal of each covariance")


class Spade(Method):
    """SPADE: nearest training images and their tokens (Cohen & Hoshen, arXiv 2005.02357)."""

    random: ClassVar[bool] = False

    neighbours: Positive = Field(description="K, nearest training images")
    kappa: Positive = Field(description="nearest of their tokens, at any position")


class Patchcore(Method):
    """PatchCore: distances to a coreset of tokens (Roth et al., CVPR 2022)."""

    neighbourhood: Odd = Field(description="p, side of what a token is averaged over, tokens, odd")
    coreset_ratio: Share = Field(description="share of the training tokens in the memory bank")
    projection: Positive = Field(
        description="dimension in which they are selected; all channels, where there are fewer"
    )
    neighbours: Positive = Field(description="b of Eq. 7, which weights an image's score")


class Kde(Method):
    """Kernel density estimation of images and of tokens."""

    random: ClassVar[bool] = False

    components: Positive = Field(description="principal components")
    max_tokens: Positive = Field(description="training tokens of the map's density, evenly spaced")


class Autoencoder(Method):
    """A convolutional autoencoder of pixels (Bergmann et al., VISAPP 2019)."""

    uses: ClassVar[tuple[str, ...]] = ("train",)

    width: Positive = Field(description="channels of the first two convolutions, doubled every two")
    latent: Positive = Field(description="numbers that an image is squeezed into")


class Params(Section):
    """All parameters of an experiment on a data set."""

    method: Literal["adtr", "adtr_plus", "residual", "padim", "spade", "patchcore", "kde", "autoencoder"] = Field(
        description="module of adtr/methods"
    )
    features: Features
    model: Model
    train: Train
    score: Score
    threshold: Threshold
    adtr_plus: AdtrPlus
    confetti: Confetti
    outliers: Outliers
    residual: Residual
    padim: Padim
    spade: Spade
    patchcore: Patchcore
    kde: Kde
    autoencoder: Autoencoder

    @model_validator(mode="after")
    def _grid_fits(self) -> "Params":
        size, grid = self.features.image_size, self.features.grid_size
        if self.score.pooling > grid:
            raise ValueError(f"pooling {self.score.pooling} is more than grid_size {grid}")
        if self.method == "adtr_plus" and size % grid:  # a mask's pixels are sorted into tokens
            raise ValueError(f"method adtr_plus: image_size {size} is not a multiple of grid_size {grid}")
        return self

    def method_sections(self) -> list[str]:
        """The sections that the method's `fit` reads."""
        if self.method == "adtr":
            return ["model", "train"]
        own = getattr(self, self.method, None)
        return [*own.uses, self.method] if isinstance(own, Method) else []

    def resolved(self) -> dict[str, Any]:
        """All but the sections of other methods: an experiment is the same whatever stands in those."""
        foreign = {name for name, value in self if isinstance(value, Method)} - {*self.method_sections()}
        return self.model_dump(mode="json", exclude=foreign)

    @property
    def trains(self) -> bool:
        """Whether the method trains a network in epochs."""
        return "train" in self.method_sections()

    @property
    def start(self) -> str:
        """The experiment whose finished run the method starts from; empty if it starts from none."""
        start: str = getattr(getattr(self, self.method, None), "start", "")
        return "" if start == MEAN else start

    @property
    def random(self) -> bool:
        """Whether a seed changes what the method learns."""
        own = getattr(self, self.method, None)
        return own.random if isinstance(own, Method) else True

    def decisive(self) -> dict[str, Any]:
        """The sections that a run's numbers depend on: of its features, its method, its anomalies and its scores."""
        anomalies = [self.adtr_plus.anomalies] if self.method == "adtr_plus" else []
        held_out = ["threshold"] if self.threshold.calibration else []
        names = dict.fromkeys(["features", *self.method_sections(), *anomalies, "score", *held_out])
        return {"method": self.method} | {name: getattr(self, name).model_dump(mode="json") for name in names}
