import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { BATCH_RUNNER } from './batch-runner.ts';
import { Part } from './part.ts';
import { freePort, openPrivateRedis } from './redis/private-redis.ts';

const POLL_MS = 100;
const STOP_WITHIN_MS = 12_000;

const defaultModelDir = fileURLToPath(new URL('models/stories-target', import.meta.url));
const defaultDraftDir = fileURLToPath(new URL('models/stories-draft', import.meta.url));

/**
 * `npm start`: a private Redis, the edge, a worker, webhooks and batches, in one terminal, until
 * Ctrl-C.
 */
async function main(): Promise<void> {
  const stopped = stopSignal();
  const port = await portToServe(process.env.PORT ?? '8787');
  const cacheDir = resolve(process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet'));
  const modelDir = resolve(process.env.MODEL_DIR ?? defaultModelDir);

  await using stack = new AsyncDisposableStack();
  const redisUrl = process.env.REDIS_URL ?? (await openRedis(stack, cacheDir, port));
  const env = {
    GRACE_MS: '5000',
    // The embedded pair belongs together; another model brings its own draft, or none.
    ...(modelDir === defaultModelDir ? { DRAFT_MODEL_DIR: defaultDraftDir } : {}),
    ...process.env,
    PORT: `${port}`,
    REDIS_URL: redisUrl,
    CACHE_DIR: cacheDir,
    MODEL_DIR: modelDir,
  };
  const parts = [];
  for (const [name, ...args] of [
    ['worker', 'worker/main.ts'],
    ['edge', 'edge/node.ts'],
    ['webhooks', 'worker/webhooks/main.ts'],
    ['batches', ...BATCH_RUNNER],
  ] as const) {
    const part = new Part(name, args, env);
    stack.defer(() => part.stop(STOP_WITHIN_MS));
    parts.push(part);
  }
  const failed = Promise.race(parts.map(({ ended }) => ended));

  const model = process.env.MODEL_NAME ?? basename(modelDir);
  const watching = new AbortController();
  stack.defer(() => watching.abort());
  const first = await Promise.race([failed, stopped, serves(model, port, watching.signal)]);
  if (first === 'ready') printReady(model, port);
  const end = first === 'ready' ? await Promise.race([failed, stopped]) : first;
  if (end === 'stopped') return;
  process.exitCode = 1;
  console.error(`stopping: ${end}`);
}

/** A taken port is found before anything is started; 0 chooses one. */
async function portToServe(text: string): Promise<number> {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Error(`PORT must be a number from 0 to 65535, not ${text}`);
  }
  if (port === 0) return freePort();
  const server = createServer().listen(port, process.env.HOST ?? '0.0.0.0');
  try {
    await once(server, 'listening');
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? cause.code : cause;
    const advice = 'stop what listens there or set PORT to another number';
    throw new Error(`cannot listen on port ${port} (${reason}): ${advice}`, { cause });
  }
  server.close();
  await once(server, 'close');
  return port;
}

/** Its data are kept by port, so that two of us do not share a file. */
async function openRedis(
  stack: AsyncDisposableStack,
  cacheDir: string,
  port: number,
): Promise<string> {
  const isLasting = process.env.PORT !== '0';
  const dir = isLasting
    ? join(cacheDir, 'redis-data', `${port}`)
    : await mkdtemp(join(tmpdir(), 'rivulet-redis-'));
  const redis = stack.use(await openPrivateRedis({ dir, port: 'free', cacheDir }));
  return redis.url;
}

const modelsSchema = z.object({
  data: z.array(z.object({ id: z.string(), num_workers: z.number() })),
});

async function serves(model: string, port: number, signal: AbortSignal): Promise<'ready'> {
  const headers = authorization();
  while (!signal.aborted) {
    const url = `http://127.0.0.1:${port}/v1/models`;
    const answer = await fetch(url, { headers, signal })
      .then((response) => response.json())
      .catch(() => null); // it does not listen yet
    const models = modelsSchema.safeParse(answer).data?.data ?? [];
    if (models.some(({ id, num_workers }) => id === model && num_workers > 0)) return 'ready';
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return new Promise(() => undefined);
}

function printReady(model: string, port: number): void {
  const body = { model, prompt: 'Once upon a time', max_tokens: 200, stream: true };
  const headers = Object.entries({ ...authorization(), 'content-type': 'application/json' })
    .map(([name, value]) => `-H '${name}: ${value}'`)
    .join(' ');
  const url = `http://127.0.0.1:${port}/v1/completions`;
  console.log(`\nready\n\ncurl -N ${url} ${headers} -d '${JSON.stringify(body)}'\n`);
}

function authorization(): Record<string, string> {
  const key = process.env.API_KEYS?.split(':')[0]?.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

/**
 * Resolves at the first SIGINT or SIGTERM. One sent much later, by somebody out of patience, ends
 * us at once.
 */
function stopSignal(): Promise<'stopped'> {
  let firstMs: number | null = null;
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        firstMs ??= Date.now();
        resolve('stopped');
        // A terminal and npm both pass on one Ctrl-C.
        if (Date.now() - firstMs > 1000) process.exit(130);
      });
    }
  });
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
// Whoever still polls or listens must not keep us.
process.exit();
