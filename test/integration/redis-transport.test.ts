import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { numChoices } from '../../shared/protocol/job.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker, readAll } from '../support/workers.ts';

let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

const forever = new AbortController().signal;

describe('a request on its way', () => {
  it('comes back as its worker wrote it, the first event included', async () => {
    await using _worker = await openTestWorker(redis.url, new ScriptedGenerator());
    const jobs = Array.from({ length: 20 }, (_, i) =>
      jobOf({ n: 1 + (i % 3), sampling: { ...jobOf().sampling, seed: i } }),
    );

    const results = await Promise.all(jobs.map((job) => generate(transport, job)));

    for (const [i, job] of jobs.entries()) {
      const expected = Array.from({ length: numChoices(job) }, (_, k) => scriptedText(job, k));
      expect(results[i]?.texts).toEqual(expected);
      expect(results[i]?.last?.type).toBe('done');
    }
  });
});
