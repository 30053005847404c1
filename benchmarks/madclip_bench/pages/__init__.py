"""A report as people read it: terminal, Markdown, CSV, one HTML page; made from the JSON and nothing else."""
