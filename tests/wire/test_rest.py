"""The REST API against its own document: no answer that is not in it, and no fault of the master.

What is asked is made up by schemathesis out of the document, good and bad, with and without conditions. Watches are left
out: they do not end.
"""

import json
import subprocess
import sys
import unittest
from pathlib import Path

import yaml

from cluster import Master

# Seconds for what is made up at random; examples and edges of every parameter come before.
MADE_UP_FOR = 30
# Seconds for all of it.
ALL_WITHIN = 180
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]


class Rest(unittest.TestCase):
    def test_the_document_says_everything_that_is_answered(self):
        with Master() as master:
            context = yaml.safe_load(master.context_file().read_text())
            (master.folder / "ca").write_text(context["ca"])
            made = master.json("api-token", "create", "schemathesis", "--role", "admin")
            command = [Path(sys.executable).parent / "schemathesis", "run"]
            command += [f"https://{master.https}/api/v1/openapi.json", "--no-color", "--seed", "1"]
            command += ["--tls-verify", master.folder / "ca", "--max-time", str(MADE_UP_FOR)]
            command += ["--header", f"Authorization: Bearer {made['token']}"]
            # who guesses tokens, as signing in at random does, is locked out
            command += ["--exclude-tag", "watches", "--exclude-operation-id", "sign_in"]
            command += ["--checks", ",".join(CHECKS)]
            asked = master.folder / "asked.har"
            command += ["--report", "har", "--report-har-path", asked]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=master.folder,
                timeout=ALL_WITHIN,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stdout[-20_000:])
            entries = json.loads(asked.read_text())["log"]["entries"]
            answered = {entry["response"]["status"] for entry in entries}
            # conditions are among what was tried: one that holds, and one that does not
            self.assertLessEqual({200, 304, 400, 404, 412, 422}, answered)
            self.assertTrue(master.is_alive(), master.log.read_text()[-5_000:])
