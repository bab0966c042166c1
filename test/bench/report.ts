import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import type { BenchResult, Table } from './benchmark.ts';

const root = join(import.meta.dirname, '../..');
const resultsPath = join(import.meta.dirname, 'RESULTS.md');

/** Instructions that decide which kernels a runtime picks. */
const TELLING_FLAGS = ['avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'asimddp'];

/** Where and of what a result was measured. */
export function describeRun(command: string) {
  return {
    command,
    commit: commitOf(),
    machine: describeMachine(),
    // Above the number of cores, somebody else was at work.
    loadAverage: Number((loadavg()[0] ?? 0).toFixed(2)),
    node: process.version,
  };
}

export type RunDescription = ReturnType<typeof describeRun>;

function describeMachine(): string {
  const model = cpus()[0]?.model ?? process.arch;
  const memoryGib = Math.round(totalmem() / 2 ** 30);
  const flags = cpuFlags().filter((flag) => TELLING_FLAGS.includes(flag));
  return `${model}, ${availableParallelism()} cores, ${memoryGib} GiB, ${flags.join(' ')}`;
}

function cpuFlags(): string[] {
  if (!existsSync('/proc/cpuinfo')) return [];
  return (
    /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ??
    []
  );
}

function commitOf(): string {
  const git = (...command: string[]) =>
    execFileSync('git', command, { cwd: root, encoding: 'utf8' });
  try {
    const commit = git('rev-parse', '--short=10', 'HEAD').trim();
    const isDirty =
      git('status', '--porcelain', '--untracked-files=no', 'worker', 'edge', 'shared') !== '';
    return isDirty ? `${commit} with changes` : commit;
  } catch {
    return 'unknown';
  }
}

/** @returns Markdown, with columns lined up so that a terminal shows it too */
export function formatTable({ title, columns, rows }: Table): string {
  const cells = [columns, ...rows.map((row) => row.map(formatCell))];
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
  const lines = cells.map((row) => {
    const padded = widths.map((width, i) => (row[i] ?? '').padEnd(width));
    return `| ${padded.join(' | ')} |`;
  });
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [`${title}:`, '', lines[0], rule, ...lines.slice(1)].join('\n');
}

function formatCell(cell: string | number | null): string {
  if (cell === null) return '-';
  if (typeof cell === 'string') return cell;
  if (Number.isInteger(cell)) return `${cell}`;
  return Math.abs(cell) >= 100 ? cell.toFixed(0) : cell.toPrecision(3);
}

export function formatResult(run: RunDescription, result: BenchResult): string {
  const aims = {
    title: 'Aims',
    columns: ['aim', 'bound', 'value', 'met'],
    rows: result.targets.map(({ name, value, aim, met }) => [name, aim, value, met ? 'yes' : 'no']),
  };
  return [
    `- machine: ${run.machine}; load average ${run.loadAverage} at the end`,
    `- commit: ${run.commit}; Node ${run.node}`,
    `- command: \`${run.command}\``,
    ...result.models.map((model) => `- model: ${model}`),
    ...result.notes.map((note) => `- ${note}`),
    ...[...result.tables, aims].map((table) => `\n${formatTable(table)}`),
  ].join('\n');
}

const HEAD = `# Results

Written by \`npm run bench -- <name> --record\`, which replaces the section of that name. Absolute numbers belong to
the machine that they were measured on; ratios within one run travel better.
`;

/** Puts a result in its section of RESULTS.md. */
export function record(name: string, text: string): void {
  const known = existsSync(resultsPath) ? readFileSync(resultsPath, 'utf8') : HEAD;
  const [head = HEAD, ...sections] = known.split(/^## /m);
  const others = sections.filter((section) => !section.startsWith(`${name}\n`));
  const all = [...others.map((section) => section.trim()), `${name}\n\n${text}`].sort();
  writeFileSync(resultsPath, `${[head.trim(), ...all].join('\n\n## ')}\n`);
}
