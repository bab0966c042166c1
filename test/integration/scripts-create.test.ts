import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createRequestId } from '../../shared/ids.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { NOW_MS } from '../../shared/protocol/scripts.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys('test');
let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

function scriptsOf(client: TestRedis['client']): RequestScripts {
  return new RequestScripts(client, keys, { isCluster: false, retentionMs: 60_000 });
}

describe('the time of a script', () => {
  it('is that of Redis, and the same until its end', async () => {
    const lua = `${NOW_MS}
      local first = nowMs()
      for i = 1, 2000000 do end -- some milliseconds
      return {first, nowMs(), redis.call('TIME')[1]}`;
    const [first, second, seconds] = z
      .tuple([z.number(), z.number(), z.coerce.number()])
      .parse(await redis.client.eval(lua, 0));

    expect(second).toBe(first);
    expect(Math.abs(first - seconds * 1000)).toBeLessThan(2000);
  });
});

describe('create', () => {
  it('makes a request known once, and keeps the first job', async () => {
    const id = createRequestId();

    expect(await scriptsOf(redis.client).create(id, 'first')).toBe(true);
    expect(await scriptsOf(redis.client).create(id, 'second')).toBe(false);
    expect(await redis.client.hget(keys.request(id).state, 'job')).toBe('first');
    expect(await redis.client.hget(keys.request(id).state, 'status')).toBe('queued');
  });

  it('is new to exactly one of many at once', async () => {
    const id = createRequestId();
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => scriptsOf(redis.connect()).create(id, 'job')),
    );
    expect(replies.filter((isNew) => isNew)).toHaveLength(1);
  });
});
