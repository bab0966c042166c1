import type { Keys } from '../../shared/protocol/keys.ts';
import type { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import type { RedisConnections } from '../queue/connection.ts';
import type { PatientRedis } from '../queue/patient-redis.ts';
import type { Log } from '../telemetry/log.ts';
import type { WebhookMetrics } from '../telemetry/webhook-metrics.ts';
import type { WebhooksConfig } from './config.ts';
import { DeliveryQueue } from './delivery.ts';
import { DeliveryConsumer } from './delivery-consumer.ts';
import { Drain } from './drain.ts';
import { Endpoints } from './endpoint.ts';
import { DeliveryRecords } from './records.ts';
import { RequestNotices } from './request-notices.ts';
import { RequestQueue } from './request-queue.ts';
import { resolveByDns } from './target.ts';

export interface WebhooksContext {
  readonly redis: RedisConnections;
  readonly keys: Keys;
  readonly host: PatientRedis;
  readonly scripts: RequestScripts;
  readonly metrics: WebhookMetrics;
  readonly log: Log;
}

export interface Webhooks extends AsyncDisposable {
  /**
   * Works until told to stop, and returns when everything on its way has arrived or the grace is
   * over.
   */
  run(signal: AbortSignal): Promise<void>;
}

/**
 * Two halves that meet in a queue: outboxes are drained into it, and deliveries are made from it.
 */
export async function openWebhooks(
  config: WebhooksConfig,
  context: WebhooksContext,
): Promise<Webhooks> {
  const { redis, keys, host, scripts, metrics, log } = context;
  const client = redis.command;
  const stack = new AsyncDisposableStack();
  const queue = stack.use(new DeliveryQueue(client, keys));
  const requestQueue = stack.use(new RequestQueue(client, keys));
  const { outputMs } = config;
  const noticesContext = { client, host, keys, scripts, queue, requestQueue, outputMs };
  const notices = new RequestNotices(noticesContext);
  const records = new DeliveryRecords({ redis: host, keys });
  const drain = new Drain({ ...noticesContext, notices, records, log });
  const endpoints = new Endpoints(config.endpoint, Date.now);
  const consumer = new DeliveryConsumer(
    {
      maxRunning: config.maxRunning,
      ...config.lock,
      secretsByTenant: config.secretsByTenant,
      retry: { scheduleMs: config.scheduleMs, rng: Math.random },
      sending: {
        resolve: resolveByDns,
        isInsecureAllowed: config.isInsecureAllowed,
        timeoutMs: config.timeoutMs,
      },
    },
    { redis, keys, queue, records, endpoints, metrics, log },
  );
  addGauges(metrics, { consumer, endpoints, redis, keys });
  redis.subscriber.on('message', (channel: string, id: string) => {
    if (channel === keys.notices) drain.notify(id);
  });
  await redis.subscriber.subscribe(keys.notices);
  return {
    async run(signal) {
      await drain.run(signal);
      await consumer.close(config.graceMs);
    },
    async [Symbol.asyncDispose]() {
      await consumer.close(0);
      await stack.disposeAsync();
    },
  };
}

interface Gauged {
  readonly consumer: DeliveryConsumer;
  readonly endpoints: Endpoints;
  readonly redis: RedisConnections;
  readonly keys: Keys;
}

function addGauges(metrics: WebhookMetrics, { consumer, endpoints, redis, keys }: Gauged): void {
  const sending = { name: 'rivulet_webhooks_sending', help: 'Deliveries on their way' };
  metrics.addGauge(sending, () => consumer.numRunning);
  const open = { name: 'rivulet_webhook_breakers_open', help: 'Endpoints that get nothing now' };
  metrics.addGauge(open, () => endpoints.numOpen);
  const pending = { name: 'rivulet_jobs_pending', help: 'Jobs whose end was not handed over yet' };
  metrics.addGauge(pending, () => redis.command.zcard(keys.pendingJobs));
}
