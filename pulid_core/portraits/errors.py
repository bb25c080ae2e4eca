"""What goes wrong with a table, a graph, a portrait or a painter."""

from ..errors import PulidError


class PortraitsError(PulidError):
    """The table, the graph or the options cannot be used; nothing was painted."""


class PortraitError(PulidError):
    """One portrait failed where it was painted; another painter may manage it."""


class PainterLostError(PulidError):
    """A painter can paint nothing more; its portrait belongs to the others."""
