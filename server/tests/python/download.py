"""Downloads one target with python-tuf, the reference client, from a running Sluice server.

Usage: download.py METADATA_URL TARGETS_URL FOLDER ROOT_FILE TARGET_PATH [TOKEN]

Prints one line of JSON: the path of the verified file and what was signed about it, that no role lists it, or why the
client refused.
"""

import json
import os
import sys
import urllib.error
import urllib.request

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.ngclient import FetcherInterface, Updater


class Fetcher(FetcherInterface):
    """Fetches with a bearer token, which the stock fetcher cannot send."""

    def __init__(self, token):
        super().__init__()
        self.token = token

    def _fetch(self, url):
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            raise DownloadHTTPError(str(error), error.code) from error
        return iter(lambda: response.read(65536), b"")


def main(metadata_url, targets_url, folder, root_file, target_path, token=None):
    metadata, targets = os.path.join(folder, "metadata"), os.path.join(folder, "targets")
    os.makedirs(metadata, exist_ok=True)
    os.makedirs(targets, exist_ok=True)
    with open(root_file, "rb") as file:
        root = file.read()
    updater = Updater(
        metadata_dir=metadata,
        metadata_base_url=metadata_url,
        target_dir=targets,
        target_base_url=targets_url,
        fetcher=Fetcher(token) if token else None,
        bootstrap=root,
    )
    try:
        updater.refresh()
        info = updater.get_targetinfo(target_path)
        if info is None:
            return {"missing": target_path}
        file = updater.download_target(info)
        with open(os.path.join(metadata, "root.json"), "rb") as kept:
            version = json.load(kept)["signed"]["version"]
        return {"file": file, "custom": info.unrecognized_fields["custom"], "root": version}
    except (DownloadError, RepositoryError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
