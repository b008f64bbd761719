"""When an option acts: what it needs beside its own value. One that is given in vain is an error, for it would be ignored."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from typing import Any

TERM = re.compile(r"(base|data|model|train)\.(\w+)(?:(!?)=([\w.|-]+))?")


@dataclass(frozen=True)
class Needs:
    """Beside ``Field`` in an option's annotation: ``Annotated[int, Field(ge=2, description="..."), Needs("model.reweight")]``.

    Args:
        others: the other options without which this one does nothing: ``model.reweight`` is set (not none, false, 0 or empty),
            ``model.search=ivf|hnsw`` has one of these values, ``data.range=null`` none, ``model.search!=exact`` another one.
            Of several joined by ``or`` one is enough, and of those joined by ``and`` each is needed.
        fitting: it acts in fitting alone, so that an evaluation of a finished run refuses it.
    """

    others: str = ""
    fitting: bool = False

    def __post_init__(self) -> None:
        if self.others and not all(TERM.fullmatch(term) for term in re.split(" and | or ", self.others)):
            raise ValueError(f"Needs({self.others!r}): expected terms such as model.reweight or model.search!=exact")

    def __str__(self) -> str:
        return "; ".join(
            [*([f"only with {self.others}"] if self.others else []), *(["in fitting alone"] if self.fitting else [])]
        )

    def lacking(self, config: Any) -> str:
        """The first part of ``others`` that does not hold in a config; empty if all do."""
        parts = self.others.split(" and ") if self.others else []
        return next((part for part in parts if not any(_holds(term, config) for term in part.split(" or "))), "")


def needs_of(cls: type[Any]) -> dict[str, Needs]:
    """What the options of a config dataclass need, by name; without those that act always."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {
        name: [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Needs)] for name, hint in hints.items()
    }
    return {name: needs[0] for name, needs in found.items() if needs}


def _holds(term: str, config: Any) -> bool:
    section, option, negated, values = typing.cast(re.Match[str], TERM.fullmatch(term)).groups()
    value = getattr(getattr(config, section), option, None)  # another component has no such option
    text = "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()
    return bool(value) if values is None else (text in values.split("|")) != bool(negated)
