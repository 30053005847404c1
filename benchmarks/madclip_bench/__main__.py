"""`python -m madclip_bench` is `madclip-bench`."""

import sys

from madclip_bench.cli import main

sys.exit(main())
