import { randomUUID } from 'node:crypto';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { connectRedis, SILENT_WITH_DELAYS_MS } from '../queue/connection.ts';
import { PatientRedis } from '../queue/patient-redis.ts';
import { createLog } from '../telemetry/log.ts';
import { serveMetrics } from '../telemetry/metrics-server.ts';
import { WebhookMetrics } from '../telemetry/webhook-metrics.ts';
import { loadWebhooksConfig } from './config.ts';
import { openWebhooks } from './webhooks.ts';

/** Time to close what is open, after the grace for deliveries. */
const CLOSING_MS = 3000;

// Names are looked up on threads, of which there are four by default: few names that hang would be
// in everybody's way.
process.env.UV_THREADPOOL_SIZE ??= '64';

/** `npm run webhooks`: everything is made here, in order, and closed in reverse however it ends. */
async function main(): Promise<void> {
  const config = loadWebhooksConfig(process.env);
  const metrics = new WebhookMetrics();
  const name = randomUUID().slice(0, 8);
  const log = metrics.countingLog(createLog(config.logLevel, { webhooks: name }));
  const shutdown = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      shutdown.abort();
      // Whatever hangs: what is on its way is sent again by another.
      setTimeout(() => process.exit(1), config.graceMs + CLOSING_MS).unref();
    });
  }
  const keys = new Keys();
  await using redis = await connectRedis(config.redisUrl, SILENT_WITH_DELAYS_MS);
  const host = new PatientRedis(redis.command, log);
  const { isCluster } = redis;
  const scripts = new RequestScripts(host, keys, { isCluster, retentionMs: config.retentionMs });
  await using webhooks = await openWebhooks(config, { redis, keys, host, scripts, metrics, log });
  await using _metrics = await serveMetrics(metrics.registry, config.metricsPort);
  log.info('webhooks_ready');
  await webhooks.run(shutdown.signal);
  log.info('webhooks_stopped');
}

try {
  await main();
  process.exit(0); // a connection that is still being looked for would keep it
} catch (error) {
  console.error(error instanceof Error ? `webhooks: ${error.message}` : error);
  process.exit(1);
}
