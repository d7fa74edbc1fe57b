"""Walks a repository from its first root to one target with python-tuf, and says what that took.

Usage: cold.py BASE_URL FOLDER ROOT_FILE TARGET_PATH

Prints one line of JSON: requests, bytes of documents, seconds and processor seconds; starting the interpreter and loading
the library are not counted.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class Counting(FetcherInterface):
    """Fetches and counts."""

    def __init__(self):
        super().__init__()
        self.requests = self.bytes = 0

    def _fetch(self, url):
        self.requests += 1
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            raise DownloadHTTPError(str(error), error.code) from error
        self.bytes += len(body)
        return iter([body])


def main(base, folder, root_file, target_path):
    with open(root_file, "rb") as file:
        root = file.read()
    metadata = os.path.join(folder, "metadata")
    os.makedirs(metadata, exist_ok=True)
    fetcher = Counting()
    wall, cpu = time.perf_counter(), time.process_time()
    updater = Updater(
        metadata_dir=metadata,
        metadata_base_url=f"{base}/metadata/",
        target_dir=folder,
        target_base_url=f"{base}/targets/",
        fetcher=fetcher,
        bootstrap=root,
    )
    updater.refresh()
    info = updater.get_targetinfo(target_path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "requests": fetcher.requests,
        "bytes": fetcher.bytes,
        "seconds": wall,
        "cpu_seconds": cpu,
        "sha256": info.hashes["sha256"] if info else None,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
