"""What the trainings differ in: stages, choice and sizes of pictures, and what their last table shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from framevault.configs.train import TrainSettings
from framevault.pipeline.jobs.train.candidates import Found
from framevault.pipeline.jobs.train.loop import Surroundings
from framevault.pipeline.jobs.train.stages import Job, StageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKind(Generic[Job]):
    """The training of one codec, or of a detector."""

    product: str
    """What comes of it: a codec's name, or `detector`."""
    usage: str
    """The command that takes what came of it, up to the file's name."""
    rows: Mapping[str, StageRow[Job]]
    """Every stage by name, in their order."""
    usual_stages: Callable[[Job], Sequence[str]]
    """Gives those that are trained, as far as the settings say."""
    choose_stages: Callable[[Job, Surroundings], Sequence[str]]
    """Gives those that are trained, now that the data is known."""
    choose_pictures: Callable[[Job, Found], Found]
    """Gives those of the pictures in the data that are trained on."""
    short_side: Callable[[Job], int]
    """Gives the short side that larger pictures are scaled down to."""
    measured_stages: tuple[str, ...]
    """Whose measurements the last table shows: the first of these that has some."""
    measured_columns: tuple[str, ...]
    """Of the table at the end; the first three are not compared with the start's."""


def choose_all(job: TrainSettings, found: Found) -> Found:
    """Take all pictures."""
    return found
