import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openRedisTransport } from '../../edge/transport/redis-transport.ts';
import type { ProposerStats } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { PROPOSERS } from '../../worker/speculative/proposer.ts';
import { Metrics } from '../../worker/telemetry/metrics.ts';
import { serveMetrics } from '../../worker/telemetry/metrics-server.ts';
import { EngineClient } from '../../worker/thread/client.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis } from '../support/redis.ts';
import { generate, openTestWorker } from '../support/workers.ts';

const models = join(import.meta.dirname, '../../infra/models');
const cacheDir = temporaryDirectory();

function open(draftModelDir: string): Promise<EngineClient> {
  return EngineClient.open({
    modelDir: join(models, 'stories-target'),
    cacheDir,
    executionProvider: 'cpu',
    weightFormat: 'fp32',
    numThreads: 1,
    limits: { maxSequences: 4, maxBatchedTokens: 256 },
    kvCacheBytes: 2 ** 28,
    prefixCacheBytes: 0,
    speculation: {
      draftModelDir,
      draftWeightFormat: 'auto',
      proposers: PROPOSERS.filter((proposer) => proposer !== 'lookahead'),
      maxDraftTokens: 16,
    },
  });
}

/** The samples of one metric, by their labels. */
function samplesOf(text: string, name: string): Record<string, number> {
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`));
  const samples = lines.map((line) => {
    const [, labels, value] = /\{(.*)\} (.*)/.exec(line)!;
    return [labels!.replace(/,?model="\w+"/, ''), Number(value)] as const;
  });
  return Object.fromEntries(samples);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** By proposer, what the counters must have come to. */
function countsOf(all: readonly ProposerStats[], count: (stats: ProposerStats) => number) {
  const counts: Record<string, number> = {};
  for (const stats of all) {
    const labels = `proposer="${stats.proposer}"`;
    counts[labels] = (counts[labels] ?? 0) + count(stats);
  }
  return counts;
}

describe('a draft model', () => {
  it('is refused when its tokenizer is another, with what is other', async () => {
    const otherDir = join(temporaryDirectory(), 'other');
    cpSync(join(models, 'stories-draft'), otherDir, { recursive: true });
    const path = join(otherDir, 'tokenizer.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const { vocab } = json.model;
    [vocab['\u0120to'], vocab['\u0120and']] = [vocab['\u0120and'], vocab['\u0120to']];
    writeFileSync(path, JSON.stringify(json));

    await expect(open(otherDir)).rejects.toThrow(
      `${otherDir} cannot draft, its tokenizer is another: token 267 is " and", the target's is " to"`,
    );
  });

  it('is counted in the last event and in the metrics, by proposer and place', async () => {
    await using redis = await openTestRedis();
    await using transport = await openRedisTransport(redis.url);
    await using engine = await open(join(models, 'stories-draft'));
    const metrics = new Metrics({ model: 'stories' });
    await using server = await serveMetrics(metrics.registry, 0);
    await using _worker = await openTestWorker(
      redis.url,
      metrics.measuring(engine, () => performance.now()),
    );
    const tokenIdsOf = async (job: Job) => {
      const outcome = await generate(transport, job);
      if (outcome.last?.type !== 'done') throw new Error(`ended with ${outcome.last?.type}`);
      return { ...outcome.last, texts: outcome.texts };
    };
    const sampling = { ...jobOf().sampling, temperature: 0 };
    const asked = { prompts: [[1, 300, 400, 500]], sampling, maxTokens: 200, ignoreEos: true };
    const plain = await tokenIdsOf(jobOf({ ...asked, speculation: 'off' }));
    expect(plain.speculation).toEqual([]);

    const prediction = Array.from({ length: 200 }, (_, i) => 300 + i);
    const guessed = await tokenIdsOf(jobOf({ ...asked, prediction }));
    const again = await tokenIdsOf(jobOf(asked));
    expect([guessed.texts, again.texts]).toEqual([plain.texts, plain.texts]);

    const speculation = [...guessed.speculation, ...again.speculation];
    expect(sum(speculation.map(({ numDrafts }) => numDrafts))).toBeGreaterThan(3);
    for (const { usage, speculation } of [guessed, again]) {
      const accepted = sum(speculation.flatMap((each) => each.numAcceptedPerPosition));
      const drafted = sum(speculation.map(({ numDraftTokens }) => numDraftTokens));
      expect(usage.acceptedPredictionTokens).toBe(accepted);
      expect(usage.rejectedPredictionTokens).toBe(drafted - accepted);
    }
    const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    const totals: Record<string, (stats: ProposerStats) => number> = {
      spec_decode_num_drafts_total: ({ numDrafts }) => numDrafts,
      spec_decode_num_draft_tokens_total: ({ numDraftTokens }) => numDraftTokens,
      spec_decode_num_accepted_tokens_total: ({ numAcceptedPerPosition }) =>
        sum(numAcceptedPerPosition),
    };
    for (const [name, count] of Object.entries(totals)) {
      expect(samplesOf(text, name)).toEqual(countsOf(speculation, count));
    }
    const perPosition = samplesOf(text, 'spec_decode_num_accepted_tokens_per_pos_total');
    const first = Object.entries(perPosition).filter(([labels]) => labels.includes('position="0"'));
    expect(sum(first.map(([, count]) => count))).toBe(
      sum(speculation.map(({ numAcceptedPerPosition }) => numAcceptedPerPosition[0] ?? 0)),
    );
  });
});
