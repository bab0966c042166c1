import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRequestId } from '../../shared/ids.ts';
import { ScriptsBench } from '../support/request-scripts.ts';

let bench: ScriptsBench;

beforeAll(async () => {
  bench = await ScriptsBench.open();
});
afterAll(() => bench[Symbol.asyncDispose]());

describe('cancel', () => {
  it('ends a queued request at once, in one epoch that nobody claimed', async () => {
    const id = await bench.queued();

    expect(await bench.scripts.cancel(id, 'cancelled', ['end', 'done'])).toBe('ended');
    expect(await bench.scripts.cancel(id, 'cancelled', ['end', 'done'])).toBe('ended');
    expect(await bench.logOf(id)).toBe('1-0 end, 1-1 done');
    expect(await bench.field(id, 'status')).toBe('cancelled');
  });

  it('asks the worker of a running one, by message and by flag, for the first reason given', async () => {
    const id = await bench.queued();
    const subscriber = bench.redis.connect();
    await subscriber.subscribe(bench.cancels);
    const asked = new Promise((resolve) => subscriber.on('message', (_, text) => resolve(text)));
    await bench.claim(id);

    expect(await bench.scripts.cancel(id, 'deadline', ['done'])).toBe('asked');
    expect(await bench.scripts.cancel(id, 'cancelled', ['done'])).toBe('asked');

    expect(await asked).toBe(`${id} deadline`);
    const reply = await bench.scripts.append(id, { epoch: 1, firstSeq: 0, payloads: ['a'] });
    expect(reply.cancel).toBe('deadline');
    expect((await bench.claim(id)).cancel).toBe('deadline');
  });

  it('knows nothing of a request that never was', async () => {
    expect(await bench.scripts.cancel(createRequestId(), 'cancelled', ['done'])).toBe('unknown');
  });

  it('either ends a request before its claim or asks after it, never both', async () => {
    for (let round = 0; round < 30; round += 1) {
      const id = await bench.queued();
      const [cancelled, claimed] = await Promise.all([
        bench.over(bench.redis.connect()).cancel(id, 'cancelled', ['done']),
        bench.scripts.claim(id, 'w', 8),
      ]);
      expect(`${cancelled} ${claimed.type}`).toMatch(/^(ended ended|asked claimed)$/);
    }
  });
});

describe('leave', () => {
  it('counts each of many readers who go at once, and none of an unknown request', async () => {
    const id = await bench.queued();
    const counts = await Promise.all(
      Array.from({ length: 10 }, () => bench.over(bench.redis.connect()).leave(id)),
    );
    expect(counts.sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);

    const nobody = createRequestId();
    expect(await bench.scripts.leave(nobody)).toBe(0);
    expect(await bench.redis.client.exists(bench.keysOf(nobody).state)).toBe(0);
  });
});
