import { join } from 'node:path';
import { INFLATED_TARGET, inflate } from '../support/inflate.ts';
import { openReceiver } from '../support/receivers.ts';
import {
  type BenchOptions,
  type BenchResult,
  type Table,
  type Target,
  targetOf,
} from './benchmark.ts';
import { Child } from './child.ts';
import { type JobsSummary, submitJobs } from './jobs/accept.ts';
import { RunningBatch } from './jobs/running-batch.ts';
import { corpusOf } from './prompts.ts';
import type { Served } from './serving/load.ts';
import { closedPlan, type LoadPlan } from './serving/plan.ts';
import { type EdgeKind, MODEL_NAME, openService } from './serving/service.ts';
import { type LoadSummary, pairsOfFirstTokenMs, summarize } from './serving/summary.ts';
import { median } from './statistics.ts';

const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');
const MAX_SEQUENCES = 64;
/** Lines that are out: more than there are rows. */
const BATCH_WINDOW = 2 * MAX_SEQUENCES;
const MEAN_PAUSE_MS = 50;
/** Of the two edges, in jobs a second. */
const MIN_ACCEPTED_PER_SECOND = 100;
/** From the end of a job until its receiver has the notice. */
const MAX_DELIVERY_P99_MS = 1000;
/** Of the time to first token, beside a batch and without. */
const MAX_RATIO = 1.2;

interface Sizes {
  readonly numJobs: number;
  readonly numLines: number;
  readonly durationMs: number;
  readonly rounds: number;
}

function sizesOf({ isQuick, rounds }: BenchOptions): Sizes {
  if (isQuick) return { numJobs: 24, numLines: 2000, durationMs: 300, rounds: 1 };
  return { numJobs: 1000, numLines: 50_000, durationMs: 15_000, rounds: rounds ?? 4 };
}

/**
 * Jobs through the whole service to a receiver of webhooks, and what a batch costs those who wait.
 */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const sizes = sizesOf(options);
  const accepted = await measureJobs(options, sizes);
  const models = [{ label: 'embedded, 3.5 M parameters', modelDir: targetDir, times: 1 }];
  if (!options.isQuick) {
    const modelDir = inflate(targetDir, INFLATED_TARGET, options.cacheDir);
    // Longer: it answers one request a second.
    models.push({ label: 'inflated, 110 M parameters', modelDir, times: 3 });
  }
  const tables = [jobsTable(accepted)];
  const targets = [...accepted].flatMap(([edge, rounds]) => jobsTargets(edge, rounds));
  for (const { label, modelDir, times } of models) {
    const durationMs = times * sizes.durationMs;
    const measured = await measureBatch(modelDir, options, { ...sizes, durationMs });
    tables.push(besideTable(label, measured));
    targets.push(besideTarget(label, measured));
  }
  return {
    models: models.map(({ label }) => `stories-target ${label}`),
    tables,
    targets,
    notes: [
      `${sizes.numJobs} jobs of 8 to 16 output tokens are timed, submitted 16 at a time behind as many that wait already, one worker with ${MAX_SEQUENCES} rows at work meanwhile; load generator and receiver are one process, and share the cores with edge, Redis, worker and webhooks`,
      'finish to delivery: from the end of a job by the clock of Redis until its receiver has the whole notice; one receiver, which answers at once',
      'first token: one stream of requests with pauses, alone and beside a batch in turns that change their order; the medians of all requests that were answered both times, of all rounds together; the batch has lines for every row and was in progress before, during and after',
    ],
  };
}

function workerEnvOf(modelDir: string, { cacheDir }: BenchOptions) {
  return {
    MODEL_DIR: modelDir,
    CACHE_DIR: cacheDir,
    MAX_SEQUENCES: `${MAX_SEQUENCES}`,
    PREFIX_CACHE_MIB: '0',
    PROPOSERS: 'off',
    WEIGHT_FORMAT: process.env.WEIGHT_FORMAT ?? 'fp32',
  };
}

/** @returns rounds, by edge */
async function measureJobs(options: BenchOptions, { numJobs, rounds }: Sizes) {
  const insecure = { ALLOW_INSECURE_WEBHOOKS: 'true' };
  const edges: EdgeKind[] = ['node', 'workerd'];
  await using service = await openService({
    cacheDir: options.cacheDir,
    edges,
    workerEnv: workerEnvOf(targetDir, options),
    edgeEnv: { ...insecure, MAX_QUEUED: `${8 * numJobs + MAX_SEQUENCES}` },
    beside: { 'worker/webhooks/main.ts': insecure },
  });
  const summaries = new Map<EdgeKind, JobsSummary[]>(edges.map((edge) => [edge, []]));
  const load = { model: MODEL_NAME, numConnections: 16 };
  // One round for caches to fill and code to be compiled.
  for (let round = -1; round < rounds; round += 1) {
    for (const edge of round % 2 === 0 ? edges : edges.toReversed()) {
      await using receiver = await openReceiver();
      const url = service.urls.get(edge) ?? '';
      const numNow = round < 0 ? Math.ceil(numJobs / 4) : numJobs;
      const now = { ...load, numJobs: numNow, numQueued: numNow };
      const summary = await submitJobs(url, receiver, now);
      if (round >= 0) summaries.get(edge)?.push(summary);
    }
    console.error(`jobs: round ${round + 1} of ${rounds}`);
  }
  return summaries;
}

