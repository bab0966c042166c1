import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { INFLATED_TARGET, inflate } from '../support/inflate.ts';
import {
  type BenchOptions,
  type BenchResult,
  type Table,
  type Target,
  targetOf,
} from './benchmark.ts';
import { Child } from './child.ts';
import { corpusOf } from './prompts.ts';
import type { Served } from './serving/load.ts';
import { closedPlan, type Lengths, type LoadPlan, meanOf, openPlan } from './serving/plan.ts';
import { EDGES, type EdgeKind, MODEL_NAME, openService } from './serving/service.ts';
import { addedFirstTokenMs, type LoadSummary, summarize } from './serving/summary.ts';
import { median } from './statistics.ts';

const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');
const MAX_SEQUENCES = 64;
const ALONE = 'engine alone';
const ALONE_ON_ALL = 'engine alone, a thread per core';

/** Arrivals beyond what the engine alone can do at the most rows, so that no row is ever free. */
const OVERLOAD = 1.15;

interface Load {
  readonly streams: number;
  readonly durationMs: number;
}

interface MeasuredModel {
  readonly label: string;
  readonly modelDir: string;
  readonly lengths: Lengths;
  /** For caches to fill and code to be compiled, in every process. */
  readonly warmUpMs: number;
  readonly loads: readonly Load[];
  readonly rounds: number;
}

/** Rounds of one load, by who served it. */
type Summaries = Map<string, LoadSummary[]>;

/**
 * HTTP clients on the whole service, every part a process of its own, against the engine alone.
 *
 * `--option embedded` or `inflated` names the one model to measure.
 */
export async function run(options: BenchOptions): Promise<BenchResult> {
  const edges = edgesOf();
  const tables: Table[] = [];
  const targets: Target[] = [];
  const models = modelsOf(options);
  for (const model of models) {
    const measured = await measure(model, edges, options);
    tables.push(tableOf(model, measured));
    targets.push(...targetsOf(model, edges, measured));
  }
  const notes = [
    'prompts and answers of log-uniform length, temperature 0.8, top-p 0.95, no speculation, no prefix cache; load generator, edge, Redis and worker are processes that share the cores',
    '1 stream: one request after the other, with exponential pauses; 16: Poisson arrivals at the rate that the engine alone serves with 16 rows; 64: at 1.15 of its rate with 64 rows, so that a queue grows and time to first token is mostly waiting for a row',
    'engine alone: the same engine thread with the same settings under the same arrivals in the same run, without edge, queue and log; by default a worker leaves one core to those, so the engine with a thread per core is shown, too',
    ...(edges.includes('workerd') ? [] : ['workerd: not measured, this build has no such edge']),
  ];
  return { models: models.map(({ label }) => `stories-target ${label}`), tables, targets, notes };
}

function edgesOf(): EdgeKind[] {
  const kinds: EdgeKind[] = ['node', 'workerd'];
  return kinds.filter((kind) => existsSync(join(import.meta.dirname, '../..', EDGES[kind])));
}

function modelsOf({ isQuick, rounds, cacheDir, rest }: BenchOptions): MeasuredModel[] {
  const loads = (durationsMs: readonly [number, number, number]) =>
    [1, 16, MAX_SEQUENCES].map((streams, i) => ({ streams, durationMs: durationsMs[i] ?? 0 }));
  const embedded = {
    label: 'embedded, 3.5 M parameters',
    modelDir: targetDir,
    lengths: { prompt: [8, 256], output: [16, 128] },
  } as const;
  if (isQuick) return [{ ...embedded, warmUpMs: 100, loads: loads([300, 300, 300]), rounds: 1 }];
  const inflated = {
    label: 'inflated, 110 M parameters',
    modelDir: inflate(targetDir, INFLATED_TARGET, cacheDir),
    lengths: { prompt: [8, 128], output: [16, 64] },
  } as const;
  const models = [
    { ...embedded, warmUpMs: 2000, loads: loads([6000, 6000, 8000]), rounds: rounds ?? 3 },
    { ...inflated, warmUpMs: 2000, loads: loads([30_000, 12_000, 20_000]), rounds: rounds ?? 2 },
  ];
  const chosen = models.filter(({ label }) => rest.every((name) => label.startsWith(name)));
  if (chosen.length === 0)
    throw new Error(`${rest.join(', ')}: the models are embedded and inflated`);
  return chosen;
}

