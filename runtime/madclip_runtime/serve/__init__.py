"""`madclip-run --serve`: the runtime behind HTTP, with a viewer page. Loopback unless somebody asked for more.

What this package knows of a bundle it learns from the Detector; what it does not know: studies, PACS (see node).
Imported only by --serve. docs/service.md says what it answers.
"""
