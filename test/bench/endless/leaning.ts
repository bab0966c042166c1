import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TokenId } from '../../../shared/ids.ts';
import { openModel } from '../../../worker/model/open-model.ts';
import { writeCheckpoint } from '../../support/checkpoints.ts';
import { leaningConfig, leaningTensors, leaningText } from '../../support/leaning-model.ts';
import { EndlessReader, TextReader } from '../../support/text-reader.ts';
import { type Table, type Target, targetOf } from '../benchmark.ts';
import { sum } from '../statistics.ts';
import { lossOf } from './loss.ts';

const NUM_SINKS = 4;
const NUM_COLUMNS = 64;
const CHUNK = 64;

interface Reader {
  read(tokenIds: readonly TokenId[]): Promise<Float32Array[]>;
}

/** Perplexities within the cache's size, and of what comes after. */
interface Perplexities {
  readonly within: number;
  readonly beyond: number;
}

/** Reads in the same ways with a model that was made to lean on its first token. */
export async function measureLeaning(
  cacheDir: string,
  numTokens: number,
): Promise<{ readonly table: Table; readonly targets: readonly Target[] }> {
  const modelDir = mkdtempSync(join(tmpdir(), 'rivulet-leaning-'));
  writeCheckpoint(modelDir, leaningConfig, leaningTensors());
  const settings = { executionProvider: 'cpu', weightFormat: 'fp32', numThreads: 1 } as const;
  const { runner } = await openModel({ modelDir, cacheDir, ...settings });
  const text = leaningText(numTokens + 1);
  const begin = text.slice(0, NUM_SINKS);
  const windowTokens = NUM_COLUMNS - NUM_SINKS;
  const policy = { type: 'sinks', sinkTokens: NUM_SINKS, windowTokens } as const;
  const endless = new EndlessReader(runner, policy, begin);
  const windowOnly = new TextReader(runner, { numSinks: 0, windowSize: NUM_COLUMNS });
  const dense = new TextReader(runner, null);
  await endless.start();
  await windowOnly.readToEnd(begin);
  await dense.readToEnd(begin);
  const all = await perplexitiesOf(dense, text);
  const alone = await perplexitiesOf(windowOnly, text);
  const sinks = await perplexitiesOf(endless, text);
  await runner.close();
  rmSync(modelDir, { recursive: true });
  return {
    table: {
      title: `A model made to lean on its first token, cache of ${NUM_COLUMNS}, ${numTokens} tokens`,
      columns: ['read', 'perplexity within the cache', 'beyond it'],
      rows: [
        ['all', all.within, all.beyond],
        ['window without sinks', alone.within, alone.beyond],
        ['sinks and window', sinks.within, sinks.beyond],
      ],
    },
    targets: [
      targetOf(
        'leaning model, window alone: times the perplexity of all',
        alone.beyond / all.beyond,
        '>=',
        10,
      ),
      targetOf(
        'leaning model, sinks: times the perplexity of all',
        sinks.beyond / all.beyond,
        '<=',
        1.02,
      ),
    ],
  };
}

/** Of a text whose sinks were read. */
async function perplexitiesOf(reader: Reader, text: readonly TokenId[]): Promise<Perplexities> {
  const losses: number[] = [];
  for (let at = NUM_SINKS; at < text.length - 1; at += CHUNK) {
    const end = Math.min(at + CHUNK, text.length - 1);
    const logits = await reader.read(text.slice(at, end));
    losses.push(...logits.map((row, i) => lossOf(row, text[at + i + 1]!)));
  }
  const numWithin = NUM_COLUMNS - NUM_SINKS;
  return {
    within: perplexityOf(losses.slice(0, numWithin)),
    beyond: perplexityOf(losses.slice(numWithin)),
  };
}

function perplexityOf(losses: readonly number[]): number {
  return Math.exp(sum(losses) / losses.length);
}
