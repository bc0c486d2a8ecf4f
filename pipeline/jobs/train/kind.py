"""What the trainings of the codecs differ in: stages, sizes of pictures, and what their last table shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch

from framevault.pipeline.jobs.train.loop import Surroundings
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import Job, StageRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKind(Generic[Job]):
    """The training of one codec."""

    codec: str
    """Its name."""
    rows: Mapping[str, StageRow[Job]]
    """Every stage by name, in their order."""
    usual_stages: Callable[[Job], Sequence[str]]
    """Gives those that are trained, as far as the settings say."""
    choose_stages: Callable[[Job, Surroundings], Sequence[str]]
    """Gives those that are trained, now that the data is known."""
    short_side: Callable[[Job], int]
    """Gives the short side that larger pictures are scaled down to."""
    finish: Callable[[Path, PictureSet, torch.device], None]
    """Adds to a codec's last export what is found from its training pictures."""
    measured_stages: tuple[str, ...]
    """Whose measurements the last table shows: the first of these that has some."""
    measured_columns: tuple[str, ...]
    """Of the table at the end; the first three are not compared with the start's."""
