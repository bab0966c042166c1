import { Cluster, Redis } from 'ioredis';
import { Keys } from '../shared/protocol/keys.ts';
import { pushNotice } from '../shared/protocol/webhook-outbox.ts';
import type { RunContext } from './batches/batch-run.ts';
import { loadBatchesConfig } from './batches/config.ts';
import { consumeBatches } from './batches/consumer.ts';
import { keepCards } from './batches/kept-catalog.ts';
import { toNotice } from './batches/notice.ts';
import { sweepBatches } from './batches/sweep.ts';
import { createModelCatalog } from './catalog.ts';
import { consoleLog } from './log.ts';
import { connectRedis } from './transport/redis-connection.ts';
import { RedisTransport } from './transport/redis-transport.ts';

/** Time to close what is open, after the grace for batches. */
const CLOSING_MS = 3000;

const retryDelayMs = (numRetries: number): number => Math.min(50 * numRetries, 1000);

/** `npm run batches`: runs batches until told to stop, and leaves them where they are. */
async function main(): Promise<void> {
  const { redisUrl, maxQueued, window, maxTenantBytes, consumer } = loadBatchesConfig(process.env);
  const shutdown = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      shutdown.abort();
      setTimeout(() => process.exit(1), consumer.graceMs + CLOSING_MS).unref();
    });
  }
  const keys = new Keys();
  const connections = await connectRedis(redisUrl);
  await using transport = new RedisTransport(connections, { maxQueued });
  const client = openQueueClient(redisUrl, connections.isCluster);
  consoleLog('batches_ready', {});
  const context: RunContext = {
    transport,
    batches: transport.batches,
    catalog: keepCards(createModelCatalog(), Date.now),
    notify: (batch) => pushNotice(client, keys, toNotice(batch)),
    window,
    maxTenantBytes,
    now: Date.now,
    log: consoleLog,
    stopped: shutdown.signal,
  };
  await Promise.all([
    consumeBatches({ client, keys, ...consumer }, context),
    sweepBatches({ ...context, due: transport.batches }),
  ]);
  client.disconnect();
  consoleLog('batches_stopped', {});
}

/** BullMQ wants commands that wait for a lost connection. */
function openQueueClient(url: string, isCluster: boolean): Redis | Cluster {
  const client = isCluster
    ? new Cluster([url], { clusterRetryStrategy: retryDelayMs })
    : new Redis(url, { maxRetriesPerRequest: null, retryStrategy: retryDelayMs });
  client.on('error', () => undefined); // whoever asked for something is told
  return client;
}

try {
  await main();
  process.exit(0); // a connection that is still being looked for would keep it
} catch (error) {
  console.error(error instanceof Error ? `batches: ${error.message}` : error);
  process.exit(1);
}
