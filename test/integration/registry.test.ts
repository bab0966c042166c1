import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { register } from '../../worker/queue/registry.ts';
import { jsonOf } from '../support/edge.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

const stack = new AsyncDisposableStack();
let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  transport = stack.use(await openRedisTransport(redis.url));
});
afterAll(() => stack.disposeAsync());

async function serve(workerId: string, createdMs: number): Promise<void> {
  const card = { ...storiesCard, name: 'a "createdMs":9', createdMs };
  const registration = { tokenizerFiles: storiesFiles, ratePerSecond: () => 0 };
  stack.use(
    await register(redis.client, redis.client, new Keys(), { card, workerId, ...registration }),
  );
}

async function list() {
  const app = createApp(() => transport, { log: () => undefined });
  return (await jsonOf(await app.request('/v1/models'))).data;
}

describe('a model of several workers', () => {
  it('is as old as the first of them said, whoever says it again', async () => {
    await serve('first', 5_000_000);
    await serve('second', 9_000_000);
    const shown = { id: 'a "createdMs":9', created: 5000, num_workers: 2, max_model_len: 512 };
    expect(await list()).toMatchObject([shown]);

    await serve('third', 7_000_000);
    expect(await list()).toMatchObject([{ ...shown, num_workers: 3 }]);
  });
});
