// Downloads one target with tuf-js from a running Sluice server.
//
// Usage: SLUICE_TEST_NODE=FOLDER_WITH_NODE_MODULES node download.mjs METADATA_URL TARGETS_URL FOLDER ROOT_FILE TARGET_PATH [TOKEN]
//
// Prints one line of JSON: the path of the verified file and what was signed about it, that no role lists it, or why the
// client refused.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

// The packages are installed outside of the sources, so they are not found by the place of this file.
const require = createRequire(path.join(process.env.SLUICE_TEST_NODE, "package.json"));
const { Updater } = require("tuf-js");

/** Lets every request carry a bearer token. A fetcher of our own could not tell tuf-js that a root does not exist. */
function sendToken(token) {
  const plain = globalThis.fetch;
  globalThis.fetch = (url, options) =>
    plain(url, { ...options, headers: { ...options.headers, Authorization: `Bearer ${token}` } });
}

async function download(metadataBaseUrl, targetBaseUrl, folder, rootFile, targetPath, token) {
  const metadataDir = path.join(folder, "metadata");
  const targetDir = path.join(folder, "targets");
  fs.mkdirSync(metadataDir, { recursive: true });
  fs.mkdirSync(targetDir, { recursive: true });
  const root = path.join(metadataDir, "root.json");
  if (!fs.existsSync(root)) {
    fs.copyFileSync(rootFile, root);
  }
  if (token) {
    sendToken(token);
  }
  const updater = new Updater({ metadataDir, metadataBaseUrl, targetDir, targetBaseUrl });
  try {
    await updater.refresh();
    const info = await updater.getTargetInfo(targetPath);
    if (info === undefined) {
      return { missing: targetPath };
    }
    const file = await updater.downloadTarget(info);
    return { file, custom: info.custom, root: JSON.parse(fs.readFileSync(root)).signed.version };
  } catch (error) {
    return { refused: `${error.name}: ${error.message}` };
  }
}

console.log(JSON.stringify(await download(...process.argv.slice(2))));
