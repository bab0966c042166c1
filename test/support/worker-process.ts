import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const entry = fileURLToPath(new URL('../../worker/main.ts', import.meta.url));
export const modelsDir = fileURLToPath(new URL('../../infra/models', import.meta.url));

export interface WorkerProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Resolves once it serves, with the beginning of its id. */
  readonly ready: Promise<string>;
  /** What it ended with, and what it printed on standard error. */
  readonly exited: Promise<{ readonly status: number | null; readonly printed: string }>;
}

/** A worker as a process of its own, with nothing in its environment but this. */
export function startWorker(environment: Readonly<Record<string, string>>): WorkerProcess {
  const child = spawn(process.execPath, [entry], {
    env: {
      MODEL_DIR: join(modelsDir, 'stories-target'),
      CACHE_DIR: process.env.CACHE_DIR ?? join(homedir(), '.cache/rivulet'),
      NUM_THREADS: '1',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let logged = '';
  let printed = '';
  const ready = Promise.withResolvers<string>();
  ready.promise.catch(() => undefined);
  child.stdout.on('data', (data: Buffer) => {
    logged += data.toString();
    const id = /"worker":"(\w+)"[^\n]*"event":"worker_ready"/.exec(logged)?.[1];
    if (id !== undefined) ready.resolve(id);
  });
  child.stderr.on('data', (data: Buffer) => {
    printed += data.toString();
  });
  const exited = once(child, 'close').then(([status]) => {
    ready.reject(new Error(`the worker ended early: ${printed}${logged}`));
    return { status, printed };
  });
  return {
    child,
    ready: ready.promise,
    exited,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await exited;
    },
  };
}
