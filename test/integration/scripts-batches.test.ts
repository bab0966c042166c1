import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  ADMIT_BATCH,
  CANCEL_BATCH,
  CLAIM_BATCH,
  COMMIT_BATCH,
  CREATE_BATCH,
  END_BATCH,
  ENTER_BATCH,
} from '../../shared/protocol/batch-scripts.ts';
import { ADMIT_FILE, APPEND_FILE, SEAL_FILE } from '../../shared/protocol/file-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await redis.client.flushall();
});

/** Each call over a connection of its own. */
function run(
  script: Script,
  keys: readonly string[],
  ...args: readonly (string | number)[]
): Promise<unknown> {
  return runScript(redis.connect(), script, keys, args);
}

function many<T>(count: number, call: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, call));
}

const inAnHour = () => Date.now() + 3_600_000;
const state = '{b}:state';
const files = ['{b}:out', '{b}:out-meta', '{b}:err', '{b}:err-meta'];

async function created(): Promise<void> {
  await run(CREATE_BATCH, [state], 'spec', inAnHour());
  await run(CLAIM_BATCH, [state]);
}

function commit(epoch: number, nextLine: number, output: string): Promise<unknown> {
  const keys = [state, '{b}:out', '{b}:err'];
  return run(
    COMMIT_BATCH,
    keys,
    epoch,
    inAnHour(),
    nextLine,
    10 * nextLine,
    nextLine,
    0,
    output,
    '',
  );
}

function end(epoch: number, status: string): Promise<unknown> {
  const metas = ['file-o', 'meta of o', 'file-e', 'meta of e'];
  return run(END_BATCH, [state, ...files], epoch, status, ...metas, inAnHour(), '[]');
}

describe('the scripts of a batch', () => {
  it('admit so many of a tenant, whoever comes at the same time, until they are over', async () => {
    const admit = (id: string, nowMs: number) =>
      run(ADMIT_BATCH, ['{t}:open'], id, nowMs + 500, nowMs, 3);
    const ids = ['a', 'b', 'c', 'd', 'e'];
    const places = await Promise.all(ids.map((id) => admit(id, 1000)));
    expect(places.toSorted()).toEqual([-1, -1, 0, 1, 2]);

    const again = await Promise.all(ids.map((id) => admit(id, 1001)));
    expect(again.map((place) => place === -1)).toEqual(places.map((place) => place === -1));
    expect(await admit('later', 1501)).toBe(0);
  });

  it('make it known once, and give each claim an epoch of its own', async () => {
    const replies = await many(8, () => run(CREATE_BATCH, [state], 'spec', inAnHour()));
    expect(replies.filter((isNew) => isNew === 1)).toHaveLength(1);
    const epochs = await many(8, () => run(CLAIM_BATCH, [state]));
    expect(new Set(epochs)).toEqual(new Set([1, 2, 3, 4, 5, 6, 7, 8]));
    expect(await run(CLAIM_BATCH, ['{b}:nobody'])).toBe(0);
  });

  it('write each result once, and nothing of who lost the batch', async () => {
    await created();
    await many(6, () => commit(1, 2, 'ab'));
    await run(CLAIM_BATCH, [state]);
    expect(await commit(1, 3, 'zombie')).toEqual(['fenced', 'validating']);
    expect(await commit(2, 3, 'c')).toEqual(['ok', 'validating']);

    expect((await redis.client.lrange('{b}:out', 0, -1)).join('')).toBe('abc');
    expect(await redis.client.hmget(state, 'nextLine', 'byteOffset', 'outputBytes')).toEqual([
      '3',
      '30',
      '3',
    ]);
  });

  it('move it on, but for its end no further once it is being cancelled', async () => {
    await created();
    expect(await run(ENTER_BATCH, [state], 1, 'in_progress', 'numLines', 7)).toEqual([
      'ok',
      'in_progress',
    ]);
    const cancels = await many(4, () => run(CANCEL_BATCH, [state]));
    expect(cancels).toEqual(Array(4).fill('cancelling'));
    expect(await run(ENTER_BATCH, [state], 1, 'finalizing')).toEqual(['ok', 'cancelling']);
    expect(await run(ENTER_BATCH, [state], 2, 'finalizing')).toEqual(['fenced', 'cancelling']);
    expect(await redis.client.hget(state, 'numLines')).toBe('7');
    expect(await run(CANCEL_BATCH, ['{b}:nobody'])).toBe('unknown');
  });

  it('end it for everybody at once, with those files that hold something', async () => {
    await created();
    await commit(1, 1, 'answer');
    expect(await end(2, 'completed')).toEqual(['fenced', 'validating']);
    const ends = await Promise.all([end(1, 'completed'), end(1, 'completed')]);
    expect(ends).toEqual(Array(2).fill(['ok', 'completed']));
    expect(await end(1, 'failed')).toEqual(['ok', 'completed']);

    const named = await redis.client.hmget(state, 'outputFileId', 'errorFileId');
    expect(named).toEqual(['file-o', null]);
    expect(await redis.client.get('{b}:out-meta')).toBe('meta of o');
    expect(await redis.client.exists('{b}:err-meta')).toBe(0);
    expect(await redis.client.pttl('{b}:out')).toBeGreaterThan(3_000_000);
    expect(await run(CANCEL_BATCH, [state])).toBe('completed');
  });
});

describe('the scripts of a file', () => {
  const ofTenant = ['{t}:index', '{t}:expiries', '{t}:sizes'];
  const admit = (id: string, bytes: number, nowMs = 1000) =>
    run(ADMIT_FILE, ofTenant, id, bytes, nowMs + 500, nowMs, 3, 100);

  it('admit so many files and bytes, whoever comes at the same time, until they expire', async () => {
    const replies = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((id) => admit(id, 10)));
    const kinds = replies.map((reply) => String(reply).split(',')[0]).sort();
    expect(kinds).toEqual(['files', 'files', 'ok', 'ok', 'ok']);
    expect(await admit(`${(await redis.client.hkeys('{t}:sizes'))[0]}`, 81)).toEqual([
      'bytes',
      101,
    ]);
    expect(await admit('later', 100, 2000)).toEqual(['ok', 1]);
  });

  it('add each piece once and in order, and nothing to a complete file', async () => {
    const keys = ['{f}:chunks', '{f}:meta'];
    const append = (index: number) => run(APPEND_FILE, keys, index, 60_000, `piece ${index}`);
    expect(await append(1)).toBe(0);
    expect(await many(5, () => append(0))).toEqual(Array(5).fill(1));
    expect(await append(1)).toBe(1);
    expect(await run(SEAL_FILE, keys, 3, 'meta', inAnHour())).toBe(0);
    expect(await many(3, () => run(SEAL_FILE, keys, 2, 'meta', inAnHour()))).toEqual([1, 1, 1]);
    expect(await append(2)).toBe(0);

    expect(await redis.client.lrange('{f}:chunks', 0, -1)).toEqual(['piece 0', 'piece 1']);
    expect(await redis.client.pttl('{f}:chunks')).toBeGreaterThan(3_000_000);
  });
});
