"""The JSON Schema of a run's plan, good enough to make a form from.

Every field has a title, a description and, unless it is required, its default; strategies, those of
other packages too, and codecs are told apart by `name`. What fields need of each other is not in
it: `parse_plan` says that.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hansa_core.plans import RunPlan

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TITLES = {  # of fields whose name alone is no title
    "mu": "Mu",
    "lr": "Learning rate",
    "server_lr": "Server learning rate",
    "cpus": "CPUs",
    "gpus": "GPUs",
    "memory_gib": "Memory (GiB)",
    "round_seconds": "Round deadline (seconds)",
    "setup_seconds": "Set-up (seconds)",
    "opening_seconds": "Opening (seconds)",
    "seconds": "Time (seconds)",
    "bytes": "Traffic (bytes)",
    "min_delta": "Least gain",
    "over_select": "Over-selection",
    "byzantine": "Byzantine sites",
    "root": "Root site",
    "at_sites": "At the sites",
    "suite": "Cipher of the masks",
    "q": "Fairness (q)",
    "lipschitz": "Lipschitz constant (L)",
    "tau": "Adaptivity (tau)",
    "beta1": "Beta 1",
    "beta2": "Beta 2",
}


@dataclass(frozen=True, slots=True)
class PlanSchema:
    """The schema as JSON, and what it is known by."""

    body: bytes
    digest: str  # SHA-256 of the body, lower-case hex


@lru_cache
def plan_schema() -> PlanSchema:
    """Return the schema of a plan with the strategies and codecs that are installed."""
    schema = RunPlan.model_json_schema(mode="validation", schema_generator=_Generator)
    body = json.dumps({"$schema": DRAFT, **schema}, separators=(",", ":")).encode()
    return PlanSchema(body, hashlib.sha256(body).hexdigest())


class _Generator(GenerateJsonSchema):
    """Pydantic's, with defaults that are made by a factory, and titles for people."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Take what a factory makes for a default that stands in the class."""
        factory = schema.get("default_factory")
        if factory is not None and not schema.get("default_factory_takes_data"):
            made = cast("Any", factory)()
            schema = cast("core_schema.WithDefaultSchema", {**schema, "default": made})
        return super().default_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Give a section and its fields their titles, and its description in one line."""
        made = super().model_schema(schema)
        made["title"] = _section_title(schema["cls"])
        if "description" in made:
            made["description"] = " ".join(str(made["description"]).split())
        fields = cast("Mapping[str, dict[str, Any]]", made.get("properties", {}))
        for name, field in fields.items():
            field["title"] = _field_title(name)
        return made

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """Give an enumeration a title for people."""
        return {**super().enum_schema(schema), "title": _spaced(schema["cls"].__name__)}

    def get_title_from_name(self, name: str) -> str:
        """Return a field's title."""
        return _field_title(name)


def _field_title(name: str) -> str:
    """Return a field's title for people: "Min sites" of "min_sites"."""
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def _section_title(section: type[Any]) -> str:
    """Return a section's title: its name, if it has one of its own, or its class's in words."""
    field = section.model_fields.get("name")
    words = getattr(getattr(field, "annotation", None), "__args__", ())
    if len(words) == 1:
        return str(words[0])
    return _spaced(section.__name__.removesuffix("Plan") or section.__name__)


def _spaced(name: str) -> str:
    """Return a class's name in words."""
    return "".join(f" {it}" if it.isupper() else it for it in name).strip().capitalize()
