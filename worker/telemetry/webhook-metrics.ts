import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type Log, watchedLog } from './log.ts';

const ATTEMPT_BUCKETS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 15];
const DELIVERED_BUCKETS_S = [0.03, 0.1, 0.3, 1, 3, 10, 60, 600, 3600, 36_000, 360_000];

export interface Attempted {
  readonly status: number | null;
  readonly durationMs: number;
}

/** What a webhooks process counts and measures, for Prometheus. */
export class WebhookMetrics {
  readonly registry = new Registry();
  readonly #events: Counter;
  readonly #attempts: Histogram;
  readonly #delivered: Histogram;
  readonly #dead: Counter;

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#events = new Counter({
      name: 'rivulet_events_total',
      help: 'Events of the log, by name: delivery_attempted, delivery_given_up, redis_not_able ...',
      labelNames: ['event'],
      registers,
    });
    this.#attempts = new Histogram({
      name: 'rivulet_webhook_attempt_seconds',
      help: 'Attempts to deliver, by outcome: 2xx, 3xx, 4xx, 5xx, or none for no answer',
      labelNames: ['outcome'],
      buckets: ATTEMPT_BUCKETS_S,
      registers,
    });
    this.#delivered = new Histogram({
      name: 'rivulet_webhook_delivered_seconds',
      help: 'From what a notice is about to its delivery',
      buckets: DELIVERED_BUCKETS_S,
      registers,
    });
    this.#dead = new Counter({
      name: 'rivulet_webhook_dead_letters_total',
      help: 'Deliveries that were given up',
      registers,
    });
  }

  countAttempt({ status, durationMs }: Attempted): void {
    const outcome = status === null ? 'none' : `${Math.floor(status / 100)}xx`;
    this.#attempts.observe({ outcome }, durationMs / 1000);
  }

  countDelivered(afterMs: number): void {
    this.#delivered.observe(Math.max(0, afterMs) / 1000);
  }

  countDead(): void {
    this.#dead.inc();
  }

  /** A value that is asked for whenever the metrics are read. */
  addGauge(
    { name, help }: { readonly name: string; readonly help: string },
    read: () => number | Promise<number>,
  ): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [this.registry],
      collect: async () => gauge.set(await read()),
    });
  }

  /** The same log, its events counted whatever its level. */
  countingLog(log: Log): Log {
    return watchedLog(log, (event) => this.#events.inc({ event }));
  }
}
