"""What may change in the job of a run that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmc.errors import JobError
from vmc.job import Job
from vmc.jobfile import apply_overrides

#: What a run that goes on may change, by section; all keys of a section where None.
CHANGEABLE: dict[str, set[str] | None] = {
    "optimizer": None,
    "sampler": {"n_samples", "n_sweeps"},
    "run": {"n_steps", "max_time", "checkpoint_minutes", "stuck_minutes"}
    | {"steps_per_dispatch", "chunk", "on_full_disk", "stop_at"},
    "measure": None,
}


def changed_job(job: Job, overrides: Sequence[str], keys: Mapping[str, Any]) -> Job:
    """A job with changes that leave its state what it is.

    Raises:
        JobError: another key would change.
    """
    for item in overrides:
        section, _, key = item.partition("=")[0].strip().partition(".")
        allowed = CHANGEABLE.get(section, set())
        if allowed is not None and key.partition(".")[0] not in allowed:
            names = {s: sorted(found or "*") for s, found in CHANGEABLE.items()}
            known = [f"{s}.{k}" for s, found in names.items() for k in found]
            raise JobError(
                f"--set {item}: a run that goes on keeps its {section}.{key}; what may "
                f"change is {', '.join(known)}. Start another run from this one's "
                "parameters with run.start_from"
            )
    data = apply_overrides(job.to_dict(), overrides)
    changed = Job.from_dict(data, folder=job.folder, source=job._source)
    return changed.replace({"run": keys}) if keys else changed


def differences(old: Job, new: Job) -> dict[str, Any]:
    """Keys that changed, as {"section.key": new value}."""
    before, after = old.to_dict(), new.to_dict()
    return {
        f"{section}.{key}": after[section].get(key)
        for section in CHANGEABLE
        for key in sorted({*before[section], *after[section]})
        if before[section].get(key) != after[section].get(key)
    }
