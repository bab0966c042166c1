import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Service } from './openai-conformance.ts';

const entry = fileURLToPath(new URL('../../infra/workerd.ts', import.meta.url));

export interface WorkerdEdge extends Service {
  readonly pid: number;
  /** What it has logged so far. */
  readonly printed: () => string;
  /** @returns its exit status */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface WorkerdEdgeOptions {
  readonly redisUrl: string;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * `npm run edge:workers`, on a free port.
 *
 * @throws {Error} with all that was printed, when it ends before it is ready
 */
export async function startWorkerdEdge({
  redisUrl,
  env = {},
}: WorkerdEdgeOptions): Promise<WorkerdEdge> {
  const child = spawn(process.execPath, [entry], {
    env: { ...process.env, HOST: '127.0.0.1', PORT: '0', REDIS_URL: redisUrl, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  let printed = '';
  const port = await new Promise<string>((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      printed += data.toString();
      const found = /"event":"edge_ready","port":(\d+)/.exec(printed)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.on('exit', () => reject(new Error(`workerd's edge ended early:\n${printed}`)));
  });
  async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    child.kill(signal);
    const [status] = await exited;
    return status;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    printed: () => printed,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
    },
  };
}
