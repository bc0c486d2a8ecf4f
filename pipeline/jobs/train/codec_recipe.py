"""What changes over the stage `codec`: when which loss counts, and how fast is learned.

Two rows: from random networks everything has to come in turn, from a checkpoint's everything is there at once. The
figures are those that trained the shipped checkpoint.
"""

from dataclasses import dataclass

from framevault.configs.train import TrainDicmJob
from framevault.pipeline.jobs.train.optimisation import cosine_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One row."""

    learning_rate: float
    """Of the networks before and after the entropy coder."""
    entropy_rate: float | None
    """Of the entropy model, relative to each tensor's size, as these differ much; None: the same as of the networks."""
    finishing_rate: float
    """Of the entropy model when it is alone, relative to each tensor's size."""
    deep_start: float
    """Share of the training before the deep losses: a deep backward pass through noise teaches nothing."""
    deep_fade: float
    """Share over which they grow to full weight: at once, they undo in minutes what the shallow ones taught."""
    deep_rate: float
    """Factor of the learning rate once they are there."""
    first_ramp: float
    """Share of their weights that rates begin with."""
    ramp: float
    """Share of the training over which a whole weight is added to that."""
    steer_start: float
    """Share before steering: the first rates of random networks say nothing."""
    finishing_start: float
    """Share after which the entropy model learns alone, from symbols."""

    def deep_share(self, progress: float) -> float | None:
        """Return the weight of the deep losses, 0..1; None before they begin."""
        return min(1.0, (progress - self.deep_start) / self.deep_fade) if progress >= self.deep_start else None

    def rate_share(self, progress: float) -> float:
        """Return the factor of the rates' weights, 0..1."""
        return min(1.0, self.first_ramp + progress / self.ramp)

    def learning_factor(self, progress: float) -> float:
        """Return the factor of all learning rates before the last part."""
        return cosine_rate(progress / self.finishing_start) * (
            1.0 if self.deep_share(progress) is None else self.deep_rate
        )

    def finishing_share(self, progress: float) -> float | None:
        """Return how much of the last part is over, 0..1; None before it."""
        start = self.finishing_start
        return (progress - start) / (1 - start) if progress >= start else None


SCRATCH = Recipe(
    learning_rate=8e-4,
    entropy_rate=3e-3,
    finishing_rate=1e-3,
    deep_start=0.27,
    deep_fade=0.1,
    deep_rate=0.55,
    first_ramp=0.1,
    ramp=0.35,
    steer_start=0.15,
    finishing_start=0.75,
)
"""From random networks."""

TUNING = Recipe(
    learning_rate=2e-4,
    entropy_rate=None,
    finishing_rate=4e-4,
    deep_start=0.0,
    deep_fade=0.1,
    deep_rate=1.0,
    first_ramp=1.0,
    ramp=1.0,
    steer_start=0.02,
    finishing_start=0.9,
)
"""From a checkpoint's."""


def choose_recipe(job: TrainDicmJob) -> Recipe:
    """Return the row for a job, with what the job sets itself."""
    row = SCRATCH if job.from_scratch else TUNING
    rate = row.learning_rate if job.learning_rate is None else job.learning_rate
    values = {name: getattr(row, name) for name in Recipe.__dataclass_fields__}
    factor = rate / row.learning_rate
    entropy_rate = None if row.entropy_rate is None else row.entropy_rate * factor
    values |= {"learning_rate": rate, "entropy_rate": entropy_rate, "finishing_rate": row.finishing_rate * factor}
    values |= {"deep_fade": job.deep_fade} | ({} if job.deep_start is None else {"deep_start": job.deep_start})
    return Recipe(**values)
