import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';

/**
 * Names what is in some files: sha256 over the names and bytes of each, in order.
 *
 * @returns 64 hexadecimal digits
 */
export async function digestFiles(paths: readonly string[]): Promise<string> {
  const whole = createHash('sha256');
  for (const path of paths) {
    const part = createHash('sha256');
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), part);
    whole.update(`${basename(path)}\n${part.digest('hex')}\n`);
  }
  return whole.digest('hex');
}
