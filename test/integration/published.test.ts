import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tokensToResume } from '../../shared/protocol/endless.ts';
import { encodeEvent, type FinishReason, type RequestEvent } from '../../shared/protocol/event.ts';
import { encodeJob, type Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { LogTrimmer } from '../../worker/queue/log-trimmer.ts';
import { PatientRedis } from '../../worker/queue/patient-redis.ts';
import { readPublished } from '../../worker/queue/published.ts';
import { createLog } from '../../worker/telemetry/log.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys();
const contextPolicy = { type: 'sinks', sinkTokens: 4, windowTokens: 3 } as const;
const numNeeded = tokensToResume(contextPolicy);
let redis: TestRedis;
let patient: PatientRedis;
let scripts: RequestScripts;

beforeAll(async () => {
  redis = await openTestRedis();
  patient = new PatientRedis(redis.client, createLog('silent'));
  scripts = new RequestScripts(patient, keys, { isCluster: false, retentionMs: 60_000 });
});
afterAll(() => redis[Symbol.asyncDispose]());

function tokenOf(
  choice: number,
  tokenId: number,
  finishReason: FinishReason | null = null,
): RequestEvent {
  return {
    type: 'tokens',
    choice,
    tokenIds: [tokenId],
    text: `${tokenId % 10}`,
    logprobs: null,
    finishReason,
  };
}

/** Makes a request known that has said so much, as a worker writes it. */
async function say(job: Job, events: readonly RequestEvent[]): Promise<void> {
  await scripts.create(job.id, encodeJob(job));
  await scripts.claim(job.id, 'w', 2);
  const published = await readPublished(patient, keys, job);
  const limits = { retentionMs: 3_600_000, maxLogLength: 2 ** 26 };
  const options = { id: job.id, epoch: 1, job, now: Date.now, ...limits };
  const trimmer = new LogTrimmer(scripts, options, published);
  for (let start = 0; start < events.length; start += 100) {
    const piece = events.slice(start, start + 100);
    const payloads = piece.map(encodeEvent);
    const write = { epoch: 1, firstSeq: start, payloads };
    const isEndless = job.contextPolicy.type === 'sinks';
    const progress = trimmer.addEvents(piece, payloads);
    await scripts.append(job.id, isEndless ? { ...write, progress } : write);
  }
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}

describe('what a worker reads of a request that others began', () => {
  it('is of an endless one what it needs, however long its log, and counts of the rest', async () => {
    const job = jobOf({ contextPolicy, maxTokens: null, n: 2 });
    const first: RequestEvent[] = [
      { type: 'echo', choice: 0, text: 'x', logprobs: null },
      ...range(0, 5).map((i) => tokenOf(1, i, i === 4 ? 'stop' : null)),
    ];
    await say(job, [...first, ...range(0, 3000).map((i) => tokenOf(0, i))]);

    const { choices, logLength } = await readPublished(patient, keys, job);
    expect(choices).toEqual([
      {
        tokenIds: range(3000 - numNeeded, 3000),
        numTrimmed: 3000 - numNeeded,
        textLength: 3000,
        hasEcho: true,
        finishReason: null,
      },
      { tokenIds: [], numTrimmed: 5, textLength: 5, hasEcho: false, finishReason: 'stop' },
    ]);
    const entries = await redis.client.xrange(keys.request(job.id).log, '-', '+');
    expect(logLength).toBe(entries.reduce((sum, [, fields]) => sum + fields[1]!.length, 0));
  });

  it('goes back as far as a stop string may hold text', async () => {
    const job = jobOf({ contextPolicy, maxTokens: null, stop: ['x'.repeat(100), 'y'] });
    await say(
      job,
      range(0, 1000).map((i) => tokenOf(0, i)),
    );

    const [choice] = (await readPublished(patient, keys, job)).choices;
    expect(choice?.tokenIds).toEqual(range(1000 - 204, 1000));
  });

  it('is all that a bounded one has said, page after page', async () => {
    const job = jobOf({ n: 2 });
    await say(
      job,
      range(0, 2100).map((i) => tokenOf(i % 2, i)),
    );

    const { choices } = await readPublished(patient, keys, job);
    expect(choices.map(({ tokenIds }) => tokenIds)).toEqual([
      range(0, 1050).map((i) => 2 * i),
      range(0, 1050).map((i) => 2 * i + 1),
    ]);
    expect(choices[1]).toMatchObject({ numTrimmed: 0, textLength: 1050, finishReason: null });
  });

  it('counts once what a writer that lost a reply sends again, late', async () => {
    const job = jobOf({ contextPolicy, maxTokens: null });
    await scripts.create(job.id, encodeJob(job));
    await scripts.claim(job.id, 'w', 2);
    const append = (firstSeq: number, progress: string) =>
      scripts.append(job.id, { epoch: 1, firstSeq, payloads: ['x'], progress });
    await append(0, 'one');
    await append(1, 'two');
    await append(0, 'one');

    expect(await redis.client.hget(keys.request(job.id).state, 'progress')).toBe('two');
  });
});
