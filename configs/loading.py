"""From a YAML file and the command line to a job's settings, with errors that say where and what."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Job = TypeVar("Job", bound=BaseModel)
"""The model to fill."""


class ConfigError(ValueError):
    """A job's settings are wrong; each line names the file or option, the key, what was expected and what came."""


def load_job(job_type: type[Job], path: Path | None, *, overrides: Mapping[str, object]) -> Job:
    """Fill a job's model from a file and from options, which win over the file.

    Args:
        job_type: The model to fill.
        path: A YAML file with keys of the model; None if there is none.
        overrides: Values of the command line by key; None means that the option was not given.

    Raises:
        ConfigError: The file can't be read, is not a mapping, or a key or value is not what the model expects.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    values = {**({} if path is None else _read_yaml(path)), **given}
    try:
        return job_type.model_validate(values)
    except ValidationError as error:
        lines = [_describe(details, job_type, path=path, given=given) for details in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice is an error rather than the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """Check the keys of one mapping, and make it."""
        keys = [self.construct_object(key_node, deep=True) for key_node, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.value[position][0].start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#04x}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, got: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"{path}: expected a mapping of keys to values, got {type(content).__name__}: {content!r:.80}"
        )
    return content


def _describe(
    details: ErrorDetails, job_type: type[BaseModel], *, path: Path | None, given: Mapping[str, object]
) -> str:
    location = details["loc"]
    key = ".".join(str(part) for part in location)
    is_option = not location or location[0] in given or path is None
    where = "command line" if is_option else str(path)
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: {key}: unknown key; {_suggest(location, job_type)}"
        case "missing":
            return f"{where if path is None else path}: {key}: missing"
        case _:
            expected = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
            got = "" if not location else f", got {details['input']!r:.80}"
            return f"{where}: {key}: {expected}{got}" if key else f"{where}: {expected}{got}"


def _suggest(location: tuple[int | str, ...], job_type: type[BaseModel]) -> str:
    """Name the keys that were probably meant, or else all that there are."""
    model = job_type
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    close = difflib.get_close_matches(str(location[-1]), model.model_fields)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"expected one of {', '.join(sorted(model.model_fields))}"
