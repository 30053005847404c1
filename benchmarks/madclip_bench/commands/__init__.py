"""One file a command: from parsed arguments to an exit code. stdout is data, its last line one JSON document."""

EXIT_NO = 1
"""The command did its work and the answer is no: an edited report, a gate that does not hold."""
