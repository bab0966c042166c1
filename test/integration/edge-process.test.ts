import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonOf } from '../support/edge.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { expectToComeBackLater } from '../support/redis-outage.ts';

const entry = fileURLToPath(new URL('../../edge/node.ts', import.meta.url));

/** The edge as a process of its own, with nothing in its environment but this. */
function startEdge(environment: Record<string, string>) {
  const child = spawn(process.execPath, [entry], {
    env: { HOST: '127.0.0.1', PORT: '0', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let printed = '';
  const ready = Promise.withResolvers<number>();
  child.stderr.on('data', (data: Buffer) => {
    printed += data.toString();
    const port = /"event":"edge_ready","port":(\d+)/.exec(printed)?.[1];
    if (port !== undefined) ready.resolve(Number(port));
  });
  const exited = once(child, 'close').then(([status]) => ({ status, printed }));
  return { child, ready: ready.promise, exited };
}

describe('the edge as a process', () => {
  let redis: TestRedis;

  beforeAll(async () => {
    redis = await openTestRedis();
  });
  afterAll(() => redis[Symbol.asyncDispose]());

  it('serves until it is told to stop, then exits with 0', async () => {
    const { child, ready, exited } = startEdge({ REDIS_URL: redis.url });
    const url = `http://127.0.0.1:${await ready}`;

    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect((await fetch(`${url}/readyz`)).status).toBe(503); // no worker
    child.kill('SIGTERM');
    expect((await exited).status).toBe(0);
  });

  it('answers 503 while Redis is away, and serves when it is back', async () => {
    const { child, ready, exited } = startEdge({ REDIS_URL: redis.url });
    const url = `http://127.0.0.1:${await ready}`;
    const readiness = async () => (await jsonOf(await fetch(`${url}/readyz`))).error.code;
    expect(await readiness()).toBe('no_worker');

    await redis.stop('SIGKILL');
    await expectToComeBackLater(url);
    await redis.start();
    await expect.poll(readiness, { timeout: 20_000 }).toBe('no_worker');
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
    child.kill('SIGTERM');
    expect((await exited).status).toBe(0);
  });

  it('stops with a board of the queues as well', async () => {
    const operator = { OPERATOR_KEY: '0123456789abcdef' };
    const { child, ready, exited } = startEdge({ REDIS_URL: redis.url, ...operator });
    const url = `http://127.0.0.1:${await ready}/operator/queues/api/queues`;
    const authorization = `Basic ${btoa(`operator:${operator.OPERATOR_KEY}`)}`;

    expect((await fetch(url, { headers: { authorization } })).status).toBe(200);
    child.kill('SIGTERM');
    expect((await exited).status).toBe(0);
  });

  it('says in one line that Redis cannot be reached', async () => {
    const { status, printed } = await startEdge({ REDIS_URL: 'redis://127.0.0.1:1' }).exited;

    expect(status).toBe(1);
    expect(printed.trim().split('\n')).toHaveLength(1);
    expect(printed).toMatch(/^edge: cannot reach Redis at 127\.0\.0\.1:1 .*set REDIS_URL/);
  });

  it.each([
    ['redis://127.0.0.1', 'NOAUTH'],
    ['redis://:wrong@127.0.0.1', 'WRONGPASS'],
  ])('says in one line that Redis wants another password: %s', async (url, reason) => {
    await redis.client.config('SET', 'requirepass', 'secret');
    const { status, printed } = await startEdge({ REDIS_URL: `${url}:${redis.port}` }).exited;
    await redis.client.config('SET', 'requirepass', '');

    expect(status).toBe(1);
    expect(printed.trim().split('\n')).toHaveLength(1);
    expect(printed).toContain(`edge: cannot reach Redis at 127.0.0.1:${redis.port} (${reason}`);
    expect(printed).toContain('put user and password into REDIS_URL');
  });

  it('says in one line that its port is taken', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const address = squatter.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;

    const edge = startEdge({ REDIS_URL: redis.url, PORT: `${port}` });
    const { status, printed } = await edge.exited;
    squatter.close();

    expect(status).toBe(1);
    expect(printed.trim()).toBe(
      `edge: 127.0.0.1:${port} is taken; stop what listens there or set PORT`,
    );
  });

  it('lists what is wrong with its environment', async () => {
    const { status, printed } = await startEdge({ PORT: 'x' }).exited;
    expect(status).toBe(1);
    expect(printed).toMatch(/^edge: bad environment/);
    for (const name of ['PORT', 'REDIS_URL']) expect(printed).toContain(name);
  });
});
