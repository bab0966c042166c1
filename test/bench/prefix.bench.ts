import { join } from 'node:path';
import { BLOCK_SIZE } from '../../shared/block-size.ts';
import { toTenantId } from '../../shared/ids.ts';
import { INFLATED_TARGET, inflate } from '../support/inflate.ts';
import { type BenchOptions, type BenchResult, type Table, targetOf } from './benchmark.ts';
import { EngineHarness } from './engine-harness.ts';
import { PromptSource } from './prompts.ts';
import { median, quantile } from './statistics.ts';

const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');

/** Requests that share a prompt. */
const NUM_REQUESTS = 50;
/** Of the context, what they share, and what each adds. */
const SHARED_PART = 0.8;
const OWN_TOKENS = 16;

/** Milliseconds from the start of a request to its first token, of each request. */
interface Times {
  /** Nobody began like it before. */
  readonly miss: number[];
  /** It begins like an earlier one of its tenant. */
  readonly hit: number[];
  /** It begins like an earlier one of another tenant. */
  readonly foreign: number[];
}

interface Measured {
  readonly label: string;
  readonly times: Times;
  readonly numShared: number;
  /** Of what the prefix cache holds, the part that no token needs. */
  readonly waste: number;
}

/**
 * Time to first token with a prefix that was computed before, and without; what the memory for it
 * is used for.
 */
export async function run({
  isQuick,
  rounds,
  numThreads,
  cacheDir,
}: BenchOptions): Promise<BenchResult> {
  const numRequests = rounds ?? (isQuick ? 3 : NUM_REQUESTS);
  const models = [{ label: 'embedded target', modelDir: targetDir }];
  if (!isQuick) {
    const modelDir = inflate(targetDir, INFLATED_TARGET, cacheDir);
    models.push({ label: 'inflated to 110M', modelDir });
  }
  const measured: Measured[] = [];
  for (const { label, modelDir } of models) {
    const options = { modelDir, cacheDir, numThreads, maxSequences: 1 };
    await using harness = await EngineHarness.open(options);
    measured.push({ label, ...(await measure(harness, numRequests)) });
  }
  return {
    models: models.map(({ label, modelDir }) => `${label}, ${modelDir.split('/').at(-1)}`),
    tables: [tableOf(measured)],
    targets: measured.flatMap(({ label, times, waste }) => {
      const miss = median(times.miss);
      return [
        targetOf(
          `time to first token of a hit over a miss, ${label}`,
          median(times.hit) / miss,
          '<=',
          0.15,
        ),
        targetOf(
          `the same behind another tenant's prompt, ${label}`,
          median(times.foreign) / miss,
          '>=',
          0.9,
        ),
        targetOf(`waste of the prefix cache, ${label}`, waste, '<', 0.04),
      ];
    }),
    notes: [
      `${numRequests} requests of each kind in turns, ${SHARED_PART * 100} % of the context shared, ${OWN_TOKENS} tokens of their own, one at a time through the engine`,
      'the first answers were so long that the block in which the shared part ends is known, too',
      'waste is what the prefix cache holds beyond the keys and values of blocks that can still be found; a sequence in a row has a copy of its own',
    ],
  };
}

async function measure(
  harness: EngineHarness,
  numRequests: number,
): Promise<Omit<Measured, 'label'>> {
  const source = new PromptSource(harness.tokenizer);
  const numShared = Math.floor(harness.opened.shape.maxSequenceTokens * SHARED_PART);
  const vocabSize = harness.opened.shape.vocabSize;
  const [shared = []] = source.take(1, numShared);
  const mine = toTenantId('mine');
  const times: Times = { miss: [], hit: [], foreign: [] };
  const first = async (prompt: readonly number[], tenant = mine) =>
    (await harness.decode([prompt], 0, tenant)).prefillMs;
  let own = 0;
  const withOwn = (prompt: readonly number[]) => {
    own += 1;
    return [...prompt, ...Array.from({ length: OWN_TOKENS }, (_, i) => (own * 31 + i) % vocabSize)];
  };
  // Their answers fill the block in which the shared part ends, as answers do.
  for (let i = 0; i < 2; i += 1) await harness.decode([withOwn(shared)], BLOCK_SIZE, mine);
  for (let i = 0; i < numRequests; i += 1) {
    // Another first token makes all blocks behind it others.
    times.miss.push(await first(withOwn([(i + 3) % vocabSize, i % 97, ...shared.slice(2)])));
    times.hit.push(await first(withOwn(shared)));
    times.foreign.push(await first(withOwn(shared), toTenantId(`other ${i}`)));
  }
  const { held, needed } = harness.prefixUsage;
  return { times, numShared, waste: 1 - needed / held };
}

function tableOf(measured: readonly Measured[]): Table {
  const kinds = ['miss', 'hit', 'foreign'] as const;
  return {
    title: 'Milliseconds to the first token',
    columns: ['model', 'shared tokens', 'request', 'median', 'p10', 'p90'],
    rows: measured.flatMap(({ label, times, numShared }) =>
      kinds.map((kind) => [
        label,
        numShared,
        kind === 'foreign' ? "another tenant's" : kind,
        median(times[kind]),
        quantile(times[kind], 0.1),
        quantile(times[kind], 0.9),
      ]),
    ),
  };
}
