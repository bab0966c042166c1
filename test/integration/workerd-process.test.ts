import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonOf } from '../support/edge.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { expectToComeBackLater } from '../support/redis-outage.ts';
import { startWorkerdEdge } from '../support/workerd-edge.ts';

const entry = fileURLToPath(new URL('../../infra/workerd.ts', import.meta.url));

/** The edge in workerd when it cannot start. */
async function failToStart(environment: Record<string, string>) {
  const child = spawn(process.execPath, [entry], {
    env: { PATH: process.env.PATH, HOST: '127.0.0.1', PORT: '0', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let printed = '';
  child.stderr.on('data', (data: Buffer) => {
    printed += data.toString();
  });
  const [status] = await once(child, 'close');
  return { status, printed };
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);

const isGone = (pid: number): boolean => !existsSync(`/proc/${pid}/exe`); // a zombie is gone, too

describe('the edge in workerd, as a process', () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await openTestRedis();
  });
  afterAll(() => redis[Symbol.asyncDispose]());

  const numConnections = async () =>
    String(await redis.client.client('LIST'))
      .trim()
      .split('\n').length;

  it.each([
    { signal: 'SIGTERM', status: 0 },
    { signal: 'SIGKILL', status: null },
  ] as const)('leaves no workerd behind when it ends by $signal', async ({ signal, status }) => {
    const edge = await startWorkerdEdge({ redisUrl: redis.url });
    const pids = childrenOf(edge.pid);
    expect(pids.length).toBeGreaterThan(0);
    expect((await fetch(`${edge.url}/healthz`)).status).toBe(200);

    expect(await edge.stop(signal)).toBe(status);

    await expect.poll(() => pids.filter((pid) => !isGone(pid)), { timeout: 10_000 }).toEqual([]);
  });

  it('holds connections to Redis while they are used, and lets them go after', async () => {
    const before = await numConnections();
    const env = { HUB_IDLE_MS: '100', NUM_HUBS: '1' };
    await using edge = await startWorkerdEdge({ redisUrl: redis.url, env });
    expect(await numConnections()).toBe(before);

    for (let i = 0; i < 2; i += 1) {
      const statuses = await Promise.all(
        Array.from({ length: 24 }, async () => (await fetch(`${edge.url}/v1/models`)).status),
      );
      expect(new Set(statuses)).toEqual(new Set([200]));
      expect(await numConnections()).toBe(before + 2);
      await expect.poll(numConnections).toBe(before);
    }
  });

  it('answers 503 while Redis is away, and serves when it is back', async () => {
    await using edge = await startWorkerdEdge({ redisUrl: redis.url });
    const models = () => fetch(`${edge.url}/v1/models`);
    expect((await models()).status).toBe(200);

    await redis.stop('SIGKILL');
    await expect.poll(async () => (await models()).status, { timeout: 20_000 }).toBe(503);
    await expectToComeBackLater(edge.url);
    await redis.start();
    await expect.poll(async () => (await models()).status, { timeout: 20_000 }).toBe(200);

    // Every hub comes back on its own.
    const readiness = async () => (await jsonOf(await fetch(`${edge.url}/readyz`))).error.code;
    await expect.poll(readiness, { timeout: 20_000 }).toBe('no_worker');
  });

  it('says that the queue cannot be reached where there is no Redis', async () => {
    await using edge = await startWorkerdEdge({ redisUrl: 'redis://127.0.0.1:1' });
    const response = await fetch(`${edge.url}/readyz`);

    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('1');
    expect((await jsonOf(response)).error.code).toBe('unavailable');
    expect(edge.printed()).toMatch(/cannot reach Redis at 127\.0\.0\.1:1 .*set REDIS_URL/);
  });

  it('says in one line that its port is taken', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const address = squatter.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;

    const { status, printed } = await failToStart({ REDIS_URL: redis.url, PORT: `${port}` });
    squatter.close();

    expect(status).toBe(1);
    expect(printed.trim()).toBe(
      `edge: 127.0.0.1:${port} is taken; stop what listens there or set PORT`,
    );
  });

  it.each([
    { names: ['PORT', 'REDIS_URL'], environment: { PORT: 'x' } },
    { names: ['NUM_HUBS'], environment: { REDIS_URL: 'redis://127.0.0.1:1', NUM_HUBS: '0' } },
  ])('lists what is wrong with its environment: $names', async ({ names, environment }) => {
    const { status, printed } = await failToStart(environment);
    expect(status).toBe(1);
    expect(printed).toMatch(/^edge: bad environment/);
    for (const name of names) expect(printed).toContain(name);
  });
});