function jobsTable(accepted: ReadonlyMap<EdgeKind, readonly JobsSummary[]>): Table {
  return {
    title: 'Jobs (milliseconds)',
    columns: [
      'edge',
      'accepted/s',
      'waiting meanwhile, at least',
      'delivered',
      'finish to delivery p50',
      'p99',
    ],
    rows: [...accepted].map(([edge, rounds]) => {
      const part = (pick: (summary: JobsSummary) => number) => median(rounds.map(pick));
      return [
        edge,
        part(({ acceptedPerSecond }) => acceptedPerSecond),
        part(({ numWaiting }) => numWaiting),
        part(({ numDelivered }) => numDelivered),
        part(({ deliveryMs }) => deliveryMs.p50),
        part(({ deliveryMs }) => deliveryMs.p99),
      ];
    }),
  };
}

function jobsTargets(edge: EdgeKind, rounds: readonly JobsSummary[]): Target[] {
  const numUntold = rounds.map(({ numSubmitted, numDelivered }) => numSubmitted - numDelivered);
  const accepted = median(rounds.map(({ acceptedPerSecond }) => acceptedPerSecond));
  const p99 = median(rounds.map(({ deliveryMs }) => deliveryMs.p99));
  return [
    targetOf(`jobs by ${edge} edge of whose end nobody was told`, Math.max(...numUntold), '<=', 0),
    targetOf(
      `jobs a second that the ${edge} edge accepts`,
      accepted,
      '>=',
      MIN_ACCEPTED_PER_SECOND,
    ),
    targetOf(`ms from finish to delivery, p99, ${edge} edge`, p99, '<=', MAX_DELIVERY_P99_MS),
  ];
}

interface Beside {
  readonly alone: LoadSummary;
  readonly beside: LoadSummary;
  /** Lines that the batch answered meanwhile. */
  readonly numLines: number;
}

async function measureBatch(
  modelDir: string,
  options: BenchOptions,
  { numLines, durationMs, rounds }: Sizes,
): Promise<Beside[]> {
  await using service = await openService({
    cacheDir: options.cacheDir,
    edges: ['node'],
    workerEnv: workerEnvOf(modelDir, options),
    beside: { 'edge/batches-node.ts': { BATCH_WINDOW: `${BATCH_WINDOW}` } },
  });
  const url = service.urls.get('node') ?? '';
  const script = join(import.meta.dirname, 'serving/http-process.ts');
  await using clients = await Child.open<LoadPlan, Served[]>(script, [url, MODEL_NAME]);
  const corpus = corpusOf(modelDir);
  const measured: Beside[] = [];
  for (let round = -1; round < rounds; round += 1) {
    const lengths = { prompt: [8, 128], output: [8, 32] } as const;
    const base = { durationMs, lengths, corpus, seed: 100 + round };
    const plan = closedPlan(base, { streams: 1, meanPauseMs: MEAN_PAUSE_MS });
    const measureAlone = async () => ({ alone: summarize(plan, await clients.ask(plan)) });
    async function measureBeside() {
      const batchPlan = { model: MODEL_NAME, numLines, numTokens: 64 };
      await using batch = await RunningBatch.open(url, batchPlan);
      const before = await batch.numAnswered();
      const beside = summarize(plan, await clients.ask(plan));
      return { beside, numLines: (await batch.numAnswered()) - before };
    }
    const each =
      round % 2 === 0
        ? { ...(await measureAlone()), ...(await measureBeside()) }
        : { ...(await measureBeside()), ...(await measureAlone()) };
    if (round >= 0) measured.push(each);
    console.error(`beside a batch: round ${round + 1} of ${rounds}`);
  }
  return measured;
}

function besideTable(label: string, measured: readonly Beside[]): Table {
  const rowOf = (name: string, pick: (each: Beside) => LoadSummary, numLines: number) => {
    const part = (of: (summary: LoadSummary) => number) =>
      median(measured.map((each) => of(pick(each))));
    return [
      name,
      part(({ numRequests }) => numRequests),
      part(({ firstTokenMs }) => firstTokenMs.p50),
      part(({ firstTokenMs }) => firstTokenMs.p95),
      part(({ interTokenMs }) => interTokenMs.p50),
      numLines,
    ];
  };
  return {
    title: `An interactive stream, ${label} (milliseconds)`,
    columns: ['', 'requests', 'first token p50', 'p95', 'between tokens p50', 'lines of the batch'],
    rows: [
      rowOf('alone', ({ alone }) => alone, 0),
      rowOf(
        'beside a batch',
        ({ beside }) => beside,
        median(measured.map((each) => each.numLines)),
      ),
    ],
  };
}

function besideTarget(label: string, measured: readonly Beside[]): Target {
  // Whoever is slower comes less far, and the prompts of those that only one answered may be
  // longer.
  const pairs = pairsOfFirstTokenMs(measured.map(({ alone, beside }) => [alone, beside]));
  const [aloneMs, besideMs] = [median(pairs.map(([ms]) => ms)), median(pairs.map(([, ms]) => ms))];
  const name = `time to first token beside a running batch over that without, p50, ${label}`;
  return targetOf(name, besideMs / aloneMs, '<=', MAX_RATIO);
}
