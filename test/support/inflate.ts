import { createHash } from 'node:crypto';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { invariant } from '../../shared/assert.ts';
import { type Checkpoint, openCheckpoint } from '../../worker/model/checkpoint.ts';
import { type InflatedTensor, inflatedTensors } from './inflated-tensors.ts';

/** Raised with every change of what is written, so that older directories are not used. */
const VERSION = 1;

/** What a checkpoint is inflated to. Head dimension and group size stay the checkpoint's own. */
export interface InflatedShape {
  readonly numLayers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHeads: number;
  readonly vocabSize: number;
}

/** 110 million parameters: a small GPT's depth and width, and the vocabulary of the first Llama. */
export const INFLATED_TARGET: InflatedShape = {
  numLayers: 12,
  hiddenSize: 768,
  intermediateSize: 2304,
  numHeads: 24, // of 32 each
  vocabSize: 32_000,
};

/** 16 million parameters, the target's 15 percent; most of them read the same vocabulary. */
export const INFLATED_DRAFT: InflatedShape = {
  numLayers: 2,
  hiddenSize: 384,
  intermediateSize: 1024,
  numHeads: 12,
  vocabSize: 32_000,
};

/**
 * Writes a Llama checkpoint that computes the same function in a larger model, unless it is there
 * already: so a benchmark can have the text and the acceptance of a small pair at the cost of a
 * large one.
 *
 * @returns the directory, named after the original's
 */
export function inflate(modelDir: string, shape: InflatedShape, cacheDir: string): string {
  const checkpoint = openCheckpoint(modelDir);
  try {
    const inflatedDir = join(cacheDir, 'inflated');
    const directory = join(inflatedDir, keyOf(checkpoint, shape));
    const name = `${checkpoint.name}-inflated`;
    if (!existsSync(directory)) write(checkpoint, shape, { inflatedDir, directory, name });
    return join(directory, name);
  } finally {
    checkpoint.weights.close();
  }
}

function keyOf({ paths }: Checkpoint, shape: InflatedShape): string {
  const hash = createHash('sha256').update(JSON.stringify([VERSION, shape]));
  for (const path of paths) hash.update(basename(path)).update(readFileSync(path));
  return hash.digest('hex').slice(0, 16);
}

interface Places {
  readonly inflatedDir: string;
  readonly directory: string;
  readonly name: string;
}

/** Appears under its name only when all of it is there. */
function write(checkpoint: Checkpoint, shape: InflatedShape, places: Places): void {
  mkdirSync(places.inflatedDir, { recursive: true });
  const partial = mkdtempSync(join(places.inflatedDir, 'partial-'));
  try {
    const target = join(partial, places.name);
    const isWeights = (path: string) => path.endsWith('.safetensors');
    cpSync(checkpoint.modelDir, target, { recursive: true, filter: (path) => !isWeights(path) });
    const { config, tensors } = inflatedTensors(checkpoint, shape);
    writeFileSync(join(target, 'config.json'), JSON.stringify(config, null, 2));
    writeSafetensors(join(target, 'model.safetensors'), tensors);
    renameSync(partial, places.directory);
  } catch (error) {
    if (!existsSync(places.directory)) throw error;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Writes one tensor after the other, since all together would take half a gigabyte. */
function writeSafetensors(path: string, tensors: readonly InflatedTensor[]): void {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const { name, dims, dtype } of tensors) {
    const numBytes = dims.reduce((product, dim) => product * dim, dtype === 'BF16' ? 2 : 4);
    header[name] = { dtype, shape: dims, data_offsets: [end, end + numBytes] };
    end += numBytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));

  const file = openSync(path, 'w');
  try {
    writeSync(file, length);
    writeSync(file, text);
    for (const { dtype, load } of tensors) {
      const data = load();
      writeSync(file, dtype === 'BF16' ? toBfloat16(data) : data);
    }
  } finally {
    closeSync(file);
  }
}

function toBfloat16(data: Float32Array): Uint16Array {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const halves = new Uint16Array(data.length);
  for (let i = 0; i < bits.length; i += 1) {
    halves[i] = bits[i]! >>> 16;
    invariant((bits[i]! & 0xffff) === 0, 'a weight that is no bfloat16');
  }
  return halves;
}
