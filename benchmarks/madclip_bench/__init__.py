"""madclip's bench: bundle + machine → a latency report others can re-run. It never imports torch.

Research use, not a medical device.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
