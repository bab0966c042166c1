import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId, type RequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { HAND_OVER } from '../../shared/protocol/notice-scripts.ts';
import {
  type EndStatus,
  RequestScripts,
  runScript,
} from '../../shared/protocol/request-scripts.ts';
import { outboxEntrySchema } from '../../shared/protocol/webhook.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys('test');
const RETENTION_MS = 60_000;
const DAY_MS = 24 * 3_600_000;
let redis: TestRedis;
let scripts: RequestScripts;

beforeAll(async () => {
  redis = await openTestRedis();
  scripts = scriptsOf(redis.client);
});
afterAll(() => redis[Symbol.asyncDispose]());

function scriptsOf(client: TestRedis['client']): RequestScripts {
  return new RequestScripts(client, keys, { isCluster: false, retentionMs: RETENTION_MS });
}

async function queued(isNotified = true): Promise<RequestId> {
  const id = createRequestId();
  await scripts.create(id, 'the job', { isNotified });
  return id;
}

async function claim(id: RequestId): Promise<number> {
  const reply = await scripts.claim(id, 'w', 8);
  if (reply.type !== 'claimed') throw new Error(`not claimed: ${reply.type}`);
  return reply.epoch;
}

function end(id: RequestId, epoch: number, status: EndStatus = 'succeeded') {
  return scripts.finish(id, { epoch, firstSeq: 0, payloads: ['done'], status });
}

async function claimAndEnd(id: RequestId, by: RequestScripts): Promise<void> {
  const reply = await by.claim(id, 'w', 8);
  if (reply.type === 'claimed') await end(id, reply.epoch);
}

/** What whoever delivers says when so many entries are handed over. */
async function handOver(id: RequestId, numDone: number): Promise<void> {
  const { state, log, claims, outbox } = keys.request(id);
  await runScript(redis.client, HAND_OVER, [state, log, claims, outbox], [numDone]);
}

/** `<n> <type>` of each entry. */
async function outboxOf(id: RequestId): Promise<string> {
  const texts = await redis.client.lrange(keys.request(id).outbox, 0, -1);
  const entries = texts.map((text) => outboxEntrySchema.parse(JSON.parse(text)));
  return entries.map(({ n, type }) => `${n} ${type}`).join(', ');
}

describe('the outbox of a request', () => {
  it('has an entry for each transition, with the time of Redis', async () => {
    const id = await queued();
    await end(id, await claim(id));

    expect(await outboxOf(id)).toBe('0 job.queued, 1 job.started, 2 job.succeeded');
    const [created, started, ended] = await redis.client.hmget(
      keys.request(id).state,
      ...['createdMs', 'startedMs', 'endedMs'],
    );
    const texts = await redis.client.lrange(keys.request(id).outbox, 0, -1);
    const times = texts.map((text) => outboxEntrySchema.parse(JSON.parse(text)).atMs);
    expect(times).toEqual([Number(created), Number(started), Number(ended)]);
  });

  it.each(['succeeded', 'failed', 'cancelled', 'expired'] as const)(
    'ends with job.%s when it has %s',
    async (status) => {
      const id = await queued();
      await end(id, await claim(id), status);
      expect(await outboxOf(id)).toBe(`0 job.queued, 1 job.started, 2 job.${status}`);
    },
  );

  it('tells a cancel before the start from a deadline', async () => {
    const [cancelled, expired] = [await queued(), await queued()];
    await scripts.cancel(cancelled, 'cancelled', ['done']);
    await scripts.cancel(expired, 'deadline', ['done']);

    expect(await outboxOf(cancelled)).toBe('0 job.queued, 1 job.cancelled');
    expect(await outboxOf(expired)).toBe('0 job.queued, 1 job.expired');
    expect(await redis.client.hget(keys.request(expired).state, 'status')).toBe('expired');
  });

  it('gets nothing twice from what is sent again, nor from a second or third claim', async () => {
    const id = await queued();
    await scripts.create(id, 'the job', { isNotified: true });
    await scripts.release(id, await claim(id));
    await claim(id);
    const epoch = await claim(id);
    for (let tries = 0; tries < 3; tries += 1) {
      expect((await end(id, epoch)).type).toBe('ok'); // as after a lost reply
      expect(await scripts.cancel(id, 'cancelled', ['done'])).toBe('ended');
    }

    expect(await outboxOf(id)).toBe('0 job.queued, 1 job.started, 2 job.succeeded');
  });

  it('gets nothing from a worker that was fenced out', async () => {
    const id = await queued();
    const first = await claim(id);
    await end(id, await claim(id), 'failed');
    expect((await end(id, first)).type).toBe('fenced');

    expect(await outboxOf(id)).toBe('0 job.queued, 1 job.started, 2 job.failed');
  });

  it('has one end, however many want to end it at once', async () => {
    for (let round = 0; round < 20; round += 1) {
      const id = await queued();
      const other = scriptsOf(redis.connect());
      await Promise.all([
        claimAndEnd(id, scripts),
        claimAndEnd(id, other),
        other.cancel(id, 'cancelled', ['done']),
        scripts.create(id, 'the job', { isNotified: true }),
      ]);

      expect(await outboxOf(id)).toMatch(
        /^0 job\.queued, (1 job\.cancelled|1 job\.started, 2 job\.succeeded)$/,
      );
    }
  });

  it('is kept as long as the request, and not for ever', async () => {
    const id = createRequestId();
    const { state, log, claims, outbox } = keys.request(id);
    await scripts.create(id, 'the job', { isNotified: true, keepMs: 2 * RETENTION_MS });
    expect(await redis.client.pexpiretime(outbox)).toBe(await redis.client.pexpiretime(state));
    const epoch = await claim(id);
    expect(await redis.client.pttl(outbox)).toBe(-1);
    await end(id, epoch);

    await handOver(id, 3);
    const keptMs = await redis.client.pttl(outbox);
    expect(keptMs).toBeGreaterThan(RETENTION_MS);
    expect(keptMs).toBeLessThanOrEqual(2 * RETENTION_MS);
    for (const key of [state, log, claims]) {
      expect(await redis.client.pexpiretime(key)).toBe(await redis.client.pexpiretime(outbox));
    }
  });

  it('outlasts the time of its request, with all of it, while its end is not handed over', async () => {
    const id = await queued();
    const { state, log, outbox, claims } = keys.request(id);
    await end(id, await claim(id));
    await handOver(id, 2);

    for (const key of [state, log, claims, outbox]) {
      const keptMs = await redis.client.pttl(key);
      expect(keptMs).toBeGreaterThan(29 * DAY_MS);
      expect(keptMs).toBeLessThanOrEqual(30 * DAY_MS);
    }
  });

  it('is announced by the id of its request', async () => {
    const subscriber = redis.connect();
    await subscriber.subscribe(keys.notices);
    const heard: string[] = [];
    const third = new Promise<void>((resolve) => {
      subscriber.on('message', (_channel, id) => {
        heard.push(id);
        if (heard.length === 3) resolve();
      });
    });
    const id = await queued();
    await end(id, await claim(id));

    await third;
    expect(heard).toEqual([id, id, id]);
  });

  it('is empty for a request that nobody is told of', async () => {
    const id = await queued(false);
    await end(id, await claim(id));
    expect(await redis.client.exists(keys.request(id).outbox)).toBe(0);
  });
});
