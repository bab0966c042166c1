import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, readlink, realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { findRedis, type RedisBinary } from './find-redis.ts';

export interface PrivateRedisOptions {
  /** Where its append-only file lives: a server opened there again goes on with the same data. */
  readonly dir: string;
  readonly port: number | 'free';
  /** Where an unpacked `redis-server` is kept. */
  readonly cacheDir?: string;
  /** More lines of configuration, as arguments: `['--cluster-enabled', 'yes']`. */
  readonly settings?: readonly string[];
}

export interface PrivateRedis extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly process: ChildProcess;
}

const PID_FILE = 'redis.pid';
const READY = 'Ready to accept connections';

/**
 * A killed server has lost nothing it said yes to: with `no`, every write reaches the kernel before
 * its reply leaves. (`everysec` puts writes off while it syncs; `always`, which redis.conf has for
 * production, would also survive a power failure, for a sync in each turn of the server's loop.)
 */
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'no', '--save', ''];

/**
 * Starts a Redis of our own on the loopback interface, with an append-only file. Disposing stops it
 * and waits until everything is on disk.
 *
 * @throws {Error} saying why it did not start
 */
export async function openPrivateRedis(options: PrivateRedisOptions): Promise<PrivateRedis> {
  const binary = await findRedis(options.cacheDir ?? join(homedir(), '.cache/rivulet'));
  await mkdir(options.dir, { recursive: true });
  await endForerunner(options.dir);
  const port = options.port === 'free' ? await freePort() : options.port;
  const child = await start(binary, { ...options, port });
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    process: child,
    async [Symbol.asyncDispose]() {
      await stop(child);
    },
  };
}

async function start(
  binary: RedisBinary,
  { dir, port, settings = [] }: PrivateRedisOptions & { readonly port: number },
): Promise<ChildProcess> {
  const where = ['--bind', '127.0.0.1', '--port', `${port}`, '--dir', dir, '--pidfile', PID_FILE];
  // Its own process group: Ctrl-C reaches those who use it first, and they stop it when they are
  // done.
  const child = spawn(binary.path, [...where, ...DURABLE, ...settings], {
    env: { ...process.env, ...binary.env },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  let log = '';
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    log += String(chunk);
    if (log.includes(READY)) break;
  }
  if (!log.includes(READY)) {
    const reason = log.trim().split('\n').at(-1) ?? 'no output';
    throw new Error(`redis-server did not start on port ${port}: ${reason}`);
  }
  child.stdout.resume();
  return child;
}

/** Two servers on one append-only file would spoil it: stops one whose owner was killed. */
async function endForerunner(dir: string): Promise<void> {
  const pid = Number(await readFile(join(dir, PID_FILE), 'utf8').catch(() => ''));
  if (!Number.isInteger(pid) || pid <= 1) return;
  const dirOf = () => readlink(`/proc/${pid}/cwd`).catch(() => null);
  const ours = await realpath(dir);
  if ((await dirOf()) !== ours) return;
  process.kill(pid, 'SIGTERM');
  while ((await dirOf()) === ours) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  if (!child.killed) child.kill('SIGTERM');
  await gone;
}

/** A port that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
