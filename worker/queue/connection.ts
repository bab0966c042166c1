import { Cluster, Redis } from 'ioredis';

/** A connection to one Redis, or to the nodes of a cluster. */
export type RedisClient = Redis | Cluster;

export interface RedisConnections extends AsyncDisposable {
  /** Commands wait for a lost connection to come back, and are then sent again. */
  readonly command: RedisClient;
  readonly subscriber: RedisClient;
  readonly isCluster: boolean;
}

const retryDelayMs = (numRetries: number): number => Math.min(50 * numRetries, 1000);

/** A failover leaves us with a replica that refuses writes: find the new primary. */
const reconnectOnError = (error: Error): 2 | false =>
  error.message.startsWith('READONLY') ? 2 : false;

/** @throws {Error} naming the address when nothing answers there */
export async function connectRedis(url: string): Promise<RedisConnections> {
  const command = await connectFirst(url);
  const isCluster = /cluster_enabled:1/.test(await command.info('cluster'));
  if (!isCluster) return connectionsOf(command, command.duplicate(), isCluster);
  command.disconnect();
  const options = { clusterRetryStrategy: retryDelayMs };
  return connectionsOf(new Cluster([url], options), new Cluster([url], options), isCluster);
}

async function connectFirst(url: string): Promise<Redis> {
  let isFirst = true;
  const command = new Redis(url, {
    maxRetriesPerRequest: null,
    enableAutoPipelining: true, // the writes of one step go out together
    lazyConnect: true,
    connectTimeout: 5000,
    retryStrategy: (numRetries) => (isFirst ? null : retryDelayMs(numRetries)),
    reconnectOnError,
  });
  let reason = 'no answer';
  const note = (error: Error) => {
    reason = error.message;
  };
  command.on('error', note);
  try {
    await command.connect();
  } catch (cause) {
    const { host } = new URL(url);
    const advice = 'start Redis there or set REDIS_URL';
    throw new Error(`cannot reach Redis at ${host} (${reason}): ${advice}`, { cause });
  }
  command.off('error', note);
  isFirst = false;
  return command;
}

function connectionsOf(
  command: RedisClient,
  subscriber: RedisClient,
  isCluster: boolean,
): RedisConnections {
  // Reconnecting is theirs; what could not be done meanwhile is told by whoever asked for it.
  for (const client of [command, subscriber]) client.on('error', () => undefined);
  return {
    command,
    subscriber,
    isCluster,
    async [Symbol.asyncDispose]() {
      command.disconnect();
      subscriber.disconnect();
    },
  };
}
