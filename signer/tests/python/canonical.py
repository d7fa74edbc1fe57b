"""Prints the SHA-256 of securesystemslib's canonical form of each document: one JSON text a line on standard input."""

import hashlib
import json
import sys

from securesystemslib.formats import encode_canonical

for line in sys.stdin.buffer:
    canonical = encode_canonical(json.loads(line))
    print(hashlib.sha256(canonical.encode("utf-8")).hexdigest())
