import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { endianness } from 'node:os';
import { basename } from 'node:path';
import { z } from 'zod';
import { invariant } from '../../shared/assert.ts';
import { ModelError } from './model-error.ts';

const BYTES_PER_ELEMENT = { F32: 4, F16: 2, BF16: 2 } as const;
type DType = keyof typeof BYTES_PER_ELEMENT;

const MAX_HEADER_BYTES = 100_000_000; // the format's own limit
const MAX_READ_BYTES = 2 ** 30; // one read() takes less than 2 GiB

const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Offset in the file. */
  readonly start: number;
  readonly numBytes: number;
}

/**
 * Tensors of one safetensors file, by name. Numbers are read when asked for, as float32 whatever
 * they are stored as.
 */
export class SafetensorsFile {
  readonly path: string;
  readonly #file: number;
  readonly #entries: ReadonlyMap<string, Entry>;

  /** @throws {ModelError} when the file is missing, truncated or not safetensors */
  constructor(path: string) {
    this.path = path;
    this.#file = openFile(path);
    try {
      this.#entries = readHeader(path, this.#file);
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  get names(): string[] {
    return [...this.#entries.keys()];
  }

  shapeOf(name: string): readonly number[] | null {
    return this.#entries.get(name)?.shape ?? null;
  }

  /** How the tensor's numbers are stored: `BF16`. */
  typeOf(name: string): string {
    return this.#entryOf(name).dtype;
  }

  /** How many numbers the tensor has. */
  sizeOf(name: string): number {
    return this.#entryOf(name).shape.reduce((product, dim) => product * dim, 1);
  }

  /** @throws {ModelError} when the tensor's type is not F32, F16 or BF16 */
  read(name: string): Float32Array {
    const entry = this.#entryOf(name);
    if (!isFloatType(entry.dtype)) {
      throw new ModelError(
        `${this.path}: tensor ${name} is ${entry.dtype}; supported are F32, F16 and BF16`,
      );
    }
    const bytes = readBytes(this.path, this.#file, entry);
    if (entry.dtype === 'F32') return new Float32Array(bytes.buffer);
    const halves = new Uint16Array(bytes.buffer);
    return entry.dtype === 'BF16' ? widenBfloat16(halves) : widenFloat16(halves);
  }

  close(): void {
    closeSync(this.#file);
  }

  #entryOf(name: string): Entry {
    const entry = this.#entries.get(name);
    invariant(entry !== undefined, `${basename(this.path)} has no tensor ${name}`);
    return entry;
  }
}

function isFloatType(dtype: string): dtype is DType {
  return dtype in BYTES_PER_ELEMENT;
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new ModelError(`${path} cannot be read; is the model directory complete?`, { cause });
  }
}

function readHeader(path: string, file: number): Map<string, Entry> {
  const fileBytes = statSync(path).size;
  if (fileBytes < 8) throw truncated(path, fileBytes, 8);
  const lengthField = readBytes(path, file, { start: 0, numBytes: 8 });
  const headerBytes = Number(new DataView(lengthField.buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new ModelError(
      `${path} is not a safetensors file: its header claims ${headerBytes} bytes; download it again`,
    );
  }
  if (fileBytes < 8 + headerBytes) throw truncated(path, fileBytes, 8 + headerBytes);

  const header = parseHeader(path, readBytes(path, file, { start: 8, numBytes: headerBytes }));
  const entries = new Map<string, Entry>();
  let end = 8 + headerBytes;
  for (const [name, { dtype, shape, data_offsets: offsets }] of header) {
    const numBytes = offsets[1] - offsets[0];
    const numElements = shape.reduce((product, dim) => product * dim, 1);
    if (isFloatType(dtype) && numBytes !== numElements * BYTES_PER_ELEMENT[dtype]) {
      throw new ModelError(
        `${path} is corrupt: tensor ${name} of shape [${shape}] as ${dtype} needs ` +
          `${numElements * BYTES_PER_ELEMENT[dtype]} bytes, the header gives it ${numBytes}; ` +
          'download it again',
      );
    }
    entries.set(name, { dtype, shape, start: 8 + headerBytes + offsets[0], numBytes });
    end = Math.max(end, 8 + headerBytes + offsets[1]);
  }
  if (fileBytes < end) throw truncated(path, fileBytes, end);
  return entries;
}

function parseHeader(path: string, bytes: Uint8Array): [string, z.infer<typeof entrySchema>][] {
  try {
    const { __metadata__: _, ...tensors } = z
      .record(z.string(), z.unknown())
      .parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
    return Object.entries(z.record(z.string(), entrySchema).parse(tensors));
  } catch (cause) {
    throw new ModelError(`${path} is corrupt: unreadable header; download it again`, { cause });
  }
}

function truncated(path: string, actual: number, expected: number): ModelError {
  return new ModelError(`${path} is truncated: ${actual} bytes of ${expected}; download it again`);
}

function readBytes(
  path: string,
  file: number,
  { start, numBytes }: { start: number; numBytes: number },
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(numBytes);
  let done = 0;
  while (done < numBytes) {
    const length = Math.min(numBytes - done, MAX_READ_BYTES);
    const numRead = readSync(file, bytes, done, length, start + done);
    if (numRead === 0) throw truncated(path, start + done, start + numBytes);
    done += numRead;
  }
  return bytes;
}

/** A bfloat16 is the upper half of a float32. */
function widenBfloat16(halves: Uint16Array): Float32Array {
  const floats = new Float32Array(halves.length);
  const bits = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i += 1) bits[i] = halves[i]! << 16;
  return floats;
}

function widenFloat16(halves: Uint16Array): Float32Array {
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i += 1) floats[i] = toFloat(halves[i]!);
  return floats;
}

/** IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits. */
function toFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// The file's numbers are little-endian and are viewed in place.
invariant(endianness() === 'LE', 'safetensors are read on little-endian machines only');
