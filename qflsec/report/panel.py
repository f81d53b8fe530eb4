"""Panels: the sections of a report's page, each a plugin of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

__all__ = ["Panel"]


class Panel(ABC):
    """One section of the page.

    A panel is registered by ``@register("panel", "name")``. Its docstring begins with one line that says what it
    shows. It states nothing that the result does not hold, and changes nothing.

    Attributes:
        title: The section's heading.
        order: Where it stands: panels of lower order come first. Those of the package have multiples of five.
    """

    title: ClassVar[str]
    order: ClassVar[float] = 100.0

    @abstractmethod
    def applies(self, result: object) -> bool:
        """Whether the panel has something to show of this result."""

    @abstractmethod
    def render(self, result: Any) -> str:  # noqa: ANN401 - ``applies`` says which kinds of results it takes
        """The section's content as HTML, without its heading.

        Names, reasons and sentences may come from the user: they must be escaped, as :mod:`qflsec.report.html`
        does. Whatever is raised here is shown in the section's place, and the other panels stand.
        """
