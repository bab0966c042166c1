import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface RedisBinary {
  readonly path: string;
  /** What it needs beside the environment of this process. */
  readonly env: Readonly<Record<string, string>>;
}

const PACKAGES = ['redis-server', 'redis-tools', 'libjemalloc2', 'liblzf1'];

/**
 * A `redis-server` that starts: the one on PATH; else, on Debian and Ubuntu, its packages unpacked
 * without root below `cacheDir`.
 *
 * @throws {Error} saying how to install Redis on the system at hand
 */
export async function findRedis(cacheDir: string): Promise<RedisBinary> {
  const onPath: RedisBinary = { path: 'redis-server', env: {} };
  if (await starts(onPath)) return onPath;

  const root = join(cacheDir, 'redis');
  const unpacked = await unpackedIn(root);
  if (unpacked !== null && (await starts(unpacked))) return unpacked;

  let cause: unknown;
  try {
    await unpackPackages(root);
  } catch (error) {
    cause = error; // another process may have been faster
  }
  const fetched = await unpackedIn(root);
  if (fetched !== null && (await starts(fetched))) return fetched;
  throw new Error(
    `no redis-server found: install it with "${installCommand()}", or set REDIS_URL`,
    {
      cause,
    },
  );
}

async function starts(binary: RedisBinary): Promise<boolean> {
  try {
    await run(binary.path, ['--version'], { env: { ...process.env, ...binary.env } });
    return true;
  } catch {
    return false;
  }
}

/** The packages' `usr` below `root`; libraries are in `usr/lib/<architecture>-linux-gnu`. */
async function unpackedIn(root: string): Promise<RedisBinary | null> {
  const libraries = await readdir(join(root, 'usr/lib')).catch(() => []);
  if (libraries.length === 0) return null;
  const folders = libraries.map((name) => join(root, 'usr/lib', name));
  const inherited = process.env.LD_LIBRARY_PATH ? [process.env.LD_LIBRARY_PATH] : [];
  return {
    path: join(root, 'usr/bin/redis-server'),
    env: { LD_LIBRARY_PATH: [...folders, ...inherited].join(delimiter) },
  };
}

/** Leaves either the whole of the packages below `root` or nothing. */
async function unpackPackages(root: string): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'rivulet-redis-'));
  try {
    await downloadPackages(scratch);
    const unpacked = join(scratch, 'root');
    for (const file of await readdir(scratch)) {
      if (file.endsWith('.deb')) await run('dpkg', ['-x', join(scratch, file), unpacked]);
    }
    const beside = `${root}.${process.pid}`;
    await mkdir(root, { recursive: true });
    await cp(unpacked, beside, { recursive: true, verbatimSymlinks: true });
    await rm(root, { recursive: true, force: true });
    await rename(beside, root);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** With the system's package lists, and where those are missing with lists of our own. */
async function downloadPackages(dir: string): Promise<void> {
  try {
    await run('apt-get', ['download', ...PACKAGES], { cwd: dir });
  } catch {
    const lists = join(dir, 'lists');
    const cache = join(dir, 'cache');
    await mkdir(join(lists, 'partial'), { recursive: true });
    await mkdir(join(cache, 'archives/partial'), { recursive: true });
    const own = ['-o', `Dir::State::lists=${lists}`, '-o', `Dir::Cache=${cache}`];
    await run('apt-get', [...own, 'update'], { cwd: dir });
    await run('apt-get', [...own, 'download', ...PACKAGES], { cwd: dir });
  }
}

function installCommand(): string {
  return process.platform === 'darwin' ? 'brew install redis' : 'apt-get install redis-server';
}
