import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Mutant, Patch } from './mutant.ts';

const root = join(import.meta.dirname, '../..');
const vitest = join(
  dirname(createRequire(import.meta.url).resolve('vitest/package.json')),
  'vitest.mjs',
);

const COPIED = [
  'edge',
  'shared',
  'worker',
  'test',
  'package.json',
  'tsconfig.json',
  'tsconfig.base.json',
  'vitest.config.ts',
];
const LINKED = ['node_modules', 'infra'];

/** What vitest writes of a run, as far as it is read here. */
const reportSchema = z.object({
  numPassedTests: z.number(),
  testResults: z.array(
    z.object({
      name: z.string(),
      message: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
});

export type TestRun =
  | { readonly type: 'passed'; readonly numTests: number }
  | { readonly type: 'failed'; readonly firstFailure: string }
  /** No test failed, and yet it did not pass: the sources do not load, say. */
  | { readonly type: 'invalid'; readonly message: string };

/** A copy of the sources in which they can be broken. */
export class Workspace implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'rivulet-mutants-'));

  constructor() {
    for (const name of COPIED) {
      cpSync(join(root, name), join(this.#directory, name), { recursive: true });
    }
    for (const name of LINKED) symlinkSync(join(root, name), join(this.#directory, name));
  }

  /**
   * Runs the mutant's tests on sources that are patched for as long.
   *
   * @param limitMs after which it is taken never to come to an end
   * @throws {Error} when a patch does not apply exactly once
   */
  runMutant({ patches, tests }: Mutant, limitMs: number): TestRun {
    const originals = patches.map((patch) => this.#apply(patch));
    try {
      return this.run(tests, limitMs);
    } finally {
      for (const [i, { file }] of patches.entries()) this.#write(file, originals[i]!);
    }
  }

  /** @returns the file as it was */
  #apply({ file, search, replace }: Patch): string {
    const original = readFileSync(join(this.#directory, file), 'utf8');
    const parts = original.split(search);
    if (parts.length !== 2) {
      throw new Error(`${file} has ${parts.length - 1} times what should be there once: ${search}`);
    }
    this.#write(file, parts.join(replace));
    return original;
  }

  #write(file: string, text: string): void {
    writeFileSync(join(this.#directory, file), text);
  }

  run(tests: readonly string[], limitMs: number): TestRun {
    const report = join(this.#directory, 'report.json');
    rmSync(report, { force: true });
    const { signal } = spawnSync(
      process.execPath,
      [vitest, 'run', '--bail=1', '--reporter=json', `--outputFile=${report}`, ...tests],
      { cwd: this.#directory, stdio: 'ignore', timeout: limitMs, killSignal: 'SIGKILL' },
    );
    if (signal !== null) {
      return { type: 'failed', firstFailure: `no end within ${(limitMs / 1000).toFixed(0)} s` };
    }
    return toTestRun(reportSchema.parse(JSON.parse(readFileSync(report, 'utf8'))));
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function toTestRun({ numPassedTests, testResults }: z.infer<typeof reportSchema>): TestRun {
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failure = tests.find(({ status }) => status === 'failed');
  if (failure !== undefined) return { type: 'failed', firstFailure: failure.fullName };
  const unloaded = testResults.find(({ assertionResults }) => assertionResults.length === 0);
  if (unloaded !== undefined) return { type: 'invalid', message: unloaded.message };
  if (numPassedTests === 0) return { type: 'invalid', message: 'no test ran' };
  return { type: 'passed', numTests: numPassedTests };
}
