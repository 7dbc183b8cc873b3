"""The job: everything a run needs to know, typed and checked.

A job file is a constructor call in TOML; its sections are the classes of
`vmc.sections`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import PrivateAttr, ValidationError

from vmc.errors import JobError
from vmc.jobfile import apply_overrides, describe, read_toml, recorded, to_toml
from vmc.sections import (
    Ansatz,
    Hamiltonian,
    Lattice,
    Measure,
    Optimizer,
    Run,
    Sampler,
    Section,
    key,
)


class Job(Section):
    """A whole job.  Sections may be given as tables (dictionaries).

    Attributes of the instance are the sections of the job file.  Construction
    checks types and names; `vmc.build` checks the physics.

    Example:
        >>> job = Job(lattice={"name": "chain", "size": [8]},
        ...           hamiltonian={"name": "tfim"}, ansatz={"name": "rbm"})
        >>> job.run.n_steps
        500

    Raises:
        JobError: a key is unknown or missing, or has a value of the wrong kind.
    """

    seed: int = key(
        1,
        "an integer from 0 to 2^64 - 1",
        "seed of every random number",
        ge=0,
        lt=2**64,
    )
    precision: Literal["float64", "float32", "mixed"] = key(
        "float64",
        '"float64", "float32" or "mixed"',
        "arithmetic; mixed: amplitudes in float32, statistics and solves in float64",
    )
    lattice: Lattice | None = key(None, "a table", "sites and bonds")
    hamiltonian: Hamiltonian = key(..., "a table", "the operator")
    ansatz: Ansatz | None = key(None, "a table", "the wave function")
    sampler: Sampler = key(Sampler(), "a table", "Monte Carlo sampling")
    optimizer: Optimizer = key(Optimizer(), "a table", "optimisation")
    run: Run = key(Run(), "a table", "length and output")
    measure: Measure = key(Measure(), "a table", "final measurement")

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _source: str | None = PrivateAttr(default=None)

    def __init__(self, **sections: Any) -> None:
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise JobError(describe(error, Job)) from None

    @property
    def folder(self) -> Path:
        """Folder that relative paths of the job start from."""
        return self._folder

    @property
    def stem(self) -> str:
        """Name of the job file without its suffix, or "job"."""
        return Path(self._source).stem if self._source else "job"

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Job:
        """Read a job file.

        Args:
            path: a TOML file.
            overrides: "section.key=value"; the value is read as TOML, or else
                taken as text.

        Raises:
            JobError: the file is missing or malformed, or a key or value is wrong.
        """
        path = Path(path)
        data = apply_overrides(read_toml(path), overrides)
        return cls.from_dict(data, folder=path.resolve().parent, source=str(path))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, folder: Path, source: str | None = None
    ) -> Job:
        """A job from nested tables whose relative paths start at ``folder``."""
        try:
            job = cls(**data)
        except JobError as error:
            raise JobError(f"{source}: {error}" if source else str(error)) from None
        job._folder = folder
        job._source = source
        return job

    def to_dict(self) -> dict[str, Any]:
        """Every key, with defaults, as plain JSON values; null keys are left out.

        Raises:
            JobError: a value given in Python cannot be written down.
        """
        return recorded(self.model_dump(exclude_none=True))

    def to_json(self) -> str:
        """Every key, with defaults, as one JSON object."""
        return json.dumps(self.to_dict())

    def to_toml(self) -> str:
        """Every key, with defaults, as a job file."""
        return to_toml(self.to_dict())

    def replace(self, updates: Mapping[str, Mapping[str, Any] | Any]) -> Job:
        """The same job with some keys changed: {"sampler": {"name": "local"}}."""
        data = self.model_dump()
        for section, value in updates.items():
            if isinstance(value, Mapping):
                data[section] = {**(data.get(section) or {}), **value}
            else:
                data[section] = value
        return Job.from_dict(data, folder=self.folder, source=self._source)
