"""Task: a model, data and a training recipe; what an order of compression is measured on."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ordercomp.codec import UNWRITTEN, Number, Plain, decode, named, parse_share, parse_toml
from ordercomp.data.source import ImageOptions
from ordercomp.files import digest_of
from ordercomp.measuring.accuracy import NUMBER_METRICS, class_metric
from ordercomp.networks.weights import PRETRAINED
from ordercomp.records import CostName, check_cost
from ordercomp.sequence import KnobValue, Order, StageSequence, Step, check_order
from ordercomp.shipping.widths import ALIGNED
from ordercomp.stages.catalog import complete, final_stages, known_stages
from ordercomp.training.fit import Criterion, check_criterion
from ordercomp.training.recipe import Recipe

SHRINKABLE = ("depth", "width", "size")  # blocks and channels of the network, height and width of images


def _trained(order: Order) -> Order:
    """The stages of an order that train, or may: H does not."""
    return "".join(x for x in order if x not in known_stages() or "epochs" in known_stages()[x].knobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Model, data and recipe, with the stages in question and the knobs that all their orders share."""

    name: str
    model: str  # "resnet14(width=8)", "torchvision:resnet18", "timm:resnet18", "package.module:function"
    data: str  # "digits", "fashion-mnist", "cifar10", …
    stages: Order = "DPQE"
    knobs: Mapping[str, Mapping[str, KnobValue]] = field(default_factory=dict)  # by stage letter
    settings: tuple[Mapping[str, Mapping[str, KnobValue]], ...] = field(
        default=({},), metadata=named("cases")
    )  # of the knobs, from light to hard; every order is measured at each of them
    ladder: Literal["auto", "fixed"] = "auto"  # auto: a race may choose other settings that suit the loss
    extra: tuple[
        Order, ...
    ] = ()  # further orders to measure beside the permutations, such as "DD" or "DPQEQ"
    recipe: Recipe = field(default_factory=Recipe)
    train_limit: int | None = None  # use this many training images
    accounting: Literal["per-stage", "total"] = "per-stage"
    latency: bool = False  # measure milliseconds of one image, exported, too
    loss: Number = 0.02  # of the metric, that a user would give up for a smaller network, in (0, 1]
    cost: CostName = "bitops"  # whose reduction is the value of an order; "latency" sets latency, too
    target: Literal["bitops", "cpu-int8"] = "bitops"  # cpu-int8: P leaves widths in multiples of 16
    metric: str = "accuracy"  # what losses are about: a name of CLASS_METRICS or NUMBER_METRICS
    within: Number = 0.0  # of real targets: the error up to which an image counts as right; sets the metric
    criterion: Criterion = ""  # what training minimizes; empty: cross entropy, or mse for real targets
    image_size: int = 0  # these seven are about images of your own, see ImageOptions
    mean: tuple[Number, ...] = ()
    std: tuple[Number, ...] = ()
    normalize: Literal["", "data", "imagenet", "none"] = ""
    class_names: tuple[str, ...] = ()
    val_is: Literal["", "validation", "test"] = ""
    transforms: str = ""
    weights: str = ""  # a file of trained weights, or "pretrained"; the baseline then starts from them
    trained_on: str = ""  # what these saw: "train" (if left out), "unknown", "elsewhere", a folder of images
    baseline_epochs: Number | None = None  # None: those of the recipe, or 0 where there are weights
    shrink: Mapping[str, Number] = field(default_factory=dict)  # shares of `SHRINKABLE`, of a cheaper copy
    source: str = field(  # the task file, as it was named to `load_task`; no part of what is measured
        default="", metadata=UNWRITTEN
    )
    outside: str = (
        field(  # a hash over what the task only names: weights, data, functions; see `fingerprint_task`
            default="", metadata=UNWRITTEN
        )
    )

    def __post_init__(self) -> None:
        check_order(self.stages)
        if self.target == "cpu-int8" and "P" in self.stages:
            pruning = {"round_to": ALIGNED, **self.knobs.get("P", {})}
            object.__setattr__(self, "knobs", {**self.knobs, "P": pruning})
        elif self.target not in ("bitops", "cpu-int8"):
            raise ValueError(f"target must be bitops or cpu-int8, got {self.target!r}")
        for letter in self.stages:
            if letter not in known_stages():
                raise ValueError(f"stages of task {self.name!r} hold {letter!r}, but there is no such stage")
        if any(letter in self.stages[:-1] for letter in final_stages()):
            complete(StageSequence.from_order(self.stages, {}))  # raises, as it is not last
        if not self.settings:
            raise ValueError("cases must hold at least one knob setting; an empty one takes the task's knobs")
        for setting in ({}, *self.settings):
            for letter in {**self.knobs, **setting}:
                knobs = {**self.knobs.get(letter, {}), **setting.get(letter, {})}
                complete(StageSequence((Step.of(letter, knobs),)))
        for order in self.extra:
            complete(StageSequence.from_order(check_order(order), {}))
        if self.train_limit is not None and self.train_limit < 1:
            raise ValueError(f"train_limit must be a positive number of images, got {self.train_limit}")
        if self.ladder not in ("auto", "fixed"):
            raise ValueError(f"ladder must be auto or fixed, got {self.ladder!r}")
        if self.accounting not in ("per-stage", "total"):
            raise ValueError(f"accounting must be per-stage or total, got {self.accounting!r}")
        self._check_metric()
        for name in ("mean", "std", "class_names"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.image_options  # noqa: B018 (checks them)
        if check_cost(self.cost) == "latency":
            object.__setattr__(self, "latency", True)
        if not 0 < self.loss <= 1:
            raise ValueError(f"loss must lie in (0, 100 %], got {100 * self.loss:.4g} %")
        if self.baseline_epochs is not None and not 0 <= self.baseline_epochs < math.inf:
            raise ValueError(f"baseline_epochs must be finite and not negative, got {self.baseline_epochs}")
        self._check_shrink()
        if self.baseline_epochs == 0 and not self.weights:
            raise ValueError("baseline_epochs = 0 needs weights: without them nothing would be trained")
        if self.trained_on and not self.weights:
            raise ValueError(f"trained_on = {self.trained_on!r} is about weights, and the task has none")
        normalized = self.mean or self.normalize or self.weights in ("", PRETRAINED) or self.baseline_epochs
        if not normalized:
            raise ValueError(
                f"weights {self.weights} need the normalization that they were trained with: set mean and "
                "std, or normalize to 'imagenet', 'none' (images from 0 to 1 as they are, or normalized by a "
                "Dataset) or 'data' (mean and std of the training images)"
            )

    def _check_shrink(self) -> None:
        """Check the shares of a cheaper copy."""
        for name, share in self.shrink.items():
            if name not in SHRINKABLE or not 0 < share <= 1:
                raise ValueError(
                    f"shrink must hold shares in (0, 1] of {', '.join(SHRINKABLE)}, got {name} = {share}"
                )
        if self.weights and self.shrink.keys() & {"depth", "width"}:
            raise ValueError("shrink of depth or width makes another network, which weights do not fit")

    def _check_metric(self) -> None:
        """Check the metric and the criterion, and let `within` alone name its metric."""
        if not 0 <= self.within < math.inf:
            raise ValueError(f"within must be a positive error in units of the targets, got {self.within}")
        if self.within and self.metric == "accuracy":
            object.__setattr__(self, "metric", "within")
        if (self.within > 0) != (self.metric == "within"):
            fault = "needs within, an error" if self.metric == "within" else "does not go with within"
            raise ValueError(f"metric {self.metric} {fault}, got within = {self.within:g}")
        if self.metric not in NUMBER_METRICS:
            class_metric(self.metric)
        check_criterion(self.criterion)

    @property
    def ordered(self) -> Order:
        """The stages without those that can only come last, whose place nothing need be trained for."""
        return "".join(letter for letter in self.stages if letter not in final_stages())

    @property
    def spelled(self) -> str:
        """What `--task` takes to name this task: its file if it has one, else its name."""
        return self.source or self.name

    @property
    def image_options(self) -> ImageOptions:
        """What the task says of its images."""
        return ImageOptions(
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            normalize=self.normalize,
            trained_on=self._seen,
            class_names=self.class_names,
            val_is=self.val_is,
            transforms=self.transforms,
        )

    @property
    def _seen(self) -> str:
        """What the weights saw of the task's images: train, unknown or a folder; empty: none of them."""
        elsewhere = self.weights == PRETRAINED and self.data != "imagenet"
        seen = self.trained_on or ("elsewhere" if elsewhere else "train")
        return "" if not self.weights or seen == "elsewhere" else seen

    @property
    def facts(self) -> Mapping[str, object]:
        """What shapes a result but the sequence and the seed, by name, as JSON can hold it."""
        recipe = {f"recipe.{name}": value for name, value in dataclasses.asdict(self.recipe).items()}
        set_ = {name: str(getattr(self, name)) for name in _HASHED_IF_SET}
        plain = {name: getattr(self, name) for name in ("model", "data", "train_limit", "latency")}
        return {**plain, **recipe, **set_}

    @property
    def digest(self) -> str:
        """SHA-256 of everything that shapes a result but the sequence and the seed."""
        timed = self.latency and "exported"  # earlier records hold true, and other latencies
        facts: list[object] = [self.model, self.data, self.train_limit, timed]
        facts.append(dataclasses.asdict(self.recipe))
        values = {name: getattr(self, name) for name in _HASHED_IF_SET}
        if changed := {name: str(value) for name, value in values.items() if value != _DEFAULTS[name]}:
            facts.append(changed)
        return digest_of(*facts)

    def sequence(
        self, order: Order, knobs: Mapping[str, Mapping[str, KnobValue]] | None = None
    ) -> StageSequence:
        """The order with this task's knobs, updated by `knobs`, in canonical text.

        With accounting "total" the stages of every order share the epochs of as many stages as the task
        has, so that orders of different lengths cost the same training.
        """
        by_stage: dict[str, dict[str, KnobValue]] = {}
        for letter in order:
            by_stage[letter] = {**self.knobs.get(letter, {}), **(knobs or {}).get(letter, {})}
            if self.accounting == "total" and letter in _trained(order):
                share = len(_trained(self.stages)) / len(_trained(order))
                by_stage[letter]["epochs"] = self.recipe.epochs * share
        return complete(StageSequence.from_order(order, by_stage))

    @classmethod
    def from_toml(cls, path: Path | str) -> "Task":
        """Read a task file. Raises ValueError naming the file and the key that is wrong."""
        path = Path(path)
        try:
            data = parse_toml(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from None
        try:
            return replace(cls.from_mapping({"name": path.stem, **data}), source=str(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_mapping(cls, data: Plain) -> "Task":
        """Build a task from plain data; `recipe` holds a mapping, and `loss` may be a text such as "2%"."""
        if isinstance(data, Mapping) and isinstance(data.get("loss"), str):
            data = {**data, "loss": parse_share(str(data["loss"]), "loss")}
        return decode(data, cls, "task")


# Keys that joined later: where they have their defaults, they are no part of a task's digest.
_HASHED_IF_SET = (
    "weights",
    "baseline_epochs",
    "shrink",
    "outside",
    "metric",
    "within",
    "criterion",
    "image_size",
    "mean",
    "std",
    "normalize",
    "trained_on",
    "class_names",
    "val_is",
    "transforms",
)
_DEFAULTS = {entry.name: entry.default for entry in dataclasses.fields(Task)} | {"shrink": {}}
_MODERATE: Mapping[str, Mapping[str, KnobValue]] = {
    "D": {"depth": 0.5},
    "P": {"ratio": 0.4},
    "Q": {"weights": 2, "activations": 4},
    "E": {"exits": 2},
}
# Most networks of the light setting lose less than 2 % of accuracy, most of the hard one more or as much.
_DIGITS_SETTINGS: tuple[Mapping[str, Mapping[str, KnobValue]], ...] = (
    {"D": {"depth": 0.7}, "P": {"ratio": 0.2}, "Q": {"weights": 4, "activations": 8}},
    {},
)
_SETTINGS: tuple[Mapping[str, Mapping[str, KnobValue]], ...] = ({"Q": {"weights": 4, "activations": 8}}, {})
TASKS: Mapping[str, Task] = {
    "digits": Task(
        name="digits",
        model="resnet14(width=8)",
        data="digits",
        knobs=_MODERATE,
        settings=_DIGITS_SETTINGS,
        recipe=Recipe(epochs=12, batch_size=128, learning_rate=0.2, weight_decay=1e-3, precision="float32"),
    ),
    "rotated-digits": Task(  # real targets: by how many degrees each digit is turned
        name="rotated-digits",
        model="resnet14(width=8,stem_stride=2)",
        data="rotated-digits",
        knobs=_MODERATE,
        settings=_DIGITS_SETTINGS,
        within=10.0,
        recipe=Recipe(epochs=10, batch_size=128, learning_rate=0.1, weight_decay=1e-3, precision="float32"),
    ),
    "fashion-mnist": Task(
        name="fashion-mnist",
        model="resnet14(width=16,stem_stride=3)",
        data="fashion-mnist",
        knobs=_MODERATE,
        settings=_SETTINGS,
        recipe=Recipe(epochs=2, batch_size=128, learning_rate=0.2),
    ),
    # What one core of a CPU trains to the end in under two minutes a stage: more data than an augmented
    # recipe could use up in that time, but less work for each image.
    "cifar10": Task(
        name="cifar10",
        model="resnet14(width=16,stem_stride=2)",
        data="cifar10",
        train_limit=32_000,
        knobs=_MODERATE,
        settings=_SETTINGS,
        recipe=Recipe(epochs=8, batch_size=256, learning_rate=0.6),
    ),
    "cifar10-full": Task(  # for a GPU
        name="cifar10-full",
        model="resnet18",
        data="cifar10",
        knobs=_MODERATE,
        settings=_SETTINGS,
        recipe=Recipe(epochs=24, batch_size=512, learning_rate=0.4, augment=True),
    ),
}


def load_task(name: str) -> Task:
    """A built-in task by name, or a task file by path. Raises ValueError or FileNotFoundError."""
    if name in TASKS:
        return TASKS[name]
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no task file at {name}")
        return Task.from_toml(name)
    raise ValueError(f"task must be one of {', '.join(TASKS)} or a .toml file, got {name!r}")
