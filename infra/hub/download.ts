import { createHash, type Hash } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { authorization, type Hub, type HubFile } from './repository.ts';

/** Tries without a single new byte after which a download is given up. */
const MAX_TRIES = 5;
const RETRY_MS = 500;

/** Is told how much of a file there is. */
export type OnProgress = (file: HubFile, numBytes: number) => void;

/**
 * Fetches a file to `path`. What a try before left, in this run or another, is gone on with; only
 * a file that has the listed digest gets its name.
 *
 * @returns whether anything had to be fetched
 * @throws {Error} saying in a line what came instead of the file
 */
export async function download(
  hub: Hub,
  file: HubFile,
  { path, onProgress }: { readonly path: string; readonly onProgress: OnProgress },
): Promise<boolean> {
  if (existsSync(path) && (await digestOf(file, path)) === file.digest.hex) return false;
  const partial = `${path}.part`;
  await mkdir(dirname(path), { recursive: true });
  let numTries = 0;
  for (let numBytes = sizeOf(partial); numBytes < file.numBytes; ) {
    const before = numBytes;
    const failure = await fetchRest(hub, file, partial, onProgress).catch(
      (error: unknown) => error,
    );
    numBytes = sizeOf(partial);
    numTries = numBytes > before ? 0 : numTries + 1;
    if (failure instanceof Refusal) throw failure;
    if (failure === undefined) continue;
    if (numTries >= MAX_TRIES) throw new Error(`${file.url} cannot be fetched`, { cause: failure });
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS * numTries));
  }
  if (file.numBytes === 0) await (await open(partial, 'w')).close();
  if ((await digestOf(file, partial)) !== file.digest.hex) {
    await rm(partial, { force: true });
    throw new Error(`${file.url} has not the digest that the hub lists for it; try again`);
  }
  await rename(partial, path);
  return true;
}

/** An answer that will be the same next time. */
class Refusal extends Error {}

function sizeOf(path: string): number {
  return existsSync(path) ? statSync(path).size : 0;
}

/** Fetches what is missing behind the bytes that are there. */
async function fetchRest(hub: Hub, file: HubFile, partial: string, onProgress: OnProgress) {
  let numBytes = sizeOf(partial);
  const range: Record<string, string> = numBytes > 0 ? { range: `bytes=${numBytes}-` } : {};
  const headers = { ...authorization(hub), ...range, 'accept-encoding': 'identity' };
  const response = await fetch(file.url, { headers });
  if (response.status >= 400 && response.status < 500 && response.status !== 429) {
    throw new Refusal(`${file.url} answered ${response.status}`);
  }
  if (!response.ok || response.body === null) throw new Error(`it answered ${response.status}`);
  if (response.status !== 206) numBytes = 0; // the whole, whatever was asked for
  const handle = await open(partial, numBytes === 0 ? 'w' : 'a');
  try {
    for await (const bytes of response.body) {
      await writeAll(handle, bytes);
      numBytes += bytes.length;
      if (numBytes > file.numBytes) break; // the digest will tell
      onProgress(file, numBytes);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let start = 0; start < bytes.length; ) {
    start += (await handle.write(bytes, start)).bytesWritten;
  }
}

async function digestOf({ digest }: HubFile, path: string): Promise<string> {
  const hash = digest.algorithm === 'sha256' ? createHash('sha256') : gitHash(sizeOf(path));
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(bytes);
  return hash.digest('hex');
}

/** Git names a blob by its bytes behind a header. */
function gitHash(numBytes: number): Hash {
  return createHash('sha1').update(`blob ${numBytes}\0`);
}
