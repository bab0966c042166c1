import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId, type RequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { type ClaimReply, RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys('test');
const RETENTION_MS = 60_000;
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

async function queued(): Promise<RequestId> {
  const id = createRequestId();
  await scripts.create(id, 'the job');
  return id;
}

async function claim(id: RequestId, worker = 'w', minProgress = 8) {
  const reply: ClaimReply = await scripts.claim(id, worker, minProgress);
  if (reply.type !== 'claimed') throw new Error(`not claimed: ${reply.type}`);
  return reply;
}

async function logOf(id: RequestId): Promise<string> {
  const entries = await redis.client.xrange(keys.request(id).log, '-', '+');
  return entries.map(([entryId, fields]) => `${entryId} ${fields[1]}`).join(', ');
}

function field(id: RequestId, name: string): Promise<string | null> {
  return redis.client.hget(keys.request(id).state, name);
}

describe('claim', () => {
  it('raises the epoch, tells the length of the log and hands over the job', async () => {
    const id = await queued();

    const first = await claim(id);
    await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const second = await claim(id);

    expect(first).toMatchObject({ epoch: 1, nextSeq: 0, numClaims: 1, job: 'the job' });
    expect(second).toMatchObject({ epoch: 2, nextSeq: 2, numClaims: 2, cancel: null });
    expect(second.queuedMs).toBe(first.queuedMs);
  });

  it('gives each of many at once an epoch of its own', async () => {
    const id = await queued();
    const claims = await Promise.all(Array.from({ length: 20 }, (_, i) => claim(id, `w${i}`)));

    const epochs = claims.map(({ epoch }) => epoch).sort((a, b) => a - b);
    expect(epochs).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(await redis.client.llen(keys.request(id).claims)).toBe(20);
  });

  it('counts only claims in a row that led nowhere', async () => {
    const id = await queued();
    const counts: number[] = [];
    for (const numEvents of [3, 0, 4, 7, 1]) {
      const { epoch, nextSeq, numClaims } = await claim(id);
      counts.push(numClaims);
      const payloads = Array.from({ length: numEvents }, () => 'x');
      await scripts.append(id, { epoch, firstSeq: nextSeq, payloads });
    }
    // 3 + 0 + 4 events are fewer than 8; with 7 more they are not.
    expect(counts).toEqual([1, 2, 3, 4, 1]);
  });

  it('is refused, and not counted, after too many that led nowhere', async () => {
    const id = await queued();
    for (const worker of ['a', 'b']) await scripts.claim(id, worker, 8, 2);

    expect(await scripts.claim(id, 'c', 8, 2)).toEqual({ type: 'suspect' });
    expect(await field(id, 'epoch')).toBe('2');
    expect(await redis.client.llen(keys.request(id).claims)).toBe(2);
    expect((await claim(id)).numClaims).toBe(3);
    await scripts.append(id, {
      epoch: 3,
      firstSeq: 0,
      payloads: Array.from({ length: 8 }, () => 'x'),
    });
    expect(await scripts.claim(id, 'd', 8, 2)).toMatchObject({ type: 'claimed', numClaims: 1 });
  });

  it('tells an unknown request from an ended one, and leaves both alone', async () => {
    const id = await queued();
    await scripts.cancel(id, 'cancelled', ['done']);

    expect(await scripts.claim(createRequestId(), 'w', 8)).toEqual({ type: 'unknown' });
    expect(await scripts.claim(id, 'w', 8)).toEqual({ type: 'ended' });
    expect(await field(id, 'epoch')).toBe('1');
  });
});

describe('append', () => {
  it('numbers events from 0 on, through all epochs', async () => {
    const id = await queued();
    await claim(id);
    await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    await claim(id);
    const reply = await scripts.append(id, { epoch: 2, firstSeq: 2, payloads: ['c'] });

    expect(reply).toEqual({ type: 'ok', nextSeq: 3, cancel: null });
    expect(await logOf(id)).toBe('1-0 a, 1-1 b, 2-2 c');
  });

  it('refuses the writer of an earlier epoch', async () => {
    const id = await queued();
    await claim(id);
    await claim(id);

    const reply = await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['zombie'] });
    expect(reply.type).toBe('fenced');
    expect(await logOf(id)).toBe('');
  });

  it('writes nothing twice when a lost reply makes it repeat itself', async () => {
    const id = await queued();
    await claim(id);
    await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const reply = await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });

    expect(reply).toMatchObject({ type: 'ok', nextSeq: 2 });
    expect(await logOf(id)).toBe('1-0 a, 1-1 b');
  });

  it('lets one of two writers win, whatever their order', async () => {
    const id = await queued();
    const claims = await Promise.all([claim(id, 'a'), claim(id, 'b')]);
    await Promise.all(
      claims.flatMap(({ epoch }) =>
        Array.from({ length: 20 }, (_, seq) =>
          scripts.append(id, { epoch, firstSeq: seq, payloads: [`${epoch}`] }),
        ),
      ),
    );
    expect(await logOf(id)).toBe(Array.from({ length: 20 }, (_, i) => `2-${i} 2`).join(', '));
  });

  it('says so when Redis has lost what the writer wrote', async () => {
    const id = await queued();
    await claim(id);

    const ahead = await scripts.append(id, { epoch: 1, firstSeq: 5, payloads: ['x'] });
    const unborn = await scripts.append(id, { epoch: 2, firstSeq: 0, payloads: ['x'] });
    const nobody = createRequestId();
    const unknown = await scripts.append(nobody, { epoch: 1, firstSeq: 0, payloads: ['x'] });

    expect([ahead.type, unborn.type, unknown.type]).toEqual(['gap', 'gap', 'unknown']);
  });

  it('publishes what it writes, under the id of the log', async () => {
    const id = await queued();
    const messages: string[] = [];
    const subscriber = redis.connect();
    await subscriber.subscribe(keys.request(id).events);
    const third = new Promise<void>((resolve) => {
      subscriber.on('message', (_channel, message) => {
        messages.push(message);
        if (messages.length === 3) resolve();
      });
    });
    await claim(id);

    await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const end = { status: 'succeeded' } as const;
    await scripts.finish(id, { ...end, epoch: 1, firstSeq: 2, payloads: ['done'] });

    await third;
    expect(messages).toEqual(['1-0 a', '1-1 b', '1-2 done']);
  });
});