async function measure(
  model: MeasuredModel,
  edges: readonly EdgeKind[],
  { cacheDir, isQuick }: BenchOptions,
) {
  await using stack = new AsyncDisposableStack();
  const workerEnv = {
    MODEL_DIR: model.modelDir,
    CACHE_DIR: cacheDir,
    MAX_SEQUENCES: `${MAX_SEQUENCES}`,
    PREFIX_CACHE_MIB: '0',
    PROPOSERS: 'off',
    WEIGHT_FORMAT: process.env.WEIGHT_FORMAT ?? 'fp32', // `auto` could find another for each
  };
  const service = stack.use(await openService({ cacheDir, edges, workerEnv }));
  const alone = stack.use(await openChild('engine-process.ts', [], workerEnv));
  const servers = new Map([[ALONE, alone]]);
  if (process.env.NUM_THREADS === undefined && !isQuick) {
    const env = { ...workerEnv, NUM_THREADS: `${availableParallelism()}` };
    servers.set(ALONE_ON_ALL, stack.use(await openChild('engine-process.ts', [], env)));
  }
  for (const [edge, url] of service.urls) {
    servers.set(edge, stack.use(await openChild('http-process.ts', [url, MODEL_NAME])));
  }

  const summariesByStreams = new Map<number, Summaries>();
  const corpus = corpusOf(model.modelDir);
  const { lengths } = model;
  for (const server of servers.values()) {
    const base = { durationMs: model.warmUpMs, lengths, corpus, seed: 0 };
    await server.ask(closedPlan(base, { streams: 2, meanPauseMs: 0 }));
  }
  for (const { streams, durationMs } of model.loads) {
    const summaries: Summaries = new Map([...servers.keys()].map((name) => [name, []]));
    summariesByStreams.set(streams, summaries);
    const base = { durationMs, lengths, corpus };
    const perSecond = streams === 1 ? 0 : await capacityOf(alone, { ...base, seed: 1 }, streams);
    for (let round = 0; round < model.rounds; round += 1) {
      const plan = planOf({ ...base, seed: 100 + round }, streams, perSecond);
      const order = round % 2 === 0 ? [...servers] : [...servers].reverse();
      for (const [name, server] of order) {
        summaries.get(name)?.push(summarize(plan, await server.ask(plan)));
      }
      console.error(`${model.label}, ${streams} streams: round ${round + 1} of ${model.rounds}`);
    }
  }
  return summariesByStreams;
}

function openChild(script: string, args: readonly string[], env?: Record<string, string>) {
  const path = join(import.meta.dirname, 'serving', script);
  return Child.open<LoadPlan, Served[]>(path, args, env);
}

type PlanBase = Parameters<typeof openPlan>[0];

/** Requests a second that the engine alone answers with so many rows. */
async function capacityOf(alone: Child<LoadPlan, Served[]>, base: PlanBase, streams: number) {
  const plan = closedPlan(base, { streams, meanPauseMs: 0 });
  const { tokensPerSecond } = summarize(plan, await alone.ask(plan));
  return tokensPerSecond / meanOf(base.lengths.output);
}

function planOf(base: PlanBase, streams: number, perSecond: number): LoadPlan {
  if (streams === 1) return closedPlan(base, { streams, meanPauseMs: base.durationMs / 100 });
  const factor = streams === MAX_SEQUENCES ? OVERLOAD : 1;
  return openPlan(base, { initial: streams, perSecond: factor * perSecond });
}

function tableOf({ label }: MeasuredModel, measured: ReadonlyMap<number, Summaries>): Table {
  const rows = [...measured].flatMap(([streams, summaries]) =>
    [...summaries].map(([name, rounds]) => {
      const part = (pick: (summary: LoadSummary) => number) => median(rounds.map(pick));
      return [
        streams,
        name,
        part(({ numRequests }) => numRequests),
        part(({ meanStreams }) => meanStreams),
        part(({ tokensPerSecond }) => tokensPerSecond),
        part(({ firstTokenMs }) => firstTokenMs.p50),
        part(({ firstTokenMs }) => firstTokenMs.p95),
        part(({ interTokenMs }) => interTokenMs.p50),
        part(({ interTokenMs }) => interTokenMs.p95),
      ];
    }),
  );
  return {
    title: `Under load, ${label} (milliseconds)`,
    columns: [
      'streams',
      'served by',
      'requests',
      'in work',
      'tokens/s',
      'first token p50',
      'p95',
      'between tokens p50',
      'p95',
    ],
    rows,
  };
}

function targetsOf(
  { label }: MeasuredModel,
  edges: readonly EdgeKind[],
  measured: ReadonlyMap<number, Summaries>,
): Target[] {
  const roundsOf = (streams: number, name: string) => measured.get(streams)?.get(name) ?? [];
  return edges.flatMap((edge) => {
    const added = roundsOf(1, edge).flatMap((summary, round) =>
      addedFirstTokenMs(summary, roundsOf(1, ALONE)[round]!),
    );
    const shares = roundsOf(MAX_SEQUENCES, edge).map(
      ({ tokensPerSecond }, round) =>
        tokensPerSecond / roundsOf(MAX_SEQUENCES, ALONE)[round]!.tokensPerSecond,
    );
    return [
      targetOf(
        `milliseconds that ${edge} edge, queue and log add to the first token at 1 stream, p50, ${label}`,
        median(added),
        '<',
        15,
      ),
      targetOf(
        `tokens/s of 64 streams over ${edge} edge as a share of the engine's alone, ${label}`,
        median(shares),
        '>=',
        0.9,
      ),
    ];
  });
}
