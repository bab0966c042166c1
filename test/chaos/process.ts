import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface ProcessOptions {
  readonly name: string;
  readonly script: string;
  readonly env: Readonly<Record<string, string>>;
  /** Where what it prints is kept. */
  readonly logFile: string;
  /** Printed once it serves. */
  readonly readyLine: RegExp;
}

/**
 * A process that finds no Redis says so and ends; whoever looks after it starts it again, as
 * compose.yaml asks.
 */
const MAX_STARTS = 10;
const BETWEEN_STARTS_MS = 500;
/** Longer than any grace, and than a busy machine makes of it. */
const GONE_WITHIN_MS = 30_000;

/**
 * A process of the service that is killed and started again, always under the same name and
 * environment.
 */
export class Victim implements AsyncDisposable {
  readonly #options: ProcessOptions;
  readonly #doomed = new WeakSet<ChildProcess>();
  #child: ChildProcess | null = null;
  #numCrashes = 0;
  #isClosed = false;

  constructor(options: ProcessOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** Whether it was started, is not stopped, and can be killed. */
  get isUp(): boolean {
    return this.#child !== null;
  }

  /** How often it served and then ended though nobody killed it; it is started again. */
  get numCrashes(): number {
    return this.#numCrashes;
  }

  /** Resolves when it serves. @throws {Error} when it ends before, again and again */
  async start(): Promise<void> {
    for (let numStarts = 1; ; numStarts += 1) {
      try {
        return await this.#startOnce();
      } catch (failure) {
        if (numStarts === MAX_STARTS || this.#isClosed) throw failure;
        await delay(BETWEEN_STARTS_MS);
      }
    }
  }

  async #startOnce(): Promise<void> {
    const { script, env, logFile, readyLine, name } = this.#options;
    const child = spawn(process.execPath, ['--import', './infra/end-with-parent.mjs', script], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ready = Promise.withResolvers<void>();
    let isReady = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        appendFileSync(logFile, data);
        if (readyLine.test(data.toString())) ready.resolve();
      });
    }
    child.once('exit', (status, signal) => {
      if (this.#child === child) this.#child = null;
      const end = `${name} ended with ${signal ?? status}; see ${logFile}`;
      ready.reject(new Error(end));
      if (!isReady || this.#doomed.has(child)) return;
      this.#numCrashes += 1;
      console.error(end);
      if (!this.#isClosed) void this.start().catch((error: unknown) => console.error(error));
    });
    await ready.promise;
    isReady = true;
    this.#child = child;
  }

  /** Kills it, and starts it again at once. Resolves when it serves. */
  async restart(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === null || this.#isClosed) return;
    this.#child = null;
    const gone = once(child, 'exit', { signal: AbortSignal.timeout(GONE_WITHIN_MS) });
    this.#doomed.add(child);
    child.kill(signal);
    await gone.catch((cause: unknown) => {
      child.kill('SIGKILL');
      throw new Error(`${this.name} did not end on ${signal}`, { cause });
    });
    if (!this.#isClosed) await this.start();
  }

  /** Stops it for a while, as a machine that hangs does. */
  async freeze(ms: number): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#child = null; // nothing else happens to it meanwhile
    child.kill('SIGSTOP');
    await delay(ms);
    child.kill('SIGCONT');
    if (child.exitCode === null && child.signalCode === null) this.#child = child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const child = this.#child;
    if (child === null) return;
    const gone = once(child, 'exit');
    this.#doomed.add(child);
    child.kill('SIGKILL');
    await gone;
  }
}
