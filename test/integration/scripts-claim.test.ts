import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId, type RequestId } from '../../shared/ids.ts';
import { ScriptsBench } from '../support/request-scripts.ts';

let bench: ScriptsBench;

beforeAll(async () => {
  bench = await ScriptsBench.open();
});
afterAll(() => bench[Symbol.asyncDispose]());

/** Who made the claims that are held against a request. */
async function workersOf(id: RequestId): Promise<string[]> {
  const claims = await bench.redis.client.lrange(bench.keysOf(id).claims, 0, -1);
  return claims.map((claim) => JSON.parse(claim).worker);
}

describe('claim', () => {
  it('raises the epoch, tells the length of the log and hands over the job', async () => {
    const id = await bench.queued();

    const first = await bench.claim(id);
    await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a', 'b'] });
    const second = await bench.claim(id);

    expect(first).toMatchObject({ epoch: 1, nextSeq: 0, numClaims: 1, job: 'the job' });
    expect(second).toMatchObject({ epoch: 2, nextSeq: 2, numClaims: 2, cancel: null });
    expect(second.queuedMs).toBe(first.queuedMs);
  });

  it('gives each of many at once an epoch of its own', async () => {
    const id = await bench.queued();
    const claims = await Promise.all(
      Array.from({ length: 20 }, (_, i) => bench.claim(id, `w${i}`)),
    );

    const epochs = claims.map(({ epoch }) => epoch).sort((a, b) => a - b);
    expect(epochs).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(await bench.redis.client.llen(bench.keysOf(id).claims)).toBe(20);
  });

  it('counts only claims in a row that led nowhere', async () => {
    const id = await bench.queued();
    const counts: number[] = [];
    for (const numEvents of [3, 0, 4, 7, 1]) {
      const { epoch, nextSeq, numClaims } = await bench.claim(id);
      counts.push(numClaims);
      const payloads = Array.from({ length: numEvents }, () => 'x');
      await bench.scripts.append(id, { epoch, firstSeq: nextSeq, payloads });
    }
    // 3 + 0 + 4 events are fewer than 8; with 7 more they are not.
    expect(counts).toEqual([1, 2, 3, 4, 1]);
    expect(await bench.redis.client.llen(bench.keysOf(id).claims)).toBe(1);
  });

  it('is not entered after too many that led nowhere, until one gets further', async () => {
    const id = await bench.queued();
    for (const worker of ['a', 'b']) await bench.scripts.claim(id, worker, 8, 2);
    for (const worker of ['c', 'd']) {
      expect(await bench.scripts.claim(id, worker, 8, 2)).toMatchObject({ numClaims: 3 });
    }

    expect(await workersOf(id)).toEqual(['a', 'b']);
    const payloads = Array.from({ length: 8 }, () => 'x');
    await bench.scripts.append(id, { epoch: 4, firstSeq: 0, payloads });
    expect(await bench.scripts.claim(id, 'e', 8, 2)).toMatchObject({ epoch: 5, numClaims: 1 });
    expect(await workersOf(id)).toEqual(['e']);
  });

  it('tells an unknown request from an ended one, and leaves both alone', async () => {
    const id = await bench.queued();
    await bench.scripts.cancel(id, 'cancelled', ['done']);

    expect(await bench.scripts.claim(createRequestId(), 'w', 8)).toEqual({ type: 'unknown' });
    expect(await bench.scripts.claim(id, 'w', 8)).toEqual({ type: 'ended' });
    expect(await bench.field(id, 'epoch')).toBe('1');
  });
});

