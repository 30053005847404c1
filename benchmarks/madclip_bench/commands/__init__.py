"""One file a command: from parsed arguments to an exit code. stdout is data, its last line one JSON document."""
