import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestId } from '../../shared/ids.ts';
import type { GenerationEnd, GenerationEvent, Generator } from '../queue/generation.ts';
import { type Log, watchedLog } from './log.ts';
import { SpeculationMetrics } from './speculation-metrics.ts';

const TIME_BUCKETS_S = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];

/** What the worker counts and measures, for Prometheus. */
export class Metrics {
  readonly registry = new Registry();
  readonly #events: Counter;
  readonly #tokens: Counter;
  readonly #firstTokens: Histogram;
  readonly #gaps: Histogram;
  readonly #speculation: SpeculationMetrics;

  constructor(labels: Readonly<Record<string, string>>) {
    this.registry.setDefaultLabels(labels);
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#events = new Counter({
      name: 'rivulet_events_total',
      help: 'Events of the log, by name: request_claimed, request_set_aside, consumer_reopened ...',
      labelNames: ['event'],
      registers,
    });
    this.#tokens = new Counter({
      name: 'rivulet_tokens_total',
      help: 'Tokens of ended requests: prompt, cached (of the prompt), output, accepted, rejected',
      labelNames: ['kind'],
      registers,
    });
    this.#firstTokens = new Histogram({
      name: 'rivulet_first_token_seconds',
      help: 'From the start of a request in the engine to its first output token',
      buckets: TIME_BUCKETS_S,
      registers,
    });
    this.#speculation = new SpeculationMetrics(this.registry);
    this.#gaps = new Histogram({
      name: 'rivulet_token_gap_seconds',
      help: 'Between the outputs of one request',
      buckets: TIME_BUCKETS_S,
      registers,
    });
  }

  /** A value that is asked for whenever the metrics are read. */
  addGauge({ name, help }: { readonly name: string; readonly help: string }, read: () => number) {
    const registers = [this.registry];
    const gauge: Gauge = new Gauge({ name, help, registers, collect: () => gauge.set(read()) });
  }

  /** The same log, its events counted whatever its level. */
  countingLog(log: Log): Log {
    return watchedLog(log, (event) => this.#events.inc({ event }));
  }

  /** The same generator, its outputs timed and counted. */
  measuring(generator: Generator, nowMs: () => number): Generator {
    return {
      start: (job, beginning, listener) => {
        let lastMs = nowMs();
        let isFirst = true;
        generator.start(job, beginning, (events) => {
          if (hasTokens(events)) {
            const seconds = (nowMs() - lastMs) / 1000;
            (isFirst ? this.#firstTokens : this.#gaps).observe(seconds);
            lastMs = nowMs();
            isFirst = false;
          }
          for (const event of events) if (event.type === 'end') this.#count(event);
          listener(events);
        });
      },
      proceed: (id: RequestId) => generator.proceed(id),
      cancel: (id: RequestId, reason) => generator.cancel(id, reason),
      release: (id: RequestId) => generator.release(id),
    };
  }

  #count({ usage, speculation }: GenerationEnd): void {
    this.#speculation.add(speculation);
    this.#tokens.inc({ kind: 'prompt' }, usage.promptTokens);
    this.#tokens.inc({ kind: 'cached' }, usage.cachedTokens);
    this.#tokens.inc({ kind: 'output' }, usage.completionTokens);
    this.#tokens.inc({ kind: 'accepted' }, usage.acceptedPredictionTokens);
    this.#tokens.inc({ kind: 'rejected' }, usage.rejectedPredictionTokens);
  }
}

function hasTokens(events: readonly GenerationEvent[]): boolean {
  return events.some((event) => event.type === 'tokens' && event.tokenIds.length > 0);
}
