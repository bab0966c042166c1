import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Queue } from 'bullmq';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../edge/app.ts';
import { createBoard } from '../../edge/node-board.ts';
import { openRedisTransport, type RedisTransport } from '../../edge/transport/redis-transport.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { register } from '../../worker/queue/registry.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

const SECRET = 'secret words of a client';
const authorization = `Basic ${Buffer.from('operator:0123456789abcdef').toString('base64')}`;
const entry = fileURLToPath(new URL('../../edge/node.ts', import.meta.url));
const keys = new Keys();
const stack = new AsyncDisposableStack();
let redis: TestRedis;
let transport: RedisTransport;
let app: ReturnType<typeof createApp>;

beforeAll(async () => {
  redis = stack.use(await openTestRedis());
  transport = stack.use(await openRedisTransport(redis.url));
  const registration = { tokenizerFiles: storiesFiles, workerId: 'worker', ratePerSecond: () => 0 };
  stack.use(
    await register(redis.client, redis.client, keys, { card: storiesCard, ...registration }),
  );
  app = createApp(() => transport);
  const options = { path: '/operator/queues', operatorKey: '0123456789abcdef' };
  app.route(options.path, createBoard(redis.client, transport, options));
});
afterAll(() => stack.disposeAsync());

/** The edge as a process of its own. */
async function startEdge(environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [entry], {
    env: { HOST: '127.0.0.1', PORT: '0', ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  let port: string | undefined;
  for await (const line of createInterface({ input: child.stderr })) {
    port = /"event":"edge_ready","port":(\d+)/.exec(line)?.[1];
    if (port !== undefined) break;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

const get = (path: string, headers: Record<string, string> = { authorization }) =>
  app.request(`/operator/queues${path}`, { headers });

describe('the board of queues', () => {
  it('is for who has the key, and only to be looked at', async () => {
    expect((await get('/api/queues', {})).status).toBe(401);
    const wrong = { authorization: `Basic ${btoa('operator:wrong')}` };
    expect((await get('/api/queues', wrong)).status).toBe(401);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const path = '/operator/queues/api/queues/batches/pause';
      expect((await app.request(path, { method, headers: { authorization } })).status).toBe(405);
    }
    expect((await get('')).status).toBe(200);
  });

  it('has its page ask nobody else for anything', async () => {
    const page = await get('');
    const policy = page.headers.get('content-security-policy') ?? '';
    const sources = policy.split(';').flatMap((directive) => directive.trim().split(' ').slice(1));
    expect(policy).toContain("default-src 'self'");
    for (const source of sources) expect(source).toMatch(/^('[a-z-]+'|data:)$/);
    const scripts = [...(await page.text()).matchAll(/ src="(static[^"]+)"/g)];
    expect(scripts.length).toBeGreaterThan(0);
    for (const [, path] of scripts) expect((await get(`/${path}`)).status).toBe(200);
  });

  it('is there only where the edge was given a key', async () => {
    const key = '0123456789abcdef';
    const statuses = await Promise.all(
      [{}, { OPERATOR_KEY: key, BULL_BOARD_PATH: '/queues' }].map(async (environment) => {
        await using edge = await startEdge({ REDIS_URL: redis.url, ...environment });
        const paths = ['/operator/queues', '/queues'];
        const found = paths.map((path) =>
          fetch(`${edge.url}${path}`, { headers: { authorization } }),
        );
        return (await Promise.all(found)).map(({ status }) => status);
      }),
    );
    expect(statuses).toEqual([
      [404, 404],
      [404, 200],
    ]);
  });

  it('shows queues and jobs, and no word of theirs', async () => {
    const { name: model, fingerprint } = storiesCard;
    const job = jobOf({ model, fingerprint, stop: [SECRET] });
    await transport.submit(job, AbortSignal.timeout(60_000));
    const { prefix, name } = keys.deliveries;
    const deliveries = new Queue(name, { prefix, connection: redis.client });
    await deliveries.add('delivery', { body: SECRET }, { jobId: 'msg_1_0' });
    const idByQueue = new Map([
      [`${model} ${fingerprint} requests`, job.id],
      ['deliveries', 'msg_1_0'],
    ]);

    for (const [queue, id] of idByQueue) {
      const field = encodeURIComponent(queue);
      const list = await (
        await get(`/api/queues?activeQueue=${field}&page=1&jobsPerPage=10`)
      ).text();
      expect(list).toContain(id);
      const one = await get(`/api/queues/${field}/${id}`);
      expect(one.status).toBe(200);
      for (const text of [list, await one.text()]) expect(text).not.toContain(SECRET);
      const logs = await (await get(`/api/queues/${field}/${id}/logs`)).text();
      expect(logs).not.toContain(SECRET);
    }
  });
});
