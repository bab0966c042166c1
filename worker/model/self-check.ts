import { ModelError } from './model-error.ts';
import type { ModelRunner } from './runner.ts';
import { NUM_FROZEN, ProbeReader } from './self-check-probe.ts';

/** Tokens whose logits are compared. */
const NUM_TOKENS = 9; // a pending token and the longest draft
const BASE_CAPACITY = NUM_FROZEN;
const MORE_CAPACITY = 1024;

/** How the tokens reach the model: in which row of how many, and in chunks of which lengths. */
interface Reading {
  readonly numRows: number;
  readonly row: number;
  readonly frozenCapacity: number;
  /** Of chunks, at least `NUM_TOKENS` together; those beyond are read and not compared. */
  readonly lengths: readonly number[];
  /** Whether the call has columns for sinks; only a token that looks at them has other logits. */
  readonly hasSinks: boolean;
}

const oneByOne = Array<number>(NUM_TOKENS).fill(1);

/** What serving does: decode, drafts, batches as large as by default, prompts block by block. */
const DENSE: readonly Reading[] = [
  { numRows: 1, row: 0, frozenCapacity: BASE_CAPACITY, lengths: oneByOne, hasSinks: false },
  { numRows: 1, row: 0, frozenCapacity: MORE_CAPACITY, lengths: [9], hasSinks: false },
  { numRows: 1, row: 0, frozenCapacity: BASE_CAPACITY, lengths: [2, 3, 4], hasSinks: false },
  { numRows: 3, row: 1, frozenCapacity: BASE_CAPACITY, lengths: [1, 1, 7], hasSinks: false },
  { numRows: 16, row: 15, frozenCapacity: MORE_CAPACITY, lengths: [9], hasSinks: false },
  { numRows: 1, row: 0, frozenCapacity: BASE_CAPACITY, lengths: [64], hasSinks: false },
];

/** With columns for sinks, at which no token looks. */
const BESIDE_SINKS: readonly Reading[] = [
  { numRows: 2, row: 1, frozenCapacity: MORE_CAPACITY, lengths: [1, 8], hasSinks: true },
];

const BEHIND_SINKS: readonly Reading[] = [
  { numRows: 1, row: 0, frozenCapacity: BASE_CAPACITY, lengths: [1, 1, 1, 6], hasSinks: true },
  { numRows: 5, row: 3, frozenCapacity: MORE_CAPACITY, lengths: [4, 5], hasSinks: true },
  { numRows: 1, row: 0, frozenCapacity: BASE_CAPACITY, lengths: [64], hasSinks: true },
];

/**
 * Reads a token and looks at its logits: finite weights can overflow, or be those of a damaged
 * file.
 *
 * @param modelDir named in the error
 * @throws {ModelError} when one of them is no number
 */
export async function checkNumbers(runner: ModelRunner, modelDir: string): Promise<void> {
  const probe = new ProbeReader(runner, { numTokens: 1, looksAtSinks: false });
  const logits = await probe.read({ ...DENSE[0]!, lengths: [1] });
  if (logits.every(Number.isFinite)) return;
  throw new ModelError(
    `the model in ${modelDir} gives logits that are not finite; ` +
      'its safetensors weights are damaged or of another model: download them again',
  );
}

/**
 * Reads a few tokens after a made-up past in several ways and compares the logits bit for bit:
 * the promise rests on the processor's kernels, and another processor may choose others.
 *
 * @throws {ModelError} when a logit depends on the batch or on how the tokens were cut
 */
export async function checkInvariance(runner: ModelRunner): Promise<void> {
  const { canSlide } = runner.shape;
  await compare(runner, canSlide ? [...DENSE, ...BESIDE_SINKS] : DENSE, false);
  if (canSlide) await compare(runner, BEHIND_SINKS, true);
}

async function compare(
  runner: ModelRunner,
  readings: readonly Reading[],
  looksAtSinks: boolean,
): Promise<void> {
  const probe = new ProbeReader(runner, { numTokens: NUM_TOKENS, looksAtSinks });
  let expected: Uint32Array | null = null;
  for (const reading of readings) {
    const bits = new Uint32Array((await probe.read(reading)).buffer);
    expected ??= bits;
    let numDiffering = 0;
    for (let i = 0; i < bits.length; i += 1) numDiffering += Number(bits[i] !== expected[i]);
    if (numDiffering === 0) continue;
    throw new ModelError(
      `on this processor ${numDiffering} of ${bits.length} logits depend on the batch ` +
        `(${reading.numRows} rows, chunks of ${reading.lengths}), so that equal requests would ` +
        'not give equal bytes; try NUM_THREADS=1 or another WEIGHT_FORMAT',
    );
  }
}
