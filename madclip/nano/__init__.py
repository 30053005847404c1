"""The encoder inside the package: its shape (nano.json), its weights (nano.safetensors), and how they were learned.

textures, pictures and views make images, distil teaches the image tower, captions the text tower; docs/nano.md tells
with what and how well. Nothing here is needed to use the encoder: madclip.encoder only reads the two files.
"""
