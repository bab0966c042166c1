import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Keys, servedModelField } from '../../shared/protocol/keys.ts';
import { decodeModelCard, type ModelCard } from '../../shared/protocol/model-card.ts';
import {
  DEPART,
  HEARTBEAT,
  QUEUE_LOAD,
  REPORT_RATE,
  SERVED_MODELS,
} from '../../shared/protocol/registry-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import { register } from '../../worker/queue/registry.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

const keys = new Keys('test');
const DAY_MS = 86_400_000;
const queue = { model: 'm', fingerprint: 'f' };
const field = servedModelField(queue);
let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await redis.client.flushall();
});

function run(
  script: Script,
  scriptKeys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  return runScript(redis.connect(), script, scriptKeys, args);
}

function beat(worker: string, model = field): Promise<unknown> {
  const scriptKeys = [keys.modelCards, keys.workers, keys.modelsServed];
  return run(HEARTBEAT, scriptKeys, [model, `card of ${model}`, `${model} ${worker}`, 4000]);
}

async function served(): Promise<{ cards: string[]; members: string[] }> {
  const reply = await run(SERVED_MODELS, [keys.modelCards, keys.workers], []);
  const [cards, members] = z.tuple([z.array(z.string()), z.array(z.string())]).parse(reply);
  return { cards, members };
}

describe('heartbeat', () => {
  it('says what is served and by whom, of many at once', async () => {
    await Promise.all(['a', 'b', 'c', 'a'].map((worker) => beat(worker)));

    const { cards, members } = await served();
    expect(cards).toEqual([field, `card of ${field}`]);
    expect(members.sort()).toEqual(['a', 'b', 'c'].map((worker) => `${field} ${worker}`));
  });

  it('counts for as long as it is not overdue', async () => {
    await beat('a');
    await redis.client.zadd(keys.workers, Date.now() - 1, `${field} a`);
    expect((await served()).members).toEqual([]);
    expect((await served()).cards).toHaveLength(2);
  });

  it('forgets models that nobody has served for a day, and workers that are gone for a minute', async () => {
    await beat('a', 'old');
    await beat('b', 'young');
    await redis.client.zadd(keys.modelsServed, Date.now() - DAY_MS - 1000, 'old');
    await redis.client.zadd(keys.modelsServed, Date.now() - DAY_MS + 60_000, 'young');
    await redis.client.zadd(keys.workers, Date.now() - 61_000, 'old a');
    await beat('c');

    expect((await redis.client.hkeys(keys.modelCards)).sort()).toEqual([field, 'young'].sort());
    expect(await redis.client.zcard(keys.modelsServed)).toBe(2);
    expect(await redis.client.zscore(keys.workers, 'old a')).toBeNull();
  });
});

describe('depart', () => {
  it('takes a worker off the list, and remembers it for an hour', async () => {
    await Promise.all([beat('a'), beat('b')]);
    await redis.client.zadd(keys.departedWorkers, Date.now() - 3_601_000, 'long gone');
    await run(DEPART, [keys.workers, keys.departedWorkers], [`${field} a`]);

    expect((await served()).members).toEqual([`${field} b`]);
    expect(await redis.client.zrange(keys.departedWorkers, '0', '-1')).toEqual([`${field} a`]);
  });
});

describe('report-rate and queue-load', () => {
  const { wait, prioritized } = keys.waitingJobs(queue);
  const active = keys.activeJobs(queue);

  async function load(priority = 10): Promise<readonly [number, number, number]> {
    const scriptKeys = [wait, prioritized, active, keys.rates(queue)];
    const reply = await run(QUEUE_LOAD, scriptKeys, [priority]);
    return z.tuple([z.number(), z.number(), z.coerce.number()]).parse(reply);
  }

  function report(worker: string, rate: number, numRows: number | '') {
    return run(REPORT_RATE, [keys.rates(queue)], [worker, rate, 4000, numRows]);
  }

  async function enqueue(...priorities: number[]): Promise<void> {
    for (const [i, priority] of priorities.entries()) {
      await redis.client.zadd(prioritized, priority * 2 ** 32 + i, `job ${i}`);
    }
  }

  it('count those ahead by their priority', async () => {
    await redis.client.rpush(wait, 'first');
    await enqueue(5, 10, 10, 11);
    expect(await load(10)).toEqual([5, 4, 0]);
    expect(await load(1)).toEqual([5, 1, 0]);
  });

  it('count as ahead only those that have to end first, where rows are known', async () => {
    await enqueue(10, 10, 10);
    await redis.client.rpush(active, 'a', 'b', 'c');
    await report('a', 1, 2);
    expect(await load()).toEqual([3, 5, 1]); // one of seven, in two rows, and its own

    await report('b', 1, 6);
    expect(await load()).toEqual([3, 0, 2]);

    await report('c', 1, ''); // of an older worker, which does not say
    expect(await load()).toEqual([3, 3, 3]);
  });

  it('add up what workers can finish, and take the mean for those that know nothing yet', async () => {
    await Promise.all([report('a', 2, 1), report('b', 4, 1), report('c', 0, 1)]);
    expect((await load())[2]).toBe(9);

    await redis.client.hset(keys.rates(queue), 'b', `${Date.now() - 1} 4 1`);
    expect((await load())[2]).toBe(4);
    expect(await redis.client.hexists(keys.rates(queue), 'b')).toBe(0);
  });
});

describe('register', () => {
  function registerAs(workerId: string, createdMs: number) {
    const card = { ...storiesCard, createdMs };
    const registration = { card, tokenizerFiles: storiesFiles, workerId, ratePerSecond: () => 0 };
    return register(redis.client, redis.client, keys, registration);
  }

  async function card(): Promise<ModelCard> {
    const { name: model, fingerprint } = storiesCard;
    const text = await redis.client.hget(keys.modelCards, servedModelField({ model, fingerprint }));
    return decodeModelCard(text ?? '');
  }

  it('lets a model be as old as its first worker, whoever comes later or comes back', async () => {
    await using _first = await registerAs('a', 2000);
    await using _later = await registerAs('b', 5000);
    expect((await card()).createdMs).toBe(2000);

    await redis.client.hdel(keys.modelCards, ...(await redis.client.hkeys(keys.modelCards)));
    await using _again = await registerAs('c', 1000);
    expect((await card()).createdMs).toBe(1000);
  });
});
