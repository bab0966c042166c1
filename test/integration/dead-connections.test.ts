import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { openPrivateRedis } from '../../infra/redis/private-redis.ts';
import { connectRedis } from '../../worker/queue/connection.ts';
import { openRelay } from '../chaos/relay.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { generate, openTestWorker } from '../support/workers.ts';

const directory = temporaryDirectory();
let redis: TestRedis;
let transport: RedisTransport;

beforeAll(async () => {
  redis = await openTestRedis();
  transport = await openRedisTransport(redis.url);
});
afterAll(async () => {
  await transport[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

/** Longer than a connection may owe an answer, and than a busy machine makes of it. */
const NOTICED_MS = 12_000;

describe('connections that die without a word', () => {
  it('are noticed by a worker, which goes on, takes more and hears cancels', async () => {
    await using relay = await openRelay(redis.port);
    const generator = new ScriptedGenerator('by-hand');
    await using _worker = await openTestWorker(`redis://127.0.0.1:${relay.port}`, generator);
    const before = jobOf();
    const result = generate(transport, before);
    await generator.started(1);
    generator.step();

    relay.swallow();
    const after = jobOf();
    const other = generate(transport, after);
    await vi.waitFor(
      () => {
        expect(generator.starts.some(({ id }) => id === after.id)).toBe(true);
      },
      { timeout: NOTICED_MS, interval: 50 },
    );
    // Without a step nothing but a message can tell of a cancel.
    await vi.waitFor(
      async () => {
        await transport.cancel(after.id);
        expect(generator.isCancelled(after.id)).toBe(true);
      },
      { timeout: NOTICED_MS, interval: 50 },
    );

    const stepping = setInterval(() => generator.step(), 20);
    expect((await result).texts).toEqual([scriptedText(before)]);
    expect((await other).last?.type).toBe('done');
    clearInterval(stepping);
  });
});

describe('a Redis that wants a password', () => {
  it('is not said to be away', async () => {
    await using server = await openPrivateRedis({
      dir: directory,
      port: 'free',
      settings: ['--requirepass', 'secret'],
    });
    const address = `127.0.0.1:${server.port}`;

    for (const [login, code] of [
      ['', 'NOAUTH'],
      [':wrong@', 'WRONGPASS'],
    ]) {
      await expect(connectRedis(`redis://${login}${address}`)).rejects.toThrow(
        `Redis at ${address} wants another password (${code}): set REDIS_URL`,
      );
    }
    await using _redis = await connectRedis(`redis://:secret@${address}`);
  });
});
