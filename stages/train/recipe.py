"""The settings of a recipe, recipes/NAME.yaml: the net, its optimizer, and how long it trains."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stages.common import settings
from stages.train.optimizer import Kind

WARM_UP = 0.2  # the share of a one-cycle run in which the learning rate rises


class Recipe(settings.Settings):
    """A recipe, as its file has it; docs/recipes.md explains the keys."""

    options: dict[str, Any] = Field(default_factory=dict)  # of a class as the model
    model: list[str] | str
    optimizer: Kind
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "one_cycle"]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None  # of sgd
    # of adam and adamw; closer to 1, or with a second one closer to 0, Adam in float32 is not what it should be
    betas: list[Annotated[float, Field(ge=0, le=0.9999)]] | None = None
    batch_size: Annotated[int, Field(ge=1)]
    shards: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    min_steps: Annotated[int, Field(ge=0)] = 0
    shift: Annotated[int, Field(ge=0, le=8)] = 0  # pixels, at most, in each direction
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees, at most, to the left or right
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # of its size, at most, that an image grows or shrinks by
    elastic: Annotated[float, Field(ge=0, le=8)] = 0.0  # pixels, at most, that a part moves in each direction
    flip: bool = False  # whether half of the images are mirrored, left and right
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.shards > self.batch_size:
            raise ValueError(f"shards ({self.shards}) no greater than batch_size ({self.batch_size})")
        if self.optimizer == "sgd" and self.betas is not None:
            raise ValueError("no `betas` with the optimizer sgd, which has `momentum`")
        if self.optimizer != "sgd" and self.momentum is not None:
            raise ValueError(f"no `momentum` with the optimizer {self.optimizer}, which has `betas`")
        if self.betas is not None and (len(self.betas) != 2 or self.betas[1] < 0.01):
            raise ValueError("two `betas`, the second at least 0.01")
        return self

    @property
    def distorts(self) -> bool:
        """Whether the training images are distorted, anew in each epoch."""
        return bool(self.rotate or self.scale or self.elastic or self.flip)

    def epochs_of(self, steps: int) -> int:
        """Return how many epochs of `steps` steps to train for: `epochs`, or as many more as `min_steps` takes.

        A small data set has few steps in an epoch, and a net learns by steps.
        """
        return max(self.epochs, -(-self.min_steps // steps))

    def scheduled_rate(self, progress: float) -> float:
        """Return the learning rate at `progress` (0..1) of the run.

        `one_cycle` rises in a line over the first 20 % and falls in a line to 0 (after Smith and Topin 2018).
        """
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


def path(name: str) -> Path:
    """Return the file of the recipe called `name`."""
    return Path("recipes", f"{name}.yaml")
