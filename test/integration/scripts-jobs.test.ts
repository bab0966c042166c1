import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FORGET, PAGE_AFTER, QUEUE_PLACE } from '../../shared/protocol/job-scripts.ts';
import {
  ADD_NOTICE,
  CUT_OUTPUT,
  HAND_OVER,
  OUTPUT_DONE,
  TAKE_DUE,
} from '../../shared/protocol/notice-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

/** Each call over a connection of its own. */
function run(
  script: Script,
  keys: readonly string[],
  ...args: readonly (string | number)[]
): Promise<unknown> {
  return runScript(redis.connect(), script, keys, args);
}

/** So many of the same call at once. @returns replies, sorted */
async function runMany(
  count: number,
  script: Script,
  keys: readonly string[],
  ...args: readonly (string | number)[]
): Promise<unknown[]> {
  return (
    await Promise.all(Array.from({ length: count }, () => run(script, keys, ...args)))
  ).sort();
}

describe('queue-place', () => {
  it('counts those that are served before, in both structures', async () => {
    const keys = ['{q}:wait', '{q}:prioritized'];
    await redis.client.lpush('{q}:wait', 'first', 'second'); // served from the right
    await redis.client.zadd('{q}:prioritized', 1, 'third', 2, 'fourth');

    const places = ['first', 'second', 'third', 'fourth', 'nobody'].map((id) =>
      run(QUEUE_PLACE, keys, id),
    );
    expect(await Promise.all(places)).toEqual([0, 1, 2, 3, -1]);
  });
});

describe('page-after', () => {
  it('gives pages, the greatest first, and nothing after what is not there', async () => {
    for (let i = 0; i < 5; i += 1) await redis.client.zadd('index', i, `id ${i}`);

    expect(await run(PAGE_AFTER, ['index'], '', 2)).toEqual(['id 4', 'id 3']);
    expect(await run(PAGE_AFTER, ['index'], 'id 3', 2)).toEqual(['id 2', 'id 1']);
    expect(await run(PAGE_AFTER, ['index'], 'id 0', 2)).toEqual([]);
    expect(await run(PAGE_AFTER, ['index'], 'gone', 2)).toBeNull();
  });
});

describe('forget', () => {
  it('takes an ended request and all that it left, once, and no open one', async () => {
    const keys = ['{r}:state', '{r}:log', '{r}:outbox'];
    await redis.client.hset('{r}:state', 'status', 'running');
    await redis.client.set('{r}:log', 'x');
    expect(await run(FORGET, keys)).toBe('open');
    expect(await redis.client.exists('{r}:log')).toBe(1);

    await redis.client.hset('{r}:state', 'status', 'failed');
    const replies = await runMany(5, FORGET, keys);
    expect(replies).toEqual(['forgotten', ...Array(4).fill('unknown')]);
    expect(await redis.client.exists(...keys)).toBe(0);
  });
});

describe('forget, of a request that somebody is told of', () => {
  it('waits until all of its outbox is handed over', async () => {
    const keys = ['{told}:state', '{told}:outbox', '{told}:log'];
    await redis.client.hset('{told}:state', 'status', 'succeeded', 'outboxDone', 1);
    await redis.client.rpush('{told}:outbox', 'started', 'succeeded');
    expect(await runMany(3, FORGET, keys, 1)).toEqual(Array(3).fill('untold'));
    expect(await redis.client.exists(...keys)).toBe(2);

    const [state = '', outbox = ''] = keys;
    await run(HAND_OVER, [state, '{told}:log', '{told}:claims', outbox], 2);
    expect(await runMany(3, FORGET, keys, 1)).toEqual(['forgotten', 'unknown', 'unknown']);
  });
});

describe('take-due', () => {
  it('lends each request to one of many who ask, until it is due again', async () => {
    const now = Date.now();
    for (let i = 0; i < 40; i += 1) await redis.client.zadd('pending', now - 1000 + i, `id ${i}`);
    await redis.client.zadd('pending', now + 60_000, 'later');
    const taken = await runMany(8, TAKE_DUE, ['pending'], 5, 60_000);

    const ids = taken.flat();
    expect(new Set(ids).size).toBe(40);
    expect(ids).toHaveLength(40);
    expect(await run(TAKE_DUE, ['pending'], 5, 60_000)).toEqual([]);
  });
});

describe('add-notice', () => {
  it('adds a notice once, however often it is handed over at once', async () => {
    const keys = ['{t}:events', '{t}:seen'];
    expect(await runMany(10, ADD_NOTICE, keys, 'msg_1', 'a', 1000, 60_000)).toEqual([
      ...Array(9).fill(0),
      1,
    ]);
    expect(await run(ADD_NOTICE, keys, 'msg_2', 'b', 1000, 60_000)).toBe(1);
    const entries = await redis.client.xrange('{t}:events', '-', '+');
    expect(entries.map(([, fields]) => fields[1])).toEqual(['a', 'b']);
  });
});

describe('hand-over', () => {
  it('goes forward only, and leaves nothing of a request that is gone', async () => {
    expect(await run(HAND_OVER, ['gone'], 3)).toBe(0);
    expect(await redis.client.exists('gone')).toBe(0);

    await redis.client.hset('state', 'status', 'running');
    await Promise.all([3, 1, 2].map((n) => run(HAND_OVER, ['state'], n)));
    expect(await run(HAND_OVER, ['state'], 2)).toBe(0);
    expect(await redis.client.hget('state', 'outboxDone')).toBe('3');
  });
});

describe('cut-output and output-done', () => {
  it('cut one piece for many, and the next when that is handed over', async () => {
    const keys = ['output'];
    await redis.client.hset('output', 'status', 'running');
    expect(await runMany(6, CUT_OUTPUT, keys, 0, '1-5', 0)).toEqual([...Array(5).fill(0), 1]);
    expect(await run(CUT_OUTPUT, keys, 1, '1-9', 0)).toBe(0);
    await run(OUTPUT_DONE, keys, 0);
    expect(await run(CUT_OUTPUT, keys, 1, '1-9', 0)).toBe(0);
    await run(OUTPUT_DONE, keys, 1);
    expect(await run(CUT_OUTPUT, keys, 1, '1-9', 60_000)).toBe(0);
    expect(await run(CUT_OUTPUT, keys, 1, '1-9', 0)).toBe(1);

    const piece = await redis.client.hmget('output', 'outputFrom', 'outputUntil', 'outputsCut');
    expect(piece).toEqual(['1-5', '1-9', '2']);
  });
});
