"""madclip: the MadCLIP method in PyTorch. A few labelled images → a checkpoint.

Source of the method: MadCLIP, MICCAI 2025. Research use, not a medical device.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
