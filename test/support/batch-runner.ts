import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { BATCH_RUNNER } from '../../infra/batch-runner.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface BatchRunner extends AsyncDisposable {
  readonly pid: number;
  /** What it has logged so far. */
  readonly printed: () => string;
  /** @returns its exit status, `null` when a signal ended it */
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null>;
}

/**
 * `npm run batches` as a process of its own, which is quick to find a batch that lost its runner.
 */
export async function startBatchRunner(
  redisUrl: string,
  env: Readonly<Record<string, string>> = {},
): Promise<BatchRunner> {
  const child = spawn(process.execPath, BATCH_RUNNER, {
    cwd: root,
    env: { REDIS_URL: redisUrl, LOCK_MS: '500', STALLED_CHECK_MS: '100', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  let printed = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      printed += data.toString();
      if (printed.includes('"event":"batches_ready"')) resolve();
    });
    child.on('exit', () => reject(new Error(`the runner ended early:\n${printed}`)));
  });
  async function stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    child.kill(signal);
    const [status] = await exited;
    return status;
  }
  return {
    pid: child.pid ?? 0,
    printed: () => printed,
    stop,
    async [Symbol.asyncDispose]() {
      await stop('SIGKILL');
    },
  };
}