describe('finish', () => {
  const end = { epoch: 1, firstSeq: 0, status: 'succeeded' } as const;

  it('writes last event and status together, and lets all of it expire', async () => {
    const id = await queued();
    await claim(id);

    expect(await scripts.finish(id, { ...end, payloads: ['a', 'done'] })).toMatchObject({
      type: 'ok',
      nextSeq: 2,
    });
    expect(await logOf(id)).toBe('1-0 a, 1-1 done');
    expect(await field(id, 'status')).toBe('succeeded');
    const { state, log, claims } = keys.request(id);
    for (const key of [state, log, claims]) {
      expect(await redis.client.pttl(key)).toBeGreaterThan(0);
      expect(await redis.client.pttl(key)).toBeLessThanOrEqual(RETENTION_MS);
    }
  });

  it('can be repeated, and lets nothing follow', async () => {
    const id = await queued();
    await claim(id);
    await scripts.finish(id, { ...end, payloads: ['done'] });

    expect((await scripts.finish(id, { ...end, payloads: ['done'] })).type).toBe('ok');
    const late = await scripts.append(id, { epoch: 1, firstSeq: 1, payloads: ['late'] });
    expect(late.type).toBe('ended');
    expect((await scripts.finish(id, { ...end, payloads: ['a', 'b'] })).type).toBe('ended');
    expect(await logOf(id)).toBe('1-0 done');
  });

  it('refuses an earlier epoch', async () => {
    const id = await queued();
    await claim(id);
    await claim(id);

    expect((await scripts.finish(id, { ...end, payloads: ['done'] })).type).toBe('fenced');
    expect(await field(id, 'status')).toBe('running');
  });
});

describe('cancel', () => {
  it('ends a queued request at once, in one epoch that nobody claimed', async () => {
    const id = await queued();

    expect(await scripts.cancel(id, 'cancelled', ['end', 'done'])).toBe('ended');
    expect(await scripts.cancel(id, 'cancelled', ['end', 'done'])).toBe('ended');
    expect(await logOf(id)).toBe('1-0 end, 1-1 done');
    expect(await field(id, 'status')).toBe('cancelled');
  });

  it('asks the worker of a running one, by message and by flag, for the first reason given', async () => {
    const id = await queued();
    const subscriber = redis.connect();
    await subscriber.subscribe(keys.cancels);
    const asked = new Promise((resolve) => subscriber.on('message', (_, text) => resolve(text)));
    await claim(id);

    expect(await scripts.cancel(id, 'deadline', ['done'])).toBe('asked');
    expect(await scripts.cancel(id, 'cancelled', ['done'])).toBe('asked');

    expect(await asked).toBe(`${id} deadline`);
    const reply = await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a'] });
    expect(reply.cancel).toBe('deadline');
    expect((await claim(id)).cancel).toBe('deadline');
  });

  it('knows nothing of a request that never was', async () => {
    expect(await scripts.cancel(createRequestId(), 'cancelled', ['done'])).toBe('unknown');
  });

  it('either ends a request before its claim or asks after it, never both', async () => {
    for (let round = 0; round < 30; round += 1) {
      const id = await queued();
      const [cancelled, claimed] = await Promise.all([
        scriptsOf(redis.client).cancel(id, 'cancelled', ['done']),
        scripts.claim(id, 'w', 8),
      ]);
      expect(`${cancelled} ${claimed.type}`).toMatch(/^(ended ended|asked claimed)$/);
    }
  });
});

describe('release', () => {
  it('gives a request back without counting the claim, and fences the giver', async () => {
    const id = await queued();
    await claim(id);

    expect(await scripts.release(id, 1)).toBe(true);
    expect(await field(id, 'status')).toBe('queued');
    const late = await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['late'] });
    expect(late.type).toBe('fenced');
    expect(await claim(id)).toMatchObject({ epoch: 3, numClaims: 1 });
  });

  it('lets the giver end the request while it waits, and no longer', async () => {
    const [waiting, taken] = [await queued(), await queued()];
    for (const id of [waiting, taken]) {
      await claim(id);
      await scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a'] });
      await scripts.release(id, 1);
    }
    await claim(taken, 'another');
    const end = { epoch: 2, firstSeq: 1, payloads: ['done'], status: 'cancelled' } as const;

    expect((await scripts.finish(waiting, end)).type).toBe('ok');
    expect(await logOf(waiting)).toBe('1-0 a, 2-1 done');
    expect(await scripts.claim(waiting, 'late', 2)).toEqual({ type: 'ended' });
    expect((await scripts.finish(taken, end)).type).toBe('fenced');
    expect(await field(taken, 'status')).toBe('running');
  });

  it('leaves alone what another claimed', async () => {
    const id = await queued();
    await claim(id);
    await claim(id);

    expect(await scripts.release(id, 1)).toBe(false);
    expect(await field(id, 'status')).toBe('running');
  });
});
