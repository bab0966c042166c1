import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { SendToHub } from '../edge/transport/hub-transport.ts';
import { freePort } from './redis/private-redis.ts';
import { openWorkerdFront } from './workerd-front.ts';

export interface WorkerdOptions {
  /** 0 for any that is free. */
  readonly port: number;
  readonly hostname: string;
  /** Variables and secrets of the Worker, beside those of wrangler.jsonc. */
  readonly bindings: Readonly<Record<string, string>>;
}

export interface Workerd extends AsyncDisposable {
  readonly port: number;
  /** Calls a hub past the Worker, as the Worker does. */
  readonly sendToHub: SendToHub;
}

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const configPath = here('wrangler.jsonc');
const require = createRequire(import.meta.url);

/** Neither wrangler nor what it runs calls anybody. */
const OFFLINE = {
  CLOUDFLARE_CF_FETCH_ENABLED: 'false',
  WRANGLER_SEND_METRICS: 'false',
  WRANGLER_HIDE_BANNER: 'true',
};

/** What of wrangler.jsonc concerns us. */
const workerOptionsSchema = z.object({
  compatibilityDate: z.string(),
  compatibilityFlags: z.array(z.string()),
  durableObjects: z.record(z.string(), z.object({ className: z.string(), useSQLite: z.boolean() })),
  bindings: z.record(z.string(), z.string()),
});

/**
 * The Worker that wrangler would deploy, in a workerd of our own. It keeps nothing on disk.
 * Disposing ends it at once: streams are cut, and clients resume them elsewhere.
 *
 * @throws {Error} saying what to do when the port is taken
 */
export async function openWorkerd(options: WorkerdOptions): Promise<Workerd> {
  const { bindings, hostname } = options;
  const workerdPort = await freePort();
  await using stack = new AsyncDisposableStack();
  // Before the rest, which takes seconds: the port may be taken.
  const front = stack.use(await openWorkerdFront({ port: options.port, hostname, workerdPort }));
  await using scratch = await scratchDirectory();
  Object.assign(process.env, OFFLINE, {
    MINIFLARE_WORKERD_PATH: here('workerd.sh'),
    WORKERD: createRequire(require.resolve('miniflare'))('workerd').default,
  });
  const [script, { Miniflare, convertV4MiniflareOptions }, { unstable_getMiniflareWorkerOptions }] =
    await Promise.all([bundle(scratch.path), import('miniflare'), import('wrangler')]);
  const { workerOptions } = unstable_getMiniflareWorkerOptions(configPath);
  const config = workerOptionsSchema.parse(workerOptions);
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: '127.0.0.1',
      port: workerdPort,
      cf: false,
      handleStructuredLogs: ({ message }) => console.error(message),
      workers: [
        {
          name: 'edge',
          modules: [{ type: 'ESModule', path: 'workers.js', contents: script }],
          ...config,
          bindings: { ...config.bindings, ...bindings },
        },
      ],
    }),
  );
  stack.defer(() => miniflare.dispose());
  await miniflare.ready;
  const hubs = await miniflare.getDurableObjectNamespace('HUB');
  const open = stack.move();
  return {
    port: front.port,
    async sendToHub(hub, call) {
      const stub = hubs.get(hubs.idFromName(`hub-${hub}`));
      const answer = await stub.fetch('https://hub/', { method: 'POST', body: call });
      return new Response(answer.body, { status: answer.status, headers: [...answer.headers] });
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** What wrangler would upload, as one module. */
async function bundle(directory: string): Promise<string> {
  const wrangler = join(dirname(require.resolve('wrangler/package.json')), 'bin/wrangler.js');
  const outdir = join(directory, 'bundle');
  const args = ['deploy', '--dry-run', '--outdir', outdir, '--config', configPath];
  const env = { ...process.env, ...OFFLINE };
  try {
    await promisify(execFile)(process.execPath, [wrangler, ...args], { cwd: directory, env });
  } catch (cause) {
    throw new Error(`wrangler could not bundle the edge: ${cause}`, { cause });
  }
  return readFile(join(outdir, 'workers.js'), 'utf8');
}

async function scratchDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'rivulet-workerd-'));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true });
    },
  };
}
