import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { oneRowAims } from '../bench/speculation/aims.ts';

const main = join(import.meta.dirname, '../bench/main.ts');
const run = promisify(execFile);

const lineSchema = z.object({
  benchmark: z.string(),
  commit: z.string(),
  machine: z.string(),
  notes: z.array(z.string()),
  tables: z.array(
    z.object({ rows: z.array(z.array(z.union([z.string(), z.number(), z.null()]))) }),
  ),
  targets: z.array(
    z.object({ name: z.string(), value: z.number().nullable(), aim: z.string(), met: z.boolean() }),
  ),
});

let cacheDir = '';
beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'rivulet-bench-'));
});
afterAll(() => rm(cacheDir, { recursive: true }));

async function bench(...names: string[]) {
  const env = { ...process.env, CACHE_DIR: cacheDir };
  const { stdout } = await run(process.execPath, [main, ...names], { env });
  return lineSchema.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''));
}

describe('npm run bench', () => {
  it('measures the engine beside node-llama-cpp, which says the same', async () => {
    const { benchmark, targets, notes } = await bench('engine', '--quick');

    expect(benchmark).toBe('engine');
    expect(targets.map(({ aim }) => aim)).toEqual(['>= 1.3', '< 0.1']);
    for (const { value } of targets) expect(value).toBeGreaterThan(0);
    // Its cache is float16, so a near tie may fall otherwise.
    expect(notes.join()).toMatch(/3[0-4] of 34 texts/);
  });

  it('measures the service beside the engine alone', async () => {
    const { targets, tables } = await bench('serving', '--quick');

    expect(new Set(targets.map(({ aim }) => aim))).toEqual(new Set(['< 15', '>= 0.9']));
    for (const row of tables[0]?.rows ?? []) expect(row.slice(2)).not.toContain(null);
    expect(tables[0]?.rows.map(([streams]) => streams)).toEqual(
      expect.arrayContaining([1, 16, 64]),
    );
  });

  it('submits jobs, waits until all are told of, and runs a batch beside a stream', async () => {
    const { targets, tables } = await bench('jobs', '--quick');

    const untold = targets.filter(({ name }) => name.startsWith('jobs by'));
    expect(untold.map(({ value }) => value)).toEqual([0, 0]);
    expect(targets.filter(({ aim }) => ['>= 100', '<= 1000'].includes(aim))).toHaveLength(4);
    expect(tables[0]?.rows.map(([edge]) => edge)).toEqual(['node', 'workerd']);
    const [alone, beside] = tables[1]?.rows ?? [];
    expect(Number(alone?.[2])).toBeGreaterThan(0);
    expect(beside?.[5]).toBeGreaterThanOrEqual(0); // NaN, and so null, where the batch was over
  });

  it('times the weight formats, fp32 against itself among them', async () => {
    const { tables } = await bench('formats', '--quick');

    const [times, ratios] = tables.map(({ rows }) => rows);
    expect(times?.map(([format]) => format)).toEqual(['fp32', 'int8', 'q8', 'q4']);
    for (const row of times ?? []) expect(row.slice(1).every((ms) => Number(ms) > 0)).toBe(true);
    expect(new Set(ratios?.[0]?.slice(1))).toEqual(new Set([1]));
  });

  it('measures what weight formats add to the perplexity', async () => {
    const { targets } = await bench('perplexity', '--quick');

    const met = targets.filter((target) => target.met).map(({ name }) => name);
    expect(targets).toHaveLength(6);
    expect(met.filter((name) => / (int8|q8) /.test(name))).toHaveLength(4);
    for (const { value } of targets) expect(Math.abs(value ?? Infinity)).toBeLessThan(0.2);
  });

  it('holds speculation against plain decoding, and drafts against what they might bring', async () => {
    const formats = ['--option', 'formats=fp32,q4', '--option', 'rows=1,4'];
    const { targets, tables } = await bench('speculation', '--quick', ...formats);

    expect(tables[0]?.rows[0]?.map(Number).every((ms) => ms > 0)).toBe(true);
    const costs = tables[1]?.rows.map(([numRows, name, ...cells]) => [numRows, name, cells.length]);
    expect(costs).toEqual(
      [1, 4].flatMap((numRows) => [
        [numRows, 'target', 9],
        [numRows, 'v', 9],
        [numRows, 'draft', 1],
      ]),
    );
    const stories = [...(tables[2]?.rows ?? []), ...(tables[7]?.rows ?? [])];
    const drafting = stories.filter(([, mode]) => mode === 'draft');
    expect(drafting.map(([numRows]) => numRows)).toEqual([1, 4, 1, 4]);
    expect(drafting.filter((cells) => Number(cells.at(-2)) >= 1).length).toBeGreaterThan(1);
    // For each format: stories, mixed texts, and these with a useless draft model.
    expect(targets.map(({ aim }) => aim)).toEqual(Array(2 * 2 * 3).fill('>= 0.98'));
  });

  it.each([
    { weightFormat: 'fp32', fastest: 'int8', aims: ['>= 2', '>= 2.5', '>= 2.5', '>= 0.9'] },
    { weightFormat: 'int8', fastest: 'int8', aims: ['>= 1.5', '>= 2.5', '>= 2.5', '>= 0.9'] },
    { weightFormat: 'q8', fastest: 'int8', aims: ['>= 2.5', '>= 2.5', '>= 0.9'] },
  ] as const)(
    'wants drafts in $weightFormat to be so much faster where $fastest is fastest without',
    ({ weightFormat, fastest, aims }) => {
      const measured = { title: 'pair', story: [], edited: [], repeated: [], mixed: [] };
      const targets = oneRowAims(measured, weightFormat, fastest);
      expect(targets.map(({ aim }) => aim)).toEqual(aims);
    },
  );

  it('times the first token of a known prompt, an unknown one and one known to others', async () => {
    const { targets, tables } = await bench('prefix', '--quick');

    expect(tables[0]?.rows.map((row) => row[2])).toEqual(['miss', 'hit', "another tenant's"]);
    const [hit, foreign, waste] = targets.map(({ value }) => value);
    expect(hit).toBeLessThan(0.5); // 0.06 on a quiet machine
    expect(foreign).toBeGreaterThan(0.5);
    expect(waste).toBeLessThan(0.04);
  });

  it('reads a text without end behind sinks', async () => {
    const { targets, tables } = await bench('endless', '--quick');

    const measured = (name: string) =>
      targets.find((target) => target.name.startsWith(name))?.value;
    expect(Math.abs(measured('perplexity of sinks above recomputation') ?? 9)).toBeLessThan(0.2);
    expect(measured('times as fast as recomputation')).toBeGreaterThan(5);
    const [mean, p50, p99, worst, max] = tables[1]?.rows[0]?.map(Number) ?? [];
    expect(mean).toBeGreaterThan(0);
    expect([p50, p99, worst]).toEqual([p50, p99, worst].toSorted((a, b) => a! - b!));
    expect(max).toBeGreaterThanOrEqual(Math.max(worst!, mean!));
    expect(tables[2]?.rows).toHaveLength(3);
    for (const row of tables[2]?.rows ?? []) expect(row).not.toContain(null);
    expect(measured('leaning model, window alone')).toBeGreaterThan(10);
    expect(measured('leaning model, sinks')).toBeCloseTo(1, 2);
  });

  it('names what there is when asked for something else', async () => {
    await expect(bench('engines')).rejects.toThrow('no benchmark is called engines; there are');
  });
});
