import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openPrivateRedis } from '../../infra/redis/private-redis.ts';

export interface TestRedis extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** A connection that lives as long as the server. */
  readonly client: Redis;
  connect(): Redis;
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts a stopped server again, on the same port and data. */
  start(): Promise<void>;
}

/** A Redis server of the test file's own, gone with its data when disposed. */
export async function openTestRedis(): Promise<TestRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'rivulet-test-redis-'));
  let server = await openPrivateRedis({ dir, port: 'free' });
  const { url, port } = server;
  const connections: Redis[] = [];

  function connect(): Redis {
    const connection = new Redis(url, { maxRetriesPerRequest: null });
    connection.on('error', () => undefined);
    connections.push(connection);
    return connection;
  }

  return {
    url,
    port,
    client: connect(),
    connect,
    async stop(signal = 'SIGTERM') {
      server.process.kill(signal);
      await server[Symbol.asyncDispose]();
    },
    async start() {
      server = await openPrivateRedis({ dir, port });
    },
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.disconnect();
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
