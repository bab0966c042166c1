import { createHash, randomUUID } from 'node:crypto';
import { JOB_CLASSES } from '../shared/protocol/job.ts';
import { Keys } from '../shared/protocol/keys.ts';
import type { ModelCard, TokenizerFiles } from '../shared/protocol/model-card.ts';
import { RequestScripts } from '../shared/protocol/request-scripts.ts';
import { loadConfig, type WorkerConfig } from './config.ts';
import { connectRedis, type RedisConnections } from './queue/connection.ts';
import { Consumer } from './queue/consumer.ts';
import { LastTries } from './queue/last-tries.ts';
import { PatientRedis } from './queue/patient-redis.ts';
import { register } from './queue/registry.ts';
import type { RunContext } from './queue/request-run.ts';
import { addEngineMetrics } from './telemetry/engine-metrics.ts';
import { createLog, type Log } from './telemetry/log.ts';
import { Metrics } from './telemetry/metrics.ts';
import { serveMetrics } from './telemetry/metrics-server.ts';
import { EngineClient } from './thread/client.ts';
import type { OpenedModel } from './thread/opened-model.ts';
import { settleWeightFormat } from './weight-format.ts';

/** Deaths of workers that a request may cause: the third is its end. */
const MAX_CLAIMS = 3;

/** Time to close what is open, after the grace for requests. */
const CLOSING_MS = 3000;

/** What the parts of a worker share. */
interface Parts {
  readonly config: WorkerConfig;
  readonly workerId: string;
  readonly keys: Keys;
  readonly redis: RedisConnections;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** `npm run worker`: everything is made here, in order, and closed in reverse however it ends. */
async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const workerId = randomUUID();
  const metrics = new Metrics({ model: config.model.name });
  const log = metrics.countingLog(createLog(config.logLevel, { worker: workerId.slice(0, 8) }));
  const shutdown = listenForSignals(config.graceMs);
  const keys = new Keys();
  await using redis = await connectRedis(config.redisUrl);
  await using engine = await EngineClient.open({
    ...config.model,
    weightFormat: await settleWeightFormat(config.model, redis.command, keys),
    limits: config.limits,
    kvCacheBytes: config.kvCacheBytes,
    prefixCacheBytes: config.prefixCacheBytes,
    speculation: config.speculation,
  });
  const card = toCard(config.model.name, engine.model);
  const patient = new PatientRedis(redis.command, log);
  const parts = { config, workerId, keys, redis, metrics, log };
  const consumers = openConsumers(parts, runContextOf(parts, patient, engine), card);
  addEngineMetrics(metrics.registry, config, () => engine.measure());
  const running = { name: 'rivulet_requests_running', help: 'Requests on this worker' };
  metrics.addGauge(running, () => consumers.reduce((sum, { numRunning }) => sum + numRunning, 0));
  await using _metrics = await serveMetrics(metrics.registry, config.metricsPort);
  const signal = shutdown.beginServing();
  await using _registration = await register(redis.command, patient, keys, {
    card,
    tokenizerFiles: engine.model.tokenizerFiles,
    workerId,
    ratePerSecond: (each) => consumers[JOB_CLASSES.indexOf(each)]?.ratePerSecond ?? 0,
    maxRunning: config.limits.maxSequences,
  });
  log.info('kv_cache', { ...engine.model.kvCache });
  log.info('worker_ready', { model: card.name, fingerprint: card.fingerprint });
  await Promise.all(consumers.map((consumer) => consumer.run(signal)));
  log.info('worker_stopped');
}

/** A process that has nothing to hand over yet ends at once when it is told to. */
function listenForSignals(graceMs: number): { readonly beginServing: () => AbortSignal } {
  const shutdown = new AbortController();
  let isServing = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (!isServing) process.exit(0);
      shutdown.abort();
      // Whatever hangs, be it a connection that never comes back: the locks run out, and others go
      // on.
      setTimeout(() => process.exit(1), graceMs + CLOSING_MS).unref();
    });
  }
  return {
    beginServing: () => {
      isServing = true;
      return shutdown.signal;
    },
  };
}

function runContextOf(
  parts: Parts,
  patient: PatientRedis,
  engine: EngineClient,
): Omit<RunContext, 'lastTries'> {
  const { config, workerId, keys, redis, metrics, log } = parts;
  const { retentionMs } = config;
  return {
    redis: patient,
    keys,
    scripts: new RequestScripts(patient, keys, { isCluster: redis.isCluster, retentionMs }),
    generator: metrics.measuring(engine, Date.now),
    log,
    workerId,
    maxClaims: MAX_CLAIMS,
    logLimits: config.logLimits,
    orphanMs: config.orphanMs,
  };
}

/**
 * One for each class of jobs. Each takes as many as there are rows, and tries its own suspects, so
 * that batch jobs never keep an interactive one from being taken.
 */
function openConsumers(
  { config, redis }: Parts,
  context: Omit<RunContext, 'lastTries'>,
  card: ModelCard,
): Consumer[] {
  return JOB_CLASSES.map((each) => {
    const options = {
      queue: { model: card.name, fingerprint: card.fingerprint, class: each },
      redis,
      maxRunning: config.limits.maxSequences,
      ...config.lock,
      graceMs: config.graceMs,
      quantumTokens: config.limits.quantumTokens,
    };
    return new Consumer(options, { ...context, lastTries: new LastTries() });
  });
}

function toCard(name: string, model: OpenedModel): ModelCard {
  return {
    name,
    createdMs: Date.now(),
    architecture: model.architecture,
    vocabSize: model.shape.vocabSize,
    maxSequenceTokens: model.shape.maxSequenceTokens,
    eosTokenIds: [...model.eosTokenIds],
    tokenizerDigest: digestOf(model.tokenizerFiles),
    fingerprint: model.fingerprint,
    canSlide: model.shape.canSlide,
    defaults: model.defaults,
  };
}

function digestOf({ tokenizerJson, tokenizerConfigJson }: TokenizerFiles): string {
  return createHash('sha256').update(tokenizerJson).update(tokenizerConfigJson).digest('hex');
}

try {
  await main();
  process.exit(0); // a connection that is still being looked for would keep it
} catch (error) {
  console.error(error instanceof Error ? `worker: ${error.message}` : error);
  process.exit(1);
}
