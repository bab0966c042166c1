import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { startBatchRunner } from '../support/batch-runner.ts';
import { type BenchOptions, type BenchResult, targetOf } from './benchmark.ts';
import { MODEL_NAME, openService } from './serving/service.ts';

const targetDir = join(import.meta.dirname, '../../infra/models/stories-target');
const MAX_SEQUENCES = 32;
const ROWS_AHEAD = 2;
/** What a runner may need more for a long batch than for a short one, in MiB. */
const MAX_GROWTH_MIB = 64;
const POLL_MS = 50;

interface Plan {
  readonly numLines: number;
  /** Runners that are killed on the way. */
  readonly numKills: number;
}

interface Outcome extends Plan {
  readonly seconds: number;
  /** Of the runner that needed most. */
  readonly peakMib: number;
  readonly numAnswers: number;
  readonly numIds: number;
}

/**
 * A batch through the whole service while its runner is killed: its memory, its speed, and that
 * nothing is lost.
 */
export async function run({ isQuick, cacheDir, rest }: BenchOptions): Promise<BenchResult> {
  const numLines = optionOf(rest, 'lines') ?? (isQuick ? 300 : 50_000);
  const numKills = optionOf(rest, 'kills') ?? (isQuick ? 1 : 3);
  const numShort = Math.min(1000, Math.ceil(numLines / 3));
  const workerEnv = {
    MODEL_DIR: targetDir,
    CACHE_DIR: cacheDir,
    MAX_SEQUENCES: `${MAX_SEQUENCES}`,
    RETENTION_MS: '600000',
  };
  await using service = await openService({ cacheDir, edges: ['node'], workerEnv });
  const url = service.urls.get('node') ?? '';
  const outcomes: Outcome[] = [];
  for (const plan of [
    { numLines: numShort, numKills: 0 },
    { numLines, numKills },
  ]) {
    outcomes.push(await measure(url, service.redisUrl, plan));
  }
  const [short, long] = outcomes;
  const growthMib = (long?.peakMib ?? Number.NaN) - (short?.peakMib ?? Number.NaN);
  const numWrong = outcomes.reduce(
    (sum, outcome) =>
      sum + Math.abs(outcome.numAnswers - outcome.numLines) + outcome.numLines - outcome.numIds,
    0,
  );
  return {
    models: ['stories-target, 3.5 M parameters'],
    tables: [
      {
        title: 'Batches of lines with 1 or 2 output tokens',
        columns: [
          'lines',
          'kills',
          'seconds',
          'lines/s',
          'peak RSS of a runner, MiB',
          'answers',
          'ids',
        ],
        rows: outcomes.map((each) => [
          each.numLines,
          each.numKills,
          each.seconds,
          each.numLines / each.seconds,
          each.peakMib,
          each.numAnswers,
          each.numIds,
        ]),
      },
    ],
    targets: [
      targetOf(
        `MiB that a runner needs more for ${numLines} lines than for ${numShort}`,
        growthMib,
        '<=',
        MAX_GROWTH_MIB,
      ),
      targetOf(`answers that are missing or doubled after ${numKills} kills`, numWrong, '<=', 0),
    ],
    notes: [
      'edge, Redis, worker and runner are processes that share the cores; peak RSS is VmHWM of /proc, the greatest of all runners of the batch',
      `a kill is SIGKILL, at equal parts of the batch; ${ROWS_AHEAD * MAX_SEQUENCES} lines are out at a time over ${MAX_SEQUENCES} rows`,
    ],
  };
}

/** `--option name=N` */
function optionOf(rest: readonly string[], name: string): number | null {
  const text = rest.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  if (text === undefined) return null;
  const count = Number(text);
  if (Number.isInteger(count) && count >= 0) return count;
  throw new Error(`${name} must be a whole number, not ${text}`);
}

async function measure(url: string, redisUrl: string, plan: Plan): Promise<Outcome> {
  const { numLines, numKills } = plan;
  const env = { BATCH_WINDOW: `${ROWS_AHEAD * MAX_SEQUENCES}` };
  const id = await submit(url, numLines);
  const startMs = performance.now();
  let peakMib = 0;
  let batch = await find(url, id);
  for (let part = 1; part <= numKills + 1; part += 1) {
    await using runner = await startBatchRunner(redisUrl, env);
    const until = Math.floor((part * numLines) / (numKills + 1));
    while (batch.request_counts.completed < until || part > numKills) {
      peakMib = Math.max(peakMib, peakMibOf(runner.pid));
      await sleep(POLL_MS);
      batch = await find(url, id);
      if (batch.status === 'failed') throw new Error(`the batch failed: ${runner.printed()}`);
      if (batch.status === 'completed') break;
    }
    console.error(`${numLines} lines: ${batch.request_counts.completed} done`);
  }
  const seconds = (performance.now() - startMs) / 1000;
  return { ...plan, seconds, peakMib, ...(await count(url, batch.output_file_id)) };
}

const batchSchema = z.object({
  id: z.string(),
  status: z.string(),
  request_counts: z.object({ completed: z.int() }),
  output_file_id: z.string().nullable(),
});

async function find(url: string, id: string) {
  return batchSchema.parse(await (await fetch(`${url}/v1/batches/${id}`)).json());
}

async function submit(url: string, numLines: number): Promise<string> {
  const lines = Array.from({ length: numLines }, (_, i) => {
    const body = { model: MODEL_NAME, prompt: `Once upon a time ${i}`, max_tokens: 1 + (i % 2) };
    return JSON.stringify({ custom_id: `line-${i}`, method: 'POST', url: '/v1/completions', body });
  });
  const form = new FormData();
  form.set('purpose', 'batch');
  form.set('file', new Blob([`${lines.join('\n')}\n`]), 'input.jsonl');
  const upload = await fetch(`${url}/v1/files`, { method: 'POST', body: form });
  const file = z.object({ id: z.string() }).parse(await upload.json());
  const response = await fetch(`${url}/v1/batches`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      input_file_id: file.id,
      endpoint: '/v1/completions',
      completion_window: '24h',
    }),
  });
  return batchSchema.parse(await response.json()).id;
}

const answerSchema = z.object({ custom_id: z.string() });

async function count(url: string, fileId: string | null) {
  const ids = new Set<string>();
  let numAnswers = 0;
  const { body } = await fetch(`${url}/v1/files/${fileId}/content`);
  for await (const line of createInterface({ input: Readable.from(body ?? []) })) {
    numAnswers += 1;
    ids.add(answerSchema.parse(JSON.parse(line)).custom_id);
  }
  return { numAnswers, numIds: ids.size };
}

/** The most memory that a process ever had. */
function peakMibOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1024;
}
