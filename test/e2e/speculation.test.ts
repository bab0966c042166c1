import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { freePort } from '../../infra/redis/private-redis.ts';
import { toRequestId } from '../../shared/ids.ts';
import type { ProposerStats } from '../../shared/protocol/event.ts';
import { jsonOf } from '../support/edge.ts';
import { openTestRedis } from '../support/redis.ts';
import { modelsDir, startWorker } from '../support/worker-process.ts';
import { readAll } from '../support/workers.ts';

/** What the log of a request says at its end of its drafts. */
async function loggedDrafts(transport: RedisTransport, id: string) {
  const signal = new AbortController().signal;
  const { last } = await readAll(await transport.open(toRequestId(id), null, signal));
  if (last?.type !== 'done') throw new Error(`the log ends with ${last?.type}`);
  return last.speculation;
}

/** The samples that the counters of drafts have to show. */
function samplesOf(all: readonly ProposerStats[]): Map<string, number> {
  const samples = new Map<string, number>();
  const count = (name: string, labels: string, value: number) => {
    const key = `spec_decode_num_${name}_total{${labels}}`;
    samples.set(key, (samples.get(key) ?? 0) + value);
  };
  for (const { proposer, numDrafts, numDraftTokens, numAcceptedPerPosition } of all) {
    const labels = `proposer="${proposer}"`;
    count('drafts', labels, numDrafts);
    count('draft_tokens', labels, numDraftTokens);
    for (const [position, accepted] of numAcceptedPerPosition.entries()) {
      count('accepted_tokens', labels, accepted);
      count('accepted_tokens_per_pos', `${labels},position="${position}"`, accepted);
    }
  }
  return samples;
}

async function scrape(port: number): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith('spec_decode_'));
  return new Map(
    lines.map((line) => {
      const [sample, value] = line.split(' ');
      return [sample!.replace(/,?model="[\w-]+"/, ''), Number(value)] as const;
    }),
  );
}

it('tells client, log and metrics the same of the drafts of a worker', async () => {
  await using redis = await openTestRedis();
  const port = await freePort();
  await using worker = startWorker({
    REDIS_URL: redis.url,
    DRAFT_MODEL_DIR: join(modelsDir, 'stories-draft'),
    METRICS_PORT: `${port}`,
  });
  await worker.ready;
  await using transport = await openRedisTransport(redis.url);
  const app = createApp(() => transport, { log: () => undefined });
  async function chat(fields: object) {
    const response = await app.request('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'stories-target',
        messages: [{ role: 'user', content: 'Once upon a time, Tom' }],
        temperature: 0,
        max_tokens: 200,
        ...fields,
      }),
    });
    return jsonOf(response);
  }
  await vi.waitFor(async () => expect((await app.request('/readyz')).status).toBe(200));

  const plain = await chat({ speculation: 'off' });
  const content = plain.choices[0].message.content;
  const answers = [plain, await chat({}), await chat({ prediction: { type: 'content', content } })];
  expect(answers.map(({ choices }) => choices[0].message.content)).toEqual(Array(3).fill(content));

  const drafts = await Promise.all(answers.map(({ id }) => loggedDrafts(transport, id)));
  expect(drafts[0]).toEqual([]);
  expect(drafts[2]!.map(({ proposer }) => proposer)).toContain('prediction');
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  for (const [i, { usage }] of answers.entries()) {
    const accepted = sum(drafts[i]!.flatMap((each) => each.numAcceptedPerPosition));
    const drafted = sum(drafts[i]!.map(({ numDraftTokens }) => numDraftTokens));
    expect(usage.completion_tokens_details).toEqual({
      accepted_prediction_tokens: accepted,
      rejected_prediction_tokens: drafted - accepted,
    });
  }
  expect(answers[2].usage.completion_tokens_details.accepted_prediction_tokens).toBeGreaterThan(10);
  expect(await scrape(port)).toEqual(samplesOf(drafts.flat()));
});
