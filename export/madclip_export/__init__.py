"""madclip's export: checkpoint → one fused graph, proven equal to the checkpoint → bundle."""

__version__ = "0.1.0"
__all__ = ["__version__"]
