import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { z } from 'zod';

const SEAL_FILE = 'complete.json';
const READ_BYTES = 2 ** 22;

/** CRC-32 of each file, and how many bytes it has: a look at these says no at no cost. */
const sealSchema = z.record(z.string(), z.object({ numBytes: z.int(), crc32: z.int() }));

/**
 * Writes beside the files of a directory what they are, once they are on the disk: after a crash,
 * of the machine too, a directory without its seal is not complete.
 */
export function seal(directory: string, names: readonly string[]): void {
  const files = names.map((name) => {
    const path = join(directory, name);
    sync(path);
    return [name, { numBytes: statSync(path).size, crc32: checksumOf(path) }] as const;
  });
  writeFileSync(join(directory, SEAL_FILE), JSON.stringify(Object.fromEntries(files)));
  sync(join(directory, SEAL_FILE));
  sync(directory);
}

/** Whether the files of a directory are those that were sealed, to the last byte. */
export function isSealed(directory: string): boolean {
  const path = join(directory, SEAL_FILE);
  if (!existsSync(path)) return false;
  const known = sealSchema.safeParse(parseJson(readFileSync(path, 'utf8')));
  if (!known.success) return false;
  const files = Object.entries(known.data);
  const bytesOf = (name: string) =>
    statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? -1;
  return (
    files.every(([name, { numBytes }]) => bytesOf(name) === numBytes) &&
    files.every(([name, file]) => checksumOf(join(directory, name)) === file.crc32)
  );
}

function checksumOf(path: string): number {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(READ_BYTES);
    let checksum = 0;
    for (;;) {
      const numRead = readSync(file, bytes);
      if (numRead === 0) return checksum;
      checksum = crc32(bytes.subarray(0, numRead), checksum);
    }
  } finally {
    closeSync(file);
  }
}

/** Waits until a file, or the names in a directory, are on the disk. */
function sync(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // cut short by a crash
  }
}