describe('enter', () => {
  it('adds a claim that was not entered when it was made, once', async () => {
    const id = await bench.queued();
    await bench.scripts.claim(id, 'a', 8, 1);
    await bench.scripts.claim(id, 'b', 8, 1);
    await bench.scripts.append(id, { epoch: 2, firstSeq: 0, payloads: ['x'] });
    const replies = await Promise.all(
      Array.from({ length: 8 }, () => bench.over(bench.redis.connect()).enter(id, 'b', 2)),
    );

    expect(replies).toEqual(Array.from({ length: 8 }, () => 'ok'));
    expect(await workersOf(id)).toEqual(['a', 'b']);
    const last = await bench.redis.client.lindex(bench.keysOf(id).claims, -1);
    expect(JSON.parse(last ?? '')).toMatchObject({ epoch: 2, nextSeq: 1 });
    expect(await bench.scripts.claim(id, 'c', 8, 1)).toMatchObject({ numClaims: 3 });
  });

  it('is refused to one whom a later claim has fenced, and after the end', async () => {
    const id = await bench.queued();
    for (const worker of ['a', 'b', 'c']) await bench.scripts.claim(id, worker, 8, 1);

    expect(await bench.scripts.enter(id, 'b', 2)).toBe('fenced');
    expect(await bench.scripts.enter(id, 'd', 4)).toBe('gap');
    const end = { epoch: 3, firstSeq: 0, payloads: ['done'], status: 'failed' } as const;
    await bench.scripts.finish(id, end);
    expect(await bench.scripts.enter(id, 'c', 3)).toBe('ended');
    expect(await bench.scripts.enter(createRequestId(), 'c', 3)).toBe('unknown');
    expect(await workersOf(id)).toEqual(['a']);
  });
});

describe('release', () => {
  it('gives a request back without counting the claim, and fences the giver', async () => {
    const id = await bench.queued();
    await bench.claim(id);

    expect(await bench.scripts.release(id, 1)).toBe(true);
    expect(await bench.field(id, 'status')).toBe('queued');
    const late = await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['late'] });
    expect(late.type).toBe('fenced');
    expect(await bench.redis.client.llen(bench.keysOf(id).claims)).toBe(0);
    expect(await bench.claim(id)).toMatchObject({ epoch: 3, numClaims: 1 });
  });

  it('takes its own claim off the list, and no other', async () => {
    const id = await bench.queued();
    await bench.claim(id, 'dead');
    await bench.claim(id, 'giver');
    await bench.scripts.release(id, 2);

    const [only, ...others] = await bench.redis.client.lrange(bench.keysOf(id).claims, 0, -1);
    expect(JSON.parse(only ?? '')).toMatchObject({ worker: 'dead', epoch: 1 });
    expect(others).toEqual([]);
    expect((await bench.claim(id)).numClaims).toBe(2);
  });

  it('takes nothing off the list for a claim that was not entered', async () => {
    const id = await bench.queued();
    await bench.scripts.claim(id, 'dead', 8, 1);
    await bench.scripts.claim(id, 'giver', 8, 1);

    expect(await bench.scripts.release(id, 2)).toBe(true);
    expect(await workersOf(id)).toEqual(['dead']);
  });

  it('lets the giver end the request while it waits, and no longer', async () => {
    const [waiting, taken] = [await bench.queued(), await bench.queued()];
    for (const id of [waiting, taken]) {
      await bench.claim(id);
      await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a'] });
      await bench.scripts.release(id, 1);
    }
    await bench.claim(taken, 'another');
    const end = { epoch: 2, firstSeq: 1, payloads: ['done'], status: 'cancelled' } as const;

    expect((await bench.scripts.finish(waiting, end)).type).toBe('ok');
    expect(await bench.logOf(waiting)).toBe('1-0 a, 2-1 done');
    expect(await bench.scripts.claim(waiting, 'late', 2)).toEqual({ type: 'ended' });
    expect((await bench.scripts.finish(taken, end)).type).toBe('fenced');
    expect(await bench.field(taken, 'status')).toBe('running');
  });

  it('leaves alone what another claimed', async () => {
    const id = await bench.queued();
    await bench.claim(id);
    await bench.claim(id);

    expect(await bench.scripts.release(id, 1)).toBe(false);
    expect(await bench.field(id, 'status')).toBe('running');
  });

  it('is done once, however many ask for it at once', async () => {
    const id = await bench.queued();
    for (const worker of ['dead', 'giver']) await bench.claim(id, worker);
    const replies = await Promise.all(
      Array.from({ length: 8 }, () => bench.over(bench.redis.connect()).release(id, 2)),
    );
    expect(replies.filter((isDone) => isDone)).toHaveLength(1);
    expect(await bench.field(id, 'epoch')).toBe('3');
    expect(await bench.redis.client.llen(bench.keysOf(id).claims)).toBe(1);
  });
});
