import { Cluster, Redis } from 'ioredis';

/** A connection to one Redis, or to the nodes of a cluster. */
export type RedisClient = Redis | Cluster;

export interface RedisConnections extends AsyncDisposable {
  /** Commands wait for a lost connection to come back, and are then sent again. */
  readonly command: RedisClient;
  readonly subscriber: RedisClient;
  readonly isCluster: boolean;
}

/**
 * A connection that owes an answer for so long is dead, though nobody said so: a machine that lost
 * its power resets nothing. Longer than BullMQ's consumer waits for a job.
 */
const SILENT_MS = 5000;

/** The same where jobs are delayed: for those it waits up to ten seconds. */
export const SILENT_WITH_DELAYS_MS = 12_000;

const CONNECT_MS = 5000;

interface Timeouts {
  readonly connectTimeout: number;
  readonly socketTimeout: number;
}

/** How often a subscriber, who may hear nothing for hours, is asked for an answer. */
const PING_MS = 2000;

const retryDelayMs = (numRetries: number): number => Math.min(50 * numRetries, 1000);

/** A failover leaves us with a replica that refuses writes: find the new primary. */
const reconnectOnError = (error: Error): 2 | false =>
  error.message.startsWith('READONLY') ? 2 : false;

/** @throws {Error} naming the address when nothing answers there, or nobody lets us in */
export async function connectRedis(
  url: string,
  silentMs: number = SILENT_MS,
): Promise<RedisConnections> {
  const shared = { connectTimeout: CONNECT_MS, socketTimeout: silentMs };
  const command = await connectFirst(url, shared);
  const isCluster = /cluster_enabled:1/.test(await command.info('cluster'));
  if (!isCluster) return connectionsOf(command, command.duplicate(), isCluster);
  command.disconnect();
  const options = { clusterRetryStrategy: retryDelayMs, redisOptions: shared };
  return connectionsOf(new Cluster([url], options), new Cluster([url], options), isCluster);
}

async function connectFirst(url: string, shared: Timeouts): Promise<Redis> {
  let isFirst = true;
  const command = new Redis(url, {
    ...shared,
    maxRetriesPerRequest: null,
    enableAutoPipelining: true, // the writes of one step go out together
    lazyConnect: true,
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
    throw new Error(refusalOf(new URL(url).host, reason), { cause });
  }
  command.off('error', note);
  isFirst = false;
  return command;
}

function refusalOf(host: string, reason: string): string {
  const [code = ''] = reason.split(' ');
  return code === 'NOAUTH' || code === 'WRONGPASS'
    ? `Redis at ${host} wants another password (${code}): set REDIS_URL to redis://user:password@${host}`
    : `cannot reach Redis at ${host} (${reason}): start Redis there or set REDIS_URL`;
}

function connectionsOf(
  command: RedisClient,
  subscriber: RedisClient,
  isCluster: boolean,
): RedisConnections {
  // Reconnecting is theirs; what could not be done meanwhile is told by whoever asked for it.
  for (const client of [command, subscriber]) client.on('error', () => undefined);
  const timer = setInterval(() => ping(subscriber), PING_MS);
  return {
    command,
    subscriber,
    isCluster,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      command.disconnect();
      subscriber.disconnect();
    },
  };
}

/** Makes a connection that is dead find that out. */
function ping(client: RedisClient): void {
  for (const node of client instanceof Cluster ? client.nodes() : [client]) {
    // Where it is being connected anew, pings would pile up.
    if (node.status === 'ready' || node.status === 'wait') node.ping().catch(() => undefined);
  }
}
