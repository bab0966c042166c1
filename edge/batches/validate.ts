import { hash } from 'node:crypto';
import {
  type BatchEndpoint,
  type BatchError,
  MAX_BATCH_LINES,
} from '../../shared/protocol/batch.ts';
import { LineError, parseLine } from './line-request.ts';
import type { Line } from './lines.ts';

/** Errors that are listed; a file with more is no better told. */
const MAX_ERRORS = 100;

export interface Validation {
  readonly numLines: number;
  readonly errors: readonly BatchError[];
}

/** Reads the whole input once, in memory that does not depend on its length. */
export async function validate(
  lines: AsyncIterable<Line>,
  endpoint: BatchEndpoint,
): Promise<Validation> {
  const errors: BatchError[] = [];
  const seen = new SeenIds();
  let numLines = 0;
  for await (const line of lines) {
    numLines += 1;
    if (numLines > MAX_BATCH_LINES) {
      const message = `the file has more lines; the limit is ${MAX_BATCH_LINES}`;
      errors.push({ code: 'too_many_lines', line: line.number, message, param: null });
      break;
    }
    const error = faultOf(line, endpoint, seen);
    if (error !== null) errors.push({ ...error, line: line.number });
    if (errors.length >= MAX_ERRORS) break;
  }
  if (numLines === 0) {
    errors.push({ code: 'empty_file', line: null, message: 'the file has no line', param: null });
  }
  return { numLines, errors };
}

function faultOf(
  line: Line,
  endpoint: BatchEndpoint,
  seen: SeenIds,
): Omit<BatchError, 'line'> | null {
  try {
    const { customId } = parseLine(line, endpoint);
    if (seen.add(customId)) return null;
    const message = `custom_id ${JSON.stringify(customId.slice(0, 80))} is that of a line before; each must have its own`;
    return { code: 'duplicate_custom_id', message, param: 'custom_id' };
  } catch (error) {
    if (!(error instanceof LineError)) throw error;
    return { code: error.code, message: error.message, param: error.param };
  }
}

/** More than twice the lines there can be, so that a free place is near. */
const CAPACITY = 2 ** 17;

/** A set of ids by 64 bits of their digests, of a size that does not grow: 1 MiB. */
class SeenIds {
  readonly #digests = new BigUint64Array(CAPACITY);

  /** @returns whether it is new */
  add(id: string): boolean {
    const digest = hash('sha256', id, 'buffer').readBigUInt64LE() || 1n; // 0 is a free place
    let place = Number(digest % BigInt(CAPACITY));
    for (; this.#digests[place] !== 0n; place = (place + 1) % CAPACITY) {
      if (this.#digests[place] === digest) return false;
    }
    this.#digests[place] = digest;
    return true;
  }
}
