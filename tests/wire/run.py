#!/usr/bin/env python3
"""The wire test: PICCOLO as a generic gRPC client sees it, in another language than PICCOLO's.

`cargo xtask test` runs it. By hand, after `cargo xtask setup` and `cargo build --workspace --bins`:

    PICCOLO_BIN_DIR=target/debug target/tools/python/bin/python tests/wire/run.py [PATTERN]

The client knows the HLD's §7.1, and of the token and the certificate what proto/ says beside
`Credentials`. Its code is generated from proto/ into a temporary folder at each run.
"""

import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))


def main() -> int:
    import generate

    with tempfile.TemporaryDirectory(prefix="piccolo-wire-") as generated:
        generate.into(Path(generated))
        sys.path.insert(0, generated)
        loader = unittest.TestLoader()
        if len(sys.argv) > 1:
            loader.testNamePatterns = [f"*{pattern}*" for pattern in sys.argv[1:]]
        suite = loader.discover(str(HERE), pattern="test_*.py")
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    print(f"wire: {result.testsRun - failed} passed, {failed} failed")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
