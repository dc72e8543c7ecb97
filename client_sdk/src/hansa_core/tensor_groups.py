"""Which of a model's tensors a run shares, and with whom: personal, frozen, and by group.

A plan names tensors by patterns (shell-style, case matters: `layers.*.bn.*`). Of each tensor
exactly one of these is true:
- personal: it stays at the site, which keeps its own from round to round (FedBN, FedPer);
- frozen: nobody trains it, the global one stays as it is;
- of a declared group: trained by the sites that carry the group's labels, combined over these;
- shared by all: everything that no pattern names.

`partition` turns patterns into names, once, for the hub, the aggregator and the site alike.

Papers: Li et al. 2021, "FedBN"; Arivazhagan et al. 2019, "Federated Learning with Personalization
Layers"; groups are what layer freezing, adapters and fragments rest on.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa_core.layouts import Layout, TensorShape
from hansa_core.names import Name
from hansa_core.problems import TensorGroupsError

Pattern = Annotated[str, Field(min_length=1, max_length=512)]
Patterns = Annotated[list[Pattern], Field(max_length=1000)]

SHARED = ""  # the group of what no pattern names; no declared group can be called so

_LISTED = 3  # names in a message


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorGroupPlan(_Section):
    """Tensors that some sites train, and the sites that do."""

    name: Name = Field(description="what the group is called")
    tensors: Patterns = Field(min_length=1, description="patterns of the names of its tensors")
    labels: dict[str, str] = Field(
        default_factory=dict,
        max_length=32,
        description="sites that carry these labels hold the group; none: every site does",
    )


class TensorsPlan(_Section):
    """What is shared, with whom. The default shares every tensor with every site."""

    personal: Patterns = Field(default_factory=list, description="never leave a site")
    frozen: Patterns = Field(default_factory=list, description="trained by nobody")
    groups: list[TensorGroupPlan] = Field(
        default_factory=list[TensorGroupPlan],
        max_length=1000,
        description="trained by some of the sites alone",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError(f"groups share a name: {', '.join(sorted(names))}")
        return self

    def held_by(self, labels: dict[str, str]) -> list[str]:
        """Return the declared groups that a site with these labels holds, in the plan's order."""
        return [
            group.name
            for group in self.groups
            if all(labels.get(key) == value for key, value in group.labels.items())
        ]


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Tensors that the same sites hold."""

    name: str  # SHARED, or as declared
    tensors: tuple[TensorShape, ...]  # in canonical order


@dataclass(frozen=True, slots=True)
class Partition:
    """A model's tensors by what a run does with them; every tensor is in one place."""

    layout: Layout  # all of them
    groups: tuple[TensorGroup, ...]  # SHARED first, where it has any tensors; then as declared
    personal: frozenset[str]
    frozen: frozenset[str]

    def upload_layout(self, held: Collection[str]) -> Layout:
        """Return what a site that holds these declared groups uploads.

        Raises TensorGroupsError for a group that was not declared, or if nothing is left.
        """
        unknown = sorted(set(held) - {group.name for group in self.groups})
        if unknown:
            raise TensorGroupsError(f"there is no tensor group {unknown[0]!r} in this run")
        chosen = [it for it in self.groups if it.name == SHARED or it.name in held]
        if not chosen:
            raise TensorGroupsError("a site that holds no tensor group has nothing to upload")
        return Layout(tuple(tensor for group in chosen for tensor in group.tensors))


def partition(layout: Layout, plan: TensorsPlan) -> Partition:
    """Sort a model's tensors.

    Raises TensorGroupsError for a pattern that names no tensor, a tensor that two sections name,
    or a plan that leaves nothing to train.
    """
    claims: dict[str, str] = {}  # tensor name to the section that names it
    names = [tensor.name for tensor in layout.tensors]
    personal = _claim(names, plan.personal, "personal", claims)
    frozen = _claim(names, plan.frozen, "frozen", claims)
    declared = [
        (group.name, _claim(names, group.tensors, f"group {group.name!r}", claims))
        for group in plan.groups
    ]
    shared = frozenset(name for name in names if name not in claims)
    kept = [(SHARED, shared), *declared] if shared else declared
    if names and not kept:
        raise TensorGroupsError("every tensor is personal or frozen: there is nothing to train")
    groups = tuple(
        TensorGroup(name, tuple(tensor for tensor in layout.tensors if tensor.name in members))
        for name, members in kept
    )
    return Partition(layout, groups, personal, frozen)


def _claim(
    names: Sequence[str], patterns: Iterable[str], section: str, claims: dict[str, str]
) -> frozenset[str]:
    """Return the tensors that the patterns of one section name; note them in `claims`."""
    claimed: set[str] = set()
    for pattern in patterns:
        found = list(filter(_matcher(pattern), names))
        if not found:
            raise TensorGroupsError(
                f"{section}: {pattern!r} matches no tensor; there are {_brief(names)}"
            )
        claimed.update(found)
    for name in claimed:
        other = claims.setdefault(name, section)
        if other != section:
            raise TensorGroupsError(f"tensor {name!r} is both {other} and {section}")
    return frozenset(claimed)


def _matcher(pattern: str) -> Callable[[str], bool]:
    return lambda name: fnmatchcase(name, pattern)


def _brief(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown
