import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import { createChunkEncoder } from '../../shared/openai/chunks.ts';
import { tokensToResume } from '../../shared/protocol/endless.ts';
import type { EventId } from '../../shared/protocol/event.ts';
import { encodeJob, type Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { PatientRedis } from '../../worker/queue/patient-redis.ts';
import { readPublished } from '../../worker/queue/published.ts';
import { createLog } from '../../worker/telemetry/log.ts';
import { parseFrames } from '../support/edge.ts';
import { EndlessWriter } from '../support/endless-writer.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText, scriptedTokenId } from '../support/scripted-generator.ts';
import { generate, openTestWorker } from '../support/workers.ts';

const keys = new Keys();
const RETENTION_MS = 6000;
const limits = { retentionMs: RETENTION_MS, maxLogLength: 100_000 };
const contextPolicy = { type: 'sinks', sinkTokens: 4, windowTokens: 1 } as const;
const numNeeded = tokensToResume(contextPolicy);
let redis: TestRedis;
let patient: PatientRedis;
let scripts: RequestScripts;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  patient = new PatientRedis(redis.client, createLog('silent'));
  transport = await openRedisTransport(redis.url);
  scripts = new RequestScripts(redis.client, keys, { isCluster: false, retentionMs: 60_000 });
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

function endlessJob(): Job {
  return jobOf({ contextPolicy, maxTokens: null });
}

async function writerOf(job: Job): Promise<EndlessWriter> {
  await scripts.create(job.id, encodeJob(job));
  const writer = new EndlessWriter({ scripts, redis: patient, keys, limits }, job);
  await writer.claim();
  return writer;
}

async function keptSeqs(id: RequestId): Promise<number[]> {
  const entries = await redis.client.xrange(keys.request(id).log, '-', '+');
  return entries.map(([entryId]) => Number(entryId.split('-')[1]));
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

describe('the log of an endless request', () => {
  it('loses what is older than the retention, and nothing that is younger', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    await writer.say(59, 100);
    expect(await keptSeqs(job.id)).toEqual(range(0, 59));
    await writer.say(141, 100); // 20 s of it, of which 6 s stay

    const kept = await keptSeqs(job.id);
    expect(kept).toEqual(range(kept[0]!, 200));
    expect(kept.length).toBeGreaterThanOrEqual(60);
    expect(kept.length).toBeLessThanOrEqual(63); // and a twentieth
  });

  it('loses it just so when it changes hands more often than that', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    for (let claim = 0; claim < 100; claim += 1) {
      await writer.say(2, 100);
      await writer.claim();
    }

    const kept = await keptSeqs(job.id);
    expect(kept).toEqual(range(kept[0]!, 200));
    expect(kept.length).toBeGreaterThanOrEqual(60);
    expect(kept.length).toBeLessThanOrEqual(64);
  });

  it('loses what is too much, however young', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    for (let claim = 0; claim < 30; claim += 1) {
      await writer.say(100, 0);
      await writer.claim();
    }

    const entries = await redis.client.xrange(keys.request(job.id).log, '-', '+');
    const length = entries.reduce((sum, [, fields]) => sum + (fields[1]?.length ?? 0), 0);
    expect(length).toBeGreaterThanOrEqual(limits.maxLogLength);
    expect(length).toBeLessThan(limits.maxLogLength * 1.06);
  });

  it('keeps what a worker needs to take over, however old', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    await writer.say(50, RETENTION_MS);
    expect(await keptSeqs(job.id)).toEqual(range(50 - numNeeded, 50));
  });

  it('is taken over with the counts of what is gone, and cut further by the next', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    await writer.say(50, RETENTION_MS);
    await writer.claim();
    const [choice] = (await readPublished(patient, keys, job)).choices;
    expect(choice).toMatchObject({
      numTrimmed: 50 - numNeeded,
      tokenIds: range(50 - numNeeded, 50),
      textLength: range(0, 50)
        .map((i) => ` ${i}`)
        .join('').length,
      finishReason: null,
    });

    await writer.say(30, RETENTION_MS);
    expect(await keptSeqs(job.id)).toEqual(range(80 - numNeeded, 80));
    const [later] = (await readPublished(patient, keys, job)).choices;
    expect(later).toMatchObject({
      numTrimmed: 80 - numNeeded,
      tokenIds: range(80 - numNeeded, 80),
    });
  });

  it('is not cut by a worker that lost it, nor ever put back', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    await writer.say(20, 1);
    const trimBefore = (seq: number) => {
      const cut = { seq, firstKept: `1-${seq}`, choices: [] };
      return scripts.trim(job.id, { epoch: 1, marks: '[]', cut });
    };
    expect(await trimBefore(5)).toBe(true);
    expect(await trimBefore(3)).toBe(false);
    await writer.claim();
    expect(await trimBefore(9)).toBe(false);

    expect(await keptSeqs(job.id)).toEqual(range(5, 20));
    expect(await redis.client.hget(keys.request(job.id).state, 'trimmedTo')).toBe('5');
  });
});

