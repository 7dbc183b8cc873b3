"""Names of observables, as job files and the command line write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vmc.errors import JobError
from vmc.jobfile import suggest

#: Name -> what it is.  S are spin operators: S^z has the eigenvalues m = -S ... S.
OBSERVABLES: Mapping[str, str] = {
    "energy": "total energy; always measured",
    "magnetization": "M = sum S^z / N: M, |M|, M^2, M^4, Binder ratio",
    "staggered_magnetization": "the same with opposite signs on the two sublattices",
    "correlations": "<S^z_i S^z_j> by displacement, plain and connected",
    "spin_correlations": "<S_i . S_j> by displacement, and its parts zz and xx + yy",
    "structure_factor": "sum_ij e^(iq(r_i - r_j)) <S^z_i S^z_j> / N, allowed momenta",
    "spin_structure_factor": "the same with S_i . S_j",
    "correlation_length": "second-moment length of the zz correlations at their peak",
    "dimer_correlations": "<D_a D_b> of bonds, D = S_i . S_j, by displacement",
    "chiral_correlations": "<K_a K_b> of triangles, K = S_i . (S_j x S_k)",
    "total_spin": "<S^2> of the whole system",
    "bond_energies": "energy of every bond and site (terms by the sites they act on)",
    "symmetries": "<T> of translations, point group and spin flip in the state",
    "derivatives": "dE/dc of the couplings c, derivatives:J,h of these only",
    "renyi2": "Renyi-2 entropy; renyi2:0-3,8 of these sites, renyi2:blocks of the "
    "first 1, 2, ... N/2 sites; default the first half",
    "renyi2_ratio": "the same from pairs of walkers, region by region: large entropies",
    "lanczos": "energy after one Lanczos step",
}
#: Those that take an argument after a colon.
_WITH_ARGUMENT = ("derivatives", "renyi2", "renyi2_ratio")


class Request(NamedTuple):
    """One observable that is asked for.

    Attributes:
        text: as written; the name of the result.
        name: a key of `OBSERVABLES`, or "operator" for a user's own.
        argument: what follows the colon; of an operator the whole text.
    """

    text: str
    name: str
    argument: str


def parse(text: str) -> Request:
    """An observable from its text.

    Args:
        text: "name", "name:argument", "file.py:name" (a function that returns
            operators) or "terms.json" (a terms file).

    Raises:
        JobError: it is none of them.
    """
    text = text.strip()
    if ".py:" in text or text.endswith(".json"):
        return Request(text, "operator", text)
    name, colon, argument = text.partition(":")
    if name not in OBSERVABLES:
        raise JobError(
            f"unknown observable {text!r}{suggest(name, OBSERVABLES)} (your own "
            'operator is "file.py:name" or "terms.json")'
        )
    if colon and name not in _WITH_ARGUMENT:
        raise JobError(f"observable {text!r}: {name} takes no argument after a colon")
    if colon and not argument:
        raise JobError(f"observable {text!r}: nothing follows the colon")
    return Request(text, name, argument)


def sites_of(argument: str) -> list[int]:
    """Sites from a text such as "0-3,8".

    Raises:
        JobError: it is no list of sites.
    """
    sites: list[int] = []
    for part in argument.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise JobError(
                f'{argument!r} is no list of sites: expected numbers and ranges, as "0'
                '-3,8"'
            )
        start, stop = int(first), int(last) if dash else int(first)
        if stop < start:
            raise JobError(f"{argument!r}: the range {part.strip()} runs backwards")
        sites.extend(range(start, stop + 1))
    return sites


def split(text: str) -> list[str]:
    """Observables from a list with commas; commas inside an argument stay.

    >>> split("correlations,renyi2:0-3,8,derivatives:J,h")
    ['correlations', 'renyi2:0-3,8', 'derivatives:J,h']
    """
    found: list[str] = []
    for piece in text.split(","):
        name = piece.partition(":")[0].strip()
        starts = name in OBSERVABLES or ".py:" in piece or piece.endswith(".json")
        if not starts and found and found[-1].partition(":")[0] in _WITH_ARGUMENT:
            found[-1] += f",{piece.strip()}"
        else:
            found.append(piece.strip())
    return found
