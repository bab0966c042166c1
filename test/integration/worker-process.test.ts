import { once } from 'node:events';
import { cpSync, mkdirSync, truncateSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { Keys } from '../../shared/protocol/keys.ts';
import { temporaryDirectory } from '../support/directories.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';
import { modelsDir, startWorker } from '../support/worker-process.ts';

const keys = new Keys();
const directory = temporaryDirectory();
let redis: TestRedis;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

/** The embedded model, with its weights cut off in the middle. */
function truncatedModel(): string {
  const modelDir = join(directory, 'truncated');
  mkdirSync(modelDir);
  cpSync(join(modelsDir, 'stories-draft'), modelDir, { recursive: true });
  truncateSync(join(modelDir, 'model.safetensors'), 100_000);
  return modelDir;
}

async function takenPort() {
  const squatter = createServer().listen(0);
  await once(squatter, 'listening');
  const address = squatter.address();
  return { squatter, port: typeof address === 'object' ? `${address?.port}` : '' };
}

describe('a worker process that cannot serve', () => {
  async function refusal(environment: Readonly<Record<string, string>>): Promise<string> {
    await using worker = startWorker({ REDIS_URL: redis.url, ...environment });
    const { status, printed } = await worker.exited;
    expect(status).toBe(1);
    expect(await redis.client.exists(keys.modelCards, keys.workers)).toBe(0);
    return printed.trim();
  }

  it.each([
    ['a directory that is not there', () => join(directory, 'nothing'), /\/nothing is /],
    ['weights that are cut off', truncatedModel, /model\.safetensors/],
  ] as const)('says in one line what is wrong with %s', async (_, modelDir, message) => {
    const printed = await refusal({ MODEL_DIR: modelDir() });
    expect(printed.split('\n')).toHaveLength(1);
    expect(printed).toMatch(/^worker: /);
    expect(printed).toMatch(message);
  });

  it('says in one line that Redis cannot be reached', async () => {
    const printed = await refusal({ REDIS_URL: 'redis://127.0.0.1:1' });
    expect(printed).toMatch(/^worker: cannot reach Redis at 127\.0\.0\.1:1 .*set REDIS_URL$/);
  });

  it('says in one line that its port is taken, and has told nobody that it serves', async () => {
    const { squatter, port } = await takenPort();
    const printed = await refusal({ METRICS_PORT: port });
    squatter.close();

    expect(printed).toBe(
      `worker: cannot serve metrics on port ${port}: set METRICS_PORT to another`,
    );
  });

  it('lists what is wrong with its environment', async () => {
    const printed = await refusal({ MAX_SEQUENCES: '0', NUM_THREADS: 'x' });
    expect(printed).toMatch(/^worker: bad environment/);
    for (const name of ['MAX_SEQUENCES', 'NUM_THREADS']) expect(printed).toContain(name);
  });
});

describe('a worker process that is told to stop', () => {
  it('while it opens its model ends at once', async () => {
    await using worker = startWorker({ REDIS_URL: redis.url, GRACE_MS: '60000' });
    await vi.waitFor(async () => expect(await redis.client.client('LIST')).toMatch(/cmd=info/), {
      timeout: 20_000,
      interval: 5,
    });
    worker.child.kill('SIGTERM');

    expect((await worker.exited).status).toBe(0);
    expect(await redis.client.exists(keys.modelCards)).toBe(0);
  });

  it('leaves nothing behind but what it served', async () => {
    await using worker = startWorker({ REDIS_URL: redis.url });
    await worker.ready;
    expect(await redis.client.zcard(keys.workers)).toBe(1);
    worker.child.kill('SIGTERM');

    expect((await worker.exited).status).toBe(0);
    expect(await redis.client.zcard(keys.workers)).toBe(0);
    expect(await redis.client.zcard(keys.departedWorkers)).toBe(1);
    expect(await redis.client.hlen(keys.modelCards)).toBe(1);
  });
});