describe('a reader of a log that was cut', () => {
  async function readFrom(id: RequestId, after: EventId | null): Promise<number[]> {
    const stop = new AbortController();
    const seqs: number[] = [];
    for await (const { id: eventId } of await transport.open(id, after, stop.signal)) {
      seqs.push(eventId.seq);
      if (eventId.seq === 49) stop.abort();
    }
    return seqs;
  }

  it('is told what is gone and where to read on, and can', async () => {
    const job = endlessJob();
    const writer = await writerOf(job);
    await writer.say(50, RETENTION_MS);
    const oldest = 50 - numNeeded;

    for (const after of [null, { epoch: 1, seq: 3 }, { epoch: 1, seq: oldest - 2 }]) {
      const reading = readFrom(job.id, after);
      await expect(reading).rejects.toMatchObject({ code: 'events_trimmed' });
      await expect(reading).rejects.toThrow(`Last-Event-ID 1-${oldest - 1} `);
    }
    expect(await readFrom(job.id, { epoch: 1, seq: oldest - 1 })).toEqual(range(oldest, 50));
    expect(await readFrom(job.id, { epoch: 1, seq: 47 })).toEqual([48, 49]);
  });
});

describe('a stream of completions with log-probabilities whose log was cut', () => {
  it.each([1, 2])('goes on with the offsets it had, of %d workers', async (numWorkers) => {
    const job = jobOf({ contextPolicy, maxTokens: null, topLogprobs: 0 });
    const writer = await writerOf(job);
    await writer.say(numWorkers === 1 ? 51 : 31, RETENTION_MS);
    if (numWorkers === 2) {
      await writer.claim(); // of a log that ends within a character
      await writer.say(20, RETENTION_MS);
    }
    await writer.finish();
    const [oldest = 0] = await keptSeqs(job.id);
    const app = createApp(() => transport, { log: () => undefined });
    const framesAfter = async (seq: number) => {
      const headers = { 'last-event-id': `${numWorkers}-${seq}` };
      const response = await app.request(`/v1/requests/${job.id}/events`, { headers });
      return parseFrames(await response.text());
    };
    const encoder = createChunkEncoder(job);
    const chunks = writer.said.flatMap((event) => encoder.encode(event));

    for (const seq of [oldest - 1, oldest, oldest + 3]) {
      const frames = await framesAfter(seq);
      const shown = frames.slice(0, 50 - seq).map(({ data }) => data);
      expect(shown).toEqual(chunks.slice(seq + 1));
    }
    expect((await framesAfter(oldest - 2))[0]?.data.error.code).toBe('events_trimmed');
  });
});

describe('the log of a request with a bound', () => {
  it('stays whole behind sinks as well: who is told of its end may ask late', async () => {
    const generator = new ScriptedGenerator('by-hand');
    const logLimits = { retentionMs: 1, maxLogLength: 100 };
    await using _worker = await openTestWorker(redis.url, generator, { context: { logLimits } });
    const job = jobOf({ contextPolicy, maxTokens: 60 });
    const result = generate(transport, job);
    const startedIds = () => generator.starts.map(({ id }) => id);
    await vi.waitFor(() => expect(startedIds()).toContain(job.id));
    const { state, log } = keys.request(job.id);
    for (let count = 1; count < 60; count += 1) {
      generator.step();
      await vi.waitFor(async () => expect(await redis.client.xlen(log)).toBe(count), {
        interval: 5,
      });
    }
    generator.step();

    expect((await result).texts).toEqual([scriptedText(job)]);
    expect(await redis.client.hmget(state, 'trimmedTo', 'marks')).toEqual([null, null]);
    expect((await redis.client.xrange(log, '-', '+', 'COUNT', 1))[0]?.[0]).toBe('1-0');
  });
});

describe('take-over of a request whose log was cut', () => {
  it('goes on at the next position', async () => {
    const dying = new ScriptedGenerator('by-hand');
    const logLimits = { retentionMs: 1, maxLogLength: 2 ** 20 };
    const killed = await openTestWorker(redis.url, dying, {
      context: { workerId: 'killed', logLimits },
    });
    const job = jobOf({ contextPolicy, maxTokens: 100_000 });
    await scripts.create(job.id, encodeJob(job));
    const stop = new AbortController();
    const texts: string[] = [];
    const reading = (async () => {
      for await (const { event } of await transport.submit(job, stop.signal)) {
        if (event.type === 'tokens') texts.push(event.text);
      }
    })();
    await dying.started(1);
    const { state } = keys.request(job.id);
    await vi.waitFor(
      async () => {
        dying.step();
        expect(Number(await redis.client.hget(state, 'trimmedTo'))).toBeGreaterThan(5);
      },
      { timeout: 10_000, interval: 10 },
    );
    killed.kill();
    const heir = new ScriptedGenerator('by-hand');
    await using _heir = await openTestWorker(redis.url, heir, { context: { logLimits } });
    await heir.started(1);
    const [choice] = heir.starts[0]?.published ?? [];
    const count = (choice?.numTrimmed ?? 0) + (choice?.tokenIds.length ?? 0) + 5;
    expect(choice?.numTrimmed).toBeGreaterThan(0);
    for (let i = 0; i < 5; i += 1) heir.step();

    const all = range(0, count).map((position) => ` ${scriptedTokenId(job, 0, position)}`);
    await vi.waitFor(() => expect(texts.join('')).toBe(all.join('')), 5000);
    stop.abort();
    await reading;
    heir.cancel(job.id, 'cancelled');
    while (heir.numRunning > 0) heir.step();
  });
});
