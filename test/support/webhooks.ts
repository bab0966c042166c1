import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { connectRedis, SILENT_WITH_DELAYS_MS } from '../../worker/queue/connection.ts';
import { PatientRedis } from '../../worker/queue/patient-redis.ts';
import { createLog } from '../../worker/telemetry/log.ts';
import { WebhookMetrics } from '../../worker/telemetry/webhook-metrics.ts';
import { loadWebhooksConfig } from '../../worker/webhooks/config.ts';
import { openWebhooks } from '../../worker/webhooks/webhooks.ts';

export interface TestWebhooks extends AsyncDisposable {
  readonly metrics: WebhookMetrics;
  /** Cuts it off from Redis for good, as a killed process is. */
  kill(): void;
}

/** Days are tenths of seconds, and receivers on loopback are allowed. */
const ENVIRONMENT = {
  WEBHOOK_RETRY_SECONDS: '0.1,0.1,0.2,0.2,0.4,0.8,1.6',
  WEBHOOK_TIMEOUT_MS: '500',
  WEBHOOK_BREAKER_MS: '300',
  ALLOW_INSECURE_WEBHOOKS: 'true',
  LOCK_MS: '600',
  STALLED_CHECK_MS: '200',
};

/** What `npm run webhooks` runs, in this process. */
export async function openTestWebhooks(
  url: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<TestWebhooks> {
  const config = loadWebhooksConfig({ REDIS_URL: url, ...ENVIRONMENT, ...environment });
  const redis = await connectRedis(url, SILENT_WITH_DELAYS_MS);
  const keys = new Keys();
  const log = createLog('silent');
  const metrics = new WebhookMetrics();
  const host = new PatientRedis(redis.command, log);
  const scripts = new RequestScripts(host, keys, {
    isCluster: redis.isCluster,
    retentionMs: 60_000,
  });
  const webhooks = await openWebhooks(config, { redis, keys, host, scripts, metrics, log });
  const shutdown = new AbortController();
  const over = webhooks.run(shutdown.signal);
  return {
    metrics,
    kill() {
      void redis[Symbol.asyncDispose]();
      shutdown.abort();
      over.catch(() => undefined);
    },
    async [Symbol.asyncDispose]() {
      shutdown.abort();
      await over;
      await webhooks[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}
