import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { freePort, openPrivateRedis } from '../../../infra/redis/private-redis.ts';

const root = join(import.meta.dirname, '../../..');
const READY_WITHIN_MS = 60_000;

/** Where each kind of edge begins. */
export const EDGES = { node: 'edge/node.ts', workerd: 'infra/workerd.ts' } as const;
export type EdgeKind = keyof typeof EDGES;

export interface ServiceOptions {
  readonly cacheDir: string;
  readonly edges: readonly EdgeKind[];
  readonly workerEnv: Readonly<Record<string, string>>;
  readonly edgeEnv?: Readonly<Record<string, string>>;
  /** Processes beside these, each with its environment. */
  readonly beside?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export interface BenchService extends AsyncDisposable {
  readonly urls: ReadonlyMap<EdgeKind, string>;
  readonly redisUrl: string;
}

/** What name clients call the model by. */
export const MODEL_NAME = 'measured';

/** A private Redis, one worker and the edges, each a process of its own, as in production. */
export async function openService(options: ServiceOptions): Promise<BenchService> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-bench-redis-'));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const redis = stack.use(
    await openPrivateRedis({ dir, port: 'free', cacheDir: options.cacheDir }),
  );

  const shared = { ...process.env, REDIS_URL: redis.url, HOST: '127.0.0.1', LOG_LEVEL: 'error' };
  stack.use(start('worker/main.ts', { ...shared, ...options.workerEnv, MODEL_NAME }));
  const urls = new Map<EdgeKind, string>();
  for (const edge of options.edges) {
    const port = await freePort();
    stack.use(start(EDGES[edge], { ...shared, ...options.edgeEnv, PORT: `${port}` }));
    urls.set(edge, `http://127.0.0.1:${port}`);
  }
  for (const [script, env] of Object.entries(options.beside ?? {})) {
    stack.use(start(script, { ...shared, ...env }));
  }
  for (const url of urls.values()) await untilServed(url);
  const owned = stack.move();
  return { urls, redisUrl: redis.url, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function start(script: string, env: NodeJS.ProcessEnv): AsyncDisposable {
  const child = spawn(process.execPath, ['--import', './infra/end-with-parent.mjs', script], {
    cwd: root,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return {
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      await gone;
    },
  };
}

const modelsSchema = z.object({
  data: z.array(z.object({ id: z.string(), num_workers: z.number() })),
});

async function untilServed(url: string): Promise<void> {
  const startMs = performance.now();
  while (performance.now() - startMs < READY_WITHIN_MS) {
    const answer = await fetch(`${url}/v1/models`)
      .then((response) => response.json())
      .catch(() => null); // it does not listen yet
    const models = modelsSchema.safeParse(answer).data?.data ?? [];
    if (models.some(({ num_workers }) => num_workers > 0)) return;
    await sleep(100);
  }
  throw new Error(`${url} serves no model after ${READY_WITHIN_MS / 1000} s`);
}
