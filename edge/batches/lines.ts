import { FILE_CHUNK_BYTES } from '../../shared/protocol/file.ts';
import type { FileStore } from '../transport/files.ts';

/** A line of the input, without its end. */
export interface Line {
  /** Counted from 1, blank lines included. */
  readonly number: number;
  /** `null` for one that is too long to be kept. */
  readonly text: string | null;
  /** Where the next one begins. */
  readonly end: number;
}

export interface Place {
  /** Lines that lie before. */
  readonly nextLine: number;
  readonly byteOffset: number;
}

const LINE_FEED = 0x0a;

/** An uploaded file from a byte on, as its pieces come. */
export async function* bytesFrom(
  files: Pick<FileStore, 'read'>,
  id: string,
  byteOffset: number,
): AsyncGenerator<Uint8Array> {
  let next = Math.floor(byteOffset / FILE_CHUNK_BYTES);
  let skip = byteOffset % FILE_CHUNK_BYTES;
  for (;;) {
    const pieces = await files.read(id, next);
    if (pieces.length === 0) return;
    next += pieces.length;
    for (const piece of pieces) {
      yield piece.subarray(skip);
      skip = 0;
    }
  }
}

/** Cuts bytes into lines that are not blank; never more than one line and one piece are kept. */
export async function* linesOf(
  pieces: AsyncIterable<Uint8Array>,
  { nextLine, byteOffset }: Place,
  maxBytes: number,
): AsyncGenerator<Line> {
  let number = nextLine + 1;
  let end = byteOffset;
  const rest = new PartialLine(maxBytes);
  for await (const piece of pieces) {
    for (let start = 0; start < piece.length; ) {
      const feed = piece.indexOf(LINE_FEED, start);
      const stop = feed < 0 ? piece.length : feed;
      rest.add(piece.subarray(start, stop));
      end += stop - start;
      start = stop;
      if (feed < 0) break;
      end += 1;
      start += 1;
      const text = rest.take();
      if (text === null || text.trim() !== '') yield { number, text, end };
      number += 1;
    }
  }
  const text = rest.take();
  if (text === null || text.trim() !== '') yield { number, text, end };
}

/** A line as far as it has come. */
class PartialLine {
  readonly #maxBytes: number;
  #pieces: Uint8Array[] = [];
  #numBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(bytes: Uint8Array): void {
    this.#numBytes += bytes.length;
    if (this.#numBytes > this.#maxBytes) this.#pieces = [];
    else this.#pieces.push(bytes);
  }

  take(): string | null {
    const isTooLong = this.#numBytes > this.#maxBytes;
    const decoder = new TextDecoder();
    const text = this.#pieces.map((piece) => decoder.decode(piece, { stream: true })).join('');
    this.#pieces = [];
    this.#numBytes = 0;
    return isTooLong ? null : text + decoder.decode();
  }
}
