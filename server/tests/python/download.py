"""Downloads one target with python-tuf, the reference client, from a running Sluice server.

Usage: download.py BASE_URL FOLDER ROOT_FILE TARGET_PATH [TOKEN]

Prints one line of JSON: the path of the file and the versions of the documents that vouched for it, or the HTTP status
with which the server refused.
"""

import json
import os
import sys
import urllib.error
import urllib.request

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class Fetcher(FetcherInterface):
    """Fetches with a bearer token when there is one."""

    def __init__(self, token):
        super().__init__()
        self.token = token

    def _fetch(self, url):
        request = urllib.request.Request(url)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            raise DownloadHTTPError(str(error), error.code) from error
        return iter(lambda: response.read(65536), b"")


def main(base, folder, root_file, target_path, token=None):
    metadata, targets = os.path.join(folder, "metadata"), os.path.join(folder, "targets")
    os.makedirs(metadata, exist_ok=True)
    os.makedirs(targets, exist_ok=True)
    with open(root_file, "rb") as file:
        root = file.read()
    updater = Updater(
        metadata_dir=metadata,
        metadata_base_url=f"{base}/metadata/",
        target_dir=targets,
        target_base_url=f"{base}/targets/",
        fetcher=Fetcher(token),
        bootstrap=root,
    )
    try:
        updater.refresh()
        info = updater.get_targetinfo(target_path)
        if info is None:
            return {"missing": target_path}
        return {
            "file": updater.download_target(info),
            "custom": info.unrecognized_fields["custom"],
            "metadata": sorted(name for name in os.listdir(metadata) if name.endswith(".json")),
        }
    except DownloadHTTPError as error:
        return {"status": error.status_code}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
